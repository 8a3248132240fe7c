"""A plan whose kernels run on GPUs: memory there, copies between, and the launches of a step recorded as CUDA graphs.

Instructions are those of any plan; what the GPUs do between two instructions of the host is one of them, a *segment*: copies in,
launches, copies out, queued one by one in the first run and replayed as one graph afterwards.  A program that runs on one GPU alone is
one segment.  Every buffer has memory on each side (the host, each GPU) that uses it, and crosses once to each.

Several GPUs: a kernel runs on the GPU that its unit names.  A segment is then made of parts, one recorded graph each, which are queued
without waiting; a part that reads what another GPU has made begins with an event to wait for and copies from that GPU's memory.  What
crosses has memory of its own from begin to end on both GPUs, and no kernel works in its place, so that no other order is needed.  A
branch or loop is on one GPU.  Each GPU that reads a variable has a value of its own, brought up to date before the run (`_settle`).

Checks of kernels write into a cell of their GPU, which is read when a segment ends; kernels that write variables look at the cell first,
so that a step that fails changes nothing; with several GPUs the host looks at all cells before the first of them.  Knows plans, launches
and devices; knows no op (rank 4).
"""
from __future__ import annotations

import math
import time
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np

from ... import errors, types
from ...codegen import ir
from ...codegen.cuda import emit, texts
from ...codegen.cuda.launch import LIMIT, Launch
from ...graph import Operation, Tensor
from .. import flow, memory, runner
from ..plan import Compiled, Plan, Unit
from ..store import aligned
from . import together
from .device import Device, Mark
from .rows import Rows
from .segments import CHECKS, Joint, Segment
from .sides import ALIGN, Side, Variable
from .together import Step


class Narrow(Exception):
    """A plan from disk whose kernels have indices of 32 bits, for sizes that need 64."""


