"""`tf.nn`: neural-network functions with TF1's names and arguments, written on the ops of ops/contraction.py, ops/window.py
and ops/nn_ops.py (rank 5).

Convolutions and pools compute channels last; the NC... formats stand between two transposes.
"""
from __future__ import annotations

import numbers
from contextlib import contextmanager
from typing import Any, Callable, Iterator, Sequence

import numpy as np

from . import array_ops, graph, math_ops, types
from .graph import Tensor
from .math_ops import log_sigmoid, sigmoid, tanh, zero_fraction
from .ops import array, contraction, nn_ops, opdef, shape_like, window
from .ops import elementwise as ew
from .ops.opdef import constant_value, convert_to_tensor
from .partitioned_variables import PartitionedVariable


@contextmanager
def _scope(name: str | None, default: str, *values: Any) -> Iterator[str]:
    g = opdef.graph_of([v for v in values if v is not None])
    with g.as_default(), g.name_scope(name or default) as scope:
        yield scope


def _given(*values: Any) -> Any:
    """The argument given under its new or one of its old names."""
    return next((v for v in values if v is not None), None)


def _needed(value: Any, what: str) -> Any:
    if value is None:
        raise ValueError(f"{what} must be given")
    return value


def _together(*values: Any) -> list[Tensor]:
    """Tensors of one dtype: Python values take that of the first tensor."""
    return contraction.matmul_op._convert(list(values))


# ---------------------------------------------------------------- activations


def _activation(op: Any, name: str) -> Callable[..., Tensor]:
    def fn(features: Any, name: str | None = None) -> Tensor:
        return op(features, name=name)
    fn.__name__ = fn.__qualname__ = name
    fn.__doc__ = op.__doc__
    return fn


relu, relu6, elu, selu = (_activation(getattr(ew, n), n) for n in ("relu", "relu6", "elu", "selu"))
softplus, softsign = _activation(ew.softplus, "softplus"), _activation(ew.softsign, "softsign")


def leaky_relu(features: Any, alpha: Any = 0.2, name: str | None = None) -> Tensor:
    """x where x > 0, else alpha * x; `alpha` may be a tensor."""
    features = convert_to_tensor(features)
    if features.dtype.is_integer:
        features = math_ops.cast(features, types.float32)
    if isinstance(alpha, numbers.Real):
        return ew.leaky_relu(features, alpha=float(alpha), name=name)
    with _scope(name, "LeakyRelu", features) as scope:
        return ew.select(features > 0, features, features * alpha, name=scope)


def crelu(features: Any, name: str | None = None, axis: Any = -1) -> Tensor:
    """relu of x and of -x, joined along `axis`."""
    with _scope(name, "CRelu", features):
        x = convert_to_tensor(features)
        return relu(array_ops.concat([x, -x], axis, name="concat"))


def swish(features: Any, name: str | None = None) -> Tensor:
    """x * sigmoid(x)."""
    with _scope(name, "swish", features) as scope:
        x = convert_to_tensor(features)
        return ew.multiply(x, ew.sigmoid(x), name=scope)


def _static_axis(axis: Any, x: Tensor) -> int:
    value = constant_value(axis) if isinstance(axis, Tensor) else axis
    if value is None:
        raise ValueError("axis must be known when the graph is built")
    number = int(value)
    if x.sizes is not None:
        types.canonical_axis(number, len(x.sizes), "dim")
    return number


def softmax(logits: Any, axis: Any = None, name: str | None = None, dim: Any = None) -> Tensor:
    """exp(x) / sum(exp(x)) along `axis` (default: the last)."""
    logits = convert_to_tensor(logits)
    return nn_ops.softmax(logits, axis=_static_axis(_given(axis, dim, -1), logits), name=name)


def log_softmax(logits: Any, axis: Any = None, name: str | None = None, dim: Any = None) -> Tensor:
    """log(softmax(x)) along `axis` (default: the last)."""
    logits = convert_to_tensor(logits)
    return nn_ops.log_softmax(logits, axis=_static_axis(_given(axis, dim, -1), logits), name=name)


# ---------------------------------------------------------------- cross entropies


def _named_only(fn: str, sentinel: Any, labels: Any, logits: Any) -> None:
    if sentinel is not None:
        raise ValueError(f"Only call `{fn}` with named arguments (labels=..., logits=..., ...)")
    if labels is None or logits is None:
        raise ValueError("Both labels and logits must be provided.")


def _precise(x: Tensor) -> Tensor:
    """16-bit floats widened, as TF does for the exponentials of a cross entropy."""
    return math_ops.cast(x, types.float32) if x.dtype in (types.float16, types.bfloat16) else x


@graph.counts_as(31)
def softmax_cross_entropy_with_logits_v2(labels: Any = None, logits: Any = None, axis: Any = None, name: str | None = None,
                                         dim: Any = None) -> Tensor:
    """-sum(labels * log_softmax(logits)) along `axis`; gradients flow into `labels` too.

    Args:
        labels: distributions of the shape of `logits` (each row sums to one).
        axis: the class axis, default the last.

    Returns:
        The loss of each row, of the dtype of `logits`, without the class axis.
    """
    _named_only("softmax_cross_entropy_with_logits_v2", None, labels, logits)
    logits = convert_to_tensor(logits)
    wide = _precise(logits)
    labels = math_ops.cast(convert_to_tensor(labels, preferred_dtype=wide.dtype), wide.dtype)
    at, name = _static_axis(_given(axis, dim, -1), logits), name or "softmax_cross_entropy_with_logits"
    if labels.shape.ndims is not None and logits.shape.ndims is not None and labels.shape.ndims != logits.shape.ndims:
        loss = _cross_entropy_of_rows(labels, wide, at, name)
    else:
        loss = nn_ops.softmax_cross_entropy(wide, labels, axis=at, name=name)
    return math_ops.cast(loss, logits.dtype)


def _cross_entropy_of_rows(labels: Tensor, logits: Tensor, axis: int, name: str) -> Tensor:
    """Labels of another rank than the logits: as TF1 does, both are taken as rows of classes, and only their number has to agree."""
    if axis not in (-1, logits.shape.ndims - 1):
        raise ValueError(f"labels of shape {labels.shape} for logits of shape {logits.shape}: with axis={axis} their ranks must be equal")
    widths = [array_ops.shape(x)[-1] if x.shape[-1].value is None else x.shape[-1].value for x in (logits, labels)]
    rows = [array_ops.reshape(x, [-1, n]) for x, n in zip((logits, labels), widths)]
    loss = nn_ops.softmax_cross_entropy(*rows, axis=-1, name=name)
    found = array_ops.reshape(loss, array_ops.shape(logits)[:-1])
    found.set_shape(logits.shape[:-1])
    return found


def softmax_cross_entropy_with_logits(_sentinel: Any = None, labels: Any = None, logits: Any = None, dim: Any = -1, name: str | None = None,
                                      axis: Any = None) -> Tensor:
    """Like the `_v2` function, with `labels` held constant in gradients.  Arguments must be named."""
    _named_only("softmax_cross_entropy_with_logits", _sentinel, labels, logits)
    logits = convert_to_tensor(logits)
    labels = ew.stop_gradient(convert_to_tensor(labels, preferred_dtype=logits.dtype), name="labels_stop_gradient")
    return softmax_cross_entropy_with_logits_v2(labels, logits, _given(axis, dim), name or "softmax_cross_entropy_with_logits_sg")


