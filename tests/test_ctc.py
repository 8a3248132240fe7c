"""CTC: the loss against all alignments written out and against figures of PyTorch, its gradient against central differences and
softmax less posteriors, decoders against all labels and against TensorFlow's.
"""
from __future__ import annotations

import itertools

import numpy as np
import pytest

import graphflow as tf
from graphflow import errors


def sparse(rows, dtype=np.int32, width=None):
    """Rows of labels as what TF feeds for a SparseTensor."""
    at = [(b, i) for b, row in enumerate(rows) for i in range(len(row))]
    values = np.array([x for row in rows for x in row], dtype)
    shape = [len(rows), max(map(len, rows)) if width is None else width]
    return tf.SparseTensorValue(np.array(at, np.int64).reshape(-1, 2), values, np.array(shape, np.int64))


def collapsed(path, blank):
    """The label of an alignment."""
    return tuple(x for i, x in enumerate(path) if x != blank and (i == 0 or x != path[i - 1]))


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def alignments(logits, merge=True):
    """{label: [(alignment, probability)]} of logits [T, classes], the last class being the blank."""
    p, blank = softmax(logits), logits.shape[1] - 1
    found = {}
    for path in itertools.product(range(logits.shape[1]), repeat=len(logits)):
        label = collapsed(path, blank) if merge else tuple(x for x in path if x != blank)
        found.setdefault(label, []).append((path, np.prod([p[t, k] for t, k in enumerate(path)])))
    return found


def probabilities(logits, merge=True):
    return {label: sum(p for _, p in of) for label, of in alignments(logits, merge).items()}


def loss_and_gradient(logits, rows, lengths, **options):
    x = tf.constant(logits)
    loss = tf.nn.ctc_loss(tf.SparseTensor.from_value(sparse(rows)), x, lengths, **options)
    with tf.Session() as sess:
        return sess.run([loss, tf.gradients(loss, x)[0]])


# ---------------------------------------------------------------- the loss


LABELS = [[0], [1, 0], [1, 1], [0, 1, 0], [2, 2, 1]]


@pytest.mark.parametrize("merge", [True, False])
@pytest.mark.parametrize("label", LABELS, ids=str)
def test_loss_is_the_sum_over_alignments(label, merge):
    logits = np.random.default_rng(len(label)).normal(size=(4, 1, 4)) * 2
    loss, _ = loss_and_gradient(logits, [label], [4], ctc_merge_repeated=merge)
    assert loss == pytest.approx([-np.log(probabilities(logits[:, 0], merge)[tuple(label)])], rel=1e-12)


def test_gradient_is_softmax_less_posteriors():
    logits = np.random.default_rng(1).normal(size=(5, 1, 3))
    _, gradient = loss_and_gradient(logits, [[1, 1]], [5])
    of = alignments(logits[:, 0])[1, 1]
    posterior = np.zeros((5, 3))
    for path, p in of:
        posterior[np.arange(5), path] += p
    np.testing.assert_allclose(gradient[:, 0], softmax(logits[:, 0]) - posterior / sum(p for _, p in of), atol=1e-13)


def test_batch_of_different_lengths():
    """Each of the batch as if it were alone; nothing past its end is looked at."""
    rng = np.random.default_rng(2)
    logits, rows, lengths = rng.normal(size=(6, 3, 4)), [[0, 1], [2], [1, 1, 0]], [4, 2, 6]
    logits[4:, 0], logits[2:, 1] = np.nan, np.inf
    loss, gradient = loss_and_gradient(logits, rows, lengths)
    for b, (row, n) in enumerate(zip(rows, lengths)):
        alone = loss_and_gradient(logits[:n, b:b + 1], [row], [n])
        assert loss[b] == pytest.approx(alone[0][0], rel=1e-13)
        np.testing.assert_allclose(gradient[:n, b], alone[1][:, 0], atol=1e-14)
        assert not gradient[n:, b].any()
        assert loss[b] == pytest.approx(-np.log(probabilities(logits[:n, b])[tuple(row)]), rel=1e-12)


