"""Max and average pooling layers in one, two and three dimensions."""
from __future__ import annotations

from typing import Any

from .. import nn
from ..graph import Tensor
from .base import Layer, channels_first, format_of, numbers, padding_of


class _Pooling(Layer):
    """Windows of `pool_size` at `strides` over the spatial axes."""

    rank, kind = 2, "MAX"

    def __init__(self, pool_size: Any, strides: Any, padding: str = "valid", data_format: str = "channels_last", name: str | None = None,
                 **kwargs: Any):
        super().__init__(name=name, **kwargs)
        self.ndim = self.rank + 2
        self.pool_size = numbers(pool_size, self.rank, "pool_size")
        self.strides = numbers(pool_size if strides is None else strides, self.rank, "strides")
        self.padding, self.data_format = padding_of(padding), data_format
        self.format = format_of(channels_first(data_format), self.rank)

    def call(self, inputs: Tensor) -> Tensor:
        return nn.pool(inputs, list(self.pool_size), self.kind, self.padding, strides=list(self.strides), data_format=self.format,
                       name={1: "Squeeze", 2: f"{self.kind.capitalize()[:3]}Pool", 3: f"{self.kind.capitalize()[:3]}Pool3D"}[self.rank])


class MaxPooling1D(_Pooling):
    """The largest of each window of [N, W, C]."""

    rank = 1


class MaxPooling2D(_Pooling):
    """The largest of each window of [N, H, W, C]."""


class MaxPooling3D(_Pooling):
    """The largest of each window of [N, D, H, W, C]."""

    rank = 3


class AveragePooling1D(_Pooling):
    """The mean of each window of [N, W, C]; padding does not count."""

    rank, kind = 1, "AVG"


class AveragePooling2D(_Pooling):
    """The mean of each window of [N, H, W, C]; padding does not count."""

    kind = "AVG"


class AveragePooling3D(_Pooling):
    """The mean of each window of [N, D, H, W, C]; padding does not count."""

    rank, kind = 3, "AVG"


def _function(layer: type[_Pooling], function_name: str) -> Any:
    def pooling(inputs: Any, pool_size: Any, strides: Any, padding: str = "valid", data_format: str = "channels_last",
                name: str | None = None) -> Tensor:
        return layer(pool_size, strides, padding, data_format, name)(inputs)

    pooling.__name__ = pooling.__qualname__ = function_name
    pooling.__doc__ = layer.__doc__
    return pooling


max_pooling1d, max_pooling2d, max_pooling3d = (_function(c, f"max_pooling{i + 1}d") for i,
                                               c in enumerate((MaxPooling1D, MaxPooling2D, MaxPooling3D)))
average_pooling1d, average_pooling2d, average_pooling3d = (
    _function(c, f"average_pooling{i + 1}d") for i, c in enumerate((AveragePooling1D, AveragePooling2D, AveragePooling3D)))
