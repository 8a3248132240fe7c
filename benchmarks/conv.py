"""3x3 convolutions alone: the result, and the result with the gradients of both operands."""
from __future__ import annotations

import numpy as np

from .dialects import Jax, Numpy, Onnx, TensorFlow, Torch
from .workload import BEST, Steady, of_limit

PEAK = of_limit({1: 0.9, 2: 0.85})
BATCH, SIZE = 8, 28


def arrays(quick, a, b):
    """Images, filters and the derivative by the result."""
    n, size, a, b = (2, 6, 4, 6) if quick else (BATCH, SIZE, a, b)
    r = np.random.RandomState(0)
    return [r.normal(0, s, shape).astype(np.float32)
            for s, shape in ((1, (n, size, size, a)), ((2 / 9 / a) ** 0.5, (3, 3, a, b)), (1, (n, size, size, b)))]


def same_conv(x, w):
    return Numpy().conv(x.astype(np.float64), w.astype(np.float64))


def operations(x, w):
    return 2.0 * x[..., 0].size * w.size


def forward(a, b):
    w = Steady(f"conv 3x3, {a} -> {b} channels, {BATCH}x{SIZE}x{SIZE}", goals=[BEST, PEAK], tolerance=(1e-3, 1e-3))
    w.inputs(lambda quick: arrays(quick, a, b)[:2])
    w.reference(same_conv)
    w.work(lambda x, f: (operations(x, f), 0))

    @w.graphflow
    @w.tensorflow
    def _(tf, x, f):
        p = [tf.placeholder(tf.float32, v.shape) for v in (x, f)]
        run = tf.Session().make_callable(TensorFlow(tf, ()).conv(*p), p)
        return lambda: run(x, f)

    @w.xla
    def _(tf, x, f):
        run, x, f = tf.function(TensorFlow(tf.compat.v1, ()).conv, jit_compile=True), tf.constant(x), tf.constant(f)
        return lambda: run(x, f)

    @w.jax
    def _(jax, x, f):
        run, x, f = jax.jit(Jax(jax, ()).conv), jax.numpy.asarray(x), jax.numpy.asarray(f)
        return lambda: run(x, f).block_until_ready()

    @w.torch
    def _(torch, x, f):
        conv, x, f = Torch(torch, ()).conv, Torch.image(torch.from_numpy(x)), Torch.place(torch, f)
        return lambda: conv(x, f), {"check": lambda: conv(x, f).permute(0, 2, 3, 1)}

    @w.onnxruntime
    def _(onnx, x, f):
        run = onnx.session(lambda op, x: Onnx(op, [f]).convolved(x), np.ascontiguousarray(x.transpose(0, 3, 1, 2)))
        return run, {"check": lambda: run()[0].transpose(0, 2, 3, 1)}
    return w


def backward(a, b):
    w = Steady(f"conv 3x3, {a} -> {b} channels, {BATCH}x{SIZE}x{SIZE}: value and both gradients", goals=[BEST], tolerance=(1e-3, 2e-3))
    w.inputs(lambda quick: arrays(quick, a, b))
    w.work(lambda x, f, d: (3 * operations(x, f), 0))

    @w.reference
    def _(x, f, d):
        windows = np.lib.stride_tricks.sliding_window_view(np.pad(x, [(0, 0), (1, 1), (1, 1), (0, 0)]).astype(np.float64), (3, 3), (1, 2))
        return [same_conv(x, f), same_conv(d, f[::-1, ::-1].swapaxes(2, 3)),
                np.tensordot(windows, d, ([0, 1, 2], [0, 1, 2])).transpose(1, 2, 0, 3)]

    @w.graphflow
    @w.tensorflow
    def _(tf, x, f, d):
        px, pf, pd = p = [tf.placeholder(tf.float32, v.shape) for v in (x, f, d)]
        y = TensorFlow(tf, ()).conv(px, pf)
        run = tf.Session().make_callable([y, *tf.gradients(y, [px, pf], pd)], p)
        return lambda: run(x, f, d)

    @w.xla
    def _(tf, x, f, d):
        def both(x, f, d):
            y = TensorFlow(tf.compat.v1, ()).conv(x, f)
            return [y, *tf.gradients(y, [x, f], d)]
        run, given = tf.function(both, jit_compile=True), [tf.constant(v) for v in (x, f, d)]
        return lambda: run(*given)

    @w.jax
    def _(jax, x, f, d):
        def both(x, f, d):
            y, back = jax.vjp(Jax(jax, ()).conv, x, f)
            return y, *back(d)
        run, given = jax.jit(both), [jax.numpy.asarray(v) for v in (x, f, d)]
        return lambda: jax.block_until_ready(run(*given))

    @w.torch
    def _(torch, x, f, d):
        conv, (x, d) = Torch(torch, ()).conv, (Torch.image(torch.from_numpy(v)) for v in (x, d))
        x, f = x.requires_grad_(), Torch.place(torch, f).requires_grad_()

        def step():
            y = conv(x, f)
            return [y, *torch.autograd.grad(y, [x, f], d)]

        def check():
            y, dx, df = step()
            return [y.permute(0, 2, 3, 1), dx.permute(0, 2, 3, 1), df.permute(2, 3, 1, 0)]
        return step, {"check": check}
    return w


for a, b in ((32, 64), (64, 64), (128, 128)):
    forward(a, b)
for a, b in ((32, 64), (64, 64), (128, 128)):
    backward(a, b)
