"""A request with ops on resources (queues, iterators, tables), run in phases.

    native part ── ops on resources ── native part ── ops on resources ── ... ── native part

A native part is an ordinary compiled step with the session's lock; the ops on resources between two of them run on the host
without it, because they may wait for other threads, which need the lock to go on.  What crosses from one part to the next is a
feed of that, so each part keeps its fast path, and a part that fails is replayed without taking anything from a queue again.
A branch or loop with such ops inside is run by the interpreter as one of them.  Ops that the host runs anyway (decoding, strings,
Python functions) run beside them where all that they read is there.

Each native part commits its variables when it ends: a step with several is not atomic.  Ops go into as few parts as possible,
those that no resource needs as late as possible; reads and writes of a variable keep the order of the program (rank 5).
"""
from __future__ import annotations

import threading
import time
from dataclasses import dataclass, field
from queue import SimpleQueue
from typing import Any, Callable, Sequence

import numpy as np

from ..graph import Operation, Tensor, topological
from ..ops import control, state
from ..ops.opdef import Const
from .executable import own
from .reference import Reference, evaluate, perform
from .store import Access, Store, WouldBlock


def on_resources(op: Operation) -> bool:
    """Whether `op` uses a resource, itself or in its regions."""
    return op.opdef._performs is not None or any(on_resources(o) for r in control.regions_of(op) for o in control.members(r, r.also))


@dataclass
class Native:
    """A compiled part.  `done`: what other parts run, so that control edges do not lead there."""

    ops: list[Operation]
    fetches: list[Tensor] = field(default_factory=list)
    targets: list[Operation] = field(default_factory=list)
    feeds: list[Tensor] = field(default_factory=list)
    done: frozenset[Operation] = frozenset()
    call: Callable[..., list[Any]] = lambda values, *rest: []


@dataclass
class Unit:
    """An op on resources, a branch or loop with such ops inside, or an op of the host that reads only what such ops give.

    inputs: what it needs a value of (variables are read from the store).  outputs: what it gives values to, in order; of a branch
    also what others want to know of its inside.  waits: ops of the same place that must come before.  inner: how a branch is run.
    """

    op: Operation
    inputs: list[Tensor]
    outputs: list[Tensor]
    waits: frozenset[Operation]
    inner: Reference | None = None


