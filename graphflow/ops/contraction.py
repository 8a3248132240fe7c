"""Contractions: matrix products and convolutions of any spatial rank, channels last.

Every primitive says its element as a fold (`add` over products), so that the generic generator can always make it;
engines recognise the family and these attributes:

    MatMul, BatchMatMul           transpose_a, transpose_b, conj_a, conj_b
    Conv2D and its two backprops  strides, dilations (an int per spatial axis), padding ("SAME", "VALID" or a tuple
                                  of (before, after) per spatial axis), groups

`conv_geometry` turns the attributes and the sizes into explicit numbers.  TF's argument forms are in graphflow/nn.py.
"""
from __future__ import annotations

from itertools import product as cartesian
from typing import Any, Sequence

import numpy as np

from .. import types
from ..codegen import ir
from ..codegen.ir import Expr, m
from ..graph import OPERATORS, Operation, Spec, Tensor
from ..types import COMPLEX, FLOAT, Size
from .array import shape_vector, sizes_from
from .opdef import UnknownRank, broadcast_index, needs_rank, primitive

MATMUL = FLOAT + (types.int32, types.int64) + COMPLEX


# ---------------------------------------------------------------- matrix products


def _product_sizes(a: Tensor, b: Tensor, transpose_a: bool, transpose_b: bool) -> tuple[Size, Size]:
    (m_, k), (k2, n) = ((s[-1], s[-2]) if t else (s[-2], s[-1]) for s, t in ((a.sizes, transpose_a), (b.sizes, transpose_b)))
    if types.same(k, k2) is False:
        raise ValueError(f"Dimensions must be equal, but are {k!r} and {k2!r}")
    return m_, n


def _product_reference(a: np.ndarray, b: np.ndarray, *, transpose_a: bool, transpose_b: bool, conj_a: bool, conj_b: bool) -> np.ndarray:
    a, b = (np.swapaxes(x, -1, -2) if t else x for x, t in ((a, transpose_a), (b, transpose_b)))
    return np.matmul(np.conj(a) if conj_a else a, np.conj(b) if conj_b else b)


def _product_fold(op: Operation, index: Sequence[Expr], read: Any) -> ir.Fold:
    a, b, at = *op.inputs, op.attrs
    inner = ir.Axis(a.sizes[-2 if at["transpose_a"] else -1])
    *batch, i, j = index
    k = ir.axis(inner)
    x = read(0, broadcast_index(a.sizes[:-2], batch) + ([k, i] if at["transpose_a"] else [i, k]))
    y = read(1, broadcast_index(b.sizes[:-2], batch) + ([j, k] if at["transpose_b"] else [k, j]))
    return ir.Fold("add", (inner,), (m.conj(x) if at["conj_a"] else x) * (m.conj(y) if at["conj_b"] else y))


def _product_grad(op: Operation, dy: Tensor) -> tuple[Tensor, Tensor]:
    """With A', B' the operands as multiplied: dA' = dy B'^H and dB' = A'^H dy, written with flags only."""
    a, b = op.inputs
    ta, tb, ca, cb = (op.attrs[n] for n in ("transpose_a", "transpose_b", "conj_a", "conj_b"))
    flip = a.dtype.is_complex
    b_conj, a_conj = flip and (not cb) != ca, flip and (not ca) != cb

    def mm(x: Tensor, y: Tensor, tx: bool, ty: bool, cx: bool, cy: bool) -> Tensor:
        return op.opdef(x, y, transpose_a=tx, transpose_b=ty, conj_a=cx, conj_b=cy)

    da = mm(b, dy, tb, True, b_conj, ca) if ta else mm(dy, b, False, not tb, ca, b_conj)
    db = mm(dy, a, True, ta, cb, a_conj) if tb else mm(a, dy, not ta, False, a_conj, cb)
    return da, db


