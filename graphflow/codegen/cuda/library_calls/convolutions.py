"""Contractions that are convolutions or their gradients, in any layout (rank 4).

One operand is an image, read along each spatial direction at `step * window + spread * tap - before`; its other dimensions are a batch
and channels, of which groups may be told apart.  The gradient of an image looks the windows up instead that cover a position.
"""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Callable, Sequence

from .... import types
from ....types import Size
from ... import ir, simplify
from ...ir import Axis, Expr
from ...simplify import Affine
from .described import Convolution, View
from .reads import Problem, Read, key, runs


@dataclass
class _Spatial:
    """One direction: the image is read at `step * window + spread * tap - before`, which lies in [0, limit)."""

    window: Axis | None
    tap: Axis | None
    step: int
    spread: int
    before: Size
    limit: Size
    dim: int

    @property
    def windows(self) -> Size:
        return extent(self.window)

    @property
    def taps(self) -> Size:
        return extent(self.tap)

    @property
    def after(self) -> Size:
        return (self.windows - 1) * self.step + (self.taps - 1) * self.spread + 1 - self.before - self.limit


def convolution(p: Problem) -> Convolution | None:
    for image, other in (p.reads, p.reads[::-1]):
        if not other.plain():
            continue
        kinds = ["data"] if _backwards(image) else _likely(p, image)
        for kind in kinds:
            found = _Conv(p, image, other, kind).found()
            if found is not None:
                return found
    return None


def _backwards(image: Read) -> bool:
    """Whether the windows that cover a position are looked up, not the positions that a window covers."""
    return any(e.op == "floordiv" or isinstance(c, int) and c < 0 for f in image.places for e, c in f.terms.items())


def _likely(p: Problem, image: Read) -> list[str]:
    """Forward and filter gradient are the same sums with windows and taps exchanged: there are fewer taps than windows."""
    windows = taps = 1
    for f in image.places:
        axes = [e.data for e in f.terms if e.op == "axis"]
        out, red = [a for a in axes if a in p.outs and a not in p.shared], [a for a in axes if a in p.reduced]
        if len(out) == len(red) == 1:
            windows, taps = windows * (types.hint(out[0].extent) or 1), taps * (types.hint(red[0].extent) or 1)
    return ["forward", "filter"] if windows >= taps else ["filter", "forward"]


