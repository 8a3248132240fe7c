"""Integers of device text: which 64-bit arithmetic of offsets 32 bits can do, and which values reach one place.

Knows expressions; knows no form of a kernel (rank 4).
"""
from __future__ import annotations

import math
from dataclasses import replace

import numpy as np

from ... import types
from ...types import Size
from .. import ir
from ..ir import Expr, Stage
from .launch import LIMIT

_ARITHMETIC = {"add", "sub", "mul", "neg", "floordiv", "mod"}
_CLAMPS = {"min", "max"}


def steps_over(c: Size, step: int, reach: Size, e: Expr) -> bool:
    """Whether `c * e` cannot undo what `step * a` (below `reach`) adds: it moves by whole multiples of `reach`, or stays inside `step`."""
    if not isinstance(c, int) or not isinstance(reach, int):
        return isinstance(c, types.Dim) and c == reach
    return c % reach == 0 or e.op == "axis" and isinstance(e.data.extent, int) and abs(c) * (e.data.extent - 1) < abs(step)


def span_of(e: Expr) -> tuple[int, int] | None:
    """Bounds of the arithmetic of axes and sizes; None where anything else is in it."""
    if e.op == "axis":
        n = e.data.extent
        return 0, (n if isinstance(n, int) else LIMIT) - 1
    if e.op in ("const", "size") and e.dtype is types.int64:
        return (e.data, e.data) if isinstance(e.data, int) else (0, LIMIT)
    if e.op not in _ARITHMETIC | _CLAMPS or e.dtype is not types.int64:
        return None
    parts = [span_of(a) for a in e.args]
    if any(p is None for p in parts):
        return None
    (a, b), (c, d) = parts[0], parts[-1]  # type: ignore[misc]
    if e.op == "add":
        return a + c, b + d
    if e.op == "sub":
        return a - d, b - c
    if e.op in _CLAMPS:
        return (min(a, c), min(b, d)) if e.op == "min" else (max(a, c), max(b, d))
    if e.op == "neg":
        return -b, -a
    if e.op == "mul":
        corners = [a * c, a * d, b * c, b * d]
        return min(corners), max(corners)
    if c <= 0:
        return None
    return (a // d, b // c) if e.op == "floordiv" and a >= 0 else (0, min(d - 1, max(b, 0))) if e.op == "mod" else (a, b)


def widened(s: Stage, wide: bool) -> Stage:
    """The stage with its 64-bit integers told apart: data keep 64 bits, offsets take 32."""
    memo: dict[tuple[Expr, bool], Expr] = {}

    def data(e: Expr) -> Expr:
        return _visit(e, False)

    def _visit(e: Expr, index: bool) -> Expr:
        key = (e, index)
        if key not in memo:
            memo[key] = _new(e, index)
        return memo[key]

    def _new(e: Expr, index: bool) -> Expr:
        if not e.args and e.op != "axis":
            return e
        if e.op == "axis":
            return e
        if e.op == "at":
            new = ir.make("at", tuple(_visit(a, True) for a in e.args), e.dtype, e.data)
            return ir.make("short", (new,), types.int64) if index and e.dtype is types.int64 and not wide else new
        plain = e.dtype is types.int64 and offset_like(e)
        if plain and not index and not _fits(e):
            return ir.make(e.op, tuple(_leaf(_visit(a, False)) for a in e.args), e.dtype, e.data)
        if plain:
            return ir.make(e.op, tuple(_visit(a, index) for a in e.args), e.dtype, e.data)
        args = tuple(_visit(a, False) for a in e.args)
        new = e if args == e.args else ir.make(e.op, args, e.dtype, e.data)
        if index and e.dtype is types.int64 and not wide:
            return ir.make("short", (new,), types.int64)
        return new

    def _leaf(e: Expr) -> Expr:
        return ir.make("wide", (e,), types.int64) if e.op in ("axis", "size") or e.dtype is types.int64 and _fits(e) and e.args else e

    return replace(s, expr=data(s.expr), index=tuple(_visit(i, True) for i in s.index), init=None if s.init is None else data(s.init))


def offset_like(e: Expr) -> bool:
    """Whether an operation on int64 may be one on 32 bits inside an offset: its low bits depend on low bits only, or all bits fit."""
    return e.op in _ARITHMETIC or e.op in _CLAMPS and all(map(_fits, e.args))


def _fits(e: Expr) -> bool:
    bounds = span_of(e)
    return bounds is not None and -(1 << 31) <= bounds[0] and bounds[1] < 1 << 31


_ROUNDING = {"floor", "ceil", "trunc", "rint"}
_SMOOTH = {"add", "sub", "mul", "neg", "abs", "max", "min"}


def exact(e: Expr, args: tuple[Expr, ...]) -> Expr:
    """A rewriting that asks for exact quotients of float32 where an error would show, or costs nothing to avoid.

    `div_exact`: what is rounded to whole numbers.  `div_by`: by constants.
    """
    if e.op in _ROUNDING or e.op == "cast" and e.dtype.kind in "biu" and args[0].dtype.kind == "f":
        args = tuple(map(_sharp, args))
    if e.op == "div" and e.dtype is types.float32 and args[1].op == "const" and _correctable(args[1].data):
        a, c = args
        return ir.make("div_by", (a, c, ir.const(float(np.float32(1.0) / np.float32(c.data)), types.float32)), e.dtype)
    return ir.rebuilt(e, args)


def _sharp(e: Expr) -> Expr:
    """An expression whose quotients, and those that it adds up or multiplies, are exact."""
    if e.op == "div" and e.dtype is types.float32:
        return ir.make("div_exact", e.args, e.dtype)
    if e.dtype.kind == "f" and (e.op in _SMOOTH or e.op == "cast"):
        return ir.rebuilt(e, tuple(map(_sharp, e.args)))
    if e.op == "select":
        return ir.rebuilt(e, (e.args[0], *map(_sharp, e.args[1:])))
    return e


def _correctable(c: float) -> bool:
    """Whether x (1/c), corrected by its own error, is x / c; powers of two need no correction."""
    return 2.0 ** -64 < abs(c) < 2.0 ** 64 and abs(math.frexp(c)[0]) != 0.5


def rounded_quotient(e: Expr, args: tuple[Expr, ...]) -> Expr:
    """A float64 quotient by a constant that is rounded to less: a product does, and takes a tenth of the time."""
    if e.op == "cast" and e.dtype.kind == "f" and e.dtype.size <= 4 and args[0].op == "div" and args[0].dtype is types.float64:
        a, b = args[0].args
        if b.op == "const" and b.data and 1e-300 < abs(b.data) < 1e300:
            return ir.rebuilt(e, (ir.make("mul", (a, ir.const(1.0 / b.data, types.float64)), types.float64),))
    return ir.rebuilt(e, args)
