"""Whole programs on the emulated GPU beside the CPU: values, copies, variables, control flow, checks, faults, threads, memory.

The PTX emulator checks each access of each kernel meanwhile.  Which op runs where is tests/test_placement.py's matter.
"""
from __future__ import annotations

import json
import random
import threading

import numpy as np
import pytest
import test_random_graphs as graphs
from on_gpu import a_gpu

import graphflow as tf
from graphflow.codegen.cuda import texts
from graphflow.debug.checked import KernelDiffers
from graphflow.debug.timeline import Timeline
from graphflow.flags import flags
from graphflow.testing import emulated_gpu

ON_CPU = tf.ConfigProto(device_count={"GPU": 0}, allow_soft_placement=True)


@pytest.fixture(autouse=True)
def gpu():
    """Work is done as late as can be, so that a program that does not wait goes wrong."""
    switches = flags.override(early=0, interpret=0, check=0, debug=0)
    with a_gpu(deferred=True, coherent=True) as driver, switches, tf.Graph().as_default():
        yield driver


def both(fetches, feeds=None, runs=3, rtol=2e-6):
    """The results on the GPU, which are those of the reference interpreter, run after run."""
    found = []
    for config in (None, ON_CPU):
        with tf.Session(config=config) as sess, flags.override(interpret=int(config is ON_CPU)):
            sess.run(tf.global_variables_initializer())
            found.append([sess.run(fetches, feeds) for _ in range(runs)])
    for ours, theirs in zip(*found):
        same(ours, theirs, rtol)
    return found[0][-1]


def same(a, b, rtol=2e-6):
    if isinstance(a, (list, tuple)):
        assert len(a) == len(b)
        for x, y in zip(a, b):
            same(x, y, rtol)
    elif a is not None:
        assert np.asarray(a).dtype == np.asarray(b).dtype
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)


class Counted:
    """What happens inside the block: calls of the driver, bytes of copies, launches of kernels."""

    def __init__(self, driver):
        self.driver = driver

    def __enter__(self):
        self.before = self.driver.calls.copy(), self.driver.nbytes.copy(), self.driver.counters.launches
        return self

    def __exit__(self, *_):
        self.calls = self.driver.calls - self.before[0]
        self.nbytes = self.driver.nbytes - self.before[1]
        self.launches = self.driver.counters.launches - self.before[2]


