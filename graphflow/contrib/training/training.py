"""From a loss to a training operation, and the loop around it."""
from __future__ import annotations

from typing import Any, Callable

from ... import clip_ops, graph
from ...check_ops import check_numerics
from ...control_flow_ops import no_op, with_dependencies
from ...graph import GraphKeys, Tensor
from ...ops.indexed_slices import IndexedSlices
from ...ops.opdef import convert_to_tensor
from ...platform import logging
from ...train import MonitoredTrainingSession, Optimizer, get_or_create_global_step
from ...variables import trainable_variables

__all__ = ["add_gradients_summaries", "clip_gradient_norms", "clip_gradient_norms_fn", "create_train_op", "multiply_gradients", "train"]

Pairs = list[tuple[Any, Any]]
_USE_GLOBAL_STEP = 0


def _of_values(gradient: Any, f: Callable[[Tensor], Tensor]) -> Any:
    """`f` of a gradient, or of the rows of an IndexedSlices."""
    if isinstance(gradient, IndexedSlices):
        return IndexedSlices(f(convert_to_tensor(gradient.values)), gradient.indices, gradient.dense_shape)
    return f(gradient)


def add_gradients_summaries(grads_and_vars: Any) -> list[Any]:
    """A histogram of each gradient and a scalar of its norm."""
    from ... import summary

    found = []
    for gradient, v in grads_and_vars:
        if gradient is None:
            logging.info("Var %s has no gradient", v.op.name)
            continue
        values = gradient.values if isinstance(gradient, IndexedSlices) else gradient
        found += [summary.histogram(f"{v.op.name}_gradient", values),
                  summary.scalar(f"{v.op.name}_gradient_norm", clip_ops.global_norm([values]))]
    return found


def clip_gradient_norms(gradients_to_variables: Any, max_norm: Any) -> Pairs:
    """The pairs, each gradient shortened to a norm of at most `max_norm`."""
    return [(None if g is None else _of_values(g, lambda x: clip_ops.clip_by_norm(x, max_norm)), v) for g, v in gradients_to_variables]


def clip_gradient_norms_fn(max_norm: Any) -> Callable[[Any], Pairs]:
    """`clip_gradient_norms` as a `transform_grads_fn`."""
    return lambda gradients_to_variables: clip_gradient_norms(gradients_to_variables, max_norm)


def multiply_gradients(grads_and_vars: Any, gradient_multipliers: dict[Any, Any]) -> Pairs:
    """The pairs, gradients times {variable or the name of its op: factor}.

    Raises:
        ValueError: no list, no dict or an empty one, or a factor for a gradient that is None.
    """
    if not isinstance(grads_and_vars, list):
        raise ValueError("`grads_and_vars` must be a list.")
    if not gradient_multipliers:
        raise ValueError("`gradient_multipliers` is empty.")
    if not isinstance(gradient_multipliers, dict):
        raise ValueError("`gradient_multipliers` must be a dict.")
    found = []
    for gradient, v in grads_and_vars:
        factor = gradient_multipliers.get(v, gradient_multipliers.get(v.op.name))
        if factor is not None and gradient is None:
            raise ValueError(f"Requested multiple of `None` gradient: that of {v.op.name}.")
        found.append((gradient if factor is None else
                      _of_values(gradient, lambda x, factor=factor: x * convert_to_tensor(factor, x.dtype)), v))  # type: ignore[misc]
    return found


def create_train_op(total_loss: Any, optimizer: Optimizer, global_step: Any = _USE_GLOBAL_STEP, update_ops: Any = None,
                    variables_to_train: Any = None, transform_grads_fn: Callable[[Pairs], Pairs] | None = None,
                    summarize_gradients: bool = False, gate_gradients: int = Optimizer.GATE_OP, aggregation_method: Any = None,
                    colocate_gradients_with_ops: bool = False, check_numerics: bool = True) -> Tensor:
    """The loss as a tensor that, when it runs, also takes a step of the optimizer.

    Args:
        global_step: counted; the graph's own (made if needed) by default, None for none.
        update_ops: operations to run before the loss; those of UPDATE_OPS by default.
        variables_to_train: TRAINABLE_VARIABLES by default.
        transform_grads_fn: from pairs (gradient, variable) to such pairs.
        summarize_gradients: write summaries of them.
        check_numerics: raise InvalidArgumentError when the loss is not finite.

    Raises:
        ValueError: nothing to train.
    """
    g = graph.get_default_graph()
    if global_step is _USE_GLOBAL_STEP:
        global_step = get_or_create_global_step()
    own = g.get_collection(GraphKeys.UPDATE_OPS)
    updates = own if update_ops is None else list(update_ops)
    if not set(own) <= set(updates):
        logging.warning("update_ops in create_train_op does not contain all the update_ops in GraphKeys.UPDATE_OPS")
    if updates:
        with g.control_dependencies(list(dict.fromkeys(updates))):
            barrier = no_op(name="update_barrier")
        total_loss = with_dependencies([barrier], total_loss)
    variables = trainable_variables() if variables_to_train is None else list(variables_to_train)
    if not variables:
        raise ValueError("No variables to train.")
    pairs = optimizer.compute_gradients(total_loss, variables, gate_gradients=gate_gradients, aggregation_method=aggregation_method,
                                        colocate_gradients_with_ops=colocate_gradients_with_ops)
    if transform_grads_fn:
        pairs = transform_grads_fn(pairs)
    if summarize_gradients:
        with g.name_scope("summarize_grads"):
            add_gradients_summaries(pairs)
    step = optimizer.apply_gradients(pairs, global_step=global_step)
    with g.name_scope("train_op"):
        loss = _checked(total_loss) if check_numerics else total_loss
        train_op = with_dependencies([step], loss)
    train_ops = g.get_collection_ref(GraphKeys.TRAIN_OP)
    if train_op not in train_ops:
        train_ops.append(train_op)
    return train_op


def _checked(loss: Any) -> Tensor:
    return check_numerics(loss, "LossTensor is inf or nan")


def train(train_op: Any, logdir: str | None, master: str = "", is_chief: bool = True, scaffold: Any = None, hooks: Any = None,
          chief_only_hooks: Any = None, save_checkpoint_secs: int | None = 600, save_summaries_steps: int | None = 100,
          config: Any = None, max_wait_secs: int = 7200, run_metadata: Any = None) -> Any:
    """Runs `train_op` in a `tf.train.MonitoredTrainingSession` until a hook stops it; returns its last value.

    Raises:
        ValueError: `logdir` is None and checkpoints or summaries are wanted.
    """
    if logdir is None and is_chief:
        for name, value in (("save_summaries_steps", save_summaries_steps), ("save_checkpoint_secs", save_checkpoint_secs)):
            if value:
                raise ValueError(f"logdir cannot be None when {name} is not None")
    loss = None
    with MonitoredTrainingSession(master=master, is_chief=is_chief, checkpoint_dir=logdir, scaffold=scaffold, hooks=hooks,
                                  chief_only_hooks=chief_only_hooks, save_checkpoint_secs=save_checkpoint_secs,
                                  save_summaries_steps=save_summaries_steps, config=config, max_wait_secs=max_wait_secs) as session:
        while not session.should_stop():
            loss = session.run(train_op, run_metadata=run_metadata)
    return loss
