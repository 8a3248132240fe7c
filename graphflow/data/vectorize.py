"""Functions of rows, given many rows at once.

A function whose ops act on each element by itself (casts, arithmetic, comparisons) or only move elements gives the same bits for a
batch as for its rows, so that `map` before `shuffle` and `batch` costs one call a batch.  Anything else, and whatever may fail for
one row, stays as it is (rank 9).
"""
from __future__ import annotations

from typing import Any, Callable

import numpy as np

from .. import types
from ..graph import Operation, Tensor
from ..ops import array, opdef
from ..ops.indexing import one_hot
from ..ops.pull import has_check
from ..types import UNKNOWN
from . import structure
from .function import Alone, Function, FunctionGraph

Call = Callable[[tuple[Any, ...]], tuple[Any, ...]]


def rows_at_once(f: Function, run: Any) -> Call | None:
    """`f` for arrays of many rows, or None."""
    made = f.kept("rows", lambda: _rows(f))
    if made is None:
        return None
    graph, moved, fed = made
    captured = [run.value(t) for t in f.captured]
    computed = [moved[t][0] for t in f.computed]
    step = f.executable(graph, computed, [], [moved[t][0] for t in fed], Alone(), run) if computed else None
    batched = [moved[t][1] for t in f.computed]

    def call(rows: tuple[Any, ...]) -> tuple[Any, ...]:
        inputs = [*rows, *captured]
        found = step([inputs[i] for i in f.takes]) if step is not None else []
        n = len(rows[0])
        out = []
        for kind, x in f.sources:
            if kind == "computed":
                value = np.asarray(found[x])
                out.append(value if batched[x] else _same(value, n))
            else:
                out.append(rows[x] if kind == "argument" and x < len(rows) else _same(inputs[x] if kind == "argument" else x, n))
        return tuple(out)

    return call


def _same(value: Any, n: int) -> np.ndarray:
    """n times the same row."""
    return np.array(np.broadcast_to(value, (n, *np.shape(value))))


def _rows(f: Function) -> Any:
    """(graph, {tensor of the function: (tensor of the rows, whether there is one for each row)}, what is fed), or None."""
    dense = all(type(leaf) is structure.Leaf for leaf in (*f.spec, *f.leaves))
    plain = dense and all(types.known(t.sizes) and t.dtype.kind != "s" and t.dtype is not types.bfloat16 for t in (*f.params, *f.computed))
    if not plain or f.targets or f.stateful or f.effects - {None}:
        return None
    g = FunctionGraph(f.graph, "rows")
    with g.as_default():
        moved: dict[Tensor, tuple[Tensor, bool]] = {}
        for t in f.fed:
            row = t in f.params
            moved[t] = g.param(t.dtype, (UNKNOWN, *t.sizes) if row else t.sizes, "rows"), row  # type: ignore[misc]
        for op in f.ops:
            if op.opdef is opdef.StandIn:
                continue
            if op.opdef is opdef.Const:
                moved[op.outputs[0]] = g.capture(op.outputs[0]), False
                continue
            ins = [moved[t] for t in op.inputs]
            if not any(row for _, row in ins):
                outs = [(t, False) for t in g.create_op(op.opdef, [t for t, _ in ins], op.attrs).outputs]
            else:
                made = None if has_check(op) or not types.known(op.outputs[0].sizes) else _made(op, ins)
                if made is None:
                    return None
                outs = [(made, True)]
            moved.update(zip(op.outputs, outs))
    return g, moved, f.fed


def _made(op: Operation, ins: list[tuple[Tensor, bool]]) -> Tensor | None:
    """`op` for many rows."""
    if op.opdef.family == "elementwise":
        return _elementwise(op, ins)
    if op.opdef is one_hot:
        if [row for _, row in ins] != [True, False, False, False]:
            return None
        rank = len(op.outputs[0].sizes)  # type: ignore[arg-type]
        return one_hot(*[t for t, _ in ins], axis=op.attrs["axis"] % rank + 1)
    if op.type in ("ZerosLike", "OnesLike"):
        return op.opdef(ins[0][0], **op.attrs)
    if op.type in ("Reshape", "ExpandDims", "Squeeze", "ReshapeLike") and ins[0][1]:
        return _reshaped(ins[0][0], op.outputs[0].sizes)
    if op.type == "Transpose" and ins[0][1] and op.attrs["perm"] is not None:
        rank = len(op.outputs[0].sizes)  # type: ignore[arg-type]
        return array.transpose(ins[0][0], perm=(0, *[p % rank + 1 for p in op.attrs["perm"]]))
    return None


def _elementwise(op: Operation, ins: list[tuple[Tensor, bool]]) -> Tensor | None:
    rank = len(op.outputs[0].sizes)  # type: ignore[arg-type]
    inputs = []
    for (t, row), x in zip(ins, op.inputs):
        missing = rank - len(x.sizes)  # type: ignore[arg-type]
        wide = _reshaped(t, (*(1,) * missing, *x.sizes)) if row and missing else t  # type: ignore[misc]
        if wide is None:
            return None
        inputs.append(wide)
    return op.opdef(*inputs, **op.attrs)


def _reshaped(t: Tensor, sizes: Any) -> Tensor | None:
    """Rows of other sizes."""
    if 0 in sizes:  # the number of rows does not follow from the number of elements
        return None
    return array.reshape(t, opdef.constant(np.array([-1, *sizes], np.int64)))