def rows(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


# ---------------------------------------------------------------- where things are


def test_a_program_of_the_gpu_alone_copies_its_feeds_and_results(gpu):
    x = tf.placeholder(tf.float32, [None, 50])
    y = tf.nn.softmax(tf.tanh(x) * 2.0)
    z = tf.reduce_sum(y * tf.constant(rows(50)), 1)
    a = rows(64, 50)
    with tf.Session() as sess:
        sess.run(z, {x: a})
        for _ in range(3):
            with Counted(gpu) as seen:
                sess.run(z, {x: a})
            assert seen.calls["copy_in"] <= 1 and seen.calls["copy_out"] <= 1
            assert seen.nbytes["copy_in"] <= a.nbytes + 255 and seen.nbytes["copy_out"] == 64 * 4 + 256
    both(z, {x: a})


def test_from_the_second_run_on_a_step_is_one_graph(gpu):
    x, w = tf.placeholder(tf.float32, [None, 8]), tf.Variable(rows(8, 8))
    step = tf.train.MomentumOptimizer(0.1, 0.9).minimize(tf.reduce_sum(tf.square(tf.matmul(x, w))))
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        launched = []
        for run in range(4):
            with Counted(gpu) as seen:
                sess.run(step, {x: rows(5, 8)})
            launched.append(seen.launches)
            assert seen.calls["launch_graph"] == (run > 0) and seen.calls["end_capture"] == (run == 1)
            assert run < 2 or not seen.calls["launch"]
        assert launched[1:] == launched[:1] * 3  # run by the graph, as they were before


def test_several_shapes_of_one_placeholder(gpu):
    x = tf.placeholder(tf.float32, [None, None])
    y = [tf.nn.softmax(x), tf.reduce_sum(x, 0), tf.transpose(x) * 2.0, tf.reduce_max(x)]
    with tf.Session() as sess, tf.Session(config=ON_CPU) as cpu:
        for _ in range(2):
            for shape in [(3, 4), (33, 127), (1, 1), (127, 33), (3, 4), (2, 1025)]:
                a = rows(*shape)
                same(sess.run(y, {x: a}), cpu.run(y, {x: a}))


def test_mixed_programs_copy_what_crosses_and_nothing_else(gpu):
    x = tf.placeholder(tf.float32, [64, 32])
    with tf.device("/gpu:0"):
        a = tf.tanh(x) + 1.0
        b = tf.exp(-a)
    with tf.device("/cpu:0"):
        c = tf.sqrt(a) * 3.0
    with tf.device("/gpu:0"):
        d = tf.reduce_sum(tf.square(c) + b, 1)
    v = rows(64, 32)
    with tf.Session() as sess:
        sess.run(d, {x: v})
        with Counted(gpu) as seen:
            sess.run(d, {x: v})
        assert seen.nbytes == {"copy_in": 2 * v.nbytes, "copy_out": v.nbytes + 512}
    both([d, a, c], {x: v})
    both([c, b], {x: v})


def test_variables_live_on_the_device(gpu):
    v = tf.Variable(rows(100, 30), name="v")
    grow, read = tf.assign_add(v, tf.tanh(v)), v + 0.0
    want = rows(100, 30)
    with tf.Session() as sess:
        sess.run(v.initializer)
        for k in range(4):
            with Counted(gpu) as seen:
                sess.run(grow.op)
            want = want + np.tanh(want)
            assert k == 0 or not seen.nbytes  # neither there nor back
        np.testing.assert_allclose(sess.run(v), want, rtol=1e-5)
        with Counted(gpu) as seen:
            sess.run(v)
        assert not seen.nbytes  # the host has it since
        sess.run(grow.op)
        np.testing.assert_allclose(sess.run(read), want + np.tanh(want), rtol=1e-5)


def test_saved_and_restored(gpu, tmp_path):
    v = tf.Variable(rows(20, 3), name="v")
    grow, saver = tf.assign(v, v * 2.0), tf.train.Saver()
    with tf.Session() as sess:
        sess.run(v.initializer)
        sess.run(grow.op)
        sess.run(grow.op)
        path = saver.save(sess, str(tmp_path / "m"))
        sess.run(grow.op)
        saver.restore(sess, path)
        sess.run(grow.op)
        np.testing.assert_array_equal(sess.run(v), rows(20, 3) * 8)
        v.load(rows(20, 3, seed=1), sess)
        np.testing.assert_array_equal(sess.run(grow), rows(20, 3, seed=1) * 2)


@pytest.mark.parametrize("first, then", [("/cpu:0", "/gpu:0"), ("/gpu:0", "/cpu:0")])
def test_assigned_on_one_device_and_read_on_the_other(first, then):
    with tf.device(first):
        v = tf.Variable(rows(33))
        change = tf.assign(v, v * 2.0 + 1.0)
    with tf.device(then):
        read = tf.identity(v) * 3.0
    with tf.Session() as sess:
        sess.run(v.initializer)
        want = rows(33)
        for _ in range(3):
            sess.run(change.op)
            want = want * 2 + 1
            np.testing.assert_allclose(sess.run(read), want * 3, rtol=1e-6)
            np.testing.assert_allclose(sess.run([read, v])[1], want, rtol=1e-6)
        with tf.control_dependencies([change]):
            after = v.read_value() * 3.0
        want = want * 2 + 1
        np.testing.assert_allclose(sess.run(after), want * 3, rtol=1e-6)


def test_old_and_new_values_of_one_step():
    v, w = tf.Variable(rows(40)), tf.Variable(rows(40, seed=1))
    old = v + 0.0
    with tf.control_dependencies([old]):
        both([tf.assign(v, tf.exp(-tf.square(v)) + w), old, tf.assign(w, v.read_value() * 2.0)])
    both([v, tf.assign(v, v * 0.5)])


def test_values_that_change_places():
    v, w = tf.Variable(rows(40)), tf.Variable(rows(40, seed=1))
    a, b = v + 0.0, w + 0.0
    with tf.control_dependencies([a, b]):
        step = [tf.assign(v, b), tf.assign(w, a)]
    both(step)
    both([v, w])


def test_shapes_of_variables_may_change():
    v = tf.Variable(rows(4, 3), validate_shape=False)
    n = tf.placeholder(tf.int32, [])
    grow = tf.assign(v, tf.tile(v, tf.stack([n, 1])), validate_shape=False)
    found = []
    for config in (None, ON_CPU):
        with tf.Session(config=config) as sess:
            sess.run(v.initializer)
            found.append([sess.run(grow, {n: 2}), sess.run(grow * 2.0, {n: 1}), sess.run(v), sess.run(grow, {n: 3}), sess.run(v)])
    same(*found)


def test_two_sessions_have_their_own_variables():
    v = tf.Variable(rows(50))
    step = tf.assign_add(v, tf.ones([50]))
    with tf.Session() as a, tf.Session() as b:
        a.run(v.initializer), b.run(v.initializer)
        for _ in range(3):
            a.run(step.op)
        b.run(step.op)
        np.testing.assert_array_equal(a.run(v), rows(50) + 1 + 1 + 1)
        np.testing.assert_array_equal(b.run(v), rows(50) + 1)


def test_a_session_that_ends_gives_the_memory_back(gpu):
    """What stays is in the pool, which `trim` empties."""
    from graphflow.runtime.cuda import device

    (there,) = device.devices()[:1]
    w = tf.Variable(rows(20, 20))
    step = tf.train.AdamOptimizer().minimize(tf.reduce_sum(tf.tanh(tf.matmul(w, w))))
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for _ in range(3):
            sess.run(step)
        assert there.memory.stats().used
    there.synchronize()
    there.trim()
    assert there.memory.stats()[:2] == (0, 0) and gpu.calls["allocate"] == gpu.calls["free"]


# ---------------------------------------------------------------- branches and loops


def at(place):
    """The device of a body: of the host, of the GPU, or by turns."""
    return tf.device({"cpu": "/cpu:0", "gpu": "/gpu:0", "free": None}[place])


PLACES = [("gpu", "gpu"), ("cpu", "gpu"), ("gpu", "cpu"), ("cpu", "cpu"), ("free", "free")]


@pytest.mark.parametrize("one, other", PLACES)
def test_loops(one, other):
    x, n = tf.placeholder(tf.float32, [8, 16]), tf.placeholder(tf.int32, [])

    def body(i, a, s):
        with at(one):
            b = tf.tanh(a) * 1.5 + x
        with at(other):
            c = b - tf.reduce_mean(b, 1, keepdims=True)
        return i + 1, c, s + tf.reduce_sum(c * c)

    _, a, s = tf.while_loop(lambda i, a, s: i < n, body, [0, x, 0.0])
    for trips in (0, 1, 4):
        both([a, s], {x: rows(8, 16), n: trips}, rtol=1e-5)


@pytest.mark.parametrize("one, other", PLACES)
def test_branches(one, other):
    x, p = tf.placeholder(tf.float32, [8, 16]), tf.placeholder(tf.bool, [])

    def yes():
        with at(one):
            return tf.exp(x), tf.reduce_sum(x, 1)

    def no():
        with at(other):
            return x * 2.0, tf.reduce_max(x, 1)

    y, z = tf.cond(p, yes, no)
    w = y + tf.expand_dims(z, 1)
    for taken in (True, False):
        both([w, z], {x: rows(8, 16), p: taken})


def test_a_loop_that_data_end():
    x = tf.placeholder(tf.float32, [33])
    y = tf.while_loop(lambda a: tf.reduce_sum(tf.abs(a)) > 1.0, lambda a: a * 0.5, [x])
    both(y, {x: rows(33)})
    both(y, {x: rows(33) * 100})


def test_branches_in_loops_and_loops_in_branches():
    x, n = tf.placeholder(tf.float32, [20]), tf.placeholder(tf.int32, [])

    def body(i, a):
        return i + 1, tf.cond(tf.equal(i % 2, 0), lambda: tf.tanh(a) + x,
                              lambda: tf.while_loop(lambda j, b: j < i, lambda j, b: (j + 1, b * 0.9 + tf.reduce_max(b)), [0, a])[1])

    both(tf.while_loop(lambda i, a: i < n, body, [0, x])[1], {x: rows(20), n: 6}, rtol=1e-5)


def test_values_of_a_loop_change_places():
    x = tf.placeholder(tf.float32, [20])
    both(tf.while_loop(lambda i, a, b: i < 5, lambda i, a, b: (i + 1, b, a * 0.5), [0, x, tf.exp(x)])[1:], {x: rows(20)})


@pytest.mark.parametrize("place", ["cpu", "gpu", "free"])
def test_arrays_of_a_loop(place):
    x = tf.placeholder(tf.float32, [7, 12])
    with at(place):
        ta = tf.TensorArray(tf.float32, 7).unstack(x)
        _, out, _ = tf.while_loop(lambda i, o, h: i < 7, lambda i, o, h: (i + 1, o.write(i, h), tf.tanh(h + ta.read(i))),
                                  [0, tf.TensorArray(tf.float32, 7, element_shape=[12]), tf.zeros([12])])
        y = out.stack()
    both([y, *tf.gradients(tf.reduce_sum(y * y), x)], {x: rows(7, 12)}, rtol=1e-5)


def test_a_loop_copies_what_the_host_asks_for(gpu):
    """The counter is the host's; arrays that the loop fills come back once, not in each iteration."""
    x, n = tf.placeholder(tf.float32, [1000]), tf.placeholder(tf.int32, [])
    _, out, last = tf.while_loop(lambda i, *_: i < n, lambda i, o, h: (i + 1, o.write(i, h), tf.tanh(h) * 1.1),
                                 [0, tf.TensorArray(tf.float32, n, element_shape=[1000]), x])
    y = [out.stack(), last]
    with tf.Session() as sess:
        sess.run(y, {x: rows(1000), n: 4})
        moved = {}
        for trips in (4, 12):
            for _ in range(3):
                with Counted(gpu) as seen:
                    sess.run(y, {x: rows(1000), n: trips})
            moved[trips] = seen.nbytes["copy_out"]
        assert moved[12] - moved[4] < 8 * (4000 + 1000), moved  # the rows, and a few bytes an iteration


def test_variables_changed_in_a_loop():
    v = tf.Variable(rows(30))

    def body(i, s):
        with tf.control_dependencies([tf.assign_add(v, tf.ones([30]))]):
            return i + 1, s + tf.reduce_sum(v.read_value())

    both([tf.while_loop(lambda i, s: i < 4, body, [0, 0.0])[1], v], rtol=1e-5)


def test_an_endless_loop_ends_in_time(gpu):
    """Between two iterations; no variable has changed."""
    v = tf.Variable(rows(30))
    with tf.control_dependencies([tf.assign_add(v, tf.ones([30]))]):
        start = v.read_value()
    y = tf.while_loop(lambda a: tf.reduce_max(a) < 1e9, lambda a: tf.tanh(a), [start])
    with tf.Session(config=tf.ConfigProto(operation_timeout_in_ms=600)) as sess:
        sess.run(v.initializer)
        for _ in range(2):
            with pytest.raises(tf.errors.DeadlineExceededError):
                sess.run(y)
            assert gpu.counters.launches > 1  # however slow the machine is
            np.testing.assert_array_equal(sess.run(v), rows(30))
        assert sess.run(y[0] if isinstance(y, list) else y, {start: np.full(30, 2e9, np.float32)})[0] == 2e9


def test_check_2_compares_kernels_of_the_gpu(monkeypatch):
    x = tf.placeholder(tf.float32, [4, 40])
    y, z = tf.nn.softmax(x) + tf.reduce_mean(x, 1, keepdims=True), tf.while_loop(lambda a: a[0, 0] < 9.0, lambda a: a * a + 1.0, [x])
    with flags.override(check=2):
        both([y, z], {x: rows(4, 40)}, rtol=1e-5)
    real = texts.ptx_of
    monkeypatch.setattr(texts, "ptx_of", lambda source, capability: real(source.replace("* K0", "+ K0"), capability))
    with flags.override(check=2), tf.Session() as sess, pytest.raises(KernelDiffers, match=r"(?s)of times.*\* K0"):
        sess.run(tf.multiply(x, 1.5, name="times"), {x: rows(4, 40)})


def test_a_host_function_among_kernels():
    x = tf.placeholder(tf.float32, [6, 5])
    y = tf.py_func(lambda a: a[::-1].copy(), [tf.tanh(x)], tf.float32)
    y.set_shape([6, 5])
    both([tf.exp(y) + x, y, tf.tanh(x)], {x: rows(6, 5)})


def test_strings_beside_kernels():
    x = tf.placeholder(tf.float32, [3])
    both(tf.reduce_sum(tf.exp(x)), {x: rows(3)})
    with tf.Session() as sess:
        text, y = sess.run([tf.as_string(tf.floor(tf.exp(x))), tf.exp(x)], {x: rows(3)})
    assert [float(t) for t in text] == np.floor(y).tolist()


# ---------------------------------------------------------------- what programs are made of


def test_any_tensor_is_fed_and_fetched():
    x, v = tf.placeholder(tf.float32, [None, 4]), tf.Variable(rows(4))
    a = tf.exp(x)
    b = a * 2.0
    c = b + v
    both([c, b, a, x, c, v], {x: rows(3, 4)})
    both([c, a], {a: rows(3, 4)})
    both(c, {b: rows(3, 4)})


def test_input_of_the_host():
    n = tf.data.Dataset.from_tensor_slices(rows(12, 4)).batch(5).repeat().make_one_shot_iterator().get_next()
    queue = tf.FIFOQueue(10, [tf.float32], [[4]])
    put, got = queue.enqueue([tf.tanh(tf.ones([4]))]), tf.exp(queue.dequeue())
    with tf.Session() as sess:
        batches = [sess.run(tf.exp(n)) for _ in range(4)]
        sess.run(put)
        np.testing.assert_allclose(sess.run(got), np.exp(np.tanh(np.ones(4))), rtol=1e-6)
    want = np.exp(rows(12, 4))
    for found, part in zip(batches, (want[:5], want[5:10], want[10:], want[:5]), strict=True):
        np.testing.assert_allclose(found, part, rtol=1e-6)


def test_sizes_that_follow_from_data():
    x, v = tf.placeholder(tf.float32, [None, 4]), tf.Variable(rows(4))
    kept = tf.boolean_mask(tf.tanh(x), tf.reduce_sum(x, 1) > 0.0)
    both([tf.assign(v, v + tf.reduce_sum(tf.exp(kept), 0)), kept], {x: rows(20, 4)}, rtol=1e-5)


def test_prints_and_assertions_beside_kernels(capfd):
    x = tf.placeholder(tf.float32, [4])
    y = tf.Print(tf.exp(x), [tf.reduce_sum(x)], "sum ") * 2.0
    with tf.control_dependencies([tf.assert_positive(x)]):
        z = y + 1.0
    both(z, {x: np.abs(rows(4))}, runs=1)
    assert capfd.readouterr().err.count("sum [") == 2
    with tf.Session() as sess, pytest.raises(tf.errors.InvalidArgumentError, match="> 0"):
        sess.run(z, {x: -np.ones(4)})


def test_functions_over_rows():
    x = tf.placeholder(tf.float32, [6, 5])
    run = tf.scan(lambda a, r: tf.tanh(a + r), x)
    both([tf.map_fn(lambda r: tf.nn.softmax(r) * 2.0, x), run, tf.foldl(lambda a, r: a * 0.5 + r, x),
          *tf.gradients(tf.reduce_sum(tf.square(run)), x)], {x: rows(6, 5)}, rtol=1e-5)


def test_a_batch_of_nothing_changes_nothing():
    x, labels = tf.placeholder(tf.float32, [None, 12]), tf.placeholder(tf.int32, [None])
    y = tf.layers.dense(x, 5, tf.nn.relu)
    loss = tf.reduce_sum(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=y))
    step = tf.train.MomentumOptimizer(0.1, 0.9).minimize(loss)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        before = sess.run(tf.trainable_variables())
        for _ in range(3):
            assert sess.run([loss, step], {x: np.zeros((0, 12)), labels: np.zeros(0)})[0] == 0.0
        same(sess.run(tf.trainable_variables()), before)
        with pytest.raises(tf.errors.InvalidArgumentError, match="label value of 5"):
            sess.run([loss, step], {x: rows(3, 12), labels: [0, 1, 5]})
        same(sess.run(tf.trainable_variables()), before)
        sess.run(step, {x: rows(3, 12), labels: [0, 1, 4]})
        assert not np.array_equal(sess.run(tf.trainable_variables())[0], before[0])


