"""What feeds may be made of: empty, overlapping, strided and swapped arrays, NaN and infinity, more than 2**31 elements."""
from __future__ import annotations

import itertools
import os

import numpy as np
import pytest
from on_gpu import EMULATED

import graphflow as tf

nan, inf = np.nan, np.inf


def thrice(make, *arrays, shapes=None):
    """Results of three runs, the first of which makes the plan: all equal; feeds unchanged."""
    with tf.Graph().as_default(), tf.Session() as sess:
        feeds = [tf.placeholder(a.dtype.newbyteorder("="), s) for a, s in zip(arrays, shapes or [a.shape for a in arrays])]
        made, copies = make(*feeds), [a.copy() for a in arrays]
        results = [sess.run(made, dict(zip(feeds, arrays))) for _ in range(3)]
    for r in results[1:]:
        for a, b in zip(*(r, results[0]) if isinstance(r, list) else ([r], [results[0]])):
            np.testing.assert_array_equal(a, b)
    for a, c in zip(arrays, copies):
        np.testing.assert_array_equal(a, c)
    return results[0]


# ---- sizes 0 and 1

SIZES = [(m, k, n) for m, k, n in itertools.product((0, 1, 33), repeat=3)]


@pytest.mark.parametrize("known", [True, False])
def test_matmul_of_empty_and_single(known):
    for (m, k, n), (ta, tb) in itertools.product(SIZES, itertools.product((False, True), repeat=2)):
        a = np.random.RandomState(m + k).rand(*((k, m) if ta else (m, k))).astype(np.float32)
        b = np.random.RandomState(k + n).rand(*((n, k) if tb else (k, n))).astype(np.float32)
        if known and (ta or tb) and m + n > 34:
            continue
        got = thrice(lambda x, y: tf.nn.relu(tf.matmul(x, y, transpose_a=ta, transpose_b=tb) + 1), a, b,
                     shapes=None if known else [[None, None]] * 2)
        want = (a.T if ta else a) @ (b.T if tb else b) + 1
        assert got.shape == want.shape == (m, n)
        np.testing.assert_allclose(got, want, rtol=1e-5)


def test_one_plan_serves_empty_and_full():
    x, w = tf.placeholder(tf.float32, [None, None]), tf.placeholder(tf.float32, [None, 40])
    y = [tf.matmul(x, w), tf.reduce_sum(x, 0), tf.reduce_max(x, 1), tf.reduce_mean(x), tf.nn.softmax(x)]
    with tf.Session() as sess:
        for m, k in [(64, 50), (0, 50), (64, 0), (1, 1), (0, 0), (64, 50), (3, 1)]:
            a, b = np.random.rand(m, k).astype(np.float32), np.random.rand(k, 40).astype(np.float32)
            product, columns, top, mean, soft = sess.run(y, {x: a, w: b})
            np.testing.assert_allclose(product, a @ b, rtol=1e-5)
            np.testing.assert_allclose(columns, a.sum(0), rtol=1e-5)
            np.testing.assert_array_equal(top, a.max(1, initial=-inf))
            assert np.isnan(mean) if a.size == 0 else abs(mean - a.mean()) < 1e-5
            assert soft.shape == a.shape and (k == 0 or np.allclose(soft.sum(1), 1))


REDUCED = {"sum": (tf.reduce_sum, np.sum, 0), "prod": (tf.reduce_prod, np.prod, 1), "max": (tf.reduce_max, np.max, -inf),
           "min": (tf.reduce_min, np.min, inf)}


@pytest.mark.parametrize("name", REDUCED)
@pytest.mark.parametrize("shape", [(0,), (1,), (0, 5), (5, 0), (1, 1, 1), (0, 0)])
def test_reductions_of_empty_and_single(name, shape):
    mine, numpy, start = REDUCED[name]
    a = np.random.rand(*shape).astype(np.float32)
    for axis in (None, *range(a.ndim)):
        kwargs = {} if a.size else {"initial": start}
        np.testing.assert_allclose(thrice(lambda x: mine(x, axis), a), numpy(a, axis=axis, **kwargs), rtol=1e-6)


