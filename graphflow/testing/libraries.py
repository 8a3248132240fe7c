"""cuBLASLt and cuDNN played by NumPy: objects with their C functions, which read descriptors and memory as the manuals say.

Written from NVIDIA's documentation of the two interfaces, and apart from graphflow.runtime.cuda.libraries: attributes by number, matrices
by columns, convolutions by their definition.  What a real library refuses (a descriptor that is not finished, an attribute of the wrong
size, a result without room for it, an algorithm chosen for something else) is a status here as well, or a `Misuse` where a real library
would just compute nonsense.

    with emulated_gpu() as driver, emulated_libraries(driver) as (cublaslt, cudnn): ...
"""
from __future__ import annotations

import ctypes
import itertools
import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import numpy as np

from graphflow import types

WRITTEN = 3  # state of a byte of an emulated device (testing.emulator.memory)

Memory = Callable[[int, int, bool], np.ndarray]  # (address, bytes, to be written?) -> those bytes
Queue = Callable[[int, Callable[[], None]], None]  # puts work on a stream


class Misuse(AssertionError):
    """A call whose result would be undefined."""


def at_once(stream: int, work: Callable[[], None]) -> None:
    """A queue that works when it is asked to."""
    work()


class HostMemory:
    """Memory made of NumPy arrays; their addresses stand for device addresses, and nothing else may be touched."""

    def __init__(self) -> None:
        self.spans: dict[int, np.ndarray] = {}

    def put(self, array: np.ndarray, alignment: int = 256) -> int:
        """Copies the array into memory; its address."""
        raw = np.zeros(array.nbytes + alignment, np.uint8)
        skip = -raw.ctypes.data % alignment
        view = raw[skip:skip + array.nbytes]
        view[:] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)
        self.spans[view.ctypes.data] = view
        return view.ctypes.data

    def get(self, address: int, dtype: Any, shape: Any = -1) -> np.ndarray:
        return self.spans[address].view(dtype).reshape(shape)

    def __call__(self, address: int, nbytes: int, write: bool) -> np.ndarray:
        for start, span in self.spans.items():
            if start <= address and address + nbytes <= start + span.nbytes:
                return span[address - start:address - start + nbytes]
        raise Misuse(f"{nbytes} bytes at {address:#x} are not in one array")


class DeviceMemory:
    """The memory of an emulated driver (testing.gpu); to read what nothing wrote is misuse."""

    def __init__(self, driver: Any):
        self.driver = driver

    def __call__(self, address: int, nbytes: int, write: bool) -> np.ndarray:
        ordinal = self.driver.owner(address)
        if ordinal is None:
            raise Misuse(f"{address:#x} is no address of a device")
        memory = self.driver.device_memory(ordinal)
        first = address - memory.base
        where = slice(first, first + nbytes)
        found = memory.find(address)
        if found is None or address < found.address or address + nbytes > found.address + found.nbytes:
            raise Misuse(f"{nbytes} bytes at {address:#x} are not inside an allocation")
        if write:
            memory.state[where] = WRITTEN
        elif (memory.state[where] != WRITTEN).any():
            raise Misuse(f"{nbytes} bytes at {address:#x} are read, and not all of them were written")
        return memory.data[where]


@contextmanager
def emulated_libraries(driver: Any) -> Iterator[tuple[FakeCublasLt, FakeCudnn]]:
    """Inside the `with` block products and convolutions on an emulated GPU are asked of the played libraries."""
    from graphflow.runtime.cuda import libraries

    def queue(stream: int, work: Callable[[], None]) -> None:
        driver._queue("library", stream, work)
    played = FakeCublasLt(DeviceMemory(driver), queue), FakeCudnn(DeviceMemory(driver), queue)
    try:
        with libraries.installed(cublaslt=played[0], cudnn=played[1]):
            yield played
    finally:
        libraries.forget()


def _value(kind: Any, address: int) -> Any:
    return kind.from_address(address).value


def _write(address: int, kind: Any, value: Any) -> None:
    kind.from_address(address).value = value


# Elements as they lie in memory, and the numbers that they stand for.
STORED = {"f32": np.float32, "f64": np.float64, "f16": np.float16, "bf16": np.uint16}


