"""Variables, their scopes, sharing by name, initialisation."""
from __future__ import annotations

import numpy as np
import pytest
from on_gpu import QUICK

import graphflow as tf
from graphflow.flags import flags

MODES = {"reference": 1, "compiled": 0}


@pytest.fixture(params=MODES)
def mode(request):
    with flags.override(interpret=MODES[request.param]), tf.Graph().as_default():
        yield request.param


@pytest.fixture
def graph():
    with flags.override(interpret=QUICK), tf.Graph().as_default() as g:
        yield g


def started():
    sess = tf.Session()
    sess.run(tf.global_variables_initializer())
    return sess


# ---------------------------------------------------------------- Variable


def test_value_assign_and_load(mode):
    v = tf.Variable([1.0, 2.0], name="v")
    with started() as sess:
        assert sess.run(v).tolist() == [1, 2]
        assert sess.run(v.assign([3, 4])).tolist() == [3, 4]
        assert sess.run(v.assign_add([1, 1])).tolist() == [4, 5]
        assert sess.run(v.assign_sub([1, 2])).tolist() == [3, 3]
        v.load([7, 8], sess)
        assert v.eval(sess).tolist() == [7, 8] == sess.run(v.read_value()).tolist()
        assert sess.run(v + 1).tolist() == [8, 9]
        with pytest.raises(ValueError):
            v.load([1, 2, 3], sess)
        assert sess.run(v).tolist() == [7, 8]


def test_each_session_has_its_own_values(mode):
    v = tf.Variable(1)
    add = v.assign_add(1)
    with started() as a, started() as b:
        a.run(add)
        assert (a.run(v), b.run(v)) == (2, 1)


def test_names_of_the_ops(graph):
    tf.Variable(1.0, name="v")
    tf.Variable(lambda: tf.random_normal([2]), name="w")
    tf.Variable(2.0)
    tf.Variable(2.0)
    names = {op.name for op in graph.get_operations()}
    assert {"v", "v/initial_value", "v/Assign", "v/read", "w/Initializer/random_normal", "w/Assign", "Variable", "Variable_1"} <= names


def test_attributes(graph):
    keep = lambda x: x  # noqa: E731
    v = tf.Variable(np.zeros((2, 3), np.int64), name="v", trainable=False, constraint=keep)
    assert v.name == "v:0" and v.op.name == "v" and v.dtype == tf.int64 and v.shape == (2, 3) and not v.trainable
    assert v.graph is graph and v.constraint is keep and v.get_shape().as_list() == [2, 3]
    assert v in tf.global_variables() and v not in tf.trainable_variables()
    with pytest.raises(TypeError):
        bool(v)
    assert len({v, v}) == 1 and v == v and v != tf.Variable(1)


def test_bad_construction(graph):
    for arguments in ({}, {"initial_value": 1, "constraint": 3}, {"initial_value": 1, "collections": "variables"},
                      {"initial_value": tf.placeholder(tf.float32)}):
        with pytest.raises(ValueError):
            tf.Variable(**arguments)
    with pytest.raises(TypeError):
        tf.Variable("text", dtype=tf.float32)


def test_a_shape_that_may_change(mode):
    p = tf.placeholder(tf.float32, [None])
    v = tf.Variable(p, validate_shape=False)
    grown = tf.assign(v, tf.concat([v, v], 0), validate_shape=False)
    with tf.Session() as sess:
        sess.run(v.initializer, {p: [1, 2]})
        assert sess.run(grown).tolist() == [1, 2, 1, 2]
        assert sess.run(v).tolist() == [1, 2, 1, 2]


def test_initialized_value_is_consistent_in_any_order(mode):
    a = tf.Variable(tf.random_normal([3]), name="a")
    b = tf.Variable(a.initialized_value() * 2, name="b")
    with tf.Session() as sess:
        sess.run(tf.variables_initializer([b, a]))
        np.testing.assert_array_equal(sess.run(b), 2 * sess.run(a))


