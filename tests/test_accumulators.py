"""Gradient accumulators, barriers and staging areas."""
from __future__ import annotations

import threading

import pytest

import graphflow as tf

StagingArea = tf.contrib.staging.StagingArea


@pytest.fixture(autouse=True)
def fresh():
    tf.reset_default_graph()


def test_gradients_are_averaged():
    a = tf.ConditionalAccumulator(tf.float32, [2])
    x, step, n = tf.placeholder(tf.float32, [2]), tf.placeholder(tf.int64, []), tf.placeholder(tf.int32, [])
    put, count, mean, later = a.apply_grad(x, step), a.num_accumulated(), a.take_grad(n), a.set_global_step(7)
    assert a.name == "conditional_accumulator" and a.dtype is tf.float32 and mean.shape.as_list() == [2]
    with tf.Session() as sess:
        for k in (1, 2, 3):
            sess.run(put, {x: [k, 10 * k], step: 0})
        assert sess.run(count) == 3
        assert sess.run(mean, {n: 2}).tolist() == [2, 20] and sess.run(count) == 0
        sess.run(put, {x: [1, 1], step: 0})  # its step is 1 now: this is too old
        assert sess.run(count) == 0
        sess.run(put, {x: [1, 1], step: 1})
        sess.run(later)
        sess.run(put, {x: [9, 9], step: 6})
        assert sess.run(count) == 1 and sess.run(mean, {n: 1}).tolist() == [1, 1]
        with pytest.raises(tf.errors.InvalidArgumentError, match="num_required"):
            sess.run(mean, {n: 0})
        thread = threading.Timer(0.05, sess.run, [put, {x: [4, 4], step: 9}])
        thread.start()
        assert sess.run(mean, {n: 1}).tolist() == [4, 4]  # waits
        thread.join()
    with pytest.raises(ValueError):
        a.apply_grad(tf.zeros([3]))
    with pytest.raises(ValueError, match="reduction_type"):
        tf.ConditionalAccumulator(tf.float32, [2], reduction_type="MAX")


def test_sums_and_shapes():
    a = tf.ConditionalAccumulator(tf.float32, reduction_type="SUM")
    x = tf.placeholder(tf.float32)
    put, total = a.apply_grad(x), a.take_grad(2)
    with tf.Session() as sess:
        sess.run(put, {x: [1.0, 2.0]})
        with pytest.raises(tf.errors.InvalidArgumentError, match="Shape mismatch"):
            sess.run(put, {x: [1.0]})
        sess.run(put, {x: [1.0, 2.0]})
        assert sess.run(total).tolist() == [2, 4]


def test_rows_are_averaged_by_how_many_have_them():
    a = tf.SparseConditionalAccumulator(tf.float32, [5, 2])
    i, v = tf.placeholder(tf.int64, [None]), tf.placeholder(tf.float32, [None, 2])
    step = tf.placeholder_with_default(tf.constant(0, tf.int64), [])
    put = a.apply_indexed_slices_grad(tf.IndexedSlices(v, i, tf.constant([5, 2])), step)
    indices, values, shape = a.take_grad(2)
    slices = a.take_indexed_slices_grad(1)
    assert values.shape.as_list() == [None, 2]
    with tf.Session() as sess:
        sess.run(put, {i: [3, 1], v: [[1, 1], [2, 2]]})
        sess.run(put, {i: [3, 0], v: [[3, 3], [4, 4]]})
        found = sess.run([indices, values, shape])
        assert [f.tolist() for f in found] == [[0, 1, 3], [[4, 4], [2, 2], [2, 2]], [5, 2]]
        sess.run(put, {i: [3], v: [[3, 3]], step: 1})
        found = sess.run(slices)
        assert found.indices.tolist() == [3] and found.values.tolist() == [[3, 3]]
        assert sess.run(a.num_accumulated()) == 0
        with pytest.raises(tf.errors.InvalidArgumentError, match="Shape mismatch"):
            sess.run(a.apply_grad([0], [[1.0, 2.0, 3.0]], local_step=2))


