"""The generator against published vectors, kernels against NumPy, seeds, distributions, initializers."""
from __future__ import annotations

import numpy as np
import pytest
from scipy import stats

import graphflow as tf
from graphflow import graph, types
from graphflow.codegen import ir
from graphflow.flags import flags
from graphflow.ops import random as ops

MODES = {"reference": 1, "compiled": 0}


@pytest.fixture(params=MODES)
def mode(request):
    with flags.override(interpret=MODES[request.param]), tf.Graph().as_default():
        yield request.param


@pytest.fixture
def reference():
    with flags.override(interpret=1), tf.Graph().as_default():
        yield


def run(fetch, times=1):
    with tf.Session() as sess:
        found = [sess.run(fetch) for _ in range(times)]
    return found[0] if times == 1 else found


# ---------------------------------------------------------------- the generator


# Known answers published with the reference implementation of the paper (Random123, kat_vectors): key, counter, result.
@pytest.mark.parametrize("key, counter, expected", [
    ((0, 0), (0, 0), (0x6B200159, 0x99BA4EFE)),
    ((0xFFFFFFFF, 0xFFFFFFFF), (0xFFFFFFFF, 0xFFFFFFFF), (0x1CB996FC, 0xBB002BE7)),
    ((0x13198A2E, 0x03707344), (0x243F6A88, 0x85A308D3), (0xC4923A9C, 0x483DF7A0)),
])
def test_threefry_known_answers(key, counter, expected):
    words = [np.array([w], np.uint32) for w in (*key, *counter)]
    assert tuple(int(w[0]) for w in ops.threefry2x32(*words)) == expected


def value_of(e, env):
    """An expression's value: the meaning of each operator in NumPy, with 32 and 64 bit wrap-around."""
    done = {}
    with np.errstate(all="ignore"):
        for x in ir.walk(e):
            a = [done[id(y)] for y in x.args]
            if x.op == "const":
                v = np.array([x.data], x.dtype.np)
            elif x.op == "size":
                v = np.array([x.data], np.int64)
            elif x.op == "axis":
                v = env[x.data]
            elif x.op == "load":
                v = env[x.data][tuple(int(i[0]) for i in a)].reshape(1)
            elif x.op == "cast":
                v = a[0].astype(x.dtype.np)
            elif x.op == "check":
                v = a[1]
            elif x.op == "erfinv":
                v = ops.NumpyMath.erfinv(a[0])
            else:
                v = ir.SCALAR[x.op][1](*a)
            done[id(x)] = np.asarray(v)
    return done[id(e)]


@pytest.mark.parametrize("element, dtype", [
    (ops.uniform, types.float32), (ops.uniform, types.float64), (ops.standard_normal, types.float32), (ops.standard_normal, types.float64),
    (ops.truncated_normal, types.float32), (ops.truncated_normal, types.float64)], ids=lambda v: getattr(v, "__name__", str(v)))
@pytest.mark.parametrize("run_number", [0, 7, 2**33 + 5])
def test_the_kernel_expression_and_numpy_give_the_same_bits(element, dtype, run_number):
    axis, key, counter = ir.Axis(1000), ir.Buffer(types.uint32, (2,), "in"), ir.Buffer(types.int64, (), "in")
    start = 2**32 - 500  # the index crosses 32 bits
    stream = ops.Stream(ir.m, [ir.load(key, [ir.index_const(i)]) for i in range(2)], ir.load(counter, []), ir.axis(axis) + start)
    words, index = np.array([123, 0xFEDCBA98], np.uint32), np.arange(1000, dtype=np.int64)
    got = value_of(element(ir.m, stream, dtype), {axis: index, key: words, counter: np.array(run_number, np.int64)})
    expected = element(ops.NumpyMath, ops.Stream(ops.NumpyMath, [words[:1], words[1:]], np.array([run_number]), index + start), dtype)
    assert got.dtype == expected.dtype == dtype.np
    np.testing.assert_array_equal(got, expected)


def test_words_differ_over_keys_runs_indices_and_blocks():
    seen = set()
    index = np.arange(50, dtype=np.int64)
    for key in ((0x9E3779B9, 0x7F4A7C15), (0x9E3779B8, 0x7F4A7C15), (0xBF58476D, 0x1CE4E5B9)):
        for number in (0, 1, 2**33):
            for block in (0, 1):
                for offset in (0, 2**34):
                    s = ops.Stream(ops.NumpyMath, [np.array([k], np.uint32) for k in key], np.array([number]), index + offset)
                    seen.update(zip(*[w.tolist() for w in s(block)]))
    assert len(seen) == 3 * 3 * 2 * 2 * 50


