"""The kernels of a few dozen clusters, kept as text under tests/golden, and what must be true of them.

A change of the compiler shows as a difference of these files: `python tests/test_golden.py --update` writes them again,
and the commit shows what changed.
"""
from __future__ import annotations

import pathlib
import sys

import numpy as np
import pytest

import graphflow as tf

pytestmark = pytest.mark.cpu_only(reason="texts of its kernels; those of a GPU are in tests/test_cuda_static.py")
FOLDER = pathlib.Path(__file__).parent / "golden"
CLUSTERS: dict[str, object] = {}


def cluster(fn):
    """Registers a function that builds a graph and returns (fetches, feeds)."""
    CLUSTERS[fn.__name__] = fn
    return fn


def feed(shape, dtype=tf.float32, static=None):
    """A placeholder whose first dimension is unknown, and an array for it."""
    t = tf.placeholder(dtype, [None, *shape[1:]] if static is None else static)
    return t, np.zeros(shape, t.dtype.as_numpy_dtype)


def kernels(build):
    """The kernels of a cluster, as explained."""
    with tf.Graph().as_default():
        fetches, feeds = build()
        return tf.explain(fetches, dict([feeds] if isinstance(feeds, tuple) else feeds)).kernels


def text(build):
    """The texts, without products, whose tiles depend on the machine, and host ops."""
    def one(k):
        return k.source if k.source and k.ir != "None" else f"# {k.kind}: {', '.join(k.ops)}\n"

    return "\n\n".join(dict.fromkeys(map(one, kernels(build))))


# ---------------------------------------------------------------- clusters


@cluster
def chain():
    x, a = feed((100, 20))
    y = x
    for k in range(6):
        y = tf.tanh(y * 1.5 + 0.25) if k % 2 else tf.maximum(y - 0.5, y * 0.1)
    return y, (x, a)


@cluster
def chain_of_19():
    x, a = feed((1000, 20))
    y = x
    for _ in range(6):
        y = tf.exp(-tf.square(y) * 0.5)  # 4 ops
    return y * 1.5, (x, a)


@cluster
def softmax():
    x, a = feed((100, 10))
    return tf.nn.softmax(x), (x, a)


@cluster
def log_softmax():
    x, a = feed((100, 10))
    return tf.nn.log_softmax(x), (x, a)


@cluster
def layer_norm():
    x, a = feed((100, 64))
    mean, variance = tf.nn.moments(x, [1], keep_dims=True)
    gamma, beta = tf.Variable(tf.ones([64])), tf.Variable(tf.zeros([64]))
    return (x - mean) * tf.rsqrt(variance + 1e-6) * gamma + beta, (x, a)


@cluster
def moments_of_the_first_axis():
    x, a = feed((100, 64))
    return tf.nn.moments(x, [0]), (x, a)


@cluster
def bias_and_relu():
    x, a = feed((100, 64))
    return tf.nn.relu(x + tf.Variable(tf.zeros([64]))), (x, a)


@cluster
def transpose_and_add():
    x, a = feed((100, 64))
    return tf.transpose(x) + 1.0, (x, a)


@cluster
def transpose_of_three():
    x, a = feed((10, 20, 30))
    return tf.transpose(x, [2, 0, 1]) * 2.0, (x, a)


@cluster
def sum_of_the_last_axis():
    x, a = feed((100, 64))
    return tf.reduce_sum(x, 1), (x, a)


@cluster
def sum_of_the_first_axis():
    x, a = feed((100, 64))
    return tf.reduce_sum(x, 0), (x, a)


@cluster
def sum_of_the_middle_axis():
    x, a = feed((10, 20, 30))
    return tf.reduce_sum(x, 1), (x, a)


@cluster
def sum_of_everything():
    x, a = feed((1000, 200))
    return tf.reduce_sum(tf.square(x)), (x, a)


@cluster
def largest_and_mean():
    x, a = feed((100, 64))
    return [tf.reduce_max(x, 1), tf.reduce_mean(x, 1)], (x, a)


@cluster
def matrix_product():
    x, a = feed((128, 64))
    return tf.nn.relu(tf.matmul(x, tf.Variable(tf.zeros([64, 32]))) + tf.Variable(tf.zeros([32]))), (x, a)


@cluster
def small_product():
    x, a = feed((4, 3))
    return tf.matmul(x, tf.Variable(tf.zeros([3, 2]))), (x, a)


@cluster
def convolution():
    x, a = feed((8, 12, 12, 3))
    return tf.nn.conv2d(x, tf.Variable(tf.zeros([3, 3, 3, 8])), [1, 1, 1, 1], "SAME"), (x, a)


@cluster
def max_pool():
    x, a = feed((8, 12, 12, 3))
    return tf.nn.max_pool(x, [1, 2, 2, 1], [1, 2, 2, 1], "SAME"), (x, a)


@cluster
def gather():
    i, a = feed((100,), tf.int32)
    return tf.gather(tf.Variable(tf.zeros([50, 8])), i) * 2.0, (i, a)


@cluster
def scatter_add():
    i, a = feed((100,), tf.int32)
    return tf.scatter_add(tf.Variable(tf.zeros([50, 8])), i, tf.ones([tf.shape(i)[0], 8])), (i, a)


@cluster
def segment_sum():
    i, a = feed((100,), tf.int32)
    x, b = feed((100, 8))
    return tf.unsorted_segment_sum(tf.exp(x), i, 10), [(i, a), (x, b)]


