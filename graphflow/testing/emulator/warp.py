"""Instructions of a whole warp: shuffles, votes, matches, reductions, and the matrix fragments of mma and ldmatrix.

Lanes stand 32 to a row; lanes that do not exist (a block of 40 threads has a second row of 8) count as exited.
Fragment layouts: PTX ISA, "Matrix fragments for mma.m16n8k16/m16n8k8".
"""
from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

import numpy as np

from .arithmetic import refuse
from .errors import InactiveLane
from .parse import Instruction
from .rounding import from_bf16
from .values import DTYPES

if TYPE_CHECKING:
    from .program import Program, Step

U32, PRED = np.dtype("u4"), np.dtype("?")
MATRIX = {"mma", "ldmatrix"}
LANE = np.arange(32)
BIT = (np.uint32(1) << np.arange(32, dtype="u4"))


def is_warp_instruction(ins: Instruction) -> bool:
    return ins.op in ("shfl", "vote", "match", "redux", *MATRIX) or (ins.op in ("bar", "barrier") and "warp" in ins.mods)


def members(program: Program, ins: Instruction) -> Callable[[list], np.ndarray]:
    """The bit mask of the lanes that an instruction wants, as a function of the slots."""
    if ins.op in MATRIX:
        return lambda R: np.array(0xFFFFFFFF, "u4")
    slot = program.value(ins.operands[-1], U32)
    return lambda R: R[slot]


def bits(rows: np.ndarray) -> np.ndarray:
    """Rows of 32 booleans as uint32."""
    return np.packbits(rows, axis=-1, bitorder="little").view("u4").ravel()


def rows(a: np.ndarray, lanes: int) -> np.ndarray:
    """An operand as (warps, 32)."""
    return (a if a.ndim else np.broadcast_to(a, lanes)).reshape(-1, 32)


def step(program: Program, ins: Instruction) -> Step:
    from .program import Step
    make = {"shfl": _shuffle, "vote": _vote, "match": _match, "redux": _reduce, "mma": _multiply, "ldmatrix": _load_matrix,
            "bar": _sync, "barrier": _sync, "activemask": _active}[ins.op]
    run = make(program, ins)
    return Step(lambda R: run(R, None), run, False)


def _put(R: list, slot: int | None, value: np.ndarray, m: np.ndarray | None) -> None:
    if slot is not None:
        np.copyto(R[slot], value, "unsafe", True if m is None else m)


def _sync(program: Program, ins: Instruction):
    return lambda R, m: R[0].warp_sync(m)


def _shuffle(program: Program, ins: Instruction):
    if ins.mods[0] != "sync" or len(ins.mods) != 3 or ins.mods[1] not in ("up", "down", "bfly", "idx") or ins.mods[2] != "b32":
        raise refuse(ins)
    mode = ins.mods[1]
    to, _, predicate = ins.operands[0].partition("|")
    target, inside = program.target(to, U32), program.target(predicate, PRED) if predicate else None
    a, b, c = (program.value(o, U32) for o in ins.operands[1:4])
    constant: dict[tuple, tuple] = {}
    def run(R, m):
        frame, values = R[0], rows(R[a], R[0].lanes)
        if not R[b].ndim and not R[c].ndim:
            key = int(R[b]), int(R[c])
            if key not in constant:
                constant[key] = lanes_read(mode, *(np.array([[k]]) for k in key))
            source, good = constant[key]
        else:
            source, good = lanes_read(mode, rows(R[b], frame.lanes).astype("i8"), rows(R[c], frame.lanes).astype("i8"))
        if m is not None:
            _from_active(frame, ins, source, m)
        got = values[:, source[0]] if source.shape[0] == 1 else np.take_along_axis(values, source, 1)
        _put(R, target, got.reshape(-1), m)
        if inside is not None:
            _put(R, inside, np.broadcast_to(good, values.shape).reshape(-1), m)
    return run


