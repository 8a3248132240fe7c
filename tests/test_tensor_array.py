"""tf.TensorArray: every method against NumPy, in and out of loops, and what is refused; compiled and by the interpreter."""
from __future__ import annotations

import numpy as np
import pytest

import graphflow as tf
from graphflow.flags import flags as switches


@pytest.fixture(autouse=True, params=[0, 1], ids=["compiled", "interpreted"])
def way(request):
    with switches.override(interpret=request.param):
        yield request.param


def run(fetches, feeds=None):
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        return sess.run(fetches, feeds)


def same(found, wanted):
    np.testing.assert_array_equal(np.asarray(found), np.asarray(wanted))


def array(size=3, **more):
    return tf.TensorArray(tf.float32, size, **more)


ROWS = np.arange(6, dtype=np.float32).reshape(3, 2)


# ---------------------------------------------------------------- single elements


def test_write_read_stack_size():
    ta = array().write(0, 1.0).write(2, 3.0).write(1, 2.0)
    stacked, one, n = run([ta.stack(), ta.read(1), ta.size()])
    same(stacked, [1, 2, 3])
    assert (one, n) == (2.0, 3)
    assert ta.stack().shape.as_list() == [3]
    assert (ta.dtype, ta.dynamic_size, ta.element_shape.as_list()) == (tf.float32, False, [])


def test_reading_twice():
    ta = array().unstack([1.0, 2.0, 3.0])
    assert run([ta.read(1), ta.read(1) * 2.0]) == [2.0, 4.0]


@pytest.mark.parametrize("make", [
    lambda: array(3).write(0, [1.0, 2.0]),
    lambda: array(3, element_shape=[2]).write(0, [1.0, 2.0]),
    lambda: array(5).unstack([[1.0, 2.0]]),
], ids=["shape of a write", "element_shape", "unstack"])
def test_slots_that_were_not_written_are_zeros(make):
    ta = make()
    same(run(ta.read(1)), [0, 0])
    same(run(ta.stack())[:3], [[1, 2], [0, 0], [0, 0]])


def test_reading_an_empty_array():
    same(run(array(3, element_shape=[2]).read(1)), [0, 0])
    with pytest.raises(tf.errors.InvalidArgumentError, match="element_shape") as e:
        run(array(3).read(1))
    assert "test_tensor_array.py:" in str(e.value)


def test_a_size_known_when_it_runs():
    n = tf.placeholder(tf.int32, [])
    ta = array(n).write(n - 1, 7.0)
    for value in (1, 4):
        stacked, size = run([ta.stack(), ta.size()], {n: value})
        same(stacked, [0.0] * (value - 1) + [7.0])
        assert size == value


def test_dynamic_size():
    ta = array(1, dynamic_size=True).write(4, 1.0)
    same(run(ta.stack()), [0, 0, 0, 0, 1])
    assert run(ta.size()) == 5


@pytest.mark.parametrize("dtype, values", [(tf.string, ["a", "bc"]), (tf.bool, [True, False]), (tf.int64, [1 << 40, -1]),
                                           (tf.complex64, [1 + 2j, 3j])], ids=lambda x: getattr(x, "name", ""))
def test_dtypes(dtype, values):
    ta = tf.TensorArray(dtype, 2).write(0, values[0]).write(1, values[1])
    assert run(ta.stack()).tolist() == [v.encode() if isinstance(v, str) else v for v in values]


def test_fed_strings():
    word = tf.placeholder(tf.string, [])
    assert run(tf.TensorArray(tf.string, 2).write(0, word).stack(), {word: "word"}).tolist()[0] == b"word"


def test_names():
    ta = array(2, name="slots").write(0, 1.0, name="w")
    found = [ta.stack(name="all"), ta.read(0, name="one"), ta.size("count"), ta.gather([0], name="some")]
    assert [t.name for t in found] == ["all:0", "one:0", "count:0", "some:0"]


