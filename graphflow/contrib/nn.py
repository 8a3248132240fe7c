"""`tf.contrib.nn`: dropout for self-normalising networks, a softplus with a scale, losses in their older argument order."""
from __future__ import annotations

import numbers
from typing import Any

from .. import array_ops, graph, math_ops, random_ops
from ..candidate_sampling import sampled_softmax_loss
from ..custom_gradient import custom_gradient
from ..graph import Tensor
from ..nn import (conv1d_transpose, sigmoid_cross_entropy_with_logits, softmax_cross_entropy_with_logits, softplus,
                  sparse_softmax_cross_entropy_with_logits)
from ..ops.elementwise import unbroadcast
from ..ops.opdef import constant_value, convert_to_tensor
from . import _old_layout

__all__ = ["alpha_dropout", "conv1d_transpose", "deprecated_flipped_sigmoid_cross_entropy_with_logits",
           "deprecated_flipped_softmax_cross_entropy_with_logits", "deprecated_flipped_sparse_softmax_cross_entropy_with_logits",
           "sampled_sparse_softmax_loss", "scaled_softplus"]

__getattr__ = _old_layout(__name__)


def _scope(name: str | None, default: str) -> Any:
    return graph.get_default_graph().name_scope(name or default)


def alpha_dropout(x: Any, keep_prob: Any, noise_shape: Any = None, seed: int | None = None, name: str | None = None) -> Tensor:
    """Dropout after selu (Klambauer et al. 2017): dropped elements take selu's lower limit, and mean 0 and variance 1 stay.

    Raises:
        ValueError: `keep_prob` is a number outside (0, 1], or a tensor that is no scalar.
    """
    with _scope(name, "alpha_dropout"):
        x = convert_to_tensor(x)
        if isinstance(keep_prob, numbers.Real) and not 0 < float(keep_prob) <= 1:
            raise ValueError(f"keep_prob must be a scalar tensor or a float in the range (0, 1], got {keep_prob:g}")
        keep = convert_to_tensor(keep_prob, x.dtype)
        if keep.shape.ndims not in (0, None):
            raise ValueError(f"keep_prob must be a scalar, got shape {keep.shape}")
        known = constant_value(keep)
        if known is not None and known == 1:
            return x
        lowest = -1.7580993408473766  # -lambda alpha of selu
        u = random_ops.random_uniform(array_ops.shape(x) if noise_shape is None else noise_shape, dtype=x.dtype, seed=seed)
        kept = math_ops.cast(u >= 1.0 - keep, x.dtype)
        scale = math_ops.rsqrt(keep + keep * (1.0 - keep) * lowest ** 2)
        return scale * (x * kept + lowest * (1.0 - kept)) - scale * lowest * (1.0 - keep)


def deprecated_flipped_softmax_cross_entropy_with_logits(logits: Any, labels: Any, dim: int = -1, name: str | None = None) -> Tensor:
    """`tf.nn.softmax_cross_entropy_with_logits`, the logits first."""
    return softmax_cross_entropy_with_logits(labels=labels, logits=logits, dim=dim, name=name)


def deprecated_flipped_sparse_softmax_cross_entropy_with_logits(logits: Any, labels: Any, name: str | None = None) -> Tensor:
    """`tf.nn.sparse_softmax_cross_entropy_with_logits`, the logits first."""
    return sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits, name=name)


def deprecated_flipped_sigmoid_cross_entropy_with_logits(logits: Any, targets: Any, name: str | None = None) -> Tensor:
    """`tf.nn.sigmoid_cross_entropy_with_logits`, the logits first."""
    return sigmoid_cross_entropy_with_logits(labels=targets, logits=logits, name=name)


def sampled_sparse_softmax_loss(weights: Any, biases: Any, labels: Any, inputs: Any, num_sampled: int, num_classes: int,
                                sampled_values: Any = None, remove_accidental_hits: bool = True, partition_strategy: str = "mod",
                                name: str = "sampled_sparse_softmax_loss") -> Tensor:
    """`tf.nn.sampled_softmax_loss` for one true class: labels [batch, 1]; the losses are [batch]."""
    return sampled_softmax_loss(weights, biases, labels, inputs, num_sampled, num_classes, 1, sampled_values, remove_accidental_hits,
                                partition_strategy, name)


def scaled_softplus(x: Any, alpha: Any, clip: Any = None, name: str | None = None) -> Tensor:
    """min(alpha * log(1 + exp(x / alpha)), clip), element by element; all three have gradients."""
    with _scope(name, "scaled_softplus"):
        x = convert_to_tensor(x)
        alpha = convert_to_tensor(alpha, x.dtype)

        @custom_gradient
        def scaled(x: Tensor, alpha: Tensor) -> Any:
            y = alpha * softplus(x / alpha)

            def backward(dy: Tensor) -> Any:
                z = y / alpha  # d/dx is 1 - exp(-z), d/dalpha is z - x / alpha times that: without a quotient of large numbers
                slope = -math_ops.expm1(-z)
                by_alpha = z * math_ops.exp(-z) - slope * math_ops.log(slope + 1e-8)
                return unbroadcast(dy * slope, x), unbroadcast(dy * by_alpha, alpha)
            return y, backward
        y = scaled(x, alpha)
        return y if clip is None else math_ops.minimum(y, convert_to_tensor(clip, x.dtype))
