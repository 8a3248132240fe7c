"""Reductions: primitives that fold axes with one combiner, and the means, norms and arg-ops made of them."""
from __future__ import annotations

import numpy as np

from .. import types
from ..graph import Spec
from ..types import FLOAT, INTEGER, NUMERIC, DType, float64
from .elementwise import (BOOL, abs, cast_op, conj, equal, exp, is_finite, is_nan, log, logical_or, maximum, not_equal, real_div,
                          select, sqrt, square, stop_gradient, truncate_div)
from .opdef import composite, needs_rank, reduction
from .shape_like import axis_index, axis_size, broadcast_like, expand_axes

ORDERED = FLOAT + INTEGER


def expand_like(dy, op):
    """`dy` with the folded axes of reduction `op` back as size 1, so that it broadcasts against the input."""
    x, axis = op.inputs[0], op.attrs["axis"]
    if op.attrs["keepdims"] or axis == ():
        return dy
    if axis is None:
        return dy if x.sizes is None else expand_axes(dy, tuple(range(len(x.sizes))))
    if x.sizes is None and any(a < 0 for a in axis) and any(a >= 0 for a in axis):
        raise ValueError(f"the gradient over the axes {axis} needs an input of known rank; call set_shape on it")
    return expand_axes(dy, tuple(axis))


def kept_spec(x, *, axis, keepdims, dtype=None):
    """The spec of a reduction of `x`, of another dtype."""
    found = reduce_sum_op._infer(x, axis=axis, keepdims=keepdims)
    return Spec(dtype or x.dtype, found.sizes)


@reduction(combine="add", numpy=np.sum, dtypes=NUMERIC, type="Sum")
def reduce_sum_op(x, *, axis=None, keepdims=False):
    """The sum over `axis`."""


@reduce_sum_op.grad
def _(op, dy):
    return broadcast_like(expand_like(dy, op), op.inputs[0]),


@reduction(combine="mul", numpy=np.prod, dtypes=NUMERIC, type="Prod", domain=(0.5, 1.8))
def reduce_prod_op(x, *, axis=None, keepdims=False):
    """The product over `axis`."""


@reduce_prod_op.grad
def _(op, dy):
    # Without a zero: y / x.  With one zero: only that element has a slope, the product of the others.  With more: none.
    x = op.inputs[0]
    attrs = {"axis": op.attrs["axis"], "keepdims": op.attrs["keepdims"]}
    zero = equal(x, 0)
    safe = select(zero, 1, x)
    zeros = expand_like(reduce_sum_op(cast_op(zero, DstT=types.int32), **attrs), op)
    others = expand_like(reduce_prod_op(safe, **attrs), op)
    alone = select(equal(zeros, 1), others, 0)
    slope = select(zero, alone, select(equal(zeros, 0), others / safe, 0))
    return expand_like(dy, op) * conj(slope),


def _extreme_grad(op, dy):
    """The gradient shared equally among the elements that reach the extreme, as TF does."""
    x = op.inputs[0]
    hits = cast_op(equal(x, expand_like(op.outputs[0], op)), DstT=x.dtype)
    count = expand_like(reduce_sum_op(hits, axis=op.attrs["axis"], keepdims=op.attrs["keepdims"]), op)
    return hits / count * expand_like(dy, op),


@reduction(combine="max", numpy=np.max, dtypes=ORDERED, type="Max")
def reduce_max_op(x, *, axis=None, keepdims=False):
    """The largest element over `axis`; nan where there is one, the dtype's lowest value of no elements."""


@reduction(combine="min", numpy=np.min, dtypes=ORDERED, type="Min")
def reduce_min_op(x, *, axis=None, keepdims=False):
    """The smallest element over `axis`; nan where there is one, the dtype's highest value of no elements."""


reduce_max_op.grad(_extreme_grad)
reduce_min_op.grad(_extreme_grad)


def _np_extreme(fn, top):
    """NumPy's extreme, defined for no elements too."""
    def reference(x, *, axis, keepdims):
        if x.dtype.kind == "f":
            return fn(x, axis=axis, keepdims=keepdims, initial=np.inf if top else -np.inf)
        return fn(x, axis=axis, keepdims=keepdims, initial=np.iinfo(x.dtype).max if top else np.iinfo(x.dtype).min)
    return reference


reduce_max_op.reference(_np_extreme(np.max, False))
reduce_min_op.reference(_np_extreme(np.min, True))


@reduction(combine="land", numpy=np.all, dtypes=BOOL, type="All", no_gradient="a boolean")
def reduce_all_op(x, *, axis=None, keepdims=False):
    """Whether every element over `axis` is True."""


