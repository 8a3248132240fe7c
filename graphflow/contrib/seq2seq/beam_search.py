"""Beam search: `BeamSearchDecoder`, and what goes with it.

Tensors of the cell are [batch * beam_width, ...], those of the search [batch, beam_width, ...].
"""
from __future__ import annotations

import collections
from typing import Any

import graphflow as tf

from ... import nest
from ...ops import beam
from ...rnn_cell import assert_like_rnncell
from .attention_wrapper import AttentionWrapperState
from .basic_decoder import needs_layer, output_shapes
from .decoder import Decoder
from .helper import embedded, tokens

__all__ = ["BeamSearchDecoder", "BeamSearchDecoderOutput", "BeamSearchDecoderState", "FinalBeamSearchDecoderOutput", "gather_tree",
           "gather_tree_from_array", "tile_batch"]


class BeamSearchDecoderState(collections.namedtuple(
        "BeamSearchDecoderState", ("cell_state", "log_probs", "finished", "lengths", "accumulated_attention_probs"))):
    """State of the search: that of the cell, and for each beam its log-probability, whether it has ended, its length (int64), and with a
    coverage penalty the sum of its alignments [batch, beam_width, memory time], else ()."""

    __slots__ = ()


class BeamSearchDecoderOutput(collections.namedtuple("BeamSearchDecoderOutput", ("scores", "predicted_ids", "parent_ids"))):
    """One step of each beam, [batch, beam_width]: its score, the id chosen, the beam it continues."""

    __slots__ = ()


class FinalBeamSearchDecoderOutput(collections.namedtuple(
        "FinalBeamSearchDecoderOutput", ("predicted_ids", "beam_search_decoder_output"))):
    """Whole sequences [batch, time, beam_width], best beam first, and the steps they were found by."""

    __slots__ = ()


# ---------------------------------------------------------------- what others use too


def tile_batch(t: Any, multiplier: int, name: str | None = None) -> Any:
    """Each row `multiplier` times in a row: [batch, ...] -> [batch * multiplier, ...], for every tensor of a nesting.

    Raises:
        ValueError: a tensor of unknown rank, or a scalar.
    """
    with tf.name_scope(name, "tile_batch", [*nest.flatten(t), multiplier]):
        return nest.map_structure(lambda x: _tiled(x, multiplier), t)


def _tiled(x: Any, times: int) -> Any:
    x = tf.convert_to_tensor(x, name="t")
    if x.shape.ndims is None or x.shape.ndims < 1:
        raise ValueError(f"t must have statically known rank of at least 1, got {x.name!r} of shape {x.shape}")
    found = tf.tile(tf.expand_dims(x, 1), [1, times] + [1] * (x.shape.ndims - 1))
    batch = x.shape[0].value
    found = tf.reshape(found, tf.concat([tf.shape(x)[:1] * times, tf.shape(x)[1:]], 0))
    found.set_shape(tf.TensorShape([None if batch is None else batch * times]).concatenate(x.shape[1:]))
    return found


def gather_tree(step_ids: Any, parent_ids: Any, max_sequence_lengths: Any, end_token: Any, name: str | None = None) -> Any:
    """The sequences that end in each beam, from the ids of the steps and the beams they continue.

    Args:
        step_ids, parent_ids: int32 [time, batch, beam_width].
        max_sequence_lengths: int32 [batch]; reading starts at the last step below it.
        end_token: an int32 scalar, which fills what lies behind, and behind the first `end_token` of a sequence.

    Returns:
        int32 [time, batch, beam_width].

    Raises:
        ValueError: a wrong rank, or shapes that differ.  InvalidArgumentError (when run): a parent that is no beam.
    """
    given = [tf.convert_to_tensor(x, dtype=tf.int32) for x in (step_ids, parent_ids, max_sequence_lengths, end_token)]
    return beam.gather_tree(*given, name=name)


def gather_tree_from_array(t: Any, parent_ids: Any, sequence_length: Any) -> Any:
    """Values of the steps in the order of the sequences found: of each beam, those of the beams it has come from.

    Args:
        t: [time, batch, beam_width, ...] or [time, batch * beam_width, ...], or a TensorArray of its rows.
        parent_ids: int32 [time, batch, beam_width].
        sequence_length: [batch, beam_width]; steps past it stay as they are.

    Returns:
        A tensor of the shape of `t`.
    """
    t = t.stack() if isinstance(t, tf.TensorArray) else tf.convert_to_tensor(t)
    parent_ids, lengths = tf.convert_to_tensor(parent_ids), tf.convert_to_tensor(sequence_length)
    shape = tf.shape(parent_ids)
    own = tf.broadcast_to(tf.range(shape[2]), shape)
    last = tf.cast(tf.reduce_max(lengths, axis=1), tf.int32)
    source = gather_tree(own, parent_ids, last, end_token=shape[2] + 1)
    inside = tf.transpose(tf.sequence_mask(lengths, maxlen=shape[0]), [2, 0, 1])
    rows = tf.reshape(t, tf.concat([shape, [-1]], 0))
    found = tf.reshape(tf.gather(rows, tf.where(inside, source, own), axis=2, batch_dims=2), tf.shape(t))
    found.set_shape(t.shape)
    return found


