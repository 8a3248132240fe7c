"""Queues under threads, queue runners, coordinators, input producers and batches."""
from __future__ import annotations

import threading
import time

import numpy as np
import pytest

import graphflow as tf


@pytest.fixture(autouse=True)
def fresh():
    tf.reset_default_graph()


def started(target, *args):
    """A running thread; `thread.problem` is what it raised."""
    def run():
        try:
            thread.found = target(*args)
        except BaseException as e:
            thread.problem = e
    thread = threading.Thread(target=run, daemon=True)
    thread.problem = thread.found = None
    thread.start()
    return thread


def ended(thread):
    thread.join(5)
    assert not thread.is_alive()
    return thread


# ---------------------------------------------------------------- one thread


def test_names_shapes_and_types():
    q = tf.FIFOQueue(3, [tf.int32, tf.float32], shapes=[[], [2]])
    one, many, some = q.dequeue(), q.dequeue_many(2), q.dequeue_up_to(4)
    assert [(t.dtype, t.shape.as_list()) for t in one] == [(tf.int32, []), (tf.float32, [2])]
    assert [t.shape.as_list() for t in many] == [[2], [2, 2]] and [t.shape.as_list() for t in some] == [[None], [None, 2]]
    assert q.dequeue_many(tf.placeholder(tf.int32, []))[1].shape.as_list() == [None, 2]
    put = q.enqueue([1, [1.0, 2.0]])
    assert (q.name, put.name, one[0].op.name, q.enqueue_many([[1], [[1.0, 2.0]]]).name) == (
        "fifo_queue", "fifo_queue_enqueue", "fifo_queue_Dequeue", "fifo_queue_EnqueueMany")
    assert (many[0].op.name, some[0].op.name, q.close().name, q.size().op.name, q.is_closed().op.name) == (
        "fifo_queue_DequeueMany", "fifo_queue_DequeueUpTo", "fifo_queue_Close", "fifo_queue_Size", "fifo_queue_Is_Closed")
    assert q.dtypes == [tf.int32, tf.float32] and [s.as_list() for s in q.shapes] == [[], [2]] and q.names is None
    assert tf.FIFOQueue(3, tf.int32).dequeue().shape.ndims is None
    assert tf.RandomShuffleQueue(3, 1, tf.int32, name="r").name == "r" and isinstance(q, tf.QueueBase)


@pytest.mark.parametrize("wrong, kind, text", [
    (lambda: tf.FIFOQueue(3, [tf.int32], shapes=[[], []]), ValueError, "same length as dtypes"),
    (lambda: tf.FIFOQueue(3, [tf.int32], shapes=[[None]]), ValueError, "fully defined"),
    (lambda: tf.PaddingFIFOQueue(3, [tf.int32], shapes=None), ValueError, "a list of shapes"),
    (lambda: tf.FIFOQueue(3, [tf.int32], names=["a", "b"]), ValueError, "names"),
    (lambda: tf.FIFOQueue(3, [tf.int32], shapes=[[2]]).enqueue([[1, 2, 3]]), ValueError, "not compatible|incompatible"),
    (lambda: tf.FIFOQueue(3, [tf.int32]).enqueue([1.5]), TypeError, "int32"),
    (lambda: tf.FIFOQueue(3, [tf.int32]).enqueue({"a": 1}), ValueError, "must have names"),
    (lambda: tf.FIFOQueue(3, [tf.int32], names=["a"]).enqueue(1), ValueError, "must enqueue a dictionary"),
    (lambda: tf.FIFOQueue(3, [tf.int32], names=["a"]).enqueue({"b": 1}), ValueError, "do not match"),
    (lambda: tf.FIFOQueue(3, [tf.int32, tf.int32]).enqueue([1]), ValueError, "2 component"),
    (lambda: tf.FIFOQueue(3, tf.int32, [[]]).enqueue_many([1]), ValueError, "rank"),
    (lambda: tf.QueueBase.from_list(0, []), TypeError, "list of queues"),
    (lambda: tf.QueueBase.from_list(0, [tf.FIFOQueue(1, tf.int32), tf.FIFOQueue(1, tf.int64)]), TypeError, "dtypes"),
])
def test_bad_arguments(wrong, kind, text):
    with pytest.raises(kind, match=text):
        wrong()


