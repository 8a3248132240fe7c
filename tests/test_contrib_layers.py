"""`tf.contrib.layers`: values against NumPy and tf.layers, names, collections, reuse, bad input."""
from __future__ import annotations

import numpy as np
import pytest
from on_gpu import QUICK

import graphflow as tf
from graphflow.flags import flags

layers = tf.contrib.layers
R = np.random.RandomState(0)
IMAGES = R.randn(2, 6, 6, 4).astype(np.float32)
ROWS = R.randn(5, 4).astype(np.float32)


@pytest.fixture(autouse=True)
def _graph():
    with tf.Graph().as_default():
        yield


def run(fetches, feeds=None):
    """The interpreted values, after the initializers."""
    with flags.override(interpret=QUICK), tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        return sess.run(fetches, feeds)


def names(collection=tf.GraphKeys.GLOBAL_VARIABLES):
    return [v.op.name for v in tf.get_collection(collection)]


# ---------------------------------------------------------------- names, scopes, collections

# call, its variables, a part of its output's name, its shape
LAYERS = {
    "fully_connected": (lambda x: layers.fully_connected(x, 3), ["fully_connected/weights", "fully_connected/biases"],
                        "fully_connected/Relu", [2, 6, 6, 3]),
    "linear": (lambda x: layers.linear(x, 3, scope="out"), ["out/weights", "out/biases"], "out/", [2, 6, 6, 3]),
    "conv2d": (lambda x: layers.conv2d(x, 5, 3), ["Conv/weights", "Conv/biases"], "Conv/Relu", [2, 6, 6, 5]),
    "conv2d strided, no bias": (lambda x: layers.conv2d(x, 5, [3, 3], 2, "VALID", activation_fn=None, biases_initializer=None),
                                ["Conv/weights"], "Conv/Conv2D", [2, 2, 2, 5]),
    "conv2d normalised": (lambda x: layers.conv2d(x, 5, 3, normalizer_fn=layers.batch_norm, scope="c"),
                          ["c/weights", "c/BatchNorm/beta", "c/BatchNorm/moving_mean", "c/BatchNorm/moving_variance"], "c/Relu",
                          [2, 6, 6, 5]),
    "conv2d dilated": (lambda x: layers.conv2d(x, 5, 3, rate=2), ["Conv/weights", "Conv/biases"], "Conv/Relu", [2, 6, 6, 5]),
    "conv2d channels first": (lambda x: layers.conv2d(x, 5, 3, data_format="NCHW"), ["Conv/weights", "Conv/biases"], "Conv/Relu",
                              [2, 5, 6, 4]),
    "conv2d_transpose": (lambda x: layers.conv2d_transpose(x, 3, 4, 2), ["Conv2d_transpose/weights", "Conv2d_transpose/biases"],
                         "Conv2d_transpose/Relu", [2, 12, 12, 3]),
    "separable_conv2d": (lambda x: layers.separable_conv2d(x, 3, 3, 2),
                         ["SeparableConv2d/depthwise_weights", "SeparableConv2d/pointwise_weights", "SeparableConv2d/biases"],
                         "SeparableConv2d/Relu", [2, 6, 6, 3]),
    "separable_conv2d, depthwise only": (lambda x: layers.separable_conv2d(x, None, 3, 2, stride=2),
                                         ["SeparableConv2d/depthwise_weights", "SeparableConv2d/biases"], "SeparableConv2d/Relu",
                                         [2, 3, 3, 8]),
    "conv2d_in_plane": (lambda x: layers.conv2d_in_plane(x, [3, 1]), ["ConvInPlane/weights", "ConvInPlane/biases"], "ConvInPlane/Relu",
                        [2, 6, 6, 4]),
    "bias_add": (lambda x: layers.bias_add(x, tf.nn.relu), ["BiasAdd/biases"], "BiasAdd/Relu", [2, 6, 6, 4]),
    "batch_norm": (lambda x: layers.batch_norm(x, scale=True, activation_fn=tf.nn.relu),
                   [f"BatchNorm/{v}" for v in ("gamma", "beta", "moving_mean", "moving_variance")], "BatchNorm/Relu", [2, 6, 6, 4]),
    "layer_norm": (lambda x: layers.layer_norm(x), ["LayerNorm/beta", "LayerNorm/gamma"], "LayerNorm/batchnorm", [2, 6, 6, 4]),
    "instance_norm": (lambda x: layers.instance_norm(x), ["InstanceNorm/beta", "InstanceNorm/gamma"], "InstanceNorm/instancenorm",
                      [2, 6, 6, 4]),
    "group_norm": (lambda x: layers.group_norm(x, 2), ["GroupNorm/beta", "GroupNorm/gamma"], "GroupNorm/", [2, 6, 6, 4]),
    "dropout": (lambda x: layers.dropout(x), [], "Dropout/dropout", [2, 6, 6, 4]),
    "flatten": (lambda x: layers.flatten(x), [], "Flatten/flatten/Reshape", [2, 144]),
    "max_pool2d": (lambda x: layers.max_pool2d(x, 2), [], "MaxPool2D/MaxPool", [2, 3, 3, 4]),
    "avg_pool2d": (lambda x: layers.avg_pool2d(x, [3, 3], 1, "SAME", scope="p"), [], "p/AvgPool", [2, 6, 6, 4]),
    "pool": (lambda x: layers.pool(x, 2, "MAX", stride=2), [], "max_pool", [2, 3, 3, 4]),
    "one_hot_encoding": (lambda x: layers.one_hot_encoding(tf.constant([1, 2]), 3), [], "OneHotEncoding/", [2, 3]),
    "repeat": (lambda x: layers.repeat(x, 2, layers.conv2d, 4, 1),
               [f"Repeat/convolution2d_{i}/{v}" for i in (1, 2) for v in ("weights", "biases")], "Repeat/convolution2d_2/Relu",
               [2, 6, 6, 4]),
    "stack": (lambda x: layers.stack(x, layers.fully_connected, [7, 3], scope="fc"),
              [f"fc/fc_{i}/{v}" for i in (1, 2) for v in ("weights", "biases")], "fc/fc_2/Relu", [2, 6, 6, 3]),
    "legacy_fully_connected": (lambda x: layers.legacy_fully_connected(x, 3, tf.nn.relu), ["fully_connected/weights",
                                                                                          "fully_connected/bias"],
                               "fully_connected/Relu", [2, 6, 6, 3]),
    "softmax": (lambda x: layers.softmax(x), [], "softmax/", [2, 6, 6, 4]),
    "maxout": (lambda x: layers.maxout(x, 2), [], "MaxOut/", [2, 6, 6, 2]),
    "unit_norm": (lambda x: layers.unit_norm(x, 3), [], "UnitNorm/", [2, 6, 6, 4]),
    "spatial_softmax": (lambda x: layers.spatial_softmax(x), ["spatial_softmax/temperature"], "spatial_softmax/spatial_softmax_op/",
                        [2, 8]),
    "images_to_sequence": (lambda x: layers.images_to_sequence(x), [], "ImagesToSequence/", [6, 12, 4]),
}