# ---------------------------------------------------------------- the decoder


class BeamSearchDecoder(Decoder):
    """Keeps the `beam_width` best sequences of each batch entry.

    A sequence's score is its log-probability, divided by ((5 + length) / 6)^length_penalty_weight, plus coverage_penalty_weight times
    sum(log(min(attention given to each memory row, 1))) once it has ended (Wu et al. 2016, "Google's Neural Machine Translation
    System", section 7).

    With an AttentionWrapper, memory, lengths and encoder state are tiled by `tile_batch`, and its `zero_state` takes batch * beam_width.

    Args:
        cell: an RNNCell.
        embedding: the table of vectors, or a function from ids to vectors.
        start_tokens: an int32 vector [batch].
        end_token: an int32 scalar.
        initial_state: of the cell, [batch * beam_width, ...].
        beam_width: an int.
        output_layer: a tf.layers.Layer from outputs to logits, or None.
        length_penalty_weight: a number or scalar tensor; 0 switches it off.
        coverage_penalty_weight: a number; 0 switches it off, others need an AttentionWrapper.
        reorder_tensor_arrays: TensorArrays in the final cell state, as an AttentionWrapper's `alignment_history`, are stacked, and rows
            go to the sequences they were computed for.  (TF1 gives row t of the beam that ends up in this place after step t, not of
            the one that was there when the step was made.)

    `dynamic_decode` gives (FinalBeamSearchDecoderOutput, BeamSearchDecoderState, lengths); the lengths of the sequences found are those
    in the state.

    Raises:
        TypeError: no cell, no layer.  ValueError: tokens of a wrong rank; a state whose batch is not batch * beam_width.
    """

    def __init__(self, cell: Any, embedding: Any, start_tokens: Any, end_token: Any, initial_state: Any, beam_width: int,
                 output_layer: Any = None, length_penalty_weight: Any = 0.0, coverage_penalty_weight: Any = 0.0,
                 reorder_tensor_arrays: bool = True):
        assert_like_rnncell("cell", cell)
        needs_layer("output_layer", output_layer)
        self._cell, self._output_layer, self._beam_width = cell, output_layer, beam_width
        self._length_penalty_weight, self._coverage_penalty_weight = length_penalty_weight, coverage_penalty_weight
        self._reorder_tensor_arrays = reorder_tensor_arrays
        self._embedding_fn = embedded(embedding)
        start, self._end_token = tokens(start_tokens, end_token)
        self._batch_size = tf.size(start)
        self._initial_cell_state = nest.map_structure(self._split, initial_state, cell.state_size)
        self._start_inputs = self._embedding_fn(tf.tile(tf.expand_dims(start, 1), [1, beam_width]))

    @property
    def batch_size(self) -> Any:
        return self._batch_size

    @property
    def tracks_own_finished(self) -> bool:
        return True

    @property
    def output_size(self) -> BeamSearchDecoderOutput:
        return BeamSearchDecoderOutput(*[tf.TensorShape([self._beam_width])] * 3)

    @property
    def _dtype(self) -> Any:
        return nest.flatten(self._initial_cell_state)[0].dtype

    @property
    def output_dtype(self) -> BeamSearchDecoderOutput:
        scores = nest.map_structure(lambda _: self._dtype, output_shapes(self._cell, self._output_layer))
        return BeamSearchDecoderOutput(scores=scores, predicted_ids=tf.int32, parent_ids=tf.int32)

    @property
    def _static_batch(self) -> int | None:
        n = tf.get_static_value(self._batch_size)
        return None if n is None else int(n)

    def initialize(self, name: str | None = None) -> Any:
        """Only the first beam is alive: all begin alike."""
        first = tf.zeros([self._batch_size], tf.int32)
        finished = tf.one_hot(first, self._beam_width, on_value=False, off_value=True, dtype=tf.bool)
        log_probs = tf.one_hot(first, self._beam_width, on_value=tf.constant(0.0, self._dtype),
                               off_value=tf.constant(-float("inf"), self._dtype), dtype=self._dtype)
        attention = _attention_of(self._initial_cell_state, self._coverage_penalty_weight)
        state = BeamSearchDecoderState(self._initial_cell_state, log_probs, finished,
                                       tf.zeros([self._batch_size, self._beam_width], tf.int64), () if attention is None else attention)
        return finished, self._start_inputs, state

    # -- between [batch, beam, ...] and [batch * beam, ...]

    def _split(self, t: Any, size: Any) -> Any:
        """A cell's tensor as one of the search; scalars and TensorArrays stay as they are."""
        if isinstance(t, tf.TensorArray):
            return t
        t = tf.convert_to_tensor(t)
        if _rank(t) == 0:
            return t
        batch, total = self._static_batch, t.shape[0].value
        if batch is not None and total is not None and total != batch * self._beam_width:
            raise ValueError("Unexpected behavior when reshaping between beam width and batch size. The tensor has shape: "
                             f"{t.shape}. We expected it to have shape (batch_size * beam_width, depth) == "
                             f"({batch * self._beam_width}, depth). Perhaps you forgot to create a zero_state with "
                             "batch_size=encoder_batch_size * beam_width?")
        found = tf.reshape(t, tf.concat([[-1, self._beam_width], tf.shape(t)[1:]], 0))
        found.set_shape(tf.TensorShape([batch, self._beam_width]).concatenate(t.shape[1:]))
        return found

    def _merge(self, t: Any, size: Any = None) -> Any:
        """A tensor of the search as one of the cell."""
        if isinstance(t, tf.TensorArray) or _rank(t) < 2:
            return t
        found = tf.reshape(t, tf.concat([[-1], tf.shape(t)[2:]], 0))
        batch = self._static_batch
        found.set_shape(tf.TensorShape([None if batch is None else batch * self._beam_width]).concatenate(t.shape[2:]))
        return found

    # -- one step

    def step(self, time: Any, inputs: Any, state: Any, name: str | None = None) -> Any:
        with tf.name_scope(name, "BeamSearchDecoderStep", (time, inputs, state)):
            sizes = self._cell.state_size
            outputs, cell_state = self._cell(nest.map_structure(self._merge, inputs),
                                             nest.map_structure(self._merge, state.cell_state, sizes))
            logits = self._split(outputs, None)
            if self._output_layer is not None:
                logits = self._output_layer(logits)
            output, state = self._search(logits, nest.map_structure(self._split, cell_state, sizes), state)
            # The end token need not be in the table: when all are finished, nothing is looked up.
            inputs = tf.cond(tf.reduce_all(state.finished), lambda: self._start_inputs, lambda: self._embedding_fn(output.predicted_ids))
        return output, state, inputs, state.finished

    def _search(self, logits: Any, cell_state: Any, state: BeamSearchDecoderState) -> Any:
        """The best continuations of all beams by all ids."""
        alive = tf.logical_not(state.finished)
        total = tf.expand_dims(state.log_probs, 2) + self._log_probs(logits, state.finished)
        attention = _attention_of(cell_state, self._coverage_penalty_weight)
        if attention is not None:
            attention = state.accumulated_attention_probs + attention * tf.expand_dims(tf.cast(alive, attention.dtype), 2)
        scores = self._scores(total, state, attention)
        classes = tf.shape(logits)[2]
        flat = lambda x: tf.reshape(x, tf.concat([tf.shape(x)[:1], [-1]], 0))  # noqa: E731
        best, at = tf.nn.top_k(flat(scores), self._beam_width)
        ids, parents = tf.mod(at, classes), tf.floordiv(at, classes)
        pick = lambda x: tf.gather(x, parents, axis=1, batch_dims=1)  # noqa: E731  the beams that go on
        was_finished = pick(state.finished)
        following = BeamSearchDecoderState(
            cell_state=nest.map_structure(lambda x: x if isinstance(x, tf.TensorArray) or _rank(x) < 2 else pick(x), cell_state),
            log_probs=tf.gather(flat(total), at, axis=1, batch_dims=1),
            finished=tf.logical_or(was_finished, tf.equal(ids, self._end_token)),
            lengths=pick(state.lengths) + tf.cast(tf.logical_not(was_finished), tf.int64),
            accumulated_attention_probs=() if attention is None else pick(attention))
        return BeamSearchDecoderOutput(best, ids, parents), following

    def _log_probs(self, logits: Any, finished: Any) -> Any:
        """Of each next id; a sequence that has ended goes on with the end token alone."""
        found = tf.nn.log_softmax(logits)
        end = tf.one_hot(self._end_token, tf.shape(logits)[2], on_value=tf.constant(0.0, found.dtype),
                         off_value=tf.constant(found.dtype.min, found.dtype), dtype=found.dtype)
        return tf.where(tf.expand_dims(finished, 2), tf.reshape(end, [1, 1, -1]), found)

    def _scores(self, total: Any, state: BeamSearchDecoderState, attention: Any) -> Any:
        scores = total
        weight = self._length_penalty_weight
        weight = weight if isinstance(weight, tf.Tensor) else tf.convert_to_tensor(weight, dtype=total.dtype, name="penalty_factor")
        if weight.shape.ndims not in (None, 0):
            raise ValueError(f"length_penalty_weight should be a scalar, but saw shape: {weight.shape}")
        if tf.get_static_value(weight) is None or tf.get_static_value(weight) != 0:
            grows = tf.one_hot(self._end_token, tf.shape(total)[2], on_value=0.0, off_value=1.0, dtype=total.dtype)
            alive = tf.expand_dims(tf.cast(tf.logical_not(state.finished), total.dtype), 2)
            lengths = tf.expand_dims(tf.cast(state.lengths, total.dtype), 2) + grows * alive
            scores = total / tf.pow((5.0 + lengths) / 6.0, tf.cast(weight, total.dtype))
        if attention is None:
            return scores
        # Rows of the memory past its length have never been looked at; they cost nothing.
        seen = tf.where(tf.equal(attention, 0), tf.ones_like(attention), attention)
        penalty = tf.reduce_sum(tf.log(tf.minimum(seen, 1.0)), 2) * tf.cast(state.finished, seen.dtype)
        return scores + tf.expand_dims(tf.cast(penalty * self._coverage_penalty_weight, scores.dtype), 2)

    # -- the end

    def finalize(self, outputs: Any, final_state: Any, sequence_lengths: Any) -> Any:
        """Whole sequences in place of steps; `sequence_lengths` do not follow the beams and are not used."""
        lengths = tf.cast(tf.reduce_max(final_state.lengths, axis=1), tf.int32)
        ids = gather_tree(outputs.predicted_ids, outputs.parent_ids, lengths, self._end_token)
        if self._reorder_tensor_arrays:
            final_state = final_state._replace(cell_state=nest.map_structure(
                lambda t: self._reordered(t, outputs.parent_ids, final_state.lengths), final_state.cell_state))
        return FinalBeamSearchDecoderOutput(ids, outputs), final_state

    def _reordered(self, t: Any, parents: Any, lengths: Any) -> Any:
        """A TensorArray of [batch * beam_width, ...] stacked in the order of the sequences found; anything else as it is."""
        if not isinstance(t, tf.TensorArray):
            return t
        shape, batch = t.element_shape, self._static_batch
        if shape.ndims is None or shape.ndims < 1:
            tf.logging.warning("The TensorArray %s in the cell state is not amenable to sorting based on the beam search result. For a "
                               "TensorArray to be sorted, its elements shape must be defined and have at least a rank of 1, but saw "
                               "shape: %s", t.name, shape)
            return t
        if batch is not None and shape[0].value is not None and shape[0].value not in (batch, batch * self._beam_width):
            tf.logging.warning("TensorArray reordering expects elements to be reshapable to [%d, %d, -1] which is incompatible with the "
                               "current shape %s. Consider setting reorder_tensor_arrays to False to disable TensorArray reordering during "
                               "the beam search.", batch, self._beam_width, shape)
            return t
        # A step was made by the beams it began with; its parents say which of them went on.
        rows = tf.reshape(t.stack(), tf.concat([tf.shape(parents), [-1]], 0))
        found = tf.reshape(gather_tree_from_array(tf.gather(rows, parents, axis=2, batch_dims=2), parents, lengths), tf.shape(t.stack()))
        found.set_shape(tf.TensorShape([None]).concatenate(shape))
        return found


