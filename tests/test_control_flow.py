"""Branches and loops: values against Python's, what runs when, what is refused; compiled and by the interpreter."""
from __future__ import annotations

import collections

import numpy as np
import pytest

import graphflow as tf
from graphflow.flags import flags as switches

Pair = collections.namedtuple("Pair", "a b")


@pytest.fixture(autouse=True, params=[0, 1], ids=["compiled", "interpreted"])
def way(request):
    with switches.override(interpret=request.param):
        yield request.param


def run(fetches, feeds=None, init=True):
    with tf.Session() as sess:
        if init:
            sess.run(tf.global_variables_initializer())
        return sess.run(fetches, feeds)


def flag(value=True):
    return tf.placeholder_with_default(value, [])


def number(value=3):
    return tf.placeholder_with_default(value, [])


def constant(value):
    return lambda: tf.constant(value)


# ---------------------------------------------------------------- cond


@pytest.mark.parametrize("taken", [True, False])
@pytest.mark.parametrize("make, wanted", [
    (lambda n: tf.constant(n), lambda n: n),
    (lambda n: n, lambda n: n),
    (lambda n: [tf.constant(n)], lambda n: n),
    (lambda n: [tf.constant(n), tf.constant(-n)], lambda n: [n, -n]),
    (lambda n: (tf.constant(n), [tf.constant(-n)]), lambda n: (n, [-n])),
    (lambda n: Pair(tf.constant(n), tf.constant(-n)), lambda n: Pair(n, -n)),
    (lambda n: {"b": tf.constant(n), "a": tf.constant(-n)}, lambda n: {"b": n, "a": -n}),
    (lambda n: tf.fill([n], 1.5), lambda n: [1.5] * n),
], ids=["tensor", "number", "list of one", "list", "nested", "namedtuple", "dict", "other shapes"])
def test_cond_structures(make, wanted, taken):
    found = run(tf.cond(flag(taken), lambda: make(1), lambda: make(2)))
    if isinstance(found, np.ndarray):
        found = found.tolist()
    assert found == wanted(1 if taken else 2)
    assert type(found) is type(wanted(1)) or isinstance(found, np.generic)


def test_cond_strict_keeps_a_list_of_one():
    assert run(tf.cond(flag(), lambda: [tf.constant(1)], lambda: [tf.constant(2)], strict=True)) == [1]


def test_cond_old_names_of_the_functions():
    assert run(tf.cond(flag(False), fn1=constant(1), fn2=constant(2))) == 2


def test_cond_of_slices():
    x = tf.cond(flag(False), lambda: tf.IndexedSlices(tf.constant([1.0]), tf.constant([0])),
                lambda: tf.IndexedSlices(tf.constant([2.0]), tf.constant([1])))
    assert isinstance(x, tf.IndexedSlices)
    assert [v.tolist() for v in run([x.values, x.indices])] == [[2.0], [1]]


def test_sparse_tensors_in_branches_and_loops():
    a, b = tf.SparseTensor([[0, 0]], [1.0], [2, 2]), tf.SparseTensor([[1, 1]], [2.0], [2, 2])
    x = tf.cond(flag(False), lambda: a, lambda: b)
    _, y = tf.while_loop(lambda i, _: i < 3, lambda i, s: (i + 1, tf.SparseTensor(s.indices, s.values * 2.0, s.dense_shape)), (0, a))
    found = run([tf.sparse_tensor_to_dense(x), tf.sparse_tensor_to_dense(y)])
    assert [v.tolist() for v in found] == [[[0, 0], [0, 2]], [[8, 0], [0, 0]]]


@pytest.mark.parametrize("taken", [True, False])
def test_cond_runs_effects_of_one_branch(taken):
    v = tf.Variable(1.0)
    w = tf.Variable(10.0)
    x = tf.cond(flag(taken), lambda: v.assign_add(4.0), lambda: w.assign_add(5.0))
    with tf.control_dependencies([x]):
        after = [v.read_value(), w.read_value()]
    assert run(after) == ([5.0, 10.0] if taken else [1.0, 15.0])


@pytest.mark.parametrize("taken", [True, False])
def test_cond_of_operations(taken):
    v = tf.Variable(1.0)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        done = tf.cond(flag(taken), lambda: tf.group(v.assign(7.0)), tf.no_op)
        assert sess.run(done) in (True, False)
        assert sess.run(v) == (7.0 if taken else 1.0)


