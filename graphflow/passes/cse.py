"""Common subexpressions: operations that compute the same become one (value numbering).

Two ops are the same when they have the same definition, inputs and attributes; constants when they have the same bits.
Ops with effects (host, random) are never merged (rank 4).
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from ..graph import Operation, Tensor
from ..ops import opdef
from .program import Program
from .rewrite import moved, note

# Constants larger than this are compared by identity instead of by content.
CONTENT_LIMIT = 1 << 20


def cse(program: Program) -> Program:
    """The program with equal operations merged into the first of them."""
    new: dict[Tensor, Tensor] = {}
    effects: dict[Operation, Operation] = {}
    first: dict[Any, Operation] = {}
    for op in program.ops():
        copy = moved(op, new, effects)
        if copy is not op:
            effects[op] = copy
        kept = copy if copy.opdef.effect is not None or copy.opdef.family == "input" else first.setdefault(key(copy), copy)
        if kept is not copy:
            note("merge", [copy, kept])
        if kept is not op:
            new.update(zip(op.outputs, kept.outputs))
    return program if not new and not effects else program.with_roots(lambda t: new.get(t, t), lambda o: effects.get(o, o))


def key(op: Operation) -> Any:
    """Equal for operations that compute the same where the user wants it; the op itself when that cannot be said."""
    if op.opdef is opdef.Const:
        return _constant(op)
    place = op.device if "GPU" in op.device else ""  # what is asked of a GPU is not the CPU's, and the other way round
    inputs: Sequence[int] = [id(t) for t in op.inputs]
    if op.opdef.commutative and len(inputs) == 2:
        inputs = sorted(inputs)
    if not op.attrs:
        return op.opdef, tuple(inputs), place
    try:
        found = op.opdef, tuple(inputs), frozen(op.attrs), place
        hash(found)
    except TypeError:
        return op
    return found


def _constant(op: Operation) -> Any:
    value = op.attrs["value"]
    if value.dtype == object or value.nbytes > CONTENT_LIMIT:
        return opdef.Const, id(value), op.attrs["dtype"]
    return opdef.Const, op.attrs["dtype"], value.shape, value.tobytes()


def frozen(value: Any) -> Any:
    """Attributes as a key that tells 1, 1.0 and True apart, and 0.0 from -0.0."""
    if isinstance(value, dict):
        return tuple([(k, frozen(v)) for k, v in value.items()])
    if isinstance(value, (list, tuple)):
        return type(value), tuple([frozen(v) for v in value])
    if isinstance(value, (float, complex, np.floating)):
        return type(value), repr(value)
    return (bool, value) if isinstance(value, bool) else value
