"""Runs a compiled kernel: batches of blocks, all their threads as NumPy lanes, the block of instructions with the lowest number first.

Lanes that branch apart wait for each other wherever the program brings them together again; a barrier holds a block's lanes, a warp
instruction the lanes of its mask. Place: on top of `program`; `graphflow.testing.ptx` is its face.
"""
from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import lru_cache
from operator import length_hint

import numpy as np

from . import log as L
from .errors import BarrierFault, EmulationError, InactiveLane, LaunchFault, StepLimit
from .log import Counters, Event, GlobalLog
from .memory import Memory, Region, scratch
from .program import Block, Program

WARP = 32
_NOWHERE = np.int32(2 ** 30)   # the "program counter" of lanes that have exited or wait
_BATCH = 1 << 13               # lanes of a batch, unless one block has more
_TURN = 64                     # after so many blocks the last lanes get a turn, if lanes may wait for each other in loops


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
        self.lanes = self.blocks * self.warps * WARP
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
        self.geometry, self.first, self.events = g, first_number, []

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

    # The run ------------------------------------------------------------------------------------------------------------------------
    def run(self) -> None:
        slots = self.program.slots
        bound = slots.bind(self.lanes, self, self._outside)
        self.R = bound.slots
        _Walk(self, None if self.geometry.full else self.geometry.exists.copy()).run()
        slots.release(bound)
        self._races()
        if self.checks.counters:
            L.count(self.log, self.lanes, self.counters)
        self.counters.steps += self.steps

    def _outside(self, kind: str, *what):
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