@cluster
def running_sum():
    x, a = feed((100, 8))
    return tf.cumsum(x * 2.0, 1, exclusive=True), (x, a)


@cluster
def adam():
    x, a = feed((32, 8))
    w = tf.Variable(tf.zeros([8]), name="w")
    return tf.train.AdamOptimizer(0.01).minimize(tf.reduce_sum(x * w)), (x, a)


@cluster
def cross_entropy_and_gradient():
    x, a = feed((64, 10))
    labels, b = feed((64,), tf.int32)
    loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=x))
    return [loss, tf.gradients(loss, x)[0]], [(x, a), (labels, b)]


@cluster
def normal_and_dropout():
    x, a = feed((64, 10))
    return [tf.random_normal([4], seed=1), tf.nn.dropout(x, keep_prob=0.5, seed=2)], (x, a)


@cluster
def one_hot():
    i, a = feed((64,), tf.int32)
    return tf.one_hot(i, 10), (i, a)


@cluster
def concat():
    x, a = feed((64, 10))
    return tf.concat([x, x * 2.0, x[:, :3]], 1), (x, a)


@cluster
def pad():
    x, a = feed((64, 10))
    return tf.pad(x, [[0, 0], [2, 3]]) + 1.0, (x, a)


@cluster
def strided_slice():
    x, a = feed((64, 10))
    return x[:, 8:1:-2] * 2.0, (x, a)


@cluster
def argmax():
    x, a = feed((64, 10))
    return tf.argmax(x, 1), (x, a)


@cluster
def half_precision():
    x, a = feed((64, 10), tf.float16)
    return tf.reduce_sum(tf.exp(x), 1), (x, a)


@cluster
def integers():
    x, a = feed((64, 10), tf.int32)
    return [tf.floordiv(x, 3), tf.floormod(x, 7), tf.cast(x, tf.float32) / 2.0], (x, a)


@cluster
def logistic_regression():
    x, a = feed((64, 20))
    y, b = feed((64,))
    w, c = tf.Variable(tf.zeros([20, 1]), name="w"), tf.Variable(0.0, name="c")
    logits = tf.squeeze(tf.matmul(x, w), 1) + c
    loss = tf.reduce_mean(tf.nn.sigmoid_cross_entropy_with_logits(labels=y, logits=logits))
    return [loss, tf.train.GradientDescentOptimizer(0.1).minimize(loss)], [(x, a), (y, b)]


# ---------------------------------------------------------------- tests


@pytest.mark.parametrize("name", CLUSTERS)
def test_text_is_as_kept(name):
    kept = (FOLDER / f"{name}.txt").read_text(encoding="utf-8")
    found = text(CLUSTERS[name])
    assert found == kept, f"the kernels of {name} changed; if that is meant: python tests/test_golden.py --update"


def test_nothing_else_is_kept():
    assert {p.stem for p in FOLDER.glob("*.txt")} == set(CLUSTERS)


@pytest.mark.parametrize("name",
                         ["chain", "chain_of_19", "softmax", "log_softmax", "layer_norm", "bias_and_relu", "gather", "one_hot", "concat",
                          "pad",
                                  "strided_slice", "transpose_and_add", "half_precision"])
def test_is_one_kernel(name):
    found = kernels(CLUSTERS[name])
    assert len(found) == 1, [k.name for k in found]


def test_a_chain_has_no_temporaries():
    with tf.Graph().as_default():
        fetches, (x, a) = chain_of_19()
        e = tf.explain(fetches, {x: a})
    assert e.memory["results"] + e.memory["feeds"] + e.memory["temporaries"] <= 2 * a.nbytes + 256, e.memory
    source = e.kernels[0].source
    assert source.count("ld_f32(") <= 2 and source.count("st_f32(") <= 2, "one load and one store (twice where a loop has a remainder)"


def test_a_training_step_has_few_kernels():
    assert len(kernels(logistic_regression)) <= 6
    assert len(kernels(adam)) <= 4
    assert len(kernels(cross_entropy_and_gradient)) <= 4


@pytest.mark.parametrize("make", [lambda x: tf.tanh(x) * 2.0, lambda x: tf.nn.softmax(x), lambda x: tf.reduce_sum(x, 1), lambda x: x + 1.0])
def test_a_known_batch_size_gives_the_text_of_an_unknown_one(make):
    """Sizes beyond the unrolled ones are parameters, so that many shapes share one object code."""
    texts = []
    for static in ([None, 40], [100, 40], [200, 40]):
        with tf.Graph().as_default():
            x, a = feed((static[0] or 64, 40), static=static)
            texts.append([k.source for k in tf.explain(make(x), {x: a}).kernels])
    assert texts[0] == texts[1] == texts[2]


def test_equal_clusters_of_one_graph_share_a_text():
    with tf.Graph().as_default():
        x, a = feed((64, 10))
        y, b = feed((32, 10))
        sources = {k.source for k in tf.explain([tf.nn.softmax(x), tf.nn.softmax(y)], {x: a, y: b}).kernels}
    assert len(sources) == 1


def update():
    FOLDER.mkdir(exist_ok=True)
    for old in FOLDER.glob("*.txt"):
        old.unlink()
    for name, build in CLUSTERS.items():
        (FOLDER / f"{name}.txt").write_text(text(build), encoding="utf-8")


if __name__ == "__main__" and "--update" in sys.argv:
    update()
