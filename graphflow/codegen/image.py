"""Convolution operands as images: which input rows and columns the taps of a window read.

`Window.of` recovers the geometry from the expression of a contraction's operand, so that every op whose operand slides over an
image (a convolution, either of its gradients, a correlation written by hand) can be computed directly from a padded slab of the
image, without writing each element once per tap.  Knows Kernel IR; knows no op by name (rank 4).
"""
from __future__ import annotations

from dataclasses import dataclass
from math import gcd
from typing import Sequence

from .. import types
from ..types import DType, Size
from . import ir, simplify
from .ir import Axis, Buffer, Expr

FAR = 1 << 40  # a bound that nothing reaches


@dataclass
class Line:
    """One direction: place = step * position + spread * tap - before, read where 0 <= place < limit."""

    step: int = 1
    spread: int = 1
    before: int = 0
    limit: Size = FAR
    bounded: bool = False


@dataclass
class Window:
    """An operand at (image, y, x; ky, kx, c): element `image * stride + start + row * pitch + column * channels + c`."""

    buffer: Buffer
    images: Size
    stride: Size  # between images
    start: Size
    pitch: Size  # between rows of the image
    channels: int
    down: Line
    across: Line
    counts: tuple[Size, int]  # positions in y and x
    kernel: tuple[int, int]

    @property
    def width(self) -> int:
        """Columns that the windows of one row reach, padding included."""
        return (self.counts[1] - 1) * self.across.step + self.kernel[1]

    @property
    def run(self) -> int:
        """Elements next to each other that one row of taps reads."""
        return self.kernel[1] * self.channels

    def reach(self, rows: int) -> int:
        """Image rows that `rows` rows of windows read."""
        return (rows - 1) * self.down.step + (self.kernel[0] - 1) * self.down.spread + 1

    @staticmethod
    def of(expr: Expr, places: Sequence[Axis], taps: Sequence[Axis], dtype: DType) -> Window | None:
        """The operand's geometry with positions `places` ([image, y, x], the first ones may lack) and `taps` ([ky, kx, c])."""
        conditions: list[Expr] = []
        e = expr
        while e.op == "select" and e.args[2].op == "const" and e.args[2].data == 0:
            conditions += conjuncts(e.args[0])
            e = e.args[1]
        if e.op != "load" or e.data.dtype is not dtype or not places or not taps or len(places) > 3 or len(taps) > 3:
            return None
        f = simplify.affine(unclamped(simplify.offset(e.data, e.args), conditions))
        if any(t.op != "axis" for t in f.terms) or any(not isinstance(a.extent, int) for a in (*taps, places[-1])):
            return None
        return _Found(e.data, f, conditions, places, taps).window()


