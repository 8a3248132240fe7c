"""Row, column and elementwise kernels against NumPy in float64: bands, strips, squares, streams, moments in one pass."""
import ctypes

import numpy as np
import pytest

import graphflow as tf
from graphflow.codegen import emit_cpu, ir, schedule
from graphflow.codegen import compile as native

RNG = np.random.default_rng(3)


@pytest.fixture(autouse=True)
def fresh_graph():
    with tf.Graph().as_default():
        yield


def run(fetches, feeds, threads=1):
    with tf.Session(config=tf.ConfigProto(intra_op_parallelism_threads=threads)) as sess:
        return sess.run(fetches, feeds)


def normal(*shape, mean=0.0, dtype=np.float32):
    return (RNG.normal(size=shape) + mean).astype(dtype)


# ---------------------------------------------------------------- columns


@pytest.mark.parametrize("rows, columns", [(1, 16), (3, 17), (4096, 16), (5001, 33), (777, 64), (70_001, 3), (2500, 200), (600, 513),
                                           (300, 1100), (0, 16)])
def test_column_folds(rows, columns):
    """Every width of strip, with rests in both directions, several folds in one pass."""
    a = normal(rows, columns)
    x = tf.placeholder(tf.float32, a.shape)
    total, squares, largest, shifted = run([tf.reduce_sum(x, 0), tf.reduce_sum(x * x, 0), tf.reduce_max(x, 0),
                                            tf.reduce_sum(x * 2 - 1, 0)], {x: a})
    wide = a.astype(np.float64)
    np.testing.assert_allclose(total, wide.sum(0), rtol=1e-5, atol=1e-2)
    np.testing.assert_allclose(squares, (wide * wide).sum(0), rtol=1e-5)
    np.testing.assert_allclose(shifted, (wide * 2 - 1).sum(0), rtol=1e-5, atol=1e-2)
    np.testing.assert_array_equal(largest, a.max(0, initial=-np.inf))


@pytest.mark.parametrize("dtype", [np.int32, np.int64, np.float64, np.float16, np.bool_])
def test_column_folds_of_other_dtypes(dtype):
    a = RNG.integers(0, 2, (9000, 24)).astype(dtype)
    x = tf.placeholder(tf.as_dtype(dtype), a.shape)
    if dtype is np.bool_:
        found, wanted = run([tf.reduce_all(x, 0), tf.reduce_any(x, 0)], {x: a}), [a.all(0), a.any(0)]
    else:
        found, wanted = run([tf.reduce_sum(x, 0), tf.reduce_min(x, 0)], {x: a}), [a.sum(0, dtype=np.float64), a.min(0)]
    for f, w in zip(found, wanted):
        np.testing.assert_allclose(f, w, rtol=1e-3 if dtype is np.float16 else 0)


def test_columns_of_an_unknown_number_of_rows():
    """Bands are chosen at the first size; the kernels serve every other."""
    x = tf.placeholder(tf.float32, [None, 48])
    y = [tf.reduce_sum(x, 0), *tf.nn.moments(x, [0])]
    with tf.Session() as sess:
        for n in (20_000, 1, 7, 300, 50_001, 0):
            a = normal(n, 48)
            found = sess.run(y, {x: a})
            with np.errstate(invalid="ignore"):
                total = a.sum(0, dtype=np.float64)
                wanted = [total, total / np.float64(n), a.astype(np.float64).var(0)] if n else []
            if n:
                for f, w in zip(found, wanted):
                    np.testing.assert_allclose(f, w, rtol=1e-4, atol=1e-3)
            else:
                assert not found[0].any() and np.isnan(found[1]).all() and np.isnan(found[2]).all()


