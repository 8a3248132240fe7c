"""How a kernel's loops are arranged: which axis the vector lanes take, which stages share loops, what is split.

Knows Kernel IR in linear form and sizes; knows no spelling (rank 4).
"""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Sequence

from .. import types
from ..types import Size
from . import ir
from .ir import Axis, Buffer, Expr, Kernel, Stage
from .simplify import stride

# A reduction without outer loops is cut into pieces of this many elements: they can run on several threads, their
# number depends on the size alone (so the bits do not depend on the threads), and short sums are accurate sums.
PIECE = 1 << 13
HEAVY = {"exp", "exp2", "expm1", "log", "log1p", "log2", "log10", "pow", "sin", "cos", "tan", "tanh", "sigmoid", "softplus", "erf", "erfc",
         "lgamma", "digamma"}


@dataclass(frozen=True)
class Schedule:
    """Loops of one kernel: `rows` are flattened and split over threads; `lane` (an outer axis) is the vector axis, or
    None when each group's own innermost axis is; `groups` of stages share their inner loops."""

    kernel: Kernel
    rows: tuple[Axis, ...]
    lane: Axis | None
    groups: tuple[tuple[Stage, ...], ...]


def schedule(kernel: Kernel) -> Schedule:
    """The loop arrangement for a linear kernel."""
    lane = kernel.outer[-1] if kernel.outer and _lane_is_vector(kernel) else None
    rows = kernel.outer[:-1] if lane is not None else kernel.outer
    return _save_shared(Schedule(kernel, rows, lane, _groups(kernel)))


def rows_of(kernel: Kernel) -> Schedule:
    """The arrangement in which each stage's innermost axis is the vector, for rows that another kernel hands out."""
    return _save_shared(Schedule(kernel, kernel.outer, None, _groups(kernel)))


def inner_axes(s: Stage, kernel: Kernel) -> tuple[Axis, ...]:
    return tuple(a for a in s.axes if a not in kernel.outer)


def _lane_is_vector(kernel: Kernel) -> bool:
    """Whether loads run along the last outer axis rather than along the stages' own innermost axes."""
    last, lane_score, inner_score = kernel.outer[-1], 0, 0
    for s in kernel.stages:
        inner = inner_axes(s, kernel)
        if not inner:
            continue
        if s.scan is not None or any(a.bound is not None and last in ir.axes_in(a.bound) for a in inner):  # lanes have as many steps each
            return False
        for e in ir.walk(s.expr):
            if e.op == "at":
                lane_score += stride(e.args[0], last) == 1
                inner_score += stride(e.args[0], inner[-1]) == 1
        if not s.combine:
            lane_score += stride(s.index[0], last) == 1
            inner_score += stride(s.index[0], inner[-1]) == 1
    return lane_score >= inner_score and (lane_score > 0 or all(not inner_axes(s, kernel) for s in kernel.stages))


def _groups(kernel: Kernel) -> tuple[tuple[Stage, ...], ...]:
    """Stages with the same inner loops together, unless one needs a fold of the other to be complete.

    A fold joins an earlier group when nothing in between makes what it reads: one pass over a row then does for both.
    """
    groups: list[list[Stage]] = []
    for s in kernel.stages:
        back = next((k for k in range(len(groups) - 1, -1, -1) if _joins(s, groups[k], kernel)), None)
        between = [] if back is None else [t for g in groups[back + 1:] for t in g]
        if back is None or between and (not s.combine or scatters(s) or _touches(s, between)):
            groups.append([s])
        else:
            groups[back].append(s)
    return tuple(map(tuple, groups))


def _touches(s: Stage, others: list[Stage]) -> bool:
    """Whether moving `s` before `others` would change what it reads, or what they read."""
    made = {t.target for t in others}
    reads = [e.data for e in ir.walk(s.expr, *s.index, *([s.init] if s.init is not None else [])) if e.op == "at"]
    return s.target in made or any(b in made for b in reads) or any(e.data is s.target for t in others for e in ir.walk(t.expr)
                                                                   if e.op == "at")


