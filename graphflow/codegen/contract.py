"""Contractions: sums of products over shared axes, by generated matrix multiplication.

Every contraction arrives in one form, a fold `sum over r of a(i, r) * b(r, j)`: matrix products, convolutions and both of
their gradients alike.  Operands that are strided matrices already are used in place, others are made dense by a generated
kernel first (that is im2col, when the operand is a padded image).  The product packs panels and multiplies register tiles
(Goto and van de Geijn, "Anatomy of high-performance matrix multiplication", 2008); it is split at rows and columns that
depend on the sizes alone, so that any number of threads gives the same bits.  Knows Kernel IR; knows no op by name (rank 4).
"""
from __future__ import annotations

from dataclasses import dataclass, field
from functools import cache
from typing import Mapping, NamedTuple, Sequence

from .. import types
from ..graph import Operation, Tensor
from ..ops.pull import Pull, is_uniform
from ..types import DType, Size
from . import ir, simplify, target
from .emit_cpu import Emitted
from .ir import Axis, Buffer, Expr, Kernel, Stage

# Below this many multiplications the general loop generator is faster than packing.
SMALL = 1 << 15
DEPTH = 384  # products per pass over a tile: what of a packed panel stays in first-level cache
GROUP = 8  # panels of columns that one task takes


class Tile(NamedTuple):
    """Rows and vectors of the register tile, and lanes of a vector."""

    rows: int
    vectors: int
    lanes: int


