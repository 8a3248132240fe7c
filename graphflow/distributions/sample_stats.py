"""Statistics of samples."""
from __future__ import annotations

from typing import Any

import numpy as np

from .. import array_ops, graph, math_ops, types
from ..graph import Tensor
from ..ops.opdef import convert_to_tensor
from .special import assert_all, depends

__all__ = ["percentile"]


def percentile(x: Any, q: Any, axis: Any = None, interpolation: str | None = None, keep_dims: bool = False, validate_args: bool = False,
               name: str | None = None) -> Tensor:
    """The value of `x` along `axis` (all axes by default) that `q` percent of the values do not exceed.

    Args:
        q: a scalar in [0, 100].
        interpolation: which of the two nearest values: "lower", "higher" or "nearest" (the default).
        keep_dims: keep the axes, with size 1.

    Raises:
        ValueError: another interpolation; `q` is no scalar; an axis given for an unknown rank.
    """
    kinds = {"lower": math_ops.ceil, "higher": math_ops.floor, "nearest": math_ops.round}
    if interpolation not in (None, *kinds):
        raise ValueError(f"Argument 'interpolation' must be in {sorted(kinds)}. Found {interpolation}")
    with graph.get_default_graph().name_scope(name or "percentile"):
        x, q = convert_to_tensor(x), math_ops.cast(q, types.float64)
        if q.shape.ndims not in (0, None):
            raise ValueError(f"q must be a scalar, got shape {q.shape}")
        q = depends(assert_all(validate_args, lambda: math_ops.logical_and(q >= 0.0, q <= 100.0), "q must be in [0, 100]", q), q)
        rank = x.shape.ndims
        if rank is None and (axis is not None or keep_dims):
            raise ValueError("percentile along an axis needs an x of known rank")
        axes = list(range(rank or 0)) if axis is None else [int(a) % rank for a in np.reshape(axis, -1)]
        y = array_ops.reshape(x, [-1])
        if axis is not None:
            rest = [i for i in range(rank) if i not in axes]
            sizes = array_ops.shape(x)
            moved = array_ops.transpose(x, rest + axes)
            y = array_ops.reshape(moved, array_ops.concat([array_ops.stack([sizes[i] for i in rest]) if rest else np.zeros(0, np.int32),
                                                           [-1]], 0))
        count = array_ops.shape(y)[-1]
        from_top = math_ops.cast(count - 1, types.float64) * (1.0 - q / 100.0)
        index = math_ops.cast(kinds[interpolation or "nearest"](from_top), types.int32)
        index = math_ops.maximum(math_ops.minimum(index, count - 1), 0)
        result = array_ops.gather(array_ops.sort(y, direction="DESCENDING"), index, axis=-1)
        for a in sorted(axes) if keep_dims else ():
            result = array_ops.expand_dims(result, a)
        return result