def test_uninitialized(mode):
    a, _ = tf.Variable(1.0, name="a"), tf.Variable(2.0, name="b")
    local = tf.get_local_variable("c", [])
    report, has, checked = tf.report_uninitialized_variables(), tf.is_variable_initialized(a), tf.assert_variables_initialized()
    with tf.Session() as sess:
        assert sess.run(report).tolist() == [b"a", b"b", b"c"] and not sess.run(has)
        with pytest.raises(tf.errors.FailedPreconditionError, match="uninitialized value a"):
            sess.run(a)
        with pytest.raises(tf.errors.FailedPreconditionError):
            sess.run(a.assign_add(1))
        with pytest.raises(tf.errors.FailedPreconditionError):
            sess.run(checked)
        sess.run(a.initializer)
        assert sess.run(report).tolist() == [b"b", b"c"] and sess.run(has)
        sess.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
        assert sess.run(report).shape == (0,) and sess.run(local) == sess.run(local)
        sess.run(checked)


def test_count_up_to(mode):
    v = tf.Variable(0, name="steps")
    step = v.count_up_to(2)
    with started() as sess:
        assert [sess.run(step), sess.run(step), sess.run(v)] == [0, 1, 2]
        with pytest.raises(tf.errors.OutOfRangeError, match="limit of 2"):
            sess.run(step)
        assert sess.run(v) == 2


def test_slices_read_the_current_value(mode):
    v = tf.Variable(np.arange(6).reshape(2, 3))
    row = v[1]
    with started() as sess:
        assert sess.run(row).tolist() == [3, 4, 5]
        v.load(np.zeros((2, 3), np.int64), sess)
        assert sess.run(row).tolist() == [0, 0, 0]


def test_scatter_methods(mode):
    v = tf.Variable(np.zeros((4, 2), np.float32))
    slices = tf.IndexedSlices(tf.constant([[1.0, 2.0], [3.0, 4.0]]), tf.constant([1, 1]))
    add = v.scatter_add(slices)
    with started() as sess:
        assert sess.run(add).tolist() == [[0, 0], [4, 6], [0, 0], [0, 0]]
        assert sess.run(v.scatter_nd_update([[3]], [[9.0, 9.0]]))[3].tolist() == [9, 9]


def test_collections(graph):
    a = tf.Variable(1.0, name="x/a")
    b = tf.Variable(1.0, name="y/b", collections=["mine", tf.GraphKeys.LOCAL_VARIABLES], trainable=False)
    assert tf.global_variables() == [a] and tf.local_variables() == [b] and tf.get_collection("mine") == [b]
    assert tf.trainable_variables("x") == [a] and tf.trainable_variables("y") == []
    assert tf.all_variables() == [a] and tf.model_variables() == [] and tf.moving_average_variables() == []


# ---------------------------------------------------------------- scopes


def test_names_of_scopes_opened_again(graph):
    with tf.variable_scope("vs") as vs:
        v = tf.get_variable("v", [1])
        first = tf.constant(1.0, name="c")
    with tf.variable_scope("vs", reuse=True):
        assert tf.get_variable("v", [1]) is v
        second = tf.constant(1.0, name="c")
    with tf.variable_scope(vs) as again:
        third = tf.constant(1.0, name="c")
        w = tf.get_variable("w", [1])
    assert (v.name, first.name, second.name, third.name, w.name) == ("vs/v:0", "vs/c:0", "vs_1/c:0", "vs_2/c:0", "vs/w:0")
    assert again.name == "vs" and again.original_name_scope == vs.original_name_scope == "vs/"
    with tf.name_scope(again.original_name_scope):
        assert tf.constant(1.0, name="d").name == "vs/d:0"


