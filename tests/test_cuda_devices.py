"""What a device does, the same calls on three drivers: the libcuda written in C, the emulator, and a GPU if this machine has one."""
from __future__ import annotations

import gc
import inspect
import itertools
import shutil
import subprocess
import threading
from concurrent.futures import ThreadPoolExecutor

import fake_cuda
import numpy as np
import pytest
from fake_cuda import HERE, PTX, floats, read
from hypothesis import given
from hypothesis import strategies as st

from graphflow import errors
from graphflow.runtime.cuda import driver
from graphflow.runtime.cuda.arrays import DeviceArray
from graphflow.runtime.cuda.device import Pool, devices, reset, size_class
from graphflow.runtime.cuda.driver import Driver, DriverError, Libcuda
from graphflow.testing.gpu import EmulatedDriver

cuda, gpu = fake_cuda.cuda, fake_cuda.gpu  # fixtures
ONE = (1, 1, 1)


@pytest.mark.parametrize("kind", [Libcuda, EmulatedDriver])
@pytest.mark.parametrize("method", [n for n, f in vars(Driver).items() if inspect.isfunction(f)])
def test_drivers_take_the_same_arguments(kind, method):
    wanted, has = (list(inspect.signature(getattr(c, method)).parameters.values()) for c in (Driver, kind))
    assert [(p.name, p.default) for p in has] == [(p.name, p.default) for p in wanted]


@given(st.lists(st.tuples(st.sampled_from(["take", "free", "share", "trim"]), st.integers(0, 1 << 20)), max_size=60))
def test_any_use_of_a_pool(steps):
    """Blocks that are out never overlap; the books are right; what the system gave it gets back."""
    given_, out, fresh = {}, {}, itertools.count(1 << 20, 1 << 21)

    def take(size):
        address = next(fresh)
        given_[address] = size
        if sum(given_.values()) > 8 << 20:
            del given_[address]
            raise DriverError(2)
        return address

    pool = Pool(take, given_.pop)
    for act, n in steps:
        if act == "take":
            try:
                address = pool.allocate(n)
            except DriverError:
                assert sum(map(size_class, out.values())) + size_class(n) > 8 << 20 and pool.stats().cached == 0
                continue
            assert address in given_ and address not in out and given_[address] >= n
            out[address] = n
        elif act == "trim":
            assert pool.trim() >= 0 and pool.stats().cached == 0
        elif out:
            address = sorted(out)[n % len(out)]
            del out[address]
            pool.free(address, shared=act == "share")
        used, cached, peak, _ = pool.stats()
        assert used == sum(map(size_class, out.values())) <= peak and used + cached == sum(given_.values())


@pytest.mark.skipif(shutil.which("ptxas") is None, reason="no ptxas on this machine")
@pytest.mark.parametrize("machine", ["sm_80", "sm_90"])
def test_the_kernels_of_these_tests_assemble(tmp_path, machine):
    command = ["ptxas", f"-arch={machine}", str(HERE / "fake_cuda.ptx"), "-o", str(tmp_path / "cubin")]
    said = subprocess.run(command, capture_output=True, text=True)
    assert (said.returncode, said.stderr) == (0, "")


@pytest.mark.parametrize("i, l, f, d", [(1, 2, 3.0, 4.0), (-1, -2, -0.5, 1e300),
                                        (2**31 - 1, 2**63 - 1, 0.1, 0.1), (-2**31, -2**63, 1e-40, -0.0)])
def test_arguments_arrive_as_their_kinds_say(gpu, i, l, f, d):  # noqa: E741
    device = gpu
    out = device.allocate(32)
    device.kernel(PTX, "show").prepare("pilfd", [out, i, l, f, d], (1, 1, 1), (1, 1, 1))()
    got = read(device, out, 4, np.float64)
    assert (got[0], got.view(np.int64)[1], got[2], got[3]) == (i, l, np.float32(f), d)


def test_bits_of_integers_may_be_given_without_sign(gpu):
    device = gpu
    out = device.allocate(32)
    device.kernel(PTX, "show").prepare("pilfd", [out, 0xFFFFFFFF, np.uint64(2**64 - 5), 0, 0], (1, 1, 1), (1, 1, 1))()
    got = read(device, out, 4, np.float64)
    assert (got[0], got.view(np.int64)[1]) == (-1, -5)


def test_page_locked_memory_under_a_copy_is_not_handed_out_again(gpu):
    """The fake copies when the stream is waited for, as late as a GPU may."""
    device = gpu
    to = device.allocate(4000)
    source = device.pinned(1000, np.float32)
    source[:] = 5
    device.copy_in(to, source)
    del source
    gc.collect()
    device.pinned(1000, np.float32)[:] = 6
    assert read(device, to, 1000).tolist() == [5] * 1000
    gc.collect()
    assert device.host_memory.stats().used == 0