def _joins(s: Stage, group: list[Stage], kernel: Kernel) -> bool:
    first = group[0]
    if s.scan or first.scan or scatters(s) or scatters(first):
        return False
    if set(inner_axes(s, kernel)) != set(inner_axes(first, kernel)) or set(s.reduced) != set(first.reduced):
        return False
    pending: set[Buffer] = {g.target for g in group}
    return not any(e.data in pending for e in ir.walk(s.expr, *s.index) if e.op == "at")


def scatters(s: Stage) -> bool:
    """Several iterations of the stage may write one element."""
    return bool(s.combine) and bool(s.reduced) and (s.combine == "set" or any(ir.axes_in(i) & set(s.reduced) for i in s.index))


def softmaxes(kernel: Kernel) -> tuple[set[Buffer], set[Expr]]:
    """What softmax allows: maxima that need not carry NaN, since the sum of the exponentials does, and exponentials of
    `x - max(x)`, which is never positive."""
    loose: set[Buffer] = set()
    below: set[Expr] = set()
    for top in kernel.stages:
        if top.combine != "max" or top.expr.dtype.kind != "f" or not top.reduced or top.init is not None:
            continue
        readers = [s for s in kernel.stages if any(e.op == "at" and e.data is top.target for e in ir.walk(s.expr))]
        shifted = {e for s in readers for e in ir.walk(s.expr) if e.op == "sub" and e.args[0] is top.expr and _loads(e.args[1], top.target)}
        found = {e for s in readers for e in ir.walk(s.expr) if e.op == "exp" and e.args[0] in shifted}
        below |= found
        sums = {s.target for s in readers if s.combine == "add" and s.reduced == top.reduced and s.expr in found}
        only = all(e in shifted for s in readers for e in ir.walk(s.expr) if any(_loads(a, top.target) for a in e.args))
        if top.target.role == "tmp" and only and sums and all(
                s.target in sums or any(e.op == "at" and e.data in sums for e in ir.walk(s.expr)) for s in readers):
            loose.add(top.target)
    return loose, below


def _loads(e: Expr, b: Buffer) -> bool:
    return e.op == "at" and e.data is b


def _save_shared(plan: Schedule) -> Schedule:
    """A heavy value that two loops over a row need is computed once, kept in the row of the output in between."""
    for i, later in enumerate(plan.groups):
        for s in later:
            if s.combine or s.scan or s.target.role != "out":
                continue
            for e in ir.walk(s.expr):
                if e.op in HEAVY and e.dtype is s.target.dtype and ir.axes_in(e) >= set(inner_axes(s, plan.kernel)):
                    j = next((j for j in range(i) if _computes(plan.groups[j], e, s, plan.kernel)), None)
                    if j is not None and not any(x.op == "at" and x.data is s.target for g in plan.groups for t in g
                                                 for x in ir.walk(t.expr)):
                        return _with_saved(plan, e, s, j, i)
    return plan


def _computes(group: tuple[Stage, ...], e: Expr, s: Stage, kernel: Kernel) -> bool:
    return (set(inner_axes(group[0], kernel)) == set(inner_axes(s, kernel)) and not scatters(group[0]) and group[0].scan is None
            and any(x is e for t in group for x in ir.walk(t.expr)))


def _with_saved(plan: Schedule, e: Expr, s: Stage, j: int, i: int) -> Schedule:
    """`e` stored in the target of `s` by group j, and loaded from there until `s`, in group i, overwrites it."""
    saved = replace(s, expr=e)
    loaded = ir.make("at", s.index, e.dtype, s.target)

    def use(t: Stage) -> Stage:
        return replace(t, expr=ir.rewrite(t.expr, lambda x, args: loaded if x is e else ir.rebuilt(x, args)))

    own = plan.groups[i].index(s)
    groups = list(plan.groups)
    groups[j] = (*groups[j], saved)
    groups[j + 1:i] = [tuple(map(use, g)) for g in groups[j + 1:i]]
    groups[i] = (*map(use, groups[i][:own + 1]), *groups[i][own + 1:])
    return replace(plan, groups=tuple(groups))


# ---------------------------------------------------------------- splitting large reductions


