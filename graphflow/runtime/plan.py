"""From a program to kernels, and from kernels and actual sizes to a plan of native instructions.

`Compiled` holds what depends on symbolic sizes only: the fused kernels and their lifetimes.  `Plan` binds one set of
numbers: arena offsets, argument blocks, instructions.  A new batch size makes a new Plan and compiles nothing (rank 4).
"""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Callable, Collection, Mapping, Sequence, cast

import numpy as np

from .. import types
from ..codegen import compile as native
from ..codegen import attention, contract, emit_cpu, ir, lower, schedule, segments, simplify, windows
from ..codegen.cuda.launch import Launch
from ..flags import flags
from ..graph import Operation, Tensor
from ..ops import control
from ..ops.opdef import Const, StandIn
from ..ops.pull import has_check, uniform
from ..passes import fusion
from ..passes.program import Program
from . import flow, memory, runner
from .store import aligned


Place = Callable[[Program], Mapping[Operation, str]]  # the GPUs on which ops of a program run


@dataclass
class Unit:
    """One instruction to be: a kernel, or an op the host runs."""

    cluster: fusion.Cluster
    emitted: emit_cpu.Emitted | None = None
    reads: list[Any] = field(default_factory=list)  # buffers or tensors
    writes: list[Any] = field(default_factory=list)
    commits: bool = False  # writes a variable in place
    address: int = field(default=0, metadata={"stored": False})  # see runtime/plan_cache.py
    kernel: ir.Kernel | None = field(default=None, metadata={"stored": False})
    prologue: bool = False  # run when the plan is new or a variable has been written, not at every step
    closing: bool = False  # the last of an iteration: it changes an index by which others find their rows
    nest: flow.Nest | None = None  # a branch or loop: the programs inside
    home: Any = field(default=None, metadata={"stored": False})  # the Compiled it belongs to
    launch: Launch | None = None  # of a kernel on a GPU ...
    device: str = ""  # ... and on which
    library: LibraryCall | None = None  # what a library may do instead of this and its `covered`
    covered: bool = False  # the unit before it does this too where the library is used

    @property
    def host(self) -> bool:
        return self.emitted is None and self.launch is None and self.nest is None and self.cluster.kind != "blank"

    @property
    def can_fail(self) -> bool:
        return self.host or bool(self.emitted and self.emitted.checks or self.launch and self.launch.checks)

    @property
    def op(self) -> Operation:
        return self.cluster.ops[-1]


@dataclass
class LibraryCall:
    """A product or convolution (see codegen/cuda/library_calls.py), its result, and what its epilogue reads."""

    call: Any
    out: ir.Buffer
    bias: ir.Buffer | None = None
    add: ir.Buffer | None = None


def _engine(op: Operation) -> str | None:
    """The generator that computes an op by itself, or None."""
    return contract.engine(op) or attention.engine(op)


