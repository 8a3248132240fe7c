"""Vector math: exp, log, tanh, sin, pow, erf, ... as straight-line code that LLVM vectorises.

Knows: floating-point formulas, and how to write one as LLVM IR. Every function is ONE Numba intrinsic,
`<name>_f32` or `<name>_f64`, whose body is scalar IR without a branch or a call to libm; used inside a
kernel loop it is inlined where it stands, and LLVM's loop vectoriser turns it into AVX2, AVX-512 or
NEON code. Writing IR directly costs well under a millisecond a use (typing the same formula through
Numba costs tens), and gives exact control of fused multiply-adds and of fast-math flags.

Must not know: graphs, kernels, loops, threads. Its place: `codegen/compile.py` compiles kernel text in
a namespace that holds the public names of this module; importing it compiles nothing.

Flags: the instructions written here are sealed against Numba's `fastmath=` rewriting. A kernel compiled
with reassoc or nnan keeps these functions exact: compensated steps survive and NaN propagates.
A target without fused multiply-add is outside the design (x86-64-v3 and every arm64 have it).

`BOUNDS` states each function's greatest error in ulp of the exact result, `ABSOLUTE` the few functions
that promise an error relative to max(1, |result|) instead; the tests measure both. Rounding of
denormal results may add half a denormal step.
"""
import struct

from llvmlite import ir
from llvmlite.ir.instructions import FastMathFlags
from numba import types
from numba.extending import intrinsic

from graphflow.codegen import vecmath_tables as T

inf, nan = float("inf"), float("nan")


# ---- Writing IR as expressions ------------------------------------------------------------------

class Kind:
    """A floating format: its LLVM and Numba types and the numbers that describe it."""

    def __init__(self, name, bits, mant, tiny, ftype, ntype, code):
        self.name, self.bits, self.mant, self.tiny = name, bits, mant, tiny
        self.f, self.i, self.numba, self.code = ftype, ir.IntType(bits), ntype, code
        self.bias = (1 << (bits - mant - 2)) - 1
        self.magic = 1.5 * 2.0 ** mant      # x + magic - magic is rint(x), with the integer in the low bits

    def round(self, value):
        """`value` rounded to this format, as a Python float."""
        return struct.unpack(self.code, struct.pack(self.code, value))[0]

    def pattern(self, value):
        """The bits of `value` in this format, as an integer."""
        return int.from_bytes(struct.pack("<" + self.code, value), "little")

    def split(self, constant):
        """(hi, lo) in this format of a constant given as a double and its remainder."""
        hi, lo = constant
        return (hi, lo) if self.name == "f64" else (self.round(hi), self.round(hi - self.round(hi)))

    def pick(self, f32, f64):
        """The one of two numbers that is meant for this format."""
        return f64 if self.name == "f64" else f32


F32 = Kind("f32", 32, 23, 2.0 ** -126, ir.FloatType(), types.float32, "f")
F64 = Kind("f64", 64, 52, 2.0 ** -1022, ir.DoubleType(), types.float64, "d")


class _NoFlags(list):
    """Instruction flags that stay empty when Numba's fastmath pass appends to them."""

    def append(self, _):
        pass


class _NoCallFlags(FastMathFlags):
    """The same for the flags of a call."""

    def add(self, _):
        pass