def test_wide_products_are_exact():
    rng = np.random.default_rng(0)
    a, b = rng.integers(0, 2**64, (2, 200), np.uint64)
    got = ops._product_high(ops.NumpyMath, a, b)
    assert [int(x) for x in got] == [int(x) * int(y) >> 64 for x, y in zip(a, b)]


def test_normal_quantile():
    p = np.concatenate([np.linspace(1e-12, 1 - 1e-12, 2001), 10.0 ** -np.arange(2, 300, 20)])
    np.testing.assert_allclose(ops.normal_quantile(p), stats.norm.ppf(p), rtol=1e-13, atol=1e-15)


# ---------------------------------------------------------------- seeds


def draws(graph_seed, op_seed, times=2, make=lambda seed: tf.random_uniform([4], seed=seed)):
    with tf.Graph().as_default():
        tf.set_random_seed(graph_seed) if graph_seed is not None else None
        return np.concatenate(run(make(op_seed), times))


def test_a_seed_fixes_the_values_and_a_new_session_starts_over(mode):
    for graph_seed, op_seed in [(5, None), (None, 5), (5, 6)]:
        np.testing.assert_array_equal(draws(graph_seed, op_seed), draws(graph_seed, op_seed))
    a = tf.random_uniform([4], seed=1)
    np.testing.assert_array_equal(run(a, 3), run(a, 3))


def test_every_run_draws_new_values(mode):
    first, second, third = run(tf.random_normal([8], seed=1), 3)
    assert not np.isin(first, second).any() and not np.isin(second, third).any()


def test_the_four_cases_differ(reference):
    cases = [draws(g, o) for g, o in [(None, None), (None, None), (5, None), (6, None), (None, 5), (5, 5), (5, 6), (6, 5)]]
    assert len({tuple(c) for c in cases}) == len(cases)


def test_equal_op_seeds_give_equal_streams_and_names_give_different_ones(reference):
    tf.set_random_seed(1)
    a, b, c, d = tf.random_uniform([4], seed=3), tf.random_uniform([4], seed=3), tf.random_uniform([4]), tf.random_uniform([4])
    va, vb, vc, vd = run([a, b, c, d])
    assert (va == vb).all() and (vc != vd).all() and (va != vc).all()


def test_an_op_inserted_before_changes_nothing(reference):
    def build(extra):
        with tf.Graph().as_default():
            tf.set_random_seed(1)
            if extra:
                tf.random_normal([3], name="another")
                tf.constant(1.0)
            return run(tf.random_uniform([4], name="u"))

    np.testing.assert_array_equal(build(False), build(True))


def test_get_seed(reference):
    assert tf.get_seed(None) == (None, None)
    assert tf.get_seed(3) == (87654321, 3)
    tf.set_random_seed(9)
    assert tf.get_seed(3) == (9, 3)
    with tf.name_scope("a"):
        first = tf.get_seed(None)
    assert first[0] == 9 and first[1] != tf.get_seed(None)[1]


def test_the_result_has_the_name_of_its_scope(reference):
    assert tf.random_normal([2], name="n").name == "n:0"
    assert tf.random_uniform([2]).name == "random_uniform:0"
    assert tf.random_uniform([2], 0, 5, tf.int32, name="i").name == "i:0"
    assert {"n/shape", "n/mean", "n/stddev", "n/RandomStandardNormal",
            "n/mul"} <= {op.name for op in tf.get_default_graph().get_operations()}


# ---------------------------------------------------------------- distributions


