"""Random ops: a counter-based generator, written once for kernels and for NumPy.

The generator is Threefry-2x32 with 20 rounds (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3",
SC'11): 64 random bits for each (key, counter) pair from 32-bit additions, rotations and exclusive ors only.  Every element
is computed from its own index, so threads, tiles and fusion cannot change a bit.  It was preferred to Philox-4x32 because
a vector unit has no 32x32 -> 64 bit high product worth the name, and because one element wants 64 bits, not 128.

Counter block of an element: (low half of its row-major index, low half of the op's run counter); the high halves are
exclusive-ored into the key, so both may exceed 2**32.  An op with `effect="random"` receives the run counter (an int64
scalar: how often it has run in this Session) as one more input after its own.  The key is an input, not an attribute:
ops that differ only in their seed share one kernel.
"""
from __future__ import annotations

from typing import Any, Callable, Sequence

import numpy as np

from .. import types
from ..codegen import ir
from ..codegen.ir import Expr, m
from ..graph import Operation, Spec, Tensor
from ..types import FLOAT
from .opdef import OpDef, Read, needs_rank, primitive

ROTATIONS = (13, 15, 26, 6, 17, 29, 16, 24)
PARITY = 0x1BD11BDA
# Random bits of a uniform float: its significand, so that every value is exact and below 1 in the stored type.
UNIFORM_BITS = {"float16": 11, "bfloat16": 8, "float32": 24, "float64": 53}


class NumpyMath:
    """The functions of `ir.m` that the generator uses, on arrays."""

    log, sqrt, cos, select = np.log, np.sqrt, np.cos, staticmethod(np.where)

    @staticmethod
    def cast(x: Any, dtype: types.DType) -> np.ndarray:
        return np.asarray(x).astype(dtype.np)

    @staticmethod
    def erfinv(x: np.ndarray) -> np.ndarray:
        return (normal_quantile((np.asarray(x, np.float64) + 1) / 2) / np.sqrt(2)).astype(np.asarray(x).dtype)


# ---------------------------------------------------------------- the generator (on Kernel IR or on uint32 arrays)


def _rotate(x: Any, r: int) -> Any:
    return (x << r) | (x >> (32 - r))


def threefry2x32(k0: Any, k1: Any, x0: Any, x1: Any) -> tuple[Any, Any]:
    """Two random 32-bit words of a key and a counter, each of two 32-bit words: 20 rounds."""
    keys = (k0, k1, k0 ^ k1 ^ PARITY)
    x0, x1 = x0 + k0, x1 + k1
    for i in range(20):
        x0 = x0 + x1
        x1 = _rotate(x1, ROTATIONS[i % 8]) ^ x0
        if i % 4 == 3:
            n = i // 4 + 1
            x0, x1 = x0 + keys[n % 3], x1 + keys[(n + 1) % 3] + n
    return x0, x1


def halves(w: Any, n: Any) -> tuple[Any, Any]:
    """The low and the high 32 bits of an int64."""
    return w.cast(n & 0xFFFFFFFF, types.uint32), w.cast((n >> 32) & 0xFFFFFFFF, types.uint32)


class Stream:
    """Random words of one element: `stream(b)` is its block `b` (0 or 1), two uint32 words."""

    def __init__(self, w: Any, key: Sequence[Any], run: Any, index: Any):
        self.w, self.k0, self.k1 = w, key[0], key[1]
        self.c0, high = halves(w, index)
        self.c1, run_high = halves(w, run)
        self.k0, self.k1 = self.k0 ^ high, self.k1 ^ run_high

    def __call__(self, block: int = 0) -> tuple[Any, Any]:
        # Indices stay below 2**63, so that the top bit of their high half is free to name the block.
        k0 = self.k0 ^ (block << 31) if block else self.k0
        return threefry2x32(k0, self.k1, self.c0, self.c1)


# ---------------------------------------------------------------- distributions, as functions of the words


def _float(w: Any, bits: Any, dtype: types.DType) -> Any:
    """A word below 2**31 as a float; by way of int32, for which every vector unit has an instruction."""
    return w.cast(w.cast(bits, types.int32), dtype)


