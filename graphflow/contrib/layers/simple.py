"""Layers without weights (but for spatial_softmax's temperature): pools, shapes, norms."""
from __future__ import annotations

from typing import Any

from ... import array_ops, graph, math_ops, nn, types
from ...custom_gradient import custom_gradient
from ...graph import Tensor
from ...init_ops import constant_initializer, ones_initializer
from ...layers.base import numbers
from ...layers.core import flatten as plain_flatten
from ...ops.opdef import convert_to_tensor
from ...sparse_tensor import SparseTensor
from ...variable_scope import variable_scope
from ..framework.arg_scope import add_arg_scope
from ..framework.variables import model_variable
from .utils import (checked_format, collect_named_outputs, get_variable_collections, last_dimension, n_positive_integers)

__all__ = ["avg_pool2d", "avg_pool3d", "dense_to_sparse", "flatten", "images_to_sequence", "max_pool2d", "max_pool3d", "maxout",
           "one_hot_encoding", "poincare_normalize", "pool", "scale_gradient", "sequence_to_images", "softmax", "spatial_softmax",
           "unit_norm"]


def _scope(name: Any, default: str) -> Any:
    return graph.get_default_graph().name_scope(name or default)


def _pooled(inputs: Any, kernel_size: Any, stride: Any, padding: str, data_format: str, outputs_collections: Any, scope: Any, kind: str,
            rank: int) -> Tensor:
    first = checked_format(data_format, ("NCHW", "NHWC") if rank == 2 else ("NCDHW", "NDHWC"))
    with _scope(scope, f"{kind}Pool{rank}D") as sc:
        inputs = convert_to_tensor(inputs)
        if inputs.shape.ndims != rank + 2:
            raise ValueError(f"{kind}Pool{rank}D: expected ndim={rank + 2}, found ndim={inputs.shape.ndims}. Full shape received: "
                             f"{inputs.shape}")
        sizes, strides = (list(numbers(_listed(v), rank, name)) for v, name in ((kernel_size, "pool_size"), (stride, "strides")))
        window, steps = ([1, 1, *v] if first else [1, *v, 1] for v in (sizes, strides))
        fn = {"Max": (nn.max_pool, nn.max_pool3d), "Avg": (nn.avg_pool, nn.avg_pool3d)}[kind][rank - 2]
        return collect_named_outputs(outputs_collections, sc, fn(inputs, window, steps, padding.upper(), data_format=data_format))


def _listed(value: Any) -> Any:
    return value if isinstance(value, (int, list, tuple)) else [int(n) for n in value]


@add_arg_scope
def avg_pool2d(inputs: Any, kernel_size: Any, stride: Any = 2, padding: str = "VALID", data_format: str = "NHWC",
               outputs_collections: Any = None, scope: Any = None) -> Tensor:
    """The mean of each window of [N, H, W, C].  The scope is "AvgPool2D" by default."""
    return _pooled(inputs, kernel_size, stride, padding, data_format, outputs_collections, scope, "Avg", 2)


@add_arg_scope
def max_pool2d(inputs: Any, kernel_size: Any, stride: Any = 2, padding: str = "VALID", data_format: str = "NHWC",
               outputs_collections: Any = None, scope: Any = None) -> Tensor:
    """The largest of each window of [N, H, W, C].  The scope is "MaxPool2D" by default."""
    return _pooled(inputs, kernel_size, stride, padding, data_format, outputs_collections, scope, "Max", 2)


@add_arg_scope
def avg_pool3d(inputs: Any, kernel_size: Any, stride: Any = 2, padding: str = "VALID", data_format: str = "NDHWC",
               outputs_collections: Any = None, scope: Any = None) -> Tensor:
    """The mean of each window of [N, D, H, W, C].  The scope is "AvgPool3D" by default."""
    return _pooled(inputs, kernel_size, stride, padding, data_format, outputs_collections, scope, "Avg", 3)


@add_arg_scope
def max_pool3d(inputs: Any, kernel_size: Any, stride: Any = 2, padding: str = "VALID", data_format: str = "NDHWC",
               outputs_collections: Any = None, scope: Any = None) -> Tensor:
    """The largest of each window of [N, D, H, W, C].  The scope is "MaxPool3D" by default."""
    return _pooled(inputs, kernel_size, stride, padding, data_format, outputs_collections, scope, "Max", 3)