def test_first_in_first_out_and_the_end():
    q = tf.FIFOQueue(10, tf.int32, shapes=[[]])
    y, two, rest, size = q.dequeue(), q.dequeue_many(2), q.dequeue_up_to(5), q.size()
    with tf.Session() as sess:
        sess.run(q.enqueue_many([[1, 2, 3, 4, 5, 6]]))
        assert sess.run(y) == 1 and sess.run(two).tolist() == [2, 3] and sess.run(size) == 3
        sess.run(q.close())
        assert sess.run(q.is_closed())
        assert sess.run(rest).tolist() == [4, 5, 6]
        for f in (y, two, rest):
            with pytest.raises(tf.errors.OutOfRangeError, match=r"fifo_queue' is closed and has insufficient elements \(requested"):
                sess.run(f)
        with pytest.raises(tf.errors.CancelledError, match="is closed"):
            sess.run(q.enqueue(1))


def test_what_is_too_little_stays():
    q = tf.FIFOQueue(10, tf.int32, shapes=[[]])
    y, three = q.dequeue(), q.dequeue_many(3)
    with tf.Session() as sess:
        sess.run(q.enqueue_many([[1, 2]]))
        with pytest.raises(tf.errors.DeadlineExceededError):
            sess.run(three, options=tf.RunOptions(timeout_in_ms=50))
        sess.run(q.close())
        with pytest.raises(tf.errors.OutOfRangeError, match="requested 3, current size 2"):
            sess.run(three)
        assert sess.run(y) == 1 and sess.run(y) == 2


def test_dictionaries_and_strings():
    q = tf.FIFOQueue(10, [tf.string, tf.float32], shapes=[[], [2]], names=["key", "value"])
    put, y, both = q.enqueue({"value": [1.0, 2.0], "key": "a"}), q.dequeue(), q.dequeue_many(2)
    assert set(y) == {"key", "value"}
    with tf.Session() as sess:
        for _ in range(3):
            sess.run(put)
        found = sess.run(y)
        assert found["key"] in (b"a", "a") and found["value"].tolist() == [1, 2]
        found = sess.run(both)
        assert found["key"].shape == (2,) and found["key"][1] in (b"a", "a") and found["value"].shape == (2, 2)


def test_wrong_shapes_when_it_runs():
    q, x = tf.FIFOQueue(10, tf.float32, shapes=[[2]]), tf.placeholder(tf.float32)
    free = tf.FIFOQueue(10, tf.float32)
    with tf.Session() as sess:
        with pytest.raises(tf.errors.InvalidArgumentError, match=r"Shape mismatch in tuple component 0. Expected \[2\], got \[3\]"):
            sess.run(q.enqueue(x), {x: [1, 2, 3]})
        with pytest.raises(tf.errors.InvalidArgumentError, match="specified shapes"):
            sess.run(free.dequeue_many(1))
        pair = tf.FIFOQueue(10, [tf.float32, tf.float32]).enqueue_many([x, tf.zeros([2])])
        with pytest.raises(tf.errors.InvalidArgumentError, match="same size in the 0th dimension"):
            sess.run(pair, {x: [1, 2, 3]})
        sess.run(free.enqueue(x), {x: [[1]]})
        value = np.array([5.0], np.float32)
        sess.run(free.enqueue(x), {x: value})
        value[:] = 0  # a feed is the caller's: the queue has copied it
        assert sess.run(free.dequeue()).tolist() == [[1]] and sess.run(free.dequeue()).tolist() == [5]


def test_a_shuffle_queue_mixes_and_keeps_some():
    def order(seed):
        with tf.Graph().as_default(), tf.Session() as sess:
            q = tf.RandomShuffleQueue(100, 10, tf.int32, shapes=[[]], seed=seed)
            y = q.dequeue()
            sess.run(q.enqueue_many([np.arange(50)]))
            first = [int(sess.run(y)) for _ in range(40)]
            with pytest.raises(tf.errors.DeadlineExceededError):
                sess.run(y, options=tf.RunOptions(timeout_in_ms=20))
            sess.run(q.close())
            return first + sess.run(q.dequeue_many(10)).tolist()
    a, b, c = order(3), order(3), order(4)
    assert a == b != c and sorted(a) == list(range(50)) and a != list(range(50))


