"""Networks: training steps and inference. Each is one function of a dialect (dialects.py), so all sides run the same network on the
same weights; what differs a side is how a step is made of it, the small functions below.

A training step is checked before it is timed: the first loss and the derivative of the loss along a fixed direction in weight space
against NumPy (float64, the derivative by a central difference), the losses of the next steps and what the moving averages have
become against the other sides.
"""
from __future__ import annotations

import numpy as np

from .dialects import Jax, Numpy, Onnx, TensorFlow, Torch
from .workload import BEST, UNKNOWN, Steady

STEPS, BETAS, TINY = 3, (0.9, 0.999), 1e-8


# ---------------------------------------------------------------- the networks


def dense(m, x, inputs, outputs):
    return m.dense(x, m.weight(inputs, outputs), m.bias(outputs))


def mlp(m, x, widths=(784, 512, 512, 10)):
    for a, b in zip(widths[:-2], widths[1:]):
        x = m.relu(dense(m, x, a, b))
    return dense(m, x, *widths[-2:])


def lenet(m, x, size=28, channels=(32, 64), hidden=1024):
    x, before = m.image(x), 1
    for c in channels:
        x = m.max_pool(m.relu(m.conv(x, m.weight(5, 5, before, c), 1, m.bias(c), padded=False)), 2, 2)
        before, size = c, (size - 4) // 2
    x = m.relu(dense(m, m.flat(x), before * size * size, hidden))
    return dense(m, x, hidden, 10)


def normed(m, x, k, a, b, stride=1):
    return m.batch_norm(m.conv(x, m.weight(k, k, a, b), stride))


def residual(m, x, a, b, stride):
    """Two 3x3 convolutions beside the identity, or beside a 1x1 convolution where the shape changes."""
    y = normed(m, m.relu(normed(m, x, 3, a, b, stride)), 3, b, b)
    return m.relu(m.add(y, x if a == b and stride == 1 else normed(m, x, 1, a, b, stride)))


def resnet20(m, x, blocks=3, channels=(16, 32, 64)):
    x, a = m.relu(normed(m, m.image(x), 3, 3, channels[0])), channels[0]
    for i, b in enumerate(channels):
        for j in range(blocks):
            x, a = residual(m, x, a, b, 2 if i and not j else 1), b
    return dense(m, m.mean_pool(x), a, 10)


def resnet18(m, x, blocks=2, channels=(64, 128, 256, 512), classes=1000):
    x, a = m.max_pool(m.relu(normed(m, m.image(x), 7, 3, channels[0], 2)), 3, 2), channels[0]
    for i, b in enumerate(channels):
        for j in range(blocks):
            x, a = residual(m, x, a, b, 2 if i and not j else 1), b
    return dense(m, m.mean_pool(x), a, classes)


def bottleneck(m, x, a, b, stride):
    """1x1 down, 3x3, 1x1 up to four times the channels, beside the identity or a 1x1 convolution."""
    y = m.relu(normed(m, m.relu(normed(m, x, 1, a, b)), 3, b, b, stride))
    return m.relu(m.add(normed(m, y, 1, b, 4 * b), x if a == 4 * b else normed(m, x, 1, a, 4 * b, stride)))


def resnet50(m, x, blocks=(3, 4, 6, 3), channels=(64, 128, 256, 512), classes=1000):
    x, a = m.max_pool(m.relu(normed(m, m.image(x), 7, 3, channels[0], 2)), 3, 2), channels[0]
    for i, (n, b) in enumerate(zip(blocks, channels)):
        for j in range(n):
            x, a = bottleneck(m, x, a, b, 2 if i and not j else 1), 4 * b
    return dense(m, m.mean_pool(x), a, classes)


INVERTED = ((1, 16, 1, 1), (6, 24, 2, 2), (6, 32, 3, 2), (6, 64, 4, 2), (6, 96, 3, 1), (6, 160, 3, 2), (6, 320, 1, 1))


def mobilenet(m, x, rows=INVERTED, last=1280, classes=1000):
    """MobileNet-V2: 1x1 up, 3x3 depthwise, 1x1 down; rows of (expansion, channels, repeats, stride)."""
    x, a = m.relu6(normed(m, m.image(x), 3, 3, 32, 2)), 32
    for t, b, repeats, stride in rows:
        for j in range(repeats):
            h, wide, s = x, a * t, 1 if j else stride
            if t > 1:
                h = m.relu6(normed(m, h, 1, a, wide))
            h = m.relu6(m.batch_norm(m.conv(h, m.weight(3, 3, 1, wide), s, groups=wide)))
            h = normed(m, h, 1, wide, b)
            x, a = m.add(x, h) if s == 1 and a == b else h, b
    return dense(m, m.mean_pool(m.relu6(normed(m, x, 1, a, last))), last, classes)


