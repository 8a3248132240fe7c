"""Rules for primitives: identities, cheaper forms, moves that combine or disappear.

They keep values: exactly for integers and booleans, to rounding for floats, NaN and infinities included; only the sign of
a zero may change.  So x * 0 = 0 holds for integers only, and x - x = 0 for none (NaN).  docs/rules.md explains how to
write one.
"""
from __future__ import annotations

import weakref
from typing import Any

import numpy as np

from .. import graph, types
from ..codegen import ir
from ..graph import Operation, Tensor
from ..ops import opdef
from ..ops.contraction import conv_geometry
from ..ops.opdef import broadcast_index
from ..types import COMPLEX, FLOAT, INTEGER, NUMERIC, DType
from .fold import size_vector
from .rewrite import op, op_rule, rule, same_shape, splat, table

ALGEBRA = table("algebra")
REAL = FLOAT + INTEGER


def add(name: str, pattern: Any, replacement: Any, **facts: Any) -> None:
    rule(name, pattern, replacement, table=ALGEBRA, **facts)


# ---------------------------------------------------------------- neutral elements

add("x + 0 = x", lambda x: op.Add(x, 0), lambda x: x, exact=True)
add("x - 0 = x", lambda x: op.Sub(x, 0), lambda x: x, exact=True)
add("0 - x = -x", lambda x: op.Sub(0, x), lambda x: op.Neg(x), exact=True)
add("x * 1 = x", lambda x: op.Mul(x, 1), lambda x: x, exact=True)
add("x / 1 = x", lambda x: op.RealDiv(x, 1), lambda x: x, exact=True)
add("x // 1 = x", lambda x: op.FloorDiv(x, 1), lambda x: x, dtypes=INTEGER, exact=True)
add("x * 0 = 0", lambda x: op.Mul(x, 0), lambda x: filled(x, 0), dtypes=INTEGER, exact=True)
add("x ** 1 = x", lambda x: op.Pow(x, 1), lambda x: x, exact=True)
add("x and True = x", lambda x: op.LogicalAnd(x, opdef.constant(True)), lambda x: x, exact=True)
add("x or False = x", lambda x: op.LogicalOr(x, opdef.constant(False)), lambda x: x, exact=True)


def filled(like: Tensor, value: Any) -> Tensor:
    """A tensor of the shape of `like` that is `value` everywhere."""
    return op.Fill(size_vector(like.sizes), opdef.constant(value, like.dtype))


# ---------------------------------------------------------------- signs

add("-(-x) = x", lambda x: op.Neg(op.Neg(x)), lambda x: x, exact=True)
add("x * -1 = -x", lambda x: op.Mul(x, -1), lambda x: op.Neg(x), exact=True)
add("x / -1 = -x", lambda x: op.RealDiv(x, -1), lambda x: op.Neg(x), exact=True)
add("x + -y = x - y", lambda x, y: op.Add(x, op.Neg(y)), lambda x, y: op.Sub(x, y), exact=True)
add("x - -y = x + y", lambda x, y: op.Sub(x, op.Neg(y)), lambda x, y: op.Add(x, y), exact=True)
add("-(x - y) = y - x", lambda x, y: op.Neg(op.Sub(x, y)), lambda x, y: op.Sub(y, x), exact=True)
add("-x * -y = x * y", lambda x, y: op.Mul(op.Neg(x), op.Neg(y)), lambda x, y: op.Mul(x, y), exact=True)
add("-x / -y = x / y", lambda x, y: op.RealDiv(op.Neg(x), op.Neg(y)), lambda x, y: op.RealDiv(x, y))
add("square(-x) = square(x)", lambda x: op.Square(op.Neg(x)), lambda x: op.Square(x), exact=True)
add("|-x| = |x|", lambda x: op.Abs(op.Neg(x)), lambda x: op.Abs(x), dtypes=FLOAT + types.SIGNED, exact=True)
add("||x|| = |x|", lambda x: op.Abs(op.Abs(x)), lambda x: op.Abs(x), dtypes=REAL, exact=True)
add("square(|x|) = square(x)", lambda x: op.Square(op.Abs(x)), lambda x: op.Square(x), dtypes=REAL, exact=True)
add("|square(x)| = square(x)", lambda x: op.Abs(op.Square(x)), lambda x: op.Square(x), dtypes=FLOAT, exact=True)
add("cos(-x) = cos(x)", lambda x: op.Cos(op.Neg(x)), lambda x: op.Cos(x), exact=True)

