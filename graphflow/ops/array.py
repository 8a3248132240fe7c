"""Movement ops: shapes, creation, and everything that only moves elements.

Each block is one op.  A movement op's kernel is an index map: `lowers` says which input element an output element is, so
that these ops disappear into the kernels of their consumers.  Clamped indices keep every read inside its buffer, also
in the branch that a select does not take.  TF's names and argument forms are in graphflow/array_ops.py.
"""
from __future__ import annotations

from typing import Any, Callable, Sequence

import numpy as np

from .. import graph, types
from ..codegen import ir
from ..codegen.ir import Expr, m
from ..graph import Spec, Tensor
from ..types import ALL, UNKNOWN, Dim, canonical_axis
from .opdef import KNOWN_LIMIT, Axes, Scratch, UnknownRank, broadcast_index, composite, movement, needs_rank, primitive

ANY = ALL + (types.string,)
INDEX = (types.int32, types.int64)


# ---------------------------------------------------------------- helpers


def floats(*shape: int) -> Callable[..., Any]:
    """Test data: normal numbers of a shape."""
    return lambda rng: rng.normal(size=shape)


def floats32(*shape: int) -> Callable[..., Any]:
    return lambda rng: rng.normal(size=shape).astype(np.float32)


def sample(*args: Any, **attrs: Any) -> Callable[..., Any]:
    """Test data: one call; numbers and lists are int32 arrays, functions draw from the generator."""
    return lambda rng: (tuple([a(rng) if callable(a) else np.array(a, np.int32) for a in args]), attrs)


def values_of(t: Tensor) -> list[Any] | None:
    """The followed value of a small integer tensor as a flat list of ints and Dims, or None."""
    return None if t.known is None else [v if isinstance(v, Dim) else int(v) for v in t.known.reshape(-1)]


def sizes_from(t: Tensor) -> tuple[Any, ...]:
    """A shape given as a tensor; sizes that cannot be known yet are UNKNOWN.

    Raises:
        UnknownRank: not even its length is known.
    """
    found = values_of(t)
    if found is not None:
        return tuple(found)
    if t.sizes is None or len(t.sizes) != 1 or isinstance(t.sizes[0], Dim):
        raise UnknownRank("the length of a shape must be known")
    return (UNKNOWN,) * t.sizes[0]


def moved(fn: Callable[..., Any], *inputs: Tensor) -> np.ndarray | None:
    """The followed value of a movement op: `fn` on the followed values of its inputs, when all have one."""
    if any(t.known is None for t in inputs):
        return None
    try:
        found = np.asarray(fn(*[t.known for t in inputs]), object)
    except (TypeError, ValueError, IndexError):
        return None
    return found if found.size <= KNOWN_LIMIT and found.ndim <= 2 else None


def clamp(i: Expr, n: Any) -> Expr:
    """`i` moved into [0, n), for reads whose value is thrown away outside."""
    return m.max(m.min(i, ir.size(n) - 1), 0)


def inside(i: Expr, n: Any) -> Expr:
    """0 <= i < n."""
    return m.land(i >= 0, i < ir.size(n))


def every(conditions: Sequence[Expr]) -> Expr:
    """All of them."""
    out = ir.const(True, types.bool_)
    for c in conditions:
        out = c if out.op == "const" and out.data else out if c.op == "const" and c.data else m.land(out, c)
    return out


def int64(e: Expr) -> Expr:
    return m.cast(e, types.int64)


def zero(dtype: types.DType) -> Expr:
    return ir.const(0, dtype.compute)


def is_empty(sizes: Sequence[Any]) -> bool:
    """Whether nothing can be read from an array of these sizes."""
    return any(types.same(s, 0) for s in sizes)


def pinned(n: Any) -> int:
    """A size that decides the form of a kernel, as a number: a symbolic one becomes its value, under a guard.

    Raises:
        UnknownRank: there is no value yet.
    """
    if not isinstance(n, Dim):
        return int(n)
    if n.hint is None:
        raise UnknownRank(f"the size {n!r} must be known")
    types.same(n, n.hint)
    return n.hint


def linear(index: Sequence[Expr], sizes: Sequence[Any]) -> Expr:
    """The row-major position of an element."""
    at = ir.index_const(0)
    for i, s in zip(index, sizes):
        at = at * ir.size(s) + i
    return at


def unravel(at: Expr, sizes: Sequence[Any]) -> list[Expr]:
    """The index of the element at a row-major position."""
    out: list[Expr] = []
    for k in reversed(range(len(sizes))):
        out.append(at if k == 0 else at % ir.size(sizes[k]))
        at = at if k == 0 else at // ir.size(sizes[k])
    return out[::-1]


def reindex(index: Sequence[Expr], out: Sequence[Any], into: Sequence[Any]) -> list[Expr]:
    """The index, in an array of sizes `into`, of the element at `index` of the same elements with sizes `out`.

    Dimensions are matched in the smallest groups of equal element count, so that most axes pass through untouched.
    """
    o = [k for k, s in enumerate(out) if s != 1]
    n = [k for k, s in enumerate(into) if s != 1]
    found = [ir.index_const(0)] * len(into)
    while o and n and out[o[-1]] == into[n[-1]]:
        found[n.pop()] = index[o.pop()]
    while o or n:
        a, b = _group([out[k] for k in o], [into[k] for k in n])
        at = linear([index[k] for k in o[:a]], [out[k] for k in o[:a]])
        for k, e in zip(n[:b], unravel(at, [into[k] for k in n[:b]])):
            found[k] = e
        o, n = o[a:], n[b:]
    return found


def _group(a: list[Any], b: list[Any]) -> tuple[int, int]:
    """Lengths of the shortest non-empty prefixes of both with the same product; everything when there are none."""
    products: dict[Any, int] = {}
    total: Any = 1
    for j, s in enumerate(b):
        total = total * s
        products.setdefault(total, j + 1)
    total = 1
    for i, s in enumerate(a):
        total = total * s
        if total in products and 0 not in (total,):
            return i + 1, products[total]
    return len(a), len(b)


def _reshape_axes(op: Any) -> Axes:
    """Sizes that go together (split, merged, or the same) are one axis of the op; a size of 1 is one by itself."""
    into, out = op.inputs[0].sizes, op.outputs[0].sizes
    o, n = ([k for k, s in enumerate(sizes) if s != 1] for sizes in (out, into))
    along: dict[Any, int] = {}
    number = 0
    while o or n:
        a, b = _group([out[k] for k in o], [into[k] for k in n])
        along.update({("out", k): number for k in o[:a]} | {("in", k): number for k in n[:b]})
        o, n, number = o[a:], n[b:], number + 1
    for side, sizes in (("out", out), ("in", into)):
        for k in range(len(sizes)):
            if (side, k) not in along:
                along[side, k], number = number, number + 1
    output = tuple(along["out", k] for k in range(len(out)))

    def make(order: tuple[int, ...], inputs: Sequence[Tensor]) -> Tensor:
        return reshape(inputs[0], vector(*[out[k] for a in order for k, b in enumerate(output) if b == a]))

    return Axes(output, (tuple(along["in", k] for k in range(len(into))), *[None] * (len(op.inputs) - 1)), make)


def sum_to(dy: Tensor, x: Tensor) -> Tensor:
    return graph.OPERATORS["sum_to_shape"](dy, x)


def total(dy: Tensor, axis: tuple[int, ...] | None = None) -> Tensor:
    """The sum over `axis`, or over everything."""
    from .reduce import reduce_sum_op

    return reduce_sum_op(dy, axis=axis, keepdims=False)


# ---------------------------------------------------------------- inputs and identities


@primitive("input", type="Placeholder", no_gradient="a fed value")
def placeholder(*, dtype, shape):
    """A value the caller feeds at every run; running without it is an InvalidArgumentError."""


@placeholder.infers
def _(*, dtype, shape):
    return Spec(dtype, shape)


@placeholder.reference
def _(*, dtype, shape):
    raise ValueError(f"You must feed a value for placeholder tensor with dtype {dtype.name} and shape {types.shape_text(shape)}")


@movement(type="PlaceholderWithDefault", dtypes=ANY)
def placeholder_with_default(x, *, shape):
    """`x`, unless something else is fed; its static shape is `shape`."""


placeholder_with_default.samples = [sample(floats(2, 3), shape=(2, 3))]


@placeholder_with_default.infers
def _(x, *, shape):
    merged = types.merge_shapes(x.sizes, shape)
    if isinstance(x.op.graph, Scratch):  # being compiled, so nothing is fed: it is the default itself
        return Spec(x.dtype, merged, x.known)
    # What is fed may have other sizes than the default, so only the declared shape is promised.
    return Spec(x.dtype, shape)


placeholder_with_default.reference(lambda x, *, shape: x)
placeholder_with_default.lowers(lambda op, index, read: read(0, index))
placeholder_with_default.grad(lambda op, dy: (dy,))


def same_spec(x: Tensor, **_: Any) -> Spec:
    return Spec(x.dtype, x.sizes, x.known)


@movement(type="Identity", dtypes=ANY, infer=same_spec, numpy=lambda x: x, lower=lambda op, index, read: read(0, index))
def identity(x):
    """The same value under a new name."""


identity.samples = [sample(floats(2, 3)), sample([1, 2])]


identity.grad(lambda op, dy: (dy,))


@movement(type="EnsureShape", dtypes=ANY, lower=lambda op, index, read: read(0, index))
def ensure_shape(x, *, shape):
    """`x`, checked at run time to have `shape`; sizes that are None fit anything."""


ensure_shape.samples = [sample(floats(2, 3), shape=(2, 3))]


@ensure_shape.infers
def _(x, *, shape):
    return Spec(x.dtype, types.merge_shapes(x.sizes, shape), x.known)


@ensure_shape.reference
def _(x, *, shape):
    if shape is not None and (len(shape) != x.ndim or any(not isinstance(s, Dim) and s != n for s, n in zip(shape, x.shape))):
        raise ValueError(f"Shape of tensor {list(x.shape)} is not compatible with expected shape {types.shape_text(shape)}")
    return x


