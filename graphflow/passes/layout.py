"""Layout: transposes that stand between layers meet their inverses, and cancel.

Convolutions and windows are channels last, so a program written for NCHW comes here with a transpose before and after each
of them.  What lies between two such transposes (elementwise ops, reductions, concatenations, paddings, ...) works on any
order of axes: an op says by its `axes` hook how its axes and those of its tensors belong together.

Every transpose is taken out of the program and becomes a demand: this op wants that tensor with its axes in this order.
An op that can be made with its axes in another order has two choices, the one it came with and the one a transpose beside
it suggests, carried on to its neighbours as far as ops allow.  A tensor costs its number of elements for each order that
is wanted besides the one it is made in; what depends on constants, or on variables that the step does not write, costs
nothing, because it is done once.  Groups of connected ops change where that makes the program cheaper, then single ops
change back where that does; both only ever lower the cost, and without gain the program stays as it was.

Knows the registry and the transpose; of other ops it knows their `axes` only (rank 4).
"""
from __future__ import annotations

from collections.abc import Iterable
from functools import cache
from typing import Any

import numpy as np

from .. import types
from ..graph import Operation, Tensor
from ..ops import opdef
from ..ops.opdef import Axes
from .algebra import KEEP_ORDER
from .fold import const, shapes, size_vector
from .program import Program, with_inputs
from .rewrite import note, op, same_shape

Order = tuple[int, ...]
# Rounds over the ops in which one of them may change back.
ROUNDS = 8


def layout(program: Program) -> Program:
    """The program with fewer elements transposed; the same object when there is nothing to gain."""
    if not any(o.opdef is op.Transpose for o in program.ops()):
        return program
    plan = _Plan(program)
    if not plan.suggested:
        return program
    plan.choose()
    return shapes(_Rebuilt(plan).program()) if plan.chosen else program


@cache
def identity(rank: int) -> Order:
    return tuple(range(rank))


def inverse(order: Order) -> Order:
    return tuple(sorted(range(len(order)), key=order.__getitem__))


def after(first: Order, then: Order) -> Order:
    """The order of axes after a transpose by `first` and one by `then`."""
    return tuple([first[k] for k in then])


def restricted(order: Order, axes: Order) -> Order:
    """The order that a tensor along `axes` of an op has when the op's axes are in `order`."""
    return tuple([k for a in order for k, b in enumerate(axes) if a == b])


def lifted(order: Order, axes: Order, rank: int) -> Order | None:
    """The order of an op's axes for which a tensor along `axes` has `order`; None if there is none, or more than one."""
    found = [k for n, k in enumerate(order) if not n or axes[order[n - 1]] != axes[k]]
    wanted = tuple([axes[k] for k in found])
    return wanted if len(wanted) == rank and restricted(wanted, axes) == order else None


def _sized(t: Tensor) -> bool:
    return t.sizes is not None and not any(map(types.is_unknown, t.sizes))


class _Use:
    """An op (None: the end of the step) reads a tensor, transposed by `order`, as its input number `place`."""

    __slots__ = ("op", "place", "order")

    def __init__(self, op: Operation | None, place: int, order: Order):
        self.op, self.place, self.order = op, place, order


