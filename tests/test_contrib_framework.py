"""`tf.contrib.framework`: argument scopes, variables by scope and name, values from arrays and checkpoints, checks."""
from __future__ import annotations

import numpy as np
import pytest
from on_gpu import QUICK

import graphflow as tf
from graphflow.flags import flags

framework = tf.contrib.framework


@pytest.fixture(autouse=True)
def _graph():
    with tf.Graph().as_default():
        yield


def run(fetches, feeds=None):
    with flags.override(interpret=QUICK), tf.Session() as sess:
        sess.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
        return sess.run(fetches, feeds)


# ---------------------------------------------------------------- argument scopes


@framework.add_arg_scope
def first(x, a=1, b=None):
    """first"""
    return x, a, b


@framework.add_arg_scope
def second(x, a=10, *, c=0):
    return x, a, c


def test_arg_scope():
    with framework.arg_scope([first, second], a=2) as outer:
        assert first(0) == (0, 2, None) and second(0) == (0, 2, 0)
        with framework.arg_scope([first], a=3, b="x"):
            assert first(0) == (0, 3, "x") and first(0, a=4) == (0, 4, "x") and second(0) == (0, 2, 0)
            with framework.arg_scope(outer):
                assert first(0) == (0, 2, None)
        with framework.arg_scope([first], b=7):
            assert first(0) == (0, 2, 7)
            assert framework.current_arg_scope() != outer
    assert first(0) == (0, 1, None) and framework.current_arg_scope() == {}
    with framework.arg_scope(outer):
        assert second(1) == (1, 2, 0)
    assert first.__name__ == "first" and first.__doc__ == "first"
    assert framework.has_arg_scope(first) and not framework.has_arg_scope(run)
    assert set(framework.arg_scoped_arguments(first)) == {"a", "b"}


def test_arg_scope_ends_when_its_body_raises():
    with pytest.raises(KeyError), framework.arg_scope([first], a=5):
        raise KeyError
    assert first(0) == (0, 1, None)


@pytest.mark.parametrize("call, error, text", [
    (lambda: framework.arg_scope([run], a=1), ValueError, "is not decorated with @add_arg_scope"),
    (lambda: framework.arg_scope(first, a=1), TypeError, "must either be a list/tuple or reused scope"),
    (lambda: framework.arg_scope({}, a=1), ValueError, "kwargs must be empty"),
])
def test_arg_scope_bad_input(call, error, text):
    with pytest.raises(error, match=text), call():
        pass


def test_arg_scope_of_layers():
    layers = tf.contrib.layers
    x = tf.constant(np.ones((2, 4, 4, 3), np.float32))
    with framework.arg_scope([layers.conv2d, layers.fully_connected], activation_fn=None,
                             weights_regularizer=layers.l2_regularizer(0.1)), \
            framework.arg_scope([layers.conv2d], padding="VALID", normalizer_fn=layers.batch_norm), \
            framework.arg_scope([layers.batch_norm], is_training=False, scale=True), \
            framework.arg_scope([framework.model_variable, framework.variable], device="/cpu:0"):
        y = layers.conv2d(x, 5, [3, 3], scope="c")
        layers.fully_connected(layers.flatten(y), 2, scope="f")
    assert y.shape.as_list() == [2, 2, 2, 5]
    assert [v.op.name for v in tf.global_variables()] == ["c/weights", "c/BatchNorm/gamma", "c/BatchNorm/beta", "c/BatchNorm/moving_mean",
                                                          "c/BatchNorm/moving_variance", "f/weights", "f/biases"]
    assert len(tf.losses.get_regularization_losses()) == 2 and not tf.get_collection(tf.GraphKeys.UPDATE_OPS)
    assert "cpu:0" in tf.global_variables()[0].device.lower()


# ---------------------------------------------------------------- variables


def make():
    with tf.variable_scope("A"):
        a = framework.variable("a", [2], initializer=tf.zeros_initializer())
        with tf.variable_scope("B"):
            b = framework.model_variable("b", [3], initializer=tf.ones_initializer(), regularizer=tf.contrib.layers.l1_regularizer(1.0))
            c = framework.local_variable([1.0, 2.0], name="c")
    d = framework.variable("b", [1], trainable=False, collections=["variables", "mine", "mine"])
    return a, b, c, d


