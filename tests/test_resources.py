"""Objects of a session that ops use between compiled parts of a step: phases, waiting, cancelling, regions."""
from __future__ import annotations

import collections
import os
import signal
import threading
import time
import timeit

import numpy as np
import pytest

import graphflow as tf
from graphflow.graph import Spec
from graphflow.ops.opdef import REGISTRY
from graphflow.ops.resource import resource_handle, resource_op
from graphflow.runtime import phases
from graphflow.types import as_shape


class Box:
    """Arrays that go in and out; counts what is asked of it."""

    def __init__(self):
        self.changed, self.items, self.taken, self.closed = threading.Condition(), collections.deque(), 0, False

    def close(self):
        self.closed = True


if "TestTake" not in REGISTRY:
    @resource_op("TestTake", lambda handle, *, shape: [Spec(tf.float32, as_shape(shape))], blocks=True)
    def take_op(handle, *, shape):
        """The oldest array."""

    @take_op.performs
    def _(access, op, arrays):
        box = access.resource(op.inputs[0].op)
        with box.changed:
            access.wait(box.changed, lambda: box.items)
            box.taken += 1
            return [box.items.popleft()]

    @resource_op("TestPut", lambda handle, value: [])
    def put_op(handle, value):
        """Adds an array."""

    @put_op.performs
    def _(access, op, arrays):
        box = access.resource(op.inputs[0].op)
        with box.changed:
            box.items.append(arrays[1].copy())
            box.changed.notify_all()
        return []

take_op, put_op = REGISTRY["TestTake"], REGISTRY["TestPut"]


@pytest.fixture(autouse=True)
def fresh():
    tf.reset_default_graph()


def box(**attrs):
    return resource_handle(make=Box, **attrs)


def object_of(sess, handle):
    return sess.store.resource(handle.op)


def test_each_session_has_its_own_object_and_closes_it():
    h = box()
    put, y = put_op(h, tf.constant([1.0, 2.0])), take_op(h, shape=[2])
    with tf.Session() as one, tf.Session() as two:
        one.run(put)
        assert len(object_of(one, h).items) == 1 and not object_of(two, h).items
        assert one.run(h) == h.op.name.encode()
        assert one.run(y).tolist() == [1.0, 2.0]
        kept = object_of(one, h)
    assert kept.closed


def test_shared_names_are_one_object():
    a, b, c = box(shared_name="same"), box(shared_name="same"), box(shared_name="other")
    with tf.Session() as sess:
        assert object_of(sess, a) is object_of(sess, b) and object_of(sess, a) is not object_of(sess, c)


def model(y):
    w = tf.Variable(np.ones(4, np.float32), name="w")
    loss = tf.reduce_sum(tf.square(y - w))
    return w, loss, tf.train.GradientDescentOptimizer(0.1).minimize(loss)


def test_a_step_takes_once_computes_and_trains():
    h, x = box(), tf.placeholder(tf.float32, [4])
    y = take_op(h, shape=[4])
    w, loss, train = model(y)
    put = put_op(h, x * 2.0 + w)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for _ in range(3):
            sess.run(put, {x: [1, 2, 3, 4]})
        _, value, taken = sess.run([train, loss, y])
        np.testing.assert_allclose(taken, [3, 5, 7, 9])
        np.testing.assert_allclose(value, np.sum((taken - 1) ** 2))
        np.testing.assert_allclose(sess.run(w), 1 + 0.2 * (taken - 1), rtol=1e-6)
        taken[:] = 0  # the caller's own
        assert object_of(sess, h).taken == 1 and len(object_of(sess, h).items) == 2
        assert sess.make_callable([loss, y])()[1].tolist() == [3, 5, 7, 9]
        loss_fed, same = sess.run([loss, y], {y: [0, 0, 0, 0]})  # what lies above a fed tensor does not run
        assert object_of(sess, h).taken == 2 and same.tolist() == [0, 0, 0, 0] and loss_fed > 0
        assert "phases" in str(tf.explain(train, session=sess)) and object_of(sess, h).taken == 2