def test_padding():
    q = tf.PaddingFIFOQueue(10, [tf.int32, tf.string], shapes=[[None, 2], []])
    x = tf.placeholder(tf.int32, [None, 2])
    put, y, all_ = q.enqueue([x, "s"]), q.dequeue(), q.dequeue_many(2)
    assert all_[0].shape.as_list() == [2, None, 2]
    with tf.Session() as sess:
        for n in (1, 3, 2, 2):
            sess.run(put, {x: np.full((n, 2), n)})
        padded = sess.run(all_)[0]
        assert padded.tolist() == [[[1, 1], [0, 0], [0, 0]], [[3, 3]] * 3]
        assert sess.run(y)[0].shape == (2, 2)
        loose = tf.PaddingFIFOQueue(10, [tf.int32], shapes=[[None]])
        with pytest.raises(tf.errors.InvalidArgumentError, match="Shape mismatch"):
            sess.run(loose.enqueue(tf.placeholder_with_default(np.zeros((1, 1), np.int32), None)))


def test_priorities():
    q = tf.PriorityQueue(10, [tf.string], [[]])
    y, two = q.dequeue(), q.dequeue_many(2)
    assert q.dtypes == [tf.int64, tf.string] and y[0].shape.as_list() == []
    with tf.Session() as sess:
        sess.run(q.enqueue_many([np.array([3, 1, 2, 1]), np.array([b"c", b"a", b"b", b"a2"], object)]))
        assert sess.run(y) == [1, b"a"]
        assert [sess.run(two)[1].tolist(), sess.run(y)] == [[b"a2", b"b"], [3, b"c"]]


def test_shared_names_and_sessions():
    a, b = (tf.FIFOQueue(3, tf.int32, [[]], shared_name="s", name=n) for n in "ab")
    with tf.Session() as one, tf.Session() as two:
        one.run(a.enqueue(7))
        assert one.run(b.dequeue()) == 7 and two.run(b.size()) == 0


def test_a_queue_chosen_when_it_runs():
    queues = [tf.FIFOQueue(3, tf.int32, shapes=[[]]) for _ in range(3)]
    i = tf.placeholder(tf.int32, [])
    chosen = tf.QueueBase.from_list(i, queues)
    y, put = chosen.dequeue(), chosen.enqueue(i * 10)
    assert y.shape.as_list() == [] and chosen.dtypes == [tf.int32]
    with tf.Session() as sess:
        for k in (0, 2, 1):
            sess.run(put, {i: k})
        assert [sess.run(q.size()) for q in queues] == [1, 1, 1]
        assert sess.run(queues[2].dequeue()) == 20 and sess.run(y, {i: 1}) == 10


def test_timeouts_lose_nothing_of_a_half_put():
    q = tf.FIFOQueue(2, tf.int32, shapes=[[]])
    with tf.Session() as sess:
        with pytest.raises(tf.errors.DeadlineExceededError):
            sess.run(q.enqueue_many([[1, 2, 3]]), options=tf.RunOptions(timeout_in_ms=30))
        assert sess.run(q.dequeue_many(2)).tolist() == [1, 2] and sess.run(q.size()) == 0


# ---------------------------------------------------------------- threads


def test_full_and_empty_queues_wait():
    q = tf.FIFOQueue(2, tf.int32, shapes=[[]])
    put, y, three = q.enqueue_many([[1, 2, 3, 4, 5]]), q.dequeue(), q.dequeue_many(3)
    with tf.Session() as sess:
        thread = started(sess.run, put)
        assert sess.run(three).tolist() == [1, 2, 3]  # more than it holds at once
        ended(thread)
        assert sess.run(y) == 4 and sess.run(y) == 5
        thread = started(sess.run, y)
        time.sleep(0.02)
        assert thread.is_alive()
        sess.run(q.enqueue(6))
        assert ended(thread).found == 6


