"""Optimizers against their formulas in NumPy, schedules, the global step, moving averages, losses."""
from __future__ import annotations

import math

import numpy as np
import pytest
from on_gpu import QUICK

import graphflow as tf
from graphflow.flags import flags


@pytest.fixture(autouse=True)
def _fresh():
    with flags.override(interpret=QUICK), tf.Graph().as_default():
        yield


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def started():
    sess = tf.Session()
    sess.run(tf.global_variables_initializer())
    return sess


def run(x):
    with started() as sess:
        return sess.run(x)


# Each reference: (var, grad, state, step) -> var, with the state in a dict that starts empty.


def sgd(w, g, s, t):
    return w - 0.1 * g


def momentum(w, g, s, t, nesterov=False):
    s["a"] = 0.9 * s.get("a", 0) + g
    return w - 0.1 * (g + 0.9 * s["a"] if nesterov else s["a"])


def nesterov(w, g, s, t):
    return momentum(w, g, s, t, True)


def adam(w, g, s, t):
    s["m"] = 0.9 * s.get("m", 0) + 0.1 * g
    s["v"] = 0.999 * s.get("v", 0) + 0.001 * g * g
    return w - 0.1 * math.sqrt(1 - 0.999**t) / (1 - 0.9**t) * s["m"] / (np.sqrt(s["v"]) + 1e-8)


def rmsprop(w, g, s, t, centered=False):
    s["ms"] = 0.9 * s.get("ms", 1) + 0.1 * g * g
    s["mg"] = 0.9 * s.get("mg", 0) + 0.1 * g
    s["mom"] = 0.5 * s.get("mom", 0) + 0.1 * g / np.sqrt(s["ms"] - (s["mg"] ** 2 if centered else 0) + 1e-10)
    return w - s["mom"]


def rmsprop_centered(w, g, s, t):
    return rmsprop(w, g, s, t, True)


def adagrad(w, g, s, t):
    s["a"] = s.get("a", 0.1) + g * g
    return w - 0.1 * g / np.sqrt(s["a"])


def adadelta(w, g, s, t):
    s["a"] = 0.95 * s.get("a", 0) + 0.05 * g * g
    u = np.sqrt(s.get("u", 0) + 1e-8) / np.sqrt(s["a"] + 1e-8) * g
    s["u"] = 0.95 * s.get("u", 0) + 0.05 * u * u
    return w - 0.1 * u


def ftrl(w, g, s, t, l1=0.01, l2=0.02):
    old = s.get("n", 0.1)
    s["n"] = old + g * g
    s["z"] = s.get("z", 0) + g - (np.sqrt(s["n"]) - np.sqrt(old)) / 0.1 * w
    return np.where(np.abs(s["z"]) > l1, (np.sign(s["z"]) * l1 - s["z"]) / (np.sqrt(s["n"]) / 0.1 + 2 * l2), 0)


def shrink(x, by):
    return np.sign(x) * np.maximum(np.abs(x) - by, 0)


def proximal_sgd(w, g, s, t):
    return shrink(w - 0.1 * g, 0.1 * 0.01) / (1 + 0.1 * 0.02)


def proximal_adagrad(w, g, s, t):
    s["a"] = s.get("a", 0.1) + g * g
    rate = 0.1 / np.sqrt(s["a"])
    return shrink(w - rate * g, rate * 0.01) / (1 + rate * 0.02)


def adagrad_da(w, g, s, t):
    s["g"] = s.get("g", 0) + g
    s["n"] = s.get("n", 0.1) + g * g
    return -shrink(s["g"], 0.01 * t) / (0.02 * t + np.sqrt(s["n"]) / 0.1)