class _Conv:
    def __init__(self, p: Problem, image: Read, other: Read, kind: str):
        self.p, self.image, self.other, self.kind = p, image, other, kind
        self.first = list(p.outs) if kind != "filter" else p.reduced  # where the batch and the windows (data: positions) are
        self.second = p.reduced if kind != "filter" else list(p.outs)  # where the image's channels and the taps are
        self.batch: tuple[Axis, int] | None = None
        self.channel: tuple[Axis | None, int] | None = None
        self.spatial: list[_Spatial] = []
        self.start: Size = 0  # elements skipped at the start of the image
        self.group = p.shared[0] if p.shared else None

    def found(self) -> Convolution | None:
        if len(self.p.shared) > 1 or not self.sorted() or not 1 <= len(self.spatial) <= 3:
            return None
        if not any(s.window and s.tap or s.step > 1 for s in self.spatial):
            return None  # a matrix product with zeros around it: nothing a convolution is good for
        named = [self.group, self.batch and self.batch[0], self.channel and self.channel[0]]
        named += [a for s in self.spatial for a in (s.window, s.tap)]
        axes = [a for a in named if a is not None]
        rest = [a for a in (*self.p.outs, *self.p.reduced) if a not in axes]
        columns = runs(rest, self.p.outs.get, self.other.stride) if all(a in self.p.outs for a in rest) else [[], []]
        if len(columns) > 1 or len(set(axes)) < len(axes) or not self.padded():
            return None
        return self.made(columns[0] if columns else [])

    # -- the image's dimensions

    def sorted(self) -> bool:
        """Sorts the image's dimensions into batch, channels and spatial ones; False if one is none of these."""
        for dim, (f, n) in enumerate(zip(self.image.places, self.image.buffer.sizes)):
            if not (self._grouped(dim, f) if self.group is not None and ir.axis(self.group) in f.terms else self._ungrouped(dim, f, n)):
                return False
        whole = [s for s in self.spatial if self._whole(s)]
        batch = next((s for s in whole if s.tap is None), None)
        channel = next((s for s in reversed(whole) if s.window is None and self.channel is None), None)
        if batch is not None and batch.window is not None:
            self.batch = batch.window, batch.dim
        if channel is not None:
            self.channel = channel.tap, channel.dim
        for s in filter(None, (batch, channel)):
            self.start = self.start + self._first(s) * self.image.steps[s.dim]
            self.spatial.remove(s)
        return self.group is None or self.channel is not None

    def _whole(self, s: _Spatial) -> bool:
        """Whether a dimension is read along one axis, in a range of it: what a batch and channels are."""
        a = s.window or s.tap
        if a is None or s.window is not None and s.tap is not None or (s.step if s.tap is None else s.spread) != 1:
            return False
        return _within(self._first(s), a.extent, s.limit)

    def _first(self, s: _Spatial) -> Size:
        """Where the range begins."""
        return s.before if self.kind == "data" else s.before * -1

    def _grouped(self, dim: int, f: Affine) -> bool:
        """Channels `group * size + c`."""
        terms = {e.data: c for e, c in f.terms.items() if e.op == "axis"}
        size = terms.pop(self.group)
        inner = next(iter(terms), None)
        fits = len(f.terms) == 1 + len(terms) and len(terms) <= 1 and types.same(f.const, 0) is True and self.channel is None
        if not fits or inner is not None and (inner not in self.second or terms[inner] != 1):
            return False
        self.channel = inner, dim
        return types.same(size, inner.extent if inner is not None else 1) is True

    def _ungrouped(self, dim: int, f: Affine, n: Size) -> bool:
        step, shift = 1, f
        if self.kind == "data" and (atoms := [e for e in f.terms if e.op == "floordiv"]):
            found = self._multiple(f, atoms)
            if found is None:
                return False
            step, shift = found
        terms = {e.data: c for e, c in shift.terms.items() if e.op == "axis"}
        window = [a for a in terms if a in self.first]
        tap = [a for a in terms if a in self.second]
        if len(shift.terms) != len(window) + len(tap) or len(window) > 1 or len(tap) > 1:
            return False
        o, t = (window or [None])[0], (tap or [None])[0]
        if o is None and t is None:
            self.start = self.start + shift.const * self.image.steps[dim]
            return True
        a, b = terms.get(o, 1), terms.get(t, 1)
        if not isinstance(a, int) or not isinstance(b, int) or a < 1:
            return False
        if self.kind != "data":
            self.spatial.append(_Spatial(o, t, a, b, shift.const * -1, n, dim))
            return b > 0
        if o is None and b == 1 and step == 1:
            free, self.channel = self.channel is None and _within(shift.const, t.extent, n), (t, dim)
            self.start = self.start + shift.const * self.image.steps[dim]
            return free
        self.spatial.append(_Spatial(o, t, step, -b if t is not None else 1, shift.const, n, dim))
        return a == 1 and (t is None or b < 0)

    def _multiple(self, f: Affine, atoms: Sequence[Expr]) -> tuple[int, Affine] | None:
        """(stride, the place times the stride) of a window number that is a quotient, if zero stands for a remainder."""
        atom = atoms[0]
        if len(atoms) > 1 or f.terms[atom] != 1 or atom.args[1].op != "const":
            return None
        s = atom.args[1].data
        shift = f.plus(Affine({atom: 1}, 0), -1)
        shift = simplify.affine(atom.args[0]).plus(shift, s)
        scaled = Affine({}, 0).plus(f, s)
        exact = any(key(a) == key(scaled) and key(b) == key(shift) for a, b in self.image.multiples)
        return (s, shift) if exact else None

    # -- geometry

    def padded(self) -> bool:
        """Makes paddings non-negative by leaving out what no window reads; False where a library could not be told."""
        divided = sum(e.op == "floordiv" for f in self.image.places for e in f.terms)
        if len(self.image.multiples) != divided:
            return False
        return all(self._consistent(s) if self.kind == "data" else self._cropped(s) for s in self.spatial)

    def _cropped(self, s: _Spatial) -> bool:
        if isinstance(s.before, int) and s.before < 0:
            self.start = self.start - s.before * self.image.steps[s.dim]
            s.limit, s.before = s.limit + s.before, 0
        after = types.hint(s.after)
        if isinstance(s.after, int) and s.after <= -s.step:
            s.limit = s.limit + s.after
        return isinstance(s.before, types.Dim) or s.before >= 0 and (isinstance(s.after, int) or after is None or after > -s.step)

    def _consistent(self, s: _Spatial) -> bool:
        """The limit is the number of windows, the window axis runs over positions."""
        after = self._after_data(s)
        return not (isinstance(s.before, int) and s.before < 0 or isinstance(after, int) and after <= -s.step)

    @staticmethod
    def _after_data(s: _Spatial) -> Size:
        return (s.limit - 1) * s.step + (s.taps - 1) * s.spread + 1 - s.before - s.windows

    # -- views

    def made(self, column: list[Axis]) -> Convolution | None:
        """column: the channels that the image does not have, of one group."""
        group, c, batch = self.group, self.channel and self.channel[0], self.batch and self.batch[0]
        groups, per_group, count = extent(group), extent(c), types.product(a.extent for a in column)
        j = column[-1] if column else None
        result, other = _Array(self.p.outs.get, group), _Array(self.other.stride, group)
        w, third = (result, other) if self.kind == "filter" else (other, result)
        # Of the image's channels w has one group: it is [k, c / groups], and k are the image's own where the image is y.
        rows, columns = ((c, per_group), (j, count)) if self.kind == "data" else ((j, count), (c, per_group))
        steps = w.joined(*rows), third.joined(j, count)
        if None in steps or not isinstance(groups, int):
            return None
        s = self.spatial
        taps = (groups * rows[1], columns[1], *[x.taps for x in s]), (steps[0], w.step(columns[0]), *[w.step(x.tap) for x in s])
        windows = (extent(batch), groups * count, *[x.windows for x in s]), (third.step(batch), steps[1],
                                                                             *[third.step(x.window) for x in s])
        views = {w: taps, third: windows}
        b, image = self.other.buffer, self._image(extent(batch), groups * per_group)
        mine = View(b, b.dtype, *views[other], self.other.offset().const)
        made = View(None, self.p.stored, *views[result])
        x, y, filter = {"forward": (image, made, mine), "data": (made, image, mine), "filter": (image, mine, made)}[self.kind]
        return _two_dimensional(Convolution(self.kind, x, filter, y, tuple((x.before, self._post(x)) for x in s), tuple(x.step for x in s),
                                            tuple(x.spread for x in s), groups, self.p.compute))

    def _post(self, s: _Spatial) -> Size:
        after = self._after_data(s) if self.kind == "data" else s.after
        if isinstance(after, int) and isinstance(s.before, int) and after <= s.before < after + s.step:
            return s.before  # as many windows, and more kernels of the library take the same padding on both sides
        return types.opaque("max", after, 0)

    def _image(self, n: Size, channels: Size) -> View:
        steps, b, s = self.image.steps, self.image.buffer, self.spatial
        outer = [steps[found[1]] if found else 0 for found in (self.batch, self.channel)]
        return View(b, b.dtype, (n, channels, *[x.limit for x in s]), (*outer, *[steps[x.dim] for x in s]), self.start)


