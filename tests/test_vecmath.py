"""Vector math: measured error against the stated bounds, special values, and that it vectorises."""
import ctypes
import functools
import re

import numpy as np
import pytest

numba = pytest.importorskip("numba")
sp = pytest.importorskip("scipy.special")
from graphflow.codegen import vecmath as vm

L = np.longdouble
DTYPE = {"f32": np.float32, "f64": np.float64}
ALL = sorted(vm.NAMES)
inf, nan = np.inf, np.nan


@functools.cache
def kernel(name, fastmath=False):
    """The compiled loop o[i] = name(a[i], ...), and its assembly."""
    t = numba.types.float32 if name.endswith("32") else numba.types.float64
    a = "a, b"[: 4 * vm.FUNCTIONS[name[:-4]][1] - 3]
    call = ", ".join(f"{p}[i]" for p in a.split(", "))
    space = dict(vm.NAMES)
    exec(f"def k({a}, o, n):\n    for i in range(n):\n        o[i] = {name}({call})", space)
    types = [numba.types.CPointer(t)] * (a.count(",") + 2) + [numba.types.intp]
    return numba.cfunc(numba.types.void(*types), fastmath=fastmath, error_model="numpy")(space["k"])


def run(name, *xs, fastmath=False):
    xs = [np.ascontiguousarray(x, DTYPE[name[-3:]]) for x in np.broadcast_arrays(*xs)]
    out = np.empty_like(xs[0])
    call = ctypes.CFUNCTYPE(None, *[ctypes.c_void_p] * (len(xs) + 1), ctypes.c_ssize_t)
    call(kernel(name, fastmath).address)(*[x.ctypes.data for x in xs], out.ctypes.data, out.size)
    return out


# ---- Accuracy --------------------------------------------------------------------------------------

N = 40_000


def spread(lo, hi, seed=0):
    """Magnitudes evenly over the exponents between lo and hi, both signs."""
    r = np.random.default_rng(seed)
    return np.exp(r.uniform(np.log(lo), np.log(hi), N)) * r.choice([-1.0, 1.0], N)


def even(lo, hi, seed=1):
    return np.random.default_rng(seed).uniform(lo, hi, N)


def positive(t):
    """Every exponent including denormals, and a close look around 1."""
    return np.abs(np.r_[spread(least(t) / 1e5, most(t)), 1 + spread(1e-7, 0.5), even(0.3, 3)])


def least(t):
    return float(np.finfo(DTYPE[t]).tiny)


def most(t):
    return float(np.finfo(DTYPE[t]).max) * 0.999


def exp_range(t):
    lo, hi = (-104, 88.7) if t == "f32" else (-745, 709.7)
    return np.r_[even(lo, hi), even(-2, 2), spread(least(t), 10)]


def angles(t):
    """Small, large, and the floats nearest to multiples of pi/2."""
    return np.r_[even(-7, 7), spread(least(t), 2.0 ** 30), np.rint(even(-1e5, 1e5)) * (np.pi / 2)]


def unit(t):
    return np.clip(np.r_[even(-1, 1), spread(least(t), 1), 1 - np.abs(spread(1e-7, 1))], -1, 1)


def line(t):
    return np.r_[even(-4, 4), spread(least(t), most(t)), spread(1e-3, 30)]


def exact_erf(x):
    """The power series with positive terms, for |x| <= 1.5."""
    x = np.clip(x, -1.5, 1.5)
    term = total = np.ones_like(x)
    for k in range(60):
        term = term * (2 * x * x / (2 * k + 3))
        total = total + term
    return 2 / np.sqrt(L(np.pi)) * x * np.exp(-x * x) * total / (1 + L(PI_LOW) / (2 * L(np.pi)))


def exact_erfc_tail(a):
    """The continued fraction, for a > 1.5; a^2 in two exact parts, since exp magnifies its error."""
    a = np.clip(a, 1.5, 30)
    f = a
    for k in range(300, 0, -1):
        f = a + L(k) / 2 / f
    h = a.astype(np.float32).astype(L)
    e = np.exp(-h * h) * np.exp(-(a - h) * (a + h))
    return e / f / np.sqrt(L(np.pi)) / (1 + L(PI_LOW) / (2 * L(np.pi)))


def exact_erfc(x):
    tail = exact_erfc_tail(np.abs(x))
    return np.where(np.abs(x) <= 1.5, 1 - exact_erf(x), np.where(x > 0, tail, 2 - tail))


def exact_digamma(x):
    """Thirty-two steps upward, the asymptotic series, reflection; SciPy's is poor near negative poles."""
    y = np.where(x < 0, 1 - x, x)
    steps = sum(1 / (y + k) for k in range(32))
    z = y + 32
    q = 1 / (z * z)
    far = np.log(z) - 1 / (2 * z) - q * (1 / L(12) - q * (1 / L(120) - q * (1 / L(252) - q * (1 / L(240) - q / 132))))
    pi, t = L(np.pi) + L(PI_LOW), x - np.rint(x)
    return far - steps - np.where(x < 0, pi / np.tan(pi * np.where(t == 0, nan, t)), 0)