def test_cond_without_results():
    assert tf.cond(flag(), lambda: None, lambda: None) is None


def test_only_the_taken_branch_runs():
    seen = []

    def note(x):
        seen.append(float(x))
        return x
    outside = tf.py_func(note, [tf.constant(0.5)], tf.float32)
    p = tf.placeholder(tf.bool, [])
    x = tf.cond(p, lambda: tf.py_func(note, [tf.constant(1.0)], tf.float32),
                lambda: tf.py_func(note, [tf.constant(2.0)], tf.float32) + tf.reshape(outside, []))
    assert run(x, {p: True}) == 1.0
    assert seen == [0.5, 1.0]  # what stands outside runs in any case
    assert run(x, {p: False}) == 2.5
    assert seen == [0.5, 1.0, 0.5, 2.0]


def test_nested_conds():
    p, q = (tf.placeholder(tf.bool, []) for _ in range(2))
    x = tf.cond(p, lambda: tf.cond(q, constant(1), constant(2)), lambda: tf.cond(q, constant(3), constant(4)))
    for i, (a, b) in enumerate([(True, True), (True, False), (False, True), (False, False)]):
        assert run(x, {p: a, q: b}) == i + 1


def test_control_dependencies_in_a_branch():
    v = tf.Variable(1.0)

    def branch():
        with tf.control_dependencies([v.assign_add(2.0)]):
            return v.read_value() * 10.0
    assert run(tf.cond(flag(), branch, constant(0.0))) == 30.0


def test_control_dependencies_around_a_branch():
    v = tf.Variable(1.0)
    with tf.control_dependencies([v.assign(5.0)]):
        x = tf.cond(flag(), lambda: v.read_value() + 1.0, constant(0.0))
    assert run(x) == 6.0


def test_variables_made_in_a_branch():
    def branch():
        with tf.variable_scope("s"):
            return 2.0 * tf.get_variable("w", [2], initializer=tf.ones_initializer())
    x = tf.cond(flag(), branch, lambda: tf.zeros([2]))
    assert [v.name for v in tf.global_variables()] == ["s/w:0"]
    np.testing.assert_array_equal(run(x), [2.0, 2.0])


def test_a_variable_read_before_and_after_it_was_assigned_in_a_branch():
    v = tf.Variable(1.0)
    before = v + 0.0
    x = tf.cond(flag(), lambda: v.assign(3.0), constant(0.0))
    after = v + 0.0
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        assert sess.run([before, x, after]) == [1.0, 3.0, 3.0]
        assert sess.run(v) == 3.0


@pytest.mark.parametrize("error, text, make", [
    (TypeError, "true_fn must be callable", lambda: tf.cond(flag(), tf.constant(1), constant(2))),
    (TypeError, "false_fn argument required", lambda: tf.cond(flag(), constant(1))),
    (TypeError, "simultaneously", lambda: tf.cond(flag(), constant(1), fn1=constant(1), fn2=constant(2))),
    (TypeError, "pred must not be a Python bool", lambda: tf.cond(True, constant(1), constant(2))),
    (TypeError, "int32", lambda: tf.cond(tf.constant(1), constant(1), constant(2))),
    (TypeError, "string", lambda: tf.cond("x", constant(1), constant(2))),
    (ValueError, "None", lambda: tf.cond(None, constant(1), constant(2))),
    (ValueError, "rank 0 but is rank 1", lambda: tf.cond(tf.constant([True, False]), constant(1), constant(2))),
    (ValueError, "must have the same type.*int32.*float32", lambda: tf.cond(flag(), constant(1), constant(2.0))),
    (ValueError, "false_fn must have a return value", lambda: tf.cond(flag(), constant(1), lambda: None)),
    (ValueError, "at least one result", lambda: tf.cond(flag(), lambda: [], lambda: [])),
    (ValueError, "number of elements", lambda: tf.cond(flag(), lambda: [tf.constant(1), tf.constant(2)], lambda: [tf.constant(1)])),
    (TypeError, "tuple.*list", lambda: tf.cond(flag(), lambda: (tf.constant(1), tf.constant(2)), lambda: [tf.constant(1), tf.constant(2)])),
], ids=lambda x: x if isinstance(x, str) else "")
def test_cond_refuses(error, text, make):
    with pytest.raises(error, match=text):
        make()


