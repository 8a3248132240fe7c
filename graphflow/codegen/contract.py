"""Contractions: sums of products over shared axes, by generated matrix multiplication.

Every contraction arrives in one form, a fold `sum over r of a(i, r) * b(r, j)`: matrix products, convolutions and both of
their gradients alike.  A task takes some rows and columns of the result; it packs blocks of `a` straight from the expression
that defines them (implicit GEMM: no image-to-column array exists), multiplies them with panels of `b` by a block kernel
(blocks.py), and runs the ops that follow (bias, activation, residual, row statistics) on the result while it is in cache.
Tasks depend on the sizes alone, so that any number of threads gives the same bits.  Knows Kernel IR; knows no op by name (rank 4).
"""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Collection, Mapping, Sequence

from .. import types
from ..graph import Operation, Tensor
from ..ops.pull import Pull, is_moved, is_uniform
from ..types import DType, Size
from . import blocks, direct, image, ir, schedule, simplify, tune
from .emit_cpu import Emitted
from .ir import Axis, Buffer, Expr, Kernel, Stage
from .text import Text
from .tune import Cut

# Below this many multiplications the general loop generator is faster than packing.
SMALL = 1 << 13
DEPTH = 384  # products per pass over a tile: its part of a panel and of a block stays in first-level cache
PITCH = DEPTH + 16  # between the rows of a packed block: not a power of two, so that rows do not share cache sets
TILES = 4  # register tiles of rows in a task
COLUMNS = 512  # columns in a task: their part of the panels stays in second-level cache
STRIPES = 8  # register tiles of rows in a task whose operand is stored column by column
TASKS = 8  # cut finer below so many tasks, so that every core gets some
IN_PLACE = 1 << 17  # bytes up to which an operand that is a matrix already is not packed into panels
SHORT = 16  # a run of fewer elements is joined with the next axis where memory allows


@dataclass
class Operand:
    """One factor as a matrix: `outer` axes by `reduced` axes, for each of `batch`."""

    expr: Expr
    batch: list[Axis]
    outer: list[Axis]
    reduced: list[Axis]


@dataclass
class Product:
    """A contraction as batched C[b, i, j] = sum_r A[b, i, r] B[b, r, j], summed in `dtype`."""

    a: Operand
    b: Operand
    batch: list[Axis]
    dtype: DType

    @property
    def sizes(self) -> tuple[Size, Size, Size, Size]:
        """Of batch, rows, columns and the sum."""
        return (_extent(self.batch), _extent(self.a.outer), _extent(self.b.outer), _extent(self.a.reduced))


def _extent(axes: Sequence[Axis]) -> Size:
    return types.product(a.extent for a in axes)


def _hint(n: Size) -> int:
    found = types.hint(n)
    return 1 if found is None else found


# ---------------------------------------------------------------- recognition

SUMS = ("f32", "f64", "i32", "i64")


def product(op: Operation, leaf) -> Product | None:
    """The op's fold as a matrix product, or None when it is not one."""
    out = op.outputs[0]
    if out.dtype.compute.code not in SUMS or op.opdef.family != "contraction" or op.opdef._fold is None:
        return None
    axes = [Axis(s) for s in out.sizes or ()]
    index = [ir.index_const(0) if types.same(a.extent, 1) else ir.axis(a) for a in axes]
    fold = Pull(leaf).fold(op, index)
    if fold.combine != "add" or fold.init is not None or fold.expr.op != "mul":
        return None
    live = [a for a in axes if not types.same(a.extent, 1)]
    reduced = [a for a in fold.axes if not types.same(a.extent, 1)]
    drop = {a: ir.index_const(0) for a in fold.axes if types.same(a.extent, 1)}
    x, y = (ir.substitute(e, drop) for e in fold.expr.args)
    in_x, in_y = ir.axes_in(x), ir.axes_in(y)
    for lead in range(len(live) + 1):  # a batch axis is one of both operands, or one along which the other is broadcast
        batch, rest = live[:lead], live[lead:]
        rows, columns = [a for a in rest if a in in_x], [a for a in rest if a in in_y]
        if rest == rows + columns or rest == columns + rows:
            break
    if rest != rows + columns:
        x, y, rows, columns = y, x, columns, rows
    if set(reduced) - (in_x & in_y) or not reduced:
        return None
    return Product(Operand(x, batch, rows, reduced), Operand(y, batch, columns, reduced), batch, out.dtype.compute)


def engine(op: Operation) -> str | None:
    """ "contraction" for an op that this module computes, None for one left to the general generator."""
    if op.opdef.family != "contraction":
        return None
    p = product(op, lambda t, index: None if _looked_through(t) else ir.make("load", index, t.dtype.compute, t))
    if p is None:
        return None
    _, m, n, k = map(_hint, p.sizes)
    large = n >= 2 and k >= 4 and (m >= 2 or n >= 32 and k >= 32)
    return "contraction" if m * n * k > SMALL and large else None


def _looked_through(t: Tensor) -> bool:
    """Whether packing reads what `t` is made of: it only moves or widens elements, or makes them of nothing."""
    d = t.op.opdef
    return is_uniform(t) or d._lower is not None and d._fold is None and d._scatter is None and (is_moved(t.op) or not t.op.inputs)


