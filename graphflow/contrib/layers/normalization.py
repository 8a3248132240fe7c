"""Batch, layer, instance and group normalisation; variables beta, gamma (moving_mean, moving_variance) below the layer's scope."""
from __future__ import annotations

from typing import Any

from ... import array_ops, graph, math_ops, nn, types
from ...graph import GraphKeys, Tensor
from ...init_ops import ones_initializer, zeros_initializer
from ...layers.normalization import BatchNormalization
from ...ops import state
from ...ops.elementwise import select
from ...ops.opdef import convert_to_tensor
from ...train.moving_averages import assign_moving_average
from ...train.optimizer import make_slot, start_of
from ...variable_scope import variable_scope
from ..framework.arg_scope import add_arg_scope
from ..framework.variables import model_variable
from .utils import add_to_variable_collections, checked_format, finished, get_variable_collections, variable_getter

__all__ = ["batch_norm", "group_norm", "instance_norm", "layer_norm"]


class _BatchNorm(BatchNormalization):
    """What contrib adds to the layer: weighted batches, where the updates go, averages corrected for their start at zero."""

    def __init__(self, updates_collections: Any, zero_debias: bool, batch_weights: Any, **kwargs: Any):
        super().__init__(**kwargs)
        self._collections, self._zero_debias, self._weights = updates_collections, zero_debias, batch_weights
        self._forced: list[Any] = []
        # TF1 makes beta first, except where it goes through tf.layers.
        self.beta_first = batch_weights is not None or zero_debias or updates_collections != GraphKeys.UPDATE_OPS

    def build(self, input_shape: types.TensorShape) -> None:
        self.beta_first = self.beta_first or input_shape.ndims == 2 and self.fused is not False
        super().build(input_shape)

    def call(self, inputs: Tensor, training: Any = False) -> Tensor:
        outputs = super().call(inputs, training)
        if not self._forced:
            return outputs
        with graph.get_default_graph().control_dependencies(self._forced):
            return array_ops.identity(outputs)

    def _statistics(self, x: Tensor, data_format: str) -> tuple[Tensor, Tensor, Tensor]:
        rank = x.shape.ndims
        if self._weights is None:
            # Matrices go through TF1's fused kernel as images of one pixel: the average follows the variance with n - 1.
            if rank == 2 and self.fused is not False:
                mean, variance, _ = super()._statistics(x, data_format)
                return mean, variance, variance * self._unbiasing(x)
            return super()._statistics(x, data_format)
        channel = 1 if data_format == "NCHW" else rank - 1
        weights = array_ops.reshape(convert_to_tensor(self._weights, x.dtype), [-1] + [1] * (rank - 1))
        mean, variance = nn.weighted_moments(x, [i for i in range(rank) if i != channel], weights)
        return mean, variance, variance

    @staticmethod
    def _unbiasing(x: Tensor) -> Tensor:
        n = math_ops.cast(array_ops.shape(x)[0], x.dtype)
        return n / math_ops.maximum(n - 1.0, 1.0)

    def _track(self, mean: Tensor, variance: Tensor, training: Any, flag: bool | None) -> None:
        g = graph.get_default_graph()
        given = training if flag is None else None
        updates = [_follow(self.moving_mean, mean, self.momentum, given, self._zero_debias),
                   _follow(self.moving_variance, variance, self.momentum, given, False)]
        if self._collections is None:
            self._forced = updates
        else:
            for update in updates:
                g.add_to_collections(self._collections, update)