@graph.counts_as(2)
def sparse_softmax_cross_entropy_with_logits(_sentinel: Any = None, labels: Any = None, logits: Any = None,
                                             name: str | None = None) -> Tensor:
    """-log_softmax(logits)[label] for integer labels of logits' shape without its last axis.  Arguments must be named.

    Raises:
        ValueError: ranks do not fit.  InvalidArgumentError, when run: a label outside [0, number of classes).
    """
    _named_only("sparse_softmax_cross_entropy_with_logits", _sentinel, labels, logits)
    logits, labels = convert_to_tensor(logits), convert_to_tensor(labels)
    if labels.dtype.is_integer and labels.dtype not in nn_ops.INDEX:
        labels = math_ops.cast(labels, types.int64)
    loss = nn_ops.sparse_softmax_cross_entropy(_precise(logits), labels, name=name)
    return math_ops.cast(loss, logits.dtype)


@graph.counts_as(10)
def sigmoid_cross_entropy_with_logits(_sentinel: Any = None, labels: Any = None, logits: Any = None, name: str | None = None,
                                      targets: Any = None) -> Tensor:
    """max(x, 0) - x * z + log(1 + exp(-|x|)) for logits x and labels z of one shape.  Arguments must be named."""
    labels = _given(labels, targets)
    _named_only("sigmoid_cross_entropy_with_logits", _sentinel, labels, logits)
    logits, labels = _together(logits, labels)
    return nn_ops.sigmoid_cross_entropy(logits, labels, name=name)


def weighted_cross_entropy_with_logits(labels: Any = None, logits: Any = None, pos_weight: Any = None, name: str | None = None,
                                       targets: Any = None) -> Tensor:
    """The sigmoid cross entropy with the positive term multiplied by `pos_weight`."""
    labels = _given(labels, targets)
    _named_only("weighted_cross_entropy_with_logits", None, labels, logits)
    with _scope(name, "logistic_loss", labels, logits) as scope:
        x, z = _together(logits, labels)
        _same_shape(x, z)
        weight = 1 + (pos_weight - 1) * z
        return ew.add((1 - z) * x, weight * ew.softplus(-x), name=scope)


def _same_shape(logits: Tensor, labels: Tensor) -> None:
    try:
        types.merge_shapes(logits.sizes, labels.sizes)
    except ValueError:
        raise ValueError(f"logits and labels must have the same shape ({logits.shape} vs {labels.shape})") from None


def log_poisson_loss(targets: Any, log_input: Any, compute_full_loss: bool = False, name: str | None = None) -> Tensor:
    """exp(c) - c * z for log rates c and counts z, plus Stirling's z log z - z + log(2 pi z) / 2 (of z > 1) when full."""
    with _scope(name, "log_poisson_loss", log_input, targets):
        c, z = _together(log_input, targets)
        _same_shape(c, z)
        loss = ew.exp(c) - c * z
        if not compute_full_loss:
            return loss
        small = ew.logical_and(z >= 0.0, z <= 1.0)
        # The logarithm must not see the zeros that are not chosen: their gradient would be nan.
        safe = ew.select(small, shape_like.ones_like(z), z)
        stirling = safe * ew.log(safe) - safe + 0.5 * ew.log(2.0 * np.pi * safe)
        return loss + ew.select(small, shape_like.zeros_like(z), stirling)


# ---------------------------------------------------------------- linear


def bias_add(value: Any, bias: Any, data_format: str | None = None, name: str | None = None) -> Tensor:
    """value + bias along the channels: the last axis, or axis 1 of "NCHW" and its like."""
    value, bias = _together(value, bias)
    return nn_ops.bias_add(value, bias, data_format="NCHW" if _channels_first(data_format) else "NHWC", name=name)


def xw_plus_b(x: Any, weights: Any, biases: Any, name: str | None = None) -> Tensor:
    """matmul(x, weights) + biases."""
    with _scope(name, "xw_plus_b", x, weights) as scope:
        return bias_add(contraction.matmul(x, weights), biases, name=scope)


def relu_layer(x: Any, weights: Any, biases: Any, name: str | None = None) -> Tensor:
    """relu(matmul(x, weights) + biases)."""
    with _scope(name, "relu_layer", x, weights) as scope:
        return relu(bias_add(contraction.matmul(x, weights), biases), name=scope)


def l2_loss(t: Any, name: str | None = None) -> Tensor:
    """sum(t ** 2) / 2."""
    return nn_ops.l2_loss(t, name=name)


# ---------------------------------------------------------------- windows: arguments


def _channels_first(data_format: str | None) -> bool:
    if data_format is None:
        return False
    if data_format not in ("NWC", "NHWC", "NDHWC", "NCW", "NCHW", "NCDHW", "N...C", "NC..."):
        raise ValueError(f"Unknown data_format {data_format!r}; expected a channels-last one such as 'NHWC' or a channels-first one such "
                         "as 'NCHW'")
    return data_format.startswith("NC")


def _spatial(values: Any, rank: int, first: bool, what: str) -> tuple[int, ...]:
    """Numbers for the spatial axes from an int, one number per spatial axis, or TF's list with batch and channels."""
    if values is None:
        return (1,) * rank
    found = [int(v) for v in (values if hasattr(values, "__iter__") else [values])]
    if len(found) == rank + 2:
        outer = (found[0], found[1] if first else found[-1])
        if outer != (1, 1):
            raise ValueError(f"{what} in the batch and depth dimensions must be 1, got {list(values)}")
        found = found[2:] if first else found[1:-1]
    if len(found) == 1:
        found = found * rank
    if len(found) != rank:
        raise ValueError(f"{what} should be of length 1, {rank} or {rank + 2} but was {len(found)}")
    return tuple(found)


def _padding(padding: Any, rank: int, first: bool) -> Any:
    if isinstance(padding, str):
        if padding.upper() not in ("SAME", "VALID"):
            raise ValueError(f"Value for attr 'padding' of \"{padding}\" is not in the list of allowed values: \"SAME\", \"VALID\"")
        return padding.upper()
    if padding is None:
        raise ValueError("padding must be given: \"SAME\", \"VALID\" or a list of (before, after) pairs")
    pairs = [(int(a), int(b)) for a, b in padding]
    if len(pairs) == rank + 2:
        if pairs[0] != (0, 0) or pairs[1 if first else -1] != (0, 0):
            raise ValueError(f"padding of the batch and depth dimensions must be (0, 0), got {padding}")
        pairs = pairs[2:] if first else pairs[1:-1]
    if len(pairs) != rank or any(n < 0 for p in pairs for n in p):
        raise ValueError(f"explicit padding must be {rank + 2} pairs of non-negative numbers, got {padding}")
    return tuple(pairs)


def _attributes(rank: int, first: bool, strides: Any, padding: Any, dilations: Any) -> dict[str, Any]:
    return {"strides": _spatial(strides, rank, first, "strides"), "padding": _padding(padding, rank, first),
            "dilations": _spatial(dilations, rank, first, "dilations")}


def _last(x: Tensor, rank: int) -> Tensor:
    """Channels moved from axis 1 to the end."""
    return array.transpose(x, perm=(0, *range(2, rank + 2), 1))


def _first(x: Tensor, rank: int, name: str | None = None) -> Tensor:
    """Channels moved from the end to axis 1."""
    return array.transpose(x, perm=(0, rank + 1, *range(1, rank + 1)), name=name)


def _last_sizes(sizes: Any, rank: int) -> Tensor:
    sizes = array_ops.shape_argument(sizes)
    return array_ops.concat([sizes[:1], sizes[2:], sizes[1:2]], 0)


