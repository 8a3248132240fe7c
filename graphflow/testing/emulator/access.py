"""Loads, stores, atomics and asynchronous copies: addresses resolved, checked and logged.

Every access asks for a region (global, shared, local) and offsets in it, is checked at once for bounds, alignment and unwritten bytes,
and leaves an Entry in the batch's log; `log` reads that for races and counters. Place: `program` makes steps of these functions.
"""
from __future__ import annotations

import re
from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .errors import Misaligned, OutOfBounds, UninitializedRead
from .memory import EMPTY, LOCAL, SHARED, WRITTEN, Region
from .parse import Instruction

if TYPE_CHECKING:
    from .frame import Frame

SPACES = ("global", "shared", "local", "const", "param")
_ADDRESS = re.compile(r"\[([%\w$.@~]+)(?:\+?(-?\w+))?\]$")


class Entry(NamedTuple):
    """One instruction's access by the lanes `lanes` (None: all) to `offsets` of a space. kind: "load", "store", "atomic", "free" (not
    looked at for races). values: what was stored, one array a vector element."""

    ins: Instruction
    space: str
    kind: str
    lanes: np.ndarray | None
    offsets: np.ndarray
    width: int
    values: tuple[np.ndarray, ...] | None


def split_address(text: str) -> tuple[str, int] | None:
    """"[%rd1+16]" -> ("%rd1", 16)."""
    found = _ADDRESS.match(text)
    return (found[1], int(found[2] or "0", 0)) if found else None


def space_of(ins: Instruction) -> str:
    """The state space an instruction names; "generic" if none."""
    return next((m.split("::")[0] for m in ins.mods if m.split("::")[0] in SPACES), "generic")


def check(frame: Frame, ins: Instruction, region: Region, space: str, address: np.ndarray, offsets: np.ndarray, limit: int, width: int,
          lanes: np.ndarray | None, need: int, align: int) -> None:
    """address: what the program asked within a window of `limit` bytes; offsets: the same in the region. need: EMPTY or WRITTEN."""
    low, high = int(address.min()), int(address.max())
    if low < 0 or high + width > limit:
        raise _outside(frame, ins, space, address, width, lanes, (address < 0) | (address > limit - width))
    if align > 1 and int(np.bitwise_or.reduce(offsets)) & (align - 1) and frame.checks.alignment:
        bad = int(np.flatnonzero(offsets & (align - 1))[0])
        raise frame.fault(Misaligned, f"{space} address {_shown(frame, space, address[bad]):#x} is no multiple of {align}", ins, lanes, bad)
    if need == EMPTY and space != "global":
        return
    if address is not offsets:
        low, high = int(offsets.min()), int(offsets.max())
    if space == "global" and frame.launch.extents is not None and frame.checks.bounds:
        _inside_buffers(frame, ins, offsets, low, high, width, lanes)
    if high - low <= 8 * width * offsets.size and region.state[low:high + width].min() >= need:
        return
    states = region.state[offsets[:, None] + np.arange(width)].min(1)
    if states.min() < EMPTY and frame.checks.bounds:
        raise _outside(frame, ins, space, address, width, lanes, states < EMPTY)
    if states.min() < need and frame.checks.uninitialized:
        bad = int(np.flatnonzero(states < need)[0])
        where = _shown(frame, space, address[bad])
        raise frame.fault(UninitializedRead, f"{space} load of {width} bytes at {where:#x}{_near(frame, space, where)}: never written",
                          ins, lanes, bad)


def _inside_buffers(frame: Frame, ins: Instruction, offsets: np.ndarray, low: int, high: int, width: int,
                    lanes: np.ndarray | None) -> None:
    """Global accesses touch only what the launch was given, where that is known."""
    starts, ends = frame.launch.extents
    i = int(np.searchsorted(starts, low, "right")) - 1
    if i >= 0 and high + width <= ends[i]:
        return
    at = np.searchsorted(starts, offsets, "right") - 1
    bad = (at < 0) | (offsets + width > ends[at])
    if bad.any():
        first = int(np.flatnonzero(bad)[0])
        where = _shown(frame, "global", offsets[first])
        near = int(at[first])
        beyond = f", {int(offsets[first] - starts[near])} bytes from the start of one of {ends[near] - starts[near]}" if near >= 0 else ""
        raise frame.fault(OutOfBounds, f"global access of {width} bytes at {where:#x}: inside memory, but outside the buffers of this "
                          f"launch{beyond} ({int(bad.sum())} threads)", ins, lanes, first)


def _shown(frame: Frame, space: str, offset: int) -> int:
    return int(offset) + (frame.memory.base if space == "global" else 0)


def _near(frame: Frame, space: str, address: int) -> str:
    found = frame.memory.find(address) if space == "global" else None
    return f", {address - found.address} bytes into an allocation of {found.nbytes}" if found else ""


