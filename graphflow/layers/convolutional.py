"""Convolution layers in one, two and three dimensions, transposed and separable ones.

Inputs are [N, spatial..., C] ("channels_last") or [N, C, spatial...] ("channels_first").
"""
from __future__ import annotations

from typing import Any

from .. import array_ops, nn, types
from ..graph import Tensor
from ..init_ops import zeros_initializer
from .base import Layer, activated, channels_first, format_of, numbers, padding_of

_ZEROS = zeros_initializer()


class _Conv(Layer):
    """A convolution of `rank` spatial dimensions; variables kernel [window..., C, filters], bias [filters]."""

    rank = 2

    def __init__(self, filters: int, kernel_size: Any, strides: Any = 1, padding: str = "valid", data_format: str = "channels_last",
                 dilation_rate: Any = 1, activation: Any = None, use_bias: bool = True, kernel_initializer: Any = None,
                 bias_initializer: Any = _ZEROS, kernel_regularizer: Any = None, bias_regularizer: Any = None,
                 activity_regularizer: Any = None,
                 kernel_constraint: Any = None, bias_constraint: Any = None, trainable: bool = True, name: str | None = None,
                 **kwargs: Any):
        super().__init__(trainable, name, activity_regularizer=activity_regularizer, **kwargs)
        self.filters, self.ndim = int(filters), self.rank + 2
        self.kernel_size, self.strides = numbers(kernel_size, self.rank, "kernel_size"), numbers(strides, self.rank, "strides")
        self.dilation_rate = numbers(dilation_rate, self.rank, "dilation_rate")
        if max(self.strides) > 1 and max(self.dilation_rate) > 1:
            raise ValueError(f"`strides > 1` not supported in conjunction with `dilation_rate > 1`: got {self.strides} and "
                             f"{self.dilation_rate}")
        self.padding, self.data_format, self.first = padding_of(padding), data_format, channels_first(data_format)
        self.format = format_of(self.first, self.rank)
        self.activation, self.use_bias = activation, use_bias
        self.kernel_initializer, self.kernel_regularizer, self.kernel_constraint = kernel_initializer, kernel_regularizer, kernel_constraint
        self.bias_initializer, self.bias_regularizer, self.bias_constraint = bias_initializer, bias_regularizer, bias_constraint

    def channels(self, input_shape: types.TensorShape) -> int:
        found = input_shape[1 if self.first else -1].value
        if found is None:
            raise ValueError("The channel dimension of the inputs should be defined. Found `None`.")
        return found

    def kernel_shape(self, channels: int) -> list[int]:
        return [*self.kernel_size, channels, self.filters]

    def build(self, input_shape: types.TensorShape) -> None:
        self.kernel = self.add_weight("kernel", self.kernel_shape(self.channels(input_shape)), initializer=self.kernel_initializer,
                                      regularizer=self.kernel_regularizer, constraint=self.kernel_constraint)
        self._build_bias()

    def _build_bias(self) -> None:
        self.bias = self.add_weight("bias", [self.filters], initializer=self.bias_initializer, regularizer=self.bias_regularizer,
                                    constraint=self.bias_constraint) if self.use_bias else None
        self.built = True

    def convolve(self, inputs: Tensor) -> Tensor:
        return nn.convolution(inputs, self.kernel, self.padding, strides=self.strides, dilation_rate=self.dilation_rate,
                              data_format=self.format, name=("conv1d", "Conv2D", "Conv3D")[self.rank - 1])

    def call(self, inputs: Tensor) -> Tensor:
        outputs = self.convolve(inputs)
        if self.bias is not None:
            outputs = nn.bias_add(outputs, self.bias, data_format="NCHW" if self.first else "NHWC")
        return activated(outputs, self.activation)

    def compute_output_shape(self, input_shape: Any) -> types.TensorShape:
        """The output's shape, from the arithmetic of padding, strides and dilation."""
        sizes = types.TensorShape(input_shape).as_list()
        space = sizes[2:] if self.first else sizes[1:-1]
        out = [None if n is None else self.output_length(n, i) for i, n in enumerate(space)]
        return types.TensorShape([sizes[0], self.filters, *out] if self.first else [sizes[0], *out, self.filters])

    def output_length(self, n: int, i: int) -> int:
        reach = 0 if self.padding == "SAME" else (self.kernel_size[i] - 1) * self.dilation_rate[i]
        return -(-(n - reach) // self.strides[i])


class Conv1D(_Conv):
    """1-D convolution of [N, W, C]."""

    rank = 1


class Conv2D(_Conv):
    """2-D convolution of [N, H, W, C]."""


class Conv3D(_Conv):
    """3-D convolution of [N, D, H, W, C]."""

    rank = 3


class Conv2DTranspose(_Conv):
    """The gradient of a 2-D convolution as a layer: sizes grow by the strides.  kernel is [h, w, filters, C]."""

    def __init__(self, filters: int, kernel_size: Any, strides: Any = 1, padding: str = "valid", data_format: str = "channels_last",
                 activation: Any = None, use_bias: bool = True, kernel_initializer: Any = None, bias_initializer: Any = _ZEROS,
                 kernel_regularizer: Any = None, bias_regularizer: Any = None, activity_regularizer: Any = None,
                 kernel_constraint: Any = None, bias_constraint: Any = None, trainable: bool = True, name: str | None = None,
                 **kwargs: Any):
        super().__init__(filters, kernel_size, strides, padding, data_format, 1, activation, use_bias, kernel_initializer,
                         bias_initializer, kernel_regularizer, bias_regularizer, activity_regularizer, kernel_constraint, bias_constraint,
                         trainable, name, **kwargs)

    def kernel_shape(self, channels: int) -> list[int]:
        return [*self.kernel_size, self.filters, channels]

    def output_length(self, n: Any, i: int) -> Any:
        return n * self.strides[i] + (max(self.kernel_size[i] - self.strides[i], 0) if self.padding == "VALID" else 0)

    def convolve(self, inputs: Tensor) -> Tensor:
        static, dynamic, start = inputs.shape.as_list(), array_ops.shape(inputs), 2 if self.first else 1
        sizes = [dynamic[i] if n is None else n for i, n in enumerate(static)]
        space = [self.output_length(sizes[start + i], i) for i in range(self.rank)]
        shape = [sizes[0], self.filters, *space] if self.first else [sizes[0], *space, self.filters]
        strides = (1, 1, *self.strides) if self.first else (1, *self.strides, 1)
        transpose = nn.conv2d_transpose if self.rank == 2 else nn.conv3d_transpose
        outputs = transpose(inputs, self.kernel, array_ops.stack(shape) if None in static else shape, list(strides), padding=self.padding,
                            data_format=self.format)
        outputs.set_shape(self.compute_output_shape(inputs.shape))
        return outputs


class Conv3DTranspose(Conv2DTranspose):
    """The gradient of a 3-D convolution as a layer."""

    rank = 3


class _SeparableConv(_Conv):
    """A depthwise convolution, then one with a window of 1."""

    def __init__(self, filters: int, kernel_size: Any, strides: Any = 1, padding: str = "valid", data_format: str = "channels_last",
                 dilation_rate: Any = 1, depth_multiplier: int = 1, activation: Any = None, use_bias: bool = True,
                 depthwise_initializer: Any = None, pointwise_initializer: Any = None, bias_initializer: Any = _ZEROS,
                 depthwise_regularizer: Any = None, pointwise_regularizer: Any = None, bias_regularizer: Any = None,
                 activity_regularizer: Any = None, depthwise_constraint: Any = None, pointwise_constraint: Any = None,
                 bias_constraint: Any = None, trainable: bool = True, name: str | None = None, **kwargs: Any):
        super().__init__(filters, kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias, None, bias_initializer,
                         None,
                         bias_regularizer, activity_regularizer, None, bias_constraint, trainable, name, **kwargs)
        self.depth_multiplier = depth_multiplier
        self.depthwise = depthwise_initializer, depthwise_regularizer, depthwise_constraint
        self.pointwise = pointwise_initializer, pointwise_regularizer, pointwise_constraint

    depthwise_kernel: Any
    pointwise_kernel: Any

    def build(self, input_shape: types.TensorShape) -> None:
        channels = self.channels(input_shape)
        inner = channels * self.depth_multiplier
        for name, shape, (init, regularizer, constraint) in (
                                      ("depthwise_kernel", [*self.kernel_size, channels, self.depth_multiplier], self.depthwise),
                                       ("pointwise_kernel", [*[1] * self.rank, inner, self.filters], self.pointwise)):
            setattr(self, name, self.add_weight(name, shape, initializer=init, regularizer=regularizer, constraint=constraint))
        self._build_bias()


class SeparableConv1D(_SeparableConv):
    """A depthwise convolution of sequences, then one with a window of 1.

    Variables depthwise_kernel [w, C, multiplier], pointwise_kernel [1, C * multiplier, filters], bias [filters].
    """

    rank = 1

    def convolve(self, inputs: Tensor) -> Tensor:
        height = 2 if self.first else 1  # sequences are images of height 1
        strides = (1, 1, *self.strides * 2) if self.first else (1, *self.strides * 2, 1)
        outputs = nn.separable_conv2d(array_ops.expand_dims(inputs, height), array_ops.expand_dims(self.depthwise_kernel, 0),
                                      array_ops.expand_dims(self.pointwise_kernel, 0), strides=list(strides), padding=self.padding,
                                      rate=[1, *self.dilation_rate], data_format=format_of(self.first, 2))
        return array_ops.squeeze(outputs, [height])


class SeparableConv2D(_SeparableConv):
    """A depthwise convolution of images, then one with a window of 1.

    Variables depthwise_kernel [h, w, C, multiplier], pointwise_kernel [1, 1, C * multiplier, filters], bias [filters].
    """

    def convolve(self, inputs: Tensor) -> Tensor:
        strides = (1, 1, *self.strides) if self.first else (1, *self.strides, 1)
        return nn.separable_conv2d(inputs, self.depthwise_kernel, self.pointwise_kernel, strides=list(strides), padding=self.padding,
                                   rate=list(self.dilation_rate), data_format=self.format)


def conv1d(inputs: Any, filters: int, kernel_size: Any, strides: Any = 1, padding: str = "valid", data_format: str = "channels_last",
           dilation_rate: Any = 1, activation: Any = None, use_bias: bool = True, kernel_initializer: Any = None,
           bias_initializer: Any = _ZEROS,
           kernel_regularizer: Any = None, bias_regularizer: Any = None, activity_regularizer: Any = None, kernel_constraint: Any = None,
           bias_constraint: Any = None, trainable: bool = True, name: str | None = None, reuse: Any = None) -> Tensor:
    """`Conv1D(filters, kernel_size, ...)` applied to `inputs`."""
    return Conv1D(filters, kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias, kernel_initializer,
                  bias_initializer,
                  kernel_regularizer, bias_regularizer, activity_regularizer, kernel_constraint, bias_constraint, trainable, name,
                  _scope=name, _reuse=reuse)(inputs)


def conv2d(inputs: Any, filters: int, kernel_size: Any, strides: Any = (1, 1), padding: str = "valid", data_format: str = "channels_last",
           dilation_rate: Any = (1, 1), activation: Any = None, use_bias: bool = True, kernel_initializer: Any = None,
           bias_initializer: Any = _ZEROS,
           kernel_regularizer: Any = None, bias_regularizer: Any = None, activity_regularizer: Any = None, kernel_constraint: Any = None,
           bias_constraint: Any = None, trainable: bool = True, name: str | None = None, reuse: Any = None) -> Tensor:
    """`Conv2D(filters, kernel_size, ...)` applied to `inputs`."""
    return Conv2D(filters, kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias, kernel_initializer,
                  bias_initializer,
                  kernel_regularizer, bias_regularizer, activity_regularizer, kernel_constraint, bias_constraint, trainable, name,
                  _scope=name, _reuse=reuse)(inputs)


def conv3d(inputs: Any, filters: int, kernel_size: Any, strides: Any = (1, 1, 1), padding: str = "valid",
           data_format: str = "channels_last",
           dilation_rate: Any = (1, 1, 1), activation: Any = None, use_bias: bool = True, kernel_initializer: Any = None,
           bias_initializer: Any = _ZEROS, kernel_regularizer: Any = None, bias_regularizer: Any = None, activity_regularizer: Any = None,
           kernel_constraint: Any = None, bias_constraint: Any = None, trainable: bool = True, name: str | None = None,
           reuse: Any = None) -> Tensor:
    """`Conv3D(filters, kernel_size, ...)` applied to `inputs`."""
    return Conv3D(filters, kernel_size, strides, padding, data_format, dilation_rate, activation, use_bias, kernel_initializer,
                  bias_initializer,
                  kernel_regularizer, bias_regularizer, activity_regularizer, kernel_constraint, bias_constraint, trainable, name,
                  _scope=name, _reuse=reuse)(inputs)


def conv2d_transpose(inputs: Any, filters: int, kernel_size: Any, strides: Any = (1, 1), padding: str = "valid",
                     data_format: str = "channels_last",
                     activation: Any = None, use_bias: bool = True, kernel_initializer: Any = None, bias_initializer: Any = _ZEROS,
                     kernel_regularizer: Any = None, bias_regularizer: Any = None, activity_regularizer: Any = None,
                     kernel_constraint: Any = None,
                     bias_constraint: Any = None, trainable: bool = True, name: str | None = None, reuse: Any = None) -> Tensor:
    """`Conv2DTranspose(filters, kernel_size, ...)` applied to `inputs`."""
    return Conv2DTranspose(filters, kernel_size, strides, padding, data_format, activation, use_bias, kernel_initializer, bias_initializer,
                           kernel_regularizer, bias_regularizer, activity_regularizer, kernel_constraint, bias_constraint, trainable, name,
                           _scope=name, _reuse=reuse)(inputs)


def conv3d_transpose(inputs: Any, filters: int, kernel_size: Any, strides: Any = (1, 1, 1), padding: str = "valid",
                     data_format: str = "channels_last",
                     activation: Any = None, use_bias: bool = True, kernel_initializer: Any = None, bias_initializer: Any = _ZEROS,
                     kernel_regularizer: Any = None, bias_regularizer: Any = None, activity_regularizer: Any = None,
                     kernel_constraint: Any = None,
                     bias_constraint: Any = None, trainable: bool = True, name: str | None = None, reuse: Any = None) -> Tensor:
    """`Conv3DTranspose(filters, kernel_size, ...)` applied to `inputs`."""
    return Conv3DTranspose(filters, kernel_size, strides, padding, data_format, activation, use_bias, kernel_initializer, bias_initializer,
                           kernel_regularizer, bias_regularizer, activity_regularizer, kernel_constraint, bias_constraint, trainable, name,
                           _scope=name, _reuse=reuse)(inputs)


def separable_conv1d(inputs: Any, filters: int, kernel_size: Any, strides: Any = 1, padding: str = "valid",
                     data_format: str = "channels_last",
                     dilation_rate: Any = 1, depth_multiplier: int = 1, activation: Any = None, use_bias: bool = True,
                     depthwise_initializer: Any = None, pointwise_initializer: Any = None, bias_initializer: Any = _ZEROS,
                     depthwise_regularizer: Any = None, pointwise_regularizer: Any = None, bias_regularizer: Any = None,
                     activity_regularizer: Any = None, depthwise_constraint: Any = None, pointwise_constraint: Any = None,
                     bias_constraint: Any = None, trainable: bool = True, name: str | None = None, reuse: Any = None) -> Tensor:
    """`SeparableConv1D(filters, kernel_size, ...)` applied to `inputs`."""
    return SeparableConv1D(filters, kernel_size, strides, padding, data_format, dilation_rate, depth_multiplier, activation, use_bias,
                           depthwise_initializer, pointwise_initializer, bias_initializer, depthwise_regularizer, pointwise_regularizer,
                           bias_regularizer, activity_regularizer, depthwise_constraint, pointwise_constraint, bias_constraint, trainable,
                           name, _scope=name, _reuse=reuse)(inputs)


def separable_conv2d(inputs: Any, filters: int, kernel_size: Any, strides: Any = (1, 1), padding: str = "valid",
                     data_format: str = "channels_last",
                     dilation_rate: Any = (1, 1), depth_multiplier: int = 1, activation: Any = None, use_bias: bool = True,
                     depthwise_initializer: Any = None, pointwise_initializer: Any = None, bias_initializer: Any = _ZEROS,
                     depthwise_regularizer: Any = None, pointwise_regularizer: Any = None, bias_regularizer: Any = None,
                     activity_regularizer: Any = None, depthwise_constraint: Any = None, pointwise_constraint: Any = None,
                     bias_constraint: Any = None, trainable: bool = True, name: str | None = None, reuse: Any = None) -> Tensor:
    """`SeparableConv2D(filters, kernel_size, ...)` applied to `inputs`."""
    return SeparableConv2D(filters, kernel_size, strides, padding, data_format, dilation_rate, depth_multiplier, activation, use_bias,
                           depthwise_initializer, pointwise_initializer, bias_initializer, depthwise_regularizer, pointwise_regularizer,
                           bias_regularizer, activity_regularizer, depthwise_constraint, pointwise_constraint, bias_constraint, trainable,
                           name,
                           _scope=name, _reuse=reuse)(inputs)


Convolution1D, Convolution2D, Convolution3D = Conv1D, Conv2D, Conv3D
Convolution2DTranspose, Convolution3DTranspose, Deconvolution2D = Conv2DTranspose, Conv3DTranspose, Conv2DTranspose
SeparableConvolution1D, SeparableConvolution2D = SeparableConv1D, SeparableConv2D
