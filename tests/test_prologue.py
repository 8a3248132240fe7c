"""What depends on weights alone is computed when a weight changes, not at every step."""
import threading

import numpy as np
import pytest

import graphflow as tf
from graphflow.flags import flags
from graphflow.runtime import runner


@pytest.fixture(autouse=True)
def graph():
    with tf.Graph().as_default():
        tf.set_random_seed(1)
        yield


def plan_of(sess, writes=False):
    """The plan of the only request that has a prologue (and writes variables, where asked for)."""
    found = {fast.plan for e in sess._executables.values() for fast in e.idle}
    found |= {p for e in sess._executables.values() for vs in e.variants for v in vs for ps in v.plans.values() for p in ps}
    plan, = [p for p in found if p.start and (p.writes or not writes)]
    return plan


class Counted:
    """How often each kernel of a plan runs: the cycle counter of its instruction moves."""

    def __init__(self, plan):
        self.plan, self.ticks = plan, np.zeros(len(plan.code) // runner.WORDS * 2, np.int64)
        runner.set_timing(plan.state, self.ticks)

    def ran(self):
        """(prologue kernels, other kernels) that ran since the last call."""
        at = [pc for pc in self.plan.unit_at if self.ticks[2 * pc]]
        self.ticks[:] = 0
        once = [pc for pc in at if self.plan.unit_at[pc].prologue]
        return len(once), len(at) - len(once)


def network(units=7):
    """An output that reads exp(w) as a matrix: one kernel of weights, one product."""
    x = tf.placeholder(tf.float32, [None, 5], name="x")
    w = tf.get_variable("w", [5, units], initializer=tf.random_normal_initializer())
    return x, w, tf.matmul(x, tf.exp(w) / 3.0)


def wanted(a, w):
    return a.astype(np.float64) @ (np.exp(w.astype(np.float64)) / 3)


def test_kernels_of_weights_run_once_and_again_when_a_weight_is_assigned():
    x, w, y = network()
    a, value = np.ones((4, 5), np.float32), tf.placeholder(tf.float32, [5, 7])
    assign = w.assign(value)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        first = sess.run(y, {x: a})
        counted = Counted(plan_of(sess))
        for _ in range(3):
            np.testing.assert_array_equal(sess.run(y, {x: a}), first)
            assert counted.ran() == (0, 1)
        new = np.full((5, 7), 0.5, np.float32)
        sess.run(assign, {value: new})
        np.testing.assert_allclose(sess.run(y, {x: a}), wanted(a, new), rtol=1e-6)
        assert counted.ran() == (1, 1)
        sess.run(y, {x: a})
        assert counted.ran() == (0, 1)


def test_every_way_of_changing_a_variable_counts(tmp_path):
    x, w, y = network()
    a = np.linspace(-1, 1, 20, dtype=np.float32).reshape(4, 5)
    train = tf.train.GradientDescentOptimizer(0.1).minimize(tf.reduce_sum(y))
    grow, reshaped = w.assign_add(tf.ones([5, 7])), tf.get_variable("other", [3])
    saver = tf.train.Saver()
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        saver.save(sess, str(tmp_path / "m"))

        def check():
            for _ in range(2):
                np.testing.assert_allclose(sess.run(y, {x: a}), wanted(a, sess.run(w)), rtol=1e-5, atol=1e-5)

        check()
        for change in (lambda: sess.run(train, {x: a}), lambda: sess.run(grow), lambda: w.load(np.zeros((5, 7), np.float32), sess),
                       lambda: saver.restore(sess, str(tmp_path / "m")), lambda: sess.run(tf.global_variables_initializer()),
                       lambda: sess.run(w.assign(np.ones((5, 7), np.float32))), lambda: sess.run(reshaped.assign(np.ones(3)))):
            for _ in range(3):  # the third comes on the fast path
                change()
                check()


def test_a_step_keeps_what_it_computes_of_frozen_weights():
    x = tf.placeholder(tf.float32, [None, 5])
    frozen = tf.get_variable("frozen", [5, 6], trainable=False)
    w = tf.get_variable("w", [6, 1])
    loss = tf.reduce_mean(tf.square(tf.matmul(tf.matmul(x, tf.tanh(frozen)), w)))
    train = tf.train.GradientDescentOptimizer(0.1).minimize(loss)
    a = np.ones((3, 5), np.float32)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        before = sess.run(loss, {x: a})
        sess.run(train, {x: a})
        plan = plan_of(sess, writes=True)
        counted = Counted(plan)
        for _ in range(3):
            sess.run(train, {x: a})
            assert counted.ran()[0] == 0
        sess.run(frozen.assign(tf.zeros([5, 6])))
        sess.run(train, {x: a})
        assert counted.ran()[0] == 1
        assert sess.run(loss, {x: a}) == 0 < before


def test_results_of_the_prologue_are_not_overwritten():
    """exp(w) dies at its only reader, which has its shape: in place would be right only for one run."""
    x = tf.placeholder(tf.float32, [40, 30])
    w = tf.get_variable("w", [40, 30], initializer=tf.random_normal_initializer())
    y = tf.nn.softmax(tf.sin(tf.cumsum(tf.exp(w), 0) + x)) * 2
    z = tf.cumsum(tf.cumsum(y, 1), 0)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        a = np.zeros((40, 30), np.float32)
        first = sess.run(z, {x: a})
        plan = plan_of(sess)
        kept = {b for u in plan.compiled.units if u.prologue for b in u.writes}
        assert kept and not kept & {plan.compiled.alias.get(b, b) for u in plan.compiled.units if not u.prologue for b in u.writes}
        for _ in range(3):
            np.testing.assert_array_equal(sess.run(z, {x: a}), first)


def test_a_failed_run_leaves_no_half_made_prologue():
    x, w, y = network()
    i = tf.placeholder(tf.int32, [])
    out = tf.gather(y, i)
    a = np.ones((4, 5), np.float32)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for _ in range(2):
            with pytest.raises(tf.errors.InvalidArgumentError):
                sess.run(out, {x: a, i: 9})
            np.testing.assert_allclose(sess.run(out, {x: a, i: 2}), wanted(a, sess.run(w))[2], rtol=1e-6)
            sess.run(w.assign(np.full((5, 7), 0.25, np.float32)))


def test_a_write_inside_a_step_counts():
    """A py_func that assigns through the same session: the next step sees it."""
    x, w, y = network()
    new = tf.placeholder(tf.float32, [5, 7])
    assign = w.assign(new)
    a = np.ones((4, 5), np.float32)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())

        def change(v):
            sess.run(assign, {new: np.full((5, 7), v, np.float32)})
            return np.float32(v)

        v = tf.placeholder(tf.float32, [])
        step = y + 0 * tf.py_func(change, [v], tf.float32)
        for value in (0.1, 0.2, 0.3):
            sess.run(step, {x: a, v: value})
            np.testing.assert_allclose(sess.run(y, {x: a}), wanted(a, np.full((5, 7), value, np.float32)), rtol=1e-5)


