"""Smaller parts of contrib: optimize_loss and summaries, sparse embeddings, evaluation, crf, image, nn, signal, util."""
from __future__ import annotations

import itertools

import numpy as np
import pytest
from on_gpu import QUICK

import graphflow as tf
from graphflow.flags import flags

layers, training, crf, image = tf.contrib.layers, tf.contrib.training, tf.contrib.crf, tf.contrib.image
R = np.random.RandomState(0)


@pytest.fixture(autouse=True)
def _graph():
    with tf.Graph().as_default(), flags.override(interpret=QUICK):
        yield


def run(fetches, feeds=None):
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        return sess.run(fetches, feeds)


# ---------------------------------------------------------------- optimize_loss


def loss_of(names="vw"):
    v, w = tf.get_variable("v", initializer=[3.0, 4.0]), tf.get_variable("w", initializer=[2.0])
    return v, w, tf.reduce_sum(tf.square(v)) / 2 + tf.reduce_sum(w)


def steps(op, fetches, n=1):
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        values = [sess.run(op) for _ in range(n)]
        return values, sess.run(fetches)


OPTIMIZERS = {
    "name": "SGD", "class": tf.train.GradientDescentOptimizer, "instance": lambda: tf.train.GradientDescentOptimizer(0.1),
    "function": lambda rate: tf.train.GradientDescentOptimizer(rate),
}


@pytest.mark.parametrize("kind", OPTIMIZERS)
def test_optimize_loss(kind):
    v, w, loss = loss_of()
    optimizer = OPTIMIZERS[kind]() if kind == "instance" else OPTIMIZERS[kind]
    step = tf.train.create_global_step()
    op = layers.optimize_loss(loss, step, 0.1, optimizer)
    assert op.shape.ndims == 0
    values, (a, b, n) = steps(op, [v, w, step])
    assert values == [14.5] and n == 1
    np.testing.assert_allclose(a, [2.7, 3.6], rtol=1e-6)
    np.testing.assert_allclose(b, [1.9], rtol=1e-6)
    assert [x.op.name for x in tf.global_variables()][-1:] == ["OptimizeLoss/learning_rate"]
    tags = [x.op.name for x in tf.get_collection(tf.GraphKeys.SUMMARIES)]
    assert [t.removeprefix("OptimizeLoss/") for t in tags] == ["global_norm/gradient_norm", "loss"]


def test_optimize_loss_arguments():
    """Multipliers, clipping by the global norm, decay, update operations, own variables."""
    v, w, loss = loss_of()
    count = tf.get_variable("count", initializer=0, trainable=False)
    step = tf.train.create_global_step()
    op = layers.optimize_loss(loss, step, tf.constant(1.0), "SGD", gradient_multipliers={v: 2.0, "w:0": 10.0}, clip_gradients=1.0,
                              learning_rate_decay_fn=lambda rate, step: rate / (1.0 + tf.cast(step, tf.float32)),
                              update_ops=[count.assign_add(1)], summaries=layers.OPTIMIZER_SUMMARIES, increment_global_step=False,
                              name="train")
    only = layers.optimize_loss(loss, None, 1.0, "SGD", variables=[w], summaries=[])
    values, (a, b, c, n) = steps(op, [v, w, count, step], 2)
    g = np.array([6.0, 8.0, 10.0])
    np.testing.assert_allclose(np.concatenate([a, b])[2], 2 - 10 / np.linalg.norm(g) - 10 / np.linalg.norm([*(2 * np.array([3, 4])
                               - 2 * g[:2] / np.linalg.norm(g)), 10]), rtol=1e-5)
    assert c == 2 and n == 0
    tags = {x.op.name for x in tf.get_collection(tf.GraphKeys.SUMMARIES)}
    assert {"train/learning_rate", "train/gradients/v_0", "train/gradient_norm/w_0", "train/global_norm/clipped_gradient_norm"} <= tags
    _, (a, b) = steps(only, [v, w])
    assert a.tolist() == [3, 4] and b.tolist() == [1]


