"""Neural-network ops: named composites whose gradients are better than those of their bodies.

Softmax and its cross entropies, bias, normalisations.  A body is written over any axis and any rank, so that a row kernel
fuses it; TF's argument forms are in graphflow/nn.py.
"""
from __future__ import annotations

from typing import Any, Sequence

import numpy as np

from .. import types
from ..codegen import ir
from ..codegen.ir import m
from ..graph import OPERATORS, Spec, Tensor
from ..types import COMPLEX, FLOAT
from . import elementwise as ew
from . import reduce as rd
from .array import expand_dims
from .opdef import composite, constant, needs_rank, primitive
from .shape_like import axis_size

INDEX = (types.int32, types.int64)


def total(x: Tensor, axis: Any, keep: bool = True) -> Tensor:
    """The sum over one axis or several."""
    return rd.reduce_sum_op(x, axis=axis if axis is None or isinstance(axis, tuple) else (axis,), keepdims=keep)


def largest(x: Tensor, axis: int) -> Tensor:
    return rd.reduce_max_op(x, axis=(axis,), keepdims=True)


def cast(x: Tensor, dtype: types.DType) -> Tensor:
    return x if x.dtype is dtype else ew.cast_op(x, DstT=dtype)


def is_zero(t: Tensor) -> bool:
    """Whether a gradient is known to be all zeros (an output that nothing uses)."""
    if t.op.type == "Fill":
        return is_zero(t.op.inputs[1])
    return t.op.type == "ZerosLike" or t.op.type == "Const" and not np.any(t.op.attrs["value"])


def same_as_first(x: Tensor, *_: Any, **__: Any) -> Spec:
    return Spec(x.dtype, x.sizes)


# ---------------------------------------------------------------- softmax


def _softmax_infer(x: Tensor, *, axis: int) -> Spec:
    if x.sizes is not None:
        types.canonical_axis(axis, len(x.sizes))
    return Spec(x.dtype, x.sizes)


def _one_input(rng: np.random.Generator) -> tuple[tuple[Any, ...], dict[str, Any]]:
    return (rng.normal(size=(3, 5)) * 3,), {}


@composite(type="Softmax", dtypes=FLOAT, infer=_softmax_infer, samples=[_one_input, lambda r: ((r.normal(size=(2, 3, 4)),), {"axis": 1})])
def softmax(logits, *, axis=-1):
    """exp(x) / sum(exp(x)) along `axis`, without overflow."""
    e = ew.exp(logits - largest(logits, axis))
    return e * ew.reciprocal(total(e, axis))  # the sum is at least 1: one division a row, and none overflows


@softmax.grad
def _(op, dy):
    y, axis = op.outputs[0], op.attrs["axis"]
    return (dy - total(dy * y, axis)) * y,


@composite(type="LogSoftmax", dtypes=FLOAT, infer=_softmax_infer,
           samples=[_one_input, lambda r: ((r.normal(size=(2, 3, 4)),), {"axis": 0})])
def log_softmax(logits, *, axis=-1):
    """log(softmax(x)) along `axis`, without overflow or log(0)."""
    shifted = logits - largest(logits, axis)
    return shifted - ew.log(total(ew.exp(shifted), axis))


@log_softmax.grad
def _(op, dy):
    axis = op.attrs["axis"]
    return dy - ew.exp(op.outputs[0]) * total(dy, axis),


# ---------------------------------------------------------------- cross entropies


def _without_axis(sizes: Sequence[Any], axis: int) -> tuple[Any, ...]:
    k = types.canonical_axis(axis, len(sizes))
    return (*sizes[:k], *sizes[k + 1:])


def _distributions(rng: np.random.Generator, *shape: int) -> np.ndarray:
    p = rng.uniform(0.1, 1.0, shape)
    return p / p.sum(-1, keepdims=True)


@composite(type="SoftmaxCrossEntropyWithLogits", dtypes=FLOAT, samples=[
    lambda r: ((r.normal(size=(3, 4)) * 3, _distributions(r, 3, 4)), {}),
    lambda r: ((r.normal(size=(2, 3, 4)), _distributions(r, 2, 4, 3).swapaxes(1, 2)), {"axis": 1})])
