"""Recurrent networks for loops.py: cells, their gradients by hand in NumPy, and the same network and weights in every library.

Weights have TF1's layout: an LSTM's kernel is (inputs + units, 4 units) with the gates i, j, f, o, and 1 is added to f. `gru` is the
one of cuDNN and PyTorch, which resets after the product with the state, gates r, z, n; `grucell` is TF1's GRUCell, which resets before
it. Inputs are (time, batch, features), the quickest order for all. A step is Adam on the mean softmax cross entropy of a dense
layer on the last outputs, those of the backward direction being the ones of the first time.

Knows libraries, which come as arguments, and no workload.
"""
from __future__ import annotations

from typing import NamedTuple

import numpy as np

RATE, BETAS, TINY = 1e-3, (0.9, 0.999), 1e-8


class Net(NamedTuple):
    """A network and its sizes."""

    kind: str
    layers: int = 1
    both: bool = False  # directions
    steps: int = 100
    batch: int = 32
    features: int = 64
    units: int = 128
    classes: int = 10

    @property
    def directions(self):
        return 1 + self.both

    def cells(self):
        """(features, layer, backward) of each cell, in the order of the weights."""
        wide = self.units * self.directions
        return [(wide if k else self.features, k, bool(d)) for k in range(self.layers) for d in range(self.directions)]

    def shapes(self):
        return [s for n, _, _ in self.cells() for s in CELLS[self.kind].shapes(n, self.units)] + [
            (self.units * self.directions, self.classes), (self.classes,)]

    def arrays(self):
        """Inputs, labels and weights."""
        r, bound = np.random.RandomState(0), self.units ** -0.5
        x, y = r.normal(size=(self.steps, self.batch, self.features)), r.randint(0, self.classes, self.batch)
        return [x.astype(np.float32), y.astype(np.int32), *[r.uniform(-bound, bound, s).astype(np.float32) for s in self.shapes()]]

    def operations(self):
        """Floating-point operations of the products of one forward pass."""
        rows = self.steps * self.batch
        each = [2 * rows * np.prod(s) for n, _, _ in self.cells() for s in CELLS[self.kind].shapes(n, self.units) if len(s) == 2]
        return float(sum(each)) + 2 * self.batch * self.units * self.directions * self.classes

    def split(self, weights):
        """[(backward, weights) of each cell], dense weights."""
        n = len(CELLS[self.kind].shapes(1, 1))
        return [(back, weights[i * n:i * n + n]) for i, (_, _, back) in enumerate(self.cells())], weights[-2:]


# ---------------------------------------------------------------- cells in NumPy: shapes, one step, its gradient


def sigmoid(x):
    return 1 / (1 + np.exp(-x))


class Lstm:
    states = 2

    @staticmethod
    def shapes(n, m):
        return [(n + m, 4 * m), (4 * m,)]

    @staticmethod
    def step(x, state, k, b):
        h, c = state
        xh = np.concatenate([x, h], 1)
        i, j, f, o = np.split(xh @ k + b, 4, 1)
        i, j, f, o = sigmoid(i), np.tanh(j), sigmoid(f + 1), sigmoid(o)
        new = f * c + i * j
        t = np.tanh(new)
        return (o * t, new), (xh, c, i, j, f, o, t)

    @staticmethod
    def back(d, kept, k, b):
        (dh, dc), (xh, c, i, j, f, o, t) = d, kept
        dc = dc + dh * o * (1 - t * t)
        dz = np.concatenate([dc * j * i * (1 - i), dc * i * (1 - j * j), dc * c * f * (1 - f), dh * t * o * (1 - o)], 1)
        dx, dh = np.split(dz @ k.T, [xh.shape[1] - c.shape[1]], 1)
        return dx, (dh, dc * f), [xh.T @ dz, dz.sum(0)]


