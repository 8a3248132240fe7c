"""Matrix products and convolutions on a GPU: every contraction as tiles of `C[b, i, j] = sum_r A(b, i, r) B(b, r, j)`.

A block of threads computes a tile of C.  It walks along r in steps of `depth`: each thread reads its part of the next tiles of A and B
into registers (straight from the expressions that define them, so that no image-to-column array exists), multiplies the present tiles,
which lie in shared memory as [r][i] and [r][j], and then writes what it has read to the other half of shared memory: one barrier a step.
A thread owns `own` elements of C, in groups of 16 bytes, so that each of its reads from shared memory is one 128-bit access: the lanes
of a quarter warp read neighbours or the same, never the same bank twice.  Offsets that belong to rows are worked out once, those that
belong to r once a step.  Ragged edges: rows and columns past the end read the last one and are not stored; the ragged step along r
comes first and reads zeros, all others need no test.  What follows the product runs on the accumulators.  Few tiles with long sums are
cut along r into partial products, added up in order by a second kernel: the same bits in every run.  The gradient through strided
windows is a product for each remainder of the output's position.

16-bit floats, and float32 behind the flag `tf32`, are multiplied by tensor cores (mma.sync, sums in float32) from tiles that arrive by
cp.async several steps ahead, or through registers where elements cannot be read by 4 bytes at least.

Arithmetic, per thread and r: an SM issues 4 warp instructions a cycle, each to 32 of its 128 float32 FMA lanes, and reads 128 bytes a
cycle from shared memory, where lanes that want the same word share it (one byte an FMA is what it can do).  A step of a tensor tile, per
warp and 16 elements of r: an SM could take a 16 x 8 x 16 HMMA a cycle.

    own     FMA  LDS.128  bytes an FMA    shared by the warp  FFMA of the main loop's instructions, at most, and measured (SASS of sm_90)
    8 x 8    64     4         1.0               0.19            94 %  90 % (matrices), 84 to 87 % (windows of a convolution)
    8 x 4    32     3         1.5               0.25            91 %  86 %
    4 x 4    16     2         2.0               0.38            89 %  79 %
    warp      HMMA  LDSM.x4   bytes a HMMA (2048 FMA)
    64 x 64    32     8         128
    64 x 32    16     6         192
    32 x 32     8     4         256
    32 x 16     4     3         384

Knows Kernel IR, the spelling of device words and what makes a GPU fast; knows no op by name and no driver (rank 4).
"""
from __future__ import annotations

from dataclasses import dataclass, replace
from functools import partial
from typing import Mapping, Sequence

from ... import types
from ...flags import flags
from ...graph import Operation, Tensor
from ...types import DType, Size
from .. import contract, image, ir, simplify
from ..contract import Product, _extent, _hint, _looked_through
from ..ir import Axis, Buffer, Expr, Kernel, Stage
from . import emit
from .emit import WARP, Device
from .launch import Launch
from .offsets import widened

SMALL = 1 << 13  # multiplications below which the general generator does
PROCESSORS = 132  # multiprocessors that should have work
LINE = 16  # bytes of one access
STATIC = 48 << 10  # bytes of shared memory that a kernel may declare
SECTOR = 32  # bytes of memory that are read together
BAND = 8  # rows of tiles that are computed together: they share columns in the second-level cache


# ---------------------------------------------------------------- which


def engine(op: Operation) -> str | None:
    """ "contraction" for an op that this module computes on a GPU, None for one left to the general generator.

    That one is as good where there is nothing to reuse: products of matrices with vectors are row folds by warps, and of short sums
    every element is read from memory about once.
    """
    p = contract.product(op, _leaf) if op.opdef.family == "contraction" else None
    if p is None:
        return None
    _, m, n, k = map(_hint, p.sizes)
    return "contraction" if m * n * k > SMALL and min(m, n) >= 2 and k >= 4 else None


def _leaf(t: Tensor, index: tuple[Expr, ...]) -> Expr | None:
    return None if _looked_through(t) else ir.make("load", index, t.dtype.compute, t)


def accepts(op: Operation, then: Kernel, result: Buffer) -> bool:
    """Whether `then`, a linear kernel, can run on the accumulators: at each element it reads `result` at its own place only."""
    p = contract.product(op, _leaf)
    if p is None or types.same(_extent(then.outer), types.product(p.sizes[:3])) is not True:
        return False
    flat, step = simplify.Affine({}, 0), types.product(())
    for a in reversed(then.outer):
        flat, step = flat.plus(simplify.Affine({ir.axis(a): 1}, 0), step), step * a.extent
    for s in then.stages:
        if s.combine or s.scan is not None or tuple(s.axes) != tuple(then.outer):
            return False
        for e in ir.walk(s.expr, *s.index):
            if e.op == "check" or e.op == "at" and e.data is result and not contract._same_place(e.args[0], flat, ()):
                return False
    return True


# ---------------------------------------------------------------- tiles


@dataclass(frozen=True)
class Tile:
    """What a block computes: `rows` x `columns` of C, `depth` of the sum at once; `own` of a thread, `lanes` of a warp."""

    rows: int
    columns: int
    depth: int
    own: tuple[int, int]
    lanes: tuple[int, int] = (4, 8)

    @property
    def warps(self) -> tuple[int, int]:
        return self.rows // (self.lanes[0] * self.own[0]), self.columns // (self.lanes[1] * self.own[1])

    @property
    def threads(self) -> int:
        return WARP * self.warps[0] * self.warps[1]

    def __str__(self) -> str:
        return f"{self.rows}x{self.columns}x{self.depth}"


@dataclass(frozen=True)
class TensorTile(Tile):
    """A tile for tensor cores: `own` is what a warp computes, by multiplications of 16 x 8 pieces."""

    @property
    def warps(self) -> tuple[int, int]:
        return self.rows // self.own[0], self.columns // self.own[1]


TILES = (Tile(128, 128, 8, (8, 8)), Tile(128, 64, 8, (8, 8)), Tile(64, 128, 8, (8, 8)), Tile(64, 64, 16, (8, 4)), Tile(64, 32, 16, (4, 4)),
         Tile(32, 64, 16, (4, 4)), Tile(32, 32, 16, (4, 4)), Tile(128, 16, 16, (4, 4), (8, 4)), Tile(16, 128, 16, (4, 4)))