def test_gradient_against_central_differences():
    rng = np.random.default_rng(3)
    logits, rows, lengths = rng.normal(size=(5, 2, 4)), [[0, 1], [2, 2]], [5, 4]
    x = tf.placeholder(tf.float64, [None, 2, 4])
    loss = tf.reduce_sum(tf.nn.ctc_loss(tf.SparseTensor.from_value(sparse(rows)), x, lengths) * [1.0, 3.0])
    gradient = tf.gradients(loss, x)[0]
    with tf.Session() as sess:
        found = sess.run(gradient, {x: logits})
        for _ in range(3):
            d = rng.normal(size=logits.shape)
            ends = [sess.run(loss, {x: logits + e * d}) for e in (1e-5, -1e-5)]
            assert (found * d).sum() == pytest.approx((ends[0] - ends[1]) / 2e-5, rel=1e-8)


def test_second_order():
    rng = np.random.default_rng(4)
    logits, v = rng.normal(size=(4, 1, 3)), rng.normal(size=(4, 1, 3))
    x = tf.placeholder(tf.float64, [4, 1, 3])
    gradient = tf.gradients(tf.nn.ctc_loss(tf.SparseTensor.from_value(sparse([[1, 0]])), x, [4]), x)[0]
    curved = tf.gradients(tf.reduce_sum(gradient * v), x)[0]
    with tf.Session() as sess:
        ends = [sess.run(gradient, {x: logits + e * v}) for e in (1e-5, -1e-5)]
        np.testing.assert_allclose(sess.run(curved, {x: logits}), (ends[0] - ends[1]) / 2e-5, atol=1e-9)


def test_figures_of_pytorch():
    """`torch.nn.functional.ctc_loss` (2.x, float64, blank = 3, reduction "none") of log_softmax of the same numbers."""
    logits = np.sin(np.arange(48.0) * 1.7).reshape(6, 2, 4) * 3
    loss, gradient = loss_and_gradient(logits, [[0, 1, 1], [2]], [6, 5])
    np.testing.assert_allclose(loss, PYTORCH_LOSS, rtol=1e-12)
    np.testing.assert_allclose(gradient[[0, 3, 4], :], PYTORCH_GRADIENT, atol=1e-12)


PYTORCH_LOSS = [8.9400145486506, 7.0204487760351]
PYTORCH_GRADIENT = [
    [[-0.9474553149446, 0.9276967498382, 0.0220009836507, -0.0022424185443],
     [0.2812573854298, 0.7009184152876, 0.0001073873794, -0.9822831880968]],
    [[0.0568037392329, -0.0219420321217, 0.0961091170228, -0.130970824134],
     [0.0170534335594, 0.0057222226684, -0.0180196033903, -0.0047560528375]],
    [[0.0041827043017, -0.119029699618, 0.8907389088887, -0.7758919135723],
     [0.0024294487009, 0.0595226428003, -0.062237083697, 0.0002849921958]]]


def test_float32_keeps_its_digits_over_long_sequences():
    """300 steps in float32 against float64: the gradient's error stays near rounding, not that of sums of hundreds of logarithms."""
    rng = np.random.default_rng(5)
    logits, row = rng.normal(size=(300, 1, 8)).astype(np.float32) * 3, rng.integers(0, 7, 90).tolist()
    single = loss_and_gradient(logits, [row], [300])
    double = loss_and_gradient(logits.astype(np.float64), [row], [300])
    assert single[0].dtype == single[1].dtype == np.float32
    np.testing.assert_allclose(single[0], double[0], rtol=2e-6)
    np.testing.assert_allclose(single[1], double[1], atol=2e-5)


def test_logits_far_apart():
    """Classes that are almost or quite impossible."""
    logits = np.array([[1000.0, -1000, 0], [-1000, 1000, 0], [0, -np.inf, 5]])[:, None]
    loss, gradient = loss_and_gradient(logits, [[0, 1]], [3])
    p = softmax(logits[2, 0])[2]
    assert loss[0] == pytest.approx(-np.log(p), rel=1e-12)
    np.testing.assert_allclose(gradient[:, 0], [[0, 0, 0], [0, 0, 0], [1 - p, 0, p - 1]], atol=1e-15)
    assert np.isinf(loss_and_gradient(logits, [[1, 1]], [3])[0]).all()


def test_batch_major_and_the_name_logits():
    logits = np.random.default_rng(6).normal(size=(5, 2, 4))
    expected, _ = loss_and_gradient(logits, [[0], [1, 2]], [5, 4])
    labels = tf.SparseTensor.from_value(sparse([[0], [1, 2]]))
    loss = tf.nn.ctc_loss(labels, logits=tf.constant(logits.transpose(1, 0, 2)), sequence_length=[5, 4], time_major=False)
    with tf.Session() as sess:
        assert sess.run(loss) == pytest.approx(expected, rel=1e-13)


