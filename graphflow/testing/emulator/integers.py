"""Integer and bit instructions on NumPy arrays: the cases where PTX and NumPy differ, written out.

Place: `arithmetic` names these functions in its table. Arrays of unsigned or signed integers in, the same type out unless said.
"""
from __future__ import annotations

import numpy as np

REVERSED = np.array([int(f"{i:08b}"[::-1], 2) for i in range(256)], "u1")


def divide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Quotient cut towards zero; division by zero gives all ones, as the hardware does (PTX leaves it open)."""
    ones = np.array(-1).astype(a.dtype)
    if a.dtype.kind == "u":
        q = a // np.where(b == 0, ones, b)
    else:
        u = f"u{a.dtype.itemsize}"
        x, y = np.abs(a).view(u), np.abs(b).view(u)  # |INT_MIN| keeps its bits: right as unsigned
        q = (x // np.where(y == 0, np.array(1, u), y)).view(a.dtype)
        q = np.where((a < 0) != (b < 0), -q, q)
    return np.where(b == 0, ones, q)


def remainder(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a - divide(a, b)*b: the sign of a; a itself for b = 0."""
    zero = b == 0
    r = np.fmod(a, np.where(zero, np.array(1, b.dtype), b))
    return np.where(zero, a, r)


def widened(dtype: np.dtype) -> np.dtype:
    return np.dtype(f"{dtype.kind}{2 * dtype.itemsize}")


