"""The CUDA driver's bindings and the devices on it, against a libcuda written in C that checks its arguments (fake_libcuda.c)."""
from __future__ import annotations

import ctypes
import ctypes.util
import gc
import os
import re
import sys
import threading
import time
from functools import cache

import fake_cuda
import numpy as np
import pytest
from fake_cuda import HEADERS, PTX, child, compile_fake, floats, read
from hypothesis import given
from hypothesis import strategies as st

import graphflow as tf
from graphflow import errors
from graphflow.runtime.cuda import device as devices_of
from graphflow.runtime.cuda import driver
from graphflow.runtime.cuda.device import Mark, devices, size_class
from graphflow.runtime.cuda.driver import Driver, DriverError, Properties, Unavailable

cuda = fake_cuda.cuda
NVIDIAS = os.environ.get("GRAPHFLOW_TEST_LIBCUDA") or ctypes.util.find_library("cuda")  # NVIDIA's own library, which needs no GPU to load
needs_header = pytest.mark.skipif(not HEADERS, reason="no cuda.h on this machine")


def the_device():
    return devices()[0]


# ---------------------------------------------------------------- the bindings, against cuda.h


@needs_header
def test_the_c_compiler_agrees_with_every_prototype_of_the_fake(tmp_path):
    compile_fake(tmp_path, HEADERS[-1])


@cache
def header_prototypes():
    """symbol -> parameter types as cuda.h writes them, by the exported (versioned) names."""
    text = re.sub(r"/\*.*?\*/", "", open(HEADERS[-1], encoding="utf-8", errors="replace").read(), flags=re.S)
    renamed = dict(re.findall(r"#define (cu\w+)\s+(?:__CUDA_API_PT[DS]Z?S?\()?(cu\w+)\)?", text))
    found = {}
    for name, parameters in re.findall(r"CUresult CUDAAPI\s+(cu\w+)\(([^)]*)\)", text):
        types = [re.sub(r"\w+$", "", p.strip()).replace(" ", "") for p in parameters.split(",")]
        for symbol in {name, renamed.get(name, name)}:  # the versions before are declared under the plain name
            found.setdefault(symbol, []).append(types)
    return found


HANDLES = ("CUcontext", "CUmodule", "CUfunction", "CUstream", "CUevent", "CUgraph", "CUgraphExec", "CUlinkState")
SCALARS = {"unsignedint": ctypes.c_uint, "int": ctypes.c_int, "size_t": ctypes.c_size_t, "CUdevice": ctypes.c_int,
           "CUdeviceptr": ctypes.c_uint64, "unsignedchar": ctypes.c_ubyte, "unsignedlonglong": ctypes.c_ulonglong, "float": ctypes.c_float,
           **{f"CU{enum}": ctypes.c_int for enum in ("device_attribute", "function_attribute", "jit_option", "jitInputType", "result",
                                                     "streamCaptureMode", "pointer_attribute")},
           **dict.fromkeys(HANDLES, ctypes.c_void_p), "void*": ctypes.c_void_p, "constchar*": ctypes.c_char_p}


def fits(written: str, bound) -> bool:
    """Whether a ctypes type may stand for a type of the header."""
    if written in SCALARS:
        return bound is SCALARS[written]
    assert written.endswith("*"), written
    inner = written[:-1]
    return bound is ctypes.c_void_p or inner in SCALARS and bound is ctypes.POINTER(SCALARS[inner])


@needs_header
@pytest.mark.parametrize("symbol", driver.PROTOTYPES)
def test_bindings_are_those_of_the_header(symbol):
    written = header_prototypes()[symbol]
    assert any(len(w) == len(driver.PROTOTYPES[symbol]) and all(map(fits, w, driver.PROTOTYPES[symbol])) for w in written), written