class _Walk:
    """Which lanes are where. While all live lanes are at one block nothing is kept but its number."""

    def __init__(self, frame: Frame, live: np.ndarray | None) -> None:
        self.frame, self.blocks, self.live = frame, frame.program.blocks, live
        self.count = frame.lanes if live is None else int(live.sum())
        self.pc = np.full(frame.lanes, _NOWHERE)
        self.waiting = np.full(frame.lanes, -1, np.int32)  # block whose barrier holds the lane
        self.parked = np.full(frame.lanes, -1, np.int32)   # block whose warp instruction holds it
        self.turns = 0

    def run(self) -> None:
        with np.errstate(all="ignore"):
            at: int | None = 0
            while self.count:
                at = self.together(at) if at is not None else self.apart()

    def _account(self, block: Block, m: np.ndarray | None, threads: int) -> None:
        f, n = self.frame, len(block.code)
        f.steps += n
        c = f.counters
        c.thread_instructions += n * threads
        c.instructions += n * (f.lanes // WARP if m is None else int(m.reshape(-1, WARP).any(1).sum()))
        limit = f.checks.steps
        if limit and f.steps > limit:
            lane = 0 if m is None else int(np.argmax(m))
            raise f.fault(StepLimit, f"no end after {limit} instructions: an infinite loop?", block.end.ins, None, lane)

    def _failed(self, block: Block, steps: Iterator, error: Exception) -> EmulationError:
        ins = block.code[len(block.steps) - length_hint(steps) - 1]
        return EmulationError(f"the emulator failed: {type(error).__name__}: {error}", kernel=self.frame.program.name, line=ins.line,
                              instruction=ins.text)

    # All live lanes at one block ----------------------------------------------------------------------------------------------------
    def together(self, number: int) -> int | None:
        f, block, m = self.frame, self.blocks[number], self.live
        self._account(block, m, self.count)
        R, steps = f.R, iter(block.steps)
        try:
            if m is None:
                for step in steps:
                    step[0](R)
            else:
                for step in steps:
                    if step[2]:
                        step[0](R)
                    else:
                        step[1](R, m)
        except EmulationError:
            raise
        except Exception as e:
            raise self._failed(block, steps, e) from e
        end = block.end
        if end.kind == "go":
            return end.targets[0]
        if end.kind == "branch":
            return self._branch(end, m)
        if end.kind == "exit" and end.slot is None:
            self.count = 0
            return None
        if end.kind == "barrier" and end.barrier[1] is None and end.reduction is None and self._all_blocks_whole(end):
            f.barrier(None)
            return end.targets[0]
        self._leave(end, f.exists.copy() if m is None else m, number)
        return None

    def _all_blocks_whole(self, end) -> bool:
        """At a barrier with all live lanes: no block has lost some of its threads, unless that is allowed."""
        if self.live is None or not self.frame.checks.barriers:
            return True
        g = self.frame.geometry
        left = np.bincount(g.block_of[self.live], minlength=g.blocks)
        return bool(((left == 0) | (left == g.threads)).all())

    def _branch(self, end, m: np.ndarray | None) -> int | None:
        q = self.frame.R[end.slot]
        q = ~q if end.negated else q
        taken = int(np.count_nonzero(q)) if m is None else int(np.count_nonzero(q & m))
        if taken == self.count:
            return end.targets[0]
        if not taken:
            return end.targets[1]
        self.pc = np.where(q, np.int32(end.targets[0]), np.int32(end.targets[1]))
        if m is not None:
            self.pc[~m] = _NOWHERE
        return None

    # Lanes at different blocks ------------------------------------------------------------------------------------------------------
    def apart(self) -> int | None:
        f, pc = self.frame, self.pc
        self.turns += 1
        number = int(pc.min())
        if number == _NOWHERE:
            return self._release()
        if f.program.may_spin and self.turns % _TURN == 0:
            number = int(np.where(pc == _NOWHERE, -1, pc).max())
            self._meet(force=False)
        m = pc == number
        block = self.blocks[number]
        if block.members is not None:
            m |= self.parked == number
        n = int(np.count_nonzero(m))
        if n == self.count:
            self.parked[:] = -1
            return number
        if block.members is not None:
            m = self._gather(block, m, number)
            n = int(np.count_nonzero(m))
            if not n:
                return None
        self._account(block, m, n)
        R, steps = f.R, iter(block.steps)
        try:
            for step in steps:
                step[1](R, m)
        except EmulationError:
            raise
        except Exception as e:
            raise self._failed(block, steps, e) from e
        self._leave(block.end, m, number)
        return None

    def _gather(self, block: Block, m: np.ndarray, number: int) -> np.ndarray:
        """The lanes of `m` whose warp's mask is complete; the others are parked."""
        from .warp import BIT
        f = self.frame
        mask = np.broadcast_to(block.members(f.R), f.lanes).reshape(-1, WARP)
        active = m.reshape(-1, WARP)
        wanted = (np.bitwise_or.reduce(np.where(active, mask, np.uint32(0)), axis=1)[:, None] & BIT) != 0
        live = f.exists if self.live is None else self.live
        ready = ~(wanted & live.reshape(-1, WARP) & ~active).any(1)
        go = (active & ready[:, None]).reshape(-1)
        stay = m & ~go
        self.parked[go], self.parked[stay], self.pc[stay] = -1, number, _NOWHERE
        return go

    def _leave(self, end, m: np.ndarray, number: int) -> None:
        """Lanes `m` leave a block by its end."""
        R = self.frame.R
        if end.kind == "go":
            self.pc[m] = end.targets[0]
        elif end.kind == "branch":
            q = ~R[end.slot] if end.negated else R[end.slot]
            self.pc[m] = np.where(q, np.int32(end.targets[0]), np.int32(end.targets[1]))[m]
        elif end.kind == "index":
            self._index(end, m)
        elif end.kind == "barrier":
            self.pc[m], self.waiting[m] = _NOWHERE, number
        else:
            out = m if end.slot is None else m & (~R[end.slot] if end.negated else R[end.slot])
            if end.kind == "trap" and out.any():
                raise self.frame.fault(EmulationError, "trap: the kernel stopped itself", end.ins, None, int(np.argmax(out)))
            self.pc[m] = end.targets[0] if end.targets else _NOWHERE
            self._exit(out)

    def _exit(self, out: np.ndarray) -> None:
        if not out.any():
            return
        self.live = self.frame.exists & ~out if self.live is None else self.live & ~out
        self.pc[out] = _NOWHERE
        self.count = int(self.live.sum())

    def _index(self, end, m: np.ndarray) -> None:
        index = np.broadcast_to(self.frame.R[end.slot], m.size)[m]
        if (index >= len(end.targets)).any():
            raise self.frame.fault(EmulationError, "brx.idx beyond its table", end.ins, np.flatnonzero(m),
                                   int(np.argmax(index >= len(end.targets))))
        self.pc[m] = np.array(end.targets, np.int32)[index]

    # Barriers -----------------------------------------------------------------------------------------------------------------------
    def _release(self) -> int | None:
        """No lane can run: let those pass whose barrier is complete, or say what is wrong."""
        if self._meet(force=True):
            return None
        f = self.frame
        parked = np.flatnonzero(self.parked >= 0)
        if parked.size:
            lane = int(parked[0])
            raise f.fault(InactiveLane, "the warp instruction waits for lanes of its mask that never come",
                          self.blocks[self.parked[lane]].code[0], None, lane)
        lane = int(np.argmax(self.waiting >= 0))
        raise f.fault(BarrierFault, "a barrier that its block can never complete", self.blocks[self.waiting[lane]].end.ins, None, lane)

    def _meet(self, force: bool) -> bool:
        """Releases complete barriers. force: nothing else can run, so an incomplete one is an error."""
        f, g = self.frame, self.frame.geometry
        held = self.waiting >= 0
        done = []
        for b in np.unique(g.block_of[held]):
            mine = g.block_of == b
            here = mine & held
            live = mine & (f.exists if self.live is None else self.live)
            if self._passes(here, live, mine & f.exists, force):
                done.append(b)
        if done:
            blocks = np.unique(g.block_of[f.exists if self.live is None else self.live])
            f.barrier(None if len(done) == blocks.size and not (self.waiting >= 0).any() else np.array(done))
        return bool(done)

    def _passes(self, here: np.ndarray, live: np.ndarray, all_: np.ndarray, force: bool) -> bool:
        f = self.frame
        number = int(self.waiting[here][0])
        end = self.blocks[number].end
        lane = int(np.argmax(here))
        if end.barrier[1] is not None:
            return self._counted(here, force)
        if (here != live).any():
            return False
        numbers = np.unique(self.waiting[here])
        if f.checks.barriers:
            if numbers.size > 1:
                other = self.blocks[int(numbers[1])].end.ins
                what = f"threads of one block wait at different barriers (also line {other.line})"
                raise f.fault(BarrierFault, what, end.ins, None, lane)
            if (live != all_).any():
                raise f.fault(BarrierFault, f"{int((all_ & ~live).sum())} threads of the block have exited before this barrier", end.ins,
                              None, lane)
        for n in numbers:
            self._go_on(here & (self.waiting == n), int(n))
        return True

    def _counted(self, here: np.ndarray, force: bool) -> bool:
        """Barriers with a number of threads: each (number, count) pair of the block by itself."""
        f, passed = self.frame, False
        for n in np.unique(self.waiting[here]):
            end = self.blocks[int(n)].end
            if end.barrier[1] is None:
                continue
            lanes = here & (self.waiting == n)
            expected = int(np.broadcast_to(f.R[end.barrier[1]], f.lanes)[lanes][0])
            names = np.broadcast_to(f.R[end.barrier[0]], f.lanes)
            for name in np.unique(names[lanes]):
                group = lanes & (names == name)
                if int(group.sum()) >= expected:
                    self._go_on(group, int(n))
                    passed = True
        return passed

    def _go_on(self, lanes: np.ndarray, number: int) -> None:
        end = self.blocks[number].end
        if end.reduction is not None:
            op, target, predicate, negated = end.reduction
            p = np.broadcast_to(self.frame.R[predicate], lanes.size)[lanes]
            p = ~p if negated else p
            self.frame.R[target][lanes] = {"popc": p.sum, "and": p.all, "or": p.any}[op]()
        self.waiting[lanes] = -1
        self.pc[lanes] = end.targets[0]


class Launch:
    """One kernel over a grid. arguments: bytes in the layout of the parameters, or one value a parameter. extents: (address, bytes) of
    all memory that the kernel may touch, where the caller knows better than allocations tell."""

    def __init__(self, program: Program, memory: Memory, grid: Sequence[int] | int, block: Sequence[int] | int, arguments: bytes | Sequence,
                 shared_bytes: int = 0, checks: Checks = Checks(), counters: Counters | None = None,
                 symbols: dict[str, int] | None = None, extents: Sequence[tuple[int, int]] | None = None) -> None:
        self.program, self.memory, self.checks = program, memory, checks
        self.grid, self.block = _three(grid), _three(block)
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
        batch = max(1, min(total, _BATCH // a_block))
        races = GlobalLog() if self.checks.global_races and total * a_block > 1 else None
        frame = None
        for first in range(0, total, batch):
            frame = Frame(self, geometry(self.block, min(batch, total - first)), first)
            frame.run()
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


def place(module, memory: Memory) -> dict[str, int]:
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