def test_who_waits_first_is_served_first():
    q = tf.FIFOQueue(10, tf.int32, shapes=[[]])
    two, put = q.dequeue_many(2), q.enqueue_many([[1, 2, 3]])
    y = q.dequeue()
    with tf.Session() as sess:
        first = started(sess.run, two)
        time.sleep(0.03)
        second = started(sess.run, y)
        time.sleep(0.03)
        sess.run(put)
        assert ended(first).found.tolist() == [1, 2] and ended(second).found == 3


def test_closing_lets_pending_puts_end_and_cancelling_does_not():
    for cancel in (False, True):
        q = tf.FIFOQueue(1, tf.int32, shapes=[[]])
        put, y = q.enqueue(2), q.dequeue()
        with tf.Session() as sess:
            sess.run(q.enqueue(1))
            thread = started(sess.run, put)
            time.sleep(0.03)
            sess.run(q.close(cancel_pending_enqueues=cancel))
            if cancel:
                assert isinstance(ended(thread).problem, tf.errors.CancelledError)
            assert sess.run(y) == 1
            if not cancel:
                assert sess.run(y) == 2 and ended(thread).problem is None
            with pytest.raises(tf.errors.OutOfRangeError):
                sess.run(y)


def test_closing_ends_waiting_takers():
    q = tf.FIFOQueue(3, tf.int32, shapes=[[]])
    with tf.Session() as sess:
        threads = [started(sess.run, f) for f in (q.dequeue(), q.dequeue_many(2), q.dequeue_up_to(2))]
        time.sleep(0.03)
        sess.run(q.close())
        assert all(isinstance(ended(t).problem, tf.errors.OutOfRangeError) for t in threads)


def test_a_waiting_taker_gets_what_is_left():
    q = tf.FIFOQueue(3, tf.int32, shapes=[[]])
    some = q.dequeue_up_to(3)
    with tf.Session() as sess:
        thread = started(sess.run, some)
        sess.run(q.enqueue_many([[1, 2]]))
        sess.run(q.close())
        assert ended(thread).found.tolist() == [1, 2]


def test_closing_the_session_ends_all():
    q = tf.FIFOQueue(1, tf.int32, shapes=[[]])
    sess = tf.Session()
    sess.run(q.enqueue(1))
    put, y = q.enqueue(1), tf.FIFOQueue(1, tf.int32).dequeue()
    threads = [started(sess.run, put), started(sess.run, y)]
    time.sleep(0.05)
    sess.close()
    assert [type(ended(t).problem) for t in threads] == [tf.errors.CancelledError] * 2


def test_many_threads_lose_and_double_nothing():
    q, out = tf.RandomShuffleQueue(8, 3, tf.int32, shapes=[[]]), []
    x = tf.placeholder(tf.int32, [None])
    put, y = q.enqueue_many(x * 1), q.dequeue_many(5)
    with tf.Session() as sess:
        def take():
            try:
                while True:
                    out.append(sess.run(y))
            except tf.errors.OutOfRangeError:
                pass
        takers = [started(take) for _ in range(3)]
        putters = [started(sess.run, put, {x: np.arange(k * 100, k * 100 + 100)}) for k in range(4)]
        for t in putters:
            assert ended(t).problem is None
        sess.run(q.close())
        for t in takers:
            assert ended(t).problem is None
    assert sorted(np.concatenate(out).tolist()) == list(range(400))


def test_putting_and_training_write_variables_without_deadlock():
    """As actors that fill a queue with what they compute of the weights which a learner changes."""
    q = tf.FIFOQueue(4, [tf.float32], shapes=[[3]])
    w, steps = tf.Variable(tf.zeros([3])), tf.Variable(0)
    put = tf.group(q.enqueue([w + tf.random_uniform([3])]), steps.assign_add(1))
    y = q.dequeue()
    train = tf.train.GradientDescentOptimizer(0.1).minimize(tf.reduce_sum(tf.square(y - w - 1.0)), var_list=[w])
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())

        def act():
            for _ in range(25):
                sess.run(put)
        actors = [started(act) for _ in range(4)]
        for _ in range(100):
            sess.run(train)
        for t in actors:
            assert ended(t).problem is None
        assert sess.run(steps) == 100 and np.isfinite(sess.run(w)).all() and sess.run(q.size()) == 0


