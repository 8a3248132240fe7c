"""TF1's error table, one test a row, with the deviations that are documented; and that a Session goes on after each."""
from __future__ import annotations

import os

import numpy as np
import pytest

import graphflow as tf
from graphflow import errors
from graphflow.flags import flags

MODES = {"reference": 1, "compiled": 0}
HERE = os.path.basename(__file__)


@pytest.fixture(params=MODES)
def mode(request):
    with flags.override(interpret=MODES[request.param]), tf.Graph().as_default():
        yield request.param


@pytest.fixture
def build():
    with tf.Graph().as_default() as g:
        yield g


def fails(error, call, *words):
    """The exception raised by `call`: of this type, saying these words."""
    with pytest.raises(error) as caught:
        call()
    text = str(caught.value)
    for w in words:
        assert w in text, f"{w!r} is missing in: {text}"
    return caught.value


# ---------------------------------------------------------------- building


@pytest.mark.parametrize("make, words", [
    (lambda: tf.add(tf.zeros([2, 3]), tf.zeros([4, 5]), name="sum"), ["must be equal", "[2,3]", "[4,5]", "'sum'"]),
    (lambda: tf.matmul(tf.zeros([2, 3]), tf.zeros([4, 5])), ["3", "4", "[2,3]", "[4,5]"]),
    (lambda: tf.concat([tf.zeros([2, 3]), tf.zeros([2, 4])], 0), ["3", "4"]),
    (lambda: tf.reshape(tf.zeros([2, 3]), [4, 2]), ["6", "8"]),
    (lambda: tf.nn.conv2d(tf.zeros([1, 4, 4, 3]), tf.zeros([2, 2, 5, 1]), [1, 1, 1, 1], "SAME"), ["3", "5"]),
    (lambda: tf.assign(tf.Variable(tf.zeros([2])), tf.zeros([3])), ["[2]", "[3]"]),
    (lambda: tf.reduce_sum(tf.zeros([2, 3]), 2), ["2"]),
    (lambda: tf.transpose(tf.zeros([2, 3]), [0, 2]), ["2"]),
    (lambda: tf.nn.conv2d(tf.zeros([4, 4, 3]), tf.zeros([2, 2, 3, 1]), [1, 1, 1, 1], "SAME"), ["rank"]),
    (lambda: tf.placeholder(tf.float32, [2]).set_shape([3]), ["[2]", "[3]"]),
    (lambda: tf.gradients(tf.zeros([2]) * tf.ones([2]), [tf.ones([1])], grad_ys=[tf.zeros([3])]), ["3"]),
], ids=range(11))
def test_shape_mismatch(build, make, words):
    message = str(fails(ValueError, make, *words))
    if "(op: '" in message:  # refused by the op itself, not by a check of the Python function around it
        assert HERE in message, message


@pytest.mark.parametrize("make, words", [
    (lambda: tf.add(tf.zeros([2]), tf.zeros([2], tf.int32)), ["int32", "float32", "does not match"]),
    (lambda: tf.matmul(tf.zeros([2, 2]), tf.zeros([2, 2], tf.float64)), ["float64", "float32"]),
    (lambda: tf.constant([1, 2]) + 1.5, ["int32", "float"]),
    (lambda: tf.constant(1.5, tf.int32), ["int32"]),
    (lambda: tf.constant("a", tf.float32), ["float32"]),
    (lambda: tf.exp(tf.constant([1, 2])), ["int32"]),
    (lambda: tf.convert_to_tensor(tf.constant(1), tf.float32), ["int32", "float32"]),
], ids=range(7))
def test_dtype_mismatch(build, make, words):
    fails(TypeError, make, *words)


def test_mixing_graphs(build):
    with tf.Graph().as_default():
        other = tf.constant(1.0)
    fails(ValueError, lambda: tf.constant(1.0) + other, "must be from the same graph")


def test_finalized_graph(build):
    tf.constant(1)
    build.finalize()
    fails(RuntimeError, lambda: tf.constant(2), "Graph is finalized and cannot be modified")


@pytest.mark.parametrize("name", ["a b", "-a", "ä", "_a", "a:0"])
def test_invalid_names(build, name):
    fails(ValueError, lambda: tf.constant(1, name=name), "valid")


