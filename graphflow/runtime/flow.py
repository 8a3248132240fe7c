"""Branches and loops in a plan: their programs compiled, their memory, and the instructions that jump.

A loop variable has one place in memory.  Its initial value is computed there; an iteration computes the next value in the same
place where it can, else elsewhere, and copies at the end.  What a loop reads from outside stays the same, so kernels of that
alone (panels of weights) run once before it.  Knows plans and programs; knows no op but Loop and Branch (rank 4).
"""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, NamedTuple

import numpy as np

from ..codegen import compile as native
from ..codegen import emit_cpu, ir, loops
from ..flags import flags
from ..graph import Operation, Spec, Tensor
from ..ops import control
from ..ops.opdef import Const
from ..ops.pull import uniform
from ..passes import fusion
from ..passes.program import Program, rebuild, with_inputs
from .. import types
from . import runner


@dataclass
class Nest:
    """The compiled programs of a branch (then, else) or loop (condition, body), and what connects their memory with that around.

    given: by part, where its inputs are, as buffers of the program around.  flag: what decides: whether there is another iteration
    (of the condition), which branch is taken (of the program around).  results: by part, what is copied at its end, to where: the next
    values of loop variables, the results of a branch.
    """

    kind: str
    parts: list[Any]
    given: list[dict[ir.Buffer, ir.Buffer]]
    flag: ir.Buffer
    results: list[list[tuple[ir.Buffer, ir.Buffer]]]
    spare: dict[ir.Buffer, ir.Buffer] = field(default_factory=dict)  # where variables that change places wait, by place
    calls: list[Any] = field(default_factory=list)  # the units of a loop that is one kernel, in the order of its text
    trip: types.Size | None = None  # how often a loop goes round, where that is known before it begins


def prepared(program: Program) -> Program:
    """The program with a copy of its own for each initial value of a loop, and with constants that loops and branches read in memory."""
    def change(op: Operation, inputs: tuple[Tensor, ...]) -> Any:
        if op.opdef not in fusion.CONTROL:
            return None
        variables = len(op.outputs) if op.opdef is control.loop_op else 0
        new = [t if k < variables and t.op.opdef in (control.blank, control.start) else _start(op, t)
               if k < variables or t.op.opdef is Const and uniform(t.op) is not None else t for k, t in enumerate(inputs)]
        return with_inputs(op, tuple(_own(op, new, variables))).outputs
    return rebuild(program, change) if any(op.opdef in fusion.CONTROL for op in program.ops()) else program


def _start(op: Operation, t: Tensor) -> Tensor:
    return Operation(op.graph, op.id, f"{op.name}/start", control.start, (t,), (), {}, [Spec(t.dtype, t.sizes)], op.device, op.site,
                     op.origin or (op.name,)).outputs[0]


def _own(op: Operation, inputs: list[Tensor], variables: int) -> list[Tensor]:
    """Memory without content is not shared by two variables."""
    seen: set[Tensor] = set()
    for k, t in enumerate(inputs[:variables]):
        if t.op.opdef is control.blank:
            o = t.op
            inputs[k] = t = Operation(o.graph, o.id, o.name, o.opdef, (), (), o.attrs, [Spec(t.dtype, t.sizes)], o.device, o.site,
                                      o.origin or (o.name,)).outputs[0]
        elif t in seen:
            inputs[k] = t = _start(op, t)
        seen.add(t)
    return inputs


