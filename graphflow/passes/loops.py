"""Work that leaves a loop: products of rows before it, sums of products and products of what is written after it.

A value `x` of an iteration is *lifted* when all its values, one above the other, can be made outside from rows that the
iterations read; what cannot be lifted is *stacked*: the loop writes it to a slot of a new variable.  One product over all
iterations then takes the place of one in each.  Knows contractions, moves and sums (rank 4).
"""
from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from .. import types
from ..graph import Operation, Tensor
from ..ops import control as forms
from ..ops import opdef
from ..ops.pull import has_check
from .fold import Static, size_vector
from .opened import Late, Open, Variable, elements, filled, outer
from .rewrite import op as ops

# Most bytes of a stack that is made so that products can leave a loop.
STACK = 1 << 28
# A product whose result has fewer elements stays: adding it up in the loop is cheaper than keeping what it is made of.
SMALL = 16


def memory(loop: Open, sizes: Any, dtype: types.DType) -> Tensor:
    """Slots for all iterations: zeros where the loop may leave some of them out."""
    with opdef.scratch(loop.op) as g:
        kind = forms.zeros_op if loop.checked else forms.blank
        return g.create_op(kind, (), {"sizes": tuple(sizes), "dtype": dtype}).outputs[0]


# ---------------------------------------------------------------- lifting


def lifted(loop: Open, t: Tensor, k: Variable, kept: bool = True) -> Late | None:
    """All values of `t`, that of the iteration where index `k` is j in row j; None where they are made one from another.

    kept: also from what the loop writes to slots.
    """
    o = t.op
    if t is k.param:
        return Late((), lambda final: _numbers(loop.trip, t.dtype))
    if t not in loop.variant or o.opdef.effect is not None:
        return None
    if o.opdef is forms.recall:
        x, at = o.inputs
        fits = at is k.param and loop.safe(x) and types.same(x.sizes[0], loop.trip)  # type: ignore[index, arg-type]
        return outer(x) if fits else None
    make = _MOVES.get(o.opdef.type) if o.opdef.family == "movement" else _elementwise if o.opdef.family == "elementwise" else None
    if make is None or has_check(o):
        return None
    parts = [(_part(loop, x, k) if kept else lifted(loop, x, k, False)) if x in loop.variant else outer(x) for x in o.inputs]
    if any(p is None for p in parts) or not all(x in loop.variant or loop.safe(x) for x in o.inputs):
        return None
    if make is not _elementwise and any(x not in loop.variant for x in o.inputs[:_data(o)]):
        return None
    moving = [x in loop.variant for x in o.inputs]
    return _after(parts, lambda found: make(o, found, moving))  # type: ignore[arg-type]


def _part(loop: Open, t: Tensor, k: Variable) -> Late | None:
    kept = _kept(loop, t, k)
    return lifted(loop, t, k) if kept is None else Late((kept,), lambda final: final(kept))


def _data(o: Operation) -> int:
    """Leading inputs that are arrays."""
    return len(o.inputs) if o.opdef is ops.ConcatV2 else 1


def _after(parts: Sequence[Any], make: Any) -> Late:
    uses = tuple(dict.fromkeys(v for p in parts for v in p.uses))
    return Late(uses, lambda final: make([p.make(final) for p in parts]))


def _numbers(n: Any, dtype: types.DType) -> Tensor:
    """0, 1, ... n - 1."""
    def scalar(number: Any) -> Tensor:
        return Static(value=(number,), sizes=(), dtype=dtype)
    return ops.Range(scalar(0), scalar(n), scalar(1))


def _elementwise(o: Operation, found: Sequence[Tensor], moving: Sequence[bool]) -> Tensor:
    rank = len(o.outputs[0].sizes)  # type: ignore[arg-type]
    inputs = []
    for t, x, moves in zip(found, o.inputs, moving):
        missing = rank - len(x.sizes)  # type: ignore[arg-type]
        inputs.append(_reshaped(t, (t.sizes[0], *(1,) * missing, *t.sizes[1:])) if moves and missing else t)  # type: ignore[index]
    return o.opdef(*inputs, **o.attrs)


def _reshaped(t: Tensor, sizes: Any) -> Tensor:
    return ops.Reshape(t, size_vector(sizes))


def _same_shape(o: Operation, found: Sequence[Tensor], moving: Any) -> Tensor:
    return _reshaped(found[0], (found[0].sizes[0], *o.outputs[0].sizes))  # type: ignore[index, misc]


