"""What an element of a dataset looks like: nested structures whose leaves are dtypes with shapes.

Tuples, named tuples, dicts and attrs classes are structures; a list is a leaf, the value of one tensor, as in TF1's tf.data.
A leaf at run time is an array, a `SparseTensorValue` or a `Bound` dataset (a window); its tensors while a graph is built are one,
three or none.  Knows tensors, no dataset class (rank 9).
"""
from __future__ import annotations

from typing import Any, Callable, Iterable, Iterator, Sequence

import numpy as np

from .. import nest as general
from .. import types
from ..graph import Tensor
from ..ops.opdef import convert_to_tensor
from ..sparse_tensor import SparseTensor, SparseTensorValue
from ..types import DType, Shape, TensorShape

# ---------------------------------------------------------------- structures


def is_nested(x: Any) -> bool:
    """Whether `x` is a structure, not a leaf."""
    return isinstance(x, (tuple, dict)) and not isinstance(x, SparseTensorValue) or hasattr(type(x), "__attrs_attrs__")


def flatten(x: Any) -> list[Any]:
    """The leaves, in order (dicts by sorted key)."""
    return [leaf for part in general._parts(x) for leaf in flatten(part)] if is_nested(x) else [x]


def pack(like: Any, leaves: Iterable[Any]) -> Any:
    """`leaves` in the form of `like`."""
    return _pack(like, iter(leaves))


def _pack(like: Any, leaves: Iterator[Any]) -> Any:
    return general._like(like, [_pack(part, leaves) for part in general._parts(like)]) if is_nested(like) else next(leaves)


def map_leaves(f: Callable[[Any], Any], x: Any) -> Any:
    return pack(x, [f(leaf) for leaf in flatten(x)])


def flatten_up_to(shallow: Any, x: Any, what: str) -> list[Any]:
    """The parts of `x` that stand where `shallow` has leaves.

    Raises:
        TypeError: a part that should be a structure is another one.  ValueError: other keys or another number of parts.
    """
    if not is_nested(shallow):
        return [x]
    same = isinstance(x, dict) if isinstance(shallow, dict) else isinstance(x, (tuple, list)) or type(x) is type(shallow)
    if not same:
        raise TypeError(f"The two structures don't have the same sequence type: {what} must be a {type(shallow).__name__} like "
                        f"{shallow!r}, got {x!r}")
    if isinstance(shallow, dict) and set(shallow) != set(x):
        raise ValueError(f"The two dictionaries don't have the same keys: {what} must have {sorted(shallow)}, got {sorted(x)}")
    parts = general._parts(x)
    if len(parts) != len(general._parts(shallow)):
        raise ValueError(f"The two structures don't have the same number of elements: {what} must be like {shallow!r}, got {x!r}")
    return [leaf for a, b in zip(general._parts(shallow), parts) for leaf in flatten_up_to(a, b, what)]


# ---------------------------------------------------------------- leaves


class Leaf:
    """A dense tensor of an element: its dtype, and the sizes that are known of it."""

    tensors = 1  # how many tensors stand for it in a graph
    is_dataset = False

    def __init__(self, dtype: DType, sizes: Shape):
        self.dtype = dtype
        self.sizes = None if sizes is None else tuple(types.UNKNOWN if isinstance(s, types.Dim) else s for s in sizes)

    def _key(self) -> Any:
        return type(self), self.dtype, self.sizes

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Leaf) and self._key() == other._key()

    def __hash__(self) -> int:
        return hash(self._key())

    def __repr__(self) -> str:
        return f"<{self.dtype.name} {types.shape_text(self.sizes)}>"

    shape: Any = property(lambda self: TensorShape(self.sizes))
    type: Any = property(lambda self: self.dtype)
    kind: Any = property(lambda self: Tensor)

    def with_sizes(self, sizes: Shape) -> Leaf:
        return type(self)(self.dtype, sizes)

    def specs(self) -> list[tuple[DType, Shape]]:
        return [(self.dtype, self.sizes)]

    def of_tensors(self, tensors: Sequence[Tensor]) -> Any:
        return tensors[0]

    def arrays(self, value: Any) -> list[np.ndarray]:
        """The arrays of a run-time value, one for each tensor."""
        return [value]

    def of_arrays(self, arrays: Sequence[np.ndarray]) -> Any:
        return arrays[0]

    def outer(self, size: Any) -> Leaf:
        """Many of it, along a new first axis."""
        return self.with_sizes(None if self.sizes is None else (size, *self.sizes))

    def inner(self) -> Leaf:
        """One row of it.  Raises ValueError for a scalar."""
        if self.sizes == ():
            raise ValueError("a scalar has no rows: every component must have at least one dimension")
        return self.with_sizes(None if self.sizes is None else self.sizes[1:])

    def merged(self, other: Leaf) -> Leaf:
        """What is true of both.  Raises TypeError for another dtype."""
        if type(other) is not type(self) or other.dtype is not self.dtype:
            raise TypeError(f"the two have different types: {self!r} and {other!r}")
        a, b = self.sizes, other.sizes
        if a is None or b is None or len(a) != len(b):
            return self.with_sizes(None)
        return self.with_sizes(tuple(x if x == y else types.UNKNOWN for x, y in zip(a, b)))