def unit(compiled: Any, c: fusion.Cluster) -> Any:
    """The unit of a branch, a loop, or memory without content."""
    from .plan import Compiled, Unit

    op = c.ops[0]
    if op.opdef is control.blank:
        return Unit(c, None, [], [compiled.buffers[op.outputs[0]]])
    reads = [compiled.buffers[t] for t in op.inputs if t in compiled.buffers]
    writes = [compiled.buffers[t] for t in op.outputs]
    if op.opdef is control.loop_op:
        parts = [Compiled(op.attrs[p], inside="loop", place=compiled.place, around=compiled) for p in ("cond", "body")]
        for t, init in zip(op.outputs, op.inputs):
            root = compiled.buffers[init]
            compiled.alias[compiled.buffers[t]] = compiled.alias.get(root, root)
        ask, work = parts
        changes = [(b, work.buffers[t]) for b, (_, t) in zip(writes, work.program.writes)]
        nest = Nest("loop", parts, [_given(compiled, op, p) for p in parts], ask.buffers[ask.program.outputs[0]], [[], changes])
        nest.trip = None if op.attrs["checked"] else op.attrs["trip"]
        return Unit(c, None, reads, writes, nest=nest)
    branches = [Program(p.inputs, tuple(t for t in p.outputs if t is not None), p.writes, p.effects) for p in op.attrs["branches"]]
    parts = [Compiled(p, inside="branch", place=compiled.place, around=compiled) for p in branches]
    results = [[(b, part.buffers[t]) for t, b in zip(part.program.outputs, [b for t, b in zip(p.outputs, writes) if t is not None])]
               for part, p in zip(parts, op.attrs["branches"])]  # the part's own program may be rebuilt
    return Unit(c, None, reads, writes, nest=Nest("branch", parts, [_given(compiled, op, p) for p in parts], compiled.buffers[op.inputs[0]],
                                                  results))


def _given(home: Any, op: Operation, part: Any) -> dict[ir.Buffer, ir.Buffer]:
    """Where the inputs of a program inside `op` are, as buffers of the program around it."""
    found = {}
    variables = [slot for kind, slot, _ in op.attrs["body"].inputs if kind == "variable"] if op.opdef is control.loop_op else []
    first = len(variables) if op.opdef is control.loop_op else 1
    for t, (kind, what) in part.inputs.items():
        if t in part.buffers:
            found[part.buffers[t]] = home.buffers[op.inputs[variables.index(what) if kind == "variable" else first + what]]
    return found


@dataclass(frozen=True)
class Row:
    """A buffer that is row `index` of `base`: nothing is copied."""

    base: ir.Buffer
    index: ir.Buffer


def rows(compiled: Any) -> dict[ir.Buffer, Row]:
    """Values of a loop's body that are made in, or read from, the row of an array to which they would be copied.

    A value that is only made to be put into slots is computed there; a row that a kernel would only copy is read in place.  The index
    is the same from the begin of the iteration until the last use; nobody writes over what is in the row, or reads it before.
    """
    found: dict[ir.Buffer, Row] = {}
    shared = set(compiled.alias.values())
    params = {compiled.buffers[t]: what for t, (kind, what) in compiled.inputs.items() if t in compiled.buffers}
    for u in list(compiled.units):
        op = u.cluster.ops[0]
        if u.prologue or len(u.cluster.ops) != 1 or op.opdef not in (control.put, control.recall) or u.emitted is None:
            continue
        base, index = compiled.buffers.get(op.inputs[0]), compiled.buffers.get(op.inputs[1])
        b = compiled.buffers.get(op.inputs[2] if op.opdef is control.put else op.outputs[0])
        if base not in params or index not in params or b is None or b in params or b in found or b in compiled.alias or b in shared:
            continue
        if op.opdef is control.put and not _made_in_place(compiled, u, op, base, b):
            continue
        users = [v for v in compiled.units if v is not u and (b in v.reads or b in v.writes or any(
            compiled.buffers.get(x) is b for x in v.reads if isinstance(x, Tensor)))]
        if any(v.emitted is None or v.prologue for v in users) or not _counted_last(compiled, index):
            continue
        found[b] = Row(base, index)
        compiled.units.remove(u)
    return found