@needs_header
def test_codes_and_enumerators_are_those_of_the_header():
    text = open(HEADERS[-1], encoding="utf-8", errors="replace").read()
    values = {name: int(value, 0) for name, value in re.findall(r"\b(CU\w+)\s*=\s*(0x[0-9a-fA-F]+|\d+)", text)}
    values |= {name: int(value, 0) for name, value in re.findall(r"#define (CU_\w+)\s+(0x[0-9a-fA-F]+|\d+)\b", text)}
    assert {name: values[name] for name in driver.CODES} == driver.CODES
    a = "CU_DEVICE_ATTRIBUTE_"
    assert {k: values[a + v] for k, v in {
        "multiprocessors": "MULTIPROCESSOR_COUNT", "clock": "CLOCK_RATE", "memory_clock": "MEMORY_CLOCK_RATE",
        "bus": "GLOBAL_MEMORY_BUS_WIDTH", "l2_bytes": "L2_CACHE_SIZE", "major": "COMPUTE_CAPABILITY_MAJOR",
        "minor": "COMPUTE_CAPABILITY_MINOR", "shared_bytes": "MAX_SHARED_MEMORY_PER_BLOCK_OPTIN"}.items()} == driver._DEVICE
    f = "CU_FUNC_ATTRIBUTE_"
    assert driver._FUNCTION == {"registers": values[f + "NUM_REGS"], "local_bytes": values[f + "LOCAL_SIZE_BYTES"],
                                "shared_bytes": values[f + "SHARED_SIZE_BYTES"], "max_threads": values[f + "MAX_THREADS_PER_BLOCK"]}
    for mine, theirs in {"_STREAM_NON_BLOCKING": "CU_STREAM_NON_BLOCKING", "_EVENT_DEFAULT": "CU_EVENT_DEFAULT",
                         "_HOST_PORTABLE": "CU_MEMHOSTALLOC_PORTABLE", "_CAPTURE_RELAXED": "CU_STREAM_CAPTURE_MODE_RELAXED",
                         "_INPUT_PTX": "CU_JIT_INPUT_PTX", "_INFO_LOG": "CU_JIT_INFO_LOG_BUFFER",
                         "_INFO_LOG_BYTES": "CU_JIT_INFO_LOG_BUFFER_SIZE_BYTES", "_ERROR_LOG": "CU_JIT_ERROR_LOG_BUFFER",
                         "_ERROR_LOG_BYTES": "CU_JIT_ERROR_LOG_BUFFER_SIZE_BYTES",
                         "_MAX_DYNAMIC_SHARED": f + "MAX_DYNAMIC_SHARED_SIZE_BYTES",
                         "_POINTER_MEMORY_TYPE": "CU_POINTER_ATTRIBUTE_MEMORY_TYPE",
                         "_POINTER_ORDINAL": "CU_POINTER_ATTRIBUTE_DEVICE_ORDINAL", "_MEMORY_DEVICE": "CU_MEMORYTYPE_DEVICE"}.items():
        assert getattr(driver, mine) == values[theirs], mine


@pytest.mark.skipif(NVIDIAS is None, reason="no libcuda on this machine")
def test_nvidias_library_has_every_entry_point_and_knows_the_codes():
    library, name = ctypes.CDLL(NVIDIAS), ctypes.c_char_p()
    assert [symbol for symbol in driver.PROTOTYPES if not hasattr(library, symbol)] == []
    asked = {code: (library.cuGetErrorName(code, ctypes.byref(name)), (name.value or b"").decode()) for code in driver.NAMES}
    known = {code: text for code, (failed, text) in asked.items() if not failed}
    assert known == {code: driver.NAMES[code] for code in known} and driver.NAMES.keys() - known.keys() <= {36, 226, 721}  # younger ones


def test_every_entry_point_is_called_with_arguments_that_the_fake_accepts(cuda):
    """A whole life of a device; the fake returns an error for a wrong handle, address, size or option."""
    cuda.start("devices=2")
    device = the_device()
    a, b, c = floats(device, 1, 2, 3), floats(device, 10, 20, 30), device.allocate(12)
    device.fill(c, 0, 12)
    add = device.kernel(PTX, "add")
    assert add.attributes == {"registers": 40, "local_bytes": 16, "shared_bytes": 256, "max_threads": 1024}
    launch = add.prepare("pppi", [a, b, c, 3], (1, 1, 1), (256, 1, 1))
    with device.timed() as seconds:
        launch()
    assert seconds() == pytest.approx(2e-3)  # the fake's ops take a millisecond each: the kernel and the mark behind it
    assert read(device, c, 3).tolist() == [11, 22, 33]
    with device.capture() as recorded:
        device.copy(a, c, 12)
        launch()
    recorded.graph()
    assert read(device, c, 3).tolist() == [21, 42, 63]
    device.precede(1), device.follow(1)
    other = devices()[1]
    d = other.allocate(12)
    behind(other, device)
    other.fetch(d, device, c, 12)
    assert read(other, d, 3).tolist() == [21, 42, 63]
    other.free(d)
    other.close()
    shared = device.kernel(PTX, "shared").prepare("p", [c], (1, 1, 1), (1, 1, 1), 100_000)
    shared()
    assert read(device, c, 1, np.uint32) == 100_000
    assert device.driver.memory(0) == ((1 << 30) - 3 * 512, 1 << 30)
    assert device.driver.owner(a) == 0 and device.driver.owner(12345) is None
    pinned = device.pinned(3, np.int32)
    assert device.driver.owner(pinned.ctypes.data) is None  # known to the driver, but the host's
    with pytest.raises(errors.InternalError):
        device.kernel("nonsense", "add")
    for address in (a, b, c):
        device.free(address)
    del pinned, recorded
    gc.collect()
    device.close()
    assert [symbol for symbol in driver.PROTOTYPES if not cuda.calls(symbol)] == []
    live = {kind: cuda.live(kind) for kind in "device host context module function stream event graph exec link".split()}
    assert set(live.values()) == {0}, live


