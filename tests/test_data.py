"""`tf.data`: the elements of every transformation, iterators, errors, seeds, threads.

Expected values are those of TensorFlow 2.21's compat.v1.
"""
from __future__ import annotations

import collections
import gzip
import itertools
import threading
import time

import numpy as np
import pytest

import graphflow as tf

Dataset = tf.data.Dataset
Pair = collections.namedtuple("Pair", "first second")


@pytest.fixture(autouse=True)
def fresh():
    with tf.Graph().as_default():
        yield


def plain(value):
    if isinstance(value, (tf.SparseTensorValue, tf.compat.v1.SparseTensorValue)):
        return "sparse", plain(value.indices), plain(value.values), plain(value.dense_shape)
    if isinstance(value, tuple) and hasattr(value, "_fields"):
        return type(value)(*map(plain, value))
    if isinstance(value, (tuple, list)):
        return type(value)(map(plain, value))
    if isinstance(value, dict):
        return {k: plain(v) for k, v in value.items()}
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value


def elements(dataset, most=100, feed=None):
    """The elements as plain Python, at most so many."""
    iterator = tf.data.make_initializable_iterator(dataset)
    fetch, out = iterator.get_next(), []
    with tf.Session() as sess:
        sess.run(iterator.initializer, feed)
        try:
            while len(out) < most:
                out.append(plain(sess.run(fetch)))
        except tf.errors.OutOfRangeError:
            pass
    return out


def numbers(n, *more):
    return Dataset.range(n, *more)


x = tf.data.experimental
SLICES = {"a": np.arange(6).reshape(3, 2), "b": ["x", "yy", "z"]}
RAGGED = lambda n: numbers(n).map(lambda i: tf.fill([i], i))  # noqa: E731
B = lambda *s: [v.encode() for v in s]  # noqa: E731

