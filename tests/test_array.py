"""Array ops against NumPy: slicing, symbolic shapes, gathers and scatters, writes to rows, errors."""
from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

import graphflow as tf
from graphflow import types
from graphflow.flags import flags

RNG = np.random.default_rng(5)


@pytest.fixture(autouse=True)
def fresh_graph():
    with tf.Graph().as_default():
        yield


def run(fetches, feeds=None, interpret=1):
    with flags.override(interpret=interpret), tf.Session() as sess:
        return sess.run(fetches, feeds)


def both(fetches, feeds=None):
    """The interpreted result, after checking that the compiled one is the same."""
    expected, actual = run(fetches, feeds), run(fetches, feeds, interpret=0)
    if not isinstance(expected, list):
        np.testing.assert_array_equal(actual, expected)
    else:
        for a, e in zip(actual, expected, strict=True):
            np.testing.assert_array_equal(a, e)
    return expected


# ---------------------------------------------------------------- slicing


@settings(deadline=None, max_examples=150)
@given(st.data())
def test_slices_are_numpys(data):
    """Values, static shapes and gradients of NumPy's basic indexing, for known and unknown sizes."""
    shape = data.draw(hnp.array_shapes(min_dims=1, max_dims=3, max_side=5))
    key = data.draw(hnp.basic_indices(shape, allow_newaxis=True))
    x = np.arange(np.prod(shape), dtype=np.float64).reshape(shape)
    with tf.Graph().as_default():
        known, unknown = tf.placeholder(tf.float64, shape), tf.placeholder(tf.float64, [None] * len(shape))
        fetches = [y for p in (known, unknown) for y in (p[key], tf.gradients(p[key] * 3, p)[0])]
        assert fetches[0].shape.as_list() == list(x[key].shape)
        assert fetches[2].shape.is_compatible_with(x[key].shape)
        found = run(fetches, {known: x, unknown: x})
    slope = np.zeros(shape)
    slope[key] = 3
    for value, expected in zip(found, [x[key], slope] * 2, strict=True):
        np.testing.assert_array_equal(value, expected)


KEYS = [np.s_[1:], np.s_[:-1, ::-1], np.s_[-2:1:-1], np.s_[..., 2], np.s_[None, 1, ..., None], np.s_[:, 1:9:2], np.s_[-9:9, 3:1],
        np.s_[::-3, -1],
        np.s_[2, 1:4], np.s_[5:, 0], np.s_[:2, None, 3:], np.s_[1:-1, -3:-1]]


def test_compiled_slices():
    """Kernels read the same elements, and place gradients at them, for known and unknown sizes."""
    x = RNG.normal(size=(4, 5)).astype(np.float32)
    known, unknown = tf.placeholder(tf.float32, [4, 5]), tf.placeholder(tf.float32, [None, None])
    fetches = [y for p in (known, unknown) for k in KEYS for y in (p[k], tf.gradients(tf.square(p[k]), p)[0])]
    found = both(fetches, {known: x, unknown: x})
    for value, key in zip(found[::2], KEYS * 2, strict=True):
        np.testing.assert_array_equal(value, x[key])


def test_slices_at_run_time_values():
    x, xs = tf.placeholder(tf.float32, [None, 3]), RNG.normal(size=(5, 3)).astype(np.float32)
    i, n = tf.placeholder(tf.int32, []), tf.placeholder(tf.int64, [])
    fetches = [x[i], x[-1, i], x[i:i + 2], x[:n], x[tf.shape(x)[0] - 1], x[:, :tf.shape(x)[1] - 1], tf.slice(x, [i, 0], [2, -1]),
               x[n - 1:, i]]
    found = both(fetches, {x: xs, i: 2, n: 4})
    for value, expected in zip(found, [xs[2], xs[-1, 2], xs[2:4], xs[:4], xs[4], xs[:, :2], xs[2:4], xs[3:, 2]], strict=True):
        np.testing.assert_array_equal(value, expected)


