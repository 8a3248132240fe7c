"""Arrays shared with other programs: DLPack capsules taken apart byte by byte, and the interface of CUDA arrays, in both directions."""
from __future__ import annotations

import ctypes
import gc
import struct
import threading
from types import SimpleNamespace

import fake_cuda
import numpy as np
import pytest
from fake_cuda import child

import graphflow as tf
from graphflow import types
from graphflow.runtime.cuda import arrays
from graphflow.runtime.cuda.arrays import DeviceArray
from graphflow.runtime.cuda.device import devices
from graphflow.testing import emulated_gpu

cuda = fake_cuda.cuda
api = ctypes.pythonapi
api.PyCapsule_GetPointer.restype, api.PyCapsule_GetPointer.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
api.PyCapsule_GetName.restype, api.PyCapsule_GetName.argtypes = ctypes.c_char_p, (ctypes.py_object,)
api.PyCapsule_SetName.argtypes = (ctypes.py_object, ctypes.c_char_p)
api.PyCapsule_New.restype, api.PyCapsule_New.argtypes = ctypes.py_object, (ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p)
KEEP = []  # names and thunks that C points to

# DLTensor on a 64-bit machine: data, device type, device number, rank, code, bits, lanes, shape, strides, byte offset.
TENSOR = struct.Struct("@PiiiBBHPPQ")
assert TENSOR.size == 48


def consume(capsule):
    """What a consumer of DLPack does: looks at the tensor, takes it out of the capsule, and will call `drop` once."""
    name = api.PyCapsule_GetName(capsule)
    address = api.PyCapsule_GetPointer(capsule, name)
    if name == b"dltensor":
        fields = TENSOR.unpack(ctypes.string_at(address, 48))
        deleter = ctypes.c_uint64.from_address(address + 56).value
        version, flags = None, 0
    else:
        assert name == b"dltensor_versioned"
        major, minor, _, deleter, flags = struct.unpack("@IIPPQ", ctypes.string_at(address, 32))
        version = major, minor
        fields = TENSOR.unpack(ctypes.string_at(address + 32, 48))
    used = ctypes.create_string_buffer(b"used_" + name)
    KEEP.append(used)
    api.PyCapsule_SetName(capsule, ctypes.cast(used, ctypes.c_char_p))
    data, kind, number, rank, code, bits, lanes, shape, strides, offset = fields

    def words(at):
        return struct.unpack(f"@{rank}q", ctypes.string_at(at, 8 * rank))

    return SimpleNamespace(data=data, device=(kind, number), code=code, bits=bits, lanes=lanes, shape=words(shape), strides=words(strides),
                           offset=offset, version=version, flags=flags,
                           drop=lambda: ctypes.CFUNCTYPE(None, ctypes.c_void_p)(deleter)(address))


class Producer:
    """Another program's array: a capsule made by hand, whose deleter counts."""

    def __init__(self, data, shape, code, strides=None, device=(2, 0), versioned=True, flags=0, lanes=1, version=(1, 0), offset=0,
                 old=False):
        self.device, self.deleted, self.streams, self.old = device, 0, [], old
        self._sizes = (ctypes.c_int64 * (2 * len(shape) + 1))(*shape, *(strides or ()))
        where = ctypes.addressof(self._sizes)
        tensor = TENSOR.pack(data, *device, len(shape), *code, lanes, where, where + 8 * len(shape) if strides else 0, offset)
        self._thunk = ctypes.CFUNCTYPE(None, ctypes.c_void_p)(self._delete)
        KEEP.extend([self._thunk, self._sizes])
        deleter = ctypes.cast(self._thunk, ctypes.c_void_p).value
        self._bytes = ctypes.create_string_buffer(
            struct.pack("@IIPPQ", *version, 0, deleter, flags) + tensor if versioned else tensor + struct.pack("@PP", 0, deleter))
        self.name = b"dltensor_versioned" if versioned else b"dltensor"

    def _delete(self, address):
        assert address == ctypes.addressof(self._bytes)
        self.deleted += 1

    def __dlpack_device__(self):
        return self.device

    def __dlpack__(self, **asked):
        if self.old and "max_version" in asked:
            raise TypeError("unexpected keyword")
        self.streams.append(asked.get("stream"))
        return api.PyCapsule_New(ctypes.addressof(self._bytes), self.name, None)


