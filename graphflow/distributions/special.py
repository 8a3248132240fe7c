"""Functions that distributions need: the normal's distribution function, stable inverses, seeds, checks of parameters."""
from __future__ import annotations

import hashlib
import math
from typing import Any

import numpy as np

from .. import array_ops, graph, math_ops, nn, random_ops, types
from ..check_ops import Assert
from ..graph import Tensor
from ..ops.elementwise import select
from ..ops.opdef import convert_to_tensor

LOG_2PI = math.log(2.0 * math.pi)


def new_seed(seed: int | None, salt: str) -> int | None:
    """A seed that follows from `seed` and `salt`; None for None."""
    if seed is None:
        return None
    return int.from_bytes(hashlib.sha256(f"{seed}{salt}".encode()).digest()[:4], "big") & 0x7FFFFFFF


class SeedStream:
    """Calls give seeds, one after another, that follow from `seed` and `salt`."""

    def __init__(self, seed: Any, salt: str):
        self._seed = seed.original_seed if isinstance(seed, SeedStream) else seed
        self._salt, self._counter = salt, 0

    original_seed = property(lambda self: self._seed)
    salt = property(lambda self: self._salt)

    def __call__(self) -> int | None:
        self._counter += 1
        return new_seed(self._seed, f"{self._salt}{self._counter}")


def depends(checks: list[Any], x: Any, name: str | None = None) -> Tensor:
    """`x`, after the checks."""
    with graph.get_default_graph().control_dependencies([c for c in checks if c is not None]):
        return array_ops.identity(convert_to_tensor(x), name=name)


def ndtr(x: Any) -> Tensor:
    """The normal's distribution function, accurate in both tails."""
    x = convert_to_tensor(x)
    w = x * math.sqrt(0.5)
    z = math_ops.abs(w)
    tail = math_ops.erfc(z)
    return 0.5 * select(z < math.sqrt(0.5), 1.0 + math_ops.erf(w), select(w > 0.0, 2.0 - tail, tail))


def log_ndtr(x: Any) -> Tensor:
    """The logarithm of `ndtr`: far in the lower tail by its asymptotic series (Abramowitz and Stegun 26.2.12)."""
    x = convert_to_tensor(x)
    lower, upper = (-20.0, 8.0) if x.dtype is types.float64 else (-10.0, 5.0)
    far = math_ops.minimum(x, lower)
    square = math_ops.square(far)
    series = 1.0 - 1.0 / square * (1.0 - 3.0 / square * (1.0 - 5.0 / square))
    below = -0.5 * square - math_ops.log(-far) - 0.5 * LOG_2PI + math_ops.log(series)
    middle = math_ops.log(ndtr(math_ops.maximum(x, lower)))
    return select(x > upper, -ndtr(-x), select(x > lower, middle, below))


def softplus_inverse(x: Any, name: str | None = None) -> Tensor:
    """y with softplus(y) = x, accurate for small and for large x > 0."""
    with graph.get_default_graph().name_scope(name or "softplus_inverse"):
        x = convert_to_tensor(x)
        threshold = math.log(float(np.finfo(x.dtype.np).eps)) + 2.0
        small, large = x < math.exp(threshold), x > -threshold
        safe = select(math_ops.logical_or(small, large), array_ops.ones_like(x), x)
        return select(small, math_ops.log(x), select(large, x, safe + math_ops.log(-math_ops.expm1(-safe))))


def log_combinations(n: Any, counts: Tensor) -> Tensor:
    """The logarithm of the multinomial coefficient of `counts` [..., k], which sum to n."""
    return math_ops.lgamma(n + 1.0) - math_ops.reduce_sum(math_ops.lgamma(counts + 1.0), -1)


def sample_gamma(shape: Any, concentration: Tensor, seed: int | None) -> Tensor:
    """Samples of Gamma(concentration, 1), of shape `shape` + that of the concentration; gradients pass through them."""
    return random_ops.random_gamma(shape, concentration, dtype=concentration.dtype, seed=seed)


def uniform_inside(shape: Any, dtype: types.DType, seed: int | None) -> Tensor:
    """Samples uniform in (0, 1), without 0, so that their logarithms are finite."""
    return random_ops.random_uniform(shape, float(np.finfo(dtype.np).tiny), 1.0, dtype, seed)


def logits_and_probs(logits: Any, probs: Any, validate_args: bool, several: bool, dtype: Any = None) -> tuple[Tensor, Tensor]:
    """Both of (logits, probs), one of them given.

    Args:
        several: of classes along the last axis; else of one event.

    Raises:
        ValueError: none or both are given; no classes, or too few axes.
    """
    if (logits is None) == (probs is None):
        raise ValueError("Must pass probs or logits, but not both.")
    given = convert_to_tensor(probs if logits is None else logits, name="probs" if logits is None else "logits")
    if not given.dtype.is_floating:
        raise TypeError(f"Argument must having floating type, got {given.dtype.name}.")
    if several and given.shape.ndims == 0:
        raise ValueError(f"Argument must have rank at least 1, got shape {given.shape}")
    if several and given.shape.ndims is not None and given.shape[-1].value == 0:
        raise ValueError("Argument must have at least one class.")
    if logits is not None:
        return array_ops.identity(given), nn.softmax(given) if several else math_ops.sigmoid(given)
    checks: list[Any] = []
    if validate_args:
        checks = [_assert_all(given >= 0.0, "probs must be non-negative", given)]
        if several:
            checks.append(_assert_all(math_ops.abs(math_ops.reduce_sum(given, -1) - 1.0) < 1e-5, "probs does not sum to 1", given))
        else:
            checks.append(_assert_all(given <= 1.0, "probs has components greater than 1", given))
    p = depends(checks, given)
    return math_ops.log(p) if several else math_ops.log(p) - math_ops.log1p(-p), p


def _assert_all(condition: Any, message: str, *data: Any) -> Any:
    return Assert(math_ops.reduce_all(condition), [message, *data])


def assert_all(wanted: bool, condition: Any, message: str, *data: Any) -> list[Any]:
    """[an assertion that holds for all elements] if wanted."""
    return [_assert_all(condition(), message, *data)] if wanted else []


def tridiagonal_size(n: int) -> int:
    """m with m (m + 1) / 2 = n.  Raises ValueError when there is none."""
    m = (math.isqrt(8 * n + 1) - 1) // 2
    if m * (m + 1) // 2 != n:
        raise ValueError(f"Input right-most shape ({n}) does not correspond to a triangular matrix.")
    return m


def fill_triangular(x: Any, upper: bool = False, name: str | None = None) -> Tensor:
    """A triangular matrix [..., m, m] of the numbers [..., m (m + 1) / 2], in the order of a clockwise spiral as TF1's."""
    with graph.get_default_graph().name_scope(name or "fill_triangular"):
        x = convert_to_tensor(x)
        n = x.shape[-1].value
        if n is None:
            raise ValueError("fill_triangular needs a known last size")
        m = tridiagonal_size(n)
        rest = x[..., m:]
        parts = [x, array_ops.reverse(rest, [-1])] if upper else [rest, array_ops.reverse(x, [-1])]
        rows = array_ops.concat([array_ops.shape(x)[:-1], [m, m]], 0)
        square = array_ops.reshape(array_ops.concat(parts, -1), rows)
        found = array_ops.matrix_band_part(square, 0, -1) if upper else array_ops.matrix_band_part(square, -1, 0)
        found.set_shape(x.shape[:-1].concatenate([m, m]))
        return found
