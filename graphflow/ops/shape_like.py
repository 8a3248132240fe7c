"""Ops that take a shape from another tensor, and sums of gradients: the vocabulary of backward passes.

`like` inputs give their shape only (trait `shape_only`); no element of them is read.
"""
from __future__ import annotations

import numpy as np

from .. import graph, types
from ..codegen import ir
from ..codegen.ir import m
from ..graph import Spec, Tensor
from ..types import ALL, DType
from .elementwise import add_n_op
from .opdef import Axes, UnknownRank, broadcast_index, composite, constant, convert_to_tensor, movement

_SHAPES = [lambda rng: ((rng.normal(size=(2, 3, 4)), np.zeros((3, 1))), {}), lambda rng: ((rng.normal(size=(2, 3)), np.zeros(())), {}),
           lambda rng: ((rng.normal(size=(2, 3)), np.zeros((2, 3))), {}), lambda rng: ((rng.normal(size=(2, 3)), np.zeros((1, 3))), {})]


def _reduced(big, small):
    """(axes to sum away, axes to sum to size 1) that take shape `big` to `small`."""
    extra = len(big) - len(small)
    if extra < 0:
        raise ValueError(f"cannot sum shape {types.shape_text(big)} to {types.shape_text(small)}")
    kept = [i for i, s in enumerate(small, extra) if types.same(s, 1) and types.same(big[i], 1) is not True]
    return tuple(range(extra)), tuple(kept)


def _needs_nothing(big, small):
    """Whether it is certain now that both shapes are equal."""
    return big is not None and small is not None and len(big) == len(small) and all(types.same(a, b) for a, b in zip(big, small))


@composite(type="SumToShape", same=("dy",), shape_only=("like",), dtypes=types.NUMERIC, samples=_SHAPES)
def sum_to_shape_op(dy, like):
    """`dy` summed over the axes along which `like` was broadcast to dy's shape; the result has like's shape."""
    from .reduce import reduce_sum_op

    if dy.sizes is None or like.sizes is None:
        raise UnknownRank("the ranks are needed")
    gone, kept = _reduced(dy.sizes, like.sizes)
    if kept:
        dy = reduce_sum_op(dy, axis=kept, keepdims=True)
    return reduce_sum_op(dy, axis=gone, keepdims=False) if gone else dy


sum_to_shape_op.infers(lambda dy, like: Spec(dy.dtype, like.sizes))
sum_to_shape_op.grad(lambda op, d: (broadcast_like(d, op.inputs[0]), None))


def sum_to_shape(dy: Tensor, like: Tensor) -> Tensor:
    """`dy` summed to the shape of `like`: nothing, plain sums, or an op that decides when the sizes are known."""
    if _needs_nothing(dy.sizes, like.sizes):
        return dy
    sizes = [*(dy.sizes or ()), *(like.sizes or ())]
    if dy.sizes is None or like.sizes is None or any(map(types.is_unknown, sizes)):
        return sum_to_shape_op(dy, like)
    return sum_to_shape_op.fn(dy, like)


@movement(type="BroadcastLike", same=("x",), shape_only=("like",), samples=[
    lambda rng: ((rng.normal(size=(3, 1)), np.zeros((2, 3, 4))), {}), lambda rng: ((rng.normal(size=()), np.zeros((2, 3))), {}),
    lambda rng: ((rng.normal(size=(2, 3)), np.zeros((2, 3))), {})])
def broadcast_like_op(x, like):
    """`x` repeated to the shape of `like`."""


@broadcast_like_op.infers
def _(x, like):
    if x.sizes is not None and like.sizes is not None:
        types.broadcast_shapes(x.sizes, like.sizes)
    return Spec(x.dtype, like.sizes)


broadcast_like_op.reference(lambda x, like: np.broadcast_to(x, np.shape(like)))
broadcast_like_op.lowers(lambda op, index, read: read(0, broadcast_index(op.inputs[0].sizes, index)))
broadcast_like_op.grad(lambda op, dy: (sum_to_shape(dy, op.inputs[0]), None))


@broadcast_like_op.axes
def _(op):
    from .array import repeating_axes

    return repeating_axes(op)


def broadcast_like(x: Tensor, like: Tensor) -> Tensor:
    """`x` repeated to the shape of `like`; `x` itself where the shapes are known to be equal."""
    return x if _needs_nothing(x.sizes, like.sizes) else broadcast_like_op(x, like)


def _constant_like(name, value):
    """An op whose elements are all `value`, with the shape of its input."""
    def fn(x, *, dtype=None):
        """A tensor of one value with the shape of `x`, and its dtype unless `dtype` says otherwise."""
    fn.__name__ = name
    op = movement(shape_only=("x",), dtypes=ALL + (types.string,), no_gradient="a constant", samples=[
        lambda rng: ((rng.normal(size=(2, 3)),), {}), lambda rng: ((rng.normal(size=(3,)),), {"dtype": types.int32})])(fn)
    op.infers(lambda x, *, dtype: Spec(dtype or x.dtype, x.sizes, _known(dtype or x.dtype, x.sizes)))
    op.reference(lambda x, *, dtype: _filled(np.shape(x), np.float32 if dtype is types.bfloat16 else dtype.np if dtype else x.dtype))
    op.lowers(lambda op, index, read: ir.const(value, op.outputs[0].dtype.compute))

    def _filled(shape, dtype):
        return np.full(shape, (b"", b"1")[value] if np.dtype(dtype).kind == "O" else value, dtype)

    def _known(dtype, sizes):
        if dtype.kind not in "iu" or not types.known(sizes) or len(sizes) > 2 or types.product(sizes) > 256:
            return None
        return np.full(sizes, value, object)
    op.grad(lambda op, dy: (None,))

    @op.axes
    def _(op):
        from .array import broadcast_to, vector

        y = op.outputs[0]
        return None if y.dtype is types.string else Axes(tuple(range(len(y.sizes))), (None,), lambda order, inputs: broadcast_to(
            constant(value, y.dtype), vector(*[y.sizes[a] for a in order])))
    return op


