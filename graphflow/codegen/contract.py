"""Contractions: sums of products over shared axes, by matrix multiplication.

Every contraction arrives in one form, a fold `sum over r of a(i, r) * b(r, j)`: matrix products, convolutions and both of
their gradients alike.  Operands that are strided matrices already are used in place, others are packed by a generated
kernel (that is im2col, when the operand is a padded image).  Today the product itself is the BLAS of NumPy's wheel,
reached by address through `blas`; a generated GEMM takes over this seam.  Knows Kernel IR; knows no op by name (rank 4).
"""
from __future__ import annotations

import ctypes
import functools
import glob
import os
from dataclasses import dataclass, field
from typing import Mapping, Sequence

from .. import types
from ..graph import Operation, Tensor
from ..ops.pull import Pull, is_uniform
from ..types import DType, Size
from . import ir, simplify
from .emit_cpu import Emitted
from .ir import Axis, Buffer, Expr, Kernel, Stage

# Below this many multiplications the general loop generator is faster than a call with packing.
SMALL = 1 << 15
_SYMBOL = {"f32": "sgemm", "f64": "dgemm"}


@functools.cache
def blas() -> dict[str, int]:
    """Addresses of the row-major GEMM of NumPy's own BLAS, by element type; empty when there is none."""
    import numpy

    folder = os.path.join(os.path.dirname(os.path.dirname(numpy.__file__)), "numpy.libs")
    for path in glob.glob(os.path.join(folder, "libscipy_openblas64_*")):
        try:
            library = ctypes.CDLL(path)
            return {t: ctypes.cast(getattr(library, f"scipy_cblas_{name}64_"), ctypes.c_void_p).value or 0 for t, name in _SYMBOL.items()}
        except (OSError, AttributeError):
            continue
    return {}


@dataclass
class Operand:
    """One factor as a matrix: `rows` axes by `columns` axes, batched over `batch`."""

    expr: Expr
    batch: list[Axis]
    outer: list[Axis]
    reduced: list[Axis]
    buffer: Buffer | None = None
    offset: Size = 0
    batch_stride: Size = 0
    ld: Size = 0
    transposed: bool = False  # stored reduced-major instead of outer-major
    packing: list[Kernel] = field(default_factory=list)


@dataclass
class Product:
    """A contraction as batched C[b, i, j] = sum_r A[b, i, r] B[b, r, j]."""

    a: Operand
    b: Operand
    batch: list[Axis]
    dtype: DType


def product(op: Operation, leaf) -> Product | None:
    """The op's fold as a matrix product, or None when it is not one."""
    out = op.outputs[0]
    if out.dtype.code not in blas() or op.opdef.family != "contraction" or op.opdef._fold is None:
        return None
    axes = [Axis(s) for s in out.sizes or ()]
    index = [ir.index_const(0) if types.same(a.extent, 1) else ir.axis(a) for a in axes]
    fold = Pull(leaf).fold(op, index)
    if fold.combine != "add" or fold.init is not None or fold.expr.op != "mul":
        return None
    live = [a for a in axes if not types.same(a.extent, 1)]
    reduced = [a for a in fold.axes if not types.same(a.extent, 1)]
    drop = {a: ir.index_const(0) for a in fold.axes if types.same(a.extent, 1)}
    x, y = (ir.substitute(e, drop) for e in fold.expr.args)
    in_x, in_y = ir.axes_in(x), ir.axes_in(y)
    batch = [a for a in live if a in in_x and a in in_y]
    rows, columns = [a for a in live if a in in_x and a not in batch], [a for a in live if a in in_y and a not in batch]
    if live == batch + columns + rows and columns and rows:
        x, y, rows, columns = y, x, columns, rows
    if live != batch + rows + columns or set(reduced) - (ir.axes_in(x) & ir.axes_in(y)) or not reduced:
        return None
    return Product(Operand(x, batch, rows, reduced), Operand(y, batch, columns, reduced), batch, out.dtype)


def _hint(axes: Sequence[Axis]) -> int:
    n = 1
    for a in axes:
        n *= types.hint(a.extent) or 1
    return n


_asked: dict[Operation, str | None] = {}


def engine(op: Operation) -> str | None:
    """ "contraction" for an op that this module computes, None for one left to the general generator."""
    if op.opdef.family != "contraction":
        return None
    p = product(op, lambda t, index: None if _looked_through(t) else ir.make("load", index, t.dtype.compute, t))
    if p is None:
        return None
    m, n, k = _hint(p.a.outer), _hint(p.b.outer), _hint(p.a.reduced)
    return "contraction" if m * n * k > SMALL and min(n, k) >= 4 and m >= 2 else None