def mixed(m, x, width, heads, causal):
    q, k, v = (dense(m, x, width, width) for _ in range(3))
    return dense(m, m.attention(q, k, v, heads, causal), width, width)


def transformer(m, x, layers=2, width=256, heads=4, inner=1024):
    """An encoder on vectors, the norm after each part as in the first paper; one label a position."""
    for _ in range(layers):
        x = m.layer_norm(m.add(x, mixed(m, x, width, heads, False)))
        x = m.layer_norm(m.add(x, dense(m, m.relu(dense(m, x, width, inner)), inner, width)))
    return dense(m, x, width, 10)


def gpt(m, ids, layers=4, width=256, heads=4, vocabulary=512, length=128):
    """A decoder on words: learned positions, the norm before each part, causal attention."""
    x = m.add(m.embed(m.weight(vocabulary, width), ids), m.weight(length, width))
    for _ in range(layers):
        x = m.add(x, mixed(m, m.layer_norm(x), width, heads, True))
        x = m.add(x, dense(m, m.gelu(dense(m, m.layer_norm(x), width, 4 * width)), 4 * width, width))
    return dense(m, m.layer_norm(x), width, vocabulary)


# ---------------------------------------------------------------- weights and data


def images(n, size, channels=1):
    return np.random.RandomState(1).normal(size=(n, size, size, channels)).astype(np.float32)


def vectors(*shape):
    return np.random.RandomState(1).normal(size=shape).astype(np.float32)


def words(n, length, vocabulary):
    return np.random.RandomState(1).randint(0, vocabulary, (n, length)).astype(np.int32)


def labels(classes, *shape):
    return np.random.RandomState(2).randint(0, classes, shape).astype(np.int32)


def weights(model, x, training=True):
    """(every array of the model, 1 for each that is trained)."""
    m = Numpy(training=training)
    model(m, x[:2])
    return m.made, np.array(m.trained, np.int8)


def operations(model, x, arrays, training=True):
    """Floating-point operations of the products and convolutions of one forward pass."""
    m = Numpy(arrays, training)
    model(m, x[:2])
    return m.flops * len(x) / len(x[:2])


def directions(trained, arrays):
    """A direction in weight space: as large as the weights, the same everywhere."""
    return [np.random.RandomState(i).normal(0, 0.05, a.shape).astype(np.float32) for i, (t, a) in enumerate(zip(trained, arrays)) if t]


# ---------------------------------------------------------------- training steps


