"""tf.metrics: values over several batches against NumPy and scikit-learn, names and collections."""
from __future__ import annotations

import numpy as np
import pytest
from sklearn import metrics as sk

import graphflow as tf

BATCHES = 3


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def streamed(metric, batches, *args, **kwargs):
    """(value after all batches, last result of the update) of a metric on rows of arrays."""
    first = batches[0]
    feeds = [tf.placeholder(np.asarray(a).dtype, np.shape(a)) for a in first]
    value, update = metric(*feeds, *args, **kwargs)
    with tf.Session() as sess:
        sess.run(tf.local_variables_initializer())
        for batch in batches:
            last = sess.run(update, dict(zip(feeds, batch)))
        return sess.run(value), last


def pairs(make, n=BATCHES):
    batches = [make() for _ in range(n)]
    return batches, [np.concatenate([b[i] for b in batches]) for i in range(len(batches[0]))]


def classes(rng):
    return pairs(lambda: (rng.integers(0, 4, 20), rng.integers(0, 4, 20)))


def scores(rng):
    return pairs(lambda: (rng.integers(0, 2, 30).astype(bool), rng.random(30).astype(np.float32)))


def numbers(rng):
    return pairs(lambda: (rng.normal(size=(4, 5)).astype(np.float32), rng.normal(size=(4, 5)).astype(np.float32)))


def close(found, expected):
    for x in found:
        np.testing.assert_allclose(x, expected, rtol=1e-5)


def test_accuracy(rng):
    batches, (y, p) = classes(rng)
    close(streamed(tf.metrics.accuracy, batches), np.mean(y == p))


def test_names_and_collections():
    value, update = tf.metrics.accuracy([1, 2], [1, 3], metrics_collections="values", updates_collections=["updates"])
    assert [v.op.name for v in tf.local_variables()] == ["accuracy/total", "accuracy/count"]
    assert tf.get_collection(tf.GraphKeys.METRIC_VARIABLES) == tf.local_variables()
    assert tf.global_variables() == tf.trainable_variables() == []
    assert (value.op.name, update.op.name) == ("accuracy/value", "accuracy/update_op")
    assert tf.get_collection("values") == [value]
    assert tf.get_collection("updates") == [update]
    tf.metrics.precision([True], [True])
    assert [v.op.name for v in tf.local_variables()[2:]] == ["precision/true_positives/count", "precision/false_positives/count"]
    tf.metrics.accuracy([1], [1])
    assert tf.local_variables()[-1].op.name == "accuracy_1/count"


def test_the_value_before_any_update_is_zero():
    value, _ = tf.metrics.mean([3.0])
    with tf.Session() as sess:
        with pytest.raises(tf.errors.FailedPreconditionError):
            sess.run(value)
        sess.run(tf.local_variables_initializer())
        assert sess.run(value) == 0


def test_ranks_that_differ_by_one(rng):
    batches, (y, p) = pairs(lambda: (rng.integers(0, 3, (6, 1)), rng.integers(0, 3, 6)))
    close(streamed(tf.metrics.accuracy, batches), np.mean(y[:, 0] == p))


@pytest.mark.parametrize("weights", [None, 0.5, np.float32([[1], [0], [2], [0.5]]), np.float32([1, 0, 2, 0.5])], ids=["none", "scalar",
                                                                                                                      "column", "row"])
def test_errors(rng, weights):
    batches, (y, p) = numbers(rng)
    w = np.broadcast_to(np.ones(1) if weights is None else np.reshape(weights, (-1, 1)), (4, 5))
    w = np.tile(w, (BATCHES, 1))
    for metric, error in ((tf.metrics.mean_absolute_error, np.abs(y - p)), (tf.metrics.mean_squared_error, (y - p) ** 2)):
        close(streamed(metric, batches, weights=weights), np.average(error, weights=w))
    close(streamed(tf.metrics.root_mean_squared_error, batches, weights=weights), np.sqrt(np.average((y - p) ** 2, weights=w)))
    norm = np.float32([[1, 0, 2, 4, -1]] * 4)
    relative = np.divide(np.abs(y - p), np.tile(norm, (BATCHES, 1)), where=np.tile(norm, (BATCHES, 1)) != 0, out=np.zeros_like(y))
    close(streamed(tf.metrics.mean_relative_error, batches, norm, weights=weights), np.average(relative, weights=w))


def test_means(rng):
    batches, (x, _) = numbers(rng)
    ones = [(b[0],) for b in batches]
    close(streamed(tf.metrics.mean, ones), x.mean())
    close(streamed(tf.metrics.mean_tensor, ones), np.mean([b[0] for b in batches], axis=0))
    close(streamed(tf.metrics.percentage_below, ones, 0.2), (x < 0.2).mean())
    units = [tuple(a / np.linalg.norm(a, axis=1, keepdims=True) for a in b) for b in batches]
    close(streamed(tf.metrics.mean_cosine_distance, units, 1), 1 - np.mean([(a * b).sum(1) for a, b in units]))


