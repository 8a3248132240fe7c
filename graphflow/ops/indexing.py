"""Ops that read or write at positions given by tensors: gather, scatter, segments, sorting, sets.

Gathers pull: the index is loaded, checked and clamped.  Scatters push: `scatters` says where each update goes.  Ops
whose result size depends on values run on the host.  TF's names are in graphflow/array_ops.py.
"""
from __future__ import annotations

from typing import Any, Sequence

import numpy as np

from .. import graph, types
from ..codegen import ir
from ..codegen.ir import Expr, m
from ..graph import Spec, Tensor
from ..types import ALL, NUMERIC, UNKNOWN, canonical_axis
from .array import (ANY, INDEX, clamp, floats, inside, int64, is_empty, moved, pinned, reshape, reshape_like, sample, shape_of,
                    shape_vector, sizes_from, values_of, vector, zero)
from .opdef import UnknownRank, composite, movement, needs_rank, primitive

# ---------------------------------------------------------------- gather


@primitive("indexing", type="GatherV2", constants=1, dtypes=ANY, same=("params",), input_dtypes={"indices": INDEX})
def gather(params, indices, *, axis=0, batch_dims=0):
    """The slices of `params` along `axis` at `indices`, which take that dimension's place.

    The first `batch_dims` dimensions of both are matched one to one.

    Raises (when run):
        InvalidArgumentError: an index outside [0, size of the axis).
    """


gather.samples = [sample(floats(4, 3), [[1, 0], [3, 3]]), sample(floats(4, 3), [2, 0], axis=1),
    sample(floats(2, 4, 3), [[1, 3], [0, 0]], axis=1, batch_dims=1), sample(floats(4), 2),
    sample(floats(2, 3, 4), [[1], [3]], axis=-1, batch_dims=1), sample([4, 5, 6], [2, 0])]


def _gather_axis(params: Any, indices: Any, axis: int, batch_dims: int) -> tuple[int, int]:
    b = batch_dims + len(indices.sizes) if batch_dims < 0 else batch_dims
    k = canonical_axis(axis, len(params.sizes))
    if not 0 <= b <= min(k, len(indices.sizes)):
        raise ValueError(f"batch_dims ({batch_dims}) must be at most axis ({axis}) and the rank of indices ({len(indices.sizes)})")
    return k, b


@gather.infers
def _(params, indices, *, axis, batch_dims):
    sizes, at = needs_rank(params), needs_rank(indices)
    if not sizes:
        raise ValueError("Shape must be at least rank 1 but is rank 0: params of gather")
    k, b = _gather_axis(params, indices, axis, batch_dims)
    types.merge_shapes(sizes[:b], at[:b])
    known = moved(lambda p, i: np.take(p, i.astype(np.int64), k), params, indices) if b == 0 else None
    return Spec(params.dtype, (*sizes[:k], *at[b:], *sizes[k + 1:]), known)


def check_range(indices: np.ndarray, n: int, what: str = "indices") -> None:
    """TF's message for the first index outside [0, n)."""
    bad = np.argwhere((indices < 0) | (indices >= n))
    if len(bad):
        where = ",".join(map(str, bad[0]))
        raise ValueError(f"{what}{f'[{where}]' if where else ''} = {indices[tuple(bad[0])]} is not in [0, {n})")


def gather_array(params: np.ndarray, indices: np.ndarray, axis: int, b: int) -> np.ndarray:
    check_range(indices, params.shape[axis])
    if b == 0:
        return np.take(params, indices, axis)
    flat = [gather_array(p, i, axis - 1, b - 1) for p, i in zip(params, indices)]
    shape = (*params.shape[:axis], *indices.shape[b:], *params.shape[axis + 1:])
    return np.stack(flat).reshape(shape) if flat else np.zeros(shape, params.dtype)


@gather.reference
def _(params, indices, *, axis, batch_dims):
    return gather_array(params, indices, axis % params.ndim, batch_dims % indices.ndim if batch_dims else 0)


def _gather_at(sizes: Any, rank: int, k: int, b: int, index: Sequence[Expr], load: Any) -> list[Expr]:
    """Where in `params` the gathered element at `index` comes from."""
    where = index[k:k + rank - b]
    i = int64(load([*index[:b], *where]))
    i = m.check(inside(i, sizes[k]), clamp(i, sizes[k]), "gather index out of range")
    return [*index[:k], i, *index[k + rank - b:]]


@gather.lowers
def _(op, index, read):
    params, indices = op.inputs
    k, b = _gather_axis(params, indices, **op.attrs)
    if is_empty(params.sizes):
        if is_empty(op.outputs[0].sizes):  # nothing is read, so nothing is wrong
            return zero(params.dtype)
        return m.check(ir.const(False, types.bool_), zero(params.dtype), "gather from an empty tensor")
    return read(0, _gather_at(params.sizes, len(indices.sizes), k, b, index, lambda at: read(1, at)))


@gather.grad
def _(op, dy):
    from .indexed_slices import IndexedSlices

    params, indices = op.inputs
    if op.attrs["axis"] == 0 and op.attrs["batch_dims"] == 0:
        rest = [-1 if types.is_unknown(s) else s for s in (params.sizes or (UNKNOWN,))[1:]]
        if params.sizes is not None and -1 not in rest:
            values = reshape(dy, vector(-1, *rest)) if 0 not in rest else dy
        else:
            tail = graph.OPERATORS["getitem"](shape_of(params), slice(1, None))
            values = reshape(dy, concat_vectors(vector(-1), tail))
        return IndexedSlices(values, reshape(indices, vector(-1)), shape_vector(params)), None
    return gather_grad(dy, indices, shape_vector(params), **op.attrs), None


def concat_vectors(*parts: Tensor) -> Tensor:
    from .array import concat

    return concat(*parts, axis=0)