def training(name, model, tiny, full, optimizer="adam", rate=1e-3, tolerance=(5e-3, 1e-4), into=None):
    """A workload, or the programs of the workload `into`: `tiny` and `full` return (model with its sizes, data, labels)."""
    w = into or Steady(name, goals=[BEST], tolerance=tolerance)

    @w.inputs
    def _(quick):
        chosen, x, y = (tiny if quick else full)()
        arrays, trained = weights(chosen, x)
        return [x, y, trained, *arrays]

    def sized(x):
        """The model with the sizes of these inputs."""
        return next(m for m, given, _ in (full(), tiny()) if given.shape == x.shape)

    @w.reference
    def _(x, y, trained, *arrays):
        def loss(step):
            along = iter(directions(trained, arrays))
            m = Numpy(a.astype(np.float64) + (step * next(along) if t else 0) for a, t in zip(arrays, trained))
            return m.cross_entropy(sized(x)(m, x), y)
        h = 1e-5
        return [(loss(h) - loss(-h)) / (2 * h), loss(0), *[UNKNOWN] * (STEPS - 1), *[UNKNOWN] * (not trained.all())]

    @w.work
    def _(x, y, trained, *arrays):
        return 3 * operations(sized(x), x, arrays), 0  # once forward, twice backward

    @w.graphflow
    @w.tensorflow
    @w.xla
    def _(tf, x, y, trained, *arrays):
        tf, config = session_config(tf)
        px, py = (tf.placeholder(tf.as_dtype(a.dtype), a.shape) for a in (x, y))
        variables = [tf.Variable(a, trainable=bool(t)) for a, t in zip(arrays, trained)]
        m = TensorFlow(tf, variables)
        loss = m.cross_entropy(sized(x)(m, px), py)
        how = tf.train.AdamOptimizer(rate) if optimizer == "adam" else tf.train.MomentumOptimizer(rate, 0.9)
        with tf.control_dependencies(m.updates):
            train = how.minimize(loss)
        gradients = map(tf.convert_to_tensor, tf.gradients(loss, tf.trainable_variables()))
        slope = tf.add_n([tf.reduce_sum(g * d) for g, d in zip(gradients, directions(trained, arrays))])
        sess = tf.Session(config=config)
        sess.run(tf.global_variables_initializer())
        f = sess.make_callable([loss, train], [px, py])

        def check():
            out = [sess.run(slope, {px: x, py: y}), *[f(x, y)[0] for _ in range(STEPS)]]
            return out if trained.all() else [*out, sess.run(variables[int(np.argmin(trained))])]
        return lambda: f(x, y), {"check": check}

    @w.jax
    def _(jax, x, y, trained, *arrays):
        np_, which = jax.numpy, np.flatnonzero(trained)

        def loss(chosen, rest, x, y):
            all_, chosen, rest = [], iter(chosen), iter(rest)
            for t in trained:
                all_.append(next(chosen if t else rest))
            m = Jax(jax, all_)
            return m.cross_entropy(sized(x)(m, x), y), m.updates

        def update(state, x, y):
            n, p, rest, slots = state
            (value, rest), g = jax.value_and_grad(loss, has_aux=True)(p, rest, x, y)
            n = n + 1
            if optimizer == "adam":
                r = rate * np_.sqrt(1 - BETAS[1] ** n) / (1 - BETAS[0] ** n)
                slots = [(BETAS[0] * a + (1 - BETAS[0]) * d, BETAS[1] * b + (1 - BETAS[1]) * d * d) for (a, b), d in zip(slots, g)]
                p = [w - (r * a / (np_.sqrt(b) + TINY)).astype(w.dtype) for w, (a, b) in zip(p, slots)]
            else:
                slots = [0.9 * a + d for a, d in zip(slots, g)]
                p = [w - rate * a for w, a in zip(p, slots)]
            return value, (n, p, rest, slots)

        p, rest = [np_.array(arrays[i]) for i in which], [np_.array(a) for a, t in zip(arrays, trained) if not t]
        zeros = [np_.zeros_like(a) for a in p]
        slots = [(a, np_.zeros_like(a)) for a in zeros] if optimizer == "adam" else zeros
        state, x, y = (np_.zeros((), np.float32), p, rest, slots), np_.array(x), np_.array(y)
        f, slope = jax.jit(update, donate_argnums=0), jax.jit(jax.grad(loss, has_aux=True))

        def step():
            nonlocal state
            value, state = jax.block_until_ready(f(state, x, y))
            return value

        def check():
            g = slope(p, rest, x, y)[0]
            first = sum(np.vdot(a, d) for a, d in zip(g, directions(trained, arrays)))
            return [first, *[step() for _ in range(STEPS)], *state[2][:1]]
        return step, {"check": check}

    def make(torch, compiled, x, y, trained, *arrays):
        placed = [Torch.place(torch, a).requires_grad_(bool(t)) for a, t in zip(arrays, trained)]
        chosen = [p for p in placed if p.requires_grad]
        optim = (torch.optim.Adam(chosen, rate, fused=True) if optimizer == "adam"
                 else torch.optim.SGD(chosen, rate, momentum=0.9, fused=True))
        x, y, network = torch.from_numpy(x), torch.from_numpy(y).long(), sized(x)

        def loss(x, y):
            m = Torch(torch, placed)
            return m.cross_entropy(network(m, x), y)
        loss = torch.compile(loss) if compiled else loss

        def step():
            optim.zero_grad()
            value = loss(x, y)
            value.backward()
            optim.step()
            return value

        def check():
            first, along = step().detach(), [Torch.place(torch, d) for d in directions(trained, arrays)]
            slope = sum(float((p.grad * d).sum()) for p, d in zip(chosen, along))
            return [slope, first, *[step().detach() for _ in range(STEPS - 1)], *[p for p in placed if not p.requires_grad][:1]]
        return step, {"check": check}

    w.torch(lambda torch, *inputs: make(torch, False, *inputs))
    w.torchcompile(lambda torch, *inputs: make(torch, True, *inputs))
    return w


def session_config(tf):
    """The TF1 names of this library and the configuration of its Session: TF 2's own module stands for XLA on the same program."""
    if not hasattr(tf, "compat") or hasattr(tf, "Session"):
        return tf, None
    tf = tf.compat.v1
    tf.disable_v2_behavior()
    tf.enable_resource_variables()  # which XLA needs
    return tf, tf.ConfigProto(graph_options=tf.GraphOptions(optimizer_options=tf.OptimizerOptions(global_jit_level=2)))


def sizes(model, **given):
    return lambda m, x: model(m, x, **given)


mlp_step = training("mlp: training step, 784-512-512-10, batch 128, Adam", mlp,
                    lambda: (sizes(mlp, widths=(20, 16, 16, 10)), vectors(8, 20), labels(10, 8)),
                    lambda: (mlp, vectors(128, 784), labels(10, 128)))