@pytest.fixture
def device(cuda):
    arrays._out.clear()  # what consumers of other tests never dropped
    return devices()[0]


def put(device, values, dtype=None):
    return DeviceArray.put(device, np.asarray(values), dtype)


CODES = {"float16": (2, 16), "bfloat16": (4, 16), "float32": (2, 32), "float64": (2, 64), "int8": (0, 8), "int16": (0, 16),
         "int32": (0, 32), "int64": (0, 64), "uint8": (1, 8), "uint16": (1, 16), "uint32": (1, 32), "uint64": (1, 64), "bool": (6, 8),
         "complex64": (5, 64), "complex128": (5, 128)}


def test_every_dtype_has_a_code():
    assert {d.name: arrays.dlpack_code(d) for d in types.ALL} == CODES


@pytest.mark.parametrize("version", [None, (0, 8), (1, 0), (1, 3)])
@pytest.mark.parametrize("name", CODES)
def test_capsules(device, name, version):
    values = np.array([[0, 1, 2], [3, 4, 5]])
    a = put(device, values, name)
    tensor = consume(a.__dlpack__(stream=-1, max_version=version))
    assert (tensor.data, tensor.device, tensor.shape, tensor.strides, tensor.offset) == (a.address, (2, 0), (2, 3), (3, 1), 0)
    assert (tensor.code, tensor.bits, tensor.lanes, tensor.flags) == (*CODES[name], 1, 0)
    assert tensor.version == ((1, 0) if version and version[0] else None)
    assert a.numpy().tolist() == values.astype(np.float32 if name == "bfloat16" else a.dtype.np).tolist()
    tensor.drop()


@pytest.mark.parametrize("shape", [(), (0,), (2, 0, 3), (1, 1, 1), (7,)])
def test_shapes(device, shape):
    a = put(device, np.zeros(shape, np.int16))
    tensor = consume(a.__dlpack__(max_version=(1, 0)))
    assert tensor.shape == shape and tensor.strides == tuple(np.empty(shape, np.int8).strides if 0 not in shape else arrays._strides(shape))
    assert a.numpy().shape == shape and DeviceArray.of(a) is a


@pytest.mark.parametrize("version", [None, (1, 0)])
def test_a_tensor_keeps_the_memory_until_its_consumer_drops_it(device, cuda, version):
    a = put(device, [1.0, 2.0])
    tensor = consume(a.__dlpack__(max_version=version))
    del a
    gc.collect()
    assert device.memory.stats().used == 512
    other = threading.Thread(target=tensor.drop)  # any thread may
    other.start(), other.join()
    assert device.memory.stats() == (0, 0, 512, 0) and cuda.live("device") == 0  # not kept: streams of others may still use it
    assert arrays._out == []


def test_a_capsule_that_nobody_takes(device):
    a = put(device, [1.0])
    capsule = a.__dlpack__()
    del a
    assert device.memory.stats().used == 512
    del capsule
    gc.collect()
    assert device.memory.stats().used == 0 and arrays._out == []


def test_a_tensor_may_be_dropped_while_an_exception_is_on_its_way(device):
    """NumPy refuses bfloat16 and drops the capsule with its error set."""
    host = DeviceArray(None, *_memory(np.zeros(4, np.uint16)), types.bfloat16)
    with pytest.raises((BufferError, RuntimeError)):
        np.from_dlpack(host)
    arrays._sweep()
    assert arrays._out == []


def _memory(array):
    KEEP.append(array)
    return array.ctypes.data, array.shape


