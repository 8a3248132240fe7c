"""Convolutions with a normaliser and an activation; variables `weights` and `biases` below the layer's scope."""
from __future__ import annotations

from typing import Any

from ... import array_ops, nn
from ...graph import Tensor
from ...init_ops import zeros_initializer
from ...layers import convolutional
from ...ops.opdef import convert_to_tensor
from ...variable_scope import variable_scope
from ..framework.arg_scope import add_arg_scope
from ..framework.variables import model_variable
from .initializers import xavier_initializer
from .utils import (add_to_variable_collections, channel_dimension, checked_format, finished, get_variable_collections, last_dimension,
                    two_element_tuple, variable_getter)

__all__ = ["bias_add", "conv1d", "conv2d", "conv2d_in_plane", "conv2d_transpose", "conv3d", "conv3d_transpose", "convolution",
           "convolution1d", "convolution2d", "convolution2d_in_plane", "convolution2d_transpose", "convolution3d",
           "convolution3d_transpose", "separable_conv2d", "separable_convolution2d"]

_FORMATS = ("NWC", "NCW", "NHWC", "NCHW", "NDHWC", "NCDHW")
_LAYERS = {3: convolutional.Conv1D, 4: convolutional.Conv2D, 5: convolutional.Conv3D}


def _format(first: bool) -> str:
    return "channels_first" if first else "channels_last"


@add_arg_scope
def convolution(inputs: Any, num_outputs: int, kernel_size: Any, stride: Any = 1, padding: str = "SAME", data_format: str | None = None,
                rate: Any = 1, activation_fn: Any = nn.relu, normalizer_fn: Any = None, normalizer_params: Any = None,
                weights_initializer: Any = xavier_initializer(), weights_regularizer: Any = None,
                biases_initializer: Any = zeros_initializer(), biases_regularizer: Any = None, reuse: Any = None,
                variables_collections: Any = None, outputs_collections: Any = None, trainable: bool = True, scope: Any = None,
                conv_dims: int | None = None) -> Tensor:
    """A convolution in one, two or three dimensions, by the rank of the inputs.

    Args:
        inputs: [N, spatial..., C], or [N, C, spatial...] with a `data_format` that begins with "NC".
        rate: dilation; above 1 the stride has to be 1.
        conv_dims: how many spatial axes the inputs must have.
        others: as in `fully_connected`; the scope is "Conv" by default.

    Raises:
        ValueError: an unknown format, another rank, an unknown number of channels, stride and rate both above 1.
    """
    if data_format not in (None, *_FORMATS):
        raise ValueError(f"Invalid data_format: {data_format!r}")
    with variable_scope(scope, "Conv", [inputs], reuse=reuse, custom_getter=variable_getter(bias="biases", kernel="weights")) as sc:
        inputs = convert_to_tensor(inputs)
        rank = inputs.shape.ndims
        if conv_dims is not None and conv_dims + 2 != rank:
            raise ValueError(f"Convolution expects input with rank {conv_dims + 2}, got {rank}")
        if rank not in _LAYERS:
            raise ValueError(f"Convolution not supported for input with rank {rank}")
        layer = _LAYERS[rank](num_outputs, _plain(kernel_size), _plain(stride), padding, _format((data_format or "").startswith("NC")),
                              _plain(rate), None, bool(not normalizer_fn and biases_initializer), weights_initializer, biases_initializer,
                              weights_regularizer, biases_regularizer, trainable=trainable, name=sc.name, dtype=inputs.dtype.base_dtype,
                              _scope=sc, _reuse=reuse)
        return _applied(layer, inputs, activation_fn, normalizer_fn, normalizer_params, variables_collections, outputs_collections, sc)


def _plain(sizes: Any) -> Any:
    """Sizes from an array or a TensorShape as a list."""
    return sizes if isinstance(sizes, (int, list, tuple)) else [int(n) for n in sizes] if hasattr(sizes, "__len__") else int(sizes)


def _applied(layer: Any, inputs: Tensor, activation_fn: Any, normalizer_fn: Any, normalizer_params: Any, variables_collections: Any,
             outputs_collections: Any, sc: Any) -> Tensor:
    outputs = layer.apply(inputs)
    for kernel in ("kernel", "depthwise_kernel", "pointwise_kernel"):
        add_to_variable_collections(getattr(layer, kernel, None), variables_collections, "weights")
    add_to_variable_collections(layer.bias, variables_collections, "biases")
    return finished(outputs, activation_fn, outputs_collections, sc.name, normalizer_fn, normalizer_params)