def _numbers(raw: np.ndarray, kind: str) -> np.ndarray:
    stored = raw.view(STORED[kind])
    return types.bf16_decode(stored) if kind == "bf16" else stored.astype(np.float64 if kind == "f64" else np.float32)


def _bits(values: np.ndarray, kind: str) -> np.ndarray:
    with np.errstate(over="ignore"):
        return types.bf16_encode(values) if kind == "bf16" else values.astype(STORED[kind])


def _gelu(x: np.ndarray) -> np.ndarray:
    return 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x ** 3)))


def _gelu_slope(x: np.ndarray) -> np.ndarray:
    t = np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x ** 3))
    return 0.5 * (1 + t) + 0.5 * x * (1 - t * t) * np.sqrt(2 / np.pi) * (1 + 3 * 0.044715 * x * x)


# ---------------------------------------------------------------- cuBLASLt

NOT_INITIALIZED, INVALID_VALUE, NOT_SUPPORTED = 1, 7, 15
CUDA_TYPES = {0: "f32", 1: "f64", 2: "f16", 14: "bf16"}  # cudaDataType
_SIZES = {3: 4, 4: 4, 5: 4, 7: 4, 8: 8, 10: 8, 11: 8, 12: 8, 13: 8, 22: 4, 26: 4}  # bytes of cublasLtMatmulDescAttributes_t
_LAYOUT_SIZES = {1: 4, 5: 4, 6: 8}
_PREFERENCE_SIZES = {0: 4, 1: 8, 3: 4, 5: 4, 6: 4, 7: 4, 8: 4, 9: 4}


class _Object:
    def __init__(self, kind: str, **values: Any):
        self.kind = kind
        self.values: dict[str, Any] = values
        self.attributes: dict[int, Any] = {}

    def number(self, attribute: int, default: int = 0) -> int:
        return int.from_bytes(self.attributes[attribute], "little", signed=True) if attribute in self.attributes else default


