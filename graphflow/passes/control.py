"""Branches and loops made smaller: what nobody reads goes, what stays the same leaves, what counts is known.

A loop is opened (passes/opened.py), the steps below and those of passes/loops.py change it until none of them finds anything,
and it is closed again; closing leaves out what nothing needs, and moves what is the same in all iterations before it.
Knows counters, slots of arrays and their masks (rank 4).
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any


from .. import types
from ..graph import Operation, Spec, Tensor
from ..ops import control as forms
from ..ops import opdef
from . import cse, loops
from .opened import Late, Open, Variable, bound, filled, outer, static, value
from .program import Program, substitute, with_inputs
from .rewrite import note, splat
from .rewrite import op as ops

# Times that all loops are looked at again: one that no longer asks for a value lets the one before it drop that.
ROUNDS = 4
# Times that the steps go over one loop.
REPEATS = 8


def control(program: Program) -> Program:
    """The program with smaller branches and loops."""
    for _ in range(ROUNDS):
        if not any(o.opdef in (forms.loop_op, forms.branch_op) for o in program.ops()):
            return program
        after = Round(program, _loop, _branch).run()
        if after is program:
            return program
        program = after
    return program


Closed = tuple[Operation, dict[int, Tensor]]
Change = Callable[[Operation, list[int], bool], Closed | None]


class Round:
    """One walk over a program, inputs first.  loop, branch: what becomes of one, None for no change."""

    def __init__(self, program: Program, loop: Change, branch: Change):
        self.program, self.loop, self.branch = program, loop, branch
        self.read = {t for o in program.ops() for t in o.inputs}.union(program.roots())
        self.new: dict[Tensor, Tensor] = {}
        self.ops: dict[Operation, Operation] = {}

    def run(self) -> Program:
        for o in self.program.ops():
            inputs = tuple([self.new.get(t, t) for t in o.inputs])
            copy = with_inputs(o, inputs, tuple([self.ops.get(c, c) for c in o.control_inputs]))
            effect = o in self.program.effects
            needed = [j for j, t in enumerate(o.outputs) if t in self.read]
            found = None
            if o.opdef is forms.loop_op:
                found = self.loop(copy, needed, effect)
            elif o.opdef is forms.branch_op:
                found = self.branch(copy, needed, effect)
            if found is not None:
                kept, outputs = found
                self.ops[o] = kept
                self.new.update({o.outputs[j]: t for j, t in outputs.items()})
            elif copy is not o:
                self.ops[o] = copy
                self.new.update(zip(o.outputs, copy.outputs))
        if not self.new and not self.ops:
            return self.program
        return self.program.with_roots(lambda t: self.new.get(t, t), lambda o: self.ops.get(o, o))



# ---------------------------------------------------------------- branches


def _branch(op: Operation, needed: list[int], effect: bool) -> Closed | None:
    """A branch without outputs that nobody reads; the one that a constant predicate picks, in its place."""
    picked = splat(op.inputs[0])
    programs = op.attrs["branches"]
    if picked is not None and not effect:
        chosen = programs[0 if picked else 1]
        if all(chosen.outputs[j] is not None for j in needed):
            note("branch is known", [op])
            done = substitute(chosen, {t: op.inputs[1 + j] for _, j, t in chosen.inputs})
            return op, {j: done.outputs[j] for j in needed}  # type: ignore[misc]
    captures: dict[Tensor, int] = {}
    slim = []
    for p in programs:
        opened = substitute(p, {t: op.inputs[1 + j] for _, j, t in p.inputs if op.inputs[1 + j].op.opdef.family == "constant"})
        kept = Program(opened.inputs, tuple(opened.outputs[j] for j in needed), (), opened.effects)
        used = {t for o in kept.ops() for t in o.outputs}
        slim.append(Program(tuple(("capture", captures.setdefault(op.inputs[1 + j], len(captures)), t)
                                  for _, j, t in kept.inputs if t in used), kept.outputs, (), kept.effects))
    if len(needed) == len(op.outputs) and len(captures) == len(op.inputs) - 1 or not needed and not effect:
        return None
    note("unused parts of a branch", [op])
    specs = [Spec(op.outputs[j].dtype, op.outputs[j].sizes) for j in needed]
    attrs = {"branches": tuple(slim), "specs": tuple(specs)}
    new = Operation(op.graph, op.id, op.name, op.opdef, (op.inputs[0], *captures), op.control_inputs, attrs, specs, op.device, op.site,
                    op.origin or (op.name,))
    return new, dict(zip(needed, new.outputs))


# ---------------------------------------------------------------- loops


def _loop(op: Operation, needed: list[int], effect: bool) -> Closed | None:
    """A loop after all steps, or None where none of them finds anything."""
    loop = Open(op, op.inputs, needed)
    changed = False
    for _ in range(REPEATS):
        names = [step.__doc__.split(":")[0] for step in STEPS if step(loop)]  # type: ignore[union-attr]
        for name in names:
            note(name, [op])
        if not names:
            break
        changed = True
    once = None if effect else never(loop) or single(loop)
    if once is not None:
        note("loop of no iteration" if splat(loop.cond) == 0 or types.same(loop.trip or 0, 0) else "loop of one iteration", [op])
        return op, once
    new, outputs = loop.close()
    if not changed and len(new.inputs) == len(op.inputs) and len(new.outputs) == len(op.outputs) and _sizes(new) == _sizes(op):
        return None
    if not changed:
        note("unused or unchanging parts of a loop", [op])
    return new, outputs


def _sizes(op: Operation) -> list[int]:
    return [len(op.attrs[k].ops()) for k in ("cond", "body")]


def never(loop: Open) -> dict[int, Tensor] | None:
    """The initial values as results, where no iteration runs."""
    if not (splat(loop.cond) is not None and not splat(loop.cond) or loop.exact and isinstance(loop.trip, int) and loop.trip == 0):
        return None
    return _results(loop, lambda v: v.init)


def single(loop: Open) -> dict[int, Tensor] | None:
    """The values after one iteration, made without a loop, where exactly one runs."""
    if not (loop.exact and isinstance(loop.trip, int) and loop.trip == 1):
        return None
    done = substitute(loop.program, {v.param: v.init for v in loop.variables})
    news = dict(done.writes)
    return _results(loop, lambda v: news[v.slot])  # type: ignore[index]


def _results(loop: Open, last: Callable[[Variable], Tensor]) -> dict[int, Tensor]:
    def final(v: Variable) -> Tensor:
        if v not in loop.finals:
            return last(v)
        with opdef.scratch(loop.op):
            return loop.finals[v].make(final)
    return {j: final(loop.original[j]) for j in sorted(loop.needed)}


def unchanging(loop: Open) -> bool:
    """unchanging loop variable: one whose next value is itself, or its initial value, is read from outside."""
    found = [v for v in loop.variables if loop.new(v) is v.param or loop.new(v) is v.init]
    if not found or len(found) == len(loop.variables):
        return False
    for v in found:
        loop.outside(v.init)
        loop.replace({v.param: v.init})
        loop.drop(v, outer(v.init))
    return True


def equal(loop: Open) -> bool:
    """equal loop variables: those that begin and go on alike become one."""
    table: dict[Any, int] = {}

    def number(key: Any) -> int:
        return table.setdefault(key, len(table))

    classes = {v: number(("start", _start(v.init), v.init.dtype)) for v in loop.variables}
    while True:
        of: dict[Tensor, Any] = {v.param: number(("variable", classes[v])) for v in loop.variables}
        for o in loop.program.ops():
            if not o.outputs or o.outputs[0] not in of:
                key = number(_key(o, [of.get(t, t) for t in o.inputs]))
                of.update((t, number((key, t.value_index))) for t in o.outputs)
        refined = {v: number(("next", classes[v], of.get(loop.new(v), loop.new(v)))) for v in loop.variables}
        if len(set(refined.values())) == len(set(classes.values())):
            break
        classes = refined
    first: dict[Any, Variable] = {}
    twins = [(v, first[classes[v]]) for v in loop.variables if first.setdefault(classes[v], v) is not v]
    if not twins:
        return False
    loop.replace({v.param: one.param for v, one in twins})
    for v, one in twins:
        loop.drop(v, Late((one,), lambda final, one=one: final(one)))  # type: ignore[misc]
    return True


def _start(t: Tensor) -> Any:
    return ("filled", filled(t), t.dtype, t.sizes) if filled(t) is not None else (
        ("blank", t.dtype, t.sizes) if t.op.opdef is forms.blank else cse.key(t.op) if t.op.opdef is opdef.Const else t)


def _key(o: Operation, inputs: list[Any]) -> Any:
    """Equal for ops that compute the same from equal inputs."""
    if o.opdef.effect is not None or o.opdef.family == "input":
        return o
    if o.opdef is opdef.Const:
        return cse.key(o)
    try:
        found = o.opdef, frozenset(inputs) if o.opdef.commutative and len(set(inputs)) == 2 else tuple(inputs), cse.frozen(o.attrs)
        hash(found)
    except TypeError:
        return o
    return found


def known_trip(loop: Open) -> bool:
    """iterations are known: counters are compared with known numbers."""
    parts, stack = [], [loop.cond]
    while stack:
        t = stack.pop()
        stack.extend(t.op.inputs) if t.op.opdef is ops.LogicalAnd else parts.append(t)
    parts = list({cse.key(t.op): t for t in parts}.values())
    if len(parts) == 1 and parts[0] is not loop.cond:  # two counters that became one
        loop.ask(parts[0])
    if loop.exact:
        return False
    limits = [(n, t) for t in parts if (n := _limit(loop, t, parts)) is not None]
    if not limits:
        return False
    (least, at), exact = limits[0], len(limits) == len(parts) and loop.descends is None
    for n, t in limits[1:]:
        if types.less(n, least):
            least, at = n, t
    if loop.trip is not None and not exact and types.less(least, loop.trip) is not True:
        return False
    loop.trip, loop.checked = least, not exact
    if exact:
        loop.ask(at)
    return True


_TURNED = {"Less": "Greater", "LessEqual": "GreaterEqual", "Greater": "Less", "GreaterEqual": "LessEqual"}


def _limit(loop: Open, t: Tensor, parts: Sequence[Tensor]) -> Any:
    """The number of iterations after which a comparison fails; at most that where the counter's start is not known."""
    kind = t.op.type
    if kind not in _TURNED or t.op.opdef.effect:
        return None
    a, b = t.op.inputs
    of = {v.param: v for v in loop.variables}
    if a not in of:
        kind, a, b = _TURNED[kind], b, a
    c = loop.counter(of[a]) if a in of else None
    limit = value(b)
    if c is None or limit is None:
        return None
    if kind in ("Greater", "GreaterEqual") and c.start is None and c.step == -1:
        if len(parts) > 1 or limit + (kind == "Greater") != 0:
            return None
        most = bound(of[a].init)
        if most is None:
            return None
        loop.descends = of[a]
        return most + 1
    if c.start is None or (kind in ("Less", "LessEqual")) != (c.step > 0):
        return None
    room = limit - c.start if c.step > 0 else c.start - limit
    room = room + (kind in ("LessEqual", "GreaterEqual"))
    if types.less(room, 0):
        return 0
    return room if abs(c.step) == 1 else types.ceildiv(room, abs(c.step))