def _made_in_place(compiled: Any, u: Any, op: Operation, base: ir.Buffer, b: ir.Buffer) -> bool:
    """Whether the value of a put is made by a kernel of this iteration, and the slots are neither read in it nor copied."""
    if compiled.alias.get(compiled.buffers[op.outputs[0]]) not in (base, compiled.alias.get(base, base)):
        return False
    if b in compiled.arrays or sum(base in v.reads or base in v.writes for v in compiled.units if v is not u):
        return False
    makers = [v for v in compiled.units if b in v.writes]
    return bool(makers) and all(v.emitted is not None for v in makers) and tuple(b.sizes) == tuple(base.sizes[1:]) and b.dtype is base.dtype


def _counted_last(compiled: Any, index: ir.Buffer) -> bool:
    """Lets the index change at the end of the iteration only.  False where its next value is needed before."""
    changing = [v for v in compiled.units if any(compiled.alias.get(b) is index for b in v.writes)]
    for v in changing:
        twice = sum(compiled.buffers[t] in v.writes for _, t in compiled.program.writes) != len(v.writes)
        if twice or any(b in w.reads for b in v.writes for w in compiled.units) or any(w.nest for w in compiled.units):
            return False
    for v in changing:
        v.closing = True
    return True


# ---------------------------------------------------------------- a loop as one kernel

DEADLINE = "deadline"  # in a table: the address of the runner's deadline
CALLS = 48  # more kernels than these are not put into one


class _Aliases:
    """What `moves` needs before there is a plan."""

    def __init__(self, compiled: Any):
        self.alias = aliases(compiled)


def settle(compiled: Any) -> None:
    """Loops of small kernels become one kernel each; the others find rows of arrays in place."""
    if any(u.nest for u in compiled.units):
        _settle(compiled, _Aliases(compiled), compiled.on_devices)


def _settle(home: Any, known: _Aliases, devices: bool = False) -> None:
    for u in home.units:
        if u.nest is None:
            continue
        for v in _loops(u):
            v.nest.spare = {target: ir.Buffer(target.dtype, target.sizes, "tmp", "spare") for _, target, _ in swaps(known, v)}
        if u.nest.kind == "loop" and flags.optimize and not devices and _small(u):
            u.emitted = _OneKernel(u, known).emitted()
        if u.emitted is None:
            for part in u.nest.parts:
                if part.inside == "loop" and flags.optimize and not devices:  # launches are recorded with their addresses
                    part.rows = rows(part)
                _settle(part, known, devices)
        for part in u.nest.parts:
            for v in part.units:
                if v.emitted is not None and (u.emitted is None or v.prologue):
                    for source in (*v.emitted.calls, v.emitted.source):
                        native.begin(source)
    if not home.inside:
        for u in home.units:
            if u.nest and u.emitted is not None:
                for source in (*u.emitted.calls, u.emitted.source):
                    native.begin(source)


def _loops(u: Any) -> list[Any]:
    return [u] * (u.nest.kind == "loop") + [x for part in u.nest.parts for v in part.units if v.nest for x in _loops(v)]


def _small(u: Any) -> bool:
    """Whether everything inside is native, of little work, and not much; a loop inside must end by itself: only the outermost pauses."""
    if any(v.nest and v.nest.kind == "loop" and v.op.attrs["trip"] is None for part in u.nest.parts for v in part.every()):
        return False
    units = [v for part in u.nest.parts for v in part.units if v.cluster.kind != "blank"]
    return len(units) <= CALLS and all(_small(v) if v.nest else v.emitted is not None and _light(v.emitted) for v in units)


def _light(e: emit_cpu.Emitted) -> bool:
    from .plan import SPLIT

    return not e.source.startswith(";") and (types.hint(e.extent) or 1) * (types.hint(e.work) or 1) <= SPLIT


