"""TF1's top-level functions on the default graph: scopes, devices, control edges, collections."""
from __future__ import annotations

from contextlib import ExitStack
from typing import Any, Callable, ContextManager

from . import graph
from .graph import Graph

__all__ = ["name_scope", "op_scope", "device", "control_dependencies", "colocate_with", "container", "get_collection", "get_collection_ref",
           "add_to_collection", "add_to_collections", "NotDifferentiable", "NoGradient"]


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
    """Ops made inside keep this device string; None removes those around.  Raises ValueError on a malformed string."""
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