_MOVES: dict[str, Any] = {
    "Reshape": _same_shape, "ExpandDims": _same_shape, "Squeeze": _same_shape, "ReshapeLike": _same_shape,
    "ConcatV2": lambda o, found, _: ops.ConcatV2(*found, axis=o.attrs["axis"] % len(o.outputs[0].sizes) + 1),
    "Transpose": lambda o, found, _: ops.Transpose(found[0], perm=(0, *[p + 1 for p in _order(o)])),
    "StridedSlice": lambda o, found, _: ops.StridedSlice(*found, spec=(("s", None, None, 1), *o.attrs["spec"]))}


def _order(o: Operation) -> tuple[int, ...]:
    rank = len(o.outputs[0].sizes)  # type: ignore[arg-type]
    perm = o.attrs["perm"]
    return tuple(reversed(range(rank))) if perm is None else tuple(p % rank for p in perm)


def _kept(loop: Open, t: Tensor, k: Variable) -> Variable | None:
    """A variable that the loop writes all values of `t` to."""
    for v in loop.variables:
        o = loop.new(v).op
        if o.opdef is forms.put and o.inputs[0] is v.param and o.inputs[1] is k.param and o.inputs[2] is t \
                and types.same(v.init.sizes[0], loop.trip) and (loop.exact or filled(v.init) == 0):  # type: ignore[index, arg-type]
            return v
    return None


def stacked(loop: Open, t: Tensor, k: Variable) -> Late | None:
    """All values of `t`, lifted as far as that goes; None where keeping them takes too much memory."""
    if t not in loop.variant:
        return None
    found = _part(loop, t, k)
    if found is None and t.op.opdef is ops.ConcatV2 and all(x in loop.variant for x in t.op.inputs) and any(
            lifted(loop, x, k) for x in t.op.inputs):
        parts = [stacked(loop, x, k) for x in t.op.inputs]
        return None if any(p is None for p in parts) else _after(parts, lambda made: _MOVES["ConcatV2"](t.op, made, None))
    if found is None:
        sizes = (loop.trip, *t.sizes)  # type: ignore[misc]
        if not _affordable(loop, t):
            return None
        v = loop.add(f"{t.op.name}/stack", memory(loop, sizes, t.dtype), lambda param: forms.put(param, k.param, t))
        return Late((v,), lambda final: final(v), clean=True)
    return found


def _affordable(loop: Open, t: Tensor) -> bool:
    """Whether all values of `t` may be kept."""
    return not loop.compact and t.dtype.kind != "s" and elements(t) * t.dtype.size * (types.hint(loop.trip) or 0) <= STACK  # type: ignore[arg-type]


def visited_only(loop: Open, rows: Late, k: Variable, fill: Any = 0) -> Late:
    """The rows with others than the loop visited made `fill`: they may hold anything."""
    if not loop.checked or rows.clean and fill == 0:
        return rows
    count = loop.visited(k)

    def make(found: Sequence[Tensor]) -> Tensor:
        x, n, *rest = found
        inside = ops.Less(_numbers(loop.trip, n.dtype), n)
        other = rest[0] if rest else opdef.constant(fill, x.dtype)
        return ops.Select(_reshaped(inside, (loop.trip, *(1,) * (len(x.sizes) - 1))), x, other)  # type: ignore[arg-type]
    return _after([rows, count] + ([fill] if isinstance(fill, Late) else []), make)


def chosen(loop: Open) -> Variable | None:
    """The index that rows are read with."""
    indexes = loop.indexes()
    return max(indexes, key=lambda v: len(loop.readers(v.param)), default=None)


# ---------------------------------------------------------------- before the loop


def known_rows(loop: Open) -> bool:
    """rows that need no loop: what is written to slots is made of rows read, outside."""
    k = chosen(loop)
    changed = False
    for v in list(loop.variables) if k is not None else ():
        o = loop.new(v).op
        if not loop.exact and v.init.op.opdef is not forms.blank:  # rows that the loop leaves out keep what they were
            continue
        if o.opdef is not forms.put or o.inputs[0] is not v.param or o.inputs[1] is not k.param or not loop.only_reads(v, o):  # type: ignore[union-attr]
            continue
        if not types.same(v.init.sizes[0], loop.trip):  # type: ignore[index, arg-type]
            continue
        x = o.inputs[2]
        if x not in loop.variant and not loop.safe(x):
            continue
        if x in loop.variant:
            twice = x.dtype.kind in "fc" and x.op.opdef.family == "elementwise" and loop.readers(x) != [o]
            final = None if twice else lifted(loop, x, k, kept=False)  # type: ignore[arg-type]
        else:
            same = v.init.sizes
            final = Late((), lambda final, x=x, same=same: ops.BroadcastTo(x, size_vector(same)))  # type: ignore[misc]
            if x.op.opdef is not opdef.Const:
                loop.outside(x)
        if final is not None:
            loop.drop(v, final)
            changed = True
    return changed