@pytest.mark.parametrize("make, law", [
    (lambda: tf.random_uniform([40000], -2.0, 5.0, seed=1), stats.uniform(-2, 7)),
    (lambda: tf.random_uniform([40000], dtype=tf.float64, seed=2), stats.uniform()),
    (lambda: tf.random_normal([200, 200], 3.0, 2.0, seed=3), stats.norm(3, 2)),
    (lambda: tf.random_normal([40000], dtype=tf.float64, seed=4), stats.norm()),
    (lambda: tf.truncated_normal([40000], 1.0, 0.5, seed=5), stats.truncnorm(-2, 2, 1, 0.5)),
    (lambda: tf.truncated_normal([40000], dtype=tf.float64, seed=6), stats.truncnorm(-2, 2)),
    (lambda: tf.random_gamma([40000], 2.5, 3.0, seed=7), stats.gamma(2.5, scale=1 / 3)),
    (lambda: tf.random.stateless_normal([40000], [1, 2]), stats.norm()),
    (lambda: tf.random.stateless_uniform([40000], [3, 2**40], -1.0, 1.0), stats.uniform(-1, 2)),
    (lambda: tf.random.stateless_truncated_normal([40000], [1, 2]), stats.truncnorm(-2, 2)),
], ids=range(10))
def test_distribution(mode, make, law):
    x = np.asarray(run(make()), np.float64).ravel()
    assert stats.kstest(x, law.cdf).pvalue > 1e-3
    assert abs(x.mean() - law.mean()) < 5 * law.std() / len(x) ** 0.5
    assert abs(x.var() / law.var() - 1) < 0.05
    assert abs(np.corrcoef(x[:-1], x[1:])[0, 1]) < 5 / len(x) ** 0.5


@pytest.mark.parametrize("dtype", [tf.int32, tf.int64], ids=lambda v: getattr(v, "__name__", str(v)))
def test_integers_are_uniform(mode, dtype):
    x = run(tf.random_uniform([60000], -3, 4, dtype, seed=1))
    assert x.dtype == dtype.np
    counts = np.bincount(x + 3, minlength=7)
    assert len(counts) == 7 and stats.chisquare(counts).pvalue > 1e-3


@pytest.mark.parametrize("dtype", [tf.int32, tf.int64], ids=lambda v: getattr(v, "__name__", str(v)))
def test_integers_over_the_whole_range(mode, dtype):
    x = run(tf.random_uniform([20000], dtype.min, dtype.max, dtype, seed=1)).astype(np.float64) / 2.0 ** (8 * dtype.size)
    assert stats.kstest(x, stats.uniform(-0.5, 1).cdf).pvalue > 1e-3


@pytest.mark.parametrize("dtype", [tf.float16, tf.bfloat16, tf.float32, tf.float64], ids=lambda v: getattr(v, "__name__", str(v)))
def test_uniform_floats_stay_below_one_in_the_stored_type(mode, dtype):
    x = np.asarray(run(tf.random_uniform([20000], dtype=dtype, seed=1)), np.float64)
    assert x.min() >= 0 and x.max() < 1 and abs(x.mean() - 0.5) < 0.02


def test_poisson_and_gamma_shapes(mode):
    x = run(tf.random_poisson([1.0, 20.0], [5000], seed=1))
    assert x.shape == (5000, 2)
    np.testing.assert_allclose(x.mean(0), [1, 20], rtol=0.05)
    np.testing.assert_allclose(x.var(0), [1, 20], rtol=0.1)
    y = run(tf.random_gamma([5000], [[1.0], [9.0]], [1.0, 2.0], seed=2))
    assert y.shape == (5000, 2, 2)
    np.testing.assert_allclose(y.mean(0), [[1, 0.5], [9, 4.5]], rtol=0.06)


def test_multinomial(mode):
    p = np.array([[0.1, 0.2, 0.7], [0.5, 0.5, 0.0]])
    with np.errstate(divide="ignore"):
        x = run(tf.multinomial(np.log(p).astype(np.float32) + 5, 30000, seed=1))
    assert x.shape == (2, 30000) and x.dtype == np.int64
    for row, probabilities in zip(x, p):
        np.testing.assert_allclose(np.bincount(row, minlength=3) / 30000, probabilities, atol=0.015)
    assert run(tf.random.categorical(tf.zeros([4, 2]), 3, dtype=tf.int32)).dtype == np.int32


def test_shuffle(mode):
    values = np.arange(24).reshape(12, 2)
    first, second = run(tf.random_shuffle(values, seed=1), 2)
    for x in (first, second):
        np.testing.assert_array_equal(x[np.argsort(x[:, 0])], values)
    assert (first != second).any() and (first != values).any()