def _formatted(first: bool, rank: int, name: str | None, default: str, x: Tensor, make: Callable[[Tensor, str | None], Tensor]) -> Tensor:
    """`make(x, name)` on channels last."""
    if not first:
        return make(x, name or default)
    with _scope(name, default, x) as scope:
        return _first(make(_last(x, rank), None), rank, scope)


def _convolve(input: Any, filter: Any, rank: int, strides: Any, padding: Any, data_format: str | None, dilations: Any, name: str | None,
              default: str, groups: int = 1) -> Tensor:
    x, w = _together(_needed(input, "input"), _needed(filter, "filter"))
    first = _channels_first(data_format)
    attrs = _attributes(rank, first, strides, padding, dilations)
    for t in (x, w):
        if t.sizes is not None and len(t.sizes) != rank + 2:
            raise ValueError(f"Shape must be rank {rank + 2} but is rank {len(t.sizes)} for {default!r}: {t!r}")
    return _formatted(first, rank, name, default, x, lambda x, name: contraction.conv(x, w, groups=groups, name=name, **attrs))


def _transposed(value: Any, filter: Any, output_shape: Any, rank: int, strides: Any, padding: Any, data_format: str | None, dilations: Any,
                name: str | None, default: str) -> Tensor:
    dy, w = _together(_needed(value, "value"), _needed(filter, "filter"))
    first = _channels_first(data_format)
    attrs = _attributes(rank, first, strides, padding, dilations)
    sizes = array_ops.shape_argument(_needed(output_shape, "output_shape"))
    if sizes.sizes is not None and sizes.sizes not in ((rank + 2,), (types.UNKNOWN,)):
        raise ValueError(f"output_shape must have shape ({rank + 2},), got {sizes.shape}")
    sizes = _last_sizes(sizes, rank) if first else sizes
    return _formatted(first, rank, name, default, dy, lambda dy, name: contraction.conv_input_grad(sizes, w, dy, name=name, **attrs))


# ---------------------------------------------------------------- convolutions


def conv1d(value: Any = None, filters: Any = None, stride: Any = None, padding: Any = None, use_cudnn_on_gpu: Any = None,
           data_format: str | None = None,
           name: str | None = None, input: Any = None, dilations: Any = None) -> Tensor:
    """Convolution of [batch, width, channels] with a filter [width, in, out]."""
    return _convolve(_given(value, input), filters, 1, stride, padding, _flat_format(data_format), dilations, name, "conv1d")


def _flat_format(data_format: str | None) -> str | None:
    return {"NHWC": "NWC", "NCHW": "NCW"}.get(data_format or "", data_format)


def conv2d(input: Any, filter: Any = None, strides: Any = None, padding: Any = None, use_cudnn_on_gpu: bool = True,
           data_format: str | None = "NHWC",
           dilations: Any = (1, 1, 1, 1), name: str | None = None, filters: Any = None) -> Tensor:
    """Convolution of images [batch, height, width, in] with a filter [height, width, in, out].

    Args:
        strides, dilations: lists of 4 (batch and channels 1), or one or two ints.
        padding: "SAME", "VALID", or a list of (before, after) for each of the 4 axes.
        data_format: "NHWC", or "NCHW" for [batch, in, height, width].

    Raises:
        ValueError: ranks or channels do not fit, or the window is larger than the padded image.
    """
    return _convolve(input, _given(filter, filters), 2, _needed(strides, "strides"), padding, data_format, dilations, name, "Conv2D")


def conv3d(input: Any, filter: Any = None, strides: Any = None, padding: Any = None, data_format: str | None = "NDHWC",
           dilations: Any = (1, 1, 1, 1, 1), name: str | None = None, filters: Any = None) -> Tensor:
    """Convolution of volumes [batch, depth, height, width, in] with a filter [depth, height, width, in, out]."""
    return _convolve(input, _given(filter, filters), 3, _needed(strides, "strides"), padding, data_format, dilations, name, "Conv3D")


def convolution(input: Any, filter: Any = None, padding: Any = None, strides: Any = None, dilation_rate: Any = None,
                name: str | None = None,
                data_format: str | None = None, filters: Any = None, dilations: Any = None) -> Tensor:
    """Convolution of 1 to 3 spatial axes; `strides` and `dilation_rate` hold one int per spatial axis."""
    filter = convert_to_tensor(_given(filter, filters))
    input = convert_to_tensor(input)
    known = next((t for t in (filter, input) if t.sizes is not None), None)
    if known is None:
        raise ValueError("rank of input or filter must be known")
    rank = len(known.sizes or ()) - 2
    if not 1 <= rank <= 3:
        raise ValueError(f"input must have 1, 2 or 3 spatial axes, got {rank} in {known!r}")
    return _convolve(input, filter, rank, strides, padding, data_format, _given(dilation_rate, dilations), name, "convolution")


def atrous_conv2d(value: Any, filters: Any, rate: int, padding: Any, name: str | None = None) -> Tensor:
    """`conv2d` of stride 1 whose filter taps lie `rate` apart."""
    return _convolve(value, filters, 2, 1, padding, None, rate, name, "convolution")


def atrous_conv2d_transpose(value: Any, filters: Any, output_shape: Any, rate: int, padding: Any, name: str | None = None) -> Tensor:
    """The transpose of `atrous_conv2d`; filter [height, width, out, in]."""
    return _transposed(value, filters, output_shape, 2, 1, padding, None, rate, name, "atrous_conv2d_transpose")


def conv2d_transpose(value: Any = None, filter: Any = None, output_shape: Any = None, strides: Any = None, padding: Any = "SAME",
                     data_format: str | None = "NHWC", name: str | None = None, input: Any = None, filters: Any = None,
                     dilations: Any = None) -> Tensor:
    """The transpose (the input gradient) of `conv2d`: filter [height, width, out, in]; `output_shape` may be a tensor."""
    return _transposed(_given(value, input), _given(filter, filters), output_shape, 2, strides, padding, data_format, dilations, name,
                       "conv2d_transpose")


def conv1d_transpose(input: Any, filters: Any, output_shape: Any, strides: Any, padding: Any = "SAME", data_format: str | None = "NWC",
                     dilations: Any = None, name: str | None = None) -> Tensor:
    """The transpose of `conv1d`; filter [width, out, in]."""
    return _transposed(input, filters, output_shape, 1, strides, padding, _flat_format(data_format), dilations, name, "conv1d_transpose")


def conv3d_transpose(value: Any, filter: Any = None, output_shape: Any = None, strides: Any = None, padding: Any = "SAME",
                     data_format: str | None = "NDHWC", name: str | None = None, input: Any = None, filters: Any = None,
                     dilations: Any = None) -> Tensor:
    """The transpose of `conv3d`; filter [depth, height, width, out, in]."""
    return _transposed(_given(value, input), _given(filter, filters), output_shape, 3, strides, padding, data_format, dilations, name,
                       "conv3d_transpose")


def conv2d_backprop_input(input_sizes: Any, filter: Any = None, out_backprop: Any = None, strides: Any = None, padding: Any = None,
                          use_cudnn_on_gpu: bool = True, data_format: str | None = "NHWC", dilations: Any = (1, 1, 1, 1),
                          name: str | None = None,
                          filters: Any = None) -> Tensor:
    """The gradient of `conv2d` for its input, of shape `input_sizes`."""
    return _transposed(out_backprop, _given(filter, filters), input_sizes, 2, strides, padding, data_format, dilations, name,
                       "Conv2DBackpropInput")


