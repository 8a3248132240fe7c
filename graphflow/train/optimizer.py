"""`tf.train.Optimizer`: gradients of a loss, and one block of writes per variable that applies them.

A new optimizer gives `_slots` (names of per-variable state), `_prepare` (tensors shared by all variables) and `_apply`
(the formula, as assignments in program order); everything else is here.
"""
from __future__ import annotations

from typing import Any, Callable, Iterable

from .. import control_flow_ops, graph, math_ops
from ..graph import GraphKeys, Operation, Tensor
from ..ops import state
from ..ops.gradients import gradients
from ..ops.opdef import convert_to_tensor
from ..variables import Variable

DIFFERENTIABLE = ("float16", "bfloat16", "float32", "float64", "complex64", "complex128")


def make_slot(primary: Any, value: Any, name: str) -> Variable:
    """A variable "<primary>/<name>" (made unique) that is not trained and starts from `value`, a tensor or a function of none."""
    from ..variable_scope import get_variable_scope

    g = primary.graph
    scope = get_variable_scope().name
    full = f"{scope}/{primary.op.name}/{name}" if scope else f"{primary.op.name}/{name}"
    with g.as_default(), g.name_scope(None), g.control_dependencies(None):
        return Variable(value, trainable=False, name=full)


def start_of(var: Any, value: float = 0.0) -> Callable[[], Tensor]:
    """What makes an initial value filled with `value`, of the shape and dtype of `var`."""
    from .. import array_ops

    return lambda: array_ops.fill(var.shape.as_list(), convert_to_tensor(value, var.dtype.base_dtype))


