"""EmulatedDriver: the Driver interface of `runtime.cuda.driver` on the PTX emulator, for tests where there is no GPU.

Work is done when it is queued, or, to find what forgets to wait, only when it is waited for (deferred); kernels run under the
emulator's checks, and what they do is counted.
Place: `graphflow.testing.emulated_gpu` installs it; the runtime does not know that it is not a GPU.
"""
from __future__ import annotations

import ctypes
import itertools
import struct
import threading
import time
from collections import Counter, deque
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from graphflow import locks
from graphflow.runtime.cuda.driver import CODES, Driver, DriverError, Properties
from graphflow.testing import ptx
from graphflow.testing.emulator.launch import place
from graphflow.testing.emulator.order import checked
from graphflow.testing.emulator.parse import Module, parse
from graphflow.testing.watched import Faults

_LETTERS = {"p": "Q", "i": "i", "l": "q", "f": "f", "d": "d"}
_BASE, _STRIDE = 0x0A00_0000_0000, 1 << 36


def _error(name: str, text: str = "") -> DriverError:
    return DriverError(CODES[name], name, text)


@dataclass(frozen=True)
class _Function:
    device: int
    program: ptx.Program
    symbols: dict[str, int]


@dataclass
class _Prepared:
    function: _Function
    arguments: bytes
    extents: list[tuple[int, int]] | None = None


