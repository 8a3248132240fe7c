"""Branches and loops of the user's graph as programs: the part of specialisation that looks into regions.

A region is walked like the graph around it, with its own current values of variables; what it reads from outside becomes a
capture.  Variables that a loop assigns, run counters of its random ops, and the values its gradient keeps become loop
variables like any other.  What has no fixed size here (a loop variable that grows, data-dependent sizes inside) raises
`NotNative`: the interpreter runs such a request (rank 4).
"""
from __future__ import annotations

from typing import Any, Callable, Collection, Sequence

import numpy as np

from .. import errors, types
from ..graph import Operation, Region, Spec, Tensor
from ..ops import control, opdef, state
from ..ops.control import Slot
from ..types import Size
from .fold import Static
from .program import Program
from .specialize import _Walk


class NotNative(Exception):
    """Why a branch or loop cannot be compiled."""

    def __init__(self, op: Operation, why: str):
        super().__init__(f"{errors.where(op)}: {why}")
        self.op, self.why = op, why
        self.always = True  # whether for other shapes, too


class Pending:
    """Slots of a TensorArray whose element shape is not known yet: the first write gives it.

    make(sizes): the tensor of slots, once the sizes of an element are known.  count: how many slots.
    """

    def __init__(self, op: Operation, dtype: types.DType, count: Size, make: Callable[[types.Shape, Size], Tensor],
                 outer: Pending | None = None):
        self.op, self.dtype, self.count, self._make, self.outer = op, dtype, count, make, outer
        self.tensor: Tensor | None = None

    def resolve(self, element: types.Shape) -> Tensor:
        if self.tensor is None:
            self.tensor = self._make(element, self.count)
        return self.tensor

    def inner(self, make: Callable[[types.Shape, Size], Tensor]) -> Pending:
        """The same slots seen from inside a region."""
        return Pending(self.op, self.dtype, self.count, make, self)

    def grow(self, count: Size) -> None:
        """Makes it `count` slots, if that is more."""
        if types.less(self.count, count):
            self.count = count
            if self.outer is not None:
                self.outer.grow(count)


class Untold:
    """Slots that a loop fills, while it is not known how many: that loop runs for the number of its iterations only."""


class Repeated:
    """A value kept of every iteration that is the same in all of them, and known."""

    def __init__(self, tensor: Tensor):
        self.tensor = tensor


class Inside(_Walk):
    """The walk of one region."""

    def __init__(self, parent: _Walk, region: Region, owner: Operation, tick: Tensor | None = None):
        self.parent, self.region, self.owner, self.tick = parent, region, owner, tick
        self.request, self.graph, self.binding, self.symbols = parent.request, parent.graph, parent.binding, parent.symbols
        self.valued, self.bound = parent.valued, parent.bound
        self.env: dict[Tensor, Any] = {}
        self.current: dict[Operation, Tensor] = {}
        self.written: dict[Operation, Tensor] = {}
        self.effects: list[Operation] = []
        self.captured: dict[Tensor, Tensor] = {}
        self.saves = {}
        self.taken = {}
        self.roomy: set[Tensor] = set(parent.roomy)

    def walk(self, ops: Sequence[Operation]) -> Inside:
        self.saves = control.saves(ops)
        for op in ops:
            if op.opdef is not control.loop_variable:
                self._one(op)
        return self

    # -- reading what is outside

    def _infer(self, op: Operation, inputs: list[Tensor]) -> list[Spec]:
        """What cannot run on these shapes fails where it runs, if it does."""
        try:
            return super()._infer(op, inputs)
        except errors.InvalidArgumentError as e:
            found = NotNative(self.owner, e.message)
            found.always = False
            raise found from None

    def outside(self, t: Any) -> Any:
        """A value of the parent, inside."""
        if isinstance(t, (Repeated, Untold)):
            return t
        if isinstance(t, Pending):
            if t.tensor is not None:
                return self.outside(t.tensor)
            return t.inner(lambda element, count: self.outside(t.resolve(element)))
        if t.op.opdef is opdef.Const:
            return t
        found = self.captured.get(t)
        if found is None:
            found = self.captured[t] = self.graph.stand_in(Spec(t.dtype, t.sizes, t.known))
        return found

    def _value(self, t: Tensor, missing_ok: bool = False) -> Any:
        if t.op.opdef is state.variable_handle and t not in self.env:
            return self._variable(t.op)
        found = self.env.get(t)
        if found is None:
            if t.op.region is self.region:
                raise NotNative(self.owner, f"{t.name} has no value yet")
            outer = self.parent._value(t)
            if outer is None:
                raise NotNative(self.owner, f"the size of {t.name} depends on data")
            found = self.env[t] = self.outside(outer)
        if isinstance(found, Pending) and found.tensor is not None:
            found = self.env[t] = found.tensor
        return found

    def _variable(self, var: Operation) -> Tensor:
        if var not in self.current:
            self.current[var] = self.outside(self.parent._variable(var))
        return self.current[var]

    def input(self, key: Any, like: Tensor) -> Tensor:
        if key[0] != "counter":
            return self.outside(self.parent.input(key, like))
        counter = self.outside(self.parent.input(key, like))
        if self.tick is None:
            return counter
        return control.stream_tensor(counter, self.tick)

    def _block(self, op: Operation, needed: list[Tensor], value: bool = False) -> None:
        raise NotNative(self.owner, f"a size inside depends on data: {errors.where(op)}")

    def program(self, captures: dict[Tensor, int], outputs: Sequence[Tensor | None], variables: Sequence[tuple[Slot, Tensor]] = (),
                writes: Sequence[tuple[Slot, Tensor]] = ()) -> Program:
        """What has been walked; `captures` numbers the tensors outside."""
        inputs = [("variable", slot, t) for slot, t in variables]
        inputs += [("capture", captures.setdefault(t, len(captures)), inner) for t, inner in self.captured.items()]
        return Program(tuple(inputs), tuple(outputs), tuple(writes), tuple(self.effects))  # type: ignore[arg-type]


