"""The words of the GPU workloads in each library: what dialects.py has for networks, and the kernels that are measured alone.

A workload is one function `f(m, *inputs)` of such a vocabulary; what NumPy says of it, in float64, is the reference, and CuPy runs the
same words.  Arrays come from `place`, in the precision of the workload, on the device.  Matrices are row-major, images (batch, height,
width, channels), filters (height, width, in, out).
"""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from . import dialects
from .dialects import pads

DTYPES = {"float32": "float32", "tf32": "float32", "bfloat16": "bfloat16", "float16": "float16"}


class NumpyWords:
    """NumPy, or CuPy: `xp` is the module."""

    def __init__(self, xp: Any, dtype: str):
        self.xp, self.dtype = xp, dtype
        self.tanh, self.exp, self.sqrt, self.log1p, self.abs, self.where = xp.tanh, xp.exp, xp.sqrt, xp.log1p, xp.abs, xp.where

    def place(self, a: np.ndarray, filters: bool = False) -> Any:
        return self.xp.asarray(a if a.dtype.kind == "i" else a.astype(self.dtype))

    def erf(self, x: Any) -> Any:
        if self.xp is np:
            return np.vectorize(math.erf, otypes=[x.dtype])(x)
        from cupyx.scipy.special import erf  # type: ignore[import-not-found]

        return erf(x)

    def gelu(self, x: Any) -> Any:
        return 0.5 * x * (1 + self.erf(x * math.sqrt(0.5)))

    def as_float16(self, x: Any) -> Any:
        return x.astype("float16")

    def softmax(self, x: Any) -> Any:
        e = self.xp.exp(x - x.max(-1, keepdims=True))
        return e / e.sum(-1, keepdims=True)

    def norm(self, x: Any, scale: Any, offset: Any) -> Any:
        return (x - x.mean(-1, keepdims=True)) / self.xp.sqrt(x.var(-1, keepdims=True) + dialects.EPSILON) * scale + offset

    def dropout(self, x: Any, rate: float) -> Any:
        kept = self.xp.random.random_sample(x.shape) >= rate
        return (x * kept / (1 - rate)).astype(x.dtype)

    def sum(self, x: Any, axis: int | None = None) -> Any:
        return x.sum(axis)

    def max(self, x: Any, axis: int | None = None) -> Any:
        return x.max(axis)

    def moments(self, x: Any, axis: int) -> Any:
        return [x.mean(axis), x.var(axis)]

    def argmax(self, x: Any) -> Any:
        return x.argmax(-1)

    def cumsum(self, x: Any) -> Any:
        return x.cumsum(-1, dtype=x.dtype)

    def permuted(self, x: Any, order: tuple[int, ...]) -> Any:
        return self.xp.ascontiguousarray(x.transpose(order))

    def matmul(self, a: Any, b: Any) -> Any:
        return a @ b

    def embed(self, table: Any, ids: Any) -> Any:
        return table[ids]

    def summed_by(self, rows: Any, ids: Any, n: int) -> Any:
        out = self.xp.zeros((n, rows.shape[1]), rows.dtype)
        if self.xp is np:
            np.add.at(out, ids, rows)
        else:
            self.xp.add.at(out, ids, rows)
        return out

    def conv(self, x: Any, f: Any, stride: int) -> Any:
        return dialects.Numpy().conv(x, f, stride)

    def conv_gradients(self, x: Any, f: Any, d: Any, stride: int) -> Any:
        (top, bottom), (left, right) = pads(f, True)
        wide = np.pad(x, [(0, 0), (top, bottom), (left, right), (0, 0)])
        dx, df, (_, h, w, _) = np.zeros_like(wide), np.zeros_like(f), d.shape
        for i in range(f.shape[0]):
            for j in range(f.shape[1]):
                part = (slice(None), slice(i, i + h * stride - stride + 1, stride), slice(j, j + w * stride - stride + 1, stride))
                df[i, j] = np.tensordot(wide[part], d, ([0, 1, 2], [0, 1, 2]))
                dx[part] += d @ f[i, j].T
        return [dx[:, top:top + x.shape[1], left:left + x.shape[2]], df]


class TensorFlowWords(dialects.TensorFlow):
    """GraphFlow.  Inputs are placeholders, which the worker's stand-in for the library keeps on the device."""

    def __init__(self, tf: Any, dtype: str):
        super().__init__(tf, ())
        self.dtype, self.softmax, self.matmul = dtype, tf.nn.softmax, tf.matmul
        self.exp, self.sqrt, self.log1p, self.abs, self.where = tf.exp, tf.sqrt, tf.log1p, tf.abs, tf.where

    def place(self, a: np.ndarray, filters: bool = False) -> Any:
        return self.tf.placeholder(self.tf.int32 if a.dtype.kind == "i" else self.dtype, a.shape)

    def as_float16(self, x: Any) -> Any:
        return self.tf.cast(x, self.tf.float16)

    def norm(self, x: Any, scale: Any, offset: Any) -> Any:
        mean, variance = self.tf.nn.moments(x, [-1], keep_dims=True)
        return self.tf.nn.batch_normalization(x, mean, variance, offset, scale, dialects.EPSILON)

    def dropout(self, x: Any, rate: float) -> Any:
        return self.tf.nn.dropout(x, rate=rate, seed=1)

    def sum(self, x: Any, axis: int | None = None) -> Any:
        return self.tf.reduce_sum(x, axis)

    def max(self, x: Any, axis: int | None = None) -> Any:
        return self.tf.reduce_max(x, axis)

    def moments(self, x: Any, axis: int) -> Any:
        return list(self.tf.nn.moments(x, [axis]))

    def argmax(self, x: Any) -> Any:
        return self.tf.argmax(x, -1, output_type=self.tf.int32)

    def cumsum(self, x: Any) -> Any:
        return self.tf.cumsum(x, -1)

    def permuted(self, x: Any, order: tuple[int, ...]) -> Any:
        return self.tf.transpose(x, order)

    def embed(self, table: Any, ids: Any) -> Any:
        return self.tf.gather(table, ids)

    def summed_by(self, rows: Any, ids: Any, n: int) -> Any:
        return self.tf.unsorted_segment_sum(rows, ids, n)

    def conv_gradients(self, x: Any, f: Any, d: Any, stride: int) -> Any:
        return self.tf.gradients(self.conv(x, f, stride), [x, f], d)


