"""Windows over spatial axes: pooling, its gradients, patches, morphology.  Channels last, any spatial rank.

Gradients are in pull form: each input element folds over the windows that cover it, so no two writers meet; where windows
do not overlap there is one such window at most.
Attributes as in ops/contraction.py: `window` and `strides` hold an int per spatial axis, `padding` is "SAME", "VALID" or
a tuple of (before, after).
"""
from __future__ import annotations

from itertools import product as cartesian
from typing import Any, Iterator, Sequence

import numpy as np

from .. import types
from ..codegen import ir
from ..codegen.ir import Expr, m
from ..graph import Operation, Spec, Tensor
from ..types import FLOAT
from .array import shape_vector, sizes_from
from .contraction import covering_places, inside, loops, masked, tap_places, tap_slices, window_counts, window_pads
from .opdef import composite, needs_rank, primitive

POOLED = FLOAT + types.INTEGER


def pooled_sizes(x: Sequence[Any], *, window: Sequence[int], strides: Sequence[int], padding: Any) -> tuple[Any, ...]:
    """Sizes after pooling [n, *spatial, c]."""
    rank = len(window)
    if len(x) != rank + 2:
        raise ValueError(f"Shape must be rank {rank + 2} but is rank {len(x)}")
    if len(strides) != rank or any(n < 1 for n in (*window, *strides)):
        raise ValueError(f"window and strides must be {rank} positive numbers, got {window} and {strides}")
    return (x[0], *window_counts(x[1:-1], window, strides, padding, (1,) * rank), x[-1])