@pytest.mark.parametrize("kinds, values, error, words", [
    ("pp", [1], ValueError, "2 parameters"), ("x", [1], ValueError, "unknown kind"), ("i", [2**32], ValueError, "argument 0"),
    ("l", [-2**63 - 1], ValueError, "argument 0"), ("p", [-1], ValueError, "argument 0"), ("i", [1.5], AttributeError, "__index__"),
    ("f", ["a"], Exception, "float"),
])
def test_arguments_that_do_not_fit(kinds, values, error, words):
    with pytest.raises(error, match=words):
        driver.Arguments(1, kinds, values)


def test_what_a_device_is(cuda):
    cuda.start("devices=2 capability=86 memory=1000000")
    p = driver.current().properties(1)
    assert p == Properties("Fake GPU 1", (8, 6), 1_000_000, 132, "0000:05:00.0", 13000, "GPU-10111213-1415-1617-1819-1a1b1c1d1e1f", 232448,
                           62914560, 1.98e9, 2 * 3.201e9 * 768)
    assert driver.current().name == "CUDA 13.0" and driver.current().count() == 2
    assert [repr(d) for d in devices()] == [f"<GPU {k} (Fake GPU {k}), compute capability 8.6, 976.6 KiB>" for k in (0, 1)]


def test_what_a_driver_does_not_tell_any_more(cuda):
    cuda.start("clock=0")
    assert devices()[0].properties.clock == 0


# ---------------------------------------------------------------- whether there is anything


@pytest.mark.parametrize("options, words", [
    ("devices=0", "CUDA_ERROR_NO_DEVICE.*sees no device.*--gpus all"), ("init=802", "fabricmanager"), ("init=803", "restart the machine"),
    ("init=34", "stub of the CUDA toolkit"), ("init=999", "nvidia_uvm"), ("init=719", "CUDA_ERROR_LAUNCH_FAILED.*nvidia-smi"),
    ("version=11070", r"serves CUDA 11\.7.*11\.8 or newer.*newer driver"),
    ("capability=75", r"Fake GPU 0\) has compute capability 7\.5.*8\.0"),
    ("devices=2 capability=61", "Device 0 .*6.1.*Device 1 .*6.1"),
    ("fail=cuDeviceTotalMem_v2:999", r"cannot be asked what they are \(CUDA_ERROR_UNKNOWN \(999\): cuDeviceTotalMem_v2.*nvidia-smi"),
    ("fail=cuDeviceGetCount:46", "cannot be asked what they are"),
])
def test_why_no_device_can_be_used(cuda, options, words):
    cuda.start(options)
    with pytest.raises(Unavailable, match=words):
        driver.current()
    assert driver.why_not().endswith(".") and devices() == []


def test_a_device_is_touched_when_it_is_used(cuda):
    cuda.start("devices=2")
    first, second = devices()
    assert cuda.live("context") == 0
    second.allocate(8)
    assert cuda.live("context") == cuda.live("stream") == 1 and first.stream and cuda.live("context") == 2


def test_one_device_of_two_is_too_old(cuda):
    cuda.start("devices=2 capability=90 second=70")
    assert [d.ordinal for d in devices()] == [0] and driver.why_not() == ""
    with pytest.raises(ValueError, match="names device 1, which cannot be used: .*7.0"):
        devices(tf.GPUOptions(visible_device_list="1"))


@pytest.mark.parametrize("shown", ["7", "GPU-0", "MIG-1,0"])
def test_a_variable_that_names_no_device(cuda, monkeypatch, shown):
    cuda.start("devices=0")
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", shown)
    words = rf"NO_DEVICE\): CUDA_VISIBLE_DEVICES={shown} names no device that is here: .*`nvidia-smi -L`.*unset it\."
    assert re.search(words, driver.why_not())


def test_where_the_driver_lies_though_the_loader_does_not_look_there(cuda, monkeypatch, tmp_path):
    (tmp_path / "libcuda.so.1").symlink_to(cuda.path)
    monkeypatch.delenv("GRAPHFLOW_LIBCUDA")
    monkeypatch.setattr(driver, "_FOLDERS", ("/nowhere", str(tmp_path)))
    monkeypatch.setattr(ctypes, "CDLL", lambda name, load=ctypes.CDLL: load("/no" if name == "libcuda.so.1" else name))
    driver.forget()
    assert driver.why_not() == ""


@pytest.mark.parametrize("hidden", ["", "-1"])
def test_hidden_devices(cuda, monkeypatch, hidden):
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", hidden)
    assert re.search("CUDA_VISIBLE_DEVICES hides every GPU; unset it", driver.why_not())
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES")
    assert driver.why_not() == ""  # asked again, because the variable changed


def test_no_library(monkeypatch, cuda):
    monkeypatch.setenv("GRAPHFLOW_LIBCUDA", "/nowhere/libcuda.so.1")
    driver.forget()
    assert re.search("GRAPHFLOW_LIBCUDA names cannot be loaded.*nowhere", driver.why_not())