@pytest.mark.parametrize("name", LAYERS)
def test_names_and_shapes(name):
    call, variables, start, shape = LAYERS[name]
    y = call(tf.constant(IMAGES))
    assert names() == variables
    assert y.name.startswith(start)
    assert y.shape.as_list() == shape
    if "legacy" not in name:
        assert set(names(tf.GraphKeys.MODEL_VARIABLES)) == set(variables)


def test_defaults_are_made_unique_and_scopes_reuse():
    x = tf.constant(ROWS)
    layers.fully_connected(x, 3)
    layers.fully_connected(x, 3)
    first = layers.fully_connected(x, 3, scope="shared", activation_fn=None)
    again = layers.fully_connected(x, 3, scope="shared", reuse=True, activation_fn=None)
    with tf.variable_scope("shared", reuse=True) as sc:
        third = layers.fully_connected(x, 3, scope=sc, activation_fn=None)
    assert [n for n in names() if "weights" in n] == ["fully_connected/weights", "fully_connected_1/weights", "shared/weights"]
    a, b, c = run([first, again, third])
    assert np.array_equal(a, b) and np.array_equal(a, c)
    with pytest.raises(ValueError, match="already exists"):
        layers.fully_connected(x, 3, scope="shared")
    with pytest.raises(ValueError, match="cannot be used without a name_or_scope"):
        layers.fully_connected(x, 3, reuse=True)


