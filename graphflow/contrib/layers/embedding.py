"""Rows of embedding tables for ids."""
from __future__ import annotations

from typing import Any

from ... import array_ops, graph, math_ops, nn, types
from ...check_ops import assert_same_float_dtype
from ...graph import Tensor
from ...ops.elementwise import select
from ...ops.opdef import convert_to_tensor
from ...platform import logging
from ...sparse_tensor import SparseTensor, sparse_fill_empty_rows, sparse_reshape, sparse_retain
from ...variable_scope import variable_scope
from ..framework.variables import model_variable
from .simple import dense_to_sparse

__all__ = ["bow_encoder", "embed_sequence", "embedding_lookup_unique", "safe_embedding_lookup_sparse"]


def embed_sequence(ids: Any, vocab_size: int | None = None, embed_dim: int | None = None, unique: bool = False, initializer: Any = None,
                   regularizer: Any = None, trainable: bool = True, scope: Any = None, reuse: Any = None) -> Tensor:
    """Rows of the variable `embeddings` [vocab_size, embed_dim] for ids [batch, length]: [batch, length, embed_dim].

    Args:
        unique: look up each id of the batch once.
        reuse, scope: the scope is "EmbedSequence" by default; with `reuse` the sizes may be left out.

    Raises:
        ValueError: a size is missing.
    """
    if not (reuse or (vocab_size and embed_dim)):
        raise ValueError(f"Must specify vocab size and embedding dimension when not reusing. Got vocab_size={vocab_size} and "
                         f"embed_dim={embed_dim}")
    with variable_scope(scope, "EmbedSequence", [ids], reuse=reuse):
        shape = None if vocab_size is None or embed_dim is None else [vocab_size, embed_dim]
        embeddings = model_variable("embeddings", shape=shape, initializer=initializer, regularizer=regularizer, trainable=trainable)
        return embedding_lookup_unique(embeddings, ids) if unique else nn.embedding_lookup(embeddings, ids)


def embedding_lookup_unique(params: Any, ids: Any, partition_strategy: str = "mod", name: str | None = None) -> Tensor:
    """`tf.nn.embedding_lookup` that looks each different id up once: ids [...] -> [..., embedding]."""
    with graph.get_default_graph().name_scope(name or "EmbeddingLookupUnique"):
        ids = convert_to_tensor(ids)
        different, index = array_ops.unique(array_ops.reshape(ids, [-1]))
        rows = nn.embedding_lookup(params, different, partition_strategy)
        found = array_ops.reshape(array_ops.gather(rows, index), array_ops.concat([array_ops.shape(ids), array_ops.shape(rows)[1:]], 0))
        found.set_shape(ids.shape.concatenate(rows.shape[1:]))
        return found


def bow_encoder(ids: Any, vocab_size: int, embed_dim: int, sparse_lookup: bool = True, initializer: Any = None, regularizer: Any = None,
                trainable: bool = True, scope: Any = None, reuse: Any = None) -> Tensor:
    """The mean embedding of each row of ids [batch, length]: [batch, embed_dim].

    Args:
        sparse_lookup: leave out the ids 0 (or what a SparseTensor lacks); else take all.

    Raises:
        ValueError: a size is missing.  TypeError: sparse ids without `sparse_lookup`.
    """
    if not vocab_size or not embed_dim:
        raise ValueError("Must specify vocab size and embedding dimension")
    with variable_scope(scope, "bow_encoder", [ids], reuse=reuse):
        embeddings = model_variable("embeddings", shape=[vocab_size, embed_dim], initializer=initializer, regularizer=regularizer,
                                    trainable=trainable)
        if sparse_lookup:
            sparse = ids if isinstance(ids, SparseTensor) else dense_to_sparse(ids)
            return safe_embedding_lookup_sparse([embeddings], sparse, combiner="mean", default_id=0)
        if isinstance(ids, SparseTensor):
            raise TypeError(f"ids are expected to be dense Tensor, got: {ids}")
        return math_ops.reduce_mean(nn.embedding_lookup(embeddings, ids), axis=1)


def safe_embedding_lookup_sparse(embedding_weights: Any, sparse_ids: SparseTensor, sparse_weights: SparseTensor | None = None,
                                 combiner: str | None = None, default_id: int | None = None, name: str | None = None,
                                 partition_strategy: str = "div", max_norm: float | None = None) -> Tensor:
    """`tf.nn.embedding_lookup_sparse` that leaves out invalid ids (below 0) and weights (0 and below, unless summing).

    Args:
        sparse_ids: [d_0, ..., d_n] with ids along the last axis.
        combiner: "mean" (the default), "sqrtn" or "sum".
        default_id: the id of rows without any; by default such a row is zero.

    Returns:
        [d_0, ..., d_(n - 1), embedding].

    Raises:
        ValueError: no weights, or of several dtypes.
    """
    if combiner is None:
        logging.warn('The default value of combiner will change from "mean" to "sqrtn" after 2016/11/01.')
        combiner = "mean"
    tables = [] if embedding_weights is None else embedding_weights if isinstance(embedding_weights, (list, tuple)) else [embedding_weights]
    if not tables:
        raise ValueError(f"Missing embedding_weights {embedding_weights}.")
    assert_same_float_dtype([*tables, *([] if sparse_weights is None else [sparse_weights.values])])
    with graph.get_default_graph().name_scope(name or "embedding_lookup"):
        shape = sparse_ids.dense_shape
        known_rank = shape.shape[0].value
        rank = array_ops.size(shape) if known_rank is None else known_rank
        ids = sparse_reshape(sparse_ids, array_ops.stack([math_ops.reduce_prod(shape[:rank - 1]), shape[rank - 1]]))
        weights = None if sparse_weights is None else SparseTensor(ids.indices, sparse_weights.values, ids.dense_shape)
        valid = math_ops.greater_equal(ids.values, 0)
        if weights is not None and combiner != "sum":
            valid = math_ops.logical_and(valid, math_ops.greater(weights.values, 0))
        ids, weights = sparse_retain(ids, valid), None if weights is None else sparse_retain(weights, valid)
        ids, empty = sparse_fill_empty_rows(ids, default_id or 0)
        if weights is not None:
            weights, _ = sparse_fill_empty_rows(weights, 1.0)
        rows = nn.embedding_lookup_sparse(tables, ids, weights, partition_strategy=partition_strategy, combiner=combiner,
                                          max_norm=max_norm)
        if default_id is None:
            rows = select(array_ops.expand_dims(empty, 1), array_ops.zeros_like(rows), rows)
        outer = math_ops.cast(shape[:rank - 1], types.int32)
        found = array_ops.reshape(rows, array_ops.concat([outer, array_ops.shape(rows)[1:]], 0))
        if known_rank is not None:
            found.set_shape(types.TensorShape([None] * (known_rank - 1)).concatenate(rows.shape[1:]))
        return found