def test_the_consumers_stream_waits_for_the_work_queued_here(device, cuda):
    """The fake's queues run only when they are waited for: without the event the consumer's copy would come first."""
    for stream, number in ((None, 1), (1, 1), (2, 2)):
        a = DeviceArray.empty(device, (4,), np.uint8)
        device.fill(a.address, 7, 4)
        tensor = consume(a.__dlpack__(stream=stream))
        out = device.pinned(4, np.uint8)
        device.driver.copy_out(out.ctypes.data, tensor.data, 4, number)
        device.driver.synchronize(number)
        assert out.tolist() == [7] * 4
    before = cuda.calls("cuStreamWaitEvent")
    a.__dlpack__(stream=-1), a.__dlpack__(stream=device.stream)
    assert cuda.calls("cuStreamWaitEvent") == before


@pytest.mark.parametrize("stream", [0, -2, 1.5, True, "1"])
def test_streams_that_are_none(device, stream):
    with pytest.raises(ValueError, match="1 \\(the legacy default stream\\)"):
        put(device, [1.0]).__dlpack__(stream=stream)


def test_copies_on_demand(device):
    a = put(device, [1.0, 2.0])
    tensor = consume(a.__dlpack__(max_version=(1, 0), copy=True))
    assert tensor.data != a.address and tensor.flags == 2 and device.memory.stats().used == 1024
    assert consume(a.__dlpack__(max_version=(1, 0), copy=False)).data == a.address
    host = consume(a.__dlpack__(max_version=(1, 0), dl_device=(1, 0)))
    assert host.device == (1, 0) and host.flags == 2 and np.frombuffer(ctypes.string_at(host.data, 16)).tolist() == [1, 2]
    assert consume(a.__dlpack__(dl_device=(2, 0))).data == a.address
    for asked in ({"dl_device": (1, 0), "copy": False}, {"dl_device": (2, 1)}, {"dl_device": (8, 0)}):
        with pytest.raises(BufferError, match="cannot be shared as DLPack device"):
            a.__dlpack__(**asked)


def test_read_only_arrays(device):
    a = put(device, [1.0])
    a.writable = False
    assert consume(a.__dlpack__(max_version=(1, 0))).flags == 1 and a.__cuda_array_interface__["data"] == (a.address, True)
    with pytest.raises(BufferError, match="read-only"):
        a.__dlpack__()


@pytest.mark.parametrize("name", [n for n in CODES if n != "bfloat16"])
def test_numpy_reads_host_arrays(name, device):
    values = np.arange(6).reshape(2, 3).astype(types.as_dtype(name).np)
    a = DeviceArray.of(values)
    assert (a.device, a.dtype.name, a.address, a.shape) == (None, name, values.ctypes.data, (2, 3)) and a.__dlpack_device__() == (1, 0)
    back = np.from_dlpack(a)
    assert back.dtype == values.dtype and np.array_equal(back, values) and back.ctypes.data == values.ctypes.data
    del a, values
    gc.collect()
    assert back.reshape(-1).tolist() == np.arange(6).astype(back.dtype).tolist()
    del back
    arrays._sweep()
    assert arrays._out == []


def test_numpy_arrays_of_arrays(device):
    a = put(device, np.array([[1, 2], [3, 4]], np.int32))
    assert np.asarray(a).tolist() == [[1, 2], [3, 4]] and np.asarray(a, np.float64).dtype == np.float64 and len(a) == 2
    assert (a.ndim, a.size, a.nbytes) == (2, 4, 16) and repr(a) == "<DeviceArray int32[2, 2] on GPU 0 (Fake GPU 0)>"
    with pytest.raises(ValueError, match="without a copy"):
        np.asarray(a, copy=False)
    host = DeviceArray.of(np.arange(3.0))
    assert np.asarray(host, copy=False).ctypes.data == host.address and np.array(host, copy=True).ctypes.data != host.address
    assert host.copy().address != host.address and host.copy().numpy().tolist() == [0, 1, 2]
    half = put(device, [1.0, 2.5, 1.00390625], tf.bfloat16)
    assert half.numpy().dtype == np.float32 and half.numpy().tolist() == [1, 2.5, 1] and half.bits().tolist() == [0x3F80, 0x4020, 0x3F80]
    assert half.copy().numpy().tolist() == [1, 2.5, 1]
    with pytest.raises(TypeError, match="strings live on the host"):
        DeviceArray(device, 0, (), tf.string)
    with pytest.raises(TypeError, match="rank 0"):
        len(put(device, 1.0))


