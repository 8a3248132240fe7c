"""The instructions of a plan on GPUs: segments among those of the host, and the copies between the sides.

What a device has made is copied to the host, or to another device, before that reads it; what the host has made goes to the devices at
once.  Knows units and lifetimes; knows no op and no address (rank 4).
"""
from __future__ import annotations

from collections.abc import Callable, Iterable
from collections import Counter
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
from .segments import Joint, Part, Segment
from .sides import Side
from .together import Step

if TYPE_CHECKING:
    from .plan import DevicePlan

ARRIVING = "copy to the device", "clear checks"
WRITTEN_OUT = 1 << 14  # launches and copies of all turns of a loop up to which it is one graph


class Rows(flow.Rows):
    """Instructions with segments among them.

    What a device has made is copied to the host before the host reads it, what the host has made goes to the devices at once; so
    `newer` holds the buffers whose values on the host may be old, and `stale` those whose values on a device are older than the ones
    that their `owner` has made.

    Segments grow on all devices at the same time.  A device that comes to a value of another one goes on in a new part, behind the
    part in which that was made, which ends here.

    The host waits for a segment that brings values to it, or takes them from memory that it may use again; for another it does not, and
    does what has nothing to do with what is open before that.
    """

    def __init__(self, plan: DevicePlan, *rest: Any):
        super().__init__(plan, *rest)
        self.open: dict[Side, Part] = {}
        self.ended: list[Part] = []  # parts of the open segment that nothing is added to, each behind all that it waits for
        self.newer: set[ir.Buffer] = set()
        self.stale: set[tuple[Side, ir.Buffer]] = set()
        self.owner: dict[ir.Buffer, Part] = {}  # where a buffer's value was made last
        self.inside: set[ir.Buffer] = set()  # what the host reads in the innermost loop around
        self.around: list[set[ir.Buffer] | None] = []  # what devices use in each loop around; None for a branch
        self.owed: dict[tuple[Side, ir.Buffer], None] = {}  # what the host has made in a loop, and a device reads behind it
        self.unread: set[Side] = set()  # whose checks the host has not looked at
        # By side (None: the host) and buffer, how many units outside of branches and loops are still to use it.
        self.awaited = Counter(x for u in plan.compiled.units for x in self.uses(u))
        self.arriving: set[ir.Buffer] = set()  # what the open segment copies to devices
        self.sent: set[Side] = set()  # whose results are on the way to the host
        self.told: set[Side] = set()  # whose cell of checks comes with the results of the open segment
        self.depth = 0  # of branches and loops around
        self.decided: dict[Any, set[ir.Buffer]] = {}  # what was newer when a loop or branch went its way
        self.nest: Side | None = None  # where the innermost loop or branch around moves its values
        self.looked = len(plan.sides) == 1  # whether the host has seen all checks that may keep variables from being written

    def part(self, side: Side) -> Part:
        found = self.open.get(side)
        if found is None:
            found = self.open[side] = Part(Segment(self.plan, side))
        return found

    def segment(self, side: Side) -> Segment:
        return self.part(side).segment

    def end_part(self, side: Side) -> None:
        part = self.open.pop(side, None)
        if part is not None and (part.segment.steps or part.fetched):
            self.ended.append(part)

    def flush(self) -> None:
        """Ends the open segment: what follows is the host's.  It waits once for all that it will read, as far as that is there."""
        if self.depth == 0 and (self.open or self.ended):
            self.shown([b for b in self.newer if self.awaited[None, b] > 0])
            for side in self.plan.sides:
                if not any(self.awaited[side, b] for b in side.results):
                    self._results(side)
        parts = self._parts()
        self.unread.update(p.segment.side for p in parts if p.segment.checks and p.segment.steps)
        # Inside a loop the host looks at checks where it waits in any case.
        if self.unread and parts and (not self.depth or any(p.segment.waits for p in parts)):
            self.look_at_checks()
        for side in list(self.open):
            self.end_part(side)
        parts, self.ended = self.ended, []
        self.arriving.clear()
        self.told.clear()
        if not parts:
            return
        alone = len(parts) == 1 and not parts[0].fetched
        segment = self.plan.segments[len(self.rows)] = parts[0].segment if alone else Joint(self.plan, parts)
        segment.waits |= len(self.plan.sides) > 1  # marks order the parts of one joint only
        if segment.units:
            self.plan.unit_at[len(self.rows)] = segment.units[0]
        self.rows.append([runner.HOST] + [0] * 7)

    def _parts(self) -> list[Part]:
        """Those of the open segment."""
        return [*self.ended, *self.open.values()]

    def look_at_checks(self) -> None:
        """The open segment brings the checks that the host has not seen."""
        for side in [side for side in self.plan.sides if side in self.unread]:
            if side not in self.told:
                self._out(side, side.box[:4], side.cell)
            self.segment(side).checks = True
            if not self.depth:
                self.unread.discard(side)

    def begin(self) -> None:
        """At the begin of each run: the cells of checks are cleared, and inputs go to the devices."""
        self.clear()
        for side in self.plan.sides:
            if side.feed_bytes:
                self.segment(side).add(ARRIVING[0], partial(self._inputs, side))

    def clear(self) -> None:
        """No check has failed so far."""
        for side in self.plan.sides if self.plan.guards else ():
            self.segment(side).add(ARRIVING[1], partial(self._clear, side))

    def end(self) -> None:
        """At the end: results come to the host."""
        plan = self.plan
        asked = [t for t in plan.compiled.program.outputs if t in plan.compiled.buffers]
        self.shown({*self.roots([*asked, *(b for _, b in plan.replaced)], plan.compiled)} - plan.placed)
        for side in plan.sides:
            self._results(side)
            if side.checked:
                self.segment(side).checks = True
        self.flush()

    def _results(self, side: Side) -> None:
        if side.results and side not in self.sent:
            self.segment(side).add("copy to the host", partial(self._outputs, side), waits=True)
            self.sent.add(side)
            self.told.add(side)

    def _clear(self, side: Side) -> Callable[[], None]:
        return partial(side.device.fill, side.cell, 0, 4)

    def _inputs(self, side: Side) -> Callable[[], None]:
        """Copies all inputs at once, but for those that are on the device already."""
        plan, copy = self.plan, side.device.copy_in
        lent = plan.lent.keys()
        if lent & set(side.feeds):
            rest = [(side.there[b], plan.views[b]) for b in side.feeds if b not in lent and plan.nbytes(b)]
            return lambda: _each(copy, rest)
        if len(side.parcels) > 1:
            parcels = [(address, block) for block, address in side.parcels]
            return lambda: _each(copy, parcels)
        (block, address), = side.parcels
        return partial(copy, address, block)

    def _outputs(self, side: Side) -> Callable[[], None]:
        """Copies all results of a device at once, but for those that stay there."""
        plan, device = self.plan, side.device
        lent = plan.lent.keys()
        if not lent & set(side.results):
            return partial(device.copy_out, side.box, side.cell)
        rest = [(plan.views[b], side.there[b]) for b in side.results if b not in lent and plan.nbytes(b)]
        rest += [(side.box[:4], side.cell)] if side.checked else []
        return lambda: _each(device.copy_out, rest)

    def _out(self, side: Side, block: np.ndarray, base: int) -> None:
        device = side.device
        self.segment(side).add("copy to the host", lambda: partial(device.copy_out, block, base), waits=True)

    # -- what is newer where

    def made(self, side: Side, buffers: Iterable[ir.Buffer]) -> None:
        """A device has made values in its open part."""
        plan, part = self.plan, self.part(side)
        for b in buffers:
            if b in plan.here:
                self.newer.add(b)
            self.owner[b] = part
            self.stale.discard((side, b))
            self.stale.update((other, b) for other in plan.sides if other is not side and b in other.used)

    def shown(self, buffers: Iterable[ir.Buffer]) -> None:
        """Copies to the host what it is about to read."""
        plan = self.plan
        for b in [b for b in buffers if b in self.newer]:
            side = self.owner[b].segment.side
            if plan.nbytes(b):
                self._out(side, plan.views[b], side.there[b])
            self.newer.discard(b)

    def reach(self, side: Side, buffers: Iterable[ir.Buffer]) -> None:
        """Copies to a device what it is about to read and another has made."""
        late = [b for b in dict.fromkeys(buffers) if (side, b) in self.stale] if self.stale else []
        if not late:
            return
        for b in late:
            if self.open.get(self.owner[b].segment.side) is self.owner[b]:
                self.end_part(self.owner[b].segment.side)
        waits = [p for p in dict.fromkeys(self.owner[b] for b in late) if p in self.ended]
        # Memory of what crosses is its own, so it may come before steps that do not wait for it; but not over a variable's old value.
        early = set(waits) <= set(self.part(side).waits) and not any(b in side.mirrors for b in late)
        if self.segment(side).steps and not early:
            self.end_part(side)
        part = self.part(side)
        part.waits += [p for p in waits if p not in part.waits]
        for b in late:
            self.stale.discard((side, b))
            self._fetch(part, self.owner[b].segment.side, b)

    def _fetch(self, part: Part, owner: Side, b: ir.Buffer) -> None:
        side, n = part.segment.side, self.plan.nbytes(b)
        if n:
            part.fetched.append((f"copy from {owner.name}", partial(side.device.fetch, side.there[b], owner.device, owner.there[b], n)))

    def settle(self) -> None:
        """Ends the open segment with all values everywhere."""
        self.shown(set(self.newer))
        for side in self.plan.sides:
            self.reach(side, sorted((b for s, b in self.stale if s is side), key=lambda b: b.label))
        self.flush()

    def roots(self, buffers: Iterable[Any], home: Any) -> list[ir.Buffer]:
        found = [home.buffers.get(x) if isinstance(x, Tensor) else x for x in buffers]
        return list(dict.fromkeys(self.plan.alias.get(b, b) for b in found if b is not None))

    def unit(self, u: Unit) -> None:
        plan = self.plan
        if u.cluster.kind == "blank":
            return
        if u.launch is not None:
            side = plan.side(u)
            if u.commits:
                self.look()
            self.reach(side, self.roots(u.reads, u.home))
            self.segment(side).launch(u)
            self.made(side, self.roots(u.writes, u.home))
        elif u.nest is not None:
            self.nested(u)
        else:
            effects = u.commits or u.emitted is None  # what Python runs may have some; its ops are not known of a plan from disk
            used = self.roots([*u.reads, *u.writes], u.home)  # what it writes, it may write in part
            self.host(used, self.roots(u.writes, u.home), effects)
            super().unit(u)
        if self.depth == 0:
            self.awaited.subtract(self.uses(u))
        for b in self.roots(u.writes, u.home) if u.launch is None and u.nest is None else ():
            for side in plan.sides:
                if b in side.used:
                    self.given(side, b)
                self.stale.discard((side, b))

    def host(self, used: list[ir.Buffer], written: list[ir.Buffer], effects: bool = False) -> None:
        """Before the host does something: it comes behind the open segment only where that matters."""
        if effects and self.unread:
            self.look_at_checks()
        first = not effects and not any(p.segment.waits for p in self._parts()) or self.only_arrives(written)
        if not first or any(b in self.newer for b in used):
            self.shown(used)
            self.flush()

    def only_arrives(self, written: list[ir.Buffer]) -> bool:
        """Whether all that is open are copies to devices, of other values than the host will write: it need not wait for these."""
        steps = [s for p in self.open.values() for s in p.segment.steps]
        return not self.depth and not self.ended and not any(p.fetched for p in self.open.values()) and all(
            s.what in ARRIVING for s in steps) and self.arriving.isdisjoint(written)

    def given(self, side: Side, b: ir.Buffer) -> None:
        """The host has made a value: a device that reads it gets it at once, or behind the loops in which no device does."""
        if not self.around and self.awaited[side, b] > 0 or self.around and (self.around[-1] is None or b in self.around[-1]):
            self._in(side, b)
        elif self.around:
            self.owed[side, b] = None

    def uses(self, u: Unit) -> list[tuple[Side | None, ir.Buffer]]:
        """What a unit reads or changes, and where; of a branch or loop what its device does."""
        if u.cluster.kind == "blank":
            return []
        if u.nest is not None:
            side = self.plan.nests[id(u)]
            return [(side, b) for b in self.read_there(u)] if side is not None else []
        where = self.plan.side(u) if u.launch is not None else None
        return [(where, b) for b in self.roots([*u.reads, *u.writes], u.home)]

    def nested(self, u: Unit) -> None:
        """A branch or loop: what its device reads there is on it before, as one way through it may read it and another not."""
        side, outer = self.plan.nests[id(u)], self.nest
        if side is not None:
            self.reach(side, self.read_there(u))
        self.nest, before = side, set(self.stale)
        self.around.append(self.read_there(u) if u.nest.kind == "loop" else None)  # type: ignore[union-attr]
        if (count := self.again(u)) is not None and count <= WRITTEN_OUT:
            self.depth += 1
            self.written_out(u)
        else:
            self.flush()
            self.depth += 1
            super().unit(u)
        self.depth -= 1
        self.nest = outer
        self.stale |= before
        self.around.pop()
        owed, self.owed = self.owed, {}
        for side_, b in owed:
            self.given(side_, b)

    def look(self) -> None:
        """Several devices: the host sees the checks of all before one of them writes a variable."""
        if not self.looked:
            self.looked = True
            if self.plan.guards:
                self.flush()

    def _in(self, side: Side, b: ir.Buffer) -> None:
        view, address, device = self.plan.views[b], side.there[b], side.device
        if view.nbytes:
            self.arriving.add(b)
            self.segment(side).add(ARRIVING[0], lambda: partial(device.copy_in, address, view), waits=True)

    def move(self, target: ir.Buffer, source: ir.Buffer) -> None:
        plan, side = self.plan, self.nest
        if side is not None and target in side.used and target.dtype.kind != "s":
            n = plan.nbytes(target)
            if n:
                self.segment(side).add("copy", lambda: partial(side.device.copy, plan.at(side, target), plan.at(side, source), n))
            self.made(side, [target])
        else:
            self.host([target, source], [target])
            super().move(target, source)

    def copy_guarded(self, side: Side, to: int, source: ir.Buffer, nbytes: int) -> None:
        """Copies a final value to a variable's memory, unless a check has failed."""
        if not nbytes:
            return
        self.look()
        plan, segment = self.plan, self.segment(side)
        segment.commits = True
        launch = copy_launch(nbytes)
        a, b = launch.buffers
        plan.shape.update({a: a.sizes, b: b.sizes})

        def alone() -> Callable[[], None]:
            if not plan.guards:
                return partial(side.device.copy, to, plan.at(side, source), nbytes)
            return plan.bound(side, launch, {a: plan.at(side, source), b: to}, 0, True)

        def spans() -> list[together.Span]:
            return [(plan.at(side, source), plan.at(side, source) + nbytes, False), (to, to + nbytes, True)]

        where = {a: lambda: plan.at(side, source), b: lambda: to}
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
            side = plan.nests[id(u)]
            found.update(b for b in self.roots([source], u.home) if side is None or plan.alias.get(target, target) not in side.used)
        return found

    def read_there(self, u: Unit) -> set[ir.Buffer]:
        """What a device uses inside a branch or loop, or moves there."""
        found: set[ir.Buffer] = set()
        for part in u.nest.parts:  # type: ignore[union-attr]
            for v in part.units:
                if v.nest is not None:
                    found |= self.read_there(v)
                elif v.launch is not None:
                    found.update(self.roots([*v.reads, *v.writes], v.home))
        for target, source in [pair for pairs in u.nest.results for pair in pairs]:  # type: ignore[union-attr]
            moved = self.roots([target, source], u.home)
            found.update(moved if len(moved) > 1 else ())
        return found

    def again(self, u: Unit) -> int | None:
        """How many launches all turns of a loop make, where it can be written out: the device does all of it, and its turns are known."""
        if u.nest is None or u.nest.kind != "loop" or u.nest.trip is None:
            return None
        parts = [1 if v.launch is not None or v.cluster.kind == "blank" else self.again(v) for v in u.nest.parts[1].units]
        moved, side = [t for t, _ in flow.moves(self.plan, u)], self.plan.nests[id(u)]
        if None in parts or any(t.dtype.kind == "s" or (side is None or t not in side.used) and self.plan.nbytes(t) for t in moved):
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
        elsewhere, stale = set(self.stale), set()
        for number, (part, results) in enumerate(zip(u.nest.parts, u.nest.results)):  # type: ignore[union-attr]
            self.newer, self.stale = set(before), set(elsewhere)
            self.program(part)
            for target, source in results:
                self.move(self.plan.alias.get(target, target), self.plan.alias.get(source, source))
            self.flush()
            made |= self.newer
            stale |= self.stale
            if number == 0:
                end = self.jump(runner.JUMP)
                skip[runner.AUX] = len(self.rows)
        self.newer, self.stale = made, stale
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
