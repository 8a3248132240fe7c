"""A segment: what a GPU does between two instructions of the host, queued step by step once and replayed as one CUDA graph afterwards.

Knows steps, and the device; of the plan only where its buffers are (rank 4).
"""
from __future__ import annotations

import time
import warnings
from collections.abc import Callable
from functools import cached_property
from typing import TYPE_CHECKING, Any

from ... import errors, types
from ...codegen.cuda import emit, texts
from ..plan import Unit
from . import together
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
    """What a device does between two instructions of the host."""

    def __init__(self, plan: DevicePlan):
        self.plan, self.device = plan, plan.device
        self.steps: list[Step] = []
        self.units: list[Unit] = []
        self.checks = False
        self.commits = False  # whether it changes variables
        self.forms: dict[Any, _Form] = {}

    def launch(self, u: Unit) -> None:
        assert u.launch is not None
        base = CHECKS * (len(self.plan.checked) + 1)
        if u.launch.checks:
            self.plan.checked.append(u)
            self.checks = True
        self.units.append(u)
        self.commits |= u.commits
        plan, launch = self.plan, u.launch
        alone = u.library is None and not u.covered and plan.narrow(launch) and (launch.many is not None or emit.alike(launch) is not None)
        self.steps.append(Step(u, lambda: plan.call(u, base), lambda: plan.spans(u), launch if alone else None,
                               lambda: [plan.at(b) for b in launch.buffers], u.commits and plan.guards,
                               types.evaluate(launch.grid[0], plan.env), u.commits))

    def add(self, what: Unit | str, make: Callable[[], Callable[[], None] | None]) -> None:
        """make: gives what is queued at each run, for the addresses in `plan.there`; None for nothing."""
        self.steps.append(Step(what, make))

    def run(self, end: float | None = None) -> bool:
        """Queues all of it, and waits, also after Ctrl-C: the host may write over what is copied, and reads what has come.

        end: a time of `time.monotonic()` after which it stops, as long as it has changed no variable.  False: it has stopped.
        """
        try:
            whole = self._queue(end)
            self.device.synchronize(self.label)
        except KeyboardInterrupt:
            self.device.synchronize(self.label)
            if self.commits:
                self.plan.changed()
            raise
        return whole

    def _queue(self, end: float | None) -> bool:
        form = self.forms.get(self.plan.form)
        if form is None:
            form = self._made()
        # A graph cannot be stopped: under a limit only those are launched that took far less time than is left.
        if end is not None and (not form.runs or 4 * self.plan.seconds > end - time.monotonic()):
            return self._queued_until(end, form)
        if self.plan.watched is not None:
            self._timed(form.work, self.plan.watched)
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
                self._timed(piece, self.plan.watched)
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
            self.plan.give_back(self.forms.pop(next(iter(self.forms))).tables)
        groups = {g[-1]: g for g in together.groups(self.steps)}
        moved = {i for g in groups.values() for i in g[:-1]}
        made: Work = []
        changes: int | None = None
        tables: list[int] = []
        for i, s in enumerate(self.steps):
            act = None if i in moved else self.plan.bound_together([self.steps[k] for k in groups[i]], tables) if i in groups else s.make()
            if act is None:
                continue
            if changes is None and any(self.steps[k].changes for k in groups.get(i, [i])):
                changes = len(made)
            made.append((s.what, act))
        form = self.forms[self.plan.form] = _Form(made, tables, len(made) if changes is None else changes)
        return form

    def _timed(self, work: Work, watched: list[tuple[Unit | str, float, Callable[[], float]]]) -> None:
        for what, act in work:
            with self.device.timed() as seconds:
                began = time.perf_counter()
                act()
            watched.append((what, began, seconds))

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
