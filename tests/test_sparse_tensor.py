"""Sparse tensors: feeding, fetching and every op against NumPy on the dense arrays; gradients; TF's errors."""
from __future__ import annotations

import numpy as np
import pytest

import graphflow as tf
from graphflow import errors


def values_of(dense, dtype=None):
    """The SparseTensorValue of a dense array."""
    dense = np.asarray(dense, dtype)
    at = np.argwhere(dense)
    return tf.SparseTensorValue(at, dense[tuple(at.T)], np.array(dense.shape, np.int64))


def sparse(dense, dtype=np.float64):
    return tf.SparseTensor(*values_of(dense, dtype))


def run(x, feeds=None):
    with tf.Session() as sess:
        return sess.run(x, feeds)


def dense_of(value):
    """The dense array of a SparseTensorValue, whose indices must be in order and inside."""
    assert isinstance(value, tf.SparseTensorValue)
    assert value.indices.dtype == value.dense_shape.dtype == np.int64
    out = np.zeros(value.dense_shape, value.values.dtype)
    places = [tuple(i) for i in value.indices.tolist()]
    assert places == sorted(set(places))
    for at, v in zip(places, value.values):
        out[at] = v
    return out


A = np.array([[1.0, 0, 2], [0, 3, 0], [0, 0, 0], [4, 5, 6]])
B = np.array([[0.0, 7, -2], [0, 1, 0], [0, 0, 8], [0, 0, 0]])


# ---------------------------------------------------------------- the objects


def test_properties():
    sp = tf.SparseTensor([[0, 1], [2, 0]], [1.0, 2.0], [3, 4])
    assert sp.dtype is tf.float32 and sp.get_shape().as_list() == [3, 4] == sp.shape.as_list()
    assert sp.op is sp.values.op and sp.graph is tf.get_default_graph()
    assert sp.indices.dtype is tf.int64 and sp.dense_shape.dtype is tf.int64
    assert sp.values.op.name == "SparseTensor/values"
    with tf.Session():
        assert sp.eval().values.tolist() == [1, 2]
    assert tf.convert_to_tensor_or_sparse_tensor(sp) is sp
    assert isinstance(tf.convert_to_tensor_or_sparse_tensor(values_of(A)), tf.SparseTensor)
    assert tf.cast(sp, tf.int32).dtype is tf.int32
    assert run(tf.shape(sp)).tolist() == [3, 4] and run(tf.identity(sp)).indices.tolist() == [[0, 1], [2, 0]]


@pytest.mark.parametrize("parts, error, message", [
    (([[0, 0, 0]], [1.0], [2, 3]), ValueError, "Dimensions 3 and 2 are not compatible"),
    (([[0, 0]], [1.0, 2.0], [2, 3]), ValueError, "Dimensions 1 and 2 are not compatible"),
    (([[0, 0]], [[1.0]], [2, 3]), ValueError, "rank 1"),
    (([[0.0, 0]], [1.0], [2, 3]), TypeError, "Expected int64, got"),
])
def test_parts_that_do_not_fit(parts, error, message):
    with pytest.raises(error, match=message):
        tf.SparseTensor(*parts)


def test_no_tensor():
    with pytest.raises(TypeError, match="tf.sparse_tensor_to_dense"):
        tf.convert_to_tensor(sparse(A))
    with pytest.raises(TypeError, match="SparseTensor"):
        tf.sparse_reorder(A)


@pytest.mark.parametrize("shape", [None, [4, 3], [None, 3]])
def test_placeholder(shape):
    p = tf.sparse_placeholder(tf.float64, shape, name="p")
    assert [t.op.name for t in (p.indices, p.values, p.dense_shape)] == ["p/indices", "p/values", "p/shape"]
    assert p.get_shape() == tf.TensorShape(shape)
    total = tf.sparse_tensor_to_dense(p) * 2.0
    with tf.Session() as sess:
        for value in (values_of(A), tuple(values_of(A)), tf.SparseTensorValue(*[x.tolist() for x in values_of(A)])):
            np.testing.assert_array_equal(sess.run(total, {p: value}), 2 * A)
        empty = sess.run(p, {p: ([], [], [4, 3])})
        assert empty.indices.shape == (0, 2) and empty.dense_shape.tolist() == [4, 3]
        with pytest.raises(TypeError, match="SparseTensorValue"):
            sess.run(total, {p: A})
        with pytest.raises(errors.InvalidArgumentError, match="You must feed a value for placeholder"):
            sess.run(total)
        if shape is not None:
            with pytest.raises(ValueError, match="Cannot feed"):
                sess.run(total, {p: ([[0, 0]], [1.0], [4, 9])})