@reduction(combine="lor", numpy=np.any, dtypes=BOOL, type="Any", no_gradient="a boolean")
def reduce_any_op(x, *, axis=None, keepdims=False):
    """Whether some element over `axis` is True."""


# ---------------------------------------------------------------- composites


def wide(x):
    """16-bit floats as float32, in which sums are taken."""
    return cast_op(x, DstT=x.dtype.compute) if x.dtype.compute is not x.dtype else x


def narrow(y, like):
    """Back to the dtype of `like`."""
    return y if y.dtype is like.dtype else cast_op(y, DstT=like.dtype)


_REDUCED = [lambda rng: ((rng.normal(size=(2, 3, 4)),), {"axis": (1,), "keepdims": False}),
            lambda rng: ((rng.normal(size=(2, 3)),), {"axis": None, "keepdims": False}),
            lambda rng: ((rng.normal(size=(2, 3, 4)),), {"axis": (0, 2), "keepdims": True}),
            lambda rng: ((rng.normal(size=3),), {"axis": (-1,), "keepdims": False})]


@composite(type="Mean", constants=1, dtypes=NUMERIC, infer=kept_spec,
           samples=_REDUCED + [lambda rng: ((np.array([[-1, -2], [3, 4]], np.int32),), {"axis": (1,), "keepdims": False})])
def reduce_mean_op(x, *, axis=None, keepdims=False):
    """The mean over `axis`; of integers rounded toward zero, nan of no elements."""
    if x.dtype.is_floating and scattered(x, axis):  # the sum that a variance of the same elements takes too
        big = cast_op(x, DstT=float64)
        return cast_op(reduce_sum_op(big, axis=axis, keepdims=keepdims) / axis_size(x, axis, float64), DstT=x.dtype)
    total = reduce_sum_op(wide(x), axis=axis, keepdims=keepdims)
    if x.dtype.is_complex:
        return total / cast_op(axis_size(x, axis, x.dtype.real_dtype), DstT=x.dtype)
    n = axis_size(x, axis, total.dtype)
    return truncate_div(total, n) if x.dtype.is_integer else narrow(total / n, x)


@reduce_mean_op.grad
def _(op, dy):
    x, axis = op.inputs[0], op.attrs["axis"]
    n = axis_size(x, axis, x.dtype.real_dtype)
    return broadcast_like(expand_like(dy / (cast_op(n, DstT=x.dtype) if x.dtype.is_complex else n), op), x),


@composite(type="LogSumExp", constants=1, dtypes=FLOAT, infer=kept_spec, samples=_REDUCED, default_name="ReduceLogSumExp")
def logsumexp_op(x, *, axis=None, keepdims=False):
    """log(sum(exp(x))) over `axis`, without overflow; -inf of no elements."""
    top = reduce_max_op(x, axis=axis, keepdims=True)
    top = stop_gradient(select(is_finite(top), top, 0))
    y = log(reduce_sum_op(exp(x - top), axis=axis, keepdims=True)) + top
    return y if keepdims else _dropped(y, axis)


def _dropped(y, axis):
    """Without the axes of size 1 that a reduction kept."""
    from .array import squeeze

    return squeeze(y, axis=tuple(range(len(needs_rank(y)))) if axis is None else tuple(axis)) if axis != () and (axis or y.sizes) else y


@logsumexp_op.grad
def _(op, dy):
    # The softmax of x; 0 where every element is -inf.
    x, y = op.inputs[0], expand_like(op.outputs[0], op)
    return expand_like(dy, op) * select(equal(y, -np.inf), 0, exp(x - y)),


ROW = 1 << 15


def scattered(x, axis):
    """Whether each pass over the elements of one mean is a pass over memory (they are no row that stays in cache), and
    float64 has the digits to do with one pass."""
    if x.dtype.is_complex or x.dtype is float64 or x.sizes is None or axis == ():
        return False
    folded = sorted(range(len(x.sizes)) if axis is None else {k % len(x.sizes) for k in axis})
    last = folded == list(range(len(x.sizes) - len(folded), len(x.sizes)))
    return not last or (types.hint(types.product(x.sizes[k] for k in folded)) or 0) > ROW


def moments_at_once(x, axis, keepdims):
    """Mean and variance over `axis` as float64, of the sum and the sum of squares, which take one pass.

    The squares of float32 are exact in float64: for n elements of mean m and standard deviation s, the variance errs by
    about sqrt(n) 1e-16 (m / s)^2 of itself, far less than a float32 pass over x - mean does by the error of that mean.
    """
    x = cast_op(x, DstT=float64)
    n = axis_size(x, axis, float64)
    mean = reduce_sum_op(x, axis=axis, keepdims=keepdims) / n
    return mean, maximum(reduce_sum_op(square(x), axis=axis, keepdims=keepdims) / n - square(mean), 0.0)


