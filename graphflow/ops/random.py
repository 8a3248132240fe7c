"""Random ops: TensorFlow's generator and distributions, written once for kernels and for NumPy.

The generator is Philox-4x32 with 10 rounds (Salmon, Moraes, Dror, Shaw: "Parallel random numbers: as easy as 1, 2, 3", SC'11): four
random 32-bit words for each (key, counter) pair.  Key and counter are laid out as in TensorFlow's kernels, and words become floats and
integers as there, so that equal seeds give TensorFlow's numbers, on any number of threads: every element is computed from its own index,
and tiles and fusion cannot change a bit.

The key of an op is a vector of four words: the graph's seed (low, high), which is Philox's key, and the op's seed, which is the high half
of the counter.  The low half is the number of a block.  Several elements share a block (four of float32, two of float64); a run of an op
takes 256 blocks for each element of its result, as TensorFlow reserves them.  An op with `effect="random"` receives the run counter (an
int64 scalar: how often it has run in this Session) as one more input after its own.  The key is an input, not an attribute: ops that
differ only in their seed share one kernel.
"""
from __future__ import annotations

from typing import Any, Callable, Sequence

import numpy as np

from .. import types
from ..codegen import ir
from ..codegen.ir import Expr, m
from ..graph import Operation, Spec, Tensor
from ..types import FLOAT
from .opdef import OpDef, Read, composite, needs_rank, primitive

MULTIPLIERS, WEYL = (0xD2511F53, 0xCD9E8D57), (0x9E3779B9, 0xBB67AE85)
RESERVED = 256  # blocks that a run takes for each element
# Random bits of a uniform float: those of its fraction, so that every value is exact and below 1 in the stored type.
UNIFORM_BITS = {"float16": 10, "bfloat16": 7, "float32": 23, "float64": 52}


class NumpyMath:
    """The functions of `ir.m` that the generator uses, on arrays."""

    log, sqrt, sin, cos, max, eq, land = np.log, np.sqrt, np.sin, np.cos, np.maximum, np.equal, np.logical_and
    select = staticmethod(np.where)

    @staticmethod
    def cast(x: Any, dtype: types.DType) -> np.ndarray:
        return np.asarray(x).astype(dtype.np)

    @staticmethod
    def mulhi(a: Any, b: int) -> np.ndarray:
        return ((np.asarray(a).astype(np.uint64) * np.uint64(b)) >> np.uint64(32)).astype(np.uint32)


# ---------------------------------------------------------------- the generator (on Kernel IR or on uint32 arrays)


def philox4x32(w: Any, key: Sequence[Any], counter: Sequence[Any]) -> tuple[Any, Any, Any, Any]:
    """Four random words of a key (two words) and a counter (four words): 10 rounds."""
    (k0, k1), (c0, c1, c2, c3) = key, counter
    for i in range(10):
        if i:
            k0, k1 = k0 + WEYL[0], k1 + WEYL[1]
        c0, c1, c2, c3 = (w.mulhi(c2, MULTIPLIERS[1]) ^ c1 ^ k0, c2 * MULTIPLIERS[1],
                          w.mulhi(c0, MULTIPLIERS[0]) ^ c3 ^ k1, c0 * MULTIPLIERS[0])
    return c0, c1, c2, c3


def halves(w: Any, n: Any) -> tuple[Any, Any]:
    """The low and the high 32 bits of an int64."""
    return w.cast(n & 0xFFFFFFFF, types.uint32), w.cast((n >> 32) & 0xFFFFFFFF, types.uint32)


class Stream:
    """Random words for the element at `index` of a run that begins at block `start`."""

    def __init__(self, w: Any, key: Sequence[Any], start: Any, index: Any):
        self.w, self.key, self.start, self.index = w, key, start, index

    def __call__(self, shared: int) -> tuple[Sequence[Any], Any]:
        """The four words of the element's block, which 2**shared elements share, and its number among these."""
        low, high = halves(self.w, self.start + (self.index >> shared))
        return philox4x32(self.w, self.key[:2], (low, high, *self.key[2:])), self.w.cast(self.index & (2**shared - 1), types.int32)

    def own(self, shared: int, count: int) -> tuple[list[Sequence[Any]], Any]:
        """The first `count` blocks of those reserved for the element and its 2**shared - 1 fellows, and its number among these."""
        first = self.start + (self.index >> shared) * (RESERVED >> 2 << shared)
        found: list[Sequence[Any]] = [philox4x32(self.w, self.key[:2], (*halves(self.w, first + k), *self.key[2:])) for k in range(count)]
        return found, self.w.cast(self.index & (2**shared - 1), types.int32)


