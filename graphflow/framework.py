"""TF1's top-level functions on the default graph: scopes, devices, control edges, collections."""
from __future__ import annotations

import time
from contextlib import ExitStack, contextmanager
from typing import Any, Callable, ContextManager, Iterator

import numpy as np

from . import graph, types
from .graph import Graph

__all__ = ["NoGradient", "NotDifferentiable", "add_to_collection", "add_to_collections", "colocate_with", "container",
           "control_dependencies", "convert_to_tensor_or_indexed_slices", "device", "dimension_at_index", "dimension_value",
           "get_collection", "get_collection_ref", "identity_n", "init_scope", "is_tensor", "name_scope", "no_gradient", "op_scope",
           "timestamp"]


class name_scope:
    """`with tf.name_scope("layer") as scope:` prefixes op names with `layer/`, made unique.

    Args:
        name: the scope; `"layer/"` enters `layer` again, None or "" is the root.
        default_name: used when `name` is None.
        values: tensors used inside; the first one's graph becomes the default.

    Raises:
        ValueError: `values` without any name, or values of several graphs.
    """

    def __init__(self, name: str | None, default_name: str | None = None, values: Any = None):
        if name is not None and not isinstance(name, str):
            raise TypeError(f"name_scope: name must be a string, got {name!r}")
        if name is None and default_name is None and values is not None:
            raise ValueError("At least one of name (None) and default_name (None) must be provided.")
        self._name = default_name if name is None else name
        self._values = values
        self._stacks: list[ExitStack] = []

    name = property(lambda self: self._name)

    def __enter__(self) -> str:
        stack = ExitStack()
        g = _common_graph(self._values)
        if g is not graph.get_default_graph():
            stack.enter_context(g.as_default())
        try:
            scope = stack.enter_context(g.name_scope(self._name))
        except BaseException:
            stack.close()
            raise
        self._stacks.append(stack)
        return scope

    def __exit__(self, *problem: Any) -> None:
        self._stacks.pop().__exit__(*problem)


def _common_graph(values: Any) -> Graph:
    graphs = [g for g in (getattr(v, "graph", None) for v in values or ()) if isinstance(g, Graph)]
    if any(g is not graphs[0] for g in graphs):
        raise ValueError("the values of a name_scope must be from the same graph")
    return graphs[0] if graphs else graph.get_default_graph()


def op_scope(values: Any, name: str | None, default_name: str | None = None) -> name_scope:
    """`name_scope` with `values` first (TF1's older form)."""
    return name_scope(name, default_name, values)


def device(device_name_or_function: Any) -> ContextManager[None]:
    """Ops made inside keep this device string; None removes those around.  Raises ValueError on a malformed string.

    A function is called for each op and returns a string; a `DeviceSpec` is taken by its string.
    """
    if hasattr(device_name_or_function, "to_string"):
        device_name_or_function = device_name_or_function.to_string()
    return graph.get_default_graph().device(device_name_or_function)


def control_dependencies(control_inputs: Any) -> ContextManager[None]:
    """Ops made inside run after these operations or tensors; None removes the edges around."""
    return graph.get_default_graph().control_dependencies(control_inputs)


def colocate_with(op: Any, ignore_existing: bool = False) -> ContextManager[None]:
    """Ops made inside go to the device of `op`."""
    return graph.get_default_graph().colocate_with(op, ignore_existing)


def container(container_name: str) -> ContextManager[str]:
    """Accepted: a Session owns its variables, there are no resource containers."""
    return graph.get_default_graph().container(container_name)


def get_collection(key: Any, scope: str | None = None) -> list[Any]:
    """A copy of a collection; with `scope`, the items whose name matches that regular expression."""
    return graph.get_default_graph().get_collection(key, scope)


def get_collection_ref(key: Any) -> list[Any]:
    """The collection itself: changes to the list are changes to the collection."""
    return graph.get_default_graph().get_collection_ref(key)


def add_to_collection(name: Any, value: Any) -> None:
    graph.get_default_graph().add_to_collection(name, value)


def add_to_collections(names: Any, value: Any) -> None:
    graph.get_default_graph().add_to_collections(names, value)


def NotDifferentiable(op_type: str) -> None:
    """Declares that ops of this type pass no gradient to their inputs.  Raises ValueError for an unknown type."""
    from . import errors
    from .ops.opdef import REGISTRY

    if op_type not in REGISTRY:
        raise ValueError(f"no op type {op_type!r}.{errors.suggest(op_type, REGISTRY)}")
    REGISTRY[op_type].grad(lambda op, *dys: (None,) * len(op.inputs))


NoGradient: Callable[[str], None] = NotDifferentiable
no_gradient: Callable[[str], None] = NotDifferentiable


@contextmanager
def init_scope() -> Iterator[None]:
    """Ops made inside belong to no branch, loop or control dependency around: those of initial values, for example."""
    g = graph.get_default_graph()
    with g.control_dependencies(None), g.inside(None):
        yield


def is_tensor(x: Any) -> bool:
    """Whether `x` is a Tensor, SparseTensor, IndexedSlices or variable."""
    return isinstance(x, graph.Operators) or hasattr(x, "_as_tensor") or hasattr(x, "_components") or hasattr(x, "_dense_shape")


def dimension_value(dimension: Any) -> Any:
    """The number of a `Dimension`, None if it is unknown; anything else as it is."""
    return dimension.value if isinstance(dimension, types.Dimension) else dimension


def dimension_at_index(shape: Any, index: int) -> types.Dimension:
    """shape[index], unknown where the rank is."""
    return types.Dimension(None) if shape.ndims is None else shape.dims[index]


def convert_to_tensor_or_indexed_slices(value: Any, dtype: Any = None, name: str | None = None) -> Any:
    """IndexedSlices as they are, anything else as a tensor.  Raises ValueError for IndexedSlices of another dtype."""
    from .ops.indexed_slices import IndexedSlices
    from .ops.opdef import convert_to_tensor

    if isinstance(value, IndexedSlices):
        if dtype is not None and types.as_dtype(dtype) is not value.dtype:
            raise ValueError(f"Tensor conversion requested dtype {types.as_dtype(dtype).name} for IndexedSlices with dtype "
                             f"{value.dtype.name}")
        return value
    return convert_to_tensor(value, dtype, name)


def identity_n(input: Any, name: str | None = None) -> list[Any]:
    """The same tensors as new ones."""
    from .array_ops import identity

    with name_scope(name, "IdentityN"):
        return [identity(t) for t in input]


def timestamp(name: str | None = None) -> graph.Tensor:
    """Seconds since 1970 when it runs, float64."""
    from .ops.host import py_func

    found = py_func(lambda: np.float64(time.time()), [], types.float64, name=name or "Timestamp")
    found.set_shape([])
    return found
