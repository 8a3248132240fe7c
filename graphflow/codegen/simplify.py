"""Index arithmetic: offsets as affine forms of the axes, divisions proved away, adjacent loops merged.

Knows sizes and expressions; knows no target (rank 4).
"""
from __future__ import annotations

from dataclasses import replace
from typing import Sequence

from .. import types
from ..types import Size
from . import ir
from .ir import Axis, Buffer, Expr, Kernel, Stage


class Affine:
    """`const + sum(size * atom)`; an atom is an axis expression or anything that is not affine."""

    __slots__ = ("terms", "const")

    def __init__(self, terms: dict[Expr, Size], const: Size):
        self.terms, self.const = {e: c for e, c in terms.items() if not (isinstance(c, int) and c == 0)}, const

    def plus(self, other: Affine, scale: Size = 1) -> Affine:
        terms = dict(self.terms)
        for e, c in other.terms.items():
            terms[e] = terms.get(e, 0) + c * scale
        return Affine(terms, self.const + other.const * scale)

    def expr(self) -> Expr:
        """Back as an expression: axes first, constants last."""
        out = ir.index_const(0)
        for e, c in self.terms.items():
            out = out + e * ir.size(c)
        return out + ir.size(self.const)


def affine(e: Expr) -> Affine:
    """The affine form of an int64 expression."""
    if e.op in ("const", "size"):
        return Affine({}, e.data)
    if e.op in ("add", "sub"):
        return _join(affine(e.args[0]).plus(affine(e.args[1]), 1 if e.op == "add" else -1))
    if e.op == "neg":
        return Affine({}, 0).plus(affine(e.args[0]), -1)
    if e.op == "mul":
        a, b = affine(e.args[0]), affine(e.args[1])
        for x, y in ((a, b), (b, a)):
            if not y.terms:
                return Affine({}, 0).plus(x, y.const)
    if e.op in ("floordiv", "mod"):
        divisor = affine(e.args[1])
        if not divisor.terms:
            return _divide(e.op, affine(e.args[0]), divisor.const)
    return Affine({e: 1}, 0)


def _divide(op: str, a: Affine, n: Size) -> Affine:
    """(a // n) or (a % n): the part that divides goes out; a rest in [0, n) vanishes."""
    whole, rest = Affine({}, 0), Affine({}, 0)
    for e, c in a.terms.items():
        q = _exact(c, n)
        (whole.terms if q is not None else rest.terms)[e] = q if q is not None else c
    if isinstance(a.const, int) and isinstance(n, int) and n > 0:
        whole.const, rest.const = divmod(a.const, n)
    else:
        q = _exact(a.const, n)
        whole.const, rest.const = (0, a.const) if q is None else (q, 0)
    inside = _below(rest, n)
    if op == "floordiv":
        return whole if inside else _join(whole.plus(Affine({ir.make("floordiv", (rest.expr(), ir.size(n)), types.int64): 1}, 0)))
    return rest if inside else Affine({ir.make("mod", (rest.expr(), ir.size(n)), types.int64): 1}, 0)


def _exact(c: Size, n: Size) -> Size | None:
    if isinstance(c, int) and isinstance(n, int):
        return c // n if n and c % n == 0 else None
    q = types.floordiv(c, n)
    return q if q * n == c else None


def _below(a: Affine, n: Size) -> bool:
    """Whether 0 <= a < n is certain."""
    top: Size = a.const
    if isinstance(top, types.Dim) or top < 0:
        return False
    for e, c in a.terms.items():
        limit = _limit(e)
        if limit is None or isinstance(c, int) and c < 0:
            return False
        top = top + c * (limit - 1)
    room = n - top
    return room == 1 or (isinstance(room, int) and room > 0)


def _limit(e: Expr) -> Size | None:
    """An exclusive upper bound of a non-negative atom."""
    if e.op == "axis":
        return e.data.extent
    if e.op == "mod" and e.args[1].op in ("const", "size"):
        return e.args[1].data
    return None


def _join(a: Affine) -> Affine:
    """`c*n*(x // n) + c*(x % n)` is `c*x`."""
    for e, c in a.terms.items():
        if e.op == "mod" and e.args[1].op in ("const", "size"):
            partner = ir.make("floordiv", e.args, types.int64)
            if a.terms.get(partner) == c * e.args[1].data:
                terms = {k: v for k, v in a.terms.items() if k not in (e, partner)}
                return _join(Affine(terms, a.const).plus(affine(e.args[0]), c))
    return a


# ---------------------------------------------------------------- linear kernels


def linear(kernel: Kernel) -> Kernel:
    """Every load and store through one linear offset into its buffer, and loops merged where all offsets allow."""
    stages = [_linear_stage(s, kernel.outer) for s in kernel.stages]
    kernel = replace(kernel, stages=tuple(stages))
    return _merge_loops(kernel)


def offset(buffer: Buffer, index: Sequence[Expr]) -> Expr:
    """The row-major position of `index`."""
    total = Affine({}, 0)
    stride: Size = 1
    for e, n in zip(reversed(index), reversed(buffer.sizes)):
        total = total.plus(affine(e), stride)
        stride = stride * n
    return _join(total).expr()


