"""The vocabulary of the models in each library, so that a model is written once and everybody runs the very same network.

A model is a function `model(m, x)` of a dialect `m`: it takes its weights from `m` one by one, in the order of its text, and builds
the network from `m`'s words. `Numpy` makes the weights up the first time (`arrays`), everyone else is given them. All say the same:
images are (batch, height, width, channels), filters (height, width, in, out) and 2-D weights (in, out) as NumPy sees them; whoever
keeps them otherwise (PyTorch, ONNX) turns them when they are placed, before the clock. Padding is k // 2 on both sides for
convolutions (none with padded=False) and "SAME" for pooling. `Numpy` is the reference: float64, forward only.

Knows libraries, and no workload. A library comes as an argument, because each lives in another process.
"""
from __future__ import annotations

import math
from typing import Any, Iterable

import numpy as np

EPSILON, MOMENTUM = 1e-5, 0.1  # of the normalisations, and how fast moving averages follow
FAR = -1e9


class Dialect:
    """Hands out the weights; `updates` gathers what a batch norm wants to keep."""

    def __init__(self, arrays: Iterable[Any], training: bool = True):
        self.arrays, self.training, self.updates = iter(arrays), training, []

    def weight(self, *shape: int) -> Any:
        return next(self.arrays)

    def bias(self, n: int) -> Any:
        return next(self.arrays)

    scale = average = spread = bias