@pytest.mark.skipif(NVIDIAS is not None, reason="this machine has NVIDIA's driver")
def test_finding_out_that_there_is_no_driver_is_cheap(monkeypatch):
    code = """
import sys, time
from graphflow.runtime.cuda import driver, device
best = again = 1
for _ in range(5):
    driver.forget()
    start = time.perf_counter()
    why = driver.why_not()
    first = time.perf_counter()
    assert device.devices() == []
    best, again = min(best, first - start), min(again, time.perf_counter() - first)
print(best < 1e-3, again < 1e-4, [m for m in ("numba", "llvmlite") if m in sys.modules], why)
"""
    ran = child(code, GRAPHFLOW_LIBCUDA="")
    assert ran.stdout.startswith("True True [] The NVIDIA driver library libcuda.so.1 was not found; install the NVIDIA driver"), ran


def test_a_driver_without_an_entry_point_is_too_old(tmp_path, monkeypatch, cuda):
    source = tmp_path / "old.c"
    source.write_text("int cuDriverGetVersion(int *v) { *v = 13000; return 0; } int cuInit(unsigned f) { return (int)f; }")
    assert os.system(f"gcc -shared -fPIC {source} -o {tmp_path}/old.so") == 0
    monkeypatch.setenv("GRAPHFLOW_LIBCUDA", f"{tmp_path}/old.so")
    driver.forget()
    assert re.search("has no cuGetErrorName; install a newer one", driver.why_not())


def test_a_child_made_by_fork_is_told(cuda):
    device = the_device()
    inbox, outbox = os.pipe()
    child_id = os.fork()
    if not child_id:  # only plain calls here: this process must not return to pytest
        said = driver.why_not()
        try:
            device.allocate(8)
        except errors.FailedPreconditionError as error:
            said += "|" + error.message
        said += f"|{len(devices())}"
        devices_of.reset()  # nothing to release in a child, and no crash
        os.write(outbox, said.encode())
        os._exit(0)
    os.close(outbox)
    first, second, count = open(inbox, encoding="utf-8").read().split("|")
    assert os.waitpid(child_id, 0)[1] == 0
    assert first == second and re.search(f"forked from process {os.getpid()} after CUDA had started.*spawn", first) and count == "0"
    device.allocate(8)  # the parent goes on


def test_another_driver_can_be_put_in_place(cuda):
    class Other(Driver):
        name = "other"

    Other.__abstractmethods__ = frozenset()
    real = driver.current()
    with driver.installed(Other()) as other:
        assert driver.current() is other
        with driver.installed(Other()) as inner:
            assert driver.current() is inner
        assert driver.current() is other
    assert driver.current() is real
    driver.install(other)
    assert driver.current() is other
    driver.install(None)
    assert driver.current() is real


# ---------------------------------------------------------------- memory


@given(st.integers(1, 1 << 40))
def test_sizes_of_blocks(n):
    size = size_class(n)
    assert n <= size <= max(n + 511, n * 9 / 8) and size_class(size) == size and size % 256 == 0


def test_freed_memory_is_used_again(cuda):
    device = the_device()
    a = device.allocate(1000)
    device.free(a)
    assert device.memory.stats() == (0, 1024, 1024, 0)
    assert device.allocate(400) != a  # another class of sizes
    assert device.allocate(900) == a and cuda.calls("cuMemAlloc_v2") == 2
    device.free(a)
    assert device.trim() == 1024 and device.memory.stats() == (512, 0, 1536, 0) and cuda.live("device") == 1
    assert device.allocate(0) == 0
    device.free(0)


def test_memory_that_is_not_ours(cuda):
    device = the_device()
    a = device.allocate(8)
    device.free(a)
    for address in (a, a + 8, 77):
        with pytest.raises(ValueError, match="not that of an allocated block"):
            device.free(address)


def test_kept_memory_is_given_up_before_an_allocation_fails(cuda):
    cuda.start("memory=100000")
    device = the_device()
    parts = [device.allocate(20_000) for _ in range(4)]
    for part in parts[:3]:
        device.free(part)
    device.allocate(60_000)
    assert device.memory.stats().cached == 0
    with pytest.raises(errors.ResourceExhaustedError) as caught:
        device.allocate(50_000)
    assert re.fullmatch(r"GPU 0 \(Fake GPU 0\) has no memory left while allocating 48\.83 KiB\. This process uses 80 KiB of its 97\.66 "
                        r"KiB; 17\.66 KiB are free\. Use smaller batches, or end other programs on the device\.", caught.value.message)
    assert isinstance(caught.value, MemoryError)
    device.allocate(10_000)  # the device still works


