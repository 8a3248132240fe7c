"""Tools to test kernels and programs for GPUs where there is none: `emulated_gpu`, and the PTX emulator in `graphflow.testing.ptx`."""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from .gpu import EmulatedDriver

__all__ = ["emulated_gpu"]


@contextmanager
def emulated_gpu(count: int = 1, memory: int = 2 << 30, **options) -> Iterator[EmulatedDriver]:
    """Inside the `with` block programs see `count` emulated GPUs of `memory` bytes; yields their EmulatedDriver (counters, checks,
    fail_next, ...). options: those of EmulatedDriver."""
    from graphflow.runtime.cuda import driver
    from graphflow.testing.gpu import EmulatedDriver
    with driver.installed(EmulatedDriver(count, memory, **options)) as emulated:
        yield emulated