class Gru:
    states = 1

    @staticmethod
    def shapes(n, m):
        return [(n, 3 * m), (m, 3 * m), (3 * m,)]

    @staticmethod
    def step(x, state, w, k, b):
        (h,), m = state, len(k)
        gx, gh = x @ w + b, state[0] @ k
        r, z = sigmoid(gx[:, :m] + gh[:, :m]), sigmoid(gx[:, m:2 * m] + gh[:, m:2 * m])
        n = np.tanh(gx[:, 2 * m:] + r * gh[:, 2 * m:])
        return (n + z * (h - n),), (x, h, r, z, n, gh[:, 2 * m:])

    @staticmethod
    def back(d, kept, w, k, b):
        (dh,), (x, h, r, z, n, g) = d, kept
        dn = dh * (1 - z) * (1 - n * n)
        gates = [dn * g * r * (1 - r), dh * (h - n) * z * (1 - z)]
        dx, dk = np.concatenate([*gates, dn], 1), np.concatenate([*gates, dn * r], 1)
        return dx @ w.T, (dh * z + dk @ k.T,), [x.T @ dx, h.T @ dk, dx.sum(0)]


class GruCell:
    states = 1

    @staticmethod
    def shapes(n, m):
        return [(n + m, 2 * m), (2 * m,), (n + m, m), (m,)]

    @staticmethod
    def step(x, state, k, b, kn, bn):
        h, = state
        xh = np.concatenate([x, h], 1)
        r, u = np.split(sigmoid(xh @ k + b), 2, 1)
        xr = np.concatenate([x, r * h], 1)
        n = np.tanh(xr @ kn + bn)
        return (n + u * (h - n),), (xh, xr, h, r, u, n)

    @staticmethod
    def back(d, kept, k, b, kn, bn):
        (dh,), (xh, xr, h, r, u, n) = d, kept
        dn, at = dh * (1 - u) * (1 - n * n), [xh.shape[1] - h.shape[1]]
        dx, drh = np.split(dn @ kn.T, at, 1)
        dz = np.concatenate([drh * h * r * (1 - r), dh * (h - n) * u * (1 - u)], 1)
        more, back = np.split(dz @ k.T, at, 1)
        return dx + more, (dh * u + drh * r + back,), [xh.T @ dz, dz.sum(0), xr.T @ dn, dn.sum(0)]


CELLS = {"lstm": Lstm, "gru": Gru, "grucell": GruCell}


def layer(cell, x, weights, units, back):
    """All outputs of one direction of a layer; and its gradient, a function of the gradient of the outputs."""
    times = range(len(x))[::-1] if back else range(len(x))
    state, kept, out = (np.zeros((x.shape[1], units)),) * cell.states, {}, np.zeros((*x.shape[:2], units))
    for t in times:
        state, kept[t] = cell.step(x[t], state, *weights)
        out[t] = state[0]

    def gradient(dout):
        d, dx, dw = (0.0,) * cell.states, np.zeros_like(x), [0.0] * len(weights)
        for t in times[::-1]:
            dx[t], d, g = cell.back((d[0] + dout[t], *d[1:]), kept[t], *weights)
            dw = [a + b for a, b in zip(dw, g)]
        return dx, dw
    return out, gradient


def loss_and_gradient(net, x, y, weights):
    """In float64, with the gradients of all weights."""
    cells, (w, b), tape = *net.split(weights), []
    for k in range(net.layers):
        made = [layer(CELLS[net.kind], x, given, net.units, back) for back, given in cells[k * net.directions:(k + 1) * net.directions]]
        tape.append([g for _, g in made])
        x = np.concatenate([out for out, _ in made], 2)
    m = net.units
    last = np.concatenate([x[-1, :, :m], x[0, :, m:]], 1)
    z = last @ w + b
    e = np.exp(z - z.max(1, keepdims=True))
    p, rows = e / e.sum(1, keepdims=True), np.arange(len(y))
    dz = (p - (np.arange(p.shape[1]) == y[:, None])) / len(y)
    dlast, d, found = dz @ w.T, np.zeros_like(x), [last.T @ dz, dz.sum(0)]
    d[-1, :, :m], d[0, :, m:] = dlast[:, :m], dlast[:, m:]
    for gradients in tape[::-1]:
        parts = [g(part) for g, part in zip(gradients, np.split(d, net.directions, 2))]
        d, found = sum(dx for dx, _ in parts), [a for _, dw in parts for a in dw] + found
    return -np.log(p[rows, y]).mean(), found