def test_a_fraction_of_the_memory(cuda):
    device = devices(tf.GPUOptions(per_process_gpu_memory_fraction=0.5, allow_growth=True))[0]
    device.memory.limit = 10_000
    a = device.allocate(6000)
    with pytest.raises(errors.ResourceExhaustedError, match=r"may have 9\.766 KiB \(per_process_gpu_memory_fraction\)"):
        device.allocate(6000)
    device.free(a)
    device.allocate(8000)  # what is kept makes room
    assert devices(tf.GPUOptions(per_process_gpu_memory_fraction=0.25))[0] is device and device.memory.limit == 1 << 28
    with pytest.raises(ValueError, match="between 0 and 1, got 2"):
        devices(tf.GPUOptions(per_process_gpu_memory_fraction=2.0))


def test_pinned_arrays(cuda):
    device = the_device()
    a = device.pinned((3, 4), np.float64)
    a[:] = 7
    assert a.shape == (3, 4) and a.flags.c_contiguous and a.flags.writeable and cuda.live("host") == 1
    part = a[1:, 2]
    address = a.ctypes.data
    del a
    gc.collect()
    assert device.host_memory.stats().used == 512 and part.tolist() == [7, 7]  # a view holds the memory
    del part
    gc.collect()
    assert device.host_memory.stats() == (0, 512, 512, 0)
    again = device.pinned(5, tf.bfloat16)
    assert again.dtype == np.uint16 and again.ctypes.data == address
    assert device.pinned((0, 3), np.float32).shape == (0, 3)
    with pytest.raises(TypeError, match="cannot hold Python objects"):
        device.pinned(3, object)


def test_no_page_locked_memory_left(cuda):
    """It is the host's that is short, not the GPU's."""
    device = the_device()
    keep = device.pinned(1000, np.uint8)
    cuda.fail("cuMemHostAlloc", 2)
    with pytest.raises(errors.ResourceExhaustedError, match=r"This machine has no 7\.812 KiB of page-locked memory .* GPU 0 .*; 1 KiB are"):
        device.pinned(1000, np.float64)
    cuda.fail("cuMemHostAlloc", 304)
    with pytest.raises(errors.InternalError, match="allocating 7.812 KiB of page-locked host memory: CUDA_ERROR"):
        device.pinned(1000, np.float64)
    assert keep.nbytes == 1000


def test_copies_refuse_what_is_not_one_piece(cuda):
    device = the_device()
    to = device.allocate(64)
    with pytest.raises(ValueError, match="C-contiguous"):
        device.copy_in(to, np.ones((4, 4), np.float32)[:, ::2])
    fixed = np.ones(3)
    fixed.flags.writeable = False
    with pytest.raises(ValueError, match="writable"):
        device.copy_out(fixed, to)
    device.copy_in(to, np.empty(0))  # nothing
    with pytest.raises(errors.InternalError, match="copying 400 bytes between host and device: CUDA_ERROR_INVALID_VALUE"):
        device.copy_in(5, np.ones(100, np.float32))


# ---------------------------------------------------------------- kernels


def test_a_kernel_is_linked_once_and_kept_on_disk(cuda):
    device = the_device()
    kernel = device.kernel(PTX, "add")
    assert device.kernel(PTX, "add") is kernel and device.kernel(PTX, "show") is not kernel
    assert cuda.calls("cuLinkCreate_v2") == 1 and cuda.calls("cuModuleLoadData") == 1
    cubin, text = sorted(cuda.cache.iterdir())
    assert (cubin.suffix, text.suffix, text.read_text()) == (".cubin", ".ptx", PTX)
    cuda.start()
    assert the_device().kernel(PTX, "add") is not kernel and not cuda.calls("cuLinkCreate_v2")
    cuda.start("capability=80")
    the_device().kernel(PTX, "add")
    assert cuda.calls("cuLinkCreate_v2") == 1 and len(list(cuda.cache.iterdir())) == 4  # another machine code


@pytest.mark.parametrize("spoil", [lambda b: b[:-3], lambda b: b[:60] + b"?" + b[61:], lambda b: b""])
def test_a_damaged_file_is_made_again(cuda, spoil):
    the_device().kernel(PTX, "add")
    file = next(cuda.cache.glob("*.cubin"))
    whole = file.read_bytes()
    file.write_bytes(spoil(whole))
    cuda.start()
    the_device().kernel(PTX, "add")
    assert cuda.calls("cuLinkCreate_v2") == 1 and file.read_bytes() == whole


def test_a_cubin_that_the_driver_refuses_is_made_again(cuda):
    device = the_device()
    device._disk().store(device._key(PTX), b"of another driver", PTX, ".cubin", ".ptx")
    device.kernel(PTX, "add")
    assert cuda.calls("cuModuleLoadData") == 2 and cuda.calls("cuLinkCreate_v2") == 1


def test_many_texts_are_linked_at_once(cuda):
    device = the_device()
    texts = [PTX + f"\n// {k}" for k in range(6)]
    device.link(texts)
    assert cuda.calls("cuLinkCreate_v2") == 6
    for text in texts:
        device.kernel(text, "add")
    device.link(texts)
    assert cuda.calls("cuLinkCreate_v2") == 6 and cuda.live("link") == 0


