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