def _rank(t: Any) -> int:
    if t.shape.ndims is None:
        raise ValueError(f"Expected tensor ({t}) to have known rank, but ndims == None.")
    return t.shape.ndims


def _attention_of(cell_state: Any, weight: Any) -> Any:
    """The mean of all alignments [batch, beam_width, memory time] in a cell's state; None without a coverage penalty.

    Raises:
        ValueError: a penalty, but no attention.
    """
    given = tf.get_static_value(tf.convert_to_tensor(weight))
    if tf.convert_to_tensor(weight).shape.ndims != 0:
        raise ValueError(f"coverage_penalty_weight should be a scalar, but saw shape: {tf.convert_to_tensor(weight).shape}")
    if given is not None and given == 0:
        return None
    states = [cell_state] if isinstance(cell_state, AttentionWrapperState) else cell_state if isinstance(cell_state, tuple) else ()
    found = [_mean(s.alignments) for s in states if isinstance(s, AttentionWrapperState)]
    if not found:
        raise ValueError("coverage_penalty_weight must be 0.0 if no cell is attentional.")
    return _mean(tuple(found))


def _mean(alignments: Any) -> Any:
    if not isinstance(alignments, tuple):
        return alignments
    return alignments[0] if len(alignments) == 1 else tf.add_n(list(alignments)) / len(alignments)
