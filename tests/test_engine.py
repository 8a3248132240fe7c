"""The contraction engine against NumPy in float64: products and convolutions of many forms, each seen to be made by the engine.

The bound of an error is that of a sum of k rounded products, k * eps * sum |a| |b| (Higham, "Accuracy and Stability of Numerical
Algorithms", 2002, section 3.1), so that one product too many or too few is far outside.
"""
from __future__ import annotations

import itertools

import numpy as np
import pytest

import graphflow as tf
from graphflow.codegen import contract
from graphflow.flags import flags
from graphflow.runtime import plan_cache

pytestmark = pytest.mark.filterwarnings("ignore:gradients. no path")
EPS = {np.dtype(np.float32): 2.0**-23, np.dtype(np.float64): 2.0**-52}


@pytest.fixture(autouse=True)
def fresh_graph():
    with tf.Graph().as_default():
        yield


@pytest.fixture
def made(monkeypatch):
    """The ops that the engine made kernels for, with these."""
    found: dict = {}
    real = contract.kernels

    def kernels(name, op, *args, **named):
        found[op] = real(name, op, *args, **named)
        return found[op]
    monkeypatch.setattr(contract, "kernels", kernels)
    monkeypatch.setattr(plan_cache, "key", lambda program: None)
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
SIZES = [(m, 40, 50) for m in EDGES] + [(40, n, 50) for n in EDGES[1:]] + [(30, 40, k) for k in (4, 13, 16, 383, 384, 385, 400, 768, 769)] + [
    (1, 300, 100), (1, 33, 385), (14, 32, 384), (15, 33, 385), (97, 31, 400), (2, 385, 33), (300, 2, 33), (64, 1100, 20), (29, 65, 2000), (400, 16, 16)]


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
    chosen = contract.engine(z.op)
    got = run(z, {x: a, y: b})
    a, b = wide(a, b)
    close(got, a @ b, np.abs(a) @ np.abs(b), k)
    assert bool(made) == bool(chosen) and (chosen or m == 1)


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
    windows = np.lib.stride_tricks.sliding_window_view(x, [(k - 1) * d + 1 for k, d in zip(kernel, dilations)], axis=tuple(range(1, rank + 1)))
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
    over = list(range(rank + 1, 2 * rank + 2))
    return np.concatenate([np.tensordot(p[..., g * c:(g + 1) * c], w[..., g * k:(g + 1) * k], (over, list(range(rank + 1)))) for g in range(groups)], -1)


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
    ((2, 11, 12, 5), (3, 3, 5, 17), (1, 1), ((2, 0), (1, 3)), (1, 1), 1), ((2, 11, 12, 16), (3, 3, 16, 17), (2, 3), ((2, 1), (0, 3)), (1, 1), 1),
    ((2, 11, 12, 16), (3, 3, 8, 32), (1, 1), "SAME", (1, 1), 2), ((2, 11, 12, 12), (3, 2, 4, 15), (2, 1), "SAME", (1, 1), 3),
    ((2, 300, 5), (4, 5, 17), (1,), "SAME", (1,), 1), ((3, 200, 16), (3, 16, 33), (2,), "SAME", (1,), 1), ((2, 100, 3), (5, 3, 16), (3,), "VALID", (1,), 1),
    ((3, 101, 16), (3, 16, 17), (1,), "SAME", (4,), 1), ((2, 6, 7, 8, 3), (3, 3, 3, 3, 17), (1, 1, 1), "SAME", (1, 1, 1), 1),
    ((2, 7, 8, 9, 5), (2, 3, 2, 5, 16), (2, 1, 2), "SAME", (1, 1, 1), 1), ((1, 8, 7, 9, 16), (1, 3, 3, 16, 16), (1, 2, 3), "VALID", (1, 1, 1), 1),
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


@pytest.mark.parametrize("case", CONVOLUTIONS, ids=lambda c: "-".join(map(str, (*c[0], "", *c[1], "", *c[2], c[3], *c[4], c[5]))).replace(" ", ""))
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