T = tf.train
OPTIMIZERS = [
    (lambda s: T.GradientDescentOptimizer(0.1), sgd, []),
    (lambda s: T.MomentumOptimizer(0.1, 0.9), momentum, ["w/Momentum"]),
    (lambda s: T.MomentumOptimizer(0.1, 0.9, use_nesterov=True), nesterov, ["w/Momentum"]),
    (lambda s: T.AdamOptimizer(0.1), adam, ["beta1_power", "beta2_power", "w/Adam", "w/Adam_1"]),
    (lambda s: T.RMSPropOptimizer(0.1, momentum=0.5), rmsprop, ["w/RMSProp", "w/RMSProp_1"]),
    (lambda s: T.RMSPropOptimizer(0.1, momentum=0.5, centered=True), rmsprop_centered, ["w/RMSProp", "w/RMSProp_1", "w/RMSProp_2"]),
    (lambda s: T.AdagradOptimizer(0.1), adagrad, ["w/Adagrad"]),
    (lambda s: T.AdadeltaOptimizer(0.1), adadelta, ["w/Adadelta", "w/Adadelta_1"]),
    (lambda s: T.FtrlOptimizer(0.1, l1_regularization_strength=0.01, l2_regularization_strength=0.02), ftrl, ["w/Ftrl", "w/Ftrl_1"]),
    (lambda s: T.ProximalGradientDescentOptimizer(0.1, 0.01, 0.02), proximal_sgd, []),
    (lambda s: T.ProximalAdagradOptimizer(0.1, 0.1, 0.01, 0.02), proximal_adagrad, ["w/ProximalAdagrad"]),
    (lambda s: T.AdagradDAOptimizer(0.1, s, 0.1, 0.01, 0.02), adagrad_da, ["w/AdagradDA", "w/AdagradDA_1"]),
]


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("make,reference,slots", OPTIMIZERS, ids=[r.__name__ for _, r, _ in OPTIMIZERS])
def test_optimizer_follows_its_formula(rng, make, reference, slots, dtype):
    start, target = rng.normal(size=(2, 5)).astype(dtype)
    w = tf.Variable(start, name="w")
    step = tf.train.get_or_create_global_step()
    optimizer = make(step)
    train = optimizer.minimize(tf.reduce_sum((w - target) ** 2 * 0.5), global_step=step)
    assert [v.op.name for v in optimizer.variables()] == slots
    want, state = start.astype(np.float64), {}
    with started() as sess:
        for t in range(1, 6):
            assert sess.run(train) is None
            want = reference(want, want - target, state, t)
            np.testing.assert_allclose(sess.run(w), want, rtol=1e-4 if dtype == np.float32 else 1e-9,
                                       atol=1e-6 if dtype == np.float32 else 1e-12)
        assert tf.train.global_step(sess, step) == 5
    assert sorted(v.op.name for v in tf.global_variables()) == sorted(["w", "global_step", *slots])
    assert [v.op.name for v in tf.trainable_variables()] == ["w"]


def test_slots_are_found_by_name():
    w = tf.Variable([1.0], name="w")
    optimizer = tf.train.AdamOptimizer()
    optimizer.minimize(w * w)
    assert optimizer.get_slot_names() == ["m", "v"]
    assert optimizer.get_slot(w, "m").op.name == "w/Adam"
    assert optimizer.get_slot(w, "x") is None
    assert optimizer.get_name() == "Adam"


def test_names_and_scopes():
    with tf.name_scope("train"):
        w = tf.get_variable("w", [2])
        train = tf.train.MomentumOptimizer(0.1, 0.9).minimize(tf.reduce_sum(w * w))
    assert train.name == "train/Momentum"
    assert any(op.name.startswith("train/gradients/") for op in tf.get_default_graph().get_operations())
    assert "w/Momentum" in [v.op.name for v in tf.global_variables()]
    assert any(op.name.startswith("train/Momentum/update_w/") for op in tf.get_default_graph().get_operations())


def test_learning_rate_may_be_a_tensor_placeholder_or_function():
    for rate in (tf.placeholder_with_default(0.5, []), lambda: 0.5, tf.Variable(0.5, trainable=False), 0.5, np.float64(0.5)):
        w = tf.Variable([2.0, 4.0])
        train = tf.train.GradientDescentOptimizer(rate).minimize(tf.reduce_sum(w), var_list=[w])
        with started() as sess:
            sess.run(train)
            np.testing.assert_allclose(sess.run(w), [1.5, 3.5])


def test_compute_modify_apply():
    w, b = tf.Variable([3.0, 4.0]), tf.Variable(1.0)
    unused = tf.Variable(1.0)
    optimizer = tf.train.GradientDescentOptimizer(1.0)
    with pytest.warns(UserWarning, match="no path"):
        pairs = optimizer.compute_gradients(tf.reduce_sum(w * w) + b)
    assert pairs[2] == (None, unused)
    train = optimizer.apply_gradients([(tf.clip_by_norm(g, 1.0) if g is not None else None, v) for g, v in pairs])
    with started() as sess:
        sess.run(train)
        np.testing.assert_allclose(sess.run(w), [3 - 0.6, 4 - 0.8], rtol=1e-6)
        assert sess.run([b, unused]) == [0.0, 1.0]


