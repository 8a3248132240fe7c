"""Connectionist temporal classification (Graves et al., 2006): `tf.nn.ctc_loss` and the decoders.

The classes of a network that reads T steps are the symbols of a label and a blank.  An alignment gives each step a class; dropping
repetitions and then blanks makes a label of it, and the probability of a label is the sum over all its alignments.

The loss is written in ordinary ops: a loop over time on the states [batch, 2 L + 1] of the label with blanks around its symbols.
What the engine derives from it is the forward-backward algorithm, once more if second derivatives are asked for.  Checking labels
and decoding look at values and run on the host.
"""
from __future__ import annotations

from typing import Any, Iterator

import numpy as np

from . import array_ops, errors, graph, math_ops, types
from .control_flow_ops import while_loop
from .graph import Spec, Tensor
from .ops.array import INDEX, floats, sample
from .ops.elementwise import stop_gradient
from .ops.opdef import convert_to_tensor, needs_rank, primitive
from .sparse_tensor import SparseTensor, SparseTensorValue, out_of_order
from .tensor_array_ops import TensorArray

__all__ = ["collapse_repeated", "ctc_beam_search_decoder", "ctc_beam_search_decoder_v2", "ctc_greedy_decoder", "ctc_loss", "ctc_loss_v2",
           "ctc_unique_labels"]

FLOATS = (types.float32, types.float64)
# The logarithm of 0.  Finite, so that no difference of two of them is nan; what is below half of it is 0.
NEVER = -1e30


# ---------------------------------------------------------------- labels


@primitive("host", type="CTCLabels", dtypes=INDEX, same=("values",), no_gradient="labels are integers",
           input_dtypes=dict.fromkeys(("indices", "lengths", "shape"), INDEX), output_dtypes=lambda *_, **__: [types.int32, types.int32])
def ctc_labels(indices, values, lengths, shape, *, blank, collapse, ignore):
    """Sparse labels as ([batch, longest] filled up with blanks, their lengths), checked against logits of `shape` [T, batch, classes]
    of which `lengths` are read.  A label with more symbols than steps has length -1 where `ignore` allows that.
    """


ctc_labels.samples = [sample([[0, 0], [0, 1], [1, 0]], [1, 1, 0], [4, 3], [4, 2, 3], blank=-1, collapse=False, ignore=False),
                      sample([[0, 0], [0, 1], [1, 0]], [1, 1, 0], [4, 0], [4, 2, 3], blank=-1, collapse=True, ignore=True)]


@ctc_labels.infers
def _(indices, values, lengths, shape, *, blank, collapse, ignore):
    needs_rank(indices, 2), needs_rank(values, 1)
    batch = needs_rank(lengths, 1)[0]
    return [Spec(types.int32, (batch, types.UNKNOWN)), Spec(types.int32, (batch,))]


@ctc_labels.reference
def _(indices, values, lengths, shape, *, blank, collapse, ignore):
    steps, batch, classes = map(int, shape)
    blank %= classes or 1
    _check_lengths(lengths, steps, batch, errors.InvalidArgumentError)
    if steps == 0:
        raise ValueError("Max time or first dimension of input cannot be 0.")
    problem = out_of_order(indices, np.array([batch, (indices[:, 1].max(initial=-1)) + 1]))
    if problem:
        raise ValueError(f"label SparseTensor is not valid: {problem}")
    rows = [_label(b, values[indices[:, 0] == b].tolist(), int(lengths[b]), classes, blank, collapse, ignore) for b in range(batch)]
    out = np.full((batch, max([len(r or []) for r in rows], default=0)), blank, np.int32)
    for b, r in enumerate(rows):
        out[b, :len(r or [])] = r or []
    return out, np.array([-1 if r is None else len(r) for r in rows], np.int32)


