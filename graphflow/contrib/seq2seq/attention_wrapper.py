"""`AttentionWrapper`: a cell that looks at a memory after each step, and sees what it found in the next one."""
from __future__ import annotations

import collections
from typing import Any

import graphflow as tf

from ... import nest
from ...rnn_cell import RNNCell, assert_like_rnncell, zeros
from .attention import AttentionMechanism

__all__ = ["AttentionWrapper", "AttentionWrapperState"]


class AttentionWrapperState(collections.namedtuple(
        "AttentionWrapperState", ("cell_state", "attention", "time", "alignments", "alignment_history", "attention_state"))):
    """State of an AttentionWrapper.

    Fields: the state of the cell; the attention given out last [batch, size]; the number of steps; the last alignments [batch, memory
    time]; a TensorArray of all alignments, or (); the mechanism's own state.  The last three are tuples where the wrapper has a list of
    mechanisms.
    """

    def clone(self, **kwargs: Any) -> AttentionWrapperState:
        """This state with some fields replaced, as by `zero_state(...).clone(cell_state=encoder_state)`.

        Raises:
            ValueError: a tensor of another shape.  InvalidArgumentError (when run): the same, where shapes are not known before.
        """
        return nest.map_structure(_as_before, self, self._replace(**kwargs))


def _as_before(old: Any, new: Any) -> Any:
    if old is new or not (isinstance(old, tf.Tensor) and isinstance(new, tf.Tensor)):
        return new
    if not old.shape.is_compatible_with(new.shape):
        raise ValueError(f"The shape of the AttentionWrapperState is expected to be same as the one to clone. self.shape: {old.shape}, "
                         f"input.shape: {new.shape}")
    if not (old.shape.is_fully_defined() and new.shape.is_fully_defined()):
        with tf.control_dependencies([tf.assert_equal(tf.shape(old), tf.shape(new), message="clone of another shape")]):
            new = tf.identity(new)
    new.set_shape(old.shape)
    return new


def compute_attention(mechanism: Any, cell_output: Any, attention_state: Any, attention_layer: Any) -> Any:
    """(attention, alignments, next state): the mean of the memory by the alignments, through the layer with the cell's output."""
    alignments, state = mechanism(cell_output, state=attention_state)
    context = tf.squeeze(tf.matmul(tf.expand_dims(alignments, 1), mechanism.values), [1])
    return context if attention_layer is None else attention_layer(tf.concat([cell_output, context], 1)), alignments, state


