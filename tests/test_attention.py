"""softmax(q k^T) v: what is recognised, what is left alone, and the kernels against NumPy in float64.

Tolerances are shares of the largest value of each result: float32 comes within 1.6e-5 of float64 (32e-6 with random masks, whose
gradients add up more), float64 within 4e-13, as the unfused ops do.
"""
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from on_gpu import ON_GPU

import graphflow as tf
from graphflow.flags import flags

RTOL = {np.float32: 4e-6, np.float64: 1e-13}


def draw(rng, *shape, dtype=np.float32):
    return rng.normal(size=shape).astype(dtype)


def softmax(s):
    e = np.exp(s - s.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def expected(q, k, v, dy, change=lambda s: s, slope=1.0, scale=1.0):
    """Output and gradients in float64, all probabilities at once.  `slope` is the derivative of `change`."""
    q, k, v, dy = (x.astype(np.float64) for x in (q, k, v, dy))
    with np.errstate(all="ignore"):
        p = softmax(change(q @ np.swapaxes(k, -1, -2) * scale))
        dp = dy @ np.swapaxes(v, -1, -2)
        ds = p * (dp - (dp * p).sum(-1, keepdims=True)) * slope * scale
        return [p @ v, ds @ k, np.swapaxes(ds, -1, -2) @ q, np.swapaxes(p, -1, -2) @ dy]


def close(actual, wanted, dtype=np.float32, factor=1.0):
    for a, w in zip(actual, wanted, strict=True):
        assert a.dtype == dtype and a.shape == w.shape
        np.testing.assert_allclose(a, w, rtol=0, atol=factor * RTOL[dtype] * max(1.0, np.nanmax(np.abs(w), initial=0)))


def types_of(fetches, feed, session=None):
    return [o.type for o in tf.explain(fetches, feed, session).optimized.ops]


def recognised(fetches, feed):
    found = types_of(fetches, feed)
    return found.count("Attention"), found.count("AttentionGrad")


def run(fetches, feed, **override):
    with flags.override(**override), tf.Session() as sess:
        return sess.run(fetches, feed)


def graph_of(arrays, change=lambda s: s, shapes=None):
    """(fetches, feed) of output and gradients, as people write them."""
    q, k, v, dy = (tf.placeholder(a.dtype, a.shape if shapes is None else shapes(a)) for a in arrays)
    o = tf.matmul(tf.nn.softmax(change(tf.matmul(q, k, transpose_b=True))), v)
    return [o, *tf.gradients(o, [q, k, v], grad_ys=dy)], dict(zip((q, k, v, dy), arrays))


def operands(rng, batch, m, n, d, e=None, dtype=np.float32):
    e = d if e is None else e
    return (draw(rng, *batch, m, d, dtype=dtype), draw(rng, *batch, n, d, dtype=dtype), draw(rng, *batch, n, e, dtype=dtype),
            draw(rng, *batch, m, e, dtype=dtype))


# ---------------------------------------------------------------- values


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("batch, m, n, d, e", [
    ((), 64, 64, 16, 16), ((3,), 40, 150, 7, 7), ((2, 3), 129, 33, 64, 64), ((1, 2), 1, 1100, 8, 8), ((2,), 300, 200, 1, 1),
    ((2,), 90, 70, 5, 33), ((1,), 72, 300, 256, 256), ((2, 1, 2), 33, 40, 12, 12)])
def test_value_and_gradients(dtype, batch, m, n, d, e):
    """All sizes of blocks and their edges, depths from 1 to 256, any number of batch axes."""
    arrays = operands(np.random.default_rng(0), batch, m, n, d, e, dtype)
    scale = d ** -0.5
    fetches, feed = graph_of(arrays, lambda s: s * scale)
    few = ON_GPU and (m < 16 or max(d, e) > (128 if dtype is np.float32 else 64))
    assert recognised(fetches, feed) == ((0, 0) if few else (1, 1))
    close(run(fetches, feed), expected(*arrays, scale=scale), dtype, 4)


@pytest.mark.parametrize("seed", range(3))
def test_same_without_optimisation(seed):
    arrays = operands(np.random.default_rng(seed), (2, 2), 70, 90, 24)
    fetches, feed = graph_of(arrays, lambda s: s / np.sqrt(24))
    assert "Attention" not in run_types(fetches, feed)
    close(run(fetches, feed), run(fetches, feed, optimize=0), factor=4)


def run_types(fetches, feed):
    with flags.override(optimize=0):
        return types_of(fetches, feed)


@pytest.mark.parametrize("first", [(2, 64, 64), (1, 130, 1200)])
def test_sizes_that_change(first):
    """One graph for all batches and lengths; each is right, whatever the first one was."""
    rng = np.random.default_rng(1)
    q, k, v, dy = (tf.placeholder(tf.float32, [None, 2, None, 16]) for _ in range(4))
    o = tf.matmul(tf.nn.softmax(tf.matmul(q, k, transpose_b=True) * 0.25), v)
    fetches = [o, *tf.gradients(o, [q, k, v], grad_ys=dy)]
    with tf.Session() as sess:
        for b, m, n in (first, (1, 200, 131), (5, 33, 300), (3, 64, 64), (16, 64, 128), (1, 700, 1), (2, 1, 5), (0, 64, 64)):
            arrays = operands(rng, (b, 2), m, n, 16)
            close(sess.run(fetches, dict(zip((q, k, v, dy), arrays))), expected(*arrays, scale=0.25), factor=4)


def test_finite_differences():
    arrays = operands(np.random.default_rng(2), (2,), 40, 50, 6, dtype=np.float64)
    fetches, feed = graph_of(arrays, lambda s: s * 0.3)
    assert recognised(fetches, feed) == (1, 1)
    rng = np.random.default_rng(3)
    with tf.Session() as sess:
        found = sess.run(fetches[1:], feed)
        for t, g in zip(list(feed)[:3], found):
            direction = rng.normal(size=g.shape)
            up, down = ((sess.run(fetches[0], {**feed, t: feed[t] + h * direction}) * arrays[3]).sum() for h in (1e-6, -1e-6))
            assert abs((up - down) / 2e-6 - (g * direction).sum()) < 1e-6


def test_any_number_of_threads_gives_the_same_bits():
    arrays = operands(np.random.default_rng(4), (1, 3), 400, 1100, 40)
    fetches, feed = graph_of(arrays)
    results = [run(fetches, feed, threads=n) for n in (1, 2, 5)]
    for other in results[1:]:
        for a, b in zip(results[0], other):
            assert np.array_equal(a, b)


# ---------------------------------------------------------------- the ways to write it


def split(x, heads):
    b, n, d = x.shape.as_list()
    return tf.transpose(tf.reshape(x, [-1, n, heads, d // heads]), [0, 2, 1, 3])


@pytest.mark.cpu_only(reason="tests/test_cuda_attention.py looks at the kernels of a GPU")
def test_heads_are_read_where_they_lie():
    """One product makes queries, keys and values of all heads; nothing copies them apart."""
    rng = np.random.default_rng(5)
    x, w = draw(rng, 2, 60, 32), draw(rng, 32, 96) * np.float32(0.2)
    t = tf.placeholder(tf.float32, [None, 60, 32])
    qkv = tf.reshape(tf.matmul(tf.reshape(t, [-1, 32]), w), [-1, 60, 96])
    q, k, v = (split(p, 4) for p in tf.split(qkv, 3, axis=-1))
    o = tf.transpose(tf.matmul(tf.nn.softmax(tf.matmul(q, k, transpose_b=True) / np.sqrt(8.0)), v), [0, 2, 1, 3])
    fetches, feed = [tf.reshape(o, [-1, 60, 32])], {t: x}
    assert recognised(fetches, feed) == (1, 0)
    names = [k.name for k in tf.explain(fetches, feed).kernels]
    assert names[1].startswith("attention")  # behind the product; what follows puts the heads together again
    parts = [p.reshape(2, 60, 4, 8).swapaxes(1, 2) for p in np.split(x.astype(np.float64) @ w.astype(np.float64), 3, -1)]
    want = (softmax(parts[0] @ parts[1].swapaxes(-1, -2) / np.sqrt(8)) @ parts[2]).swapaxes(1, 2).reshape(2, 60, 32)
    close(run(fetches, feed), [want], factor=4)


def test_einsum():
    arrays = operands(np.random.default_rng(6), (2, 3), 40, 48, 16)
    q, k, v, dy = (tf.placeholder(tf.float32, np.swapaxes(a, 1, 2).shape) for a in arrays)
    p = tf.nn.softmax(tf.einsum("bqhd,bkhd->bhqk", q, k) * 0.25)
    o = tf.einsum("bhqk,bkhd->bqhd", p, v)
    fetches, feed = [o, *tf.gradients(o, [q, k, v], grad_ys=dy)], {t: np.swapaxes(a, 1, 2) for t, a in zip((q, k, v, dy), arrays)}
    assert recognised(fetches, feed) == (1, 1)
    close(run(fetches, feed), [np.swapaxes(x, 1, 2) for x in expected(*arrays, scale=0.25)], factor=4)


def test_transposed_keys_and_scaled_queries():
    rng = np.random.default_rng(7)
    arrays = operands(rng, (2, 3), 40, 48, 16)
    q, k, v, dy = (tf.placeholder(tf.float32, a.shape) for a in arrays)
    o = tf.matmul(tf.nn.softmax(tf.matmul(q * 0.25, tf.transpose(k, [0, 1, 3, 2]))), v)
    fetches, feed = [o, *tf.gradients(o, [q, k, v], grad_ys=dy)], dict(zip((q, k, v, dy), arrays))
    assert recognised(fetches, feed) == (1, 1)
    close(run(fetches, feed), expected(*arrays, scale=0.25), factor=4)


def test_keys_that_are_stored_transposed():
    """Their columns are not side by side: one copy, and all is right."""
    arrays = operands(np.random.default_rng(21), (2,), 40, 48, 16)
    given = (arrays[0], np.swapaxes(arrays[1], 1, 2), *arrays[2:])
    q, kt, v, dy = (tf.placeholder(tf.float32, a.shape) for a in given)
    o = tf.matmul(tf.nn.softmax(tf.matmul(q, kt)), v)
    fetches, feed = [o, *tf.gradients(o, [q, kt, v], grad_ys=dy)], dict(zip((q, kt, v, dy), given))
    assert recognised(fetches, feed) == (1, 1)
    want = expected(*arrays)
    want[2] = np.swapaxes(want[2], 1, 2)
    close(run(fetches, feed), want, factor=4)


def test_keys_shared_by_all_heads():
    """The batch axes broadcast; the gradients of shared keys and values are sums over the heads."""
    rng = np.random.default_rng(8)
    q, k, v, dy = draw(rng, 2, 4, 40, 8), draw(rng, 2, 1, 56, 8), draw(rng, 2, 1, 56, 8), draw(rng, 2, 4, 40, 8)
    fetches, feed = graph_of((q, k, v, dy))
    assert recognised(fetches, feed)[0] == 1
    o, dq, dk, dv = expected(q, k, v, dy)
    close(run(fetches, feed), [o, dq, dk.sum(1, keepdims=True), dv.sum(1, keepdims=True)], factor=8)


def test_written_without_tf_nn_softmax():
    arrays = operands(np.random.default_rng(9), (2,), 48, 64, 8)
    q, k, v = (tf.placeholder(tf.float32, a.shape) for a in arrays[:3])
    e = tf.exp(tf.matmul(q, k, transpose_b=True))
    o = tf.matmul(e / tf.reduce_sum(e, -1, keepdims=True), v)
    feed = dict(zip((q, k, v), arrays))
    assert recognised(o, feed) == (1, 0)
    close([run(o, feed)], expected(*arrays)[:1], factor=8)


def test_two_layers_and_a_training_step():
    """The gradient of the second goes through the first; the variables end where the unfused step puts them."""
    rng = np.random.default_rng(10)
    x = draw(rng, 4, 40, 16)
    finals = []
    for optimize in (1, 0):
        tf.reset_default_graph()
        t = tf.placeholder(tf.float32, [None, 40, 16])
        h = t
        for i in range(2):
            q, k, v = (tf.tensordot(h, tf.get_variable(f"w{i}{n}", initializer=draw(np.random.default_rng(i), 16, 16) * np.float32(0.2)), 1)
                       for n in "qkv")
            h = h + tf.matmul(tf.nn.softmax(tf.matmul(q, k, transpose_b=True) * 0.25), v)
        train = tf.train.GradientDescentOptimizer(0.1).minimize(tf.reduce_mean(h * h))
        with flags.override(optimize=optimize), tf.Session() as sess:
            sess.run(tf.global_variables_initializer())
            if optimize:
                assert types_of(train, {t: x}, sess).count("AttentionGrad") == 2
            for _ in range(3):
                sess.run(train, {t: x})
            finals.append(sess.run(tf.global_variables()))
    for a, b in zip(*finals):
        np.testing.assert_allclose(a, b, rtol=2e-5, atol=2e-6)


# ---------------------------------------------------------------- masks


def triangle(m, n, offset=0):
    return np.arange(n) <= np.arange(m)[:, None] + offset


def test_added_padding_mask():
    rng = np.random.default_rng(11)
    arrays = operands(rng, (3, 2), 40, 70, 16)
    keep = (rng.random((3, 70)) < 0.7).astype(np.float32)
    mask = tf.placeholder(tf.float32, [None, 70])
    fetches, feed = graph_of(arrays, lambda s: s * 0.25 + (1.0 - mask[:, None, None, :]) * -1e9)
    assert recognised(fetches, {**feed, mask: keep}) == (1, 1)
    hidden = (1.0 - keep[:, None, None, :]) * -1e9
    close(run(fetches, {**feed, mask: keep}), expected(*arrays, lambda s: s + hidden, scale=0.25), factor=4)


def band(m, n):
    return tf.matrix_band_part(tf.ones([m, n]), -1, 0)


def rows_and_columns(m, n):
    return tf.range(m)[:, None], tf.range(n)[None]


def wide(x, m, n):
    return tf.broadcast_to(x, [2, 3, m, n])


CAUSAL = {
    "band part, added": lambda s, m, n: s + (1 - band(m, n)) * -1e9,
    "band part, GPT": lambda s, m, n: s * band(m, n) - 1e9 * (1 - band(m, n)),
    "range, where": lambda s, m, n: tf.where(wide(tf.greater_equal(*rows_and_columns(m, n)), m, n), s, tf.fill([2, 3, m, n], -1e9)),
    "where, -inf": lambda s, m, n: tf.where(wide(tf.less(*rows_and_columns(m, n)), m, n), tf.ones_like(s) * -np.inf, s),
    "where, small": lambda s, m, n: tf.where(tf.tile(tf.greater_equal(*rows_and_columns(m, n))[None, None], [2, 3, 1, 1]), s,
                                             tf.zeros_like(s) - 1e4),
    "an array": lambda s, m, n: s + np.where(triangle(m, n), 0, -1e9).astype(np.float32),
}


@pytest.mark.parametrize("form", CAUSAL)
@pytest.mark.parametrize("m, n", [(64, 64), (150, 290)])
def test_causal(form, m, n):
    """The mask is known while compiling, in all the ways it is written: nothing of its size is in memory, hidden blocks are skipped."""
    arrays = operands(np.random.default_rng(12), (2, 3), m, n, 8)
    fetches, feed = graph_of(arrays, lambda s: CAUSAL[form](s, m, n))
    assert recognised(fetches, feed) == (1, 1)
    attention = next(o for o in tf.explain(fetches, feed).optimized.ops if o.type == "Attention")
    assert len(attention.inputs) == 3
    keep = triangle(m, n)
    close(run(fetches, feed), expected(*arrays, lambda s: np.where(keep, s, -np.inf), keep), factor=4)


def test_causal_blocks_are_not_skipped_where_they_matter():
    """Rows whose visible scores are all as low as the hidden ones give what the plain form gives."""
    m = n = 200
    arrays = list(operands(np.random.default_rng(13), (1, 1), m, n, 4))
    arrays[1][..., 0] = 1 + np.abs(arrays[1][..., 0])
    arrays[0][..., 5:9, :] = -1200, 0, 0, 0  # visible scores lower than the fill of -1000
    fetches, feed = graph_of(arrays, lambda s: tf.where(tf.constant(triangle(m, n)[None, None]), s, tf.fill([1, 1, m, n], -1000.0)))
    assert recognised(fetches, feed) == (1, 1)
    keep = triangle(m, n)
    want = expected(*arrays, lambda s: np.where(keep, s, -1000.0), keep)
    assert abs(want[0][0, 0, 5] - arrays[2][0, 0, 6:].mean(0)).max() < 1e-3  # the hidden keys share the weight
    close(run(fetches, feed), want, factor=8)


@settings(max_examples=12)
@given(st.integers(0, 1 << 30), st.integers(20, 150), st.integers(60, 200), st.sampled_from([(1, 1), (1, 0), (0, 1), (0, 0)]),
       st.sampled_from(["add", "keep", "drop", "mul"]))
def test_random_masks(seed, m, n, axes, kind):
    """Masks that broadcast over any axes; rows that lose all their keys share the weight among them, as in the plain form."""
    rng = np.random.default_rng(seed)
    tf.reset_default_graph()
    arrays = operands(rng, (2, 2), m, n, 8)
    shape = (2 if axes[0] else 1, 1, m if axes[1] else 1, n)
    held = rng.random(shape) < rng.choice([0.05, 0.5, 0.95])
    full = np.broadcast_to(held, (2, 2, m, n))
    number = draw(rng, *shape)
    if kind in ("add", "mul"):
        mask = tf.placeholder(tf.float32, shape)
        change = (lambda s: s + mask) if kind == "add" else (lambda s: s * mask)
        want = (lambda s: s + number), 1.0
        if kind == "mul":
            want = (lambda s: s * number), number
        value = number
    else:
        mask, value = tf.placeholder(tf.bool, shape), held
        everywhere = tf.broadcast_to(mask, [2, 2, m, n])
        low = tf.fill([2, 2, m, n], -1e4)
        change = (lambda s: tf.where(everywhere, s, low)) if kind == "keep" else (lambda s: tf.where(everywhere, low, s))
        kept = full if kind == "keep" else ~full
        want = (lambda s: np.where(kept, s, -1e4)), kept
    fetches, feed = graph_of(arrays, change)
    feed[mask] = value.astype(mask.dtype.as_numpy_dtype)
    assert recognised(fetches, feed) == (1, 1)
    close(run(fetches, feed), expected(*arrays, *want), factor=8)


def test_rows_without_any_key_are_nan():
    """A row masked with -inf altogether is NaN in the plain form and here, and so are the gradients it enters."""
    rng = np.random.default_rng(14)
    arrays = operands(rng, (2,), 70, 300, 8)
    keep = rng.random((2, 70, 300)) < 0.8
    keep[0, 3], keep[1, 69] = False, False
    keep[1, 4, :290] = False  # two whole blocks, but not the row
    mask = np.where(keep, 0, -np.inf).astype(np.float32)
    t = tf.placeholder(tf.float32, mask.shape)
    fetches, feed = graph_of(arrays, lambda s: s + t)
    feed[t] = mask
    assert recognised(fetches, feed) == (1, 1)
    found, want = run(fetches, feed), expected(*arrays, lambda s: s + mask)
    for a, w in zip(found, want):
        assert np.array_equal(np.isnan(a), np.isnan(w))
        np.testing.assert_allclose(a, w, atol=2e-5)
    assert np.isnan(found[0][0, 3]).all() and not np.isnan(found[0][1, 4]).any()


def test_infinite_and_nan_scores():
    arrays = list(operands(np.random.default_rng(15), (1,), 40, 150, 4))
    arrays[0][0, 2], arrays[0][0, 7, 1] = 1e38, np.nan
    fetches, feed = graph_of(arrays)
    with np.errstate(all="ignore"):
        plain = run(fetches, feed, optimize=0)
    for a, w in zip(run(fetches, feed), plain):
        assert np.array_equal(np.isnan(a), np.isnan(w))


# ---------------------------------------------------------------- left alone


def small_case(m=48, n=64, d=8):
    rng = np.random.default_rng(16)
    q, k, v = (tf.placeholder(tf.float32, [2, s, d]) for s in (m, n, n))
    return q, k, v, {q: draw(rng, 2, m, d), k: draw(rng, 2, n, d), v: draw(rng, 2, n, d)}


def test_probabilities_that_something_else_reads():
    q, k, v, feed = small_case()
    p = tf.nn.softmax(tf.matmul(q, k, transpose_b=True))
    o = tf.matmul(p, v)
    assert recognised([o], feed) == (1, 0)
    assert recognised([o, p], feed) == (0, 0)
    assert recognised([o, tf.reduce_sum(p)], feed) == (0, 0)
    want = expected(feed[q], feed[k], feed[v], feed[q])[0]
    close([run([o, p], feed)[0]], [want], factor=4)


def test_scores_that_something_else_reads():
    q, k, v, feed = small_case()
    s = tf.matmul(q, k, transpose_b=True)
    assert recognised([tf.matmul(tf.nn.softmax(s), v), tf.reduce_max(s)], feed) == (0, 0)
    assert recognised([tf.matmul(tf.nn.softmax(s), v), tf.matmul(tf.nn.softmax(s), q[:, :1] + tf.zeros([2, 64, 8]))], feed) == (0, 0)


def test_dropout():
    q, k, v, feed = small_case()
    p = tf.nn.softmax(tf.matmul(q, k, transpose_b=True))
    assert recognised(tf.matmul(tf.nn.dropout(p, 0.9), v), feed) == (0, 0)
    assert recognised(tf.matmul(tf.nn.dropout(p, 1.0), v), feed) == (1, 0)


def test_gradient_of_a_mask():
    """A learned bias needs the gradient of every score."""
    q, k, v, feed = small_case()
    bias = tf.placeholder(tf.float32, [48, 64])
    o = tf.matmul(tf.nn.softmax(tf.matmul(q, k, transpose_b=True) + bias), v)
    feed[bias] = draw(np.random.default_rng(17), 48, 64)
    assert recognised([o, *tf.gradients(o, [q, k, v])], feed) == (1, 1)
    fetches = [o, *tf.gradients(o, [q, k, v, bias])]
    assert recognised(fetches, feed) == (0, 0)
    close(run(fetches, feed), run(fetches, feed, optimize=0), factor=16)


def test_second_derivatives():
    q, k, v, feed = small_case(40, 40)
    o = tf.matmul(tf.nn.softmax(tf.matmul(q, k, transpose_b=True)), v)
    first, = tf.gradients(tf.reduce_sum(o * o), q)
    fetches = [o, first, *tf.gradients(tf.reduce_sum(first * first), [q, k, v])]
    close(run(fetches, feed), run(fetches, feed, optimize=0), factor=16)


@pytest.mark.parametrize("shape", [None, (16,), (40, 1), (2, 1, 1)], ids=str)
def test_gradients_of_what_is_the_same_in_all_columns_rows_or_everywhere(shape):
    """The sum of an attention, for one: what comes in is no matrix in memory."""
    rng = np.random.default_rng(0)
    arrays = [draw(rng, 2, n, 16) for n in (40, 48, 48)]
    q, k, v = given = [tf.placeholder(tf.float32, a.shape) for a in arrays]
    y = tf.matmul(tf.nn.softmax(tf.matmul(q, k, transpose_b=True)), v)
    dy = np.ones((), np.float32) if shape is None else draw(rng, *shape)
    loss = tf.reduce_sum(y) if shape is None else tf.reduce_sum(y * tf.constant(dy))
    fetches, feed = [y, *tf.gradients(loss, given)], dict(zip(given, arrays))
    assert recognised(fetches, feed) == (1, 1)
    close(run(fetches, feed), expected(*arrays, np.broadcast_to(dy, (2, 40, 16))), factor=4)


@pytest.mark.parametrize("wanted", ["q", "k", "qk", "kv"])
def test_some_gradients_only(wanted):
    q, k, v, feed = small_case()
    o = tf.matmul(tf.nn.softmax(tf.matmul(q, k, transpose_b=True)), v)
    dy = draw(np.random.default_rng(18), 2, 48, 8)
    found = tf.gradients(o, [dict(q=q, k=k, v=v)[n] for n in wanted], grad_ys=tf.constant(dy))
    assert recognised(found, feed) == (1, 1)
    close(run(found, feed), [expected(feed[q], feed[k], feed[v], dy)["qkv".index(n) + 1] for n in wanted], factor=4)


@pytest.mark.parametrize("change", ["small", "deep", "other axis", "float16"])
def test_not_worth_it_or_not_it(change):
    rng = np.random.default_rng(19)
    n, d, dtype = (16, 8, tf.float32) if change == "small" else (64, 300, tf.float32) if change == "deep" else (64, 8, tf.float32)
    dtype = tf.float16 if change == "float16" else dtype
    q, k, v = (tf.placeholder(dtype, [2, n, d]) for _ in range(3))
    feed = {t: draw(rng, 2, n, d).astype(dtype.as_numpy_dtype) for t in (q, k, v)}
    p = tf.nn.softmax(tf.matmul(q, k, transpose_b=True), axis=1 if change == "other axis" else -1)
    assert recognised(tf.matmul(p, v), feed) == (int(ON_GPU and change == "float16"), 0)


# ---------------------------------------------------------------- memory, reports


@pytest.mark.parametrize("masked", [False, True])
def test_peak_memory_is_below_one_matrix_of_scores(masked):
    """Length 2048, four heads, forward and backward: temporaries are less than the scores of one head."""
    n, d = 2048, 16
    q, k, v, dy = (tf.placeholder(tf.float32, [1, 4, n, d]) for _ in range(4))
    s = tf.matmul(q, k, transpose_b=True) * 0.25
    if masked:
        s = s + (1 - tf.matrix_band_part(tf.ones([n, n]), -1, 0)) * -1e9
    o = tf.matmul(tf.nn.softmax(s), v)
    feed = {t: np.zeros([1, 4, n, d], np.float32) for t in (q, k, v, dy)}
    memory = tf.explain([o, *tf.gradients(o, [q, k, v], grad_ys=dy)], feed).memory
    assert memory["temporaries"] + memory["results"] + memory["constants"] < n * n * 4


@pytest.mark.cpu_only(reason="tests/test_cuda_attention.py looks at the kernels of a GPU")
def test_explain_shows_it():
    arrays = operands(np.random.default_rng(20), (2,), 64, 64, 16)
    fetches, feed = graph_of(arrays)
    found = tf.explain(fetches, feed)
    text = str(found)
    assert "softmax(q k^T) v = attention" in text
    kernel, *gradient = [k for k in found.kernels if k.name.startswith("attention")]
    assert "Softmax" in kernel.ops and kernel.kind in ("attention", "attention (GPU)") and kernel.flops == 2 * 2 * 64 * 64 * 32
    assert gradient and all("gradient" in k.name and k.flops > kernel.flops for k in gradient)
