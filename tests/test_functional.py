"""map_fn, scan, foldl, foldr, vectorized_map: values and gradients against loops in Python; compiled and by the interpreter."""
from __future__ import annotations

import functools

import numpy as np
import pytest

import graphflow as tf
from graphflow.flags import flags as switches


@pytest.fixture(autouse=True, params=[0, 1], ids=["compiled", "interpreted"])
def way(request):
    with switches.override(interpret=request.param):
        yield request.param


def run(fetches, feeds=None):
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        return sess.run(fetches, feeds)


X = np.random.default_rng(0).normal(size=(5, 3))


@pytest.fixture(params=["constant", "fed", "fed rows"])
def x(request):
    if request.param == "constant":
        return tf.constant(X)
    return tf.placeholder_with_default(X, [None, 3] if request.param == "fed rows" else [5, 3])


def close(found, wanted):
    assert np.shape(found) == np.shape(wanted)
    np.testing.assert_allclose(found, wanted, rtol=1e-12)


# ---------------------------------------------------------------- map_fn


def test_map_fn(x):
    y = tf.map_fn(lambda r: tf.cumsum(r) * 2.0, x)
    assert y.shape.as_list() == x.shape.as_list()
    close(run(y), np.cumsum(X, 1) * 2.0)


@pytest.mark.parametrize("fn, dtype, wanted", [
    (lambda r: tf.reduce_sum(r) > 0.0, tf.bool, X.sum(1) > 0),
    (lambda r: (r, tf.reduce_max(r)), (tf.float64, tf.float64), (X, X.max(1))),
    (lambda r: {"a": tf.cast(r, tf.float32), "b": [r[0]]}, {"a": tf.float32, "b": [tf.float64]},
     {"a": X.astype(np.float32), "b": [X[:, 0]]}),
    (lambda r: tf.tensordot(r[:, None], r[None], 1), tf.float64, X[:, :, None] * X[:, None, :]),
], ids=["dtype", "tuple", "dict", "other shape"])
def test_map_fn_results(fn, dtype, wanted):
    found = run(tf.map_fn(fn, X, dtype=dtype))
    flat = tf_flatten(found)
    for a, b in zip(flat, tf_flatten(wanted), strict=True):
        assert a.dtype == b.dtype
        close(a, b)
    assert type(found) is type(wanted)


def tf_flatten(s):
    if isinstance(s, dict):
        return [y for k in sorted(s) for y in tf_flatten(s[k])]
    return [y for v in s for y in tf_flatten(v)] if isinstance(s, (list, tuple)) else [s]


def test_map_fn_of_several(x):
    close(run(tf.map_fn(lambda t: t[0] * t[1]["k"], (x, {"k": tf.range(5.0, delta=1.0, dtype=tf.float64)}), dtype=tf.float64)),
          X * np.arange(5.0)[:, None])
    a, b = run(tf.map_fn(lambda t: (t[1], t[0] + 1.0), (x, x * 2.0)))
    close(a, X * 2.0)
    close(b, X + 1.0)


def test_map_fn_of_no_rows():
    rows = tf.placeholder(tf.float64, [None, 3])
    y = tf.map_fn(lambda r: r[:2] + 1.0, rows)
    assert run(y, {rows: X[:0]}).shape == (0, 2)
    close(run(y, {rows: X}), X[:, :2] + 1.0)


def test_map_fn_arguments():
    y = tf.map_fn(lambda r: r * 2.0, tf.constant(X), tf.float64, 1, False, True, False, "rows")
    assert y.op.name.startswith("rows/")
    close(run(y), X * 2.0)


def test_map_fn_reads_what_is_outside(x):
    w = tf.get_variable("w", [3, 2], tf.float64, initializer=tf.ones_initializer())
    close(run(tf.map_fn(lambda r: tf.reshape(tf.matmul(r[None], w), [2]), x)), np.stack([X.sum(1)] * 2, 1))


def test_nested_map_fn():
    close(run(tf.map_fn(lambda r: tf.map_fn(lambda e: e * e, r), tf.constant(X))), X * X)


@pytest.mark.parametrize("back_prop", [True, False])
def test_gradient_of_map_fn(x, back_prop):
    y = tf.map_fn(lambda r: tf.reduce_sum(r) * r, x, back_prop=back_prop)
    found = tf.gradients(y, x)[0]
    if not back_prop:
        assert found is None
    else:
        close(run(found), 2.0 * X.sum(1, keepdims=True) * np.ones((1, 3)))


