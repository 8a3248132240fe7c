"""A loop opened: one graph in which its body and condition read outer tensors directly, for passes that move work.

What does not depend on a variable is the same in all iterations; where the loop ends is decided when it is closed again:
such values are computed before it, unless they may fail, have an effect, or are cheap to make where they are read.
Knows programs, loops and counters; changes nothing by itself (rank 4).
"""
from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np

from .. import types
from ..graph import Operation, Spec, Tensor
from ..ops import control, opdef
from ..ops.control import Slot
from ..ops.pull import has_check
from ..types import Size
from . import fold
from .program import ordered, Program, rebuild, substitute, with_inputs
from .rewrite import op as ops
from .rewrite import splat

# Families whose ops stay in the loop: they cost nothing where they are read, or must not run more or less often.
STAY = ("constant", "input", "control", "host", "state", "movement", "linalg", "random")


class Variable:
    """A loop variable: its key, its initial value outside, and the tensor that stands for it inside."""

    def __init__(self, slot: Slot, init: Tensor, param: Tensor):
        self.slot, self.init, self.param = slot, init, param

    def __repr__(self) -> str:
        return f"<{self.slot.name}>"


class Late(NamedTuple):
    """A value outside, made when the loop is closed from final values of variables.

    clean: rows that a loop which ends early leaves out are zeros.
    """

    uses: tuple[Variable, ...]
    make: Callable[[Callable[[Variable], Tensor]], Tensor]
    clean: bool = False


def outer(t: Tensor) -> Late:
    return Late((), lambda final: t)


class Counter(NamedTuple):
    """What a variable counts: start (None where it is not known before the loop runs), and what an iteration adds."""

    start: Size | None
    step: int