def test_optimize_loss_noise_and_adaptive_clipping():
    v, w, loss = loss_of()
    noisy = layers.optimize_loss(loss, None, 1.0, "SGD", gradient_noise_scale=1.0, summaries=[])
    _, (a,) = steps(noisy, [v])
    assert 0 < np.abs(a).max() <= 2  # v - (v + noise)
    clipped = layers.optimize_loss(loss, None, 1.0, "SGD", clip_gradients=layers.adaptive_clipping_fn(static_max_norm=0.5), summaries=[])
    _, (b, c) = steps(clipped, [v, w])
    moved = np.concatenate([b - [3, 4], c - [2]])
    assert np.linalg.norm(moved) <= 0.5 + 1e-5 and "OptimizeLoss_1/AdaptiveMaxNorm/mean" in [x.op.name for x in tf.global_variables()]


@pytest.mark.parametrize("change, text", [
    ({"loss": tf.ones}, "scalar"), ({"learning_rate": 1}, "should be 0d Tensor or float. Got 1"), ({"learning_rate": -0.1}, "Invalid"),
    ({"optimizer": "Sgd"}, "Optimizer name should be one of .*you provided Sgd"), ({"optimizer": 3}, "Unrecognized optimizer"),
    ({"optimizer": lambda rate: 3}, "function should return"), ({"learning_rate": None}, "Learning rate is None"),
    ({"summaries": ["all"]}, "Summaries should be one of"), ({"clip_gradients": "x"}, "Unknown type"),
    ({"learning_rate_decay_fn": lambda r, s: r}, "global_step is required"),
])
def test_optimize_loss_bad_input(change, text):
    _, _, loss = loss_of()
    arguments = {"loss": loss, "global_step": None, "learning_rate": 0.1, "optimizer": "SGD", **change}
    if "loss" in change:
        arguments["loss"] = tf.ones([2]) * loss
    with pytest.raises(ValueError, match=text):
        layers.optimize_loss(**arguments)


def test_summaries():
    x = tf.constant([[1.0, -1.0]])
    y = tf.nn.relu6(x, name="act")
    tf.add_to_collection(tf.GraphKeys.ACTIVATIONS, y)
    found = [*layers.summarize_activations(), layers.summarize_tensor(tf.constant(2.0, name="s")), layers.summarize_tensor(x, "x"),
             *layers.summarize_tensors([x])]
    assert layers.summarize_tensor(tf.constant(True)) is None
    assert layers.summarize_collection(tf.GraphKeys.ACTIVATIONS, "nothing") == []
    tags = {v.tag for s in run([*found, *tf.get_collection(tf.GraphKeys.SUMMARIES)]) for v in tf.Summary.FromString(s).value}
    assert {"act/zeros", "act/sixes", "act/activation", "s_summary", "x"} <= tags
    values = {v.tag: v.simple_value for s in run(tf.get_collection(tf.GraphKeys.SUMMARIES)) for v in tf.Summary.FromString(s).value}
    assert values["act/zeros"] == 0.5 and values["act/sixes"] == 0


# ---------------------------------------------------------------- sparse embeddings


def sparse(rows, dtype=np.int64):
    at = [(i, j) for i, r in enumerate(rows) for j in range(len(r))]
    return tf.SparseTensor(np.array(at, np.int64).reshape(-1, 2), np.array([v for r in rows for v in r], dtype),
                           np.array([len(rows), 3], np.int64))


@pytest.mark.parametrize("combiner, weights, default", [("mean", False, None), ("sum", True, None), ("sqrtn", True, 1),
                                                        ("mean", True, None)])
