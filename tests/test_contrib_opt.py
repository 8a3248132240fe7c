"""`tf.contrib.opt`: SciPy on a graph, and optimizers whose steps NumPy repeats."""
from __future__ import annotations

import sys

import numpy as np
import pytest
from on_gpu import QUICK

import graphflow as tf
from graphflow.flags import flags

opt = tf.contrib.opt


@pytest.fixture(autouse=True)
def _graph():
    with tf.Graph().as_default(), flags.override(interpret=QUICK):
        yield


def started():
    sess = tf.Session()
    sess.run(tf.global_variables_initializer())
    return sess


# ---------------------------------------------------------------- SciPy


def rosenbrock(x, y):
    return tf.reduce_sum(100 * tf.square(y - tf.square(x)) + tf.square(1 - x))


@pytest.mark.parametrize("method, dtype", [(None, tf.float64), ("L-BFGS-B", tf.float32), ("CG", tf.float64), ("SLSQP", tf.float64)])
def test_scipy_finds_the_minimum(method, dtype):
    x, y = tf.Variable(np.full((2, 2), -1.0), dtype=dtype), tf.Variable(0.5, dtype=dtype)
    z = tf.Variable(3.0, name="other")
    loss = rosenbrock(x, y)
    settings = {} if method is None else {"method": method}
    interface = opt.ScipyOptimizerInterface(loss, [x, y], options={"maxiter": 500}, **settings)
    with started() as sess:
        interface.minimize(sess)
        assert sess.run(loss) < (1e-3 if dtype is tf.float32 else 1e-6) and sess.run(z) == 3
        np.testing.assert_allclose(np.abs(sess.run(x)), 1, atol=0.05)


def test_scipy_compiled():
    with flags.override(interpret=0):
        v = tf.Variable([7.0, 7.0])
        fed = tf.placeholder(tf.float32, [2])
        with started() as sess:
            opt.ScipyOptimizerInterface(tf.reduce_sum(tf.square(v - fed)), options={"maxiter": 100}).minimize(sess, {fed: [1.0, 2.0]})
            np.testing.assert_allclose(sess.run(v), [1, 2], atol=1e-5)


def test_scipy_bounds_and_constraints():
    v = tf.Variable([7.0, 7.0], dtype=tf.float64)
    loss = tf.reduce_sum(tf.square(v))
    with started() as sess, sess.as_default():
        opt.ScipyOptimizerInterface(loss, var_to_bounds={v: ([1, 2], np.inf)}).minimize()
        np.testing.assert_allclose(sess.run(v), [1, 2], atol=1e-6)
        opt.ScipyOptimizerInterface(loss, equalities=[v[0] + v[1] - 4.0], inequalities=[v[1] - 3.0], method="SLSQP").minimize(sess)
        np.testing.assert_allclose(sess.run(v), [1, 3], atol=1e-6)


def test_scipy_callbacks_and_fetches():
    v = tf.Variable([3.0])
    w = tf.Variable([1.0], name="w")  # the loss does not depend on it
    loss = tf.reduce_sum(tf.square(v - 1.0))
    losses, steps = [], []
    with started() as sess:
        opt.ScipyOptimizerInterface(loss, [v, w]).minimize(sess, fetches=[loss, v], step_callback=steps.append,
                                                           loss_callback=lambda value, at: losses.append((value, at[0])))
        assert losses[0] == (4, 3) and losses[-1][0] < 1e-8 and len(steps) >= 1 and steps[0].shape == (2,)
        assert sess.run(w) == 1

        def stop(*_):
            raise KeyError("mine")

        with pytest.raises(KeyError, match="mine"):
            opt.ScipyOptimizerInterface(loss, [v]).minimize(sess, loss_callback=stop)


def test_external_interface_of_a_user():
    class Once(opt.ExternalOptimizerInterface):
        def _minimize(self, initial_val, loss_grad_func, equality_funcs, equality_grad_funcs, packed_bounds, optimizer_kwargs, **_):
            loss, gradient = loss_grad_func(initial_val)
            assert (loss, optimizer_kwargs, packed_bounds) == (5, {"rate": 0.25}, [(0, 9), (-np.inf, np.inf)])
            assert [f(initial_val) for f in equality_funcs] == [3] and equality_grad_funcs[0](initial_val).tolist() == [1, 1]
            return initial_val - optimizer_kwargs["rate"] * gradient

    a, b = tf.Variable(1.0), tf.Variable([2.0])
    interface = Once(tf.square(a) + tf.reduce_sum(tf.square(b)), equalities=[a + b[0]], var_to_bounds={a: (0, 9)}, rate=0.25)
    with started() as sess:
        interface.minimize(sess)
        assert sess.run([a, b]) == [0.5, [1.0]]


