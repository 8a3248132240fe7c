"""Branches and loops as compiled: jumps, one kernel, rows in place, stages, interruption, and what explain says of them."""
import os
import subprocess
import sys
import textwrap
import warnings

import numpy as np
import pytest

import graphflow as tf
from graphflow.codegen import ir, segments
from graphflow.codegen.compile import no_recompile
from graphflow.flags import flags
from graphflow.types import float32


@pytest.fixture(autouse=True)
def fresh_graph():
    with tf.Graph().as_default():
        yield


def lstm(batch, steps, depth=5, units=6):
    """Loss, gradients and the placeholder of a small LSTM over sequences."""
    x = tf.placeholder(tf.float32, [batch, steps, depth])
    cell = tf.nn.rnn_cell.LSTMCell(units, initializer=tf.random_uniform_initializer(-0.5, 0.5, seed=3))
    out, _ = tf.nn.dynamic_rnn(cell, x, dtype=tf.float32)
    loss = tf.reduce_sum(out * out)
    return [loss, *tf.gradients(loss, [*tf.trainable_variables(), x])], x


def recurrence(n=50):
    """h = h/2 + tanh(A h + u_t)/2, written out in NumPy too."""
    rng = np.random.default_rng(1)
    a, u = rng.standard_normal((8, 8)) / 3, rng.standard_normal((n, 8))
    ta, tu = tf.placeholder(tf.float64, [8, 8]), tf.placeholder(tf.float64, [None, 8])
    _, h = tf.while_loop(lambda t, h: t < tf.shape(tu)[0],
                         lambda t, h: (t + 1, 0.5 * h + 0.5 * tf.tanh(tf.reduce_sum(ta * h, 1) + tf.gather(tu, t))),
                         [0, tf.zeros([8], tf.float64)])
    want = np.zeros(8)
    for row in u:
        want = 0.5 * want + 0.5 * np.tanh(a @ want + row)
    return h, {ta: a, tu: u}, want


def test_small_loop_is_one_kernel():
    h, feeds, want = recurrence()
    told = tf.explain(h, feeds)
    assert any("one kernel" in text and "50 iterations" in text for text in told.loops)
    with tf.Session() as sess:
        for _ in range(2):
            np.testing.assert_allclose(sess.run(h, feeds), want, rtol=1e-12)


def test_other_numbers_of_steps_compile_nothing():
    fetches, x = lstm(None, None)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        rng = np.random.default_rng(2)
        sess.run(fetches, {x: rng.standard_normal((3, 7, 5))})
        values = rng.standard_normal((4, 31, 5))
        with no_recompile():
            got = sess.run(fetches, {x: values})
        with flags.override(interpret=1):
            want = sess.run(fetches, {x: values})
    for a, b in zip(got, want):
        np.testing.assert_allclose(a, b, rtol=2e-4, atol=2e-5)


def test_same_bits_for_any_number_of_threads():
    fetches, x = lstm(48, 40, 32, 96)
    values, found = np.random.default_rng(5).standard_normal((48, 40, 32)), []
    for threads in (1, 2):
        with tf.Session(config=tf.ConfigProto(intra_op_parallelism_threads=threads)) as sess:
            sess.run(tf.global_variables_initializer())
            found.append(sess.run(fetches, {x: values}))
    for a, b in zip(*found):
        np.testing.assert_array_equal(a, b)


def test_interpreted_loops_say_so_and_why():
    x = tf.placeholder(tf.float32, [2])
    _, y = tf.while_loop(lambda i, a: i < 3, lambda i, a: (i + 1, tf.concat([a, [7.0]], 0)), [0, x],
                         shape_invariants=[tf.TensorShape([]), tf.TensorShape([None])])
    with tf.Session() as sess:
        with pytest.warns(UserWarning, match=r"slowly.*changes its shape"):
            np.testing.assert_array_equal(sess.run(y, {x: [1, 2]}), [1, 2, 7, 7, 7])
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            np.testing.assert_array_equal(sess.run(y, {x: [3, 4]}), [3, 4, 7, 7, 7])
    assert "changes its shape" in str(tf.explain(y, {x: [1, 2]}))