def _matrices(a: tuple[int, ...], b: tuple[int, ...], dtype: Any = np.float64, **attrs: bool) -> Any:
    """A test call; attributes that are not given are false."""
    def sample(rng: np.random.Generator) -> Any:
        def draw(shape: tuple[int, ...]) -> Any:
            if np.dtype(dtype).kind == "i":
                return rng.integers(-4, 5, shape).astype(dtype)
            values = rng.normal(size=shape)
            return (values + 1j * rng.normal(size=shape) if np.dtype(dtype).kind == "c" else values).astype(dtype)
        return (draw(a), draw(b)), attrs
    return sample


@primitive("contraction", type="MatMul", dtypes=MATMUL, tolerance=4, samples=[
    _matrices((2, 3), (3, 4), np.float32), _matrices((3, 2), (3, 4), transpose_a=True),
    _matrices((2, 3), (4, 3), np.float32, transpose_b=True),
    _matrices((3, 2), (4, 3), transpose_a=True, transpose_b=True), _matrices((2, 3), (3, 2), np.int32), _matrices((2, 3), (3, 2), np.int64),
    _matrices((2, 3), (3, 4), np.complex64, conj_b=True),
    _matrices((3, 2), (4, 3), np.complex128, transpose_a=True, transpose_b=True, conj_a=True),
    _matrices((2, 3), (3, 2), np.float16), _matrices((2, 0), (0, 3), np.float32), _matrices((1, 1), (1, 1), np.float32)])
def matmul_op(a, b, *, transpose_a=False, transpose_b=False, conj_a=False, conj_b=False):
    """The product of two matrices, each transposed and conjugated as the flags say; [m, k] and [k, n] give [m, n]."""


@matmul_op.infers
def _(a, b, *, transpose_a, transpose_b, conj_a, conj_b):
    if a.sizes is None or b.sizes is None:
        known = (a, transpose_a, 0) if b.sizes is None else (b, transpose_b, 1)
        for t in (a, b):
            t.sizes is None or needs_rank(t, 2)
        kept = types.UNKNOWN if known[0].sizes is None else known[0].sizes[known[2] if not known[1] else 1 - known[2]]
        return Spec(a.dtype, (kept, types.UNKNOWN) if b.sizes is None else (types.UNKNOWN, kept))
    needs_rank(a, 2), needs_rank(b, 2)
    return Spec(a.dtype, _product_sizes(a, b, transpose_a, transpose_b))


matmul_op.reference(_product_reference)
matmul_op.folds(_product_fold)
matmul_op.grad(_product_grad)


@primitive("contraction", type="BatchMatMul", default_name="MatMul", dtypes=MATMUL, tolerance=4, samples=[
    _matrices((2, 2, 3), (2, 3, 4), np.float32), _matrices((2, 1, 3, 2), (3, 3, 2), transpose_a=True),
    _matrices((2, 3), (3, 4, 3), np.float32, transpose_b=True),
    _matrices((2, 3, 2), (1, 4, 3), np.complex128, transpose_a=True, transpose_b=True, conj_b=True),
    _matrices((2, 2, 3), (3, 2), np.int32)])
def batch_matmul_op(a, b, *, transpose_a=False, transpose_b=False, conj_a=False, conj_b=False):
    """Products of the matrices in the last two axes; the axes before them broadcast."""


@batch_matmul_op.infers
def _(a, b, *, transpose_a, transpose_b, conj_a, conj_b):
    for t in (a, b):
        if len(needs_rank(t)) < 2:
            raise ValueError(f"Shape must be at least rank 2 but is rank {len(t.sizes)}")
    batch = types.broadcast_shapes(a.sizes[:-2], b.sizes[:-2])
    return Spec(a.dtype, batch + _product_sizes(a, b, transpose_a, transpose_b))


@batch_matmul_op.grad
def _(op, dy):
    return tuple(_to_batch_of(g, t) for g, t in zip(_product_grad(op, dy), op.inputs))


