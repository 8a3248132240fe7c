"""Normalisations and moments of a matrix: several passes over a row that fit into the cache, one over memory."""
from __future__ import annotations

import numpy as np

from .announced import announced
from .workload import BEST, Steady, of_limit

GOALS = [BEST, of_limit({1: 0.85, 2: 0.85})]
softmax = Steady("softmax of (4096, 1024)", goals=GOALS, aside=("kernels",))
layer_norm = Steady("layer norm of (4096, 1024)", goals=GOALS, aside=("kernels",))
moments = Steady("mean and variance over axis 0 of (4096, 1024)", goals=GOALS, aside=("kernels",))
columns = Steady("sum and maximum over axis 0 of (4096, 1024)", goals=GOALS, aside=("kernels",), tolerance=(1e-4, 1e-3))
EPSILON = 1e-5


def matrix(quick):
    return np.random.RandomState(0).normal(0.5, 1.5, (64, 128) if quick else (4096, 1024)).astype(np.float32)


@softmax.inputs
@moments.inputs
@columns.inputs
def _(quick):
    return [matrix(quick)]


@layer_norm.inputs
def _(quick):
    x = matrix(quick)
    return [x, *np.random.RandomState(1).normal(1, 0.1, (2, x.shape[1])).astype(np.float32)]


softmax.work(lambda x: (0, 2 * x.nbytes))
layer_norm.work(lambda x, scale, offset: (0, 2 * x.nbytes))
moments.work(lambda x: (0, x.nbytes))
columns.work(lambda x: (0, x.nbytes))

# ---------------------------------------------------------------- softmax


@softmax.reference
def _(x):
    e = np.exp(x.astype(np.float64) - x.max(1, keepdims=True))
    return e / e.sum(1, keepdims=True)


@softmax.graphflow
@softmax.tensorflow
def _(tf, x):
    p = tf.placeholder(tf.float32, x.shape)
    y = tf.nn.softmax(p)
    f = tf.Session().make_callable(y, [p])
    return lambda: f(x), announced(tf, y, {p: x})


@softmax.xla
def _(tf, x):
    f, x = tf.function(tf.nn.softmax, jit_compile=True), tf.constant(x)
    return lambda: f(x)


@softmax.jax
def _(jax, x):
    f, x = jax.jit(jax.nn.softmax), jax.numpy.asarray(x)
    return lambda: f(x).block_until_ready()


@softmax.torch
def _(torch, x):
    x = torch.from_numpy(x)
    return lambda: torch.softmax(x, 1)


@softmax.onnxruntime
def _(onnx, x):
    return onnx.session(lambda op, x: op.Softmax(x, axis=-1), x)


@softmax.pytensor
def _(pytensor, x):
    p = pytensor.tensor.matrix(dtype="float32", shape=x.shape)
    f = pytensor.function([p], pytensor.tensor.special.softmax(p, axis=-1), trust_input=True)
    return lambda: f(x)


# ---------------------------------------------------------------- layer norm


@layer_norm.reference
def _(x, scale, offset):
    x = x.astype(np.float64)
    return (x - x.mean(1, keepdims=True)) / np.sqrt(x.var(1, keepdims=True) + EPSILON) * scale + offset


@layer_norm.graphflow
@layer_norm.tensorflow
def _(tf, x, scale, offset):
    p = [tf.placeholder(tf.float32, a.shape) for a in (x, scale, offset)]
    mean, variance = tf.nn.moments(p[0], [1], keep_dims=True)
    y = tf.nn.batch_normalization(p[0], mean, variance, p[2], p[1], EPSILON)
    f = tf.Session().make_callable(y, p)
    return lambda: f(x, scale, offset), announced(tf, y, dict(zip(p, (x, scale, offset))))


@layer_norm.jax
def _(jax, x, scale, offset):
    def norm(x, scale, offset):
        return (x - x.mean(1, keepdims=True)) * jax.lax.rsqrt(x.var(1, keepdims=True) + EPSILON) * scale + offset
    f, arrays = jax.jit(norm), [jax.numpy.asarray(a) for a in (x, scale, offset)]
    return lambda: f(*arrays).block_until_ready()