@composite(type="ReduceVariance", dtypes=FLOAT + types.COMPLEX, output_dtypes=lambda x, **_: [x.dtype.real_dtype], samples=_REDUCED,
           default_name="reduce_variance",
           infer=lambda x, *, axis, keepdims: kept_spec(x, axis=axis, keepdims=keepdims, dtype=x.dtype.real_dtype))
def reduce_variance_op(x, *, axis=None, keepdims=False):
    """The mean of |x - mean|^2 over `axis`."""
    if scattered(x, axis):
        mean, variance = moments_at_once(x, axis, keepdims)
        return cast_op(variance, DstT=x.dtype)
    d = x - reduce_mean_op(x, axis=axis, keepdims=True)
    return reduce_mean_op(square(abs(d) if x.dtype.is_complex else d), axis=axis, keepdims=keepdims)


@reduce_variance_op.grad
def _(op, dy):
    # 2 (x - mean) / n: what flows through the mean sums to zero.
    x, axis = op.inputs[0], op.attrs["axis"]
    scaled = cast_op(expand_like(dy * 2 / axis_size(x, axis, dy.dtype), op), DstT=x.dtype)
    return (x - reduce_mean_op(x, axis=axis, keepdims=True)) * scaled,


@composite(type="EuclideanNorm", dtypes=FLOAT, infer=kept_spec, samples=_REDUCED)
def euclidean_norm_op(x, *, axis=None, keepdims=False):
    """The square root of the sum of squares over `axis`; its gradient at 0 is 0."""
    return narrow(sqrt(reduce_sum_op(square(wide(x)), axis=axis, keepdims=keepdims)), x)


@euclidean_norm_op.grad
def _(op, dy):
    y = op.outputs[0]
    scaled = select(equal(y, 0), 0, real_div(dy, select(equal(y, 0), 1, y)))
    return op.inputs[0] * expand_like(scaled, op),


@composite(type="CountNonzero", dtypes=NUMERIC + BOOL, no_gradient="a count", default_name="count_nonzero",
           output_dtypes=lambda x, *, dtype, **_: [dtype],
           samples=[lambda rng: ((rng.integers(-1, 2, (2, 3)).astype(np.float32),), {"axis": (1,)}),
                    lambda rng: ((rng.random((2, 3)) < 0.5,), {"dtype": types.int32})],
           infer=lambda x, *, axis, keepdims, dtype: kept_spec(x, axis=axis, keepdims=keepdims, dtype=dtype))
def count_nonzero_op(x, *, axis=None, keepdims=False, dtype: DType = types.int64):
    """How many elements over `axis` are not 0."""
    return reduce_sum_op(cast_op(x if x.dtype.is_bool else not_equal(x, 0), DstT=dtype), axis=axis, keepdims=keepdims)


def _arg_spec(x, *, axis, output_type):
    sizes = needs_rank(x)
    k = types.canonical_axis(axis, len(sizes), "dimension")
    if types.same(sizes[k], 0):
        raise ValueError(f"Reduction axis {k} is empty in shape {types.shape_text(sizes)}")
    return Spec(output_type, sizes[:k] + sizes[k + 1:])


def _arg(name, extreme):
    def fn(x, *, axis=0, output_type: DType = types.int64):
        hit = equal(x, extreme(x, axis=(axis,), keepdims=True))
        if x.dtype.is_floating:
            hit = logical_or(hit, is_nan(x))
        place = select(hit, axis_index(x, axis=axis, dtype=output_type), int(output_type.max))
        return reduce_min_op(place, axis=(axis,), keepdims=False)
    fn.__name__, fn.__doc__ = name, f"The first position of the {name[3:]}imum along `axis`; of the first nan, where there is one."
    return composite(type=f"A{name[1:3]}{name[3:].capitalize()}", constants=1, dtypes=ORDERED, infer=_arg_spec, no_gradient="an index",
                     output_dtypes=lambda x, *, axis, output_type: [output_type],
                     samples=[lambda rng: ((rng.normal(size=(3, 4)),), {"axis": 1}),
                              lambda rng: ((rng.integers(0, 3, (3, 4)).astype(np.int32),), {"axis": 0}),
                              lambda rng: ((np.array([[1.0, np.nan, 3.0, np.nan]]),), {"axis": -1, "output_type": types.int32})])(fn)


arg_max, arg_min = _arg("argmax", reduce_max_op), _arg("argmin", reduce_min_op)