# ---------------------------------------------------------------- powers, roots, quotients

add("x * x = square(x)", lambda x: op.Mul(x, x), lambda x: op.Square(x), exact=True)
add("x ** 2 = square(x)", lambda x: op.Pow(x, 2), lambda x: op.Square(x))
add("x ** 3 = square(x) * x", lambda x: op.Pow(x, 3), lambda x: op.Mul(op.Square(x), x), dtypes=REAL)
add("x ** 0.5 = sqrt(x)", lambda x: op.Pow(x, 0.5), lambda x: op.Sqrt(x), dtypes=FLOAT, domain=(0.1, 4.0))
add("x ** -0.5 = rsqrt(x)", lambda x: op.Pow(x, -0.5), lambda x: op.Rsqrt(x), dtypes=FLOAT, domain=(0.1, 4.0))
add("x ** -1 = 1 / x", lambda x: op.Pow(x, -1), lambda x: op.Reciprocal(x), dtypes=FLOAT, domain=(0.1, 4.0))
add("1 / x = reciprocal(x)", lambda x: op.RealDiv(1, x), lambda x: op.Reciprocal(x), dtypes=FLOAT)
add("1 / sqrt(x) = rsqrt(x)", lambda x: op.Reciprocal(op.Sqrt(x)), lambda x: op.Rsqrt(x), dtypes=FLOAT, domain=(0.1, 4.0))
add("x / sqrt(y) = x * rsqrt(y)", lambda x, y: op.RealDiv(x, op.Sqrt(y)), lambda x, y: op.Mul(x, op.Rsqrt(y)), dtypes=FLOAT,
    domain=(0.1, 4.0))


def power_of_two(c: Tensor) -> bool:
    """Whether multiplying by 1/c is as exact as dividing by c."""
    value = c.op.attrs["value"] if c.dtype is not types.bfloat16 else types.bf16_decode(c.op.attrs["value"])
    mantissa, exponent = np.frexp(value)
    return bool((np.abs(mantissa) == 0.5).all() and (np.abs(exponent) < 14).all())


add("x / c = x * (1 / c)", lambda x, c: op.RealDiv(x, c), lambda x, c: op.Mul(x, op.Reciprocal(c)), where=lambda c: power_of_two(c),
    dtypes=FLOAT,
    exact=True, samples=[{"c": np.array([[2.0, 0.25, -8.0]])}, {"c": np.array(4.0)}])

# ---------------------------------------------------------------- constants together (exact for integers only)

add("(x + c1) + c2 = x + (c1 + c2)", lambda x, c1, c2: op.Add(op.Add(x, c1), c2), lambda x, c1, c2: op.Add(x, op.Add(c1, c2)),
    dtypes=INTEGER, exact=True)
add("(x * c1) * c2 = x * (c1 * c2)", lambda x, c1, c2: op.Mul(op.Mul(x, c1), c2), lambda x, c1, c2: op.Mul(x, op.Mul(c1, c2)),
    dtypes=INTEGER, exact=True)
add("x - c = x + -c", lambda x, c: op.Sub(x, c), lambda x, c: op.Add(x, op.Neg(c)), where=lambda x: x.op.type == "Add", dtypes=INTEGER,
    exact=True,
    samples=[])  # only below another sum: tested with the program it is for
add("max(max(x, c1), c2) = max(x, max(c1, c2))", lambda x, c1, c2: op.Maximum(op.Maximum(x, c1), c2),
    lambda x, c1, c2: op.Maximum(x, op.Maximum(c1, c2)),
    exact=True)
add("min(min(x, c1), c2) = min(x, min(c1, c2))", lambda x, c1, c2: op.Minimum(op.Minimum(x, c1), c2),
    lambda x, c1, c2: op.Minimum(x, op.Minimum(c1, c2)),
    exact=True)

# ---------------------------------------------------------------- choices and logic

