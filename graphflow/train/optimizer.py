"""`tf.train.Optimizer`: gradients of a loss, and one block of writes per variable that applies them.

A new optimizer gives `_create_slots`, `_prepare` (tensors shared by all variables) and `_update`, its formula element by
element, once: `at` says what it works on, the whole of a variable (`Whole`) or the rows that an IndexedSlices names (`Rows`).
Optimizers that users wrote for TF1 override `_apply_dense`, `_apply_sparse` and their kin instead.
"""
from __future__ import annotations

from typing import Any, Callable, Iterable

from .. import control_flow_ops, graph, math_ops, types
from ..graph import GraphKeys, Operation, Tensor
from ..ops import indexing, scatter_state, sparse_rows, state
from ..ops.gradients import gradients
from ..ops.indexed_slices import IndexedSlices
from ..ops.opdef import convert_to_tensor
from ..partitioned_variables import SaveSliceInfo
from ..variables import Variable

DIFFERENTIABLE = ("float16", "bfloat16", "float32", "float64", "complex64", "complex128")


def make_slot(primary: Any, value: Any, name: str) -> Variable:
    """A variable "<primary>/<name>" (made unique) that is not trained and starts from `value`, a tensor or a function of none."""
    from ..variable_scope import get_variable_scope

    g = primary.graph
    scope = get_variable_scope().name
    full = f"{scope}/{primary.op.name}/{name}" if scope else f"{primary.op.name}/{name}"
    with g.as_default(), g.name_scope(None), g.control_dependencies(None):
        made = Variable(value, trainable=False, name=full)
    info = getattr(primary, "_save_slice_info", None)
    if info is not None and made.shape == primary.shape:  # the slots of a variable in parts are parts too
        own = made.op.name[len(full) - len(name):]
        made._set_save_slice_info(SaveSliceInfo(f"{info.full_name}/{own}", info.full_shape, info.var_offset, info.var_shape))
    return made


def start_of(var: Any, value: float = 0.0) -> Callable[[], Tensor]:
    """What makes an initial value filled with `value`, of the shape and dtype of `var`."""
    from .. import array_ops

    return lambda: array_ops.fill(var.shape.as_list(), convert_to_tensor(value, var.dtype.base_dtype))


class Whole:
    """A formula's place: all of a variable."""

    def read(self, v: Any) -> Tensor:
        return v.value()

    def write(self, v: Any, new: Tensor) -> Tensor:
        return state.assign(v, new)

    def subtract(self, v: Any, delta: Tensor) -> Tensor:
        return state.assign_sub(v, delta)


class Rows(Whole):
    """A formula's place: the rows `indices` of a variable.  Equal indices must come with equal rows."""

    def __init__(self, indices: Tensor):
        self.indices = indices

    def read(self, v: Any) -> Tensor:
        return indexing.gather(v.value(), self.indices, axis=0, batch_dims=0)

    def write(self, v: Any, new: Tensor) -> Tensor:
        return scatter_state.scatter_update(v, self.indices, new)

    def subtract(self, v: Any, delta: Tensor) -> Tensor:
        return self.write(v, self.read(v) - delta)


