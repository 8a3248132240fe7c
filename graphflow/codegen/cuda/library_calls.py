"""Contractions that are plain matrix products or convolutions of arrays in memory, described for cuBLASLt and cuDNN.

`from_product` looks at a contraction `C[b, i, j] = sum_r A(b, i, r) B(b, r, j)` whose operands are single loads, and says which
strided matrices or images they are; anything it cannot prove to be exactly that gives None, and is left to generated kernels.
A description is data: buffers, element strides, sizes that may be symbols until `bind`.  Knows Kernel IR; knows no op by name, no
library and no device (rank 4).
"""
from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Callable, Iterable, Mapping, Sequence

import numpy as np

from ... import types
from ...types import DType, Size
from .. import interp, ir, simplify
from ..contract import Product
from ..image import conjuncts
from ..ir import Axis, Buffer, Expr, Kernel, Stage
from ..simplify import Affine

# ---------------------------------------------------------------- descriptions

Number = Any  # a Size; an int once bound


@dataclass(frozen=True)
class View:
    """Elements of an array: (i0, i1, ...) lies `offset + i0 * strides[0] + ...` elements after its start.

    buffer: which array; None for the result of the contraction.
    """

    buffer: Buffer | None
    dtype: DType
    sizes: tuple[Number, ...]
    strides: tuple[Number, ...]
    offset: Number = 0

    def bind(self, env: Mapping[str, int]) -> View:
        start, = _numbers([self.offset], env)
        return replace(self, sizes=_numbers(self.sizes, env), strides=_numbers(self.strides, env), offset=start)


@dataclass(frozen=True)
class Matmul:
    """c[..., i, j] = alpha * sum_r a[..., i, r] * b[..., r, j] + beta * c[..., i, j], then the epilogue.

    Leading axes of the three views are batches (stride 0: broadcast).  `epilogue`: names of runtime.cuda.libraries.EPILOGUES.
    """

    a: View
    b: View
    c: View
    compute: DType
    alpha: float = 1.0
    beta: float = 0.0
    epilogue: str = ""

    def bind(self, env: Mapping[str, int]) -> Matmul:
        return replace(self, a=self.a.bind(env), b=self.b.bind(env), c=self.c.bind(env))

    @property
    def reads(self) -> tuple[Buffer | None, Buffer | None]:
        """The buffers whose addresses a call takes, before that of the result."""
        return self.a.buffer, self.b.buffer