def _check_lengths(lengths: np.ndarray, steps: int, batch: int, error: type[errors.OpError]) -> None:
    if len(lengths) != batch:
        raise errors.InvalidArgumentError(None, None, f"len(sequence_length) != batch_size. len(sequence_length): {len(lengths)}, "
                                                      f"batch_size: {batch}")
    for b in np.flatnonzero(lengths > steps):
        raise error(None, None, f"sequence_length({b}) <= {steps} does not hold: it is {lengths[b]}, the inputs have {steps} steps")
    for b in np.flatnonzero(lengths < 0) if error is errors.InvalidArgumentError else ():
        raise error(None, None, f"seq_len({b}) < 0: it is {lengths[b]}")


def _label(b: int, raw: list[int], steps: int, classes: int, blank: int, collapse: bool, ignore: bool) -> list[int] | None:
    """The symbols of one label, up to the first null; None if it is one to ignore."""
    if not raw:
        raise ValueError(f"Labels length is zero in batch {b}")
    label = []
    for i, x in enumerate(raw):
        if collapse and i and x == raw[i - 1]:
            continue
        null = x == blank or x >= classes
        if not null and len(label) < i and not collapse or not null and any(y == blank or y >= classes for y in raw[:i]):
            raise ValueError(f"Saw a non-null label (index >= num_classes - 1) following a null label, batch: {b} num_classes: {classes} "
                             f"labels: {','.join(map(str, raw))} labels seen so far: {','.join(map(str, label))}")
        if not null:
            label.append(x)
    if min(label, default=0) < 0:
        raise ValueError(f"All labels must be nonnegative integers, batch: {b} labels: {','.join(map(str, label))}")
    if len(label) > steps:
        if not ignore:
            raise ValueError(f"Not enough time for target transition sequence (required: {len(label)}, available: {steps}) in batch {b}. "
                             "You can turn this error into a warning by using the flag ignore_longer_outputs_than_inputs")
        return None
    return label


# ---------------------------------------------------------------- the loss


def _states(labels: Tensor, blank: Tensor) -> Tensor:
    """[batch, 2 L + 1]: a blank before, between and after the symbols of labels [batch, L]."""
    blanks = array_ops.zeros_like(labels) + blank
    first = array_ops.fill(array_ops.stack([array_ops.shape(labels)[0], 1]), blank)
    pairs = array_ops.reshape(array_ops.stack([labels, blanks], 2), array_ops.stack([array_ops.shape(labels)[0], -1]))
    return array_ops.concat([first, pairs], 1)


def _log_sum(*terms: Tensor) -> Tensor:
    """log(sum(exp(terms))), elementwise."""
    top = terms[0]
    for t in terms[1:]:
        top = math_ops.maximum(top, t)
    top = stop_gradient(top)
    return top + math_ops.log(math_ops.add_n([math_ops.exp(t - top) for t in terms]))


def _loss(logits: Tensor, lengths: Tensor, labels: Tensor, label_lengths: Tensor, blank: Tensor, merge: bool = True) -> Tensor:
    """-log p(label) of each of the batch: logits [batch, T, classes], labels [batch, L].

    log p = sum over time of (log softmax): the normalisers add up apart from the alignments, whose scores are the logits themselves.
    So the gradient is softmax - posteriors, and softmax where no alignment is possible and the loss is infinite, as in TF.
    """
    steps = array_ops.shape(logits)[1]
    live = array_ops.expand_dims(array_ops.range(steps), 0) < array_ops.expand_dims(lengths, 1)
    # Steps past the end are not read, whatever stands there.
    x = array_ops.where_v2(array_ops.expand_dims(live, 2), logits, array_ops.zeros_like(logits))
    x = x - stop_gradient(math_ops.reduce_max(x, 2, keepdims=True))
    norms = math_ops.log(math_ops.reduce_sum(math_ops.exp(x), 2))
    norm = math_ops.reduce_sum(array_ops.where(live, norms, array_ops.zeros_like(norms)), 1)
    states = _states(labels, blank)
    scores = math_ops.maximum(array_ops.transpose(array_ops.gather(x, states, axis=2, batch_dims=1), [1, 0, 2]), NEVER)
    score = _alignments(scores, states, lengths, label_lengths, blank, merge)
    possible = score > NEVER / 2
    return norm - array_ops.where(possible, score, array_ops.fill(array_ops.shape(score), convert_to_tensor(-np.inf, score.dtype)))