def losses(net, x, y, weights, count):
    """The losses of `count` steps of Adam."""
    x, weights, out = x.astype(np.float64), [w.astype(np.float64) for w in weights], []
    m, v = [0 * w for w in weights], [0 * w for w in weights]
    for n in range(1, count + 1):
        value, g = loss_and_gradient(net, x, y, weights)
        out.append(value)
        m = [BETAS[0] * a + (1 - BETAS[0]) * d for a, d in zip(m, g)]
        v = [BETAS[1] * a + (1 - BETAS[1]) * d * d for a, d in zip(v, g)]
        rate = RATE * (1 - BETAS[1] ** n) ** 0.5 / (1 - BETAS[0] ** n)
        weights = [w - rate * a / (np.sqrt(b) + TINY) for w, a, b in zip(weights, m, v)]
    return np.array(out)


# ---------------------------------------------------------------- TF1: GraphFlow's own cells, TensorFlow without them


def cell_base(tf):
    """What a cell is derived from: RNNCell, or for a TensorFlow that no longer has cells as much of it as tf.nn.dynamic_rnn asks for."""
    if hasattr(tf, "explain"):
        return tf.nn.rnn_cell.RNNCell

    class Cell:
        output_size = property(lambda self: self.units)
        state_size = property(lambda self: self.units)

        def zero_state(self, batch_size, dtype):
            zeros = tf.zeros([batch_size, self.units], dtype)
            return (zeros, zeros) if isinstance(self.state_size, tuple) else zeros

        def __call__(self, inputs, state, scope=None):
            return self.call(inputs, state)
    return Cell


def tf_cell(tf, kind, n, m):
    """A cell whose variables are made in the order of `shapes`: here, or by the library when it is first called."""
    if hasattr(tf, "explain") and kind != "gru":
        return tf.nn.rnn_cell.LSTMCell(m) if kind == "lstm" else tf.nn.rnn_cell.GRUCell(m)
    v = [tf.Variable(tf.zeros(s)) for s in CELLS[kind].shapes(n, m)]

    class Custom(cell_base(tf)):
        units = m
        output_size = property(lambda self: m)
        state_size = property(lambda self: (m, m) if kind == "lstm" else m)

        def call(self, x, state):
            if kind == "lstm":
                c, h = state
                i, j, f, o = tf.split(tf.nn.bias_add(tf.matmul(tf.concat([x, h], 1), v[0]), v[1]), 4, 1)
                c = tf.sigmoid(f + 1.0) * c + tf.sigmoid(i) * tf.tanh(j)
                h = tf.sigmoid(o) * tf.tanh(c)
                return h, (c, h)
            if kind == "gru":
                rx, zx, nx = tf.split(tf.nn.bias_add(tf.matmul(x, v[0]), v[2]), 3, 1)
                rh, zh, nh = tf.split(tf.matmul(state, v[1]), 3, 1)
                new = tf.tanh(nx + tf.sigmoid(rx + rh) * nh)
                u = tf.sigmoid(zx + zh)
            else:
                r, u = tf.split(tf.sigmoid(tf.nn.bias_add(tf.matmul(tf.concat([x, state], 1), v[0]), v[1])), 2, 1)
                new = tf.tanh(tf.nn.bias_add(tf.matmul(tf.concat([x, r * state], 1), v[2]), v[3]))
            h = u * state + (1 - u) * new
            return h, h
    return Custom()


def tf_loss(tf, net, x, y):
    """The loss; makes the variables in the order of `net.shapes()`."""
    out = x
    for k in range(net.layers):
        n = net.features if k == 0 else net.units * net.directions
        with tf.variable_scope(f"layer{k}"):
            cells = [tf_cell(tf, net.kind, n, net.units) for _ in range(net.directions)]
            if net.both:
                parts = tf.nn.bidirectional_dynamic_rnn(*cells, out, dtype=tf.float32, time_major=True)[0]
                last = tf.concat([parts[0][-1], parts[1][0]], 1)
                out = tf.concat(parts, 2)
            else:
                out = tf.nn.dynamic_rnn(cells[0], out, dtype=tf.float32, time_major=True)[0]
                last = out[-1]
    w, b = tf.Variable(tf.zeros([net.units * net.directions, net.classes])), tf.Variable(tf.zeros([net.classes]))
    return tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=tf.nn.bias_add(tf.matmul(last, w), b)))


