"""`tf.histogram_fixed_width` and `tf.histogram_fixed_width_bins`: values by intervals of equal width."""
from __future__ import annotations

from typing import Any

from . import array_ops, graph, math_ops, types
from .graph import Tensor
from .ops.opdef import constant_value, convert_to_tensor

__all__ = ["histogram_fixed_width", "histogram_fixed_width_bins"]


def histogram_fixed_width_bins(values: Any, value_range: Any, nbins: Any = 100, dtype: Any = types.int32,
                               name: str | None = None) -> Tensor:
    """For each value the number of its interval, of `nbins` equal ones in `value_range`; the first or last one for values outside.

    Args:
        values: numbers of any shape.
        value_range: [2], of the dtype of `values`.
        dtype: accepted; the result is int32, of the shape of `values`, as in TF.

    Raises:
        TypeError: a range of another dtype.  ValueError: nbins below 1 or a range that does not increase, where the graph determines it.
    """
    with graph.get_default_graph().name_scope(name or "histogram_fixed_width_bins"):
        x = convert_to_tensor(values, name="values")
        shape = array_ops.shape(x)
        bounds = convert_to_tensor(value_range, x.dtype, name="value_range")
        count = convert_to_tensor(nbins, types.int32, name="nbins")
        known, limits = constant_value(count), constant_value(bounds)
        if known is not None and int(known) < 1:
            raise ValueError(f"nbins should be a positive number, but got {int(known)}")
        if limits is not None and not limits[0] < limits[1]:
            raise ValueError(f"value_range should satisfy value_range[0] < value_range[1], but got {limits.tolist()}")
        flat = array_ops.reshape(x, [-1])
        scaled = math_ops.truediv(flat - bounds[0], bounds[1] - bounds[0])
        places = math_ops.floor(math_ops.cast(count, scaled.dtype) * scaled)
        last = math_ops.cast(count - 1, scaled.dtype)
        places = math_ops.maximum(math_ops.minimum(places, last), math_ops.cast(0, scaled.dtype))
        return array_ops.reshape(math_ops.cast(places, types.int32), shape)


def histogram_fixed_width(values: Any, value_range: Any, nbins: Any = 100, dtype: Any = types.int32, name: str | None = None) -> Tensor:
    """How many values lie in each of `nbins` equal intervals of `value_range`: [nbins] of `dtype`.  See `histogram_fixed_width_bins`."""
    with graph.get_default_graph().name_scope(name or "histogram_fixed_width") as scope:
        places = array_ops.reshape(histogram_fixed_width_bins(values, value_range, nbins), [-1])
        return array_ops.unsorted_segment_sum(array_ops.ones_like(places, dtype=types.as_dtype(dtype)), places, nbins, name=scope)