def _alignments(scores: Tensor, states: Tensor, lengths: Tensor, label_lengths: Tensor, blank: Tensor, merge: bool) -> Tensor:
    """log(sum over alignments of exp(sum of the scores along them)) of each of the batch; scores [T, batch, states].

    The recursion of section 4.1 of the paper on logarithms.  Each step the largest is taken out, into a sum of its own: what is left
    are small numbers, whose differences, which make the gradient, keep all their digits over thousands of steps.
    """
    steps, at = array_ops.shape(scores)[0], array_ops.range(array_ops.shape(states)[1])
    never = convert_to_tensor(NEVER, scores.dtype)
    symbol = math_ops.not_equal(states, blank)
    # From two states before: past a blank, unless that stands between equal symbols.
    before = array_ops.pad(states, [[0, 0], [2, 0]], constant_values=-1)[:, :-2]
    skip = math_ops.logical_and(symbol, math_ops.not_equal(states, before)) if merge else symbol
    start = array_ops.where(math_ops.equal(at, 0), array_ops.zeros_like(at, scores.dtype), array_ops.fill(array_ops.shape(at), never))
    start = array_ops.zeros_like(states, scores.dtype) + start
    rows = TensorArray(scores.dtype, steps, element_shape=types.TensorShape(scores.get_shape()[1:])).unstack(scores)

    def step(t: Tensor, a: Tensor, taken: Tensor) -> list[Any]:
        wide = array_ops.pad(a, [[0, 0], [2, 0]], constant_values=NEVER)
        stay = a if merge else array_ops.where(symbol, array_ops.fill(array_ops.shape(a), never), a)
        jump = array_ops.where(skip, wide[:, :-2], array_ops.fill(array_ops.shape(a), never))
        new = _log_sum(stay, wide[:, 1:-1], jump) + rows.read(t)
        top = stop_gradient(math_ops.reduce_max(new, 1, keepdims=True))
        live = array_ops.expand_dims(t < lengths, 1)
        return [t + 1, array_ops.where_v2(live, new - top, a), taken + array_ops.where(live, top, array_ops.zeros_like(top))]

    taken = array_ops.zeros_like(start[:, :1])
    _, a, taken = while_loop(lambda t, a, taken: t < steps, step, [convert_to_tensor(0), start, taken])
    # The last symbol, or the blank behind it.
    end = 2 * array_ops.expand_dims(label_lengths, 1)
    last = math_ops.logical_or(math_ops.equal(at, end), math_ops.equal(at, end - 1))
    ends = array_ops.where(last, a, array_ops.fill(array_ops.shape(a), never))
    top = stop_gradient(math_ops.reduce_max(ends, 1, keepdims=True))
    return (top + math_ops.log(math_ops.reduce_sum(math_ops.exp(ends - top), 1, keepdims=True)) + taken)[:, 0]


def _batch_major(inputs: Any, lengths: Any, time_major: bool, op: str) -> tuple[Tensor, Tensor]:
    """Checked logits [batch, T, classes] and int32 lengths [batch]."""
    x = convert_to_tensor(inputs)
    if x.dtype not in FLOATS:
        raise TypeError(f"Input 'inputs' of '{op}' Op has type {x.dtype.name}, expected one of: float32, float64")
    lengths = math_ops.cast(convert_to_tensor(lengths, None if isinstance(lengths, (Tensor, np.ndarray)) else types.int32), types.int32)
    if x.sizes is not None and len(x.sizes) != 3:
        raise ValueError(f"Shape must be rank 3 but is rank {len(x.sizes)} for '{op}' with inputs {x!r}")
    if lengths.sizes is not None and len(lengths.sizes) != 1:
        raise ValueError(f"Shape must be rank 1 but is rank {len(lengths.sizes)} for '{op}' with sequence_length {lengths!r}")
    if x.sizes is None:
        raise ValueError(f"'{op}' needs inputs of rank 3, of {x!r} not even the rank is known; call set_shape")
    batch = x.sizes[1 if time_major else 0]
    if lengths.sizes is not None and types.same(batch, lengths.sizes[0]) is False:
        raise ValueError(f"Dimensions must be equal, but are {batch} and {lengths.sizes[0]} for '{op}': the batch of inputs {x.shape} and "
                         f"sequence_length {lengths.shape}")
    return array_ops.transpose(x, [1, 0, 2]) if time_major else x, lengths


