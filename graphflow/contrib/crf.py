"""`tf.contrib.crf`: linear-chain conditional random fields (Lafferty et al. 2001).

A sequence of tags has the score sum of inputs[t, tag_t] plus sum of transitions[tag_t, tag_(t + 1)]; its probability is the
exponential of that over the sum for all sequences.  inputs are [batch, time, tags], lengths [batch]; what stands behind a
length does not count, and a length of 0 has score 0.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from .. import array_ops, math_ops, types
from ..graph import Tensor
from ..ops.elementwise import select
from ..ops.opdef import convert_to_tensor
from ..rnn import dynamic_rnn
from ..rnn_cell import RNNCell
from ..variable_scope import get_variable
from . import _old_layout
from .framework.tensors import smart_cond

__all__ = ["CrfDecodeBackwardRnnCell", "CrfDecodeForwardRnnCell", "CrfForwardRnnCell", "crf_binary_score", "crf_decode",
           "crf_log_likelihood", "crf_log_norm", "crf_multitag_sequence_score", "crf_sequence_score", "crf_unary_score", "viterbi_decode"]

__getattr__ = _old_layout(__name__)


def _single(inputs: Tensor) -> Any:
    """Whether there is one time step: a bool, or a tensor where it is not known."""
    known = inputs.shape[1].value
    return math_ops.equal(array_ops.shape(inputs)[1], 1) if known is None else known == 1


def _mask(sequence_lengths: Any, like: Tensor, dtype: Any) -> Tensor:
    return array_ops.sequence_mask(sequence_lengths, array_ops.shape(like)[1], dtype)


def crf_unary_score(tag_indices: Any, sequence_lengths: Any, inputs: Any) -> Tensor:
    """The sum of inputs[t, tag_t]: [batch]."""
    inputs, tags = convert_to_tensor(inputs), convert_to_tensor(tag_indices)
    chosen = array_ops.one_hot(tags, array_ops.shape(inputs)[2], dtype=inputs.dtype)
    return math_ops.reduce_sum(math_ops.reduce_sum(inputs * chosen, 2) * _mask(sequence_lengths, tags, inputs.dtype), 1)


def crf_binary_score(tag_indices: Any, sequence_lengths: Any, transition_params: Any) -> Tensor:
    """The sum of transitions[tag_t, tag_(t + 1)]: [batch]."""
    tags, transitions = convert_to_tensor(tag_indices), convert_to_tensor(transition_params)
    steps = array_ops.gather_nd(transitions, array_ops.stack([tags[:, :-1], tags[:, 1:]], 2))
    return math_ops.reduce_sum(steps * _mask(sequence_lengths, tags, transitions.dtype)[:, 1:], 1)


def crf_sequence_score(inputs: Any, tag_indices: Any, sequence_lengths: Any, transition_params: Any) -> Tensor:
    """The score of each sequence of tags [batch, time]: [batch]."""
    return crf_unary_score(tag_indices, sequence_lengths, inputs) + crf_binary_score(tag_indices, sequence_lengths, transition_params)


def crf_multitag_sequence_score(inputs: Any, tag_bitmap: Any, sequence_lengths: Any, transition_params: Any) -> Tensor:
    """The logarithm of the summed exponentials of all sequences that `tag_bitmap` [batch, time, tags] allows: [batch]."""
    inputs = convert_to_tensor(inputs)
    allowed = select(convert_to_tensor(tag_bitmap), inputs, float("-inf"))
    return crf_log_norm(allowed, sequence_lengths, transition_params)


def crf_log_norm(inputs: Any, sequence_lengths: Any, transition_params: Any) -> Tensor:
    """The logarithm of the summed exponentials of all sequences: [batch]."""
    inputs, lengths = convert_to_tensor(inputs), convert_to_tensor(sequence_lengths)
    first = inputs[:, 0]

    def forward() -> Tensor:
        rest = math_ops.maximum(lengths - 1, 0)
        return dynamic_rnn(CrfForwardRnnCell(transition_params), inputs[:, 1:], rest, initial_state=first, dtype=inputs.dtype)[1]

    last = smart_cond(_single(inputs), lambda: array_ops.identity(first), forward)
    norm = math_ops.reduce_logsumexp(last, [1])
    return select(lengths <= 0, array_ops.zeros_like(norm), norm)


def crf_log_likelihood(inputs: Any, tag_indices: Any, sequence_lengths: Any, transition_params: Any = None) -> tuple[Tensor, Any]:
    """(log-probability of each sequence of tags [batch], the transitions).

    Args:
        transition_params: [tags, tags]; by default a variable "transitions".
    """
    inputs = convert_to_tensor(inputs)
    if transition_params is None:
        tags = inputs.shape[2].value
        transition_params = get_variable("transitions", [tags, tags])
    score = crf_sequence_score(inputs, tag_indices, sequence_lengths, transition_params)
    return score - crf_log_norm(inputs, sequence_lengths, transition_params), transition_params


class CrfForwardRnnCell(RNNCell):
    """One step of the forward algorithm: state and output are the logarithms of the summed scores that end in each tag."""

    def __init__(self, transition_params: Any):
        super().__init__()
        self._transitions = array_ops.expand_dims(convert_to_tensor(transition_params), 0)

    state_size = property(lambda self: self._transitions.shape[2].value)
    output_size = state_size

    def __call__(self, inputs: Any, state: Any, scope: Any = None) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        new = inputs + math_ops.reduce_logsumexp(array_ops.expand_dims(state, 2) + self._transitions, [1])
        return new, new


class CrfDecodeForwardRnnCell(RNNCell):
    """One step of Viterbi's algorithm: the state is the best score that ends in each tag, the output the tag before it."""

    def __init__(self, transition_params: Any):
        super().__init__()
        self._transitions = array_ops.expand_dims(convert_to_tensor(transition_params), 0)

    state_size = property(lambda self: self._transitions.shape[2].value)
    output_size = state_size

    def __call__(self, inputs: Any, state: Any, scope: Any = None) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        scores = array_ops.expand_dims(state, 2) + self._transitions
        return math_ops.cast(math_ops.argmax(scores, 1), types.int32), inputs + math_ops.reduce_max(scores, [1])