def softmax_cross_entropy(logits, labels, *, axis=-1):
    """-sum(labels * log_softmax(logits)) along `axis`.

    The gradient for `logits` is softmax - labels, as in TF: `labels` are taken to be distributions (to sum to one).
    """
    return -total(labels * log_softmax(logits, axis=axis), axis, False)


@softmax_cross_entropy.infers
def _(logits, labels, *, axis):
    sizes = types.broadcast_shapes(needs_rank(logits), needs_rank(labels))
    if len(logits.sizes) != len(labels.sizes):
        raise ValueError(f"logits and labels must be broadcastable: logits_size={types.shape_text(logits.sizes)} "
                         f"labels_size={types.shape_text(labels.sizes)}")
    return Spec(logits.dtype, _without_axis(sizes, axis))


@softmax_cross_entropy.grad
def _(op, dy):
    (logits, labels), axis = op.inputs, op.attrs["axis"]
    dy = _beside(dy, axis)
    return (OPERATORS["sum_to_shape"]((softmax(logits, axis=axis) - labels) * dy, logits),
            OPERATORS["sum_to_shape"](-log_softmax(logits, axis=axis) * dy, labels))


def _beside(dy: Tensor, axis: int) -> Tensor:
    """The folded axis back, with size 1."""
    return expand_dims(dy, axis=axis)


def _label_error(label: Any, n: Any) -> str:
    return f"Received a label value of {label} which is outside the valid range of [0, {n})."


@primitive("indexing", type="PickLabel", dtypes=FLOAT, same=("x",), input_dtypes={"labels": INDEX},
           samples=[lambda r: ((r.normal(size=(4, 5)), r.integers(0, 5, 4)), {})])
def pick(x, labels):
    """x[..., labels[...]]: one element of each row of the last axis.  A label out of range is an error."""


@pick.infers
def _(x, labels):
    sizes = needs_rank(x)
    if not sizes:
        raise ValueError("Logits cannot be scalars; received a scalar of shape []")
    if labels.sizes is not None and len(labels.sizes) != len(sizes) - 1:
        raise ValueError(f"Rank mismatch: Rank of labels (received {len(labels.sizes)}) should equal rank of logits minus 1 (received "
                         f"{len(sizes)}).")
    return Spec(x.dtype, sizes[:-1] if labels.sizes is None else types.merge_shapes(labels.sizes, sizes[:-1]))


@pick.lowers
def _(op, index, read):
    n = ir.size(op.inputs[0].sizes[-1])
    label = m.cast(read(1, index), types.int64)
    checked = m.check(m.land(label >= 0, label < n), m.max(m.min(label, n - 1), 0), _label_error("?", op.inputs[0].sizes[-1]))
    return read(0, [*index, checked])


@pick.reference
def _(x, labels):
    if np.shape(labels) != np.shape(x)[:-1]:
        raise ValueError(f"logits and labels must have the same first dimensions, got logits shape {np.shape(x)} and labels shape "
                         f"{np.shape(labels)}")
    bad = labels[(labels < 0) | (labels >= x.shape[-1])]
    if bad.size:
        raise ValueError(_label_error(bad.flat[0], x.shape[-1]))
    return np.take_along_axis(x, labels[..., None], -1)[..., 0]


@pick.grad
def _(op, dy):
    return spread(dy, op.inputs[1], op.inputs[0]), None


@primitive("movement", type="SpreadLabel", dtypes=FLOAT, same=("dy", "like"), input_dtypes={"labels": INDEX}, shape_only=("like",),
           samples=[lambda r: ((r.normal(size=4), r.integers(0, 5, 4), np.zeros((4, 5))), {})])
def spread(dy, labels, like):
    """Rows of zeros of the size of `like`'s, with dy[...] at labels[...]; the transpose of `pick`."""


@spread.infers
def _(dy, labels, like):
    needs_rank(dy)
    return Spec(dy.dtype, (*dy.sizes, needs_rank(like)[-1]))


@spread.lowers
def _(op, index, read):
    return m.select(m.cast(read(1, index[:-1]), types.int64).eq(index[-1]), read(0, index[:-1]), 0)


