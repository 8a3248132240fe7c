"""Attention mechanisms: how much a query looks at each row of a memory.

A mechanism holds the memory (`values` [batch, time, depth]) and what the query is compared with (`keys` [batch, time, units]).
Called with a query [batch, depth] and its state, it returns the alignments [batch, time], numbers that sum to 1, and its next state.
"""
from __future__ import annotations

import functools
import math
from typing import Any, Callable

import graphflow as tf

from ... import nest
from ...layers.base import Layer
from ...rnn_cell import zeros

__all__ = ["AttentionMechanism", "BahdanauAttention", "BahdanauMonotonicAttention", "LuongAttention", "LuongMonotonicAttention", "hardmax",
           "monotonic_attention", "safe_cumprod"]


class AttentionMechanism:
    """Base of all mechanisms."""

    @property
    def alignments_size(self) -> Any:
        """The number of rows of the memory: an int, or a scalar tensor."""
        raise NotImplementedError

    @property
    def state_size(self) -> Any:
        raise NotImplementedError


class _Mechanism(AttentionMechanism):
    """A mechanism with layers for query and memory.

    Args:
        probability_fn: from the scores [batch, time] and the state to alignments.
        memory_sequence_length: an int vector [batch]; rows of the memory past it are zero and get `score_mask_value` (-inf) as score.
        check_inner_dims_defined: the memory's depth must be known.
        custom_key_value_fn: from (keys, values) to those used.

    Raises:
        TypeError: a layer that is none, a `probability_fn` that is no function.
        ValueError: the memory's depth is not known.
        InvalidArgumentError (when run): a length that is not positive.
    """

    def __init__(self, query_layer: Any, memory: Any, probability_fn: Callable[..., Any], memory_sequence_length: Any = None,
                 memory_layer: Any = None, check_inner_dims_defined: bool = True, score_mask_value: Any = None,
                 custom_key_value_fn: Any = None, name: str | None = None):
        for what, layer in (("query_layer", query_layer), ("memory_layer", memory_layer)):
            if layer is not None and not isinstance(layer, Layer):
                raise TypeError(f"{what} is not a Layer: {type(layer).__name__}")
        if not callable(probability_fn):
            raise TypeError(f"probability_fn must be callable, saw type: {type(probability_fn).__name__}")
        self._query_layer, self._memory_layer, self._fn = query_layer, memory_layer, probability_fn
        with tf.name_scope(name, "BaseAttentionMechanismInit", nest.flatten(memory)):
            memory = nest.map_structure(lambda m: tf.convert_to_tensor(m, name="memory"), memory)
            if check_inner_dims_defined:
                for m in nest.flatten(memory):
                    if not m.shape[2:].is_fully_defined():
                        raise ValueError(f"Expected memory {m.name} to have fully defined inner dims, but saw shape: {m.shape}")
            lengths = None if memory_sequence_length is None else _positive(memory_sequence_length)
            self._values = memory if lengths is None else nest.map_structure(lambda m: _masked(m, lengths), memory)
            self.dtype = memory_layer.dtype if memory_layer is not None else nest.flatten(memory)[0].dtype.name
            self._keys = memory_layer(self._values) if memory_layer is not None else self._values
            if custom_key_value_fn is not None:
                self._keys, self._values = custom_key_value_fn(self._keys, self._values)
            shape = tf.shape(self._keys)
            self._batch_size, self._alignments_size = (shape[i] if n is None else n for i, n in enumerate(
                (self._keys.shape[0].value, self._keys.shape[1].value)))
            self._mask = None if lengths is None else tf.sequence_mask(lengths, maxlen=self._alignments_size)
            self._mask_value = -math.inf if score_mask_value is None else score_mask_value

    memory_layer = property(lambda self: self._memory_layer)
    query_layer = property(lambda self: self._query_layer)
    values = property(lambda self: self._values)
    keys = property(lambda self: self._keys)
    batch_size = property(lambda self: self._batch_size)
    alignments_size = property(lambda self: self._alignments_size)
    state_size = property(lambda self: self._alignments_size)

    def initial_alignments(self, batch_size: Any, dtype: Any) -> Any:
        """The alignments before the first step, zeros [batch_size, alignments_size]."""
        return zeros(batch_size, self._alignments_size, dtype)

    def initial_state(self, batch_size: Any, dtype: Any) -> Any:
        """The state before the first step: the alignments."""
        return self.initial_alignments(batch_size, dtype)

    def _probability_fn(self, score: Any, state: Any) -> Any:
        if self._mask is not None:
            score = tf.where(self._mask, score, tf.cast(self._mask_value, score.dtype) * tf.ones_like(score))
        return self._fn(score, state)

    def _score(self, query: Any) -> Any:
        raise NotImplementedError

    def __call__(self, query: Any, state: Any) -> Any:
        """(alignments, next state) of a query."""
        alignments = self._probability_fn(self._score(query), state)
        return alignments, alignments