@primitive("indexing", type="GatherGrad", dtypes=NUMERIC, same=("updates",), static=("shape",), input_dtypes={"indices": INDEX})
def gather_grad(updates, indices, shape, *, axis, batch_dims):
    """Zeros of sizes `shape` to which each of `updates` is added where `gather` took it from."""


gather_grad.samples = [sample(floats(4, 2), [2, 2], [4, 3], axis=1, batch_dims=0),
    sample(floats(2, 2, 3), [[1, 3], [0, 0]], [2, 4, 3], axis=1, batch_dims=1)]


gather_grad.infers(lambda updates, indices, shape, *, axis, batch_dims: Spec(updates.dtype, sizes_from(shape)))


@gather_grad.reference
def _(updates, indices, shape, *, axis, batch_dims):
    out = np.zeros(tuple(int(s) for s in shape), updates.dtype)
    k, b = axis % out.ndim, batch_dims % indices.ndim if batch_dims else 0
    where = np.indices(updates.shape, sparse=True)
    picked = indices.reshape(indices.shape[:b] + (1,) * (k - b) + indices.shape[b:] + (1,) * (out.ndim - k - 1))
    np.add.at(out, (*where[:k], picked, *where[k + indices.ndim - b:]), updates)
    return out


gather_grad.lowers(lambda op, index, read: zero(op.outputs[0].dtype))


@gather_grad.scatters
def _(op, index, read):
    out, indices = op.outputs[0], op.inputs[1]
    k, b = _gather_axis(out, indices, **op.attrs)
    at = _gather_at(out.sizes, len(indices.sizes), k, b, index, lambda i: read(1, i))
    return ir.Scatter("add", op.inputs[0].sizes, tuple(at), read(0, index))


gather_grad.grad(lambda op, dd: (gather(dd, op.inputs[1], **op.attrs), None, None))


# ---------------------------------------------------------------- gather and scatter at whole positions


def _depth(indices: Tensor, rank: int | None) -> int:
    n = needs_rank(indices)[-1] if needs_rank(indices) else None
    if n is None:
        raise ValueError("Shape must be at least rank 1 but is rank 0: indices")
    n = pinned(n)
    if rank is not None and n > rank:
        raise ValueError(f"indices.shape[-1] must be <= params.rank, but saw indices.shape[-1] = {n} and params.rank = {rank}")
    return n


def _positions(read: Any, which: int, outer: Sequence[Expr], depth: int, sizes: Any, what: str) -> list[Expr]:
    """The row of `indices` at `outer`, each entry checked against its dimension."""
    found = []
    for j in range(depth):
        i = int64(read(which, [*outer, ir.index_const(j)]))
        found.append(m.check(inside(i, sizes[j]), clamp(i, sizes[j]), what))
    return found


def _rows(indices: np.ndarray, shape: Sequence[int]) -> tuple[np.ndarray, ...]:
    """The last dimension of `indices` as a NumPy index, checked as TF does."""
    n = indices.shape[-1]
    limits = np.array(shape[:n])
    bad = np.argwhere(((indices < 0) | (indices >= limits)).any(-1)) if n else []
    if len(bad):
        where = ", ".join(map(str, bad[0]))
        raise ValueError(f"indices[{where}] = {indices[tuple(bad[0])].tolist()} does not index into shape {list(shape)}")
    return tuple(np.moveaxis(indices.astype(np.int64), -1, 0))


@primitive("indexing", type="GatherNd", dtypes=ANY, same=("params",), input_dtypes={"indices": INDEX})
def gather_nd(params, indices):
    """The slices of `params` at the positions in the last dimension of `indices`."""


gather_nd.samples = [sample(floats(4, 3), [[1, 0], [3, 2]]), sample(floats(4, 3), [[2], [0], [2]]), sample(floats(2, 3), [[[1, 1]]])]


@gather_nd.infers
def _(params, indices):
    sizes = needs_rank(params)
    d = _depth(indices, len(sizes))
    return Spec(params.dtype, (*indices.sizes[:-1], *sizes[d:]))


gather_nd.reference(lambda params, indices: params[_rows(indices, params.shape)]
                    if indices.shape[-1] else np.broadcast_to(params, indices.shape[:-1] + params.shape))


@gather_nd.lowers
def _(op, index, read):
    params, indices = op.inputs
    d, outer = pinned(indices.sizes[-1]), len(indices.sizes) - 1
    if is_empty(params.sizes):
        if is_empty(op.outputs[0].sizes):
            return zero(params.dtype)
        return m.check(ir.const(False, types.bool_), zero(params.dtype), "gather from an empty tensor")
    at = _positions(read, 1, index[:outer], d, params.sizes, "gather_nd index out of range")
    return read(0, [*at, *index[outer:]])


gather_nd.grad(lambda op, dy: (scatter_nd(op.inputs[1], dy, shape_vector(op.inputs[0])), None))


@primitive("indexing", type="ScatterNd", dtypes=NUMERIC, same=("updates",), static=("shape",),
           input_dtypes={"indices": INDEX, "shape": INDEX})
def scatter_nd(indices, updates, shape):
    """Zeros of sizes `shape` with the updates added at the positions in the last dimension of `indices`."""


scatter_nd.samples = [sample([[1], [3], [1]], floats(3, 2), [4, 2]), sample([[0, 1], [2, 0]], floats(2), [3, 2])]


@scatter_nd.infers
def _(indices, updates, shape):
    sizes = sizes_from(shape)
    _check_updates(indices, updates, sizes)
    return Spec(updates.dtype, sizes)


scatter_nd.output_dtypes = lambda indices, updates, shape: [updates.dtype]


def _check_updates(indices: Tensor, updates: Tensor, sizes: Any) -> None:
    if indices.sizes is None or updates.sizes is None or types.is_unknown(indices.sizes[-1]):
        return
    try:
        types.merge_shapes((*indices.sizes[:-1], *sizes[_depth(indices, len(sizes)):]), updates.sizes)
    except ValueError:
        raise ValueError(f"The shape of updates {types.shape_text(updates.sizes)} must be indices.shape[:-1] + shape[indices.shape[-1]:], "
                         "for indices "
                         f"{types.shape_text(indices.sizes)} and shape {types.shape_text(tuple(sizes))}") from None