def parts_of(fetches, feeds=()):
    split = phases.Split([f for f in fetches if isinstance(f, tf.Tensor)], [f for f in fetches if isinstance(f, tf.Operation)], feeds, None)
    return ["native" if isinstance(p, phases.Native) else [u.op.type for u in p] for p in split.parts]


def test_a_step_has_few_parts():
    h, x = box(), tf.placeholder(tf.float32, [4])
    y = take_op(h, shape=[4])
    w, loss, train = model(y)
    assert parts_of([y]) == [["TestTake"]]
    assert parts_of([train, loss]) == [["TestTake"], "native"]
    assert parts_of([put_op(h, x)], [x]) == [["TestPut"]]
    assert parts_of([put_op(h, x * 2.0)], [x]) == ["native", ["TestPut"]]
    assert parts_of([train, put_op(h, tf.stack([loss] * 4))]) == [["TestTake"], "native", ["TestPut"]]
    assert parts_of([put_op(h, y), train]) == [["TestTake", "TestPut"], "native"]


def test_ops_of_the_host_join_those_on_resources():
    h, calls = box(), []

    def work(a):
        calls.append(threading.current_thread().name)
        return a + np.float32(1)
    y = take_op(h, shape=[4])
    z = tf.py_func(work, [y], tf.float32)
    z.set_shape([4])
    put = put_op(h, z * 2.0)
    assert parts_of([put]) == [["TestTake", "PyFunc"], "native", ["TestPut"]]
    later = tf.py_func(work, [z * 2.0], tf.float32)  # reads what a kernel makes
    assert parts_of([later]) == [["TestTake", "PyFunc"], "native"]
    loaded = put_op(h, tf.py_func(lambda: np.float32(3), [], tf.float32))
    assert parts_of([loaded]) == [["PyFunc", "TestPut"]]
    with tf.Session() as sess:
        sess.run(put_op(h, tf.zeros([4])))
        sess.run(put)
        assert sess.run(z).tolist() == [3, 3, 3, 3] and len(calls) == 2
        sess.run(loaded)
        assert sess.run(take_op(h, shape=[])) == 3.0


def test_a_python_function_before_a_queue_holds_no_lock():
    h, go_on, v = box(), threading.Event(), tf.Variable(0.0)
    put, up = put_op(h, tf.py_func(lambda: np.float32(go_on.wait(5)), [], tf.float32)), v.assign_add(1.0)
    y = take_op(h, shape=[])
    with tf.Session() as sess:
        sess.run(v.initializer)
        thread = threading.Thread(target=sess.run, args=(put,))
        thread.start()
        assert sess.run(up) == 1.0  # while the function waits
        go_on.set()
        assert sess.run(y) == 1.0
        thread.join()


def test_variables_keep_the_order_of_the_program():
    h = box()
    v = tf.Variable(1.0, name="v")
    before = v.read_value()
    up = v.assign_add(1.0)
    put = put_op(h, v.read_value() * 10.0)
    again = v.assign_add(100.0)
    y = take_op(h, shape=[])
    with tf.control_dependencies([y]):
        last = v.assign_add(y)
    after = v.read_value()
    with tf.Session() as sess:
        sess.run(v.initializer)
        assert sess.run([before, up, put, again, y, last, after, v]) == [1, 2, None, 102, 20, 122, 122, 122]


def test_control_dependencies_run_before():
    h = box()
    v = tf.Variable(0.0, name="v")
    with tf.control_dependencies([v.assign_add(1.0)]):
        put = put_op(h, tf.constant(3.0))
    with tf.control_dependencies([put]):
        y = take_op(h, shape=[])
    with tf.control_dependencies([y]):
        done = tf.no_op()
    with tf.Session() as sess:
        sess.run(v.initializer)
        assert sess.run([y, v]) == [3.0, 1.0]
        sess.run(done)
        assert sess.run(v) == 2.0 and not object_of(sess, h).items


