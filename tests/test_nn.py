"""tf.nn against NumPy, SciPy and plain loops; kernels of windows against their references."""
from __future__ import annotations

import numpy as np
import pytest
from on_gpu import QUICK
import scipy.special as sp
from scipy import ndimage

import graphflow as tf
from graphflow import types
from graphflow.flags import flags
from graphflow.ops import nn_ops, window  # noqa: F401  (fills the registry)
from graphflow.ops.opdef import REGISTRY
from test_contraction import check_gradients, check_kernel, loop_conv, same_pads

RNG = np.random.default_rng(11)
pytestmark = pytest.mark.filterwarnings("ignore:gradients. no path")


@pytest.fixture(autouse=True)
def fresh_graph():
    with tf.Graph().as_default(), flags.override(interpret=QUICK):
        yield


def run(*fetches, feed_dict=None):
    with tf.Session() as sess:
        found = sess.run(list(fetches), feed_dict)
    return found if len(found) > 1 else found[0]


def normal(*shape):
    return RNG.normal(size=shape)


def slope(y, x, value, *, weight=None, h=1e-5):
    """Asserts the gradient of sum(weight * y) for x, a placeholder fed `value`, along a random direction."""
    g, = tf.gradients(y, [x], grad_ys=None if weight is None else [tf.constant(weight)])
    d = normal(*value.shape)
    up, down = (np.sum(run(y, feed_dict={x: value + s * h * d}) * (1 if weight is None else weight)) for s in (1, -1))
    found = run(g, feed_dict={x: value})
    assert found.shape == value.shape
    np.testing.assert_allclose(np.sum(found * d), (up - down) / (2 * h), rtol=1e-6, atol=1e-7)


# ---------------------------------------------------------------- kernels


PRIMITIVES = [op for op in REGISTRY.values() if op.samples
              and op.__module__.rpartition(".")[2] in ("contraction", "window", "nn_ops", "einsum") and (op._fold or op._lower)]


@pytest.mark.parametrize("op", PRIMITIVES, ids=lambda op: op.type)
def test_kernel_expression(op):
    """The kernel of every sample gives the reference's value and reads only inside its inputs."""
    for sample in op.samples:
        args, attrs = sample(np.random.default_rng(3))
        t = op(*[tf.constant(a) for a in args], **attrs)
        arrays = [np.asarray(a).astype(np.float32) if np.asarray(a).dtype == np.float16 else np.asarray(a) for a in args]
        if np.asarray(args[0]).dtype != np.float16:
            check_kernel(t, arrays)


# ---------------------------------------------------------------- activations and softmax


@pytest.mark.parametrize("name,want", [
    ("relu", lambda x: np.maximum(x, 0)), ("relu6", lambda x: np.clip(x, 0, 6)), ("elu", lambda x: np.where(x > 0, x, np.expm1(x))),
    ("selu", lambda x: 1.0507009873554805 * np.where(x > 0, x, 1.6732632423543772 * np.expm1(x))),
    ("softplus", lambda x: np.logaddexp(0, x)),
    ("softsign", lambda x: x / (1 + abs(x))), ("sigmoid", sp.expit), ("tanh", np.tanh), ("log_sigmoid", sp.log_expit),
    ("leaky_relu", lambda x: np.where(x > 0, x, 0.2 * x)), ("swish", lambda x: x * sp.expit(x)),
    ("crelu", lambda x: np.maximum(np.concatenate([x, -x], -1), 0)), ("softmax", lambda x: sp.softmax(x, -1)),
    ("log_softmax", lambda x: sp.log_softmax(x, -1))])
def test_activation(name, want):
    x = normal(3, 5) * 4
    y = getattr(tf.nn, name)(tf.constant(x), name="here")
    assert y.name.startswith("here")
    np.testing.assert_allclose(run(y), want(x), rtol=1e-12)
    np.testing.assert_allclose(run(getattr(tf.nn, name)(x.astype(np.float32))), want(x), rtol=3e-5, atol=1e-6)


def test_activation_forms():
    x = normal(4, 3)
    np.testing.assert_allclose(run(tf.nn.leaky_relu(x, alpha=tf.constant(0.5, tf.float64))), np.where(x > 0, x, x / 2))
    np.testing.assert_allclose(run(tf.nn.crelu(x, axis=0)), np.maximum(np.concatenate([x, -x], 0), 0))
    np.testing.assert_allclose(run(tf.nn.softmax(x, dim=0)), sp.softmax(x, 0))
    np.testing.assert_allclose(run(tf.nn.softmax(x, axis=0)), sp.softmax(x, 0))
    with pytest.raises(ValueError, match="dim"):
        tf.nn.softmax(x, axis=2)