_AT = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "max": np.maximum, "min": np.minimum}


def _scattered(out: np.ndarray, indices: np.ndarray, updates: np.ndarray, how: str | None) -> np.ndarray:
    where = _rows(indices, out.shape)
    if not where:
        where = (np.zeros(indices.shape[:-1], np.int64),)
        return _scattered(out[None], np.zeros((*indices.shape[:-1], 1), np.int64), updates, how)[0]
    if how is not None:
        _AT[how].at(out, where, updates)
    else:  # one after the other: the last one wins
        flat = [w.reshape(-1) for w in where]
        for k, u in enumerate(updates.reshape(-1, *updates.shape[indices.ndim - 1:]) if updates.size else ()):
            out[tuple(w[k] for w in flat)] = u
    return out


scatter_nd.reference(lambda indices, updates, shape: _scattered(np.zeros(tuple(int(s) for s in shape), updates.dtype), indices, updates,
                                                                "add"))
scatter_nd.lowers(lambda op, index, read: zero(op.outputs[0].dtype))


def _scatter(op: Any, index: Any, read: Any, which: int, how: str | None) -> ir.Scatter:
    """Where an update goes: `which` is the input of indices, followed by the updates."""
    indices, updates, out = op.inputs[which], op.inputs[which + 1], op.outputs[0]
    outer = len(indices.sizes) - 1
    at = _positions(read, which, index[:outer], pinned(indices.sizes[-1]), out.sizes, "scatter index out of range")
    value = read(which + 1, index)
    return ir.Scatter("add" if how == "sub" else how, updates.sizes, (*at, *index[outer:]), -value if how == "sub" else value)


scatter_nd.scatters(lambda op, index, read: _scatter(op, index, read, 0, "add"))
scatter_nd.grad(lambda op, dd: (None, gather_nd(dd, op.inputs[0]), None))


ORDERED = types.FLOAT + types.INTEGER


def _tensor_scatter(name: str, type: str, how: str | None, doc: str) -> Any:
    def fn(tensor, indices, updates):
        pass
    fn.__name__, fn.__doc__ = name, doc
    allowed = ALL if how is None else ORDERED if how in ("min", "max") else NUMERIC
    op = primitive("indexing", type=type, dtypes=allowed, same=("tensor", "updates"),
                   input_dtypes={"indices": INDEX})(fn)

    def infer(tensor: Tensor, indices: Tensor, updates: Tensor) -> Spec:
        _check_updates(indices, updates, needs_rank(tensor))
        return Spec(tensor.dtype, tensor.sizes)

    op.infers(infer)
    op.reference(lambda tensor, indices, updates: _scattered(np.array(tensor), indices, updates, how))
    op.lowers(lambda op, index, read: read(0, index))
    op.scatters(lambda op, index, read: _scatter(op, index, read, 1, how))
    op.samples = [sample(floats(4, 2), [[1], [3], [1]], floats(3, 2)), sample(floats(3, 2), [[0, 1], [2, 0]], floats(2))]
    return op


tensor_scatter_update = _tensor_scatter("tensor_scatter_update", "TensorScatterUpdate", None,
                                        "`tensor` with slices replaced; of equal positions the last one wins.")
tensor_scatter_add = _tensor_scatter("tensor_scatter_add", "TensorScatterAdd", "add", "`tensor` with updates added at positions.")
tensor_scatter_sub = _tensor_scatter("tensor_scatter_sub", "TensorScatterSub", "sub", "`tensor` with updates subtracted at positions.")
tensor_scatter_mul = _tensor_scatter("tensor_scatter_mul", "TensorScatterMul", "mul", "`tensor` with slices multiplied at positions.")
tensor_scatter_max = _tensor_scatter("tensor_scatter_max", "TensorScatterMax", "max",
                                     "`tensor` with the larger of old and update at positions.")
tensor_scatter_min = _tensor_scatter("tensor_scatter_min", "TensorScatterMin", "min",
                                     "`tensor` with the smaller of old and update at positions.")


@tensor_scatter_update.grad
def _(op, dy):
    tensor, indices, updates = op.inputs
    d_tensor = tensor_scatter_update(dy, indices, graph.OPERATORS["zeros_like"](updates))
    return d_tensor, None, _of_winners(gather_nd(dy, indices), shape_vector(tensor), indices)


def _of_winners(dy: Tensor, shape: Tensor, indices: Tensor) -> Tensor:
    """`dy` where an update was the last one at its position, which is the one that counted, else 0."""
    from .array import fill, range_op, size_of
    from .elementwise import equal, select
    from .opdef import constant

    item = graph.OPERATORS["getitem"]
    outer, depth = len(needs_rank(indices)) - 1, _depth(indices, None)
    if outer == 0:
        return dy
    first = item(indices, (Ellipsis, 0)) if depth else None
    if first is None:
        return dy
    numbers = reshape_like(range_op(constant(0), size_of(first), constant(1)), first)
    last = tensor_scatter_update(fill(item(shape, slice(0, depth)), constant(-1)), indices, numbers)
    won = graph.OPERATORS["expand_axes"](equal(gather_nd(last, indices), numbers), tuple(range(outer, len(needs_rank(dy)))))
    return select(won, dy, graph.OPERATORS["zeros_like"](dy))


tensor_scatter_add.grad(lambda op, dy: (dy, None, gather_nd(dy, op.inputs[1])))
tensor_scatter_sub.grad(lambda op, dy: (dy, None, -gather_nd(dy, op.inputs[1])))
for _op in (tensor_scatter_mul, tensor_scatter_max, tensor_scatter_min):
    _op.no_gradient = "several updates of one element compete"