class V:
    """A scalar SSA value with Python operators; `k` is its Kind (of an integer: that of its width)."""

    __slots__ = ("b", "k", "v")

    def __init__(self, b, v, k):
        self.b, self.v, self.k = b, v, k

    def lift(self, x):
        return x.v if isinstance(x, V) else ir.Constant(self.v.type, x)

    def _op(self, op, x, y):
        i = getattr(self.b, op)(self.lift(x), self.lift(y))
        if op[0] == "f":
            i.flags = _NoFlags()
        return V(self.b, i, self.k)

    def _arith(self, op, x, y):
        return self._op(op if self.v.type == self.k.i else "f" + op, x, y)

    def __add__(self, o): return self._arith("add", self, o)
    def __radd__(self, o): return self._arith("add", o, self)
    def __sub__(self, o): return self._arith("sub", self, o)
    def __rsub__(self, o): return self._arith("sub", o, self)
    def __mul__(self, o): return self._arith("mul", self, o)
    def __rmul__(self, o): return self._arith("mul", o, self)
    def __truediv__(self, o): return self._op("fdiv", self, o)
    def __rtruediv__(self, o): return self._op("fdiv", o, self)
    def __and__(self, o): return self._op("and_", self, o)
    def __or__(self, o): return self._op("or_", self, o)
    def __xor__(self, o): return self._op("xor", self, o)
    def __lshift__(self, n): return self._op("shl", self, n)
    def __rshift__(self, n): return self._op("lshr", self, n)     # logical: AVX2 has no other for 64 bits
    def __invert__(self): return self ^ 1                         # of a condition
    def __neg__(self): return V(self.b, self.b.fneg(self.v), self.k)

    def _cmp(self, op, o):
        if self.v.type == self.k.i:
            return V(self.b, self.b.icmp_signed(op, self.v, self.lift(o)), self.k)
        make = self.b.fcmp_unordered if op == "!=" else self.b.fcmp_ordered
        i = make(op, self.v, self.lift(o))
        i.flags = _NoFlags()
        return V(self.b, i, self.k)

    def __lt__(self, o): return self._cmp("<", o)
    def __le__(self, o): return self._cmp("<=", o)
    def __gt__(self, o): return self._cmp(">", o)
    def __ge__(self, o): return self._cmp(">=", o)
    def eq(self, o): return self._cmp("==", o)
    def ne(self, o): return self._cmp("!=", o)


def _call(name, *args):
    x = next(a for a in args if isinstance(a, V))
    t = x.v.type
    fn = x.b.module.declare_intrinsic("llvm." + name, [t], ir.FunctionType(t, [t] * len(args)))
    i = x.b.call(fn, [x.lift(a) for a in args])
    i.fastmath = _NoCallFlags()
    return V(x.b, i, x.k)


def fma(a, b, c):
    """a * b + c rounded once."""
    return _call("fma", a, b, c)


def fabs(x):
    return _call("fabs", x)


def sqrt(x):
    return _call("sqrt", x)


def copysign(x, y):
    return _call("copysign", x, y)


def where(c, a, b):
    """a where c holds, else b; either may be a number."""
    like = a if isinstance(a, V) else b if isinstance(b, V) else None
    f = ir.Constant if like is None else (lambda t, x: like.lift(x))
    t = c.k.f if like is None else like.v.type
    return V(c.b, c.b.select(c.v, f(t, a), f(t, b)), c.k if like is None else like.k)


def bits(x):
    """The integer with the bits of a float."""
    return V(x.b, x.b.bitcast(x.v, x.k.i), x.k)


def unbits(i):
    """The float with the bits of an integer."""
    return V(i.b, i.b.bitcast(i.v, i.k.f), i.k)


def f64(x):
    return x if x.k is F64 else V(x.b, x.b.fpext(x.v, F64.f), F64)


def narrow(x, k):
    """An f64 value in format k."""
    return x if k is F64 else V(x.b, x.b.fptrunc(x.v, k.f), k)


def poly(x, coefficients):
    """c0 + c1 x + c2 x^2 + ... by Horner's rule; throughput, not latency, limits a vector loop.

    In a module that is `hasty` (see translate.py) latency does: all but the first two terms by Estrin's scheme.
    """
    *rest, y = coefficients
    if _hasty(x) and len(coefficients) > 2:
        *rest, y = *coefficients[:2], _estrin(x, coefficients[2:])
    for c in reversed(rest):
        y = fma(y, x, c)
    return y


def tail(x, coefficients, rest):
    """rest + c0 x^2 + c1 x^3 + ..., small beside what it will be added to."""
    if not _hasty(x) or len(coefficients) < 6:
        return fma(x * x, poly(x, coefficients), rest)
    x2 = x * x
    return fma(x2 * (x2 * x2), _estrin(x, coefficients[4:]), fma(x2, _estrin(x, coefficients[:4]), rest))


def _hasty(x):
    return getattr(x.b.module, "hasty", False)


