"""Lookups of several ids at once: `tf.nn.embedding_lookup_sparse` and its safe form; dilation, erosion and fractional pools of `tf.nn`."""
from __future__ import annotations

from typing import Any


from . import array_ops, graph, math_ops, nn, types
from .graph import Tensor
from .ops.opdef import needs_rank
from .partitioned_variables import PartitionedVariable
from .platform import logging
from .sparse_tensor import SparseTensor, SparseTensorValue, sparse_fill_empty_rows, sparse_retain

__all__ = ["embedding_lookup_sparse", "safe_embedding_lookup_sparse"]

_COMBINERS = ("mean", "sqrtn", "sum")


def _scope(name: str | None, default: str) -> Any:
    return graph.get_default_graph().name_scope(name or default)


def _combiner(combiner: Any) -> str:
    if combiner is None:
        logging.warn('The default value of combiner will change from "mean" to "sqrtn" after 2016/11/01.')
        return "mean"
    if combiner not in _COMBINERS:
        raise ValueError(f"combiner must be one of 'mean', 'sqrtn' or 'sum', got {combiner!r}")
    return combiner


def _sparse(sp: Any, what: str) -> SparseTensor:
    if isinstance(sp, SparseTensorValue):
        return SparseTensor.from_value(sp)
    if not isinstance(sp, SparseTensor):
        raise TypeError(f"{what} must be SparseTensor, got {sp!r}")
    return sp


def embedding_lookup_sparse(params: Any, sp_ids: Any, sp_weights: Any, partition_strategy: str = "mod", name: str | None = None,
                            combiner: str | None = None, max_norm: Any = None) -> Tensor:
    """For each row of `sp_ids` the embeddings of its ids, combined: [rows, embedding size].

    Args:
        params, partition_strategy, max_norm: see `embedding_lookup`.
        sp_ids: SparseTensor [rows, any] of ids; every row but the last ones must have some.
        sp_weights: a SparseTensor of weights at the same positions; None for ones.
        combiner: "sum" of the weighted embeddings; "mean": that divided by the sum of the weights; "sqrtn": divided by the root of
            the sum of their squares.

    Raises:
        TypeError: no SparseTensors.  ValueError: another combiner, no params, positions that are known to differ.
    """
    combiner = _combiner(combiner)
    if isinstance(params, PartitionedVariable):
        params = list(params)
    ids = _sparse(sp_ids, "sp_ids")
    weights = None if sp_weights is None else _sparse(sp_weights, "sp_weights")
    if weights is not None:
        types.merge_shapes(ids.values.sizes, weights.values.sizes)
        types.merge_shapes(ids.indices.sizes, weights.indices.sizes)
    with _scope(name, "embedding_lookup_sparse") as scope:
        segments = math_ops.cast(ids.indices[:, 0], types.int32)
        rows = nn.embedding_lookup(params, ids.values, partition_strategy, max_norm=max_norm)
        if weights is None:
            segment = {"sum": array_ops.segment_sum, "mean": array_ops.segment_mean, "sqrtn": _segment_sqrt_n}[combiner]
            return array_ops.identity(segment(rows, segments), name=scope)
        w = math_ops.cast(weights.values, rows.dtype)
        tail = [1] * (len(needs_rank(rows)) - 1)
        total = array_ops.segment_sum(rows * array_ops.reshape(w, [-1, *tail]), segments)
        if combiner == "sum":
            return array_ops.identity(total, name=scope)
        size = array_ops.segment_sum(w if combiner == "mean" else math_ops.square(w), segments)
        size = array_ops.reshape(size if combiner == "mean" else math_ops.sqrt(size), [-1, *tail])
        return math_ops.truediv(total, size, name=scope)


def _segment_sqrt_n(data: Tensor, segments: Tensor) -> Tensor:
    counts = array_ops.segment_sum(array_ops.ones_like(segments, dtype=data.dtype), segments)
    return array_ops.segment_sum(data, segments) / array_ops.reshape(math_ops.sqrt(counts), [-1] + [1] * (len(needs_rank(data)) - 1))


def safe_embedding_lookup_sparse(embedding_weights: Any, sparse_ids: Any, sparse_weights: Any = None, combiner: str | None = "mean",
                                 default_id: int | None = None, name: str | None = None, partition_strategy: str = "div",
                                 max_norm: Any = None) -> Tensor:
    """`embedding_lookup_sparse` of [d0, .., d_n, any] that allows invalid ids and empty rows: [d0, .., d_n, embedding size].

    Ids below 0 and, unless the combiner is "sum", weights of at most 0 are left out.  A row without ids gives the embedding of
    `default_id`, or zeros when there is none.

    Raises:
        ValueError: no embeddings, or of several dtypes.
    """
    if embedding_weights is None:
        raise ValueError("Missing embedding_weights")
    if isinstance(embedding_weights, PartitionedVariable):
        embedding_weights = list(embedding_weights)
    tables = list(embedding_weights) if isinstance(embedding_weights, (list, tuple)) else [embedding_weights]
    if not tables:
        raise ValueError(f"Missing embedding_weights {embedding_weights!r}.")
    ids = _sparse(sparse_ids, "sparse_ids")
    weights = None if sparse_weights is None else _sparse(sparse_weights, "sparse_weights")
    with _scope(name, "embedding_lookup"):
        rank = len(ids.shape.dims) if ids.shape.dims is not None else None
        outer = ids.dense_shape[:-1]
        if rank != 2:  # all but the last dimension as one
            ids = _flattened(ids)
            weights = None if weights is None else SparseTensor(ids.indices, weights.values, ids.dense_shape)
        valid = math_ops.greater_equal(ids.values, 0)
        if weights is not None and combiner != "sum":
            valid = math_ops.logical_and(valid, math_ops.greater(weights.values, 0))
        ids = sparse_retain(ids, valid)
        weights = None if weights is None else sparse_retain(weights, valid)
        ids, empty = sparse_fill_empty_rows(ids, default_id or 0)
        weights = None if weights is None else sparse_fill_empty_rows(weights, 1.0)[0]
        found = embedding_lookup_sparse(tables, ids, weights, partition_strategy, combiner=combiner, max_norm=max_norm)
        if default_id is None:
            found = array_ops.where_v2(array_ops.reshape(empty, [-1, 1]), array_ops.zeros_like(found), found)
        if rank == 2:
            return found
        final = array_ops.reshape(found, array_ops.concat([math_ops.cast(outer, types.int32), array_ops.shape(found)[1:]], 0))
        if rank is not None:
            final.set_shape([*[d.value for d in sparse_ids.shape[:-1]], *found.shape.as_list()[1:]])
        return final


def _flattened(ids: SparseTensor) -> SparseTensor:
    from .sparse_tensor import sparse_reshape

    shape = ids.dense_shape
    last = shape[-1]
    rows = math_ops.reduce_prod(shape[:-1])
    return sparse_reshape(ids, array_ops.stack([rows, last]))
