"""Special functions in NumPy, for the reference: erf and its relatives, gamma and its derivatives.

Computed in float64 and rounded to the input's dtype.  They favour clearness and accuracy over speed; kernels have their
own (codegen/vecmath.py), and the tests compare both with SciPy.
"""
from __future__ import annotations

import math
from typing import Any, Callable

import numpy as np


def _each(fn: Callable[[float], float]) -> Callable[[Any], Any]:
    """A scalar float function on arrays, result in the input's dtype."""
    def apply(x: Any) -> Any:
        x = np.asarray(x)
        flat = [fn(float(v)) for v in x.ravel()]
        return np.array(flat, np.float64).reshape(x.shape).astype(x.dtype)
    return apply


def _lgamma(x: float) -> float:
    if math.isinf(x) or x <= 0 and x == math.floor(x):
        return math.inf
    return math.lgamma(x)


erf, erfc, lgamma = _each(math.erf), _each(math.erfc), _each(_lgamma)


def _normal_quantile(p: float) -> float:
    """A start with the tail's logarithm, then Newton steps on erfc with Halley's correction."""
    if not 0 < p < 1:
        return math.nan if not 0 <= p <= 1 else math.copysign(math.inf, p - 0.5)
    if p == 0.5:
        return 0.0
    q = min(p, 1 - p)
    t = math.sqrt(-2 * math.log(q))
    # Abramowitz and Stegun 26.2.23: within 4.5e-4.
    x = -(t - (2.515517 + t * (0.802853 + t * 0.010328)) / (1 + t * (1.432788 + t * (0.189269 + t * 0.001308))))
    for _ in range(4):
        e = (0.5 * math.erfc(-x / math.sqrt(2)) - q) * math.sqrt(2 * math.pi) * math.exp(x * x / 2)
        x -= e / (1 + x * e / 2)
    return x if p <= 0.5 else -x


def _erfinv(y: float) -> float:
    """x with erf(x) = y: through erfc where 1 - |y| is small, directly elsewhere."""
    a = abs(y)
    if not a < 1:
        return math.copysign(math.inf, y) if a == 1 else math.nan
    x = -_normal_quantile((1 - a) / 2) / math.sqrt(2) if a > 0.01 else a * math.sqrt(math.pi) / 2
    for _ in range(3):
        error = a - math.erf(x) if a < 0.5 else math.erfc(x) - (1 - a)
        x += error * math.sqrt(math.pi) / 2 * math.exp(x * x)
    return math.copysign(x, y)


def _digamma(x: float) -> float:
    """Reflection, recurrence up to 16, asymptotic series (Abramowitz and Stegun 6.3.5, 6.3.7, 6.3.18)."""
    if x == 0:
        return math.copysign(math.inf, -x)
    if x == -math.inf:
        return math.nan
    if x < 0:
        return math.nan if x == math.floor(x) else _digamma(1 - x) - math.pi / math.tan(math.pi * (x - round(x)))
    total = 0.0
    while x < 16:
        total -= 1 / x
        x += 1
    if math.isinf(x):
        return x
    r = 1 / (x * x)
    return total + math.log(x) - 0.5 / x - r * (1 / 12 - r * (1 / 120 - r * (1 / 252 - r * (1 / 240 - r * (1 / 132 - r * 691 / 32760)))))


def _trigamma(x: float) -> float:
    """Reflection, recurrence up to 16, asymptotic series (Abramowitz and Stegun 6.4.6, 6.4.7, 6.4.12)."""
    if x == -math.inf or x * x == 0:
        return math.nan if x < -1 else math.inf
    if x <= 0:
        return math.inf if x == math.floor(x) else (math.pi / math.sin(math.pi * (x - round(x)))) ** 2 - _trigamma(1 - x)
    total = 0.0
    while x < 16:
        total += 1 / (x * x)
        x += 1
    r = 1 / (x * x)
    return total + (1 + 0.5 / x + r * (1 / 6 - r * (1 / 30 - r * (1 / 42 - r * (1 / 30 - r * 5 / 66))))) / x


def _nan_safe(fn: Callable[[float], float]) -> Callable[[float], float]:
    return lambda v: math.nan if math.isnan(v) else fn(v)


ndtri, erfinv = _each(_nan_safe(_normal_quantile)), _each(_nan_safe(_erfinv))
digamma, trigamma = _each(_nan_safe(_digamma)), _each(_nan_safe(_trigamma))