def test_variables_without_a_value_are_as_on_the_cpu():
    v, told = tf.Variable(rows(100), name="v"), []
    y = tf.exp(v) * 2.0
    for config in (None, ON_CPU):
        with tf.Session(config=config) as sess:
            with pytest.raises(tf.errors.FailedPreconditionError) as failed:
                sess.run(y)
            told.append(str(failed.value))
            sess.run(v.initializer)
            sess.run(y)
    assert told[0] == told[1]


# ---------------------------------------------------------------- bad input: as on the CPU


def table():
    """Programs that fail at run time: name -> (fetch, feed)."""
    i32 = tf.placeholder(tf.int32, [None], name="i32")
    big, v = tf.constant(rows(50, 4)), tf.get_variable("v", initializer=rows(50, 4))
    many, zeros = rows(50, 4), np.zeros(40, np.int32)
    wrong = np.r_[np.arange(39), 77].astype(np.int32)
    yield "gather", lambda: tf.gather(big, i32, name="taken"), {i32: wrong}
    yield "gather of a negative index", lambda: tf.gather(big * 2.0, i32), {i32: -wrong}
    yield "gather_nd", lambda: tf.gather_nd(big, tf.expand_dims(i32, 1)), {i32: wrong}
    yield "floordiv", lambda: tf.floordiv(tf.fill([40], 7), i32, name="quotient"), {i32: zeros}
    yield "floormod", lambda: tf.floormod(tf.fill([40], 7), i32), {i32: zeros}
    yield "one among many", lambda: tf.exp(tf.cast(tf.fill([40], 7) // i32, tf.float32)), {i32: np.r_[1:40, 0].astype(np.int32)}
    yield "scatter_add", lambda: tf.scatter_add(v, i32, tf.ones([40, 4])), {i32: wrong}
    yield "scatter_update", lambda: tf.scatter_update(v, i32, tf.ones([40, 4])), {i32: -1 - wrong}
    yield "scatter_nd", lambda: tf.scatter_nd(tf.expand_dims(i32, 1), tf.ones([40]), [50]), {i32: wrong}
    yield "embedding", lambda: tf.assign_add(v, tf.fill([50, 4], tf.reduce_sum(tf.nn.embedding_lookup(v, i32)))), {i32: wrong}
    yield "assert", lambda: tf.assign_add(v, tf.ones_like(v) * tf.cast(_asserted(i32), tf.float32)), {i32: wrong}
    yield "finite", lambda: tf.check_numerics(tf.log(tf.cast(i32, tf.float32) - 1.0), "logs"), {i32: zeros}
    yield "array index", lambda: _row_of_array(tf.constant(many), i32[39]), {i32: wrong}
    yield "reshape", lambda: tf.reshape(tf.cast(i32, tf.float32) * 2.0, tf.stack([i32[0], -1])), {i32: zeros + 7}
    yield "in a loop", lambda: tf.while_loop(lambda k, a: k < 3, lambda k, a: (k + 1, a + tf.gather(big, i32 + k)),
                                             [0, tf.zeros([40, 4])]), {i32: wrong}
    yield "in a branch", lambda: tf.cond(i32[0] < 1, lambda: tf.gather(big, i32), lambda: tf.zeros([40, 4])), {i32: wrong}


def _asserted(i):
    with tf.control_dependencies([tf.assert_less(i, 50, message="too large")]):
        return i[0] + 1


def _row_of_array(x, k):
    return tf.TensorArray(tf.float32, 50).unstack(x).read(k) * 2.0


with tf.Graph().as_default():
    NAMES = [name for name, *_ in table()]


@pytest.mark.parametrize("name", NAMES)
def test_failing_checks_are_those_of_the_cpu(name):
    """Class, message with the op's name and the user's line, and that no variable has changed."""
    make, feeds = next((make, feeds) for found, make, feeds in table() if found == name)
    y, told = make(), []
    v = tf.get_collection(tf.GraphKeys.GLOBAL_VARIABLES)[0]
    for config in (None, ON_CPU):
        with tf.Session(config=config) as sess:
            sess.run(v.initializer)
            for _ in range(3):  # queued, recorded, replayed
                with pytest.raises(tf.errors.OpError) as failed:
                    sess.run(y, feeds)
                told.append((type(failed.value), str(failed.value), failed.value.op.name, failed.value.node_def.name))
            np.testing.assert_array_equal(sess.run(v), rows(50, 4))
    assert len(set(told)) == 1, told
    assert __file__ in told[0][1]


def test_after_a_failure_the_next_run_is_right():
    i = tf.placeholder(tf.int32, [None])
    v = tf.Variable(rows(50, 4))
    step = tf.assign_sub(v, tf.fill([50, 4], tf.reduce_sum(tf.gather(v, i))))
    good, bad, want = np.arange(40, dtype=np.int32), np.full(40, 50, np.int32), rows(50, 4)
    with tf.Session() as sess:
        sess.run(v.initializer)
        for feed in (bad, good, bad, good, good, bad, good):
            if feed is bad:
                with pytest.raises(tf.errors.InvalidArgumentError, match="50"):
                    sess.run(step, {i: feed})
            else:
                want = want - want[:40].sum(dtype=np.float32)
                np.testing.assert_allclose(sess.run(step, {i: feed}), want, rtol=1e-4)


def test_feeds_are_checked_as_on_the_cpu():
    x = tf.placeholder(tf.float32, [None, 4], name="x")
    y, told = tf.tanh(x), []
    for config in (None, ON_CPU):
        with tf.Session(config=config) as sess:
            sess.run(y, {x: np.ones((2, 4))})
            for feed in (np.ones((2, 3)), np.ones(4), "text", [[1, 2, 3, 4], [1]], np.array(None)):
                with pytest.raises(Exception) as failed:
                    sess.run(y, {x: feed})
                told.append((type(failed.value), str(failed.value)))
    assert told[:5] == told[5:]


def test_numbers_that_are_none_are_as_on_the_cpu():
    x = tf.placeholder(tf.float32, [None])
    a = np.array([np.nan, np.inf, -np.inf, 0.0, -0.0, 1e-45, -1e-40, 3.0, -2.5, 1e38], np.float32)
    y = [tf.maximum(x, 0.0), tf.minimum(x, 0.0), tf.nn.relu(x), tf.exp(x), tf.log(x), tf.sqrt(x), tf.sign(x), x * 2.0, x / x, tf.abs(x),
         tf.is_nan(x), x > 0.0, tf.equal(x, x), tf.where(x < 1.0, x, -x), tf.reduce_max(x), tf.reduce_min(x[3:]), tf.floor(x), tf.round(x),
         tf.nn.softmax(x[7:]), tf.sigmoid(x), tf.tanh(x), tf.argmax(x), tf.cast(x[3:9], tf.int32), tf.clip_by_value(x, -1.0, 1.0), -x]
    found = both(y, {x: a})
    assert all(np.isnan(found[k][0]) for k in range(10))
    with tf.Session() as sess, tf.Session(config=ON_CPU) as cpu:
        for k in (5, 6, 7, 9, 16, 17, 20, 24):  # also the signs of zeros
            np.testing.assert_array_equal(np.signbit(sess.run(y[k], {x: a})[3:5]), np.signbit(cpu.run(y[k], {x: a})[3:5]), str(y[k]))


# ---------------------------------------------------------------- faults of the device


def test_too_much_memory_is_refused_before_anything_runs():
    with emulated_gpu(memory=8 << 20) as gpu:
        v = tf.Variable(np.zeros(100, np.float32), name="v")
        x = tf.placeholder(tf.float32, [None, 1000], name="x")
        y = tf.matmul(tf.exp(x), tf.exp(x), transpose_b=True, name="product")
        step = tf.assign(v, v + 1.0)
        with tf.Session() as sess:
            sess.run(v.initializer)
            with Counted(gpu) as seen, pytest.raises(tf.errors.ResourceExhaustedError, match="MiB"):
                sess.run([y, step], {x: rows(2000, 1000)})
            assert not seen.launches
            np.testing.assert_array_equal(sess.run(v), np.zeros(100))
            assert sess.run([y, step], {x: rows(2, 1000)})[0].shape == (2, 2)


@pytest.mark.parametrize("method, name, kind", [
    ("launch", "CUDA_ERROR_ILLEGAL_ADDRESS", tf.errors.InternalError), ("launch", "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", tf.errors.OpError),
    ("synchronize", "CUDA_ERROR_ECC_UNCORRECTABLE", tf.errors.OpError), ("link", "CUDA_ERROR_INVALID_PTX", tf.errors.InternalError),
    ("allocate", "CUDA_ERROR_OUT_OF_MEMORY", tf.errors.ResourceExhaustedError)])
def test_errors_of_the_device_are_errors_of_an_op(gpu, method, name, kind):
    x = tf.placeholder(tf.float32, [64])
    y = tf.exp(tf.tanh(x) * 2.0, name="wave")
    with tf.Session() as sess:
        gpu.fail_next(method, name)
        with pytest.raises(kind) as failed:
            sess.run(y, {x: rows(64)})
    assert name in str(failed.value) or "no memory left" in str(failed.value)
    if method in ("launch", "link"):
        assert "wave" in str(failed.value) or "tanh" in str(failed.value)


@pytest.mark.filterwarnings("ignore:.*piece by piece")
def test_a_fault_in_one_run_is_not_the_end(gpu):
    x = tf.placeholder(tf.float32, [64])
    y = tf.exp(tf.tanh(x) * 2.0)
    with tf.Session() as sess:
        want = sess.run(y, {x: rows(64)})
        for method in ("launch", "launch_graph", "copy_in"):
            gpu.fail_next(method, "CUDA_ERROR_NOT_SUPPORTED")
            try:
                sess.run(y, {x: rows(64)})
            except tf.errors.OpError:
                pass
            same(sess.run(y, {x: rows(64)}), want)
            same(sess.run(y, {x: rows(64)}), want)


@pytest.mark.parametrize("method, name", [
    ("begin_capture", "CUDA_ERROR_NOT_SUPPORTED"), ("copy_in", "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"),
    ("end_capture", "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED"), ("end_capture", "CUDA_ERROR_OUT_OF_MEMORY")])
def test_what_the_driver_does_not_record_runs_piece_by_piece(gpu, method, name):
    """Slower, which is said; variables change once a run."""
    x, v = tf.placeholder(tf.float32, [64]), tf.Variable(rows(64))
    y = tf.assign_add(v, tf.exp(tf.tanh(x) * 2.0))
    with tf.Session() as sess:
        sess.run(v.initializer)
        sess.run(y.op, {x: rows(64, seed=1)})
        gpu.fail_next(method, name)
        with pytest.warns(RuntimeWarning, match=f"queued piece by piece at every run.*{'no memory left' if 'MEMORY' in name else name}"):
            sess.run(y.op, {x: rows(64, seed=1)})
        with Counted(gpu) as seen:
            sess.run(y.op, {x: rows(64, seed=1)})
        assert seen.launches and not seen.calls["launch_graph"] and not seen.calls["begin_capture"]
        same(sess.run(v), rows(64) + 3 * np.exp(np.tanh(rows(64, seed=1)) * 2), 1e-5)


def test_a_device_that_is_lost_while_it_records_is_lost(gpu):
    x = tf.placeholder(tf.float32, [64])
    with tf.Session() as sess:
        y = tf.exp(x)
        sess.run(y, {x: rows(64)})
        gpu.fail_next("end_capture", "CUDA_ERROR_ILLEGAL_ADDRESS")
        with pytest.raises(tf.errors.InternalError, match="ILLEGAL_ADDRESS.*cannot be used until this process ends"):
            sess.run(y, {x: rows(64)})


def test_ctrl_c_while_the_device_works(gpu, monkeypatch):
    """Host and device agree on what variables hold."""
    v = tf.Variable(rows(40))
    step, real = tf.assign(v, v * 2.0), gpu.synchronize
    with tf.Session() as sess:
        sess.run(v.initializer)
        sess.run(step.op)

        def interrupted(stream):
            monkeypatch.setattr(gpu, "synchronize", real)
            real(stream)
            raise KeyboardInterrupt

        for factor in (4, 8, 16):
            monkeypatch.setattr(gpu, "synchronize", interrupted)
            with pytest.raises(KeyboardInterrupt):
                sess.run(step.op)
            np.testing.assert_array_equal(sess.run(v), rows(40) * factor)


# ---------------------------------------------------------------- threads, and what is told


def test_threads_share_a_session(gpu):
    x = tf.placeholder(tf.float32, [None])
    v = tf.Variable(np.zeros(40, np.float32))
    y, step = tf.reduce_sum(tf.exp(x) * 2.0), tf.assign_add(v, tf.ones([40]))
    failed = []
    with tf.Session() as sess:
        sess.run(v.initializer)

        def work(seed):
            try:
                for k in range(6):
                    a = rows(20 + 5 * (k % 2), seed=seed)
                    np.testing.assert_allclose(sess.run(y, {x: a}), 2 * np.exp(a).sum(), rtol=1e-5)
                    sess.run(step.op)
            except BaseException as e:
                failed.append(e)

        threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
        assert not failed
        np.testing.assert_array_equal(sess.run(v), np.full(40, 24.0))


def test_devices_are_told():
    x = tf.placeholder(tf.float32, [64, 4])
    with tf.device("/gpu:0"):
        a = tf.exp(x)
    with tf.device("/cpu:0"):
        b = tf.reduce_sum(a, 1)
    explained = tf.explain(b, {x: rows(64, 4)})
    (kernel,) = [k for k in explained.kernels if k.kind == "kernel (GPU)"]
    assert kernel.flops >= 64 * 4 and "exp" in kernel.ir
    with tf.device("/gpu:0"):
        product = tf.explain(tf.matmul(x, x, transpose_b=True), {x: rows(64, 4)})
    assert sum(k.flops for k in product.kernels) == 2 * 64 * 64 * 4
    told = str(explained)
    assert "kernel (GPU)" in told and "they run on different devices" in told
    run = tf.RunMetadata()
    with tf.Session() as sess:
        sess.run(b, {x: rows(64, 4)}, options=tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE), run_metadata=run)
    assert [d.device[-5:] for d in run.step_stats.dev_stats] == ["CPU:0", "GPU:0"]
    trace = json.loads(Timeline(run.step_stats).generate_chrome_trace_format())["traceEvents"]
    start, arrival = [e for e in trace if e.get("cat") == "DataFlow"]
    assert start["pid"] == 1 and arrival["pid"] == 0 and start["id"] == arrival["id"]


@pytest.mark.parametrize("factor", [tf.cholesky, tf.matrix_inverse])
def test_a_matrix_without_a_factor_changes_no_variable(factor):
    """The update is ready before the factor, and waits for it."""
    a, v = tf.placeholder(tf.float64, [2, 2]), tf.Variable(1.0)
    with tf.control_dependencies([v.assign_add(1.0)]):
        both = tf.identity(factor(a * 2.0))
    with tf.Session() as sess:
        sess.run(v.initializer)
        for _ in range(2):
            with pytest.raises(tf.errors.InvalidArgumentError):
                sess.run(both, {a: -np.ones((2, 2))})
        sess.run(both, {a: np.eye(2)})
        assert sess.run(v) == 2.0


def test_a_step_that_takes_too_long_is_stopped_before_it_changes_a_variable(gpu):
    """Though all of it is one segment."""
    v, x = tf.get_variable("v", initializer=1.0), tf.placeholder(tf.float32, [8, 8])
    y = x
    for _ in range(60):
        y = tf.matmul(y, x)
    step, feed = [tf.reduce_sum(y), v.assign_add(1.0)], {x: np.zeros((8, 8))}
    with tf.Session() as sess:
        sess.run(v.initializer)
        sess.run(step, feed)
        launches = gpu.counters.launches
        sess.run(step, feed)
        whole, launches = gpu.counters.launches - launches, gpu.counters.launches
        for _ in range(2):
            with pytest.raises(tf.errors.DeadlineExceededError, match="no variable has changed"):
                sess.run(step, feed, options=tf.RunOptions(timeout_in_ms=1))
        assert gpu.counters.launches - launches <= 2 * whole and sess.run(v) == 3.0
        graphs = gpu.calls["launch_graph"]
        sess.run(step, feed, options=tf.RunOptions(timeout_in_ms=1_000_000))
        assert sess.run(v) == 4.0 and gpu.calls["launch_graph"] > graphs


def test_times_are_those_of_the_device_that_worked():
    x, run = tf.placeholder(tf.float32, [64, 4]), tf.RunMetadata()
    with emulated_gpu(2), tf.Session() as sess:
        with tf.device("/gpu:1"):
            a = tf.exp(x)
        sess.run(a, {x: rows(64, 4)}, options=tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE), run_metadata=run)
    assert [d.device for d in run.step_stats.dev_stats] == ["/job:localhost/replica:0/task:0/device:GPU:1"]


