"""Approximate functions of float32 as wrong as the PTX manual lets a GPU's be, on request: div, rcp, rsqrt, sqrt, ex2 of .approx and .full.

Results move by a number of units in the last place that depends on their bits and on a seed, so one operand has one result, as on
hardware.  What tables give exactly stays: powers of two by rcp, rsqrt, sqrt and ex2, and quotients by powers of two.  Place: around the
functions of `arithmetic`.
"""
from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager

import numpy as np

ULPS = {"div": 2, "rcp": 1, "rsqrt": 2, "sqrt": 1, "ex2": 2, "lg2": 2}
_MANTISSA, _SMALL, _LARGE = np.uint32(0x7FFFFF), np.uint32(0x01000000), np.uint32(0x7F000000)
_seed: list[int | None] = [None]


def set_seed(seed: int | None) -> None:
    _seed[0] = seed


@contextmanager
def imprecise(seed: int | None) -> Iterator[None]:
    """Launches inside compute approximate functions with errors drawn by `seed`; None: correctly rounded."""
    before = _seed[0]
    set_seed(seed)
    try:
        yield
    finally:
        set_seed(before)


def _moved(x: np.ndarray, ulps: int, exact: np.ndarray) -> np.ndarray:
    """float32 `x` up to `ulps` units away, but for `exact` ones, and those next to zero, infinity and NaN."""
    u = np.ascontiguousarray(x).view("u4")
    size = u & np.uint32(0x7FFFFFFF)
    h = (u ^ np.uint32(_seed[0] or 0) * np.uint32(0x9E3779B9)) * np.uint32(0x85EBCA6B)
    h = (h ^ h >> np.uint32(15)) * np.uint32(0xC2B2AE35)
    by = ((h >> np.uint32(8)) % np.uint32(2 * ulps + 1)).astype("i4") - np.int32(ulps)
    stays = exact | (size < _SMALL) | (size > _LARGE)
    return (u.view("i4") + np.where(stays, np.int32(0), by)).view("f4")


def approximate(op: str, f: Callable) -> Callable:
    """f, of the name `op`, whose results are off where `imprecise` says so."""
    def run(*operands: np.ndarray) -> np.ndarray:
        r = f(*operands)
        if _seed[0] is None or r.dtype != np.float32 or op not in ULPS:
            return r
        with np.errstate(all="ignore"):
            whole = [np.ascontiguousarray(a).view("u4") & _MANTISSA == 0 for a in (r, operands[-1])]
            return _moved(r, ULPS[op], np.broadcast_to(whole[1] if op == "div" else whole[0], r.shape))
    return run
