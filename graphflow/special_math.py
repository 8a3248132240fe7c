"""Special functions of two arguments and Bessel functions: host ops in NumPy, in float64 inside.

`tf.igamma`, `tf.igammac`, `tf.betainc`, `tf.zeta`, `tf.polygamma`, `tf.math.bessel_*`, `tf.math.nextafter`.  Arguments broadcast.
"""
from __future__ import annotations

import math
from typing import Any, Callable

import numpy as np

from . import array_ops, graph, math_ops, types
from .graph import Spec, Tensor
from .ops import special
from .ops.elementwise import unbroadcast
from .ops.opdef import convert_to_tensor, primitive
from .types import REAL

__all__ = ["bessel_i0", "bessel_i0e", "bessel_i1", "bessel_i1e", "betainc", "igamma", "igammac", "multiply_no_nan", "nextafter",
           "polygamma", "reciprocal_no_nan", "xlog1py", "zeta"]

_EPS = np.finfo(np.float64).eps
_lgamma = np.frompyfunc(lambda x: math.lgamma(x) if x > 0 else math.inf, 1, 1)


def _log_gamma(x: Any) -> Any:
    return np.asarray(_lgamma(x), np.float64)


def _broadcast(*inputs: Tensor, **_: Any) -> Spec:
    return Spec(inputs[0].dtype, types.broadcast_shapes(*[t.sizes for t in inputs]))


def _cases(*domains: tuple[float, float]) -> list[Any]:
    """Calls with random numbers of the domains, of equal shapes and of shapes that broadcast."""
    def call(shapes: Any) -> Any:
        return lambda rng: (tuple(rng.uniform(a, b, s) for (a, b), s in zip(domains, shapes)), {})
    return [call([(2, 3)] * len(domains)), call([(2, 3), (3,), (2, 1)][:len(domains)])]


def _host(type: str, *domains: tuple[float, float], no_gradient: str | None = None) -> Callable[..., Any]:
    return primitive("host", type=type, dtypes=REAL, infer=_broadcast, samples=_cases(*domains), no_gradient=no_gradient, tolerance=50.0)


def _wide(fn: Callable[..., Any]) -> Callable[..., Any]:
    """`fn` on flat float64 arrays of one shape; the result in the first argument's dtype."""
    def apply(*args: Any) -> Any:
        arrays = np.broadcast_arrays(*[np.asarray(a) for a in args])
        found = fn(*[a.astype(np.float64).reshape(-1) for a in arrays])
        return found.reshape(arrays[0].shape).astype(arrays[0].dtype)
    return apply


# ---------------------------------------------------------------- incomplete gamma functions


def _gamma_series(a: Any, x: Any) -> tuple[Any, Any]:
    """P(a, x) and dP/da by the series of x^n / Gamma(a + n + 1) (Abramowitz and Stegun 6.5.29)."""
    with np.errstate(all="ignore"):
        log_x = np.log(x)
        first = np.exp(a * log_x - x - _log_gamma(a + 1))
        psi = np.asarray(special.digamma(a + 1), np.float64)
        term, total, slope = first.copy(), first.copy(), first * (log_x - psi)
        for n in range(1, 20000):
            term = term * x / (a + n)
            psi = psi + 1 / (a + n)
            change = term * (log_x - psi)
            total, slope = total + term, slope + change
            if not (np.abs(term) > _EPS * np.abs(total)).any() and not (np.abs(change) > _EPS * np.abs(slope) + 1e-300).any():
                break
    return total, slope


def _gamma_fraction(a: Any, x: Any) -> Any:
    """Q(a, x) by the continued fraction, with Lentz's method (Numerical Recipes, section 6.2)."""
    with np.errstate(all="ignore"):
        tiny = 1e-300
        b = x + 1 - a
        c, d = np.full_like(x, 1 / tiny), 1 / np.where(b == 0, tiny, b)
        h = d
        for n in range(1, 2000):
            factor = -n * (n - a)
            b = b + 2
            d, c = factor * d + b, b + factor / c
            d, c = 1 / np.where(np.abs(d) < tiny, tiny, d), np.where(np.abs(c) < tiny, tiny, c)
            h = h * d * c
            if not (np.abs(d * c - 1) > _EPS).any():
                break
        return np.exp(a * np.log(x) - x - _log_gamma(a)) * h