add("max(x, x) = x", lambda x: op.Maximum(x, x), lambda x: x, exact=True)
add("min(x, x) = x", lambda x: op.Minimum(x, x), lambda x: x, exact=True)
add("x and x = x", lambda x: op.LogicalAnd(x, x), lambda x: x, exact=True)
add("x or x = x", lambda x: op.LogicalOr(x, x), lambda x: x, exact=True)
add("not not x = x", lambda x: op.LogicalNot(op.LogicalNot(x)), lambda x: x, exact=True)
add("not x == y is x != y", lambda x, y: op.LogicalNot(op.Equal(x, y)), lambda x, y: op.NotEqual(x, y), exact=True)
add("not x != y is x == y", lambda x, y: op.LogicalNot(op.NotEqual(x, y)), lambda x, y: op.Equal(x, y), exact=True)
# NaN is neither less nor greater-or-equal: integers only.
for less, other in (("Less", "GreaterEqual"), ("LessEqual", "Greater"), ("Greater", "LessEqual"), ("GreaterEqual", "Less")):
    add(f"not {less} is {other}", lambda x, y, less=less: op.LogicalNot(getattr(op, less)(x, y)),
        lambda x, y, other=other: getattr(op, other)(x, y),
        dtypes=INTEGER, exact=True)
add("select(b, x, x) = x", lambda b, x: op.Select(b, x, x), lambda x: x, samples=[{"b": "bool"}], exact=True)
add("select(True, x, y) = x", lambda x, y: op.Select(True, x, y), lambda x: x, exact=True)
add("select(False, x, y) = y", lambda x, y: op.Select(False, x, y), lambda y: y, exact=True)
add("select(not b, x, y) = select(b, y, x)", lambda b, x, y: op.Select(op.LogicalNot(b), x, y), lambda b, x, y: op.Select(b, y, x),
    samples=[{"b": "bool"}], exact=True)
add("relu(relu(x)) = relu(x)", lambda x: op.Relu(op.Relu(x)), lambda x: op.Relu(x), exact=True)
add("max(x, 0) of relu = relu(x)", lambda x: op.Maximum(op.Relu(x), 0), lambda x: op.Relu(x), exact=True)

# ---------------------------------------------------------------- complex numbers and bits

add("conj(conj(x)) = x", lambda x: op.Conj(op.Conj(x)), lambda x: x, dtypes=COMPLEX, exact=True)
add("real(complex(x, y)) = x", lambda x, y: op.Real(op.Complex(x, y)), lambda x: x, exact=True)
add("imag(complex(x, y)) = y", lambda x, y: op.Imag(op.Complex(x, y)), lambda y: y, exact=True)
add("invert(invert(x)) = x", lambda x: op.Invert(op.Invert(x)), lambda x: x, exact=True)


def lossless(a: DType, b: DType) -> bool:
    """Whether every value of dtype `a` is one of dtype `b`."""
    if types.bfloat16 in (a, b):
        return a is b or a is types.bfloat16 and b in (types.float32, types.float64) + COMPLEX
    return np.can_cast(a.np, b.np, "safe") and not (a.kind in "iu" and a.size == 8 and b.kind in "fc")


add("cast(cast(x)) = cast(x)", lambda x, *, a, b: op.Cast(op.Cast(x, DstT=a), DstT=b),
    lambda x, b: op.Cast(x, DstT=b), where=lambda x, a: lossless(x.dtype, a), dtypes=REAL + (types.bool_,), exact=True,
    samples=[{"x": "int8", "a": types.float32, "b": types.int32},
             {"x": "bool", "a": types.float32, "b": types.int64}])

# ---------------------------------------------------------------- moves


def full_perm(perm: Any, rank: int) -> tuple[int, ...]:
    return tuple(reversed(range(rank))) if perm is None else tuple(p % rank for p in perm)


def _twice(x: Tensor, p: Any, q: Any) -> Tensor:
    inner, outer = (full_perm(v, len(x.sizes)) for v in (p, q))  # type: ignore[arg-type]
    return op.Transpose(x, perm=tuple(inner[k] for k in outer))


def swaps_last(x: Tensor, p: Any) -> bool:
    """Whether transposing by `p` only exchanges the last two axes."""
    rank = len(x.sizes)  # type: ignore[arg-type]
    return rank >= 2 and full_perm(p, rank) == (*range(rank - 2), rank - 1, rank - 2)


