"""Variables in parts: partitioners, PartitionedVariable, get_variable, embedding_lookup, training."""
from __future__ import annotations

import numpy as np
import pytest
from on_gpu import QUICK

import graphflow as tf
from graphflow.flags import flags


@pytest.fixture(autouse=True)
def _fresh():
    with flags.override(interpret=QUICK), tf.Graph().as_default():
        yield


def run(x, feed=None):
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        return sess.run(x, feed)


@pytest.mark.parametrize("make,shape,dtype,expected", [  # of TensorFlow 2.21
    (tf.fixed_size_partitioner(3), [10, 2], tf.float32, [3, 1]), (tf.fixed_size_partitioner(3, axis=1), [10, 2], tf.float32, [1, 2]),
    (tf.variable_axis_size_partitioner(100), [10, 8], tf.float32, [4, 1]),
    (tf.variable_axis_size_partitioner(100, max_shards=2), [10, 8], tf.float64, [2, 1]),
    (tf.variable_axis_size_partitioner(8), [3, 8], tf.float32, [3, 1]),
    (tf.min_max_variable_partitioner(4), [100, 10], tf.float32, [1, 1]),
    (tf.min_max_variable_partitioner(4, min_slice_size=1000), [100, 10], tf.float32, [4, 1]),
    (tf.min_max_variable_partitioner(8, axis=1, min_slice_size=1 << 10), [64, 20], tf.float32, [1, 5])])
def test_partitioner(make, shape, dtype, expected):
    assert make(shape=tf.TensorShape(shape), dtype=dtype) == expected


def test_variable():
    with tf.variable_scope("s", partitioner=tf.fixed_size_partitioner(3)):
        w = tf.get_variable("w", [7, 2], initializer=tf.random_normal_initializer(seed=1), regularizer=tf.nn.l2_loss)
        b = tf.get_variable("b", [], initializer=tf.zeros_initializer())
    assert isinstance(w, tf.PartitionedVariable) and isinstance(b, tf.Variable)
    assert w.name == "s/w" and [v.op.name for v in w] == [f"s/w/part_{i}" for i in range(3)]
    assert [v.shape.as_list() for v in w] == [[3, 2], [2, 2], [2, 2]] and w.shape.as_list() == [7, 2] and len(w) == 3
    assert [v._save_slice_info.spec for v in w] == ["7 2 0,3:0,2", "7 2 3,2:0,2", "7 2 5,2:0,2"]
    assert len(tf.trainable_variables()) == 4 and len(tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES)) == 3
    whole, parts, product = run([w.as_tensor(), list(w), tf.matmul(tf.eye(7), w)])
    np.testing.assert_array_equal(whole, np.concatenate(parts))
    np.testing.assert_array_equal(product, whole)
    with tf.variable_scope("s", reuse=True, partitioner=tf.fixed_size_partitioner(3)):
        assert tf.get_variable("w", [7, 2]) is w


def test_constant_initializer_and_info():
    table = np.arange(10.0).reshape(2, 5)
    w = tf.get_variable("w", initializer=table.astype(np.float32), partitioner=tf.fixed_size_partitioner(2, axis=1))
    seen = []

    def initializer(shape, dtype=tf.float32, partition_info=None):
        seen.append((list(shape), partition_info.full_shape, partition_info.var_offset, partition_info.single_offset(shape)))
        return tf.zeros(shape, dtype)

    tf.get_variable("v", [5], initializer=initializer, partitioner=tf.fixed_size_partitioner(2))
    assert seen == [([3], [5], [0], 0), ([2], [5], [3], 3)]
    assign = w.assign(np.ones([2, 5]))
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        assert np.array_equal(sess.run(tf.convert_to_tensor(w)), table)
        sess.run(assign)
        assert np.array_equal(w.eval(sess), np.ones([2, 5]))