# ---------------------------------------------------------------- segments with a given number of segments


def _segments(data: Tensor, ids: Tensor, n: Any) -> Spec:
    at = needs_rank(ids)
    sizes = needs_rank(data)
    if len(at) > len(sizes):
        raise ValueError(f"Shape must be at least rank {len(at)} but is rank {len(sizes)}: data of a segment op")
    try:
        types.merge_shapes(sizes[:len(at)], at)
    except ValueError:
        raise ValueError(f"data.shape = {types.shape_text(sizes)} does not start with segment_ids.shape = {types.shape_text(at)}") from None
    return Spec(data.dtype, (n, *sizes[len(at):]))


def _unsorted(name: str, type: str, how: str, doc: str, dtypes: Any = NUMERIC) -> Any:
    def fn(data, segment_ids, num_segments):
        pass
    fn.__name__, fn.__doc__ = name, doc + "  Elements of a negative segment are left out."
    op = primitive("indexing", type=type, dtypes=dtypes, same=("data",), static=("num_segments",),
                   input_dtypes={"segment_ids": INDEX, "num_segments": INDEX})(fn)

    def infer(data: Tensor, segment_ids: Tensor, num_segments: Tensor) -> Spec:
        n = UNKNOWN if num_segments.known is None else values_of(num_segments)[0]  # type: ignore[index]
        if isinstance(n, int) and n < 0:
            raise ValueError(f"num_segments must be non-negative, got {n}")
        return _segments(data, segment_ids, n)

    def reference(data: np.ndarray, segment_ids: np.ndarray, num_segments: Any) -> np.ndarray:
        n, rank = int(num_segments), segment_ids.ndim
        bad = np.argwhere(segment_ids >= n)
        if len(bad):
            raise ValueError(f"segment_ids[{','.join(map(str, bad[0]))}] = {segment_ids[tuple(bad[0])]} is out of range [0, {n})")
        out = np.full((n, *data.shape[rank:]), _empty_segment(how, types.as_dtype(data.dtype)), data.dtype)
        kept = segment_ids >= 0
        _AT[how].at(out, segment_ids[kept], data[kept])
        return out

    def scatter(op: Any, index: Any, read: Any) -> ir.Scatter:
        data, ids, out = op.inputs[0], op.inputs[1], op.outputs[0]
        rank, n = len(ids.sizes), op.outputs[0].sizes[0]
        i = int64(read(1, index[:rank]))
        value = m.select(i >= 0, read(0, index), ir.const(ir.neutral(how, out.dtype), out.dtype.compute))
        i = m.check(i < ir.size(n), clamp(i, n), "segment id out of range")
        return ir.Scatter(how, data.sizes, (i, *index[rank:]), value)

    op.infers(infer)
    op.reference(reference)
    op.lowers(lambda op, index, read: ir.const(_empty_segment(how, op.outputs[0].dtype), op.outputs[0].dtype.compute))
    op.scatters(scatter)
    op.samples = [sample(floats(5, 2), [2, 0, 2, -1, 1], 3), sample(floats(2, 2), [[0, 1], [1, 1]], 2)]
    return op


def _empty_segment(how: str, dtype: types.DType) -> Any:
    """The value of a segment without elements."""
    return {"add": 0, "mul": 1}[how] if how in ("add", "mul") else dtype.min if how == "max" else dtype.max


unsorted_segment_sum = _unsorted("unsorted_segment_sum", "UnsortedSegmentSum", "add", "The sum of each segment.")
unsorted_segment_prod = _unsorted("unsorted_segment_prod", "UnsortedSegmentProd", "mul", "The product of each segment; 1 of an empty one.")
unsorted_segment_max = _unsorted("unsorted_segment_max", "UnsortedSegmentMax", "max",
                                 "The maximum of each segment; the dtype's lowest number of an empty one.", ORDERED)
unsorted_segment_min = _unsorted("unsorted_segment_min", "UnsortedSegmentMin", "min",
                                 "The minimum of each segment; the dtype's highest number of an empty one.", ORDERED)


def take_segments(per_segment: Tensor, ids: Tensor, like: Tensor) -> Tensor:
    """Each element's value of its segment; 0 where the segment is negative.  The result has the shape of `like`."""
    from .elementwise import greater_equal, maximum, select

    found = gather(per_segment, maximum(ids, 0), axis=0, batch_dims=0)
    if ids.known is not None and all(isinstance(v, int) and v >= 0 for v in values_of(ids) or ()):
        return found
    kept = greater_equal(ids, 0)
    rank = len(needs_rank(like))
    kept = graph.OPERATORS["expand_axes"](kept, tuple(range(len(needs_rank(ids)), rank)))
    return select(kept, found, graph.OPERATORS["zeros_like"](found))


unsorted_segment_sum.grad(lambda op, dy: (take_segments(dy, op.inputs[1], op.inputs[0]), None, None))


def _extreme_grad(op: Any, dy: Tensor, sum_of: Any) -> Tensor:
    """The gradient shared equally among the elements that are the extreme of their segment."""
    from .elementwise import cast_op, equal

    data, ids = op.inputs[0], op.inputs[1]
    chosen = cast_op(equal(data, take_segments(op.outputs[0], ids, data)), DstT=data.dtype)
    return chosen * take_segments(dy / sum_of(chosen), ids, data)


def _unsorted_extreme(op, dy):
    return _extreme_grad(op, dy, lambda c: _at_least_one(unsorted_segment_sum(c, op.inputs[1], op.inputs[2]))), None, None


def _at_least_one(x: Tensor) -> Tensor:
    from .elementwise import maximum

    return maximum(x, 1)


unsorted_segment_max.grad(_unsorted_extreme)
unsorted_segment_min.grad(_unsorted_extreme)


