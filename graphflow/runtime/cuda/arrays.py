"""Arrays on a GPU that other programs can use without a copy, and arrays of other programs used here.

`DeviceArray` speaks DLPack (legacy and versioned capsules) and `__cuda_array_interface__` version 3 in both directions, in stream order.
Knows memory, shapes and dtypes, C-contiguous only; no ops.  Place: values that the runtime keeps or returns on a device.

A consumer may drop a tensor at any moment: without Python's lock, while an exception is on its way, when the interpreter has ended.  So
the deleter that it gets is a few bytes of machine code that only mark the tensor, and `_sweep` looks for marks before memory is asked for.
"""
from __future__ import annotations

import atexit
import ctypes
import math
import sys
import weakref
from functools import cache
from typing import Any

import numpy as np

from graphflow import locks, types
from graphflow.codegen.compile import compile_kernels
from graphflow.runtime.cuda import device as devices_of
from graphflow.runtime.cuda import driver as drivers
from graphflow.runtime.cuda.device import Device, HostBlock
from graphflow.types import DType

# DLPack's device types: memory the CPU reads, and memory of a CUDA device (managed memory is both; kernels may use it).
CPU, CUDA, CUDA_HOST, CUDA_MANAGED = 1, 2, 3, 13
_INT, _UINT, _FLOAT, _BFLOAT, _COMPLEX, _BOOL = 0, 1, 2, 4, 5, 6
_CODES = {"i": _INT, "u": _UINT, "f": _FLOAT, "c": _COMPLEX, "b": _BOOL}
_READ_ONLY, _COPIED = 1, 2                  # flags of a versioned tensor
_VERSION = (1, 0)                           # of DLPack, as exported
_LEGACY, _VERSIONED = b"dltensor", b"dltensor_versioned"


def dlpack_code(dtype: DType) -> tuple[int, int]:
    """(type code, bits) of DLPack."""
    return (_BFLOAT if dtype is types.bfloat16 else _CODES[dtype.kind]), 8 * dtype.size


_BY_CODE = {dlpack_code(d): d for d in types.ALL}


class _DLDevice(ctypes.Structure):
    _fields_ = [("type", ctypes.c_int32), ("id", ctypes.c_int32)]


class _DLDataType(ctypes.Structure):
    _fields_ = [("code", ctypes.c_uint8), ("bits", ctypes.c_uint8), ("lanes", ctypes.c_uint16)]


class _DLTensor(ctypes.Structure):
    _fields_ = [("data", ctypes.c_void_p), ("device", _DLDevice), ("ndim", ctypes.c_int32), ("dtype", _DLDataType),
                ("shape", ctypes.POINTER(ctypes.c_int64)), ("strides", ctypes.POINTER(ctypes.c_int64)), ("byte_offset", ctypes.c_uint64)]


class _Managed(ctypes.Structure):
    """DLManagedTensor."""

    _fields_ = [("tensor", _DLTensor), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p)]


class _ManagedVersioned(ctypes.Structure):
    """DLManagedTensorVersioned."""

    _fields_ = [("major", ctypes.c_uint32), ("minor", ctypes.c_uint32), ("context", ctypes.c_void_p), ("deleter", ctypes.c_void_p),
                ("flags", ctypes.c_uint64), ("tensor", _DLTensor)]


_KINDS: dict[bytes, Any] = {_LEGACY: _Managed, _VERSIONED: _ManagedVersioned}


def _python(name: str, result: Any, *args: Any) -> Any:
    """A function of Python's C interface."""
    return ctypes.PYFUNCTYPE(result, *args)((name, ctypes.pythonapi))


_malloc = _python("PyMem_RawMalloc", ctypes.c_void_p, ctypes.c_size_t)
_mfree = _python("PyMem_RawFree", None, ctypes.c_void_p)
_new_capsule = _python("PyCapsule_New", ctypes.py_object, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p)
_pointer = _python("PyCapsule_GetPointer", ctypes.c_void_p, ctypes.py_object, ctypes.c_char_p)
_is_valid = _python("PyCapsule_IsValid", ctypes.c_int, ctypes.py_object, ctypes.c_char_p)
_rename = _python("PyCapsule_SetName", ctypes.c_int, ctypes.py_object, ctypes.c_void_p)
# A capsule only points to its name.
_names = {name: ctypes.create_string_buffer(name) for name in (_LEGACY, _VERSIONED, b"used_" + _LEGACY, b"used_" + _VERSIONED)}