def _to_batch_of(g: Tensor, t: Tensor) -> Tensor:
    """`g` summed over the batch axes along which `t` was broadcast."""
    batches = [None if x.sizes is None else x.sizes[:-2] for x in (g, t)]
    equal = None not in batches and len(batches[0]) == len(batches[1]) and all(types.same(p, q) for p, q in zip(*batches))
    return g if equal else OPERATORS["sum_to_shape"](g, t)


batch_matmul_op.reference(_product_reference)
batch_matmul_op.folds(_product_fold)


def matmul(a: Any, b: Any, transpose_a: bool = False, transpose_b: bool = False, adjoint_a: bool = False, adjoint_b: bool = False,
           a_is_sparse: bool = False, b_is_sparse: bool = False, name: str | None = None) -> Tensor:
    """Matrix product of the last two axes; earlier axes are a batch, and broadcast.

    Args:
        a, b: tensors of rank >= 2 of one dtype: float, complex, int32 or int64.
        transpose_a, adjoint_a: use the (conjugate) transpose of `a`; likewise for `b`.
        a_is_sparse, b_is_sparse: accepted; zeros are not treated specially.

    Raises:
        ValueError: inner sizes differ, or both flags of one operand are set.  TypeError: dtypes differ.
    """
    if transpose_a and adjoint_a:
        raise ValueError("Only one of transpose_a and adjoint_a can be True.")
    if transpose_b and adjoint_b:
        raise ValueError("Only one of transpose_b and adjoint_b can be True.")
    a, b = matmul_op._convert([a, b])
    ranks = [None if t.sizes is None else len(t.sizes) for t in (a, b)]
    # Two matrices, or one and a tensor of unknown rank, which TF1 takes for a matrix too.
    op = matmul_op if all(r is None or r <= 2 for r in ranks) and ranks != [None, None] else batch_matmul_op
    return op(a, b, name=name, transpose_a=bool(transpose_a or adjoint_a), transpose_b=bool(transpose_b or adjoint_b),
              conj_a=bool(adjoint_a and a.dtype.is_complex), conj_b=bool(adjoint_b and b.dtype.is_complex))


# ---------------------------------------------------------------- window geometry, shared with ops/window.py


def window_pads(sizes: Sequence[Size], windows: Sequence[Size], strides: Sequence[int], padding: Any,
                dilations: Sequence[int]) -> tuple[tuple[Size, Size], ...]:
    """(before, after) per spatial axis.

    "SAME" gives ceil(size / stride) windows and puts the odd element of padding at the end, as TF does
    (tensorflow.org/api_docs/python/tf/nn, "Notes on padding").
    """
    if padding == "VALID":
        return ((0, 0),) * len(sizes)
    if padding != "SAME":
        return tuple(padding)
    out = []
    for n, k, s, d in zip(sizes, windows, strides, dilations):
        total = types.opaque("max", (types.ceildiv(n, s) - 1) * s + (k - 1) * d + 1 - n, 0)
        before = types.floordiv(total, 2)
        out.append((before, total - before))
    return tuple(out)


def window_counts(sizes: Sequence[Size], windows: Sequence[Size], strides: Sequence[int], padding: Any,
                  dilations: Sequence[int]) -> tuple[Size, ...]:
    """Number of windows per spatial axis.  Raises ValueError when a window is larger than the padded input."""
    if padding == "SAME":
        return tuple(types.ceildiv(n, s) for n, s in zip(sizes, strides))
    pads = window_pads(sizes, windows, strides, padding, dilations)
    out = []
    for n, k, s, d, (lo, hi) in zip(sizes, windows, strides, dilations, pads):
        reach, padded = (k - 1) * d + 1, n + lo + hi
        if types.less(padded, reach):
            raise ValueError(f"Negative dimension size caused by subtracting {reach} from {padded}")
        out.append(types.floordiv(padded - reach, s) + 1)
    return tuple(out)