def _looked_through(t: Tensor) -> bool:
    """Whether packing reads what `t` is made of: it only moves elements, or makes them of nothing."""
    d = t.op.opdef
    return is_uniform(t) or d._lower is not None and d._fold is None and d._scatter is None and (d.family == "movement" or not t.op.inputs)


def kernels(name: str, op: Operation, stored: Mapping[Tensor, Buffer]) -> list[Kernel | Emitted]:
    """Packing kernels (where an operand is no strided matrix), then the product."""
    def leaf(t: Tensor, index: tuple[Expr, ...]) -> Expr | None:
        b = stored.get(t)
        return None if b is None else ir.load(b, index)

    p = product(op, leaf)
    assert p is not None
    for x in (p.a, p.b):
        if not _in_place(x):
            _pack(x, name, p.dtype)
    return [*p.a.packing, *p.b.packing, _gemm(p, stored[op.outputs[0]])]


# ---------------------------------------------------------------- operands


def _collapse(f: simplify.Affine, axes: Sequence[Axis]) -> Size | None:
    """The stride of all `axes` as one, if they run through memory like one."""
    if not axes:
        return 0
    coefficients = [f.terms.get(ir.axis(a), 0) for a in axes]
    for a, c, inner in zip(axes[1:], coefficients, coefficients[1:]):
        if c != inner * a.extent:
            return None
    return coefficients[-1]


def _in_place(x: Operand) -> bool:
    """Uses a plain load as a matrix where its strides allow; fills the operand's fields."""
    if x.expr.op != "load":
        return False
    f = simplify.affine(simplify.offset(x.expr.data, x.expr.args))
    if any(e.op != "axis" for e in f.terms):
        return False
    outer, reduced, batch = _collapse(f, x.outer), _collapse(f, x.reduced), _collapse(f, x.batch)
    if outer is None or reduced is None or batch is None:
        return False
    if reduced == 1 and outer != 1 or reduced == 1 and not x.outer:
        x.ld, x.transposed = outer, False
    elif outer == 1:
        x.ld, x.transposed = reduced, True
    else:
        return False
    x.buffer, x.offset, x.batch_stride = x.expr.data, f.const, batch
    return isinstance(x.offset, int) and x.offset == 0


def _pack(x: Operand, name: str, dtype: DType) -> None:
    """A kernel that writes the operand as a dense matrix, in the order in which it is read fastest."""
    x.transposed = _unit_stride_in(x)
    order = [*x.batch, *(x.reduced if x.transposed else x.outer), *(x.outer if x.transposed else x.reduced)]
    target = Buffer(dtype, tuple(a.extent for a in order), "part", "packed")
    stage = Stage(target, tuple(order), tuple(ir.axis(a) for a in order), x.expr)
    buffers = tuple(dict.fromkeys([*(e.data for e in ir.loads(x.expr)), target]))
    x.packing = [Kernel(f"{name}_pack", buffers, (stage,), tuple(order))]
    rows, columns = types.product(a.extent for a in x.outer), types.product(a.extent for a in x.reduced)
    x.buffer, x.offset, x.batch_stride, x.ld = target, 0, rows * columns, rows if x.transposed else columns


def _unit_stride_in(x: Operand) -> bool:
    """Whether the source runs along the outer axes, so that packing reduced-major copies whole rows."""
    for e in ir.loads(x.expr):
        where = simplify.offset(e.data, e.args)
        if x.outer and simplify.stride(where, x.outer[-1]) == 1:
            return not (x.reduced and simplify.stride(where, x.reduced[-1]) == 1)
    return False


# ---------------------------------------------------------------- the product


def _gemm(p: Product, out: Buffer) -> Emitted:
    """One BLAS call a batch entry."""
    a, b = p.a, p.b
    assert a.buffer is not None and b.buffer is not None
    m, n, k = (types.product(x.extent for x in axes) for axes in (a.outer, b.outer, a.reduced))
    batch = types.product(x.extent for x in p.batch)
    buffers = [a.buffer, b.buffer, out]
    # B is asked for as [reduced, outer]: stored outer-major it is the transposed one.
    sizes: list[Size] = [blas()[p.dtype.code], 112 if a.transposed else 111, 111 if b.transposed else 112, m, n, k,
                         a.ld, b.ld, n, a.batch_stride, b.batch_stride, m * n]
    t, width = p.dtype.code, p.dtype.size
    text = f"""# gemm_{t}
def kernel(B, S, lo, hi):
    for i in range(lo, hi):
        a = advance(buf(B, 0), i * S[9] * {width})
        b = advance(buf(B, 1), i * S[10] * {width})
        c = advance(buf(B, 2), i * S[11] * {width})
        gemm_{t}(S[0], S[1], S[2], S[3], S[4], S[5], a, max(S[6], 1), b, max(S[7], 1), c, max(S[8], 1))
    return 0
"""
    return Emitted(text, buffers, sizes, batch, m * n * k, [], False)
