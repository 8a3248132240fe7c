"""`tf.Variable` and the collections of variables.  Written on the ops of ops/state.py."""
from __future__ import annotations

from typing import Any, Iterable, Sequence

import numpy as np

from . import errors, graph, types
from .control_flow_ops import group
from .graph import GraphKeys, Operation, Operators, Tensor
from .ops import opdef, state
from .ops.opdef import primitive

__all__ = ["Variable", "VariableSynchronization", "VariableAggregation", "global_variables", "local_variables", "trainable_variables",
           "model_variables", "moving_average_variables", "all_variables", "variables_initializer", "initialize_variables",
           "global_variables_initializer", "initialize_all_variables", "local_variables_initializer", "initialize_local_variables",
           "tables_initializer", "is_variable_initialized", "report_uninitialized_variables", "assert_variables_initialized"]


class VariableSynchronization:
    """Accepted by `get_variable`; there is one replica here."""

    AUTO, NONE, ON_WRITE, ON_READ = range(4)


class VariableAggregation:
    """Accepted by `get_variable`; there is one replica here."""

    NONE, SUM, MEAN, ONLY_FIRST_REPLICA = range(4)


class Variable(Operators):
    """A value that lives in a Session between runs.

    Args:
        initial_value: tensor, array, number, or a function returning one; gives dtype and shape.
        trainable: also put it into TRAINABLE_VARIABLES.
        collections: collections to join instead of GLOBAL_VARIABLES.
        validate_shape: False allows an initial value of unknown shape, and lets assignments change the shape.
        caching_device, use_resource, synchronization, aggregation: accepted; they change nothing here.
        name, dtype: as usual; dtype converts `initial_value`.
        expected_shape, shape: the shape, when the initial value's is less known.
        constraint: a function that optimizers apply to the value after each update.

    Raises:
        ValueError: no initial value, or one of unknown shape while `validate_shape`; a `constraint` that is no function.
    """

    __slots__ = ("handle", "_initial", "initializer", "_trainable", "constraint", "_save_slice_info", "__weakref__", "__dict__")

    def __init__(self, initial_value: Any = None, trainable: bool | None = None, collections: Any = None, validate_shape: bool = True,
                 caching_device: Any = None, name: str | None = None, variable_def: Any = None, dtype: Any = None,
                 expected_shape: Any = None, import_scope: str | None = None, constraint: Any = None, use_resource: bool | None = None,
                 synchronization: Any = None, aggregation: Any = None, shape: Any = None):
        if initial_value is None:
            raise ValueError("initial_value must be specified.")
        if constraint is not None and not callable(constraint):
            raise ValueError("The `constraint` argument must be a callable.")
        if collections is not None and (isinstance(collections, str) or not isinstance(collections, Iterable)):
            raise ValueError(f"collections argument to Variable constructor must be a list, tuple, or set. Got {collections!r} of type "
                             f"{type(collections).__name__}")
        g = graph.get_default_graph()
        with g.inside(None), g.name_scope(name or "Variable") as scope:
            self._initial = _initial_tensor(g, scope, initial_value, dtype)
            sizes = self._sizes(shape if shape is not None else expected_shape, validate_shape)
            self.handle: Tensor = state.variable_handle(dtype=self._initial.dtype, shape=sizes, name=scope)
            self.initializer: Operation = state.assign(self.handle, self._initial, validate_shape=validate_shape, name="Assign").op
            state.read(self.handle)
        self._trainable, self.constraint = trainable is not False, constraint
        self._save_slice_info: Any = None
        wanted = [GraphKeys.GLOBAL_VARIABLES] if collections is None else list(collections)
        if self._trainable and GraphKeys.TRAINABLE_VARIABLES not in wanted:
            wanted.append(GraphKeys.TRAINABLE_VARIABLES)
        g.add_to_collections(wanted, self)

    def _sizes(self, shape: Any, validate: bool) -> types.Shape:
        known = self._initial.sizes if shape is None else types.merge_shapes(types.as_shape(shape), self._initial.sizes)
        if validate and not types.known(known):
            raise ValueError(f"initial_value must have a shape specified: {self._initial!r}; or pass validate_shape=False")
        return known if validate else None

    name = property(lambda self: self.handle.name)
    op = property(lambda self: self.handle.op)
    dtype = property(lambda self: self.handle.dtype)
    shape = property(lambda self: self.handle.shape)
    device = property(lambda self: self.handle.device)
    graph = property(lambda self: self.handle.graph)
    trainable = property(lambda self: self._trainable)
    initial_value = property(lambda self: self._initial)
    synchronization = VariableSynchronization.AUTO
    aggregation = VariableAggregation.NONE

    @property
    def _shared_name(self) -> str:
        return self.handle.op.name

    def get_shape(self) -> types.TensorShape:
        return self.handle.shape

    def set_shape(self, shape: Any) -> None:
        self.handle.set_shape(shape)

    # -- reading

    def value(self) -> Tensor:
        """The value at this point of the program."""
        return state.read(self.handle)

    def read_value(self) -> Tensor:
        """Like `value()`, as an op of its own."""
        return state.read_handle(self.handle,
                                 name="read_value") if not self.graph._state.name else state.read(self.handle, name="read_value")

    def initialized_value(self) -> Tensor:
        """The initial value, for use in other variables' initial values.

        TF1 chose at run time between the variable and its initial value.  Here it is the tensor the variable itself is
        initialised from, so in one run of an initializer both get the same value, random ones too, in any order.
        """
        return self._initial

    _as_tensor = value

    def _as_graph_element(self) -> Tensor:
        return self.handle

    def eval(self, session: Any = None) -> Any:
        """The variable's value in `session` or the default session."""
        return graph.OPERATORS["default_session"](self, session).run(self.handle)

    # -- writing

    def load(self, value: Any, session: Any = None) -> None:
        """Stores `value` in the session, without an op of its own.  Raises ValueError when the shape differs."""
        graph.OPERATORS["default_session"](self, session).run(self.initializer, {self.initializer.inputs[1]: value})

    def assign(self, value: Any, use_locking: bool = False, name: str | None = None, read_value: bool = True) -> Tensor:
        return state.assign(self, value, name=name)

    def assign_add(self, delta: Any, use_locking: bool = False, name: str | None = None, read_value: bool = True) -> Tensor:
        return state.assign_add(self, delta, name=name)

    def assign_sub(self, delta: Any, use_locking: bool = False, name: str | None = None, read_value: bool = True) -> Tensor:
        return state.assign_sub(self, delta, name=name)

    def _scatter(self, kind: str, slices: Any, name: str | None) -> Tensor:
        from . import state_ops

        return getattr(state_ops, f"scatter_{kind}")(self, slices.indices, slices.values, name=name)

    def scatter_add(self, sparse_delta: Any, use_locking: bool = False, name: str | None = None) -> Tensor:
        """Adds IndexedSlices to the rows they name."""
        return self._scatter("add", sparse_delta, name)

    def scatter_sub(self, sparse_delta: Any, use_locking: bool = False, name: str | None = None) -> Tensor:
        """Subtracts IndexedSlices from the rows they name."""
        return self._scatter("sub", sparse_delta, name)

    def scatter_update(self, sparse_delta: Any, use_locking: bool = False, name: str | None = None) -> Tensor:
        """Replaces the rows that IndexedSlices name."""
        return self._scatter("update", sparse_delta, name)

    def scatter_nd_add(self, indices: Any, updates: Any, name: str | None = None) -> Tensor:
        from . import state_ops

        return state_ops.scatter_nd_add(self, indices, updates, name=name)

    def scatter_nd_sub(self, indices: Any, updates: Any, name: str | None = None) -> Tensor:
        from . import state_ops

        return state_ops.scatter_nd_sub(self, indices, updates, name=name)

    def scatter_nd_update(self, indices: Any, updates: Any, name: str | None = None) -> Tensor:
        from . import state_ops

        return state_ops.scatter_nd_update(self, indices, updates, name=name)

    def scatter_mul(self, sparse_delta: Any, use_locking: bool = False, name: str | None = None) -> Tensor:
        """Multiplies the rows that IndexedSlices name."""
        return self._scatter("mul", sparse_delta, name)

    def scatter_div(self, sparse_delta: Any, use_locking: bool = False, name: str | None = None) -> Tensor:
        """Divides the rows that IndexedSlices name."""
        return self._scatter("div", sparse_delta, name)

    def scatter_max(self, sparse_delta: Any, use_locking: bool = False, name: str | None = None) -> Tensor:
        """The maximum with the rows that IndexedSlices name."""
        return self._scatter("max", sparse_delta, name)

    def scatter_min(self, sparse_delta: Any, use_locking: bool = False, name: str | None = None) -> Tensor:
        """The minimum with the rows that IndexedSlices name."""
        return self._scatter("min", sparse_delta, name)

    def batch_scatter_update(self, sparse_delta: Any, use_locking: bool = False, name: str | None = None) -> Tensor:
        """Replaces rows batch by batch; see `tf.batch_scatter_update`."""
        from .state_ops import batch_scatter_update

        return batch_scatter_update(self, sparse_delta.indices, sparse_delta.values, name=name)

    def sparse_read(self, indices: Any, name: str | None = None) -> Tensor:
        """The rows at `indices`."""
        from .array_ops import gather

        return gather(self, indices, name=name)

    def gather_nd(self, indices: Any, name: str | None = None) -> Tensor:
        """The elements or slices at `indices`; see `tf.gather_nd`."""
        from .array_ops import gather_nd

        return gather_nd(self, indices, name=name)

    def _set_save_slice_info(self, save_slice_info: Any) -> None:
        """Says which part of a whole variable this is."""
        self._save_slice_info = save_slice_info

    def _get_save_slice_info(self) -> Any:
        return self._save_slice_info

    def count_up_to(self, limit: int) -> Tensor:
        """Adds 1 and returns the value before; at `limit` raises OutOfRangeError and changes nothing."""
        from .array_ops import identity

        g = self.graph
        with g.name_scope("CountUpTo") as scope:
            before = state.read(self.handle, name="before")
            with g.control_dependencies([check_below_op(before, limit=int(limit))]):
                after = self.assign_add(opdef.constant(1, self.dtype))
            with g.control_dependencies([after]):
                return identity(before, name=scope)

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other

    def __repr__(self) -> str:
        return f"<tf.Variable '{self.name}' shape={self.shape} dtype={self.dtype.name}>"

    __str__ = __repr__