TABLE = {
    "range": (lambda: numbers(4), [0, 1, 2, 3]),
    "range of three": (lambda: numbers(10, 2, -3), [10, 7, 4]),
    "range that is empty": (lambda: numbers(3, 3), []),
    "from_tensors": (lambda: Dataset.from_tensors((np.float32(1), [1, 2])), [(1.0, [1, 2])]),
    "from_tensor_slices": (lambda: Dataset.from_tensor_slices([[1, 2], [3, 4]]), [[1, 2], [3, 4]]),
    "slices of a dict": (lambda: Dataset.from_tensor_slices(SLICES), [{"a": [0, 1], "b": b"x"}, {"a": [2, 3], "b": b"yy"},
                                                                      {"a": [4, 5], "b": b"z"}]),
    "slices of a named tuple": (lambda: Dataset.from_tensor_slices(Pair([1, 2], ([3.5, 4.5],))), [Pair(1, (3.5,)), Pair(2, (4.5,))]),
    "slices of tensors": (lambda: Dataset.from_tensor_slices((tf.range(3) * 2, tf.zeros([3]))), [(0, 0.0), (2, 0.0), (4, 0.0)]),
    "slices of a sparse tensor": (lambda: Dataset.from_tensor_slices(tf.SparseTensor([[0, 1], [1, 0], [1, 2]], [5, 6, 7], [3, 3])),
                                  [("sparse", [[1]], [5], [3]), ("sparse", [[0], [2]], [6, 7], [3]), ("sparse", [], [], [3])]),
    "from_sparse_tensor_slices": (lambda: Dataset.from_sparse_tensor_slices(tf.SparseTensor([[0, 1], [1, 0], [1, 2]], [5, 6, 7], [3, 3])),
                                  [([[1]], [5], [3]), ([[0], [2]], [6, 7], [3]), ([], [], [3])]),
    "from_generator": (lambda: Dataset.from_generator(lambda: iter([1, 2]), tf.int64), [1, 2]),
    "generator of a structure": (lambda: Dataset.from_generator(lambda: ((i, {"s": "ab"[:i]}) for i in range(2)),
                                                                (tf.int32, {"s": tf.string})), [(0, {"s": b""}), (1, {"s": b"a"})]),
    "generator with arguments": (lambda: Dataset.from_generator(lambda n, s: (s * i for i in range(n)), tf.string,
                                                                args=(tf.constant(3), "a")), B("", "a", "aa")),
    "zip": (lambda: Dataset.zip((numbers(3), {"k": numbers(5, 9)})), [(0, {"k": 5}), (1, {"k": 6}), (2, {"k": 7})]),
    "zip and shuffle": (lambda: Dataset.zip((numbers(3), numbers(5, 9))).shuffle(1).batch(2, True), [([0, 1], [5, 6])]),
    "concatenate": (lambda: numbers(2).concatenate(numbers(7, 9)), [0, 1, 7, 8]),
    "repeat": (lambda: numbers(2).repeat(3), [0, 1] * 3),
    "repeat 0": (lambda: numbers(2).repeat(0), []),
    "repeat without end": (lambda: numbers(2).repeat().take(5), [0, 1, 0, 1, 0]),
    "repeat of nothing": (lambda: numbers(0).repeat(), []),
    "take": (lambda: numbers(5).take(2), [0, 1]),
    "take all": (lambda: numbers(3).take(-1), [0, 1, 2]),
    "skip": (lambda: numbers(5).skip(3), [3, 4]),
    "skip all": (lambda: numbers(3).skip(-1), []),
    "shard": (lambda: numbers(10).shard(4, 1), [1, 5, 9]),
    "enumerate": (lambda: Dataset.from_tensor_slices(["a", "b"]).enumerate(5), [(5, b"a"), (6, b"b")]),
    "map": (lambda: numbers(3).map(lambda v: v * v), [0, 1, 4]),
    "map of a tuple": (lambda: Dataset.zip((numbers(2), numbers(5, 9))).map(lambda a, b: (b, a + b)), [(5, 5), (6, 7)]),
    "map of a dict": (lambda: Dataset.from_tensor_slices({"a": [1, 2]}).map(lambda d: {"b": d["a"] + 1, "c": d["a"]}),
                      [{"b": 2, "c": 1}, {"b": 3, "c": 2}]),
    "map to a list": (lambda: numbers(2).map(lambda v: [v, tf.cast(v, tf.float32)]), [(0, 0.0), (1, 1.0)]),
    "map to a constant": (lambda: numbers(2).map(lambda v: ("c", 1.5)), [(b"c", 1.5)] * 2),
    "map in threads": (lambda: numbers(50).map(lambda v: v + 1, num_parallel_calls=4), list(range(1, 51))),
    "map to sparse": (lambda: numbers(2).map(lambda v: tf.SparseTensor([[0]], [v], [2])), [("sparse", [[0]], [0], [2]),
                                                                                          ("sparse", [[0]], [1], [2])]),
    "map with a branch": (lambda: numbers(4).map(lambda v: tf.cond(v > 1, lambda: v * 10, lambda: -v)), [0, -1, 20, 30]),
    "map with a loop": (lambda: numbers(4).map(lambda v: tf.while_loop(
        lambda i, s: i < v, lambda i, s: (i + 1, s + i), [tf.constant(0, tf.int64), tf.constant(0, tf.int64)])[1]), [0, 0, 1, 3]),
    "map of py_func": (lambda: numbers(3).map(lambda v: tf.py_func(lambda a: a * 2, [v], tf.int64)), [0, 2, 4]),
    "map of an outer tensor": (lambda: (lambda t: numbers(3).map(lambda v: v + t))(tf.size([1, 2, 3], out_type=tf.int64)), [3, 4, 5]),
    "flat_map": (lambda: numbers(4).flat_map(lambda n: numbers(n).map(lambda v: v + n)), [1, 2, 3, 3, 4, 5]),
    "flat_map of outer datasets": (lambda: (lambda d: numbers(2).flat_map(lambda n: d))(numbers(7, 9)), [7, 8, 7, 8]),
    "interleave": (lambda: numbers(1, 5).interleave(lambda n: Dataset.from_tensors(n).repeat(4), cycle_length=2, block_length=3),
                   [1, 1, 1, 2, 2, 2, 1, 2, 3, 3, 3, 4, 4, 4, 3, 4]),
    "interleave in threads": (lambda: numbers(1, 5).interleave(lambda n: Dataset.from_tensors(n).repeat(4), 2, 3, num_parallel_calls=2),
                              [1, 1, 1, 2, 2, 2, 1, 2, 3, 3, 3, 4, 4, 4, 3, 4]),
    "interleave of one": (lambda: numbers(3).interleave(lambda n: numbers(n), cycle_length=1), [0, 0, 1]),
    "filter": (lambda: numbers(6).filter(lambda v: tf.equal(v % 2, 0)), [0, 2, 4]),
    "filter of a tuple": (lambda: numbers(3).enumerate().filter(lambda i, v: v > 0), [(1, 1), (2, 2)]),
    "batch": (lambda: numbers(5).batch(2), [[0, 1], [2, 3], [4]]),
    "batch that drops": (lambda: numbers(5).batch(2, drop_remainder=True), [[0, 1], [2, 3]]),
    "batch of strings": (lambda: Dataset.from_generator(lambda: iter("abc"), tf.string).batch(2), [B("a", "b"), B("c")]),
    "batch of a batch": (lambda: numbers(5).batch(2, True).batch(2), [[[0, 1], [2, 3]]]),
    "batch over repeats": (lambda: numbers(3).repeat(2).batch(4), [[0, 1, 2, 0], [1, 2]]),
    "batch of sparse": (lambda: numbers(3).map(lambda v: tf.SparseTensor([[v]], [v], [v + 1])).batch(2),
                        [("sparse", [[0, 0], [1, 1]], [0, 1], [2, 2]), ("sparse", [[0, 2]], [2], [1, 3])]),
    "padded_batch": (lambda: RAGGED(4).padded_batch(3, [None]), [[[0, 0], [1, 0], [2, 2]], [[3, 3, 3]]]),
    "padded_batch with values": (lambda: RAGGED(3).map(lambda v: (v, tf.size(v))).padded_batch(
        3, ([4], []), (tf.constant(-1, tf.int64), 0)), [([[-1] * 4, [1, -1, -1, -1], [2, 2, -1, -1]], [0, 1, 2])]),
    "padded_batch of strings": (lambda: Dataset.from_generator(lambda: iter([["a"], ["b", "c"]]), tf.string, [None]).padded_batch(2, [-1]),
                                [[B("a", ""), B("b", "c")]]),
    "padded_batch that drops": (lambda: RAGGED(3).padded_batch(2, [None], drop_remainder=True), [[[0], [1]]]),
    "window": (lambda: numbers(7).window(3).flat_map(lambda w: w.batch(3)), [[0, 1, 2], [3, 4, 5], [6]]),
    "window with shift": (lambda: numbers(6).window(3, 1, 2, True).flat_map(lambda w: w.batch(3)), [[0, 2, 4], [1, 3, 5]]),
    "window with gaps": (lambda: numbers(9).window(2, 4).flat_map(lambda w: w.batch(2)), [[0, 1], [4, 5], [8]]),
    "window of tuples": (lambda: Dataset.zip((numbers(4), numbers(10, 14))).window(2).flat_map(
        lambda a, b: Dataset.zip((a.batch(2), b.batch(2)))), [([0, 1], [10, 11]), ([2, 3], [12, 13])]),
    "unbatch": (lambda: Dataset.from_tensors(([1, 2], [[3], [4]])).unbatch(), [(1, [3]), (2, [4])]),
    "cache": (lambda: numbers(3).map(lambda v: v + 1).cache().repeat(2), [1, 2, 3, 1, 2, 3]),
    "prefetch": (lambda: numbers(5).map(lambda v: v * 2).prefetch(2), [0, 2, 4, 6, 8]),
    "shuffle, then count": (lambda: numbers(20).shuffle(7).batch(20).map(lambda v: tf.size(tf.unique(v)[0])), [20]),
    "shuffle of a small buffer": (lambda: numbers(5).shuffle(1), [0, 1, 2, 3, 4]),
    "apply": (lambda: numbers(4).apply(lambda d: d.skip(2)), [2, 3]),
    "shuffle_and_repeat": (lambda: numbers(3).apply(x.shuffle_and_repeat(1, 2)), [0, 1, 2] * 2),
    "map_and_batch": (lambda: numbers(5).apply(x.map_and_batch(lambda v: v + 1, 2, num_parallel_calls=2)), [[1, 2], [3, 4], [5]]),
    "parallel_interleave": (lambda: numbers(3).apply(x.parallel_interleave(lambda n: numbers(n + 1), cycle_length=3)), [0, 0, 0, 1, 1, 2]),
    "unbatch function": (lambda: numbers(4).batch(3).apply(x.unbatch()), [0, 1, 2, 3]),
    "ignore_errors": (lambda: Dataset.from_tensor_slices([1.0, 2.0, 0.0, 4.0]).map(lambda v: tf.check_numerics(1 / v, "bad")).apply(
        x.ignore_errors()), [1.0, 0.5, 0.25]),
    "group_by_window": (lambda: numbers(7).apply(x.group_by_window(lambda v: v % 2, lambda k, d: d.batch(2), 2)),
                        [[0, 2], [1, 3], [4, 6], [5]]),
    "group_by_window with sizes": (lambda: numbers(6).apply(x.group_by_window(
        lambda v: v % 2, lambda k, d: d.batch(10), window_size_func=lambda k: k + 1)), [[0], [2], [1, 3], [4], [5]]),
    "bucket_by_sequence_length": (lambda: RAGGED(6).apply(x.bucket_by_sequence_length(tf.size, [3], [2, 2])),
                                  [[[0], [1]], [[3, 3, 3, 0], [4, 4, 4, 4]], [[2, 2]], [[5] * 5]]),
    "bucket to the boundary": (lambda: RAGGED(5).apply(x.bucket_by_sequence_length(
        tf.size, [3, 6], [2, 2, 2], pad_to_bucket_boundary=True)), [[[0, 0], [1, 0]], [[3, 3, 3, 0, 0], [4, 4, 4, 4, 0]], [[2, 2]]]),
    "group_by_window, what is left": (lambda: Dataset.from_tensor_slices(np.int64([5, 3, 9, 3])).apply(x.group_by_window(
        lambda v: v, lambda k, d: d.batch(4), 3)), [[3, 3], [5], [9]]),
    "group_by_reducer, by key": (lambda: Dataset.from_tensor_slices(np.int64([5, 3, 9, 3])).apply(x.group_by_reducer(
        lambda v: v, x.Reducer(lambda k: k * 0, lambda s, v: s + v, lambda s: s))), [6, 5, 9]),
    "group_by_window of an outer tensor": (lambda: (lambda t: numbers(3).apply(x.group_by_window(
        lambda v: v % 2, lambda k, d: d.map(lambda v: v + t + k).batch(2), 2)))(tf.size([1, 2], out_type=tf.int64)), [[2, 4], [4]]),
    "Counter": (lambda: x.Counter(3, 2).take(3), [3, 5, 7]),
    "enumerate_dataset": (lambda: numbers(7, 9).apply(x.enumerate_dataset()), [(0, 7), (1, 8)]),
    "choose_from_datasets": (lambda: x.choose_from_datasets([numbers(3), numbers(10, 12)], Dataset.from_tensor_slices(
        np.array([0, 1, 1, 1, 0], np.int64))), [0, 10, 11, 1]),
    "sample_from_datasets": (lambda: x.sample_from_datasets([numbers(3), numbers(10, 13)], [0.0, 1.0]).take(2), [10, 11]),
    "scan": (lambda: numbers(4).apply(x.scan(np.int64(10), lambda s, v: (s + v, (s, v)))), [(10, 0), (10, 1), (11, 2), (13, 3)]),
    "take_while": (lambda: numbers(9).apply(x.take_while(lambda v: v < 3)), [0, 1, 2]),
    "unique": (lambda: Dataset.from_tensor_slices([1, 3, 1, 2, 3]).apply(x.unique()), [1, 3, 2]),
    "dense_to_sparse_batch": (lambda: RAGGED(3).apply(x.dense_to_sparse_batch(3, [4])), [("sparse", [[1, 0], [2, 0], [2, 1]], [1, 2, 2],
                                                                                         [3, 4])]),
    "group_by_reducer": (lambda: numbers(5).apply(x.group_by_reducer(lambda v: v % 2, x.Reducer(
        lambda k: np.int64(0), lambda s, v: s + v, lambda s: s))), [6, 4]),
}


