"""The CUDA driver behind a small interface: `Libcuda` calls libcuda through ctypes, tests put an emulator in its place.

Handles and addresses are plain ints, sizes are bytes, times are seconds.  A call that fails raises `DriverError`; that there is nothing
to call raises `Unavailable` with a sentence that says what is missing and the next step.  Knows no tensors, pools or plans.
Place: under `device` and `libraries`, which make values out of the handles.
"""
from __future__ import annotations

import ctypes
import os
import struct
import sys
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from types import SimpleNamespace
from typing import Any

from graphflow import locks

OLDEST_DRIVER = 11080                       # CUDA 11.8: the first that reads PTX ISA 7.8 and knows sm_90
OLDEST_CAPABILITY = (8, 0)                  # bfloat16 arithmetic and the matrix instructions that kernels use
PLAIN_SHARED_BYTES = 48 << 10               # more dynamic shared memory than this must be asked for, function by function

# The codes that this package tells apart, or that say something a user can act on; the driver itself names the others.
NAMES = {
    1: "CUDA_ERROR_INVALID_VALUE", 2: "CUDA_ERROR_OUT_OF_MEMORY", 3: "CUDA_ERROR_NOT_INITIALIZED", 4: "CUDA_ERROR_DEINITIALIZED",
    34: "CUDA_ERROR_STUB_LIBRARY", 36: "CUDA_ERROR_CALL_REQUIRES_NEWER_DRIVER", 46: "CUDA_ERROR_DEVICE_UNAVAILABLE",
    100: "CUDA_ERROR_NO_DEVICE", 101: "CUDA_ERROR_INVALID_DEVICE", 200: "CUDA_ERROR_INVALID_IMAGE", 201: "CUDA_ERROR_INVALID_CONTEXT",
    209: "CUDA_ERROR_NO_BINARY_FOR_GPU", 214: "CUDA_ERROR_ECC_UNCORRECTABLE", 218: "CUDA_ERROR_INVALID_PTX",
    220: "CUDA_ERROR_NVLINK_UNCORRECTABLE", 221: "CUDA_ERROR_JIT_COMPILER_NOT_FOUND", 222: "CUDA_ERROR_UNSUPPORTED_PTX_VERSION",
    223: "CUDA_ERROR_JIT_COMPILATION_DISABLED", 226: "CUDA_ERROR_CONTAINED", 304: "CUDA_ERROR_OPERATING_SYSTEM",
    400: "CUDA_ERROR_INVALID_HANDLE", 401: "CUDA_ERROR_ILLEGAL_STATE",
    500: "CUDA_ERROR_NOT_FOUND", 600: "CUDA_ERROR_NOT_READY", 700: "CUDA_ERROR_ILLEGAL_ADDRESS",
    701: "CUDA_ERROR_LAUNCH_OUT_OF_RESOURCES", 702: "CUDA_ERROR_LAUNCH_TIMEOUT",
    704: "CUDA_ERROR_PEER_ACCESS_ALREADY_ENABLED", 709: "CUDA_ERROR_CONTEXT_IS_DESTROYED",
    710: "CUDA_ERROR_ASSERT", 711: "CUDA_ERROR_TOO_MANY_PEERS",
    714: "CUDA_ERROR_HARDWARE_STACK_ERROR", 715: "CUDA_ERROR_ILLEGAL_INSTRUCTION",
    716: "CUDA_ERROR_MISALIGNED_ADDRESS", 717: "CUDA_ERROR_INVALID_ADDRESS_SPACE", 718: "CUDA_ERROR_INVALID_PC",
    719: "CUDA_ERROR_LAUNCH_FAILED", 721: "CUDA_ERROR_TENSOR_MEMORY_LEAK", 801: "CUDA_ERROR_NOT_SUPPORTED",
    802: "CUDA_ERROR_SYSTEM_NOT_READY", 803: "CUDA_ERROR_SYSTEM_DRIVER_MISMATCH", 804: "CUDA_ERROR_COMPAT_NOT_SUPPORTED_ON_DEVICE",
    900: "CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED", 901: "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED",
    903: "CUDA_ERROR_STREAM_CAPTURE_UNMATCHED", 906: "CUDA_ERROR_STREAM_CAPTURE_IMPLICIT", 908: "CUDA_ERROR_STREAM_CAPTURE_WRONG_THREAD",
    999: "CUDA_ERROR_UNKNOWN",
}
CODES = {name: code for code, name in NAMES.items()}
OUT_OF_MEMORY, DEINITIALIZED = 2, 4
_PEER_ENABLED, _PEERS_EXHAUSTED = 704, 711
# After one of these every later call on the context fails too, until the process ends.
STICKY = frozenset({214, 220, 226, 700, 702, 709, 710, 714, 715, 716, 717, 718, 719, 721})


