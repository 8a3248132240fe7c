"""A plan whose kernels run on a GPU: memory there, copies between, and the launches of a step recorded as CUDA graphs.

Instructions are those of any plan; what the GPU does between two instructions of the host is one of them, a *segment*: copies in,
launches, copies out, queued one by one in the first run and replayed as one graph afterwards.  A program that runs on the GPU alone is
one segment.  Every buffer has memory on each side that uses it, and crosses once, right after it is made.

Checks of kernels write into one cell, which is read when a segment ends; kernels that write variables look at the cell first, so that a
step that fails changes nothing.  Knows plans, launches and devices; knows no op (rank 4).
"""
from __future__ import annotations

import math
import time
from collections.abc import Callable
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
from .device import Device
from .rows import ALIGN, Rows
from .segments import CHECKS, Segment
from .together import Step


class Variable:
    """The value of a variable on a device (see `store.Mirror`)."""

    def __init__(self, device: Device, shape: tuple[int, ...], dtype: np.dtype):
        self.device, self.shape, self.dtype = device, shape, dtype
        self.nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        self.address = device.allocate(max(self.nbytes, 1))
        self.ahead = "host"

    def pull(self, value: np.ndarray) -> None:
        self.device.copy_out(value, self.address)
        self.device.synchronize("reading a variable")
        self.ahead = ""

    def push(self, value: np.ndarray) -> None:
        if self.nbytes:
            self.device.copy_in(self.address, value)
        self.ahead = ""

    def drop(self) -> None:
        self.device.free(self.address)


class Narrow(Exception):
    """A plan from disk whose kernels have indices of 32 bits, for sizes that need 64."""


