"""TF's math functions: names, argument forms, conventions and errors.  (Values and gradients of every op: test_ops.py.)"""
from __future__ import annotations

import inspect
import warnings

import numpy as np
import pytest
from on_gpu import QUICK

import graphflow as tf
from graphflow import errors
from graphflow.flags import flags


@pytest.fixture(autouse=True)
def fresh_graph():
    with tf.Graph().as_default(), flags.override(interpret=QUICK):
        yield


def run(fetches, feed_dict=None):
    with tf.Session() as sess:
        return sess.run(fetches, feed_dict)


def slopes(y, *xs, feed_dict=None):
    return run(tf.gradients(y, list(xs)), feed_dict)


# ---------------------------------------------------------------- operators


@pytest.mark.parametrize("build, name, op_type", [
    (lambda a: a + 1, "add", "Add"), (lambda a: 1 - a, "sub", "Sub"), (lambda a: a * a, "mul", "Mul"),
    (lambda a: a / 2, "truediv", "RealDiv"),
    (lambda a: a // 2, "floordiv", "FloorDiv"), (lambda a: a % 2, "mod", "FloorMod"), (lambda a: a ** 2, "pow", "Pow"),
    (lambda a: -a, "Neg", "Neg"),
    (lambda a: abs(a), "Abs", "Abs"), (lambda a: a < 1, "Less", "Less"), (lambda a: a >= 1, "GreaterEqual", "GreaterEqual"),
    (lambda a: tf.add(a, a), "Add", "Add"), (lambda a: tf.multiply(a, 2), "Mul", "Mul"), (lambda a: tf.reduce_mean(a), "Mean", "Mean"),
    (lambda a: tf.to_float(tf.to_int32(a)), "ToFloat", "Cast"), (lambda a: tf.clip_by_value(a, 0, 1), "clip_by_value", "ClipByValue"),
    (lambda a: tf.truediv(a, 2), "truediv", "RealDiv"), (lambda a: tf.count_nonzero(a), "count_nonzero", "CountNonzero")])
def test_names_are_tf1s(build, name, op_type):
    t = build(tf.placeholder(tf.float32, [2]))
    assert (t.op.name, t.op.type) == (name, op_type)


def test_a_number_beside_a_tensor_is_named_under_the_op():
    t = tf.placeholder(tf.float32, [2]) + 1
    assert t.op.inputs[1].name == "add/y:0"


def test_operators_follow_numpy():
    a, b = np.array([7.0, -7.0, 2.5]), np.array([2.0, 2.0, -1.5])
    x, y = tf.constant(a), tf.constant(b)
    found = run([x + y, x - y, x * y, x / y, x // y, x % y, abs(x) ** y, -x, abs(x), x < y, x <= y, x > y, x >= y, 2.0 - x, 2.0 / x,
                 7.0 // y, 7.0 % y, 2.0 ** y])
    expected = [a + b, a - b, a * b, a / b, a // b, a % b, abs(a) ** b, -a, abs(a), a < b, a <= b, a > b, a >= b, 2 - a, 2 / a, 7 // b,
                7 % b, 2 ** b]
    for f, e in zip(found, expected, strict=True):
        np.testing.assert_allclose(f, e, rtol=1e-14)


def test_logic_and_bit_operators_go_by_dtype():
    p, q = np.array([True, True, False]), np.array([True, False, False])
    i, j = np.array([12, 10, 255], np.uint8), np.array([10, 10, 1], np.uint8)
    t, u, k, n = tf.constant(p), tf.constant(q), tf.constant(i), tf.constant(j)
    for found, expected in zip(run([t & u, t | u, t ^ u, ~t, k & n, k | n, k ^ n, ~k]), [p & q, p | q, p ^ q, ~p, i & j, i | j, i ^ j, ~i]):
        assert np.array_equal(found, expected) and found.dtype == expected.dtype


def test_arrays_on_the_left_build_ops():
    x = tf.constant([1.0, 2.0])
    t = np.array([3.0, 4.0]) * x
    assert isinstance(t, tf.Tensor) and t.dtype is tf.float32
    assert run(t).tolist() == [3, 8]


@pytest.mark.parametrize("dtype, result",
                         [(tf.int8, tf.float32), (tf.int16, tf.float32), (tf.uint8, tf.float32), (tf.int32, tf.float64),
                          (tf.int64, tf.float64)])
def test_division_of_integers(dtype, result):
    x, y = tf.constant([7, 1], dtype), tf.constant([2, 4], dtype)
    assert (x / y).dtype is tf.truediv(x, y).dtype is tf.divide(x, y).dtype is result
    assert run([x / y, tf.div(x, y), x // y])[0].tolist() == [3.5, 0.25]
    assert tf.div(x, y).dtype is dtype and run(tf.div(x, y)).tolist() == [3, 0]


def test_division_rounds_down_or_toward_zero():
    x, y = tf.constant([-7, 7, -7, 7]), tf.constant([2, -2, -2, 2])
    down, rest, toward, left = run([tf.floordiv(x, y), tf.floormod(x, y), tf.truncatediv(x, y), tf.truncatemod(x, y)])
    assert down.tolist() == [-4, -4, 3, 3] and rest.tolist() == [1, -1, -1, 1]
    assert toward.tolist() == [-3, -3, 3, 3] and left.tolist() == [-1, 1, -1, 1]
    assert tf.mod is tf.floormod


@pytest.mark.parametrize("fn", [tf.floordiv, tf.floormod, tf.truncatediv, tf.truncatemod, tf.div])
@pytest.mark.parametrize("interpret", [0, 1])
def test_integer_division_by_zero_raises(fn, interpret):
    y = tf.placeholder(tf.int32, [2])
    t = fn(tf.constant([1, 2]), y)
    with flags.override(interpret=interpret), tf.Session() as sess:
        with pytest.raises(errors.InvalidArgumentError, match="Integer division by zero"):
            sess.run(t, {y: [1, 0]})
        assert sess.run(t, {y: [1, 1]}).shape == (2,)


def test_a_float_beside_an_integer_tensor_is_refused():
    with pytest.raises(TypeError, match="int32"):
        tf.constant([1, 2]) + 0.5
    with pytest.raises(TypeError, match="does not match"):
        tf.add(tf.constant([1, 2]), tf.constant([1.0, 2.0]))


def test_shapes_that_do_not_broadcast_are_refused_with_the_line():
    with pytest.raises(ValueError, match=r"Dimensions must be equal, but are 2 and 4(.|\n)*test_math.py"):
        tf.add(tf.zeros([3, 2]), tf.zeros([3, 4]))


def test_operands_of_another_graph():
    with tf.Graph().as_default():
        x = tf.constant(1.0)
    assert (x + 1).graph is x.graph
    with pytest.raises(ValueError, match="same graph"):
        tf.add(x, tf.constant(1.0))


# ---------------------------------------------------------------- conventions at kinks


@pytest.mark.parametrize("build, at, expected", [
    (tf.abs, [0.0, -1.0], [0, -1]), (tf.sign, [2.0], [0]), (tf.square, [3.0], [6]),
    (lambda x: tf.maximum(x, 1.0), [1.0, 0.0, 2.0], [1, 0, 1]), (lambda x: tf.minimum(x, 1.0), [1.0, 0.0, 2.0], [1, 1, 0]),
    (lambda x: tf.maximum(1.0, x), [1.0], [0]), (lambda x: tf.clip_by_value(x, -1.0, 1.0), [-2.0, -1.0, 0.0, 1.0, 2.0], [0, 1, 1, 1, 0]),
    (tf.reduce_max, [1.0, 3.0, 3.0], [0, 0.5, 0.5]), (tf.reduce_min, [1.0, 3.0, 1.0], [0.5, 0, 0.5]),
    (tf.reduce_prod, [2.0, 0.0, 3.0], [0, 6, 0]), (tf.reduce_prod, [0.0, 0.0, 3.0], [0, 0, 0]), (tf.reduce_prod, [2.0, 3.0], [3, 2]),
    (lambda x: x ** 2.0, [0.0, -3.0], [0, -6]), (lambda x: tf.div_no_nan(1.0, x), [0.0, 2.0], [0, -0.25]),
    (tf.math.reduce_euclidean_norm, [0.0, 0.0], [0, 0]), (tf.reduce_logsumexp, [-np.inf, -np.inf], [0, 0])])
def test_gradients_at_kinks(build, at, expected):
    x = tf.constant(at, tf.float64)
    found, = slopes(build(x), x)
    assert found.tolist() == expected


def test_slope_of_an_exponent_at_a_base_that_is_not_positive():
    y = tf.constant([2.0, 2.0], tf.float64)
    found, = slopes(tf.constant([0.0, -2.0], tf.float64) ** y, y)
    assert found.tolist() == [0, 0]


@pytest.mark.parametrize("fn",
                         [tf.floor, tf.ceil, tf.round, tf.rint, lambda x: x // 2.0,
                          tf.stop_gradient if hasattr(tf, "stop_gradient") else tf.floor])
def test_no_gradient_is_none_with_a_warning(fn):
    x = tf.constant([1.5])
    with pytest.warns(UserWarning, match="None"):
        assert tf.gradients(fn(x), x) == [None]


def test_gradients_of_unknown_shapes():
    x, w = tf.placeholder(tf.float64, [None, 3]), tf.placeholder(tf.float64, None)
    y = tf.reduce_sum(tf.reduce_mean(x * w, axis=-1, keepdims=True) * x)
    a, b = np.arange(6.0).reshape(2, 3), np.array([1.0, 2.0, 3.0])
    dx, dw = slopes(y, x, w, feed_dict={x: a, w: b})
    rows = (a * b).mean(1, keepdims=True)
    np.testing.assert_allclose(dx, rows + a.sum(1, keepdims=True) * b / 3)
    np.testing.assert_allclose(dw, (a * a.sum(1, keepdims=True) / 3).sum(0))


def test_a_gradient_takes_the_shape_of_what_was_broadcast():
    x, y = tf.placeholder(tf.float32, [None, 1]), tf.placeholder(tf.float32, [4])
    dx, dy = slopes(x * y, x, y, feed_dict={x: [[1.0], [2.0]], y: [1.0, 2.0, 3.0, 4.0]})
    assert dx.tolist() == [[10], [10]] and dy.tolist() == [3, 3, 3, 3]


# ---------------------------------------------------------------- reductions


@pytest.mark.parametrize("name, expected",
                         [("reduce_sum", np.sum), ("reduce_mean", np.mean), ("reduce_prod", np.prod), ("reduce_max", np.max),
                          ("reduce_min", np.min),
                                            ("reduce_all", np.all), ("reduce_any", np.any)])
def test_reductions_take_tf1s_arguments(name, expected):
    data = np.random.default_rng(0).normal(size=(2, 3, 4))
    data = data > 0.5 if name in ("reduce_all", "reduce_any") else data
    x, fn = tf.constant(data), getattr(tf, name)
    assert list(inspect.signature(fn).parameters) == ["input_tensor", "axis", "keepdims", "name", "reduction_indices", "keep_dims"]
    calls = [fn(x), fn(x, 1), fn(x, [0, -1]), fn(x, axis=(2, 0), keepdims=True), fn(x, reduction_indices=[1]), fn(x, 1, keep_dims=True),
             fn(x, tf.constant([1, 2])), fn(x, [])]
    wanted = [{"axis": None}, {"axis": 1}, {"axis": (0, 2)}, {"axis": (0, 2), "keepdims": True}, {"axis": 1}, {"axis": 1, "keepdims": True},
              {"axis": (1, 2)}, {"axis": ()}]
    for found, how in zip(run(calls), wanted, strict=True):
        np.testing.assert_allclose(found, expected(data, **how), rtol=1e-13)


def test_reductions_refuse_bad_axes():
    x = tf.zeros([2, 3])
    with pytest.raises(ValueError, match="Invalid reduction dimension 2"):
        tf.reduce_sum(x, 2)
    with pytest.raises(ValueError, match="twice"):
        tf.reduce_sum(x, [1, -1])
    with pytest.raises(ValueError, match="both"):
        tf.reduce_sum(x, axis=1, reduction_indices=1)
    with pytest.raises(TypeError):
        tf.reduce_sum(x, 0.5)
    with pytest.raises(ValueError, match="known when the graph is built"):
        tf.reduce_sum(x, tf.placeholder(tf.int32, []))


def test_reductions_of_nothing():
    x = tf.constant(np.zeros((0, 2), np.float32))
    total, mean, top, low, one, lse = run([tf.reduce_sum(x, 0), tf.reduce_mean(x, 0), tf.reduce_max(x, 0), tf.reduce_min(x, 0),
                                           tf.reduce_prod(x, 0), tf.reduce_logsumexp(x, 0)])
    assert total.tolist() == [0, 0] and np.isnan(mean).all() and one.tolist() == [1, 1]
    assert (top == -np.inf).all() and (low == np.inf).all() and (lse == -np.inf).all()


def test_reductions_of_an_unknown_rank():
    x = tf.placeholder(tf.float64)
    data = np.arange(6.0).reshape(2, 3)
    y = tf.reduce_sum(tf.square(x), axis=-1)
    assert y.shape.ndims is None and tf.reduce_sum(x).shape.as_list() == []
    dx, = slopes(y, x, feed_dict={x: data})
    assert np.array_equal(dx, 2 * data) and np.array_equal(run(y, {x: data}), (data ** 2).sum(-1))


def test_mean_of_integers_rounds_toward_zero():
    assert run(tf.reduce_mean(tf.constant([-1, -2]))) == -1


def test_logsumexp_does_not_overflow():
    x = tf.constant([1000.0, 1000.0], tf.float64)
    y = tf.reduce_logsumexp(x)
    assert run(y) == pytest.approx(1000 + np.log(2)) and slopes(y, x)[0].tolist() == pytest.approx([0.5, 0.5])
    assert run(tf.reduce_logsumexp(tf.constant([np.inf, 1.0]))) == np.inf


def test_sums_of_16_bit_floats_are_taken_in_32():
    x = tf.constant(np.full(4096, 20.0, np.float16))
    assert run(tf.reduce_mean(x)) == 20


def test_argmax_takes_the_first():
    data = np.array([[1.0, 3.0, 3.0], [np.nan, 5.0, np.nan], [2.0, 2.0, 2.0]])
    x = tf.constant(data)
    rows, columns, low, narrow, old = run([tf.argmax(x, 1), tf.argmax(x), tf.argmin(x, axis=1), tf.argmax(x, 1, output_type=tf.int32),
                                           tf.arg_max(x, dimension=1)])
    assert rows.tolist() == [1, 0, 0] == old.tolist() and rows.dtype == np.int64 and narrow.dtype == np.int32
    assert np.array_equal(columns, np.argmax(data, 0)) and np.array_equal(low, np.argmin(data, 1))
    assert run(tf.argmax(x, dimension=-1)).tolist() == [1, 0, 0]
    with pytest.raises(ValueError, match="empty"):
        tf.argmax(tf.zeros([2, 0]), 1)
    with pytest.raises(ValueError, match="dimension"):
        tf.argmax(x, 2)


def test_variance_and_deviation():
    data = np.random.default_rng(1).normal(size=(3, 5))
    var, std = run([tf.math.reduce_variance(tf.constant(data), 1), tf.math.reduce_std(tf.constant(data), axis=0, keepdims=True)])
    np.testing.assert_allclose(var, data.var(1))
    np.testing.assert_allclose(std, data.std(0, keepdims=True))


# ---------------------------------------------------------------- scans, sums, counts


@pytest.mark.parametrize("exclusive, reverse, expected",
                         [(False, False, [1, 3, 6]), (True, False, [0, 1, 3]), (False, True, [6, 5, 3]), (True, True, [5, 3, 0])])
def test_cumsum(exclusive, reverse, expected):
    x = tf.constant([1.0, 2.0, 3.0])
    y = tf.cumsum(x, exclusive=exclusive, reverse=reverse)
    assert run(y).tolist() == expected
    weights = np.array([1.0, 10.0, 100.0], np.float32)
    jacobian = np.array([run(tf.cumsum(tf.constant(row), exclusive=exclusive, reverse=reverse)) for row in np.eye(3, dtype=np.float32)])
    assert np.array_equal(slopes(y * weights, x)[0], jacobian @ weights)


def test_cumprod_of_an_empty_axis():
    assert run([tf.cumprod(tf.constant(np.zeros((2, 0))), 1, exclusive=True)])[0].shape == (2, 0)


def test_add_n():
    a, b = tf.constant([1.0, 2.0]), tf.constant([3.0, 4.0])
    assert run(tf.add_n([a, b, a])).tolist() == [5, 8] and tf.add_n([a]) is a
    assert run(tf.accumulate_n([a, b], shape=[2], tensor_dtype=tf.float32)).tolist() == [4, 6]
    with pytest.raises(ValueError, match="list of at least one"):
        tf.add_n([])
    with pytest.raises(ValueError, match="list of at least one"):
        tf.add_n(a)
    with pytest.raises(ValueError):
        tf.add_n([a, tf.constant([1.0])])
    with pytest.raises(TypeError):
        tf.add_n([a, tf.constant([1, 2])])


def test_bincount():
    arr = tf.constant([1, 1, 3])
    plain, long, short, weighted = run([tf.bincount(arr), tf.bincount(arr, minlength=6), tf.bincount(arr, maxlength=2),
                                        tf.bincount(arr, weights=[0.5, 1.0, 2.0])])
    assert plain.tolist() == [0, 2, 0, 1] and long.tolist() == [0, 2, 0, 1, 0,
                                                                0] and short.tolist() == [0, 2] and weighted.tolist() == [0, 1.5, 0, 2]
    with pytest.raises(errors.InvalidArgumentError, match="non-negative"):
        run(tf.bincount(tf.constant([-1])))


def test_count_nonzero_and_zero_fraction():
    x = tf.constant([[0.0, 1.0, 2.0], [0.0, 0.0, 3.0]])
    assert run([tf.count_nonzero(x), tf.count_nonzero(x, 1, dtype=tf.int32)])[1].tolist() == [2, 1]
    assert run(tf.math.zero_fraction(x)) == np.float32(0.5)


# ---------------------------------------------------------------- conversion, complex parts


def test_cast():
    x = tf.constant([1.9, -1.9, 0.0])
    assert run(tf.cast(x, tf.int32)).tolist() == [1, -1, 0] and run(tf.cast(x, tf.bool)).tolist() == [True, True, False]
    assert tf.cast(x, tf.float32) is x and tf.cast(3, tf.float64).dtype is tf.float64
    assert run(tf.cast(tf.constant([True, False]), "int64")).tolist() == [1, 0]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert run(tf.cast(tf.constant([1 + 2j]), tf.float32)).tolist() == [1]
    for caster, dtype in ((tf.to_float, tf.float32), (tf.to_double, tf.float64), (tf.to_int32, tf.int32), (tf.to_int64, tf.int64),
                          (tf.to_bfloat16, tf.bfloat16)):
        assert caster(tf.constant([1], tf.uint8)).dtype is dtype


def test_saturate_cast():
    assert run(tf.saturate_cast(tf.constant([-5.0, 3.5, 300.0]), tf.uint8)).tolist() == [0, 3, 255]
    assert run(tf.saturate_cast(tf.constant([-1e20, 1e20, 7.0]), tf.int32)).tolist()[::2] == [-2**31, 7]
    assert run(tf.saturate_cast(tf.constant([-1, 200, 70000]), tf.int16)).tolist() == [-1, 200, 32767]


def test_complex_parts():
    z = np.array([3 + 4j, -1j, 0, -2 + 0j])
    t = tf.complex(tf.constant(z.real), tf.constant(z.imag))
    re, im, size, angle, conj = run([tf.real(t), tf.imag(t), tf.abs(t), tf.angle(t), tf.conj(t)])
    assert t.dtype is tf.complex128 and np.array_equal(re, z.real) and np.array_equal(im, z.imag)
    np.testing.assert_allclose(size, np.abs(z))
    np.testing.assert_allclose(angle, np.angle(z))
    assert np.array_equal(conj, z.conj())
    x = tf.constant([1.0])
    assert tf.real(x) is x and tf.conj(x) is x and run(tf.imag(x)).tolist() == [0]


def test_gradient_of_a_modulus_is_along_the_number():
    z = tf.constant([3 + 4j])
    assert slopes(tf.abs(z), z)[0].tolist() == pytest.approx([0.6 + 0.8j])


def test_clip_by_value_refuses_bounds_that_enlarge():
    x = tf.zeros([3])
    with pytest.raises(ValueError, match="bounds"):
        tf.clip_by_value(x, tf.zeros([2, 3]), 1.0)
    assert run(tf.clip_by_value(tf.constant([-2, 0, 7]), -1, [1, 1, 5])).tolist() == [-1, 0, 5]


def test_scalar_mul():
    assert run(tf.scalar_mul(2.0, tf.constant([1.0, 3.0]))).tolist() == [2, 6]
    with pytest.raises(ValueError, match="Only scalar multiply works"):
        tf.scalar_mul([1.0, 2.0], tf.constant([1.0, 3.0]))


def test_rounding_is_half_to_even_and_keeps_integers():
    assert run(tf.round(tf.constant([0.5, 1.5, 2.5, -0.5]))).tolist() == [0, 2, 2, 0]
    i = tf.constant([1, 2])
    assert tf.round(i) is i


def test_lbeta_and_polyval():
    assert run(tf.lbeta(tf.constant([2.0, 3.0], tf.float64))) == pytest.approx(np.log(1 / 12))
    assert run(tf.math.polyval([1.0, 2.0, 3.0], tf.constant([2.0]))).tolist() == [11]


def test_bitwise():
    x, y = tf.constant([6, -8]), tf.constant([3, 1])
    found = run([tf.bitwise.bitwise_and(x, y), tf.bitwise.bitwise_or(x, y), tf.bitwise.bitwise_xor(x, y), tf.bitwise.invert(x),
                 tf.bitwise.left_shift(x, y), tf.bitwise.right_shift(x, y)])
    assert [f.tolist() for f in found] == [[2, 0], [7, -7], [5, -7], [-7, 7], [48, -16], [0, -4]]


def test_sizes_are_followed_through_arithmetic():
    n = tf.shape(tf.placeholder(tf.float32, [4, None]))
    half = n[0] // 2 + tf.cast(n[0] * 3, tf.int64).shape.ndims
    assert half.known.tolist() == 2 and tf.maximum(n[0], 7).known.tolist() == 7 and tf.reduce_prod(tf.constant([2, 3])).known.tolist() == 6
    assert (tf.constant([200], tf.uint8) + tf.constant([100], tf.uint8)).known is None, "a wrapped value is not followed"


def test_the_math_namespace():
    for name in ("add", "exp", "reduce_mean", "argmax", "erfinv", "xlogy", "divide_no_nan", "floormod", "bincount", "softplus",
                 "reduce_std"):
        assert callable(getattr(tf.math, name)), name
    assert tf.mul is tf.multiply and tf.sub is tf.subtract and tf.neg is tf.negative
    with pytest.raises(AttributeError, match="reduce_sum"):
        tf.math.reduce_summ