class Split:
    """`parts`: the request as `Native`s and lists of `Unit`s, in the order to run; `known`: the values that the graph has."""

    def __init__(self, fetches: Sequence[Tensor], targets: Sequence[Operation], feeds: Sequence[Tensor], store: Any):
        self.fed, self.store = set(feeds), store
        self.fetches, self.targets = [t for t in fetches if t not in self.fed], set(targets)
        every = topological([*[t.op for t in self.fetches], *targets], self.fed)
        self.known = {op.outputs[0]: op.attrs["value"] if op.opdef is Const else np.array(op.name.encode(), object)
                      for op in every if op.opdef is Const or op.opdef.makes}
        ops = [op for op in every if op.opdef not in (state.variable_handle, Const) and not op.opdef.makes
               and not (op.outputs and self.fed.issuperset(op.outputs))]
        # What looks into a branch or loop runs with it.
        self.looks = {op: op.attrs["owner"] for op in ops if op.opdef in (control.saved_op, control.captured_op)}
        self.ops = sorted({*ops, *[o for o in self.looks.values() if on_resources(o)]}, key=lambda op: op.id)
        self.there = set(self.ops)
        self.units = {op for op in self.ops if on_resources(op)}
        self._join()
        self.host = self.units | {op for op, owner in self.looks.items() if owner in self.units}
        self.needs = {op: self._needs(op) for op in self.ops}
        self.after = {op: [*self.needs[op]] for op in self.ops}
        self._order_state()
        self.place = self._places()
        self.parts = self._parts()

    def _join(self) -> None:
        """Lets ops of the host join those on resources."""
        for op in self.ops:
            if op not in self.units and _of_host(op):
                makers = {t.op for t in op.inputs if t not in self.fed and t not in self.known}
                if self.units.issuperset(makers) and (makers or op.opdef.effect == "host"):
                    self.units.add(op)

    def _needs(self, op: Operation) -> list[Operation]:
        found = [*[t.op for t in op.inputs if t not in self.fed], *op.control_inputs, *([self.looks[op]] if op in self.looks else ())]
        return [d for d in dict.fromkeys(found) if d in self.there]

    def _order_state(self) -> None:
        """Reads and writes of a variable keep their order."""
        last: dict[Operation, Operation] = {}
        reads: dict[Operation, list[Operation]] = {}
        for op in self.ops:
            if op in self.looks:  # it tells what the variable was
                continue
            writes = _written(op)
            for v in _touched(op):
                earlier = [last[v]] if v in last else []
                if v in writes:
                    self.after[op] += [*earlier, *reads.pop(v, ())]
                    last[v] = op
                else:
                    self.after[op] += earlier
                    reads.setdefault(v, []).append(op)

    def _places(self) -> dict[Operation, int]:
        """Number k stands for native part k, and for the ops on resources that follow it."""
        first: dict[Operation, int] = {}
        for op in self.ops:
            first[op] = max([first[d] + (d in self.host and op not in self.host) for d in self.after[op]], default=0)

        def limits(place: dict[Operation, int]) -> dict[Operation, int]:
            """Everything before what needs it."""
            for op in reversed(self.ops):
                at = first[op] if op in self.host else place.get(op)
                if at is not None:
                    place[op] = at
                    for d in self.after[op]:
                        place[d] = min(place.get(d, at), at)
            return place

        parts = sorted({k for op, k in limits({}).items() if op not in self.host})  # those that there must be
        end = max([first[op] + 1 for op in self.host], default=0)
        used = {d for op in self.ops for d in self.after[op]}
        place = limits({op: next((k for k in parts if k >= first[op]), end) for op in self.ops if op not in used})
        place.update((op, place[owner]) for op, owner in self.looks.items())
        return place

    # -- the parts

    def _native(self, op: Operation) -> bool:
        return op in self.there and op not in self.host

    def _parts(self) -> list[Any]:
        natives: dict[int, Native] = {}
        for op in self.ops:
            if op not in self.host:
                natives.setdefault(self.place[op], Native([])).ops.append(op)
        self._handles(natives)
        for k, part in natives.items():
            self._border(k, part)
        found: list[Any] = []
        for k in range(max([*natives, *self.place.values()], default=-1) + 1):
            found += [natives[k]] if k in natives else []
            units = [self._unit(op) for op in self.ops if op in self.units and self.place[op] == k]
            found += [units] if units else []
        return found

    def _handles(self, natives: dict[int, Native]) -> None:
        """A fetched variable is read when everything that touches it has run."""
        for t in self.fetches:
            if t.op.opdef is state.variable_handle:
                k = max([self.place[op] + (op in self.host) for op in self.ops if t.op in _touched(op)], default=0)
                k = next((n for n in sorted(natives) if n >= k), k)
                natives.setdefault(k, Native([])).fetches.append(t)

    def _border(self, k: int, part: Native) -> None:
        """What comes in and goes out."""
        inside = set(part.ops)
        part.done = frozenset(self.there - inside)
        part.feeds = list(dict.fromkeys(t for op in part.ops for t in op.inputs
                                        if t in self.fed or t.op.opdef.makes or t.op in self.there and t.op not in inside))
        others = [op for op in self.ops if op not in inside and (op in self.units or op not in self.host)]
        out = {t for op in others for t in op.inputs} | set(self.fetches)
        part.fetches += [t for op in part.ops for t in op.outputs if t in out and t not in self.fed]
        used = {d for op in part.ops for d in self.needs[op]} | {t.op for t in part.fetches}
        part.targets = [op for op in part.ops if op not in used]

    def _unit(self, op: Operation) -> Unit:
        waits = frozenset(d for d in self.needs[op] if d in self.units and self.place[d] == self.place[op])
        if not control.regions_of(op):
            return Unit(op, list(op.inputs), list(op.outputs), waits)
        inputs = [t for t in dict.fromkeys(op.inputs) if t in self.fed or t.op.opdef is not state.variable_handle]
        looks = [o for o, owner in self.looks.items() if owner is op]
        outputs = [t for o in (op, *looks) for t in o.outputs if t not in self.fed]
        waits |= {d for d in self.needs[op] if d in self.host}
        return Unit(op, inputs, outputs, waits, Reference(outputs, [op], inputs, self.store, self.there - {op, *looks}))