class TensorOf:
    """A hyperparameter as a tensor, made when it is asked for: `_lr_t` and its kin, for subclasses written for TF1."""

    def __init__(self, attribute: str):
        self.attribute = attribute

    def __get__(self, optimizer: Any, kind: Any = None) -> Any:
        return self if optimizer is None else convert_to_tensor(hyper(getattr(optimizer, self.attribute)))


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
        self._slots: dict[str, dict[Any, Variable]] = {}
        self._non_slot_dict: dict[tuple[str, Any], Variable] = {}

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
        self._assert_valid_dtypes([x for pair in used for x in pair])
        with g.as_default():
            with g.control_dependencies(None):  # initial values wait for nothing, or the initializer would need the step's feeds
                self._create_slots([v for _, v in used])
            with g.name_scope(name or self._name) as scope:
                self._prepare()
                return self._updates(used, global_step, scope)

    def _updates(self, pairs: list[tuple[Any, Any]], global_step: Any, scope: str) -> Operation:
        g = graph.get_default_graph()
        updates: list[Any] = []
        for gradient, v in pairs:
            with g.name_scope("update_" + v.op.name):
                updates += _flatten(self._updated(gradient, v))
        if global_step is None:
            done = self._finish(updates, scope)
        else:
            with g.control_dependencies([self._finish(updates, "update")]):
                done = state.assign_add(global_step, 1, name=scope).op
        done = done if isinstance(done, Operation) else done.op
        if done not in g.get_collection_ref(GraphKeys.TRAIN_OP):
            g.add_to_collection(GraphKeys.TRAIN_OP, done)
        return done

    def _updated(self, gradient: Any, v: Any) -> Any:
        """The writes for one variable."""
        if isinstance(gradient, IndexedSlices):
            if v.constraint is not None:
                raise RuntimeError(f"Cannot use a constraint function on a sparse variable: the gradient of {v.name} is an IndexedSlices.")
            values = convert_to_tensor(gradient.values, v.dtype.base_dtype)
            return self._apply_sparse_duplicate_indices(IndexedSlices(values, gradient.indices, gradient.dense_shape), v)
        done = _flatten(self._apply_dense(convert_to_tensor(graph.OPERATORS["to_dense"](gradient), v.dtype.base_dtype), v))
        if v.constraint is not None:
            with graph.get_default_graph().control_dependencies(done):
                done = [*done, state.assign(v, v.constraint(state.read(v.handle)))]
        return done

    # -- state

    def get_slot(self, var: Any, name: str) -> Variable | None:
        """The slot `name` of `var`, or None."""
        return self._slots.get(name, {}).get(var)

    def get_slot_names(self) -> list[str]:
        """Names of the slots this optimizer keeps."""
        return sorted(self._slots)

    def variables(self) -> list[Variable]:
        """All variables this optimizer made in the default graph, by name."""
        g = graph.get_default_graph()
        own = [*self._non_slot_dict.values(), *[v for slots in self._slots.values() for v in slots.values()]]
        return sorted((v for v in own if v.graph is g), key=lambda v: v.op.name)

    def _slot_dict(self, slot_name: str) -> dict[Any, Variable]:
        return self._slots.setdefault(slot_name, {})

    def _make_slot(self, var: Any, slot: str, value: Any = None, op_name: str | None = None) -> Variable:
        slots = self._slot_dict(slot)
        if var not in slots:
            slots[var] = make_slot(var, start_of(var) if value is None else value, op_name or self._name)
        return slots[var]

    def _zeros_slot(self, var: Any, slot_name: str, op_name: str) -> Variable:
        return self._make_slot(var, slot_name, None, op_name)

    def _get_or_make_slot(self, var: Any, val: Any, slot_name: str, op_name: str) -> Variable:
        return self._make_slot(var, slot_name, val, op_name)

    def _get_or_make_slot_with_initializer(self, var: Any, initializer: Any, shape: Any, dtype: Any, slot_name: str,
                                           op_name: str) -> Variable:
        return self._make_slot(var, slot_name, lambda: initializer(shape, dtype=dtype), op_name)

    def _create_non_slot_variable(self, initial_value: Any, name: str, colocate_with: Any) -> Variable:
        """A variable kept once per graph, such as Adam's beta1_power."""
        key = name, colocate_with.graph
        if key not in self._non_slot_dict:
            with colocate_with.graph.control_dependencies(None):
                self._non_slot_dict[key] = Variable(initial_value, trainable=False, name=name)
        return self._non_slot_dict[key]

    def _get_non_slot_variable(self, name: str, graph: Any = None) -> Any:
        return self._non_slot_dict.get((name, graph if graph is not None else _default_graph()))

    def _non_slot_variables(self) -> Any:
        return self._non_slot_dict.values()

    def _call_if_callable(self, param: Any) -> Any:
        return hyper(param)

    def _valid_dtypes(self) -> set[Any]:
        """The dtypes that gradients and variables may have."""
        return {types.as_dtype(name) for name in DIFFERENTIABLE}

    def _assert_valid_dtypes(self, tensors: Iterable[Any]) -> None:
        valid = self._valid_dtypes()
        for t in tensors:
            dtype = t.dtype.base_dtype if hasattr(t, "dtype") and hasattr(t.dtype, "base_dtype") else None
            if dtype is not None and dtype not in valid:
                raise ValueError(f"Invalid type {dtype!r} for {t.name}, expected: {sorted(d.name for d in valid)}.")

    # -- what an optimizer defines

    def _create_slots(self, var_list: list[Any]) -> None:
        """Makes the slots of `var_list`, at the root of names."""

    def _prepare(self) -> None:
        """Makes the tensors that all updates share."""

    def _update(self, gradient: Tensor, var: Any, at: Whole) -> Any:
        """The writes that apply a gradient to `var` and its slots at the place `at`."""
        raise NotImplementedError(f"{type(self).__name__} defines no update")

    def _apply_dense(self, grad: Tensor, var: Any) -> Any:
        """What applies a dense gradient: operations or tensors."""
        if type(self)._resource_apply_dense is not Optimizer._resource_apply_dense:
            return self._resource_apply_dense(grad, var)
        return self._update(grad, var, Whole())

    def _resource_apply_dense(self, grad: Tensor, handle: Any) -> Any:
        return self._update(grad, handle, Whole())

    def _apply_sparse_duplicate_indices(self, grad: IndexedSlices, var: Any) -> Any:
        """What applies IndexedSlices, in which an index may stand several times: its rows add up before the update."""
        kind = type(self)
        if kind._apply_sparse is Optimizer._apply_sparse and kind._resource_apply_sparse is Optimizer._resource_apply_sparse:
            return self._apply_sparse(grad, var)
        summed, unique = _deduplicate_indexed_slices(grad.values, grad.indices)
        return self._apply_sparse(IndexedSlices(summed, unique, grad.dense_shape), var)

    def _apply_sparse(self, grad: IndexedSlices, var: Any) -> Any:
        """What applies IndexedSlices; indices do not repeat."""
        if type(self)._resource_apply_sparse is not Optimizer._resource_apply_sparse:
            return self._resource_apply_sparse(grad.values, var, grad.indices)
        return self._update_rows(grad.values, grad.indices, var)

    def _resource_apply_sparse(self, grad: Tensor, handle: Any, indices: Tensor) -> Any:
        return self._update_rows(grad, indices, handle)

    def _update_rows(self, values: Tensor, indices: Tensor, var: Any) -> Any:
        """The writes for rows `values` at `indices`, which may repeat: the formula, on the rows they name."""
        sums, _ = sparse_rows.summed_rows(values, indices, var.shape.as_list()[0])
        return self._update(sums, var, Rows(indices))

    def _finish(self, update_ops: list[Any], name_scope: str) -> Any:
        """The operation that ends the step: all updates, and writes that follow them."""
        return control_flow_ops.group(*update_ops, name=name_scope)


def _default_graph() -> Any:
    return graph.get_default_graph()


def _deduplicate_indexed_slices(values: Tensor, indices: Tensor) -> tuple[Tensor, Tensor]:
    """(sums, indices) in which every index stands once, in the order of first appearance."""
    from .. import array_ops

    unique, place = array_ops.unique(indices)
    return indexing.unsorted_segment_sum(values, place, array_ops.size(unique)), unique


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