def philox_blocks(key: np.ndarray, number: Any) -> tuple[np.ndarray, ...]:
    """The words of numbered blocks."""
    words = [np.full(1, int(v), np.uint32) for v in key]
    with np.errstate(all="ignore"):
        return philox4x32(NumpyMath, words[:2], (*halves(NumpyMath, np.asarray(number, np.int64)), *words[2:]))


def first_block(run: Any, blocks: int) -> int:
    """Where a run begins if each takes so many blocks; the counters of runs in loops are large, and all of this wraps."""
    return (int(run) * blocks + 2**63) % 2**64 - 2**63


# ---------------------------------------------------------------- distributions, as functions of the words


def _float(w: Any, bits: Any, dtype: types.DType) -> Any:
    """A word below 2**31 as a float; by way of int32, for which every vector unit has an instruction."""
    return w.cast(w.cast(bits, types.int32), dtype)


def _fraction(w: Any, word: Any, bits: int) -> Any:
    """The lowest bits of a word as a float32 in [0, 1)."""
    return _float(w, word & (2**bits - 1), types.float32) * 2.0**-bits


def _wide_fraction(w: Any, high: Any, low: Any) -> Any:
    """Two words as a float64 in [0, 1): 20 bits of the first, all of the second."""
    parts = _float(w, high & 0xFFFFF, types.float64) * 2.0**32 + _float(w, low >> 16, types.float64) * 2.0**16
    return (parts + _float(w, low & 0xFFFF, types.float64)) * 2.0**-52


def _chosen(w: Any, words: Sequence[Any], lane: Any) -> Any:
    a, b, c, d = words
    return w.select(w.eq(lane & 2, 0), w.select(w.eq(lane & 1, 0), a, b), w.select(w.eq(lane & 1, 0), c, d))


def uniform(w: Any, stream: Stream, dtype: types.DType) -> Any:
    """A float in [0, 1), a multiple of 2**-bits."""
    if dtype is types.float64:
        (a, b, c, d), lane = stream(1)
        first = w.eq(lane, 0)
        return _wide_fraction(w, w.select(first, a, c), w.select(first, b, d))
    words, lane = stream(2)
    return _fraction(w, _chosen(w, words, lane), UNIFORM_BITS[dtype.name])


def standard_normal(w: Any, stream: Stream, dtype: types.DType) -> Any:
    """Box and Muller (1958): sqrt(-2 log u) times the sine, for odd elements the cosine, of 2 pi v; u is at least 1e-7."""
    if dtype is types.float64:
        (a, b, c, d), lane = stream(1)
        u, v = _wide_fraction(w, a, b), _wide_fraction(w, c, d)
    else:
        (a, b, c, d), lane = stream(2)
        front = w.eq(lane & 2, 0)
        u, v = _fraction(w, w.select(front, a, c), 23), _fraction(w, w.select(front, b, d), 23)
    turn = w.select(w.eq(lane & 1, 0), v - 0.25, v)  # cos(x - pi / 2) is sin(x)
    return w.sqrt(w.log(w.max(u, 1e-7)) * -2.0) * w.cos(turn * (2 * np.pi))


def truncated_normal(w: Any, stream: Stream, dtype: types.DType) -> Any:
    """A standard normal number within two standard deviations.

    As in TensorFlow, each four elements (two of float64) have a stream of normal numbers of their own and take its first ones inside
    the limits.  That loop is written out for so many numbers that they run out once in 10^10 groups; an element is 0 then.
    """
    wide = dtype is types.float64
    blocks, lane = stream.own(1, 5) if wide else stream.own(2, 3)
    found, taken = w.cast(blocks[0][0] & 0, types.float64 if wide else types.float32), w.cast(lane & 0, types.int32)
    for z in [z for words in blocks for z in _normals(w, words, wide)]:
        inside = w.land(z > -2.0, z < 2.0)
        found = w.select(w.land(inside, w.eq(taken, lane)), z, found)
        taken = taken + w.cast(inside, types.int32)
    return found