class _Array:
    """An array by its strides along axes; channels may be `group * size + inner`."""

    def __init__(self, stride: Callable[[Axis], Size | None], group: Axis | None):
        self.stride, self.group = stride, group

    def step(self, a: Axis | None) -> Size:
        """0 for an axis that the array does not have."""
        return 0 if a is None else self.stride(a) or 0

    def joined(self, inner: Axis | None, size: Size) -> Size | None:
        """The one stride of all groups' channels, None where they do not follow one another."""
        if inner is None or self.group is None:
            return self.step(self.group if inner is None else inner)
        return self.step(inner) if types.same(self.step(self.group), size * self.step(inner)) is True else None


def _within(first: Size, count: Size, limit: Size) -> bool:
    """Whether `count` elements from `first` on are certainly some of `limit`."""
    room = limit - count
    return isinstance(first, int) and isinstance(room, int) and 0 <= first <= room


def extent(a: Axis | None) -> Size:
    """1 for no axis."""
    return 1 if a is None else a.extent


def _two_dimensional(c: Convolution) -> Convolution:
    """With one spatial axis, a second one of size 1 before it: libraries know images and volumes."""
    if len(c.strides) > 1:
        return c
    wider = lambda v: replace(v, sizes=(*v.sizes[:2], 1, *v.sizes[2:]), strides=(*v.strides[:2], 0, *v.strides[2:]))  # noqa: E731
    return replace(c, x=wider(c.x), w=wider(c.w), y=wider(c.y), pads=((0, 0), *c.pads), strides=(1, *c.strides),
                   dilations=(1, *c.dilations))
