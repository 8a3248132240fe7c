"""Elementwise primitives: arithmetic, comparisons, logic, transcendental functions.

Each block is one op; `m` builds Kernel IR scalars, `numpy` is the meaning.  Gradients follow TF's conventions at kinks.
For complex numbers a gradient is dL/d(re) + i dL/d(im), as in TF, hence the conjugates.  TF's names and argument forms
are in graphflow/math_ops.py, NumPy forms of functions that NumPy lacks in graphflow/ops/special.py.
"""
from __future__ import annotations

import math

import numpy as np

from .. import graph, types
from ..codegen.ir import m
from ..types import ALL, COMPLEX, FLOAT, INTEGER, NUMERIC, DType
from . import special
from .gradients import wanted
from .opdef import elementwise

CONTINUOUS = FLOAT + COMPLEX
ORDERED = FLOAT + INTEGER


def unbroadcast(dy, x):
    """The gradient (or a function that builds it) summed over the axes along which `x` was broadcast; None where nobody needs it."""
    if not wanted(x):
        return None
    return graph.OPERATORS["sum_to_shape"](dy() if callable(dy) else dy, x)


def conj(x):
    """The complex conjugate; real tensors pass unchanged."""
    return conj_op(x) if x.dtype.is_complex else x


def chain(derivative):
    """The gradient of a one-input op from its derivative `fn(x, y)`."""
    return lambda op, dy: (dy * conj(derivative(op.inputs[0], op.outputs[0])),)


# ---------------------------------------------------------------- arithmetic


@elementwise(scalar=lambda x, y: x + y, numpy=np.add, dtypes=NUMERIC, type="Add", commutative=True)
def add(x, y):
    """x + y, element by element."""


@add.grad
def _(op, dy):
    x, y = op.inputs
    return unbroadcast(dy, x), unbroadcast(dy, y)


@elementwise(scalar=lambda x, y: x - y, numpy=np.subtract, dtypes=NUMERIC, type="Sub")
def subtract(x, y):
    """x - y, element by element."""


@subtract.grad
def _(op, dy):
    x, y = op.inputs
    return unbroadcast(dy, x), unbroadcast(lambda: -dy, y)


@elementwise(scalar=lambda x, y: x * y, numpy=np.multiply, dtypes=NUMERIC, type="Mul", commutative=True)
def multiply(x, y):
    """x * y, element by element."""


@multiply.grad
def _(op, dy):
    x, y = op.inputs
    return unbroadcast(lambda: dy * conj(y), x), unbroadcast(lambda: dy * conj(x), y)


@elementwise(scalar=lambda x, y: x / y, numpy=np.divide, dtypes=CONTINUOUS, type="RealDiv", domain=(0.5, 3.0),
             special={(1.0, 0.0): np.inf, (-1.0, 0.0): -np.inf, (0.0, 0.0): np.nan})
def real_div(x, y):
    """x / y of floats, element by element; division by zero gives inf or nan."""


@real_div.grad
def _(op, dy):
    x, y = op.inputs
    return unbroadcast(lambda: dy / conj(y), x), unbroadcast(lambda: -dy * conj(op.outputs[0]) / conj(y), y)


def divisible(y, value):
    """`value`, after checking that the integer divisor `y` is not zero."""
    return m.check(y.ne(0), value, "Integer division by zero")


def nonzero_divisor(integers, floats):
    """The NumPy meaning of a division: a zero integer divisor raises."""
    def divide(x, y):
        if np.asarray(y).dtype.kind == "f":
            return floats(x, y)
        if np.any(np.equal(y, 0)):
            raise ZeroDivisionError("Integer division by zero")
        return integers(x, y)
    return divide