@spread.reference
def _(dy, labels, like):
    return np.where(labels[..., None] == np.arange(like.shape[-1]), dy[..., None], np.zeros_like(dy)[..., None])


@spread.grad
def _(op, dz):
    return pick(dz, op.inputs[1]), None, None


@composite(type="SparseSoftmaxCrossEntropyWithLogits", dtypes=FLOAT, same=("logits",), input_dtypes={"labels": INDEX},
           samples=[lambda r: ((r.normal(size=(4, 5)) * 3, r.integers(0, 5, 4)), {})])
def sparse_softmax_cross_entropy(logits, labels):
    """-log_softmax(logits)[..., label]: the cross entropy with the distribution that is 1 at an integer label.

    Raises at run time: a label outside [0, number of classes).
    """
    return -pick(log_softmax(logits, axis=-1), labels)


sparse_softmax_cross_entropy.infers(lambda logits, labels: pick._infer(logits, labels))


@sparse_softmax_cross_entropy.grad
def _(op, dy):
    logits, labels = op.inputs
    return softmax(logits, axis=-1) * _beside(dy, -1) - spread(dy, labels, logits), None


@composite(type="SigmoidCrossEntropyWithLogits", default_name="logistic_loss", dtypes=FLOAT,
           samples=[lambda r: ((r.normal(size=(3, 4)) * 3, r.uniform(0, 1, (3, 4))), {})])
def sigmoid_cross_entropy(logits, labels):
    """softplus(x) - x * z = -z log(sigmoid(x)) - (1 - z) log(1 - sigmoid(x)), without overflow."""
    return ew.softplus(logits) - logits * labels


@sigmoid_cross_entropy.infers
def _(logits, labels):
    try:
        return Spec(logits.dtype, types.merge_shapes(logits.sizes, labels.sizes))
    except ValueError:
        raise ValueError(f"logits and labels must have the same shape ({logits.shape} vs {labels.shape})") from None


@sigmoid_cross_entropy.grad
def _(op, dy):
    x, z = op.inputs
    return dy * (ew.sigmoid(x) - z), -dy * x


@composite(type="L2Loss", dtypes=FLOAT, samples=[lambda r: ((r.normal(size=(3, 4)),), {})], infer=lambda x: Spec(x.dtype, ()))
def l2_loss(t):
    """sum(t ** 2) / 2, a scalar."""
    return total(t * t, None, False) * 0.5


@l2_loss.grad
def _(op, dy):
    return op.inputs[0] * dy,


# ---------------------------------------------------------------- bias


def channel_axis(rank: int, data_format: str) -> int:
    """Where the channels are: last, or second for NC... formats."""
    return 1 if data_format.startswith("NC") and rank > 1 else rank - 1


@composite(type="BiasAdd", dtypes=FLOAT + (types.int32, types.int64) + COMPLEX,
           samples=[lambda r: ((r.normal(size=(2, 3, 4)), r.normal(size=4)), {}),
                    lambda r: ((r.normal(size=(2, 3, 4)), r.normal(size=3)), {"data_format": "NCHW"})])
def bias_add(value, bias, *, data_format="NHWC"):
    """value + bias, with the vector `bias` along the channels: the last axis, or axis 1 for "NCHW"."""
    if data_format != "NCHW":
        return value + bias
    return value + OPERATORS["expand_axes"](bias, tuple(range(1, len(needs_rank(value)) - 1)))


@bias_add.infers
def _(value, bias, *, data_format):
    size, = needs_rank(bias, 1) if bias.sizes is not None else (types.UNKNOWN,)
    if value.sizes is None:
        return Spec(value.dtype, None)
    if len(value.sizes) < 2:
        raise ValueError(f"Shape must be at least rank 2 but is rank {len(value.sizes)}")
    k = channel_axis(len(value.sizes), data_format)
    if types.same(value.sizes[k], size) is False:
        raise ValueError(f"Dimensions must be equal, but are {value.sizes[k]!r} and {size!r}")
    channels = size if types.is_unknown(value.sizes[k]) else value.sizes[k]
    return Spec(value.dtype, (*value.sizes[:k], channels, *value.sizes[k + 1:]))