def test_dependent_column_folds_in_one_program():
    """Sums that need other sums: kernels are cut between them."""
    a = normal(6000, 32, mean=3)
    x = tf.placeholder(tf.float32, a.shape)
    mean = tf.reduce_sum(x, 0) / 6000
    spread = tf.reduce_sum(tf.abs(x - mean), 0) / 6000
    far = tf.reduce_sum(tf.cast(tf.abs(x - mean) > spread, tf.float32), 0)
    found = run([mean, spread, far], {x: a})
    d = np.abs(a - found[0])
    np.testing.assert_allclose(found[0], a.mean(0, dtype=np.float64), rtol=1e-5)
    np.testing.assert_allclose(found[1], d.mean(0, dtype=np.float64), rtol=1e-5)
    np.testing.assert_array_equal(found[2], (d > found[1]).sum(0))


@pytest.mark.parametrize("make", [lambda x: tf.reduce_sum(x * x, 0), lambda x: tf.reduce_sum(tf.exp(x)), lambda x: tf.nn.moments(x, [0])[1],
                                  lambda x: tf.nn.softmax(x), lambda x: tf.transpose(x) + 1.0])
def test_bits_do_not_depend_on_threads(make):
    a = normal(7001, 96)
    x = tf.placeholder(tf.float32, a.shape)
    y = make(x)
    one, two, four = (run(y, {x: a}, n) for n in (1, 2, 4))
    np.testing.assert_array_equal(one, two)
    np.testing.assert_array_equal(one, four)


# ---------------------------------------------------------------- moments


@pytest.mark.parametrize("axes", [[0], [0, 1], [1], [0, 2]])
@pytest.mark.parametrize("mean", [0.0, 1e4, 1e5])
def test_moments_of_data_far_from_zero(axes, mean):
    """No digits are lost to the mean; at 1e5 the variance errs by sqrt(n) 1e-16 (m / s)^2, or as much as float32's steps of 1/128 allow."""
    a = normal(300, 40, 50, mean=mean)
    x = tf.placeholder(tf.float32, a.shape)
    m, v = run(tf.nn.moments(x, axes), {x: a})
    wide = a.astype(np.float64)
    np.testing.assert_allclose(m, wide.mean(tuple(axes)), rtol=3e-7, atol=1e-6)
    np.testing.assert_allclose(v, wide.var(tuple(axes)), rtol=2e-5 if mean < 1e5 else 5e-4)


def test_moments_are_one_pass_and_never_negative():
    x = tf.placeholder(tf.float32, (5000, 16))
    m, v = run(tf.nn.moments(x, [0]), {x: np.full((5000, 16), 12345.678, np.float32)})
    assert (v >= 0).all() and (v < 1e-3).all()
    np.testing.assert_allclose(m, 12345.678, rtol=1e-6)


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_moments_of_columns_with_nan_and_inf(bad):
    a = normal(5000, 16)
    a[17, 3] = bad
    x = tf.placeholder(tf.float32, a.shape)
    m, v = run(tf.nn.moments(x, [0]), {x: a})
    np.testing.assert_array_equal(m[3], bad)
    assert np.isnan(v[3]) and np.isfinite(np.delete(v, 3)).all()


@pytest.mark.parametrize("shape", [(8, 32, 32, 16), (4, 9, 7, 33), (2, 3, 5, 3)])
def test_batch_norm_step(shape):
    """Forward and backward with relu, against the formulas in float64."""
    a, g = normal(*shape, mean=2), normal(*shape)
    c = shape[-1]
    scale, offset = normal(c, mean=1), normal(c)
    x, dy, s, o = (tf.placeholder(tf.float32, v.shape) for v in (a, g, scale, offset))
    y, m, v = tf.nn.fused_batch_norm(x, s, o, is_training=True)
    out = tf.nn.relu(y)
    found = run([out, m, v, *tf.gradients(out, [x, s, o], dy)], {x: a, dy: g, s: scale, o: offset})
    a, g, scale, offset = (t.astype(np.float64) for t in (a, g, scale, offset))
    n = a.size // c
    mean, var = a.mean((0, 1, 2)), a.var((0, 1, 2))
    h = (a - mean) / np.sqrt(var + 1e-3)
    z = h * scale + offset
    d = np.where(z > 0, g, 0)
    ds, do = (d * h).sum((0, 1, 2)), d.sum((0, 1, 2))
    dx = scale / np.sqrt(var + 1e-3) * (d - do / n - h * ds / n)
    for f, w in zip(found, [np.maximum(z, 0), mean, var * n / (n - 1), dx, ds, do]):
        np.testing.assert_allclose(f, w, rtol=2e-4, atol=2e-4 * max(1.0, np.abs(w).max()))