def test_bad_device(build):
    def enter():
        with tf.device("cpu-zero"):
            pass
    fails(ValueError, enter, "cpu-zero")


def test_python_protocols(build):
    t, u = tf.constant([1.0, 2.0]), tf.constant([1.0, 2.0])
    fails(errors.OperatorNotAllowedInGraphError, lambda: bool(t), "bool")
    fails(errors.OperatorNotAllowedInGraphError, lambda: list(t), "iterating")
    assert issubclass(errors.OperatorNotAllowedInGraphError, TypeError)
    fails(NotImplementedError, lambda: np.array(t), "NumPy")
    fails(TypeError, lambda: len(t), "len")
    assert (t == u) is False and (t == t) is True and len({t, u, t}) == 2


def test_get_variable(build):
    v = tf.get_variable("v", [2])
    fails(ValueError, lambda: tf.get_variable("v", [2]), "already exists", "Did you mean to set reuse=True or reuse=tf.AUTO_REUSE", HERE)
    fails(ValueError, lambda: tf.get_variable("n"), "Shape of a new variable (n) must be fully defined")
    fails(ValueError, lambda: tf.get_variable("c", [3], initializer=tf.constant([1.0])), "constant", "shape")
    fails(ValueError, lambda: tf.get_variable("c", dtype=tf.int32, initializer=tf.constant([1.0])), "don't match")
    with tf.variable_scope("", reuse=True):
        assert tf.get_variable("v", [2]) is v
        fails(ValueError, lambda: tf.get_variable("w", [2]), "does not exist", "AUTO_REUSE")
        fails(ValueError, lambda: tf.get_variable("v", [3]), "specified shape (3,) and found shape (2,)")
        fails(ValueError, lambda: tf.get_variable("v", [2], tf.float64), "specified dtype float64 and found dtype float32")


@pytest.mark.filterwarnings("ignore")
def test_gradients(build):
    x, y = tf.constant(1.0), tf.constant(2.0)
    assert tf.gradients(y * 2.0, x) == [None]
    i = tf.constant(3)
    assert tf.gradients(tf.cast(i, tf.float32) * 2.0, i) == [None]
    tf.random_gamma([2], x)  # has one, around an op that has none
    raw = next(op for op in build.get_operations() if op.type == "RandomGamma")
    fails(LookupError, lambda: tf.gradients(raw.outputs[0], raw.inputs[1]), "No gradient defined", "RandomGamma")
    fails(ValueError, lambda: tf.gradients(y, x, unconnected_gradients="some"), "some")
    fails(ValueError, lambda: tf.gradients([y, x], x, grad_ys=[y]), "grad_ys")
    v = tf.Variable(1.0)
    optimizer = tf.train.GradientDescentOptimizer(0.1)
    fails(ValueError, lambda: optimizer.minimize(y * 2.0, var_list=[v]), "No gradients")
    fails(ValueError, lambda: optimizer.minimize(y * 2.0, var_list=[]), "No variables")


def test_unconnected_gradients_warn(build):
    x = tf.Variable(1.0)
    with pytest.warns(UserWarning, match="StopGradient|stop_gradient"):
        assert tf.gradients(tf.stop_gradient(x * 2.0) * 1.0, x) == [None]


def test_elements_by_name(build):
    tf.constant(1, name="value")
    fails(KeyError, lambda: build.get_tensor_by_name("valeu:0"), "valeu", "Did you mean 'value'")
    fails(KeyError, lambda: build.get_tensor_by_name("value:1"), "1 output")
    fails(KeyError, lambda: build.get_operation_by_name("nothing"), "nothing")
    fails(ValueError, lambda: build.get_tensor_by_name("value"), "Did you mean 'value:0'")
    fails(TypeError, lambda: build.get_tensor_by_name(3), "3")


def test_import_with_an_unknown_key(build):
    tf.constant(1, name="x")
    fails(ValueError, lambda: tf.import_graph_def(build.as_graph_def(), {"y:0": tf.constant(1)}), "not found in graph_def", "y:0")


