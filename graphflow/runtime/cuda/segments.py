"""A segment: what GPUs do between two instructions of the host, queued step by step once and replayed as a CUDA graph afterwards.

Knows steps, and the device; of the plan only where its buffers are (rank 4).
"""
from __future__ import annotations

import time
import warnings
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ... import errors, types
from ...codegen.cuda import emit, texts
from ..plan import Unit
from . import together
from .device import Device, Mark
from .sides import Side
from .together import Step

if TYPE_CHECKING:
    from .plan import DevicePlan

CHECKS = 64  # numbers of checks that one launch may have
LOOKED = 16  # pieces of work after which the host looks at the clock, where time is limited
FORMS = 16  # sets of addresses of feeds and results on the device for which a segment is kept
Work = list[tuple[Unit | str, Callable[[], None]]]


class _Form:
    """A segment for one set of addresses: what it queues, and the graph of that from the second run on (recorded: unless it cannot be).

    changes: the first of `work` that changes a variable.
    """

    def __init__(self, work: Work, tables: list[int], changes: int):
        self.work, self.runs, self.tables, self.recorded, self.changes = work, 0, tables, True, changes
        self.graph: Callable[[], None] | None = None


class Segment:
    """What one device does between two instructions of the host, or, in a `Joint`, between two values from other devices."""

    def __init__(self, plan: DevicePlan, side: Side):
        self.plan, self.side, self.device = plan, side, side.device
        self.steps: list[Step] = []
        self.units: list[Unit] = []
        self.checks = False
        self.commits = False  # whether it changes variables
        self.waits = False  # whether the host must wait for it before it goes on: values come to it, or from memory that it uses again
        self.forms: dict[Any, _Form] = {}

    def launch(self, u: Unit) -> None:
        assert u.launch is not None
        base = CHECKS * (len(self.plan.checked) + 1)
        if u.launch.checks:
            self.plan.checked.append(u)
            self.checks = self.side.checked = True
        self.units.append(u)
        self.commits |= u.commits
        plan, launch = self.plan, u.launch
        alone = u.library is None and not u.covered and plan.narrow(launch) and (launch.many is not None or emit.alike(launch) is not None)
        self.steps.append(Step(u, lambda: plan.call(u, base), lambda: plan.spans(u), launch if alone else None,
                               lambda: [plan.at(self.side, b) for b in launch.buffers], u.commits and plan.guards,
                               types.evaluate(launch.grid[0], plan.env), u.commits))

    def add(self, what: Unit | str, make: Callable[[], Callable[[], None] | None], waits: bool = False) -> None:
        """make: gives what is queued at each run, for the addresses of its buffers; None for nothing."""
        self.steps.append(Step(what, make))
        self.waits |= waits

    def run(self, end: float | None = None) -> bool:
        """Queues all of it, and waits where the host must, also after Ctrl-C.

        end: a time of `time.monotonic()` after which it stops, as long as it has changed no variable.  False: it has stopped.
        """
        try:
            whole = self.queue(end)
            if self.waits or not whole:
                self.device.synchronize(self.label)
        except KeyboardInterrupt:
            self.device.synchronize(self.label)
            if self.commits:
                self.plan.changed()
            raise
        return whole

    def form(self) -> _Form:
        """All that is needed for the addresses of this run."""
        return self.forms.get(self.plan.form) or self._made()

    def queue(self, end: float | None) -> bool:
        """Queues it, without waiting where there is no limit; whether all of it."""
        form = self.form()
        # A graph cannot be stopped: under a limit only those are launched that took far less time than is left.
        if end is not None and (not form.runs or 4 * self.plan.seconds > end - time.monotonic()):
            return self._queued_until(end, form)
        if self.plan.watched is not None:
            self.timed(form.work)
        else:
            if form.runs and form.recorded and form.graph is None:
                self._record(form)
            if form.graph is not None:
                form.graph()
            else:
                for _, act in form.work:
                    act()
        form.runs += 1
        return True

    def _queued_until(self, end: float, form: _Form) -> bool:
        """Piece by piece, while there is time or from the first change of a variable on; whether all of it."""
        looks = [*range(0, form.changes, LOOKED), form.changes, len(form.work)]
        for first, last in zip(looks, looks[1:]):
            if first <= form.changes and first < last:
                self.device.synchronize(self.label)
                if time.monotonic() > end:
                    return False
            piece = form.work[first:last]
            if self.plan.watched is not None:
                self.timed(piece)
            else:
                for _, act in piece:
                    act()
        form.runs += 1
        return True

    def _record(self, form: _Form) -> None:
        """Makes the graph.  Where that fails nothing has run: it is said, and the segment is queued step by step, now and later."""
        try:
            with self.device.capture(self.label) as recording:
                for _, act in form.work:
                    act()
            form.graph = recording.graph
        except (errors.InternalError, errors.ResourceExhaustedError) as error:
            if self.device.lost:
                raise
            form.recorded = False
            warnings.warn(f"the work of {self.device.name} around {self.label} is queued piece by piece at every run, since it was not "
                          f"recorded as one graph: {error.message}", RuntimeWarning, stacklevel=2)

    def _made(self) -> _Form:
        if len(self.forms) >= FORMS:
            self.side.give_back(self.forms.pop(next(iter(self.forms))).tables)
        groups = {g[-1]: g for g in together.groups(self.steps)}
        moved = {i for g in groups.values() for i in g[:-1]}
        made: Work = []
        changes: int | None = None
        tables: list[int] = []
        for i, s in enumerate(self.steps):
            act = None if i in moved else s.make() if i not in groups else (
                self.plan.bound_together(self.side, [self.steps[k] for k in groups[i]], tables))
            if act is None:
                continue
            if changes is None and any(self.steps[k].changes for k in groups.get(i, [i])):
                changes = len(made)
            made.append((s.what, act))
        form = self.forms[self.plan.form] = _Form(made, tables, len(made) if changes is None else changes)
        return form

    def timed(self, work: Sequence[tuple[Unit | str, Callable[[], None]]]) -> None:
        """Queues it, each between two marks whose time is taken."""
        for what, act in work:
            with self.device.timed() as seconds:
                began = time.perf_counter()
                act()
            self.plan.watched.append((what, self.side.name, began, seconds))  # type: ignore[union-attr]

    def step_by_step(self, before: Callable[[Unit], None], after: Callable[[Unit], None]) -> None:
        """Each step by itself, so that a fault of the device is that of the step named; calls `before` and `after` around launches."""
        for s in self.steps:
            act, u = s.make(), s.what
            if not isinstance(u, str):
                before(u)
            if act is not None:
                act()
            self.device.synchronize(u if isinstance(u, str) else texts.label(u.launch.source))
            if not isinstance(u, str):
                after(u)

    @cached_property
    def label(self) -> str:
        names = list(dict.fromkeys(texts.label(u.launch.source) for u in self.units))  # type: ignore[union-attr]
        return f"{', '.join(names[:3])}{', ...' if len(names) > 3 else ''}" if names else "copies"