add("transpose(transpose(x)) = transpose(x)", lambda x, *, p, q: op.Transpose(op.Transpose(x, perm=p), perm=q), _twice, exact=True,
    samples=[{"p": (1, 0), "q": None}, {"x": (2, 3, 4), "p": (1, 2, 0), "q": (0, 2, 1)}])

add("reverse(reverse(x)) = x", lambda x, *, axis: op.ReverseV2(op.ReverseV2(x, axis=axis), axis=axis), lambda x: x, exact=True,
    samples=[{"axis": (0,)}, {"axis": (0, 1)}])

for product, batch in (("MatMul", ()), ("BatchMatMul", (2,))):
    A, B = (*batch, 3, 2), (*batch, 3, 4)
    flags = {"ta": False, "tb": False, "ca": False, "cb": False}
    add(f"transposed left operand of {product}",
        lambda a, b, *, p, ta, tb, ca, cb, f=product: getattr(op, f)(op.Transpose(a, perm=p), b, transpose_a=ta, transpose_b=tb, conj_a=ca,
                                                                     conj_b=cb),
        lambda a, b, ta, tb, ca, cb, f=product: getattr(op, f)(a, b, transpose_a=not ta, transpose_b=tb, conj_a=ca, conj_b=cb),
        where=lambda a, p: swaps_last(a, p), samples=[{"a": A, "b": B, "p": (*range(len(batch)), -1, -2), **flags}])
    add(f"transposed right operand of {product}",
        lambda a, b, *, p, ta, tb, ca, cb, f=product: getattr(op, f)(a, op.Transpose(b, perm=p), transpose_a=ta, transpose_b=tb, conj_a=ca,
                                                                     conj_b=cb),
        lambda a, b, ta, tb, ca, cb, f=product: getattr(op, f)(a, b, transpose_a=ta, transpose_b=not tb, conj_a=ca, conj_b=cb),
        where=lambda b, p: swaps_last(b, p), samples=[{"a": A, "b": B, "p": (*range(len(batch)), -1, -2), **flags, "ta": True, "tb": True}])
    add(f"transposed result of {product}",
        lambda a, b,
        *, p, ta, tb, ca, cb, f=product: op.Transpose(getattr(op, f)(a, b, transpose_a=ta, transpose_b=tb, conj_a=ca, conj_b=cb), perm=p),
        lambda a, b, ta, tb, ca, cb, f=product: getattr(op, f)(b, a, transpose_a=not tb, transpose_b=not ta, conj_a=cb, conj_b=ca),
        where=lambda a, b, p: len(a.sizes) == len(b.sizes) and swaps_last(a, p),
        samples=[{"a": A, "b": B, "p": (*range(len(batch)), -1, -2), **flags, "ta": True}])

# Ops that keep the row-major order of their first input.
KEEP_ORDER = ("Reshape", "ReshapeLike", "ExpandDims", "Squeeze")


@op_rule("reshape(reshape(x)) = reshape(x)", lambda d: d.type in KEEP_ORDER, table=ALGEBRA,
         examples=lambda: [lambda x: op.Reshape(op.Reshape(x, [3, 2]), [6]), lambda x: op.ExpandDims(op.Reshape(x, [6]), axis=1),
                           lambda x: op.Squeeze(op.ExpandDims(x, axis=0), axis=(0,)),
                           lambda x: op.ReshapeLike(op.ExpandDims(x, axis=0), x)])
def reshape_twice(o: Operation) -> Tensor | None:
    inner, sizes = o.inputs[0].op, o.outputs[0].sizes
    if inner.type not in KEEP_ORDER or sizes is None or any(map(types.is_unknown, sizes)):
        return None
    x = inner.inputs[0]
    return x if same_shape(x.sizes, sizes) else _reshaped(x, sizes)


def _reshaped(x: Tensor, sizes: Any) -> Tensor:
    return op.Reshape(x, size_vector(sizes))


# ---------------------------------------------------------------- reductions


def _is_reduction(d: opdef.OpDef) -> bool:
    return d.family == "reduction" and d.combine is not None


