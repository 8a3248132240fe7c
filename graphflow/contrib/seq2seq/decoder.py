"""`Decoder`, what one step of decoding is, and `dynamic_decode`, the loop over steps."""
from __future__ import annotations

import math
from typing import Any

import graphflow as tf

from ... import nest
from ...rnn import transpose_batch_time
from ...rnn_cell import zeros

__all__ = ["Decoder", "dynamic_decode"]

# Outputs of a loop of known length get all their slots before it starts, if they are no more bytes than this.
SLOTS = 1 << 22


class Decoder:
    """What `dynamic_decode` runs.  All structures are nestings of tensors (lists, tuples, named tuples, dicts)."""

    @property
    def batch_size(self) -> Any:
        """A scalar int32 tensor, or an int."""
        raise NotImplementedError

    @property
    def output_size(self) -> Any:
        """The shape of one step's outputs without the batch: ints and TensorShapes, in the structure of the outputs."""
        raise NotImplementedError

    @property
    def output_dtype(self) -> Any:
        """The dtypes of the outputs, in their structure."""
        raise NotImplementedError

    def initialize(self, name: str | None = None) -> Any:
        """(finished, first inputs, first state), where finished is a bool vector [batch]."""
        raise NotImplementedError

    def step(self, time: Any, inputs: Any, state: Any, name: str | None = None) -> Any:
        """One step: (outputs, next state, next inputs, finished).  `time` is an int32 scalar, counted from 0."""
        raise NotImplementedError

    def finalize(self, outputs: Any, final_state: Any, sequence_lengths: Any) -> Any:
        """(final outputs, final state) from the outputs of all steps [time, batch, ...]; not needed."""
        raise NotImplementedError

    @property
    def tracks_own_finished(self) -> bool:
        """Whether `finished` of a step is final as it is: a decoder that moves sequences about in the batch keeps track itself."""
        return False


def dynamic_decode(decoder: Any, output_time_major: bool = False, impute_finished: bool = False, maximum_iterations: Any = None,
                   parallel_iterations: int = 32, swap_memory: bool = False, scope: Any = None) -> Any:
    """Steps of `decoder` until all sequences are finished.

    Args:
        output_time_major: outputs are [time, batch, ...]; else [batch, time, ...].
        impute_finished: a finished sequence keeps its state and has zeros as outputs.
        maximum_iterations: an int32 scalar; at most so many steps.
        parallel_iterations, swap_memory: see `tf.while_loop`.
        scope: the variable scope, "decoder" by default.

    Returns:
        (final outputs, final state, final sequence lengths); the lengths are int32 [batch], and count the steps until a
        sequence was finished, that one included.

    Raises:
        TypeError: no Decoder.  ValueError: `maximum_iterations` is not a scalar; a step changes a structure or a shape.
    """
    if not isinstance(decoder, Decoder):
        raise TypeError(f"Expected decoder to be type Decoder, but saw: {type(decoder)}")
    with tf.variable_scope(scope, "decoder"):
        limit = None
        if maximum_iterations is not None:
            limit = tf.convert_to_tensor(maximum_iterations, dtype=tf.int32, name="maximum_iterations")
            if limit.shape.ndims != 0:
                raise ValueError(f"maximum_iterations must be a scalar, got shape {limit.shape}")
        finished, inputs, state = decoder.initialize()
        if limit is not None:
            finished = tf.logical_or(finished, 0 >= limit)
        blank = nest.map_structure(lambda size, dtype: zeros(decoder.batch_size, size, dtype), decoder.output_size, decoder.output_dtype)
        slots = _slots(limit, blank)
        arrays = nest.map_structure(lambda x: _array(x, slots), blank)
        steps = _Steps(decoder, blank if impute_finished else None)
        time, arrays, state, _, _, lengths = tf.while_loop(
            steps.go_on, steps.step, (tf.constant(0, tf.int32), arrays, state, inputs, finished, tf.zeros_like(finished, dtype=tf.int32)),
            parallel_iterations=parallel_iterations, maximum_iterations=limit, swap_memory=swap_memory)
        outputs = nest.map_structure(lambda a: a.stack() if slots is None else a.stack()[:time], arrays)
        try:
            outputs, state = decoder.finalize(outputs, state, lengths)
        except NotImplementedError:
            pass
        if not output_time_major:
            outputs = nest.map_structure(transpose_batch_time, outputs)
    return outputs, state, lengths


def _slots(limit: Any, blank: Any) -> int | None:
    """The number of slots to have from the start, if it is known and they are small; else they come as they are written."""
    count = None if limit is None else tf.get_static_value(limit)
    shapes = [x.shape for x in nest.flatten(blank)]
    if count is None or not all(s.is_fully_defined() for s in shapes):
        return None
    size = sum(8 * math.prod(s.as_list()) for s in shapes) * max(int(count), 0)
    return max(int(count), 0) if size <= SLOTS else None


def _array(blank: Any, slots: int | None) -> Any:
    found = tf.TensorArray(blank.dtype, size=slots or 0, dynamic_size=slots is None, element_shape=blank.shape)
    # Without any step, the outputs still have the size of the batch.
    return found if blank.shape.is_fully_defined() else found.unstack(tf.expand_dims(blank, 0)[:0])


class _Steps:
    """Condition and body of the loop."""

    def __init__(self, decoder: Decoder, blank: Any):
        self.decoder, self.blank = decoder, blank

    def go_on(self, time: Any, arrays: Any, state: Any, inputs: Any, finished: Any, lengths: Any) -> Any:
        return tf.logical_not(tf.reduce_all(finished))

    def step(self, time: Any, arrays: Any, state: Any, inputs: Any, finished: Any, lengths: Any) -> Any:
        outputs, new_state, new_inputs, done = self.decoder.step(time, inputs, state)
        for before, after in ((state, new_state), (arrays, outputs), (inputs, new_inputs)):
            nest.assert_same_structure(before, after)
        if not self.decoder.tracks_own_finished:
            done = tf.logical_or(done, finished)
        lengths = tf.where(finished, lengths, tf.fill(tf.shape(lengths), time + 1))
        if self.blank is not None:
            outputs = nest.map_structure(lambda x, zero: _unless(finished, zero, x), outputs, self.blank)
            new_state = nest.map_structure(lambda new, old: _kept(finished, old, new), new_state, state)
        arrays = nest.map_structure(lambda a, x: a.write(time, x), arrays, outputs)
        return time + 1, arrays, new_state, new_inputs, done, lengths


def _unless(finished: Any, old: Any, new: Any) -> Any:
    """`new` for the sequences that are not finished, `old` for those that are."""
    if finished.shape.ndims not in (None, 1) and new.shape.ndims not in (None, finished.shape.ndims):
        raise ValueError("impute_finished needs `finished` of shape [batch], or of the shape of what it chooses from; got "
                         f"{finished.shape} for {new.name!r} of shape {new.shape}. A BeamSearchDecoder moves sequences about: leave "
                         "impute_finished False")
    return tf.where(finished, old, new)


def _kept(finished: Any, old: Any, new: Any) -> Any:
    """The state: TensorArrays and scalars go on in any case."""
    if isinstance(old, tf.TensorArray):
        return new
    new.set_shape(old.shape)
    return new if new.shape.ndims == 0 else _unless(finished, old, new)
