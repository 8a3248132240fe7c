"""The first runs of a request: interpreted, then compiled behind them."""
from __future__ import annotations

import threading
import time

import numpy as np
import pytest

import graphflow as tf
from graphflow.flags import flags
from graphflow.runtime import early

pytestmark = pytest.mark.cpu_only(reason="on a GPU the first run is compiled, too")


@pytest.fixture(autouse=True)
def early_runs(monkeypatch):
    """Early runs, and no clock that a busy machine could make run out; the tests of the clock set their own."""
    monkeypatch.setattr(early, "LONGEST", 100.0)
    with flags.override(early=1), tf.Graph().as_default():
        tf.set_random_seed(3)
        yield


def regression(width=3):
    x, y = tf.placeholder(tf.float32, [None, width]), tf.placeholder(tf.float32, [None])
    w = tf.get_variable("w", [width, 1], initializer=tf.zeros_initializer())
    loss = tf.reduce_mean(tf.square(tf.matmul(x, w)[:, 0] - y))
    return x, y, w, loss, tf.train.GradientDescentOptimizer(0.1).minimize(loss)


def executable(sess, count=0):
    """The executable of the request that was made last."""
    return list(sess._executables.values())[-1]


def until_native(sess, step, seconds=60.0):
    """Runs `step` until its request is native; how often it was interpreted."""
    runs, end = 0, time.monotonic() + seconds
    while executable(sess).early is not None:
        assert time.monotonic() < end, "never compiled"
        step()
        runs += 1
    return runs


def test_a_request_that_is_run_once_is_not_compiled():
    *_, w, _, _ = regression()
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        exe = executable(sess)
        assert exe.early is not None and exe.variants == [[]]
        assert np.array_equal(sess.run(w), np.zeros((3, 1)))


def test_training_goes_on_from_interpreted_to_native(monkeypatch):
    monkeypatch.setattr(early, "OFTEN", 10.0)
    x, y, w, loss, train = regression()
    r = np.random.RandomState(0)
    a = r.randn(32, 3).astype(np.float32)
    b = a @ np.float32([1, -2, 3])
    want = np.zeros(3)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())

        def step():
            nonlocal want
            error, _ = sess.run([loss, train], {x: a, y: b})
            np.testing.assert_allclose(error, np.mean((a @ want - b) ** 2), rtol=1e-4, atol=1e-8)
            want = want - 0.1 * 2 / 32 * a.T @ (a @ want - b)

        step()
        assert until_native(sess, step) > 1
        for _ in range(3):
            step()
        assert executable(sess).idle, "not on the fast path"
        np.testing.assert_allclose(sess.run(w)[:, 0], want, rtol=1e-4)


def test_random_streams_go_on(monkeypatch):
    """The numbers drawn while interpreted and after are those of one stream."""
    monkeypatch.setattr(early, "OFTEN", 10.0)
    n = tf.random_uniform([4], name="n")
    with tf.Session() as sess:
        found = [sess.run(n)]
        until_native(sess, lambda: found.append(sess.run(n)))
        found += [sess.run(n) for _ in range(3)]
    with flags.override(early=0), tf.Session() as sess:
        np.testing.assert_array_equal(found, [sess.run(n) for _ in found])


def test_what_takes_numpy_long_is_compiled_at_once(monkeypatch):
    monkeypatch.setattr(early, "LONGEST", 0.3)
    x = tf.placeholder(tf.float32, [None, 3000])
    y = tf.matmul(x, tf.ones([3000, 3000]))
    with tf.Session() as sess:
        sess.run(y, {x: np.ones((3000, 3000), np.float32)})
        assert executable(sess).early is None and executable(sess).variants[0]


def test_a_long_loop_is_given_up_and_compiled(monkeypatch):
    monkeypatch.setattr(early, "LONGEST", 0.3)
    with tf.Session() as sess:
        found = tf.while_loop(lambda i, s: i < 2_000_000, lambda i, s: (i + 1, s + tf.cast(i % 3, tf.float64)), [0, np.float64(0)])
        assert sess.run(found) == (2_000_000, sum(i % 3 for i in range(2_000_000)))
        assert executable(sess).early is None


def test_long_runs_are_compiled_at_the_second():
    x = tf.placeholder(tf.float32, [None, 700])
    y = tf.tanh(tf.matmul(x, tf.ones([700, 700]))) + 1.0
    with tf.Session() as sess:
        fed = {x: np.ones((700, 700), np.float32)}
        first = sess.run(y, fed)
        exe = executable(sess)
        assert exe.early is not None and exe.early.seconds > early.OFTEN
        np.testing.assert_allclose(sess.run(y, fed), first, rtol=1e-6)
        assert exe.early is None and exe.variants[0]


def test_errors_are_those_of_native_runs():
    i = tf.placeholder(tf.int32, [], name="i")
    v = tf.get_variable("v", [], initializer=tf.zeros_initializer())
    y = tf.gather(tf.constant([1.0, 2.0]), i, name="pick")
    with tf.Session() as sess:
        with pytest.raises(tf.errors.FailedPreconditionError, match="v"):
            sess.run(v)
        sess.run(tf.global_variables_initializer())
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"pick.*\n.*test_early|test_early"):
            sess.run([y, v.assign_add(1.0)], {i: 5})
        assert sess.run(v) == 0
        with pytest.raises(ValueError, match="Cannot feed value of shape"):
            sess.run(y, {i: [1, 2]})


def test_no_recompile_and_watched_runs_do_not_interpret():
    from graphflow.codegen.compile import no_recompile

    x = tf.placeholder(tf.float32, [None])
    with tf.Session() as sess:
        with no_recompile(), pytest.raises(RuntimeError, match="no_recompile"):
            sess.run(tf.sin(x) * 3.25 + tf.cos(x * 1.125), {x: [1.0]})
    with tf.Session(config=tf.ConfigProto(operation_timeout_in_ms=10_000)) as sess:
        sess.run(x + 1.0, {x: [1.0]})
        assert executable(sess).early is None


def test_threads_share_one_session():
    x, y, w, loss, train = regression()
    a = np.eye(3, dtype=np.float32)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        count = tf.get_variable("count", [], tf.int32, initializer=tf.zeros_initializer())
        sess.run(count.initializer)
        add = count.assign_add(1)

        def work():
            for _ in range(40):
                sess.run([train, add], {x: a, y: [1.0, 2.0, 3.0]})

        threads = [threading.Thread(target=work) for _ in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert sess.run(count) == 160


def test_a_process_may_end_while_its_request_is_compiled(tmp_path):
    import os
    import subprocess
    import sys

    script = tmp_path / "short.py"
    script.write_text("import graphflow as tf\nimport numpy as np\nx = tf.placeholder(tf.float32, [None, 64])\n"
                      "y = tf.reduce_sum(tf.nn.softmax(tf.matmul(tf.tanh(x), tf.ones([64, 64])))) * 0.12345\ns = tf.Session()\n"
                      "while True:\n    v = s.run(y, {x: np.zeros((8, 64), np.float32)})\n    e = list(s._executables.values())[0]\n"
                      "    if e.early is None or e.early.job is not None:\n        break\nprint(v)\n")
    env = {**os.environ, "GRAPHFLOW_EARLY": "1", "GRAPHFLOW_CACHE_DIR": str(tmp_path / "cache")}
    done = subprocess.run([sys.executable, str(script)], env=env, capture_output=True, text=True, timeout=120)
    assert done.returncode == 0 and done.stderr == ""
    assert abs(float(done.stdout) - 8 * 0.12345) < 1e-5