def test_softmax_of_large_logits():
    x = np.array([[1e4, 0, -1e4], [-np.inf, 0, 0]], np.float32)
    np.testing.assert_array_equal(run(tf.nn.softmax(x)), [[1, 0, 0], [0, 0.5, 0.5]])
    np.testing.assert_array_equal(run(tf.nn.log_softmax(x[:1])), [[0, -1e4, -2e4]])


# ---------------------------------------------------------------- cross entropies


def distributions(*shape):
    p = RNG.uniform(0.1, 1, shape)
    return p / p.sum(-1, keepdims=True)


@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 3, 4)])
def test_softmax_cross_entropy(shape):
    x, p = normal(*shape) * 3, distributions(*shape)
    logits = tf.constant(x)
    loss = tf.nn.softmax_cross_entropy_with_logits(labels=p, logits=logits)
    want = -(p * sp.log_softmax(x, -1)).sum(-1)
    assert loss.shape.as_list() == list(shape[:-1])
    np.testing.assert_allclose(run(loss), want)
    np.testing.assert_allclose(run(tf.gradients(loss, logits)[0]), sp.softmax(x, -1) - p, rtol=1e-10, atol=1e-12)
    np.testing.assert_allclose(run(tf.nn.softmax_cross_entropy_with_logits_v2(labels=p.astype(np.float32), logits=x.astype(np.float32))),
                               want, rtol=1e-5)
    if len(shape) > 1:
        np.testing.assert_allclose(run(tf.nn.softmax_cross_entropy_with_logits(labels=p.swapaxes(0, -1), logits=x.swapaxes(0, -1), dim=0)),
                                   want.T)


def test_labels_are_held_constant_in_the_first_version_only():
    p, x = tf.constant(distributions(3, 4)), tf.constant(normal(3, 4))
    assert tf.gradients(tf.nn.softmax_cross_entropy_with_logits(labels=p, logits=x), p) == [None]
    g, = tf.gradients(tf.nn.softmax_cross_entropy_with_logits_v2(labels=p, logits=x), p)
    np.testing.assert_allclose(*run(g, -tf.nn.log_softmax(x)))


def test_cross_entropy_hessian():
    x, p = normal(1, 4), distributions(1, 4)
    logits = tf.constant(x)
    g, = tf.gradients(tf.nn.softmax_cross_entropy_with_logits(labels=p, logits=logits), logits)
    rows = [run(tf.gradients(g[0, i], logits)[0])[0] for i in range(4)]
    s = sp.softmax(x[0])
    np.testing.assert_allclose(rows, np.diag(s) - np.outer(s, s), atol=1e-12)


@pytest.mark.parametrize("shape", [(4,), (3, 4), (2, 3, 4)])
@pytest.mark.parametrize("dtype", [np.int32, np.int64])
def test_sparse_softmax_cross_entropy(shape, dtype):
    x, labels = normal(*shape) * 3, RNG.integers(0, 4, shape[:-1]).astype(dtype)
    logits = tf.constant(x)
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits)
    np.testing.assert_allclose(run(loss), -np.take_along_axis(sp.log_softmax(x, -1), labels[..., None].astype(int), -1)[..., 0])
    np.testing.assert_allclose(run(tf.gradients(loss, logits)[0]), sp.softmax(x, -1) - np.eye(4)[labels], rtol=1e-10, atol=1e-12)


def test_cross_entropy_errors():
    x = np.zeros((2, 5), np.float32)
    labels = tf.placeholder(tf.int64, [None])
    loss = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=x)
    for bad in (7, -1):
        with pytest.raises(tf.errors.InvalidArgumentError,
                           match=rf"Received a label value of {bad} which is outside the valid range of \[0, 5\)"):
            run(loss, feed_dict={labels: [0, bad]})
    with pytest.raises(ValueError, match=r"Rank of labels \(received 2\) should equal rank of logits minus 1 \(received 2\)"):
        tf.nn.sparse_softmax_cross_entropy_with_logits(labels=np.zeros((2, 1), np.int32), logits=x)
    with pytest.raises(ValueError, match="with named arguments"):
        tf.nn.softmax_cross_entropy_with_logits(x, x)
    with pytest.raises(ValueError, match="Both labels and logits must be provided"):
        tf.nn.sigmoid_cross_entropy_with_logits(logits=x)
    with pytest.raises(ValueError, match=r"logits and labels must have the same shape \(\(2, 5\) vs \(2, 4\)\)"):
        tf.nn.sigmoid_cross_entropy_with_logits(logits=x, labels=x[:, 1:])
    with pytest.raises(ValueError):
        tf.nn.softmax_cross_entropy_with_logits(logits=x, labels=np.zeros((3, 5), np.float32))