def test_predicate_that_is_no_scalar_when_it_runs():
    p = tf.placeholder(tf.bool)
    v = tf.Variable(1.0)
    x = tf.cond(p, lambda: v.assign(2.0), lambda: v.assign(3.0))
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        with pytest.raises(tf.errors.InvalidArgumentError, match="scalar"):
            sess.run(x, {p: [True, False]})
        assert sess.run(v) == 1.0


@pytest.mark.parametrize("what", ["cond", "while"])
def test_tensors_inside_cannot_be_used_outside(what):
    inner = []

    def make(*i):
        inner.append(tf.constant(1, name="seed") + number())
        return inner[0]
    if what == "cond":
        tf.cond(flag(), make, constant(1))
    else:
        tf.while_loop(lambda i: i < 3, make, [0])
    with pytest.raises(tf.errors.InaccessibleTensorError, match=f"{what}/.*inside") as e:
        inner[0] * 2
    assert isinstance(e.value, ValueError)
    assert "test_control_flow.py:" in str(e.value)
    with pytest.raises(tf.errors.InaccessibleTensorError, match="cannot be fetched"):
        run(inner[0])
    with pytest.raises(ValueError, match="may not be fed"):
        run(tf.constant(1), {inner[0]: 3})
    g = tf.get_default_graph()
    assert not g.is_fetchable(inner[0])
    assert not g.is_feedable(inner[0])
    assert g.is_feedable(tf.constant(1))


def test_nan_in_the_predicate():
    x = tf.placeholder_with_default(np.float32(np.nan), [])
    assert run(tf.cond(x < 1.0, constant(1), constant(2))) == 2
    assert run(tf.cond(tf.is_nan(x), constant(1), constant(2))) == 1
    assert np.isnan(run(tf.while_loop(lambda y: y < 10.0, lambda y: y + 1.0, [x])))


# ---------------------------------------------------------------- case, switch_case


@pytest.mark.parametrize("value, wanted", [(0, 1), (2, 2), (9, 3)])
def test_case_takes_the_first(value, wanted):
    x = tf.placeholder(tf.int32, [])
    pairs = [(x < 1, constant(1)), (x < 4, constant(2))]
    assert run([tf.case(pairs, default=constant(3)), tf.case(dict(pairs[1:]), default=constant(3))], {x: value})[0] == wanted


def test_case_without_default():
    x = tf.placeholder(tf.int32, [])
    found = tf.case([(x < 1, constant(1)), (x < 4, constant(2))])
    assert run(found, {x: 2}) == 2
    with pytest.raises(tf.errors.InvalidArgumentError, match="None of the conditions") as e:
        run(found, {x: 5})
    assert "test_control_flow.py:" in str(e.value)


def test_exclusive_case():
    x = tf.placeholder(tf.int32, [])
    found = tf.case([(x < 1, constant(1)), (x < 4, constant(2))], default=constant(3), exclusive=True)
    assert run(found, {x: 2}) == 2
    with pytest.raises(tf.errors.InvalidArgumentError, match="more than 1 conditions"):
        run(found, {x: 0})


@pytest.mark.parametrize("strict, wanted", [(False, 1), (True, [1])])
def test_case_of_lists_of_one(strict, wanted):
    assert run(tf.case([(number() < 5, lambda: [tf.constant(1)])], default=lambda: [tf.constant(2)], strict=strict)) == wanted


@pytest.mark.parametrize("error, text, make", [
    (ValueError, "at least one", lambda: tf.case([])),
    (TypeError, "list, tuple, or dict", lambda: tf.case(3)),
    (TypeError, "callable", lambda: tf.case([(number() < 5, 3)])),
    (TypeError, "bool", lambda: tf.case([(tf.constant(1), constant(1))])),
    (TypeError, "bool scalar tensor", lambda: tf.case([(True, constant(1))], default=constant(1))),
    (TypeError, "default must be callable", lambda: tf.case([(number() < 5, constant(1))], default=3)),
    (TypeError, "2-tuple", lambda: tf.case([(number() < 5,)])),
], ids=lambda x: x if isinstance(x, str) else "")
def test_case_refuses(error, text, make):
    with pytest.raises(error, match=text):
        make()