# ---------------------------------------------------------------- many elements


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("find, wanted", [
    (lambda ta: ta.stack(), ROWS),
    (lambda ta: ta.read(2), ROWS[2]),
    (lambda ta: ta.gather([2, 0, 2]), ROWS[[2, 0, 2]]),
    (lambda ta: ta.concat(), ROWS.reshape(-1)),
    (lambda ta: ta.size(), 3),
    (lambda ta: ta.identity().stack(), ROWS),
], ids=["stack", "read", "gather", "concat", "size", "identity"])
def test_unstack(find, wanted, known):
    x = tf.constant(ROWS) if known else tf.placeholder_with_default(ROWS, [None, 2])
    same(run(find(array(tf.shape(x)[0]).unstack(x))), wanted)


@pytest.mark.parametrize("size, more, wanted", [(3, {}, 3), (5, {}, 5), (0, {"dynamic_size": True}, 3)])
def test_unstack_keeps_the_size(size, more, wanted):
    assert run(array(size, **more).unstack(ROWS).size()) == wanted


def test_scatter():
    same(run(array().scatter([2, 0, 1], ROWS).stack()), ROWS[[1, 2, 0]])
    same(run(array().scatter([2, 0], ROWS[:2]).stack()), [ROWS[1], [0, 0], ROWS[0]])
    same(run(array().write(1, [8.0, 9.0]).scatter([0, 2], ROWS[:2]).stack()), [ROWS[0], [8, 9], ROWS[1]])
    same(run(array(0, dynamic_size=True).scatter([3, 1], ROWS[:2]).stack()), [[0, 0], ROWS[1], [0, 0], ROWS[0]])


def test_scatter_of_fed_indices():
    at = tf.placeholder(tf.int32, [None])
    same(run(array().scatter(at, ROWS).stack(), {at: [1, 0, 2]}), ROWS[[1, 0, 2]])


def test_split_and_concat():
    ta = array().split(np.arange(6, dtype=np.float32), [2, 2, 2])
    same(run(ta.read(1)), [2, 3])
    same(run(ta.concat()), np.arange(6))
    assert ta.concat().shape.as_list() == [6]


def test_empty():
    same(run(array(0, element_shape=[2]).stack()), np.zeros((0, 2)))
    assert run(array(0, element_shape=[2]).stack()).shape == (0, 2)
    assert run(array(0, element_shape=[2, 3]).concat()).shape == (0, 3)
    assert run(array(0).size()) == 0


def test_close_and_identity():
    v = tf.Variable(1.0)
    ta = array().unstack([1.0, 2.0, 3.0])
    assert run(ta.close()) is None
    with tf.control_dependencies([v.assign(5.0)]):
        waits = ta.identity()
    with tf.control_dependencies([waits.read(0)]):
        assert run(v.read_value()) == 5.0


def test_handle_and_flow():
    ta = array().write(0, 1.0)
    again = tf.TensorArray(tf.float32, handle=ta.handle, flow=ta.flow)
    same(run(again.write(1, 2.0).stack()), [1, 2, 0])


# ---------------------------------------------------------------- in branches and loops


def test_filled_by_a_loop():
    n = tf.placeholder(tf.int32, [])
    _, ta = tf.while_loop(lambda i, _: i < n, lambda i, t: (i + 1, t.write(i, tf.cast(i * i, tf.float32))), (0, array(n)))
    assert isinstance(ta, tf.TensorArray)
    for value in (1, 5):
        same(run(ta.stack(), {n: value}), [float(i * i) for i in range(value)])


def test_static_shape_after_a_loop():
    _, ta = tf.while_loop(lambda i, _: i < 4, lambda i, t: (i + 1, t.write(i, [1.0, 2.0])), (0, array(4)))
    assert ta.stack().shape.as_list() == [4, 2]
    assert ta.read(0).shape.as_list() == [2]