@pytest.mark.parametrize("interpret", [1, 0])
def test_a_run_time_index_is_checked(interpret):
    x, i = tf.placeholder(tf.float32, [4]), tf.placeholder(tf.int32, [])
    for y, bad in ((x[i], 4), (x[i], -5), (tf.slice(x, [i], [2]), 3), (tf.gather(x, i), 4), (tf.gather_nd(x, [[i]]), -1),
                   (tf.unsorted_segment_sum(x, [0, 0, 0, i], 2), 2), (tf.scatter_nd([[i]], [1.0], [3]), 3)):
        with pytest.raises(tf.errors.InvalidArgumentError):
            run(y, {x: np.zeros(4), i: bad}, interpret)


def test_a_mask_chooses_slices():
    x = RNG.normal(size=(4, 3)).astype(np.float32)
    t = tf.placeholder(tf.float32, [None, 3])
    rows, cells = x[:, 0] > 0, x > 0.3
    found = both([tf.boolean_mask(t, t[:, 0] > 0), t[t > 0.3], tf.boolean_mask(t, [True, False, True], axis=1)], {t: x})
    for value, expected in zip(found, [x[rows], x[cells], x[:, [True, False, True]]], strict=True):
        np.testing.assert_array_equal(value, expected)


def test_bad_indices_are_refused():
    x = tf.placeholder(tf.float32, [2, 3])
    for key, error in [((0, 0, 0), ValueError), (2, ValueError), ((0, -4), ValueError), (1.5, TypeError), ("a", TypeError),
                       ([0, 1], TypeError),
                       (slice(None, None, 0), ValueError), ((Ellipsis, Ellipsis), ValueError), (tf.constant([0, 1]), TypeError),
                       (True, TypeError)]:
        with pytest.raises(error):
            x[key]


# ---------------------------------------------------------------- shapes