def test_sigmoid_cross_entropies():
    x, z = normal(3, 4) * 5, RNG.uniform(0, 1, (3, 4))
    want = -z * sp.log_expit(x) - (1 - z) * sp.log_expit(-x)
    np.testing.assert_allclose(run(tf.nn.sigmoid_cross_entropy_with_logits(labels=z, logits=tf.constant(x))), want)
    np.testing.assert_allclose(run(tf.nn.sigmoid_cross_entropy_with_logits(targets=z, logits=x)), want)
    weighted = tf.nn.weighted_cross_entropy_with_logits(targets=z, logits=x, pos_weight=3.0)
    np.testing.assert_allclose(run(weighted), -3 * z * sp.log_expit(x) - (1 - z) * sp.log_expit(-x))
    extreme = np.array([-1e4, 1e4], np.float32)
    np.testing.assert_array_equal(run(tf.nn.sigmoid_cross_entropy_with_logits(labels=np.array([0, 0], np.float32), logits=extreme)),
                                  [0, 1e4])
    check_gradients(lambda a: tf.nn.weighted_cross_entropy_with_logits(z, a, 2.0), x)


def test_log_poisson_loss():
    c, z = normal(5), np.array([0.0, 1.0, 0.5, 3.0, 7.0])
    np.testing.assert_allclose(run(tf.nn.log_poisson_loss(z, c)), np.exp(c) - c * z)
    full = np.where(z > 1, z * np.log(np.maximum(z, 1)) - z + 0.5 * np.log(2 * np.pi * np.maximum(z, 1)), 0)
    np.testing.assert_allclose(run(tf.nn.log_poisson_loss(z, c, compute_full_loss=True)), np.exp(c) - c * z + full)


# ---------------------------------------------------------------- bias and linear


def test_bias_add():
    x, b = normal(2, 3, 4, 5), normal(5)
    np.testing.assert_allclose(run(tf.nn.bias_add(x, b)), x + b)
    np.testing.assert_allclose(run(tf.nn.bias_add(x, b[:3], data_format="NCHW")), x + b[:3, None, None])
    np.testing.assert_allclose(run(tf.nn.bias_add(x[0, 0], b)), x[0, 0] + b)
    for bias, form in ((b, "NHWC"), (b[:3], "NCHW")):
        check_gradients(lambda v, c, form=form: tf.nn.bias_add(v, c, form), x, bias)
    unknown = tf.placeholder(tf.float64, [None, None])
    y = tf.nn.bias_add(unknown, b)
    assert y.shape.as_list() == [None, 5]
    with pytest.raises(ValueError, match="Dimensions must be equal, but are 5 and 4"):
        tf.nn.bias_add(x, b[:4])
    with pytest.raises(ValueError, match="rank"):
        tf.nn.bias_add(x, x)
    with pytest.raises(ValueError, match="data_format"):
        tf.nn.bias_add(x, b, data_format="CHWN")


def test_linear_layers():
    x, w, b = normal(2, 3), normal(3, 4), normal(4)
    np.testing.assert_allclose(run(tf.nn.xw_plus_b(x, w, b)), x @ w + b)
    np.testing.assert_allclose(run(tf.nn.relu_layer(x, w, b)), np.maximum(x @ w + b, 0))
    np.testing.assert_allclose(run(tf.nn.l2_loss(x)), (x ** 2).sum() / 2)


# ---------------------------------------------------------------- convolutions


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("stride,dilation", [(1, 1), (2, 1), (1, 2)])
def test_conv2d_formats(padding, stride, dilation):
    x, w = normal(2, 6, 5, 3), normal(3, 2, 3, 4)
    s, d = (stride, stride), (dilation, dilation)
    pads = same_pads((6, 5), (3, 2), s, d) if padding == "SAME" else [(0, 0)] * 2
    want = loop_conv(x, w, s, pads, d, 1)
    y = tf.nn.conv2d(tf.constant(x), w, [1, stride, stride, 1], padding, dilations=[1, dilation, dilation, 1])
    assert y.op.type == "Conv2D" and y.op.name == "Conv2D"
    np.testing.assert_allclose(run(y), want, rtol=1e-10, atol=1e-12)
    first = tf.nn.conv2d(x.transpose(0, 3, 1, 2), filter=w, strides=[1, 1, stride, stride], padding=padding, data_format="NCHW",
                         dilations=[1, 1, dilation, dilation], name="nchw")
    assert first.op.name == "nchw"
    np.testing.assert_allclose(run(first), want.transpose(0, 3, 1, 2), rtol=1e-10, atol=1e-12)
    general = tf.nn.convolution(x, w, padding, strides=s, dilation_rate=d)
    np.testing.assert_allclose(run(general), want, rtol=1e-10, atol=1e-12)
    if stride == 1 and dilation == 2:
        np.testing.assert_allclose(run(tf.nn.atrous_conv2d(x, w, 2, padding)), want, rtol=1e-10, atol=1e-12)


