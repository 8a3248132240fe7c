"""`tf.Variable` and the collections of variables.  Written on the ops of ops/state.py."""
from __future__ import annotations

from typing import Any

from . import graph, types
from .graph import GraphKeys, Operators, Tensor
from .ops import opdef, state


class Variable(Operators):
    """A value that lives in a Session between runs.

    Args:
        initial_value: tensor, array, number, or a function returning one; gives dtype and shape.
        trainable: also put it into TRAINABLE_VARIABLES.
        collections: collections to join instead of GLOBAL_VARIABLES.
        validate_shape: False allows an initial value of unknown shape.
        name, dtype: as usual; dtype converts `initial_value`.

    Raises:
        ValueError: no initial value, or one of unknown shape while `validate_shape`.
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
        g = graph.get_default_graph()
        with g.control_dependencies(None), g.name_scope(name or "Variable") as scope:
            with g.name_scope("Initializer/"), g.name_scope(scope + "Initializer/"):
                value = initial_value() if callable(initial_value) else initial_value
                self._initial = opdef.convert_to_tensor(value, dtype, name="initial_value")
            sizes = types.as_shape(shape) if shape is not None else self._initial.sizes
            if validate_shape and not types.known(sizes):
                raise ValueError(f"initial_value must have a shape specified: {self._initial!r}; or pass validate_shape=False")
            self.handle: Tensor = state.variable_handle(dtype=self._initial.dtype, shape=sizes if validate_shape else None, name=scope)
            self.initializer = state.assign(self.handle, self._initial, validate_shape=validate_shape, name=scope + "Assign/").op
            state.read(self.handle)
        self._trainable, self.constraint = trainable is not False, constraint
        wanted = [GraphKeys.GLOBAL_VARIABLES] if collections is None else list(collections)
        if self._trainable and GraphKeys.TRAINABLE_VARIABLES not in wanted:
            wanted.append(GraphKeys.TRAINABLE_VARIABLES)
        g.add_to_collections(wanted, self)

    name = property(lambda self: self.handle.name)
    op = property(lambda self: self.handle.op)
    dtype = property(lambda self: self.handle.dtype)
    shape = property(lambda self: self.handle.shape)
    device = property(lambda self: self.handle.device)
    graph = property(lambda self: self.handle.graph)
    trainable = property(lambda self: self._trainable)
    initial_value = property(lambda self: self._initial)

    def get_shape(self) -> types.TensorShape:
        return self.handle.shape

    def set_shape(self, shape: Any) -> None:
        self.handle.set_shape(shape)

    def value(self) -> Tensor:
        """The value at this point of the program."""
        return state.read(self.handle)

    def read_value(self) -> Tensor:
        """Like `value()`, as an op of its own."""
        return state.read(self.handle, name=self.op.name + "/read_value")

    _as_tensor = value

    def _as_graph_element(self) -> Tensor:
        return self.handle

    def assign(self, value: Any, use_locking: bool = False, name: str | None = None, read_value: bool = True) -> Tensor:
        return state.assign(self, value, name=name)

    def assign_add(self, delta: Any, use_locking: bool = False, name: str | None = None, read_value: bool = True) -> Tensor:
        return state.assign_add(self, delta, name=name)

    def assign_sub(self, delta: Any, use_locking: bool = False, name: str | None = None, read_value: bool = True) -> Tensor:
        return state.assign_sub(self, delta, name=name)

    def eval(self, session: Any = None) -> Any:
        """The variable's value in `session` or the default session."""
        return graph.OPERATORS["default_session"](self, session).run(self.handle)

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __repr__(self) -> str:
        return f"<tf.Variable '{self.name}' shape={self.shape} dtype={self.dtype.name}>"
