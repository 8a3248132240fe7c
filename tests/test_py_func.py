"""tf.py_func, tf.custom_gradient, tf.hessians: Python inside a step, and gradients given by the user."""
from __future__ import annotations

import numpy as np
import pytest

import graphflow as tf
from graphflow.flags import flags


@pytest.fixture(autouse=True, params=[0, 1], ids=["compiled", "reference"])
def _both(request):
    with flags.override(interpret=request.param):
        yield


# ---------------------------------------------------------------- py_func


def test_results_of_several_dtypes_in_the_middle_of_a_step():
    x = tf.placeholder(tf.float32, [None])
    calls = []

    def f(a, b):
        calls.append((a.dtype, a.shape, b))
        a += b  # its own copy
        return a, np.int32(a.size)

    y, n = tf.py_func(f, [x * 2, tf.constant(1.0)], [tf.float32, tf.int32])
    assert y.dtype is tf.float32 and y.shape.ndims is None
    y.set_shape([None])
    with tf.Session() as sess:
        for value in ([1, 2, 3], [5]):
            total, count, again = sess.run([tf.reduce_sum(y) * 2, n + 1, y], {x: value})
            assert (total, count) == (2 * (2 * sum(value) + len(value)), len(value) + 1)
            np.testing.assert_array_equal(again, np.array(value, np.float32) * 2 + 1)
    assert calls == [(np.float32, (3,), 1), (np.float32, (1,), 1)]


def test_forms_of_output():
    one = tf.py_func(lambda: np.float32(3), [], tf.float32)
    listed = tf.py_func(lambda: [np.float32(3)], [], [tf.float32])
    words = tf.numpy_function(lambda s: s + b"!", [tf.constant("hi")], tf.string)
    assert isinstance(one, tf.Tensor) and isinstance(listed, list) and one.op.type == "PyFunc" and one.op.name == "PyFunc"
    assert tf.py_func(lambda: np.float32(3), [], tf.float32, stateful=False).op.type == "PyFuncStateless"
    with tf.Session() as sess:
        assert sess.run([one + 1, *listed]) == [4, 3]
        assert sess.run(words) == b"hi!"


def test_a_call_for_its_effect_runs_once_a_step_even_unfetched():
    x = tf.placeholder(tf.float32, [])
    seen = []
    note = tf.py_func(lambda v: seen.append(float(v)), [x], [])
    assert isinstance(note, tf.Operation)
    with tf.control_dependencies([note]):
        y = x + 1
    with tf.Session() as sess:
        assert sess.run(y, {x: 2}) == 3
        sess.run(note, {x: 4})
        sess.run(x * 2, {x: 5})
    assert seen == [2.0, 4.0]


def test_effects_are_not_folded_or_shared():
    seen = []
    make = [tf.py_func(lambda v: seen.append(1) or v, [tf.constant(1.0)], tf.float32) for _ in range(2)]
    with tf.Session() as sess:
        for _ in range(2):
            assert sess.run(make) == [1, 1]
    assert len(seen) == 4


def raising(e):
    def broken(*_):
        raise e
    return broken


@pytest.mark.parametrize("f, error, words", [
    (raising(ValueError("bad")), tf.errors.InvalidArgumentError, "ValueError: bad"),
    (raising(TypeError("kind")), tf.errors.InvalidArgumentError, "TypeError: kind"),
    (raising(StopIteration("end")), tf.errors.OutOfRangeError, "end"),
    (raising(MemoryError("full")), tf.errors.ResourceExhaustedError, "full"),
    (raising(NotImplementedError("later")), tf.errors.UnimplementedError, "later"),
    (raising(KeyError("k")), tf.errors.UnknownError, "KeyError: 'k'"),
    (lambda *_: 1 / 0, tf.errors.UnknownError, "division by zero"),
    (lambda *_: np.float64(1), tf.errors.InvalidArgumentError, "0-th value returned by <lambda> is float64, but expects float32"),
    (lambda *_: (np.float32(1), np.float32(1)), tf.errors.InvalidArgumentError, "returns 2 values, but expects to see 1"),
    (lambda *_: None, tf.errors.InvalidArgumentError, "returns 0 values")])
@pytest.mark.parametrize("shaped", [False, True])
def test_errors_name_the_op_and_leave_the_state(f, error, words, shaped):
    v = tf.Variable(1.0)
    bad = tf.py_func(f, [v + 1], tf.float32, name="mine")
    if shaped:
        bad.set_shape([])
    with tf.Session() as sess:
        sess.run(v.initializer)
        with pytest.raises(error) as caught:
            sess.run([bad + 1, v.assign_add(1.0)])
        assert words in caught.value.message and "'mine'" in caught.value.message and "test_py_func.py" in caught.value.message
        assert sess.run(v) == 1


def test_bad_arguments():
    with pytest.raises(ValueError, match="needs a function"):
        tf.py_func(3, [], tf.float32)
    with pytest.raises(TypeError):
        tf.py_func(max, [], "no dtype")


