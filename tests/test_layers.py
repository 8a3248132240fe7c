"""tf.layers: values against NumPy, variable names and sharing, the UPDATE_OPS contract, errors."""
from __future__ import annotations

import numpy as np
import pytest
from on_gpu import QUICK

import graphflow as tf
from graphflow.flags import flags


@pytest.fixture(autouse=True)
def _fresh():
    with flags.override(interpret=QUICK), tf.Graph().as_default():
        yield


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def started():
    sess = tf.Session()
    sess.run(tf.global_variables_initializer())
    return sess


def run(x, feed=None):
    with started() as sess:
        return sess.run(x, feed)


def names():
    return [v.op.name for v in tf.global_variables()]


def const(value):
    return tf.constant_initializer(value)


# ---------------------------------------------------------------- dense, dropout, flatten


def test_dense(rng):
    x, w, b = rng.normal(size=(4, 3)), rng.normal(size=(3, 2)), rng.normal(size=2)
    y = tf.layers.dense(x, 2, activation=tf.nn.relu, kernel_initializer=const(w), bias_initializer=const(b))
    np.testing.assert_allclose(run(y), np.maximum(x @ w + b, 0), rtol=1e-6)
    assert names() == ["dense/kernel", "dense/bias"]
    assert y.op.name.startswith("dense/")
    assert [v.dtype for v in tf.trainable_variables()] == [tf.float64] * 2


def test_dense_on_higher_ranks_and_unknown_batch(rng):
    x = tf.placeholder(tf.float32, [None, 5, 3])
    w = rng.normal(size=(3, 2)).astype(np.float32)
    y = tf.layers.dense(x, 2, use_bias=False, kernel_initializer=const(w))
    assert y.shape.as_list() == [None, 5, 2]
    data = rng.normal(size=(4, 5, 3)).astype(np.float32)
    np.testing.assert_allclose(run(y, {x: data}), data @ w, rtol=1e-5)


def test_names_are_made_unique_and_shared():
    x = tf.zeros([2, 3])
    tf.layers.dense(x, 4)
    tf.layers.dense(x, 4)
    tf.layers.dense(x, 4, name="out")
    tf.layers.dense(x, 4, name="out", reuse=True)
    with tf.variable_scope("net"):
        tf.layers.dense(x, 4)
    with tf.variable_scope("net", reuse=tf.AUTO_REUSE):
        tf.layers.dense(x, 4, name="dense")
    assert names() == [f"{n}/{p}" for n in ("dense", "dense_1", "out", "net/dense") for p in ("kernel", "bias")]
    with pytest.raises(ValueError, match="already exists"):
        tf.layers.dense(x, 4, name="out")
    with pytest.raises(ValueError, match="does not exist"):
        tf.layers.dense(x, 4, name="new", reuse=True)
    with pytest.raises(ValueError, match="shape"):
        tf.layers.dense(tf.zeros([2, 5]), 4, name="out", reuse=True)


def test_a_layer_object_shares_its_variables(rng):
    layer = tf.layers.Dense(2, name="shared")
    with pytest.raises(ValueError, match="not been used yet"):
        layer.scope_name
    x = rng.normal(size=(3, 4)).astype(np.float32)
    a, b = layer(x), layer.apply(x * 2)
    assert names() == ["shared/kernel", "shared/bias"] and layer.scope_name == "shared" and layer.name == "shared"
    assert layer.variables == layer.trainable_weights == [layer.kernel, layer.bias]
    assert layer.count_params() == 10
    ya, yb = run([a, b])
    np.testing.assert_allclose(yb, ya * 2, rtol=1e-5)


def test_trainable_regularizer_constraint_activity():
    x = tf.ones([2, 3])
    tf.layers.dense(x, 2, trainable=False)
    assert tf.trainable_variables() == []
    tf.layers.dense(x, 2, kernel_initializer=const(2.0), kernel_regularizer=lambda w: tf.reduce_sum(w),
                    activity_regularizer=lambda y: tf.reduce_sum(y),
                    kernel_constraint=lambda w: w)
    assert sorted(run(tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES))) == [12.0, 12.0]  # the activities' is per example
    assert tf.trainable_variables()[0].constraint is not None