def ended(loop: Open) -> bool:
    """final value of a counter is known: its start and the number of iterations are."""
    if not loop.exact:
        return False
    found = False
    for v in loop.variables:
        c = loop.counter(v)
        if c is not None and c.start is not None and v not in loop.finals:
            loop.finals[v] = outer(static(loop.op, c.start + loop.trip * c.step, v.init.dtype))  # type: ignore[operator]
            found = found or any(loop.original[j] is v for j in loop.needed)
    return found


# ---------------------------------------------------------------- slots


def _fits(loop: Open, slots: Tensor) -> bool:
    """Whether every index of the loop is a slot."""
    n = slots.sizes[0]  # type: ignore[index]
    return types.same(n, loop.trip) is True or types.less(loop.trip, n) is True  # type: ignore[arg-type]


def write_once(loop: Open) -> bool:
    """slots are written once: the index of each write is a counter."""
    indexes = {v.param for v in loop.indexes()}
    changed = False
    for v in list(loop.variables):
        asks = [o for o in loop.readers(v.param) if o.opdef is forms.unwritten]
        if v.init.dtype is not types.bool_ or filled(v.init) is None or filled(v.init):
            continue
        if not asks or loop.asking & {*asks} or not _fits(loop, v.init):
            continue
        new = loop.new(v)
        if any(o.inputs[1] not in indexes for o in asks) or not loop.only_reads(v, new.op, *asks):
            continue
        if len(set(asks)) > 1 or new.op.opdef is not forms.put or new.op.inputs[1] not in (asks[0].inputs[1], asks[0].outputs[0]):
            continue
        loop.replace({o.outputs[0]: o.inputs[1] for o in asks})
        changed = True
    return changed


