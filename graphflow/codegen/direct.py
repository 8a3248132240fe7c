"""Convolutions straight from the image: a padded slab of rows is the operand, no element is written once per tap.

Two forms.  `rows`: C[(image, y, x), j] for operands that slide over an image (a convolution, and its input gradient); the block kernel
takes the windows of one row, whose elements lie `step * channels` apart.  `taps`: C[(ky, kx, c), j] summed over all positions (the
gradient of the filter); the block kernel takes one row of taps and sums over the positions of several rows.  Knows geometry and
Kernel IR; knows no op by name (rank 4).
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from .. import types
from ..types import Size
from . import blocks
from .image import Window
from .text import Text

ROOM = 1 << 16  # elements of the slab: a quarter of a megabyte of second-level cache in float32
SLAB = 1 << 14  # what a task's slab should hold at least, if there is enough to do for all
WIDE = 256  # a pitch beyond this is better packed: copying costs little beside many channels
FILTER = 1 << 21  # elements of partial filter gradients


def fits_rows(w: Window) -> bool:
    """Whether the `rows` form is the better one: several taps, few channels, a slab that fits."""
    return w.kernel[0] * w.kernel[1] > 1 and w.across.step * w.channels <= WIDE and possible(w)


def possible(w: Window) -> bool:
    """Whether a slab fits at all."""
    return w.reach(1) * w.width * w.channels <= ROOM and types.hint(w.counts[0]) != 0


def fits_taps(w: Window) -> bool:
    return w.kernel[0] * w.kernel[1] > 1 and w.reach(1) * w.width * w.channels <= ROOM and w.across.step * w.channels <= 4 * WIDE


def _rows(w: Window, tasks: int, slab: int) -> int:
    """Rows of windows in a task: a slab of some elements, but at least `tasks` tasks."""
    count, images = types.hint(w.counts[0]) or 1, types.hint(w.images) or 1
    rows = max(1, slab // max(w.down.step * w.width * w.channels, 1))
    rows = min(rows, max(1, -(-count * images // tasks)), count)
    while rows > 1 and w.reach(rows) * w.width * w.channels > ROOM:
        rows -= 1
    return -(-count // -(-count // rows))


@dataclass
class Place:
    """Where the result of window (image, y, x) begins: `start + image * stride + y * pitch + x * step`, in elements."""

    start: Size
    stride: Size
    pitch: Size
    step: Size


class Rows:
    """The `rows` form: emits the tasks of a product whose left operand is `w`."""

    def __init__(self, w: Window, tasks: int, n: Size, place: Place | None = None, slab: int = SLAB):
        self.w, self.rows = w, _rows(w, tasks, slab)
        line = w.counts[1] * n
        self.place = place or Place(0, w.counts[0] * line, line, n)
        self.bands = types.ceildiv(w.counts[0], self.rows)
        self.tasks = w.images * self.bands

    def block(self, kind: str, whole: bool) -> str:
        return blocks.text(kind, self.w.across.step * self.w.channels, False, whole)

    def emit(self, e: Text, m: Any, block: str) -> None:
        """From `o`, `j`, `cols`: the windows of rows y0 .. y1 of one image times the columns; leaves `first`, `last` for what follows."""
        w, size, kind = self.w, m.p.dtype.size, m.kind
        count = e.size(w.counts[0])
        e.line(f"y0 = band % {e.size(self.bands)} * {e.size(self.rows)}")
        e.line(f"image = band // {e.size(self.bands)}")
        e.line(f"y1 = min(y0 + {e.size(self.rows)}, {count})")
        _slab(e, w, size, kind)
        e.line(f"c = advance(p{e.scope[m.c_place]}, ({e.size(self.place.start)} + image * {e.size(self.place.stride)} + j) * {size})")
        step = max(m.shape.width, (1 << 17) // max(types.hint(m.k) or 1, 1) // m.shape.width * m.shape.width)
        e.open(f"for jj in range(0, cols, {e.size(step)}):")
        e.open("for y in range(y0, y1):")
        _taps(e, w)
        e.line(f"to = advance(c, (y * {e.size(self.place.pitch)} + jj) * {size})")
        e.line(f"wide = min({e.size(step)}, cols - jj)")
        e.open("if taps > 0:")
        e.line(f"call_block({block}, advance(slab, (place + ka * {e.size(w.down.spread)} - h0) * pitch * {size}), "
               f"advance(right, (jj * {e.size(m.b_columns)} + ka * {e.size(w.run * m.ldb)}) * {size}), "
               f"to, {e.size(w.counts[1])}, wide, taps, {e.size(w.run)}, {e.size(w.down.spread)} * pitch, 0, "
               f"{e.size(m.ldb)}, {e.size(m.panel)}, {e.size(self.place.step)}, 0)")
        e.close()
        e.open("if taps <= 0:")
        e.open(f"for x in range({e.size(w.counts[1])}):")
        e.line(f"zero_{kind}(advance(to, x * {e.size(self.place.step)} * {size}), wide)")
        e.close()
        e.close()
        e.close()
        e.close()
        e.line(f"first = (image * {count} + y0) * {e.size(w.counts[1])}")
        e.line(f"last = (image * {count} + y1) * {e.size(w.counts[1])}")


def _slab(e: Text, w: Window, size: int, kind: str) -> None:
    """Image rows h0 .. h1 with their padding, `pitch` apart; the image itself where nothing is padded."""
    d, a = w.down, w.across
    e.line(f"h0 = max(y0 * {e.size(d.step)} - {e.size(d.before)}, 0)")
    e.line(f"h1 = min((y1 - 1) * {e.size(d.step)} - {e.size(d.before)} + {e.size((w.kernel[0] - 1) * d.spread + 1)}, {e.size(d.limit)})")
    e.line(f"pixels = advance(p{e.scope[w.buffer]}, (image * {e.size(w.stride)} + {e.size(w.start)}) * {size})")
    if not a.bounded:
        e.line(f"pitch = {e.size(w.pitch)} + 0")
        e.line(f"slab = advance(pixels, h0 * pitch * {size})")
        return
    before, inside = a.before * w.channels, types.opaque("min", a.limit, w.width - a.before) * w.channels
    e.line(f"pitch = {e.size(w.width * w.channels)} + 0")
    e.line("slab = left")
    e.open("for h in range(h0, h1):")
    e.line(f"line = advance(left, (h - h0) * pitch * {size})")
    e.line(f"zero_{kind}(line, {e.size(before)})")
    e.line(f"copy_{kind}(advance(line, {e.size(before)} * {size}), advance(pixels, h * {e.size(w.pitch)} * {size}), {e.size(inside)})")
    e.line(f"zero_{kind}(advance(line, ({e.size(before)} + {e.size(inside)}) * {size}), pitch - {e.size(before)} - {e.size(inside)})")
    e.close()


def _taps(e: Text, w: Window) -> None:
    """The rows of taps of window row y that lie inside the image: ka .. ka + taps, the first image row is place + ka * spread."""
    d = w.down
    e.line(f"place = y * {e.size(d.step)} - {e.size(d.before)}")
    if not d.bounded:
        e.line("ka = 0")
        e.line(f"taps = {e.size(w.kernel[0])}")
        return
    e.line(f"ka = max(0, -(place // {e.size(d.spread)}))")
    e.line(f"taps = min({e.size(w.kernel[0])}, -((place - {e.size(d.limit)}) // {e.size(d.spread)})) - ka")


class Taps:
    """The `taps` form: partial sums over `parts` shares of the slabs, one task a share (and a row of taps where the filter is large)."""

    def __init__(self, w: Window, m: Any, tasks: int, slab: int = SLAB):
        self.w, self.rows = w, _rows(w, 2 * tasks, slab)
        self.bands = types.ceildiv(w.counts[0], self.rows)
        slabs = (types.hint(w.images) or 1) * (types.hint(self.bands) or 1)
        filter_size = max(1, (types.hint(m.m) or 1) * (types.hint(m.n) or 1))
        self.parts = max(1, min(2 * tasks, slabs, FILTER // filter_size))
        self.split = w.kernel[0] if self.parts < tasks else 1  # rows of taps are tasks of their own

    def emit(self, e: Text, m: Any, block: str) -> None:
        """From `part`, `g`, `j`, `cols`: this share's sum for the columns."""
        w, size, kind = self.w, m.p.dtype.size, m.kind
        count = e.size(w.counts[0])
        slabs = f"({e.size(w.images)} * {e.size(self.bands)})"
        e.line(f"i0 = tap % {e.size(self.split)} * {e.size(w.kernel[0])} // {e.size(self.split)}")
        e.line(f"i1 = (tap % {e.size(self.split)} + 1) * {e.size(w.kernel[0])} // {e.size(self.split)}")
        e.line(f"c = advance(p{e.scope[m.c_place]}, (part * {e.size(m.m)} * {e.size(m.n)} + j) * {size})")
        e.open(f"for x in range(i0 * {e.size(w.run)}, i1 * {e.size(w.run)}):")
        e.line(f"zero_{kind}(advance(c, x * {e.size(m.n)} * {size}), cols)")
        e.close()
        e.open(f"for q in range(part * {slabs} // {e.size(self.parts)}, (part + 1) * {slabs} // {e.size(self.parts)}):")
        e.line(f"y0 = q % {e.size(self.bands)} * {e.size(self.rows)}")
        e.line(f"image = q // {e.size(self.bands)}")
        e.line(f"y1 = min(y0 + {e.size(self.rows)}, {count})")
        _slab(e, w, size, kind)
        e.open("for i in range(i0, i1):")
        d = w.down
        e.line(f"drop = {e.size(d.before)} - i * {e.size(d.spread)}")
        if d.bounded:
            e.line(f"ya = max(y0, -(-drop // {e.size(d.step)}))")
            e.line(f"taps = min(y1, -(-({e.size(d.limit)} + drop) // {e.size(d.step)})) - ya")
        else:
            e.line("ya = y0")
            e.line("taps = y1 - y0")
        e.open("if taps > 0:")
        e.line(f"call_block({block}, advance(slab, (ya * {e.size(d.step)} - drop - h0) * pitch * {size}), "
               f"advance(right, (image * {count} + ya) * {e.size(w.counts[1] * m.ldb)} * {size}), "
               f"advance(c, i * {e.size(w.run * m.n)} * {size}), {e.size(w.run)}, cols, taps, {e.size(w.counts[1])}, "
               f"{e.size(d.step)} * pitch, {e.size(w.across.step * w.channels)}, {e.size(m.ldb)}, {e.size(m.panel)}, {e.size(m.n)}, 1)")
        e.close()
        e.close()
        e.close()