lenet_step = training("lenet: training step, 5x5x32, 5x5x64, 1024, batch 64, Adam", lenet,
                      lambda: (sizes(lenet, size=16, channels=(4, 8), hidden=16), images(4, 16), labels(10, 4)),
                      lambda: (lenet, images(64, 28), labels(10, 64)))
resnet20_step = training("resnet20: training step with batch norm, 32x32x3, batch 32, momentum", resnet20,
                         lambda: (sizes(resnet20, blocks=1, channels=(4, 8)), images(4, 8, 3), labels(10, 4)),
                         lambda: (resnet20, images(32, 32, 3), labels(10, 32)), "momentum", 0.01)
transformer_step = training("transformer: training step, 2 encoder layers, batch 8, length 128, width 256, Adam", transformer,
                            lambda: (sizes(transformer, layers=1, width=16, heads=2, inner=32), vectors(2, 6, 16), labels(10, 2, 6)),
                            lambda: (transformer, vectors(8, 128, 256), labels(10, 8, 128)))
gpt_step = training("gpt: training step, 4 layers, width 256, batch 8, length 128, vocabulary 512, Adam", gpt,
                    lambda: (sizes(gpt, layers=1, width=16, heads=2, vocabulary=20, length=6), words(2, 6, 20), labels(20, 2, 6)),
                    lambda: (gpt, words(8, 128, 512), labels(512, 8, 128)))


# ---------------------------------------------------------------- inference


def inference(name, model, tiny, full, tolerance=(1e-3, 1e-3)):
    """A workload: `tiny` and `full` return (model with its sizes, data). Weights are constants of the program."""
    w = Steady(name, goals=[BEST], tolerance=tolerance)

    @w.inputs
    def _(quick):
        chosen, x = (tiny if quick else full)()
        return [x, *weights(chosen, x, training=False)[0]]

    def sized(x):
        return next(m for m, given in (full(), tiny()) if given.shape == x.shape)

    @w.reference
    def _(x, *arrays):
        return sized(x)(Numpy(arrays, training=False), x)

    @w.work
    def _(x, *arrays):
        return operations(sized(x), x, arrays, training=False), 0

    @w.graphflow
    @w.tensorflow
    @w.xla
    def _(tf, x, *arrays):
        tf, config = session_config(tf)
        p = tf.placeholder(tf.float32, x.shape)
        y = sized(x)(TensorFlow(tf, map(tf.constant, arrays), training=False), p)
        f = tf.Session(config=config).make_callable(y, [p])
        return lambda: f(x)

    @w.jax
    def _(jax, x, *arrays):
        network, arrays = sized(x), [jax.numpy.asarray(a) for a in arrays]
        f, x = jax.jit(lambda arrays, x: network(Jax(jax, arrays, training=False), x)), jax.numpy.asarray(x)
        return lambda: f(arrays, x).block_until_ready()

    def make(torch, compiled, x, *arrays):
        placed, network = [Torch.place(torch, a) for a in arrays], sized(x)
        torch.set_grad_enabled(False)

        def f(x):
            return network(Torch(torch, placed, training=False), x)
        f, x = torch.compile(f) if compiled else f, torch.from_numpy(x)
        return lambda: f(x)

    w.torch(lambda torch, *inputs: make(torch, False, *inputs))
    w.torchcompile(lambda torch, *inputs: make(torch, True, *inputs))

    @w.onnxruntime
    def _(onnx, x, *arrays):
        network, given = sized(x), np.ascontiguousarray(x.transpose(0, 3, 1, 2)) if x.ndim == 4 else x
        return onnx.session(lambda op, p: network(Onnx(op, arrays), p), given)
    return w


SMALL_ROWS = ((1, 4, 1, 1), (2, 6, 2, 2))
for n in (1, 128):
    inference(f"mlp: inference, 784-512-512-10, batch {n}", mlp,
              lambda n=n: (sizes(mlp, widths=(20, 16, 16, 10)), vectors(min(n, 5), 20)), lambda n=n: (mlp, vectors(n, 784)))
for n in (1, 8):
    inference(f"resnet18: inference, 224x224, batch {n}", resnet18,
              lambda n=n: (sizes(resnet18, blocks=1, channels=(4, 8), classes=10), images(min(n, 2), 32, 3)),
              lambda n=n: (resnet18, images(n, 224, 3)))
for n in (1, 8):
    inference(f"mobilenet: inference, V2, 224x224, batch {n}", mobilenet,
              lambda n=n: (sizes(mobilenet, rows=SMALL_ROWS, last=16, classes=10), images(min(n, 2), 32, 3)),
              lambda n=n: (mobilenet, images(n, 224, 3)))
