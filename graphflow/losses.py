"""`tf.losses`: weighted losses, kept in the collection LOSSES, and regularisation losses.

`weights` of every loss is a number, or a tensor of the losses' rank whose sizes are 1 or theirs: it scales each element's
loss, and 0 leaves it out of the mean.
"""
from __future__ import annotations

from typing import Any

from . import array_ops, graph, math_ops, nn, types
from .graph import GraphKeys, Tensor
from .ops.elementwise import select, stop_gradient
from .ops.opdef import constant_value, convert_to_tensor

__all__ = ["Reduction", "absolute_difference", "add_loss", "compute_weighted_loss", "cosine_distance", "get_losses",
           "get_regularization_loss",
           "get_regularization_losses", "get_total_loss", "hinge_loss", "huber_loss", "log_loss", "mean_pairwise_squared_error",
           "mean_squared_error", "sigmoid_cross_entropy", "softmax_cross_entropy", "sparse_softmax_cross_entropy"]


class Reduction:
    """How the losses of elements become one."""

    NONE = "none"
    SUM = "weighted_sum"
    SUM_OVER_BATCH_SIZE = "weighted_sum_over_batch_size"
    MEAN = "weighted_mean"
    SUM_OVER_NONZERO_WEIGHTS = "weighted_sum_by_nonzero_weights"
    SUM_BY_NONZERO_WEIGHTS = SUM_OVER_NONZERO_WEIGHTS

    @classmethod
    def all(cls) -> tuple[str, ...]:
        return cls.NONE, cls.SUM, cls.MEAN, cls.SUM_OVER_BATCH_SIZE, cls.SUM_OVER_NONZERO_WEIGHTS

    @classmethod
    def validate(cls, key: str) -> None:
        if key not in cls.all():
            raise ValueError(f"Invalid Reduction Key {key}; expected one of {cls.all()}.")


def _scope(name: str | None, default: str) -> Any:
    return graph.get_default_graph().name_scope(name or default)


def _float(x: Any) -> Tensor:
    x = convert_to_tensor(x)
    return x if x.dtype is types.float32 else math_ops.cast(x, types.float32)


def _divide_or_zero(total: Tensor, count: Tensor) -> Tensor:
    """total / count, or 0 where the count is 0; the gradient is finite in both cases."""
    return select(math_ops.greater(count, 0.0), total / select(math_ops.greater(count, 0.0), count, 1.0), 0.0)


def _check_weights(weights: Tensor, losses: Tensor) -> None:
    """Raises ValueError unless the weights are a scalar or broadcast against the losses without new dimensions."""
    w, v = weights.sizes, losses.sizes
    if w is None or v is None or not w:
        return
    if len(w) != len(v) or any(types.same(a, 1) is False and types.same(a, b) is False for a, b in zip(w, v)):
        raise ValueError(f"weights can not be broadcast to values. values.rank={len(v)}. weights.rank={len(w)}. "
                         f"values.shape={losses.shape}. weights.shape={weights.shape}.")


def _count(losses: Tensor) -> Tensor:
    return math_ops.cast(array_ops.size(losses), types.float32)


def _present(losses: Tensor, weights: Tensor) -> Tensor:
    """How many elements have a weight other than 0."""
    value = constant_value(weights)
    if value is not None and value.ndim == 0 and value != 0:
        return _count(losses)
    nonzero = math_ops.cast(math_ops.not_equal(weights, 0.0), types.float32)
    return math_ops.reduce_sum(nonzero + array_ops.zeros_like(losses))


def compute_weighted_loss(losses: Any, weights: Any = 1.0, scope: str | None = None, loss_collection: str | None = GraphKeys.LOSSES,
                          reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS) -> Tensor:
    """losses * weights, reduced to a scalar and put into `loss_collection`; the result has the dtype of `losses`.

    Raises:
        ValueError: an unknown reduction, or weights that do not fit.
    """
    Reduction.validate(reduction)
    with _scope(scope, "weighted_loss"):
        losses = convert_to_tensor(losses)
        given = losses.dtype
        values, weights = _float(losses), _float(weights)
        _check_weights(weights, values)
        weighted = values * weights
        if reduction == Reduction.NONE:
            loss = weighted
        else:
            loss = math_ops.reduce_sum(weighted)
            if reduction == Reduction.MEAN:
                loss = _divide_or_zero(loss, math_ops.reduce_sum(array_ops.ones_like(values) * weights))
            elif reduction == Reduction.SUM_OVER_NONZERO_WEIGHTS:
                loss = _divide_or_zero(loss, _present(values, weights))
            elif reduction == Reduction.SUM_OVER_BATCH_SIZE:
                loss = _divide_or_zero(loss, _count(values))
        loss = loss if given is types.float32 else math_ops.cast(loss, given)
        add_loss(loss, loss_collection)
        return loss


