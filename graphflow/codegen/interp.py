"""Kernel IR run by NumPy: what a kernel must compute, without any generated code.

Takes kernels as lowered (`load` at an index per dimension) and in linear form (`at` an offset), evaluates each stage over
its whole grid of axes, and checks every index against the size it has.  Knows Kernel IR; knows no schedule, no target and
no op (rank 4).
"""
from __future__ import annotations

import math
from typing import Any, Callable, Mapping

import numpy as np

from .. import types
from ..types import DType, Size
from . import ir
from .ir import Axis, Buffer, Expr, Kernel, Stage

Values = dict[Buffer, np.ndarray]


class OutOfBounds(AssertionError):
    """A kernel reads or writes beside its buffer."""


class Failed(Exception):
    """A check of the kernel does not hold; `args[0]` is its message."""


def run(kernel: Kernel, arrays: Mapping[Buffer, np.ndarray], env: Mapping[str, int]) -> Values:
    """What the kernel leaves in every buffer it writes, temporaries included.

    Args:
        arrays: stored arrays (bfloat16 as bits) of the buffers it reads, in their shapes; they are not changed.
        env: the value of each symbol in the sizes.

    Raises:
        OutOfBounds: an index outside its buffer.  Failed: a check that is false somewhere.
    """
    machine = _Machine(arrays, dict(env))
    for s in kernel.stages:
        machine.stage(s)
    written = {s.target for s in kernel.stages}
    return {b: _stored(machine.values[b], b.dtype) for b in written}


class _Machine:
    def __init__(self, arrays: Mapping[Buffer, np.ndarray], env: dict[str, int]):
        self.env = env
        self.values: Values = {b: _loaded(np.array(a, copy=True).reshape(self.shape(b)), b.dtype) for b, a in arrays.items()}

    def size(self, n: Size) -> int:
        return types.evaluate(n, self.env)

    def shape(self, b: Buffer) -> tuple[int, ...]:
        return tuple(self.size(n) for n in b.sizes)

    def stage(self, s: Stage) -> None:
        out = self.values.get(s.target)
        if out is None:  # what no stage writes shows as a value that nothing computes
            out = self.values[s.target] = _unwritten(self.shape(s.target), s.target.dtype.compute)
        grid = _Grid(self, s.axes)
        if 0 in grid.shape and not s.combine:
            return
        place = grid.index(s.index, s.target)
        if s.scan is not None:
            self._scan(s, grid, out, place)
        elif s.combine and any(ir.axes_in(i) & set(s.reduced) for i in s.index) or s.combine == "set":
            self._scatter(s, grid, out, place)
        elif s.combine:
            self._fold(s, grid, out)
        else:
            _put(out, place, grid.full(grid.value(s.expr)), grid.live())

    def _fold(self, s: Stage, grid: _Grid, out: np.ndarray) -> None:
        """One result for each point of the axes that stay."""
        values = grid.full(grid.value(s.expr))
        neutral = np.asarray(ir.neutral(s.combine or "", s.expr.dtype), s.expr.dtype.np)
        values = np.where(grid.live(), values, neutral)
        positions = tuple(i for i, a in enumerate(s.axes) if a in s.reduced)
        found = _COMBINE[s.combine or ""].reduce(values, axis=positions, initial=None if _nonempty(values, positions) else neutral,
                                                 keepdims=True)
        kept = _Grid(self, tuple(a for a in s.axes if a not in s.reduced))
        found = found.reshape(kept.shape)
        if s.init is not None:
            found = _COMBINE[s.combine or ""](kept.full(kept.value(s.init)), found)
        _put(out, kept.index(s.index, s.target), found.astype(out.dtype), kept.live())

    def _scatter(self, s: Stage, grid: _Grid, out: np.ndarray, place: tuple[np.ndarray, ...]) -> None:
        values, live = grid.full(grid.value(s.expr)), grid.live()
        out = out.reshape(-1) if len(place) == 1 and out.ndim != 1 else out
        where = tuple(np.broadcast_to(p, grid.shape)[live].reshape(-1) for p in place)
        flat = values[live].reshape(-1)
        if s.combine == "set":
            for i, v in zip(zip(*where), flat) if where else [((), v) for v in flat]:
                out[i] = v
        else:
            _COMBINE[s.combine or ""].at(out, where, flat.astype(out.dtype))

    def _scan(self, s: Stage, grid: _Grid, out: np.ndarray, place: tuple[np.ndarray, ...]) -> None:
        values = grid.full(grid.value(s.expr))
        k = s.axes.index(s.scan)  # type: ignore[arg-type]
        if values.shape[k] == 0:
            return
        neutral = np.asarray(ir.neutral(s.combine or "", s.expr.dtype), s.expr.dtype.np)
        if s.exclusive:
            first = np.full_like(values.take([0], k), neutral)
            values = np.concatenate([first, values.take(range(values.shape[k] - 1), k)], k)
        with np.errstate(all="ignore"):
            _put(out, place, _COMBINE[s.combine or ""].accumulate(values, axis=k, dtype=values.dtype), grid.live())