def test_safe_embedding_lookup_sparse(combiner, weights, default):
    table = R.randn(5, 2).astype(np.float32)
    ids, w = [[0, 3], [], [-1, 2], [4, 4, 1]], [[1.0, 2.0], [], [1.0, 3.0], [0.5, -1.0, 1.0]]
    got = run(layers.safe_embedding_lookup_sparse([tf.constant(table)], sparse(ids), sparse(w, np.float32) if weights else None, combiner,
                                                  default))
    expected = []
    for row, row_weights in zip(ids, w if weights else [[1.0] * len(r) for r in ids]):
        kept = [(i, c) for i, c in zip(row, row_weights) if i >= 0 and (combiner == "sum" or c > 0)]
        total = sum((table[i] * c for i, c in kept), np.zeros(2))
        scale = {"sum": 1, "mean": sum(c for _, c in kept), "sqrtn": np.sqrt(sum(c * c for _, c in kept))}[combiner]
        expected.append(total / scale if kept else np.zeros(2) if default is None else table[default])
    np.testing.assert_allclose(got, expected, rtol=1e-5, atol=1e-6)


def test_bow_encoder_of_sparse_ids():
    table = R.randn(5, 2).astype(np.float32)
    start = tf.constant_initializer(table)
    dense = layers.bow_encoder([[1, 2, 0], [3, 0, 0]], 5, 2, initializer=start)
    rows = layers.bow_encoder(sparse([[1, 2], [3]]), 5, 2, initializer=start)
    for got in run([dense, rows]):
        np.testing.assert_allclose(got, [(table[1] + table[2]) / 2, table[3]], rtol=1e-6)
    with pytest.raises(ValueError, match="Missing embedding_weights"):
        layers.safe_embedding_lookup_sparse([], sparse([[1]]))
    with pytest.raises(TypeError, match="expected to be dense"):
        layers.bow_encoder(sparse([[1]]), 5, 2, sparse_lookup=False)


# ---------------------------------------------------------------- evaluation


def test_training_and_evaluation(tmp_path):
    """Train with checkpoints, then evaluate the last one."""
    v = tf.get_variable("v", initializer=0.0)
    step = tf.train.get_or_create_global_step()
    op = training.create_train_op(tf.square(v - 3.0), tf.train.GradientDescentOptimizer(0.1))
    last = training.train(op, str(tmp_path), hooks=[tf.train.StopAtStepHook(num_steps=4)], save_summaries_steps=None)
    assert last < 9
    with tf.Graph().as_default():
        v = tf.get_variable("v", initializer=0.0)
        step = tf.train.get_or_create_global_step()
        total, update = tf.metrics.mean(v)
        tf.summary.scalar("v", v)
        hooks = [training.StopAfterNEvalsHook(3), training.SummaryAtEndHook(str(tmp_path / "eval"))]
        found = training.evaluate_repeatedly(str(tmp_path), eval_ops=[update], final_ops=[total, training.get_or_create_eval_step(), step],
                                             hooks=hooks, eval_interval_secs=0, max_number_of_evaluations=1)
        expected = 0.0
        for _ in range(4):
            expected += 0.2 * (3 - expected)
        np.testing.assert_allclose(found[0], expected, rtol=1e-5)
        assert found[1:] == [3, 4] and list((tmp_path / "eval").glob("events*"))
    with tf.Graph().as_default():
        v = tf.get_variable("v", initializer=0.0)
        path = training.wait_for_new_checkpoint(str(tmp_path))
        assert abs(training.evaluate_once(path, final_ops=v * 1.0) - expected) < 1e-5
        assert list(training.checkpoints_iterator(str(tmp_path), timeout=0)) == [path]
        assert training.wait_for_new_checkpoint(str(tmp_path), path, seconds_to_sleep=0.01, timeout=0) is None
    with pytest.raises(ValueError, match="log_dir or summary_writer"):
        training.SummaryAtEndHook()


# ---------------------------------------------------------------- conditional random fields


def brute(inputs, transitions):
    """{tags: score} of one sequence."""
    time, tags = inputs.shape
    return {p: sum(inputs[t, k] for t, k in enumerate(p)) + sum(transitions[a, b] for a, b in zip(p, p[1:]))
            for p in itertools.product(range(tags), repeat=time)}


