"""Crosses of features: every combination of one value a column, row by row, as text or as a bucket of its hash."""
from __future__ import annotations

from functools import lru_cache
from itertools import product
from typing import Any, Callable, Sequence

import numpy as np

from . import graph, math_ops, types
from .graph import Spec, Tensor
from .ops.array import sample
from .ops.hashing import fingerprint64
from .ops.opdef import convert_to_tensor, primitive
from .sparse_tensor import SparseTensor, SparseTensorValue

DEFAULT_HASH_KEY = 0xDECAFCAFFE
_MASK, _MUL = (1 << 64) - 1, 0xC6A4A7935BD1E995
_KINDS = types.INTEGER + (types.string,)


def _mix(v: int) -> int:
    return v ^ v >> 47


def hash_with(h: int, fingerprint: int) -> int:
    """Two 64-bit fingerprints as one (TensorFlow's FingerprintCat64)."""
    v = h ^ _MUL ^ (_mix(fingerprint * _MUL & _MASK) * _MUL & _MASK)
    return _mix(_mix(v * _MUL & _MASK) * _MUL & _MASK)


def _spec(*parts: Tensor, sparse: int, hashed: bool, **_: Any) -> list[Spec]:
    return [Spec(types.int64, (types.UNKNOWN, 2)), Spec(types.int64 if hashed else types.string, (types.UNKNOWN,)), Spec(types.int64, (2,))]


@primitive("host", type="SparseCross", infer=_spec, dtypes=_KINDS, same=("-",), input_dtypes={"parts": _KINDS}, no_gradient="it counts",
           output_dtypes=lambda *_, hashed, **__: [types.int64, types.int64 if hashed else types.string, types.int64])
def sparse_cross_op(*parts, sparse, num_buckets, hash_key, hashed):
    """The crosses of columns [batch, any] as a sparse tensor [batch, most of a row].

    `parts` are indices, values and shape of each of the `sparse` first columns, then the other columns as they are.  The value of the
    last column changes fastest.  With `hashed` a cross is a number below `num_buckets` (below 2^63 - 1 when that is 0).
    """


sparse_cross_op.samples = [sample([[0, 0], [0, 1], [1, 0]], [3, 4, 5], [2, 2], [[1, 2], [3, 4]], sparse=1, num_buckets=100, hash_key=7,
                                  hashed=True)]


@sparse_cross_op.reference
def _(*parts, sparse, num_buckets, hash_key, hashed):
    columns = [_sparse_rows(*parts[3 * k:3 * k + 3]) for k in range(sparse)] + [_dense_rows(a) for a in parts[3 * sparse:]]
    sizes = {len(rows) for rows in columns}
    if len(sizes) > 1:
        expected = len(columns[0])
        raise ValueError(f"Expected batch size {expected}, got {min(sizes - {expected})}: the columns of a cross have one")
    made = [[*map(_hashed(num_buckets, hash_key) if hashed else _joined, product(*row))] for row in zip(*columns)]
    counts = np.array([*map(len, made)], np.int64)
    row = np.repeat(np.arange(len(made)), counts)
    places = np.arange(len(row)) - np.repeat(np.cumsum(counts) - counts, counts)
    values = np.array([v for row in made for v in row], np.int64 if hashed else object)
    return np.stack([row, places], 1), values, np.array([len(made), counts.max(initial=0)], np.int64)


def _sparse_rows(indices: np.ndarray, values: np.ndarray, shape: np.ndarray) -> list[list[Any]]:
    if len(shape) != 2:
        raise ValueError(f"the columns of a cross must have rank 2, got shape {shape.tolist()}")
    rows: list[list[Any]] = [[] for _ in range(int(shape[0]))]
    for i, v in zip(indices[:, 0].tolist(), values.tolist()):
        rows[i].append(v)
    return rows


def _dense_rows(a: np.ndarray) -> list[list[Any]]:
    if a.ndim != 2:
        raise ValueError(f"the columns of a cross must have rank 2, got shape {list(a.shape)}")
    return a.tolist()


def _bytes(v: Any) -> bytes:
    return v.encode() if isinstance(v, str) else v if isinstance(v, bytes) else b"%d" % v


def _joined(values: Sequence[Any]) -> bytes:
    return b"_X_".join(map(_bytes, values))


@lru_cache(64)
def _hashed(num_buckets: int, hash_key: int) -> Callable[[tuple[Any, ...]], int]:
    @lru_cache(1 << 15)  # a cross of few values comes again
    def bucket(values: tuple[Any, ...]) -> int:
        h = hash_key
        for v in values:
            h = hash_with(h, v & _MASK if isinstance(v, int) else fingerprint64(_bytes(v)))
        return h % (num_buckets or (1 << 63) - 1)
    return bucket


def _cross(inputs: Any, hashed: bool, num_buckets: int, hash_key: int | None, name: str | None) -> SparseTensor:
    if not isinstance(inputs, (tuple, list)) or isinstance(inputs, SparseTensorValue):
        raise TypeError("Inputs must be a list")
    if num_buckets < 0:
        raise ValueError(f"num_buckets must be at least 0, got {num_buckets}")
    found = [SparseTensor.from_value(x) if isinstance(x, SparseTensorValue) else x if isinstance(x, SparseTensor) else convert_to_tensor(x)
             for x in inputs]
    with graph.get_default_graph().name_scope(name or "SparseCross") as scope:
        sparse = [x for x in found if isinstance(x, SparseTensor)]
        parts = [t for x in sparse for t in (x.indices, _whole(x.values), x.dense_shape)]
        parts += [_whole(x) for x in found if not isinstance(x, SparseTensor)]
        made = SparseTensor(*sparse_cross_op(*parts, sparse=len(sparse), num_buckets=int(num_buckets), hashed=hashed, name=scope,
                                             hash_key=int(hash_key or DEFAULT_HASH_KEY)))
        made._static = _batch(found), types.UNKNOWN
        return made


def _batch(inputs: list[Any]) -> Any:
    """The number of rows, where an input tells it."""
    known = (x.shape[0].value for x in inputs if x.shape.ndims)
    return next((n for n in known if n is not None), types.UNKNOWN)


def _whole(values: Tensor) -> Tensor:
    """Text, or int64."""
    if values.dtype.kind not in "siu":
        raise TypeError(f"the columns of a cross are strings or integers, got {values.dtype.name}")
    return values if values.dtype.kind == "s" else math_ops.cast(values, types.int64)


def sparse_cross(inputs: Any, name: str | None = None) -> SparseTensor:
    """The crosses of `inputs` as text, joined by "_X_": a SparseTensor of strings [batch, most of a row].

    inputs: a list of tensors or SparseTensors [batch, any] of strings or integers; the sparse ones come first in a cross.
    Raises TypeError: no list, another dtype.
    """
    return _cross(inputs, False, 0, None, name)


def sparse_cross_hashed(inputs: Any, num_buckets: int = 0, hash_key: int | None = None, name: str | None = None) -> SparseTensor:
    """The crosses of `inputs` as int64 numbers below `num_buckets` (any if 0), which depend on `hash_key`; see `cross`."""
    return _cross(inputs, True, num_buckets, hash_key, name)
