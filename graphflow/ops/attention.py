"""Attention: softmax(q k^T) v as one op, so that no array of all scores has to exist, and its gradient.

People write it with matrix products and a softmax; passes/attention.py recognises that and puts these ops in its place.
A kernel generator computes them block by block (Dao et al., "FlashAttention", 2022); what is here is their meaning.

`masks` change the scores before the softmax, in the order of `steps`, a tuple of (kind, source, fill):

    ("scale", None, c)     s * c
    ("mul", source, None)  s * mask
    ("add", source, None)  s + mask
    ("sub", source, None)  s - mask
    ("keep", source, c)    mask ? s : c
    ("drop", source, c)    mask ? c : s

A source is the number of an input among `masks` (it broadcasts to the scores), or for a mask known while compiling, that is
constant on either side of a diagonal, a triple (offset, below, above): `below` where column <= row + offset, else `above`.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from .. import types
from ..graph import OPERATORS, Spec, Tensor
from . import elementwise as ew
from . import reduce as rd
from .opdef import needs_rank, primitive

DTYPES = types.FLOAT  # those of 16 bits are computed in float32, as everywhere
STATISTICS = {"logsum": types.REAL, "delta": types.REAL}
MASKS = (*types.FLOAT, types.bool_)


def _shapes(query: Tensor, key: Tensor, value: Tensor) -> tuple[tuple[Any, ...], Any, Any]:
    """(batch sizes, queries, keys).  Raises ValueError on sizes that do not fit."""
    for t, what in ((query, "query"), (key, "key"), (value, "value")):
        if len(needs_rank(t, what=what)) < 2:
            raise ValueError(f"Shape of {what} must be at least rank 2 but is rank {len(t.sizes)}")  # type: ignore[arg-type]
    q, k, v = query.sizes, key.sizes, value.sizes
    for a, b, what in ((q[-1], k[-1], "query and key must have the same depth"),  # type: ignore[index]
                       (k[-2], v[-2], "there must be as many values as keys")):  # type: ignore[index]
        if types.same(a, b) is False:
            raise ValueError(f"Dimensions must be equal, but are {a!r} and {b!r}: {what}")
    return types.broadcast_shapes(q[:-2], k[:-2], v[:-2]), q[-2], k[-2]  # type: ignore[index]


def triangle(source: tuple[int, Any, Any], rows: int, columns: int) -> np.ndarray:
    """The matrix that a triple (offset, below, above) stands for."""
    offset, below, above = source
    return np.where(np.arange(columns) <= np.arange(rows)[:, None] + offset, below, above)


def _scores(q: np.ndarray, k: np.ndarray, masks: Any, scale: float, steps: Any) -> tuple[np.ndarray, np.ndarray]:
    """The scores after all steps, and their derivative with respect to q k^T * scale."""
    s = np.matmul(q * np.asarray(scale, q.dtype), np.swapaxes(k, -1, -2))
    slope = np.ones_like(s)
    for kind, source, fill in steps:
        mask = np.asarray(fill) if source is None else masks[source] if isinstance(source, int) else triangle(source, *s.shape[-2:])
        if kind in ("keep", "drop"):
            kept = mask.astype(bool) if kind == "keep" else ~mask.astype(bool)
            s, slope = np.where(kept, s, np.asarray(fill, s.dtype)), np.where(kept, slope, 0)
            continue
        mask = mask.astype(s.dtype)
        s = s * mask if kind in ("scale", "mul") else s + mask if kind == "add" else s - mask
        slope = slope * mask if kind in ("scale", "mul") else slope
    return s, slope.astype(s.dtype)


def _swap(x: np.ndarray) -> np.ndarray:
    return np.swapaxes(x, -1, -2)


def _sample(q: Any, k: Any, v: Any, masks: Any = (), dtype: Any = np.float64, **attrs: Any) -> Any:
    """A test call; `masks` are shapes of floats, or of booleans in a list."""
    def make(rng: np.random.Generator) -> Any:
        draw = [rng.normal(size=s).astype(dtype) for s in (q, k, v)]
        drawn = [rng.random(m[0]) < 0.7 if isinstance(m, list) else rng.normal(size=m).astype(dtype) for m in masks]
        return (*draw, *drawn), attrs
    return make


@primitive("attention", type="Attention", gpu="attention", dtypes=DTYPES, same=("query", "key", "value"), tolerance=16,
           input_dtypes={"masks": MASKS}, output_dtypes=lambda q, *_, **__: [q.dtype, q.dtype.compute], samples=[
    _sample((2, 3, 4), (2, 5, 4), (2, 5, 3), scale=0.5), _sample((3, 4), (5, 4), (5, 2), dtype=np.float32),
    _sample((2, 2, 3, 4), (2, 2, 6, 4), (2, 2, 6, 4), [[(2, 1, 1, 6)], [(3, 6)]], scale=0.5,
            steps=(("drop", 0, -2.0), ("keep", 1, -1e9), ("scale", None, 2.0))),
    _sample((2, 1, 3, 4), (1, 2, 3, 4), (2, 3, 4),
            steps=(("mul", (0, 1.0, 0.0), None), ("sub", (0, 0.0, 3.0), None), ("drop", (1, 0.0, 1.0), -1e9)))])
def attention(query, key, value, *masks, scale=1.0, steps=()):
    """softmax(query key^T * scale, masked) value, and the logarithm of the sum of exponentials of each row of scores.

    query [..., m, d], key [..., n, d] and value [..., n, e] of one dtype of floats give [..., m, e] and [..., m], this one float32
    where they have 16 bits; the axes before the last two broadcast.  Masks have no gradient: the pass leaves scores alone whose masks
    have one.
    """


@attention.infers
def _(query, key, value, *masks, scale, steps):
    batch, rows, _ = _shapes(query, key, value)
    return [Spec(query.dtype, (*batch, rows, value.sizes[-1])), Spec(query.dtype.compute, (*batch, rows))]


@attention.reference
def _(q, k, v, *masks, scale, steps):
    s, _ = _scores(q, k, masks, scale, steps)
    top = s.max(-1, keepdims=True, initial=-np.inf)
    e = np.exp(s - top)  # NaN in rows that are masked altogether, as softmax gives
    finite = np.where(np.isinf(top), 0, top)
    logsum = finite + np.log(np.exp(s - finite).sum(-1, keepdims=True))
    out = np.matmul(e * (1 / e.sum(-1, keepdims=True)), v)
    return out, np.broadcast_to(logsum[..., 0], out.shape[:-1])


@attention.grad
def _(op, dy, dl):
    wide = op.outputs[1].dtype
    product = ew.multiply(*(t if t.dtype is wide else OPERATORS["cast"](t, wide) for t in (dy, op.outputs[0])))
    delta = rd.reduce_sum_op(product, axis=(-1,), keepdims=False) - dl
    q, k, v, *masks = op.inputs
    found = attention_grad(q, k, v, op.outputs[1], delta, dy, *masks, **op.attrs)
    return (*[OPERATORS["sum_to_shape"](g, t) for g, t in zip(found, (q, k, v))], *[None for _ in masks])


@primitive("attention", type="AttentionGrad", gpu="attention", dtypes=DTYPES, same=("query", "key", "value", "dy"), tolerance=64,
           input_dtypes={"masks": MASKS, **STATISTICS}, output_dtypes=lambda q, *_, **__: [q.dtype] * 3,
           no_gradient="second derivatives are taken of the softmax and the products that users write", samples=[
    _sample((2, 3, 4), (2, 5, 4), (2, 5, 3), [(2, 3), (2, 3), (2, 3, 3)], scale=0.5),
    _sample((3, 4), (5, 4), (5, 2), [(3,), (3,), (3, 2)], dtype=np.float32),
    _sample((2, 2, 3, 4), (2, 2, 6, 4), (2, 2, 6, 4), [(2, 2, 3), (2, 2, 3), (2, 2, 3, 4), (2, 1, 1, 6), [(3, 6)]], scale=0.5,
            steps=(("add", 0, None), ("keep", 1, -1e9), ("scale", None, 2.0)))])
def attention_grad(query, key, value, logsum, delta, dy, *masks, scale=1.0, steps=()):
    """The gradients of `attention` for query, key and value (with the batch axes of the result), from that of its first output.

    logsum: its second output.  delta: [..., m] like it, the sum of dy * output over the last axis, less the gradient of `logsum`.
    """


@attention_grad.infers
def _(query, key, value, logsum, delta, dy, *masks, scale, steps):
    batch, rows, columns = _shapes(query, key, value)
    needs_rank(dy, len(batch) + 2, "dy")
    return [Spec(query.dtype, (*batch, n, d)) for n, d in ((rows, query.sizes[-1]), (columns, key.sizes[-1]), (columns, value.sizes[-1]))]


@attention_grad.reference
def _(q, k, v, logsum, delta, dy, *masks, scale, steps):
    s, slope = _scores(q, k, masks, scale, steps)
    p = np.exp(s - logsum[..., None])
    ds = p * (np.matmul(dy, _swap(v)) - delta[..., None]) * slope
    c = np.asarray(scale, q.dtype)
    return np.matmul(ds, k) * c, np.matmul(_swap(ds), q) * c, np.matmul(_swap(p), dy)