@pytest.mark.parametrize("name", ["map_fn", "vectorized_map", "scan", "foldl", "foldr"])
def test_elements_are_checked(name):
    f = functools.partial(getattr(tf, name), (lambda r: r) if "map" in name else (lambda a, r: a))
    with pytest.raises(ValueError, match="must be a 1. dimensional Tensor, not a scalar"):
        f(3.0)
    with pytest.raises(ValueError, match="must be 1. dimensional Tensors, not scalars"):
        f((X, 3.0))
    with pytest.raises(ValueError, match="2 and 5|5 and 2"):
        f((X, X[:2]))
    with pytest.raises(TypeError, match="fn must be callable"):
        getattr(tf, name)(3, X)


def test_sparse_elements_are_refused():
    with pytest.raises(TypeError, match=r"SparseTensor\(input.indices, map_fn\(fn, input.values\)"):
        tf.map_fn(lambda r: r, tf.SparseTensor([[0, 0]], [1.0], [2, 2]))


def test_unequal_rows_when_it_runs():
    a, b = (tf.placeholder(tf.float64, [None]) for _ in range(2))
    y = tf.map_fn(lambda t: t[0] + t[1], (a, b), dtype=tf.float64)
    close(run(y, {a: [1.0], b: [2.0]}), [3.0])
    with pytest.raises(tf.errors.InvalidArgumentError, match="read from index 1|outside"):
        run(y, {a: [1.0, 2.0], b: [2.0]})


@pytest.mark.parametrize("error, text, make", [
    (ValueError, "structure", lambda: tf.map_fn(lambda t: t[0], (X, X))),
    (ValueError, "structure", lambda: tf.map_fn(lambda r: [r], X)),
    (TypeError, "float64.*float32", lambda: tf.map_fn(lambda r: tf.cast(r, tf.float32), X)),
    (ValueError, "structure", lambda: tf.scan(lambda a, r: [a], X)),
    (TypeError, "float64.*float32", lambda: tf.scan(lambda a, r: tf.cast(a, tf.float32), X)),
    (ValueError, r"\(6,\).*\(3,\)", lambda: tf.scan(lambda a, r: tf.concat([a, a], 0), X)),
    (ValueError, "not an invariant", lambda: tf.foldl(lambda a, r: tf.concat([a, a], 0), X)),
    (TypeError, "dtype", lambda: tf.foldr(lambda a, r: tf.cast(a, tf.float32), X)),
], ids=lambda x: x if isinstance(x, str) else "")
def test_results_are_checked(error, text, make):
    with pytest.raises(error, match=f"(?s){text}"):
        make()


# ---------------------------------------------------------------- scan, folds


def scanned(fn, rows, start=None, reverse=False):
    rows = list(rows)[::-1] if reverse else list(rows)
    found = [rows.pop(0)] if start is None else []
    for r in rows:
        found.append(fn(found[-1] if found else start, r))
    return np.stack(found[::-1] if reverse else found)


@pytest.mark.parametrize("reverse", [False, True])
@pytest.mark.parametrize("start", [None, np.array([1.0, -1.0, 0.5])])
def test_scan(x, start, reverse):
    y = tf.scan(lambda a, r: a * 0.5 + r, x, start, reverse=reverse)
    assert y.shape.as_list() == x.shape.as_list()
    close(run(y), scanned(lambda a, r: a * 0.5 + r, X, start, reverse))


@pytest.mark.parametrize("reverse", [False, True])
def test_scan_of_another_structure(x, reverse):
    a, b = run(tf.scan(lambda a, r: (a[0] + tf.reduce_sum(r), a[1] * 2), x, (np.float64(0.5), 1), reverse=reverse))
    close(a, scanned(lambda s, r: s + r.sum(), X, 0.5, reverse))
    assert b.tolist() == ([2, 4, 8, 16, 32][::-1] if reverse else [2, 4, 8, 16, 32])


def test_scan_of_several():
    total, product = run(tf.scan(lambda a, r: (a[0] + r[0], a[1] * r[1]), (X, X)))
    close(total, np.cumsum(X, 0))
    close(product, np.cumprod(X, 0))


def test_scan_of_no_rows():
    rows = tf.placeholder(tf.float64, [None, 3])
    assert run(tf.scan(lambda a, r: a + r, rows, np.zeros(3)), {rows: X[:0]}).shape == (0, 3)
    with pytest.raises(tf.errors.InvalidArgumentError, match="read from"):
        run(tf.scan(lambda a, r: a + r, rows), {rows: X[:0]})