def test_conv_with_unknown_sizes_and_its_gradients():
    x = tf.placeholder(tf.float64, [None, None, None, 2])
    w = tf.placeholder(tf.float64, [3, 3, 2, 3])
    y = tf.nn.conv2d(x, w, [1, 2, 2, 1], "SAME")
    assert y.shape.as_list() == [None, None, None, 3]
    dx, dw = tf.gradients(y, [x, w])
    assert dx.shape.as_list() == [None, None, None, 2] and dw.shape.as_list() == [3, 3, 2, 3]
    kernel = normal(3, 3, 2, 3)
    for size in ((2, 5, 6, 2), (1, 4, 3, 2)):
        value = normal(*size)
        pads = same_pads(size[1:3], (3, 3), (2, 2), (1, 1))
        got, gx, gw = run(y, dx, dw, feed_dict={x: value, w: kernel})
        np.testing.assert_allclose(got, loop_conv(value, kernel, (2, 2), pads, (1, 1), 1), rtol=1e-10)
        h = 1e-6
        d = normal(*size)
        np.testing.assert_allclose(np.sum(gx * d), np.sum(run(y, feed_dict={x: value + h * d, w: kernel}) - got) / h, rtol=1e-5, atol=1e-6)
        d = normal(3, 3, 2, 3)
        np.testing.assert_allclose(np.sum(gw * d), np.sum(run(y, feed_dict={x: value, w: kernel + h * d}) - got) / h, rtol=1e-5, atol=1e-6)


def test_conv1d_and_conv3d():
    x, w = normal(2, 7, 3), normal(3, 3, 4)
    want = loop_conv(x, w, (2,), same_pads((7,), (3,), (2,), (1,)), (1,), 1)
    np.testing.assert_allclose(run(tf.nn.conv1d(x, w, 2, "SAME")), want, rtol=1e-10)
    np.testing.assert_allclose(run(tf.nn.conv1d(x.transpose(0, 2, 1), w, stride=2, padding="SAME", data_format="NCW")),
                               want.transpose(0, 2, 1), rtol=1e-10)
    x, w = normal(1, 4, 3, 4, 2), normal(2, 2, 2, 2, 3)
    want = loop_conv(x, w, (1, 1, 2), [(0, 0)] * 3, (1, 1, 1), 1)
    np.testing.assert_allclose(run(tf.nn.conv3d(x, w, [1, 1, 1, 2, 1], "VALID")), want, rtol=1e-10)


def test_explicit_padding():
    x, w = normal(1, 4, 5, 2), normal(3, 3, 2, 2)
    y = tf.nn.conv2d(x, w, 1, [[0, 0], [1, 2], [0, 1], [0, 0]])
    np.testing.assert_allclose(run(y), loop_conv(x, w, (1, 1), [(1, 2), (0, 1)], (1, 1), 1), rtol=1e-10, atol=1e-12)


@pytest.mark.parametrize("multiplier", [1, 2])
@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
def test_depthwise_and_separable(multiplier, data_format):
    x, w, p = normal(2, 5, 4, 3), normal(3, 2, 3, multiplier), normal(1, 1, 3 * multiplier, 5)
    channels = [loop_conv(x[..., c:c + 1], w[:, :, c:c + 1], (1, 1), same_pads((5, 4), (3, 2), (1, 1), (1, 1)), (1, 1), 1)
                for c in range(3)]
    want = np.concatenate(channels, -1)
    move, back = ((0, 3, 1, 2), (0, 2, 3, 1)) if data_format == "NCHW" else ((0, 1, 2, 3),) * 2
    y = tf.nn.depthwise_conv2d(x.transpose(move), w, [1, 1, 1, 1], "SAME", data_format=data_format)
    np.testing.assert_allclose(run(y).transpose(back), want, rtol=1e-10, atol=1e-12)
    y = tf.nn.separable_conv2d(x.transpose(move), w, p, [1, 1, 1, 1], "SAME", data_format=data_format)
    np.testing.assert_allclose(run(y).transpose(back), want @ p[0, 0], rtol=1e-10, atol=1e-12)
    check_gradients(lambda a, b: tf.nn.depthwise_conv2d_native(a, b, [1, 2, 2, 1], "VALID"), x, w)


