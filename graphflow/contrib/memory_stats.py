"""`tf.contrib.memory_stats`: the memory of this process, as int64 scalars that are read when they run."""
from __future__ import annotations

import os
import resource
from typing import Callable

import numpy as np

from .. import types
from ..graph import Tensor
from ..ops.host import py_func

__all__ = ["BytesInUse", "BytesLimit", "MaxBytesInUse"]


def _read(value: Callable[[], int], name: str) -> Tensor:
    found = py_func(lambda: np.int64(value()), [], types.int64, stateful=True, name=name)
    found.set_shape([])
    return found


def BytesInUse() -> Tensor:
    """Bytes of memory that the process has now."""
    def resident() -> int:
        with open("/proc/self/statm", encoding="ascii") as f:
            return int(f.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
    return _read(resident, "BytesInUse")


def MaxBytesInUse() -> Tensor:
    """The most bytes of memory that the process had so far."""
    return _read(lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * 1024, "MaxBytesInUse")


def BytesLimit() -> Tensor:
    """Bytes of memory that the machine has."""
    return _read(lambda: os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES"), "BytesLimit")
