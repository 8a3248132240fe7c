"""Attention on an emulated GPU: values and gradients against NumPy in float64, masks, edges, what is left alone.

Sizes are unknown to the kernels in most tests, so that one text serves several of them.  The emulator refuses accesses out of bounds,
races and unwritten results in each of these runs.
"""
from __future__ import annotations

import numpy as np
import pytest
import test_cuda_gemm
from on_gpu import a_gpu
from test_attention import CAUSAL, close, draw, expected, operands, softmax, triangle

import graphflow as tf
from graphflow import types
from graphflow.codegen.cuda import attention, ptx, texts
from graphflow.codegen.ir import Buffer
from graphflow.flags import flags
from graphflow.ops.attention import attention as attention_op
from graphflow.ops.attention import attention_grad
from graphflow.testing import emulated_gpu
from graphflow.testing import ptx as emulator


@pytest.fixture(autouse=True)
def gpu():
    with tf.Graph().as_default(), a_gpu(), flags.override(interpret=0):
        yield


@pytest.fixture
def small(monkeypatch):
    """Tiles of 32 x 16 scores by two warps: many of them for short sequences, and texts that compile quickly."""
    monkeypatch.setattr(attention, "FORMS", (attention.Form(32, 16, 2),))


small_tiles = pytest.mark.usefixtures("small")


def graph_of(arrays, change=lambda s: s, known=(), gradients=True):
    """(fetches, placeholders) of output and gradients, as people write them; sizes of batch, queries and keys are unknown."""
    shapes = [[None] * (a.ndim - 1) + [a.shape[-1]] if not known else a.shape for a in arrays]
    q, k, v, dy = given = [tf.placeholder(a.dtype, s) for a, s in zip(arrays, shapes)]
    o = tf.matmul(tf.nn.softmax(change(tf.matmul(q, k, transpose_b=True))), v)
    return [o, *(tf.gradients(o, [q, k, v], grad_ys=dy) if gradients else [])], given


def kernels_of(fetches, feed):
    return [k.source.split("\n")[0][2:] for k in tf.explain(fetches, feed).kernels]


def fused(fetches, feed):
    return any(k.startswith("attention") for k in kernels_of(fetches, feed))


# ---------------------------------------------------------------- values


@pytest.mark.parametrize("d, e", [(40, 64), (5, 33)])
def test_value_and_gradients(request, d, e):
    """Depths that fill accesses of 16 bytes and such that do not; edges of tiles; several batches of one text."""
    if d == 40:
        request.getfixturevalue("small")
    rng = np.random.default_rng(0)
    scale, first = d ** -0.5, operands(rng, (2,), 40, 35, d, e)
    fetches, given = graph_of(first, lambda s: s * scale)
    with tf.Session() as sess:
        for b, m, n in ((2, 40, 35), (1, 65, 31)):
            arrays = operands(rng, (b,), m, n, d, e)
            close(sess.run(fetches, dict(zip(given, arrays))), expected(*arrays, scale=scale), factor=4)
        memory = tf.explain(fetches, dict(zip(given, first)), sess).memory
    assert memory["temporaries"] < 2 * 40 * 35 * 4  # there is no array of scores


def test_the_deepest():
    arrays = operands(np.random.default_rng(0), (1,), 33, 32, 128)
    fetches, given = graph_of(arrays, lambda s: s * 0.1, known=True, gradients=False)
    assert kernels_of(fetches, dict(zip(given, arrays))) == ["attention f32 64x32, depth 128"]
    with tf.Session() as sess:
        close(sess.run(fetches, dict(zip(given, arrays))), expected(*arrays, scale=0.1)[:1], factor=4)


@small_tiles
def test_sizes_of_nothing_and_of_one():
    rng = np.random.default_rng(1)
    fetches, given = graph_of(operands(rng, (2,), 40, 40, 8))
    with tf.Session() as sess:
        for b, m, n in ((2, 40, 40), (0, 8, 8), (2, 0, 5), (2, 5, 0), (1, 1, 1)):
            arrays = operands(rng, (b,), m, n, 8)
            if n:
                close(sess.run(fetches, dict(zip(given, arrays))), expected(*arrays), factor=4)
            else:
                o, dq, dk, dv = sess.run(fetches, dict(zip(given, arrays)))
                assert not o.any() and not dq.any() and dk.size == dv.size == 0


