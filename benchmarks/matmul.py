"""Matrix products alone: square, skinny and batched, and one with bias and activation."""
from __future__ import annotations

import numpy as np

from .dialects import Jax, Numpy, Onnx, TensorFlow, Torch
from .workload import BEST, Steady, of_limit

PEAK = of_limit({1: 0.9, 2: 0.85})


def product(a_shape, b_shape, goals=(BEST,)):
    """`a @ b` of two arrays; also of stacks of matrices."""
    w = Steady("matmul " + " @ ".join("x".join(map(str, s)) for s in (a_shape, b_shape)), goals=list(goals), tolerance=(1e-3, 1e-3))

    @w.inputs
    def _(quick):
        shapes = [tuple(min(n, 8) for n in s) if quick else s for s in (a_shape, b_shape)]
        return [np.random.RandomState(i).normal(size=s).astype(np.float32) for i, s in enumerate(shapes)]

    @w.reference
    def _(a, b):
        return a.astype(np.float64) @ b.astype(np.float64)

    @w.work
    def _(a, b):
        return 2.0 * a.size * b.shape[-1], 0  # all of these fit into a cache

    @w.graphflow
    @w.tensorflow
    def _(tf, a, b):
        p = [tf.placeholder(tf.float32, x.shape) for x in (a, b)]
        f = tf.Session().make_callable(tf.matmul(*p), p)
        return lambda: f(a, b)

    @w.numpy
    def _(np, a, b):
        return lambda: a @ b

    @w.xla
    def _(tf, a, b):
        f, a, b = tf.function(tf.matmul, jit_compile=True), tf.constant(a), tf.constant(b)
        return lambda: f(a, b)

    @w.jax
    def _(jax, a, b):
        f, a, b = jax.jit(jax.numpy.matmul), jax.numpy.asarray(a), jax.numpy.asarray(b)
        return lambda: f(a, b).block_until_ready()

    @w.torch
    def _(torch, a, b):
        a, b = torch.from_numpy(a), torch.from_numpy(b)
        return lambda: a @ b

    @w.onnxruntime
    def _(onnx, a, b):
        return onnx.session(lambda op, a, b: op.MatMul(a, b), a, b)

    @w.pytensor
    def _(pytensor, a, b):
        p = [pytensor.tensor.tensor(dtype="float32", shape=x.shape) for x in (a, b)]
        f = pytensor.function(p, p[0] @ p[1], trust_input=True)
        return lambda: f(a, b)
    return w


for n in (64, 256, 512, 1024, 2048):
    product((n, n), (n, n), (BEST, PEAK) if n >= 256 else (BEST,))
product((1, 1024), (1024, 1024))
product((8, 1024), (1024, 1024))
product((1024, 1024), (1024, 8))
product((64, 64, 64), (64, 64, 64))

# ---------------------------------------------------------------- gelu(x W + b)

gelu = Steady("gelu(x W + b), 512x1024x1024", goals=[BEST], tolerance=(1e-3, 1e-3))


def layer(m, x, w, b):
    return m.gelu(m.dense(x, w, b))


@gelu.inputs
def _(quick):
    n, k, o = (6, 8, 10) if quick else (512, 1024, 1024)
    r = np.random.RandomState(0)
    return [r.normal(0, s, shape).astype(np.float32) for s, shape in ((1, (n, k)), (k ** -0.5, (k, o)), (1, o))]


@gelu.reference
def _(*arrays):
    return layer(Numpy(), *(a.astype(np.float64) for a in arrays))


@gelu.work
def _(x, w, b):
    return 2.0 * x.size * w.shape[1], 0


@gelu.graphflow
@gelu.tensorflow
def _(tf, *arrays):
    p = [tf.placeholder(tf.float32, a.shape) for a in arrays]
    f = tf.Session().make_callable(layer(TensorFlow(tf, ()), *p), p)
    return lambda: f(*arrays)


@gelu.xla
def _(tf, *arrays):
    f = tf.function(lambda *p: layer(TensorFlow(tf.compat.v1, ()), *p), jit_compile=True)
    arrays = [tf.constant(a) for a in arrays]
    return lambda: f(*arrays)


@gelu.jax
def _(jax, *arrays):
    f, arrays = jax.jit(lambda *p: layer(Jax(jax, ()), *p)), [jax.numpy.asarray(a) for a in arrays]
    return lambda: f(*arrays).block_until_ready()


@gelu.torch
def _(torch, *arrays):
    m, arrays = Torch(torch, ()), [torch.from_numpy(a) for a in arrays]
    return lambda: layer(m, *arrays)


@gelu.torchcompile
def _(torch, *arrays):
    m, arrays = Torch(torch, ()), [torch.from_numpy(a) for a in arrays]
    f = torch.compile(lambda *p: layer(m, *p))
    return lambda: f(*arrays)


@gelu.onnxruntime
def _(onnx, *arrays):
    return onnx.session(lambda op, *p: layer(Onnx(op, ()), *p), *arrays)