@add_arg_scope
def convolution1d(inputs: Any, num_outputs: int, kernel_size: Any, stride: Any = 1, padding: str = "SAME", data_format: str | None = None,
                  rate: Any = 1, activation_fn: Any = nn.relu, normalizer_fn: Any = None, normalizer_params: Any = None,
                  weights_initializer: Any = xavier_initializer(), weights_regularizer: Any = None,
                  biases_initializer: Any = zeros_initializer(), biases_regularizer: Any = None, reuse: Any = None,
                  variables_collections: Any = None, outputs_collections: Any = None, trainable: bool = True, scope: Any = None) -> Tensor:
    """`convolution` of [N, W, C]."""
    return convolution(inputs, num_outputs, kernel_size, stride, padding, data_format, rate, activation_fn, normalizer_fn,
                       normalizer_params, weights_initializer, weights_regularizer, biases_initializer, biases_regularizer, reuse,
                       variables_collections, outputs_collections, trainable, scope, conv_dims=1)


@add_arg_scope
def convolution2d(inputs: Any, num_outputs: int, kernel_size: Any, stride: Any = 1, padding: str = "SAME", data_format: str | None = None,
                  rate: Any = 1, activation_fn: Any = nn.relu, normalizer_fn: Any = None, normalizer_params: Any = None,
                  weights_initializer: Any = xavier_initializer(), weights_regularizer: Any = None,
                  biases_initializer: Any = zeros_initializer(), biases_regularizer: Any = None, reuse: Any = None,
                  variables_collections: Any = None, outputs_collections: Any = None, trainable: bool = True, scope: Any = None) -> Tensor:
    """`convolution` of [N, H, W, C]."""
    return convolution(inputs, num_outputs, kernel_size, stride, padding, data_format, rate, activation_fn, normalizer_fn,
                       normalizer_params, weights_initializer, weights_regularizer, biases_initializer, biases_regularizer, reuse,
                       variables_collections, outputs_collections, trainable, scope, conv_dims=2)


@add_arg_scope
def convolution3d(inputs: Any, num_outputs: int, kernel_size: Any, stride: Any = 1, padding: str = "SAME", data_format: str | None = None,
                  rate: Any = 1, activation_fn: Any = nn.relu, normalizer_fn: Any = None, normalizer_params: Any = None,
                  weights_initializer: Any = xavier_initializer(), weights_regularizer: Any = None,
                  biases_initializer: Any = zeros_initializer(), biases_regularizer: Any = None, reuse: Any = None,
                  variables_collections: Any = None, outputs_collections: Any = None, trainable: bool = True, scope: Any = None) -> Tensor:
    """`convolution` of [N, D, H, W, C]."""
    return convolution(inputs, num_outputs, kernel_size, stride, padding, data_format, rate, activation_fn, normalizer_fn,
                       normalizer_params, weights_initializer, weights_regularizer, biases_initializer, biases_regularizer, reuse,
                       variables_collections, outputs_collections, trainable, scope, conv_dims=3)


@add_arg_scope
def convolution2d_transpose(inputs: Any, num_outputs: int, kernel_size: Any, stride: Any = 1, padding: str = "SAME",
                            data_format: str = "NHWC", activation_fn: Any = nn.relu, normalizer_fn: Any = None,
                            normalizer_params: Any = None, weights_initializer: Any = xavier_initializer(),
                            weights_regularizer: Any = None, biases_initializer: Any = zeros_initializer(), biases_regularizer: Any = None,
                            reuse: Any = None, variables_collections: Any = None, outputs_collections: Any = None, trainable: bool = True,
                            scope: Any = None) -> Tensor:
    """The gradient of a 2-D convolution as a layer: sizes grow by the stride; weights are [h, w, num_outputs, C].

    The scope is "Conv2d_transpose" by default.
    """
    first = checked_format(data_format, ("NCHW", "NHWC"))
    with variable_scope(scope, "Conv2d_transpose", [inputs], reuse=reuse,
                        custom_getter=variable_getter(bias="biases", kernel="weights")) as sc:
        inputs = convert_to_tensor(inputs)
        layer = convolutional.Conv2DTranspose(
            num_outputs, _plain(kernel_size), _plain(stride), padding, _format(first), None,
            bool(not normalizer_fn and biases_initializer), weights_initializer, biases_initializer, weights_regularizer,
            biases_regularizer, trainable=trainable, name=sc.name, dtype=inputs.dtype.base_dtype, _scope=sc, _reuse=reuse)
        return _applied(layer, inputs, activation_fn, normalizer_fn, normalizer_params, variables_collections, outputs_collections, sc)