@unsorted_segment_prod.grad
def _(op, dy):
    """Product over the other elements: by division, and where there is a zero, by the product of the rest."""
    from .elementwise import cast_op, equal, greater, select

    data, ids, n = op.inputs
    is_zero = equal(data, 0)
    zeros = unsorted_segment_sum(cast_op(is_zero, DstT=types.int32), ids, n)
    dy = select(greater(zeros, 1), graph.OPERATORS["zeros_like"](dy), dy)
    rest = unsorted_segment_prod(select(is_zero, graph.OPERATORS["ones_like"](data), data), ids, n)
    safe = select(is_zero, graph.OPERATORS["ones_like"](data), data)
    others = select(is_zero, take_segments(rest, ids, data), take_segments(op.outputs[0], ids, data) / safe)
    return take_segments(dy, ids, data) * others, None, None


# ---------------------------------------------------------------- segments of sorted ids: their number is a value


@movement(type="Increasing", dtypes=INDEX, no_gradient="an index")
def increasing(ids):
    """`ids`, a vector that is checked to begin at 0 or above and never to fall."""


increasing.samples = [sample([0, 0, 2, 5])]
increasing.infers(lambda ids: Spec(ids.dtype, needs_rank(ids, 1), ids.known))


@increasing.reference
def _(ids):
    if np.any(np.diff(ids) < 0) or np.any(ids[:1] < 0):
        raise ValueError("segment ids are not increasing")
    return ids


@increasing.lowers
def _(op, index, read):
    here, before = read(0, index), read(0, [m.max(index[0] - 1, 0)])
    return m.check(m.land(here >= 0, here >= before), here, "segment ids are not increasing")


@movement(type="NumberOfSegments", dtypes=INDEX, no_gradient="a count")
def number_of_segments(ids):
    """One more than the last of sorted ids; 0 of none."""


number_of_segments.samples = [sample([0, 0, 2, 5]), sample(lambda rng: np.zeros(0, np.int64))]


@number_of_segments.infers
def _(ids):
    needs_rank(ids, 1)
    return Spec(ids.dtype, (), moved(lambda i: max(i[-1], -1) + 1 if len(i) else 0, ids))


number_of_segments.reference(lambda ids: max(int(ids[-1]), -1) + 1 if len(ids) else 0)
number_of_segments.lowers(lambda op, index, read: zero(op.outputs[0].dtype) if is_empty(op.inputs[0].sizes) else
                          m.max(read(0, [ir.size(op.inputs[0].sizes[0] - 1)]), -1) + 1)


def _sorted_segments(type: str, dtypes: Any = NUMERIC) -> Any:
    """A composite `f(data, segment_ids, num_segments)` of sorted ids, the last of which is num_segments - 1."""
    traits = dict(type=type, dtypes=dtypes, same=("data",), static=("num_segments",), default_name=type,
                  input_dtypes={"segment_ids": INDEX, "num_segments": INDEX}, samples=[
                      sample(floats(5, 2), [0, 0, 2, 2, 3], 4), sample(floats(3), [0, 1, 1], 2),
                      sample([[-3, 5], [-4, 7], [2, -9]], lambda rng: np.array([0, 0, 1]), 2)],
                  infer=lambda data, segment_ids, num_segments: _segments(data, segment_ids, (values_of(num_segments) or [UNKNOWN])[0]))
    return composite(**traits)


def _per_segment(counts: Tensor, data: Tensor) -> Tensor:
    """A number for each segment, shaped to be combined with rows like those of `data`."""
    return graph.OPERATORS["expand_axes"](counts, tuple(range(1, len(needs_rank(data)))))


def _segment_sizes(ids: Tensor, n: Tensor) -> Tensor:
    return unsorted_segment_sum(graph.OPERATORS["ones_like"](ids, dtype=types.int32), ids, n)


@_sorted_segments("SegmentSum")
def segment_sum(data, segment_ids, num_segments):
    """The sum of each segment."""
    return unsorted_segment_sum(data, increasing(segment_ids), num_segments)


@_sorted_segments("SegmentProd")
def segment_prod(data, segment_ids, num_segments):
    """The product of each segment; 1 of an empty one."""
    return unsorted_segment_prod(data, increasing(segment_ids), num_segments)


@_sorted_segments("SegmentMean")
def segment_mean(data, segment_ids, num_segments):
    """The mean of each segment; 0 of an empty one."""
    from .elementwise import cast_op, truncate_div

    wide = types.float32 if data.dtype.size == 2 and data.dtype.kind == "f" else data.dtype
    total = unsorted_segment_sum(cast_op(data, DstT=wide), increasing(segment_ids), num_segments)
    counts = cast_op(_per_segment(_at_least_one(_segment_sizes(segment_ids, num_segments)), data), DstT=wide)
    return cast_op(total / counts if wide.kind in "fc" else truncate_div(total, counts), DstT=data.dtype)


def _extreme_of_sorted(how: Any, data: Tensor, ids: Tensor, n: Tensor) -> Tensor:
    from .elementwise import greater, select

    found = how(data, increasing(ids), n)
    some = _per_segment(greater(_segment_sizes(ids, n), 0), data)
    return select(some, found, 0)


@_sorted_segments("SegmentMax", ORDERED)
def segment_max(data, segment_ids, num_segments):
    """The maximum of each segment; 0 of an empty one."""
    return _extreme_of_sorted(unsorted_segment_max, data, segment_ids, num_segments)


@_sorted_segments("SegmentMin", ORDERED)
def segment_min(data, segment_ids, num_segments):
    """The minimum of each segment; 0 of an empty one."""
    return _extreme_of_sorted(unsorted_segment_min, data, segment_ids, num_segments)


segment_prod.no_gradient = "use unsorted_segment_prod"
segment_sum.grad(lambda op, dy: (gather(dy, op.inputs[1]), None, None))