@pytest.mark.parametrize("time", [1, 4])
def test_crf(time):
    inputs, transitions = R.randn(3, time, 3).astype(np.float32), R.randn(3, 3).astype(np.float32)
    lengths = np.array([time, max(time - 1, 0), 0])
    tags = R.randint(0, 3, (3, time))
    x = tf.placeholder_with_default(inputs, [None, None, 3])
    allowed = R.rand(3, time, 3) < 0.7
    allowed[..., 0] = True
    likelihood, _ = crf.crf_log_likelihood(x, tags, lengths, transitions)
    got = run([crf.crf_sequence_score(inputs, tags, lengths, transitions), crf.crf_log_norm(inputs, lengths, transitions), likelihood,
               crf.crf_multitag_sequence_score(inputs, allowed, lengths, transitions), crf.crf_decode(inputs, transitions, lengths)])
    for i, n in enumerate(lengths):
        scores = brute(inputs[i, :n], transitions) if n else {(): 0.0}
        norm = np.log(sum(np.exp(s) for s in scores.values()))
        own = scores[tuple(tags[i, :n])]
        some = [s for p, s in scores.items() if all(allowed[i, t, k] for t, k in enumerate(p))]
        np.testing.assert_allclose([g[i] for g in got[:4]], [own, norm, own - norm, np.log(np.exp(some).sum())], rtol=1e-4, atol=1e-5)
        if n:
            best = max(scores, key=scores.get)
            assert got[4][0][i, :n].tolist() == list(best)
            np.testing.assert_allclose(got[4][1][i], scores[best], rtol=1e-5)
            path, score = crf.viterbi_decode(inputs[i, :n], transitions)
            assert path == list(best) and abs(score - scores[best]) < 1e-4


def test_crf_learns():
    inputs, tags = tf.constant(R.randn(2, 3, 2), tf.float32), [[0, 1, 0], [0, 1, 1]]
    likelihood, transitions = crf.crf_log_likelihood(inputs, tags, [3, 2])
    assert transitions.op.name == "transitions" and transitions.shape == (2, 2)
    loss = -tf.reduce_mean(likelihood)
    step = tf.train.GradientDescentOptimizer(0.5).minimize(loss)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        before = sess.run(loss)
        for _ in range(10):
            sess.run(step)
        assert sess.run(loss) < before


# ---------------------------------------------------------------- images


def transformed(x, t, bilinear):
    """[rows, columns] by the definition."""
    out = np.zeros_like(x, float)

    def read(r, c):
        return x[r, c] if 0 <= r < x.shape[0] and 0 <= c < x.shape[1] else 0.0

    for r, c in np.ndindex(x.shape):
        k = t[6] * c + t[7] * r + 1
        sx, sy = (t[0] * c + t[1] * r + t[2]) / k, (t[3] * c + t[4] * r + t[5]) / k
        if bilinear:
            left, top = int(np.floor(sx)), int(np.floor(sy))
            out[r, c] = sum(read(top + i, left + j) * (1 - abs(sy - top - i)) * (1 - abs(sx - left - j)) for i in (0, 1) for j in (0, 1))
        else:
            out[r, c] = read(*(int(np.sign(v) * np.floor(abs(v) + 0.5)) for v in (sy, sx)))
    return out


@pytest.mark.parametrize("interpolation", ["NEAREST", "BILINEAR"])
def test_image_transform(interpolation):
    x = R.rand(2, 5, 4, 3).astype(np.float32)
    t = np.array([[1.1, 0.2, -0.3, -0.1, 0.9, 0.6, 0.01, -0.02], [1, 0, 1.25, 0, 1, -0.5, 0, 0]], np.float32)
    fed = tf.placeholder(tf.float32, [None, None, None, 3])
    got = run([image.transform(x, t, interpolation), image.transform(fed, t[0], interpolation),
               image.transform(x[0, ..., 0], t[1], interpolation),
               image.transform(x[1], t[1], interpolation, output_shape=[2, 3])], {fed: x})
    expected = np.stack([np.stack([transformed(x[i, ..., c], t[i], interpolation == "BILINEAR") for c in range(3)], -1) for i in (0, 1)])
    np.testing.assert_allclose(got[0], expected, atol=1e-5)
    np.testing.assert_allclose(got[1][0], expected[0], atol=1e-5)
    np.testing.assert_allclose(got[2], transformed(x[0, ..., 0], t[1], interpolation == "BILINEAR"), atol=1e-5)
    np.testing.assert_allclose(got[3], expected[1, :2, :3], atol=1e-5)


