"""Long elementwise chains over large arrays, where what counts is one pass over memory and fast vector mathematics."""
from __future__ import annotations

import numpy as np

from .announced import announced
from .workload import Steady, fact, times_as_fast, within

FRESH = "no page faults in the steady state"
math = Steady("19 elementwise ops over 10^7 float32", aside=("kernels", "faults"),
              goals=[times_as_fast(1.5, "xla"), fact("kernels", 1, "one kernel"), fact("faults", 1, FRESH)])
moves = Steady("additions, multiplications, selects over 10^7 float32", aside=("kernels", "faults"),
               goals=[within(1.2, "copy"), fact("kernels", 1, "one kernel"), fact("faults", 1, FRESH)])


def math_ops(m, x):
    """19 operations: * + tanh neg exp + abs log1p + sqrt * - > * where + / * +"""
    b = m.tanh(x * 0.5 + 0.25)
    e = m.exp(-x)
    f = m.sqrt(m.log1p(m.abs(e + b)) + 1.0)
    g = f * b - e
    h = m.where(g > 0, g * x, e) / (f + 2.0)
    return h * h + x


def move_ops(m, x):
    y = x * 1.5 + 0.25
    z = m.where(y > x, y * 0.5, x - 1.0)
    return m.where(z < 0, x + z, z * y) + y


@math.inputs
@moves.inputs
def _(quick):
    return [np.random.RandomState(0).normal(size=10**4 if quick else 10**7).astype(np.float32)]


@math.reference
def _(x):
    return math_ops(np, x.astype(np.float64))


@moves.reference
def _(x):
    return move_ops(np, x)


def graph(ops):
    """The programs of a chain that differ between libraries only in the name of the library."""
    def session(tf, x):
        p = tf.placeholder(tf.float32, x.shape)
        y = ops(tf, p)
        f = tf.Session().make_callable(y, [p])
        return lambda: f(x), announced(tf, y, {p: x})

    def xla(tf, x):
        f, x = tf.function(lambda x: ops(tf.compat.v1, x), jit_compile=True), tf.constant(x)
        return lambda: f(x)

    def jax(jax, x):
        f, x = jax.jit(lambda x: ops(jax.numpy, x)), jax.numpy.asarray(x)
        return lambda: f(x).block_until_ready()

    def torch(torch, x):
        x = torch.from_numpy(x)
        return lambda: ops(torch, x)

    def compiled(torch, x):
        f, x = torch.compile(lambda x: ops(torch, x)), torch.from_numpy(x)
        return lambda: f(x)

    def pytensor(pytensor, x):
        p = pytensor.tensor.vector(dtype="float32", shape=x.shape)
        f = pytensor.function([p], ops(pytensor.tensor, p), trust_input=True)
        return lambda: f(x)

    def numpy(np, x):
        return lambda: ops(np, x)
    return {"graphflow": session, "tensorflow": session, "xla": xla, "jax": jax, "torch": torch, "torchcompile": compiled,
            "pytensor": pytensor, "numpy": numpy}


math.functions.update(graph(math_ops))
moves.functions.update(graph(move_ops))


@math.onnxruntime
def _(onnx, x):
    def program(op, x):
        b = op.Tanh(op.Add(op.Mul(x, 0.5), 0.25))
        e = op.Exp(op.Neg(x))
        f = op.Sqrt(op.Add(op.Log(op.Add(op.Abs(op.Add(e, b)), 1.0)), 1.0))
        g = op.Sub(op.Mul(f, b), e)
        h = op.Div(op.Where(op.Greater(g, 0.0), op.Mul(g, x), e), op.Add(f, 2.0))
        return op.Add(op.Mul(h, h), x)
    return onnx.session(program, x)


@math.work
@moves.work
def _(x):
    return 0, 2 * x.nbytes  # whatever is computed in between


def in_float32(text, x):
    """What numexpr wants to know; a fraction written in its text would be float64 and make everything so."""
    return lambda numexpr: numexpr.evaluate(text, {"x": x, "half": np.float32(0.5), "quarter": np.float32(0.25)})


@math.numexpr
def _(numexpr, x):
    b, e = "tanh(x * half + quarter)", "exp(-x)"
    f = f"sqrt(log1p(abs({e} + {b})) + 1)"
    g = f"({f} * {b} - {e})"
    h = f"(where({g} > 0, {g} * x, {e}) / ({f} + 2))"  # its compiler shares what is written twice
    run = in_float32(f"{h} * {h} + x", x)
    return lambda: run(numexpr)


@moves.numexpr
def _(numexpr, x):
    y = "(x * (1 + half) + quarter)"
    z = f"where({y} > x, {y} * half, x - 1)"
    run = in_float32(f"where({z} < 0, x + {z}, {z} * {y}) + {y}", x)
    return lambda: run(numexpr)


@moves.copy
def _(np, x):
    out = np.empty_like(x)

    def step():
        np.copyto(out, x)
        return out
    return step
