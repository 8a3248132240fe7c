"""`tf.contrib.training`, `tf.contrib.losses`, `tf.contrib.metrics`."""
from __future__ import annotations

import inspect

import numpy as np
import pytest
from on_gpu import QUICK

import graphflow as tf
from graphflow.contrib.training import HParams, parse_values
from graphflow.flags import flags

losses, metrics, training = tf.contrib.losses, tf.contrib.metrics, tf.contrib.training
R = np.random.RandomState(0)


@pytest.fixture(autouse=True)
def _graph():
    with tf.Graph().as_default(), flags.override(interpret=QUICK):
        yield


def run(fetches, feeds=None):
    with tf.Session() as sess:
        sess.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
        return sess.run(fetches, feeds)


# ---------------------------------------------------------------- hyperparameters


@pytest.mark.parametrize("text, expected", [
    ("", {}), ("aaa=12", {"aaa": 12}), ("aaa=1,b=2.5e3 , c_c=relu4", None), ("b=-4.5", {"b": -4.5}), ("c_c=", {"c_c": ""}),
    ("d=[1,2,3]", {"d": [1, 2, 3]}), ("d=[1 2,  3]", {"d": [1, 2, 3]}), ("d=[]", {"d": []}), ("e=true", {"e": True}), ("e=0", {"e": False}),
    ("d[1]=5,d[ 3 ]=7", {"d": {1: 5, 3: 7}}), ("c_c=a b:c", {"c_c": "a b:c"}), ("x.y=1", {"x.y": 1}),
])
def test_parse_values(text, expected):
    kinds = {"aaa": int, "b": float, "c_c": str, "d": int, "e": bool, "x.y": int}
    if expected is None:
        with pytest.raises(ValueError, match="Malformed|Could not parse"):
            parse_values("aaa=1;b=2", kinds)
        assert parse_values("aaa=1,b=2.5e3, c_c=relu4", kinds) == {"aaa": 1, "b": 2500.0, "c_c": "relu4"}
    else:
        assert parse_values(text, kinds) == expected


@pytest.mark.parametrize("text, message", [
    ("x=1", "Unknown hyperparameter type for x"), ("aaa", "Malformed hyperparameter value: aaa"),
    ("aaa=1.5", "Could not parse hparam 'aaa'"),
    ("e=maybe", "Could not parse hparam 'e' of type 'bool'"), ("aaa=1,aaa=2", "Multiple assignments to variable 'aaa'"),
    ("d[1]=2,d[1]=3", r"Multiple assignments to variable 'd\[1\]'"), ("d[1]=2,d=3", "Multiple assignments"),
    ("d=3,d[1]=2", "Multiple assignments"), ("d[1]=[2]", "Assignment of a list to a list index"), ("d=[1,x]", "Could not parse hparam 'd'"),
])
def test_parse_values_bad_input(text, message):
    with pytest.raises(ValueError, match=message):
        parse_values(text, {"aaa": int, "d": int, "e": bool})


def test_parse_values_may_leave_names_out():
    assert parse_values("x=1,aaa=2", {"aaa": int}, ignore_unknown=True) == {"aaa": 2}


def test_hparams():
    h = HParams(rate=0.1, units=[3, 4], name="adam", flag=False, nothing=None)
    assert (h.rate, h.units, "rate" in h, "other" in h) == (0.1, [3, 4], True, False)
    assert h.parse("rate=1,units=[5],flag=true") is h
    assert (h.rate, type(h.rate), h.units, h.flag) == (1.0, float, [5], True)
    h.override_from_dict({"rate": 2, "name": "sgd"})
    h.set_hparam("nothing", "anything")
    assert h.rate == 2.0 and h.nothing == "anything"
    h.add_hparam("more", 1)
    h.del_hparam("flag")
    h.del_hparam("flag")
    assert h.values() == {"rate": 2.0, "units": [5], "name": "sgd", "nothing": "anything", "more": 1}
    again = HParams(rate=0.0, units=[0]).parse_json('{"rate": 3, "units": [1, 2]}')
    assert again.to_json(sort_keys=True) == '{"rate": 3.0, "units": [1, 2]}'
    assert str(again) == "rate=3.0,units=[1, 2]" and repr(again) == "HParams([('rate', 3.0), ('units', [1, 2])])"
    assert h.get("rate") == 2.0 and h.get("other", 5) == 5 and h.get("other") is None and h.get("rate", 1.0) == 2.0
    again.set_model_structure("m")
    assert again.get_model_structure() == "m"
    with pytest.raises(AttributeError, match="no hyperparameter 'rat'.*rate"):
        again.rat


