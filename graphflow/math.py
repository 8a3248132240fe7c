"""`tf.math`: the functions of math_ops.py, and those that TF lists here while they live elsewhere."""
from __future__ import annotations

from typing import Any

from . import errors, math_ops
from .math_ops import *
from .math_ops import (divide_no_nan, erfinv, ndtri, polyval, reduce_euclidean_norm, reduce_std, reduce_variance, softplus, softsign, xdivy,
                       xlogy,
                       zero_fraction)

_ELSEWHERE = ("confusion_matrix", "in_top_k", "invert_permutation", "is_non_decreasing",
              "is_strictly_increasing", "l2_normalize",
              "log_softmax", "segment_max", "segment_mean", "segment_min", "segment_prod", "segment_sum", "softmax", "top_k",
              "unsorted_segment_max",
              "unsorted_segment_mean", "unsorted_segment_min", "unsorted_segment_prod", "unsorted_segment_sqrt_n", "unsorted_segment_sum")


def __getattr__(name: str) -> Any:
    import graphflow

    from . import special_math

    if name in special_math.__all__:
        return getattr(special_math, name)
    if name in _ELSEWHERE:
        for home in (graphflow, getattr(graphflow, "nn", None)):
            if hasattr(home, name):
                return getattr(home, name)
    raise AttributeError(f"module 'graphflow.math' has no attribute {name!r}.{errors.suggest(name, dir(math_ops))}")