class SparseLeaf(Leaf):
    """A SparseTensor of an element; `sizes` are those of the dense shape."""

    tensors = 3
    kind: Any = property(lambda self: SparseTensor)

    def specs(self) -> list[tuple[DType, Shape]]:
        rank = types.UNKNOWN if self.sizes is None else len(self.sizes)
        return [(types.int64, (types.UNKNOWN, rank)), (self.dtype, (types.UNKNOWN,)), (types.int64, (rank,))]

    def of_tensors(self, tensors: Sequence[Tensor]) -> Any:
        found = SparseTensor(*tensors)
        found._static = self.sizes
        return found

    def arrays(self, value: Any) -> list[np.ndarray]:
        return list(value)

    def of_arrays(self, arrays: Sequence[np.ndarray]) -> Any:
        return SparseTensorValue(*arrays)


class DatasetLeaf(Leaf):
    """A dataset as part of an element: what `window` makes."""

    tensors = 0
    is_dataset = True

    def __init__(self, element: Any):
        self.element = element
        super().__init__(types.bool_, ())

    def _key(self) -> Any:
        return type(self), tuple(flatten(self.element))

    def __repr__(self) -> str:
        return f"<dataset of {self.element!r}>"

    shape: Any = property(lambda self: TensorShape(()))
    kind: Any = property(lambda self: type(self))

    def specs(self) -> list[tuple[DType, Shape]]:
        return []

    def arrays(self, value: Any) -> list[np.ndarray]:
        return []

    def outer(self, size: Any) -> Leaf:
        raise TypeError("datasets cannot be batched; use flat_map to take them apart")

    def merged(self, other: Leaf) -> Leaf:
        if self != other:
            raise TypeError(f"the two have different types: {self!r} and {other!r}")
        return self


def leaf_of(value: Any) -> Leaf:
    """The leaf that a tensor or SparseTensor is of."""
    return SparseLeaf(value.dtype, value.shape._dims) if isinstance(value, SparseTensor) else Leaf(value.dtype, value.sizes)


def as_tensor(value: Any) -> Any:
    """A tensor or SparseTensor from what a program gives as one component."""
    if isinstance(value, SparseTensorValue):
        return SparseTensor.from_value(value)
    return value if isinstance(value, SparseTensor) else convert_to_tensor(value)


def together(a: Any, b: Any, what: str) -> list[tuple[Leaf, Leaf]]:
    """The corresponding leaves of two elements.  Raises ValueError for another structure, TypeError for other kinds of sequences."""
    pairs = list(zip(flatten(a), flatten_up_to(a, b, what)))
    if any(is_nested(y) for _, y in pairs):
        raise ValueError(f"The two structures don't have the same nested structure: {what} must be like {a!r}, got {b!r}")
    return pairs


def in_bytes(a: np.ndarray) -> np.ndarray:
    """An array of strings as elements hold them: bytes."""
    flat = a.reshape(-1)
    if not any(type(v) is not bytes for v in flat):
        return a
    out = np.empty(len(flat), object)
    out[:] = [v.encode("utf-8", "surrogateescape") if isinstance(v, str) else bytes(v) for v in flat]
    return out.reshape(a.shape)


# ---------------------------------------------------------------- values of many elements


def stack(leaf: Leaf, values: Sequence[Any], failed: Callable[[str], Exception]) -> Any:
    """Run-time values of one leaf along a new first axis; `failed(message)` is raised where their shapes differ."""
    if isinstance(leaf, SparseLeaf):
        return _stack_sparse(values, failed)
    first = values[0]
    shape = first.shape
    for v in values:
        if v.shape != shape:
            raise failed("Cannot batch tensors with different shapes in component {component}. First element had shape "
                         f"{types.shape_text(shape)} and element {next(i for i, x in enumerate(values) if x.shape != shape)} had shape "
                         f"{types.shape_text(v.shape)}. Use padded_batch, or set one shape in map")
    out = np.empty((len(values), *shape), first.dtype)
    if first.dtype == object:
        for i, v in enumerate(values):
            out[i] = v[()] if v.ndim == 0 else v
        return out
    return np.stack(values, out=out) if shape else np.array(values, first.dtype)


def _stack_sparse(values: Sequence[Any], failed: Callable[[str], Exception]) -> SparseTensorValue:
    shapes = np.array([np.asarray(v.dense_shape, np.int64) for v in values]) if len({len(v.dense_shape) for v in values}) == 1 else None
    if shapes is None:
        raise failed("Cannot batch sparse tensors of different rank in component {component}")
    rows = np.repeat(np.arange(len(values)), [len(v.values) for v in values])
    indices = np.concatenate([np.asarray(v.indices, np.int64).reshape(-1, shapes.shape[1]) for v in values])
    return SparseTensorValue(np.concatenate([rows[:, None], indices], 1), np.concatenate([v.values for v in values]),
                             np.array([len(values), *shapes.max(0)], np.int64))


def rows_of(leaf: Leaf, value: Any) -> int:
    return int(value.dense_shape[0]) if isinstance(leaf, SparseLeaf) else value.shape[0]


def row(leaf: Leaf, value: Any, i: int) -> Any:
    """Row `i` along the first axis."""
    if isinstance(leaf, SparseLeaf):
        keep = value.indices[:, 0] == i
        return SparseTensorValue(value.indices[keep, 1:], value.values[keep], value.dense_shape[1:])
    found = value[i]
    return found if isinstance(found, np.ndarray) else np.asarray(found, value.dtype)