# ---------------------------------------------------------------- out

_DELETER = """\
; DLPack deleter: the context {at} bytes into the tensor becomes 0
define void @kernel(ptr %tensor) nounwind {{
  %context = getelementptr i8, ptr %tensor, i64 {at}
  store atomic i64 0, ptr %context release, align 8
  ret void
}}
"""


class _Export:
    """A tensor that another program may hold."""

    def __init__(self, name: bytes, address: int, keep: Any):
        self.name, self.address, self.keep, self.capsule = name, address, keep, None
        self.managed = _KINDS[name].from_address(address)


_out: list[_Export] = []
_lock = locks.rlock()


@cache
def _deleter(name: bytes) -> int:
    """The address of the machine code that marks a tensor as dropped."""
    return compile_kernels([_DELETER.format(at=_KINDS[name].context.offset)])[0]


def _capsule(array: DeviceArray, name: bytes, flags: int) -> Any:
    """A capsule named `name` of the array's memory, which is kept until its consumer is done."""
    _sweep()
    deleter, n, size = _deleter(name), len(array.shape), ctypes.sizeof(_KINDS[name])
    address = _malloc(size + 16 * max(n, 1))           # shape and strides follow the structure
    if not address:
        raise MemoryError
    export = _Export(name, address, array.owner)
    (ctypes.c_int64 * (2 * n)).from_address(address + size)[:] = [*array.shape, *_strides(array.shape)]
    managed, tensor, sizes = export.managed, export.managed.tensor, ctypes.POINTER(ctypes.c_int64)
    tensor.data, tensor.device, tensor.ndim, tensor.byte_offset = array.address or None, _DLDevice(*array.__dlpack_device__()), n, 0
    tensor.dtype = _DLDataType(*dlpack_code(array.dtype), 1)
    tensor.shape, tensor.strides = ctypes.cast(address + size, sizes), ctypes.cast(address + size + 8 * n, sizes)
    managed.context, managed.deleter = address, deleter
    if name == _VERSIONED:
        managed.major, managed.minor, managed.flags = *_VERSION, flags
    export.capsule = _new_capsule(address, ctypes.addressof(_names[name]), None)
    with _lock:
        _out.append(export)
    return export.capsule


def _sweep() -> None:
    """Frees what consumers have dropped, and what never had one."""
    if not _out:
        return
    with _lock:
        for export in [e for e in _out if _dropped(e)]:
            _out.remove(export)
            _mfree(export.address)


def _dropped(export: _Export) -> bool:
    if not export.managed.context:
        return True
    if export.capsule is None or sys.getrefcount(export.capsule) > 2:  # 2: the attribute's and the call's
        return False
    if _is_valid(export.capsule, export.name):                         # nobody took the tensor out, and nobody can any more
        return True
    export.capsule = None                                              # used; its consumer calls the deleter
    return False


devices_of.sweeps.append(_sweep)


@atexit.register
def _let_go() -> None:
    """From now on consumers drop their tensors without a call."""
    for export in _out:
        export.managed.deleter = None


def _strides(shape: tuple[int, ...]) -> list[int]:
    """In elements, of a C-contiguous array."""
    return [math.prod(shape[k + 1:]) for k in range(len(shape))]


# ---------------------------------------------------------------- arrays


class _Block:
    """Device memory that ends with its last user; `shared` once another program has seen it."""

    def __init__(self, device: Device, address: int):
        self.shared = [False]
        weakref.finalize(self, _free, device, address, self.shared).atexit = False


def _free(device: Device, address: int, shared: list[bool]) -> None:
    device.free(address, shared[0])