def conv2d_backprop_filter(input: Any, filter_sizes: Any, out_backprop: Any, strides: Any = None, padding: Any = None,
                           use_cudnn_on_gpu: bool = True,
                           data_format: str | None = "NHWC", dilations: Any = (1, 1, 1, 1), name: str | None = None) -> Tensor:
    """The gradient of `conv2d` for its filter, of shape `filter_sizes`."""
    x, dy = _together(input, out_backprop)
    first = _channels_first(data_format)
    attrs = _attributes(2, first, strides, padding, dilations)
    x, dy = (_last(t, 2) if first else t for t in (x, dy))
    return contraction.conv_filter_grad(x, array_ops.shape_argument(filter_sizes), dy, name=name, **attrs)


def _depthwise(input: Any, filter: Any, strides: Any, padding: Any, dilations: Any, data_format: str | None, name: str | None,
               default: str) -> Tensor:
    x, w = _together(input, filter)
    if w.sizes is None or len(w.sizes) != 4 or any(isinstance(n, types.Dim) for n in w.sizes[2:]):
        raise ValueError(f"depthwise_conv2d needs a filter [height, width, in, multiplier] with known channels, got {w!r}")
    channels, multiplier = map(int, w.sizes[2:])  # type: ignore[arg-type]
    with _scope(name, default, x, w) as scope:
        sizes = [array.size_along(w, 0), array.size_along(w, 1), 1, channels * multiplier]
        grouped = array.reshape(w, array.vector(*sizes))
        return _convolve(x, grouped, 2, strides, padding, data_format, dilations, scope, default, groups=channels)


def depthwise_conv2d(input: Any, filter: Any = None, strides: Any = None, padding: Any = None, rate: Any = None, name: str | None = None,
                     data_format: str | None = None, dilations: Any = None) -> Tensor:
    """Each channel convolved with filters of its own: filter [height, width, in, multiplier] gives in * multiplier channels."""
    return _depthwise(input, filter, strides, padding, _given(rate, dilations), data_format, name, "depthwise")


def depthwise_conv2d_native(input: Any, filter: Any, strides: Any, padding: Any, data_format: str | None = "NHWC",
                            dilations: Any = (1, 1, 1, 1),
                            name: str | None = None) -> Tensor:
    """`depthwise_conv2d` with dilations as a list of 4."""
    return _depthwise(input, filter, strides, padding, dilations, data_format, name, "DepthwiseConv2dNative")


def depthwise_conv2d_backprop_input(input_sizes: Any, filter: Any, out_backprop: Any, strides: Any, padding: Any,
                                    data_format: str | None = "NHWC", dilations: Any = (1, 1, 1, 1), name: str | None = None) -> Tensor:
    """The gradient of `depthwise_conv2d_native` for its input, of shape `input_sizes`."""
    dy, w = _together(out_backprop, filter)
    first = _channels_first(data_format)
    attrs = _attributes(2, first, strides, padding, dilations)
    kernel = opdef.needs_rank(w, 4)
    sizes = array_ops.shape_argument(input_sizes)
    sizes = _last_sizes(sizes, 2) if first else sizes
    grouped = array_ops.reshape(w, [*[array.size_along(w, k) for k in range(2)], 1, -1])
    return _formatted(first, 2, name, "DepthwiseConv2dNativeBackpropInput", dy, lambda dy, name: contraction.conv_input_grad(
        sizes, grouped, dy, groups=kernel[2], name=name, **attrs))


def depthwise_conv2d_backprop_filter(input: Any, filter_sizes: Any, out_backprop: Any, strides: Any, padding: Any,
                                     data_format: str | None = "NHWC", dilations: Any = (1, 1, 1, 1), name: str | None = None) -> Tensor:
    """The gradient of `depthwise_conv2d_native` for its filter, of shape `filter_sizes` [height, width, in, multiplier]."""
    x, dy = _together(input, out_backprop)
    first = _channels_first(data_format)
    attrs = _attributes(2, first, strides, padding, dilations)
    rows, columns, channels, multiplier = array_ops._static_ints(filter_sizes, "filter_sizes")
    with _scope(name, "DepthwiseConv2dNativeBackpropFilter", x, dy) as scope:
        x, dy = (_last(t, 2) if first else t for t in (x, dy))
        found = contraction.conv_filter_grad(x, array_ops.shape_argument([rows, columns, 1, channels * multiplier]), dy, groups=channels,
                                             **attrs)
        return array_ops.reshape(found, [rows, columns, channels, multiplier], name=scope)


depthwise_conv2d_native_backprop_input = depthwise_conv2d_backprop_input
depthwise_conv2d_native_backprop_filter = depthwise_conv2d_backprop_filter


def conv3d_backprop_filter(input: Any, filter_sizes: Any, out_backprop: Any, strides: Any, padding: Any, data_format: str | None = "NDHWC",
                           dilations: Any = (1, 1, 1, 1, 1), name: str | None = None) -> Tensor:
    """The gradient of `conv3d` for its filter, of shape `filter_sizes`."""
    x, dy = _together(input, out_backprop)
    first = _channels_first(data_format)
    attrs = _attributes(3, first, strides, padding, dilations)
    x, dy = (_last(t, 3) if first else t for t in (x, dy))
    return contraction.conv_filter_grad(x, array_ops.shape_argument(filter_sizes), dy, name=name or "Conv3DBackpropFilterV2", **attrs)


conv3d_backprop_filter_v2 = conv3d_backprop_filter


def conv_transpose(input: Any, filters: Any, output_shape: Any, strides: Any, padding: Any = "SAME", data_format: str | None = None,
                   dilations: Any = None, name: str | None = None) -> Tensor:
    """The transpose of `convolution`, of 1, 2 or 3 spatial dimensions by the length of `output_shape`.

    Raises:
        ValueError: another length, or one that is not known.
    """
    sizes = array_ops.shape_argument(output_shape)
    rank = opdef.needs_rank(sizes, 1)[0]
    if rank not in (3, 4, 5):
        raise ValueError(f"output_shape must be of length 3, 4 or 5 instead of {rank}.")
    strides = [strides] * (rank - 2) if isinstance(strides, int) else list(strides)
    call: Any = {3: conv1d_transpose, 4: conv2d_transpose, 5: conv3d_transpose}[rank]
    usual = {3: "NWC", 4: "NHWC", 5: "NDHWC"}[rank]
    return call(input, filters, sizes, strides, padding=padding, data_format=data_format or usual, dilations=dilations,
                name=name or "conv_transpose")


def separable_conv2d(input: Any, depthwise_filter: Any, pointwise_filter: Any, strides: Any, padding: Any, rate: Any = None,
                     name: str | None = None,
                     data_format: str | None = None, dilations: Any = None) -> Tensor:
    """`depthwise_conv2d`, then a 1 x 1 convolution [1, 1, in * multiplier, out]."""
    with _scope(name, "separable_conv2d", input, depthwise_filter) as scope:
        middle = depthwise_conv2d(input, depthwise_filter, strides, padding, _given(rate, dilations), "depthwise", data_format)
        return _convolve(middle, pointwise_filter, 2, 1, "VALID", data_format, None, scope, "separable_conv2d")


# ---------------------------------------------------------------- pools