def lanes_read(mode: str, b: np.ndarray, c: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """The lane each lane reads and whether it lies in its segment: b the offset or lane, c clamp and segment mask. Shape (rows, 32)."""
    clamp, segment, b = c & 31, c >> 8 & 31, b & 31
    low, limit = LANE & segment, (LANE & segment) | (clamp & ~segment)
    j = {"up": lambda: LANE - b, "down": lambda: LANE + b, "bfly": lambda: LANE ^ b, "idx": lambda: low | (b & ~segment)}[mode]()
    good = j >= limit if mode == "up" else j <= limit
    return np.where(good, j, LANE) & 31, good


def _from_active(frame, ins: Instruction, source: np.ndarray, m: np.ndarray) -> None:
    active = m.reshape(-1, 32)
    there = active[:, source[0]] if source.shape[0] == 1 else np.take_along_axis(active, source, 1)
    bad = active & ~there
    if bad.any() and frame.checks.lanes:
        first = int(np.flatnonzero(bad)[0])
        lane = int(np.broadcast_to(source, active.shape).reshape(-1)[first])
        raise frame.fault(InactiveLane, f"lane {first % 32} reads lane {lane}, which does not take part", ins, None, first)


def _wanted(R: list, slot: int, m: np.ndarray | None) -> np.ndarray:
    """Lanes that take part, (warps, 32): active and in the mask."""
    frame = R[0]
    mask = rows(R[slot], frame.lanes)
    inside = (mask[:, :1] if R[slot].ndim == 0 else mask) & BIT != 0
    return inside if m is None else inside & m.reshape(-1, 32)


def _vote(program: Program, ins: Instruction):
    if ins.mods[0] != "sync" or ins.mods[1] not in ("all", "any", "uni", "ballot"):
        raise refuse(ins)
    mode = ins.mods[1]
    target = program.target(ins.operands[0], U32 if mode == "ballot" else PRED)
    p, negated = program.predicate(ins.operands[1])
    mask = program.value(ins.operands[2], U32)
    def run(R, m):
        part, x = _wanted(R, mask, m), rows(R[p], R[0].lanes)
        x = ~x if negated else x
        yes, no = part & x, part & ~x
        some, fails = yes.any(1), no.any(1)
        row = bits(yes) if mode == "ballot" else {"any": some, "all": ~fails, "uni": ~(some & fails)}[mode]
        _put(R, target, np.repeat(row, 32), m)
    return run


def _match(program: Program, ins: Instruction):
    if len(ins.mods) != 3 or ins.mods[1] != "sync" or ins.mods[0] not in ("any", "all"):
        raise refuse(ins)
    to, _, predicate = ins.operands[0].partition("|")
    target, flag = program.target(to, U32), program.target(predicate, PRED) if predicate else None
    a, mask = program.value(ins.operands[1], DTYPES[ins.type]), program.value(ins.operands[2], U32)
    def run(R, m):
        part, x = _wanted(R, mask, m), rows(R[a], R[0].lanes)
        same = (x[:, :, None] == x[:, None, :]) & part[:, None, :]
        if ins.mods[0] == "any":
            _put(R, target, bits(same.reshape(-1, 32)), m)
            return
        all_same = (same | ~part[:, None, :]).all(2)
        _put(R, target, np.where(all_same.reshape(-1), np.repeat(bits(part), 32), np.uint32(0)), m)
        if flag is not None:
            _put(R, flag, all_same.reshape(-1), m)
    return run


_REDUCTIONS = {"add": (np.add, 0), "and": (np.bitwise_and, -1), "or": (np.bitwise_or, 0), "xor": (np.bitwise_xor, 0),
               "min": (np.minimum, None), "max": (np.maximum, None)}


def _active(program: Program, ins: Instruction):
    target = program.target(ins.operands[0], U32)
    def run(R, m):
        active = R[0].exists if m is None else m
        _put(R, target, np.repeat(bits(active.reshape(-1, 32)), 32), m)
    return run


def _reduce(program: Program, ins: Instruction):
    if len(ins.mods) != 3 or ins.mods[0] != "sync" or ins.mods[1] not in _REDUCTIONS or ins.type not in ("u32", "s32", "b32"):
        raise refuse(ins)
    f, neutral = _REDUCTIONS[ins.mods[1]]
    d = DTYPES[ins.type]
    if neutral is None:
        neutral = np.iinfo(d).max if ins.mods[1] == "min" else np.iinfo(d).min
    target, a, mask = program.target(ins.operands[0], d), program.value(ins.operands[1], d), program.value(ins.operands[2], U32)
    def run(R, m):
        part, x = _wanted(R, mask, m), rows(R[a], R[0].lanes)
        row = f.reduce(np.where(part, x, np.array(neutral).astype(d)), axis=1, dtype=d)
        _put(R, target, np.repeat(row, 32), m)
    return run


def _whole_warps(frame, ins: Instruction, m: np.ndarray | None) -> np.ndarray:
    """The warps that execute; all their lanes must."""
    if m is None:
        return np.arange(frame.lanes // 32)
    active = m.reshape(-1, 32)
    part = active.any(1) & ~active.all(1)
    if part.any():
        warp = int(np.flatnonzero(part)[0])
        lane = warp * 32 + int(np.argmax(active[warp]))
        raise frame.fault(InactiveLane, "a matrix instruction needs all 32 lanes of its warp", ins, None, lane)
    return np.flatnonzero(active.any(1))


# mma: element (row, column) of each fragment as functions of the lane and the register's element ----------------------------------
GROUP, INNER = LANE >> 2, LANE & 3


def _a_layout() -> tuple[np.ndarray, np.ndarray]:
    """A of 16-bit elements (16 x k): rows and columns, (32 lanes, elements)."""
    e = np.arange(8)
    row = GROUP[:, None] + 8 * (e[None] >> 1 & 1)
    return row, INNER[:, None] * 2 + (e[None] & 1) + 8 * (e[None] >> 2)


_SHAPES = {  # shape, type -> (rows of A, columns of A, rows of B, columns of B) by (lane, element)
    ("m16n8k16", 16): (_a_layout(), (INNER[:, None] * 2 + (np.arange(4) & 1) + 8 * (np.arange(4) >> 1),
                                       GROUP[:, None] + 0 * np.arange(4))),
    ("m16n8k8", 16): (tuple(x[:, :4] for x in _a_layout()), (INNER[:, None] * 2 + np.arange(2), GROUP[:, None] + 0 * np.arange(2))),
    ("m16n8k8", 32): ((GROUP[:, None] + 8 * (np.arange(4) & 1), INNER[:, None] + 4 * (np.arange(4) >> 1)),
                      (INNER[:, None] + 4 * np.arange(2), GROUP[:, None] + 0 * np.arange(2))),
    ("m16n8k4", 32): ((GROUP[:, None] + 8 * np.arange(2), INNER[:, None] + 0 * np.arange(2)), (INNER[:, None], GROUP[:, None])),
}
_C_ROW, _C_COL = GROUP[:, None] + 8 * (np.arange(4) >> 1), INNER[:, None] * 2 + (np.arange(4) & 1)


def _multiply(program: Program, ins: Instruction):
    """mma.sync.aligned.<shape>.row.col.<d>.<a>.<b>.<c>: sums in float64, rounded once; the hardware's order of addition is not known."""
    if ins.mods[:2] != ("sync", "aligned") or ins.mods[3:5] != ("row", "col") or len(ins.mods) != 9:
        raise refuse(ins)
    shape, (out, ta, tb, tc) = ins.mods[2], ins.mods[5:]
    size = {"f16": 16, "bf16": 16, "tf32": 32}.get(ta)
    if (shape, size) not in _SHAPES or ta != tb or out != "f32" or tc != "f32":
        raise refuse(ins)
    (ar, ac), (br, bc) = _SHAPES[shape, size]
    k = int(shape.split("k")[1])
    d, a, b, c = (o.strip("{}").split(",") for o in ins.operands)
    ins_a, ins_b = [program.value(r, U32) for r in a], [program.value(r, U32) for r in b]
    ins_c, outs = [program.value(r, np.dtype("f4")) for r in c], [program.target(r, np.dtype("f4")) for r in d]
    def numbers(R, slots, warps):
        raw = np.stack([rows(R[s], R[0].lanes)[warps] for s in slots], -1)  # (warps, 32, registers)
        if ta == "tf32":
            return (raw & np.uint32(0xFFFFE000)).view("f4").astype("f8")
        halves = np.ascontiguousarray(raw).view("u2")
        return (halves.view("f2") if ta == "f16" else from_bf16(halves)).astype("f8")
    def run(R, m):
        warps = _whole_warps(R[0], ins, m)
        A, B = np.zeros((warps.size, 16, k)), np.zeros((warps.size, k, 8))
        A[:, ar, ac], B[:, br, bc] = numbers(R, ins_a, warps), numbers(R, ins_b, warps)
        C = np.stack([rows(R[s], R[0].lanes)[warps] for s in ins_c], -1).astype("f8")
        D = ((A @ B)[:, _C_ROW, _C_COL] + C).astype("f4")
        for j, slot in enumerate(outs):
            R[slot].reshape(-1, 32)[warps] = D[:, :, j]
    return run


def _load_matrix(program: Program, ins: Instruction):
    """ldmatrix.sync.aligned.m8n8.x{1,2,4}[.trans].shared.b16: row r of matrix i from the address that lane 8*i + r holds."""
    from . import access
    from .memory import WRITTEN
    allowed = {"sync", "aligned", "m8n8", "x1", "x2", "x4", "trans", "shared", "shared::cta", "b16"}
    count = next((int(m[1]) for m in ins.mods if m in ("x1", "x2", "x4")), None)
    if set(ins.mods) - allowed or count is None:
        raise refuse(ins)
    space, address = access.space_of(ins), program.address(ins.operands[1])
    program.touch(space, 16, 2)
    targets = [program.target(r, U32) for r in ins.operands[0].strip("{}").split(",")]
    def run(R, m):
        frame = R[0]
        warps = _whole_warps(frame, ins, m)
        lanes = (warps[:, None] * 32 + np.arange(8 * count)).reshape(-1)
        at = address(R, lanes)
        for place in access.resolve(frame, ins, space, at, 16, lanes, WRITTEN):
            halves = place.region.view(np.dtype("u2"))[place.offsets[:, None] // 2 + np.arange(8)].reshape(warps.size, count, 8, 8)
            access.record(frame, ins, place, "load", 16)
            for i, slot in enumerate(targets):
                matrix = halves[:, i].transpose(0, 2, 1) if "trans" in ins.mods else halves[:, i]
                pairs = np.ascontiguousarray(matrix[:, GROUP[:, None], INNER[:, None] * 2 + np.arange(2)])
                R[slot].reshape(-1, 32)[warps] = pairs.view("u4")[:, :, 0]
    return run
