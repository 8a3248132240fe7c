"""CRC-32C (Castagnoli, the polynomial 0x1EDC6F41 with bits reflected: RFC 3720), and TensorFlow's masked form of it.

In NumPy: long data are cut into lanes of equal length whose sums advance together, four bytes a step; as a sum is linear
over GF(2), lanes are joined by the matrix that appends zero bytes.  Knows bytes only (rank 0).
"""
from __future__ import annotations

from functools import lru_cache
from typing import Any

import numpy as np

_POLYNOMIAL = 0x82F63B78
_SHORT = 8192  # below this many bytes a plain loop is as fast
_LANE = 1088  # bytes: an odd number of cache lines, so that lanes do not meet in one set of the cache


@lru_cache(1)
def _bytewise() -> list[int]:
    """What one byte adds to the sum."""
    c = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        c = np.where(c & 1, c >> 1 ^ np.uint32(_POLYNOMIAL), c >> 1)
    return c.tolist()


@lru_cache(1)
def _wordwise() -> tuple[np.ndarray, np.ndarray]:
    """What the lower and the upper half of a four-byte word add to the sum."""
    table = np.array(_bytewise(), np.uint32)
    halves = []
    for shift in (0, 16):
        c = np.arange(65536, dtype=np.uint32) << np.uint32(shift)
        for _ in range(4):
            c = table[c & 255] ^ c >> 8
        halves.append(c)
    return halves[0], halves[1]


@lru_cache(64)
def _append_zeros(count: int) -> np.ndarray:
    """What each bit of a sum becomes when `count` zero bytes follow: 32 columns of a matrix over GF(2)."""
    if count == 1:
        table = _bytewise()
        return np.array([table[1 << b & 255] ^ (1 << b) >> 8 for b in range(32)], np.uint32)
    half = _append_zeros(count // 2)
    found = _times(half, half)
    return _times(_append_zeros(1), found) if count % 2 else found


def _times(matrix: np.ndarray, sums: np.ndarray) -> np.ndarray:
    out = np.zeros_like(sums)
    for b in range(32):
        out ^= matrix[b] * (sums >> np.uint32(b) & np.uint32(1))
    return out


@lru_cache(32)
def _join_tables(count: int) -> np.ndarray:
    """What each byte of a sum becomes when `count` zero bytes follow: four tables of 256."""
    numbers = np.arange(256, dtype=np.uint32)
    return np.stack([_times(_append_zeros(count), numbers << np.uint32(8 * k)) for k in range(4)])


def crc32c(data: Any, start: int = 0) -> int:
    """The sum of `data` (bytes or another buffer); `start` is the sum of what stands before it."""
    c = start ^ 0xFFFFFFFF
    view = np.frombuffer(data, np.uint8) if memoryview(data).nbytes else np.zeros(0, np.uint8)
    at = 0
    if view.size >= _SHORT:
        length = _LANE if view.size >= 256 * _LANE else 256
        while lanes := min((view.size - at) // length, 4096):
            c = _lanes(view[at:at + lanes * length].view("<u4").reshape(lanes, -1), c)
            at += lanes * length
    table = _bytewise()
    for byte in view[at:].tobytes():
        c = table[(c ^ byte) & 255] ^ c >> 8
    return c ^ 0xFFFFFFFF


def _lanes(words: np.ndarray, start: int) -> int:
    """The raw sum of the rows of `words`, one after the other."""
    low, high = _wordwise()
    before = (1 << (len(words) - 1).bit_length()) - len(words)  # sums of nothing in front make it a power of two
    sums = np.zeros(before + len(words), np.uint32)
    c = sums[before:]
    c[0] = start
    for column in words.T:
        c ^= column
        c[:] = low[c & 0xFFFF] ^ high[c >> 16]
    length = words.shape[1] * 4
    while len(sums) > 1:
        left, tables = sums[0::2], _join_tables(length)
        sums = tables[0][left & 255] ^ tables[1][left >> 8 & 255] ^ tables[2][left >> 16 & 255] ^ tables[3][left >> 24] ^ sums[1::2]
        length *= 2
    return int(sums[0])


def masked(data: Any, start: int = 0) -> int:
    """The sum in the form that TensorFlow stores beside data."""
    return mask(crc32c(data, start))


def mask(c: int) -> int:
    return ((c >> 15 | c << 17) + 0xA282EAD8) & 0xFFFFFFFF