def test_making_and_finding_variables():
    a, b, c, d = make()
    assert framework.get_variables() == [a, b, d]
    assert framework.get_model_variables() == [b] and framework.get_local_variables() == [c]
    assert framework.get_trainable_variables() == [a, b] and framework.get_trainable_variables("A/B") == [b]
    assert framework.get_variables("A") == [a, b] and framework.get_variables(suffix="b") == [b, d]
    assert framework.get_variables("A", "b") == [b] and framework.get_variables_by_suffix("/b") == [b]
    assert framework.get_variables_by_name("b") == [b, d] and framework.get_variables_by_name("b", "A") == [b]
    with tf.variable_scope("A") as scope:
        assert framework.get_variables(scope) == [a, b]
    assert tf.get_collection("mine") == [d] and framework.get_unique_variable("b") is d
    assert framework.get_variables_to_restore() == [a, b, d]
    assert framework.get_variables_to_restore(["A"], exclude=["A/B"]) == [a]
    assert framework.filter_variables([a, b, d], ["^A"], ["b:0$"]) == [a]
    assert framework.filter_variables([a, b, d], ["b"], reg_search=False) == [d]
    assert framework.get_variable_full_name(b) == "A/B/b"
    assert len(tf.losses.get_regularization_losses()) == 1
    framework.add_model_variable(a)
    framework.add_model_variable(a)
    assert framework.get_model_variables() == [b, a]
    for call, error, text in [(lambda: framework.get_unique_variable("zz"), ValueError, "Couldn't find variable zz"),
                              (lambda: framework.get_unique_variable("A"), ValueError, "does not uniquely identify"),
                              (lambda: framework.get_variables_to_restore("A"), TypeError, "include is provided but is not a list"),
                              (lambda: framework.filter_variables([a], "A"), TypeError, "include_patterns")]:
        with pytest.raises(error, match=text):
            call()


def test_variables_reuse_and_custom_getter():
    make()
    with tf.variable_scope("A", reuse=True):
        assert framework.variable("a") is framework.get_unique_variable("A/a")
    asked = []

    def getter(getter, name, *args, **kwargs):
        asked.append(name)
        return getter(name, *args, **kwargs)

    with tf.variable_scope("C", custom_getter=getter):
        framework.model_variable("x", [1])
    assert asked == ["C/x"] and framework.get_model_variables("C")[0].op.name == "C/x"


def test_global_step():
    assert framework.get_global_step() is None
    step = framework.get_or_create_global_step()
    assert framework.get_global_step() is step and framework.get_or_create_global_step() is step
    assert framework.assert_or_get_global_step() is step and framework.assert_or_get_global_step(None, step) is step
    with pytest.raises(ValueError, match="already exists"):
        framework.create_global_step()
    with pytest.raises(TypeError, match="integer"):
        framework.assert_global_step(tf.constant(1.0))


def test_values_from_arrays():
    a, b, _, d = make()
    op, feeds = framework.assign_from_values({"A/a": np.array([[5.0], [6.0]]), "b": np.array([7.0])})
    then = framework.assign_from_values_fn({"A/B/b": np.arange(3.0)})
    with flags.override(interpret=QUICK), tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        sess.run(op, feeds)
        then(sess)
        got = sess.run([a, b, d, framework.zero_initializer(a)])
    assert [list(x) for x in got[1:]] == [[0, 1, 2], [7], [0, 0]]
    assert list(got[0]) in ([5, 6], [0, 0])
    with pytest.raises(ValueError, match="Variable nothing wasn't found"):
        framework.assign_from_values({"nothing": np.zeros(1)})
    with pytest.raises(ValueError, match="doesn't uniquely identify"):
        framework.assign_from_values({"A": np.zeros(1)})


