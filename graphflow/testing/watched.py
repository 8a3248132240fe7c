"""Watched: another driver, its calls counted and failing where a test asks, as an EmulatedDriver's do.

Place: the tests of whole programs, written for the emulator, run with it on a GPU (`watched_gpu`); nothing is known of what kernels do.
"""
from __future__ import annotations

import abc
import inspect
from collections import Counter, deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from functools import wraps
from typing import Any

from graphflow import locks
from graphflow.runtime.cuda.driver import CODES, Driver, DriverError
from graphflow.testing.emulator.log import Counters

Amounts = list[tuple[str, int]]  # ("launches", 1), or the name of a copy and its bytes


class Faults:
    """Calls of a driver by name, and errors that tests ask for. calls: how often each method was called."""

    def __init__(self) -> None:
        self.calls: Counter[str] = Counter()
        self._faults: deque[list] = deque()
        self._lost: DriverError | None = None

    def fail_next(self, method: str, name: str, after: int = 0) -> None:
        """The next call of `method` ("launch", "allocate", "link", ...), after `after` good ones, raises DriverError `name`."""
        if not hasattr(Driver, method) or name not in CODES:
            raise ValueError(f"no method {method} or no error {name}")
        self._faults.append([method, name, after])

    def restart(self) -> None:
        """Forgets that a device was lost, as a new process would."""
        self._lost = None

    def _called(self, method: str) -> None:
        self.calls[method] += 1
        if self._lost is not None:
            raise DriverError(self._lost.code, self._lost.name, f"{method}: the device was lost earlier")
        for fault in self._faults:
            if fault[0] == method:
                if fault[2]:
                    fault[2] -= 1
                    break
                self._faults.remove(fault)
                error = DriverError(CODES[fault[1]], fault[1], f"{method}: asked for by the test")
                if error.sticky:
                    self._lost = error
                raise error


def _counted(name: str) -> Callable[..., Any]:
    @wraps(getattr(Driver, name), updated=())
    def call(self: Watched, *args: Any) -> Any:
        self._called(name)
        return getattr(self.inner, name)(*args)

    return call


class Watched(Faults, Driver):
    """counters.launches, nbytes: kernels and bytes of copies; those of a graph count when it is launched."""

    def __init__(self, inner: Driver):
        super().__init__()
        self.inner, self.name, self.keeps = inner, inner.name, inner.keeps
        self.counters, self.nbytes = Counters(), Counter[str]()
        self._open: dict[int, Amounts] = {}            # streams that record
        self._graphs: dict[int, Amounts] = {}
        self._lock = locks.rlock()

    def _note(self, stream: int, amounts: Amounts) -> None:
        with self._lock:
            if stream in self._open:
                self._open[stream] += amounts
                return
            for name, n in amounts:
                if name == "launches":
                    self.counters.launches += n
                else:
                    self.nbytes[name] += n

    def count(self) -> int:
        return self.inner.count()

    def properties(self, ordinal: int) -> Any:
        return self.inner.properties(ordinal)

    def use(self, ordinal: int) -> None:
        self.inner.use(ordinal)

    def memory(self, ordinal: int) -> tuple[int, int]:
        return self.inner.memory(ordinal)

    def owner(self, address: int) -> int | None:
        return self.inner.owner(address)

    def prepare(self, function: int, kinds: str, values: Sequence[Any]) -> Any:
        return self.inner.prepare(function, kinds, values)

    def expect(self, prepared: Any, extents: Sequence[tuple[int, int]]) -> None:
        self.inner.expect(prepared, extents)

    def launch(self, prepared: Any, grid: tuple[int, int, int], block: tuple[int, int, int], shared_bytes: int, stream: int) -> None:
        self._called("launch")
        self.inner.launch(prepared, grid, block, shared_bytes, stream)
        self._note(stream, [("launches", 1)])

    def copy_in(self, device: int, host: int, nbytes: int, stream: int) -> None:
        self._called("copy_in")
        self.inner.copy_in(device, host, nbytes, stream)
        self._note(stream, [("copy_in", nbytes)])

    def copy_out(self, host: int, device: int, nbytes: int, stream: int) -> None:
        self._called("copy_out")
        self.inner.copy_out(host, device, nbytes, stream)
        self._note(stream, [("copy_out", nbytes)])

    def copy(self, to: int, source: int, nbytes: int, stream: int) -> None:
        self._called("copy")
        self.inner.copy(to, source, nbytes, stream)
        self._note(stream, [("copy", nbytes)])

    def begin_capture(self, stream: int) -> None:
        self._called("begin_capture")
        self.inner.begin_capture(stream)
        self._open[stream] = []

    def end_capture(self, stream: int) -> int:
        recorded = self._open.pop(stream, [])
        try:
            self._called("end_capture")
        except DriverError:                            # the stream must not go on recording
            self.inner.abandon_capture(stream)
            raise
        graph = self.inner.end_capture(stream)
        self._graphs[graph] = recorded
        return graph

    def launch_graph(self, graph: int, stream: int) -> None:
        self._called("launch_graph")
        self.inner.launch_graph(graph, stream)
        self._note(stream, self._graphs[graph])

    def destroy_graph(self, graph: int) -> None:
        self._called("destroy_graph")
        self.inner.destroy_graph(graph)
        self._graphs.pop(graph, None)


for _name in [n for n, f in vars(Driver).items() if inspect.isfunction(f) and n not in vars(Watched) and n != "abandon_capture"]:
    setattr(Watched, _name, _counted(_name))
abc.update_abstractmethods(Watched)  # type: ignore[type-abstract]


@contextmanager
def watched_gpu() -> Iterator[Watched]:
    """Inside the `with` block programs use this machine's GPUs through a `Watched`, which it yields.  Raises Unavailable."""
    from graphflow.runtime.cuda import device, driver

    watched = Watched(driver.Libcuda())  # type: ignore[abstract]
    try:
        with driver.installed(watched):
            yield watched
    finally:
        device.forget(watched, "its test has ended")