# ---------------------------------------------------------------- training, side by side


def mlp(optimizer):
    x, labels = tf.placeholder(tf.float32, [None, 12]), tf.placeholder(tf.int32, [None])
    h = tf.layers.dense(x, 16, tf.nn.relu, kernel_initializer=tf.random_normal_initializer(seed=1))
    y = tf.layers.dense(h, 5, kernel_initializer=tf.random_normal_initializer(seed=2))
    loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=y))
    return loss, {x: rows(20, 12), labels: np.arange(20) % 5}


def cnn(optimizer):
    x, labels = tf.placeholder(tf.float32, [None, 8, 8, 2]), tf.placeholder(tf.int32, [None])
    h = tf.layers.conv2d(x, 4, 3, padding="same", activation=tf.nn.relu, kernel_initializer=tf.random_normal_initializer(seed=1))
    h = tf.layers.max_pooling2d(h, 2, 2)
    h = tf.layers.batch_normalization(h, training=True)
    h = tf.nn.dropout(tf.layers.flatten(h), keep_prob=0.8, seed=3)
    y = tf.layers.dense(h, 3, kernel_initializer=tf.random_normal_initializer(seed=2))
    loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=y)) + tf.nn.l2_loss(y) * 1e-3
    return loss, {x: rows(6, 8, 8, 2), labels: np.arange(6) % 3}