def test_the_step_sees_one_value_of_each_variable():
    # Both gradients are those of the values before the step, although one variable is written first.
    a, b = tf.Variable(2.0), tf.Variable(3.0)
    loss = a * b
    train = tf.train.GradientDescentOptimizer(1.0).minimize(loss)
    with started() as sess:
        assert sess.run([loss, train])[0] == 6.0
        assert sess.run([a, b]) == [-1.0, 1.0]


def test_constraints_follow_the_update():
    w = tf.Variable([1.0, -1.0], constraint=lambda x: tf.clip_by_value(x, -0.5, 0.5))
    train = tf.train.GradientDescentOptimizer(0.1).minimize(tf.reduce_sum(w))
    with started() as sess:
        sess.run(train)
        np.testing.assert_allclose(sess.run(w), [0.5, -0.5])


def test_sparse_gradients_are_applied(rng):
    table, rows = tf.Variable(np.ones((4, 2), np.float32)), tf.constant([1, 3, 1])
    train = tf.train.GradientDescentOptimizer(0.5).minimize(tf.reduce_sum(tf.gather(table, rows)))
    with started() as sess:
        sess.run(train)
        np.testing.assert_allclose(sess.run(table), [[1, 1], [0, 0], [1, 1], [0.5, 0.5]])


def test_a_users_optimizer_defines_apply_dense():
    class Sign(tf.train.Optimizer):
        def __init__(self):
            super().__init__(False, "Sign")

        def _apply_dense(self, grad, var):
            return tf.assign_sub(var, tf.sign(grad))

    w = tf.Variable([3.0, -4.0])
    train = Sign().minimize(tf.reduce_sum(w * w))
    with started() as sess:
        sess.run(train)
        np.testing.assert_allclose(sess.run(w), [2.0, -3.0])


def test_optimizer_errors():
    with pytest.raises(ValueError, match="No variables to optimize"):
        tf.train.GradientDescentOptimizer(0.1).minimize(tf.constant(1.0))
    w = tf.Variable(1.0)
    optimizer = tf.train.GradientDescentOptimizer(0.1)
    with pytest.warns(UserWarning), pytest.raises(ValueError, match="No gradients provided for any variable"):
        optimizer.minimize(tf.constant(1.0))
    with pytest.raises(ValueError, match="No variables provided"):
        optimizer.apply_gradients([])
    with pytest.raises(ValueError, match="No gradients provided for any variable"):
        optimizer.apply_gradients([(None, w)])
    with pytest.raises(ValueError, match="gate_gradients must be one of"):
        optimizer.minimize(w * w, gate_gradients="no")
    with pytest.raises(TypeError, match="not a tf.Variable"):
        optimizer.apply_gradients([(tf.constant(1.0), tf.constant(1.0))])
    with pytest.raises(ValueError, match="Invalid type"):
        optimizer.minimize(tf.constant(1))
    with pytest.raises(ValueError, match="must be positive"):
        tf.train.AdagradOptimizer(0.1, initial_accumulator_value=0.0)
    with pytest.raises(ValueError, match="negative or zero"):
        tf.train.FtrlOptimizer(0.1, learning_rate_power=0.5)
    with pytest.raises(ValueError, match="optimizer name"):
        tf.train.Optimizer(False, "")
    train = tf.train.AdamOptimizer().minimize(w * w)
    with tf.Session() as sess, pytest.raises(tf.errors.FailedPreconditionError, match="uninitialized value"):
        sess.run(train)


# ---------------------------------------------------------------- global step, schedules


def test_global_step():
    assert tf.train.get_global_step() is None
    step = tf.train.create_global_step()
    assert step is tf.train.get_global_step() is tf.train.get_or_create_global_step()
    assert (step.name, step.dtype, step.shape) == ("global_step:0", tf.int64, [])
    with pytest.raises(ValueError, match="already exists"):
        tf.train.create_global_step()
    with pytest.raises(TypeError, match="integer"):
        tf.train.assert_global_step(tf.Variable(0.0))
    with pytest.raises(TypeError, match="scalar"):
        tf.train.assert_global_step(tf.Variable([1]))


