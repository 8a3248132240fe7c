"""Programs whose products and convolutions are asked of cuBLASLt and cuDNN: sessions on the emulated GPU, with the played libraries."""
from __future__ import annotations

from collections import Counter
from contextlib import contextmanager

import numpy as np
import pytest

import graphflow as tf
from graphflow.flags import flags
from graphflow.testing import emulated_gpu
from graphflow.testing.libraries import emulated_libraries


@contextmanager
def gpu(memory=2 << 30):
    """(driver, cublaslt, cudnn) of an emulated GPU with both libraries."""
    with emulated_gpu(memory=memory) as driver, emulated_libraries(driver) as (lt, dnn):
        yield driver, lt, dnn


def trained(device: str, model, steps: int = 3) -> list:
    """Losses of some steps of gradient descent, and the variables after them."""
    with tf.Graph().as_default(), tf.device(device):
        tf.set_random_seed(0)
        loss, feeds = model(np.random.RandomState(0))
        step = tf.train.GradientDescentOptimizer(0.05).minimize(loss)
        with tf.Session() as s:
            s.run(tf.global_variables_initializer())
            losses = [s.run([loss, step], feeds)[0] for _ in range(steps)]
            return [np.array(losses), *s.run(tf.trainable_variables())]


def variable(rng, *shape):
    return tf.get_variable(f"v{len(tf.global_variables())}", initializer=(rng.randn(*shape) * 0.2).astype(np.float32))


def perceptron(rng):
    x, y = tf.placeholder(tf.float32, [None, 24]), tf.placeholder(tf.float32, [None, 24])
    h = tf.nn.relu(tf.matmul(x, variable(rng, 24, 24)) + variable(rng, 24))
    o = tf.matmul(h, variable(rng, 24, 24)) + variable(rng, 24)
    return tf.reduce_mean(tf.square(o - y)), {x: rng.randn(20, 24), y: rng.randn(20, 24)}


def convolutional(rng):
    x, y = tf.placeholder(tf.float32, [None, 8, 8, 3]), tf.placeholder(tf.float32, [None, 4, 4, 8])
    h = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(x, variable(rng, 3, 3, 3, 8), [1, 1, 1, 1], "SAME"), variable(rng, 8)))
    o = tf.nn.conv2d(h, variable(rng, 3, 3, 8, 8), [1, 2, 2, 1], "SAME")
    return tf.reduce_mean(tf.square(o - y)), {x: rng.randn(2, 8, 8, 3), y: rng.randn(2, 4, 4, 8)}


@pytest.mark.parametrize("model, kinds", [(perceptron, {"product": 5}), (convolutional, {"forward": 2, "data": 1, "filter": 2})])
def test_training_is_that_of_the_cpu(model, kinds):
    with flags.override(interpret=1):
        expected = trained("/cpu:0", model)
    with gpu() as (driver, lt, dnn):
        found = trained("/gpu:0", model)
        asked = Counter(kind for _, kind in dnn.calls) + Counter("product" for _ in lt.calls)
    # Two runs ask: the first, which queues one by one, and the second, which is recorded.
    assert set(asked) == set(kinds) and all(asked[k] == 2 * n for k, n in kinds.items())
    assert driver.calls["library"] == sum(asked.values()) and driver.calls["launch_graph"] == 2
    for a, b in zip(found, expected):
        np.testing.assert_allclose(a, b, 2e-5, 2e-6)


def test_a_step_that_fails_changes_nothing():
    """Weights are updated by generated kernels, which look at the checks, where a check may fail."""
    rng = np.random.RandomState(0)
    with gpu() as (_, lt, _), tf.Graph().as_default(), tf.device("/gpu:0"):
        x, rows = tf.placeholder(tf.float32, [32, 24]), tf.placeholder(tf.int32, [32])
        w = tf.get_variable("w", initializer=rng.randn(24, 24).astype(np.float32))
        picked = tf.gather(tf.matmul(x, w), rows)
        step = tf.train.GradientDescentOptimizer(0.1).minimize(tf.reduce_sum(tf.square(picked)))
        with tf.Session() as s:
            s.run(tf.global_variables_initializer())
            value, good = rng.randn(32, 24), np.arange(32)
            before = s.run(w)
            with pytest.raises(tf.errors.InvalidArgumentError):
                s.run(step, {x: value, rows: good + 1})
            assert np.array_equal(s.run(w), before)
            s.run(step, {x: value, rows: good})
            np.testing.assert_allclose(s.run(w), before - 0.2 * value.T @ (value @ before), 1e-4, 1e-4)
        assert lt.calls