def _weights(loop: Open, o: Operation) -> bool:
    """Whether `o` is a product [m, k] [k, n] of a matrix that varies, not transposed, and one that stays the same."""
    return o.opdef is ops.MatMul and not o.attrs["transpose_a"] and not o.attrs["conj_a"] and not o.attrs["conj_b"] \
        and o.inputs[0] in loop.variant and loop.safe(o.inputs[1])


def _cut(w: Tensor, axis: int, start: Any, size: Any) -> Tensor:
    begin = [0] * len(w.sizes)  # type: ignore[arg-type]
    sizes = list(w.sizes)  # type: ignore[arg-type]
    begin[axis], sizes[axis] = start, size
    return ops.Slice(w, size_vector(begin), size_vector(sizes))


def slices_of_products(loop: Open) -> bool:
    """columns of a product: only those columns are computed."""
    found: dict[Tensor, Tensor] = {}
    for o in loop.program.ops():
        if not _weights(loop, o) or loop.is_next(o.outputs[0]):
            continue
        users = loop.readers(o.outputs[0])
        if not users or len(users) > 2 or any(u.opdef is not ops.Slice or _columns(u, o) is None for u in users):
            continue
        for u in users:
            start, size = _columns(u, o)  # type: ignore[misc]
            with opdef.scratch(o):
                w = loop.outside(_cut(o.inputs[1], 0 if o.attrs["transpose_b"] else 1, start, size))
                found[u.outputs[0]] = o.opdef(o.inputs[0], w, **o.attrs)
    if found:
        loop.replace(found)
    return bool(found)


def _columns(u: Operation, o: Operation) -> tuple[Any, Any] | None:
    """(start, size) of the columns that a slice of a matrix takes, with all rows; None where the columns are all or unknown."""
    begin, sizes = u.inputs[1].known, u.outputs[0].sizes
    if begin is None or any(types.is_unknown(b) for b in begin.flat) or not types.same(begin[0], 0):
        return None
    if not types.same(sizes[0], o.outputs[0].sizes[0]) or types.same(sizes[1], o.outputs[0].sizes[1]):  # type: ignore[index]
        return None
    return begin[1], sizes[1]  # type: ignore[index]


def parts_of_products(loop: Open) -> bool:
    """product of a concatenation: a part that can be made outside is multiplied there."""
    k = chosen(loop)
    found: dict[Tensor, Tensor] = {}
    for o in loop.program.ops():
        a = o.inputs[0] if o.inputs else None
        if not _weights(loop, o) or a.op.opdef is not ops.ConcatV2 or a.op.attrs["axis"] % 2 != 1:  # type: ignore[union-attr]
            continue
        parts = a.op.inputs  # type: ignore[union-attr]
        free = [x not in loop.variant or k is not None and lifted(loop, x, k) is not None for x in parts]
        if all(free) or not any(free):
            continue
        with opdef.scratch(o):
            total: Tensor | None = None
            start: Any = 0
            for group, _ in _groups(parts, [(f, x in loop.variant) for f, x in zip(free, parts)]):
                size = sum((x.sizes[1] for x in group), 0)
                w = loop.outside(_cut(o.inputs[1], 1 if o.attrs["transpose_b"] else 0, start, size))
                y = o.opdef(group[0] if len(group) == 1 else ops.ConcatV2(*group, axis=1), w, **o.attrs)
                total, start = y if total is None else ops.Add(total, y), start + size
        found[o.outputs[0]] = total  # type: ignore[assignment]
    if found:
        loop.replace(found)
    return bool(found)


def _groups(parts: Sequence[Tensor], kinds: Sequence[Any]) -> list[tuple[list[Tensor], Any]]:
    """Neighbours of one kind together."""
    found: list[tuple[list[Tensor], Any]] = []
    for x, kind in zip(parts, kinds):
        if found and found[-1][1] == kind:
            found[-1][0].append(x)
        else:
            found.append(([x], kind))
    return found


