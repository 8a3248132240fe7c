"""Small steps, where what counts is the way from Python into the kernel and back."""
from __future__ import annotations

import numpy as np

from .workload import US, Steady, at_most

# ---------------------------------------------------------------- a * b + c

scalar = Steady("scalar a*b+c, make_callable", goals=[at_most(2 * US, "2 us")], threads=(1,))
scalar_run = Steady("scalar a*b+c, Session.run(feed_dict)", goals=[at_most(8 * US, "8 us")], threads=(1,))


@scalar.inputs
@scalar_run.inputs
def _(quick):
    return [np.array(v, np.float32) for v in (2, 3, 4)]


@scalar.reference
@scalar_run.reference
def _(a, b, c):
    return a * b + c


@scalar.graphflow
@scalar.tensorflow
def _(tf, a, b, c):
    p = [tf.placeholder(tf.float32, []) for _ in range(3)]
    f = tf.Session().make_callable(p[0] * p[1] + p[2], p)
    return lambda: f(a, b, c)


@scalar_run.graphflow
@scalar_run.tensorflow
def _(tf, a, b, c):
    p, q, r = (tf.placeholder(tf.float32, []) for _ in range(3))
    sess, y = tf.Session(), p * q + r
    return lambda: sess.run(y, {p: a, q: b, r: c})


@scalar.jax
@scalar_run.jax
def _(jax, a, b, c):
    f = jax.jit(lambda a, b, c: a * b + c)
    return lambda: f(a, b, c).block_until_ready()


@scalar.torch
@scalar_run.torch
def _(torch, a, b, c):
    a, b, c = (torch.from_numpy(v) for v in (a, b, c))
    return lambda: a * b + c


@scalar.onnxruntime
@scalar_run.onnxruntime
def _(onnx, a, b, c):
    return onnx.session(lambda op, a, b, c: op.Add(op.Mul(a, b), c), a, b, c)


@scalar.pytensor
@scalar_run.pytensor
def _(pytensor, a, b, c):
    p = [pytensor.tensor.scalar(dtype="float32") for _ in range(3)]
    f = pytensor.function(p, p[0] * p[1] + p[2], trust_input=True)
    return lambda: f(a, b, c)


# ---------------------------------------------------------------- 50 ops

SHORT = 32
fifty = Steady(f"50 elementwise ops on vectors of {SHORT}", goals=[at_most(8 * US, "8 us")], threads=(1,))


def fifty_ops(tanh, v, a, b, c):
    for _ in range(10):
        v = tanh(v * a + b) - c * v
    return v


@fifty.inputs
def _(quick):
    return list(np.random.RandomState(0).uniform(-0.5, 0.5, (4, SHORT)).astype(np.float32))


@fifty.reference
def _(*arrays):
    return fifty_ops(np.tanh, *(a.astype(np.float64) for a in arrays))


@fifty.graphflow
@fifty.tensorflow
def _(tf, *arrays):
    p = [tf.placeholder(tf.float32, [SHORT]) for _ in arrays]
    f = tf.Session().make_callable(fifty_ops(tf.tanh, *p), p)
    return lambda: f(*arrays)


@fifty.jax
def _(jax, *arrays):
    f = jax.jit(lambda *p: fifty_ops(jax.numpy.tanh, *p))
    return lambda: f(*arrays).block_until_ready()


@fifty.torch
def _(torch, *arrays):
    arrays = [torch.from_numpy(a) for a in arrays]
    return lambda: fifty_ops(torch.tanh, *arrays)


@fifty.onnxruntime
def _(onnx, *arrays):
    def program(op, v, a, b, c):
        for _ in range(10):
            v = op.Sub(op.Tanh(op.Add(op.Mul(v, a), b)), op.Mul(c, v))
        return v
    return onnx.session(program, *arrays)


@fifty.pytensor
def _(pytensor, *arrays):
    p = [pytensor.tensor.vector(dtype="float32", shape=(SHORT,)) for _ in arrays]
    f = pytensor.function(p, fifty_ops(pytensor.tensor.tanh, *p), trust_input=True)
    return lambda: f(*arrays)


# ---------------------------------------------------------------- MLP

mlp = Steady("MLP 16-16-16-4, batch 4: value and gradients", goals=[at_most(8 * US, "8 us")], threads=(1,))


@mlp.inputs
def _(quick):
    r = np.random.RandomState(0)
    shapes = [(4, 16), (4, 4), (16, 16), (16,), (16, 16), (16,), (16, 4), (4,)]
    return [r.normal(0, 0.4, s).astype(np.float32) for s in shapes]


