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
from .array import (ANY, INDEX, clamp, every, inside, int64, is_empty, moved, reshape, reshape_like, shape_of, shape_vector, sizes_from, total,
                    values_of, vector, zero)
from .opdef import UnknownRank, composite, movement, needs_rank, primitive

# ---------------------------------------------------------------- gather


@primitive("indexing", type="GatherV2", dtypes=ANY, same=("params",), input_dtypes={"indices": INDEX})
def gather(params, indices, *, axis=0, batch_dims=0):
    """The slices of `params` along `axis` at `indices`, which take that dimension's place.

    The first `batch_dims` dimensions of both are matched one to one.

    Raises (when run):
        InvalidArgumentError: an index outside [0, size of the axis).
    """


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
