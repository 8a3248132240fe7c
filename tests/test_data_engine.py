"""How `tf.data` runs functions: many rows at once, op by op on the host, in threads; with tables, in other processes, over time."""
from __future__ import annotations

import gc
import os
import threading
import time

import numpy as np
import pytest

import graphflow as tf
from graphflow.data import streams, vectorize
from graphflow.data.dataset import Run

Dataset = tf.data.Dataset


@pytest.fixture(autouse=True)
def fresh():
    with tf.Graph().as_default():
        yield


def run(dataset):
    session = tf.Session()
    found = list(dataset.stream(Run({}, session.store)))
    return [np.stack(x) for x in zip(*found)]


IMAGES = np.random.RandomState(0).randint(0, 256, (9, 4, 3)).astype(np.uint8)
LABELS = np.arange(9, dtype=np.int32) % 4
FUNCTIONS = {
    "casts and arithmetic": (True, lambda x, y: (tf.cast(x, tf.float32) / 255.0 - 0.5, y + 1)),
    "one_hot": (True, lambda x, y: (x, tf.one_hot(y, 4))),
    "one_hot first": (True, lambda x, y: tf.one_hot([0, 1] + y * tf.ones([2], tf.int32), 4, axis=0)),
    "shapes": (True, lambda x, y: (tf.reshape(x, [2, 6]), tf.expand_dims(x, -1), tf.transpose(x, [1, 0]),
                                   tf.squeeze(tf.reshape(x, [1, 12])))),
    "a scalar with a matrix": (True, lambda x, y: tf.cast(x, tf.float32) * tf.cast(y, tf.float32) + tf.constant([1.0, 2.0, 3.0])),
    "constants": (True, lambda x, y: (tf.constant([1, 2]), y, 7)),
    "transcendental": (True, lambda x, y: tf.exp(tf.cast(x, tf.float32) / 300) * tf.tanh(tf.cast(y, tf.float32))),
    "comparison and choice": (True, lambda x, y: tf.where(x > 100, x, tf.zeros_like(x))),
    "nothing": (True, lambda x, y: (y, x)),
    "a sum": (False, lambda x, y: tf.reduce_sum(tf.cast(x, tf.float32))),
    "a division that may fail": (False, lambda x, y: 7 // (y + 1)),
    "random": (False, lambda x, y: tf.random_uniform([2], seed=1)),
    "a shape of data": (False, lambda x, y: tf.reshape(x, tf.stack([2, -1])) + tf.cast(tf.size(tf.where(x < 0)), tf.uint8)),
    "python": (False, lambda x, y: tf.py_func(lambda v: v * 2, [y], tf.int32)),
}


@pytest.mark.parametrize("name", FUNCTIONS)
def test_many_rows_give_the_bits_of_one_by_one(name):
    wanted, f = FUNCTIONS[name]
    dataset = Dataset.from_tensor_slices((IMAGES, LABELS))
    mapped = dataset.map(f)
    assert (vectorize.rows_at_once(mapped.functions[0], Run({})) is not None) == wanted
    one_by_one = run(dataset.filter(lambda x, y: True).map(f))  # no table, so no rows at once
    batched = [np.concatenate(x) for x in zip(*mapped.batch(4).stream(Run({})))]
    assert (mapped.stream(Run({})).table is not None) == wanted
    assert len(batched) == len(one_by_one)
    for a, b in zip(batched, one_by_one):
        assert a.dtype == b.dtype
        np.testing.assert_array_equal(a, b)
    for a, b in zip(run(mapped), one_by_one):
        np.testing.assert_array_equal(a, b)


def test_rows_are_gathered_behind_every_reordering():
    data = Dataset.zip((Dataset.from_tensor_slices(IMAGES), Dataset.range(9)))
    s = data.shuffle(5, seed=1).map(lambda x, i: (x, i * 10)).repeat(2).skip(1).take(12).shard(2, 0).batch(4).stream(Run({}))
    assert isinstance(s, streams.Batch) and s.inputs[0].table is not None
    for images, numbers in s:
        np.testing.assert_array_equal(images, IMAGES[numbers // 10])


def test_functions_of_the_host_alone_run_op_by_op():
    light = Dataset.range(3).map(lambda v: tf.reshape(tf.py_func(lambda a: a + 1, [v], tf.int64), [1])).functions[0]
    heavy = Dataset.range(3).map(lambda v: tf.reduce_sum(tf.py_func(lambda a: a + 1, [v], tf.int64))).functions[0]
    assert (light.light, heavy.light) == (True, False)


def test_what_a_function_compiles_is_shared_by_passes_and_threads():
    f = Dataset.range(3).map(lambda v: tf.cast(v, tf.float32) * 2).functions[0]
    first = [f.worker(Run({})) for _ in range(3)]
    assert len({id(w.step.variants) for w in first}) == 1
    assert len({id(w.step.store) for w in first}) == 3


def test_a_function_with_a_table_of_rows_inside_a_function():
    table = tf.constant(IMAGES[:, 0, 0].astype(np.int64))
    nested = Dataset.range(3).flat_map(lambda a: Dataset.range(2).flat_map(lambda b: Dataset.from_tensors(tf.gather(table, a) + b + a)))
    expected = [int(IMAGES[a, 0, 0]) + b + a for a in range(3) for b in range(2)]
    assert [int(x) for x, in nested.stream(Run({}))] == expected


def test_threads_end_with_their_iterator():
    before = set(threading.enumerate())

    def new():
        return [t for t in set(threading.enumerate()) - before if t.name in ("graphflow-data", "graphflow-prefetch")]

    numbers = Dataset.range(10**9).filter(lambda v: v > 1)
    fetch = numbers.map(lambda v: v + 1, num_parallel_calls=3).prefetch(4).make_one_shot_iterator().get_next()
    with tf.Session() as sess:
        sess.run(fetch)
        assert len(new()) == 4
    left_open = tf.Session()
    left_open.run(fetch)
    assert new()
    del left_open
    end = time.monotonic() + 20
    while new() and time.monotonic() < end:
        gc.collect()
        time.sleep(0.02)
    assert not new()


def test_starting_anew_ends_what_was_going_on():
    closed = []

    def generate():
        try:
            yield from range(100)
        finally:
            closed.append(1)

    iterator = Dataset.from_generator(generate, tf.int64, []).make_initializable_iterator()
    fetch = iterator.get_next()
    with tf.Session() as sess:
        for count in range(3):
            sess.run(iterator.initializer)
            assert len(closed) == count
            assert [sess.run(fetch), sess.run(fetch)] == [0, 1]


@pytest.mark.skipif(not hasattr(os, "fork"), reason="needs fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_reads_on():
    fetch = Dataset.range(1000).map(lambda v: v * 2, num_parallel_calls=2).prefetch(3).make_one_shot_iterator().get_next()
    with tf.Session() as sess:
        assert sess.run(fetch) == 0
        time.sleep(0.1)
        read, write = os.pipe()
        child = os.fork()
        if not child:
            os.write(write, b"%d" % sess.run(fetch))
            os._exit(0)
        os.close(write)
        os.waitpid(child, 0)
        assert os.read(read, 10) == b"2"
        assert sess.run(fetch) == 2


def test_the_time_limit_of_a_step_holds_while_it_waits_for_data():
    def generate():
        yield 1
        time.sleep(5)
        yield 2

    fetch = Dataset.from_generator(generate, tf.int64, []).prefetch(1).make_one_shot_iterator().get_next()
    with tf.Session(config=tf.ConfigProto(operation_timeout_in_ms=200)) as sess:
        assert sess.run(fetch) == 1
        start = time.monotonic()
        with pytest.raises(tf.errors.DeadlineExceededError):
            sess.run(fetch)
        assert time.monotonic() - start < 3


def test_a_variable_assigned_in_a_function_keeps_its_value():
    total = tf.Variable(0, dtype=tf.int64)
    dataset = Dataset.range(5).map(lambda v: tf.assign_add(total, v))
    fetch = dataset.make_initializable_iterator()
    value = fetch.get_next()
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        sess.run(fetch.initializer)
        assert [int(sess.run(value)) for _ in range(5)] == [0, 1, 3, 6, 10]
        assert sess.run(total) == 10


numbers = Dataset.range


def filled(*bounds):
    """Vectors [n, n, ...] of n numbers."""
    return numbers(*bounds).map(lambda v: tf.fill([v], v))


CONTRIB = {
    "batch_and_drop_remainder": (lambda c: numbers(5).apply(c.batch_and_drop_remainder(2)), [[0, 1], [2, 3]]),
    "padded_batch_and_drop_remainder": (lambda c: filled(1, 4).apply(c.padded_batch_and_drop_remainder(2, [None], np.int64(-1))),
                                        [[[1, -1], [2, 2]]]),
    "sliding_window_batch": (lambda c: numbers(7).apply(c.sliding_window_batch(3, window_shift=2)), [[0, 1, 2], [2, 3, 4], [4, 5, 6]]),
    "sliding_window_batch, older": (lambda c: numbers(6).apply(c.sliding_window_batch(2, stride=3)), [[0, 1], [3, 4]]),
    "sliding_window_batch with gaps": (lambda c: numbers(6).apply(c.sliding_window_batch(2, 1, window_stride=3)),
                                       [[0, 3], [1, 4], [2, 5]]),
    "assert_element_shape": (lambda c: filled(2, 3).apply(c.assert_element_shape([2])), [[2, 2]]),
    "map_and_batch": (lambda c: numbers(3).apply(c.map_and_batch(lambda v: v + 1, 2, num_parallel_batches=2)), [[1, 2], [3]]),
    "unbatch": (lambda c: numbers(3).batch(2).apply(c.unbatch()), [0, 1, 2]),
    "group_by_window": (lambda c: numbers(4).apply(c.group_by_window(lambda v: v % 2, lambda k, d: d.batch(2), 2)), [[0, 2], [1, 3]]),
}


@pytest.mark.parametrize("name", CONTRIB)
def test_contrib(name):
    make, expected = CONTRIB[name]
    assert [x.tolist() for x, in make(tf.contrib.data).stream(Run({}))] == expected


def test_contrib_of_whole_data_sets():
    c = tf.contrib.data
    mean = c.Reducer(lambda key: (np.float32(0), np.float32(0)), lambda s, v: (s[0] + tf.cast(v, tf.float32), s[1] + 1),
                     lambda s, n: s / n)
    with tf.Session() as sess:
        assert sess.run(c.reduce_dataset(Dataset.range(5), mean)) == 2.0
    with pytest.raises(ValueError, match="both"):
        c.sliding_window_batch(2, stride=1, window_shift=1)
    wrong = Dataset.range(3).map(lambda v: tf.fill([v], v)).apply(c.assert_element_shape([2])).make_one_shot_iterator().get_next()
    assert wrong.shape.as_list() == [2]
    with tf.Session() as sess, pytest.raises(tf.errors.InvalidArgumentError):
        sess.run(wrong)


def test_the_interpreter_gives_the_same_elements():
    from graphflow.flags import flags

    dataset = Dataset.range(6).map(lambda v: (v * 2, tf.random_uniform([], seed=4))).batch(4)
    compiled = run(Dataset.range(6).map(lambda v: (v * 2, tf.random_uniform([], seed=4))))
    with flags.override(interpret=1):
        interpreted = [np.concatenate(x) for x in zip(*dataset.stream(Run({})))]
    np.testing.assert_array_equal(interpreted[0], compiled[0])
    np.testing.assert_allclose(interpreted[1], compiled[1], rtol=1e-6)