def ctc_loss(labels: Any, inputs: Any = None, sequence_length: Any = None, preprocess_collapse_repeated: bool = False,
             ctc_merge_repeated: bool = True, ignore_longer_outputs_than_inputs: bool = False, time_major: bool = True,
             logits: Any = None) -> Tensor:
    """-log of the probability that the network gives to a label (Graves et al., 2006), for each of the batch.

    Args:
        labels: an int32 `SparseTensor` [batch, longest label]; classes below num_classes - 1, which is the blank.
        inputs: logits, float32 or float64 [T, batch, num_classes], [batch, T, num_classes] unless `time_major`; softmax is applied here.
        sequence_length: int32 [batch], how many steps count.
        preprocess_collapse_repeated: repetitions in labels count once.
        ctc_merge_repeated: repetitions without a blank between them are one symbol; otherwise each step's class counts for itself.
        ignore_longer_outputs_than_inputs: a label with more symbols than steps has loss and gradient 0, instead of an error.
        logits: another name of `inputs`.

    Returns:
        [batch] losses; infinite where only missing blanks between repetitions make a label impossible.  The gradient is softmax less
        the posterior probabilities of the classes at each step, 0 past `sequence_length`.

    Raises:
        TypeError: `labels` is no SparseTensor; the logits are no floats.  ValueError: wrong ranks, batches that differ.
        InvalidArgumentError (when run): not enough time for a label; an empty label; labels that are negative, out of order or go on
            after a blank; sequence lengths below 0 or above T.
    """
    if isinstance(labels, SparseTensorValue):
        labels = SparseTensor.from_value(labels)
    if not isinstance(labels, SparseTensor):
        raise TypeError("Expected labels (first argument) to be a SparseTensor")
    if (inputs is None) == (logits is None):
        raise ValueError("ctc_loss needs inputs" if logits is None else "Cannot specify both inputs and logits")
    with graph.get_default_graph().name_scope("CTCLoss"):
        return _sparse_loss(labels, logits if inputs is None else inputs, sequence_length, time_major, -1, preprocess_collapse_repeated,
                            ctc_merge_repeated, ignore_longer_outputs_than_inputs, "CTCLoss")


def _sparse_loss(labels: SparseTensor, inputs: Any, lengths: Any, time_major: bool, blank: int, collapse: bool, merge: bool, ignore: bool,
                 op: str) -> Tensor:
    x, lengths = _batch_major(inputs, lengths, time_major, op)
    shape = array_ops.gather(array_ops.shape(x), [1, 0, 2])
    if labels.dtype not in INDEX:
        raise TypeError(f"Input 'labels_values' of '{op}' Op has type {labels.dtype.name} that does not match expected type of int32; "
                        "convert with tf.cast")
    dense, counts = ctc_labels(labels.indices, labels.values, lengths, shape, blank=int(blank), collapse=bool(collapse),
                               ignore=bool(ignore), name="labels")
    found = _loss(x, lengths, dense, counts, _class(blank, x), bool(merge))
    if ignore:
        found = array_ops.where(counts < 0, array_ops.zeros_like(found), found)
    return array_ops.identity(found, name="loss")


def _class(blank: int, x: Tensor) -> Tensor:
    """The number of the blank class, an int32 scalar."""
    classes = x.sizes[2]  # type: ignore[index]
    if isinstance(classes, int):
        if not -classes <= blank < classes:
            raise ValueError(f"blank_index must be in [{-classes}, {classes}), got {blank}")
        return convert_to_tensor(blank % classes, types.int32)
    return array_ops.shape(x)[2] + blank if blank < 0 else convert_to_tensor(blank, types.int32)