def test_ordinary_memory_may_change_after_copy_in(gpu):
    device = gpu
    source = np.ones(3, np.float32)
    to = device.allocate(12)
    device.copy_in(to, source)
    source[:] = 2
    assert read(device, to, 3).tolist() == [1, 1, 1]


def test_a_graph_copies_what_the_host_arrays_hold_when_it_runs(gpu):
    device = gpu
    a, b, c = (device.allocate(12) for _ in range(3))
    host, out = device.pinned(3, np.float32), device.pinned(3, np.float32)
    out[:] = 0
    launch = device.kernel(PTX, "add").prepare("pppi", [a, b, c, 3], (1, 1, 1), (32, 1, 1))
    with device.capture("step") as recorded:
        assert device.recording
        device.copy_in(a, host)
        device.copy(b, a, 12)
        launch()
        device.copy_out(out, c)
    assert not device.recording
    device.synchronize()
    assert out.tolist() == [0, 0, 0]  # nothing ran yet
    for value in (1, 5):
        host[:] = value
        recorded.graph()
        device.synchronize()
        assert out.tolist() == [2 * value] * 3
    address = host.ctypes.data
    del host, out
    gc.collect()
    assert device.pinned(3, np.float32).ctypes.data != address  # the graph still reads it
    del recorded
    gc.collect()
    device.synchronize()
    assert device.host_memory.stats().used == 0


def test_other_threads_go_on_while_one_records(gpu):
    device = gpu
    a = floats(device, 1, 2)
    with device.capture() as recorded:
        device.fill(a, 0, 8)
        with ThreadPoolExecutor(1) as other:
            assert other.submit(read, device, a, 2).result().tolist() == [1, 2]
    assert read(device, a, 2).tolist() == [1, 2]
    recorded.graph()
    assert read(device, a, 2).tolist() == [0, 0]


def test_many_threads(gpu):
    device = gpu
    kernel = device.kernel(PTX, "add")
    barrier = threading.Barrier(6)

    def work(k):
        barrier.wait()
        for n in range(30):
            a, b, c = floats(device, k, n), floats(device, 1, 1), device.allocate(8)
            kernel.prepare("pppi", [a, b, c, 2], (1, 1, 1), (32, 1, 1))()
            assert read(device, c, 2).tolist() == [k + 1, n + 1]
            for address in (a, b, c):
                device.free(address)
        return True

    with ThreadPoolExecutor(6) as pool:
        assert all(pool.map(work, range(6)))
    assert device.memory.stats().used == 0 and device.memory.stats().peak <= 18 * 512


def test_what_a_kernel_is(gpu):
    kernel = gpu.kernel(PTX, "add", "sum")
    assert set(kernel.attributes) == {"registers", "local_bytes", "shared_bytes", "max_threads"}
    assert kernel.attributes["max_threads"] == 1024
    assert repr(kernel) == f"<kernel sum on {gpu.name}>" and gpu.kernel(PTX, "add") is kernel
    with pytest.raises(errors.InternalError, match="loading the kernel mul: CUDA_ERROR_NOT_FOUND"):
        gpu.kernel(PTX, "mul")