class DeviceArray:
    """A C-contiguous array in the memory of `device` (None: of the host) at `address`, alive as long as `owner`.

    Attributes: device, address, shape (of ints), dtype (a tf.DType), owner, writable.
    """

    def __init__(self, device: Device | None, address: int, shape: Any, dtype: Any, owner: Any = None, writable: bool = True):
        self.device, self.address, self.owner, self.writable = device, address, owner, writable
        self.shape, self.dtype = tuple(int(n) for n in shape), types.as_dtype(dtype)
        if self.dtype is types.string:
            raise TypeError("strings live on the host: a DeviceArray cannot hold them")

    ndim = property(lambda self: len(self.shape))
    size = property(lambda self: math.prod(self.shape))
    nbytes = property(lambda self: math.prod(self.shape) * self.dtype.size)

    def __repr__(self) -> str:
        return f"<DeviceArray {self.dtype.name}{list(self.shape)} on {self.device.name if self.device else 'the host'}>"

    def __len__(self) -> int:
        if not self.shape:
            raise TypeError("len() of an array of rank 0")
        return self.shape[0]

    # ---- made

    @classmethod
    def empty(cls, device: Device, shape: Any, dtype: Any) -> DeviceArray:
        """Undefined values in new memory.  Raises ResourceExhaustedError."""
        made = cls(device, 0, shape, dtype)
        made.address = device.allocate(made.nbytes)
        made.owner = _Block(device, made.address) if made.address else None
        return made

    @classmethod
    def put(cls, device: Device, values: Any, dtype: Any = None) -> DeviceArray:
        """A copy of host values on a device.  dtype bfloat16 rounds float32 values."""
        wanted = types.as_dtype(dtype) if dtype is not None else types.as_dtype(np.asarray(values).dtype)
        bits = types.bf16_encode(np.asarray(values)) if wanted is types.bfloat16 else np.asarray(values, wanted.np)
        made = cls.empty(device, bits.shape, wanted)
        device.copy_in(made.address, np.ascontiguousarray(bits))
        device.synchronize(f"copying to {made!r}")                    # the caller may change the values after this call
        return made

    @classmethod
    def of(cls, value: Any) -> DeviceArray:
        """The array of another program, without a copy: anything with `__dlpack__` or `__cuda_array_interface__`.

        Work already queued on its stream is waited for in stream order.  Raises TypeError for what shares no memory or has a dtype of its
        own, ValueError for memory that is not C-contiguous or on a device that is not in use here.
        """
        if isinstance(value, cls):
            return value
        if hasattr(value, "__dlpack__") and hasattr(value, "__dlpack_device__"):
            return _from_dlpack(value)
        interface = getattr(value, "__cuda_array_interface__", None)
        if isinstance(interface, dict):
            return _from_interface(value, interface)
        raise TypeError(f"a DeviceArray is made of an object with __dlpack__ or __cuda_array_interface__, got {type(value).__name__}; "
                        f"for host values use DeviceArray.put")

    # ---- values

    def bits(self) -> np.ndarray:
        """The stored elements on the host, in the NumPy dtype `dtype.np` (bfloat16: uint16).  Waits for queued work."""
        if self.device is None:
            return _host_view(self)
        out = np.empty(self.shape, self.dtype.np)
        if out.size:
            self.device.copy_out(out, self.address)
            self.device.synchronize(f"the work that makes {self!r}")
        return out

    def numpy(self) -> np.ndarray:
        """The values on the host, as Session.run returns them: bfloat16 as the float32 it stands for."""
        return types.bf16_decode(self.bits()) if self.dtype is types.bfloat16 else self.bits()

    def __array__(self, dtype: Any = None, copy: bool | None = None) -> np.ndarray:
        whole = self.device is None and self.dtype is not types.bfloat16    # a view of it can be had
        if copy is False and not (whole and (dtype is None or np.dtype(dtype) == self.dtype.np)):
            raise ValueError(f"{self!r} cannot become a NumPy array without a copy")
        values = self.numpy()
        return values.astype(dtype or values.dtype, copy=bool(copy) and whole) if dtype is not None or copy and whole else values

    def copy(self) -> DeviceArray:
        """The same values in new memory of the device."""
        if self.device is None:
            values = _host_view(self).copy()
            return DeviceArray(None, values.ctypes.data, self.shape, self.dtype, values)
        made = DeviceArray.empty(self.device, self.shape, self.dtype)
        self.device.copy(made.address, self.address, self.nbytes)
        return made

    # ---- shared

    def _shared(self) -> DeviceArray:
        """Other programs' streams may use the memory from now on."""
        if isinstance(self.owner, _Block):
            self.owner.shared[0] = True
        return self

    @property
    def __cuda_array_interface__(self) -> dict[str, Any]:
        if self.device is None:
            raise AttributeError(f"{self!r} is not in the memory of a GPU; use __dlpack__ or numpy()")
        if self.dtype is types.bfloat16:
            raise AttributeError("__cuda_array_interface__ has no name for bfloat16; use __dlpack__")
        self._shared()
        return {"shape": self.shape, "typestr": self.dtype.np.str, "data": (self.address if self.size else 0, not self.writable),
                "version": 3, "strides": None, "stream": self.device.stream}

    def __dlpack_device__(self) -> tuple[int, int]:
        return (CPU, 0) if self.device is None else (CUDA, self.device.ordinal)

    def __dlpack__(self, *, stream: int | None = None, max_version: tuple[int, int] | None = None, dl_device: tuple[int, int] | None = None,
                   copy: bool | None = None) -> Any:
        """A capsule for `from_dlpack` of another program.

        stream: the consumer's; 1 or None the legacy default stream, 2 the thread's default stream, -1: no ordering is wanted.
        dl_device: (1, 0) asks for a copy on the host.  Raises BufferError for what cannot be had, ValueError for a bad stream.
        """
        source, flags = self, 0
        if dl_device is not None and tuple(dl_device) != self.__dlpack_device__():
            if tuple(dl_device) != (CPU, 0) or copy is False:
                raise BufferError(f"{self!r} cannot be shared as DLPack device {tuple(dl_device)}"
                                  f"{' without a copy' if copy is False else ''}")
            values = self.bits()
            source, flags, stream = DeviceArray(None, values.ctypes.data, self.shape, self.dtype, values), _COPIED, -1
        elif copy:
            source, flags = self.copy(), _COPIED
        if source.device is None:
            if stream not in (None, -1):
                raise ValueError(f"memory of the host has no stream, got stream={stream!r}")
        else:
            _order(source.device, stream)
        versioned = max_version is not None and max_version[0] >= 1
        if not source.writable:
            if not versioned:
                raise BufferError("a read-only array needs a consumer of DLPack 1.0 or newer")
            flags |= _READ_ONLY
        return _capsule(source._shared(), _VERSIONED if versioned else _LEGACY, flags)