class _OneKernel:
    """A loop with all that is in it as one kernel."""

    def __init__(self, u: Any, known: _Aliases):
        self.u, self.known = u, known
        self.table: list[Any] = []
        self.sizes: list[Any] = []

    def emitted(self) -> emit_cpu.Emitted | None:
        items = [self.loop(self.u)]
        deadline = self.entry(DEADLINE)
        memory = [self.known.alias.get(x, x) if isinstance(x, ir.Buffer) else None if x == DEADLINE else x for x in self.table]
        try:
            text = loops.fused(items, deadline, memory)
        except loops.Unfit:
            return None
        buffers = list(dict.fromkeys(x for x in self.table if isinstance(x, ir.Buffer)))
        calls = tuple(dict.fromkeys(x for x in self.table if isinstance(x, str) and x != DEADLINE))
        return emit_cpu.Emitted(text, buffers, self.sizes, 1, 1, [c for v in self.u.nest.calls for c in v.emitted.checks], False,
                                calls=calls, table=tuple(self.table))

    def entry(self, x: Any) -> int:
        self.table.append(x)
        return len(self.table) - 1

    def number(self, n: Any) -> Any:
        if not isinstance(n, types.Dim):
            return int(n)
        self.sizes.append(n)
        return loops.At(len(self.sizes) - 1)

    def call(self, v: Any) -> loops.Call:
        e = v.emitted
        at, sat = len(self.table), len(self.sizes)
        self.table += [*e.buffers, *e.calls]
        self.sizes += e.sizes
        self.u.nest.calls.append(v)
        return loops.Call(e.source, at, sat, self.number(e.extent))

    def copy(self, target: ir.Buffer, source: ir.Buffer) -> loops.Copy:
        n = types.product(target.sizes) * target.dtype.size
        return loops.Copy(self.entry(target), self.entry(source), self.number(n), target.dtype.code)

    def items(self, units: Any) -> list[Any]:
        found: list[Any] = []
        for v in units:
            if v.cluster.kind == "blank":
                continue
            if v.nest is None:
                found.append(self.call(v))
            elif v.nest.kind == "loop":
                found += [self.call(w) for part in v.nest.parts for w in part.units if w.prologue]
                found.append(self.loop(v))
            else:
                found.append(self.branch(v))
        return found

    def loop(self, v: Any) -> loops.Loop:
        ask, work = v.nest.parts
        cond = self.items([w for w in ask.units if not w.prologue])
        flag = self.entry(v.nest.flag)
        body = self.items([w for w in work.units if not w.prologue])
        changes = moves(self.known, v)
        waiting = {k: v.nest.spare[target] for k, target, _ in swaps(self.known, v)}
        body += [self.copy(spare, changes[k][1]) for k, spare in waiting.items()]
        body += [self.copy(target, waiting.get(k, source)) for k, (target, source) in enumerate(changes)]
        return loops.Loop(cond, flag, body)

    def branch(self, v: Any) -> loops.If:
        sides = [[*self.items(part.units), *[self.copy(target, source) for target, source in results]]
                 for part, results in zip(v.nest.parts, v.nest.results)]
        return loops.If(self.entry(v.nest.flag), *sides)


# ---------------------------------------------------------------- memory


def programs(compiled: Any) -> list[Any]:
    """`compiled`, and what is compiled inside it."""
    return [compiled, *[p for u in compiled.units if u.nest for part in u.nest.parts for p in programs(part)]]


def aliases(compiled: Any) -> dict[ir.Buffer, ir.Buffer]:
    """Buffers that are the memory of another, with that."""
    found = dict(compiled.alias)

    def visit(home: Any) -> None:
        for u in home.units:
            for part, given in zip(u.nest.parts, u.nest.given) if u.nest else ():
                found.update(given)
                found.update(part.alias)
                visit(part)
    visit(compiled)
    for b in found:
        root = found[b]
        while root in found:
            root = found[root]
        found[b] = root
    return found