def test_statically_false_assertions(build):
    fails(errors.InvalidArgumentError, lambda: tf.assert_equal(tf.constant(1), 2, message="they differ"), "they differ", "x == y")
    fails(errors.InvalidArgumentError, lambda: tf.assert_positive(tf.constant([1, 0])), "> 0")
    fails(ValueError, lambda: tf.assert_rank(tf.zeros([2]), 2), "must have rank 2", "Received rank 1")
    fails(ValueError, lambda: tf.assert_rank_at_least(tf.zeros([2]), 2), "at least 2")
    fails(ValueError, lambda: tf.assert_rank_in(tf.zeros([2]), [0, 2]), "(0, 2)")
    fails(ValueError, lambda: tf.assert_scalar(tf.zeros([2])), "scalar")
    fails(TypeError, lambda: tf.assert_type(tf.zeros([2]), tf.int32), "float32", "int32")
    fails(TypeError, lambda: tf.assert_integer(tf.zeros([2])), "float32")
    fails(TypeError, lambda: tf.assert_proper_iterable(tf.zeros([2])))
    assert tf.assert_less(1, 2).type == "NoOp" and tf.assert_rank(tf.zeros([2]), 1).type == "NoOp"


# ---------------------------------------------------------------- fetches and feeds


def session_survives(sess, t, feed, expected):
    assert sess.run(t, feed).tolist() == expected


def test_fetches(mode):
    x = tf.placeholder(tf.float32, [2], name="x")
    y = x * 2
    with tf.Graph().as_default():
        other = tf.constant(1)
    with tf.Session() as sess:
        fails(ValueError, lambda: sess.run("missing:0"), "cannot be interpreted as a Tensor", "missing")
        fails(ValueError, lambda: sess.run(other), "cannot be interpreted as a Tensor")
        fails(TypeError, lambda: sess.run(3), "invalid type")
        fails(TypeError, lambda: sess.run(None), "None")
        fails(TypeError, lambda: sess.run([y, None], {x: [1, 2]}), "None")
        assert sess.run([]) == [] and sess.run({}) == {} and sess.run(()) == ()
        session_survives(sess, y, {x: [1, 2]}, [2, 4])


def test_feed_keys(mode):
    x = tf.placeholder(tf.float32, [2], name="x")
    with tf.Graph().as_default():
        other = tf.placeholder(tf.float32)
    with tf.Session() as sess:
        for key in ("missing:0", other, 3, x.op):
            fails(TypeError, lambda: sess.run(x, {key: 1}), "Cannot interpret feed_dict key as Tensor")
        session_survives(sess, x, {"x:0": [1, 2]}, [1, 2])


def test_feed_values(mode):
    x, i = tf.placeholder(tf.float32, [2], name="x"), tf.placeholder(tf.int32, [None], name="i")
    y, j = x * 2, i * 2
    with tf.Session() as sess:
        fails(TypeError, lambda: sess.run(y, {x: tf.constant([1.0, 2.0])}), "cannot be a tf.Tensor")
        fails(ValueError, lambda: sess.run(y, {x: [1, 2, 3]}), "Cannot feed value of shape (3,) for Tensor 'x:0', which has shape '(2,)'",
              HERE)
        fails(ValueError, lambda: sess.run(y * 3, {y: [1, 2, 3]}), "Cannot feed value of shape (3,)")
        fails(ValueError, lambda: sess.run(y, {x: ["a", "b"]}), "string")
        fails(ValueError, lambda: sess.run(y, {x: [[1], [1, 2]]}), "ragged")
        fails(TypeError, lambda: sess.run(y, {x: [object(), object()]}), "object")
        fails(TypeError, lambda: sess.run(j, {i: [2**40]}), "Try explicitly setting the type of the feed tensor to a larger type")
        session_survives(sess, y, {x: [1, 2]}, [2, 4])
        session_survives(sess, j, {i: [1]}, [2])