# ---------------------------------------------------------------- coordinators and runners


def test_a_coordinator_stops_threads_and_raises_the_first_error():
    coord = tf.train.Coordinator()

    def work(fail):
        with coord.stop_on_exception():
            while not coord.should_stop():
                time.sleep(0.005)
                if fail:
                    raise ZeroDivisionError("first")
    threads = [threading.Thread(target=work, args=(k == 1,)) for k in range(3)]
    for t in threads:
        t.start()
    with pytest.raises(ZeroDivisionError, match="first"):
        coord.join(threads)
    assert coord.should_stop() and coord.joined and coord.wait_for_stop(0.01)
    with pytest.raises(ZeroDivisionError):
        coord.raise_requested_exception()
    with pytest.raises(KeyError):  # after joining an error is raised where it is reported
        coord.request_stop(KeyError("late"))
    coord.clear_stop()
    assert not coord.should_stop() and not coord.joined
    coord.raise_requested_exception()


def test_the_end_of_data_is_no_error():
    coord = tf.train.Coordinator()
    coord.request_stop(tf.errors.OutOfRangeError(None, None, "end"))
    coord.join()
    other = tf.train.Coordinator(clean_stop_exception_types=(StopIteration,))
    other.request_stop(StopIteration())
    other.join()
    third = tf.train.Coordinator()
    try:
        raise ValueError("told")
    except ValueError as e:
        third.request_stop(e)
    with pytest.raises(ValueError, match="told"):
        third.join()


def test_late_threads_are_named():
    coord, go_on = tf.train.Coordinator(), threading.Event()
    thread = threading.Thread(target=go_on.wait, args=(5,), name="slow")
    thread.start()
    coord.register_thread(thread)
    coord.request_stop()
    with pytest.raises(RuntimeError, match="still running: slow"):
        coord.join(stop_grace_period_secs=0.05)
    coord.clear_stop()
    coord.request_stop()
    coord.join([thread], stop_grace_period_secs=0.01, ignore_live_threads=True)
    go_on.set()
    thread.join()


def test_looper_threads():
    coord, calls = tf.train.Coordinator(), []

    def turn(a, b=0):
        calls.append(a + b)
        if len(calls) == 3:
            coord.request_stop()
    thread = tf.train.LooperThread.loop(coord, 0.005, turn, args=(1,), kwargs={"b": 2})
    coord.join()
    assert calls == [3, 3, 3] and not thread.is_alive()
    with pytest.raises(ValueError, match="must be a Coordinator"):
        tf.train.LooperThread(3, None)
    with pytest.raises(ValueError, match="target"):
        tf.train.LooperThread(coord, None, args=(1,))


def test_a_runner_fills_and_closes_its_queue():
    q = tf.FIFOQueue(3, tf.int64, shapes=[[]])
    counter = tf.Variable(tf.constant(0, tf.int64))
    runner = tf.train.QueueRunner(q, [q.enqueue(counter.count_up_to(5))] * 2)
    tf.train.add_queue_runner(runner)
    y = q.dequeue()
    assert runner.name == "fifo_queue" and runner.queue is q and len(runner.enqueue_ops) == 2
    with tf.Session() as sess:
        sess.run(counter.initializer)
        threads = tf.train.start_queue_runners(start=False)
        assert len(threads) == 2 and all(t.daemon for t in threads) and runner.create_threads(sess) == []
        for t in threads:
            t.start()
        assert sorted(int(sess.run(y)) for _ in range(5)) == [0, 1, 2, 3, 4]
        with pytest.raises(tf.errors.OutOfRangeError):
            sess.run(y)
        for t in threads:
            ended(t)
        assert runner.exceptions_raised == []


def test_a_runner_tells_its_errors():
    q, i = tf.FIFOQueue(3, tf.float32), tf.Variable(0)
    bad = q.enqueue(tf.gather([1.0], i.assign_add(1)))
    tf.train.add_queue_runner(tf.train.QueueRunner(q, [bad]))
    coord = tf.train.Coordinator()
    with tf.Session() as sess:
        sess.run(i.initializer)
        threads = tf.train.start_queue_runners(sess, coord)
        assert len(threads) == 2
        with pytest.raises(tf.errors.InvalidArgumentError, match="Gather"):
            coord.join(threads)
        with pytest.raises(tf.errors.OutOfRangeError):  # the coordinator has cancelled the queue
            sess.run(q.dequeue())