@pytest.mark.parametrize("call, error, text", [
    (lambda h: h.set_hparam("rate", "x"), ValueError, "Could not cast hparam 'rate'"),
    (lambda h: h.set_hparam("units", 3), ValueError, "Must pass a list for multi-valued parameter: units"),
    (lambda h: h.set_hparam("rate", [3]), ValueError, "Must not pass a list"),
    (lambda h: h.set_hparam("units", [1.5]), ValueError, "Could not cast"),
    (lambda h: h.set_hparam("flag", 1), ValueError, "Could not cast"),
    (lambda h: h.set_hparam("rate", True), ValueError, "Could not cast"),
    (lambda h: h.set_hparam("name", 1), ValueError, "Could not cast"),
    (lambda h: h.set_hparam("missing", 1), KeyError, "missing"),
    (lambda h: h.add_hparam("rate", 1), ValueError, "reserved: rate"),
    (lambda h: h.add_hparam("values", 1), ValueError, "reserved: values"),
    (lambda h: h.add_hparam("empty", []), ValueError, "cannot be empty: empty"),
    (lambda h: h.get("rate", "x"), ValueError, "incompatible with default=x"),
    (lambda h: h.get("units", 3), ValueError, "incompatible with default=3"),
    (lambda h: HParams(hparam_def=object()), ValueError, "hparam_def"),
])
def test_hparams_bad_input(call, error, text):
    with pytest.raises(error, match=text):
        call(HParams(rate=0.1, units=[3, 4], flag=True, name="n"))


# ---------------------------------------------------------------- training operations


def test_create_train_op():
    v, w = tf.Variable([3.0, 4.0], name="v"), tf.Variable(1.0, name="w")
    count = tf.Variable(0, trainable=False)
    tf.add_to_collection(tf.GraphKeys.UPDATE_OPS, count.assign_add(1))
    loss = tf.reduce_sum(tf.square(v)) / 2 + w
    op = training.create_train_op(loss, tf.train.GradientDescentOptimizer(1.0), transform_grads_fn=training.clip_gradient_norms_fn(1.0))
    step = tf.train.get_global_step()
    assert tf.get_collection(tf.GraphKeys.TRAIN_OP)[-1] is op
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        assert sess.run(op) == 13.5
        got = sess.run([v, w, count, step])
    np.testing.assert_allclose(got[0], [2.4, 3.2], rtol=1e-6)
    assert got[1:] == [0, 1, 1]
    bad = training.create_train_op(tf.log(w - 5.0), tf.train.GradientDescentOptimizer(1.0), global_step=None, update_ops=[])
    with pytest.raises(tf.errors.InvalidArgumentError, match="LossTensor is inf or nan"):
        run(bad)
    with pytest.raises(ValueError, match="No variables"):
        training.create_train_op(loss, tf.train.GradientDescentOptimizer(1.0), variables_to_train=[])


