"""Every layer of tf.layers on fixed weights beside TensorFlow's values: outputs, losses, moving averages, names of variables and ops."""
from __future__ import annotations

import zlib

import numpy as np
import pytest
from on_gpu import QUICK

import graphflow as tf
from graphflow.flags import flags

L = tf.layers
_random = np.random.RandomState(0)
X2, X3, X4 = _random.randn(4, 6), _random.randn(2, 9, 3), _random.randn(2, 7, 8, 3)
X5, X4F = _random.randn(1, 5, 6, 5, 2), _random.randn(2, 3, 7, 8)


def reg(w):
    return .5 * tf.reduce_sum(tf.square(w))


def act(y):
    return tf.reduce_sum(tf.abs(y))


def scoped(x):
    with tf.variable_scope("net"):
        y = L.dense(x, 3)
        z = L.dense(y, 3, name="out")
    with tf.variable_scope("net", reuse=True):
        return z + L.dense(y, 3, name="out")


# (name, input, layer, shape of the output, its sum and sum of squares, regularisation losses, number of updates, the first two
# moving averages after them, variables (trainable - others; bn is batch_normalization), name of the output): TensorFlow 2.21's
# compat.v1 with tf_keras.
LAYERS = [
    ("dense", X2, lambda x: L.dense(x, 5, tf.nn.relu, kernel_regularizer=reg, bias_regularizer=reg, activity_regularizer=act, name="d"),
     [4, 5], [34.3203, 91.0644], [0.502135, 3.86424, 8.58008], 0, {},
     "d/kernel d/bias", "d/Relu:0"),
    ("dense3", X3, lambda x: L.dense(x, 4, use_bias=False),
     [2, 9, 4], [-26.4364, 71.6495], [], 0, {},
     "dense/kernel", ""),
    ("dense_twice", X2, lambda x: L.dense(L.dense(x, 4), 3),
     [4, 3], [44.129, 350.848], [], 0, {},
     "dense/kernel dense/bias dense_1/kernel dense_1/bias", "dense_1/BiasAdd:0"),
    ("dense_reuse", X2, lambda x: L.dense(x, 4, name="a")+L.dense(x, 4, name="a", reuse=True),
     [4, 4], [65.2344, 428.524], [], 0, {},
     "a/kernel a/bias", "add:0"),
    ("conv1d", X3, lambda x: L.conv1d(x, 4, 3, padding="same", dilation_rate=2),
     [2, 9, 4], [-40.8371, 92.1469], [], 0, {},
     "conv1d/kernel conv1d/bias", "conv1d/BiasAdd:0"),
    ("conv1d_s", X3, lambda x: L.conv1d(x, 4, 3, 2, activation=tf.tanh),
     [2, 4, 4], [-10.5774, 15.6366], [], 0, {},
     "conv1d/kernel conv1d/bias", "conv1d/Tanh:0"),
    ("conv2d", X4, lambda x: L.conv2d(x, 4, (3, 2), (2, 1), "same", kernel_regularizer=reg),
     [2, 4, 8, 4], [90.6209, 1526.91], [11.7361], 0, {},
     "conv2d/kernel conv2d/bias", "conv2d/BiasAdd:0"),
    ("conv2d_d", X4, lambda x: L.conv2d(x, 4, 3, dilation_rate=(2, 1), use_bias=False),
     [2, 3, 6, 4], [-133.62, 1431.51], [], 0, {},
     "conv2d/kernel", ""),
    ("conv3d", X5, lambda x: L.conv3d(x, 3, 3, (1, 2, 1), padding="SAME"),
     [1, 5, 3, 5, 3], [-298.181, 2902.57], [], 0, {},
     "conv3d/kernel conv3d/bias", "conv3d/BiasAdd:0"),
    ("deconv2d", X4, lambda x: L.conv2d_transpose(x, 4, 3, 2, "same", activation=tf.nn.relu),
     [2, 14, 16, 4], [1644.75, 3521.68], [], 0, {},
     "conv2d_transpose/kernel conv2d_transpose/bias", "conv2d_transpose/Relu:0"),
    ("deconv2d_v", X4, lambda x: L.conv2d_transpose(x, 4, (5, 3), (2, 3)),
     [2, 17, 24, 4], [2101.63, 7264.81], [], 0, {},
     "conv2d_transpose/kernel conv2d_transpose/bias", "conv2d_transpose/BiasAdd:0"),
    ("deconv3d", X5, lambda x: L.conv3d_transpose(x, 2, 3, (2, 1, 2)),
     [1, 11, 8, 11, 2], [459.541, 5472.01], [], 0, {},
     "conv3d_transpose/kernel conv3d_transpose/bias", "conv3d_transpose/BiasAdd:0"),
    ("sep1d", X3, lambda x: L.separable_conv1d(x, 4, 3, depth_multiplier=2, padding="same", depthwise_regularizer=reg),
     [2, 9, 4], [-43.4004, 241.658], [3.75794], 0, {},
     "separable_conv1d/depthwise_kernel separable_conv1d/pointwise_kernel separable_conv1d/bias", ""),
    ("sep1d_s", X3, lambda x: L.separable_conv1d(x, 4, 3, 2),
     [2, 4, 4], [1.5145, 22.9667], [], 0, {},
     "separable_conv1d/depthwise_kernel separable_conv1d/pointwise_kernel separable_conv1d/bias", ""),
    ("sep1d_d", X3, lambda x: L.separable_conv1d(x, 4, 2, dilation_rate=2, activation=tf.nn.relu),
     [2, 7, 4], [16.8507, 16.1228], [], 0, {},
     "separable_conv1d/depthwise_kernel separable_conv1d/pointwise_kernel separable_conv1d/bias", "separable_conv1d/Relu:0"),
    ("sep2d", X4, lambda x: L.separable_conv2d(x, 4, 3, 2, "same", depth_multiplier=2),
     [2, 4, 4, 4], [57.457, 888.387], [], 0, {},
     "separable_conv2d/depthwise_kernel separable_conv2d/pointwise_kernel separable_conv2d/bias", "separable_conv2d/BiasAdd:0"),
    ("sep2d_d", X4, lambda x: L.separable_conv2d(x, 4, 3, dilation_rate=2, use_bias=False),
     [2, 3, 4, 4], [-54.1621, 173.845], [], 0, {},
     "separable_conv2d/depthwise_kernel separable_conv2d/pointwise_kernel", "separable_conv2d/separable_conv2d:0"),
    ("maxpool1d", X3, lambda x: L.max_pooling1d(x, 3, 2, "same"),
     [2, 5, 3], [17.58, 28.1743], [], 0, {},
     "", "max_pooling1d/Squeeze:0"),
    ("avgpool1d", X3, lambda x: L.average_pooling1d(x, 3, 2, "same"),
     [2, 5, 3], [-6.43264, 9.34351], [], 0, {},
     "", "average_pooling1d/Squeeze:0"),
    ("maxpool2d", X4, lambda x: L.max_pooling2d(x, (3, 2), 2),
     [2, 3, 4, 3], [82.2798, 122.601], [], 0, {},
     "", "max_pooling2d/MaxPool:0"),
    ("avgpool2d", X4, lambda x: L.average_pooling2d(x, 3, (2, 1), "same"),
     [2, 4, 8, 3], [-2.56036, 34.369], [], 0, {},
     "", "average_pooling2d/AvgPool:0"),
    ("maxpool3d", X5, lambda x: L.max_pooling3d(x, 2, 2, "same"),
     [1, 3, 3, 3, 2], [55.027, 81.1247], [], 0, {},
     "", "max_pooling3d/MaxPool3D:0"),
    ("avgpool3d", X5, lambda x: L.average_pooling3d(x, 2, (2, 1, 1)),
     [1, 2, 5, 4, 2], [-9.9705, 12.7245], [], 0, {},
     "", "average_pooling3d/AvgPool3D:0"),
    ("bn_inf", X4, lambda x: L.batch_normalization(x),
     [2, 7, 8, 3], [0.153338, 336.307], [], 0, {},
     "bn/gamma bn/beta - bn/moving_mean bn/moving_variance", "bn/FusedBatchNormV3:0"),
    ("bn_train", X4, lambda x: L.batch_normalization(x, training=True, momentum=.9, gamma_regularizer=reg),
     [2, 7, 8, 3], [114.175, 247.404], [0.87525], 2, {"moving_mean": [0.181793, 0.200089], "moving_variance": [0.632298, 0.541625]},
     "bn/gamma bn/beta - bn/moving_mean bn/moving_variance", "bn/FusedBatchNormV3:0"),
    ("bn_train_nf", X4, lambda x: L.batch_normalization(x, training=True, momentum=.9, fused=False),
     [2, 7, 8, 3], [114.175, 247.404], [], 2, {"moving_mean": [0.181793, 0.200089], "moving_variance": [0.631445, 0.540749]},
     "bn/gamma bn/beta - bn/moving_mean bn/moving_variance", "bn/batchnorm/add_1:0"),
    ("bn2", X2, lambda x: L.batch_normalization(x, training=True, momentum=.8, scale=False, epsilon=1e-2),
     [4, 6], [12.2893, 30.9732], [], 2, {"moving_mean": [0.349037, 0.151456], "moving_variance": [0.532338, 0.437693]},
     "bn/beta - bn/moving_mean bn/moving_variance", "bn/batchnorm/add_1:0"),
    ("bn_axis1", X4, lambda x: L.batch_normalization(x, axis=1, training=True, center=False),
     [2, 7, 8, 3], [-2.86102e-06, 103.261], [], 2, {"moving_mean": [0.198167, 0.220213], "moving_variance": [0.599959, 0.501256]},
     "bn/gamma - bn/moving_mean bn/moving_variance", "bn/FusedBatchNormV3:0"),
    ("bn_ph", X4, lambda x: L.batch_normalization(x, training=tf.constant(True)),
     [2, 7, 8, 3], [114.175, 247.404], [], 2, {"moving_mean": [0.197757, 0.217601], "moving_variance": [0.600008, 0.497694]},
     "bn/gamma bn/beta - bn/moving_mean bn/moving_variance", "bn/FusedBatchNormV3:0"),
    ("bn3", X3, lambda x: L.batch_normalization(x, training=True),
     [2, 9, 3], [18.3495, 39.7579], [], 2, {"moving_mean": [0.194516, 0.216759], "moving_variance": [0.603182, 0.497145]},
     "bn/gamma bn/beta - bn/moving_mean bn/moving_variance", "bn/batchnorm/add_1:0"),
    ("flatten", X4, lambda x: L.flatten(x),
     [2, 168], [-12.5455, 319.743], [], 0, {},
     "", "flatten/Reshape:0"),
    ("flatten_cf", X4F, lambda x: L.flatten(x, data_format="channels_first"),
     [2, 168], [4.70471, 295.416], [], 0, {},
     "", "flatten/Reshape:0"),
    ("scoped", X2, lambda x: scoped(x),
     [4, 3], [114.638, 1556.98], [], 0, {},
     "net/dense/kernel net/dense/bias net/out/kernel net/out/bias", "net_1/add:0"),
]


