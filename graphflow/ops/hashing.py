"""Hashes of byte strings that do not depend on process or machine: FarmHash's Fingerprint64, SipHash-2-4, Murmur-like Hash64 (rank 3).

The bucket of an unknown word is part of a trained model, so these are the functions that TensorFlow's ops use, bit for bit.
"""
from __future__ import annotations

import struct
from functools import lru_cache
from typing import Callable, Sequence

_M = (1 << 64) - 1
_K0, _K1, _K2 = 0xC3A5C85C97CB3127, 0xB492B66FBE98F273, 0x9AE16A3B2F90404F


def _at(s: bytes, i: int) -> int:
    return int.from_bytes(s[i:i + 8], "little")


def _turn(v: int, by: int) -> int:
    """The 64-bit word rotated to the right."""
    return (v >> by | v << 64 - by) & _M


def _mix(v: int) -> int:
    return v ^ v >> 47


def _both(u: int, v: int, mul: int) -> int:
    a = _mix((u ^ v) * mul & _M)
    return _mix((v ^ a) * mul & _M) * mul & _M


@lru_cache(1 << 16)  # words come again
def fingerprint64(s: bytes) -> int:
    """FarmHash's 64-bit fingerprint (farmhashna::Hash64), as an unsigned integer."""
    n = len(s)
    if n <= 16:
        return _up_to_16(s, n)
    mul = _K2 + n * 2 & _M
    if n <= 32:
        a, b = _at(s, 0) * _K1 & _M, _at(s, 8)
        c, d = _at(s, n - 8) * mul & _M, _at(s, n - 16) * _K2 & _M
        return _both(_turn(a + b & _M, 43) + _turn(c, 30) + d & _M, a + _turn(b + _K2 & _M, 18) + c & _M, mul)
    return _up_to_64(s, n, mul) if n <= 64 else _long(s, n)


def _up_to_16(s: bytes, n: int) -> int:
    mul = _K2 + n * 2 & _M
    if n >= 8:
        a, b = _at(s, 0) + _K2 & _M, _at(s, n - 8)
        return _both(_turn(b, 37) * mul + a & _M, (_turn(a, 25) + b) * mul & _M, mul)
    if n >= 4:
        first, last = struct.unpack_from("<I", s)[0], struct.unpack_from("<I", s, n - 4)[0]
        return _both(n + (first << 3) & _M, last, mul)
    if n == 0:
        return _K2
    return _mix((s[0] + (s[n >> 1] << 8)) * _K2 & _M ^ (n + (s[-1] << 2)) * _K0 & _M) * _K2 & _M


def _up_to_64(s: bytes, n: int, mul: int) -> int:
    a, b = _at(s, 0) * _K2 & _M, _at(s, 8)
    c, d = _at(s, n - 8) * mul & _M, _at(s, n - 16) * _K2 & _M
    y = _turn(a + b & _M, 43) + _turn(c, 30) + d & _M
    z = _both(y, a + _turn(b + _K2 & _M, 18) + c & _M, mul)
    e, f = _at(s, 16) * mul & _M, _at(s, 24)
    g, h = (y + _at(s, n - 32)) * mul & _M, (z + _at(s, n - 24)) * mul & _M
    return _both(_turn(e + f & _M, 43) + _turn(g, 30) + h & _M, e + _turn(f + a & _M, 18) + g & _M, mul)


def _weak(s: bytes, i: int, a: int, b: int) -> tuple[int, int]:
    w, x, y, z = struct.unpack_from("<4Q", s, i)
    a = a + w & _M
    b = _turn(b + a + z & _M, 21)
    c = a
    a = a + x + y & _M
    return a + z & _M, b + _turn(a, 44) + c & _M


def _long(s: bytes, n: int) -> int:
    x = 81 * _K2 + _at(s, 0) & _M
    y = 81 * _K1 + 113 & _M
    z = _mix(y * _K2 + 113 & _M) * _K2 & _M
    v, w = (0, 0), (0, 0)

    def turn(i: int, mul: int, nine: int) -> None:
        nonlocal x, y, z, v, w
        x = _turn(x + y + v[0] + _at(s, i + 8) & _M, 37) * mul & _M
        y = _turn(y + v[1] + _at(s, i + 48) & _M, 42) * mul & _M
        x ^= w[1] * nine & _M
        y = y + v[0] * nine + _at(s, i + 40) & _M
        z = _turn(z + w[0] & _M, 33) * mul & _M
        v = _weak(s, i, v[1] * mul & _M, x + w[0] & _M)
        w = _weak(s, i + 32, z + w[1] & _M, y + _at(s, i + 16) & _M)
        x, z = z, x

    for i in range((n - 1) // 64):
        turn(i * 64, _K1, 1)
    mul = _K1 + ((z & 0xFF) << 1) & _M
    w = w[0] + (n - 1 & 63) & _M, w[1]
    v = v[0] + w[0] & _M, v[1]
    w = w[0] + v[0] & _M, w[1]
    turn(n - 64, mul, 9)
    return _both(_both(v[0], w[0], mul) + _mix(y) * _K0 + z & _M, _both(v[1], w[1], mul) + x & _M, mul)


def siphash(key: Sequence[int], s: bytes) -> int:
    """SipHash-2-4 with a key of two unsigned 64-bit integers (Aumasson and Bernstein, 2012)."""
    k0, k1 = key[0] & _M, key[1] & _M
    v0, v1, v2, v3 = 0x736F6D6570736575 ^ k0, 0x646F72616E646F6D ^ k1, 0x6C7967656E657261 ^ k0, 0x7465646279746573 ^ k1

    def left(v: int, by: int) -> int:
        return (v << by | v >> 64 - by) & _M

    def rounds(count: int) -> None:
        nonlocal v0, v1, v2, v3
        for _ in range(count):
            v0, v2 = v0 + v1 & _M, v2 + v3 & _M
            v1, v3 = left(v1, 13) ^ v0, left(v3, 16) ^ v2
            v0 = left(v0, 32)
            v2, v0 = v2 + v1 & _M, v0 + v3 & _M
            v1, v3 = left(v1, 17) ^ v2, left(v3, 21) ^ v0
            v2 = left(v2, 32)

    whole = len(s) & ~7
    for i in range(0, whole, 8):
        word = _at(s, i)
        v3 ^= word
        rounds(2)
        v0 ^= word
    last = _at(s, whole) | (len(s) & 0xFF) << 56
    v3 ^= last
    rounds(2)
    v0 ^= last
    v2 ^= 0xFF
    rounds(4)
    return v0 ^ v1 ^ v2 ^ v3


def hash64(s: bytes, seed: int = 0xDECAFCAFFE) -> int:
    """MurmurHash64A, with the seed of TensorFlow's older ops."""
    mul, n = 0xC6A4A7935BD1E995, len(s)
    h = seed ^ n * mul & _M
    for i in range(0, n & ~7, 8):
        k = _at(s, i) * mul & _M
        h = (h ^ (k ^ k >> 47) * mul & _M) * mul & _M
    if n & 7:
        h = (h ^ _at(s, n & ~7)) * mul & _M
    h = (h ^ h >> 47) * mul & _M
    return h ^ h >> 47


HASHES: dict[str, Callable[..., int]] = {"fasthash": lambda s, key: fingerprint64(s), "stronghash": lambda s, key: siphash(key, s),
                                         "legacy": lambda s, key: hash64(s)}