@pytest.mark.parametrize("images,channels,filters", [(0, 3, 5), (2, 3, 0), (1, 1, 1), (2, 0, 5)])
def test_convolutions_of_empty_and_single(images, channels, filters):
    x, w = np.ones((images, 6, 6, channels), np.float32), np.ones((3, 3, channels, filters), np.float32)
    got = thrice(lambda a, b: tf.nn.conv2d(a, b, [1, 1, 1, 1], "VALID"), x, w, shapes=[[None, 6, 6, channels], w.shape])
    np.testing.assert_array_equal(got, np.full((images, 4, 4, filters), 9.0 * channels))
    pooled = thrice(lambda a: tf.nn.max_pool(a, [1, 2, 2, 1], [1, 2, 2, 1], "SAME"), x, shapes=[[None, 6, 6, channels]])
    np.testing.assert_array_equal(pooled, np.ones((images, 3, 3, channels)))


def test_movement_of_empty():
    a = np.zeros((0, 4), np.float32)
    got = thrice(lambda x: [tf.transpose(x), tf.concat([x, x], 0), tf.reshape(x, [4, -1]), tf.tile(x, [3, 2]), tf.pad(x, [[0, 2], [1, 0]]),
                            tf.gather(x, tf.zeros([0], tf.int32)), tf.cumsum(x), x[:, 1:3], tf.reverse(x, [0])], a, shapes=[[None, 4]])
    assert [g.shape for g in got] == [(4, 0), (0, 4), (4, 0), (0, 8), (2, 5), (0, 4), (0, 4), (0, 2), (0, 4)]
    with tf.Session() as sess, pytest.raises((tf.errors.InvalidArgumentError, ValueError)):
        sess.run(tf.gather(tf.placeholder_with_default(a, [None, 4]), [0]))


# ---- how arrays lie in memory

BASE = np.random.RandomState(0).randn(40, 60).astype(np.float32)


def unaligned(a, by=1):
    raw = np.zeros(a.nbytes + 64, np.uint8)
    out = raw[by:by + a.nbytes].view(a.dtype).reshape(a.shape)
    out[...] = a
    return out


LAYOUTS = {
    "plain": lambda a: a.copy(), "negative": lambda a: a[::-1, ::-1].copy()[::-1, ::-1], "fortran": np.asfortranarray,
    "strided": lambda a: np.repeat(np.repeat(a, 2, 0), 3, 1)[::2, ::3], "window": lambda a: np.pad(a, 5)[5:-5, 5:-5],
    "unaligned": unaligned, "swapped": lambda a: a.astype(a.dtype.newbyteorder()), "transposed": lambda a: a.T.copy().T,
    "unaligned by 2": lambda a: unaligned(a, 2), "swapped and strided": lambda a: np.repeat(a, 2, 1).astype(a.dtype.newbyteorder())[:, ::2],
    "broadcast": lambda a: np.broadcast_to(a[:1], a.shape), "masked": lambda a: np.lib.stride_tricks.as_strided(a, a.shape, a.strides),
}


@pytest.mark.parametrize("layout", LAYOUTS)
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32", "uint8", "complex64", "bool", "float16"])
@pytest.mark.parametrize("rows", [3, 40])
def test_layouts_of_feeds(layout, dtype, rows):
    """Large feeds are bound by address, small ones are copied: both must look at strides, alignment and byte order."""
    a = LAYOUTS[layout]((BASE[:rows] * 50).astype(dtype) if dtype != "uint8" else np.abs(BASE[:rows] * 50).astype(dtype))
    a.flags.writeable = False
    plain = np.array(a, dtype, order="C")
    if dtype == "bool":
        got = thrice(lambda x: [tf.logical_not(x), tf.transpose(x), tf.reduce_any(x, 0)], a)
        want = [~plain, plain.T, plain.any(0)]
    else:
        got = thrice(lambda x: [x + x, tf.transpose(x), tf.reshape(x, [-1])[7:]], a)
        want = [plain + plain, plain.T, plain.reshape(-1)[7:]]
    for g, w in zip(got, want):
        np.testing.assert_array_equal(g, w)


