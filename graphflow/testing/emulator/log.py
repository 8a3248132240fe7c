"""What a batch of blocks accessed, read after the fact: races between threads, memory sectors and bank conflicts.

Accesses are appended by `access` (Entry) as they happen and looked at in bulk here, which costs a fraction of looking at each.
Two accesses of one thread, or with an Order between them, do not race; two atomics do not; two stores of equal values do not.
"""
from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, fields
from itertools import chain
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from .errors import GlobalRace, SharedRace

if TYPE_CHECKING:
    from .access import Entry
    from .frame import Frame, History


@dataclass
class Counters:
    """What kernels did. Sums over launches; `instructions` counts warps, `thread_instructions` threads, predicated ones included."""

    launches: int = 0
    instructions: int = 0
    thread_instructions: int = 0
    steps: int = 0                     # instructions of the emulator: batches of blocks count once
    barriers: int = 0                  # a block's
    atomics: int = 0                   # threads'
    global_load_sectors: int = 0       # 32 bytes each, a warp's access
    global_store_sectors: int = 0
    global_load_minimum: int = 0       # sectors, had each warp's distinct bytes been contiguous and aligned
    global_store_minimum: int = 0
    global_load_bytes: int = 0         # asked by the threads
    global_store_bytes: int = 0
    shared_load_bytes: int = 0
    shared_store_bytes: int = 0
    shared_accesses: int = 0           # a warp's
    bank_conflicts: int = 0            # extra passes over the 32 banks of 4 bytes
    local_accesses: int = 0            # threads': spills and local arrays

    def add(self, other: Counters) -> None:
        for f in fields(self):
            setattr(self, f.name, getattr(self, f.name) + getattr(other, f.name))

    def reset(self) -> None:
        for f in fields(self):
            setattr(self, f.name, 0)

    def __sub__(self, other: Counters) -> Counters:
        return Counters(**{f.name: getattr(self, f.name) - getattr(other, f.name) for f in fields(self)})

    def copy(self) -> Counters:
        return self - Counters()

    @property
    def coalesced(self) -> bool:
        """Every global access moved as few sectors as it could."""
        return (self.global_load_sectors, self.global_store_sectors) == (self.global_load_minimum, self.global_store_minimum)


# Counting --------------------------------------------------------------------------------------------------------------------------
_FAR = np.int64(1) << np.int64(62)


def count(log: list[Entry], lanes: int, counters: Counters) -> None:
    """Adds the traffic of `log`, whose lanes stand 32 to a warp."""
    groups: dict[tuple, list[Entry]] = {}
    for e in log:
        n = e.offsets.size
        if e.kind == "atomic":
            counters.atomics += n
        if e.space == "local":
            counters.local_accesses += n
            continue
        store = e.kind == "store" or (e.kind == "free" and e.values is not None)
        name = f"{e.space}_{'store' if store else 'load'}_bytes"
        if e.kind != "atomic":
            setattr(counters, name, getattr(counters, name) + n * e.width)
            groups.setdefault((e.space, store, e.width), []).append(e)
    for (space, store, width), entries in groups.items():
        at = np.stack([_spread(e, lanes) for e in entries]).reshape(-1, 32)
        if space == "global":
            kind = "store" if store else "load"
            sectors, least = _sectors(at, width)
            setattr(counters, f"global_{kind}_sectors", getattr(counters, f"global_{kind}_sectors") + sectors)
            setattr(counters, f"global_{kind}_minimum", getattr(counters, f"global_{kind}_minimum") + least)
        else:
            active = (at != _FAR).any(1)
            counters.shared_accesses += int(active.sum())
            counters.bank_conflicts += _conflicts(at[active], width)


def _spread(e: Entry, lanes: int) -> np.ndarray:
    if e.lanes is None:
        return e.offsets
    out = np.full(lanes, _FAR)
    out[e.lanes] = e.offsets
    return out