def number(t: Tensor) -> Size | None:
    """The value of an integer scalar, where it is known as a size."""
    value: Any = None if t.known is None or t.known.shape != () else t.known[()]
    return None if value is None or types.is_unknown(value) else value


def zeros(walk: _Walk, dtype: types.DType, sizes: Any) -> Tensor:
    return walk.graph.create_op(control.zeros_op, (), {"sizes": tuple(sizes), "dtype": dtype}).outputs[0]


def array(walk: _Walk, op: Operation) -> None:
    """A new TensorArray: zeros, once the shape of its elements is known."""
    if op.attrs["dtype"].kind == "s":
        raise NotNative(op, "no kernel works on strings")
    n = number(walk._value(op.inputs[0]))
    if n is None:
        walk._block(op, [op.inputs[0]], value=True)
        return
    dtype = op.attrs["dtype"]
    if types.less(n, 0):
        raise errors.raised_at(errors.InvalidArgumentError, op, f"Size should be >= 0, but is {types.hint(n)}")
    slots = Pending(op, dtype, n, lambda element, count: zeros(walk, dtype, (count, *element)))  # type: ignore[misc]
    mask = Pending(op, types.bool_, n, lambda element, count: zeros(walk, types.bool_, (count,)))
    element: types.Shape = op.attrs["element"][0]
    found: list[Any] = [slots, mask]
    if not op.attrs["dynamic"]:
        found = [slots.resolve(element) if types.known(element) else slots, mask.resolve(())]
    walk.env.update(zip(op.outputs, found))


def written(walk: _Walk, op: Operation) -> None:
    """A write to a slot, or the check before it."""
    slots, index = walk._value(op.inputs[0]), walk._value(op.inputs[1])
    if slots is None or index is None or any(walk._value(t) is None for t in op.inputs):
        return
    if isinstance(slots, Untold):
        walk.env[op.outputs[0]] = index if op.opdef is control.unwritten else slots
        return
    if op.attrs["dynamic"]:
        walk.env[op.inputs[0]] = _large_enough(walk, op, slots, index)
    inputs, attrs = resolved(op, [walk._value(t) for t in op.inputs], op), {**op.attrs, "dynamic": False}
    walk.env.update(zip(op.outputs, _new(walk, op, op.opdef, inputs, attrs, op.opdef.infer(inputs, attrs)).outputs))


def _large_enough(walk: _Walk, op: Operation, slots: Any, index: Tensor) -> Any:
    """Slots of an array that grows, with one at `index`: that is known, or counts the iterations of a loop that has made room."""
    at = number(index)
    if at is None:
        if (index.op.inputs[1] if index.op.opdef is control.unwritten else index) in walk.roomy:
            return slots
        raise NotNative(op, "a TensorArray grows at an index that is not the counter of a loop")
    if isinstance(slots, Pending):
        slots.grow(at + 1)
        return slots
    return _padded(walk, slots, at + 1)