@pytest.mark.parametrize("strategy", ["mod", "div"])
def test_embedding_lookup(strategy):
    w = tf.get_variable("w", [7, 2], initializer=tf.random_normal_initializer(seed=1), partitioner=tf.fixed_size_partitioner(3))
    ids = np.array([[6, 0, 3], [1, 1, 5]])
    rows = tf.nn.embedding_lookup(w, ids, partition_strategy=strategy)
    assert rows.shape.as_list() == [2, 3, 2]
    grads = tf.gradients(tf.reduce_sum(rows * 2), list(w))
    assert all(isinstance(g, tf.IndexedSlices) for g in grads)
    found, parts, slopes = run([rows, list(w), [tf.convert_to_tensor(g) for g in grads]])
    whole = np.concatenate(parts)
    order = {"div": np.arange(7), "mod": np.argsort(np.concatenate([np.arange(k, 7, 3) for k in range(3)]))}[strategy]
    np.testing.assert_array_equal(found, whole[order][ids])
    counts = np.zeros(7)
    np.add.at(counts, order[ids.ravel()], 2)
    np.testing.assert_array_equal(np.concatenate(slopes)[:, 0], counts)


def test_create():
    parts = tf.create_partitioned_variables([6, 4], [1, 2], tf.ones_initializer(), name="c")
    assert [v.shape.as_list() for v in parts] == [[6, 2], [6, 2]]
    assert run(tf.concat(parts, 1)).sum() == 24


def test_training():
    x, y = tf.constant(np.eye(4, dtype=np.float32)), tf.constant(np.arange(8, dtype=np.float32).reshape(4, 2))
    with tf.variable_scope("m", partitioner=tf.fixed_size_partitioner(2)):
        out = tf.layers.dense(x, 2)
    train = tf.train.GradientDescentOptimizer(0.5).minimize(tf.reduce_sum(tf.square(out - y)) / 4)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for _ in range(60):
            sess.run(train)
        np.testing.assert_allclose(sess.run(out), sess.run(y), atol=0.05)


@pytest.mark.parametrize("message,make", [
    ("callable", lambda: tf.get_variable("w", [3], partitioner=3)),
    ("more than one", lambda: tf.get_variable("w", [4, 4], partitioner=lambda shape, dtype: [2, 2])),
    ("rank", lambda: tf.get_variable("w", [4, 4], partitioner=lambda shape, dtype: [2])),
    ("number of parts", lambda: tf.get_variable("w", [4], partitioner=lambda shape, dtype: [5])),
    ("fully defined", lambda: tf.get_variable("w", [None, 2], partitioner=tf.fixed_size_partitioner(2))),
    ("max_shard_bytes", lambda: tf.variable_axis_size_partitioner(0)),
    ("length", lambda: tf.create_partitioned_variables([3], [1, 2], 0.0))])
def test_bad_input(message, make):
    with pytest.raises(ValueError, match=message):
        make()


def test_two_kinds_do_not_mix():
    tf.get_variable("a", [4])
    tf.get_variable("b", [4], partitioner=tf.fixed_size_partitioner(2))
    with tf.variable_scope("", reuse=tf.AUTO_REUSE):
        with pytest.raises(ValueError, match="unpartitioned version"):
            tf.get_variable("a", [4], partitioner=tf.fixed_size_partitioner(2))
        with pytest.raises(ValueError, match="partitioned version"):
            tf.get_variable("b", [4])
    with pytest.raises(ValueError, match="already exists"):
        tf.get_variable("b", [4], partitioner=tf.fixed_size_partitioner(2))


@pytest.mark.parametrize("var_list", [None, "list", "dict"])
def test_saver(tmp_path, var_list):
    w = tf.get_variable("w", [5, 2], initializer=tf.random_normal_initializer(seed=1), partitioner=tf.fixed_size_partitioner(2))
    saver = tf.train.Saver({None: None, "list": [w], "dict": {"other": w}}[var_list])
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        before = w.eval(sess)
        path = saver.save(sess, str(tmp_path / "model"), write_meta_graph=False)
        sess.run(w.assign(np.zeros([5, 2])))
        saver.restore(sess, path)
        assert np.array_equal(w.eval(sess), before) and before.any()
    assert tf.train.list_variables(path) == [("other" if var_list == "dict" else "w", [5, 2])]  # one tensor, as TF1 saves it