@elementwise(scalar=lambda x, y: m.floor(x / y) if y.dtype.kind == "f" else divisible(y, x // y), dtypes=ORDERED, type="FloorDiv",
             numpy=nonzero_divisor(np.floor_divide, lambda x, y: np.floor(np.divide(x, y))), domain=(0.5, 9.0))
def floor_div(x, y):
    """The largest whole number <= x / y, as Python's `//`.  Raises InvalidArgumentError where an integer y is 0."""


floor_div.grad(lambda op, dy: (None, None))


def _float_mod(x, y):
    """fmod, moved into the divisor's sign."""
    r = m.fmod(x, y)
    return m.select(m.land(r.ne(0), (r < 0).ne(y < 0)), r + y, r)


@elementwise(scalar=lambda x, y: _float_mod(x, y) if y.dtype.kind == "f" else divisible(y, x % y), dtypes=ORDERED, type="FloorMod",
             default_name="FloorMod", numpy=nonzero_divisor(np.mod, np.mod), domain=(0.5, 9.0))
def floor_mod(x, y):
    """x - floor(x / y) * y: the remainder with the divisor's sign, as Python's `%`."""


@floor_mod.grad
def _(op, dy):
    x, y = op.inputs
    return unbroadcast(dy, x), unbroadcast(lambda: -dy * floor_div(x, y), y)


def _truncated(x, y):
    """Integer division toward zero, from floor division."""
    return np.sign(x) * np.sign(y) * (np.abs(x) // np.abs(y)) if np.asarray(x).dtype.kind != "u" else x // y


@elementwise(scalar=lambda x, y: m.trunc(x / y) if y.dtype.kind == "f" else divisible(y, m.truncdiv(x, y)), dtypes=ORDERED,
             type="TruncateDiv",
             numpy=nonzero_divisor(_truncated, lambda x, y: np.trunc(np.divide(x, y))), domain=(0.5, 9.0))
def truncate_div(x, y):
    """x / y rounded toward zero, as C's `/`.  Raises InvalidArgumentError where an integer y is 0."""


truncate_div.grad(lambda op, dy: (None, None))


@elementwise(scalar=lambda x, y: m.fmod(x, y) if y.dtype.kind == "f" else divisible(y, m.truncmod(x, y)), dtypes=ORDERED,
             type="TruncateMod",
             numpy=nonzero_divisor(np.fmod, np.fmod), follow=lambda x, y: x - _truncated(x, y) * y, domain=(0.5, 9.0))
def truncate_mod(x, y):
    """The remainder with the dividend's sign, as C's `%`."""


@truncate_mod.grad
def _(op, dy):
    x, y = op.inputs
    return unbroadcast(dy, x), unbroadcast(lambda: -dy * truncate_div(x, y), y)


@elementwise(scalar=lambda x: -x, numpy=np.negative, dtypes=NUMERIC, type="Neg")
def negative(x):
    """-x."""


negative.grad(lambda op, dy: (-dy,))


def _pow(x, y):
    """Power; complex numbers by exp(y log x), integers refuse negative exponents."""
    if x.dtype.kind == "c":
        zero = m.land(m.real(x).eq(0), m.imag(x).eq(0))
        unit = m.land(m.real(y).eq(0), m.imag(y).eq(0))
        return m.select(unit, m.const(1, x.dtype), m.select(zero, m.const(0, x.dtype), _cexp(y * _clog(x))))
    power = m.pow(x, y)
    return m.check(y >= 0, power, "Integers to negative integer powers are not allowed.") if x.dtype.kind == "i" else power


@elementwise(scalar=_pow, numpy=np.power, dtypes=NUMERIC, type="Pow", domain=(0.3, 2.5), tolerance=4,
             special={(0.0, 0.0): 1.0, (-2.0, 3.0): -8.0, (-2.0, 0.5): np.nan, (0.0, -1.0): np.inf, (np.nan, 0.0): 1.0})
def pow(x, y):
    """x to the power y.  Raises InvalidArgumentError where an integer is raised to a negative power."""


@pow.grad
def _(op, dy):
    x, y = op.inputs

    def along_exponent():
        positive = not_equal(x, 0) if x.dtype.is_complex else greater(x, 0)
        return dy * conj(op.outputs[0] * select(positive, log(select(positive, x, 1)), 0))
    return unbroadcast(lambda: dy * conj(y * pow(x, y - 1)), x), unbroadcast(along_exponent, y)


def _follow_extreme(name):
    return np.frompyfunc(lambda a, b: types.opaque(name, a, b), 2, 1)


@elementwise(scalar=lambda x, y: m.max(x, y), numpy=np.maximum, follow=_follow_extreme("max"), dtypes=ORDERED, type="Maximum",
             commutative=True,
             special={(np.nan, 1.0): np.nan, (-np.inf, np.inf): np.inf})
def maximum(x, y):
    """The larger of x and y; nan where either is nan.  At ties the gradient goes to x."""


@maximum.grad
def _(op, dy):
    return _to_chosen(greater_equal(*op.inputs), op, dy)


@elementwise(scalar=lambda x, y: m.min(x, y), numpy=np.minimum, follow=_follow_extreme("min"), dtypes=ORDERED, type="Minimum",
             commutative=True,
             special={(np.nan, 1.0): np.nan, (-np.inf, np.inf): -np.inf})
def minimum(x, y):
    """The smaller of x and y; nan where either is nan.  At ties the gradient goes to x."""


@minimum.grad
def _(op, dy):
    return _to_chosen(less_equal(*op.inputs), op, dy)


def _to_chosen(first, op, dy):
    """dy to the first input where `first`, else to the second."""
    x, y = op.inputs
    return unbroadcast(lambda: select(first, dy, 0), x), unbroadcast(lambda: select(first, 0, dy), y)


@elementwise(scalar=lambda x, y: m.conj(x - y) * (x - y) if x.dtype.kind == "c" else (x - y) * (x - y), type="SquaredDifference",
             numpy=lambda x, y: np.conj(x - y) * (x - y), dtypes=NUMERIC, commutative=True)
def squared_difference(x, y):
    """(x - y)(x - y), with the first factor conjugated."""


@squared_difference.grad
def _(op, dy):
    x, y = op.inputs
    # d |z|^2 = 2 Re(conj(z) dz): the output is real, whatever its dtype.
    g = 2 * (complex_op(real_op(dy), 0) if dy.dtype.is_complex else dy) * (x - y)
    return unbroadcast(g, x), unbroadcast(lambda: -g, y)


def _hypot(x):
    """|x| of a complex number, without overflow on the way."""
    a, b = m.abs(m.real(x)), m.abs(m.imag(x))
    big, small = m.max(a, b), m.min(a, b)
    ratio = m.select(m.lor(big.eq(0), m.isinf(big)), m.const(0, big.dtype), small / big)
    return big * m.sqrt(1 + ratio * ratio)


@elementwise(scalar=lambda x: _hypot(x) if x.dtype.kind == "c" else m.abs(x), numpy=np.abs, result="real", dtypes=NUMERIC, type="Abs",
             special={-0.0: 0.0, -np.inf: np.inf})
def abs(x):
    """The absolute value; real for complex numbers."""


@abs.grad
def _(op, dy):
    x = op.inputs[0]
    return (complex_op(dy, 0) if x.dtype.is_complex else dy) * sign(x),


def _sign(x):
    if x.dtype.kind == "c":
        size = _hypot(x)
        divisor = m.select(size.eq(0), m.const(1, size.dtype), size)
        return m.complex(m.real(x) / divisor, m.imag(x) / divisor, x.dtype)
    positive = m.select(x > 0, m.const(1, x.dtype), x)
    return positive if x.dtype.kind == "u" else m.select(x < 0, m.const(-1, x.dtype), positive)


@elementwise(scalar=_sign, numpy=np.sign, dtypes=NUMERIC, type="Sign", special={0.0: 0.0, np.inf: 1.0, np.nan: np.nan})
def sign(x):
    """-1, 0 or 1; x / |x| of complex numbers."""


@sign.grad
def _(op, dy):
    x, y = op.inputs[0], op.outputs[0]
    if not x.dtype.is_complex:
        return graph.OPERATORS["zeros_like"](x),
    # y = x / |x|: only the part of dy across y matters, divided by |x|.
    size = complex_op(abs(x), 0)
    return (dy - y * complex_op(real_op(dy * conj(y)), 0)) / select(equal(size, 0), 1, size),


@elementwise(scalar=lambda x: x * x, numpy=np.square, follow=lambda x: x * x, dtypes=NUMERIC, type="Square")
def square(x):
    """x * x."""


square.grad(chain(lambda x, y: 2 * x))


def _csqrt(x):
    """The principal root: from the half-angle formulas, on the side without cancellation."""
    a, b, size = m.real(x), m.imag(x), _hypot(x)
    t = m.sqrt((size + m.abs(a)) * 0.5)
    other = m.select(t.eq(0), t, m.abs(b) / (2 * m.select(t.eq(0), m.const(1, t.dtype), t)))
    re, im = m.select(a >= 0, t, other), m.select(a >= 0, other, t)
    return m.complex(re, m.copysign(im, b), x.dtype)


@elementwise(scalar=lambda x: _csqrt(x) if x.dtype.kind == "c" else m.sqrt(x), numpy=np.sqrt, dtypes=CONTINUOUS, type="Sqrt",
             domain=(0.2, 4.0),
             special={0.0: 0.0, -1.0: np.nan, np.inf: np.inf})
def sqrt(x):
    """The square root; nan of a negative real."""


sqrt.grad(chain(lambda x, y: 0.5 / y))


@elementwise(scalar=lambda x: 1 / _csqrt(x) if x.dtype.kind == "c" else m.rsqrt(x), numpy=lambda x: 1 / np.sqrt(x), dtypes=CONTINUOUS,
             type="Rsqrt",
             domain=(0.3, 4.0), special={0.0: np.inf, np.inf: 0.0, -1.0: np.nan}, tolerance=2)
def rsqrt(x):
    """1 / sqrt(x)."""


rsqrt.grad(chain(lambda x, y: -0.5 * y * y * y))


@elementwise(scalar=lambda x: 1 / x, numpy=lambda x: 1 / x, dtypes=CONTINUOUS, type="Reciprocal", domain=(0.4, 3.0),
             special={0.0: np.inf, np.inf: 0.0})
def reciprocal(x):
    """1 / x."""


reciprocal.grad(chain(lambda x, y: -y * y))


# ---------------------------------------------------------------- exponentials and logarithms


def _cexp(x):
    size = m.exp(m.real(x))
    return m.complex(size * m.cos(m.imag(x)), size * m.sin(m.imag(x)), x.dtype)


def _clog(x):
    return m.complex(m.log(_hypot(x)), m.atan2(m.imag(x), m.real(x)), x.dtype)


@elementwise(scalar=lambda x: _cexp(x) if x.dtype.kind == "c" else m.exp(x), numpy=np.exp, dtypes=CONTINUOUS,
             special={-np.inf: 0.0, np.inf: np.inf, 0.0: 1.0, np.nan: np.nan})
def exp(x):
    """e to the power of each element."""


exp.grad(chain(lambda x, y: y))


@elementwise(scalar=lambda x: m.expm1(x), numpy=np.expm1, dtypes=FLOAT, special={0.0: 0.0, -np.inf: -1.0, np.inf: np.inf})
def expm1(x):
    """exp(x) - 1, exact near 0."""


expm1.grad(chain(lambda x, y: exp(x)))


@elementwise(scalar=lambda x: _clog(x) if x.dtype.kind == "c" else m.log(x), numpy=np.log, dtypes=CONTINUOUS, domain=(0.2, 3.0),
             special={0.0: -np.inf, 1.0: 0.0, -1.0: np.nan, np.inf: np.inf})
def log(x):
    """Natural logarithm of each element; log(0) is -inf, of a negative real nan."""


log.grad(lambda op, dy: (dy / conj(op.inputs[0]),))


@elementwise(scalar=lambda x: m.log1p(x), numpy=np.log1p, dtypes=FLOAT, domain=(-0.7, 3.0), special={-1.0: -np.inf, 0.0: 0.0, -2.0: np.nan})
def log1p(x):
    """log(1 + x), exact near 0."""


log1p.grad(lambda op, dy: (dy / (1 + op.inputs[0]),))


# ---------------------------------------------------------------- trigonometric and hyperbolic functions


def _csin(x):
    a, b = m.real(x), m.imag(x)
    return m.complex(m.sin(a) * m.cosh(b), m.cos(a) * m.sinh(b), x.dtype)


def _ccos(x):
    a, b = m.real(x), m.imag(x)
    return m.complex(m.cos(a) * m.cosh(b), -(m.sin(a) * m.sinh(b)), x.dtype)


def _csinh(x):
    a, b = m.real(x), m.imag(x)
    return m.complex(m.sinh(a) * m.cos(b), m.cosh(a) * m.sin(b), x.dtype)


def _ccosh(x):
    a, b = m.real(x), m.imag(x)
    return m.complex(m.cosh(a) * m.cos(b), m.sinh(a) * m.sin(b), x.dtype)


def _ctanh(x):
    """tanh(a + ib) = (t (1 + s^2) + i s (1 - t^2)) / (1 + t^2 s^2) with t = tanh a, s = tan b."""
    t, s = m.tanh(m.real(x)), m.tan(m.imag(x))
    d = 1 + t * t * s * s
    return m.complex(t * (1 + s * s) / d, s * (1 - t * t) / d, x.dtype)


@elementwise(scalar=lambda x: _csin(x) if x.dtype.kind == "c" else m.sin(x), numpy=np.sin, dtypes=CONTINUOUS,
             special={0.0: 0.0, np.inf: np.nan})
def sin(x):
    """Sine of radians."""


sin.grad(chain(lambda x, y: cos(x)))


@elementwise(scalar=lambda x: _ccos(x) if x.dtype.kind == "c" else m.cos(x), numpy=np.cos, dtypes=CONTINUOUS,
             special={0.0: 1.0, np.inf: np.nan})
def cos(x):
    """Cosine of radians."""


cos.grad(chain(lambda x, y: -sin(x)))


def _ctan(x):
    """tan(a + ib) = (s (1 - t^2) + i t (1 + s^2)) / (1 + s^2 t^2) with s = tan a, t = tanh b."""
    s, t = m.tan(m.real(x)), m.tanh(m.imag(x))
    d = 1 + s * s * t * t
    return m.complex(s * (1 - t * t) / d, t * (1 + s * s) / d, x.dtype)


@elementwise(scalar=lambda x: _ctan(x) if x.dtype.kind == "c" else m.tan(x), numpy=np.tan, dtypes=CONTINUOUS, domain=(-1.2, 1.2),
             tolerance=2)
def tan(x):
    """Tangent of radians."""


tan.grad(chain(lambda x, y: 1 + y * y))


@elementwise(scalar=lambda x: m.asin(x), numpy=np.arcsin, dtypes=FLOAT, domain=(-0.9, 0.9), special={2.0: np.nan, 0.0: 0.0})
def asin(x):
    """Inverse sine, in [-pi/2, pi/2]."""


asin.grad(chain(lambda x, y: rsqrt(1 - x * x)))


@elementwise(scalar=lambda x: m.acos(x), numpy=np.arccos, dtypes=FLOAT, domain=(-0.9, 0.9), special={2.0: np.nan, 1.0: 0.0})
def acos(x):
    """Inverse cosine, in [0, pi]."""


acos.grad(chain(lambda x, y: -rsqrt(1 - x * x)))


@elementwise(scalar=lambda x: m.atan(x), numpy=np.arctan, dtypes=FLOAT, special={0.0: 0.0})
def atan(x):
    """Inverse tangent, in (-pi/2, pi/2)."""


atan.grad(chain(lambda x, y: 1 / (1 + x * x)))


@elementwise(scalar=lambda y, x: m.atan2(y, x), numpy=np.arctan2, dtypes=FLOAT, type="Atan2", special={(0.0, 1.0): 0.0})
def atan2(y, x):
    """The angle of the point (x, y), in [-pi, pi]."""


@atan2.grad
def _(op, dy):
    y, x = op.inputs
    g = dy / (x * x + y * y)
    return unbroadcast(g * x, y), unbroadcast(-g * y, x)


@elementwise(scalar=lambda x: _csinh(x) if x.dtype.kind == "c" else m.sinh(x), numpy=np.sinh, dtypes=CONTINUOUS,
             special={0.0: 0.0, -np.inf: -np.inf})
def sinh(x):
    """Hyperbolic sine."""


sinh.grad(chain(lambda x, y: cosh(x)))


@elementwise(scalar=lambda x: _ccosh(x) if x.dtype.kind == "c" else m.cosh(x), numpy=np.cosh, dtypes=CONTINUOUS,
             special={0.0: 1.0, -np.inf: np.inf})
def cosh(x):
    """Hyperbolic cosine."""


cosh.grad(chain(lambda x, y: sinh(x)))


@elementwise(scalar=lambda x: _ctanh(x) if x.dtype.kind == "c" else m.tanh(x), numpy=np.tanh, dtypes=CONTINUOUS,
             special={np.inf: 1.0, -np.inf: -1.0, 0.0: 0.0})
def tanh(x):
    """Hyperbolic tangent."""


tanh.grad(lambda op, dy: (dy - dy * conj(square(op.outputs[0])),))


@elementwise(scalar=lambda x: m.asinh(x), numpy=np.arcsinh, dtypes=FLOAT, special={0.0: 0.0, np.inf: np.inf})
def asinh(x):
    """Inverse hyperbolic sine."""


asinh.grad(chain(lambda x, y: rsqrt(x * x + 1)))


@elementwise(scalar=lambda x: m.acosh(x), numpy=np.arccosh, dtypes=FLOAT, domain=(1.3, 4.0), special={1.0: 0.0, 0.0: np.nan})
def acosh(x):
    """Inverse hyperbolic cosine, of x >= 1."""


acosh.grad(chain(lambda x, y: rsqrt(x * x - 1)))


@elementwise(scalar=lambda x: m.atanh(x), numpy=np.arctanh, dtypes=FLOAT, domain=(-0.8, 0.8), special={1.0: np.inf, 0.0: 0.0, 2.0: np.nan})
def atanh(x):
    """Inverse hyperbolic tangent, of |x| <= 1."""


atanh.grad(chain(lambda x, y: 1 / (1 - x * x)))


# ---------------------------------------------------------------- activations


@elementwise(scalar=lambda x: m.sigmoid(x), numpy=lambda x: 1 / (1 + np.exp(-x)), dtypes=FLOAT,
             special={np.inf: 1.0, -np.inf: 0.0, 0.0: 0.5}, tolerance=2)
def sigmoid(x):
    """1 / (1 + exp(-x))."""


sigmoid.grad(chain(lambda x, y: y * (1 - y)))


@elementwise(scalar=lambda x: m.softplus(x), numpy=lambda x: np.maximum(x, 0) + np.log1p(np.exp(-np.abs(x))), dtypes=FLOAT,
             special={-np.inf: 0.0, np.inf: np.inf, 1000.0: 1000.0}, tolerance=2)
def softplus(x):
    """log(1 + exp(x)), without overflow."""


softplus.grad(chain(lambda x, y: sigmoid(x)))


@elementwise(scalar=lambda x: x / (1 + m.abs(x)), numpy=lambda x: x / (1 + np.abs(x)), dtypes=FLOAT, special={0.0: 0.0})
def softsign(x):
    """x / (1 + |x|)."""


softsign.grad(chain(lambda x, y: 1 / square(1 + abs(x))))


@elementwise(scalar=lambda x: m.max(x, 0), numpy=lambda x: np.maximum(x, np.zeros((), x.dtype)), dtypes=ORDERED, type="Relu",
             special={-np.inf: 0.0, 0.0: 0.0})
def relu(x):
    """max(x, 0); the derivative at 0 is 0."""


relu.grad(lambda op, dy: (select(greater(op.outputs[0], 0), dy, 0),))


@elementwise(scalar=lambda x: m.min(m.max(x, 0), 6), numpy=lambda x: np.clip(x, 0, 6).astype(x.dtype), dtypes=ORDERED, type="Relu6",
             domain=(-3.0, 9.0), special={np.inf: 6.0})
def relu6(x):
    """min(max(x, 0), 6); the derivative at 0 and at 6 is 0."""


relu6.grad(lambda op, dy: (select(logical_and(greater(op.inputs[0], 0), less(op.inputs[0], 6)), dy, 0),))


@elementwise(scalar=lambda x: m.select(x < 0, m.expm1(m.min(x, 0)), x), numpy=lambda x: np.where(x < 0, np.expm1(np.minimum(x, 0)), x),
             dtypes=FLOAT, special={-np.inf: -1.0, np.inf: np.inf})
def elu(x):
    """x where positive, else exp(x) - 1."""


elu.grad(lambda op, dy: (dy * select(less(op.inputs[0], 0), exp(minimum(op.inputs[0], 0)), 1),))

# Klambauer et al., Self-Normalizing Neural Networks (2017), equations 14.
SELU_SCALE, SELU_ALPHA = 1.0507009873554804934193349852946, 1.6732632423543772848170429916717


@elementwise(scalar=lambda x: SELU_SCALE * m.select(x < 0, SELU_ALPHA * m.expm1(m.min(x, 0)), x), dtypes=FLOAT,
             numpy=lambda x: SELU_SCALE * np.where(x < 0, SELU_ALPHA * np.expm1(np.minimum(x, 0)), x), special={np.inf: np.inf, 0.0: 0.0})
def selu(x):
    """scale * (x where positive, else alpha (exp(x) - 1)), the self-normalising constants."""


selu.grad(lambda op, dy: (dy * (SELU_SCALE * select(less(op.inputs[0], 0), SELU_ALPHA * exp(minimum(op.inputs[0], 0)), 1)),))


@elementwise(scalar=lambda x, *, alpha: m.select(x > 0, x, alpha * x),
             numpy=lambda x, *, alpha: np.where(x > 0, x, np.asarray(alpha, x.dtype) * x), dtypes=FLOAT)
def leaky_relu(x, *, alpha=0.2):
    """x where positive, else alpha x."""


leaky_relu.grad(lambda op, dy: (select(greater(op.inputs[0], 0), dy, op.attrs["alpha"] * dy),))


# ---------------------------------------------------------------- special functions


@elementwise(scalar=lambda x: m.erf(x), numpy=special.erf, dtypes=FLOAT, special={0.0: 0.0, np.inf: 1.0, -np.inf: -1.0})
def erf(x):
    """The error function, 2/sqrt(pi) times the integral of exp(-t^2) from 0 to x."""


erf.grad(chain(lambda x, y: 2 / math.sqrt(math.pi) * exp(-square(x))))


@elementwise(scalar=lambda x: m.erfc(x), numpy=special.erfc, dtypes=FLOAT, special={0.0: 1.0, np.inf: 0.0, -np.inf: 2.0}, tolerance=4)
def erfc(x):
    """1 - erf(x), exact in the tail."""


erfc.grad(chain(lambda x, y: -2 / math.sqrt(math.pi) * exp(-square(x))))


@elementwise(scalar=lambda x: m.erfinv(x), numpy=special.erfinv, dtypes=FLOAT, domain=(-0.9, 0.9),
             special={0.0: 0.0, 1.0: np.inf, -1.0: -np.inf}, tolerance=4)
def erfinv(x):
    """The inverse of erf, on [-1, 1]."""


erfinv.grad(chain(lambda x, y: math.sqrt(math.pi) / 2 * exp(square(y))))


@elementwise(scalar=lambda x: m.ndtri(x), numpy=special.ndtri, dtypes=FLOAT, domain=(0.05, 0.95),
             special={0.5: 0.0, 0.0: -np.inf, 1.0: np.inf}, tolerance=4)
def ndtri(x):
    """The quantile function of the standard normal distribution, on [0, 1]."""


ndtri.grad(chain(lambda x, y: math.sqrt(2 * math.pi) * exp(0.5 * square(y))))


@elementwise(scalar=lambda x: m.lgamma(x), numpy=special.lgamma, dtypes=FLOAT, domain=(0.3, 6.0), special={1.0: 0.0, 2.0: 0.0, 0.0: np.inf},
             tolerance=8)
def lgamma(x):
    """log |Gamma(x)|; inf at 0 and the negative integers."""


lgamma.grad(chain(lambda x, y: digamma(x)))


@elementwise(scalar=lambda x: m.digamma(x), numpy=special.digamma, dtypes=FLOAT, domain=(0.3, 6.0), tolerance=8)
def digamma(x):
    """The derivative of log Gamma."""


digamma.grad(chain(lambda x, y: trigamma(x)))


def _trigamma(x):
    """Reflection below 0, twelve recurrence steps, then the asymptotic series (Abramowitz and Stegun 6.4.6, 6.4.7, 6.4.12)."""
    low = x < 0
    z = m.select(low, 1 - x, x)
    total = 1 / (z * z)
    for k in range(1, 12):
        total = total + 1 / ((z + k) * (z + k))
    r = 1 / (z + 12)
    r2 = r * r
    series = r * (1 + r * (0.5 + r * (1 / 6 - r2 * (1 / 30 - r2 * (1 / 42 - r2 * (1 / 30 - r2 * (5 / 66 - r2 * (691 / 2730))))))))
    # sin(pi x) from the fraction alone, which keeps the digits of a large x.
    s = m.sin((x - m.rint(x)) * math.pi)
    return m.select(low, math.pi ** 2 / (s * s) - (total + series), total + series)


@elementwise(scalar=_trigamma, numpy=special.trigamma, dtypes=FLOAT, domain=(0.3, 6.0),
             no_gradient="polygamma functions of order 2 are not there", tolerance=8)
def trigamma(x):
    """The second derivative of log Gamma."""


# ---------------------------------------------------------------- rounding


@elementwise(scalar=lambda x: m.floor(x), numpy=np.floor, dtypes=FLOAT, no_gradient="constant almost everywhere", special={-0.5: -1.0})
def floor(x):
    """The largest whole number <= x."""


@elementwise(scalar=lambda x: m.ceil(x), numpy=np.ceil, dtypes=FLOAT, no_gradient="constant almost everywhere", special={0.5: 1.0})
def ceil(x):
    """The smallest whole number >= x."""


@elementwise(scalar=lambda x: m.rint(x), numpy=np.rint, dtypes=FLOAT, no_gradient="constant almost everywhere", type="Round",
             special={0.5: 0.0, 1.5: 2.0, 2.5: 2.0, -0.5: 0.0})
def round(x):
    """The nearest whole number, halves to even."""


@elementwise(scalar=lambda x: m.rint(x), numpy=np.rint, dtypes=FLOAT, no_gradient="constant almost everywhere",
             special={0.5: 0.0, 1.5: 2.0})
def rint(x):
    """The nearest whole number, halves to even."""


@elementwise(scalar=lambda x: m.trunc(x), numpy=np.trunc, dtypes=FLOAT, no_gradient="constant almost everywhere", special={-1.5: -1.0})
def trunc(x):
    """x rounded toward zero."""


# ---------------------------------------------------------------- comparisons and logic


@elementwise(scalar=lambda x, y: x.eq(y), numpy=np.equal, result="bool", dtypes=ALL + (types.string,), commutative=True,
             no_gradient="a boolean", special={(np.nan, np.nan): False})
def equal(x, y):
    """Whether x == y."""


@elementwise(scalar=lambda x, y: x.ne(y), numpy=np.not_equal, result="bool", dtypes=ALL + (types.string,), commutative=True,
             no_gradient="a boolean", special={(np.nan, np.nan): True})
def not_equal(x, y):
    """Whether x != y."""


@elementwise(scalar=lambda x, y: x < y, numpy=np.less, result="bool", dtypes=ORDERED, no_gradient="a boolean",
             special={(np.nan, 1.0): False})
def less(x, y):
    """Whether x < y."""


@elementwise(scalar=lambda x, y: x <= y, numpy=np.less_equal, result="bool", dtypes=ORDERED, no_gradient="a boolean",
             special={(1.0, 1.0): True})
def less_equal(x, y):
    """Whether x <= y."""


@elementwise(scalar=lambda x, y: x > y, numpy=np.greater, result="bool", dtypes=ORDERED, no_gradient="a boolean",
             special={(np.nan, 1.0): False})
def greater(x, y):
    """Whether x > y."""


@elementwise(scalar=lambda x, y: x >= y, numpy=np.greater_equal, result="bool", dtypes=ORDERED, no_gradient="a boolean",
             special={(1.0, 1.0): True})
def greater_equal(x, y):
    """Whether x >= y."""


BOOL = (types.bool_,)


@elementwise(scalar=lambda x, y: m.land(x, y), numpy=np.logical_and, dtypes=BOOL, commutative=True, no_gradient="a boolean")
def logical_and(x, y):
    """x and y."""


@elementwise(scalar=lambda x, y: m.lor(x, y), numpy=np.logical_or, dtypes=BOOL, commutative=True, no_gradient="a boolean")
def logical_or(x, y):
    """x or y."""


@elementwise(scalar=lambda x, y: x.ne(y), numpy=np.logical_xor, dtypes=BOOL, commutative=True, no_gradient="a boolean")
def logical_xor(x, y):
    """Whether exactly one of x and y."""


@elementwise(scalar=lambda x: m.lnot(x), numpy=np.logical_not, dtypes=BOOL, no_gradient="a boolean")
def logical_not(x):
    """not x."""


@elementwise(scalar=lambda x: m.isnan(x), numpy=np.isnan, result="bool", dtypes=FLOAT, no_gradient="a boolean",
             special={np.nan: True, np.inf: False})
def is_nan(x):
    """Whether x is not a number."""


@elementwise(scalar=lambda x: m.isinf(x), numpy=np.isinf, result="bool", dtypes=FLOAT, no_gradient="a boolean",
             special={np.nan: False, -np.inf: True})
def is_inf(x):
    """Whether x is infinite."""


@elementwise(scalar=lambda x: m.isfinite(x), numpy=np.isfinite, result="bool", dtypes=FLOAT, no_gradient="a boolean",
             special={np.nan: False, np.inf: False, 1.0: True})
def is_finite(x):
    """Whether x is a number and not infinite."""


# ---------------------------------------------------------------- bits


@elementwise(scalar=lambda x, y: x & y, numpy=np.bitwise_and, dtypes=INTEGER, commutative=True, no_gradient="integers")
def bitwise_and(x, y):
    """The bits set in both."""


@elementwise(scalar=lambda x, y: x | y, numpy=np.bitwise_or, dtypes=INTEGER, commutative=True, no_gradient="integers")
def bitwise_or(x, y):
    """The bits set in either."""


@elementwise(scalar=lambda x, y: x ^ y, numpy=np.bitwise_xor, dtypes=INTEGER, commutative=True, no_gradient="integers")
def bitwise_xor(x, y):
    """The bits set in exactly one."""


@elementwise(scalar=lambda x: m.bitnot(x), numpy=np.invert, dtypes=INTEGER, no_gradient="integers")
def invert(x):
    """Every bit flipped."""


def _shift_limit(x, y):
    """The shift, within the width of the dtype: beyond it C leaves the result open."""
    return m.min(m.max(y, 0), 8 * x.dtype.size - 1)


def _np_shift(fn):
    return lambda x, y: fn(x, np.clip(y, 0, 8 * x.dtype.itemsize - 1).astype(x.dtype))


@elementwise(scalar=lambda x, y: x << _shift_limit(x, y), numpy=_np_shift(np.left_shift), dtypes=INTEGER, no_gradient="integers",
             follow=np.left_shift, domain=(0.0, 5.0))
def left_shift(x, y):
    """x shifted left by y bits; y is taken into [0, width)."""


@elementwise(scalar=lambda x, y: m.shr(x, _shift_limit(x, y)), numpy=_np_shift(np.right_shift), dtypes=INTEGER, no_gradient="integers",
             follow=np.right_shift, domain=(0.0, 5.0))
def right_shift(x, y):
    """x shifted right by y bits, keeping the sign; y is taken into [0, width)."""


# ---------------------------------------------------------------- choice, conversion, complex parts


@elementwise(scalar=lambda cond, x, y: m.select(cond, x, y), numpy=np.where, result="last", type="Select", same=("x", "y"),
             dtypes=ALL + (types.string,), input_dtypes={"cond": BOOL},
             samples=[lambda rng: ((rng.random((2, 3)) < 0.5, rng.normal(size=(2, 3)), rng.normal(size=3)), {}),
                                                   lambda rng: ((np.array(True), rng.normal(size=(2, 1)), rng.normal(size=3)), {})])
def select(cond, x, y):
    """x where cond, else y; all three broadcast."""


@select.grad
def _(op, dy):
    cond, x, y = op.inputs
    return None, unbroadcast(lambda: select(cond, dy, 0), x), unbroadcast(lambda: select(cond, 0, dy), y)


def _np_cast(x, *, DstT):
    if DstT.kind == "b":
        return x != 0
    if x.dtype.kind == "c" and DstT.kind != "c":
        x = x.real
    return x.astype(DstT.compute.np)


def _cast(x, *, DstT):
    if DstT.kind == "b":
        return x if x.dtype.kind == "b" else x.ne(0)
    if x.dtype.kind == "c" and DstT.kind != "c":
        x = m.real(x)
    if DstT.kind == "c" and x.dtype.kind != "c":
        part = m.cast(x, DstT.real_dtype)
        return m.complex(part, m.const(0, part.dtype), DstT)
    return m.cast(x, DstT.compute)


@elementwise(scalar=_cast, numpy=_np_cast, follow=lambda x, DstT: x, result=lambda x, DstT: DstT, type="Cast", converts=True,
             samples=[lambda rng: ((rng.normal(size=(2, 3)) * 9,), {"DstT": types.int32}),
                      lambda rng: ((rng.normal(size=(2, 3)),), {"DstT": types.float32}),
                      lambda rng: ((rng.integers(-9, 9, (4,)).astype(np.int32),), {"DstT": types.float64}),
                      lambda rng: ((rng.integers(-1, 2, (4,)).astype(np.int64),), {"DstT": types.bool_}),
                      lambda rng: ((rng.random(4) < 0.5,), {"DstT": types.float32}),
                      lambda rng: ((rng.normal(size=4).astype(np.float32),), {"DstT": types.bfloat16}),
                      lambda rng: ((rng.normal(size=4).astype(np.float32),), {"DstT": types.float16}),
                      lambda rng: ((rng.normal(size=4).astype(np.float16),), {"DstT": types.float64}),
                      lambda rng: ((rng.normal(size=3) + 1j,), {"DstT": types.complex64})])
def cast_op(x, *, DstT: DType):
    """The value as another dtype: toward zero from float to integer, nonzero is True, complex keeps its real part."""


@cast_op.grad
def _(op, dy):
    return cast_op(dy, DstT=op.inputs[0].dtype),


@elementwise(scalar=lambda x: m.conj(x), numpy=np.conj, dtypes=COMPLEX, type="Conj")
def conj_op(x):
    """The complex conjugate."""


conj_op.grad(lambda op, dy: (conj(dy),))


@elementwise(scalar=lambda x: m.real(x), numpy=np.real, result="real", dtypes=COMPLEX, type="Real")
def real_op(x):
    """The real part."""


real_op.grad(lambda op, dy: (complex_op(dy, 0),))


@elementwise(scalar=lambda x: m.imag(x), numpy=np.imag, result="real", dtypes=COMPLEX, type="Imag")
def imag_op(x):
    """The imaginary part."""


imag_op.grad(lambda op, dy: (complex_op(0, dy),))

_COMPLEX_OF = {types.float32: types.complex64, types.float64: types.complex128}


@elementwise(scalar=lambda re, im: m.complex(re, im, _COMPLEX_OF[re.dtype]),
             numpy=lambda re, im: (re + 1j * im).astype(np.result_type(re, np.complex64)),
             result=lambda re, im: _COMPLEX_OF[re.dtype], dtypes=types.REAL, type="Complex")
def complex_op(re, im):
    """re + i im."""


@complex_op.grad
def _(op, dy):
    re, im = op.inputs
    return unbroadcast(real_op(dy), re), unbroadcast(imag_op(dy), im)


@elementwise(scalar=lambda x: m.atan2(m.imag(x), m.real(x)), numpy=np.angle, result="real", dtypes=COMPLEX, type="Angle")
def angle_op(x):
    """The argument, in [-pi, pi]."""


@angle_op.grad
def _(op, dy):
    x = op.inputs[0]
    return complex_op(dy, 0) * complex_op(-imag_op(x), real_op(x)) / complex_op(square(abs(x)), 0),


@elementwise(scalar=lambda x, low, high: m.max(m.min(x, high), low), numpy=lambda x, low, high: np.maximum(np.minimum(x, high), low),
             dtypes=ORDERED,
             type="ClipByValue", samples=[lambda rng: ((rng.normal(size=(2, 3)), np.float64(-0.5), np.float64(0.7)), {}),
                                          lambda rng: ((rng.normal(size=(2, 3)), rng.normal(size=3) - 1, rng.normal(size=(2, 1)) + 1), {}),
                                          lambda rng: ((rng.integers(-9, 9, 5).astype(np.int32), np.int32(-3), np.int32(4)), {})])
def clip(x, low, high):
    """x, taken into [low, high]; `low` wins where they cross.  On a border the gradient goes to x."""


@clip.grad
def _(op, dy):
    x, low, high = op.inputs
    below, above = less(minimum(x, high), low), greater(x, high)
    return (unbroadcast(lambda: select(logical_or(below, above), 0, dy), x), unbroadcast(lambda: select(below, dy, 0), low),
            unbroadcast(lambda: select(logical_and(above, logical_not(below)), dy, 0), high))


@elementwise(scalar=lambda x: x, numpy=lambda x: x, dtypes=ALL + (types.string,))
def stop_gradient(x):
    """x, as a constant to `gradients`."""


stop_gradient.grad(lambda op, dy: (None,))


def _np_sum_of(*xs):
    total = xs[0]
    for x in xs[1:]:
        total = total + x
    return total


@elementwise(scalar=_np_sum_of, numpy=_np_sum_of, dtypes=NUMERIC, type="AddN",
             samples=[lambda rng: (tuple(rng.normal(size=(3, 2, 3))), {}), lambda rng: (tuple(rng.normal(size=(1, 4))), {}),
                      lambda rng: (tuple(rng.integers(-5, 5, (5, 3)).astype(np.int32)), {})])
def add_n_op(*xs):
    """The sum of tensors of one shape."""


@add_n_op.infers
def _(*xs):
    sizes = xs[0].sizes
    for x in xs[1:]:
        sizes = types.merge_shapes(sizes, x.sizes)
    return graph.Spec(xs[0].dtype, sizes)


add_n_op.grad(lambda op, dy: (dy,) * len(op.inputs))


@elementwise(scalar=lambda x, y: m.select(y.eq(0), m.const(0, y.dtype), x / y),
             numpy=lambda x, y: np.where(y == 0, np.zeros((), y.dtype), x / y), dtypes=FLOAT,
             type="DivNoNan", domain=(0.5, 3.0), special={(1.0, 0.0): 0.0, (0.0, 0.0): 0.0, (np.nan, 0.0): 0.0})
def div_no_nan(x, y):
    """x / y, and 0 where y is 0."""


@div_no_nan.grad
def _(op, dy):
    x, y = op.inputs
    return unbroadcast(div_no_nan(dy, y), x), unbroadcast(-div_no_nan(dy * op.outputs[0], y), y)


@elementwise(scalar=lambda x, y: m.select(x.eq(0), m.const(0, x.dtype), x * m.log(y)),
             numpy=lambda x, y: np.where(x == 0, np.zeros((), x.dtype), x * np.log(y)),
             dtypes=FLOAT, domain=(0.3, 3.0), special={(0.0, 0.0): 0.0, (0.0, np.inf): 0.0})
def xlogy(x, y):
    """x log(y), and 0 where x is 0."""


@xlogy.grad
def _(op, dy):
    x, y = op.inputs
    present = not_equal(x, 0)
    return unbroadcast(select(present, dy * log(select(present, y, 1)), 0), x), unbroadcast(dy * xdivy(x, y), y)


@elementwise(scalar=lambda x, y: m.select(x.eq(0), m.const(0, x.dtype), x / y),
             numpy=lambda x, y: np.where(x == 0, np.zeros((), x.dtype), x / y),
             dtypes=FLOAT, domain=(0.3, 3.0), special={(0.0, 0.0): 0.0})
def xdivy(x, y):
    """x / y, and 0 where x is 0."""


@xdivy.grad
def _(op, dy):
    x, y = op.inputs
    present = not_equal(x, 0)
    return unbroadcast(select(present, dy / select(present, y, 1), 0), x), unbroadcast(-dy * xdivy(op.outputs[0], y), y)