class Open:
    """A loop with its condition and body as one graph.

    program: outputs are the condition; writes the next value of each variable.  Its order of ops ends at `outer`.
    finals: what became of variables that left the loop.  needed: positions of outputs that are read outside.
    descends: a counter that starts anywhere below `trip` and goes down to 0, one by one, and no condition ends that before.
    """

    def __init__(self, op: Operation, inputs: Sequence[Tensor], needed: Iterable[int]):
        self.op, n = op, len(op.outputs)
        body, cond = op.attrs["body"], op.attrs["cond"]
        inputs = [told(t) for t in inputs]
        self.trip: Size | None = op.attrs["trip"]
        self.checked: bool = op.attrs["checked"]
        self.compact: bool = op.attrs.get("compact", False)
        of = {slot: t for kind, slot, t in body.inputs if kind == "variable"}
        self.variables = [Variable(slot, init, of[slot]) for (slot, _), init in zip(body.writes, inputs)]
        self.original = list(self.variables)
        self.needed = set(needed)
        self.outer = {t for t in inputs if not _repeated(t)}
        self.finals: dict[Variable, Late] = {}
        self.descends: Variable | None = None
        self.stacks: set[Variable] = set()
        captures = {t: inputs[n + j] for kind, j, t in body.inputs if kind == "capture"}
        asked = {t: of[what] if kind == "variable" else inputs[n + what] for kind, what, t in cond.inputs}
        work, ask = substitute(body, captures), substitute(cond, asked)
        self.asks = len(ask.effects)
        self.hold(Program((), ask.outputs, work.writes, (*ask.effects, *work.effects)))

    # -- the graph inside

    def hold(self, program: Program) -> None:
        program.__dict__["_order"] = _until(program, self.outer)
        self.program = program
        self.news: dict[Slot, Tensor] = dict(program.writes)  # type: ignore[arg-type]
        self._variant: set[Tensor] | None = None
        self._readers: dict[Tensor, list[Operation]] | None = None
        self._asking: set[Operation] | None = None

    @property
    def asking(self) -> set[Operation]:
        """Ops of the condition: they run once more than the body, with counters one step further."""
        if self._asking is None:
            self._asking = set(_until(Program((), (self.cond,), (), self.program.effects[:self.asks]), self.outer))
        return self._asking

    def new(self, v: Variable) -> Tensor:
        """The next value of `v`."""
        return self.news[v.slot]

    @property
    def cond(self) -> Tensor:
        return self.program.outputs[0]

    @property
    def exact(self) -> bool:
        return self.trip is not None and not self.checked

    def change(self, change: Callable[[Operation, tuple[Tensor, ...]], Any]) -> None:
        self.hold(rebuild(self.program, change))

    def replace(self, mapping: dict[Tensor, Tensor]) -> None:
        """Other tensors in the place of some; those that come from outside must be in `outer` already."""
        self.hold(substitute(self.program, mapping))

    def drop(self, v: Variable, final: Late) -> None:
        """Takes out a variable that nothing inside reads any more; `final` is its final value."""
        self.finals[v] = final
        self.variables.remove(v)
        p = self.program
        self.hold(Program((), p.outputs, tuple((s, t) for s, t in p.writes if s is not v.slot), p.effects))

    def add(self, name: str, init: Tensor, new: Callable[[Tensor], Tensor]) -> Variable:
        """A new variable; `new` makes its next value from it."""
        with opdef.scratch(self.op) as g:
            v = Variable(Slot(name), init, g.stand_in(Spec(init.dtype, init.sizes)))
            value = new(v.param)
        self.variables.append(v)
        p = self.program
        self.hold(Program((), p.outputs, (*p.writes, (v.slot, value)), p.effects))  # type: ignore[arg-type]
        return v

    def assign(self, v: Variable, value: Tensor) -> None:
        p = self.program
        self.hold(Program((), p.outputs, tuple((s, value if s is v.slot else t) for s, t in p.writes), p.effects))

    def ask(self, cond: Tensor) -> None:
        """Another condition."""
        p = self.program
        self.hold(Program((), (cond,), p.writes, p.effects))

    @property
    def variant(self) -> set[Tensor]:
        """Tensors that may differ between iterations."""
        if self._variant is None:
            self._variant = {v.param for v in self.variables}
            for o in self.program.ops():
                if o.opdef.effect is not None or any(t in self._variant for t in o.inputs):
                    self._variant.update(o.outputs)
        return self._variant

    def readers(self, t: Tensor) -> list[Operation]:
        """Ops inside that read `t`, once per use."""
        if self._readers is None:
            self._readers = self.program.consumers()
        return self._readers.get(t, [])

    def is_next(self, t: Tensor) -> bool:
        """Whether `t` is the next value of a variable, or the condition."""
        return t is self.cond or any(new is t for new in self.news.values())

    def only_reads(self, v: Variable, *allowed: Operation) -> bool:
        """Whether nothing but these ops reads `v`, and no other variable takes its value."""
        others = any(new is v.param for slot, new in self.news.items() if slot is not v.slot)
        return not others and self.cond is not v.param and all(o in allowed for o in self.readers(v.param))

    def outside(self, t: Tensor) -> Tensor:
        """Marks `t`, which depends on outer tensors only, as computed before the loop (unless the loop makes it as cheaply itself)."""
        if not _repeated(t):
            self.outer.add(t)
        return t

    def safe(self, t: Tensor) -> bool:
        """Whether `t`, the same in all iterations, may be computed although there may be none: nothing it needs inside can fail."""
        def may_fail(o: Operation) -> bool:
            return bool(o.opdef.effect or o.opdef.family in ("control", "host", "linalg") and o.inputs or has_check(o))
        return t not in self.variant and not any(map(may_fail, _until(Program((), (t,)), self.outer)))

    # -- what counts

    def counter(self, v: Variable) -> Counter | None:
        """The start and the step of an integer scalar that every iteration changes by the same number."""
        new = self.new(v)
        if v.init.sizes != () or v.init.dtype.kind not in "iu" or new.op.opdef not in (ops.Add, ops.Sub):
            return None
        a, b = new.op.inputs
        if b is v.param and new.op.opdef is ops.Add:
            a, b = b, a
        by = value(b) if a is v.param else None
        if not isinstance(by, int) or by == 0:
            return None
        return Counter(value(v.init), by if new.op.opdef is ops.Add else -by)

    def indexes(self) -> list[Variable]:
        """Counters whose values are all different, and those of the rows 0 .. trip - 1 (some of them where `checked`)."""
        if self.trip is None:
            return []
        found = []
        for v in self.variables:
            c = self.counter(v)
            if c is None:
                continue
            up = c.step == 1 and c.start is not None and types.same(c.start, 0)
            down = c.step == -1 and (v is self.descends or self.exact and c.start is not None and types.same(c.start, self.trip - 1))
            if up or down:
                found.append(v)
        return found

    def visited(self, k: Variable) -> Late:
        """How many rows, the first ones, an index has visited at the end: an integer scalar."""
        c = self.counter(k)
        if c is not None and c.step < 0:
            def one_more(final: Any) -> Tensor:
                return k.init + opdef.constant(np.array(1, k.init.dtype.np), k.init.dtype)
            return Late((), one_more)
        return Late((k,), lambda final: final(k))

    # -- closing

    def live(self) -> list[Variable]:
        """Variables that the condition, an effect or the results need."""
        found: dict[Variable, None] = {}
        of = {v.param: v for v in self.variables}
        todo = [of[t] for t in self._reach([self.cond], self.program.effects) if t in of]
        results, seen = [self.original[j] for j in self.needed], set()
        while results:
            v = results.pop()
            if v not in seen:
                seen.add(v)
                (results if v in self.finals else todo).extend(self.finals[v].uses if v in self.finals else [v])
        while todo:
            v = todo.pop()
            if v not in found:
                found[v] = None
                todo.extend(of[t] for t in self._reach([self.new(v)]) if t in of)
        return [v for v in self.variables if v in found]

    def _reach(self, roots: Sequence[Tensor], effects: Sequence[Operation] = ()) -> set[Tensor]:
        inside = _until(Program((), tuple(roots), (), tuple(effects)), self.outer)
        return {t for o in inside for t in o.outputs}

    def close(self) -> tuple[Operation, dict[int, Tensor]]:
        """The loop as an op, and what its needed outputs are now."""
        live = self.live()
        live = live or self.variables[:1]
        if len(live) < len(self.variables):
            keep = {v.slot for v in live}
            p = self.program
            self.hold(Program((), p.outputs, tuple((s, t) for s, t in p.writes if s in keep), p.effects))
            self.variables = live
        captures: dict[Tensor, int] = {}
        p, old = self.program, self.op
        cond = self._program(Program((), p.outputs, (), p.effects[:self.asks]), captures)
        body = self._program(Program((), (), p.writes, p.effects[self.asks:]), captures)
        specs = [Spec(v.init.dtype, v.init.sizes) for v in live]
        attrs = {"cond": cond, "body": body, "specs": tuple(specs), "trip": self.trip, "checked": self.checked,
                 "compact": self.compact}
        new = Operation(old.graph, old.id, old.name, old.opdef, (*[v.init for v in live], *captures), old.control_inputs, attrs, specs,
                        old.device, old.site, old.origin or (old.name,))
        made, results = dict(zip(live, new.outputs)), {}  # type: dict[Variable, Tensor], dict[Variable, Tensor]

        def final(v: Variable) -> Tensor:
            if v not in results:
                with opdef.scratch(old):
                    results[v] = self.finals[v].make(final) if v in self.finals else made[v]
            return results[v]

        return new, {j: final(self.original[j]) for j in sorted(self.needed)}

    def _program(self, part: Program, captures: dict[Tensor, int]) -> Program:
        """A program of its own: variables and captures are its inputs."""
        still = [o for o in self.program.ops() if o.outputs and o.outputs[0] not in self.variant]
        ends = self.outer.union(t for o in still if _moves_out(o) for t in o.outputs)
        with opdef.scratch(self.op) as g:
            mapping = {v.param: g.stand_in(Spec(v.init.dtype, v.init.sizes)) for v in self.variables}
            inputs: list[Any] = [("variable", v.slot, mapping[v.param]) for v in self.variables]
            effects: dict[Operation, Operation] = {}

            def inside(t: Tensor) -> Tensor:
                if t in ends and t not in mapping:
                    mapping[t] = g.stand_in(Spec(t.dtype, t.sizes, t.known))
                    inputs.append(("capture", captures.setdefault(t, len(captures)), mapping[t]))
                return mapping.get(t, t)

            for o in _until(part, ends):
                if o.opdef is not opdef.StandIn:
                    copy = with_inputs(o, tuple([inside(t) for t in o.inputs]), tuple([effects.get(c, c) for c in o.control_inputs]))
                    effects[o] = copy
                    mapping.update(zip(o.outputs, copy.outputs))
            done = part.with_roots(inside, lambda o: effects.get(o, o))
        return Program(tuple(inputs), done.outputs, done.writes, done.effects)


