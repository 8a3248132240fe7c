"""A PTX emulator: runs kernels without a GPU, checks what they do and counts what they move.

    from graphflow.testing import ptx
    out = np.empty(1000, np.float32)
    counters = ptx.run(open("scale.ptx").read(), grid=4, block=256, arguments=[x, ptx.Out(out), np.int32(1000)])

All threads run as NumPy lanes, the instructions at the lowest place first. Defects raise an EmulationError: OutOfBounds, Misaligned,
UninitializedRead, SharedRace, GlobalRace, BarrierFault, InactiveLane, StepLimit, each with kernel, PTX line, block and thread; what
the emulator does not know raises Unsupported. See docs/ptx-emulator.md.
"""
from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from .emulator.errors import (
    BarrierFault,
    EmulationError,
    GlobalRace,
    InactiveLane,
    LaunchFault,
    Misaligned,
    OutOfBounds,
    SharedRace,
    StepLimit,
    SyntaxFault,
    UninitializedRead,
    Unsupported,
)
from .emulator.frame import NOTHING, Checks
from .emulator.imprecise import imprecise
from .emulator.launch import Launch, pack
from .emulator.log import Counters
from .emulator.memory import EMPTY, WRITTEN, Memory
from .emulator.order import in_order
from .emulator.parse import parse
from .emulator.program import Program, program

__all__ = ["EMPTY", "NOTHING", "WRITTEN", "BarrierFault", "Checks", "Counters", "EmulationError", "GlobalRace", "InOut", "InactiveLane",
           "Launch", "LaunchFault", "Memory", "Misaligned", "Out", "OutOfBounds", "Program", "SharedRace", "StepLimit", "SyntaxFault",
           "UninitializedRead", "Unsupported", "imprecise", "in_order", "launch", "pack", "parse", "program", "run"]


@dataclass(frozen=True)
class Out:
    """An array that the kernel fills: its memory starts as never written, and what stays so is an error."""

    array: np.ndarray


@dataclass(frozen=True)
class InOut:
    """An array that the kernel reads and changes."""

    array: np.ndarray


def launch(kernel: Program | str, memory: Memory, grid: Sequence[int] | int, block: Sequence[int] | int, arguments: Sequence | bytes,
           shared_bytes: int = 0, checks: Checks = Checks(), counters: Counters | None = None, order: int | str | None = None) -> Counters:
    """Runs a kernel (or the only one of a PTX text) on memory that stays. Addresses are plain ints; returns the counters, added to."""
    kernel = program(kernel) if isinstance(kernel, str) else kernel
    return Launch(kernel, memory, grid, block, arguments, shared_bytes, checks, counters, order=order).run()


def run(text: str, grid: Sequence[int] | int, block: Sequence[int] | int, arguments: Sequence, shared_bytes: int = 0,
        checks: Checks = Checks(), name: str | None = None, order: int | str | None = None) -> Counters:
    """Runs one kernel on arrays of the host, each in its own allocation. An argument is an array (copied in), Out, InOut, or a number
    (ints fit any integer parameter, floats the float one of its size). Returns the launch's counters."""
    kernel = program(text, name)
    arrays = [a.array if isinstance(a, Out | InOut) else a for a in arguments]
    memory = Memory(sum(a.nbytes for a in arrays if isinstance(a, np.ndarray) and a.ndim) + (16 << 20))
    def argument(given, value):
        if isinstance(given, Out):
            return memory.allocate(max(value.nbytes, 1))
        return memory.store(value) if isinstance(value, np.ndarray) and value.ndim else value
    values = [argument(a, v) for a, v in zip(arguments, arrays, strict=True)]
    counters = launch(kernel, memory, grid, block, values, shared_bytes, checks, order=order)
    for a, address in zip(arguments, values, strict=True):
        if isinstance(a, Out | InOut):
            missing = memory.never_written(address, a.array.nbytes)
            if missing.size and checks.uninitialized:
                raise UninitializedRead(f"{missing.size} of {a.array.nbytes} bytes of an output were never written, the first at offset "
                                        f"{missing[0]}", kernel=kernel.name)
            a.array[...] = memory.read(address, a.array.dtype, a.array.shape)
    return counters