@add_arg_scope
def convolution3d_transpose(inputs: Any, num_outputs: int, kernel_size: Any, stride: Any = 1, padding: str = "SAME",
                            data_format: str = "NDHWC", activation_fn: Any = nn.relu, normalizer_fn: Any = None,
                            normalizer_params: Any = None, weights_initializer: Any = xavier_initializer(),
                            weights_regularizer: Any = None, biases_initializer: Any = zeros_initializer(), biases_regularizer: Any = None,
                            reuse: Any = None, variables_collections: Any = None, outputs_collections: Any = None, trainable: bool = True,
                            scope: Any = None) -> Tensor:
    """The gradient of a 3-D convolution as a layer.  The scope is "Conv3d_transpose" by default."""
    first = checked_format(data_format, ("NCDHW", "NDHWC"))
    with variable_scope(scope, "Conv3d_transpose", [inputs], reuse=reuse,
                        custom_getter=variable_getter(bias="biases", kernel="weights")) as sc:
        inputs = convert_to_tensor(inputs)
        layer = convolutional.Conv3DTranspose(
            num_outputs, _plain(kernel_size), _plain(stride), padding, _format(first), None,
            bool(not normalizer_fn and biases_initializer), weights_initializer, biases_initializer, weights_regularizer,
            biases_regularizer, trainable=trainable, name=sc.name, dtype=inputs.dtype.base_dtype, _scope=sc, _reuse=reuse)
        return _applied(layer, inputs, activation_fn, normalizer_fn, normalizer_params, variables_collections, outputs_collections, sc)


@add_arg_scope
def convolution2d_in_plane(inputs: Any, kernel_size: Any, stride: Any = 1, padding: str = "SAME", activation_fn: Any = nn.relu,
                           normalizer_fn: Any = None, normalizer_params: Any = None, weights_initializer: Any = xavier_initializer(),
                           weights_regularizer: Any = None, biases_initializer: Any = zeros_initializer(), biases_regularizer: Any = None,
                           reuse: Any = None, variables_collections: Any = None, outputs_collections: Any = None, trainable: bool = True,
                           scope: Any = None) -> Tensor:
    """The same filter [h, w, 1, 1] on each channel of [N, H, W, C].  The scope is "ConvInPlane" by default."""
    with variable_scope(scope, "ConvInPlane", [inputs], reuse=reuse) as sc:
        inputs = convert_to_tensor(inputs)
        height, width = two_element_tuple(kernel_size)
        down, right = two_element_tuple(stride)
        channels = last_dimension(inputs.shape, 4)
        weights = _parameter("weights", [height, width, 1, 1], inputs, weights_initializer, weights_regularizer, variables_collections,
                             trainable)
        outputs = nn.depthwise_conv2d(inputs, array_ops.tile(weights, [1, 1, channels, 1]), [1, down, right, 1], padding)
        if normalizer_fn is None and biases_initializer is not None:
            outputs = nn.bias_add(outputs, _parameter("biases", [channels], inputs, biases_initializer, biases_regularizer,
                                                      variables_collections, trainable))
        return finished(outputs, activation_fn, outputs_collections, sc.name, normalizer_fn, normalizer_params)


def _parameter(name: str, shape: list[int], like: Tensor, initializer: Any, regularizer: Any, collections: Any, trainable: bool) -> Any:
    return model_variable(name, shape=shape, dtype=like.dtype.base_dtype, initializer=initializer, regularizer=regularizer,
                          collections=get_variable_collections(collections, name.removeprefix("depthwise_")), trainable=trainable)


