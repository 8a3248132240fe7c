"""Kullback-Leibler divergences, found by the classes of the two distributions."""
from __future__ import annotations

from typing import Any, Callable

from .. import graph, math_ops
from ..graph import Tensor
from .special import assert_all, depends

_FORMULAS: dict[tuple[type, type], Callable[..., Tensor]] = {}


def _registered_kl(a: type, b: type) -> Callable[..., Tensor] | None:
    """The formula for the nearest ancestors of both classes."""
    found = [(i + j, i, formula) for i, x in enumerate(a.__mro__) for j, y in enumerate(b.__mro__)
             if (formula := _FORMULAS.get((x, y))) is not None]
    return min(found, key=lambda f: f[:2])[2] if found else None


def kl_divergence(distribution_a: Any, distribution_b: Any, allow_nan_stats: bool = True, name: str | None = None) -> Tensor:
    """KL(a || b), the mean under a of log(a / b): batch shape.

    Args:
        allow_nan_stats: undefined values are NaN; else they are an error when they run.

    Raises:
        NotImplementedError: no formula for this pair.
    """
    formula = _registered_kl(type(distribution_a), type(distribution_b))
    if formula is None:
        raise NotImplementedError(f"No KL(distribution_a || distribution_b) registered for distribution_a type "
                                  f"{type(distribution_a).__name__} and distribution_b type {type(distribution_b).__name__}")
    with graph.get_default_graph().name_scope(name or "KullbackLeibler"):
        found = formula(distribution_a, distribution_b, name=name)
        if allow_nan_stats:
            return found
        return depends(assert_all(True, lambda: math_ops.logical_not(math_ops.is_nan(found)),
                                  f"KL calculation between {distribution_a.name} and {distribution_b.name} returned NaN values "
                                  "(and was called with allow_nan_stats=False). Values:", found), found)


def cross_entropy(ref: Any, other: Any, allow_nan_stats: bool = True, name: str | None = None) -> Tensor:
    """The entropy of `ref` plus KL(ref || other)."""
    with graph.get_default_graph().name_scope(name or "cross_entropy"):
        return ref.entropy() + kl_divergence(ref, other, allow_nan_stats=allow_nan_stats)


class RegisterKL:
    """Decorator: `@RegisterKL(A, B)` makes a function of (a, b, name=None) the divergence of these classes and their subclasses.

    Raises:
        TypeError: what is decorated is no function.  ValueError: there is one already.
    """

    def __init__(self, dist_cls_a: type, dist_cls_b: type):
        self._key = dist_cls_a, dist_cls_b

    def __call__(self, kl_fn: Callable[..., Tensor]) -> Callable[..., Tensor]:
        if not callable(kl_fn):
            raise TypeError(f"kl_fn must be callable, received: {kl_fn}")
        if self._key in _FORMULAS:
            raise ValueError(f"KL({self._key[0].__name__} || {self._key[1].__name__}) has already been registered to: "
                             f"{_FORMULAS[self._key]}")
        _FORMULAS[self._key] = kl_fn
        return kl_fn