def test_dense_errors():
    with pytest.raises(ValueError, match="last dimension .* should be defined"):
        tf.layers.dense(tf.placeholder(tf.float32, [3, None]), 2)
    with pytest.raises(ValueError, match="expected min_ndim=2, found ndim=1"):
        tf.layers.dense(tf.zeros([3]), 2)
    with pytest.raises(ValueError, match="rank is undefined"):
        tf.layers.dense(tf.placeholder(tf.float32), 2)
    with pytest.raises(TypeError, match="not understood"):
        tf.layers.Dense(2, what=3)


def test_a_custom_layer():
    class Scale(tf.layers.Layer):
        def build(self, input_shape):
            self.factor = self.add_variable("factor", [int(input_shape[-1])], initializer=tf.ones_initializer())
            super().build(input_shape)

        def call(self, inputs, extra=0.0):
            return inputs * self.factor + extra

    layer = Scale()
    np.testing.assert_allclose(run(layer(tf.ones([2, 3]), extra=1.0)), np.full((2, 3), 2.0))
    assert names() == ["scale/factor"]


def test_flatten(rng):
    x = tf.placeholder(tf.float32, [None, 2, 3])
    y = tf.layers.flatten(x)
    assert y.shape.as_list() == [None, 6]
    data = rng.normal(size=(4, 2, 3)).astype(np.float32)
    np.testing.assert_array_equal(run(y + 0.0 * tf.Variable(0.0), {x: data}), data.reshape(4, 6))
    first = rng.normal(size=(2, 3, 4, 5)).astype(np.float32)
    np.testing.assert_array_equal(run(tf.layers.flatten(first, data_format="channels_first")), first.transpose(0, 2, 3, 1).reshape(2, -1))


def test_dropout():
    x = tf.ones([1000])
    flag = tf.placeholder_with_default(False, [])
    by_tensor = tf.layers.dropout(x, 0.25, training=flag, seed=1)
    off, on = tf.layers.dropout(x, 0.25), tf.layers.dropout(x, 0.25, training=True, seed=1)
    with tf.Session() as sess:
        assert sess.run(off).tolist() == sess.run(by_tensor).tolist() == [1.0] * 1000
        for y in (sess.run(on), sess.run(by_tensor, {flag: True})):
            assert set(np.unique(y)) == {np.float32(0), np.float32(1 / 0.75)}
            assert 180 < (y == 0).sum() < 320


def test_a_dropped_layer_and_its_mask_are_kept_apart(rng):
    # The mask is stored for the gradient beside the result; both are as large as the operand that dies here.
    x, w, v = (tf.placeholder(tf.float32, shape) for shape in ([64, 64], [64, 128], [128, 10]))
    y = tf.layers.dropout(tf.matmul(x, w), 0.25, training=True, seed=1)
    loss = tf.reduce_sum(tf.matmul(y, v) ** 2) / 1000.0
    fetches = [loss, *tf.gradients(loss, [w, v])]
    feed = {t: rng.normal(size=t.shape.as_list()) for t in (x, w, v)}
    with tf.Session() as sess:
        want = sess.run(fetches, feed)
    with flags.override(interpret=0), tf.Session() as sess:
        for a, b in zip(sess.run(fetches, feed), want):
            np.testing.assert_allclose(a, b, rtol=1e-3, atol=1e-2)


# ---------------------------------------------------------------- convolution and pooling


def correlate(x, w, stride=1, dilation=1):
    """VALID correlation of [N, H, W, C] with [h, w, C, F]."""
    kh, kw = w.shape[:2]
    rows = range(0, x.shape[1] - (kh - 1) * dilation, stride)
    cols = range(0, x.shape[2] - (kw - 1) * dilation, stride)
    return np.stack([np.stack([np.einsum("nhwc,hwcf->nf", x[:, i:i + kh * dilation:dilation, j:j + kw * dilation:dilation][:, :kh, :kw], w)
                               for j in cols], 1) for i in rows], 1)