def test_everything_fed():
    """Placeholders of unknown sizes, batches of two shapes: no new graph."""
    x, n, labels = tf.placeholder(tf.float32, [None, None, 5]), tf.placeholder(tf.int32, [None]), tf.sparse_placeholder(tf.int32)
    loss = tf.nn.ctc_loss(labels, x, n)
    gradient = tf.gradients(loss, x)[0]
    rng = np.random.default_rng(7)
    with tf.Session() as sess:
        for shape, rows, lengths in (((5, 2, 5), [[0], [3, 1]], [5, 3]), ((3, 1, 5), [[2, 0, 1]], [3])):
            logits = rng.normal(size=shape)
            found = sess.run([loss, gradient], {x: logits, n: lengths, labels: sparse(rows)})
            for b, row in enumerate(rows):
                assert found[0][b] == pytest.approx(-np.log(probabilities(logits[:lengths[b], b])[tuple(row)]), rel=1e-5)
            assert found[1].shape == shape


def test_training_learns_the_label():
    labels = tf.SparseTensor.from_value(sparse([[0, 1, 1], [2]]))
    logits = tf.get_variable("logits", [6, 2, 4], initializer=tf.zeros_initializer())
    loss = tf.reduce_mean(tf.nn.ctc_loss(labels, logits, [6, 4]))
    train = tf.train.GradientDescentOptimizer(2.0).minimize(loss)
    decoded, _ = tf.nn.ctc_beam_search_decoder(logits, [6, 4], merge_repeated=False)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for _ in range(60):
            sess.run(train)
        assert sess.run(loss) < 0.1
        assert sess.run(tf.sparse_tensor_to_dense(decoded[0], -1)).tolist() == [[0, 1, 1], [2, -1, -1]]


# ---------------------------------------------------------------- labels that do not fit


def test_repetitions_without_time_for_a_blank():
    """TF's: infinite, with the gradient of the normalisers alone."""
    logits = np.random.default_rng(8).normal(size=(2, 2, 4))
    loss, gradient = loss_and_gradient(logits, [[1, 1], [1, 2]], [2, 2])
    assert loss[0] == np.inf
    np.testing.assert_allclose(gradient[:, 0], softmax(logits[:, 0]), atol=1e-14)
    assert loss[1] == pytest.approx(-np.log(probabilities(logits[:, 1])[1, 2]), rel=1e-12)


def test_longer_labels_are_errors_or_ignored():
    logits = np.random.default_rng(9).normal(size=(2, 2, 4))
    with pytest.raises(errors.InvalidArgumentError, match=r"Not enough time for target transition sequence \(required: 3, available: 2\)"):
        loss_and_gradient(logits, [[0], [0, 1, 0]], [2, 2])
    loss, gradient = loss_and_gradient(logits, [[0], [0, 1, 0]], [2, 2], ignore_longer_outputs_than_inputs=True)
    assert loss[1] == 0 and not gradient[:, 1].any()
    assert loss[0] == pytest.approx(-np.log(probabilities(logits[:, 0])[0,]), rel=1e-12)
    loss, gradient = loss_and_gradient(logits, [[0], [1]], [2, 0], ignore_longer_outputs_than_inputs=True)
    assert loss[1] == 0 and not gradient[:, 1].any()


def test_null_labels_end_a_label():
    """As in TF, blanks (and classes that do not exist) at the end of a label do not count."""
    logits = np.random.default_rng(10).normal(size=(3, 2, 4))
    loss, _ = loss_and_gradient(logits, [[1, 3, 3], [3]], [3, 3])
    expected = [-np.log(probabilities(logits[:, b])[label]) for b, label in enumerate([(1,), ()])]
    np.testing.assert_allclose(loss, expected, rtol=1e-12)


def test_preprocess_collapse_repeated():
    logits = np.random.default_rng(11).normal(size=(4, 1, 4))
    loss, _ = loss_and_gradient(logits, [[1, 1, 2, 2]], [4], preprocess_collapse_repeated=True)
    assert loss == pytest.approx([-np.log(probabilities(logits[:, 0])[1, 2])], rel=1e-12)