# ---------------------------------------------------------------- in


@pytest.mark.parametrize("versioned, old", [(True, False), (False, False), (False, True)])
def test_tensors_of_others(device, versioned, old):
    source = put(device, np.arange(6, dtype=np.float32))
    other = Producer(source.address, (2, 3), (2, 32), (3, 1), versioned=versioned, old=old)
    a = DeviceArray.of(other)
    assert (a.device, a.address, a.shape, a.dtype, a.writable) == (device, source.address, (2, 3), tf.float32, True)
    assert other.streams == [device.stream] and a.numpy().tolist() == [[0, 1, 2], [3, 4, 5]] and other.deleted == 0
    b = consume(a.__dlpack__())  # and on to a third
    del a
    gc.collect()
    assert other.deleted == 0
    b.drop()
    arrays._sweep()
    assert other.deleted == 1


def test_an_array_of_ours_comes_back(device):
    a = put(device, np.array([True, False]))
    again = DeviceArray.of(SimpleNamespace(__dlpack__=a.__dlpack__, __dlpack_device__=a.__dlpack_device__))
    assert again.address == a.address and again.dtype is tf.bool and again.numpy().tolist() == [True, False]
    del a, again
    gc.collect()
    assert device.memory.stats().used == 0


@pytest.mark.parametrize("options, dtype", [
    (dict(code=(4, 16)), tf.bfloat16), (dict(code=(6, 8)), tf.bool), (dict(code=(5, 64)), tf.complex64),
    (dict(code=(2, 16), strides=(99, 3, 1)), tf.float16), (dict(code=(1, 64), device=(13, 0)), tf.uint64)])
def test_dtypes_and_strides_of_others(device, options, dtype):
    source = DeviceArray.empty(device, (64,), np.uint8)
    a = DeviceArray.of(Producer(source.address, (1, 2, 3), **options))
    assert a.dtype is dtype and a.shape == (1, 2, 3)


def test_offsets_flags_and_empty_tensors_of_others(device):
    source = put(device, np.arange(4, dtype=np.int64))
    a = DeviceArray.of(Producer(source.address, (2,), (0, 64), flags=1, offset=16))
    assert a.numpy().tolist() == [2, 3] and not a.writable
    assert DeviceArray.of(Producer(0, (3, 0), (0, 64), (5, 1))).numpy().shape == (3, 0)


@pytest.mark.parametrize("options, error, words", [
    (dict(code=(2, 32), strides=(1, 2)), ValueError, r"shape \(2, 2\) and strides \(1, 2\): only C-contiguous"),
    (dict(code=(2, 8)), TypeError, "type code 2 of 8 bits and 1 lanes"), (dict(code=(2, 32), lanes=4), TypeError, "4 lanes"),
    (dict(code=(2, 32), device=(2, 5)), ValueError, r"CUDA device 5, which is not in use here: there are GPU 0 \(Fake GPU 0\)"),
    (dict(code=(2, 32), device=(10, 0)), TypeError, "device of DLPack type 10"),
    (dict(code=(2, 32), version=(2, 0)), TypeError, "shared by DLPack 2.0"),
])
def test_tensors_that_cannot_be_used(device, options, error, words):
    other = Producer(put(device, np.zeros(4, np.float32)).address, (2, 2), **options)
    with pytest.raises(error, match=words):
        DeviceArray.of(other)
    assert other.deleted == 0  # the capsule was not taken: its maker ends it