def test_lossy_feeds_are_refused_unless_asked_for(mode):
    """TF1 truncated, wrapped or dropped these without a word."""
    x, i = tf.placeholder(tf.float32, [1]), tf.placeholder(tf.int32, [1])
    y, j = x * 1, i * 1
    with tf.Session() as sess:
        fails(ValueError, lambda: sess.run(j, {i: [1.5]}), "fractions")
        fails(ValueError, lambda: sess.run(j, {i: np.array([2**40])}), "out of range")
        fails(ValueError, lambda: sess.run(y, {x: [1 + 2j]}), "imaginary")
        fails((TypeError, ValueError), lambda: sess.run(y, {x: None}))
        assert sess.run(j, {i: [2.0]}).tolist() == [2] and sess.run(y, {x: [True]}).tolist() == [1]
        with flags.override(strict_feeds=0):
            assert sess.run(j, {i: [1.5]}).tolist() == [1]
            assert sess.run(j, {i: np.array([2**40])}).tolist() == [0]


def test_unused_feeds_warn_once(mode):
    x, y = tf.placeholder(tf.float32, [], name="unused"), tf.constant(1.0)
    with tf.Session() as sess, pytest.warns(UserWarning, match="unused:0"):
        sess.run(y, {x: 1.0})


def test_missing_feed(mode):
    x = tf.placeholder(tf.float32, [2], name="x")
    y = x * 2
    with tf.Session() as sess:
        e = fails(errors.InvalidArgumentError, lambda: sess.run(y), "You must feed a value for placeholder tensor 'x' with dtype float",
                  "[2]", HERE)
        assert e.op.name == "x" and e.error_code == errors.INVALID_ARGUMENT
        session_survives(sess, y, {x: [1, 2]}, [2, 4])


# ---------------------------------------------------------------- running


def test_uninitialized_variables(mode):
    v = tf.get_variable("v", [2])
    step = tf.train.MomentumOptimizer(0.1, 0.9).minimize(tf.reduce_sum(v))
    with tf.Session() as sess:
        for fetch in (v, v + 1, v.assign_add([1, 1]), step):
            fails(errors.FailedPreconditionError, lambda: sess.run(fetch), "Attempting to use uninitialized value")
        sess.run(v.initializer)
        fails(errors.FailedPreconditionError, lambda: sess.run(step), "v/Momentum")
        before = sess.run(v)
        sess.run(tf.variables_initializer([x for x in tf.global_variables() if x is not v]))
        sess.run(step)
        np.testing.assert_allclose(sess.run(v), before - 0.1, rtol=1e-5)


RUNTIME = {
    "shapes": (lambda: (tf.placeholder(tf.float32, [None]), tf.placeholder(tf.float32, [None])), lambda a, b: tf.add(a, b, name="it"),
               ([1, 2], [1, 2, 3]), ([1, 2], [3, 4])),
    "gather": (lambda: (tf.placeholder(tf.float32, [None]), tf.placeholder(tf.int32, [None])), lambda a, b: tf.gather(a, b, name="it"),
               ([1, 2], [2]), ([1, 2], [1])),
    "gather negative": (lambda: (tf.placeholder(tf.float32, [None]), tf.placeholder(tf.int32, [None])),
                        lambda a, b: tf.gather(a, b, name="it"), ([1, 2], [-1]), ([1, 2], [0])),
    "slice": (lambda: (tf.placeholder(tf.float32, [None]), tf.placeholder(tf.int32, [1])), lambda a, b: tf.slice(a, b, [2], name="it"),
              ([1, 2, 3], [2]), ([1, 2, 3], [1])),
    "integer division": (lambda: (tf.placeholder(tf.int32, [None]), tf.placeholder(tf.int32, [None])),
                         lambda a, b: tf.floordiv(a, b, name="it"), ([1, 2], [1, 0]), ([1, 2], [1, 1])),
    "integer modulo": (lambda: (tf.placeholder(tf.int32, [None]), tf.placeholder(tf.int32, [None])),
                       lambda a, b: tf.floormod(a, b, name="it"), ([1, 2], [1, 0]), ([1, 2], [1, 2])),
    "label": (lambda: (tf.placeholder(tf.float32, [None, 3]), tf.placeholder(tf.int32, [None])),
              lambda a, b: tf.nn.sparse_softmax_cross_entropy_with_logits(labels=b, logits=a, name="it"), ([[1, 2, 3]], [3]),
              ([[1, 2, 3]], [2])),
    "inverse": (lambda: (tf.placeholder(tf.float64, [2, 2]), tf.placeholder(tf.float64, [])),
                lambda a, b: tf.matrix_inverse(a * b, name="it"),
                ([[1, 2], [2, 4]], 1), ([[1, 2], [3, 4]], 1)),
    "cholesky": (lambda: (tf.placeholder(tf.float64, [2, 2]), tf.placeholder(tf.float64, [])), lambda a, b: tf.cholesky(a * b, name="it"),
                 ([[1, 2], [2, 1]], 1), ([[2, 1], [1, 2]], 1)),
    "negative dimension": (lambda: (tf.placeholder(tf.int32, [2]), tf.placeholder(tf.float32, [])), lambda a, b: tf.fill(a, b, name="it"),
                           ([2, -1], 0), ([2, 1], 0)),
    "reshape": (lambda: (tf.placeholder(tf.float32, [None]), tf.placeholder(tf.int32, [2])), lambda a, b: tf.reshape(a, b, name="it"),
                ([1, 2, 3], [2, 2]), ([1, 2], [2, 1])),
    "scatter": (lambda: (tf.placeholder(tf.int32, [None]), tf.placeholder(tf.float32, [None])),
                lambda a, b: tf.scatter_add(tf.Variable(tf.zeros([2])), a, b, name="it"), ([2], [1]), ([1], [1])),
}