def test_variable_without_a_value_in_the_branch_not_taken():
    v = tf.Variable(3.0)
    y = tf.cond(tf.is_variable_initialized(v), lambda: v.read_value(), lambda: tf.constant(-1.0))
    with tf.Session() as sess:
        assert sess.run(y) == -1.0
        sess.run(v.initializer)
        assert sess.run(y) == 3.0


@pytest.mark.parametrize("growing", [False, True])
def test_timeout_stops_an_endless_loop(growing):
    v = tf.Variable(0.0)
    with tf.control_dependencies([tf.assign_add(v, 1.0)]):
        start = tf.zeros([1])
    grow = (lambda a: tf.concat([a, a[:1]], 0)) if growing else (lambda a: a + 1.0)
    shape = tf.TensorShape([None if growing else 1])
    y = tf.while_loop(lambda a: a[0] >= 0, grow, [start], shape_invariants=[shape])
    with tf.Session(config=tf.ConfigProto(operation_timeout_in_ms=200)) as sess, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        sess.run(v.initializer)
        with pytest.raises(tf.errors.DeadlineExceededError):
            sess.run(y)
        assert sess.run(v) == 0.0


def test_ctrl_c_stops_an_endless_loop():
    """In a process of its own: a signal must not reach the tests."""
    script = textwrap.dedent("""
        import os, signal, threading, time
        import graphflow as tf
        signal.signal(signal.SIGINT, signal.default_int_handler)
        v = tf.Variable(1)
        y = tf.while_loop(lambda a: a >= 0, lambda a: (a + 1) % 1000, [v + 0])
        with tf.Session() as sess:
            sess.run(v.initializer)
            threading.Timer(3.0, lambda: os.kill(os.getpid(), signal.SIGINT)).start()
            try:
                sess.run(y)
            except KeyboardInterrupt:
                print("stopped", sess.run(v))
    """)
    found = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120,
                           env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)})
    assert found.stdout.strip() == "stopped 1", found.stderr


def test_checkpointed_loop_keeps_less():
    memory, found = [], []
    for swap in (False, True):
        with tf.Graph().as_default():
            x = tf.placeholder(tf.float64, [64])
            _, h = tf.while_loop(lambda i, h: i < 2500, lambda i, h: (i + 1, tf.tanh(h * x) + 0.1), [0, x], swap_memory=swap)
            g = tf.gradients(h, x)[0]
            value = np.linspace(0.5, 1.0, 64)
            told = tf.explain(g, {x: value})
            memory.append(told.memory["temporaries"])
            assert any("checkpointed" in text for text in told.loops) == swap
            with tf.Session() as sess:
                found.append(sess.run(g, {x: value}))
    np.testing.assert_allclose(found[1], found[0], rtol=1e-12)
    assert memory[1] * 10 < memory[0]


# ---------------------------------------------------------------- kernels cut where a choice by position changes


def test_gradient_of_a_split_has_no_choices():
    x = tf.placeholder(tf.float32, [40, 96])
    a, b, c = tf.split(x, 3, axis=1)
    g = tf.gradients(tf.sigmoid(a) * tf.tanh(b) + c, x)[0]
    value = np.random.default_rng(0).standard_normal((40, 96)).astype(np.float32)
    s, t = 1 / (1 + np.exp(-value[:, :32].astype(np.float64))), np.tanh(value[:, 32:64].astype(np.float64))
    with tf.Session() as sess:
        got = sess.run(g, {x: value})
    np.testing.assert_allclose(got, np.concatenate([s * (1 - s) * t, s * (1 - t * t), np.ones_like(s)], 1), rtol=3e-6, atol=1e-7)
    assert not any("select" in k.source for k in tf.explain(g, {x: value}).kernels)