def _initial_tensor(g: graph.Graph, scope: str, value: Any, dtype: Any) -> Tensor:
    """TF1's names: `v/initial_value`, or `v/Initializer/...` for what a function builds."""
    if not callable(value):
        return opdef.convert_to_tensor(value, dtype, name="initial_value")
    with g.name_scope(scope + "Initializer/"):
        return opdef.convert_to_tensor(value(), dtype, name="initial_value")


@primitive("host", effect="host", type="CheckBelow", infer=lambda value, *, limit: [], no_gradient="it has no output")
def check_below_op(value, *, limit):
    """Raises OutOfRangeError unless `value` is below `limit`."""


@check_below_op.reference
def _(value, *, limit):
    if not value < limit:
        raise errors.OutOfRangeError(None, None, f"Reached limit of {limit}")
    return []


# ---------------------------------------------------------------- collections


def global_variables(scope: str | None = None) -> list[Any]:
    """Variables of GLOBAL_VARIABLES, those whose name matches the regular expression `scope` if it is given."""
    return graph.get_default_graph().get_collection(GraphKeys.GLOBAL_VARIABLES, scope)


all_variables = global_variables


def local_variables(scope: str | None = None) -> list[Any]:
    """Variables of LOCAL_VARIABLES: not saved, initialised by `local_variables_initializer`."""
    return graph.get_default_graph().get_collection(GraphKeys.LOCAL_VARIABLES, scope)


