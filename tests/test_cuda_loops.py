"""Loops whose number of turns only a run knows, on the emulated GPU: when the host waits, what crosses, and what a failed check leaves."""
from __future__ import annotations

from collections import Counter
from contextlib import contextmanager

import numpy as np
import pytest

import graphflow as tf
from graphflow.flags import flags
from graphflow.testing import emulated_gpu

WATCHED = ("synchronize", "copy_in", "copy_out", "launch_graph")


@pytest.fixture
def gpu():
    """Work is done as late as a GPU may do it: what does not wait where it must sees old values."""
    with emulated_gpu(memory=1 << 24, deferred=True) as driver, flags.override(early=0, interpret=0), tf.Graph().as_default():
        yield driver


@contextmanager
def counted(driver):
    """How often the driver is asked for what, and how many bytes its copies move."""
    found, asked, moved = Counter(), Counter(driver.calls), Counter(driver.nbytes)
    yield found
    found.update({name: driver.calls[name] - asked[name] for name in WATCHED})
    found.update({f"bytes {name}": driver.nbytes[name] - moved[name] for name in ("copy_in", "copy_out")})


def lstm(train):
    x, n = tf.placeholder(tf.float32, [4, None, 8], "x"), tf.placeholder(tf.int32, [4], "n")
    out, _ = tf.nn.dynamic_rnn(tf.nn.rnn_cell.LSTMCell(8), x, sequence_length=n, dtype=tf.float32)
    loss = tf.reduce_mean(tf.square(out))
    return x, n, loss, tf.train.GradientDescentOptimizer(0.5).minimize(loss) if train else ()


BATCHES = [[3, 5, 2, 1], [7, 1, 1, 1], [0, 0, 0, 0], [2, 2, 2, 2], [3, 5, 2, 1], [6, 7, 7, 5]]


def losses(train, driver=None):
    """The loss of each batch, and what its run asked of the driver."""
    with tf.Graph().as_default():
        tf.set_random_seed(1)
        x, n, loss, step = lstm(train)
        found, told = [], []
        with tf.Session() as sess:
            sess.run(tf.global_variables_initializer())
            for k, lengths in enumerate(BATCHES):
                a = np.random.RandomState(k).randn(4, 7, 8).astype(np.float32)
                with counted(driver) if driver is not None else emulated_nothing() as calls:
                    found.append(sess.run([loss, step], {x: a, n: lengths})[0])
                told.append(calls)
        return found, told


@contextmanager
def emulated_nothing():
    yield Counter()


@pytest.mark.parametrize("train, waits", [(False, 1), (True, 3)], ids=["inference", "training"])
def test_the_host_waits_once_for_all_turns(gpu, train, waits):
    """The lengths are fed: the host counts the turns, and queues one after the other."""
    found, told = losses(train, gpu)
    with flags.override(interpret=1):
        wanted, _ = losses(train)
    np.testing.assert_allclose(found, wanted, rtol=1e-5)
    for calls in told[2:]:  # the first two runs make the kernels, and record
        assert calls["synchronize"] == waits
    assert len({calls["bytes copy_in"] for calls in told[2:]}) == 1  # however many turns: nothing goes along in one
    assert len({calls["bytes copy_out"] for calls in told[2:]}) == 1