def test_a_random_value_is_drawn_once():
    h = box()
    r = tf.random_uniform([3], seed=1)
    put, y = put_op(h, r), take_op(h, shape=[3])
    with tf.Session() as sess:
        for _ in range(2):
            _, given, found, more = sess.run([put, r, y, r * 1.0 + y * 0.0])
            assert given.tolist() == found.tolist() == more.tolist()


def test_a_failing_part_takes_nothing_again():
    h, i = box(), tf.placeholder(tf.int32, [])
    y = take_op(h, shape=[2])
    found = tf.gather(y, i)
    with tf.Session() as sess:
        for _ in range(3):
            sess.run(put_op(h, tf.constant([1.0, 2.0])))
        for n in (1, 2):
            with pytest.raises(tf.errors.InvalidArgumentError, match="Gather"):
                sess.run(found, {i: 7})
            assert object_of(sess, h).taken == n
        with pytest.raises(ValueError, match="Cannot feed value of shape"):
            sess.run(found, {i: [0, 1]})
        assert sess.run(found, {i: 1}) == 2.0 and object_of(sess, h).taken == 3


def test_wrong_shapes_are_named():
    h = box()
    y = take_op(h, shape=[2, None])
    with tf.Session() as sess:
        sess.run(put_op(h, tf.zeros([3, 3])))
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"(?s)\(3, 3\).*TestTake.*test_resources.py"):
            sess.run(y + 1.0)


@pytest.mark.parametrize("how", ["options", "config"])
def test_a_time_limit_ends_waiting(how):
    y = take_op(box(), shape=[])
    config, options = (tf.ConfigProto(operation_timeout_in_ms=50), None) if how == "config" else (None, tf.RunOptions(timeout_in_ms=50))
    with tf.Session(config=config) as sess, pytest.raises(tf.errors.DeadlineExceededError, match="TestTake"):
        sess.run(y + 1.0, options=options)


def test_closing_the_session_ends_waiting():
    y = take_op(box(), shape=[])
    sess, found = tf.Session(), []

    def wait():
        try:
            sess.run(y)
        except tf.errors.CancelledError as e:
            found.append(e)
    thread = threading.Thread(target=wait)
    thread.start()
    time.sleep(0.05)
    sess.close()
    thread.join(5)
    assert found and found[0].op is y.op
    with pytest.raises(RuntimeError, match="closed"):
        sess.run(y)


def test_ctrl_c_ends_waiting():
    h = box()
    y = take_op(h, shape=[])
    with tf.Session() as sess:
        threading.Timer(0.1, os.kill, [os.getpid(), signal.SIGINT]).start()
        with pytest.raises(KeyboardInterrupt):
            sess.run(y)
        sess.run(put_op(h, tf.constant(2.0)))
        assert sess.run(y) == 2.0


def test_a_waiting_run_holds_no_lock():
    """Another thread's step, which writes variables, brings what is waited for."""
    h = box()
    y = take_op(h, shape=[])
    v = tf.Variable(0.0, name="v")
    total = v.assign_add(y)
    put = put_op(h, v.assign_add(1.0))
    with tf.Session() as sess:
        sess.run(v.initializer)
        thread = threading.Timer(0.05, sess.run, [put])
        thread.start()
        assert sess.run(total) == 2.0
        thread.join()


def test_ops_of_one_place_wait_at_once():
    a, b, x = box(), box(), tf.placeholder(tf.float32, [])
    ya, yb, put_a, put_b = take_op(a, shape=[]), take_op(b, shape=[]), put_op(a, x), put_op(b, x)
    with tf.Session() as sess:
        assert sess.run([ya, put_a], {x: 3.0}) == [3.0, None]  # taking stands first, and waits for putting
        threads = [threading.Timer(0.05, sess.run, [put_b, {x: 1.0}]), threading.Timer(0.1, sess.run, [put_a, {x: 2.0}])]
        for t in threads:
            t.start()
        assert sess.run([ya, yb]) == [2.0, 1.0]
        with pytest.raises(tf.errors.DeadlineExceededError):
            sess.run([ya, yb], options=tf.RunOptions(timeout_in_ms=50))