def test_gradient_multipliers():
    v, w = tf.Variable([3.0], name="v"), tf.Variable([[1.0], [2.0]], name="w")
    rows = tf.IndexedSlices(tf.constant([[2.0]]), tf.constant([1]), tf.constant([2, 1]))
    pairs = training.multiply_gradients([(tf.constant([2.0]), v), (rows, w)], {v: 3.0, "w": 0.5})
    clipped = training.clip_gradient_norms([(rows, w), (None, v)], 1.0)
    assert clipped[1] == (None, v)
    got = run([pairs[0][0], pairs[1][0].values, clipped[0][0].values])
    assert [x.item() for x in got] == [6, 1, 1]
    for call, text in [(lambda: training.multiply_gradients((), {v: 1}), "must be a list"), (lambda: training.multiply_gradients([], {}),
                                                                                            "is empty"),
                       (lambda: training.multiply_gradients([], [1]), "must be a dict"),
                       (lambda: training.multiply_gradients([(None, v)], {v: 1.0}), "multiple of `None`")]:
        with pytest.raises(ValueError, match=text):
            call()


def test_train_needs_a_folder():
    with pytest.raises(ValueError, match="logdir cannot be None when save_summaries_steps"):
        training.train(tf.no_op(), None)
    with pytest.raises(ValueError, match="logdir cannot be None when save_checkpoint_secs"):
        training.train(tf.no_op(), None, save_summaries_steps=None)


# ---------------------------------------------------------------- losses

P, Q = R.rand(3, 2).astype(np.float32), R.rand(3, 2).astype(np.float32)
ONE_HOT = np.eye(2, dtype=np.float32)[[0, 1, 1]]
W = np.array([2.0, 0.0, 1.0], np.float32)


def softmax(x):
    e = np.exp(x)
    return e / e.sum(-1, keepdims=True)


def mean(x, w=None):
    """Weights [3] of the first axis; the mean over the elements whose weight is not 0."""
    if w is None:
        return x.mean()
    w = w.reshape([-1] + [1] * (x.ndim - 1)) * np.ones_like(x)
    return (x * w).sum() / (w != 0).sum()


def pairwise(d):
    n = d.shape[1]
    return (2 * (d ** 2).sum(1) / n - 2 * d.sum(1) ** 2 / n ** 2)


def entropy(p, y, smoothing=0.0, sigmoid=False):
    if sigmoid:
        y = y * (1 - smoothing) + 0.5 * smoothing
        s = 1 / (1 + np.exp(-p))
        return -(y * np.log(s) + (1 - y) * np.log(1 - s))
    y = y * (1 - smoothing) + smoothing / 2
    return -(y * np.log(softmax(p))).sum(1)


LOSSES = {
    "absolute_difference": (lambda **k: losses.absolute_difference(tf.constant(P), tf.constant(Q), **k), np.abs(P - Q)),
    "mean_squared_error": (lambda **k: losses.mean_squared_error(tf.constant(P), tf.constant(Q), **k), (P - Q) ** 2),
    "log_loss": (lambda **k: losses.log_loss(tf.constant(P), tf.constant(ONE_HOT), **k),
                 -(ONE_HOT * np.log(P + 1e-7) + (1 - ONE_HOT) * np.log(1 - P + 1e-7))),
    "cosine_distance": (lambda **k: losses.cosine_distance(tf.constant(P), tf.constant(Q), 1, **k), 1 - (P * Q).sum(1)),
    "sigmoid_cross_entropy": (lambda **k: losses.sigmoid_cross_entropy(tf.constant(P), tf.constant(ONE_HOT), label_smoothing=0.1, **k),
                              entropy(P, ONE_HOT, 0.1, True)),
    "softmax_cross_entropy": (lambda **k: losses.softmax_cross_entropy(tf.constant(P), tf.constant(ONE_HOT), label_smoothing=0.1, **k),
                              entropy(P, ONE_HOT, 0.1)),
    "sparse_softmax_cross_entropy": (lambda **k: losses.sparse_softmax_cross_entropy(tf.constant(P), tf.constant([[0], [1], [1]]), **k),
                                     entropy(P, ONE_HOT)),
    "compute_weighted_loss": (lambda **k: losses.compute_weighted_loss(tf.constant(P), **k), P),
}


