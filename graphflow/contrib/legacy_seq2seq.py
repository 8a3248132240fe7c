"""`tf.contrib.legacy_seq2seq`: sequence to sequence models of a fixed number of steps.

Sequences are lists with a tensor for each step.  A model encodes one list into a state and decodes another from it; `outputs` are a
list of the length of the decoder's, [batch, size] each.  Variables have TF1's names.
"""
from __future__ import annotations

import copy
import functools
from typing import Any, Callable, Sequence

import graphflow as tf

from .. import nest
from ..rnn import static_rnn
from ..rnn_cell import RNNCell
from .rnn import EmbeddingWrapper, OutputProjectionWrapper
from .rnn import _linear as linear

__all__ = ["attention_decoder", "basic_rnn_seq2seq", "embedding_attention_decoder", "embedding_attention_seq2seq", "embedding_rnn_decoder",
           "embedding_rnn_seq2seq", "embedding_tied_rnn_seq2seq", "model_with_buckets", "one2many_rnn_seq2seq", "rnn_decoder",
           "sequence_loss", "sequence_loss_by_example", "tied_rnn_seq2seq"]


# ---------------------------------------------------------------- feeding back


def _feed_back(embedding: Any, projection: Any = None, update_embedding: bool = True) -> Callable[..., Any]:
    """A loop function: the vector of the most likely symbol of the output before."""
    def loop_function(prev: Any, _: int) -> Any:
        logits = prev if projection is None else tf.nn.xw_plus_b(prev, projection[0], projection[1])
        found = tf.nn.embedding_lookup(embedding, tf.argmax(logits, 1))
        return found if update_embedding else tf.stop_gradient(found)

    return loop_function


def _check_projection(projection: Any, num_symbols: int, dtype: Any, weights: bool = True) -> None:
    """Raises ValueError when (W, b) is not [anything, num_symbols] and [num_symbols]."""
    if projection is not None:
        if weights:
            tf.convert_to_tensor(projection[0], dtype=dtype).shape.assert_is_compatible_with([None, num_symbols])
        tf.convert_to_tensor(projection[1], dtype=dtype).shape.assert_is_compatible_with([num_symbols])


def _by(feed_previous: Any, decode: Callable[[bool], Any]) -> Any:
    """`decode(feed_previous)`; of a bool tensor, both in a `cond` with the same variables."""
    if isinstance(feed_previous, bool):
        return decode(feed_previous)

    def branch(value: bool) -> Any:
        with tf.variable_scope(tf.get_variable_scope(), reuse=None if value else True):
            return decode(value)

    return tf.cond(feed_previous, lambda: branch(True), lambda: branch(False))


# ---------------------------------------------------------------- without attention


def rnn_decoder(decoder_inputs: Sequence[Any], initial_state: Any, cell: Any, loop_function: Any = None, scope: Any = None) -> Any:
    """The cell step by step from a state.

    Args:
        decoder_inputs: tensors [batch, input_size].
        initial_state: of the cell.
        loop_function: from (output before, step number) to the next input, in place of all `decoder_inputs` but the first.
        scope: "rnn_decoder" by default.

    Returns:
        (outputs, final state).
    """
    with tf.variable_scope(scope or "rnn_decoder"):
        state, outputs = initial_state, []
        for i, x in enumerate(decoder_inputs):
            if loop_function is not None and outputs:
                with tf.variable_scope("loop_function", reuse=True):
                    x = loop_function(outputs[-1], i)
            if i > 0:
                tf.get_variable_scope().reuse_variables()
            output, state = cell(x, state)
            outputs.append(output)
    return outputs, state


def basic_rnn_seq2seq(encoder_inputs: Sequence[Any], decoder_inputs: Sequence[Any], cell: Any, dtype: Any = tf.float32,
                      scope: Any = None) -> Any:
    """A copy of `cell` encodes, `cell` decodes: (outputs, final state)."""
    with tf.variable_scope(scope or "basic_rnn_seq2seq"):
        _, state = static_rnn(copy.deepcopy(cell), encoder_inputs, dtype=dtype)
        return rnn_decoder(decoder_inputs, state, cell)


