"""The part of `tf.metrics` that ranks: precision, recall and average precision of the k best classes."""
from __future__ import annotations

from contextlib import contextmanager
from typing import Any, Callable, Iterator

from . import array_ops, graph, math_ops, types
from .graph import Tensor
from .metrics import _published, _variable
from .ops import state
from .ops.opdef import convert_to_tensor
from .sparse_tensor import SparseTensor, SparseTensorValue, sparse_tensor_to_dense

__all__ = ["average_precision_at_k", "precision_at_k", "precision_at_top_k", "recall_at_k", "recall_at_top_k",
           "sparse_average_precision_at_k", "sparse_precision_at_k"]

_NOTHING = types.int64.min  # fills the rows of sparse labels


def _name(what: str, k: int | None, class_id: int | None = None) -> str:
    return f"{what}_at_{'k' if k is None else k}" + ("" if class_id is None else f"_class{class_id}")


@contextmanager
def _scope(name: str | None, default: str) -> Iterator[str]:
    with graph.get_default_graph().name_scope(name or default) as scope:
        yield scope


def _labels(labels: Any, predictions: Tensor) -> Tensor:
    """Labels [..., number of them] as int64; a missing last dimension is one label each."""
    if isinstance(labels, (SparseTensor, SparseTensorValue)):
        sparse = SparseTensor(labels.indices, math_ops.cast(labels.values, types.int64), labels.dense_shape)
        labels = sparse_tensor_to_dense(sparse, default_value=_NOTHING, validate_indices=False)
    labels = math_ops.cast(convert_to_tensor(labels), types.int64)
    rank, wanted = labels.shape.ndims, predictions.shape.ndims
    if rank is None or wanted is None or rank == wanted:
        return labels
    if wanted != rank + 1:
        raise ValueError(f"Unexpected labels shape {labels.shape} for predictions shape {predictions.shape}. Predictions rank should be "
                         "the same rank as labels rank or labels rank plus one.")
    return array_ops.expand_dims(labels, -1)


def _distinct(x: Tensor) -> Tensor:
    """Where in the last dimension a value stands first."""
    equal = math_ops.equal(array_ops.expand_dims(x, -1), array_ops.expand_dims(x, -2))
    size = array_ops.shape(x)[-1]
    place = math_ops.cast(array_ops.range(size), types.int32)
    earlier = math_ops.less(place[None, :], place[:, None])
    return math_ops.logical_not(math_ops.reduce_any(math_ops.logical_and(equal, earlier), -1))


def _members(x: Tensor, others: Tensor) -> Tensor:
    """Which of the last dimension of `x` are among `others`."""
    return math_ops.reduce_any(math_ops.equal(array_ops.expand_dims(x, -1), array_ops.expand_dims(others, -2)), -1)


def _count(which: Tensor, weights: Any) -> Tensor:
    found = math_ops.reduce_sum(math_ops.cast(which, types.float64), -1)
    return found if weights is None else found * math_ops.cast(weights, types.float64)


def _counted(kind: str, labels: Tensor, predictions: Tensor, k: int | None, class_id: int | None, weights: Any) -> tuple[Any, Any]:
    """(variable, its update) of the true or false positives or the false negatives."""
    name = _name(kind, k, class_id)
    valid = math_ops.logical_and(_distinct(labels), math_ops.not_equal(labels, _NOTHING))
    said = _distinct(predictions)
    if class_id is not None:
        valid = math_ops.logical_and(valid, math_ops.equal(labels, class_id))
        said = math_ops.logical_and(said, math_ops.equal(predictions, class_id))
    if kind == "false_negative":
        which = math_ops.logical_and(valid, math_ops.logical_not(_members(labels, predictions)))
    else:
        right = _members(predictions, labels)
        which = math_ops.logical_and(said, right if kind == "true_positive" else math_ops.logical_not(right))
    total = _variable([], types.float64, name)
    return total, state.assign_add(total, math_ops.reduce_sum(_count(which, weights)))