def test_branches_and_loops_carry_them():
    p = tf.placeholder(tf.bool, [])
    a = sparse(A)
    chosen = tf.cond(p, lambda: a, lambda: tf.sparse_reorder(tf.SparseTensor(a.indices, a.values * 2.0, a.dense_shape)))
    _, tripled = tf.while_loop(lambda i, s: i < 3, lambda i, s: [i + 1, tf.SparseTensor(s.indices, s.values + a.values, s.dense_shape)],
                               [0, sparse(np.where(A == 0, 0, 1e-300))])
    np.testing.assert_array_equal(dense_of(run(chosen, {p: True})), A)
    np.testing.assert_array_equal(dense_of(run(chosen, {p: False})), 2 * A)
    np.testing.assert_array_equal(dense_of(run(tripled)), 3 * A)


# ---------------------------------------------------------------- to and from dense


def test_to_dense():
    np.testing.assert_array_equal(run(tf.sparse_tensor_to_dense(sparse(A))), A)
    np.testing.assert_array_equal(run(tf.sparse.to_dense(sparse(A), default_value=9.0)), np.where(A == 0, 9, A))
    assert tf.sparse_tensor_to_dense(sparse(A)).get_shape().as_list() == [4, 3]
    words = tf.SparseTensor([[0, 1], [1, 0]], ["a", "b"], [2, 2])
    found = run(tf.sparse_tensor_to_dense(words))
    assert [[w if isinstance(w, str) else w.decode() for w in row] for row in found] == [["", "a"], ["b", ""]]
    flags = tf.SparseTensor([[1]], [True], [3])
    assert run(tf.sparse_tensor_to_dense(flags)).tolist() == [False, True, False]


def test_sparse_to_dense():
    assert run(tf.sparse_to_dense([1, 3], [5], 7, 9)).tolist() == [9, 7, 9, 7, 9]
    assert run(tf.sparse_to_dense(2, [5], 7.0)).tolist() == [0, 0, 7, 0, 0]
    assert run(tf.sparse_to_dense([[0, 1], [1, 0]], [2, 2], [5, 6])).tolist() == [[0, 5], [6, 0]]


@pytest.mark.parametrize("indices, message", [
    ([[0, 2], [0, 0]], r"indices\[1\] = \[0,0\] is out of order"),
    ([[0, 2], [0, 2]], r"indices\[1\] = \[0,2\] is repeated"),
    ([[0, 2], [5, 2]], r"indices\[1\] = \[5,2\] is out of bounds: need 0 <= index < \[2,3\]"),
    ([[0, -1], [1, 2]], r"indices\[0\] = \[0,-1\] is out of bounds"),
])
def test_to_dense_checks_indices(indices, message):
    sp = tf.SparseTensor(indices, [1.0, 2.0], [2, 3])
    with pytest.raises(errors.InvalidArgumentError, match=message) as raised:
        run(tf.sparse_tensor_to_dense(sp))
    assert raised.value.op.type == "SparseToDense" and "test_sparse_tensor.py" in str(raised.value)
    unchecked = tf.sparse_tensor_to_dense(sp, validate_indices=False)
    if "bounds" in message:
        with pytest.raises(errors.InvalidArgumentError, match="out of bounds"):
            run(unchecked)
    else:
        assert run(unchecked).tolist() == ([[2, 0, 1], [0, 0, 0]] if "order" in message else [[0, 0, 2], [0, 0, 0]])


@pytest.mark.parametrize("shape, values, message", [
    ([2, 2, 2], [5, 6], "output_shape has incorrect number of elements: 3 should be: 2"),
    ([2, 2], [5, 6, 7], r"sparse_values has incorrect shape \[3\], should be \[\] or \[2\]")])
def test_sparse_to_dense_sizes(shape, values, message):
    """Said when the op is made, or, of sizes that are fed, when it is run."""
    at = np.array([[0, 1], [1, 0]])
    with pytest.raises(ValueError, match=message):
        tf.sparse_to_dense(at, shape, values)
    fed = [tf.placeholder_with_default(x, [None] * np.ndim(x)) for x in (at, np.array(shape), np.array(values))]
    with pytest.raises(errors.InvalidArgumentError, match=message):
        run(tf.sparse_to_dense(*fed))


def test_from_dense_eye_and_indicator():
    np.testing.assert_array_equal(dense_of(run(tf.sparse.from_dense(A))), A)
    np.testing.assert_array_equal(dense_of(run(tf.sparse.eye(2, 3))), np.eye(2, 3))
    ids = tf.SparseTensor([[0, 0], [0, 1], [1, 0]], np.array([3, 0, 1], np.int64), [2, 2])
    assert run(tf.sparse_to_indicator(ids, 4)).tolist() == [[True, False, False, True], [False, True, False, False]]


