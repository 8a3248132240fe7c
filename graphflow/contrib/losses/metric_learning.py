"""Losses that bring embeddings of one class together and take others apart."""
from __future__ import annotations

from typing import Any

from ... import array_ops, check_ops, graph, math_ops, nn, types
from ...graph import Tensor
from ...ops.contraction import matmul
from ...ops.elementwise import select
from ...ops.opdef import convert_to_tensor

__all__ = ["contrastive_loss", "lifted_struct_loss", "npairs_loss", "triplet_semihard_loss"]


def _scope(name: str) -> Any:
    return graph.get_default_graph().name_scope(name)


def pairwise_distance(feature: Any, squared: bool = False) -> Tensor:
    """Euclidean distances (or their squares) of the rows of [n, d]: [n, n], zeros on the diagonal."""
    feature = convert_to_tensor(feature)
    square = math_ops.reduce_sum(math_ops.square(feature), 1, keepdims=True)
    distances = math_ops.maximum(square + array_ops.transpose(square) - 2.0 * matmul(feature, feature, transpose_b=True), 0.0)
    positive = math_ops.cast(math_ops.greater(distances, 0.0), feature.dtype)
    if not squared:
        distances = math_ops.sqrt(distances + (1.0 - positive) * 1e-16)  # so that the gradient at 0 is finite
    return distances * positive * (1.0 - array_ops.eye(array_ops.shape(feature)[0], dtype=feature.dtype))


def _same_class(labels: Any) -> tuple[Tensor, Tensor]:
    """Whether two of the labels [n] are equal: [n, n], and the number n.  Raises ValueError for another rank."""
    labels = convert_to_tensor(labels)
    if labels.shape.ndims not in (1, None):
        raise ValueError(f"labels must be a vector, got shape {labels.shape}")
    column = array_ops.expand_dims(labels, 1)
    return math_ops.equal(column, array_ops.transpose(column)), array_ops.shape(labels)[0]


def _masked_maximum(data: Tensor, mask: Tensor, dim: int) -> Tensor:
    """The largest of the elements that the mask keeps; the smallest of all where it keeps none."""
    least = math_ops.reduce_min(data, dim, keepdims=True)
    return math_ops.reduce_max((data - least) * mask, dim, keepdims=True) + least


def _masked_minimum(data: Tensor, mask: Tensor, dim: int) -> Tensor:
    """The smallest of the elements that the mask keeps; the largest of all where it keeps none."""
    most = math_ops.reduce_max(data, dim, keepdims=True)
    return math_ops.reduce_min((data - most) * mask, dim, keepdims=True) + most


def contrastive_loss(labels: Any, embeddings_anchor: Any, embeddings_positive: Any, margin: float = 1.0) -> Tensor:
    """The mean of distance^2 for pairs of label 1, and of max(margin - distance, 0)^2 for pairs of label 0 (Hadsell et al. 2006)."""
    distances = math_ops.sqrt(math_ops.reduce_sum(math_ops.squared_difference(embeddings_anchor, embeddings_positive), 1))
    same = math_ops.cast(labels, distances.dtype)
    return math_ops.reduce_mean(same * math_ops.square(distances)
                                + (1.0 - same) * math_ops.square(math_ops.maximum(margin - distances, 0.0)), name="contrastive_loss")


def triplet_semihard_loss(labels: Any, embeddings: Any, margin: float = 1.0) -> Tensor:
    """The mean over pairs of one class of max(margin + d^2 - d_negative^2, 0) (Schroff et al. 2015).

    d_negative is the distance of the nearest embedding of another class that is farther than the pair; if there is none, of the
    farthest.
    """
    with _scope("triplet_semihard_loss"):
        distances = pairwise_distance(embeddings, squared=True)
        same, _ = _same_class(labels)
        other = math_ops.logical_not(same)
        # by anchor, positive, negative
        farther = math_ops.logical_and(array_ops.expand_dims(other, 1),
                                       math_ops.greater(array_ops.expand_dims(distances, 1), array_ops.expand_dims(distances, 2)))
        mask = math_ops.cast(farther, types.float32)
        outside = array_ops.squeeze(_masked_minimum(array_ops.expand_dims(distances, 1), mask, 2), [2])
        inside = _masked_maximum(distances, math_ops.cast(other, types.float32), 1)
        negative = select(math_ops.reduce_any(farther, 2), outside, inside)
        pairs = _pairs(same)
        return math_ops.reduce_sum(math_ops.maximum((margin + distances - negative) * pairs, 0.0)) / math_ops.reduce_sum(pairs)


def _pairs(same: Tensor) -> Tensor:
    """1 for each pair of one class, 0 on the diagonal."""
    return math_ops.cast(same, types.float32) - array_ops.eye(array_ops.shape(same)[0])


def npairs_loss(labels: Any, embeddings_anchor: Any, embeddings_positive: Any, reg_lambda: float = 0.002,
                print_losses: bool = False) -> Tensor:
    """The cross entropy of which positives belong to an anchor, by products of embeddings, and reg_lambda / 4 of their squares (Sohn
    2016).
    """
    anchor, positive = convert_to_tensor(embeddings_anchor), convert_to_tensor(embeddings_positive)
    squares = [math_ops.reduce_mean(math_ops.reduce_sum(math_ops.square(x), 1)) for x in (anchor, positive)]
    penalty = math_ops.multiply(0.25 * reg_lambda, squares[0] + squares[1], name="l2loss")
    same, _ = _same_class(labels)
    wanted = math_ops.cast(same, types.float32)
    wanted = wanted / math_ops.reduce_sum(wanted, 1, keepdims=True)
    entropy = math_ops.reduce_mean(nn.softmax_cross_entropy_with_logits(labels=wanted, logits=matmul(anchor, positive, transpose_b=True)),
                                   name="xentropy")
    if print_losses:
        entropy = check_ops.Print(entropy, ["cross entropy:", entropy, "l2loss:", penalty])
    return penalty + entropy


def lifted_struct_loss(labels: Any, embeddings: Any, margin: float = 1.0) -> Tensor:
    """For each pair of one class, max(d + log sum exp(margin - distance) over all negatives of both, 0)^2 / 4, by the number of pairs
    (Song et al. 2016).
    """
    with _scope("liftedstruct_loss"):
        distances = pairwise_distance(embeddings)
        same, n = _same_class(labels)
        mask = 1.0 - math_ops.cast(same, types.float32)
        closeness = margin - distances
        row = _masked_maximum(closeness, mask, 1)
        largest = math_ops.maximum(row, array_ops.transpose(row))
        # left[i, j]: the negatives of i, against the largest of i and j
        left = math_ops.reduce_sum(math_ops.exp(array_ops.expand_dims(closeness, 1) - array_ops.expand_dims(largest, 2))
                                   * array_ops.expand_dims(mask, 1), 2)
        losses = largest + math_ops.log(left + array_ops.transpose(left)) + distances
        pairs = _pairs(same)
        return 0.25 * math_ops.reduce_sum(math_ops.square(math_ops.maximum(losses * pairs, 0.0))) / (math_ops.reduce_sum(pairs) / 2.0)