def test_image_rotation_translation_and_composition():
    x = np.arange(12.0, dtype=np.float32).reshape(3, 4)
    square = R.rand(1, 3, 3, 1).astype(np.float32)
    moved = image.translate(x, [1.0, -1.0])
    turned = image.rotate(square, np.pi / 2)
    whole = image.rotate(tf.constant(x, tf.int32), 0.0)
    t = image.translations_to_projective_transforms([2.0, 0.0])
    back = image.compose_transforms(t, image.translations_to_projective_transforms([-2.0, 0.0]))
    angles = image.angles_to_projective_transforms([0.0, np.pi], 3, 5)
    slope = tf.gradients(tf.reduce_sum(image.translate(tf.constant(x), [1.0, 0.0]) * x), [tf.constant(x)])
    assert slope == [None]
    fed = tf.placeholder_with_default(x, [3, 4])
    got = run([moved, turned, whole, t, back, angles, tf.gradients(tf.reduce_sum(image.translate(fed, [1.0, 0.0]) * x), fed)[0]])
    expected = np.zeros_like(x)
    expected[:-1, 1:] = x[1:, :-1]
    np.testing.assert_allclose(got[0], expected)
    np.testing.assert_allclose(got[1][0, ..., 0], np.rot90(square[0, ..., 0]))
    assert got[2].dtype == np.int32 and np.array_equal(got[2], x)
    np.testing.assert_allclose(got[3], [[1, 0, -2, 0, 1, 0, 0, 0]])
    np.testing.assert_allclose(got[4], [[1, 0, 0, 0, 1, 0, 0, 0]])
    np.testing.assert_allclose(got[5], [[1, 0, 0, 0, 1, 0, 0, 0], [-1, 0, 4, 0, -1, 2, 0, 0]], atol=1e-6)
    expected = np.zeros_like(x)
    expected[:, :-1] = x[:, 1:]
    np.testing.assert_allclose(got[6], expected)


@pytest.mark.parametrize("call, error, text", [
    (lambda: image.transform(tf.zeros([2]), [0.0] * 8), TypeError, "rank between 2 and 4"),
    (lambda: image.transform(tf.placeholder(tf.float32), [0.0] * 8), TypeError, "statically known"),
    (lambda: image.transform(tf.constant([[True]]), [0.0] * 8), TypeError, "Invalid dtype bool"),
    (lambda: image.transform(tf.zeros([2, 2]), tf.zeros([1, 1, 8])), TypeError, "rank 1 or 2"),
    (lambda: image.transform(tf.zeros([2, 2]), [0.0] * 8, "CUBIC"), ValueError, "NEAREST or BILINEAR"),
    (lambda: image.transform(tf.zeros([2, 2]), [0.0] * 8, output_shape=[1, 2, 3]), ValueError, "2 elements"),
    (lambda: image.rotate(tf.zeros([2, 2]), [[0.0]]), TypeError, "rank 0 or 1"),
    (lambda: image.flat_transforms_to_matrices(0.0), ValueError, "1D or 2D"),
    (lambda: image.matrices_to_flat_transforms([1.0]), ValueError, "2D or 3D"),
])
def test_image_bad_input(call, error, text):
    with pytest.raises(error, match=text):
        call()


# ---------------------------------------------------------------- nn, signal, util


