"""Large graphs: building, differentiating, and the first result of a long chain. Every number is a new process."""
from __future__ import annotations

import numpy as np

from .workload import Program, at_most, at_most_times, fact

LINEAR = fact("growth", 3, "twice the size takes at most three times as long")
built = Program("10,000 ops built", goals=[at_most(0.5, "0.5 s"), LINEAR], aside=("growth",))
differentiated = Program("10,000 ops differentiated", goals=[at_most(1, "1 s"), LINEAR], aside=("growth",))


def chain(n, tanh, maximum, x, a, b, c, d):
    """n ops, none like another, since each takes the one before."""
    for _ in range(n // 5):
        x = maximum(tanh(x * a + b) - c, d)
    return x


def operands(n):
    return [np.array(n), *np.random.RandomState(0).uniform(-0.5, 0.5, (5, 8)).astype(np.float32)]


@built.inputs
@differentiated.inputs
def _(quick):
    return operands(200 if quick else 10_000)


@built.reference
@differentiated.reference
def _(n, *arrays):
    return n


@built.graphflow
@built.tensorflow
def _(tf, n, *arrays):
    from benchmarks.build import chain

    def seconds(n):
        with tf.Graph().as_default() as g:
            p = [tf.placeholder(tf.float32, [8]) for _ in range(5)]
            start = time.perf_counter()  # noqa: F821
            chain(n, tf.tanh, tf.maximum, *p)
            return time.perf_counter() - start, len(g.get_operations()) - 5  # noqa: F821
    seconds(100)
    half, (value, count) = seconds(n // 2)[0], seconds(n)
    return {"value": value, "growth": value / half, "result": count}


@differentiated.graphflow
@differentiated.tensorflow
def _(tf, n, *arrays):
    from benchmarks.build import chain

    def seconds(n):
        with tf.Graph().as_default() as g:
            p = [tf.placeholder(tf.float32, [8]) for _ in range(5)]
            y, count = chain(n, tf.tanh, tf.maximum, *p), len(g.get_operations()) - 5
            start = time.perf_counter()  # noqa: F821
            assert None not in tf.gradients(y, p)
            return time.perf_counter() - start, count  # noqa: F821
    seconds(100)
    half, (value, count) = seconds(n // 2)[0], seconds(n)
    return {"value": value, "growth": value / half, "result": count}


@built.pytensor
def _(pytensor, n, *arrays):
    from benchmarks.build import chain

    def seconds(n):
        p = [pytensor.tensor.vector(dtype="float32", shape=(8,)) for _ in range(5)]
        start = time.perf_counter()  # noqa: F821
        chain(n, pytensor.tensor.tanh, pytensor.tensor.maximum, *p)
        return time.perf_counter() - start  # noqa: F821
    seconds(100)
    half, value = seconds(n // 2), seconds(n)
    return {"value": value, "growth": value / half, "result": n}


@differentiated.pytensor
def _(pytensor, n, *arrays):
    from benchmarks.build import chain

    def seconds(n):
        p = [pytensor.tensor.vector(dtype="float32", shape=(8,)) for _ in range(5)]
        y = chain(n, pytensor.tensor.tanh, pytensor.tensor.maximum, *p).sum()
        start = time.perf_counter()  # noqa: F821
        pytensor.grad(y, p)
        return time.perf_counter() - start  # noqa: F821
    seconds(100)
    half, value = seconds(n // 2), seconds(n)
    return {"value": value, "growth": value / half, "result": n}


@built.jax
def _(jax, n, *arrays):
    from benchmarks.build import chain

    def seconds(n):
        start = time.perf_counter()  # noqa: F821
        jax.make_jaxpr(lambda *p: chain(n, jax.numpy.tanh, jax.numpy.maximum, *p))(*arrays)
        return time.perf_counter() - start  # noqa: F821
    seconds(100)
    half, value = seconds(n // 2), seconds(n)
    return {"value": value, "growth": value / half, "result": n}


@differentiated.jax
def _(jax, n, *arrays):
    from benchmarks.build import chain

    def seconds(n):
        def total(*p):
            return chain(n, jax.numpy.tanh, jax.numpy.maximum, *p).sum()
        start = time.perf_counter()  # noqa: F821
        jax.make_jaxpr(jax.grad(total, range(5)))(*arrays)
        return time.perf_counter() - start  # noqa: F821
    seconds(100)
    half, value = seconds(n // 2), seconds(n)
    return {"value": value, "growth": value / half, "result": n}


# ---------------------------------------------------------------- first result of a chain

half: Program | None = None
for size in (2_500, 5_000):
    goals = [at_most(3, "3 s"), at_most_times(3, half)] if half else []
    first = Program(f"chain of {size:,} distinct ops, build to first result, empty cache", cache="empty", goals=goals,
                    tolerance=(1e-3, 1e-4))
    half = first

    @first.inputs
    def _(quick, size=size):
        return operands(size // 50 if quick else size)

    @first.reference
    def _(n, *arrays):
        return chain(n, np.tanh, np.maximum, *(a.astype(np.float64) for a in arrays))

    @first.graphflow
    @first.tensorflow
    def _(tf, n, *arrays):
        from benchmarks.build import chain

        start = time.perf_counter()  # noqa: F821
        p = [tf.placeholder(tf.float32, [8]) for _ in arrays]
        y = tf.Session().run(chain(n, tf.tanh, tf.maximum, *p), dict(zip(p, arrays)))
        return {"value": time.perf_counter() - start, "result": y}  # noqa: F821

    @first.xla
    def _(tf, n, *arrays):
        from benchmarks.build import chain

        start = time.perf_counter()  # noqa: F821
        y = tf.function(lambda *p: chain(n, tf.tanh, tf.maximum, *p), jit_compile=True)(*map(tf.constant, arrays)).numpy()
        return {"value": time.perf_counter() - start, "result": y}  # noqa: F821

    @first.jax
    def _(jax, n, *arrays):
        from benchmarks.build import chain

        start = time.perf_counter()  # noqa: F821
        y = jax.jit(lambda *p: chain(n, jax.numpy.tanh, jax.numpy.maximum, *p))(*arrays).block_until_ready()
        return {"value": time.perf_counter() - start, "result": y}  # noqa: F821

    @first.torchcompile
    def _(torch, n, *arrays):
        from benchmarks.build import chain

        start = time.perf_counter()  # noqa: F821
        y = torch.compile(lambda *p: chain(n, torch.tanh, torch.maximum, *p))(*map(torch.from_numpy, arrays))
        return {"value": time.perf_counter() - start, "result": y}  # noqa: F821

    @first.pytensor
    def _(pytensor, n, *arrays):
        from benchmarks.build import chain

        start = time.perf_counter()  # noqa: F821
        p = [pytensor.tensor.vector(dtype="float32", shape=(8,)) for _ in arrays]
        y = pytensor.function(p, chain(n, pytensor.tensor.tanh, pytensor.tensor.maximum, *p))(*arrays)
        return {"value": time.perf_counter() - start, "result": y}  # noqa: F821
