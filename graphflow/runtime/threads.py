"""The C function that runs a native function on several threads: Numba's own threading layers.

Knows: where Numba keeps tbbpool, omppool and workqueue, how to load one by file without importing Numba,
and what each survives. Must not know: plans, kernels. Place: the runner asks for a `Layer` when a state
wants more than one thread.

A child made by fork keeps none of its parent's threads, and GNU OpenMP would end it: such a child runs
serially. workqueue serves one caller at a time, so the runner takes `Layer.gate` first and runs serially
when somebody else holds it.
"""

import ctypes
import importlib.machinery
import importlib.util
import os
import sys
import threading
from dataclasses import dataclass, field
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
    """How many threads this process may use: GRAPHFLOW_NUM_THREADS, or the CPUs it is bound to."""
    named = os.environ.get("GRAPHFLOW_NUM_THREADS")
    if named:
        return max(1, int(named))
    return len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1


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
    """The extension module, under Numba's name for it, so that Numba would find the same one."""
    full = f"numba.np.ufunc.{name}"
    if full in sys.modules:
        return sys.modules[full]
    found = importlib.util.find_spec("numba")                   # finds the folder, imports nothing
    folder = Path(found.origin).parent / "np" / "ufunc" if found and found.origin else Path()
    for suffix in importlib.machinery.EXTENSION_SUFFIXES:
        if (folder / (name + suffix)).exists():
            spec = importlib.util.spec_from_file_location(full, folder / (name + suffix))
            module = importlib.util.module_from_spec(spec)
            spec.loader.exec_module(module)
            return module
    raise ImportError(f"no {full}")


def _start(name: str, module) -> Layer:
    ctypes.CFUNCTYPE(None, ctypes.c_int)(module.launch_threads)(available())
    if name != "workqueue":
        return Layer(name, module.parallel_for, available(), module)
    started = ctypes.CFUNCTYPE(ctypes.c_int)(module.get_num_threads)()    # Numba may have started fewer
    return Layer(name, module.parallel_for, max(1, min(started, available())), module, ctypes.c_int64(0))


def _used_before_fork() -> bool:
    """Whether this process, or Numba in it, has loaded a layer."""
    return _searched or any(f"numba.np.ufunc.{name}" in sys.modules for name in _ORDER)


def _after_fork() -> None:
    global _forked, _layer, _lock
    _lock = threading.Lock()                                    # the parent's may be held for ever here
    _forked, _layer = _forked or _used_before_fork(), None


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