def test_the_assembler_says_what_is_wrong(cuda):
    with pytest.raises(errors.InternalError, match=r"(?s)linking the kernel softmax: CUDA_ERROR_INVALID_PTX \(218\).*softmax, line 1; "
                                                   r"fatal : Missing .version directive"):
        the_device().kernel("not ptx", "k", "softmax")
    assert cuda.live("link") == 0


def test_an_unknown_symbol(cuda):
    with pytest.raises(errors.InternalError, match="loading the kernel mul: CUDA_ERROR_NOT_FOUND"):
        the_device().kernel(PTX, "mul")


@pytest.mark.parametrize("grid, block, shared", [((1, 1, 1), (1025, 1, 1), 0), ((1, 1, 1), (1, 1, 1), 1 << 20),
                                                 ((1, 70000, 1), (1, 1, 1), 0)])
def test_launches_beyond_the_limits(cuda, grid, block, shared):
    device = the_device()
    launch = device.kernel(PTX, "shared", "my kernel").prepare("p", [device.allocate(4)], grid, block, shared)
    with pytest.raises(errors.InternalError, match="launching my kernel: CUDA_ERROR_INVALID_VALUE"):
        launch()
    device.synchronize()  # nothing is lost


@pytest.mark.parametrize("grid, block", [((0, 1, 1), (32, 1, 1)), (((1 << 32) + 1, 1, 1), (32, 1, 1)), ((1, 1, 1), (-1, 1, 1))])
def test_launches_that_are_none(cuda, grid, block):
    with pytest.raises(ValueError, match=r"shared cannot be launched with grid .* and block .*: sizes are from 1"):
        the_device().kernel(PTX, "shared").prepare("p", [0], grid, block)


# ---------------------------------------------------------------- graphs


def test_a_recording_that_fails(cuda):
    device = the_device()
    a = floats(device, 1)
    with pytest.raises(ZeroDivisionError), device.capture():
        device.fill(a, 0, 4)
        raise ZeroDivisionError
    with pytest.raises(errors.FailedPreconditionError, match="waited for while a graph is recorded"), device.capture():
        device.synchronize()
    with pytest.raises(errors.FailedPreconditionError, match="recording a graph already"), device.capture(), device.capture():
        pass
    cuda.fail("cuGraphInstantiateWithFlags", 2, 1)
    with pytest.raises(errors.ResourceExhaustedError, match="no memory left while recording big"), device.capture("big"):
        device.fill(a, 0, 4)
    assert cuda.live("graph") == 0 and read(device, a, 1).tolist() == [1]
    with device.capture() as recorded:
        device.fill(a, 0, 4)
    recorded.graph()
    assert read(device, a, 1).tolist() == [0]


def test_what_a_graph_reads_outlives_it(cuda):
    """Page-locked memory is given back when nothing under way uses it, and not before."""
    device = the_device()
    a, pinned = device.allocate(8), device.pinned(2, np.float32)
    pinned[:] = 3, 4
    with device.capture() as recorded:
        device.copy_in(a, pinned)
    recorded.graph()
    del recorded, pinned
    gc.collect()
    assert device.host_memory.stats().used == 512
    device.trim()
    assert read(device, a, 2).tolist() == [3, 4]
    device.trim()
    assert cuda.live("host") == 0


def test_other_threads_ask_for_time_and_give_memory_back(cuda):
    device, failed = the_device(), []
    a = device.allocate(8)
    with device.capture() as recorded:
        device.fill(a, 0, 8)
    with device.timed() as seconds:
        recorded.graph()
    del recorded
    gc.collect()

    def other():
        try:
            assert seconds() > 0
            device.free(a)
            assert device.trim() == 512
        except Exception as error:
            failed.append(error)

    threads = [threading.Thread(target=other)]
    for thread in threads:
        thread.start()
        thread.join()
    assert failed == [] and cuda.live("device") == cuda.live("exec") == 0


def test_other_programs_use_the_legacy_stream_while_a_graph_is_recorded(cuda):
    device = the_device()
    a, b = floats(device, 1), floats(device, 2)
    with device.capture() as recorded:
        device.copy(a, b, 4)
        device.driver.fill(b, 0, 4, 1)  # of another library, on the legacy default stream
    recorded.graph()
    assert read(device, b, 1).tolist() == [2]


def test_the_garbage_collector_may_return_memory_while_a_graph_is_recorded(cuda):
    device = the_device()
    a, b = device.allocate(8), device.allocate(8)
    device.free(b, shared=True)
    with device.capture() as recorded:
        device.fill(a, 1, 8)
        device.trim()  # cuMemFree
        device.allocate(4096)
    recorded.graph()
    assert read(device, a, 8, np.uint8).tolist() == [1] * 8


# ---------------------------------------------------------------- errors