def model_variables(scope: str | None = None) -> list[Any]:
    """Variables of MODEL_VARIABLES."""
    return graph.get_default_graph().get_collection(GraphKeys.MODEL_VARIABLES, scope)


def trainable_variables(scope: str | None = None) -> list[Any]:
    """Variables of TRAINABLE_VARIABLES: what an optimizer changes by default."""
    return graph.get_default_graph().get_collection(GraphKeys.TRAINABLE_VARIABLES, scope)


def moving_average_variables(scope: str | None = None) -> list[Any]:
    """Variables of MOVING_AVERAGE_VARIABLES."""
    return graph.get_default_graph().get_collection(GraphKeys.MOVING_AVERAGE_VARIABLES, scope)


def variables_initializer(var_list: Sequence[Any], name: str = "init") -> Operation:
    """The operation that gives these variables their initial values.

    One that starts from another's `initialized_value()` may stand anywhere in the list.
    """
    return group(*[v.initializer for v in var_list or ()], name=name)


initialize_variables = variables_initializer


def global_variables_initializer() -> Operation:
    """The operation that gives all global variables their initial values."""
    return variables_initializer(global_variables())


initialize_all_variables = global_variables_initializer


def local_variables_initializer() -> Operation:
    """The operation that gives all local variables their initial values."""
    return variables_initializer(local_variables())


