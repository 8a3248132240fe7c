"""Ordering without data: `no_op`, `group`, `tuple`, `with_dependencies`."""
from __future__ import annotations

import builtins
from typing import Any, Sequence

from . import graph
from .graph import Operation, Tensor
from .ops.opdef import OpDef, convert_to_tensor

__all__ = ["no_op", "group", "tuple", "with_dependencies"]


def _no_op():
    """Does nothing; a place for control edges."""


NoOp = OpDef(_no_op, "control", type="NoOp", infer=lambda: [], numpy=lambda: [], no_gradient="it has no output")


def no_op(name: str | None = None) -> Operation:
    """An operation that does nothing; it runs after the control inputs around it."""
    return graph.get_default_graph().create_op(NoOp, (), {}, name)


def _flat(values: Any) -> list[Any]:
    if isinstance(values, dict):
        return [x for k in values for x in _flat(values[k])]
    return [x for v in values for x in _flat(v)] if isinstance(values, (list, builtins.tuple)) else [values]


def group(*inputs: Any, name: str | None = None, **kwargs: Any) -> Operation:
    """An operation that runs all of `inputs` (operations, tensors, variables, any nesting of them).

    Raises:
        TypeError: an input that is none of these, or an unknown keyword.
    """
    if kwargs:
        raise TypeError(f"group() got unexpected argument(s) {sorted(kwargs)}")
    g = graph.get_default_graph()
    wanted = []
    for x in _flat(inputs):
        if x is None:
            raise TypeError("Expected tf.group() expected Tensor objects not None")
        element = g.as_graph_element(getattr(x, "_as_graph_element", None) and x.op or x)
        wanted.append(element)
    with g.control_dependencies(wanted):
        return no_op(name or "group_deps")


def with_dependencies(dependencies: Sequence[Any], output_tensor: Any, name: str | None = None) -> Tensor:
    """`output_tensor`, available only after `dependencies` have run."""
    from .array_ops import identity

    g = graph.get_default_graph()
    with g.name_scope(name or "control_dependency") as scope, g.control_dependencies(_flat(dependencies)):
        return identity(convert_to_tensor(output_tensor), name=scope)


def tuple(tensors: Any, name: str | None = None, control_inputs: Any = None) -> list[Any]:
    """The tensors, each available only when all of them are (and `control_inputs` have run); None stays None.

    Raises:
        ValueError: no tensor among them.
    """
    g = graph.get_default_graph()
    with g.name_scope(name or "tuple"):
        present = [t if isinstance(t, Operation) else convert_to_tensor(t) for t in tensors if t is not None]
        if not present:
            raise ValueError("Must have at least one Tensor: %s" % (tensors,))
        gate = group(*present, *(control_inputs or ()))
        made = iter([t if isinstance(t, Operation) else with_dependencies([gate], t) for t in present])
        return [None if t is None else next(made) for t in tensors]