class Compiled:
    """Kernels of one program.  `fused`: the kernels to be, where that has been decided, and whether it is their order too.

    inside: "branch" or "loop" for the program of a region: its captures then are what stays the same, it commits nothing.
    place: says on which device each op of a program runs; None where all run on the CPU.  around: the program that this is inside of.
    """

    def __init__(self, program: Program, fused: fusion.Fusion | None = None, ordered: bool = True, inside: str = "",
                 place: Place | None = None, around: Compiled | None = None):
        self.program = program = flow.prepared(program)
        self.inside, self.place = inside, place
        # The GPUs of ops that do not run on the CPU.  Ops inside a branch or loop are placed with all around them; what was
        # made since, to begin a loop inside, stands beside what it copies.
        self.devices = dict(place(program)) if place is not None and around is None else dict(around.devices) if around is not None else {}
        for op in program.ops() if around is not None and self.devices else ():
            if op.opdef is control.start and op not in self.devices and op.inputs[0].op in self.devices:
                self.devices[op] = self.devices[op.inputs[0].op]
        self.buffers: dict[Tensor, ir.Buffer] = {}
        self.tensor_of: dict[ir.Buffer, Tensor] = {}
        self.fusion = fused or fusion.fuse(program, self._engine, _follows if place is None else self._follows, self.device)
        self.arrays: dict[ir.Buffer, np.ndarray] = {}  # constants
        self.inputs = {t: (kind, what) for kind, what, t in program.inputs}
        self.units: list[Unit] = []
        self.alias: dict[ir.Buffer, ir.Buffer] = {}
        self.updated: dict[ir.Buffer, dict[ir.Buffer, ir.Buffer]] = {}  # by result of a scatter: the memory it changes
        self._declare()
        self.ends = [self.buffers[t] for t in program.roots() if t in self.buffers]  # what must exist at the end
        self.given = [self.buffers[t] for t in self.inputs if inside and t in self.buffers]  # of a branch or loop: what comes from outside
        self.invariant = self._unwritten()  # buffers that stay the same until some variable is written
        self.order = self.fusion.clusters if fused and ordered else _by_memory(self.fusion.clusters, self)
        self.last_use = self._last_uses(self.order)
        self.crossing = self._crossing()
        self.rows: dict[ir.Buffer, flow.Row] = {}
        self.parted: set[ir.Buffer] = set()  # results of which several kernels make a part each
        self._units(self.order)
        if not inside:
            flow.settle(self)
            if not fused:
                self.link()

    def device(self, op: Operation) -> str:
        """The GPU on which an op runs, "" for the CPU."""
        return self.devices.get(op, "")

    @property
    def gpus(self) -> list[str]:
        """The names of the GPUs on which kernels run, also inside branches and loops."""
        found = {u.device for c in flow.programs(self) for u in c.units if u.launch is not None}
        return sorted(found, key=lambda name: int(name[4:]))

    @property
    def on_devices(self) -> bool:
        """Whether any kernel, also inside a branch or loop, runs on a GPU."""
        return any(u.launch is not None for c in flow.programs(self) for u in c.units)

    def _engine(self, op: Operation) -> str | None:
        if self.device(op):
            from ..codegen.cuda import attention as tiles
            from ..codegen.cuda import factors, gemm, sorting

            return gemm.engine(op) or sorting.engine(op) or factors.engine(op) or tiles.engine(op)
        return _engine(op)

    def _follows(self, op: Operation, c: fusion.Cluster, stored: set[Tensor]) -> int | None:
        if not self.device(op):
            return _follows(op, c, stored)
        from ..codegen.cuda import gemm

        depth = len(c.staged[0].outputs[0].sizes)  # type: ignore[arg-type]
        if c.depth < depth or any(s.opdef._fold is not None for s in c.staged):
            return None
        buffers = _Buffers(stored)
        then = simplify.linear(lower.lower("", c.staged, c.outputs, depth, buffers))
        return depth if gemm.accepts(op, then, buffers[op.outputs[0]]) else None

    def every(self) -> list[Unit]:
        """All units, those of branches and loops included."""
        return [v for u in self.units for v in (u, *(w for part in (u.nest.parts if u.nest else ()) for w in part.every()
                                                    if u.emitted is None or w.prologue and w in part.units))]

    def link(self) -> None:
        """The addresses of all kernels; their texts are compiled where no cache has them.  All that a stored plan still needs."""
        for c in flow.programs(self):
            for u in c.units:
                u.home = u.home or c
        native_units = [u for u in self.every() if u.emitted]
        called = list(dict.fromkeys(s for u in native_units for s in u.emitted.calls))  # type: ignore[union-attr]
        addresses = native.compile_kernels([*called, *[u.emitted.source for u in native_units]])  # type: ignore[union-attr]
        self.entry = dict(zip(called, addresses))  # of the kernels that kernels call
        for u, a in zip(native_units, addresses[len(called):]):
            u.address = a

    # -- buffers

    def _declare(self) -> None:
        for op in self.program.ops():
            if op.opdef is StandIn:
                self._buffer(op.outputs[0], "in")
            elif op.opdef is Const and uniform(op) is None:
                self._constant(op)
        for c in self.fusion.clusters:
            for t in c.outputs:
                self._buffer(t, "out")
        read = [t for c in self.fusion.clusters if c.kind in WHOLE for op in c.ops for i, t in enumerate(op.inputs)
                if op.opdef.param_name(i) not in op.opdef.static]
        for t in (*self.program.roots(), *read):
            if t.op.opdef is Const and t not in self.buffers:
                self._constant(t.op)

    def _buffer(self, t: Tensor, role: str) -> ir.Buffer:
        assert t.sizes is not None
        b = self.buffers[t] = ir.Buffer(t.dtype, t.sizes, role, f"b{len(self.buffers)}")
        self.tensor_of[b] = t
        return b

    def _constant(self, op: Operation) -> None:
        b = self._buffer(op.outputs[0], "in")
        value = op.attrs["value"]
        array = value
        if value.dtype != object:
            array = aligned(value.shape, value.dtype)
            array[...] = value
        self.arrays[b] = array

    # -- units

    def _last_uses(self, clusters: Sequence[fusion.Cluster]) -> dict[Tensor, int]:
        last: dict[Tensor, int] = {}
        for i, c in enumerate(clusters):
            for t in _stored_inputs(c.ops, self.buffers):
                last[t] = i
        return last

    def _crossing(self) -> set[Tensor]:
        """Values that one GPU makes and another one reads: nothing is computed in their place."""
        found: dict[Tensor, set[str]] = {}
        for c in self.order if len(set(self.devices.values())) > 1 else ():
            device = self.device(c.ops[0])
            for t in (*_stored_inputs(c.ops, self.buffers), *c.outputs):
                found.setdefault(t, set()).update([device] if device else [])
        return {t for t, devices in found.items() if len(devices) > 1}

    def _units(self, clusters: Sequence[fusion.Cluster]) -> None:
        roots = {self.buffers[t] for t in self.program.roots() if t in self.buffers}
        failing = [i for i, c in enumerate(clusters) if c.kind in ("host", "control") or _checks(c)]
        free_from = failing[-1] + 1 if failing and not self.inside else 0
        for i, c in enumerate(clusters):
            if c.kind in ("control", "blank"):
                self.units.append(flow.unit(self, c))
                continue
            if c.kind == "host":
                op = c.ops[0]
                # uniform constants have no buffer
                self.units.append(Unit(c, None, [t for t in op.inputs if t in self.buffers], list(op.outputs)))
                continue
            if self.device(c.ops[0]):
                self._on_device(c, f"k{i}", i, i >= free_from, roots)
                continue
            made = self._kernels(c, f"k{i}", i, i >= free_from)
            targets = [s.target for k in made if isinstance(k, ir.Kernel) for s in k.stages]
            self.parted = {b for b in targets if targets.count(b) > 1}
            # A buffer that several kernels fill stays the same only if all of them compute the same at every step.
            varies = bool(self.parted) and not all(self.invariant.issuperset(_read(k)) for k in made if isinstance(k, ir.Kernel))
            for k in made:
                if isinstance(k, emit_cpu.Emitted):
                    in_variable = any(self._is_variable(b) for b in k.writes)
                    reads = [b for b in k.buffers if b not in k.writes]
                    self.units.append(self._once(Unit(c, k, reads, list(k.writes), in_variable), roots))
                    continue
                alias = self.updated.get(k.stages[0].target) or self._in_place(k, i, i >= free_from)
                plan = schedule.schedule(k)
                e = windows.emit(plan, alias) or emit_cpu.emit(plan, alias)
                written = {s.target for s in k.stages if s.target.role != "tmp"}
                in_variable = any(self._is_variable(b) for b in alias.values())
                unit = Unit(c, e, _read(k), list(written), in_variable, kernel=k)
                self.units.append(self._once(unit, roots | self.parted if varies else roots))
        self.units.sort(key=lambda u: not u.prologue)  # stable: each part keeps its order
        for u in self.units:
            u.home = self
            u.commits = u.commits and not self.inside

    def _on_device(self, c: fusion.Cluster, name: str, step: int, may_commit: bool, roots: set[ir.Buffer]) -> None:
        """The launches of a cluster that runs on a GPU, a unit each."""
        from ..codegen.cuda import attention as tiles
        from ..codegen.cuda import emit, factors, sorting

        if c.kind == "contraction":
            self._product_on_device(c, name, step, may_commit, roots)
            return
        if c.kind in WHOLE:
            self._launched(c, (sorting if c.kind == "sort" else factors).kernels(c.ops[0], self.buffers), {}, roots)
            return
        if c.kind == "attention":
            self._launched(c, tiles.kernels(name, c.ops[0], self.buffers), {}, roots)
            return
        alias: dict[ir.Buffer, ir.Buffer] = {}
        if c.kind == "scatter":
            made = simplify.linear(self._scatter(name, c.ops[0], step, may_commit))
            alias = self.updated.get(made.stages[-1].target, {})
        elif c.kind == "scan":
            made = simplify.linear(lower.lower_scan(name, c.ops[0], self.buffers))
        else:
            made = simplify.linear(lower.lower(name, c.staged, c.outputs, c.depth, self.buffers))
            alias = self._in_place(made, step, may_commit)
        self._launched(c, emit.launches(made, alias), alias, roots, kernel=made)

    def _launched(self, c: fusion.Cluster, launches: Sequence[Launch], alias: Mapping[ir.Buffer, ir.Buffer], roots: set[ir.Buffer],
                  library: LibraryCall | None = None, kernel: ir.Kernel | None = None) -> None:
        """Units of the launches of a cluster; the first stands for all of them where a library, or `kernel`, is said to be what they do."""
        commits = any(self._is_variable(b) for b in alias.values())
        targets = [b for k in launches for b in k.writes]
        self.parted = {b for b in targets if targets.count(b) > 1}
        for number, k in enumerate(launches):
            reads, writes = [b for b in k.buffers if b not in k.writes or b in self.parted], list(k.writes)
            if library is not None and number == 0:  # it does all of it at once
                writes = list(dict.fromkeys(targets))
                reads = [b for b in dict.fromkeys(b for k in launches for b in k.buffers) if b not in writes]
            u = Unit(c, None, reads, writes, commits, kernel=kernel if number == 0 else None, launch=k, device=self.device(c.ops[0]))
            u.library, u.covered = library if number == 0 else None, library is not None and number > 0
            self.units.append(u if library is not None and len(launches) > 1 else self._once(u, roots | self.parted))

    def _product_on_device(self, c: fusion.Cluster, name: str, step: int, may_commit: bool, roots: set[ir.Buffer]) -> None:
        """A product with what follows it, generated; a library may take its place, or that of the product alone."""
        from ..codegen.cuda import emit, gemm, library_calls
        from .cuda import libraries

        op, result = c.ops[0], c.ops[0].outputs[0]
        found = contract.product(op, lambda t, index: ir.load(self.buffers[t], index) if t in self.buffers else None)
        described = None if found is None else library_calls.from_product(found, result.dtype)
        if described is not None and not libraries.available(libraries.library_of(described)):
            described = None
        out = self.buffers.get(result)
        if len(c.ops) == 1:
            assert out is not None
            library = None if described is None else LibraryCall(described, out)
            self._launched(c, gemm.kernels(name, op, self.buffers), {}, roots, library)
            return
        place = out or ir.Buffer(result.dtype.compute, result.sizes, "part", "product")  # type: ignore[arg-type]
        others = [t for t in c.outputs if t is not result]
        then = simplify.linear(lower.lower(name, c.staged, others, c.depth, {**self.buffers, result: place}))
        taken = {self.buffers[t] for t in _stored_inputs([op], self.buffers)}
        fused = library_calls.fused(described, then, place) if described is not None and out is None else None
        if described is None or fused is not None:
            # A product may be added to what lies where it goes (a weight's update); convolutions are told of no such thing.
            turned = fused is None or isinstance(fused.call, library_calls.Matmul)
            alias = self._in_place(then, step, may_commit, taken | {place}) if turned else {}
            fits = fused is not None and alias in ({}, {fused.out: fused.add})
            library = LibraryCall(fused.call, fused.out, fused.bias, fused.add) if fused is not None and fits else None
            self._launched(c, gemm.kernels(name, op, self.buffers, then, place, alias), alias, roots, library)
            return
        self._launched(c, gemm.kernels(name, op, {**self.buffers, result: place}), {}, roots, LibraryCall(described, place))
        alias = self._in_place(then, step, may_commit, taken)
        self._launched(c, emit.launches(then, alias), alias, roots, kernel=then)

    def _unwritten(self) -> set[ir.Buffer]:
        """Constants, and variables that the program only reads; in a loop what it reads from outside."""
        if self.inside:
            kept = [t for t, (kind, _) in self.inputs.items() if kind == "capture" and self.inside == "loop"]
            return {self.buffers[t] for t in kept if t in self.buffers}
        written = {var for var, _ in self.program.writes}
        return {*self.arrays, *(self.buffers[t] for t, (kind, what) in self.inputs.items()
                                if kind == "variable" and what not in written and t in self.buffers)}

    def _once(self, u: Unit, roots: set[ir.Buffer]) -> Unit:
        """Puts `u` in the prologue if it computes the same at every step, unless much memory would be kept for little work."""
        made, read = (sum(fusion.elements(b.sizes) * b.dtype.size for b in x) for x in (u.writes, u.reads))
        changes = any(op.opdef is control.start for op in u.cluster.ops)  # a loop writes there
        allowed = bool(flags.optimize) and not changes and self.inside != "branch"
        u.prologue = allowed and self.invariant.issuperset(u.reads) and roots.isdisjoint(u.writes) and (
            made <= max(HOISTED, 4 * read)) and not (self.inside and u.can_fail)  # a loop may run no iteration at all
        if u.prologue:
            self.invariant.update(u.writes)
        if u.emitted is not None and not self.inside:  # (device text is compiled when a plan is made)
            for source in (*u.emitted.calls, u.emitted.source):
                native.begin(source)
        return u

    def _kernels(self, c: fusion.Cluster, name: str, step: int, may_commit: bool) -> list[Any]:
        if c.kind == "contraction":
            return self._contraction(c, name, step, may_commit)
        if c.kind == "attention":
            return [simplify.linear(k) if isinstance(k, ir.Kernel) else k for k in attention.kernels(name, c.ops[0], self.buffers)]
        if c.kind == "scatter":
            made = self._scatter(name, c.ops[0], step, may_commit)
        elif c.kind == "scan":
            made = lower.lower_scan(name, c.ops[0], self.buffers)
        else:
            made = lower.lower(name, c.staged, c.outputs, c.depth, self.buffers)
        if flags.check:
            ir.verify(made)
        made = simplify.linear(made)
        return windows.pieces(made) or [k for part in (segments.cut(made) if flags.optimize else [made]) for k in schedule.split(part)]

    def _scatter(self, name: str, op: Operation, step: int, may_commit: bool) -> ir.Kernel:
        """Updates in the memory of what they change, where that is read for the last time here."""
        made = lower.lower_scatter(name, op, self.buffers)
        first, update = simplify.linear(made).stages
        source, target = first.expr, first.target
        if not flags.optimize or source.op != "at" or target in {self.buffers[t] for t in self.program.outputs if t in self.buffers}:
            return made
        old, variable = source.data, {self.buffers[t]: var for var, t in self.program.writes if t in self.buffers}.get(target)
        same = source.args[0] is first.index[0] and old.dtype is target.dtype and old.sizes == target.sizes
        elsewhere = any(e.op == "at" and e.data is old for e in ir.walk(update.expr, *update.index))
        if not same or elsewhere or not self._dies(old, step, variable, may_commit):
            return made
        self.alias[target] = self.alias.get(old, old)
        self.updated[target] = {target: old}
        return ir.Kernel(name, made.buffers, (made.stages[1],), made.outer)

    def _contraction(self, c: fusion.Cluster, name: str, step: int, may_commit: bool) -> list[Any]:
        """The product, and what follows it on its blocks; an output of that may lie in an operand which is not multiplied."""
        op, result = c.ops[0], c.ops[0].outputs[0]
        if len(c.ops) == 1:
            return contract.kernels(name, op, self.buffers, fixed=self.invariant)
        place = self.buffers.get(result) or ir.Buffer(result.dtype.compute, result.sizes, "part", "product")  # type: ignore[arg-type]
        outputs = [t for t in c.outputs if t is not result]
        then = simplify.linear(lower.lower(name, c.staged, outputs, c.depth, {**self.buffers, result: place}))
        multiplied = {self.buffers[t] for t in _stored_inputs([op], self.buffers)}
        alias = self._in_place(then, step, may_commit, multiplied | {place})
        return contract.kernels(name, op, self.buffers, then, place, alias, self.invariant)

    def _in_place(self, k: ir.Kernel, step: int, may_commit: bool, taken: Collection[ir.Buffer] = ()) -> dict[ir.Buffer, ir.Buffer]:
        """Results that may take the memory of an operand read for the last time here, at the same index."""
        alias: dict[ir.Buffer, ir.Buffer] = {}
        if not flags.optimize or any(s.combine or s.scan for s in k.stages) or len({s.axes for s in k.stages}) != 1:
            return alias
        writes = dict(self.program.writes)
        variable_of = {self.buffers[t]: var for var, t in writes.items() if t in self.buffers}
        outputs = {self.buffers[t] for t in self.program.outputs if t in self.buffers}
        where: dict[ir.Buffer, set[ir.Expr]] = {}
        first: dict[ir.Buffer, int] = {}
        for number, s in enumerate(k.stages):
            for e in ir.walk(s.expr):
                if e.op == "at":
                    where.setdefault(e.data, set()).add(e.args[0])
                    first.setdefault(e.data, number)
        for number, s in enumerate(k.stages):
            if s.target.role != "out" or s.target in outputs or s.target in self.parted:
                continue
            for b, places in where.items():
                if b in taken or first[b] > number:  # a later stage would read what this one has overwritten
                    continue
                if b in alias.values() or places != {s.index[0]} or b.dtype is not s.target.dtype or b.sizes != s.target.sizes:
                    continue
                if self._dies(b, step, variable_of.get(s.target), may_commit):
                    alias[s.target] = b
                    self.alias[s.target] = self.alias.get(b, b)
                    break
        return alias

    def _dies(self, b: ir.Buffer, step: int, variable: Operation | None, may_commit: bool) -> bool:
        t = self.tensor_of.get(b)
        if t is None or self.last_use.get(t, -1) != step or t in self.program.roots():
            return False
        kind, what = self.inputs.get(t, ("", None))
        if kind == "variable":
            return may_commit and what is variable
        if t in self.crossing:
            return False
        return variable is None and kind == "" and b not in self.invariant and not self._is_variable(b)

    def _is_variable(self, b: ir.Buffer) -> bool:
        t = self.tensor_of.get(self.alias.get(b, b))
        return t is not None and self.inputs.get(t, ("",))[0] == "variable"