# ---------------------------------------------------------------- rows


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("make", [tf.nn.softmax, tf.nn.log_softmax])
def test_softmax_of_rows_with_nan_and_inf(make, bad):
    """Rows with a nan, or with an infinite maximum, are nan as in NumPy; rows with -inf are not."""
    a = normal(64, 300)
    a[3, 7], a[9, 0], a[11, 299] = bad, bad, bad
    a[20] = bad
    x = tf.placeholder(tf.float32, a.shape)
    found = run(make(x), {x: a})
    with np.errstate(all="ignore"):
        wide = a.astype(np.float64)
        shifted = wide - wide.max(1, keepdims=True)
        wanted = shifted - np.log(np.exp(shifted).sum(1, keepdims=True))
        wanted = np.exp(wanted) if make is tf.nn.softmax else wanted
    np.testing.assert_allclose(found, wanted, rtol=2e-5, atol=1e-6)


def test_a_maximum_that_is_fetched_carries_nan():
    """Only a maximum that nothing but the sum's users see may lose a nan."""
    a = normal(50, 300)
    a[5, 100] = np.nan
    x = tf.placeholder(tf.float32, a.shape)
    top = tf.reduce_max(x, 1, keepdims=True)
    e = tf.exp(x - top)
    found = run([top, x - top, e / tf.reduce_sum(e, 1, keepdims=True)], {x: a})
    assert all(np.isnan(f[5]).all() and np.isfinite(np.delete(f, 5, 0)).all() for f in found)


def test_softmax_underflows_gradually():
    a = np.array([[0.0, -50.0, -90.0, -100.0, -104.0, -1e30, -np.inf]], np.float32)
    x = tf.placeholder(tf.float32, a.shape)
    np.testing.assert_allclose(run(tf.nn.softmax(x), {x: a})[0], np.exp(a[0].astype(np.float64)), rtol=1e-6, atol=1.5e-45)


# ---------------------------------------------------------------- transposes


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int8, np.float16, np.complex64])
@pytest.mark.parametrize("shape, order", [((65, 130), (1, 0)), ((16, 16), (1, 0)), ((40, 3, 50), (2, 1, 0)), ((5, 70, 33), (0, 2, 1)),
                                          ((2, 128, 4, 64), (0, 2, 1, 3)), ((3, 17, 18, 19), (3, 1, 2, 0)), ((2000, 7), (1, 0))])
def test_transposes(shape, order, dtype):
    a = (normal(*shape) * 50).astype(dtype)
    x, y = (tf.placeholder(tf.as_dtype(dtype), s) for s in (shape, [shape[k] for k in order]))
    b = (normal(*shape) * 50).astype(dtype).transpose(order).copy()
    moved, added = run([tf.transpose(x, order), tf.transpose(x, order) + y] if dtype is not np.int8 else
                       [tf.transpose(x, order), tf.identity(y)], {x: a, y: b})
    np.testing.assert_array_equal(moved, a.transpose(order))
    np.testing.assert_array_equal(added, a.transpose(order) + b if dtype is not np.int8 else b)


# ---------------------------------------------------------------- streams