def _linear_expr(root: Expr) -> Expr:
    def change(e: Expr, args: tuple[Expr, ...]) -> Expr:
        if e.op == "load":
            return ir.make("at", (offset(e.data, args),), e.dtype, e.data)
        new = ir.rebuilt(e, args)
        indexing = new.dtype is types.int64 and new.op in ("add", "sub", "mul", "floordiv", "mod") and ir.axes_in(new)
        return affine(new).expr() if indexing else new
    return ir.rewrite(root, change)


def _linear_stage(s: Stage, outer: Sequence[Axis]) -> Stage:
    return replace(s, index=(offset(s.target, [_linear_expr(i) for i in s.index]),), expr=_linear_expr(s.expr),
                   init=None if s.init is None else _linear_expr(s.init))


def _merge_loops(kernel: Kernel) -> Kernel:
    """Tries to make one loop of each pair of neighbouring axes, innermost first."""
    changed = True
    while changed:
        changed = False
        for a, b in _neighbours(kernel):
            merged = _merged(kernel, a, b)
            if merged is not None:
                kernel, changed = merged, True
                break
    return kernel


def _neighbours(kernel: Kernel) -> list[tuple[Axis, Axis]]:
    """Pairs of axes that stand next to each other, in the same class, wherever either occurs."""
    outer, pairs = list(kernel.outer), []
    for s in kernel.stages:
        if s.scan is not None:
            continue
        inner = [a for a in s.axes if a not in outer]
        for group in (outer, [a for a in inner if a not in s.reduced], list(s.reduced)):
            pairs += list(zip(group, group[1:]))
    return list(dict.fromkeys(pairs))[::-1]


def _merged(kernel: Kernel, a: Axis, b: Axis) -> Kernel | None:
    """The kernel with a and b as one axis, if every offset is `c*(a*extent(b) + b) + ...`."""
    new = Axis(a.extent * b.extent)
    for s in kernel.stages:
        if s.combine == "set" or (s.combine and s.reduced and not set(s.reduced) <= set(s.axes)) or s.scan in (a, b):
            return None
        if (a in s.axes) != (b in s.axes) or (a in s.reduced) != (b in s.reduced):
            return None
        if _scatters(s) and (a in s.axes):
            return None
    mapping: dict[int, Expr] = {}
    for s in kernel.stages:
        for root in (s.expr, *s.index, *([s.init] if s.init is not None else [])):
            if not _mergeable(root, a, b, new, mapping):
                return None

    def change(e: Expr, args: tuple[Expr, ...]) -> Expr:
        return mapping[id(e)] if id(e) in mapping else ir.rebuilt(e, args)

    def swap(axes: tuple[Axis, ...]) -> tuple[Axis, ...]:
        return tuple(new if x is a else x for x in axes if x is not b)

    def changed(root: Expr) -> Expr:
        return ir.rewrite(root, change, (a, b))

    stages = [replace(s, axes=swap(s.axes), reduced=swap(s.reduced), index=tuple(map(changed, s.index)), expr=changed(s.expr),
                      init=None if s.init is None else changed(s.init)) for s in kernel.stages]
    return replace(kernel, stages=tuple(stages), outer=swap(kernel.outer))


def _scatters(s: Stage) -> bool:
    return bool(s.combine) and bool(s.reduced) and any(ir.axes_in(i) & set(s.reduced) for i in s.index)


_ARITHMETIC = {"axis", "add", "sub", "mul", "neg", "floordiv", "mod"}


def _mergeable(root: Expr, a: Axis, b: Axis, new: Axis, mapping: dict[int, Expr]) -> bool:
    """Fills `mapping` with the merged form of each offset in `root`; False if some use of a or b is no such offset."""
    stack, seen = [root], set()
    while stack:
        e = stack.pop()
        if id(e) in mapping or id(e) in seen or not ir.axes_in(e) & {a, b}:
            continue
        seen.add(id(e))
        if e.op == "axis":
            return False
        if e.dtype is types.int64 and e.op in _ARITHMETIC:  # of others (bits of an index) the operands are asked
            f = affine(e)
            ca, cb = f.terms.get(ir.axis(a), 0), f.terms.get(ir.axis(b), 0)
            rest = {k: c for k, c in f.terms.items() if k not in (ir.axis(a), ir.axis(b))}
            if not _equal(ca, cb * b.extent) or any(ir.axes_in(k) & {a, b} for k in rest):
                return False
            mapping[id(e)] = Affine({**rest, ir.axis(new): cb}, f.const).expr()
            continue
        stack.extend(e.args)
    return True


def _equal(x: Size, y: Size) -> bool:
    return x == y if isinstance(x, types.Dim) == isinstance(y, types.Dim) else False


def stride(e: Expr, a: Axis) -> Size | None:
    """The coefficient of `a` in the offset `e`; None where `a` hides inside something not affine."""
    f = affine(e)
    if any(k.op != "axis" and a in ir.axes_in(k) for k in f.terms):
        return None
    return f.terms.get(ir.axis(a), 0)