def test_no_gradient_unless_overridden():
    x = tf.placeholder(tf.float32, [])
    with pytest.warns(UserWarning, match="no path"):
        assert tf.gradients(tf.py_func(np.square, [x], tf.float32), x) == [None]
    tf.RegisterGradient(f"PySquare{flags.interpret}")(lambda op, dy: 2 * op.inputs[0] * dy)
    with tf.get_default_graph().gradient_override_map({"PyFunc": f"PySquare{flags.interpret}"}):
        y = tf.py_func(np.square, [x], tf.float32)
    with tf.Session() as sess:
        assert sess.run(tf.gradients(y, x), {x: 3}) == [6]


def test_overrides_by_type_and_scope():
    tf.RegisterGradient(f"Tenfold{flags.interpret}")(lambda op, dy: 10 * dy)
    x, g = tf.constant(-2.0), tf.get_default_graph()
    with g.gradient_override_map({"Relu": f"Tenfold{flags.interpret}"}):
        inside = tf.nn.relu(x)
    with g.gradient_override_map({"Relu": "Nobody"}):
        unknown = tf.nn.relu(x)
    with tf.Session() as sess:
        assert sess.run([*tf.gradients(inside, x), *tf.gradients(tf.nn.relu(x), x)]) == [10, 0]
    with pytest.raises(LookupError, match="'Nobody'"):
        tf.gradients(unknown, x)


# ---------------------------------------------------------------- custom_gradient


def test_a_gradient_of_ones_own():
    @tf.custom_gradient
    def log1pexp(x):
        """Softplus."""
        e = tf.exp(x)
        return tf.log(1 + e), lambda dy: dy * (1 - 1 / (1 + e))

    x = tf.placeholder(tf.float32, [])
    y = log1pexp(x)
    assert log1pexp.__name__ == "log1pexp" and log1pexp.__doc__ == "Softplus."
    with tf.Session() as sess:
        assert sess.run(y, {x: 1}) == pytest.approx(np.log1p(np.e), rel=1e-6)
        assert sess.run(tf.gradients(y, x)[0], {x: 100}) == 1  # where the chain rule gives nan
        assert sess.run(tf.gradients(log1pexp(x) * 3, x)[0], {x: 1}) == pytest.approx(3 / (1 + np.exp(-1)), rel=1e-6)


def test_several_arguments_and_results():
    @tf.custom_gradient
    def f(a, b):
        return [a * b, a + b], lambda da, db: [da * 10 + db, db * 100]

    a, b = tf.constant(2.0), tf.constant(3.0)
    y, z = f(a, b)
    with tf.Session() as sess:
        assert sess.run([y, z]) == [6, 5]
        assert sess.run(tf.gradients([y, z], [a, b], [tf.constant(2.0), tf.constant(5.0)])) == [25, 500]


def test_variables_of_the_function():
    v = tf.Variable(3.0)

    @tf.custom_gradient
    def f(x):
        def grad(dy, variables=None):
            assert variables == [v]
            return dy * 7, [dy * 11]
        return x * v, grad

    x = tf.constant(2.0)
    y = f(x)
    with tf.Session() as sess:
        sess.run(v.initializer)
        assert sess.run([y, *tf.gradients(y, [x, v])]) == [6, 7, 11]
    with pytest.raises(TypeError, match="variables"):
        tf.custom_gradient(lambda x: (x * v, lambda dy: dy))(x)


def test_custom_gradient_errors():
    with pytest.raises(ValueError, match="must return"):
        tf.custom_gradient(lambda x: x)(1.0)
    x = tf.constant(1.0)
    with pytest.raises(ValueError, match="expected to return 1 gradients but returned 2"):
        tf.gradients(tf.custom_gradient(lambda x: (x, lambda dy: [dy, dy]))(x), x)


# ---------------------------------------------------------------- hessians


def test_hessians():
    rng = np.random.default_rng(0)
    a = rng.normal(size=(3, 3))
    x, m = tf.placeholder(tf.float64, [3]), tf.placeholder(tf.float64, [2, 2])
    y = tf.reduce_sum(x * tf.reduce_sum(a * x, 1)) + tf.reduce_sum(m ** 3)
    hx, hm = tf.hessians(y, [x, m])
    with tf.Session() as sess:
        value = rng.normal(size=(2, 2))
        found, cube = sess.run([hx, hm], {x: rng.normal(size=3), m: value})
    np.testing.assert_allclose(found, a + a.T)
    np.testing.assert_allclose(cube.reshape(4, 4), np.diag(6 * value.ravel()))
    with pytest.raises(ValueError, match="full static shape"):
        tf.hessians(tf.reduce_sum(tf.placeholder(tf.float32, [None])), tf.placeholder(tf.float32, [None]))


def test_random_ops_go_on_drawing_when_a_step_stops_for_a_shape():
    """A result of unknown shape splits the step; the numbers drawn before the split must differ from run to run."""
    x = tf.random_uniform([], seed=1)
    y = tf.py_func(lambda v: np.full(3, v), [x], tf.float32)
    with tf.Session() as sess:
        runs = [sess.run([x, tf.reduce_sum(y)]) for _ in range(5)]
    assert len({a for a, _ in runs}) == 5
    for a, total in runs:
        assert total == pytest.approx(3 * a, rel=1e-6)
