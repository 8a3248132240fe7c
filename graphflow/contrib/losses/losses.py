"""Weighted losses in TF1's older form: predictions before labels, weights of any of the leading axes.

`weights` is a number, or a tensor whose sizes are those of the losses' first axes: it scales each element's loss, and an
element of weight 0 does not count in the mean.
"""
from __future__ import annotations

from typing import Any

from ... import array_ops, graph, math_ops, nn, types
from ...graph import GraphKeys, Tensor
from ...ops.elementwise import select
from ...ops.opdef import convert_to_tensor
from ..framework.arg_scope import add_arg_scope

__all__ = ["absolute_difference", "add_loss", "compute_weighted_loss", "cosine_distance", "get_losses", "get_regularization_losses",
           "get_total_loss", "hinge_loss", "log_loss", "mean_pairwise_squared_error", "mean_squared_error", "sigmoid_cross_entropy",
           "softmax_cross_entropy", "sparse_softmax_cross_entropy"]


def _scope(name: str | None, default: str) -> Any:
    return graph.get_default_graph().name_scope(name or default)


def _float(x: Any) -> Tensor:
    return math_ops.cast(convert_to_tensor(x), types.float32)


def _pair(predictions: Any, labels: Any) -> tuple[Tensor, Tensor]:
    """Both as float32.  Raises ValueError when one is missing or the shapes differ."""
    if predictions is None or labels is None:
        raise ValueError("predictions and labels must not be None.")
    predictions, labels = _float(predictions), _float(labels)
    _same(predictions, labels)
    return predictions, labels


def _same(predictions: Tensor, labels: Tensor) -> None:
    if not predictions.shape.is_compatible_with(labels.shape):
        raise ValueError(f"Shapes {predictions.shape} and {labels.shape} are incompatible")


def _aligned(weights: Any, losses: Tensor) -> Tensor:
    """The weights with the losses' rank, 1 for the axes they lack.  Raises ValueError for an unknown or a higher rank."""
    weights = _float(weights)
    if losses.shape.ndims is None or weights.shape.ndims is None:
        raise ValueError(f"{'losses' if losses.shape.ndims is None else 'weights'}.get_shape().ndims cannot be None")
    if weights.shape.ndims > 1 and weights.shape[-1].is_compatible_with(1):
        weights = array_ops.squeeze(weights, [-1])
    missing = losses.shape.ndims - weights.shape.ndims
    if missing < 0:
        raise ValueError(f"weights of shape {weights.shape} have more axes than the losses, {losses.shape}")
    return array_ops.reshape(weights, array_ops.concat([array_ops.shape(weights), [1] * missing], 0)) if missing else weights


def _present(weights: Tensor, losses: Tensor) -> Tensor:
    """1 for each element whose weight is not 0."""
    return math_ops.cast(math_ops.not_equal(weights, 0.0), types.float32) + array_ops.zeros_like(losses)


def compute_weighted_loss(losses: Any, weights: Any = 1.0, scope: str | None = None) -> Tensor:
    """The mean of losses * weights over the elements whose weight is not 0, put into LOSSES; of the dtype of `losses`.

    Raises:
        ValueError: an unknown rank, or weights with more axes than the losses.
    """
    with _scope(scope, "weighted_loss"):
        losses = convert_to_tensor(losses)
        values = _float(losses)
        aligned = _aligned(weights, values)
        total = math_ops.reduce_sum(values * aligned)
        mean = math_ops.cast(math_ops.div_no_nan(total, math_ops.reduce_sum(_present(aligned, values)), name="value"), losses.dtype)
        add_loss(mean)
        return mean


@add_arg_scope
def add_loss(loss: Any, loss_collection: str | None = GraphKeys.LOSSES) -> None:
    """Puts a loss into a collection."""
    if loss_collection:
        graph.get_default_graph().add_to_collection(loss_collection, loss)


def get_losses(scope: str | None = None, loss_collection: str = GraphKeys.LOSSES) -> list[Any]:
    """The losses of a collection whose name matches `scope`."""
    return graph.get_default_graph().get_collection(loss_collection, scope)


def get_regularization_losses(scope: str | None = None) -> list[Any]:
    """The losses of REGULARIZATION_LOSSES whose name matches `scope`."""
    return graph.get_default_graph().get_collection(GraphKeys.REGULARIZATION_LOSSES, scope)


def get_total_loss(add_regularization_losses: bool = True, name: str = "total_loss") -> Tensor:
    """The sum of all losses, with those of regularization."""
    return math_ops.add_n(get_losses() + (get_regularization_losses() if add_regularization_losses else []), name=name)


def absolute_difference(predictions: Any, labels: Any = None, weights: Any = 1.0, scope: str | None = None) -> Tensor:
    """The weighted mean of |predictions - labels|."""
    with _scope(scope, "absolute_difference") as name:
        predictions, labels = _pair(predictions, labels)
        return compute_weighted_loss(math_ops.abs(predictions - labels), weights, name)


def mean_squared_error(predictions: Any, labels: Any = None, weights: Any = 1.0, scope: str | None = None) -> Tensor:
    """The weighted mean of (predictions - labels)^2."""
    with _scope(scope, "mean_squared_error") as name:
        return compute_weighted_loss(math_ops.squared_difference(*_pair(predictions, labels)), weights, name)


