"""Batch normalisation."""
from __future__ import annotations

from typing import Any

from .. import array_ops, graph, math_ops, types
from ..graph import Tensor
from ..init_ops import ones_initializer, zeros_initializer
from ..ops.elementwise import select
from ..ops.nn_ops import fused_batch_norm
from ..ops.opdef import convert_to_tensor
from ..train.moving_averages import assign_moving_average
from .base import Layer
from .core import decided, switch


class BatchNormalization(Layer):
    """gamma (x - mean) / sqrt(variance + epsilon) + beta over each channel (Ioffe and Szegedy 2015).

    Variables: gamma, beta, moving_mean, moving_variance, each of shape [channels].  While training the batch's statistics
    are used, and the operations in UPDATE_OPS move the averages: run them with the training step, as in TF1.

    Args:
        axis: the channels.
        momentum: of the moving averages.
        center, scale: whether there is a beta, a gamma.
        renorm, virtual_batch_size, adjustment: not supported.
    """

    min_ndim = 2
    beta_first = False  # the order in which the variables are made

    def __init__(self, axis: Any = -1, momentum: float = 0.99, epsilon: float = 1e-3, center: bool = True, scale: bool = True,
                 beta_initializer: Any = zeros_initializer(), gamma_initializer: Any = ones_initializer(),
                 moving_mean_initializer: Any = zeros_initializer(), moving_variance_initializer: Any = ones_initializer(),
                 beta_regularizer: Any = None, gamma_regularizer: Any = None, beta_constraint: Any = None, gamma_constraint: Any = None,
                 renorm: bool = False, renorm_clipping: Any = None, renorm_momentum: float = 0.99, fused: bool | None = None,
                 trainable: bool = True, virtual_batch_size: int | None = None, adjustment: Any = None, name: str | None = None,
                 **kwargs: Any):
        if renorm or virtual_batch_size is not None or adjustment is not None:
            raise NotImplementedError("batch_normalization: renorm, virtual_batch_size and adjustment are not supported")
        super().__init__(trainable, name, **kwargs)
        self.axis = axis[0] if isinstance(axis, (list, tuple)) and len(axis) == 1 else axis
        self.momentum, self.epsilon, self.center, self.scale, self.fused = momentum, epsilon, center, scale, fused
        self.beta = self.gamma = None
        self._own = (gamma_initializer, gamma_regularizer, gamma_constraint), (beta_initializer, beta_regularizer, beta_constraint)
        self._moving = moving_mean_initializer, moving_variance_initializer

    def build(self, input_shape: types.TensorShape) -> None:
        self._axis = types.canonical_axis(self.axis, input_shape.ndims)
        channels = input_shape[self._axis].value
        if channels is None:
            raise ValueError(f"Input has undefined `axis` dimension. Input shape: {input_shape}")
        dtype = types.float32 if self.dtype in ("float16", "bfloat16") else types.as_dtype(self.dtype)
        parameters = list(zip((self.scale, self.center), ("gamma", "beta"), self._own))
        for wanted, name, (init, regularizer, constraint) in reversed(parameters) if self.beta_first else parameters:
            if wanted:
                setattr(self, name, self.add_weight(name, [channels], dtype, init, regularizer, constraint=constraint))
        self.moving_mean = self.add_weight("moving_mean", [channels], dtype, self._moving[0], trainable=False)
        self.moving_variance = self.add_weight("moving_variance", [channels], dtype, self._moving[1], trainable=False)
        self.built = True

    def call(self, inputs: Tensor, training: Any = False) -> Tensor:
        rank, flag = inputs.shape.ndims, decided(training)
        if self._axis not in (1, rank - 1):
            order = [i for i in range(rank) if i != self._axis] + [self._axis]
            return array_ops.transpose(self._normalise(array_ops.transpose(inputs, order), training, flag, "NHWC"),
                                       sorted(range(rank), key=order.__getitem__))
        return self._normalise(inputs, training, flag, "NHWC" if self._axis == rank - 1 else "NCHW")

    def _normalise(self, x: Tensor, training: Any, flag: bool | None, data_format: str) -> Tensor:
        moving_mean, moving_variance = self.moving_mean.value(), self.moving_variance.value()
        gamma = array_ops.ones_like(moving_mean) if self.gamma is None else self.gamma.value()
        beta = array_ops.zeros_like(moving_mean) if self.beta is None else self.beta.value()
        images = x.shape.ndims == 4 and self.fused is not False
        attrs: dict[str, Any] = {"epsilon": float(self.epsilon), "data_format": data_format,
                                 "name": "FusedBatchNormV3" if images else "batchnorm/add_1"}  # as TF1 calls them
        if flag is False:
            return fused_batch_norm(x, gamma, beta, moving_mean, moving_variance, training=False, **attrs)[0]
        if flag and images:
            y, mean, variance = fused_batch_norm(x, gamma, beta, moving_mean, moving_variance, training=True, **attrs)
        else:
            mean, variance, unbiased = self._statistics(x, data_format)
            used = (mean, variance) if flag else (select(switch(training), mean, moving_mean),
                                                  select(switch(training), variance, moving_variance))
            y = fused_batch_norm(x, gamma, beta, *used, training=False, **attrs)[0]
            variance = unbiased
        self._track(mean, variance, training, flag)
        return y

    def _statistics(self, x: Tensor, data_format: str) -> tuple[Tensor, Tensor, Tensor]:
        """Mean and variance of each channel, and the variance that the moving average follows.

        Images average the variance with n - 1 below, as TF1's fused kernel; other ranks with n.
        """
        rank = x.shape.ndims
        channel = 1 if data_format == "NCHW" else rank - 1
        axes = [i for i in range(rank) if i != channel]
        x = math_ops.cast(x, self.moving_mean.dtype.base_dtype)
        mean = math_ops.reduce_mean(x, axes, keepdims=True)
        centred = x - mean
        variance = math_ops.reduce_mean(centred * centred, axes)
        mean = array_ops.squeeze(mean, axes)
        if rank != 4 or self.fused is False:
            return mean, variance, variance
        n = math_ops.cast(array_ops.size(x), x.dtype) / float(x.shape[channel].value)
        return mean, variance, variance * (n / math_ops.maximum(n - 1.0, 1.0))

    def _track(self, mean: Tensor, variance: Tensor, training: Any, flag: bool | None) -> None:
        decay: Any = self.momentum
        if flag is None:  # not training: a decay of 1 leaves the averages as they are
            dtype = self.moving_mean.dtype.base_dtype
            decay = select(switch(training), convert_to_tensor(float(decay), dtype), convert_to_tensor(1.0, dtype))
        with graph.get_default_graph().control_dependencies(None):
            updates = [assign_moving_average(moving, value, decay, zero_debias=False)
                       for moving, value in ((self.moving_mean, mean), (self.moving_variance, variance))]
        self.add_update(updates)

    def compute_output_shape(self, input_shape: Any) -> types.TensorShape:
        return types.TensorShape(input_shape)


