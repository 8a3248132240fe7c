"""The model of the MNIST tutorial: two hidden layers of ReLUs and a softmax."""
from __future__ import annotations

import math
from typing import Any

from .... import losses, math_ops, nn, train, types
from ....framework import name_scope
from ....graph import Operation, Tensor
from ....ops.contraction import matmul
from ....random_ops import truncated_normal
from ....variables import Variable

NUM_CLASSES = 10
IMAGE_SIZE = 28
IMAGE_PIXELS = IMAGE_SIZE * IMAGE_SIZE


def inference(images: Any, hidden1_units: int, hidden2_units: int) -> Tensor:
    """Logits [batch, 10] of images [batch, 784]; the layers' scopes are hidden1, hidden2 and softmax_linear."""
    sizes = [IMAGE_PIXELS, hidden1_units, hidden2_units, NUM_CLASSES]
    outputs = images
    for scope, inner, outer in zip(("hidden1", "hidden2", "softmax_linear"), sizes, sizes[1:]):
        with name_scope(scope):
            weights = Variable(truncated_normal([inner, outer], stddev=1.0 / math.sqrt(inner)), name="weights")
            biases = Variable([0.0] * outer, name="biases")
            outputs = matmul(outputs, weights) + biases
            if scope != "softmax_linear":
                outputs = nn.relu(outputs)
    return outputs


def loss(logits: Any, labels: Any) -> Tensor:
    """The mean cross entropy of logits [batch, 10] for the class numbers `labels` [batch]."""
    return losses.sparse_softmax_cross_entropy(labels=math_ops.cast(labels, types.int64), logits=logits)


def training(loss: Any, learning_rate: Any) -> Operation:
    """A step of gradient descent; writes a summary of the loss and counts in the variable "global_step"."""
    from .... import summary

    summary.scalar("loss", loss)
    step = Variable(0, name="global_step", trainable=False)
    return train.GradientDescentOptimizer(learning_rate).minimize(loss, global_step=step)


def evaluation(logits: Any, labels: Any) -> Tensor:
    """How many of the labels [batch] have the largest logit: int32 scalar."""
    return math_ops.reduce_sum(math_ops.cast(nn.in_top_k(logits, labels, 1), types.int32))
