"""Tensors that are constant on either side of a diagonal: causal masks, in all the ways they are written.

The scalar at (row, column) is pulled through the ops that make the tensor.  It may depend on the place by one comparison of row
and column only, and must hold no element of memory.  Knows Kernel IR and the registry; knows no op by name (rank 4).
"""
from __future__ import annotations

from typing import Any, NamedTuple

import numpy as np

from .. import types
from ..codegen import ir
from ..codegen.ir import Expr
from ..graph import Tensor
from ..ops.opdef import Const
from ..ops.pull import Pull, uniform

Triangle = tuple[int, Any, Any]
_FLIPPED = {"lt": "gt", "gt": "lt", "le": "ge", "ge": "le"}


class _Line(NamedTuple):
    """row * i + column * j + c."""

    row: int
    column: int
    c: int


class _Other(Exception):
    """Not such a tensor."""


def triangular(t: Tensor) -> Triangle | None:
    """(offset, below, above): `below` where column <= row + offset, else `above`; (0, c, c) for a uniform tensor; None for others."""
    if t.sizes is None or t.dtype.kind not in "fb":
        return None
    if t.op.opdef is Const:
        value = t.op.attrs["value"]
        return _of_array(types.bf16_decode(value) if t.dtype is types.bfloat16 else value)
    axes = [ir.Axis(s) for s in t.sizes]
    index = [ir.index_const(0) if isinstance(a.extent, int) and a.extent == 1 else ir.axis(a) for a in axes]
    last = [None, None, *axes][-2:]
    try:
        e = Pull(_leaf).at(t, index)
        offsets: set[int] = set()
        below, above = (_Evaluation(last[0], last[1], truth, offsets).value(e) for truth in (True, False))
    except _Other:
        return None
    if len(offsets) > 1 or isinstance(below, _Line) or isinstance(above, _Line):
        return None
    return offsets.pop() if offsets else 0, _plain(below), _plain(above)


def _plain(value: Any) -> Any:
    return bool(value) if np.asarray(value).dtype.kind == "b" else float(value)


def _of_array(value: np.ndarray) -> Triangle | None:
    """A constant array, by its elements."""
    if value.size == 0 or value.dtype.kind not in "fb":
        return None
    if value.ndim < 2 or (value == value.flat[0]).all():
        return (0, _plain(value.flat[0]), _plain(value.flat[0])) if (value == value.flat[0]).all() else None
    m = value[(0,) * (value.ndim - 2)]
    if value.size != m.size and not (value == m).all():
        return None
    below, above = m[-1, 0], m[0, -1]
    if below == above:
        return None
    first = m[0] == below
    offset = int(first.sum()) - 1 if first[0] else -int((m[:, 0] != below).sum())
    expected = np.where(np.arange(m.shape[1]) <= np.arange(m.shape[0])[:, None] + offset, below, above)
    return (offset, _plain(below), _plain(above)) if (m == expected).all() else None


def _leaf(t: Tensor, index: tuple[Expr, ...]) -> Expr | None:
    """What cannot be looked into is refused; a constant that counts along one axis is that axis."""
    d = t.op.opdef
    if d is Const:
        if uniform(t.op) is not None:
            return None
        value = t.op.attrs["value"]
        long = [k for k, n in enumerate(value.shape) if n > 1]
        if len(long) == 1 and value.dtype.kind in "iuf" and (value.reshape(-1) == value.flat[0] + np.arange(value.size)).all():
            return ir.cast(index[long[0]] + int(value.flat[0]), t.dtype.compute)
        raise _Other
    if d._lower is None or d._fold is not None or d._scatter is not None or d.effect is not None or d.family == "input":
        raise _Other
    return None


class _Evaluation:
    """The value of an expression on one side of the diagonal: numbers, or lines in row and column."""

    def __init__(self, row: ir.Axis | None, column: ir.Axis | None, truth: bool, offsets: set[int]):
        self.row, self.column, self.truth, self.offsets = row, column, truth, offsets

    def value(self, root: Expr) -> Any:
        done: dict[int, Any] = {}
        for e in ir.walk(root):
            done[id(e)] = self.one(e, [done[id(a)] for a in e.args])
        return done[id(root)]

    def one(self, e: Expr, args: list[Any]) -> Any:
        if e.op == "const":
            return np.asarray(e.data, bool if e.dtype.kind == "b" else e.dtype.np)[()]
        if e.op == "size" and isinstance(e.data, int):
            return np.int64(e.data)
        if e.op == "axis" and e.data in (self.row, self.column):
            return _Line(int(e.data is self.row), int(e.data is self.column), 0)
        if e.op == "cast":
            return args[0] if isinstance(args[0], _Line) and e.dtype.kind in "iuf" else self.number(e, args)
        if e.op not in ir.SCALAR:
            raise _Other
        if any(isinstance(a, _Line) for a in args):
            return self.line(e.op, args)
        return self.number(e, args)

    def number(self, e: Expr, args: list[Any]) -> Any:
        if any(isinstance(a, _Line) for a in args):
            raise _Other
        if e.op == "cast":
            return np.asarray(args[0]).astype(bool if e.dtype.kind == "b" else e.dtype.np)[()]
        fn = ir.SCALAR[e.op][1]
        if fn is None:
            raise _Other
        with np.errstate(all="ignore"):
            return fn(*args)

    def line(self, name: str, args: list[Any]) -> Any:
        if name == "select" and not isinstance(args[0], _Line):
            return args[1] if args[0] else args[2]
        if name == "neg":
            return _Line(*(-x for x in args[0]))
        if len(args) != 2:
            raise _Other
        a, b = (x if isinstance(x, _Line) else _Line(0, 0, self.whole(x)) for x in args)
        if name in ("add", "sub"):
            sign = 1 if name == "add" else -1
            return _Line(*(x + sign * y for x, y in zip(a, b)))
        if name == "mul" and (a[:2] == (0, 0) or b[:2] == (0, 0)):
            n, line = (a.c, b) if a[:2] == (0, 0) else (b.c, a)
            return _Line(*(n * x for x in line))
        if name in _FLIPPED:
            return self.comparison(name, _Line(*(x - y for x, y in zip(a, b))))
        raise _Other

    @staticmethod
    def whole(x: Any) -> int:
        if x != int(x):
            raise _Other
        return int(x)

    def comparison(self, name: str, d: _Line) -> bool:
        """`d` against 0, with the answer that this side of the diagonal gives."""
        if (d.row, d.column) == (-1, 1):
            name, d = _FLIPPED[name], _Line(1, -1, -d.c)
        if (d.row, d.column) == (0, 0):
            return bool(ir.SCALAR[name][1](d.c, 0))  # type: ignore[misc]
        if (d.row, d.column) != (1, -1):
            raise _Other
        self.offsets.add(d.c if name in ("ge", "lt") else d.c - 1)
        return self.truth if name in ("ge", "gt") else not self.truth