def _follows(op: Operation, c: fusion.Cluster, stored: set[Tensor]) -> int | None:
    """With how many outer axes the cluster runs on the rows of contraction `op`, or None."""
    result = op.outputs[0]
    rank = len(c.staged[0].outputs[0].sizes)  # type: ignore[arg-type]
    depth = c.depth if c.depth < rank else rank - 1
    if depth < 1 or len({len(s.outputs[0].sizes) for s in c.staged if s.opdef._fold is None}) > 1:  # type: ignore[arg-type]
        return None
    buffers = _Buffers(stored)
    then = simplify.linear(lower.lower("", c.staged, c.outputs, depth, buffers))
    return depth if contract.accepts(op, then, buffers[result]) else None


class _Buffers(dict[Tensor, ir.Buffer]):
    """A buffer for every tensor that will be in memory, made when it is asked for."""

    def __init__(self, stored: set[Tensor]):
        self.stored = stored

    def get(self, t: Tensor, otherwise: Any = None) -> Any:  # type: ignore[override]
        there = t in self.stored or t.op.opdef is StandIn or t.op.opdef is Const and uniform(t.op) is None
        return self[t] if there else otherwise

    def __missing__(self, t: Tensor) -> ir.Buffer:
        b = self[t] = ir.Buffer(t.dtype, t.sizes, "out" if t in self.stored else "in")  # type: ignore[arg-type]
        return b