def inside(place: Expr, size: Size, unbounded: bool = False) -> tuple[Expr, Expr | None]:
    """`place` clamped into [0, size), and whether it was there already (None: it always is)."""
    if unbounded:
        return place, None
    n = ir.size(size)
    return m.max(m.min(place, n - 1), ir.index_const(0)), m.land(place >= 0, place < n)


def masked(value: Expr, conditions: Sequence[Expr | None], otherwise: Any = 0) -> Expr:
    """`value` where all conditions hold."""
    found = [c for c in conditions if c is not None]
    for c in found[1:]:
        found[0] = m.land(found[0], c)
    return ir.select(found[0], value, otherwise) if found else value


def tap_places(op_sizes: Sequence[Size], places: Sequence[Expr], taps: Sequence[Expr], strides: Sequence[int], dilations: Sequence[int],
               pads: Sequence[tuple[Size, Size]]) -> tuple[list[Expr], list[Expr | None]]:
    """Input coordinates that tap `taps` of window `places` reads, clamped, with their conditions."""
    found = [inside(o * s + t * d - ir.size(lo), n, types.same(lo, 0) is True and types.same(hi, 0) is True)
             for n, o, t, s, d, (lo, hi) in zip(op_sizes, places, taps, strides, dilations, pads)]
    return [p for p, _ in found], [c for _, c in found]


def covering_places(counts: Sequence[Size], places: Sequence[Expr], taps: Sequence[Expr], strides: Sequence[int], dilations: Sequence[int],
                    pads: Sequence[tuple[Size, Size]]) -> tuple[list[Expr], list[Expr | None]]:
    """Windows whose tap `taps` reads input `places`: clamped, with the conditions under which there is one."""
    at: list[Expr] = []
    conditions: list[Expr | None] = []
    for n, i, t, s, d, (lo, _) in zip(counts, places, taps, strides, dilations, pads):
        shifted = i + ir.size(lo) - t * d
        window = shifted // s
        place, fits = inside(window, n)
        at.append(place)
        conditions += [fits] if s == 1 else [fits, (window * s).eq(shifted)]
    return at, conditions


def tap_slices(tap: Sequence[int], counts: Sequence[int], strides: Sequence[int], dilations: Sequence[int]) -> tuple[slice, ...]:
    """NumPy: the padded input elements under one tap of every window."""
    return tuple(slice(t * d, t * d + (n - 1) * s + 1 if n else t * d, s) for t, n, s, d in zip(tap, counts, strides, dilations))


# ---------------------------------------------------------------- convolutions


def _given_sizes(t: Tensor, rank: int | None) -> tuple[Size, ...]:
    """The sizes that a shape tensor gives; of unknown length it has `rank`."""
    try:
        return sizes_from(t)
    except UnknownRank:
        if rank is None:
            raise
        return (types.UNKNOWN,) * rank


def _check_conv(x: Sequence[Size], w: Sequence[Size], groups: int, strides: Sequence[int], dilations: Sequence[int], padding: Any) -> None:
    rank = len(w) - 2
    if len(x) != len(w) or rank < 1:
        raise ValueError(f"Shape must be rank {max(len(w), 3)} but is rank {len(x)}")
    if len(strides) != rank or len(dilations) != rank or not isinstance(padding, str) and len(padding) != rank:
        raise ValueError(f"strides, dilations and padding must have one entry per spatial axis ({rank}), got {strides}, {dilations}, "
                         f"{padding}")
    if any(s < 1 for s in (*strides, *dilations)):
        raise ValueError(f"strides and dilations must be positive, got {strides} and {dilations}")
    if types.same(x[-1], w[-2] * groups) is False:
        raise ValueError(f"number of input channels does not match corresponding dimension of filter, {x[-1]!r} != {w[-2] * groups!r}")
    if types.same(w[-1], types.floordiv(w[-1], groups) * groups) is False:
        raise ValueError(f"the {w[-1]!r} output channels do not divide into {groups} groups")


