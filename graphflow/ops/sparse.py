"""Products of a sparse matrix, given by positions and values, with a dense one: one kernel, no intermediate of [N, columns]."""
from __future__ import annotations

import numpy as np

from .. import graph, types
from ..codegen import ir
from ..codegen.ir import m
from ..graph import Spec
from ..types import NUMERIC
from .array import INDEX, clamp, floats, int64, is_empty, sample, shape_of, sizes_from, zero
from .indexing import gather
from .opdef import needs_rank, primitive
from .reduce import reduce_sum_op


@primitive("indexing", type="SparseTensorDenseMatMul", dtypes=NUMERIC, same=("values", "b"), static=("shape",),
           input_dtypes=dict.fromkeys(("rows", "columns", "shape"), INDEX), output_dtypes=lambda r, c, values, *_: [values.dtype],
           updates=lambda op: (op.inputs[2].sizes[0], op.outputs[0].sizes[1]))
def sparse_dense_matmul(rows, columns, values, b, shape):
    """y [m, n] with y[rows[k]] += values[k] * b[columns[k]] for each k, in their order; `shape` is [m].

    Raises (when run):
        InvalidArgumentError: a position outside [0, m) or [0, size of b).
    """


sparse_dense_matmul.samples = [sample([1, 0, 1, 2], [3, 0, 0, 3], floats(4), floats(4, 5), [3]),
                               sample([], [], floats(0), floats(4, 2), [2])]


@sparse_dense_matmul.infers
def _(rows, columns, values, b, shape):
    counts = [needs_rank(t, 1)[0] for t in (rows, columns, values)]
    for n in counts[1:]:
        types.merge_shapes((counts[0],), (n,))
    return Spec(values.dtype, (sizes_from(shape)[0], needs_rank(b, 2)[1]))


@sparse_dense_matmul.reference
def _(rows, columns, values, b, shape):
    for what, at, n in (("row", rows, shape[0]), ("column", columns, len(b))):
        bad = np.flatnonzero((at < 0) | (at >= n))
        if len(bad):
            raise ValueError(f"k ({at[bad[0]]}) from {what} index [{bad[0]}] out of bounds (>={n})")
    y = np.zeros((int(shape[0]), b.shape[1]), np.result_type(values, b))
    np.add.at(y, rows, values[:, None] * b[columns])
    return y


@sparse_dense_matmul.scatters
def _(op, index, read):
    k, j = index
    (rows, _), n, sizes = op.outputs[0].sizes, op.inputs[3].sizes[0], op.opdef.updates(op)
    row, column = int64(read(0, [k])), int64(read(1, [k]))
    row = m.check(m.land(row >= 0, row < ir.size(rows)), clamp(row, rows), "row of a sparse matrix out of bounds")
    if is_empty(op.inputs[3].sizes):
        return ir.Scatter("add", sizes, (row, j), zero(op.outputs[0].dtype))
    column = m.check(m.land(column >= 0, column < ir.size(n)), clamp(column, n), "column of a sparse matrix out of bounds")
    return ir.Scatter("add", sizes, (row, j), read(2, [k]) * read(3, [column, j]))


sparse_dense_matmul.lowers(lambda op, index, read: zero(op.outputs[0].dtype))


@sparse_dense_matmul.grad
def _(op, dy):
    rows, columns, values, b, _ = op.inputs
    conj = graph.OPERATORS["conj"]
    d_values = reduce_sum_op(gather(dy, rows) * conj(gather(b, columns)), axis=(1,), keepdims=False)
    return None, None, d_values, sparse_dense_matmul(columns, rows, conj(values), dy, shape_of(b)[:1]), None