@pytest.mark.parametrize("weighted", [False, True])
def test_counts_precision_and_recall(rng, weighted):
    batches, (y, p) = pairs(lambda: (rng.random(25) < 0.4, rng.random(25) < 0.5))
    w = rng.random(25).astype(np.float32)
    weights, all_w = (w, np.tile(w, BATCHES)) if weighted else (None, np.ones(25 * BATCHES))
    tn, fp, fn, tp = sk.confusion_matrix(y, p, sample_weight=all_w).ravel()
    for name, count in (("true_positives", tp), ("false_positives", fp), ("false_negatives", fn), ("true_negatives", tn)):
        close(streamed(getattr(tf.metrics, name), batches, weights), count)
    close(streamed(tf.metrics.precision, batches, weights), sk.precision_score(y, p, sample_weight=all_w))
    close(streamed(tf.metrics.recall, batches, weights), sk.recall_score(y, p, sample_weight=all_w))


def test_precision_without_positives_is_zero():
    batches = [(np.array([True]), np.array([False]))]
    assert streamed(tf.metrics.precision, batches) == (0, 0)


def test_at_thresholds(rng):
    batches, (y, s) = scores(rng)
    limits = [0.2, 0.5, 0.8]
    said = [s > np.float32(t) for t in limits]
    close(streamed(tf.metrics.true_positives_at_thresholds, batches, limits), [(y & p).sum() for p in said])
    close(streamed(tf.metrics.true_negatives_at_thresholds, batches, limits), [(~y & ~p).sum() for p in said])
    close(streamed(tf.metrics.false_positives_at_thresholds, batches, limits), [(~y & p).sum() for p in said])
    close(streamed(tf.metrics.false_negatives_at_thresholds, batches, limits), [(y & ~p).sum() for p in said])
    close(streamed(tf.metrics.precision_at_thresholds, batches, limits), [sk.precision_score(y, p) for p in said])
    close(streamed(tf.metrics.recall_at_thresholds, batches, limits), [sk.recall_score(y, p) for p in said])


@pytest.mark.parametrize("curve, method, tolerance", [("ROC", "trapezoidal", 2e-3), ("PR", "careful_interpolation", 2e-2)])
def test_auc(rng, curve, method, tolerance):
    batches, (y, s) = scores(rng)
    expected = sk.roc_auc_score(y, s) if curve == "ROC" else sk.average_precision_score(y, s)
    value, last = streamed(tf.metrics.auc, batches, curve=curve, summation_method=method, num_thresholds=2000)
    assert value == last == pytest.approx(expected, abs=tolerance)


def test_auc_bounds_and_errors(rng):
    batches, _ = scores(rng)
    low, mid, high = (streamed(tf.metrics.auc, batches, summation_method=m)[0] for m in ("minoring", "trapezoidal", "majoring"))
    assert low < mid < high
    with pytest.raises(ValueError, match="ROC or PR"):
        tf.metrics.auc([True], [0.5], curve="X")
    with pytest.raises(ValueError, match="summation_method"):
        tf.metrics.auc([True], [0.5], summation_method="x")
    with pytest.raises(tf.errors.InvalidArgumentError, match=r"must be in \[0, 1\]"):
        streamed(tf.metrics.auc, [(np.array([True]), np.float32([1.5]))])


def test_confusion_matrix(rng):
    y, p = rng.integers(0, 3, 30), rng.integers(0, 3, 30)
    w = rng.random(30)
    with tf.Session() as sess:
        np.testing.assert_array_equal(sess.run(tf.confusion_matrix(y, p)), sk.confusion_matrix(y, p))
        np.testing.assert_array_equal(sess.run(tf.confusion_matrix(y, p, 5))[:3, :3], sk.confusion_matrix(y, p))
        np.testing.assert_allclose(sess.run(tf.math.confusion_matrix(y, p, 3, tf.float64, weights=w)), sk.confusion_matrix(y, p,
                                                                                                                           sample_weight=w))
        with pytest.raises(tf.errors.InvalidArgumentError):
            sess.run(tf.confusion_matrix(y, p, 2))


def test_by_class(rng):
    batches, (y, p) = classes(rng)
    value, update = streamed(tf.metrics.mean_iou, batches, 4)
    assert value == pytest.approx(sk.jaccard_score(y, p, average="macro"))
    np.testing.assert_array_equal(update, sk.confusion_matrix(y, p))
    assert streamed(tf.metrics.mean_iou, batches, 9)[0] == pytest.approx(sk.jaccard_score(y, p, average="macro"))
    value, update = streamed(tf.metrics.mean_per_class_accuracy, batches, 4)
    np.testing.assert_allclose(update, sk.recall_score(y, p, average=None), rtol=1e-6)
    assert value == pytest.approx(sk.recall_score(y, p, average="macro"))
    with pytest.raises(tf.errors.InvalidArgumentError):
        streamed(tf.metrics.mean_iou, batches, 2)


def test_bad_arguments():
    with pytest.raises(ValueError, match="incompatible"):
        tf.metrics.accuracy([1, 2], [1, 2, 3])
    with pytest.raises(ValueError, match="weights"):
        tf.metrics.mean([1.0, 2.0], weights=[1.0, 2.0, 3.0])