def conv_sizes(x: Sequence[Size], w: Sequence[Size], *, strides: Sequence[int], padding: Any, dilations: Sequence[int],
               groups: int) -> tuple[Size, ...]:
    """Sizes of the output of a convolution."""
    _check_conv(x, w, groups, strides, dilations, padding)
    return (x[0], *window_counts(x[1:-1], w[:-2], strides, padding, dilations), w[-1])


class conv_geometry:
    """The explicit numbers of a convolution: sizes, pads, channels of a group.  `op` is one of the three ops."""

    def __init__(self, op: Operation):
        at = op.attrs
        self.strides, self.dilations, self.groups = at["strides"], at["dilations"], at["groups"]
        if op.opdef is conv:
            x, w = (t.sizes for t in op.inputs)
        elif op.opdef is conv_input_grad:
            x, w = op.outputs[0].sizes, op.inputs[1].sizes
        else:
            x, w = op.inputs[0].sizes, op.outputs[0].sizes
        self.x, self.w = x, w
        self.spatial, self.kernel = x[1:-1], w[:-2]
        self.pads = window_pads(self.spatial, self.kernel, self.strides, at["padding"], self.dilations)
        self.y = op.outputs[0].sizes if op.opdef is conv else op.inputs[2].sizes
        self.counts = self.y[1:-1]
        self.group_in, self.group_out = w[-2], types.floordiv(w[-1], self.groups)


def loops(sizes: Sequence[Size]) -> tuple[list[ir.Axis], list[Expr]]:
    """A loop per size that is not 1, and the index that goes with it."""
    axes, index = [], []
    for n in sizes:
        one = not isinstance(n, types.Dim) and n == 1
        axes += [] if one else [ir.Axis(n)]
        index.append(ir.index_const(0) if one else ir.axis(axes[-1]))
    return axes, index


def _conv_sample(x: tuple[int, ...], w: tuple[int, ...], make: Any, dtype: Any = np.float64, groups: int = 1, **attrs: Any) -> Any:
    """A test call from random x, w and the dy that belongs to them."""
    def sample(rng: np.random.Generator) -> Any:
        y = conv_sizes(x, w, groups=groups, **attrs)
        arrays = make(*[rng.normal(size=s).astype(dtype) for s in (x, w, y)])
        return arrays, {"groups": groups, **attrs}
    return sample


def _conv_samples(make: Any) -> list[Any]:
    return [_conv_sample((2, 5, 4, 3), (3, 2, 3, 4), make, np.float32, strides=(1, 1), padding="SAME", dilations=(1, 1)),
            _conv_sample((1, 5, 6, 2), (2, 3, 2, 2), make, strides=(2, 1), padding="SAME", dilations=(1, 2)),
            _conv_sample((1, 5, 5, 4), (2, 2, 2, 2), make, np.float32, 2, strides=(1, 2), padding="VALID", dilations=(2, 1)),
            _conv_sample((1, 4, 5, 2), (3, 3, 1, 4), make, np.float64, 2, strides=(2, 2), padding=((1, 2), (0, 1)), dilations=(1, 1)),
            _conv_sample((2, 7, 2), (3, 2, 3), make, strides=(2,), padding="VALID", dilations=(1,)),
            _conv_sample((1, 3, 4, 3, 2), (2, 2, 2, 2, 2), make, np.float32, strides=(1, 2, 1), padding="SAME", dilations=(1, 1, 1))]


@primitive("contraction", type="Conv2D", dtypes=FLOAT, tolerance=8, samples=_conv_samples(lambda x, w, y: (x, w)))
def conv(x, w, *, strides, padding, dilations, groups=1):
    """Convolution (cross-correlation): x [n, *spatial, c], w [*kernel, c / groups, k] give [n, *windows, k].

    y[n, o, k] = sum over taps t and channels c of x[n, o * stride + t * dilation - before, c] * w[t, c, k];
    output channel k sees the channels of group k // (k_total / groups) only.
    """


@conv.infers
def _(x, w, **attrs):
    return Spec(x.dtype, conv_sizes(needs_rank(x), needs_rank(w), **attrs))