def test_streamed_results(monkeypatch):
    """What goes past the caches is the same, for every length and for results that are read again."""
    monkeypatch.setattr(emit_cpu, "STREAM", 1)
    for n in (1, 15, 1023, 1024, 5000, 123_457):
        with tf.Graph().as_default():
            a = normal(n)
            x = tf.placeholder(tf.float32, a.shape)
            y = x * 3.0 + 1.0
            half = tf.cast(y, tf.float16)
            for threads in (1, 2):
                found = run([y, half, tf.reduce_sum(y)], {x: a}, threads)
                np.testing.assert_allclose(found[0], a * np.float32(3) + 1, rtol=1e-6, atol=1e-6)
                np.testing.assert_array_equal(found[1], found[0].astype(np.float16))
                np.testing.assert_allclose(found[2], found[0].sum(dtype=np.float64), rtol=1e-4, atol=1e-2)


STREAM = """# stream test
def kernel(B, S, lo, hi):
    stream(buf(B, 0), buf(B, 1), hi)
    fence()
    return 0
"""


def test_stream_copies_any_bytes_to_any_address():
    f = ctypes.CFUNCTYPE(ctypes.c_int64, *[ctypes.c_void_p] * 2, *[ctypes.c_int64] * 2)(native.compile_kernels([STREAM])[0])
    source = RNG.integers(0, 255, 1000).astype(np.uint8)
    for at in (0, 1, 31, 63):
        for off in (0, 3):
            for n in (0, 1, 5, 63, 64, 65, 127, 128, 500):
                target = np.zeros(1000, np.uint8)
                base = -target.ctypes.data % 64 + at
                table = np.array([target.ctypes.data + base, source.ctypes.data + off], np.int64)
                f(table.ctypes.data, table.ctypes.data, 0, n)
                wanted = np.zeros(1000, np.uint8)
                wanted[base:base + n] = source[off:off + n]
                np.testing.assert_array_equal(target, wanted)


# ---------------------------------------------------------------- schedules


def _columns(n, c, depends=False):
    """sum over rows of x, and of |x - that sum| if `depends`, in linear form."""
    lane, r, q = ir.Axis(c), ir.Axis(n), ir.Axis(n)
    x, total, other = ir.Buffer(tf.float32, (n, c), "in"), ir.Buffer(tf.float32, (c,), "tmp"), ir.Buffer(tf.float32, (c,), "out")

    def at(b, *index):
        return ir.make("at", index, tf.float32, b)
    place = ir.axis(r) * c + ir.axis(lane)
    first = ir.Stage(total, (lane, r), (ir.axis(lane),), at(x, place), "add", (r,))
    value = ir.call("abs", at(x, ir.axis(q) * c + ir.axis(lane)) - at(total, ir.axis(lane)))
    second = ir.Stage(other, (lane, q), (ir.axis(lane),), value, "add", (q,))
    return ir.Kernel("k", (x, total, other), (first, second) if depends else (first,), (lane,))


def test_long_columns_are_cut_into_bands():
    parts = schedule.split(_columns(100_000, 16))
    assert [len(k.outer) for k in parts] == [2, 1]
    assert len(schedule.split(_columns(100, 16))) == 1


def test_a_fold_that_needs_another_waits_for_its_bands():
    parts = schedule.split(_columns(100_000, 16, depends=True))
    assert [len(k.outer) for k in parts] == [2, 1, 2, 1]
    between = {s.target for s in parts[1].stages} & {e.data for s in parts[2].stages for e in ir.walk(s.expr) if e.op == "at"}
    assert between and all(b.role != "tmp" for b in between)


@pytest.mark.parametrize("columns", [144, 256, 300, 511])
def test_columns_on_two_threads(columns):
    """Pieces of few columns are whole strips: a strip that began before the first column would write outside of the result."""
    x = tf.placeholder(tf.float32, [None, columns])
    value = np.random.default_rng(columns).standard_normal((30000, columns)).astype(np.float32)
    with tf.Session(config=tf.ConfigProto(intra_op_parallelism_threads=2)) as sess:
        np.testing.assert_allclose(sess.run(tf.reduce_sum(x, 0), {x: value}), value.sum(0, dtype=np.float64), atol=2e-2)