@pytest.mark.parametrize("name", LOSSES)
def test_losses(name):
    call, each = LOSSES[name]
    found = [call(), call(weights=3.0), call(weights=tf.constant(W)), call(weights=0.0)]
    if each.ndim == 2:
        found.append(call(weights=tf.constant(np.abs(P - 0.5))))
    assert losses.get_losses() == tf.get_collection(tf.GraphKeys.LOSSES) == found
    expected = [each.mean(), 3 * each.mean(), mean(each, W), 0, (each * np.abs(P - 0.5)).mean() if each.ndim == 2 else 0]
    np.testing.assert_allclose(run(found), expected[:len(found)], rtol=1e-5)


def test_more_losses():
    hinge = losses.hinge_loss(tf.constant(P), tf.constant(ONE_HOT))
    assert losses.get_losses() == []
    pairs = [losses.mean_pairwise_squared_error(tf.constant(P), tf.constant(Q), w) for w in (1.0, tf.constant(W))]
    losses.add_loss(tf.constant(2.0))
    tf.add_to_collection(tf.GraphKeys.REGULARIZATION_LOSSES, tf.constant(4.0))
    got = run([hinge, *pairs, losses.get_total_loss(), losses.get_total_loss(False), losses.get_regularization_losses()[0]])
    np.testing.assert_allclose(got[0], np.maximum(1 - (2 * ONE_HOT - 1) * P, 0), rtol=1e-6)
    expected = [pairwise(P - Q).sum(), (pairwise(P - Q) * W).sum()]
    np.testing.assert_allclose(got[1:3], expected, rtol=1e-4)
    np.testing.assert_allclose(got[3:], [sum(expected) + 6, sum(expected) + 2, 4], rtol=1e-4)


@pytest.mark.parametrize("call, text", [
    (lambda: losses.mean_squared_error(tf.constant(P), tf.zeros([2, 2])), "incompatible"),
    (lambda: losses.mean_squared_error(tf.constant(P)), "must not be None"),
    (lambda: losses.cosine_distance(tf.constant(P), tf.constant(Q)), "must specify 'axis'"),
    (lambda: losses.cosine_distance(tf.constant(P), tf.constant(Q), 1, dim=1), "both 'axis' and 'dim'"),
    (lambda: losses.compute_weighted_loss(tf.placeholder(tf.float32)), "ndims cannot be None"),
    (lambda: losses.compute_weighted_loss(tf.constant(W), tf.constant(P)), "more axes"),
])
def test_losses_bad_input(call, text):
    with pytest.raises(ValueError, match=text):
        call()


def test_metric_learning():
    labels, x = np.array([0, 1, 0, 1, 2]), R.randn(5, 3).astype(np.float32)
    y = R.randn(5, 3).astype(np.float32)
    ml = losses.metric_learning
    d2 = ((x[:, None] - x[None]) ** 2).sum(-1)
    d = np.sqrt(d2)
    same = labels[:, None] == labels
    triplets, lifted, pairs = [], [], [(i, j) for i in range(5) for j in range(5) if i != j and same[i, j]]
    for i, j in pairs:
        far = [d2[i, k] for k in range(5) if not same[i, k] and d2[i, k] > d2[i, j]]
        negative = min(far) if far else max(d2[i, k] for k in range(5) if not same[i, k])
        triplets.append(max(0.5 + d2[i, j] - negative, 0))
        total = sum(np.exp(1 - d[a, k]) for a in (i, j) for k in range(5) if not same[a, k])
        lifted.append(max(d[i, j] + np.log(total), 0) ** 2)
    logits = x @ y.T
    log_softmax = logits - np.log(np.exp(logits).sum(1, keepdims=True))
    npairs = -(same / same.sum(1, keepdims=True) * log_softmax).sum(1).mean()
    npairs += 0.25 * 0.1 * ((x ** 2).sum(1).mean() + (y ** 2).sum(1).mean())
    apart = np.sqrt(((x - y) ** 2).sum(1))
    flag = np.array([1, 0, 1, 0, 0])
    got = run([ml.triplet_semihard_loss(tf.constant(labels), tf.constant(x), 0.5),
               ml.lifted_struct_loss(tf.constant(labels), tf.constant(x)),
               ml.npairs_loss(tf.constant(labels), tf.constant(x), tf.constant(y), 0.1),
               ml.contrastive_loss(tf.constant(flag), tf.constant(x), tf.constant(y), 3.0)])
    expected = [np.mean(triplets), 0.25 * sum(lifted) / (len(pairs) / 2), npairs,
                (flag * apart ** 2 + (1 - flag) * np.maximum(3 - apart, 0) ** 2).mean()]
    np.testing.assert_allclose(got, expected, rtol=1e-4)
    with pytest.raises(ValueError, match="labels must be a vector"):
        ml.triplet_semihard_loss(tf.zeros([3, 1]), tf.zeros([3, 2]))


