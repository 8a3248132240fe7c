"""Names of the public namespace that no other file tests: old ones, descriptions, scopes, random windows; and what is absent says why."""
from __future__ import annotations

import numpy as np
import pytest
from on_gpu import QUICK

import graphflow as tf
from graphflow.flags import flags

RNG = np.random.default_rng(0)
M = RNG.normal(size=(2, 3, 3)).astype(np.float32)
SPD = M @ np.swapaxes(M, 1, 2) + np.eye(3, dtype=np.float32)


@pytest.fixture(autouse=True)
def _fresh():
    with flags.override(interpret=QUICK), tf.Graph().as_default():
        yield


def run(x, feed=None):
    with tf.Session() as sess:
        return sess.run(x, feed)


@pytest.mark.parametrize("old,new", [
    (lambda: tf.batch_matmul(M, SPD, adj_x=True), lambda: tf.matmul(M, SPD, adjoint_a=True)), (lambda: tf.inv(SPD), lambda: 1 / SPD),
    (lambda: tf.select([True, False], [1, 2], [3, 4]), lambda: np.array([1, 4])),
    (lambda: tf.complex_abs(tf.constant([3 + 4j])), lambda: np.array([5.0])), (lambda: tf.batch_cholesky(SPD), lambda: tf.cholesky(SPD)),
    (lambda: tf.batch_matrix_inverse(SPD), lambda: tf.matrix_inverse(SPD)),
    (lambda: tf.batch_matrix_determinant(M), lambda: tf.matrix_determinant(M)),
    (lambda: tf.batch_matrix_solve(SPD, M), lambda: tf.matrix_solve(SPD, M)),
    (lambda: tf.batch_matrix_diag(M), lambda: tf.matrix_diag(M)), (lambda: tf.batch_matrix_diag_part(M), lambda: tf.matrix_diag_part(M)),
    (lambda: tf.batch_matrix_transpose(M), lambda: tf.matrix_transpose(M)),
    (lambda: tf.batch_matrix_band_part(M, 1, 0), lambda: tf.matrix_band_part(M, 1, 0)),
    (lambda: tf.batch_self_adjoint_eigvals(SPD), lambda: tf.self_adjoint_eigvals(SPD)),
    (lambda: tf.batch_svd(M)[0], lambda: tf.svd(M)[0]), (lambda: tf.batch_fft(tf.cast(M, tf.complex64)), lambda: np.fft.fft(M)),
    (lambda: tf.listdiff([1, 2, 3], [2]).out, lambda: np.array([1, 3])), (lambda: tf.neg(M), lambda: -M),
    (lambda: tf.manip.roll(M, 1, 0), lambda: tf.roll(M, 1, 0)), (lambda: tf.dtypes.cast(M, tf.dtypes.int32), lambda: M.astype(np.int32)),
    (lambda: tf.nn.deconv2d(M[:, :, None], np.ones([1, 1, 1, 3], np.float32), [2, 3, 1, 1], [1, 1, 1, 1]),
     lambda: M.sum(-1)[:, :, None, None])])
def test_old_names(old, new):
    expected = new()
    found, expected = run([old(), tf.convert_to_tensor(expected)])
    np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("name,word", [("enable_eager_execution", "graph"), ("GradientTape", "graph"), ("function", "graph"),
                                       ("load_op_library", "add-an-op"), ("RaggedTensor", "ragged"), ("quint8", "fake_quant")])
def test_absent_names_say_why(name, word):
    with pytest.raises(AttributeError, match=word):
        getattr(tf, name)


@pytest.mark.parametrize("text", ["/job:ps/replica:0/task:1/device:GPU:0", "/job:worker", "/device:CPU:*", "", "/task:3"])
def test_device_spec(text):
    assert tf.DeviceSpec.from_string(text).to_string() == text


def test_device_spec_parts():
    spec = tf.DeviceSpec(job="w", device_type="gpu", device_index=1)
    assert spec.to_string() == "/job:w/device:GPU:1" and tf.DeviceSpec.from_string("/cpu:0").to_string() == "/device:CPU:0"
    spec.merge_from(tf.DeviceSpec(task=2, device_index=0))
    assert spec.to_string() == "/job:w/task:2/device:GPU:0" and spec == tf.DeviceSpec.from_string("/job:w/task:2/gpu:0")
    with tf.device(tf.DeviceSpec(job="ps", device_type="CPU", device_index=0)):
        assert tf.constant(1).op.device == "/job:ps/device:CPU:0"
    with pytest.raises(ValueError, match="Unknown attribute"):
        tf.DeviceSpec.from_string("/jop:3")


