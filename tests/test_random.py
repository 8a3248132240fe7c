"""The generator against published vectors, kernels against NumPy, seeds, distributions, initializers."""
from __future__ import annotations

import numpy as np
import pytest
from on_gpu import QUICK
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
    with flags.override(interpret=QUICK), tf.Graph().as_default():
        yield


def run(fetch, times=1):
    with tf.Session() as sess:
        found = [sess.run(fetch) for _ in range(times)]
    return found[0] if times == 1 else found


# ---------------------------------------------------------------- the generator


# Known answers published with the reference implementation of the paper (Random123, kat_vectors): key, counter, result.
@pytest.mark.parametrize("key, counter, expected", [
    ((0, 0), (0, 0, 0, 0), (0x6627E8D5, 0xE169C58D, 0xBC57AC4C, 0x9B00DBD8)),
    ((0xFFFFFFFF,) * 2, (0xFFFFFFFF,) * 4, (0x408F276D, 0x41C83B0E, 0xA20BC7C6, 0x6D5451FD)),
    ((0xA4093822, 0x299F31D0), (0x243F6A88, 0x85A308D3, 0x13198A2E, 0x03707344), (0xD16CFE09, 0x94FDCCEB, 0x5001E420, 0x24126EA1)),
])
def test_philox_known_answers(key, counter, expected):
    words = [[np.array([w], np.uint32) for w in part] for part in (key, counter)]
    with np.errstate(all="ignore"):
        assert tuple(int(w[0]) for w in ops.philox4x32(ops.NumpyMath, *words)) == expected


# What TensorFlow 2.21 draws (the kernels are those of 1.15): the first or, where it says so, the second run of an op with an op seed.
TENSORFLOW = [
    ("float32", lambda: tf.random_uniform([5], seed=7), 1, [0.618986964225769, 0.5012502670288086, 0.28693532943725586]),
    ("float64", lambda: tf.random_uniform([5], dtype="float64", seed=7), 0, [0.8715283824246434, 0.041150670730960126]),
    ("float16", lambda: tf.random_uniform([5], dtype="float16", seed=7), 0, [0.4443359375, 0.8154296875, 0.1376953125, 0.888671875]),
    ("normal float32", lambda: tf.random_normal([7], seed=8), 1,
     [-0.9556735754013062, 1.355129599571228, 0.23186883330345154, -0.12190917879343033, 0.40825051069259644]),
    ("normal float64", lambda: tf.random_normal([7], dtype="float64", seed=8), 0, [-1.405968812148295, -0.8827987827173702]),
    ("normal float16", lambda: tf.random_normal([7], dtype="float16", seed=8), 0, [-0.497314453125, 0.495849609375, 0.5322265625]),
    ("truncated float32", lambda: tf.truncated_normal([9], seed=9), 1,
     [1.2612872123718262, 0.28553280234336853, 0.6506190896034241, 0.12085291743278503, 1.2471843957901, 1.6247432231903076]),
    ("truncated float64", lambda: tf.truncated_normal([9], dtype="float64", seed=9), 0,
     [0.686410295800296, -0.6509792409832237, 0.4852515607951881, 0.5977299088833595, -1.5088746701586147]),
    ("int32", lambda: tf.random_uniform([6], -3, 50, dtype="int32", seed=3), 1, [45, 33, 47, 0, 15, 37]),
    ("int64", lambda: tf.random_uniform([6], -3, 1 << 40, dtype="int64", seed=3), 0, [377193725093, 1066028001579, 431506092771]),
    ("shuffle", lambda: tf.random_shuffle(tf.range(11), seed=5), 1, [6, 2, 9, 1, 3, 0, 10, 8, 4]),
    ("multinomial", lambda: tf.multinomial(tf.log([[.1, .2, .7], [.3, .3, .4]]), 6, seed=4), 1, [0, 1, 2, 2, 2, 1, 0, 1, 2]),
    ("stateless uniform", lambda: tf.random.stateless_uniform([5], seed=[3, 4]), 0, [0.24328744411468506, 0.9835063219070435]),
    ("stateless normal", lambda: tf.random.stateless_normal([5], seed=[3, 4]), 0, [-0.17393383383750916, 1.6723546981811523]),
    ("stateless truncated", lambda: tf.random.stateless_truncated_normal([5], seed=[3, 4]), 0,
     [-0.17393383383750916, 1.6723546981811523, 0.3481701612472534, -1.7038906812667847, 0.6385190486907959]),
]


@pytest.mark.parametrize("name, make, number, expected", TENSORFLOW, ids=lambda v: v if isinstance(v, str) else "")
def test_the_numbers_are_tensorflows(mode, name, make, number, expected):
    found = np.ravel(run(make(), 2)[number])[:len(expected)]
    np.testing.assert_allclose(found.astype(np.float64), expected, rtol=2e-3 if "16" in name else 2e-6, atol=1e-6)


def test_a_graph_seed_counts_operations_as_tf1_makes_them():
    """XOR with seed 777: the op seeds are the ids that TF1's graph has reached, written down from the operations it makes."""
    with tf.Graph().as_default() as g:
        tf.set_random_seed(777)
        x, y = tf.placeholder(tf.float32, [None, 2]), tf.placeholder(tf.float32, [None, 1])
        seeds = []

        def weight(*shape):
            z = tf.random_normal(shape)
            seeds.append(next(op for op in reversed(g.get_operations()) if op.type == "RandomStandardNormal").get_attr("seed2"))
            return tf.Variable(z)

        first = tf.sigmoid(tf.matmul(x, weight(2, 2)) + weight(2))  # 2 + 3 constants; each weight makes 9
        hidden = tf.layers.dense(first, 3)                           # 3 constants, random, mul or sub: 7, 3, bias 4, MatMul, BiasAdd
        mean = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits_v2(logits=hidden, labels=hidden))
        weight(4)
        assert mean.shape.ndims == 0 and y is not None
        assert seeds == [5, 15, 75]
        assert g.last_id == 81


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
    (ops.uniform, types.float32), (ops.uniform, types.float64), (ops.standard_normal, types.float32), (ops.standard_normal, types.float64)],
    ids=lambda v: getattr(v, "__name__", str(v)))