# ---------------------------------------------------------------- metrics

LABELS, PREDICTED = [np.array([1, 0, 1, 1]), np.array([0, 0, 1, 0])], [np.array([1, 1, 0, 1]), np.array([0, 1, 1, 0])]
SCORES = [np.array([0.9, 0.6, 0.4, 0.8]), np.array([0.1, 0.7, 0.8, 0.3])]


def streamed(make, *batches):
    """The updates after each batch, and the value at the end."""
    feeds = [tf.placeholder(b[0].dtype, [None, *b[0].shape[1:]]) for b in batches]
    value, update = make(*feeds)
    with tf.Session() as sess:
        sess.run(tf.local_variables_initializer())
        updates = [sess.run(update, dict(zip(feeds, step))) for step in zip(*batches)]
        return updates, sess.run(value)


ALL_L, ALL_P = np.concatenate(LABELS), np.concatenate(PREDICTED)
TP, FP, FN = (ALL_L & ALL_P).sum(), ((1 - ALL_L) & ALL_P).sum(), (ALL_L & (1 - ALL_P)).sum()
TN = 8 - TP - FP - FN
MEAN_ERROR = np.abs(np.concatenate(SCORES) - ALL_L)
STREAMS = {
    "streaming_accuracy": (PREDICTED, LABELS, (ALL_L == ALL_P).mean()),
    "streaming_precision": (PREDICTED, LABELS, TP / (TP + FP)),
    "streaming_recall": (PREDICTED, LABELS, TP / (TP + FN)),
    "streaming_true_positives": (PREDICTED, LABELS, TP),
    "streaming_false_negatives": (PREDICTED, LABELS, FN),
    "streaming_false_positive_rate": (PREDICTED, LABELS, FP / (FP + TN)),
    "streaming_false_negative_rate": (PREDICTED, LABELS, FN / (FN + TP)),
    "streaming_mean_absolute_error": (SCORES, LABELS, MEAN_ERROR.mean()),
    "streaming_mean_squared_error": (SCORES, LABELS, (MEAN_ERROR ** 2).mean()),
    "streaming_root_mean_squared_error": (SCORES, LABELS, np.sqrt((MEAN_ERROR ** 2).mean())),
    "streaming_covariance": (SCORES, LABELS, np.cov(np.concatenate(SCORES), ALL_L)[0, 1]),
    "streaming_pearson_correlation": (SCORES, LABELS, np.corrcoef(np.concatenate(SCORES), ALL_L)[0, 1]),
}


@pytest.mark.parametrize("name", STREAMS)
def test_streaming_metrics(name):
    predictions, labels, expected = STREAMS[name]
    updates, value = streamed(getattr(metrics, name), predictions, labels)
    np.testing.assert_allclose([updates[-1], value], expected, rtol=1e-4)
    arguments = list(inspect.signature(getattr(metrics, name)).parameters)
    assert arguments == ["predictions", "labels", "weights", "metrics_collections", "updates_collections", "name"]


