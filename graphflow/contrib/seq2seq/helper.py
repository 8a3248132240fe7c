"""Helpers: what a decoder samples from its outputs, and what the next inputs are.

Training helpers read given sequences, inference helpers feed back what was chosen.
"""
from __future__ import annotations

from typing import Any, Callable

import graphflow as tf

from ... import nest
from ...layers.base import Layer
from ...rnn import transpose_batch_time

__all__ = ["CustomHelper", "GreedyEmbeddingHelper", "Helper", "InferenceHelper", "SampleEmbeddingHelper",
           "ScheduledEmbeddingTrainingHelper", "ScheduledOutputTrainingHelper", "TrainingHelper"]


class Helper:
    """What a BasicDecoder asks at each step; ids are what it samples, int32 [batch] in most helpers."""

    @property
    def batch_size(self) -> Any:
        """A scalar int32 tensor."""
        raise NotImplementedError("batch_size has not been implemented")

    @property
    def sample_ids_shape(self) -> Any:
        """The TensorShape of one sample, without the batch."""
        raise NotImplementedError("sample_ids_shape has not been implemented")

    @property
    def sample_ids_dtype(self) -> Any:
        raise NotImplementedError("sample_ids_dtype has not been implemented")

    def initialize(self, name: str | None = None) -> Any:
        """(finished, first inputs), where finished is a bool vector [batch]."""
        raise NotImplementedError

    def sample(self, time: Any, outputs: Any, state: Any, name: str | None = None) -> Any:
        """The ids sampled from the outputs of step `time`."""
        raise NotImplementedError

    def next_inputs(self, time: Any, outputs: Any, state: Any, sample_ids: Any, name: str | None = None) -> Any:
        """(finished, next inputs, next state)."""
        raise NotImplementedError


class CustomHelper(Helper):
    """A helper made of functions.

    Args:
        initialize_fn: returns (finished, first inputs).
        sample_fn: takes time, outputs and state by keyword; returns the ids.
        next_inputs_fn: takes time, outputs, state and sample_ids by keyword; returns (finished, next inputs, next state).
        sample_ids_shape: of one sample; a scalar if None.
        sample_ids_dtype: int32 if None.
    """

    def __init__(self, initialize_fn: Callable[..., Any], sample_fn: Callable[..., Any], next_inputs_fn: Callable[..., Any],
                 sample_ids_shape: Any = None, sample_ids_dtype: Any = None):
        self._initialize_fn, self._sample_fn, self._next_inputs_fn = initialize_fn, sample_fn, next_inputs_fn
        self._batch_size: Any = None
        self._shape, self._dtype = tf.TensorShape(sample_ids_shape or []), tf.as_dtype(sample_ids_dtype or tf.int32)

    @property
    def batch_size(self) -> Any:
        if self._batch_size is None:
            raise ValueError("batch_size accessed before initialize was called")
        return self._batch_size

    sample_ids_shape = property(lambda self: self._shape)
    sample_ids_dtype = property(lambda self: self._dtype)

    def initialize(self, name: str | None = None) -> Any:
        with tf.name_scope(name, f"{type(self).__name__}Initialize"):
            finished, inputs = self._initialize_fn()
            if self._batch_size is None:
                self._batch_size = tf.size(finished)
        return finished, inputs

    def sample(self, time: Any, outputs: Any, state: Any, name: str | None = None) -> Any:
        with tf.name_scope(name, f"{type(self).__name__}Sample", (time, outputs, state)):
            return self._sample_fn(time=time, outputs=outputs, state=state)

    def next_inputs(self, time: Any, outputs: Any, state: Any, sample_ids: Any, name: str | None = None) -> Any:
        with tf.name_scope(name, f"{type(self).__name__}NextInputs", (time, outputs, state)):
            return self._next_inputs_fn(time=time, outputs=outputs, state=state, sample_ids=sample_ids)


