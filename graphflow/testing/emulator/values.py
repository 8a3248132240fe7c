"""PTX types as NumPy dtypes, and the slots through which instructions reach their operands.

A launch keeps every operand an instruction names (a register seen as a type, an immediate, a special register, a parameter, the
address of a variable) in one list. An instruction knows the positions; `Slots` decides them once, `bind` fills them for a launch.
A register seen as a narrower type is the strided view of its low bytes, so no instruction converts what it reads.
"""
from __future__ import annotations

import re
from collections.abc import Callable
from typing import NamedTuple
from weakref import WeakSet

import numpy as np

DTYPES: dict[str, np.dtype] = {name: np.dtype(code) for name, code in {
    "u8": "u1", "s8": "i1", "b8": "u1", "u16": "u2", "s16": "i2", "b16": "u2", "f16": "f2", "bf16": "u2",
    "u32": "u4", "s32": "i4", "b32": "u4", "f32": "f4", "f16x2": "u4", "bf16x2": "u4", "tf32": "u4",
    "u64": "u8", "s64": "i8", "b64": "u8", "f64": "f8", "f32x2": "u8", "pred": "?"}.items()}
FRAME = 0  # slot 0 holds the running batch itself
_IMMEDIATE = re.compile(r"(-?)(0[fF][0-9a-fA-F]{8}$|0[dD][0-9a-fA-F]{16}$|0[xX][0-9a-fA-F]+|0[bB][01]+|\d+\.\d+(?:[eE][-+]?\d+)?|\d+)U?$")
_KEEP = 64 << 20  # bytes of registers kept for later launches, all kernels together
POOLS = ("?", "u2", "u4", "u8")


def wide(dtype: np.dtype, pool: str) -> np.dtype:
    """How a register of `pool` receives a value of `dtype`: of its own size, integers extended by their sign."""
    width = np.dtype(pool).itemsize
    return dtype if dtype.itemsize == width else np.dtype(f"{dtype.kind if dtype.kind in 'iu' else 'u'}{width}")


def immediate(text: str, dtype: np.dtype) -> np.ndarray | None:
    """A literal as a 0-d array of `dtype` (integers modulo its size); None if the text is no literal.

    Floats stand as 0f/0d with their bits in PTX; for a float type an integer literal is the bits of a 16-bit one (0x3C00)."""
    found = _IMMEDIATE.match(text)
    if found is None:
        return None
    sign, digits = found.groups()
    head = digits[:2].lower()
    if head in ("0f", "0d") and len(digits) > 9:
        bits = np.array(int(digits[2:], 16), "u4" if head == "0f" else "u8")
        value = bits.view("f4" if head == "0f" else "f8")
        value = -value if sign else value
        return np.asarray(value.astype(dtype) if dtype.kind == "f" else value.view(dtype) if value.itemsize == dtype.itemsize
                          else bits.astype(f"u{dtype.itemsize}").view(dtype))
    if "." in digits:
        return np.array(float(sign + digits)).astype(dtype)
    number = int(sign + digits, 0 if head in ("0x", "0b") else 8 if digits[0] == "0" and len(digits) > 1 else 10)
    if dtype.kind == "b":
        return np.array(bool(number))
    return np.array(number & ((1 << 8 * dtype.itemsize) - 1), f"u{dtype.itemsize}").view(dtype)


class Bound(NamedTuple):
    """The operands of a batch: what each slot holds, and the arrays of all registers (a row each)."""

    lanes: int
    slots: list
    pools: dict[str, np.ndarray]

    @property
    def nbytes(self) -> int:
        return sum(pool.nbytes for pool in self.pools.values())


class Slots:
    """The positions of all operands of one kernel. `registers`: name -> pool ("?", "u2", "u4", "u8")."""

    _everyone: WeakSet[Slots] = WeakSet()
    _bytes = 0  # of the arrays that all of them keep

    def __init__(self, registers: dict[str, str]) -> None:
        self.rows: dict[str, tuple[str, int]] = {}
        self.counts = dict.fromkeys(POOLS, 0)
        for name, pool in registers.items():
            self.rows[name] = (pool, self.counts[pool])
            self.counts[pool] += 1
        self._known: dict[tuple, int] = {}
        self._read: dict[tuple[str, str], int] = {}
        self._written: dict[tuple[str, str], int] = {}
        self.recipes: list[tuple] = [("frame",)]  # kind and what bind needs; position = slot
        self._kept: dict[int, list[Bound]] = {}    # by lanes
        self._outside: list[int] = []
        Slots._everyone.add(self)

    def add(self, *recipe) -> int:
        slot = self._known.get(recipe)
        if slot is None:
            slot = self._known[recipe] = len(self.recipes)
            self.recipes.append(recipe)
        return slot

    def constant(self, value: np.ndarray) -> int:
        return self.add("constant", value.dtype.char, value.tobytes())

    def source(self, register: str, dtype: np.dtype) -> int:
        """The slot that reads `register` as `dtype`: its low bytes, or all of them."""
        key = register, dtype.char
        slot = self._read.get(key)
        if slot is None:
            slot = self._read[key] = self.add("register", *self.rows[register], dtype.char)
        return slot

    def target(self, register: str, dtype: np.dtype) -> int:
        """The slot that receives a `dtype` result in `register`, extended to its width."""
        key = register, dtype.char
        slot = self._written.get(key)
        if slot is None:
            pool, row = self.rows[register]
            slot = self._written[key] = self.add("register", pool, row, wide(dtype, pool).char)
        return slot

    def width(self, register: str) -> int:
        return np.dtype(self.rows[register][0]).itemsize

    def bind(self, lanes: int, frame: object, outside: Callable[..., object]) -> Bound:
        """The operands for `lanes` threads; `outside(*recipe)` answers what only the launch knows. Give them back with `release`."""
        kept = self._kept.setdefault(lanes, [])
        bound = kept.pop() if kept else None
        if bound is None:
            bound = self._fresh(lanes)
        else:
            Slots._bytes -= bound.nbytes
        for pool in bound.pools.values():
            pool.fill(0)
        bound.slots[FRAME] = frame
        for slot in self._outside:
            bound.slots[slot] = outside(*self.recipes[slot])
        return bound

    def release(self, bound: Bound) -> None:
        """Keeps the arrays for the next launch of as many threads."""
        bound.slots[FRAME] = None
        kept = self._kept.setdefault(bound.lanes, [])
        if kept or bound.nbytes > _KEEP // 16:
            return
        if Slots._bytes + bound.nbytes > _KEEP:
            for slots in list(Slots._everyone):
                slots._kept.clear()
            Slots._bytes, kept = 0, self._kept.setdefault(bound.lanes, [])
        Slots._bytes += bound.nbytes
        kept.append(bound)

    def _fresh(self, lanes: int) -> Bound:
        pools = {pool: np.zeros((count, lanes), pool) for pool, count in self.counts.items() if count}
        out: list = [None]
        for recipe in self.recipes[1:]:
            kind = recipe[0]
            if kind == "register":
                _, pool, row, dtype = recipe
                values = pools[pool][row]
                step = values.itemsize // np.dtype(dtype).itemsize
                out.append(values if values.dtype.char == dtype else values.view(dtype)[::step] if step > 1 else values.view(dtype))
            else:
                out.append(np.frombuffer(recipe[2], recipe[1]).reshape(()) if kind == "constant" else None)
        self._outside = [i for i, recipe in enumerate(self.recipes) if recipe[0] not in ("frame", "register", "constant")]
        return Bound(lanes, out, pools)