@cache
def tile(kind: str) -> Tile:
    """The register tile by instruction set: accumulators, one row of B and a broadcast fill the registers."""
    features = target.features()
    width = 16 if "+avx512f" in features else 8 if "+avx2" in features and "+fma" in features else 4
    rows, vectors = {16: (14, 2), 8: (6, 2), 4: (8, 2)}[width]
    return Tile(rows, vectors, width if kind == "f32" else width // 2)


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
    if out.dtype.code not in ("f32", "f64") or op.opdef.family != "contraction" or op.opdef._fold is None:
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
    return [*p.a.packing, *p.b.packing, *_multiply(p, stored[op.outputs[0]])]


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


def _strides(x: Operand) -> tuple[Size, Size]:
    """Steps in memory along the outer and the reduced axis."""
    return (1, x.ld) if x.transposed else (x.ld, 1)


def _multiply(p: Product, out: Buffer) -> list[Kernel | Emitted]:
    """B into panels of the tile's width, then the tiles."""
    a, b, t = p.a, p.b, tile(p.dtype.code)
    assert a.buffer is not None and b.buffer is not None
    m, n, k = (types.product(x.extent for x in axes) for axes in (a.outer, b.outer, a.reduced))
    batch = types.product(x.extent for x in p.batch)
    panels = types.ceildiv(n, t.vectors * t.lanes)
    packed = Buffer(p.dtype, (batch, panels, k, t.vectors * t.lanes), "part", "panels")
    names = {"T": p.dtype.code, "W": p.dtype.size, "MR": t.rows, "NR": t.vectors * t.lanes, "KC": DEPTH, "GROUP": GROUP,
             "TILE": f"tile_{p.dtype.code}_{t.rows}x{t.vectors}_{t.lanes}"}
    outer, reduced = _strides(b)
    pack = Emitted(_PACK.format(**names), [b.buffer, packed], [n, k, outer, reduced, b.batch_stride, panels], batch * panels,
                   k * (t.vectors * t.lanes), [], False)
    rows = _block_rows(m, t)
    blocks, groups = types.ceildiv(m, rows), types.ceildiv(panels, GROUP)
    outer, reduced = _strides(a)
    sizes: list[Size] = [m, n, k, outer, reduced, a.batch_stride, panels, blocks, groups, rows]
    text = (_BY_ROWS if reduced == 1 and (types.hint(m) or 0) >= t.rows and types.less(m, t.rows) is False else _MULTIPLY).format(**names,
                                                                                                                                  MC=rows)
    return [pack,
            Emitted(text, [a.buffer, packed, out], sizes, batch * blocks * groups,
                    rows * k * min(GROUP * t.vectors * t.lanes, types.hint(n) or 1), [], False,
                          flops=2 * batch * m * n * k)]


def _block_rows(m: Size, t: Tile) -> int:
    """Rows of A that a task packs: small products are cut finer, so that every core gets some."""
    return t.rows * (8 if (types.hint(m) or 0) > 32 * t.rows else 2)


_PACK = """# panels_{T}
def kernel(B, S, lo, hi):
    b = buf(B, 0)
    q = buf(B, 1)
    n = S[0]
    k = S[1]
    step = S[2]
    down = S[3]
    panels = S[5]
    for o in range(lo, hi):
        j = o % panels * {NR}
        cols = min({NR}, n - j)
        p = advance(q, o * k * {NR} * {W})
        s = advance(b, (o // panels * S[4] + j * step) * {W})
        if cols < {NR}:
            for r in range(k * {NR}):
                st_{T}(p, r, to_{T}(0), 1)
        if step == 1 and cols == {NR}:
            for r in range(k):
                for i in range({NR}):
                    st_{T}(p, r * {NR} + i, ld_{T}(s, r * down + i, 0), 1)
        else:
            for i in range(cols):
                for r in range(k):
                    st_{T}(p, r * {NR} + i, ld_{T}(s, i * step + r * down, 0), 1)
    return 0
"""

_MULTIPLY = """# gemm_{T}
def kernel(B, S, lo, hi):
    m = S[0]
    n = S[1]
    k = S[2]
    down = S[3]
    step = S[4]
    panels = S[6]
    blocks = S[7]
    groups = S[8]
    left = stack_{T}({MC} * {KC})
    edge = stack_{T}({MR} * {NR})
    for o in range(lo, hi):
        i = o // groups
        batch = i // blocks
        top = i % blocks * {MC}
        mc = min({MC}, m - top)
        first = o % groups * {GROUP}
        last = min(first + {GROUP}, panels)
        a = advance(buf(B, 0), (batch * S[5] + top * down) * {W})
        b = advance(buf(B, 1), batch * panels * k * {NR} * {W})
        c = advance(buf(B, 2), (batch * m + top) * n * {W})
        for kk in range(0, k, {KC}):
            kc = min({KC}, k - kk)
            for ip in range(0, mc, {MR}):
                rows = min({MR}, mc - ip)
                p = advance(left, ip * kc * {W})
                s = advance(a, (ip * down + kk * step) * {W})
                if rows < {MR}:
                    for r in range(kc * {MR}):
                        st_{T}(p, r, to_{T}(0), 1)
                for r in range(kc):
                    for x in range(rows):
                        st_{T}(p, r * {MR} + x, ld_{T}(s, x * down + r * step, 0), 1)
            for jp in range(first, last):
                cols = min({NR}, n - jp * {NR})
                right = advance(b, (jp * k + kk) * {NR} * {W})
                for ip in range(0, mc, {MR}):
                    rows = min({MR}, mc - ip)
                    p = advance(left, ip * kc * {W})
                    q = advance(c, (ip * n + jp * {NR}) * {W})
                    whole = rows == {MR} and cols == {NR}
                    to, ldc, add = edge, {NR}, 0
                    if whole:
                        to, ldc, add = q, n, kk
                    {TILE}(kc, p, 0, right, to, ldc, add)
                    if not whole:
                        for x in range(rows):
                            for y in range(cols):
                                v = ld_{T}(edge, x * {NR} + y, 99)
                                if kk > 0:
                                    v = v + ld_{T}(q, x * n + y, 99)
                                st_{T}(q, x * n + y, v, 99)
    return 0
"""

# A stored row by row needs no packing: each row is a stream.  The last rows are computed as a whole tile that starts
# earlier, of which only the missing ones are kept (m is at least the tile's rows).
_BY_ROWS = """# gemm_{T}_rows
def kernel(B, S, lo, hi):
    m = S[0]
    n = S[1]
    k = S[2]
    down = S[3]
    panels = S[6]
    blocks = S[7]
    groups = S[8]
    edge = stack_{T}({MR} * {NR})
    for o in range(lo, hi):
        i = o // groups
        batch = i // blocks
        top = i % blocks * {MC}
        mc = min({MC}, m - top)
        first = o % groups * {GROUP}
        last = min(first + {GROUP}, panels)
        a = advance(buf(B, 0), (batch * S[5] + top * down) * {W})
        b = advance(buf(B, 1), batch * panels * k * {NR} * {W})
        c = advance(buf(B, 2), (batch * m + top) * n * {W})
        for kk in range(0, k, {KC}):
            kc = min({KC}, k - kk)
            for jp in range(first, last):
                cols = min({NR}, n - jp * {NR})
                right = advance(b, (jp * k + kk) * {NR} * {W})
                for ip in range(0, mc, {MR}):
                    rows = min({MR}, mc - ip)
                    start = min(ip, m - top - {MR})
                    p = advance(a, (start * down + kk) * {W})
                    q = advance(c, (ip * n + jp * {NR}) * {W})
                    whole = rows == {MR} and cols == {NR}
                    to, ldc, add = edge, {NR}, 0
                    if whole:
                        to, ldc, add = q, n, kk
                    {TILE}(kc, p, down, right, to, ldc, add)
                    if not whole:
                        for x in range(rows):
                            for y in range(cols):
                                v = ld_{T}(edge, (x + ip - start) * {NR} + y, 99)
                                if kk > 0:
                                    v = v + ld_{T}(q, x * n + y, 99)
                                st_{T}(q, x * n + y, v, 99)
    return 0
"""