def uniform(w: Any, stream: Stream, dtype: types.DType, block: int = 0) -> Any:
    """A float in [0, 1), a multiple of 2**-bits."""
    high, low = stream(block)
    bits = UNIFORM_BITS[dtype.name]
    if bits <= 24:
        return _float(w, high >> (32 - bits), types.float32) * 2.0**-bits
    return (_float(w, high >> 5, dtype) * 2.0**26 + _float(w, low >> 6, dtype)) * 2.0**-53


def _uniform_pair(w: Any, stream: Stream, dtype: types.DType) -> tuple[Any, Any]:
    """Two floats in [0, 1) in the computing type: from one block in float32, from two in float64."""
    if dtype is types.float64:
        return uniform(w, stream, dtype), uniform(w, stream, dtype, block=1)
    high, low = stream()
    return _float(w, high >> 8, types.float32) * 2.0**-24, _float(w, low >> 8, types.float32) * 2.0**-24


def standard_normal(w: Any, stream: Stream, dtype: types.DType) -> Any:
    """Box and Muller (1958): sqrt(-2 log u) cos(2 pi v) with u in (0, 1]; |z| < 5.8 in float32, 8.6 in float64."""
    u, v = _uniform_pair(w, stream, dtype)
    return w.sqrt(w.log(1.0 - u) * -2.0) * w.cos(v * (2 * np.pi))


# erf(2 / sqrt(2)): the probability of |z| < 2.
WITHIN_TWO = 0.9544997361036416


def truncated_normal(w: Any, stream: Stream, dtype: types.DType) -> Any:
    """A standard normal given |z| < 2, by its inverse distribution function: sqrt(2) erfinv(s), |s| < erf(sqrt(2))."""
    bits = 23 if dtype is not types.float64 else 52
    high, low = stream()
    if bits == 23:  # odd multiples of 2**-24: never 0 or 1
        u = (_float(w, high >> 9, types.float32) + 0.5) * 2.0**-23
    else:
        u = (_float(w, high >> 6, dtype) * 2.0**26 + _float(w, low >> 6, dtype) + 0.5) * 2.0**-52
    return w.erfinv((u * 2.0 - 1.0) * WITHIN_TWO) * 2.0**0.5


def _product_high(w: Any, a: Any, b: Any) -> Any:
    """The high 64 bits of a product of two uint64, by schoolbook multiplication of halves."""
    a0, a1, b0, b1 = a & 0xFFFFFFFF, a >> 32, b & 0xFFFFFFFF, b >> 32
    middle = a1 * b0 + ((a0 * b0) >> 32)
    other = a0 * b1 + (middle & 0xFFFFFFFF)
    return a1 * b1 + (middle >> 32) + (other >> 32)


def uniform_int(w: Any, stream: Stream, dtype: types.DType, low: Any, high: Any) -> Any:
    """An integer in [low, high): 64 random bits times the width, shifted down; biased by at most width / 2**64."""
    first, second = stream()
    bits = (w.cast(first, types.uint64) << 32) | w.cast(second, types.uint64)
    if dtype.size == 8:
        width = w.cast(high, types.uint64) - w.cast(low, types.uint64)
        return w.cast(w.cast(low, types.uint64) + _product_high(w, bits, width), dtype)
    width = w.cast(w.cast(high, types.int64) - w.cast(low, types.int64), types.uint64)
    scaled = ((bits >> 32) * width + (((bits & 0xFFFFFFFF) * width) >> 32)) >> 32
    return w.cast(w.cast(low, types.int64) + w.cast(scaled, types.int64), dtype)


def normal_quantile(p: np.ndarray) -> np.ndarray:
    """The inverse of the standard normal distribution function, to about 1e-16 (Wichura, algorithm AS 241, 1988)."""
    q = p - 0.5
    with np.errstate(all="ignore"):
        central = np.abs(q) <= 0.425
        r = np.where(central, 0.180625 - q * q, np.sqrt(-np.log(np.minimum(p, 1 - p))))
        near, far = r - 1.6, r - 5.0
        tail = np.where(r <= 5.0, _ratio(near, *_NEAR), _ratio(far, *_FAR))
        return np.where(central, q * _ratio(r, *_CENTRAL), np.where(q < 0, -tail, tail))