def test_nn():
    nn = tf.contrib.nn
    x = tf.placeholder_with_default(np.array([-3.0, -0.2, 0.5, 30.0]), [4])
    a = tf.placeholder_with_default(np.array(0.7), [])
    y, clipped = nn.scaled_softplus(x, a), nn.scaled_softplus(x, a, 1.0)
    plain = a * tf.nn.softplus(x / a)
    pairs = [tf.gradients(f, [x, a]) for f in (y, plain)]
    logits, labels = np.array([[0.3, -1.0, 2.0]]), np.array([[0.2, 0.3, 0.5]])
    flipped = [nn.deprecated_flipped_softmax_cross_entropy_with_logits(logits, labels),
               nn.deprecated_flipped_sigmoid_cross_entropy_with_logits(logits, labels),
               nn.deprecated_flipped_sparse_softmax_cross_entropy_with_logits(logits, [2])]
    ordered = [tf.nn.softmax_cross_entropy_with_logits(labels=labels, logits=logits),
               tf.nn.sigmoid_cross_entropy_with_logits(labels=labels, logits=logits),
               tf.nn.sparse_softmax_cross_entropy_with_logits(labels=np.array([2]), logits=logits)]
    noise = tf.constant(R.randn(200, 200))
    got = run([y, plain, clipped, pairs, flipped, ordered, nn.alpha_dropout(noise, 0.8, seed=1), nn.alpha_dropout(noise, 1.0), noise])
    np.testing.assert_allclose(got[0], got[1])
    np.testing.assert_allclose(got[2], np.minimum(got[1], 1))
    for ours, theirs in [*zip(*got[3]), *zip(*got[4:6])]:
        np.testing.assert_allclose(ours, theirs, rtol=1e-6, atol=1e-7)
    assert abs(got[6].mean()) < 0.03 and abs(got[6].std() - 1) < 0.03
    assert np.array_equal(got[7], got[8])
    for bad in (0.0, 1.5):
        with pytest.raises(ValueError, match="keep_prob"):
            nn.alpha_dropout(noise, bad)


def test_sampled_sparse_softmax_loss():
    """With all classes as the sample it is the full softmax loss."""
    weights, biases, inputs = (R.randn(*s).astype(np.float32) for s in ((4, 3), (4,), (2, 3)))
    labels = np.array([[1], [3]])
    values = (np.arange(4), np.ones((2, 1), np.float32), np.ones(4, np.float32))
    got = run(tf.contrib.nn.sampled_sparse_softmax_loss(weights, biases, labels, inputs, 4, 4, values))
    logits = inputs @ weights.T + biases
    np.testing.assert_allclose(got, [np.log(np.exp(r).sum()) - r[k] for r, k in zip(logits, labels[:, 0])], rtol=1e-5)


@pytest.mark.parametrize("values, dtype, shape, expected, field", [
    (3.5, None, None, np.float32(3.5), "float_val"), ([1, 2], None, None, np.array([1, 2], np.int32), "tensor_content"),
    (2**40, None, None, np.int64(2**40), "int64_val"), (7, tf.uint8, None, np.uint8(7), "int_val"), (True, None, None, True, "bool_val"),
    (np.ones((2, 2)), None, None, np.ones((2, 2)), "tensor_content"),
    ([1.0, 2.0], tf.float64, None, np.array([1.0, 2.0]), "tensor_content"),
    (1.5, tf.float16, None, np.float16(1.5), "half_val"), (1 + 2j, tf.complex64, None, np.complex64(1 + 2j), "scomplex_val"),
    ([1, 2], None, [2, 3], np.array([[1, 2, 2], [2, 2, 2]], np.int32), "int_val"),
    ("hi", None, None, np.array(b"hi", object), "string_val"),
    ([["a"], [b"b"]], None, None, np.array([[b"a"], [b"b"]], object), "string_val"), ([], tf.float32, None, np.zeros(0, np.float32), None),
])
def test_make_tensor_proto(values, dtype, shape, expected, field):
    message = tf.contrib.util.make_tensor_proto(values, dtype, shape)
    if field is not None:
        assert len(getattr(message, field))
    again = tf.make_ndarray(type(message).FromString(message.SerializeToString()))
    assert again.dtype == np.asarray(expected).dtype and again.shape == np.shape(expected) and np.array_equal(again, expected)
    assert tf.make_tensor_proto(message) is message


