"""Opening composites: a named op made of other ops is replaced by its body, so that fusion sees primitives only (rank 4)."""
from __future__ import annotations

from typing import Any

from ..graph import OPERATORS, Operation, Tensor
from ..ops import opdef
from .program import Program, rebuild
from .rewrite import moved, note


def decompose(program: Program) -> Program:
    """The program without composites, nested ones included; the ops of a body keep the composite's name as origin.

    Reductions that keep their axes become plain ones and a reshape, so that a mean taken in both forms is one.
    """
    return rebuild(program, lambda op, inputs: opened(op, inputs) if is_composite(op) else _plain_reduction(op, inputs))


def _plain_reduction(op: Operation, inputs: tuple[Tensor, ...]) -> list[Tensor] | None:
    if op.opdef.family != "reduction" or not op.attrs.get("keepdims"):
        return None
    x, axis = inputs[0], op.attrs["axis"]
    axes = tuple(range(len(x.sizes))) if axis is None else tuple(axis)  # type: ignore[arg-type]
    with opdef.scratch(op):
        return [OPERATORS["expand_axes"](op.opdef(x, axis=axis, keepdims=False), axes)]


def is_composite(op: Operation) -> bool:
    return op.opdef.family == "composite" and op.opdef.effect is None


def opened(op: Operation, inputs: tuple[Tensor, ...]) -> list[Tensor]:
    """The outputs of the op's body on `inputs`."""
    note("open", [op])
    with opdef.scratch(op) as g:
        found: Any = op.opdef._body(*inputs, **op.attrs)
    outputs = list(found) if isinstance(found, (list, tuple)) else [found]
    new: dict[Tensor, Tensor] = {}
    for inner in g._ops:
        copy = moved(inner, new, {})
        made = opened(copy, copy.inputs) if is_composite(copy) else _plain_reduction(copy, copy.inputs) or copy.outputs
        new.update((old, t) for old, t in zip(inner.outputs, made) if old is not t)
    return [new.get(t, t) for t in outputs]