def _of_host(op: Operation) -> bool:
    """Whether no kernel computes it."""
    d = op.opdef
    if d._numpy is None or d.effect not in (None, "host", "outside") or op.region is not None:
        return False
    return d.family == "host" and d.gpu is None or any(t.dtype.kind == "s" for t in (*op.inputs, *op.outputs))


def _in_order(units: list[Unit]) -> bool:
    """Whether nothing is lost by running them one after the other: what stands after one that may wait needs that."""
    above: dict[Operation, set[Operation]] = {}
    waiting: set[Operation] = set()
    for u in units:
        above[u.op] = set(u.waits).union(*[above.get(w, set()) for w in u.waits])
        if not waiting <= above[u.op]:
            return False
        if u.op.opdef.blocks or u.inner is not None:
            waiting.add(u.op)
    return True


def _read(part: Any) -> list[Tensor]:
    return part.feeds if isinstance(part, Native) else [t for u in part for t in u.inputs]


def _written(op: Operation) -> Sequence[Operation]:
    return op.attrs["writes"] if control.regions_of(op) else [op.inputs[0].op] if op.opdef.effect == "write" else []


def _touched(op: Operation) -> dict[Operation, None]:
    return dict.fromkeys([*[t.op for t in op.inputs if t.op.opdef is state.variable_handle], *_written(op)])


class Phases:
    """Such a request as a callable, like `Executable`.

    make: an executable of (fetches, targets, feeds, done).  convert: a fed value as an array.
    Values stand in a list while it runs, each at its slot.
    """

    def __init__(self, fetches: list[Tensor], targets: list[Operation], feeds: list[Tensor], store: Store, config: Any,
                 make: Callable[..., Any], convert: Callable[[Tensor, Any], np.ndarray]):
        self.feeds, self.store, self.convert = feeds, store, convert
        split = Split(fetches, targets, feeds, store)
        self.parts: list[Any] = split.parts
        self.timeout = (getattr(config, "operation_timeout_in_ms", 0) or 0) / 1000 or None
        self.variants: list[Any] = []  # none of its own: those of its parts
        self.slots: dict[Tensor, int] = {}
        for t in (*feeds, *split.known):
            self._slot(t)
        read = {t for part in self.parts for t in _read(part)}
        self.steps = [self._native(part, make, read) if isinstance(part, Native) else self._hosted(part) for part in self.parts]
        self.results = [self._result(t, split) for t in fetches]
        self.start: list[Any] = [None] * len(self.slots)
        for t, a in split.known.items():
            self.start[self.slots[t]] = a

    def _slot(self, t: Tensor) -> int:
        return self.slots.setdefault(t, len(self.slots))

    def _native(self, part: Native, make: Callable[..., Any], read: set[Tensor]) -> Callable[..., None]:
        part.call = call = make(part.fetches, part.targets, part.feeds, part.done)
        ins, outs = [self._slot(t) for t in part.feeds], [self._slot(t) for t in part.fetches]
        again = [(self._slot(t), t) for t in part.fetches if t in read]  # as arrays, for others

        def run(env: list[Any], access: Access, timeout: float | None, timeline: Any) -> None:
            given = [env[i] for i in ins]
            if timeout is None and timeline is None:
                found = call(given)
            else:
                left = None if access.end is None else max(access.end - time.monotonic(), 1e-3)
                found = call(given, left, timeline)
            for i, a in zip(outs, found):
                env[i] = a
            for i, t in again:
                env[i] = self.convert(t, env[i])
        return run

    def _hosted(self, units: list[Unit]) -> Callable[..., None]:
        runs = {u.op: self._unit(u) for u in units}
        if len(units) == 1:
            return next(iter(runs.values()))
        if _in_order(units):
            def run(env: list[Any], access: Access, *_: Any) -> None:
                for one in runs.values():
                    one(env, access)
            return run
        return lambda env, access, *_: _Batch(units, runs, env, access).run()

    def _unit(self, u: Unit) -> Callable[..., None]:
        op, inner, fed = u.op, u.inner, set(self.feeds)
        performs = op.opdef._performs is not None
        ins, outs = [self._slot(t) for t in u.inputs], [None if t in fed else self._slot(t) for t in u.outputs]

        def run(env: list[Any], access: Access, *_: Any) -> None:
            arrays = [env[i] for i in ins]
            began = 0.0 if access.told is None else time.perf_counter()
            if inner is None:
                found = perform(access, op, arrays) if performs else evaluate(op, arrays)
            else:
                found = inner(arrays, None if access.end is None else max(access.end - time.monotonic(), 0.0), access)
            if access.told is not None:
                access.told(op, began)
            for i, a in zip(outs, found):
                if i is not None:
                    env[i] = a
        return run

    def _result(self, t: Tensor, split: Split) -> tuple[int, Tensor | None, bool]:
        """Where it stands; the tensor, where what stands there must be made the caller's; whether it is fed."""
        crossing = any(t in _read(part) for part in self.parts)
        made = any(isinstance(part, Native) and t in part.fetches for part in self.parts)
        return self.slots[t], None if made and not crossing else t, t in self.feeds

    def __call__(self, values: Sequence[Any], timeout: float | None = None, timeline: Any = None) -> list[Any]:
        env = self.start[:]
        for i, (t, v) in enumerate(zip(self.feeds, values)):
            env[i] = self.convert(t, v)
        limit = timeout if timeout is not None else self.timeout
        access = Access(self.store, None if limit is None else time.monotonic() + limit)
        access.told = getattr(timeline, "host", None)
        for step in self.steps:
            step(env, access, timeout, timeline)
        return [env[i] if t is None else own(env[i] if fed else np.array(env[i]), t, fed) for i, t, fed in self.results]