def test_tensor_specs():
    x = tf.placeholder(tf.float32, [None, 3], name="x")
    spec = tf.TensorSpec.from_tensor(x)
    assert spec.name == "x" and spec.is_compatible_with(x) and not spec.is_compatible_with(tf.zeros([3, 4]))
    assert tf.TensorSpec([2], tf.int32) == tf.TensorSpec([2], tf.int32) != tf.TensorSpec([2], tf.int64)
    assert tf.SparseTensorSpec([2, 3]) == tf.SparseTensorSpec([2, 3], tf.float32)
    assert tf.is_tensor(x) and tf.is_tensor(tf.Variable(1.0)) and tf.is_tensor(tf.sparse_placeholder(tf.int32)) and not tf.is_tensor(M)


def test_scopes_and_conversions():
    a = tf.no_op()
    with tf.control_dependencies([a]):
        with tf.init_scope():
            free = tf.constant(1.0) + 1
        bound = tf.constant(1.0) + 1
    assert free.op.control_inputs == () or list(free.op.control_inputs) == []
    assert a in bound.op.control_inputs
    slices = tf.IndexedSlices(tf.constant(M[0]), tf.constant([0, 1, 2]))
    assert tf.convert_to_tensor_or_indexed_slices(slices) is slices
    with pytest.raises(ValueError, match="float32"):
        tf.convert_to_tensor_or_indexed_slices(slices, tf.int32)
    assert tf.dimension_value(tf.zeros([3]).shape[0]) == 3 and tf.dimension_value(7) == 7
    assert tf.dimension_at_index(tf.TensorShape(None), 1).value is None
    assert [t.op.type for t in tf.identity_n([tf.constant(1), tf.constant(2.0)])] == ["Identity"] * 2
    x = tf.constant([0.4, 1.7])
    assert np.array_equal(run(tf.gradients(tf.grad_pass_through(tf.round)(x) * 2, x)[0]), [2, 2])
    assert np.array_equal(run(tf.gradients(tf.recompute_grad(tf.square)(x), x)[0]), np.float32([0.8, 3.4]))
    first, second = run(tf.timestamp()), run(tf.timestamp())
    assert 1.5e9 < first <= second