def test_shuffled_floats_have_a_gradient(mode):
    x = tf.constant([[1.0, 2.0], [3.0, 4.0], [5.0, 6.0], [7.0, 8.0]])
    y = tf.random_shuffle(x, seed=1, name="s")
    weights = np.float32([[1], [10], [100], [1000]])
    shuffled, dx = run([y, tf.convert_to_tensor(tf.gradients(y * weights, x)[0])])
    assert y.name == "s:0" and sorted(shuffled[:, 0]) == [1, 3, 5, 7]
    for row, w in zip(shuffled, weights):
        np.testing.assert_array_equal(dx[int(row[0]) // 2], [w[0], w[0]])


def test_every_permutation_is_as_likely(reference):
    found = run(tf.random_shuffle(tf.constant([0, 1, 2]), seed=1), 3000)
    counts = np.unique([int("".join(map(str, x))) for x in found], return_counts=True)[1]
    assert len(counts) == 6 and stats.chisquare(counts).pvalue > 1e-3


def test_crop(mode):
    image = np.arange(5 * 6 * 2).reshape(5, 6, 2)
    seen = set()
    for x in run(tf.random_crop(image, [2, 3, 2], seed=1), 60):
        top = tuple(np.argwhere(image == x[0, 0, 0])[0])
        np.testing.assert_array_equal(x, image[top[0]:top[0] + 2, top[1]:top[1] + 3, :])
        seen.add(top)
    assert len(seen) > 8


def test_stateless_values_depend_on_the_seed_alone(mode):
    a, b = tf.random.stateless_uniform([5], [1, 2]), tf.random.stateless_uniform([5], [1, 3])
    first, second = run([a, b], 2)
    np.testing.assert_array_equal(first[0], second[0])
    assert (first[0] != first[1]).all()


def test_unknown_shape(mode):
    n = tf.placeholder(tf.int32, [2])
    x = tf.random_normal(n, seed=1)
    assert x.shape.as_list() == [None, None]
    with tf.Session() as sess:
        assert sess.run(x, {n: [3, 4]}).shape == (3, 4)
        assert sess.run(x, {n: [0, 4]}).shape == (0, 4)


def test_shape_of_a_batch(mode):
    x = tf.placeholder(tf.float32, [None, 3])
    y = tf.random_uniform(tf.shape(x), seed=1)
    with tf.Session() as sess:
        assert sess.run(y, {x: np.zeros((5, 3))}).shape == (5, 3)
        assert sess.run(y, {x: np.zeros((2, 3))}).shape == (2, 3)


def test_gradient_reaches_mean_and_stddev_only(reference):
    mean, stddev = tf.constant([1.0, 2.0]), tf.constant(3.0)
    z = tf.random_normal([2], mean, stddev, seed=1)
    d_mean, d_stddev = tf.gradients(z, [mean, stddev])
    with tf.Session() as sess:
        value, dm, ds = sess.run([z, d_mean, d_stddev])
    np.testing.assert_allclose(dm, [1, 1])
    np.testing.assert_allclose(ds, ((value - [1, 2]) / 3).sum(), rtol=1e-5)


def test_bad_arguments(reference):
    with pytest.raises(ValueError, match="maxval"):
        tf.random_uniform([2], dtype=tf.int32)
    with pytest.raises(ValueError, match="float dtype"):
        tf.random_normal([2], dtype=tf.int32)
    with pytest.raises(ValueError, match="dtype"):
        tf.random_uniform([2], dtype=tf.complex64)
    with pytest.raises(ValueError, match="-1"):
        tf.random_normal([2, -1])
    with pytest.raises(ValueError, match="fully known"):
        tf.random_normal(tf.TensorShape([None, 2]))


def test_an_empty_integer_range_raises(mode):
    low = tf.placeholder(tf.int32, [])
    x = tf.random_uniform([3], low, 2, tf.int32)
    with tf.Session() as sess:
        assert (sess.run(x, {low: 1}) == 1).all()
        with pytest.raises(tf.errors.InvalidArgumentError, match="minval < maxval"):
            sess.run(x, {low: 2})


def test_a_failed_step_draws_nothing(mode):
    p = tf.placeholder(tf.float32, [])
    x = tf.random_uniform([3], seed=1)
    with tf.control_dependencies([x]):
        checked = tf.Assert(p > 0, [p])
    with tf.Session() as sess, pytest.raises(tf.errors.InvalidArgumentError):
        sess.run([x, checked], {p: -1})
    with tf.Session() as sess:
        with pytest.raises(tf.errors.InvalidArgumentError):
            sess.run([x, checked], {p: -1})
        after = sess.run(x)
    np.testing.assert_array_equal(after, run(x))


# ---------------------------------------------------------------- initializers


def initial(initializer, shape, dtype=tf.float32):
    v = tf.get_variable("v", shape, dtype, initializer=initializer)
    with tf.Session() as sess:
        sess.run(v.initializer)
        return sess.run(v)


@pytest.mark.parametrize("initializer, limit, deviation", [
    (tf.initializers.glorot_uniform(seed=1), (6 / 300) ** 0.5, (2 / 300) ** 0.5),
    (tf.initializers.he_uniform(seed=1), (6 / 100) ** 0.5, (2 / 100) ** 0.5),
    (tf.initializers.lecun_uniform(seed=1), (3 / 100) ** 0.5, (1 / 100) ** 0.5),
    (tf.initializers.glorot_normal(seed=1), 2.28 * (2 / 300) ** 0.5, (2 / 300) ** 0.5),
    (tf.initializers.he_normal(seed=1), 2.28 * (2 / 100) ** 0.5, (2 / 100) ** 0.5),
    (tf.initializers.lecun_normal(seed=1), 2.28 * (1 / 100) ** 0.5, (1 / 100) ** 0.5),
    (tf.variance_scaling_initializer(3.0, "fan_out", "untruncated_normal", seed=1), 9, (3 / 200) ** 0.5),
    (tf.uniform_unit_scaling_initializer(2.0, seed=1), 2 * (3 / 100) ** 0.5, 2 * (1 / 100) ** 0.5),
    (tf.random_uniform_initializer(-2, 2, seed=1), 2, 2 / 3 ** 0.5),
    (tf.random_normal_initializer(0, 0.5, seed=1), 9, 0.5),
    (tf.truncated_normal_initializer(0, 0.5, seed=1), 1.0, 0.5 * 0.8796),
], ids=lambda p: type(p).__name__ if not isinstance(p, float) else f"{p:.3g}")
def test_random_initializers(mode, initializer, limit, deviation):
    x = initial(initializer, [100, 200])
    assert np.abs(x).max() <= limit * (1 + 1e-6)
    assert abs(x.std() / deviation - 1) < 0.03 and abs(x.mean()) < 4 * deviation / 141


def test_fans_of_filters():
    from graphflow.init_ops import fans

    assert fans([3, 3, 16, 32]) == (144, 288) and fans([5]) == (5, 5) and fans([]) == (1, 1)


@pytest.mark.parametrize("shape", [[20, 8], [8, 20], [3, 3, 4, 6]])
def test_orthogonal(reference, shape):
    q = initial(tf.orthogonal_initializer(2.0, seed=1), shape).reshape(-1, shape[-1]) / 2
    product = q @ q.T if q.shape[0] < q.shape[1] else q.T @ q
    np.testing.assert_allclose(product, np.eye(len(product)), atol=1e-5)


def test_constant_initializers(reference):
    np.testing.assert_array_equal(initial(tf.initializers.identity(3.0), [2, 3]), 3 * np.eye(2, 3))
    with tf.Graph().as_default():
        np.testing.assert_array_equal(initial(tf.constant_initializer([1, 2, 3]), [2, 2]), [[1, 2], [3, 3]])
    with tf.Graph().as_default():
        np.testing.assert_array_equal(initial(tf.ones_initializer, [50, 60]), np.ones((50, 60)))
    with tf.Graph().as_default():
        x = initial(tf.zeros_initializer(tf.int64), [2], tf.int64)
        assert x.dtype == np.int64 and not x.any()


def test_initializers_carry_their_configuration(reference):
    for make in (tf.variance_scaling_initializer(2.0, "fan_avg", "uniform", 3), tf.random_normal_initializer(1.0, 2.0, 4, tf.float64),
                 tf.constant_initializer(3), tf.orthogonal_initializer(2.0, 5), tf.glorot_uniform_initializer(7)):
        again = type(make).from_config(make.get_config())
        assert again.get_config() == make.get_config()


def test_bad_initializers(reference):
    for call in (lambda: tf.variance_scaling_initializer(-1.0), lambda: tf.variance_scaling_initializer(mode="in"),
                 lambda: tf.variance_scaling_initializer(distribution="cauchy"), lambda: tf.orthogonal_initializer()([3]),
                 lambda: tf.initializers.identity()([3]), lambda: tf.glorot_uniform_initializer()([3], tf.int32),
                 lambda: tf.zeros_initializer()([None, 3]), lambda: tf.constant_initializer([1, 2, 3])([2])):
        with pytest.raises(ValueError):
            call()
    with pytest.raises(TypeError):
        tf.constant_initializer(object())


_ = graph