def lstm(optimizer):
    x = tf.placeholder(tf.float32, [None, 5, 3])
    cell = tf.nn.rnn_cell.LSTMCell(6, initializer=tf.random_uniform_initializer(-0.5, 0.5, seed=3))
    out, _ = tf.nn.dynamic_rnn(cell, x, dtype=tf.float32)
    return tf.reduce_mean(tf.square(out - 0.5)), {x: rows(4, 5, 3)}


def block(optimizer):
    x = tf.placeholder(tf.float32, [None, 33, 8])  # as many scores as are worth an attention
    q, k, v = (tf.layers.dense(x, 8, use_bias=False, kernel_initializer=tf.random_normal_initializer(stddev=0.5, seed=s)) for s in range(3))
    a = tf.matmul(tf.nn.softmax(tf.matmul(q, k, transpose_b=True) / 8.0 ** 0.5), v) + x
    mean, variance = tf.nn.moments(a, [-1], keep_dims=True)
    gamma, beta = tf.Variable(tf.ones([8])), tf.Variable(tf.zeros([8]))
    h = (a - mean) * tf.rsqrt(variance + 1e-6) * gamma + beta
    return tf.reduce_mean(tf.square(tf.layers.dense(h, 8, tf.tanh, kernel_initializer=tf.random_normal_initializer(seed=9)) - x)), {
        x: rows(2, 33, 8)}