def test_sizes_are_sizes():
    s = tf.placeholder(tf.float32, [None, 4, 5]).get_shape()
    assert (s[1] * s[2]).value == 20 and (s[1] // 2).value == 2 and (3 * s[1]).value == 12 and (s[1] - 1).value == 3
    assert (s[0] * s[1]).value is None and s[1] / 2 == 2.0 and s[1] - 9 == -5
    assert tf.zeros([s[1] * 2, s[2]]).shape.as_list() == [8, 5]
    assert tf.float32.limits == (0, 1) and tf.uint8.limits == (0, 255) and not tf.float32.is_quantized


def test_prevented():
    x = tf.placeholder(tf.float32, [])
    y = x + 1
    tf.get_default_graph().prevent_feeding(x)
    tf.get_default_graph().prevent_fetching(y.op)
    assert not tf.get_default_graph().is_feedable(x) and not tf.get_default_graph().is_fetchable(y)
    with pytest.raises(ValueError, match="may not be fed"):
        run(y * 2, {x: 1})
    with pytest.raises(ValueError, match="not fetchable"):
        run(y)


@pytest.mark.parametrize("pseudo", [False, True])
@pytest.mark.parametrize("overlapping", [False, True])
def test_fractional_pools(pseudo, overlapping):
    x = RNG.normal(size=(2, 11, 9, 3)).astype(np.float32)
    for pool, fold in ((tf.nn.fractional_max_pool, np.max), (tf.nn.fractional_avg_pool, np.mean)):
        y, rows, columns = pool(x, [1.0, 1.5, 1.4, 1.0], pseudo, overlapping, seed=3)
        assert y.shape.as_list() == [2, 7, 6, 3]
        y, rows, columns = run([y, rows, columns])
        assert rows[0] == columns[0] == 0 and (rows[-1], columns[-1]) == (11, 9) and set(np.diff(rows)) <= {1, 2} >= set(np.diff(columns))
        more = int(overlapping)
        expected = [[fold(x[:, a:b + more, c:d + more], axis=(1, 2)) for c, d in zip(columns, columns[1:])] for a, b in zip(rows, rows[1:])]
        np.testing.assert_allclose(y, np.moveaxis(np.array(expected), 2, 0), rtol=1e-5, atol=1e-6)
    with pytest.raises(ValueError, match="pooling_ratio"):
        tf.nn.fractional_max_pool(x, [1.0, 0.5, 1.0, 1.0])


def test_state():
    v = tf.Variable(tf.zeros([2, 4]))
    n = tf.Variable(0)
    batched = tf.batch_scatter_update(v, [[0, 3], [1, 2]], [[1.0, 2.0], [3.0, 4.0]])
    counted = tf.count_up_to(n, 2)
    rows = v.sparse_read([1])
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        assert np.array_equal(sess.run(batched), [[1, 0, 0, 2], [0, 3, 4, 0]])
        assert [sess.run(counted), sess.run(counted)] == [0, 1]
        with pytest.raises(tf.errors.OutOfRangeError):
            sess.run(counted)
        assert np.array_equal(sess.run(rows), [[0, 3, 4, 0]])
        assert np.array_equal(sess.run(v.scatter_mul(tf.IndexedSlices(tf.ones([1, 4]) * 2, [0]))), [[2, 0, 0, 4], [0, 3, 4, 0]])


def test_plain_sizes():
    x = tf.placeholder(tf.float32, [None, 4])
    tf.enable_v2_tensorshape()
    try:
        assert x.shape[1] == 4 and type(x.shape[1]) is int and x.shape[0] is None and list(x.shape) == [None, 4]
    finally:
        tf.disable_v2_tensorshape()
    assert x.shape[1].value == 4 and x.shape[0].value is None
    assert tf.TensorShape(x.shape.as_proto()).as_list() == [None, 4] and tf.TensorShape(None).as_proto().unknown_rank


def test_stateless_classes():
    p = np.log([[0.1, 0.6, 0.3], [1.0, 1e-9, 1e-9]])
    draws = tf.random.stateless_multinomial(p, 4000, [3, 4])
    again = tf.random.stateless_categorical(p, 4000, seed=[3, 4], dtype=tf.int32)
    draws, again = run([draws, again])
    assert draws.dtype == np.int64 and again.dtype == np.int32 and np.array_equal(draws, again) and not draws[1].any()
    np.testing.assert_allclose(np.bincount(draws[0]) / 4000, [0.1, 0.6, 0.3], atol=0.03)


def test_homes():
    assert tf.random.uniform_candidate_sampler is tf.nn.uniform_candidate_sampler
    with pytest.raises(AttributeError, match="stateless_normal"):
        tf.random.stateles_normal
    assert tf.graph_util.import_graph_def is tf.import_graph_def and tf.initializers.tables_initializer()
    assert tf.TensorInfo(name="x").name == "x" and tf.AttrValue(i=3).i == 3


@pytest.mark.parametrize("make", [
    lambda x: tf.image.resize_image_with_pad(x, 8, 7), lambda x: tf.image.resize_images(x, [10, 14], preserve_aspect_ratio=True),
    lambda x: tf.image.pad_to_bounding_box(x, 1, 2, 8, 9), lambda x: tf.image.resize_image_with_crop_or_pad(x, 7, 3),
    lambda x: tf.linalg.pinv(x), lambda x: tf.linalg.matrix_rank(x), lambda x: tf.image.central_crop(x, 0.5),
    lambda x: tf.nn.pool(tf.expand_dims(x, 0), [2, 2], "MAX", "VALID", dilation_rate=[2, 3]),
    lambda x: tf.nn.with_space_to_batch(tf.expand_dims(x, 0), [2, 3], "SAME", lambda v, num_spatial_dims, padding: tf.nn.conv2d(
        v, np.ones((2, 2, 3, 1), np.float32), 1, padding), filter_shape=[2, 2])])
def test_sizes_known_when_run(make):
    """What is built of unknown sizes gives what is built of known ones."""
    x = RNG.normal(size=(5, 6, 3)).astype(np.float32)
    unknown = tf.placeholder(tf.float32, [None, None, 3])
    found, expected = make(unknown), make(tf.constant(x))
    assert found.shape.is_compatible_with(expected.shape)
    np.testing.assert_allclose(*run([found, expected], {unknown: x}), rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("kinds", [ValueError, TypeError])
def test_another_dtype_than_asked_for(kinds):
    """TF1 raises a ValueError where a program converts, a TypeError where an op does."""
    with pytest.raises(kinds, match="requested dtype float32"):
        tf.convert_to_tensor(tf.constant(1), tf.float32)
    with pytest.raises(ValueError, match="same dtype"):
        tf.accumulate_n([tf.constant(1.0), tf.constant(1)])


def test_stitch_refuses_negative_places():
    places = tf.placeholder(tf.int32, [2])
    with pytest.raises(tf.errors.InvalidArgumentError, match="non-negative"):
        run(tf.dynamic_stitch([places], [tf.zeros([2])]), {places: [0, -1]})