def _padded(walk: _Walk, slots: Tensor, count: Size) -> Tensor:
    from ..ops.array import concat

    have = slots.sizes[0]  # type: ignore[index]
    if not types.less(have, count):
        return slots
    with walk.graph.as_default():
        return concat(slots, zeros(walk, slots.dtype, (count - have, *slots.sizes[1:])), axis=0)  # type: ignore[index]


def resolved(op: Operation, inputs: list[Any], owner: Operation) -> list[Tensor]:
    """The inputs of `op` with pending slots given the shape of what is written."""
    if op.opdef is control.put and isinstance(inputs[0], Pending):
        return [inputs[0].resolve(inputs[2].sizes), *inputs[1:]]
    for i, t in enumerate(inputs):
        if isinstance(t, Untold):
            raise NotNative(owner, f"{errors.where(op)} reads a TensorArray that grows in the same loop")
        if isinstance(t, Repeated):
            raise NotNative(owner, f"{errors.where(op)} reads all values of {op.inputs[i].name}")
        if isinstance(t, Pending):
            if t.tensor is None:
                element = op.inputs[i].sizes
                if t.dtype is types.bool_ and t.op.attrs["dtype"] is not types.bool_:
                    element = (types.UNKNOWN,)
                if op.opdef is control.count_op:
                    inputs[i] = Static(value=(t.count,), sizes=(), dtype=types.int32)
                    continue
                if element is None or not types.known(element[1:]):
                    raise NotNative(owner, f"{errors.where(op)} reads a TensorArray before anything is written to it")
                t.resolve(element[1:])
            inputs[i] = t.tensor
    return inputs


# ---------------------------------------------------------------- branches


def branch(walk: _Walk, op: Operation, again: bool = False) -> None:
    """A Cond of the user's graph as a Branch.  again: an earlier stage has run it; only what is saved of it is wanted now."""
    _remember(walk, op)
    regions, writes = op.attrs["regions"], op.attrs["writes"]
    n, saved = len(regions[0].results), walk.saves.get(op, [])
    pred = walk._value(op.inputs[0])
    if pred.sizes != ():
        raise errors.raised_at(errors.InvalidArgumentError, op, f"the predicate of cond must be a scalar, got shape {pred.sizes}")
    sides: list[Inside] = []
    found: list[list[Any]] = []
    for region in regions:
        mine = [s.attrs["tensor"] for s in saved if s.attrs["tensor"].op.region is region]
        side = Inside(walk, region, op, None).walk(control.members(region, mine))
        found.append([*[side._value(t) for t in region.results], *[side._variable(v) for v in writes],
                      *[side._value(s.attrs["tensor"]) if s.attrs["tensor"].op.region is region else None for s in saved]])
        sides.append(side)
    users = [*op.outputs, *[s.outputs[0] for s in saved]]
    if again and any(side.effects for side in sides):
        raise NotNative(op, "its gradient needs to run it again, but it has effects")
    places = []
    for j, user in enumerate(users):
        if again and j < len(op.outputs):
            continue
        a, b = _met(op, sides, found, j, saved_value=j >= len(op.outputs))
        if isinstance(a, Pending) or isinstance(b, Pending):
            walk.env[user] = _untouched(walk, op, regions[0].results[j])
            continue
        places.append(j)
    captures: dict[Tensor, int] = {}
    programs = tuple(side.program(captures, [row[j] for j in places]) for side, row in zip(sides, found))
    specs = []
    for j in places:
        one = found[0][j] if found[0][j] is not None else found[1][j]
        specs.append(Spec(one.dtype, one.sizes))
    new = _new(walk, op, control.branch_op, [pred, *captures], {"branches": programs, "specs": tuple(specs)}, specs)
    for j, t in zip(places, new.outputs):
        walk.env[users[j]] = t
    for k, v in enumerate(() if again else writes):
        walk.current[v], walk.written[v] = walk.env[op.outputs[n + k]], op.outputs[n + k]
    if any(side.effects for side in sides):
        walk.effects.append(new)


def _untouched(walk: _Walk, op: Operation, t: Tensor) -> Any:
    """Slots that a branch gives back as it got them."""
    if t.op.region in op.attrs["regions"]:
        raise NotNative(op, f"{t.name} is a TensorArray that nothing is written to")
    return walk._value(t)


