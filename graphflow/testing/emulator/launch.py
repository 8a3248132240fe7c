"""Launches: a kernel over a grid, batch after batch of its blocks, with its arguments and the variables of its module.

Place: on top of the emulator; `graphflow.testing.ptx` is its face.
"""
from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from .errors import LaunchFault
from .frame import WARP, Checks, Frame, geometry
from .log import Counters, GlobalLog
from .memory import Memory
from .order import LANES, Order, Ordered, checked, wanted
from .parse import Module
from .program import Program
from .walk import Walk

_BATCH = 1 << 13               # lanes of a batch, unless one block has more


class Launch:
    """One kernel over a grid. arguments: bytes in the layout of the parameters, or one value a parameter. extents: (address, bytes) of
    all memory that the kernel may touch, where the caller knows better than allocations tell. order: see `order.Order`; None: all lanes
    together."""

    def __init__(self, program: Program, memory: Memory, grid: Sequence[int] | int, block: Sequence[int] | int, arguments: bytes | Sequence,
                 shared_bytes: int = 0, checks: Checks = Checks(), counters: Counters | None = None,
                 symbols: dict[str, int] | None = None, extents: Sequence[tuple[int, int]] | None = None,
                 order: int | str | None = None) -> None:
        self.program, self.memory, self.checks = program, memory, checks
        self.grid, self.block, self.order = _three(grid), _three(block), checked(order)
        self.shared_bytes, self.counters = shared_bytes, counters if counters is not None else Counters()
        self.symbols = symbols if symbols is not None else symbols_of(program, memory)
        self.extents = None if extents is None else self._merged(extents)
        self.arguments = arguments if isinstance(arguments, bytes) else pack(program, arguments)
        self._check()

    def _merged(self, extents: Sequence[tuple[int, int]]) -> tuple[np.ndarray, np.ndarray]:
        """(address, bytes) of buffers, and the module's variables, as sorted starts and ends of offsets."""
        own = [(found.address, found.nbytes) for a in self.symbols.values() if (found := self.memory.find(a))]
        merged: list[list[int]] = []
        for address, nbytes in sorted(e for e in [*extents, *own] if e[1]):
            at = address - self.memory.base
            if merged and at < merged[-1][1]:
                merged[-1][1] = max(merged[-1][1], at + nbytes)
            else:
                merged.append([at, at + nbytes])
        starts, ends = np.array(merged, np.int64).reshape(-1, 2).T
        return np.ascontiguousarray(starts), np.ascontiguousarray(ends)

    def _check(self) -> None:
        p, threads = self.program, int(np.prod(self.block))
        limits = p.function.limits
        def fail(what: str):
            raise LaunchFault(what, kernel=p.name)
        if min(self.grid) < 1 or min(self.block) < 1:
            fail(f"grid {self.grid} and block {self.block} must be positive")
        if threads > 1024 or self.block[2] > 64:
            fail(f"a block of {self.block} threads: at most 1024, and 64 along z")
        if self.grid[0] > 2 ** 31 - 1 or max(self.grid[1:]) > 65535:
            fail(f"grid {self.grid}: at most 2147483647 x 65535 x 65535")
        if "maxntid" in limits and threads > int(np.prod(limits["maxntid"])):
            fail(f"{threads} threads a block, but the kernel says .maxntid {limits['maxntid']}")
        if "reqntid" in limits and self.block != _three(limits["reqntid"]):
            fail(f"block {self.block}, but the kernel says .reqntid {limits['reqntid']}")
        if p.shared_bytes > 48 << 10:
            fail(f"{p.shared_bytes} bytes of static shared memory: at most 49152")
        if p.shared_bytes + self.shared_bytes > 227 << 10:
            fail(f"{p.shared_bytes + self.shared_bytes} bytes of shared memory: at most 232448")
        if len(self.arguments) != p.param_bytes:
            fail(f"{len(self.arguments)} bytes of arguments, the parameters have {p.param_bytes}")

    def place_of(self, number: int) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
        warps = -(-int(np.prod(self.block)) // WARP)
        block, thread = divmod(number, warps * WARP)
        (x, y, _), (bx, by, _) = self.grid, self.block
        return (block % x, block // x % y, block // (x * y)), (thread % bx, thread // bx % by, thread // (bx * by))

    def run(self) -> Counters:
        total = int(np.prod(self.grid))
        a_block = -(-int(np.prod(self.block)) // WARP) * WARP
        how = wanted(self.order)
        order = None if how is None else Order(how, self.counters.launches)
        if order is not None:
            self.program = self.program.fine
        batch = max(1, min(total, _BATCH // a_block if order is None else max(LANES // a_block, 2)))
        races = GlobalLog() if self.checks.global_races and total * a_block > 1 else None
        frame = None
        starts = list(range(0, total, batch))
        for first in starts if order is None else order.batches(starts):
            frame = Frame(self, geometry(self.block, min(batch, total - first)), first)
            frame.bind()
            (Walk(frame) if order is None else Ordered(frame, order)).run()
            frame.finish()
            if races is not None:
                races.take(frame)
        if races is not None:
            races.check(frame)
        self.counters.launches += 1
        return self.counters


def _three(size: Sequence[int] | int) -> tuple[int, int, int]:
    x, y, z = (*((size,) if isinstance(size, int) else size), 1, 1)[:3]
    return int(x), int(y), int(z)


def pack(program: Program, values: Sequence) -> bytes:
    """One value a parameter -> the block of arguments. Numbers by the parameter's type (.b32 and .b64: ints, or floats of that size)."""
    if len(values) != len(program.params):
        raise LaunchFault(f"{len(values)} arguments for {len(program.params)} parameters", kernel=program.name)
    out = bytearray(program.param_bytes)
    for value, (v, at) in zip(values, program.params, strict=True):
        raw = _bytes_of(value, v.type, v.size)
        if len(raw) != v.size:
            raise LaunchFault(f"{len(raw)} bytes for parameter {v.name} of {v.size}", kernel=program.name)
        out[at:at + v.size] = raw
    return bytes(out)


def _bytes_of(value, kind: str, size: int) -> bytes:
    if isinstance(value, bytes):
        return value
    if isinstance(value, np.generic | np.ndarray) and np.asarray(value).nbytes == size:
        return np.asarray(value).tobytes()
    if isinstance(value, float | np.floating):
        return np.array(value, {2: "f2", 4: "f4", 8: "f8"}[size]).tobytes()
    return (int(value) & ((1 << 8 * size) - 1)).to_bytes(size, "little")


def symbols_of(program: Program, memory: Memory) -> dict[str, int]:
    """Addresses of the module's global and const variables in `memory`, placed there on first use."""
    placed = memory.__dict__.setdefault("modules", {})
    key = id(program.module)
    if key not in placed:
        placed[key] = (program.module, place(program.module, memory))
    return placed[key][1]


def place(module: Module, memory: Memory) -> dict[str, int]:
    """Allocates the variables of a module and writes their initial values; without one they hold zeros."""
    variables = [v for v in module.variables.values() if v.space in ("global", "const")]
    out = {v.name: memory.allocate(max(v.size or 0, 1)) for v in variables}
    for v in variables:
        raw = bytearray(v.value or bytes(v.size or 0))
        for at, name in v.links:
            raw[at:at + 8] = (int.from_bytes(raw[at:at + 8], "little") + out[name]).to_bytes(8, "little")
        if raw:
            memory.write(out[v.name], bytes(raw))
    return out