@pytest.mark.parametrize("rows, lengths, message", [
    ([[0], []], [3, 3], "Labels length is zero in batch 1"),
    ([[0], [-1]], [3, 3], "All labels must be nonnegative integers, batch: 1 labels: -1"),
    ([[3, 1], [0]], [3, 3], r"Saw a non-null label \(index >= num_classes - 1\) following a null label, batch: 0"),
    ([[0], [1]], [3, 4], r"sequence_length\(1\) <= 3"),
    ([[0], [1]], [3, -1], r"seq_len\(1\) < 0"),
    ([[0], [1], [2]], [3, 3], r"label SparseTensor is not valid: indices\[2\] = \[2,0\] is out of bounds"),
])
def test_bad_labels(rows, lengths, message):
    with pytest.raises(errors.InvalidArgumentError, match=message) as raised:
        loss_and_gradient(np.zeros((3, 2, 4)), rows, lengths)
    assert raised.value.op.name.startswith("CTCLoss/") and "test_ctc.py" in str(raised.value)


def test_labels_out_of_order():
    labels = tf.SparseTensor([[0, 1], [0, 0]], np.array([1, 2], np.int32), [1, 2])
    with tf.Session() as sess, pytest.raises(errors.InvalidArgumentError, match=r"indices\[1\] = \[0,0\] is out of order"):
        sess.run(tf.nn.ctc_loss(labels, np.zeros((3, 1, 4), np.float32), [3]))


def test_no_steps():
    labels = tf.SparseTensor.from_value(sparse([[0]]))
    with tf.Session() as sess, pytest.raises(errors.InvalidArgumentError, match="Max time or first dimension of input cannot be 0"):
        sess.run(tf.nn.ctc_loss(labels, np.zeros((0, 1, 4), np.float32), [0]))


def test_wrong_arguments():
    labels, x = tf.SparseTensor.from_value(sparse([[0]])), np.zeros((3, 1, 4), np.float32)
    with pytest.raises(TypeError, match="SparseTensor"):
        tf.nn.ctc_loss([[0]], x, [3])
    with pytest.raises(ValueError, match="Shape must be rank 3 but is rank 2"):
        tf.nn.ctc_loss(labels, x[0], [3])
    with pytest.raises(ValueError, match="Dimensions must be equal, but are 1 and 2"):
        tf.nn.ctc_loss(labels, x, [3, 3])
    with pytest.raises(TypeError, match="int32"):
        tf.nn.ctc_loss(labels, x.astype(np.int32), [3])
    with pytest.raises(ValueError, match="Cannot specify both"):
        tf.nn.ctc_loss(labels, x, [3], logits=x)


# ---------------------------------------------------------------- ctc_loss_v2


def moved(logits, blank):
    """The blank class of [..., classes] as the last one."""
    return np.concatenate([np.delete(logits, blank, -1), logits[..., [blank]]], -1)


@pytest.mark.parametrize("blank", [0, 1, -1])
def test_dense_labels_and_any_blank(blank):
    logits = np.random.default_rng(12).normal(size=(4, 3, 3))
    symbols = [k for k in range(3) if k != blank % 3]
    labels, counts, lengths = np.array([[0, 1], [1, 1], [0, 0]]), [2, 1, 0], [4, 3, 2]
    dense = np.array(symbols)[labels]
    expected = [-np.log(probabilities(moved(logits, blank)[:n, b])[tuple(labels[b, :c])]) for b, (c, n) in enumerate(zip(counts, lengths))]
    with tf.Session() as sess:
        loss = tf.nn.ctc_loss_v2(dense, tf.constant(logits), counts, lengths, blank_index=blank)
        np.testing.assert_allclose(sess.run(loss), expected, rtol=1e-12)
        batch_major = tf.nn.ctc_loss_v2(dense, tf.constant(logits.transpose(1, 0, 2)), counts, lengths, logits_time_major=False,
                                        unique=tf.nn.ctc_unique_labels(dense), blank_index=blank)
        np.testing.assert_allclose(sess.run(batch_major), expected, rtol=1e-12)
        rows = [dense[0].tolist(), dense[1, :1].tolist()]
        two = tf.nn.ctc_loss_v2(tf.SparseTensor.from_value(sparse(rows)), tf.constant(logits[:, :2]), None, lengths[:2], blank_index=blank)
        np.testing.assert_allclose(sess.run(two), expected[:2], rtol=1e-12)


def test_sparse_labels_need_a_blank_index():
    with pytest.raises(ValueError, match="`blank_index` must be provided"):
        tf.nn.ctc_loss_v2(sparse([[0]]), np.zeros((3, 1, 4), np.float32), None, [3])
    with pytest.raises(ValueError, match="blank_index must be in"):
        tf.nn.ctc_loss_v2([[0]], np.zeros((3, 1, 4), np.float32), [1], [3], blank_index=4)


