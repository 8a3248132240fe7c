"""Gradients that are IndexedSlices stay so, and every optimizer applies them to the rows they name."""
from __future__ import annotations

import time

import numpy as np
import pytest
from on_gpu import QUICK

import graphflow as tf
from graphflow.flags import flags
from graphflow.ops import sparse_rows
from graphflow.testing import emulated_gpu
from graphflow.train.optimizers import LazyAdamOptimizer

T = tf.train

# What TensorFlow 2.21's compat.v1 leaves in w after the three steps below (rows 2 and 4 are never touched).
AFTER = {
    "sgd": (lambda step: T.GradientDescentOptimizer(.1), [-0.74, -0.562222, -0.008, 0.072, -0.111111, 0.111111, 0.321333, 0.463556]),
    "momentum": (lambda step: T.MomentumOptimizer(.1, .9), [-0.74, -0.562222, 0.3, 0.3, -0.111111, 0.111111, 0.315333, 0.417556]),
    "nesterov": (lambda step: T.MomentumOptimizer(.1, .9, use_nesterov=True),
                 [-0.506, -0.368222, 0.52792, 0.46872, -0.111111, 0.111111, 0.307413, 0.356836]),
    "adam": (lambda step: T.AdamOptimizer(.1), [-0.868065, -0.645843, -0.308139, -0.086733, -0.111111, 0.111111, 0.298243, 0.285466]),
    "rmsprop": (lambda step: T.RMSPropOptimizer(.1, momentum=.5),
                [-0.792893, -0.593255, -0.041783, 0.105092, -0.111111, 0.111111, 0.316951, 0.431971]),
    "centered": (lambda step: T.RMSPropOptimizer(.1, centered=True),
                 [-0.788303, -0.590031, -0.144356, 0.013024, -0.111111, 0.111111, 0.320463, 0.458273]),
    "adagrad": (lambda step: T.AdagradOptimizer(.1),
                [-0.900732, -0.678837, -0.389923, -0.169927, -0.111111, 0.111111, 0.304867, 0.421166]),
    "adadelta": (lambda step: T.AdadeltaOptimizer(1.),
                 [-0.999553, -0.777331, -0.554656, -0.332433, -0.111111, 0.111111, 0.332436, 0.554656]),
    "ftrl": (lambda step: T.FtrlOptimizer(.5, l1_regularization_strength=.1, l2_regularization_strength=.2),
             [-0.33802, -0.134849, 0.137349, 0.263027, -0.111111, 0.111111, 0.248421, 0.168883]),
    "ftrl_shrinkage": (lambda step: T.FtrlOptimizer(.5, l2_shrinkage_regularization_strength=.3),
                       [-0.268381, -0.063078, 0.182259, 0.259064, -0.111111, 0.111111, 0.166006, 0.106509]),
    "proximal": (lambda step: T.ProximalGradientDescentOptimizer(.1, .1, .2),
                 [-0.715686, -0.541394, 0.0, 0.067474, -0.111111, 0.111111, 0.292516, 0.429215]),
    "proximal_adagrad": (lambda step: T.ProximalAdagradOptimizer(.1, l1_regularization_strength=.1, l2_regularization_strength=.2),
                         [-0.890116, -0.668113, -0.380805, -0.16064, -0.111111, 0.111111, 0.241449, 0.37092]),
    "dual_averaging": (lambda step: T.AdagradDAOptimizer(.1, step, l1_regularization_strength=.01, l2_regularization_strength=.2),
                       [0.097023, 0.096256, 0.116923, 0.120942, -0.111111, 0.111111, 0.072775, 0.022799]),
}


@pytest.mark.parametrize("small", [True, False], ids=["small", "large"])
@pytest.mark.parametrize("name", AFTER)
def test_rows_of_an_optimizer(name, small, monkeypatch):
    make, after = AFTER[name]
    if not small:
        monkeypatch.setattr(sparse_rows, "SMALL", 0)
    w = tf.Variable(np.linspace(-1, 1, 10).reshape(5, 2).astype(np.float32), name="w")
    step = tf.Variable(0, trainable=False, dtype=tf.int64)
    ids = tf.placeholder(tf.int32, [None])
    train = make(step).minimize(tf.reduce_sum(tf.square(tf.gather(w, ids) - 0.3)), global_step=step)
    with flags.override(interpret=int(QUICK and name not in ("adagrad", "adam"))), tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for batch in ([1, 3, 1], [0, 3], [1, 1]):
            sess.run(train, {ids: batch})
        np.testing.assert_allclose(sess.run(w).reshape(-1), [*after, 0.777778, 1.0], atol=2e-6)


