"""The instructions of a plan on a GPU: segments among those of the host, and the copies between the two sides.

What a device has made is copied to the host before the host reads it, what the host has made goes to the device at once.  Knows units
and lifetimes; knows no op and no address (rank 4).
"""
from __future__ import annotations

from collections.abc import Callable, Iterable
from functools import cache, partial
from typing import TYPE_CHECKING, Any

import numpy as np

from ... import types
from ...codegen import ir, simplify
from ...codegen.cuda import emit
from ...codegen.cuda.launch import Launch
from ...graph import Tensor
from .. import flow, runner
from ..plan import Unit
from . import together
from .segments import Segment
from .together import Step

if TYPE_CHECKING:
    from .plan import DevicePlan

ALIGN = 256  # of buffers on a device: 128-bit accesses, whole cache lines
WRITTEN_OUT = 1 << 14  # launches and copies of all turns of a loop up to which it is one graph


class Rows(flow.Rows):
    """Instructions with segments among them.

    What a device has made is copied to the host before the host reads it, what the host has made goes to the device at once; so the
    values on a device are always right, and `newer` holds the buffers whose values on the host may be old.
    """

    def __init__(self, plan: DevicePlan, *rest: Any):
        super().__init__(plan, *rest)
        self.open: Segment | None = None
        self.newer: set[ir.Buffer] = set()
        self.inside: set[ir.Buffer] = set()  # what the host reads in the innermost loop around
        self.decided: dict[int, set[ir.Buffer]] = {}  # by id of a unit: what was newer when a loop or branch went its way

    def segment(self) -> Segment:
        if self.open is None:
            self.open = Segment(self.plan)
        return self.open

    def flush(self, told: bool = False) -> None:
        """Ends the open segment: what follows is the host's.  told: the cell of checks comes to the host with results."""
        if self.open is None or not self.open.steps:
            self.open = None
            return
        segment, self.open = self.open, None
        if segment.checks and not told:
            self._out(segment, self.plan.boxes[1][0][:4], self.plan.cell)
        self.plan.segments[len(self.rows)] = segment
        if segment.units:
            self.plan.unit_at[len(self.rows)] = segment.units[0]
        self.rows.append([runner.HOST] + [0] * 7)

    def begin(self) -> None:
        """At the begin of each run: the cell of checks is cleared, and inputs go to the device."""
        plan, device = self.plan, self.plan.device
        if plan.guards:
            self.segment().add("clear checks", lambda: partial(device.fill, plan.cell, 0, 4))
        block, base, nbytes = plan.boxes[0]
        if nbytes:
            self.segment().add("copy to the device", partial(self._inputs, block, base))

    def end(self) -> None:
        """At the end: results come to the host."""
        plan = self.plan
        block, base, nbytes = plan.boxes[1]
        asked = [t for t in plan.compiled.program.outputs if t in plan.compiled.buffers]
        self.shown({*self.roots([*asked, *(b for _, b in plan.replaced)], plan.compiled)} - plan.placed)
        segment = self.segment()
        if nbytes > ALIGN:
            segment.add("copy to the host", partial(self._outputs, block, base))
        segment.checks = bool(plan.checked)
        self.flush(told=nbytes > ALIGN)

    def _inputs(self, block: np.ndarray, base: int) -> Callable[[], None]:
        """Copies all inputs at once, but for those that are on the device already."""
        plan, device = self.plan, self.plan.device
        lent = plan.lent.keys()
        if not lent & set(plan.feeds_away):
            return partial(device.copy_in, base, block)
        rest = [(plan.there[b], plan.views[b]) for b in plan.feeds_away if b not in lent and plan.nbytes(b)]
        return lambda: _each(device.copy_in, rest)

    def _outputs(self, block: np.ndarray, base: int) -> Callable[[], None]:
        """Copies all results at once, but for those that stay on the device."""
        plan, device = self.plan, self.plan.device
        lent = plan.lent.keys()
        if not lent & set(plan.results_away):
            return partial(device.copy_out, block, base)
        rest = [(plan.views[b], plan.there[b]) for b in plan.results_away if b not in lent and plan.nbytes(b)]
        rest += [(block[:4], plan.cell)] if plan.checked else []
        return lambda: _each(device.copy_out, rest)

    def _out(self, segment: Segment, block: np.ndarray, base: int) -> None:
        device = self.plan.device
        segment.add("copy to the host", lambda: partial(device.copy_out, block, base))

    def shown(self, buffers: Iterable[ir.Buffer]) -> None:
        """Copies to the host what it is about to read."""
        plan = self.plan
        for b in [b for b in buffers if b in self.newer]:
            if plan.nbytes(b):
                self._out(self.segment(), plan.views[b], plan.there[b])
            self.newer.discard(b)

    def roots(self, buffers: Iterable[Any], home: Any) -> list[ir.Buffer]:
        found = [home.buffers.get(x) if isinstance(x, Tensor) else x for x in buffers]
        return list(dict.fromkeys(self.plan.alias.get(b, b) for b in found if b is not None))

    def unit(self, u: Unit) -> None:
        plan = self.plan
        if u.cluster.kind == "blank":
            return
        if u.launch is not None:
            self.segment().launch(u)
            self.newer.update(b for b in self.roots(u.writes, u.home) if b in plan.here)
            return
        if (count := self.again(u)) is not None and count <= WRITTEN_OUT:
            self.written_out(u)
            return
        if u.nest is None:  # what it writes, it may write in part
            self.shown(self.roots([*u.reads, *u.writes], u.home))
        self.flush()
        super().unit(u)
        for b in self.roots(u.writes, u.home) if u.nest is None else ():
            if b in plan.away:
                self._in(b)

    def _in(self, b: ir.Buffer) -> None:
        plan = self.plan
        view, address, device = plan.views[b], plan.there[b], plan.device
        if view.nbytes:
            self.segment().add("copy to the device", lambda: partial(device.copy_in, address, view))

    def move(self, target: ir.Buffer, source: ir.Buffer) -> None:
        plan = self.plan
        n = plan.nbytes(target)
        if target in plan.away and target.dtype.kind != "s":
            device = plan.device
            if n:
                self.segment().add("copy", lambda: partial(device.copy, plan.at(target), plan.at(source), n))
            self.newer.update({target} & plan.here)
        else:
            self.shown([source])
            self.flush()
            super().move(target, source)

    def copy_guarded(self, to: int, source: ir.Buffer, nbytes: int) -> None:
        """Copies a final value to a variable's memory, unless a check has failed."""
        plan, segment = self.plan, self.segment()
        if not nbytes:
            return
        segment.commits = True
        launch = copy_launch(nbytes)
        a, b = launch.buffers
        plan.shape.update({a: a.sizes, b: b.sizes})

        def alone() -> Callable[[], None]:
            if not plan.guards:
                return partial(plan.device.copy, to, plan.at(source), nbytes)
            return plan.bound(launch, {a: plan.at(source), b: to}, 0, True)

        def spans() -> list[together.Span]:
            return [(plan.at(source), plan.at(source) + nbytes, False), (to, to + nbytes, True)]

        where = {a: lambda: plan.at(source), b: lambda: to}
        segment.steps.append(Step("copy", alone, spans, launch if plan.narrow(launch) else None,
                                  lambda: [where[x]() for x in launch.buffers], plan.guards, changes=True))

    def jump(self, op: int, flag: int = 0) -> list[Any]:
        self.flush()
        return super().jump(op, flag)

    def flag(self, u: Unit) -> int:
        self.shown(self.roots([u.nest.flag], u.home))  # type: ignore[union-attr]
        self.decided[id(u)] = set(self.newer)
        return super().flag(u)

    def read_inside(self, u: Unit) -> set[ir.Buffer]:
        """What the host reads or changes inside a branch or loop."""
        nest, plan = u.nest, self.plan
        found = {*self.roots([nest.flag], u.home)}  # type: ignore[union-attr]
        for part in nest.parts:  # type: ignore[union-attr]
            for v in part.units:
                if v.nest is not None:
                    found |= self.read_inside(v)
                elif v.launch is None and v.cluster.kind != "blank":
                    found.update(self.roots([*v.reads, *v.writes], v.home))
        for target, source in [pair for pairs in nest.results for pair in pairs]:  # type: ignore[union-attr]
            found.update(b for b in self.roots([source], u.home) if plan.alias.get(target, target) not in plan.away)
        return found

    def again(self, u: Unit) -> int | None:
        """How many launches all turns of a loop make, where it can be written out: the device does all of it, and its turns are known."""
        if u.nest is None or u.nest.kind != "loop" or u.nest.trip is None:
            return None
        parts = [1 if v.launch is not None or v.cluster.kind == "blank" else self.again(v) for v in u.nest.parts[1].units]
        moved = [t for t, _ in flow.moves(self.plan, u)]
        if None in parts or any(t.dtype.kind == "s" or t not in self.plan.away and self.plan.nbytes(t) for t in moved):
            return None
        return (sum(parts) + len(moved)) * types.evaluate(u.nest.trip, self.plan.env)  # type: ignore[arg-type]

    def written_out(self, u: Unit) -> None:
        """All turns of a loop, one after the other: one captured graph, and nothing for the host to wait for."""
        work, swapped = u.nest.parts[1], flow.swaps(self.plan, u)  # type: ignore[union-attr]
        for v in work.units:
            if v.prologue:
                self.unit(v)
        for _ in range(types.evaluate(u.nest.trip, self.plan.env)):  # type: ignore[union-attr, arg-type]
            self._rest(work)
            self._changes(u, swapped)
            for v in work.units:
                if v.closing:
                    self.unit(v)

    def _changes(self, u: Unit, swapped: Any) -> None:
        """The next values of loop variables go to their places."""
        changes = flow.moves(self.plan, u)
        kept = {k: self.plan.spare[target] for k, target, _ in swapped}
        for k, spare in kept.items():
            self.move(spare, changes[k][1])
        for k, (target, source) in enumerate(changes):
            self.move(target, kept.get(k, source))

    def loop(self, u: Unit) -> None:
        self.inside, outer = self.read_inside(u), self.inside
        super().loop(u)
        self.newer |= self.decided[id(u)]
        self.inside = outer

    def edge(self) -> None:
        """Between iterations nothing is newer that the host reads in one."""
        self.shown(self.inside)
        self.flush()

    def branch(self, u: Unit) -> None:
        skip = self.jump(runner.JUMP_IF_FALSE, self.flag(u))
        before, made = set(self.newer), set()
        for number, (part, results) in enumerate(zip(u.nest.parts, u.nest.results)):  # type: ignore[union-attr]
            self.newer = set(before)
            self.program(part)
            for target, source in results:
                self.move(self.plan.alias.get(target, target), self.plan.alias.get(source, source))
            self.flush()
            made |= self.newer
            if number == 0:
                end = self.jump(runner.JUMP)
                skip[runner.AUX] = len(self.rows)
        self.newer = made
        end[runner.AUX] = len(self.rows)


def _each(function: Callable[[Any, Any], None], arguments: Iterable[tuple[Any, Any]]) -> None:
    for a, b in arguments:
        function(a, b)


@cache
def copy_launch(nbytes: int) -> Launch:
    """A kernel that copies its first buffer to its second."""
    dtype = types.uint32 if nbytes % 4 == 0 else types.uint8
    n = nbytes // dtype.size
    a = ir.Axis(n)
    source, target = ir.Buffer(dtype, (n,), "in"), ir.Buffer(dtype, (n,), "out")
    k = ir.Kernel("copy", (source, target), (ir.Stage(target, (a,), (ir.axis(a),), ir.load(source, (ir.axis(a),))),), (a,))
    (launch,) = emit.launches(simplify.linear(k))
    return launch
