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
    fail_next, ...). options: those of EmulatedDriver. After the block the devices are closed and their memory is gone."""
    from graphflow.runtime.cuda import device, driver
    from graphflow.testing.gpu import EmulatedDriver
    emulated = EmulatedDriver(count, memory, **options)
    try:
        with driver.installed(emulated):
            yield emulated
    finally:
        device.forget(emulated, "its emulation has ended")
        emulated.end()