def _checks(c: fusion.Cluster) -> bool:
    """Whether a kernel of the cluster may report a failed check (conservative: by trying its hooks' text)."""
    return c.kind == "factor" or any(has_check(op) for op in c.ops)


def _stored_inputs(ops: Sequence[Operation], buffers: dict[Tensor, Any]) -> set[Tensor]:
    """Stored tensors that a cluster reads, looking through inlined producers."""
    out: set[Tensor] = set()
    seen: set[Operation] = set(ops)
    stack = list(ops)
    while stack:
        for t in stack.pop().inputs:
            if t in buffers:
                out.add(t)
            elif t.op not in seen:
                seen.add(t.op)
                stack.append(t.op)
    return out


def _by_memory(clusters: Sequence[fusion.Cluster], c: Compiled) -> list[fusion.Cluster]:
    """An order that respects dependencies and keeps little memory alive; what can fail comes before the rest."""
    reads = [_stored_inputs(k.ops, c.buffers) - set(k.outputs) for k in clusters]
    maker = {t: i for i, k in enumerate(clusters) for t in k.outputs}
    waits = [{maker[t] for t in r if t in maker} for r in reads]
    sides = [bool(c.device(k.ops[0])) for k in clusters]
    levels = _levels(clusters, c, waits)
    mixed = any(levels) or len(set(sides)) > 1
    _read_first(clusters, c, waits)
    early = _ancestors([i for i, k in enumerate(clusters) if k.kind in ("host", "control") or _checks(k)], waits)
    users: dict[Tensor, int] = {}
    followers: dict[int, list[int]] = {}
    for i, r in enumerate(reads):
        for t in r:
            users[t] = users.get(t, 0) + 1
        for w in waits[i]:
            followers.setdefault(w, []).append(i)
    roots = set(c.program.roots())
    size = {t: fusion.elements(t.sizes) * t.dtype.size for t in c.buffers}  # type: ignore[arg-type]
    missing = [len(w) for w in waits]
    ready = [i for i, n in enumerate(missing) if n == 0]
    order: list[fusion.Cluster] = []
    side = False
    while ready:
        def cost(i: int) -> tuple[int, int, int]:
            freed = sum(size[t] for t in reads[i] if users[t] == 1 and t in maker and t not in roots)
            made = sum(size[t] for t in clusters[i].outputs if t not in roots)
            return (0 if i in early else 1, made - freed, i)
        near = ready
        if mixed:  # the host and GPUs take turns as seldom as can be, and GPUs wait for each other as late
            ranks = [(i not in early, sides[i] is not side, levels[i]) for i in ready]
            near = [i for i, rank in zip(ready, ranks) if rank == min(ranks)]
        best = min(near[:64], key=cost)
        side = sides[best]
        ready.remove(best)
        order.append(clusters[best])
        for t in reads[best]:
            users[t] -= 1
        for f in followers.get(best, ()):
            missing[f] -= 1
            if missing[f] == 0:
                ready.append(f)
    return order