def test_nested_scopes_and_name_scopes(graph):
    with tf.variable_scope("a"), tf.name_scope("n"), tf.variable_scope("b"):
        assert tf.get_variable("v", [1]).name == "a/b/v:0"
        assert tf.constant(0, name="c").name == "a/n/b/c:0"
        assert tf.get_variable_scope().name == "a/b"
    with tf.name_scope("m"):
        assert tf.get_variable("v", [1]).name == "v:0"
    assert tf.get_variable_scope().name == ""


def test_scope_object_entered_elsewhere(graph):
    with tf.variable_scope("a") as a:
        pass
    with tf.variable_scope("other"), tf.variable_scope(a):
        assert tf.get_variable("v", [1]).name == "a/v:0"
        assert tf.constant(0, name="c").name == "other/a/c:0"


def test_default_names(graph):
    def layer():
        with tf.variable_scope(None, default_name="layer"):
            return tf.get_variable("w", [1]).name

    assert [layer(), layer()] == ["layer/w:0", "layer_1/w:0"]
    with tf.variable_scope("outer"):
        assert [layer(), layer()] == ["outer/layer/w:0", "outer/layer_1/w:0"]
    with tf.variable_scope("outer", reuse=True):
        assert layer() == "outer/layer/w:0"


def test_auxiliary_name_scope(graph):
    with tf.variable_scope("a", auxiliary_name_scope=False):
        assert tf.get_variable("v", [1]).name == "a/v:0" and tf.constant(0, name="c").name == "c:0"


def test_defaults_of_a_scope(graph):
    with tf.variable_scope("a", initializer=tf.constant_initializer(4.0), dtype=tf.float64, regularizer=lambda v: v * 2.0):
        v = tf.get_variable("v", [2])
        with tf.variable_scope("b", regularizer=tf.no_regularizer):
            w = tf.get_variable("w", [], initializer=tf.constant_initializer(1.0))
    assert v.dtype == w.dtype == tf.float64
    losses = tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES)
    assert len(losses) == 1 and losses[0].name.startswith("a/v/Regularizer/")
    with started() as sess:
        assert sess.run([v, losses[0]])[1].tolist() == [8, 8]


def test_default_initializers(graph):
    i, b, f = tf.get_variable("i", [3], tf.int32), tf.get_variable("b", [2], tf.bool), tf.get_variable("f", [30, 40])
    with started() as sess:
        values = sess.run([i, b, f])
    assert not values[0].any() and not values[1].any() and 0 < np.abs(values[2]).max() <= (6 / 70) ** 0.5
    with pytest.raises(ValueError, match="initializer"):
        tf.get_variable("z", [2], tf.complex64)


def test_forms_of_initializers(graph):
    made = [tf.get_variable("a", initializer=3), tf.get_variable("b", initializer=np.float64([1, 2])),
            tf.get_variable("c", initializer=tf.constant([1, 2])),
            tf.get_variable("d", [2], initializer=tf.ones_initializer),
            tf.get_variable("e", [2], initializer=lambda shape, dtype, partition_info: tf.ones(shape, dtype)),
            tf.get_variable("f", initializer=lambda: tf.constant([5.0])), tf.get_variable("g", [2], tf.float64, lambda s: np.ones(s))]
    assert [v.dtype.name for v in made] == ["int32", "float64", "int32", "float32", "float32", "float32", "float64"]
    with started() as sess:
        assert [np.asarray(x).tolist() for x in sess.run(made)] == [3, [1, 2], [1, 2], [1, 1], [1, 1], [5], [1, 1]]


def test_auto_reuse_and_reuse_variables(graph):
    for _ in range(2):
        with tf.variable_scope("a", reuse=tf.AUTO_REUSE):
            v = tf.get_variable("v", [1])
    with tf.variable_scope("a") as scope:
        scope.reuse_variables()
        assert tf.get_variable("v", [1]) is v
        with tf.variable_scope("inner"), pytest.raises(ValueError, match="does not exist"):
            tf.get_variable("v", [1])
    assert len(tf.global_variables()) == 1