def test_cut_parts_are_the_whole():
    """select(j < 20, x, select(j < 52, y, 0)) by parts, against the whole in NumPy."""
    rows, columns = ir.Axis(16), ir.Axis(84)
    x, y, out = (ir.Buffer(float32, sizes, role) for sizes, role in (((16, 20), "in"), ((16, 32), "in"), ((16, 84), "out")))
    i, j = ir.axis(rows), ir.axis(columns)
    zero = ir.const(0, float32)
    at = lambda b, k, n: ir.make("at", (i * n + ir.call("max", ir.call("min", k, n - 1), 0),), float32, b)  # noqa: E731
    expr = ir.select(j < 20, at(x, j, 20), ir.select(j < 52, at(y, j - 20, 32), zero))
    kernel = ir.Kernel("k", (x, y, out), (ir.Stage(out, (rows, columns), (i * 84 + j,), expr),), (rows,))
    parts, = segments.cut(kernel)
    assert [s.axes[1].extent for s in parts.stages] == [20, 32, 32]
    assert not any(e.op in ("select", "min", "max") for s in parts.stages for e in ir.walk(s.expr))
    from graphflow.codegen import interp

    values = {x: np.arange(320, dtype=np.float32).reshape(16, 20), y: -np.arange(512, dtype=np.float32).reshape(16, 32)}
    whole = interp.run(kernel, values, {})[out]
    np.testing.assert_array_equal(whole, np.concatenate([values[x], values[y], np.zeros((16, 32), np.float32)], 1).reshape(whole.shape))
    pieces = np.full(16 * 84, np.nan, np.float32)
    for s in parts.stages:
        alone = ir.Kernel("part", (x, y, out), (s,), (rows,))
        made = interp.run(alone, values, {})[out].reshape(-1)
        places = np.add.outer(np.arange(16) * 84, np.arange(s.axes[1].extent)).reshape(-1) + [0, 20, 52][parts.stages.index(s)]
        pieces[places] = made[places]
    np.testing.assert_array_equal(pieces, whole.reshape(-1))


def test_nothing_outside_depends_on_an_op_inside():
    """Silently, it would never run; the message says what to do."""
    v, inside = tf.Variable(0.0), []

    def branch():
        inside.append(tf.assign_add(v, 1.0))
        return tf.constant(1.0)

    tf.cond(tf.placeholder(tf.bool, []), branch, lambda: tf.constant(2.0))
    with pytest.raises(ValueError, match="inside a branch of tf.cond"):
        with tf.control_dependencies(inside):
            tf.no_op()
    with pytest.raises(ValueError, match="inside a branch of tf.cond"):
        tf.group(*inside)


def test_long_steps_go_on_where_they_paused():
    """Runs that were long before go through another thread; a pause of a loop there must not begin the step anew."""
    calls = []
    n = tf.placeholder(tf.int32, [])
    a = tf.ones([64, 64]) / 64
    _, y = tf.while_loop(lambda i, h: i < n, lambda i, h: (i + 1, tf.tanh(tf.matmul(a, h)) + 0.5), [0, tf.ones([64, 64])])
    from graphflow.runtime import runner

    real = runner.execute_interruptible

    def counted(code, pc, state, timeout_s=None):
        calls.append(pc)
        return real(code, pc, state, timeout_s)

    with tf.Session() as sess, pytest.MonkeyPatch.context() as patch:
        patch.setattr(runner, "execute_interruptible", counted)
        want = sess.run(y, {n: 60000})
        for _ in range(3):
            np.testing.assert_allclose(sess.run(y, {n: 60000}), want, rtol=1e-4)  # a fixed point
    assert calls.count(0) <= 3 and len(calls) > 3  # each step began once, and was taken up again


@pytest.mark.parametrize("units", [3, 80])
def test_check_2_follows_jumps(units):
    """Every kernel of every iteration is compared, in loops of one kernel (few units) and of instructions."""
    fetches, x = lstm(32, 6, 70, units)
    value = np.random.default_rng(8).standard_normal((32, 6, 70))
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        want = sess.run(fetches, {x: value})
        with flags.override(check=2), tf.Session() as again:
            again.run(tf.global_variables_initializer())
            for a, b in zip(again.run(fetches, {x: value}), want):
                np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def test_a_loop_that_cannot_be_run_again_says_so():
    v, x = tf.Variable(0.0), tf.placeholder(tf.float32, [])

    def body(i, a):
        with tf.control_dependencies([tf.assign_add(v, 1.0)]):
            return i + 1, a * x

    _, y = tf.while_loop(lambda i, _: i < 4, body, [0, x], swap_memory=True)
    with pytest.warns(UserWarning, match="swap_memory=True has no effect"):
        g = tf.gradients(y, x)[0]
    with tf.Session() as sess:
        sess.run(v.initializer)
        assert sess.run(g, {x: 2.0}) == 5 * 2.0 ** 4
        assert sess.run(v) == 4.0