def _ratio(r: np.ndarray, above: Sequence[float], below: Sequence[float]) -> np.ndarray:
    return np.polyval(above, r) / np.polyval(below, r)


_CENTRAL = ((2.5090809287301226727e3, 3.3430575583588128105e4, 6.7265770927008700853e4, 4.5921953931549871457e4,
             1.3731693765509461125e4, 1.9715909503065514427e3, 1.3314166789178437745e2, 3.3871328727963666080),
            (5.2264952788528545610e3, 2.8729085735721942674e4, 3.9307895800092710610e4, 2.1213794301586595867e4,
             5.3941960214247511077e3, 6.8718700749205790830e2, 4.2313330701600911252e1, 1.0))
_NEAR = ((7.74545014278341407640e-4, 2.27238449892691845833e-2, 2.41780725177450611770e-1, 1.27045825245236838258,
          3.64784832476320460504, 5.76949722146069140550, 4.63033784615654529590, 1.42343711074968357734),
         (1.05075007164441684324e-9, 5.47593808499534494600e-4, 1.51986665636164571966e-2, 1.48103976427480074590e-1,
          6.89767334985100004550e-1, 1.67638483018380384940, 2.05319162663775882187, 1.0))
_FAR = ((2.01033439929228813265e-7, 2.71155556874348757815e-5, 1.24266094738807843860e-3, 2.65321895265761230930e-2,
         2.96560571828504891230e-1, 1.78482653991729133580, 5.46378491116411436990, 6.65790464350110377720),
        (2.04426310338993978564e-15, 1.42151175831644588870e-7, 1.84631831751005468180e-5, 7.86869131145613259100e-4,
         1.48753612908506148525e-2, 1.36929880922735805310e-1, 5.99832206555887937690e-1, 1.0))


# ---------------------------------------------------------------- the family


def static_sizes(shape: Tensor) -> types.Shape:
    """The shape a vector of sizes stands for, as far as its value is known."""
    if shape.known is not None:
        for s in shape.known.flat:
            if not isinstance(s, types.Dim) and s < 0:
                raise ValueError(f"Dimension {s} must be >= 0")
        return tuple(shape.known.reshape(-1))
    rank = needs_rank(shape, 1, "shape")[0]
    return None if isinstance(rank, types.Dim) else (types.UNKNOWN,) * rank


def _linear(sizes: Sequence[types.Size], index: Sequence[Expr]) -> Expr:
    out = ir.index_const(0)
    for n, i in zip(sizes, index):
        out = out * ir.size(n) + i
    return out




def random(element: Callable[..., Any], *, stateless: bool = False, **traits: Any) -> Callable[..., OpDef]:
    """An op `f(shape, key, *parameters, dtype, ...)` whose elements are `element(w, stream, dtype, *parameters)`.

    `w` is `ir.m` or `NumpyMath`; the parameters are scalars.  A stateless op takes its key from a pair of integers and has
    no run counter: equal inputs give equal values.
    """
    def infer(shape: Tensor, key: Tensor, *rest: Tensor, dtype: types.DType, **_: Any) -> Spec:
        types.merge_shapes(key.sizes, (2,))
        for t in rest:
            types.merge_shapes(t.sizes, ())
        return Spec(dtype, static_sizes(shape))

    def source(w: Any, key: Sequence[Any], run: Any) -> tuple[Sequence[Any], Any]:
        if not stateless:
            return key, run
        wide = [w.cast(k, types.int64) for k in key]
        low = [halves(w, k)[0] for k in wide]
        return low, ((wide[0] >> 32) ^ ((wide[1] >> 32) << 20))

    def lower(op: Operation, index: Sequence[Expr], read: Read) -> Expr:
        count = len(op.opdef.params)  # the run counter stands behind them
        run = None if stateless else read(count, [])
        key, run = source(m, [read(1, [ir.index_const(i)]) for i in range(2)], run)
        stream = Stream(m, key, run, _linear(op.outputs[0].sizes or (), index))
        return element(m, stream, op.attrs["dtype"], *[read(i, []) for i in range(2, count)])

    def reference(shape: np.ndarray, key: np.ndarray, *rest: Any, dtype: types.DType, **_: Any) -> np.ndarray:
        run, rest = (None, rest) if stateless else (np.asarray(rest[-1], np.int64).reshape(1), rest[:-1])
        count = int(np.prod(shape, dtype=np.int64))
        words, run = source(NumpyMath, [np.asarray(k).reshape(1) for k in key], run)
        stream = Stream(NumpyMath, words, run, np.arange(count, dtype=np.int64))
        return np.asarray(element(NumpyMath, stream, dtype, *[np.asarray(r).reshape(1) for r in rest])).reshape(shape)

    key_types = {"key": (types.int32, types.int64) if stateless else (types.uint32,), "shape": (types.int32, types.int64)}
    traits.setdefault("dtypes", types.INTEGER)

    def make(fn: Any) -> OpDef:
        op = OpDef(fn, "random", effect=None if stateless else "random", static=("shape",), input_dtypes=key_types, infer=infer,
                   lower=lower,
                   numpy=reference, output_dtypes=lambda *_, dtype, **__: [dtype], no_gradient="random values depend on no tensor",
                   **traits)
        op.grad(lambda o, dy: (None,) * len(o.inputs))
        return op
    return make