def _normals(w: Any, words: Sequence[Any], wide: bool) -> list[Any]:
    """The normal numbers of one block: four, or two of float64."""
    a, b, c, d = words
    pairs = [(_wide_fraction(w, a, b), _wide_fraction(w, c, d))] if wide else [(_fraction(w, a, 23), _fraction(w, b, 23)),
                                                                              (_fraction(w, c, 23), _fraction(w, d, 23))]
    out = []
    for u, v in pairs:
        r, turn = w.sqrt(w.log(w.max(u, 1e-7)) * -2.0), v * (2 * np.pi)
        out += [w.sin(turn) * r, w.cos(turn) * r]
    return out


def uniform_int(w: Any, stream: Stream, dtype: types.DType, low: Any, high: Any) -> Any:
    """An integer in [low, high): random bits modulo the width."""
    if dtype.size == 8:
        (a, b, c, d), lane = stream(1)
        first = w.eq(lane, 0)
        bits = w.cast(w.select(first, a, c), types.uint64) | (w.cast(w.select(first, b, d), types.uint64) << 32)
        width = w.cast(high, types.uint64) - w.cast(low, types.uint64)
        return w.cast(w.cast(low, types.uint64) + bits % width, dtype)
    words, lane = stream(2)
    width = w.cast(w.cast(high, types.int64) - w.cast(low, types.int64), types.int64)
    rest = w.cast(_chosen(w, words, lane), types.int64) % width
    return w.cast(w.cast(low, types.int64) + rest, dtype)


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




def _scrambled(w: Any, seeds: Sequence[Any]) -> Sequence[Any]:
    """The key of a pair of seeds, as TensorFlow's stateless ops make it."""
    counter = [half for s in seeds for half in halves(w, w.cast(s, types.int64))]
    return philox4x32(w, [w.cast(counter[0] & 0, types.uint32) + k for k in (0x3EC8F720, 0x02461E29)], counter)


def _reserved(sizes: Sequence[types.Size]) -> types.Size:
    return types.product(sizes) * RESERVED


def random(element: Callable[..., Any], *, stateless: bool = False, reserved: Callable[[Sequence[types.Size]], types.Size] = _reserved,
           **traits: Any) -> Callable[..., OpDef]:
    """An op `f(shape, key, *parameters, dtype, ...)` whose elements are `element(w, stream, dtype, *parameters)`.

    `w` is `ir.m` or `NumpyMath`; the parameters are scalars.  A stateless op takes its key from a pair of integers and has
    no run counter: equal inputs give equal values.  `reserved(sizes)`: the blocks that a run takes.
    """
    def infer(shape: Tensor, key: Tensor, *rest: Tensor, dtype: types.DType, **_: Any) -> Spec:
        types.merge_shapes(key.sizes, (2 if stateless else 4,))
        for t in rest:
            types.merge_shapes(t.sizes, ())
        return Spec(dtype, static_sizes(shape))

    def lower(op: Operation, index: Sequence[Expr], read: Read) -> Expr:
        count = len(op.opdef.params)  # the run counter stands behind them
        words = [read(1, [ir.index_const(i)]) for i in range(2 if stateless else 4)]
        sizes = op.outputs[0].sizes or ()
        start = ir.index_const(0) if stateless else read(count, []) * ir.size(reserved(sizes))
        stream = Stream(m, _scrambled(m, words) if stateless else words, start, _linear(sizes, index))
        return element(m, stream, op.attrs["dtype"], *[read(i, []) for i in range(2, count)])

    def reference(shape: np.ndarray, key: np.ndarray, *rest: Any, dtype: types.DType, **_: Any) -> np.ndarray:
        count = int(np.prod(shape, dtype=np.int64))
        words = [np.asarray(k).reshape(1) for k in key]
        with np.errstate(all="ignore"):
            run = np.int64(0) if stateless else np.asarray(rest[-1], np.int64).reshape(1)
            start = run * np.int64(reserved([int(n) for n in shape])) + np.zeros(1, np.int64)
            stream = Stream(NumpyMath, _scrambled(NumpyMath, words) if stateless else words, start, np.arange(count, dtype=np.int64))
            parameters = [np.asarray(r).reshape(1) for r in (rest if stateless else rest[:-1])]
            return np.asarray(element(NumpyMath, stream, dtype, *parameters)).reshape(shape)

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


def _multinomial_reserved(sizes: Sequence[types.Size]) -> types.Size:
    rows, count = sizes
    return rows * (types.ceildiv(count, 4) * 8) * RESERVED


