"""tf.losses with every reduction and kind of weights, and the learning-rate schedules, beside TensorFlow's values."""
from __future__ import annotations

import numpy as np
import pytest
from on_gpu import QUICK

import graphflow as tf
from graphflow.flags import flags

T = tf.train
_random = np.random.RandomState(0)
A, B = _random.rand(3, 4).astype(np.float32), _random.rand(3, 4).astype(np.float32)
LOGITS = _random.randn(3, 4).astype(np.float32)
CLASSES = np.array([1, 3, 0])
ONE_HOT, BINARY = np.eye(4, dtype=np.float32)[CLASSES], (A > .5).astype(np.float32)
WEIGHTS = {"none": 1.0, "scalar": .5, "row": np.float32([[1], [0], [2]]), "col": np.float32([[1, 0, 2, 3]]),
           "full": np.float32(_random.randint(0, 3, (3, 4))), "zero": 0.0, "vec": np.float32([1, 0, 2])}
ARGUMENTS = {"absolute_difference": (A, B, {}), "mean_squared_error": (A, B, {}), "huber_loss": (A, B, {"delta": .3}),
             "log_loss": (BINARY, B, {"epsilon": 1e-3}), "hinge_loss": (BINARY, LOGITS, {}),
             "sigmoid_cross_entropy": (BINARY, LOGITS, {"label_smoothing": .1}), "cosine_distance": (A, B, {"axis": 1}),
             "softmax_cross_entropy": (ONE_HOT, LOGITS, {"label_smoothing": .2}), "sparse_softmax_cross_entropy": (CLASSES, LOGITS, {})}
REDUCTIONS = ["weighted_sum", "weighted_mean", "weighted_sum_over_batch_size", "weighted_sum_by_nonzero_weights"]
STEPS = [0, 1, 5, 9, 10, 11, 25, 40]

# {loss: {weights: its values by reduction}}: TensorFlow 2.21's compat.v1.
LOSSES = {
    "absolute_difference": {
        "none": [3.18416, 0.265347, 0.265347, 0.265347], "scalar": [1.59208, 0.265347, 0.132674, 0.132674],
        "row": [3.24422, 0.270352, 0.270352, 0.405528], "col": [5.03616, 0.279786, 0.41968, 0.559573],
        "full": [4.74858, 0.316572, 0.395715, 0.474858], "zero": [0.0, 0.0, 0.0, 0.0],
    },
    "mean_squared_error": {
        "none": [1.19643, 0.0997024, 0.0997024, 0.0997024], "scalar": [0.598214, 0.0997024, 0.0498512, 0.0498512],
        "row": [1.22777, 0.102314, 0.102314, 0.153471], "col": [1.99892, 0.111051, 0.166576, 0.222102],
        "full": [1.87077, 0.124718, 0.155898, 0.187077], "zero": [0.0, 0.0, 0.0, 0.0],
    },
    "huber_loss": {
        "none": [0.545597, 0.0454664, 0.0454664, 0.0454664], "scalar": [0.272799, 0.0454664, 0.0227332, 0.0227332],
        "row": [0.560286, 0.0466905, 0.0466905, 0.0700357], "col": [0.900522, 0.050029, 0.0750435, 0.100058],
        "full": [0.841675, 0.0561116, 0.0701395, 0.0841675], "zero": [0.0, 0.0, 0.0, 0.0],
    },
    "log_loss": {
        "none": [10.1789, 0.848239, 0.848239, 0.848239], "scalar": [5.08943, 0.848239, 0.424119, 0.424119],
        "row": [10.9766, 0.914718, 0.914718, 1.37208], "col": [18.8505, 1.04725, 1.57088, 2.0945],
        "full": [17.2731, 1.15154, 1.43943, 1.72731], "zero": [0.0, 0.0, 0.0, 0.0],
    },
    "hinge_loss": {
        "none": [17.5382, 1.46151, 1.46151, 1.46151], "scalar": [8.76909, 1.46151, 0.730757, 0.730757],
        "row": [9.97451, 0.831209, 0.831209, 1.24681], "col": [25.5533, 1.41963, 2.12944, 2.83926],
        "full": [19.699, 1.31327, 1.64158, 1.9699], "zero": [0.0, 0.0, 0.0, 0.0],
    },
    "sigmoid_cross_entropy": {
        "none": [12.6345, 1.05287, 1.05287, 1.05287], "scalar": [6.31724, 1.05287, 0.526437, 0.526437],
        "row": [8.3599, 0.696658, 0.696658, 1.04499], "col": [19.4349, 1.07972, 1.61958, 2.15944],
        "full": [15.015, 1.001, 1.25125, 1.5015], "zero": [0.0, 0.0, 0.0, 0.0],
    },
    "cosine_distance": {
        "none": [-1.75441, -0.584802, -0.584802, -0.584802], "scalar": [-0.877203, -0.584802, -0.292401, -0.292401],
        "row": [-2.11936, -0.706454, -0.706454, -1.05968], "zero": [0.0, 0.0, 0.0, 0.0],
    },
    "softmax_cross_entropy": {
        "none": [8.00642, 2.66881, 2.66881, 2.66881], "scalar": [4.00321, 2.66881, 1.3344, 1.3344],
        "vec": [6.54832, 2.18277, 2.18277, 3.27416], "zero": [0.0, 0.0, 0.0, 0.0],
    },
    "sparse_softmax_cross_entropy": {
        "none": [8.52686, 2.84229, 2.84229, 2.84229], "scalar": [4.26343, 2.84229, 1.42114, 1.42114],
        "vec": [6.86489, 2.2883, 2.2883, 3.43244], "zero": [0.0, 0.0, 0.0, 0.0],
    },
}