@conv.folds
def _(op, index, read):
    g = conv_geometry(op)
    n, *places, k = index
    axes, (*taps, c) = loops((*g.kernel, g.group_in))
    at, conditions = tap_places(g.spatial, places, taps, g.strides, g.dilations, g.pads)
    group = k // ir.size(g.group_out) * ir.size(g.group_in) if g.groups > 1 else ir.index_const(0)
    return ir.Fold("add", tuple(axes), masked(read(0, [n, *at, group + c]), conditions) * read(1, [*taps, c, k]))


@conv.reference
def _(x, w, *, strides, padding, dilations, groups):
    sizes = conv_sizes(x.shape, w.shape, strides=strides, padding=padding, dilations=dilations, groups=groups)
    pads = window_pads(x.shape[1:-1], w.shape[:-2], strides, padding, dilations)
    padded = np.pad(x, [(0, 0), *pads, (0, 0)])
    y = np.zeros(sizes, x.dtype)
    for tap in cartesian(*map(range, w.shape[:-2])):
        part = padded[(slice(None), *tap_slices(tap, sizes[1:-1], strides, dilations))]
        y += _mix(part, w[tap], groups)
    return y


def _mix(x: np.ndarray, w: np.ndarray, groups: int) -> np.ndarray:
    """[..., c] times [c / groups, k], group by group."""
    if groups == 1:
        return x @ w
    split = x.reshape(*x.shape[:-1], groups, w.shape[0])
    return np.einsum("...gc,cgk->...gk", split, w.reshape(w.shape[0], groups, w.shape[1] // groups)).reshape(*x.shape[:-1], w.shape[1])


@conv.grad
def _(op, dy):
    x, w = op.inputs
    return conv_input_grad(shape_vector(x), w, dy, **op.attrs), conv_filter_grad(x, shape_vector(w), dy, **op.attrs)


@primitive("contraction", type="Conv2DBackpropInput", dtypes=FLOAT, static=("input_sizes",), output_dtypes=lambda s, w, dy, **_: [w.dtype],
           tolerance=8, samples=_conv_samples(lambda x, w, y: (np.array(x.shape), w, y)))
def conv_input_grad(input_sizes, w, dy, *, strides, padding, dilations, groups=1):
    """The transpose of `conv` in its input: spreads dy [n, *windows, k] over an input of `input_sizes`."""


@conv_input_grad.infers
def _(input_sizes, w, dy, **attrs):
    kernel, rank = needs_rank(w), len(needs_rank(w))
    sizes = _given_sizes(input_sizes, rank)
    expected = conv_sizes(sizes, kernel, **attrs)
    given = dy.sizes if dy.sizes is not None else expected
    if len(given) != rank or any(types.same(a, b) is False for a, b in zip(given, expected)):
        raise ValueError(f"Conv2DBackpropInput: a gradient of shape {types.shape_text(expected)} belongs to an input of shape "
                         f"{types.shape_text(sizes)}, got {types.shape_text(dy.sizes)}")
    known = (given[0] if types.is_unknown(sizes[0]) else sizes[0], *sizes[1:-1], kernel[-2] * attrs["groups"])
    return Spec(w.dtype, known)


@conv_input_grad.folds
def _(op, index, read):
    g = conv_geometry(op)
    n, *places, c = index
    axes, (*taps, k) = loops((*g.kernel, g.group_out))
    at, conditions = covering_places(g.counts, places, taps, g.strides, g.dilations, g.pads)
    group = c // ir.size(g.group_in) if g.groups > 1 else ir.index_const(0)
    out = group * ir.size(g.group_out) + k
    channel = c - group * ir.size(g.group_in) if g.groups > 1 else c
    return ir.Fold("add", tuple(axes), masked(read(2, [n, *at, out]), conditions) * read(1, [*taps, channel, out]))


@conv_input_grad.reference
def _(input_sizes, w, dy, *, strides, padding, dilations, groups):
    spatial, counts = [int(n) for n in input_sizes[1:-1]], dy.shape[1:-1]
    pads = window_pads(spatial, w.shape[:-2], strides, padding, dilations)
    padded = np.zeros((dy.shape[0], *[n + lo + hi for n, (lo, hi) in zip(spatial, pads)], w.shape[-2] * groups), dy.dtype)
    # Each group's filter transposed leads from its outputs to its inputs.
    swapped = np.swapaxes(w.reshape(*w.shape[:-1], groups, w.shape[-1] // groups), -1, -3).reshape(*w.shape[:-2], w.shape[-1] // groups, -1)
    for tap in cartesian(*map(range, w.shape[:-2])):
        padded[(slice(None), *tap_slices(tap, counts, strides, dilations))] += _mix(dy, swapped[tap], groups)
    return padded[(slice(None), *[slice(lo, lo + n) for n, (lo, _) in zip(spatial, pads)])]


@conv_input_grad.grad
def _(op, dz):
    _, w, dy = op.inputs
    return None, conv_filter_grad(dz, shape_vector(w), dy, **op.attrs), conv(dz, w, **op.attrs)


@primitive("contraction", type="Conv2DBackpropFilter", dtypes=FLOAT, static=("filter_sizes",), tolerance=8,
           samples=_conv_samples(lambda x, w, y: (x, np.array(w.shape), y)))
def conv_filter_grad(x, filter_sizes, dy, *, strides, padding, dilations, groups=1):
    """The transpose of `conv` in its filter: correlates x with dy [n, *windows, k] into a filter of `filter_sizes`."""


@conv_filter_grad.infers
def _(x, filter_sizes, dy, **attrs):
    sizes = _given_sizes(filter_sizes, None if x.sizes is None else len(x.sizes))
    if x.sizes is not None and dy.sizes is not None:
        expected = conv_sizes(x.sizes, sizes, **attrs)
        if len(dy.sizes) != len(expected) or any(types.same(a, b) is False for a, b in zip(dy.sizes, expected)):
            raise ValueError(f"Conv2DBackpropFilter: expected a gradient of shape {types.shape_text(expected)}, got "
                             f"{types.shape_text(dy.sizes)}")
    return Spec(x.dtype, sizes)


@conv_filter_grad.folds
def _(op, index, read):
    g = conv_geometry(op)
    *taps, c, k = index
    axes, (n, *places) = loops((g.y[0], *g.counts))
    at, conditions = tap_places(g.spatial, places, taps, g.strides, g.dilations, g.pads)
    group = k // ir.size(g.group_out) * ir.size(g.group_in) if g.groups > 1 else ir.index_const(0)
    return ir.Fold("add", tuple(axes), masked(read(0, [n, *at, group + c]), conditions) * read(2, [n, *places, k]))


@conv_filter_grad.reference
def _(x, filter_sizes, dy, *, strides, padding, dilations, groups):
    sizes, counts = tuple(int(n) for n in filter_sizes), dy.shape[1:-1]
    pads = window_pads(x.shape[1:-1], sizes[:-2], strides, padding, dilations)
    padded = np.pad(x, [(0, 0), *pads, (0, 0)])
    dw = np.zeros(sizes, x.dtype)
    grouped = dy.reshape(-1, groups, sizes[-1] // groups)
    for tap in cartesian(*map(range, sizes[:-2])):
        part = padded[(slice(None), *tap_slices(tap, counts, strides, dilations))].reshape(-1, groups, sizes[-2])
        dw[tap] = np.einsum("pgc,pgk->cgk", part, grouped, optimize=True).reshape(sizes[-2:])
    return dw


@conv_filter_grad.grad
def _(op, dz):
    x, _, dy = op.inputs
    return conv_input_grad(shape_vector(x), dz, dy, **op.attrs), None, conv(x, dz, **op.attrs)


OPERATORS.update(matmul=matmul)