def lifetimes(plan: Any) -> tuple[dict[ir.Buffer, int], dict[ir.Buffer, int], int]:
    """The first and last step of each buffer, and the number of steps; what a loop reads from outside or keeps lives throughout it."""
    c = plan.compiled
    first: dict[ir.Buffer, int] = {}
    last: dict[ir.Buffer, int] = {}
    clock = iter(range(1 << 60))
    plan.spare = {}

    def touch(b: ir.Buffer, at: int) -> None:
        first.setdefault(b, at)
        last[b] = max(at, last.get(b, at))

    def root(home: Any, x: Any) -> ir.Buffer:
        b = home.buffers[x] if isinstance(x, Tensor) else x
        return plan.alias.get(b, b)

    def visit(home: Any) -> int:
        begin = next(clock)
        kept = {root(home, x) for u in home.units if not u.prologue for x in u.reads if x in home.invariant or isinstance(x, Tensor)
                and home.buffers[x] in home.invariant}
        for u in home.units:
            at = begun = next(clock)
            used = [root(home, x) for x in (*u.reads, *u.writes)]
            for b in used:
                touch(b, at)
            if u.nest:
                for part in u.nest.parts:
                    visit(part)
                at = next(clock)
                for b in used:
                    touch(b, at)
                for b in {root(part, x) for part in u.nest.parts for v in part.units if v.prologue for x in v.writes}:
                    first[b], last[b] = begun, at  # made before the first iteration, read in all
                for target, spare in u.nest.spare.items():
                    plan.spare[target] = spare
                    plan.shape[spare] = plan.shape[target]
                    first[spare], last[spare] = begun, at
                if u.emitted is not None:  # its text takes all its memory for disjoint
                    for b in [b for b, when in last.items() if when >= begun]:
                        first[b], last[b] = min(first[b], begun), at
        end = next(clock)
        for b in (*home.ends, *home.given):
            touch(root(home, b), end)
        for b in kept:
            touch(b, end)
        return begin

    visit(c)
    end = next(clock)
    for b in c.ends:
        last[root(c, b)] = end
    for b in {x for u in c.units if not u.prologue for x in u.reads} & c.invariant:
        last[plan.alias.get(b, b)] = end  # later runs read it again
    return first, last, end


def moves(plan: Any, u: Any) -> list[tuple[ir.Buffer, ir.Buffer]]:
    """Values to copy at the end of an iteration: (where the variable is, where its next value is)."""
    found = [(plan.alias.get(target, target), plan.alias.get(source, source)) for target, source in u.nest.results[1]]
    return [(target, source) for target, source in found if source is not target]


def swaps(plan: Any, u: Any) -> list[tuple[int, ir.Buffer, ir.Buffer]]:
    """Moves whose source is another variable's place: it is read before anything arrives there."""
    found = moves(plan, u)
    targets = {target for target, _ in found}
    return [(k, target, source) for k, (target, source) in enumerate(found) if source in targets]


# ---------------------------------------------------------------- instructions


class StringMove(NamedTuple):
    """What a host instruction does instead of running an op: strings are Python objects, which no native copy may touch."""

    target: ir.Buffer
    source: ir.Buffer