@pytest.mark.parametrize("case", RUNTIME)
def test_failures_while_running(mode, case):
    holders, make, bad, good = RUNTIME[case]
    a, b = holders()
    t = make(a, b)
    v = tf.Variable(1.0)
    with tf.control_dependencies([v.assign_add(1.0)]):
        both = tf.identity(t)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        sess.run(t, dict(zip((a, b), good)))
        e = fails((errors.InvalidArgumentError), lambda: sess.run(both, dict(zip((a, b), bad))), "it", HERE)
        assert e.op is not None and isinstance(e, ValueError) and e.message == str(e)
        assert sess.run(v) == 1, "a failed step changes no variable"
        sess.run(both, dict(zip((a, b), good)))
        assert sess.run(v) == 2


def test_assertions_while_running(mode):
    x = tf.placeholder(tf.float32, [None], name="x")
    checks = {
        "Assert": tf.Assert(tf.reduce_all(x > 0), ["not positive", x], summarize=1),
        "equal": tf.assert_equal(x, tf.ones_like(x), message="not one"),
        "less": tf.assert_less(x, 3.0), "positive": tf.assert_positive(x), "near": tf.assert_near(x, tf.ones_like(x)),
        "rank": tf.assert_rank(tf.placeholder_with_default([1.0], None), 1)}
    with tf.Session() as sess:
        for check in checks.values():
            assert sess.run(check, {x: [1, 1]}) is None if check.inputs and "rank" not in check.name else True
        e = fails(errors.InvalidArgumentError, lambda: sess.run(checks["Assert"], {x: [-1, 2]}),
                  "assertion failed: [not positive] [-1...]", HERE)
        assert e.op.type == "Assert"
        fails(errors.InvalidArgumentError, lambda: sess.run(checks["equal"], {x: [1, 2]}), "not one", "[1 2]")
        for name in ("less", "positive", "near"):
            fails(errors.InvalidArgumentError, lambda: sess.run(checks[name], {x: [-1, 4]}), "assertion failed")


def test_check_numerics(mode):
    x = tf.placeholder(tf.float32, [None], name="x")
    y, z = tf.check_numerics(x, "bad x") * 2, tf.verify_tensor_all_finite(x, "not finite")
    everything = tf.add_check_numerics_ops()
    with tf.Session() as sess:
        for bad in (np.nan, np.inf, -np.inf):
            fails(errors.InvalidArgumentError, lambda: sess.run(y, {x: [1, bad]}), "bad x", "Tensor had", HERE)
            fails(errors.InvalidArgumentError, lambda: sess.run(z, {x: [1, bad]}), "not finite")
            fails(errors.InvalidArgumentError, lambda: sess.run(everything, {x: [1, bad]}), "Tensor had")
        session_survives(sess, y, {x: [1, 2]}, [2, 4])
        assert sess.run(everything, {x: [1, 2]}) is None