@bias_add.grad
def _(op, dy):
    value, bias = op.inputs
    if value.sizes is None:
        return dy, OPERATORS["sum_to_shape"](dy, bias)
    k = channel_axis(len(value.sizes), op.attrs["data_format"])
    return dy, total(dy, tuple(a for a in range(len(value.sizes)) if a != k), False)


# ---------------------------------------------------------------- normalisation


@primitive("window", type="ChannelWindowSum", dtypes=FLOAT, infer=same_as_first,
           samples=[lambda r: ((r.normal(size=(2, 5)),), {"radius": 1})])
def channel_window_sum(x, *, radius):
    """Each element summed with its neighbours at most `radius` away along the last axis."""


@channel_window_sum.folds
def _(op, index, read):
    near, n = ir.Axis(2 * op.attrs["radius"] + 1), ir.size(op.inputs[0].sizes[-1])
    k = index[-1] + ir.axis(near) - op.attrs["radius"]
    value = read(0, [*index[:-1], m.max(m.min(k, n - 1), 0)])
    return ir.Fold("add", (near,), m.select(m.land(k >= 0, k < n), value, 0))


@channel_window_sum.reference
def _(x, *, radius):
    padded = np.pad(x, [(0, 0)] * (x.ndim - 1) + [(radius, radius)])
    return np.sum([padded[..., k:k + x.shape[-1]] for k in range(2 * radius + 1)], axis=0)


@channel_window_sum.grad
def _(op, dy):
    return channel_window_sum(dy, **op.attrs),


@composite(type="LRN", dtypes=FLOAT, samples=[lambda r: ((r.normal(size=(1, 2, 2, 5)),), {"depth_radius": 2, "alpha": 0.3})])
def lrn(input, *, depth_radius=5, bias=1.0, alpha=1.0, beta=0.5):
    """input / (bias + alpha * sum of squares of the channels at most `depth_radius` away) ** beta."""
    return input * (bias + alpha * channel_window_sum(input * input, radius=depth_radius)) ** (-beta)


lrn.infers(lambda x, **_: Spec(x.dtype, needs_rank(x, 4)))


def _per_channel(v: Tensor, rank: int, data_format: str) -> Tensor:
    """A vector of channels, broadcastable against the activations."""
    after = rank - 1 - channel_axis(rank, data_format)
    return OPERATORS["expand_axes"](v, tuple(range(1, after + 1))) if after else v


def _norm_sample(training: bool, data_format: str, channels: int) -> Any:
    def sample(r: np.random.Generator) -> Any:
        stats = (np.zeros(channels), np.ones(channels)) if training else (r.normal(size=channels), r.uniform(0.5, 2, channels))
        return (r.normal(size=(2, 3, 2, 4)), r.normal(size=channels), r.normal(size=channels),
                *stats), {"training": training, "data_format": data_format}
    return sample


@composite(type="FusedBatchNorm", dtypes=types.REAL, same=("scale", "offset", "mean", "variance"), input_dtypes={"x": FLOAT},
           samples=[_norm_sample(True, "NHWC", 4), _norm_sample(False, "NCHW", 3)])
def fused_batch_norm(x, scale, offset, mean, variance, *, epsilon=1e-3, training=True, data_format="NHWC"):
    """(x - mean) * rsqrt(variance + epsilon) * scale + offset for each channel; returns (y, mean, variance).

    training: the statistics of `x` over all other axes are used and returned, the variance with n - 1 below (for the
    moving average); otherwise `mean` and `variance` are used and returned.
    """
    wide, rank = cast(x, scale.dtype), len(needs_rank(x))
    channel = channel_axis(rank, data_format)
    axes = tuple(a for a in range(rank) if a != channel)
    out_mean, out_var = mean, variance
    if training:
        n = axis_size(x, axes, scale.dtype)
        if rd.scattered(wide, axes):
            mean, variance = (cast(v, scale.dtype) for v in rd.moments_at_once(wide, axes, False))
        else:
            mean = total(wide, axes, False) / n
            centred = wide - _per_channel(mean, rank, data_format)
            variance = total(centred * centred, axes, False) / n
        out_mean, out_var = mean, variance * (n / ew.maximum(n - 1, constant(1, n.dtype)))
    factor = scale * ew.rsqrt(variance + epsilon)
    y = (wide - _per_channel(mean, rank, data_format)) * _per_channel(factor, rank, data_format) + _per_channel(offset, rank, data_format)
    return cast(y, x.dtype), out_mean, out_var