def test_runners_as_data():
    q = tf.FIFOQueue(3, tf.int32, shapes=[[]])
    runner = tf.train.QueueRunner(q, [q.enqueue(1)], queue_closed_exception_types=(tf.errors.OutOfRangeError, tf.errors.CancelledError))
    d = runner.to_proto()
    again = tf.train.queue_runner.QueueRunner.from_proto(d)
    assert again.name == "fifo_queue" and again.enqueue_ops == runner.enqueue_ops and again.close_op is runner.close_op
    assert again.queue_closed_exception_types == runner.queue_closed_exception_types and again.to_proto() == d
    assert runner.to_proto("other") is None
    for wrong, kind in ((dict(queue=q), ValueError), (dict(queue=q, enqueue_ops=[q.enqueue(1)], queue_closed_exception_types=3), TypeError),
                        (dict(queue=q, queue_runner_def=d), ValueError)):
        with pytest.raises(kind):
            tf.train.QueueRunner(**wrong)


def test_queues_and_runners_of_a_saved_graph(tmp_path):
    b = tf.train.batch([numbers(5), tf.constant("x")], 2, name="out")
    assert len(b) == 2
    tf.train.export_meta_graph(str(tmp_path / "graph.meta"))
    tf.reset_default_graph()
    tf.train.import_meta_graph(str(tmp_path / "graph.meta"), import_scope="again")
    found = read_all("again/out:0", "again/out:1")
    assert [x.tolist() for x, _ in found] == [[0, 1], [2, 3]] and found[0][1].tolist() == [b"x", b"x"]
    kept = tf.get_collection(tf.GraphKeys.QUEUE_RUNNERS)
    assert [type(r) for r in kept] == [tf.train.QueueRunner] * 2 and kept[0].name.startswith("again/")


def test_a_monitored_session_starts_and_ends_them():
    b = tf.train.batch([numbers(5)], 2)
    tf.train.get_or_create_global_step()
    found = []
    with tf.train.MonitoredTrainingSession() as sess:
        while not sess.should_stop():
            found.append(sess.run(b).tolist())
    assert found == [[0, 1], [2, 3]]


def test_starting_needs_a_session():
    with pytest.raises(ValueError, match="No default session"):
        tf.train.start_queue_runners()
    with pytest.raises(TypeError, match="tf.Session"):
        tf.train.start_queue_runners(sess=3)
    with tf.Session() as sess, pytest.warns(UserWarning, match="no queue runners"):
        assert tf.train.start_queue_runners(sess) == []


# ---------------------------------------------------------------- producers and batches


def read_all(*fetches, most=1000):
    """Everything that comes until the end."""
    coord, found = tf.train.Coordinator(), []
    with tf.Session() as sess:
        sess.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
        threads = tf.train.start_queue_runners(sess, coord)
        try:
            while len(found) < most:
                found.append(sess.run(list(fetches)))
        except tf.errors.OutOfRangeError:
            pass
        finally:
            coord.request_stop()
            coord.join(threads)
    return found


def test_producers_in_order():
    assert [int(v) for v, in read_all(tf.train.range_input_producer(4, num_epochs=2, shuffle=False).dequeue())] == [0, 1, 2, 3, 0, 1, 2, 3]
    tf.reset_default_graph()
    rows = tf.train.input_producer(np.arange(6).reshape(3, 2), num_epochs=1, shuffle=False).dequeue()
    assert rows.shape.as_list() == [2] and [v.tolist() for v, in read_all(rows)] == [[0, 1], [2, 3], [4, 5]]
    tf.reset_default_graph()
    a, b = tf.train.slice_input_producer([np.arange(5.0), np.arange(10).reshape(5, 2)], num_epochs=1, shuffle=False)
    assert [(x, y.tolist()) for x, y in read_all(a, b)] == [(k, [2 * k, 2 * k + 1]) for k in range(5)]