def _levels(clusters: Sequence[fusion.Cluster], c: Compiled, waits: list[set[int]]) -> list[int]:
    """For each cluster how often values go from one GPU to another before it, on the longest way; clusters are in an order that
    respects `waits`."""
    devices, found = [c.device(k.ops[0]) for k in clusters], []
    for i, w in enumerate(waits):
        found.append(max((found[j] + (bool(devices[i] and devices[j]) and devices[i] != devices[j]) for j in w), default=0))
    return found


def _read_first(clusters: Sequence[fusion.Cluster], c: Compiled, waits: list[set[int]]) -> None:
    """Lets the new value of a variable wait for every other reader of the old one, so that it can be computed in place."""
    old = {what: t for t, (kind, what) in c.inputs.items() if kind == "variable"}
    maker = {t: i for i, k in enumerate(clusters) for t in k.outputs}
    readers: dict[Tensor, list[int]] = {}
    for i, k in enumerate(clusters):
        for t in _stored_inputs(k.ops, c.buffers):
            readers.setdefault(t, []).append(i)
    above: list[int] | None = None
    for variable, new in c.program.writes:
        w = maker.get(new)
        for r in readers.get(old.get(variable), ()) if w is not None else ():  # type: ignore[arg-type]
            if r == w or r in waits[w]:
                continue
            above = above or _above(waits)
            if above[r] >> w & 1:  # the reader needs the new value too
                continue
            waits[w].add(r)
            more = above[r] | 1 << r
            for i, bits in enumerate(above):
                if i == w or bits >> w & 1:
                    above[i] |= more