def _positive(lengths: Any) -> Any:
    lengths = tf.convert_to_tensor(lengths, name="memory_sequence_length")
    message = "All values in memory_sequence_length must be greater than zero."
    with tf.control_dependencies([tf.assert_positive(lengths, message=message)]):
        return tf.identity(lengths)


def _masked(memory: Any, lengths: Any) -> Any:
    """`memory` with zeros behind the lengths."""
    mask = tf.sequence_mask(lengths, maxlen=tf.shape(memory)[1], dtype=memory.dtype)
    found = memory * tf.reshape(mask, tf.concat([tf.shape(mask), tf.ones([tf.rank(memory) - 2], tf.int32)], 0))
    found.set_shape(memory.shape)
    return found


def hardmax(logits: Any, name: str | None = None) -> Any:
    """1 at the largest logit of each row, 0 elsewhere, in the dtype of `logits`."""
    with tf.name_scope(name, "Hardmax", [logits]):
        logits = tf.convert_to_tensor(logits, name="logits")
        n = logits.shape[-1].value
        return tf.one_hot(tf.argmax(logits, -1), tf.shape(logits)[-1] if n is None else n, dtype=logits.dtype)


def _dense(units: int, name: str, dtype: Any) -> Any:
    return tf.layers.Dense(units, name=name, use_bias=False, dtype=tf.float32 if dtype is None else dtype)


def _of_score(fn: Any) -> Callable[..., Any]:
    """A function of scores alone, as one of scores and state; softmax by default."""
    if fn is None:
        fn = tf.nn.softmax
    return (lambda score, state: fn(score)) if callable(fn) else fn


# ---------------------------------------------------------------- scores


def _bahdanau(self: Any, query: Any, keys: Any) -> Any:
    """v^T tanh(keys + W query), Bahdanau et al. 2015; normalized: g v^T/|v| tanh(keys + W query + b), after Salimans and Kingma 2016."""
    units, dtype = self._num_units, query.dtype
    at = tf.expand_dims(self.query_layer(query) if self.query_layer is not None else query, 1)
    v = tf.get_variable("attention_v", [units], dtype=dtype)
    if not self._normalize:
        return tf.reduce_sum(v * tf.tanh(keys + at), [2])
    g = tf.get_variable("attention_g", shape=(), dtype=dtype, initializer=tf.constant_initializer(math.sqrt(1.0 / units)))
    b = tf.get_variable("attention_b", [units], dtype=dtype, initializer=tf.zeros_initializer())
    return tf.reduce_sum(g * v * tf.rsqrt(tf.reduce_sum(tf.square(v))) * tf.tanh(keys + at + b), [2])


def _luong(self: Any, query: Any, keys: Any) -> Any:
    """keys query, Luong et al. 2015; scaled by a learned g."""
    depth, units = query.shape[-1].value, keys.shape[-1].value
    if depth is None or depth != units:
        raise ValueError(f"Incompatible or unknown inner dimensions between query and keys. Query ({query.name}) has units: {depth}. Keys "
                         f"({keys.name}) have units: {units}. Perhaps you need to set num_units to the query's dimension ({depth})?")
    score = tf.squeeze(tf.matmul(tf.expand_dims(query, 1), keys, transpose_b=True), [1])
    if not self._scale:
        return score
    return tf.get_variable("attention_g", shape=(), dtype=query.dtype, initializer=tf.ones_initializer()) * score