def _regularized(a: Any, x: Any, upper: bool) -> Any:
    out = np.full(a.shape, np.nan)
    out[(a > 0) & (x == 0)] = 1.0 if upper else 0.0
    out[(a > 0) & np.isinf(x) & (x > 0)] = 0.0 if upper else 1.0
    good = (a > 0) & (x > 0) & np.isfinite(x) & np.isfinite(a)
    low = good & (x < a + 1)
    high = good & ~low
    p = _gamma_series(a[low], x[low])[0]
    q = _gamma_fraction(a[high], x[high])
    out[low], out[high] = (1 - p, q) if upper else (p, 1 - q)
    return out


def _slope_in_a(a: Any, x: Any) -> Any:
    out = np.full(a.shape, np.nan)
    out[(a > 0) & ((x == 0) | (x > a + 60 + 20 * np.sqrt(a)))] = 0.0  # the density there is below 1e-26
    good = (a > 0) & (x > 0) & (x <= a + 60 + 20 * np.sqrt(a))
    out[good] = _gamma_series(a[good], x[good])[1]
    return out


@_host("Igamma", (0.5, 6.0), (0.1, 12.0))
def igamma_op(a, x):
    """The regularised lower incomplete gamma function P(a, x)."""


@_host("Igammac", (0.5, 6.0), (0.1, 12.0))
def igammac_op(a, x):
    """The regularised upper incomplete gamma function Q(a, x) = 1 - P(a, x)."""


@_host("IgammaGradA", (0.5, 6.0), (0.1, 12.0), no_gradient="the second derivative in a is not there")
def igamma_grad_a_op(a, x):
    """dP(a, x) / da."""


igamma_op.reference(_wide(lambda a, x: _regularized(a, x, upper=False)))
igammac_op.reference(_wide(lambda a, x: _regularized(a, x, upper=True)))
igamma_grad_a_op.reference(_wide(_slope_in_a))


def _igamma_grad(op: Any, dy: Tensor) -> tuple[Tensor, Tensor]:
    a, x = op.inputs
    density = math_ops.exp(-x + (a - 1.0) * math_ops.log(x) - math_ops.lgamma(a))
    return unbroadcast(dy * igamma_grad_a_op(a, x), a), unbroadcast(dy * density, x)


igamma_op.grad(_igamma_grad)
igammac_op.grad(lambda op, dy: _igamma_grad(op, -dy))


# ---------------------------------------------------------------- incomplete beta function


def _beta_fraction(a: Any, b: Any, x: Any) -> Any:
    """The continued fraction of Numerical Recipes, section 6.4, for x < (a + 1) / (a + b + 2)."""
    tiny = 1e-300
    c, d = np.ones_like(x), 1 - (a + b) * x / (a + 1)
    d = 1 / np.where(np.abs(d) < tiny, tiny, d)
    h = d
    for m in range(1, 3000):
        for factor in (m * (b - m) * x / ((a + 2 * m - 1) * (a + 2 * m)), -(a + m) * (a + b + m) * x / ((a + 2 * m) * (a + 2 * m + 1))):
            d, c = 1 + factor * d, 1 + factor / c
            d, c = 1 / np.where(np.abs(d) < tiny, tiny, d), np.where(np.abs(c) < tiny, tiny, c)
            h = h * d * c
        if not (np.abs(d * c - 1) > _EPS).any():
            break
    return h


def _betainc(a: Any, b: Any, x: Any) -> Any:
    with np.errstate(all="ignore"):
        out = np.full(x.shape, np.nan)
        good = (a > 0) & (b > 0) & (x >= 0) & (x <= 1)
        out[good & (x == 0)], out[good & (x == 1)] = 0.0, 1.0
        inner = good & (x > 0) & (x < 1)
        a, b, x = a[inner], b[inner], x[inner]
        front = np.exp(_log_gamma(a + b) - _log_gamma(a) - _log_gamma(b) + a * np.log(x) + b * np.log1p(-x))
        swap = x >= (a + 1) / (a + b + 2)
        p, q, t = np.where(swap, b, a), np.where(swap, a, b), np.where(swap, 1 - x, x)
        part = front * _beta_fraction(p, q, t) / p
        out[inner] = np.where(swap, 1 - part, part)
        return out


@_host("Betainc", (0.5, 5.0), (0.5, 5.0), (0.05, 0.95))
def betainc_op(a, b, x):
    """The regularised incomplete beta function I_x(a, b)."""


betainc_op.reference(_wide(_betainc))


@betainc_op.grad
def _(op, dy):
    a, b, x = op.inputs  # as TF: no slope in a and b
    log_beta = math_ops.lgamma(a) + math_ops.lgamma(b) - math_ops.lgamma(a + b)
    density = math_ops.exp((b - 1.0) * math_ops.log1p(-x) + (a - 1.0) * math_ops.log(x) - log_beta)
    return None, None, unbroadcast(dy * density, x)