@pytest.mark.parametrize("count", [1, 255, 256, 257, 5000])
def test_kernels_over_blocks(gpu, count):
    x = np.arange(count, dtype=np.float32)
    a, b, c = floats(gpu, *x), floats(gpu, *x[::-1]), gpu.allocate(4 * count)
    gpu.kernel(PTX, "add").prepare("pppi", [a, b, c, count], (-(-count // 256), 1, 1), (256, 1, 1))()
    assert read(gpu, c, count).tolist() == [count - 1] * count


def test_copies_and_fills(gpu):
    a, b = gpu.allocate(1000), gpu.allocate(1000)
    gpu.fill(a, 0xAB, 1000)
    gpu.fill(b, 0, 1000)
    gpu.copy(b + 100, a, 10)
    got = read(gpu, b, 1000, np.uint8)
    assert got[100:110].tolist() == [0xAB] * 10 and not got[:100].any() and not got[110:].any()
    free, total = gpu.driver.memory(gpu.ordinal)
    assert 0 < free <= total and gpu.driver.owner(a) == gpu.ordinal


@pytest.mark.parametrize("nbytes", [0, 1000, 48 << 10, 100_000, 160_000])
def test_shared_memory_beyond_the_plain_limit(gpu, nbytes):
    out = gpu.allocate(4)
    gpu.kernel(PTX, "shared").prepare("p", [out], ONE, ONE, nbytes)()
    assert read(gpu, out, 1, np.uint32) == nbytes


def test_a_fault_on_emulated_hardware():
    with driver.installed(EmulatedDriver(as_hardware=True)) as emulated:
        device = devices()[0]
        device.kernel(PTX, "stray", "wild store").prepare("p", [12344], ONE, ONE)()
        with pytest.raises(errors.InternalError, match=r"(?s)running a step: CUDA_ERROR_ILLEGAL_ADDRESS.*last queued: wild store"):
            device.synchronize("a step")
        with pytest.raises(errors.InternalError, match="was lost earlier"):
            device.allocate(8)
        emulated.restart()
        reset()
        devices()[0].allocate(8)
        reset()


@pytest.mark.parametrize("method, name, error", [("allocate", "CUDA_ERROR_OUT_OF_MEMORY", errors.ResourceExhaustedError),
                                                 ("link", "CUDA_ERROR_UNSUPPORTED_PTX_VERSION", errors.InternalError),
                                                 ("load", "CUDA_ERROR_OUT_OF_MEMORY", errors.ResourceExhaustedError)])
def test_faults_of_an_emulated_driver(method, name, error):
    with driver.installed(EmulatedDriver()) as emulated:
        device = devices()[0]
        emulated.fail_next(method, name)
        with pytest.raises(error, match="install a newer one" if method == "link" else "no memory left"):
            device.allocate(8), device.kernel(PTX, "add")
        device.allocate(8), device.kernel(PTX, "add")
        reset()


def test_time_passes_on_the_device(gpu):
    a = gpu.allocate(1 << 20)
    with gpu.timed() as seconds:
        gpu.fill(a, 0, 1 << 20)
    assert 0 < seconds() < 10


def test_launch_limits(gpu):
    out = gpu.allocate(4)
    launch = gpu.kernel(PTX, "shared", "too wide").prepare("p", [out], ONE, (2048, 1, 1))
    with pytest.raises(Exception, match="too wide|2048"):  # the emulator says it in its own words
        launch()
    gpu.kernel(PTX, "shared").prepare("p", [out], ONE, ONE)()
    assert read(gpu, out, 1, np.uint32) == 0  # nothing is lost


def test_arrays_are_shared_in_stream_order(gpu):
    """Through a capsule and back, and through the consumer's stream."""
    a = DeviceArray.put(gpu, np.arange(6, dtype=np.float32).reshape(2, 3))
    for stream in (None, 1, 2, -1, gpu.stream):
        a.__dlpack__(stream=stream)

    class Shared:
        __dlpack__, __dlpack_device__ = a.__dlpack__, a.__dlpack_device__

    class Interface:
        __cuda_array_interface__ = {**a.__cuda_array_interface__, "stream": 2}

    for other in (DeviceArray.of(Shared()), DeviceArray.of(Interface())):
        assert (other.address, other.device) == (a.address, gpu) and other.numpy().tolist() == [[0, 1, 2], [3, 4, 5]]
    del a, other, Shared, Interface
    gc.collect()
    assert gpu.memory.stats().used == 0


def test_everything_at_once(gpu):
    """Threads that link, record, replay, copy and share, with garbage on the way."""
    def work(k):
        random = np.random.RandomState(k)
        total = gpu.pinned(64, np.float32)
        x = DeviceArray.put(gpu, random.rand(64).astype(np.float32))
        y = DeviceArray.empty(gpu, (64,), np.float32)
        launch = gpu.kernel(f"{PTX}\n// {k % 3}", "add").prepare("pppi", [x.address, x.address, y.address, 64], ONE, (64, 1, 1))
        with gpu.lock, gpu.capture(f"work {k}") as recorded:
            launch()
            gpu.copy_out(total, y.address)
        for _ in range(5):
            recorded.graph()
            DeviceArray.of(y).__dlpack__()
            gpu.synchronize(f"work {k}")
            assert (total == 2 * x.bits()).all()
        return True

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(work, range(8)))
    gc.collect()
    gpu.synchronize()
    assert gpu.memory.stats().used == gpu.host_memory.stats().used == 0


def test_graphs_copy_page_locked_memory_only(gpu):
    """What a driver does with other memory when a graph runs is said nowhere: both stand-ins refuse it."""
    if isinstance(gpu.driver, Libcuda) and "Fake" not in gpu.name:
        pytest.skip("a GPU's driver may take it")
    a, plain, locked = gpu.allocate(12), np.ones(3, np.float32), gpu.pinned(3, np.float32)
    for copy in (lambda: gpu.copy_in(a, plain), lambda: gpu.copy_out(plain, a)):
        with pytest.raises(errors.InternalError, match="STREAM_CAPTURE_UNSUPPORTED"), gpu.capture():
            copy()
    locked[:] = 1, 2, 3
    with gpu.capture() as recorded:
        gpu.copy_in(a, locked)
    recorded.graph()
    assert read(gpu, a, 3).tolist() == [1, 2, 3]