@pytest.mark.parametrize("name", TABLE)
def test_elements(name):
    make, expected = TABLE[name]
    assert elements(make()) == expected


INSIDE = {
    "map_fn": (lambda v: tf.map_fn(lambda q: q * q, tf.stack([v, v + 1])), [[0, 1], [1, 4], [4, 9]]),
    "scan": (lambda v: tf.scan(lambda a, q: a + q, tf.stack([v, v + 1])), [[0, 1], [1, 3], [2, 5]]),
    "a branch in a branch": (lambda v: tf.cond(v > 0, lambda: tf.cond(v > 1, lambda: v * 100, lambda: v * 10), lambda: v), [0, 10, 200]),
    "sizes that depend on data": (lambda v: tf.boolean_mask(tf.range(v + 1), tf.equal(tf.range(v + 1) % 2, 0)), [[0], [0], [0, 2]]),
    "a check before": (lambda v: checked(v), [0, 1, "E"]),
    "a scope": (lambda v: tf.add(v, 1, name="a/b/plus"), [1, 2, 3]),
}


def checked(v):
    with tf.control_dependencies([tf.assert_less(v, tf.constant(2, tf.int64))]):
        return tf.identity(v)


@pytest.mark.parametrize("name", INSIDE)
def test_what_functions_may_do(name):
    f, expected = INSIDE[name]
    assert survivors(numbers(3).map(f)) == expected


def test_gradients_inside_a_function():
    assert elements(Dataset.from_tensor_slices([1.0, 2.0]).map(lambda v: tf.gradients(v * v * v, v)[0])) == [3.0, 12.0]


def test_functions_read_what_is_outside_at_any_depth():
    k = tf.placeholder(tf.int64, [])
    deep = numbers(3).flat_map(lambda v: numbers(2).map(lambda w: w * k + v).filter(lambda q: q < k * 2 - 2))
    assert elements(deep, feed={k: 4}) == [0, 4, 1, 5, 2]
    inside_a_loop = numbers(3).map(lambda v: tf.while_loop(lambda i: i < k, lambda i: i + v + 1, [v]))
    assert elements(inside_a_loop, feed={k: 4}) == [4, 5, 5]
    taken_once = numbers(10, 20).make_one_shot_iterator().get_next()
    assert elements(numbers(3).map(lambda v: v + taken_once)) == [10, 11, 12]


