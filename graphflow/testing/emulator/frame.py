"""A batch of blocks while it runs: where its lanes are, its shared and local memory, what it accessed and in what order.

Lanes are numbered warp by warp: a block of 40 threads takes 64, of which 24 do not exist. Place: slot 0 of a kernel's operands, through
which its steps reach all of this; `walk` moves the lanes, `launch` makes the batches.
"""
from __future__ import annotations

from dataclasses import dataclass, field, replace
from functools import lru_cache
from typing import TYPE_CHECKING

import numpy as np

from . import log as L
from .errors import EmulationError
from .log import Event
from .memory import Region, scratch

if TYPE_CHECKING:
    from .launch import Launch

WARP = 32


@dataclass(frozen=True)
class Checks:
    """What is looked for. With bounds off, accesses outside load nothing and store nothing."""

    bounds: bool = True
    alignment: bool = True
    uninitialized: bool = True
    shared_races: bool = True
    global_races: bool = True
    barriers: bool = True
    lanes: bool = True             # warp instructions that read lanes which take no part
    steps: int = 5_000_000         # instructions of a batch before StepLimit; 0: no limit
    counters: bool = True

    def without(self, *names: str) -> Checks:
        return replace(self, **dict.fromkeys(names, False))


NOTHING = Checks(False, False, False, False, False, False, False, 0, False)