def _outside(frame: Frame, ins: Instruction, space: str, address: np.ndarray, width: int, lanes: np.ndarray | None, bad: np.ndarray):
    first = int(np.flatnonzero(bad)[0])
    where = _shown(frame, space, address[first])
    size = f" of {frame.program.shared_bytes + frame.dynamic} bytes" if space == "shared" else ""
    return frame.fault(OutOfBounds, f"{space} access of {width} bytes at {where:#x}{_near(frame, space, where)}: outside"
                       f"{' memory' + size if space != 'global' else ' every allocation'} ({int(bad.sum())} threads)", ins, lanes, first)


class Place(NamedTuple):
    """Where an instruction's lanes access: offsets into region."""

    space: str
    region: Region
    offsets: np.ndarray
    lanes: np.ndarray | None


def resolve(frame: Frame, ins: Instruction, space: str, address: np.ndarray, width: int, lanes: np.ndarray | None, need: int,
            align: int = 0) -> list[Place]:
    """Checked places of the int64 `address` of each lane; a generic address is looked up in its window, lane by lane if they differ."""
    align = align or width
    if space == "generic":
        low, high = int(address.min()), int(address.max())
        if low >= LOCAL:
            space, address = "local", address - LOCAL
        elif low >= SHARED and high < LOCAL:
            space, address = "shared", address - SHARED
        elif high < SHARED:
            space = "global"
        else:
            which = np.where(address >= LOCAL, 2, np.where(address >= SHARED, 1, 0))
            everyone = np.arange(frame.lanes) if lanes is None else lanes
            return [p for n in range(3) if (which == n).any()
                    for p in resolve(frame, ins, "generic", address[which == n], width, everyone[which == n], need, align)]
    if space in ("global", "const"):
        offsets = address - frame.memory.base
        if frame.checks.bounds is False:
            offsets, lanes = _only_inside(frame, frame.memory.size, offsets, width, lanes, frame.memory)
            if not offsets.size:
                return []
        check(frame, ins, frame.memory, "global", offsets, offsets, frame.memory.size, width, lanes, need, align)
        return [Place("global", frame.memory, offsets, lanes)]
    region, stride = (frame.shared, frame.shared_stride) if space == "shared" else (frame.local, frame.local_stride)
    limit = frame.shared_limit if space == "shared" else frame.program.local_bytes
    starts = frame.shared_start if space == "shared" else frame.local_start
    if frame.checks.bounds is False:
        address, lanes = _only_inside(frame, limit, address, width, lanes, None)
        if not address.size:
            return []
    offsets = address + (starts if lanes is None else starts[lanes])
    check(frame, ins, region, space, address, offsets, limit, width, lanes, need, align)
    return [Place(space, region, offsets, lanes)]


def _only_inside(frame: Frame, limit: int, address: np.ndarray, width: int, lanes: np.ndarray | None, memory: Region | None):
    """With the check of bounds off: the lanes whose access is inside; the others load nothing and store nothing."""
    good = (address >= 0) & (address <= limit - width)
    if memory is not None:
        good[good] &= memory.state[address[good]] != 0
    if good.all():
        return address, lanes
    everyone = np.arange(frame.lanes) if lanes is None else lanes
    return address[good], everyone[good]


def record(frame: Frame, ins: Instruction, place: Place, kind: str, width: int, values: tuple | None = None) -> None:
    frame.log.append(Entry(ins, place.space, kind, place.lanes, place.offsets, width, values))


def loader(ins: Instruction, space: str, address: Callable, dtype: np.dtype, targets: list[int | None]) -> Callable:
    """load(R, lanes): `targets` are the slots of the vector's registers (None: not kept)."""
    size = dtype.itemsize
    width = size * len(targets)
    kind = "free" if {"volatile", "relaxed", "acquire", "mmio"} & set(ins.mods) else "load"
    def load(R: list, lanes: np.ndarray | None) -> None:
        frame: Frame = R[0]
        need = WRITTEN if frame.checks.uninitialized else EMPTY
        for place in resolve(frame, ins, space, address(R, lanes), width, lanes, need):
            values, at, to = place.region.view(dtype), place.offsets // size, place.lanes
            for j, target in enumerate(targets):
                if target is None:
                    continue
                got = values[at + j if j else at]
                if to is None:
                    R[target][...] = got
                else:
                    R[target][to] = got
            record(frame, ins, place, kind, width)
    return load


def storer(ins: Instruction, space: str, address: Callable, dtype: np.dtype, sources: list[int]) -> Callable:
    """store(R, lanes)."""
    size = dtype.itemsize
    width = size * len(sources)
    kind = "free" if {"volatile", "relaxed", "release", "mmio"} & set(ins.mods) else "store"
    def store(R: list, lanes: np.ndarray | None) -> None:
        frame: Frame = R[0]
        for place in resolve(frame, ins, space, address(R, lanes), width, lanes, EMPTY):
            memory, at, who, kept = place.region.view(dtype), place.offsets // size, place.lanes, []
            for j, source in enumerate(sources):
                value = R[source]
                if value.ndim:
                    value = value.copy() if who is None else value[who]
                memory[at + j if j else at] = value
                kept.append(value)
            place.region.mark(place.offsets, width)
            record(frame, ins, place, kind, width, tuple(kept))
    return store
