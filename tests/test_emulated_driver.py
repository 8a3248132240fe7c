"""The emulated driver: what the runtime asks of a CUDA driver, its faults, and what it says of programs that misuse it."""
from __future__ import annotations

import ctypes
import dataclasses
import re
import threading
from pathlib import Path

import numpy as np
import pytest
from ptx_cases import SCALE, kernel

from graphflow.runtime.cuda import driver as drivers
from graphflow.runtime.cuda.driver import DriverError
from graphflow.testing import emulated_gpu, ptx
from graphflow.testing.watched import Watched


@pytest.fixture
def gpu():
    with emulated_gpu(memory=1 << 24) as driver:
        driver.use(0)
        yield driver


def put(gpu, array: np.ndarray) -> int:
    address = gpu.allocate(array.nbytes)
    gpu.copy_in(address, array.ctypes.data, array.nbytes, 0)
    return address


def take(gpu, address: int, shape, dtype=np.float32) -> np.ndarray:
    out = np.empty(shape, dtype)
    gpu.copy_out(out.ctypes.data, address, out.nbytes, 0)
    gpu.synchronize(0)
    return out


def made(gpu, text: str = SCALE, name: str = "scale") -> int:
    return gpu.function(gpu.load(gpu.link(text)), name)


def locked(gpu, n: int) -> np.ndarray:
    """n float32 in page-locked memory."""
    return np.frombuffer((ctypes.c_char * (4 * n)).from_address(gpu.allocate_host(4 * n)), np.float32)


def fails(name: str):
    return pytest.raises(DriverError, match=name)


def test_it_is_the_driver_in_use():
    with emulated_gpu(count=2, memory=1 << 20) as driver:
        assert drivers.current() is driver and driver.name == "emulated" and driver.count() == 2 and not driver.keeps
        p = driver.properties(1)
        assert (p.name, p.capability, p.memory) == ("Emulated GPU", (9, 0), 1 << 20)
        with fails("CUDA_ERROR_INVALID_DEVICE"):
            driver.properties(2)
    with emulated_gpu(capability=(12, 0)) as driver:
        assert driver.properties(0).capability == (12, 0)


def test_a_kernel_and_its_arguments(gpu):
    x = np.arange(1000, dtype=np.float32)
    a, out, f = put(gpu, x), gpu.allocate(4000), made(gpu)
    gpu.launch(gpu.prepare(f, "ppif", [a, out, 1000, 0.5]), (4, 1, 1), (256, 1, 1), 0, 0)
    np.testing.assert_array_equal(take(gpu, out, 1000), x / 2)
    assert gpu.attributes(f) == {"registers": 0, "local_bytes": 0, "shared_bytes": 0, "max_threads": 1024}
    with pytest.raises(ptx.LaunchFault, match="arguments 'ppi'"):
        gpu.prepare(f, "ppi", [a, out, 1000])
    with pytest.raises(ptx.LaunchFault, match="bytes"):
        gpu.prepare(f, "pplf", [a, out, 1000, 0.5])
    assert gpu.counters.launches == 1 and gpu.counters.coalesced
    assert gpu.calls["launch"] == 1 and gpu.nbytes["copy_in"] == gpu.nbytes["copy_out"] == 4000


def test_copies_and_fills(gpu):
    x = np.arange(64, dtype=np.float32)
    a, b = put(gpu, x), gpu.allocate(256)
    gpu.copy(b + 64, a, 128, 0)
    gpu.fill(b, 0, 64, 0)
    gpu.fill(b + 192, 0xFF, 64, 0)
    out = take(gpu, b, 64)
    np.testing.assert_array_equal(out[:48], np.r_[np.zeros(16), x[:32]])
    assert np.isnan(out[48:]).all()
    host = gpu.allocate_host(256)
    gpu.copy_out(host, b, 256, 0)
    gpu.free_host(host)
    for call in (lambda: gpu.copy_in(a + 4, x.ctypes.data, 256, 0), lambda: gpu.copy_out(x.ctypes.data, 12345, 4, 0),
        lambda: gpu.free(a + 4),
                 lambda: gpu.free_host(host), lambda: gpu.fill(a - 4, 0, 4, 0), lambda: gpu.allocate(0)):
        with fails("CUDA_ERROR_INVALID_VALUE"):
            call()