def test_collections():
    x = tf.constant(IMAGES)
    y = layers.conv2d(x, 5, 3, variables_collections={"weights": ["w"], "biases": ["b", "w"]}, outputs_collections="end",
                      weights_regularizer=layers.l2_regularizer(0.5), scope="block/c")
    layers.batch_norm(y, variables_collections=["bn"], outputs_collections=["end"], updates_collections="mine", scope="bn")
    layers.max_pool2d(y, 2, outputs_collections="end", scope="p")
    assert names("w") == ["block/c/weights", "block/c/biases"] and names("b") == ["block/c/biases"]
    assert set(names("bn")) == {"bn/beta", "bn/moving_mean", "bn/moving_variance"}
    assert list(layers.utils.convert_collection_to_dict("end")) == ["block/c", "bn", "p"]
    assert len(tf.get_collection("mine")) == 2 and not tf.get_collection(tf.GraphKeys.UPDATE_OPS)
    assert names(tf.GraphKeys.TRAINABLE_VARIABLES) == ["block/c/weights", "block/c/biases", "bn/beta"]
    loss, = tf.losses.get_regularization_losses()
    assert loss.name == "block/c/weights/Regularizer/l2_regularizer:0" or loss.op.name.startswith("block/c/")
    weights = tf.get_collection("w")[0]
    a, b = run([loss, weights])
    np.testing.assert_allclose(a, 0.25 * (b ** 2).sum(), rtol=1e-5)


def test_not_trainable():
    layers.conv2d(tf.constant(IMAGES), 5, 3, trainable=False, normalizer_fn=layers.batch_norm, normalizer_params={"trainable": False})
    assert tf.trainable_variables() == [] and len(tf.global_variables()) == 4


# ---------------------------------------------------------------- values


def test_dense_and_convolution_values():
    """The same as tf.layers with the same weights."""
    x, r = tf.constant(IMAGES), tf.constant(ROWS)
    one = tf.constant_initializer
    kernel = R.randn(3, 3, 4, 5).astype(np.float32)
    matrix, bias = R.randn(4, 3).astype(np.float32), np.array([0.5, -1, 2], np.float32)
    ours = [layers.fully_connected(r, 3, None, weights_initializer=one(matrix), biases_initializer=one(bias)),
            layers.conv2d(x, 5, 3, 2, weights_initializer=one(kernel)),
            layers.conv2d_transpose(x, 5, 3, 2, activation_fn=None, weights_initializer=one(kernel.transpose(0, 1, 3, 2).copy())),
            layers.conv2d_in_plane(x, 2, weights_initializer=tf.ones_initializer(), padding="VALID", activation_fn=None)]
    theirs = [ROWS @ matrix + bias,
              tf.layers.conv2d(x, 5, 3, 2, "same", activation=tf.nn.relu, kernel_initializer=one(kernel)),
              tf.layers.conv2d_transpose(x, 5, 3, 2, "same", kernel_initializer=one(kernel.transpose(0, 1, 3, 2).copy())),
              IMAGES[:, :-1, :-1] + IMAGES[:, 1:, :-1] + IMAGES[:, :-1, 1:] + IMAGES[:, 1:, 1:]]
    got, layers_of_tf = run([ours, theirs[1:3]])
    for a, b in zip(got, [theirs[0], *layers_of_tf, theirs[3]]):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-5)


def normalised(x, axes, epsilon, unbiased=None):
    mean, var = x.mean(axes, keepdims=True), x.var(axes, keepdims=True)
    return (x - mean) / np.sqrt(var + epsilon), mean.ravel(), var.ravel()


@pytest.mark.parametrize("x, unbiased, options", [
    (IMAGES, True, {}), (IMAGES, False, {"fused": False}), (ROWS, True, {}), (ROWS, False, {"fused": False}),
    (IMAGES, True, {"updates_collections": None}), (ROWS, True, {"updates_collections": None}),
    (IMAGES[:, 0], False, {}), (IMAGES.transpose(0, 3, 1, 2).copy(), True, {"data_format": "NCHW"}),
], ids=["images", "images not fused", "matrix", "matrix not fused", "updates with the output", "matrix with updates", "sequences",
        "channels first"])