def products_before(loop: Open) -> bool:
    """products of all rows: one before the loop instead of one in each iteration."""
    k = chosen(loop)
    found: dict[Tensor, Tensor] = {}
    for o in loop.program.ops() if k is not None else ():
        if not _weights(loop, o) or o in loop.asking or not _affordable(loop, o.outputs[0]):
            continue
        rows = lifted(loop, o.inputs[0], k)  # type: ignore[arg-type]
        if rows is None or rows.uses:
            continue
        with opdef.scratch(o):
            made = rows_product(o, rows.make(lambda v: v.init))
            found[o.outputs[0]] = forms.recall(loop.outside(made), k.param)  # type: ignore[union-attr]
    if found:
        loop.replace(found)
    return bool(found)


def rows_product(o: Operation, rows: Tensor) -> Tensor:
    """The products of [trip, m, k] rows with the second operand of `o`, as one."""
    n, m, width = rows.sizes  # type: ignore[misc]
    flat = o.opdef(_reshaped(rows, (n * m, width)), o.inputs[1], **o.attrs)
    return _reshaped(flat, (n, m, o.outputs[0].sizes[1]))  # type: ignore[index]


# ---------------------------------------------------------------- after the loop


def rows_added(loop: Open) -> bool:
    """rows are added to zeros: each once, so they are written."""
    indexes = {v.param: v for v in loop.indexes()}
    for v in loop.variables:
        o = loop.new(v).op
        if o.opdef is not ops.TensorScatterAdd or o.inputs[0] is not v.param or not loop.only_reads(v, o):
            continue
        at, x = o.inputs[1], o.inputs[2]
        while at.op.opdef in (ops.ExpandDims, ops.Reshape) and at not in indexes:
            at = at.op.inputs[0]
        k = indexes.get(at)
        if k is None or o.inputs[1].sizes not in ((1, 1), (1,)) or not types.same(v.init.sizes[0], loop.trip):  # type: ignore[index, arg-type]
            continue
        if filled(v.init) is None or filled(v.init) != 0:
            continue
        with opdef.scratch(o):
            x = x.op.inputs[0] if x.op.opdef in (ops.ExpandDims, ops.Reshape) else x
            loop.assign(v, forms.put(v.param, k.param, x if _alike(x.sizes, v.init.sizes[1:]) else _reshaped(x, v.init.sizes[1:])))  # type: ignore
        return True
    return False


def _alike(a: Any, b: Any) -> bool:
    return len(a) == len(b) and all(types.same(x, y) is True for x, y in zip(a, b))


def sums_after(loop: Open) -> bool:
    """sums of products: one product over all iterations after the loop."""
    k = chosen(loop)
    if k is None:
        return False
    changed = False
    for wanted in (True, False):  # products first: a sum then finds what it needs on a stack
        for v in list(loop.variables):
            terms = _terms(loop, v)
            late = {t: late for t in terms if (t.op.opdef is ops.MatMul) == wanted and (late := _sum(loop, t, k)) is not None}
            if not late:
                continue
            changed = True
            rest = [t for t in terms if t not in late]
            if not rest:
                loop.drop(v, _added(outer(v.init), list(late.values())))
                continue
            one = loop.add(v.slot.name, v.init, lambda param, rest=rest: _chain(loop.op, param, rest))  # type: ignore[misc]
            loop.drop(v, _added(Late((one,), lambda final, one=one: final(one)), list(late.values())))  # type: ignore[misc]
    return changed


def _terms(loop: Open, v: Variable) -> list[Tensor]:
    """What an iteration adds to a variable that nothing else reads."""
    found: list[Tensor] = []
    t = loop.new(v)
    if v.init.dtype.kind not in "fc":
        return []
    while t is not v.param:
        o = t.op
        if o.opdef not in (ops.Add, ops.AddN) or t is not loop.new(v) and (len(loop.readers(t)) > 1 or loop.is_next(t)):
            return []
        on = [x for x in o.inputs if x is v.param or v.param in loop._reach([x])]
        if len(on) != 1 or loop.readers(on[0]) != [o]:
            return []
        more = [x for x in o.inputs if x is not on[0]]
        if not all(_alike(x.sizes, t.sizes) for x in more):
            return []
        found, t = found + more, on[0]
    return found if loop.new(v) is not v.param and sum(new is loop.new(v) for new in loop.news.values()) == 1 \
        and not loop.readers(loop.new(v)) and not any(new is v.param for new in loop.news.values()) and loop.cond is not v.param else []