@dataclass(frozen=True)
class Convolution:
    """A convolution (cross-correlation) or one of its gradients; `kind` says which of the three views is the result.

    y[n, k, o] = sum over channels c of k's group and taps t of x[n, c, o * strides + t * dilations - pads[0]] * w[k, c, t]

    kind: "forward" gives y, "data" gives x from w and y, "filter" gives w from x and y.
    x: [n, c, *spatial]; w: [k, c / groups, *taps]; y: [n, k, *windows], each with any strides.
    pads: (before, after) per spatial axis.
    """

    kind: str
    x: View
    w: View
    y: View
    pads: tuple[tuple[Number, Number], ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    groups: int
    compute: DType
    epilogue: str = ""

    def bind(self, env: Mapping[str, int]) -> Convolution:
        pads = tuple(_numbers(p, env) for p in self.pads)
        return replace(self, x=self.x.bind(env), w=self.w.bind(env), y=self.y.bind(env), pads=pads)

    @property
    def result(self) -> View:
        return {"forward": self.y, "data": self.x, "filter": self.w}[self.kind]

    @property
    def operands(self) -> tuple[View, View]:
        """What is read, in the order of a call's addresses: (x, w), (w, y) or (x, y)."""
        return {"forward": (self.x, self.w), "data": (self.w, self.y), "filter": (self.x, self.y)}[self.kind]

    @property
    def reads(self) -> tuple[Buffer | None, Buffer | None]:
        first, second = self.operands
        return first.buffer, second.buffer


def _numbers(sizes: Iterable[Size], env: Mapping[str, int]) -> tuple:
    return tuple(types.evaluate(s, dict(env)) for s in sizes)


# ---------------------------------------------------------------- recognition of what follows


@dataclass(frozen=True)
class Fused:
    """A call that computes what follows as well: its result is `out`; `bias` and `add` are read (None: not needed)."""

    call: Matmul | Convolution
    out: Buffer
    bias: Buffer | None
    add: Buffer | None


# NaN stays NaN in all of them; cuBLASLt's relu makes it 0, and is not one of a product's.
_ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "relu": lambda x: np.maximum(x, 0), "tanh": np.tanh, "sigmoid": lambda x: 1 / (1 + np.exp(-x)),
    "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x ** 3)))}
_FUSED = {Matmul: ("gelu_tanh",), Convolution: ("relu", "tanh", "sigmoid", "gelu_tanh")}
_POINTS = np.array([-30, -7.5, -4, -2, -1, -0.5, -0.1, 0, 0.1, 0.5, 1, 2, 4, 7.5, 30, np.nan])


def fused(d: Matmul | Convolution, then: Kernel, result: Buffer) -> Fused | None:
    """The call with an epilogue in place of `then`, a linear kernel that reads `result` where it writes; None where there is none.

    What is understood: scale * result + bias along the last axis + factor * an array like the result, and an activation of that.
    """
    if len(then.stages) != 1 or d.epilogue:
        return None
    s = then.stages[0]
    if s.combine is not None or s.scan is not None or s.init is not None or isinstance(d, Convolution) and d.kind != "forward":
        return None
    place = simplify.affine(s.index[0])
    inside = [e for e in ir.walk(s.expr) if any(x.op == "at" and x.data is result for x in ir.walk(e))]
    for e in reversed(inside):
        x = ir.make("at", (ir.index_const(0),), e.dtype, Buffer(e.dtype, (len(_POINTS),), "in", "x"))
        rest = ir.rewrite(s.expr, lambda y, args, e=e, x=x: x if y is e else ir.rebuilt(y, args))
        if any(y.op in ("at", "load", "axis", "size", "check") for y in ir.walk(rest) if y is not x):
            continue
        name = "" if rest is x else _activation(rest, x, _FUSED[type(d)])
        terms = None if name is None else _sum(e, place, result, _columns(d))
        if name is not None and terms is not None:
            return _fused(d, s.target, name, terms)
    return None


@dataclass
class _Sum:
    """scale * result + bias + factor * add."""

    scale: Any = None
    bias: Buffer | None = None
    add: Buffer | None = None
    factor: float = 1.0


def _fused(d: Matmul | Convolution, out: Buffer, activation: str, s: _Sum) -> Fused | None:
    if any(b is not None and b.dtype is not out.dtype for b in (s.bias, s.add)):
        return None
    steps = ["bias"] * (s.bias is not None) + ["add"] * (s.add is not None) + [activation] * bool(activation)
    if isinstance(d, Matmul):
        steps = [x for x in steps if x != "add"]
        if steps and d.compute is types.float64:
            return None
        call = replace(d, c=replace(d.c, dtype=out.dtype), epilogue="+".join(steps), alpha=s.scale, beta=s.factor if s.add else 0.0)
        return Fused(call, out, s.bias, s.add)
    if s.scale != 1 or s.factor != 1 or any(v.dtype is not out.dtype for v in d.operands):
        return None
    return Fused(replace(d, y=replace(d.y, dtype=out.dtype), epilogue="+".join(steps)), out, s.bias, s.add)


def _columns(d: Matmul | Convolution) -> Size:
    """The extent of the axis that a bias runs along, which is the last one in memory."""
    return d.c.sizes[-1] if isinstance(d, Matmul) else d.y.sizes[1]


def _activation(e: Expr, x: Expr, names: Sequence[str]) -> str | None:
    """Which function of x an expression is, tried at some points; None for another one."""
    a, source, out = Axis(len(_POINTS)), x.data, Buffer(e.dtype, (len(_POINTS),), "out")
    body = ir.rewrite(e, lambda y, args: ir.load(source, (ir.axis(a),)) if y is x else ir.rebuilt(y, args))
    points = _POINTS.astype(source.dtype.np)
    with np.errstate(all="ignore"):
        values = interp.run(Kernel("", (source, out), (Stage(out, (a,), (ir.axis(a),), body),)), {source: points}, {})[out]
        return next((n for n in names if np.allclose(values, _ACTIVATIONS[n](points), 1e-5, 1e-6, equal_nan=True)), None)


def _sum(e: Expr, place: Affine, result: Buffer, columns: Size) -> _Sum | None:
    """The expression as such a sum; every array is read at `place`, the bias at its last coordinate."""
    out = _Sum()
    for x, factor in _terms(e):
        if x.op != "at":
            return None
        where = simplify.affine(x.args[0])
        same = _key(where) == _key(place)
        if x.data is result:
            if not same or out.scale is not None:
                return None
            out.scale = factor
        elif same and out.add is None:
            out.add, out.factor = x.data, factor
        elif factor == 1 and out.bias is None and _last(where, place, columns) and types.same(types.product(x.data.sizes), columns) is True:
            out.bias = x.data
        else:
            return None
    return out if out.scale is not None else None


def _terms(e: Expr) -> list[tuple[Expr, float]]:
    """The terms of a sum, with constant factors."""
    out, todo = [], [(e, 1.0)]
    while todo:
        x, factor = todo.pop()
        number = next((y for y in x.args if y.op == "const"), None) if x.op == "mul" else None
        if x.op in ("add", "sub"):
            todo += [(x.args[0], factor), (x.args[1], factor if x.op == "add" else -factor)]
        elif x.op == "neg":
            todo.append((x.args[0], -factor))
        elif number is not None:
            todo.append((next(y for y in x.args if y is not number), factor * number.data))
        else:
            out.append((x, factor))
    return out


def _last(where: Affine, place: Affine, columns: Size) -> bool:
    """Whether `where` is `place` modulo the columns."""
    rest = place.plus(where, -1)
    inside = simplify.affine(ir.make("mod", (place.expr(), ir.size(columns)), types.int64))
    return _key(inside) == _key(where) and bool(rest.terms)


# ---------------------------------------------------------------- recognition


def from_product(p: Product, out: DType | None = None) -> Matmul | Convolution | None:
    """The contraction as a library call, or None.

    out: the dtype that the result is stored with; that of the operands where it is not given.
    """
    problem = _Problem.of(p, out)
    if problem is None:
        return None
    product = _matmul(problem)
    if product is not None and len(product.c.sizes) <= 3:
        return product
    return _convolution(problem) or product  # several batches that are not one: a call for each


@dataclass
class _Read:
    """A load: its place along each dimension without clamps, and whether zero stands for what lies outside."""

    buffer: Buffer
    places: list[Affine]
    masked: bool
    multiples: list[tuple[Affine, Affine]]  # pairs of equal expressions that zero depends on as well

    @property
    def steps(self) -> list[Size]:
        """Of the row-major buffer, per dimension."""
        out: list[Size] = []
        step: Size = 1
        for n in reversed(self.buffer.sizes):
            out.insert(0, step)
            step = step * n
        return out

    def offset(self) -> Affine:
        total = Affine({}, 0)
        for f, step in zip(self.places, self.steps):
            total = total.plus(f, step)
        return simplify.affine(total.expr())

    def stride(self, a: Axis | None) -> Size:
        return 0 if a is None else self.offset().terms.get(ir.axis(a), 0)

    def plain(self) -> bool:
        """Whether it is an array read with strides, every element of it."""
        return not self.masked and all(e.op == "axis" for e in self.offset().terms)


@dataclass
class _Problem:
    """Axes of the result with their strides in it, summed axes, and the two loads."""

    outs: dict[Axis, Size]
    reduced: list[Axis]
    reads: list[_Read]
    compute: DType
    stored: DType
    shared: list[Axis] = field(default_factory=list)

    @staticmethod
    def of(p: Product, out: DType | None) -> _Problem | None:
        exprs, outs, reduced = [p.a.expr, p.b.expr], [*p.batch, *p.a.outer, *p.b.outer], list(p.a.reduced)
        while (cut := _to_cut(exprs)) is not None:
            exprs, outs, reduced = _cut(*cut, exprs, outs, reduced)
        reads = [_read(e) for e in exprs]
        x, y = reads
        if x is None or y is None or x.buffer.dtype is not y.buffer.dtype or x.buffer.dtype.compute is not p.dtype or p.dtype.kind != "f":
            return None
        strides: dict[Axis, Size] = {}
        step: Size = 1
        for a in reversed(outs):
            strides[a] = step
            step = step * a.extent
        new = _Problem({a: strides[a] for a in outs}, reduced, [x, y], p.dtype, out or x.buffer.dtype)
        new.shared = [a for a in outs if all(_mentions(r, a) for r in (x, y))]
        return new

    def result(self, axes: Sequence[Axis | None]) -> tuple[Size, ...]:
        return tuple(0 if a is None else self.outs[a] for a in axes)


def _mentions(r: _Read, a: Axis) -> bool:
    return any(a in ir.axes_in(*f.terms) for f in r.places)


def _to_cut(exprs: Sequence[Expr]) -> tuple[Axis, int] | None:
    """An axis that is divided by a number that divides its extent; not one of which only the multiples count."""
    strided = ir.axes_in(*[e for e in ir.walk(*exprs) if e.op == "eq"])
    for e in ir.walk(*exprs):
        if e.op in ("floordiv", "mod") and e.args[0].op == "axis" and e.args[1].op == "const" and e.args[0].data not in strided:
            a, n = e.args[0].data, e.args[1].data
            if n > 1 and types.same(types.floordiv(a.extent, n) * n, a.extent) is True:
                return a, n
    return None


def _cut(a: Axis, n: int, exprs: Sequence[Expr], outs: list[Axis], reduced: list[Axis]) -> tuple[list[Expr], list[Axis], list[Axis]]:
    """The axis as (quotient, remainder) by n; a quotient that is always 0 is no axis."""
    whole, rest = types.floordiv(a.extent, n), Axis(n)
    parts = [rest] if types.same(whole, 1) is True else [Axis(whole), rest]
    value = ir.axis(rest) if len(parts) == 1 else ir.axis(parts[0]) * n + ir.axis(rest)

    def change(e: Expr, args: tuple[Expr, ...]) -> Expr:
        new = ir.rebuilt(e, args)
        return simplify.affine(new).expr() if new.op in ("floordiv", "mod", "sub") and new.dtype is types.int64 else new
    swap = lambda axes: [x for b in axes for x in (parts if b is a else [b])]  # noqa: E731
    return [ir.rewrite(ir.substitute(e, {a: value}), change) for e in exprs], swap(outs), swap(reduced)


# -- one load


Fact = tuple[str, Affine, Affine]


def _key(f: Affine) -> tuple:
    return frozenset(f.terms.items()), f.const


def _read(e: Expr) -> _Read | None:
    """The load under conditions that hold exactly where it lies inside its buffer; None for anything else."""
    facts: list[Fact] = []
    while e.op == "select" and e.args[2].op == "const" and e.args[2].data == 0:
        known = list(facts)
        for c in conjuncts(e.args[0]):
            if c.op not in ("ge", "lt", "eq") or c.args[0].dtype is not types.int64:
                return None
            facts.append((c.op, _unclamped(c.args[0], known), _unclamped(c.args[1], known)))
        e = e.args[1]
    if e.op != "load" or e.data.dtype not in types.FLOAT:
        return None
    places = [_unclamped(i, facts) for i in e.args]
    bounds = [f for f in facts if f[0] != "eq"]
    if not all(_implied(f, places, e.data.sizes) for f in bounds):
        return None
    return _Read(e.data, places, bool(facts), [(a, b) for op, a, b in facts if op == "eq"])


def _unclamped(e: Expr, facts: Sequence[Fact]) -> Affine:
    """The index without the clamps into [0, n) that change nothing where the facts hold."""
    def change(e: Expr, args: tuple[Expr, ...]) -> Expr:
        if e.op == "max" and args[0].op == "min" and args[1].op == "const" and args[1].data == 0:
            place, last = simplify.affine(args[0].args[0]), simplify.affine(args[0].args[1])
            low = any(op == "ge" and _key(f) == _key(place) and not b.terms and b.const == 0 for op, f, b in facts)
            high = any(op == "lt" and _key(f) == _key(place) and not b.terms and b.const == last.const + 1 for op, f, b in facts)
            return args[0].args[0] if low and high and not last.terms else ir.rebuilt(e, args)
        return ir.rebuilt(e, args)
    return simplify.affine(ir.rewrite(e, change))


def _implied(fact: Fact, places: Sequence[Affine], sizes: Sequence[Size]) -> bool:
    """Whether the bound holds wherever all places lie inside the buffer."""
    op, f, edge = fact
    if edge.terms:
        return False
    for place, n in zip(places, sizes):
        apart = f.plus(place, -1)
        if not apart.terms:
            room = apart.const - edge.const if op == "ge" else edge.const - n - apart.const
            return isinstance(room, int) and room >= 0
    return False


# -- matrix products


def _matmul(p: _Problem) -> Matmul | None:
    x, y = p.reads
    if not x.plain() or not y.plain():
        return None
    inside: dict[str, list[Axis]] = {"both": [], "x": [], "y": [], "": []}
    for a in p.outs:
        inside["both" if x.stride(a) and y.stride(a) else "x" if x.stride(a) else "y" if y.stride(a) else ""].append(a)
    result = lambda a: p.outs[a]  # noqa: E731
    k = _runs(sorted(p.reduced, key=lambda a: -(types.hint(x.stride(a)) or 0)), x.stride, y.stride)
    if inside[""] or len(k) != 1 or not x.stride(k[0][-1]) or not y.stride(k[0][-1]):
        return None
    rows, levels = _matrix_axis(_runs(inside["x"], x.stride, result))
    columns, more = _matrix_axis(_runs(inside["y"], y.stride, result))
    levels = [*_runs(inside["both"], x.stride, y.stride, result), *levels, *more]

    def view(stride, buffer: Buffer | None, dtype: DType, offset: Size, *matrix: list[Axis]) -> View:
        axes = [*levels, *matrix]
        sizes = tuple(types.product(a.extent for a in run) for run in axes)
        return View(buffer, dtype, sizes, tuple(stride(run[-1]) if run else 0 for run in axes), offset)
    left = view(x.stride, x.buffer, x.buffer.dtype, x.offset().const, rows, k[0])
    right = view(y.stride, y.buffer, y.buffer.dtype, y.offset().const, k[0], columns)
    return Matmul(left, right, view(lambda a: p.outs.get(a, 0), None, p.stored, 0, rows, columns), p.compute)


def _runs(axes: Sequence[Axis], *strides) -> list[list[Axis]]:
    """The axes in groups that run through memory like one axis, in every one of `strides`."""
    out: list[list[Axis]] = []
    for a in axes:
        last = out[-1] if out else None
        if last is not None and all(types.same(s(last[-1]), s(a) * a.extent) is True for s in strides):
            last.append(a)
        else:
            out.append([a])
    return out


def _matrix_axis(runs: list[list[Axis]]) -> tuple[list[Axis], list[list[Axis]]]:
    """The longest group, which becomes the axis of the matrix, and the others, which become batches."""
    if not runs:
        return [], []
    longest = max(range(len(runs)), key=lambda i: (types.hint(types.product(a.extent for a in runs[i])) or 0, i))
    return runs[longest], runs[:longest] + runs[longest + 1:]


# -- convolutions


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
        return 1 if self.window is None else self.window.extent

    @property
    def taps(self) -> Size:
        return 1 if self.tap is None else self.tap.extent

    @property
    def after(self) -> Size:
        return (self.windows - 1) * self.step + (self.taps - 1) * self.spread + 1 - self.before - self.limit


def _convolution(p: _Problem) -> Convolution | None:
    for image, other in (p.reads, p.reads[::-1]):
        if not other.plain():
            continue
        kinds = ["data"] if _backwards(image) else _likely(p, image)
        for kind in kinds:
            found = _Conv(p, image, other, kind).found()
            if found is not None:
                return found
    return None


def _backwards(image: _Read) -> bool:
    """Whether the windows that cover a position are looked up, not the positions that a window covers."""
    return any(e.op == "floordiv" or isinstance(c, int) and c < 0 for f in image.places for e, c in f.terms.items())


def _likely(p: _Problem, image: _Read) -> list[str]:
    """Forward and filter gradient are the same sums with windows and taps exchanged: there are fewer taps than windows."""
    windows = taps = 1
    for f in image.places:
        axes = [e.data for e in f.terms if e.op == "axis"]
        out, red = [a for a in axes if a in p.outs and a not in p.shared], [a for a in axes if a in p.reduced]
        if len(out) == len(red) == 1:
            windows, taps = windows * (types.hint(out[0].extent) or 1), taps * (types.hint(red[0].extent) or 1)
    return ["forward", "filter"] if windows >= taps else ["filter", "forward"]


class _Conv:
    def __init__(self, p: _Problem, image: _Read, other: _Read, kind: str):
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
        columns = _runs(rest, self.p.outs.get, self.other.stride) if all(a in self.p.outs for a in rest) else [[], []]
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
        first, room = self._first(s), s.limit - a.extent
        return isinstance(first, int) and isinstance(room, int) and 0 <= first <= room

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
        if o is None and b == 1 and step == 1 and types.same(shift.const, 0) is True and types.same(t.extent, n) is True:
            free, self.channel = self.channel is None, (t, dim)
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
        exact = any(_key(a) == _key(scaled) and _key(b) == _key(shift) for a, b in self.image.multiples)
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
        groups = 1 if self.group is None else self.group.extent
        if not isinstance(groups, int):
            return None
        c = self.channel[0] if self.channel else None
        per_group = 1 if c is None else c.extent
        result, other = self.p.outs.get, self.other.stride
        own = result if self.kind == "filter" else other  # who holds w
        their = other if self.kind == "filter" else result  # who holds the third array
        outer = self._outputs(column, own, their)
        if outer is None:
            return None
        count, in_own, in_their = outer
        batch = self.batch[0] if self.batch else None
        n: Size = 1 if batch is None else batch.extent
        image = self._image(n, groups * per_group)
        strided = lambda stride, axes: tuple(0 if a is None else stride(a) or 0 for a in axes)  # noqa: E731
        taps, windows = [s.tap for s in self.spatial], [s.window for s in self.spatial]
        inner = strided(own, [c])
        # Of the image's channels the taps hold one group: w is [k, c / groups] seen from x, and [c, k / groups] seen from y.
        lines = [(s.windows, s.taps) for s in self.spatial]
        third_sizes = (n, count * groups, *[w for w, _ in lines])
        third_strides = (*strided(their, [batch]), in_their, *strided(their, windows))
        w_sizes, w_strides = self._taps(count, per_group, groups, in_own, inner[0], [t for _, t in lines], strided(own, taps))
        if w_sizes is None:
            return None
        offset = self.other.offset().const
        p, b, d = self.p, self.other.buffer, self.other.buffer.dtype
        w_out = self.kind == "filter"
        w = View(None if w_out else b, p.stored if w_out else d, w_sizes, w_strides, 0 if w_out else offset)
        third = View(b if w_out else None, d if w_out else p.stored, third_sizes, third_strides, offset if w_out else 0)
        x, y = (third, image) if self.kind == "data" else (image, third)
        pads = tuple((s.before, self._post(s)) for s in self.spatial)
        return _two_dimensional(Convolution(self.kind, x, w, y, pads, tuple(s.step for s in self.spatial),
                                            tuple(s.spread for s in self.spatial), groups, p.compute))

    def _post(self, s: _Spatial) -> Size:
        after = self._after_data(s) if self.kind == "data" else s.after
        if isinstance(after, int) and isinstance(s.before, int) and after <= s.before < after + s.step:
            return s.before  # as many windows, and more kernels of the library take the same padding on both sides
        return types.opaque("max", after, 0)

    def _outputs(self, column: list[Axis], own, their) -> tuple[Size, Size, Size] | None:
        """(per group, stride in w, stride in the third array) of the channels that the image does not have."""
        count = types.product(a.extent for a in column)
        if not column:
            return 1, (own(self.group) or 0) if self.group else 0, (their(self.group) or 0) if self.group else 0
        in_own, in_their = own(column[-1]) or 0, their(column[-1]) or 0
        if self.group is not None and types.same(their(self.group) or 0, count * in_their) is not True:
            return None
        return count, in_own, in_their

    def _taps(self, count: Size, per_group: Size, groups: int, in_own: Size, inner: Size, taps: list[Size],
              tap_strides: tuple[Size, ...]) -> tuple:
        """Sizes and strides of w as [k, c / groups, *taps]; (None, None) where no one stride leads over all groups."""
        over = (self.group_stride() if self.group is not None else 0)
        if self.kind == "data":  # the image is y: its channels are the k's, and the columns are c / groups
            if groups > 1 and per_group != 1 and types.same(over, per_group * inner) is not True:
                return None, None
            outer = inner if per_group != 1 or groups == 1 else over
            return (groups * per_group, count, *taps), (outer, in_own if count != 1 else 0, *tap_strides)
        if groups > 1 and count != 1 and types.same(over, count * in_own) is not True:
            return None, None
        return (groups * count, per_group, *taps), (in_own, inner, *tap_strides)

    def group_stride(self) -> Size:
        return (self.p.outs[self.group] if self.kind == "filter" else self.other.stride(self.group))

    def _image(self, n: Size, channels: Size) -> View:
        steps, b = self.image.steps, self.image.buffer
        strides = [steps[self.batch[1]] if self.batch else 0, steps[self.channel[1]] if self.channel else 0]
        lines = [s.limit for s in self.spatial]
        return View(b, b.dtype, (n, channels, *lines), (*strides, *[steps[s.dim] for s in self.spatial]), self.start)


def _two_dimensional(c: Convolution) -> Convolution:
    """With one spatial axis, a second one of size 1 before it: libraries know images and volumes."""
    if len(c.strides) > 1:
        return c
    wider = lambda v: replace(v, sizes=(*v.sizes[:2], 1, *v.sizes[2:]), strides=(*v.strides[:2], 0, *v.strides[2:]))  # noqa: E731
    return replace(c, x=wider(c.x), w=wider(c.w), y=wider(c.y), pads=((0, 0), *c.pads), strides=(1, *c.strides),
                   dilations=(1, *c.dilations))