class BahdanauAttention(_Mechanism):
    """Additive attention: softmax of v^T tanh(memory kernel + query kernel).

    Variables: memory_layer/kernel (where the mechanism is made), and at the first call, below a scope "bahdanau_attention",
    query_layer/kernel, attention_v [num_units], normalized also attention_g and attention_b.

    Args:
        num_units: the depth in which query and memory are compared.
        memory: [batch, time, depth].
        memory_sequence_length: [batch], or None.
        normalize: with weight normalization of v.
        probability_fn: from scores to alignments; softmax by default, `hardmax` is another.
        score_mask_value: the score of rows past the length; -inf by default.
        dtype: of the layers; float32 by default.
        custom_key_value_fn: from (keys, values) to those used.
    """

    def __init__(self, num_units: int, memory: Any, memory_sequence_length: Any = None, normalize: bool = False, probability_fn: Any = None,
                 score_mask_value: Any = None, dtype: Any = None, custom_key_value_fn: Any = None, name: str = "BahdanauAttention"):
        super().__init__(_dense(num_units, "query_layer", dtype), memory, _of_score(probability_fn), memory_sequence_length,
                         _dense(num_units, "memory_layer", dtype), True, score_mask_value, custom_key_value_fn, name)
        self._num_units, self._normalize, self._name = num_units, normalize, name

    def _score(self, query: Any) -> Any:
        with tf.variable_scope(None, "bahdanau_attention", [query]):
            return _bahdanau(self, query, self._keys)


class LuongAttention(_Mechanism):
    """Multiplicative attention: softmax of (memory kernel) query.

    Variables: memory_layer/kernel (where the mechanism is made), and scaled luong_attention/attention_g.

    Args:
        num_units: the depth of the query.
        scale: with a learned factor before the softmax.
        others: see BahdanauAttention.

    Raises (when called):
        ValueError: the query's depth is not `num_units`.
    """

    def __init__(self, num_units: int, memory: Any, memory_sequence_length: Any = None, scale: bool = False, probability_fn: Any = None,
                 score_mask_value: Any = None, dtype: Any = None, custom_key_value_fn: Any = None, name: str = "LuongAttention"):
        super().__init__(None, memory, _of_score(probability_fn), memory_sequence_length, _dense(num_units, "memory_layer", dtype), True,
                         score_mask_value, custom_key_value_fn, name)
        self._num_units, self._scale, self._name = num_units, scale, name

    def _score(self, query: Any) -> Any:
        with tf.variable_scope(None, "luong_attention", [query]):
            return _luong(self, query, self._keys)


# ---------------------------------------------------------------- monotonic attention


def safe_cumprod(x: Any, *args: Any, **kwargs: Any) -> Any:
    """The running product of numbers in [0, 1], by sums of logarithms; arguments are those of `tf.cumprod`."""
    with tf.name_scope(None, "SafeCumprod", [x]):
        x = tf.convert_to_tensor(x, name="x")
        return tf.exp(tf.cumsum(tf.log(tf.clip_by_value(x, _tiny(x.dtype), 1.0)), *args, **kwargs))


def _tiny(dtype: Any) -> float:
    import numpy as np

    return float(np.finfo(dtype.as_numpy_dtype).tiny)


def monotonic_attention(p_choose_i: Any, previous_attention: Any, mode: str) -> Any:
    """Attention that never goes back (Raffel et al. 2017, "Online and Linear-Time Attention by Enforcing Monotonic Alignments").

    From the row attended to at the step before, rows are visited in order, and row i is taken with probability p_choose_i.

    Args:
        p_choose_i: [batch, time], in [0, 1].
        previous_attention: [batch, time]; at the first step [1, 0, 0, ...].
        mode: "recursive" (q_i = (1 - p_{i-1}) q_{i-1} + previous_i, exact, slow), "parallel" (the same by cumulative sums and products,
            inexact where p is near 1), or "hard" (all p_choose_i are 0 or 1).

    Returns:
        The attention [batch, time]; what is missing to a sum of 1 is the probability of taking no row.

    Raises:
        ValueError: another mode.
    """
    p, previous = tf.convert_to_tensor(p_choose_i, name="p_choose_i"), tf.convert_to_tensor(previous_attention, name="previous_attention")
    if mode == "recursive":
        passed = tf.concat([tf.ones_like(p[:, :1]), 1 - p[:, :-1]], 1)
        reached = tf.scan(lambda q, x: x[0] * q + x[1], [tf.transpose(passed), tf.transpose(previous)], tf.zeros_like(p[:, 0]))
        return p * tf.transpose(reached)
    if mode == "parallel":
        passed = safe_cumprod(1 - p, axis=1, exclusive=True)
        return p * passed * tf.cumsum(previous / tf.clip_by_value(passed, 1e-10, 1.0), axis=1)
    if mode == "hard":
        p = p * tf.cumsum(previous, axis=1)
        return p * tf.cumprod(1 - p, axis=1, exclusive=True)
    raise ValueError(f"mode must be 'recursive', 'parallel', or 'hard', got {mode!r}")