def mlp_loss(m, x, y, w1, b1, w2, b2, w3, b3):
    h = m.tanh(m.tanh(x @ w1 + b1) @ w2 + b2)
    return ((h @ w3 + b3 - y) ** 2).mean()


@mlp.reference
def _(*arrays):
    x, y, w1, b1, w2, b2, w3, b3 = (a.astype(np.float64) for a in arrays)
    h1 = np.tanh(x @ w1 + b1)
    h2 = np.tanh(h1 @ w2 + b2)
    e = h2 @ w3 + b3 - y
    d3 = 2 * e / e.size
    d2 = d3 @ w3.T * (1 - h2 * h2)
    d1 = d2 @ w2.T * (1 - h1 * h1)
    return [(e * e).mean(), x.T @ d1, d1.sum(0), h1.T @ d2, d2.sum(0), h2.T @ d3, d3.sum(0)]


@mlp.graphflow
@mlp.tensorflow
def _(tf, x, y, *weights):
    px, py = tf.placeholder(tf.float32, x.shape), tf.placeholder(tf.float32, y.shape)
    w1, b1, w2, b2, w3, b3 = v = [tf.Variable(w) for w in weights]
    h = tf.tanh(tf.matmul(tf.tanh(tf.matmul(px, w1) + b1), w2) + b2)
    loss = tf.reduce_mean(tf.square(tf.matmul(h, w3) + b3 - py))
    sess = tf.Session()
    sess.run(tf.global_variables_initializer())
    f = sess.make_callable([loss, *tf.gradients(loss, v)], [px, py])
    return lambda: f(x, y)


@mlp.jax
def _(jax, x, y, *weights):
    f = jax.jit(jax.value_and_grad(lambda w, x, y: mlp_loss(jax.numpy, x, y, *w)))
    weights = [jax.numpy.asarray(w) for w in weights]
    return lambda: jax.block_until_ready(f(weights, x, y))


@mlp.torch
def _(torch, x, y, *weights):
    x, y = torch.from_numpy(x), torch.from_numpy(y)
    weights = [torch.from_numpy(w).requires_grad_() for w in weights]

    def step():
        loss = mlp_loss(torch, x, y, *weights)
        return [loss, *torch.autograd.grad(loss, weights)]
    return step


@mlp.pytensor
def _(pytensor, x, y, *weights):
    px, py = (pytensor.tensor.matrix(dtype="float32", shape=a.shape) for a in (x, y))
    v = [pytensor.shared(w) for w in weights]
    loss = mlp_loss(pytensor.tensor, px, py, *v)
    f = pytensor.function([px, py], [loss, *pytensor.grad(loss, v)], trust_input=True)
    return lambda: f(x, y)


# ---------------------------------------------------------------- Rosenbrock

rosenbrock = Steady("Rosenbrock N = 1000 float64: value and gradient", goals=[at_most(5 * US, "5 us")], threads=(1,),
                    tolerance=(1e-9, 1e-9))


def valley(x):
    return (100 * (x[1:] - x[:-1] ** 2) ** 2 + (1 - x[:-1]) ** 2).sum()


@rosenbrock.inputs
def _(quick):
    return [np.random.RandomState(0).uniform(-2, 2, 1000)]


@rosenbrock.reference
def _(x):
    d, g = x[1:] - x[:-1] ** 2, np.zeros_like(x)
    g[:-1] = -400 * x[:-1] * d - 2 * (1 - x[:-1])
    g[1:] += 200 * d
    return [valley(x), g]


@rosenbrock.graphflow
@rosenbrock.tensorflow
def _(tf, x):
    p = tf.placeholder(tf.float64, x.shape)
    y = tf.reduce_sum(100 * tf.square(p[1:] - tf.square(p[:-1])) + tf.square(1 - p[:-1]))
    f = tf.Session().make_callable([y, *tf.gradients(y, p)], [p])
    return lambda: f(x)


@rosenbrock.jax
def _(jax, x):
    f = jax.jit(jax.value_and_grad(valley))
    return lambda: jax.block_until_ready(f(x))


@rosenbrock.torch
def _(torch, x):
    x = torch.from_numpy(x).requires_grad_()

    def step():
        y = valley(x)
        return [y, *torch.autograd.grad(y, [x])]
    return step


@rosenbrock.pytensor
def _(pytensor, x):
    p = pytensor.tensor.vector(dtype="float64", shape=x.shape)
    y = valley(p)
    f = pytensor.function([p], [y, pytensor.grad(y, p)], trust_input=True)
    return lambda: f(x)
