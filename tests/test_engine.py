"""The contraction engine against NumPy in float64: products and convolutions of many forms, each seen to be made by the engine.

The bound of an error is that of a sum of k rounded products, k * eps * sum |a| |b| (Higham, "Accuracy and Stability of Numerical
Algorithms", 2002, section 3.1), so that one product too many or too few is far outside.
"""
from __future__ import annotations

import ctypes
import dataclasses
import itertools

import numpy as np
import pytest

import graphflow as tf
from graphflow.codegen import blocks, contract, ir
from graphflow.codegen.compile import compile_kernels
from graphflow.codegen.cuda import gemm
from graphflow.flags import flags
from graphflow.runtime import plan_cache

pytestmark = pytest.mark.filterwarnings("ignore:gradients. no path", "ignore:feed_dict. Tensor")
EPS = {np.dtype(np.float32): 2.0**-23, np.dtype(np.float64): 2.0**-52}


@pytest.fixture(autouse=True)
def fresh_graph():
    with tf.Graph().as_default():
        yield


@pytest.fixture
def made(monkeypatch):
    """The ops that the engine, or that of a GPU, made kernels for, with these."""
    found: dict = {}
    for engine in (contract, gemm):
        def kernels(name, op, *args, real=engine.kernels, **named):
            found[op] = real(name, op, *args, **named)
            return found[op]
        monkeypatch.setattr(engine, "kernels", kernels)
    monkeypatch.setattr(plan_cache, "key", lambda *program: None)
    return found