def test_shape_arithmetic_is_followed():
    """tf.shape of a partly known tensor carries its known sizes through arithmetic, joins and slices into other ops."""
    x = tf.placeholder(tf.float32, [None, 4, 6])
    n, c = tf.shape(x)[0], tf.shape(x)[2]
    assert tf.reshape(x, [n, 4 * c]).shape.as_list() == [None, 24]
    assert tf.reshape(x, tf.concat([tf.shape(x)[1:], [-1]], 0)).shape.as_list() == [4, 6, None]
    assert tf.zeros(tf.stack([n, c // 2])).shape.as_list() == [None, 3]
    assert tf.tile(x, [1, tf.shape(x)[1], 1]).shape.as_list() == [None, 16, 6]
    assert tf.range(c).shape.as_list() == [6]
    assert tf.one_hot([0, 1], tf.size(x[0])).shape.as_list() == [2, 24]
    assert tf.get_static_value(tf.gather(tf.shape(x), [2, 1])).tolist() == [6, 4]
    assert tf.get_static_value(n) is None
    assert tf.placeholder(tf.float32)[0].shape.ndims is None


def test_unknown_sizes_run():
    x, xs = tf.placeholder(tf.float32, [None, 6]), RNG.normal(size=(4, 6)).astype(np.float32)
    n = tf.shape(x)[0]
    fetches = [tf.reshape(x, [n, 2, 3]), tf.reshape(x, [-1, 4]), tf.reshape(x, [n * 2, -1]), tf.reshape(tf.transpose(x), [-1]),
               tf.zeros([n, 2]), tf.range(n),
               tf.concat([x, x[:1], x], 0), tf.stack([x, x * 2], 1), tf.pad(x, [[1, n], [0, 0]]), tf.tile(x, [n, 1]), tf.eye(n),
               tf.reverse(x, [0])]
    expected = [xs.reshape(4, 2, 3), xs.reshape(-1, 4), xs.reshape(8, -1), xs.T.reshape(-1), np.zeros((4, 2)), np.arange(4),
                np.concatenate([xs, xs[:1], xs]),
                np.stack([xs, xs * 2], 1), np.pad(xs, [(1, 4), (0, 0)]), np.tile(xs, (4, 1)), np.eye(4), xs[::-1]]
    for value, e in zip(both(fetches, {x: xs}), expected, strict=True):
        np.testing.assert_array_equal(value, e)
    for m in (1, 0):  # sizes of other plans
        found = run([tf.concat([x, x * 0 + 1], 0), tf.reshape(x, [n, 2, 3])], {x: xs[:m]}, 0)
        np.testing.assert_array_equal(found[0], np.concatenate([xs[:m], np.ones((m, 6))]))
        assert found[1].shape == (m, 2, 3)


@settings(deadline=None, max_examples=60)
@given(st.data())
def test_reshapes_group_dimensions_rightly(data):
    """The index map of a reshape is NumPy's, whatever groups of dimensions match."""
    from graphflow.codegen import ir
    from graphflow.ops.array import linear, reindex

    factors = data.draw(st.lists(st.sampled_from([1, 2, 3]), min_size=1, max_size=5))

    def cut(order):
        sizes = [1]
        for f in order:
            if data.draw(st.booleans()):
                sizes.append(f)
            else:
                sizes[-1] *= f
        return sizes

    out, into = cut(factors), cut(factors if data.draw(st.booleans()) else factors[::-1])
    for flat in range(int(np.prod(out))):
        at = reindex([ir.index_const(int(i)) for i in np.unravel_index(flat, out)], out, into)
        assert linear(at, into).data == flat


def test_creation_and_order():
    x = RNG.normal(size=(2, 3, 4)).astype(np.float32)
    cases = [
        (tf.zeros([2, 3], tf.int32), np.zeros((2, 3))), (tf.ones([2], tf.bool), [True, True]), (tf.fill([2, 2], 7), np.full((2, 2), 7)),
        (tf.range(3, 10, 3), [3, 6, 9]), (tf.range(5, 0, -2), [5, 3, 1]), (tf.range(0.0, 1.0, 0.25), [0, 0.25, 0.5, 0.75]),
        (tf.linspace(1.0, 3.0, 5), [1, 1.5, 2, 2.5, 3]),
        (tf.eye(2, 3, batch_shape=[2]), np.broadcast_to(np.eye(2, 3), (2, 2, 3))), (tf.transpose(x, [2, 0, 1]), x.transpose(2, 0, 1)),
        (tf.matrix_transpose(x), x.swapaxes(1, 2)), (tf.expand_dims(x, -1), x[..., None]), (tf.squeeze(x[:1]), x[0]),
        (tf.roll(x, [1, 2], [0, 2]), np.roll(x, (1, 2), (0, 2))),
        (tf.one_hot([[1], [3]], 3, 5.0, -1.0, axis=1), np.where(np.array([[1], [3]])[:, None, :] == np.arange(3)[None, :, None], 5, -1)),
        (tf.where(tf.constant([True, False]), x[:, :, 0], -x[:, :, 0]), np.where([[True], [False]], x[:, :, 0], -x[:, :, 0])),
        (tf.sequence_mask([1, 3], 4, tf.int32), [[1, 0, 0, 0], [1, 1, 1, 0]]), (tf.sequence_mask([1, 2]), [[True, False], [True, True]]),
        (tf.matrix_band_part(x, 1, 0), np.tril(x) * (1 - np.tri(3, 4, -2))),
        (tf.broadcast_to(x[0, 0], [2, 4]), np.broadcast_to(x[0, 0], (2, 4))),
        (tf.pad(x, [[0, 0], [1, 1], [2, 0]], "REFLECT"), np.pad(x, [(0, 0), (1, 1), (2, 0)], "reflect")),
        (tf.pad(x[0], [[1, 0], [0, 2]], constant_values=9), np.pad(x[0], [(1, 0), (0, 2)], constant_values=9)),
        (tf.sort(x, 1, "DESCENDING"), -np.sort(-x, 1)), (tf.argsort(x, 0), np.argsort(x, 0)), (tf.setdiff1d([1, 2, 3], [2])[0], [1, 3]),
        (tf.searchsorted([1, 3, 5], [3, 6]), [1, 3]),
        (tf.gather_nd(x, [[[0, 1, 2]], [[1, 0, 3]]]), [[x[0, 1, 2]], [x[1, 0, 3]]]),
        (tf.gather_nd(x, [[[1], [0]], [[2], [2]]], batch_dims=1), [[x[0, 1], x[0, 0]], [x[1, 2], x[1, 2]]]),
        (tf.gather(x, [2, 0], axis=-1), x[..., [2, 0]]),
        (tf.batch_gather(x[:, 0], [[1, 0], [3, 3]]), np.take_along_axis(x[:, 0], np.array([[1, 0], [3, 3]]), 1)),
        (tf.strided_slice(x, [0, 1, 0], [2, 3, 4], [1, 1, 2], end_mask=4, shrink_axis_mask=1), x[0, 1:3, ::2]),
        (tf.invert_permutation([2, 0, 1]), [1, 2, 0]),
        (tf.unsorted_segment_mean([1.0, 2.0, 4.0], [0, 0, 2], 3), [1.5, 0, 4]),
        (tf.unsorted_segment_max([1.0, 2.0], [0, 0], 2), [2, np.finfo(np.float32).min]),
        (tf.segment_max([5, 1, 7], [0, 0, 2]), [5, 0, 7]), (tf.broadcast_dynamic_shape([3, 1], [2, 1, 4]), [2, 3, 4]),
        (tf.ones_like(x[0], tf.int32), np.ones((3, 4))),
    ]
    cases += list(zip(tf.split(x, [1, -1], 1),
                      [x[:, :1], x[:, 1:]])) + list(zip(tf.split(x, 2, 2),
                                                        np.split(x, 2, 2))) + list(zip(tf.unstack(x, axis=1), x.swapaxes(0, 1)))
    cases += list(zip(tf.meshgrid([1, 2, 3], [4, 5]),
                      np.meshgrid([1, 2, 3], [4, 5]))) + list(zip(tf.meshgrid([1, 2], [4, 5, 6], indexing="ij"),
                                                                  np.meshgrid([1, 2], [4, 5, 6], indexing="ij")))
    for value, (t, expected) in zip(both([t for t, _ in cases]), cases, strict=True):
        np.testing.assert_array_equal(value, expected, err_msg=str(t))
        assert t.shape.is_compatible_with(value.shape)


def test_blocks_and_their_inverses():
    x = RNG.normal(size=(2, 4, 6, 3)).astype(np.float32)
    deep = tf.space_to_depth(x, 2)
    batched = tf.space_to_batch_nd(x, [2, 3], [[1, 1], [0, 3]])
    back = tf.batch_to_space_nd(batched, [2, 3], [[1, 1], [0, 3]])
    found = both([deep, tf.depth_to_space(deep, 2), batched, back, tf.space_to_depth(x.transpose(0, 3, 1, 2), 2, data_format="NCHW")])
    expected = np.concatenate([x[:, i::2, j::2] for i in (0, 1) for j in (0, 1)], -1)
    padded = np.pad(x, [(0, 0), (1, 1), (0, 3), (0, 0)])
    for value, e in zip(found,
                        [expected, x, np.concatenate([padded[:, i::2, j::3] for i in range(2) for j in range(3)]), x,
                         expected.transpose(0, 3, 1, 2)], strict=True):
        np.testing.assert_array_equal(value, e)


def test_partition_and_stitch_undo_each_other():
    x, p = RNG.normal(size=(5, 2)).astype(np.float32), [1, 0, 1, 2, 0]
    t = tf.placeholder(tf.float32, [5, 2])
    parts, places = tf.dynamic_partition(t, p, 3), tf.dynamic_partition(tf.range(5), p, 3)
    y = tf.dynamic_stitch(places, parts)
    found = both([y, tf.gradients(y * y, t)[0], *parts], {t: x})
    for value, e in zip(found, [x, 2 * x, *[x[np.array(p) == k] for k in range(3)]], strict=True):
        np.testing.assert_array_equal(value, e)


def test_sizes_that_depend_on_values():
    x = tf.placeholder(tf.int32, [None])
    y, idx, count = tf.unique_with_counts(x)
    found = both([y, idx, count, tf.zeros([y[0], 2]), tf.range(tf.reduce_max(x)), tf.where(x > 3), tf.segment_sum(x, [0, 0, 1, 3])],
                 {x: [4, 2, 4, 7]})
    for value, e in zip(found, [[4, 2, 7], [0, 1, 0, 2], [2, 1, 1], np.zeros((4, 2)), np.arange(7), [[0], [2], [3]], [6, 4, 0, 7]],
                        strict=True):
        np.testing.assert_array_equal(value, e)


def test_top_k_and_in_top_k():
    x = np.array([[1, 5, 5, 2], [9, 0, 3, 4]], np.float32)
    values, indices = tf.array_ops.top_k(x, 2)
    found = both([values, indices, tf.array_ops.in_top_k(x, [2, 3], 1), tf.array_ops.in_top_k([[1.0, np.nan], [1.0, 2.0]], [1, 5], 2)])
    for value, e in zip(found, [[[5, 5], [9, 4]], [[1, 2], [0, 3]], [True, False], [False, False]], strict=True):
        np.testing.assert_array_equal(value, e)


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int8])
def test_few_of_many_are_those_of_a_whole_sort(dtype):
    rng = np.random.default_rng(0)
    for shape, k in (((3, 400), 7), ((2, 2, 300), 1), ((0, 400), 3), ((5, 256), 32), ((1, 4000), 500)):
        for x in (rng.standard_normal(shape) * 40, rng.integers(0, 9, shape), np.zeros(shape)):
            x = x.astype(dtype)
            if dtype is not np.int8:
                x[rng.random(shape) < 0.01] = np.nan
            order = np.argsort(-x.astype(np.float64) if dtype is np.int8 else np.where(np.isnan(x), -np.inf, -x), -1, kind="stable")
            values, places = run(list(tf.nn.top_k(x, k)))
            np.testing.assert_array_equal(places, order[..., :k])
            np.testing.assert_array_equal(values, np.take_along_axis(x, order, -1)[..., :k])


# ---------------------------------------------------------------- sparse gradients and writes to rows


def test_the_gradient_of_gather_keeps_its_rows():
    v = tf.placeholder(tf.float32, [None, 2])
    g, = tf.gradients(tf.gather(v, [[0, 2], [2, 2]]), v)
    assert isinstance(g, tf.IndexedSlices) and g.shape.as_list() == [None, 2]
    sparse, dense = run([g, tf.convert_to_tensor(g)], {v: np.zeros((4, 2))})
    assert isinstance(sparse, tf.IndexedSlicesValue)
    np.testing.assert_array_equal(sparse.indices, [0, 2, 2, 2])
    np.testing.assert_array_equal(dense, [[1, 1], [0, 0], [3, 3], [0, 0]])


@pytest.mark.parametrize("start, at, updates",
                         [([[1, 2], [3, 4], [5, 6], [7, 8]], [1, 3, 1], [[2, 4], [8, 2], [4, 5]]), ([1, 2], [1], [5]),
                          ([3, 2], [0, 0], [4, 2])],
                         ids=["rows", "one update", "one place"])
@pytest.mark.parametrize("interpret", [1, 0])
def test_scatters_write_rows(interpret, start, at, updates):
    start, updates = np.array(start, np.float32), np.array(updates, np.float32)
    for name, expected in {"update": lambda v, i, u: u, "add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide,
                           "min": np.minimum, "max": np.maximum}.items():
        with tf.Graph().as_default():
            v = tf.Variable(start)
            done = getattr(tf, f"scatter_{name}")(v, at, updates)
            with flags.override(interpret=interpret), tf.Session() as sess:
                sess.run(tf.global_variables_initializer())
                found = sess.run(done)
                np.testing.assert_array_equal(sess.run(v), found)
        want = start.copy()
        for i, u in zip(at, updates):
            want[i] = u if name == "update" else expected(want[i], u)
        np.testing.assert_allclose(found, want, rtol=1e-6, err_msg=name)


@pytest.mark.parametrize("interpret", [1, 0])
def test_a_scatter_out_of_range_changes_nothing(interpret):
    v, i = tf.Variable([1.0, 2.0]), tf.placeholder(tf.int32, [1])
    write = tf.scatter_nd_add(v, tf.expand_dims(i, 0), [5.0])
    with flags.override(interpret=interpret), tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        with pytest.raises(tf.errors.InvalidArgumentError):
            sess.run(write, {i: [2]})
        np.testing.assert_array_equal(sess.run(v), [1, 2])
        np.testing.assert_array_equal(sess.run(write, {i: [1]}), [1, 7])


@pytest.mark.parametrize("dtype, refused", [("complex64", ("min", "max")), ("bool", ("min", "max", "add", "sub", "mul", "div"))])
def test_scatters_of_what_has_no_order_or_sum(dtype, refused):
    v = tf.Variable(np.zeros(3, dtype))
    for name in ("update", "add", "sub", "mul", "div", "min", "max"):
        write = getattr(tf, f"scatter_{name}")
        if name not in refused:
            write(v, [1], np.ones(1, dtype))
            continue
        with pytest.raises(TypeError, match=f"'v' of 'Scatter{name.title()}' Op has type {dtype}, expected one of"):
            write(v, [1], np.ones(1, dtype))


# ---------------------------------------------------------------- errors when a graph is built


BAD = [
    (lambda x: tf.reshape(x, [4]), ValueError, r"Cannot reshape a tensor with 6 elements to shape \[4\]"),
    (lambda x: tf.reshape(x, [-1, -1]), ValueError, "-1"), (lambda x: tf.reshape(x, [-1, 4]), ValueError, "6 elements"),
    (lambda x: tf.reshape(x, [2.0, 3]), TypeError, "int32"),
    (lambda x: tf.reshape(x, [None, 3]), ValueError, "tf.shape"),
    (lambda x: tf.concat([x, tf.zeros([2, 4])], 0), ValueError, "Dimension 1 in both shapes must be equal"),
    (lambda x: tf.concat([x, x], 2), ValueError, "rank 2"), (lambda x: tf.concat(0, [x, x]), TypeError, "values, axis"),
    (lambda x: tf.concat([x, tf.zeros([2, 3], tf.int32)], 0), TypeError, "int32"),
    (lambda x: tf.stack([x, tf.zeros([3])]), ValueError, "Shapes must be equal"),
    (lambda x: tf.transpose(x, [0, 0]), ValueError, "permutation"), (lambda x: tf.squeeze(x, [0]), ValueError, "Can not squeeze"),
    (lambda x: tf.expand_dims(x, 4), ValueError, "dim"), (lambda x: tf.split(x, 2, 1), ValueError, "evenly divisible"),
    (lambda x: tf.split(x, [1, 1], 1), ValueError, "sum"),
    (lambda x: tf.unstack(tf.placeholder(tf.float32, [None])), ValueError, "num"), (lambda x: tf.tile(x, [2]), ValueError, "multiples"),
    (lambda x: tf.pad(x, [[1, 1]]), ValueError, "rank"),
    (lambda x: tf.pad(x, [[0, 0], [3, 0]], "REFLECT"), ValueError, "paddings"), (lambda x: tf.gather(x, [0.5]), TypeError, "indices"),
    (lambda x: tf.gather(x, 0, axis=2), ValueError, "axis"),
    (lambda x: tf.range(3, 1), ValueError, "start"), (lambda x: tf.fill([-1], 0), ValueError, ">= 0"),
    (lambda x: tf.slice(x, [0, 0], [3, 1]), ValueError, r"size\[0\]"),
    (lambda x: tf.boolean_mask(x, True), ValueError, "scalar"), (lambda x: tf.where(x > 0, x), ValueError, "both"),
    (lambda x: tf.array_ops.top_k(x, 4), ValueError, "k = 4"),
    (lambda x: tf.ensure_shape(x, [2, 4]), ValueError, "not compatible"),
    (lambda x: tf.scatter_nd([[0]], [1.0, 2.0], [3]), ValueError, "updates"),
    (lambda x: tf.unsorted_segment_sum(x, [0, 1, 2], 3), ValueError, "segment_ids"),
    (lambda x: run(tf.segment_max(x, tf.placeholder_with_default([1, 0], [None]))), ValueError, "segment ids are not increasing"),
    (lambda x: tf.segment_min(tf.cast(x, tf.complex64), [0, 1]), TypeError, "complex64"),
    (lambda x: tf.broadcast_to(x, [2, 4]), ValueError, "broadcast"),
    (lambda x: tf.scatter_add(tf.Variable(tf.zeros([3, 2])), [0], [[1.0, 2.0, 3.0]]), ValueError, "updates"),
    (lambda x: tf.scatter_add(x, [0], [[1.0] * 3]), TypeError, "variable"),
    (lambda x: tf.gather(x, [0, 2]) if run(tf.gather(x, [0, 2])) is None else None, ValueError, r"indices\[1\] = 2 is not in \[0, 2\)"),
]


@pytest.mark.parametrize("make, error, words", BAD, ids=range(len(BAD)))
def test_bad_arguments_are_refused(make, error, words):
    with pytest.raises(error, match=words):
        make(tf.ones([2, 3]))


def test_names_are_those_of_tf():
    x = tf.placeholder(tf.float32, [2, 3], name="x")
    found = [x.name, tf.reshape(x, [-1]).name, tf.transpose(x).name, tf.concat([x, x], 0).name, tf.stack([x]).name, x[0].name,
             tf.zeros([2]).name, tf.identity(x, "y").name, tf.shape(x).name]
    assert found == ["x:0", "Reshape:0", "transpose:0", "concat:0", "stack:0", "strided_slice:0", "zeros:0", "y:0", "Shape:0"]
    assert types.known(tf.identity(x).sizes)


def test_orders_and_ranks_that_are_known_only_at_run_time():
    """transpose by a tensor, matrix_transpose and tensordot of tensors of unknown rank, and their gradients."""
    x = tf.placeholder(tf.float64, name="unknown")
    rank = tf.rank(x)
    swapped = tf.transpose(x, tf.concat([tf.range(rank - 2), [rank - 1, rank - 2]], 0))
    y = tf.placeholder(tf.float64, [None, 4])
    dot = tf.tensordot(x, y, [[-1], [-1]])
    fetches = [swapped, tf.matrix_transpose(x), dot, *tf.gradients(tf.reduce_sum(swapped ** 3), x)]
    fetches += tf.gradients(tf.reduce_sum(dot ** 2), [x, y])
    with tf.Session() as sess:
        for shape in ((3, 4), (2, 3, 4)):
            a, b = np.random.RandomState(0).rand(*shape), np.random.RandomState(1).rand(5, 4)
            found = sess.run(fetches, {x: a, y: b})
            product = a @ b.T
            want = [a.swapaxes(-1, -2)] * 2 + [product, 3 * a * a, 2 * product @ b, 2 * product.reshape(-1, 5).T @ a.reshape(-1, 4)]
            for f, w in zip(found, want):
                np.testing.assert_allclose(f, w, rtol=1e-12)
        with pytest.raises((ValueError, tf.errors.InvalidArgumentError), match="rank of at least 2|permutation"):
            sess.run(fetches[1], {x: np.zeros(3)})