# Values at STEPS, from the same.
SCHEDULES = {
    "exp": [0.1, 0.0933033, 0.0707107, 0.0535887, 0.05, 0.0466517, 0.0176777, 0.00625],
    "exp_s": [0.1, 0.1, 0.1, 0.1, 0.05, 0.05, 0.025, 0.00625],
    "pc": [1.0, 1.0, 1.0, 0.5, 0.5, 0.1, 0.1, 0.1],
    "poly": [0.1, 0.0977212, 0.0879423, 0.0767458, 0.0736396, 0.0703738, 0.01, 0.01],
    "poly_c": [0.1, 0.091, 0.055, 0.019, 0.01, 0.0505, 0.025, 0.01],
    "nat": [0.1, 0.0951229, 0.0778801, 0.0637628, 0.0606531, 0.057695, 0.0286505, 0.0135335],
    "nat_s": [0.1, 0.1, 0.1, 0.1, 0.0606531, 0.0606531, 0.0367879, 0.0135335],
    "inv": [0.1, 0.0952381, 0.08, 0.0689655, 0.0666667, 0.0645161, 0.0444444, 0.0333333],
    "inv_s": [0.1, 0.1, 0.1, 0.1, 0.0666667, 0.0666667, 0.05, 0.0333333],
    "cos": [0.1, 0.099446, 0.0868198, 0.0620396, 0.055, 0.0479604, 0.01, 0.01],
    "cosr": [0.1, 0.095296, 0.0228842, 0.0862664, 0.0811733, 0.0744042, 0.0781398, 0.0230051],
    "cosr1": [0.1, 0.0950484, 0.0188255, 0.0811745, 0.061126, 0.038874, 0.038874, 0.0188255],
    "lin": [0.111, 0.104736, 0.0627946, 0.0205927, 0.0133664, 0.00787194, 0.00445491, 0.00445491],
}
CALLS = {
    "exp": lambda n: T.exponential_decay(.1, n, 10, .5), "exp_s": lambda n: T.exponential_decay(.1, n, 10, .5, staircase=True),
    "pc": lambda n: T.piecewise_constant(n, [5, 10], [1., .5, .1]), "poly": lambda n: T.polynomial_decay(.1, n, 20, .01, .5),
    "poly_c": lambda n: T.polynomial_decay(.1, n, 10, .01, cycle=True), "nat": lambda n: T.natural_exp_decay(.1, n, 10, .5),
    "nat_s": lambda n: T.natural_exp_decay(.1, n, 10, .5, True), "inv": lambda n: T.inverse_time_decay(.1, n, 10, .5),
    "inv_s": lambda n: T.inverse_time_decay(.1, n, 10, .5, True), "cos": lambda n: T.cosine_decay(.1, n, 20, .1),
    "cosr": lambda n: T.cosine_decay_restarts(.1, n, 7, 2., .9, .05), "cosr1": lambda n: T.cosine_decay_restarts(.1, n, 7, 1.),
    "lin": lambda n: T.linear_cosine_decay(.1, n, 20, .7, .1, .01)}


