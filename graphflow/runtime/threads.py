"""The C function that runs a native function on several threads: Numba's own threading layers.

Knows: where Numba keeps tbbpool, omppool and workqueue, how to load one by file without importing Numba,
and what each survives. Must not know: plans, kernels. Place: the runner asks for a `Layer` when a state
wants more than one thread.

A child made by fork keeps none of its parent's threads, and GNU OpenMP would end it: such a child runs
serially. workqueue serves one caller at a time and ends the process when two come: this package uses a
copy of its own, which Numba's parallel functions do not share, and the runner takes `Layer.gate` first and
runs serially when somebody else holds it. OpenMP keeps a team for each calling thread, and calls may nest.
OpenMP's idle threads spin for some milliseconds after a run (OMP_WAIT_POLICY, which is the user's to set,
says whether); workqueue's and TBB's sleep.
"""

import ctypes
import importlib.machinery
import importlib.util
import math
import os
import shutil
import sys
import tempfile
import threading
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path

_ORDER = ("tbbpool", "omppool", "workqueue")
_lock = threading.Lock()
_layer: "Layer | None" = None
_searched = _forked = False


@dataclass(frozen=True)
class Layer:
    """A threading layer that has been started."""

    name: str
    parallel_for: int                       # address of its launcher
    most: int                               # threads it was started with
    module: object = field(repr=False, default=None)
    gate: ctypes.c_int64 | None = None      # 0 free, 1 taken; None: any number of callers at once


def available() -> int:
    """How many threads this process may use: GRAPHFLOW_NUM_THREADS, or the CPUs it is bound to, as far as its quota goes."""
    named = os.environ.get("GRAPHFLOW_NUM_THREADS")
    if named:
        return max(1, int(named))
    bound = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    return max(1, min(bound, _quota()))


@cache
def _quota(file: str = "/sys/fs/cgroup/cpu.max") -> int:
    """CPUs' worth of time that a container's limit leaves, rounded up: threads beyond it would only be throttled."""
    try:
        limit, period = Path(file).read_text().split()
        return math.ceil(int(limit) / int(period))
    except (OSError, ValueError, ZeroDivisionError):           # no such limit: "max", another system
        return sys.maxsize


def layer() -> Layer | None:
    """The layer, started on first use; None where there is none, or in a forked child."""
    global _layer, _searched
    if _forked:
        return None
    with _lock:
        if not _searched:
            _layer, _searched = _start_first(), True
        return _layer


def _start_first() -> Layer | None:
    named = os.environ.get("GRAPHFLOW_THREADING_LAYER")
    for name in (named,) if named else _ORDER:
        try:
            return _start(name, _load(name))
        except (ImportError, OSError, AttributeError):         # its library (tbb, gomp) is not installed
            continue
    return None


def _load(name: str):
    """The extension module: Numba's own under Numba's name, so that Numba finds the same one, or a copy of workqueue."""
    full = f"numba.np.ufunc.{name}"
    if full in sys.modules and name != "workqueue":
        return sys.modules[full]
    found = importlib.util.find_spec("numba")                   # finds the folder, imports nothing
    folder = Path(found.origin).parent / "np" / "ufunc" if found and found.origin else Path()
    for suffix in importlib.machinery.EXTENSION_SUFFIXES:
        if (folder / (name + suffix)).exists():
            return _copied(folder / (name + suffix)) if name == "workqueue" else _loaded(full, folder / (name + suffix))
    raise ImportError(f"no {full}")


def _loaded(full: str, file: Path):
    spec = importlib.util.spec_from_file_location(full, file)
    if spec is None or spec.loader is None:
        raise ImportError(f"cannot load {file}")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def _copied(file: Path):
    """A library loaded from a copy has its own threads and queues."""
    folder = tempfile.mkdtemp(prefix="graphflow-")
    try:
        return _loaded("graphflow.runtime.workqueue", Path(shutil.copy(file, folder)))
    finally:
        shutil.rmtree(folder, ignore_errors=True)              # Windows keeps a library in use: the copy stays


def _start(name: str, module) -> Layer:
    ctypes.CFUNCTYPE(None, ctypes.c_int)(module.launch_threads)(available())
    if name != "workqueue":
        return Layer(name, module.parallel_for, available(), module)
    return Layer(name, module.parallel_for, available(), module, ctypes.c_int64(0))


def _used_before_fork() -> bool:
    """Whether this process, or Numba in it, has loaded a layer."""
    return _searched or any(f"numba.np.ufunc.{name}" in sys.modules for name in _ORDER)


def _after_fork() -> None:
    global _forked, _layer, _lock
    _lock = threading.Lock()                                    # the parent's may be held for ever here
    _forked, _layer = _forked or _used_before_fork(), None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
