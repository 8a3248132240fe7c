"""Loops and recurrent networks: a long recurrence and its gradient, a loop that counts, training steps of LSTM and GRU, the time it
takes to compile one, another batch size, and the memory of a long backward pass.

The networks are in recurrent.py. A recurrence is h = h / 2 + tanh(A h + u_t) / 2 with a matrix A near a rotation, so that
neither the states nor their gradients die out over ten thousand steps.
"""
from __future__ import annotations

import time

import numpy as np

from . import recurrent
from .announced import announced
from .recurrent import Net
from .worker import peak_memory
from .workload import BEST, MS, US, Goal, Program, Steady, at_most, at_most_times, fact

STEPS, SIZE = 10_000, 8


def rotation(r, n, spread=0.1):
    """An orthogonal matrix: the Cayley transform of a random antisymmetric one, whose spread makes its angles."""
    s = r.normal(0, spread, (n, n))
    s = s - s.T
    return np.linalg.solve(np.eye(n) - s, np.eye(n) + s)


def problem(steps):
    """A, the first h, and u for every step."""
    r = np.random.RandomState(0)
    return [1.1 * rotation(r, SIZE), r.normal(0, 1, (SIZE, 1)), r.normal(0, 0.01, (steps, SIZE, 1))]


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
    return problem(30 if quick else STEPS)


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


# ---------------------------------------------------------------- the first step: how long it takes to be compiled
# Every number is the first step of a fresh process, from the building of the graph on, less a later step, so that what is left does
# not contain the running of it. Nothing is cached.

SAME_KERNELS = fact("compiled", 0, "compiles nothing")


def first_step(side, lib, x, y, weights):
    """What a fresh process measures; see above."""
    net, start = Net("lstm", steps=len(x), batch=x.shape[1], features=x.shape[2], units=weights[-2].shape[0]), time.perf_counter()
    net = net._replace(classes=len(weights[-1]))
    step = recurrent.STEPS[side](lib, net, x, y, weights)
    loss = float(step())
    first, again = time.perf_counter() - start, []
    for _ in range(3):
        start = time.perf_counter()
        step()
        again.append(time.perf_counter() - start)
    return {"value": max(first - min(again), 0.0), "result": loss, "step": min(again)}