def test_what_nobody_wrote_is_not_copied_to_the_host(gpu):
    a = gpu.allocate(64)
    gpu.fill(a, 0, 16, 0)
    with pytest.raises(ptx.UninitializedRead, match="48 of them were never written, the first at offset 16"):
        take(gpu, a, 16)
    gpu.strict = False
    take(gpu, a, 16)


def test_memory_runs_out(gpu):
    free, total = gpu.memory(0)
    assert free == total == 1 << 24
    a = gpu.allocate(1 << 23)
    assert gpu.memory(0) == (1 << 23, 1 << 24)
    with fails("CUDA_ERROR_OUT_OF_MEMORY"):
        gpu.allocate((1 << 23) + 1)
    gpu.free(a)
    addresses = [gpu.allocate(1000) for _ in range(100)]
    assert all(address % 256 == 0 for address in addresses) and len(set(addresses)) == 100
    for address in addresses[::2] + addresses[1::2]:
        gpu.free(address)
    assert gpu.memory(0) == (total, total)
    gpu.free(gpu.allocate(total))  # all of it, in one piece again


def test_a_freed_allocation_is_out_of_bounds(gpu):
    x = np.ones(64, np.float32)
    a, b, f = put(gpu, x), gpu.allocate(256), made(gpu)
    gpu.free(a)
    with pytest.raises(ptx.OutOfBounds, match="kernel scale"):
        gpu.launch(gpu.prepare(f, "ppif", [a, b, 64, 1.0]), (1, 1, 1), (64, 1, 1), 0, 0)
    with fails("CUDA_ERROR_INVALID_VALUE"):
        gpu.free(a)


def test_recorded_graphs_replay(gpu):
    x, out = locked(gpu, 1000), locked(gpu, 1000)
    x[:], out[:] = np.arange(1000), 0
    a, b, f, stream = gpu.allocate(4000), gpu.allocate(4000), made(gpu), gpu.stream()
    gpu.begin_capture(stream)
    with fails("CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"):
        gpu.copy_in(a, np.ones(1000, np.float32).ctypes.data, 4000, stream)
    gpu.copy_in(a, x.ctypes.data, 4000, stream)
    gpu.launch(gpu.prepare(f, "ppif", [a, b, 1000, 3.0]), (4, 1, 1), (256, 1, 1), 0, stream)
    gpu.copy_out(out.ctypes.data, b, 4000, stream)
    with fails("CUDA_ERROR_STREAM_CAPTURE_UNSUPPORTED"):
        gpu.synchronize(stream)
    with fails("CUDA_ERROR_ILLEGAL_STATE"):
        gpu.begin_capture(stream)
    graph = gpu.end_capture(stream)
    assert not out.any() and gpu.counters.launches == 0 and not gpu.nbytes
    for scale in (1, 2):
        x *= scale
        gpu.launch_graph(graph, stream)
        gpu.synchronize(stream)
        np.testing.assert_array_equal(out, 3 * x)
    assert gpu.counters.launches == 2 and gpu.nbytes["copy_in"] == 8000
    gpu.destroy_graph(graph)
    for call in (lambda: gpu.launch_graph(graph, stream), lambda: gpu.destroy_graph(graph), lambda: gpu.synchronize(99)):
        with fails("CUDA_ERROR_INVALID_HANDLE"):
            call()
    with fails("CUDA_ERROR_ILLEGAL_STATE"):
        gpu.end_capture(stream)
    gpu.destroy_stream(stream)
    with fails("CUDA_ERROR_INVALID_HANDLE"):
        gpu.synchronize(stream)