def tied_rnn_seq2seq(encoder_inputs: Sequence[Any], decoder_inputs: Sequence[Any], cell: Any, loop_function: Any = None,
                     dtype: Any = tf.float32, scope: Any = None) -> Any:
    """The same cell, with the same variables, encodes and decodes: (outputs, final state)."""
    with tf.variable_scope("combined_tied_rnn_seq2seq"):
        scope = scope or "tied_rnn_seq2seq"
        _, state = static_rnn(cell, encoder_inputs, dtype=dtype, scope=scope)
        tf.get_variable_scope().reuse_variables()
        return rnn_decoder(decoder_inputs, state, cell, loop_function, scope)


def embedding_rnn_decoder(decoder_inputs: Sequence[Any], initial_state: Any, cell: Any, num_symbols: int, embedding_size: int,
                          output_projection: Any = None, feed_previous: bool = False, update_embedding_for_previous: bool = True,
                          scope: Any = None) -> Any:
    """`rnn_decoder` of symbols.

    Args:
        decoder_inputs: int vectors [batch].
        num_symbols, embedding_size: of the table, variable `embedding`.
        output_projection: (W [output_size, num_symbols], b [num_symbols]) from outputs to logits, for feeding back.
        feed_previous: feed back the most likely symbol; of `decoder_inputs` only the first counts.
        update_embedding_for_previous: whether gradients reach the table through what is fed back.
        scope: "embedding_rnn_decoder" by default.

    Raises:
        ValueError: an `output_projection` of another shape.
    """
    with tf.variable_scope(scope or "embedding_rnn_decoder") as vs:
        _check_projection(output_projection, num_symbols, vs.dtype)
        table = tf.get_variable("embedding", [num_symbols, embedding_size])
        loop = _feed_back(table, output_projection, update_embedding_for_previous) if feed_previous else None
        return rnn_decoder([tf.nn.embedding_lookup(table, x) for x in decoder_inputs], initial_state, cell, loop)


def embedding_rnn_seq2seq(encoder_inputs: Sequence[Any], decoder_inputs: Sequence[Any], cell: Any, num_encoder_symbols: int,
                          num_decoder_symbols: int, embedding_size: int, output_projection: Any = None, feed_previous: Any = False,
                          dtype: Any = None, scope: Any = None) -> Any:
    """`basic_rnn_seq2seq` of symbols; outputs are logits, unless `output_projection` is given.

    Args:
        encoder_inputs, decoder_inputs: int vectors [batch].
        feed_previous: a bool, or a bool tensor.
        dtype: of the states.
        others: see `embedding_rnn_decoder`.
    """
    with tf.variable_scope(scope or "embedding_rnn_seq2seq", dtype=dtype) as vs:
        encoder = EmbeddingWrapper(copy.deepcopy(cell), num_encoder_symbols, embedding_size)
        _, state = static_rnn(encoder, encoder_inputs, dtype=vs.dtype)
        decoder = cell if output_projection is not None else OutputProjectionWrapper(cell, num_decoder_symbols)
        return _by(feed_previous, lambda back: embedding_rnn_decoder(
            decoder_inputs, state, decoder, num_decoder_symbols, embedding_size, output_projection, back,
            update_embedding_for_previous=isinstance(feed_previous, bool)))


def embedding_tied_rnn_seq2seq(encoder_inputs: Sequence[Any], decoder_inputs: Sequence[Any], cell: Any, num_symbols: int,
                               embedding_size: int, num_decoder_symbols: int | None = None, output_projection: Any = None,
                               feed_previous: Any = False, dtype: Any = None, scope: Any = None) -> Any:
    """`tied_rnn_seq2seq` of symbols, with one table for both sides; arguments as for `embedding_rnn_seq2seq`.

    Outputs are logits of `num_decoder_symbols`, or of `num_symbols` if that is None.
    """
    with tf.variable_scope(scope or "embedding_tied_rnn_seq2seq", dtype=dtype) as vs:
        _check_projection(output_projection, num_symbols, vs.dtype)
        table = tf.get_variable("embedding", [num_symbols, embedding_size], dtype=vs.dtype)
        encoded, decoded = ([tf.nn.embedding_lookup(table, x) for x in xs] for xs in (encoder_inputs, decoder_inputs))
        if output_projection is None:
            cell = OutputProjectionWrapper(cell, num_symbols if num_decoder_symbols is None else num_decoder_symbols)
        return _by(feed_previous, lambda back: tied_rnn_seq2seq(
            encoded, decoded, cell, _feed_back(table, output_projection, isinstance(feed_previous, bool)) if back else None, vs.dtype))