@pytest.mark.parametrize("layout", LAYOUTS)
def test_layouts_of_matrices(layout):
    a, b = LAYOUTS[layout](BASE), LAYOUTS[layout](np.ascontiguousarray(BASE.T))
    want = np.array(a, "f4") @ np.array(b, "f4")
    np.testing.assert_allclose(thrice(tf.matmul, a, b), want, rtol=1e-4, atol=1e-4)
    with tf.Session() as sess:
        v = tf.Variable(tf.zeros([40, 60]))
        sess.run(v.initializer)
        v.load(a, sess)
        np.testing.assert_array_equal(sess.run(v), a)


@pytest.mark.parametrize("size", [5, 50_000])
def test_overlapping_feeds(size):
    both = np.arange(size + 1, dtype=np.float32)
    x, y = tf.placeholder(tf.float32, [None]), tf.placeholder(tf.float32, [None])
    v = tf.Variable(np.zeros(size, np.float32))
    step = tf.assign(v, v + x * 2 - y)
    with tf.Session() as sess:
        sess.run(v.initializer)
        for _ in range(3):
            np.testing.assert_array_equal(sess.run(x * 10 + y, {x: both[:-1], y: both[1:]}), both[:-1] * 10 + both[1:])
            np.testing.assert_array_equal(sess.run([x + 1, y, x], {x: both[:-1], y: both[:-1]})[0], both[:-1] + 1)
            before = sess.run(v)
            sess.run(step, {x: both[1:], y: both[:-1]})
            np.testing.assert_array_equal(sess.run(v), before + both[1:] * 2 - both[:-1])
        np.testing.assert_array_equal(both, np.arange(size + 1))


@pytest.mark.parametrize("size", [3, 50_000])
def test_a_result_is_fed_again(size):
    """Also the value of a variable, and while the memory of results that were dropped is used anew."""
    x = tf.placeholder(tf.float32, [None])
    v = tf.Variable(np.ones(size, np.float32))
    y, grow = x * 2 + 1, tf.assign(v, x + v)
    with tf.Session() as sess:
        sess.run(v.initializer)
        r, want = np.zeros(size, np.float32), np.zeros(size)
        for k in range(8):
            kept = sess.run(y, {x: r})
            want = want * 2 + 1
            np.testing.assert_array_equal(kept, want)
            r = kept if k % 2 else kept[:]
            del kept
        value = sess.run(v)
        sess.run(grow, {x: value})
        assert (value == 1).all() and (sess.run(v) == 2).all()
        again = sess.run(grow, {x: sess.run(v)})
        assert (again == 4).all() and (sess.run(v) == 4).all() and (value == 1).all()
        fed, both = sess.run([x, y], {x: value})
        both += 1
        assert (fed == 1).all() and (value == 1).all()


# ---- NaN and infinity

SPECIAL = np.array([nan, inf, -inf, 0.0, -0.0, 1.0, -1.0], np.float32)