# ---------------------------------------------------------------- zeta and polygamma

# B_2k / (2k)! of the Euler-Maclaurin formula.
_BERNOULLI = [1 / 12, -1 / 720, 1 / 30240, -1 / 1209600, 1 / 47900160, -691 / 1307674368000, 1 / 74724249600, -3617 / 10670622842880000]


def _zeta(x: Any, q: Any) -> Any:
    """Hurwitz' zeta function by Euler-Maclaurin summation from q + 12 on (Abramowitz and Stegun 23.1.30)."""
    with np.errstate(all="ignore"):
        n = 12
        total = sum((q + k) ** -x for k in range(n))
        w = q + n
        total = total + w ** (1 - x) / (x - 1) + 0.5 * w ** -x
        factor, power = x, w ** (-x - 1)
        for k, b in enumerate(_BERNOULLI):
            total = total + b * factor * power
            factor, power = factor * (x + 2 * k + 1) * (x + 2 * k + 2), power / (w * w)
        total = np.where(x == 1, np.inf, np.where(x < 1, np.nan, total))
        pole = (q <= 0) & (q == np.floor(q))
        return np.where(pole & (x > 1), np.inf, np.where((q <= 0) & ~pole & (x != np.floor(x)), np.nan, total))


@_host("Zeta", (1.5, 6.0), (0.5, 5.0))
def zeta_op(x, q):
    """The sum of (q + k)^-x over k = 0, 1, ...; inf for x = 1, NaN below."""


zeta_op.reference(_wide(_zeta))


@zeta_op.grad
def _(op, dy):
    x, q = op.inputs
    return None, unbroadcast(dy * -x * zeta_op(x + 1.0, q), q)


def _polygamma(n: Any, x: Any) -> Any:
    with np.errstate(all="ignore"):
        whole = (n >= 0) & (n == np.floor(n))
        sign = np.where(n % 2 == 0, -1.0, 1.0)
        found = sign * np.exp(_log_gamma(n + 1)) * _zeta(n + 1, x)
        found = np.where(n == 0, np.asarray(special.digamma(x), np.float64), found)
        return np.where(whole, found, np.nan)


@_host("Polygamma", (0.0, 0.0), (0.5, 5.0))
def polygamma_op(a, x):
    """The a-th derivative of digamma at x, for a = 0, 1, ...; NaN for another a."""


polygamma_op.samples = [lambda rng: ((np.array([[0.0, 1.0, 4.0]]), rng.uniform(0.5, 5.0, (2, 3))), {})]
polygamma_op.reference(_wide(_polygamma))


@polygamma_op.grad
def _(op, dy):
    a, x = op.inputs
    return None, unbroadcast(dy * polygamma_op(a + 1.0, x), x)


# ---------------------------------------------------------------- Bessel functions


def _bessel_e(x: Any, order: int) -> Any:
    """exp(-|x|) I_order(x): the power series, above 30 the asymptotic one (Abramowitz and Stegun 9.6.10, 9.7.1)."""
    with np.errstate(all="ignore"):
        size = np.abs(x)
        small = np.minimum(size, 30.0)
        term = np.ones_like(small) if order == 0 else small / 2
        total = term.copy()
        for k in range(1, 120):
            term = term * (small * small / 4) / (k * (k + order))
            total = total + term
        large, mu = np.maximum(size, 30.0), 4.0 * order * order
        part = rest = np.ones_like(large)
        for k in range(1, 30):
            part = part * -(mu - (2 * k - 1) ** 2) / (8 * k * large)
            rest = rest + part
        found = np.where(size <= 30, total * np.exp(-small), rest / np.sqrt(2 * math.pi * large))
        found = np.where(np.isinf(size), 0.0, found)
        return np.sign(x) * found if order else found


@_host("BesselI0e", (-6.0, 6.0))
def bessel_i0e_op(x):
    """exp(-|x|) I_0(x), I_0 the modified Bessel function of the first kind."""


@_host("BesselI1e", (0.3, 6.0))
def bessel_i1e_op(x):
    """exp(-|x|) I_1(x)."""


bessel_i0e_op.reference(_wide(lambda x: _bessel_e(x, 0)))
bessel_i1e_op.reference(_wide(lambda x: _bessel_e(x, 1)))
bessel_i0e_op.grad(lambda op, dy: (dy * (bessel_i1e_op(op.inputs[0]) - math_ops.sign(op.inputs[0]) * op.outputs[0]),))