def _pooled(op: Any, value: Any, ksize: Any, strides: Any, padding: Any, data_format: str | None, name: str | None, default: str,
            rank: int) -> Tensor:
    x, first = convert_to_tensor(_needed(value, "value")), _channels_first(data_format)
    attrs = {"window": _spatial(_needed(ksize, "ksize"), rank, first, "ksize"),
             "strides": _spatial(_needed(strides, "strides"), rank, first, "strides"),
             "padding": _padding(padding, rank, first)}
    return _formatted(first, rank, name, default, x, lambda x, name: op(x, name=name, **attrs))


def max_pool(value: Any, ksize: Any, strides: Any, padding: Any, data_format: str | None = "NHWC", name: str | None = None,
             input: Any = None) -> Tensor:
    """The largest element of each window of [batch, height, width, channels]; `ksize` and `strides` are lists of 4."""
    return _pooled(window.max_pool, _given(value, input), ksize, strides, padding, data_format, name, "MaxPool", 2)


def avg_pool(value: Any, ksize: Any, strides: Any, padding: Any, data_format: str | None = "NHWC", name: str | None = None,
             input: Any = None) -> Tensor:
    """The mean of each window of [batch, height, width, channels]; padding is not counted."""
    return _pooled(window.avg_pool, _given(value, input), ksize, strides, padding, data_format, name, "AvgPool", 2)


def max_pool2d(input: Any, ksize: Any, strides: Any, padding: Any, data_format: str | None = "NHWC", name: str | None = None) -> Tensor:
    """`max_pool`, whose `ksize` and `strides` may also be a number or two."""
    return max_pool(input, ksize, strides, padding, data_format, name)


def avg_pool2d(value: Any, ksize: Any, strides: Any, padding: Any, data_format: str | None = "NHWC", name: str | None = None,
               input: Any = None) -> Tensor:
    """`avg_pool`, whose `ksize` and `strides` may also be a number or two."""
    return avg_pool(value, ksize, strides, padding, data_format, name, input)


def _pool_v2(flat: Any, plane: Any, space: Any) -> Callable[..., Tensor]:
    """A pool of 1, 2 or 3 spatial dimensions by the rank of its input."""
    def f(input: Any, ksize: Any, strides: Any, padding: Any, data_format: str | None = None, name: str | None = None) -> Tensor:
        x = convert_to_tensor(input)
        rank = len(opdef.needs_rank(x)) - 2
        if rank not in (1, 2, 3):
            raise ValueError(f"Input tensor must be of rank 3, 4 or 5 but was {rank + 2}.")
        usual = {1: "NWC", 2: "NHWC", 3: "NDHWC"}[rank]
        return {1: flat, 2: plane, 3: space}[rank](x, ksize, strides, padding, data_format or usual, name)

    return f


def max_pool1d(input: Any, ksize: Any, strides: Any, padding: Any, data_format: str | None = "NWC", name: str | None = None) -> Tensor:
    """The largest element of each window of [batch, width, channels]."""
    return _pooled(window.max_pool, input, ksize, strides, padding, _flat_format(data_format), name, "max_pool1d", 1)


def avg_pool1d(input: Any, ksize: Any, strides: Any, padding: Any, data_format: str | None = "NWC", name: str | None = None) -> Tensor:
    """The mean of each window of [batch, width, channels]."""
    return _pooled(window.avg_pool, input, ksize, strides, padding, _flat_format(data_format), name, "avg_pool1d", 1)


def max_pool3d(input: Any, ksize: Any, strides: Any, padding: Any, data_format: str | None = "NDHWC", name: str | None = None) -> Tensor:
    """The largest element of each window of [batch, depth, height, width, channels]."""
    return _pooled(window.max_pool, input, ksize, strides, padding, data_format, name, "MaxPool3D", 3)


def avg_pool3d(input: Any, ksize: Any, strides: Any, padding: Any, data_format: str | None = "NDHWC", name: str | None = None) -> Tensor:
    """The mean of each window of [batch, depth, height, width, channels]."""
    return _pooled(window.avg_pool, input, ksize, strides, padding, data_format, name, "AvgPool3D", 3)


max_pool_v2, avg_pool_v2 = _pool_v2(max_pool1d, max_pool, max_pool3d), _pool_v2(avg_pool1d, avg_pool, avg_pool3d)
for _pool, _word in ((max_pool_v2, "max"), (avg_pool_v2, "avg")):
    _pool.__name__ = _pool.__qualname__ = f"{_word}_pool_v2"
    _pool.__doc__ = f"`{_word}_pool1d`, `{_word}_pool` or `{_word}_pool3d`, by the rank of the input.  Raises ValueError for another rank."