class Rows:
    """Instructions of a plan: units in order, jumps around branches and loops."""

    def __init__(self, plan: Any, rows: list[list[Any]], tables: list[int], sizes: list[int]):
        self.plan, self.rows, self.tables, self.sizes = plan, rows, tables, sizes
        self.committed = False

    def program(self, home: Any) -> None:
        for u in home.units:
            self.unit(u)

    def unit(self, u: Any) -> None:
        plan, rows = self.plan, self.rows
        if u.cluster.kind == "blank":
            return
        if u.nest is not None and u.emitted is not None:
            for part in u.nest.parts:
                for v in part.units:
                    if v.prologue:
                        self.unit(v)
        elif u.nest is not None:
            (self.loop if u.nest.kind == "loop" else self.branch)(u)
            return
        if u.commits and not self.committed:
            rows.append([runner.COMMIT] + [0] * 7)
            self.committed = True
        if u.emitted is None:
            plan.unit_at[len(rows)] = u
            plan.hosts[len(rows)] = u
            rows.append([runner.HOST] + [0] * 7)
            return
        at, sat = len(self.tables), len(self.sizes)
        for x in u.emitted.table or (*u.emitted.buffers, *u.emitted.calls):
            if isinstance(x, ir.Buffer):
                self.entry(x)
            else:
                self.tables.append(plan.state[runner.DEADLINE:].ctypes.data if x == DEADLINE else plan.compiled.entry[x])
        self.sizes += [types.evaluate(s, plan.env) for s in u.emitted.sizes]
        extent = types.evaluate(u.emitted.extent, plan.env)
        self.used(u.emitted.buffers, at)
        plan.unit_at[len(rows)] = u
        rows.append([runner.CALL, u.address, at, sat, extent, plan._grain(u.emitted, extent), 0, 0])

    def entry(self, b: ir.Buffer) -> int:
        self.tables.append(self.plan._table_entry(b, len(self.tables)))
        return len(self.tables) - 1

    def used(self, buffers: Any, at: int) -> None:
        """Says before an instruction in which row each of its buffers is, the first of them at place `at` of the table."""
        for k, b in enumerate(buffers):
            row = self.plan.rows.get(self.plan.alias.get(b, b))
            if row is not None:
                self.rows.append([runner.ROW, self.plan.nbytes(b), at + k, self.entry(row.base), self.entry(row.index),
                                  row.index.dtype.size, 0, 0])

    def move(self, target: ir.Buffer, source: ir.Buffer) -> None:
        """A copy between places that may be bound at each run."""
        if target.dtype.kind == "s":
            self.plan.hosts[len(self.rows)] = StringMove(target, source)
            self.rows.append([runner.HOST] + [0] * 7)
        elif self.plan.nbytes(target):
            places = self.entry(target), self.entry(source)
            self.used((target, source), places[0])
            self.rows.append([runner.MOVE, 0, *places, self.plan.nbytes(target), 0, 0, 0])

    def jump(self, op: int, flag: int = 0) -> list[Any]:
        self.rows.append([op, 0, flag, 0, 0, 0, 0, 0])
        return self.rows[-1]

    def flag(self, u: Any) -> int:
        return self.plan.address[self.plan.alias.get(u.nest.flag, u.nest.flag)]

    def loop(self, u: Any) -> None:
        ask, work = u.nest.parts
        for part in (ask, work):  # what stays the same in all iterations
            for v in part.units:
                if v.prologue:
                    self.unit(v)
        self.edge()
        begin = len(self.rows)
        self._rest(ask)
        out = self.jump(runner.JUMP_IF_FALSE, self.flag(u))
        self._rest(work)
        changes = moves(self.plan, u)
        kept = {k: self.plan.spare[target] for k, target, _ in swaps(self.plan, u)}
        for k, spare in kept.items():
            self.move(spare, changes[k][1])
        for k, (target, source) in enumerate(changes):
            self.move(target, kept.get(k, source))
        for v in work.units:
            if v.closing:
                self.unit(v)
        self.edge()
        self.jump(runner.JUMP)[runner.AUX] = begin
        out[runner.AUX] = len(self.rows)

    def edge(self) -> None:
        """At the begin and the end of each iteration."""

    def _rest(self, part: Any) -> None:
        for v in part.units:
            if not v.prologue and not v.closing:
                self.unit(v)

    def branch(self, u: Any) -> None:
        skip = self.jump(runner.JUMP_IF_FALSE, self.flag(u))
        for number, (part, results) in enumerate(zip(u.nest.parts, u.nest.results)):
            self.program(part)
            for target, source in results:
                self.move(self.plan.alias.get(target, target), self.plan.alias.get(source, source))
            if number == 0:
                end = self.jump(runner.JUMP)
                skip[runner.AUX] = len(self.rows)
        end[runner.AUX] = len(self.rows)


def patient(go: Callable[[int], int], state: np.ndarray) -> Callable[[int], int]:
    """A run that comes back to Python from time to time, where Ctrl-C is heard, and goes on."""
    def run(pc: int) -> int:
        pc = go(pc)
        while state[runner.REASON] == runner.PAUSED:
            pc = go(pc)
        return pc
    return run