@pytest.mark.parametrize("start", [0, 7, 2**33 + 5])
def test_the_kernel_expression_and_numpy_give_the_same_bits(element, dtype, start):
    axis, key, block = ir.Axis(1000), ir.Buffer(types.uint32, (4,), "in"), ir.Buffer(types.int64, (), "in")
    offset = 2**34 - 500  # the number of the block crosses 32 bits
    stream = ops.Stream(ir.m, [ir.load(key, [ir.index_const(i)]) for i in range(4)], ir.load(block, []), ir.axis(axis) + offset)
    words, index = np.array([123, 0xFEDCBA98, 5, 6], np.uint32), np.arange(1000, dtype=np.int64)
    got = value_of(element(ir.m, stream, dtype), {axis: index, key: words, block: np.array(start, np.int64)})
    with np.errstate(all="ignore"):
        same = ops.Stream(ops.NumpyMath, [w.reshape(1) for w in words], np.array([start]), index + offset)
        expected = element(ops.NumpyMath, same, dtype)
    assert got.dtype == expected.dtype == dtype.np
    np.testing.assert_array_equal(got, expected)


def test_words_differ_over_keys_and_blocks():
    seen = set()
    for key in ((1, 2, 3, 4), (2, 2, 3, 4), (1, 3, 3, 4), (1, 2, 4, 4), (1, 2, 3, 5)):
        for offset in (0, 2**34):
            seen.update(zip(*[w.tolist() for w in ops.philox_blocks(np.array(key, np.uint32), np.arange(50) + offset)]))
    assert len(seen) == 5 * 2 * 50


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


def test_an_op_inserted_before_changes_the_stream_unless_the_op_has_a_seed(reference):
    """As in TF1, whose seed for an op without one is the number of operations before it."""
    def draw(extra, seed):
        with tf.Graph().as_default():
            tf.set_random_seed(5)
            if extra:
                tf.random_normal([3], name="another")
            return run(tf.random_uniform([4], name="u", seed=seed))

    np.testing.assert_array_equal(draw(False, 1), draw(True, 1))
    assert not np.array_equal(draw(False, None), draw(True, None))


def test_get_seed(reference):
    assert tf.get_seed(None) == (None, None)
    assert tf.get_seed(3) == (87654321, 3)
    tf.set_random_seed(9)
    assert tf.get_seed(3) == (9, 3)
    assert tf.get_seed(None) == (9, 0) and tf.get_seed(0) == (9, 0)
    tf.constant(1.0)
    assert tf.get_seed(None) == (9, 1) and tf.get_seed(2**31) == (9, 1)
    tf.set_random_seed(0)
    assert tf.get_seed(0) == (0, 2**31 - 1)  # two zeros would ask the kernels for a seed


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


@pytest.mark.parametrize("dtype, size, apart", [(tf.float32, 4, 256), (tf.float64, 2, 128)], ids=["float32", "float64"])
def test_truncated_numbers_are_the_first_inside_the_limits(mode, dtype, size, apart):
    """The loop as TensorFlow has it: each group of results draws from its own stream until it is full."""
    key, n = np.array([1, 2, 3, 4], np.uint32), 6001
    drawn, taken = np.empty((-(-n // size), size)), np.zeros(-(-n // size), int)
    for block in range(20):
        numbers = ops.philox_blocks(key, np.arange(len(taken)) * apart + block)
        for z in ops._normals(ops.NumpyMath, numbers, dtype is tf.float64):
            fits = (np.abs(z) < 2) & (taken < size)
            drawn[fits, taken[fits]] = z[fits]
            taken += fits
    assert (taken == size).all()
    np.testing.assert_allclose(run(ops.truncated_normal_op([n], key, dtype=dtype)), drawn.reshape(-1)[:n], rtol=1e-5, atol=1e-6)


def test_truncated_numbers_that_run_out_are_zero():
    """All but two of the numbers are outside: sqrt(-2 log 1e-7) cos(pi / 4) is 4."""
    class Words:
        @staticmethod
        def own(shared, count):
            far, near = (0, 2**20, 0, 2**20), (2**22, 0, 0, 2**20)
            return [[np.full(4, w, np.uint32) for w in (near if k == 1 else far)] for k in range(count)], np.arange(4, dtype=np.int32)
    np.testing.assert_allclose(ops.truncated_normal(ops.NumpyMath, Words, types.float32), [0, np.sqrt(2 * np.log(2)), 0, 0], rtol=1e-6)


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


def test_host_draws_in_loops(mode):
    """Run counters in loops are large numbers: what is computed from them wraps."""
    def body(i, seen):
        drawn = tf.reduce_sum(tf.truncated_normal([5], seed=1)) + tf.random_normal([], seed=4)
        chosen = tf.multinomial([[0.0, 1.0]], 3, seed=2)[0, 0] + tf.cast(tf.random_shuffle(tf.range(5), seed=3)[0], tf.int64)
        return i + 1, seen.write(i, drawn + tf.cast(chosen, tf.float32))

    rows = tf.while_loop(lambda i, _: i < 6, body, [0, tf.TensorArray(tf.float32, 6)])[1].stack()
    with tf.Session() as sess:
        first, second = sess.run(rows), sess.run(rows)
    assert len(set(first) | set(second)) == 12