def tf_training(tf, net, weights, shapes=None):
    """(Session, placeholders, [loss, training op]); `shapes` of the placeholders, where sizes shall be unknown."""
    shapes = shapes or ([net.steps, net.batch, net.features], [net.batch])
    x, y = tf.placeholder(tf.float32, shapes[0]), tf.placeholder(tf.int32, shapes[1])
    loss = tf_loss(tf, net, x, y)
    variables = tf.trainable_variables()
    assert [tuple(map(int, v.shape)) for v in variables] == [a.shape for a in weights], variables
    train = tf.train.AdamOptimizer(RATE).minimize(loss)
    sess = tf.Session()
    sess.run(tf.global_variables_initializer())
    for v, a in zip(variables, weights):
        sess.run(v.initializer, {v.initial_value: a})
    return sess, (x, y), [loss, train]


def tf_step(tf, net, x, y, weights):
    sess, placeholders, fetches = tf_training(tf, net, weights)
    f = sess.make_callable(fetches, placeholders)
    return lambda: f(x, y)[0]


def xla_step(tf, net, x, y, weights):
    """tf.function(jit_compile=True) around the loops of TF1's dynamic_rnn, and Adam by hand."""
    v1, x, y = tf.compat.v1, tf.constant(x), tf.constant(y)
    v = [tf.Variable(a) for a in weights]
    slots, t = [(tf.Variable(0 * a), tf.Variable(0 * a)) for a in weights], tf.Variable(0.0)

    class Names:
        """TF1's names, with Variable giving those that are already there."""

        def __init__(self):
            self.left = iter(v)

        def Variable(self, value):
            return next(self.left)

        def __getattr__(self, name):
            return getattr(v1, name)

    @tf.function(jit_compile=True)
    def step():
        with tf.GradientTape() as tape:
            loss = tf_loss(Names(), net, x, y)
        t.assign_add(1.0)
        rate = RATE * tf.sqrt(1 - BETAS[1] ** t) / (1 - BETAS[0] ** t)
        for w, (a, b), g in zip(v, slots, tape.gradient(loss, v)):
            a.assign(BETAS[0] * a + (1 - BETAS[0]) * g)
            b.assign(BETAS[1] * b + (1 - BETAS[1]) * g * g)
            w.assign_sub(rate * a / (tf.sqrt(b) + TINY))
        return loss
    return lambda: step().numpy()


# ---------------------------------------------------------------- JAX


def jax_cell(jax, net):
    """What can be said for all times at once, and a step: (state, what was said) -> state."""
    np_, m, sigmoid = jax.numpy, net.units, jax.nn.sigmoid
    if net.kind == "lstm":
        def step(k, state, z):
            h, c = state
            i, j, f, o = np_.split(z + h @ k, 4, 1)
            c = sigmoid(f + 1) * c + sigmoid(i) * np_.tanh(j)
            return sigmoid(o) * np_.tanh(c), c
        return lambda x, k, b: x @ k[:-m] + b, lambda k, b: k[-m:], step
    if net.kind == "gru":
        def step(k, state, z):
            h, g = state[0], state[0] @ k
            r, u = sigmoid(z[:, :m] + g[:, :m]), sigmoid(z[:, m:2 * m] + g[:, m:2 * m])
            n = np_.tanh(z[:, 2 * m:] + r * g[:, 2 * m:])
            return (n + u * (h - n),)
        return lambda x, w, k, b: x @ w + b, lambda w, k, b: k, step

    def step(k, state, z):
        h, (k, kn) = state[0], k
        r, u = np_.split(sigmoid(z[:, :2 * m] + h @ k), 2, 1)
        n = np_.tanh(z[:, 2 * m:] + (r * h) @ kn)
        return (n + u * (h - n),)
    return (lambda x, k, b, kn, bn: np_.concatenate([x @ k[:-m] + b, x @ kn[:-m] + bn], 2), lambda k, b, kn, bn: (k[-m:], kn[-m:]), step)