def _follow(average: Any, value: Tensor, decay: Any, training: Any, zero_debias: bool) -> Tensor:
    """Moves an average to `value`; only where `training`, a tensor, is true, if it is given."""
    if training is None:
        return assign_moving_average(average, value, decay, zero_debias)
    dtype = average.dtype.base_dtype
    decay = math_ops.cast(convert_to_tensor(decay), dtype)
    training = convert_to_tensor(training)
    if not zero_debias:  # a decay of 1 leaves the average as it is
        return assign_moving_average(average, value, select(training, decay, convert_to_tensor(1.0, dtype)), False)
    biased = make_slot(average, start_of(average), "biased")
    local_step = make_slot(average, lambda: convert_to_tensor(0.0, dtype), "local_step")
    new = biased - (biased - value) * (1.0 - decay)
    step = local_step + 1.0
    corrected = new / (1.0 - math_ops.pow(decay, step))
    writes = [state.assign(biased, select(training, new, biased.value())), state.assign(local_step, select(training, step,
                                                                                                         local_step.value()))]
    with graph.get_default_graph().control_dependencies([w.op for w in writes]):
        return state.assign(average, select(training, corrected, average.value()))


@add_arg_scope
def batch_norm(inputs: Any, decay: Any = 0.999, center: bool = True, scale: bool = False, epsilon: float = 0.001, activation_fn: Any = None,
               param_initializers: Any = None, param_regularizers: Any = None, updates_collections: Any = GraphKeys.UPDATE_OPS,
               is_training: Any = True, reuse: Any = None, variables_collections: Any = None, outputs_collections: Any = None,
               trainable: bool = True, batch_weights: Any = None, fused: bool | None = None, data_format: str = "NHWC",
               zero_debias_moving_mean: bool = False, scope: Any = None, renorm: bool = False, renorm_clipping: Any = None,
               renorm_decay: float = 0.99, adjustment: Any = None) -> Tensor:
    """gamma (x - mean) / sqrt(variance + epsilon) + beta over each channel (Ioffe and Szegedy 2015).

    Args:
        decay: of the moving averages.
        center, scale: whether there is a beta, a gamma.
        param_initializers, param_regularizers: {"beta": ..., "gamma": ..., "moving_mean": ..., "moving_variance": ...}.
        updates_collections: where the operations that move the averages go; None: they run with the outputs.
        is_training: a bool or a boolean scalar; the batch's statistics are used if true, else the averages.
        batch_weights: [batch], weights of the examples in the statistics.
        fused: images and matrices: whether the variance follows TF1's fused kernel (divided by n - 1); True by default.
        zero_debias_moving_mean: correct the mean for its start at zero, with variables "biased" and "local_step".
        renorm, renorm_clipping, renorm_decay, adjustment: not supported.
        others: as in `fully_connected`; the scope is "BatchNorm" by default.

    Raises:
        ValueError: an unknown rank, number of channels or format.  NotImplementedError: renorm or adjustment.
    """
    if renorm or adjustment is not None:
        raise NotImplementedError("batch_norm: renorm and adjustment are not supported")
    first = checked_format(data_format, ("NCHW", "NHWC"))
    inputs = convert_to_tensor(inputs)
    rank = inputs.shape.ndims
    if rank is None:
        raise ValueError(f"Inputs {inputs.name} has undefined rank.")
    if inputs.shape[1 if first else -1].value is None:
        raise ValueError(f"Inputs {inputs.name} has undefined channels dimension: {inputs.shape}.")
    fusable = batch_weights is None and rank in (2, 4) and fused is not False
    initial, penalty = param_initializers or {}, param_regularizers or {}
    with variable_scope(scope, "BatchNorm", [inputs], reuse=reuse, custom_getter=variable_getter()) as sc:
        layer = _BatchNorm(
            updates_collections, zero_debias_moving_mean, batch_weights, axis=1 if first else -1, momentum=decay,
            epsilon=max(epsilon, 1.001e-5) if fusable else epsilon, center=center, scale=scale,
            beta_initializer=initial.get("beta", zeros_initializer()), gamma_initializer=initial.get("gamma", ones_initializer()),
            moving_mean_initializer=initial.get("moving_mean", zeros_initializer()),
            moving_variance_initializer=initial.get("moving_variance", ones_initializer()), beta_regularizer=penalty.get("beta"),
            gamma_regularizer=penalty.get("gamma"), trainable=trainable, fused=fusable, name=sc.name, _scope=sc, _reuse=reuse,
            dtype=inputs.dtype.base_dtype)
        outputs = layer.apply(inputs, training=is_training)
        for name in ("moving_mean", "moving_variance", "beta", "gamma"):
            add_to_variable_collections(getattr(layer, name), variables_collections, name)
        return finished(outputs, activation_fn, outputs_collections, sc.name)