class AttentionWrapper(RNNCell):
    """A cell with attention.  Each step: the cell, on the inputs and the last attention; alignments for its output; their mean of the
    memory (the context); the attention, which is the context, or `attention_layer` of cell output and context.

    With a BeamSearchDecoder, memory, lengths and encoder state are tiled by `tile_batch`, and `zero_state` takes batch * beam_width.

    Variables, below "attention_wrapper": the cell's, the mechanism's, attention_layer/kernel.

    Args:
        cell: an RNNCell.
        attention_mechanism: an AttentionMechanism, or a list of them; their attentions are put side by side.
        attention_layer_size: units of the attention layer (a list, where there is one of mechanisms); None has no layer.
        alignment_history: keep the alignments of all steps, in the TensorArray `state.alignment_history`.
        cell_input_fn: from (inputs, attention) to the cell's inputs; by default one behind the other.
        output_attention: the output is the attention (Luong); else the cell's output (Bahdanau).
        initial_cell_state: the cell's part of `zero_state`.
        attention_layer: a Layer (or a list of them), in place of `attention_layer_size`.
        attention_fn: in place of what makes (attention, alignments, next state) from (mechanism, cell output, state, layer).

    Raises:
        TypeError: no cell, no mechanism, a function that is none.
        ValueError: sizes or layers that are not as many as mechanisms; both given.
        InvalidArgumentError (also when run): the memory's batch is not that of the state.
    """

    def __init__(self, cell: Any, attention_mechanism: Any, attention_layer_size: Any = None, alignment_history: bool = False,
                 cell_input_fn: Any = None, output_attention: bool = True, initial_cell_state: Any = None, name: str | None = None,
                 attention_layer: Any = None, attention_fn: Any = None):
        super().__init__(name=name)
        assert_like_rnncell("cell", cell)
        self._is_multi = isinstance(attention_mechanism, (list, tuple))
        mechanisms = self._mechanisms = tuple(attention_mechanism) if self._is_multi else (attention_mechanism,)
        for m in mechanisms:
            if not isinstance(m, AttentionMechanism):
                raise TypeError("attention_mechanism must be an AttentionMechanism or list of multiple AttentionMechanism instances, saw "
                                f"type: {type(m).__name__}")
        if cell_input_fn is not None and not callable(cell_input_fn):
            raise TypeError(f"cell_input_fn must be callable, saw type: {type(cell_input_fn).__name__}")
        if attention_layer_size is not None and attention_layer is not None:
            raise ValueError("Only one of attention_layer_size and attention_layer should be set")
        self._attention_layers: Any = None
        depths = [m.values.shape[-1].value for m in mechanisms]
        if attention_layer_size is not None:
            depths = list(_one_each(attention_layer_size, mechanisms, "attention_layer_size must contain exactly one integer"))
            self._attention_layers = tuple(tf.layers.Dense(n, name="attention_layer", use_bias=False, dtype=m.dtype)
                                           for n, m in zip(depths, mechanisms))
        elif attention_layer is not None:
            self._attention_layers = _one_each(attention_layer, mechanisms, "attention_layer must contain exactly one layer")
            depths = [layer.compute_output_shape([None, cell.output_size + depth])[-1].value
                      for layer, depth in zip(self._attention_layers, depths)]
        self._attention_layer_size = sum(depths)
        self._cell, self._alignment_history, self._output_attention = cell, alignment_history, output_attention
        self._cell_input_fn = cell_input_fn or (lambda inputs, attention: tf.concat([inputs, attention], -1))
        self._attention_fn = attention_fn or compute_attention
        self._initial_cell_state = None
        if initial_cell_state is not None:
            with tf.name_scope(name, "AttentionWrapperInit"):
                last = nest.flatten(initial_cell_state)[-1]
                self._initial_cell_state = self._checked(
                    initial_cell_state, tf.shape(last)[0] if last.shape[0].value is None else last.shape[0].value,
                    f"When constructing AttentionWrapper {self.name}: Non-matching batch sizes between the memory (encoder output) and "
                    "initial_cell_state. Are you using the BeamSearchDecoder? You may need to tile your initial state via the "
                    "tf.contrib.seq2seq.tile_batch function with argument multiple=beam_width.")

    def _checked(self, state: Any, batch_size: Any, message: str) -> Any:
        """The tensors of `state`, after a check that the memory's batch is `batch_size`."""
        with tf.control_dependencies([tf.assert_equal(batch_size, m.batch_size, message=message) for m in self._mechanisms]):
            return nest.map_structure(tf.identity, state)

    def _item_or_tuple(self, values: Any) -> Any:
        return tuple(values) if self._is_multi else next(iter(values))

    @property
    def output_size(self) -> Any:
        return self._attention_layer_size if self._output_attention else self._cell.output_size

    @property
    def state_size(self) -> AttentionWrapperState:
        """The sizes of all fields; () where there is no alignment history."""
        sizes = [m.alignments_size for m in self._mechanisms]
        return AttentionWrapperState(
            cell_state=self._cell.state_size, time=tf.TensorShape([]), attention=self._attention_layer_size,
            alignments=self._item_or_tuple(sizes), attention_state=self._item_or_tuple(m.state_size for m in self._mechanisms),
            alignment_history=self._item_or_tuple(n if self._alignment_history else () for n in sizes))

    def zero_state(self, batch_size: Any, dtype: Any) -> AttentionWrapperState:
        """The state before the first step.  Raises as the class does."""
        with tf.name_scope(type(self).__name__ + "ZeroState", values=[batch_size]):
            state = self._initial_cell_state if self._initial_cell_state is not None else self._cell.zero_state(batch_size, dtype)
            state = self._checked(
                state, batch_size,
                f"When calling zero_state of AttentionWrapper {self.name}: Non-matching batch sizes between the memory (encoder output) "
                "and the requested batch size. Are you using the BeamSearchDecoder? If so, make sure your encoder output has been tiled to "
                "beam_width via tf.contrib.seq2seq.tile_batch, and the batch_size= argument passed to zero_state is batch_size * "
                "beam_width.")
            alignments = [m.initial_alignments(batch_size, dtype) for m in self._mechanisms]
            return AttentionWrapperState(
                cell_state=state, time=tf.constant(0, tf.int32), attention=zeros(batch_size, self._attention_layer_size, dtype),
                alignments=self._item_or_tuple(alignments),
                attention_state=self._item_or_tuple(m.initial_state(batch_size, dtype) for m in self._mechanisms),
                alignment_history=self._item_or_tuple(
                    tf.TensorArray(dtype, size=0, dynamic_size=True, element_shape=a.shape) if self._alignment_history else ()
                    for a in alignments))

    def call(self, inputs: Any, state: Any) -> Any:
        """One step; `state` is an AttentionWrapperState.  Raises TypeError for another."""
        if not isinstance(state, AttentionWrapperState):
            raise TypeError(f"Expected state to be instance of AttentionWrapperState. Received type {type(state)} instead.")
        output, cell_state = self._cell(self._cell_input_fn(inputs, state.attention), state.cell_state)
        self._check_batch(output)
        states, histories = ((state.attention_state, state.alignment_history) if self._is_multi else
                             ([state.attention_state], [state.alignment_history]))
        found = [self._attention_fn(m, output, s, layer) for m, s, layer in
                 zip(self._mechanisms, states, self._attention_layers or [None] * len(self._mechanisms))]
        attention = tf.concat([f[0] for f in found], 1)
        following = AttentionWrapperState(
            cell_state=cell_state, time=state.time + 1, attention=attention, alignments=self._item_or_tuple(f[1] for f in found),
            attention_state=self._item_or_tuple(f[2] for f in found),
            alignment_history=self._item_or_tuple(
                h.write(state.time, f[1]) if self._alignment_history else () for h, f in zip(histories, found)))
        return attention if self._output_attention else output, following

    def _check_batch(self, output: Any) -> None:
        """Known batch sizes; others have been compared when the state was made."""
        batch = output.shape[0].value
        for m in self._mechanisms:
            if batch is not None and isinstance(m.batch_size, int):
                tf.assert_equal(batch, m.batch_size, message=(
                    f"When applying AttentionWrapper {self.name}: Non-matching batch sizes between the memory (encoder output) and the "
                    "query (decoder output). Are you using the BeamSearchDecoder? You may need to tile your memory input via the "
                    "tf.contrib.seq2seq.tile_batch function with argument multiple=beam_width."))


def _one_each(given: Any, mechanisms: Any, what: str) -> tuple[Any, ...]:
    found = tuple(given) if isinstance(given, (list, tuple)) else (given,)
    if len(found) != len(mechanisms):
        raise ValueError(f"If provided, {what} per attention_mechanism, saw: {len(found)} vs {len(mechanisms)}")
    return found
