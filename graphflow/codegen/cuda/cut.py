"""How a kernel is cut into launches, and who takes what: a thread, a team of threads, neighbouring columns.

What has no outer axes is cut into kernels that have; long folds with few results are cut into pieces.  Knows Kernel IR and sizes; knows
no spelling (rank 4).
"""
from __future__ import annotations

from dataclasses import replace
from typing import Mapping, Sequence

from ... import types
from .. import ir, schedule, simplify
from ..ir import Axis, Buffer, Expr, Kernel, Stage
from ..schedule import inner_axes, scatters

THREADS = 256
WARP = 32
TOGETHER = 1 << 13  # elements of work up to which one block runs all stages of a kernel without outer axes
PIECE = 1 << 13  # elements of a large fold that one block folds
SHORT = 16  # elements of inner work up to which a thread takes a whole row
BUSY = 1 << 16  # threads that keep a GPU busy
BLOCKS = 264  # blocks that do: two for each processor
MANY_ROWS = 1 << 14  # from which a thread scans a row alone
BAND = 16  # rows that a thread folds, at least, where folds across rows are cut


def settled(kernel: Kernel) -> Kernel:
    """Values that live for one row but are no single number go to memory."""
    def lives(s: Stage) -> bool:
        return s.target.role == "tmp" and any(a not in s.reduced for a in inner_axes(s, kernel))

    moved = {s.target: Buffer(s.target.dtype, s.target.sizes, "part", "between") for s in kernel.stages if lives(s)}
    return _renamed(kernel, moved) if moved else kernel


def _renamed(kernel: Kernel, moved: Mapping[Buffer, Buffer]) -> Kernel:
    def change(e: Expr, args: tuple[Expr, ...]) -> Expr:
        return ir.make("at", args, e.dtype, moved[e.data]) if e.op == "at" and e.data in moved else ir.rebuilt(e, args)

    stages = tuple(replace(s, target=moved.get(s.target, s.target), expr=ir.rewrite(s.expr, change),
                           index=tuple(ir.rewrite(i, change) for i in s.index),
                           init=None if s.init is None else ir.rewrite(s.init, change)) for s in kernel.stages)
    return replace(kernel, stages=stages, buffers=(*(moved.get(b, b) for b in kernel.buffers),
                                                   *(b for b in moved.values() if b not in kernel.buffers)))