@pytest.mark.parametrize("reverse", [False, True])
def test_gradient_of_scan(x, reverse):
    """Of sum_t y_t with y_t = y_(t-1) / 2 + x_t: each row counts 1 + 1/2 + 1/4 + ... times."""
    found = run(tf.gradients(tf.scan(lambda a, r: a * 0.5 + r, x, reverse=reverse), x)[0])
    weights = 2.0 - 0.5 ** np.arange(4.0, -1.0, -1.0)
    close(found, np.repeat((weights[::-1] if reverse else weights)[:, None], 3, 1))


@pytest.mark.parametrize("start", [None, np.array([1.0, -1.0, 0.5])])
@pytest.mark.parametrize("name", ["foldl", "foldr"])
def test_folds(x, name, start):
    y = getattr(tf, name)(lambda a, r: a * 0.5 - r, x, start)
    assert y.op.name.startswith(name)
    close(run(y), scanned(lambda a, r: a * 0.5 - r, X, start, name == "foldr")[0 if name == "foldr" else -1])


@pytest.mark.parametrize("name", ["foldl", "foldr"])
def test_folds_of_structures(name):
    found = run(getattr(tf, name)(lambda a, r: [a[0] + r[0], tf.minimum(a[1], r[1])], [X, X]))
    close(found[0], X.sum(0))
    close(found[1], X.min(0))
    assert run(getattr(tf, name)(lambda a, r: a + tf.reduce_sum(r), X, np.float64(2.0))) == pytest.approx(2.0 + X.sum())


@pytest.mark.parametrize("name", ["foldl", "foldr"])
def test_folds_of_no_rows(name):
    close(run(getattr(tf, name)(lambda a, r: a + r, X[:0], np.ones(3))), np.ones(3))


# ---------------------------------------------------------------- vectorized_map


def test_vectorized_map(x):
    found = run(tf.vectorized_map(lambda r: {"s": tf.reduce_sum(r), "p": [r > 0.0, tf.constant(3)]}, x))
    close(found["s"], X.sum(1))
    close(found["p"][0], X > 0)
    close(found["p"][1], np.full(5, 3))


def test_vectorized_map_calls_once_and_reads_what_is_outside():
    calls = []
    w = tf.get_variable("w", [3], tf.float64, initializer=tf.constant_initializer(2.0))

    def fn(t):
        calls.append(t)
        return t[0] * w + t[1]
    y = tf.vectorized_map(fn, (tf.constant(X), tf.constant(X)))
    assert y.shape.as_list() == [5, 3]
    close(run(y), X * 3.0)
    assert len(calls) == 1


def test_gradient_of_vectorized_map(x):
    close(run(tf.gradients(tf.vectorized_map(lambda r: tf.reduce_sum(r * r), x), x)[0]), 2.0 * X)


# ---------------------------------------------------------------- masks


@pytest.mark.parametrize("lengths, maxlen, dtype", [
    ([1, 3, 0], None, tf.bool), ([1, 3, 0], 5, tf.float32), ([[1], [3]], 2, tf.int32), (2, 4, tf.bool)])
def test_sequence_mask(lengths, maxlen, dtype):
    found = run(tf.sequence_mask(lengths, maxlen, dtype))
    top = np.max(lengths) if maxlen is None else maxlen
    wanted = np.arange(top) < np.asarray(lengths)[..., None]
    assert found.dtype == dtype.as_numpy_dtype
    np.testing.assert_array_equal(found, wanted.astype(found.dtype))


def test_sequence_mask_of_a_vector_of_lengths():
    with pytest.raises(ValueError, match="maxlen must be scalar"):
        tf.sequence_mask([1, 2], [3])


@pytest.mark.parametrize("seq, batch", [(1, 0), (0, 1)])
def test_reverse_sequence(seq, batch):
    x = np.arange(12).reshape(3, 4)
    lengths = [2, 0, 4] if batch == 0 else [2, 0, 3, 1]
    wanted = np.moveaxis(x.copy(), batch, 0)
    for row, n in zip(wanted, lengths):
        row[:n] = row[:n][::-1]
    np.testing.assert_array_equal(run(tf.reverse_sequence(x, lengths, seq_axis=seq, batch_axis=batch)), np.moveaxis(wanted, 0, batch))
    np.testing.assert_array_equal(run(tf.reverse_sequence(x, lengths, seq_dim=seq, batch_dim=batch)), np.moveaxis(wanted, 0, batch))


@pytest.mark.parametrize("lengths", [[5, 1, 1], [-1, 1, 1]])
def test_reverse_sequence_past_the_axis(lengths):
    with pytest.raises(tf.errors.InvalidArgumentError, match="seq_lens"):
        run(tf.reverse_sequence(np.arange(12).reshape(3, 4), lengths, seq_axis=1))