def _estrin(x, coefficients):
    """Neighbours joined by x, pairs by x^2, fours by x^4, ..."""
    terms = list(coefficients)
    while len(terms) > 1:
        odd = terms[len(terms) // 2 * 2:]
        terms = [fma(x, b, a) for a, b in zip(terms[::2], terms[1::2])] + odd
        x = x * x
    return terms[0]


def clamp(x, lo, hi):
    """x held in [lo, hi]; NaN stays NaN. A bound may be None."""
    x = x if hi is None else where(x > hi, hi, x)
    return x if lo is None else where(x < lo, lo, x)


def keep_tiny(x, y, limit=None):
    """y, but x itself where |x| is so small that f(x) = x: keeps -0.0 and denormals."""
    return where(fabs(x) < (x.k.tiny if limit is None else limit), x, y)


# ---- Constants (value, remainder) and shared pieces -----------------------------------------------

LN2 = (0.6931471805599453, 2.3190468138462996e-17)
LOG2E = (1.4426950408889634, 2.0355273740931033e-17)
LOG10E = (0.4342944819032518, 1.098319650216765e-17)
LOG10_2 = (0.3010299956639812, -2.8037281277851704e-18)
PI = (3.141592653589793, 1.2246467991473532e-16, -2.9947698097183397e-33)
PIO2 = (1.5707963267948966, 6.123233995736766e-17, -1.4973849048591698e-33)
TWO_THIRDS = (0.6666666666666666, 3.700743415417188e-17)
SQRT_HALF = 0.7071067811865476
TRIG_LIMIT = 2.0 ** 46


def rint(t):
    """(n, i): the integer nearest t as a float and as an integer of the same width, |t| < 2^(mant-1)."""
    s = t + t.k.magic
    return s - t.k.magic, bits(s) - t.k.pattern(t.k.magic)


def pow2(i):
    """2^i for an integer i in the range of normal exponents."""
    return unbits((i + i.k.bias) << i.k.mant)


def scale(y, i):
    """y * 2^i in two steps, so that overflow and denormal results round once and rightly."""
    both = i + 2 * i.k.bias
    half = both >> 1
    return y * unbits(half << i.k.mant) * unbits((both - half) << i.k.mant)


def exp_reduce(x):
    """(r, i) with x = i ln2 + r, |r| <= ln2/2. Cody and Waite's two-part ln2; with fma the first
    step is exact, since the result fits the format."""
    r, s = exp_shifted(x)
    return r, bits(s) - x.k.pattern(x.k.magic)


def exp_shifted(x):
    """(r, s) as `exp_reduce`, with the integer still in the low bits of s."""
    hi, lo = x.k.split(LN2)
    s = fma(x, LOG2E[0], x.k.magic)
    n = s - x.k.magic
    return fma(n, -lo, fma(n, -hi, x)), s


def expm1_poly(r, table=None):
    """exp(r) - 1 for |r| <= ln2/2."""
    return tail(r, table or T.EXP[r.k.name], r)


def exp_clamp(x):
    """x held just outside the range where exp is neither 0 nor infinite."""
    return clamp(x, x.k.pick(-104.0, -746.0), x.k.pick(89.0, 710.0))


def exp_sum(h, l):  # noqa: E741
    """exp(h + l) for a small correction l."""
    r, i = exp_reduce(exp_clamp(h))
    return scale(expm1_poly(r + l) + 1.0, i)


def expm1_quarter(x):
    """(exp(x) - 1) / 4, finite wherever sinh is; x is clamped just beyond that."""
    x = clamp(x, x.k.pick(-17.5, -38.0), x.k.pick(89.5, 710.6))
    hi, lo = x.k.split(LN2)
    n, i = rint(x * LOG2E[0])
    t = fma(n, -hi, x)
    r = fma(n, -lo, t)
    lost = fma(n, -lo, t - r)                 # what the second step rounded away
    p = tail(r, T.EXP[x.k.name], lost) + r
    s = pow2(i - 2)
    return fma(p, s, s - 0.25)


def log_reduce(x):
    """(n, f) with x = 2^n (1 + f), sqrt(1/2) <= 1 + f < sqrt(2), n as a float; x positive and finite."""
    k = x.k
    low, sub = k.pattern(k.round(SQRT_HALF)), x < k.tiny
    t = bits(where(sub, x * 2.0 ** k.mant, x)) + (k.pattern(1.0) - low)
    f = unbits((t & ((1 << k.mant) - 1)) + low) - 1.0
    big = 2.0 ** k.mant                       # exponent into the low bits of 2^mant: an exact conversion
    n = unbits((t >> k.mant) | k.pattern(big)) - where(sub, big + k.bias + k.mant, big + k.bias)
    return n, f


def log_tail(f):
    """log(1 + f) - f for the f of log_reduce. f32: a polynomial. f64: the series in s = f/(2+f)
    of fdlibm's log, arranged as -s (f - R)."""
    if f.k is F32:
        return f * f * poly(f, T.LOG["f32"])
    s = f / (f + 2.0)
    z = s * s
    return s * fma(z, poly(z, T.LOGS["f64"]), -f)


def log_join(n, f):
    """n ln2 + log(1 + f); the large term comes last, so that only one rounding has its size."""
    hi, lo = f.k.split(LN2)
    return fma(n, hi, f + fma(n, lo, log_tail(f)))


def log_edges(x, y, pole):
    """The logarithm's values outside (pole, inf): NaN below, -inf at it, x itself for inf and NaN."""
    return where(x > pole, where(x < inf, y, x), where(x.eq(pole), -inf, nan))


def log_base(x, step, slope):
    """n step + log(1 + f) slope: logarithms to other bases."""
    n, f = log_reduce(x)
    (sh, sl), (fh, fl) = f.k.split(step), f.k.split(slope)
    low = fma(log_tail(f), fh, fma(f, fl, n * sl) if sl else f * fl)
    return log_edges(x, fma(n, sh, fma(f, fh, low)), 0.0)


# ---- Exponentials and logarithms -----------------------------------------------------------------

FUNCTIONS = {}       # name -> (formula over V, number of arguments)
BOUNDS = {}          # "name_f32" -> greatest error in ulp
ABSOLUTE = {}        # likewise, the error over max(1, |result|) in units of the format's epsilon


def vec(f32, f64, arity=1, bounds=BOUNDS):
    """Register a formula under its name, with its error bounds."""
    def wrap(formula):
        name = formula.__name__.rstrip("_")
        FUNCTIONS[name] = (formula, arity)
        bounds[name + "_f32"], bounds[name + "_f64"] = f32, f64
        return formula
    return wrap


@vec(1.0, 1.0)
def exp(x):
    """e^x: Cody-Waite reduction, polynomial, scaling by 2^n. Denormal results are right."""
    r, i = exp_reduce(exp_clamp(x))
    return scale(poly(r, (1.0, 1.0, *T.EXP[x.k.name])), i)


@vec(1.0, 1.0)
def exp_below(x):
    """e^x for x <= 0, as softmax needs it: a power of two that cannot overflow makes the scaling half as long. Any x > 0
    gives any value; NaN stays NaN."""
    k = x.k
    r, s = exp_shifted(clamp(x, k.pick(-104.0, -746.0), None))
    up = k.pick(32, 64)                       # 2^(n + up) is normal for every n of a result that is not 0
    power = unbits((bits(s) << k.mant) + ((k.bias + up) << k.mant))
    return poly(r, (1.0, 1.0, *T.EXP[k.name])) * power * 2.0 ** -up


@vec(1.0, 1.0)
def exp2(x):
    """2^x: the fraction x - rint(x) is exact."""
    x = clamp(x, x.k.pick(-151.0, -1076.0), x.k.pick(129.0, 1025.0))
    n, i = rint(x)
    r = x - n
    return scale(fma(r, poly(r, T.EXP2[x.k.name]), 1.0), i)


@vec(2.0, 2.0)
def expm1(x):
    """e^x - 1 = 2^n (e^r - 1) + (2^n - 1), one fma; relative accuracy near 0."""
    return keep_tiny(x, expm1_quarter(x) * 4.0, 2.0 ** -60)


@vec(1.0, 1.0)
def log(x):
    """Natural logarithm: x = 2^n (1 + f), as in Cephes (f32) and fdlibm (f64)."""
    return log_edges(x, log_join(*log_reduce(x)), 0.0)


@vec(1.5, 1.5)
def log1p(x):
    """log(1 + x): n from 1 + x, then 1 + f = 2^-n (1 + x) in one fma, so that nothing is lost
    (the step is that of SLEEF). Written with 2^(2-n), which stays normal."""
    n, _ = log_reduce(x + 1.0)
    s = pow2(2 - rint(n)[1])
    f = fma(x * 0.25, s, fma(s, 0.25, -1.0))
    return keep_tiny(x, log_edges(x, log_join(n, f), -1.0), 2.0 ** -60)


@vec(1.0, 1.0)
def log2(x):
    """Base-2 logarithm; exact at powers of two."""
    return log_base(x, (1.0, 0.0), LOG2E)


@vec(1.0, 1.0)
def log10(x):
    """Base-10 logarithm."""
    return log_base(x, LOG10_2, LOG10E)


def log_double(a):
    """(hi, lo) with hi + lo = log(a) to about 2^-66 relative, a positive and finite, f64.
    atanh series in s = f/(2+f) with s, s^2 and the first coefficient in two parts (Dekker)."""
    n, f = log_reduce(a)
    d = f + 2.0
    inv = 1.0 / d
    s = f * inv
    sl = fma(f - (d - 2.0), -s, fma(-s, d, f)) * inv
    z = s * s
    zl = fma(s, s, -z) + 2.0 * s * sl
    t = z * poly(z, T.POW["f64"])
    p = t + TWO_THIRDS[0]
    pl = t - (p - TWO_THIRDS[0]) + TWO_THIRDS[1]
    u = z * p
    ul = fma(z, p, -u) + fma(z, pl, zl * p)
    v = s * u
    vl = fma(s, u, -v) + fma(s, ul, sl * u)
    # n ln2 (first part short: the product is exact) + 2s + v, each sum with its error
    big = n * 0.6931471805598903
    s2 = s + s
    a1 = big + s2
    e1 = s2 - (a1 - big)
    a2 = a1 + v
    e2 = v - (a2 - a1)
    low = fma(n, 5.497923018708371e-14, e1 + e2 + (2.0 * sl + vl))
    hi = a2 + low
    return hi, low - (hi - a2)


@vec(1.0, 1.5, arity=2)
def pow_(x, y):
    """x^y = exp(y log|x|) with C's rules for signs, zeros, infinities and NaN (as numpy.power)."""
    a = fabs(x)
    size = pow_f32_size(a, y) if x.k is F32 else pow_f64_size(a, y)
    return pow_signs(x, y, size)


def log_of_size(a, value):
    """log(a) for a >= 0 or NaN, from its value at positive finite a."""
    return where(a < inf, where(a.eq(0.0), -inf, value), a)


def pow_f64_size(a, y):
    """a^y with logarithm and product in two parts."""
    hi, lo = log_double(a)
    hi = log_of_size(a, hi)
    h = y * hi
    return exp_sum(h, where(fabs(h) < 800.0, fma(y, hi, -h) + y * lo, 0.0))


def pow_f32_size(a, y):
    """a^y through f64 (to 2^-34), which costs less than two-part f32; only the reduction is f32."""
    n, f = log_reduce(a)
    f = f64(f)
    log_a = fma(f * f, poly(f, T.LOG["short"]), fma(f64(n), LN2[0], f))
    r, i = exp_reduce(clamp(f64(y) * log_of_size(f64(a), log_a), -120.0, 120.0))
    return narrow((expm1_poly(r, T.EXP["short"]) + 1.0) * pow2(i), F32)


def pow_signs(x, y, size):
    """Sign and special values of x^y, given |x|^y."""
    whole, odd = is_whole(y), ~is_whole(y * 0.5)
    negative = bits(x) < 0
    r = where(negative & whole & odd, -size, size)
    r = where((x < 0.0) & (x > -inf) & ~whole, nan, r)
    one = x.eq(1.0) | y.eq(0.0) | (fabs(x).eq(1.0) & fabs(y).eq(inf))
    return where(one, 1.0, r)


def is_whole(y):
    """Whether a float is an integer (infinities count)."""
    return _call("rint", y).eq(y)


# ---- Hyperbolic functions and the sigmoid family --------------------------------------------------

@vec(2.5, 2.5)
def tanh(x):
    """E/(E + 2) with E = expm1(2|x|), 1 where tanh rounds to that, x where it rounds to x; relative accuracy near 0."""
    a, k = fabs(x), x.k
    # exp(2a) = 4 s (1 + 2 (r + e)) without a step that doubles. The second part of ln2 comes late, as a change d of r that is small
    # for these few n: exp(2 (r + d)) = exp(2r) + 2d (1 + 2r) within rounding.
    hi, lo = k.split(LN2)
    shifted = fma(a, 2.0 * LOG2E[0], k.magic)
    n, s = shifted - k.magic, pow2(bits(shifted) - (k.pattern(k.magic) + 1))
    r, d = fma(n, -0.5 * hi, a), n * (-0.5 * lo)
    e = tail(r, [c * 2.0 ** i for i, c in enumerate(T.EXP[k.name], 1)], fma(d, r + r, d))
    q = fma(e, s, fma(r, s, s * 0.5 - 0.25))
    tiny, one = a < 2.0 ** -60, a > k.pick(10.0, 20.0)
    return where(tiny | one, where(one, copysign(1.0, x), x), copysign(q / (q + 0.5), x))


@vec(2.5, 2.5)
def sigmoid(x):
    """1/(1 + e^-x), from e^-|x| on both sides: no overflow, and small values keep their digits."""
    e = exp(-fabs(x))
    return where(x < 0.0, e, 1.0) / (e + 1.0)


@vec(2.0, 2.0)
def softplus(x):
    """log(1 + e^x) = max(x, 0) + log1p(e^-|x|); log1p by the atanh series, s <= 1/3."""
    e = exp(-fabs(x))
    s = e / (e + 2.0)
    z = s * s
    return where(x > 0.0, x, 0.0) + fma(s, fma(z, poly(z, T.LOG3[x.k.name]), -e), e)


@vec(2.5, 2.5)
def sinh(x):
    """(E + E/(E+1))/2 with E = expm1|x|, held as E/4 against overflow."""
    q = expm1_quarter(fabs(x))
    return keep_tiny(x, copysign((q + q / fma(q, 4.0, 1.0)) * 2.0, x), 2.0 ** -60)


@vec(2.0, 2.0)
def cosh(x):
    """(e + 1/e)/2 with e = e^|x|, held as e/4."""
    r, i = exp_reduce(clamp(fabs(x), None, x.k.pick(89.5, 710.6)))
    q = (expm1_poly(r) + 1.0) * pow2(i - 2)
    return fma(q, 2.0, 0.125 / q)


@vec(3.0, 3.0)
def asinh(x):
    """log1p(a + a^2/(1 + sqrt(1 + a^2))), a = |x|; for large a log(a) + ln2."""
    a, big = fabs(x), fabs(x) > x.k.pick(2.0 ** 30, 2.0 ** 60)
    b = where(big, 1.0, a)
    z = b * b
    y = log1p(where(big, a, b + z / (sqrt(z + 1.0) + 1.0))) + where(big, LN2[0], 0.0)
    return keep_tiny(x, copysign(y, x), 2.0 ** -60)


@vec(3.0, 3.0)
def acosh(x):
    """log1p(t + sqrt(2t + t^2)), t = x - 1; for large x log(x) + ln2; NaN below 1."""
    big = x > x.k.pick(2.0 ** 30, 2.0 ** 60)
    t = x - 1.0
    return where(x < 1.0, nan, log1p(where(big, x, t + sqrt(fma(t, t, t + t)))) + where(big, LN2[0], 0.0))


@vec(3.0, 3.0)
def atanh(x):
    """log1p(2a/(1 - a))/2, a = |x|."""
    a = fabs(x)
    return keep_tiny(x, copysign(log1p((a + a) / (1.0 - a)) * 0.5, x), 2.0 ** -60)


# ---- Trigonometric functions ---------------------------------------------------------------------

def trig_reduce(x, step, shift):
    """(r, i): x = (i - shift) step + r in f64, three-part Cody-Waite; correct to |x| <= 2^46, where
    the first product still cancels exactly and the others round in units of the result. Also serves
    f32: a few f64 steps buy the whole useful range."""
    x = f64(x)
    p1, p2, p3 = step
    n, i = rint(fma(x, 1.0 / p1, shift) if shift else x * (1.0 / p1))
    n = n - shift if shift else n
    return fma(n, -p3, fma(n, -p2, fma(n, -p1, x))), i


def trig_edges(x, y):
    """NaN outside the stated range (so also for infinities): never a silently wrong phase."""
    return where(fabs(x) <= TRIG_LIMIT, y, nan)


def sin_shifted(x, shift):
    """(-1)^i sin(r): one polynomial on [-pi/2, pi/2] costs less than two on half the range."""
    r, i = trig_reduce(x, PI, shift)
    r = narrow(unbits(bits(r) ^ (i << 63)), x.k)
    z = r * r
    return trig_edges(x, fma(r * z, poly(z, T.SIN[x.k.name]), r))


@vec(2.0, 2.0)
def sin(x):
    """Sine, |x| <= 2^46; NaN beyond."""
    return keep_tiny(x, sin_shifted(x, 0.0), 2.0 ** -60)


@vec(2.5, 2.5)
def cos(x):
    """cos(x) = sin(x + pi/2), the half-turn taken inside the exact reduction; NaN beyond 2^46."""
    return sin_shifted(x, 0.5)


@vec(4.0, 4.0)
def tan(x):
    """sin(r)/cos(r), or -cos(r)/sin(r) in odd quadrants; NaN beyond 2^46."""
    r, i = trig_reduce(x, PIO2, 0.0)
    i = i if x.k is F64 else V(i.b, i.b.trunc(i.v, x.k.i), x.k)
    r, odd = narrow(r, x.k), (i & 1).ne(0)
    z = r * r
    s = fma(r * z, poly(z, T.SIN4[x.k.name]), r)
    c = fma(z * z, poly(z, T.COS4[x.k.name]), fma(z, -0.5, 1.0))
    return keep_tiny(x, trig_edges(x, where(odd, -c, s) / where(odd, s, c)), 2.0 ** -60)


def asin_core(x):
    """(p, big): p = asin(|x|) for |x| <= 1/2, else p = asin(sqrt((1 - |x|)/2)) and big holds (Cephes)."""
    a = fabs(x)
    big = a > 0.5
    z = where(big, fma(a, -0.5, 0.5), a * a)
    t = where(big, sqrt(z), a)
    return fma(t * z, poly(z, T.ASIN[x.k.name]), t), big


@vec(3.0, 3.0)
def asin(x):
    """Arc sine; beyond 1/2 as pi/2 - 2 asin(sqrt((1 - x)/2))."""
    p, big = asin_core(x)
    hi, lo = x.k.split(PIO2[:2])
    return keep_tiny(x, copysign(where(big, hi - fma(p, 2.0, -lo), p), x), 2.0 ** -60)


@vec(2.0, 2.0)
def acos(x):
    """Arc cosine, from the same core: small results keep their digits."""
    p, big = asin_core(x)
    hi, lo = x.k.split(PIO2[:2])
    q = where(big, p + p, copysign(p, x))
    near = hi - (q - lo)
    return where(big, where(x < 0.0, 2.0 * hi - (q - 2.0 * lo), q), near)


def atan_ratio(low, high):
    """atan(low/high) for 0 <= low <= high."""
    t = low / high
    z = t * t
    return fma(t * z, poly(z, T.ATAN[t.k.name]), t)


@vec(3.0, 3.0)
def atan(x):
    """Arc tangent: of x, or pi/2 minus that of 1/x."""
    a, (hi, lo) = fabs(x), x.k.split(PIO2[:2])
    big = a > 1.0
    p = atan_ratio(where(big, 1.0, a), where(big, a, 1.0))
    return keep_tiny(x, copysign(where(big, hi - (p - lo), p), x), 2.0 ** -60)


@vec(3.0, 3.0, arity=2)
def atan2(y, x):
    """Angle of the point (x, y), with C's rules for zeros and infinities."""
    a, b, (hi, lo) = fabs(y), fabs(x), x.k.split(PIO2[:2])
    steep = a > b
    low, high = where(steep, b, a), where(steep, a, b)
    diagonal = low.eq(inf) & high.eq(inf)             # 45 degrees
    p = atan_ratio(where(diagonal, 1.0, low), where(diagonal | high.eq(0.0), 1.0, high))
    p = where(steep, hi - (p - lo), p)
    p = where(bits(x) < 0, 2.0 * hi - (p - 2.0 * lo), p)
    return copysign(p, y)


# ---- Roots and error functions -------------------------------------------------------------------

@vec(1.5, 1.5)
def rsqrt(x):
    """1/sqrt(x), two correctly rounded steps."""
    return 1.0 / sqrt(x)


def erfc_positive(a):
    """erfc(a) for a >= 0: exp(-a^2) g(u)/(1 + 2a), u = (a - K)/(a + K), after Shepherd and Laframboise;
    a^2 is taken in two parts, since exp magnifies its error, and one division serves both quotients."""
    a = clamp(a, None, a.k.pick(10.2, 27.4))
    K = a.k.pick(2.0, 4.0)
    up, twice = a + K, fma(a, 2.0, 1.0)
    inv = 1.0 / (up * twice)
    g = poly((a - K) * (twice * inv), T.ERFCX[a.k.name])
    h = a * a
    return g * (up * inv) * exp_sum(-h, -fma(a, a, -h))


@vec(2.0, 2.0)
def erf(x):
    """Error function: x + x g(x^2) below 1, 1 - erfc above."""
    a = fabs(x)
    z = clamp(x * x, None, 1.0)
    small = fma(x, poly(z, T.ERF[x.k.name]), x)
    return where(a < 1.0, small, copysign(1.0 - erfc_positive(a), x))


@vec(5.0, 5.0)
def erfc(x):
    """Complementary error function, with relative accuracy down to underflow."""
    y = erfc_positive(fabs(x))
    return where(x < 0.0, 2.0 - y, y)


def erfinv_slope(w):
    """g with erfinv(x) = x g, from w = -log(1 - x^2); the pieces follow Giles (2010), fitted anew."""
    s = sqrt(w)
    near = poly(w - 3.125, T.ERFINV[w.k.name])
    far = s * poly(1.0 / s - w.k.pick(0.25, 0.1), T.ERFINV_FAR[w.k.name])
    if w.k is F64:
        far = where(s < 6.0, poly(s - 5.0, T.ERFINV_6["f64"]), far)
        far = where(s < 4.0, poly(s - 3.25, T.ERFINV_4["f64"]), far)
    return where(w <= 6.25, near, far)


@vec(8.0, 5.0)
def erfinv(x):
    """Inverse error function; 1 - x^2 as (1 - a)(1 + a), which keeps its digits near 1."""
    a = fabs(x)
    y = x * erfinv_slope(-log((1.0 - a) * (a + 1.0)))
    return where(a.eq(1.0), x * inf, y)


@vec(8.0, 20.0)
def ndtri(p):
    """Inverse of the normal distribution function: sqrt(2) erfinv(2p - 1), from 4p(1 - p) in the tails."""
    x = fma(p, 2.0, -1.0)
    y = x * 1.4142135623730951 * erfinv_slope(-log(p * 4.0 * (1.0 - p)))
    return where(p.eq(0.0), -inf, where(p.eq(1.0), inf, y))


# ---- Gamma functions: f32 passes through f64, for the cancellation near their zeros -----------------

def sin_pi(t):
    """sin(pi t) for |t| <= 1/2."""
    r = t * PI[0]
    z = r * r
    return fma(r * z, poly(z, T.SIN["f64"]), r)


@vec(1.0, 40.0, bounds=ABSOLUTE)
def lgamma(x):
    """log|Gamma(x)|: Stirling's series at 8 and above, x (x+1) ... (x+7) below, reflection for x < 0."""
    k, x = x.k, f64(x)
    negative = x < 0.0
    y = where(negative, 1.0 - x, x)
    low = y < 8.0
    z, product = where(low, y + 8.0, y), y
    for i in range(1, 8):
        product = product * (y + float(i))
    product = where(low, product, 1.0)
    q = 1.0 / z
    s = fma(z - 0.5, log(z) - 1.0, fma(q, poly(q * q, T.STIRLING), 0.41893853320467274))
    sine = fabs(sin_pi(x - _call("rint", x)))
    r = where(negative, -s, s) - log(where(negative, sine / (product * PI[0]), product))
    return narrow(where(fabs(x).eq(inf), inf, r), k)


@vec(1.0, 15.0, bounds=ABSOLUTE)
def digamma(x):
    """Derivative of lgamma: the asymptotic series at 8 and above, eight steps of psi(x) = psi(x+1) - 1/x
    gathered in one quotient below, reflection for x <= 0 (NaN at the poles, as SciPy)."""
    k, x = x.k, f64(x)
    negative = x < 0.0
    y = where(negative, 1.0 - x, x)
    low = y < 8.0
    z, over, under = where(low, y + 8.0, y), 1.0, y
    for i in range(1, 8):
        over, under = (y + float(i)) * over + under, under * (y + float(i))
    q = 1.0 / z
    series = fma(q * q, -poly(q * q, T.DIGAMMA), fma(q, -0.5, log(z)))
    s = series - where(low, over / under, 0.0)
    t = x - _call("rint", x)
    cot = sin_pi(0.5 - fabs(t)) / copysign(sin_pi(fabs(t)), t)
    s = where(negative, fma(cot, -PI[0], s), s)
    return narrow(where(negative & t.eq(0.0), nan, s), k)


# ---- The public names ----------------------------------------------------------------------------

def _make(name, formula, arity, k):
    signature = k.numba(*[k.numba] * arity)

    def codegen(context, builder, sig, args):
        return formula(*(V(builder, v, k) for v in args)).v

    if arity == 1:
        def define(typingctx, x):
            return signature, codegen
    else:
        def define(typingctx, x, y):
            return signature, codegen
    define.__name__ = define.__qualname__ = name
    define.__doc__ = formula.__doc__
    return intrinsic(define)


NAMES = {f"{name}_{k.name}": _make(f"{name}_{k.name}", formula, arity, k)
         for name, (formula, arity) in FUNCTIONS.items() for k in (F32, F64)}
globals().update(NAMES)
__all__ = list(NAMES)