class DriverError(RuntimeError):
    """A call of the driver failed: `.code`, `.name` ("CUDA_ERROR_..."), `.text` (which call, and what the driver says of it)."""

    def __init__(self, code: int, name: str = "", text: str = ""):
        self.code, self.name, self.text = int(code), name or NAMES.get(int(code), "CUDA_ERROR_UNKNOWN"), text
        super().__init__(f"{self.name} ({self.code})" + (f": {text}" if text else ""))

    sticky = property(lambda self: self.code in STICKY, doc="Whether the device is lost for this process.")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.code, self.name, self.text)


class Unavailable(RuntimeError):
    """No CUDA device can be used; `.reason` is a sentence that says why, and what to do."""

    def __init__(self, reason: str):
        self.reason = reason
        super().__init__(reason)


@dataclass(frozen=True)
class Properties:
    """What a device is.  `driver_version` is 1000 * major + 10 * minor of the newest CUDA the driver serves; 0 stands for unknown."""

    name: str
    capability: tuple[int, int]
    memory: int                             # bytes
    multiprocessors: int
    pci_bus_id: str = ""
    driver_version: int = 0
    uuid: str = ""
    shared_bytes: int = PLAIN_SHARED_BYTES  # most dynamic shared memory of one block
    l2_bytes: int = 0
    clock: float = 0.0                      # Hz
    bandwidth: float = 0.0                  # of the memory, bytes/s


class Driver(ABC):
    """What the runtime asks of a CUDA driver.  Everything but `count` and `properties` acts on the device that `use` made current.

    Streams 1 and 2 are always there: CUDA's legacy default stream and the one of a thread, which other programs work on.
    """

    name: str                               # "CUDA 13.0", "emulated"
    keeps: bool = True                      # whether what `link` makes is worth keeping on disk

    @abstractmethod
    def count(self) -> int:
        """Devices; ordinals are 0 .. count - 1."""

    @abstractmethod
    def properties(self, ordinal: int) -> Properties:
        """What the device is; asked of the hardware once."""

    @abstractmethod
    def use(self, ordinal: int) -> None:
        """Makes the device current on this thread (its primary context, which it shares with every other library)."""

    @abstractmethod
    def memory(self, ordinal: int) -> tuple[int, int]:
        """(free, total) bytes of the device, all processes together."""

    @abstractmethod
    def allocate(self, nbytes: int) -> int:
        """The address of device memory, aligned to 256 bytes at least; its content is undefined.  nbytes > 0."""

    @abstractmethod
    def free(self, address: int) -> None:
        """Returns what `allocate` gave; the device finishes its work first."""

    @abstractmethod
    def allocate_host(self, nbytes: int) -> int:
        """The address of page-locked host memory, which copies reach without a detour and asynchronously."""

    @abstractmethod
    def free_host(self, address: int) -> None:
        """Returns what `allocate_host` gave."""

    @abstractmethod
    def stream(self) -> int:
        """A new stream, not ordered with the legacy default stream."""

    @abstractmethod
    def destroy_stream(self, stream: int) -> None:
        """Ends a stream; its work goes on to the end."""

    @abstractmethod
    def synchronize(self, stream: int) -> None:
        """Waits for the stream; raises what its work failed with."""

    @abstractmethod
    def copy_in(self, device: int, host: int, nbytes: int, stream: int) -> None:
        """Host to device, in stream order; a page-locked source must stay until the stream has come past it."""

    @abstractmethod
    def copy_out(self, host: int, device: int, nbytes: int, stream: int) -> None:
        """Device to host, in stream order."""

    @abstractmethod
    def copy(self, to: int, source: int, nbytes: int, stream: int) -> None:
        """Device to device, in stream order."""

    @abstractmethod
    def copy_peer(self, to: int, ordinal: int, source: int, origin: int, nbytes: int, stream: int) -> None:
        """To the memory of device `ordinal`, the current one, from that of `origin`, in the order of a stream of `ordinal`."""

    @abstractmethod
    def fill(self, address: int, byte: int, nbytes: int, stream: int) -> None:
        """Sets `nbytes` bytes to `byte`."""

    @abstractmethod
    def link(self, ptx: str, label: str = "") -> bytes:
        """PTX made into a cubin for the current device.  Raises DriverError with the assembler's log."""

    @abstractmethod
    def load(self, cubin: bytes) -> int:
        """A module of a cubin."""

    @abstractmethod
    def unload(self, module: int) -> None:
        """Ends a module and its functions."""

    @abstractmethod
    def function(self, module: int, symbol: str) -> int:
        """A kernel of a module; DriverError CUDA_ERROR_NOT_FOUND without one of that name."""

    @abstractmethod
    def attributes(self, function: int) -> dict[str, int]:
        """registers (of a thread), local_bytes (of a thread: spills), shared_bytes (static, of a block), max_threads (of a block)."""

    @abstractmethod
    def prepare(self, function: int, kinds: str, values: Sequence[Any]) -> Any:
        """The arguments of a launch: a letter each, p (address), i (int32), l (int64), f (float32), d (float64)."""

    @abstractmethod
    def launch(self, prepared: Any, grid: tuple[int, int, int], block: tuple[int, int, int], shared_bytes: int, stream: int) -> None:
        """Queues a kernel; the arguments are copied now."""

    @abstractmethod
    def begin_capture(self, stream: int) -> None:
        """What is queued on the stream from now on is recorded instead of run."""

    @abstractmethod
    def end_capture(self, stream: int) -> int:
        """The recorded graph, ready to launch."""

    @abstractmethod
    def launch_graph(self, graph: int, stream: int) -> None:
        """Queues a whole graph."""

    @abstractmethod
    def destroy_graph(self, graph: int) -> None:
        """Ends a graph."""

    @abstractmethod
    def event(self) -> int:
        """A new event, with time."""

    @abstractmethod
    def record(self, event: int, stream: int) -> None:
        """Puts the event behind the work queued on the stream."""

    @abstractmethod
    def elapsed(self, first: int, second: int) -> float:
        """Seconds of device time between two recorded events; waits for the second."""

    @abstractmethod
    def destroy_event(self, event: int) -> None:
        """Ends an event."""

    # What follows has an answer that is right for a driver that does its work at once.

    def expect(self, prepared: Any, extents: Sequence[tuple[int, int]]) -> None:  # noqa: B027
        """Says what memory a launch may touch, (address, bytes) each: an arena hides where one buffer ends.  For drivers that look."""

    def wait(self, stream: int, event: int) -> None:  # noqa: B027
        """Later work of the stream waits for the event.  Nothing to do where work is done when it is queued."""

    def owner(self, address: int) -> int | None:
        """The ordinal of the device whose memory an address is, or None where that is not known."""
        return None

    def release(self, ordinal: int) -> None:  # noqa: B027
        """Gives the device back; memory, streams and modules of it are not to be used any more."""

    def abandon_capture(self, stream: int) -> None:
        """Ends a capture whose recording failed, and forgets it."""
        try:
            self.destroy_graph(self.end_capture(stream))
        except DriverError as error:
            if error.sticky:
                raise