@segment_mean.grad
def _(op, dy):
    from .elementwise import cast_op

    data, ids, n = op.inputs
    counts = _per_segment(_at_least_one(_segment_sizes(ids, n)), data)
    return gather(dy / cast_op(counts, DstT=dy.dtype), ids), None, None


segment_max.grad(_unsorted_extreme)
segment_min.grad(_unsorted_extreme)


# ---------------------------------------------------------------- positions and masks


@primitive("indexing", type="OneHot", dtypes=ALL, default_name="one_hot", same=("on_value", "off_value"), static=("depth",),
           no_gradient="its input is an index",
           input_dtypes={"indices": types.INTEGER, "depth": INDEX}, output_dtypes=lambda i, d, on, off, **_: [on.dtype])
def one_hot(indices, depth, on_value, off_value, *, axis=-1):
    """`on_value` where the position along the new dimension `axis`, of size `depth`, equals the index, else `off_value`."""


one_hot.samples = [sample([1, -1, 2, 5], 3, floats(), floats()), sample([[0], [1]], 2, floats(), floats(), axis=0),
    sample(1, 4, floats(), floats(), axis=-1)]


@one_hot.infers
def _(indices, depth, on_value, off_value, *, axis):
    sizes = needs_rank(indices)
    d = UNKNOWN if depth.known is None else values_of(depth)[0]
    if isinstance(d, int) and d < 0:
        raise ValueError(f"depth must be non-negative, got: {d}")
    k = canonical_axis(axis, len(sizes) + 1)
    return Spec(on_value.dtype, (*sizes[:k], d, *sizes[k:]))


@one_hot.reference
def _(indices, depth, on_value, off_value, *, axis):
    hit = np.expand_dims(indices, axis) == np.moveaxis(np.arange(int(depth)).reshape([-1] + [1] * indices.ndim), 0, axis)
    return np.where(hit, on_value, off_value)


@one_hot.lowers
def _(op, index, read):
    k = canonical_axis(op.attrs["axis"], len(index))
    i = int64(read(0, [*index[:k], *index[k + 1:]]))
    return m.select(i.eq(index[k]), read(2, []), read(3, []))


@primitive("host", type="Where", dtypes=ALL, no_gradient="an index", output_dtypes=lambda x: [types.int64],
           infer=lambda x: Spec(types.int64, (UNKNOWN, UNKNOWN if x.sizes is None else len(x.sizes))))
def where_op(x):
    """The positions of the nonzero elements in row-major order, one a row."""


where_op.samples = [sample([[1, 0, 2], [0, 0, 1]]), sample(lambda rng: rng.random((3, 2)) < 0.5)]


where_op.reference(lambda x: np.argwhere(x) if np.ndim(x) else np.zeros((int(bool(x)), 0), np.int64))


@movement(type="ReverseSequence", dtypes=ANY, same=("x",), input_dtypes={"seq_lengths": INDEX})
def reverse_sequence(x, seq_lengths, *, seq_axis, batch_axis):
    """For each position b along `batch_axis`, the first seq_lengths[b] elements along `seq_axis` in reverse order."""


reverse_sequence.samples = [sample(floats(3, 4, 2), [0, 4, 2], seq_axis=1, batch_axis=0),
    sample(floats(4, 3), [1, 2, 4], seq_axis=0, batch_axis=1)]


@reverse_sequence.infers
def _(x, seq_lengths, *, seq_axis, batch_axis):
    sizes = needs_rank(x)
    s, b = canonical_axis(seq_axis, len(sizes), "seq_dim"), canonical_axis(batch_axis, len(sizes), "batch_dim")
    if s == b:
        raise ValueError(f"batch_dim == seq_dim == {s}")
    if seq_lengths.sizes is not None:
        types.merge_shapes((sizes[b],), seq_lengths.sizes)
    return Spec(x.dtype, sizes)


@reverse_sequence.reference
def _(x, seq_lengths, *, seq_axis, batch_axis):
    moved_x = np.moveaxis(x, (batch_axis, seq_axis), (0, 1)) if batch_axis % x.ndim != seq_axis % x.ndim else x
    out = np.array(moved_x)
    for b, n in enumerate(seq_lengths):
        if not 0 <= n <= out.shape[1]:
            raise ValueError(f"seq_lens({b}) = {n} is not in [0, {out.shape[1]}], the size of dimension {seq_axis}")
        out[b, :n] = moved_x[b, :n][::-1]
    return np.moveaxis(out, (0, 1), (batch_axis, seq_axis))


@reverse_sequence.lowers
def _(op, index, read):
    s, b = (canonical_axis(op.attrs[k], len(index)) for k in ("seq_axis", "batch_axis"))
    n = op.inputs[0].sizes[s]
    if is_empty(op.inputs[0].sizes):
        return zero(op.outputs[0].dtype)
    length = int64(read(1, [index[b]]))
    length = m.check(m.land(length >= 0, length <= ir.size(n)), length, "sequence length out of range")
    at = list(index)
    at[s] = clamp(m.select(index[s] < length, length - 1 - index[s], index[s]), n)
    return read(0, at)


reverse_sequence.grad(lambda op, dy: (reverse_sequence(dy, op.inputs[1], **op.attrs), None))


@primitive("indexing", type="InvertPermutation", dtypes=INDEX, no_gradient="an index")
def invert_permutation(data):
    """The vector y with y[data[i]] = i."""


invert_permutation.samples = [sample([2, 0, 1, 3])]


@invert_permutation.infers
def _(data):
    sizes = needs_rank(data, 1)
    return Spec(data.dtype, sizes, moved(lambda p: np.argsort(p.astype(np.int64)), data))


@invert_permutation.reference
def _(data):
    if sorted(data.tolist()) != list(range(len(data))):
        raise ValueError(f"{data.tolist()} is not a permutation of 0 to {len(data) - 1}")
    return np.argsort(data)


invert_permutation.lowers(lambda op, index, read: zero(op.outputs[0].dtype))