def test_custom_getters_nest(graph):
    seen = []

    def outer(getter, name, *args, **kwargs):
        seen.append(("outer", name))
        return getter(name, *args, **kwargs)

    def inner(getter, name, *args, **kwargs):
        seen.append(("inner", name))
        return getter(name + "_x", *args, **kwargs) * 2.0

    with tf.variable_scope("a", custom_getter=outer), tf.variable_scope("b", custom_getter=inner):
        doubled = tf.get_variable("v", [], initializer=tf.ones_initializer())
    assert seen == [("inner", "a/b/v"), ("outer", "a/b/v_x")] and [v.name for v in tf.global_variables()] == ["a/b/v_x:0"]
    with started() as sess:
        assert sess.run(doubled) == 2


def test_get_collection_of_a_scope(graph):
    with tf.variable_scope("a") as a:
        v = tf.get_variable("v", [1])
    w = tf.get_variable("ab", [1], trainable=False)
    assert a.trainable_variables() == [v] == a.global_variables() and w in tf.global_variables()


def test_templates_share_variables(graph):
    def line(x):
        return x * tf.get_variable("w", [],
                                   initializer=tf.ones_initializer()) + tf.get_variable("b", [], initializer=tf.zeros_initializer())

    f, g = tf.make_template("line", line), tf.make_template("line", line)
    f(tf.constant(1.0)), f(tf.constant(2.0)), g(tf.constant(1.0))
    assert [v.name for v in tf.global_variables()] == ["line/w:0", "line/b:0", "line_1/w:0", "line_1/b:0"]
    assert [v.name for v in f.trainable_variables] == ["line/w:0", "line/b:0"]


def test_a_template_may_not_make_variables_later(graph):
    names = iter(["a", "b"])
    f = tf.make_template("t", lambda: tf.get_variable(next(names), [1]))
    f()
    with pytest.raises(ValueError, match="does not exist"):
        f()


def test_scope_arguments(graph):
    with pytest.raises(ValueError, match="name_or_scope is required"):
        tf.variable_scope(None)
    with pytest.raises(ValueError, match="without a name_or_scope"):
        tf.variable_scope(None, default_name="a", reuse=True)
    with pytest.raises(TypeError):
        tf.variable_scope(3)


def test_an_error_inside_a_scope_restores_the_one_around(graph):
    with pytest.raises(KeyError), tf.variable_scope("a"):
        raise KeyError
    assert tf.get_variable_scope().name == "" and tf.constant(0, name="c").name == "c:0"


def test_state_is_per_graph(graph):
    tf.get_variable("v", [1])
    with tf.Graph().as_default():
        assert tf.get_variable("v", [2]).name == "v:0"


# ---------------------------------------------------------------- order


def test_reads_and_writes_happen_in_program_order(mode):
    v = tf.Variable(1.0)
    before = v * 1.0
    first = v.assign(v * 10.0)
    between = v + 0.0
    second = v.assign_add(5.0)
    with started() as sess:
        assert [float(x) for x in sess.run([before, first, between, second, v])] == [1, 10, 10, 15, 15]


def test_group_tuple_and_dependencies(mode):
    v, w = tf.Variable(0), tf.Variable(0)
    both = tf.group(v.assign_add(1), w.assign_add(2), name="both")
    assert both.type == "NoOp" and both.name == "both"
    with tf.control_dependencies([both]):
        after = v.read_value() + w.read_value()
    a, b, none = tf.tuple([tf.constant(1), tf.constant(2), None], control_inputs=[v.assign_add(100)])
    with started() as sess:
        assert sess.run(both) is None and sess.run([v, w]) == [1, 2]
        assert sess.run(after) == 6
        assert sess.run(a) == 1 and sess.run(v) == 102 and none is None
    with pytest.raises(ValueError):
        tf.tuple([None])
    with pytest.raises(TypeError):
        tf.group(tf.constant(1), None)
    with started() as sess:
        assert sess.run(tf.no_op()) is None