initialize_local_variables = local_variables_initializer


def tables_initializer(name: str = "init_all_tables") -> Operation:
    """The operation that fills all lookup tables (those of TABLE_INITIALIZERS)."""
    return group(*graph.get_default_graph().get_collection(GraphKeys.TABLE_INITIALIZERS), name=name)


initialize_all_tables = tables_initializer


def is_variable_initialized(variable: Any) -> Tensor:
    """A boolean tensor: whether the variable has a value in this Session."""
    return state.is_variable_initialized_op(state.handle_of(variable))


@primitive("host", type="SelectNames", infer=lambda *present, names: opdef.Spec(types.string, (types.UNKNOWN,)), dtypes=(types.bool_,),
           no_gradient="strings")
def select_names_op(*absent, names):
    """The `names` at whose place the boolean is false, as an array of bytes objects."""


@select_names_op.reference
def _(*present, names):
    return np.array([n.encode() for n, p in zip(names, present) if not p] or [], object)


def report_uninitialized_variables(var_list: Sequence[Any] | None = None, name: str = "report_uninitialized_variables") -> Tensor:
    """A string tensor with the names of the variables (global and local by default) that have no value yet."""
    found = list(global_variables() + local_variables() if var_list is None else var_list)
    with graph.get_default_graph().name_scope(name):
        return select_names_op(*[is_variable_initialized(v) for v in found], names=tuple([v.op.name for v in found]))


def assert_variables_initialized(var_list: Sequence[Any] | None = None) -> Operation | None:
    """An operation that raises FailedPreconditionError when a variable has no value; None for no variables."""
    found = list(global_variables() + local_variables() if var_list is None else var_list)
    if not found:
        return None
    return assert_initialized_op(*[is_variable_initialized(v) for v in found], names=tuple([v.op.name for v in found]),
                                 name="assert_variables_initialized")


@primitive("host", effect="host", type="AssertInitialized", infer=lambda *present, names: [], dtypes=(types.bool_,),
           no_gradient="it has no output")
def assert_initialized_op(*present, names):
    """Raises FailedPreconditionError naming the first of `names` at whose place the boolean is false."""


@assert_initialized_op.reference
def _(*present, names):
    missing = [n for n, p in zip(names, present) if not p]
    if missing:
        raise errors.FailedPreconditionError(None, None, f"Attempting to use uninitialized value {missing[0]}"
                                             + (f" (and {len(missing) - 1} more)" if missing[1:] else ""))
    return []