def test_epilogues_take_the_place_of_kernels():
    rng = np.random.RandomState(0)
    x, w, b = (rng.randn(*s).astype(np.float32) for s in ((48, 32), (32, 40), (40,)))
    image, filter, bias = (rng.randn(*s).astype(np.float32) for s in ((2, 8, 8, 8), (3, 3, 8, 16), (16,)))
    with gpu() as (_, lt, dnn), tf.Graph().as_default(), tf.device("/gpu:0"):
        px, pi = tf.placeholder(tf.float32, x.shape), tf.placeholder(tf.float32, image.shape)
        layer = tf.matmul(px, w) + b
        conv = tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(pi, filter, [1, 1, 1, 1], "SAME"), bias))
        with tf.Session() as s:
            y, z = s.run([layer, conv], {px: x, pi: image})
            with flags.override(cuda_libraries=0), tf.Session() as other:
                np.testing.assert_allclose(other.run(layer, {px: x}), y, 1e-5, 1e-5)
        assert [number for number, _ in lt.calls] == [4]  # CUBLASLT_EPILOGUE_BIAS
        assert dnn.operations == ["10", "13", "13"]  # a convolution and two operations after it, in one graph
    np.testing.assert_allclose(y, x @ w + b, 1e-5, 1e-5)
    with flags.override(interpret=1), tf.Graph().as_default(), tf.Session() as s:
        expected = s.run(tf.nn.relu(tf.nn.bias_add(tf.nn.conv2d(image, filter, [1, 1, 1, 1], "SAME"), bias)))
    np.testing.assert_allclose(z, expected, 1e-4, 1e-4)


def test_nan_and_other_batch_sizes():
    rng = np.random.RandomState(0)
    w, b = rng.randn(32, 40).astype(np.float32), rng.randn(40).astype(np.float32)
    with gpu() as (_, lt, _), tf.Graph().as_default(), tf.device("/gpu:0"):
        x = tf.placeholder(tf.float32, [None, 32])
        y = tf.nn.relu(tf.matmul(x, w) + b)
        with tf.Session() as s:
            for n in (48, 64, 48):
                value = rng.randn(n, 32).astype(np.float32)
                value[3, 4] = np.nan
                np.testing.assert_allclose(s.run(y, {x: value}), np.maximum(value @ w + b, 0), 1e-4, 1e-5)
        assert lt.calls


def test_what_runs_is_told_and_what_fails_has_a_name():
    with gpu() as (driver, lt, _), tf.Graph().as_default(), tf.device("/gpu:0"):
        x = tf.placeholder(tf.float32, [32, 24])
        y = tf.matmul(x, np.arange(576, dtype=np.float32).reshape(24, 24), name="layer")
        told = tf.explain(y, {x: np.ones((32, 24))})
        assert [k.name for k in told.kernels] == ["cuBLASLt 13.4 f32 32x24x24 nn"]
        assert not driver.calls["load"]  # no kernel is generated for it
        lt.broken = 14
        with tf.Session() as s, pytest.raises(tf.errors.InternalError) as failed:
            s.run(y, {x: np.ones((32, 24))})
        assert failed.value.op.name == "layer" and str(failed.value).startswith("layer on ")
        assert "cuBLASLt 13.4 f32 32x24x24 nn: cuBLASLt: cublasLtMatmul: an internal operation failed (status 14)" in str(failed.value)
        assert "GRAPHFLOW_CUDA_LIBRARIES=0" in str(failed.value)


@pytest.mark.parametrize("engines", [[], [(70, (), 64 << 20)]], ids=["none", "one without room"])
def test_what_a_library_refuses_is_generated(engines):
    with gpu(memory=32 << 20) as (driver, _, dnn), tf.Graph().as_default(), tf.device("/gpu:0"):
        dnn.engines = {3: engines, 2: []}
        rng = np.random.RandomState(0)
        image, filter = rng.randn(2, 8, 8, 8).astype(np.float32), rng.randn(3, 3, 8, 16).astype(np.float32)
        x = tf.placeholder(tf.float32, image.shape)
        with tf.Session() as s:
            y = s.run(tf.nn.conv2d(x, filter, [1, 1, 1, 1], "SAME"), {x: image})
        assert not dnn.calls and driver.calls["launch"]
    with flags.override(interpret=1), tf.Graph().as_default(), tf.Session() as s:
        np.testing.assert_allclose(y, s.run(tf.nn.conv2d(image, filter, [1, 1, 1, 1], "SAME")), 1e-4, 1e-4)


def test_what_libraries_keep_ends_with_the_device():
    """Their handles belong to its context."""
    from graphflow.runtime.cuda import device, libraries

    with gpu() as (driver, lt, dnn), flags.override(early=0):
        for _ in range(2):
            with tf.Graph().as_default(), tf.Session() as sess, tf.device("/gpu:0"):
                x = tf.placeholder(tf.float32, [24, 24])
                sess.run(tf.matmul(x, x), {x: np.eye(24)})
            assert libraries._opened and libraries._calls
            device.reset()
            assert not libraries._opened and not libraries._calls
        assert len(lt.calls) == 2