def test_streaming_metrics_with_more_arguments():
    np.testing.assert_allclose(streamed(metrics.streaming_mean, SCORES)[1], np.mean(SCORES), rtol=1e-6)
    np.testing.assert_allclose(streamed(lambda v: metrics.count(v, 2.0), SCORES)[1], 16)
    np.testing.assert_allclose(streamed(lambda v: metrics.streaming_percentage_less(v, 0.5), SCORES)[1], 3 / 8)
    value = streamed(lambda p, y: metrics.streaming_mean_iou(p, y, 2), PREDICTED, LABELS)[1]
    np.testing.assert_allclose(value, (TP / (TP + FP + FN) + TN / (TN + FP + FN)) / 2, rtol=1e-6)
    counts = streamed(lambda p, y: metrics.streaming_true_positives_at_thresholds(p, y, [0.5, 0.85]), SCORES, LABELS)[1]
    assert counts.tolist() == [3, 1]
    best = streamed(lambda y, p: metrics.f1_score(y, p), LABELS, SCORES)
    scores = np.concatenate(SCORES)
    f1 = max(2 * (ALL_L & (scores > t)).sum() / (ALL_L.sum() + (scores > t).sum()) for t in np.linspace(0, 1, 200))
    np.testing.assert_allclose([best[0][-1], best[1]], f1, rtol=1e-4)
    kappa = streamed(lambda y, p: metrics.cohen_kappa(y, p, 2), LABELS, PREDICTED)[1]
    agreed, expected = (ALL_L == ALL_P).mean(), ALL_L.mean() * ALL_P.mean() + (1 - ALL_L.mean()) * (1 - ALL_P.mean())
    np.testing.assert_allclose(kappa, (agreed - expected) / (1 - expected), rtol=1e-5)
    logits = [np.array([[0.1, 0.2, 0.7], [0.5, 0.3, 0.2]])] * 2
    recall = streamed(lambda p, y: metrics.streaming_recall_at_k(p, y, 2), logits, [np.array([1, 2]), np.array([0, 0])])[1]
    assert recall == 0.5
    area = streamed(lambda p, y: metrics.streaming_auc(p, y, num_thresholds=1000), SCORES, LABELS)[1]
    np.testing.assert_allclose(area, 14 / 16, atol=0.01)


def test_metrics_at_thresholds():
    scores, wide = np.concatenate(SCORES), [0.25, 0.5, 0.75]
    for name, label in (("positive", 0), ("negative", 1)):
        value = streamed(lambda p, y: getattr(metrics, f"streaming_false_{name}_rate_at_thresholds")(p, y, wide), SCORES, LABELS)[1]
        wrong = [((scores > t) if label == 0 else (scores <= t))[ALL_L == label].mean() for t in wide]
        np.testing.assert_allclose(value, wrong, atol=1e-6)
    t = np.linspace(0, 1, 200)
    tp, fp = (np.array([((scores > x) & (ALL_L == k)).sum() for x in t]) for k in (1, 0))
    precision, recall = tp / np.maximum(tp + fp, 1), tp / ALL_L.sum()
    got = streamed(lambda y, p: metrics.precision_at_recall(y, p, 0.7), LABELS, SCORES)
    np.testing.assert_allclose([got[0][-1], got[1]], precision[recall >= 0.7][-1], atol=1e-5)
    got = streamed(lambda y, p: metrics.recall_at_precision(y, p, 0.8, strict_mode=True), LABELS, SCORES)
    np.testing.assert_allclose([got[0][-1], got[1]], recall[precision >= 0.8].max(), atol=1e-5)
    got = streamed(lambda y, p: metrics.recall_at_precision(y, p, 0.8), LABELS, SCORES)
    np.testing.assert_allclose(got[1], recall[abs(precision - 0.8).argmin()], atol=1e-5)
    data = streamed(lambda y, p: metrics.precision_recall_at_equal_thresholds(y, p, num_thresholds=5), [b > 0 for b in LABELS], SCORES)[1]
    even = np.linspace(0, 1, 5)
    tp, fp = (np.array([((scores >= x) & (ALL_L == k)).sum() for x in even]) for k in (1, 0))
    for value, want in zip(data, [tp, fp, fp[0] - fp, tp[0] - tp, tp / np.maximum(tp + fp, 1e-7), tp / tp[0], even]):
        np.testing.assert_allclose(value, want, atol=1e-6)


