"""Candidate samplers and the sampled losses: distributions, expected counts, and losses from NumPy's formulas."""
from __future__ import annotations

import numpy as np
import pytest

import graphflow as tf


def run(*tensors):
    with tf.Session() as sess:
        return sess.run(list(tensors))


def log_uniform(n):
    k = np.arange(n)
    return np.log((k + 2) / (k + 1)) / np.log(n + 1)


COUNTS = np.array([5.0, 1, 0, 3, 1])
SAMPLERS = {
    "uniform": (lambda *a, **k: tf.nn.uniform_candidate_sampler(*a, 5, **k), np.full(5, 0.2)),
    "log_uniform": (lambda *a, **k: tf.nn.log_uniform_candidate_sampler(*a, 5, **k), log_uniform(5)),
    "fixed": (lambda *a, **k: tf.nn.fixed_unigram_candidate_sampler(*a, 5, unigrams=COUNTS, **k), COUNTS / COUNTS.sum())}


@pytest.mark.parametrize("kind", SAMPLERS)
def test_classes_come_as_often_as_promised(kind):
    sampler, p = SAMPLERS[kind]
    sampled, true, expected = run(*sampler(np.array([[0], [3]]), 1, 20000, False, seed=1))
    assert sampled.dtype == np.int64
    np.testing.assert_allclose(np.bincount(sampled, minlength=5) / 20000, p, atol=0.015)
    np.testing.assert_allclose(true, 20000 * p[[[0], [3]]], rtol=1e-5)
    np.testing.assert_allclose(expected, 20000 * p[sampled], rtol=1e-5)


@pytest.mark.parametrize("kind", SAMPLERS)
def test_different_classes(kind):
    sampler, p = SAMPLERS[kind]
    sampled, true, expected = sampler(np.array([[1]]), 1, 3, True)
    assert (sampled.shape, true.shape, expected.shape) == ((3,), (1, 1), (3,))
    with tf.Session() as sess:
        tries = set()
        for _ in range(30):
            s, t, e = sess.run([sampled, true, expected])
            assert len(set(s)) == 3
            assert set(s) <= set(np.flatnonzero(p))
            n = np.log1p(-t[0, 0]) / np.log1p(-p[1])  # the number of draws
            np.testing.assert_allclose(e, -np.expm1(n * np.log1p(-p[s])), rtol=1e-3)
            tries.add(round(float(n)))
        assert min(tries) == 3
        assert len(tries) > 1
    with pytest.raises(ValueError, match="different classes"):
        sampler(np.array([[1]]), 1, 6, True)


def test_seeds_and_bad_arguments():
    a, b = (tf.nn.uniform_candidate_sampler(np.array([[1]]), 1, 50, False, 1000, seed=3)[0] for _ in range(2))
    a_, b_ = run(a, b)
    np.testing.assert_array_equal(a_, b_)
    with pytest.raises(ValueError, match="num_true"):
        tf.nn.uniform_candidate_sampler(np.array([[1]]), 2, 3, True, 10)
    with pytest.raises(ValueError, match="either vocab_file or unigrams"):
        tf.nn.fixed_unigram_candidate_sampler(np.array([[1]]), 1, 3, True, 10)
    with pytest.raises(AttributeError, match="Did you mean 'relu'"):
        tf.nn.relu7


@pytest.fixture
def problem():
    rng = np.random.default_rng(0)
    w, b = rng.normal(size=(9, 4)).astype(np.float32), rng.normal(size=9).astype(np.float32)
    labels, x = rng.integers(0, 9, (3, 2)), rng.normal(size=(3, 4)).astype(np.float32)
    sampled = np.array([2, 5, int(labels[0, 0]), 7])
    counts = rng.random((3, 2)).astype(np.float32) + 0.1, rng.random(4).astype(np.float32) + 0.1
    return w, b, labels, x, (sampled, *counts)


def logits(w, b, labels, x, values):
    sampled, true, expected = values
    own = np.einsum("bd,btd->bt", x, w[labels]) + b[labels] - np.log(true)
    return own, x @ w[sampled].T + b[sampled] - np.log(expected), (labels[:, :, None] == sampled).any(1)


@pytest.mark.parametrize("parts", [1, 3])
@pytest.mark.parametrize("remove", [False, True])
def test_nce_loss(problem, remove, parts):
    w, b, labels, x, values = problem
    own, other, hits = logits(*problem)
    softplus = np.log1p(np.exp(other)) * (~hits if remove else 1)
    both = -0.5 * own * 1 + np.log1p(np.exp(own))  # the target of each of two true classes is 1/2
    table = [w[i::parts] for i in range(parts)] if parts > 1 else w
    biases = [b[i::parts] for i in range(parts)] if parts > 1 else b
    found, = run(tf.nn.nce_loss(table, biases, labels, x, 4, 9, 2, values, remove))
    np.testing.assert_allclose(found, both.sum(1) + softplus.sum(1), rtol=1e-4)


def test_sampled_softmax_loss(problem):
    w, b, labels, x, values = problem
    own, other, hits = logits(*problem)
    z = np.concatenate([own, np.where(hits, -np.inf, other)], 1)
    expected = np.log(np.exp(z).sum(1)) - own.mean(1)
    found, = run(tf.nn.sampled_softmax_loss(w, b, labels, x, 4, 9, 2, values))
    np.testing.assert_allclose(found, expected, rtol=1e-4)


def test_training_with_nce_loss():
    rng = np.random.default_rng(0)
    words = rng.integers(0, 20, 64)
    ids, labels = tf.placeholder(tf.int32, [None]), tf.placeholder(tf.int32, [None, 1])
    table = tf.Variable(tf.random_uniform([20, 8], -1.0, 1.0, seed=1))
    weights, biases = tf.Variable(tf.truncated_normal([20, 8], stddev=0.3, seed=2)), tf.Variable(tf.zeros([20]))
    loss = tf.reduce_mean(tf.nn.nce_loss(weights=weights, biases=biases, labels=labels, inputs=tf.nn.embedding_lookup(table, ids),
                                         num_sampled=5, num_classes=20))
    step = tf.train.GradientDescentOptimizer(1.0).minimize(loss)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        losses = [sess.run([loss, step], {ids: words, labels: (words[:, None] + 1) % 20})[0] for _ in range(40)]
    assert np.mean(losses[-5:]) < 0.6 * np.mean(losses[:5])