def in_range(loop: Open) -> bool:
    """rows without a check: their index is a counter that stays inside."""
    indexes = {v.param for v in loop.indexes()}
    found: dict[Operation, Tensor] = {}
    for o in loop.program.ops():
        at = _row_index(o)
        if at is not None and at in indexes and _fits(loop, o.inputs[0]) and o not in loop.asking:
            with opdef.scratch(o):
                found[o] = forms.recall(o.inputs[0], at)
    if found:
        loop.replace({o.outputs[0]: t for o, t in found.items()})
    return bool(found)


def _row_index(o: Operation) -> Tensor | None:
    """The scalar index along axis 0, where an op reads one row and checks that it is one."""
    if o.opdef is forms.row or o.opdef is ops.GatherV2 and o.inputs[1].sizes == () and o.attrs["axis"] == 0 and not o.attrs["batch_dims"]:
        return o.inputs[1]
    if o.opdef is ops.StridedSlice and len(o.inputs) == 2 and o.attrs["spec"] in ((("t", 0),), (("t", 0), ("e",))):
        return o.inputs[1]
    return None


def counted(loop: Open) -> bool:
    """rows of 0, 1, 2, ...: they are the index."""
    found = {}
    for o in loop.program.ops():
        if o.opdef is forms.recall and o.inputs[0].op.opdef is ops.Range and [value(t) for t in o.inputs[0].op.inputs[::2]] == [0, 1]:
            with opdef.scratch(o):
                at = o.inputs[1]
                found[o.outputs[0]] = at if at.dtype is o.outputs[0].dtype else ops.Cast(at, DstT=o.outputs[0].dtype)
    if found:
        loop.replace(found)
    return bool(found)