# ---------------------------------------------------------------- the driver in use

_lock = locks.rlock()
_installed: list[Driver] = []               # the last is in use
_found: Driver | Unavailable | None = None  # what looking for libcuda came to
_found_by: Any = None                       # the process and variables it was found with


def current() -> Driver:
    """The driver in use: the one last installed, else libcuda.  Raises Unavailable(reason)."""
    global _found, _found_by
    if _installed:
        return _installed[-1]
    asked = (os.environ.get("GRAPHFLOW_LIBCUDA"), os.environ.get("CUDA_VISIBLE_DEVICES"))
    if _found is None or _found_by != asked and isinstance(_found, Unavailable):
        with _lock:
            _found_by = asked
            try:
                _found = Libcuda()
            except Unavailable as error:
                _found = error
    if isinstance(_found, Unavailable):
        raise Unavailable(_found.reason)
    if isinstance(_found, Libcuda):
        _found.same_process()
    return _found


def why_not() -> str:
    """Why there is no driver to use; empty if there is one."""
    try:
        current()
    except Unavailable as error:
        return error.reason
    return ""


def install(driver: Driver | None) -> None:
    """Uses `driver` from now on in place of libcuda; None: libcuda again."""
    with _lock:
        _installed[:] = [] if driver is None else [driver]


@contextmanager
def installed(driver: Driver) -> Iterator[Driver]:
    """Uses `driver` inside a `with` block."""
    with _lock:
        _installed.append(driver)
    try:
        yield driver
    finally:
        with _lock:
            _installed.remove(driver)


def forget() -> None:
    """Looks for libcuda again at the next `current()`; for tests."""
    global _found
    with _lock:
        _found = None


# ---------------------------------------------------------------- libcuda

_p, _i, _u, _z, _s = ctypes.c_void_p, ctypes.c_int, ctypes.c_uint, ctypes.c_size_t, ctypes.c_char_p
_d = ctypes.c_uint64                        # CUdeviceptr
_ref = ctypes.POINTER                       # where the callee writes