def test_producers_shuffle_each_epoch():
    found = [int(v) for v, in read_all(tf.train.range_input_producer(20, num_epochs=3, seed=1).dequeue())]
    epochs = [found[k:k + 20] for k in (0, 20, 40)]
    assert all(sorted(e) == list(range(20)) for e in epochs) and epochs[0] != epochs[1] != epochs[2] and epochs[0] != list(range(20))
    tf.reset_default_graph()
    assert found == [int(v) for v, in read_all(tf.train.range_input_producer(20, num_epochs=3, seed=1).dequeue())]


def test_producers_count_in_local_variables():
    q = tf.train.range_input_producer(3, num_epochs=1)
    assert [v.op.name for v in tf.local_variables()] == ["input_producer/limit_epochs/epochs"]
    assert len(tf.get_collection(tf.GraphKeys.QUEUE_RUNNERS)) == 1
    coord = tf.train.Coordinator()
    with tf.Session() as sess:  # and they have not been initialized
        threads = tf.train.start_queue_runners(sess, coord)
        with pytest.raises(tf.errors.OutOfRangeError):
            sess.run(q.dequeue())
        with pytest.raises(tf.errors.FailedPreconditionError, match="uninitialized"):
            coord.join(threads)


def test_bad_producers():
    for wrong in (lambda: tf.train.limit_epochs(tf.zeros([1]), 0), lambda: tf.train.string_input_producer([]),
                  lambda: tf.train.slice_input_producer([]), lambda: tf.train.input_producer(tf.placeholder(tf.float32, [None, None]))):
        with pytest.raises(ValueError):
            wrong()
    assert tf.train.limit_epochs("x") == "x"


def numbers(n, **how):
    return tf.train.range_input_producer(n, num_epochs=1, shuffle=False, **how).dequeue()


def test_batches():
    i = numbers(7)
    b = tf.train.batch([i, tf.to_float(i) * 2.0], 3)
    assert [t.shape.as_list() for t in b] == [[3], [3]] and b[0].op.name == "batch"
    found = read_all(*b)
    assert [x.tolist() for x, _ in found] == [[0, 1, 2], [3, 4, 5]] and found[1][1].tolist() == [6, 8, 10]


def test_a_smaller_final_batch():
    found = read_all(tf.train.batch([numbers(7)], 3, allow_smaller_final_batch=True))
    assert [x.tolist() for x, in found] == [[0, 1, 2], [3, 4, 5], [6]]


def test_batches_of_dictionaries_and_of_rows():
    b = tf.train.batch({"a": tf.expand_dims(numbers(6), 0), "b": tf.ones([1, 2])}, 2, enqueue_many=True)
    assert b["a"].shape.as_list() == [2] and b["b"].shape.as_list() == [2, 2]
    assert [x.tolist() for x, in read_all(b["a"])] == [[0, 1], [2, 3], [4, 5]]
    tf.reset_default_graph()
    single = tf.train.batch({"a": numbers(4)}, 2)
    assert list(single) == ["a"] and isinstance(tf.train.batch(numbers(4), 2), tf.Tensor)


def test_batches_of_different_sizes():
    b = tf.train.batch([tf.range(numbers(4))], 2, dynamic_pad=True)
    assert b.shape.as_list() == [2, None]
    assert [x.tolist() for x, in read_all(b)] == [[[0], [0]], [[0, 1, 0], [0, 1, 2]]]
    with pytest.raises(ValueError, match="fully defined"):
        tf.train.batch([tf.range(numbers(4))], 2)
    with pytest.raises(ValueError, match="rank"):
        tf.train.batch([tf.placeholder(tf.float32)], 2)


def test_batches_of_what_is_kept():
    i = numbers(10)
    found = read_all(tf.train.maybe_batch([i], tf.equal(i % 3, 0), 2))
    assert [x.tolist() for x, in found] == [[0, 3], [6, 9]]
    tf.reset_default_graph()
    rows = tf.stack([numbers(6)] * 2)
    found = read_all(tf.train.maybe_batch([rows], [True, False], 3, enqueue_many=True))
    assert [x.tolist() for x, in found] == [[0, 1, 2], [3, 4, 5]]
    with pytest.raises(ValueError, match="vector"):
        tf.train.maybe_batch([rows], [True, False], 3)


