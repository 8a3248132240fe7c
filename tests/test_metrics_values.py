"""Every metric of TF 1.15 over two runs, without and with weights, beside TensorFlow's values; the names of its variables."""
from __future__ import annotations

import numpy as np
import pytest
from on_gpu import QUICK

import graphflow as tf
from graphflow.flags import flags

nan = float("nan")
Y = [np.array([0, 2, 1, 1, 0, 2]), np.array([1, 1, 2, 0, 2, 1])]
P = [np.array([0, 1, 1, 2, 0, 2]), np.array([1, 0, 2, 2, 2, 1])]
YB, PB = [y > 0 for y in Y], [p > 1 for p in P]
S = [np.float32([.1, .9, .4, .35, .8, .7]), np.float32([.2, .6, .55, .1, .95, .5])]
F = [np.float32([1, 2, 3, 4, 5, 6]), np.float32([2, 2, 1, 0, 1, 3])]
G = [np.float32([1, 3, 3, 2, 5, 5]), np.float32([2, 1, 1, 1, 1, 4])]
N = [np.float32([1, 2, 3, 4, 5, 0]), np.float32([2, 2, 1, 0, 1, 3])]
U = [np.float32([[.6, .8], [1, 0], [0, 1]]), np.float32([[.8, .6], [0, 1], [1, 0]])]
V = [np.float32([[1, 0], [.6, .8], [0, 1]]), np.float32([[.8, .6], [1, 0], [1, 0]])]
Q = [np.float32([[.1, .5, .2, .9], [.4, .3, .2, .1], [.1, .2, .3, .4]]), np.float32([[.9, .5, .2, .1], [.4, .3, .5, .1], [.7, .2, .3, .4]])]
L = [np.int64([[1, 3], [2, 1], [0, 1]]), np.int64([[0, 3], [1, 1], [3, 0]])]
L1 = [np.int64([3, 1, 0]), np.int64([1, 2, 3])]
I = [np.int64([[3, 1], [0, 1], [3, 2]]), np.int64([[0, 1], [2, 0], [0, 3]])]  # noqa: E741
TH = [.3, .5, .75]
WEIGHTS = [np.float32([1, 2, 0, .5, 1, 1]), np.float32([.5, 1, 1, 2, 0, 3])]  # of elements
ROWS = [np.float32([1, 0, 2]), np.float32([.5, 1, 1])]  # of rows of rankings

