"""cvt: every conversion between integers, float16, bfloat16, float32 and float64, with its rounding, saturation and flushing."""
from __future__ import annotations

from collections.abc import Callable

import numpy as np

from . import rounding as F
from .values import DTYPES

_FLOAT = {"f16": "f2", "bf16": "bf16", "f32": "f4", "f64": "f8"}
_WHOLE = {"rni": np.rint, "rzi": np.trunc, "rmi": np.floor, "rpi": np.ceil}
_ROUND = ("rn", "rz", "rm", "rp", "rna", *_WHOLE)


def conversion(mods: tuple[str, ...]) -> tuple[Callable, tuple[np.dtype, ...], np.dtype, bool]:
    """(function, operand dtypes, result dtype, ufunc) of cvt.<mods>. Raises KeyError naming what is unknown."""
    if len(mods) < 2:
        raise KeyError("two types are needed")
    to, source, rest = mods[-2], mods[-1], mods[:-2]
    for m in rest:
        if m not in (*_ROUND, "ftz", "sat", "relu", "satfinite"):
            raise KeyError(f"modifier {m}")
    mode = next((m for m in rest if m in _ROUND), "rn")
    flags = set(rest)
    if to in ("f16x2", "bf16x2") and source == "f32":
        return _pack(to, mode, flags), (DTYPES["f32"],) * 2, DTYPES["b32"], False
    if to == "tf32" and source == "f32":
        return _tf32(mode, flags), (DTYPES["f32"],), DTYPES["b32"], False
    if to not in DTYPES or source not in DTYPES or {to, source} & {"pred", "tf32", "f16x2", "bf16x2"}:
        raise KeyError(f"from {source} to {to}")
    d, s = DTYPES[to], DTYPES[source]
    if source in _FLOAT:
        f = _to_float(to, source, mode, flags) if to in _FLOAT else _to_integer(d, source, mode, flags)
    elif to in _FLOAT:
        f = _from_integer(to, s, mode, flags)
    else:
        f = _saturate(d, s) if "sat" in flags else lambda x: x.astype(d)
    return f, (s,), d, False


def _read(source: str) -> Callable:
    return F.from_bf16 if source == "bf16" else lambda x: x


def _to_integer(d: np.dtype, source: str, mode: str, flags: set[str]) -> Callable:
    """Saturating to the integer's range, NaN to 0."""
    if mode not in _WHOLE:
        raise KeyError(f"rounding {mode} to an integer")
    whole, read, info = _WHOLE[mode], _read(source), np.iinfo(d)
    top = float(info.max) + (d.itemsize < 8)  # 2**n for 64 bits (not representable minus one), else max + 1
    def run(x):
        y = read(x)
        y = whole((F.flush(y) if "ftz" in flags else y).astype("f8"))
        inside = np.where((y >= info.min) & (y < top), y, 0).astype(d)
        return np.where(y >= top, info.max, np.where(y < info.min, info.min, inside)).astype(d)
    return run


def _from_integer(to: str, s: np.dtype, mode: str, flags: set[str]) -> Callable:
    if mode not in ("rn", "rz", "rm", "rp") or flags - {mode, "rn", "ftz", "sat"}:
        raise KeyError(f"modifiers {', '.join(sorted(flags))}")
    code = _FLOAT[to]
    exact = s.itemsize < 8 or code == "bf16"
    def run(x):
        if code == "bf16":
            return F.narrow(_odd64(x), "bf16", mode)
        if mode == "rn":
            r = x.astype(code)
        elif exact:
            r = F.narrow(x.astype("f8"), code, mode) if code != "f8" else x.astype("f8")
        else:
            y = x.astype(code)
            wide = x.astype(np.longdouble)
            r = F.directed(y, y.astype(np.longdouble) < wide, y.astype(np.longdouble) > wide, mode)
        return np.clip(r, 0, 1).astype(code) if "sat" in flags else r
    return run


def _odd64(x: np.ndarray) -> np.ndarray:
    """Integers as float64 rounded to odd."""
    y = x.astype("f8")
    if x.dtype.itemsize < 8:
        return y
    wide, near = x.astype(np.longdouble), y.astype(np.longdouble)
    step = (wide != near) & ((y.view("i8") & 1) == 0)
    return np.where(step, np.nextafter(y, np.where(near < wide, np.inf, -np.inf)), y)


def _to_float(to: str, source: str, mode: str, flags: set[str]) -> Callable:
    read, code = _read(source), _FLOAT[to]
    if mode == "rna" or flags & {"satfinite"}:
        raise KeyError(f"modifiers {', '.join(sorted(flags))}")
    def run(x):
        y = read(x)
        y = F.flush(y) if "ftz" in flags else y
        if mode in _WHOLE:
            y = _WHOLE[mode](y)
        if code == "bf16":
            r = F.narrow(y, "bf16", mode if mode not in _WHOLE else "rn")
        elif mode in ("rz", "rm", "rp") and code != "f8" and np.dtype(code).itemsize < y.dtype.itemsize:
            r = F.narrow(y, code, mode)
        else:
            r = y.astype(code)
        if "ftz" in flags and code == "f4":
            r = F.flush(r)
        if flags & {"sat", "relu"}:
            v = F.from_bf16(r) if code == "bf16" else r
            v = np.where(np.isnan(v), v.dtype.type(0 if "sat" in flags else np.nan), np.maximum(v, v.dtype.type(0)))
            v = np.minimum(v, v.dtype.type(1)) if "sat" in flags else v
            r = F.to_bf16(v) if code == "bf16" else v
        return r
    return run


def _pack(to: str, mode: str, flags: set[str]) -> Callable:
    """Two float32 values, the first in the upper half."""
    single = _to_float("bf16" if to == "bf16x2" else "f16", "f32", mode, flags)
    def run(high, low):
        h, l_ = (np.ascontiguousarray(single(v)).view("u2").astype("u4") for v in (high, low))
        return h << np.uint32(16) | l_
    return run


def _tf32(mode: str, flags: set[str]) -> Callable:
    """float32 with its mantissa cut to 10 bits: rna ties away from zero, rn to even, rz."""
    if mode not in ("rna", "rn", "rz") or flags - {mode}:
        raise KeyError(f"modifiers {', '.join(sorted(flags))}")
    def run(x):
        bits = np.ascontiguousarray(x).view("u4").reshape(np.shape(x))
        bias = {"rna": np.uint32(0x1000), "rn": np.uint32(0xFFF) + (bits >> np.uint32(13) & np.uint32(1)), "rz": np.uint32(0)}[mode]
        return np.where(np.isfinite(x), bits + bias & np.uint32(0xFFFFE000), bits)
    return run


def _saturate(d: np.dtype, s: np.dtype) -> Callable:
    low, high = max(np.iinfo(d).min, np.iinfo(s).min), min(np.iinfo(d).max, np.iinfo(s).max)
    return lambda x: np.clip(x, low, high).astype(d)
