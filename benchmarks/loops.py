"""Loops and recurrent networks: a long recurrence and its gradient, a loop that counts, training steps of LSTM and GRU, the time it
takes to compile one, another batch size, and the memory of a long backward pass.

The networks are in recurrent.py. A recurrence is h = h / 2 + tanh(A h + u_t) / 2 with a matrix A near a rotation, so that
neither the states nor their gradients die out over ten thousand steps.
"""
from __future__ import annotations

import numpy as np

from . import recurrent
from .recurrent import Net
from .workload import BEST, MS, US, Steady, at_most, at_most_times

STEPS, SIZE = 10_000, 8


def rotation(r, n, scale):
    """`scale` times an orthogonal matrix: the Cayley transform of a random antisymmetric one."""
    s = r.normal(0, 0.1, (n, n))
    s = s - s.T
    return scale * np.linalg.solve(np.eye(n) - s, np.eye(n) + s)


def problem(steps, size, columns=1, scale=1.1):
    """A, the first h, and u for every step."""
    r = np.random.RandomState(0)
    return [rotation(r, size, scale), r.normal(0, 1, (size, columns)), r.normal(0, 0.01, (steps, size, columns))]


def states(a, h, u):
    """Every state and every tanh, by NumPy."""
    hs, ps = [h], []
    for x in u:
        ps.append(np.tanh(a @ hs[-1] + x))
        hs.append(0.5 * hs[-1] + 0.5 * ps[-1])
    return hs, ps


def gradient(a, h, u):
    """Of the sum of the last state: for A and for the first state."""
    hs, ps = states(a, h, u)
    d, da = np.ones_like(h), np.zeros_like(a)
    for h, p in zip(hs[-2::-1], ps[::-1]):
        e = 0.5 * d * (1 - p * p)
        da, d = da + e @ h.T, 0.5 * d + a.T @ e
    return da, d


def last_state(tf, a, h, u, **options):
    """The last state by tf.while_loop, as GraphFlow and TensorFlow both have it."""
    def body(i, h):
        return i + 1, 0.5 * h + 0.5 * tf.tanh(tf.matmul(a, h) + tf.gather(u, i))
    return tf.while_loop(lambda i, h: i < u.shape[0], body, (tf.constant(0), h), **options)[1]


# ---------------------------------------------------------------- forward

forward = Steady(f"recurrence: h = h/2 + tanh(A h + u_t)/2, {STEPS} steps, vector of {SIZE}, float64: forward",
                 goals=[at_most(300 * US, "300 us")], tolerance=(1e-7, 1e-9))
backward = Steady("recurrence: the same, gradient for A and the first state",
                  goals=[at_most_times(3, forward)], tolerance=(1e-6, 1e-9))


@forward.inputs
@backward.inputs
def _(quick):
    return problem(30 if quick else STEPS, SIZE)


@forward.reference
def _(a, h, u):
    return states(a, h, u)[0][-1]


@backward.reference
def _(a, h, u):
    return gradient(a, h, u)


@forward.graphflow
@forward.tensorflow
def _(tf, *arrays):
    p = [tf.placeholder(tf.float64, v.shape) for v in arrays]
    f = tf.Session().make_callable(last_state(tf, *p), p)
    return lambda: f(*arrays)


@backward.graphflow
@backward.tensorflow
def _(tf, *arrays):
    p = [tf.placeholder(tf.float64, v.shape) for v in arrays]
    f = tf.Session().make_callable(tf.gradients(last_state(tf, *p), p[:2]), p)
    return lambda: f(*arrays)


@forward.numpy
def _(np, a, h, u):
    def step():
        state = h
        for x in u:
            state = 0.5 * state + 0.5 * np.tanh(a @ state + x)
        return state
    return step


@forward.xla
def _(tf, *arrays):
    f, p = tf.function(lambda *p: last_state(tf, *p), jit_compile=True), [tf.constant(v) for v in arrays]
    return lambda: f(*p).numpy()


@backward.xla
def _(tf, *arrays):
    @tf.function(jit_compile=True)
    def f(*p):
        with tf.GradientTape() as tape:
            tape.watch(p[:2])
            y = tf.reduce_sum(last_state(tf, *p, maximum_iterations=len(arrays[2])))  # which XLA wants, to know the stacks' size
        return tape.gradient(y, p[:2])
    p = [tf.constant(v) for v in arrays]
    return lambda: [g.numpy() for g in f(*p)]


def scanned(jax, a, h, u):
    return jax.lax.scan(lambda h, x: (0.5 * h + 0.5 * jax.numpy.tanh(a @ h + x), None), h, u)[0]


@forward.jax
def _(jax, *arrays):
    f, p = jax.jit(lambda *p: scanned(jax, *p)), [jax.numpy.asarray(v) for v in arrays]
    return lambda: f(*p).block_until_ready()


@backward.jax
def _(jax, *arrays):
    f, p = jax.jit(jax.grad(lambda *p: scanned(jax, *p).sum(), (0, 1))), [jax.numpy.asarray(v) for v in arrays]
    return lambda: jax.block_until_ready(f(*p))


def unrolled(torch, a, h, u):
    for x in u.unbind():
        h = 0.5 * h + 0.5 * torch.tanh(a @ h + x)
    return h