def compiled(steps, goals):
    w = Program(f"lstm of {steps} steps: building and compiling the training step, empty cache", cache="empty", most=3, goals=goals,
                aside=("step",), tolerance=(0, 1e-4))
    net = Net("lstm", steps=steps)
    w.inputs(lambda quick: (Net("lstm", **{**TINY, "steps": max(steps // 10, 2)}) if quick else net).arrays())
    w.reference(lambda x, y, *weights: first_loss(x, y, weights))
    for side in recurrent.STEPS:
        def program(*_):
            """Stands for its text."""
        program.text = (f"def program(lib, x, y, *weights):\n    from benchmarks.loops import first_step\n"
                        f"    return first_step({side!r}, lib, x, y, weights)\n")
        w.functions[side] = program
    return w


def first_loss(x, y, weights):
    cell, given, (w, b) = recurrent.Lstm, weights[:2], weights[-2:]
    z = recurrent.layer(cell, x.astype(np.float64), given, len(w), False)[0][-1] @ w + b
    return (np.log(np.exp(z).sum(1)) - z[np.arange(len(y)), y]).mean()


short = compiled(10, [])
for many in (100, 1000):
    compiled(many, [at_most_times(1.2, short)])


# ---------------------------------------------------------------- other sizes
# As `cold` does: the first call with another batch size and another length; `compiled` counts the kernels that are new for it.

resized = Program("lstm: first step with another batch size and length", cache="warm", goals=[SAME_KERNELS], aside=("compiled",),
                  tolerance=(0, 1e-4))


@resized.inputs
def _(quick):
    return Net("lstm", **(TINY if quick else {})).arrays()


@resized.reference
def _(x, y, *weights):
    return first_loss(x, y, weights), first_loss(x[:-1, :-1], y[:-1], weights)


@resized.graphflow
@resized.tensorflow
def _(tf, x, y, *weights):
    from benchmarks.recurrent import Net, tf_training

    net = Net("lstm", 1, False, *x.shape, *weights[-2].shape)
    sess, (px, py), (loss, train) = tf_training(tf, net, weights, ([None, None, net.features], [None]))
    gradients = tf.gradients(loss, tf.trainable_variables())

    def compiled():
        stats = sys.modules.get("graphflow.codegen.compile")  # noqa: F821  (the program imports it)
        return stats.stats()["compiled"] + stats.stats()["disk_hits"] if stats else 0
    first = sess.run([loss, gradients], {px: x, py: y})[0]
    before, start = compiled(), time.perf_counter()
    second = sess.run([loss, gradients], {px: x[:-1, :-1], py: y[:-1]})[0]
    return {"value": time.perf_counter() - start, "result": [first, second], "compiled": compiled() - before}


@resized.jax
def _(jax, x, y, *weights):
    from benchmarks.recurrent import Net, jax_loss

    net, weights = Net("lstm", 1, False, *x.shape, *weights[-2].shape), list(weights)
    f = jax.jit(jax.value_and_grad(lambda w, x, y: jax_loss(jax, net, w, x, y)))
    first = jax.block_until_ready(f(weights, x, y))[0]
    start = time.perf_counter()
    second = jax.block_until_ready(f(weights, x[:-1, :-1], y[:-1]))[0]
    return {"value": time.perf_counter() - start, "result": [first, second]}


# ---------------------------------------------------------------- memory of a long backward pass
# h = h/2 + tanh(A h + b)/2 with states of 64 x 32, so that the states are what counts; the peak of the resident size of a fresh
# process above that before the gradient, less what a trivial run takes (`engine`).

TENTH = Goal("at most a tenth of that", lambda m: None if not (whole.last and whole.last.median("graphflow") and m.median("graphflow"))
             else m.median("graphflow") <= 0.1 * whole.last.median("graphflow"))
whole = Program(f"memory of the gradient of {STEPS} steps, states of 64 x 32 float32", unit="B", most=3,
                aside=("engine", "announced", "step"), tolerance=(2e-3, 1e-3))
spared = Program("memory of the same with swap_memory=True (JAX: jax.checkpoint of every 100 steps)", unit="B", most=3, goals=[TENTH],
                 aside=("engine", "announced", "step"), tolerance=(2e-3, 1e-3))


@whole.inputs
@spared.inputs
def _(quick):
    """Small states and angles: gradients of order 1 after all the steps."""
    r = np.random.RandomState(0)
    given = rotation(r, 64, 1e-4), r.normal(0, 0.01, (64, 32)), np.zeros((64, 32))
    return [np.array(100 if quick else STEPS), *(v.astype(np.float32) for v in given)]


@whole.reference
@spared.reference
def _(n, a, h, b):
    return gradient(a.astype(np.float64), h.astype(np.float64), [b] * int(n))[1]


def session_memory(tf, n, a, h, b, **options):
    """The peak of a Session's gradient for the first state; the states of the loop are all that is large."""
    base = peak_memory(reset=True)
    with tf.Graph().as_default():
        one = tf.placeholder(tf.float32, [])
        tf.Session().run(one + one, {one: 1.0})
    engine = peak_memory() - base
    p = [tf.placeholder(tf.float32, v.shape) for v in (a, h, b)]

    def body(i, h):
        return i + 1, 0.5 * h + 0.5 * tf.tanh(tf.matmul(p[0], h) + p[2])
    y = tf.while_loop(lambda i, h: i < int(n), body, (tf.constant(0), p[1]), **options)[1]
    d, feed, sess = tf.gradients(y, p[1])[0], dict(zip(p, (a, h, b))), tf.Session()
    value = sess.run(d, feed)
    used, start = peak_memory() - base - engine, time.perf_counter()
    sess.run(d, feed)
    return {"value": used, "result": value, "engine": engine, "step": time.perf_counter() - start, **announced(tf, d, feed, sess)}


@whole.graphflow
@whole.tensorflow
def _(tf, n, a, h, b):
    from benchmarks.loops import session_memory

    return session_memory(tf, n, a, h, b)


@spared.graphflow
def _(tf, n, a, h, b):
    from benchmarks.loops import session_memory

    return session_memory(tf, n, a, h, b, swap_memory=True)


def jax_memory(jax, n, a, h, b, block):
    """The same of JAX; with `block`, only the states between blocks of so many steps are kept."""
    base = peak_memory(reset=True)
    jax.block_until_ready(jax.jit(lambda x: x + x)(1.0))
    engine = peak_memory() - base

    def steps(h, count):
        return jax.lax.scan(lambda h, _: (0.5 * h + 0.5 * jax.numpy.tanh(a @ h + b), None), h, None, count)[0]

    def y(h):
        if not block:
            return steps(h, int(n)).sum()
        part = jax.checkpoint(lambda h: steps(h, block))
        return jax.lax.scan(lambda h, _: (part(h), None), h, None, int(n) // block)[0].sum()
    f = jax.jit(jax.grad(y))
    value = jax.block_until_ready(f(h))
    used, start = peak_memory() - base - engine, time.perf_counter()
    jax.block_until_ready(f(h))
    return {"value": used, "result": value, "engine": engine, "step": time.perf_counter() - start}


@whole.jax
def _(jax, n, a, h, b):
    from benchmarks.loops import jax_memory

    return jax_memory(jax, n, a, h, b, 0)


@spared.jax
def _(jax, n, a, h, b):
    from benchmarks.loops import jax_memory

    return jax_memory(jax, n, a, h, b, 10 if n < 1000 else 100)


@whole.torch
def _(torch, n, a, h, b):
    from benchmarks.worker import peak_memory

    base = peak_memory(reset=True)
    one = torch.ones(1, requires_grad=True)
    (one + one).backward()
    engine = peak_memory() - base
    a, b, first = torch.from_numpy(a), torch.from_numpy(b), torch.from_numpy(h).requires_grad_()

    def step():
        h = first
        for _ in range(int(n)):
            h = 0.5 * h + 0.5 * torch.tanh(a @ h + b)
        return torch.autograd.grad(h.sum(), first)[0]
    value = step()
    used, start = peak_memory() - base - engine, time.perf_counter()
    step()
    return {"value": used, "result": value, "engine": engine, "step": time.perf_counter() - start}