def draw(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(dtype)


def holders(*arrays):
    """Placeholders: constants would be multiplied by NumPy while compiling."""
    return [tf.placeholder(a.dtype, a.shape) for a in arrays]


def run(fetches, feed_dict=None):
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        return sess.run(fetches, feed_dict)


def close(found, want, size, terms, extra=0.0):
    """found = want up to the rounding of `terms` products whose absolute values add up to `size`."""
    assert found.shape == want.shape
    eps = EPS[found.dtype]
    error = np.abs(found - want)
    bound = (terms + 2) * eps * size + extra * eps * (1 + np.abs(want))
    worst = np.argmax(np.nan_to_num(error - bound, nan=np.inf)) if error.size else 0
    assert np.all(error <= bound), (np.unravel_index(worst, error.shape), error.flat[worst], bound.flat[worst])


def wide(*arrays):
    return [a.astype(np.float64) for a in arrays]


# ---------------------------------------------------------------- matrix products

EDGES = (1, 2, 13, 14, 15, 16, 31, 32, 33, 47, 48)
DEPTHS = (4, 13, 16, 383, 384, 385, 400, 768, 769)
SIZES = [(m, 40, 50) for m in EDGES] + [(40, n, 50) for n in EDGES[1:]] + [(30, 40, k) for k in DEPTHS] + [
    (1, 300, 100), (1, 33, 385), (14, 32, 384), (15, 33, 385), (97, 31, 400), (2, 385, 33), (300, 2, 33), (64, 1100, 20), (29, 65, 2000),
    (400, 16, 16)]


@pytest.mark.parametrize("ta,tb", list(itertools.product([False, True], repeat=2)))
def test_matrix_products_at_the_edges_of_tiles(made, ta, tb):
    """One program of unknown sizes for all: what it was bound to first must not matter."""
    for dtype in (np.float32, np.float64):
        with tf.Graph().as_default(), tf.Session() as sess:
            x, y = tf.placeholder(dtype, [None, None]), tf.placeholder(dtype, [None, None])
            z = tf.matmul(x, y, transpose_a=ta, transpose_b=tb)
            for m, n, k in [(64, 64, 64), *SIZES, (0, 40, 50), (40, 0, 50), (40, 40, 0)]:
                a, b = draw(m, k, dtype=dtype), draw(k, n, dtype=dtype, seed=1)
                got = sess.run(z, {x: np.ascontiguousarray(a.T) if ta else a, y: np.ascontiguousarray(b.T) if tb else b})
                a, b = wide(a, b)
                close(got, a @ b, np.abs(a) @ np.abs(b), k)
            assert made, "the engine was not chosen"
            made.clear()


@pytest.mark.parametrize("first", [(1, 300, 100), (33, 65, 2000), (600, 600, 70)])
def test_one_program_for_other_sizes_than_its_first(made, first):
    """The cut into tasks and shares of the sum comes from the first sizes."""
    x, y = tf.placeholder(tf.float32, [None, None]), tf.placeholder(tf.float32, [None, None])
    z = tf.nn.relu(tf.matmul(x, y) + 0.25)
    with tf.Session() as sess:
        for m, n, k in [first, (1, 1, 1), (3, 2, 5000), (14, 32, 384), (0, 3, 4), (3, 4, 0), (700, 40, 30), (2, 900, 17), first]:
            a, b = wide(draw(m, k), draw(k, n, seed=1))
            close(sess.run(z, {x: a.astype("f"), y: b.astype("f")}), np.maximum(a @ b + 0.25, 0), np.abs(a) @ np.abs(b), k, 4)
    assert made


@pytest.mark.parametrize("m,n,k", [(m, n, k) for m, n, k in SIZES if m * n * k > contract.SMALL][::3])
def test_products_of_known_sizes(made, m, n, k):
    a, b = draw(m, k), draw(k, n, seed=1)
    x, y = holders(a, b)
    z = tf.matmul(x, y)
    got = run(z, {x: a, y: b})
    a, b = wide(a, b)
    close(got, a @ b, np.abs(a) @ np.abs(b), k)
    assert made or m == 1


BATCHES = [((7,), (7,)), ((3, 1), (1, 4)), ((5,), ()), ((), (5,)), ((2, 3), (3,)), ((1,), (6,)), ((2, 1, 3), (2, 1))]


@pytest.mark.parametrize("sa,sb", BATCHES)
@pytest.mark.parametrize("ta,tb", [(False, False), (True, False), (False, True)])
def test_batches(made, sa, sb, ta, tb):
    m, n, k = 21, 35, 50
    a, b = draw(*sa, m, k), draw(*sb, k, n, seed=1)
    x, y = tf.placeholder(tf.float32, [None] * a.ndim), tf.placeholder(tf.float32, [None] * b.ndim)
    z = tf.matmul(x, y, transpose_a=ta, transpose_b=tb)
    got = run(z, {x: np.swapaxes(a, -1, -2) if ta else a, y: np.swapaxes(b, -1, -2) if tb else b})
    a, b = wide(a, b)
    close(got, a @ b, np.abs(a) @ np.abs(b), k)
    assert made


def test_dynamic_batches(made):
    x, y = tf.placeholder(tf.float32, [None, 24, None]), tf.placeholder(tf.float32, [None, None, 33])
    z = tf.matmul(x, y)
    with tf.Session() as sess:
        for batch, k in ((6, 20), (1, 64), (0, 5), (9, 3), (2, 400)):
            a, b = wide(draw(batch, 24, k), draw(batch, k, 33, seed=1))
            close(sess.run(z, {x: a.astype("f"), y: b.astype("f")}), a @ b, np.abs(a) @ np.abs(b), k)
    assert made


EINSUMS = [("ij,jk->ik", (30, 40), (40, 50)), ("ij,jk->ki", (30, 40), (40, 50)), ("bij,bkj->bik", (3, 20, 30), (3, 40, 30)),
           ("bhqd,bhkd->bhqk", (2, 3, 17, 16), (2, 3, 33, 16)), ("bqhd,bkhd->bhqk", (2, 17, 3, 16), (2, 33, 3, 16)),
           ("abc,cd->abd", (4, 15, 40), (40, 33)), ("abc,adc->bd", (4, 15, 40), (4, 31, 40)), ("ijk,jkl->il", (20, 7, 30), (7, 30, 35)),
           ("ijk,kjl->il", (20, 7, 30), (30, 7, 35)), ("ab,ca->bc", (60, 31), (33, 60)), ("abcd,cdef->abef", (3, 5, 6, 7), (6, 7, 4, 9))]


@pytest.mark.parametrize("text,sa,sb", EINSUMS, ids=[e[0] for e in EINSUMS])
def test_einsum(made, text, sa, sb):
    a, b = draw(*sa), draw(*sb, seed=1)
    x, y = holders(a, b)
    got = run(tf.einsum(text, x, y), {x: a, y: b})
    a, b = wide(a, b)
    close(got, np.einsum(text, a, b), np.einsum(text, abs(a), abs(b)), a.size)
    assert made


@pytest.mark.parametrize("axes,sa,sb", [(1, (20, 30), (30, 40)), (2, (5, 8, 30), (8, 30, 17)), ([[0], [1]], (40, 20), (33, 40)),
                                        ([[0, 2], [1, 0]], (8, 15, 9), (9, 8, 31)), ([[1], [0]], (4, 50, 6), (50, 7, 3))])
def test_tensordot(made, axes, sa, sb):
    a, b = draw(*sa), draw(*sb, seed=1)
    x, y = holders(a, b)
    got = run(tf.tensordot(x, y, axes), {x: a, y: b})
    a, b = wide(a, b)
    close(got, np.tensordot(a, b, axes), np.tensordot(abs(a), abs(b), axes), a.size)
    assert made


def test_operands_that_are_moved_are_read_in_place(made):
    """Transposes, slices, reversals, concatenations, padding and broadcasts become part of the packing."""
    a, b = draw(60, 44), draw(44, 50, seed=1)
    x, y = tf.placeholder(tf.float32, [None, 44]), tf.placeholder(tf.float32, [44, None])
    forms = [(x[3:, :40], y[:40, ::2], a[3:, :40], b[:40, ::2]), (tf.reverse(x, [1]), tf.transpose(tf.transpose(y)), a[:, ::-1], b),
             (tf.concat([x, x * 2.0], 1), tf.concat([y, y], 0), np.concatenate([a, a * 2], 1), np.concatenate([b, b])),
             (tf.pad(x, [[1, 2], [3, 4]]), tf.pad(y, [[3, 4], [0, 1]]), np.pad(a, [[1, 2], [3, 4]]), np.pad(b, [[3, 4], [0, 1]])),
             (tf.tile(x, [2, 1]), tf.reverse(y, [0, 1]), np.tile(a, (2, 1)), b[::-1, ::-1]),
             (tf.reshape(x, [-1, 22]), tf.reshape(y, [22, -1]), a.reshape(-1, 22), b.reshape(22, -1))]
    for got, (_, _, p, q) in zip(run([tf.matmul(f, g) for f, g, _, _ in forms], {x: a, y: b}), forms):
        p, q = wide(p, q)
        close(got, p @ q, abs(p) @ abs(q), p.shape[1])
    assert len(made) == len(forms)


# ---------------------------------------------------------------- convolutions


def patches(x, kernel, strides, pads, dilations):
    """[n, *windows, *kernel, c] of what each window sees."""
    rank = len(kernel)
    x = np.pad(x, [(0, 0), *pads, (0, 0)])
    reach = [(k - 1) * d + 1 for k, d in zip(kernel, dilations)]
    windows = np.lib.stride_tricks.sliding_window_view(x, reach, axis=tuple(range(1, rank + 1)))
    places = (slice(None), *[slice(None, None, s) for s in strides], slice(None), *[slice(None, None, d) for d in dilations])
    return np.moveaxis(windows[places], rank + 1, -1)


def pads_of(sizes, kernel, strides, padding, dilations):
    if not isinstance(padding, str):
        return padding
    if padding == "VALID":
        return [(0, 0)] * len(sizes)
    need = [max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0) for n, k, s, d in zip(sizes, kernel, strides, dilations)]
    return [(t // 2, t - t // 2) for t in need]


def convolution(x, w, strides, padding, dilations, groups):
    """y = einsum of the patches with the filter, group by group."""
    rank = w.ndim - 2
    p = patches(x, w.shape[:rank], strides, pads_of(x.shape[1:-1], w.shape[:rank], strides, padding, dilations), dilations)
    c, k = w.shape[-2], w.shape[-1] // groups
    over = list(range(rank + 1, 2 * rank + 2)), list(range(rank + 1))
    return np.concatenate([np.tensordot(p[..., g * c:(g + 1) * c], w[..., g * k:(g + 1) * k], over) for g in range(groups)], -1)


def adjoints(x, w, dy, strides, padding, dilations, groups):
    """The gradients by x and w: of each tap's product, added up where the tap reads."""
    rank = w.ndim - 2
    pads = pads_of(x.shape[1:-1], w.shape[:rank], strides, padding, dilations)
    dx, dw = np.pad(np.zeros_like(x), [(0, 0), *pads, (0, 0)]), np.zeros_like(w)
    padded = np.pad(x, [(0, 0), *pads, (0, 0)])
    c, k = w.shape[-2], w.shape[-1] // groups
    for tap in np.ndindex(*w.shape[:rank]):
        at = (slice(None), *[slice(t * d, t * d + (n - 1) * s + 1, s) for t, d, n, s in zip(tap, dilations, dy.shape[1:-1], strides)])
        for g in range(groups):
            ins, outs = slice(g * c, (g + 1) * c), slice(g * k, (g + 1) * k)
            dx[(*at, ins)] += dy[..., outs] @ w[tap][:, outs].T
            dw[tap][:, outs] += padded[(*at, ins)].reshape(-1, c).T @ dy[..., outs].reshape(-1, k)
    return dx[(slice(None), *[slice(lo, lo + n) for (lo, _), n in zip(pads, x.shape[1:-1])])], dw


# x, w, strides, padding, dilations, groups
CONVOLUTIONS = [
    ((2, 9, 11, 3), (3, 3, 3, 17), (1, 1), "SAME", (1, 1), 1), ((1, 14, 13, 16), (3, 3, 16, 16), (1, 1), "SAME", (1, 1), 1),
    ((2, 15, 16, 5), (3, 3, 5, 16), (2, 2), "SAME", (1, 1), 1), ((2, 16, 15, 16), (3, 3, 16, 33), (2, 2), "VALID", (1, 1), 1),
    ((1, 20, 19, 3), (7, 7, 3, 16), (2, 2), "SAME", (1, 1), 1), ((2, 17, 18, 2), (5, 4, 2, 17), (3, 2), "SAME", (1, 1), 1),
    ((2, 12, 14, 64), (1, 1, 64, 17), (1, 1), "SAME", (1, 1), 1), ((2, 13, 14, 64), (1, 1, 64, 17), (2, 2), "SAME", (1, 1), 1),
    ((2, 14, 13, 16), (1, 1, 16, 33), (3, 3), "VALID", (1, 1), 1), ((1, 17, 16, 5), (3, 3, 5, 17), (1, 1), "SAME", (2, 2), 1),
    ((1, 17, 16, 16), (3, 2, 16, 16), (1, 1), "VALID", (1, 3), 1), ((2, 9, 9, 64), (3, 3, 64, 64), (1, 1), "SAME", (1, 1), 1),
    ((2, 2, 2, 64), (3, 3, 64, 17), (1, 1), "SAME", (1, 1), 1), ((3, 1, 2, 16), (5, 5, 16, 33), (2, 2), "SAME", (1, 1), 1),
    ((2, 12, 14, 1), (5, 5, 1, 32), (1, 1), "SAME", (1, 1), 1), ((2, 28, 27, 1), (5, 5, 1, 6), (1, 1), "VALID", (1, 1), 1),
    ((2, 11, 12, 5), (3, 3, 5, 17), (1, 1), ((2, 0), (1, 3)), (1, 1), 1),
    ((2, 11, 12, 16), (3, 3, 16, 17), (2, 3), ((2, 1), (0, 3)), (1, 1), 1),
    ((2, 11, 12, 16), (3, 3, 8, 32), (1, 1), "SAME", (1, 1), 2), ((2, 11, 12, 12), (3, 2, 4, 15), (2, 1), "SAME", (1, 1), 3),
    ((2, 300, 5), (4, 5, 17), (1,), "SAME", (1,), 1), ((3, 200, 16), (3, 16, 33), (2,), "SAME", (1,), 1),
    ((2, 100, 3), (5, 3, 16), (3,), "VALID", (1,), 1),
    ((3, 101, 16), (3, 16, 17), (1,), "SAME", (4,), 1), ((2, 6, 7, 8, 3), (3, 3, 3, 3, 17), (1, 1, 1), "SAME", (1, 1, 1), 1),
    ((2, 7, 8, 9, 5), (2, 3, 2, 5, 16), (2, 1, 2), "SAME", (1, 1, 1), 1),
    ((1, 8, 7, 9, 16), (1, 3, 3, 16, 16), (1, 2, 3), "VALID", (1, 1, 1), 1),
    # images of one row or one column: the axis is gone, the number of images must not take its place
    ((3, 1, 13, 17), (3, 3, 17, 17), (1, 2), "SAME", (1, 1), 1), ((3, 13, 1, 17), (3, 3, 17, 17), (2, 1), "SAME", (1, 1), 1),
    ((3, 1, 9, 64), (3, 1, 64, 64), (3, 3), ((2, 2), (1, 0)), (1, 1), 1), ((3, 1, 9, 16), (2, 5, 16, 31), (1, 1), "SAME", (1, 1), 1),
    ((40, 4, 4, 17), (3, 3, 17, 2), (1, 1), "SAME", (1, 1), 1), ((2, 9, 8, 300), (3, 3, 300, 5), (1, 1), "SAME", (1, 1), 1)]


def parts(x, w, strides, padding, dilations, groups, dtype=np.float32):
    """(ops, arrays, wanted, sizes of the sums, their lengths) of a convolution and both gradients."""
    from graphflow.ops.contraction import conv
    a, b = draw(*x, dtype=dtype), draw(*w, dtype=dtype, seed=1)
    xs, ws = tf.placeholder(dtype, [None, *x[1:]]), tf.placeholder(dtype, w)
    y = conv(xs, ws, strides=strides, padding=padding, dilations=dilations, groups=groups)
    want = convolution(*wide(a, b), strides, padding, dilations, groups)
    d = draw(*want.shape, dtype=dtype, seed=2)
    dy = tf.placeholder(dtype, [None, *want.shape[1:]])
    dx, dw = tf.gradients(y, [xs, ws], dy)
    form = (strides, padding, dilations, groups)
    wanted = [want, *adjoints(*wide(a, b, d), *form)]
    size = [convolution(*wide(abs(a), abs(b)), *form), *adjoints(*wide(abs(a), abs(b), abs(d)), *form)]
    terms = [b[..., 0].size, b[..., 0, :].size, d[..., 0].size]
    return [y, dx, dw], {xs: a, ws: b, dy: d}, wanted, size, terms


def form_id(case):
    x, w, strides, padding, dilations, groups = case
    return "-".join(map(str, (*x, "", *w, "", *strides, padding, *dilations, groups))).replace(" ", "")


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=form_id)
def test_convolution_and_both_gradients(made, case):
    ops, feeds, wanted, size, terms = parts(*case)
    for name, got, want, s, k in zip(("forward", "input", "filter"), run(ops, feeds), wanted, size, terms):
        try:
            close(got, want, s, k)
        except AssertionError as e:
            raise AssertionError(f"{name}: {e}") from None
    if case[5] == 1:  # not: a gradient of one channel, sums of three products
        assert len(made) == 3 - (case[0][-1] == 1) - (terms[2] < 4), f"the engine made {[op.type for op in made]}"


@pytest.mark.parametrize("case", CONVOLUTIONS[0:12:3])
def test_convolutions_in_float64(made, case):
    ops, feeds, wanted, size, terms = parts(*case, dtype=np.float64)
    for got, want, s, k in zip(run(ops, feeds), wanted, size, terms):
        close(got, want, s, k)
    assert made


@pytest.mark.parametrize("case", [CONVOLUTIONS[i] for i in (1, 2, 6, 20)])
def test_other_numbers_of_images_than_the_first(made, case):
    ops, feeds, *_ = parts(*case)
    with tf.Session() as sess:
        sess.run(ops, feeds)
        count = len(made)
        for n in (5, 1, 17):
            other = (n, *case[0][1:]), *case[1:]
            with tf.Graph().as_default():
                _, values, wanted, size, terms = parts(*other)
            for got, want, s, k in zip(sess.run(ops, dict(zip(feeds, values.values()))), wanted, size, terms):
                close(got, want, s, k)
    assert len(made) >= count > 0


@pytest.mark.parametrize("stride,padding", [(1, "SAME"), (2, "SAME"), (2, "VALID"), (3, "SAME")])
def test_transposed_convolution(made, stride, padding):
    x, w = draw(2, 7, 6, 16), draw(3, 3, 5, 16, seed=1)
    big = [(n * stride if padding == "SAME" else (n - 1) * stride + 3) for n in (7, 6)]
    xs, ws = holders(x, w)
    y = tf.nn.conv2d_transpose(xs, ws, [2, *big, 5], [1, stride, stride, 1], padding)
    form = ((stride, stride), padding, (1, 1), 1)
    shape = np.zeros((2, *big, 5))
    want, size = (adjoints(shape, q, p, *form)[0] for p, q in (wide(x, w), wide(abs(x), abs(w))))
    close(run(y, {xs: x, ws: w}), want, size, 9 * 16)
    assert made


# ---------------------------------------------------------------- narrow dtypes


def buffers_of(kernels):
    return {b for k in kernels for b in k.buffers}


def bfloat(a):
    """Rounded to bfloat16, to nearest even, as float32."""
    bits = a.astype(np.float32).view(np.uint32)
    return ((bits + 0x7FFF + (bits >> 16 & 1)) & 0xFFFF0000).astype(np.uint32).view(np.float32)


def half(a):
    return a.astype(np.float16).astype(np.float32)


ROUND = {"float16": (half, 2.0**-11, 2.0**-25), "bfloat16": (bfloat, 2.0**-8, 0.0)}


@pytest.mark.parametrize("dtype", ROUND)
@pytest.mark.parametrize("ta,tb", [(False, False), (True, False), (False, True)])
@pytest.mark.parametrize("m,n,k", [(40, 50, 60), (15, 33, 2000), (1, 200, 300)])
def test_half_precision_sums_in_float32_and_rounds_once(made, dtype, ta, tb, m, n, k):
    rounded, unit, least = ROUND[dtype]
    a, b = rounded(draw(m, k)), rounded(draw(k, n, seed=1))
    x, y = tf.placeholder(tf.float32, [None, None]), tf.placeholder(tf.float32, [None, None])
    z = tf.matmul(*[tf.cast(t, dtype) for t in (x, y)], transpose_a=ta, transpose_b=tb)
    got = run(z, {x: a.T if ta else a, y: b.T if tb else b}).astype(np.float32)  # bfloat16 comes back as float32
    a, b = wide(a, b)
    want = a @ b
    assert np.array_equal(got, rounded(got))
    assert np.all(abs(got - want) <= unit * abs(want) + least + (k + 2) * 2.0**-24 * (abs(a) @ abs(b)))
    assert made or m == 1  # a GPU folds the rows of the other


@pytest.mark.parametrize("dtype", ROUND)
def test_half_precision_convolution(made, dtype):
    from graphflow.ops.contraction import conv
    rounded, unit, _ = ROUND[dtype]
    form = ((1, 1), "SAME", (1, 1), 1)
    a, b = rounded(draw(2, 9, 10, 16)), rounded(draw(3, 3, 16, 17, seed=1))
    x, w = holders(a, b)
    y = conv(tf.cast(x, dtype), tf.cast(w, dtype), strides=form[0], padding=form[1], dilations=form[2], groups=1)
    got = run(y, {x: a, w: b}).astype(np.float32)
    assert np.array_equal(got, rounded(got))
    want, size = convolution(*wide(a, b), *form), convolution(*wide(abs(a), abs(b)), *form)
    assert np.all(abs(got - want) <= unit * abs(want) + 1e-7 + 146 * 2.0**-24 * size)
    assert made


@pytest.mark.parametrize("narrow", [np.int8, np.uint8, np.int16, np.uint16, np.float16])
@pytest.mark.parametrize("into", [np.int32, np.float32, np.int64, np.float64])
def test_narrow_operands_are_read_as_they_are(made, narrow, into):
    """A cast to a wider dtype is part of the packing: no array of the wider operands exists."""
    if narrow is np.float16 and np.dtype(into).kind == "i":
        pytest.skip("fractions would be lost")
    info = (-9, 10) if narrow is np.float16 else (np.iinfo(narrow).min // 8, np.iinfo(narrow).max // 8)
    rng = np.random.default_rng(3)
    a, b = (rng.integers(*info, s).astype(narrow) for s in ((33, 70), (70, 50)))
    x, y = holders(a, b)
    z = tf.matmul(tf.cast(x, into), tf.cast(tf.transpose(y), into), transpose_b=True)
    got = run(z, {x: a, y: b})
    want = a.astype(np.float64) @ b.astype(np.float64)  # exact: below 2**53
    if np.dtype(into) == np.float32:
        close(got, want, abs(a.astype(np.float64)) @ abs(b.astype(np.float64)), 70)
    else:
        np.testing.assert_array_equal(got, want)
    inside = buffers_of(made[next(iter(made))])
    assert {b.dtype.np for b in inside if b.role == "in"} == {np.dtype(narrow)}


def test_int8_products_reach_the_whole_range_of_int32(made):
    a, b = np.full((20, 600), -128, np.int8), np.full((600, 40), -128, np.int8)
    x, y = holders(a, b)
    got = run(tf.matmul(tf.cast(x, tf.int32), tf.cast(y, tf.int32)), {x: a, y: b})
    np.testing.assert_array_equal(got, np.full((20, 40), 600 << 14, np.int32))
    assert made


def test_widened_values_that_are_read_elsewhere_too(made):
    a, b = np.arange(60 * 40).reshape(60, 40).astype(np.int8), draw(40, 30)
    x, y = holders(a, b)
    f = tf.cast(x, tf.float32)
    got = run([tf.matmul(f, y), tf.reduce_sum(f, 1), f * 2.0, f], {x: a, y: b})
    close(got[0], a.astype(np.float64) @ b, abs(a.astype(np.float64)) @ abs(b), 40)
    for g, want in zip(got[1:], (a.sum(1, np.int64), a * 2.0, a)):
        np.testing.assert_array_equal(g, want)
    assert made


# ---------------------------------------------------------------- what follows


def both(fetches, feeds):
    """Compiled, and by the reference interpreter."""
    found = []
    for interpret in (0, 1):
        with flags.override(interpret=interpret), tf.Session() as sess:
            sess.run(tf.global_variables_initializer())
            found.append(sess.run(fetches, feeds))
    return zip(*found)


def layer_norm(y):
    mean = tf.reduce_mean(y, -1, keepdims=True)
    return (y - mean) * tf.rsqrt(tf.reduce_mean(tf.square(y - mean), -1, keepdims=True) + 1e-5)


FOLLOWING = {
    "bias": lambda y, v, r: y + v, "relu": lambda y, v, r: tf.nn.relu(y + v), "residual": lambda y, v, r: tf.nn.relu(y + v) + r,
    "scale": lambda y, v, r: y * v + tf.tanh(v), "softmax": lambda y, v, r: tf.nn.softmax(y + v), "norm": lambda y, v, r: layer_norm(y) * v,
    "log softmax": lambda y, v, r: tf.nn.log_softmax(y), "row sum": lambda y, v, r: tf.reduce_sum(tf.square(y), -1),
    "column sum": lambda y, v, r: tf.reduce_sum(y, 0), "all": lambda y, v, r: tf.reduce_mean(tf.square(y - r)),
    "transposed": lambda y, v, r: tf.transpose(tf.nn.relu(y)), "reversed": lambda y, v, r: tf.reverse(y, [1]) * 2.0 + y,
    "rows turned": lambda y, v, r: tf.reverse(y, [0]) + y, "shifted": lambda y, v, r: y[:, 1:] - y[:, :-1],
    "reshaped": lambda y, v, r: tf.reshape(tf.nn.relu(y), [-1]), "argmax": lambda y, v, r: tf.argmax(y, -1),
    "rank": lambda y, v, r: tf.nn.relu(tf.reshape(y, [2, -1, int(y.shape[1])])) + 1.0,
    "gather": lambda y, v, r: tf.gather(y, [3, 1, 1]) * 2.0,
    "cumsum": lambda y, v, r: tf.cumsum(y, 1), "half": lambda y, v, r: tf.cast(y, tf.float16),
    "double": lambda y, v, r: tf.cast(y, tf.float64) * 3.0}


@pytest.mark.parametrize("name", FOLLOWING)
@pytest.mark.parametrize("n", [50, 1100])
def test_what_follows_a_product(made, name, n):
    a, b, v, r = draw(66, 40), draw(40, n, seed=1), draw(n, seed=2), draw(66, n, seed=3)
    x, w, vs, rs = tf.placeholder(tf.float32, [None, 40]), *holders(b, v, r)
    y = tf.matmul(x, w)
    y.set_shape([None, n])
    z = FOLLOWING[name](y, vs, rs)
    for fetches in ([z], [z, y], [z, y, tf.abs(y), tf.reduce_max(y)]):
        for got, want in both(fetches, {x: a, w: b, vs: v, rs: r}):
            tolerance = 2e-3 if got.dtype == np.float16 else 2e-5
            more = {"column sum": 66, "cumsum": 66}.get(name, 1)  # sums of what may cancel
            np.testing.assert_allclose(got, want, rtol=tolerance, atol=tolerance * more)
    assert made


@pytest.mark.parametrize("k", [40, 3000])
def test_several_readers_and_chains_of_products(made, k):
    a, b, c = draw(40, k), draw(k, 33, seed=1), draw(33, 45, seed=2)
    x, w, u = holders(a, b, c)
    h = tf.nn.relu(tf.matmul(x, w))
    fetches = [tf.matmul(h, u), tf.matmul(h, h, transpose_b=True), tf.reduce_sum(h, 0), h + tf.matmul(x, w) * 2.0]
    for got, want in both(fetches, {x: a, w: b, u: c}):
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-3 * np.abs(want).max())
    assert len(made) >= 3


@pytest.mark.parametrize("optimizer", ["GradientDescent", "Momentum", "Adam"])
def test_updates_of_variables_in_the_epilogue(made, optimizer):
    make = {"GradientDescent": lambda: tf.train.GradientDescentOptimizer(0.1), "Momentum": lambda: tf.train.MomentumOptimizer(0.1, 0.9),
            "Adam": lambda: tf.train.AdamOptimizer(0.01)}[optimizer]
    a, t = draw(50, 40), draw(50, 33, seed=1)
    x = tf.placeholder(tf.float32, [None, 40])
    w, v = tf.Variable(draw(40, 48, seed=2) / 8), tf.Variable(draw(48, 33, seed=3) / 8)
    loss = tf.reduce_mean(tf.square(tf.matmul(tf.nn.relu(tf.matmul(x, w)), v) - t))
    step = make().minimize(loss)
    found = []
    for interpret in (0, 1):
        with flags.override(interpret=interpret), tf.Session() as sess:
            sess.run(tf.global_variables_initializer())
            losses = [sess.run([loss, step], {x: a})[0] for _ in range(3)]
            found.append([*losses, *sess.run([w, v])])
    for got, want in zip(*found):
        np.testing.assert_allclose(got, want, rtol=2e-4, atol=2e-5)
    assert len(made) >= 4


def test_a_convolution_with_normalisation_activation_and_residual(made):
    a, w = draw(2, 9, 10, 16), draw(3, 3, 16, 16, seed=1)
    x, ws = holders(a, w)
    scale, shift = tf.constant(draw(16, seed=2)), tf.constant(draw(16, seed=3))
    for strides in (1, 2):
        y = tf.nn.conv2d(x, ws, [1, strides, strides, 1], "SAME")
        z = tf.nn.relu(y * scale + shift)
        fetches = [z + x if strides == 1 else z, tf.reduce_mean(z, [1, 2]), tf.transpose(z, [0, 3, 1, 2])]
        for got, want in both(fetches, {x: a, ws: w}):
            np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
    assert made


# ---------------------------------------------------------------- threads


def test_same_bits_for_any_number_of_threads(made):
    form = CONVOLUTIONS[3]
    ops, feeds, *_ = parts(*form)
    a, b = draw(70, 3000), draw(3000, 65, seed=1)
    x, y = holders(a, b)
    fetches = [*ops, tf.matmul(x, y), tf.nn.softmax(tf.matmul(x[:, :300], y[:300])), tf.matmul(x, x, transpose_b=True)]
    bits = []
    for threads in (1, 2, 3):
        with tf.Session(config=tf.ConfigProto(intra_op_parallelism_threads=threads)) as sess:
            bits.append([v.tobytes() for v in sess.run(fetches, {**feeds, x: a, y: b})])
    assert bits[0] == bits[1] == bits[2]
    assert len(made) >= 6


# ---------------------------------------------------------------- comparison with the reference while a program runs


def dense_and_convolution():
    a, w, d = draw(5, 9, 10, 16), draw(3, 3, 16, 16, seed=1), draw(1440, 33, seed=2)
    x = tf.placeholder(tf.float32, [None, 9, 10, 16])
    ws, ds = tf.Variable(w / 12), tf.Variable(d / 40)
    h = tf.nn.relu(tf.nn.conv2d(x, ws, [1, 1, 1, 1], "SAME") + 0.1)
    loss = tf.reduce_mean(tf.nn.softmax(tf.matmul(tf.reshape(h, [-1, 1440]), ds)) ** 2)
    return x, a, tf.train.MomentumOptimizer(0.1, 0.9).minimize(loss)


def test_check_2_compares_products_with_their_reference(made, monkeypatch):
    from graphflow.debug import checked
    compared = []
    real = checked.compare
    monkeypatch.setattr(checked, "compare", lambda unit, *args: compared.append(unit.cluster.kind) or real(unit, *args))
    x, a, step = dense_and_convolution()
    with flags.override(check=2), tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for n in (5, 3):
            sess.run(step, {x: a[:n]})
    assert compared.count("contraction") >= 2 * len(made) >= 8


@pytest.mark.cpu_only(reason="tests/test_cuda_programs.py spoils a kernel of a GPU")
def test_check_2_names_a_product_that_is_wrong(monkeypatch):
    from graphflow.debug import checked
    monkeypatch.setattr(plan_cache, "key", lambda *program: None)
    real = contract.kernels

    def kernels(*args, **named):  # products that do nothing
        return [dataclasses.replace(k, source=k.source.replace("in range(lo, hi):", "in range(hi, hi):"))
                if not isinstance(k, ir.Kernel) and k.source.startswith("# product") else k for k in real(*args, **named)]
    monkeypatch.setattr(contract, "kernels", kernels)
    x, a, step = dense_and_convolution()
    with flags.override(check=2), tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        with pytest.raises(checked.KernelDiffers, match="Conv2D"):
            sess.run(step, {x: a})


# ---------------------------------------------------------------- NaN and infinities


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
@pytest.mark.parametrize("m,n,k", [(33, 47, 50), (40, 33, 1600), (1, 300, 100)])
@pytest.mark.parametrize("ta,tb", [(False, False), (True, True)])
def test_special_values_spread_as_in_numpy(made, value, m, n, k, ta, tb):
    """One special element in either operand, also at the edges of tiles, and one times zero."""
    x, y = tf.placeholder(tf.float32, [None, None]), tf.placeholder(tf.float32, [None, None])
    z = tf.matmul(x, y, transpose_a=ta, transpose_b=tb)
    with tf.Session() as sess:
        for i, j, r in ((0, 0, 0), (m - 1, n - 1, k - 1), (m // 2, n // 2, k // 2)):
            for where in "ab":
                a, b = draw(m, k), draw(k, n, seed=1)
                if where == "a":
                    a[i, r], b[r, j] = value, 0.0
                else:
                    b[r, j], a[i, r] = value, 0.0
                got = sess.run(z, {x: a.T if ta else a, y: b.T if tb else b})
                with np.errstate(all="ignore"):
                    want = a.astype(np.float64) @ b.astype(np.float64)
                assert np.isnan(want[i, j])
                np.testing.assert_array_equal(np.isnan(got), np.isnan(want))
                np.testing.assert_allclose(got, want, rtol=1e-3, atol=1e-3)
    assert made or m == 1  # a GPU folds the rows of the other


@pytest.mark.parametrize("value", [np.inf, np.nan])
@pytest.mark.parametrize("case", [CONVOLUTIONS[i] for i in (0, 1, 2, 3, 5, 9, 10, 11, 12, 16, 17, 20, 24)], ids=str)
def test_special_values_in_images_and_filters(made, value, case):
    """An infinity at the border of the image makes no NaN with weights that are finite, wherever its windows hang over.

    Where it is what multiplies the padding, zeros of the padding may make it NaN, as they do with np.pad.
    """
    ops, feeds, *_ = parts(*case)
    names, arrays = list(feeds), list(feeds.values())
    strides, padding, dilations, groups = case[2:]
    with tf.Session() as sess:
        for k, rank in enumerate(a.ndim for a in arrays):
            for place in ((0,) * rank, (-1,) * rank):
                with_one = [a.copy() for a in arrays]
                with_one[k][place] = value
                with np.errstate(all="ignore"):
                    x, w, dy = wide(*with_one)
                    want = exact_sums(x, w, dy, *case[2:])
                for name, got, wanted in zip(("forward", "input", "filter"), sess.run(ops, dict(zip(names, with_one))), want):
                    what = f"{name}, operand {k} at {place}"
                    if (k, name) in ((0, "forward"), (0, "filter"), (2, "input")):
                        np.testing.assert_array_equal(np.isnan(got), np.isnan(wanted), what)
                        np.testing.assert_array_equal(np.isinf(got), np.isinf(wanted), what)
                    else:
                        assert not np.isfinite(got[~np.isfinite(wanted)]).any() and np.isnan(got[np.isnan(wanted)]).all(), what
    assert made


def exact_sums(x, w, dy, strides, padding, dilations, groups):
    """A convolution and its gradients by the taps that lie inside the image only."""
    rank = w.ndim - 2
    pads = pads_of(x.shape[1:-1], w.shape[:rank], strides, padding, dilations)
    y, dx, dw = np.zeros(dy.shape), np.zeros(x.shape), np.zeros(w.shape)
    for tap in np.ndindex(*w.shape[:rank]):
        ins, outs = [slice(None)], [slice(None)]
        for t, d, s, (lo, _), size, count in zip(tap, dilations, strides, pads, x.shape[1:-1], dy.shape[1:-1]):
            places = np.arange(count) * s + t * d - lo
            inside = np.flatnonzero((places >= 0) & (places < size))
            first, last = (inside[0], inside[-1] + 1) if inside.size else (0, 0)
            outs.append(slice(first, last))
            ins.append(slice(places[first], places[last - 1] + 1, s) if inside.size else slice(0, 0))
        ins, outs = tuple(ins), tuple(outs)
        y[outs] += x[ins] @ w[tap]
        dx[ins] += dy[outs] @ w[tap].T
        dw[tap] += x[ins].reshape(-1, x.shape[-1]).T @ dy[outs].reshape(-1, dy.shape[-1])
    return y, dx, dw


# ---------------------------------------------------------------- from a native loop

KERNEL = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)
RECURRENCE = """# h[t + 1] = tanh(x[t] + h[t] w), by a block kernel
def kernel(B, S, lo, hi):
    h = buf(B, 0)
    x = buf(B, 1)
    w = buf(B, 2)
    block = buf(B, 3)
    rows = S[0]
    wide = S[1]
    for t in range(lo, hi):
        old = advance(h, t * rows * wide * 4)
        new = advance(h, (t + 1) * rows * wide * 4)
        now = advance(x, t * rows * wide * 4)
        for i in range(rows * wide):
            st_f32(new, i, ld_f32(now, i, 1), 0)
        call_block(block, old, w, new, rows, wide, 1, wide, 0, 1, wide, {width}, wide, 1)
        for i in range(rows * wide):
            st_f32(new, i, tanh_f32(ld_f32(new, i, 0)), 0)
    return 0
"""


def call(source, buffers, sizes, lo, hi, addresses=()):
    table = np.array([*[b.ctypes.data for b in buffers], *addresses], np.int64)
    numbers = np.array([*sizes, 0], np.int64)
    assert KERNEL(compile_kernels([source])[0])(table.ctypes.data, numbers.ctypes.data, lo, hi) == 0


def test_a_block_kernel_is_called_by_its_address_in_a_loop():
    """A step of a recurrent network has its product inside the loop over time: no plan and no Python between the steps."""
    steps, rows, pitch = 12, 15, 48
    block, = compile_kernels([blocks.text("f32", pitch)])
    x, w = draw(steps, rows, pitch), draw(pitch, pitch, seed=1) / 8
    h = np.zeros((steps + 1, rows, pitch), np.float32)
    call(RECURRENCE.format(width=blocks.shape("f32").width), [h, x, w], [rows, pitch], 0, steps, [block])
    want = np.zeros((steps + 1, rows, pitch))
    for t in range(steps):
        want[t + 1] = np.tanh(x[t] + want[t] @ w)
    np.testing.assert_allclose(h, want, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("kind", ["f32", "f64", "i32", "i64"])
def test_blocks_of_every_form_and_height(kind):
    """C[i, j] (+)= sum over t, r of A(i, t, r) B(t * depth + r, j), with strides, at all remainders of the register tile."""
    dtype = {"f32": np.float32, "f64": np.float64, "i32": np.int32, "i64": np.int64}[kind]
    source = ("# calls a block\ndef kernel(B, S, lo, hi):\n    call_block(buf(B, 3), buf(B, 0), buf(B, 1), buf(B, 2), "
              "S[0], S[1], S[2], S[3], S[4], S[5], S[6], S[7], S[8], S[9])\n    return 0\n")
    shape = blocks.shape(kind)
    row_block, column_block = compile_kernels([blocks.text(kind, 40), blocks.text(kind, None)])
    rng = np.random.default_rng(5)
    for rows in (0, 1, 2, shape.rows - 1, shape.rows, shape.rows + 1, 2 * shape.rows + 3):
        for cols in (0, 1, shape.lanes, shape.width - 1, shape.width, shape.width + 1, 2 * shape.width + 3):
            for taps, depth, add in ((1, 7, 0), (3, 5, 1), (0, 5, 0), (2, 0, 1)):
                a, b, c = (rng.integers(-9, 9, s).astype(dtype) for s in ((rows, 40), (taps * depth, cols), (rows, cols + 5)))
                panels = np.zeros((-(-cols // shape.width), taps * depth, shape.width), dtype)
                for p in range(len(panels)):
                    part = b[:, p * shape.width:(p + 1) * shape.width]
                    panels[p, :, :part.shape[1]] = part
                want = c.copy()
                picked = np.concatenate([a[:, t * 11:t * 11 + depth] for t in range(taps)], 1) if taps else a[:, :0]
                want[:, :cols] = picked @ b + (c[:, :cols] if add else 0)
                turned = np.ascontiguousarray(a.T)
                for left, lda, hop, block in ((a, 0, 11, row_block), (turned, rows, 11 * rows, column_block)):
                    got = c.copy()
                    numbers = [rows, cols, taps, depth, hop, lda, shape.width, taps * depth * shape.width, cols + 5, add]
                    call(source, [left, panels, got], numbers, 0, 1, [block])
                    np.testing.assert_array_equal(got, want)


def test_a_product_kernel_is_called_in_a_loop():
    """The kernels that a product is made of, with the sizes they ask for, run from another kernel's loop."""
    x, y = tf.placeholder(tf.float32, [None, 64]), tf.placeholder(tf.float32, [64, 64])
    x.set_shape([30, 64])
    z = tf.matmul(x, y)
    memory = {t: ir.Buffer(t.dtype, t.sizes, "out" if t is z else "in") for t in (x, y, z)}
    e, = contract.kernels("step", z.op, memory)
    values = {memory[x]: draw(30, 64), memory[y]: draw(64, 64, seed=1) / 8, memory[z]: np.zeros((30, 64), np.float32)}
    start = values[memory[x]].copy()
    *called, product = compile_kernels([*e.calls, e.source])
    inner = np.array([*[values[b].ctypes.data for b in e.buffers], *called], np.int64)
    sizes = np.array([*e.sizes, 0], np.int64)
    loop = ("# x = x y, again and again\ndef kernel(B, S, lo, hi):\n    x = buf(B, 0)\n    z = buf(B, 1)\n    for t in range(lo, hi):\n"
            "        bad = call_kernel(S[0], S[1], S[2], 0, S[3])\n        if bad != 0:\n            return bad\n"
            "        copy_f32(x, z, S[4])\n    return 0\n")
    call(loop, [values[memory[x]], values[memory[z]]], [product, inner.ctypes.data, sizes.ctypes.data, e.extent, 30 * 64], 0, 5)
    want = start.astype(np.float64) @ np.linalg.matrix_power(values[memory[y]].astype(np.float64), 5)
    np.testing.assert_allclose(values[memory[z]], want, rtol=1e-3, atol=1e-4 * abs(want).max())
