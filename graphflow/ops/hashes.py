"""The 64-bit hashes of bytes that TensorFlow's string buckets and tables are made with.  All arithmetic is modulo 2^64.

- `fingerprint64`: FarmHash's Fingerprint64 (G. Pike, 2014).
- `siphash`: SipHash-2-4 (J.-P. Aumasson, D. J. Bernstein, 2012) with a key of two numbers.
- `hash64`: MurmurHash64A (A. Appleby, 2008), with the seed of `tf.string_to_hash_bucket`.
"""
from __future__ import annotations

import struct
from typing import Iterator

M = (1 << 64) - 1
_K0, _K1, _K2 = 0xC3A5C85C97CB3127, 0xB492B66FBE98F273, 0x9AE16A3B2F90404F


def _word(s: bytes, at: int) -> int:
    return int.from_bytes(s[at:at + 8], "little")


def _right(v: int, n: int) -> int:
    """Rotated to the right."""
    return (v >> n | v << 64 - n) & M


def _mixed(v: int) -> int:
    return v ^ v >> 47


def _pair(u: int, v: int, mul: int) -> int:
    """Two words as one."""
    a = _mixed((u ^ v) * mul & M)
    return _mixed((v ^ a) * mul & M) * mul & M


def fingerprint64(s: bytes) -> int:
    """FarmHash's Fingerprint64."""
    n = len(s)
    if n > 64:
        return _long(s, n)
    mul = _K2 + n * 2 & M
    if n > 32:
        return _up_to_64(s, n, mul)
    if n > 16:
        return _up_to_32(s, n, mul)
    if n >= 8:
        a, b = _word(s, 0) + _K2 & M, _word(s, n - 8)
        return _pair(_right(b, 37) * mul + a & M, (_right(a, 25) + b) * mul & M, mul)
    if n >= 4:
        return _pair(n + (int.from_bytes(s[:4], "little") << 3), int.from_bytes(s[n - 4:], "little"), mul)
    if n:
        y, z = s[0] + (s[n >> 1] << 8), n + (s[-1] << 2)
        return _mixed((y * _K2 ^ z * _K0) & M) * _K2 & M
    return _K2


def _up_to_32(s: bytes, n: int, mul: int) -> int:
    a, b, c, d = _word(s, 0) * _K1 & M, _word(s, 8), _word(s, n - 8) * mul & M, _word(s, n - 16) * _K2 & M
    return _pair(_right(a + b & M, 43) + _right(c, 30) + d & M, a + _right(b + _K2 & M, 18) + c & M, mul)


def _up_to_64(s: bytes, n: int, mul: int) -> int:
    a, b, c, d = _word(s, 0) * _K2 & M, _word(s, 8), _word(s, n - 8) * mul & M, _word(s, n - 16) * _K2 & M
    y = _right(a + b & M, 43) + _right(c, 30) + d & M
    z = _pair(y, a + _right(b + _K2 & M, 18) + c & M, mul)
    e, f, g, h = _word(s, 16) * mul & M, _word(s, 24), (y + _word(s, n - 32)) * mul & M, (z + _word(s, n - 24)) * mul & M
    return _pair(_right(e + f & M, 43) + _right(g, 30) + h & M, e + _right(f + a & M, 18) + g & M, mul)


def _long(s: bytes, n: int) -> int:
    x, y = 81, 81 * _K1 + 113 & M
    z = _mixed(y * _K2 + 113 & M) * _K2 & M
    v, w = (0, 0), (0, 0)
    x = x * _K2 + _word(s, 0) & M
    end = (n - 1) // 64 * 64
    for at in range(0, end, 64):
        x, y, z, v, w = _block(s, at, x, y, z, v, w, _K1, 1)
    mul = _K1 + ((z & 0xFF) << 1) & M
    last = w[0] + (n - 1 & 63)
    first = v[0] + last
    x, y, z, v, w = _block(s, n - 64, x, y, z, (first & M, v[1]), (last + first & M, w[1]), mul, 9)
    return _pair(_pair(v[0], w[0], mul) + _mixed(y) * _K0 + z & M, _pair(v[1], w[1], mul) + x & M, mul)


def _block(s: bytes, at: int, x: int, y: int, z: int, v: tuple[int, int], w: tuple[int, int], mul: int, times: int) -> tuple:
    """64 bytes more."""
    x = _right(x + y + v[0] + _word(s, at + 8) & M, 37) * mul & M
    y = _right(y + v[1] + _word(s, at + 48) & M, 42) * mul & M
    x ^= w[1] * times & M
    y = y + v[0] * times + _word(s, at + 40) & M
    z = _right(z + w[0] & M, 33) * mul & M
    v, w = _weak(s, at, v[1] * mul & M, x + w[0] & M), _weak(s, at + 32, z + w[1] & M, y + _word(s, at + 16) & M)
    return z, y, x, v, w


def _weak(s: bytes, at: int, a: int, b: int) -> tuple[int, int]:
    p, q, r, t = struct.unpack_from("<4Q", s, at)
    a += p
    b = _right(b + a + t & M, 21)
    c = a + q + r & M
    return c + t & M, b + _right(c, 44) + a & M


def siphash(s: bytes, key: tuple[int, int]) -> int:
    """SipHash-2-4."""
    k0, k1 = (k & M for k in key)
    v = [0x736F6D6570736575 ^ k0, 0x646F72616E646F6D ^ k1, 0x6C7967656E657261 ^ k0, 0x7465646279746573 ^ k1]
    for m in _words(s):
        v[3] ^= m
        _sip(v, 2)
        v[0] ^= m
    v[2] ^= 0xFF
    _sip(v, 4)
    return v[0] ^ v[1] ^ v[2] ^ v[3]


def _words(s: bytes) -> Iterator[int]:
    """The words of a message, the last one with the length in its highest byte."""
    whole = len(s) & ~7
    yield from struct.unpack_from(f"<{whole >> 3}Q", s)
    yield int.from_bytes(s[whole:], "little") | (len(s) & 0xFF) << 56


def _left(v: int, n: int) -> int:
    return (v << n | v >> 64 - n) & M


def _sip(v: list[int], rounds: int) -> None:
    a, b, c, d = v
    for _ in range(rounds):
        a, c = a + b & M, c + d & M
        b, d = _left(b, 13) ^ a, _left(d, 16) ^ c
        a = _left(a, 32)
        c, a = c + b & M, a + d & M
        b, d = _left(b, 17) ^ c, _left(d, 21) ^ a
        c = _left(c, 32)
    v[:] = a, b, c, d


def hash64(s: bytes, seed: int = 0xDECAFCAFFE) -> int:
    """MurmurHash64A."""
    m, whole = 0xC6A4A7935BD1E995, len(s) & ~7
    h = seed ^ len(s) * m & M
    for k in struct.unpack_from(f"<{whole >> 3}Q", s):
        k = _mixed(k * m & M) * m & M
        h = (h ^ k) * m & M
    if whole < len(s):
        h = (h ^ int.from_bytes(s[whole:], "little")) * m & M
    return _mixed(_mixed(h) * m & M)