@dataclass
class Geometry:
    """A launch's shape and the numbers of lanes that only depend on it."""

    block: tuple[int, int, int]
    blocks: int                     # in the batch
    threads: int = field(init=False)
    warps: int = field(init=False)  # a block's

    def __post_init__(self) -> None:
        self.threads = int(np.prod(self.block))
        self.warps = -(-self.threads // WARP)
        self.lanes_of_block = self.warps * WARP
        self.lanes = self.blocks * self.lanes_of_block
        number = np.arange(self.lanes)
        self.numbers = number.astype(np.int32)
        self.block_of = number // (self.warps * WARP)
        self.thread_of = number % (self.warps * WARP)
        self.exists = self.thread_of < self.threads
        self.full = bool(self.exists.all())
        x, y, _ = self.block
        t = self.thread_of.astype("u4")
        lane = t % np.uint32(WARP)
        bit = np.uint32(1) << lane
        self.special = {"%tid.x": t % np.uint32(x), "%tid.y": t // np.uint32(x) % np.uint32(y), "%tid.z": t // np.uint32(x * y),
                        "%laneid": lane, "%warpid": t // np.uint32(WARP), "%lanemask_eq": bit, "%lanemask_lt": bit - np.uint32(1),
                        "%lanemask_le": bit | bit - np.uint32(1), "%lanemask_gt": ~(bit | bit - np.uint32(1)),
                        "%lanemask_ge": ~(bit - np.uint32(1))}


geometry = lru_cache(maxsize=64)(Geometry)


class History:
    """The orderings of one batch, kept for races found at the end of the launch."""

    def __init__(self, g: Geometry, first_number: int) -> None:
        self.geometry, self.first = g, first_number
        self.events: list[Event] = []

    def ordered(self, i: int, j: int, a: int, b: int, everywhere: bool) -> bool:
        """Whether access i of thread a happens before access j of thread b. everywhere: threads are numbered over the launch."""
        shift = self.first if everywhere else 0
        a, b = a - shift, b - shift
        g = self.geometry
        block_a, block_b = g.block_of[a], g.block_of[b]
        for e in self.events:
            if i < e.at <= j and (e.kind == "barrier" and block_a == block_b and block_a in e.which
                                  or e.kind == "warp" and a // WARP == b // WARP and a // WARP in e.which
                                  or e.kind == "fence" and everywhere and a in e.which):
                return True
        return False

    def place(self, at: np.ndarray, lanes: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        """The block of each lane, how many of its barriers had passed before its access `at`, and the same with those of its warp."""
        events, g = self.events, self.geometry
        blocks, warps = np.zeros((len(events) + 1, g.blocks), np.int64), np.zeros((len(events) + 1, g.lanes // WARP), np.int64)
        for n, e in enumerate(events, 1):
            if e.kind != "fence":
                (blocks if e.kind == "barrier" else warps)[n, e.which] = 1
        before, block = np.searchsorted([e.at for e in events], at, "right"), g.block_of[lanes]
        passed = blocks.cumsum(0)[before, block]
        return block, passed, passed + warps.cumsum(0)[before, lanes // WARP]

    def fenced(self, i: int, a: int) -> bool:
        """Whether thread a made its access i visible to the device."""
        return any(e.kind == "fence" and e.at > i and a - self.first in e.which for e in self.events)


class Frame:
    """One batch of blocks while it runs. Slot 0 of the operands."""

    def __init__(self, launch: Launch, g: Geometry, first_block: int) -> None:
        self.launch, self.geometry, self.first_block = launch, g, first_block
        self.program, self.memory, self.checks, self.counters = launch.program, launch.memory, launch.checks, launch.counters
        self.dynamic = launch.shared_bytes
        self.lanes, self.numbers, self.exists = g.lanes, g.numbers, g.exists
        self.first_number = np.int32(first_block * g.warps * WARP)
        self.shared_limit = self.program.shared_bytes + self.dynamic
        self.shared_stride = -(-max(self.shared_limit, 1) // 128) * 128
        self.local_stride = self.program.local_bytes
        self.shared_start = g.block_of * self.shared_stride
        self.local_start = np.arange(self.lanes) * self.local_stride
        self._shared: Region | None = None
        self._local: Region | None = None
        self._owners: np.ndarray | None = None
        self.log: list = []
        self.flights: list = []                        # of cp.async
        self._commits: np.ndarray | None = None
        self.history = History(g, int(self.first_number))
        self._shared_seen = 0
        self._mask: np.ndarray | None = None
        self._lanes_of_mask: np.ndarray | None = None
        self.steps = 0

    @property
    def shared(self) -> Region:
        if self._shared is None:
            self._shared = scratch(self.geometry.blocks * self.shared_stride)
        return self._shared

    @property
    def local(self) -> Region:
        if self._local is None:
            self._local = scratch(max(self.lanes * self.local_stride, 16))
        return self._local

    def commits(self) -> np.ndarray:
        """Groups of cp.async that each lane has committed."""
        if self._commits is None:
            self._commits = np.zeros(self.lanes, np.int64)
        return self._commits

    def owners(self) -> np.ndarray:
        if self._owners is None:
            self._owners = np.zeros(self.geometry.blocks * self.shared_stride + 16, np.int32)
        return self._owners

    def lanes_of(self, m: np.ndarray) -> np.ndarray:
        if m is not self._mask:
            self._mask, self._lanes_of_mask = m, np.flatnonzero(m)
        return self._lanes_of_mask

    # Places and faults --------------------------------------------------------------------------------------------------------------
    def place_of(self, lane: int) -> tuple[tuple[int, int, int], tuple[int, int, int]]:
        """Block and thread indices of a lane of this batch."""
        g, (x, y, _) = self.geometry, self.launch.grid
        block, thread = self.first_block + int(g.block_of[lane]), int(g.thread_of[lane])
        bx, by, _ = g.block
        return (block % x, block // x % y, block // (x * y)), (thread % bx, thread // bx % by, thread // (bx * by))

    def place_of_number(self, number: int):
        """The same of a thread numbered over the launch."""
        return self.launch.place_of(number)

    def fault(self, kind: type[EmulationError], what: str, ins, lanes: np.ndarray | None, position: int) -> EmulationError:
        block, thread = self.place_of(int(position if lanes is None else lanes[position]))
        return kind(what, kernel=self.program.name, line=ins.line, instruction=ins.text, block=block, thread=thread)

    # Orderings ----------------------------------------------------------------------------------------------------------------------
    def fence(self, m: np.ndarray | None) -> None:
        which = np.arange(self.lanes) if m is None else np.flatnonzero(m)
        self.history.events.append(Event(len(self.log), "fence", which))

    def warp_sync(self, m: np.ndarray | None) -> None:
        which = np.arange(self.lanes // WARP) if m is None else np.flatnonzero(m.reshape(-1, WARP).any(1))
        self.history.events.append(Event(len(self.log), "warp", which))

    def ordered(self, i: int, j: int, a: int, b: int, everywhere: bool) -> bool:
        return self.history.ordered(i, j, a, b, everywhere)

    def barrier(self, blocks: np.ndarray | None) -> None:
        """All threads of `blocks` (None: of the batch) have met."""
        which = np.arange(self.geometry.blocks) if blocks is None else blocks
        self.counters.barriers += which.size
        self.history.events.append(Event(len(self.log), "barrier", which))
        if blocks is None:
            self._races()

    def _races(self) -> None:
        if self.checks.shared_races and self._shared is not None:
            L.shared_races(self, self._shared_seen, len(self.log))
            self._shared_seen = len(self.log)

    # Beginning and end --------------------------------------------------------------------------------------------------------------
    def bind(self) -> None:
        self.bound = self.program.slots.bind(self.lanes, self, self._outside)
        self.R = self.bound.slots

    def finish(self) -> None:
        """Raises SharedRace; adds to the counters."""
        self.program.slots.release(self.bound)
        self._races()
        if self.checks.counters:
            L.count(self.log, self.lanes, self.counters)
        self.counters.steps += self.steps

    def _outside(self, kind: str, *what) -> np.ndarray:
        """What only the launch knows of the operands: special registers, arguments, addresses of variables."""
        if kind == "special":
            return self._special(what[0]).astype(what[1])
        if kind == "param":
            offset, dtype = what
            size = np.dtype(dtype).itemsize
            return np.frombuffer(self.launch.arguments[offset:offset + size], dtype).reshape(())
        name, offset, dtype = what
        return np.array(self.launch.symbols[name] + offset, "u8").view("i8").astype(dtype)

    def _special(self, name: str) -> np.ndarray:
        g, launch = self.geometry, self.launch
        if name in g.special:
            return g.special[name]
        word, _, axis = name[1:].partition(".")
        at = "xyz".find(axis)
        if word == "ctaid":
            x, y, _ = launch.grid
            block = (g.block_of + self.first_block).astype("u4")
            return (block % np.uint32(x), block // np.uint32(x) % np.uint32(y), block // np.uint32(x * y))[at]
        numbers = {"ntid": lambda: g.block[at], "nctaid": lambda: launch.grid[at], "nwarpid": lambda: g.warps, "nsmid": lambda: 1,
                   "dynamic_smem_size": lambda: self.dynamic, "total_smem_size": lambda: self.shared_limit}
        return np.array(numbers.get(word, lambda: 0)(), "u8")