def read_first(loop: Open) -> bool:
    """rows are read before they are written: reads see the initial values."""
    indexes = {v.param for v in loop.indexes()}
    found = {}
    for v in loop.variables:
        new = loop.new(v).op
        if new.opdef is not forms.put or new.inputs[0] is not v.param or new.inputs[1] not in indexes or new.inputs[2] is v.param:
            continue
        reads = [o for o in loop.readers(v.param) if o.opdef is forms.recall and o.inputs[1] is new.inputs[1]]
        if reads and not loop.asking & {*reads} and loop.only_reads(v, new, *reads):
            with opdef.scratch(new):
                found.update({o.outputs[0]: forms.recall(loop.outside(v.init), o.inputs[1]) for o in reads})
    if found:
        loop.replace(found)
    return bool(found)


def overwritten(loop: Open) -> bool:
    """slots begin as anything: the loop writes all of them, and reads none."""
    changed = False
    indexes = {v.param for v in loop.indexes()} if loop.exact else ()
    for v in loop.variables:
        new = loop.new(v).op
        if v.init.op.opdef is forms.blank or new.opdef is not forms.put or new.inputs[0] is not v.param or new.inputs[1] not in indexes:
            continue
        if not types.same(v.init.sizes[0], loop.trip) or not loop.only_reads(v, new) or v.init.dtype.kind == "s":  # type: ignore
            continue
        v.init = loop.outside(loops.memory(loop, v.init.sizes, v.init.dtype))
        changed = True
    return changed


STEPS: tuple[Callable[[Open], bool], ...] = (
    unchanging,           # first: a counter that never counts is none
    equal,                # before iterations: two counters in one condition may be the same
    known_trip,
    write_once,           # before rows and slots: their index then is the counter itself
    in_range,
    counted,              # before what is written at an index that a loop has kept
    read_first,
    overwritten,
    ended,
    loops.known_rows,
    loops.slices_of_products,
    loops.parts_of_products,
    loops.products_before,
    loops.rows_added,
    loops.sums_after,
    loops.products_after,
)