@pytest.mark.parametrize("stride,dilation", [(1, 1), (2, 1), (1, 2)])
def test_conv2d(rng, stride, dilation):
    x, w, b = rng.normal(size=(2, 7, 6,
                               3)).astype(np.float32), rng.normal(size=(3, 2, 3,
                                                                        4)).astype(np.float32), rng.normal(size=4).astype(np.float32)
    kwargs = {"filters": 4, "kernel_size": (3, 2), "strides": stride, "dilation_rate": dilation, "kernel_initializer": const(w),
              "bias_initializer": const(b)}
    y = tf.layers.conv2d(x, **kwargs)
    want = correlate(x, w, stride, dilation) + b
    assert y.shape.as_list() == list(want.shape)
    first = tf.layers.conv2d(x.transpose(0, 3, 1, 2), data_format="channels_first", **kwargs)
    got, got_first = run([y, first])
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(got_first, want.transpose(0, 3, 1, 2), rtol=1e-4, atol=1e-5)
    assert names() == ["conv2d/kernel", "conv2d/bias", "conv2d_1/kernel", "conv2d_1/bias"]


def test_conv_ranks_shapes_and_same_padding(rng):
    w = rng.normal(size=(3, 1, 2)).astype(np.float32)
    x = rng.normal(size=(1, 8, 1)).astype(np.float32)
    y = tf.layers.conv1d(x, 2, 3, padding="same", kernel_initializer=const(w))
    padded = np.pad(x[0, :, 0], 1)
    np.testing.assert_allclose(run(y)[0], np.stack([padded[i:i + 3] @ w[:, 0] for i in range(8)]), rtol=1e-5, atol=1e-6)
    z = tf.layers.conv3d(tf.placeholder(tf.float32, [None, 6, 6, 6, 2]), 3, 2, strides=2, activation=tf.nn.relu)
    assert z.shape.as_list() == [None, 3, 3, 3, 3]
    layer = tf.layers.Conv2D(5, 3, strides=2)
    assert layer.compute_output_shape([None, 9, 8, 3]).as_list() == [None, 4, 3, 5]


@pytest.mark.parametrize("padding", ["same", "valid"])
def test_conv2d_transpose_is_the_gradient_of_conv2d(rng, padding):
    w = rng.normal(size=(3, 3, 2, 4)).astype(np.float32)
    x = tf.placeholder(tf.float32, [None, 4, 3, 4])
    y = tf.layers.conv2d_transpose(x, 2, 3, strides=2, padding=padding, kernel_initializer=const(w), use_bias=False)
    size = [8, 6] if padding == "same" else [9, 7]
    assert y.shape.as_list() == [None, *size, 2]
    big = tf.zeros([2, *size, 2])
    back, = tf.gradients(tf.nn.conv2d(big, w, [1, 2, 2, 1], padding.upper()), big, grad_ys=x)
    data = rng.normal(size=(2, 4, 3, 4)).astype(np.float32)
    got, want = run([y, back], {x: data})
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-5)


def test_separable_conv2d(rng):
    x = rng.normal(size=(2, 5, 5, 3)).astype(np.float32)
    depth, point = rng.normal(size=(3, 3, 3, 2)).astype(np.float32), rng.normal(size=(1, 1, 6, 4)).astype(np.float32)
    y = tf.layers.separable_conv2d(x, 4, 3, depth_multiplier=2, depthwise_initializer=const(depth), pointwise_initializer=const(point))
    between = np.concatenate([correlate(x[..., c:c + 1], depth[:, :, c:c + 1]) for c in range(3)], -1)
    np.testing.assert_allclose(run(y), between @ point[0, 0], rtol=1e-4, atol=1e-4)
    assert names() == ["separable_conv2d/depthwise_kernel", "separable_conv2d/pointwise_kernel", "separable_conv2d/bias"]