@pytest.mark.parametrize("padding,stride", [("SAME", 2), ("VALID", 2), ("VALID", 1)])
def test_transposed_convolution_is_the_adjoint(padding, stride):
    """<conv(x), y> = <x, conv_transpose(y)> for all x and y."""
    x, w = normal(2, 6, 5, 3), normal(3, 2, 3, 4)
    strides = [1, stride, stride, 1]
    forward = run(tf.nn.conv2d(x, w, strides, padding))
    y = normal(*forward.shape)
    batch = tf.shape(tf.constant(x))[0]
    back = tf.nn.conv2d_transpose(y, w, tf.stack([batch, 6, 5, 3]), strides, padding)
    value = run(back)
    assert value.shape == x.shape
    np.testing.assert_allclose(np.sum(forward * y), np.sum(x * value))
    np.testing.assert_allclose(run(tf.nn.conv2d_backprop_input([2, 6, 5, 3], w, y, strides, padding)), value)
    first = tf.nn.conv2d_transpose(y.transpose(0, 3, 1, 2), w, [2, 3, 6, 5], [1, 1, stride, stride], padding, data_format="NCHW")
    np.testing.assert_allclose(run(first), value.transpose(0, 3, 1, 2))
    dw = run(tf.nn.conv2d_backprop_filter(x, [3, 2, 3, 4], y, strides, padding))
    np.testing.assert_allclose(np.sum(dw * w), np.sum(forward * y))
    check_gradients(lambda a, b: tf.nn.conv2d_transpose(a, b, [2, 6, 5, 3], strides, padding), y, w)


def test_transposed_convolution_of_other_ranks():
    y, w = normal(1, 3, 4), normal(3, 2, 4)
    x = normal(1, 6, 2)
    back = run(tf.nn.conv1d_transpose(y, w, [1, 6, 2], 2))
    np.testing.assert_allclose(np.sum(back * x), np.sum(run(tf.nn.conv1d(x, w, 2, "SAME")) * y))
    y, w, x = normal(1, 2, 2, 2, 3), normal(2, 2, 2, 1, 3), normal(1, 4, 4, 4, 1)
    back = run(tf.nn.conv3d_transpose(y, w, [1, 4, 4, 4, 1], [1, 2, 2, 2, 1]))
    np.testing.assert_allclose(np.sum(back * x), np.sum(run(tf.nn.conv3d(x, w, [1, 2, 2, 2, 1], "SAME")) * y))


def test_window_argument_errors():
    x, w = np.zeros((1, 4, 4, 2), np.float32), np.zeros((3, 3, 2, 2), np.float32)
    with pytest.raises(ValueError, match="batch and depth"):
        tf.nn.conv2d(x, w, [2, 1, 1, 1], "SAME")
    with pytest.raises(ValueError, match="allowed values"):
        tf.nn.conv2d(x, w, [1, 1, 1, 1], "FULL")
    with pytest.raises(ValueError, match="strides should be of length"):
        tf.nn.conv2d(x, w, [1, 1, 1], "SAME")
    with pytest.raises(ValueError, match="rank"):
        tf.nn.conv2d(x[0], w, [1, 1, 1, 1], "SAME")
    with pytest.raises(TypeError):
        tf.nn.conv2d(tf.constant(x), tf.constant(w.astype(np.float64)), [1, 1, 1, 1], "SAME")
    with pytest.raises(ValueError, match="Negative dimension"):
        tf.nn.max_pool(x, [1, 5, 5, 1], [1, 1, 1, 1], "VALID")
    with pytest.raises(ValueError, match="belongs to an input of shape"):
        tf.nn.conv2d_transpose(x, w, [1, 20, 8, 2], [1, 2, 2, 1])


# ---------------------------------------------------------------- pools