class _Plan:
    """What wants what in which order, what each choice costs, and the orders that were chosen."""

    def __init__(self, program: Program):
        self.source = program
        self.views: dict[Tensor, tuple[Tensor, Order]] = {}  # transposed tensors: of what, by what
        self.axes: dict[Operation, Any] = {}  # Axes of the ops that were asked for
        self.uses: dict[Tensor, list[_Use]] = {}
        self.free: set[Tensor] = set()  # computed once, whatever the step does
        self.chosen: dict[Operation, Order] = {}
        self._keys: dict[tuple[Tensor, Order], Order] = {}
        self._collect()
        self.suggested: dict[Operation, Order] = {}
        self.groups: list[list[Operation]] = []
        self._asked: dict[tuple[Tensor, Order], tuple[Operation, Order]] = {}
        self._group: dict[Operation, list[Operation]] = {}  # the group of an op
        self._suggest()

    # -- the program as demands

    def _collect(self) -> None:
        written = {v for v, _ in self.source.writes}
        # What others wait for stays one op.
        self.held = {c for o in self.source.ops() for c in o.control_inputs}
        free = self.free
        free |= {t for kind, what, t in self.source.inputs if kind == "variable" and what not in written}
        for o in self.source.ops():
            if free.issuperset(o.inputs) and o.opdef.effect is None and o.opdef.family != "input":
                free.update(o.outputs)
            if o.opdef is op.Transpose and not o.control_inputs and o not in self.held and _sized(o.inputs[0]):
                x, order = self.view(o.inputs[0])
                rank, perm = len(order), o.attrs["perm"]
                mine = identity(rank)[::-1] if perm is None else tuple([p % rank for p in perm])
                self.views[o.outputs[0]] = x, after(order, mine)
                continue
            for i, t in enumerate(o.inputs):
                self._use(o, i, t)
        for t in self.source.roots():
            self._use(None, 0, t)

    def _use(self, o: Operation | None, i: int, t: Tensor) -> None:
        if t.sizes is not None:
            x, order = self.view(t)
            self.uses.setdefault(x, []).append(_Use(o, i, order))

    def view(self, t: Tensor) -> tuple[Tensor, Order]:
        """The tensor that `t` is a transpose of, and the order of its axes."""
        return self.views.get(t) or (t, identity(len(t.sizes or ())))

    def axes_of(self, o: Operation) -> Axes | None:
        """How the op acts along axes, if it can be made in another order."""
        if o not in self.axes:
            alone = len(o.outputs) == 1 and o.opdef.effect is None and not o.control_inputs and o not in self.held
            able = alone and o.opdef._axes is not None
            self.axes[o] = o.opdef._axes(o) if able and all(map(_sized, (*o.inputs, *o.outputs))) else None  # type: ignore[misc]
        return self.axes[o]

    # -- what transposes suggest

    def _suggest(self) -> None:
        """Gives ops a second order: beside a transpose the one that cancels it, and from there on the one that fits."""
        for x, order in dict.fromkeys(self.views.values()):
            if self.key(x, order) != self.key(x, identity(len(order))):
                # Readers of one transposed tensor go together: it is made for the last of them too.
                self._flood([self._reader(u, identity(len(order))) for u in self.uses.get(x, ()) if u.order == order])
                self._flood([self._maker(x, order)])
        self.groups = list({id(g): g for g in self._group.values()}.values())

    def _reader(self, u: _Use, stored: Order) -> tuple[Operation, Order] | None:
        """(the op that uses a tensor, the order in which it can take it as it is `stored`), where all its axes are in the tensor."""
        found = self.axes_of(u.op) if u.op is not None else None
        along = None if found is None else found.inputs[u.place]
        order = None if along is None else lifted(after(inverse(u.order), stored), along, _rank(found))
        return None if order is None else (u.op, order)  # type: ignore[return-value]

    def _maker(self, x: Tensor, order: Order) -> tuple[Operation, Order] | None:
        """(the op that makes `x`, the order in which it makes it in `order`), where all its axes are in the tensor."""
        found = self.axes_of(x.op)
        wanted = None if found is None else lifted(order, found.output, _rank(found))
        return None if wanted is None else (x.op, wanted)

    def _flood(self, todo: list[tuple[Operation, Order] | None]) -> None:
        group: list[Operation] = []
        while todo:
            found = todo.pop()
            if found is None or found[1] == identity(len(found[1])):
                continue
            o, order = found
            if o in self.suggested:
                other = self._group[o]
                if other is not group and self.suggested[o] == order:
                    if len(other) > len(group):
                        group, other = other, group
                    group += other
                    for member in other:
                        self._group[member] = group
                continue
            self.suggested[o], self._group[o] = order, group
            group.append(o)
            axes = self.axes[o]
            todo += self._beside(o.outputs[0], restricted(order, axes.output), (o, order))
            for t, along in zip(o.inputs, axes.inputs):
                if along is not None:
                    x, view = self.view(t)
                    todo += self._beside(x, after(view, restricted(order, along)), (o, order))

    def _beside(self, x: Tensor, order: Order, start: tuple[Operation, Order]) -> list[tuple[Operation, Order] | None]:
        """The ops at a tensor that `start` has in `order`, with the order that fits each; the first one that asked, when that is known."""
        if self.key(x, order) == self.key(x, identity(len(order))):
            return []
        first = self._asked.setdefault((x, order), start)
        return [first] if first is not start else [self._maker(x, order), *[self._reader(u, order) for u in self.uses.get(x, ())]]

    # -- costs

    def key(self, x: Tensor, order: Order) -> Order:
        """Equal for orders in which `x` lies the same in memory: axes of size 1 do not count."""
        found = self._keys.get((x, order))
        if found is None:
            found = self._keys[x, order] = tuple([a for a in order if x.sizes[a] != 1])  # type: ignore[index]
        return found

    def made(self, x: Tensor) -> Order:
        """The order in which `x` is made."""
        chosen = self.chosen.get(x.op)
        return identity(len(x.sizes or ())) if chosen is None else restricted(chosen, self.axes[x.op].output)

    def wanted(self, u: _Use) -> Order:
        """The order of a tensor's axes in which a use reads it."""
        chosen = self.chosen.get(u.op) if u.op is not None else None
        along = None if chosen is None else self.axes[u.op].inputs[u.place]  # type: ignore[index]
        return u.order if along is None else after(u.order, restricted(chosen, along))  # type: ignore[arg-type]

    def cost(self, tensors: Iterable[Tensor]) -> int:
        """Elements that are transposed for the readers of these tensors."""
        total = 0
        for x in tensors:
            if x not in self.free:
                orders = {self.key(x, self.wanted(u)) for u in self.uses.get(x, ())}
                total += len(orders - {self.key(x, self.made(x))}) * (types.hint(types.product(x.sizes)) or 1)  # type: ignore[arg-type]
        return total

    # -- choices

    def choose(self) -> None:
        for _ in range(ROUNDS):
            if not sum(self._change(g, True) for g in self.groups if g[0] not in self.chosen):
                break
        for _ in range(ROUNDS):
            if not sum(self._change([o], False) for o in self._beside_transposes()):
                break

    def _beside_transposes(self) -> list[Operation]:
        """Ops of the second order that read or make a tensor which is transposed: others cannot gain by themselves."""
        dear = [x for x in self.uses if self.cost([x])]
        found = dict.fromkeys(o for x in dear for o in (x.op, *[u.op for u in self.uses[x]]) if o in self.chosen)
        return [o for o in found if o is not None]

    def _change(self, ops: list[Operation], suggested: bool) -> bool:
        """Gives `ops` their second order, or the first one back, if that is cheaper; whether it was."""
        touched = dict.fromkeys([*[self.view(t)[0] for o in ops for t in o.inputs], *[o.outputs[0] for o in ops]])
        before = self.cost(touched)
        self._give(ops, suggested)
        if self.cost(touched) < before:
            return True
        self._give(ops, not suggested)
        return False

    def _give(self, ops: list[Operation], suggested: bool) -> None:
        for o in ops:
            if suggested:
                self.chosen[o] = self.suggested[o]
            else:
                self.chosen.pop(o)