@pytest.mark.parametrize("call, error, text", [
    (lambda v: opt.ScipyOptimizerInterface(tf.square(v)).minimize(), ValueError, "needs a session"),
    (lambda v: opt.ScipyOptimizerInterface(tf.square(v)), ValueError, "must be scalars"),
    (lambda v: opt.ScipyOptimizerInterface(tf.reduce_sum(v), equalities=[v]), ValueError, "must be scalars"),
    (lambda v: opt.ScipyOptimizerInterface(tf.reduce_sum(v), []), ValueError, "No variables"),
    (lambda v: opt.ScipyOptimizerInterface(tf.reduce_sum(v), bounds=[]).minimize(started()), ValueError, "var_to_bounds"),
    (lambda v: opt.ScipyOptimizerInterface(tf.reduce_sum(v), jac=1).minimize(started()), ValueError, "'jac' is set automatically"),
    (lambda v: opt.ExternalOptimizerInterface(tf.reduce_sum(v)).minimize(started()), NotImplementedError, "subclass"),
])
def test_scipy_bad_input(call, error, text):
    v = tf.Variable([1.0, 2.0])
    with pytest.raises(error, match=text):
        call(v if "needs" not in text else v[0])


def test_without_scipy(monkeypatch):
    monkeypatch.setitem(sys.modules, "scipy.optimize", None)
    v = tf.Variable(1.0)
    with pytest.raises(ImportError, match=r"graphflow\[scipy\]"):
        opt.ScipyOptimizerInterface(tf.square(v)).minimize(started())


# ---------------------------------------------------------------- optimizers

START = np.array([[1.0, -2.0], [0.5, 3.0], [-1.0, 0.25]])
GRADS = [np.array([[0.5, -1.0], [0.25, 2.0], [-0.125, 0.5]]), np.array([[-0.5, -1.0], [0.75, 1.0], [0.25, -0.5]]), START * 0.1]
ROWS = np.array([2, 0, 2])