# (metric, arguments in two runs, keywords, value after both, with weights, local variables): TensorFlow 2.21"s compat.v1.
METRICS = [
    ("accuracy", [Y, P], {}, [0.666667], [0.576923], "accuracy: count total"),
    ("auc", [YB, S], {}, [0.740741], [0.805555], "auc: false_negatives false_positives true_negatives true_positives"),
    ("auc", [YB, S], dict(curve="PR", summation_method="careful_interpolation"), [0.866225], [0.866225],
     "auc: false_negatives false_positives true_negatives true_positives"),
    ("auc", [YB, S], dict(summation_method="minoring", num_thresholds=20), [0.740741], [0.805555],
     "auc: false_negatives false_positives true_negatives true_positives"),
    ("auc", [YB, S], dict(thresholds=[.2, .5, .7]), [0.666667], [0.756944],
     "auc: false_negatives false_positives true_negatives true_positives"),
    ("mean", [F], {}, [2.5], [2.384615], "mean: count total"),
    ("mean_absolute_error", [F, G], {}, [0.583333], [0.769231], "mean_absolute_error: count total"),
    ("mean_cosine_distance", [U, V], dict(dim=1), [0.3], None, "mean_cosine_distance: count total"),
    ("mean_iou", [Y, P], dict(num_classes=3), [0.5], [0.402564], "mean_iou: total_confusion_matrix"),
    ("mean_per_class_accuracy", [Y, P], dict(num_classes=3), [0.672222], [0.566667], "mean_accuracy: count total"),
    ("mean_relative_error", [F, G, N], {}, [0.152778], [0.211538], "mean_relative_error: count total"),
    ("mean_squared_error", [F, G], {}, [0.75], [0.846154], "mean_squared_error: count total"),
    ("mean_tensor", [F], {}, [1.5, 2, 2, 2, 3, 4.5], [1.333333, 2, 1, 0.8, 5, 3.75], "mean: count_tensor total_tensor"),
    ("percentage_below", [F], dict(threshold=3), [0.583333], [0.576923], "percentage_below_threshold: count total"),
    ("precision", [YB, PB], {}, [0.8], [0.555556], "precision: false_positives/count true_positives/count"),
    ("recall", [YB, PB], {}, [0.444444], [0.277778], "recall: false_negatives/count true_positives/count"),
    ("root_mean_squared_error", [F, G], {}, [0.866025], [0.919866], "root_mean_squared_error: count total"),
    ("sensitivity_at_specificity", [YB, S], dict(specificity=.6), [1], [1],
     "sensitivity_at_specificity: false_negatives false_positives true_negatives true_positives"),
    ("specificity_at_sensitivity", [YB, S], dict(sensitivity=.7), [0.666667], [0.75],
     "specificity_at_sensitivity: false_negatives false_positives true_negatives true_positives"),
    ("true_positives", [YB, PB], {}, [4], [2.5], "true_positives: count"),
    ("true_positives_at_thresholds", [YB, S], dict(thresholds=TH), [8, 5, 2], [8.5, 5, 2], "true_positives: true_positives"),
    ("false_positives", [YB, PB], {}, [1], [2], "false_positives: count"),
    ("false_positives_at_thresholds", [YB, S], dict(thresholds=TH), [1, 1, 1], [1, 1, 1], "false_positives: false_positives"),
    ("true_negatives", [YB, PB], {}, [2], [2], "true_negatives: count"),
    ("true_negatives_at_thresholds", [YB, S], dict(thresholds=TH), [2, 2, 2], [3, 3, 3], "true_negatives: true_negatives"),
    ("false_negatives", [YB, PB], {}, [5], [6.5], "false_negatives: count"),
    ("false_negatives_at_thresholds", [YB, S], dict(thresholds=TH), [1, 4, 7], [0.5, 4, 7], "false_negatives: false_negatives"),
    ("precision_at_thresholds", [YB, S], dict(thresholds=TH), [0.888889, 0.833333, 0.666667], [0.894737, 0.833333, 0.666667],
     "precision_at_thresholds: false_positives true_positives"),
    ("precision_at_k", [L, Q], dict(k=2), [0.5], [0.409091], "precision_at_2: false_positive_at_2 true_positive_at_2"),
    ("precision_at_k", [L1, Q], dict(k=2), [0.416667], [0.318182], "precision_at_2: false_positive_at_2 true_positive_at_2"),
    ("precision_at_k", [L, Q], dict(k=2, class_id=1), [0.666667], [0.666667],
     "precision_at_2_class1: false_positive_at_2_class1 true_positive_at_2_class1"),
    ("precision_at_top_k", [L, I], dict(k=2), [0.5], [0.409091], "precision_at_2: false_positive_at_2 true_positive_at_2"),
    ("precision_at_top_k", [L, I], {}, [0.5], [0.409091], "precision_at_k: false_positive_at_k true_positive_at_k"),
    ("recall_at_thresholds", [YB, S], dict(thresholds=TH), [0.888889, 0.555556, 0.222222], [0.944444, 0.555556, 0.222222],
     "recall_at_thresholds: false_negatives true_positives"),
    ("recall_at_k", [L, Q], dict(k=2), [0.545455], [0.45], "recall_at_2: false_negative_at_2 true_positive_at_2"),
    ("recall_at_k", [L1, Q], dict(k=2), [0.833333], [0.636364], "recall_at_2: false_negative_at_2 true_positive_at_2"),
    ("recall_at_k", [L, Q], dict(k=2, class_id=1), [0.5], [0.25],
     "recall_at_2_class1: false_negative_at_2_class1 true_positive_at_2_class1"),
    ("recall_at_top_k", [L, I], dict(k=2), [0.545455], [0.45], "recall_at_2: false_negative_at_2 true_positive_at_2"),
    ("recall_at_top_k", [L, I], {}, [0.545455], [0.45], "recall_at_k: false_negative_at_k true_positive_at_k"),
    ("average_precision_at_k", [L, Q], dict(k=3), [0.569444], [0.5], "average_precision_at_3: max_1 total"),
    ("sparse_average_precision_at_k", [L1, Q], dict(k=2), [0.583333], [0.5], "average_precision_at_2: max_1 total"),
    ("sparse_precision_at_k", [L, Q], dict(k=1), [0.5], [0.454545], "precision_at_1: false_positive_at_1 true_positive_at_1"),
]