@pytest.mark.parametrize("value, wanted, with_default", [(0, 10, 10), (2, 12, 12), (3, 12, -1), (-1, 12, -1)])
def test_switch_case(value, wanted, with_default):
    x = tf.placeholder(tf.int32, [])
    fns = [constant(10), constant(11), constant(12)]
    assert run([tf.switch_case(x, fns), tf.switch_case(x, dict(enumerate(fns)), default=constant(-1)),
                tf.switch_case(x, list(enumerate(fns))[::-1])], {x: value}) == [wanted, with_default, wanted]


@pytest.mark.parametrize("error, text, make", [
    (TypeError, "branch_index", lambda: tf.switch_case(tf.constant(1.0), [constant(0)])),
    (ValueError, "scalar", lambda: tf.switch_case(tf.constant([1]), [constant(0)])),
    (ValueError, "at least one", lambda: tf.switch_case(number(), [])),
    (TypeError, "list, tuple, or dict", lambda: tf.switch_case(number(), 3)),
    (TypeError, "Python `int`", lambda: tf.switch_case(number(), {0: constant(0), 1.5: constant(1)})),
    (TypeError, "callable", lambda: tf.switch_case(number(), {0: constant(0), 1: 3})),
    (ValueError, "contiguous range", lambda: tf.switch_case(number(), {0: constant(0), 3: constant(1)})),
    (ValueError, "contiguous range", lambda: tf.switch_case(number(), [(0, constant(0)), (0, constant(1))])),
], ids=lambda x: x if isinstance(x, str) else "")
def test_switch_case_refuses(error, text, make):
    with pytest.raises(error, match=text):
        make()


# ---------------------------------------------------------------- while_loop


def plain(x):
    """Arrays as lists."""
    if isinstance(x, dict):
        return {k: plain(v) for k, v in x.items()}
    if isinstance(x, (list, tuple)):
        return type(x)._make(map(plain, x)) if hasattr(x, "_make") else type(x)(map(plain, x))
    return x.tolist() if isinstance(x, (np.ndarray, np.generic)) else x


@pytest.mark.parametrize("variables, body, wanted", [
    (0, lambda i: i + 1, 5),
    ([0], lambda i: [i + 1], 5),
    ((0, 1), lambda i, j: (i + 1, j * 2), (5, 32)),
    ([0, 1], lambda i, j: (i + 1, j * 2), (5, 32)),
    ((0, 1), lambda i, j: [i + 1, j * 2], [5, 32]),
    ([0, Pair(1, 2)], lambda i, p: [i + 1, Pair(p.b, p.a)], [5, Pair(2, 1)]),
    ([0, {"b": 1, "a": 1.5}], lambda i, d: [i + 1, {"a": d["a"] * 2.0, "b": d["b"] - 1}], [5, {"a": 48.0, "b": -4}]),
    ([0, (1, [2, (3,)])], lambda i, x: [i + 1, (x[1][0], [x[1][1][0], (x[0],)])], [5, (3, [1, (2,)])]),
    ([0, np.ones(2)], lambda i, x: [i + 1, x + x], [5, [32.0, 32.0]]),
], ids=["tensor", "one", "tuple", "list for tuple", "tuple for list", "namedtuple", "dict", "nested", "array"])
def test_while_structures(variables, body, wanted):
    x = tf.while_loop(lambda i, *_: i < 5, body, variables)
    assert plain(run(x)) == wanted
    assert type(plain(run(x))) is type(wanted)


def test_a_dict_of_loop_variables():
    x = tf.while_loop(lambda d: d["i"] < 4, lambda d: {"i": d["i"] + 1, "s": d["s"] + d["i"]}, {"i": 0, "s": 0})
    assert plain(run(x)) == {"i": 4, "s": 6}


def test_return_same_structure():
    x = tf.while_loop(lambda i: i < 5, lambda i: [i + 1], [0], return_same_structure=True)
    assert run(x) == [5]


@pytest.mark.parametrize("start", [5, 7])
def test_no_iteration(start):
    x = tf.placeholder(tf.float32, [None])
    i, y = tf.while_loop(lambda i, _: i < 5, lambda i, y: (i + 1, tf.log(y) / 0.0), (number(start), x))
    found = run([i, y], {x: [1.0, 2.0]})
    assert found[0] == start
    np.testing.assert_array_equal(found[1], [1.0, 2.0])