def _pair(labels: Any, predictions: Any, what: str = "predictions") -> tuple[Tensor, Tensor]:
    """Both as float32 tensors of one shape.  Raises ValueError when one is missing or the shapes differ."""
    if labels is None:
        raise ValueError("labels must not be None.")
    if predictions is None:
        raise ValueError(f"{what} must not be None.")
    predictions, labels = _float(predictions), _float(labels)
    if not predictions.shape.is_compatible_with(labels.shape):
        raise ValueError(f"Shapes {predictions.shape} and {labels.shape} are incompatible")
    return labels, predictions


def absolute_difference(labels: Any, predictions: Any, weights: Any = 1.0, scope: str | None = None,
                        loss_collection: Any = GraphKeys.LOSSES,
                        reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS) -> Tensor:
    """|predictions - labels|."""
    with _scope(scope, "absolute_difference") as name:
        labels, predictions = _pair(labels, predictions)
        return compute_weighted_loss(math_ops.abs(predictions - labels), weights, name, loss_collection, reduction)


def mean_squared_error(labels: Any, predictions: Any, weights: Any = 1.0, scope: str | None = None, loss_collection: Any = GraphKeys.LOSSES,
                       reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS) -> Tensor:
    """(predictions - labels)^2."""
    with _scope(scope, "mean_squared_error") as name:
        labels, predictions = _pair(labels, predictions)
        return compute_weighted_loss(math_ops.squared_difference(predictions, labels), weights, name, loss_collection, reduction)


def cosine_distance(labels: Any, predictions: Any, axis: int | None = None, weights: Any = 1.0, scope: str | None = None,
                    loss_collection: Any = GraphKeys.LOSSES, reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS,
                    dim: int | None = None) -> Tensor:
    """1 - the product of labels and predictions (unit vectors) summed along `axis`."""
    axis = dim if axis is None else axis
    if axis is None:
        raise ValueError("You must specify 'axis'.")
    with _scope(scope, "cosine_distance_loss") as name:
        labels, predictions = _pair(labels, predictions)
        return compute_weighted_loss(1.0 - math_ops.reduce_sum(predictions * labels, axis, keepdims=True), weights, name, loss_collection,
                                     reduction)


def hinge_loss(labels: Any, logits: Any, weights: Any = 1.0, scope: str | None = None, loss_collection: Any = GraphKeys.LOSSES,
               reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS) -> Tensor:
    """max(0, 1 - y logits), where y is -1 for label 0 and 1 for label 1."""
    with _scope(scope, "hinge_loss") as name:
        labels, logits = _pair(labels, logits, "logits")
        return compute_weighted_loss(nn.relu(1.0 - (2.0 * labels - 1.0) * logits), weights, name, loss_collection, reduction)


def huber_loss(labels: Any, predictions: Any, weights: Any = 1.0, delta: float = 1.0, scope: str | None = None,
               loss_collection: Any = GraphKeys.LOSSES,
               reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS) -> Tensor:
    """e^2 / 2 for |e| <= delta, else delta |e| - delta^2 / 2."""
    with _scope(scope, "huber_loss") as name:
        labels, predictions = _pair(labels, predictions)
        error = math_ops.abs(predictions - labels)
        quadratic = math_ops.minimum(error, delta)
        return compute_weighted_loss(0.5 * quadratic * quadratic + delta * (error - quadratic), weights, name, loss_collection, reduction)


def log_loss(labels: Any, predictions: Any, weights: Any = 1.0, epsilon: float = 1e-7, scope: str | None = None,
             loss_collection: Any = GraphKeys.LOSSES, reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS) -> Tensor:
    """-labels log(predictions + epsilon) - (1 - labels) log(1 - predictions + epsilon)."""
    with _scope(scope, "log_loss") as name:
        labels, predictions = _pair(labels, predictions)
        losses = -labels * math_ops.log(predictions + epsilon) - (1.0 - labels) * math_ops.log(1.0 - predictions + epsilon)
        return compute_weighted_loss(losses, weights, name, loss_collection, reduction)


def mean_pairwise_squared_error(labels: Any, predictions: Any, weights: Any = 1.0, scope: str | None = None,
                                loss_collection: Any = GraphKeys.LOSSES) -> Tensor:
    """Mean over pairs (i, j) of one sample's elements of ((p_i - p_j) - (l_i - l_j))^2, summed over the samples.

    With d = predictions - labels and n elements a sample, that is 2 sum(d^2) / (n - 1) - 2 (sum d)^2 / (n (n - 1)).
    """
    with _scope(scope, "mean_pairwise_squared_error"):
        labels, predictions = _pair(labels, predictions)
        weights = _float(weights)
        difference = predictions - labels
        axes = list(range(1, difference.shape.ndims))
        squares = math_ops.reduce_sum(difference * difference, axes, keepdims=True)
        total = math_ops.reduce_sum(difference, axes, keepdims=True)
        n = _count(difference) / math_ops.maximum(_count(total), 1.0)
        pairs = math_ops.maximum(n - 1.0, 1.0)
        losses = (squares / pairs - total * total / (n * pairs)) * 2.0
        _check_weights(weights, losses)
        loss = math_ops.reduce_sum(losses * weights)
        # No weight at all gives 0, as for the other losses.
        loss = select(math_ops.greater(_present(losses, weights), 0.0), loss, 0.0)
        add_loss(loss, loss_collection)
        return loss


