"""The initializers of contrib: fans as tf.layers counts them, a normal one with its own factor for truncation."""
from __future__ import annotations

import math
from typing import Any, Callable

from ... import random_ops, types
from ...init_ops import fans
from ...graph import Tensor

__all__ = ["variance_scaling_initializer", "xavier_initializer", "xavier_initializer_conv2d"]


def xavier_initializer(uniform: bool = True, seed: int | None = None, dtype: Any = types.float32) -> Callable[..., Tensor]:
    """Variance 2 / (fan in + fan out): uniform, or a truncated normal (Glorot and Bengio 2010)."""
    return variance_scaling_initializer(1.0, "FAN_AVG", uniform, seed, dtype)


xavier_initializer_conv2d = xavier_initializer


def variance_scaling_initializer(factor: float = 2.0, mode: str = "FAN_IN", uniform: bool = False, seed: int | None = None,
                                 dtype: Any = types.float32) -> Callable[..., Tensor]:
    """An initializer of zero mean and variance factor / n, n the fan in, the fan out or their mean (He et al. 2015 by default).

    The normal one draws with standard deviation sqrt(1.3 factor / n) and truncates at two of them, as TF1's.

    Raises:
        TypeError: `dtype` is no float, or an unknown mode.
    """
    if not types.as_dtype(dtype).is_floating:
        raise TypeError(f"Cannot create initializer for non-floating point type {types.as_dtype(dtype).name}.")
    if mode not in ("FAN_IN", "FAN_OUT", "FAN_AVG"):
        raise TypeError(f"Unknown mode {mode} [FAN_IN, FAN_OUT, FAN_AVG]")

    def initializer(shape: Any, dtype: Any = dtype, partition_info: Any = None) -> Tensor:
        wanted = types.as_dtype(dtype)
        if not wanted.is_floating:
            raise TypeError(f"Cannot create initializer for non-floating point type {wanted.name}.")
        fan_in, fan_out = fans(types.TensorShape(shape).as_list())  # type: ignore[arg-type]
        n = {"FAN_IN": fan_in, "FAN_OUT": fan_out, "FAN_AVG": (fan_in + fan_out) / 2.0}[mode]
        if uniform:
            limit = math.sqrt(3.0 * factor / n)
            return random_ops.random_uniform(shape, -limit, limit, wanted, seed)
        return random_ops.truncated_normal(shape, 0.0, math.sqrt(1.3 * factor / n), wanted, seed)
    return initializer