def _above(waits: list[set[int]]) -> list[int]:
    """For each cluster the clusters that come before it, as bits; clusters are in an order that respects `waits`."""
    found: list[int] = []
    for w in waits:
        bits = 0
        for i in w:
            bits |= found[i] | 1 << i
        found.append(bits)
    return found


def _ancestors(start: list[int], waits: list[set[int]]) -> set[int]:
    found: set[int] = set()
    stack = list(start)
    while stack:
        i = stack.pop()
        if i not in found:
            found.add(i)
            stack.extend(waits[i])
    return found


def _read(k: ir.Kernel) -> list[ir.Buffer]:
    """The buffers that a kernel reads and does not write."""
    written = {s.target for s in k.stages if s.target.role != "tmp"}
    return [b for b in k.buffers if b.role != "tmp" and b not in written]


# ---------------------------------------------------------------- plans


WHOLE = ("sort", "factor")  # kinds of clusters whose launches read operands from memory, also such that are one number everywhere
HOISTED = 1 << 20  # bytes that a prologue kernel may make of little: beyond, making them again is cheaper than keeping them
SMALL = 8192  # bytes up to which feeds and fetches are copied through the arena instead of bound by address
SPLIT = 48 << 10  # elements (or as much work) of the largest kernel that one thread runs alone: starting others takes 1 to 3 us
PIECE = 8 << 10  # elements that a thread takes at once, at least: small against SPLIT, so that a late thread finds little left
MOST = 256  # pieces of one kernel: enough for all threads to end together
LANES = 128  # split lanes begin at whole vectors, and in cache lines of their own


class NegativeSize(Exception):
    """A size that the step computed is below zero."""