def _run(metric, inputs, kwargs, weights):
    """(value, the last update, names of variables) after two runs."""
    feeds = [tf.placeholder(a[0].dtype, a[0].shape) for a in inputs]
    given = None if weights is None else tf.placeholder(tf.float32, weights[0].shape)
    value, update = getattr(tf.metrics, metric)(*feeds, weights=given, metrics_collections="values", updates_collections=["updates"],
                                                **kwargs)
    assert tf.get_collection("values") == [value] and tf.get_collection("updates") == [update]
    assert set(tf.get_collection(tf.GraphKeys.METRIC_VARIABLES)) == set(tf.local_variables()) and not tf.global_variables()
    with tf.Session() as sess:
        sess.run(tf.local_variables_initializer())
        for k in range(2):
            feed = {f: a[k] for f, a in zip(feeds, inputs)}
            last = sess.run(update, feed if weights is None else {**feed, given: weights[k]})
        return sess.run(value), last, {v.op.name for v in tf.local_variables()}


@pytest.mark.parametrize("metric, inputs, kwargs, plain, weighted, names", METRICS, ids=[f"{m[0]}-{i}" for i, m in enumerate(METRICS)])
def test_values_of_tensorflow(metric, inputs, kwargs, plain, weighted, names):
    prefix, _, rest = names.partition(": ")
    for expected, weights in ((plain, None), (weighted, ROWS if inputs[0][0].shape[0] == 3 else WEIGHTS)):
        if expected is None:
            continue
        with flags.override(interpret=QUICK), tf.Graph().as_default():
            value, update, made = _run(metric, inputs, kwargs, weights)
            np.testing.assert_allclose(np.ravel(value), expected, atol=2e-6)
            if metric not in ("mean_iou", "mean_per_class_accuracy"):  # whose updates are something else
                np.testing.assert_allclose(np.ravel(update), expected, atol=2e-6)
            if not metric.endswith("average_precision_at_k"):  # TF's "max" is "max_1", for an op of that name
                assert made == {f"{prefix}/{n}" for n in rest.split()}


def test_sparse_labels():
    labels = tf.SparseTensor([[0, 0], [0, 1], [2, 0]], np.int64([1, 3, 0]), [3, 2])
    value, update = tf.metrics.recall_at_k(labels, Q[0], 2)
    with flags.override(interpret=QUICK), tf.Session() as sess:
        sess.run(tf.local_variables_initializer())
        assert sess.run(update) == pytest.approx(2 / 3) and sess.run(value) == pytest.approx(2 / 3)


def test_bad_arguments():
    for call in (lambda: tf.metrics.average_precision_at_k(L[0], Q[0], 0), lambda: tf.metrics.sensitivity_at_specificity(YB[0], S[0], 1.5),
                 lambda: tf.metrics.specificity_at_sensitivity(YB[0], S[0], -1),
                 lambda: tf.metrics.recall_at_k(np.int64([[[1]]]), S[0], 2)):
        with pytest.raises(ValueError):
            call()