@pytest.mark.parametrize("kernel, words", [("trap", r"CUDA_ERROR_LAUNCH_FAILED \(719\)"), ("stray", r"CUDA_ERROR_ILLEGAL_ADDRESS \(700\)")])
def test_a_kernel_that_faults_takes_the_device_with_it(cuda, kernel, words):
    device = the_device()
    a = device.allocate(4)
    device.kernel(PTX, kernel, "relu_grad").prepare(*(("", []) if kernel == "trap" else ("p", [12345])), (1, 1, 1), (1, 1, 1))()
    with pytest.raises(errors.InternalError, match=rf"(?s)GPU 0 \(Fake GPU 0\) failed while running step 7: {words}.*last queued: "
                                                   r"relu_grad\).*until this process ends.*GRAPHFLOW_CHECK=2"):
        device.synchronize("step 7")
    for later in (lambda: device.allocate(4), lambda: device.copy_in(a, np.ones(1, np.float32)), device.synchronize,
                  lambda: device.kernel(PTX, "add")):
        with pytest.raises(errors.InternalError, match="was lost earlier in this process. The first error was: .*running step 7"):
            later()
    device.free(a)
    device.close()
    with pytest.raises(errors.FailedPreconditionError, match="was closed: it was reset"):
        device.allocate(4)


@pytest.mark.parametrize("call, code, error, lost", [
    ("cuStreamSynchronize", 719, errors.InternalError, True), ("cuStreamSynchronize", 716, errors.InternalError, True),
    ("cuStreamSynchronize", 710, errors.InternalError, True), ("cuStreamSynchronize", 2, errors.ResourceExhaustedError, False),
    ("cuStreamSynchronize", 999, errors.InternalError, False), ("cuMemsetD8Async", 1, errors.InternalError, False),
    ("cuMemcpyDtoDAsync_v2", 400, errors.InternalError, False), ("cuCtxSetCurrent", 201, errors.InternalError, False),
    ("cuMemGetInfo_v2", 2, None, False),
])
def test_errors_of_the_driver(cuda, call, code, error, lost):
    device = the_device()
    a = device.allocate(64)
    cuda.fail(call, code, 1)

    def work():
        device.fill(a, 0, 64)
        device.copy(a + 32, a, 32)
        device.synchronize()

    if error:
        with pytest.raises(error) as caught:
            work()
        cause = caught.value.__cause__
        assert device.name in caught.value.message and isinstance(cause, DriverError) and cause.code == code
    if lost:
        with pytest.raises(errors.InternalError, match="lost earlier"):
            work()
    else:
        work()


def test_what_to_do_about_an_error(cuda):
    cuda.fail("cuDevicePrimaryCtxRetain", 46)
    with pytest.raises(errors.InternalError, match="allocating 4 bytes: CUDA_ERROR_DEVICE_UNAVAILABLE .*Another process.*nvidia-smi"):
        the_device().allocate(4)


def test_out_of_memory_where_even_the_question_fails(cuda):
    device = the_device()
    cuda.fail("cuMemAlloc_v2", 2)
    cuda.fail("cuMemGetInfo_v2", 2)
    with pytest.raises(errors.ResourceExhaustedError, match="uses 0 bytes of its 1 GiB"):
        device.allocate(1)


def test_a_driver_error_says_all():
    import pickle

    error = DriverError(700, text="cuLaunchKernel")
    assert str(error) == "CUDA_ERROR_ILLEGAL_ADDRESS (700): cuLaunchKernel" and error.sticky
    assert str(pickle.loads(pickle.dumps(error))) == str(error) and not DriverError(2).sticky


# ---------------------------------------------------------------- devices


@pytest.mark.parametrize("text, ordinals", [("", [0, 1, 2]), ("1", [1]), ("2,0", [2, 0]), (" 0 , 1 ", [0, 1])])
def test_visible_devices(cuda, text, ordinals):
    cuda.start("devices=3")
    found = devices(tf.GPUOptions(visible_device_list=text))
    assert [d.ordinal for d in found] == ordinals
    assert all(d is e for d, e in zip(found, devices(tf.GPUOptions(visible_device_list=text))))


@pytest.mark.parametrize("text, words", [("a", "numbers with commas"), ("7", r"names device 7.*usable are \[0, 1, 2\]"), ("1,1", "twice"),
                                         ("-1", "names device -1")])
def test_visible_devices_that_are_wrong(cuda, text, words):
    cuda.start("devices=3")
    with pytest.raises(ValueError, match=words):
        devices(tf.GPUOptions(visible_device_list=text))


