"""CRC-32C (Castagnoli), and TFRecord's masked form of it, by tables; NumPy runs many lanes at once.

A CRC without its first and last inversion is linear: leading zeros change nothing, and the CRC of a + b is that of a, moved over
len(b) zeros, xor that of b.  So bytes are cut into lanes of equal length that go forward together, and lanes are joined in pairs.
(Koopman and Chakravarty 2004; the reflected polynomial is 0x82F63B78.)
"""
from __future__ import annotations

import struct
from functools import cache
from typing import Any

import numpy as np

_POLYNOMIAL, _ONES = 0x82F63B78, 0xFFFFFFFF


@cache
def _tables() -> tuple[np.ndarray, np.ndarray]:
    """(LOW, HIGH): a state after four zero bytes is LOW[state & 0xFFFF] ^ HIGH[state >> 16]."""
    one: Any = np.arange(256, dtype=np.uint32)
    for _ in range(8):
        one = (one >> 1) ^ np.where(one & 1, np.uint32(_POLYNOMIAL), np.uint32(0))
    zeros = [one]  # a byte, and then 0 .. 3 zero bytes
    for _ in range(3):
        zeros.append((zeros[-1] >> 8) ^ one[zeros[-1] & 255])
    both = [(after[:, None] ^ last[None, :]).reshape(-1) for after, last in ((zeros[2], zeros[3]), (zeros[0], zeros[1]))]
    return both[0], both[1]


@cache
def _lists() -> tuple[list[int], list[int], list[int]]:
    """The tables for one number at a time, and that of a single byte."""
    low, high = _tables()
    return low.tolist(), high.tolist(), high[np.arange(256) << 8].tolist()


_LANE = 1088  # bytes: an odd number of cache lines, so that lanes do not meet in one set of the cache


def crc32c(data: Any, start: int = 0) -> int:
    """The CRC-32C of bytes; `start` is that of what stands before them."""
    low, high, single = _lists()
    state, view = start ^ _ONES, memoryview(data).cast("B") if not isinstance(data, bytes) else data
    if len(view) > 1 << 16:
        state, done = _long(np.frombuffer(view, np.uint8), state)
        view = memoryview(view)[done:]
    elif len(view) > 4096:
        found = crc32c_many(np.frombuffer(view, np.uint8), np.zeros(1, np.int64), np.array([len(view)]))[0]
        return _after(start, len(view)) ^ int(found)
    words = len(view) >> 2
    for word in struct.unpack_from(f"<{words}I", view):
        state ^= word
        state = low[state & 0xFFFF] ^ high[state >> 16]
    for byte in view[words << 2:]:
        state = (state >> 8) ^ single[(state ^ byte) & 255]
    return state ^ _ONES


def _long(array: np.ndarray, state: int) -> tuple[int, int]:
    """(the state, how many bytes) after all whole lanes of `array`."""
    low, high = _tables()
    at = 0
    while lanes := min((array.size - at) // _LANE, 4096):
        before = (1 << (lanes - 1).bit_length()) - lanes  # lanes of nothing in front make their number a power of two
        states = np.zeros(before + lanes, np.uint32)
        mine = states[before:]
        mine[0] = state
        for column in array[at:at + lanes * _LANE].view("<u4").reshape(lanes, -1).T:
            mine ^= column
            mine[:] = low[mine & 0xFFFF] ^ high[mine >> 16]
        distance = _LANE
        while len(states) > 1:
            states = _moved(states[0::2], distance) ^ states[1::2]
            distance *= 2
        state, at = int(states[0]), at + lanes * _LANE
    return state, at


def _after(state: int, zeros: int) -> int:
    """A state after so many zero bytes."""
    if state == 0:
        return 0
    for _ in range(zeros & 3):
        state = (state >> 8) ^ _lists()[2][state & 255]
    return int(_moved(np.array([state], np.uint32), zeros & ~3)[0]) if zeros > 3 else state


def masked(crc: Any) -> Any:
    """TFRecord's form of a CRC: rotated by 15 bits, and a constant added.  An int, or an array of uint32."""
    if isinstance(crc, np.ndarray):
        return ((crc >> 15) | (crc << 17)) + np.uint32(0xA282EAD8)
    return (((crc >> 15) | (crc << 17)) + 0xA282EAD8) & _ONES


def crc32c_many(data: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """The CRC-32C of many ranges of an array of uint8, as uint32."""
    out = np.empty(len(starts), np.uint32)
    sizes = np.frexp(lengths)[1]  # ranges of about the same length go together
    sizes[lengths < 4] = 0
    for size in np.unique(sizes):
        which = np.flatnonzero(sizes == size)
        if size == 0:
            out[which] = [crc32c(data[s:s + n].tobytes()) for s, n in zip(starts[which].tolist(), lengths[which].tolist())]
        else:
            block = max(1, (1 << 22) >> int(size)) if size < 13 else 1  # a few MB at a time
            for i in range(0, len(which), block):
                some = which[i:i + block]
                out[some] = _alike(data, starts[some], lengths[some])
    return out


def _alike(data: np.ndarray, starts: np.ndarray, lengths: np.ndarray) -> np.ndarray:
    """CRCs of ranges of 4 bytes or more, with zeros before the shorter ones."""
    longest = int(lengths.max())
    lanes = 1  # few steps of many lanes, until the lanes fill the cache
    while longest > 64 * lanes and lanes * len(starts) < 1 << 13 or longest > 128 * lanes:
        lanes *= 2
    words = -(-longest // (4 * lanes))
    width = 4 * lanes * words
    rows = np.zeros((len(starts), width), np.uint8)
    if len(starts) == 1:
        rows[0, width - longest:] = data[starts[0]:starts[0] + longest]
    else:
        place = np.arange(-longest, 0)
        ends = starts + lengths
        at = ends[:, None] + place
        inside = place >= -lengths[:, None]
        rows[:, width - longest:] = np.where(inside, data[np.where(inside, at, 0)], 0)
    first = (width - lengths)[:, None] + np.arange(4)
    rows[np.arange(len(starts))[:, None], first] ^= 255  # the inversion at the beginning
    lane = np.ascontiguousarray(rows.view("<u4").reshape(-1, words).T)
    low, high = _tables()
    state = np.zeros(lane.shape[1], np.uint32)
    for column in lane:
        state ^= column
        state = low[state & 0xFFFF] ^ high[state >> 16]
    state, distance = state.reshape(len(starts), lanes), 4 * words  # type: ignore[assignment]
    while state.shape[1] > 1:
        state = _moved(state[:, ::2], distance) ^ state[:, 1::2]
        distance *= 2
    return state[:, 0] ^ np.uint32(_ONES)


def _moved(state: np.ndarray, zeros: int) -> np.ndarray:
    """States after so many zero bytes."""
    tables = _move_tables(zeros)
    return tables[0][state & 255] ^ tables[1][state >> 8 & 255] ^ tables[2][state >> 16 & 255] ^ tables[3][state >> 24]


@cache
def _move_tables(zeros: int) -> Any:
    """What `zeros` zero bytes make of each byte of a state: [4, 256] of uint32."""
    table: Any = np.arange(256, dtype=np.uint32)[None, :] << (8 * np.arange(4, dtype=np.uint32))[:, None]
    if zeros == 4:
        low, high = _tables()
        return low[table & 0xFFFF] ^ high[table >> 16]
    if zeros % 8 == 0:
        return _moved(_moved(table, zeros // 2), zeros // 2)
    return _moved(_moved(table, 4), zeros - 4)