class FakeCublasLt:
    """The functions of cublasLt.h that are used here, on `memory`."""

    def __init__(self, memory: Memory, queue: Queue = at_once, workspace: int = 4096):
        self.memory, self.queue, self.needs = memory, queue, workspace
        self.objects: dict[int, _Object] = {}
        self.numbers = itertools.count(0x1000, 16)
        self.chosen: dict[int, tuple] = {}
        self.calls: list[tuple] = []
        self.broken = 0  # a status that every product returns

    def _new(self, out: int, made: _Object) -> int:
        number = next(self.numbers)
        self.objects[number] = made
        _write(out, ctypes.c_void_p, number)
        return 0

    def cublasLtGetVersion(self) -> int:
        return 130400

    def cublasLtGetStatusString(self, status: int) -> bytes:
        return {1: b"the library was not initialized", 7: b"an unsupported value or parameter was passed to the function",
                14: b"an internal operation failed", 15: b"the requested functionality is not supported"}.get(status, b"unknown")

    def cublasLtCreate(self, out: int) -> int:
        return self._new(out, _Object("handle"))

    def cublasLtMatmulDescCreate(self, out: int, compute: int, scale: int) -> int:
        if (compute, scale) not in ((68, 0), (77, 0), (70, 1)):
            return INVALID_VALUE
        return self._new(out, _Object("product", compute=compute, scale=scale))

    def cublasLtMatrixLayoutCreate(self, out: int, kind: int, rows: int, columns: int, ld: int) -> int:
        if kind not in CUDA_TYPES or rows < 1 or columns < 1:
            return INVALID_VALUE
        return self._new(out, _Object("layout", data=CUDA_TYPES[kind], rows=rows, columns=columns, ld=ld))

    def cublasLtMatmulPreferenceCreate(self, out: int) -> int:
        return self._new(out, _Object("preference"))

    def _set(self, kind: str, sizes: dict[int, int], number: int, attribute: int, value: int, size: int) -> int:
        o = self.objects.get(number)
        if o is None or o.kind != kind or sizes.get(attribute) != size:
            return INVALID_VALUE
        o.attributes[attribute] = ctypes.string_at(value, size)
        return 0

    def cublasLtMatmulDescSetAttribute(self, *a: int) -> int:
        return self._set("product", _SIZES, *a)

    def cublasLtMatrixLayoutSetAttribute(self, *a: int) -> int:
        return self._set("layout", _LAYOUT_SIZES, *a)

    def cublasLtMatmulPreferenceSetAttribute(self, *a: int) -> int:
        return self._set("preference", _PREFERENCE_SIZES, *a)

    def _destroy(self, number: int) -> int:
        return 0 if self.objects.pop(number, None) is not None else INVALID_VALUE

    cublasLtMatmulDescDestroy = cublasLtMatrixLayoutDestroy = cublasLtMatmulPreferenceDestroy = cublasLtDestroy = _destroy

    # -- an algorithm is for one problem

    def _problem(self, product: int, *layouts: int) -> tuple:
        """What an algorithm is chosen for."""
        p = self.objects[product]
        shape = tuple((*sorted(self.objects[x].values.items()), *sorted(self.objects[x].attributes.items())) for x in layouts)
        return (*sorted(p.values.items()), *[(k, v) for k, v in sorted(p.attributes.items()) if k not in (8, 11)], *shape)

    def cublasLtMatmulAlgoGetHeuristic(self, handle: int, product: int, a: int, b: int, c: int, d: int, preference: int, most: int,
                                       results: int, count: int) -> int:
        if self.objects[handle].kind != "handle" or most < 1:
            return INVALID_VALUE
        _write(count, ctypes.c_int, 0)
        status = self._invalid(product, a, b, c, d)
        if status:
            return status
        limit = self.objects[preference].number(1)
        need = self.needs if limit >= self.needs else 0
        if self.objects[d].values["data"] in ("f16", "bf16") and self.objects[preference].number(3, 7) & ~2:
            raise Misuse("partial sums of a half precision result are added in half precision")
        token = next(self.numbers)
        self.chosen[token] = (self._problem(product, a, b, c, d), need,
                              [self.objects[preference].number(n, 256) for n in (5, 6, 7, 8)])
        ctypes.memset(results, 0, 96)
        _write(results, ctypes.c_uint64, token)
        _write(results + 64, ctypes.c_size_t, need)
        _write(count, ctypes.c_int, 1)
        return 0

    def _invalid(self, product: int, *layouts: int) -> int:
        """The status of what the manual does not allow."""
        p, (a, b, c, d) = self.objects[product], [self.objects[x] for x in layouts]
        epilogue, kinds = p.number(7, 1), [x.values["data"] for x in (a, b, c, d)]
        for x, turned in ((a, p.number(3)), (b, p.number(4)), (c, 0), (d, 0)):
            if x.values["ld"] < x.values["rows"] or turned not in (0, 1):
                return INVALID_VALUE
        rows = lambda x, t: x.values["columns" if t else "rows"]  # noqa: E731
        columns = lambda x, t: x.values["rows" if t else "columns"]  # noqa: E731
        ta, tb = p.number(3), p.number(4)
        fits = rows(a, ta) == rows(d, 0) and columns(b, tb) == columns(d, 0) and columns(a, ta) == rows(b, tb)
        if not fits or len({x.number(5, 1) for x in (a, b, c, d)}) != 1 or d.number(5, 1) > 1 and not d.number(6):
            return INVALID_VALUE
        double = p.values["compute"] == 70
        same = kinds[0] == kinds[1] and kinds[2] == kinds[3] and (kinds[0] == "f64") == double == (kinds[3] == "f64")
        if not same or kinds[0] == "f32" and kinds[3] != "f32" or kinds[3] not in (kinds[0], "f32") or double and epilogue != 1:
            return NOT_SUPPORTED
        if epilogue & 128:
            by = 128 if epilogue & (2 | 8) else 8
            if p.number(12) % by or p.number(12) < d.values["rows"]:
                return INVALID_VALUE
        return 0

    def cublasLtMatmul(self, handle: int, product: int, alpha: int, a: int, la: int, b: int, lb: int, beta: int, c: int, lc: int,
                       d: int, ld: int, algorithm: int, workspace: int, nbytes: int, stream: int) -> int:
        status = self.broken or self._invalid(product, la, lb, lc, ld)
        if status or self.objects[handle].kind != "handle":
            return status or INVALID_VALUE
        problem, need, alignments = self.chosen[_value(ctypes.c_uint64, algorithm)]
        if problem != self._problem(product, la, lb, lc, ld):
            raise Misuse("an algorithm that was chosen for another product")
        if any(address % n for address, n in zip((a, b, c, d), alignments)):
            raise Misuse("an address that is less aligned than its algorithm was promised")
        if need > nbytes:
            return INVALID_VALUE
        p = self.objects[product]
        scale = ctypes.c_double if p.values["scale"] == 1 else ctypes.c_float
        factors = _value(scale, alpha), _value(scale, beta)
        attributes, layouts = dict(p.attributes), [self.objects[x] for x in (la, lb, lc, ld)]
        snapshot = _Object("product", **p.values)
        snapshot.attributes = attributes
        self.calls.append((p.number(7, 1), d))
        self.queue(stream, lambda: self._multiply(snapshot, layouts, (a, b, c, d), factors, (workspace, need)))
        return 0

    # -- the product

    def _matrix(self, x: _Object, address: int, batch: int, write: bool = False) -> np.ndarray:
        """A view of the stored elements [rows, columns] of a column-major matrix."""
        v, size = x.values, np.dtype(STORED[x.values["data"]]).itemsize
        start = address + batch * x.number(6) * size
        raw = self.memory(start, ((v["columns"] - 1) * v["ld"] + v["rows"]) * size, write).view(STORED[v["data"]])
        return np.lib.stride_tricks.as_strided(raw, (v["rows"], v["columns"]), (size, v["ld"] * size))

    def _multiply(self, p: _Object, layouts: list[_Object], addresses: tuple, factors: tuple, space: tuple[int, int]) -> None:
        if space[1]:
            self.memory(*space, True)[:] = 0xA5  # a library may do so at any time
        la, lb, lc, ld = layouts
        for batch in range(ld.number(5, 1)):
            a, b = (_numbers(np.ascontiguousarray(self._matrix(x, at, batch)), x.values["data"]) for x, at in zip((la, lb), addresses))
            a, b = a.T if p.number(3) else a, b.T if p.number(4) else b
            value = factors[0] * (a @ b)
            if factors[1]:
                value = value + factors[1] * _numbers(np.ascontiguousarray(self._matrix(lc, addresses[2], batch)), lc.values["data"])
            value = self._epilogue(p, ld, value, a, b, batch)
            self._matrix(ld, addresses[3], batch, True)[:] = _bits(value, ld.values["data"])

    def _epilogue(self, p: _Object, ld: _Object, value: np.ndarray, a: np.ndarray, b: np.ndarray, batch: int) -> np.ndarray:
        epilogue, kind = p.number(7, 1), ld.values["data"]
        size = np.dtype(STORED[kind]).itemsize

        def vector(n: int, write: bool = True) -> np.ndarray:
            return self.memory(p.number(8) + batch * p.number(10) * size, n * size, write).view(STORED[kind])
        if epilogue & 4:
            value = value + _numbers(vector(len(value), False), kind)[:, None]
        if epilogue & 2:
            if epilogue & 128:
                self._mask(p, value.shape, True).put(value > 0)
            value = np.fmax(value, 0)  # NaN becomes 0, as NVIDIA's does
        if epilogue & 8:
            value = np.where(self._mask(p, value.shape, False).bits(), value, 0)
        if epilogue & (32 | 64):
            aux = self._values(p, kind, value.shape, epilogue & 32 > 0) if epilogue & 128 else None
            if epilogue & 32:
                if aux is not None:
                    aux[:] = _bits(value, kind)
                value = _gelu(value)
            else:
                value = value * _gelu_slope(_numbers(np.ascontiguousarray(aux), kind))
        if epilogue & 16:
            vector(len(value))[:] = _bits(value.sum(1), kind)
        if epilogue & 256:
            vector(len(value))[:] = _bits(a.sum(1), kind)
        if epilogue & 512:
            vector(value.shape[1])[:] = _bits(b.sum(0), kind)
        return value

    def _values(self, p: _Object, kind: str, shape: tuple[int, ...], write: bool) -> np.ndarray:
        size, ld = np.dtype(STORED[kind]).itemsize, p.number(12)
        raw = self.memory(p.number(11), ((shape[1] - 1) * ld + shape[0]) * size, write).view(STORED[kind])
        return np.lib.stride_tricks.as_strided(raw, shape, (size, ld * size))

    def _mask(self, p: _Object, shape: tuple[int, ...], write: bool) -> _Mask:
        raw = self.memory(p.number(11), (shape[1] * p.number(12)) // 8, write)
        return _Mask(raw.reshape(shape[1], p.number(12) // 8), shape)


class _Mask:
    """A bit for each element of a column-major matrix."""

    def __init__(self, raw: np.ndarray, shape: tuple[int, ...]):
        self.raw, self.shape = raw, shape

    def put(self, value: np.ndarray) -> None:
        wide = np.zeros((self.shape[1], self.raw.shape[1] * 8), bool)
        wide[:, :self.shape[0]] = value.T
        self.raw[:] = np.packbits(wide, axis=1, bitorder="little")

    def bits(self) -> np.ndarray:
        return np.unpackbits(self.raw, axis=1, bitorder="little")[:, :self.shape[0]].T.astype(bool)


# ---------------------------------------------------------------- cuDNN

BAD_PARAM, NOT_FINALIZED, ATTRIBUTE_TYPE, DNN_NOT_SUPPORTED = 2000, 2004, 2010, 3000
# cudnnBackendAttributeType_t -> C type.
_TYPES: dict[int, Any] = {0: ctypes.c_void_p, 1: ctypes.c_int, 2: ctypes.c_bool, 3: ctypes.c_int64, 4: ctypes.c_float, 5: ctypes.c_double,
                          6: ctypes.c_void_p, 7: ctypes.c_int, 8: ctypes.c_int, 10: ctypes.c_int, 11: ctypes.c_int, 14: ctypes.c_int,
                          15: ctypes.c_void_p, 24: ctypes.c_char}
_ATTRIBUTES = {  # of each descriptor: attribute -> its type
    0: {0: 14, 1: 1, 2: 10}, 1: {100: 1, 101: 7, 102: 3, 103: 3, 104: 3, 105: 3, 106: 3},
    4: {200: 8, 201: 15, 204: 15}, 5: {400: 0, 401: 15, 407: 15},
    10: {700: 4, 701: 4, 702: 15, 703: 15, 704: 15, 705: 15}, 11: {712: 4, 713: 4, 714: 15, 715: 15, 716: 15, 717: 15},
    12: {706: 4, 707: 4, 708: 15, 709: 15, 710: 15, 711: 15}, 13: {750: 15, 751: 15, 752: 15, 753: 15}, 15: {800: 0, 801: 15},
    16: {1000: 3, 1001: 6, 1003: 6}, 17: {900: 3, 901: 1, 902: 3, 903: 3, 906: 3, 907: 2}, 38: {2702: 24}}
_REQUIRED = {
    0: (0, 1), 1: range(100, 107), 4: (200, 201), 5: (401,), 10: range(700, 706), 11: range(712, 718), 12: range(706, 712),
    13: (750, 751, 753), 15: (801,), 16: (1000, 1001), 17: (900, 901, 902, 903, 906), 38: (2702,)}
_DNN_TYPES = {0: "f32", 1: "f64", 2: "f16", 9: "bf16"}
# Engines by heuristic mode: (number, numerical notes, bytes of workspace).
ENGINES: dict[int, list] = {
    3: [(67, (0, 1), 0), (66, (0, 4), 0), (65, (0,), 1 << 40), (62, (0,), 131), (1, (4,), 2048), (70, (), 2304)], 2: [(0, (9,), 0)]}


class FakeCudnn:
    """The functions of cudnn_graph.h that are used here, on `memory`."""

    def __init__(self, memory: Memory, queue: Queue = at_once, version: int = 92801, engines: dict[int, list] | None = None):
        self.memory, self.queue, self.version = memory, queue, version
        self.engines: dict[int, list] = engines or ENGINES
        self.objects: dict[int, _Object] = {}
        self.numbers = itertools.count(0x1000, 16)
        self.handles: dict[int, int] = {}
        self.calls: list[tuple[int, str]] = []  # (engine, kind of convolution)
        self.operations: list[str] = []  # of the last call: descriptor types
        self.why = b""

    def cudnnGetVersion(self) -> int:
        return self.version

    def cudnnGetCudartVersion(self) -> int:
        return 13000

    def cudnnGetErrorString(self, status: int) -> bytes:
        return {2000: b"CUDNN_STATUS_BAD_PARAM", 2004: b"CUDNN_STATUS_BAD_PARAM_NOT_FINALIZED", 3000: b"CUDNN_STATUS_NOT_SUPPORTED",
                2010: b"CUDNN_STATUS_BAD_PARAM_ATTRIBUTE_TYPE"}.get(status, b"CUDNN_STATUS_INTERNAL_ERROR")

    def cudnnGetLastErrorString(self, out: int, size: int) -> None:
        ctypes.memmove(out, self.why[:size - 1] + b"\0", min(len(self.why), size - 1) + 1)

    def _fails(self, status: int, why: str) -> int:
        self.why = why.encode()
        return status

    def cudnnCreate(self, out: int) -> int:
        number = next(self.numbers)
        self.handles[number] = 0
        _write(out, ctypes.c_void_p, number)
        return 0

    def cudnnSetStream(self, handle: int, stream: int) -> int:
        self.handles[handle] = stream
        return 0

    def cudnnBackendCreateDescriptor(self, kind: int, out: int) -> int:
        number = next(self.numbers)
        self.objects[number] = _Object(str(kind), finished=False)
        _write(out, ctypes.c_void_p, number)
        return 0

    def cudnnBackendDestroyDescriptor(self, number: int) -> int:
        return 0 if self.objects.pop(number, None) is not None else BAD_PARAM

    def cudnnBackendSetAttribute(self, number: int, attribute: int, kind: int, count: int, values: int) -> int:
        o = self.objects[number]
        known = _ATTRIBUTES.get(int(o.kind), {}).get(attribute)
        if o.values["finished"] or known is None:
            return self._fails(BAD_PARAM, f"attribute {attribute} of a descriptor of type {o.kind}")
        if kind != known and not (known == 4 and kind == 5):
            return self._fails(ATTRIBUTE_TYPE, f"attribute {attribute}")
        if kind == 24:
            found: Any = ctypes.string_at(values, count)
        else:
            found = list((_TYPES[kind] * count).from_address(values))
        if kind == 15:
            found = [self.objects[n] for n in found]
            if not all(d.values["finished"] for d in found):
                return self._fails(NOT_FINALIZED, f"attribute {attribute}")
        o.attributes[attribute] = found
        o.values.setdefault("types", {})[attribute] = kind
        return 0

    def cudnnBackendFinalize(self, number: int) -> int:
        o = self.objects[number]
        missing = [a for a in _REQUIRED[int(o.kind)] if a not in o.attributes]
        if missing:
            return self._fails(BAD_PARAM, f"attributes {missing} of a descriptor of type {o.kind} are not set")
        wrong = getattr(self, f"_finish_{o.kind}", lambda o: "")(o)
        if wrong:
            return self._fails(BAD_PARAM, wrong)
        o.values["finished"] = True
        return 0

    # -- what finishing checks

    def _finish_1(self, o: _Object) -> str:
        n, = o.attributes[106]
        lengths = {len(o.attributes[a]) for a in (102, 103, 104, 105)}
        return "" if lengths == {n} and min(*o.attributes[104], *o.attributes[105]) >= 0 else "lengths of a convolution's attributes"

    def _finish_17(self, o: _Object) -> str:
        dims, steps = o.attributes[902], o.attributes[903]
        size = np.dtype(STORED[_DNN_TYPES[o.attributes[901][0]]]).itemsize
        if len(dims) != len(steps) or min(*dims, *steps) < 1:
            return f"dimensions {dims} with strides {steps}"
        return "" if o.attributes[900][0] % size == 0 else "alignment"

    def _finish_38(self, o: _Object) -> str:
        return "" if "deviceVer" in json.loads(o.attributes[2702].rstrip(b"\0")) else "!json_object.HasMember(key)"

    def _finish_conv(self, o: _Object) -> str:
        c, x, w, y = _roles(o)
        if {o.values["types"][a] for a in (700, 701, 706, 707, 712, 713) if a in o.attributes} != {5 if c.attributes[100] == [1] else 4}:
            return "alpha and beta are not of the compute type"
        dims, taps, windows = x.attributes[902], w.attributes[902], y.attributes[902]
        if not len(dims) == len(taps) == len(windows) == c.attributes[106][0] + 2:
            return "ranks"
        if dims[0] != windows[0] or taps[0] != windows[1] or dims[1] % taps[1] or taps[0] % (dims[1] // taps[1]):
            return f"channels of {dims}, {taps}, {windows}"
        for n, t, m, lo, hi, s, d in zip(dims[2:], taps[2:], windows[2:], c.attributes[105], c.attributes[104], c.attributes[103],
                                         c.attributes[102]):
            if m != (n + lo + hi - (t - 1) * d - 1) // s + 1:
                return f"{n} + {lo} + {hi} positions and {t} taps do not give {m} windows"
        return ""

    _finish_10 = _finish_11 = _finish_12 = _finish_conv

    # -- engines and plans

    def cudnnBackendGetAttribute(self, number: int, attribute: int, kind: int, most: int, count: int, out: int | None) -> int:
        o = self.objects[number]
        if not o.values["finished"]:
            return self._fails(NOT_FINALIZED, f"attribute {attribute}")
        if attribute == 202 and kind == 15:
            device = o.attributes.get(204)
            graph, = o.attributes[201]
            if not device and 800 not in graph.attributes:
                return self._fails(BAD_PARAM, "neither a handle nor a device")
            made = [_Object("3", finished=True, engine=e, graph=graph) for e in self.engines[o.attributes[200][0]]]
        elif attribute == 300 and kind == 15:
            made = [_Object("2", finished=True, engine=o.values["engine"])]
        else:
            values = self._numbers_of(o, attribute, kind)
            _write(count, ctypes.c_int64, len(values))
            for i, v in enumerate(values[:most]):
                _write((out or 0) + i * ctypes.sizeof(_TYPES[kind]), _TYPES[kind], v)
            return 0
        _write(count, ctypes.c_int64, min(most, len(made)) if most else len(made))
        for i, new in enumerate(made[:most]):
            self.objects[_value(ctypes.c_void_p, (out or 0) + i * 8)] = new
        return 0

    def _numbers_of(self, o: _Object, attribute: int, kind: int) -> tuple[int, ...]:
        number, notes, _ = o.values["engine"] if "engine" in o.values else (0, (), 0)
        need = o.attributes[401][0].values["engine"][2] if o.kind == "5" else 0
        return {(1303, 11): notes, (1301, 3): (number,), (402, 3): (need,)}[attribute, kind]

    def cudnnBackendExecute(self, handle: int, plan: int, pack: int) -> int:
        p, v = self.objects[plan], self.objects[pack]
        if not p.values["finished"] or not v.values["finished"]:
            return NOT_FINALIZED
        if p.attributes.get(400) != [handle]:
            raise Misuse("a plan that was made for another handle")
        config = p.attributes[401][0]
        engine, _, need = config.values["engine"]
        space = v.attributes[1003][0]
        addresses = dict(zip(v.attributes[1000], v.attributes[1001]))
        ops = config.values["graph"].attributes[801]
        self.operations = [o.kind for o in ops]
        self.calls.append((engine, {"10": "forward", "11": "filter", "12": "data"}[ops[0].kind]))

        def work() -> None:
            if need:
                self.memory(space, need, True)[:] = 0xA5
            _Execution(self.memory, addresses).run(ops)
        self.queue(self.handles[handle], work)
        return 0


def _roles(o: _Object) -> list[_Object]:
    """(convolution, x, w, y) of one of the three operations."""
    conv, x, w, y = {"10": (702, 704, 703, 705), "11": (714, 716, 715, 717), "12": (708, 710, 709, 711)}[o.kind]
    return [o.attributes[a][0] for a in (conv, x, w, y)]


class _Execution:
    """One run of a graph of operations."""

    def __init__(self, memory: Memory, addresses: dict[int, int]):
        self.memory, self.addresses = memory, addresses
        self.inner: dict[int, np.ndarray] = {}

    def run(self, ops: list[_Object]) -> None:
        for o in ops:
            self._pointwise(o) if o.kind == "13" else self._convolve(o)

    def _array(self, t: _Object, write: bool) -> np.ndarray:
        """The stored elements, in the tensor's dimensions."""
        dims, steps, kind = t.attributes[902], t.attributes[903], _DNN_TYPES[t.attributes[901][0]]
        address = self.addresses[t.attributes[906][0]]
        if address % t.attributes[900][0]:
            raise Misuse("an address that is less aligned than its tensor")
        size = np.dtype(STORED[kind]).itemsize
        raw = self.memory(address, (sum((n - 1) * s for n, s in zip(dims, steps)) + 1) * size, write).view(STORED[kind])
        return np.lib.stride_tricks.as_strided(raw, dims, [s * size for s in steps])

    def _read(self, t: _Object) -> np.ndarray:
        if t.attributes.get(907) == [True]:
            return self.inner[t.attributes[906][0]]
        return _numbers(np.ascontiguousarray(self._array(t, False)), _DNN_TYPES[t.attributes[901][0]])

    def _store(self, t: _Object, value: np.ndarray) -> None:
        if list(value.shape) != t.attributes[902]:
            raise Misuse(f"{value.shape} stored as {t.attributes[902]}")
        if t.attributes.get(907) == [True]:
            kind = _DNN_TYPES[t.attributes[901][0]]
            self.inner[t.attributes[906][0]] = _numbers(_bits(value, kind), kind)
        else:
            self._array(t, True)[:] = _bits(value, _DNN_TYPES[t.attributes[901][0]])

    def _pointwise(self, o: _Object) -> None:
        how, x = o.attributes[750][0], self._read(o.attributes[751][0])
        mode = how.attributes[0][0]
        relu = np.maximum if how.attributes.get(2) == [1] else np.fmax
        with np.errstate(over="ignore"):
            value = {0: lambda: x + self._read(o.attributes[752][0]), 100: lambda: relu(x, np.zeros_like(x)), 101: lambda: np.tanh(x),
                     102: lambda: 1 / (1 + np.exp(-x)), 107: lambda: _gelu(x)}[mode]()
        self._store(o.attributes[753][0], value)

    def _convolve(self, o: _Object) -> None:
        c, x, w, y = _roles(o)
        lo, hi, step, apart = (c.attributes[a] for a in (105, 104, 103, 102))
        dims, taps, windows = (t.attributes[902] for t in (x, w, y))
        if c.attributes[101] != [1]:
            raise Misuse("not a cross-correlation")
        groups, dtype = dims[1] // taps[1], np.float64 if c.attributes[100] == [1] else np.float32
        padded = np.zeros((*dims[:2], *[n + a + b for n, a, b in zip(dims[2:], lo, hi)]), dtype)
        inner = (slice(None), slice(None), *[slice(a, a + n) for n, a in zip(dims[2:], lo)])
        result = {"10": y, "11": w, "12": x}[o.kind]
        out = np.zeros(result.attributes[902], dtype)
        xs, ws, ys = [None if t is result else self._read(t) for t in (x, w, y)]
        if xs is not None:
            padded[inner] = xs
        for t in np.ndindex(*taps[2:]):
            where = tuple(slice(i * d, i * d + (m - 1) * s + 1, s) for i, d, m, s in zip(t, apart, windows[2:], step))
            for g in range(groups):
                cs = slice(g * taps[1], (g + 1) * taps[1])
                ks = slice(g * (taps[0] // groups), (g + 1) * (taps[0] // groups))
                tap = (slice(None), slice(None), *t)
                if o.kind == "10":
                    out[:, ks] += np.einsum("nc...,kc->nk...", padded[(slice(None), cs, *where)], ws[tap][ks])
                elif o.kind == "12":
                    padded[(slice(None), cs, *where)] += np.einsum("nk...,kc->nc...", ys[:, ks], ws[tap][ks])
                else:
                    flat = [v.reshape(*v.shape[:2], -1) for v in (ys[:, ks], padded[(slice(None), cs, *where)])]
                    out[(ks, *tap[1:])] += np.einsum("nkp,ncp->kc", *flat)
        self._store(result, padded[inner] if o.kind == "12" else out)