def batch_normalization(inputs: Any, axis: Any = -1, momentum: float = 0.99, epsilon: float = 1e-3, center: bool = True, scale: bool = True,
                        beta_initializer: Any = zeros_initializer(), gamma_initializer: Any = ones_initializer(),
                        moving_mean_initializer: Any = zeros_initializer(), moving_variance_initializer: Any = ones_initializer(),
                        beta_regularizer: Any = None, gamma_regularizer: Any = None, beta_constraint: Any = None,
                        gamma_constraint: Any = None,
                        training: Any = False, trainable: bool = True, name: str | None = None, reuse: Any = None, renorm: bool = False,
                        renorm_clipping: Any = None, renorm_momentum: float = 0.99, fused: bool | None = None,
                        virtual_batch_size: int | None = None, adjustment: Any = None) -> Tensor:
    """`BatchNormalization(...)` applied to `inputs`; `training` is a bool or a boolean scalar tensor."""
    layer = BatchNormalization(axis, momentum, epsilon, center, scale, beta_initializer, gamma_initializer, moving_mean_initializer,
                               moving_variance_initializer, beta_regularizer, gamma_regularizer, beta_constraint, gamma_constraint, renorm,
                               renorm_clipping, renorm_momentum, fused, trainable, virtual_batch_size, adjustment, name, _scope=name,
                               _reuse=reuse)
    return layer(inputs, training=training)


BatchNorm = BatchNormalization