@pytest.mark.parametrize("size", [7, 40, 5000])
def test_special_values_in_reductions(size):
    rows = np.random.RandomState(0).randn(16, size).astype(np.float32)
    for k, special in enumerate((nan, inf, -inf)):
        rows[k, size - 1 - k], rows[k + 4, 0], rows[k + 8, size // 2] = special, special, special
    rows[12, 1:3] = inf, -inf
    rows[13, 1:4] = inf, nan, -inf
    for mine, numpy in ((tf.reduce_sum, np.sum), (tf.reduce_max, np.max), (tf.reduce_min, np.min), (tf.reduce_mean, np.mean),
                        (lambda x, a: tf.reduce_any(tf.is_nan(x), a), lambda x, axis: np.isnan(x).any(axis))):
        for axis, a in ((1, rows), (0, np.ascontiguousarray(rows.T))):
            with np.errstate(all="ignore"):
                want = numpy(a, axis=axis)
            got = thrice(lambda x: mine(x, axis), a)
            np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
            np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-3)
    for x, axis in ((rows, 1), (np.ascontiguousarray(rows.T), 0)):
        tame = np.where(np.isfinite(x), 1 + x / 1e4, x).astype(np.float32)  # whatever the order, no product of some is 0 or infinite
        with np.errstate(all="ignore"):
            np.testing.assert_allclose(thrice(lambda x: tf.reduce_prod(x, axis), tame), tame.prod(axis), rtol=1e-3)
    one = rows[12]
    with np.errstate(all="ignore"):
        for mine, numpy in ((tf.reduce_sum, np.sum), (tf.reduce_max, np.max)):
            np.testing.assert_array_equal(thrice(lambda x: mine(x), one), numpy(one))


def test_special_values_element_by_element():
    x, y = (g.ravel() for g in np.meshgrid(SPECIAL, SPECIAL))
    with np.errstate(all="ignore"):
        pairs = [(tf.maximum, np.maximum(x, y)), (tf.minimum, np.minimum(x, y)), (tf.add, x + y), (tf.multiply, x * y), (tf.div, x / y),
                 (lambda a, b: tf.nn.relu(a) + 0 * b, np.where(np.isnan(x), x, np.maximum(x, 0)) + 0 * y),
                 (lambda a, b: tf.nn.relu6(a) + 0 * b, np.where(np.isnan(x), x, np.clip(x, 0, 6)) + 0 * y),
                 (lambda a, b: tf.clip_by_value(a, -0.5, 0.5) + 0 * b, np.clip(x, -0.5, 0.5) + 0 * y),
                 (lambda a, b: tf.where(a > b, a, b), np.where(x > y, x, y)), (lambda a, b: tf.cast(tf.equal(a, b), tf.float32), x == y),
                 (lambda a, b: tf.cast(tf.not_equal(a, b), tf.float32), x != y), (lambda a, b: tf.sign(a) + 0 * b, np.sign(x) + 0 * y)]
    for k, (make, want) in enumerate(pairs):
        np.testing.assert_array_equal(thrice(make, x, y), want, err_msg=str(k))