SHAPES = {
    "range": (lambda: numbers(3), [], tf.int64),
    "slices": (lambda: Dataset.from_tensor_slices((np.zeros([3, 2], np.float32), ["a", "b", "c"])), ([2], []), (tf.float32, tf.string)),
    "batch": (lambda: numbers(3).batch(2), [None], tf.int64),
    "batch that drops": (lambda: numbers(3).batch(2, drop_remainder=True), [2], tf.int64),
    "generator": (lambda: Dataset.from_generator(lambda: [], (tf.int32, tf.float32), ([], [None, 3])), ([], [None, 3]),
                  (tf.int32, tf.float32)),
    "padded": (lambda: RAGGED(3).padded_batch(2, [7]), [None, 7], tf.int64),
    "map": (lambda: numbers(3).map(lambda v: {"k": tf.zeros([2, 3])}), {"k": [2, 3]}, {"k": tf.float32}),
    "concatenate": (lambda: Dataset.from_tensors([1]).concatenate(Dataset.from_tensors([1, 2])), [None], tf.int32),
    "filter": (lambda: numbers(3).filter(lambda v: v > 1), [], tf.int64),
}


@pytest.mark.parametrize("name", SHAPES)
def test_static_structure(name):
    make, shapes, dtypes = SHAPES[name]
    dataset = make()
    found = tf.data.get_output_shapes(dataset)
    as_list = {k: v.as_list() for k, v in found.items()} if isinstance(found, dict) else (
        tuple(s.as_list() for s in found) if isinstance(found, tuple) else found.as_list())
    assert as_list == shapes
    assert tf.data.get_output_types(dataset) == dtypes
    iterator = tf.data.make_one_shot_iterator(dataset)
    assert iterator.output_types == dtypes
    classes = tf.data.get_output_classes(iterator)
    flat = classes.values() if isinstance(classes, dict) else classes if isinstance(classes, tuple) else [classes]
    assert set(flat) == {tf.Tensor}
    got = iterator.get_next(name="taken")
    flat = list(got.values()) if isinstance(got, dict) else list(got) if isinstance(got, tuple) else [got]
    assert flat[0].op.name == "taken"
    assert flat[0].op.type == "IteratorGetNext"


# ---------------------------------------------------------------- iterators


def test_placeholders_and_sizes_are_read_when_the_iterator_starts():
    data, size = tf.placeholder(tf.float32, [None, 2]), tf.placeholder(tf.int64, [])
    iterator = Dataset.from_tensor_slices(data).map(lambda row: tf.reduce_sum(row)).batch(size).make_initializable_iterator()
    fetch = iterator.get_next()
    with tf.Session() as sess:
        with pytest.raises(tf.errors.FailedPreconditionError, match="initialized"):
            sess.run(fetch)
        sess.run(iterator.initializer, {data: np.arange(6).reshape(3, 2), size: 2})
        assert sess.run(fetch).tolist() == [1.0, 5.0]
        sess.run(iterator.initializer, {data: np.ones([1, 2]), size: 5})
        assert sess.run(fetch).tolist() == [2.0]
        for _ in range(2):
            with pytest.raises(tf.errors.OutOfRangeError, match="End of sequence"):
                sess.run(fetch)
        with pytest.raises(tf.errors.InvalidArgumentError):
            sess.run(iterator.initializer, {size: 2})


def test_one_step_takes_one_element_for_each_get_next():
    iterator = numbers(10).make_one_shot_iterator()
    a, b = iterator.get_next(), iterator.get_next()
    with tf.Session() as sess:
        assert sorted(sess.run([a, b])) == [0, 1]
        assert sess.run([a, a + 1, a * 2]) == [2, 3, 4]


def test_reinitializable_iterator():
    training, validation = numbers(3).map(lambda v: v + 100), numbers(2)
    iterator = tf.data.Iterator.from_structure(training.output_types, training.output_shapes)
    fetch = iterator.get_next()
    first, second = iterator.make_initializer(training), iterator.make_initializer(validation, name="second")
    assert second.name == "second"
    with tf.Session() as sess:
        for op, expected in ((first, [100, 101, 102]), (second, [0, 1]), (first, [100, 101, 102])):
            sess.run(op)
            assert [sess.run(fetch) for _ in expected] == expected
    with pytest.raises(ValueError, match="initializer"):
        _ = iterator.initializer
    for other, kind in ((Dataset.from_tensors(1.0), TypeError), (numbers(3).batch(2), TypeError), (numbers(2).enumerate(), ValueError)):
        with pytest.raises(kind):
            iterator.make_initializer(other)


def test_feedable_iterator():
    handle = tf.placeholder(tf.string, [])
    one = numbers(3).repeat().make_one_shot_iterator()
    other = numbers(10, 13).make_initializable_iterator()
    iterator = tf.data.Iterator.from_string_handle(handle, one.output_types, one.output_shapes)
    fetch = iterator.get_next() * 2
    with tf.Session() as sess:
        a, b = sess.run([one.string_handle(), other.string_handle()])
        sess.run(other.initializer)
        assert [sess.run(fetch, {handle: h}) for h in (a, a, b, a, b)] == [0, 2, 20, 4, 22]
        with pytest.raises(tf.errors.OpError):
            sess.run(fetch, {handle: "nothing of the kind"})
    with pytest.raises(ValueError):
        tf.data.Iterator.from_string_handle(tf.constant(1), tf.int64)


def test_two_sessions_have_their_own_positions():
    fetch = numbers(5).make_one_shot_iterator().get_next()
    with tf.Session() as one, tf.Session() as two:
        assert [one.run(fetch), one.run(fetch), two.run(fetch), one.run(fetch), two.run(fetch)] == [0, 1, 0, 2, 1]


def test_shared_name_is_one_iterator():
    a = numbers(5).make_initializable_iterator(shared_name="it")
    b = numbers(5).make_initializable_iterator(shared_name="it")
    x1, x2 = a.get_next(), b.get_next()
    with tf.Session() as sess:
        sess.run(a.initializer)
        assert [sess.run(x1), sess.run(x2), sess.run(x1)] == [0, 1, 2]


def test_one_shot_iterators_refuse_what_only_a_session_knows():
    v = tf.Variable(1.0)
    p = tf.placeholder(tf.float32, [2])
    for dataset in (Dataset.from_tensors(1.0).map(lambda t: t + v), Dataset.from_tensor_slices(p), numbers(2).map(lambda n: p[0])):
        with pytest.raises(ValueError, match="one-shot iterator"):
            dataset.make_one_shot_iterator()
    assert elements(Dataset.from_tensors(1.0).map(lambda t: t + tf.random_uniform([]) * 0)) == [1.0]