def sigmoid_cross_entropy(multi_class_labels: Any, logits: Any, weights: Any = 1.0, label_smoothing: float = 0, scope: str | None = None,
                          loss_collection: Any = GraphKeys.LOSSES, reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS) -> Tensor:
    """Cross entropy of independent labels; smoothing moves labels toward 1/2."""
    if multi_class_labels is None or logits is None:
        raise ValueError("multi_class_labels and logits must not be None.")
    with _scope(scope, "sigmoid_cross_entropy_loss") as name:
        logits = convert_to_tensor(logits)
        labels = math_ops.cast(convert_to_tensor(multi_class_labels), logits.dtype)
        if label_smoothing:
            labels = labels * (1.0 - label_smoothing) + 0.5 * label_smoothing
        return compute_weighted_loss(nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits), weights, name, loss_collection,
                                     reduction)


def softmax_cross_entropy(onehot_labels: Any, logits: Any, weights: Any = 1.0, label_smoothing: float = 0, scope: str | None = None,
                          loss_collection: Any = GraphKeys.LOSSES, reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS) -> Tensor:
    """Cross entropy of distributions over the last axis; smoothing moves them toward the uniform one.  No gradient flows to the labels."""
    if onehot_labels is None or logits is None:
        raise ValueError("onehot_labels and logits must not be None.")
    with _scope(scope, "softmax_cross_entropy_loss") as name:
        logits = convert_to_tensor(logits)
        labels = math_ops.cast(convert_to_tensor(onehot_labels), logits.dtype)
        if not logits.shape.is_compatible_with(labels.shape):
            raise ValueError(f"Shapes {logits.shape} and {labels.shape} are incompatible")
        if label_smoothing:
            labels = labels * (1.0 - label_smoothing) + label_smoothing / labels.shape[-1].value
        losses = nn.softmax_cross_entropy_with_logits_v2(labels=stop_gradient(labels), logits=logits)
        return compute_weighted_loss(losses, weights, name, loss_collection, reduction)


def sparse_softmax_cross_entropy(labels: Any, logits: Any, weights: Any = 1.0, scope: str | None = None,
                                 loss_collection: Any = GraphKeys.LOSSES,
                                 reduction: str = Reduction.SUM_BY_NONZERO_WEIGHTS) -> Tensor:
    """Cross entropy of integer labels [...] and logits [..., classes]; labels [..., 1] and weights [..., 1] are squeezed."""
    if labels is None or logits is None:
        raise ValueError("labels and logits must not be None.")
    with _scope(scope, "sparse_softmax_cross_entropy_loss") as name:
        logits, labels, weights = convert_to_tensor(logits), convert_to_tensor(labels), convert_to_tensor(weights)
        rank = logits.shape.ndims
        labels, weights = (array_ops.squeeze(t, [-1]) if rank is not None and t.shape.ndims == rank else t for t in (labels, weights))
        losses = nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
        return compute_weighted_loss(losses, weights, name, loss_collection, reduction)


# ---------------------------------------------------------------- the collections


def add_loss(loss: Tensor, loss_collection: str | None = GraphKeys.LOSSES) -> None:
    """Puts a loss into the collection, unless it is None."""
    if loss_collection:
        loss.graph.add_to_collection(loss_collection, loss)


def get_losses(scope: str | None = None, loss_collection: str = GraphKeys.LOSSES) -> list[Tensor]:
    return graph.get_default_graph().get_collection(loss_collection, scope)


def get_regularization_losses(scope: str | None = None) -> list[Tensor]:
    return graph.get_default_graph().get_collection(GraphKeys.REGULARIZATION_LOSSES, scope)


def get_regularization_loss(scope: str | None = None, name: str = "total_regularization_loss") -> Tensor:
    """The sum of the regularisation losses; 0 when there are none."""
    found = get_regularization_losses(scope)
    return math_ops.add_n(found, name=name) if found else convert_to_tensor(0.0)


def get_total_loss(add_regularization_losses: bool = True, name: str = "total_loss", scope: str | None = None) -> Tensor:
    """The sum of the losses and the regularisation losses.  Raises ValueError when there are none at all."""
    found = get_losses(scope) + (get_regularization_losses(scope) if add_regularization_losses else [])
    if not found:
        raise ValueError("No losses in the collections; make one with tf.losses first.")
    return math_ops.add_n(found, name=name)
