"""The first runs of a request: interpreted with NumPy, while the request is compiled behind them.

Compiling a training step takes seconds, interpreting one often milliseconds; many requests (initializers, a final accuracy) are run
once.  So a request that no cache holds is interpreted first.  If it is run again, and a run is long, it is compiled then and there.  Short
runs go on, and once they have taken long enough together to be worth a compiler, one thread compiles the request beside them.  The
interpreter is the reference that every kernel is compared with: values agree to rounding, effects and random streams exactly.

A request is compiled at once where one interpreted run would take long: by an estimate before it, or by the clock during it (nothing has
changed then).  `GRAPHFLOW_EARLY=0` compiles every request before its first run.
Knows programs, the interpreter and executables; knows no kernel (rank 4).
"""
from __future__ import annotations

import atexit
import os
import queue
import sys
import threading
import time
import weakref
from typing import Any, Callable, Sequence

import numpy as np

from .. import errors, types
from ..codegen import compile as native
from ..codegen import helpers
from ..flags import flags
from ..graph import Operation
from ..ops import control
from ..passes import regions
from . import plan_cache
from .reference import Reference

HOT = 0.05  # seconds of interpreting after which a request is worth compiling
LONGEST = 0.3  # seconds that the only interpreted run of a request may take
OFTEN = 0.004  # seconds that each of several may take: runs that are longer are worth both cores for their compiler
ELEMENT = 1.5e-9  # seconds an element of an operand or result takes NumPy, about
OP = 8e-6  # seconds any op takes
FLOP = 2e-10  # seconds a multiply-add of a product takes
SWITCH = 5e-5  # seconds until a thread that waits for Python gets its turn: runs wait for the compiler at every op otherwise
DRAW = 4e-8  # seconds a random number takes


def allowed(exe: Any) -> bool:
    """Whether the first runs of `exe` may be interpreted: nobody watches it, and what it has done can be forgotten when it takes long."""
    watched = flags.check or flags.debug or flags.dot or not flags.optimize or flags.tune
    return bool(flags.early) and not watched and not exe.limit and not exe.timeout and not any(
        o.opdef.effect == "host" or o.opdef._performs for op in exe.request.ops for o in (op, *_inside(op)))


def _inside(op: Operation) -> list[Operation]:
    return [o for region in control.regions_of(op) for m in control.members(region) for o in (m, *_inside(m))]


class Early:
    """The state of one executable until it is compiled."""

    def __init__(self, exe: Any, stage: Callable[[Sequence[np.ndarray]], Any], compiled: Callable[[Any], None]):
        """stage: the first stage for these feeds.  compiled: compiles a stage and keeps it in `exe`."""
        self.exe, self.stage_of, self.compiled = exe, stage, compiled
        self.reference: Reference | None = None
        self.stage: Any = None
        self.seconds, self.runs = 0.0, 0
        self.job: threading.Event | None = None

    def __call__(self, values: Sequence[Any]) -> list[Any] | None:
        """The results of an interpreted run; None once the executable shall run itself.  The caller holds the store's lock."""
        if native.is_forbidden() or self.job is not None and self.job.is_set() or self.job is None and self.seconds > self.runs * OFTEN:
            return None
        arrays = [self.exe.convert(t, v) for t, v in zip(self.exe.feeds, values)]
        if self.reference is None and not self._begin(arrays):
            return None
        start = time.perf_counter()
        try:
            found = self.reference(arrays, LONGEST if self.job is None else None)  # type: ignore[misc]
        except errors.DeadlineExceededError:
            return None
        self.seconds += time.perf_counter() - start
        self.runs += 1
        if self.job is None and HOT < self.seconds <= self.runs * OFTEN:
            self.job = _worker.begin(self)
        return found

    def _begin(self, arrays: Sequence[np.ndarray]) -> bool:
        """Whether to interpret at all: not what takes several stages, is stored on disk, or takes NumPy long."""
        try:
            stage = self.stage_of(arrays)
            if stage.blocked or estimate(stage.program.ops()) > LONGEST / 2 or plan_cache.stored(stage.program):
                return False
        except (errors.OpError, ValueError, TypeError, regions.NotNative):
            return False  # it comes again where the executable runs itself, and is explained there
        exe = self.exe
        self.stage, self.reference = stage, Reference(exe.fetches, exe.targets, exe.feeds, exe.store, exe.done)
        return True

    def compile(self) -> None:
        """In the worker's thread."""
        interval = sys.getswitchinterval()
        sys.setswitchinterval(SWITCH)
        try:
            self.compiled(self.stage)
        except Exception:  # the run that finds nothing compiled compiles, and reports, by itself
            pass
        finally:
            sys.setswitchinterval(interval)
            self.job.set()  # type: ignore[union-attr]


def estimate(ops: Sequence[Operation]) -> float:
    """Seconds that NumPy takes for these ops, about, at the sizes for which they were made."""
    return sum(map(_cost, ops))


def _cost(op: Operation) -> float:
    moved = sum(_elements(t) for t in (*op.inputs, *op.outputs))
    seconds = OP + moved * ELEMENT
    if op.opdef.family == "contraction":
        seconds += max((_elements(t) for t in op.outputs), default=0) * _terms(op) * FLOP
    elif op.opdef.family == "random":
        seconds += sum(map(_elements, op.outputs)) * DRAW
    return seconds + sum(map(_cost, _inside(op)))


def _terms(op: Operation) -> float:
    """Products added up for one element of a contraction's result: the size of an operand divided by what of it the result keeps."""
    sizes = sorted(_elements(t) for t in op.inputs if t.dtype is op.outputs[0].dtype)
    out = max(_elements(op.outputs[0]), 1)
    return max(1.0, float(np.sqrt(float(sizes[-1]) * sizes[-2] / out))) if len(sizes) > 1 else 1.0


def _elements(t: Any) -> int:
    return 0 if t.sizes is None else types.hint(types.product(t.sizes)) or 0


# ---------------------------------------------------------------- the thread behind


class _Worker:
    """Compiles one request after the other, in a thread that is started when there is one."""

    def __init__(self) -> None:
        self.jobs: queue.SimpleQueue[weakref.ref[Early]] = queue.SimpleQueue()
        self.thread: threading.Thread | None = None
        self.waiting: weakref.WeakSet[Early] = weakref.WeakSet()

    def begin(self, early: Early) -> threading.Event:
        done = threading.Event()
        self.waiting.add(early)
        self.jobs.put(weakref.ref(early))
        if self.thread is None:
            self.thread = threading.Thread(target=self._work, name="graphflow-compiler", daemon=True)
            self.thread.start()
        return done

    def _work(self) -> None:
        while True:
            early = self.jobs.get()()
            if early is not None:
                early.compile()
            del early


_worker = _Worker()


def _after_fork() -> None:
    """The thread is not in the child: what it had to do is begun again there."""
    global _worker
    for early in _worker.waiting:
        if early.job is not None and not early.job.is_set():
            early.job = None
    _worker = _Worker()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
atexit.register(helpers.stop)