ensure_shape.grad(lambda op, dy: (dy,))


@movement(type="Bitcast", dtypes=types.REAL + types.INTEGER, no_gradient="it reads the bits of numbers")
def bitcast(x, *, dtype):
    """The same bits read as `dtype`; a wider or narrower dtype takes away or adds a last dimension, as in TF."""


bitcast.samples = [sample(floats32(2, 3), dtype=types.int32), sample(floats32(2, 3), dtype=types.int16),
    sample(floats32(3, 2), dtype=types.int64), sample(floats(3), dtype=types.uint8)]


@bitcast.infers
def _(x, *, dtype):
    sizes = needs_rank(x)
    if dtype not in types.REAL + types.INTEGER:
        raise TypeError(f"bitcast to {dtype.name} is not supported")
    if x.dtype.size == dtype.size:
        return Spec(dtype, sizes)
    if x.dtype.size > dtype.size:
        return Spec(dtype, (*sizes, x.dtype.size // dtype.size))
    ratio = dtype.size // x.dtype.size
    if not sizes or types.same(sizes[-1], ratio) is False:
        raise ValueError(f"Cannot bitcast from {x.dtype.name} to {dtype.name} due to shape {types.shape_text(sizes)}: the last size must "
                         f"be {ratio}")
    return Spec(dtype, sizes[:-1])


bitcast.output_dtypes = lambda x, *, dtype: [dtype]


@bitcast.reference
def _(x, *, dtype):
    x = np.ascontiguousarray(x)
    if x.itemsize == dtype.size:
        return x.view(dtype.np)
    if x.itemsize > dtype.size:
        return x.reshape(*x.shape, 1).view(dtype.np)
    return x.view(dtype.np)[..., 0]


def _as(x: Expr, dtype: types.DType) -> Expr:
    """The bits of `x` as a dtype of the same width; among integers that is a cast."""
    return m.cast(x, dtype) if x.dtype.is_integer and dtype.is_integer else m.bitcast(x, dtype)


def _unsigned(dtype: types.DType) -> types.DType:
    return types.DTYPES[f"uint{dtype.size * 8}"]


@bitcast.lowers
def _(op, index, read):
    have, want = op.inputs[0].dtype, op.attrs["dtype"]
    if have.size == want.size:
        return _as(read(0, index), want)
    if have.size > want.size:
        bits = _as(read(0, index[:-1]), _unsigned(have))
        part = bits >> m.cast(index[-1] * (8 * want.size), bits.dtype)
        return _as(m.cast(part, _unsigned(want)), want)
    wide = _unsigned(want)
    bits = ir.const(0, wide)
    for k in range(want.size // have.size):
        piece = m.cast(_as(read(0, [*index, ir.index_const(k)]), _unsigned(have)), wide)
        bits = bits | (piece << (8 * have.size * k))
    return _as(bits, want)


# ---------------------------------------------------------------- shapes


@movement(type="Shape", dtypes=ANY, shape_only=("x",), no_gradient="an integer", output_dtypes=lambda x, *, out_type: [out_type])
def shape_of(x, *, out_type=types.int32):
    """The sizes of `x`, as a vector."""


shape_of.samples = [sample(floats(2, 3)), sample(floats(), out_type=types.int64), sample(floats(4, 1, 0))]


@shape_of.infers
def _(x, *, out_type):
    if x.sizes is None:
        return Spec(out_type, (UNKNOWN,))
    for k, s in enumerate(x.sizes):
        if out_type is types.int32 and types.less(s, 1 << 31) is False:
            raise ValueError(f"Shape output type is 32-bit but dim {k} is {types.hint(s)}; ask for out_type=tf.int64")
    return Spec(out_type, (len(x.sizes),), np.array(x.sizes, object))


shape_of.reference(lambda x, *, out_type: np.array(np.shape(x), out_type.np))


@shape_of.lowers
def _(op, index, read):
    dtype, sizes = op.outputs[0].dtype, op.inputs[0].sizes
    out = ir.const(0, dtype)
    for k, s in enumerate(sizes):
        value = m.cast(ir.size(s), dtype)
        out = value if k == 0 else m.select(index[0].eq(k), value, out)
    return out


@movement(type="Size", dtypes=ANY, shape_only=("x",), no_gradient="an integer", output_dtypes=lambda x, *, out_type: [out_type])
def size_of(x, *, out_type=types.int32):
    """The number of elements of `x`."""


size_of.samples = [sample(floats(2, 3)), sample(floats(), out_type=types.int64)]


@size_of.infers
def _(x, *, out_type):
    count = None if x.sizes is None else types.product(x.sizes)
    if out_type is types.int32 and count is not None and types.less(count, 1 << 31) is False:
        raise ValueError(f"Number of elements was larger than representable by 32-bit output type: {types.hint(count)}; "
                         "ask for out_type=tf.int64")
    return Spec(out_type, (), None if count is None else np.array(count, object))


size_of.reference(lambda x, *, out_type: np.size(x))
size_of.lowers(lambda op, index, read: m.cast(ir.size(types.product(op.inputs[0].sizes)), op.outputs[0].dtype))


@movement(type="Rank", dtypes=ANY, shape_only=("x",), no_gradient="an integer", output_dtypes=lambda x: [types.int32])
def rank_of(x):
    """The number of dimensions of `x`."""


rank_of.samples = [sample(floats(2, 3)), sample(floats())]


@rank_of.infers
def _(x):
    return Spec(types.int32, (), None if x.sizes is None else np.array(len(x.sizes), object))


rank_of.reference(np.ndim)
rank_of.lowers(lambda op, index, read: ir.const(len(op.inputs[0].sizes), types.int32))


@movement(type="Reshape", dtypes=ANY, static=("shape",), input_dtypes={"shape": INDEX})
def reshape(x, shape):
    """The same elements in row-major order with other sizes; one size may be -1."""


reshape.samples = [sample(floats(2, 3, 4), [6, 4]), sample(floats(2, 3, 4), [4, -1, 2]), sample(floats(1), []),
    sample(floats(6), [2, 1, 3, 1]), sample(floats(0, 3), [3, 0]), sample([1, 2, 3, 4], [2, 2])]


@reshape.infers
def _(x, shape):
    dims = list(sizes_from(shape))
    count = UNKNOWN if x.sizes is None else types.product(x.sizes)
    free = [k for k, d in enumerate(dims) if isinstance(d, int) and d == -1]
    if len(free) > 1:
        raise ValueError(f"Only one input size may be -1, not both {free[0]} and {free[1]}")
    if any(isinstance(d, int) and d < -1 for d in dims):
        raise ValueError(f"Size {min(d for d in dims if isinstance(d, int))} of a shape must be non-negative, or -1")
    if not free and isinstance(count, int) and sum(map(types.is_unknown, dims)) == 1:
        free = [k for k, d in enumerate(dims) if types.is_unknown(d)]
    if free:
        dims[free[0]] = _missing(x, dims, free[0], count)
    elif types.same(types.product(dims), count) is False:
        raise ValueError(_bad_reshape(x, dims, count))
    return Spec(x.dtype, tuple(dims), moved(lambda a: a.reshape(tuple(dims)), x) if types.known(tuple(dims)) else None)


def _missing(x: Tensor, dims: list[Any], k: int, count: Any) -> Any:
    """The size that stands for -1."""
    rest = types.product(d for i, d in enumerate(dims) if i != k)
    if isinstance(rest, int) and rest == 0:
        if isinstance(count, int) and count == 0:
            raise ValueError("reshape cannot infer the missing input size for an empty tensor unless all specified input sizes are "
                             "non-zero")
        return UNKNOWN
    found = types.floordiv(count, rest)
    if types.same(found * rest, count) is False:
        raise ValueError(_bad_reshape(x, [-1 if i == k else d for i, d in enumerate(dims)], count))
    return found


def _bad_reshape(x: Tensor, dims: Sequence[Any], count: Any) -> str:
    want = f" ({types.product(dims)!r} elements)" if -1 not in dims else ""
    return f"Cannot reshape a tensor with {count!r} elements to shape {types.shape_text(tuple(dims))}{want}"


reshape.reference(lambda x, shape: np.reshape(x, tuple(int(s) for s in shape)))


def _reindexed(op: Any, index: Any, read: Any) -> Expr:
    """Every op that keeps the row-major order of the elements of its first input."""
    return read(0, reindex(index, op.outputs[0].sizes, op.inputs[0].sizes))


reshape.lowers(_reindexed)
reshape.axes(_reshape_axes)
reshape.grad(lambda op, dy: (reshape_like(dy, op.inputs[0]), None))


@movement(type="ReshapeLike", dtypes=ANY, same=("x",), shape_only=("like",))
def reshape_like(x, like):
    """`x` with the sizes of `like`, whose values are not read."""


reshape_like.samples = [sample(floats(2, 6), floats(3, 4)), sample(floats(1, 1), floats())]


@reshape_like.infers
def _(x, like):
    sizes = needs_rank(like)
    if x.sizes is not None and types.same(types.product(x.sizes), types.product(sizes)) is False:
        raise ValueError(_bad_reshape(x, sizes, types.product(x.sizes)))
    return Spec(x.dtype, sizes, moved(lambda a: a.reshape(sizes), x) if types.known(sizes) else None)


reshape_like.reference(lambda x, like: np.reshape(x, np.shape(like)))
reshape_like.lowers(_reindexed)
reshape_like.axes(_reshape_axes)
reshape_like.grad(lambda op, dy: (reshape_like(dy, op.inputs[0]), None))


@movement(type="ExpandDims", constants=1, dtypes=ANY, lower=_reindexed)
def expand_dims(x, *, axis):
    """`x` with a dimension of size 1 put in at `axis`, counted in the result."""


expand_dims.samples = [sample(floats(2, 3), axis=1), sample(floats(2, 3), axis=-1), sample(floats(), axis=0)]


@expand_dims.infers
def _(x, *, axis):
    sizes = needs_rank(x)
    k = canonical_axis(axis, len(sizes) + 1, "dim")
    return Spec(x.dtype, (*sizes[:k], 1, *sizes[k:]), moved(lambda a: np.expand_dims(a, k), x))


expand_dims.reference(lambda x, *, axis: np.expand_dims(x, axis))
expand_dims.grad(lambda op, dy: (reshape_like(dy, op.inputs[0]),))


@expand_dims.axes
def _(op):
    axes = tuple(range(len(op.outputs[0].sizes)))
    k = op.attrs["axis"] % len(axes)
    return Axes(axes, (axes[:k] + axes[k + 1:],), lambda order, inputs: expand_dims(*inputs, axis=order.index(k)))


@movement(type="Squeeze", dtypes=ANY, lower=_reindexed)
def squeeze(x, *, axis=()):
    """`x` without the dimensions `axis`, each of size 1; without any of size 1 when `axis` is empty."""


squeeze.samples = [sample(floats(1, 3, 1)), sample(floats(1, 3, 1), axis=(0,)), sample(floats(1, 3, 1), axis=(-1,))]


@squeeze.infers
def _(x, *, axis):
    sizes = needs_rank(x)
    if axis:
        gone = {canonical_axis(a, len(sizes), "squeeze_dims") for a in axis}
        bad = next((k for k in sorted(gone) if types.same(sizes[k], 1) is False), None)
        if bad is not None:
            raise ValueError(f"Can not squeeze dim[{bad}], expected a dimension of 1, got {sizes[bad]!r}")
    elif any(types.is_unknown(s) for s in sizes):
        raise UnknownRank("which sizes are 1 is not known")
    else:
        gone = {k for k, s in enumerate(sizes) if types.same(s, 1)}
    kept = tuple(s for k, s in enumerate(sizes) if k not in gone)
    return Spec(x.dtype, kept, moved(lambda a: a.reshape(kept), x) if types.known(kept) else None)


squeeze.reference(lambda x, *, axis: np.squeeze(x, axis or None))
squeeze.grad(lambda op, dy: (reshape_like(dy, op.inputs[0]),))


@squeeze.axes
def _(op):
    sizes, axis = op.inputs[0].sizes, op.attrs["axis"]
    gone = [a % len(sizes) for a in axis] if axis else [k for k, n in enumerate(sizes) if types.same(n, 1)]
    axes = tuple(range(len(sizes)))
    return Axes(tuple(k for k in axes if k not in gone), (axes,),
                lambda order, inputs: squeeze(*inputs, axis=tuple(sorted(map(order.index, gone)))) if gone else inputs[0])


@movement(type="Transpose", constants=1, dtypes=ANY, default_name="transpose")
def transpose(x, *, perm=None):
    """Dimension k of the result is dimension `perm[k]` of `x`; reversed when perm is None."""


transpose.samples = [sample(floats(2, 3, 4)), sample(floats(2, 3, 4), perm=(1, 2, 0)), sample(floats()), sample([[1, 2], [3, 4]])]


def _perm(x: Tensor, perm: Any) -> tuple[int, ...]:
    rank = len(x.sizes)  # type: ignore[arg-type]
    if perm is None:
        return tuple(reversed(range(rank)))
    found = tuple(canonical_axis(p, rank, "perm") for p in perm)
    if sorted(found) != list(range(rank)):
        raise ValueError(f"perm {tuple(perm)} must be a permutation of the {rank} dimensions of {types.shape_text(x.sizes)}")
    return found


@transpose.infers
def _(x, *, perm):
    if x.sizes is None and perm is not None:
        return Spec(x.dtype, (UNKNOWN,) * len(perm))
    sizes = needs_rank(x)
    p = _perm(x, perm)
    return Spec(x.dtype, tuple(sizes[k] for k in p), moved(lambda a: a.transpose(p), x))


transpose.reference(lambda x, *, perm: np.transpose(x, perm))


@transpose.lowers
def _(op, index, read):
    at: list[Any] = [None] * len(index)
    for k, p in enumerate(_perm(op.inputs[0], op.attrs["perm"])):
        at[p] = index[k]
    return read(0, at)


@transpose.grad
def _(op, dy):
    perm = op.attrs["perm"]
    return transpose(dy, perm=None if perm is None else tuple(int(k) for k in np.argsort([p % len(perm) for p in perm]))),


@composite(type="MatrixTranspose", dtypes=ANY, output_dtypes=lambda x: [x.dtype])
def matrix_transpose_op(x):
    """`x` with its last two dimensions exchanged, where its rank is not known yet."""
    rank = len(needs_rank(x))
    if rank < 2:
        raise ValueError(f"a (batch) matrix has a rank of at least 2, got shape {types.shape_text(x.sizes)}")
    return transpose(x, perm=(*range(rank - 2), rank - 1, rank - 2))


matrix_transpose_op.samples = [sample(floats(2, 3, 4)), sample(floats(3, 2))]
matrix_transpose_op.grad(lambda op, dy: (matrix_transpose_op(dy),))


def _perm_infer(x: Tensor, perm: Tensor) -> Spec:
    length = needs_rank(perm, 1, "perm")[0]
    if perm.known is None or x.sizes is None:
        return Spec(x.dtype, None if isinstance(length, types.Dim) else (UNKNOWN,) * length)
    order = _perm(x, tuple(int(k) for k in perm.known))
    return Spec(x.dtype, tuple(x.sizes[k] for k in order))


@composite(type="TransposeBy", dtypes=ANY, same=("x",), static=("perm",), input_dtypes={"perm": INDEX}, infer=_perm_infer, samples=[
    lambda r: ((r.normal(size=(2, 3, 4)), np.array([1, 2, 0], np.int32)), {})])
def transpose_by(x, perm):
    """`transpose` by an order that is known only when the step runs."""
    return transpose(x, perm=tuple(int(k) for k in perm.known))


@transpose_by.grad
def _(op, dy):
    from .indexing import invert_permutation

    return transpose_by(dy, invert_permutation(op.inputs[1])), None


# ---------------------------------------------------------------- creation


@movement(type="SizeVector", no_gradient="an integer")
def size_vector(*, values):
    """A vector of sizes, symbolic ones too: what the body of a composite passes on as a shape."""


size_vector.samples = [sample(values=(2, 3)), sample(values=())]


size_vector.infers(lambda *, values: Spec(types.int32, (len(values),), np.array(values, object)))
size_vector.reference(lambda *, values: np.array([int(v) for v in values], np.int32))


@size_vector.lowers
def _(op, index, read):
    out = ir.const(0, types.int32)
    for k, s in enumerate(op.attrs["values"]):
        value = m.cast(ir.size(s), types.int32)
        out = value if k == 0 else m.select(index[0].eq(k), value, out)
    return out


@movement(type="Fill", dtypes=ANY, static=("dims",), input_dtypes={"dims": INDEX}, output_dtypes=lambda dims, value: [value.dtype])
def fill(dims, value):
    """An array of sizes `dims` whose elements are all the scalar `value`."""


fill.samples = [sample([2, 3], floats()), sample([], floats()), sample([0, 2], floats()), sample([3], [7][0])]


@fill.infers
def _(dims, value):
    if value.sizes:
        raise ValueError(f"Shape must be rank 0 but is rank {len(value.sizes)}: fill takes a scalar value")
    sizes = sizes_from(dims)
    if any(isinstance(s, int) and s < 0 for s in sizes):
        raise ValueError(f"Fill dimensions must be >= 0, got {types.shape_text(sizes)}")
    small = types.known(sizes) and len(sizes) <= 2 and types.product(sizes) <= KNOWN_LIMIT
    return Spec(value.dtype, sizes, moved(lambda v: np.full(sizes, v[()], object), value) if small else None)


fill.reference(lambda dims, value: np.full(tuple(int(d) for d in dims), value[()], np.asarray(value).dtype))
fill.lowers(lambda op, index, read: read(1, []))
fill.grad(lambda op, dy: (None, total(dy)))


@fill.axes
def _(op):
    sizes = op.outputs[0].sizes
    return Axes(tuple(range(len(sizes))), (None, ()), lambda order, inputs: fill(vector(*[sizes[a] for a in order]), inputs[1]))


@movement(type="BroadcastTo", dtypes=ANY, static=("shape",), input_dtypes={"shape": INDEX})
def broadcast_to(x, shape):
    """`x` repeated to the sizes `shape` by the rules of broadcasting."""


broadcast_to.samples = [sample(floats(3, 1), [2, 3, 4]), sample(floats(), [2]), sample(floats(2), [3, 2]), sample([5], [4])]


@broadcast_to.infers
def _(x, shape):
    sizes = sizes_from(shape)
    if x.sizes is not None:
        if len(x.sizes) > len(sizes) or any(types.same(a, b) is False and not types.same(a, 1) for a, b in zip(x.sizes[::-1], sizes[::-1])):
            raise ValueError(f"Incompatible shapes: {types.shape_text(x.sizes)} cannot be broadcast to {types.shape_text(sizes)}")
    return Spec(x.dtype, sizes, moved(lambda a: np.broadcast_to(a, sizes), x) if types.known(sizes) else None)


broadcast_to.reference(lambda x, shape: np.broadcast_to(x, tuple(int(s) for s in shape)))
broadcast_to.lowers(lambda op, index, read: read(0, broadcast_index(op.inputs[0].sizes, index)))
broadcast_to.grad(lambda op, dy: (sum_to(dy, op.inputs[0]), None))
broadcast_to.axes(lambda op: repeating_axes(op))


def repeating_axes(op: Any) -> Axes:
    """Of an op that broadcasts its first input to a shape: made again, it is `broadcast_to`."""
    sizes, x = op.outputs[0].sizes, op.inputs[0].sizes
    axes = tuple(range(len(sizes)))
    return Axes(axes, (axes[len(sizes) - len(x):], *[None] * (len(op.inputs) - 1)),
                lambda order, inputs: broadcast_to(inputs[0], vector(*[sizes[a] for a in order])), aligned=True)


def own_axes(op: Any, make: Any) -> Axes:
    """Of an op whose first input and output have the same axes; `make(order, x, *others)`."""
    axes = tuple(range(len(op.outputs[0].sizes)))
    return Axes(axes, (axes, *[None] * (len(op.inputs) - 1)), lambda order, inputs: make(order, *inputs))


@movement(type="Range", dtypes=types.INTEGER, static=("start", "limit", "delta"), default_name="range", no_gradient="an integer")
def range_op(start, limit, delta):
    """start, start + delta, ... up to but not including `limit`; integers."""


range_op.samples = [sample(0, 5, 1), sample(7, 1, -2), sample(0, 300, 1), sample(3, 3, 1)]


@range_op.infers
def _(start, limit, delta):
    if any(t.known is None for t in (start, limit, delta)):
        return Spec(start.dtype, (UNKNOWN,))
    (a,), (b,), (d,) = values_of(start), values_of(limit), values_of(delta)
    n = range_length(a, b, d)
    known = isinstance(n, int) and n <= KNOWN_LIMIT
    return Spec(start.dtype, (n,), np.array([a + k * d for k in range(n)], object) if known else None)


def range_length(a: Any, b: Any, d: Any) -> Any:
    """How many numbers range(a, b, d) has."""
    if isinstance(d, int) and d == 0:
        raise ValueError("Requires delta != 0: 0")
    down = types.less(d, 0)
    if down is None:
        return UNKNOWN
    a, b, d = (-a, -b, -d) if down else (a, b, d)
    wrong = types.less(b, a)
    if wrong is None:
        return UNKNOWN
    if wrong:
        sign = ">= limit when delta < 0" if down else "<= limit when delta > 0"
        if isinstance(a, int) and isinstance(b, int):
            raise ValueError(f"Requires start {sign}: {-a if down else a}/{-b if down else b}")
        return 0
    return types.ceildiv(b - a, d)


@range_op.reference
def _(start, limit, delta):
    range_length(int(start), int(limit), int(delta))
    return np.arange(start, limit, delta, np.asarray(start).dtype)


@range_op.lowers
def _(op, index, read):
    (start,), (delta,) = values_of(op.inputs[0]), values_of(op.inputs[2])
    return m.cast(ir.size(start) + index[0] * ir.size(delta), op.outputs[0].dtype)


@movement(type="LinSpace", dtypes=types.FLOAT, static=("num",), input_dtypes={"num": INDEX})
def lin_space(start, stop, num):
    """`num` evenly spaced numbers from `start` to `stop`, both included."""


lin_space.samples = [sample(floats(), floats(), 5), sample(floats(), floats(), 1)]


@lin_space.infers
def _(start, stop, num):
    n = UNKNOWN if num.known is None else values_of(num)[0]
    if isinstance(n, int) and n < 1:
        raise ValueError(f"Requires num > 0: {n}")
    return Spec(start.dtype, (n,))


lin_space.reference(lambda start, stop, num: np.linspace(start, stop, int(num), dtype=np.asarray(start).dtype))


@lin_space.lowers
def _(op, index, read):
    n, start, stop = op.outputs[0].sizes[0], read(0, []), read(1, [])
    last = m.cast(m.max(ir.size(n) - 1, 1), start.dtype)
    step = (stop - start) / last
    return m.select(m.land(index[0] > 0, index[0].eq(ir.size(n) - 1)), stop, start + step * m.cast(index[0], start.dtype))


@lin_space.grad
def _(op, dy):
    start, stop, num = op.inputs
    from .opdef import constant

    w = lin_space(constant(0.0, dy.dtype), constant(1.0, dy.dtype), num)
    return total(dy * (1 - w)), total(dy * w), None


@movement(type="Eye", static=("shape",), input_dtypes={"shape": INDEX}, output_dtypes=lambda shape, *, dtype: [dtype],
          no_gradient="a constant")
def eye_op(shape, *, dtype):
    """Ones on the diagonal of the last two dimensions of `shape`, zeros elsewhere."""


eye_op.samples = [sample([2, 3], dtype=types.float32), sample([2, 3, 3], dtype=types.int64)]


eye_op.infers(lambda shape, *, dtype: Spec(dtype, sizes_from(shape)))
eye_op.reference(lambda shape, *, dtype: np.broadcast_to(np.eye(int(shape[-2]), int(shape[-1])), tuple(int(s) for s in shape)))


@eye_op.lowers
def _(op, index, read):
    dtype = op.outputs[0].dtype.compute
    return m.select(index[-2].eq(index[-1]), ir.const(1, dtype), ir.const(0, dtype))


# ---------------------------------------------------------------- joining


@movement(type="ConcatV2", constants=1, dtypes=ANY, default_name="concat")
def concat(*values, axis):
    """The values one after the other along `axis`; their other sizes are the same."""


concat.samples = [sample(floats(2, 3), floats(2, 1), floats(2, 2), axis=1), sample(floats(2), floats(0), floats(1), axis=-1),
    sample([1], [2, 3], axis=0)]


@concat.infers
def _(*values, axis):
    shaped = [v for v in values if v.sizes is not None]
    if not shaped:
        raise UnknownRank("the rank of a concatenated value must be known")
    rank = len(shaped[0].sizes)
    if rank == 0:
        raise ValueError("Can't concatenate scalars (use tf.stack instead)")
    k = canonical_axis(axis, rank, "concat dimension")
    sizes = list(shaped[0].sizes)
    for v in shaped[1:]:
        if len(v.sizes) != rank:
            raise ValueError(f"Shape must be rank {rank} but is rank {len(v.sizes)}")
        for j, (a, b) in enumerate(zip(sizes, v.sizes)):
            if j != k and types.same(a, b) is False:
                raise ValueError(f"Dimension {j} in both shapes must be equal, but are {a!r} and {b!r}. Shapes are "
                                 f"{types.shape_text(shaped[0].sizes)} and {types.shape_text(v.sizes)}.")
            sizes[j] = b if j != k and types.is_unknown(a) else a
    length: Any = 0
    for v in values:
        length = length + (UNKNOWN if v.sizes is None else v.sizes[k])
    sizes[k] = length
    return Spec(values[0].dtype, tuple(sizes), moved(lambda *a: np.concatenate(a, k), *values))


concat.reference(lambda *values, axis: np.concatenate(values, axis))


@concat.lowers
def _(op, index, read):
    k = canonical_axis(op.attrs["axis"], len(index))
    pieces, at = [], 0
    for j, t in enumerate(op.inputs):
        n = t.sizes[k]
        if not types.same(n, 0):
            pieces.append((at, n, j))
        at = at + n
    out: Any = None
    for at, n, j in reversed(pieces):
        i = index[k] if len(pieces) == 1 else clamp(index[k] - ir.size(at), n)
        value = read(j, [*index[:k], i, *index[k + 1:]])
        out = value if out is None else m.select(index[k] < ir.size(at + n), value, out)
    return zero(op.outputs[0].dtype) if out is None else out


@concat.grad
def _(op, dy):
    rank = next(len(t.sizes) for t in [*op.inputs, dy] if t.sizes is not None)
    k = canonical_axis(op.attrs["axis"], rank)
    at: Any = 0
    out = []
    for t in op.inputs:
        out.append(dy if len(op.inputs) == 1 else slice_op(dy, vector(*[at if j == k else 0 for j in range(rank)]), shape_vector(t)))
        at = at + size_along(t, k)
    return out


@concat.axes
def _(op):
    axes = tuple(range(len(op.outputs[0].sizes)))
    k = canonical_axis(op.attrs["axis"], len(axes))
    return Axes(axes, (axes,) * len(op.inputs), lambda order, inputs: concat(*inputs, axis=order.index(k)))


def size_along(t: Tensor, k: int) -> Any:
    """The size of one dimension: an int when known, else a scalar int32 tensor."""
    if t.sizes is not None and isinstance(t.sizes[k], int):
        return t.sizes[k]
    return graph.OPERATORS["getitem"](shape_of(t), k)


def vector(*values: Any) -> Tensor:
    """An int32 vector of ints, symbolic sizes and scalar tensors."""
    from .opdef import constant, convert_to_tensor

    if all(isinstance(v, int) for v in values):
        return constant(np.array(values, np.int32))
    if all(isinstance(v, (int, Dim)) for v in values):
        return size_vector(values=tuple(values))
    values = tuple(size_vector(values=(v,))[0] if isinstance(v, Dim) else v for v in values)
    return pack(*[v if isinstance(v, Tensor) else convert_to_tensor(v, types.int32) for v in values], axis=0, name="shape")


def shape_vector(t: Tensor) -> Tensor:
    """The shape of `t` as a tensor: a constant when it is known."""
    from .opdef import constant

    return constant(np.array(t.sizes, np.int32)) if types.known(t.sizes) else shape_of(t)


@movement(type="Pack", dtypes=ANY, default_name="stack")
def pack(*values, axis=0):
    """The values, all of one shape, along a new dimension `axis`."""


pack.samples = [sample(floats(2, 3), floats(2, 3)), sample(floats(2), floats(2), floats(2), axis=-1), sample([1], [2], axis=1),
    sample(floats())]


@pack.infers
def _(*values, axis):
    sizes: Any = None
    for v in values:
        try:
            sizes = types.merge_shapes(sizes, v.sizes)
        except ValueError:
            raise ValueError(f"Shapes must be equal rank and size, but are {types.shape_text(sizes)} and "
                             f"{types.shape_text(v.sizes)}") from None
    if sizes is None:
        raise UnknownRank("the rank of a stacked value must be known")
    k = canonical_axis(axis, len(sizes) + 1)
    return Spec(values[0].dtype, (*sizes[:k], len(values), *sizes[k:]), moved(lambda *a: np.stack(a, k), *values))


pack.reference(lambda *values, axis: np.stack(values, axis))


@pack.lowers
def _(op, index, read):
    k = canonical_axis(op.attrs["axis"], len(index))
    rest = [*index[:k], *index[k + 1:]]
    out = read(len(op.inputs) - 1, rest)
    for j in reversed(range(len(op.inputs) - 1)):
        out = m.select(index[k].eq(j), read(j, rest), out)
    return out


@pack.grad
def _(op, dy):
    rank = len(needs_rank(dy))
    k = canonical_axis(op.attrs["axis"], rank)
    return [strided_slice(dy, spec=(*[FULL] * k, ("i", j), *[FULL] * (rank - k - 1))) for j in range(len(op.inputs))]


@pack.axes
def _(op):
    axes = tuple(range(len(op.outputs[0].sizes)))
    k = canonical_axis(op.attrs["axis"], len(axes))
    return Axes(axes, (axes[:k] + axes[k + 1:],) * len(op.inputs), lambda order, inputs: pack(*inputs, axis=order.index(k)))


# ---------------------------------------------------------------- slicing

FULL = ("s", None, None, 1)
# A spec is a tuple of items: ("i", int) and ("t", n) take one position (a literal one; the one in the n-th index
# tensor) and drop the dimension, ("s", begin, end, step) keeps a range, ("n",) puts in a dimension of size 1, ("e",) stands
# for as many full ranges as are missing.  begin and end are None, an int, or ("b", n): the n-th value of `bounds`.


def expand_spec(spec: Sequence[Any], rank: int) -> list[Any]:
    """The spec without an ellipsis: one item a dimension, besides the new ones."""
    used = sum(item[0] not in "ne" for item in spec)
    if used > rank:
        raise ValueError(f"Index out of range using input dim {rank}; input has only {rank} dims")
    items = list(spec) if ("e",) in spec else [*spec, ("e",)]
    k = items.index(("e",))
    return [*items[:k], *[FULL] * (rank - used), *items[k + 1:]]


def _resolve(item: Any, n: Any, bounds: list[Any] | None) -> tuple[Any, Any, int]:
    """(begin, length, step) of a range item on a dimension of size `n`; UNKNOWN where it cannot be known."""
    _, begin, end, step = item
    begin = begin if not isinstance(begin, tuple) else UNKNOWN if bounds is None else bounds[begin[1]]
    end = end if not isinstance(end, tuple) else UNKNOWN if bounds is None else bounds[end[1]]
    if step == 0:
        raise ValueError("strides[0] must be non-zero")
    low, high = (0, n) if step > 0 else (-1, n - 1)
    first = _bound(begin, n, low, high, low if step > 0 else high)
    last = _bound(end, n, low, high, high if step > 0 else low)
    if not types.is_unknown(n) and (item[1] is None and item[2] is None):
        return first, types.ceildiv(n, abs(step)), step
    span = last - first if step > 0 else first - last
    if types.is_unknown(span):
        return first, UNKNOWN, step
    none = types.less(span, 1)
    return first, UNKNOWN if none is None else 0 if none else types.ceildiv(span, abs(step)), step


def _bound(v: Any, n: Any, low: Any, high: Any, default: Any) -> Any:
    """A bound as NumPy takes it: counted from the end when negative, then clipped to [low, high]."""
    if v is None:
        return default
    if isinstance(v, int) and v == 0 and low == 0:
        return 0
    negative = types.less(v, 0)
    if negative is None:
        return UNKNOWN
    v = v + n if negative else v
    below, above = types.less(v, low), types.less(high, v)
    return UNKNOWN if below is None or above is None else low if below else high if above else v


def _unknown_dim_slice(item: Any) -> Any:
    """What is known of a range of a dimension of unknown size."""
    return 0 if isinstance(item[1], int) and item[1] == item[2] else UNKNOWN


def _slice_sizes(sizes: Any, spec: Any, bounds: list[Any] | None) -> tuple[Any, ...]:
    out: list[Any] = []
    dim = 0
    for item in expand_spec(spec, len(sizes)):
        kind = item[0]
        if kind == "n":
            out.append(1)
            continue
        n = sizes[dim]
        if kind == "s":
            out.append(_unknown_dim_slice(item) if types.is_unknown(n) else _resolve(item, n, bounds)[1])
        elif kind == "i" and (types.less(item[1], n) is False or types.less(item[1] + n, 0)):
            raise ValueError(f"slice index {item[1]} of dimension {dim} out of bounds: its size is {n!r}")
        dim += 1
    return tuple(out)


def _numpy_key(spec: Any, indices: Sequence[Any], bounds: Sequence[Any] | None) -> tuple[Any, ...]:
    """The spec as NumPy's own index."""
    def bound(v: Any) -> Any:
        return int(bounds[v[1]]) if isinstance(v, tuple) else v  # type: ignore[index]

    make = {"i": lambda i: i[1], "t": lambda i: int(indices[i[1]]), "n": lambda i: None, "e": lambda i: Ellipsis,
            "s": lambda i: slice(bound(i[1]), bound(i[2]), i[3])}
    return tuple(make[item[0]](item) for item in spec)


def _slice_known(x: Tensor, spec: Any, indices: Sequence[Tensor], bounds: Tensor | None) -> Any:
    used = [*indices, *([bounds] if bounds is not None else [])]
    if x.known is None or any(t.known is None for t in used):
        return None
    return moved(lambda a, *rest: a[_numpy_key(spec, [t.known[()] for t in indices], None if bounds is None else values_of(bounds))], x)


def _slice_reference(x: np.ndarray, bounds: Any, indices: Sequence[Any], spec: Any) -> np.ndarray:
    used = [item for item in spec if item[0] == "t"]
    if used:
        key = expand_spec(spec, x.ndim)
        dim = 0
        for item in key:
            if item[0] == "t" and not -x.shape[dim] <= int(indices[item[1]]) < x.shape[dim]:
                raise ValueError(f"slice index {int(indices[item[1]])} of dimension {dim} out of bounds.")
            dim += item[0] != "n"
    return x[_numpy_key(spec, indices, bounds)]


def _slice_positions(op: Any, sizes: Any, spec: Any, index: Sequence[Expr], scalar: Callable[[int], Expr],
                     bounds: list[Any] | None) -> list[Any]:
    """For each input dimension, where the output index points: (item kind, position, length or size, step, output axis)."""
    found, axis, dim = [], 0, 0
    for item in expand_spec(spec, len(sizes)):
        if item[0] == "n":
            axis += 1
            continue
        n = sizes[dim]
        if item[0] == "s":
            begin, length, step = _resolve(item, n, bounds)
            found.append(("s", ir.size(begin), length, step, axis))
            axis += 1
        elif item[0] == "i":
            found.append(("i", ir.size(item[1] + n if item[1] < 0 else item[1]), n, 1, None))
        else:
            i = int64(scalar(item[1]))
            i = m.select(i < 0, i + ir.size(n), i)
            found.append(("t", m.check(inside(i, n), clamp(i, n), "slice index out of bounds"), n, 1, None))
        dim += 1
    return found


def _lower_slice(op: Any, index: Any, read: Any, first: int, bounds: list[Any] | None) -> Expr:
    sizes = op.inputs[0].sizes
    at = []
    if any(item[0] == "t" for item in op.attrs["spec"]) and is_empty(sizes):
        return zero(op.outputs[0].dtype)
    for _, where, _, step, axis in _slice_positions(op, sizes, op.attrs["spec"], index, lambda n: read(first + n, []), bounds):
        at.append(where if axis is None else where + index[axis] * step)
    return read(0, at)


def _lower_slice_grad(op: Any, index: Any, read: Any, first: int, bounds: list[Any] | None) -> Expr:
    """dy where the slice read this element, else 0."""
    sizes, dtype = op.outputs[0].sizes, op.outputs[0].dtype
    dy = op.inputs[0].sizes
    if is_empty(dy):
        return zero(dtype)
    at: list[Expr] = [ir.index_const(0)] * len(dy)
    hit: list[Expr] = []
    for i, n, (_, where, length, step, axis) in zip(index, sizes,
                                                    _slice_positions(op, sizes, op.attrs["spec"], index, lambda n: read(first + n, []),
                                                                     bounds)):
        if axis is None:
            hit.append(i.eq(where))
            continue
        if step == 1 and where.op == "const" and where.data == 0 and length == n:
            at[axis] = i
            continue
        offset = i - where if step > 0 else where - i
        if abs(step) != 1:
            hit.append((offset % abs(step)).eq(0))
        k = offset // abs(step) if abs(step) != 1 else offset
        hit.append(inside(k, length))
        at[axis] = clamp(k, length)
    return m.select(every(hit), read(0, at), zero(dtype))


@movement(type="StridedSlice", constants=3, dtypes=ANY, default_name="strided_slice", same=("x",), input_dtypes={"indices": INDEX})
def strided_slice(x, *indices, spec):
    """NumPy's basic indexing with literal ranges; `indices` are the run-time positions."""


strided_slice.samples = [sample(floats(4, 5), spec=(("s", 1, None, 2), ("i", -1))),
    sample(floats(4, 5), spec=(("e",), ("s", None, None, -2))),
                         sample(floats(4, 5), 2, -1, spec=(("t", 0), ("n",), ("t", 1))),
    sample(floats(4, 5), spec=(("s", -2, 1, -1), ("s", 3, 1, 1))),
                         sample(floats(2, 3, 4), -2, spec=(("s", None, -1, 1), ("e",), ("t", 0))),
    sample([5, 6, 7], spec=(("s", 1, 3, 1),)),
                         sample(floats(3), spec=(("s", 5, 9, 1),))]


@strided_slice.infers
def _(x, *indices, spec):
    return Spec(x.dtype, _slice_sizes(needs_rank(x), spec, None), _slice_known(x, spec, indices, None))


strided_slice.reference(lambda x, *indices, spec: _slice_reference(x, None, indices, spec))
strided_slice.lowers(lambda op, index, read: _lower_slice(op, index, read, 1, None))


@strided_slice.grad
def _(op, dy):
    x, *indices = op.inputs
    return strided_slice_grad(dy, shape_vector(x), *indices, spec=op.attrs["spec"]), *[None] * len(indices)


def _sliced_axes(op: Any, whole: Tensor) -> Any:
    """(the items of the spec by the axis of `whole`, the axes that the slice keeps); None when it puts in new axes."""
    items = expand_spec(op.attrs["spec"], len(whole.sizes))  # type: ignore[arg-type]
    return None if ("n",) in items else (items, tuple(k for k, item in enumerate(items) if item[0] == "s"))


def _slice_axes(op: Any) -> Axes | None:
    found = _sliced_axes(op, op.inputs[0])
    if found is None:
        return None
    items, kept = found
    return Axes(kept, (tuple(range(len(items))), *[None] * (len(op.inputs) - 1)),
                lambda order, inputs: op.opdef(*inputs, spec=tuple(items[a] for a in order)))


def _slice_grad_axes(op: Any) -> Axes | None:
    sizes, found = op.outputs[0].sizes, _sliced_axes(op, op.outputs[0])
    if found is None:
        return None
    items, kept = found
    return Axes(tuple(range(len(items))), (kept, *[None] * (len(op.inputs) - 1)),
                lambda order, inputs: op.opdef(inputs[0], vector(*[sizes[a] for a in order]), *inputs[2:],
                                               spec=tuple(items[a] for a in order)))


strided_slice.axes(_slice_axes)


@movement(type="StridedSliceGrad", dtypes=ANY, same=("dy",), static=("shape",), input_dtypes={"indices": INDEX})
def strided_slice_grad(dy, shape, *indices, spec):
    """Zeros of sizes `shape` with `dy` where `spec` points."""


strided_slice_grad.samples = [sample(floats(2), [4, 5], spec=(("s", 1, None, 2), ("i", -1))),
    sample(floats(3), [4, 5], 1, spec=(("t", 0), ("s", None, None, -2))), sample(floats(0), [3], spec=(("s", 5, 9, 1),))]


strided_slice_grad.infers(lambda dy, shape, *indices, spec: Spec(dy.dtype, sizes_from(shape)))
strided_slice_grad.lowers(lambda op, index, read: _lower_slice_grad(op, index, read, 2, None))
strided_slice_grad.axes(_slice_grad_axes)


def _placed(dy: np.ndarray, shape: Any, key: Any) -> np.ndarray:
    out = np.zeros(tuple(int(s) for s in shape), dy.dtype)
    out[key] = dy
    return out


strided_slice_grad.reference(lambda dy, shape, *indices, spec: _placed(dy, shape, _numpy_key(spec, indices, None)))


@strided_slice_grad.grad
def _(op, dd):
    _, _, *indices = op.inputs
    return strided_slice(dd, *indices, spec=op.attrs["spec"]), None, *[None] * len(indices)


@movement(type="StridedSliceBounds", dtypes=ANY, default_name="strided_slice", same=("x",), static=("bounds",),
          input_dtypes={"bounds": INDEX, "indices": INDEX})
def bounded_slice(x, bounds, *indices, spec):
    """`strided_slice` whose range ends are values of the vector `bounds`, such as sizes of another tensor."""


bounded_slice.samples = [sample(floats(4, 5), [1, 3], spec=(("s", ("b", 0), ("b", 1), 1), ("s", None, ("b", 1), 2))),
    sample(floats(6), [-1], spec=(("s", None, ("b", 0), 1),)), sample(floats(6, 2), [-5], 1, spec=(("s", None, ("b", 0), -2), ("t", 0)))]


@bounded_slice.infers
def _(x, bounds, *indices, spec):
    return Spec(x.dtype, _slice_sizes(needs_rank(x), spec, values_of(bounds)), _slice_known(x, spec, indices, bounds))


bounded_slice.reference(lambda x, bounds, *indices, spec: _slice_reference(x, bounds, indices, spec))
bounded_slice.lowers(lambda op, index, read: _lower_slice(op, index, read, 2, values_of(op.inputs[1])))
bounded_slice.axes(_slice_axes)


@bounded_slice.grad
def _(op, dy):
    x, bounds, *indices = op.inputs
    return bounded_slice_grad(dy, shape_vector(x), bounds, *indices, spec=op.attrs["spec"]), None, *[None] * len(indices)


@movement(type="StridedSliceBoundsGrad", dtypes=ANY, same=("dy",), static=("shape", "bounds"), input_dtypes={"indices": INDEX})
def bounded_slice_grad(dy, shape, bounds, *indices, spec):
    """Zeros of sizes `shape` with `dy` where `spec` points."""


bounded_slice_grad.samples = [sample(floats(2, 5), [4, 5], [1, 3], spec=(("s", ("b", 0), ("b", 1), 1),)),
    sample(floats(2), [6, 2], [-5], 1, spec=(("s", None, ("b", 0), -2), ("t", 0)))]


bounded_slice_grad.infers(lambda dy, shape, bounds, *indices, spec: Spec(dy.dtype, sizes_from(shape)))
bounded_slice_grad.reference(lambda dy, shape, bounds, *indices, spec: _placed(dy, shape, _numpy_key(spec, indices, bounds)))
bounded_slice_grad.lowers(lambda op, index, read: _lower_slice_grad(op, index, read, 3, values_of(op.inputs[2])))
bounded_slice_grad.axes(_slice_grad_axes)


@bounded_slice_grad.grad
def _(op, dd):
    _, _, bounds, *indices = op.inputs
    return bounded_slice(dd, bounds, *indices, spec=op.attrs["spec"]), None, None, *[None] * len(indices)


@movement(type="Slice", dtypes=ANY, same=("x",), static=("size",), input_dtypes={"begin": INDEX, "size": INDEX})
def slice_op(x, begin, size):
    """The block of `size` that starts at `begin`, which may be a run-time value; -1 in size means up to the end."""


slice_op.samples = [sample(floats(4, 5), [1, 2], [2, 3]), sample(floats(4, 5), [4, 0], [0, 5]), sample([1, 2, 3], [1], [2])]


@slice_op.infers
def _(x, begin, size):
    sizes = sizes_from(size) if x.sizes is None else (values_of(size) or (UNKNOWN,) * len(x.sizes))
    if x.sizes is None:
        return Spec(x.dtype, tuple(UNKNOWN if isinstance(s, int) and s == -1 else s for s in sizes))
    if len(sizes) != len(x.sizes):
        raise ValueError(f"Expected a begin and size of length {len(x.sizes)}, got {len(sizes)}")
    at = values_of(begin) or [UNKNOWN] * len(sizes)
    out = []
    for k, (b, s, n) in enumerate(zip(at, sizes, x.sizes)):
        s = n - b if isinstance(s, int) and s == -1 else s
        if types.less(b, 0) or types.less(s, 0) or types.less(n, b + s):
            raise ValueError(f"Expected begin[{k}] in [0, {n!r}] and size[{k}] in [0, {n - b!r}], but got {b!r} and {s!r}")
        out.append(s)
    return Spec(x.dtype, tuple(out), moved(lambda a, b: a[_block(b, out)], x, begin) if types.known(tuple(out)) else None)


def _block(begin: Any, sizes: Any) -> tuple[slice, ...]:
    return tuple(slice(int(b), int(b) + int(s)) for b, s in zip(begin, sizes))


@slice_op.reference
def _(x, begin, size):
    size = [n - b if s == -1 else s for b, s, n in zip(begin, size, x.shape)]
    for k, (b, s, n) in enumerate(zip(begin, size, x.shape)):
        if not (0 <= b <= n and 0 <= s <= n - b):
            raise ValueError(f"Expected begin[{k}] in [0, {n}] and size[{k}] in [0, {n - b}], but got {b} and {s}")
    return x[_block(begin, size)]


def _begins(op: Any, read: Any, which: int, sizes: Any, lengths: Any) -> list[Expr]:
    """Where a block starts in each dimension; run-time values are checked and brought inside."""
    found = values_of(op.inputs[which])
    if found is not None:
        return [ir.size(b) for b in found]
    out = []
    for k, (n, s) in enumerate(zip(sizes, lengths)):
        b = int64(read(which, [ir.index_const(k)]))
        room = ir.size(n - s)
        out.append(m.check(m.land(b >= 0, b <= room), m.max(m.min(b, room), 0),
                           "slice out of bounds: begin + size is larger than the dimension"))
    return out


@slice_op.lowers
def _(op, index, read):
    at = _begins(op, read, 1, op.inputs[0].sizes, op.outputs[0].sizes)
    return read(0, [b + i for b, i in zip(at, index)])


slice_op.grad(lambda op, dy: (slice_grad(dy, op.inputs[1], shape_vector(op.inputs[0])), None, None))


@slice_op.axes
def _(op):
    begins, sizes = values_of(op.inputs[1]), op.outputs[0].sizes
    return None if begins is None else own_axes(op, lambda order, x, *_: slice_op(x, vector(*[begins[a] for a in order]),
                                                                                 vector(*[sizes[a] for a in order])))


@movement(type="SliceGrad", dtypes=ANY, same=("dy",), static=("shape",))
def slice_grad(dy, begin, shape):
    """Zeros of sizes `shape` with the block `dy` at `begin`."""


slice_grad.samples = [sample(floats(2, 3), [1, 2], [4, 5]), sample(floats(0, 5), [4, 0], [4, 5])]


slice_grad.infers(lambda dy, begin, shape: Spec(dy.dtype, sizes_from(shape)))
slice_grad.reference(lambda dy, begin, shape: _placed(dy, shape, _block(begin, dy.shape)))


@slice_grad.lowers
def _(op, index, read):
    dy, out = op.inputs[0].sizes, op.outputs[0]
    if is_empty(dy):
        return zero(out.dtype)
    return _shifted(read, index, _begins(op, read, 1, out.sizes, dy), dy, out.sizes, zero(out.dtype))


def _shifted(read: Any, index: Any, begins: Sequence[Expr], sizes: Any, whole: Any, outside: Expr) -> Expr:
    """Input 0, of `sizes`, placed at `begins` in a larger array; `outside` elsewhere."""
    at, hit = [], []
    for i, b, n, w in zip(index, begins, sizes, whole):
        if n == w:
            at.append(i)
            continue
        hit.append(inside(i - b, n))
        at.append(clamp(i - b, n))
    return m.select(every(hit), read(0, at), outside)


slice_grad.grad(lambda op, dd: (slice_op(dd, op.inputs[1], shape_vector(op.inputs[0])), None, None))


@slice_grad.axes
def _(op):
    begins, sizes = values_of(op.inputs[1]), op.outputs[0].sizes
    return None if begins is None else own_axes(op, lambda order, dy, *_: slice_grad(dy, vector(*[begins[a] for a in order]),
                                                                                    vector(*[sizes[a] for a in order])))


# ---------------------------------------------------------------- repeating and padding


@movement(type="Tile", dtypes=ANY, static=("multiples",), input_dtypes={"multiples": INDEX})
def tile(x, multiples):
    """`x` repeated `multiples[k]` times along dimension k."""


tile.samples = [sample(floats(2, 3), [2, 1]), sample(floats(3), [0]), sample(floats(), []), sample([1, 2], [2])]


@tile.infers
def _(x, multiples):
    times = sizes_from(multiples)
    sizes = x.sizes if x.sizes is not None else (UNKNOWN,) * len(times)
    if len(times) != len(sizes):
        raise ValueError(f"Expected multiples argument to be a vector of length {len(sizes)} but got length {len(times)}")
    if any(isinstance(t, int) and t < 0 for t in times):
        raise ValueError(f"Expected multiples >= 0, but got {times}")
    out = tuple(s * t for s, t in zip(sizes, times))
    return Spec(x.dtype, out, moved(lambda a, t: np.tile(a, tuple(t)), x, multiples) if types.known(out) and types.known(times) else None)


tile.reference(lambda x, multiples: np.tile(x, tuple(int(t) for t in multiples)))


@tile.lowers
def _(op, index, read):
    sizes, out = op.inputs[0].sizes, op.outputs[0].sizes
    if is_empty(sizes):
        return zero(op.outputs[0].dtype)
    return read(0, [i if n == w else i % ir.size(n) for i, n, w in zip(index, sizes, out)])


@tile.grad
def _(op, dy):
    x, multiples = op.inputs
    rank = len(needs_rank(x))
    times = values_of(multiples) or [UNKNOWN] * rank
    both = []
    for k in range(rank):
        both += [times[k] if isinstance(times[k], int) else graph.OPERATORS["getitem"](multiples, k), size_along(x, k)]
    return reshape_like(total(reshape(dy, vector(*both)), tuple(range(0, 2 * rank, 2))), x), None


@tile.axes
def _(op):
    times = values_of(op.inputs[1])
    return None if times is None else own_axes(op, lambda order, x, _: tile(x, vector(*[times[a] for a in order])))


def _paddings(t: Tensor, rank: int) -> list[Any]:
    found = values_of(t)
    return [UNKNOWN] * (2 * rank) if found is None else found


def _padded(x: Tensor, paddings: Tensor) -> tuple[Any, ...]:
    if paddings.sizes is not None and (len(paddings.sizes) != 2 or types.same(paddings.sizes[1], 2) is False):
        raise ValueError(f"paddings must have shape [n, 2], got {types.shape_text(paddings.sizes)}")
    if x.sizes is None:
        n = paddings.sizes[0] if paddings.sizes is not None else UNKNOWN
        if isinstance(n, Dim):
            raise UnknownRank("the rank of a padded value must be known")
        return (UNKNOWN,) * n
    if paddings.sizes is not None and types.same(paddings.sizes[0], len(x.sizes)) is False:
        raise ValueError(f"Shape must be rank {paddings.sizes[0]!r} but is rank {len(x.sizes)}: one row of paddings for each dimension")
    p = _paddings(paddings, len(x.sizes))
    if any(isinstance(v, int) and v < 0 for v in p):
        raise ValueError(f"Paddings must be non-negative: {p}")
    return tuple(s + p[2 * k] + p[2 * k + 1] for k, s in enumerate(x.sizes))


def _widths(paddings: np.ndarray) -> list[tuple[int, int]]:
    return [(int(a), int(b)) for a, b in paddings]


@movement(type="PadV2", dtypes=ANY, default_name="Pad", static=("paddings",), same=("x",), input_dtypes={"paddings": INDEX})
def pad(x, paddings, *, value=0):
    """`x` with `paddings[k, 0]` elements before and `paddings[k, 1]` after it in dimension k, all of them `value`."""


pad.samples = [sample(floats(2, 3), [[1, 0], [0, 2]]), sample(floats(2), [[1, 1]], value=3.0), sample(floats(0, 2), [[1, 0], [0, 0]])]


pad.infers(lambda x, paddings, *, value: Spec(x.dtype, _padded(x, paddings)))


@pad.reference
def _(x, paddings, *, value):
    return np.pad(x, _widths(paddings), constant_values=np.asarray(value, x.dtype)) if x.ndim else x


@pad.lowers
def _(op, index, read):
    x, out = op.inputs[0], op.outputs[0]
    outside = ir.const(op.attrs["value"], x.dtype.compute)
    if is_empty(x.sizes):
        return outside
    before = [ir.size(v) for v in values_of(op.inputs[1])[::2]]
    return _shifted(read, index, before, x.sizes, out.sizes, outside)


@pad.grad
def _(op, dy):
    x, paddings = op.inputs
    return slice_op(dy, graph.OPERATORS["getitem"](paddings, (slice(None), 0)), shape_vector(x)), None


def _padding_axes(op: Any) -> Axes | None:
    found = values_of(op.inputs[1])
    if found is None:
        return None
    return own_axes(op, lambda order, x, _: op.opdef(
        x, reshape(vector(*[v for a in order for v in found[2 * a:2 * a + 2]]), [len(order), 2]), **op.attrs))


pad.axes(_padding_axes)


@movement(type="MirrorPad", dtypes=ANY, static=("paddings",), same=("x",), input_dtypes={"paddings": INDEX})
def mirror_pad(x, paddings, *, mode):
    """`x` continued by its own mirror image: without ("REFLECT") or with ("SYMMETRIC") the border element repeated."""


mirror_pad.samples = [sample(floats(3, 4), [[1, 2], [3, 0]], mode="REFLECT"), sample(floats(3, 4), [[3, 2], [0, 4]], mode="SYMMETRIC")]


@mirror_pad.infers
def _(x, paddings, *, mode):
    out = _padded(x, paddings)
    if x.sizes is not None:
        for k, (n, p) in enumerate(zip(x.sizes, zip(*[iter(_paddings(paddings, len(x.sizes)))] * 2))):
            if any(types.less(n - (mode == "REFLECT"), v) for v in p):
                raise ValueError(f"paddings must be {'less than' if mode == 'REFLECT' else 'at most'} the dimension size: {list(p)} for "
                                 f"dimension {k} of size {n!r}")
    return Spec(x.dtype, out)


mirror_pad.reference(lambda x, paddings, *, mode: np.pad(x, _widths(paddings), mode=mode.lower()) if x.ndim else x)


@mirror_pad.lowers
def _(op, index, read):
    at = []
    shift = 1 if op.attrs["mode"] == "REFLECT" else 0
    p = values_of(op.inputs[1])
    for k, (i, n) in enumerate(zip(index, op.inputs[0].sizes)):
        if p[2 * k] == 0 and p[2 * k + 1] == 0:
            at.append(i)
            continue
        i = i - ir.size(p[2 * k])
        i = m.select(i < 0, ir.index_const(shift - 1) - i, i)
        last = ir.size(2 * n - 1 - shift)
        at.append(clamp(m.select(i < ir.size(n), i, last - i), n))
    return read(0, at)


mirror_pad.grad(lambda op, dy: (mirror_pad_grad(dy, op.inputs[1], mode=op.attrs["mode"]), None))
mirror_pad.axes(_padding_axes)


@movement(type="MirrorPadGrad", dtypes=types.NUMERIC, static=("paddings",), same=("dy",), input_dtypes={"paddings": INDEX})
def mirror_pad_grad(dy, paddings, *, mode):
    """The gradient of `mirror_pad`: every element of `dy` added to the element it was copied from."""


mirror_pad_grad.samples = [sample(floats(6, 7), [[1, 2], [3, 0]], mode="REFLECT"), sample(floats(8, 8), [[3, 2], [0, 4]], mode="SYMMETRIC")]


@mirror_pad_grad.infers
def _(dy, paddings, *, mode):
    p = _paddings(paddings, len(needs_rank(dy)))
    return Spec(dy.dtype, tuple(s - p[2 * k] - p[2 * k + 1] for k, s in enumerate(dy.sizes)))


@mirror_pad_grad.reference
def _(dy, paddings, *, mode):
    for k, (a, b) in enumerate(_widths(paddings)):
        n = dy.shape[k] - a - b
        source = np.pad(np.arange(n), (a, b), mode=mode.lower())
        out = np.zeros((n, *np.moveaxis(dy, k, 0).shape[1:]), dy.dtype)
        np.add.at(out, source, np.moveaxis(dy, k, 0))
        dy = np.moveaxis(out, 0, k)
    return dy


@mirror_pad_grad.lowers
def _(op, index, read):
    """The element itself, and along each padded dimension its mirror images before and after, where there are any."""
    shift = 1 if op.attrs["mode"] == "REFLECT" else 0
    p, sizes, dtype = values_of(op.inputs[1]), op.outputs[0].sizes, op.outputs[0].dtype
    choices: list[tuple[list[Expr], list[Expr]]] = [([], [])]
    for k, (i, n) in enumerate(zip(index, sizes)):
        a, b = p[2 * k], p[2 * k + 1]
        here = [([], i + ir.size(a))]
        if not types.same(a, 0):
            j = ir.size(a + shift - 1) - i
            here.append(([j >= 0, j < ir.size(a)], clamp(j, op.inputs[0].sizes[k])))
        if not types.same(b, 0):
            j = ir.size(a + 2 * n - 1 - shift) - i
            here.append(([j >= ir.size(a + n), j < ir.size(a + n + b)], clamp(j, op.inputs[0].sizes[k])))
        choices = [(c + c2, at + [j]) for c, at in choices for c2, j in here]
    out: Any = None
    for conditions, at in choices:
        value = m.select(every(conditions), read(0, at), zero(dtype))
        out = value if out is None else out + value
    return out


mirror_pad_grad.grad(lambda op, dd: (mirror_pad(dd, op.inputs[1], mode=op.attrs["mode"]), None))
mirror_pad_grad.axes(_padding_axes)


# ---------------------------------------------------------------- reordering


@movement(type="ReverseV2", dtypes=ANY, infer=lambda x, *, axis: Spec(x.dtype, needs_rank(x), moved(lambda a: np.flip(a, axis), x)))
def reverse(x, *, axis):
    """`x` backwards along the dimensions `axis`."""


reverse.samples = [sample(floats(2, 3, 4), axis=(0, -1)), sample(floats(3), axis=()), sample([1, 2, 3], axis=(0,))]


reverse.reference(lambda x, *, axis: np.flip(x, axis))


@reverse.lowers
def _(op, index, read):
    turned = {canonical_axis(a, len(index)) for a in op.attrs["axis"]}
    return read(0, [ir.size(n - 1) - i if k in turned else i for k, (i, n) in enumerate(zip(index, op.inputs[0].sizes))])


reverse.grad(lambda op, dy: (reverse(dy, axis=op.attrs["axis"]),))


def _listed_axes(op: Any) -> Axes:
    """Of an op with attribute `axis`, a tuple."""
    turned = [canonical_axis(a, len(op.outputs[0].sizes)) for a in op.attrs["axis"]]
    return own_axes(op, lambda order, *inputs: op.opdef(*inputs, axis=tuple(map(order.index, turned))))


reverse.axes(_listed_axes)


@movement(type="Roll", dtypes=ANY, same=("x",), input_dtypes={"shift": INDEX})
def roll(x, shift, *, axis):
    """`x` rotated by `shift[j]` places along dimension `axis[j]`; the shifts are a vector and may be run-time values."""


roll.samples = [sample(floats(3, 4), [1, -6], axis=(0, 1)), sample(floats(5), [2], axis=(-1,)), sample(floats(2, 4), [1, 2], axis=(1, 1))]


roll.infers(lambda x, shift, *, axis: Spec(x.dtype, needs_rank(x)))
roll.reference(lambda x, shift, *, axis: np.roll(x, tuple(int(s) for s in shift), axis))


@roll.lowers
def _(op, index, read):
    sizes = op.inputs[0].sizes
    if is_empty(sizes):
        return zero(op.outputs[0].dtype)
    at = list(index)
    for j, a in enumerate(op.attrs["axis"]):
        k = canonical_axis(a, len(index))
        at[k] = (at[k] - int64(read(1, [ir.index_const(j)]))) % ir.size(sizes[k])
    return read(0, at)


roll.grad(lambda op, dy: (roll(dy, -op.inputs[1], axis=op.attrs["axis"]), None))
roll.axes(_listed_axes)


# ---------------------------------------------------------------- diagonals


@movement(type="Diag", dtypes=ALL)
def diag(x):
    """Zeros of sizes (*s, *s) with `x`, of sizes s, on the diagonal."""


diag.samples = [sample(floats(3)), sample(floats(2, 3))]


diag.infers(lambda x: Spec(x.dtype, (*needs_rank(x), *x.sizes)))


@diag.reference
def _(x):
    return np.diagflat(x).reshape(x.shape * 2)


@diag.lowers
def _(op, index, read):
    rank = len(index) // 2
    same = every([a.eq(b) for a, b in zip(index[:rank], index[rank:])])
    return m.select(same, read(0, index[:rank]), zero(op.outputs[0].dtype))


diag.grad(lambda op, dy: (diag_part(dy),))


@movement(type="DiagPart", dtypes=ALL)
def diag_part(x):
    """The diagonal, of sizes s, of `x` of sizes (*s, *s)."""


diag_part.samples = [sample(floats(3, 3)), sample(floats(2, 3, 2, 3))]


@diag_part.infers
def _(x):
    sizes = needs_rank(x)
    half = len(sizes) // 2
    if len(sizes) % 2 or not sizes:
        raise ValueError(f"Input must have even and non-zero rank, input rank is {len(sizes)}")
    return Spec(x.dtype, types.merge_shapes(sizes[:half], sizes[half:]))


@diag_part.reference
def _(x):
    half = x.shape[:x.ndim // 2]
    return np.diagonal(x.reshape(int(np.prod(half)), -1)).reshape(half)


diag_part.lowers(lambda op, index, read: read(0, [*index, *index]))
diag_part.grad(lambda op, dy: (diag(dy),))


@movement(type="MatrixDiag", dtypes=ALL)
def matrix_diag(x):
    """Square matrices, zero but for the last dimension of `x` on their diagonal."""


matrix_diag.samples = [sample(floats(3)), sample(floats(2, 3))]


@matrix_diag.infers
def _(x):
    if not needs_rank(x):
        raise ValueError("Shape must be at least rank 1 but is rank 0")
    return Spec(x.dtype, (*x.sizes, x.sizes[-1]))


matrix_diag.reference(lambda x: x[..., None] * np.eye(x.shape[-1], dtype=x.dtype)
                      if x.dtype != bool else x[..., None] & np.eye(x.shape[-1], dtype=bool))
matrix_diag.lowers(lambda op, index, read: m.select(index[-2].eq(index[-1]), read(0, index[:-1]), zero(op.outputs[0].dtype)))
matrix_diag.grad(lambda op, dy: (matrix_diag_part(dy),))


def _least(a: Any, b: Any) -> Any:
    smaller = types.less(b, a)
    return UNKNOWN if smaller is None else b if smaller else a


def _matrix(x: Tensor) -> tuple[Any, ...]:
    if len(needs_rank(x)) < 2:
        raise ValueError(f"Shape must be at least rank 2 but is rank {len(x.sizes)}")
    return x.sizes


@movement(type="MatrixDiagPart", dtypes=ALL)
def matrix_diag_part(x):
    """The main diagonals of the matrices in the last two dimensions."""


matrix_diag_part.samples = [sample(floats(3, 4)), sample(floats(2, 4, 3))]


matrix_diag_part.infers(lambda x: Spec(x.dtype, (*_matrix(x)[:-2], _least(x.sizes[-2], x.sizes[-1]))))
matrix_diag_part.reference(lambda x: np.diagonal(x, axis1=-2, axis2=-1))
matrix_diag_part.lowers(lambda op, index, read: read(0, [*index, index[-1]]))


@matrix_diag_part.grad
def _(op, dy):
    return matrix_set_diag(graph.OPERATORS["zeros_like"](op.inputs[0]), dy),


@movement(type="MatrixSetDiag", dtypes=ALL)
def matrix_set_diag(x, diagonal):
    """`x` with the main diagonals of its matrices replaced."""


matrix_set_diag.samples = [sample(floats(3, 4), floats(3)), sample(floats(2, 4, 3), floats(2, 3))]


@matrix_set_diag.infers
def _(x, diagonal):
    sizes = _matrix(x)
    if diagonal.sizes is not None:
        types.merge_shapes((*sizes[:-2], _least(sizes[-2], sizes[-1])), diagonal.sizes)
    return Spec(x.dtype, sizes)


@matrix_set_diag.reference
def _(x, diagonal):
    out = np.array(x)
    k = np.arange(min(x.shape[-2:]))
    out[..., k, k] = diagonal
    return out


@matrix_set_diag.lowers
def _(op, index, read):
    n = op.inputs[1].sizes[-1]
    if is_empty(op.inputs[1].sizes):
        return read(0, index)
    return m.select(index[-2].eq(index[-1]), read(1, [*index[:-2], clamp(index[-1], n)]), read(0, index))


@matrix_set_diag.grad
def _(op, dy):
    return matrix_set_diag(dy, graph.OPERATORS["zeros_like"](op.inputs[1])), matrix_diag_part(dy)


@movement(type="MatrixBandPart", dtypes=ALL, same=("x",), input_dtypes={"lower": INDEX, "upper": INDEX})
def matrix_band_part(x, lower, upper):
    """`x` with everything outside a band around the diagonal set to 0: at most `lower` below and `upper` above; all if negative."""


matrix_band_part.samples = [sample(floats(4, 5), 1, 2), sample(floats(2, 4, 4), -1, 0), sample(floats(3, 3), 0, -1)]


matrix_band_part.infers(lambda x, lower, upper: Spec(x.dtype, _matrix(x)))


@matrix_band_part.reference
def _(x, lower, upper):
    d = np.arange(x.shape[-2])[:, None] - np.arange(x.shape[-1])
    return np.where(((lower < 0) | (d <= lower)) & ((upper < 0) | (-d <= upper)), x, np.zeros((), x.dtype))


@matrix_band_part.lowers
def _(op, index, read):
    d = index[-2] - index[-1]
    low, up = _scalar_at(op, 1, read), _scalar_at(op, 2, read)
    near = every([m.lor(low < 0, d <= low), m.lor(up < 0, ir.index_const(0) - d <= up)])
    return m.select(near, read(0, index), zero(op.outputs[0].dtype))


def _scalar_at(op: Any, k: int, read: Any) -> Expr:
    """A scalar integer input: a size when it is followed, else loaded."""
    found = values_of(op.inputs[k])
    return ir.size(found[0]) if found is not None else int64(read(k, []))


matrix_band_part.grad(lambda op, dy: (matrix_band_part(dy, op.inputs[1], op.inputs[2]), None, None))