@add_arg_scope
def pool(inputs: Any, kernel_size: Any, pooling_type: str, padding: str = "VALID", data_format: str | None = None, dilation_rate: Any = 1,
         stride: Any = 1, outputs_collections: Any = None, scope: Any = None) -> Tensor:
    """`tf.nn.pool` over all spatial axes.  Raises ValueError for a rank that is unknown or below 3."""
    with _scope(scope, f"{pooling_type.lower()}_pool") as sc:
        inputs = convert_to_tensor(inputs)
        rank = inputs.shape.ndims
        if rank is None or rank < 3:
            raise ValueError(f"Rank of inputs must be known and >= 3, got {rank}")
        sizes, dilations, strides = (n_positive_integers(rank - 2, v) for v in (kernel_size, dilation_rate, stride))
        output = nn.pool(inputs, list(sizes), pooling_type, padding, list(dilations), list(strides), data_format=data_format)
        return collect_named_outputs(outputs_collections, sc, output)


@add_arg_scope
def flatten(inputs: Any, outputs_collections: Any = None, scope: Any = None) -> Tensor:
    """[N, ...] as [N, product of the rest].  The scope is "Flatten" by default."""
    with _scope(scope, "Flatten") as sc:
        return collect_named_outputs(outputs_collections, sc, plain_flatten(convert_to_tensor(inputs)))


@add_arg_scope
def one_hot_encoding(labels: Any, num_classes: int, on_value: Any = 1.0, off_value: Any = 0.0, outputs_collections: Any = None,
                     scope: Any = None) -> Tensor:
    """Class numbers [...] as one-hot vectors [..., num_classes].  The scope is "OneHotEncoding" by default."""
    with _scope(scope, "OneHotEncoding") as sc:
        outputs = array_ops.one_hot(convert_to_tensor(labels), num_classes, on_value=on_value, off_value=off_value)
        return collect_named_outputs(outputs_collections, sc, outputs)


@add_arg_scope
def dense_to_sparse(tensor: Any, eos_token: int = 0, outputs_collections: Any = None, scope: Any = None) -> SparseTensor:
    """A SparseTensor of the elements that differ from `eos_token`."""
    with variable_scope(scope, "dense_to_sparse", [tensor]) as sc:
        tensor = convert_to_tensor(tensor)
        indices = array_ops.where(math_ops.not_equal(tensor, convert_to_tensor(eos_token, tensor.dtype)))
        found = SparseTensor(indices, array_ops.gather_nd(tensor, indices), array_ops.shape(tensor, out_type=types.int64))
        return collect_named_outputs(outputs_collections, sc.name, found)


@add_arg_scope
def images_to_sequence(inputs: Any, data_format: str = "NHWC", outputs_collections: Any = None, scope: Any = None) -> Tensor:
    """Images [N, H, W, C] as sequences of their columns [W, N * H, C]."""
    first = checked_format(data_format, ("NCHW", "NHWC"))
    with _scope(scope, "ImagesToSequence") as sc:
        inputs = convert_to_tensor(inputs)
        if first:
            inputs = array_ops.transpose(inputs, [0, 2, 3, 1])
        width, depth = inputs.shape.as_list()[2:]
        sizes = array_ops.shape(inputs)
        outputs = array_ops.reshape(array_ops.transpose(inputs, [2, 0, 1, 3]), [width, sizes[0] * sizes[1], depth])
        return collect_named_outputs(outputs_collections, sc, outputs)