# ---------------------------------------------------------------- order, selection, shape


def test_reorder():
    found = run(tf.sparse_reorder(tf.SparseTensor([[3, 0], [0, 2], [3, 2], [0, 0]], [1.0, 2.0, 3.0, 4.0], [4, 3])))
    assert found.indices.tolist() == [[0, 0], [0, 2], [3, 0], [3, 2]] and found.values.tolist() == [4, 2, 1, 3]


def test_retain():
    sp = sparse(A)
    np.testing.assert_array_equal(dense_of(run(tf.sparse_retain(sp, sp.values > 2.5))), np.where(A > 2.5, A, 0))
    with pytest.raises(ValueError):
        tf.sparse_retain(sp, [True, False])


@pytest.mark.parametrize("start, size", [([0, 1], [2, 9]), ([1, 0], [2, 2]), ([5, 1], [2, 9]), ([3, 0], [1, 3])])
def test_slice(start, size):
    part = A[start[0]:start[0] + size[0], start[1]:start[1] + size[1]]
    np.testing.assert_array_equal(dense_of(run(tf.sparse_slice(sparse(A), start, size))), part)


@pytest.mark.parametrize("axis", [0, 1])
def test_split(axis):
    found = run(tf.sparse_split(sp_input=sparse(A), num_split=2, axis=axis))
    for f, expected in zip(found, np.array_split(A, 2, axis)):
        np.testing.assert_array_equal(dense_of(f), expected)


@pytest.mark.parametrize("axis", [0, 1, -1])
def test_concat(axis):
    np.testing.assert_array_equal(dense_of(run(tf.sparse_concat(axis, [sparse(A), sparse(B), sparse(A)]))), np.concatenate([A, B, A], axis))


def test_concat_of_different_shapes():
    with pytest.raises(ValueError, match="expected 3 for dimension 1 but got 4 at position 1"):
        tf.sparse_concat(0, [sparse(A), sparse(np.eye(2, 4))])
    wide = dense_of(run(tf.sparse_concat(0, [sparse(A), sparse(np.eye(2, 4))], expand_nonconcat_dim=True)))
    np.testing.assert_array_equal(wide, np.concatenate([np.pad(A, [(0, 0), (0, 1)]), np.eye(2, 4)]))
    p = tf.sparse_placeholder(tf.float64, [None, None])
    both = tf.sparse_concat(0, [sparse(A), p])
    np.testing.assert_array_equal(dense_of(run(both, {p: values_of(B)})), np.concatenate([A, B]))
    with pytest.raises(errors.InvalidArgumentError, match="Input shapes must match"):
        run(both, {p: values_of(np.eye(2, 4))})


def test_transpose_reshape_expand_dims():
    cube = np.random.default_rng(0).integers(0, 3, (2, 3, 4)).astype(float)
    np.testing.assert_array_equal(dense_of(run(tf.sparse_transpose(sparse(cube)))), cube.T)
    np.testing.assert_array_equal(dense_of(run(tf.sparse_transpose(sparse(cube), [1, 2, 0]))), cube.transpose(1, 2, 0))
    np.testing.assert_array_equal(dense_of(run(tf.sparse_reshape(sparse(cube), [6, -1]))), cube.reshape(6, 4))
    for axis in (0, 1, -1):
        np.testing.assert_array_equal(dense_of(run(tf.sparse.expand_dims(sparse(cube), axis))), np.expand_dims(cube, axis))
    with pytest.raises(ValueError, match="Cannot reshape a tensor with 24 elements"):
        tf.sparse_reshape(sparse(cube), [5, -1])
    p = tf.sparse_placeholder(tf.float64, [None, 3, 4])
    np.testing.assert_array_equal(dense_of(run(tf.sparse_reshape(p, [-1, 6]), {p: values_of(cube)})), cube.reshape(-1, 6))


def test_reset_shape():
    assert run(tf.sparse_reset_shape(tf.SparseTensor([[0, 1]], [1.0], [5, 7]))).dense_shape.tolist() == [1, 2]
    assert run(tf.sparse_reset_shape(sparse(A), [9, 9])).dense_shape.tolist() == [9, 9]
    none = tf.SparseTensor(np.zeros((0, 2), np.int64), np.zeros(0), [5, 7])
    assert run(tf.sparse_reset_shape(none)).dense_shape.tolist() == [0, 0]
    with pytest.raises(ValueError, match="Requested new_shape should have dimension sizes >= sp_input.shape"):
        tf.sparse_reset_shape(sparse(A), [1, 3])
    with pytest.raises(ValueError):
        tf.sparse_reset_shape(sparse(A), [9, 9, 9])
    p = tf.sparse_placeholder(tf.float64, [None, None])
    with pytest.raises(errors.InvalidArgumentError, match="new_shape should have dimension sizes"):
        run(tf.sparse_reset_shape(p, [1, 3]), {p: values_of(A)})