# ---------------------------------------------------------------- kernels


def kernels(name: str, op: Operation, stored: Mapping[Tensor, Buffer], then: Kernel | None = None,
            result: Buffer | None = None, alias: Mapping[Buffer, Buffer] | None = None,
            fixed: Collection[Buffer] = ()) -> list[Kernel | Emitted]:
    """Panels of the right operand where it needs them, then the product.

    then: a linear kernel over rows that reads `result`, the product's value at the same place, and runs on each block.
    alias: outputs of `then` that lie in the memory of one of its operands.
    fixed: buffers that stay the same for many steps: what is packed from them is packed once.
    """
    def leaf(t: Tensor, index: tuple[Expr, ...]) -> Expr | None:
        b = stored.get(t)
        return None if b is None else ir.load(b, index)

    p = product(op, leaf)
    assert p is not None
    return _strided(name, p, stored.get(op.outputs[0]), then, result) or \
        _Multiply(name, p, stored.get(op.outputs[0]), then, result, alias or {}, fixed).made()


def _strided(name: str, p: Product, out: Buffer | None, then: Kernel | None, result: Buffer | None) -> list[Kernel | Emitted] | None:
    """A gradient through strided windows, as one product for each remainder of the output's position."""
    found = None if p.batch else image.phases(p.a.expr, p.a.outer, p.a.reduced)
    if found is None or len(p.a.outer) > 3 or (out is not None and out.dtype is not p.dtype):
        return None
    c = out if out is not None else result
    assert c is not None
    made: list[Kernel | Emitted] = []
    columns = _extent(p.b.outer)
    for number, phase in enumerate(found):
        steps = []
        step = columns
        for a in reversed(p.a.outer):
            steps.insert(0, step)
            step = step * a.extent
        start: Size = sum((s * at for s, at in zip(steps, phase.start)), 0)
        strides = [s * by for s, by in zip(steps, phase.step)]
        if phase.empty:
            made.append(_zeros(f"{name}_zero{number}", c, start, [*zip(phase.outer, strides)], p.b.outer))
            continue
        left = Operand(image.in_phase(p.a.expr, phase), [], list(phase.outer), list(phase.reduced))
        right = Operand(image.in_phase(p.b.expr, phase), [], p.b.outer, list(phase.reduced))
        stride, pitch, across = [0, 0, 0, *strides][-3:]
        one = _Multiply(f"{name}_{number}", Product(left, right, [], p.dtype), c, None, None, {})
        if not one.at_places(direct.Place(start, stride, pitch, across)):
            return None
        made += one.made()
    return made if then is None else [*made, then]


def _zeros(name: str, c: Buffer, start: Size, places: Sequence[tuple[Axis, Size]], columns: Sequence[Axis]) -> Kernel:
    j = Axis(_extent(columns))
    offset = ir.size(start) + ir.axis(j)
    for a, step in places:
        offset = offset + ir.axis(a) * ir.size(step)
    axes = (*[a for a, _ in places], j)
    return Kernel(name, (c,), (Stage(c, axes, (simplify.affine(offset).expr(),), ir.const(0, c.dtype)),), axes)


