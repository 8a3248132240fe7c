"""What fusion puts together and what it keeps apart, as numbers of kernels, and that what it makes is right."""
from __future__ import annotations

import numpy as np
import pytest

import graphflow as tf
from graphflow.flags import flags


@pytest.fixture(autouse=True)
def fresh_graph():
    with tf.Graph().as_default():
        yield


def plan(fetches, feeds=None):
    return tf.explain(fetches, feeds or {})


def agrees(fetches, feeds, rtol=1e-5):
    """The compiled values are the reference's."""
    found = []
    for interpret in (0, 1):
        with flags.override(interpret=interpret), tf.Session() as sess:
            sess.run(tf.global_variables_initializer())
            found.append(sess.run(fetches, feeds))
    for a, b in zip(*(r if isinstance(r, list) else [r] for r in found)):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=rtol)


def example(*shape, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(np.float32)


def test_elementwise_ops_are_one_kernel_and_without_optimisation_one_each():
    x, a = tf.placeholder(tf.float32, [None, 30]), example(40, 30)
    y = tf.tanh(x * 2.0 + 1.0) - tf.exp(-x)
    assert len(plan(y, {x: a}).kernels) == 1
    with flags.override(optimize=0):
        assert len(plan(y, {x: a}).kernels) == 6
    agrees(y, {x: a})


def test_a_value_that_is_fetched_and_used_is_computed_once():
    x, a = tf.placeholder(tf.float32, [None, 30]), example(400, 30)
    y = tf.exp(x)
    z = tf.tanh(y) + 1.0
    e = plan([y, z], {x: a})
    text = e.kernels[0].source  # of a GPU with a second body, for the elements that are left over
    assert len(e.kernels) == 1 and text.count("exp_f32(") == text.count("tanh_f32(") > 0
    agrees([y, z], {x: a})


def test_a_row_is_folded_and_used_in_one_kernel():
    x, a = tf.placeholder(tf.float32, [None, 30]), example(50, 30)
    y = tf.nn.softmax(x)
    loss = -tf.reduce_sum(tf.log(y + 1e-3), 1)
    assert len(plan([y, loss], {x: a}).kernels) == 1
    agrees([y, loss], {x: a})


def test_a_reduction_over_everything_stands_apart_from_its_reader():
    x, a = tf.placeholder(tf.float32, [None, 50]), example(2000, 50)
    y = x / tf.reduce_sum(tf.abs(x))
    e = plan(y, {x: a})
    assert len(e.kernels) >= 2 and e.refusals
    agrees(y, {x: a})


def test_no_cycle_through_an_op_that_runs_alone():
    """a -> product -> b and a -> b: a and b cannot be one kernel."""
    x, a = tf.placeholder(tf.float32, [64, 64]), example(64, 64)
    first = tf.tanh(x)
    last = tf.matmul(first, first) + first * 2.0
    assert len(plan([first, last], {x: a}).kernels) >= 2
    agrees([first, last], {x: a}, 1e-3)


def test_no_cycle_through_another_kernel():
    x, a = tf.placeholder(tf.float32, [None, 64]), example(300, 64)
    rows = tf.reduce_sum(x, 1, keepdims=True)
    columns = tf.reduce_sum(tf.exp(x * 0.1) + rows, 0)
    y = tf.tanh(rows) + columns + x
    agrees([y, rows, columns], {x: a}, 1e-4)


def test_moves_are_inlined():
    x, a = tf.placeholder(tf.float32, [None, 6]), example(50, 6)
    y = tf.concat([tf.transpose(tf.transpose(x)[::-1]), tf.pad(x, [[0, 0], [1, 2]])[:, 1:5]], 1) * 2.0
    e = plan(y, {x: a})
    assert len(e.kernels) == 1
    agrees(y, {x: a})


def test_heavy_values_are_not_computed_again_for_each_column():
    x, a = tf.placeholder(tf.float32, [None, 1]), example(100, 1)
    y = tf.exp(tf.tanh(x)) + tf.zeros([1, 50])
    source = "\n".join(k.source for k in plan(y, {x: a}).kernels)
    inner = source.split("ld_f32")[1]
    assert source.count("tanh_f32(") <= 2 and inner
    agrees(y, {x: a})


def test_a_kernel_has_a_limit_of_ops():
    x, a = tf.placeholder(tf.float32, [None]), example(100)
    y = x
    for k in range(60):
        y = tf.sin(y) * (1.0 + k * 0.001)
    with flags.override(fusion_limit=20):
        e = plan(y, {x: a})
        assert len(e.kernels) >= 4 and any("20 ops" in why for _, _, why in e.refusals)
    agrees(y, {x: a}, 1e-4)


@pytest.mark.parametrize("sizes", [(1,), (7,), (300,), (5000,), (100_000,), (3, 5), (1, 300), (300, 1), (257, 64), (64, 257), (2, 70_000),
                                   (70_000, 2), (7, 33, 5), (1, 1, 1), (40, 1, 900)])
@pytest.mark.parametrize("dtype", ["float32", "float64", "int32"])
def test_reductions_of_every_shape(sizes, dtype):
    """All axes, one at a time, and all pairs: whole vectors, remainders, pieces, threads."""
    x = tf.placeholder(dtype, [None] * len(sizes))
    a = (example(*sizes) * 8).astype(dtype)
    axes = [None, *range(len(sizes)), *([[0, len(sizes) - 1]] if len(sizes) > 2 else [])]
    fetches = [f(x, k) for k in axes for f in (tf.reduce_sum, tf.reduce_max)] + [tf.reduce_sum(tf.transpose(x)),
                                                                                 tf.reduce_min(tf.transpose(x), 0)]
    wide = a.astype(np.float64) if dtype == "float32" else a
    over = [tuple(k) if isinstance(k, list) else k for k in axes]
    wanted = [found for k in over for found in (np.sum(wide, axis=k), np.max(a, axis=k))]
    wanted += [a.astype(np.float64).sum(), a.T.min(0)]
    with tf.Session(config=tf.ConfigProto(intra_op_parallelism_threads=2)) as sess:
        for f, w in zip(sess.run(fetches, {x: a}), wanted):
            scale = np.abs(a).astype(np.float64).sum() ** 0.5
            np.testing.assert_allclose(f, w, rtol=2e-5 if dtype == "float32" else 1e-10, atol=1e-4 * scale if dtype == "float32" else 1e-8)


@pytest.mark.parametrize("shape", [(300, 400), (3, 5), (1, 1000), (1000, 1), (257, 255)])
def test_transposes_beside_rows_and_columns(shape):
    x, a = tf.placeholder(tf.float32, [None, None]), example(*shape)
    rows, columns = tf.reduce_mean(x, 1), tf.reduce_mean(x, 0)
    agrees([tf.transpose(x) + rows, x + columns, tf.transpose(x - columns) * 2.0, rows, columns], {x: a}, 1e-4)


def test_in_place_results_do_not_disturb_what_is_read_later():
    x, a = tf.placeholder(tf.float32, [None]), example(40_000)
    v = tf.Variable(np.ones(40_000, np.float32))
    y = tf.matmul(tf.reshape(x, [200, 200]), tf.reshape(x, [200, 200]))
    z = tf.reshape(y, [-1]) + 1.0
    w = z * v
    new = v.assign(v * 0.5 + z * 0.0)
    out = [tf.reduce_sum(y), tf.reduce_sum(w), new, v - 1.0]
    agrees(out, {x: a}, 1e-3)


def test_dead_work_is_not_done():
    x, a = tf.placeholder(tf.float32, [None]), example(10)
    unused = tf.exp(x)
    y = x + 1.0
    e = plan(y, {x: a})
    assert unused.op.name not in [n for k in e.kernels for n in k.ops]