@invert_permutation.scatters
def _(op, index, read):
    n = op.inputs[0].sizes[0]
    i = int64(read(0, index))
    return ir.Scatter(None, (n,), (m.check(inside(i, n), clamp(i, n), "not a permutation"),), m.cast(index[0], op.outputs[0].dtype))


# ---------------------------------------------------------------- sorting, searching, sets: on the host


def downwards(x: np.ndarray) -> np.ndarray:
    """Positions that sort the last dimension downwards, the first of equals first."""
    n = x.shape[-1]
    return n - 1 - np.argsort(x[..., ::-1], axis=-1, kind="stable")[..., ::-1]


def highest(x: np.ndarray, k: int) -> np.ndarray:
    """The first `k` of `downwards(x)`; where these are few of many, found without sorting the rest."""
    n = x.shape[-1]
    if not 0 < 8 * k <= n or n < 256:
        return downwards(x)[..., :k]
    rows = x.reshape(-1, n)
    least = np.partition(rows, n - k, axis=-1)[:, n - k, None]
    kept = np.where(least == least, ~(rows < least), rows != rows)  # NaN is larger than all numbers
    found, exact = np.empty((len(rows), k), np.int64), kept.sum(1) == k
    found[exact] = np.nonzero(kept[exact])[1].reshape(-1, k)
    for i in np.flatnonzero(~exact):  # more equal elements than places
        at = np.flatnonzero(kept[i])
        found[i] = at[downwards(rows[i, at])[:k]]
    order = downwards(np.take_along_axis(rows, found, -1))
    return np.take_along_axis(found, order, -1).reshape(*x.shape[:-1], k)


@primitive("host", type="TopKV2", gpu="sort", dtypes=ORDERED, same=("x",), static=("k",), input_dtypes={"k": INDEX},
           output_dtypes=lambda x, k, **_: [x.dtype, types.int32])
def top_k(x, k, *, sorted=True):
    """The `k` largest entries of the last dimension, in descending order, and their positions; the first of equals first."""


top_k.samples = [sample(floats(2, 5), 3), sample(floats(4), 1), sample([[1, 3, 3, 2]], 2)]


@top_k.infers
def _(x, k, *, sorted):
    sizes = needs_rank(x)
    if not sizes:
        raise ValueError("Shape must be at least rank 1 but is rank 0: input of top_k")
    n = UNKNOWN if k.known is None else values_of(k)[0]
    if types.less(sizes[-1], n):
        raise ValueError(f"input must have last dimension >= k = {n!r} but is {sizes[-1]!r}")
    out = (*sizes[:-1], n)
    return [Spec(x.dtype, out), Spec(types.int32, out)]


@top_k.reference
def _(x, k, *, sorted):
    if x.shape[-1] < k:
        raise ValueError(f"input must have last dimension >= k = {int(k)} but is {x.shape[-1]}")
    order = highest(x, int(k))
    return np.take_along_axis(x, order, -1), order.astype(np.int32)


@top_k.grad
def _(op, dy, _indices):
    x = op.inputs[0]
    last = len(needs_rank(x)) - 1
    return gather_grad(dy, op.outputs[1], shape_vector(x), axis=last, batch_dims=last), None


@primitive("host", type="ArgSort", gpu="sort", dtypes=ORDERED, no_gradient="an index", output_dtypes=lambda x, **_: [types.int32],
           infer=lambda x, *, descending: Spec(types.int32, needs_rank(x)))
def argsort_op(x, *, descending):
    """Positions that sort the last dimension; equal elements keep their order."""


argsort_op.samples = [sample(floats(2, 5), descending=False), sample([[1, 3, 3, 2]], descending=True)]


argsort_op.reference(lambda x, *, descending: (downwards(x) if descending else np.argsort(x, axis=-1, kind="stable")).astype(np.int32))