def multiply_wide(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    w = widened(a.dtype)
    return np.multiply(a, b, dtype=w)


def multiply_high(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """The upper half of the product."""
    size = 8 * a.dtype.itemsize
    if size < 64:
        w = widened(a.dtype)
        return (np.multiply(a, b, dtype=w) >> np.array(size, w)).astype(a.dtype)
    x, y, low, half = a.view("u8"), b.view("u8"), np.uint64(0xFFFFFFFF), np.uint64(32)
    x0, x1, y0, y1 = x & low, x >> half, y & low, y >> half
    middle = x1 * y0 + (x0 * y0 >> half)
    other = x0 * y1 + (middle & low)
    high = x1 * y1 + (middle >> half) + (other >> half)
    if a.dtype.kind == "i":
        high = high - np.where(a < 0, y, np.uint64(0)) - np.where(b < 0, x, np.uint64(0))
    return high.view(a.dtype)


def add_carry(x: np.ndarray, y: np.ndarray, carry: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """x + y + carry of unsigned integers, and the carry out."""
    s = x + y + carry
    return s, (s < x) | carry & (s == x)


def subtract_borrow(x: np.ndarray, y: np.ndarray, borrow: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    return x - y - borrow, (x < y) | borrow & (x == y)


def leading_zeros(x: np.ndarray) -> np.ndarray:
    """clz as uint32; the width for zero."""
    if x.dtype.itemsize == 4:
        return (32 - np.frexp(x.astype("f8"))[1]).astype("u4")
    high, low = (x >> np.uint64(32)).astype("u4"), x.astype("u4")
    return np.where(high != 0, leading_zeros(high), np.uint32(32) + leading_zeros(low))


def find_top(x: np.ndarray, shift: bool) -> np.ndarray:
    """bfind: the position of the highest bit that differs from the sign (uint32; all ones if none); shift: counted from the top."""
    width = 8 * x.dtype.itemsize
    u = x.view(f"u{x.dtype.itemsize}")
    u = np.where(x < 0, ~u, u) if x.dtype.kind == "i" else u
    lead = leading_zeros(u)
    return np.where(u == 0, np.uint32(0xFFFFFFFF), lead if shift else np.uint32(width - 1) - lead)


def reverse_bits(x: np.ndarray) -> np.ndarray:
    n = x.dtype.itemsize
    raw = np.ascontiguousarray(x).view("u1").reshape(-1, n)
    return np.ascontiguousarray(REVERSED[raw[:, ::-1]]).view(x.dtype).reshape(np.shape(x))


def _masks(count: np.ndarray, u: np.dtype) -> np.ndarray:
    """The lowest `count` bits set (count up to the width)."""
    return np.where(count >= 8 * u.itemsize, ~u.type(0), (u.type(1) << np.minimum(count, 63).astype(u)) - u.type(1))


def extract(a: np.ndarray, position: np.ndarray, length: np.ndarray) -> np.ndarray:
    """bfe: `length` bits from `position` (both taken modulo 256), extended by the field's top bit for signed types."""
    u, width = np.dtype(f"u{a.dtype.itemsize}"), 8 * a.dtype.itemsize
    position, length = position & np.uint32(255), length & np.uint32(255)
    x, mask = a.view(u), _masks(length, u)
    field = (x >> np.minimum(position, 255).astype(u)) & mask
    if a.dtype.kind == "u":
        return field
    top = np.minimum(position + length - np.uint32(1), np.uint32(width - 1))
    sign = ((x >> top.astype(u)) & u.type(1)).astype(bool) & (length != 0)
    kept = _masks(np.minimum(length, np.maximum(np.int64(width) - position, 0)), u)
    return np.where(sign, field & kept | ~kept, field & kept).view(a.dtype)


def insert(a: np.ndarray, b: np.ndarray, position: np.ndarray, length: np.ndarray) -> np.ndarray:
    """bfi: the low `length` bits of a put into b at `position`."""
    u = a.dtype
    position, length = position & np.uint32(255), length & np.uint32(255)
    mask = _masks(length, u) << position.astype(u)
    return (a << position.astype(u)) & mask | b & ~mask


def sign_extend(a: np.ndarray, count: np.ndarray, wrap: bool) -> np.ndarray:
    """szext: the low `count` bits, extended by sign or zeros."""
    u = np.dtype("u4")
    count = count & np.uint32(31) if wrap else np.minimum(count, np.uint32(32))
    mask = _masks(count, u)
    low = a.view(u) & mask
    if a.dtype.kind == "u":
        return low
    sign = (low >> np.maximum(count.astype("i8") - 1, 0).astype(u)) & np.uint32(1)
    return np.where((sign == 1) & (count > 0), low | ~mask, low).view("i4")


def funnel(low: np.ndarray, high: np.ndarray, count: np.ndarray, left: bool, wrap: bool) -> np.ndarray:
    """shf: the 64-bit value high:low shifted, its upper (left) or lower (right) word."""
    n = (count & np.uint32(31) if wrap else np.minimum(count, np.uint32(32))).astype("u8")
    both = high.astype("u8") << np.uint64(32) | low
    return ((both << n) >> np.uint64(32) if left else both >> n).astype("u4")


def permute(a: np.ndarray, b: np.ndarray, selector: np.ndarray) -> np.ndarray:
    """prmt: each byte picked from the eight of b:a by a nibble; the nibble's top bit spreads the byte's sign."""
    both, out = b.astype("u8") << np.uint64(32) | a, np.zeros((), "u4")
    for i in range(4):
        nibble = selector >> np.uint32(4 * i)
        byte = (both >> ((nibble & np.uint32(7)).astype("u8") * np.uint64(8))).astype("u4") & np.uint32(255)
        spread = np.where(byte & np.uint32(128), np.uint32(255), np.uint32(0))
        out = out | np.where(nibble & np.uint32(8), spread, byte) << np.uint32(8 * i)
    return out


def permute_mode(a: np.ndarray, b: np.ndarray, selector: np.ndarray, mode: str) -> np.ndarray:
    """prmt with a mode: the selector's two low bits choose a pattern of nibbles."""
    patterns = {"f4e": (0x3210, 0x4321, 0x5432, 0x6543), "b4e": (0x5670, 0x6701, 0x7012, 0x0123), "rc8": (0, 0x1111, 0x2222, 0x3333),
                "ecl": (0x3210, 0x3211, 0x3222, 0x3333), "ecr": (0, 0x1110, 0x2210, 0x3210), "rc16": (0x1010, 0x3232, 0x1010, 0x3232)}
    return permute(a, b, np.array(patterns[mode], "u4")[selector & np.uint32(3)])


def logic3(a: np.ndarray, b: np.ndarray, c: np.ndarray, table: int) -> np.ndarray:
    """lop3: any function of three bits, by its table of eight."""
    out = np.zeros_like(a)
    for i in range(8):
        if table >> i & 1:
            out = out | (a if i & 4 else ~a) & (b if i & 2 else ~b) & (c if i & 1 else ~c)
    return out


def dot_bytes(a: np.ndarray, b: np.ndarray, c: np.ndarray, signs: tuple[bool, bool]) -> np.ndarray:
    """dp4a: c plus the sum of the four byte products."""
    def parts(x, signed):
        return np.ascontiguousarray(np.atleast_1d(x)).view("i1" if signed else "u1").reshape(-1, 4).astype("i8")
    total = (parts(a, signs[0]) * parts(b, signs[1])).sum(1)
    return (total + c.astype("i8")).astype(c.dtype)


def absolute_difference(a: np.ndarray, b: np.ndarray, c: np.ndarray) -> np.ndarray:
    """sad: c + |a - b|."""
    return c + np.where(a < b, b - a, a - b)