class TrainingHelper(Helper):
    """Reads the inputs of each step from given sequences; samples are the argmax of the outputs.

    Args:
        inputs: a tensor [batch, time, ...], or a nesting of them.
        sequence_length: an int vector [batch].
        time_major: inputs are [time, batch, ...].

    Raises:
        ValueError: `sequence_length` is not a vector.
        InvalidArgumentError (when run): a length that is negative or past the time axis.
    """

    def __init__(self, inputs: Any, sequence_length: Any, time_major: bool = False, name: str | None = None):
        with tf.name_scope(name, "TrainingHelper", [inputs, sequence_length]):
            inputs = nest.map_structure(tf.convert_to_tensor, inputs)
            self._inputs = inputs
            if not time_major:
                inputs = nest.map_structure(transpose_batch_time, inputs)
            lengths = tf.convert_to_tensor(sequence_length, name="sequence_length")
            if lengths.shape.ndims != 1:
                raise ValueError(f"Expected sequence_length to be a vector, but received shape: {lengths.shape}")
            with tf.control_dependencies(_within(lengths, tf.shape(nest.flatten(inputs)[0])[0])):
                self._sequence_length = tf.identity(lengths)
            self._ends = tf.cast(self._sequence_length, tf.int32)
            self._arrays = nest.map_structure(_readable, inputs)
            self._batch_size = tf.size(lengths)

    inputs = property(lambda self: self._inputs)
    sequence_length = property(lambda self: self._sequence_length)
    batch_size = property(lambda self: self._batch_size)
    sample_ids_shape = property(lambda self: tf.TensorShape([]))
    sample_ids_dtype = property(lambda self: tf.int32)

    def initialize(self, name: str | None = None) -> Any:
        with tf.name_scope(name, "TrainingHelperInitialize"):
            return tf.equal(0, self._sequence_length), nest.map_structure(lambda a: a.read(0), self._arrays)

    def sample(self, time: Any, outputs: Any, name: str | None = None, **unused: Any) -> Any:  # type: ignore[override]
        with tf.name_scope(name, "TrainingHelperSample", [time, outputs]):
            return chosen(outputs)

    def next_inputs(self, time: Any, outputs: Any, state: Any, name: str | None = None, **unused: Any) -> Any:  # type: ignore[override]
        with tf.name_scope(name, "TrainingHelperNextInputs", [time, outputs, state]):
            finished = time + 1 >= self._ends
            return finished, nest.map_structure(lambda a: a.read(time + 1), self._arrays), state


def _within(lengths: Any, steps: Any) -> list[Any]:
    limit = tf.cast(steps, lengths.dtype)
    return [tf.assert_less_equal(lengths, limit, message="sequence_length must not be past the time axis of the inputs"),
            tf.assert_non_negative(lengths, message="sequence_length must not be negative")]


def _readable(x: Any) -> Any:
    """The rows of `x`, and one of zeros: what is read when all sequences are finished."""
    rows = tf.concat([x, tf.zeros(tf.concat([[1], tf.shape(x)[1:]], 0), x.dtype)], 0)
    return tf.TensorArray(x.dtype, size=tf.shape(rows)[0], element_shape=x.shape[1:]).unstack(rows)


def chosen(outputs: Any) -> Any:
    """The class of the largest logit.  Raises TypeError for anything but a tensor."""
    if not isinstance(outputs, tf.Tensor):
        raise TypeError(f"Expected outputs to be a single Tensor, got: {type(outputs)}")
    return tf.cast(tf.argmax(outputs, axis=-1), tf.int32)


def drawn(logits: Any, seed: int | None = None) -> Any:
    """A class for each row of logits, drawn by their softmax: the largest after adding Gumbel noise (Maddison et al. 2014)."""
    # 0 is left out: its noise would be infinite.
    uniform = tf.random_uniform(tf.shape(logits), minval=1e-30, maxval=1.0, dtype=logits.dtype, seed=seed)
    return tf.cast(tf.argmax(logits - tf.log(-tf.log(uniform)), axis=-1), tf.int32)


def embedded(embedding: Any) -> Callable[[Any], Any]:
    """A function from ids to vectors, given as such or as the table."""
    return embedding if callable(embedding) else lambda ids: tf.nn.embedding_lookup(embedding, ids)


def _probability(given: Any) -> Any:
    p = tf.convert_to_tensor(given, name="sampling_probability")
    if p.shape.ndims not in (0, 1):
        raise ValueError(f"sampling_probability must be either a scalar or a vector. saw shape: {p.shape}")
    return p