def ctc_loss_v2(labels: Any, logits: Any, label_length: Any, logit_length: Any, logits_time_major: bool = True, unique: Any = None,
                blank_index: int | None = None, name: str | None = None) -> Tensor:
    """`ctc_loss` with labels that may be dense, and any class as the blank.

    Args:
        labels: int32 [batch, L], of which `label_length` [batch] symbols count; or a SparseTensor (`label_length` is not looked at).
        logits: [T, batch, num_classes], [batch, T, num_classes] unless `logits_time_major`.
        logit_length: int32 [batch], how many steps count.
        unique: accepted (what `ctc_unique_labels` returns); nothing is gained by it here.
        blank_index: which class is the blank, negative from the end; 0 for dense labels, must be given for sparse ones.

    Returns:
        [batch] losses, infinite where a dense label is impossible in the given time.

    Raises:
        ValueError: `blank_index` missing or out of range, wrong ranks.
        InvalidArgumentError (when run): a label outside the classes; of sparse labels what `ctc_loss` says.
    """
    if isinstance(labels, SparseTensorValue):
        labels = SparseTensor.from_value(labels)
    with graph.get_default_graph().name_scope(name or "ctc_loss"):
        if isinstance(labels, SparseTensor):
            if blank_index is None:
                raise ValueError("Argument `blank_index` must be provided when labels is a SparseTensor.")
            return _sparse_loss(labels, logits, logit_length, logits_time_major, blank_index, False, True, False, "CTCLossV2")
        x, lengths = _batch_major(logits, logit_length, logits_time_major, "CTCLossDense")
        dense = math_ops.cast(convert_to_tensor(labels), types.int32)
        counts = math_ops.cast(convert_to_tensor(label_length), types.int32)
        needs_rank(dense, 2), needs_rank(counts, 1)
        blank = _class(0 if blank_index is None else int(blank_index), x)
        known = array_ops.sequence_mask(counts, array_ops.shape(dense)[1])
        dense = array_ops.where(known, dense, array_ops.zeros_like(dense) + blank)
        return array_ops.identity(_loss(x, lengths, dense, counts, blank), name="loss")


# ---------------------------------------------------------------- labels by themselves


@primitive("host", type="CTCUniqueLabels", dtypes=INDEX, no_gradient="an index", output_dtypes=lambda x: [x.dtype, types.int32],
           infer=lambda labels: [Spec(labels.dtype, needs_rank(labels, 2)), Spec(types.int32, labels.sizes)])
def unique_labels_op(labels):
    """The distinct labels of each row in order of appearance, filled up with zeros, and for each label its place among them."""


unique_labels_op.samples = [sample([[1, 2, 2, 3, 3, 1], [3, 3, 3, 3, 3, 0]])]


@unique_labels_op.reference
def _(labels):
    unique, places = np.zeros_like(labels), np.zeros(labels.shape, np.int32)
    for b, row in enumerate(labels.tolist()):
        seen = {x: i for i, x in enumerate(dict.fromkeys(row))}
        unique[b, :len(seen)], places[b] = list(seen), [seen[x] for x in row]
    return unique, places


def ctc_unique_labels(labels: Any, name: str | None = None) -> tuple[Tensor, Tensor]:
    """(distinct labels of each row [batch, L] filled up with zeros, for each label its place among them [batch, L])."""
    return tuple(unique_labels_op(convert_to_tensor(labels), name=name or "ctc_unique_labels"))


@primitive("host", type="CollapseRepeated", dtypes=INDEX, same=("labels",), input_dtypes={"lengths": INDEX}, no_gradient="an index",
           output_dtypes=lambda labels, lengths: [labels.dtype, types.int32],
           infer=lambda labels, lengths: [Spec(labels.dtype, (needs_rank(labels, 2)[0], types.UNKNOWN)), Spec(types.int32, lengths.sizes)])