def _host_view(array: DeviceArray) -> np.ndarray:
    """The memory of a host array as NumPy's; it keeps the owner."""
    if not array.size:
        return np.empty(array.shape, array.dtype.np)
    return np.asarray(HostBlock(array.address, array.shape, array.dtype.np, array.owner, array.writable))


def _order(device: Device, consumer: int | None) -> None:
    """The consumer's stream waits for the work queued here."""
    consumer = 1 if consumer is None else consumer
    if isinstance(consumer, bool) or not isinstance(consumer, int) or consumer == 0 or consumer < -1:
        raise ValueError(f"a stream of CUDA for DLPack is a handle, 1 (the legacy default stream), 2 or -1; got {consumer!r}")
    if consumer not in (-1, device.stream):
        device.precede(consumer)


# ---------------------------------------------------------------- in


class _Foreign:
    """A tensor of another program; its deleter is called when the last user is gone."""

    def __init__(self, managed: Any, address: int):
        if managed.deleter:
            weakref.finalize(self, ctypes.CFUNCTYPE(None, ctypes.c_void_p)(managed.deleter), address).atexit = False


def _place(type_: int, ordinal: int, what: str) -> Device | None:
    """The Device of a DLPack device; None for the host."""
    if type_ in (CPU, CUDA_HOST):
        return None
    if type_ not in (CUDA, CUDA_MANAGED):
        raise TypeError(f"{what} is on a device of DLPack type {type_}; only the CPU (1) and CUDA (2) can be used")
    for device in devices_of.devices():
        if device.ordinal == ordinal:
            return device
    why = drivers.why_not()
    have = ", ".join(d.name for d in devices_of.devices())
    raise ValueError(f"{what} is on CUDA device {ordinal}, which is not in use here: {why or 'there are ' + have}")


