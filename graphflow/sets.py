"""`tf.sets`: the rows of the last dimension as sets, of SparseTensors or of dense tensors.

The outer dimensions are matched one to one.  Results are SparseTensors whose rows are sorted and without repetition.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from . import array_ops, types
from .graph import Spec, Tensor
from .ops.array import sample
from .ops.opdef import convert_to_tensor, needs_rank, primitive
from .sparse_tensor import ANY, SparseTensor, SparseTensorValue, out_of_order

__all__ = ["difference", "intersection", "set_difference", "set_intersection", "set_size", "set_union", "size", "union"]

_ELEMENTS = (types.int8, types.int16, types.int32, types.int64, types.uint8, types.uint16, types.string)
_INDEX = (types.int64,)


def _wide(*values: Any) -> Any:
    return lambda rng: np.array(values, np.int64)


_SAMPLES = [sample(_wide([0, 0], [0, 1], [1, 0]), _wide(1, 2, 3), _wide(2, 2), _wide([0, 0], [1, 0]), _wide(2, 3), _wide(2, 2), how=how)
            for how in ("union", "intersection", "a-b", "b-a")]


@primitive("host", type="SetOperation", dtypes=ANY, same=("a_values", "b_values"), no_gradient="integers and strings have none",
           input_dtypes=dict.fromkeys(("a_indices", "a_shape", "b_indices", "b_shape"), _INDEX), samples=_SAMPLES,
           output_dtypes=lambda ai, av, *_, **__: [types.int64, av.dtype, types.int64])
def set_operation_op(a_indices, a_values, a_shape, b_indices, b_values, b_shape, *, how, validate=True):
    """The set operation `how` ("union", "intersection", "a-b", "b-a") of each row: indices, values and shape of a sparse tensor."""


@set_operation_op.infers
def _(a_indices, a_values, a_shape, b_indices, b_values, b_shape, **_):
    rank = next((t.sizes[-1] for t in (a_shape, b_shape, a_indices, b_indices) if t.sizes is not None and isinstance(t.sizes[-1], int)),
                types.UNKNOWN)
    return [Spec(types.int64, (types.UNKNOWN, rank)), Spec(a_values.dtype, (types.UNKNOWN,)), Spec(types.int64, (rank,))]


def _rows(what: str, indices: np.ndarray, values: np.ndarray, shape: np.ndarray, validate: bool) -> dict[tuple[int, ...], set[Any]]:
    problem = out_of_order(indices, shape) if validate else None
    if problem:
        raise ValueError(f"{what}: {problem}")
    found: dict[tuple[int, ...], set[Any]] = {}
    for at, v in zip(indices[:, :-1].tolist(), values.tolist()):
        found.setdefault(tuple(at), set()).add(v)
    return found


_HOW = {"union": lambda a, b: a | b, "intersection": lambda a, b: a & b, "a-b": lambda a, b: a - b, "b-a": lambda a, b: b - a}


@set_operation_op.reference
def _(a_indices, a_values, a_shape, b_indices, b_values, b_shape, *, how, validate):
    if list(a_shape[:-1]) != list(b_shape[:-1]):
        raise ValueError(f"Mismatched group shapes {a_shape[:-1].tolist()} vs {b_shape[:-1].tolist()}.")
    a, b = _rows("a", a_indices, a_values, a_shape, validate), _rows("b", b_indices, b_values, b_shape, validate)
    indices, values, longest = [], [], 0
    for at in sorted({*a, *b}):
        row = sorted(_HOW[how](a.get(at, set()), b.get(at, set())))
        indices += [(*at, k) for k in range(len(row))]
        values += row
        longest = max(longest, len(row))
    return (np.array(indices, np.int64).reshape(len(values), len(a_shape)), np.array(values, a_values.dtype),
            np.array([*a_shape[:-1], longest], np.int64))


@primitive("host", type="SetSize", dtypes=ANY, same=("set_values",), no_gradient="a count", samples=[
    sample(_wide([0, 0], [0, 1], [1, 0]), _wide(1, 1, 3), _wide(2, 2))], input_dtypes=dict.fromkeys(("set_indices", "set_shape"), _INDEX),
           output_dtypes=lambda *_, **__: [types.int32])
def set_size_op(set_indices, set_values, set_shape, *, validate=True):
    """How many different elements each row of a sparse tensor has: int32, of the shape without the last dimension."""


@set_size_op.infers
def _(set_indices, set_values, set_shape, **_):
    rank = next((t.sizes[-1] for t in (set_shape, set_indices) if t.sizes is not None and isinstance(t.sizes[-1], int)), None)
    return Spec(types.int32, None if rank is None else (types.UNKNOWN,) * (rank - 1))


@set_size_op.reference
def _(set_indices, set_values, set_shape, *, validate):
    out = np.zeros([int(n) for n in set_shape[:-1]], np.int32)
    for at, row in _rows("set", set_indices, set_values, set_shape, validate).items():
        out[at] = len(row)
    return out


def _components(x: Any, what: str) -> list[Tensor]:
    """Indices, values and shape; a dense tensor has all its elements.  Raises TypeError for a dtype that has no sets."""
    if isinstance(x, SparseTensorValue):
        x = SparseTensor.from_value(x)
    if not isinstance(x, SparseTensor):
        t = convert_to_tensor(x)
        if len(needs_rank(t)) < 2:
            raise ValueError(f"Input {what} must have at least 2 dimensions, got shape {t.shape}")
        at = array_ops.where(array_ops.fill(array_ops.shape(t), True))
        parts = [at, array_ops.reshape(t, [-1]), array_ops.shape(t, out_type=types.int64)]
    else:
        parts = x._components()
    if parts[1].dtype not in _ELEMENTS:
        raise TypeError(f"Data type {parts[1].dtype.name} not in supported types {[d.name for d in _ELEMENTS]}.")
    return parts


def set_size(a: Any, validate_indices: bool = True) -> Tensor:
    """How many different elements each row of a SparseTensor has: int32, of the shape without the last dimension.

    Raises:
        TypeError: no SparseTensor, or values that are neither integers nor strings.
    """
    if not isinstance(a, (SparseTensor, SparseTensorValue)):
        raise TypeError(f"Expected `SparseTensor`, got {a!r}.")
    return set_size_op(*_components(a, "a"), validate=bool(validate_indices))


def _operation(a: Any, b: Any, how: str, validate: bool) -> SparseTensor:
    if not isinstance(b, (SparseTensor, SparseTensorValue)) and isinstance(a, (SparseTensor, SparseTensorValue)):
        raise TypeError("a is a SparseTensor and b is dense: give b as the first set, or as a SparseTensor too")
    return SparseTensor(*set_operation_op(*_components(a, "a"), *_components(b, "b"), how=how, validate=validate))


def set_intersection(a: Any, b: Any, validate_indices: bool = True) -> SparseTensor:
    """The elements that are in the row of `a` and in that of `b`.

    Args:
        a, b: SparseTensors or tensors, of integers or strings, whose outer dimensions agree; `a` may be dense while `b` is sparse.

    Raises:
        TypeError: another dtype; a sparse `a` with a dense `b`.
        InvalidArgumentError (when run): other outer dimensions; indices out of order, if they are validated.
    """
    return _operation(a, b, "intersection", validate_indices)


def set_difference(a: Any, b: Any, aminusb: bool = True, validate_indices: bool = True) -> SparseTensor:
    """The elements of the row of `a` that are not in that of `b`; the other way round without `aminusb`.  See `set_intersection`."""
    return _operation(a, b, "a-b" if aminusb else "b-a", validate_indices)


def set_union(a: Any, b: Any, validate_indices: bool = True) -> SparseTensor:
    """The elements that are in the row of `a` or in that of `b`.  See `set_intersection`."""
    return _operation(a, b, "union", validate_indices)


size, intersection, difference, union = set_size, set_intersection, set_difference, set_union
