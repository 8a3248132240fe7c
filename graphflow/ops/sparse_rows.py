"""Rows of a gradient that is zero elsewhere: equal ones added up, and spread over the whole tensor (rank 3).

All results have as many rows as there are indices, so that no size depends on data: of rows with equal indices, each holds
their sum, and writing them all writes the same row several times.
"""
from __future__ import annotations

import numpy as np

from .. import graph, types
from ..codegen import ir
from ..codegen.ir import m
from ..graph import Spec, Tensor
from ..types import NUMERIC
from .array import INDEX, clamp, floats, inside, int64, sample, size_of, zero
from .indexing import gather, tensor_scatter_update, unsorted_segment_sum
from .opdef import constant, needs_rank, primitive


@primitive("host", type="FirstOfEqual", dtypes=INDEX, no_gradient="an index", infer=lambda x: Spec(types.int32, needs_rank(x, 1)),
           output_dtypes=lambda x: [types.int32], samples=[sample([5, 3, 5, 1]), sample([2, 2, 2])])
def first_of_equal(x):
    """For each element of a vector, the position of the first element equal to it."""


@first_of_equal.reference
def _(x):
    _, first, inverse = np.unique(x, return_index=True, return_inverse=True)
    return first[inverse.reshape(-1)].astype(np.int32)


@primitive("indexing", type="SpreadRows", dtypes=NUMERIC, same=("rows",), input_dtypes={"number": INDEX},
           no_gradient="part of an update")
def spread_rows(rows, number):
    """Row `number[i]` of `rows` as row i; zeros where the number is no row."""


spread_rows.samples = [sample(floats(3, 2), [-1, 2, 0, 0, -1]), sample(floats(2), [1, 5])]
spread_rows.infers(lambda rows, number: Spec(rows.dtype, (*needs_rank(number, 1), *needs_rank(rows)[1:])))


@spread_rows.reference
def _(rows, number):
    there = (number >= 0) & (number < len(rows))
    found = rows[np.where(there, number, 0)]
    return np.where(there.reshape(-1, *[1] * (rows.ndim - 1)), found, np.zeros((), rows.dtype))


@spread_rows.lowers
def _(op, index, read):
    n = op.inputs[0].sizes[0]
    if types.same(n, 0) is True:
        return zero(op.outputs[0].dtype)
    i = int64(read(1, [index[0]]))
    dtype = op.outputs[0].dtype
    return m.select(inside(i, n), read(0, [clamp(i, n), *index[1:]]), ir.const(0, dtype.compute))


SMALL = 1 << 18  # rows for which an array with a number each costs less than a step on the host


def one_of_equal(indices: Tensor, rows: int | None) -> Tensor:
    """For each of the indices the position of one that equals it, the same for all that are equal; they are below `rows`."""
    from .array import fill, range_op, vector

    if rows is None or rows > SMALL:
        return first_of_equal(indices)
    numbers = range_op(constant(0), size_of(indices), constant(1))
    places = tensor_scatter_update(fill(vector(rows), constant(0)), _column(indices), numbers)
    return gather(places, indices, axis=0, batch_dims=0)


def _column(indices: Tensor) -> Tensor:
    from .array import expand_dims

    return expand_dims(indices, axis=-1)


def summed_rows(values: Tensor, indices: Tensor, rows: int | None = None) -> tuple[Tensor, Tensor]:
    """(sums, one): each row's sum with all rows of equal index, and the position of one of these rows.

    rows: how many there are in the whole tensor, where that is known.
    """
    first = one_of_equal(indices, rows)
    return gather(unsorted_segment_sum(values, first, size_of(first)), first, axis=0, batch_dims=0), first


def spread(sums: Tensor, first: Tensor, indices: Tensor, like: Tensor) -> Tensor:
    """A dense tensor shaped as `like` of what `summed_rows` returned; never stored whole where a kernel reads it row by row."""
    from .array import fill, shape_vector

    count = graph.OPERATORS["getitem"](shape_vector(like), slice(0, 1))
    number = tensor_scatter_update(fill(count, constant(-1)), _column(indices), first)
    return spread_rows(sums, number)