def _table(rows, optimizer, width=64):
    table = tf.get_variable("table", [rows, width], initializer=tf.zeros_initializer())
    ids = tf.placeholder(tf.int32, [None])
    loss = tf.reduce_sum(tf.square(tf.nn.embedding_lookup(table, ids) - 1.0))
    return table, ids, optimizer.minimize(loss)


ROWS_ALONE = [lambda: T.GradientDescentOptimizer(.1), lambda: T.AdagradOptimizer(.1), lambda: LazyAdamOptimizer(.1)]


@pytest.mark.cpu_only(reason="of a GPU the next test counts instructions")
@pytest.mark.parametrize("make", ROWS_ALONE, ids=["sgd", "adagrad", "lazy_adam"])
def test_time_and_memory_follow_the_rows_that_are_touched(make):
    table, ids, train = _table(400_000, make())
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        feed = {ids: np.arange(128, dtype=np.int32) * 31}
        sess.run(train, feed)
        took = []
        for _ in range(20):
            start = time.perf_counter()
            sess.run(train, feed)
            took.append(time.perf_counter() - start)
    assert min(took) < 0.002  # one pass over the table takes 8 ms and more
    assert tf.explain(train).memory["temporaries"] < 1_000_000


@pytest.mark.parametrize("make", ROWS_ALONE, ids=["sgd", "adagrad", "lazy_adam"])
def test_work_of_a_gpu_follows_the_rows_that_are_touched(make):
    """But for one number a row, by which rows that come twice are found."""
    work = []
    for count in (200, 5200):
        with emulated_gpu() as gpu, tf.Graph().as_default(), tf.Session() as sess:
            _, ids, train = _table(count, make())
            sess.run(tf.global_variables_initializer())
            before = gpu.counters.thread_instructions
            sess.run(train, {ids: np.arange(32, dtype=np.int32) * 5})
            work.append(gpu.counters.thread_instructions - before)
            assert tf.explain(train, {ids: [1]}).memory["temporaries"] < 64 * count
    assert work[0] > 32 * 64 and work[1] - work[0] < 8 * 5000  # 64 numbers a row


def test_adam_moves_all_rows_and_lazy_adam_only_those_touched():
    moved = {}
    for make in (T.AdamOptimizer, LazyAdamOptimizer):
        with tf.Graph().as_default(), tf.Session() as sess:
            table, ids, train = _table(6, make(.1), 2)
            sess.run(tf.global_variables_initializer())
            sess.run(train, {ids: [1, 4, 4]})
            before = sess.run(table)
            sess.run(train, {ids: [2]})
            moved[make] = np.flatnonzero((sess.run(table) != before).any(1)).tolist()
    assert moved == {T.AdamOptimizer: [1, 2, 4], LazyAdamOptimizer: [2]}


def test_gradients_clipped_and_added_stay_slices():
    table = tf.Variable(tf.ones([5, 2]))
    ids = tf.placeholder(tf.int32, [None])
    both = tf.reduce_sum(tf.gather(table, ids) * 3.0) + tf.reduce_sum(tf.nn.embedding_lookup(table, [0]))
    g, = tf.gradients(both, table)
    (clipped,), norm = tf.clip_by_global_norm([g], 1.0)
    assert isinstance(g, tf.IndexedSlices) and isinstance(clipped, tf.IndexedSlices)
    assert isinstance(tf.clip_by_norm(g, 1.0), tf.IndexedSlices)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        found, length, dense = sess.run([clipped, norm, tf.convert_to_tensor(g)], {ids: [3, 3]})
    expected = np.zeros((5, 2), np.float32)
    np.add.at(expected, [3, 3, 0], [[3, 3], [3, 3], [1, 1]])
    np.testing.assert_array_equal(dense, expected)
    assert sorted(found.indices.tolist()) == [0, 3, 3] and found.dense_shape.tolist() == [5, 2]
    assert np.isclose(length, np.sqrt(4 * 9 + 2)) and np.isclose(np.sqrt((found.values ** 2).sum()), 1)