@pytest.mark.parametrize("layer", LAYERS, ids=[layer[0] for layer in LAYERS])
def test_values_of_tensorflow(layer):
    _, data, build, shape, sums, losses, updates, after, names, output = layer
    x = tf.placeholder(tf.float32, data.shape)
    y = build(x)
    trainable, _, others = names.replace("bn/", "batch_normalization/").partition("- ")
    assert [v.op.name for v in tf.trainable_variables()] == trainable.split()
    assert {v.op.name for v in tf.global_variables()} == {*trainable.split(), *others.split()}
    assert output.replace("bn/", "batch_normalization/") in ("", y.name) and y.shape.as_list() == shape
    found_losses, found_updates = (tf.get_collection(k) for k in (tf.GraphKeys.REGULARIZATION_LOSSES, tf.GraphKeys.UPDATE_OPS))
    with flags.override(interpret=QUICK), tf.Session() as sess:
        for v in tf.global_variables():
            v.load(np.random.RandomState(zlib.crc32(v.op.name.encode()) % 2**31).rand(*v.shape.as_list()) * .8 + .1, sess)
        found = sess.run(y, {x: data})
        np.testing.assert_allclose([found.sum(), np.square(found).sum()], sums, rtol=2e-5, atol=1e-5)
        need_input = [t for t in found_losses if "Activity" in t.name]
        np.testing.assert_allclose(sorted(sess.run(found_losses, {x: data} if need_input else None)), losses, rtol=1e-5)
        assert len(found_updates) == updates
        sess.run(found_updates, {x: data} if updates else None)
        for name, values in after.items():
            v = next(v for v in tf.global_variables() if v.op.name.endswith(name))
            np.testing.assert_allclose(sess.run(v)[:2], values, rtol=1e-5)