def test_grown_by_a_loop():
    n = tf.placeholder(tf.int32, [])
    _, ta = tf.while_loop(lambda i, _: i < n, lambda i, t: (i + 1, t.write(i, tf.cast(i, tf.float32))),
                          (0, array(0, dynamic_size=True, element_shape=[])))
    for value in (0, 1, 6):
        stacked, size = run([ta.stack(), ta.size()], {n: value})
        same(stacked, np.arange(value))
        assert size == value


def test_grown_while_something_holds():
    _, ta = tf.while_loop(lambda x, _: x < 100.0, lambda x, t: (x * 3.0, t.write(t.size(), x)), (1.0, array(0, dynamic_size=True)))
    same(run(ta.stack()), [1, 3, 9, 27, 81])


def test_read_in_a_loop():
    table = array(4).unstack([1.0, 2.0, 3.0, 4.0])
    _, s = tf.while_loop(lambda i, _: i < 4, lambda i, s: (i + 1, s * 10.0 + table.read(3 - i)), (0, 0.0))
    assert run(s) == 4321.0


def test_read_what_the_loop_wrote():
    """Fibonacci's numbers from the slots before."""
    start = array(10).write(0, 1.0).write(1, 1.0)
    _, ta = tf.while_loop(lambda i, _: i < 10, lambda i, t: (i + 1, t.write(i, t.read(i - 1) + t.read(i - 2))), (2, start))
    same(run(ta.stack()), [1, 1, 2, 3, 5, 8, 13, 21, 34, 55])


def test_shared_by_two_loops():
    def fill(ta, begin, end, value):
        return tf.while_loop(lambda i, _: i < end, lambda i, t: (i + 1, t.write(i, value)), (begin, ta))[1]
    ta = fill(fill(array(5), 0, 2, 1.0), 2, 5, 2.0)
    same(run(ta.stack()), [1, 1, 2, 2, 2])


def test_several_arrays_in_a_structure():
    body = lambda i, d: (i + 1, {"a": d["a"].write(i, tf.cast(i, tf.float32)), "b": [d["b"][0].write(3 - i, i)]})  # noqa: E731
    _, found = tf.while_loop(lambda i, _: i < 4, body, (0, {"a": array(4), "b": [tf.TensorArray(tf.int32, 4)]}))
    same(run(found["a"].stack()), [0, 1, 2, 3])
    same(run(found["b"][0].stack()), [3, 2, 1, 0])


def test_in_nested_loops():
    def row(i, ta):
        return tf.while_loop(lambda j, _: j < 3, lambda j, t: (j + 1, t.write(i * 3 + j, tf.cast(i * 10 + j, tf.float32))), (0, ta))[1]
    _, ta = tf.while_loop(lambda i, _: i < 2, lambda i, t: (i + 1, row(i, t)), (0, array(6)))
    same(run(ta.stack()), [0, 1, 2, 10, 11, 12])


@pytest.mark.parametrize("taken, wanted", [(True, [1, 0, 9]), (False, [0, 2, 9])])
def test_in_branches(taken, wanted):
    ta = array()
    ta = tf.cond(tf.placeholder_with_default(taken, []), lambda: ta.write(0, 1.0), lambda: ta.write(1, 2.0)).write(2, 9.0)
    same(run(ta.stack()), wanted)


def test_a_loop_that_does_not_run():
    n = tf.placeholder(tf.int32, [])
    _, ta = tf.while_loop(lambda i, _: i < n, lambda i, t: (i + 1, t.write(i, [1.0, 2.0])), (0, array(n)))
    found = run(ta.stack(), {n: 0})
    assert found.shape == (0, 2)
    same(run(ta.stack(), {n: 2}), [[1, 2], [1, 2]])


# ---------------------------------------------------------------- what is refused


