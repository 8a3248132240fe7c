"""Functions of float32 that a GPU computes otherwise: by its units for 2^x and 1/x, without what only wide vectors of a CPU need.

They stand in for those of the same name in `vecmath`, with its promises: NaN, infinities and denormal results as there, errors as
stated in `BOUNDS`, in ulp, with what the PTX ISA grants `ex2.approx` (2 ulp) and `rcp.approx` (1 ulp).  Knows formulas and LLVM's NVPTX
intrinsics; must not know kernels (rank 4).  Place: `ptx` puts these names before those of `vecmath`.
"""
from __future__ import annotations

from llvmlite import ir
from numba.core import cgutils

from .. import vecmath_tables as T
from ..vecmath import F32, LOG2E, V, _call, _make, bits, copysign, fabs, fma, poly, unbits, where

BOUNDS: dict[str, float] = {}
NAMES: dict[str, object] = {}
# log2(erfc(t)), 1 <= t <= 4, weighed with erfc: least squares at Chebyshev nodes, weights shifted until the error is even.
_ERFC_LOG2 = (0.000271295721, -1.62963724, -0.913543105, -0.156415045, 0.0363678858, -0.00606592139, 0.000636717887, -3.12878437e-05)
_TANH = (-0.333332986, 0.133319244, -0.0537838228, 0.0207959432, -0.00589512708)  # tanh(x) = x + x z g(z), z = x^2 <= 0.36; likewise


def _unit(name, x):
    """One of the GPU's own functions; denormals count as 0."""
    f = cgutils.get_or_insert_function(x.b.module, ir.FunctionType(F32.f, [F32.f]), f"llvm.nvvm.{name}.approx.ftz.f")
    return V(x.b, x.b.call(f, [x.v]), F32)


def _ex2(x):
    return _unit("ex2", x)


def _rcp(x):
    """1/x for x whose inverse is normal."""
    return _unit("rcp", x)


def _bounded(x, lo, hi):
    """x held in [lo, hi], a bound may be None; NaN stays NaN."""
    x = x if lo is None else _call("maximum", x, lo)
    return x if hi is None else _call("minimum", x, hi)


def _reduced(h, l=None):  # noqa: E741
    """(f, s) with e^(h + l) = 2^(n + f), |f| <= 1/2, and n in the low bits of s."""
    hi, lo = F32.split(LOG2E)
    s = fma(h, hi, F32.magic)
    n = s - F32.magic
    f = fma(h, lo, fma(h, hi, -n))
    return (f if l is None else fma(l, hi, f)), s


def _exp(h, l=None):  # noqa: E741
    """e^(h + l), scaled in two steps, so that overflow and denormal results round once and rightly."""
    f, s = _reduced(_bounded(h, -104.0, 89.0), l)
    i = bits(s) - F32.pattern(F32.magic)
    half = V(i.b, i.b.ashr(i.v, ir.Constant(i.v.type, 1)), F32)
    return _ex2(f) * unbits((half + F32.bias) << 23) * unbits((i - half + F32.bias) << 23)


def function(bound, arity=1):
    """A formula of float32 under its name."""
    def wrap(formula):
        name = f"{formula.__name__}_f32"
        BOUNDS[name], NAMES[name] = bound, _make(name, formula, arity, F32)
        return formula
    return wrap


@function(1.5)
def sqrt(x):
    """The approximate root, and half of what its square leaves of x, divided by it: exact where the root is a float32.

    From 1e-35 on at most 0.501 ulp off; below, what is left of x is denormal.
    """
    s = _call("sqrt", x)
    better = fma(fma(-s, s, x), _rcp(s + s), s)
    return where(fabs(better) < float("inf"), better, s)


@function(3.5)
def exp(x):
    """e^x = 2^n 2^f."""
    return _exp(x)


@function(3.5)
def exp_below(x):
    """e^x for x <= 0; see vecmath."""
    f, s = _reduced(_bounded(x, -104.0, None))
    power = unbits((bits(s) << 23) + ((F32.bias + 32) << 23))  # 2^(n + 32) is normal wherever the result is not 0
    return _ex2(f) * power * 2.0 ** -32


@function(8.0)
def sigmoid(x):
    """1/(1 + e^-x), from e^-|x| on both sides."""
    e = exp_below(-fabs(x))
    return where(x < 0.0, e, 1.0) * _rcp(e + 1.0)


@function(6.0)
def softplus(x):
    """log(1 + e^x) = max(x, 0) + log1p(e^-|x|); log1p by the atanh series, s <= 1/3."""
    e = exp_below(-fabs(x))
    s = e * _rcp(e + 2.0)
    z = s * s
    return where(x > 0.0, x, 0.0) + fma(s, fma(z, poly(z, T.LOG3["f32"]), -e), e)


@function(4.5)
def tanh(x):
    """x + x^3 g(x^2) below 0.6, 1 - 2/(e^2|x| + 1) above."""
    a, z = fabs(x), x * x
    near = fma(poly(z, _TANH) * z, a, a)
    far = fma(_rcp(_ex2(a * (2.0 * LOG2E[0])) + 1.0), -2.0, 1.0)
    return copysign(where(a < 0.6, near, far), x)


@function(2.5)
def erf(x):
    """x + x g(x^2) below 1, 1 - 2^p(|x|) above."""
    a = fabs(x)
    near = fma(x, poly(x * x, T.ERF["f32"]), x)
    far = 1.0 - _ex2(poly(_bounded(a, None, 4.0), _ERFC_LOG2))
    return where(a < 1.0, near, copysign(far, x))


@function(10.0)
def erfc(x):
    """erfc(|x|) as in vecmath: exp(-a^2) g(u)/(1 + 2a), u = (a - 2)/(a + 2), and 2 minus it for x < 0."""
    a = _bounded(fabs(x), None, 10.2)
    up, twice = a + 2.0, fma(a, 2.0, 1.0)
    inverse = _rcp(up * twice)
    g = poly((a - 2.0) * (twice * inverse), T.ERFCX["f32"])
    h = a * a
    y = g * (up * inverse) * _exp(-h, -fma(a, a, -h))
    return where(x < 0.0, 2.0 - y, y)


globals().update(NAMES)