def cut(kernel: Kernel) -> list[Kernel]:
    """Kernels whose outer axes have work for many threads, or that are small enough for one block."""
    if kernel.outer:
        return _bands(kernel)
    if not kernel.stages or _small(kernel):
        return [kernel]
    folds = schedule._column_folds(kernel)
    if folds and count(folds[0].axes) > 4 * PIECE:
        if count(folds[0].reduced[1:]) > PIECE:
            kernel, folds = _flattened(kernel, folds)
        if (rest := count(folds[0].reduced[1:])) <= PIECE:
            return [k for part in schedule._in_bands(kernel, folds, folds[0].reduced[0], max(PIECE // rest, 1)) for k in cut(part)]
    out: list[Kernel] = []
    for stages in _runs(_shared(kernel)):
        out += _alone(kernel, stages)
    return out


def _flattened(kernel: Kernel, folds: Sequence[Stage]) -> tuple[Kernel, list[Stage]]:
    """The same folds along one axis, so that pieces may begin and end anywhere; as given where data bound an axis."""
    axes = folds[0].reduced
    if any(a.bound is not None for a in axes):
        return kernel, list(folds)
    one = Axis(types.product(a.extent for a in axes))
    place, swap = ir.axis(one), {}
    for a in reversed(axes):
        swap[a] = ir.make("mod", (place, ir.size(a.extent)), types.int64) if a is not axes[0] else place
        place = ir.make("floordiv", (place, ir.size(a.extent)), types.int64)

    def change(e: Expr, args: tuple[Expr, ...]) -> Expr:
        return ir.make("at", (simplify.affine(args[0]).expr(),), e.dtype, e.data) if e.op == "at" else ir.rebuilt(e, args)

    flat = {s: replace(s, axes=(one,), reduced=(one,), expr=ir.rewrite(ir.substitute(s.expr, swap), change)) for s in folds}
    return replace(kernel, stages=tuple(flat.get(s, s) for s in kernel.stages)), list(flat.values())


def _small(kernel: Kernel) -> bool:
    """Whether one block runs all stages, one after the other."""
    serial = any(scatters(s) or s.scan is not None for s in kernel.stages)
    pointwise = len(kernel.stages) == 1 and not kernel.stages[0].combine
    return not serial and not pointwise and sum(count(s.axes) for s in kernel.stages) <= TOGETHER


def count(axes: Sequence[Axis]) -> int:
    found = types.hint(types.product(a.extent for a in axes))
    return 1 << 40 if found is None else found


def _shared(kernel: Kernel) -> list[Stage]:
    """The stages, with memory for what passes between them."""
    moved = {s.target: Buffer(s.target.dtype, s.target.sizes, "part", "between") for s in kernel.stages if s.target.role == "tmp"}
    return list(_renamed(kernel, moved).stages)


def _runs(stages: Sequence[Stage]) -> list[list[Stage]]:
    """Neighbouring stages that are computed at the same points and read only their own point of each other."""
    out: list[list[Stage]] = []
    for s in stages:
        last = out[-1] if out else []
        own = {t.target: t.index[0] for t in last}
        alike = bool(last) and last[0].axes == s.axes and not any(t.combine or t.scan for t in (*last, s))
        reads = [e for e in ir.walk(s.expr, *s.index) if e.op == "at" and e.data in own]
        if alike and s.target not in own and all(e.args[0] is own[e.data] for e in reads) and not _reads_any(last, s.target):
            last.append(s)
        else:
            out.append([s])
    return out


def _reads_any(stages: Sequence[Stage], b: Buffer) -> bool:
    return any(e.op == "at" and e.data is b for s in stages for e in ir.walk(s.expr, *s.index))


def _alone(kernel: Kernel, stages: Sequence[Stage]) -> list[Kernel]:
    """Some stages as kernels of their own: what is not folded becomes outer."""
    s = stages[0]
    if scatters(s) or s.combine == "set":
        return [schedule._of_stages(kernel, kernel.name, stages, ())]
    kept = tuple(a for a in s.axes if a not in s.reduced and a is not s.scan)
    return _bands(schedule._of_stages(kernel, kernel.name, stages, kept))


def _bands(kernel: Kernel) -> list[Kernel]:
    """Folds across many rows of few columns are cut into bands of rows, then combined."""
    if len(kernel.outer) != 1 or kernel.outer[0].bound is not None or not (folds := schedule._column_folds(kernel)):
        return [kernel]
    if any(s.target.role == "part" and s.target.label == "partial" for s in kernel.stages):
        return [kernel]
    points, first, rest = count(kernel.outer), folds[0].reduced[0], max(count(folds[0].reduced[1:]), 1)
    if first.bound is not None or points * 4 > BUSY:
        return [kernel]
    long = types.hint(first.extent) or 0
    if by_columns(kernel):
        width = column_width(kernel)
        least, blocks = -(-BAND * THREADS // width // rest), points // width
    else:
        again = any(inner_axes(s, kernel) and s not in folds for s in kernel.stages)  # then cut rows are read once more, and again
        if not by_thread(kernel) and (long * rest < 8 * PIECE or again and points * 5 > BLOCKS):
            return [kernel]
        least, blocks = max((BAND if by_thread(kernel) else PIECE) // rest, 1), points // THREADS if by_thread(kernel) else points
    band = max(least, -(-long * max(blocks, 1) // BLOCKS))
    return [kernel] if long <= 2 * band else schedule._in_bands(kernel, folds, first, band)


def by_thread(kernel: Kernel) -> bool:
    """Whether one thread takes an outer point: loads run along the outer axes, or there is little to do inside."""
    inside = inside_of(kernel)
    if not kernel.outer or any(scatters(s) for s in kernel.stages):
        return bool(kernel.outer)
    if any(s.scan is not None for s in kernel.stages):
        return count(kernel.outer) >= MANY_ROWS or len(kernel.stages) > 1
    return inside <= SHORT or _across(kernel) and not by_columns(kernel)


def by_columns(kernel: Kernel) -> bool:
    """Whether a block takes some neighbouring outer points, and its threads share what is inside: loads run along the outer axes."""
    if not kernel.outer or any(scatters(s) for s in kernel.stages) or not _across(kernel):
        return False
    if any(s.scan is not None for s in kernel.stages):
        return len(kernel.stages) == 1 and count(kernel.outer) < MANY_ROWS
    return inside_of(kernel) > SHORT and count(kernel.outer) < BUSY and not any(
        a.bound is not None and ir.axes_in(a.bound) & {kernel.outer[-1]} for s in kernel.stages for a in inner_axes(s, kernel))


def inside_of(kernel: Kernel) -> int:
    return max((count(inner_axes(s, kernel)) for s in kernel.stages), default=1)


def _across(kernel: Kernel) -> bool:
    """Whether what is loaded and stored inside runs along the last outer axis rather than along the innermost ones."""
    last, across, along = kernel.outer[-1], 0, 0
    for s in kernel.stages:
        inner = inner_axes(s, kernel)
        if not inner:
            continue
        places = [e.args[0] for e in ir.walk(s.expr) if e.op == "at"] + ([] if s.combine else [s.index[0]])
        for place in places:
            if ir.axes_in(place) & set(inner):
                across += simplify.stride(place, last) == 1
                along += simplify.stride(place, inner[-1]) == 1
    if across == along:
        return count(kernel.outer) > BUSY if across else schedule._lane_is_vector(kernel)
    return across > along


def column_width(kernel: Kernel) -> int:
    """Neighbouring outer points that a block takes: a warp's, or as many as lie side by side."""
    return min(WARP, 1 << (max(count(kernel.outer[-1:]), 1) - 1).bit_length())
