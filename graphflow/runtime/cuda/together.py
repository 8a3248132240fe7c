"""Launches of one kind that become one: updates of many variables, copies of final values.

A step's launches whose text for many is the same, and between which nothing needs what they change, are queued as one launch at the
place of the last; a table in the device's memory says to each block whose elements it takes.  Knows what launches read and write, by
address; knows no op and no plan (rank 4).
"""
from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ...codegen.cuda.launch import Launch, Many

SMALL = 264  # blocks up to which launches of equal text become one
Span = tuple[int, int, bool]  # first address, end, whether it is written


@dataclass
class Step:
    """What a segment queues: for what, and what makes it for the addresses of a run (None for nothing).

    spans: the memory it reads and writes; None: nothing may change its place.
    launch, where, guarded: of a launch that may become part of one for many: its buffers' addresses, whether a failed check stops it.
    changes: whether it changes a variable.
    """

    what: Any
    make: Callable[[], Callable[[], None] | None]
    spans: Callable[[], list[Span]] | None = None
    launch: Launch | None = None
    where: Callable[[], list[int]] | None = None
    guarded: bool = False
    blocks: int = 0
    changes: bool = False

    @property
    def kind(self) -> str | None:
        """What steps have in common that may be one."""
        if self.launch is None:
            return None
        if self.launch.many is not None:
            return self.launch.many.source
        return self.launch.source if 0 < self.blocks <= SMALL and not self.launch.checks else None


def groups(steps: Sequence[Step]) -> list[list[int]]:
    """Places of steps that may be one launch at the place of the last of them, each group in order."""
    kinds: dict[tuple[str, bool], list[int]] = {}
    for i, s in enumerate(steps):
        if s.kind is not None:
            kinds.setdefault((s.kind, s.guarded), []).append(i)
    known: dict[int, list[Span] | None] = {}

    def spans(i: int) -> list[Span] | None:
        if i not in known:
            ask = steps[i].spans
            known[i] = None if ask is None else ask()
        return known[i]

    found: list[list[int]] = []
    for places in kinds.values():
        group = places[:1]
        for i in places[1:]:
            if any(_meet(spans(k), spans(j)) for k in group for j in range(group[-1] + 1, i + 1)):
                found.append(group)
                group = []
            group.append(i)
        found.append(group)
    return [g for g in found if len(g) > 1]


def _meet(a: list[Span] | None, b: list[Span] | None) -> bool:
    """Whether one of two steps writes what the other uses."""
    if a is None or b is None:
        return True
    return any((w or v) and x < z and y < e for x, e, w in a for y, z, v in b)


def table(many: Many, members: Sequence[tuple[list[int], list[int], int]]) -> np.ndarray:
    """The record of each block, [blocks, words] int64, of (addresses of a launch's buffers, the values of its `sizes`, its blocks)."""
    parts = []
    for addresses, sizes, grid in members:
        starts = many.starts(sizes[0] if sizes else 0, grid)
        record = np.empty((len(starts), len(addresses) + 1 + len(sizes)), np.int64)
        record[:] = [*addresses, 0, *sizes]
        record[:, len(addresses)] = starts
        parts.append(record)
    return np.concatenate(parts)