def _parameters(center: bool, scale: bool, shape: Any, dtype: types.DType, initial: dict[str, Any], collections: Any,
                trainable: bool) -> tuple[Any, Any]:
    """(beta, gamma), None where not wanted."""
    found = [model_variable(name, shape=shape, dtype=dtype, initializer=initial.get(name, default),
                            collections=get_variable_collections(collections, name), trainable=trainable) if wanted else None
             for wanted, name, default in ((center, "beta", zeros_initializer()), (scale, "gamma", ones_initializer()))]
    return found[0], found[1]


def _ranked(inputs: Any) -> tuple[Tensor, int]:
    inputs = convert_to_tensor(inputs)
    if inputs.shape.ndims is None:
        raise ValueError(f"Inputs {inputs.name} has undefined rank.")
    return inputs, inputs.shape.ndims


@add_arg_scope
def layer_norm(inputs: Any, center: bool = True, scale: bool = True, activation_fn: Any = None, reuse: Any = None,
               variables_collections: Any = None, outputs_collections: Any = None, trainable: bool = True, begin_norm_axis: int = 1,
               begin_params_axis: int = -1, scope: Any = None) -> Tensor:
    """gamma (x - mean) / sqrt(variance + 1e-12) + beta, mean and variance over each example (Ba et al. 2016).

    Args:
        begin_norm_axis: the statistics are over this axis and those behind it.
        begin_params_axis: beta and gamma have the shape of this axis and those behind it.
        others: as in `fully_connected`; the scope is "LayerNorm" by default.

    Raises:
        ValueError: an unknown rank, an axis past it, or unknown sizes of beta and gamma.
    """
    with variable_scope(scope, "LayerNorm", [inputs], reuse=reuse) as sc:
        inputs, rank = _ranked(inputs)
        begin = begin_norm_axis + rank if begin_norm_axis < 0 else begin_norm_axis
        if begin_params_axis >= rank or begin >= rank:
            raise ValueError(f"begin_params_axis ({begin_params_axis}) and begin_norm_axis ({begin_norm_axis}) must be < rank(inputs) "
                             f"({rank})")
        shape = inputs.shape[begin_params_axis:]
        if not shape.is_fully_defined():
            raise ValueError(f"Inputs {inputs.name}: shape(inputs)[{begin_params_axis}:] is not fully defined: {inputs.shape}")
        dtype = inputs.dtype.base_dtype
        beta, gamma = _parameters(center, scale, shape, dtype, {}, variables_collections, trainable)
        mean, variance = nn.moments(inputs, list(range(begin, rank)), keep_dims=True)
        outputs = nn.batch_normalization(inputs, mean, variance, beta, gamma, 1e-3 if dtype is types.float16 else 1e-12)
        outputs.set_shape(inputs.shape)
        return finished(outputs, activation_fn, outputs_collections, sc.name)