def test_sessions_and_threads_have_their_own():
    x, w, y = network()
    new = tf.placeholder(tf.float32, [5, 7])
    assign = w.assign(new)
    a = np.ones((4, 5), np.float32)
    wrong = []

    def work(sess, seed):
        for i in range(30):
            value = np.full((5, 7), seed + i / 100, np.float32)
            sess.run(assign, {new: value})
            if not np.allclose(sess.run(y, {x: a}), wanted(a, value), rtol=1e-5):
                wrong.append((seed, i))

    sessions = [tf.Session() for _ in range(2)]
    for sess in sessions:
        sess.run(tf.global_variables_initializer())
    threads = [threading.Thread(target=work, args=(s, n)) for n, s in enumerate(sessions)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong


def test_feeds_counters_and_written_variables_are_no_weights():
    x, w, y = network()
    n = tf.get_variable("n", [], initializer=tf.zeros_initializer())
    counted = tf.exp(n.assign_add(1.0)) + tf.reduce_sum(tf.random_uniform([20000])) * 0
    noise = tf.random_normal([3])
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        np.testing.assert_allclose([sess.run(counted) for _ in range(4)], np.exp([1, 2, 3, 4]), rtol=1e-6)
        assert len({tuple(sess.run(noise)) for _ in range(4)}) == 4
        a, v = np.ones((4, 5), np.float32), np.zeros((5, 7), np.float32)
        for value in (v, v + 1, v + 2):
            np.testing.assert_allclose(sess.run(y, {x: a, w: value}), wanted(a, value), rtol=1e-6)


def test_large_results_of_little_are_not_kept():
    """A table of 4 MiB made of one number, and of nothing."""
    x = tf.placeholder(tf.float32, [1024])
    w = tf.get_variable("w", [], initializer=tf.ones_initializer())
    table = tf.cumsum(tf.fill([1024, 1024], tf.exp(w)), 0)
    info = tf.explain(tf.matmul(tf.sin(table), x[:, None]))
    assert not any(k.prologue and k.bytes > 1 << 20 for k in info.kernels)


def test_batch_norm_of_inference_is_folded_once():
    x = tf.placeholder(tf.float32, [None, 6, 6, 8])
    y = tf.nn.relu(tf.layers.batch_normalization(x, training=False))
    info = tf.explain(y)
    first = [k for k in info.kernels if k.prologue]
    assert first and all(k.bytes < 8 * 4 * 8 for k in first) and "(prologue)" in str(info)
    a = np.random.default_rng(0).normal(size=(3, 6, 6, 8)).astype(np.float32)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        np.testing.assert_allclose(sess.run(y, {x: a}), np.maximum(a / np.sqrt(1 + 1e-3), 0), rtol=1e-6)
        counted = Counted(plan_of(sess))
        sess.run(y, {x: a})
        assert counted.ran() == (0, 1)


def test_nothing_is_kept_without_optimisation():
    x, w, y = network()
    with flags.override(optimize=0):
        assert not any(k.prologue for k in tf.explain(y).kernels)


@pytest.mark.parametrize("width", [4, 32])
def test_a_part_that_never_changes_makes_no_whole_that_never_changes(width):
    """A state of zeros beside what is fed, as the first step of a recurrent network multiplies them."""
    r = np.random.RandomState(0)
    x = tf.placeholder(tf.float32, [None, 28])
    k, w = (r.randn(*s).astype(np.float32) / 8 for s in ((28 + width, 128), (128, 10)))
    y = tf.matmul(tf.tanh(tf.matmul(tf.concat([x, tf.zeros([tf.shape(x)[0], width])], 1), tf.Variable(k))), tf.Variable(w))
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for _ in range(3):
            fed = r.rand(32, 28).astype(np.float32)
            np.testing.assert_allclose(sess.run(y, {x: fed}), np.tanh(fed @ k[:28]) @ w, rtol=2e-4, atol=2e-5)


def test_an_outer_product_that_follows_a_product():
    """It has no term to add over, and no kernel of its own."""
    r = np.random.RandomState(0)
    a, b, column, row = (r.randn(*s).astype(np.float32) for s in ((30, 64), (64, 256), (30, 1), (1, 256)))
    x, u, v = tf.placeholder(tf.float32, [30, 64]), tf.placeholder(tf.float32, [None, 1]), tf.placeholder(tf.float32, [1, None])
    outer = tf.matmul(u, v)
    outer.set_shape([30, 256])
    y = tf.matmul(x, tf.constant(b)) * tf.sin(outer) + outer
    with tf.Session() as sess:
        want = a @ b * np.sin(column @ row) + column @ row
        np.testing.assert_allclose(sess.run(y, {x: a, u: column, v: row}), want, rtol=2e-3, atol=2e-3)
