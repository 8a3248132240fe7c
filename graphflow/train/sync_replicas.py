"""`SyncReplicasOptimizer` on one process: gradients of several runs are averaged, and applied once."""
from __future__ import annotations

from typing import Any

from .. import array_ops, control_flow_ops, graph, types, variables
from ..graph import GraphKeys, Operation
from ..ops import state
from ..ops.opdef import convert_to_tensor
from ..platform import logging
from . import session_manager
from .optimizer import Optimizer
from .session_run_hook import SessionRunHook


class SyncReplicasOptimizer(Optimizer):
    """Wraps an optimizer: `replicas_to_aggregate` runs of the training op give one update, by the mean of their gradients.

    The runs may come one after the other or from threads of this process; none waits for the others.  The global step counts
    updates.

    Args:
        opt: the optimizer that applies the mean.
        replicas_to_aggregate: how many runs make one update.
        total_num_replicas: how many workers there are; `replicas_to_aggregate` by default.
        variable_averages, variables_to_average: an ExponentialMovingAverage that is updated with each update.
    """

    def __init__(self, opt: Optimizer, replicas_to_aggregate: int, total_num_replicas: int | None = None, variable_averages: Any = None,
                 variables_to_average: Any = None, use_locking: bool = False, name: str = "sync_replicas"):
        super().__init__(use_locking, name)
        total = replicas_to_aggregate if total_num_replicas is None else total_num_replicas
        logging.info("SyncReplicasV2: replicas_to_aggregate=%s; total_num_replicas=%s", replicas_to_aggregate, total)
        self._opt, self._replicas_to_aggregate, self._total_num_replicas = opt, replicas_to_aggregate, total
        self._variable_averages, self._variables_to_average = variable_averages, variables_to_average
        self._gradients_applied = False
        self._sums: list[Any] = []

    def compute_gradients(self, *args: Any, **kwargs: Any) -> list[tuple[Any, Any]]:
        return self._opt.compute_gradients(*args, **kwargs)

    def apply_gradients(self, grads_and_vars: Any, global_step: Any = None, name: str | None = None) -> Operation:
        """Adds gradients, and applies their mean when there are enough.

        Raises:
            ValueError: no pairs, or no `global_step`.
        """
        pairs = [tuple(p) for p in grads_and_vars or ()]
        if not pairs:
            raise ValueError("Must supply at least one variable")
        if global_step is None:
            raise ValueError("Global step is required to check staleness")
        g = graph.get_default_graph()
        dtype = global_step.dtype.base_dtype
        local = [GraphKeys.LOCAL_VARIABLES]
        with g.control_dependencies(None):
            self._local_step = variables.Variable(convert_to_tensor(0, dtype), trainable=False, collections=local,
                                                  name="sync_rep_local_step")
            self.local_step_init_op = state.assign(self._local_step, global_step).op
            self.ready_for_local_init_op = variables.report_uninitialized_variables(variables.global_variables())
        if self._replicas_to_aggregate <= 1:
            update = self._updated(pairs, global_step)
        else:
            update = self._gathered([(d, v) for d, v in pairs if d is not None], global_step, local)
        with g.control_dependencies([update]), g.name_scope(name or self._name):
            train = state.assign(self._local_step, state.read(state.handle_of(global_step), name="token")).op
        with g.control_dependencies(None):
            self.chief_init_op = control_flow_ops.group(self.local_step_init_op, *[s.initializer for s in self._sums], name="chief_init")
        self._gradients_applied = True
        return train

    def _updated(self, pairs: Any, global_step: Any) -> Operation:
        done = self._opt.apply_gradients(pairs, global_step)
        if self._variable_averages is not None:
            with graph.get_default_graph().control_dependencies([done]):
                done = self._variable_averages.apply(self._variables_to_average)
        return done

    def _gathered(self, pairs: list[tuple[Any, Any]], global_step: Any, local: list[str]) -> Operation:
        """Sums in local variables; the run that completes them applies their mean and clears them."""
        g = graph.get_default_graph()
        with g.control_dependencies(None):
            sums = [variables.Variable(array_ops.zeros(v.shape.as_list(), v.dtype.base_dtype), trainable=False, collections=local,
                                       name=f"{v.op.name}/grad_accum") for _, v in pairs]
            count = variables.Variable(convert_to_tensor(0, types.int32), trainable=False, collections=local, name="grad_count")
            self._opt._create_slots([v for _, v in pairs])
        self._sums = [*sums, count]
        with g.name_scope(self._name):
            added = [state.assign_add(s, graph.OPERATORS["to_dense"](d)) for s, (d, _) in zip(sums, pairs)]
            with g.control_dependencies(added):
                full = state.assign_add(count, convert_to_tensor(1, types.int32)) >= self._replicas_to_aggregate

            def update() -> Any:
                means = [s.value() / float(self._replicas_to_aggregate) for s in sums]
                with g.control_dependencies([self._updated([(m, v) for m, (_, v) in zip(means, pairs)], global_step)]):
                    cleared = [state.assign(s, array_ops.zeros_like(s)) for s in self._sums]
                with g.control_dependencies(cleared):
                    return array_ops.constant(True)

            return control_flow_ops.cond(full, update, lambda: array_ops.constant(False)).op

    def get_chief_queue_runner(self) -> Any:
        """What `start_queue_runners` takes: it has no threads, since runs do the work themselves.

        Raises:
            ValueError: before `apply_gradients`.
        """
        if not self._gradients_applied:
            raise ValueError("Should be called after apply_gradients().")
        return _NoThreads()

    def get_init_tokens_op(self, num_tokens: int = -1) -> Operation:
        """An operation that does nothing: no run waits for a token.

        Raises:
            ValueError: before `apply_gradients`; fewer tokens than the first update needs.
        """
        if not self._gradients_applied:
            raise ValueError("get_init_tokens_op() should be called after apply_gradients().")
        needed = self._replicas_to_aggregate - self._total_num_replicas
        if num_tokens != -1 and num_tokens < needed:
            raise ValueError(f"Too few tokens to finish the first step: {num_tokens} (given) vs {needed} (needed)")
        return control_flow_ops.no_op(name="no_init_tokens")

    def get_slot(self, *args: Any, **kwargs: Any) -> Any:
        return self._opt.get_slot(*args, **kwargs)

    def get_slot_names(self, *args: Any, **kwargs: Any) -> list[str]:
        return self._opt.get_slot_names(*args, **kwargs)

    def variables(self) -> list[Any]:
        return self._opt.variables()

    def make_session_run_hook(self, is_chief: bool, num_tokens: int = -1) -> SessionRunHook:
        """The hook that a monitored session needs."""
        return _SyncHook(self, is_chief, num_tokens)