def _until(program: Program, outer: set[Tensor]) -> list[Operation]:
    """The ops of a program, inputs first, without those that make `outer` tensors."""
    return ordered([*[t.op for t in program.roots() if t not in outer], *program.effects], outer)


def _moves_out(o: Operation) -> bool:
    """Whether an op that is the same in all iterations runs before the loop."""
    if o.opdef.effect is not None or o.opdef.family in STAY or not o.inputs or has_check(o):
        return False
    if any(t.dtype.kind == "s" for t in (*o.inputs, *o.outputs)):
        return False
    made, read = (sum(elements(t) for t in side) for side in (o.outputs, o.inputs))
    return made <= read or o.opdef._fold is not None  # what only spreads a few numbers is cheaper where it is read


def elements(t: Tensor) -> int:
    return int(np.prod([types.hint(n) or 0 for n in t.sizes or ()], dtype=np.int64))


# ---------------------------------------------------------------- what is known of a tensor


def told(t: Tensor) -> Tensor:
    """An integer scalar whose value the compiler knows, as a constant."""
    if t.op.opdef.family in ("constant", "input") or t.sizes != () or t.dtype.kind not in "iu" or value(t) is None:
        return t
    return static(t.op, value(t), t.dtype)


def static(like: Operation, number: Any, dtype: types.DType) -> Tensor:
    """A known integer scalar."""
    if not isinstance(number, types.Dim):
        return fold.const(like, np.array(number, dtype.np), dtype)
    with opdef.scratch(like) as g:
        return g.create_op(fold.Static, (), {"value": (number,), "sizes": (), "dtype": dtype}).outputs[0]