def collapse_repeated_op(labels, lengths):
    """The first `lengths` labels of each row without repetitions, filled up with zeros, and how many there are then."""


collapse_repeated_op.samples = [sample([[1, 1, 2, 2, 1], [0, 1, 0, 0, 0]], [5, 3])]


@collapse_repeated_op.reference
def _(labels, lengths):
    rows = [[x for i, x in enumerate(row[:n]) if i == 0 or x != row[i - 1]] for row, n in zip(labels.tolist(), lengths.tolist())]
    return _padded(rows, labels.dtype), np.array([len(r) for r in rows], np.int32)


def _padded(rows: list[list[int]], dtype: Any) -> np.ndarray:
    out = np.zeros((len(rows), max(map(len, rows), default=0)), dtype)
    for b, r in enumerate(rows):
        out[b, :len(r)] = r
    return out


def collapse_repeated(labels: Any, seq_length: Any, name: str | None = None) -> tuple[Tensor, Tensor]:
    """(labels [batch, longest] without repetitions, their lengths [batch]); `seq_length` [batch] labels of each row count."""
    return tuple(collapse_repeated_op(convert_to_tensor(labels), convert_to_tensor(seq_length), name=name or "collapse_repeated_labels"))


# ---------------------------------------------------------------- decoders


def _decoded_spec(inputs: Tensor, lengths: Tensor, paths: int, columns: int) -> list[Spec]:
    batch = types.merge_shapes(needs_rank(inputs, 3)[1:2], lengths.sizes)[0]  # type: ignore[index]
    one = [Spec(types.int64, (types.UNKNOWN, 2)), Spec(types.int64, (types.UNKNOWN,)), Spec(types.int64, (2,))]
    return one * paths + [Spec(inputs.dtype, (batch, columns))]


def _as_sparse(rows: list[list[int]]) -> list[np.ndarray]:
    """Indices, values and dense shape of sequences of classes."""
    at = [(b, i) for b, row in enumerate(rows) for i in range(len(row))]
    values = [x for row in rows for x in row]
    shape = [len(rows), max(map(len, rows), default=0)]
    return [np.array(at, np.int64).reshape(-1, 2), np.array(values, np.int64), np.array(shape, np.int64)]


def _without_repetitions(row: list[int]) -> list[int]:
    return [x for i, x in enumerate(row) if i == 0 or x != row[i - 1]]


@primitive("host", type="CTCGreedyDecoder", dtypes=FLOATS, same=("inputs",), input_dtypes={"lengths": (types.int32,)},
           no_gradient="it chooses by value", output_dtypes=lambda x, *_, **__: [types.int64, types.int64, types.int64, x.dtype],
           infer=lambda inputs, lengths, *, merge_repeated: _decoded_spec(inputs, lengths, 1, 1))
def greedy_op(inputs, lengths, *, merge_repeated):
    """The class with the largest logit at each step, without repetitions and blanks, as parts of a sparse tensor."""


greedy_op.samples = [sample(floats(4, 2, 3), [4, 2], merge_repeated=True), sample(floats(4, 2, 3), [3, 0], merge_repeated=False)]


@greedy_op.reference
def _(inputs, lengths, *, merge_repeated):
    steps, batch, classes = inputs.shape
    _check_lengths(lengths, steps, batch, errors.FailedPreconditionError)
    best = inputs.argmax(2) if classes else np.zeros((steps, batch), int)
    total, rows = np.zeros((batch, 1), inputs.dtype), []
    for b in range(batch):
        n = max(int(lengths[b]), 0)
        total[b, 0] = -inputs[:n, b].max(1).sum() if n else 0
        path = best[:n, b].tolist()
        rows.append([x for x in (_without_repetitions(path) if merge_repeated else path) if x != classes - 1])
    return [*_as_sparse(rows), total]


def _decoder_inputs(inputs: Any, lengths: Any, op: str) -> tuple[Tensor, Tensor]:
    x = convert_to_tensor(inputs)
    _, lengths = _batch_major(x, lengths, True, op)
    return x, lengths