@small_tiles
def test_float64():
    arrays = operands(np.random.default_rng(2), (2,), 33, 40, 12, 6, np.float64)
    fetches, given = graph_of(arrays, lambda s: s * 0.3)
    assert fused(fetches, dict(zip(given, arrays)))
    with tf.Session() as sess:
        close(sess.run(fetches, dict(zip(given, arrays))), expected(*arrays, scale=0.3), np.float64, 4)


# ---------------------------------------------------------------- masks


@small_tiles
def test_causal():
    """Hidden tiles are neither read nor computed, in all three kernels."""
    m, spent = 70, []
    arrays = operands(np.random.default_rng(12), (1,), m, m, 4)
    keep = triangle(m, m)
    for hidden in (False, True):
        mask = np.where(keep, 0, -np.inf if hidden else 0).astype(np.float32)
        fetches, given = graph_of(arrays, lambda s: s + mask, known=True)
        with emulated_gpu() as gpu, tf.Session() as sess:
            found = sess.run(fetches, dict(zip(given, arrays)))
            spent.append(gpu.counters.instructions)
    close(found, expected(*arrays, lambda s: np.where(keep, s, -np.inf), keep), factor=4)
    assert spent[1] < 0.8 * spent[0]


@small_tiles
@pytest.mark.parametrize("form", CAUSAL)
def test_every_way_to_write_a_causal_mask(form):
    arrays = operands(np.random.default_rng(12), (2, 3), 40, 40, 8)
    fetches, given = graph_of(arrays, lambda s: CAUSAL[form](s, 40, 40), known=True, gradients=False)
    keep = triangle(40, 40)
    with tf.Session() as sess:
        close(sess.run(fetches, dict(zip(given, arrays))), expected(*arrays, lambda s: np.where(keep, s, -np.inf))[:1], factor=4)


@small_tiles
def test_causal_tiles_are_not_left_out_where_they_matter():
    """Rows whose visible scores are all as low as the hidden ones give what the plain form gives."""
    m = n = 60
    arrays = list(operands(np.random.default_rng(13), (1, 1), m, n, 4))
    arrays[1][..., 0] = 1 + np.abs(arrays[1][..., 0])
    arrays[0][..., 5:9, :] = -1200, 0, 0, 0
    fetches, given = graph_of(arrays, lambda s: tf.where(tf.constant(triangle(m, n)[None, None]), s, tf.fill([1, 1, m, n], -1000.0)),
                              known=True)
    keep = triangle(m, n)
    want = expected(*arrays, lambda s: np.where(keep, s, -1000.0), keep)
    assert abs(want[0][0, 0, 5] - arrays[2][0, 0, 6:].mean(0)).max() < 1e-3  # the hidden keys share the weight
    with tf.Session() as sess:
        close(sess.run(fetches, dict(zip(given, arrays))), want, factor=8)


@small_tiles
def test_masks():
    """Masks that broadcast over some axes, of floats and booleans; rows that lose all their keys share the weight among them."""
    rng = np.random.default_rng(4)
    m, n = 37, 70
    arrays = operands(rng, (2, 2), m, n, 8)
    added, factor, held = draw(rng, 2, 1, 1, n), draw(rng, 2, 1, m, 1), rng.random((1, 1, m, n)) < 0.2
    masks = [tf.placeholder(tf.as_dtype(a.dtype), [None if s > 1 else 1 for s in a.shape]) for a in (added, factor, held)]
    everywhere, low = tf.broadcast_to(masks[2], [2, 2, m, n]), tf.fill([2, 2, m, n], -1e4)
    fetches, given = graph_of(arrays, lambda s: tf.where(everywhere, s * masks[1] + masks[0], low) * 0.5, known=True)
    feed = {**dict(zip(given, arrays)), **dict(zip(masks, (added, factor, held)))}
    assert fused(fetches, feed)
    full = np.broadcast_to(held, (2, 2, m, n))
    with tf.Session() as sess:
        close(sess.run(fetches, feed), expected(*arrays, lambda s: np.where(full, s * factor + added, -1e4) * 0.5, full * factor * 0.5),
              factor=8)