class _Grid:
    """All points of some axes at once: an axis is an array that varies along its own dimension."""

    def __init__(self, machine: _Machine, axes: tuple[Axis, ...]):
        self.machine, self.axes = machine, axes
        self.shape = tuple(machine.size(a.extent) for a in axes)
        self.done: dict[int, Any] = {}
        self.alive: np.ndarray | None = None

    def live(self) -> np.ndarray:
        """Where every bounded axis is inside its bound."""
        if self.alive is None:
            self.alive = np.ones(self.shape, bool)
            for a in self.axes:
                if a.bound is not None:
                    self.alive = self.alive & (self._axis(a) < self.value(a.bound))
        return self.alive

    def full(self, value: Any) -> np.ndarray:
        return np.broadcast_to(value, self.shape)

    def _axis(self, a: Axis) -> np.ndarray:
        k = self.axes.index(a)
        return np.arange(self.shape[k], dtype=np.int64).reshape([-1 if i == k else 1 for i in range(len(self.shape))])

    def value(self, root: Expr) -> np.ndarray:
        with np.errstate(all="ignore"):
            for e in ir.walk(root):
                if id(e) not in self.done:
                    self.done[id(e)] = self._one(e, [self.done[id(a)] for a in e.args])
        return self.done[id(root)]

    def _one(self, e: Expr, a: list[np.ndarray]) -> np.ndarray:
        if e.op == "const":
            return np.asarray(e.data, e.dtype.compute.np)
        if e.op == "size":
            return np.asarray(self.machine.size(e.data), np.int64)
        if e.op == "axis":
            return self._axis(e.data)
        if e.op in ("load", "at"):
            return self._load(e.data, a, e.op == "at")
        if e.op == "check":
            return self._check(e, *a)
        if e.op == "cast":
            return _cast(a[0], e.args[0].dtype, e.dtype.compute)
        if e.op == "bitcast":
            return np.ascontiguousarray(a[0]).view(e.dtype.np).reshape(a[0].shape)
        if e.op == "complex":
            return (a[0] + 1j * a[1].astype(e.dtype.np)).astype(e.dtype.np)
        if e.op in ("real", "imag"):
            return np.asarray(getattr(a[0], e.op))
        return np.asarray(_meaning(e)(*a)).astype(e.dtype.compute.np, copy=False)

    def _check(self, e: Expr, condition: np.ndarray, value: np.ndarray) -> np.ndarray:
        if not (self.full(condition) | ~self.live()).all():
            raise Failed(str(e.data))
        return value

    def _load(self, b: Buffer, index: list[np.ndarray], linear: bool) -> np.ndarray:
        source = self.machine.values.get(b)
        if source is None:
            raise OutOfBounds(f"{b!r} is read before anything has written it")
        if linear:
            return source.reshape(-1)[self._inside(index[0], source.size, b)]
        return source[tuple(self._inside(i, n, b) for i, n in zip(index, source.shape, strict=True))]

    def index(self, index: tuple[Expr, ...], b: Buffer) -> tuple[np.ndarray, ...]:
        """Where a stage writes: one array for each dimension (of the flat buffer, in linear form)."""
        shape = self.machine.shape(b)
        sizes = (math.prod(shape),) if len(index) == 1 and len(shape) != 1 else shape
        if len(index) != len(sizes):
            raise OutOfBounds(f"{b!r} is written at {len(index)} indices")
        return tuple(self._inside(self.value(i), n, b) for i, n in zip(index, sizes))

    def _inside(self, i: np.ndarray, n: int, b: Buffer) -> np.ndarray:
        i = np.asarray(i)
        bad = (i < 0) | (i >= n)
        if bad.any():
            live = self.live()
            if (np.broadcast_to(bad, live.shape) & live).any():
                raise OutOfBounds(f"index {i[bad].reshape(-1)[0]} of {b!r}, which has {n} there")
            i = np.where(bad, 0, i)
            if n == 0:
                return np.zeros((0,), np.int64)
        return i


