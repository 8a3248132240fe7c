"""A linear map whose variables lie in the current scope, and the cells of `tf.contrib.rnn` that put one, or an embedding, before or
behind another cell."""
from __future__ import annotations

import math
from typing import Any

import graphflow as tf

from ..rnn_cell import RNNCell, assert_like_rnncell

__all__ = ["EmbeddingWrapper", "InputProjectionWrapper", "OutputProjectionWrapper"]


def linear(args: Any, output_size: int, bias: bool = True) -> Any:
    """[args side by side] kernel + bias, with the variables `kernel` and `bias` (zeros) of the current scope.

    Raises:
        ValueError: no args, or one that is not a matrix [batch, depth] of known depth.
    """
    args = list(args) if isinstance(args, (list, tuple)) else [args]
    if not args:
        raise ValueError("`args` must be specified")
    for x in args:
        if x.shape.ndims != 2:
            raise ValueError(f"linear is expecting 2D arguments: {[a.shape for a in args]}")
        if x.shape[1].value is None:
            raise ValueError(f"linear expects shape[1] to be provided for shape {x.shape}, but saw {x.shape[1]}")
    depth, dtype = sum(x.shape[1].value for x in args), args[0].dtype
    kernel = tf.get_variable("kernel", [depth, output_size], dtype=dtype)
    found = tf.matmul(args[0] if len(args) == 1 else tf.concat(args, 1), kernel)
    return tf.nn.bias_add(found, tf.get_variable("bias", [output_size], dtype=dtype, initializer=tf.zeros_initializer())) if bias else found


class _Around(RNNCell):
    """A cell with a scope of its own around another's."""

    def __init__(self, cell: Any, reuse: Any = None):
        super().__init__(_reuse=reuse)
        assert_like_rnncell("cell", cell)
        self._cell = cell

    state_size = property(lambda self: self._cell.state_size)
    output_size = property(lambda self: self._cell.output_size)

    def zero_state(self, batch_size: Any, dtype: Any) -> Any:
        with tf.name_scope(type(self).__name__ + "ZeroState", values=[batch_size]):
            return self._cell.zero_state(batch_size, dtype)


class EmbeddingWrapper(_Around):
    """A cell whose inputs are ids [batch], looked up in a table (variable `embedding`).

    Args:
        embedding_classes: rows of the table.
        embedding_size: its columns.
        initializer: by default that of the scope, else uniform with variance 1.

    Raises:
        ValueError: no rows or columns.
    """

    def __init__(self, cell: Any, embedding_classes: int, embedding_size: int, initializer: Any = None, reuse: Any = None):
        super().__init__(cell, reuse)
        if embedding_classes <= 0 or embedding_size <= 0:
            raise ValueError(f"Both embedding_classes and embedding_size must be > 0: {embedding_classes}, {embedding_size}.")
        self._shape, self._initializer = [embedding_classes, embedding_size], initializer

    def call(self, inputs: Any, state: Any) -> Any:
        bound = math.sqrt(3)
        initializer = self._initializer or tf.get_variable_scope().initializer or tf.random_uniform_initializer(-bound, bound)
        dtype = (state[0] if isinstance(state, tuple) else state).dtype
        table = tf.get_variable("embedding", self._shape, initializer=initializer, dtype=dtype)
        return self._cell(tf.nn.embedding_lookup(table, tf.reshape(inputs, [-1])), state)


class InputProjectionWrapper(_Around):
    """A cell behind a linear map of its inputs to `num_proj` (variables `kernel`, `bias`), and an activation."""

    def __init__(self, cell: Any, num_proj: int, activation: Any = None, input_size: Any = None, reuse: Any = None):
        super().__init__(cell, reuse)
        self._num_proj, self._activation = num_proj, activation

    def call(self, inputs: Any, state: Any) -> Any:
        projected = linear(inputs, self._num_proj)
        return self._cell(projected if self._activation is None else self._activation(projected), state)


class OutputProjectionWrapper(_Around):
    """A cell whose outputs go through a linear map to `output_size` (variables `kernel`, `bias`), and an activation.

    Raises:
        ValueError: `output_size` is not positive.
    """

    def __init__(self, cell: Any, output_size: int, activation: Any = None, reuse: Any = None):
        super().__init__(cell, reuse)
        if output_size < 1:
            raise ValueError(f"Parameter output_size must be > 0: {output_size}.")
        self._output_size, self._activation = output_size, activation

    output_size = property(lambda self: self._output_size)

    def call(self, inputs: Any, state: Any) -> Any:
        output, state = self._cell(inputs, state)
        projected = linear(output, self._output_size)
        return projected if self._activation is None else self._activation(projected), state