@pytest.fixture(autouse=True)
def _interpreted():
    with flags.override(interpret=QUICK), tf.Graph().as_default():
        yield


@pytest.mark.parametrize("name", LOSSES)
def test_losses_of_tensorflow(name):
    labels, predictions, kwargs = ARGUMENTS[name]
    made = {w: [getattr(tf.losses, name)(labels, predictions, weights=WEIGHTS[w], reduction=r, **kwargs) for r in REDUCTIONS]
            for w in LOSSES[name]}
    assert tf.losses.get_losses() == [t for row in made.values() for t in row]
    with tf.Session() as sess:
        found = sess.run(made)
    for w, expected in LOSSES[name].items():
        np.testing.assert_allclose(found[w], expected, rtol=2e-5, atol=1e-7, err_msg=w)


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules_of_tensorflow(name):
    step = tf.placeholder(tf.int32, [])
    rate = CALLS[name](step)
    with tf.Session() as sess:
        np.testing.assert_allclose([sess.run(rate, {step: n}) for n in STEPS], SCHEDULES[name], rtol=1e-5, atol=1e-7)


def test_pairwise_losses_totals_and_errors():
    pairwise = tf.losses.mean_pairwise_squared_error
    values = [pairwise(A, B), pairwise(A, B, WEIGHTS["row"]), pairwise(A, B, 0.0)]
    with tf.Session() as sess:
        np.testing.assert_allclose(sess.run(values), [0.678997, 0.680968, 0], rtol=1e-5)
    for bad in (np.ones((2, 4)), np.ones(4), np.ones((3, 4, 1))):
        with pytest.raises(ValueError, match="weights can not be broadcast to values"):
            tf.losses.mean_squared_error(A, B, weights=bad)
    for call in (lambda: pairwise(A, B, WEIGHTS["vec"]), lambda: tf.losses.mean_squared_error(A, B[:2]),
                 lambda: tf.losses.mean_squared_error(None, B), lambda: tf.losses.absolute_difference(A, None),
                 lambda: tf.losses.mean_squared_error(A, B, reduction="x"), lambda: tf.losses.cosine_distance(A, B)):
        with pytest.raises(ValueError):
            call()


def test_moving_averages_of_tensorflow():
    w, count = tf.Variable([1.0, 2.0], name="w"), tf.Variable(3, trainable=False)
    x = w * 3.0
    averages = [T.ExponentialMovingAverage(.9), T.ExponentialMovingAverage(.9, num_updates=count, name="n"),
                T.ExponentialMovingAverage(.9, zero_debias=True, name="z")]
    update = tf.group(averages[0].apply([w]), averages[1].apply([w]), averages[2].apply([w, x]))
    add = w.assign_add([1.0, 1.0])
    assert set(tf.moving_average_variables()) == {w} and averages[0].average_name(w) == "w/ExponentialMovingAverage"
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for _ in range(3):
            sess.run(add)
            sess.run(update)
        found = sess.run([averages[0].average(w), averages[1].average(w), averages[2].average(w), averages[2].average(x)])
    np.testing.assert_allclose(found, [[1.561, 2.561], [3.568502, 4.568502], [1.561, 2.561], [9.210331, 12.210331]], rtol=1e-5)