@pytest.mark.parametrize("call, error, text", [
    (lambda: tf.make_tensor_proto(None), ValueError, "None values"),
    (lambda: tf.make_tensor_proto([1, 2, 3], shape=[2]), ValueError, "Too many elements.* at most 2, but got 3"),
    (lambda: tf.make_tensor_proto([1, 2], shape=[2, 1], verify_shape=True), TypeError, r"shape: \(2, 1\), but got \(2,\)"),
    (lambda: tf.make_tensor_proto([1, 2], shape=[3], allow_broadcast=True), TypeError, "but got"),
    (lambda: tf.make_tensor_proto(1, verify_shape=True, allow_broadcast=True), ValueError, "not both allowed"),
    (lambda: tf.make_tensor_proto(1.5, tf.int32), TypeError, "1.5|int32"),
])
def test_make_tensor_proto_bad_input(call, error, text):
    with pytest.raises(error, match=text):
        call()


def test_util_and_signal():
    util = tf.contrib.util
    assert util.constant_value(tf.constant([1, 2])).tolist() == [1, 2] and util.constant_value(tf.placeholder(tf.int32, [2])) is None
    assert set(util.ops_used_by_graph_def(tf.get_default_graph().as_graph_def())) == {"Const", "Placeholder"}
    assert tf.contrib.signal.stft is tf.signal.stft
    frames = run(tf.contrib.signal.frame(tf.range(5.0), 3, 2))
    assert frames.tolist() == [[0, 1, 2], [2, 3, 4]]


# ---------------------------------------------------------------- TF1's own modules below contrib

OLD_PATHS = [
    "learn.python.learn.datasets.mnist.read_data_sets", "learn.python.learn.datasets.base.maybe_download",
    "learn.python.learn.preprocessing.text.VocabularyProcessor", "layers.python.layers.layer_norm",
    "layers.python.layers.layers.convolution2d", "layers.python.layers.initializers.xavier_initializer",
    "layers.python.layers.utils.collect_named_outputs",
    "framework.python.ops.arg_scope", "framework.python.ops.variables.get_variables_to_restore", "metrics.python.ops.metric_ops.count",
    "losses.python.losses.loss_ops.log_loss", "training.python.training.hparam.HParams", "crf.python.ops.crf.crf_decode",
    "opt.python.training.external_optimizer.ScipyOptimizerInterface", "distributions.python.ops.bijectors.Exp",
    "rnn.python.ops.core_rnn_cell.LSTMStateTuple",
]


@pytest.mark.parametrize("path", OLD_PATHS)
def test_old_paths(path):
    """As attributes, and as modules to import from."""
    import functools
    import importlib

    found = functools.reduce(getattr, path.split("."), tf.contrib)
    assert found.__name__ == path.split(".")[-1]
    folder, name = path.rsplit(".", 1)
    assert getattr(importlib.import_module(f"graphflow.contrib.{folder}"), name) is found


def test_unknown_names_of_contrib_suggest_the_nearest():
    for call, near in [(lambda: layers.fully_conected, "fully_connected"), (lambda: crf.crf_decod, "crf_decode"),
                       (lambda: tf.contrib.layer, "layers"), (lambda: layers.python.layers.layer_nor, "layer_norm")]:
        with pytest.raises(AttributeError, match=near):
            call()


# ---------------------------------------------------------------- buckets


def batches(fetches):
    """What queues give until their end."""
    found = []
    with tf.Session() as sess:
        sess.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
        coordinator = tf.train.Coordinator()
        threads = tf.train.start_queue_runners(sess, coordinator)
        try:
            while True:
                found.append(sess.run(fetches))
        except tf.errors.OutOfRangeError:
            pass
        coordinator.request_stop()
        coordinator.join(threads)
    return found