def test_unique_labels_and_collapse_repeated():
    """TF's answers."""
    labels = [[1, 2, 2, 3, 3, 1], [3, 3, 3, 3, 3, 0]]
    with tf.Session() as sess:
        unique, places = sess.run(tf.nn.ctc_unique_labels(labels))
        assert unique.tolist() == [[1, 2, 3, 0, 0, 0], [3, 0, 0, 0, 0, 0]] and places.tolist() == [[0, 1, 1, 2, 2, 0], [0, 0, 0, 0, 0, 1]]
        short, lengths = sess.run(tf.nn.collapse_repeated(labels, [6, 5]))
        assert short.tolist() == [[1, 2, 3, 1], [3, 0, 0, 0]] and lengths.tolist() == [4, 1]


# ---------------------------------------------------------------- decoders


def rows_of(value):
    """The sequences of a SparseTensorValue, which must be in order and without gaps."""
    rows = [[] for _ in range(value.dense_shape[0])]
    for (b, i), x in zip(value.indices, value.values):
        assert i == len(rows[b])
        rows[b].append(int(x))
    assert max(map(len, rows)) == value.dense_shape[1]
    return rows


@pytest.mark.parametrize("merge", [True, False])
def test_greedy(merge):
    logits, lengths = np.random.default_rng(13).normal(size=(12, 3, 3)).astype(np.float32), [12, 7, 0]
    decoded, total = tf.nn.ctc_greedy_decoder(logits, lengths, merge_repeated=merge)
    with tf.Session() as sess:
        (found,), sums = sess.run([decoded, total])
    for b, n in enumerate(lengths):
        path = logits[:n, b].argmax(1).tolist()
        assert rows_of(found)[b] == (list(collapsed(path, 2)) if merge else [x for x in path if x != 2])
        assert sums[b, 0] == pytest.approx(-logits[:n, b].max(1).sum(), rel=1e-6) if n else sums[b, 0] == 0
    assert decoded[0].dtype is tf.int64 and decoded[0].get_shape().as_list() == [None, None] and total.get_shape().as_list() == [3, 1]


@pytest.mark.parametrize("seed", range(4))
def test_beam_search_that_keeps_everything_is_exact(seed):
    logits = np.random.default_rng(seed).normal(size=(5, 2, 3)) * 2
    lengths = [5, 3]
    decoded, p = tf.nn.ctc_beam_search_decoder(tf.constant(logits), lengths, beam_width=200, top_paths=4, merge_repeated=False)
    with tf.Session() as sess:
        found, p = sess.run([decoded, p])
    for b, n in enumerate(lengths):
        best = sorted(probabilities(logits[:n, b]).items(), key=lambda item: -item[1])[:4]
        assert [tuple(rows_of(f)[b]) for f in found] == [label for label, _ in best]
        np.testing.assert_allclose(p[b], np.log([q for _, q in best]), rtol=1e-12)


def narrow_beam(logits, width):
    """Prefix search written out on dictionaries: [(label, probability)], best first."""
    p, blank = softmax(logits), logits.shape[1] - 1
    beam = {(): (1.0, 0.0)}
    for step in p:
        new = {}
        for label, (ends_blank, ends_symbol) in beam.items():
            b, s = new.get(label, (0, 0))
            new[label] = b + (ends_blank + ends_symbol) * step[blank], s + (ends_symbol * step[label[-1]] if label else 0)
            for k in range(blank):
                b, s = new.get((*label, k), (0, 0))
                new[*label, k] = b, s + step[k] * (ends_blank if label[-1:] == (k,) else ends_blank + ends_symbol)
        beam = dict(sorted(new.items(), key=lambda item: -sum(item[1]))[:width])
    return [(label, sum(q)) for label, q in beam.items()]


@pytest.mark.parametrize("width", [1, 2, 5])
def test_narrow_beam(width):
    logits = np.random.default_rng(width).normal(size=(20, 1, 5)) * 2
    decoded, p = tf.nn.ctc_beam_search_decoder_v2(tf.constant(logits), [20], beam_width=width, top_paths=width)
    with tf.Session() as sess:
        found, p = sess.run([decoded, p])
    expected = narrow_beam(logits[:, 0], width)
    assert [tuple(rows_of(f)[0]) for f in found] == [label for label, _ in expected]
    np.testing.assert_allclose(p[0], np.log([q for _, q in expected]), rtol=1e-11)


