"""From `python` to a first result: imports, building, compiling, and what a cache saves of it. Every number is a new process."""
from __future__ import annotations

import numpy as np

from .workload import Program, at_most, fact

NO_NUMBA = fact("numba", 0, "numba is never imported")
SAME_KERNELS = fact("compiled", 0, "compiles nothing")

first_empty = Program("digits MLP, start to first training step, empty cache", cache="empty", goals=[at_most(3, "3 s")])
first_warm = Program("digits MLP, start to first training step, warm cache", cache="warm", goals=[at_most(0.6, "0.6 s"), NO_NUMBA])


@first_empty.inputs
@first_warm.inputs
def _(quick):
    """A batch of the shape of scikit-learn's digits, and weights of 64-128-64-10."""
    r = np.random.RandomState(0)
    sizes = [64, 128, 64, 10]
    weights = [a for m, n in zip(sizes, sizes[1:]) for a in (r.normal(0, m ** -0.5, (m, n)).astype(np.float32), np.zeros(n, np.float32))]
    return [r.uniform(0, 1, (64, 64)).astype(np.float32), r.randint(0, 10, 64).astype(np.int32), *weights]


@first_empty.reference
@first_warm.reference
def _(x, labels, w1, b1, w2, b2, w3, b3):
    z = np.maximum(np.maximum(x @ w1 + b1, 0) @ w2 + b2, 0) @ w3 + b3
    return (np.log(np.exp(z).sum(1)) - z[np.arange(len(z)), labels]).mean()


@first_empty.graphflow
@first_warm.graphflow
@first_empty.tensorflow
@first_warm.tensorflow
def _(tf, x, labels, *weights):
    px, py = tf.placeholder(tf.float32, [None, 64]), tf.placeholder(tf.int32, [None])
    w1, b1, w2, b2, w3, b3 = (tf.Variable(w) for w in weights)
    h = tf.nn.relu(tf.matmul(px, w1) + b1)
    h = tf.nn.relu(tf.matmul(h, w2) + b2)
    loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=py, logits=tf.matmul(h, w3) + b3))
    train = tf.train.AdamOptimizer(1e-3).minimize(loss)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        return sess.run([loss, train], {px: x, py: labels})[0]


@first_empty.jax
@first_warm.jax
def _(jax, x, labels, *weights):
    np = jax.numpy

    def loss(w, x, labels):
        h = jax.nn.relu(x @ w[0] + w[1])
        h = jax.nn.relu(h @ w[2] + w[3])
        z = jax.nn.log_softmax(h @ w[4] + w[5])
        return -np.take_along_axis(z, labels[:, None], 1).mean()

    @jax.jit
    def step(t, w, m, v, x, labels):
        value, g = jax.value_and_grad(loss)(w, x, labels)
        m = [0.9 * a + 0.1 * b for a, b in zip(m, g)]
        v = [0.999 * a + 0.001 * b * b for a, b in zip(v, g)]
        rate = 1e-3 * np.sqrt(1 - 0.999 ** t) / (1 - 0.9 ** t)
        return value, [a - rate * b / (np.sqrt(c) + 1e-8) for a, b, c in zip(w, m, v)], m, v
    zeros = [0 * w for w in weights]
    return float(step(1.0, list(weights), zeros, zeros, x, labels)[0])


@first_empty.torch
@first_warm.torch
def _(torch, x, labels, *weights):
    x, labels = torch.from_numpy(x), torch.from_numpy(labels).long()
    w = [torch.from_numpy(a).requires_grad_() for a in weights]
    optimizer = torch.optim.Adam(w, 1e-3)
    h = torch.relu(x @ w[0] + w[1])
    h = torch.relu(h @ w[2] + w[3])
    loss = torch.nn.functional.cross_entropy(h @ w[4] + w[5], labels)
    loss.backward()
    optimizer.step()
    return loss


@first_empty.torchcompile
@first_warm.torchcompile
def _(torch, x, labels, *weights):
    @torch.compile
    def forward(x, labels, *w):
        h = torch.relu(x @ w[0] + w[1])
        h = torch.relu(h @ w[2] + w[3])
        return torch.nn.functional.cross_entropy(h @ w[4] + w[5], labels)
    x, labels = torch.from_numpy(x), torch.from_numpy(labels).long()
    w = [torch.from_numpy(a).requires_grad_() for a in weights]
    optimizer = torch.optim.Adam(w, 1e-3)
    loss = forward(x, labels, *w)
    loss.backward()
    torch.compile(optimizer.step)()
    return loss


