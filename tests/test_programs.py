"""Condensed programs of the kinds people wrote for TF1, with the numbers NumPy gives."""
from __future__ import annotations

import numpy as np
import pytest

import graphflow as tf


@pytest.mark.parametrize("make", [lambda: tf.train.AdamOptimizer(0.1), lambda: tf.train.MomentumOptimizer(0.1, 0.9),
                                  lambda: tf.train.AdagradOptimizer(0.1)])
def test_initializer_needs_no_feed_when_the_optimizer_waits_for_updates(make):
    """`with control_dependencies(update_ops)`: slots and Adam's powers must not inherit the updates as control inputs."""
    w = tf.Variable(tf.ones([3]))
    mean = tf.Variable(tf.zeros([3]), trainable=False)
    x = tf.placeholder(tf.float32, [None, 3])
    update = tf.assign(mean, 0.9 * mean + 0.1 * tf.reduce_mean(x, 0))
    with tf.control_dependencies([update]):
        step = make().minimize(tf.reduce_sum(w * x))
    xs = np.array([[1.0, 2.0, 3.0], [3.0, 2.0, 1.0]], np.float32)
    with tf.Session() as s:
        s.run(tf.global_variables_initializer())
        np.testing.assert_array_equal(s.run(mean), np.zeros(3))
        s.run(step, {x: xs})
        np.testing.assert_allclose(s.run(mean), 0.1 * xs.mean(0), rtol=1e-6)
        assert (s.run(w) < 1.0).all()


def test_placeholder_with_default_of_partial_shape_falls_back_to_its_default():
    batch = tf.placeholder_with_default(3, [])
    x = tf.placeholder_with_default(np.arange(12, dtype=np.float32).reshape(2, 6), [None, 6])
    anything = tf.placeholder_with_default([[1.0]], None)
    y = tf.reshape(x, [batch, -1])
    with tf.Session() as s:
        assert s.run(y).shape == (3, 4)
        assert s.run(y, {batch: 2}).shape == (2, 6)
        assert s.run(y, {x: np.ones((4, 6))}).shape == (3, 8)
        np.testing.assert_array_equal(s.run(x * 2), 2 * np.arange(12).reshape(2, 6))
        assert s.run([anything + 1, tf.gradients(anything * anything, anything)[0]]) == [[[2.0]], [[2.0]]]
        assert s.run(anything + 1, {anything: 5.0}) == 6.0


def test_reshape_by_a_fed_shape_that_holds_minus_one():
    x = tf.placeholder(tf.float32, [None, 6])
    n = tf.placeholder(tf.int32, [])
    shape = tf.placeholder(tf.int32, [2])
    xs = np.arange(24, dtype=np.float32).reshape(4, 6)
    by_number, by_vector = tf.reshape(x, [n, -1]), tf.reshape(x, shape)
    with tf.Session() as s:
        for k in (2, 3, 8):
            np.testing.assert_array_equal(s.run(by_number, {x: xs, n: k}), xs.reshape(k, -1))
        for sizes in ([4, -1], [3, 8], [-1, 8], [2, 12], [-1, 4]):
            np.testing.assert_array_equal(s.run(by_vector, {x: xs, shape: sizes}), xs.reshape(sizes))


def test_gradient_of_an_embedding_variable_is_indexed_slices():
    table = tf.Variable(np.ones((5, 2), np.float32))
    i, j = tf.placeholder(tf.int32, [None]), tf.placeholder(tf.int64, [None])
    loss = tf.reduce_sum(tf.gather(table, i) ** 2) + 3 * tf.reduce_sum(tf.nn.embedding_lookup(table, j))
    slices = tf.gradients(loss, table)[0]
    assert isinstance(slices, tf.IndexedSlices)
    with tf.Session() as s:
        s.run(tf.global_variables_initializer())
        feed = {i: [0, 0, 1], j: [1]}
        found, norm, dense = s.run([slices, tf.global_norm([slices]), tf.convert_to_tensor(slices)], feed)
    assert sorted(zip(found.indices.tolist(), found.values.tolist())) == [(0, [2, 2]), (0, [2, 2]), (1, [2, 2]), (1, [3, 3])]
    np.testing.assert_allclose(norm, np.sqrt(6 * 4 + 2 * 9), rtol=1e-6)  # of the slices, as in TF1: rows of one index do not add up
    np.testing.assert_array_equal(dense, [[4, 4], [5, 5], [0, 0], [0, 0], [0, 0]])


def test_a_fetched_feed_needs_nothing_of_what_made_it():
    x = tf.placeholder(tf.float32, [None])
    y = x * 2.0
    rows = tf.gather([1.0, 2.0], tf.placeholder(tf.int32, [None]))
    with tf.Session() as s:
        np.testing.assert_array_equal(s.run(y, {y: [3.0]}), [3.0])
        assert [v.tolist() for v in s.run([y, y + 1], {y: [3.0]})] == [[3.0], [4.0]]
        np.testing.assert_array_equal(s.run(rows, {rows: [5.0]}), [5.0])


def test_stop_gradients_stops_behind_a_tensor_not_before_it():
    a = tf.constant(0.5)
    b = 2 * a
    c = b * b
    with tf.Session() as s:
        assert s.run(tf.gradients(a + b, [a, b], stop_gradients=[a, b])) == [1.0, 1.0]  # TF's documented example
        assert s.run(tf.gradients(a + b, [a, b])) == [3.0, 1.0]
        assert s.run(tf.gradients(a * a, a, stop_gradients=[a])) == [1.0]
        assert s.run(tf.gradients(a + c, a, stop_gradients=[c])) == [1.0]