def _axes(o: Operation) -> tuple[int, ...]:
    rank = len(o.inputs[0].sizes)  # type: ignore[arg-type]
    return tuple(range(rank)) if o.attrs["axis"] is None else tuple(a % rank for a in o.attrs["axis"])


@op_rule("axes of a reduction in order, counted from the front", _is_reduction, table=ALGEBRA,
         examples=lambda: [lambda x: op.Sum(x, axis=(-1,), keepdims=True), lambda x: op.Max(x, axis=None, keepdims=False)])
def reduction_axes(o: Operation) -> Tensor | None:
    """So that the same reduction written in two ways is one."""
    axes = tuple(sorted(set(_axes(o))))
    return None if o.attrs["axis"] == axes else graph.get_default_graph().create_op(o.opdef, o.inputs, {**o.attrs, "axis": axes}).outputs[0]


@op_rule("a reduction over axes of size 1 is a reshape", _is_reduction, table=ALGEBRA,
         examples=lambda: [lambda x: op.Sum(op.ExpandDims(x, axis=1), axis=(1,), keepdims=False),
                           lambda x: op.Max(op.ExpandDims(x, axis=0), axis=(0,), keepdims=True)])
def reduce_nothing(o: Operation) -> Tensor | None:
    x, y = o.inputs[0], o.outputs[0]
    if x.dtype is not y.dtype or len(o.inputs) != 1 or any(x.sizes[a] != 1 for a in _axes(o)):  # type: ignore[index]
        return None
    return x if same_shape(x.sizes, y.sizes) else _reshaped(x, y.sizes)


@op_rule("a reduction of the same reduction is one", _is_reduction, table=ALGEBRA,
         examples=lambda: [lambda x: op.Sum(op.Sum(x, axis=(0,), keepdims=False), axis=(0,), keepdims=False),
                           lambda x: op.Max(op.Max(x, axis=(1,), keepdims=True), axis=(0,), keepdims=True),
                           lambda x: op.Sum(op.Sum(x, axis=(1,), keepdims=True), axis=None, keepdims=False)])
def reduce_twice(o: Operation) -> Tensor | None:
    inner = o.inputs[0].op
    if inner.opdef is not o.opdef or len(inner.inputs) != 1 or o.attrs.keys() != {"axis", "keepdims"}:
        return None
    x, first, second, keep = inner.inputs[0], _axes(inner), _axes(o), o.attrs["keepdims"]
    if inner.attrs["keepdims"] != keep and not (inner.attrs["keepdims"] and set(first) <= set(second)):
        return None
    left = [a for a in range(len(x.sizes)) if a not in first]  # type: ignore[arg-type]
    axes = {*first, *(second if inner.attrs["keepdims"] else [left[a] for a in second])}
    return o.opdef(x, axis=tuple(sorted(axes)), keepdims=keep)


def _one_term(d: opdef.OpDef) -> bool:
    return d.type in ("MatMul", "BatchMatMul")


@op_rule("a matrix product over one term is elementwise", _one_term, table=ALGEBRA,
         examples=lambda: [lambda x: op.MatMul(op.Reshape(x, [6, 1]), op.Reshape(x, [1, 6])),
                           lambda x: op.MatMul(op.Reshape(x, [1, 6]), op.Reshape(x, [1, 6]), transpose_a=True),
                           lambda x: op.BatchMatMul(op.Reshape(x, [2, 3, 1]), op.Reshape(x, [2, 3, 1]), transpose_b=True)])
def outer_product(o: Operation) -> Tensor | None:
    (a, b), flip = o.inputs, (o.attrs["transpose_a"], o.attrs["transpose_b"])
    if o.attrs["conj_a"] or o.attrs["conj_b"] or a.dtype is not o.outputs[0].dtype or a.sizes[-2 if flip[0] else -1] != 1:  # type: ignore[index]
        return None
    column, row = [_reshaped(t, (*t.sizes[:-2], t.sizes[-1], t.sizes[-2])) if f else t for t, f in zip((a, b), flip)]  # type: ignore[index]
    return op.Mul(column, row)


CONVOLUTIONS = ("Conv2D", "Conv2DBackpropInput", "Conv2DBackpropFilter")