def test_no_iteration_of_what_would_fail():
    n = tf.placeholder(tf.int32, [])
    table = tf.placeholder(tf.float32, [None])
    x = tf.while_loop(lambda i, _: i < n, lambda i, s: (i + 1, s + table[5] + tf.gather(table, 7)), (0, 0.0))[1]
    assert run(x, {n: 0, table: [1.0]}) == 0.0
    with pytest.raises(tf.errors.InvalidArgumentError):
        run(x, {n: 1, table: [1.0]})


@pytest.mark.parametrize("most, wanted", [(5, 5), (0, 0), (-1, 0), (100, 10)])
@pytest.mark.parametrize("fed", [False, True])
def test_maximum_iterations(most, wanted, fed):
    n = tf.placeholder_with_default(most, []) if fed else most
    assert run(tf.while_loop(lambda i: i < 10, lambda i: i + 1, [0], maximum_iterations=n)) == wanted


def test_the_length_depends_on_data():
    """Collatz sequences."""
    def steps(n):
        k = 0
        while n != 1:
            n, k = n // 2 if n % 2 == 0 else 3 * n + 1, k + 1
        return k
    n = tf.placeholder(tf.int64, [])
    _, k = tf.while_loop(lambda n, k: tf.not_equal(n, 1),
                         lambda n, k: (tf.cond(tf.equal(n % 2, 0), lambda: n // 2, lambda: 3 * n + 1), k + 1), (n, 0))
    for value in (1, 7, 27, 97):
        assert run(k, {n: value}) == steps(value)


def test_growing_with_a_shape_invariant():
    i, x = tf.while_loop(lambda i, _: i < 4, lambda i, x: (i + 1, tf.concat([x, [i]], 0)), (0, tf.zeros([0], tf.int32)),
                         shape_invariants=(tf.TensorShape([]), tf.TensorShape([None])))
    assert x.shape.as_list() == [None]
    assert plain(run(x)) == [0, 1, 2, 3]


def test_shapes_known_when_it_runs():
    x = tf.placeholder(tf.float32, [None, None])
    _, y = tf.while_loop(lambda i, _: i < 3, lambda i, y: (i + 1, tf.matmul(y, y)), (0, x))
    assert y.shape.as_list() == [None, None]
    for n in (2, 3):
        value = np.random.default_rng(n).normal(size=(n, n)).astype(np.float32) / n
        np.testing.assert_allclose(run(y, {x: value}), np.linalg.matrix_power(value, 8), rtol=1e-4, atol=1e-6)


def test_each_iteration_sees_the_variables_of_the_last():
    v = tf.Variable(1.0)

    def body(i, seen):
        before = v.read_value()
        with tf.control_dependencies([v.assign(before * 2.0)]):
            return i + 1, seen + before
    x = tf.while_loop(lambda i, _: i < 5, body, (0, 0.0))
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        assert sess.run(x) == (5, 31.0)
        assert sess.run(v) == 32.0


def test_the_condition_reads_a_variable_that_the_body_assigns():
    v = tf.Variable(0)

    def body(i):
        with tf.control_dependencies([v.assign_add(3)]):
            return i + 1
    assert run(tf.while_loop(lambda i: v.read_value() < 10, body, [0])) == 4


def test_variables_made_in_a_body():
    def body(i, x):
        with tf.variable_scope("b"):
            w = tf.get_variable("w", [], initializer=tf.constant_initializer(1.5))
        return i + 1, x * w
    x = tf.while_loop(lambda i, _: i < 4, body, (0, 1.0))[1]
    assert [v.name for v in tf.trainable_variables()] == ["b/w:0"]
    assert run(x) == 1.5**4


def test_random_ops_advance_each_iteration():
    def draw():
        _, xs = tf.while_loop(lambda i, _: i < 4, lambda i, t: (i + 1, t.write(i, tf.random_uniform([3], seed=5))),
                              (0, tf.TensorArray(tf.float32, 4, element_shape=[3])))
        return xs.stack()
    x = draw()
    with tf.Session() as sess:
        first, second = sess.run(x), sess.run(x)
    rows = np.concatenate([first, second])
    assert len({tuple(r) for r in rows.tolist()}) == 8  # no two draws are equal
    with tf.Session() as sess:
        np.testing.assert_array_equal(sess.run(x), first)  # and a new session starts again


def test_py_func_and_print_in_a_body(capfd):
    seen = []

    def double(x):
        seen.append(float(x))
        return np.float32(x * 2.0)

    def body(i, x):
        y = tf.py_func(double, [x], tf.float32)
        y.set_shape([])
        return i + 1, tf.Print(y, [y], "now ")
    assert run(tf.while_loop(lambda i, _: i < 3, body, (0, 1.0)))[1] == 8.0
    assert seen == [1.0, 2.0, 4.0]
    assert [line for line in capfd.readouterr().err.splitlines() if "now" in line] == ["now [2]", "now [4]", "now [8]"]


def test_assert_in_a_body_stops_it_and_changes_nothing():
    v = tf.Variable(0.0)

    def body(i):
        with tf.control_dependencies([v.assign_add(1.0), tf.Assert(i < 3, ["too big", i])]):
            return i + 1
    x = tf.while_loop(lambda i: i < 5, body, [0])
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        with pytest.raises(tf.errors.InvalidArgumentError, match="too big") as e:
            sess.run(x)
        assert "while/Assert" in str(e.value)
        assert "test_control_flow.py:" in str(e.value)
        assert sess.run(v) == 0.0


def test_nested_loops():
    def inner(i):
        return tf.while_loop(lambda j, _: j < i, lambda j, s: (j + 1, s + i * j), (0, 0))[1]
    x = tf.while_loop(lambda i, _: i < 6, lambda i, s: (i + 1, s + inner(i)), (0, 0))[1]
    assert run(x) == sum(i * j for i in range(6) for j in range(i))


@pytest.mark.parametrize("taken", [True, False])
def test_loop_in_a_branch(taken):
    x = tf.cond(flag(taken), lambda: tf.while_loop(lambda i: i < 10, lambda i: i + 1, [0]), constant(4))
    assert run(x) == (10 if taken else 4)


def test_branch_in_a_loop():
    x = tf.while_loop(lambda i, _: i < 10, lambda i, s: (i + 1, tf.cond(tf.equal(i % 2, 0), lambda: s + i, lambda: s - 1)), (0, 0))[1]
    assert run(x) == 20 - 5


def test_loops_that_depend_on_each_other():
    x = tf.while_loop(lambda i, _: i < 3, lambda i, y: (i + 1, y * 2.0), (0, tf.ones([2])))[1]
    y = tf.while_loop(lambda i, _: i < 2, lambda i, y: (i + 1, y + x), (0, x))[1]
    np.testing.assert_array_equal(run(y), [24.0, 24.0])


def test_a_variable_that_keeps_its_value():
    x = tf.placeholder_with_default([1.0, 2.0], [2])
    _, y, z = tf.while_loop(lambda i, *_: i < 5, lambda i, y, z: (i + 1, tf.reshape(y, [2]), z * 1.0), (0, x, x))
    assert plain(run([y, z])) == [[1.0, 2.0], [1.0, 2.0]]


def test_swapped_variables():
    """Each new value is of the old ones, not of one another."""
    x = tf.while_loop(lambda i, *_: i < 5, lambda i, a, b: (i + 1, b, a + b), (0, tf.constant([0, 1]), tf.constant([1, 1])))
    assert plain(run(x)) == (5, [5, 8], [8, 13])


def test_control_dependencies_around_a_loop():
    v = tf.Variable(1.0)
    with tf.control_dependencies([v.assign(4.0)]):
        x = tf.while_loop(lambda i, _: i < 3, lambda i, s: (i + 1, s + v.read_value()), (0, 0.0))[1]
    assert run(x) == 12.0


def test_a_fed_result_skips_the_loop():
    x = tf.while_loop(lambda i: i < 10, lambda i: i + tf.py_func(lambda: 1 // 0, [], tf.int32), [0], [tf.TensorShape(None)])
    assert run(x + 1, {x: 41}) == 42


@pytest.mark.parametrize("error, text, make", [
    (TypeError, "cond must be callable", lambda: tf.while_loop(3, lambda i: i + 1, [0])),
    (TypeError, "body must be callable", lambda: tf.while_loop(lambda i: i < 3, 3, [0])),
    (ValueError, "No loop variables", lambda: tf.while_loop(lambda: True, lambda: [], [])),
    (ValueError, "structure", lambda: tf.while_loop(lambda i: i < 3, lambda i: [i + 1, i], [0])),
    (ValueError, "number of elements", lambda: tf.while_loop(lambda i, j: i < 3, lambda i, j: (i + 1,), (0, 1))),
    (TypeError, "tuple.*list", lambda: tf.while_loop(lambda i, j: i < 3, lambda i, j: (i + 1, [j[1], j[0]]), (0, (1, 2)))),
    (ValueError, "None", lambda: tf.while_loop(lambda i: i < 3, lambda i: None, [0])),
    (TypeError, "while/NoOp", lambda: tf.while_loop(lambda i: i < 3, lambda i: tf.no_op(), [0])),
    (TypeError, "loop variable 'first:0' changes.*int32.*float32",
     lambda: tf.while_loop(lambda i: i < 3, lambda i: tf.cast(i, tf.float32), [tf.constant(0, name="first")])),
    (ValueError, r"shape for 'first:0' is not an invariant.*\(1,\).*\(2,\).*shape_invariants",
     lambda: tf.while_loop(lambda x: True, lambda x: tf.concat([x, x], 0), [tf.constant([1], name="first")])),
    (ValueError, "invariant specified for 'first:0' is not compatible",
     lambda: tf.while_loop(lambda x: True, lambda x: x, [tf.constant([1], name="first")], [tf.TensorShape([3])])),
    (ValueError, "shape_invariants", lambda: tf.while_loop(lambda i, j: i < 3, lambda i, j: [i, j], [0, 1], [tf.TensorShape([])])),
    (ValueError, "rank 0 but is rank 1", lambda: tf.while_loop(lambda i: tf.constant([True]), lambda i: i, [0])),
    (TypeError, "int32", lambda: tf.while_loop(lambda i: i, lambda i: i, [0])),
    (TypeError, "positive integer", lambda: tf.while_loop(lambda i: i < 3, lambda i: i, [0], parallel_iterations=0)),
    (ValueError, "must be a scalar", lambda: tf.while_loop(lambda i: i < 3, lambda i: i, [0], maximum_iterations=[5])),
    (TypeError, "maximum_iterations", lambda: tf.while_loop(lambda i: i < 3, lambda i: i, [0], maximum_iterations=1.5)),
], ids=lambda x: x if isinstance(x, str) else "")
def test_while_refuses(error, text, make):
    with pytest.raises(error, match=f"(?s){text}"):
        make()


def test_a_python_bool_as_the_condition():
    assert run(tf.while_loop(lambda i: False, lambda i: i + 1, [3])) == 3


def test_a_refused_loop_leaves_the_graph_usable():
    with pytest.raises(TypeError, match="changes"):
        tf.while_loop(lambda i: i < 3, lambda i: tf.cast(i, tf.float32), [0])
    x = tf.identity(tf.while_loop(lambda i: i < 3, lambda i: i + 1, [0]), name="x")
    assert run(x) == 3
    exported = tf.get_default_graph().as_graph_def()
    with tf.Graph().as_default():
        assert run(tf.import_graph_def(exported, return_elements=["x:0"]), init=False) == [3]


# ---------------------------------------------------------------- graphs with branches and loops: files, pictures


def network():
    x = tf.placeholder(tf.float32, [None, 3], name="x")
    w = tf.get_variable("w", [3], initializer=tf.ones_initializer())
    count = tf.get_variable("count", [], initializer=tf.zeros_initializer(), trainable=False)

    def body(i, h, rows):
        h = tf.tanh(h * w + x[0])
        with tf.control_dependencies([count.assign_add(1.0)]):
            h = tf.identity(h)
        h = tf.cond(tf.reduce_sum(h) > 0.0, lambda: h * 2.0,
                    lambda: tf.while_loop(lambda j, _: j < 2, lambda j, q: (j + 1, q * w), (0, h))[1])
        return i + 1, h, rows.write(i, h)
    rows = tf.while_loop(lambda i, *_: i < 4, body, (0, tf.zeros([3]), tf.TensorArray(tf.float32, 4)), swap_memory=True)[2]
    y = tf.identity(rows.stack(), name="y")
    tf.identity(tf.gradients(y, x)[0], name="dx")
    tf.add_to_collection("outputs", y)


@pytest.fixture
def feeds():
    return {"x:0": np.arange(6).reshape(2, 3).astype(np.float32) - 2.0}


FETCHES = ["y:0", "dx:0", "count:0"]


def test_export_and_import(feeds):
    network()
    exported = tf.get_default_graph().as_graph_def()
    wanted = run(FETCHES, feeds)
    read = tf.GraphDef.from_json(exported.to_json())
    assert read == exported
    with tf.Graph().as_default() as g:
        tf.import_graph_def(read, name="")
        assert g.as_graph_def() == exported
        with tf.Session() as sess:
            sess.run([op for op in g.get_operations() if op.type == "Assign"])
            for a, b in zip(sess.run(FETCHES, feeds), wanted):
                np.testing.assert_array_equal(a, b)
        inner = next(op for op in g.get_operations() if op.type == "While" and op.region is None)
        with pytest.raises(tf.errors.InaccessibleTensorError, match="while loop"):
            inner.attrs["regions"][1].results[0] + 1


@pytest.mark.parametrize("taken", [True, False])
def test_import_under_a_name_and_into_a_branch(taken):
    x = tf.placeholder(tf.float32, [], name="x")
    tf.while_loop(lambda i, _: i < 3, lambda i, y: (i + 1, y * x), (0, x), name="power")
    exported = tf.get_default_graph().as_graph_def()
    with tf.Graph().as_default():
        z = tf.placeholder(tf.float32, [])
        found = tf.cond(flag(taken), lambda: tf.import_graph_def(exported, {"x": z}, ["power/Exit:1"], name="part"), lambda: [-z])
        assert run(found, {z: 2.0}, init=False) == (16.0 if taken else -2.0)


def test_meta_graph(feeds):
    network()
    wanted = run(FETCHES, feeds)
    meta = tf.train.export_meta_graph()
    with tf.Graph().as_default():
        tf.train.import_meta_graph(meta)
        assert tf.get_collection("outputs")[0].name == "y:0"
        for a, b in zip(run(FETCHES, feeds), wanted):
            np.testing.assert_array_equal(a, b)


def test_frozen_variables(feeds):
    w = tf.get_variable("w", [3], initializer=tf.constant_initializer([1.0, 2.0, 3.0]))
    x = tf.placeholder(tf.float32, [None, 3], name="x")
    tf.identity(tf.while_loop(lambda i, _: i < 3, lambda i, y: (i + 1, y * w), (0, x))[1], name="y")
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        frozen = tf.graph_util.convert_variables_to_constants(sess, sess.graph_def, ["y"])
    assert not [n for n in frozen.node if n.op in ("VariableV2", "Assign")]
    with tf.Graph().as_default():
        y, = tf.import_graph_def(tf.graph_util.remove_training_nodes(frozen, ["y"]), return_elements=["y:0"], name="")
        np.testing.assert_array_equal(run(y, feeds, init=False), feeds["x:0"] * np.array([1, 8, 27], np.float32))


@pytest.mark.parametrize("breaks, text", [
    (lambda n: n.attr.pop("regions"), "no branch or loop owns region"),
    (lambda n: n.attr.update(regions=n.attr["regions"][:1]), "no branch or loop owns region"),
], ids=["no regions", "one region"])
def test_malformed_graph(breaks, text):
    tf.while_loop(lambda i: i < 3, lambda i: i + 1, [0])
    exported = tf.get_default_graph().as_graph_def()
    breaks(next(n for n in exported.node if n.op == "While"))
    with tf.Graph().as_default(), pytest.raises(ValueError, match=text):
        tf.import_graph_def(exported)


def test_pictures():
    network()
    g = tf.get_default_graph()
    dot = g.to_dot()
    for label in ("[Exit cond]", "[Exit body]", "[Merge true_fn]", "[Merge false_fn]"):
        assert f'label="{label}"' in dot
    assert '"cluster_while/[Exit body]/cond/[Merge false_fn]/while/[Exit body]"' in dot
    assert '"while/Less" -> "while/Exit" [style=dotted' in dot
    loop = g.get_operation_by_name("while/Exit")
    assert f"{loop.name}: int32[], float32[3]" in g.to_text()
    assert g.to_svg().count('class="n"') == len(g.get_operations())
    assert "while/Exit" in g.to_html()
    assert set(g.to_networkx()) == {op.name for op in g.get_operations()}
