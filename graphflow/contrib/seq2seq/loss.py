"""`sequence_loss`: the cross entropy of sequences, weighted by element."""
from __future__ import annotations

from typing import Any

import graphflow as tf

__all__ = ["sequence_loss"]


def sequence_loss(logits: Any, targets: Any, weights: Any, average_across_timesteps: bool = True, average_across_batch: bool = True,
                  sum_over_timesteps: bool = False, sum_over_batch: bool = False, softmax_loss_function: Any = None,
                  name: str | None = None) -> Any:
    """The weighted cross entropy of each element, then its sums over time, over the batch, or both, or none.

    Args:
        logits: [batch, time, classes].
        targets: class numbers, an int tensor [batch, time].
        weights: a float tensor [batch, time], 0 where a sequence has ended.
        average_across_timesteps, average_across_batch: divide the sum by the sum of the weights; 0 where that is 0.
        sum_over_timesteps, sum_over_batch: divide the sum by the number of weights that are not 0.
        softmax_loss_function: called with `labels` [batch * time] and `logits` [batch * time, classes], in place of the cross entropy.

    Returns:
        A scalar; with only one axis reduced, [batch] or [time]; with none, [batch, time].

    Raises:
        ValueError: a tensor of another rank; an average and a sum that contradict each other.
    """
    logits, targets, weights = tf.convert_to_tensor(logits), tf.convert_to_tensor(targets), tf.convert_to_tensor(weights)
    if len(logits.shape) != 3:
        raise ValueError(f"Logits must be a [batch_size x sequence_length x logits] tensor, got shape {logits.shape}")
    for what, x in (("Targets", targets), ("Weights", weights)):
        if len(x.shape) != 2:
            raise ValueError(f"{what} must be a [batch_size x sequence_length] tensor, got shape {x.shape}")
    for a, b, why in ((average_across_timesteps and sum_over_timesteps, "average_across_timesteps and sum_over_timesteps", ""),
                      (average_across_batch and sum_over_batch, "average_across_batch and sum_over_batch", ""),
                      (average_across_batch and sum_over_timesteps, "average_across_batch and sum_over_timesteps", " of ambiguous order"),
                      (sum_over_batch and average_across_timesteps, "sum_over_batch and average_across_timesteps", " of ambiguous order")):
        if a:
            raise ValueError(f"{b} cannot be set to True at same time{' because' + why if why else ''}.")
    with tf.name_scope(name, "sequence_loss", [logits, targets, weights]):
        rows = tf.reshape(logits, [-1, tf.shape(logits)[2]])
        labels = tf.reshape(targets, [-1])
        loss = softmax_loss_function or tf.nn.sparse_softmax_cross_entropy_with_logits
        losses = tf.reshape(loss(labels=labels, logits=rows) * tf.reshape(weights, [-1]), tf.shape(logits)[:2])
        axes = [axis for axis, wanted in enumerate((average_across_batch or sum_over_batch, average_across_timesteps or sum_over_timesteps))
                if wanted]
        if not axes:
            return losses
        counts = sum_over_batch or sum_over_timesteps
        total = tf.cast(tf.count_nonzero(weights, axis=axes), losses.dtype) if counts else tf.reduce_sum(weights, axes)
        return tf.div_no_nan(tf.reduce_sum(losses, axes), total)