def loop_pool(x, k, s, pads, fn):
    padded = np.pad(x, [(0, 0), *pads, (0, 0)], constant_values=np.nan)
    counts = [(n - w) // t + 1 for n, w, t in zip(padded.shape[1:-1], k, s)]
    y = np.zeros((x.shape[0], *counts, x.shape[-1]))
    for at in np.ndindex(*y.shape):
        part = padded[(at[0], *[slice(o * t, o * t + w) for o, t, w in zip(at[1:-1], s, k)], at[-1])]
        y[at] = fn(part[~np.isnan(part)])
    return y


@pytest.mark.parametrize("padding", ["SAME", "VALID"])
@pytest.mark.parametrize("k,s", [((2, 2), (2, 2)), ((3, 2), (1, 2)), ((1, 1), (2, 2)), ((2, 3), (3, 3))])
def test_pools(padding, k, s):
    x = normal(2, 6, 5, 3)
    pads = same_pads((6, 5), k, s, (1, 1)) if padding == "SAME" else [(0, 0)] * 2
    for kind, fn in (("max", np.max), ("avg", np.mean)):
        want = loop_pool(x, k, s, pads, fn)
        pool = getattr(tf.nn, f"{kind}_pool")
        y = pool(tf.constant(x), [1, *k, 1], [1, *s, 1], padding)
        np.testing.assert_allclose(run(y), want)
        np.testing.assert_allclose(run(pool(x.transpose(0, 3, 1, 2), [1, 1, *k], [1, 1, *s], padding, data_format="NCHW")),
                                   want.transpose(0, 3, 1, 2))
        np.testing.assert_allclose(run(tf.nn.pool(x, k, kind.upper(), padding, strides=s)), want)
        check_gradients(lambda a, pool=pool: pool(a, [1, *k, 1], [1, *s, 1], padding), x)


def test_pools_of_other_ranks():
    x = normal(2, 7, 3)
    np.testing.assert_allclose(run(tf.nn.max_pool1d(x, 3, 2, "VALID")), loop_pool(x, (3,), (2,), [(0, 0)], np.max))
    np.testing.assert_allclose(run(tf.nn.avg_pool1d(x, 3, 2, "SAME")), loop_pool(x, (3,), (2,), same_pads((7,), (3,), (2,), (1,)), np.mean))
    x = normal(1, 4, 4, 3, 2)
    np.testing.assert_allclose(run(tf.nn.max_pool3d(x, [1, 2, 2, 2, 1], [1, 2, 2, 1, 1], "VALID")),
                               loop_pool(x, (2, 2, 2), (2, 2, 1), [(0, 0)] * 3, np.max))
    np.testing.assert_allclose(run(tf.nn.avg_pool3d(x, [1, 2, 2, 2, 1], [1, 2, 2, 1, 1], "VALID")),
                               loop_pool(x, (2, 2, 2), (2, 2, 1), [(0, 0)] * 3, np.mean))


def test_average_against_scipy():
    x = normal(1, 8, 9, 1)
    y = run(tf.nn.avg_pool(x, [1, 3, 3, 1], [1, 1, 1, 1], "VALID"))
    np.testing.assert_allclose(y[0, :, :, 0], ndimage.uniform_filter(x[0, :, :, 0], 3)[1:-1, 1:-1])


def test_max_pool_sends_ties_to_the_first():
    x = tf.constant(np.zeros((1, 2, 2, 1)))
    g, = tf.gradients(tf.nn.max_pool(x, [1, 2, 2, 1], [1, 2, 2, 1], "VALID"), x)
    np.testing.assert_array_equal(run(g)[0, :, :, 0], [[1, 0], [0, 0]])


def test_overlapping_pool_gradient_with_unknown_sizes():
    x = tf.placeholder(tf.float64, [None, None, None, 2])
    for pool in (tf.nn.max_pool, tf.nn.avg_pool):
        y = pool(x, [1, 3, 3, 1], [1, 2, 2, 1], "SAME")
        slope(y, x, normal(2, 5, 6, 2))


def test_max_pool_with_argmax():
    x = RNG.permutation(72).reshape(2, 3, 4, 3).astype(np.float32)
    values, where = run(*tf.nn.max_pool_with_argmax(x, [1, 2, 2, 1], [1, 1, 2, 1], "SAME"))
    np.testing.assert_array_equal(values, run(tf.nn.max_pool(x, [1, 2, 2, 1], [1, 1, 2, 1], "SAME")))
    assert where.dtype == np.int64
    np.testing.assert_array_equal(np.stack([x[b].reshape(-1)[where[b]] for b in range(2)]), values)
    _, batched = run(*tf.nn.max_pool_with_argmax(x, [1, 2, 2, 1], [1, 1, 2, 1], "SAME", include_batch_in_index=True))
    np.testing.assert_array_equal(x.reshape(-1)[batched], values)


def test_extract_image_patches():
    x = normal(2, 5, 6, 3)
    y = run(tf.extract_image_patches(x, [1, 2, 3, 1], [1, 2, 1, 1], [1, 1, 1, 1], "VALID"))
    for b, i, j in np.ndindex(*y.shape[:3]):
        np.testing.assert_array_equal(y[b, i, j], x[b, 2 * i:2 * i + 2, j:j + 3].reshape(-1))


# ---------------------------------------------------------------- normalisation


def test_lrn():
    x = normal(2, 3, 2, 7)
    want = np.zeros_like(x)
    for c in range(7):
        want[..., c] = x[..., c] / (1.5 + 0.3 * (x[..., max(c - 2, 0):c + 3] ** 2).sum(-1)) ** 0.75
    np.testing.assert_allclose(run(tf.nn.lrn(x, 2, 1.5, 0.3, 0.75)), want)
    assert tf.nn.local_response_normalization is tf.nn.lrn


def test_l2_normalize():
    x = normal(3, 4)
    np.testing.assert_allclose(run(tf.nn.l2_normalize(x, 1)), x / np.linalg.norm(x, axis=1, keepdims=True))
    np.testing.assert_allclose(run(tf.nn.l2_normalize(x, dim=[0, 1])), x / np.linalg.norm(x))
    np.testing.assert_array_equal(run(tf.nn.l2_normalize(np.zeros(3, np.float32), 0)), np.zeros(3))


@pytest.mark.parametrize("axes,keep", [([0], False), ([0, 2], True), ([-1], False), ([0, 1, 2], False)])
def test_moments(axes, keep):
    x = normal(3, 4, 5)
    mean, var = tf.nn.moments(tf.constant(x), axes, keep_dims=keep)
    np.testing.assert_allclose(run(mean), x.mean(tuple(axes), keepdims=keep), atol=1e-15)
    np.testing.assert_allclose(run(var), x.var(tuple(axes), keepdims=keep))
    assert mean.shape == var.shape == run(var).shape
    check_gradients(lambda a: tf.nn.moments(a, axes)[1] + tf.nn.moments(a, axes)[0], x)
    stats = tf.nn.sufficient_statistics(x, axes, shift=0.5, keep_dims=keep)
    np.testing.assert_allclose(run(*tf.nn.normalize_moments(*stats))[1], x.var(tuple(axes), keepdims=keep))
    w = RNG.uniform(0.5, 2, x.shape)
    mean, var = run(*tf.nn.weighted_moments(x, axes, w, keep_dims=keep))
    want = np.average(x, axis=tuple(axes), weights=w, keepdims=keep)
    np.testing.assert_allclose(mean, want)
    np.testing.assert_allclose(var, np.average(x * x, axis=tuple(axes), weights=w, keepdims=keep) - want ** 2)


def test_moments_of_unknown_batch():
    x = tf.placeholder(tf.float64, [None, 3])
    mean, var = tf.nn.moments(x, [0])
    assert mean.shape.as_list() == [3]
    value = normal(6, 3)
    np.testing.assert_allclose(run(var, feed_dict={x: value}), value.var(0))


def test_batch_normalization():
    x, mean, var, offset, scale = normal(4, 3), normal(3), RNG.uniform(0.5, 2, 3), normal(3), normal(3)
    want = (x - mean) / np.sqrt(var + 1e-3)
    np.testing.assert_allclose(run(tf.nn.batch_normalization(x, mean, var, offset, scale, 1e-3)), want * scale + offset)
    np.testing.assert_allclose(run(tf.nn.batch_normalization(x, mean, var, None, None, 1e-3)), want)


@pytest.mark.parametrize("data_format", ["NHWC", "NCHW"])
def test_fused_batch_norm(data_format):
    x, scale, offset = normal(2, 3, 4, 5), normal(5), normal(5)
    move = (0, 3, 1, 2) if data_format == "NCHW" else (0, 1, 2, 3)
    given = x.transpose(move)
    y, mean, var = tf.nn.fused_batch_norm(given, scale, offset, epsilon=0.01, data_format=data_format)
    got, m, v = run(y, mean, var)
    np.testing.assert_allclose(m, x.mean((0, 1, 2)), atol=1e-14)
    np.testing.assert_allclose(v, x.var((0, 1, 2), ddof=1))
    want = (x - x.mean((0, 1, 2))) / np.sqrt(x.var((0, 1, 2)) + 0.01) * scale + offset
    np.testing.assert_allclose(got, want.transpose(move), rtol=1e-9, atol=1e-12)
    check_gradients(lambda a, s, o: tf.nn.fused_batch_norm(a, s, o, data_format=data_format), given, scale, offset)
    y, m, v = tf.nn.fused_batch_norm(given, scale, offset, mean=offset, variance=np.exp(scale), epsilon=0.01, data_format=data_format,
                                     is_training=False)
    want = (x - offset) / np.sqrt(np.exp(scale) + 0.01) * scale + offset
    np.testing.assert_allclose(run(y), want.transpose(move), rtol=1e-9, atol=1e-12)
    with pytest.raises(ValueError, match="must be given if is_training is False"):
        tf.nn.fused_batch_norm(given, scale, offset, is_training=False)


def test_fused_batch_norm_of_float16_keeps_float32_statistics():
    x = normal(4, 2, 2, 3).astype(np.float16)
    y, mean, _ = tf.nn.fused_batch_norm(x, np.ones(3, np.float32), np.zeros(3, np.float32))
    assert y.dtype == tf.float16 and mean.dtype == tf.float32
    np.testing.assert_allclose(run(mean), x.astype(np.float64).mean((0, 1, 2)), rtol=1e-5, atol=1e-6)


def test_layer_norm_composite():
    x, s, o = normal(3, 8), normal(8), normal(8)
    want = (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + 1e-5) * s + o
    np.testing.assert_allclose(run(nn_ops.layer_norm(x, s, o)), want, rtol=1e-10)


# ---------------------------------------------------------------- dropout, embeddings


def test_dropout():
    x = np.ones((200, 50), np.float32)
    for kwargs in ({"keep_prob": 0.8}, {"rate": 0.2}, {"keep_prob": tf.constant(0.8)},
                   {"rate": tf.placeholder_with_default(np.float32(0.2), [])}):
        y = run(tf.nn.dropout(x, seed=3, **kwargs))
        assert set(np.unique(np.round(y, 5))) == {0.0, 1.25}
        assert abs((y > 0).mean() - 0.8) < 0.02
    y = run(tf.nn.dropout(x, 0.5, noise_shape=[200, 1], seed=1))
    assert np.all(y == y[:, :1]) and 60 < (y[:, 0] > 0).sum() < 140
    t = tf.constant(x)
    assert tf.nn.dropout(t, 1.0) is t
    y = tf.nn.dropout(t, 0.5, seed=2)
    value, g = run(y, tf.gradients(y, t)[0])
    np.testing.assert_array_equal(value, g)


def test_dropout_errors():
    x = tf.constant([1.0])
    for kwargs, match in (({}, "rate"), ({"keep_prob": 0.5, "rate": 0.5}, "Only one"), ({"keep_prob": 0.0}, r"\(0, 1\], got 0"),
                          ({"rate": 1.5}, r"\[0, 1\), got 1.5")):
        with pytest.raises(ValueError, match=match):
            tf.nn.dropout(x, **kwargs)
    with pytest.raises(ValueError, match="floating point"):
        tf.nn.dropout(tf.constant([1]), 0.5)


def test_embedding_lookup():
    table, ids = normal(7, 3), np.array([[0, 6], [3, 3]])
    t = tf.constant(table)
    rows = tf.nn.embedding_lookup(t, ids)
    np.testing.assert_array_equal(run(rows), table[ids])
    g, = tf.gradients(rows, t)
    dense = run(tf.convert_to_tensor(g))
    np.testing.assert_array_equal(dense, np.array([1, 0, 0, 2, 0, 0, 1])[:, None] * np.ones(3))
    np.testing.assert_array_equal(run(tf.nn.embedding_lookup([table[0::3], table[1::3], table[2::3]], ids)), table[ids])
    np.testing.assert_array_equal(run(tf.nn.embedding_lookup([table[:4], table[4:]], ids, partition_strategy="div")), table[ids])
    clipped = run(tf.nn.embedding_lookup(t, ids, max_norm=1.0))
    norms = np.linalg.norm(table[ids], axis=-1, keepdims=True)
    np.testing.assert_allclose(clipped, table[ids] / np.maximum(norms, 1))
    with pytest.raises(ValueError, match="Need at least one param"):
        tf.nn.embedding_lookup([], ids)
    with pytest.raises(ValueError, match="partition strategy"):
        tf.nn.embedding_lookup([table, table], ids, "hash")


def test_top_k_and_zero_fraction():
    x = np.array([[1.0, 4, 2], [5, 0, 0]], np.float32)
    values, where = run(*tf.nn.top_k(x, 2))
    np.testing.assert_array_equal(values, [[4, 2], [5, 0]])
    np.testing.assert_array_equal(where, [[1, 2], [0, 1]])
    np.testing.assert_array_equal(run(tf.nn.in_top_k(x, np.array([2, 0]), 1)), [False, True])
    np.testing.assert_allclose(run(tf.nn.zero_fraction(x)), 1 / 3, rtol=1e-6)


_ = types