class Windows:
    """The explicit numbers of a pooling over input sizes `x` with output sizes `y`."""

    def __init__(self, x: Sequence[Any], y: Sequence[Any], attrs: dict[str, Any]):
        self.window, self.strides = attrs["window"], attrs["strides"]
        self.ones = (1,) * len(self.window)
        self.spatial, self.counts = x[1:-1], y[1:-1]
        self.pads = window_pads(self.spatial, self.window, self.strides, attrs["padding"], self.ones)

    def read(self, places: Sequence[Expr], taps: Sequence[Expr]) -> tuple[list[Expr], list[Expr | None]]:
        """The input elements under taps of windows."""
        return tap_places(self.spatial, places, taps, self.strides, self.ones, self.pads)

    def covering(self, places: Sequence[Expr], taps: Sequence[Expr]) -> tuple[list[Expr], list[Expr | None]]:
        """The windows that see an input element as their tap."""
        return covering_places(self.counts, places, taps, self.strides, self.ones, self.pads)

    def containing(self, places: Sequence[Expr]) -> tuple[list[Expr], list[Expr], list[Expr | None]]:
        """The one window that may hold an input element, clamped, the tap that sees it, and when there is one: for strides >= window."""
        found, taps, conditions = [], [], []
        for n, i, k, s, (lo, _) in zip(self.counts, places, self.window, self.strides, self.pads):
            shifted = i + ir.size(lo)
            window, fits = inside(shifted // s, n)
            found.append(window)
            taps.append(shifted - shifted // s * s)
            conditions += [fits] if k == s else [fits, taps[-1] < k]
        return found, taps, conditions

    def number(self, tap: Sequence[int]) -> int:
        """The tap's place in row-major order."""
        return int(np.ravel_multi_index(tuple(tap), tuple(self.window)))

    def population(self, places: Sequence[Expr]) -> Expr:
        """How many elements of the input (not of its padding) windows hold."""
        total = ir.index_const(1)
        for o, n, k, s, (lo, hi) in zip(places, self.spatial, self.window, self.strides, self.pads):
            start = o * s - ir.size(lo)
            whole = types.same(lo, 0) is True and types.same(hi, 0) is True
            total = total * (k if whole else m.min(start + k, ir.size(n)) - m.max(start, ir.index_const(0)))
        return total


class NumpyWindows(Windows):
    """The same for arrays: padded inputs, and the slice of them under each tap."""

    def __init__(self, x: np.ndarray, attrs: dict[str, Any]):
        super().__init__(x.shape, pooled_sizes(x.shape, **attrs), attrs)
        self.shape = (x.shape[0], *self.counts, x.shape[-1])

    def padded(self, x: np.ndarray, fill: Any) -> np.ndarray:
        return np.pad(x, [(0, 0), *self.pads, (0, 0)], constant_values=fill)  # type: ignore[arg-type]

    def cropped(self, padded: np.ndarray) -> np.ndarray:
        return padded[(slice(None), *[slice(lo, lo + n) for n, (lo, _) in zip(self.spatial, self.pads)])]

    def taps(self) -> Iterator[tuple[slice, ...]]:
        for tap in cartesian(*map(range, self.window)):
            yield (slice(None), *tap_slices(tap, self.counts, self.strides, self.ones))

    def populations(self, x: np.ndarray) -> np.ndarray:
        ones = self.padded(np.ones((1, *self.spatial, 1), x.dtype), 0)
        return np.sum([ones[t] for t in self.taps()], axis=0, dtype=x.dtype)

    def first_largest(self, x: np.ndarray) -> np.ndarray:
        """Number of the tap that holds the first maximum of each window; NaN is the largest, and padding holds none."""
        padded, real = self.padded(x, lowest(x.dtype)), self.padded(np.ones(x.shape, bool), False)
        best, value, seen = np.zeros(self.shape, np.int64), np.zeros(self.shape, x.dtype), np.zeros(self.shape, bool)
        for k, tap in enumerate(self.taps()):
            with np.errstate(invalid="ignore"):
                wins = real[tap] & (~seen | ~(padded[tap] <= value) & (value == value))
            best, value, seen = np.where(wins, k, best), np.where(wins, padded[tap], value), seen | real[tap]
        return best


def lowest(dtype: Any) -> Any:
    """What is never larger than an element."""
    return -np.inf if np.dtype(dtype).kind == "f" else np.iinfo(dtype).min


def _sample(*, grads: int = 0, beside: bool = False, dtype: Any = np.float64, **attrs: Any) -> Any:
    """A call on distinct values (so that every maximum is unique), followed by gradients of the output's or the input's size."""
    def sample(rng: np.random.Generator) -> Any:
        x = (rng.permutation(60).reshape(1, 5, 6, 2) * 0.1).astype(dtype)
        dys = [rng.normal(size=pooled_sizes(x.shape, **attrs)).astype(dtype) for _ in range(grads)]
        return (x, *dys, *([rng.normal(size=x.shape).astype(dtype)] if beside else [])), attrs
    return sample


_FORMS: list[dict[str, Any]] = [{"window": (2, 2), "strides": (2, 2), "padding": "VALID"},
                                {"window": (3, 2), "strides": (2, 1), "padding": "SAME"},
                                {"window": (2, 3), "strides": (3, 1), "padding": ((1, 0), (1, 1)), "dtype": np.float32},
                                {"window": (5, 1), "strides": (1, 1), "padding": "VALID"}]


def _pool_infer(x: Tensor, **attrs: Any) -> Spec:
    return Spec(x.dtype, pooled_sizes(needs_rank(x), **attrs))


# ---------------------------------------------------------------- maximum


@primitive("window", type="MaxPool", dtypes=POOLED, infer=_pool_infer, samples=[_sample(**f) for f in _FORMS])
def max_pool(x, *, window, strides, padding):
    """The largest element of each window of x [n, *spatial, c]; padding never wins."""


@max_pool.folds
def _(op, index, read):
    g = Windows(op.inputs[0].sizes, op.outputs[0].sizes, op.attrs)
    n, *places, c = index
    axes, taps = loops(g.window)
    at, conditions = g.read(places, taps)
    dtype = op.inputs[0].dtype.compute
    return ir.Fold("max", tuple(axes), masked(read(0, [n, *at, c]), conditions, ir.const(ir.neutral("max", dtype), dtype)))


@max_pool.reference
def _(x, **attrs):
    g = NumpyWindows(x, attrs)
    padded = g.padded(x, lowest(x.dtype))
    out = np.full(g.shape, lowest(x.dtype), x.dtype)
    for tap in g.taps():
        out = np.maximum(out, padded[tap])
    return out


@max_pool.grad
def _(op, dy):
    return max_pool_grad(op.inputs[0], dy, **op.attrs),


def _first_largest(op: Operation, g: Windows, places: Sequence[Expr], n: Expr, c: Expr, read: Any, name: Any) -> list[Expr]:
    """Unrolled over the taps (their number is an attribute): what `name(tap, place)` calls the first maximum of one window."""
    best: list[Expr] = []
    value, seen = ir.const(0, op.inputs[0].dtype.compute), ir.const(False, types.bool_)
    for tap in cartesian(*map(range, g.window)):
        at, conditions = g.read(places, [ir.index_const(t) for t in tap])
        real = masked(ir.const(True, types.bool_), conditions, False)
        candidate = read(0, [n, *at, c])
        larger = m.lnot(candidate <= value)
        if candidate.dtype.kind == "f":
            larger = m.land(larger, m.lnot(m.isnan(value)))
        wins = _land(real, _lor(m.lnot(seen) if seen.op != "const" else ir.const(not seen.data, types.bool_), larger))
        best = [ir.select(wins, a, b) for a, b in zip(name(tap, at), best or name(tap, at))]
        value, seen = ir.select(wins, candidate, value), _lor(seen, real)
    return best


def _land(a: Expr, b: Expr) -> Expr:
    """a and b, without constants."""
    return (b if a.data else a) if a.op == "const" else (a if b.data else b) if b.op == "const" else m.land(a, b)


def _lor(a: Expr, b: Expr) -> Expr:
    """a or b, without constants."""
    return (a if a.data else b) if a.op == "const" else (b if b.data else a) if b.op == "const" else m.lor(a, b)


def _first_place(op: Operation, g: Windows, places: Sequence[Expr], n: Expr, c: Expr, read: Any) -> list[Expr]:
    """Coordinates of the first maximum of one window."""
    return _first_largest(op, g, places, n, c, read, lambda tap, at: at)


def _first_tap(op: Operation, g: Windows, places: Sequence[Expr], n: Expr, c: Expr, read: Any) -> Expr:
    """Number of the tap that holds the first maximum of one window."""
    return _first_largest(op, g, places, n, c, read, lambda tap, at: [ir.const(g.number(tap), types.int32)])[0]


@composite(type="MaxPoolGrad", dtypes=POOLED, infer=lambda x, dy, **_: Spec(x.dtype, x.sizes),
           samples=[_sample(grads=1, **f) for f in _FORMS])
def max_pool_grad(x, dy, *, window, strides, padding):
    """Each dy goes to the first maximum of its window (row-major order, as in TF): the gradient of `max_pool`."""
    attrs = {"window": window, "strides": strides, "padding": padding}
    whole = [a for a, k in enumerate(window, 1) if k != 1]
    if len(whole) == 1:
        a, = whole
        if types.same(needs_rank(dy)[a], 1) and types.same(needs_rank(x)[a], window[a - 1]):
            return _at_the_first_largest(x, dy, a)
    if all(k <= s for k, s in zip(window, strides)):
        return max_pool_grad_apart(x, dy, **attrs)
    return max_pool_spread(shape_vector(x), max_pool_tap(x, **attrs), dy, **attrs)


def _at_the_first_largest(x: Tensor, dy: Tensor, axis: int) -> Tensor:
    """One window over the whole of one axis, as in convolutions of sentences: dy where the largest element stands first."""
    from .array import expand_dims
    from .elementwise import equal, select
    from .reduce import arg_max
    from .shape_like import axis_index

    first = expand_dims(arg_max(x, axis=axis, output_type=types.int32), axis=axis)
    return select(equal(axis_index(x, axis=axis, dtype=types.int32), first), dy, 0)


@max_pool_grad.reference
def _(x, dy, **attrs):
    g = NumpyWindows(x, attrs)
    first, padded = g.first_largest(x), g.padded(np.zeros_like(x), 0)
    for k, tap in enumerate(g.taps()):
        padded[tap] += np.where(first == k, dy, np.zeros_like(dy))
    return g.cropped(padded)


@max_pool_grad.grad
def _(op, dz):
    x, _ = op.inputs
    return None, max_pool_pick(x, dz, **op.attrs)


_PART = "part of MaxPoolGrad, which has one"


@primitive("window", type="MaxPoolGradApart", dtypes=POOLED, infer=lambda x, dy, **_: Spec(x.dtype, x.sizes), no_gradient=_PART,
           samples=[_sample(grads=1, **_FORMS[0]), _sample(grads=1, window=(2, 1), strides=(3, 2), padding="SAME", dtype=np.float32)])
def max_pool_grad_apart(x, dy, *, window, strides, padding):
    """`max_pool_grad` of windows that do not overlap: an element is in one window or in none."""


@max_pool_grad_apart.lowers
def _(op, index, read):
    g = Windows(op.inputs[0].sizes, op.inputs[1].sizes, op.attrs)
    n, *places, c = index
    windows, taps, conditions = g.containing(places)
    number = ir.index_const(0)
    for t, k in zip(taps, g.window):
        number = number * k + t
    first = _first_tap(op, g, windows, n, c, read)
    dy = read(1, [n, *windows, c])
    return masked(dy, [*conditions, first.eq(m.cast(number, types.int32))], ir.const(0, dy.dtype))


max_pool_grad_apart.reference(max_pool_grad._numpy)


@primitive("window", type="MaxPoolTap", dtypes=POOLED, no_gradient="numbers of taps are integers", samples=[_sample(**f) for f in _FORMS],
           output_dtypes=lambda x, window, **_: [_tap_dtype(window)])
def max_pool_tap(x, *, window, strides, padding):
    """The number (row-major) of the tap that holds the first maximum of each window."""


max_pool_tap.infers(lambda x, **attrs: Spec(_tap_dtype(attrs["window"]), pooled_sizes(needs_rank(x), **attrs)))


def _tap_dtype(window: Sequence[int]) -> types.DType:
    return types.uint8 if int(np.prod(window)) <= 256 else types.int32


@max_pool_tap.lowers
def _(op, index, read):
    n, *places, c = index
    return m.cast(_first_tap(op, Windows(op.inputs[0].sizes, op.outputs[0].sizes, op.attrs), places, n, c, read), op.outputs[0].dtype)


@max_pool_tap.reference
def _(x, **attrs):
    return NumpyWindows(x, attrs).first_largest(x).astype(_tap_dtype(attrs["window"]).np)


def _spread_sample(rng: np.random.Generator) -> Any:
    (x, dy), attrs = _sample(grads=1, **_FORMS[1])(rng)
    return (np.array(x.shape), rng.integers(0, 6, dy.shape).astype(np.uint8), dy), attrs


@primitive("window", type="MaxPoolSpread", static=("input_sizes",), same=("dy",), input_dtypes={"tap": (types.uint8, types.int32)},
           output_dtypes=lambda s, tap, dy, **_: [dy.dtype], no_gradient=_PART, samples=[_spread_sample])
def max_pool_spread(input_sizes, tap, dy, *, window, strides, padding):
    """Each dy added to the element of an input of `input_sizes` under the tap of its window that `tap` names."""


max_pool_spread.infers(lambda input_sizes, tap, dy, **_: Spec(dy.dtype, sizes_from(input_sizes)))


@max_pool_spread.folds
def _(op, index, read):
    g = Windows(op.outputs[0].sizes, op.inputs[2].sizes, op.attrs)
    n, *places, c = index
    axes, taps = loops(g.window)
    windows, conditions = g.covering(places, taps)
    number = ir.index_const(0)
    for t, k in zip(taps, g.window):
        number = number * k + t
    here = m.cast(read(1, [n, *windows, c]), types.int32).eq(m.cast(number, types.int32))
    return ir.Fold("add", tuple(axes), masked(read(2, [n, *windows, c]), [*conditions, here]))


@max_pool_spread.reference
def _(input_sizes, tap, dy, **attrs):
    g = NumpyWindows(np.zeros([int(n) for n in input_sizes], dy.dtype), attrs)
    padded = g.padded(np.zeros([int(n) for n in input_sizes], dy.dtype), 0)
    for k, t in enumerate(g.taps()):
        padded[t] += np.where(tap == k, dy, np.zeros_like(dy))
    return g.cropped(padded)


@primitive("window", type="MaxPoolGradGrad", dtypes=POOLED, samples=[_sample(beside=True, **f) for f in _FORMS])
def max_pool_pick(x, z, *, window, strides, padding):
    """The element of `z` (of x's size) at the place of the first maximum of each window of x: the transpose of `max_pool_grad` in dy."""


max_pool_pick.infers(lambda x, z, **attrs: _pool_infer(x, **attrs))


@max_pool_pick.lowers
def _(op, index, read):
    g = Windows(op.inputs[0].sizes, op.outputs[0].sizes, op.attrs)
    n, *places, c = index
    return read(1, [n, *_first_place(op, g, places, n, c, read), c])


@max_pool_pick.reference
def _(x, z, **attrs):
    g = NumpyWindows(x, attrs)
    padded = g.padded(z, 0)
    taps = np.stack([padded[t] for t in g.taps()])
    return np.take_along_axis(taps, g.first_largest(x)[None], 0)[0]


@max_pool_pick.grad
def _(op, dy):
    return None, max_pool_grad(op.inputs[0], dy, **op.attrs)


@primitive("window", type="MaxPoolArgmax", dtypes=POOLED, no_gradient="positions are integers", samples=[_sample(**f) for f in _FORMS],
           output_dtypes=lambda x, **_: [types.int64])
def max_pool_argmax(x, *, window, strides, padding, include_batch=False):
    """The flattened position ((row * width) + column) * channels + channel of the first maximum of each window."""


max_pool_argmax.infers(lambda x, include_batch, **attrs: Spec(types.int64, pooled_sizes(needs_rank(x), **attrs)))


@max_pool_argmax.lowers
def _(op, index, read):
    sizes = op.inputs[0].sizes
    n, *places, c = index
    best = _first_place(op, Windows(sizes, op.outputs[0].sizes, op.attrs), places, n, c, read)
    flat = n if op.attrs["include_batch"] else ir.index_const(0)
    for i, s in zip([*best, c], sizes[1:]):
        flat = flat * ir.size(s) + i
    return flat


@max_pool_argmax.reference
def _(x, *, include_batch, **attrs):
    g = NumpyWindows(x, attrs)
    where = np.broadcast_to(np.arange(x[0].size).reshape(1, *x.shape[1:]), x.shape)
    padded = g.padded(where + (np.arange(len(x)) * x[0].size).reshape(-1, *[1] * (x.ndim - 1)) if include_batch else where, 0)
    return np.take_along_axis(np.stack([padded[t] for t in g.taps()]), g.first_largest(x)[None], 0)[0]


# ---------------------------------------------------------------- average


@composite(type="AvgPool", dtypes=FLOAT, infer=_pool_infer, samples=[_sample(**f) for f in _FORMS])
def avg_pool(x, *, window, strides, padding):
    """The mean of the elements of x [n, *spatial, c] in each window; padding is not counted."""
    attrs = {"window": window, "strides": strides, "padding": padding}
    return window_share(shape_vector(x), window_sum(x, **attrs), **attrs)


@avg_pool.reference
def _(x, **attrs):
    g = NumpyWindows(x, attrs)
    padded = g.padded(x, 0)
    return sum((padded[t] for t in g.taps()), np.zeros(g.shape, x.dtype)) / g.populations(x)


@avg_pool.grad
def _(op, dy):
    return avg_pool_grad(shape_vector(op.inputs[0]), dy, **op.attrs),


@primitive("window", type="WindowSum", dtypes=FLOAT, infer=_pool_infer, no_gradient="part of AvgPool, which has one",
           samples=[_sample(**f) for f in _FORMS])
def window_sum(x, *, window, strides, padding):
    """The sum of the elements of x [n, *spatial, c] in each window."""


@window_sum.folds
def _(op, index, read):
    g = Windows(op.inputs[0].sizes, op.outputs[0].sizes, op.attrs)
    n, *places, c = index
    axes, taps = loops(g.window)
    at, conditions = g.read(places, taps)
    return ir.Fold("add", tuple(axes), masked(read(0, [n, *at, c]), conditions))


@window_sum.reference
def _(x, **attrs):
    g = NumpyWindows(x, attrs)
    padded = g.padded(x, 0)
    return sum((padded[t] for t in g.taps()), np.zeros(g.shape, x.dtype))


@primitive("window", type="WindowShare", dtypes=FLOAT, static=("input_sizes",), output_dtypes=lambda s, y, **_: [y.dtype],
           infer=lambda input_sizes, y, **_: Spec(y.dtype, y.sizes), no_gradient="part of AvgPool, which has one",
           samples=[lambda r: ((np.array([1, 5, 6, 2]), r.normal(size=(1, 3, 6, 2))), _FORMS[1])])
def window_share(input_sizes, y, *, window, strides, padding):
    """Each element of y, one a window, divided by the number of elements of an input of `input_sizes` that the window holds."""


@window_share.lowers
def _(op, index, read):
    y = op.inputs[1].sizes
    g = Windows((y[0], *sizes_from(op.inputs[0])[1:-1], y[-1]), y, op.attrs)
    value = read(1, index)
    return value / m.cast(g.population(index[1:-1]), value.dtype)


@window_share.reference
def _(input_sizes, y, **attrs):
    x = np.zeros([int(n) for n in input_sizes], y.dtype)
    return y / NumpyWindows(x, attrs).populations(x)


@primitive("window", type="AvgPoolGrad", dtypes=FLOAT, static=("input_sizes",), output_dtypes=lambda s, dy, **_: [dy.dtype],
           samples=[lambda r: ((np.array([1, 5, 6, 2]), r.normal(size=(1, 3, 6, 2))), _FORMS[1])])
def avg_pool_grad(input_sizes, dy, *, window, strides, padding):
    """Each dy shared equally by the elements of its window: the gradient of `avg_pool` for an input of `input_sizes`."""


avg_pool_grad.infers(lambda input_sizes, dy, **_: Spec(dy.dtype, sizes_from(input_sizes)))


@avg_pool_grad.folds
def _(op, index, read):
    g = Windows(op.outputs[0].sizes, op.inputs[1].sizes, op.attrs)
    n, *places, c = index
    axes, taps = loops(g.window)
    windows, conditions = g.covering(places, taps)
    value = read(1, [n, *windows, c])
    return ir.Fold("add", tuple(axes), masked(value * (1 / m.cast(g.population(windows), value.dtype)), conditions))


@avg_pool_grad.reference
def _(input_sizes, dy, **attrs):
    x = np.zeros([int(n) for n in input_sizes], dy.dtype)
    g = NumpyWindows(x, attrs)
    padded, share = g.padded(x, 0), dy / g.populations(x)
    for tap in g.taps():
        padded[tap] += share
    return g.cropped(padded)


@avg_pool_grad.grad
def _(op, dz):
    return None, avg_pool(dz, **op.attrs)


# ---------------------------------------------------------------- patches

_PATCHES = {"window": (2, 3), "strides": (1, 2), "dilations": (2, 1), "padding": "SAME"}


@primitive("window", type="ExtractImagePatches", samples=[lambda r: ((r.normal(size=(1, 5, 4, 2)),), _PATCHES)])
def extract_patches(x, *, window, strides, dilations, padding):
    """The windows of x [n, *spatial, c], each flattened into the channels [*window, c]; padding is 0."""


@extract_patches.infers
def _(x, *, window, strides, dilations, padding):
    sizes = needs_rank(x, len(window) + 2)
    counts = window_counts(sizes[1:-1], window, strides, padding, dilations)
    return Spec(x.dtype, (sizes[0], *counts, types.product(window) * sizes[-1]))


@extract_patches.lowers
def _(op, index, read):
    x, a = op.inputs[0].sizes, op.attrs
    n, *places, k = index
    pads = window_pads(x[1:-1], a["window"], a["strides"], a["padding"], a["dilations"])
    c, tap, taps = k % ir.size(x[-1]), k // ir.size(x[-1]), []
    for w in reversed(a["window"]):
        taps.append(tap % w)
        tap = tap // w
    at, conditions = tap_places(x[1:-1], places, taps[::-1], a["strides"], a["dilations"], pads)
    value = read(0, [n, *at, c])
    return masked(value, conditions, ir.const(0, value.dtype))


@extract_patches.reference
def _(x, *, window, strides, dilations, padding):
    counts = window_counts(x.shape[1:-1], window, strides, padding, dilations)
    padded = np.pad(x, [(0, 0), *window_pads(x.shape[1:-1], window, strides, padding, dilations), (0, 0)])
    return np.concatenate([padded[(slice(None), *tap_slices(t, counts, strides, dilations))] for t in cartesian(*map(range, window))], -1)


@extract_patches.grad
def _(op, dy):
    return extract_patches_grad(shape_vector(op.inputs[0]), dy, **op.attrs),


@primitive("window", type="ExtractImagePatchesGrad", static=("input_sizes",), output_dtypes=lambda s, dy, **_: [dy.dtype],
           samples=[lambda r: ((np.array([1, 5, 4, 2]), r.normal(size=(1, 5, 2, 12))), _PATCHES)])
def extract_patches_grad(input_sizes, dy, *, window, strides, dilations, padding):
    """Patches added back where they came from: the transpose of `extract_patches`."""


extract_patches_grad.infers(lambda input_sizes, dy, **_: Spec(dy.dtype, sizes_from(input_sizes)))


@extract_patches_grad.folds
def _(op, index, read):
    x, a = op.outputs[0].sizes, op.attrs
    n, *places, c = index
    pads = window_pads(x[1:-1], a["window"], a["strides"], a["padding"], a["dilations"])
    axes, taps = loops(a["window"])
    windows, conditions = covering_places(op.inputs[1].sizes[1:-1], places, taps, a["strides"], a["dilations"], pads)
    flat = ir.index_const(0)
    for t, w in zip(taps, a["window"]):
        flat = flat * w + t
    value = read(1, [n, *windows, flat * ir.size(x[-1]) + c])
    return ir.Fold("add", tuple(axes), masked(value, conditions, ir.const(0, value.dtype)))


@extract_patches_grad.reference
def _(input_sizes, dy, *, window, strides, dilations, padding):
    sizes = [int(n) for n in input_sizes]
    pads = window_pads(sizes[1:-1], window, strides, padding, dilations)
    padded = np.zeros((sizes[0], *[n + lo + hi for n, (lo, hi) in zip(sizes[1:-1], pads)], sizes[-1]), dy.dtype)
    for k, tap in enumerate(cartesian(*map(range, window))):
        padded[(slice(None), *tap_slices(tap, dy.shape[1:-1], strides, dilations))] += dy[..., k * sizes[-1]:(k + 1) * sizes[-1]]
    return padded[(slice(None), *[slice(lo, lo + n) for n, (lo, _) in zip(sizes[1:-1], pads)])]


@extract_patches_grad.grad
def _(op, dz):
    return None, extract_patches(dz, **op.attrs)
