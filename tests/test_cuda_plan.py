"""Where a plan of a GPU computes, and what it copies.  On the emulated GPU."""
import numpy as np
import pytest

import graphflow as tf
from graphflow.flags import flags
from graphflow.testing import emulated_gpu

N = 1000


@pytest.fixture
def gpu():
    with emulated_gpu() as driver, flags.override(early=0, interpret=0):
        yield driver


def moved(gpu, step):
    """Bytes that the copies of a run move, by their direction."""
    step()
    step()
    before = dict(gpu.nbytes)
    step()
    return {k: n - before.get(k, 0) for k, n in gpu.nbytes.items() if n != before.get(k, 0)}


def made(*arrays):
    v = [tf.Variable(a) for a in arrays]
    sess = tf.Session()
    sess.run(tf.global_variables_initializer())
    return sess, *v


X = np.linspace(-2, 2, N).astype(np.float32)


def test_a_final_value_is_computed_in_its_variable(gpu):
    sess, x, out = made(X, np.zeros_like(X))
    step = sess.make_callable(tf.assign(out, tf.exp(x)).op)
    assert moved(gpu, step) == {}
    np.testing.assert_allclose(sess.run(out), np.exp(X), rtol=1e-6)
    sess.run(tf.assign(x, -X))
    step()
    np.testing.assert_allclose(sess.run(out), np.exp(-X), rtol=1e-6)
    sess.run(tf.assign(out, X))  # on the host or the device, a later write is seen
    np.testing.assert_array_equal(sess.run(out), X)
    step()
    np.testing.assert_allclose(sess.run(out), np.exp(-X), rtol=1e-6)


def test_not_where_the_old_value_is_read(gpu):
    sess, x, out = made(X, 2 * X)
    y = tf.reverse(out, [0]) + x
    step = sess.make_callable([tf.assign(out, y).op, tf.reduce_sum(out)])
    value = 2 * X
    for _ in range(3):
        step()
        value = value[::-1] + X
    np.testing.assert_allclose(sess.run(out), value, rtol=1e-6)


def test_two_variables_of_one_value(gpu):
    sess, x, a, b = made(X, np.zeros_like(X), np.zeros_like(X))
    y = tf.exp(x)
    step = sess.make_callable([tf.assign(a, y).op, tf.assign(b, y).op])
    assert moved(gpu, step) == {"copy": X.nbytes}
    np.testing.assert_array_equal(*sess.run([a, b]))
    np.testing.assert_allclose(sess.run(a), np.exp(X), rtol=1e-6)


def test_a_step_that_fails_changes_nothing(gpu):
    sess, x, out = made(X, np.zeros_like(X))
    ids = tf.placeholder(tf.int32, [N])
    step = sess.make_callable([tf.assign(out, tf.gather(x, ids)).op], [ids])
    step(np.arange(N))
    with pytest.raises(tf.errors.InvalidArgumentError):
        step(np.arange(N) + 1)
    np.testing.assert_array_equal(sess.run(out), X)


@pytest.mark.parametrize("dtype", ["float32", "bfloat16", "float16"])
def test_elements_move_in_accesses_of_16_bytes(gpu, dtype):
    """A sum of two arrays reads and writes each sector of 32 bytes once."""
    x, y = (tf.placeholder(dtype, [64, 256]) for _ in range(2))
    sess, a = tf.Session(), np.ones((64, 256), np.float32)
    sess.run_on_device(x + y, {x: a, y: a})
    before = gpu.counters.copy()
    sess.run_on_device(x + y, {x: a, y: a})
    c, sectors = gpu.counters - before, a.size * tf.as_dtype(dtype).size // 32
    assert (c.global_load_sectors, c.global_store_sectors) == (2 * sectors, sectors)


def test_whether_a_check_failed_comes_with_the_results(gpu):
    """One copy a run; where results stay on the GPU, the four bytes alone."""
    sess, x = made(X)
    ids = tf.placeholder(tf.int32, [64])
    y = tf.gather(x, ids)
    good = np.arange(64, dtype=np.int32)
    calls = gpu.calls["copy_out"]
    assert moved(gpu, lambda: sess.run(y, {ids: good})) == {"copy_in": 256, "copy_out": 512}
    assert gpu.calls["copy_out"] - calls == 2  # the first run and the recording
    assert moved(gpu, lambda: sess.run_on_device(y, {ids: good}))["copy_out"] == 4
    for run in (sess.run, sess.run_on_device):
        with pytest.raises(tf.errors.InvalidArgumentError):
            run(y, {ids: good + N})
    np.testing.assert_array_equal(sess.run(y, {ids: good}), X[:64])


def test_a_check_of_weights_alone_fails_until_they_are_right(gpu):
    """What is computed when a variable has been written is computed again after it has failed."""
    sess, table, ids = made(X.reshape(100, 10), np.array([1, 500], np.int32))
    x = tf.placeholder(tf.float32, [2, 10])
    step = sess.make_callable(tf.cumsum(tf.tanh(tf.gather(table, ids)), 1) + x, [x])
    for _ in range(2):
        with pytest.raises(tf.errors.InvalidArgumentError):
            step(np.zeros((2, 10)))
    sess.run(ids.assign([1, 99]))
    for _ in range(2):
        np.testing.assert_allclose(step(np.zeros((2, 10))), np.cumsum(np.tanh(X.reshape(100, 10)[[1, 99]]), 1), rtol=1e-5)