def test_pooling(rng):
    x = rng.normal(size=(2, 6, 4, 3)).astype(np.float32)
    windows = x.reshape(2, 3, 2, 2, 2, 3)
    got = run([tf.layers.max_pooling2d(x, 2, 2), tf.layers.average_pooling2d(x, [2, 2], 2),
               tf.layers.max_pooling2d(x.transpose(0, 3, 1, 2), 2, 2, data_format="channels_first"),
               tf.layers.max_pooling1d(x[:, :, 0], 2, 2), tf.layers.average_pooling1d(x[:, :, 0], 2, 2),
               tf.layers.max_pooling3d(x[..., None], 2, 2), tf.layers.average_pooling3d(x[..., None], [2, 2, 1], 1, padding="same")])
    np.testing.assert_allclose(got[0], windows.max((2, 4)))
    np.testing.assert_allclose(got[1], windows.mean((2, 4)), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(got[2], windows.max((2, 4)).transpose(0, 3, 1, 2))
    np.testing.assert_allclose(got[3], x[:, :, 0].reshape(2, 3, 2, 3).max(2))
    np.testing.assert_allclose(got[4], x[:, :, 0].reshape(2, 3, 2, 3).mean(2), rtol=1e-5, atol=1e-6)
    np.testing.assert_allclose(got[5][..., 0], windows.max((2, 4))[..., :2].max(-1, keepdims=True))
    assert got[6].shape == (2, 6, 4, 3, 1)


def test_conv_and_pool_errors():
    image = tf.zeros([1, 5, 5, 3])
    with pytest.raises(ValueError, match="expected ndim=4, found ndim=3"):
        tf.layers.conv2d(tf.zeros([5, 5, 3]), 2, 3)
    with pytest.raises(ValueError, match="kernel_size"):
        tf.layers.conv2d(image, 2, [3, 3, 3])
    with pytest.raises(ValueError, match="data_format"):
        tf.layers.conv2d(image, 2, 3, data_format="NHWC")
    with pytest.raises(ValueError, match="padding"):
        tf.layers.max_pooling2d(image, 2, 2, padding="full")
    with pytest.raises(ValueError, match="channel dimension"):
        tf.layers.conv2d(tf.placeholder(tf.float32, [1, 5, 5, None]), 2, 3)
    with pytest.raises(ValueError, match="in conjunction with"):
        tf.layers.conv2d(image, 2, 3, strides=2, dilation_rate=2)


# ---------------------------------------------------------------- batch normalisation


def normalised(x, axes, eps=1e-3):
    return (x - x.mean(axes, keepdims=True)) / np.sqrt(x.var(axes, keepdims=True) + eps)


@pytest.mark.parametrize("shape,axis,axes",
                         [((6, 3), -1, (0,)), ((4, 5, 5, 3), -1, (0, 1, 2)), ((4, 3, 5, 5), 1, (0, 2, 3)), ((4, 3, 5), 1, (0, 2)),
                                             ((3, 4, 2, 5), 2, (0, 1, 3))])
@pytest.mark.parametrize("as_tensor", [False, True])
def test_batch_normalization_while_training(rng, shape, axis, axes, as_tensor):
    data = rng.normal(2.0, 3.0, size=shape).astype(np.float32)
    x = tf.placeholder(tf.float32, [None, *shape[1:]])
    y = tf.layers.batch_normalization(x, axis=axis, momentum=0.9, training=tf.placeholder_with_default(True, []) if as_tensor else True)
    updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
    assert names() == ["batch_normalization/" + n for n in ("gamma", "beta", "moving_mean", "moving_variance")]
    assert [v.op.name for v in tf.trainable_variables()] == names()[:2]
    assert len(updates) == 2
    with started() as sess:
        np.testing.assert_allclose(sess.run(y, {x: data}), normalised(data, axes), rtol=1e-3, atol=1e-4)
        sess.run(updates, {x: data})
        mean, variance = sess.run(tf.global_variables()[2:])
    n = data.size / len(mean)
    # Images follow the unbiased variance, as TF1's fused kernel.
    scale = n / (n - 1) if len(shape) == 4 else 1.0
    np.testing.assert_allclose(mean, 0.1 * data.mean(axes), rtol=1e-4)
    np.testing.assert_allclose(variance, 0.9 + 0.1 * scale * data.var(axes), rtol=1e-4)


def test_batch_normalization_for_inference(rng):
    data = rng.normal(size=(4, 3)).astype(np.float32)
    flag = tf.placeholder(tf.bool, [])
    kwargs = {"moving_mean_initializer": const(0.5), "moving_variance_initializer": const(4.0), "gamma_initializer": const(2.0),
              "beta_initializer": const(1.0)}
    fixed = tf.layers.batch_normalization(data, **kwargs)
    assert tf.get_collection(tf.GraphKeys.UPDATE_OPS) == []
    chosen = tf.layers.batch_normalization(data, training=flag, **kwargs)
    updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
    want = (data - 0.5) / np.sqrt(4 + 1e-3) * 2 + 1
    with started() as sess:
        np.testing.assert_allclose(sess.run(fixed), want, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(sess.run(chosen, {flag: False}), want, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(sess.run(chosen, {flag: True}), normalised(data, (0,)) * 2 + 1, rtol=1e-3, atol=1e-4)
        sess.run(updates, {flag: False})
        moving = {v.op.name: v for v in tf.global_variables()}["batch_normalization_1/moving_mean"]
        np.testing.assert_allclose(sess.run(moving), [0.5] * 3)


@pytest.mark.parametrize("as_tensor", [False, True])
@pytest.mark.parametrize("shape", [(6, 3), (2, 4, 4, 3)])
def test_batch_normalization_gradient(rng, as_tensor, shape):
    data, weight = rng.normal(size=(2, *shape))
    x = tf.placeholder(tf.float64, shape)
    y = tf.layers.batch_normalization(x, training=tf.placeholder_with_default(True, []) if as_tensor else True,
                                      gamma_initializer=const(1.5))
    loss = tf.reduce_sum(y * weight)
    grad, = tf.gradients(loss, x)
    d = rng.normal(size=shape)
    with started() as sess:
        numeric = (sess.run(loss, {x: data + 1e-6 * d}) - sess.run(loss, {x: data - 1e-6 * d})) / 2e-6
        np.testing.assert_allclose(np.sum(sess.run(grad, {x: data}) * d), numeric, rtol=1e-5, atol=1e-7)


def test_batch_normalization_options_and_errors():
    x = tf.zeros([2, 3])
    tf.layers.batch_normalization(x, center=False, scale=False)
    assert names() == ["batch_normalization/moving_mean", "batch_normalization/moving_variance"]
    with pytest.raises(NotImplementedError, match="renorm"):
        tf.layers.batch_normalization(x, renorm=True)
    with pytest.raises(ValueError, match="undefined"):
        tf.layers.batch_normalization(tf.placeholder(tf.float32, [2, None]))


def test_training_with_update_ops(rng):
    x = tf.placeholder(tf.float32, [None, 4])
    h = tf.layers.batch_normalization(tf.layers.dense(x, 3), training=True, momentum=0.0)
    loss = tf.reduce_mean(h**2)
    with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
        train = tf.train.GradientDescentOptimizer(0.1).minimize(loss)
    data = rng.normal(size=(8, 4)).astype(np.float32)
    variables = {v.op.name: v for v in tf.global_variables()}
    with started() as sess:
        kernel = sess.run(variables["dense/kernel"])
        sess.run(train, {x: data})
        np.testing.assert_allclose(sess.run(variables["batch_normalization/moving_mean"]), (data @ kernel).mean(0), rtol=1e-4, atol=1e-5)