def _from_dlpack(value: Any) -> DeviceArray:
    what = f"the {type(value).__name__}"
    type_, ordinal = value.__dlpack_device__()
    device = _place(int(type_), int(ordinal), what)
    stream = None if device is None else device.stream
    try:
        capsule = value.__dlpack__(stream=stream, max_version=_VERSION)
    except TypeError:                                                 # a producer from before DLPack 1.0
        capsule = value.__dlpack__() if stream is None else value.__dlpack__(stream=stream)
    name = next((name for name in _KINDS if _is_valid(capsule, name)), None)
    if name is None:
        raise TypeError(f"__dlpack__ of {what} returned no DLPack capsule, or one that was used already")
    address = _pointer(capsule, name)
    managed = _KINDS[name].from_address(address)
    if name == _VERSIONED and managed.major > _VERSION[0]:
        raise TypeError(f"{what} is shared by DLPack {managed.major}.{managed.minor}; versions up to {_VERSION[0]} are known")
    tensor, flags = managed.tensor, managed.flags if name == _VERSIONED else 0
    shape = tuple(tensor.shape[:tensor.ndim])
    dtype = _dtype_of(tensor.dtype, what)
    if tensor.strides:
        _check_strides(shape, tuple(tensor.strides[:tensor.ndim]), what)
    start = (tensor.data or 0) + tensor.byte_offset
    # The capsule is ours only now, when nothing can fail any more: until then its own destructor releases it.
    _rename(capsule, ctypes.addressof(_names[b"used_" + name]))
    return DeviceArray(device, start, shape, dtype, _Foreign(managed, address), not flags & _READ_ONLY)


def _dtype_of(code: _DLDataType, what: str) -> DType:
    found = _BY_CODE.get((code.code, code.bits)) if code.lanes == 1 else None
    if found is None:
        raise TypeError(f"{what} has DLPack type code {code.code} of {code.bits} bits and {code.lanes} lanes, which is none of "
                        f"{', '.join(d.name for d in types.ALL)}")
    return found


def _check_strides(shape: tuple[int, ...], strides: tuple[int, ...], what: str) -> None:
    """`strides` in elements."""
    wanted = _strides(shape)
    if 0 not in shape and any(n != 1 and have != want for n, have, want in zip(shape, strides, wanted)):
        raise ValueError(f"{what} has shape {shape} and strides {strides}: only C-contiguous memory can be shared; make a contiguous copy")


def _from_interface(value: Any, interface: dict[str, Any]) -> DeviceArray:
    what = f"the {type(value).__name__}"
    if interface.get("mask") is not None:
        raise TypeError(f"{what} has a mask, which cannot be shared")
    shape = tuple(int(n) for n in interface["shape"])
    dtype = _dtype_named(interface["typestr"], what)
    strides = interface.get("strides")
    if strides is not None:
        if any(s % dtype.size for s in strides):
            raise ValueError(f"{what} has strides {strides} that are no multiples of its element size")
        _check_strides(shape, tuple(s // dtype.size for s in strides), what)
    address, read_only = interface["data"]
    device = _device_at(address or 0, what)
    stream = interface.get("stream")
    if stream == 0:
        raise ValueError(f"{what} names stream 0, which __cuda_array_interface__ does not allow")
    if stream is not None and stream != device.stream:
        device.follow(stream)
    return DeviceArray(device, address or 0, shape, dtype, value, not read_only)


def _dtype_named(typestr: str, what: str) -> DType:
    try:
        found = types.as_dtype(np.dtype(typestr))
    except TypeError:
        found = types.string
    if found is types.string or np.dtype(typestr) != found.np:
        raise TypeError(f"{what} has the element type {typestr!r}, which is none of GraphFlow's; bfloat16 is shared by __dlpack__ only")
    return found


def _device_at(address: int, what: str) -> Device:
    """The Device whose memory an address is; the first one for an empty array, or if the driver cannot tell."""
    found = devices_of.devices()
    if found:
        found[0].use()                                                # a thread that asks the driver needs a context
    owner = drivers.current().owner(address) if found and address else None
    if not found:
        raise ValueError(f"{what} is in GPU memory, and there is no GPU to use here: {drivers.why_not()}")
    return found[0] if owner is None else next((d for d in found if d.ordinal == owner), None) or _place(CUDA, owner, what)  # type: ignore