def test_each_device_works_in_its_own_context(cuda):
    cuda.start("devices=2")
    first, second = devices()
    a, b = floats(first, 1, 2), floats(second, 3, 4)
    assert (first.driver.owner(a), first.driver.owner(b)) == (0, 1)
    assert read(first, a, 2).tolist() == [1, 2] and read(second, b, 2).tolist() == [3, 4]
    kernels = [d.kernel(PTX, "add") for d in (first, second)]
    for device, kernel in zip((first, second), kernels):
        c = device.allocate(8)
        x = {first: a, second: b}[device]
        kernel.prepare("pppi", [x, x, c, 2], (1, 1, 1), (32, 1, 1))()
        assert read(device, c, 2).tolist() == ([2, 4] if device is first else [6, 8])


def behind(second, first):
    """What is queued on the second device from now on comes after what is on the first."""
    mark = Mark(first)
    mark.set()
    second.after(mark)


@pytest.mark.parametrize("options", ["devices=2", "devices=2 peers=0"])
def test_values_go_from_one_device_to_another(cuda, options):
    cuda.start(options)
    first, second = devices()
    a, b = floats(first, 1, 2, 3), floats(second, 0, 0, 0)
    for turn in range(2):
        first.fill(a, turn, 4)
        behind(second, first)
        second.fetch(b, first, a, 12)
        behind(first, second)
        first.fill(a, 255, 12)  # what is fetched has been
        assert read(second, b, 3)[1:].tolist() == [2, 3] and read(second, b, 1, np.uint32) == 0x01010101 * turn
        first.copy_in(a, np.array([1, 2, 3], np.float32))
    assert cuda.calls("cuCtxEnablePeerAccess") == ("peers=0" not in options) and cuda.calls("cuMemcpyPeerAsync") == 2


def test_what_copies_between_devices_fail_with(cuda):
    cuda.start("devices=2")
    first, second = devices()
    a, b = floats(first, 1), floats(second, 0)
    cuda.fail("cuCtxEnablePeerAccess", 704, 1)  # by another library
    behind(second, first)
    second.fetch(b, first, a, 4)
    assert read(second, b, 1) == 1
    cuda.fail("cuMemcpyPeerAsync", 719, 1)
    with pytest.raises(errors.InternalError, match=r"GPU 1 \(Fake GPU 1\) failed while copying 4 bytes from GPU 0 \(Fake GPU 0\): .*719"):
        second.fetch(b, first, a, 4)


def test_a_step_costs_the_host_little(cuda):
    """The bindings, the fake included, which does the work of a GPU too: a graph and the wait for it."""
    device = the_device()
    with device.capture() as recorded:
        pass
    best = 1.0
    for _ in range(200):
        start = time.perf_counter()
        recorded.graph()
        device.synchronize()
        best = min(best, time.perf_counter() - start)
    assert best < 40e-6  # 4 us on an idle machine


def test_a_step_gives_pythons_lock_away_once(cuda):
    """While it waits for the device; a thread busy in Python keeps the lock for 30 ms here."""
    device, busy = the_device(), True
    with device.capture() as recorded:
        pass
    for name in ("cuCtxSetCurrent", "cuGraphLaunch"):
        cuda.slow(name, 1000)  # so long that the other thread wakes

    def spin():
        while busy:
            pass

    thread, before = threading.Thread(target=spin), sys.getswitchinterval()
    sys.setswitchinterval(0.03)
    try:
        thread.start()
        times = []
        for _ in range(7):
            start = time.perf_counter()
            recorded.graph()
            device.synchronize()
            times.append(time.perf_counter() - start)
    finally:
        busy = False
        sys.setswitchinterval(before)
        thread.join()
    assert sorted(times)[len(times) // 2] < 0.07, times


# ---------------------------------------------------------------- the end of the process

EXIT = """
import atexit, ctypes, os
import numpy as np
lib = ctypes.CDLL(os.environ["GRAPHFLOW_LIBCUDA"])
lib.fake_live.restype = ctypes.c_long
atexit.register(lambda: print({k: lib.fake_live(k.encode()) for k in ("device", "host", "context", "stream", "module", "exec", "event")}))
from graphflow.runtime.cuda import device as d
from graphflow.runtime.cuda.arrays import DeviceArray
device = d.devices()[0]
held = device.pinned(10, np.float32)
array = DeviceArray.put(device, held)
capsule = array.__dlpack__()
device.kernel(%r, "add")
with device.capture() as recorded:
    device.copy_in(array.address, held)
recorded.graph()
cycle = [array, held, recorded]; cycle.append(cycle)
"""


@pytest.mark.parametrize("last, printed", [
    ("", "{'device': 0, 'host': 0, 'context': 0, 'stream': 0, 'module': 0, 'exec': 0, 'event': 0}"),
    ("lib.fake_shutdown()", None),
    ("lib.fake_fail(b'cuStreamSynchronize', 700, -1)", None), ("lib.fake_fail(b'cuCtxSetCurrent', 4, -1)", None),
])
def test_the_process_ends_quietly_whatever_lives(cuda, last, printed):
    ran = child(EXIT % PTX + last)
    assert (ran.returncode, ran.stderr) == (0, ""), ran
    if printed:
        assert ran.stdout.strip() == printed