def embedding(optimizer):
    ids = tf.placeholder(tf.int32, [None, 4])
    table = tf.Variable(rows(30, 6))
    h = tf.reduce_mean(tf.nn.embedding_lookup(table, ids), 1)
    y = tf.layers.dense(h, 2, kernel_initializer=tf.random_normal_initializer(seed=2))
    return tf.reduce_mean(tf.square(y - 1.0)), {ids: np.random.default_rng(0).integers(0, 30, (10, 4))}


OPTIMIZERS = {"sgd": lambda: tf.train.GradientDescentOptimizer(0.1), "momentum": lambda: tf.train.MomentumOptimizer(0.05, 0.9),
              "adam": lambda: tf.train.AdamOptimizer(0.01)}


@pytest.mark.parametrize("model, optimizer", [(mlp, "adam"), (mlp, "sgd"), (cnn, "momentum"), (lstm, "adam"), (block, "adam"),
                                              (embedding, "sgd"), (embedding, "adam"), (embedding, "momentum")])
def test_training_is_that_of_the_cpu(model, optimizer):
    losses, weights = [], []
    for config in (None, ON_CPU):
        with tf.Graph().as_default(), tf.Session(config=config) as sess, flags.override(interpret=int(config is ON_CPU)):
            loss, feeds = model(optimizer)
            step = OPTIMIZERS[optimizer]().minimize(loss)
            sess.run(tf.global_variables_initializer())
            if model is block and config is None:
                assert "# attention gradient of keys f32" in "".join(k.source for k in tf.explain(step, feeds, sess).kernels)
            losses.append([sess.run([loss, step], feeds)[0] for _ in range(4)])
            weights.append(sess.run(tf.trainable_variables()))
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-5)
    assert losses[0][-1] < losses[0][0]
    same(weights[0], weights[1], 2e-4)