def value(t: Tensor, depth: int = 4) -> Any:
    """The number (or size) that an integer scalar is, else None."""
    if t.sizes != () or t.dtype.kind not in "iu":
        return None
    if t.known is not None:
        found: Any = t.known[()]
        return None if types.is_unknown(found) else found if isinstance(found, types.Dim) else int(found)
    if t.op.opdef is opdef.Const:
        return int(t.op.attrs["value"])
    if depth and t.op.opdef in (ops.Add, ops.Sub):
        a, b = (value(x, depth - 1) for x in t.op.inputs)
        return None if a is None or b is None else a + b if t.op.opdef is ops.Add else a - b
    return None


def bound(t: Tensor) -> Size | None:
    """A size that the integer scalar `t` is not above."""
    known = value(t)
    if known is not None:
        return known
    o = t.op
    if o.opdef in (ops.Add, ops.Sub) and value(o.inputs[1]) is not None:
        most = bound(o.inputs[0])
        by = value(o.inputs[1])
        return None if most is None else most + by if o.opdef is ops.Add else most - by
    if o.opdef is control.loop_op and o.attrs["trip"] is not None:
        body, j = o.attrs["body"], t.value_index
        slot, new = body.writes[j]
        param = next(x for kind, what, x in body.inputs if kind == "variable" and what is slot)
        if value(o.inputs[j]) is not None and new.op.opdef is ops.Add and new.op.inputs[0] is param and value(new.op.inputs[1]) == 1:
            return value(o.inputs[j]) + o.attrs["trip"]
    return None


def filled(t: Tensor) -> Any:
    """The number that every element is, where that is plain to see; else None."""
    o = t.op
    if o.opdef is opdef.Const:
        return splat(t)
    if o.opdef is control.zeros_op or o.opdef is ops.ZerosLike:
        return 0
    if o.opdef is ops.Fill:
        return splat(o.inputs[1])
    return None


def _repeated(t: Tensor) -> bool:
    """Whether a loop makes the value itself where it reads it: constants, and memory full of one number."""
    o = t.op
    return o.opdef.family == "constant" or filled(t) is not None and all(x.op.opdef.family == "constant" for x in o.inputs)