def pads(w: Any, padded: bool) -> list[tuple[int, int]]:
    return [(int(k) // 2 * padded, int(k) // 2 * padded) for k in w.shape[:2]]


def same(n: int, k: int, stride: int) -> tuple[int, int]:
    """Rows of padding before and after for "SAME"."""
    total = max((-(-n // stride) - 1) * stride + k - n, 0)
    return total // 2, total - total // 2


def causal_mask(n: int) -> np.ndarray:
    return np.triu(np.full((n, n), FAR, np.float32), 1)


class Numpy(Dialect):
    """The reference. Without `arrays` it makes weights up and leaves them in `made`, whether each is trained in `trained`. `flops`
    counts the operations of products and convolutions."""

    def __init__(self, arrays: Iterable[Any] | None = None, training: bool = True):
        super().__init__(() if arrays is None else (np.asarray(a, np.float64) for a in arrays), training)
        self.create, self.random, self.made, self.trained, self.flops = arrays is None, np.random.RandomState(0), [], [], 0

    def _take(self, make: Any, trained: bool = True) -> np.ndarray:
        if not self.create:
            return next(self.arrays)
        self.made.append(make().astype(np.float32))
        self.trained.append(trained)
        return self.made[-1].astype(np.float64)

    def weight(self, *shape):
        return self._take(lambda: self.random.normal(0, math.sqrt(2 / np.prod(shape[:-1])), shape))

    def bias(self, n):
        return self._take(lambda: self.random.normal(0, 0.1, n))

    def scale(self, n):
        return self._take(lambda: self.random.normal(1, 0.1, n))

    def average(self, n):
        return self._take(lambda: self.random.normal(0, 0.1, n), False)

    def spread(self, n):
        return self._take(lambda: self.random.uniform(0.5, 1.5, n), False)

    def image(self, x):
        return x.astype(np.float64)

    def dense(self, x, w, b):
        self.flops += 2 * x.size * w.shape[1]
        return x @ w + b

    def conv(self, x, w, stride=1, b=0.0, groups=1, padded=True):
        x = np.pad(x, [(0, 0), *pads(w, padded), (0, 0)])
        windows = np.lib.stride_tricks.sliding_window_view(x, w.shape[:2], (1, 2))[:, ::stride, ::stride]  # n h w c i j
        y = np.einsum("nhwcij,ijc->nhwc", windows, w[:, :, 0]) if groups > 1 else np.tensordot(windows, w, ([4, 5, 3], [0, 1, 2]))
        self.flops += 2 * y.size * np.prod(w.shape[:3])
        return y + b

    def max_pool(self, x, k, stride):
        x = np.pad(x, [(0, 0), same(x.shape[1], k, stride), same(x.shape[2], k, stride), (0, 0)], constant_values=-np.inf)
        return np.lib.stride_tricks.sliding_window_view(x, (k, k), (1, 2))[:, ::stride, ::stride].max((4, 5))

    def batch_norm(self, x):
        scale, offset, mean, variance = (f(x.shape[-1]) for f in (self.scale, self.bias, self.average, self.spread))
        if self.training:
            mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
        return (x - mean) / np.sqrt(variance + EPSILON) * scale + offset

    def layer_norm(self, x):
        scale, offset = self.scale(x.shape[-1]), self.bias(x.shape[-1])
        return (x - x.mean(-1, keepdims=True)) / np.sqrt(x.var(-1, keepdims=True) + EPSILON) * scale + offset

    def attention(self, q, k, v, heads, causal):
        q, k, v = (a.reshape(*a.shape[:2], heads, -1).swapaxes(1, 2) for a in (q, k, v))
        scores = q @ k.swapaxes(2, 3) / math.sqrt(q.shape[-1])
        e = np.exp(scores + (causal_mask(q.shape[2]) if causal else 0))
        out = (e / e.sum(-1, keepdims=True) @ v).swapaxes(1, 2)
        self.flops += 4 * q.size * k.shape[2]
        return out.reshape(*out.shape[:2], -1)

    def cross_entropy(self, logits, labels):
        logits = logits - logits.max(-1, keepdims=True)
        chosen = np.take_along_axis(logits, labels[..., None].astype(int), -1)[..., 0]
        return (np.log(np.exp(logits).sum(-1)) - chosen).mean()

    def gelu(self, x):
        return 0.5 * x * (1 + np.vectorize(math.erf)(x / math.sqrt(2)))

    relu = staticmethod(lambda x: np.maximum(x, 0))
    relu6 = staticmethod(lambda x: np.clip(x, 0, 6))
    tanh, add = np.tanh, np.add
    mean_pool = staticmethod(lambda x: x.mean((1, 2)))
    flat = staticmethod(lambda x: x.reshape(len(x), -1))
    embed = staticmethod(lambda table, ids: table[ids])


class TensorFlow(Dialect):
    """The TF 1.x names, as GraphFlow and TensorFlow's compat.v1 both have them."""

    def __init__(self, tf, arrays, training=True):
        super().__init__(arrays, training)
        self.tf = tf
        self.relu, self.relu6, self.tanh, self.add = tf.nn.relu, tf.nn.relu6, tf.tanh, tf.add

    def image(self, x):
        return x

    def dense(self, x, w, b):
        tf = self.tf
        if len(x.shape) == 2:
            return tf.nn.bias_add(tf.matmul(x, w), b)
        rows = tf.matmul(tf.reshape(x, [-1, int(x.shape[-1])]), w)
        return tf.reshape(tf.nn.bias_add(rows, b), [*map(int, x.shape[:-1]), int(w.shape[1])])

    def conv(self, x, w, stride=1, b=None, groups=1, padded=True):
        tf, strides = self.tf, [1, stride, stride, 1]
        padding = "VALID" if not padded or w.shape[0] == 1 else "SAME" if stride == 1 else [[0, 0], *map(list, pads(w, True)), [0, 0]]
        if groups > 1:
            y = tf.nn.depthwise_conv2d(x, tf.reshape(w, [int(w.shape[0]), int(w.shape[1]), groups, 1]), strides, padding)
        else:
            y = tf.nn.conv2d(x, w, strides=strides, padding=padding)
        return y if b is None else tf.nn.bias_add(y, b)

    def max_pool(self, x, k, stride):
        return self.tf.nn.max_pool(x, [1, k, k, 1], [1, stride, stride, 1], "SAME")

    def mean_pool(self, x):
        return self.tf.reduce_mean(x, [1, 2])

    def flat(self, x):
        return self.tf.reshape(x, [int(x.shape[0]), -1])

    def batch_norm(self, x):
        tf, n = self.tf, int(x.shape[-1])
        scale, offset, mean, variance = self.scale(n), self.bias(n), self.average(n), self.spread(n)
        if not self.training:
            return tf.nn.fused_batch_norm(x, scale, offset, mean, variance, epsilon=EPSILON, is_training=False)[0]
        y, *batch = tf.nn.fused_batch_norm(x, scale, offset, epsilon=EPSILON)
        self.updates += [tf.assign_sub(old, (old - new) * MOMENTUM) for old, new in zip((mean, variance), batch)]
        return y

    def layer_norm(self, x):
        tf, n = self.tf, int(x.shape[-1])
        scale, offset = self.scale(n), self.bias(n)
        mean, variance = tf.nn.moments(x, [-1], keep_dims=True)
        return tf.nn.batch_normalization(x, mean, variance, offset, scale, EPSILON)

    def attention(self, q, k, v, heads, causal):
        tf, (n, t, width) = self.tf, map(int, q.shape)
        q, k, v = (tf.transpose(tf.reshape(a, [n, t, heads, width // heads]), [0, 2, 1, 3]) for a in (q, k, v))
        scores = tf.matmul(q, k, transpose_b=True) * (1 / math.sqrt(width // heads))
        if causal:
            scores = scores + tf.constant(causal_mask(t))
        return tf.reshape(tf.transpose(tf.matmul(tf.nn.softmax(scores), v), [0, 2, 1, 3]), [n, t, width])

    def cross_entropy(self, logits, labels):
        return self.tf.reduce_mean(self.tf.nn.sparse_softmax_cross_entropy_with_logits(labels=labels, logits=logits))

    def gelu(self, x):
        return 0.5 * x * (1 + self.tf.erf(x * math.sqrt(0.5)))

    def embed(self, table, ids):
        return self.tf.nn.embedding_lookup(table, ids)


class Jax(Dialect):
    """Images as NumPy has them, which XLA's CPU convolution likes."""

    def __init__(self, jax, arrays, training=True):
        super().__init__(arrays, training)
        self.jax, self.np = jax, jax.numpy
        self.relu, self.relu6, self.tanh, self.add = jax.nn.relu, jax.nn.relu6, jax.numpy.tanh, jax.numpy.add

    image = staticmethod(lambda x: x)
    dense = staticmethod(lambda x, w, b: x @ w + b)
    embed = staticmethod(lambda table, ids: table[ids])
    mean_pool = staticmethod(lambda x: x.mean((1, 2)))
    flat = staticmethod(lambda x: x.reshape(x.shape[0], -1))

    def conv(self, x, w, stride=1, b=None, groups=1, padded=True):
        y = self.jax.lax.conv_general_dilated(x, w, (stride, stride), pads(w, padded), dimension_numbers=("NHWC", "HWIO", "NHWC"),
                                              feature_group_count=groups)
        return y if b is None else y + b

    def max_pool(self, x, k, stride):
        lax = self.jax.lax
        return lax.reduce_window(x, -np.inf, lax.max, (1, k, k, 1), (1, stride, stride, 1), "SAME")

    def batch_norm(self, x):
        n = x.shape[-1]
        scale, offset, mean, variance = self.scale(n), self.bias(n), self.average(n), self.spread(n)
        if self.training:
            old, count = (mean, variance), x.size // n
            mean, variance = x.mean((0, 1, 2)), x.var((0, 1, 2))
            new = mean, variance * (count / (count - 1))
            self.updates += [a + (b - a) * MOMENTUM for a, b in zip(old, new)]
        return (x - mean) * (self.jax.lax.rsqrt(variance + EPSILON) * scale) + offset

    def layer_norm(self, x):
        scale, offset = self.scale(x.shape[-1]), self.bias(x.shape[-1])
        return (x - x.mean(-1, keepdims=True)) * self.jax.lax.rsqrt(x.var(-1, keepdims=True) + EPSILON) * scale + offset

    def attention(self, q, k, v, heads, causal):
        q, k, v = (a.reshape(*a.shape[:2], heads, -1) for a in (q, k, v))
        return self.jax.nn.dot_product_attention(q, k, v, is_causal=causal).reshape(*q.shape[:2], -1)

    def cross_entropy(self, logits, labels):
        logs = self.jax.nn.log_softmax(logits)
        return -self.np.take_along_axis(logs, labels[..., None], -1).mean()

    def gelu(self, x):
        return self.jax.nn.gelu(x, approximate=False)


class Torch(Dialect):
    """Images as NCHW in channels-last memory, what oneDNN likes."""

    def __init__(self, torch, arrays, training=True):
        super().__init__(arrays, training)
        self.torch, self.f = torch, torch.nn.functional
        self.relu, self.relu6, self.tanh, self.add, self.gelu = torch.relu, self.f.relu6, torch.tanh, torch.add, self.f.gelu

    @staticmethod
    def place(torch, a):
        """A weight as PyTorch keeps it: filters are (out, in, height, width)."""
        t = torch.from_numpy(a)
        return t.permute(3, 2, 0, 1).contiguous(memory_format=torch.channels_last) if a.ndim == 4 else t.clone()

    @staticmethod
    def image(x):
        return x.permute(0, 3, 1, 2)

    def dense(self, x, w, b):
        return self.f.linear(x, w.t(), b)

    def conv(self, x, w, stride=1, b=None, groups=1, padded=True):
        return self.f.conv2d(x, w, b, stride, w.shape[2] // 2 * padded, groups=groups)

    def max_pool(self, x, k, stride):
        before = same(x.shape[2], k, stride)[0]
        return self.f.max_pool2d(x, k, stride, before, ceil_mode=True)  # SAME pads the end by no less than the beginning

    def mean_pool(self, x):
        return x.mean((2, 3))

    def flat(self, x):
        return x.permute(0, 2, 3, 1).flatten(1)

    def batch_norm(self, x):
        n = x.shape[1]
        scale, offset, mean, variance = self.scale(n), self.bias(n), self.average(n), self.spread(n)
        return self.f.batch_norm(x, mean, variance, scale, offset, self.training, MOMENTUM, EPSILON)

    def layer_norm(self, x):
        return self.f.layer_norm(x, x.shape[-1:], self.scale(x.shape[-1]), self.bias(x.shape[-1]), EPSILON)

    def attention(self, q, k, v, heads, causal):
        q, k, v = (a.unflatten(2, (heads, -1)).transpose(1, 2) for a in (q, k, v))
        return self.f.scaled_dot_product_attention(q, k, v, is_causal=causal).transpose(1, 2).flatten(2)

    def cross_entropy(self, logits, labels):
        return self.f.cross_entropy(logits.flatten(0, -2), labels.flatten())

    def embed(self, table, ids):
        return self.f.embedding(ids, table)


class Onnx(Dialect):
    """Nodes of an ONNX graph (see onnx_programs.py); inference only. Images are NCHW, as the operators want."""

    def __init__(self, op, arrays):
        super().__init__((a.transpose(3, 2, 0, 1).copy() if a.ndim == 4 else a for a in arrays), False)
        self.op, self.relu, self.tanh, self.add, self.flat = op, op.Relu, op.Tanh, op.Add, op.Flatten

    image = staticmethod(lambda x: x)

    def dense(self, x, w, b):
        return self.op.Gemm(x, w, b)

    def conv(self, x, w, stride=1, b=None, groups=1, padded=True):
        k, bias = w.shape[2], [] if b is None else [b]
        return self.op.Conv(x, w, *bias, kernel_shape=[k, k], strides=[stride] * 2, pads=[k // 2 * padded] * 4, group=groups)

    def max_pool(self, x, k, stride):
        return self.op.MaxPool(x, kernel_shape=[k, k], strides=[stride] * 2, auto_pad="SAME_UPPER")

    def mean_pool(self, x):
        return self.op.Flatten(self.op.GlobalAveragePool(x))

    def relu6(self, x):
        return self.op.Clip(x, 0.0, 6.0)

    def batch_norm(self, x):
        return self.op.BatchNormalization(x, *(next(self.arrays) for _ in range(4)), epsilon=EPSILON)

    def gelu(self, x):
        return self.op.Gelu(x)

    def convolved(self, x):
        return self.conv(x, next(self.arrays))