class _Batch:
    """Ops on resources that stand at the same place: in program order as long as none has to wait, then at once."""

    def __init__(self, units: list[Unit], runs: dict[Operation, Callable[..., None]], env: list[Any], access: Access):
        self.left, self.runs, self.env, self.access = {u.op: u for u in units}, runs, env, access

    def run(self) -> None:
        while self.left:
            ready = self._ready()
            if len(ready) > 1 and self._without_waiting(ready):
                continue
            self.access.patient = True
            if len(ready) > 1:
                self._at_once()
            else:
                self.runs[ready[0].op](self.env, self.access)
                del self.left[ready[0].op]

    def _ready(self) -> list[Unit]:
        return [u for u in self.left.values() if u.waits.isdisjoint(self.left)]

    def _without_waiting(self, ready: list[Unit]) -> bool:
        """Runs those that need not wait; whether there were any."""
        self.access.patient, before = False, len(self.left)
        for u in ready:
            if u.inner is None:
                try:
                    self.runs[u.op](self.env, self.access)
                except WouldBlock:
                    continue
                del self.left[u.op]
        return len(self.left) < before

    def _at_once(self) -> None:
        """Each on a thread of its own; the first error ends all."""
        ended: SimpleQueue[tuple[Unit, BaseException | None]] = SimpleQueue()
        running: dict[Operation, threading.Thread] = {}
        try:
            while self.left:
                for u in self._ready():
                    if u.op not in running:
                        running[u.op] = threading.Thread(target=self._go, args=(u, ended), name=u.op.name, daemon=True)
                        running[u.op].start()
                u, problem = ended.get()
                del self.left[u.op]
                if problem is not None:
                    raise problem
        finally:
            if self.left:
                self.access.cancel()
            for thread in running.values():
                thread.join()

    def _go(self, u: Unit, ended: Any) -> None:
        try:
            self.runs[u.op](self.env, self.access)
            ended.put((u, None))
        except BaseException as e:
            ended.put((u, e))