def _top(other: str, what: str, text: str) -> Callable[..., tuple[Any, Any]]:
    def metric(labels: Any, predictions_idx: Any, k: int | None = None, class_id: int | None = None, weights: Any = None,
               metrics_collections: Any = None, updates_collections: Any = None, name: str | None = None) -> tuple[Any, Any]:
        with _scope(name, _name(what, k, class_id)) as scope:
            predictions = math_ops.cast(convert_to_tensor(predictions_idx), types.int64)
            wanted = _labels(labels, predictions)
            hits, hits_update = _counted("true_positive", wanted, predictions, k, class_id, weights)
            others, others_update = _counted(other, wanted, predictions, k, class_id, weights)
            update = math_ops.truediv(hits_update, hits_update + others_update, name="update")
            return _published(math_ops.truediv(hits, hits + others, name=scope), update, metrics_collections, updates_collections)
    metric.__name__ = metric.__qualname__ = f"{what}_at_top_k"
    metric.__doc__ = text + """

    Args:
        labels: classes [..., labels of the row] or [...], int64, or a SparseTensor of them.
        predictions_idx: the classes that are predicted, [..., k].
        class_id: counts one class alone.
        weights: of each row.

    Returns:
        (value, update_op), float64; NaN while nothing is counted.
    """
    return metric


precision_at_top_k = _top("false_positive", "precision", "The share of predicted classes that are labels.")
recall_at_top_k = _top("false_negative", "recall", "The share of labels that are among the predicted classes.")


def _ranked(of_top: Callable[..., Any], what: str) -> Callable[..., tuple[Any, Any]]:
    def metric(labels: Any, predictions: Any, k: int, class_id: int | None = None, weights: Any = None, metrics_collections: Any = None,
               updates_collections: Any = None, name: str | None = None) -> tuple[Any, Any]:
        with _scope(name, _name(what, k, class_id)) as scope:
            _, best = array_ops.top_k(predictions, k)
            return of_top(labels, best, k, class_id, weights, metrics_collections, updates_collections, name=scope)
    metric.__name__ = metric.__qualname__ = f"{what}_at_k"
    metric.__doc__ = f"`{what}_at_top_k` of the `k` classes with the largest `predictions` [..., classes]."
    return metric


precision_at_k, recall_at_k = _ranked(precision_at_top_k, "precision"), _ranked(recall_at_top_k, "recall")
sparse_precision_at_k = precision_at_k


def average_precision_at_k(labels: Any, predictions: Any, k: int, weights: Any = None, metrics_collections: Any = None,
                           updates_collections: Any = None, name: str | None = None) -> tuple[Any, Any]:
    """The mean over rows of the average precision: that of the j best classes, for each j <= k whose class is a label, over min(labels, k).

    Args:
        labels: classes [..., labels of the row] or [...], int64, or a SparseTensor of them; those outside the classes do not count.
        predictions: [..., classes].
        weights: of each row.

    Raises:
        ValueError: k < 1.
    """
    if k < 1:
        raise ValueError(f"Invalid k={k}. `k` should be >= 1.")
    with _scope(name, _name("average_precision", k)) as scope:
        predictions = convert_to_tensor(predictions)
        best = math_ops.cast(array_ops.top_k(predictions, k)[1], types.int64)
        wanted = _labels(labels, predictions)
        classes = math_ops.cast(array_ops.shape(predictions)[-1], types.int64)
        inside = math_ops.logical_and(math_ops.greater_equal(wanted, 0), math_ops.less(wanted, classes))
        right = math_ops.cast(_members(best, wanted), types.float64)  # [..., k]
        precision = math_ops.cumsum(right, -1) / math_ops.cast(array_ops.range(1, k + 1), types.float64)
        relevant = math_ops.minimum(math_ops.reduce_sum(math_ops.cast(inside, types.float64), -1), float(k))
        average = math_ops.reduce_sum(precision * right, -1) / relevant
        scale = array_ops.ones_like(average)
        if weights is not None:
            scale = scale * math_ops.cast(weights, types.float64)
        most, total = _variable([], types.float64, "max"), _variable([], types.float64, "total")
        updates = [state.assign_add(v, math_ops.reduce_sum(x)) for v, x in ((most, scale), (total, average * scale))]
        value = math_ops.div_no_nan(total.value(), most.value(), name="mean")
        return _published(value, math_ops.div_no_nan(updates[1], updates[0], name=scope), metrics_collections, updates_collections)


sparse_average_precision_at_k = average_precision_at_k
