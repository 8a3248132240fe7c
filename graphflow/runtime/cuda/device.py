"""A GPU as the runtime uses it: pooled memory, page-locked host arrays, kernels from PTX, one stream, graphs.

Knows addresses, bytes and host arrays; no ops or plans.  What the driver raises becomes an error of TF1's family here: out of memory
is a ResourceExhaustedError, everything else an InternalError that says which device, what it was doing and what to do.
Place: `plan` lays its arena and segments on a `Device`, `arrays` shares its memory with other programs.
"""
from __future__ import annotations

import atexit
import hashlib
import math
import threading
import weakref
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any, NamedTuple, NoReturn

import numpy as np

from graphflow import errors, locks
from graphflow.codegen.cache import ObjectCache
from graphflow.runtime.cuda import driver as drivers
from graphflow.runtime.cuda.driver import OUT_OF_MEMORY, Driver, DriverError, Properties, Unavailable

CUBIN_ABI = 1                               # of the files of the cubin cache
_SMALLEST = 512                             # bytes of the smallest block
_LABELS = 8                                 # names of launches that an error repeats

Size = tuple[int, int, int]

# What to do about errors that are not the program's.
_HINTS = {
    46: "Another process may have the device for itself; `nvidia-smi -q -d COMPUTE` shows its compute mode.",
    209: "The driver knows no machine code for this device; install a newer driver.",
    214: "The device's memory is faulty; `nvidia-smi -q -d ECC` shows it.",
    221: "The driver's library libnvidia-ptxjitcompiler is missing; install the driver again.",
    222: "The driver is too old for this PTX; install a newer one.",
    223: "CUDA_DISABLE_PTX_JIT keeps the driver from linking kernels; unset it.",
}


# ---------------------------------------------------------------- memory


class Stats(NamedTuple):
    """Bytes of a pool: handed out, kept for reuse, most ever handed out at once, most it may hold (0: no bound)."""

    used: int
    cached: int
    peak: int
    limit: int