def split(kernel: Kernel) -> list[Kernel]:
    """A kernel without outer loops whose first stages fold something large becomes two: pieces, then their combination."""
    if kernel.outer:
        return _split_columns(kernel)
    if not kernel.stages:
        return [kernel]
    if _column_folds(kernel):
        return _split_whole(kernel)
    s = kernel.stages[0]
    if not s.combine or s.scan or scatters(s) or len(s.reduced) == 0 or s.init is not None:
        return [kernel]
    axis = s.reduced[0]
    rest: Size = types.product(a.extent for a in s.reduced[1:])
    inner = [a for a in s.axes if a not in s.reduced]
    if types.hint(axis.extent) is None or (types.hint(axis.extent) or 0) * (types.hint(rest) or 1) <= 4 * PIECE:
        return [kernel]
    if inner and (types.hint(types.product(a.extent for a in inner)) or 0) > 64:
        return [kernel]
    piece = max(PIECE // max(types.hint(rest) or 1, 1), 1)
    return _in_pieces(kernel, s, axis, inner, piece)


def _in_pieces(kernel: Kernel, s: Stage, axis: Axis, inner: list[Axis], piece: int) -> list[Kernel]:
    count = types.ceildiv(axis.extent, piece)
    c = Axis(count)
    r = Axis(piece, bound=ir.size(axis.extent) - ir.axis(c) * piece)
    partial = Buffer(s.expr.dtype, (count, *[a.extent for a in inner]), "part", "partial")
    place = ir.axis(c)
    for a in inner:
        place = place * ir.size(a.extent) + ir.axis(a)
    expr = ir.substitute(s.expr, {axis: ir.axis(c) * piece + ir.axis(r)})
    first = Stage(partial, (c, *inner, r, *s.reduced[1:]), (place,), expr, s.combine, (r, *s.reduced[1:]), ops=s.ops)
    used = {e.data for e in ir.walk(expr, place) if e.op == "at"}
    k1 = Kernel(kernel.name + "_pieces", tuple(b for b in kernel.buffers if b in used) + (partial,), (first,), (c,))
    last = Axis(count)
    load = ir.make("at", (ir.substitute(place, {c: ir.axis(last)}),), s.expr.dtype, partial)
    second = replace(s, axes=(*inner, last), expr=load, reduced=(last,))
    stages = (second, *kernel.stages[1:])
    needed = {e.data for t in stages for e in ir.walk(t.expr, *t.index) if e.op == "at"} | {t.target for t in stages}
    k2 = Kernel(kernel.name, tuple(b for b in kernel.buffers if b in needed) + (partial,), stages)
    return [k1, *split(k2)]


# Rows of a column fold that one task adds up hold this many elements: they stay in the second-level cache while strips
# of columns are taken one after the other.
BAND = 1 << 14


def _split_columns(kernel: Kernel) -> list[Kernel]:
    """Folds along the rows of long matrices with few columns become two kernels: bands of rows, then their combination."""
    lane, folds = kernel.outer[-1], _column_folds(kernel)
    columns = types.hint(lane.extent) or 0
    if len(kernel.outer) != 1 or not folds or columns >= COLUMNS or not _lane_is_vector(kernel):
        return [kernel]
    axis, rest = folds[0].reduced[0], types.hint(types.product(a.extent for a in folds[0].reduced[1:])) or 1
    band = max(BAND // max(columns * rest, 1), min(128, -(-128 // rest)))
    if (types.hint(axis.extent) or 0) <= 2 * band or (types.hint(axis.extent) or 0) * rest * columns <= 4 * PIECE:
        return [kernel]
    return _in_bands(kernel, folds, axis, band)


def _split_whole(kernel: Kernel) -> list[Kernel]:
    """Folds of everything to one value: pieces, then their combination."""
    folds = _column_folds(kernel)
    if not folds:
        return [kernel]
    axis, rest = folds[0].reduced[0], types.hint(types.product(a.extent for a in folds[0].reduced[1:])) or 1
    if (types.hint(axis.extent) or 0) * rest <= 4 * PIECE:
        return [kernel]
    return _in_bands(kernel, folds, axis, max(PIECE // rest, 1))


# Folds of this many columns have work for many threads as they are.
COLUMNS = 1 << 14


def _column_folds(kernel: Kernel) -> list[Stage]:
    """The stages that fold the same axes and read nothing the kernel makes."""
    made = {s.target for s in kernel.stages}
    out: list[Stage] = []
    for s in kernel.stages:
        if (s.combine and s.reduced and s.init is None and s.scan is None and not scatters(s) and set(s.axes) == {*kernel.outer, *s.reduced}
                and (not out or s.reduced == out[0].reduced)
                and not any(e.op == "at" and e.data in made for e in ir.walk(s.expr))):
            out.append(s)
    return out


def _in_bands(kernel: Kernel, folds: list[Stage], axis: Axis, band: int) -> list[Kernel]:
    lanes, width = kernel.outer, types.product(a.extent for a in kernel.outer)
    count = types.ceildiv(axis.extent, band)
    c, last = Axis(count), Axis(count)
    r = Axis(band, bound=ir.size(axis.extent) - ir.axis(c) * band)
    first, second = [], {}
    for s in folds:
        partial = Buffer(s.expr.dtype, (count, *(a.extent for a in lanes)), "part", "partial")
        place = ir.axis(c) * ir.size(width)
        for a in lanes:  # one at most
            place = place + ir.axis(a)
        expr = ir.substitute(s.expr, {axis: ir.axis(c) * band + ir.axis(r)})
        first.append(Stage(partial, (c, *lanes, r, *s.reduced[1:]), (place,), expr, s.combine, (r, *s.reduced[1:]), ops=s.ops))
        load = ir.make("at", (ir.substitute(place, {c: ir.axis(last)}),), s.expr.dtype, partial)
        second[s] = replace(s, axes=(*lanes, last), expr=load, reduced=(last,))
    early, late = _cut([second.get(s, s) for s in kernel.stages], kernel)
    parts = tuple(s.target for s in first)
    out = [_of_stages(kernel, kernel.name + "_bands", first, (c, *lanes), parts)]
    out.append(_of_stages(kernel, kernel.name, early, kernel.outer, parts))
    return [*out, *(split(_of_stages(kernel, kernel.name + "_after", late, kernel.outer)) if late else ())]


def _of_stages(kernel: Kernel, name: str, stages: Sequence[Stage], outer: tuple[Axis, ...], parts: Sequence[Buffer] = ()) -> Kernel:
    found = {e.data for s in stages for e in ir.walk(s.expr, *s.index) if e.op == "at"} | {s.target for s in stages}
    known = dict.fromkeys([*kernel.buffers, *parts, *(s.target for s in kernel.stages), *(b for b in found if b.role == "part")])
    return Kernel(name, tuple(b for b in known if b in found), tuple(stages), outer)


def _cut(stages: Sequence[Stage], kernel: Kernel) -> tuple[list[Stage], list[Stage]]:
    """The stages up to the next long fold, and those that wait for it; what passes between them goes through memory."""
    late: list[Stage] = []
    waiting: set[Buffer] = set()
    for s in stages:
        long = s in kernel.stages and bool(s.combine) and any(a not in kernel.outer for a in s.axes)
        if long or any(e.op == "at" and e.data in waiting for e in ir.walk(s.expr, *s.index)):
            late.append(s)
            waiting.add(s.target)
    early = [s for s in stages if s not in late]
    read = {e.data for s in late for e in ir.walk(s.expr) if e.op == "at"}
    stored = {s.target: Buffer(s.target.dtype, s.target.sizes, "part", "between") for s in early
              if s.target.role == "tmp" and s.target in read}

    def moved(s: Stage) -> Stage:
        def change(e: Expr, args: tuple[Expr, ...]) -> Expr:
            return ir.make("at", args, e.dtype, stored[e.data]) if e.op == "at" and e.data in stored else ir.rebuilt(e, args)
        return replace(s, target=stored.get(s.target, s.target), expr=ir.rewrite(s.expr, change))
    return [moved(s) for s in early], [moved(s) for s in late]