@forward.torch
def _(torch, *arrays):
    torch.set_grad_enabled(False)
    p = [torch.from_numpy(v) for v in arrays]
    return lambda: unrolled(torch, *p)


@backward.torch
def _(torch, *arrays):
    a, h, u = (torch.from_numpy(v) for v in arrays)
    wanted = [a.requires_grad_(), h.requires_grad_()]
    return lambda: torch.autograd.grad(unrolled(torch, a, h, u).sum(), wanted)


def pytensor_last(pytensor, a, h, u):
    pt = pytensor.tensor
    return pytensor.scan(lambda x, h, a: 0.5 * h + 0.5 * pt.tanh(a @ h + x), u, h, a, return_updates=False)[-1]


@forward.pytensor
def _(pytensor, *arrays):
    p = [pytensor.tensor.tensor(dtype=v.dtype, shape=v.shape) for v in arrays]
    f = pytensor.function(p, pytensor_last(pytensor, *p), trust_input=True)
    return lambda: f(*arrays)


@backward.pytensor
def _(pytensor, *arrays):
    p = [pytensor.tensor.tensor(dtype=v.dtype, shape=v.shape) for v in arrays]
    f = pytensor.function(p, pytensor.grad(pytensor_last(pytensor, *p).sum(), p[:2]), trust_input=True)
    return lambda: f(*arrays)


# ---------------------------------------------------------------- counting

COUNT, LESS = 1_000_000, 100  # who needs a millisecond a hundred counts gets a hundredth of them, and a hundred times the time
count = Steady("while_loop that counts to 10^6", goals=[at_most(5 * MS, "5 ms")], threads=(1,))


@count.inputs
def _(quick):
    return [np.array(2_000 if quick else COUNT, np.int32)]


@count.reference
def _(n):
    return n


def counted(tf, n):
    return tf.while_loop(lambda i: i < n, lambda i: i + 1, [tf.constant(0)])


@count.graphflow
def _(tf, n):
    p = tf.placeholder(tf.int32, [])
    f = tf.Session().make_callable(counted(tf, p), [p])
    return lambda: f(n)


@count.tensorflow
def _(tf, n):
    p, some = tf.placeholder(tf.int32, []), n // LESS
    f = tf.Session().make_callable(counted(tf, p), [p])
    return lambda: f(some), {"check": lambda: f(n), "scale": LESS}


@count.xla
def _(tf, n):
    f, p = tf.function(lambda n: counted(tf, n), jit_compile=True), tf.constant(n)
    return lambda: f(p)[0].numpy()


@count.jax
def _(jax, n):
    f, p = jax.jit(lambda n: jax.lax.while_loop(lambda i: i < n, lambda i: i + 1, jax.numpy.int32(0))), jax.numpy.asarray(n)
    return lambda: f(p).block_until_ready()


@count.numpy
def _(np, n):
    def step():
        i = 0
        while i < n:
            i += 1
        return i
    return step


@count.pytensor
def _(pytensor, n):
    p = pytensor.tensor.scalar(dtype="int32")
    one = pytensor.tensor.constant(1, dtype="int32")
    y = pytensor.scan(lambda i: i + one, outputs_info=pytensor.tensor.constant(0, dtype="int32"), n_steps=p, return_updates=False)[-1]
    f = pytensor.function([p], y, trust_input=True)
    return lambda: f(n)


# ---------------------------------------------------------------- training steps

CHECKED = 10  # losses, each of its step, that have to be NumPy's


def training(name, net, small, sides=()):
    """A workload: a training step of a network; `small` has the sizes of --quick, `sides` are more than GraphFlow, TF and JAX."""
    w = Steady(name, goals=[BEST], tolerance=(0, 1e-4))

    def sized(x):
        return next(n for n in (net, small) if x.shape == (n.steps, n.batch, n.features))

    def put(side, make):
        def program(lib, x, y, *weights):
            step = make(lib, sized(x), x, y, weights)
            return step, {"check": lambda: [np.array([float(step()) for _ in range(CHECKED)])]}
        w.functions[side] = program

    w.inputs(lambda quick: (small if quick else net).arrays())
    w.reference(lambda x, y, *weights: recurrent.losses(sized(x), x, y, weights, CHECKED))
    w.work(lambda x, y, *weights: (3 * sized(x).operations(), 0))  # once forward, twice backward
    for side in ("graphflow", "tensorflow", "xla", "jax", *sides):
        put(side, recurrent.STEPS[side])
    return w


TORCH = ("torch",)  # torch.compile unrolls a hundred steps, and is not ready after minutes
SIZES = "batch 32, 100 steps, 64 -> 128 -> 10, Adam"
TINY = {"steps": 5, "batch": 3, "features": 4, "units": 6, "classes": 3}
lstm = training(f"lstm: training step, {SIZES}", Net("lstm"), Net("lstm", **TINY), TORCH)
gru = training(f"gru: training step, reset after the product as in cuDNN, {SIZES}", Net("gru"), Net("gru", **TINY), TORCH)
grucell = training(f"grucell: training step, TF1's GRUCell, {SIZES}", Net("grucell"), Net("grucell", **TINY))
stacked = training(f"bilstm: training step, 2 layers, bidirectional, {SIZES}", Net("lstm", 2, True), Net("lstm", 2, True, **TINY), TORCH)