@small_tiles
def test_rows_without_any_key_are_nan():
    rng = np.random.default_rng(14)
    arrays = operands(rng, (2,), 40, 60, 8)
    keep = rng.random((2, 40, 60)) < 0.8
    keep[0, 3], keep[1, 39] = False, False
    keep[1, 4, :50] = False  # three whole tiles, but not the row
    mask = np.where(keep, 0, -np.inf).astype(np.float32)
    t = tf.placeholder(tf.float32, [None, None, None])
    fetches, given = graph_of(arrays, lambda s: s + t)
    with tf.Session() as sess:
        found = sess.run(fetches, {**dict(zip(given, arrays)), t: mask})
    for a, w in zip(found, expected(*arrays, lambda s: s + mask)):
        assert np.array_equal(np.isnan(a), np.isnan(w))
        np.testing.assert_allclose(a, w, atol=2e-5)
    assert np.isnan(found[0][0, 3]).all() and not np.isnan(found[0][1, 4]).any()


@small_tiles
def test_infinite_and_nan_scores():
    """The same numbers are NaN as in the plain form: not those of rows whose scores are merely huge."""
    arrays = list(operands(np.random.default_rng(15), (1,), 40, 40, 4))
    arrays[0][0, 2], arrays[0][0, 7, 1] = 1e37, np.nan
    fetches, given = graph_of(arrays)
    with np.errstate(all="ignore"), tf.Session() as sess:
        found = sess.run(fetches, dict(zip(given, arrays)))
        for a, w in zip(found, expected(*arrays)):
            assert np.array_equal(np.isnan(a), np.isnan(w))


# ---------------------------------------------------------------- operands where they lie


def test_heads_are_read_where_they_lie():
    """One array holds queries, keys and values of all heads; nothing copies them apart."""
    rng = np.random.default_rng(5)
    x = draw(rng, 2, 40, 96)
    t = tf.placeholder(tf.float32, [None, 40, 96])
    q, k, v = (tf.transpose(tf.reshape(p, [-1, 40, 4, 8]), [0, 2, 1, 3]) for p in tf.split(t, 3, axis=-1))
    o = tf.matmul(tf.nn.softmax(tf.matmul(q, k, transpose_b=True) / np.sqrt(8.0)), v)
    assert kernels_of([o], {t: x}) == ["attention f32 64x64, depth 8"]
    parts = [p.reshape(2, 40, 4, 8).swapaxes(1, 2) for p in np.split(x.astype(np.float64), 3, -1)]
    with tf.Session() as sess:
        close([sess.run(o, {t: x})], [softmax(parts[0] @ parts[1].swapaxes(-1, -2) / np.sqrt(8)) @ parts[2]], factor=4)


@small_tiles
def test_keys_stored_transposed_and_shared_by_heads():
    """Columns that are not side by side are copied before; the gradients of shared keys are sums over the heads."""
    rng = np.random.default_rng(8)
    q, k, v, dy = draw(rng, 2, 3, 40, 8), draw(rng, 2, 1, 40, 8), draw(rng, 2, 1, 40, 8), draw(rng, 2, 3, 40, 8)
    given = (q, np.swapaxes(k, 2, 3), v, dy)
    tq, tk, tv, tdy = (tf.placeholder(tf.float32, a.shape) for a in given)
    o = tf.matmul(tf.nn.softmax(tf.matmul(tq, tk)), tv)
    fetches, feed = [o, *tf.gradients(o, [tq, tk, tv], grad_ys=tdy)], dict(zip((tq, tk, tv, tdy), given))
    assert fused(fetches, feed)
    o, dq, dk, dv = expected(q, k, v, dy)
    with tf.Session() as sess:
        close(sess.run(fetches, feed), [o, dq, np.swapaxes(dk.sum(1, keepdims=True), 2, 3), dv.sum(1, keepdims=True)], factor=8)