def log_loss(predictions: Any, labels: Any = None, weights: Any = 1.0, epsilon: float = 1e-7, scope: str | None = None) -> Tensor:
    """The weighted mean of -labels log(predictions + epsilon) - (1 - labels) log(1 - predictions + epsilon)."""
    with _scope(scope, "log_loss") as name:
        predictions, labels = _pair(predictions, labels)
        losses = -labels * math_ops.log(predictions + epsilon) - (1 - labels) * math_ops.log(1 - predictions + epsilon)
        return compute_weighted_loss(losses, weights, name)


def hinge_loss(logits: Any, labels: Any = None, scope: str | None = None) -> Tensor:
    """max(0, 1 - (2 labels - 1) logits), element by element; labels are 0 or 1.  It joins no collection."""
    with _scope(scope, "hinge_loss"):
        logits, labels = _pair(logits, labels)
        return nn.relu(1.0 - (2.0 * labels - 1.0) * logits)


def cosine_distance(predictions: Any, labels: Any = None, axis: int | None = None, weights: Any = 1.0, scope: str | None = None,
                    dim: int | None = None) -> Tensor:
    """The weighted mean of 1 - sum(predictions * labels) along `axis` (or `dim`); both are taken as unit vectors.

    Raises:
        ValueError: no axis, or two.
    """
    if axis is not None and dim is not None:
        raise ValueError("Cannot specify both 'axis' and 'dim'")
    axis = dim if axis is None else axis
    if axis is None:
        raise ValueError("You must specify 'axis'.")
    with _scope(scope, "cosine_distance_loss") as name:
        predictions, labels = _pair(predictions, labels)
        return compute_weighted_loss(1 - math_ops.reduce_sum(predictions * labels, [axis]), weights, name)


def mean_pairwise_squared_error(predictions: Any, labels: Any = None, weights: Any = 1.0, scope: str | None = None) -> Tensor:
    """Differences between pairs of elements of one example, in the predictions as in the labels: for d = predictions - labels,
    2 sum(d^2) / n - 2 sum(d)^2 / n^2 of each example with n elements, summed with the weights [batch] or a number.
    """
    with _scope(scope, "mean_pairwise_squared_error"):
        predictions, labels = _pair(predictions, labels)
        d = predictions - labels
        aligned = _aligned(weights, d)
        axes = list(range(1, d.shape.ndims))
        count = math_ops.reduce_sum(_present(aligned, d), axes)
        squares = 2.0 * math_ops.div_no_nan(math_ops.reduce_sum(math_ops.square(d), axes), count)
        mean = 2.0 * math_ops.div_no_nan(math_ops.square(math_ops.reduce_sum(d, axes)), math_ops.square(count))
        per_example = array_ops.reshape(aligned, array_ops.shape(aligned)[:1]) if aligned.shape.ndims else aligned
        total = math_ops.reduce_sum((squares - mean) * per_example)
        loss = select(math_ops.reduce_sum(count) > 0, total, array_ops.zeros_like(total))
        add_loss(loss)
        return loss


def sigmoid_cross_entropy(logits: Any, multi_class_labels: Any, weights: Any = 1.0, label_smoothing: float = 0,
                          scope: str | None = None) -> Tensor:
    """The weighted mean of the cross entropy of sigmoid(logits); `label_smoothing` moves the labels towards 1/2."""
    with _scope(scope, "sigmoid_cross_entropy_loss") as name:
        logits = convert_to_tensor(logits)
        labels = math_ops.cast(multi_class_labels, logits.dtype)
        _same(logits, labels)
        if label_smoothing > 0:
            labels = labels * (1 - label_smoothing) + 0.5 * label_smoothing
        return compute_weighted_loss(nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits, name="xentropy"), weights, name)


def softmax_cross_entropy(logits: Any, onehot_labels: Any, weights: Any = 1.0, label_smoothing: float = 0,
                          scope: str | None = None) -> Tensor:
    """The weighted mean of the cross entropy of softmax(logits) [batch, classes]; `label_smoothing` moves the labels towards 1/classes."""
    with _scope(scope, "softmax_cross_entropy_loss") as name:
        logits = convert_to_tensor(logits)
        labels = math_ops.cast(onehot_labels, logits.dtype)
        _same(logits, labels)
        if label_smoothing > 0:
            labels = labels * (1.0 - label_smoothing) + label_smoothing / math_ops.cast(array_ops.shape(labels)[1], logits.dtype)
        return compute_weighted_loss(nn.softmax_cross_entropy_with_logits(labels=labels, logits=logits, name="xentropy"), weights, name)


def sparse_softmax_cross_entropy(logits: Any, labels: Any, weights: Any = 1.0, scope: str | None = None) -> Tensor:
    """The weighted mean of the cross entropy of softmax(logits) [batch, classes] for class numbers [batch] or [batch, 1]."""
    with _scope(scope, "sparse_softmax_cross_entropy_loss") as name:
        labels = convert_to_tensor(labels)
        labels = array_ops.reshape(labels, array_ops.shape(labels)[:1])
        return compute_weighted_loss(nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits, name="xentropy"), weights,
                                     name)