def test_a_variable_in_a_function_is_read_for_each_element():
    v = tf.Variable(2.0)
    iterator = Dataset.from_tensor_slices([1.0, 2.0, 3.0]).map(lambda t: t * v).make_initializable_iterator()
    fetch = iterator.get_next()
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        sess.run(iterator.initializer)
        assert sess.run(fetch) == 2.0
        sess.run(v.assign(10.0))
        assert sess.run(fetch) == 20.0


def test_training_until_the_end_of_the_data():
    rng = np.random.RandomState(0)
    inputs = rng.rand(64, 3).astype(np.float32)
    wanted = inputs @ np.array([[1.0], [-2.0], [3.0]], np.float32)
    features, target = Dataset.from_tensor_slices((inputs, wanted)).shuffle(64, seed=1).repeat(60).batch(16).prefetch(
        1).make_one_shot_iterator().get_next()
    w = tf.Variable(tf.zeros([3, 1]))
    loss = tf.reduce_mean(tf.square(tf.matmul(features, w) - target))
    train = tf.train.GradientDescentOptimizer(0.5).minimize(loss)
    steps = 0
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        while True:
            try:
                sess.run(train)
                steps += 1
            except tf.errors.OutOfRangeError:
                break
        assert steps == 240
        np.testing.assert_allclose(sess.run(w)[:, 0], [1, -2, 3], atol=0.01)


def test_reduce():
    total = numbers(6).reduce(np.int64(0), lambda s, v: s + v)
    both = Dataset.from_tensor_slices(([1.0, 2.0], [3, 4])).reduce((0.0, 1), lambda s, v: (s[0] + v[0], s[1] * v[1]))
    growing = numbers(3).reduce(tf.constant([], tf.int64), lambda s, v: tf.concat([s, [v]], 0))
    assert growing.shape.as_list() == [None]
    with tf.Session() as sess:
        assert sess.run([total, both]) == [15, (3.0, 12)]
        assert sess.run(growing).tolist() == [0, 1, 2]
    with pytest.raises(TypeError):
        numbers(3).reduce(0.0, lambda s, v: v)


def test_get_single_element():
    with tf.Session() as sess:
        assert sess.run(x.get_single_element(numbers(5).batch(5))).tolist() == [0, 1, 2, 3, 4]
        for dataset, text in ((numbers(0), "empty"), (numbers(2), "more than one")):
            with pytest.raises(tf.errors.InvalidArgumentError, match=text):
                sess.run(x.get_single_element(dataset))


# ---------------------------------------------------------------- errors


def test_errors_while_it_is_declared():
    cases = [(ValueError, lambda: Dataset.from_tensor_slices(([1, 2], [1, 2, 3]))), (ValueError, lambda: Dataset.from_tensor_slices(1)),
             (TypeError, lambda: Dataset.from_generator([1, 2], tf.int32)), (TypeError, lambda: Dataset.zip([numbers(1), numbers(1)])),
             (TypeError, lambda: numbers(3).concatenate(Dataset.from_tensors(1.0))), (TypeError, lambda: numbers(3).flat_map(lambda v: v)),
             (ValueError, lambda: numbers(3).filter(lambda v: v)), (TypeError, lambda: numbers(3).map(lambda v: None)),
             (TypeError, lambda: numbers(3).map(lambda a, b: a)), (ValueError, lambda: numbers(3).shard(2, 2)),
             (ValueError, lambda: RAGGED(3).padded_batch(2, [None, None])), (ValueError, lambda: numbers(3).padded_batch(2, ([], []))),
             (TypeError, lambda: numbers(3).apply(lambda d: 3)),
             (ValueError, lambda: numbers(3).apply(x.group_by_window(lambda v: v, lambda k, d: d))),
             (ValueError, lambda: Dataset.from_tensors(1).unbatch()),
             (TypeError, lambda: RAGGED(3).padded_batch(2, [None], padding_values="a"))]
    for kind, call in cases:
        with pytest.raises(kind):
            call()


def test_an_error_in_a_function_names_op_and_line_and_the_next_element_follows():
    dataset = Dataset.from_tensor_slices([1, 0, 2]).map(lambda d: tf.check_numerics(1.0 / tf.cast(d, tf.float32), "broken", name="check"))
    fetch = dataset.make_one_shot_iterator().get_next()
    with tf.Session() as sess:
        assert sess.run(fetch) == 1.0
        with pytest.raises(tf.errors.InvalidArgumentError, match="broken") as e:
            sess.run(fetch)
        assert sess.run(fetch) == 0.5
        with pytest.raises(tf.errors.OutOfRangeError):
            sess.run(fetch)
    assert "check" in str(e.value)
    assert "test_data.py" in str(e.value)


@pytest.mark.parametrize("change", [lambda d: d, lambda d: d.prefetch(2)], ids=["plain", "prefetched"])
@pytest.mark.parametrize("threads", [None, 3])
def test_elements_after_an_error(change, threads):
    def broken(v):
        if v % 3 == 1:
            raise ValueError(f"no {v}")
        return v

    dataset = change(numbers(7).map(lambda v: tf.py_func(broken, [v], tf.int64), num_parallel_calls=threads))
    fetch, found = dataset.make_one_shot_iterator().get_next(), []
    with tf.Session() as sess:
        while True:
            try:
                found.append(int(sess.run(fetch)))
            except tf.errors.InvalidArgumentError as e:
                found.append(str(e).split("no ")[1][0])
            except tf.errors.OutOfRangeError:
                break
    assert found == [0, "1", 2, 3, "4", 5, 6]


def survivors(dataset):
    """Elements, and an "E" for each error."""
    fetch, found = dataset.make_one_shot_iterator().get_next(), []
    with tf.Session() as sess:
        while True:
            try:
                found.append(plain(sess.run(fetch)))
            except tf.errors.InvalidArgumentError:
                found.append("E")
            except tf.errors.OutOfRangeError:
                return found