def _nonempty(values: np.ndarray, axes: tuple[int, ...]) -> bool:
    return all(values.shape[a] for a in axes)


def _put(out: np.ndarray, place: tuple[np.ndarray, ...], values: np.ndarray, live: np.ndarray) -> None:
    """Stores where alive; linear form writes the flat view."""
    target = out.reshape(-1) if len(place) == 1 and out.ndim != 1 else out
    where = tuple(np.broadcast_to(p, live.shape)[live] for p in place)
    target[where if where else ...] = np.broadcast_to(values,
                                                      live.shape)[live] if where else np.broadcast_to(values, live.shape).reshape(out.shape)


def _unwritten(shape: tuple[int, ...], dtype: DType) -> np.ndarray:
    value = {"f": math.nan, "c": complex(math.nan, math.nan), "b": True}.get(dtype.kind)
    return np.full(shape, dtype.max if value is None else value, dtype.np)


def _loaded(a: np.ndarray, dtype: DType) -> np.ndarray:
    return types.bf16_decode(a) if dtype is types.bfloat16 else a.astype(dtype.compute.np, copy=False)


def _stored(a: np.ndarray, dtype: DType) -> np.ndarray:
    with np.errstate(all="ignore"):
        return types.bf16_encode(a) if dtype is types.bfloat16 else a.astype(dtype.np, copy=False)


def _cast(x: np.ndarray, source: DType, target: DType) -> np.ndarray:
    """Floats to integers truncate; complex to real drops the imaginary part."""
    if target.kind == "b":
        return x != 0
    if source.kind == "c" and target.kind != "c":
        x = np.asarray(x.real)
    return np.asarray(x).astype(target.np)


# ---------------------------------------------------------------- operators

_COMBINE: dict[str, Any] = {"add": np.add, "mul": np.multiply, "max": np.maximum, "min": np.minimum, "land": np.logical_and,
                            "lor": np.logical_or}


def _truncdiv(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    if a.dtype.kind == "f":
        return np.trunc(a / b)
    safe = np.where(b == 0, np.ones_like(b), b)
    q = np.abs(a) // np.abs(safe)
    return np.where(b == 0, np.zeros_like(a), np.where((a < 0) != (b < 0), -q, q))


def _floats(operator: Callable[..., Any], fn: Callable[..., Any]) -> Callable[..., Any]:
    return lambda a, b: fn(a, b) if a.dtype.kind in "fc" else operator(a, b)


def _sigmoid(x: np.ndarray) -> np.ndarray:
    return np.where(x >= 0, 1 / (1 + np.exp(-np.abs(x))),
                    np.exp(-np.abs(x)) / (1 + np.exp(-np.abs(x)))) if x.dtype.kind == "f" else 1 / (1 + np.exp(-x))


def _special(name: str) -> Callable[..., Any]:
    from ..ops import special

    return getattr(special, name)


_OTHER: dict[str, Callable[..., Any]] = {
    "truncdiv": _truncdiv,
    "truncmod": lambda a, b: np.fmod(a, b) if a.dtype.kind == "f" else a - _truncdiv(a, b) * b,
    "sigmoid": _sigmoid,
    "softplus": lambda x: np.logaddexp(x, np.zeros((), x.dtype)),
    "floordiv": _floats(ir.SCALAR["floordiv"][1], lambda a, b: np.floor(a / b)),  # type: ignore[arg-type]
    "mod": _floats(ir.SCALAR["mod"][1], np.mod),  # type: ignore[arg-type]
    "pow": lambda a, b: np.power(a, b) if a.dtype.kind in "fc" else _ipow(a, b),
}


def _ipow(a: np.ndarray, b: np.ndarray) -> np.ndarray:
    """Integer powers modulo the range; negative exponents give 0, as kernels do."""
    return np.where(b < 0, np.zeros_like(a), np.power(a, np.maximum(b, 0)))


def _meaning(e: Expr) -> Callable[..., Any]:
    found = _OTHER.get(e.op) or ir.SCALAR[e.op][1]
    return found if found is not None else _special(e.op)
