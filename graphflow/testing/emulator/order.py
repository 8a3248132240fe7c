"""Other orders than that of `walk`: warps and blocks that run ahead of each other, stopped between accesses to memory.

A launch's lanes are dealt to parties; one party runs at a time, until it can not go on or its turn is over.  Where a barrier, a fence or a
warp's meeting is missing, values then depend on the order.  Place: between `walk`, whose ways it takes, and `launch`.
"""
from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np

from .frame import WARP, Frame
from .walk import _NOWHERE, _TURN, Walk

LANES = 1 << 10  # of a batch, if it holds two blocks: a party's step takes as long as one of all lanes
_PARTIES, _BURSTS = (2, 3, 5, 8), (1.0, 4.0, 32.0, 1e9)
_default: list[int | str | None] = [None]


def checked(order: int | str | None) -> int | str | None:
    """Raises ValueError for what is no order."""
    if order is None or order in ("forward", "reverse") or isinstance(order, int) and order >= 0:
        return order
    raise ValueError(f'an order is "forward", "reverse", a number from 0 on, or None; got {order!r}')


@contextmanager
def in_order(order: int | str | None) -> Iterator[None]:
    """Launches inside run in an order, where they are told no other: see docs/ptx-emulator.md."""
    before = _default[0]
    set_default(order)
    try:
        yield
    finally:
        set_default(before)


def set_default(order: int | str | None) -> None:
    """The order of all launches that are told no other."""
    _default[0] = checked(order)


def wanted(order: int | str | None) -> int | str | None:
    return _default[0] if order is None else order


class Order:
    """The order of one launch: "forward" (warp after warp, each as far as it gets), "reverse" (the last first), or drawn from a number.

    Even numbers keep warps whole; odd ones tear them apart as well, as threads may since compute capability 7.0 when they have branched.
    """

    def __init__(self, order: int | str, launch: int) -> None:
        self.order = order
        self.rng = np.random.default_rng((0, 0) if isinstance(order, str) else (order, launch))

    def batches(self, starts: list[int]) -> list[int]:
        if self.order == "reverse":
            return starts[::-1]
        return starts if self.order == "forward" else [starts[i] for i in self.rng.permutation(len(starts))]

    def parties(self, frame: Frame) -> list[np.ndarray]:
        """Lanes of each party."""
        lanes = np.arange(frame.lanes)
        if isinstance(self.order, str):
            found = list(lanes.reshape(-1, WARP))
            return found if self.order == "forward" else found[::-1]
        count = int(self.rng.choice(_PARTIES))
        torn = self.order % 2 == 1
        of = self.rng.integers(count, size=frame.lanes if torn else frame.lanes // WARP)
        of = of if torn else np.repeat(of, WARP)
        return [found for p in range(count) if (found := lanes[of == p]).size]

    def turn(self) -> float:
        """How many pieces of code a party runs before the next is drawn."""
        return np.inf if isinstance(self.order, str) else float(self.rng.geometric(1 / self.rng.choice(_BURSTS)))


class Ordered(Walk):
    """Lanes never go all together: one party runs at a time."""

    def __init__(self, frame: Frame, order: Order) -> None:
        super().__init__(frame)
        self.order, self.parties = order, order.parties(frame)
        self.pc[frame.exists] = 0
        self.now, self.left = 0, 0.0

    def run(self) -> None:
        with np.errstate(all="ignore"):
            while self.count:
                self._step()

    def _step(self) -> None:
        party = self._next()
        if party is None:
            self._release()
            return
        pc, number = self.pc[party], int(self.pc[party].min())
        m = np.zeros(self.frame.lanes, np.bool_)
        m[party[pc == number]] = True
        block = self.blocks[number]
        if block.members is not None:
            m = self._gather(block, m | (self.parked == number), number)
            if not m.any():
                return
        self._account(block, m, int(np.count_nonzero(m)))
        self._execute(block, m)
        self._leave(block.end, m, number)
        if block.end.kind in ("barrier", "exit"):
            self._meet(force=False)

    def _next(self) -> np.ndarray | None:
        """The party that goes on: the present one while its turn lasts and it can; then the first that can, or one that is drawn."""
        self.left -= 1
        self.turns += 1
        if self.left > 0 and self.pc[self.parties[self.now]].min() != _NOWHERE:
            return self.parties[self.now]
        able = [p for p, lanes in enumerate(self.parties) if self.pc[lanes].min() != _NOWHERE]
        if not able:
            return None
        drawn = not isinstance(self.order.order, str) or self.frame.program.may_spin and self.turns % _TURN == 0
        self.now = int(self.order.rng.choice(able)) if drawn else able[0]
        self.left = 1 if self.frame.program.may_spin else self.order.turn()
        return self.parties[self.now]