def _chain(op: Operation, start: Tensor, terms: Sequence[Tensor]) -> Tensor:
    with opdef.scratch(op):
        for t in terms:
            start = ops.Add(start, t)
    return start


def _added(start: Late, terms: list[Late]) -> Late:
    def make(found: Sequence[Tensor]) -> Tensor:
        first, *rest = found
        if filled(first) is not None and filled(first) == 0:
            first, *rest = rest
        for t in rest:
            first = ops.Add(first, t)
        return first
    return _after([start, *terms], make)


def _sum(loop: Open, t: Tensor, k: Variable) -> Late | None:
    """The sum of all values of `t`, made after the loop."""
    o = t.op
    if o.opdef is ops.MatMul:
        if elements(t) < SMALL or any(x not in loop.variant for x in o.inputs):
            return None
        a = stacked(loop, o.inputs[0], k)
        b = None if a is None else stacked(loop, o.inputs[1], k)
        if b is None:
            return None
        return _after([visited_only(loop, x, k) for x in (a, b)], lambda found: _long_product(o, *found))
    if o.opdef is ops.Sum and o.inputs[0] in loop.variant:
        found = _part(loop, o.inputs[0], k)
        return None if found is None else _after([visited_only(loop, found, k)], lambda made: _long_sum(o, made[0]))
    return None


def _long_product(o: Operation, a: Tensor, b: Tensor) -> Tensor:
    """The sum of the products of [trip, ., .] stacks: one product whose inner size is that of all iterations."""
    at = o.attrs
    a = a if at["transpose_a"] else ops.Transpose(a, perm=(0, 2, 1))
    b = ops.Transpose(b, perm=(0, 2, 1)) if at["transpose_b"] else b
    a, b = (_reshaped(x, (x.sizes[0] * x.sizes[1], x.sizes[2])) for x in (a, b))  # type: ignore[index]
    return ops.MatMul(a, b, transpose_a=True, transpose_b=False, conj_a=at["conj_a"], conj_b=at["conj_b"])


def _long_sum(o: Operation, x: Tensor) -> Tensor:
    rank = len(o.inputs[0].sizes)  # type: ignore[arg-type]
    axes = tuple(a % rank + 1 for a in o.attrs["axis"])
    if not o.attrs["keepdims"]:
        return ops.Sum(x, axis=(0, *axes), keepdims=False)
    return ops.Sum(ops.Sum(x, axis=axes, keepdims=True), axis=(0,), keepdims=False)


def products_after(loop: Open) -> bool:
    """products that are only written: what they are made of is kept, and multiplied after the loop."""
    indexes = {v.param: v for v in loop.indexes()}
    for v in list(loop.variables):
        o = loop.new(v).op
        if o.opdef is not forms.put or o.inputs[0] is not v.param or o.inputs[1] not in indexes or not loop.only_reads(v, o):
            continue
        k, path, t = indexes[o.inputs[1]], [], o.inputs[2]
        if not types.same(v.init.sizes[0], loop.trip) or sum(new is o.outputs[0] for new in loop.news.values()) > 1:  # type: ignore
            continue
        while t.op.opdef.family == "elementwise" and not has_check(t.op) and len(loop.readers(t)) == 1 and not loop.is_next(t) and sum(
                x in loop.variant for x in t.op.inputs) == 1 and all(x in loop.variant or loop.safe(x) for x in t.op.inputs):
            path.append(t.op)
            t = next(x for x in t.op.inputs if x in loop.variant)
        if not _weights(loop, t.op) or len(loop.readers(t)) != 1 or loop.is_next(t):
            continue
        rows = stacked(loop, t.op.inputs[0], k)
        if rows is None:
            continue
        for x in [x for p in [t.op, *path] for x in p.inputs if x not in loop.variant]:
            loop.outside(x)

        def make(found: Sequence[Tensor], product: Operation = t.op, path: Sequence[Operation] = tuple(reversed(path))) -> Tensor:
            y, at = rows_product(product, found[0]), product.outputs[0]
            for p in path:
                y = _elementwise(p, [y if x is at else x for x in p.inputs], [x is at for x in p.inputs])
                at = p.outputs[0]
            return y

        loop.drop(v, visited_only(loop, _after([rows], make), k, outer(loop.outside(v.init))))
        return True
    return False