class DevicePlan(Plan):
    """Instructions over arenas on the host and on GPUs for one set of sizes.  devices: by the names that units give them."""

    def __init__(self, compiled: Compiled, env: dict[str, int], store: Any, threads: int, devices: Mapping[str, Device], limit: int = 0):
        self.sides = [Side(name, device) for name, device in devices.items()]
        self.side_named = {side.name: side for side in self.sides}
        self.segments: dict[int, Segment | Joint] = {}
        self.checked: list[Unit] = []
        self.marks: dict[tuple[Device, Device], Mark] = {}  # for the order of two devices before a run
        self.spare: dict[ir.Buffer, ir.Buffer]  # see `flow.lifetimes`
        self.form: Any = ()  # addresses of feeds and results that are the caller's own memory on a device
        self.calls: dict[int, Any] = {}  # by unit (its id), the call of a library that computes it
        self.done_by_library: list[Any] = []  # clusters
        self.libraries_used: dict[int, str] = {}  # by unit (its id), what computes it
        self.refused: dict[int, str] = {}  # and why no library does
        # While a run is watched: what has been queued where, when, and a function that waits and tells how long it took on the device.
        self.watched: list[tuple[Unit | str, str, float, Callable[[], float]]] | None = None
        super().__init__(compiled, env, store, threads, limit)
        self._ask_libraries()
        self._link()

    def __del__(self) -> None:
        self.release()

    def release(self) -> None:
        """Gives the memory on the devices back; the plan does not run any more."""
        self.segments.clear()
        for side in self.sides:
            side.release()

    def side(self, u: Unit) -> Side:
        """The GPU that runs a launch."""
        return self.side_named[u.device]

    # -- memory

    def _sides(self, first: dict[ir.Buffer, int]) -> None:
        """Which buffers are used on the host, and which on each device."""
        self.here: set[ir.Buffer] = set()
        self.nests: dict[int, Side | None] = {}  # by branch or loop (the id of its unit), where the values that it moves are
        moved: list[tuple[Unit, list[tuple[ir.Buffer, ir.Buffer]]]] = []

        def root(home: Any, x: Any) -> ir.Buffer:
            b = home.buffers.get(x, x) if isinstance(x, Tensor) else x
            return self.alias.get(b, b)

        fetched = self._fetched_variables()
        for c in self.programs:
            for u in c.units:
                if u.nest is not None:
                    flags_ = [root(c, u.nest.flag)] if u.nest.kind == "branch" else [root(u.nest.parts[0], u.nest.flag)]
                    self.here.update(flags_)
                    pairs = [p for part in u.nest.results for p in part]
                    moved.append((u, [(self.alias.get(t, t), self.alias.get(s, s)) for t, s in pairs]))
                    continue
                used = [root(c, x) for x in (*u.reads, *u.writes) if not isinstance(x, Tensor) or x in c.buffers]
                if u.cluster.kind == "blank":
                    continue
                (self.here if u.launch is None else self.side(u).used).update(used)
                if u.launch is not None:
                    self.side(u).made.update(root(c, x) for x in u.writes)
        self.shared = set(self.here)  # what the host uses, apart from results
        self.shared.update(b for _, pairs in moved for pair in pairs for b in pair)
        for t in self.compiled.program.outputs:
            if t in self.compiled.buffers:
                self.here.add(root(self.compiled, t))
        for var, t in self.compiled.program.writes:
            b = self.compiled.buffers[t]
            old = self.store.values.get(var)
            made = any(self.alias.get(b, b) in side.made for side in self.sides)
            if old is None or old.shape != self.shape[b] or not made or var in fetched:
                self.here.add(self.alias.get(b, b))
                self.shared.add(self.alias.get(b, b))
        self._linked(moved)
        for target, spare in self.spare.items():
            for there in (self.here, *(side.used for side in self.sides)):
                if target in there:
                    there.add(spare)

    def _linked(self, moved: list[tuple[Unit, list[tuple[ir.Buffer, ir.Buffer]]]]) -> None:
        """What branches and loops move is where they are, with both of its places."""
        changed = True
        while changed:
            changed = False
            for u, pairs in moved:
                side = self.nests[id(u)] = self._nest(u, pairs)
                for target, source in pairs:
                    for used in (self.here, *([] if side is None else [side.used])):
                        everywhere = [self.here, *(s.used for s in self.sides)]
                        among = [used] if used is self.here else everywhere[1:]
                        wanted = {target, source} if any(target in x for x in among) else set()
                        if source in used and not any(target in x for x in everywhere):
                            wanted = {target}
                        changed |= not wanted <= used
                        used |= wanted

    def _nest(self, u: Unit, pairs: list[tuple[ir.Buffer, ir.Buffer]]) -> Side | None:
        """The GPU of a branch or loop: the one of all kernels inside, else one that uses what it moves."""
        inside = {v.device for part in u.nest.parts for v in part.every() if v.launch is not None}  # type: ignore[union-attr]
        if len(inside) > 1:
            raise AssertionError(f"{u.op.name} has kernels on several GPUs")
        named = [self.side_named[name] for name in inside]
        return next(iter([*named, *(s for s in self.sides if any(b in s.used for pair in pairs for b in pair))]), None)

    def _arena(self) -> None:
        c = self.compiled
        first, last, end = flow.lifetimes(self)
        self._sides(first)
        self.adopted: dict[ir.Buffer, Operation] = {}
        self.fixed = {b: array for p in self.programs for b, array in p.arrays.items()}
        self._variables()
        self._final_places()
        kinds = {b: c.inputs[t][0] for b, t in c.tensor_of.items() if t in c.inputs}
        inputs = [b for b, kind in kinds.items() if kind != "variable" and b not in self.alias and b not in self.fixed]
        outputs = [b for b in dict.fromkeys(c.buffers[t] for t in c.program.outputs if t in c.buffers)
                   if b not in self.alias and b not in kinds and b not in self.fixed and b.dtype.kind != "s"]
        self._boxes([b for b in inputs if self._users(b)], outputs)
        here: list[tuple[Any, int, int, int]] = []
        there: dict[Side, list[tuple[Any, int, int, int]]] = {side: [] for side in self.sides}
        for b in self.shape:
            if b in self.alias or b in self.fixed or kinds.get(b) == "variable" or b.dtype.kind == "s" or b not in kinds and b not in first:
                continue
            life = (-1, end) if b in kinds else (first[b], max(last[b], first[b]))
            if b not in self.placed and (b in kinds or b in self.here):
                here.append((b, self.nbytes(b), *life))
            users = self._users(b)
            for side in users:
                if b not in side.there and b not in side.feeds and b not in side.results:  # what crosses is alone in its memory
                    there[side].append((b, -(-self.nbytes(b) // ALIGN) * ALIGN, *(life if len(users) == 1 else (-1, end))))
        offsets, self.arena_bytes = memory.pack(here)
        deep = {side: memory.pack(slots) for side, slots in there.items()}
        for side, (_, nbytes) in deep.items():
            side.nbytes = nbytes
        self.slots = [slot for slots in there.values() for slot in slots]
        self.total = sum(self.memory().values())
        if self.limit and self.total > self.limit:
            raise memory.Exceeded(self)
        self._open_boxes()
        self.arena = self._pinned(self.arena_bytes) if self.arena_bytes else aligned((0,), np.dtype(np.uint8))
        for key, at in offsets.items():
            self._host(key, self.arena, at)  # type: ignore[arg-type]
        for side, (places, _) in deep.items():
            base = side.take(side.nbytes)
            side.there.update((key, base + at) for key, at in places.items())  # type: ignore[misc]
        self._clear_blanks()
        for b, array in self.fixed.items():
            self._pin(b, array)
            for side in self._users(b):
                side.there[b] = side.constant(array)

    def _users(self, b: ir.Buffer) -> list[Side]:
        """The GPUs that use a buffer which is nobody's alias."""
        return [side for side in self.sides if b in side.used]

    def _pinned(self, nbytes: int) -> np.ndarray:
        return self.sides[0].device.pinned((nbytes,), np.uint8)

    def _clear_blanks(self) -> None:
        """Memory without content is cleared once: whole arrays are copied before all of their elements have been made."""
        blanks = {self.alias.get(b, b) for c in self.programs for u in c.units if u.cluster.kind == "blank" for b in u.writes[:1]}
        for side in self.sides:
            for b in side.there if side.nbytes else ():
                if b in blanks:
                    side.device.fill(side.there[b], 0, self.nbytes(b))

    def _host(self, b: ir.Buffer, block: np.ndarray, at: int) -> None:
        self.views[b] = block[at:at + self.nbytes(b)].view(b.dtype.np).reshape(self.shape[b])
        self.address[b] = block.ctypes.data + at if block.nbytes else 0

    def _variables(self) -> None:
        """Every variable is on the host; those that kernels of a device use are there too."""
        c = self.compiled
        for t, (kind, what) in c.inputs.items():
            if kind != "variable" or t not in c.buffers:
                continue
            b = c.buffers[t]
            value = self.store.values.get(what)
            if value is None:
                value = self.store.read(what)
            self._pin(b, value)
            for side in self._users(b):
                side.mirrors[b] = mirror = self._mirror(what, side, value.shape, value.dtype)
                side.there[b] = mirror.address

    def _final_places(self) -> None:
        """Final values are computed in the memory of their variable, if nothing reads its old value and nothing in the step can fail."""
        c, self.direct = self.compiled, {}
        if any(u.launch is None and u.cluster.kind != "blank" or u.launch is not None and u.launch.checks for u in c.units):
            return
        read = {what for t, (kind, what) in c.inputs.items() if kind == "variable" and t in c.buffers}
        for var, t in c.program.writes:
            b = c.buffers[t]
            root, old = self.alias.get(b, b), self.store.values.get(var)
            side = self._maker(root)
            mine = side is not None and root not in self.here and root not in self.fixed and root not in side.mirrors
            if mine and var not in read and old is not None and old.shape == self.shape[root] and old.dtype == b.dtype.np:
                side.mirrors[root] = mirror = self._mirror(var, side, old.shape, old.dtype)  # type: ignore[union-attr]
                side.there[root], self.direct[root] = mirror.address, var  # type: ignore[union-attr]

    def _maker(self, root: ir.Buffer) -> Side | None:
        """The GPU that makes what is in a buffer."""
        return next((side for side in self.sides if root in side.made), None)

    def _mirror(self, var: Operation, side: Side, shape: tuple[int, ...], dtype: np.dtype) -> Variable:
        mirrors = self.store.mirrors.setdefault(var, {})
        found = mirrors.get(side.device)
        if found is None:
            found = mirrors[side.device] = Variable(side.device, shape, dtype)
        return found

    def _boxes(self, inputs: list[ir.Buffer], outputs: list[ir.Buffer]) -> None:
        """What comes in lies together, and so does what goes out of each device: one copy each."""
        padded = {b: -(-max(self.nbytes(b), 1) // ALIGN) * ALIGN for b in (*inputs, *outputs)}
        inputs.sort(key=lambda b: sum(self.sides.index(side) for side in (self._users(b)[0], self._users(b)[-1])))  # neighbours of a GPU
        self.feed_places = dict(zip(inputs, np.cumsum([0, *[padded[b] for b in inputs]]).tolist()))
        self.feed_bytes = sum(padded[b] for b in inputs)
        for side in self.sides:
            side.boxes({b: padded[b] for b in inputs if b in side.used}, {b: padded[b] for b in outputs if self._maker(b) is side})
        self.placed = {b for side in self.sides for b in (*side.feeds, *side.results)}
        self.alone = {b: side for side in self.sides for b in (*side.feeds, *side.results) if self._users(b) == [side]}

    def _open_boxes(self) -> None:
        """Memory for what comes in and goes out, on all sides."""
        block = self._pinned(self.feed_bytes) if self.feed_bytes else np.empty(0, np.uint8)
        for b, at in self.feed_places.items():
            self._host(b, block, at)
        for side in self.sides:
            side.open_boxes(block, self.feed_places)
            for b in side.results:
                self._host(b, side.box, side.there[b] - side.cell)

    def memory(self) -> dict[str, int]:
        """Bytes on all devices that a run needs, by what for."""
        sides = self.sides
        return {"variables": sum(m.nbytes for side in sides for m in side.mirrors.values()),
                "constants": sum(array.nbytes for b, array in self.fixed.items() for _ in self._users(b)),
                "temporaries": sum(side.nbytes for side in sides), "feeds": sum(side.feed_bytes for side in sides),
                "results": sum(side.result_bytes for side in sides)}

    # -- instructions

    def _instructions(self) -> None:
        c = self.compiled
        self.hosts, self.unit_at = {}, {}
        self.guards = any(u.launch.checks for p in self.programs for u in p.units if u.launch is not None)
        tables: list[int] = []
        sizes: list[int] = []
        rows: list[list[Any]] = []
        made = Rows(self, rows, tables, sizes)
        prologue = [u for u in c.units if u.prologue]
        self.start = 0
        if prologue:
            rows.append([runner.JUMP] + [0] * 5 + [1, 0])
            made.clear()
            for u in prologue:
                made.unit(u)
            made.settle()
            self.start = len(rows) - 1
        made.begin()
        for u in c.units:
            if not u.prologue:
                made.unit(u)
        self._final_values(made)
        made.end()
        rows.append([runner.HALT] + [0] * 7)
        self._encode(rows, tables, sizes)
        self._read_there()

    def _fetched_variables(self) -> set[Any]:
        """Variables whose old value is a result."""
        c = self.compiled
        return {c.inputs[t][1] for t in c.program.roots() if t in c.inputs and c.inputs[t][0] == "variable"}

    def _final_values(self, made: Rows) -> None:
        """Final values of variables that were not computed in their memory are copied there, after every check."""
        c = self.compiled
        self.replaced, self.kept_away = [], []
        fetched = self._fetched_variables()
        for var, t in c.program.writes:
            b = c.buffers[t]
            root = self.alias.get(b, b)
            source = c.tensor_of.get(root)
            if source in c.inputs and c.inputs[source] == ("variable", var):  # type: ignore[index]
                if self._maker(root) is not None:
                    self.kept_away.append((var, root))
                continue
            if self.direct.get(root) is var:
                self.kept_away.append((var, root))
                continue
            old = self.store.values.get(var)
            same = old is not None and b.dtype.kind != "s" and old.shape == self.shape[b]
            side = self._maker(root)
            if side is not None and root in side.there and var not in fetched and same and b.dtype.kind != "s":
                mirror = self._mirror(var, side, self.shape[b], b.dtype.np)
                made.copy_guarded(side, mirror.address, root, self.nbytes(b))
                side.mirrors.setdefault(root, mirror)
                self.kept_away.append((var, root))
            else:
                self.replaced.append((var, b))

    def call(self, u: Unit, base: int) -> Callable[[], None] | None:
        """What computes a unit: its launch, or the call of a library; None where that of an earlier unit does."""
        if id(u) in self.calls:
            return self._by_library(u)
        if self._done(u):
            return None
        assert u.launch is not None
        side = self.side(u)
        return self.bound(side, u.launch, {b: self.at(side, b) for b in u.launch.buffers}, base, u.commits and self.guards)

    def _done(self, u: Unit) -> bool:
        """Whether a library does the work of a unit."""
        return id(u) in self.calls or u.covered and u.cluster in self.done_by_library

    def at(self, side: Side, b: ir.Buffer) -> int:
        """Where a buffer is on a device in this run."""
        root = self.alias.get(b, b)
        return self.lent.get(root) or side.there[root]

    def _ask_libraries(self) -> None:
        """Which units libraries compute: settled before kernels are made, so that none is made for these."""
        wanted = [u for c in self.programs for u in c.units if u.library is not None]
        if wanted:
            from . import libraries

            for side in self.sides:
                side.device.use()
        for u in wanted:
            try:
                if u.commits and self.guards:
                    raise libraries.Refused("a step that fails must change nothing, and a library does not look at checks")
                side = self.side(u)
                side.device.use()
                call = libraries.prepare(u.library.call.bind(self.env), side.device.ordinal)  # type: ignore[union-attr]
                side.workspace(call.workspace_bytes)
            except (libraries.Refused, libraries.Missing, libraries.LibraryError, errors.ResourceExhaustedError) as error:
                self.refused[id(u)] = str(error)
                continue
            self.calls[id(u)] = call
            self.done_by_library.append(u.cluster)
            self.libraries_used[id(u)] = call.label

    def _by_library(self, u: Unit) -> Callable[[], None]:
        from .libraries import LibraryError

        wanted, side, call = u.library, self.side(u), self.calls[id(u)]
        device, space = side.device, side.workspace(call.workspace_bytes)
        first, second = (self.at(side, b) for b in wanted.call.reads)  # type: ignore[union-attr]
        result = self.at(side, wanted.out)  # type: ignore[union-attr]
        more = {n: self.at(side, b) for n, b in (("bias", wanted.bias), ("add", wanted.add)) if b is not None}  # type: ignore[union-attr]

        def queue() -> None:
            device.use()
            try:
                call.enqueue(device.stream, first, second, result, workspace=space, **more)
            except LibraryError as error:
                op = u.cluster.ops[0]
                raise errors.InternalError(None, op, f"{op.name} on {device.name}: {call.label}: {error}. With GRAPHFLOW_CUDA_LIBRARIES=0 "
                                                     f"a generated kernel computes it.") from error

        return queue

    def _text(self, launch: Launch, guarded: bool) -> tuple[Launch, str]:
        """The launch for the sizes of the plan, and its text."""
        large = any(math.prod(self.shape.get(b, (0,))) >= LIMIT for b in launch.buffers)
        if not launch.wide and (large or any(not isinstance(s, int) and types.evaluate(s, self.env) >= LIMIT for s in launch.sizes)):
            if launch.widened is None:
                raise Narrow
            launch = launch.widened()
        return launch, emit.guarded_text(launch.source) if guarded else launch.source

    def _link(self) -> None:
        """Makes all kernels at once, where the driver can work on several."""
        for side in self.sides:
            wanted = [self._text(u.launch, u.commits and self.guards)[1] for c in self.programs for u in c.units
                      if u.launch is not None and u.device == side.name and not self._done(u)]
            side.device.link([texts.ptx_of(source, side.device.properties.capability) for source in dict.fromkeys(wanted)])

    def _kernel(self, side: Side, source: str) -> Any:
        device = side.device
        return device.kernel(texts.ptx_of(source, device.properties.capability), "kernel", texts.label(source))

    def bound(self, side: Side, launch: Launch, where: dict[ir.Buffer, int], base: int, guarded: bool) -> Callable[[], None]:
        launch, source = self._text(launch, guarded)
        kinds, threads = texts.signature(source)
        values = [where[b] for b in launch.buffers]
        if guarded or launch.checks:
            values.append(side.cell)
        values += [types.evaluate(s, self.env) for s in launch.sizes]
        if launch.checks:
            values.append(base)
        grid = tuple(types.evaluate(g, self.env) for g in launch.grid)
        if 0 in grid:
            return lambda: None
        made = self._kernel(side, source).prepare(kinds, values, grid, (threads, 1, 1), texts.room(source))  # type: ignore[arg-type]
        cell = [(side.cell, 4)] if guarded or launch.checks else []
        side.device.driver.expect(made.prepared, [(where[b], self.nbytes(b)) for b in launch.buffers] + cell)
        return made

    def narrow(self, launch: Launch) -> bool:
        """Whether 32 bits suffice for the indices of a launch."""
        return not launch.wide and all(math.prod(self.shape.get(b, (0,))) < LIMIT for b in launch.buffers)

    def spans(self, u: Unit) -> list[together.Span]:
        """The memory that a unit reads and writes."""
        assert u.launch is not None and u.home is not None
        home = u.home.buffers
        written = {self.alias.get(b, b) for b in (home.get(x) if isinstance(x, Tensor) else x for x in (*u.writes, *u.launch.writes)) if b}
        read = {self.alias.get(b, b) for b in (home.get(x) if isinstance(x, Tensor) else x for x in (*u.reads, *u.launch.buffers)) if b}
        side = self.side(u)
        return [(self.at(side, b), self.at(side, b) + self.nbytes(b), b in written) for b in written | read]

    def bound_together(self, side: Side, members: list[Step], tables: list[int]) -> Callable[[], None] | None:
        """One launch for several; its table of what blocks do is added to `tables`."""
        launches = [(s.launch, s.launch.many or emit.alike(s.launch)) for s in members]  # type: ignore[arg-type, union-attr]
        many = launches[0][1]
        known = [(s.where(), [types.evaluate(n, self.env) for n in m.sizes], s.blocks)  # type: ignore[misc, union-attr]
                 for s, (_, m) in zip(members, launches, strict=True)]
        table = together.table(many, known)  # type: ignore[arg-type]
        if not len(table):
            return None
        tables.append(side.constant(table))
        guarded = members[0].guarded
        source = emit.guarded_text(many.source) if guarded else many.source  # type: ignore[union-attr]
        kinds, threads = texts.signature(source)
        arguments = [tables[-1], side.cell][:len(kinds)]
        made = self._kernel(side, source).prepare(kinds, arguments, (len(table), 1, 1), (threads, 1, 1), texts.room(source))
        reach = [(at, self.nbytes(b)) for (launch, _), (where, _, _) in zip(launches, known, strict=True)
                 for b, at in zip(launch.buffers, where, strict=True)]  # type: ignore[union-attr]
        side.device.driver.expect(made.prepared, [*reach, (tables[-1], table.nbytes), *[(side.cell, 4)] * guarded])
        return made

    # -- memory of the caller's on the device

    def lends(self, b: ir.Buffer, given: Any = None) -> bool:
        """Whether a feed or result may lie in the caller's own memory: on the one device that uses it, aligned, and by kernels only."""
        side = self.alone.get(b)
        fits = given is None or side is not None and given.device is side.device and given.address % 16 == 0
        return side is not None and fits and b not in self.shared and self.nbytes(b) > 0

    def new(self, b: ir.Buffer) -> Any:
        """Memory for a result that stays on its device."""
        from .arrays import DeviceArray

        return DeviceArray.empty(self.alone[b].device, self.shape[b], b.dtype)

    def lend(self, addresses: dict[ir.Buffer, int]) -> None:
        """Says where some feeds and results lie in the next run; the others are in the plan's own memory."""
        if addresses or self.lent:
            self.lent = addresses
            self.form = tuple(addresses.items())

    # -- running

    def _bound(self) -> Callable[[int], int]:
        native, segments = runner.bind(self.code, self.state), self.segments
        if list(segments) == [0] and self.halt == 1:
            only = segments[0]
            only.waits = True

            def go(pc: int) -> int:
                only.run()
                return 0 if self.failed_at(0, only) else 1

            return go
        return lambda pc: self._alternate(native, pc, None)

    def patiently(self, pc: int, timeout: float | None = None) -> int:
        end = None if timeout is None else time.monotonic() + timeout

        def native(pc: int) -> int:
            left = None if end is None else max(end - time.monotonic(), 0.0)
            return runner.execute_interruptible(self.code, pc, self.state, left)

        return self._alternate(native, pc, end)

    def _alternate(self, native: Callable[[int], int], pc: int, end: float | None) -> int:
        """Instructions of the host and segments in turn.  After `end` it stops between two, or in one, unless variables have changed."""
        state, segments = self.state, self.segments
        loose: dict[Segment, None] = {}  # what has been queued since the host has waited last
        try:
            while True:
                pc = native(pc)
                if state[runner.REASON] == runner.PAUSED:  # Python looks around
                    continue
                segment = segments.get(pc) if state[runner.REASON] == runner.AT_HOST else None
                if segment is None:
                    return pc
                if not segment.run(None if state[runner.COMMITTED] else end):
                    state[runner.REASON] = runner.INTERRUPTED
                    return pc
                if segment.waits:
                    loose.clear()
                else:
                    loose[segment] = None  # type: ignore[index]
                if segment.commits:
                    state[runner.COMMITTED] = 1
                if self.failed_at(pc, segment):
                    return pc
                pc += 1
        finally:
            if loose:
                for side in self.sides:
                    side.device.synchronize("; ".join(segment.label for segment in loose))

    def failed_at(self, pc: int, segment: Segment | Joint) -> bool:
        """Whether a check has failed; the state says which."""
        self.state[runner.REASON] = runner.DONE
        if not segment.checks:
            return False
        number = next((int(side.failed[0]) for side in self.sides if side.failed[0]), 0)
        if not number:
            return False
        for side in self.sides:  # the next run may look at one before the other's has been copied again
            side.failed[0] = 0
        self.unit_at[pc] = self.checked[number // CHECKS - 1]
        self.state[runner.REASON], self.state[runner.CHECK] = runner.CHECK_FAILED, number % CHECKS
        return True

    def _read_there(self) -> None:
        """What `_settle` looks at: variables read or kept on the host, values on devices, variables written from the host."""
        c = self.compiled
        kept = {var for var, _ in self.kept_away}
        self.settled, self.mirrored, self.wrote = [], [], []
        for t, (kind, what) in c.inputs.items():
            if kind == "variable" and t in c.buffers:
                b = c.buffers[t]
                mirrors = [side.mirrors[b] for side in self.sides if b in side.mirrors]
                if b in self.here or not mirrors:
                    self.settled.append(what)
                self.mirrored += [(what, m) for m in mirrors]
        self.wrote = [var for var, _ in c.program.writes if var not in kept]
        self.ahead = [(var, self.store.mirrors[var][self._maker(b).device]) for var, b in self.kept_away]  # type: ignore[union-attr]

    def _settle(self) -> None:
        """Brings variables where they are read, in their newest value."""
        store = self.store
        for what in self.settled:
            store.settle(what)
        late = [(what, m) for what, m in self.mirrored if m.ahead == "host"]
        if late:
            self._refresh(late)
        for var in self.wrote:
            if var in store.mirrors:
                store.settle(var)
                store.changed(var)

    def _refresh(self, late: list[tuple[Operation, Variable]]) -> None:
        """Values of devices that are older than others: from the device that has the newest, else from the host."""
        fetched: dict[tuple[Device, Device], list[tuple[Variable, Variable]]] = {}
        for what, m in late:
            newest = next((x for x in self.store.mirrors[what].values() if x.ahead == "device"), None)
            if newest is None:
                m.push(self.store.values[what])
            else:
                fetched.setdefault((m.device, newest.device), []).append((m, newest))
        for (device, other), pairs in fetched.items():
            self._order(other, device)
            for m, newest in pairs:
                m.fetch(newest)
            self._order(device, other)  # which may write a new value in this run

    def _order(self, first: Device, second: Device) -> None:
        """What is queued on the second device from now on is behind what is on the first."""
        mark = self.marks.get((first, second))
        if mark is None:
            mark = self.marks[first, second] = Mark(first)
        mark.set()
        second.after(mark)

    def done(self) -> None:
        super().done()
        self.changed()

    def changed(self) -> None:
        """Variables have been written on devices."""
        for var, mirror in self.ahead:
            self.store.ahead(var, mirror)