def test_calls_and_weights_of_a_layer():
    layer, x = L.Dense(2), tf.placeholder(tf.float32, [None, 3])
    with pytest.raises(AttributeError, match="0 times"):
        layer.output
    y = layer(x)
    assert layer.input is x and layer.output is y and layer.input_shape == (None, 3) and layer.output_shape == (None, 2)
    z = layer(x * 2.0)
    with pytest.raises(AttributeError, match="get_output_at"):
        layer.output
    assert layer.get_output_at(0) is y and layer.get_output_at(1) is z and layer.get_input_at(0) is x
    with pytest.raises(ValueError, match="call 2"):
        layer.get_output_at(2)
    with flags.override(interpret=QUICK), tf.Session():
        layer.set_weights([np.ones((3, 2)), np.zeros(2)])
        assert layer.get_weights()[0].tolist() == [[1, 1]] * 3
        with pytest.raises(ValueError, match="length 1"):
            layer.set_weights([np.ones(3)])


def test_input_spec():
    class Mine(L.Layer):
        def build(self, shape):
            self.input_spec = L.InputSpec(min_ndim=2, axes={-1: shape[-1].value})

        def call(self, inputs):
            return inputs * 2.0

    layer = Mine(name="mine")
    layer(tf.ones([2, 3]))
    with pytest.raises(ValueError, match="Input 0 of layer mine is incompatible.*axis -1 of input shape to have value 3"):
        layer(tf.ones([2, 4]))
    with pytest.raises(ValueError, match="min_ndim=2"):
        layer(tf.ones([3]))
    for spec, bad in ((L.InputSpec(dtype="int32"), "dtype"), (L.InputSpec(ndim=3), "ndim=3"), (L.InputSpec(shape=[None, 5]), "value 5"),
                      (L.InputSpec(max_ndim=1), "max_ndim")):
        layer.input_spec = spec
        with pytest.raises(ValueError, match=bad):
            layer(tf.ones([2, 3]))