class _Found:
    def __init__(self, buffer: Buffer, f: simplify.Affine, conditions: list[Expr], places: Sequence[Axis], taps: Sequence[Axis]):
        self.buffer, self.f, self.conditions = buffer, f, conditions
        self.x, self.y, self.image = (*reversed(places), None, None)[:3]
        rest = list(taps)
        channel = rest[-1] if self.step(rest[-1]) == 1 and not any(rest[-1] in ir.axes_in(c) for c in conditions) else None
        self.channels = _int(channel)
        rest = rest[:-1] if channel is not None else rest
        self.kx = rest.pop() if rest and self.step(rest[-1]) == self.channels else None
        self.ky = rest.pop() if rest else None
        self.rest = rest

    def step(self, a: Axis | None) -> Size:
        return 0 if a is None else self.f.terms.get(ir.axis(a), 0)

    def window(self) -> Window | None:
        if self.rest or self.x is None:
            return None
        lines = self.lines()
        if lines is None:
            return None
        down, across, pitch = lines
        start = self.f.const + down.before * pitch + across.before * self.channels
        count = self.y.extent if self.y is not None else 1
        kernel = (_int(self.ky), _int(self.kx))
        images = self.image.extent if self.image is not None else 1
        return Window(self.buffer, images, self.step(self.image), start, pitch, self.channels, down, across, (count, _int(self.x)), kernel)

    def lines(self) -> tuple[Line, Line, Size] | None:
        down, across = Line(), Line()
        step_x = self.step(self.x)
        if not isinstance(step_x, int) or step_x <= 0 or step_x % self.channels:
            return None
        across.step = step_x // self.channels
        step_y, step_ky = self.step(self.y), self.step(self.ky)
        for c in self.conditions:
            found = self.bound(c)
            if found is None:
                return None
            vertical, step, spread, before, limit = found
            line = down if vertical else across
            if line.bounded and (line.step, line.spread, line.before) != (step, spread, before) or before < 0:
                return None
            if not vertical and step != across.step:
                return None
            line.step, line.spread, line.before, line.bounded = step, spread, before, True
            if limit is not None:
                line.limit = limit
        if (across.spread if self.kx is not None and across.bounded else 1) != 1:
            return None
        if down.bounded:
            pitch = types.floordiv(step_y, down.step) if self.y is not None else types.floordiv(step_ky, down.spread)
            for a, apart, by in ((self.y, step_y, down.step), (self.ky, step_ky, down.spread)):
                if a is not None and not _equal(pitch * by, apart):
                    return None
        elif self.ky is None:
            pitch = step_y
        elif isinstance(step_ky, int) and isinstance(step_y, int):
            pitch = gcd(step_y, step_ky)
            if pitch <= 0 or step_y < 0 or step_ky < 0:
                return None
            down.step, down.spread = max(step_y // pitch, 1), step_ky // pitch
        else:
            return None
        return down, across, pitch

    def bound(self, c: Expr) -> tuple[bool, int, int, int, Size | None] | None:
        """(is it about rows, step, spread, before, limit if this is the upper bound) of `place >= 0` or `place < limit`."""
        if c.op not in ("ge", "lt"):
            return None
        place, edge = simplify.affine(c.args[0]), simplify.affine(c.args[1])
        if edge.terms or c.op == "ge" and not _equal(edge.const, 0):
            return None
        axes = {e.data for e in place.terms if e.op == "axis"}
        if len(axes) != len(place.terms) or not isinstance(place.const, int):
            return None
        vertical = bool(axes & {self.y, self.ky})
        position, tap = (self.y, self.ky) if vertical else (self.x, self.kx)
        if axes != {a for a in (position, tap) if a is not None}:  # not: images of one row, whose number stands in for it
            return None
        step = place.terms.get(ir.axis(position), 1) if position is not None else 1
        spread = place.terms.get(ir.axis(tap), 1) if tap is not None else 1
        if not isinstance(step, int) or not isinstance(spread, int) or step < 1 or spread < 1:
            return None
        return vertical, step, spread, -place.const, edge.const if c.op == "lt" else None


def _int(a: Axis | None) -> int:
    """The extent of an axis that is known to be a number; 1 for none."""
    n = 1 if a is None else a.extent
    assert isinstance(n, int)
    return n


def _equal(a: Size, b: Size) -> bool:
    return types.same(a, b) is True


def conjuncts(e: Expr) -> list[Expr]:
    """The conditions of which `e` is the conjunction."""
    return [c for a in e.args for c in conjuncts(a)] if e.op == "land" else [e]


def unclamped(e: Expr, conditions: Sequence[Expr]) -> Expr:
    """The index without the clamps that hold anyway where the conditions do."""
    inside = {(c.op, c.args[0]) for c in conditions if c.args}

    def change(e: Expr, args: tuple[Expr, ...]) -> Expr:
        if e.op == "max" and args[0].op == "min" and args[1].op == "const" and args[1].data == 0:
            place = args[0].args[0]
            if ("ge", place) in inside and ("lt", place) in inside:
                return place
        return ir.rebuilt(e, args)
    return ir.rewrite(e, change) if conditions else e


@dataclass
class Phase:
    """What a strided gradient's outputs of one remainder read: axes of the operand replaced, and where their outputs lie."""

    axes: dict[Axis, Expr]
    outer: list[Axis]  # instead of the operand's outer axes
    reduced: list[Axis]  # instead of its reduced axes
    start: list[int]  # first position along each outer axis, and the step between positions
    step: list[int]
    empty: bool = False  # no tap reaches these outputs: they are zero


def phases(expr: Expr, outer: Sequence[Axis], reduced: Sequence[Axis]) -> list[Phase] | None:
    """Outputs split by their remainder under a stride, where the expression asks for `place` to be a multiple of it.

    A gradient through windows of stride s meets each output with every s-th tap only; the outputs of one remainder form an
    ordinary product without zeros (Dumoulin and Visin, "A guide to convolution arithmetic", 2016, section 4).
    """
    lines = []
    e = expr
    while e.op == "select":
        for c in conjuncts(e.args[0]):
            if c.op == "eq":
                found = _multiple(c, outer, reduced)
                if found is None:
                    return None
                lines.append(found)
        e = e.args[1]
    if not lines or len({y for y, *_ in lines}) != len(lines):
        return None
    out = [Phase({}, list(outer), list(reduced), [0] * len(outer), [1] * len(outer))]
    for y, ky, s, spread, before in lines:
        out = [new for p in out for new in _split(p, y, ky, s, spread, before)]
    return out


def _multiple(c: Expr, outer: Sequence[Axis], reduced: Sequence[Axis]) -> tuple[Axis, Axis | None, int, int, int] | None:
    """(output axis, tap axis, stride, spread of taps, before) of the condition that `output + before - tap * spread` is a multiple."""
    shifted, product = simplify.affine(c.args[1]), c.args[0]
    if product.op != "mul" or product.args[1].op != "const" or not isinstance(shifted.const, int):
        return None
    s = product.args[1].data
    y = [a for a in outer if shifted.terms.get(ir.axis(a)) == 1]
    steps = {a: shifted.terms.get(ir.axis(a), 1) for a in reduced}
    ky = [a for a, step in steps.items() if isinstance(step, int) and step < 0]
    if len(y) != 1 or len(ky) > 1 or len(shifted.terms) != 1 + len(ky) or ky and not isinstance(ky[0].extent, int):
        return None
    spread = -steps[ky[0]] if ky else 1
    assert isinstance(spread, int)
    return y[0], ky[0] if ky else None, s, spread, shifted.const


def _split(p: Phase, y: Axis, ky: Axis | None, s: int, spread: int, before: int) -> list[Phase]:
    out = []
    at = p.outer.index(y)
    for r in range(s):
        taps = [t for t in range(ky.extent if ky else 1) if (r + before - t * spread) % s == 0]
        q = Axis(types.ceildiv(y.extent - r, s))
        axes, reduced = {**p.axes, y: ir.axis(q) * s + r}, list(p.reduced)
        if ky is not None and taps:
            step = taps[1] - taps[0] if len(taps) > 1 else 1
            k = Axis(len(taps))
            axes[ky] = ir.index_const(taps[-1]) - ir.axis(k) * step if len(taps) > 1 else ir.index_const(taps[0])
            reduced[reduced.index(ky):reduced.index(ky) + 1] = [k] if len(taps) > 1 else []
        outer = list(p.outer)
        outer[at] = q
        start, steps = list(p.start), list(p.step)
        start[at], steps[at] = r, s
        out.append(Phase(axes, outer, reduced, start, steps, p.empty or not taps))
    return out


def in_phase(e: Expr, p: Phase) -> Expr:
    """The expression on the phase's axes, its conditions about remainders gone."""
    def change(e: Expr, args: tuple[Expr, ...]) -> Expr:
        new = ir.rebuilt(e, args)
        if new.dtype is types.int64 and new.op in ("add", "sub", "mul", "floordiv"):
            return simplify.affine(new).expr()
        if new.op == "eq" and new.args[0] is new.args[1]:
            return ir.const(True, types.bool_)
        if new.op == "land":
            rest = [a for a in new.args if not (a.op == "const" and a.data)]
            return new if len(rest) == 2 else rest[0] if rest else ir.const(True, types.bool_)
        return new
    return ir.rewrite(ir.substitute(e, p.axes), change)


def ascending(exprs: Sequence[Expr], axes: Sequence[Axis]) -> tuple[list[Expr], list[Axis]]:
    """The expressions with those axes turned round along which the first one reads memory backwards."""
    loads = list(ir.loads(exprs[0]))
    if len(loads) != 1:
        return list(exprs), list(axes)
    f = simplify.affine(free(simplify.offset(loads[0].data, loads[0].args)))
    turned: dict[Axis, Expr] = {}
    new = []
    for a in axes:
        step = f.terms.get(ir.axis(a), 0)
        if isinstance(step, int) and step < 0 or isinstance(step, types.Dim) and (types.hint(step) or 0) < 0:
            b = Axis(a.extent)
            turned[a] = ir.size(a.extent - 1) - ir.axis(b)
            new.append(b)
        else:
            new.append(a)
    return ([_affine_places(ir.substitute(e, turned)) for e in exprs] if turned else list(exprs)), new


def _affine_places(root: Expr) -> Expr:
    """Index arithmetic in one spelling, so that equal places are the same expression again."""
    def change(e: Expr, args: tuple[Expr, ...]) -> Expr:
        new = ir.rebuilt(e, args)
        return simplify.affine(new).expr() if new.dtype is types.int64 and new.op in ("add", "sub", "mul") else new
    return ir.rewrite(root, change)


def free(e: Expr) -> Expr:
    """The index without any clamps: for looking at strides only."""
    def change(e: Expr, args: tuple[Expr, ...]) -> Expr:
        return args[0].args[0] if e.op == "max" and args[0].op == "min" else ir.rebuilt(e, args)
    return ir.rewrite(e, change)