SCHEDULES = {
    "exponential": (lambda s: T.exponential_decay(0.1, s, 10, 0.5), lambda t: 0.1 * 0.5 ** (t / 10)),
    "staircase": (lambda s: T.exponential_decay(0.1, s, 10, 0.5, staircase=True), lambda t: 0.1 * 0.5 ** (t // 10)),
    "natural": (lambda s: T.natural_exp_decay(0.1, s, 10, 0.5), lambda t: 0.1 * math.exp(-0.5 * t / 10)),
    "inverse": (lambda s: T.inverse_time_decay(0.1, s, 10, 0.5), lambda t: 0.1 / (1 + 0.5 * t / 10)),
    "piecewise": (lambda s: T.piecewise_constant(s, [5, 20], [1.0, 0.5, 0.1]), lambda t: 1.0 if t <= 5 else 0.5 if t <= 20 else 0.1),
    "polynomial": (lambda s: T.polynomial_decay(0.1, s, 20, 0.01, 2.0), lambda t: 0.09 * (1 - min(t, 20) / 20) ** 2 + 0.01),
    "cycle": (lambda s: T.polynomial_decay(0.1, s, 20, 0.01, cycle=True),
              lambda t: 0.09 * (1 - t / (20 * max(math.ceil(t / 20), 1))) + 0.01),
    "cosine": (lambda s: T.cosine_decay(0.1, s, 20, 0.1), lambda t: 0.1 * (0.9 * 0.5 * (1 + math.cos(math.pi * min(t, 20) / 20)) + 0.1)),
    "restarts": (lambda s: T.cosine_decay_restarts(0.1, s, 10, 1.0), lambda t: 0.1 * 0.5 * (1 + math.cos(math.pi * (t % 10) / 10))),
    "restarts2": (lambda s: T.cosine_decay_restarts(0.1, s, 10, 2.0, 0.5),
                  lambda t: 0.1 * (1 if t < 10 else 0.5) * 0.5 * (1 + math.cos(math.pi * (t / 10 if t < 10 else (t - 10) / 20)))),
    "linear_cosine": (lambda s: T.linear_cosine_decay(0.1, s, 20),
                      lambda t: 0.1 * ((1 - min(t, 20) / 20) * 0.5 * (1 + math.cos(math.pi * min(t, 20) / 20)) + 0.001)),
}


@pytest.mark.parametrize("name", SCHEDULES)
def test_schedules(name):
    step = tf.placeholder(tf.int64, [])
    build, want = SCHEDULES[name]
    rate = build(step)
    assert rate.dtype == tf.float32 and rate.shape == []
    with tf.Session() as sess:
        for t in (0, 3, 5, 6, 12, 19, 21, 25):
            assert sess.run(rate, {step: t}) == pytest.approx(want(t), rel=2e-5, abs=1e-8)


def test_schedule_errors():
    with pytest.raises(ValueError, match="global_step is required"):
        tf.train.exponential_decay(0.1, None, 10, 0.5)
    with pytest.raises(ValueError, match="1 less than"):
        tf.train.piecewise_constant(tf.constant(1), [1, 2], [0.1])


# ---------------------------------------------------------------- moving averages


def test_moving_averages_of_variables():
    w = tf.Variable([1.0, 2.0], name="w")
    move = tf.assign_add(w, [1.0, 1.0])
    ema = tf.train.ExponentialMovingAverage(0.9)
    with tf.control_dependencies([move]):
        update = ema.apply([w])
    assert ema.average(w).op.name == ema.average_name(w) == "w/ExponentialMovingAverage"
    assert ema.variables_to_restore() == {"w/ExponentialMovingAverage": w}
    want, value = np.array([1.0, 2.0]), np.array([1.0, 2.0])
    with started() as sess:
        np.testing.assert_allclose(sess.run(ema.average(w)), want)
        for _ in range(3):
            sess.run(update)
            value = value + 1
            want = 0.9 * want + 0.1 * value
            np.testing.assert_allclose(sess.run(ema.average(w)), want, rtol=1e-6)


def test_moving_averages_with_num_updates_and_of_tensors():
    step = tf.placeholder(tf.int32, [])
    w = tf.Variable(0.0)
    ema = tf.train.ExponentialMovingAverage(0.99, num_updates=step)
    x = tf.placeholder(tf.float32, [])
    doubled = x * 2.0
    debiased = tf.train.ExponentialMovingAverage(0.9, zero_debias=True, name="debiased")
    raise_w, update, update2 = tf.assign(w, 10.0), ema.apply([w]), debiased.apply([doubled])
    with started() as sess:
        sess.run(raise_w)
        sess.run(update, {step: 2})
        assert sess.run(ema.average(w)) == pytest.approx((1 - 3 / 12) * 10)
        for _ in range(2):
            sess.run(update2, {x: 3.0})
        assert sess.run(debiased.average(doubled)) == pytest.approx(6.0)
    with pytest.raises(TypeError, match="half, float, or double"):
        ema.apply([tf.Variable(1)])


# ---------------------------------------------------------------- losses


def test_losses_against_formulas(rng):
    p, y = rng.normal(size=(2, 4, 3)).astype(np.float32)
    q, b = rng.uniform(0.1, 0.9, (4, 3)).astype(np.float32), rng.integers(0, 2, (4, 3)).astype(np.float32)
    e = p - y
    soft = p - np.log(np.exp(p).sum(-1, keepdims=True))
    onehot, labels = np.eye(3, dtype=np.float32)[[0, 2, 1, 1]], np.array([0, 2, 1, 1])
    d = e[:, :, None] - e[:, None, :]
    L = tf.losses
    cases = [
        (L.mean_squared_error(y, p), (e**2).mean()),
        (L.absolute_difference(y, p), np.abs(e).mean()),
        (L.huber_loss(y, p, delta=0.5), np.where(np.abs(e) <= 0.5, e**2 / 2, 0.5 * np.abs(e) - 0.125).mean()),
        (L.log_loss(b, q), (-b * np.log(q + 1e-7) - (1 - b) * np.log(1 - q + 1e-7)).mean()),
        (L.hinge_loss(b, p), np.maximum(0, 1 - (2 * b - 1) * p).mean()),
        (L.cosine_distance(y, p, axis=1), (1 - (y * p).sum(1)).mean()),
        (L.sigmoid_cross_entropy(b, p), (np.log1p(np.exp(-np.abs(p))) + np.maximum(p, 0) - p * b).mean()),
        (L.softmax_cross_entropy(onehot, p), -(onehot * soft).sum(-1).mean()),
        (L.softmax_cross_entropy(onehot, p, label_smoothing=0.3), -((onehot * 0.7 + 0.1) * soft).sum(-1).mean()),
        (L.sparse_softmax_cross_entropy(labels, p), -soft[np.arange(4), labels].mean()),
        (L.sparse_softmax_cross_entropy(labels[:, None], p, weights=np.ones((4, 1), np.float32)), -soft[np.arange(4), labels].mean()),
        (L.mean_pairwise_squared_error(y, p), (d**2).sum((1, 2)).sum() / 6),
    ]
    for got, want in zip(run([c[0] for c in cases]), [c[1] for c in cases]):
        assert got == pytest.approx(want, rel=1e-4)
    assert len(L.get_losses()) == len(cases)
    assert run(L.get_total_loss()) == pytest.approx(sum(c[1] for c in cases), rel=1e-4)


def test_weights_and_reductions(rng):
    x = rng.normal(size=(4, 3)).astype(np.float32)
    R = tf.losses.Reduction
    w = np.array([[1.0], [0.0], [2.0], [0.5]], np.float32)

    def loss(weights, reduction):
        return tf.losses.compute_weighted_loss(x, weights, reduction=reduction)

    got = run([loss(w, R.SUM), loss(w, R.MEAN), loss(w, R.SUM_OVER_BATCH_SIZE), loss(w, R.SUM_BY_NONZERO_WEIGHTS), loss(w, R.NONE),
               loss(0.0, R.SUM_BY_NONZERO_WEIGHTS), loss(2.0, R.SUM_BY_NONZERO_WEIGHTS)])
    total = (x * w).sum()
    for a, b in zip(got, [total, total / 10.5, total / 12, total / 9, x * w, 0.0, 2 * x.mean()]):
        np.testing.assert_allclose(a, b, rtol=1e-5)
    with pytest.raises(ValueError, match="can not be broadcast"):
        loss(np.ones(4, np.float32), R.SUM)
    with pytest.raises(ValueError, match="Invalid Reduction"):
        loss(1.0, "sum")


def test_loss_errors_and_collections():
    with pytest.raises(ValueError, match="labels must not be None"):
        tf.losses.mean_squared_error(None, [1.0])
    with pytest.raises(ValueError, match="incompatible"):
        tf.losses.mean_squared_error([1.0, 2.0], [1.0])
    with pytest.raises(ValueError, match="No losses"):
        tf.losses.get_total_loss()
    tf.losses.mean_squared_error([1.0], [3.0], loss_collection=None)
    assert tf.losses.get_losses() == []
    tf.get_variable("w", initializer=tf.constant([1.0, 2.0]), regularizer=lambda w: tf.reduce_sum(w))
    assert run([tf.losses.get_regularization_loss(), tf.losses.get_total_loss()]) == [3.0, 3.0]