def with_space_to_batch(input: Any, dilation_rate: Any, padding: Any, op: Callable[..., Tensor], filter_shape: Any = None,
                        spatial_dims: Any = None, data_format: str | None = None) -> Tensor:
    """`op(x, num_spatial_dims=n, padding=p)` as if its window were dilated: each `dilation_rate`-th pixel is made a picture of its own.

    Args:
        dilation_rate: a number for each of `spatial_dims` (by default the dimensions after the first, or after the channels of an "NC"
            format), known when the graph is built.
        padding: "VALID" or "SAME"; the latter needs `filter_shape`.

    Raises:
        ValueError: another padding, "SAME" without `filter_shape`, rates below 1.
    """
    x = convert_to_tensor(input)
    rates = array_ops._static_ints(dilation_rate, "dilation_rate")
    n, first = len(rates), _channels_first(data_format)
    if min(rates) < 1:
        raise ValueError(f"dilation_rate must be positive, got {list(rates)}")
    if padding not in ("VALID", "SAME"):
        raise ValueError(f"Invalid padding method {padding!r}")
    if all(r == 1 for r in rates):
        return op(x, num_spatial_dims=n, padding=padding)
    dims = list(spatial_dims) if spatial_dims is not None else [k + (2 if first else 1) for k in range(n)]
    if sorted(dims) != dims or dims[0] < 1:
        raise ValueError(f"spatial_dims must be a monotonically increasing sequence of positive integers, got {dims}")
    base = np.zeros((n, 2), np.int32)
    if padding == "SAME":
        if filter_shape is None:
            raise ValueError("filter_shape must be specified for SAME padding")
        total = (np.array(array_ops._static_ints(filter_shape, "filter_shape"))[:n] - 1) * rates
        base = np.stack([total // 2, total - total // 2], 1).astype(np.int32)
    with _scope(None, "with_space_to_batch", x):
        sizes = opdef.needs_rank(x)
        static = [sizes[d] for d in dims]
        spatial = convert_to_tensor(static, types.int32) if types.known(tuple(static)) else array_ops.stack(
            [array_ops.shape(x)[d] for d in dims])
        paddings, crops = array_ops.required_space_to_batch_paddings(spatial, convert_to_tensor(list(rates)), base)
        # Dimensions up to the last spatial one count as blocks, of size 1 where nothing is dilated.
        whole = range(1, dims[-1] + 1)
        blocks = [rates[dims.index(d)] if d in dims else 1 for d in whole]
        zero = np.zeros(2, np.int32)
        pads, cuts = (array_ops.stack([t[dims.index(d)] if d in dims else convert_to_tensor(zero) for d in whole])
                      for t in (paddings, crops))
        found = op(array_ops.space_to_batch_nd(x, blocks, pads), num_spatial_dims=n, padding="VALID")
        return array_ops.batch_to_space_nd(found, blocks, cuts)


def pool(input: Any, window_shape: Any, pooling_type: str, padding: Any, dilation_rate: Any = None, strides: Any = None,
         name: str | None = None, data_format: str | None = None, dilations: Any = None) -> Tensor:
    """Pooling ("MAX" or "AVG") of as many spatial axes as `window_shape` has.

    Raises:
        ValueError: another type; dilated windows with strides, or with "SAME" padding.
    """
    ops = {"MAX": window.max_pool, "AVG": window.avg_pool}
    if pooling_type not in ops:
        raise ValueError(f"pooling_type must be 'MAX' or 'AVG', got {pooling_type!r}")
    rank = len(window_shape)
    rates, steps = ([int(v) for v in np.broadcast_to(np.reshape(_given(given, 1), -1), rank)]
                    for given in (_given(dilation_rate, dilations), strides))
    default = f"{pooling_type.lower()}_pool"

    def plain(x: Tensor, num_spatial_dims: int, padding: Any) -> Tensor:
        return _pooled(ops[pooling_type], x, window_shape, steps, padding, data_format, name, default, rank)

    if all(r == 1 for r in rates):
        return plain(input, rank, padding)
    if any(s != 1 for s in steps):
        raise ValueError("strides > 1 not supported in conjunction with dilation_rate > 1")
    if padding != "VALID":
        raise ValueError(f"pooling with 'SAME' padding is not implemented for `dilation_rate` > 1. Received: padding={padding} and "
                         f"dilation_rate={rates}")
    return with_space_to_batch(input, rates, padding, plain, data_format=data_format)


def max_pool_with_argmax(input: Any, ksize: Any, strides: Any, padding: Any, data_format: str = "NHWC", Targmax: Any = None,
                         name: str | None = None,
                         output_dtype: Any = None, include_batch_in_index: bool = False) -> Any:
    """`max_pool` and the flattened position (row * width + column) * channels + channel of each maximum."""
    if data_format != "NHWC":
        raise ValueError("data_formats other than 'NHWC' are not yet supported")
    x = convert_to_tensor(input)
    attrs = {"window": _spatial(ksize, 2, False, "ksize"), "strides": _spatial(strides, 2, False, "strides"),
             "padding": _padding(padding, 2, False)}
    with _scope(name, "MaxPoolWithArgmax", x) as scope:
        where = window.max_pool_argmax(x, include_batch=bool(include_batch_in_index), **attrs)
        return window.max_pool(x, name=scope, **attrs), math_ops.cast(where, _given(Targmax, output_dtype, types.int64))


def extract_image_patches(images: Any, ksizes: Any = None, strides: Any = None, rates: Any = None, padding: Any = None,
                          name: str | None = None,
                          sizes: Any = None) -> Tensor:
    """The windows of [batch, height, width, channels], each flattened into the channels."""
    x = convert_to_tensor(images)
    return window.extract_patches(x, window=_spatial(_given(ksizes, sizes), 2, False, "ksizes"),
                                  strides=_spatial(strides, 2, False, "strides"),
                                  dilations=_spatial(rates, 2, False, "rates"), padding=_padding(padding, 2, False), name=name)


def extract_volume_patches(input: Any, ksizes: Any, strides: Any, padding: Any, name: str | None = None) -> Tensor:
    """The windows of [batch, planes, rows, columns, channels], each flattened into the channels; `ksizes` and `strides` are lists of 5."""
    return window.extract_patches(convert_to_tensor(input), window=_spatial(ksizes, 3, False, "ksizes"),
                                  strides=_spatial(strides, 3, False, "strides"), dilations=(1, 1, 1), padding=_padding(padding, 3, False),
                                  name=name or "ExtractVolumePatches")


# ---------------------------------------------------------------- normalisation


def lrn(input: Any, depth_radius: int = 5, bias: float = 1, alpha: float = 1, beta: float = 0.5, name: str | None = None) -> Tensor:
    """input / (bias + alpha * sum of squares of the 2 * depth_radius + 1 nearest channels) ** beta."""
    return nn_ops.lrn(input, depth_radius=int(depth_radius), bias=float(bias), alpha=float(alpha), beta=float(beta), name=name)


local_response_normalization = lrn


def l2_normalize(x: Any, axis: Any = None, epsilon: float = 1e-12, name: str | None = None, dim: Any = None) -> Tensor:
    """x / sqrt(max(sum(x ** 2), epsilon)) with the sum over `axis`."""
    with _scope(name, "l2_normalize", x) as scope:
        x = convert_to_tensor(x)
        square_sum = math_ops.reduce_sum(ew.square(x), _given(axis, dim), keepdims=True)
        return ew.multiply(x, ew.rsqrt(math_ops.maximum(square_sum, epsilon)), name=scope)


def moments(x: Any, axes: Any, shift: Any = None, name: str | None = None, keep_dims: Any = None,
            keepdims: Any = None) -> tuple[Tensor, Tensor]:
    """Mean and variance over `axes`; `shift` is accepted and not needed.  16-bit floats are computed in float32."""
    keep = bool(_given(keepdims, keep_dims, False))
    with _scope(name, "moments", x):
        x = convert_to_tensor(x)
        wide = _precise(x)
        mean = math_ops.reduce_mean(wide, axes, keepdims=keep, name="mean")
        variance = math_ops.reduce_variance(wide, axes, keepdims=keep, name="variance")
        return math_ops.cast(mean, x.dtype), math_ops.cast(variance, x.dtype)


def _dropped(kept: Tensor, x: Tensor, axes: Any) -> Tensor:
    """A reduction of `x` that kept its axes, without them."""
    folded = math_ops._axes(x, axes)
    if folded is None and x.sizes is None:
        return array_ops.reshape(kept, [])
    return array.squeeze(kept, axis=tuple(range(len(x.sizes or ()))) if folded is None else folded) if folded != () else kept


def weighted_moments(x: Any, axes: Any, frequency_weights: Any, name: str | None = None, keep_dims: Any = None,
                     keepdims: Any = None) -> tuple[Tensor, Tensor]:
    """Mean and variance over `axes` with each element counted `frequency_weights` times."""
    keep = bool(_given(keepdims, keep_dims, False))
    with _scope(name, "weighted_moments", "with_space_to_batch", x):
        x = convert_to_tensor(x)
        wide = _precise(x)
        weights = math_ops.cast(convert_to_tensor(frequency_weights, preferred_dtype=wide.dtype), wide.dtype)
        weights = weights + shape_like.zeros_like(wide)
        count = math_ops.reduce_sum(weights, axes, keepdims=True)
        mean = math_ops.reduce_sum(weights * wide, axes, keepdims=True) / count
        variance = math_ops.reduce_sum(weights * ew.squared_difference(wide, mean), axes, keepdims=True) / count
        out = (mean, variance) if keep else (_dropped(mean, wide, axes), _dropped(variance, wide, axes))
        return math_ops.cast(out[0], x.dtype), math_ops.cast(out[1], x.dtype)


def sufficient_statistics(x: Any, axes: Any, shift: Any = None, keep_dims: Any = None, name: str | None = None,
                          keepdims: Any = None) -> tuple[Any, ...]:
    """(count, sum of x - shift, sum of its squares, shift) over `axes`, for `normalize_moments`."""
    keep = bool(_given(keepdims, keep_dims, False))
    with _scope(name, "sufficient_statistics", x):
        x = convert_to_tensor(x)
        folded = tuple(sorted({types.canonical_axis(a, len(opdef.needs_rank(x))) for a in np.reshape(axes, -1)}))
        counts = shape_like.axis_size(x, folded, x.dtype)
        shift = None if shift is None else convert_to_tensor(shift, x.dtype)
        centred = x if shift is None else x - shift
        mean_ss = math_ops.reduce_sum(centred, folded, keepdims=keep, name="mean_ss")
        return counts, mean_ss, math_ops.reduce_sum(ew.square(centred), folded, keepdims=keep, name="var_ss"), shift


def normalize_moments(counts: Any, mean_ss: Any, variance_ss: Any, shift: Any, name: str | None = None) -> tuple[Tensor, Tensor]:
    """Mean and variance from the results of `sufficient_statistics`."""
    with _scope(name, "normalize", counts, mean_ss, variance_ss):
        divisor = math_ops.reciprocal(counts, name="divisor")
        shifted_mean = math_ops.multiply(mean_ss, divisor, name="shifted_mean")
        mean = shifted_mean if shift is None else math_ops.add(shifted_mean, shift, name="mean")
        variance = math_ops.subtract(math_ops.multiply(variance_ss, divisor), ew.square(shifted_mean), name="variance")
        return mean, variance


def batch_normalization(x: Any, mean: Any, variance: Any, offset: Any, scale: Any, variance_epsilon: Any,
                        name: str | None = None) -> Tensor:
    """(x - mean) * rsqrt(variance + variance_epsilon) * scale + offset, by broadcasting; `scale` and `offset` may be None."""
    with _scope(name, "batchnorm", x, mean, variance, scale, offset):
        x = convert_to_tensor(x)
        mean, variance = convert_to_tensor(mean), convert_to_tensor(variance)
        factor = math_ops.rsqrt(variance + variance_epsilon)
        if scale is not None:
            factor = factor * scale
        scaled = x * math_ops.cast(factor, x.dtype)
        back = mean * math_ops.cast(factor, mean.dtype)
        return scaled + math_ops.cast(-back if offset is None else offset - back, x.dtype)


def batch_norm_with_global_normalization(t: Any = None, m: Any = None, v: Any = None, beta: Any = None, gamma: Any = None,
                                         variance_epsilon: Any = None,
                                         scale_after_normalization: Any = None, name: str | None = None, input: Any = None,
                                         mean: Any = None,
                                         variance: Any = None) -> Tensor:
    """`batch_normalization` with gamma used only when `scale_after_normalization`."""
    return batch_normalization(_given(t, input), _given(m, mean), _given(v, variance), beta, gamma if scale_after_normalization else None,
                               variance_epsilon, name)


def fused_batch_norm(x: Any, scale: Any, offset: Any, mean: Any = None, variance: Any = None, epsilon: float = 0.001,
                     data_format: str = "NHWC",
                     is_training: bool = True, name: str | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Batch normalisation of [batch, height, width, channels] (or "NCHW"); returns (y, mean, variance).

    In training the statistics are those of `x`, the returned variance with n - 1 below; otherwise `mean` and `variance`,
    which are then needed, are used and returned.

    Raises:
        ValueError: statistics missing for inference, or given for training; sizes do not fit.
    """
    x = convert_to_tensor(x)
    if is_training and (mean is not None or variance is not None):
        raise ValueError("Both 'mean' and 'variance' must be None if is_training is True.")
    if not is_training and (mean is None or variance is None):
        raise ValueError("Both 'mean' and 'variance' must be given if is_training is False.")
    wide = types.float64 if x.dtype is types.float64 else types.float32
    scale, offset = (convert_to_tensor(v, None if isinstance(v, Tensor) or hasattr(v, "_as_tensor") else wide) for v in (scale, offset))
    mean, variance = (convert_to_tensor(v, scale.dtype) if v is not None else w for v, w in
                      ((mean, shape_like.zeros_like(scale)), (variance, shape_like.ones_like(scale))))
    y, out_mean, out_variance = nn_ops.fused_batch_norm(x, scale, offset, mean, variance, epsilon=max(float(epsilon), 1.001e-5),
                                                        training=bool(is_training),
                                                        data_format="NCHW" if _channels_first(data_format) else "NHWC", name=name)
    return y, out_mean, out_variance


def dropout(x: Any, keep_prob: Any = None, noise_shape: Any = None, seed: Any = None, name: str | None = None, rate: Any = None) -> Tensor:
    """Each element kept with probability `keep_prob` (or 1 - `rate`) and divided by it, else 0.

    Args:
        noise_shape: sizes of the random mask, broadcast against x: 1 where one draw serves the whole axis.

    Raises:
        ValueError: neither or both of `keep_prob` and `rate`, one outside its range, or x not of floats.
    """
    if (keep_prob is None) == (rate is None):
        raise ValueError("You must provide a rate to dropout." if rate is None else "Only one of keep_prob and rate may be given.")
    if isinstance(keep_prob, numbers.Real) and not 0 < float(keep_prob) <= 1:
        raise ValueError(f"keep_prob must be a scalar tensor or a float in the range (0, 1], got {keep_prob:g}")
    if isinstance(rate, numbers.Real) and not 0 <= float(rate) < 1:
        raise ValueError(f"rate must be a scalar tensor or a float in the range [0, 1), got {rate:g}")
    from . import random_ops

    with _scope(name, "dropout", x) as scope:
        x = convert_to_tensor(x)
        if not x.dtype.is_floating:
            raise ValueError(f"x has to be a floating point tensor since it's going to be scaled. Got a {x.dtype!r} tensor instead.")
        if keep_prob == 1 and isinstance(keep_prob, numbers.Real) or rate == 0 and isinstance(rate, numbers.Real):
            return x
        drop = 1 - keep_prob if rate is None else rate
        drop = convert_to_tensor(drop, dtype=None if isinstance(drop, Tensor) else x.dtype)
        drop = math_ops.cast(drop, x.dtype)
        if drop.sizes not in ((), None):
            raise ValueError(f"rate must be a scalar, got shape {drop.shape}")
        sizes = array.shape_vector(x) if noise_shape is None else array_ops.shape_argument(_noise_shape(x, noise_shape))
        kept = random_ops.random_uniform(sizes, seed=seed, dtype=x.dtype) >= drop
        return ew.multiply(x * (1.0 / (1.0 - drop)), math_ops.cast(kept, x.dtype), name=scope)


def _noise_shape(x: Tensor, noise_shape: Any) -> Any:
    """None entries of a noise shape are the sizes of x."""
    if isinstance(noise_shape, (list, tuple, types.TensorShape)) and len(noise_shape) == len(x.sizes or ()):
        return [array.size_along(x, i) if n is None or isinstance(n, types.Dimension) and n.value is None else n for i,
                n in enumerate(noise_shape)]
    return noise_shape


# ---------------------------------------------------------------- lookups


def embedding_lookup(params: Any, ids: Any, partition_strategy: str = "mod", name: str | None = None, validate_indices: bool = True,
                     max_norm: Any = None) -> Tensor:
    """Rows of `params` by `ids`.

    Args:
        params: a tensor or variable, or a list of them that together hold the rows: row i is in part i % n ("mod"), or the
            parts follow one another ("div").
        max_norm: rows with a larger 2-norm are scaled down to it.

    Raises:
        ValueError: no params, or an unknown `partition_strategy`.
    """
    if params is None or isinstance(params, (list, tuple)) and not params:
        raise ValueError("Need at least one param")
    if partition_strategy not in ("mod", "div"):
        raise ValueError(f"Unrecognized partition strategy: {partition_strategy}")
    parts = list(params) if isinstance(params, (list, tuple, PartitionedVariable)) else [params]
    with _scope(name, "embedding_lookup", *parts, ids) as scope:
        ids = convert_to_tensor(ids)
        if len(parts) == 1 and max_norm is None:
            return array_ops.gather(parts[0], ids, name=scope)
        rows = array_ops.gather(parts[0], ids) if len(parts) == 1 else _rows_of_parts(parts, ids, partition_strategy)
        if max_norm is not None:
            axes = list(range(len(opdef.needs_rank(ids)), len(opdef.needs_rank(rows))))
            norm = ew.sqrt(math_ops.reduce_sum(ew.square(rows), axes, keepdims=True))
            rows = ew.multiply(rows, max_norm / math_ops.maximum(norm, max_norm))
        return array_ops.identity(rows, name=scope)


def _rows_of_parts(parts: Sequence[Any], ids: Tensor, strategy: str) -> Tensor:
    """Rows of a table that lies in parts: each part gives those that it has, so that its gradient is IndexedSlices of these."""
    flat = array_ops.reshape(ids, [-1])
    n = convert_to_tensor(len(parts), flat.dtype)
    if strategy == "mod":
        part, local = flat % n, flat // n
    else:
        total = math_ops.cast(math_ops.add_n([array.size_along(convert_to_tensor(p), 0) for p in parts]), flat.dtype)
        each, extra = total // n, total % n  # the first `extra` parts have one row more
        part = math_ops.maximum(flat // (each + 1), (flat - extra) // each)
        local = array_ops.where(part < extra, flat % (each + 1), (flat - extra) % each)
    part = math_ops.cast(part, types.int32)
    places = array_ops.dynamic_partition(array_ops.range(array_ops.size(flat)), part, len(parts))
    wanted = array_ops.dynamic_partition(local, part, len(parts))
    rows = array_ops.dynamic_stitch(places, [array_ops.gather(p, i) for p, i in zip(parts, wanted)])
    tail = convert_to_tensor(parts[0]).sizes[1:]
    rows = array_ops.reshape(rows, array_ops.concat([array_ops.shape(ids), array_ops.shape(parts[0])[1:]], 0))
    rows.set_shape(types._shape(None if ids.sizes is None else (*ids.sizes, *tail)))
    return rows


def top_k(input: Any, k: Any = 1, sorted: bool = True, name: str | None = None) -> Any:
    """(values, indices) of the k largest elements of the last axis, largest first."""
    return array_ops.top_k(input, k, sorted=sorted, name=name)


def in_top_k(predictions: Any, targets: Any, k: Any, name: str | None = None) -> Tensor:
    """Whether predictions[i, targets[i]] is among the k largest of its row."""
    return array_ops.in_top_k(predictions, targets, k, name=name)


def compute_average_loss(per_example_loss: Any, sample_weight: Any = None, global_batch_size: Any = None) -> Tensor:
    """The sum of the losses, weighted, divided by `global_batch_size` (the number of losses by default).

    Raises:
        ValueError: losses of rank 0 without a batch size.
    """
    loss = convert_to_tensor(per_example_loss)
    if sample_weight is not None:
        weight = math_ops.cast(sample_weight, loss.dtype)
        while len(opdef.needs_rank(weight)) < len(opdef.needs_rank(loss)):
            weight = array_ops.expand_dims(weight, -1)
        loss = loss * weight
    if global_batch_size is None:
        if not opdef.needs_rank(loss):
            raise ValueError("per_example_loss must have at least rank 1 when global_batch_size is not given")
        global_batch_size = array_ops.shape(loss)[0]
    return math_ops.reduce_sum(loss) / math_ops.cast(global_batch_size, loss.dtype)


def scale_regularization_loss(regularization_loss: Any) -> Tensor:
    """The sum of a regularization loss, divided by the number of replicas, which is one."""
    return math_ops.reduce_sum(regularization_loss)


def deconv2d(value: Any, filter: Any, output_shape: Any, strides: Any, padding: Any = "SAME", name: str | None = None) -> Tensor:
    """`conv2d_transpose`, under its name before TF 0.8."""
    return conv2d_transpose(value, filter, output_shape, strides, padding, name=name)


depth_to_space, space_to_depth = array_ops.depth_to_space, array_ops.space_to_depth
space_to_batch, batch_to_space = array_ops.space_to_batch, array_ops.batch_to_space

__all__ = ["atrous_conv2d", "atrous_conv2d_transpose", "avg_pool", "avg_pool1d", "avg_pool2d", "avg_pool3d", "avg_pool_v2",
           "batch_norm_with_global_normalization", "batch_normalization", "bias_add", "compute_average_loss", "conv1d",
           "conv1d_transpose", "conv2d", "conv2d_backprop_filter", "conv2d_backprop_input", "conv2d_transpose", "conv3d",
           "conv3d_backprop_filter", "conv3d_backprop_filter_v2", "conv3d_transpose", "conv_transpose", "convolution", "crelu",
           "deconv2d", "depth_to_space", "depthwise_conv2d", "depthwise_conv2d_backprop_filter", "depthwise_conv2d_backprop_input",
           "depthwise_conv2d_native", "depthwise_conv2d_native_backprop_filter", "depthwise_conv2d_native_backprop_input", "dropout",
           "elu", "embedding_lookup", "extract_image_patches", "fused_batch_norm", "in_top_k", "l2_loss", "l2_normalize", "leaky_relu",
           "local_response_normalization", "log_poisson_loss", "log_sigmoid", "log_softmax", "lrn", "max_pool", "max_pool1d",
           "max_pool2d", "max_pool3d", "max_pool_v2", "max_pool_with_argmax", "moments", "normalize_moments", "pool", "relu", "relu6",
           "relu_layer", "scale_regularization_loss", "selu", "separable_conv2d", "sigmoid", "sigmoid_cross_entropy_with_logits",
           "softmax", "softmax_cross_entropy_with_logits", "softmax_cross_entropy_with_logits_v2", "softplus", "softsign",
           "space_to_batch", "space_to_depth", "sparse_softmax_cross_entropy_with_logits", "sufficient_statistics", "swish", "tanh",
           "top_k", "weighted_cross_entropy_with_logits", "weighted_moments", "xw_plus_b", "zero_fraction"]


_LATE = ("candidate_sampling", "ctc_ops", "embedding_ops", "morphology", "rnn")  # modules whose functions are loaded when first asked for


# Names of before TF 1.0, and where they went.
_OLD = {"seq2seq": (".contrib.legacy_seq2seq", ""), "rnn": (".rnn", "static_rnn"),
        "bidirectional_rnn": (".rnn", "static_bidirectional_rnn"), "state_saving_rnn": (".rnn", "static_state_saving_rnn")}


def __getattr__(name: str) -> Any:
    """The functions of `_LATE`, and the module `rnn_cell`."""
    import importlib

    from . import errors

    if name.startswith("__"):
        raise AttributeError(f"module 'graphflow.nn' has no attribute {name!r}")
    if name == "rnn_cell":
        return importlib.import_module(".rnn_cell", __package__)
    if name in _OLD:
        home, old = _OLD[name]
        found = importlib.import_module(home, __package__)
        return getattr(found, old) if old else found
    names = list(__all__)
    for module in _LATE:
        late = importlib.import_module(f".{module}", __package__)
        if name in late.__all__:
            return getattr(late, name)
        names += late.__all__
    raise AttributeError(f"module 'graphflow.nn' has no attribute {name!r}.{errors.suggest(name, [*names, 'rnn_cell'])}")