def _sectors(at: np.ndarray, width: int) -> tuple[int, int]:
    """Sectors that the warps of `at` (rows of 32 offsets, _FAR: inactive) touch, and the least that would hold their distinct bytes."""
    order = np.sort(at, 1)
    there = order != _FAR
    distinct = np.count_nonzero(_first_of_each(order) & there, axis=1)
    return int(np.count_nonzero(_first_of_each(order >> 5) & there)), int((-(-distinct * width // 32)).sum())


def _first_of_each(order: np.ndarray) -> np.ndarray:
    """Where sorted rows change."""
    out = np.ones(order.shape, np.bool_)
    np.not_equal(order[:, 1:], order[:, :-1], out=out[:, 1:])
    return out


def _conflicts(at: np.ndarray, width: int) -> int:
    """Extra passes: 8-byte accesses go by half warps, 16-byte ones by quarters; a word read by several lanes counts once."""
    if not at.size:
        return 0
    words = max(width // 4, 1)
    part = at.reshape(-1, 32 // words)
    w = (part[:, :, None] >> 2) + np.arange(words)
    w = np.sort(np.where(part[:, :, None] == _FAR, _FAR, w).reshape(len(part), -1), 1)
    distinct = _first_of_each(w) & (w != _FAR)
    row = np.broadcast_to(np.arange(len(part))[:, None], w.shape)
    passes = np.bincount((row * 32 + (w & 31))[distinct], minlength=32 * len(part)).reshape(-1, 32).max(1)
    return int(np.maximum(passes - 1, 0).sum())


# Races -----------------------------------------------------------------------------------------------------------------------------
class Event(NamedTuple):
    """An ordering between accesses before and after position `at` of the log. kind: "barrier" (which: blocks), "warp" (which: warps),
    "fence" (which: threads)."""

    at: int
    kind: str
    which: np.ndarray


class Touch(NamedTuple):
    at: int          # position in the log
    thread: int      # number in the batch or launch
    entry: Entry
    value: bytes | None


def conflicting(log: Iterable[tuple[Entry, np.ndarray]], owners: np.ndarray, granule: int) -> np.ndarray:
    """Granules written by one thread and touched by another. `log`: entries with their threads; `owners`: int32 zeros, left so."""
    stores, others = [], []
    for e, threads in log:
        g = e.offsets // granule
        tag = threads + np.int32(1)
        pieces = [(g + j if j else g, tag) for j in range(max(e.width // granule, 1))]
        (stores if e.kind == "store" else others).extend(pieces)
    if not stores:
        return np.zeros(0, np.int64)
    where, who = (np.concatenate(x) for x in zip(*stores, strict=True))
    owners[where] = who
    bad = [where[owners[where] != who]]
    if others:
        at, by = (np.concatenate(x) for x in zip(*others, strict=True))
        found = owners[at]
        bad.append(at[(found != by) & (found != 0)])
    owners[where] = 0
    return np.concatenate(bad)


def apart_by_barriers(log: list[tuple[Entry, np.ndarray]], suspects: np.ndarray, granule: int,
                      place: Callable[[np.ndarray, np.ndarray], tuple[np.ndarray, np.ndarray, np.ndarray]]) -> np.ndarray:
    """The suspects (sorted) that barriers do not explain: touched by several blocks, or by several threads of one between two of its
    barriers; of a warp's own, between two of its own. place(entries, threads): block of each thread, and how many barriers it and its warp
    had passed at that entry."""
    pieces = [(e.offsets // granule + j, who, i) for i, (e, who) in enumerate(log) for j in range(max(e.width // granule, 1))]
    cell, thread = (np.concatenate([p[n] for p in pieces]) for n in (0, 1))
    entry = np.repeat([i for *_, i in pieces], [g.size for g, *_ in pieces])
    at = np.minimum(np.searchsorted(suspects, cell), suspects.size - 1)
    hit = np.flatnonzero(suspects[at] == cell)
    cell, thread, entry = at[hit], thread[hit], entry[hit]
    block, epoch, finer = place(entry, thread)
    write = np.array([e.kind == "store" for e, _ in log])[entry]
    def clashes(epoch: np.ndarray) -> np.ndarray:
        """The cells that one thread writes and another touches in one epoch."""
        _, key = np.unique(cell * (int(epoch.max()) + 1) + epoch, return_inverse=True)
        owner = np.full(key.max() + 1, -1)
        owner[key[write]] = thread[write]
        out = np.zeros(suspects.size, np.bool_)
        out[cell[(owner[key] >= 0) & (owner[key] != thread)]] = True
        return out
    def shared(group: np.ndarray) -> np.ndarray:
        """The cells that several groups touch."""
        low, high = np.full(suspects.size, np.iinfo(np.int64).max), np.full(suspects.size, -1)
        np.minimum.at(low, cell, group)
        np.maximum.at(high, cell, group)
        return low != high
    bad = shared(block) | clashes(epoch)
    if bad.any() and (finer != epoch).any():
        bad &= shared(thread // 32) | clashes(finer)
    return suspects[bad]


def first_race(log: list[tuple[Entry, np.ndarray]], suspects: np.ndarray, granule: int, ordered: Callable[[Touch, Touch], bool]
               ) -> tuple[Touch, Touch] | None:
    """Two unordered touches of one suspect granule (sorted) by different threads, one of them a store."""
    touches: dict[int, list[Touch]] = {}
    for at, (e, threads) in enumerate(log):
        if e.kind == "free":
            continue
        for j in range(max(e.width // granule, 1)):
            g = e.offsets // granule + j
            i = np.searchsorted(suspects, g)
            for k in np.flatnonzero(suspects[np.minimum(i, suspects.size - 1)] == g).tolist():
                value = _stored(e, k)[j * granule:(j + 1) * granule] if e.values else None
                touches.setdefault(int(g[k]), []).append(Touch(at, int(threads[k]), e, value))
    for group in touches.values():
        stores: dict[bytes | None, list[Touch]] = {}  # by value: equal ones are no rivals
        others: list[Touch] = []
        for b in group:
            writes = b.entry.kind == "store"
            rivals = [t for value, t in stores.items() if not writes or value != b.value] + [others] * writes
            for a in chain.from_iterable(rivals):
                if a.thread != b.thread and not ordered(a, b):
                    return a, b
            (stores.setdefault(b.value, []) if writes else others).append(b)
    return None


def _stored(e: Entry, k: int) -> bytes:
    return b"".join((v if not v.ndim else v[k]).tobytes() for v in e.values)


def shared_races(frame: Frame, start: int, stop: int) -> None:
    """Raises SharedRace for the accesses log[start:stop] of a batch."""
    everyone = frame.numbers
    positions = [i for i, e in enumerate(frame.log[start:stop], start) if e.space == "shared" and e.kind != "free"]
    log = [(e, everyone if e.lanes is None else e.lanes.astype(np.int32)) for e in map(frame.log.__getitem__, positions)]
    granule = frame.program.shared_granule
    suspects = np.unique(conflicting(log, frame.owners(), granule))
    if suspects.size:
        suspects = apart_by_barriers(log, suspects, granule, lambda i, threads: frame.history.place(np.array(positions)[i], threads))
    if not suspects.size:
        return
    pair = first_race(log, suspects, granule, lambda a, b: frame.ordered(positions[a.at], positions[b.at], a.thread, b.thread, False))
    if pair:
        raise _race(frame, SharedRace, "shared", *pair, frame.place_of)


def _race(frame: Frame, kind: type, space: str, a: Touch, b: Touch, place: Callable) -> Exception:
    verb = {"store": "writes", "load": "reads", "atomic": "updates"}
    first, second = place(a.thread), place(b.thread)
    return kind(f"{space} race: block {first[0]}, thread {first[1]} {verb[a.entry.kind]} (line {a.entry.ins.line}: {a.entry.ins.text}) and "
                f"block {second[0]}, thread {second[1]} {verb[b.entry.kind]} the same address, unordered",
                kernel=frame.program.name, line=b.entry.ins.line, instruction=b.entry.ins.text, block=second[0], thread=second[1])


class GlobalLog:
    """The global accesses of a launch, batch after batch; threads are numbered over the whole launch."""

    def __init__(self) -> None:
        self.log: list[tuple[Entry, np.ndarray]] = []
        self.where: list[tuple[History, int]] = []

    def take(self, frame: Frame) -> None:
        for at, e in enumerate(frame.log):
            if e.space == "global" and e.kind != "free":
                self.log.append((e, (frame.numbers if e.lanes is None else e.lanes.astype(np.int32)) + frame.first_number))
                self.where.append((frame.history, at))

    def check(self, frame: Frame) -> None:
        """Raises GlobalRace."""
        granule = frame.program.global_granule
        self._check_constant(frame, granule)
        suspects = np.unique(conflicting(self.log, frame.memory.owner_of(), granule))
        if suspects.size:
            suspects = apart_by_barriers(self.log, suspects, granule, self._place)
        if not suspects.size:
            return
        def ordered(a: Touch, b: Touch) -> bool:
            (first, i), (second, j) = self.where[a.at], self.where[b.at]
            if first is not second:
                return first.fenced(i, a.thread)
            return first.ordered(i, j, a.thread, b.thread, True)
        pair = first_race(self.log, suspects, granule, ordered)
        if pair:
            raise _race(frame, GlobalRace, "global", *pair, frame.place_of_number)

    def _cells(self, i: int, granule: int) -> list[np.ndarray]:
        e = self.log[i][0]
        return [e.offsets // granule + j for j in range(max(e.width // granule, 1))]

    def _check_constant(self, frame: Frame, granule: int) -> None:
        """A load that says nobody writes what it reads (ld.global.nc) must not find what the launch wrote, ordered or not."""
        constant = [i for i, (e, _) in enumerate(self.log) if e.kind == "load" and "nc" in e.ins.mods]
        writes = [i for i, (e, _) in enumerate(self.log) if e.kind != "load"]
        if not constant or not writes or writes[0] > constant[-1]:
            return
        first = frame.memory.owner_of()  # here: 1 + the first entry that wrote a granule
        for i in reversed(writes):
            for g in self._cells(i, granule):
                first[g] = i + 1
        reads = [(i, g) for i in constant for g in self._cells(i, granule)]
        writer = first[np.concatenate([g for _, g in reads])]
        reader = np.repeat([i for i, _ in reads], [g.size for _, g in reads])
        late = np.flatnonzero((writer > 0) & (writer <= reader))
        for i in writes:
            for g in self._cells(i, granule):
                first[g] = 0
        for at in late[:1].tolist():
            (e, threads), by = self.log[int(reader[at])], self.log[int(writer[at]) - 1][0].ins
            k = (at - int(np.searchsorted(reader, reader[at]))) % e.offsets.size
            block, thread = frame.place_of_number(int(threads[k]))
            raise GlobalRace(f"ld.global.nc reads what the launch has written (line {by.line}: {by.text}): its cache need not "
                             "see it", kernel=frame.program.name, line=e.ins.line, instruction=e.ins.text, block=block, thread=thread)

    def _place(self, entries: np.ndarray, threads: np.ndarray) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
        out = np.zeros((3, entries.size), np.int64)
        positions = np.array([at for _, at in self.where])
        batch = np.array([history.first for history, _ in self.where])[entries]
        for history in {id(h): h for h, _ in self.where}.values():
            mine = np.flatnonzero(batch == history.first)
            if mine.size:
                out[:, mine] = history.place(positions[entries[mine]], threads[mine] - history.first)
                out[0, mine] += history.first // history.geometry.lanes_of_block
        return out[0], out[1], out[2]