class Optimizer:
    """Base class of the optimizers.

    Args:
        use_locking: accepted; writes happen in program order.
        name: name of the op that applies the gradients, and of the slots.
    """

    GATE_NONE, GATE_OP, GATE_GRAPH = 0, 1, 2

    def __init__(self, use_locking: bool, name: str):
        if not name:
            raise ValueError("Must specify the optimizer name")
        self._use_locking, self._name = use_locking, name
        self._slot_variables: dict[str, dict[Any, Variable]] = {}
        self._shared: dict[tuple[Any, str], Variable] = {}

    def get_name(self) -> str:
        return self._name

    # -- what users call

    def minimize(self, loss: Any, global_step: Any = None, var_list: Any = None, gate_gradients: int = GATE_OP,
                 aggregation_method: Any = None,
                 colocate_gradients_with_ops: bool = False, name: str | None = None, grad_loss: Any = None) -> Operation:
        """An operation that moves the variables against the gradient of `loss`, then adds 1 to `global_step`.

        Args:
            var_list: variables to train; the collection TRAINABLE_VARIABLES by default.
            grad_loss: the gradient of the loss itself, instead of ones.

        Raises:
            ValueError: no variables, or the loss depends on none of them.
        """
        pairs = self.compute_gradients(loss, var_list, gate_gradients, aggregation_method, colocate_gradients_with_ops, grad_loss)
        if not any(g is not None for g, _ in pairs):
            raise ValueError("No gradients provided for any variable, check your graph for ops that do not support gradients, "
                             f"between variables {[str(v.name) for _, v in pairs]} and loss {loss!r}.")
        return self.apply_gradients(pairs, global_step, name)

    def compute_gradients(self, loss: Any, var_list: Any = None, gate_gradients: int = GATE_OP, aggregation_method: Any = None,
                          colocate_gradients_with_ops: bool = False, grad_loss: Any = None) -> list[tuple[Any, Any]]:
        """(gradient or None, variable) for each variable.

        Raises:
            ValueError: no variables; a bad `gate_gradients`; a loss that is not a float.
        """
        if gate_gradients not in (self.GATE_NONE, self.GATE_OP, self.GATE_GRAPH):
            raise ValueError("gate_gradients must be one of: Optimizer.GATE_NONE, Optimizer.GATE_OP, Optimizer.GATE_GRAPH.  Not "
                             f"{gate_gradients}")
        loss = loss() if callable(loss) and not hasattr(loss, "dtype") else convert_to_tensor(loss)
        if loss.dtype.name not in DIFFERENTIABLE:
            raise ValueError(f"Invalid type {loss.dtype.name!r} for {loss.name}, expected: {list(DIFFERENTIABLE)}.")
        if var_list is None:
            g = loss.graph
            var_list = g.get_collection(GraphKeys.TRAINABLE_VARIABLES)
        variables = list(dict.fromkeys(_flatten(var_list)))
        if not variables:
            raise ValueError("No variables to optimize.")
        for v in variables:
            if getattr(v, "handle", None) is None:
                raise TypeError(f"Argument is not a tf.Variable: {v!r}")
        return list(zip(gradients(loss, variables, grad_ys=grad_loss, aggregation_method=aggregation_method), variables))

    def apply_gradients(self, grads_and_vars: Iterable[tuple[Any, Any]], global_step: Any = None, name: str | None = None) -> Operation:
        """The operation that applies gradients; pairs whose gradient is None are skipped.

        Raises:
            ValueError: no pairs, or no gradient among them.  TypeError: a pair holds something else.
        """
        pairs = [tuple(p) for p in grads_and_vars]
        if not pairs:
            raise ValueError("No variables provided.")
        for gradient, v in pairs:
            if getattr(v, "handle", None) is None:
                raise TypeError(f"Variable to update is not a tf.Variable: {v!r}")
            if gradient is not None and not hasattr(gradient, "dtype") and not hasattr(gradient, "indices"):
                convert_to_tensor(gradient)
        used = [(d, v) for d, v in pairs if d is not None]
        if not used:
            raise ValueError(f"No gradients provided for any variable: {[str(v.name) for _, v in pairs]}.")
        g = used[0][1].graph
        with g.as_default():
            with g.control_dependencies(None):  # initial values wait for nothing, or the initializer would need the step's feeds
                self._create_slots([v for _, v in used])
            with g.name_scope(name or self._name) as scope:
                self._prepare()
                return self._updates(used, global_step, scope)

    def _updates(self, pairs: list[tuple[Any, Any]], global_step: Any, scope: str) -> Operation:
        g = graph.get_default_graph()
        updates = []
        for gradient, v in pairs:
            with g.name_scope("update_" + v.op.name):
                dense = convert_to_tensor(graph.OPERATORS["to_dense"](gradient), v.dtype.base_dtype)
                updates += self._apply(dense, v)
                if v.constraint is not None:
                    updates.append(state.assign(v, v.constraint(state.read(v.handle))))
        updates += self._finish()
        if global_step is None:
            done = control_flow_ops.group(*updates, name=scope)
        else:
            with g.control_dependencies([u.op for u in updates]):
                done = state.assign_add(global_step, 1, name=scope).op
        if done not in g.get_collection_ref(GraphKeys.TRAIN_OP):
            g.add_to_collection(GraphKeys.TRAIN_OP, done)
        return done

    # -- state

    def get_slot(self, var: Any, name: str) -> Variable | None:
        """The slot `name` of `var`, or None."""
        return self._slot_variables.get(name, {}).get(var)

    def get_slot_names(self) -> list[str]:
        """Names of the slots this optimizer keeps."""
        return sorted(self._slot_variables)

    def variables(self) -> list[Variable]:
        """All variables this optimizer made in the default graph, by name."""
        g = graph.get_default_graph()
        own = [v for (_, _), v in self._shared.items()] + [v for slots in self._slot_variables.values() for v in slots.values()]
        return sorted((v for v in own if v.graph is g), key=lambda v: v.op.name)

    def _make_slot(self, var: Any, slot: str, value: Any = None, op_name: str | None = None) -> Variable:
        slots = self._slot_variables.setdefault(slot, {})
        if var not in slots:
            slots[var] = make_slot(var, start_of(var) if value is None else value, op_name or self._name)
        return slots[var]

    def _zeros_slot(self, var: Any, slot_name: str, op_name: str) -> Variable:
        return self._make_slot(var, slot_name, None, op_name)

    def _get_or_make_slot(self, var: Any, val: Any, slot_name: str, op_name: str) -> Variable:
        return self._make_slot(var, slot_name, val, op_name)

    def _make_shared(self, value: Any, name: str, like: Any) -> Variable:
        """A scalar kept once per graph, such as Adam's beta1_power."""
        key = like.graph, name
        if key not in self._shared:
            with like.graph.control_dependencies(None):
                self._shared[key] = Variable(value, trainable=False, name=name)
        return self._shared[key]

    def _get_shared(self, name: str) -> Variable:
        return self._shared[graph.get_default_graph(), name]

    # -- what an optimizer defines

    def _create_slots(self, var_list: list[Any]) -> None:
        """Makes the slots of `var_list`, at the root of names."""

    def _prepare(self) -> None:
        """Makes the tensors that all updates share."""

    def _apply(self, gradient: Tensor, var: Any) -> list[Tensor]:
        """The writes that apply a dense gradient to `var` and its slots."""
        return [convert_to_tensor(t) if not isinstance(t, Operation) else t for t in _flatten(self._apply_dense(gradient, var))]

    def _apply_dense(self, grad: Tensor, var: Any) -> Any:
        """TF1's hook for optimizers written by users."""
        raise NotImplementedError(f"{type(self).__name__} defines no update")

    def _finish(self) -> list[Tensor]:
        """Writes that follow all updates."""
        return []


def _flatten(items: Any) -> list[Any]:
    if isinstance(items, (list, tuple)):
        return [x for i in items for x in _flatten(i)]
    return [items]


def hyper(value: Any) -> Any:
    """A learning rate or another number: what a function returns, or the value."""
    return value() if callable(value) and not hasattr(value, "dtype") else value


def as_type(value: Any, like: Any) -> Any:
    """A number as it is, a tensor cast to the dtype of `like`."""
    value = hyper(value)
    if isinstance(value, (int, float)):
        return convert_to_tensor(float(value), like.dtype.base_dtype)
    value = convert_to_tensor(value)
    return value if value.dtype is like.dtype.base_dtype else math_ops.cast(value, like.dtype.base_dtype)