def test_shuffled_batches():
    b = tf.train.shuffle_batch([numbers(40, capacity=64)], 10, capacity=60, min_after_dequeue=20, seed=2)
    assert b.op.name == "shuffle_batch"
    found = np.concatenate([x for x, in read_all(b)])
    assert sorted(found.tolist()) == list(range(40)) and found.tolist() != list(range(40))
    with pytest.raises(ValueError, match="must be bigger"):
        tf.train.shuffle_batch([numbers(3)], 1, 10, 10)
    kept = numbers(9)
    assert tf.train.maybe_shuffle_batch([kept], 2, 10, 1, tf.greater(kept, 3)).shape.as_list() == [2]


def test_several_sources():
    sources = [[numbers(20)], [numbers(20) + 100]]
    b = tf.train.batch_join(sources, 4, capacity=8)
    assert len(tf.get_collection(tf.GraphKeys.QUEUE_RUNNERS)[-1].enqueue_ops) == 2
    found = np.concatenate([x for x, in read_all(b)])
    assert sorted(found.tolist()) == [*range(20), *range(100, 120)]
    assert tf.train.shuffle_batch_join(sources, 4, 8, 2, seed=1).shape.as_list() == [4]
    assert tf.train.maybe_shuffle_batch_join(sources, 4, 8, 2, True).shape.as_list() == [4]
    with pytest.raises(TypeError, match="consistent"):
        tf.train.batch_join([[tf.constant(1)], [tf.constant(1.0)]], 2)
    with pytest.raises(ValueError, match="at least one"):
        tf.train.batch_join([], 2)
    with pytest.raises(ValueError, match="same keys"):
        tf.train.batch_join([{"a": tf.constant(1)}, {"b": tf.constant(1)}], 2)


def test_sparse_batches():
    i = tf.cast(numbers(4), tf.int64)
    sp = tf.SparseTensor(tf.stack([[i, 0]]), tf.stack([tf.to_float(i)]), [4, 2])
    b = tf.train.batch([sp, i], 2)
    assert isinstance(b[0], tf.SparseTensor)
    found = read_all(b[0].indices, b[0].values, b[0].dense_shape, b[1])
    assert found[1][0].tolist() == [[0, 2, 0], [1, 3, 0]] and found[1][1].tolist() == [2, 3] and found[1][2].tolist() == [2, 4, 2]


def test_sparse_rows_in_batches():
    i = tf.cast(numbers(4), tf.int64)
    sp = tf.SparseTensor([[0, 1], [1, 0], [1, 1]], tf.stack([i, i + 10, i + 20]), [2, 3])
    b = tf.train.batch([sp, tf.stack([i, i])], 4, enqueue_many=True)
    found = read_all(b[0].indices, b[0].values, b[0].dense_shape, b[1])
    assert found[0][0].tolist() == [[0, 1], [1, 0], [1, 1], [2, 1], [3, 0], [3, 1]] and found[0][2].tolist() == [4, 3]
    assert found[0][1].tolist() == [0, 10, 20, 1, 11, 21] and found[1][3].tolist() == [2, 2, 3, 3]


def test_training_fed_by_several_threads():
    rng = np.random.RandomState(0)
    features = rng.rand(200, 4).astype(np.float32)
    labels = features @ np.array([[1.0], [2], [3], [4]], np.float32)
    x, y = tf.train.slice_input_producer([features, labels], num_epochs=20, seed=3)
    bx, by = tf.train.shuffle_batch([x, y], 32, 200, 100, num_threads=3, allow_smaller_final_batch=True, seed=1)
    w = tf.Variable(tf.zeros([4, 1]))
    loss = tf.reduce_mean(tf.square(tf.matmul(bx, w) - by))
    train = tf.train.GradientDescentOptimizer(0.3).minimize(loss)
    found = read_all(train, loss, tf.shape(bx)[0])
    assert sum(n for _, _, n in found) == 4000 and found[-1][1] < 1e-3 < found[0][1]