zeros_like = _constant_like("zeros_like", 0)
ones_like = _constant_like("ones_like", 1)


@movement(type="AxisSize", shape_only=("x",), no_gradient="a size", samples=[
    lambda rng: ((rng.normal(size=(2, 3)),), {"axis": (0, 1), "dtype": types.float32}),
    lambda rng: ((rng.normal(size=(2, 3)),), {"axis": (-1,), "dtype": types.int64})])
def axis_size_op(x, *, axis, dtype):
    """The number of elements along `axis` (None: all axes), as a scalar of `dtype`."""


def _count(sizes, axis):
    return types.product(sizes if axis is None else [sizes[a] for a in axis])


@axis_size_op.infers
def _(x, *, axis, dtype):
    n = types.UNKNOWN if x.sizes is None else _count(x.sizes, axis)
    return Spec(dtype, (), np.array(n, object) if dtype.kind in "iu" and not types.is_unknown(n) else None)


axis_size_op.reference(lambda x, *, axis, dtype: np.asarray(_count(np.shape(x), axis)))
axis_size_op.lowers(lambda op, index, read: m.cast(ir.size(_count(op.inputs[0].sizes, op.attrs["axis"])), op.attrs["dtype"].compute))


def axis_size(x: Tensor, axis: tuple[int, ...] | None, dtype: DType) -> Tensor:
    """The number of elements of `x` along `axis`: a constant where it is known."""
    n = types.UNKNOWN if x.sizes is None else _count(x.sizes, axis)
    if isinstance(n, types.Dim):
        return axis_size_op(x, axis=axis, dtype=dtype)
    return constant(np.array(n, np.float64 if dtype.kind == "f" else np.int64), dtype)


@movement(type="AxisIndex", shape_only=("x",), no_gradient="an index", samples=[
    lambda rng: ((rng.normal(size=(2, 3)),), {"axis": 1, "dtype": types.int64}),
    lambda rng: ((rng.normal(size=(2, 3)),), {"axis": -2, "dtype": types.int32})])
def axis_index(x, *, axis, dtype):
    """A tensor of x's shape whose elements are their own position along `axis`."""


axis_index.infers(lambda x, *, axis, dtype: Spec(dtype, x.sizes))
axis_index.lowers(lambda op, index, read: m.cast(index[op.attrs["axis"]], op.attrs["dtype"].compute))


@axis_index.reference
def _(x, *, axis, dtype):
    shape = [1] * x.ndim
    shape[axis] = x.shape[axis]
    return np.broadcast_to(np.arange(x.shape[axis]).reshape(shape), x.shape)


@axis_index.axes
def _(op):
    from .array import broadcast_to, vector

    sizes, dtype = op.outputs[0].sizes, op.attrs["dtype"]
    k = op.attrs["axis"] % len(sizes)
    return Axes(tuple(range(len(sizes))), (None,), lambda order, inputs: axis_index(
        broadcast_to(constant(0, dtype), vector(*[sizes[a] for a in order])), axis=order.index(k), dtype=dtype))


def expand_axes(dy: Tensor, axes: tuple[int, ...]) -> Tensor:
    """`dy` with axes of size 1 put in so that they stand at `axes` of the result."""
    from .array import expand_dims

    if dy.sizes is not None:
        rank = len(dy.sizes) + len(axes)
        axes = tuple(sorted(a % rank for a in axes))
    else:
        axes = tuple(sorted(axes, key=lambda a: (a < 0, a if a >= 0 else -a)))
    for a in axes:
        dy = expand_dims(dy, axis=a)
    return dy


def to_dense(x):
    """Turns `IndexedSlices` and its like (objects with `_to_dense()`) into a tensor."""
    return x._to_dense() if hasattr(x, "_to_dense") else x


def add_gradients(parts):
    """The sum of gradients that arrived at one tensor: IndexedSlices where all are, else dense."""
    if all(hasattr(p, "_to_dense") for p in parts):
        from .array import concat

        first = parts[0]
        kind = first.indices.dtype
        same = [p.indices if p.indices.dtype is kind else graph.OPERATORS["cast"](p.indices, kind) for p in parts]
        return type(first)(concat(*[p.values for p in parts], axis=0), concat(*same, axis=0), first.dense_shape)
    dense = [convert_to_tensor(to_dense(p)) for p in parts]
    return dense[0] if len(dense) == 1 else add_n_op(*dense, name="AddN")


graph.OPERATORS.update(ones_like=ones_like, zeros_like=zeros_like, to_dense=to_dense, add_gradients=add_gradients,
                       sum_to_shape=sum_to_shape,
                       expand_axes=expand_axes, broadcast_like=broadcast_like)