def size_class(nbytes: int) -> int:
    """The size of the block that serves `nbytes` bytes: less than an eighth above it, so that blocks are found again by size."""
    if nbytes <= _SMALLEST:
        return _SMALLEST
    step = max(_SMALLEST, 1 << (nbytes - 1).bit_length() - 4)
    return -(-nbytes // step) * step


# Called before a pool is looked at: each frees blocks whose end cannot be told otherwise (arrays.py: those that other programs held).
sweeps: list[Callable[[], None]] = []
# Called before a device gives its context back: what others keep for it is no use any more (libraries: handles and prepared calls).
endings: list[Callable[[], None]] = []


class Pool:
    """Blocks of memory from `take(size)`, kept by size when they are freed, and given back by `give(address)` on `trim`.

    `free` is for finalizers too, which the garbage collector may run anywhere, also inside this class: it only appends to a queue.
    """

    def __init__(self, take: Callable[[int], int], give: Callable[[int], None]):
        self._take, self._give, self.limit = take, give, 0
        self._lock = locks.rlock()
        self._sizes: dict[int, int] = {}               # of the blocks handed out
        self._live: set[int] = set()                   # their addresses, without those in the queue
        self._cache: dict[int, list[int]] = {}         # the others, by size
        self._freed: deque[tuple[int, bool]] = deque()
        self._used = self._cached = self._peak = 0

    def allocate(self, nbytes: int) -> int:
        """A block's address.  Raises DriverError CUDA_ERROR_OUT_OF_MEMORY if nothing is left, also after `trim`, or above `limit`."""
        size = size_class(nbytes)
        with self._lock:
            self._collect()
            address = self._kept(size) or self._fresh(size)
            self._sizes[address] = size
            self._live.add(address)
            self._used += size
            self._peak = max(self._peak, self._used)
            return address

    def free(self, address: int, shared: bool = False) -> None:
        """Takes a block back.  `shared`: other programs may still work with it, so it goes to the system, which waits for the device."""
        try:
            self._live.remove(address)
        except KeyError:
            raise ValueError(f"address {address:#x} is not that of an allocated block") from None
        self._freed.append((address, shared))

    def trim(self) -> int:
        """Gives everything kept back to the system; returns how many bytes."""
        with self._lock:
            self._collect()
            before = self._cached
            while self._cache:
                size, blocks = self._cache.popitem()
                self._cached -= size * len(blocks)
                for address in blocks:
                    self._give(address)
            return before

    def stats(self) -> Stats:
        with self._lock:
            self._collect()
            return Stats(self._used, self._cached, self._peak, self.limit)

    def _collect(self) -> None:
        """Works off the queue of freed blocks."""
        for sweep in sweeps:
            sweep()
        while self._freed:
            address, shared = self._freed.popleft()
            size = self._sizes.pop(address)
            self._used -= size
            if shared:
                self._give(address)
            else:
                self._cache.setdefault(size, []).append(address)
                self._cached += size

    def _kept(self, size: int) -> int:
        blocks = self._cache.get(size)
        if not blocks:
            return 0
        self._cached -= size
        return blocks.pop()

    def _fresh(self, size: int) -> int:
        if self.limit and self._used + self._cached + size > self.limit:
            self.trim()
            if self._used + size > self.limit:
                raise DriverError(OUT_OF_MEMORY, text="the limit of this process is reached")
        try:
            return self._take(size)
        except DriverError as error:
            if error.code != OUT_OF_MEMORY or not self.trim():
                raise
            return self._take(size)


class HostBlock:
    """Host memory as `np.asarray` takes it; the array holds on to this object, and so to `owner`."""

    def __init__(self, address: int, shape: tuple[int, ...], dtype: np.dtype, owner: Any = None, writable: bool = True):
        self.__array_interface__ = {"version": 3, "shape": shape, "typestr": dtype.str, "data": (address, not writable)}
        self.owner = owner


# ---------------------------------------------------------------- work


class Launch:
    """A kernel with its arguments and sizes; a call queues it on the device's stream."""

    __slots__ = ("function", "grid", "block", "shared_bytes", "prepared")

    def __init__(self, function: Function, kinds: str, values: Sequence[Any], grid: Size, block: Size, shared_bytes: int = 0):
        if any(not 0 < n < 1 << 31 for n in (*grid, *block)):  # ctypes would take the low 32 bits of what is larger
            raise ValueError(f"{function.label} cannot be launched with grid {grid} and block {block}: sizes are from 1 to 2**31 - 1")
        self.function, self.grid, self.block, self.shared_bytes = function, grid, block, shared_bytes
        self.prepared = function.device.driver.prepare(function.handle, kinds, values)

    label = property(lambda self: self.function.label)

    def __call__(self) -> None:
        device = self.function.device
        device.queued.append(self.function.label)
        try:
            device.use()
            device.driver.launch(self.prepared, self.grid, self.block, self.shared_bytes, device.stream)
        except DriverError as error:
            device.fail(error, f"launching {self.function.label}")


class Function:
    """A kernel on a device.  `attributes`: registers, local_bytes, shared_bytes, max_threads, as of the driver."""

    __slots__ = ("device", "handle", "symbol", "label", "_attributes")

    def __init__(self, device: Device, handle: int, symbol: str, label: str):
        self.device, self.handle, self.symbol, self.label = device, handle, symbol, label
        self._attributes: dict[str, int] | None = None

    @property
    def attributes(self) -> dict[str, int]:
        if self._attributes is None:
            self.device.use()
            self._attributes = self.device.driver.attributes(self.handle)
        return self._attributes

    def prepare(self, kinds: str, values: Sequence[Any], grid: Size, block: Size, shared_bytes: int = 0) -> Launch:
        """A launch to call again and again.  Raises ValueError, TypeError for arguments that are not of their kinds."""
        return Launch(self, kinds, values, grid, block, shared_bytes)

    def __repr__(self) -> str:
        return f"<kernel {self.label} on {self.device.name}>"


class Graph:
    """Recorded work of a device; a call queues all of it.  Ends with its last reference."""

    def __init__(self, device: Device, handle: int, label: str, keep: list[Any]):
        self.device, self.handle, self.label = device, handle, label
        device.later(self, device.driver.destroy_graph, handle)
        # The host memory that its copies read and write stays until the last launch is waited for.
        weakref.finalize(self, _held, device, keep).atexit = False

    def __call__(self) -> None:
        device = self.device
        device.queued.append(self.label)
        try:
            device.use()
            device.driver.launch_graph(self.handle, device.stream)
        except DriverError as error:
            device.fail(error, f"launching {self.label}")


def _held(device: Device, arrays: list[Any]) -> None:
    device._busy.append(arrays)


class Mark:
    """A place in a device's work, which others wait for."""

    __slots__ = ("device", "event", "__weakref__")

    def __init__(self, device: Device):
        self.device = device
        with device._mapped("making an event"):
            device.use()
            self.event = device.driver.event()
        device.later(self, device.driver.destroy_event, self.event)

    def set(self) -> None:
        """Here: behind all that is queued now."""
        try:
            self.device.use()
            self.device.driver.record(self.event, self.device.stream)
        except DriverError as error:
            self.device.fail(error, "marking a place in its work")


class Recording:
    """What `Device.capture` yields; `.graph` is there when the block has ended."""

    graph: Graph


class Device:
    """One GPU of a driver.  All work goes to one stream, in the order of the calls; any thread may call.

    Attributes: ordinal, driver, properties, name ("GPU 0 (NVIDIA H200)"), stream (a handle), queued (labels of the last launches).
    """

    def __init__(self, ordinal: int, driver: Driver):
        self.ordinal, self.driver = ordinal, driver
        self.properties: Properties = driver.properties(ordinal)
        self.name = f"GPU {ordinal} ({self.properties.name})"
        self.lock = locks.rlock()
        self.queued: deque[str] = deque(maxlen=_LABELS)
        self.memory = Pool(self._take, self._give)
        self.host_memory = Pool(self._take_host, self._give_host)
        self._lost = self._closed = ""                 # why nothing works any more
        self._busy: list[Any] = []                     # host memory of copies that may be under way
        self._dead: deque[tuple[Callable[[int], None], int]] = deque()
        self._modules: dict[str, int] = {}             # by PTX
        self._functions: dict[tuple[str, str], Function] = {}
        self._cache: ObjectCache | None = None
        self._stream = 0                               # made with the context, at the first use
        self._recorder: int | None = None              # the thread that records a graph
        self._record_stream = 0
        self._recorded: list[Any] = []                 # host memory of the copies in that graph

    @property
    def stream(self) -> int:
        """The handle of the stream that this thread's work goes to: the device's one, or that of the graph it is recording."""
        if self._recorder == threading.get_ident():
            return self._record_stream
        if not self._stream:
            self.use()
        return self._stream

    @property
    def recording(self) -> bool:
        """Whether this thread is recording a graph."""
        return self._recorder == threading.get_ident()

    lost = property(lambda self: bool(self._lost), doc="Whether an error has ended the device's use in this process.")

    def use(self) -> None:
        """Makes the device current on this thread.

        Raises InternalError if it is lost, FailedPreconditionError if it is closed or in a forked child, DriverError.
        """
        if self._lost or self._closed:
            self._refuse()
        try:
            self.driver.use(self.ordinal)
        except Unavailable as error:
            raise errors.FailedPreconditionError(None, None, error.reason) from None
        if not self._stream:
            with self.lock:
                self._stream = self._stream or self.driver.stream()

    def __repr__(self) -> str:
        return f"<{self.name}, compute capability {'.'.join(map(str, self.properties.capability))}, {_size(self.properties.memory)}>"

    # ---- errors

    def fail(self, error: DriverError, doing: str) -> NoReturn:
        """Raises what a DriverError means."""
        if error.code == OUT_OF_MEMORY:
            message = f"{self.name} has no memory left while {doing}. {self._occupation()}"
            raise errors.ResourceExhaustedError(None, None, message) from error
        message = " ".join([f"{self.name} failed while {doing}: {error}.", *filter(None, [_HINTS.get(error.code)])])
        if error.sticky:
            queued = ", ".join(self.queued)
            message += (f" Kernels run asynchronously, so the fault is in this or in a launch shortly before it"
                        f"{f' (last queued: {queued})' if queued else ''}. The device cannot be used until this process ends; start the "
                        f"program again, with GRAPHFLOW_CHECK=2 to find the kernel, and report it as an error of GraphFlow.")
            self._lost = self._lost or message
        raise errors.InternalError(None, None, message) from error

    def _refuse(self) -> NoReturn:
        if self._closed:
            raise errors.FailedPreconditionError(None, None, f"{self.name} was closed: {self._closed}.")
        raise errors.InternalError(None, None, f"{self.name} was lost earlier in this process. The first error was: {self._lost}")

    @contextmanager
    def _mapped(self, doing: str) -> Iterator[None]:
        try:
            yield
        except DriverError as error:
            self.fail(error, doing)

    def _occupation(self) -> str:
        used, cached, _, limit = self.memory.stats()
        try:
            free, total = self.driver.memory(self.ordinal)
        except DriverError:                            # out of memory even for the question
            free, total = 0, self.properties.memory
        bound = f", and may have {_size(limit)} (per_process_gpu_memory_fraction)" if limit else ""
        return (f"This process uses {_size(used)}{f' and keeps {_size(cached)}' if cached else ''} of its {_size(total)}{bound}; "
                f"{_size(free)} are free. Use smaller batches, or end other programs on the device.")

    # ---- memory

    def allocate(self, nbytes: int) -> int:
        """The address of `nbytes` bytes of the device, undefined, aligned to 256.  0 for nothing.

        Raises ResourceExhaustedError that says how much was asked, used, free and there.
        """
        if self._lost or self._closed:
            self._refuse()
        if not nbytes:
            return 0
        try:
            return self.memory.allocate(nbytes)
        except DriverError as error:
            self.fail(error, f"allocating {_size(nbytes)}")

    def free(self, address: int, shared: bool = False) -> None:
        """Takes memory back; work already queued may still use it.  `shared`: streams of other programs may use it too."""
        if address and not self._closed:
            self.memory.free(address, shared)

    def trim(self) -> int:
        """Gives memory that is kept for reuse, on the device and on the host, back to the system; returns the bytes of the device."""
        with self._mapped("returning memory"):
            self.use()
            self._bury()
            if not self.recording:                     # who gives page-locked memory back must know that no copy uses it
                self.synchronize()
            self.host_memory.trim()
            return self.memory.trim()

    def pinned(self, shape: Any, dtype: Any) -> np.ndarray:
        """An array in page-locked host memory, undefined; copies from and to it are asynchronous and at full speed."""
        np_dtype = np.dtype(getattr(dtype, "np", dtype))
        shape = (shape,) if isinstance(shape, int) else tuple(shape)
        nbytes = math.prod(shape) * np_dtype.itemsize
        if np_dtype.hasobject:
            raise TypeError(f"page-locked memory cannot hold Python objects ({np_dtype})")
        if not nbytes:
            return np.empty(shape, np_dtype)
        try:
            address = self.host_memory.allocate(nbytes)
        except DriverError as error:
            if error.code == OUT_OF_MEMORY:
                raise errors.ResourceExhaustedError(None, None, f"This machine has no {_size(nbytes)} of page-locked memory for copies "
                                                    f"to and from {self.name}; {_size(self.host_memory.stats().used)} are in use. Use "
                                                    f"smaller batches, or give the process (its container) more memory.") from error
            self.fail(error, f"allocating {_size(nbytes)} of page-locked host memory")
        block = HostBlock(address, shape, np_dtype)
        weakref.finalize(block, self.host_memory.free, address).atexit = False
        return np.asarray(block)

    def configure(self, gpu_options: Any) -> None:
        """Takes tf.GPUOptions: per_process_gpu_memory_fraction bounds the pool (0: no bound).

        Memory is always taken as it is needed, which is what allow_growth asks for; without it TF1 takes everything at the start.
        """
        fraction = gpu_options.per_process_gpu_memory_fraction
        if not 0 <= fraction <= 1:
            raise ValueError(f"GPUOptions.per_process_gpu_memory_fraction must be between 0 and 1, got {fraction}")
        self.memory.limit = int(fraction * self.properties.memory)

    def _take(self, size: int) -> int:
        self.use()
        self._bury()
        return self.driver.allocate(size)

    def _give(self, address: int) -> None:
        self.use()
        self.driver.free(address)

    def _take_host(self, size: int) -> int:
        self.use()
        return self.driver.allocate_host(size)

    def _give_host(self, address: int) -> None:
        self.use()
        self.driver.free_host(address)

    # ---- copies

    def copy_in(self, address: int, array: np.ndarray) -> None:
        """Host to device, queued.  A C-contiguous array; page-locked ones must keep their values until `synchronize`."""
        self._copy(self.driver.copy_in, address, _contiguous(array), array)

    def copy_out(self, array: np.ndarray, address: int) -> None:
        """Device to host, queued; the values are there after `synchronize`.  A C-contiguous, writable array."""
        if not array.flags.writeable:
            raise ValueError("copy_out needs a writable array")
        self._copy(self.driver.copy_out, _contiguous(array), address, array)

    def _copy(self, copy: Callable[..., None], to: int, source: int, array: np.ndarray) -> None:
        if array.nbytes:
            try:
                self.use()
                copy(to, source, array.nbytes, self.stream)
            except DriverError as error:
                self.fail(error, f"copying {_size(array.nbytes)} between host and device")
            # Not freed, and its memory not handed out again, before the copy has ended.
            (self._recorded if self.recording else self._busy).append(array)

    def copy(self, to: int, source: int, nbytes: int) -> None:
        """Device to device, queued."""
        if nbytes:
            with self._mapped(f"copying {_size(nbytes)}"):
                self.use()
                self.driver.copy(to, source, nbytes, self.stream)

    def fetch(self, to: int, other: Device, source: int, nbytes: int) -> None:
        """From another device's memory to that of this one, queued here; see `after` for the order of the two."""
        if nbytes:
            try:
                self.use()
                self.driver.copy_peer(to, self.ordinal, source, other.ordinal, nbytes, self.stream)
            except DriverError as error:
                self.fail(error, f"copying {_size(nbytes)} from {other.name}")

    def fill(self, address: int, byte: int, nbytes: int) -> None:
        """Sets bytes, queued."""
        if nbytes:
            with self._mapped(f"filling {_size(nbytes)}"):
                self.use()
                self.driver.fill(address, byte, nbytes, self.stream)

    def synchronize(self, label: str = "") -> None:
        """Waits for all queued work.  Raises what it failed with; `label` says what it was."""
        if self.recording:
            raise errors.FailedPreconditionError(None, None, f"{self.name} cannot be waited for while a graph is recorded.")
        busy, self._busy = self._busy, []
        try:
            self.use()
            self.driver.synchronize(self._stream)
        except DriverError as error:
            self.fail(error, f"running {label}" if label else "running")
        del busy
        self.queued.clear()
        if self._dead:
            self._bury()

    # ---- several devices

    def after(self, mark: Mark) -> None:
        """Work queued here from now on waits for what another device had queued when the mark was set last."""
        try:
            self.use()
            self.driver.wait(self.stream, mark.event)
        except DriverError as error:
            self.fail(error, f"waiting for {mark.device.name}")

    # ---- streams of other programs

    def precede(self, stream: int) -> None:
        """Work queued on `stream` from now on waits for what is queued here."""
        self._order(self.stream, stream)

    def follow(self, stream: int) -> None:
        """Work queued here from now on waits for what is queued on `stream`."""
        self._order(stream, self.stream)

    def _order(self, first: int, second: int) -> None:
        with self._mapped("ordering streams"):
            self.use()
            event = self.driver.event()
            try:
                self.driver.record(event, first)
                self.driver.wait(second, event)
            finally:
                self.driver.destroy_event(event)       # lives on until the wait is over

    # ---- kernels

    def kernel(self, ptx: str, symbol: str, label: str = "") -> Function:
        """A kernel of a PTX text; linked once, and kept on disk.  Raises InternalError with the assembler's log."""
        with self.lock:
            known = self._functions.get((ptx, symbol))
            if known is None:
                label = label or symbol
                with self._mapped(f"loading the kernel {label}"):
                    self.use()
                    handle = self.driver.function(self._module(ptx, label), symbol)
                known = self._functions[ptx, symbol] = Function(self, handle, symbol, label)
            return known

    def link(self, texts: Iterable[str]) -> None:
        """Links PTX texts that are not on disk yet, several at a time, so that `kernel` finds them."""
        todo = [ptx for ptx in dict.fromkeys(texts) if ptx not in self._modules and self._stored(ptx) is None]
        if len(todo) < 2 or not self.driver.keeps:
            return
        from concurrent.futures import ThreadPoolExecutor

        with ThreadPoolExecutor(min(len(todo), 8)) as workers:
            list(workers.map(self._linked, todo))

    def _module(self, ptx: str, label: str) -> int:
        if ptx not in self._modules:
            self._modules[ptx] = self._loaded(ptx, label)
        return self._modules[ptx]

    def _loaded(self, ptx: str, label: str) -> int:
        cubin = self._stored(ptx)
        if cubin is not None:
            try:
                return self.driver.load(cubin)
            except DriverError as error:               # of another driver, or spoilt before it was written: made again
                if error.sticky or error.code == OUT_OF_MEMORY:
                    raise
        return self.driver.load(self._linked(ptx, label))

    def _linked(self, ptx: str, label: str = "") -> bytes:
        with self._mapped(f"linking the kernel {label}"):
            self.use()
            cubin = self.driver.link(ptx, label)
        if self.driver.keeps:
            self._disk().store(self._key(ptx), cubin, ptx, ".cubin", ".ptx")
        return cubin

    def _stored(self, ptx: str) -> bytes | None:
        return self._disk().load(self._key(ptx), ".cubin") if self.driver.keeps else None

    def _disk(self) -> ObjectCache:
        if self._cache is None:
            self._cache = ObjectCache(abi=CUBIN_ABI)
        return self._cache

    def _key(self, ptx: str) -> str:
        """All that a cubin depends on: text, architecture, linker (which is part of the driver)."""
        made_by = f"{self.driver.name} {self.properties.driver_version} sm_{self.properties.capability}"
        return "ptx_" + hashlib.sha256(f"{made_by}\n{ptx}".encode()).hexdigest()[:40]

    # ---- graphs and time

    @contextmanager
    def capture(self, label: str = "graph") -> Iterator[Recording]:
        """Records what this thread queues inside a `with` block; `.graph` of what it yields can be called afterwards.

        Other threads go on with the device meanwhile.  Host arrays that are copied belong to the graph: change their content, not them.
        """
        recording = Recording()
        with self.lock:
            if self._recorder is not None:
                raise errors.FailedPreconditionError(None, None, f"{self.name} is recording a graph already.")
            with self._mapped(f"recording {label}"):
                self.use()
                self._record_stream = self._record_stream or self.driver.stream()
                self.driver.begin_capture(self._record_stream)
            self._recorder, self._recorded = threading.get_ident(), []
            try:
                yield recording
            except BaseException:
                self.driver.abandon_capture(self._record_stream)
                raise
            else:
                with self._mapped(f"recording {label}"):
                    recording.graph = Graph(self, self.driver.end_capture(self._record_stream), label, self._recorded)
            finally:
                self._recorder, self._recorded = None, []

    @contextmanager
    def timed(self) -> Iterator[Callable[[], float]]:
        """Yields a function that, after the block, waits and returns the seconds its work took on the device."""
        with self._mapped("measuring time"):
            self.use()
            first, second = self.driver.event(), self.driver.event()
            self.later(marks := _Marks(), self.driver.destroy_event, first)
            self.later(marks, self.driver.destroy_event, second)
            self.driver.record(first, self.stream)

        def seconds(marks: Any = marks) -> float:
            with self._mapped("measuring time"):
                self.use()                             # it may be asked by another thread
                return self.driver.elapsed(first, second)

        yield seconds
        with self._mapped("measuring time"):
            self.driver.record(second, self.stream)

    # ---- the end

    def later(self, owner: Any, end: Callable[[int], None], handle: int) -> None:
        """Ends a handle some time after `owner` is gone: never inside a finalizer, which may run in the middle of another call."""
        weakref.finalize(owner, self._dead.append, (end, handle)).atexit = False

    def _bury(self) -> None:
        while self._dead:
            end, handle = self._dead.popleft()
            end(handle)

    def close(self, why: str = "it was reset") -> None:
        """Waits, and gives back everything that no live object holds.  Later calls raise FailedPreconditionError."""
        with self.lock:
            if self._closed:
                return
            if self._stream and not self._lost and self._alive():
                try:
                    self._release()
                except DriverError as error:           # the driver ended before us, or lost the device: there is nothing left to release
                    if error.code != drivers.DEINITIALIZED and not error.sticky:
                        raise
            self._closed = why

    def _alive(self) -> bool:
        try:
            self.driver.use(self.ordinal)
        except (Unavailable, DriverError):             # a forked child, or a driver that has ended
            return False
        return True

    def _release(self) -> None:
        driver = self.driver
        for ending in endings:
            ending()
        driver.synchronize(self._stream)
        self._busy = []
        self._bury()
        for module in self._modules.values():
            driver.unload(module)
        self.memory.trim()
        self.host_memory.trim()
        for stream in filter(None, (self._stream, self._record_stream)):
            driver.destroy_stream(stream)
        driver.release(self.ordinal)


class _Marks:
    """Holds two events."""


def _contiguous(array: np.ndarray) -> int:
    """The address of an array's memory.  Raises ValueError unless it is C-contiguous."""
    if not array.flags.c_contiguous:
        raise ValueError(f"copies need a C-contiguous array, got strides {array.strides} for shape {array.shape}")
    return array.ctypes.data if array.nbytes else 0


def _size(nbytes: float) -> str:
    """1536 -> "1.5 KiB"."""
    for unit in ("bytes", "KiB", "MiB", "GiB"):
        if nbytes < 1024 or unit == "GiB":
            break
        nbytes /= 1024
    return f"{nbytes:.4g} {unit}" if unit != "bytes" else f"{nbytes:.0f} bytes"


# ---------------------------------------------------------------- the devices of this process

_lock = locks.rlock()
_known: dict[tuple[int, int], Device] = {}  # by driver (its identity: the Device holds it) and ordinal


def devices(gpu_options: Any = None) -> list[Device]:
    """The devices that can be used, in order; empty without any (`driver.why_not()` says why).

    `gpu_options`: tf.GPUOptions; visible_device_list ("1,0") selects and orders, per_process_gpu_memory_fraction bounds memory.
    Raises ValueError for a list that names other than existing, usable devices.
    """
    try:
        driver = drivers.current()
    except Unavailable:
        return []
    usable = [k for k in range(driver.count()) if not drivers.too_old(driver.properties(k), k)]
    chosen = _visible(gpu_options.visible_device_list, usable, driver) if gpu_options is not None else usable
    found = [_device(driver, ordinal) for ordinal in chosen]
    for device in found if gpu_options is not None else ():
        device.configure(gpu_options)
    return found


def _visible(text: str, usable: list[int], driver: Driver) -> list[int]:
    if not text.strip():
        return usable
    try:
        chosen = [int(word) for word in text.split(",")]
    except ValueError:
        raise ValueError(f"GPUOptions.visible_device_list must be numbers with commas between them, got {text!r}") from None
    for ordinal in chosen:
        if ordinal not in usable:
            why = drivers.too_old(driver.properties(ordinal), ordinal) if 0 <= ordinal < driver.count() else f"usable are {usable}."
            raise ValueError(f"GPUOptions.visible_device_list {text!r} names device {ordinal}, which cannot be used: {why}")
    if len(set(chosen)) < len(chosen):
        raise ValueError(f"GPUOptions.visible_device_list {text!r} names a device twice")
    return chosen


def _device(driver: Driver, ordinal: int) -> Device:
    with _lock:
        key = id(driver), ordinal
        if key not in _known:
            _known[key] = Device(ordinal, driver)
        return _known[key]


def reset() -> None:
    """Closes all devices; the next `devices()` makes new ones.  For tests."""
    _close("it was reset")


def forget(driver: Driver, why: str) -> None:
    """Closes the devices of one driver, which will not be used any more."""
    with _lock:
        for key in [k for k, device in _known.items() if device.driver is driver]:
            _known.pop(key).close(why)


def _close(why: str) -> None:
    with _lock:
        while _known:
            _known.popitem()[1].close(why)


atexit.register(_close, "the interpreter ends")