def test_events_measure_time(gpu):
    first, second = gpu.event(), gpu.event()
    with fails("CUDA_ERROR_INVALID_HANDLE"):
        gpu.elapsed(first, second)
    gpu.record(first, 0)
    gpu.record(second, 0)
    assert 0 <= gpu.elapsed(first, second) < 5
    gpu.destroy_event(first)
    with fails("CUDA_ERROR_INVALID_HANDLE"):
        gpu.record(first, 0)


def test_modules_own_their_variables(gpu):
    text = kernel("ld.global.u32 %r1, [counter]; add.u32 %r1, %r1, 1; st.global.u32 [counter], %r1; st.global.u32 [%a], %r1;",
                  before=".global .align 4 .u32 counter = 10;\n")
    out, used = gpu.allocate(4), gpu.memory(0)[0]
    one, two = gpu.load(gpu.link(text)), gpu.load(gpu.link(text))
    for module, expected in ((one, 11), (one, 12), (two, 11)):
        gpu.launch(gpu.prepare(gpu.function(module, "kernel"), "p", [out]), (1, 1, 1), (1, 1, 1), 0, 0)
        assert take(gpu, out, 1, np.uint32)[0] == expected
    gpu.unload(one)
    gpu.unload(two)
    assert gpu.memory(0)[0] == used
    with fails("CUDA_ERROR_INVALID_HANDLE"):
        gpu.unload(one)


def test_what_cannot_be_loaded(gpu):
    with pytest.raises(ptx.SyntaxFault):
        gpu.link("This is not PTX.")
    with fails("CUDA_ERROR_NO_BINARY_FOR_GPU"):
        gpu.load(b"\x7fELF\xff\xfe")
    with fails("CUDA_ERROR_NOT_FOUND.*no kernel other; there are scale"):
        made(gpu, SCALE, "other")
    with pytest.raises(ptx.Unsupported, match=r"(?s)frobnicate.*PTX line"):
        made(gpu, kernel("frobnicate.b32 %r1, %r2;"), "kernel")


def test_faults_on_demand(gpu):
    gpu.fail_next("allocate", "CUDA_ERROR_OUT_OF_MEMORY", after=1)
    gpu.allocate(4)
    with fails("CUDA_ERROR_OUT_OF_MEMORY.*asked for by the test"):
        gpu.allocate(4)
    gpu.allocate(4)
    gpu.fail_next("launch", "CUDA_ERROR_ILLEGAL_ADDRESS")
    prepared = gpu.prepare(made(gpu), "ppif", [gpu.allocate(4), gpu.allocate(4), 0, 0.0])
    with fails("CUDA_ERROR_ILLEGAL_ADDRESS"):
        gpu.launch(prepared, (1, 1, 1), (1, 1, 1), 0, 0)
    with fails("CUDA_ERROR_ILLEGAL_ADDRESS.*lost earlier"):  # as on a GPU
        gpu.allocate(4)
    gpu.restart()
    gpu.launch(prepared, (1, 1, 1), (1, 1, 1), 0, 0)
    for method, name in (("nothing", "CUDA_ERROR_UNKNOWN"), ("launch", "CUDA_ERROR_FUNNY")):
        with pytest.raises(ValueError, match="no method"):
            gpu.fail_next(method, name)


@pytest.mark.parametrize(("body", "name"), [
    ("st.global.b32 [%a+4096], %t;", "CUDA_ERROR_ILLEGAL_ADDRESS"), ("st.global.b32 [%a+2], %t;", "CUDA_ERROR_MISALIGNED_ADDRESS"),
    ("trap;", "CUDA_ERROR_LAUNCH_FAILED"), ("L: bra.uni L;", "CUDA_ERROR_LAUNCH_TIMEOUT")])
