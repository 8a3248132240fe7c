"""Fixtures: libcuda's stand-in (fake_libcuda.c, compiled once a run), and a fresh start of it for a test."""
from __future__ import annotations

import atexit
import ctypes
import glob
import os
import shutil
import struct
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from graphflow.runtime.cuda import device, driver
from graphflow.testing import ptx
from graphflow.testing.emulator.launch import place
from graphflow.testing.emulator.memory import Memory
from graphflow.testing.emulator.parse import parse
from graphflow.testing.gpu import EmulatedDriver

HERE = Path(__file__).parent
HEADERS = sorted(glob.glob("/usr/local/cuda*/include/cuda.h"))
CHECKS = ptx.Checks().without("uninitialized")  # what C writes, the emulator does not know
PTX = (HERE / "fake_cuda.ptx").read_text()
FLAGS = "-std=gnu11 -shared -fPIC -O1 -Wall -Wextra -Werror -fvisibility=hidden".split()


def compile_fake(folder: Path, header: str = "") -> Path:
    """The library, compiled against `header` (a cuda.h) if one is given.  Skips the test without gcc; fails on a compiler's warning."""
    if shutil.which("gcc") is None:
        pytest.skip("no gcc to compile the stand-in of libcuda")
    made = folder / f"libfake{'h' if header else ''}.so"
    checked = ["-DHAVE_CUDA_H", "-D__CUDA_API_VERSION_INTERNAL", "-I", str(Path(header).parent)] if header else []
    command = ["gcc", *FLAGS, *checked, str(HERE / "fake_libcuda.c"), "-o", str(made), "-lpthread"]
    said = subprocess.run(command, capture_output=True, text=True)
    assert said.returncode == 0, said.stderr
    return made


@cache
def library() -> Path:
    folder = tempfile.mkdtemp(prefix="graphflow-fake-cuda-")
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return compile_fake(Path(folder))


@pytest.fixture
def cuda(monkeypatch, tmp_path):
    """A machine with one fake GPU.  `.start("devices=2 ...")` makes another; `.fail(name, code, times)`, `.calls(name)`, `.live(kind)`."""
    path = library()
    fake = ctypes.CDLL(str(path))
    fake.fake_calls.restype = fake.fake_live.restype = ctypes.c_long
    fake.fake_slow.argtypes = (ctypes.c_char_p, ctypes.c_long)
    fake.fake_fail.argtypes = (ctypes.c_char_p, ctypes.c_int, ctypes.c_long)
    monkeypatch.setenv("GRAPHFLOW_LIBCUDA", str(path))
    monkeypatch.setenv("GRAPHFLOW_CACHE_DIR", str(tmp_path / "cache"))
    monkeypatch.delenv("CUDA_VISIBLE_DEVICES", raising=False)
    monkeypatch.setattr(driver, "_installed", [])

    def start(options: str = "") -> None:
        device.reset()
        monkeypatch.setenv("FAKE_CUDA", options)
        fake.fake_reset()
        driver.forget()

    start()
    yield SimpleNamespace(start=start, path=path, raw=fake, cache=tmp_path / "cache", shutdown=fake.fake_shutdown,
                          slow=lambda name, microseconds: fake.fake_slow(name.encode(), microseconds),
                          fail=lambda name, code, times=-1: fake.fake_fail(name.encode(), code, times),
                          calls=lambda name: fake.fake_calls(name.encode()), live=lambda kind: fake.fake_live(kind.encode()))
    device.reset()
    driver.forget()


RUNNER = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_char_p, *[ctypes.POINTER(ctypes.c_uint)] * 2, ctypes.c_uint,
                          ctypes.POINTER(ctypes.c_uint64))


@pytest.fixture
def libcuda(cuda):
    """A machine with one fake GPU whose kernels the PTX emulator runs: programs go through the bindings of libcuda.  `.faults`."""
    memory = Memory(80 << 20)
    memory.base = memory.data.ctypes.data              # addresses are real ones, for C
    room, placed = memory.allocate(64 << 20), {}
    cuda.faults = []

    @RUNNER
    def run(text, grid, block, shared, args):
        text = text.decode()
        try:
            if text not in placed:
                placed[text] = place(parse(text), memory)
            program = ptx.program(text, "kernel")
            values = [struct.pack("=Q", args[k])[:v.size] for k, (v, _) in enumerate(program.params)]
            ptx.Launch(program, memory, tuple(grid[:3]), tuple(block[:3]), ptx.pack(program, values), shared, CHECKS,
                       symbols=placed[text]).run()
            return 0
        except Exception as error:
            cuda.faults.append(error)
            return driver.CODES["CUDA_ERROR_LAUNCH_FAILED"]

    cuda.raw.fake_kernels(run, ctypes.c_void_p(room), ctypes.c_size_t(64 << 20))
    cuda.start("memory=60000000")
    yield cuda
    device.reset()
    cuda.raw.fake_kernels(None, None, ctypes.c_size_t(0))
    memory.end()


@pytest.fixture(params=["fake", "emulated", "real"])
def gpu(request):
    """A device of the fake libcuda, of the emulator, and of this machine if it has one: the same calls must do the same on all."""
    if request.param == "fake":
        request.getfixturevalue("cuda")
        yield device.devices()[0]
    elif request.param == "emulated":
        with driver.installed(EmulatedDriver()):
            yield device.devices()[0]
    else:
        if request.config.option.gpu != "real":
            pytest.skip("the tests run without --gpu=real")
        yield device.devices()[0]
    device.reset()


def floats(device, *values):
    """Device memory with float32 values."""
    array = np.array(values, np.float32)
    address = device.allocate(array.nbytes)
    device.copy_in(address, array)
    return address


def read(device, address, count, dtype=np.float32):
    out = np.empty(count, dtype)
    device.copy_out(out, address)
    device.synchronize()
    return out


def child(code: str, **environment: str) -> subprocess.CompletedProcess:
    """Runs a program in a process of its own, with the fake; `environment` is added."""
    known = {**os.environ, "GRAPHFLOW_LIBCUDA": str(library()), "PYTHONPATH": str(HERE.parent), **environment}
    known.pop("CUDA_VISIBLE_DEVICES", None)
    return subprocess.run([sys.executable, "-c", code], env=known, capture_output=True, text=True, timeout=60)