class JaxWords(dialects.Jax):
    """JAX: the workload's function is jitted as a whole."""

    def __init__(self, jax: Any, dtype: str):
        super().__init__(jax, ())
        np_ = jax.numpy
        self.dtype, self.softmax, self.matmul, self.where = dtype, jax.nn.softmax, np_.matmul, np_.where
        self.exp, self.sqrt, self.log1p, self.abs = np_.exp, np_.sqrt, np_.log1p, np_.abs
        self.key: Any = None  # of random numbers, set while a program is traced

    def place(self, a: np.ndarray, filters: bool = False) -> Any:
        return self.np.asarray(a, None if a.dtype.kind == "i" else self.dtype)

    as_float16 = staticmethod(lambda x: x.astype("float16"))
    sum = staticmethod(lambda x, axis=None: x.sum(axis))
    max = staticmethod(lambda x, axis=None: x.max(axis))
    moments = staticmethod(lambda x, axis: [x.mean(axis), x.var(axis)])
    argmax = staticmethod(lambda x: x.argmax(-1).astype("int32"))
    cumsum = staticmethod(lambda x: x.cumsum(-1))
    permuted = staticmethod(lambda x, order: x.transpose(order))

    def norm(self, x: Any, scale: Any, offset: Any) -> Any:
        return dialects.Jax(self.jax, (scale, offset)).layer_norm(x)

    def dropout(self, x: Any, rate: float) -> Any:
        kept = self.jax.random.bernoulli(self.key, 1 - rate, x.shape)
        return self.np.where(kept, x / (1 - rate), 0).astype(x.dtype)

    def summed_by(self, rows: Any, ids: Any, n: int) -> Any:
        return self.np.zeros((n, rows.shape[1]), rows.dtype).at[ids].add(rows)

    def conv_gradients(self, x: Any, f: Any, d: Any, stride: int) -> Any:
        return self.jax.vjp(lambda x, f: self.conv(x, f, stride), x, f)[1](d)  # the result itself is not used, and not computed


class TorchWords(dialects.Torch):
    """PyTorch; images and filters are channels-last in memory, results of convolutions come back as views."""

    def __init__(self, torch: Any, dtype: str):
        super().__init__(torch, ())
        self.dtype, self.matmul, self.where = dtype, torch.matmul, torch.where
        self.exp, self.sqrt, self.log1p, self.abs = torch.exp, torch.sqrt, torch.log1p, torch.abs

    def place(self, a: np.ndarray, filters: bool = False) -> Any:  # type: ignore[override]
        t = dialects.Torch.place(self.torch, a) if filters else self.torch.from_numpy(a)
        return t if a.dtype.kind == "i" else t.to(getattr(self.torch, self.dtype))

    def as_float16(self, x: Any) -> Any:
        return x.to(self.torch.float16)

    def softmax(self, x: Any) -> Any:
        return self.torch.softmax(x, -1)

    def norm(self, x: Any, scale: Any, offset: Any) -> Any:
        return self.f.layer_norm(x, scale.shape, scale, offset, dialects.EPSILON)

    def dropout(self, x: Any, rate: float) -> Any:
        return self.f.dropout(x, rate)

    def sum(self, x: Any, axis: int | None = None) -> Any:
        return x.sum() if axis is None else x.sum(axis)

    def max(self, x: Any, axis: int | None = None) -> Any:
        return x.amax() if axis is None else x.amax(axis)

    def moments(self, x: Any, axis: int) -> Any:
        variance, mean = self.torch.var_mean(x, axis, correction=0)
        return [mean, variance]

    def argmax(self, x: Any) -> Any:
        return x.argmax(-1)

    def cumsum(self, x: Any) -> Any:
        return x.cumsum(-1)

    def permuted(self, x: Any, order: tuple[int, ...]) -> Any:
        return x.permute(order).contiguous()

    def summed_by(self, rows: Any, ids: Any, n: int) -> Any:
        return self.torch.zeros((n, rows.shape[1]), dtype=rows.dtype, device=rows.device).index_add_(0, ids, rows)

    def conv(self, x: Any, f: Any, stride: int = 1, *rest: Any, **more: Any) -> Any:
        return super().conv(self.image(x), f, stride, *rest, **more).permute(0, 2, 3, 1)

    def conv_gradients(self, x: Any, f: Any, d: Any, stride: int) -> Any:
        k = f.shape[2] // 2
        dx, df, _ = self.torch.ops.aten.convolution_backward(self.image(d), self.image(x), f, None, [stride] * 2, [k, k], [1, 1], False,
                                                             [0, 0], 1, [True, True, False])
        return [dx.permute(0, 2, 3, 1), df.permute(2, 3, 1, 0)]
