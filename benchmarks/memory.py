"""Peak memory of a training step: 50 dense layers of 1024, batch 512, gradient descent. Every number is a new process.

The baseline is the process after the library's import; the peak is the highest resident size after that. `engine` is what a
trivial first run takes of it (libraries loaded late, thread pools), which no announcement of a step's arrays can hold.
"""
from __future__ import annotations

import numpy as np

from .workload import Goal, Program, fact

RATE, STEPS = 0.05, 3


def no_more_than(side):
    def test(m):
        ratio = m.ratio(side)
        return None if ratio is None else ratio >= 1
    return Goal("at most TF's", test)


peak = Program("peak memory, training step of 50 dense layers of 1024, batch 512", unit="B", aside=("engine", "announced", "off", "step"),
               goals=[no_more_than("tensorflow"), fact("off", 0.05, "within 5 % of what explain announced")], tolerance=(2e-3, 1e-5))


@peak.inputs
def _(quick):
    """Batch, width and depth; a program makes the arrays itself, by `batch` and `weight`."""
    return [np.array(v) for v in ((32, 64, 5) if quick else (512, 1024, 50))]


def batch(rows, width):
    return np.random.RandomState(0).normal(size=(2, rows, width)).astype(np.float32)


def weight(i, width):
    return np.random.RandomState(i + 1).normal(0, (2 / width) ** 0.5, (width, width)).astype(np.float32)


@peak.reference
def _(rows, width, depth):
    (x, y), w = batch(rows, width), [weight(i, width) for i in range(depth)]
    for _ in range(STEPS):
        h = [x]
        for a in w:
            h.append(np.maximum(h[-1] @ a, 0))
        d = 2 * (h[-1] - y) / y.size
        loss = np.square(h[-1] - y).mean()
        for i in reversed(range(depth)):
            d = d * (h[i + 1] > 0)
            d, g = d @ w[i].T, h[i].T @ d
            w[i] = w[i] - RATE * g
    return loss


@peak.graphflow
@peak.tensorflow
def _(tf, rows, width, depth):
    from benchmarks.announced import announced
    from benchmarks.memory import RATE, STEPS, batch, weight
    from benchmarks.worker import peak_memory

    base = peak_memory(reset=True)
    with tf.Graph().as_default():
        one = tf.placeholder(tf.float32, [])
        tf.Session().run(one + one, {one: 1.0})
    engine = peak_memory() - base
    x, y = batch(rows, width)
    px, py, pw = (tf.placeholder(tf.float32, s) for s in (x.shape, y.shape, (width, width)))
    h, variables = px, []
    for _ in range(depth):
        variables.append(tf.Variable(pw))  # fed when initialised, one at a time
        h = tf.nn.relu(tf.matmul(h, variables[-1]))
    loss = tf.reduce_mean(tf.square(h - py))
    train = tf.train.GradientDescentOptimizer(RATE).minimize(loss)
    sess, times = tf.Session(), []
    for i, v in enumerate(variables):
        sess.run(v.initializer, {pw: weight(i, width)})
    for _ in range(STEPS):
        start = time.perf_counter()  # noqa: F821
        value = sess.run([loss, train], {px: x, py: y})[0]
        times.append(time.perf_counter() - start)  # noqa: F821
    used = peak_memory() - base
    facts = announced(tf, [loss, train], {px: x, py: y}, sess)
    if facts:
        facts["off"] = abs((used - engine) / facts["announced"] - 1)
    return dict(value=used, result=value, step=min(times), engine=engine, **facts)


@peak.jax
def _(jax, rows, width, depth):
    from benchmarks.memory import RATE, STEPS, batch, weight
    from benchmarks.worker import peak_memory

    base, times = peak_memory(reset=True), []
    x, y = batch(rows, width)

    def loss(w):
        h = x
        for a in w:
            h = jax.nn.relu(h @ a)
        return ((h - y) ** 2).mean()

    def update(w):
        value, grads = jax.value_and_grad(loss)(w)
        return value, [a - RATE * g for a, g in zip(w, grads)]
    step, w = jax.jit(update, donate_argnums=0), [jax.numpy.array(weight(i, width)) for i in range(depth)]
    for _ in range(STEPS):
        start = time.perf_counter()  # noqa: F821
        value, w = jax.block_until_ready(step(w))
        times.append(time.perf_counter() - start)  # noqa: F821
    return {"value": peak_memory() - base, "result": value, "step": min(times)}


@peak.torch
def _(torch, rows, width, depth):
    from benchmarks.memory import RATE, STEPS, batch, weight
    from benchmarks.worker import peak_memory

    base, times = peak_memory(reset=True), []
    x, y = map(torch.from_numpy, batch(rows, width))
    w = [torch.from_numpy(weight(i, width)).requires_grad_() for i in range(depth)]
    optimizer = torch.optim.SGD(w, RATE)
    for _ in range(STEPS):
        start = time.perf_counter()  # noqa: F821
        optimizer.zero_grad()
        h = x
        for a in w:
            h = torch.relu(h @ a)
        value = ((h - y) ** 2).mean()
        value.backward()
        optimizer.step()
        times.append(time.perf_counter() - start)  # noqa: F821
    return {"value": peak_memory() - base, "result": value, "step": min(times)}