class ScheduledEmbeddingTrainingHelper(TrainingHelper):
    """A TrainingHelper that sometimes feeds back a class drawn from the outputs (scheduled sampling, Bengio et al. 2015).

    The sample ids are -1 where none was drawn.

    Args:
        embedding: the table of vectors, or a function from ids to vectors.
        sampling_probability: a scalar, or one for each sequence.
        seed, scheduling_seed: of what is drawn, and of whether.

    Raises:
        ValueError: `sampling_probability` or `sequence_length` of another rank.
    """

    def __init__(self, inputs: Any, sequence_length: Any, embedding: Any, sampling_probability: Any, time_major: bool = False,
                 seed: int | None = None, scheduling_seed: int | None = None, name: str | None = None):
        with tf.name_scope(name, "ScheduledEmbeddingSamplingWrapper", [sampling_probability]):
            self._embedding_fn, self._probability = embedded(embedding), _probability(sampling_probability)
            self._seed, self._scheduling_seed = seed, scheduling_seed
            super().__init__(inputs, sequence_length, time_major, name)

    def sample(self, time: Any, outputs: Any, state: Any, name: str | None = None) -> Any:  # type: ignore[override]
        with tf.name_scope(name, "ScheduledEmbeddingTrainingHelperSample", [time, outputs, state]):
            ids = drawn(outputs, self._seed)
            noise = tf.random_uniform(tf.shape(ids), dtype=self._probability.dtype, seed=self._scheduling_seed)
            return tf.where(noise < self._probability, ids, -tf.ones_like(ids))

    def next_inputs(self, time: Any, outputs: Any, state: Any, sample_ids: Any, name: str | None = None) -> Any:  # type: ignore[override]
        with tf.name_scope(name, "ScheduledEmbeddingTrainingHelperSample", [time, outputs, state, sample_ids]):
            finished, given, state = super().next_inputs(time, outputs, state)
            own = self._embedding_fn(tf.maximum(sample_ids, 0))
            return finished, tf.where(sample_ids > -1, own, given), state


class ScheduledOutputTrainingHelper(TrainingHelper):
    """A TrainingHelper that sometimes feeds back the outputs themselves.

    The sample ids are 1 where it does and 0 elsewhere.

    Args:
        sampling_probability: a scalar, or one for each sequence.
        next_input_layer: a tf.layers.Layer from outputs to inputs, or None.
        auxiliary_inputs: of the shape of `inputs` but for the last axis; put behind `inputs` and behind what is fed back.

    Raises:
        ValueError: `sampling_probability` or `sequence_length` of another rank.  TypeError: `next_input_layer` is no layer.
    """

    def __init__(self, inputs: Any, sequence_length: Any, sampling_probability: Any, time_major: bool = False, seed: int | None = None,
                 next_input_layer: Any = None, auxiliary_inputs: Any = None, name: str | None = None):
        with tf.name_scope(name, "ScheduledOutputTrainingHelper", [inputs, auxiliary_inputs, sampling_probability]):
            self._probability, self._seed, self._layer = _probability(sampling_probability), seed, next_input_layer
            if next_input_layer is not None and not isinstance(next_input_layer, Layer):
                raise TypeError(f"next_input_layer must be a Layer, received: {type(next_input_layer)}")
            self._auxiliary: Any = None
            if auxiliary_inputs is not None:
                more = nest.map_structure(tf.convert_to_tensor, auxiliary_inputs)
                inputs = nest.map_structure(lambda x, y: tf.concat([x, y], -1), nest.map_structure(tf.convert_to_tensor, inputs), more)
                self._auxiliary = nest.map_structure(_readable, more if time_major else nest.map_structure(transpose_batch_time, more))
            super().__init__(inputs, sequence_length, time_major, name)

    def sample(self, time: Any, outputs: Any, state: Any, name: str | None = None) -> Any:  # type: ignore[override]
        with tf.name_scope(name, "ScheduledOutputTrainingHelperSample", [time, outputs, state]):
            noise = tf.random_uniform(tf.shape(nest.flatten(outputs)[0])[:1], dtype=self._probability.dtype, seed=self._seed)
            return tf.cast(noise < self._probability, tf.int32)

    def next_inputs(self, time: Any, outputs: Any, state: Any, sample_ids: Any, name: str | None = None) -> Any:  # type: ignore[override]
        with tf.name_scope(name, "ScheduledOutputTrainingHelperNextInputs", [time, outputs, state, sample_ids]):
            finished, given, state = super().next_inputs(time, outputs, state)
            own = outputs if self._layer is None else self._layer(outputs)
            if self._auxiliary is not None:
                own = nest.map_structure(lambda x, a: tf.concat([x, a.read(time + 1)], -1), own, self._auxiliary)
            return finished, nest.map_structure(lambda x, y: tf.where(tf.cast(sample_ids, tf.bool), x, y), own, given), state