def ctc_greedy_decoder(inputs: Any, sequence_length: Any, merge_repeated: bool = True) -> tuple[list[SparseTensor], Tensor]:
    """The best class of each step, blanks (num_classes - 1) and, with `merge_repeated`, repetitions before them left out.

    Args:
        inputs: logits, float32 or float64 [T, batch, num_classes].
        sequence_length: int32 [batch].

    Returns:
        ([an int64 SparseTensor [batch, longest]], minus the sum of the largest logits [batch, 1]).

    Raises:
        ValueError: wrong ranks, batches that differ.  FailedPreconditionError (when run): a sequence length above T.
    """
    x, lengths = _decoder_inputs(inputs, sequence_length, "CTCGreedyDecoder")
    *parts, total = greedy_op(x, lengths, merge_repeated=bool(merge_repeated))
    return [SparseTensor(*parts)], total


@primitive("host", type="CTCBeamSearchDecoder", dtypes=FLOATS, same=("inputs",), input_dtypes={"lengths": (types.int32,)},
           no_gradient="it chooses by value", output_dtypes=lambda x, *_, top_paths, **__: [types.int64] * (3 * top_paths) + [x.dtype],
           infer=lambda inputs, lengths, *, top_paths, **_: _decoded_spec(inputs, lengths, top_paths, top_paths))
def beam_op(inputs, lengths, *, beam_width, top_paths, merge_repeated):
    """The most probable labels that a beam search finds, best first, as parts of sparse tensors; then log probabilities."""


beam_op.samples = [sample(floats(4, 2, 3), [4, 2], beam_width=5, top_paths=2, merge_repeated=False),
                   sample(floats(4, 1, 3), [3], beam_width=2, top_paths=1, merge_repeated=True)]


@beam_op.reference
def _(inputs, lengths, *, beam_width, top_paths, merge_repeated):
    steps, batch, _ = inputs.shape
    _check_lengths(lengths, steps, batch, errors.FailedPreconditionError)
    if top_paths > beam_width:
        raise ValueError("requested more paths than the beam width.")
    probabilities, paths = np.zeros((batch, top_paths), inputs.dtype), [[] for _ in range(top_paths)]
    for b in range(batch):
        beam = _Beam(beam_width)
        for x in inputs[:max(int(lengths[b]), 0), b].astype(np.float64):
            beam.step(x)
        found = list(beam.best(top_paths))
        if len(found) < top_paths:
            raise ValueError(f"Less leaves in the beam search than requested: {len(found)} in batch {b}, top_paths is {top_paths}.")
        for k, (path, p) in enumerate(found):
            paths[k].append(_without_repetitions(path) if merge_repeated else path)
            probabilities[b, k] = p
    return [part for rows in paths for part in _as_sparse(rows)] + [probabilities]