# Every entry point by the symbol that libcuda exports (cuda.h maps the plain names to the versioned ones) with its parameter types.
# All return CUresult.  Handles are pointers, a CUdevice and every enum is an int.
PROTOTYPES: dict[str, tuple[Any, ...]] = {
    "cuInit": (_u,), "cuDriverGetVersion": (_ref(_i),),
    "cuGetErrorName": (_i, _ref(_s)), "cuGetErrorString": (_i, _ref(_s)),
    "cuDeviceGetCount": (_ref(_i),), "cuDeviceGet": (_ref(_i), _i), "cuDeviceGetName": (_p, _i, _i),
    "cuDeviceTotalMem_v2": (_ref(_z), _i), "cuDeviceGetAttribute": (_ref(_i), _i, _i), "cuDeviceGetUuid_v2": (_p, _i),
    "cuDeviceGetPCIBusId": (_p, _i, _i),
    "cuDevicePrimaryCtxRetain": (_ref(_p), _i), "cuDevicePrimaryCtxRelease_v2": (_i,), "cuCtxSetCurrent": (_p,),
    "cuMemGetInfo_v2": (_ref(_z), _ref(_z)), "cuMemAlloc_v2": (_ref(_d), _z), "cuMemFree_v2": (_d,),
    "cuMemHostAlloc": (_ref(_p), _z, _u), "cuMemFreeHost": (_p,), "cuPointerGetAttribute": (_p, _i, _d),
    "cuStreamCreate": (_ref(_p), _u), "cuStreamDestroy_v2": (_p,), "cuStreamSynchronize": (_p,), "cuStreamWaitEvent": (_p, _p, _u),
    "cuMemcpyHtoDAsync_v2": (_d, _p, _z, _p), "cuMemcpyDtoHAsync_v2": (_p, _d, _z, _p), "cuMemcpyDtoDAsync_v2": (_d, _d, _z, _p),
    "cuMemcpyPeerAsync": (_d, _p, _d, _p, _z, _p), "cuDeviceCanAccessPeer": (_ref(_i), _i, _i), "cuCtxEnablePeerAccess": (_p, _u),
    "cuMemsetD8Async": (_d, ctypes.c_ubyte, _z, _p),
    "cuLinkCreate_v2": (_u, _p, _p, _ref(_p)), "cuLinkAddData_v2": (_p, _i, _p, _z, _s, _u, _p, _p),
    "cuLinkComplete": (_p, _ref(_p), _ref(_z)), "cuLinkDestroy": (_p,),
    "cuModuleLoadData": (_ref(_p), _p), "cuModuleUnload": (_p,), "cuModuleGetFunction": (_ref(_p), _p, _s),
    "cuFuncGetAttribute": (_ref(_i), _i, _p), "cuFuncSetAttribute": (_p, _i, _i),
    "cuLaunchKernel": (_p, _u, _u, _u, _u, _u, _u, _u, _p, _p, _p),
    "cuStreamBeginCapture_v2": (_p, _i), "cuStreamEndCapture": (_p, _ref(_p)),
    "cuGraphInstantiateWithFlags": (_ref(_p), _p, ctypes.c_ulonglong), "cuGraphDestroy": (_p,),
    "cuGraphLaunch": (_p, _p), "cuGraphExecDestroy": (_p,),
    "cuEventCreate": (_ref(_p), _u), "cuEventRecord": (_p, _p), "cuEventSynchronize": (_p,), "cuEventDestroy_v2": (_p,),
    "cuEventElapsedTime": (_ref(ctypes.c_float), _p, _p),
}

_QUICK = {"cuCtxSetCurrent", "cuLaunchKernel", "cuGraphLaunch", "cuEventRecord", "cuStreamWaitEvent", "cuMemsetD8Async"}

# Enumerators of cuda.h.
_STREAM_NON_BLOCKING, _EVENT_DEFAULT, _HOST_PORTABLE, _CAPTURE_RELAXED, _INPUT_PTX = 1, 0, 1, 2, 1
_INFO_LOG, _INFO_LOG_BYTES, _ERROR_LOG, _ERROR_LOG_BYTES, _LOG_VERBOSE = 3, 4, 5, 6, 12
_MAX_DYNAMIC_SHARED, _POINTER_MEMORY_TYPE, _POINTER_ORDINAL, _MEMORY_DEVICE = 8, 2, 9, 2
_FUNCTION = {"registers": 4, "local_bytes": 3, "shared_bytes": 1, "max_threads": 0}
_DEVICE = {"multiprocessors": 16, "clock": 13, "memory_clock": 36, "bus": 37, "l2_bytes": 38, "major": 75, "minor": 76, "shared_bytes": 97}
_LOG_BYTES = 16 << 10

# Why cuInit fails, and what to do.
_INIT = {
    34: "the libcuda found is the stub of the CUDA toolkit, which only serves linking; install the NVIDIA driver, or take the stubs folder "
        "out of LD_LIBRARY_PATH",
    100: "the NVIDIA driver sees no device; `nvidia-smi` should list one. In a container, start it with `--gpus all`; a GPU in MIG mode "
         "needs an instance (`nvidia-smi mig -lgi`)",
    802: "the system is not ready; on machines with NVSwitch start the nvidia-fabricmanager service",
    803: "the libcuda library and the kernel module are of different versions; restart the machine after the driver's update",
    804: "this libcuda (of a forward compatibility package) does not serve this device; install a newer NVIDIA driver instead",
    999: "the driver does not start; after a suspend or an update, reload the module nvidia_uvm or restart the machine",
}