def test_defects_as_hardware_shows_them(body, name):
    with emulated_gpu(as_hardware=True, checks=ptx.Checks(steps=1000)) as gpu:
        gpu.use(0)
        prepared = gpu.prepare(made(gpu, kernel(body), "kernel"), "p", [gpu.allocate(64)])
        gpu.launch(prepared, (1, 1, 1), (4, 1, 1), 0, 0)
        gpu.launch(prepared, (1, 1, 1), (4, 1, 1), 0, 0)  # nobody knows yet
        with fails(name):
            gpu.synchronize(0)
        with fails(name):
            gpu.allocate(4)


def test_hardware_is_silent_about_races_and_unwritten_memory():
    with emulated_gpu(as_hardware=True) as gpu:
        gpu.use(0)
        a = gpu.allocate(64)
        gpu.launch(gpu.prepare(made(gpu, kernel("ld.global.b32 %r1, [%a]; st.global.b32 [%a], %t;"), "kernel"), "p", [a]), (1, 1, 1),
                   (4, 1, 1), 0, 0)
        assert take(gpu, a, 16, np.uint32)[0] in range(4)
        with fails("CUDA_ERROR_INVALID_VALUE"):
            gpu.launch(gpu.prepare(made(gpu), "ppif", [a, a, 0, 0.0]), (1, 1, 1), (2048, 1, 1), 0, 0)
        gpu.synchronize(0)  # that launch did not happen, and nothing is lost


def test_two_devices():
    with emulated_gpu(count=2, memory=1 << 20) as driver:
        driver.use(0)
        a = put(driver, np.arange(4, dtype=np.float32))
        driver.use(1)
        b = driver.allocate(16)
        assert (driver.owner(a), driver.owner(b), driver.owner(1234)) == (0, 1, None)
        driver.copy(b, a, 16, 0)
        assert take(driver, b, 4).tolist() == [0, 1, 2, 3]
        with pytest.raises(ptx.OutOfBounds):  # without peer access, memory of another device
            driver.launch(driver.prepare(made(driver), "ppif", [a, b, 4, 1.0]), (1, 1, 1), (4, 1, 1), 0, 0)
        assert driver.memory(0)[0] == driver.memory(1)[0] == (1 << 20) - 16


def test_each_thread_has_its_device():
    with emulated_gpu() as driver:
        found = []
        def work():
            try:
                driver.allocate(4)
            except DriverError as error:
                found.append(error.name)
        thread = threading.Thread(target=work)
        thread.start()
        thread.join()
        assert found == ["CUDA_ERROR_INVALID_CONTEXT"]