def test_fill_empty_rows():
    found, empty = run(tf.sparse_fill_empty_rows(sparse(A), 9.0))
    assert empty.tolist() == [False, False, True, False]
    expected = A.copy()
    expected[2, 0] = 9
    np.testing.assert_array_equal(dense_of(found), expected)


# ---------------------------------------------------------------- arithmetic


def test_add():
    np.testing.assert_array_equal(dense_of(run(tf.sparse_add(sparse(A), sparse(B)))), A + B)
    found = run(tf.sparse_add(sparse(A), sparse(B), threshold=0.1))
    np.testing.assert_array_equal(dense_of(found), A + B)
    assert (found.values != 0).all() and 0 in run(tf.sparse_add(sparse(A), sparse(B))).values
    np.testing.assert_array_equal(run(tf.sparse_add(sparse(A), tf.constant(B))), A + B)
    np.testing.assert_array_equal(run(tf.sparse_add(B, sparse(A))), A + B)
    with pytest.raises(ValueError):
        tf.sparse_add(sparse(A), sparse(np.eye(4)))
    with pytest.raises(TypeError, match="tf.add"):
        tf.sparse_add(A, B)


def test_maximum_and_minimum():
    np.testing.assert_array_equal(dense_of(run(tf.sparse_maximum(sparse(A), sparse(B)))), np.maximum(A, B))
    np.testing.assert_array_equal(dense_of(run(tf.sparse_minimum(sparse(A), sparse(B)))), np.minimum(A, B))


@pytest.mark.parametrize("dense", [2.0, np.array([1.0, 2, 3]), np.arange(1.0, 5)[:, None], A + 1], ids=["0d", "row", "column", "matrix"])
def test_times_and_over_dense(dense):
    np.testing.assert_allclose(dense_of(run(sparse(A) * dense)), A * dense)
    np.testing.assert_allclose(dense_of(run(sparse(A) / dense)), A / dense)
    np.testing.assert_allclose(dense_of(run(-sparse(A))), -A)


def test_dense_operands_do_not_widen():
    with pytest.raises(ValueError, match="incompatible shapes"):
        sparse(A) * np.ones((2, 4, 3))


@pytest.mark.parametrize("adjoint_a", [False, True])
@pytest.mark.parametrize("adjoint_b", [False, True])
def test_matmul(adjoint_a, adjoint_b):
    rng = np.random.default_rng(1)
    b = rng.normal(size=(4 if adjoint_a else 3, 5))
    found = tf.sparse_tensor_dense_matmul(sparse(A), tf.constant(b.T if adjoint_b else b), adjoint_a=adjoint_a, adjoint_b=adjoint_b)
    assert found.get_shape().as_list() == [3 if adjoint_a else 4, 5]
    np.testing.assert_allclose(run(found), (A.T if adjoint_a else A) @ b, rtol=1e-14)


def test_matmul_of_complex_numbers():
    a, b = A + 1j * B, np.array([[1 + 2j, 3], [0, 1j], [2, -1j], [1, 1]])
    np.testing.assert_allclose(run(tf.sparse_tensor_dense_matmul(sparse(a, np.complex128), b, adjoint_a=True)), a.conj().T @ b)


def test_matmul_errors():
    with pytest.raises(ValueError, match="Dimensions must be equal, but are 3 and 2"):
        tf.sparse_tensor_dense_matmul(sparse(A), np.ones((2, 2)))
    for indices in ([[0, 5]], [[5, 0]]):
        with pytest.raises(errors.InvalidArgumentError):
            run(tf.sparse_tensor_dense_matmul(tf.SparseTensor(indices, [1.0], [2, 3]), np.ones((3, 2), np.float32)))


@pytest.mark.parametrize("axis", [None, 0, 1, -1, [0, 1], [1]])
@pytest.mark.parametrize("keepdims", [False, True])
def test_reduce(axis, keepdims):
    numpy_axis = tuple(axis) if isinstance(axis, list) else axis
    np.testing.assert_allclose(run(tf.sparse_reduce_sum(sparse(A), axis, keepdims)), A.sum(numpy_axis, keepdims=keepdims))
    below = np.where(A == 0, -np.inf, -A).max(numpy_axis, keepdims=keepdims)  # of what is there: 0 only where nothing is
    np.testing.assert_allclose(run(tf.sparse_reduce_max(sparse(-A), axis, keepdims)), np.where(np.isinf(below), 0, below))


