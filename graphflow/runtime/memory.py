"""The arena: where each temporary of a plan lives.

Buffers that are never alive together share memory.  Knows sizes and lifetimes only (rank 4).
"""
from __future__ import annotations

from bisect import insort
from typing import Any, Hashable, Sequence

ALIGN = 64
CLOSE = 1.01  # an arena this near the bytes alive at once is good enough
LITTLE = 1 << 16
MANY = 2000  # buffers beyond which looking for a smaller arena takes too long


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

    The walk over the steps is fast and mostly as small as can be.  Where it is not, and it matters, large buffers are placed
    by size below the small ones, then all by size; the first good arena is taken, or the smallest.
    """
    bound = peak(lifetimes)[0]
    best: tuple[dict[Hashable, int], int] = {}, 0
    for way in (_by_step, _large_apart, _by_size):
        found = way(lifetimes)
        if not best[0] or found[1] < best[1]:
            best = found
        if best[1] <= max(CLOSE * bound, bound + LITTLE) or len(lifetimes) > MANY:
            break
    return best


def _large_apart(lifetimes: Sequence[tuple[Hashable, int, int, int]]) -> tuple[dict[Hashable, int], int]:
    """The few buffers that matter largest first, the many others by the steps, above them."""
    limit = max((x[1] for x in lifetimes), default=0) // 64
    large, top = _by_size([x for x in lifetimes if x[1] > limit])
    small, more = _by_step([x for x in lifetimes if x[1] <= limit])
    return large | {key: top + at for key, at in small.items()}, top + more


def _by_size(lifetimes: Sequence[tuple[Hashable, int, int, int]]) -> tuple[dict[Hashable, int], int]:
    """Each buffer, largest first, at the lowest place that no other holds during its life."""
    offsets: dict[Hashable, int] = {}
    placed: list[tuple[int, int, int, int]] = []  # (start, end, first step, last step), by start
    top = 0
    for key, size, first, last in sorted(lifetimes, key=lambda x: -x[1]):
        size = -(-max(size, 1) // ALIGN) * ALIGN
        at = 0
        for start, end, begins, ends in placed:
            if ends >= first and begins <= last:
                if start - at >= size:
                    break
                at = max(at, end)
        offsets[key] = at
        insort(placed, (at, at + size, first, last))
        top = max(top, at + size)
    return offsets, top


def _by_step(lifetimes: Sequence[tuple[Hashable, int, int, int]]) -> tuple[dict[Hashable, int], int]:
    """Walks the steps keeping a list of free gaps; a buffer takes the smallest gap that holds it."""
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