@add_arg_scope
def instance_norm(inputs: Any, center: bool = True, scale: bool = True, epsilon: float = 1e-6, activation_fn: Any = None,
                  param_initializers: Any = None, reuse: Any = None, variables_collections: Any = None, outputs_collections: Any = None,
                  trainable: bool = True, data_format: str = "NHWC", scope: Any = None) -> Tensor:
    """gamma (x - mean) / sqrt(variance + epsilon) + beta over each channel of each example (Ulyanov et al. 2016).

    The scope is "InstanceNorm" by default.
    """
    inputs, rank = _ranked(inputs)
    first = checked_format(data_format, ("NCHW", "NHWC"))
    with variable_scope(scope, "InstanceNorm", [inputs], reuse=reuse) as sc:
        axis = 1 if first else rank - 1
        shape = inputs.shape[axis:axis + 1]
        if not shape.is_fully_defined():
            raise ValueError(f"Inputs {inputs.name} has undefined channels dimension {shape}.")
        beta, gamma = _parameters(center, scale, shape, inputs.dtype.base_dtype, param_initializers or {}, variables_collections, trainable)
        if first:
            beta, gamma = (None if v is None else array_ops.reshape(v, [1, shape[0].value] + [1] * (rank - 2)) for v in (beta, gamma))
        mean, variance = nn.moments(inputs, [i for i in range(1, rank) if i != axis], keep_dims=True)
        outputs = nn.batch_normalization(inputs, mean, variance, beta, gamma, epsilon, name="instancenorm")
        return finished(outputs, activation_fn, outputs_collections, sc.name)


@add_arg_scope
def group_norm(inputs: Any, groups: int = 32, channels_axis: int = -1, reduction_axes: Any = (-3, -2), center: bool = True,
               scale: bool = True, epsilon: float = 1e-6, activation_fn: Any = None, param_initializers: Any = None, reuse: Any = None,
               variables_collections: Any = None, outputs_collections: Any = None, trainable: bool = True, scope: Any = None,
               mean_close_to_zero: bool = False) -> Tensor:
    """gamma (x - mean) / sqrt(variance + epsilon) + beta over each group of channels of each example (Wu and He 2018).

    Args:
        groups: how many; it divides the number of channels.
        reduction_axes: the axes, beside the channels of a group, that the statistics are over.
        mean_close_to_zero: compute the variance from the sum of squares.

    Raises:
        ValueError: an axis out of range or of unknown size, groups that do not divide the channels.
    """
    inputs, rank = _ranked(inputs)
    if channels_axis > rank - 1 or any(a > rank - 1 for a in reduction_axes):
        raise ValueError("Axis is out of bounds.")
    axis, reduced = channels_axis % rank, [a % rank for a in reduction_axes]
    channels = inputs.shape[axis].value
    if channels is None:
        raise ValueError(f"Inputs {inputs.name} has undefined channel dimension: {axis}.")
    for a in reduced:
        if inputs.shape[a].value is None:
            raise ValueError(f"Inputs {inputs.name} has undefined dimensions {a}.")
    if axis in reduced:
        raise ValueError("reduction_axis must be mutually exclusive with channels_axis")
    if groups > channels:
        raise ValueError(f"Invalid groups {groups} for {channels} channels.")
    if channels % groups:
        raise ValueError(f"{channels} channels is not commensurate with {groups} groups.")
    dynamic = array_ops.shape(inputs)
    sizes = [dynamic[i] if n is None else n for i, n in enumerate(inputs.shape.as_list())]
    split = [groups, channels // groups]
    with variable_scope(scope, "GroupNorm", [inputs], reuse=reuse) as sc:
        beta, gamma = _parameters(center, scale, [channels], inputs.dtype.base_dtype, param_initializers or {}, variables_collections,
                                  trainable)
        beta, gamma = (None if v is None else array_ops.reshape(v, [1] * axis + split + [1] * (rank - 1 - axis)) for v in (beta, gamma))
        x = array_ops.reshape(inputs, sizes[:axis] + split + sizes[axis + 1:])
        axes = [axis + 1] + [a + 1 if a > axis else a for a in reduced]
        if mean_close_to_zero:
            counts, total, squares, _ = nn.sufficient_statistics(x, axes, keep_dims=True)
            mean, variance = nn.normalize_moments(counts, total, squares, shift=None)
        else:
            mean, variance = nn.moments(x, axes, keep_dims=True)
        outputs = array_ops.reshape(nn.batch_normalization(x, mean, variance, beta, gamma, epsilon), sizes)
        outputs.set_shape(inputs.shape)
        return finished(outputs, activation_fn, outputs_collections, sc.name)
