"""Special functions against SciPy, their gradients against central differences."""
from __future__ import annotations

import numpy as np
import pytest
from on_gpu import QUICK
import scipy.special as sp

import graphflow as tf
from graphflow.flags import flags

RNG = np.random.default_rng(0)
A, B, X = RNG.uniform(0.1, 30, 200), RNG.uniform(0.1, 30, 200), RNG.uniform(0.01, 60, 200)
UNIT, N = RNG.uniform(0, 1, 200), RNG.integers(0, 8, 200).astype(float)
SIGNED = np.concatenate([RNG.uniform(-80, 80, 200), [0.0, 30.0, -30.0, 700.0]])
EDGE_A, EDGE_X = np.array([1.0, 2.0, -1.0, 0.5, 3.0, 1e-3, 300.0]), np.array([0.0, np.inf, 1.0, -1.0, 1e3, 5.0, 310.0])


@pytest.fixture(autouse=True)
def _fresh():
    with flags.override(interpret=QUICK), tf.Graph().as_default():
        yield


def run(x):
    with tf.Session() as sess:
        return sess.run(x)


@pytest.mark.parametrize("fn,args,expected", [
    (tf.igamma, (A, X), sp.gammainc), (tf.igammac, (A, X), sp.gammaincc), (tf.betainc, (A, B, UNIT), sp.betainc),
    (tf.zeta, (A + 1, B), sp.zeta), (tf.polygamma, (N, B), lambda n, x: sp.polygamma(n.astype(int), x)),
    (tf.math.bessel_i0e, (SIGNED,), sp.i0e), (tf.math.bessel_i1e, (SIGNED,), sp.i1e), (tf.math.bessel_i0, (SIGNED / 2,), sp.i0),
    (tf.math.bessel_i1, (SIGNED / 2,), sp.i1), (tf.math.xlog1py, (N, UNIT), sp.xlog1py), (tf.math.nextafter, (A, B), np.nextafter)],
    ids=lambda f: getattr(f, "__name__", None))
def test_value(fn, args, expected):
    found = run(fn(*args))
    assert found.dtype == np.float64
    np.testing.assert_allclose(found, expected(*args), rtol=1e-11, atol=1e-280)
    single = run(fn(*[a.astype(np.float32) for a in args]))
    assert single.dtype == np.float32


def test_edges():
    np.testing.assert_allclose(run(tf.igamma(EDGE_A, EDGE_X)), sp.gammainc(EDGE_A, EDGE_X), rtol=1e-10)
    np.testing.assert_allclose(run(tf.igammac(EDGE_A, EDGE_X)), sp.gammaincc(EDGE_A, EDGE_X), rtol=1e-10)
    assert np.array_equal(run(tf.betainc([1.0, 1.0, -1.0], 2.0, [0.0, 1.0, 0.5])), [0, 1, np.nan], equal_nan=True)
    assert np.array_equal(run(tf.zeta([1.0, 0.5, 2.0], [2.0, 2.0, -3.0])), [np.inf, np.nan, np.inf], equal_nan=True)
    assert np.isnan(run(tf.polygamma(0.5, 2.0)))
    assert np.array_equal(run(tf.math.multiply_no_nan([np.inf, np.nan, 2.0], [0.0, 0.0, 3.0])), [0, 0, 6])
    assert np.array_equal(run(tf.math.reciprocal_no_nan([0.0, 4.0])), [0, 0.25])


@pytest.mark.parametrize("fn,args,slopes", [
    (tf.igamma, (A, X), (0, 1)), (tf.igammac, (A, X), (0, 1)), (tf.betainc, (A, B, UNIT), (2,)), (tf.zeta, (A + 1, B), (1,)),
    (tf.polygamma, (N, B), (1,))], ids=lambda f: getattr(f, "__name__", None))
@pytest.mark.filterwarnings("ignore:gradients")
def test_gradient(fn, args, slopes):
    args = [a[:20] for a in args]
    holders = [tf.placeholder(tf.float64, [20]) for _ in args]
    y = fn(*holders)
    grads = tf.gradients(y, holders)
    assert [g is not None for g in grads] == [k in slopes for k in range(len(args))]
    with tf.Session() as sess:
        for k in slopes:
            step = 1e-6 * np.maximum(1, np.abs(args[k]))
            ends = [sess.run(y, dict(zip(holders, [a + s * step if i == k else a for i, a in enumerate(args)]))) for s in (1, -1)]
            found = sess.run(grads[k], dict(zip(holders, args)))
            np.testing.assert_allclose(found, (ends[0] - ends[1]) / (2 * step), rtol=1e-5, atol=1e-8)


def test_shapes_and_errors():
    x = tf.placeholder(tf.float32, [None, 3])
    assert tf.igamma(x, tf.ones([3])).shape.as_list() == [None, 3]
    with pytest.raises(ValueError, match="must be equal|broadcast|incompatible"):
        tf.betainc(tf.ones([2]), tf.ones([3]), 0.5)
    with pytest.raises(TypeError, match="float64"):
        tf.igamma(tf.ones([2]), tf.ones([2], tf.float64))
    with pytest.raises(TypeError):
        tf.zeta(tf.constant([1]), tf.constant([2]))