def _remember(walk: _Walk, op: Operation) -> None:
    walk.taken.update({(op, i): walk._value(t) for i, t in enumerate(op.inputs) if t.op.opdef is state.variable_handle})


def captured(walk: _Walk, op: Operation) -> None:
    """A variable as a branch or loop found it."""
    owner, position = op.attrs["owner"], op.attrs["position"]
    var = owner.inputs[position].op
    if (owner, position) not in walk.taken and var in walk.written:
        raise NotNative(owner, f"its gradient needs what {var.name} was before it was assigned")
    walk.env[op.outputs[0]] = walk.taken.get((owner, position), None)
    if walk.env[op.outputs[0]] is None:
        walk.env[op.outputs[0]] = walk._variable(var)


def _met(op: Operation, sides: Sequence[Inside], found: list[list[Any]], j: int, saved_value: bool) -> tuple[Any, Any]:
    """Output j of both branches, made to agree."""
    a, b = found[0][j], found[1][j]
    if saved_value:
        return a, b
    for k, (x, y) in enumerate(((a, b), (b, a))):
        if isinstance(x, Pending) and not isinstance(y, Pending):
            found[k][j] = x.resolve(y.sizes[1:])
    a, b = found[0][j], found[1][j]
    if isinstance(a, Pending):
        return a, b
    if len(a.sizes) != len(b.sizes) or any(types.same(x, y) is not True for x, y in zip(a.sizes, b.sizes)):
        raise NotNative(op, f"the branches give different shapes: {types.shape_text(a.sizes)} and {types.shape_text(b.sizes)}")
    return a, b


def _new(walk: _Walk, op: Operation, kind: opdef.OpDef, inputs: Sequence[Tensor], attrs: dict[str, Any],
         specs: Sequence[Spec]) -> Operation:
    return Operation(walk.graph, op.id, op.name, kind, tuple(inputs), (), attrs, specs, op.device, op.site, (op.name,))


# ---------------------------------------------------------------- loops


def loop(walk: _Walk, op: Operation) -> None:
    """A While of the user's graph as a Loop, which also keeps what Saved ops ask for if it is known how many iterations there may be."""
    _remember(walk, op)
    growing = _growing(op)
    if not growing:
        _Loop(walk, op, walk.saves.get(op, [])).finish()
        return
    probe = _Loop(walk, op, [], untold=growing)
    probe.walk_inside()
    trip, exact = probe.how_often()
    if trip is not None and exact:
        _Loop(walk, op, walk.saves.get(op, []), room=trip).finish()
    else:  # run for the number of iterations first
        probe.emit()
        walk._block(op, [op.outputs[-1], *op.inputs], value=True)


def regrown(walk: _Walk, op: Operation) -> None:
    """A loop that has run for the number of its iterations runs again, filling arrays that grow."""
    if not _growing(op):
        return
    count = walk._value(op.outputs[-1])
    trip = number(count)
    if trip is None:
        walk._block(op, [op.outputs[-1]], value=True)
    elif op.attrs["writes"]:
        raise NotNative(op, "a TensorArray grows in it, but it assigns variables")
    else:
        _remember(walk, op)
        _Loop(walk, op, walk.saves.get(op, []), again=trip, room=trip).finish()


def _growing(op: Operation) -> set[Tensor]:
    """Loop variables that are slots to which the body writes, making more of them."""
    body = op.attrs["regions"][1]
    return {t for t in body.params for w in control.members(body) if w.opdef is control.put and w.attrs["dynamic"] and w.inputs[0] is t}


def late(walk: _Walk, op: Operation) -> None:
    """A Saved whose owner has run without keeping anything: it runs again; a loop once the number of its iterations is known."""
    owner = op.attrs["owner"]
    if owner.attrs["writes"]:
        raise NotNative(owner, "its gradient needs to run it again, but it assigns variables")
    if owner.opdef is control.cond_op:
        branch(walk, owner, again=True)
        return
    count = walk._value(owner.outputs[-1])
    if count is None:
        return
    trip = number(count)
    if trip is None:
        walk._block(op, [owner.outputs[-1]], value=True)
        return
    _Loop(walk, owner, walk.saves[owner], again=trip, room=trip if _growing(owner) else None).finish()