# ---------------------------------------------------------------- with attention


def attention_decoder(decoder_inputs: Sequence[Any], initial_state: Any, attention_states: Any, cell: Any, output_size: int | None = None,
                      num_heads: int = 1, loop_function: Any = None, dtype: Any = None, scope: Any = None,
                      initial_state_attention: bool = False) -> Any:
    """`rnn_decoder` whose cell sees a memory (Vinyals et al. 2015, "Grammar as a Foreign Language").

    Each step: the cell, on a linear map of input and last attention; the attention v^T tanh(W memory + U state) of its new state,
    softmax over the memory, for each head; the output, a linear map of cell output and attention.

    Args:
        attention_states: the memory, [batch, length, size].
        output_size: the cell's by default.
        num_heads: attentions side by side, each with its own weights.
        initial_state_attention: begin with the attention of the initial state; with zeros otherwise.
        others: see `rnn_decoder`; the scope is "attention_decoder".

    Raises:
        ValueError: no inputs, no heads, unknown sizes of memory or inputs.
    """
    if not decoder_inputs:
        raise ValueError("Must provide at least 1 input to attention decoder.")
    if num_heads < 1:
        raise ValueError("With less than 1 heads, use a non-attention decoder.")
    size = attention_states.shape[2].value
    if size is None:
        raise ValueError(f"Shape[2] of attention_states must be known: {attention_states.shape}")
    output_size = cell.output_size if output_size is None else output_size
    with tf.variable_scope(scope or "attention_decoder", dtype=dtype) as vs:
        # TF1's W is the kernel of a 1 x 1 convolution.
        heads = [(tf.get_variable(f"AttnW_{k}", [1, 1, size, size]), tf.get_variable(f"AttnV_{k}", [size])) for k in range(num_heads)]
        memories = [(tf.tensordot(attention_states, w[0, 0], 1), v) for w, v in heads]
        attend = lambda state: _attend(state, attention_states, memories)  # noqa: E731
        state, outputs = initial_state, []
        attention = attend(state) if initial_state_attention else [
            _zeros([tf.shape(decoder_inputs[0])[0], size], vs.dtype, size) for _ in heads]
        for i, x in enumerate(decoder_inputs):
            if i > 0:
                tf.get_variable_scope().reuse_variables()
            if loop_function is not None and outputs:
                with tf.variable_scope("loop_function", reuse=True):
                    x = loop_function(outputs[-1], i)
            depth = x.shape.with_rank(2)[1].value
            if depth is None:
                raise ValueError(f"Could not infer input size from input: {x.name}")
            output, state = cell(linear([x, *attention], depth), state)
            with tf.variable_scope(tf.get_variable_scope(), reuse=True if i == 0 and initial_state_attention else None):
                attention = attend(state)
            with tf.variable_scope("AttnOutputProjection"):
                outputs.append(linear([output, *attention], output_size))
    return outputs, state


def _zeros(sizes: Any, dtype: Any, depth: int) -> Any:
    found = tf.zeros(tf.stack(sizes), dtype)
    found.set_shape([None, depth])
    return found


def _attend(state: Any, memory: Any, heads: Sequence[Any]) -> list[Any]:
    """The mean of the memory by each head's softmax: a list of [batch, size]."""
    parts = nest.flatten(state)
    found = []
    for k, (features, v) in enumerate(heads):
        with tf.variable_scope(f"Attention_{k}"):
            query = linear(parts, memory.shape[2].value)
        weights = tf.nn.softmax(tf.reduce_sum(v * tf.tanh(features + tf.expand_dims(query, 1)), 2))
        found.append(tf.reduce_sum(tf.expand_dims(weights, 2) * memory, 1))
    return found