def test_streaming_concat_and_rankings():
    updates, value = streamed(lambda v: metrics.streaming_concat(v), SCORES)
    assert updates == [4, 8] and np.array_equal(value, np.concatenate(SCORES))
    rows = [np.arange(6.0).reshape(2, 3), np.arange(4.0).reshape(2, 2)]
    values = tf.placeholder(tf.float64, [2, None])
    value, update = metrics.streaming_concat(values, axis=-1, max_size=4)
    with tf.Session() as sess:
        sess.run(tf.local_variables_initializer())
        sizes = [sess.run(update, {values: r}) for r in rows]
        assert sizes == [3, 4] and sess.run(value).tolist() == [[0, 1, 2, 0], [3, 4, 5, 2]]
    scores, labels = [R.rand(3, 5)] * 2, [np.array([[0, 2], [4, 1], [3, 0]])] * 2
    top = [np.argsort(-s, 1)[:, :2] for s in scores]
    hits = [len({*a} & {*b}) for t, y in zip(top, labels) for a, b in zip(t, y)]
    for value, want in [(streamed(lambda p, y: metrics.streaming_sparse_precision_at_k(p, y, 2), scores, labels)[1], np.mean(hits) / 2),
                        (streamed(lambda p, y: metrics.streaming_sparse_recall_at_k(p, y, 2), scores, labels)[1], np.mean(hits) / 2),
                        (streamed(lambda y, p: metrics.sparse_recall_at_top_k(y, p), labels, top)[1], np.mean(hits) / 2),
                        (streamed(lambda p, y: metrics.streaming_sparse_precision_at_top_k(p, y), top, labels)[1], np.mean(hits) / 2)]:
        np.testing.assert_allclose(value, want, rtol=1e-6)
    assert metrics.set_union is tf.sets.set_union
    for call, text in [(lambda: metrics.streaming_concat(tf.placeholder(tf.float32)), "known rank"),
                       (lambda: metrics.streaming_concat(tf.zeros([2]), 1), "axis = 1 not in"),
                       (lambda: metrics.streaming_concat(tf.placeholder(tf.float32, [2, None])), "known size"),
                       (lambda: metrics.precision_at_recall([1], [1.0], 2), "target_recall"),
                       (lambda: metrics.recall_at_precision([1], [1.0], 2), "precision")]:
        with pytest.raises(ValueError, match=text):
            call()


def test_metrics_of_one_batch_and_maps():
    x, y = tf.constant([1, 2, 3]), tf.constant([1, 2, 0])
    a = metrics.accuracy(x, y)
    b = metrics.accuracy(x, y, weights=[1.0, 1.0, 2.0])
    matrix = metrics.confusion_matrix([0, 1, 1], [0, 1, 0])
    values, updates = metrics.aggregate_metric_map({"a": metrics.streaming_accuracy(x, y), "m": metrics.streaming_mean([1.0, 3.0])})
    assert list(values) == ["a", "m"] and metrics.aggregate_metrics((1, 2), (3, 4)) == ([1, 3], [2, 4])
    np.testing.assert_allclose(run([a, b]), [2 / 3, 0.5], rtol=1e-6)
    assert run(matrix).tolist() == [[1, 0], [1, 1]] and run(updates)["m"] == 2


@pytest.mark.parametrize("call, error, text", [
    (lambda: metrics.accuracy(tf.constant([1.0]), tf.constant([1.0])), ValueError, "bool, integer, or string"),
    (lambda: metrics.accuracy(tf.constant([1.0]), tf.constant([1])), ValueError, "should match"),
    (lambda: metrics.aggregate_metrics(), ValueError, "at least one"),
    (lambda: metrics.cohen_kappa([0], [0], 1), ValueError, ">= 2"),
    (lambda: metrics.streaming_accuracy([1]), TypeError, "labels"),
    (lambda: metrics.streaming_acuracy, AttributeError, "streaming_accuracy"),
])
def test_metrics_bad_input(call, error, text):
    with pytest.raises(error, match=text):
        call()