def test_bucket():
    """Even and odd numbers apart; those above 6 are left out."""
    n = tf.train.range_input_producer(10, num_epochs=1, shuffle=False).dequeue()
    which, out = training.bucket({"n": n, "square": n * n}, n % 2, [2, 4], 2, keep_input=n < 7, allow_smaller_final_batch=True)
    found = batches([which, out])
    even, odd = ([list(zip(o["n"], o["square"])) for w, o in found if w == k] for k in (0, 1))
    assert even == [[(0, 0), (2, 4)], [(4, 16), (6, 36)]] and odd == [[(1, 1), (3, 9), (5, 25)]]


def test_bucket_by_sequence_length():
    n = tf.train.range_input_producer(9, num_epochs=1, shuffle=False).dequeue()
    lengths, rows = training.bucket_by_sequence_length(n, tf.fill([n], n), 2, [3, 6], dynamic_pad=True)
    assert lengths.shape.as_list() == [2] and rows.shape.as_list() == [2, None]
    found = sorted((n.tolist(), r.tolist()) for n, r in batches([lengths, rows]))
    assert found == [([0, 1], [[0], [1]]), ([3, 4], [[3, 3, 3, 0], [4, 4, 4, 4]]), ([6, 7], [[6] * 6 + [0], [7] * 7])]


@pytest.mark.parametrize("call, error, text", [
    (lambda: training.bucket(tf.constant(1), 0, [1], 2), ValueError, "num_buckets elements"),
    (lambda: training.bucket(tf.constant(1), 0, 1, 2, bucket_capacities=[1]), ValueError, "must have exactly num_buckets"),
    (lambda: training.bucket([], 0, 1, 2), ValueError, "at least one tensor"),
    (lambda: training.bucket_by_sequence_length(1, tf.constant(1), 1, 3), TypeError, "must be a list or tuple"),
    (lambda: training.bucket_by_sequence_length(1, tf.constant(1), 1, []), ValueError, "must not be empty"),
    (lambda: training.bucket_by_sequence_length(1, tf.constant(1), 1, [3, 3]), ValueError, "sequential increasing"),
    (lambda: training.bucket_by_sequence_length(1, tf.constant(1), 1, [3, 3.5]), TypeError, "must be integers"),
])
def test_bucket_bad_input(call, error, text):
    with pytest.raises(error, match=text):
        call()


# ---------------------------------------------------------------- devices


def test_strategies_of_parameter_servers():
    v = [tf.Variable(tf.zeros([n]), name=f"v{n}") for n in (4, 2, 1, 3)]
    greedy = training.GreedyLoadBalancingStrategy(2, training.byte_size_load_fn)
    assert [greedy(x.op) for x in v] == [0, 1, 1, 1]  # loads 16, 8 + 4 + 12
    hashed = training.RandomStrategy(3)
    assert [hashed(x.op) for x in v] == [training.RandomStrategy(3)(x.op) for x in v] and len({hashed(x.op) for x in v}) > 1
    with tf.device(tf.train.replica_device_setter(ps_tasks=2, ps_strategy=training.GreedyLoadBalancingStrategy(2, lambda op: 1.0))):
        devices = [tf.Variable(0.0).device for _ in range(3)]
    assert devices == ["/job:ps/task:0", "/job:ps/task:1", "/job:ps/task:0"]
    with pytest.raises(ValueError, match="not fully defined"):
        training.byte_size_load_fn(tf.placeholder(tf.float32, [None]).op)


def test_jit_scope():
    with tf.contrib.compiler.jit.experimental_jit_scope(compile_ops=lambda node: True):
        assert run(tf.constant(1.0) + 1.0) == 2


def test_memory_stats():
    stats = tf.contrib.memory_stats
    now, most, limit = run([stats.BytesInUse(), stats.MaxBytesInUse(), stats.BytesLimit()])
    assert now.dtype == np.int64 and 2**24 < now <= most * 1.05 and most < limit
