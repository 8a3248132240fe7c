"""Kernels whose elements are chosen by where they lie, cut into one kernel for each part.

A concatenation, a padding, or the gradient of a slice is `select(i < 128, x, select(i < 256, y, ...))`: each element would compute
every part and keep one.  Cut where the comparisons of an axis change their answer, each part has its own expression, without
selects.  Knows Kernel IR and intervals of indices; knows no op and no target (rank 4).
"""
from __future__ import annotations

from dataclasses import replace
from typing import Any

from .. import types
from . import ir
from .ir import Axis, Expr, Kernel, Stage

LEAST = 16  # elements along the axis: shorter parts would not fill a vector
MOST = 8  # parts
WORTH = 1 << 10  # elements of the whole: below, a call more costs what is saved
Interval = tuple[int, int]
_COMPARE = {"lt": (lambda a, b: a[1] < b[0], lambda a, b: a[0] >= b[1]), "le": (lambda a, b: a[1] <= b[0], lambda a, b: a[0] > b[1]),
            "gt": (lambda a, b: a[0] > b[1], lambda a, b: a[1] <= b[0]), "ge": (lambda a, b: a[0] >= b[1], lambda a, b: a[1] < b[0])}


def cut(kernel: Kernel) -> list[Kernel]:
    """The kernel with stages cut into parts; several kernels where an outer axis is cut.

    Parts of equal length run over one axis, that of other stages if one has their length: they share a loop, and what they compute.
    """
    for number, stage in enumerate(kernel.stages):
        if stage.combine or stage.scan or (types.hint(types.product(a.extent for a in stage.axes)) or 0) < WORTH:
            continue
        if any(e.op == "at" and e.data is stage.target for s in kernel.stages for e in ir.walk(s.expr, *s.index)):
            continue
        for axis in stage.axes:
            points = _points(stage.expr, axis) if axis.bound is None else []
            ends: list[Any] = [0, *points, axis.extent]
            parts = list(zip(ends, ends[1:]))
            if not points or len(parts) > MOST or any(b - a < LEAST for a, b in parts):
                continue
            if axis not in kernel.outer:
                lengths = {b - a: _axis(kernel, axis, b - a) for a, b in parts}
                made = [_part(stage, axis, lengths[b - a], a) for a, b in parts]
                return cut(_with(kernel, [*kernel.stages[:number], *made, *kernel.stages[number + 1:]], kernel.outer))
            if len(kernel.stages) == 1:
                found = []
                for a, b in parts:
                    part = Axis(b - a)
                    found += cut(_with(kernel, [_part(stage, axis, part, a)], tuple(part if x is axis else x for x in kernel.outer)))
                return found
    return [kernel]


def _axis(kernel: Kernel, cut_: Axis, extent: int) -> Axis:
    """An axis of that length which other stages have, or a new one."""
    return next((a for s in kernel.stages for a in s.axes if a is not cut_ and a not in kernel.outer and a.extent == extent
                 and a.bound is None and not s.combine), Axis(extent))


def _with(kernel: Kernel, stages: list[Stage], outer: tuple[Axis, ...]) -> Kernel:
    used = {e.data for s in stages for e in ir.walk(s.expr, *s.index, *([s.init] if s.init is not None else [])) if e.op == "at"}
    used |= {s.target for s in stages}
    return Kernel(kernel.name, tuple(b for b in kernel.buffers if b in used), tuple(stages), outer)


def _points(expr: Expr, axis: Axis) -> list[int]:
    """Where comparisons of `axis`, plus or minus a number, with a number change their answer."""
    found: set[int] = set()
    if not isinstance(axis.extent, int):
        return []
    for e in ir.walk(expr):
        if e.op in _COMPARE:
            left, right = _shifted(e.args[0], axis), e.args[1]
            if left is not None and right.op == "const" and isinstance(right.data, int):
                found.add(right.data - left + (e.op in ("le", "gt")))
    return sorted(p for p in found if 0 < p < axis.extent)


def _shifted(e: Expr, axis: Axis) -> int | None:
    """c where `e` is axis + c."""
    if e.op == "axis":
        return 0 if e.data is axis else None
    if e.op in ("add", "sub") and e.args[1].op == "const" and isinstance(e.args[1].data, int):
        inner = _shifted(e.args[0], axis)
        return None if inner is None else inner + (e.args[1].data if e.op == "add" else -e.args[1].data)
    return None


def _part(stage: Stage, axis: Axis, part: Axis, begin: int) -> Stage:
    """The elements of a stage from `begin` on along `axis`, as many as `part` has."""
    place = {axis: ir.axis(part) + begin}
    axes = tuple(part if a is axis else a for a in stage.axes)
    ranges = {a: (0, a.extent - 1) for a in axes if isinstance(a.extent, int)}
    expr = _settled(ir.substitute(stage.expr, place), ranges)  # type: ignore[arg-type]
    return replace(stage, axes=axes, index=tuple(ir.substitute(i, place) for i in stage.index), expr=expr)  # type: ignore[arg-type]


def _settled(root: Expr, ranges: dict[Axis, Interval]) -> Expr:
    """The expression where every comparison and choice that the ranges decide is decided."""
    known: dict[Expr, Interval | None] = {}

    def interval(e: Expr) -> Interval | None:
        if e not in known:
            known[e] = _interval(e, ranges, interval)
        return known[e]

    def change(e: Expr, args: tuple[Expr, ...]) -> Expr:
        new = ir.rebuilt(e, args)
        op, a = new.op, new.args
        if op in _COMPARE and a[0].dtype is types.int64:
            x, y = interval(a[0]), interval(a[1])
            if x is not None and y is not None:
                for answer, test in zip((True, False), _COMPARE[op]):
                    if test(x, y):
                        return ir.const(answer, types.bool_)
        if op in ("min", "max") and new.dtype is types.int64:
            x, y = interval(a[0]), interval(a[1])
            if x is not None and y is not None and (x[1] <= y[0] or y[1] <= x[0]):
                return a[0] if (x[1] <= y[0]) == (op == "min") else a[1]
        if op == "select" and a[0].op == "const":
            return a[1] if a[0].data else a[2]
        if op in ("land", "lor"):
            for p, q in ((a[0], a[1]), (a[1], a[0])):
                if p.op == "const":
                    return q if bool(p.data) == (op == "land") else p
        if op == "add" and new.dtype.kind == "f":  # what other parts add
            for p, q in ((a[0], a[1]), (a[1], a[0])):
                if p.op == "const" and p.data == 0:
                    return q
        return new

    return ir.rewrite(root, change)


def _interval(e: Expr, ranges: dict[Axis, Interval], of) -> Interval | None:
    """The least and the greatest value of an index."""
    if e.op in ("const", "size"):
        return (e.data, e.data) if isinstance(e.data, int) else None
    if e.op == "axis":
        return ranges.get(e.data)
    if e.op not in ("add", "sub", "mul", "min", "max") or e.dtype is not types.int64:
        return None
    a, b = of(e.args[0]), of(e.args[1])
    if a is None or b is None:
        return None
    if e.op == "add":
        return a[0] + b[0], a[1] + b[1]
    if e.op == "sub":
        return a[0] - b[1], a[1] - b[0]
    if e.op in ("min", "max"):
        choose = min if e.op == "min" else max
        return choose(a[0], b[0]), choose(a[1], b[1])
    ends = [x * y for x in a for y in b]
    return min(ends), max(ends)