def test_batch_norm_training_and_inference(x, unbiased, options):
    training = tf.placeholder(tf.bool, [])
    outputs = [layers.batch_norm(tf.constant(x), 0.9, is_training=flag, scope=f"bn{i}", **options)
               for i, flag in enumerate((True, training))]
    updates = tf.get_collection(tf.GraphKeys.UPDATE_OPS)
    assert bool(updates) == ("updates_collections" not in options)
    axes = (0, 2, 3) if "data_format" in options else tuple(range(x.ndim - 1))
    expected, mean, var = normalised(x, axes, 0.001)
    n = x.size // 4
    moved = [0.1 * mean, 0.9 + 0.1 * var * (n / (n - 1) if unbiased else 1)]
    moving = [[v for v in tf.global_variables() if v.op.name.startswith(f"bn{i}/moving")] for i in (0, 1)]
    with flags.override(interpret=QUICK), tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        got = sess.run([outputs, updates], {training: True})[0]
        first = sess.run(moving)
        shape = [1, 4, 1, 1] if "data_format" in options else [4]
        tested = sess.run([outputs[1], updates], {training: False})[0]
        second = sess.run(moving[1])
    for y in got:
        np.testing.assert_allclose(y, expected, rtol=1e-4, atol=1e-5)
    for values in first:
        np.testing.assert_allclose(values, moved, rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(tested, (x - moved[0].reshape(shape)) / np.sqrt(moved[1].reshape(shape) + 0.001), rtol=1e-4, atol=1e-5)
    np.testing.assert_allclose(second, first[1])  # inference moves nothing


@pytest.mark.parametrize("placeholder", [False, True])
def test_batch_norm_zero_debias(placeholder):
    training = tf.placeholder(tf.bool, []) if placeholder else True
    x = tf.placeholder(tf.float32, [None, 2])
    y = layers.batch_norm(x, 0.9, is_training=training, zero_debias_moving_mean=True, updates_collections=None, scope="bn")
    assert [n for n in names() if "moving_mean" in n] == ["bn/moving_mean", "bn/bn/moving_mean/biased", "bn/bn/moving_mean/local_step"]
    mean = next(v for v in tf.global_variables() if v.op.name == "bn/moving_mean")
    batches = [np.array([[1.0, 2], [3, 6]]), np.array([[0.0, 0], [2, 2]])]
    with flags.override(interpret=QUICK), tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for batch in batches:
            if placeholder:
                assert np.isfinite(sess.run(y, {x: batch, training: False})).all()
            sess.run(y, {x: batch, **({training: True} if placeholder else {})})
        got = sess.run(mean)
    # the mean of the batches' means (2, 4) and (1, 1), weighted 0.9 and 1
    np.testing.assert_allclose(got, (0.9 * np.array([2.0, 4]) + np.array([1.0, 1])) / 1.9, rtol=1e-5)


def test_batch_norm_parameters():
    x = tf.constant(ROWS)
    start = {"beta": tf.constant_initializer(2.0), "gamma": tf.constant_initializer(3.0), "moving_mean": tf.constant_initializer(0.5),
             "moving_variance": tf.constant_initializer(4.0)}
    y = layers.batch_norm(x, scale=True, epsilon=0.0625, is_training=False, param_initializers=start,
                          param_regularizers={"beta": layers.l1_regularizer(1.0)}, activation_fn=tf.nn.relu)
    weights = np.array([1.0, 1, 1, 0, 0], np.float32)
    weighted = layers.batch_norm(x, batch_weights=tf.constant(weights), scope="w")
    a, loss, b = run([y, tf.losses.get_regularization_losses()[0], weighted])
    np.testing.assert_allclose(a, np.maximum(3 * (ROWS - 0.5) / np.sqrt(4.0625) + 2, 0), rtol=1e-5)
    assert loss == 8
    np.testing.assert_allclose(b, (ROWS - ROWS[:3].mean(0)) / np.sqrt(ROWS[:3].var(0) + 0.001), rtol=1e-4, atol=1e-5)


def test_batch_norm_learns_by_its_update_ops():
    """The contract of UPDATE_OPS, compiled."""
    x = tf.placeholder(tf.float32, [None, 4])
    training = tf.placeholder(tf.bool, [])
    y = layers.fully_connected(x, 1, None, normalizer_fn=layers.batch_norm,
                               normalizer_params={"is_training": training, "decay": 0.5, "updates_collections": None})
    loss = tf.reduce_mean(tf.square(y - tf.reduce_sum(x, 1, keepdims=True)))
    step = tf.train.AdamOptimizer(0.1).minimize(loss)
    data = R.randn(64, 4).astype(np.float32)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        losses = [sess.run([loss, step], {x: data, training: True})[0] for _ in range(60)]
        tested = sess.run(loss, {x: data, training: False})
    assert losses[-1] < losses[0] and abs(tested - losses[-1]) < 0.2 * losses[0]


NORMS = {
    "layer_norm": (lambda x: layers.layer_norm(x), (1, 2, 3), 1e-12),
    "layer_norm of the last axis": (lambda x: layers.layer_norm(x, begin_norm_axis=-1), (3,), 1e-12),
    "instance_norm": (lambda x: layers.instance_norm(x), (1, 2), 1e-6),
    "instance_norm, channels first": (lambda x: layers.instance_norm(x, data_format="NCHW", epsilon=1e-3), (2, 3), 1e-3),
}


@pytest.mark.parametrize("name", NORMS)
def test_norms(name):
    call, axes, epsilon = NORMS[name]
    np.testing.assert_allclose(run(call(tf.constant(IMAGES))), normalised(IMAGES, axes, epsilon)[0], rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("close", [False, True])
def test_group_norm(close):
    grouped = IMAGES.reshape(2, 6, 6, 2, 2)
    expected = normalised(grouped, (1, 2, 4), 1e-6)[0].reshape(IMAGES.shape)
    start = {"gamma": tf.constant_initializer(2.0), "beta": tf.constant_initializer(1.0)}
    x = tf.placeholder(tf.float32, [None, 6, 6, 4])
    y = layers.group_norm(x, 2, param_initializers=start, mean_close_to_zero=close)
    np.testing.assert_allclose(run(y, {x: IMAGES}), 2 * expected + 1, rtol=1e-3, atol=1e-4)


def softmax(x):
    e = np.exp(x - x.max(-1, keepdims=True))
    return e / e.sum(-1, keepdims=True)


def spatial(x):
    attention = softmax(x.transpose(0, 3, 1, 2).reshape(-1, 36)).reshape(2, 4, 6, 6)
    at = np.linspace(-1, 1, 6)
    return np.stack([(attention * at[:, None]).sum((2, 3)), (attention * at).sum((2, 3))], -1).reshape(2, 8)


SIMPLE = {
    "softmax": (lambda x: layers.softmax(x), softmax),
    "maxout": (lambda x: layers.maxout(x, 2), lambda x: x.reshape(2, 6, 6, 2, 2).max(-1)),
    "unit_norm": (lambda x: layers.unit_norm(x, 3), lambda x: x / np.sqrt((x ** 2).sum(3, keepdims=True) + 1e-7)),
    "poincare_normalize": (lambda x: layers.poincare_normalize(x, 3),
                           lambda x: x * np.minimum((1 - 1e-5) / np.sqrt((x ** 2).sum(3, keepdims=True)), 1)),
    "spatial_softmax": (lambda x: layers.spatial_softmax(x), spatial),
    "spatial_softmax, channels first": (lambda x: layers.spatial_softmax(tf.transpose(x, [0, 3, 1, 2]), 2.0, data_format="NCHW"),
                                        lambda x: spatial(x / 2)),
    "max_pool2d": (lambda x: layers.max_pool2d(x, 2), lambda x: x.reshape(2, 3, 2, 3, 2, 4).max((2, 4))),
    "avg_pool2d": (lambda x: layers.avg_pool2d(x, 2), lambda x: x.reshape(2, 3, 2, 3, 2, 4).mean((2, 4))),
    "max_pool3d": (lambda x: layers.max_pool3d(x[..., None], 2), lambda x: x.reshape(2, 3, 2, 3, 2, 2, 2).max((2, 4, 6))[..., None]),
    "avg_pool3d": (lambda x: layers.avg_pool3d(x[..., None], 2), lambda x: x.reshape(2, 3, 2, 3, 2, 2, 2).mean((2, 4, 6))[..., None]),
    "flatten": (lambda x: layers.flatten(x), lambda x: x.reshape(2, -1)),
    "one_hot_encoding": (lambda x: layers.one_hot_encoding([2, 0], 3, on_value=2.0), lambda x: np.array([[0, 0, 2], [2, 0, 0]])),
    "dense_to_sparse": (lambda x: tf.sparse_tensor_to_dense(layers.dense_to_sparse(tf.constant([[3, 0], [0, 4]]))),
                        lambda x: np.array([[3, 0], [0, 4]])),
    "sequence_to_images": (lambda x: layers.sequence_to_images(layers.images_to_sequence(x), 6), lambda x: x),
    "images_to_sequence": (lambda x: layers.images_to_sequence(x), lambda x: x.transpose(2, 0, 1, 3).reshape(6, 12, 4)),
    "scale_gradient": (lambda x: tf.gradients(layers.scale_gradient(x, 0.25) * x, x)[0], lambda x: 1.25 * x),
    "dropout, not training": (lambda x: layers.dropout(x, 0.3, is_training=False), lambda x: x),
    "dropout, nothing dropped": (lambda x: layers.dropout(x, 1.0), lambda x: x),
}


@pytest.mark.parametrize("name", SIMPLE)
def test_simple_layers(name):
    call, expected = SIMPLE[name]
    x = tf.placeholder_with_default(tf.constant(IMAGES), [None, 6, 6, 4])
    np.testing.assert_allclose(run(call(x)), expected(IMAGES), rtol=1e-5, atol=1e-6)


def test_dropout_keeps_its_share():
    y = run(layers.dropout(tf.ones([100, 100]), 0.8, is_training=tf.constant(True), seed=1))
    assert set(np.unique(y)) == {0.0, np.float32(1.25)} and abs((y > 0).mean() - 0.8) < 0.02


# ---------------------------------------------------------------- initializers and regularizers


@pytest.mark.parametrize("init, low, high, deviation", [
    (lambda: layers.xavier_initializer(), -np.sqrt(6 / 450), np.sqrt(6 / 450), np.sqrt(2 / 450)),
    (lambda: layers.xavier_initializer(uniform=False), -2 * np.sqrt(2.6 / 450), 2 * np.sqrt(2.6 / 450), np.sqrt(2 / 450)),
    (lambda: layers.variance_scaling_initializer(), -2 * np.sqrt(2.6 / 150), 2 * np.sqrt(2.6 / 150), np.sqrt(2 / 150)),
    (lambda: layers.variance_scaling_initializer(1.0, "FAN_OUT", True), -np.sqrt(3 / 300), np.sqrt(3 / 300), np.sqrt(1 / 300)),
])
def test_initializers(init, low, high, deviation):
    """Fans of [150, 300] and of a filter [3, 5, 10, 20] are 150 and 300."""
    for shape in ([150, 300], [3, 5, 10, 20]):
        w = run(init()(shape))
        assert w.min() >= low and w.max() <= high and w.min() < 0.9 * low and w.max() > 0.9 * high
        np.testing.assert_allclose(w.std(), deviation, rtol=0.06)


@pytest.mark.parametrize("call, text", [
    (lambda: layers.variance_scaling_initializer(dtype=tf.int32), "non-floating"),
    (lambda: layers.variance_scaling_initializer(mode="fan_in"), "Unknown mode fan_in"),
    (lambda: layers.xavier_initializer()([2, 2], dtype=tf.int32), "non-floating"),
])
def test_initializers_bad_input(call, text):
    with pytest.raises(TypeError, match=text):
        call()


def test_regularizers():
    w = tf.get_variable("w", initializer=tf.constant([[1.0, -2.0], [3.0, 0.5]]), collections=[tf.GraphKeys.WEIGHTS, "variables"])
    l1, l2, both = layers.l1_regularizer(0.5)(w), layers.l2_regularizer(0.5)(w), layers.l1_l2_regularizer(0.5, 2.0)(w)
    total = layers.sum_regularizer([layers.l1_regularizer(1.0), None, layers.l2_regularizer(0.0)])(w)
    scaled = layers.l2_regularizer(tf.constant(2.0))(w)
    penalty = layers.apply_regularization(layers.l1_regularizer(2.0))
    assert tf.losses.get_regularization_losses() == [penalty] and layers.l1_regularizer(0.0)(w) is None
    assert l2.op.name == "l2_regularizer" and layers.sum_regularizer([None]) is None
    np.testing.assert_allclose(run([l1, l2, both, total, scaled, penalty]), [3.25, 3.5625, 3.25 + 14.25, 6.5, 14.25, 13])
    for bad in (1, -0.5):
        with pytest.raises(ValueError, match="scale"):
            layers.l2_regularizer(bad)
    with pytest.raises(ValueError, match="No weights"), tf.Graph().as_default():
        layers.apply_regularization(layers.l1_regularizer(2.0))


# ---------------------------------------------------------------- embeddings


def test_embed_sequence():
    table = R.randn(7, 3).astype(np.float32)
    ids = np.array([[1, 6, 1], [0, 0, 5]])
    y = layers.embed_sequence(ids, 7, 3, initializer=tf.constant_initializer(table), scope="e")
    again = layers.embed_sequence(ids, scope="e", reuse=True, unique=True)
    bag = layers.bow_encoder(ids, 7, 3, sparse_lookup=False, initializer=tf.constant_initializer(table))
    assert names() == ["e/embeddings", "bow_encoder/embeddings"] and again.shape.as_list() == [2, 3, 3]
    a, b, c = run([y, again, bag])
    np.testing.assert_allclose(a, table[ids])
    np.testing.assert_allclose(b, table[ids])
    np.testing.assert_allclose(c, table[ids].mean(1), rtol=1e-6)
    for call in (lambda: layers.embed_sequence(ids, 7), lambda: layers.bow_encoder(ids, 0, 3)):
        with pytest.raises(ValueError, match="Must specify vocab size"):
            call()


# ---------------------------------------------------------------- bad input


@pytest.mark.parametrize("call, error, text", [
    (lambda x: layers.fully_connected(x, 2.5), ValueError, "num_outputs type should be int, got float"),
    (lambda x: layers.fully_connected(tf.placeholder(tf.float32, [3, None]), 2), ValueError, "last dimension"),
    (lambda x: layers.conv2d(x, 3, 3, data_format="NHCW"), ValueError, "Invalid data_format: 'NHCW'"),
    (lambda x: layers.conv1d(x, 3, 3), ValueError, "expects input with rank 3, got 4"),
    (lambda x: layers.convolution(tf.constant(ROWS), 3, 3), ValueError, "not supported for input with rank 2"),
    (lambda x: layers.conv2d(x, 3, 3, 2, rate=2), ValueError, "strides > 1"),
    (lambda x: layers.conv2d_transpose(x, 3, 3, data_format="NWC"), ValueError, "data_format has to be either NCHW or NHWC"),
    (lambda x: layers.batch_norm(x, renorm=True), NotImplementedError, "renorm"),
    (lambda x: layers.batch_norm(tf.placeholder(tf.float32)), ValueError, "undefined rank"),
    (lambda x: layers.batch_norm(tf.placeholder(tf.float32, [3, None])), ValueError, "undefined channels"),
    (lambda x: layers.layer_norm(x, begin_norm_axis=4), ValueError, "must be < rank"),
    (lambda x: layers.group_norm(x, 3), ValueError, "not commensurate with 3 groups"),
    (lambda x: layers.group_norm(x, 8), ValueError, "Invalid groups 8 for 4 channels"),
    (lambda x: layers.group_norm(x, 2, reduction_axes=(-1,)), ValueError, "mutually exclusive"),
    (lambda x: layers.max_pool2d(x, 2, data_format="NDHWC"), ValueError, "either NCHW or NHWC"),
    (lambda x: layers.max_pool2d(x, 0), ValueError, "pool_size"),
    (lambda x: layers.max_pool2d(tf.constant(ROWS), 2), ValueError, "expected ndim=4, found ndim=2"),
    (lambda x: layers.maxout(x, 3), ValueError, r"number of features\(4\) is not a multiple of num_units\(3\)"),
    (lambda x: layers.unit_norm(x, 4), ValueError, "smaller than the input rank"),
    (lambda x: layers.bias_add(tf.constant(ROWS), data_format="NCHW"), ValueError, "only supports 4D"),
    (lambda x: layers.stack(x, layers.conv2d, 3), ValueError, "stack_args need to be a list"),
    (lambda x: layers.spatial_softmax(tf.placeholder(tf.float32, [1, 2, 2, None])), ValueError, "num_channels"),
    (lambda x: layers.utils.two_element_tuple([1, 2, 3]), ValueError, "2 elements"),
    (lambda x: layers.utils.n_positive_integers(2, [1, 0]), ValueError, "positive integer"),
])
def test_bad_input(call, error, text):
    with pytest.raises(error, match=text):
        call(tf.constant(IMAGES))