def test_capsules_are_used_once(device):
    other = Producer(put(device, np.zeros(4, np.float32)).address, (4,), (2, 32))
    capsule = other.__dlpack__()
    again = SimpleNamespace(__dlpack__=lambda **_: capsule, __dlpack_device__=other.__dlpack_device__)
    DeviceArray.of(again)
    with pytest.raises(TypeError, match="was used already"):
        DeviceArray.of(again)


# ---------------------------------------------------------------- __cuda_array_interface__


@pytest.mark.parametrize("name, typestr", [("float32", "<f4"), ("float16", "<f2"), ("bool", "|b1"), ("int64", "<i8"), ("complex64", "<c8"),
                                           ("uint8", "|u1")])
def test_the_interface_out_and_in(device, name, typestr):
    a = put(device, np.zeros((2, 3)), name)
    interface = a.__cuda_array_interface__
    assert interface == {"shape": (2, 3), "typestr": typestr, "data": (a.address, False), "version": 3, "strides": None,
                         "stream": device.stream}
    b = DeviceArray.of(SimpleNamespace(__cuda_array_interface__=interface))
    assert (b.device, b.address, b.shape, b.dtype.name) == (device, a.address, (2, 3), name)


def test_a_thread_without_a_context_takes_an_array(cuda):
    """The driver is asked whose memory it is, which it answers only to threads that have a context."""
    cuda.start("devices=2")
    device, found = devices()[1], []
    a = put(device, np.arange(3.0))
    other = SimpleNamespace(__cuda_array_interface__=a.__cuda_array_interface__)
    thread = threading.Thread(target=lambda: found.append(DeviceArray.of(other)))
    thread.start()
    thread.join()
    assert [b.device for b in found] == [device] and found[0].numpy().tolist() == [0, 1, 2]


def test_values_may_change_after_they_were_put():
    """Where a GPU reads all memory of the host, copies of any memory may be late."""
    with emulated_gpu(deferred=True, coherent=True):
        values = np.arange(4, dtype=np.float32)
        a = DeviceArray.put(devices()[0], values)
        values[:] = -1
        assert a.numpy().tolist() == [0, 1, 2, 3]


def test_what_has_no_interface(device):
    assert not hasattr(put(device, [1.0], tf.bfloat16), "__cuda_array_interface__")
    assert not hasattr(DeviceArray.of(np.zeros(3)), "__cuda_array_interface__")
    assert put(device, np.zeros((0, 2))).__cuda_array_interface__["data"] == (0, False)


def test_memory_seen_through_the_interface_is_not_kept_when_it_is_freed(device, cuda):
    a = put(device, [1.0])
    a.__cuda_array_interface__
    del a
    gc.collect()
    assert device.memory.stats().cached == 0 and cuda.live("device") == 0


@pytest.mark.parametrize("changed, error, words", [
    (dict(strides=(4, 8)), ValueError, "only C-contiguous"), (dict(strides=(3, 4)), ValueError, "no multiples"),
    (dict(typestr=">f4"), TypeError, "element type '>f4'"), (dict(typestr="<V2"), TypeError, "bfloat16 is shared by __dlpack__"),
    (dict(mask=1), TypeError, "has a mask"), (dict(stream=0), ValueError, "stream 0"), (dict(typestr="|O8"), TypeError, "element type"),
])
def test_interfaces_that_cannot_be_used(device, changed, error, words):
    interface = {"shape": (2, 2), "typestr": "<f4", "data": (put(device, np.zeros(4)).address, False), "version": 3, **changed}
    with pytest.raises(error, match=words):
        DeviceArray.of(SimpleNamespace(__cuda_array_interface__=interface))