def test_where_an_error_goes():
    def data(n=6):
        return numbers(n).map(lambda v: v + tf.cast(tf.check_numerics(1 / (tf.cast(v, tf.float32) - 2), "2") * 0, tf.int64))

    assert sorted(map(str, survivors(data().shuffle(10)))) == ["0", "1", "3", "4", "5", "E"]  # none of the buffer is lost
    assert survivors(data().shuffle(1)) == [0, 1, "E", 3, 4, 5]
    assert survivors(data().window(2).flat_map(lambda w: w.batch(2))) == [[0, 1], "E", [4, 5]]
    assert survivors(data().repeat(2)) == [0, 1, "E", 3, 4, 5] * 2
    assert survivors(data().prefetch(2).flat_map(lambda v: numbers(v, v + 1))) == [0, 1, "E", 3, 4, 5]
    assert survivors(data().apply(x.scan(np.int64(0), lambda s, v: (s + v, s + v)))) == [0, 1, "E", 4, 8, 13]
    assert survivors(data().padded_batch(2, [])) == [[0, 1], "E", [3, 4], [5]]


def test_shuffle_reads_only_its_buffer_ahead():
    made = []

    def generate():
        for i in range(100):
            made.append(i)
            yield i

    fetch = Dataset.from_generator(generate, tf.int64, []).shuffle(5).make_one_shot_iterator().get_next()
    with tf.Session() as sess:
        for count in (5, 6, 7):
            sess.run(fetch)
            assert len(made) == count


def test_run_time_errors():
    wrong, lost = tf.errors.InvalidArgumentError, tf.errors.DataLossError
    zero = lambda: tf.placeholder_with_default(tf.constant(0, tf.int64), [])  # noqa: E731
    cases = [(wrong, "different shapes.*\\[1\\].*\\[2\\]", lambda: RAGGED(3).skip(1).batch(2)),
             (wrong, "greater than zero", lambda: numbers(3).batch(zero())), (lost, "smaller size", lambda: RAGGED(4).padded_batch(4, [2])),
             (wrong, "greater than zero", lambda: numbers(3).shuffle(zero()))]
    for kind, text, make in cases:
        with pytest.raises(kind, match=text):
            elements(make())


def test_a_failing_batch_loses_only_its_elements():
    dataset = numbers(6).map(lambda v: tf.fill([tf.cond(tf.equal(v, 1), lambda: 2, lambda: 1)], v)).batch(2)
    fetch = dataset.make_one_shot_iterator().get_next()
    with tf.Session() as sess:
        with pytest.raises(tf.errors.InvalidArgumentError):
            sess.run(fetch)
        assert sess.run(fetch).tolist() == [[2], [3]]


def generator_errors():
    def dies(kind):
        def generate():
            yield 1
            raise kind("as it should")
        return generate

    yield dies(ValueError), tf.int32, None, tf.errors.InvalidArgumentError, "as it should"
    yield dies(ZeroDivisionError), tf.int32, None, tf.errors.UnknownError, "as it should"
    yield lambda: iter([1, "a"]), tf.int32, None, tf.errors.InvalidArgumentError, "expected type"
    yield lambda: iter([1, [1, 2]]), tf.int32, [], tf.errors.InvalidArgumentError, "shape"
    yield lambda: iter([(1, 2), (1, 2, 3)]), (tf.int32, tf.int32), None, tf.errors.InvalidArgumentError, "structure"


@pytest.mark.parametrize("case", range(5))
def test_errors_of_generators(case):
    generator, dtypes, shapes, kind, text = list(generator_errors())[case]
    fetch = Dataset.from_generator(generator, dtypes, shapes).make_one_shot_iterator().get_next()
    with tf.Session() as sess:
        sess.run(fetch)
        with pytest.raises(kind, match=text):
            sess.run(fetch)


def test_generators_are_called_anew_in_each_pass_and_closed():
    events = []

    def generate():
        events.append("begun")
        try:
            yield from range(3)
        finally:
            events.append("closed")

    fetch = Dataset.from_generator(generate, tf.int64, []).repeat().make_one_shot_iterator().get_next()
    with tf.Session() as sess:
        assert [sess.run(fetch) for _ in range(7)] == [0, 1, 2, 0, 1, 2, 0]
        assert events == ["begun", "closed", "begun", "closed", "begun"]
    assert events[-1] == "closed"


# ---------------------------------------------------------------- seeds


def passes(dataset, n, feed=None):
    found = elements(dataset, 10**6)
    size = len(found) // n
    return [found[i * size:(i + 1) * size] for i in range(n)]


@pytest.mark.parametrize("make", [lambda: numbers(30), lambda: numbers(30).filter(lambda v: v >= 0)], ids=["rows", "elements"])
@pytest.mark.parametrize("buffer", [4, 100])
def test_shuffle(make, buffer):
    a, b, c = passes(make().shuffle(buffer, seed=5).repeat(3), 3)
    assert sorted(a) == sorted(b) == sorted(c) == list(range(30))
    assert len({tuple(p) for p in (a, b, c)}) == 3  # another order in each pass
    assert passes(make().shuffle(buffer, seed=5).repeat(3), 3) == [a, b, c]
    assert passes(make().shuffle(buffer, seed=6), 1) != [a]
    if buffer == 4:
        assert all(v < i + 4 for i, v in enumerate(a))
    d, e = passes(make().shuffle(buffer, seed=5, reshuffle_each_iteration=False).repeat(2), 2)
    assert d == e


def test_rows_and_elements_are_shuffled_alike():
    assert elements(numbers(40).shuffle(9, seed=2)) == elements(numbers(40).filter(lambda v: v >= 0).shuffle(9, seed=2))
    assert sum(elements(numbers(40).shuffle(9, seed=2).batch(7)), []) == elements(numbers(40).shuffle(9, seed=2))


def test_without_a_seed_orders_differ():
    orders = {tuple(elements(numbers(30).shuffle(30))) for _ in range(3)}
    assert len(orders) == 3


def test_the_graph_seed_fixes_orders():
    def order():
        with tf.Graph().as_default():
            tf.set_random_seed(3)
            return elements(numbers(30).shuffle(30)), elements(numbers(5).map(lambda v: tf.random_uniform([])))

    assert order() == order()


def test_random_ops_in_functions_draw_anew_for_each_element():
    once = elements(numbers(6).map(lambda v: tf.random_uniform([], seed=3)).repeat(2))
    assert len(set(once)) == 12
    assert elements(numbers(6).map(lambda v: tf.random_uniform([], seed=3)).repeat(2)) == once
    assert elements(numbers(6).map(lambda v: tf.random_uniform([], seed=3), num_parallel_calls=3).repeat(2)) == once
    free = lambda: numbers(6).map(lambda v: tf.random_uniform([]))  # noqa: E731
    assert len(set(elements(free()) + elements(free()))) == 12


