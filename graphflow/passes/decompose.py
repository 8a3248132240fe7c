"""Opening composites: a named op made of other ops is replaced by its body, so that fusion sees primitives only (rank 4)."""
from __future__ import annotations

from typing import Any

from ..graph import Operation, Tensor
from ..ops import opdef
from .program import Program, rebuild
from .rewrite import moved, note


def decompose(program: Program) -> Program:
    """The program without composites, nested ones included; the ops of a body keep the composite's name as origin."""
    return rebuild(program, lambda op, inputs: opened(op, inputs) if is_composite(op) else None)


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
        made = opened(copy, copy.inputs) if is_composite(copy) else copy.outputs
        new.update((old, t) for old, t in zip(inner.outputs, made) if old is not t)
    return [new.get(t, t) for t in outputs]


