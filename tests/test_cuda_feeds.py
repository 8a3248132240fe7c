"""Feeds and results that lie on a GPU: read and written where they are, in any mixture with those of the host."""
from __future__ import annotations

import ctypes
import os

import numpy as np
import pytest
from on_gpu import a_gpu

import graphflow as tf
from graphflow.runtime.cuda import device as devices
from graphflow.runtime.cuda.arrays import DeviceArray
from graphflow.runtime.cuda.driver import Unavailable
from graphflow.testing.gpu import EmulatedDriver

ROWS = np.random.default_rng(3).standard_normal((6, 33)).astype(np.float32)


class Moved:
    """Bytes that cross between host and device."""

    def __init__(self, driver, monkeypatch):
        self.bytes = {"copy_in": 0, "copy_out": 0}
        for name in self.bytes:
            monkeypatch.setattr(driver, name, self._counting(name, getattr(driver, name)))

    def _counting(self, name, copy):
        def counted(to, source, nbytes, stream):
            self.bytes[name] += nbytes
            return copy(to, source, nbytes, stream)
        return counted

    def since(self):
        found, self.bytes = self.bytes, dict.fromkeys(self.bytes, 0)
        return found["copy_in"], found["copy_out"]


class Foreign:
    """Memory of another program, by the interface that all libraries have."""

    def __init__(self, array):
        self.array = array
        self.__cuda_array_interface__ = array.__cuda_array_interface__


@pytest.fixture
def gpu():
    with a_gpu() as driver:
        yield driver
        devices.reset()


def softmax(x):
    e = np.exp(x - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


def test_feeds_and_results_stay_where_they_are(gpu, monkeypatch):
    x, k = tf.placeholder(tf.float32, [None, 33]), tf.placeholder(tf.float32, [])
    y = tf.nn.softmax(x * k)
    with tf.Session() as sess:
        there = DeviceArray.put(devices.devices()[0], ROWS)
        moved = Moved(gpu, monkeypatch)
        for turn in range(4):  # run one by one, recorded, replayed
            moved.since()
            result = sess.run_on_device(y, {x: there, k: 2.0})
            came, went = moved.since()
            assert came <= 1024 and went == 0, f"run {turn}: {came} bytes in, {went} out"
            np.testing.assert_allclose(result.numpy(), softmax(2 * ROWS), rtol=2e-6)
            moved.since()
            again = sess.run_on_device(y, {x: result, k: 1.0})
            assert moved.since()[1] == 0
            np.testing.assert_allclose(again.numpy(), softmax(softmax(2 * ROWS)), rtol=2e-6)


def test_host_and_device_feeds_take_turns(gpu):
    x, k = tf.placeholder(tf.float32, [None, 33]), tf.placeholder(tf.float32, [])
    y = tf.nn.softmax(x * k)
    with tf.Session() as sess:
        gpu0 = devices.devices()[0]
        values = {"host": ROWS, "device": DeviceArray.put(gpu0, 2 * ROWS), "foreign": Foreign(DeviceArray.put(gpu0, 3 * ROWS))}
        factor = {"host": 1, "device": 2, "foreign": 3}
        for name in ("host", "device", "host", "foreign", "device", "device", "host"):
            for number in (np.float32(1), DeviceArray.put(gpu0, np.float32(1))):
                got = sess.run(y, {x: values[name], k: number})
                np.testing.assert_allclose(got, softmax(factor[name] * ROWS), rtol=2e-6, err_msg=name)


def test_variables_and_values_of_the_host_are_copied(gpu):
    v = tf.Variable(np.arange(4, dtype=np.float32))
    with tf.device("/cpu:0"):
        c = tf.placeholder(tf.float32, [4]) * 2
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        value, up, double = sess.run_on_device([v, tf.assign_add(v, tf.ones([4])).op, c], {c.op.inputs[0]: DeviceArray.put(
            devices.devices()[0], np.ones(4, np.float32))})
        assert up is None and double.numpy().tolist() == [2, 2, 2, 2] and value.numpy().tolist() in ([0, 1, 2, 3], [1, 2, 3, 4])
        assert sess.run(v).tolist() == [1, 2, 3, 4]
        value = sess.run_on_device(v)
        sess.run(v.assign(np.zeros(4)))
        assert value.numpy().tolist() == [1, 2, 3, 4], "a result is the caller's own"


def test_bad_feeds(gpu):
    x = tf.placeholder(tf.float32, [None, 33], name="rows")
    y = x + 1
    with tf.Session() as sess:
        gpu0 = devices.devices()[0]
        with pytest.raises(TypeError, match="dtype float64 on GPU 0 .* for Tensor 'rows:0' of dtype float32: convert it there"):
            sess.run(y, {x: DeviceArray.put(gpu0, ROWS.astype(np.float64))})
        with pytest.raises(ValueError, match=r"Cannot feed value of shape \(6, 3\) for Tensor 'rows:0'"):
            sess.run(y, {x: DeviceArray.put(gpu0, ROWS[:, :3])})
        assert np.array_equal(sess.run(y, {x: ROWS}), ROWS + 1)


def test_without_a_gpu_it_says_why():
    x = tf.placeholder(tf.float32, [2])
    config = tf.ConfigProto(device_count={"GPU": 0})
    with tf.Session(config=config) as sess, pytest.raises(tf.errors.FailedPreconditionError, match="needs a GPU: "):
        sess.run_on_device(x + 1, {x: [1, 2]})


def test_a_closed_session_gives_its_memory_back(gpu):
    x = tf.placeholder(tf.float32, [None, 33])
    with tf.Session() as sess:
        v = tf.Variable(tf.random_normal([100, 100]))
        sess.run(tf.global_variables_initializer())
        sess.run([tf.nn.softmax(x), tf.reduce_sum(v)], {x: ROWS})
        assert devices.devices()[0].memory.stats().used > 0
    assert devices.devices()[0].memory.stats().used == 0


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_does_not_write_where_its_parent_feeds(gpu, monkeypatch):
    """Page-locked memory is one for both: a run that the driver refuses in the child must not get that far."""
    if not isinstance(gpu, EmulatedDriver):
        pytest.skip("of the emulator, whose memory can be looked at")
    x, k = tf.placeholder(tf.float32, [None, 33]), tf.placeholder(tf.float32, [])
    y = tf.nn.softmax(x * k) + tf.random_uniform([33], seed=1)
    with tf.Session() as sess:
        for _ in range(2):
            sess.run(y, {x: ROWS, k: 1.0}), sess.run_on_device(y, {x: ROWS, k: 1.0})
        page_locked = [np.frombuffer((ctypes.c_char * len(b)).from_buffer(b), np.uint8) for b in gpu._host.values()]
        before = [b.copy() for b in page_locked]
        child = os.fork()
        if not child:
            said = 1
            try:
                monkeypatch.setattr(gpu, "use", refused)
                for run in (sess.run, sess.run_on_device):
                    with pytest.raises(tf.errors.FailedPreconditionError, match="forked"):
                        run(y, {x: -ROWS, k: 7.0})
                said = 0 if all(np.array_equal(a, b) for a, b in zip(page_locked, before)) else 2
            finally:
                os._exit(said)
        assert os.waitpid(child, 0)[1] == 0
        assert sess.run(y, {x: ROWS, k: 1.0}).shape == ROWS.shape


def refused(ordinal):
    raise Unavailable("This process was forked")