def embedding_attention_decoder(decoder_inputs: Sequence[Any], initial_state: Any, attention_states: Any, cell: Any, num_symbols: int,
                                embedding_size: int, num_heads: int = 1, output_size: int | None = None, output_projection: Any = None,
                                feed_previous: bool = False, update_embedding_for_previous: bool = True, dtype: Any = None,
                                scope: Any = None, initial_state_attention: bool = False) -> Any:
    """`attention_decoder` of symbols; see there, and `embedding_rnn_decoder`."""
    _check_projection(output_projection, num_symbols, dtype, weights=False)
    with tf.variable_scope(scope or "embedding_attention_decoder", dtype=dtype):
        table = tf.get_variable("embedding", [num_symbols, embedding_size])
        loop = _feed_back(table, output_projection, update_embedding_for_previous) if feed_previous else None
        inputs = [tf.nn.embedding_lookup(table, x) for x in decoder_inputs]
        return attention_decoder(inputs, initial_state, attention_states, cell, output_size, num_heads, loop,
                                 initial_state_attention=initial_state_attention)


def embedding_attention_seq2seq(encoder_inputs: Sequence[Any], decoder_inputs: Sequence[Any], cell: Any, num_encoder_symbols: int,
                                num_decoder_symbols: int, embedding_size: int, encoder_cell: Any = None, num_heads: int = 1,
                                output_projection: Any = None, feed_previous: Any = False, dtype: Any = None, scope: Any = None,
                                initial_state_attention: bool = False) -> Any:
    """`embedding_rnn_seq2seq` with attention to the encoder's outputs; `encoder_cell` is a copy of `cell` by default."""
    with tf.variable_scope(scope or "embedding_attention_seq2seq", dtype=dtype) as vs:
        encoder = EmbeddingWrapper(copy.deepcopy(cell) if encoder_cell is None else encoder_cell, num_encoder_symbols, embedding_size)
        outputs, state = static_rnn(encoder, encoder_inputs, dtype=vs.dtype)
        memory = tf.stack(outputs, axis=1)
        decoder, size = (cell, None) if output_projection is not None else (
            OutputProjectionWrapper(cell, num_decoder_symbols), num_decoder_symbols)
        return _by(feed_previous, lambda back: embedding_attention_decoder(
            decoder_inputs, state, memory, decoder, num_decoder_symbols, embedding_size, num_heads, size, output_projection, back,
            update_embedding_for_previous=isinstance(feed_previous, bool), initial_state_attention=initial_state_attention))


def one2many_rnn_seq2seq(encoder_inputs: Sequence[Any], decoder_inputs_dict: dict[Any, Sequence[Any]], enc_cell: Any,
                         dec_cells_dict: dict[Any, Any], num_encoder_symbols: int, num_decoder_symbols_dict: dict[Any, int],
                         embedding_size: int, feed_previous: Any = False, dtype: Any = None, scope: Any = None) -> Any:
    """One encoder and several decoders, by name: (dict of outputs, dict of final states) (Luong et al. 2016, "Multi-task Sequence to
    Sequence Learning").

    Raises:
        TypeError: a cell that is no RNNCell.  ValueError: the decoders' dicts have different keys.
    """
    if not isinstance(enc_cell, RNNCell):
        raise TypeError(f"enc_cell is not an RNNCell: {type(enc_cell)}")
    if set(dec_cells_dict) != set(decoder_inputs_dict):
        raise ValueError(f"keys of dec_cells_dict != keys of decoder_inputs_dict: {list(dec_cells_dict)}, {list(decoder_inputs_dict)}")
    for cell in dec_cells_dict.values():
        if not isinstance(cell, RNNCell):
            raise TypeError(f"dec_cell is not an RNNCell: {type(cell)}")
    outputs, states = {}, {}
    with tf.variable_scope(scope or "one2many_rnn_seq2seq", dtype=dtype) as vs:
        _, state = static_rnn(EmbeddingWrapper(enc_cell, num_encoder_symbols, embedding_size), encoder_inputs, dtype=vs.dtype)
        for name, inputs in decoder_inputs_dict.items():
            count = num_decoder_symbols_dict[name]
            with tf.variable_scope(f"one2many_decoder_{name}"):
                decoder = OutputProjectionWrapper(dec_cells_dict[name], count)
                outputs[name], states[name] = _by(feed_previous, functools.partial(
                    embedding_rnn_decoder, inputs, state, decoder, count, embedding_size, None))
    return outputs, states