class DevicePlan(Plan):
    """Instructions over arenas on the host and on one GPU for one set of sizes."""

    def __init__(self, compiled: Compiled, env: dict[str, int], store: Any, threads: int, device: Device, limit: int = 0):
        self.device = device
        self.segments: dict[int, Segment] = {}
        self.checked: list[Unit] = []
        self.there: dict[ir.Buffer, int] = {}  # addresses on the device
        self.spare: dict[ir.Buffer, ir.Buffer]  # see `flow.lifetimes`
        self.mirrors: dict[ir.Buffer, Variable] = {}
        self.blocks: list[int] = []
        self.workspace = 0, 0
        self.form: Any = ()  # addresses of feeds and results that are the caller's own memory on the device
        self.calls: dict[int, Any] = {}  # by unit (its id), the call of a library that computes it
        self.done_by_library: list[Any] = []  # clusters
        self.libraries_used: dict[int, str] = {}  # by unit (its id), what computes it
        self.refused: dict[int, str] = {}  # and why no library does
        # While a run is watched: what has been queued, when, and a function that waits and tells how long it took on the device.
        self.watched: list[tuple[Unit | str, float, Callable[[], float]]] | None = None
        super().__init__(compiled, env, store, threads, limit)
        self._ask_libraries()
        self._link()

    def __del__(self) -> None:
        self.release()

    def release(self) -> None:
        """Gives the memory on the device back; the plan does not run any more."""
        self.segments.clear()
        while self.blocks:
            self.device.free(self.blocks.pop())

    # -- memory

    def _sides(self, first: dict[ir.Buffer, int]) -> None:
        """Which buffers are used on the host, and which on the device."""
        self.here, self.away = set(), set()
        self.made_away: set[ir.Buffer] = set()

        def root(home: Any, x: Any) -> ir.Buffer:
            b = home.buffers.get(x, x) if isinstance(x, Tensor) else x
            return self.alias.get(b, b)

        links: list[tuple[ir.Buffer, ir.Buffer]] = []
        fetched = self._fetched_variables()
        for c in self.programs:
            for u in c.units:
                if u.nest is not None:
                    flags_ = [root(c, u.nest.flag)] if u.nest.kind == "branch" else [root(u.nest.parts[0], u.nest.flag)]
                    self.here.update(flags_)
                    pairs = [p for part in u.nest.results for p in part]
                    links += [(self.alias.get(t, t), self.alias.get(s, s)) for t, s in pairs]
                    continue
                used = [root(c, x) for x in (*u.reads, *u.writes) if not isinstance(x, Tensor) or x in c.buffers]
                if u.cluster.kind == "blank":
                    continue
                (self.away if u.launch is not None else self.here).update(used)
                if u.launch is not None:
                    self.made_away.update(root(c, x) for x in u.writes)
        self.shared = set(self.here)  # what the host uses, apart from results
        self.shared.update(b for pair in links for b in pair)
        for t in self.compiled.program.outputs:
            if t in self.compiled.buffers:
                self.here.add(root(self.compiled, t))
        for var, t in self.compiled.program.writes:
            b = self.compiled.buffers[t]
            old = self.store.values.get(var)
            if old is None or old.shape != self.shape[b] or self.alias.get(b, b) not in self.made_away or var in fetched:
                self.here.add(self.alias.get(b, b))
                self.shared.add(self.alias.get(b, b))
        changed = True
        while changed:
            changed = False
            for target, source in links:
                for side in (self.here, self.away):
                    if target in side and source not in side:
                        side.add(source)
                        changed = True
                    if source in side and target not in side and target not in self.here | self.away:
                        side.add(target)
                        changed = True
        for target, spare in self.spare.items():
            for side in (self.here, self.away):
                if target in side:
                    side.add(spare)

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
                   if b in self.made_away and b not in self.alias and b not in kinds and b not in self.fixed]
        self._boxes([b for b in inputs if b in self.away], [b for b in outputs if b.dtype.kind != "s"])
        here, there = [], []
        for b in self.shape:
            elsewhere = b in self.alias or b in self.fixed or b in self.placed or b in self.direct
            if elsewhere or kinds.get(b) == "variable" or b.dtype.kind == "s":
                continue
            if b in kinds:
                here.append((b, self.nbytes(b), -1, end))
            elif b in first:
                life = self.nbytes(b), first[b], max(last[b], first[b])
                if b in self.here:
                    here.append((b, *life))
                if b in self.away:
                    there.append((b, *life))
        offsets, self.arena_bytes = memory.pack(here)
        deep, self.device_bytes = memory.pack([(b, -(-n // ALIGN) * ALIGN, x, y) for b, n, x, y in there])
        self.slots = there
        self.total = sum(self.memory().values())
        if self.limit and self.total > self.limit:
            raise memory.Exceeded(self)
        self._open_boxes()
        self.arena = self.device.pinned((self.arena_bytes,), np.uint8) if self.arena_bytes else aligned((0,), np.dtype(np.uint8))
        for key, at in offsets.items():
            self._host(key, self.arena, at)  # type: ignore[arg-type]
        base = self._take(self.device_bytes)
        for key, at in deep.items():
            self.there[key] = base + at  # type: ignore[index]
        self._clear_blanks()
        for b, array in self.fixed.items():
            self._pin(b, array)
            if b in self.away:
                self.there[b] = self._constant(array)

    def _clear_blanks(self) -> None:
        """Memory without content is cleared once: whole arrays are copied before all of their elements have been made."""
        for c in self.programs:
            for u in c.units if self.device_bytes else ():
                if u.cluster.kind == "blank":
                    b = self.alias.get(u.writes[0], u.writes[0])
                    if b in self.there:
                        self.device.fill(self.there[b], 0, self.nbytes(b))

    def _take(self, nbytes: int) -> int:
        if nbytes:
            self.blocks.append(self.device.allocate(nbytes))
            return self.blocks[-1]
        return 0

    def _constant(self, array: np.ndarray) -> int:
        address = self._take(max(array.nbytes, 1))
        if array.nbytes:
            self.device.copy_in(address, np.ascontiguousarray(array))
        return address

    def _host(self, b: ir.Buffer, block: np.ndarray, at: int) -> None:
        self.views[b] = block[at:at + self.nbytes(b)].view(b.dtype.np).reshape(self.shape[b])
        self.address[b] = block.ctypes.data + at if block.nbytes else 0

    def _variables(self) -> None:
        """Every variable is on the host; those that kernels of the device use are there too."""
        c = self.compiled
        for t, (kind, what) in c.inputs.items():
            if kind != "variable" or t not in c.buffers:
                continue
            b = c.buffers[t]
            value = self.store.values.get(what)
            if value is None:
                value = self.store.read(what)
            self._pin(b, value)
            if b in self.away:
                self.mirrors[b] = mirror = self._mirror(what, value.shape, value.dtype)
                self.there[b] = mirror.address

    def _final_places(self) -> None:
        """Final values are computed in the memory of their variable, if nothing reads its old value and nothing in the step can fail."""
        c, self.direct = self.compiled, {}
        if any(u.launch is None and u.cluster.kind != "blank" or u.launch is not None and u.launch.checks for u in c.units):
            return
        read = {what for t, (kind, what) in c.inputs.items() if kind == "variable" and t in c.buffers}
        for var, t in c.program.writes:
            b = c.buffers[t]
            root, old = self.alias.get(b, b), self.store.values.get(var)
            mine = root in self.made_away and root not in self.here and root not in self.fixed and root not in self.mirrors
            if mine and var not in read and old is not None and old.shape == self.shape[root] and old.dtype == b.dtype.np:
                self.mirrors[root] = mirror = self._mirror(var, old.shape, old.dtype)
                self.there[root], self.direct[root] = mirror.address, var

    def _mirror(self, var: Operation, shape: tuple[int, ...], dtype: np.dtype) -> Variable:
        found = self.store.mirrors.get(var)
        if found is not None and found.device is not self.device:
            self.store.settle(var)
            self.store.mirrors.pop(var).drop()
            self.store.version += 1
            found = None
        if found is None:
            found = self.store.mirrors[var] = Variable(self.device, shape, dtype)
        return found

    def _boxes(self, inputs: list[ir.Buffer], outputs: list[ir.Buffer]) -> None:
        """What comes in lies together, and so does what goes out, with the cell of checks before it: one copy each."""
        self.placed = {*inputs, *outputs}
        self.feeds_away, self.results_away = inputs, outputs
        self.in_box: list[tuple[dict[ir.Buffer, int], int]] = []  # where each is, and the bytes of all
        for buffers, at in ((inputs, 0), (outputs, ALIGN)):
            places = {}
            for b in buffers:
                places[b] = at
                at += -(-max(self.nbytes(b), 1) // ALIGN) * ALIGN
            self.in_box.append((places, at))

    def _open_boxes(self) -> None:
        """Memory for what comes in and goes out, on both sides."""
        self.boxes = []
        for places, size in self.in_box:
            block = self.device.pinned((size,), np.uint8) if size else np.empty(0, np.uint8)
            base = self._take(size)
            for b, offset in places.items():
                self._host(b, block, offset)
                self.there[b] = base + offset
            self.boxes.append((block, base, size))
        self.cell = self.boxes[1][1]
        self.device.fill(self.cell, 0, self.boxes[1][2])  # the gaps between results are copied, too
        self.failed = self.boxes[1][0][:4].view(np.uint32)

    def memory(self) -> dict[str, int]:
        """Bytes on the device that a run needs, by what for."""
        return {"variables": sum(m.nbytes for m in self.mirrors.values()),
                "constants": sum(array.nbytes for b, array in self.fixed.items() if b in self.away), "temporaries": self.device_bytes,
                "feeds": self.in_box[0][1], "results": self.in_box[1][1]}

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
            for u in prologue:
                made.unit(u)
            made.shown(set(made.newer))
            made.flush()
            self.start = len(rows) - 1
        made.begin()
        for u in c.units:
            if not u.prologue:
                made.unit(u)
        self._final_values(made)
        made.end()
        rows.append([runner.HALT] + [0] * 7)
        self._encode(rows, tables, sizes)

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
                if root in self.made_away:
                    self.kept_away.append((var, root))
                continue
            if self.direct.get(root) is var:
                self.kept_away.append((var, root))
                continue
            old = self.store.values.get(var)
            same = old is not None and b.dtype.kind != "s" and old.shape == self.shape[b]
            if root in self.made_away and root in self.there and var not in fetched and same and b.dtype.kind != "s":
                mirror = self._mirror(var, self.shape[b], b.dtype.np)
                made.copy_guarded(mirror.address, root, self.nbytes(b))
                self.mirrors.setdefault(root, mirror)
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
        return self.bound(u.launch, {b: self.at(b) for b in u.launch.buffers}, base, u.commits and self.guards)

    def _done(self, u: Unit) -> bool:
        """Whether a library does the work of a unit."""
        return id(u) in self.calls or u.covered and u.cluster in self.done_by_library

    def at(self, b: ir.Buffer) -> int:
        """Where a buffer is on the device in this run."""
        root = self.alias.get(b, b)
        return self.lent.get(root) or self.there[root]

    def _ask_libraries(self) -> None:
        """Which units libraries compute: settled before kernels are made, so that none is made for these."""
        wanted = [u for c in self.programs for u in c.units if u.library is not None]
        if wanted:
            from . import libraries

            self.device.use()
        for u in wanted:
            try:
                if u.commits and self.guards:
                    raise libraries.Refused("a step that fails must change nothing, and a library does not look at checks")
                call = libraries.prepare(u.library.call.bind(self.env), self.device.ordinal)  # type: ignore[union-attr]
                self._workspace(call.workspace_bytes)
            except (libraries.Refused, libraries.Missing, libraries.LibraryError, errors.ResourceExhaustedError) as error:
                self.refused[id(u)] = str(error)
                continue
            self.calls[id(u)] = call
            self.done_by_library.append(u.cluster)
            self.libraries_used[id(u)] = call.label

    def _by_library(self, u: Unit) -> Callable[[], None]:
        from .libraries import LibraryError

        wanted, device, call = u.library, self.device, self.calls[id(u)]
        space = self._workspace(call.workspace_bytes)
        first, second = (self.at(b) for b in wanted.call.reads)  # type: ignore[union-attr]
        result = self.at(wanted.out)  # type: ignore[union-attr]
        more = {n: self.at(b) for n, b in (("bias", wanted.bias), ("add", wanted.add)) if b is not None}  # type: ignore[union-attr]

        def queue() -> None:
            device.use()
            try:
                call.enqueue(device.stream, first, second, result, workspace=space, **more)
            except LibraryError as error:
                op = u.cluster.ops[0]
                raise errors.InternalError(None, op, f"{op.name} on {device.name}: {call.label}: {error}. With GRAPHFLOW_CUDA_LIBRARIES=0 "
                                                     f"a generated kernel computes it.") from error

        return queue

    def _workspace(self, nbytes: int) -> int:
        """Memory that one call of a library after the other uses."""
        if nbytes > self.workspace[1]:
            self.workspace = self._take(nbytes), nbytes
        return self.workspace[0]

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
        wanted = [self._text(u.launch, u.commits and self.guards)[1] for c in self.programs for u in c.units
                  if u.launch is not None and not self._done(u)]
        self.device.link([texts.ptx_of(source, self.device.properties.capability) for source in dict.fromkeys(wanted)])

    def bound(self, launch: Launch, where: dict[ir.Buffer, int], base: int, guarded: bool) -> Callable[[], None]:
        launch, source = self._text(launch, guarded)
        kinds, threads = texts.signature(source)
        values = [where[b] for b in launch.buffers]
        if guarded or launch.checks:
            values.append(self.cell)
        values += [types.evaluate(s, self.env) for s in launch.sizes]
        if launch.checks:
            values.append(base)
        grid = tuple(types.evaluate(g, self.env) for g in launch.grid)
        if 0 in grid:
            return lambda: None
        function = self.device.kernel(texts.ptx_of(source, self.device.properties.capability), "kernel", texts.label(source))
        made = function.prepare(kinds, values, grid, (threads, 1, 1), texts.room(source))  # type: ignore[arg-type]
        cell = [(self.cell, 4)] if guarded or launch.checks else []
        self.device.driver.expect(made.prepared, [(where[b], self.nbytes(b)) for b in launch.buffers] + cell)
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
        return [(self.at(b), self.at(b) + self.nbytes(b), b in written) for b in written | read]

    def bound_together(self, members: list[Step], tables: list[int]) -> Callable[[], None] | None:
        """One launch for several; its table of what blocks do is added to `tables`."""
        launches = [(s.launch, s.launch.many or emit.alike(s.launch)) for s in members]  # type: ignore[arg-type, union-attr]
        many = launches[0][1]
        known = [(s.where(), [types.evaluate(n, self.env) for n in m.sizes], s.blocks)  # type: ignore[misc, union-attr]
                 for s, (_, m) in zip(members, launches, strict=True)]
        table = together.table(many, known)  # type: ignore[arg-type]
        if not len(table):
            return None
        tables.append(self._constant(table))
        guarded = members[0].guarded
        source = emit.guarded_text(many.source) if guarded else many.source  # type: ignore[union-attr]
        kinds, threads = texts.signature(source)
        function = self.device.kernel(texts.ptx_of(source, self.device.properties.capability), "kernel", texts.label(source))
        made = function.prepare(kinds, [tables[-1], self.cell][:len(kinds)], (len(table), 1, 1), (threads, 1, 1), texts.room(source))
        reach = [(at, self.nbytes(b)) for (launch, _), (where, _, _) in zip(launches, known, strict=True)
                 for b, at in zip(launch.buffers, where, strict=True)]  # type: ignore[union-attr]
        self.device.driver.expect(made.prepared, [*reach, (tables[-1], table.nbytes), *[(self.cell, 4)] * guarded])
        return made

    def give_back(self, blocks: list[int]) -> None:
        for address in blocks:
            self.blocks.remove(address)
            self.device.free(address)

    # -- memory of the caller's on the device

    def lends(self, b: ir.Buffer, given: Any = None) -> bool:
        """Whether a feed or result may lie in the caller's own memory: on this device, aligned, and used by kernels there only."""
        fits = given is None or given.device is self.device and given.address % 16 == 0
        return fits and b in self.placed and b not in self.shared and self.nbytes(b) > 0

    def new(self, b: ir.Buffer) -> Any:
        """Memory for a result that stays on the device."""
        from .arrays import DeviceArray

        return DeviceArray.empty(self.device, self.shape[b], b.dtype)

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
            if segment.commits:
                state[runner.COMMITTED] = 1
            if self.failed_at(pc, segment):
                return pc
            pc += 1

    def failed_at(self, pc: int, segment: Segment) -> bool:
        """Whether a check has failed; the state says which."""
        self.state[runner.REASON] = runner.DONE
        if not segment.checks or not self.failed[0]:
            return False
        number = int(self.failed[0])
        self.unit_at[pc] = self.checked[number // CHECKS - 1]
        self.state[runner.REASON], self.state[runner.CHECK] = runner.CHECK_FAILED, number % CHECKS
        return True

    def _settle(self) -> None:
        """Brings variables where they are read, in their newest value."""
        c = self.compiled
        for t, (kind, what) in c.inputs.items():
            if kind == "variable" and t in c.buffers:
                b = c.buffers[t]
                mirror = self.mirrors.get(b)
                if b in self.here or mirror is None:
                    self.store.settle(what)
                if mirror is not None and mirror.ahead == "host":
                    mirror.push(self.store.values[what])
        kept = {var for var, _ in getattr(self, "kept_away", ())}
        for var, _ in c.program.writes:
            if var in self.store.mirrors and var not in kept:
                self.store.settle(var)
                self.store.changed(var)

    def done(self) -> None:
        super().done()
        self.changed()

    def changed(self) -> None:
        """Variables have been written on the device."""
        for var, _ in self.kept_away:
            self.store.mirrors[var].ahead = "device"