def _row(t: Tensor, place: int, width: Any) -> Tensor:
    """`t` with the axis `place` of size `width` and the one behind it as one."""
    sizes = (*t.sizes[:place], width * t.sizes[place + 1], *t.sizes[place + 2:])  # type: ignore[index]
    return _reshaped(t, sizes)


@op_rule("a filter as wide as its image sees rows of channels", lambda d: d.type in CONVOLUTIONS, table=ALGEBRA, examples=lambda: [
    lambda x: op.Conv2D(op.Reshape(x, [1, 3, 2, 1]), op.Reshape(x, [1, 2, 1, 3]), strides=(1, 1), padding="VALID", dilations=(1, 1),
                        groups=1)])
def whole_rows(o: Operation) -> Tensor | None:
    """Convolutions of sentences: one window along the last axis, which then is an axis of channels, of a convolution over the others."""
    at, g = o.attrs, conv_geometry(o)
    width = g.spatial[-1]
    if len(g.spatial) < 2 or g.groups != 1 or not isinstance(width, int) or width < 2 or g.kernel[-1] != width or g.pads[-1] != (0, 0) \
            or at["dilations"][-1] != 1:
        return None
    rest = {"strides": at["strides"][:-1], "dilations": at["dilations"][:-1], "groups": 1,
            "padding": at["padding"] if isinstance(at["padding"], str) else at["padding"][:-1]}
    last = len(g.spatial)  # the place of the axis in images; in filters it is one before
    sizes = o.outputs[0].sizes
    if o.type == "Conv2D":
        found = o.opdef(_row(o.inputs[0], last, width), _row(o.inputs[1], last - 1, width), **rest)
        return _reshaped(found, sizes)
    dy = _reshaped(o.inputs[2], (*g.y[:-2], g.y[-1]))
    if o.type == "Conv2DBackpropInput":
        inner = size_vector((*g.x[:-2], width * g.x[-1]))
        return _reshaped(o.opdef(inner, _row(o.inputs[1], last - 1, width), dy, **rest), sizes)
    inner = size_vector((*g.w[:-3], width * g.w[-2], g.w[-1]))
    return _reshaped(o.opdef(_row(o.inputs[0], last, width), inner, dy, **rest), sizes)


# ---------------------------------------------------------------- broadcasting


class _Move:
    """What a movement op does: its element at `index` is the element of input `source` at `at`."""

    def __init__(self, source: int, at: list[ir.Expr], index: list[ir.Expr]):
        self.source, self.at, self.index = source, at, index


_moves: weakref.WeakKeyDictionary[Operation, _Move | None] = weakref.WeakKeyDictionary()


def move_of(o: Operation) -> _Move | None:
    """How an op moves elements, when each element of its output is just one of its input's: its kernel expression says so."""
    d = o.opdef
    if d.family != "movement" or d._lower is None or d._scatter is not None or len(o.outputs) != 1 or d.effect is not None:
        return None
    if o not in _moves:
        _moves[o] = _find_move(o)
    return _moves[o]


def _find_move(o: Operation) -> _Move | None:
    sizes = o.outputs[0].sizes
    if sizes is None or any(t.sizes is None for t in o.inputs):
        return None
    index = [ir.index_const(0) if n == 1 else ir.axis(ir.Axis(n)) for n in sizes]
    reads: list[Any] = []

    def read(i: int, at: Any) -> ir.Expr:
        reads.append((i, list(at), ir.make("probe", (), o.inputs[i].dtype.compute, len(reads))))
        return reads[-1][2]

    found = o.opdef._lower(o, index, read)
    if len(reads) != 1 or found is not reads[0][2] or o.inputs[reads[0][0]].dtype is not o.outputs[0].dtype:
        return None
    return _Move(reads[0][0], reads[0][1], index)


def repeated(t: Tensor) -> Tensor | None:
    """The tensor of which `t` is a broadcast (BroadcastTo, Fill, ...), or None."""
    move = move_of(t.op)
    if move is None:
        return None
    x = t.op.inputs[move.source]
    if len(x.sizes) > len(t.sizes) or any(s not in (1, n) for s, n in zip(x.sizes[::-1], t.sizes[::-1])):  # type: ignore[arg-type, index]
        return None
    return x if all(a is b for a, b in zip(move.at, broadcast_index(x.sizes, move.index))) else None