def launches_of(dtype, shape, d, gradient=False, **attrs):
    """(launches, tensors with their buffers) of an op on queries, keys and values of `shape` rows each."""
    b, m, n = shape
    acc = dtype.compute
    q, k, v = (tf.placeholder(dtype, [b, r, d]) for r in (m, n, n))
    more = [tf.placeholder(acc, [b, m]), tf.placeholder(acc, [b, m]), tf.placeholder(dtype, [b, m, d])] if gradient else []
    op = (attention_grad if gradient else attention_op)(q, k, v, *more, **attrs)[0].op
    stored = {t: Buffer(t.dtype, t.sizes, "in", t.op.name) for t in op.inputs}
    stored.update({t: Buffer(t.dtype, t.sizes, "out", "result") for t in op.outputs})
    return attention.kernels("k", op, stored), [(t, stored[t]) for t in op.inputs], [stored[t] for t in op.outputs]


def emulated(launch, known, results):
    """The results of one launch, and its counters."""
    memory = emulator.Memory(1 << 24)
    address = {b: memory.store(a) for b, a in known.items()}
    address.update({b: memory.allocate(int(np.prod(b.sizes)) * b.dtype.size) for b in results})
    values = [*(address[b] for b in launch.buffers), *(types.evaluate(s, {}) for s in launch.sizes)]
    grid = tuple(types.evaluate(g, {}) for g in launch.grid)
    counters = emulator.launch(ptx.compile_ptx(launch.source), memory, grid, launch.threads, values, texts.room(launch.source))
    return [memory.read(address[b], b.dtype.np, b.sizes) for b in results if b in launch.writes], counters


def test_indices_of_64_bits():
    """The text for large arrays gives what the other one does; no bank of shared memory is asked twice at once."""
    arrays = operands(np.random.default_rng(9), (2,), 20, 40, 40)
    (launch,), inputs, results = launches_of(types.float32, (2, 20, 40), 40, scale=0.5, steps=(("add", (0, 0.0, -1e9), None),))
    known = {b: a for (_, b), a in zip(inputs, arrays)}
    (found, counters), (other, _) = (emulated(k, known, results) for k in (launch, launch.widened()))
    assert "to_i64" in launch.widened().source and all(map(np.array_equal, found, other)) and not counters.bank_conflicts
    keep = triangle(20, 40)
    close(found[:1], expected(*arrays, lambda s: np.where(keep, s, -np.inf), scale=0.5)[:1], factor=4)


# ---------------------------------------------------------------- tensor cores


def rounded(a, dtype):
    return types.bf16_decode(types.bf16_encode(a)) if dtype is tf.bfloat16 else a.astype(dtype.as_numpy_dtype)


def near(found, wanted, share):
    for a, w in zip(found, wanted, strict=True):
        assert a.shape == w.shape
        np.testing.assert_allclose(np.asarray(a, np.float64), w, rtol=0, atol=share * max(1.0, abs(w).max()))


@pytest.mark.parametrize("dtype, d, e, share", [(tf.float16, 40, 64, 2e-3), (tf.bfloat16, 7, 9, 1e-2)])
def test_16_bits(dtype, d, e, share):
    """A causal mask, and one that adds; rows of even and odd lengths.  Results are as near as rounding to the dtype lets them be."""
    m, n = 36, 70
    arrays = [rounded(a, dtype) for a in operands(np.random.default_rng(16), (2,), m, n, d, e)]
    added = rounded(draw(np.random.default_rng(17), 2, 1, n), dtype)
    q, k, v, dy, mask = given = [tf.placeholder(dtype, a.shape) for a in (*arrays, added)]
    scores = tf.matmul(q, k, transpose_b=True) * 0.25 + mask
    o = tf.matmul(tf.nn.softmax(tf.where(tf.constant(np.broadcast_to(triangle(m, n, 3), (2, m, n))), scores, tf.fill([2, m, n], tf.cast(
        -np.inf, dtype)))), v)
    fetches, feed = [o, *tf.gradients(o, [q, k, v], grad_ys=dy)], dict(zip(given, (*arrays, added)))
    assert fused(fetches, feed)
    keep = triangle(m, n, 3)
    with tf.Session() as sess:
        near(sess.run(fetches, feed), expected(*arrays, lambda s: np.where(keep, s + added.astype(np.float64), -np.inf), keep, 0.25), share)


