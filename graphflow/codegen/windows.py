"""Windows: folds of few taps, unrolled completely into the vector loop over channels.

Two kinds of kernel have this form.  A fold over at most `TAPS` taps (pooling, depthwise convolution and its input
gradient) keeps one accumulator a pixel; a sum over all pixels for each of a few taps (the filter gradient of a depthwise
convolution) keeps one a tap.  Both walk along a row of pixels, several at a time, so that values which neighbours share
are loaded once.  Where the conditions that guard the padding are certain to hold, which is a range of each row, they are
not tested; the pixels outside of it are done one by one with conditions that the vector loop sees as one bit.  An index
that is divided by a stride takes as many bodies as the stride, in each of which the division is exact.

Knows Kernel IR in linear form and the spelling of emit_cpu; knows no op and no graph (rank 4).
"""
from __future__ import annotations

import math
from dataclasses import dataclass, replace
from itertools import product as cartesian
from typing import Iterable, Sequence

from .. import types
from ..types import Size
from . import ir, simplify
from .emit_cpu import Emitted, _combine, _Emitter
from .ir import Axis, Buffer, Expr, Kernel, Stage
from .schedule import Schedule, inner_axes, scatters
from .simplify import Affine, affine

TAPS = 32  # most steps of a fold that are written out
ALONE = 48  # the same where neighbours share no load
WORK = 190  # loads and operations in one body, all pixels together: longer texts take long to compile
PHASES = 4  # largest stride with a body for each remainder
PIXELS = 256  # a sum over pixels is cut into pieces of about so many, each by one thread
PIECES = 64  # but into no more pieces than this
SUMS = "sums of taps"  # the label of partial sums
SCOPE = 63  # alias scopes counted down from here: pixels (or taps) of one body write different elements

Place = dict[Axis, Expr]


@dataclass(frozen=True)
class Form:
    """The loops of a window kernel: `rows`, then pixels along `pixel`, then lanes; `taps` are written out."""

    rows: tuple[Axis, ...]
    pixel: Axis
    lane: Axis
    taps: tuple[Axis, ...]
    sums: bool


def emit(plan: Schedule, alias: dict[Buffer, Buffer]) -> Emitted | None:
    """The text of a window kernel; None for any other."""
    found = form(plan)
    return None if found is None else _Windows(plan, alias, found).emit()


def form(plan: Schedule) -> Form | None:
    """How the kernel is one of windows."""
    return _sums(plan.kernel) if plan.kernel.stages[0].target.label == SUMS else _folds(plan)


def _folds(plan: Schedule) -> Form | None:
    """Every stage is an element, or a fold over a few taps, of the pixels of a row."""
    if plan.lane is None or not plan.rows:
        return None
    most = 1
    for s in plan.kernel.stages:
        count = _count(s.reduced)
        if s.scan is not None or scatters(s) or set(inner_axes(s, plan.kernel)) != set(s.reduced) or count is None:
            return None
        most = max(most, count)
    return Form(plan.rows[:-1], plan.rows[-1], plan.lane, (), False) if most > 1 or _guarded(plan) else None


def _guarded(plan: Schedule) -> bool:
    """Whether the place of a pixel decides something: padding, or a division of its index."""
    found = [e for e in ir.walk(*(s.expr for s in plan.kernel.stages)) if e.op in ("lt", "le", "gt", "ge", "floordiv", "mod")]
    return any(e.args[0].dtype is types.int64 and plan.rows[-1] in ir.axes_in(e) and plan.lane not in ir.axes_in(e)
               and all(x.op != "at" for x in ir.walk(e)) for e in found)


def _sums(kernel: Kernel) -> Form:
    """One sum over rows of pixels for each of a few taps, as `pieces` makes it."""
    s = kernel.stages[0]
    kept = [a for a in s.axes if a not in s.reduced and a not in kernel.outer]
    return Form((s.reduced[0],), s.reduced[1], kept[-1], tuple(kept[:-1]), True)