# ---------------------------------------------------------------- losses


def sequence_loss_by_example(logits: Sequence[Any], targets: Sequence[Any], weights: Sequence[Any], average_across_timesteps: bool = True,
                             softmax_loss_function: Any = None, name: str | None = None) -> Any:
    """The weighted cross entropy of each sequence, [batch].

    Args:
        logits: tensors [batch, symbols].
        targets: int vectors [batch].
        weights: float vectors [batch].
        average_across_timesteps: divide by the sum of the weights.
        softmax_loss_function: called with `labels` and `logits`, in place of the cross entropy.

    Raises:
        ValueError: lists of different lengths.
    """
    if len(targets) != len(logits) or len(weights) != len(logits):
        raise ValueError(f"Lengths of logits, weights, and targets must be the same {len(logits)}, {len(weights)}, {len(targets)}.")
    loss = softmax_loss_function or (lambda labels, logits: tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=tf.reshape(labels, [-1]), logits=logits))
    with tf.name_scope(name, "sequence_loss_by_example", [*logits, *targets, *weights]):
        total = tf.add_n([loss(labels=y, logits=x) * w for x, y, w in zip(logits, targets, weights)])
        return total / (tf.add_n(list(weights)) + 1e-12) if average_across_timesteps else total


def sequence_loss(logits: Sequence[Any], targets: Sequence[Any], weights: Sequence[Any], average_across_timesteps: bool = True,
                  average_across_batch: bool = True, softmax_loss_function: Any = None, name: str | None = None) -> Any:
    """The sum of `sequence_loss_by_example`, divided by the batch size if `average_across_batch`."""
    with tf.name_scope(name, "sequence_loss", [*logits, *targets, *weights]):
        cost = tf.reduce_sum(sequence_loss_by_example(logits, targets, weights, average_across_timesteps, softmax_loss_function))
        return cost / tf.cast(tf.shape(targets[0])[0], cost.dtype) if average_across_batch else cost


def model_with_buckets(encoder_inputs: Sequence[Any], decoder_inputs: Sequence[Any], targets: Sequence[Any], weights: Sequence[Any],
                       buckets: Sequence[tuple[int, int]], seq2seq: Callable[..., Any], softmax_loss_function: Any = None,
                       per_example_loss: bool = False, name: str | None = None) -> Any:
    """A model for each length, with the same variables.

    Args:
        buckets: pairs of an encoder's and a decoder's length, the longest last.
        seq2seq: from (encoder inputs, decoder inputs) to (outputs, state).
        per_example_loss: losses [batch] of `sequence_loss_by_example`, in place of the scalars of `sequence_loss`.

    Returns:
        (the outputs of each bucket, the loss of each).

    Raises:
        ValueError: lists shorter than the last bucket.
    """
    for what, values, least in (("encoder_inputs", encoder_inputs, buckets[-1][0]), ("targets", targets, buckets[-1][1]),
                                ("weights", weights, buckets[-1][1])):
        if len(values) < least:
            raise ValueError(f"Length of {what} ({len(values)}) must be at least that of last bucket ({least}).")
    outputs, losses = [], []
    loss = sequence_loss_by_example if per_example_loss else sequence_loss
    with tf.name_scope(name, "model_with_buckets", [*encoder_inputs, *decoder_inputs, *targets, *weights]):
        for i, (before, after) in enumerate(buckets):
            with tf.variable_scope(tf.get_variable_scope(), reuse=True if i else None):
                found, _ = seq2seq(encoder_inputs[:before], decoder_inputs[:after])
                outputs.append(found)
                losses.append(loss(found, targets[:after], weights[:after], softmax_loss_function=softmax_loss_function))
    return outputs, losses