class _Beam:
    """Prefix beam search (Graves, 2012, section 7.5.3): the most probable labels of what has been read so far.

    A label is a node of a tree; of each in the beam the log probabilities are kept of its alignments that end in a blank (`blank`)
    and in its last symbol (`symbol`).
    """

    def __init__(self, width: int):
        self.width = width
        self.parents, self.labels = [-1], [-1]        # of each node; node 0 is the empty label
        self.children: dict[tuple[int, int], int] = {}
        self.nodes = np.zeros(1, np.int64)            # in the beam, best first
        self.blank, self.symbol = np.zeros(1), np.full(1, -np.inf)

    def step(self, logits: np.ndarray) -> None:
        """Reads one step."""
        x = logits - np.max(logits)
        with np.errstate(divide="ignore"):
            x = x - np.log(np.exp(x).sum())
        total, n = np.logaddexp(self.blank, self.symbol), len(self.nodes)
        place = {node: i for i, node in enumerate(self.nodes.tolist())}
        last = np.array([self.labels[i] for i in place], np.int64)
        parent = np.array([place.get(self.parents[i], -1) for i in place], np.int64)
        # One symbol more: any, a repetition only behind a blank.
        grown = total[:, None] + x[None, :-1]
        ends = np.flatnonzero(last >= 0)
        grown[ends, last[ends]] = self.blank[ends] + x[last[ends]]
        # The same label: a blank, the last symbol once more, or that symbol new behind the label before, if that is in the beam.
        symbol = np.where(last >= 0, self.symbol + x[last], -np.inf)
        inside = np.flatnonzero(parent >= 0)
        symbol[inside] = np.logaddexp(symbol[inside], grown[parent[inside], last[inside]])
        grown[parent[inside], last[inside]] = -np.inf
        blank = total + x[-1]
        every = np.concatenate([np.logaddexp(blank, symbol), grown.reshape(-1)])
        order = np.argsort(-every, kind="stable")[:self.width]
        order = order[every[order] > -np.inf]
        old = order < n
        at = (order - n)[~old]
        new = [self._child(int(self.nodes[i]), int(k)) for i, k in zip(at // (len(x) - 1 or 1), at % (len(x) - 1 or 1))]
        nodes = np.empty(len(order), np.int64)
        nodes[old], nodes[~old] = self.nodes[order[old]], new
        blanks, symbols = np.full(len(order), -np.inf), np.full(len(order), -np.inf)
        blanks[old], symbols[old], symbols[~old] = blank[order[old]], symbol[order[old]], every[order[~old]]
        self.nodes, self.blank, self.symbol = nodes, blanks, symbols

    def _child(self, node: int, label: int) -> int:
        found = self.children.setdefault((node, label), len(self.parents))
        if found == len(self.parents):
            self.parents.append(node)
            self.labels.append(label)
        return found

    def best(self, count: int) -> Iterator[tuple[list[int], float]]:
        """The labels with the largest probabilities, and their logarithms."""
        for node, p in zip(self.nodes[:count].tolist(), np.logaddexp(self.blank, self.symbol)[:count].tolist()):
            path = []
            while node:
                path.append(self.labels[node])
                node = self.parents[node]
            yield path[::-1], p


def ctc_beam_search_decoder(inputs: Any, sequence_length: Any, beam_width: int = 100, top_paths: int = 1,
                            merge_repeated: bool = True) -> tuple[list[SparseTensor], Tensor]:
    """The `top_paths` most probable labels, by a search that keeps `beam_width` of them at each step.

    Args:
        inputs: logits, float32 or float64 [T, batch, num_classes]; the last class is the blank.
        sequence_length: int32 [batch].
        merge_repeated: drop repetitions in the labels found: "A B B" becomes "A B", also where a blank had been between them.

    Returns:
        (a list of `top_paths` int64 SparseTensors [batch, longest], best first; their log probabilities [batch, top_paths]).

    Raises:
        ValueError: `beam_width` or `top_paths` below 1, wrong ranks, batches that differ.
        InvalidArgumentError (when run): more paths than the beam has.  FailedPreconditionError (when run): a length above T.
    """
    for what, value in (("beam_width", beam_width), ("top_paths", top_paths)):
        if int(value) < 1:
            raise ValueError(f"Attr '{what}' of 'CTCBeamSearchDecoder' Op passed {value} less than minimum 1.")
    x, lengths = _decoder_inputs(inputs, sequence_length, "CTCBeamSearchDecoder")
    *parts, p = beam_op(x, lengths, beam_width=int(beam_width), top_paths=int(top_paths), merge_repeated=bool(merge_repeated))
    return [SparseTensor(*parts[3 * k:3 * k + 3]) for k in range(int(top_paths))], p


def ctc_beam_search_decoder_v2(inputs: Any, sequence_length: Any, beam_width: int = 100,
                               top_paths: int = 1) -> tuple[list[SparseTensor], Tensor]:
    """`ctc_beam_search_decoder` that leaves repetitions in labels alone."""
    return ctc_beam_search_decoder(inputs, sequence_length, beam_width, top_paths, merge_repeated=False)
