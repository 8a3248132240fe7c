"""Floating-point arithmetic rounded once, in every PTX type and direction, on NumPy arrays.

float16 and bfloat16 results come from float32 or float64 steps wide enough that rounding twice changes nothing; where it could, the
first step rounds to odd (an inexact result keeps an odd last bit, so that the second rounding sees it). bfloat16 travels as uint16.
The approximate functions of a GPU (ex2, lg2, sin, cos, tanh, rcp, rsqrt, sqrt, div .approx) give the correctly rounded value here.
"""
from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .fused import fma

TINY = np.float32(2.0 ** -126)
DIRECTIONS = {"rz": "rz", "rm": "rm", "rp": "rp", "rzi": "rz", "rmi": "rm", "rpi": "rp"}


def from_bf16(bits: np.ndarray) -> np.ndarray:
    return (np.asarray(bits, "u4") << np.uint32(16)).view("f4")


def to_bf16(x: np.ndarray, mode: str = "rn") -> np.ndarray:
    """float32 -> bfloat16 bits; NaN becomes 0x7fff as on the device."""
    bits = np.ascontiguousarray(x, "f4").view("u4")
    bias = (bits >> np.uint32(16) & np.uint32(1)) + np.uint32(0x7FFF) if mode == "rn" else np.uint32(0)
    out = (bits + bias >> np.uint32(16)).astype("u2")
    return np.where(np.isnan(x), np.uint16(0x7FFF), out)


def flush(x: np.ndarray) -> np.ndarray:
    """Subnormal float32 values become zeros of their sign (.ftz)."""
    if x.dtype != np.float32:
        return x
    small = np.abs(x) < TINY
    return np.where(small, np.copysign(np.float32(0), x), x) if small.any() else x


def odd32(x: np.ndarray) -> np.ndarray:
    """float64 -> float32, rounded to odd."""
    y = np.asarray(x, "f8").astype("f4")
    back = y.astype("f8")
    step = (back != x) & ((y.view("u4") & np.uint32(1)) == 0) & np.isfinite(x)
    return np.where(step, np.nextafter(y, np.where(back < x, np.float32(np.inf), np.float32(-np.inf))), y)


def exact_sum(a: np.ndarray, b: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """a + b in float64 and its rounding error, exactly."""
    s = a + b
    t = s - a
    return s, (a - (s - t)) + (b - t)


def odd_sum(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """a + b in float64 rounded to odd."""
    s, e = exact_sum(a, b)
    even = (np.asarray(s).view("i8") & 1) == 0
    return np.where((e != 0) & even & np.isfinite(s), np.nextafter(s, np.where(e > 0, np.inf, -np.inf)), s)


def directed(nearest: np.ndarray, below: np.ndarray, above: np.ndarray, mode: str) -> np.ndarray:
    """The neighbour of `nearest` that `mode` asks for. below: nearest < exact value; above: nearest > exact."""
    inf = np.array(np.inf, nearest.dtype)
    if mode == "rz":
        above, below = above & (nearest > 0), below & (nearest < 0)
    down, up = (above, None) if mode == "rm" else (None, below) if mode == "rp" else (above, below)
    out = nearest
    if down is not None:
        out = np.where(down, np.nextafter(nearest, -inf), out)
    return out if up is None else np.where(up, np.nextafter(nearest, inf), out)


def narrow(x: np.ndarray, dtype: str, mode: str = "rn") -> np.ndarray:
    """Exact (or rounded-to-odd) float64 values as dtype "f4", "f2" or "bf16", in direction `mode`; rna: ties away (tf32 and f4)."""
    x = np.asarray(x, "f8")
    if dtype == "bf16":
        y = odd32(x)
        if mode == "rn":
            return to_bf16(y)
        cut = to_bf16(y, "rz")
        if mode == "rz":
            return cut
        raise ValueError(mode)
    y = x.astype(dtype)
    if mode == "rn":
        return y
    back = y.astype("f8")
    return directed(y, back < x, back > x, mode)


def _directed64(op: str, mode: str) -> Callable:
    def run(a, b, c=None):
        if op == "mul":
            r, rest = a * b, None
            rest = fma()(a, b, -r)
        elif op == "fma":
            r = fma()(a, b, c)
            p = a * b
            s, e = exact_sum(p, c)
            rest = (s - r) + (e + fma()(a, b, -p))
        elif op == "div":
            r = a / b
            rest = fma()(-r, b, a) * np.sign(b)
        else:
            r, rest = exact_sum(a, b)
        rest = np.where(np.isfinite(r), rest, 0)
        return directed(r, rest > 0, rest < 0, mode)
    return run


def _directed32(op: str, mode: str) -> Callable:
    def run(a, b, c=None):
        a, b = a.astype("f8"), b.astype("f8")
        if op == "div":  # the quotient in float64 may itself be rounded: its rest says which way
            q = a / b
            rest = fma()(-q, b, a) * np.sign(b)
            return narrow(np.where((rest == 0) | ~np.isfinite(q), q, np.nextafter(q, np.where(rest > 0, np.inf, -np.inf))), "f4", mode)
        return narrow(odd_sum(a, b) if op == "add" else a * b if op == "mul" else odd_sum(a * b, c.astype("f8")), "f4", mode)
    return run


def arithmetic(op: str, dtype: str, mode: str) -> tuple[Callable, bool]:
    """op ("add", "sub", "mul", "div", "fma") on "f2", "bf16", "f4", "f8" in direction `mode`: the function, and whether it is a ufunc
    that computes in that type."""
    plain = {"add": np.add, "sub": np.subtract, "mul": np.multiply, "div": np.divide}
    if mode != "rn":
        if dtype not in ("f4", "f8"):
            raise ValueError(mode)
        make = _directed32 if dtype == "f4" else _directed64
        if op == "sub":
            add = make("add", mode)
            return (lambda a, b: add(a, -b)), False
        return make(op, mode), False
    if dtype in ("f4", "f8"):
        return (fma(), True) if op == "fma" else (plain[op], True)
    if dtype == "f2":
        if op != "fma":
            return plain[op], True
        return lambda a, b, c: narrow(odd_sum(a.astype("f8") * b.astype("f8"), c.astype("f8")), "f2"), False
    if op == "fma":
        def fused(a, b, c):
            x, y, z = (from_bf16(v).astype("f8") for v in (a, b, c))
            return narrow(odd_sum(x * y, z), "bf16")
        return fused, False
    return (lambda a, b: to_bf16(plain[op](from_bf16(a), from_bf16(b)))), False


def through(f: Callable, dtype: str) -> Callable:
    """A unary float64 function on "f4", "f8", "f2" or "bf16" values, rounded to the type."""
    if dtype == "f8":
        return f
    if dtype == "bf16":
        return lambda x: narrow(f(from_bf16(x).astype("f8")), "bf16")
    return lambda x: f(np.asarray(x, "f8")).astype(dtype)


def smaller(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """min of PTX: a number before NaN, -0 before +0."""
    r = np.fmin(a, b)
    return np.where((a == 0) & (b == 0), np.where(np.signbit(a), a, b), r) if not np.all(r) else r


def larger(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    r = np.fmax(a, b)
    return np.where((a == 0) & (b == 0), np.where(np.signbit(a), b, a), r) if not np.all(r) else r


def spreading(pick: Callable, fill: float = np.nan) -> Callable:
    """min or max with .NaN: NaN if one operand is."""
    return lambda a, b: np.where(np.isnan(a) | np.isnan(b), np.array(fill, a.dtype), pick(a, b))
