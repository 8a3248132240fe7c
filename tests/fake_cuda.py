"""Fixtures: libcuda's stand-in (fake_libcuda.c, compiled once a run), and a fresh start of it for a test."""
from __future__ import annotations

import atexit
import ctypes
import glob
import os
import shutil
import subprocess
import sys
import tempfile
from functools import cache
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest

from graphflow.runtime.cuda import device, driver
from graphflow.testing.gpu import EmulatedDriver

HERE = Path(__file__).parent
HEADERS = sorted(glob.glob("/usr/local/cuda*/include/cuda.h"))
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