class EmulatedDriver(Faults, Driver):
    """`count` devices of `memory` bytes each (real memory is taken where it is touched).

    checks: what kernels are checked for. strict: a copy to the host of bytes that nothing wrote is an UninitializedRead.
    as_hardware: defects show as they would on a GPU: an access out of bounds is CUDA_ERROR_ILLEGAL_ADDRESS at the next synchronize, and
    the device is lost; races and unwritten memory go unseen. deferred: work of a stream is done no sooner than something waits for it;
    copies from and to host memory that is not page-locked are done with the host's content at the call, as CUDA does. coherent: these are
    late, too, as CUDA may do where a GPU reaches all memory of the host (Grace Hopper). counters:
    ptx.Counters over all launches. calls, nbytes: how often each method was called and how many bytes the copies moved (recorded graphs
    count when they run). order: in which warps and blocks run, see `ptx.in_order`.
    """

    keeps = False

    def __init__(self, count: int = 1, memory: int = 2 << 30, capability: tuple[int, int] = (9, 0), checks: ptx.Checks | None = None,
                 as_hardware: bool = False, strict: bool = True, deferred: bool = False, coherent: bool = False,
                 order: int | str | None = None) -> None:
        super().__init__()
        self.name, self.capability, self.capacity = "emulated", capability, memory
        self.checks, self.as_hardware, self.strict = checks or ptx.Checks(), as_hardware, strict
        self.deferred, self.coherent = deferred, coherent
        self.order = checked(order)
        self.counters = ptx.Counters()
        self.nbytes: Counter[str] = Counter()
        self._devices = [ptx.Memory(memory, _BASE + i * _STRIDE) for i in range(count)]
        if memory > _STRIDE // 2:
            raise ValueError(f"an emulated device has at most {_STRIDE // 2} bytes, got {memory}")
        self._bases = [d.data.ctypes.data for d in self._devices]
        self._handles = itertools.count(0x1000)
        # handle -> what is being recorded; 0, 1 and 2 are the default, the legacy and the thread's own stream, as in CUDA
        self._streams: dict[int, list[Callable[[], None]] | None] = {0: None, 1: None, 2: None}
        self._waiting: dict[int, deque[Callable[[], None]]] = {0: deque(), 1: deque(), 2: deque()}  # what a stream has still to do
        self._events: dict[int, float | None] = {}
        self._recorded_on: dict[int, int] = {}
        self._graphs: dict[int, list[Callable[[], None]]] = {}
        self._modules: dict[int, tuple[int, str, Module, dict[str, int]]] = {}
        self._functions: dict[int, _Function] = {}
        self._host: dict[int, Any] = {}
        self._here = threading.local()
        self._lock = locks.rlock()
        self._pending: DriverError | None = None

    def end(self) -> None:
        """Gives the memory of all devices back; what is on them is gone."""
        for memory in self._devices:
            memory.end()

    def abandon(self) -> None:
        """Forgets the work that has been queued and not been done."""
        for waiting in self._waiting.values():
            waiting.clear()

    # Faults -------------------------------------------------------------------------------------------------------------------------
    def restart(self) -> None:
        """Forgets that a device was lost (as_hardware), as a new process would."""
        super().restart()
        self._pending = None

    def _called(self, method: str) -> None:
        super()._called(method)
        self.ordinal  # noqa: B018 - a call needs a device that is current on its thread

    def _settle(self) -> None:
        """Raises what an earlier launch failed with, as hardware does when it is next waited for."""
        if self._pending is not None:
            self._lost, self._pending = self._pending, None
            raise self._lost

    # Devices ------------------------------------------------------------------------------------------------------------------------
    def count(self) -> int:
        return len(self._devices)

    def properties(self, ordinal: int) -> Properties:
        self._device(ordinal)
        return Properties(name="Emulated GPU", capability=self.capability, memory=self.capacity, multiprocessors=4,
                          pci_bus_id=f"0000:{ordinal:02x}:00.0", driver_version=13000, uuid=f"GPU-emulated-{ordinal}",
                          shared_bytes=227 << 10, l2_bytes=1 << 20, clock=1e9, bandwidth=1e11)

    def use(self, ordinal: int) -> None:
        self._device(ordinal)
        self._here.ordinal = ordinal

    @property
    def ordinal(self) -> int:
        """The device current on this thread."""
        found = getattr(self._here, "ordinal", None)
        if found is None:
            raise _error("CUDA_ERROR_INVALID_CONTEXT", "no device is current on this thread")
        return found

    def _device(self, ordinal: int) -> ptx.Memory:
        if not 0 <= ordinal < len(self._devices):
            raise _error("CUDA_ERROR_INVALID_DEVICE", f"device {ordinal} of {len(self._devices)}")
        return self._devices[ordinal]

    def memory(self, ordinal: int) -> tuple[int, int]:
        return self.capacity - self._device(ordinal).used, self.capacity

    def device_memory(self, ordinal: int = 0) -> ptx.Memory:
        """The emulator's memory of a device: allocations, what was written, values."""
        return self._devices[ordinal]

    def owner(self, address: int) -> int | None:
        ordinal = (address - _BASE) // _STRIDE
        return ordinal if 0 <= ordinal < len(self._devices) and self._devices[ordinal].find(address) else None

    def _at(self, address: int, nbytes: int, method: str) -> tuple[int, int]:
        """(device, offset) of `nbytes` bytes inside one allocation."""
        ordinal = (address - _BASE) // _STRIDE
        if 0 <= ordinal < len(self._devices):
            found = self._devices[ordinal].find(address)
            if found is not None and address + nbytes <= found.address + found.nbytes:
                return ordinal, address - self._devices[ordinal].base
        raise _error("CUDA_ERROR_INVALID_VALUE", f"{method}: {nbytes} bytes at {address:#x} are not inside an allocation")

    # Memory -------------------------------------------------------------------------------------------------------------------------
    def allocate(self, nbytes: int) -> int:
        with self._lock:
            self._called("allocate")
            if nbytes <= 0:
                raise _error("CUDA_ERROR_INVALID_VALUE", f"allocate: {nbytes} bytes")
            try:
                return self._devices[self.ordinal].allocate(nbytes)
            except MemoryError as error:
                raise _error("CUDA_ERROR_OUT_OF_MEMORY", str(error)) from None

    def free(self, address: int) -> None:
        with self._lock:
            self._called("free")
            self._finish()
            try:
                self._devices[self._at(address, 0, "free")[0]].free(address)
            except ValueError as error:
                raise _error("CUDA_ERROR_INVALID_VALUE", str(error)) from None

    def allocate_host(self, nbytes: int) -> int:
        with self._lock:
            self._called("allocate_host")
            buffer = ctypes.create_string_buffer(nbytes + 64)
            address = -(-ctypes.addressof(buffer) // 64) * 64
            self._host[address] = buffer
            return address

    def free_host(self, address: int) -> None:
        with self._lock:
            self._called("free_host")
            if self._host.pop(address, None) is None:
                raise _error("CUDA_ERROR_INVALID_VALUE", f"free_host: {address:#x} was not allocated")

    # Streams ------------------------------------------------------------------------------------------------------------------------
    def stream(self) -> int:
        with self._lock:
            self._called("stream")
            handle = next(self._handles)
            self._streams[handle] = None
            self._waiting[handle] = deque()
            return handle

    def destroy_stream(self, stream: int) -> None:
        with self._lock:
            self._called("destroy_stream")
            self._known(stream)
            self._finish(stream)
            del self._streams[stream], self._waiting[stream]

    def synchronize(self, stream: int) -> None:
        with self._lock:
            self._called("synchronize")
            if self._known(stream) is not None:
                raise _error("CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "synchronize while the stream is captured")
            self._finish(stream)
            self._settle()

    def _known(self, stream: int) -> list | None:
        if stream not in self._streams:
            raise _error("CUDA_ERROR_INVALID_HANDLE", f"stream {stream}")
        return self._streams[stream]

    def _queue(self, method: str, stream: int, work: Callable[[], None]) -> None:
        with self._lock:
            self._called(method)
            recorded = self._known(stream)
            if recorded is not None:
                recorded.append(work)
            elif self.deferred:
                self._waiting[stream].append(work)
            else:
                work()

    def _finish(self, stream: int | None = None, until: int | None = None) -> None:
        """Does what a stream (None: each) has still to do, up to an event if one is named."""
        for queue in list(self._waiting.values()) if stream is None else [self._waiting[stream]]:
            try:
                while queue and (until is None or self._events.get(until) is None):
                    queue.popleft()()
            except ptx.EmulationError:
                queue.clear()
                raise

    def _arrive(self, event: int) -> None:
        if event in self._recorded_on and self._recorded_on[event] in self._waiting:
            self._finish(self._recorded_on[event], event)

    def wait(self, stream: int, event: int) -> None:
        if event not in self._events:
            raise _error("CUDA_ERROR_INVALID_HANDLE", f"event {event}")
        self._queue("wait", stream, lambda: self._arrive(event))

    def _pinned(self, host: int, nbytes: int) -> bool:
        return any(a <= host and host + nbytes <= a + len(buffer) - 64 for a, buffer in self._host.items())

    def _recordable(self, host: int, nbytes: int, stream: int, method: str) -> None:
        if self._known(stream) is not None and not self._pinned(host, nbytes):
            raise _error("CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", f"{method} of memory that is not page-locked, while a graph is recorded")

    # Copies -------------------------------------------------------------------------------------------------------------------------
    def copy_in(self, device: int, host: int, nbytes: int, stream: int) -> None:
        ordinal, at = self._at(device, nbytes, "copy_in")
        self._recordable(host, nbytes, stream, "copy_in")
        staged = self.deferred and not self.coherent and self._known(stream) is None and not self._pinned(host, nbytes)
        source = ctypes.create_string_buffer(ctypes.string_at(host, nbytes), nbytes) if staged else None
        def work() -> None:
            self.nbytes["copy_in"] += nbytes
            ctypes.memmove(self._bases[ordinal] + at, host if source is None else source, nbytes)
            self._devices[ordinal].state[at:at + nbytes] = ptx.WRITTEN
        self._queue("copy_in", stream, work)

    def copy_out(self, host: int, device: int, nbytes: int, stream: int) -> None:
        ordinal, at = self._at(device, nbytes, "copy_out")
        self._recordable(host, nbytes, stream, "copy_out")
        def work() -> None:
            self.nbytes["copy_out"] += nbytes
            if self.strict and not self.as_hardware:
                missing = self._devices[ordinal].never_written(device, nbytes)
                if missing.size:
                    raise ptx.UninitializedRead(f"copy to the host of {nbytes} bytes at {device:#x}: {missing.size} of them were never "
                                                f"written, the first at offset {missing[0]}")
            ctypes.memmove(host, self._bases[ordinal] + at, nbytes)
        self._queue("copy_out", stream, work)
        if self.deferred and not self.coherent and self._known(stream) is None and not self._pinned(host, nbytes):
            with self._lock:
                self._finish(stream)

    def copy(self, to: int, source: int, nbytes: int, stream: int) -> None:
        target, origin = self._at(to, nbytes, "copy")[0], self._at(source, nbytes, "copy")[0]
        def work() -> None:
            self.nbytes["copy"] += nbytes
            self._devices[target].copy(to, source, nbytes, self._devices[origin])
        self._queue("copy", stream, work)

    def copy_peer(self, to: int, ordinal: int, source: int, origin: int, nbytes: int, stream: int) -> None:
        """What lies elsewhere than is said, or a device that is not current, is CUDA_ERROR_INVALID_VALUE."""
        there, here = self._at(to, nbytes, "copy_peer")[0], self._at(source, nbytes, "copy_peer")[0]
        if (there, here) != (ordinal, origin) or ordinal != self.ordinal:
            raise _error("CUDA_ERROR_INVALID_VALUE", f"copy_peer: from device {origin} to {ordinal} of memory of {here} and {there}, with "
                                                     f"{self.ordinal} current")
        if self._known(stream) is not None:
            raise _error("CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", "copy_peer while the stream is captured")
        def work() -> None:
            self.nbytes["copy_peer"] += nbytes
            self._devices[ordinal].copy(to, source, nbytes, self._devices[origin])
        self._queue("copy_peer", stream, work)

    def fill(self, address: int, byte: int, nbytes: int, stream: int) -> None:
        ordinal, _ = self._at(address, nbytes, "fill")
        self._queue("fill", stream, lambda: self._devices[ordinal].fill(address, byte, nbytes))

    # Kernels ------------------------------------------------------------------------------------------------------------------------
    def link(self, ptx: str, label: str = "") -> bytes:
        """The text itself, looked through by the parser."""
        self._called("link")
        text = ptx.decode() if isinstance(ptx, bytes) else ptx
        parse(text)
        return text.encode()

    def load(self, cubin: bytes) -> int:
        with self._lock:
            self._called("load")
            try:
                text = bytes(cubin).decode()
            except UnicodeDecodeError:
                raise _error("CUDA_ERROR_NO_BINARY_FOR_GPU", "load: the emulator runs PTX, not cubins") from None
            module, handle = parse(text), next(self._handles)
            self._modules[handle] = (self.ordinal, text, module, place(module, self._devices[self.ordinal]))
            return handle

    def unload(self, module: int) -> None:
        with self._lock:
            self._called("unload")
            self._finish()
            ordinal, _, _, symbols = self._module(module)
            for address in symbols.values():
                self._devices[ordinal].free(address)
            del self._modules[module]

    def _module(self, module: int) -> tuple[int, str, Module, dict[str, int]]:
        if module not in self._modules:
            raise _error("CUDA_ERROR_INVALID_HANDLE", f"module {module}")
        return self._modules[module]

    def function(self, module: int, symbol: str) -> int:
        with self._lock:
            self._called("function")
            ordinal, text, parsed, symbols = self._module(module)
            if symbol not in parsed.kernels:
                raise _error("CUDA_ERROR_NOT_FOUND", f"function: no kernel {symbol}; there are {', '.join(parsed.kernels)}")
            handle = next(self._handles)
            self._functions[handle] = _Function(ordinal, ptx.program(text, symbol), symbols)
            return handle

    def attributes(self, function: int) -> dict[str, int]:
        """As of a GPU, but for registers: the emulator has the virtual ones only, and answers 0."""
        p = self._functions[function].program
        limits = p.function.limits.get("maxntid") or p.function.limits.get("reqntid")
        return {"registers": 0, "local_bytes": p.local_bytes, "shared_bytes": p.shared_bytes,
                "max_threads": int(np.prod(limits)) if limits else 1024}

    def prepare(self, function: int, kinds: str, values: Sequence[Any]) -> _Prepared:
        """Raises ptx.LaunchFault if `kinds` does not fit the kernel's parameters."""
        if function not in self._functions:
            raise _error("CUDA_ERROR_INVALID_HANDLE", f"function {function}")
        f = self._functions[function]
        sizes, params = [struct.calcsize(_LETTERS[k]) for k in kinds], [v.size for v, _ in f.program.params]
        if sizes != params or len(values) != len(kinds):
            raise ptx.LaunchFault(f"arguments {kinds!r} ({sizes} bytes, {len(values)} values) for parameters of {params} bytes",
                                  kernel=f.program.name)
        return _Prepared(f, ptx.pack(f.program, [struct.pack("=" + _LETTERS[k], _plain(k, v)) for k, v in zip(kinds, values, strict=True)]))

    def expect(self, prepared: _Prepared, extents: Sequence[tuple[int, int]]) -> None:
        """Launches of `prepared` that touch other memory raise ptx.OutOfBounds."""
        prepared.extents = list(extents)

    def launch(self, prepared: _Prepared, grid: tuple[int, int, int], block: tuple[int, int, int], shared_bytes: int, stream: int) -> None:
        f = prepared.function
        try:
            made = ptx.Launch(f.program, self._devices[f.device], grid, block, prepared.arguments, shared_bytes, self._wanted(),
                              self.counters, f.symbols, prepared.extents, self.order)
        except ptx.LaunchFault as error:
            raise (_as_hardware(error) if self.as_hardware else error) from None
        def work() -> None:
            if self._pending is not None:
                return  # the device is lost, and does not know it yet
            try:
                made.run()
            except ptx.EmulationError as error:
                if not self.as_hardware:
                    raise
                self._pending = _as_hardware(error)
        self._queue("launch", stream, work)

    def _wanted(self) -> ptx.Checks:
        if not self.as_hardware:
            return self.checks
        return self.checks.without("uninitialized", "shared_races", "global_races", "lanes", "barriers")

    # Graphs -------------------------------------------------------------------------------------------------------------------------
    def begin_capture(self, stream: int) -> None:
        with self._lock:
            self._called("begin_capture")
            if stream < 3 or self._known(stream) is not None:
                raise _error("CUDA_ERROR_ILLEGAL_STATE", "begin_capture: the stream is the default one, or is captured already")
            self._streams[stream] = []

    def end_capture(self, stream: int) -> int:
        with self._lock:
            self._called("end_capture")
            recorded = self._known(stream)
            if recorded is None:
                raise _error("CUDA_ERROR_ILLEGAL_STATE", "end_capture: the stream is not captured")
            self._streams[stream] = None
            handle = next(self._handles)
            self._graphs[handle] = recorded
            return handle

    def launch_graph(self, graph: int, stream: int) -> None:
        if graph not in self._graphs:
            raise _error("CUDA_ERROR_INVALID_HANDLE", f"graph {graph}")
        recorded = self._graphs[graph]
        def work() -> None:
            for step in recorded:
                step()
        self._queue("launch_graph", stream, work)

    def destroy_graph(self, graph: int) -> None:
        with self._lock:
            self._called("destroy_graph")
            if self._graphs.pop(graph, None) is None:
                raise _error("CUDA_ERROR_INVALID_HANDLE", f"graph {graph}")

    # Events -------------------------------------------------------------------------------------------------------------------------
    def event(self) -> int:
        with self._lock:
            self._called("event")
            handle = next(self._handles)
            self._events[handle] = None
            return handle

    def record(self, event: int, stream: int) -> None:
        def work() -> None:
            self._events[event] = time.perf_counter()
        if event not in self._events:
            raise _error("CUDA_ERROR_INVALID_HANDLE", f"event {event}")
        with self._lock:
            self._events[event] = None
            self._recorded_on[event] = stream
            self._queue("record", stream, work)

    def elapsed(self, first: int, second: int) -> float:
        with self._lock:
            self._arrive(first)
            self._arrive(second)
            self._settle()
        a, b = self._events.get(first), self._events.get(second)
        if a is None or b is None:
            raise _error("CUDA_ERROR_INVALID_HANDLE", "elapsed: an event that was not recorded")
        return b - a

    def destroy_event(self, event: int) -> None:
        with self._lock:
            if event not in self._events:
                raise _error("CUDA_ERROR_INVALID_HANDLE", f"event {event}")
            self._arrive(event)
            del self._events[event]
            self._recorded_on.pop(event, None)


def _plain(kind: str, value: Any) -> Any:
    """An int of the letter's range (32-bit sizes may come as unsigned bits), or a float."""
    if kind in "fd":
        return float(value)
    bits = {"p": 64, "l": 64, "i": 32}[kind]
    value = int(value) & ((1 << bits) - 1)
    return value if kind == "p" or value < 1 << bits - 1 else value - (1 << bits)


def _as_hardware(error: ptx.EmulationError) -> DriverError:
    names = {ptx.OutOfBounds: "CUDA_ERROR_ILLEGAL_ADDRESS", ptx.Misaligned: "CUDA_ERROR_MISALIGNED_ADDRESS",
             ptx.LaunchFault: "CUDA_ERROR_INVALID_VALUE", ptx.StepLimit: "CUDA_ERROR_LAUNCH_TIMEOUT",
             ptx.BarrierFault: "CUDA_ERROR_LAUNCH_TIMEOUT", ptx.InactiveLane: "CUDA_ERROR_LAUNCH_TIMEOUT"}
    return _error(names.get(type(error), "CUDA_ERROR_LAUNCH_FAILED"), str(error))
