"""Fully connected layers, dropout, flatten."""
from __future__ import annotations

from typing import Any

from .. import array_ops, nn, types
from ..graph import Tensor
from ..init_ops import zeros_initializer
from ..ops.contraction import matmul
from ..ops.elementwise import select
from ..ops.opdef import constant_value, convert_to_tensor
from .base import Layer, activated, channels_first


def decided(training: Any) -> bool | None:
    """A training flag as a bool when it is known while building, else None."""
    if isinstance(training, (bool, int)) or training is None:
        return bool(training)
    value = constant_value(convert_to_tensor(training))
    return None if value is None else bool(value)


def switch(training: Any) -> Tensor:
    """A training flag that is a tensor, as a scalar: a placeholder may leave its shape open."""
    flag = convert_to_tensor(training)
    return array_ops.reshape(flag, []) if flag.shape.ndims is None else flag


class Dense(Layer):
    """activation(inputs kernel + bias) on the last axis: [..., K] -> [..., units].

    Variables: kernel [K, units], bias [units].
    """

    min_ndim = 2

    def __init__(self, units: int, activation: Any = None, use_bias: bool = True, kernel_initializer: Any = None,
                 bias_initializer: Any = zeros_initializer(), kernel_regularizer: Any = None, bias_regularizer: Any = None,
                 activity_regularizer: Any = None, kernel_constraint: Any = None, bias_constraint: Any = None, trainable: bool = True,
                 name: str | None = None, **kwargs: Any):
        super().__init__(trainable, name, activity_regularizer=activity_regularizer, **kwargs)
        self.units, self.activation, self.use_bias = int(units), activation, use_bias
        self.kernel_initializer, self.kernel_regularizer, self.kernel_constraint = kernel_initializer, kernel_regularizer, kernel_constraint
        self.bias_initializer, self.bias_regularizer, self.bias_constraint = bias_initializer, bias_regularizer, bias_constraint

    def build(self, input_shape: types.TensorShape) -> None:
        last = input_shape[-1].value
        if last is None:
            raise ValueError("The last dimension of the inputs to `Dense` should be defined. Found `None`.")
        self.kernel = self.add_weight("kernel", [last, self.units], initializer=self.kernel_initializer,
                                      regularizer=self.kernel_regularizer,
                                      constraint=self.kernel_constraint)
        self.bias = self.add_weight("bias", [self.units], initializer=self.bias_initializer, regularizer=self.bias_regularizer,
                                    constraint=self.bias_constraint) if self.use_bias else None
        self.built = True

    def call(self, inputs: Tensor) -> Tensor:
        rank = inputs.shape.ndims
        if rank == 2:
            outputs = matmul(inputs, self.kernel)
        else:
            rows = matmul(array_ops.reshape(inputs, [-1, inputs.shape[-1].value]), self.kernel)
            outputs = array_ops.reshape(rows, array_ops.concat([array_ops.shape(inputs)[:-1], [self.units]], 0))
            outputs.set_shape(self.compute_output_shape(inputs.shape))
        if self.bias is not None:
            outputs = nn.bias_add(outputs, self.bias)
        return activated(outputs, self.activation)

    def compute_output_shape(self, input_shape: Any) -> types.TensorShape:
        return types.TensorShape(input_shape)[:-1].concatenate(self.units)


def dense(inputs: Any, units: int, activation: Any = None, use_bias: bool = True, kernel_initializer: Any = None,
          bias_initializer: Any = zeros_initializer(), kernel_regularizer: Any = None, bias_regularizer: Any = None,
          activity_regularizer: Any = None, kernel_constraint: Any = None, bias_constraint: Any = None, trainable: bool = True,
          name: str | None = None, reuse: Any = None) -> Tensor:
    """`Dense(units, ...)` applied to `inputs`; variables `name/kernel` and `name/bias`."""
    return Dense(units, activation, use_bias, kernel_initializer, bias_initializer, kernel_regularizer, bias_regularizer,
                 activity_regularizer,
                 kernel_constraint, bias_constraint, trainable, name, _scope=name, _reuse=reuse)(inputs)


class Dropout(Layer):
    """Sets a fraction `rate` of the inputs to zero and scales the rest by 1 / (1 - rate), while training."""

    def __init__(self, rate: Any = 0.5, noise_shape: Any = None, seed: int | None = None, name: str | None = None, **kwargs: Any):
        super().__init__(name=name, **kwargs)
        self.rate, self.noise_shape, self.seed = rate, noise_shape, seed

    def call(self, inputs: Tensor, training: Any = False) -> Tensor:
        flag = decided(training)
        if flag is False:
            return array_ops.identity(inputs)
        dropped = nn.dropout(inputs, noise_shape=self.noise_shape, seed=self.seed, rate=self.rate)
        return dropped if flag else select(switch(training), dropped, inputs)

    def compute_output_shape(self, input_shape: Any) -> types.TensorShape:
        return types.TensorShape(input_shape)


def dropout(inputs: Any, rate: Any = 0.5, noise_shape: Any = None, seed: int | None = None, training: Any = False,
            name: str | None = None) -> Tensor:
    """Dropout when `training` (a bool, or a boolean scalar tensor); the identity otherwise."""
    return Dropout(rate, noise_shape, seed, name)(inputs, training=training)


class Flatten(Layer):
    """All axes but the first as one: [N, ...] -> [N, product]."""

    min_ndim = 2

    def __init__(self, data_format: str = "channels_last", **kwargs: Any):
        super().__init__(**kwargs)
        self.data_format = data_format

    def call(self, inputs: Tensor) -> Tensor:
        if channels_first(self.data_format) and inputs.shape.ndims > 2:
            inputs = array_ops.transpose(inputs, [0, *range(2, inputs.shape.ndims), 1])
        first = inputs.shape[0].value
        outputs = array_ops.reshape(inputs, [array_ops.shape(inputs)[0] if first is None else first, -1])
        outputs.set_shape(self.compute_output_shape(inputs.shape))
        return outputs

    def compute_output_shape(self, input_shape: Any) -> types.TensorShape:
        return types.TensorShape([types.TensorShape(input_shape)[0], types.TensorShape(input_shape)[1:].num_elements()])


def flatten(inputs: Any, name: str | None = None, data_format: str = "channels_last") -> Tensor:
    """`inputs` [N, ...] as [N, product of the rest]."""
    return Flatten(data_format=data_format, name=name)(inputs)
