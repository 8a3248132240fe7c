"""A contraction's operands as loads: where they read, and under which conditions zero stands for what they do not (rank 4)."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Sequence

from .... import types
from ....types import DType, Size
from ... import ir, simplify
from ...contract import Product
from ...image import conjuncts
from ...ir import Axis, Buffer, Expr
from ...simplify import Affine


@dataclass
class Read:
    """A load: its place along each dimension without clamps, and whether zero stands for what lies outside."""

    buffer: Buffer
    places: list[Affine]
    masked: bool
    multiples: list[tuple[Affine, Affine]]  # pairs of equal expressions that zero depends on as well

    @property
    def steps(self) -> list[Size]:
        """Of the row-major buffer, per dimension."""
        out: list[Size] = []
        step: Size = 1
        for n in reversed(self.buffer.sizes):
            out.insert(0, step)
            step = step * n
        return out

    def offset(self) -> Affine:
        total = Affine({}, 0)
        for f, step in zip(self.places, self.steps):
            total = total.plus(f, step)
        return simplify.affine(total.expr())

    def stride(self, a: Axis | None) -> Size:
        return 0 if a is None else self.offset().terms.get(ir.axis(a), 0)

    def plain(self) -> bool:
        """Whether it is an array read with strides, every element of it."""
        return not self.masked and all(e.op == "axis" for e in self.offset().terms)


@dataclass
class Problem:
    """Axes of the result with their strides in it, summed axes, and the two loads."""

    outs: dict[Axis, Size]
    reduced: list[Axis]
    reads: list[Read]
    compute: DType
    stored: DType
    shared: list[Axis] = field(default_factory=list)

    @staticmethod
    def of(p: Product, out: DType | None) -> Problem | None:
        exprs, outs, reduced = [p.a.expr, p.b.expr], [*p.batch, *p.a.outer, *p.b.outer], list(p.a.reduced)
        while (cut := _to_cut(exprs)) is not None:
            exprs, outs, reduced = _cut(*cut, exprs, outs, reduced)
        reads = [_read(e) for e in exprs]
        x, y = reads
        if x is None or y is None or x.buffer.dtype is not y.buffer.dtype or x.buffer.dtype.compute is not p.dtype or p.dtype.kind != "f":
            return None
        strides: dict[Axis, Size] = {}
        step: Size = 1
        for a in reversed(outs):
            strides[a] = step
            step = step * a.extent
        new = Problem({a: strides[a] for a in outs}, reduced, [x, y], p.dtype, out or x.buffer.dtype)
        new.shared = [a for a in outs if all(_mentions(r, a) for r in (x, y))]
        return new

    def result(self, axes: Sequence[Axis | None]) -> tuple[Size, ...]:
        return tuple(0 if a is None else self.outs[a] for a in axes)


def _mentions(r: Read, a: Axis) -> bool:
    return any(a in ir.axes_in(*f.terms) for f in r.places)


def _to_cut(exprs: Sequence[Expr]) -> tuple[Axis, int] | None:
    """An axis that is divided by a number that divides its extent; not one of which only the multiples count."""
    strided = ir.axes_in(*[e for e in ir.walk(*exprs) if e.op == "eq"])
    for e in ir.walk(*exprs):
        if e.op in ("floordiv", "mod") and e.args[0].op == "axis" and e.args[1].op == "const" and e.args[0].data not in strided:
            a, n = e.args[0].data, e.args[1].data
            if n > 1 and types.same(types.floordiv(a.extent, n) * n, a.extent) is True:
                return a, n
    return None


def _cut(a: Axis, n: int, exprs: Sequence[Expr], outs: list[Axis], reduced: list[Axis]) -> tuple[list[Expr], list[Axis], list[Axis]]:
    """The axis as (quotient, remainder) by n; a quotient that is always 0 is no axis."""
    whole, rest = types.floordiv(a.extent, n), Axis(n)
    parts = [rest] if types.same(whole, 1) is True else [Axis(whole), rest]
    value = ir.axis(rest) if len(parts) == 1 else ir.axis(parts[0]) * n + ir.axis(rest)

    def change(e: Expr, args: tuple[Expr, ...]) -> Expr:
        new = ir.rebuilt(e, args)
        return simplify.affine(new).expr() if new.op in ("floordiv", "mod", "sub") and new.dtype is types.int64 else new
    swap = lambda axes: [x for b in axes for x in (parts if b is a else [b])]  # noqa: E731
    return [ir.rewrite(ir.substitute(e, {a: value}), change) for e in exprs], swap(outs), swap(reduced)


# ---------------------------------------------------------------- one load


Fact = tuple[str, Affine, Affine]


def key(f: Affine) -> tuple:
    return frozenset(f.terms.items()), f.const


def _read(e: Expr) -> Read | None:
    """The load under conditions that hold exactly where it lies inside its buffer; None for anything else."""
    facts: list[Fact] = []
    while e.op == "select" and e.args[2].op == "const" and e.args[2].data == 0:
        known = list(facts)
        for c in conjuncts(e.args[0]):
            if c.op not in ("ge", "lt", "eq") or c.args[0].dtype is not types.int64:
                return None
            facts.append((c.op, _unclamped(c.args[0], known), _unclamped(c.args[1], known)))
        e = e.args[1]
    if e.op != "load" or e.data.dtype not in types.FLOAT:
        return None
    places = [_unclamped(i, facts) for i in e.args]
    bounds = [f for f in facts if f[0] != "eq"]
    if not all(_implied(f, places, e.data.sizes) for f in bounds):
        return None
    return Read(e.data, places, bool(facts), [(a, b) for op, a, b in facts if op == "eq"])


def _unclamped(e: Expr, facts: Sequence[Fact]) -> Affine:
    """The index without the clamps into [0, n) that change nothing where the facts hold."""
    def change(e: Expr, args: tuple[Expr, ...]) -> Expr:
        if e.op == "max" and args[0].op == "min" and args[1].op == "const" and args[1].data == 0:
            place, last = simplify.affine(args[0].args[0]), simplify.affine(args[0].args[1])
            low = any(op == "ge" and key(f) == key(place) and not b.terms and b.const == 0 for op, f, b in facts)
            high = any(op == "lt" and key(f) == key(place) and not b.terms and b.const == last.const + 1 for op, f, b in facts)
            return args[0].args[0] if low and high and not last.terms else ir.rebuilt(e, args)
        return ir.rebuilt(e, args)
    return simplify.affine(ir.rewrite(e, change))


def _implied(fact: Fact, places: Sequence[Affine], sizes: Sequence[Size]) -> bool:
    """Whether the bound holds wherever all places lie inside the buffer."""
    op, f, edge = fact
    if edge.terms:
        return False
    for place, n in zip(places, sizes):
        apart = f.plus(place, -1)
        if not apart.terms:
            room = apart.const - edge.const if op == "ge" else edge.const - n - apart.const
            return isinstance(room, int) and room >= 0
    return False


def runs(axes: Sequence[Axis], *strides) -> list[list[Axis]]:
    """The axes in groups that run through memory like one axis, in every one of `strides`."""
    out: list[list[Axis]] = []
    for a in axes:
        last = out[-1] if out else None
        if last is not None and all(types.same(s(last[-1]), s(a) * a.extent) is True for s in strides):
            last.append(a)
        else:
            out.append([a])
    return out