# ---------------------------------------------------------------- ops


@random(uniform, type="RandomUniform")
def random_uniform_op(shape, key, *, dtype, seed=0, seed2=0):
    """Floats uniform in [0, 1)."""


@random(standard_normal, type="RandomStandardNormal")
def random_standard_normal_op(shape, key, *, dtype, seed=0, seed2=0):
    """Floats of the standard normal distribution."""


@random(truncated_normal, type="TruncatedNormal")
def truncated_normal_op(shape, key, *, dtype, seed=0, seed2=0):
    """Floats of the standard normal distribution, given that they lie within two standard deviations."""


def _checked_int(w: Any, stream: Stream, dtype: types.DType, low: Any, high: Any) -> Any:
    message = "Need minval < maxval"
    if w is m:
        return m.check(low < high, uniform_int(w, stream, dtype, low, high), message)
    if not np.all(low < high):
        raise ValueError(f"{message}, got {low[0]} >= {high[0]}")
    return uniform_int(w, stream, dtype, low, high)


@random(_checked_int, type="RandomUniformInt", same=("minval", "maxval"), dtypes=(types.int32, types.int64))
def random_uniform_int_op(shape, key, minval, maxval, *, dtype, seed=0, seed2=0):
    """Integers uniform in [minval, maxval)."""


@random(uniform, stateless=True, type="StatelessRandomUniform")
def stateless_random_uniform_op(shape, key, *, dtype):
    """Floats uniform in [0, 1), a function of `shape` and `key` alone."""


@random(standard_normal, stateless=True, type="StatelessRandomNormal")
def stateless_random_normal_op(shape, key, *, dtype):
    """Standard normal floats, a function of `shape` and `key` alone."""


@random(truncated_normal, stateless=True, type="StatelessTruncatedNormal")
def stateless_truncated_normal_op(shape, key, *, dtype):
    """Standard normal floats within two standard deviations, a function of `shape` and `key` alone."""


@random(_checked_int, stateless=True, type="StatelessRandomUniformInt", same=("minval", "maxval"), dtypes=(types.int32, types.int64))
def stateless_random_uniform_int_op(shape, key, minval, maxval, *, dtype):
    """Integers uniform in [minval, maxval), a function of the inputs alone."""


# ---------------------------------------------------------------- ops that run on the host


def _words(key: np.ndarray, run: Any, count: int) -> tuple[np.ndarray, np.ndarray]:
    stream = Stream(NumpyMath, [np.asarray(k, np.uint32).reshape(1) for k in key], np.asarray(run, np.int64).reshape(1),
                    np.arange(count, dtype=np.int64))
    return stream()


def _uniforms(key: np.ndarray, run: Any, shape: Sequence[int]) -> np.ndarray:
    """float64 uniforms in [0, 1)."""
    high, low = _words(key, run, int(np.prod(shape, dtype=np.int64)))
    return (((high >> 5).astype(np.float64) * 2.0**26 + (low >> 6)) * 2.0**-53).reshape(shape)