def test_reduce_of_an_axis_that_is_not_there():
    with pytest.raises(ValueError):
        tf.sparse_reduce_sum(sparse(A), 2)


def test_softmax():
    e = np.where(A == 0, 0, np.exp(A))
    total = e.sum(1, keepdims=True)
    np.testing.assert_allclose(dense_of(run(tf.sparse_softmax(sparse(A)))), e / np.where(total == 0, 1, total), rtol=1e-14)


# ---------------------------------------------------------------- gradients


GRADIENTS = {
    "to_dense": lambda sp, b: tf.sparse_tensor_to_dense(sp),
    "matmul": lambda sp, b: tf.sparse_tensor_dense_matmul(sp, b),
    "adjoint": lambda sp, b: tf.sparse_tensor_dense_matmul(sp, b, adjoint_a=True, adjoint_b=True),
    "reorder": lambda sp, b: tf.sparse_reorder(sp).values ** 2,
    "concat": lambda sp, b: tf.sparse_concat(1, [sp, sp]).values ** 2,
    "add": lambda sp, b: tf.sparse_tensor_to_dense(tf.sparse_add(sp, sp)) ** 2,
    "reduce_sum": lambda sp, b: tf.sparse_reduce_sum(sp, 1),
    "reduce_max": lambda sp, b: tf.sparse_reduce_max(sp, 1),
    "softmax": lambda sp, b: tf.sparse_softmax(sp).values,
    "slice": lambda sp, b: tf.sparse_slice(sp, [0, 0], [2, 2]).values,
    "fill_empty_rows": lambda sp, b: tf.sparse_fill_empty_rows(sp, 1.0)[0].values,
    "times": lambda sp, b: (sp * b).values,
}


@pytest.mark.parametrize("case", GRADIENTS)
def test_gradient(case):
    """Against central differences, for the values and for a dense operand."""
    rng = np.random.default_rng(2)
    at = np.argwhere(A)
    b = rng.normal(size={"adjoint": (2, 4), "times": (4, 3)}.get(case, (3, 2)))
    values = A[tuple(at.T)] + rng.normal(size=len(at)) / 10
    v, w = tf.placeholder(tf.float64, [len(at)]), tf.placeholder(tf.float64, b.shape)
    y = GRADIENTS[case](tf.SparseTensor(at, v, A.shape), w)
    loss = tf.reduce_sum(tf.sin(y + 0.1))
    wanted = [v, w] if case in ("matmul", "adjoint", "times") else [v]
    gradients = [tf.convert_to_tensor(g) for g in tf.gradients(loss, wanted)]
    with tf.Session() as sess:
        found = sess.run(gradients, {v: values, w: b})
        for x, g in zip(wanted, found):
            base = {v: values, w: b}
            d = rng.normal(size=base[x].shape)
            ends = [sess.run(loss, {**base, x: base[x] + e * d}) for e in (1e-6, -1e-6)]
            assert (g * d).sum() == pytest.approx((ends[0] - ends[1]) / 2e-6, rel=1e-6, abs=1e-8)


# ---------------------------------------------------------------- distances


def test_edit_distance():
    """TF's answers, with and without division by the length of the truth."""
    said, meant = tf.SparseTensor([[0, 0], [1, 0]], [1, 2], [2, 1]), tf.SparseTensor([[0, 0], [0, 1], [1, 0]], [3, 1, 2], [2, 2])
    assert run(tf.edit_distance(said, meant)).tolist() == [0.5, 0]
    assert run(tf.edit_distance(said, meant, normalize=False)).tolist() == [1, 0]
    said, meant = tf.SparseTensor([[1, 0]], [1], [2, 1]), tf.SparseTensor([[0, 0]], [3], [2, 2])
    assert run(tf.edit_distance(said, meant)).tolist() == [1, np.inf]
    kitten, sitting = ([[[0, i] for i in range(len(w))], [ord(c) for c in w], [1, len(w)]] for w in ("kitten", "sitting"))
    assert run(tf.edit_distance(tf.SparseTensor(*kitten), tf.SparseTensor(*sitting), normalize=False)).tolist() == [3]
    with pytest.raises(TypeError, match="Hypothesis must be a SparseTensor"):
        tf.edit_distance([1], meant)
    with pytest.raises(errors.InvalidArgumentError, match="truth is not a valid SparseTensor"):
        run(tf.edit_distance(said, tf.SparseTensor([[1, 0], [0, 0]], [1, 2], [2, 1])))
