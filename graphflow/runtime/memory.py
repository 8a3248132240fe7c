"""The arena: where each temporary of a plan lives.

Buffers that are never alive together share memory.  Knows sizes and lifetimes only (rank 4).
"""
from __future__ import annotations

from typing import Any, Hashable, Sequence

ALIGN = 64


class Exceeded(Exception):
    """A plan (the argument) that needs more memory than it may have, found before anything was allocated."""


def peak(slots: Sequence[tuple[Any, int, int, int]]) -> tuple[int, list[Any]]:
    """Most bytes alive at one step, which no arena can be smaller than, and the keys alive then, largest first."""
    changes: dict[int, int] = {}
    for _, size, first, last in slots:
        size = -(-max(size, 1) // ALIGN) * ALIGN
        changes[first] = changes.get(first, 0) + size
        changes[last + 1] = changes.get(last + 1, 0) - size
    best = at = now = 0
    for step in sorted(changes):
        now += changes[step]
        if now > best:
            best, at = now, step
    return best, [s[0] for s in sorted(slots, key=lambda s: -s[1]) if s[2] <= at <= s[3]]


def pack(lifetimes: Sequence[tuple[Hashable, int, int, int]]) -> tuple[dict[Hashable, int], int]:
    """Offsets for buffers given as (key, bytes, first step, last step), and the bytes of the whole arena.

    Walks the steps keeping a list of free gaps; a buffer takes the smallest gap that holds it.
    """
    offsets: dict[Hashable, int] = {}
    free: list[tuple[int, int]] = []  # (start, size), by start
    top = 0
    ends: list[tuple[int, int, int]] = []  # (last step, start, size) of living buffers
    for key, size, first, last in sorted(lifetimes, key=lambda x: (x[2], -x[1])):
        size = -(-max(size, 1) // ALIGN) * ALIGN
        for end in [e for e in ends if e[0] < first]:
            ends.remove(end)
            _release(free, end[1], end[2])
        start, top = _take(free, size, top)
        offsets[key] = start
        ends.append((last, start, size))
    return offsets, top


def _take(free: list[tuple[int, int]], size: int, top: int) -> tuple[int, int]:
    fitting = [g for g in free if g[1] >= size]
    if fitting:
        gap = min(fitting, key=lambda g: g[1])
        free.remove(gap)
        if gap[1] > size:
            _release(free, gap[0] + size, gap[1] - size)
        return gap[0], top
    last = free[-1] if free and sum(free[-1]) == top else None  # grow the gap at the end
    if last is not None:
        free.remove(last)
        return last[0], last[0] + size
    return top, top + size


def _release(free: list[tuple[int, int]], start: int, size: int) -> None:
    """Puts a gap back, joined with its neighbours."""
    for g in [g for g in free if g[0] + g[1] == start or start + size == g[0]]:
        free.remove(g)
        start, size = min(start, g[0]), size + g[1]
    free.append((start, size))
    free.sort()