def test_barriers():
    b = tf.Barrier((tf.string, tf.int32), shapes=((), ()))
    indices, keys, values = b.take_many(2)
    some = b.take_many(5, allow_small_batch=True)
    assert values[1].shape.as_list() == [2] and some[2][1].shape.as_list() == [None]
    with tf.Session() as sess:
        for component, names, parts in ((0, ["k1", "k2"], ["a", "b"]), (1, ["k1"], [1]), (0, ["k3"], ["c"]), (1, ["k3"], [3]),
                                        (1, ["k2"], [2])):
            sess.run(b.insert_many(component, names, parts))
        assert sess.run([b.ready_size(), b.incomplete_size()]) == [3, 0]
        found = sess.run([indices, keys, *values])
        assert [f.tolist() for f in found] == [[-2**63] * 2, [b"k1", b"k2"], [b"a", b"b"], [1, 2]]
        sess.run(b.insert_many(0, ["k4"], ["d"]))
        with pytest.raises(tf.errors.InvalidArgumentError, match="already has a value"):
            sess.run(b.insert_many(0, ["k4"], ["d"]))
        sess.run(b.close())
        with pytest.raises(tf.errors.CancelledError):
            sess.run(b.insert_many(0, ["k5"], ["e"]))
        sess.run(b.insert_many(1, ["k4"], [4]))
        assert sess.run(some)[1].tolist() == [b"k3", b"k4"]
        with pytest.raises(tf.errors.OutOfRangeError, match="insufficient elements"):
            sess.run(some)
    with pytest.raises(ValueError, match="Empty tensors"):
        tf.Barrier(tf.int32, shapes=[(0,)])


def test_staging():
    area = StagingArea([tf.float32, tf.int32], shapes=[[2], []], capacity=2)
    x = tf.placeholder(tf.float32, [2])
    put, (a, b), size, first, clear = area.put([x, 5]), area.get(), area.size(), area.peek(0), area.clear()
    assert a.shape.as_list() == [2] and area.capacity == 2 and area.name == "StagingArea" and put.name == "StagingArea_put"
    with tf.Session() as sess:
        sess.run(put, {x: [1, 1]})
        for k in range(2, 5):  # a step takes what the one before has put
            taken, _ = sess.run([a, put], {x: [k, k]})
            assert taken.tolist() == [k - 1, k - 1]
        assert sess.run(size) == 1 and sess.run(first)[0].tolist() == [4, 4] and sess.run(size) == 1
        sess.run(put, {x: [0, 0]})
        with pytest.raises(tf.errors.DeadlineExceededError):
            sess.run(put, {x: [0, 0]}, options=tf.RunOptions(timeout_in_ms=30))
        sess.run(clear)
        assert sess.run(size) == 0
        thread = threading.Timer(0.05, sess.run, [put, {x: [8, 8]}])
        thread.start()
        assert sess.run([a, b])[0].tolist() == [8, 8]
        thread.join()
    with pytest.raises(ValueError, match="do not match"):
        area.put([tf.zeros([2]), 1.5])


def test_staging_names_and_limits():
    area = StagingArea([tf.float32, tf.float32], names=["a", "b"], memory_limit=16)
    put, got = area.put({"a": tf.ones([2]), "b": 3.0}), area.get()
    with tf.Session() as sess:
        sess.run(put)
        with pytest.raises(tf.errors.DeadlineExceededError):  # 12 bytes are there
            sess.run(put, options=tf.RunOptions(timeout_in_ms=30))
        assert sess.run(got)["b"] == 3.0
        with pytest.raises(tf.errors.ResourceExhaustedError, match="memory limit"):
            sess.run(area.put({"a": tf.ones([9]), "b": 3.0}))
    for wrong in (lambda: area.put([1.0, 2.0]), lambda: area.put({"a": 1.0}), lambda: StagingArea([tf.float32], names=["a", "b"]),
                  lambda: StagingArea([tf.float32], shared_name=3), lambda: StagingArea([tf.float32]).put({"a": 1.0}),
                  lambda: StagingArea([tf.float32]).put([1.0, 2.0])):
        with pytest.raises(ValueError):
            wrong()


def test_later_names_of_queues():
    assert tf.queue.FIFOQueue is tf.FIFOQueue and tf.io.PaddingFIFOQueue is tf.queue.PaddingFIFOQueue