def test_float32_rounded_for_tensor_cores_behind_a_flag():
    arrays = operands(np.random.default_rng(18), (1,), 40, 70, 24, 40)
    fetches, given = graph_of(arrays, lambda s: s * 0.2)
    feed = dict(zip(given, arrays))
    with flags.override(tf32=1), tf.Session() as sess:
        assert "attention tf32 64x64, depth 24 and 40" in kernels_of(fetches, feed)
        near(sess.run(fetches, feed), expected(*arrays, scale=0.2), 2e-3)


def test_warps_of_32_rows(monkeypatch):
    """What many rows of queries get: here for few, with a ragged end."""
    monkeypatch.setattr(attention, "BLOCKS", 1)
    shape, d = (1, 150, 70), 16
    arrays = [rounded(a, tf.float16) for a in operands(np.random.default_rng(19), (1,), *shape[1:], d)]
    (launch,), inputs, results = launches_of(types.float16, shape, d, scale=0.25)
    assert "attention f16 128x64, depth 16" in launch.source
    (out, logsum), counters = emulated(launch, {b: a for (_, b), a in zip(inputs, arrays)}, results)
    assert not counters.bank_conflicts and logsum.dtype == np.float32
    near([out], expected(*arrays, scale=0.25)[:1], 2e-3)


# ---------------------------------------------------------------- machine code


@test_cuda_gemm.ptxas
@pytest.mark.parametrize("dtype, d, most", [("float32", 64, (128, 168, 224)), ("bfloat16", 128, (255, 168, 255))])
def test_no_kernel_spills(dtype, d, most, tmp_path):
    """Registers of the forward kernel and both of the gradient, and what their main loops multiply."""
    dtype = types.as_dtype(dtype)
    for k, registers in zip([launches_of(dtype, (32, 1024, 1024), d, g, scale=0.125)[0] for g in (False, True)], (most[:1], most[1:])):
        for launch, limit in zip(k, registers, strict=True):
            used, spills = test_cuda_gemm.assembled(launch.source, tmp_path)
            assert used <= limit and spills == 0, launch.source.splitlines()[0]
    if dtype is types.bfloat16:
        loop = test_cuda_gemm.main_loop(tmp_path)
        assert sum(n for name, n in loop.items() if name.startswith("HMMA")) == 128


# ---------------------------------------------------------------- which attention


def test_it_runs_where_its_ops_do():
    """On the CPU by the CPU's kernel; not at all where the ops are on both; nor where rows are too long for a GPU."""
    arrays = operands(np.random.default_rng(6), (2,), 40, 40, 8)
    with tf.device("/cpu:0"):
        fetches, given = graph_of(arrays, gradients=False)
    feed = dict(zip(given, arrays))
    assert [k.name for k in tf.explain(fetches, feed).kernels] == ["attention_f32"]
    q, k, v, _ = given
    with tf.device("/gpu:0"):
        scores = tf.matmul(q, k, transpose_b=True)
    with tf.device("/cpu:0"):
        p = tf.nn.softmax(scores)
    o = tf.matmul(p, v)
    assert not fused(o, feed)
    with tf.Session() as sess:
        close([sess.run(o, feed)], expected(*arrays)[:1], factor=4)
    deep = operands(np.random.default_rng(7), (1,), 40, 40, 200)
    fetches, given = graph_of(deep, gradients=False)
    assert not fused(fetches, dict(zip(given, deep)))


def test_inside_a_loop_it_is_left_alone():
    x, k, v = (tf.placeholder(tf.float32, [2, 40, 8]) for _ in range(3))

    def turn(i, x):
        return i + 1, tf.matmul(tf.nn.softmax(tf.matmul(x, k, transpose_b=True)), v)
    _, o = tf.while_loop(lambda i, x: i < tf.shape(v)[1], turn, [0, x])
    assert not fused(o, {t: np.zeros((2, 40, 8), np.float32) for t in (x, k, v)})