def jax_loss(jax, net, weights, x, y):
    np_, (ahead, recurrent, step) = jax.numpy, jax_cell(jax, net)
    cells, (w, b) = net.split(weights)
    for k in range(net.layers):
        outs = []
        for back, given in cells[k * net.directions:(k + 1) * net.directions]:
            fixed = recurrent(*given)

            def body(state, z, fixed=fixed):
                state = step(fixed, state, z)
                return state, state[0]
            zeros = (np_.zeros((x.shape[1], net.units), x.dtype),) * CELLS[net.kind].states
            outs.append(jax.lax.scan(body, zeros, ahead(x, *given), reverse=back)[1])
        x = np_.concatenate(outs, 2)
    last = np_.concatenate([x[-1, :, :net.units], x[0, :, net.units:]], 1)
    logs = jax.nn.log_softmax(last @ w + b)
    return -np_.take_along_axis(logs, y[:, None], 1).mean()


def jax_step(jax, net, x, y, weights):
    np_ = jax.numpy

    def update(state, x, y):
        n, p, slots = state
        value, g = jax.value_and_grad(lambda p: jax_loss(jax, net, p, x, y))(p)
        n = n + 1
        rate = RATE * np_.sqrt(1 - BETAS[1] ** n) / (1 - BETAS[0] ** n)
        slots = [(BETAS[0] * a + (1 - BETAS[0]) * d, BETAS[1] * b + (1 - BETAS[1]) * d * d) for (a, b), d in zip(slots, g)]
        return value, (n, [w - rate * a / (np_.sqrt(b) + TINY) for w, (a, b) in zip(p, slots)], slots)
    f, state = jax.jit(update, donate_argnums=0), None
    state = (np_.zeros((), np_.float32), [np_.array(a) for a in weights], [(np_.zeros_like(a), np_.zeros_like(a)) for a in weights])
    x, y = np_.array(x), np_.array(y)

    def run():
        nonlocal state
        value, state = jax.block_until_ready(f(state, x, y))
        return value
    return run


# ---------------------------------------------------------------- PyTorch


def torch_rnn(torch, net, weights):
    """nn.LSTM or nn.GRU with these weights. The second bias of a gate is zero and stays so: with it Adam would move the sum twice."""
    make = torch.nn.LSTM if net.kind == "lstm" else torch.nn.GRU
    rnn, m = make(net.features, net.units, net.layers, bidirectional=net.both), net.units
    for (n, k, back), (_, given) in zip(net.cells(), net.split(weights)[0]):
        end = f"_l{k}" + "_reverse" * back
        if net.kind == "lstm":
            order = np.concatenate([np.arange(m) + m * g for g in (0, 2, 1, 3)])  # i, j, f, o to i, f, g, o
            kernel, bias = given[0][:, order], given[1][order] + np.repeat(np.float32([0, 1, 0, 0]), m)
            placed = kernel[:n].T, kernel[n:].T, bias
        else:
            placed = given[0].T, given[1].T, given[2]
        with torch.no_grad():
            for name, a in zip(("weight_ih", "weight_hh", "bias_ih"), placed):
                getattr(rnn, name + end).copy_(torch.from_numpy(np.ascontiguousarray(a)))
            getattr(rnn, "bias_hh" + end).zero_().requires_grad_(False)
    return rnn


def torch_step(torch, net, x, y, weights):
    rnn, (w, b) = torch_rnn(torch, net, weights), (torch.from_numpy(a.copy()).requires_grad_() for a in weights[-2:])
    optim = torch.optim.Adam([p for p in [*rnn.parameters(), w, b] if p.requires_grad], RATE, BETAS, TINY, fused=True)
    x, y, m, count = torch.from_numpy(x), torch.from_numpy(y).long(), net.units, 0

    def loss(x, y):
        out = rnn(x)[0]
        last = torch.cat([out[-1, :, :m], out[0, :, m:]], 1)
        return torch.nn.functional.cross_entropy(last @ w + b, y)

    def step():
        nonlocal count
        count += 1
        optim.param_groups[0]["eps"] = TINY / (1 - BETAS[1] ** count) ** 0.5  # TF1 adds it before v is corrected
        optim.zero_grad()
        value = loss(x, y)
        value.backward()
        optim.step()
        return value.detach()
    return step


STEPS = {"graphflow": tf_step, "tensorflow": tf_step, "xla": xla_step, "jax": jax_step, "torch": torch_step}
