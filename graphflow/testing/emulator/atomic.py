"""atom, red and cp.async. Lanes that meet at one address act one after the other, the lowest first."""
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from . import access
from . import rounding as F
from .arithmetic import packed, refuse
from .memory import EMPTY, WRITTEN
from .parse import Instruction
from .values import DTYPES

if TYPE_CHECKING:
    from .frame import Frame
    from .program import Program

OPERATIONS = {"atom", "red"}
_TWO = {"add": np.add, "min": np.minimum, "max": np.maximum, "and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}
_ALLOWED = {"relaxed", "acquire", "release", "acq_rel", "gpu", "cta", "sys", "cluster", "noftz", "global", "shared", "shared::cta"}


def _add_bf16(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    return F.to_bf16(F.from_bf16(a) + F.from_bf16(b))


_SMALL: dict[str, Callable] = {"f16": np.add, "bf16": _add_bf16, "f16x2": packed(np.add, "f16x2"), "bf16x2": packed(_add_bf16, "bf16x2")}


def _increment(old, limit):
    return np.where(old >= limit, old.dtype.type(0), old + old.dtype.type(1))


def _decrement(old, limit):
    return np.where((old == 0) | (old > limit), limit, old - old.dtype.type(1))


def atomic(program: Program, ins: Instruction) -> Callable[[list, np.ndarray | None], None]:
    """atom.<space>.<op>.<type> d, [a], b{, c} and red without d."""
    rest = [m for m in ins.mods[:-1] if m not in _ALLOWED]
    if len(rest) != 1 or ins.type not in DTYPES or rest[0] not in (*_TWO, "exch", "cas", "inc", "dec"):
        raise refuse(ins)
    op, d = rest[0], DTYPES[ins.type]
    if ins.type in _SMALL and op != "add":
        raise refuse(ins)
    space = access.space_of(ins)
    to, where, *operands = ins.operands if ins.op == "atom" else ("_", *ins.operands)
    target = program.target(to, d)
    sources = [program.value(o, d) for o in operands]
    address = program.address(where)
    program.touch(space, d.itemsize, d.itemsize)
    flushed = op == "add" and ins.type == "f32"  # in global memory, whatever the compiler's flags are
    f = _SMALL.get(ins.type) or {"exch": lambda a, b: b, "inc": _increment, "dec": _decrement, **_TWO}.get(op)
    if d.kind == "f" and op in ("min", "max"):
        raise refuse(ins)
    def run(R, lanes):
        frame = R[0]
        need = WRITTEN if frame.checks.uninitialized and op != "exch" else EMPTY
        for place in access.resolve(frame, ins, space, address(R, lanes), d.itemsize, lanes, need):
            memory, at = place.region.view(d), place.offsets // d.itemsize
            given = [np.broadcast_to(R[s], frame.lanes) if place.lanes is None else np.broadcast_to(R[s], frame.lanes)[place.lanes]
                     for s in sources]
            if flushed and place.space == "global":
                memory[at], given = F.flush(memory[at]), [F.flush(given[0])]
            old = swap(memory, at, *given) if op == "cas" else in_turn(memory, at, given[0], f, target is not None)
            if flushed and place.space == "global":
                memory[at] = F.flush(memory[at])
            if target is not None:
                if place.lanes is None:
                    R[target][...] = old
                else:
                    R[target][place.lanes] = old
            place.region.mark(place.offsets, d.itemsize)
            access.record(frame, ins, place, "atomic", d.itemsize)
    return run


def in_turn(memory: np.ndarray, at: np.ndarray, value: np.ndarray, f: Callable, wanted: bool) -> np.ndarray | None:
    """memory[at] = f(memory[at], value), lane after lane; the values found, if wanted."""
    order = np.argsort(at, kind="stable")
    place = at[order]
    new = np.flatnonzero(np.concatenate([[True], place[1:] != place[:-1]]))
    if new.size == at.size:
        old = memory[at]
        memory[at] = f(old, value)
        return old
    if isinstance(f, np.ufunc) and not wanted:
        f.at(memory, at, value)
        return None
    value, out = value[order], np.empty(at.size, memory.dtype)
    counts = np.diff(np.append(new, at.size))
    if counts.max() * 4 > at.size and f is np.add and memory.dtype.kind != "f":  # counters: a running sum for each address
        for start, n in zip(new, counts, strict=True):
            run = np.cumsum(value[start:start + n], dtype=memory.dtype)
            out[start:start + n] = memory[place[start]] + run - value[start:start + n]
            memory[place[start]] += run[-1]
    else:
        for turn in range(int(counts.max())):  # each turn takes the next lane of every address
            here = new[counts > turn] + turn
            found = memory[place[here]]
            out[here] = found
            memory[place[here]] = f(found, value[here])
    back = np.empty_like(out)
    back[order] = out
    return back


def swap(memory: np.ndarray, at: np.ndarray, expected: np.ndarray, value: np.ndarray) -> np.ndarray:
    """Compare and swap, lane after lane: each pass finds the next lane of every address that succeeds."""
    old = np.empty(at.size, memory.dtype)
    left = np.arange(at.size)
    while left.size:
        found = memory[at[left]]
        old[left] = found
        hits = np.flatnonzero(found == expected[left])
        if not hits.size:
            break
        _, first = np.unique(at[left[hits]], return_index=True)
        winners = left[hits[first]]
        memory[at[winners]] = value[winners]
        winner_of = dict(zip(at[winners].tolist(), winners.tolist(), strict=True))
        # lanes behind the winner of their address see its value; those before it have had their turn
        limit = np.array([winner_of.get(a, at.size) for a in at[left].tolist()])
        left = left[left > limit]
    return old


class Flight(NamedTuple):
    """Bytes on their way to shared memory: by lane, where they go, what they are, and how many groups the lane had committed before."""

    ins: Instruction
    place: access.Place
    lanes: np.ndarray
    values: np.ndarray
    group: np.ndarray

    def of(self, which: np.ndarray) -> Flight:
        place = self.place._replace(offsets=self.place.offsets[which], lanes=self.lanes[which])
        return Flight(self.ins, place, self.lanes[which], self.values[which], self.group[which])

    def record(self, frame: Frame) -> None:
        access.record(frame, self.ins, self.place, "store", self.values.shape[1], (self.values,))


def copy(program: Program, ins: Instruction) -> Callable[[list, np.ndarray | None], None]:
    """cp.async.{ca,cg}.shared.global [to], [from], size{, source size}, commit_group and wait_group. The target counts as never written
    until its lane has waited."""
    if ins.mods[:1] != ("async",):
        raise refuse(ins)
    if ins.mods[1] in ("commit_group", "wait_group", "wait_all") and len(ins.mods) == 2:
        return _group(ins)
    plain = [m for m in ins.mods[1:] if not m.startswith("L2")]
    if len(plain) != 3 or plain[0] not in ("ca", "cg") or plain[1].split("::")[0] != "shared" or plain[2] != "global":
        raise refuse(ins)
    to, source, size = program.address(ins.operands[0]), program.address(ins.operands[1]), int(ins.operands[2], 0)
    given = program.value(ins.operands[3], np.dtype("u4")) if len(ins.operands) > 3 else None
    if size not in ((16,) if plain[0] == "cg" else (4, 8, 16)):
        raise refuse(ins, f"{size} bytes")
    program.touch("shared", size, size)
    program.touch("global", 1 if given is not None else size, 1)
    def run(R, lanes):
        frame = R[0]
        everyone = np.arange(frame.lanes) if lanes is None else lanes
        count = np.broadcast_to(R[given], frame.lanes)[everyone] if given is not None else np.full(everyone.size, size)
        values = _fetched(frame, ins, source(R, everyone), everyone, np.minimum(count, size), size)
        for place in access.resolve(frame, ins, "shared", to(R, everyone), size, everyone, EMPTY):
            which = np.searchsorted(everyone, place.lanes)
            flight = Flight(ins, place, place.lanes, values[which], frame.commits()[place.lanes])
            place.region.mark(place.offsets, size, EMPTY)
            flight.record(frame)
            frame.flights.append(flight)
    return run


def _fetched(frame: Frame, ins: Instruction, at: np.ndarray, lanes: np.ndarray, count: np.ndarray, size: int) -> np.ndarray:
    """`count` bytes for each lane from global memory, zeros up to `size`."""
    values = np.zeros((lanes.size, size), np.uint8)
    for n in np.unique(count[count > 0]).tolist():
        which = np.flatnonzero(count == n)
        need = WRITTEN if frame.checks.uninitialized else EMPTY
        for place in access.resolve(frame, ins, "global", at[which], n, lanes[which], need, size):
            rows = np.searchsorted(lanes, place.lanes)
            values[rows[:, None], np.arange(n)] = place.region.data[place.offsets[:, None] + np.arange(n)]
            access.record(frame, ins, place, "load", n)
    return values


def _group(ins: Instruction) -> Callable[[list, np.ndarray | None], None]:
    def commit(R, lanes):
        R[0].commits()[slice(None) if lanes is None else lanes] += 1
    if ins.mods[1] == "commit_group":
        return commit
    newest = int(ins.operands[0], 0) if ins.mods[1] == "wait_group" else None
    def wait(R, lanes):
        frame = R[0]
        limit = np.full(frame.lanes, -1)  # groups before this one have to arrive
        limit[slice(None) if lanes is None else lanes] = 1 << 30 if newest is None else (
            frame.commits() if lanes is None else frame.commits()[lanes]) - newest
        staying = []
        for flight in frame.flights:
            arrived = flight.group < limit[flight.lanes]
            if arrived.any():
                here = flight.of(arrived)
                here.place.region.data[here.place.offsets[:, None] + np.arange(here.values.shape[1])] = here.values
                here.place.region.mark(here.place.offsets, here.values.shape[1])
                here.record(frame)
            if not arrived.all():
                staying.append(flight.of(~arrived))
        frame.flights = staying
    return wait
