"""Writes to parts of a variable: `scatter_*` of rows and `scatter_nd_*` of positions.

Each is a write (ops/state.py) whose body computes the new value from the old one.
"""
from __future__ import annotations

from typing import Any

from .. import graph, types
from ..graph import Tensor
from . import indexing
from .opdef import convert_to_tensor
from .state import handle_of, write, written


def rows(indices: Tensor) -> Tensor:
    """Row numbers as positions of depth 1."""
    from .array import expand_dims

    return expand_dims(indices, axis=-1)


def _whole(v: Tensor, indices: Tensor, updates: Tensor) -> Tensor:
    """A scalar update for every row it goes to."""
    if updates.sizes != () or v.sizes is None or indices.sizes is None:
        return updates
    from .array import broadcast_to, concat, shape_vector

    tail = graph.OPERATORS["getitem"](shape_vector(v), slice(1, None))
    return broadcast_to(updates, concat(shape_vector(indices), tail, axis=0))


@write("ScatterUpdate")
def scatter_update_op(v, indices, updates):
    """Row `indices[i]` becomes `updates[i]`; of equal indices the last one wins."""
    return indexing.tensor_scatter_update(v, rows(indices), _whole(v, indices, updates))


@write("ScatterAdd", dtypes=types.NUMERIC)
def scatter_add_op(v, indices, updates):
    """Adds `updates[i]` to row `indices[i]`; equal indices add up."""
    return indexing.tensor_scatter_add(v, rows(indices), _whole(v, indices, updates))


@write("ScatterSub", dtypes=types.NUMERIC)
def scatter_sub_op(v, indices, updates):
    """Subtracts `updates[i]` from row `indices[i]`."""
    return indexing.tensor_scatter_sub(v, rows(indices), _whole(v, indices, updates))


@write("ScatterMul", dtypes=types.NUMERIC)
def scatter_mul_op(v, indices, updates):
    """Multiplies row `indices[i]` by `updates[i]`."""
    return indexing.tensor_scatter_mul(v, rows(indices), _whole(v, indices, updates))


@write("ScatterDiv", dtypes=types.NUMERIC)
def scatter_div_op(v, indices, updates):
    """Divides row `indices[i]` by `updates[i]`: by the product of all updates of a row."""
    divisor = indexing.tensor_scatter_mul(graph.OPERATORS["ones_like"](v), rows(indices), _whole(v, indices, updates))
    return graph.OPERATORS["truediv" if v.dtype.is_floating or v.dtype.is_complex else "floordiv"](v, divisor)


@write("ScatterMin", dtypes=indexing.ORDERED)
def scatter_min_op(v, indices, updates):
    """Row `indices[i]` becomes the smaller of itself and `updates[i]`, element by element."""
    return indexing.tensor_scatter_min(v, rows(indices), _whole(v, indices, updates))


@write("ScatterMax", dtypes=indexing.ORDERED)
def scatter_max_op(v, indices, updates):
    """Row `indices[i]` becomes the larger of itself and `updates[i]`, element by element."""
    return indexing.tensor_scatter_max(v, rows(indices), _whole(v, indices, updates))


@write("ScatterNdUpdate")
def scatter_nd_update_op(v, indices, updates):
    """The slice at position `indices[i]` becomes `updates[i]`."""
    return indexing.tensor_scatter_update(v, indices, updates)


@write("ScatterNdAdd", dtypes=types.NUMERIC)
def scatter_nd_add_op(v, indices, updates):
    """Adds `updates[i]` to the slice at position `indices[i]`."""
    return indexing.tensor_scatter_add(v, indices, updates)


@write("ScatterNdSub", dtypes=types.NUMERIC)
def scatter_nd_sub_op(v, indices, updates):
    """Subtracts `updates[i]` from the slice at position `indices[i]`."""
    return indexing.tensor_scatter_sub(v, indices, updates)


def _public(op: Any) -> Any:
    def fn(ref: Any, indices: Any, updates: Any, use_locking: bool | None = None, name: str | None = None) -> Tensor:
        index = convert_to_tensor(indices)
        _check(op, handle_of(ref), index, convert_to_tensor(updates, handle_of(ref).dtype))
        return written(op, ref, index, updates, name=name)
    fn.__name__ = op.name.removesuffix("_op")
    fn.__doc__ = (f"{op.__doc__}  The result is the variable's new value.\n\n    Raises (when run):\n"
                  "        InvalidArgumentError: an index outside the variable.")
    return fn


def _check(op: Any, v: Tensor, indices: Tensor, updates: Tensor) -> None:
    """Shapes are checked when the op is made: the body, which would, is built only when a step runs."""
    if indices.dtype not in (types.int32, types.int64):
        raise TypeError(f"indices of {op.type} must be int32 or int64, got {indices.dtype.name}")
    if None in (v.sizes, indices.sizes, updates.sizes) or updates.sizes == () and not op.type.startswith("ScatterNd"):
        return
    depth = 1
    outer = indices.sizes
    if op.type.startswith("ScatterNd"):
        if not indices.sizes or isinstance(indices.sizes[-1], types.Dim):
            return
        depth, outer = indices.sizes[-1], indices.sizes[:-1]
    try:
        types.merge_shapes((*outer, *v.sizes[depth:]), updates.sizes)
    except ValueError:
        raise ValueError(f"Shapes must be equal: updates of {op.type} have shape {types.shape_text(updates.sizes)}, expected "
                         f"{types.shape_text((*outer, *v.sizes[depth:]))} for indices {types.shape_text(indices.sizes)} of a variable "
                         f"{types.shape_text(v.sizes)}") from None


scatter_update, scatter_add, scatter_sub = _public(scatter_update_op), _public(scatter_add_op), _public(scatter_sub_op)
scatter_mul, scatter_div = _public(scatter_mul_op), _public(scatter_div_op)
scatter_min, scatter_max = _public(scatter_min_op), _public(scatter_max_op)
scatter_nd_update, scatter_nd_add, scatter_nd_sub = _public(scatter_nd_update_op), _public(scatter_nd_add_op), _public(scatter_nd_sub_op)
__all__ = ["scatter_update", "scatter_add", "scatter_sub", "scatter_mul", "scatter_div", "scatter_min", "scatter_max",
           "scatter_nd_update", "scatter_nd_add", "scatter_nd_sub"]