@fused_batch_norm.infers
def _(x, scale, offset, mean, variance, *, epsilon, training, data_format):
    sizes = needs_rank(x)
    k = channel_axis(len(sizes), data_format)
    for v in (scale, offset) if training else (scale, offset, mean, variance):
        size, = needs_rank(v, 1)
        if types.same(size, sizes[k]) is False:
            raise ValueError(f"Dimensions must be equal, but are {sizes[k]!r} and {size!r}")
    return [Spec(x.dtype, sizes)] + [Spec(scale.dtype, scale.sizes)] * 2


fused_batch_norm.output_dtypes = lambda x, scale, *_, **__: [x.dtype, scale.dtype, scale.dtype]


@fused_batch_norm.grad
def _(op, dy, dmean, dvar):
    """With h = (x - mean) * r, r = rsqrt(variance + epsilon): dx = scale r (dy - mean(dy) - h mean(dy h)) in training
    (Ioffe, Szegedy 2015, section 3), plus what the returned statistics add."""
    x, scale, offset, mean, variance = op.inputs
    rank, form, dtype = len(x.sizes), op.attrs["data_format"], scale.dtype
    axes = tuple(a for a in range(rank) if a != channel_axis(rank, form))
    wide, dy = cast(x, dtype), cast(dy, dtype)

    def lift(v: Tensor) -> Tensor:
        return _per_channel(v, rank, form)

    n = axis_size(x, axes, dtype)
    if op.attrs["training"]:
        mean = op.outputs[1]
        variance = op.outputs[2] * (ew.maximum(n - 1, constant(1, n.dtype)) / n)
    centred = wide - lift(mean)
    r = ew.rsqrt(variance + op.attrs["epsilon"])
    h = centred * lift(r)
    d_offset, d_scale = total(dy, axes, False), total(dy * h, axes, False)
    if not op.attrs["training"]:
        d_mean, d_var = -d_offset * scale * r, d_scale * scale * r * r * -0.5
        return cast(dy * lift(scale * r), x.dtype), d_scale, d_offset, d_mean + dmean, d_var + dvar
    dx = lift(scale * r) * (dy - lift(d_offset / n) - h * lift(d_scale / n))
    if not is_zero(dmean):
        dx = dx + lift(dmean / n)
    if not is_zero(dvar):
        dx = dx + centred * lift(dvar * (2.0 / ew.maximum(n - 1, constant(1, n.dtype))))
    return cast(dx, x.dtype), d_scale, d_offset, None, None


@composite(type="LayerNorm", dtypes=FLOAT, samples=[lambda r: ((r.normal(size=(3, 5)), r.normal(size=5), r.normal(size=5)), {})])
def layer_norm(x, scale, offset, *, axes=(-1,), epsilon=1e-5):
    """(x - mean) * rsqrt(variance + epsilon) * scale + offset with the statistics of each row over `axes`."""
    n = axis_size(x, axes, x.dtype)
    centred = x - total(x, axes) / n
    return centred * ew.rsqrt(total(centred * centred, axes) / n + epsilon) * scale + offset


layer_norm.infers(same_as_first)


@layer_norm.grad
def _(op, dy):
    """The row form of batch norm's: with h the normalised row and g = dy scale, dx = r (g - mean(g) - h mean(g h))."""
    (x, scale, offset), axes = op.inputs, op.attrs["axes"]
    n = axis_size(x, axes, x.dtype)
    centred = x - total(x, axes) / n
    r = ew.rsqrt(total(centred * centred, axes) / n + op.attrs["epsilon"])
    h, g = centred * r, dy * scale
    dx = r * (g - total(g, axes) / n - h * (total(g * h, axes) / n))
    return dx, OPERATORS["sum_to_shape"](dy * h, scale), OPERATORS["sum_to_shape"](dy, offset)