def test_what_the_host_reads_in_a_turn_is_waited_for(gpu):
    """A loop that ends by what the GPU has computed, and one with a Python function inside."""
    x = tf.placeholder(tf.float32, [300])
    _, halved = tf.while_loop(lambda i, a: tf.reduce_sum(tf.abs(a)) > 1.0, lambda i, a: (i + 1, a * 0.5 + tf.cumsum(a) * 0.0), [0, x])
    seen = []

    def look(i, a):
        seen.append((int(i), float(a[0])))
        return np.float32(a[0])

    def first(i, a):
        value = tf.py_func(look, [i, a], tf.float32)
        value.set_shape([])
        return value

    n = tf.placeholder(tf.int32, [])
    _, grown = tf.while_loop(lambda i, a: i < n, lambda i, a: (i + 1, a + first(i, a)), [0, x])
    with tf.Session() as sess:
        for turns in (3, 0, 2):
            a = np.full(300, 1.0 + turns, np.float32)
            small, large = sess.run([halved, grown], {x: a, n: turns})
            want = a
            while np.abs(want).sum() > 1:
                want = want * 0.5
            np.testing.assert_allclose(small, want, rtol=1e-6)
            np.testing.assert_allclose(large, a * 2.0 ** turns, rtol=1e-6)
            assert seen == [(i, (1.0 + turns) * 2.0 ** i) for i in range(turns)]
            seen.clear()


def test_the_number_of_turns_is_read_on_both_sides(gpu):
    """The counter as a result, as an index on the GPU, and as what another loop goes down from."""
    table, n = tf.placeholder(tf.float32, [40, 30]), tf.placeholder(tf.int32, [])
    count, total = tf.while_loop(lambda i, s: i < n, lambda i, s: (i + 1, s + table[i] * tf.cast(i, tf.float32)), [0, tf.zeros([30])])
    left, back = tf.while_loop(lambda i, s: i > 2, lambda i, s: (i - 3, tf.tanh(s) + table[i]), [count, total])
    at = table[count] + tf.cast(left, tf.float32)
    values = np.random.RandomState(0).randn(40, 30).astype(np.float32)
    with tf.Session() as sess:
        for turns in (0, 1, 12, 30, 12):
            i, s = 0, np.zeros(30, np.float32)
            while i < turns:
                i, s = i + 1, s + values[i] * np.float32(i)
            j, t = i, s
            while j > 2:
                j, t = j - 3, np.tanh(t) + values[j]
            got = sess.run([count, total, left, back, at], {table: values, n: turns})
            for a, b in zip(got, (i, s, j, t, values[i] + np.float32(j)), strict=True):
                np.testing.assert_allclose(a, b, rtol=1e-4, atol=1e-5)


def test_a_check_that_fails_in_a_turn_stops_all_that_follows(gpu):
    """The host looks at checks where it waits in any case, but before any effect of its own."""
    table, ids, n = tf.placeholder(tf.float32, [40, 30]), tf.placeholder(tf.int32, [5]), tf.placeholder(tf.int32, [])
    v = tf.Variable(tf.zeros([30]))
    seen = []
    _, total = tf.while_loop(lambda i, s: i < n, lambda i, s: (i + 1, tf.tanh(s) + tf.gather(table, ids[i % 5])), [0, tf.zeros([30])])
    told = tf.py_func(lambda s: seen.append(1) or np.int32(len(seen)), [total], tf.int32)
    change = v.assign_add(total)
    values = np.random.RandomState(0).randn(40, 30).astype(np.float32)
    with tf.Session() as sess:
        sess.run(v.initializer)
        for turns, indices in [(2, [0, 1, 2, 3, 4]), (4, [0, 1, 40, 3, 4]), (2, [0, 1, 40, 3, 4]), (7, [0, -1, 2, 3, 4]),
                               (3, [5, 6, 7, 8, 9])]:
            s = np.zeros(30, np.float32)
            bad = any(not 0 <= indices[i % 5] < 40 for i in range(turns))
            before, calls = sess.run(v), len(seen)
            if bad:
                with pytest.raises(tf.errors.InvalidArgumentError, match=r"not in \[0, 40\)"):
                    sess.run([change, told], {table: values, ids: indices, n: turns})
                np.testing.assert_array_equal(sess.run(v), before)
                assert len(seen) == calls
                continue
            for i in range(turns):
                s = np.tanh(s) + values[indices[i % 5]]
            sess.run([change, told], {table: values, ids: indices, n: turns})
            np.testing.assert_allclose(sess.run(v), before + s, rtol=1e-5, atol=1e-5)
            assert len(seen) == calls + 1