# Where it lies though the loader does not look there: under WSL, in containers of Kubernetes, in NixOS.
_FOLDERS = ("/usr/lib/wsl/lib", "/usr/local/nvidia/lib64", "/run/opengl-driver/lib")


def _library_names() -> list[str]:
    named = os.environ.get("GRAPHFLOW_LIBCUDA")
    if named:
        return [named]
    return ["nvcuda.dll"] if sys.platform == "win32" else ["libcuda.so.1", *(f"{folder}/libcuda.so.1" for folder in _FOLDERS)]


def _open() -> Any:
    """The library.  Raises Unavailable."""
    names, said = _library_names(), ""
    for name in names:
        try:
            return ctypes.CDLL(name)
        except OSError as error:
            said = said or str(error)
    if os.environ.get("GRAPHFLOW_LIBCUDA"):
        raise Unavailable(f"The CUDA driver library that GRAPHFLOW_LIBCUDA names cannot be loaded ({said}); correct the variable, or "
                          f"unset it to use the system's.")
    if sys.platform == "darwin":
        raise Unavailable("There is no CUDA on macOS; use a Linux or Windows machine with an NVIDIA GPU.")
    missing = "cannot open" in said or "No such file" in said or "Could not find" in said
    why = "was not found" if missing else f"cannot be loaded ({said})"
    raise Unavailable(f"The NVIDIA driver library {names[0]} {why}; install the NVIDIA driver (version 520 or newer, for CUDA 11.8); in a "
                      f"container, start it with `--gpus all`.")


def version_text(version: int) -> str:
    """13000 -> "13.0"."""
    return f"{version // 1000}.{version % 1000 // 10}"


def too_old(properties: Properties, ordinal: int) -> str:
    """Why a device cannot be used: a sentence, empty if it can."""
    have, need = properties.capability, OLDEST_CAPABILITY
    if have >= need:
        return ""
    return (f"Device {ordinal} ({properties.name}) has compute capability {have[0]}.{have[1]}, and kernels need {need[0]}.{need[1]} "
            f"(Ampere, 2020) or newer; use another GPU.")


_PACK = {"p": ("Q", 1 << 64, 0), "l": ("Q", 1 << 64, 1 << 63), "i": ("I", 1 << 32, 1 << 31), "f": ("f", 0, 0), "d": ("d", 0, 0)}


class Arguments:
    """The arguments of a kernel: `address` is that of an array of pointers, one a parameter, into 8-byte cells."""

    __slots__ = ("function", "kinds", "cells", "pointers", "address")

    def __init__(self, function: int, kinds: str, values: Sequence[Any]):
        if len(kinds) != len(values):
            raise ValueError(f"a kernel with {len(kinds)} parameters ({kinds!r}) got {len(values)} arguments")
        n = len(kinds)
        self.function, self.kinds = function, kinds
        self.cells = (ctypes.c_uint64 * max(n, 1))()
        base = ctypes.addressof(self.cells)
        for k, (kind, value) in enumerate(zip(kinds, values)):
            _store(self.cells, k, kind, value)
        self.pointers = (ctypes.c_uint64 * max(n, 1))(*range(base, base + 8 * n, 8))
        self.address = ctypes.addressof(self.pointers)


def _store(cells: Any, k: int, kind: str, value: Any) -> None:
    """Writes argument `k`.  Integers may be given signed or as bits; TypeError, ValueError for what does not fit."""
    if kind not in _PACK:
        raise ValueError(f"parameter {k} has the unknown kind {kind!r}; known: {', '.join(_PACK)}")
    code, top, low = _PACK[kind]
    if top:
        value = value.__index__()
        if not -low <= value < top:
            raise ValueError(f"argument {k} of kind {kind!r} must be in [{-low}, {top}), got {value}")
        value %= top
    struct.pack_into(f"={code}", cells, 8 * k, value)