def _generator(key: np.ndarray, run: Any) -> np.random.Generator:
    """NumPy's samplers on a stream of their own for each (key, run)."""
    return np.random.Generator(np.random.Philox(key=int(key[0]) << 32 | int(key[1]), counter=[0, 0, int(run), 0]))


@primitive("host", effect="random", type="RandomShuffle", same=("value",), dtypes=types.ALL + (types.string,),
           input_dtypes={"key": (types.uint32,)}, infer=lambda value, key, **_: Spec(value.dtype, value.sizes),
           no_gradient="only integers are shuffled by this op when gradients matter; tf.random_shuffle gathers floats by a shuffled range")
def random_shuffle_op(value, key, *, seed=0, seed2=0):
    """The rows of `value` in random order: those of the sorted random words."""


@random_shuffle_op.reference
def _(value, key, run, **_):
    if not value.ndim:
        return value
    high, low = _words(key, run, len(value))
    return value[np.argsort((high.astype(np.uint64) << np.uint64(32)) | low, kind="stable")]


def _multinomial_infer(logits, num_samples, key, *, dtype, **_):
    rows = needs_rank(logits, 2, "logits")[0]
    count = types.UNKNOWN if num_samples.known is None else num_samples.known.item()
    return Spec(dtype, (rows, count))


@primitive("host", effect="random", type="Multinomial", static=("num_samples",), same=("logits",), dtypes=FLOAT, infer=_multinomial_infer,
           input_dtypes={"key": (types.uint32,), "num_samples": (types.int32, types.int64)}, output_dtypes=lambda *_, dtype, **__: [dtype])
def multinomial_op(logits, num_samples, key, *, dtype, seed=0, seed2=0):
    """Class numbers drawn from each row of unnormalised log-probabilities, by the inverse distribution function."""


multinomial_op.grad(lambda op, dy: (None, None, None))


@multinomial_op.reference
def _(logits, num_samples, key, run, *, dtype, **_):
    logits = logits.astype(np.float64)
    with np.errstate(all="ignore"):
        weights = np.exp(logits - logits.max(axis=1, keepdims=True))
    if not np.isfinite(weights).all():
        raise ValueError("multinomial needs finite logits (or -inf, but not in a whole row)")
    edges = np.cumsum(weights, axis=1)
    u = _uniforms(key, run, (len(logits), int(num_samples)))
    return np.stack([np.searchsorted(e, r * e[-1], side="right") for e,
                     r in zip(edges, u)]).astype(dtype.np) if len(logits) else np.zeros(u.shape, dtype.np)


def _prefixed(shape, rate, *rest, dtype, **_):
    sizes = static_sizes(shape)
    return Spec(dtype, None if sizes is None or rate.sizes is None else (*sizes, *rate.sizes))


@primitive("host", effect="random", type="RandomGamma", static=("shape",), same=("alpha",), dtypes=FLOAT, infer=_prefixed,
           input_dtypes={"key": (types.uint32,), "shape": (types.int32, types.int64)}, output_dtypes=lambda *_, dtype, **__: [dtype])
def random_gamma_op(shape, alpha, key, *, dtype, seed=0, seed2=0):
    """Samples of Gamma(alpha, 1): `shape` of them for each alpha."""


@random_gamma_op.reference
def _(shape, alpha, key, run, *, dtype, **_):
    return _generator(key, run).standard_gamma(alpha, (*shape, *alpha.shape))


@primitive("host", effect="random", type="RandomPoissonV2", static=("shape",), same=("rate",), dtypes=types.NUMERIC, infer=_prefixed,
           input_dtypes={"key": (types.uint32,), "shape": (types.int32, types.int64)}, output_dtypes=lambda *_, dtype, **__: [dtype])
def random_poisson_op(shape, rate, key, *, dtype, seed=0, seed2=0):
    """Samples of Poisson(rate): `shape` of them for each rate."""


random_poisson_op.grad(lambda op, dy: (None, None, None))


@random_poisson_op.reference
def _(shape, rate, key, run, *, dtype, **_):
    return _generator(key, run).poisson(rate.astype(np.float64), (*shape, *rate.shape))