def _count(axes: Iterable[Axis]) -> int | None:
    """The product of extents that are known and small."""
    n = 1
    for a in axes:
        if not isinstance(a.extent, int) or a.bound is not None:
            return None
        n *= a.extent
    return n if n <= TAPS else None


# ---------------------------------------------------------------- what is certain


def certain(f: Affine, facts: Sequence[Affine]) -> bool:
    """Whether f >= 0 follows from the extents of its axes, or from one of `facts`, each of which says that it is >= 0."""
    return _above(_least(f)) or any(g.terms == f.terms and _above(f.const - g.const) for g in facts)


def _least(f: Affine) -> Size:
    """The smallest value of f, or -1 where that is not known."""
    low = f.const
    for e, c in f.terms.items():
        if e.op != "axis" or not isinstance(c, int):
            return -1
        low = low + (e.data.extent - 1) * c if c < 0 else low
    return low


def _above(n: Size) -> bool:
    return isinstance(n, int) and n >= 0


def claim(e: Expr) -> Affine | None:
    """A comparison of integers as f >= 0."""
    if e.op not in ("lt", "le", "gt", "ge") or e.args[0].dtype is not types.int64:
        return None
    a, b = map(affine, e.args)
    low, high = (b, a) if e.op in ("gt", "ge") else (a, b)
    return high.plus(low, -1).plus(Affine({}, -1 if e.op in ("lt", "gt") else 0))


def folded(root: Expr, facts: Sequence[Affine] = ()) -> Expr:
    """`root` without the conditions, limits and divisions that `facts` decide."""
    def change(e: Expr, args: tuple[Expr, ...]) -> Expr:
        new = ir.rebuilt(e, args)
        if new.op in ("land", "lor"):
            return _logic(new)
        if new.op == "lnot" and new.args[0].op == "const":
            return ir.const(not new.args[0].data, types.bool_)
        if new.op in ("lt", "le", "gt", "ge"):
            f = claim(new)
            if f is not None and certain(f, facts):
                return ir.const(True, types.bool_)
            if f is not None and certain(Affine({}, -1).plus(f, -1), facts):
                return ir.const(False, types.bool_)
        elif new.op == "eq" and new.args[0].dtype is types.int64:
            f = affine(new.args[0]).plus(affine(new.args[1]), -1)
            if not f.terms and isinstance(f.const, int):
                return ir.const(f.const == 0, types.bool_)
        elif new.op in ("min", "max") and new.dtype is types.int64:
            a, b = new.args
            for x, y in ((a, b), (b, a)):
                if certain(affine(y).plus(affine(x), -1), facts):
                    return x if new.op == "min" else y
        elif new.dtype is types.int64 and new.op in ("add", "sub", "mul", "floordiv", "mod"):
            return affine(new).expr()
        elif new.op == "at":
            return ir.make("at", (affine(new.args[0]).expr(),), new.dtype, new.data)
        return new
    return ir.rewrite(root, change)


def _logic(e: Expr) -> Expr:
    """A conjunction or disjunction without constants."""
    for a, b in (e.args, e.args[::-1]):
        if a.op == "const":
            return b if bool(a.data) == (e.op == "land") else a
    return e


def _vanishes(e: Expr, combine: str) -> bool:
    """Whether combining `e` changes nothing: a tap that lies outside in every case."""
    if e.op == "mul" and combine == "add":
        return any(_vanishes(a, combine) for a in e.args)
    return e.op == "const" and e.dtype.kind != "c" and e.data == ir.neutral(combine, e.dtype)


# ---------------------------------------------------------------- the text