@add_arg_scope
def sequence_to_images(inputs: Any, height: int, output_data_format: str = "channels_last", outputs_collections: Any = None,
                       scope: Any = None) -> Tensor:
    """What `images_to_sequence` made, [W, N * H, C], as images again."""
    with _scope(scope, "SequenceToImages") as sc:
        inputs = convert_to_tensor(inputs)
        width, rows, depth = inputs.shape.as_list()
        split = array_ops.reshape(inputs, [width, -1 if rows is None else rows // height, height, depth])
        order = [1, 3, 2, 0] if output_data_format == "channels_first" else [1, 2, 0, 3]
        return collect_named_outputs(outputs_collections, sc, array_ops.transpose(split, order))


@add_arg_scope
def softmax(logits: Any, scope: Any = None) -> Tensor:
    """Softmax of the last axis of [..., n], whose size has to be known."""
    with variable_scope(scope, "softmax", [logits]):
        logits = convert_to_tensor(logits)
        rows = array_ops.reshape(logits, [-1, last_dimension(logits.shape, 2)])
        predictions = array_ops.reshape(nn.softmax(rows), array_ops.shape(logits))
        predictions.set_shape(logits.shape)
        return predictions


@add_arg_scope
def spatial_softmax(features: Any, temperature: Any = None, name: str | None = None, variables_collections: Any = None,
                    trainable: bool = True, data_format: str = "NHWC") -> Tensor:
    """The expected position, in [-1, 1], of the softmax over each channel's pixels: [N, H, W, C] -> [N, 2 C], (x, y) by channel.

    As in TF1, x runs along the height.

    Args:
        temperature: divides the features first; a variable that starts at this value (1 by default), trained if `trainable`.

    Raises:
        ValueError: an unknown format or number of channels.
    """
    first = checked_format(data_format, ("NCHW", "NHWC"))
    with variable_scope(name, "spatial_softmax"):
        features = convert_to_tensor(features)
        shape, channels = array_ops.shape(features), features.shape[1 if first else 3].value
        if channels is None:
            raise ValueError("The num_channels dimension of the inputs to `spatial_softmax` should be defined. Found `None`.")
        height, width = (shape[2], shape[3]) if first else (shape[1], shape[2])
        with _scope(None, "spatial_softmax_op"):
            x, y = array_ops.meshgrid(array_ops.linspace(-1.0, 1.0, num=height), array_ops.linspace(-1.0, 1.0, num=width), indexing="ij")
            start = ones_initializer() if temperature is None else constant_initializer(temperature)
            divisor = model_variable("temperature", shape=(), dtype=types.float32, initializer=start, trainable=trainable,
                                     collections=get_variable_collections(variables_collections, "temperature") if trainable else None)
            rows = array_ops.reshape(features if first else array_ops.transpose(features, [0, 3, 1, 2]), [-1, height * width])
            attention = nn.softmax(rows / divisor)
            positions = [math_ops.reduce_sum(array_ops.reshape(p, [height * width]) * attention, [1], keepdims=True) for p in (x, y)]
            points = array_ops.reshape(array_ops.concat(positions, 1), [-1, channels * 2])
            points.set_shape([None, channels * 2])
            return points


@add_arg_scope
def unit_norm(inputs: Any, dim: int, epsilon: float = 1e-7, scope: Any = None) -> Tensor:
    """inputs / sqrt(epsilon + sum of squares along `dim`).  Raises ValueError for an unknown rank or a `dim` outside it."""
    with variable_scope(scope, "UnitNorm", [inputs]):
        inputs = convert_to_tensor(inputs)
        rank = inputs.shape.ndims
        if rank is None:
            raise ValueError("The input rank must be known.")
        if not 0 <= dim < rank:
            raise ValueError(f"dim must be positive but smaller than the input rank, got {dim} for rank {rank}.")
        return inputs / math_ops.sqrt(epsilon + math_ops.reduce_sum(math_ops.square(inputs), dim, keepdims=True))


@add_arg_scope
def maxout(inputs: Any, num_units: int, axis: int = -1, scope: Any = None) -> Tensor:
    """The largest of each of `num_units` groups of features along `axis` (Goodfellow et al. 2013).

    Raises:
        ValueError: the number of features is no multiple of `num_units`.
    """
    with variable_scope(scope, "MaxOut", [inputs]):
        inputs = convert_to_tensor(inputs)
        sizes: list[Any] = inputs.shape.as_list()
        features = sizes[axis]
        if features is None or features % num_units:
            raise ValueError(f"number of features({features}) is not a multiple of num_units({num_units})")
        sizes[axis] = num_units
        dynamic = array_ops.shape(inputs)
        sizes = [dynamic[i] if n is None else n for i, n in enumerate(sizes)]
        return math_ops.reduce_max(array_ops.reshape(inputs, [*sizes, features // num_units]), -1)


def poincare_normalize(x: Any, axis: Any = 1, epsilon: float = 1e-5, name: str | None = None) -> Tensor:
    """x, shortened along `axis` to a length of at most 1 - epsilon (Nickel and Kiela 2017)."""
    with _scope(name, "poincare_normalize"):
        x = convert_to_tensor(x)
        inverse = math_ops.rsqrt(math_ops.reduce_sum(math_ops.square(x), axis, keepdims=True))
        return x * math_ops.minimum((1.0 - epsilon) * inverse, 1.0)


def scale_gradient(inputs: Any, gradient_multiplier: Any) -> Tensor:
    """The inputs, whose gradient is multiplied by `gradient_multiplier`."""
    return custom_gradient(lambda x: (array_ops.identity(x), lambda dy: dy * gradient_multiplier))(inputs)