PI_LOW = 1.2246467991473532e-16          # pi minus the double nearest to it

# name -> (samples, reference in extended precision)
CASES = {
    "exp": (exp_range, np.exp), "exp_below": (lambda t: -np.abs(exp_range(t)), np.exp), "expm1": (exp_range, np.expm1),
    "exp2": (exp_range, np.exp2),
    "log": (positive, np.log), "log2": (positive, np.log2), "log10": (positive, np.log10),
    "log1p": (lambda t: np.r_[positive(t), unit(t)], np.log1p),
    "tanh": (line, np.tanh),
    "sigmoid": (exp_range, lambda x: 1 / (1 + np.exp(-x))),
    "softplus": (exp_range, lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x)))),
    "sinh": (lambda t: np.clip(exp_range(t), -88.7, None), np.sinh),
    "cosh": (lambda t: np.clip(exp_range(t), -88.7, None), np.cosh),
    "asinh": (line, np.arcsinh), "acosh": (lambda t: 1 + positive(t), np.arccosh), "atanh": (unit, np.arctanh),
    "sin": (angles, np.sin), "cos": (angles, np.cos), "tan": (angles, np.tan),
    "asin": (unit, np.arcsin), "acos": (unit, np.arccos), "atan": (line, np.arctan),
    "atan2": (lambda t: (line(t), line(t)[::-1]), np.arctan2),
    "pow": (lambda t: (np.r_[np.abs(spread(1e-30, 1e30)), 1 + spread(1e-6, .4)], np.r_[even(-9, 9), spread(1, 1e7)]),
            np.power),
    "rsqrt": (positive, lambda x: 1 / np.sqrt(x)),
    "erf": (line, lambda x: np.where(np.abs(x) <= 1.5, exact_erf(x), np.sign(x) * (1 - exact_erfc_tail(np.abs(x))))),
    "erfc": (lambda t: even(-6, 10.05 if t == "f32" else 26.5), exact_erfc),
    "erfinv": (unit, sp.erfinv), "ndtri": (lambda t: np.abs(unit(t)), sp.ndtri),
    "lgamma": (lambda t: np.r_[positive(t), even(-20, 20)], sp.gammaln),
    "digamma": (lambda t: np.r_[positive(t), even(-20, 20)], exact_digamma),
}
SCIPY = {"erfinv", "ndtri", "lgamma"}     # references in float64 only
REFERENCE_ULP = 2.0             # allowed to the float64 reference itself (scipy states a few ulp)


def errors(name, got, ref):
    """|got - ref| in ulp of ref, or over max(1, |ref|) epsilon for the ABSOLUTE functions."""
    f = np.finfo(got.dtype)
    size = np.maximum(np.abs(ref), 1) if name in vm.ABSOLUTE else np.maximum(np.abs(ref), f.tiny)
    step = size * f.eps if name in vm.ABSOLUTE else np.ldexp(L(1), np.frexp(size)[1] - 1 - f.nmant)
    return np.abs(got.astype(L) - ref) / step


@pytest.mark.parametrize("name", ALL)
def test_error_within_bound(name):
    base, t = name[:-4], name[-3:]
    make, reference = CASES[base]
    xs = make(t)
    xs = [np.asarray(x).astype(DTYPE[t]) for x in (xs if isinstance(xs, tuple) else (xs,))]
    with np.errstate(all="ignore"):
        ref = reference(*[x.astype(np.float64 if base in SCIPY else L) for x in xs]).astype(L)
        got = run(name, *xs)
        finite = np.abs(ref) < most(t)
        assert np.array_equal(np.isnan(got), np.isnan(ref))
        err = np.where(finite, errors(name, got, np.where(finite, ref, 1)), 0)
    bound = vm.ABSOLUTE.get(name) or vm.BOUNDS[name]
    slack = REFERENCE_ULP if base in SCIPY and t == "f64" else 0
    worst = int(np.argmax(err))
    assert err[worst] <= bound + slack + 0.01, f"{err[worst]:.3f} at {[x[worst] for x in xs]}: {got[worst]}, {ref[worst]}"


# ---- Special values ----------------------------------------------------------------------------------

NUMPY = {"exp": np.exp, "exp2": np.exp2, "expm1": np.expm1, "log": np.log, "log2": np.log2, "log10": np.log10,
         "log1p": np.log1p, "tanh": np.tanh, "sigmoid": sp.expit, "sinh": np.sinh, "cosh": np.cosh,
         "asinh": np.arcsinh, "acosh": np.arccosh, "atanh": np.arctanh, "sin": np.sin, "cos": np.cos, "tan": np.tan,
         "asin": np.arcsin, "acos": np.arccos, "atan": np.arctan, "erf": sp.erf, "erfc": sp.erfc,
         "softplus": lambda x: np.logaddexp(x, x.dtype.type(0)),
         "rsqrt": lambda x: x.dtype.type(1) / np.sqrt(x), "erfinv": lambda x: np.copysign(sp.erfinv(x), x),     # SciPy drops the sign of -0
         "ndtri": sp.ndtri, "lgamma": lambda x: np.where(np.isinf(x), x.dtype.type(inf), sp.gammaln(x)),    # as C's lgamma
         "digamma": sp.digamma}