class GreedyEmbeddingHelper(Helper):
    """Feeds back the most likely class, until it is `end_token`.

    Args:
        embedding: the table of vectors, or a function from ids to vectors.
        start_tokens: an int32 vector [batch].
        end_token: an int32 scalar.

    Raises:
        ValueError: `start_tokens` is not a vector, or `end_token` not a scalar.
    """

    def __init__(self, embedding: Any, start_tokens: Any, end_token: Any):
        self._embedding_fn = embedded(embedding)
        self._start_tokens, self._end_token = tokens(start_tokens, end_token)
        self._batch_size = tf.size(self._start_tokens)
        self._start_inputs = self._embedding_fn(self._start_tokens)

    batch_size = property(lambda self: self._batch_size)
    sample_ids_shape = property(lambda self: tf.TensorShape([]))
    sample_ids_dtype = property(lambda self: tf.int32)

    def initialize(self, name: str | None = None) -> Any:
        return tf.tile([False], [self._batch_size]), self._start_inputs

    def sample(self, time: Any, outputs: Any, state: Any, name: str | None = None) -> Any:
        return chosen(outputs)

    def next_inputs(self, time: Any, outputs: Any, state: Any, sample_ids: Any, name: str | None = None) -> Any:
        finished = tf.equal(sample_ids, self._end_token)
        # The end token need not be in the table: when all are finished, nothing is looked up.
        inputs = tf.cond(tf.reduce_all(finished), lambda: self._start_inputs, lambda: self._embedding_fn(sample_ids))
        return finished, inputs, state


def tokens(start_tokens: Any, end_token: Any) -> tuple[Any, Any]:
    """Both as int32 tensors.  Raises ValueError when they are no vector and scalar."""
    start = tf.convert_to_tensor(start_tokens, dtype=tf.int32, name="start_tokens")
    if start.shape.ndims != 1:
        raise ValueError(f"start_tokens must be a vector, got shape {start.shape}")
    end = tf.convert_to_tensor(end_token, dtype=tf.int32, name="end_token")
    if end.shape.ndims != 0:
        raise ValueError(f"end_token must be a scalar, got shape {end.shape}")
    return start, end


class SampleEmbeddingHelper(GreedyEmbeddingHelper):
    """A GreedyEmbeddingHelper that draws the class by the softmax of the outputs, divided by `softmax_temperature`."""

    def __init__(self, embedding: Any, start_tokens: Any, end_token: Any, softmax_temperature: Any = None, seed: int | None = None):
        super().__init__(embedding, start_tokens, end_token)
        self._softmax_temperature, self._seed = softmax_temperature, seed

    def sample(self, time: Any, outputs: Any, state: Any, name: str | None = None) -> Any:
        if not isinstance(outputs, tf.Tensor):
            raise TypeError(f"Expected outputs to be a single Tensor, got: {type(outputs)}")
        return drawn(outputs if self._softmax_temperature is None else outputs / self._softmax_temperature, self._seed)


class InferenceHelper(Helper):
    """Feeds back samples of any kind.

    Args:
        sample_fn: from the outputs of a step to samples [batch, *sample_shape] of `sample_dtype`.
        start_inputs: [batch, ...].
        end_fn: from samples to a bool vector [batch].
        next_inputs_fn: from samples to the next inputs; None takes the samples themselves.
    """

    def __init__(self, sample_fn: Callable[..., Any], sample_shape: Any, sample_dtype: Any, start_inputs: Any, end_fn: Callable[..., Any],
                 next_inputs_fn: Callable[..., Any] | None = None):
        self._sample_fn, self._end_fn, self._next_inputs_fn = sample_fn, end_fn, next_inputs_fn
        self._shape, self._dtype = tf.TensorShape(sample_shape), tf.as_dtype(sample_dtype)
        self._start_inputs = tf.convert_to_tensor(start_inputs, name="start_inputs")
        self._batch_size = tf.shape(self._start_inputs)[0]

    batch_size = property(lambda self: self._batch_size)
    sample_ids_shape = property(lambda self: self._shape)
    sample_ids_dtype = property(lambda self: self._dtype)

    def initialize(self, name: str | None = None) -> Any:
        return tf.tile([False], [self._batch_size]), self._start_inputs

    def sample(self, time: Any, outputs: Any, state: Any, name: str | None = None) -> Any:
        return self._sample_fn(outputs)

    def next_inputs(self, time: Any, outputs: Any, state: Any, sample_ids: Any, name: str | None = None) -> Any:
        inputs = sample_ids if self._next_inputs_fn is None else self._next_inputs_fn(sample_ids)
        return self._end_fn(sample_ids), inputs, state