class _Loop:
    """One While: variables, in this order: the user's, those it assigns, its counters, what is saved."""

    def __init__(self, walk: _Walk, op: Operation, saved: Sequence[Operation], again: Size | None = None, room: Size | None = None,
                 untold: Collection[Tensor] = ()):
        self.walk, self.op, self.saved, self.again, self.room, self.untold = walk, op, list(saved), again, room, untold
        self.cond, self.body = op.attrs["regions"]
        self.n: int = op.attrs["count"]
        self.writes: tuple[Operation, ...] = op.attrs["writes"]
        self.slots: list[Slot] = []
        self.inits: list[Any] = []  # values outside; Pending ones are filled in at the end
        self.params: list[Any] = []  # in the body
        self.asked: list[Any] = []  # in the condition
        self.news: list[Any] = []
        self.users: list[Tensor | None] = []  # the user's tensors of final values

    def finish(self) -> None:
        self.walk_inside()
        self.emit()

    def walk_inside(self) -> None:
        walk, op = self.walk, self.op
        starts = [walk._value(t) for t in op.inputs[:self.n]]
        random = any("random" in control.effects(o) for r in (self.cond, self.body) for o in control.members(r))
        count = self.count = self._variable(Slot("iteration"), opdef_constant(walk, 0, types.int32), None)
        tick = self._variable(Slot("tick"), opdef_constant(walk, 0, types.int64), None) if random else None
        work = self.work = Inside(walk, self.body, op, None if tick is None else self.params[tick])
        ask = self.ask = Inside(walk, self.cond, op, None if tick is None else self.asked[tick])
        self.places: dict[int, int] = {}
        self.counters: list[int] = []
        for j, start in enumerate(starts):
            self._user_variable(j, start)
        for v in self.writes:
            k = self._variable(Slot(v.name), walk._variable(v), None)
            work.current[v], ask.current[v] = self.params[k], self.asked[k]
        first_write = len(self.slots) - len(self.writes)
        work.roomy.update(self.params[self.places[j]] for j in self.counters)
        tensors = [s.attrs["tensor"] for s in self.saved]
        work.walk(control.members(self.body, tensors))
        ask.walk(control.members(self.cond))
        for j, k in self.places.items():
            self.news[k] = work._value(self.body.results[j])
        for i, v in enumerate(self.writes):
            self.news[first_write + i] = work._variable(v)
            self.users[first_write + i] = op.outputs[self.n + i]
        with walk.graph.as_default():
            self.news[count] = self.params[count] + opdef.constant(1, types.int32)
            if tick is not None:
                self.news[tick] = self.params[tick] + opdef.constant(1, types.int64)
        self._settle()

    def how_often(self) -> tuple[Size | None, bool]:
        """See `_trip`."""
        return self._trip(self.ask._value(self.cond.results[0])) if self.again is None else (self.again, True)

    def emit(self) -> None:
        ask, count = self.ask, self.count
        p = ask._value(self.cond.results[0])
        trip, exact = self.how_often()
        if self.again is not None:  # the condition has held that often
            p = self._shorter(ask, count)
        keeps = bool(self.saved) and trip is not None
        if keeps:
            self._keep(count, trip)
        self._emit(p, trip, exact, count, keeps)

    # -- variables

    def _variable(self, slot: Slot, init: Any, user: Tensor | None, pending: Pending | None = None) -> int:
        self.slots.append(slot)
        self.inits.append(init)
        if pending is None:
            self.params.append(self.walk.graph.stand_in(Spec(init.dtype, init.sizes)))
            self.asked.append(self.walk.graph.stand_in(Spec(init.dtype, init.sizes)))
        else:
            self.params.append(None)
            self.asked.append(None)
        self.news.append(None)
        self.users.append(user)
        return len(self.slots) - 1

    def _user_variable(self, j: int, start: Any) -> None:
        work, ask, param = self.work, self.ask, self.body.params[j]
        if param in self.untold:
            work.env[param] = ask.env[self.cond.params[j]] = Untold()
            return
        if self.room is not None and param in _growing(self.op):
            start = self._roomy(start)
        if self.room is not None and self._counts(j):
            self.counters.append(j)
        if self.body.results[j] is param:  # never changes: no variable but a capture
            work.env[param], ask.env[self.cond.params[j]] = work.outside(start), ask.outside(start)
            if self.again is None:
                self.walk.env[self.op.outputs[j]] = start
            return
        k = self.places[j] = self._variable(Slot(f"{self.op.name}:{j}"), start, self.op.outputs[j],
                                            start if isinstance(start, Pending) else None)
        if not isinstance(start, Pending):
            work.env[param], ask.env[self.cond.params[j]] = self.params[k], self.asked[k]
            return

        def make(element: types.Shape, _: Size) -> Tensor:
            self.inits[k] = outer = start.resolve(element)
            self.params[k] = self.walk.graph.stand_in(Spec(outer.dtype, outer.sizes))
            self.asked[k] = self.walk.graph.stand_in(Spec(outer.dtype, outer.sizes))
            return self.params[k]

        def make_asked(element: types.Shape, _: Size) -> Tensor:
            work._value(param).resolve(element) if self.params[k] is None else None
            return self.asked[k]

        work.env[param], ask.env[self.cond.params[j]] = start.inner(make), start.inner(make_asked)

    def _roomy(self, start: Any) -> Any:
        """Slots as many as there are iterations, if they are not more."""
        if not isinstance(start, Pending):
            return _padded(self.walk, start, self.room)  # type: ignore[arg-type]
        start.grow(self.room)  # type: ignore[arg-type]
        return start

    def _counts(self, j: int) -> bool:
        """Whether a variable of the user is 0, 1, 2, ..."""
        start = self.walk._value(self.op.inputs[j])
        by = control._increment(self.body.params[j], self.body.results[j])
        return by == 1 and isinstance(start, Tensor) and start.known is not None and start.known.shape == () and start.known[()] == 0

    def _settle(self) -> None:
        """Every variable has the same shape in all iterations; slots that nothing was written to drop out."""
        for k in [k for k, new in enumerate(self.news) if isinstance(new, Pending)]:
            user = self.users[k]
            assert user is not None
            self.walk.env[user] = self.inits[k]
        keep = [k for k, new in enumerate(self.news) if not isinstance(new, Pending)]
        for k in keep:
            new, old = self.news[k], self.params[k]
            if old is None:  # the body gives another array
                self.inits[k].resolve(new.sizes[1:])
                raise NotNative(self.op, "a TensorArray is replaced by another one")
            if len(new.sizes) != len(old.sizes) or any(types.same(a, b) is not True for a, b in zip(new.sizes, old.sizes)):
                raise NotNative(self.op, f"{self.slots[k].name} changes its shape: {types.shape_text(_hints(old.sizes))} becomes "
                                         f"{types.shape_text(_hints(new.sizes))}")
        for name in ("slots", "inits", "params", "asked", "news", "users"):
            setattr(self, name, [getattr(self, name)[k] for k in keep])

    # -- how often

    def _trip(self, p: Tensor) -> tuple[Size | None, bool]:
        """How often the body runs at most, as a size, and whether that is exactly how often."""
        parts, stack = [], [p]
        while stack:
            t = stack.pop()
            stack.extend(t.op.inputs) if t.op.type == "LogicalAnd" else parts.append(t)
        found = [n for n in map(self._bound, parts) if n is not None]
        if not found:
            return None, False
        least = found[0]
        for n in found[1:]:
            least = n if types.less(n, least) else least
        return least, len(found) == len(parts)  # the first to fail ends it

    def _bound(self, t: Tensor) -> Size | None:
        """Iterations after which a comparison of a counter with a known number fails."""
        if t.op.type not in _TURNED:
            return None
        kind, (a, b) = t.op.type, t.op.inputs
        if a not in self.asked:
            kind, a, b = _TURNED[kind], b, a
        if a not in self.asked or number(b) is None:
            return None
        k = self.asked.index(a)
        start, step, limit = self.inits[k].known, self._step(k), number(b)
        if start is None or types.is_unknown(start[()]) or not step:
            return None
        start = start[()]
        if kind in ("Less", "LessEqual") and step > 0:
            room, by = limit - start + (kind == "LessEqual"), step
        elif kind in ("Greater", "GreaterEqual") and step < 0:
            room, by = start - limit + (kind == "GreaterEqual"), -step
        else:
            return None
        if types.less(room, 0):
            return 0
        return room if by == 1 else types.ceildiv(room, by)

    def _step(self, k: int) -> int | None:
        new, old = self.news[k], self.params[k]
        if new.op.type not in ("Add", "Sub") or new.dtype.kind not in "iu":
            return None
        a, b = new.op.inputs
        if b is old and new.op.type == "Add":
            a, b = b, a
        value = number(b) if a is old else None
        if value is None or isinstance(value, types.Dim):
            return None
        return int(value) if new.op.type == "Add" else -int(value)

    def _shorter(self, ask: Inside, count: int) -> Tensor:
        from ..ops.opdef import REGISTRY

        ask.effects = []
        with self.walk.graph.as_default():
            limit = Static(value=(self.again,), sizes=(), dtype=types.int32)
            return REGISTRY["Less"](self.asked[count], limit)

    # -- what is kept

    def _keep(self, count: int, trip: Size) -> None:
        for s in self.saved:
            t: Any = self.work._value(s.attrs["tensor"])
            if isinstance(t, Pending):
                raise NotNative(self.op, "its gradient needs a TensorArray that nothing is written to")
            if t.known is not None and not any(map(types.is_unknown, t.known.flat)):
                with self.walk.graph.as_default():
                    self.walk.env[s.outputs[0]] = Repeated(Static(  # type: ignore[assignment]
                        value=tuple(t.known.flat), sizes=t.known.shape, dtype=t.dtype))
                continue
            start = self.walk.graph.create_op(control.blank, (), {"sizes": (trip, *t.sizes), "dtype": t.dtype}).outputs[0]
            k = self._variable(Slot(s.name), start, s.outputs[0])
            with self.walk.graph.as_default():
                self.news[k] = control.put(self.params[k], self.params[count], t)

    def _emit(self, p: Tensor, trip: Size | None, exact: bool, count: int, keeps: bool) -> None:
        walk, op = self.walk, self.op
        captures: dict[Tensor, int] = {}
        body = self.work.program(captures, (), list(zip(self.slots, self.params)), list(zip(self.slots, self.news)))
        cond = self.ask.program(captures, (p,), list(zip(self.slots, self.asked)))
        if self.again is not None and self.work.effects:
            raise NotNative(op, "its gradient needs to run it again, but it has effects")
        if any(t.dtype.kind == "s" for t in self.inits):
            raise NotNative(op, "strings are loop variables")
        specs = [Spec(t.dtype, t.sizes) for t in self.inits]
        attrs = {"cond": cond, "body": body, "specs": tuple(specs), "trip": trip, "checked": not exact,
                 "compact": op.attrs.get("compact", False)}
        new = _new(walk, op, control.loop_op, [*self.inits, *captures], attrs, specs)
        if self.work.effects or self.ask.effects:
            walk.effects.append(new)
        for user, t in zip(self.users, new.outputs):
            if user is not None and (self.again is None or user not in walk.env):
                walk.env[user] = t
        if self.again is not None:
            return
        for i, v in enumerate(self.writes):
            out = op.outputs[self.n + i]
            walk.current[v], walk.written[v] = walk.env[out], out
        final = new.outputs[count]
        if trip is not None and exact:
            with walk.graph.as_default():
                final = Static(value=(trip,), sizes=(), dtype=types.int32)
        walk.env[op.outputs[-1]] = final