@bessel_i1e_op.grad
def _(op, dy):
    x, y = op.inputs[0], op.outputs[0]
    zero = math_ops.equal(x, 0.0)
    safe = array_ops.where(zero, array_ops.ones_like(x), x)
    slope = bessel_i0e_op(safe) - y * (math_ops.sign(safe) + 1.0 / safe)
    return dy * array_ops.where(zero, 0.5 * array_ops.ones_like(x), slope),


# ---------------------------------------------------------------- neighbours of floats


@_host("NextAfter", (-2.0, 2.0), (-2.0, 2.0))
def nextafter_op(x1, x2):
    """The number next to x1 in the direction of x2."""


nextafter_op.reference(lambda x1, x2: np.nextafter(x1, x2))
nextafter_op.grad(lambda op, dy: (unbroadcast(dy, op.inputs[0]), unbroadcast(array_ops.zeros_like(dy), op.inputs[1])))


# ---------------------------------------------------------------- TF's names


def _scope(name: str | None, default: str) -> Any:
    return graph.get_default_graph().name_scope(name or default)


def igamma(a: Any, x: Any, name: str | None = None) -> Tensor:
    """The regularised lower incomplete gamma function P(a, x), for a > 0 and x >= 0; NaN elsewhere."""
    return igamma_op(a, x, name=name)


def igammac(a: Any, x: Any, name: str | None = None) -> Tensor:
    """The regularised upper incomplete gamma function Q(a, x) = 1 - P(a, x)."""
    return igammac_op(a, x, name=name)


def betainc(a: Any, b: Any, x: Any, name: str | None = None) -> Tensor:
    """The regularised incomplete beta function I_x(a, b), for positive a and b and x in [0, 1]; its gradient is that in x."""
    return betainc_op(a, b, x, name=name)


def zeta(x: Any, q: Any, name: str | None = None) -> Tensor:
    """Hurwitz' zeta function, the sum of (q + k)^-x over k = 0, 1, ...; its gradient is that in q."""
    return zeta_op(x, q, name=name)


def polygamma(a: Any, x: Any, name: str | None = None) -> Tensor:
    """The a-th derivative of digamma at x, for a = 0, 1, ...; NaN for another a.  Its gradient is that in x."""
    return polygamma_op(a, x, name=name)


def nextafter(x1: Any, x2: Any, name: str | None = None) -> Tensor:
    """The number next to x1 in the direction of x2."""
    return nextafter_op(x1, x2, name=name)


def bessel_i0e(x: Any, name: str | None = None) -> Tensor:
    """exp(-|x|) I_0(x), I_0 being the modified Bessel function of the first kind."""
    return bessel_i0e_op(x, name=name)


def bessel_i1e(x: Any, name: str | None = None) -> Tensor:
    """exp(-|x|) I_1(x), I_1 being the modified Bessel function of the first kind."""
    return bessel_i1e_op(x, name=name)


def bessel_i0(x: Any, name: str | None = None) -> Tensor:
    """The modified Bessel function of the first kind, of order 0."""
    with _scope(name, "bessel_i0"):
        x = convert_to_tensor(x)
        return math_ops.exp(math_ops.abs(x)) * bessel_i0e(x)


def bessel_i1(x: Any, name: str | None = None) -> Tensor:
    """The modified Bessel function of the first kind, of order 1."""
    with _scope(name, "bessel_i1"):
        x = convert_to_tensor(x)
        return math_ops.exp(math_ops.abs(x)) * bessel_i1e(x)


def multiply_no_nan(x: Any, y: Any, name: str | None = None) -> Tensor:
    """x * y, and 0 where y is 0, also when x is not finite."""
    with _scope(name, "multiply_no_nan"):
        x = convert_to_tensor(x)
        y = convert_to_tensor(y, x.dtype.base_dtype)
        zero = math_ops.logical_or(math_ops.equal(y, 0), array_ops.zeros_like(x, types.bool_))
        safe = array_ops.where_v2(zero, array_ops.zeros_like(x), x)
        return safe * y


def reciprocal_no_nan(x: Any, name: str | None = None) -> Tensor:
    """1 / x, and 0 where x is 0."""
    with _scope(name, "reciprocal_no_nan"):
        x = convert_to_tensor(x)
        return math_ops.div_no_nan(array_ops.ones_like(x), x)


def xlog1py(x: Any, y: Any, name: str | None = None) -> Tensor:
    """x log(1 + y), and 0 where x is 0."""
    with _scope(name, "xlog1py"):
        x = convert_to_tensor(x)
        y = convert_to_tensor(y, x.dtype.base_dtype)
        zero = math_ops.logical_or(math_ops.equal(x, 0), array_ops.zeros_like(y, types.bool_))
        safe = array_ops.where_v2(zero, array_ops.zeros_like(y), y)
        return x * math_ops.log1p(safe)