def test_loops_of_known_length_are_one_graph(monkeypatch):
    """The host waits once a step, however often a recurrent network goes round; a loop whose end depends on data still stops there."""
    x = tf.placeholder(tf.float32, [2, None, 3])
    outputs, _ = tf.nn.dynamic_rnn(tf.nn.rnn_cell.GRUCell(4), x, dtype=tf.float32)
    loss = tf.reduce_mean(tf.square(outputs))
    slopes = tf.gradients(loss, tf.trainable_variables())
    _, grown = tf.while_loop(lambda i, z: tf.reduce_sum(z) < 100.0, lambda i, z: (i + 1, z * 1.5 + 1), [0, tf.abs(x[0, 0])])
    rng = np.random.default_rng(5)
    feeds = [{x: rng.standard_normal((2, n, 3)).astype(np.float32)} for n in (5, 9)]
    waits = []

    def results(gpu=None):
        with tf.Session(config=tf.ConfigProto(device_count={"GPU": int(gpu is not None)})) as sess:
            sess.run([v.assign(0.3 * np.ones(v.shape.as_list())) for v in tf.trainable_variables()])
            found = []
            for turn in range(3):
                for feed in feeds:
                    waits.clear()
                    found.append(sess.run([loss, *slopes], feed))
                    assert gpu is None or turn == 0 or len(waits) == 1
                    found.append([sess.run(grown, feed)])
            return found

    wanted = results()
    with emulated_gpu() as gpu:
        wait = gpu.synchronize
        monkeypatch.setattr(gpu, "synchronize", lambda stream: (waits.append(stream), wait(stream))[1])
        for a, b in zip(results(gpu), wanted, strict=True):
            for u, v in zip(a, b, strict=True):
                np.testing.assert_allclose(u, v, rtol=2e-5, atol=1e-6)


# ---------------------------------------------------------------- random programs


def spread(lines, rng):
    """Lines of a program on the CPU, the GPU or wherever, by turns."""
    def one(line):
        device = rng.choice(["/cpu:0", "/gpu:0", None])
        stays = device is None or any(word in line for word in ("\n", "Variable", "assign", "scatter_"))
        return line if stays else f"with tf.device({device!r}): {line}"

    return [one(line) for line in lines]


@pytest.mark.parametrize("seed", range(graphs.BIG or 12))
def test_random_programs(seed):
    """Those of tests/test_random_graphs.py: half of them with loops and branches, a quarter on both devices."""
    rng = random.Random(seed)
    p = graphs.Maker(rng, 3 + seed % 8, control=seed % 2 == 1).p
    p.seed = seed
    if seed % 4 == 3:
        p.lines = spread(p.lines, rng)
    graphs.checked(p, graphs.compare)
