"""The way of a batch through a kernel: the lanes at the block of instructions with the lowest number go first.

Lanes that branch apart wait for each other wherever the program brings them together again; a barrier holds a block's lanes, a warp
instruction the lanes of its mask. Place: between `program`, whose blocks it runs, and `launch`.
"""
from __future__ import annotations

from collections.abc import Iterator
from operator import length_hint

import numpy as np

from .errors import BarrierFault, EmulationError, InactiveLane, StepLimit
from .frame import WARP, Frame
from .program import Block, End
from .warp import BIT

_NOWHERE = np.int32(2 ** 30)   # the "program counter" of lanes that have exited or wait
_TURN = 64                     # after so many blocks the last lanes get a turn, if lanes may wait for each other in loops


class Walk:
    """Which lanes are where. While all live lanes are at one block nothing is kept but its number."""

    def __init__(self, frame: Frame) -> None:
        self.frame, self.blocks = frame, frame.program.blocks
        self.live = live = None if frame.geometry.full else frame.exists.copy()  # None: all lanes
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
        if end.kind == "barrier" and end.barrier[1] is None and end.reduction is None and self._all_blocks_whole():
            f.barrier(None)
            return end.targets[0]
        self._leave(end, f.exists.copy() if m is None else m, number)
        return None

    def _all_blocks_whole(self) -> bool:
        """At a barrier with all live lanes: no block has lost some of its threads, unless that is allowed."""
        if self.live is None or not self.frame.checks.barriers:
            return True
        g = self.frame.geometry
        left = np.bincount(g.block_of[self.live], minlength=g.blocks)
        return bool(((left == 0) | (left == g.threads)).all())

    def _branch(self, end: End, m: np.ndarray | None) -> int | None:
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
        self._execute(block, m)
        self._leave(block.end, m, number)
        return None

    def _execute(self, block: Block, m: np.ndarray) -> None:
        """The instructions of a block, for the threads in `m`."""
        R, steps = self.frame.R, iter(block.steps)
        try:
            for step in steps:
                step[1](R, m)
        except EmulationError:
            raise
        except Exception as e:
            raise self._failed(block, steps, e) from e

    def _gather(self, block: Block, m: np.ndarray, number: int) -> np.ndarray:
        """The lanes of `m` whose warp's mask is complete; the others are parked."""
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

    def _leave(self, end: End, m: np.ndarray, number: int) -> None:
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

    def _index(self, end: End, m: np.ndarray) -> None:
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