def test_threads_launch_at_once(gpu):
    def work(k: int):
        gpu.use(0)
        x = np.arange(300, dtype=np.float32) + k
        a, out = put(gpu, x), gpu.allocate(x.nbytes)
        for _ in range(5):
            gpu.launch(gpu.prepare(f, "ppif", [a, out, 300, 2.0]), (2, 1, 1), (256, 1, 1), 0, 0)
            np.testing.assert_array_equal(take(gpu, out, 300), 2 * x)
        done.append(k)

    f, done = made(gpu), []
    threads = [threading.Thread(target=work, args=(k,)) for k in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(done) == list(range(6))


def test_launches_touch_only_what_they_are_given(gpu):
    """In one allocation, as plans have it: a kernel that leaves its buffers."""
    arena = put(gpu, np.arange(256, dtype=np.float32))
    prepared = gpu.prepare(made(gpu), "ppif", [arena, arena + 512, 70, 2.0])
    gpu.launch(prepared, (1, 1, 1), (128, 1, 1), 0, 0)
    gpu.expect(prepared, [(arena, 256), (arena + 512, 280)])
    with pytest.raises(ptx.OutOfBounds,
        match=r"(?s)outside the buffers of this launch, 256 bytes from the start of one of 256 \(6 threads\).*"
                                              r"thread \(64, 0, 0\)"):
        gpu.launch(prepared, (1, 1, 1), (128, 1, 1), 0, 0)
    gpu.expect(prepared, [(arena, 280), (arena + 512, 280)])
    gpu.launch(prepared, (1, 1, 1), (128, 1, 1), 0, 0)
    with pytest.raises(ptx.OutOfBounds, match="outside the buffers"):
        gpu.expect(prepared, [(arena + 512, 280)])
        gpu.launch(prepared, (1, 1, 1), (128, 1, 1), 0, 0)
    text = kernel("ld.global.u32 %r1, [counter]; st.global.u32 [%a], %r1;", before=".global .align 4 .u32 counter = 10;\n")
    own = gpu.prepare(made(gpu, text, "kernel"), "p", [arena])
    gpu.expect(own, [(arena, 4)])  # the module's variables besides
    gpu.launch(own, (1, 1, 1), (1, 1, 1), 0, 0)


def test_the_page_about_it():
    """Every Python block of docs/ptx-emulator.md runs, one after the other."""
    page = (Path(__file__).parents[1] / "docs" / "ptx-emulator.md").read_text()
    names: dict = {}
    for block in re.findall(r"```python\n(.*?)```", page, re.S):
        exec(compile(block, "ptx-emulator.md", "exec"), names)
    with pytest.raises(ptx.OutOfBounds) as caught:
        ptx.run(names["text"].replace("@%p bra DONE;", ""), 4, 256, [names["x"], ptx.Out(names["out"]), 1000])
    assert "    OutOfBounds: " + str(caught.value).replace("\n", "\n    ") in page
    assert names["gpu"].counters.launches == 1 and names["counters"].launches == 1
    assert set(re.findall(r"^\| `(\w+)` \|", page, re.M)) <= set(dir(ptx))
    assert {f.name for f in dataclasses.fields(ptx.Checks)} - {"counters"} <= set(re.findall(r"\| `(\w+)` \|$", page, re.M))


def test_barriers_without_threads_that_have_exited():
    text = kernel("setp.ge.u32 %p1, %t, 20; @%p1 exit; bar.sync 0; add.u64 %q1, %a, %t4; st.global.u32 [%q1], %t;")
    out = np.zeros(32, np.uint32)
    with pytest.raises(ptx.BarrierFault, match="12 threads of the block have exited"):
        ptx.run(text, 1, 32, [ptx.InOut(out)])
    ptx.run(text, 1, 32, [ptx.InOut(out)], checks=ptx.Checks().without("barriers"))
    np.testing.assert_array_equal(out, np.where(np.arange(32) < 20, np.arange(32), 0))


def test_a_thread_without_a_device_is_refused():
    """As by CUDA: what is current is a matter of the thread."""
    with emulated_gpu() as gpu:
        gpu.use(0)
        stream, failed = gpu.stream(), []

        def other():
            for call in (gpu.stream, lambda: gpu.allocate(8), lambda: gpu.synchronize(stream), gpu.event):
                with pytest.raises(DriverError, match="INVALID_CONTEXT"):
                    call()
                failed.append(call)

        thread = threading.Thread(target=other)
        thread.start()
        thread.join()
        assert len(failed) == 4


@pytest.mark.parametrize("coherent", [False, True])
def test_copies_of_memory_that_is_not_page_locked(coherent):
    with emulated_gpu(deferred=True, coherent=coherent) as gpu:
        gpu.use(0)
        stream, a, host = gpu.stream(), gpu.allocate(4), np.array([1], np.int32)
        gpu.copy_in(a, host.ctypes.data, 4, stream)
        host[:] = 2
        gpu.copy_out(host.ctypes.data, a, 4, stream)
        assert host == (2 if coherent else 1)
        gpu.synchronize(stream)
        assert host == (2 if coherent else 1)


def test_deferred_work_shows_what_does_not_wait():
    with emulated_gpu(deferred=True) as gpu:
        gpu.use(0)
        f, a, b, stream, other = made(gpu), gpu.allocate(400), gpu.allocate(400), gpu.stream(), gpu.stream()
        prepared = gpu.prepare(f, "ppif", [a, b, 100, 2.0])
        pinned_in, pinned_out = locked(gpu, 100), locked(gpu, 100)
        address = {id(x): x.ctypes.data for x in (pinned_in, pinned_out)}
        pinned_in[:], pinned_out[:] = 1, -1

        def queue():
            gpu.copy_in(a, address[id(pinned_in)], 400, stream)
            gpu.launch(prepared, (1, 1, 1), (128, 1, 1), 0, stream)
            gpu.copy_out(address[id(pinned_out)], b, 400, stream)

        queue()
        assert (pinned_out == -1).all() and gpu.counters.launches == 0
        pinned_in[:] = 5  # too early: the copy has not been done
        gpu.synchronize(stream)
        assert (pinned_out == 10).all()
        # a stream that waits for an event takes along what is before it, not what is behind
        pinned_in[:], pinned_out[:] = 3, -1
        queue()
        event = gpu.event()
        gpu.record(event, stream)
        gpu.fill(b, 0, 400, stream)
        gpu.wait(other, event)
        assert (pinned_out == -1).all()
        gpu.synchronize(other)
        assert (pinned_out == 6).all()
        # memory that is not page-locked is read at once and, to be written, waited for
        plain = np.full(100, 7, np.float32)
        gpu.copy_in(a, plain.ctypes.data, 400, stream)
        plain[:] = 0
        gpu.launch(prepared, (1, 1, 1), (128, 1, 1), 0, stream)
        gpu.copy_out(plain.ctypes.data, b, 400, stream)
        assert (plain == 14).all()
        with pytest.raises(ptx.LaunchFault):  # a launch that cannot be is refused at once
            gpu.launch(prepared, (1, 1, 1), (2048, 1, 1), 0, stream)
        # what is freed is waited for, and defects come up where something waits
        gpu.launch(prepared, (1, 1, 1), (128, 1, 1), 0, stream)
        gpu.free(a)
        gpu.launch(prepared, (1, 1, 1), (128, 1, 1), 0, stream)
        with pytest.raises(ptx.OutOfBounds):
            gpu.synchronize(stream)
        gpu.synchronize(stream)


def test_another_driver_is_watched():
    """Copies and kernels of a graph count when it is launched, calls when they are made; a lost device stays lost."""
    with emulated_gpu(memory=1 << 24) as inner:
        gpu = Watched(inner)
        gpu.use(0)
        a, b, stream = gpu.allocate(400), gpu.allocate(400), gpu.stream()
        prepared, x = gpu.prepare(made(gpu), "ppif", [a, b, 100, 2.0]), locked(gpu, 100)
        x[:] = 1

        def queue():
            gpu.copy_in(a, x.ctypes.data, 400, stream)
            gpu.launch(prepared, (1, 1, 1), (128, 1, 1), 0, stream)
            gpu.copy(a, b, 200, stream)

        queue()
        gpu.begin_capture(stream)
        queue()
        graph = gpu.end_capture(stream)
        assert gpu.counters.launches == inner.counters.launches == 1 and gpu.nbytes == {"copy_in": 400, "copy": 200}
        gpu.launch_graph(graph, stream)
        gpu.launch_graph(graph, stream)
        assert gpu.counters.launches == inner.counters.launches == 3 and gpu.nbytes["copy_in"] == inner.nbytes["copy_in"] == 1200
        assert (gpu.calls["launch"], gpu.calls["launch_graph"], gpu.name, gpu.keeps) == (2, 2, "emulated", False)
        gpu.begin_capture(stream)
        gpu.fail_next("end_capture", "CUDA_ERROR_STREAM_CAPTURE_INVALIDATED")
        with pytest.raises(DriverError, match="INVALIDATED"):
            gpu.end_capture(stream)
        gpu.begin_capture(stream)  # the stream records no longer
        gpu.abandon_capture(stream)
        gpu.fail_next("synchronize", "CUDA_ERROR_ILLEGAL_ADDRESS")
        for _ in range(2):
            with pytest.raises(DriverError, match="ILLEGAL_ADDRESS"):
                gpu.synchronize(stream)
        gpu.restart()
        gpu.synchronize(stream)
