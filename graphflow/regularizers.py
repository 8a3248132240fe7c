"""Functions from weights to a scalar penalty, for the `regularizer` arguments of variables and layers."""
from __future__ import annotations

import numbers
from typing import Any, Callable, Sequence

from . import graph, math_ops, nn
from .graph import GraphKeys, Tensor
from .ops.opdef import convert_to_tensor

__all__ = ["apply_regularization", "l1_l2_regularizer", "l1_regularizer", "l2_regularizer", "sum_regularizer"]

Regularizer = Callable[[Any], Any]


def _checked(scale: Any) -> Any:
    """The scale, a float or a tensor.  Raises ValueError for an int (as TF1, which takes it for a mistake) or a negative number."""
    if isinstance(scale, int) and not isinstance(scale, bool):
        raise ValueError(f"scale cannot be an integer: {scale}")
    if not isinstance(scale, numbers.Real):
        return scale
    if scale < 0.0:
        raise ValueError(f"Setting a scale less than 0 on a regularizer: {scale}.")
    return float(scale)


def _scaled(scale: Any, penalty: Callable[[Tensor], Tensor], scope: str) -> Regularizer:
    if isinstance(scale, float) and scale == 0.0:
        return lambda _: None

    def regularize(weights: Any, name: str | None = None) -> Tensor:
        with graph.get_default_graph().name_scope(name or scope) as full:
            return math_ops.multiply(convert_to_tensor(scale, weights.dtype.base_dtype), penalty(convert_to_tensor(weights)), name=full)
    return regularize


def l1_regularizer(scale: float, scope: str | None = None) -> Regularizer:
    """scale * sum |w|."""
    return _scaled(_checked(scale), lambda w: math_ops.reduce_sum(math_ops.abs(w)), scope or "l1_regularizer")


def l2_regularizer(scale: float, scope: str | None = None) -> Regularizer:
    """scale * sum w^2 / 2."""
    return _scaled(_checked(scale), nn.l2_loss, scope or "l2_regularizer")


def l1_l2_regularizer(scale_l1: float = 1.0, scale_l2: float = 1.0, scope: str | None = None) -> Regularizer:
    """The sum of both."""
    return sum_regularizer([l1_regularizer(scale_l1), l2_regularizer(scale_l2)], scope or "l1_l2_regularizer")


def sum_regularizer(regularizer_list: Sequence[Regularizer | None], scope: str | None = None) -> Regularizer | None:
    """The sum of several; None when there are none."""
    wanted = [r for r in regularizer_list if r is not None]
    if not wanted:
        return None

    def regularize(weights: Any) -> Tensor | None:
        with graph.get_default_graph().name_scope(scope or "sum_regularizer") as full:
            found = [x for x in (r(weights) for r in wanted) if x is not None]
            return math_ops.add_n(found, name=full) if found else None
    return regularize


def apply_regularization(regularizer: Regularizer, weights_list: Any = None) -> Tensor:
    """The sum of the penalties of `weights_list` (the collection WEIGHTS by default), put into REGULARIZATION_LOSSES."""
    g = graph.get_default_graph()
    weights_list = g.get_collection(GraphKeys.WEIGHTS) if weights_list is None else weights_list
    if not weights_list:
        raise ValueError("No weights to regularize.")
    with g.name_scope("get_regularization_penalty") as scope:
        found = [p for p in (regularizer(w) for w in weights_list) if p is not None]
        penalty = math_ops.add_n(found, name=scope) if found else convert_to_tensor(0.0)
    g.add_to_collection(GraphKeys.REGULARIZATION_LOSSES, penalty)
    return penalty