EDGES = np.array([0.0, -0.0, 1.0, -1.0, inf, -inf, nan, 1e-40, -1e-40, 2.0, -2.0, 0.5] * 3)


def same(got, want, rtol):
    np.testing.assert_allclose(got, want, rtol=rtol, atol=rtol)
    zero = (want == 0) & ~np.isnan(want)
    np.testing.assert_array_equal(np.signbit(got[zero]), np.signbit(want[zero]))


@pytest.mark.parametrize("fastmath", [False, True])
@pytest.mark.parametrize("name", [n for n in ALL if n[:-4] in NUMPY])
def test_special_values(name, fastmath):
    """As NumPy, also inside a kernel compiled with every fast-math flag: the functions are sealed."""
    x = EDGES.astype(DTYPE[name[-3:]])
    with np.errstate(all="ignore"):
        same(run(name, x, fastmath=fastmath), NUMPY[name[:-4]](x), 3e-6 if name.endswith("32") else 1e-12)


@pytest.mark.parametrize("name", ["pow_f32", "pow_f64", "atan2_f32", "atan2_f64"])
def test_special_pairs(name):
    v = np.array([0.0, -0.0, 1, -1, 2, -2, 3, -3, 0.5, -0.5, 2.5, -2.5, 1e30, -1e30, inf, -inf, nan])
    x, y = (a.ravel().astype(DTYPE[name[-3:]]) for a in np.meshgrid(v, v))
    with np.errstate(all="ignore"):
        same(run(name, x, y), (np.power if "pow" in name else np.arctan2)(x, y), 1e-6)


@pytest.mark.parametrize("t", ["f32", "f64"])
def test_exp_below_at_its_edges(t):
    """Underflow is gradual and ends at 0; every kind of NaN stays one."""
    payload = np.array([0x7FC00001, 0x7F800001], np.uint32).view(np.float32) if t == "f32" else \
        np.array([0x7FF8000000000001, 0x7FF0000000000001], np.uint64).view(np.float64)
    assert np.isnan(run(f"exp_below_{t}", np.r_[payload, DTYPE[t](nan)])).all()
    x = np.array([0.0, -0.0, -inf, -1e30, -1e-40, -87.5, -100.0, -103.9, -745.0, -800.0]).astype(DTYPE[t])
    with np.errstate(under="ignore"):
        np.testing.assert_allclose(run(f"exp_below_{t}", x), np.exp(x.astype(L)).astype(DTYPE[t]), rtol=2e-7,
                                   atol=5e-324 if t == "f64" else 2e-45)


@pytest.mark.parametrize("name", ["sin_f32", "cos_f64", "tan_f64"])
def test_phase_is_never_silently_wrong(name):
    assert np.isnan(run(name, np.full(16, 1e20))).all()
    x = np.full(16, 2.0 ** 45 + 2.0 ** 24).astype(DTYPE[name[-3:]])
    np.testing.assert_allclose(run(name, x), getattr(np, name[:3])(x.astype(L)).astype(float), rtol=1e-6)


def test_exact_results():
    k = np.arange(-30.0, 31)
    assert np.array_equal(run("exp2_f64", k), 2.0 ** k) and np.array_equal(run("log2_f32", 2.0 ** k), k)
    assert np.array_equal(run("pow_f64", np.full(61, 2.0), k), 2.0 ** k)


# ---- Vectorisation -------------------------------------------------------------------------------------

# What a processor does itself; LLVM turns llvm.exp and the like into calls of libm.
MACHINE = re.compile(r"llvm\.(fma|fabs|copysign|sqrt|rint|[su]?(min|max)|minnum|maxnum|fsh[lr]|bswap|is\.fpclass|assume|lifetime|"
                     r"experimental)\b")


def scalar_calls(text):
    called = set(re.findall(r"call [^@\n]*@\"?([\w.]+)", text))
    return {c for c in called if not c.startswith("_ZN") and not MACHINE.match(c)}


@pytest.mark.parametrize("name", ALL)
def test_vectorises_without_calls(name):
    """The optimised kernel holds vector arithmetic of its type, and calls no library."""
    text = kernel(name)._library.get_llvm_str()
    assert not scalar_calls(text)
    t = "float" if name.endswith("32") else "double"
    assert re.search(rf"load <\d+ x {t}>", text) and re.search(rf"store <\d+ x {t}>", text)


def test_the_check_for_calls_sees_libm():
    import math
    types = [numba.types.CPointer(numba.types.float32)] * 2 + [numba.types.intp]

    @numba.cfunc(numba.types.void(*types))
    def plain(a, o, n):
        for i in range(n):
            o[i] = math.exp(a[i])
    assert scalar_calls(plain._library.get_llvm_str())


def test_every_function_states_its_bound_and_method():
    for name in ALL:
        assert (name in vm.BOUNDS) != (name in vm.ABSOLUTE)
        assert vm.FUNCTIONS[name[:-4]][0].__doc__ and name[:-4] in CASES