def test_silent_ones_stay_silent(mode):
    x = tf.placeholder(tf.float32, [1])
    with tf.Session() as sess:
        assert np.isnan(sess.run(tf.log(x), {x: [-1]}))[0] and np.isinf(sess.run(1 / x, {x: [0]}))[0]
        assert sess.run(tf.one_hot(tf.constant([5]), 3)).tolist() == [[0, 0, 0]]
        i = tf.placeholder(tf.int32, [1])
        assert sess.run(i + 1, {i: [2**31 - 1]}).tolist() == [-2**31]


# ---------------------------------------------------------------- sessions


def test_sessions(mode):
    fails(RuntimeError, lambda: tf.Session().run("x:0"), "graph is empty")
    c = tf.constant(1)
    sess = tf.Session()
    with sess:
        with pytest.raises(RuntimeError, match="not re-entrant"), sess:
            pass
        assert c.eval() == 1
    fails(RuntimeError, lambda: sess.run(c), "closed Session")
    fails(ValueError, c.eval, "no session is registered")
    fails(ValueError, c.op.run, "no session is registered")
    fails(TypeError, lambda: tf.Session(graph=3), "graph must be a tf.Graph")
    fails(TypeError, lambda: tf.Session(config=3), "config must be a tf.ConfigProto")
    fails(TypeError, lambda: tf.Session(target=3), "target must be a string")


def test_configuration_fields():
    fails(ValueError, lambda: tf.ConfigProto(allow_soft_placment=True), 'no "allow_soft_placment" field', "allow_soft_placement")
    config = tf.ConfigProto(gpu_options=tf.GPUOptions(allow_growth=True), device_count={"GPU": 0})
    config.gpu_options.per_process_gpu_memory_fraction = 0.5
    config.graph_options.optimizer_options.global_jit_level = tf.OptimizerOptions.ON_1
    fails(AttributeError, lambda: setattr(config.gpu_options, "alow_growth", True), "allow_growth")
    fails(TypeError, lambda: setattr(config, "intra_op_parallelism_threads", "two"), "must be a number")
    fails(TypeError, lambda: tf.ConfigProto(gpu_options=3), "GPUOptions")
    assert tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE).trace_level == 3 and tf.ConfigProto() == tf.ConfigProto() != config


def test_nested_default_graphs(build):
    with pytest.raises(AssertionError, match="nested graphs"):
        tf.reset_default_graph()


def test_the_classes_are_tf1s_and_the_builtins_too():
    assert issubclass(errors.InvalidArgumentError, ValueError) and issubclass(errors.OutOfRangeError, IndexError)
    assert issubclass(errors.DeadlineExceededError, TimeoutError) and issubclass(errors.NotFoundError, LookupError)
    for code in range(1, 17):
        cls = errors.exception_type_from_error_code(code)
        e = cls(None, None, "text")
        assert isinstance(e, tf.errors.OpError) and e.error_code == code and e.message == "text" == str(e)
        assert errors.error_code_from_exception_type(cls) == code


def test_saver(mode, tmp_path):
    fails(ValueError, tf.train.Saver, "No variables")
    v = tf.get_variable("v", [2])
    saver = tf.train.Saver()
    with tf.Session() as sess:
        fails(errors.FailedPreconditionError, lambda: saver.save(sess, str(tmp_path / "m")), "uninitialized value v")
        fails(ValueError, lambda: saver.restore(sess, str(tmp_path / "nothing")), "nothing")
        fails(ValueError, lambda: saver.restore(sess, None))
        sess.run(v.initializer)
        path = saver.save(sess, str(tmp_path / "m"))
    with tf.Graph().as_default(), tf.Session() as sess:
        tf.get_variable("other", [2])
        fails(errors.NotFoundError, lambda: tf.train.Saver().restore(sess, path), "other")
    with tf.Graph().as_default(), tf.Session() as sess:
        tf.get_variable("v", [3])
        fails(errors.InvalidArgumentError, lambda: tf.train.Saver().restore(sess, path), "v", "3", "2")