class _Source:
    """An operand as it is read in memory order: loops over `slow`, then `fast`, with neighbouring axes merged."""

    def __init__(self, expr: Expr, slow: Sequence[Axis], fast: Sequence[Axis], dtype: DType):
        axes = (*slow, *fast)
        target = Buffer(expr.dtype, tuple(a.extent for a in axes), "part")
        stage = Stage(target, axes, tuple(map(ir.axis, axes)), expr)
        k = simplify.linear(Kernel("", (target,), (stage,), tuple(slow)))
        self.slow, self.expr = list(k.outer), k.stages[0].expr
        self.fast = [a for a in k.stages[0].axes if a not in k.outer]
        self.conditions: list[Expr] = []
        self.run: list[Axis] = self.fast[-1:]  # the axes copied at once
        e = self.expr
        while e.op == "select" and e.args[2].op == "const" and e.args[2].data == 0:
            self.conditions += image.conjuncts(e.args[0])
            e = e.args[1]
        self.load: Expr | None = e if e.op == "at" and e.data.dtype is dtype and self.fast else None
        if self.load is not None:
            self._choose_run()

    def _choose_run(self) -> None:
        """The last axes of `fast`, if memory runs along them; `load` is None where it does not."""
        assert self.load is not None
        offset = image.unclamped(self.load.args[0], self.conditions)
        last = self.fast[-1]
        if simplify.stride(offset, last) != 1:
            self.load = None
            return
        conditional = any(last in ir.axes_in(c) for c in self.conditions)
        before = self.fast[-2] if len(self.fast) > 1 else None
        if (before is not None and not conditional and isinstance(last.extent, int) and last.extent < SHORT
                and isinstance(before.extent, int) and simplify.stride(offset, before) == last.extent
                and before.extent * last.extent <= DEPTH // 4):
            self.run = [before, last]
        elif conditional and not (isinstance(last.extent, int) and last.extent <= DEPTH // 4):
            self.load = None
        elif not conditional and last in ir.axes_in(self.load.args[0]) and simplify.stride(self.load.args[0], last) != 1:
            self.load = None  # clamped along the run without a condition

    @property
    def taps(self) -> list[Axis]:
        return self.fast[:len(self.fast) - len(self.run)]


@dataclass
class _Chunks:
    """The positions of `fast` axes cut into parts of at most `limit`: whole runs, or pieces of one run."""

    run: Size
    taps: Size
    per: Size  # runs in a chunk
    pieces: Size  # chunks in a run
    length: Size  # elements of a piece
    count: Size


def _chunks(s: _Source, limit: int) -> _Chunks:
    run, taps = _extent(s.run), _extent(s.taps)
    pieces = types.opaque("max", types.ceildiv(run, limit), 1)
    length = types.ceildiv(run, pieces)
    per: Size
    if isinstance(run, int) and isinstance(taps, int):
        per = max(limit // max(run, 1), 1) if taps > 1 else 1
        if taps > 1:
            per = -(-taps // -(-taps // per)) if taps else 1
    else:
        per = 1 if types.same(taps, 1) else types.opaque("max", types.floordiv(limit, types.opaque("max", run, 1)), 1)
    return _Chunks(run, taps, per, pieces, length, types.ceildiv(taps, per) * pieces)


class _Multiply:
    """One product as kernels."""

    def __init__(self, name: str, p: Product, out: Buffer | None, then: Kernel | None, result: Buffer | None,
                 alias: Mapping[Buffer, Buffer], fixed: Collection[Buffer] = ()):
        self.fixed = fixed
        self.name, self.p, self.out, self.then, self.result, self.alias = name, p, out, then, result, dict(alias)
        self.kind = p.dtype.code
        self.shape = blocks.shape(self.kind)
        self.batch, self.m, self.n, self.k = p.sizes
        (p.a.expr, p.b.expr), reduced = image.ascending([p.a.expr, p.b.expr], p.a.reduced)
        p.a.reduced, p.b.reduced = reduced, reduced
        self.by_rows = not _runs_along_outer(p.a)
        slow, fast = (p.a.outer, p.a.reduced) if self.by_rows else (p.a.reduced, p.a.outer)
        self.left = _Source(p.a.expr, slow, fast, p.dtype)
        self.rows: direct.Rows | None = None
        self.taps: direct.Taps | None = None
        self.before: list[Kernel | Emitted] = []
        self.after: list[Kernel | Emitted] = []

    def made(self, cut: Cut | None = None) -> list[Kernel | Emitted]:
        self._right()
        self._cut(cut)
        self._target()
        return [*self.before, self._product(), *self.after]

    # -- the right operand: in place, or panels

    def _right(self) -> None:
        """Where B lies: buffer, offset over the batch, steps between rows and between panels."""
        found = _matrix(self.p.b, self.p.dtype)
        width = self.shape.width
        if found is not None and self._stays(found[2]):
            self.b, self.b_at, self.ldb = found
            self.panel: Size = width
            self.b_columns: Size = 1
            self.whole = isinstance(self.n, int) and self.n % self.shape.lanes == 0
            return
        self.b = Buffer(self.p.dtype, (self.batch, types.ceildiv(self.n, width), self.k, width), "part", "panels")
        self.ldb, self.panel, self.whole = width, self.k * width, True
        self.b_at, self.b_columns = None, self.k  # column j of a panel's start is j * k further on
        self.before.append(self._panels())

    def _stays(self, step: Size) -> bool:
        """Packing does not pay for small matrices, dense narrow ones, and few rows, unless it is done once for many steps."""
        nbytes = _hint(self.k) * _hint(self.n) * self.p.dtype.size
        if nbytes > IN_PLACE >> 3 and all(e.data in self.fixed for e in ir.loads(self.p.b.expr)):
            return False
        return nbytes <= IN_PLACE or _hint(step) * self.p.dtype.size <= 512 or _hint(self.m) <= self.shape.rows

    def _panels(self) -> Emitted:
        """B as panels [batch, panel, k, width]; columns past the last one are zero, since what lies in memory may be slow to multiply."""
        p, b, width = self.p, self.p.b, self.shape.width
        across = _Source(b.expr, b.reduced, b.outer, p.dtype)
        down = _Source(b.expr, b.outer, b.reduced, p.dtype)
        loads = list(dict.fromkeys(e.data for e in ir.walk(across.expr) if e.op == "at"))
        e = Text(f"panels_{self.kind}", [*loads, self.b])
        w = p.dtype.size
        turned = across.load is None and down.load is not None and len(down.run) == 1 and _step(down) is not None
        panels = types.ceildiv(self.n, width)
        # A task copies a few rows into several panels: it reads long pieces, and touches few pages.
        deep, wide = (self.k, 1) if turned else (16, 16)
        parts, groups = 1 if turned else types.ceildiv(self.k, deep), types.ceildiv(panels, wide)
        e.open("for o in range(lo, hi):")
        e.line(f"part = o % {e.size(parts)}")
        e.line(f"g = o // {e.size(parts)} % {e.size(groups)}")
        e.line(f"b = o // {e.size(parts)} // {e.size(groups)}")
        e.unflatten(p.batch, "b")
        e.open(f"for p in range(g * {wide}, min((g + 1) * {wide}, {e.size(panels)})):")
        e.line(f"j = p * {width}")
        e.line(f"cols = min({width}, {e.size(self.n)} - j)")
        e.line(f"to = advance(p{e.scope[self.b]}, (b * {e.size(panels)} + p) * {e.size(self.k)} * {width * w})")
        first, count = "0", e.size(self.k)
        if not turned:
            first, count = f"part * {deep}", f"(min(part * {deep} + {deep}, {count}) - part * {deep})"
        e.open(f"if cols < {width}:")
        e.line(f"zero_{self.kind}(advance(to, {first} * {width * w}), {count} * {width})")
        e.close()
        if turned:
            self._turned(e, down, w)
        else:
            e.line(f"r0 = part * {deep}")
            lines = e.counting(across.slow, "r", "r0", f"min(r0 + {deep}, {e.size(self.k)})")
            if across.load is not None and len(across.fast) == 1 and not any(across.fast[0] in ir.axes_in(c) for c in across.conditions):
                where = across.load
                self._copy(e, across, f"advance(to, r * {width * w})", lambda: e.at(where.args[0], across.fast[0], "j"), "cols")
            else:
                e.open("for i in range(cols):")
                e.line("ji = j + i")
                e.unflatten(across.fast, "ji")
                e.line(f"st_{self.kind}(to, r * {width} + i, {e.value(across.expr)}, 63)")
                e.close()
            e.end(lines)
        e.close()
        e.close()
        return e.finish(self.batch * groups * parts, deep * wide * width, [self.b])

    def _turned(self, e: Text, s: _Source, w: int) -> None:
        """B is stored column by column: squares of vectors are transposed in registers."""
        width, run = self.shape.width, s.run[0]
        lines = e.counting(s.taps, "t", "0", e.size(_extent(s.taps)))
        assert s.load is not None
        e.line(f"row = advance(to, t * {e.size(run.extent)} * {width * w})")
        at_j = ir.substitute(s.load.args[0], {run: ir.index_const(0)})
        e.line("zero = 0")
        source = self._guarded(e, s, lambda: e.at(at_j, s.slow[0], "j") if s.slow else e.value(at_j))
        n = e.size(run.extent)
        turn = e.call(blocks.transpose(self.kind))
        call = f"call_transpose({turn}, row, advance(p{e.scope[s.load.data]}, {{0}} * {w}), cols, {n}, {width}, " \
               f"{e.size(_step(s) or 0)})"
        if source[0]:
            e.line(f"if {source[0]}:")
            e.line("    " + call.format(source[1]))
            e.line("else:")
            e.line(f"    zero_{self.kind}(row, {n} * {width})")
        else:
            e.line(call.format(source[1]))
        e.end(lines)

    def _guarded(self, e: Text, s: _Source, offset) -> tuple[str, str]:
        """(condition or "", offset) as names."""
        conditions = [e.value(c) for c in s.conditions]
        return " and ".join(conditions), offset()

    def _copy(self, e: Text, s: _Source, to: str, offset, count: str) -> None:
        """A run of elements, or zeros where a condition fails."""
        assert s.load is not None
        condition, where = self._guarded(e, s, offset)
        copy = f"copy_{self.kind}({to}, advance(p{e.scope[s.load.data]}, {where} * {self.p.dtype.size}), {count})"
        if not condition:
            e.line(copy)
            return
        e.line(f"if {condition}:")
        e.line("    " + copy)
        e.line("else:")
        e.line(f"    zero_{self.kind}({to}, {count})")

    # -- tasks

    def _cut(self, cut: Cut | None = None) -> None:
        """Blocks of rows, groups of columns and parts of the sum, by sizes alone."""
        # What follows needs whole rows if it folds them, or stores one value a row.
        whole = self.then is not None and any(t.combine or not schedule.inner_axes(t, self.then) for t in self.then.stages)
        left = self.left
        self.tiled = left.load is not None and not left.taps and not any(set(left.run) & ir.axes_in(c) for c in left.conditions)
        self.window = self._window()
        if cut is None:
            candidates = sorted(self._cuts(whole), key=self._cost)
            cut = candidates[0] if self.rows else tune.choose(self._key(whole), candidates, self._tried)
        self.columns: Size = self.n if cut.columns >= _hint(self.n) else cut.columns
        self.groups: Size = 1 if self.columns is self.n else types.ceildiv(self.n, self.columns)
        self.parts = cut.parts
        if self.by_rows:
            self.tiles = types.ceildiv(self.m, self.shape.rows)
            self.blocks = types.ceildiv(self.tiles, cut.tiles)
            self.steps = _chunks(left, DEPTH)
        else:
            self.chunks = _chunks(left, cut.tiles * self.shape.rows if self.tiled else 96)
            self.blocks = self.chunks.count
        if cut.slab and self.window is not None and self.rows is None:
            if self.by_rows:
                self.rows = direct.Rows(self.window, TASKS, self.n, slab=cut.slab)
            else:
                self.taps = direct.Taps(self.window, self, TASKS, cut.slab)
                self.parts = self.taps.parts

    def _cuts(self, whole: bool) -> list[Cut]:
        """All ways that are worth a thought."""
        s, n, steps = self.shape, _hint(self.n), -(-_hint(self.k) // DEPTH)
        columns = [n] if whole else [n, *[c for c in (512, 256, 128, 64) if c < n and c % s.width == 0]]
        if max(columns) > 2 * COLUMNS and not whole:
            columns.remove(n)
        if self.window is not None:
            few = [c for c in columns if c == max(columns) or _hint(self.window.images) * _hint(self.window.counts[0]) < TASKS]
            return [Cut(1, c, 1, slab) for c in few for slab in (direct.SLAB, direct.SLAB // 2, direct.SLAB * 2)]
        tiles = range(1, TILES + 1) if self.by_rows else (STRIPES, STRIPES // 2, STRIPES // 4) if self.tiled else (STRIPES,)
        parts = [1] if steps < 4 else [p for p in (1, 2, 4, 8, 16) if p <= steps // 2]
        return [Cut(t, c, p) for t in tiles for c in columns for p in parts]

    def _cost(self, cut: Cut) -> float:
        """An estimate in cycles of one core, made longer where tasks are too few for several."""
        s, size = self.shape, self.p.dtype.size
        batch, m, n, k = (max(1, _hint(x)) for x in self.p.sizes)
        products = batch * m * (-(-n // s.lanes) * s.lanes) * k / (2 * s.lanes)
        if cut.slab:
            return abs(cut.slab - direct.SLAB) + products * (1 if cut.columns >= n else 1.01)
        rows = cut.tiles * s.rows if self.by_rows or self.tiled else 96
        blocks_, groups = -(-m // rows), -(-n // cut.columns)
        right = batch * blocks_ * k * n * size / (24 if k * n * size < 1 << 20 else 6)
        left = batch * groups * m * k * size / 8
        sums = batch * m * n * size / 8 * (-(-k // DEPTH) + (2 * cut.parts if cut.parts > 1 else 0))
        tasks = batch * blocks_ * groups * cut.parts
        broken = batch * m * n * size / 4 if groups > 1 and self.then is not None else 0  # what follows reads and writes short pieces
        uneven = 1 + max(0, TASKS - tasks) / TASKS if products + right / 2 > 1 << 16 else 1
        return (products + right / 2 + left + sums + broken) * uneven + 500 * tasks

    def _key(self, whole: bool) -> str:
        form = "rows" if self.by_rows else "tiles" if self.tiled else "cols"
        numbers = [*map(_hint, self.p.sizes), int(whole)]
        if self.window is not None:
            w = self.window
            form = f"image {form}"
            numbers += [_hint(w.images), *map(_hint, w.counts), *w.kernel, w.channels, w.down.step, w.across.step, w.down.spread]
        return f"{self.kind} {form} {numbers}"

    def _tried(self, cut: Cut) -> list[Kernel | Emitted]:
        """The bare product cut this way, for the clock."""
        out = Buffer(self.p.dtype, self.p.sizes, "out", "tried")
        again = Product(replace(self.p.a), replace(self.p.b), self.p.batch, self.p.dtype)
        return _Multiply(self.name, again, out, None, None, {}, self.fixed).made(cut)

    def _window(self) -> image.Window | None:
        """The image over which the left operand slides, if it is better read from there."""
        a = self.p.a
        places, taps = (a.outer, a.reduced) if self.by_rows else (a.reduced, a.outer)
        w = None if self.p.batch or self.rows else image.Window.of(a.expr, places, taps, self.p.dtype)
        good = w is not None and (direct.fits_rows(w) if self.by_rows else self.b_at is not None and direct.fits_taps(w))
        return w if good else None

    def at_places(self, place: direct.Place) -> bool:
        """Whether the product can put its rows at these places; from then on it does."""
        if not self.by_rows or self.p.batch or not self.p.a.reduced:
            return False
        w = image.Window.of(self.p.a.expr, self.p.a.outer, self.p.a.reduced, self.p.dtype)
        if w is None or not direct.possible(w):
            return False
        self.rows = direct.Rows(w, TASKS, self.n, place)
        return True

    # -- where the sums go

    def _target(self) -> None:
        """C is the result itself, the place of an output that replaces it, partial sums, or a part that nothing else sees."""
        then, out = self.then, self.out
        sizes = (self.batch, self.m, self.n)
        if out is not None and out.dtype is not self.p.dtype or self.parts != 1:
            total = self.result if self.result is not None and out is None else out
            assert total is not None
            lead = () if self.parts == 1 else (self.parts,)
            self.c = Buffer(self.p.dtype, (*lead, *sizes), "part", "sums")
            self.after = [_total(self.name, self.c, total, self.parts, types.product(sizes))]
            if then is not None:
                self.after.append(then)
            self.then = None
        elif out is not None:
            self.c = out
        else:
            assert then is not None and self.result is not None
            free = _replaced(then, self.result, self.alias)
            self.c = self.result
            if free is not None:
                self.alias[self.result], self.c = free, free

    # -- the product

    def _product(self) -> Emitted:
        then = self.then
        loads = list(dict.fromkeys(e.data for e in ir.walk(self.left.expr) if e.op == "at"))
        buffers = [*loads, self.b, *(then.buffers if then else ()), self.c]
        e = Text(f"product_{self.kind}", [b for b in buffers if b.role != "tmp"], then, self.alias)
        self.c_place = self.alias.get(self.c, self.c)
        tasks = self._image_tasks(e) if self.rows or self.taps else self._packed_tasks(e)
        flops = 2 * self.batch * self.m * self.n * self.k
        elements = self.batch * (self.m * self.k + self.k * self.n + self.m * self.n)  # what a product of few rows waits for
        work = max(1, max(_hint(flops) // 16, _hint(elements)) // max(1, _hint(tasks)))
        return e.finish(tasks, work, [self.c, *dict.fromkeys(t.target for t in (then.stages if then else ())
                                                             if t.target.role != "tmp" and t.target is not self.c)], flops)

    def _columns(self, e: Text) -> None:
        """Which columns: group g of them, from j on; where their panels begin."""
        e.line(f"j = g * {e.size(self.columns)}")
        e.line(f"cols = min({e.size(self.columns)}, {e.size(self.n)} - j)")
        width = self.shape.width
        where = f"b * {e.size(types.ceildiv(self.n, width) * width * self.k)}" if self.b_at is None else e.value(self.b_at)
        e.line(f"right = advance(p{e.scope[self.b]}, ({where} + j * {e.size(self.b_columns)}) * {self.p.dtype.size})")

    def _image_tasks(self, e: Text) -> Size:
        """Tasks that read the image directly."""
        form = self.rows or self.taps
        assert form is not None
        block = e.call(self.rows.block(self.kind, self.whole) if self.rows else blocks.text(self.kind, None, False, self.whole))
        e.line(f"left = stack_{self.kind}({direct.ROOM})")
        e.open("for o in range(lo, hi):")
        e.line(f"g = o % {e.size(self.groups)}")
        e.line(f"band = o // {e.size(self.groups)}")
        if self.taps:
            e.line("tap = band + 0")
            e.line(f"part = band // {e.size(self.taps.split)}")
        e.line("b = 0")
        self._columns(e)
        form.emit(e, self, block)
        if self.then is not None:
            self._then(e, self.then, "first", "last")
        e.close()
        return (self.rows.tasks if self.rows else self.parts * self.taps.split) * self.groups  # type: ignore[union-attr]

    def _packed_tasks(self, e: Text) -> Size:
        """Tasks that pack blocks of the left operand."""
        p, w = self.p, self.p.dtype.size
        tiled = not self.by_rows and self.tiled
        block = e.call(blocks.text(self.kind, PITCH if self.by_rows else None, tiled, self.whole))
        room = TILES * self.shape.rows * PITCH if self.by_rows else DEPTH * (STRIPES * blocks.LINE if tiled else 96)
        e.line(f"left = stack_{self.kind}({room})")
        e.open("for o in range(lo, hi):")
        e.line(f"g = o % {e.size(self.groups)}")
        e.line(f"rb = o // {e.size(self.groups)} % {e.size(self.blocks)}")
        e.line(f"rest = o // {e.size(self.groups)} // {e.size(self.blocks)}")
        e.line(f"part = rest % {e.size(self.parts)}")
        e.line(f"b = rest // {e.size(self.parts)}")
        e.unflatten(p.batch, "b")
        if self.by_rows:
            e.line(f"top = {e.size(self.m)} * (rb * {e.size(self.tiles)} // {e.size(self.blocks)}) // {e.size(self.tiles)}")
            e.line(f"rows = {e.size(self.m)} * ((rb + 1) * {e.size(self.tiles)} // {e.size(self.blocks)}) // {e.size(self.tiles)} - top")
            steps = self.steps.count
        else:
            self._chunk(e, self.chunks, "rb", "ta", "tb", "ca", "cb")
            e.line(f"top = ta * {e.size(self.chunks.run)} + ca")
            e.line("rows = (tb - ta) * (cb - ca)")
            steps = types.ceildiv(self.k, DEPTH)
        self._columns(e)
        lead = f"(part * {e.size(self.batch)} + b)" if self.parts != 1 else "b"
        e.line(f"c = advance(p{e.scope[self.c_place]}, (({lead} * {e.size(self.m)} + top) * {e.size(self.n)} + j) * {w})")
        count = e.size(steps)
        e.line(f"q0 = part * {count} // {e.size(self.parts)}")
        e.line(f"q1 = (part + 1) * {count} // {e.size(self.parts)}")
        e.open("if q0 == q1:")
        e.open("for x in range(rows):")
        e.line(f"zero_{self.kind}(advance(c, x * {e.size(self.n)} * {w}), cols)")
        e.close()
        e.close()
        e.open("for q in range(q0, q1):")
        if self.by_rows:
            self._chunk(e, self.steps, "q", "ta", "tb", "ca", "cb")
            e.line(f"k0 = ta * {e.size(self.steps.run)} + ca")
            e.line("kc = (tb - ta) * (cb - ca)")
            self._fill(e, "top", "top + rows", PITCH)
        else:
            e.line(f"k0 = q * {DEPTH}")
            e.line(f"kc = min({DEPTH}, {e.size(self.k)} - k0)")
            self._fill_tiles(e) if tiled else self._fill(e, "k0", "k0 + kc", 96)
        e.line(f"call_block({block}, left, advance(right, k0 * {e.size(self.ldb)} * {w}), c, rows, cols, 1, kc, kc * {blocks.LINE}, 96, "
               f"{e.size(self.ldb)}, {e.size(self.panel)}, {e.size(self.n)}, q - q0)")
        e.close()
        if self.then is not None:
            self._then(e, self.then, f"b * {e.size(self.m)} + top", f"b * {e.size(self.m)} + top + rows")
        e.close()
        return self.batch * self.blocks * self.groups * self.parts

    def _chunk(self, e: Text, c: _Chunks, q: str, t0: str, t1: str, c0: str, c1: str) -> None:
        e.line(f"{t0} = {q} // {e.size(c.pieces)} * {e.size(c.per)}")
        e.line(f"{t1} = min({t0} + {e.size(c.per)}, {e.size(c.taps)})")
        e.line(f"{c0} = {q} % {e.size(c.pieces)} * {e.size(c.length)}")
        e.line(f"{c1} = min({c0} + {e.size(c.length)}, {e.size(c.run)})")

    def _fill(self, e: Text, start: str, stop: str, pitch: int) -> None:
        """The block of A: positions start..stop of the slow axes, runs t0..t1 and elements c0..c1 of the fast ones."""
        s, w = self.left, self.p.dtype.size
        slow = e.counting(s.slow, "u", start, stop)
        e.line(f"row = advance(left, (u - {start}) * {pitch * w})")
        taps = e.counting(s.taps, "t", "ta", "tb")
        e.line(f"to = advance(row, (t - ta) * (cb - ca) * {w})")
        conditional = s.load is not None and any(set(s.run) & ir.axes_in(c) for c in s.conditions)
        if s.load is not None and not conditional:
            last, offset = s.run[-1], s.load.args[0]
            self._copy(e, s, "to", lambda: e.at(offset, last, "ca"), "cb - ca")
        else:
            self._inside_or_single(e) if conditional else self._single(e)
        e.end(taps)
        e.end(slow)

    def _fill_tiles(self, e: Text) -> None:
        """The block of A for a "tiles" kernel: each register tile's rows next to each other, a cache line for each k."""
        s, w = self.left, self.p.dtype.size
        assert s.load is not None
        e.line(f"tiles = (rows + {self.shape.rows - 1}) // {self.shape.rows}")
        e.open("for v in range(tiles):")
        e.line("r0 = rows * v // tiles")
        e.line("high = rows * (v + 1) // tiles - r0")
        e.line("r0 = r0 + ca")
        slow = e.counting(s.slow, "u", "k0", "k0 + kc")
        offset, last = s.load.args[0], s.run[-1]
        self._copy(e, s, f"advance(left, (v * kc + u - k0) * {blocks.LINE * w})", lambda: e.at(offset, last, "r0"), "high")
        e.end(slow)
        e.close()

    def _inside_or_single(self, e: Text) -> None:
        """Runs across a border: whole where both ends are inside, else one by one."""
        s, w = self.left, self.p.dtype.size
        assert s.load is not None
        first = {a: ir.index_const(0) for a in s.run}
        last = {a: ir.size(a.extent - 1) for a in s.run}
        ends = dict.fromkeys(ir.substitute(c, place) for c in s.conditions for place in (first, last))
        condition = " and ".join(e.value(c) for c in ends)
        where = e.value(ir.substitute(s.load.args[0], first))
        e.line(f"inside = {condition}")
        e.open("if inside:")
        e.line(f"copy_{self.kind}(to, advance(p{e.scope[s.load.data]}, {where} * {w}), cb - ca)")
        e.close()
        e.open("if not inside:")  # no else: what `_single` needs may be written before this line
        self._single(e)
        e.close()

    def _single(self, e: Text) -> None:
        """Elements by their expression."""
        s = self.left
        if len(s.run) == 2:
            outer, inner = s.run
            e.loop_named(outer, "x", "0", e.size(outer.extent))
            e.loop_named(inner, "y", "0", e.size(inner.extent))
            e.line(f"st_{self.kind}(to, x * {e.size(inner.extent)} + y, {e.value(s.expr)}, 63)")
            e.close()
            e.close()
        else:
            e.loop_named(s.run[0] if s.run else None, "x", "ca", "cb")
            e.line(f"st_{self.kind}(to, x - ca, {e.value(s.expr)}, 63)")
            e.close()

    # -- what follows, on the block

    def _then(self, e: Text, then: Kernel, first: str, last: str) -> None:
        """The ops after the product, row by row over this task's rows and columns."""
        for t in then.stages:
            for a in schedule.inner_axes(t, then):
                if self.groups != 1:
                    e.window[a] = ("j", "j + cols")
        e.line(f"u0 = {first}")
        e.line(f"u1 = {last}")
        lines = e.counting(then.outer, "u", "u0", "u1")
        for group in e.plan.groups:
            e._row_group(group)
        e.end(lines)


def _total(name: str, sums: Buffer, out: Buffer, parts: Size, elements: Size) -> Kernel:
    """Partial sums added up in order, converted to the result's dtype."""
    i, r = Axis(elements), Axis(parts)
    place = (ir.axis(i),)
    if types.same(parts, 1):
        stage = Stage(out, (i,), place, ir.make("at", place, sums.dtype, sums))
    else:
        stage = Stage(out, (i, r), place, ir.make("at", (ir.axis(r) * ir.size(elements) + ir.axis(i),), sums.dtype, sums), "add", (r,))
    return Kernel(f"{name}_total", (sums, out), (stage,), (i,))


def _replaced(then: Kernel, result: Buffer, alias: Mapping[Buffer, Buffer]) -> Buffer | None:
    """An output that can lie where the product's value lay: elementwise, of its dtype, written where it is read."""
    if any(s.combine for s in then.stages) or len({s.axes for s in then.stages}) != 1:
        return None
    places = {e.args[0] for s in then.stages for e in ir.walk(s.expr) if e.op == "at" and e.data is result}
    read = {e.data for s in then.stages for e in ir.walk(s.expr) if e.op == "at"}
    for s in then.stages:
        free = s.target.role == "out" and s.target not in read and s.target not in alias
        if free and s.target.dtype is result.dtype and places == {s.index[0]}:
            return s.target
    return None


def accepts(op: Operation, then: Kernel, result: Buffer) -> bool:
    """Whether `then`, a linear kernel, can run on blocks of rows of the product: it reads `result` at its own place only."""
    p = product(op, lambda t, index: None if _looked_through(t) else ir.make("load", index, t.dtype.compute, t))
    if p is None or not then.outer or not p.b.outer:
        return False
    rows, columns = _extent([*p.batch, *p.a.outer]), _extent(p.b.outer)
    if types.same(_extent(then.outer), rows) is not True:
        return False
    flat: Any = simplify.Affine({}, 0)
    step: Size = columns
    for a in reversed(then.outer):
        flat = flat.plus(simplify.Affine({ir.axis(a): 1}, 0), step)
        step = step * a.extent
    for s in then.stages:
        inner = schedule.inner_axes(s, then)
        if s.scan is not None or schedule.scatters(s) or len(inner) > 1 or any(types.same(a.extent, columns) is not True for a in inner):
            return False
        for e in ir.walk(s.expr, *s.index):
            if e.op == "check" or e.op == "at" and e.data is result and not _same_place(e.args[0], flat, inner):
                return False
    return True


def _same_place(offset: Expr, flat: simplify.Affine, inner: Sequence[Axis]) -> bool:
    f = simplify.affine(offset)
    expected = {**flat.terms, **({ir.axis(inner[0]): 1} if inner else {})}
    equal = set(f.terms) == set(expected) and all(types.same(f.terms[e], c) is True for e, c in expected.items())
    return equal and types.same(f.const, 0) is True


# ---------------------------------------------------------------- operands


def _runs_along_outer(x: Operand) -> bool:
    """Whether memory runs along the operand's outer axes rather than along the reduced ones."""
    for e in ir.loads(x.expr):
        raw = simplify.offset(e.data, e.args)
        free = simplify.affine(image.free(raw)).expr()
        if x.reduced and simplify.stride(raw, x.reduced[-1]) == 1:
            return False
        if x.outer and simplify.stride(free, x.outer[-1]) == 1:
            return True
    return False


def _matrix(x: Operand, dtype: DType) -> tuple[Buffer, Expr, Size] | None:
    """(buffer, offset over the batch, step between rows) of an operand that lies in memory row by row, columns next to each other."""
    if x.expr.op != "load" or x.expr.data.dtype is not dtype:
        return None
    f = simplify.affine(simplify.offset(x.expr.data, x.expr.args))
    if any(e.op != "axis" for e in f.terms):
        return None
    outer, reduced = _collapse(f, x.outer), _collapse(f, x.reduced)
    if reduced is None or x.outer and outer != 1:
        return None
    mine = {ir.axis(a) for a in (*x.outer, *x.reduced)}
    rest = simplify.Affine({e: c for e, c in f.terms.items() if e not in mine}, f.const)
    return x.expr.data, rest.expr(), reduced


def _collapse(f: simplify.Affine, axes: Sequence[Axis]) -> Size | None:
    """The stride of all `axes` as one, if they run through memory like one."""
    if not axes:
        return 0
    coefficients = [f.terms.get(ir.axis(a), 0) for a in axes]
    for a, c, inner in zip(axes[1:], coefficients, coefficients[1:]):
        if types.same(c, inner * a.extent) is not True:
            return None
    return coefficients[-1]


def _step(s: _Source) -> Size | None:
    """The distance in memory between neighbours on the one slow axis."""
    if s.load is None or len(s.slow) > 1:
        return None
    if not s.slow:
        return 0
    if any(s.slow[0] in ir.axes_in(c) for c in s.conditions):
        return None
    return simplify.stride(image.unclamped(s.load.args[0], s.conditions), s.slow[0])