class Libcuda(Driver):
    """The driver of NVIDIA, by ctypes.  Raises Unavailable if it is missing, too old, or has no device that can be used."""

    def __init__(self) -> None:
        if os.environ.get("CUDA_VISIBLE_DEVICES", "all").strip() in ("", "-1", "NoDevFiles"):
            raise Unavailable("The environment variable CUDA_VISIBLE_DEVICES hides every GPU; unset it, or set it to the numbers to use, "
                              "like CUDA_VISIBLE_DEVICES=0.")
        library = _open()
        self.version = _version(library)
        self.name = f"CUDA {version_text(self.version)}"
        # What only queues keeps Python's lock: with another thread in Python, to have it back takes 5 ms (sys.getswitchinterval) a call.
        quick = ctypes.PyDLL(library._name)
        self.api: Any = SimpleNamespace(**{symbol: _symbol(quick if symbol in _QUICK else library, symbol) for symbol in PROTOTYPES})
        self._lock = locks.rlock()
        self._contexts: dict[int, int] = {}
        self._properties: dict[int, Properties] = {}
        self._shared: dict[int, int] = {}               # function -> dynamic shared memory asked for
        self._peers: set[tuple[int, int]] = set()       # (device, other) that have been asked whether one reaches the other's memory
        self._pid, self._set_current, self._launch = os.getpid(), self.api.cuCtxSetCurrent, self.api.cuLaunchKernel
        self._start()

    def _start(self) -> None:
        code = self.api.cuInit(0)
        if code:
            error = self._error(code, "cuInit")
            raise Unavailable(f"CUDA does not start ({error.name}): {_why(code, error.text + '; `nvidia-smi` may say more')}.")
        try:
            faults = [too_old(self.properties(k), k) for k in range(self.count())]
        except DriverError as error:
            raise Unavailable(f"CUDA starts, but its devices cannot be asked what they are ({error}); `nvidia-smi` may say more."
                              ) from error
        if not faults:
            raise Unavailable(f"CUDA does not start: {_why(100)}.")
        if all(faults):
            raise Unavailable(" ".join(faults))

    # ---- errors

    def _error(self, code: int, call: str, more: str = "") -> DriverError:
        return DriverError(code, self._word(self.api.cuGetErrorName, code) or NAMES.get(code, "CUDA_ERROR_UNKNOWN"),
                           f"{call}: {self._word(self.api.cuGetErrorString, code)}" + more)

    def _word(self, ask: Any, code: int) -> str:
        word = ctypes.c_char_p()
        return (word.value or b"").decode() if not ask(code, word) else ""

    def _do(self, call: str, *args: Any) -> None:
        code = getattr(self.api, call)(*args)
        if code:
            raise self._error(code, call)

    def _get(self, call: str, kind: Any, *args: Any) -> Any:
        """The value that a call writes through its first parameter."""
        out = kind()
        self._do(call, out, *args)
        return out.value or 0

    def same_process(self) -> None:
        """Raises Unavailable in a child made by fork."""
        if self._pid != os.getpid():
            raise Unavailable(f"This process was forked from process {self._pid} after CUDA had started there, and CUDA does not survive a "
                              f"fork; start workers with multiprocessing.get_context('spawn'), or fork before the first use of a GPU.")

    # ---- devices

    def count(self) -> int:
        return self._get("cuDeviceGetCount", ctypes.c_int)

    def properties(self, ordinal: int) -> Properties:
        known = self._properties.get(ordinal)
        if known is None:
            known = self._properties[ordinal] = self._ask(self._get("cuDeviceGet", ctypes.c_int, ordinal))
        return known

    def _ask(self, device: int) -> Properties:
        a = {name: self._attribute(name, number, device) for name, number in _DEVICE.items()}
        uuid = ctypes.create_string_buffer(16)
        self._do("cuDeviceGetUuid_v2", uuid, device)
        u = uuid.raw.hex()
        return Properties(
            self._text("cuDeviceGetName", device), (a["major"], a["minor"]), self._get("cuDeviceTotalMem_v2", ctypes.c_size_t, device),
            a["multiprocessors"], self._text("cuDeviceGetPCIBusId", device), self.version,
            f"GPU-{u[:8]}-{u[8:12]}-{u[12:16]}-{u[16:20]}-{u[20:]}", a["shared_bytes"], a["l2_bytes"], 1e3 * a["clock"],
            2 * 1e3 * a["memory_clock"] * (a["bus"] // 8))            # kHz, bits, two transfers a clock

    def _attribute(self, name: str, number: int, device: int) -> int:
        """Of a device.  0 for what is only told to people, where a driver does not know it any more."""
        try:
            return self._get("cuDeviceGetAttribute", ctypes.c_int, number, device)
        except DriverError as error:
            if error.code != 1 or name in ("major", "minor", "multiprocessors", "shared_bytes"):
                raise
            return 0

    def _text(self, call: str, device: int) -> str:
        text = ctypes.create_string_buffer(256)
        self._do(call, text, len(text), device)
        return text.value.decode(errors="replace")

    def use(self, ordinal: int) -> None:
        if self._pid != os.getpid():
            self.same_process()
        # Told to the driver each time: another library may have made another context current on this thread.
        code = self._set_current(self._contexts.get(ordinal) or self._retain(ordinal))
        if code:
            raise self._error(code, "cuCtxSetCurrent")

    def _retain(self, ordinal: int) -> int:
        with self._lock:
            if ordinal not in self._contexts:
                device = self._get("cuDeviceGet", ctypes.c_int, ordinal)
                self._contexts[ordinal] = self._get("cuDevicePrimaryCtxRetain", ctypes.c_void_p, device)
            return self._contexts[ordinal]

    def release(self, ordinal: int) -> None:
        with self._lock:
            if self._contexts.pop(ordinal, None) is not None:
                self._peers = {pair for pair in self._peers if ordinal not in pair}
                self._do("cuDevicePrimaryCtxRelease_v2", self._get("cuDeviceGet", ctypes.c_int, ordinal))

    def memory(self, ordinal: int) -> tuple[int, int]:
        self.use(ordinal)
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        self._do("cuMemGetInfo_v2", free, total)
        return free.value, total.value

    def owner(self, address: int) -> int | None:
        kind, ordinal = ctypes.c_uint(), ctypes.c_int()
        if self.api.cuPointerGetAttribute(ctypes.addressof(kind), _POINTER_MEMORY_TYPE, address) or kind.value != _MEMORY_DEVICE:
            return None
        return None if self.api.cuPointerGetAttribute(ctypes.addressof(ordinal), _POINTER_ORDINAL, address) else ordinal.value

    # ---- memory

    def allocate(self, nbytes: int) -> int:
        return self._get("cuMemAlloc_v2", ctypes.c_uint64, nbytes)

    def free(self, address: int) -> None:
        self._do("cuMemFree_v2", address)

    def allocate_host(self, nbytes: int) -> int:
        return self._get("cuMemHostAlloc", ctypes.c_void_p, nbytes, _HOST_PORTABLE)

    def free_host(self, address: int) -> None:
        self._do("cuMemFreeHost", address)

    def copy_in(self, device: int, host: int, nbytes: int, stream: int) -> None:
        self._do("cuMemcpyHtoDAsync_v2", device, host, nbytes, stream)

    def copy_out(self, host: int, device: int, nbytes: int, stream: int) -> None:
        self._do("cuMemcpyDtoHAsync_v2", host, device, nbytes, stream)

    def copy(self, to: int, source: int, nbytes: int, stream: int) -> None:
        self._do("cuMemcpyDtoDAsync_v2", to, source, nbytes, stream)

    def copy_peer(self, to: int, ordinal: int, source: int, origin: int, nbytes: int, stream: int) -> None:
        if (ordinal, origin) not in self._peers:
            self._reach(ordinal, origin)
        self._do("cuMemcpyPeerAsync", to, self._contexts[ordinal], source, self._contexts[origin], nbytes, stream)

    def _reach(self, ordinal: int, origin: int) -> None:
        """Lets a device, which is current, reach the other's memory where it can; elsewhere the driver copies through the host."""
        with self._lock:
            self._peers.add((ordinal, origin))
            one, other = (self._get("cuDeviceGet", ctypes.c_int, k) for k in (ordinal, origin))
            if self._get("cuDeviceCanAccessPeer", ctypes.c_int, one, other):
                code = self.api.cuCtxEnablePeerAccess(self._contexts.get(origin) or self._retain(origin), 0)
                if code not in (0, _PEER_ENABLED, _PEERS_EXHAUSTED):  # by another library; more than the system's links serve
                    raise self._error(code, "cuCtxEnablePeerAccess")

    def fill(self, address: int, byte: int, nbytes: int, stream: int) -> None:
        self._do("cuMemsetD8Async", address, byte, nbytes, stream)

    # ---- streams and events

    def stream(self) -> int:
        return self._get("cuStreamCreate", ctypes.c_void_p, _STREAM_NON_BLOCKING)

    def destroy_stream(self, stream: int) -> None:
        self._do("cuStreamDestroy_v2", stream)

    def synchronize(self, stream: int) -> None:
        self._do("cuStreamSynchronize", stream)

    def wait(self, stream: int, event: int) -> None:
        self._do("cuStreamWaitEvent", stream, event, 0)

    def event(self) -> int:
        return self._get("cuEventCreate", ctypes.c_void_p, _EVENT_DEFAULT)

    def record(self, event: int, stream: int) -> None:
        self._do("cuEventRecord", event, stream)

    def elapsed(self, first: int, second: int) -> float:
        self._do("cuEventSynchronize", second)
        return 1e-3 * self._get("cuEventElapsedTime", ctypes.c_float, first, second)

    def destroy_event(self, event: int) -> None:
        self._do("cuEventDestroy_v2", event)

    # ---- code

    def link(self, ptx: str, label: str = "") -> bytes:
        info, errors = ctypes.create_string_buffer(_LOG_BYTES), ctypes.create_string_buffer(_LOG_BYTES)
        # The driver writes the used sizes back into the values, so the arrays live until the state is destroyed.
        options = (ctypes.c_int * 4)(_INFO_LOG, _INFO_LOG_BYTES, _ERROR_LOG, _ERROR_LOG_BYTES)
        values = (ctypes.c_void_p * 4)(ctypes.addressof(info), _LOG_BYTES, ctypes.addressof(errors), _LOG_BYTES)
        state = ctypes.c_void_p()
        self._do("cuLinkCreate_v2", 4, ctypes.addressof(options), ctypes.addressof(values), state)
        try:
            text, cubin, size = ctypes.create_string_buffer(ptx.encode()), ctypes.c_void_p(), ctypes.c_size_t()
            name = (label or "kernel").encode()
            code = self.api.cuLinkAddData_v2(state, _INPUT_PTX, ctypes.addressof(text), len(text), name, 0, None, None)
            code = code or self.api.cuLinkComplete(state, cubin, size)
            if code:
                log = errors.value.decode(errors="replace").strip()
                raise self._error(code, f"linking {label or 'a kernel'}", f"\n{log}" if log else "")
            return ctypes.string_at(cubin.value or 0, size.value)
        finally:
            self.api.cuLinkDestroy(state)

    def load(self, cubin: bytes) -> int:
        return self._get("cuModuleLoadData", ctypes.c_void_p, ctypes.cast(ctypes.c_char_p(cubin), ctypes.c_void_p))

    def unload(self, module: int) -> None:
        self._do("cuModuleUnload", module)

    def function(self, module: int, symbol: str) -> int:
        function = self._get("cuModuleGetFunction", ctypes.c_void_p, module, symbol.encode())
        self._shared.pop(function, None)                              # the handle may be that of an unloaded one
        return function

    def attributes(self, function: int) -> dict[str, int]:
        return {name: self._get("cuFuncGetAttribute", ctypes.c_int, number, function) for name, number in _FUNCTION.items()}

    def prepare(self, function: int, kinds: str, values: Sequence[Any]) -> Arguments:
        return Arguments(function, kinds, values)

    def launch(self, prepared: Arguments, grid: tuple[int, int, int], block: tuple[int, int, int], shared_bytes: int, stream: int) -> None:
        if shared_bytes > PLAIN_SHARED_BYTES and self._shared.get(prepared.function, 0) < shared_bytes:
            self._do("cuFuncSetAttribute", prepared.function, _MAX_DYNAMIC_SHARED, shared_bytes)
            self._shared[prepared.function] = shared_bytes
        code = self._launch(prepared.function, *grid, *block, shared_bytes, stream, prepared.address, None)
        if code:
            raise self._error(code, f"cuLaunchKernel with grid {grid}, block {block}, {shared_bytes} bytes of shared memory")

    # ---- graphs

    def begin_capture(self, stream: int) -> None:
        # Relaxed: memory that the garbage collector returns while a graph is recorded must not spoil the recording.
        self._do("cuStreamBeginCapture_v2", stream, _CAPTURE_RELAXED)

    def end_capture(self, stream: int) -> int:
        graph = ctypes.c_void_p()
        self._do("cuStreamEndCapture", stream, graph)
        try:
            return self._get("cuGraphInstantiateWithFlags", ctypes.c_void_p, graph, 0)
        finally:
            self._do("cuGraphDestroy", graph)

    def launch_graph(self, graph: int, stream: int) -> None:
        code = self.api.cuGraphLaunch(graph, stream)
        if code:
            raise self._error(code, "cuGraphLaunch")

    def destroy_graph(self, graph: int) -> None:
        self._do("cuGraphExecDestroy", graph)


def _why(code: int, otherwise: str = "") -> str:
    """Why CUDA does not start."""
    shown = os.environ.get("CUDA_VISIBLE_DEVICES")
    if code == 100 and shown is not None:
        return (f"CUDA_VISIBLE_DEVICES={shown} names no device that is here: numbers from 0 on, or names that begin with GPU- or MIG- as "
                f"`nvidia-smi -L` shows them; correct or unset it")
    return _INIT.get(code, otherwise)


def _symbol(library: Any, name: str) -> Any:
    """An entry point with its types.  Raises Unavailable if the driver has none of that name."""
    try:
        function = getattr(library, name)
    except AttributeError:
        raise Unavailable(f"The NVIDIA driver has no {name}; install a newer one (version 520 or newer, for CUDA 11.8).") from None
    function.argtypes, function.restype = PROTOTYPES[name], ctypes.c_int
    return function


def _version(library: Any) -> int:
    """The newest CUDA that the driver serves.  Raises Unavailable if that is too old."""
    version = ctypes.c_int()
    code = _symbol(library, "cuDriverGetVersion")(version)
    if code:
        raise Unavailable(f"CUDA does not start ({NAMES.get(code, code)}): {_why(code, '`nvidia-smi` may say more')}.")
    if version.value < OLDEST_DRIVER:
        raise Unavailable(f"The NVIDIA driver serves CUDA {version_text(version.value)}, and kernels need {version_text(OLDEST_DRIVER)} or "
                          f"newer; install a newer driver (version 520 or newer).")
    return version.value