@pytest.mark.parametrize("error, text, make", [
    (ValueError, "Size must be provided", lambda: tf.TensorArray(tf.float32)),
    (ValueError, "scalar", lambda: array([3])),
    (ValueError, "both handle and tensor_array_name", lambda: tf.TensorArray(tf.float32, handle=array().handle, tensor_array_name="x")),
    (ValueError, "both a handle and size", lambda: array(3, handle=array().handle)),
    (TypeError, "Handle must be a Tensor", lambda: tf.TensorArray(tf.float32, handle=3)),
    (TypeError, "float32 but a value of int32", lambda: array().write(0, tf.constant(1))),
    (ValueError, r"Inconsistent shapes: saw \(1,\) but expected \(2,\)", lambda: array().write(0, [1.0, 2.0]).write(1, [1.0])),
    (ValueError, r"Inconsistent shapes: saw \(3,\) but expected \(2,\)", lambda: array(element_shape=[2]).write(0, [1.0, 2.0, 3.0])),
    (ValueError, "rank 0 but is rank 1", lambda: array().read([0])),
    (ValueError, "rank 0 but is rank 1", lambda: array().write([0], 1.0)),
    (ValueError, "rank 1 or more", lambda: array().unstack(3.0)),
    (TypeError, "int32", lambda: array().write("a", 1.0)),
    (tf.errors.InvalidArgumentError, "3 slots and is not resizeable, but 4", lambda: array().unstack([1.0] * 4)),
], ids=lambda x: x if isinstance(x, str) else "")
def test_refused_when_built(error, text, make):
    with pytest.raises(error, match=text):
        make()


def at(value):
    return tf.placeholder_with_default(value, [])


@pytest.mark.parametrize("text, make", [
    ("write to index 5.*size is: 3|outside", lambda: array().write(at(5), 1.0).stack()),
    ("write to index -1|outside", lambda: array().write(at(-1), 1.0).stack()),
    ("already been written", lambda: array().write(0, 1.0).write(at(0), 2.0).stack()),
    ("already been written", lambda: array().unstack([1.0, 2.0, 3.0]).write(at(0), 2.0).stack()),
    ("already been written", lambda: array().scatter([0, 0], [1.0, 2.0]).stack()),
    ("already been written", lambda: array().write(0, 1.0).scatter([1, 0], [1.0, 2.0]).stack()),
    ("read from index 3|outside", lambda: array().unstack([1.0, 2.0, 3.0]).read(at(3))),
    ("read from index -1|outside", lambda: array().unstack([1.0, 2.0, 3.0]).read(at(-1))),
    ("index 3|outside", lambda: array().scatter([3], [1.0]).stack()),
    (r"not in \[0, 3\)", lambda: array().unstack([1.0, 2.0, 3.0]).gather([at(5)])),
    ("Size should be >= 0", lambda: array(at(-1)).size()),
    ("different lengths|Cannot reshape", lambda: array(2).split([1.0, 2.0, 3.0], tf.placeholder_with_default([1, 2], [2])).stack()),
    ("sum of lengths|Cannot reshape", lambda: array(2).split([1.0, 2.0, 3.0], tf.placeholder_with_default([1, 1], [2])).stack()),
    ("write to index 4|outside", lambda: tf.while_loop(lambda i, _: i < 5, lambda i, t: (i + 1, t.write(i, 1.0)),
                                                       (0, array(4)))[1].stack()),
    ("already been written", lambda: tf.while_loop(lambda i, _: i < 4, lambda i, t: (i + 1, t.write(0, 1.0)), (0, array(4)))[1].stack()),
    ("already been written", lambda: tf.while_loop(lambda i, _: i < 4, lambda i, t: (i + 1, t.write(i // 2, 1.0)),
                                                   (0, array(4)))[1].stack()),
    ("read from index 4|outside", lambda: tf.while_loop(
        lambda i, _: i < 5, lambda i, s: (i + 1, s + array(4).unstack([1.0] * 4).read(i)), (0, 0.0))[1]),
], ids=lambda x: x if isinstance(x, str) else "")
def test_refused_when_run(text, make):
    v = tf.Variable(1.0)
    x = make()
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        with pytest.raises(tf.errors.InvalidArgumentError, match=text) as e:
            sess.run([x, v.assign(2.0)])
        assert "test_tensor_array.py:" in str(e.value)
        assert e.value.op is not None
        assert sess.run(v) == 1.0  # a failed step changes nothing
