"""Pooling and depthwise convolution as they are compiled: against plain loops, at every edge a row of pixels can have."""
from __future__ import annotations

import itertools

import numpy as np
import pytest

import graphflow as tf
from graphflow.ops import contraction, window


@pytest.fixture(autouse=True)
def fresh_graph():
    with tf.Graph().as_default():
        yield


def run(make, *arrays, shapes=None, threads=1):
    """What `make` of placeholders gives for the arrays."""
    stand_ins = [tf.placeholder(a.dtype, a.shape if shapes is None else s) for a, s in zip(arrays, shapes or arrays)]
    with tf.Session(config=tf.ConfigProto(intra_op_parallelism_threads=threads)) as sess:
        return sess.run(make(*stand_ins), dict(zip(stand_ins, arrays)))


def pads(sizes, kernel, strides, dilations, padding):
    """(before, after) an axis, by the formula in TF's notes on padding."""
    if padding == "VALID":
        return [(0, 0)] * len(sizes)
    if padding != "SAME":
        return list(padding)
    total = [max((-(-n // s) - 1) * s + (k - 1) * d + 1 - n, 0) for n, k, s, d in zip(sizes, kernel, strides, dilations)]
    return [(t // 2, t - t // 2) for t in total]


def windows(sizes, kernel, strides, dilations, padding):
    """The number of windows an axis; and for each its place, and of each of its taps inside the number and the place."""
    before = pads(sizes, kernel, strides, dilations, padding)
    counts = [(n + lo + hi - (k - 1) * d - 1) // s + 1 for n, k, s, d, (lo, hi) in zip(sizes, kernel, strides, dilations, before)]
    each = []
    for o in itertools.product(*map(range, counts)):
        found = []
        for t in itertools.product(*map(range, kernel)):
            at = tuple(i * s + j * d - lo for i, s, j, d, (lo, _) in zip(o, strides, t, dilations, before))
            if all(0 <= i < n for i, n in zip(at, sizes)):
                found.append((t, at))
        each.append((o, found))
    return counts, each


def depthwise(x, w, dy, strides, dilations, padding):
    """y, dx and dw of a depthwise convolution with w [*kernel, channels, multiplier], by its definition."""
    many, each = w.shape[-2:]
    y, dx, dw = [], np.zeros(x.shape), np.zeros(w.shape)
    counts, places = windows(x.shape[1:-1], w.shape[:-2], strides, dilations, padding)
    for o, taps in places:
        total = np.zeros((len(x), many, each))
        g = dy[(slice(None), *o)].reshape(len(x), many, each) if dy is not None else None
        for t, at in taps:
            element = x[(slice(None), *at)].astype(float)
            total += element[..., None] * w[t]
            if g is not None:
                dx[(slice(None), *at)] += (g * w[t]).sum(-1)
                dw[t] += (element[..., None] * g).sum(0)
        y.append(total.reshape(len(x), many * each))
    return np.stack(y, 1).reshape(len(x), *counts, many * each), dx, dw


CONVOLUTIONS = {  # input, kernel, multiplier, strides, dilations, padding
    "mobilenet": ((2, 14, 14, 32), (3, 3), 1, (1, 1), (1, 1), "SAME"),
    "mobilenet_stride": ((2, 14, 12, 24), (3, 3), 1, (2, 2), (1, 1), "SAME"),
    "odd_stride": ((1, 9, 7, 17), (3, 3), 1, (2, 2), (1, 1), "SAME"),
    "wide_stride": ((1, 11, 13, 5), (5, 5), 1, (3, 2), (1, 1), "SAME"),
    "valid": ((2, 8, 9, 16), (3, 2), 1, (1, 2), (1, 1), "VALID"),
    "dilated": ((1, 10, 11, 8), (3, 3), 1, (1, 1), (2, 3), "SAME"),
    "explicit": ((1, 6, 5, 8), (3, 3), 1, (2, 1), (1, 1), ((2, 0), (1, 3))),
    "multiplier": ((2, 7, 8, 6), (3, 3), 2, (1, 1), (1, 1), "SAME"),
    "multiplier_stride": ((1, 8, 8, 5), (3, 3), 3, (2, 2), (1, 1), "VALID"),
    "smaller_than_window": ((2, 2, 1, 16), (5, 4), 1, (1, 1), (1, 1), "SAME"),
    "one_pixel": ((3, 1, 1, 8), (3, 3), 1, (2, 2), (1, 1), "SAME"),
    "one_channel": ((2, 6, 6, 1), (3, 3), 1, (1, 1), (1, 1), "SAME"),
    "no_batch": ((0, 6, 6, 8), (3, 3), 1, (1, 1), (1, 1), "SAME"),
    "one_row": ((1, 300, 16), (5,), 1, (1,), (1,), "SAME"),
    "sequence": ((3, 17, 8), (4,), 1, (2,), (1,), "SAME"),
    "volume": ((1, 4, 6, 5, 8), (3, 3, 3), 1, (1, 2, 1), (1, 1, 1), "SAME"),
    "long_rows": ((2, 40, 30, 4), (3, 3), 1, (1, 1), (1, 1), "SAME"),
    "many_taps": ((1, 12, 12, 8), (7, 7), 1, (1, 1), (1, 1), "SAME"),
}


@pytest.mark.parametrize("name, dtype", [*((n, np.float32) for n in CONVOLUTIONS), ("mobilenet_stride", np.float64)])
def test_depthwise_convolution_and_its_gradients(name, dtype):
    size, kernel, each, strides, dilations, padding = CONVOLUTIONS[name]
    rng = np.random.default_rng(3)
    x, w = rng.normal(size=size).astype(dtype), rng.normal(size=(*kernel, size[-1], each)).astype(dtype)
    attrs = {"strides": strides, "dilations": dilations, "padding": padding, "groups": size[-1]}
    flat = (*kernel, 1, size[-1] * each)
    close = {"rtol": 1e-4, "atol": 1e-4} if dtype is np.float32 else {"rtol": 1e-10, "atol": 1e-10}
    y = run(lambda x, w: contraction.conv(x, w, **attrs), x, w.reshape(flat))
    dy = rng.normal(size=y.shape).astype(dtype)
    want = depthwise(x, w, dy, strides, dilations, padding)
    np.testing.assert_allclose(y, want[0], **close)
    dx, dw = run(lambda x, w, dy: tf.gradients(contraction.conv(x, w, **attrs), [x, w], dy), x, w.reshape(flat), dy)
    np.testing.assert_allclose(dx, want[1], **close)
    np.testing.assert_allclose(dw.reshape(w.shape), want[2], **close)


@pytest.mark.parametrize("stride", [1, 2])
def test_unknown_sizes_are_bound_at_each_run(stride):
    x, w, dy = tf.placeholder(tf.float32, [None, None, None, 6]), tf.placeholder(tf.float32, [3, 3, 6, 1]), tf.placeholder(tf.float32)
    y = tf.nn.depthwise_conv2d(x, w, [1, stride, stride, 1], "SAME")
    grads = tf.gradients(y, [x, w], tf.reshape(dy, tf.shape(y)))
    rng = np.random.default_rng(0)
    with tf.Session() as sess:
        for n, high, wide in [(2, 9, 8), (1, 4, 4), (3, 1, 5), (1, 2, 1), (2, 16, 17)]:
            a, k = rng.normal(size=(n, high, wide, 6)).astype(np.float32), rng.normal(size=(3, 3, 6, 1)).astype(np.float32)
            g = rng.normal(size=(n, -(-high // stride), -(-wide // stride), 6)).astype(np.float32)
            for got, want in zip(sess.run([y, *grads], {x: a, w: k, dy: g}), depthwise(a, k, g, (stride,) * 2, (1, 1), "SAME")):
                np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)


def test_bias_and_activation_join_the_convolution():
    rng = np.random.default_rng(1)
    x, w, b = (rng.normal(size=s).astype(np.float32) for s in ((2, 8, 8, 16), (3, 3, 16, 1), (16,)))
    stand_ins = [tf.placeholder(tf.float32, a.shape) for a in (x, w, b)]
    y = tf.nn.relu6(tf.nn.depthwise_conv2d(stand_ins[0], stand_ins[1], [1, 1, 1, 1], "SAME") + stand_ins[2])
    feeds = dict(zip(stand_ins, (x, w, b)))
    assert len(tf.explain(y, feeds).kernels) == 1
    with tf.Session() as sess:
        got = sess.run(y, feeds)
    np.testing.assert_allclose(got, np.clip(depthwise(x, w, None, (1, 1), (1, 1), "SAME")[0] + b, 0, 6), rtol=1e-5, atol=1e-5)


def test_inputs_beside_the_padding_do_not_reach_it():
    x, w = np.full((1, 5, 5, 8), np.inf, np.float32), np.zeros((3, 3, 8, 1), np.float32)
    x[0, 2:] = 1
    y = run(lambda x, w: tf.nn.depthwise_conv2d(x, w, [1, 1, 1, 1], "SAME"), x, w)
    assert np.isnan(y[0, :3]).all() and (y[0, 3:] == 0).all()
    infinite = run(lambda x, w: tf.nn.depthwise_conv2d(x, w, [1, 1, 1, 1], "SAME"), np.ones((1, 1, 1, 8), np.float32),
                   np.where(np.arange(9).reshape(3, 3, 1, 1) == 4, 2, np.ones((3, 3, 8, 1))).astype(np.float32))
    assert (infinite == 2).all()


def test_filter_gradient_has_the_same_bits_on_any_number_of_threads():
    rng = np.random.default_rng(2)
    x, dy = rng.normal(size=(4, 40, 41, 12)).astype(np.float32), rng.normal(size=(4, 40, 41, 12)).astype(np.float32)
    attrs = {"strides": (1, 1), "dilations": (1, 1), "padding": "SAME", "groups": 12}
    found = [run(lambda x, dy: contraction.conv_filter_grad(x, tf.constant([3, 3, 1, 12]), dy, **attrs), x, dy, threads=n) for n in (1, 2)]
    np.testing.assert_array_equal(found[0], found[1])
    want = depthwise(x, np.zeros((3, 3, 12, 1)), dy, (1, 1), (1, 1), "SAME")[2]
    np.testing.assert_allclose(found[0].reshape(want.shape), want, rtol=1e-4, atol=1e-3)


# ---------------------------------------------------------------- pooling


def pooled(x, kernel, strides, padding, dy=None):
    """Maxima, means and their two gradients; NaN is the largest, the first maximum gets the gradient, padding is not counted."""
    ones = (1,) * len(kernel)
    top, mean, to_top, to_mean = [], [], np.zeros(x.shape), np.zeros(x.shape)
    counts, places = windows(x.shape[1:-1], kernel, strides, ones, padding)
    for o, taps in places:
        inside = np.stack([x[(slice(None), *at)] for _, at in taps]) if taps else np.zeros((0, len(x), x.shape[-1]))
        top.append(inside.max(0) if taps else np.full(inside.shape[1:], -np.inf))
        mean.append(inside.astype(float).mean(0) if taps else np.full(inside.shape[1:], np.nan))
        if dy is None or not taps:
            continue
        first = np.argmax(inside, 0)
        for k, (_, at) in enumerate(taps):
            g = dy[(slice(None), *o)]
            to_top[(slice(None), *at)] += np.where(first == k, g, 0)
            to_mean[(slice(None), *at)] += g / len(taps)
    shape = (len(x), *counts, x.shape[-1])
    return np.stack(top, 1).reshape(shape), np.stack(mean, 1).reshape(shape), to_top, to_mean


POOLS = {  # input, window, strides, padding
    "halves": ((2, 8, 6, 16), (2, 2), (2, 2), "VALID"),
    "odd_halves": ((2, 7, 5, 9), (2, 2), (2, 2), "VALID"),
    "odd_halves_same": ((2, 7, 5, 9), (2, 2), (2, 2), "SAME"),
    "thirds": ((1, 9, 10, 20), (3, 3), (3, 3), "SAME"),
    "gaps": ((1, 11, 9, 8), (2, 1), (3, 4), "VALID"),
    "gaps_same": ((1, 11, 10, 8), (2, 2), (4, 3), "SAME"),
    "overlapping": ((2, 12, 12, 16), (3, 3), (2, 2), "SAME"),
    "overlapping_explicit": ((1, 9, 8, 4), (3, 3), (2, 2), ((1, 1), (1, 0))),
    "every_pixel": ((1, 6, 7, 8), (3, 3), (1, 1), "SAME"),
    "whole": ((2, 5, 4, 8), (5, 4), (1, 1), "VALID"),
    "larger_than_input": ((1, 2, 3, 8), (5, 5), (2, 2), "SAME"),
    "one_pixel": ((2, 1, 1, 4), (2, 2), (2, 2), "SAME"),
    "one_channel": ((2, 8, 8, 1), (2, 2), (2, 2), "VALID"),
    "sequence": ((2, 13, 8), (3,), (2,), "SAME"),
    "one_row": ((1, 64, 8), (2,), (2,), "VALID"),
    "volume": ((1, 4, 5, 6, 4), (2, 2, 2), (2, 2, 2), "SAME"),
    "volume_overlapping": ((1, 5, 5, 4, 4), (2, 3, 2), (1, 2, 1), "SAME"),
    "big": ((1, 9, 9, 4), (7, 7), (2, 2), "SAME"),
}


def pools(name, dtype=np.float32, special=()):
    """Compiled and expected maxima, means, and their gradients."""
    size, kernel, strides, padding = POOLS[name]
    rng = np.random.default_rng(5)
    x = rng.integers(-3, 4, size).astype(dtype)  # with ties
    for value, share in special:
        x[rng.random(size) < share] = value
    attrs = {"window": kernel, "strides": strides, "padding": padding}
    top, mean = run(lambda x: (window.max_pool(x, **attrs), window.avg_pool(x, **attrs)), x)
    dy = rng.normal(size=top.shape).astype(dtype)
    found = run(lambda x, dy: [*tf.gradients(window.max_pool(x, **attrs), x, dy), *tf.gradients(window.avg_pool(x, **attrs), x, dy)], x, dy)
    return (top, mean, *found), pooled(x, kernel, strides, padding, dy)


@pytest.mark.parametrize("name, dtype", [*((n, np.float32) for n in POOLS), ("halves", np.float64), ("overlapping", np.float64)])
def test_pools_and_their_gradients(name, dtype):
    for got, want in zip(*pools(name, dtype)):
        np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("name", ["halves", "odd_halves_same", "gaps_same", "overlapping", "volume"])
@pytest.mark.parametrize("special", [[(-np.inf, 0.5)], [(-np.inf, 1.0)], [(np.nan, 0.2)], [(np.nan, 0.2), (-np.inf, 0.5)], [(np.inf, 0.3)]])
def test_maxima_of_infinities_and_nan(name, special):
    found, want = pools(name, special=special)
    for i in (0, 2):
        np.testing.assert_allclose(found[i], want[i], rtol=1e-5, atol=1e-5)


def test_pools_of_nothing():
    attrs = {"window": (2, 2), "strides": (2, 2), "padding": "SAME"}
    for size in [(0, 4, 4, 3), (2, 0, 4, 3), (2, 4, 0, 3), (2, 4, 4, 0)]:
        x = np.zeros(size, np.float32)
        want = (size[0], -(-size[1] // 2), -(-size[2] // 2), size[3])
        y, dx = run(lambda x: (window.max_pool(x, **attrs), tf.gradients(window.max_pool(x, **attrs), x)[0]), x)
        assert y.shape == want and dx.shape == size


@pytest.mark.parametrize("kernel, strides, padding", [((2, 2), (2, 2), "VALID"), ((2, 2), (2, 2), "SAME"), ((3, 3), (2, 2), "SAME")])
def test_pools_of_unknown_sizes(kernel, strides, padding):
    x, dy = tf.placeholder(tf.float32, [None, None, None, 5]), tf.placeholder(tf.float32)
    attrs = {"window": kernel, "strides": strides, "padding": padding}
    ys = [window.max_pool(x, **attrs), window.avg_pool(x, **attrs)]
    fetches = [*ys, *(tf.gradients(y, x, tf.reshape(dy, tf.shape(y)))[0] for y in ys)]
    rng = np.random.default_rng(0)
    with tf.Session() as sess:
        for size in [(2, 8, 9, 5), (1, 5, 4, 5), (3, 2, 2, 5), (1, 16, 23, 5)]:
            a = rng.normal(size=size).astype(np.float32)
            g = rng.normal(size=pooled(a, kernel, strides, padding)[0].shape).astype(np.float32)
            for got, want in zip(sess.run(fetches, {x: a, dy: g}), pooled(a, kernel, strides, padding, g)):
                np.testing.assert_allclose(got, want, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float16])
def test_maxima_of_other_types(dtype):
    x = np.random.default_rng(0).integers(0, 200, (2, 6, 8, 16)).astype(dtype)
    y = run(lambda x: window.max_pool(x, window=(2, 2), strides=(2, 2), padding="VALID"), x)
    np.testing.assert_array_equal(y, x.reshape(2, 3, 2, 4, 2, 16).max((2, 4)))


def test_maxima_of_a_rectified_value_and_their_gradient_are_one_kernel_each():
    x, w = tf.placeholder(tf.float32, [4, 8, 8, 16]), tf.placeholder(tf.float32, [4, 4, 4, 16])
    y = tf.nn.max_pool(tf.nn.relu(x), [1, 2, 2, 1], [1, 2, 2, 1], "VALID")
    dx, = tf.gradients(tf.reduce_sum(y * w), x)
    feeds = {x: np.ones((4, 8, 8, 16), np.float32), w: np.ones((4, 4, 4, 16), np.float32)}
    assert len(tf.explain(y, feeds).kernels) == 1
    assert len(tf.explain(dx, feeds).kernels) == 1


# ---------------------------------------------------------------- the text


def source(make, *shapes):
    stand_ins = [tf.placeholder(tf.float32, s) for s in shapes]
    return [k.source for k in tf.explain(make(*stand_ins), {t: np.zeros(s, np.float32) for t, s in zip(stand_ins, shapes)}).kernels]


def bodies(text):
    """The vector loops of a kernel, first that of the blocks of pixels without conditions."""
    found: list[list[str]] = []
    inside = -1
    for line in text.splitlines():
        depth = len(line) - len(line.lstrip())
        if "for c in range" in line:
            found.append([])
            inside = depth
        elif depth <= inside:
            inside = len(text)
        elif found and inside < len(text):
            found[-1].append(line)
    return ["\n".join(lines) for lines in found]


@pytest.mark.parametrize("stride", [1, 2])
def test_the_inside_of_a_row_has_no_conditions(stride):
    attrs = {"strides": (stride, stride), "dilations": (1, 1), "padding": "SAME", "groups": 32}
    shape = (2, 28 // stride, 28 // stride, 32)
    forward, = source(lambda x, w: contraction.conv(x, w, **attrs), (2, 28, 28, 32), (3, 3, 1, 32))
    assert "select(" not in bodies(forward)[0] and "select(" in bodies(forward)[-1] and "stack_" not in forward
    backward, = source(lambda w, dy: contraction.conv_input_grad(tf.constant([2, 28, 28, 32]), w, dy, **attrs), (3, 3, 1, 32), shape)
    assert all("select(" not in b for b in bodies(backward)[:-1]) and len(bodies(backward)) == stride + 1
    pieces, total = source(lambda x, dy: contraction.conv_filter_grad(x, tf.constant([3, 3, 1, 32]), dy, **attrs), (2, 28, 28, 32), shape)
    assert "select(" not in bodies(pieces)[1] and total.count("ld_f32") < pieces.count("ld_f32")


def test_neighbours_share_what_they_load():
    """Four pixels of a 3 x 3 convolution read 3 x 6 elements, not 4 x 9."""
    text, = source(lambda x, w: contraction.conv(x, w, strides=(1, 1), dilations=(1, 1), padding="SAME", groups=32), (2, 14, 14, 32),
                   (3, 3, 1, 32))
    inside = bodies(text)[0]
    pixels = inside.count("st_f32(")
    assert pixels > 1 and inside.count("ld_f32(p0") == 3 * (pixels + 2) and inside.count("ld_f32(p1") == 9