def _rank(axes: Axes | None) -> int:
    assert axes is not None
    return len({a for along in (axes.output, *axes.inputs) if along is not None for a in along})


class _Rebuilt:
    """The program made again by a plan: demands become transposes where they are not met."""

    def __init__(self, plan: _Plan):
        self.plan = plan
        self.new: dict[Tensor, Tensor] = {}  # where a tensor is now, in the order that the plan says it is made in
        self.ops: dict[Operation, Operation] = {}
        self.stored: dict[tuple[Tensor, Order], Tensor] = {}  # by the tensor of the source and the key of the order

    def program(self) -> Program:
        for o in self.plan.source.ops():
            if o.outputs and o.outputs[0] in self.plan.views:
                self._keep(o)
            elif o in self.plan.chosen:
                self._reorder(o)
            else:
                self._copy(o)
        return self.plan.source.with_roots(self._as_it_was, lambda o: self.ops.get(o, o))

    def _keep(self, o: Operation) -> None:
        """A transpose of what did not change serves as it is, if anything wants it."""
        x, order = self.plan.view(o.outputs[0])
        if o.inputs[0] is x and self.new.get(x, x) is x:
            self.stored.setdefault((x, self.plan.key(x, order)), o.outputs[0])

    def _copy(self, o: Operation) -> None:
        copy = with_inputs(o, tuple(map(self._as_it_was, o.inputs)), tuple([self.ops.get(c, c) for c in o.control_inputs]))
        if copy is not o:
            self.ops[o] = copy
            self.new.update(zip(o.outputs, copy.outputs))

    def _reorder(self, o: Operation) -> None:
        note("axes in the order of their neighbours", [o])
        axes, order = self.plan.axes[o], self.plan.chosen[o]
        # Where one operand is longer than 1 along the first axis, the others need no axes of size 1 in front.
        short = any(along is not None and len(along) == len(order) and t.sizes[along.index(order[0])] != 1  # type: ignore[index]
                    for t, along in zip(o.inputs, axes.inputs))
        inputs = [self._as_it_was(t) if along is None else self._operand(t, along, order, axes.aligned, short)
                  for t, along in zip(o.inputs, axes.inputs)]
        with opdef.scratch(o):
            self.new[o.outputs[0]] = axes.make(order, inputs)

    def _as_it_was(self, t: Tensor) -> Tensor:
        """`t` with the axes it had."""
        if t not in self.plan.views and t not in self.new:
            return t
        x, order = self.plan.view(t)
        return t if t.sizes is None else self._get(x, order, t.sizes)

    def _operand(self, t: Tensor, along: Order, order: Order, aligned: bool, short: bool) -> Tensor:
        """`t` for an op in `order`; where operands broadcast, with axes of size 1 for those it lacks, but none in front if `short`."""
        x, view = self.plan.view(t)
        mine = restricted(order, along)
        wanted = [t.sizes[k] for k in mine]  # type: ignore[index]
        if aligned:
            sizes = dict(zip((along[k] for k in mine), wanted))
            wanted = [sizes.get(a, 1) for a in order]
            while short and wanted and wanted[0] == 1:
                wanted.pop(0)
        return self._get(x, after(view, mine), wanted)

    def _get(self, x: Tensor, order: Order, sizes: Any) -> Tensor:
        """Tensor `x` of the source with its axes in `order`, as an array of `sizes` (which may have more or fewer ones)."""
        key, made = self.plan.key(x, order), self.plan.made(x)
        now = self.new.get(x, x)
        if key != self.plan.key(x, made):
            if (x, key) not in self.stored:
                self.stored[x, key] = self._transposed(now, tuple(map(made.index, order)))
            now = self.stored[x, key]
        while not same_shape(now.sizes, sizes) and now.op.type in KEEP_ORDER:
            now = now.op.inputs[0]
        if same_shape(now.sizes, sizes):
            return now
        with opdef.scratch(x.op):
            return op.Reshape(now, size_vector(sizes))

    @staticmethod
    def _transposed(x: Tensor, perm: Order) -> Tensor:
        value = x.op.attrs["value"] if x.op.opdef is opdef.Const else None
        if value is not None and not isinstance(value, opdef.Opaque):
            return const(x.op, np.transpose(value, perm), x.dtype)
        with opdef.scratch(x.op):
            return op.Transpose(x, perm=perm)