@first_empty.pytensor
@first_warm.pytensor
def _(pytensor, x, labels, *weights):
    pt = pytensor.tensor
    px, py = pt.matrix(dtype="float32"), pt.vector(dtype="int32")
    w = [pytensor.shared(a) for a in weights]
    h = pt.maximum(px @ w[0] + w[1], 0)
    h = pt.maximum(h @ w[2] + w[3], 0)
    z = pt.special.log_softmax(h @ w[4] + w[5], axis=-1)
    loss = -z[pt.arange(py.shape[0]), py].mean()
    t, updates = pytensor.shared(numpy.float32(1)), {}  # noqa: F821  (the program's own import)
    rate = 1e-3 * pt.sqrt(1 - 0.999 ** t) / (1 - 0.9 ** t)
    for a, g in zip(w, pytensor.grad(loss, w)):
        m, v = pytensor.shared(0 * a.get_value()), pytensor.shared(0 * a.get_value())
        updates[m], updates[v] = 0.9 * m + 0.1 * g, 0.999 * v + 0.001 * g * g
        updates[a] = (a - rate * updates[m] / (pt.sqrt(updates[v]) + 1e-8)).astype("float32")
    updates = {k: v.astype("float32") for k, v in updates.items()} | {t: t + numpy.float32(1)}  # noqa: F821
    return pytensor.function([px, py], loss, updates=updates)(x, labels)


# ---------------------------------------------------------------- a batch of another size
# The time is that of the first call with 33 rows after calls with 64; `compiled` counts kernels new for 33, 2, 48 and 63 rows.

resized = Program("digits MLP, first step with another batch size", cache="warm", goals=[SAME_KERNELS], aside=("compiled",))


@resized.inputs
def _(quick):
    return first_warm.make_inputs(quick)


@resized.reference
def _(x, labels, *weights):
    return first_warm.expected(x[:33], labels[:33], *weights)


@resized.graphflow
@resized.tensorflow
def _(tf, x, labels, *weights):
    px, py = tf.placeholder(tf.float32, [None, 64]), tf.placeholder(tf.int32, [None])
    w1, b1, w2, b2, w3, b3 = v = [tf.Variable(w) for w in weights]
    h = tf.nn.relu(tf.matmul(px, w1) + b1)
    h = tf.nn.relu(tf.matmul(h, w2) + b2)
    loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=py, logits=tf.matmul(h, w3) + b3))
    grads = tf.gradients(loss, v)

    def compiled():
        stats = sys.modules.get("graphflow.codegen.compile")  # noqa: F821
        return stats.stats()["compiled"] + stats.stats()["disk_hits"] if stats else 0
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        sess.run([loss, grads], {px: x, py: labels})
        before, start = compiled(), time.perf_counter()  # noqa: F821
        value = sess.run([loss, grads], {px: x[:33], py: labels[:33]})[0]
        return {"value": time.perf_counter() - start, "result": value, "compiled": compiled() - before}  # noqa: F821


@resized.jax
def _(jax, x, labels, *weights):
    def loss(w, x, labels):
        h = jax.nn.relu(x @ w[0] + w[1])
        h = jax.nn.relu(h @ w[2] + w[3])
        return -jax.numpy.take_along_axis(jax.nn.log_softmax(h @ w[4] + w[5]), labels[:, None], 1).mean()
    step = jax.jit(jax.value_and_grad(loss))
    jax.block_until_ready(step(list(weights), x, labels))
    start = time.perf_counter()  # noqa: F821
    value = jax.block_until_ready(step(list(weights), x[:33], labels[:33]))[0]
    return {"value": time.perf_counter() - start, "result": value}  # noqa: F821


# ---------------------------------------------------------------- import

imported = Program("import of the library", cache="warm", goals=[at_most(0.25, "0.25 s"), NO_NUMBA])


@imported.inputs
def _(quick):
    return [np.zeros(1)]


@imported.reference
def _(x):
    return x


def seconds_of_import(lib, x):
    return {"value": load_seconds, "result": x}  # noqa: F821


imported.functions.update(dict.fromkeys(("graphflow", "tensorflow", "jax", "torch", "onnxruntime", "pytensor", "numpy"), seconds_of_import))