def test_values_from_checkpoints(tmp_path):
    a, b, _, d = make()
    with flags.override(interpret=QUICK), tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        a.load([3.0, 4.0], sess)
        path = tf.train.Saver([a, b]).save(sess, str(tmp_path / "model"))
    assert dict(framework.list_variables(path)) == {"A/a": [2], "A/B/b": [3]}
    assert framework.load_variable(path, "A/a").tolist() == [3, 4] and framework.load_checkpoint(path).has_tensor("A/a")
    with tf.Graph().as_default():
        x = tf.get_variable("x", [2], initializer=tf.zeros_initializer())
        y = tf.get_variable("y", [2, 1], initializer=tf.zeros_initializer())
        w = tf.get_variable("A/B/b", [3], initializer=tf.zeros_initializer())
        op, feeds = framework.assign_from_checkpoint(path, {"A/a": [x]})
        some = framework.assign_from_checkpoint_fn(path, [w, y], ignore_missing_vars=True)
        reshaped = framework.assign_from_checkpoint_fn(path, {"A/a": y}, reshape_variables=True)
        assert framework.assign_from_checkpoint_fn(path, [x], ignore_missing_vars=True) is None
        with flags.override(interpret=QUICK), tf.Session() as sess:
            sess.run(tf.global_variables_initializer())
            sess.run(op, feeds)
            some(sess)
            reshaped(sess)
            got = sess.run([x, w, y])
        assert [np.ravel(v).tolist() for v in got] == [[3, 4], [1, 1, 1], [3, 4]]
        for call, text in [(lambda: framework.assign_from_checkpoint(path, [x]), r"missing variable \[x\]"),
                           (lambda: framework.assign_from_checkpoint(path, {"A/a": y}), "Total size of new array"),
                           (lambda: framework.assign_from_checkpoint_fn(path, []), "cannot be empty")]:
            with pytest.raises(ValueError, match=text):
                call()
        framework.init_from_checkpoint(path, {"A/a": "x"})
        assert run(x).tolist() == [3, 4]


# ---------------------------------------------------------------- tensors


def test_shapes_and_checks():
    known, unknown = tf.constant([[1.0, 2]]), tf.placeholder(tf.float32, [None, None])
    assert framework.with_shape([1, 2], known) is known and framework.with_same_shape(tf.zeros([1, 2]), known) is known
    checked = framework.with_shape([1, 2], unknown)
    partly = framework.with_shape(tf.TensorShape([None, 2]), unknown)
    dynamic = framework.with_same_shape(unknown, tf.placeholder_with_default(known, [None, None]))
    assert checked.shape.as_list() == [1, 2] and partly.shape.as_list() == [None, 2]
    assert framework.with_shape([], tf.constant([3.0])).shape.ndims == 0
    value = np.array([[5.0, 6]])
    for got in run([checked, partly, dynamic], {unknown: value}):
        assert got.shape == (1, 2)
    for bad in (checked, dynamic):
        with pytest.raises(tf.errors.InvalidArgumentError):
            run(bad, {unknown: np.zeros((2, 2))})
    for call, text in [(lambda: framework.with_shape([2, 2], known), r"Invalid shape for tensor .*expected \[2, 2\], got \(1, 2\)"),
                       (lambda: framework.with_shape([[1]], known), "Invalid rank 2"),
                       (lambda: framework.with_shape([1.5], known), "Invalid dtype"),
                       (lambda: framework.assert_scalar_int(tf.constant(1.0)), "Expected integer type"),
                       (lambda: framework.assert_scalar(known), "scalar"),
                       (lambda: framework.reduce_sum_n([]), "No tensors"),
                       (lambda: framework.assert_same_float_dtype([known, tf.constant(1.0, tf.float64)]), "float64")]:
        with pytest.raises(ValueError, match=text):
            call()


def test_small_functions():
    p, q = framework.remove_squeezable_dimensions(tf.zeros([3, 1]), tf.zeros([3]))
    a, b = framework.remove_squeezable_dimensions(tf.zeros([3]), tf.placeholder_with_default(tf.zeros([3, 1]), None))
    total = framework.reduce_sum_n([tf.ones([2, 2]), tf.ones([3])])
    cond = framework.smart_cond(tf.constant(True), lambda: tf.constant(1), lambda: tf.constant(2))
    fed = tf.placeholder_with_default(False, [])
    open_cond = framework.smart_cond(fed, lambda: tf.constant(1), lambda: tf.constant(2))
    case = framework.smart_case([(False, lambda: tf.constant(1)), (fed, lambda: tf.constant(2))], default=lambda: tf.constant(3))
    host = framework.py_func(lambda x, scale: {"y": x * scale, "n": x.sum()}, [tf.constant([1.0, 2.0])], {"scale": tf.constant(3.0)},
                             {"y": tf.float32, "n": tf.float64}, {"y": tf.TensorShape([2]), "n": tf.TensorShape([])})
    assert p.shape.as_list() == q.shape.as_list() == [3] and host["y"].shape.as_list() == [2]
    got = run([total, cond, open_cond, case, host, b])
    assert got[:4] == [7, 1, 2, 3] and got[4]["y"].tolist() == [3, 6] and got[4]["n"] == 3 and got[5].shape == (3,)
    assert framework.smart_constant_value(True) is True and framework.smart_constant_value(fed) is None
    assert framework.is_tensor(total) and framework.is_tensor(tf.Variable(1)) and not framework.is_tensor(np.ones(2))
    assert framework.get_placeholders(tf.get_default_graph()) == [
        op.outputs[0] for op in tf.get_default_graph().get_operations() if op.type == "Placeholder"]
    assert framework.get_graph_from_inputs([total]) is tf.get_default_graph()
    with tf.name_scope("a"), tf.name_scope("b"):
        assert framework.get_name_scope() == "a/b"
    assert framework.prepend_name_scope("^x/y", "s") == "^s/x/y" and framework.strip_name_scope("loc:@s/x", "s") == "loc:@x"
    assert framework.nest.flatten({"b": [1], "a": 2}) == [2, 1]
    assert run(framework.sort(tf.constant([3, 1, 2]), direction="DESCENDING")).tolist() == [3, 2, 1]
    for bad in (3, "x"):
        with pytest.raises(TypeError, match="pred"):
            framework.smart_constant_value(bad)