@random(uniform, reserved=_multinomial_reserved, type="MultinomialDraws")
def multinomial_draws_op(shape, key, *, dtype, seed=0, seed2=0):
    """Floats uniform in [0, 1), those that TensorFlow's multinomial takes for `shape`: rows, samples of each."""


@primitive("indexing", type="ClassOfDraw", dtypes=(types.float64,), no_gradient="an index", output_dtypes=lambda *_, dtype: [dtype],
           infer=lambda edges, draws, *, dtype: Spec(dtype, draws.sizes), samples=[lambda rng: (
               (np.cumsum(rng.random((3, 5)), 1), rng.random((3, 4))), {"dtype": types.int64})])
def class_of_draw(edges, draws, *, dtype):
    """How many of the running sums in a row of `edges` are at most the draw in [0, 1) times the last of them."""


@class_of_draw.reference
def _(edges, draws, *, dtype):
    if not np.isfinite(edges[:, -1:]).all():
        raise ValueError(NOT_FINITE)
    found = [np.searchsorted(e, u * e[-1], side="right") for e, u in zip(edges, draws)]
    return np.minimum(np.array(found, np.int64).reshape(draws.shape), edges.shape[1] - 1)


@class_of_draw.lowers
def _(op, index, read):
    from .indexing import searched

    n = op.inputs[0].sizes[1]
    total = read(0, [index[0], ir.size(n - 1)])
    draw = read(1, index) * m.check(m.isfinite(total), total, NOT_FINITE)
    found = searched(n, lambda i: read(0, [index[0], i]) <= draw)
    return m.cast(m.min(found, ir.size(n) - 1), op.attrs["dtype"])


NOT_FINITE = "multinomial needs finite logits (or -inf, but not in a whole row)"


@composite(type="Multinomial", same=("logits",), dtypes=FLOAT, input_dtypes={"draws": (types.float64,)},
           output_dtypes=lambda *_, dtype: [dtype], no_gradient="a class number",
           samples=[lambda rng: ((rng.standard_normal((3, 4)), rng.random((3, 5))), {"dtype": types.int32})],
           infer=lambda logits, draws, *, dtype: Spec(dtype, (needs_rank(logits, 2, "logits")[0], needs_rank(draws, 2)[1])))
def multinomial_op(logits, draws, *, dtype):
    """Class numbers drawn from each row of unnormalised log-probabilities, by the inverse distribution function."""
    from .elementwise import cast_op, exp
    from .reduce import reduce_max_op
    from .scan import cumsum_op

    wide = cast_op(logits, DstT=types.float64)
    weights = exp(wide - reduce_max_op(wide, axis=(1,), keepdims=True))
    return class_of_draw(cumsum_op(weights, axis=1), draws, dtype=dtype)


multinomial_op.grad(lambda op, dy: (None, None))


# ---------------------------------------------------------------- ops that run on the host


def _words(key: np.ndarray, start: int, count: int) -> np.ndarray:
    """`count` words one after the other, from a block on."""
    return np.stack(philox_blocks(key, np.int64(start) + np.arange(-(-count // 4), dtype=np.int64)), 1).reshape(-1)[:count]


def _generator(key: np.ndarray, run: Any) -> np.random.Generator:
    """NumPy's samplers on a stream of their own for each (key, run)."""
    seeds = [int(k) for k in key]
    return np.random.Generator(np.random.Philox(key=[seeds[1] << 32 | seeds[0], seeds[3] << 32 | seeds[2]], counter=[0, 0, int(run), 0]))


@primitive("host", effect="random", type="RandomShuffle", same=("value",), dtypes=types.ALL + (types.string,),
           input_dtypes={"key": (types.uint32,)}, infer=lambda value, key, **_: Spec(value.dtype, value.sizes),
           no_gradient="only integers are shuffled by this op when gradients matter; tf.random_shuffle gathers floats by a shuffled range")
def random_shuffle_op(value, key, *, seed=0, seed2=0):
    """The rows of `value` in random order (Fisher and Yates), as TensorFlow draws it."""


@random_shuffle_op.reference
def _(value, key, run, **_):
    if not value.ndim or len(value) < 2:
        return value
    n = len(value)
    words = _words(key, first_block(run, -(-n // 4)), n - 1).astype(np.int64)
    order, swaps = list(range(n)), (np.arange(n - 1) + words % (n - np.arange(n - 1))).tolist()
    for i, j in enumerate(swaps):
        order[i], order[j] = order[j], order[i]
    return value[order]


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