def _monotonic(score: Any, previous: Any, sigmoid_noise: float, mode: str, seed: int | None = None) -> Any:
    """Monotonic attention whose probabilities are sigmoids of noisy scores."""
    if sigmoid_noise > 0:
        score += sigmoid_noise * tf.random_normal(tf.shape(score), dtype=score.dtype, seed=seed)
    p = tf.cast(score > 0, score.dtype) if mode == "hard" else tf.sigmoid(score)
    return monotonic_attention(p, previous, mode)


class _Monotonic(_Mechanism):
    """Begins at the first row, and adds a learned bias to the scores."""

    _score_bias_init: float

    def initial_alignments(self, batch_size: Any, dtype: Any) -> Any:
        return tf.one_hot(tf.zeros([batch_size], tf.int32), self._alignments_size, dtype=dtype)

    def _biased(self, score: Any) -> Any:
        bias = tf.get_variable("attention_score_bias", shape=(), dtype=score.dtype,
                               initializer=tf.constant_initializer(self._score_bias_init))
        return score + bias


class BahdanauMonotonicAttention(_Monotonic):
    """`monotonic_attention` by the scores of BahdanauAttention plus a bias (variable attention_score_bias).

    Args:
        sigmoid_noise: standard deviation of noise on the scores while training, which makes them decided.
        sigmoid_noise_seed: its seed.
        score_bias_init: the bias's first value; negative for long memories.
        mode: see `monotonic_attention`.
        others: see BahdanauAttention.
    """

    def __init__(self, num_units: int, memory: Any, memory_sequence_length: Any = None, normalize: bool = False,
                 score_mask_value: Any = None, sigmoid_noise: float = 0.0, sigmoid_noise_seed: int | None = None,
                 score_bias_init: float = 0.0, mode: str = "parallel", dtype: Any = None, name: str = "BahdanauMonotonicAttention"):
        super().__init__(_dense(num_units, "query_layer", dtype), memory,
                         functools.partial(_monotonic, sigmoid_noise=sigmoid_noise, mode=mode, seed=sigmoid_noise_seed),
                         memory_sequence_length, _dense(num_units, "memory_layer", dtype), True, score_mask_value, None, name)
        self._num_units, self._normalize, self._score_bias_init, self._name = num_units, normalize, score_bias_init, name

    def _score(self, query: Any) -> Any:
        with tf.variable_scope(None, "bahdanau_monotonic_attention", [query]):
            return self._biased(_bahdanau(self, query, self._keys))


class LuongMonotonicAttention(_Monotonic):
    """`monotonic_attention` by the scores of LuongAttention plus a bias; arguments as BahdanauMonotonicAttention's."""

    def __init__(self, num_units: int, memory: Any, memory_sequence_length: Any = None, scale: bool = False, score_mask_value: Any = None,
                 sigmoid_noise: float = 0.0, sigmoid_noise_seed: int | None = None, score_bias_init: float = 0.0, mode: str = "parallel",
                 dtype: Any = None, name: str = "LuongMonotonicAttention"):
        super().__init__(None, memory, functools.partial(_monotonic, sigmoid_noise=sigmoid_noise, mode=mode, seed=sigmoid_noise_seed),
                         memory_sequence_length, _dense(num_units, "memory_layer", dtype), True, score_mask_value, None, name)
        self._num_units, self._scale, self._score_bias_init, self._name = num_units, scale, score_bias_init, name

    def _score(self, query: Any) -> Any:
        with tf.variable_scope(None, "luong_monotonic_attention", [query]):
            return self._biased(_luong(self, query, self._keys))