def nadam(x, grads, rate=0.1, b1=0.9, b2=0.999, eps=1e-8):
    m = v = 0
    for t, g in enumerate(grads, 1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        x = x - rate * np.sqrt(1 - b2 ** t) / (1 - b1 ** t) * (b1 * m + (1 - b1) * g) / (np.sqrt(v) + eps)
    return x


def adam(x, grads, rate=0.1, b1=0.9, b2=0.999, eps=1e-8, decay=0.0):
    m = v = 0
    for t, g in enumerate(grads, 1):
        m, v = b1 * m + (1 - b1) * g, b2 * v + (1 - b2) * g * g
        x = x * (1 - decay) - rate * np.sqrt(1 - b2 ** t) / (1 - b1 ** t) * m / (np.sqrt(v) + eps)
    return x


def adamax(x, grads, rate=0.1, b1=0.9, b2=0.999, eps=1e-8):
    m = v = 0
    for t, g in enumerate(grads, 1):
        m, v = b1 * m + (1 - b1) * g, np.maximum(b2 * v, np.abs(g))
        x = x - rate / (1 - b1 ** t) * m / (v + eps)
    return x


def momentum(x, grads, rate=0.1, mu=0.9, decay=0.0):
    a = 0
    for g in grads:
        a = mu * a + g
        x = x * (1 - decay) - rate * a
    return x


def sign(x, grads, multiplier, rate=0.1, beta=0.9):
    m = 0
    for t, g in enumerate(grads):
        m = beta * m + (1 - beta) * g
        x = x - rate * multiplier(np.sign(m) * np.sign(g), t) * g
    return x


OPTIMIZERS = {
    "Nadam": (lambda: opt.NadamOptimizer(0.1), nadam),
    "AdaMax": (lambda: opt.AdaMaxOptimizer(0.1), adamax),
    "LazyAdam": (lambda: opt.LazyAdamOptimizer(0.1), adam),
    "PowerSign": (lambda: opt.PowerSignOptimizer(base=2.0), lambda x, g: sign(x, g, lambda s, t: 2.0 ** s)),
    "PowerSign with decay": (lambda: opt.PowerSignOptimizer(sign_decay_fn=lambda step: 1.0 / (1.0 + tf.cast(step, tf.float32))),
                             lambda x, g: sign(x, g, lambda s, t: np.exp(s / (1 + t)))),
    "AddSign": (lambda: opt.AddSignOptimizer(alpha=0.5), lambda x, g: sign(x, g, lambda s, t: 0.5 + s)),
    "AdamW": (lambda: opt.AdamWOptimizer(0.01, 0.1), lambda x, g: adam(x, g, decay=0.01)),
    "MomentumW": (lambda: opt.MomentumWOptimizer(0.01, 0.1, 0.9), lambda x, g: momentum(x, g, decay=0.01)),
    "extended": (lambda: opt.extend_with_decoupled_weight_decay(tf.train.MomentumOptimizer)(0.01, learning_rate=0.1, momentum=0.9),
                 lambda x, g: momentum(x, g, decay=0.01)),
}


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers(name):
    make, expected = OPTIMIZERS[name]
    v = tf.Variable(START, dtype=tf.float64)
    g = tf.placeholder(tf.float64, [3, 2])
    step = tf.train.create_global_step()
    train = make().apply_gradients([(g, v)], global_step=step)
    with started() as sess:
        for value in GRADS:
            sess.run(train, {g: value})
        got, count = sess.run([v, step])
    np.testing.assert_allclose(got, expected(START, GRADS), rtol=1e-6)
    assert count == 3


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_optimizers_rows(name):
    """The first steps with IndexedSlices, whose equal indices add up: as the dense step in these rows, no change in others."""
    make, expected = OPTIMIZERS[name]
    v = tf.Variable(START, dtype=tf.float64)
    step = tf.train.create_global_step()
    train = make().apply_gradients([(tf.IndexedSlices(tf.constant(GRADS[0]), tf.constant(ROWS), tf.constant([3, 2])), v)], step)
    dense = np.zeros((3, 2))
    np.add.at(dense, ROWS, GRADS[0])
    with started() as sess:
        sess.run(train)
        got = sess.run(v)
    wanted = expected(START, [dense])
    wanted[1] = START[1]
    np.testing.assert_allclose(got, wanted, rtol=1e-6)


def test_weight_decay_of_some_variables():
    a, b = tf.Variable(2.0), tf.Variable(2.0)
    optimizer = opt.MomentumWOptimizer(lambda: 0.5, 0.1, 0.0)
    train = optimizer.minimize(a + b, decay_var_list=[b])
    with started() as sess:
        sess.run(train)
        np.testing.assert_allclose(sess.run([a, b]), [1.9, 0.9], rtol=1e-6)


def test_moving_average_optimizer(tmp_path):
    v = tf.Variable([2.0], name="v")
    optimizer = opt.MovingAverageOptimizer(tf.train.GradientDescentOptimizer(1.0), average_decay=0.5)
    with pytest.raises(RuntimeError, match="before creating the swapping_saver"):
        optimizer.swapping_saver()
    train = optimizer.minimize(tf.reduce_sum(v))
    saver = optimizer.swapping_saver()
    with started() as sess:
        sess.run(train)  # v: 1, average: 2 -> 1.5
        sess.run(train)  # v: 0, average 0.75
        path = saver.save(sess, str(tmp_path / "swapped"))
    assert tf.train.load_variable(path, "v") == 0.75 and tf.train.load_variable(path, "v/ExponentialMovingAverage") == 0
    with pytest.raises(ValueError, match="not part of variables to save"):
        optimizer.swapping_saver([v])


def test_variable_clipping_optimizer():
    v, w = tf.Variable(tf.ones([3, 2])), tf.Variable(tf.ones([2]))
    optimizer = opt.VariableClippingOptimizer(tf.train.GradientDescentOptimizer(1.0), {v: [1]}, 2.0)
    slices = tf.IndexedSlices(tf.constant([[-2.0, -3.0]]), tf.constant([1]), tf.constant([3, 2]))
    dense = optimizer.apply_gradients([(tf.constant([[-9.0, 0], [0, 0], [0, 0]]), v), (tf.constant([-5.0, 0]), w)])
    sparse = optimizer.apply_gradients([(slices, v)])
    with started() as sess:
        sess.run(dense)
        first = sess.run([v, w])
        sess.run(sparse)
        second = sess.run(v)
    row = np.array([10.0, 1.0])
    np.testing.assert_allclose(first[0], [row * 2 / np.linalg.norm(row), [1, 1], [1, 1]], rtol=1e-6)
    assert first[1].tolist() == [6, 1]
    np.testing.assert_allclose(second, [first[0][0], np.array([3, 4]) * 2 / 5, [1, 1]], rtol=1e-6)


def test_clip_gradients_by_global_norm():
    v = tf.Variable([0.0, 0.0])
    pairs, norm = opt.clip_gradients_by_global_norm([(tf.constant([3.0, 4.0]), v), (None, v)], 1.0)
    with started() as sess:
        np.testing.assert_allclose(sess.run([pairs[0][0], norm])[0], [0.6, 0.8], rtol=1e-6)
    assert pairs[1] == (None, v)