@pytest.mark.parametrize("m,k,n", [(3, 4, 5), (33, 50, 37), (64, 400, 64), (1, 300, 40), (40, 300, 1)])
def test_special_values_in_products(m, k, n):
    """0 * inf and 0 * NaN are NaN also at the edges of tiles; nothing leaks into rows and columns without them."""
    r = np.random.RandomState(0)
    for row, special in ((0, nan), (m - 1, inf), (m // 2, -inf)):
        a, b = r.randn(m, k).astype(np.float32), r.randn(k, n).astype(np.float32)
        a[row, k - 1], a[row, 0] = special, special
        b[k - 1, n - 1] = 0
        b[0, 0] = special
        with np.errstate(all="ignore"):
            want = a.astype(np.float64) @ b.astype(np.float64)
        got = thrice(tf.matmul, a, b)
        np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
        np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("channels,filters", [(3, 5), (16, 32)])
@pytest.mark.parametrize("padding", ["SAME", "VALID"])
def test_special_values_in_convolutions(channels, filters, padding):
    r = np.random.RandomState(0)
    x, w = r.randn(2, 9, 9, channels).astype(np.float32), r.randn(3, 3, channels, filters).astype(np.float32)
    x[0, 4, 4, 0], x[1, 0, 0, channels - 1], x[1, 8, 5, 1] = nan, inf, -inf
    p = np.pad(x, ((0, 0), (1, 1), (1, 1), (0, 0))) if padding == "SAME" else x
    side = p.shape[1] - 2
    with np.errstate(all="ignore"):
        want = sum(p[:, i:i + side, j:j + side] @ w[i, j] for i in range(3) for j in range(3))
    got = thrice(lambda a, b: tf.nn.conv2d(a, b, [1, 1, 1, 1], padding), x, w)
    np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
    np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-3)
    windows = np.lib.stride_tricks.sliding_window_view(x, (3, 3), (1, 2))
    with np.errstate(all="ignore"):
        np.testing.assert_array_equal(thrice(lambda a: tf.nn.max_pool(a, [1, 3, 3, 1], [1, 1, 1, 1], "VALID"), x), windows.max((-1, -2)))
        np.testing.assert_allclose(thrice(lambda a: tf.nn.avg_pool(a, [1, 3, 3, 1], [1, 1, 1, 1], "VALID"), x), windows.mean((-1, -2)),
                                   rtol=1e-3, atol=1e-4)


def test_special_values_through_softmax_and_gradients():
    rows = np.array([[1, 2, nan], [inf, 1, 2], [-inf, 1, 1], [1e30, -1e30, 0]], np.float32)
    got = thrice(tf.nn.softmax, rows)
    assert np.isnan(got[:2]).all()
    np.testing.assert_allclose(got[2:], [[0, 0.5, 0.5], [1, 0, 0]])
    made = thrice(lambda x: tf.gradients(tf.nn.relu(x), x)[0], SPECIAL)
    np.testing.assert_array_equal(made[1:], [1, 0, 0, 0, 1, 0])


# ---- more than 2**31 elements

HUGE = 2_200_000_000


def room() -> bool:
    """Whether 5 GB are free (untouched zeros take none, unless the system backs them by large pages)."""
    try:
        return os.sysconf("SC_AVPHYS_PAGES") * os.sysconf("SC_PAGE_SIZE") > 5 << 30
    except (ValueError, OSError, AttributeError):
        return False


@pytest.fixture(scope="module")
def huge():
    """Zeros but for the last element."""
    if EMULATED or not room():
        pytest.skip("not enough memory")
    a = np.zeros(HUGE, np.uint8)
    a[-1] = 7
    return a


def test_huge_reductions_and_slices(huge):
    x, i = tf.placeholder(tf.uint8, [None]), tf.placeholder(tf.int64, [None])
    last = [HUGE - 1, HUGE - 2, 0]
    with tf.Session() as sess:
        fetches = [tf.reduce_max(x), tf.argmax(x), tf.size(x, out_type=tf.int64), x[-2:], tf.gather(x, i), x[HUGE - 1:HUGE - 4:-1]]
        top, where, count, end, taken, back = sess.run(fetches, {x: huge, i: last})
        assert (top, where, count) == (7, HUGE - 1, HUGE)
        assert end.tolist() == [0, 7] and taken.tolist() == [7, 0, 0] and back.tolist() == [7, 0, 0]
        with pytest.raises(tf.errors.InvalidArgumentError):
            sess.run(tf.gather(x, i), {x: huge, i: [HUGE]})


def test_huge_rows(huge):
    """int32 indices of rows, whose product with the row's length does not fit int32."""
    x, i = tf.placeholder(tf.uint8, [None, 1000]), tf.placeholder(tf.int32, [None])
    table = huge.reshape(-1, 1000)
    with tf.Session() as sess:
        rows, column = sess.run([tf.gather(x, i), x[-1, 998:]], {x: table, i: [len(table) - 1, 3]})
        assert rows[0].tolist() == [0] * 999 + [7] and not rows[1].any() and column.tolist() == [0, 7]


def test_huge_sizes_do_not_fit_int32(huge):
    x = tf.placeholder(tf.uint8, [None])
    with tf.Session() as sess:
        assert sess.run(tf.shape(x, out_type=tf.int64), {x: huge}).tolist() == [HUGE]
        for made in (tf.shape(x), tf.size(x)):
            with pytest.raises(tf.errors.InvalidArgumentError, match="32"):
                sess.run(made, {x: huge})