@add_arg_scope
def separable_convolution2d(inputs: Any, num_outputs: int | None, kernel_size: Any, depth_multiplier: int = 1, stride: Any = 1,
                            padding: str = "SAME", data_format: str = "NHWC", rate: Any = 1, activation_fn: Any = nn.relu,
                            normalizer_fn: Any = None, normalizer_params: Any = None, weights_initializer: Any = xavier_initializer(),
                            pointwise_initializer: Any = None, weights_regularizer: Any = None,
                            biases_initializer: Any = zeros_initializer(), biases_regularizer: Any = None, reuse: Any = None,
                            variables_collections: Any = None, outputs_collections: Any = None, trainable: bool = True,
                            scope: Any = None) -> Tensor:
    """A depthwise convolution, then a 1x1 one; only the first if `num_outputs` is None.

    Variables: depthwise_weights [h, w, C, depth_multiplier], pointwise_weights [1, 1, C * depth_multiplier, num_outputs], biases.
    The scope is "SeparableConv2d" by default.
    """
    first = checked_format(data_format, ("NCHW", "NHWC"))
    getter = variable_getter(bias="biases", depthwise_kernel="depthwise_weights", pointwise_kernel="pointwise_weights")
    with variable_scope(scope, "SeparableConv2d", [inputs], reuse=reuse, custom_getter=getter) as sc:
        inputs = convert_to_tensor(inputs)
        if num_outputs is not None:
            layer = convolutional.SeparableConv2D(
                num_outputs, _plain(kernel_size), _plain(stride), padding, _format(first), two_element_tuple(rate), depth_multiplier, None,
                bool(not normalizer_fn and biases_initializer), weights_initializer, pointwise_initializer or weights_initializer,
                biases_initializer, weights_regularizer, weights_regularizer, biases_regularizer, trainable=trainable, name=sc.name,
                dtype=inputs.dtype.base_dtype, _scope=sc, _reuse=reuse)
            return _applied(layer, inputs, activation_fn, normalizer_fn, normalizer_params, variables_collections, outputs_collections, sc)
        (height, width), (down, right) = two_element_tuple(kernel_size), two_element_tuple(stride)
        channels = channel_dimension(inputs.shape, _format(first), 4)
        weights = _parameter("depthwise_weights", [height, width, channels, depth_multiplier], inputs, weights_initializer,
                             weights_regularizer, variables_collections, trainable)
        outputs = nn.depthwise_conv2d(inputs, weights, [1, 1, down, right] if first else [1, down, right, 1], padding,
                                      rate=list(two_element_tuple(rate)), data_format=data_format)
        if normalizer_fn is None and biases_initializer is not None:
            outputs = nn.bias_add(outputs, _parameter("biases", [depth_multiplier * channels], inputs, biases_initializer,
                                                      biases_regularizer, variables_collections, trainable), data_format=data_format)
        return finished(outputs, activation_fn, outputs_collections, sc.name, normalizer_fn, normalizer_params)


@add_arg_scope
def bias_add(inputs: Any, activation_fn: Any = None, initializer: Any = zeros_initializer(), regularizer: Any = None, reuse: Any = None,
             variables_collections: Any = None, outputs_collections: Any = None, trainable: bool = True, data_format: str = "NHWC",
             scope: Any = None) -> Tensor:
    """activation_fn(inputs + biases), one for each channel.  The scope is "BiasAdd" by default.

    Raises:
        ValueError: an unknown rank or number of channels; "NCHW" and a rank other than 4.
    """
    first = checked_format(data_format, ("NCHW", "NHWC"))
    with variable_scope(scope, "BiasAdd", [inputs], reuse=reuse) as sc:
        inputs = convert_to_tensor(inputs)
        if inputs.shape.ndims is None:
            raise ValueError("Dims of shape must be known but is None")
        if inputs.shape.ndims != 4 and first:
            raise ValueError("Data format NCHW only supports 4D Tensor")
        channels = inputs.shape[1 if first else -1].value
        if channels is None:
            raise ValueError("`C` dimension must be known but is None")
        biases = _parameter("biases", [channels], inputs, initializer, regularizer, variables_collections, trainable)
        return finished(nn.bias_add(inputs, biases, data_format=data_format), activation_fn, outputs_collections, sc.name)


conv1d, conv2d, conv3d = convolution1d, convolution2d, convolution3d
conv2d_transpose, conv3d_transpose = convolution2d_transpose, convolution3d_transpose
conv2d_in_plane, separable_conv2d = convolution2d_in_plane, separable_convolution2d