class _NoThreads:
    """A queue runner without a queue."""

    name = "sync_token_q"
    queue_closed_exception_types = ()
    exceptions_raised: tuple[Any, ...] = ()

    def create_threads(self, sess: Any, coord: Any = None, daemon: bool = False, start: bool = False) -> list[Any]:
        return []


class _SyncHook(SessionRunHook):
    """Initializes the local step, and of the chief the sums."""

    def __init__(self, optimizer: SyncReplicasOptimizer, is_chief: bool, num_tokens: int):
        self._optimizer, self._is_chief, self._num_tokens = optimizer, is_chief, num_tokens

    def begin(self) -> None:
        if not self._optimizer._gradients_applied:
            raise ValueError("SyncReplicasOptimizer.apply_gradient should be called before using the hook.")
        self._init = self._optimizer.chief_init_op if self._is_chief else self._optimizer.local_step_init_op
        if self._is_chief:
            self._optimizer.get_init_tokens_op(self._num_tokens)

    def after_create_session(self, session: Any, coord: Any) -> None:
        why = session_manager._missing(self._optimizer.ready_for_local_init_op, session, "Model is not ready for SyncReplicasOptimizer")
        if why:
            raise RuntimeError("Init operations did not make model ready for SyncReplicasOptimizer local_init. Init op: "
                               f"{self._init.name}, error: {why}")
        session.run(self._init)