def number(t: Tensor) -> Tensor | None:
    """A tensor of one element that every element of `t` equals, or None; looks through moves of any kind."""
    while True:
        if t.sizes and t.dtype is not types.bfloat16 and splat(t) is not None:
            return opdef.constant(t.op.attrs["value"].flat[0], t.dtype)
        move = move_of(t.op) if t.sizes else None
        if move is None:
            return None if t.sizes is None or any(n != 1 for n in t.sizes) else t
        t = t.op.inputs[move.source]


def _broadcasts(d: opdef.OpDef) -> bool:
    return d.family == "elementwise"


def _apply(o: Operation, inputs: list[Tensor]) -> Tensor | None:
    try:
        return graph.get_default_graph().create_op(o.opdef, inputs, o.attrs).outputs[0]
    except ValueError:  # an op whose operands must have one shape
        return None


@op_rule("numbers are computed once, then repeated", _broadcasts, table=ALGEBRA,
         examples=lambda: [lambda x: op.Neg(op.BroadcastTo(op.Sum(x, axis=None, keepdims=False), [4, 5])),
                           lambda x: op.Add(op.Fill([2, 2], op.Sum(x, axis=None, keepdims=False)), opdef.constant([[3, 3]], x.dtype))])
def hoist_numbers(o: Operation) -> Tensor | None:
    sizes = o.outputs[0].sizes
    if not sizes or any(map(types.is_unknown, sizes)):
        return None
    found = []
    for t in o.inputs:
        found.append(number(t))
        if found[-1] is None:
            return None
    # What is computed instead has fewer elements, or at least fewer dimensions.
    highest = len(sizes) - all(n == 1 for n in sizes)
    if any(t is None or len(t.sizes) > highest for t in found):  # type: ignore[arg-type]
        return None
    y = _apply(o, found)  # type: ignore[arg-type]
    return None if y is None else op.BroadcastTo(y, size_vector(sizes))


@op_rule("elementwise ops broadcast by themselves", lambda d: d.family == "elementwise" and (d.variadic is not None or len(d.params) > 1),
         table=ALGEBRA,
         examples=lambda: [lambda x: op.Add(x, op.BroadcastTo(opdef.constant([1, 2, 3], x.dtype), [2, 3])),
                           lambda x: op.Mul(op.Fill([2, 3], opdef.constant(2, x.dtype)), x),
                           lambda x: op.Mul(x, opdef.constant([[2, 2, 2], [2, 2, 2]], x.dtype))])
def broadcast_operands(o: Operation) -> Tensor | None:
    new = list(o.inputs)
    for i, t in enumerate(o.inputs):
        less = _unrepeated(t)
        # An operand keeps its repetition where the result needs it for its shape.
        if less is not t and _covers([*new[:i], less, *new[i + 1:]], o.outputs[0].sizes):
            new[i] = less
    return None if all(a is b for a, b in zip(new, o.inputs)) else _apply(o, new)


def _unrepeated(t: Tensor) -> Tensor:
    """What `t` repeats, or `t`."""
    one = number(t) if t.sizes else t
    if one is not None:
        return one if len(one.sizes) <= len(t.sizes) else t  # type: ignore[arg-type]
    found = repeated(t)
    return t if found is None else _unrepeated(found)


def _covers(tensors: list[Tensor], out: Any) -> bool:
    """Whether operands give a result of shape `out` by broadcasting."""
    if out is None or any(t.sizes is None for t in tensors) or not any(len(t.sizes) == len(out) for t in tensors):  # type: ignore[arg-type]
        return False
    return all(n == 1 or any(k < len(t.sizes) and t.sizes[-1 - k] == n for t in tensors) for k,
               n in enumerate(reversed(out)))  # type: ignore[arg-type, index]


# ---------------------------------------------------------------- sums

add("add_n([x]) = x", lambda x: op.AddN(x), lambda x: x, exact=True)
add("add_n([x, y]) = x + y", lambda x, y: op.AddN(x, y), lambda x, y: op.Add(x, y), dtypes=NUMERIC, exact=True)