# ---------------------------------------------------------------- threads


def test_map_works_on_several_elements_at_a_time():
    together, most, lock = 0, 0, threading.Lock()

    def slow(v):
        nonlocal together, most
        with lock:
            together += 1
            most = max(most, together)
        time.sleep(0.01)
        with lock:
            together -= 1
        return v

    assert elements(numbers(12).map(lambda v: tf.py_func(slow, [v], tf.int64), num_parallel_calls=4)) == list(range(12))
    assert most > 1


def test_prefetch_runs_ahead_of_the_steps():
    made = []

    def generate():
        for i in itertools.count():
            made.append(i)
            yield i

    fetch = Dataset.from_generator(generate, tf.int64, []).prefetch(3).make_one_shot_iterator().get_next()
    with tf.Session() as sess:
        assert sess.run(fetch) == 0
        end = time.monotonic() + 5
        while len(made) < 4 and time.monotonic() < end:
            time.sleep(0.01)
        time.sleep(0.05)
        assert 4 <= len(made) <= 5
        assert sess.run(fetch) == 1
    count = len(made)
    time.sleep(0.05)
    assert len(made) <= count + 1  # the thread ends with the session


def test_a_closed_session_ends_a_waiting_step():
    begun, go = threading.Event(), threading.Event()

    def generate():
        begun.set()
        go.wait(10)
        yield 1

    fetch = Dataset.from_generator(generate, tf.int64, []).prefetch(1).make_one_shot_iterator().get_next()
    sess, problems = tf.Session(), []

    def step():
        try:
            sess.run(fetch)
        except tf.errors.OpError as e:
            problems.append(e)

    thread = threading.Thread(target=step)
    thread.start()
    assert begun.wait(10)
    sess.close()
    thread.join(10)
    go.set()
    assert [type(e) for e in problems] == [tf.errors.CancelledError]


def test_steps_in_several_threads_take_different_elements():
    fetch = numbers(60).map(lambda v: v * 1).make_one_shot_iterator().get_next()
    found = []
    with tf.Session() as sess:
        def take():
            for _ in range(20):
                found.append(int(sess.run(fetch)))

        threads = [threading.Thread(target=take) for _ in range(3)]
        for t in threads:
            t.start()
        for t in threads:
            t.join()
    assert sorted(found) == list(range(60))


# ---------------------------------------------------------------- files


@pytest.fixture
def lines(tmp_path):
    names = []
    for i, text in enumerate(["a\nb\r\nc", "", "d\n\ne\n"]):
        names.append(str(tmp_path / f"file{i}.txt"))
        with open(names[-1], "w", newline="") as f:
            f.write(text)
    return names


def test_text_lines(lines, tmp_path):
    assert elements(tf.data.TextLineDataset(lines)) == B("a", "b", "c", "d", "", "e")
    assert elements(tf.data.TextLineDataset(lines[0])) == B("a", "b", "c")
    assert elements(tf.data.TextLineDataset(Dataset.from_tensor_slices(lines))) == B("a", "b", "c", "d", "", "e")
    with gzip.open(tmp_path / "z.gz", "wb") as f:
        f.write(b"one\ntwo")
    assert elements(tf.data.TextLineDataset(str(tmp_path / "z.gz"), compression_type="GZIP")) == B("one", "two")
    name = tf.placeholder(tf.string, [None])
    assert elements(tf.data.TextLineDataset(name), feed={name: lines[:1]}) == B("a", "b", "c")
    with pytest.raises(tf.errors.NotFoundError):
        elements(tf.data.TextLineDataset(str(tmp_path / "none")))


def test_list_files(lines, tmp_path):
    assert elements(Dataset.list_files(str(tmp_path / "*.txt"), shuffle=False)) == [n.encode() for n in sorted(lines)]
    assert sorted(elements(Dataset.list_files([lines[2], lines[0]]))) == sorted([lines[0].encode(), lines[2].encode()])
    with pytest.raises((tf.errors.NotFoundError, tf.errors.InvalidArgumentError)):
        elements(Dataset.list_files(str(tmp_path / "*.none")))


def test_tf_records(tmp_path):
    names = [str(tmp_path / f"r{i}") for i in range(2)]
    for i, name in enumerate(names):
        with tf.python_io.TFRecordWriter(name) as w:
            for j in range(3):
                w.write(f"{i}{j}".encode())
    assert elements(tf.data.TFRecordDataset(names)) == B("00", "01", "02", "10", "11", "12")
    assert elements(tf.data.TFRecordDataset(names, num_parallel_reads=2)) == B("00", "10", "01", "11", "02", "12")
    data = bytearray(open(names[0], "rb").read())
    data[-6] ^= 1
    open(names[0], "wb").write(data)
    with pytest.raises(tf.errors.DataLossError, match="corrupted record at 36"):
        elements(tf.data.TFRecordDataset(names))


def test_fixed_length_records(tmp_path):
    name = str(tmp_path / "f")
    open(name, "wb").write(b"HHaabbccF")
    assert elements(tf.data.FixedLengthRecordDataset(name, 2, header_bytes=2, footer_bytes=1)) == B("aa", "bb", "cc")
    with pytest.raises(tf.errors.InvalidArgumentError):
        elements(tf.data.FixedLengthRecordDataset(name, 4, 2, 1))


def test_csv(tmp_path):
    name = str(tmp_path / "t.csv")
    open(name, "w").write('n,s,v\n1,"a, ""b""",2.5\n2,,\n')
    dataset = x.CsvDataset(name, [tf.int32, "none", [0.5]], header=True)
    assert elements(dataset) == [(1, b'a, "b"', 2.5), (2, b"none", 0.5)]
    assert elements(x.CsvDataset(name, [tf.string], header=True, select_cols=[0])) == [(b"1",), (b"2",)]
    assert elements(x.CsvDataset(name, [tf.constant([7.5])], header=True, select_cols=[2])) == [(2.5,), (7.5,)]
    with pytest.raises(tf.errors.InvalidArgumentError, match="required but missing"):
        elements(x.CsvDataset(name, [tf.int32, tf.string, tf.float32], header=True))
    batches = elements(x.make_csv_dataset(name, 2, label_name="v", num_epochs=1, shuffle=False))
    assert batches == [({"n": [1, 2], "s": B('a, "b"', "")}, [2.5, 0.0])]