@layer_norm.xla
def _(tf, x, scale, offset):
    def norm(x, scale, offset):
        mean, variance = tf.nn.moments(x, [1], keepdims=True)
        return tf.nn.batch_normalization(x, mean, variance, offset, scale, EPSILON)
    f, arrays = tf.function(norm, jit_compile=True), [tf.constant(a) for a in (x, scale, offset)]
    return lambda: f(*arrays)


@layer_norm.torch
def _(torch, x, scale, offset):
    x, scale, offset = (torch.from_numpy(a) for a in (x, scale, offset))
    return lambda: torch.nn.functional.layer_norm(x, scale.shape, scale, offset, EPSILON)


@layer_norm.onnxruntime
def _(onnx, x, scale, offset):
    return onnx.session(lambda op, *a: op.LayerNormalization(*a, axis=-1, epsilon=EPSILON), x, scale, offset)


# ---------------------------------------------------------------- moments


@moments.reference
def _(x):
    return [x.mean(0, dtype=np.float64), x.var(0, dtype=np.float64)]


@moments.graphflow
@moments.tensorflow
def _(tf, x):
    p = tf.placeholder(tf.float32, x.shape)
    y = list(tf.nn.moments(p, [0]))
    f = tf.Session().make_callable(y, [p])
    return lambda: f(x), announced(tf, y, {p: x})


@moments.xla
def _(tf, x):
    f, x = tf.function(lambda x: tf.nn.moments(x, [0]), jit_compile=True), tf.constant(x)
    return lambda: f(x)


@moments.jax
def _(jax, x):
    f, x = jax.jit(lambda x: (x.mean(0), x.var(0))), jax.numpy.asarray(x)
    return lambda: jax.block_until_ready(f(x))


@moments.torch
def _(torch, x):
    x = torch.from_numpy(x)

    def step():
        variance, mean = torch.var_mean(x, 0, correction=0)
        return mean, variance
    return step


@moments.onnxruntime
def _(onnx, x):
    def program(op, x):
        axes = np.array([0])
        mean = op.ReduceMean(x, axes, keepdims=0)
        d = op.Sub(x, mean)
        return mean, op.ReduceMean(op.Mul(d, d), axes, keepdims=0)
    return onnx.session(program, x)


# ---------------------------------------------------------------- sum and maximum of columns


@columns.reference
def _(x):
    return [x.sum(0, dtype=np.float64), x.max(0)]


@columns.numpy
def _(np, x):
    return lambda: [x.sum(0), x.max(0)]


@columns.graphflow
@columns.tensorflow
def _(tf, x):
    p = tf.placeholder(tf.float32, x.shape)
    y = [tf.reduce_sum(p, 0), tf.reduce_max(p, 0)]
    f = tf.Session().make_callable(y, [p])
    return lambda: f(x), announced(tf, y, {p: x})


@columns.xla
def _(tf, x):
    f, x = tf.function(lambda x: [tf.reduce_sum(x, 0), tf.reduce_max(x, 0)], jit_compile=True), tf.constant(x)
    return lambda: f(x)


@columns.jax
def _(jax, x):
    f, x = jax.jit(lambda x: (x.sum(0), x.max(0))), jax.numpy.asarray(x)
    return lambda: jax.block_until_ready(f(x))


@columns.torch
def _(torch, x):
    x = torch.from_numpy(x)
    return lambda: [x.sum(0), x.amax(0)]


@columns.onnxruntime
def _(onnx, x):
    axes = np.array([0])
    return onnx.session(lambda op, x: (op.ReduceSum(x, axes, keepdims=0), op.ReduceMax(x, axes, keepdims=0)), x)


@columns.pytensor
def _(pytensor, x):
    p = pytensor.tensor.matrix(dtype="float32", shape=x.shape)
    f = pytensor.function([p], [p.sum(0), p.max(0)], trust_input=True)
    return lambda: f(x)