class CrfDecodeBackwardRnnCell(RNNCell):
    """One step back: the inputs are the tags before each tag [batch, tags], the state is a tag [batch, 1]."""

    def __init__(self, num_tags: int):
        super().__init__()
        self._num_tags = num_tags

    state_size = property(lambda self: 1)
    output_size = property(lambda self: 1)

    def __call__(self, inputs: Any, state: Any, scope: Any = None) -> tuple[Tensor, Tensor]:  # type: ignore[override]
        rows = array_ops.range(array_ops.shape(inputs)[0])
        before = array_ops.gather_nd(inputs, array_ops.stack([rows, state[:, 0]], 1))
        new = array_ops.expand_dims(before, 1)
        return new, new


def crf_decode(potentials: Any, transition_params: Any, sequence_length: Any) -> tuple[Tensor, Tensor]:
    """(best tags int32 [batch, time], their score [batch]), by Viterbi's algorithm; behind a length the tags are 0."""
    potentials, lengths = convert_to_tensor(potentials), convert_to_tensor(sequence_length)

    def one() -> tuple[Tensor, Tensor]:
        only = potentials[:, 0]
        return math_ops.cast(array_ops.expand_dims(math_ops.argmax(only, 1), 1), types.int32), math_ops.reduce_max(only, [1])

    def several() -> tuple[Tensor, Tensor]:
        rest = math_ops.maximum(lengths - 1, 0)
        before, last = dynamic_rnn(CrfDecodeForwardRnnCell(transition_params), potentials[:, 1:], rest, initial_state=potentials[:, 0],
                                   dtype=types.int32)
        before = array_ops.reverse_sequence(before, rest, seq_axis=1)
        end = array_ops.expand_dims(math_ops.cast(math_ops.argmax(last, 1), types.int32), 1)
        back, _ = dynamic_rnn(CrfDecodeBackwardRnnCell(potentials.shape[2].value), before, rest, initial_state=end, dtype=types.int32)
        tags = array_ops.concat([end, array_ops.squeeze(back, [2])], 1)
        return array_ops.reverse_sequence(tags, lengths, seq_axis=1), math_ops.reduce_max(last, [1])

    return smart_cond(_single(potentials), one, several)


def viterbi_decode(score: Any, transition_params: Any) -> tuple[list[int], Any]:
    """(best tags, their score) of one sequence, in NumPy: score is [time, tags]."""
    score, transitions = np.asarray(score), np.asarray(transition_params)
    best, before = score[0], []
    for t in range(1, len(score)):
        through = best[:, None] + transitions
        before.append(through.argmax(0))
        best = score[t] + through.max(0)
    tags = [int(best.argmax())]
    for step in reversed(before):
        tags.append(int(step[tags[-1]]))
    return tags[::-1], best.max()