@pytest.fixture
def examples(tmp_path):
    """Two files of three Examples: n = 0 .. 5, and a sequence of n numbers."""
    def feature(values):
        return tf.train.Feature(int64_list=tf.train.Int64List(value=values))

    names = [str(tmp_path / f"examples{i}") for i in range(2)]
    for i, name in enumerate(names):
        with tf.python_io.TFRecordWriter(name) as w:
            for n in range(3 * i, 3 * i + 3):
                features = tf.train.Features(feature={"n": feature([n]), "s": feature(range(n))})
                w.write(tf.train.Example(features=features).SerializeToString())
    return names


FEATURES = {"n": tf.FixedLenFeature([], tf.int64), "s": tf.VarLenFeature(tf.int64)}


def test_examples_are_parsed_one_by_one_and_in_batches(examples):
    one = elements(tf.data.TFRecordDataset(examples).map(lambda r: tf.parse_single_example(r, FEATURES)).take(3))
    assert one == [{"n": n, "s": ("sparse", [[i] for i in range(n)], list(range(n)), [n])} for n in range(3)]
    batches = elements(tf.data.TFRecordDataset(examples).batch(4).apply(x.parse_example_dataset(FEATURES)))
    assert [b["n"] for b in batches] == [[0, 1, 2, 3], [4, 5]]
    assert batches[1]["s"] == ("sparse", [[0, i] for i in range(4)] + [[1, i] for i in range(5)], [*range(4), *range(5)], [2, 5])
    made = elements(x.make_batched_features_dataset(examples, 4, FEATURES, label_key="n", num_epochs=1, shuffle=False))
    assert [label for _, label in made] == [[0, 1, 2, 3], [4, 5]]
    assert made[0][0] == {"s": ("sparse", [[1, 0], [2, 0], [2, 1], [3, 0], [3, 1], [3, 2]], [0, 0, 1, 0, 1, 2], [4, 3])}
    with pytest.raises(ValueError):
        x.make_batched_features_dataset(examples, 4, FEATURES, label_key="m")


def test_records_are_written(tmp_path):
    name = str(tmp_path / "written")
    op = x.TFRecordWriter(name, "GZIP").write(Dataset.from_tensor_slices(["a", "bc"]).repeat(2))
    with tf.Session() as sess:
        sess.run(op)
    assert elements(tf.data.TFRecordDataset(name, "GZIP")) == B("a", "bc", "a", "bc")
    with pytest.raises(TypeError):
        x.TFRecordWriter(name).write(numbers(3))


def test_rows_of_a_database(tmp_path):
    import sqlite3

    name = str(tmp_path / "d.sqlite")
    with sqlite3.connect(name) as c:
        c.execute("create table t (a integer, b text, c real)")
        c.executemany("insert into t values (?, ?, ?)", [(1, "x", 0.5), (2, "y", 1.5)])
    make = lambda query: x.SqlDataset("sqlite", name, query, (tf.int64, tf.string, tf.float64))  # noqa: E731
    assert elements(make("select a, b, c from t order by a desc")) == [(2, b"y", 1.5), (1, b"x", 0.5)]
    with pytest.raises(tf.errors.InvalidArgumentError, match="number of columns"):
        elements(make("select a from t"))
    with pytest.raises(tf.errors.UnknownError):
        elements(make("select nothing"))


COUNTS = {"range": (lambda: numbers(3, 10, 2), 4), "slices": (lambda: Dataset.from_tensor_slices([1, 2, 3]), 3),
          "repeat": (lambda: numbers(3).repeat(4), 12), "without end": (lambda: numbers(3).repeat(), -1),
          "batch": (lambda: numbers(5).batch(2), 3), "batch that drops": (lambda: numbers(5).batch(2, drop_remainder=True), 2),
          "filter": (lambda: numbers(5).filter(lambda v: v > 1), -2), "zip": (lambda: Dataset.zip((numbers(3), numbers(2).repeat())), 3),
          "take": (lambda: numbers(3).repeat().take(7), 7), "skip": (lambda: numbers(3).skip(5), 0),
          "shard": (lambda: numbers(10).shard(3, 1), 3),
          "map, shuffle, cache, prefetch": (lambda: numbers(4).map(lambda v: v).shuffle(2).cache().prefetch(1), 4),
          "concatenate": (lambda: numbers(4).concatenate(numbers(2)), 6), "a tensor": (lambda: numbers(4).take(tf.size([1, 2])), -2)}


@pytest.mark.parametrize("name", COUNTS)
def test_cardinality(name):
    make, expected = COUNTS[name]
    with tf.Session() as sess:
        assert sess.run(x.cardinality(make())) == expected


@pytest.mark.parametrize("known", [True, False])
def test_rejection_resample(known):
    data = Dataset.from_tensor_slices(np.array([0] * 800 + [1] * 200)).shuffle(1000, seed=1).repeat(4)
    resampled = data.apply(x.rejection_resample(lambda v: tf.cast(v, tf.int32), [0.5, 0.5], [0.8, 0.2] if known else None, seed=1))
    found = elements(resampled, 10**5)
    assert all(k == v for k, v in found)
    assert 0.44 < np.mean([k for k, _ in found]) < 0.56
    assert 1300 < len(found) < 1900


def test_options():
    options = tf.data.Options()
    options.experimental_deterministic = False
    options.experimental_threading.max_intra_op_parallelism = 1
    dataset = numbers(3).with_options(options).map(lambda v: v)
    assert dataset.options().experimental_deterministic is False
    assert elements(dataset) == [0, 1, 2]
    with pytest.raises(AttributeError):
        options.experimental_nonsense = 1


def test_cache_in_a_file(tmp_path):
    name, calls = str(tmp_path / "cache"), []

    def seen(v):
        calls.append(v)
        return v

    make = lambda: numbers(4).map(lambda v: (tf.py_func(seen, [v], tf.int64), tf.as_string(v) if hasattr(tf, "as_string") else "s",  # noqa: E731
                                             tf.SparseTensor([[v]], [v], [9]))).cache(name)
    first = elements(make())
    assert len(calls) == 4
    assert elements(make()) == first
    assert len(calls) == 4
    if tf.__version__ == "1.15.0":
        data = bytearray(open(name, "rb").read())
        data[20] ^= 1
        open(name, "wb").write(data)
        with pytest.raises(tf.errors.DataLossError):
            elements(make())