@dataclass(eq=False)
class Part:
    """What one device does between two values from others.

    waits: parts of the same joint that it is behind.  fetched: what it copies from the memory of other devices before its steps (not
    recorded: whether copies between devices can be is not documented).  mark: behind it, where another part waits.
    """

    segment: Segment
    waits: list[Part] = field(default_factory=list)
    fetched: list[tuple[str, Callable[[], None]]] = field(default_factory=list)
    mark: Mark | None = None

    def queue(self, end: float | None) -> bool:
        segment, whole = self.segment, True
        for part in self.waits:
            segment.device.after(part.mark)  # type: ignore[arg-type]
        if self.fetched and segment.plan.watched is not None:
            segment.timed(self.fetched)
        else:
            for _, act in self.fetched:
                act()
        if segment.steps:
            whole = segment.queue(end)
        if self.mark is not None:
            self.mark.set()
        return whole


class Joint:
    """What several devices do between two instructions of the host: parts, each behind those that it waits for."""

    def __init__(self, plan: DevicePlan, parts: list[Part]):
        self.plan, self.parts = plan, parts
        segments = [part.segment for part in parts]
        self.devices: list[Device] = list(dict.fromkeys(s.device for s in segments))
        self.units = [u for s in segments for u in s.units]
        self.checks, self.commits = any(s.checks for s in segments), any(s.commits for s in segments)
        self.label = "; ".join(dict.fromkeys(s.label for s in segments if s.steps)) or "copies"
        self.waits = True
        for waited in {part for p in parts for part in p.waits}:
            waited.mark = Mark(waited.segment.device)

    def run(self, end: float | None = None) -> bool:
        """Queues all parts, then waits for all devices.  end, and the answer: as of `Segment.run`."""
        for part in self.parts:  # before anything is queued: memory may be short, kernels may have to be linked
            part.segment.form()
        try:
            whole = self._queue(end)
            self._wait()
        except KeyboardInterrupt:
            self._wait()
            if self.commits:
                self.plan.changed()
            raise
        except errors.OpError:
            self._end()
            raise
        return whole

    def _queue(self, end: float | None) -> bool:
        for part in self.parts:
            if not part.queue(end):
                return False
            end = None if part.segment.commits else end  # what has been begun is done on all devices
        return True

    def _wait(self) -> None:
        for device in self.devices:
            device.synchronize(self.label)

    def _end(self) -> None:
        """After an error: nothing goes on behind the caller's back.  What the other devices say then has been said by the first."""
        for device in self.devices:
            try:
                device.synchronize(self.label)
            except errors.OpError:
                continue

    def step_by_step(self, before: Callable[[Unit], None], after: Callable[[Unit], None]) -> None:
        for part in self.parts:
            for _, act in part.fetched:
                act()
            part.segment.device.synchronize(self.label)
            part.segment.step_by_step(before, after)