class _Windows(_Emitter):
    """Rows of pixels; in each the range without conditions, in blocks, and then the rest."""

    def __init__(self, plan: Schedule, alias: dict[Buffer, Buffer], form: Form):
        rows = plan.kernel.outer if form.sums else form.rows
        super().__init__(replace(plan, rows=rows, lane=None), alias)
        self.form = form
        self.steps = {s: self._unrolled_steps(s) for s in self.kernel.stages}
        self.phases = {a: self._phases(a) for a in (*form.rows, form.pixel)}
        self.shares = self._lane_phases()
        self.lanes = Axis(types.floordiv(form.lane.extent, self.shares), "c")

    def _unrolled_steps(self, s: Stage) -> list[tuple[Place, Expr]]:
        """The stage's expression for each value of its taps."""
        taps = self.form.taps if self.form.sums else s.reduced
        places = [dict(zip(taps, map(ir.index_const, t))) for t in cartesian(*[range(a.extent) for a in taps])]  # type: ignore[arg-type]
        return [(p, folded(ir.substitute(s.expr, p))) for p in places]

    def _expressions(self) -> list[Expr]:
        return [e for steps in self.steps.values() for _, e in steps]

    def _phases(self, a: Axis) -> int:
        """How many remainders of `a` make every division exact; 1 where none do."""
        n = 1
        for e in ir.walk(*self._expressions()):
            if e.op in ("floordiv", "mod") and e.dtype is types.int64 and e.args[1].op == "const":
                c, d = affine(e.args[0]).terms.get(ir.axis(a), 0), e.args[1].data
                if isinstance(c, int) and c and d > 0:
                    n = math.lcm(n, d // math.gcd(c, d))
        if n == 1 or n > PHASES:
            return 1
        return n if not self._divided(a, n) else 1

    def _divided(self, a: Axis, n: int) -> bool:
        """Whether a division is left that depends on `a` when its remainder by n is known."""
        part = Axis(types.floordiv(a.extent, n))
        found = [folded(ir.substitute(e, {a: ir.axis(part) * n + r})) for e in self._expressions() for r in range(n)]
        return any(e.op in ("floordiv", "mod") and part in ir.axes_in(e) for e in ir.walk(*found))

    def _lane_phases(self) -> int:
        """Lanes that read one channel together (a depth multiplier): each becomes a body of its own."""
        n = self._phases(self.form.lane)
        return n if isinstance(self.form.lane.extent, int) and self.form.lane.extent % n == 0 else 1

    # -- loops

    def _arranged(self) -> tuple[Size, Size]:
        per_pixel = sum(map(len, self.steps.values())) * self.form.lane.extent
        if self.form.sums:
            extent, _ = self._rows(self._sum_body)
            return extent, per_pixel * self.form.pixel.extent * self.form.rows[0].extent
        if self.form.rows:
            extent, _ = self._rows(lambda: self._row("0", self.size(self.form.pixel.extent)))
            return extent, per_pixel * self.form.pixel.extent
        self.open("if lo < hi:")
        self._row("lo", "hi")
        self.close()
        return self.form.pixel.extent, per_pixel

    def _sum_body(self) -> None:
        """The sums of one piece live in the partial result itself, which stays in first-level cache."""
        s = self.kernel.stages[0]
        zero = self._neutral(s)
        self._open_lanes()
        for r in range(self.shares):
            for number, (tap, _) in enumerate(self.steps[s]):
                where = self.value(folded(ir.substitute(s.index[0], {**tap, **self._lane(r)})))
                self._write(s, where, zero, number * self.shares + r)
        self.close()
        self.loop(self.form.rows[0])
        self._row("0", self.size(self.form.pixel.extent))
        self.close()

    def _row(self, lo: str, hi: str) -> None:
        """Pixels lo..hi of one row."""
        first, last = self.name(), self.name()
        self.line(f"{first} = {hi}")
        self.line(f"{last} = {hi}")
        split = [a for a in self.form.rows if self.phases[a] > 1]
        for remainders in cartesian(*[range(self.phases[a]) for a in split]):
            place: dict[Axis, Expr] = {}
            if split:
                self.open("if " + " and ".join(f"imod({self.axis_name[a]}, {self.phases[a]}) == {r}" for a, r in zip(split, remainders))
                          + ":")
            for a, r in zip(split, remainders):
                part = Axis(a.extent, f"{a.name}_{self.phases[a]}")
                self.line(f"{part.name} = ifloordiv({self.axis_name[a]}, {self.phases[a]})")
                self.level[part], self.axis_name[part] = len(self.stack) - 1, part.name
                place[a] = ir.axis(part) * self.phases[a] + r
            self._inside(place, lo, hi, first, last)
            if split:
                self.close()
        self._outside(lo, hi, first, last)

    def _inside(self, place: Place, lo: str, hi: str, first: str, last: str) -> None:
        """Blocks of pixels for which every condition on rows and pixels holds; first..last is what they cover."""
        a, n = self.form.pixel, self.phases[self.form.pixel]
        q = Axis(a.extent, "q")
        here: list[Place] = [{**place, a: ir.axis(q) * n + r} for r in range(n)]
        facts = self._facts([folded(ir.substitute(e, p)) for p in here for e in self._expressions()], q)
        block = self._block(n)
        if n == block == 1 and not facts and not place:
            return
        start, stop = self.name(), self.name()
        lows, highs, holds = ["0" if lo == "0" else f"ifloordiv({lo} + {n - 1}, {n})"], [f"ifloordiv({hi}, {n})"], []
        for f in facts:
            step = f.terms.get(ir.axis(q), 0)
            rest = self.value(Affine({e: c for e, c in f.terms.items() if e is not ir.axis(q)}, f.const).expr())
            if step == 0:
                holds.append(f"({rest} >= 0)")
            elif step > 0:  # type: ignore[operator]
                lows.append(f"-ifloordiv({rest}, {step})")
            else:
                highs.append(f"ifloordiv({rest}, {-step}) + 1")  # type: ignore[operator]
        self.line(f"{start} = fmin({_nested('fmax', lows)}, {highs[0]})")
        self.line(f"{stop} = fmax({_nested('fmin', highs)}, {start})")
        if holds:
            self.line(f"{stop} = select({' & '.join(holds)}, {stop}, {start})")
        self.line(f"{stop} = {start} + ifloordiv({stop} - {start}, {block}) * {block}")
        self.open(f"for q in range({start}, {stop}, {block}):")
        self.level[q], self.axis_name[q] = len(self.stack) - 1, "q"
        pixels = [{**place, a: (ir.axis(q) + j) * n + r} for j in range(block) for r in range(n)]
        self._body(pixels, [f.plus(Affine({}, j * f.terms.get(ir.axis(q), 0))) for f in facts for j in range(block)])
        self.close()
        self.line(f"{first} = {start} * {n}")
        self.line(f"{last} = {stop} * {n}")

    def _outside(self, lo: str, hi: str, first: str, last: str) -> None:
        """The other pixels of the row, one by one."""
        a = self.form.pixel
        self.open(f"for e in range({first} - {lo} + {hi} - {last}):")
        self.line(f"{a.name} = {lo} + e + select({lo} + e < {first}, 0, {last} - {first})")
        self.level[a], self.axis_name[a] = len(self.stack) - 1, a.name
        self._body([{}], [])
        self.close()

    def _block(self, phases: int) -> int:
        """Pixels (groups of phases) of one body: many, but so that few are left over at the end of a row."""
        words = sum(map(len, self.steps.values())) + _work(self._expressions())
        limit = WORK if phases > 1 or self._neighbours_share() else ALONE
        most = min(max(limit // max(words * phases * self.shares, 1), 1), 6)
        row = (types.hint(self.form.pixel.extent) or 0) // phases - 2
        return min(range(max(most - 2, 1), most + 1), key=lambda n: (row % n if row > 0 else 0) * 2 + row // n + n / 100)

    def _neighbours_share(self) -> bool:
        """Whether two pixels next to each other load an element both."""
        loads = {e for e in ir.walk(*self._expressions()) if e.op == "at"}
        return any(folded(ir.substitute(e, {self.form.pixel: ir.axis(self.form.pixel) + 1})) in loads for e in map(folded, loads))

    # -- facts

    def _facts(self, expressions: Sequence[Expr], q: Axis) -> list[Affine]:
        """What must be >= 0 for all conditions on rows and pixels to hold; of those that imply each other, the strongest."""
        found: list[Affine] = []
        for e in ir.walk(*expressions):
            f = claim(e)
            if f is None or not all(self._scalar(t, q) for t in f.terms) or not isinstance(f.terms.get(ir.axis(q), 0), int):
                continue
            if (f.terms or isinstance(f.const, types.Dim)) and not certain(f, found):
                found = [g for g in found if not certain(g, [f])] + [f]
        return found

    def _scalar(self, atom: Expr, q: Axis) -> bool:
        """Whether the atom is the pixel, or known when the row is."""
        if atom.op == "axis" and atom.data is q:
            return True
        return all(e.op != "at" for e in ir.walk(atom)) and all(a in self.level for a in ir.axes_in(atom))

    # -- one body

    def _lane(self, r: int) -> dict[Axis, Expr]:
        return {self.form.lane: ir.axis(self.lanes) * self.shares + r}

    def _open_lanes(self) -> None:
        self.open(f"for c in range({self.size(self.lanes.extent)}):")
        self.level[self.lanes], self.axis_name[self.lanes] = len(self.stack) - 1, "c"

    def _body(self, pixels: Sequence[Place], facts: Sequence[Affine]) -> None:
        self._open_lanes()
        for r in range(self.shares):
            if self.form.sums:
                self._sum_pixels(pixels, facts, r)
            else:
                for number, place in enumerate(pixels):
                    self._fold_taps({**place, **self._lane(r)}, facts, number * self.shares + r if len(pixels) > 1 else -1)
        self.close()

    def _fold_taps(self, place: Place, facts: Sequence[Affine], number: int) -> None:
        """All stages of one pixel."""
        for s in self.kernel.stages:
            index = folded(ir.substitute(s.index[0], place), facts)
            terms = [folded(ir.substitute(e, place), facts) for _, e in self.steps[s]]
            if not s.combine:
                v = self.value(terms[0])
            else:
                start = [] if s.init is None else [self.value(folded(ir.substitute(s.init, place), facts))]
                v = self._combined(s, start, terms)
            self.stack[-1].names[ir.make("at", (index,), s.target.dtype.compute, s.target)] = v
            if s.target.role != "tmp":
                self._write(s, self.value(index), v, number)

    def _combined(self, s: Stage, values: list[str], terms: Sequence[Expr]) -> str:
        """One value after the other joined to the first, without those that change nothing."""
        values = values + [self.value(e) for e in terms if not _vanishes(e, s.combine or "")]
        v = values[0] if values else self._neutral(s)
        for w in values[1:]:
            n = self.name()
            self.line(f"{n} = {_combine(s.combine or '', s.expr.dtype, v, w)}")
            v = n
        return v

    def _sum_pixels(self, pixels: Sequence[Place], facts: Sequence[Affine], r: int) -> None:
        """The pixels' products added to the sum of each tap."""
        s = self.kernel.stages[0]
        for number, (tap, e) in enumerate(self.steps[s]):
            where = self.value(folded(ir.substitute(s.index[0], {**tap, **self._lane(r)})))
            code, scope = s.target.dtype.code, SCOPE - number * self.shares - r
            terms = [folded(ir.substitute(e, {**p, **self._lane(r)}), facts) for p in pixels]
            v = self._combined(s, [f"ld_{code}(p{self.scope[s.target]}, {where}, {scope})"], terms)
            self._write(s, where, v, number * self.shares + r)

    def _write(self, s: Stage, where: str, value: str, number: int) -> None:
        """Bodies of several pixels write several elements, which never meet: each has an alias scope of its own."""
        b = self.alias.get(s.target, s.target)
        scope = self.scope[b] if number < 0 or b is not s.target else SCOPE - number
        self.line(f"st_{s.target.dtype.code}(p{self.scope[b]}, {where}, {value}, {scope})")


def _work(expressions: Sequence[Expr]) -> int:
    """Loads, and operations on what is loaded; the arithmetic of indices is not counted."""
    loaded: set[Expr] = set()
    for e in ir.walk(*expressions):
        if e.op == "at" or not loaded.isdisjoint(e.args):
            loaded.add(e)
    return len(loaded)


def _nested(word: str, values: Sequence[str]) -> str:
    text = values[0]
    for v in values[1:]:
        text = f"{word}({text}, {v})"
    return text


# ---------------------------------------------------------------- splitting sums over pixels


def pieces(kernel: Kernel) -> list[Kernel] | None:
    """A sum over all pixels for each of a few taps and of many channels, as sums over pieces and the sum of these; or None.

    The pieces are so many rows of pixels: how many depends on sizes only.
    """
    if len(kernel.outer) < 2 or not kernel.stages:
        return None
    s, taps, lane = kernel.stages[0], kernel.outer[:-1], kernel.outer[-1]
    if s.combine != "add" or s.scan is not None or s.init is not None or scatters(s) or len(s.reduced) < 2:
        return None
    if set(inner_axes(s, kernel)) != set(s.reduced) or any(a.bound is not None for a in s.reduced) or not 1 < (_count(taps) or 0) < 28:
        return None
    loads = [e for e in ir.walk(s.expr) if e.op == "at"]
    if any(simplify.stride(e.args[0], lane) != 1 for e in loads) or not any(ir.axes_in(e) & set(taps) for e in loads):
        return None
    *rows, pixel = s.reduced
    count, width = types.product(a.extent for a in rows), types.hint(pixel.extent) or 1
    many = types.hint(count) or 1
    if many * width < PIXELS // 4:
        return None
    piece = max(-(-PIXELS // width), -(-many // PIECES))
    number = Axis(types.ceildiv(count, piece))
    row = Axis(piece, bound=ir.size(count) - ir.axis(number) * piece)
    return _summed(kernel, s, number, row, piece)


def _summed(kernel: Kernel, s: Stage, number: Axis, row: Axis, piece: int) -> list[Kernel]:
    *rows, pixel = s.reduced
    place, rest = {}, ir.axis(number) * piece + ir.axis(row)
    for a in reversed(rows[1:]):
        place[a], rest = rest % ir.size(a.extent), rest // ir.size(a.extent)
    place[rows[0]] = rest
    taps = kernel.outer
    partial = Buffer(s.expr.dtype, (number.extent, *[a.extent for a in taps]), "part", SUMS)
    where = ir.axis(number)
    for a in taps:
        where = where * ir.size(a.extent) + ir.axis(a)
    where = affine(where).expr()
    expr = folded(ir.substitute(s.expr, place))
    first = Stage(partial, (number, *taps, row, pixel), (where,), expr, "add", (row, pixel), ops=s.ops)
    used = {e.data for e in ir.walk(expr) if e.op == "at"}
    summed = Kernel(kernel.name + "_pieces", tuple(b for b in kernel.buffers if b in used) + (partial,), (first,), (number,))
    last = Axis(number.extent)
    load = ir.make("at", (ir.substitute(where, {number: ir.axis(last)}),), s.expr.dtype, partial)
    second = replace(s, axes=(*taps, last), expr=load, reduced=(last,))
    stages = (second, *kernel.stages[1:])
    needed = {e.data for t in stages for e in ir.walk(t.expr, *t.index) if e.op == "at"} | {t.target for t in stages}
    total = simplify._merge_loops(replace(kernel, buffers=tuple(b for b in kernel.buffers if b in needed) + (partial,), stages=stages))
    return [summed, total]