def test_branches_and_loops_with_resources():
    a, b, p = box(), box(), tf.placeholder(tf.bool, [])
    w = tf.Variable(2.0, name="w")
    c = tf.cond(p, lambda: take_op(a, shape=[]), lambda: take_op(b, shape=[]) * w)
    slope, = tf.gradients(c * c, w)
    _, total = tf.while_loop(lambda i, s: i < 3, lambda i, s: (i + 1, s + take_op(a, shape=[])), [0, 0.0])
    update = w.assign(c + 1.0)
    x = tf.placeholder(tf.float32, [])
    put_a, put_b = put_op(a, x), put_op(b, x)
    with tf.Session() as sess:
        sess.run(w.initializer)
        for k in range(4):
            sess.run([put_a, put_b], {x: k + 1.0})
        assert sess.run(c, {p: True}) == 1.0
        assert sess.run([c, slope], {p: False}) == [2.0, 4.0]
        assert sess.run(slope, {p: False}) == 2 * 4.0 * 2.0
        assert len(object_of(sess, b).items) == 2
        assert sess.run(update, {p: False}) == 7.0 and sess.run(w) == 7.0
        thread = threading.Timer(0.05, sess.run, [[put_a], {x: 5.0}])
        sess.run(put_a, {x: 10.0})
        sess.run(take_op(a, shape=[]))
        thread.start()
        assert sess.run(total) == 3.0 + 4.0 + 10.0
        thread.join()


def test_the_cost_of_a_phase_is_small():
    h = box()
    value = np.ones(4, np.float32)
    y = take_op(h, shape=[4])
    w, loss, train = model(y)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        items = object_of(sess, h).items
        items.extend([value] * 3100)
        step = sess.make_callable(train)
        for _ in range(100):
            step()
        assert min(timeit.repeat(step, number=100, repeat=20)) / 100 < 2e-4


def test_random_numbers_of_several_threads_are_those_of_one():
    """A run without variables takes a number from each stream and goes on beside others."""
    r = tf.random_uniform([], seed=5, dtype=tf.float64)
    x = tf.placeholder(tf.float64, [])
    y = r + 0.0 * x
    with tf.Session() as sess:
        expected = sorted(float(sess.run(y, {x: 0.0})) for _ in range(120))
    found: list[float] = []
    with tf.Session() as sess:
        step = sess.make_callable(y, [x])

        def draw():
            found.extend([float(step(0.0)) for _ in range(20)])
        threads = [threading.Thread(target=draw) for _ in range(6)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    assert sorted(found) == expected


def test_what_has_no_variables_runs_beside_a_step_that_writes():
    x = tf.placeholder(tf.float32, [3])
    y = tf.random_uniform([3]) * x
    v = tf.Variable(0.0)
    go_on = threading.Event()
    with tf.control_dependencies([tf.py_func(lambda: np.float32(go_on.wait(5)), [], tf.float32)]):
        up = v.assign_add(1.0)
    with tf.Session() as sess:
        sess.run(v.initializer)
        step = sess.make_callable(y, [x])
        value = np.ones(3, np.float32)
        for _ in range(200):  # compiled behind the first runs
            step(value)
            if next(iter(sess._executables.values())) and all(e.early is None for e in sess._executables.values()):
                break
            time.sleep(0.01)
        for _ in range(3):
            step(value)
        thread = threading.Thread(target=sess.run, args=(up,))
        thread.start()
        time.sleep(0.05)
        start = time.monotonic()
        step(value)
        assert time.monotonic() - start < 2
        go_on.set()
        thread.join()


def test_a_failing_run_gives_its_random_numbers_back():
    i = tf.placeholder(tf.int32, [])
    y = tf.gather(tf.random_uniform([3], seed=1), i)

    def numbers(*indices):
        with tf.Session() as sess:
            found = []
            for k in indices:
                try:
                    found.append(float(sess.run(y, {i: k})))
                except tf.errors.InvalidArgumentError:
                    pass
            return found
    assert numbers(0, 1, 0, 1, 7, 2, 0) == numbers(0, 1, 0, 1, 2, 0)