def test_a_feed_outside_the_table_changes_nothing():
    table, ids, train = _table(6, T.AdagradOptimizer(.1), 2)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        with pytest.raises(tf.errors.InvalidArgumentError):
            sess.run(train, {ids: [1, 6]})
        assert not sess.run(table).any()


def test_no_rows_at_all():
    table, ids, train = _table(6, T.AdamOptimizer(.1), 2)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        sess.run(train, {ids: np.zeros(0, np.int32)})
        assert not sess.run(table).any()


class Halving(T.Optimizer):
    """What a user of TF1 would write: hooks for both kinds of gradients, with unique indices."""

    def __init__(self):
        super().__init__(False, "Halving")

    def _prepare(self):
        self._half = tf.convert_to_tensor(0.5, name="half")

    def _create_slots(self, var_list):
        for v in var_list:
            self._zeros_slot(v, "count", self._name)

    def _apply_dense(self, grad, var):
        return tf.group(tf.assign_sub(var, self._half * grad), self.get_slot(var, "count").assign_add(tf.ones_like(grad)))

    def _apply_sparse(self, grad, var):
        return tf.group(tf.scatter_sub(var, grad.indices, self._half * grad.values),
                        tf.scatter_add(self.get_slot(var, "count"), grad.indices, tf.ones_like(grad.values)))


def test_an_optimizer_with_the_hooks_of_tf1():
    v, w = tf.Variable([1.0, 2.0]), tf.Variable(tf.ones([3, 1]))
    optimizer = Halving()
    train = optimizer.minimize(tf.reduce_sum(v) + tf.reduce_sum(tf.gather(w, [2, 2, 0])))
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        sess.run(train)
        assert sess.run(v).tolist() == [0.5, 1.5] and sess.run(w).tolist() == [[0.5], [1.0], [0.0]]
        assert sess.run(optimizer.get_slot(w, "count")).tolist() == [[1.0], [0.0], [1.0]]


@pytest.mark.parametrize("make", [lambda: T.GradientDescentOptimizer(.5), lambda: T.MomentumOptimizer(.5, .9), lambda: T.AdamOptimizer(.5)],
                         ids=["sgd", "momentum", "adam"])
def test_vectors_and_higher_ranks(make):
    v, w = tf.Variable(np.ones(4, np.float32)), tf.Variable(np.ones((3, 2, 2), np.float32))
    train = make().minimize(tf.reduce_sum(tf.gather(v, [1, 1])) + tf.reduce_sum(tf.gather(w, [[2], [0]])))
    with flags.override(interpret=QUICK), tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        sess.run(train)
        moved = [np.flatnonzero((x != 1).reshape(len(x), -1).any(1)).tolist() for x in sess.run([v, w])]
    assert moved == [[1], [0, 2]]


def test_sampled_losses_touch_few_rows():
    weights, biases = tf.Variable(tf.random_normal([50, 4])), tf.Variable(tf.zeros([50]))
    inputs, labels = tf.random_normal([3, 4]), tf.constant([[1], [2], [3]], tf.int64)
    for loss in (tf.nn.nce_loss, tf.nn.sampled_softmax_loss):
        grads = tf.gradients(tf.reduce_mean(loss(weights, biases, labels, inputs, 5, 50)), [weights, biases])
        assert all(isinstance(g, tf.IndexedSlices) for g in grads)


def test_a_constraint_on_a_sparse_variable():
    w = tf.Variable(tf.ones([3, 1]), constraint=tf.abs)
    with pytest.raises(RuntimeError, match="constraint"):
        T.GradientDescentOptimizer(.1).minimize(tf.reduce_sum(tf.gather(w, [1])))


def test_tables_in_parts():
    parts = [tf.Variable(np.full((2, 1), float(k), np.float32)) for k in range(2)]
    loss = tf.reduce_sum(tf.nn.embedding_lookup(parts, tf.constant([0, 3, 3])))
    assert all(isinstance(g, tf.IndexedSlices) for g in tf.gradients(loss, parts))
    train = T.GradientDescentOptimizer(1.0).minimize(loss)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        sess.run(train)
        assert [p.reshape(-1).tolist() for p in sess.run(parts)] == [[-1.0, 0.0], [1.0, -1.0]]