TENSOR_TILES = (TensorTile(128, 128, 16, (64, 64)), TensorTile(128, 64, 32, (64, 32)), TensorTile(64, 128, 32, (32, 64)),
                TensorTile(64, 64, 32, (32, 32)), TensorTile(32, 64, 32, (16, 32)), TensorTile(64, 32, 32, (32, 16)),
                TensorTile(128, 16, 32, (32, 16)), TensorTile(16, 128, 32, (16, 32)))


def tensor_tiles(dtype: DType) -> list[TensorTile]:
    """The tiles for operands of a dtype in shared memory."""
    return [replace(t, depth=t.depth * 2 // dtype.size) for t in TENSOR_TILES]


_OWN = {64: 0.9, 32: 0.75, 16: 0.6}  # share of the FMA rate by elements of a thread
SPLITS = (1, 2, 3, 4, 6, 8, 12, 16, 24, 32)
_START = 2000  # cycles of a block before and after its sum
_SECOND = 6000  # cycles of a second kernel
_BYTES = 2500  # of memory a cycle


def choose(p: Product, parts: Sequence[int] = SPLITS) -> tuple[Tile, int]:
    """The tile and into how many of `parts` the sum is cut, by sizes alone: the least estimated cycles."""
    wide = p.dtype.size == 8
    kind = _tensor_dtype(p)
    if kind is not None:
        tiles: Sequence[Tile] = tensor_tiles(kind)
    else:
        tiles = [t for t in TILES if not wide or t.own[0] * t.own[1] <= 32]
    found = [(t, s) for t in tiles for s in parts if s == 1 or _hint(p.sizes[3]) >= s * 8 * t.depth]
    return min(found, key=lambda ts: _cycles(p, *ts))


def _cycles(p: Product, t: Tile, splits: int) -> float:
    batch, m, n, k = map(_hint, p.sizes)
    blocks = batch * -(-m // t.rows) * -(-n // t.columns) * splits
    each = -(-blocks // PROCESSORS)
    warps = min(each * t.threads // WARP, 16)
    if isinstance(t, TensorTile):
        rate = 1024 * min(1.0, 0.25 + t.own[0] * t.own[1] / 4096) * min(1.0, warps / 8)
    else:
        rate = (64 if p.dtype.size == 8 else 128) * _OWN[t.own[0] * t.own[1]] * min(1.0, warps / 8)
    return (each * t.rows * t.columns * -(-k // splits) / rate + _START
            + (_SECOND + 2 * splits * batch * m * n * p.dtype.size / _BYTES if splits > 1 else 0))


# ---------------------------------------------------------------- kernels


def kernels(name: str, op: Operation, stored: Mapping[Tensor, Buffer], then: Kernel | None = None, result: Buffer | None = None,
            alias: Mapping[Buffer, Buffer] | None = None, guarded: bool = False, wide: bool = False) -> list[Launch]:
    """The product, and its parts added up where it is cut.

    stored: buffers of what lies in memory; the result's own where it is needed there.
    then: a linear kernel that `accepts` takes; it reads `result`, the product's value.
    alias: outputs of `then` that lie in the memory of one of its operands.
    guarded: it changes nothing once a check has failed.  wide: indices have 64 bits.
    """
    def leaf(t: Tensor, index: tuple[Expr, ...]) -> Expr | None:
        b = stored.get(t)
        return None if b is None else ir.load(b, index)

    p = contract.product(op, leaf)
    assert p is not None
    out, shared = stored.get(op.outputs[0]), dict(alias or {})
    made = _strided(name, p, out, then, result, shared, wide) or _made(name, p, *choose(p), out, then, result, shared, wide)
    return [replace(m, guarded=guarded, flops=0 if i else 2 * types.product(p.sizes)) for i, m in enumerate(made)]


def _strided(name: str, p: Product, out: Buffer | None, then: Kernel | None, result: Buffer | None, alias: dict[Buffer, Buffer],
             wide: bool) -> list[Launch] | None:
    """A gradient through strided windows as a product for each remainder of the output's position, which no zeros are part of."""
    found = None if p.batch else image.phases(p.a.expr, p.a.outer, p.a.reduced)
    c = out if out is not None else result
    if found is None or c is None or then is not None and c.dtype is not p.dtype:
        return None
    made: list[Launch] = []
    columns = _extent(p.b.outer)
    for number, phase in enumerate(found):
        start, steps = _place(phase, p.a.outer, columns)
        if phase.empty:
            zeros = contract._zeros(f"{name}_zero{number}", c, start, [*zip(phase.outer, steps)], p.b.outer)
            made += emit.launches(zeros, {}, wide=wide)
            continue
        a, b = (contract.Operand(image.in_phase(x.expr, phase), [], outer, list(phase.reduced))
                for x, outer in ((p.a, list(phase.outer)), (p.b, p.b.outer)))
        if not phase.reduced:
            return None  # a single tap of a single channel
        part = Product(a, b, [], p.dtype)
        tile, _ = choose(part, (1,))
        made.append(_launch(wide, f"{name}_{number}", part, tile, 1, c, None, None, {}, rows_at=(start, steps)))
    return made if then is None else [*made, *emit.launches(then, alias, wide=wide)]


def _place(phase: image.Phase, outer: Sequence[Axis], columns: Size) -> tuple[Size, list[Size]]:
    """Where the rows of a phase are in C: the offset of the first, and the distance along each of its axes."""
    steps: list[Size] = []
    step = columns
    for a in reversed(outer):
        steps.insert(0, step)
        step = step * a.extent
    start: Size = 0
    for s, at in zip(steps, phase.start):
        start = start + s * at
    return start, [s * by for s, by in zip(steps, phase.step)]


def _launch(wide: bool, *given, **more) -> Launch:
    """The launch of a `Tiled`; with indices of 32 bits it knows the other one."""
    form = TensorTiled if isinstance(given[2], TensorTile) else Tiled
    made = replace(form(*given, wide=wide, **more).made(), wide=wide)
    return made if wide else replace(made, widened=partial(_launch, True, *given, **more))


def _made(name: str, p: Product, tile: Tile, splits: int, out: Buffer | None, then: Kernel | None, result: Buffer | None,
          alias: dict[Buffer, Buffer], wide: bool) -> list[Launch]:
    if splits == 1:
        return [_launch(wide, name, p, tile, 1, out, then, result, alias)]
    batch, m, n, k = p.sizes
    per = types.ceildiv(types.ceildiv(k, tile.depth), splits)
    if isinstance(per, int) and isinstance(k, int):
        splits = -(-k // (tile.depth * per))  # none is empty
    parts = Buffer(p.dtype, (splits, batch, m, n), "part", "parts")
    return [_launch(wide, name, p, tile, splits, parts, None, None, {}),
            *emit.launches(_total(name, p, parts, splits, out, then, result), alias, wide=wide)]


def _total(name: str, p: Product, parts: Buffer, splits: int, out: Buffer | None, then: Kernel | None, result: Buffer | None) -> Kernel:
    """Partial products added up in order, and what follows."""
    elements = types.product(p.sizes[:3])
    outer = then.outer if then is not None else (Axis(elements),)
    place: Expr = ir.index_const(0)
    for a in outer:
        place = place * ir.size(a.extent) + ir.axis(a)
    place = simplify.affine(place).expr()
    r = Axis(splits)
    source = ir.make("at", (ir.axis(r) * ir.size(elements) + place,), p.dtype, parts)
    whole = out is not None and (then is None or out.dtype is p.dtype)
    sums = out if whole else Buffer(p.dtype, (elements,), "tmp", "sum")
    target = out or sums
    assert sums is not None and target is not None
    stages = [Stage(sums, (*outer, r), (place,), source, "add", (r,))]
    if target is not sums:  # rounded before it is read
        stages.append(Stage(target, outer, (place,), ir.make("at", (place,), p.dtype, sums)))
    if then is not None:
        here = ir.make("at", (place,), target.dtype.compute, target)

        def change(e: Expr, args: tuple[Expr, ...]) -> Expr:
            return here if e.op == "at" and e.data is result else ir.rebuilt(e, args)
        stages += [replace(s, expr=ir.rewrite(s.expr, change)) for s in then.stages]
    buffers = dict.fromkeys([parts, sums, target, *(b for b in (then.buffers if then else ()) if b is not result)])
    return Kernel(f"{name}_total", tuple(buffers), tuple(stages), outer)


# ---------------------------------------------------------------- operands


class Side:
    """One operand as a block reads it: tiles of `span` outer positions by `depth` of the sum.

    along: whether neighbouring threads read along r; `vector` elements of a thread lie next to each other along that direction.
    """

    def __init__(self, letter: str, x: contract.Operand, dtype: DType, wide: bool):
        self.letter, self.dtype, self.wide, self.code = letter, dtype, wide, _bits(dtype.code)
        axes = (*x.batch, *x.outer, *x.reduced)
        kept = (*x.batch, *x.outer)
        target = Buffer(dtype, tuple(a.extent for a in kept), "part")
        stage = Stage(target, axes, tuple(map(ir.axis, kept)), x.expr, "add", tuple(x.reduced))
        k = simplify.linear(Kernel("", (target,), (stage,), tuple(x.batch)))
        s = k.stages[0]
        self.batch, self.reduced = list(k.outer), list(s.reduced)
        self.outer = [a for a in s.axes if a not in k.outer and a not in s.reduced]
        self.extent = _extent(self.outer)
        self.stage = s
        self.expr = widened(s, wide).expr
        self.conditions: list[Expr] = []
        self.load: Expr | None = None
        self.along, self.vector = False, 1
        self._look()

    @property
    def buffers(self) -> list[Buffer]:
        return list(dict.fromkeys(e.data for e in ir.walk(self.expr) if e.op == "at"))

    def _look(self) -> None:
        """The load and its conditions, if it is one; along which direction memory runs, and how many elements an access may take."""
        e, conditions = self.stage.expr, []
        while e.op == "select" and e.args[2].op == "const" and e.args[2].data == 0:
            conditions += image.conjuncts(e.args[0])
            e = e.args[1]
        if e.op != "at":
            return
        form = simplify.affine(image.unclamped(e.args[0], conditions))
        if any(any(x.op == "at" for x in ir.walk(t)) for t in form.terms):
            return
        self.load, self.form = e, form
        self.conditions = [widened(replace(self.stage, expr=c), self.wide).expr for c in conditions]
        widths = {along: self._width(axes) for along, axes in ((True, self.reduced), (False, self.outer)) if axes}
        self.along = widths.get(True, 0) > widths.get(False, 0)
        self.vector = max(1, *widths.values())
        if self.along and self.vector == 1 and conditions:
            self.along = False  # one row a thread: its place in the image stays in registers

    def _width(self, axes: Sequence[Axis]) -> int:
        """Elements that one access along the last of `axes` takes; 1 where they only lie next to each other, 0 where they do not."""
        last = axes[-1]
        others = [t for t in self.form.terms if t.op != "axis" and last in ir.axes_in(t)]
        if types.same(self.form.terms.get(ir.axis(last), 0), 1) is not True or others:
            return 0
        assert self.load is not None
        if any(last in ir.axes_in(c) for c in self.conditions) or self.load.data.dtype is not self.dtype:
            return 1
        steps = [self.form.const, last.extent, *(c for t, c in self.form.terms.items() if t.data is not last or t.op != "axis")]
        n = LINE // self.dtype.size
        while n > 1 and not all(simplify._exact(c, n) is not None for c in steps):
            n //= 2
        return n

    # -- a thread's part

    def settle(self, span: int, depth: int, threads: int, pad: int = 0) -> None:
        """Which elements of a tile each thread reads, and where they go.

        pad: bytes between rows in shared memory for tensor cores, where a tile stands as it is read; 0 for [r][i] in any case.
        """
        self.span, self.depth, self.threads, self.pad = span, depth, threads, pad
        self.by_rows = bool(pad) and self.along
        if pad:
            self.pitch = (depth if self.by_rows else span) + (16 if self.by_rows else pad) // self.dtype.size
        else:
            self.pitch = span + (4 if self.along else 0)  # elements written across rows meet different banks
        self.room = self.pitch * (span if self.by_rows else depth)
        self.fast = (depth if self.along else span) // self.vector
        self.total = span * depth // self.vector
        self.loads = -(-self.total // threads)
        self.guard = "" if self.total >= threads else f"t < {self.total}"

    def place(self, e: Device, top: str) -> None:
        """Names for where this thread reads: first at `{letter}i`, `{letter}r` of the tile, then by numbers from there."""
        n, v, t, me = self.letter, self.vector, self.threads, "t"
        if self.guard:  # threads without a part read what another one reads, and do not store it
            me = f"{n}t"
            e.line(f"{me} = umod(t, {self.total})")
        if self.along:
            lanes = min(4 if self.by_rows else max(1, SECTOR // (v * self.dtype.size)), self.fast)  # of a warp, along r
            rows, groups = WARP // lanes, self.fast // lanes
            apart = min(groups, t // WARP)  # warps next to each other along r
            within = (f"umod(udiv({me}, {rows}), {lanes})", f"umod({me}, {rows})") if self.by_rows else (
                f"umod({me}, {lanes})", f"umod(udiv({me}, {lanes}), {rows})")
            e.line(f"{n}r = ({within[0]} + umod(udiv({me}, {WARP}), {apart}) * {lanes}) * {v}")
            e.line(f"{n}i = {within[1]} + udiv({me}, {WARP * apart}) * {rows}")
            turns = groups // apart
            down = t // (WARP * apart) * rows
            self.places = [(x // turns * down, x % turns * apart * lanes * v) for x in range(self.loads)]
        elif self.pad and self.fast * v * self.dtype.size < 128 and 8 * self.fast <= t:  # eight rows, one after the other in other banks
            e.line(f"{n}i = umod(udiv({me}, 8), {self.fast}) * {v}")
            e.line(f"{n}r = umod({me}, 8) + udiv({me}, {8 * self.fast}) * 8")
            self.places = [(0, x * t // self.fast) for x in range(self.loads)]
        elif t >= self.fast:
            e.line(f"{n}i = umod({me}, {self.fast}) * {v}")
            e.line(f"{n}r = udiv({me}, {self.fast})")
            self.places = [(0, x * t // self.fast) for x in range(self.loads)]
        else:
            pieces = self.fast // t
            e.line(f"{n}i = {me} * {v}")
            e.line(f"{n}r = 0")
            self.places = [(x % pieces * t * v, x // pieces) for x in range(self.loads)]
        e.line(f"{n}put = {n}i * {self.pitch} + {n}r" if self.by_rows else f"{n}put = {n}r * {self.pitch} + {n}i")
        self.rows: dict[int, dict[Axis, Axis]] = {}
        ragged = simplify._exact(self.extent, self.span) is None
        step = v if not self.along else 1
        for number, i in enumerate(dict.fromkeys(i for i, _ in self.places)):
            row, at = f"{n}row{number}", f"{top} + {n}i + {i}"
            e.line(f"{row} = {e.index_of(f'min({at}, {e.size(self.extent - step)})' if ragged else at)}")
            self.rows[i] = self._bound(e, self.outer, row)
        e.line(f"{n}held = stack_{self.code}({self.loads * v})")

    def _bound(self, e: Device, axes: Sequence[Axis], flat: str) -> dict[Axis, Axis]:
        """Fresh axes with the values that `flat` stands for."""
        fresh = [Axis(a.extent) for a in axes]
        e.unflatten(fresh, flat)
        return dict(zip(axes, fresh))

    def _parts(self) -> tuple[Expr, Expr]:
        """The offset as what belongs to the row and what else there is."""
        inside = set(self.reduced)
        row = {t: c for t, c in self.form.terms.items() if not ir.axes_in(t) & inside}
        rest = {t: c for t, c in self.form.terms.items() if t not in row}
        return simplify.Affine(row, self.form.const).expr(), simplify.Affine(rest, 0).expr()

    def _index(self, e: Device, offset: Expr, where: Mapping[Axis, Axis]) -> str:
        new = ir.substitute(offset, {a: ir.axis(b) for a, b in where.items()})
        return e.value(widened(replace(self.stage, index=(new,)), self.wide).index[0])

    def fetch(self, e: Device, k: str, end: str | None, to: str = "") -> None:
        """Reads this thread's elements of the step that begins at r = `k`; zeros from r = `end` on.

        to: where the tile begins in shared memory, if they go there by themselves.
        """
        if self.guard and to:
            e.open(f"if {self.guard}:")
        steps: dict[int, tuple[str, dict[Axis, Axis]]] = {}
        for x, (i, r) in enumerate(self.places):
            if r not in steps:
                name, inside = e.name(), e.name()
                e.line(f"{name} = {k} + {self.letter}r + {r}")
                e.line(f"{inside} = {e.index_of(name if end is None or self.load is not None else f'min({name}, {end} - 1)')}")
                steps[r] = name, self._bound(e, self.reduced, inside)
            name, reduced = steps[r]
            self._fetch_one(e, x, {**self.rows[i], **reduced}, [] if end is None else [f"({name} < {end})"], to)
        if self.guard and to:
            e.close()

    def _fetch_one(self, e: Device, x: int, where: dict[Axis, Axis], ok: list[str], to: str) -> None:
        n, v, code = self.letter, self.vector, self.code
        swap = {a: ir.axis(b) for a, b in where.items()}
        zero = e.constant(ir.const(0, self.dtype.compute))
        if self.load is None:
            value = e.value(ir.substitute(self.expr, swap))
            e.line(f"st_{code}({n}held, {x}, {f'select({ok[0]}, {value}, {zero})' if ok else value}, 99)")
            return
        row, rest = self._parts()
        base, more = self._index(e, row, where), self._index(e, rest, where)
        at = " + ".join(a for a in (base, more) if a != "0") or "0"
        ok = [*ok, *(e.value(ir.substitute(c, swap)) for c in self.conditions)]
        scope = e.scope[self.load.data]
        inside = " & ".join(ok) or "True"
        if to:
            e.line(f"asked_{code}(shared, {to} + {n}put + {self._away(x)}, p{scope}, {at}, {inside}, {v}, {scope})")
            return
        if self.load.data.dtype is self.dtype:
            e.line(f"moved_{code}({n}held, {x * v}, p{scope}, {at}, {inside}, {v}, 99, {scope})")
            return
        stored = self.load.data.dtype.code
        if not ok:
            e.line(f"st_{code}({n}held, {x}, ld_{stored}(p{scope}, {at}, {scope}), 99)")
            return
        yes, value = e.name(), e.name()
        e.line(f"{yes} = {inside}")
        e.line(f"{value} = ld_{stored}(p{scope}, select({yes}, {at}, {'to_i64(0)' if e.wide else '0'}), {scope})")
        e.line(f"st_{code}({n}held, {x}, select({yes}, {value}, {zero}), 99)")

    def _away(self, x: int) -> int:
        """How far from this thread's first element its x-th access goes in shared memory."""
        i, r = self.places[x]
        return i * self.pitch + r if self.by_rows else r * self.pitch + i

    def put(self, e: Device, now: str) -> None:
        """What was read, to shared memory."""
        n, v, code, p = self.letter, self.vector, self.code, self.pitch
        if self.guard:
            e.open(f"if {self.guard}:")
        for x in range(self.loads):
            away = self._away(x)
            if self.along and not self.by_rows:
                e.open(f"for u in unroll({v}):")
                e.line(f"st_{code}(shared, {now} + {n}put + ({away} + u * {p}), ld_{code}({n}held, {x * v} + u, 99), 60)")
                e.close()
            else:
                e.line(f"moved_{code}(shared, {now} + {n}put + {away}, {n}held, {x * v}, True, {v}, 60, 99)")
        if self.guard:
            e.close()


# ---------------------------------------------------------------- the kernel


@dataclass(frozen=True)
class Own:
    """Where a thread's accumulators are in C, from its first: row `y * rows[1] + z * rows[3]` for y < rows[0], z < rows[2], columns
    `x * columns[1] + u` for x < columns[0], u < group; `place` says which accumulator that is, in the text's names gy, uy, gx, ux."""

    rows: tuple[int, int, int, int]
    columns: tuple[int, int]
    group: int
    place: str


class Tiled(Device):
    """The text of a product by tiles.  Its accesses are vectors where they may be: LLVM is not asked for others."""

    def __init__(self, name: str, p: Product, tile: Tile, splits: int, out: Buffer | None, then: Kernel | None, result: Buffer | None,
                 alias: dict[Buffer, Buffer], wide: bool = False, rows_at: tuple[Size, list[Size]] | None = None):
        self.p, self.tile, self.splits, self.out, self.result, self.rows_at = p, tile, splits, out, result, rows_at
        self.code = p.dtype.code
        self.batch, self.m, self.n, self.k = p.sizes
        self.sides = [Side(letter, x, self.staged(), wide) for letter, x in (("a", p.a), ("b", p.b))]
        after = [b for b in (then.buffers if then else ()) if b is not result]
        buffers = dict.fromkeys([*self.sides[0].buffers, *self.sides[1].buffers, *after, *([out] if out is not None else [])])
        super().__init__(Kernel(name, tuple(buffers), then.stages if then else (), then.outer if then else ()), alias, wide)
        self.lanes = LINE // p.dtype.size  # elements of an access
        self.own = self.owned()

    # -- what a kind of tile decides

    pad = 0  # bytes between rows of a tile in shared memory

    def staged(self) -> DType:
        """The dtype in shared memory."""
        return self.p.dtype

    def owned(self) -> Own:
        (m, n), (ly, lx), v = self.tile.own, self.tile.lanes, self.lanes
        return Own((m // v, ly * v, v, 1), (n // v, lx * v), v, f"(gy * {v} + uy) * {n} + (gx * {v} + ux)")

    def halves(self) -> int:
        """Pairs of tiles in shared memory: the present one, and those to come."""
        return 2

    def kernel_label(self) -> str:
        return f"product {self.code} {self.tile}" + (f" in {self.splits}" if self.splits > 1 else "")

    # -- the kernel

    def made(self) -> Launch:
        tile = self.tile
        across, down = types.ceildiv(self.n, tile.columns), types.ceildiv(self.m, tile.rows)
        self.line("t = thread()")
        self._where(across, down)
        for side, span, top in zip(self.sides, (tile.rows, tile.columns), ("top", "left")):
            self.unflatten(side.batch, "b")
            side.settle(span, tile.depth, tile.threads, self.pad)
            side.place(self, top)
        self._threads()
        self.half = sum(s.room for s in self.sides)
        self.line(f"shared = shared_{self.sides[0].code}({self.halves() * self.half}, 0)")
        self._registers()
        self._sum()
        self._finish_tile()
        grid = types.product([across, down, self.batch, self.splits])
        made = self.launch((grid, 1, 1), tile.threads)
        return replace(made, writes=tuple(dict.fromkeys([*([self.out] if self.out is not None else []), *made.writes])))

    def _where(self, across: Size, down: Size) -> None:
        """From the block's number: which part of the sum, which matrix of the batch, which tile; a band of rows of tiles at a time."""
        self.place("number", self.index_of("block()"))
        tiles = self.size(across * down)
        many = [n for n in (self.batch, self.splits) if types.same(n, 1) is not True]
        if many:
            self.line(f"rest = udiv(number, {tiles})")
            self.line(f"number = umod(number, {tiles})")
        single = types.same(self.batch, 1) is True
        self.place("b", self.index_of("0" if single else "rest" if self.splits == 1 else f"umod(rest, {self.size(self.batch)})"))
        self.line(f"part = {'0' if self.splits == 1 else 'rest' if single else f'udiv(rest, {self.size(self.batch)})'}")
        if types.same(across, 1) is True or types.same(down, 1) is True:
            self.line(f"top = {'number' if types.same(across, 1) is True else '0'} * {self.tile.rows}")
            self.line(f"left = {'0' if types.same(across, 1) is True else 'number'} * {self.tile.columns}")
            return
        self.line(f"band = udiv(number, {self.size(across * BAND)}) * {BAND}")
        self.line(f"within = umod(number, {self.size(across * BAND)})")
        high = f"{BAND}" if simplify._exact(down, BAND) is not None else f"min({self.size(down)} - band, {BAND})"
        self.line(f"high = {high}")
        self.line(f"top = (band + umod(within, high)) * {self.tile.rows}")
        self.line(f"left = udiv(within, high) * {self.tile.columns}")

    def _threads(self) -> None:
        """Where this thread's own elements are, from the tile's corner."""
        (ly, lx), (m, n), v = self.tile.lanes, self.tile.own, LINE // self.p.dtype.size
        wx = self.tile.warps[1]
        self.line(f"warp = udiv(t, {WARP})")
        self.line(f"down = udiv(warp, {wx}) * {ly * m} + udiv(umod(t, {WARP}), {lx}) * {v}")
        self.line(f"over = umod(warp, {wx}) * {lx * n} + umod(t, {lx}) * {v}")

    def _registers(self) -> None:
        self._zeros(self.tile.own[0] * self.tile.own[1])

    def _zeros(self, count: int) -> None:
        self.accumulators = count
        self.line(f"sums = stack_{self.code}({count})")
        self.line(f"cleared_{self.code}(sums, {count})")

    # -- the sum

    def _sum(self) -> None:
        """All steps along r; the ragged one comes first."""
        depth, k = self.tile.depth, self.k
        exact = simplify._exact(k, depth) is not None
        if self.splits == 1:
            steps = types.ceildiv(k, depth)
            self.line("begin = 0")
            self.line(f"steps = {self.parameter(steps)}")
            self.line(f"first = {self.size(k - (steps - 1) * depth)}")
        else:
            chunk = self.size(types.ceildiv(types.ceildiv(k, depth), self.splits) * depth)
            self.line(f"begin = part * {chunk}")
            self.line(f"length = max(min({chunk}, {self.size(k)} - begin), 0)")
            self.line(f"steps = udiv(length + {depth - 1}, {depth})")
            self.line(f"first = begin + length - (steps - 1) * {depth}")
        empty = not isinstance(k, int) or k == 0
        if empty:
            self.open("if steps > 0:")
        self._steps(exact)
        if empty:
            self.close()

    def _steps(self, exact: bool) -> None:
        """The steps, of which there is one at least; exact: none of them is ragged."""
        depth = self.tile.depth
        for side in self.sides:
            side.fetch(self, "begin", None if exact else "first")
        self._put("0")
        self.line("now = 0")
        self.line(f"r = {f'begin + {depth}' if exact else 'first + 0'}")
        self.line("barrier()")
        self.open("for step in range(1, steps):")
        for side in self.sides:
            side.fetch(self, "r", None)
        self._multiply()
        self.line(f"now = {self.half} - now")
        self._put("now")
        self.line("barrier()")
        self.line(f"r = r + {depth}")
        self.close()
        self._multiply()
        self.line(f"settled_{self.code}(sums, {self.accumulators})")

    def _put(self, now: str) -> None:
        a, b = self.sides
        a.put(self, now)
        b.put(self, f"{now} + {a.room}")

    def _multiply(self) -> None:
        """The tiles in shared memory: per r, this thread's part of a column of A times that of a row of B."""
        (m, n), v, code = self.tile.own, self.lanes, self.code
        a, b = self.sides
        self.line("atx = now + down")
        self.line(f"aty = now + over + {a.room}")
        sizes = (self.tile.depth, m, n, v, a.pitch, self.tile.lanes[0] * v, b.pitch, self.tile.lanes[1] * v, 60)
        self.line(f"multiplied_{code}(sums, shared, atx, aty, {', '.join(map(str, sizes))})")

    # -- what follows

    def _finish_tile(self) -> None:
        """This thread's elements, through what follows, to memory."""
        own, v = self.own, self.own.group
        rows, inside = self._axes()
        whole, aligned = (simplify._exact(self.n, c) is not None for c in (self.tile.columns, v))
        columns = self._columns_only(inside)
        reads, self.vectors = self._accesses(inside, columns) if aligned else ({}, {})
        for code, name, count in [*reads.values(), *self.vectors.values()]:
            self.line(f"{name} = stack_{code}({count})")
        self.open(f"for gy in unroll({own.rows[0]}):")
        self.open(f"for uy in unroll({own.rows[2]}):")
        self.line(f"i = top + down + (gy * {own.rows[1]} + uy * {own.rows[3]})")
        if simplify._exact(self.m, self.tile.rows) is None:
            self.open(f"if i < {self.size(self.m)}:")
        self.place("row", f"b * {self.size(self.m)} + i")
        if inside:
            self.unflatten(rows, "row")
        self.place("row_at", self._row_at())
        self.open(f"for gx in unroll({own.columns[0]}):")
        self.line(f"col = left + over + gx * {own.columns[1]}")
        if not whole and aligned:
            self.open(f"if col < {self.size(self.n)}:")
        for e, (code, name, _) in reads.items():
            scope = self.scope[self.alias.get(e.data, e.data)]
            self.line(f"moved_{_bits(code)}({name}, 0, p{scope}, {self._at_column(e.args[0], inside)}, True, {v}, 99, {scope})")
        if not self.kernel.stages and None in self.vectors and self.out is not None and self.out.dtype is self.p.dtype:
            scope = self.scope[self.out]
            self.line(f"moved_{self.code}(p{scope}, row_at + col, sums, {own.place.replace('ux', '0')}, True, {v}, {scope}, 99)")
            while len(self.stack) > 1:
                self.close()
            return
        starts = {s: self._at_column(s.index[0], inside) for s in self.vectors if s is not None}
        self.open(f"for ux in unroll({v}):")
        self.line("j = col + ux")
        if not aligned:
            self.open(f"if j < {self.size(self.n)}:")
        self.place("flat", "row_at + j")
        self.unflatten(inside, "j") if inside else self.unflatten(self.kernel.outer, "flat")
        self.line(f"value = ld_{self.code}(sums, {own.place}, 99)")
        for e, (code, name, _) in reads.items():
            self.stack[-1].names[e] = held = self.name()
            self.line(f"{held} = ld_{code}({name}, ux, 99)")
        for e, name in columns.items():
            self.stack[-1].names[e] = held = self.name()
            self.line(f"{held} = ld_{e.dtype.code}({name}, gx * {v} + ux, 99)")
        self._element()
        self.close()
        for s, (code, name, _) in self.vectors.items():
            target = self.out if s is None else s.target
            assert target is not None
            scope = self.scope[self.alias.get(target, target)]
            at = "row_at + col" if s is None else starts[s]
            self.line(f"moved_{_bits(code)}(p{scope}, {at}, {name}, 0, True, {v}, {scope}, 99)")
        while len(self.stack) > 1:
            self.close()

    def _row_at(self) -> str:
        """Where the present row of C begins."""
        if self.rows_at is None:
            whole = "" if self.splits == 1 else f"part * {self.size(self.batch * self.m * self.n)} + "
            return f"{whole}row * {self.size(self.n)}"
        start, steps = self.rows_at
        fresh = [Axis(a.extent) for a in self.p.a.outer]
        self.unflatten(fresh, "row")
        return self.value(simplify.Affine({ir.axis(a): s for a, s in zip(fresh, steps)}, start).expr())

    def _element(self) -> None:
        """One element: stored where it is needed, then through all stages."""
        value = "value"
        if self.out is not None:
            code, b = self.out.dtype.code, self.scope[self.alias.get(self.out, self.out)]
            if None in self.vectors:
                self.line(f"st_{code}({self.vectors[None][1]}, ux, value, 99)")
            else:
                self.line(f"st_{code}(p{b}, flat, value, {b})")
            if self.result is self.out and self.out.dtype is not self.out.dtype.compute:
                value = f"to_{code}(value)"
        for e in ir.walk(*(s.expr for s in self.kernel.stages)):
            if e.op == "at" and e.data is self.result:
                self.stack[-1].names[e] = value
        self._stages()

    def _store(self, s: Stage, value: str) -> None:
        if s in self.vectors:
            self.line(f"st_{s.target.dtype.code}({self.vectors[s][1]}, ux, {value}, 99)")
        else:
            super()._store(s, value)

    def _accesses(self, inside: Sequence[Axis], known: Mapping[Expr, str]) -> tuple[dict, dict]:
        """(loads, stores) that take the neighbours of a group at once: by which array of registers, (dtype, name, elements).

        The store of the product itself stands under None.
        """
        v = self.own.group
        made = {s.target for s in self.kernel.stages}
        found = [e for e in dict.fromkeys(x for s in self.kernel.stages for x in ir.walk(s.expr)) if e.op == "at" and e not in known
                 and e.data is not self.result and e.data not in made and e.data.dtype.kind in "iuf" and self._together(e.args[0], inside)]
        reads = {e: (e.data.dtype.code, f"in{k}", v) for k, e in enumerate(found)}
        stages = [s for s in self.kernel.stages
                  if s.target.role != "tmp" and s.target.dtype.kind in "iuf" and self._together(s.index[0], inside)]
        stores: dict[Stage | None, tuple[str, str, int]] = {s: (s.target.dtype.code, f"out{k}", v) for k, s in enumerate(stages)}
        if self.out is not None:
            stores[None] = (self.out.dtype.code, "own", v)
        return reads, stores

    def _together(self, offset: Expr, inside: Sequence[Axis]) -> bool:
        """Whether the elements of a group lie next to each other, at a multiple of their number."""
        axes = inside or self.kernel.outer
        form = simplify.affine(offset)
        if not axes or any(t.op != "axis" for t in form.terms) or types.same(form.terms.get(ir.axis(axes[-1]), 0), 1) is not True:
            return False
        steps = [form.const, axes[-1].extent, *(c for t, c in form.terms.items() if t.data is not axes[-1])]
        return all(simplify._exact(c, self.own.group) is not None for c in steps)

    def _at_column(self, offset: Expr, inside: Sequence[Axis]) -> str:
        """An offset at the first column of a group."""
        axes, flat = (inside, "col") if inside else (self.kernel.outer, f"row * {self.size(self.n)} + col")
        fresh = [Axis(a.extent) for a in axes]
        name = self.name()
        self.place(name, flat)
        self.unflatten(fresh, name)
        return self.value(ir.substitute(offset, {a: ir.axis(b) for a, b in zip(axes, fresh)}))

    def _axes(self) -> tuple[list[Axis], list[Axis]]:
        """The axes of what follows as those of rows and those of columns; all of them and none, where one axis is both."""
        size: Size = 1
        for k in range(len(self.kernel.outer), -1, -1):
            if types.same(size, self.n) is True and k < len(self.kernel.outer):
                return list(self.kernel.outer[:k]), list(self.kernel.outer[k:])
            size = size * self.kernel.outer[k - 1].extent if k else size
        return list(self.kernel.outer), []

    def _columns_only(self, inside: Sequence[Axis]) -> dict[Expr, str]:
        """What follows reads for each column alone, a bias: read once, kept in registers."""
        found = [e for e in dict.fromkeys(x for s in self.kernel.stages for x in ir.walk(s.expr))
                 if e.op == "at" and e.data is not self.result and e.axes and e.axes <= set(inside)]
        made = {s.target for s in self.kernel.stages}
        found = [e for e in found if e.data not in made and e.data not in self.alias.values()]
        names = {e: f"kept{k}" for k, e in enumerate(found)}
        if not found:
            return names
        (n, step), v = self.own.columns, self.own.group
        for e, name in names.items():
            self.line(f"{name} = stack_{e.dtype.code}({n * v})")
        self.open(f"for gx in unroll({n}):")
        self.open(f"for ux in unroll({v}):")
        at = f"left + over + gx * {step} + ux"
        ragged = simplify._exact(self.n, self.tile.columns) is None
        self.place("j", self.index_of(f"min({at}, {self.size(self.n - 1)})" if ragged else at))
        self.unflatten(inside, "j")
        for e, name in names.items():
            self.line(f"st_{e.dtype.code}({name}, gx * {v} + ux, {self.value(e)}, 99)")
        self.close()
        self.close()
        return names



class TensorTiled(Tiled):
    """A product on tensor cores: 16-bit floats as they are, or float32 rounded to TF32, added up in float32.

    Tiles stand in shared memory as they are read, [i][r] or [r][i], rows further apart than they are long, so that what a
    warp reads at once lies in different banks.  Fragments: PTX ISA, "Matrix fragments for mma.m16n8k16".
    """

    def __init__(self, *given, **more):
        super().__init__(*given, **more)
        self.pad = LINE if self.staged().size == 2 else 2 * LINE
        self.kind = {"float16": "f16", "bfloat16": "bf16"}.get(self.staged().name, "tf32")
        self.step = LINE // self.staged().size * 2  # of the sum in one multiplication

    def staged(self) -> DType:
        return _tensor_dtype(self.p) or self.p.dtype

    def owned(self) -> Own:
        m, n = self.tile.own
        return Own((m // 16, 16, 2, 8), (n // 8, 8), 2, f"(gy * {n // 8} + gx) * 4 + uy * 2 + ux")

    def kernel_label(self) -> str:
        return f"product {self.kind} {self.tile}" + (f" in {self.splits}" if self.splits > 1 else "")

    def _threads(self) -> None:
        """Where this thread's accumulators are, and the rows of matrices that it points at."""
        m, n = self.tile.own
        wx = self.tile.warps[1]
        self.line(f"warp = udiv(t, {WARP})")
        self.line(f"lane = umod(t, {WARP})")
        self.line(f"top_row = udiv(warp, {wx}) * {m}")
        self.line(f"left_column = umod(warp, {wx}) * {n}")
        self.line("down = top_row + udiv(lane, 4)")
        self.line("over = left_column + umod(lane, 4) * 2")
        half = self.step // 2
        for side, first, in_rows in zip(self.sides, ("top_row", "left_column"), (True, False)):
            row, low, high = "umod(lane, 8)", "umod(udiv(lane, 8), 2)", "udiv(lane, 16)"
            i, r = (low, high) if in_rows else (high, low)  # which of a matrix's neighbours are counted first
            if side.by_rows:
                at = f"({first} + {i} * 8 + {row}) * {side.pitch} + {r} * {half}"
            elif self.kind == "tf32":
                at = f"umod(lane, 4) * {side.pitch} + {first} + udiv(lane, 4)"
            else:
                at = f"({r} * 8 + {row}) * {side.pitch} + {first} + {i} * 8"
            self.line(f"at_{side.letter} = {at}")

    def _registers(self) -> None:
        m, n = self.tile.own
        self.line(f"x = stack_u32({m // 4})")
        self.line(f"y = stack_u32({n // 4})")
        self._zeros(m * n // WARP)

    def _multiply(self) -> None:
        m, n = self.tile.own
        a, b = self.sides
        self.line("atx = now + at_a")
        self.line(f"aty = now + at_b + {a.room}")
        self.open(f"for q in unroll({self.tile.depth // self.step}):")
        self._fragments(a, "x", "atx", m, ((0, 0), (8, 0), (0, 4), (8, 4)))
        self._fragments(b, "y", "aty", n, ((0, 0), (0, 4), (8, 0), (8, 4)))
        self.open(f"for gy in unroll({m // 16}):")
        self.open(f"for gx in unroll({n // 8}):")
        self.line(f"mma_{self.kind}(sums, (gy * {n // 8} + gx) * 4, x, gy * 4, y, gx * 2)")
        for _ in range(3):
            self.close()

    def _fragments(self, side: Side, to: str, at: str, span: int, places: Sequence[tuple[int, int]]) -> None:
        """The fragments of 16 rows of A, or of 16 columns of B, at a time: matrices at `places`, (i, r) from the first."""
        self.open(f"for g in unroll({span // 16}):")
        if side.by_rows:
            self.line(f"ldmatrix_{side.code}({to}, g * 4, shared, {at} + (g * {16 * side.pitch} + q * {self.step}))")
        elif self.kind == "tf32":
            for k, (i, r) in enumerate(places):
                where = f"{at} + (q * {self.step * side.pitch} + g * 16 + {r * side.pitch + i})"
                self.line(f"moved_u32({to}, g * 4 + {k}, shared, {where}, True, 1, 99, 60)")
        else:
            self.line(f"ldmatrix_turned_{side.code}({to}, g * 4, shared, {at} + (q * {self.step * side.pitch} + g * 16))")
        if self.kind == "tf32":
            self.open("for u in unroll(4):")
            self.line(f"st_f32({to}, g * 4 + u, tf32(ld_f32({to}, g * 4 + u, 99)), 99)")
            self.close()
        self.close()

    # -- copies that go past the registers

    def streams(self) -> bool:
        """Whether all copies are of 4 bytes or more, which can go from memory to memory by themselves."""
        return all(s.load is not None and s.vector * s.dtype.size >= 4 for s in self.sides)

    def halves(self) -> int:
        return min(4, STATIC // (self.half * self.staged().size)) if self.streams() else 2

    def _steps(self, exact: bool) -> None:
        """As many steps as there is room for are on their way while one is multiplied."""
        if not self.streams():
            super()._steps(exact)
            return
        depth, ahead = self.tile.depth, self.halves() - 1
        self._ask("begin", None if exact else "first", "0")
        self.line("commit_asked()")
        self.line(f"r = {f'begin + {depth}' if exact else 'first + 0'}")
        for k in range(1, ahead):
            self.open(f"if {k} < steps:")
            self._ask("r", None, str(k * self.half))
            self.close()
            self.line("commit_asked()")
            self.line(f"r = r + {depth}")
        self.line("now = 0")
        self.line(f"to = {ahead * self.half}")
        self.open("for step in range(0, steps):")
        self.line(f"await_asked({ahead - 1})")
        self.line("barrier()")
        self.open(f"if step + {ahead} < steps:")
        self._ask("r", None, "to")
        self.close()
        self.line("commit_asked()")
        self._multiply()
        self.line(f"now = select(now == {ahead * self.half}, 0, now + {self.half})")
        self.line(f"to = select(to == {ahead * self.half}, 0, to + {self.half})")
        self.line(f"r = r + {depth}")
        self.close()

    def _ask(self, k: str, end: str | None, to: str) -> None:
        a, b = self.sides
        a.fetch(self, k, end, to)
        b.fetch(self, k, end, f"{to} + {a.room}")


def _tensor_dtype(p: Product) -> DType | None:
    """The dtype of both operands in memory, if it is one of 16 bits that tensor cores multiply, or float32 that may be rounded."""
    sides = [Side(letter, x, p.dtype, False) for letter, x in (("a", p.a), ("b", p.b))]
    found = {s.load.data.dtype if s.load is not None else None for s in sides}
    (one, *others) = found
    if others or one is None or p.dtype is not types.float32:
        return None
    return one if one in (types.float16, types.bfloat16) or one is types.float32 and flags.tf32 else None


def _bits(code: str) -> str:
    """The word that moves elements as they are."""
    return {"f16": "u16", "bf16": "u16"}.get(code, code)