_TURNED = {"Less": "Greater", "LessEqual": "GreaterEqual", "Greater": "Less", "GreaterEqual": "LessEqual"}


def opdef_constant(walk: _Walk, value: int, dtype: types.DType) -> Tensor:
    with walk.graph.as_default():
        return opdef.constant(np.array(value, dtype.np), dtype)


def _hints(sizes: Any) -> Any:
    return tuple(types.hint(n) for n in sizes)


def counter(walk: _Walk, op: Operation) -> None:
    """The run counter of a random op inside a loop that runs again."""
    of = op.attrs["of"]
    walk.env[op.outputs[0]] = walk.input(("counter", of), of.outputs[0])


def drawn(walk: _Walk, op: Operation) -> None:
    """A random op of a loop that runs again: the same op, for the run counter it had."""
    walk._plain(op, [walk._value(t) for t in op.inputs], op.attrs["of"])


def recalled(walk: _Walk, op: Operation) -> None:
    """A value of one iteration."""
    inputs = [walk._value(t) for t in op.inputs]
    if isinstance(inputs[0], Repeated):
        walk.env[op.outputs[0]] = inputs[0].tensor
    else:
        walk._plain(op, resolved(op, inputs, op))


SPECIAL: dict[Any, Callable[[_Walk, Operation], None]] = {control.put: written, control.unwritten: written, control.cond_op: branch,
                                                          control.while_op: loop, control.array_op: array,
                                                          control.saved_op: late, control.recall: recalled,
                                                          control.counter_op: counter, control.drawn_op: drawn}