def test_beam_search_merges_repetitions_of_its_labels():
    logits = np.log(np.array([[0.8, 0.1, 0.1], [0.1, 0.1, 0.8], [0.8, 0.1, 0.1]]))[:, None]
    for merge, expected in ((True, [0]), (False, [0, 0])):
        decoded, p = tf.nn.ctc_beam_search_decoder(tf.constant(logits), [3], merge_repeated=merge)
        with tf.Session() as sess:
            found, q = sess.run([decoded[0], p])
        assert rows_of(found) == [expected] and q[0, 0] == pytest.approx(np.log(0.512), rel=1e-12)


def test_figures_of_tensorflow_decoders():
    """`tf.nn.ctc_beam_search_decoder(x, [9, 6], beam_width=4, top_paths=2)` and the greedy one, TensorFlow 2.21, of the same numbers."""
    x = (np.sin(np.arange(72.0) * 1.3).reshape(9, 2, 4) * 2).astype(np.float32)
    decoded, p = tf.nn.ctc_beam_search_decoder(x, [9, 6], beam_width=4, top_paths=2)
    greedy, total = tf.nn.ctc_greedy_decoder(x, [9, 6])
    with tf.Session() as sess:
        found, p, (best,), total = sess.run([decoded, p, greedy, total])
    assert [rows_of(f) for f in found] == [[[1, 0, 1, 0, 2, 0], [2, 0, 2, 1]], [[1, 0, 2, 0, 2, 0], [2, 0, 2, 0]]]
    np.testing.assert_allclose(p, [[-3.044418, -3.271029], [-2.762075, -2.848277]], rtol=2e-6)
    assert rows_of(best) == [[1, 0, 1, 0, 2, 0], [2, 1, 2, 1]]
    np.testing.assert_allclose(total, [[-17.07542], [-9.48929]], rtol=1e-6)


@pytest.mark.parametrize("lengths", [[0, 0], [2, 0]])
def test_decoding_nothing(lengths):
    x = np.full((2, 2, 3), [0, 0, 9.0], np.float32)
    with tf.Session() as sess:
        (greedy,), _ = sess.run(tf.nn.ctc_greedy_decoder(x, lengths))
        (beam,), p = sess.run(tf.nn.ctc_beam_search_decoder(x, lengths))
    for found in (greedy, beam):
        assert found.indices.shape == (0, 2) and found.values.shape == (0,) and found.dense_shape.tolist() == [2, 0]
    assert p[1, 0] == 0


def test_decoder_errors():
    x = np.zeros((3, 1, 3), np.float32)
    with tf.Session() as sess:
        for decode in (tf.nn.ctc_greedy_decoder, tf.nn.ctc_beam_search_decoder):
            with pytest.raises(errors.FailedPreconditionError, match=r"sequence_length\(0\) <= 3"):
                sess.run(decode(x, [4])[1])
            with pytest.raises(ValueError, match="Dimensions must be equal"):
                decode(x, [1, 1])
        with pytest.raises(errors.InvalidArgumentError, match="requested more paths than the beam width"):
            sess.run(tf.nn.ctc_beam_search_decoder(x, [3], beam_width=2, top_paths=3)[1])
        with pytest.raises(errors.InvalidArgumentError, match="Less leaves in the beam search than requested"):
            sess.run(tf.nn.ctc_beam_search_decoder(x, [0], beam_width=2, top_paths=2)[1])
    with pytest.raises(ValueError, match="'beam_width' .* passed 0 less than minimum 1"):
        tf.nn.ctc_beam_search_decoder(x, [3], beam_width=0)


def test_label_error_rate():
    """The usual end of a program: decode, cast, edit distance to the truth."""
    logits = np.full((3, 2, 3), -5.0)
    for b, path in enumerate([[0, 2, 1], [1, 1, 2]]):
        logits[np.arange(3), b, path] = 5
    truth = tf.sparse_placeholder(tf.int32)
    decoded, _ = tf.nn.ctc_greedy_decoder(tf.constant(logits), [3, 3])
    rate = tf.reduce_mean(tf.edit_distance(tf.cast(decoded[0], tf.int32), truth))
    with tf.Session() as sess:
        assert sess.run(rate, {truth: sparse([[0, 1], [1, 0]])}) == pytest.approx(0.25)