def test_deprecated(caplog):
    @framework.deprecated("2030-01-02", "use other")
    def old(x):
        return x + 1

    @framework.deprecated_args(None, "use y", "x", ("flag", None))
    def half(x=0, y=0, flag=None):
        return x + y

    @framework.deprecated_arg_values(None, "not this", mode="bad")
    def mode(mode="good"):
        return mode

    assert (old(1), old(2), half(y=3, flag=None), mode()) == (2, 3, 3, "good")
    assert caplog.text.count("is deprecated and will be removed after 2030-01-02") == 1
    assert (half(2), half(x=2), mode("bad")) == (2, 2, "bad")
    text = caplog.text
    assert text.count("with argument 'x' is deprecated") == 1 and text.count("with mode=bad") == 1
    for call, match in [(lambda: framework.deprecated("soon", "x"), "YYYY-MM-DD"), (lambda: framework.deprecated(None, ""), "instructions"),
                        (lambda: framework.deprecated_args(None, "x", "z")(old), "not present")]:
        with pytest.raises(ValueError, match=match):
            call()


def test_nest():
    nest = framework.nest
    tree = {"b": [1, (2,)], "a": 3}
    assert nest.flatten_with_joined_string_paths(tree) == [("a", 3), ("b/0", 1), ("b/1/0", 2)]
    assert list(nest.yield_flat_paths(tree)) == [("a",), ("b", 0), ("b", 1, 0)]
    assert nest.map_structure_with_paths(lambda path, x, y: f"{path}={x + y}", tree, tree) == {"a": "a=6", "b": ["b/0=2", ("b/1/0=4",)]}
    assert nest.flatten_dict_items({(4, (5, 8)): ("a", ("b", "c")), 1: 2}) == {4: "a", 5: "b", 8: "c", 1: 2}
    nest.assert_shallow_structure({"a": 0, "b": [0, 0]}, tree)
    for call, error, text in [(lambda: nest.assert_shallow_structure([1], 2), TypeError, "must also be a sequence"),
                              (lambda: nest.assert_shallow_structure([1], (2,)), TypeError, "same sequence type"),
                              (lambda: nest.assert_shallow_structure([1], [2, 3]), ValueError, "same sequence length"),
                              (lambda: nest.assert_shallow_structure({"a": 1}, {"b": 1}), ValueError, "same keys"),
                              (lambda: nest.flatten_dict_items([1]), TypeError, "must be a dictionary"),
                              (lambda: nest.flatten_dict_items({(1, 2): [3]}), ValueError, "Key had 2 elements"),
                              (lambda: nest.flatten_dict_items({(1, 1): [3, 4]}), ValueError, "not unique")]:
        with pytest.raises(error, match=text):
            call()


def test_variable_device_chooser():
    choose = framework.VariableDeviceChooser(2)
    with framework.arg_scope([framework.variable], device=choose):
        devices = [framework.variable(f"v{i}", [1]).device for i in range(3)]
    assert devices == [f"/job:ps/task:{i}/device:CPU:0" for i in (0, 1, 0)]
    assert framework.VariableDeviceChooser(device_type="GPU", device_index=1)(None) == "/device:GPU:1"