class Plan:
    """Instructions over one arena for one set of sizes.  One run at a time."""

    def __init__(self, compiled: Compiled, env: dict[str, int], store: Any, threads: int, limit: int = 0):
        self.compiled, self.env, self.store, self.limit = compiled, env, store, limit
        self.programs = flow.programs(compiled)
        self.alias = flow.aliases(compiled)
        self.rows = {b: r for c in self.programs for b, r in c.rows.items()}
        self.shape = {b: tuple(types.evaluate(s, env) for s in b.sizes) for b in self._all_buffers()}
        if any(s < 0 for shape in self.shape.values() for s in shape):
            raise NegativeSize
        self.address: dict[ir.Buffer, int] = {}
        self.views: dict[ir.Buffer, np.ndarray] = {}
        self.late: dict[ir.Buffer, list[int]] = {}  # bound at each run: positions in the table
        self.borrowed: dict[ir.Buffer, Any] = {}  # feeds that lie in the caller's memory on a device
        self.lent: dict[ir.Buffer, int] = {}  # addresses of feeds and results there, in this run
        self.state = runner.make_state(threads)
        self._arena()
        self._instructions()
        self.go = self._bound()
        self.seconds = 0.0
        self.seen = self.mark = -1  # `store.writes` when the results of the prologue were known to be right
        self.writes = bool(compiled.program.writes)

    def _bound(self) -> Any:
        """A function that runs the instructions from one on, and returns where it stopped."""
        go = runner.bind(self.code, self.state)
        return flow.patient(go, self.state) if len(self.programs) > 1 else go

    def patiently(self, pc: int, timeout: float | None = None) -> int:
        """The same where Ctrl-C is heard, and for at most `timeout` seconds."""
        return runner.execute_interruptible(self.code, pc, self.state, timeout)

    def lends(self, b: ir.Buffer, given: Any = None) -> bool:
        """Whether a feed or result may lie in memory of the caller's on a device."""
        return False

    def lend(self, addresses: dict[ir.Buffer, int]) -> None:
        """Says where some feeds and results lie in the next run."""

    def new(self, b: ir.Buffer) -> Any:
        """Memory of a device for a result that `lends` says may lie there."""
        raise AssertionError("nothing is lent by a plan of the host")

    def release(self) -> None:
        """Gives back what does not end with the plan's memory on the host."""

    def _all_buffers(self) -> set[ir.Buffer]:
        found: set[ir.Buffer] = set()
        for c in self.programs:
            found.update(c.buffers.values())
            for u in c.units:
                if u.emitted is not None:
                    found.update(u.emitted.buffers)
                if u.launch is not None:
                    found.update(u.launch.buffers)
        return found

    def nbytes(self, b: ir.Buffer) -> int:
        n = b.dtype.size if b.dtype.kind != "s" else 8
        for s in self.shape[b]:
            n *= s
        return n

    # -- memory

    def _arena(self) -> None:
        c, outputs = self.compiled, self._outputs()
        first, last, end = flow.lifetimes(self)
        slots = []
        self.adopted = self._adopted()
        self.fixed = {b: array for p in self.programs for b, array in p.arrays.items()}
        for b in self.shape:
            t = c.tensor_of.get(b)
            kind = c.inputs[t][0] if t in c.inputs else ""
            if b in self.alias or b in self.fixed or b in self.rows or b.dtype.kind == "s" and kind != "variable":
                continue
            small = self.nbytes(b) <= SMALL
            if kind == "variable":
                self._pin(b, self.store.read(c.inputs[t][1]))  # type: ignore[index]
            elif kind in ("feed", "stage", "counter", "initialized"):
                if small:
                    slots.append((b, self.nbytes(b), -1, end))
                else:
                    self.late[b] = []
            elif (b in outputs or b in self.adopted) and not small:
                self.late[b] = []
            elif b in first:
                slots.append((b, self.nbytes(b), first[b], max(last[b], first[b])))
        offsets, self.arena_bytes = memory.pack(slots)
        self.slots = slots
        self.total = sum(self.memory().values())
        if self.limit and self.total > self.limit:
            raise memory.Exceeded(self)
        try:
            self.arena = aligned((self.arena_bytes,), np.dtype(np.uint8))
        except MemoryError:
            raise memory.Exceeded(self) from None
        base = self.arena.__array_interface__["data"][0]
        for key, at in offsets.items():
            b = cast(ir.Buffer, key)
            self.address[b] = base + at
            self.views[b] = self.arena[at:at + self.nbytes(b)].view(b.dtype.np).reshape(self.shape[b])
        for b, array in self.fixed.items():
            self._pin(b, array)

    def _adopted(self) -> dict[ir.Buffer, Operation]:
        """Results that become the memory of variables which have none, or none of this shape."""
        c, found = self.compiled, {}
        for var, t in c.program.writes:
            b, old = c.buffers[t], self.store.values.get(var)
            if (old is None or old.shape != self.shape[b]) and not (b in c.alias or t in c.inputs or b in c.arrays) and (
                    b.dtype is var.outputs[0].dtype and b.dtype.kind != "s" and self.nbytes(b) > SMALL):
                found.setdefault(b, var)
        return found

    def memory(self) -> dict[str, int]:
        """Bytes that a run needs, by what for.  Large results are the caller's; small ones have a copy in the arena."""
        c = self.compiled
        kinds = {b: c.inputs[t][0] for b, t in c.tensor_of.items() if t in c.inputs}
        return {"variables": sum(self.nbytes(b) for b, kind in kinds.items() if kind == "variable"),
                "constants": sum(a.nbytes for a in self.fixed.values()), "temporaries": self.arena_bytes,
                "results": sum(self.nbytes(b) for b in self.late if b not in kinds),
                "feeds": sum(self.nbytes(b) for b, kind in kinds.items() if kind in ("feed", "stage"))}

    def _pin(self, b: ir.Buffer, array: np.ndarray) -> None:
        self.views[b], self.address[b] = array, array.__array_interface__["data"][0]

    def _outputs(self) -> set[ir.Buffer]:
        """Buffers fetched as arrays of their own: made by a kernel, and not also a variable's memory."""
        c = self.compiled
        made = {b for u in c.units for b in u.writes
                if isinstance(b, ir.Buffer)} | {c.buffers[t] for u in c.units if u.host for t in u.writes}
        written = {c.buffers[t] for _, t in c.program.writes if t in c.buffers}
        return {c.buffers[t] for t in c.program.outputs} & made - written - set(c.alias)

    # -- instructions

    def _instructions(self) -> None:
        c = self.compiled
        tables: list[int] = []
        sizes: list[int] = []
        rows: list[list[Any]] = []
        self.hosts: dict[int, Unit] = {}
        self.unit_at: dict[int, Unit] = {}
        self.start = sum(u.prologue for u in c.units)  # instructions that only some runs need
        if self.start:
            rows.append([runner.JUMP] + [0] * 5 + [1, 0])
        made = flow.Rows(self, rows, tables, sizes)
        made.program(c)
        copies = self._copies()
        if copies and not made.committed:
            rows.append([runner.COMMIT] + [0] * 7)
        rows += copies
        rows.append([runner.HALT] + [0] * 7)
        self._encode(rows, tables, sizes)

    def _encode(self, rows: list[list[Any]], tables: list[int], sizes: list[int]) -> None:
        """The instructions as words, with the addresses of their arguments."""
        self.table, self.sizes = np.array(tables or [0], np.int64), np.array(sizes or [0], np.int64)
        for r in rows:
            if r[0] == runner.CALL:
                r[2] = self.table.ctypes.data + 8 * r[2]
                r[3] = self.sizes.ctypes.data + 8 * r[3]
            elif r[0] == runner.MOVE:
                r[2], r[3] = (self.table.ctypes.data + 8 * x for x in r[2:4])
            elif r[0] == runner.ROW:
                r[2], r[3], r[4] = (self.table.ctypes.data + 8 * x for x in r[2:5])
        self.code = np.array(rows, np.int64).reshape(-1)
        self.halt = len(rows) - 1

    # -- the prologue

    def begin(self) -> None:
        """Before each run: the prologue runs again if any variable has been written since it ran."""
        if self.start and self.seen != self.store.writes:
            self.code[runner.AUX] = 1
        if self.writes:  # counted before the run: whatever ends it, others see that variables may have changed
            self.store.writes += 1
        if self.store.mirrors:
            self._settle()
        self.mark = self.store.writes

    def _settle(self) -> None:
        """Fetches from devices what they have changed of the variables that are read here."""
        for kind, what, _ in self.compiled.program.inputs:
            if kind == "variable":
                self.store.settle(what)
        for var, _ in self.compiled.program.writes:
            self.store.settle(var)
            self.store.changed(var)

    def done(self) -> None:
        """After a run that succeeded: its own writes are none that the prologue reads; those of a py_func may be."""
        if self.start and self.mark == self.store.writes:
            self.seen, self.code[runner.AUX] = self.mark, 1 + self.start

    def _table_entry(self, b: ir.Buffer, position: int) -> int:
        root = self.alias.get(b, b)
        if root in self.rows:
            return 0
        if root in self.late:
            self.late[root].append(position)
            return 0
        return self.address[root]

    def _grain(self, e: emit_cpu.Emitted, extent: int) -> int:
        """Iterations of one piece, by sizes alone: pieces are even, and an even number of them where they are few."""
        total = extent * max(types.evaluate(e.work, self.env), 1)
        if total <= SPLIT:
            return max(extent, 1)
        pieces = min(total // PIECE, MOST)
        grain = -(-extent // min(pieces + pieces % 2, extent))
        if not e.lanes:
            return grain
        unit = emit_cpu.TILE if extent >= 8 * emit_cpu.TILE else max(LANES, e.lanes)  # whole strips: the last of a piece overlaps others
        return -(-grain // unit) * unit

    def _copies(self) -> list[list[Any]]:
        """Final values that were not computed in the variable's own memory."""
        c, rows = self.compiled, []
        self.replaced: list[tuple[Operation, ir.Buffer]] = []
        # An old value that is fetched, or goes to another variable, is the variable's memory: it is read before the new value arrives
        # there.
        fetched = {c.inputs[t][1] for t in c.program.roots() if t in c.inputs and c.inputs[t][0] == "variable"}
        for var, t in c.program.writes:
            b = c.buffers[t]
            root = self.alias.get(b, b)
            source = c.tensor_of.get(root)
            if source in c.inputs and c.inputs[source] == ("variable", var):  # type: ignore[index]
                continue
            old = self.store.values.get(var)
            in_place = old is not None and b.dtype.kind != "s" and old.shape == self.shape[b] and root in self.address
            if var not in fetched and in_place and not self._swapped(t):
                rows.append([runner.COPY, 0, old.__array_interface__["data"][0], self.address[root], self.nbytes(b), 0, 0, 0])
            else:
                self.replaced.append((var, b))
        return rows

    def _swapped(self, t: Tensor) -> bool:
        """A new value that is another variable's old one must be read before any copy."""
        return t in self.compiled.inputs