def test_the_interfaces_device_and_stream(cuda):
    cuda.start("devices=2")
    first, second = devices()
    theirs = DeviceArray.empty(second, (4,), np.uint8)
    second.use()
    second.driver.fill(theirs.address, 9, 4, 2)  # queued on another stream
    interface = {"shape": (4,), "typestr": "|u1", "data": (theirs.address, False), "version": 3, "strides": (1,), "stream": 2}
    a = DeviceArray.of(SimpleNamespace(__cuda_array_interface__=interface))
    assert a.device is second and a.numpy().tolist() == [9] * 4
    tensor = consume(a.__dlpack__())
    assert tensor.device == (2, 1)


def test_arrays_on_a_gpu_are_fed_as_they_are(device):
    x = tf.placeholder(tf.float32, [2, 2])
    ours = put(device, np.array([[1, 2], [3, 4]], np.float32))
    theirs = Producer(ours.address, (2, 2), (2, 32))
    named = SimpleNamespace(__cuda_array_interface__=ours.__cuda_array_interface__)
    with tf.Session(config=tf.ConfigProto(device_count={"GPU": 0})) as sess:
        for value in (ours, theirs, named, DeviceArray.of(np.array([[1, 2], [3, 4]], np.float32))):
            assert sess.run(x * 2, {x: value}).tolist() == [[2, 4], [6, 8]]
        with pytest.raises(ValueError, match="Cannot feed value of shape \\(3,\\)"):
            sess.run(x, {x: put(device, [1.0, 2.0, 3.0], tf.float32)})
        with pytest.raises(TypeError, match="dtype bfloat16 on GPU 0"):
            sess.run(x, {x: put(device, [[1, 2], [3, 4]], tf.bfloat16)})
        with pytest.raises(ValueError, match="CUDA device 5, which is not in use here"):
            sess.run(x, {x: Producer(ours.address, (2, 2), (2, 32), device=(2, 5))})
    gc.collect()
    assert theirs.deleted == 1


@pytest.mark.parametrize("value", [3, "text", object(), SimpleNamespace(__cuda_array_interface__=7)])
def test_what_shares_no_memory(device, value):
    with pytest.raises(TypeError, match="__dlpack__ or __cuda_array_interface__, got"):
        DeviceArray.of(value)


def test_an_array_on_a_gpu_without_a_gpu(cuda):
    cuda.start("devices=0")
    with pytest.raises(ValueError, match="CUDA device 0, which is not in use here: CUDA does not start"):
        DeviceArray.of(Producer(4096, (2,), (2, 32)))
    interface = {"shape": (4,), "typestr": "|u1", "data": (4096, False), "version": 3}
    with pytest.raises(ValueError, match="there is no GPU to use here: CUDA does not start"):
        DeviceArray.of(SimpleNamespace(__cuda_array_interface__=interface))


def test_consumers_that_live_longer_than_the_interpreter(cuda):
    """The deleter is NULL by then, which a consumer must check; here one runs after all of Python's exit handlers."""
    code = """
import ctypes, numpy as np
from graphflow.runtime.cuda.arrays import DeviceArray
from graphflow.runtime.cuda.device import devices
from graphflow.testing import emulated_gpu
a = DeviceArray.put(devices()[0], np.ones(3, np.float32))
capsule = a.__dlpack__()
get = ctypes.pythonapi.PyCapsule_GetPointer
get.restype, get.argtypes = ctypes.c_void_p, (ctypes.py_object, ctypes.c_char_p)
address = get(capsule, b"dltensor")
assert ctypes.c_uint64.from_address(address + 56).value
import atexit, graphflow.runtime.cuda.arrays as module
module._let_go()
assert not ctypes.c_uint64.from_address(address + 56).value
view = np.from_dlpack(DeviceArray.of(np.arange(3)))
import builtins
builtins.kept = view
"""
    ran = child(code)
    assert (ran.returncode, ran.stderr) == (0, "")