def _unique(x: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """Distinct values in order of first appearance, the number of each element's value, counts."""
    values, first, inverse, counts = np.unique(x, return_index=True, return_inverse=True, return_counts=True)
    order = np.argsort(first)
    rank = np.empty_like(order)
    rank[order] = np.arange(len(order))
    return values[order], rank[inverse.reshape(-1)], counts[order]


@primitive("host", type="Unique", dtypes=ANY, no_gradient="it chooses by value", output_dtypes=lambda x, *, out_idx: [x.dtype, out_idx],
           infer=lambda x, *, out_idx: [Spec(x.dtype, (UNKNOWN,)), Spec(out_idx, needs_rank(x, 1))])
def unique(x, *, out_idx=types.int32):
    """The distinct elements of a vector in order of first appearance, and the number of each element among them."""


unique.samples = [sample([5, 3, 5, 1]), sample(lambda rng: np.array([1.5, 1.5, 0.5]), out_idx=types.int64)]


unique.reference(lambda x, *, out_idx: _unique(x)[:2])


@primitive("host", type="UniqueWithCounts", dtypes=ANY, no_gradient="it chooses by value",
           output_dtypes=lambda x, *, out_idx: [x.dtype, out_idx, out_idx],
           infer=lambda x, *, out_idx: [Spec(x.dtype, (UNKNOWN,)), Spec(out_idx, needs_rank(x, 1)), Spec(out_idx, (UNKNOWN,))])
def unique_with_counts(x, *, out_idx=types.int32):
    """`unique`, and how often each distinct element appears."""


unique_with_counts.samples = [sample([5, 3, 5, 1])]


unique_with_counts.reference(lambda x, *, out_idx: _unique(x))


@primitive("host", type="ListDiff", dtypes=ANY, default_name="ListDiff", no_gradient="it chooses by value",
           output_dtypes=lambda x, y, *, out_idx: [x.dtype, out_idx],
           infer=lambda x, y, *, out_idx: [Spec(x.dtype, (UNKNOWN,)), Spec(out_idx, (UNKNOWN,))])
def list_diff(x, y, *, out_idx=types.int32):
    """The elements of vector `x` that are not in vector `y`, and their positions in `x`."""


list_diff.samples = [sample([5, 3, 4, 1], [3, 1])]


@list_diff.reference
def _(x, y, *, out_idx):
    where = np.flatnonzero(~np.isin(x, y))
    return x[where], where


def searched(n: Any, before: Any) -> Expr:
    """How many of `n` elements in order are `before(i)`, for their number i, which is true of the first of them and of no other."""
    found = ir.index_const(0)
    for bit in reversed(range(pinned(n).bit_length())):
        at = found + (1 << bit)
        found = m.select(m.land(at <= ir.size(n), before(m.min(at, ir.size(n)) - 1)), at, found)
    return found


@primitive("indexing", type="SearchSorted", dtypes=ORDERED, no_gradient="an index",
           output_dtypes=lambda s, v, *, side, out_type: [out_type])
def search_sorted(sorted_sequence, values, *, side, out_type):
    """For each value, where in the sorted last dimension it would go, before ("left") or after ("right") its equals."""


search_sorted.samples = [sample([[1, 3, 3, 5]], [[0, 3, 9]], side="left", out_type=types.int32),
    sample([1, 3, 3, 5], [0, 3, 9], side="right", out_type=types.int64)]


@search_sorted.infers
def _(sorted_sequence, values, *, side, out_type):
    types.merge_shapes(needs_rank(sorted_sequence)[:-1], needs_rank(values)[:-1])
    return Spec(out_type, values.sizes)


@search_sorted.reference
def _(sorted_sequence, values, *, side, out_type):
    count = int(np.prod(values.shape[:-1]))
    rows, wanted = (a.reshape(count, a.shape[-1]) for a in (sorted_sequence, values))
    return np.array([np.searchsorted(r, w, side) for r, w in zip(rows, wanted)], out_type.np).reshape(values.shape)


@search_sorted.lowers
def _(op, index, read):
    value, left = read(1, index), op.attrs["side"] == "left"

    def before(i: Expr) -> Expr:  # NaN is larger than all numbers
        x = read(0, [*index[:-1], i])
        found = x < value if left else x <= value
        if value.dtype.kind != "f":
            return found
        return m.lor(found, m.land(m.isnan(value), m.lnot(m.isnan(x))) if left else m.isnan(value))

    return m.cast(searched(op.inputs[0].sizes[-1], before), op.outputs[0].dtype)


# ---------------------------------------------------------------- splitting and merging by value


@primitive("host", type="DynamicPartition", dtypes=ANY, same=("data",), input_dtypes={"partitions": (types.int32,)},
           output_dtypes=lambda data, partitions, *, num_partitions: [data.dtype] * num_partitions)
def dynamic_partition(data, partitions, *, num_partitions):
    """One tensor for each p in [0, num_partitions): the slices of `data` whose entry in `partitions` is p, in order."""


dynamic_partition.samples = [sample(floats(4, 2), [1, 0, 1, 1], num_partitions=2), sample(floats(3), [2, 0, 0], num_partitions=3)]


@dynamic_partition.infers
def _(data, partitions, *, num_partitions):
    rest = _segments(data, partitions, UNKNOWN).sizes
    return [Spec(data.dtype, rest)] * num_partitions


@dynamic_partition.reference
def _(data, partitions, *, num_partitions):
    check_range(partitions, num_partitions, "partitions")
    return [data[partitions == p] for p in range(num_partitions)]


@dynamic_partition.grad
def _(op, *dys):
    from .array import range_op, size_of
    from .opdef import constant

    data, partitions = op.inputs
    places = reshape_like(range_op(constant(0), size_of(partitions), constant(1)), partitions)
    parts = dynamic_partition(places, partitions, **op.attrs)
    parts = parts if isinstance(parts, list) else [parts]
    return reshape_like(dynamic_stitch(*parts, *dys), data), None


@primitive("host", type="DynamicStitch", default_name="DynamicStitch", input_dtypes={"values": ANY},
           output_dtypes=lambda *values: [values[-1].dtype])
def dynamic_stitch(*values):
    """First n index tensors, then n data tensors: row `indices[k][i]` of the result is `data[k][i]`; later ones win."""


dynamic_stitch.samples = [sample([0, 3], [1, 2], floats(2, 3), floats(2, 3)), sample([1, 0], floats(2)),
    sample(2, [[1, 0]], floats(), floats(1, 2))]


@dynamic_stitch.infers
def _(*values):
    half = len(values) // 2
    indices, data = values[:half], values[half:]
    tail: Any = None
    top: Any = 0
    for i, d in zip(indices, data):
        if i.sizes is not None and d.sizes is not None:
            tail = types.merge_shapes(tail, _segments(d, i, 0).sizes[1:])
        found = values_of(i)
        unknown = found is None or types.is_unknown(top) or not all(isinstance(v, int) for v in found)
        top = UNKNOWN if unknown else max([top, *[v + 1 for v in found]])
    if tail is None:
        raise UnknownRank("the rank of a stitched value must be known")
    return Spec(data[0].dtype, (top, *tail))


@dynamic_stitch.reference
def _(*values):
    half = len(values) // 2
    flat = np.concatenate([i.reshape(-1) for i in values[:half]])
    if flat.min(initial=0) < 0:
        raise ValueError(f"indices must be non-negative, got {flat.min()}")
    rows = [d.reshape(i.size, *d.shape[i.ndim:]) for i, d in zip(values[:half], values[half:])]
    out = np.zeros((int(flat.max(initial=-1)) + 1, *rows[0].shape[1:]), values[-1].dtype)
    for i, r in zip(np.split(flat, np.cumsum([i.size for i in values[:half]])[:-1]), rows):
        out[i] = r
    return out


@dynamic_stitch.grad
def _(op, dy):
    half = len(op.inputs) // 2
    return [None] * half + [gather(dy, i) for i in op.inputs[:half]]
