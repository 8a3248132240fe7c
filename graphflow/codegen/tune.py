"""How products are cut into tasks: the model's choice, or the winner that was measured on this machine.

With flags.tune the candidates of each new product are compiled and timed on one thread, once for a shape, and the winner is kept in
`tuned.json` beside the object code; its key names the CPU, the shape and the version of the generator.  Winners are used by all later
programs, tuned or not.  Knows files and clocks; knows no product and no op (rank 4).
"""
from __future__ import annotations

import ctypes
import hashlib
import json
import os
import tempfile
import time
import warnings
from functools import cache
from pathlib import Path
from typing import Any, Callable, NamedTuple, Sequence

import numpy as np

from .. import types
from ..flags import flags
from . import emit_cpu, schedule, target
from .cache import default_directory
from .compile import compile_kernels
from .ir import Buffer, Kernel

TRIED = 8  # candidates that are measured, the model's best ones
SECONDS = 0.02  # spent on each


class Cut(NamedTuple):
    """How a product is cut: tiles of rows and columns in a task, shares of the sum, elements of a slab (0: operands are packed)."""

    tiles: int
    columns: int
    parts: int = 1
    slab: int = 0


def choose(key: str, candidates: Sequence[Cut], made: Callable[[Cut], Sequence[Any]]) -> Cut:
    """The kept winner, the measured one with flags.tune, or the first candidate; `made` gives a candidate's kernels."""
    name = f"{_machine()} {key}"
    kept = _winners().get(name)
    if kept is not None and Cut(*kept) in candidates:
        return Cut(*kept)
    if not flags.tune or len(candidates) < 2:
        return candidates[0]
    best = min(candidates[:TRIED], key=lambda c: seconds(made(c)))
    _keep(name, best)
    return best


def generation() -> str:
    """Changes when winners are kept: part of the key of a stored program."""
    return hashlib.sha256(json.dumps(_winners(), sort_keys=True).encode()).hexdigest() if _winners() else ""


# ---------------------------------------------------------------- the file


@cache
def _machine() -> str:
    here, digest = Path(__file__).parent, hashlib.sha256(target.identity().encode())
    for name in ("blocks.py", "contract.py", "direct.py", "image.py", "text.py"):
        digest.update((here / name).read_bytes())
    return f"{target.llvm().get_host_cpu_name()} {flags.isa} {digest.hexdigest()[:16]}"


_loaded: dict[Path, dict[str, list[int]]] = {}


def _file() -> Path:
    return (Path(flags.cache_dir) if flags.cache_dir else default_directory()) / "tuned.json"


def _winners() -> dict[str, list[int]]:
    file = _file()
    if file not in _loaded:
        _loaded[file] = _read(file)
    return _loaded[file]


def _read(file: Path) -> dict[str, list[int]]:
    try:
        found = json.loads(file.read_text())
        return {k: v for k, v in found.items() if isinstance(v, list) and len(v) == len(Cut._fields) and all(isinstance(x, int) for x in v)}
    except FileNotFoundError:
        return {}
    except (OSError, ValueError, AttributeError) as e:
        warnings.warn(f"{file} cannot be read ({e}); products are cut by the model", stacklevel=2)
        return {}


def _keep(name: str, best: Cut) -> None:
    """Into memory and the file, together with what other processes kept since."""
    file = _file()
    winners = _winners()
    winners[name] = list(best)
    try:
        file.parent.mkdir(parents=True, exist_ok=True)
        winners.update({k: v for k, v in _read(file).items() if k not in winners})
        handle, temporary = tempfile.mkstemp(dir=file.parent)
        with os.fdopen(handle, "w") as f:
            json.dump(winners, f, indent=0, sort_keys=True)
        os.replace(temporary, file)
    except OSError as e:
        warnings.warn(f"the measured choice is not kept: {e}", stacklevel=2)


# ---------------------------------------------------------------- the clock

_CALL = ctypes.CFUNCTYPE(ctypes.c_int64, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int64, ctypes.c_int64)


def seconds(kernels: Sequence[Kernel | emit_cpu.Emitted]) -> float:
    """The shortest time of all kernels one after the other, on one thread, at the sizes of the first binding."""
    emitted = [emit_cpu.emit(schedule.schedule(k)) if isinstance(k, Kernel) else k for k in kernels]
    arrays: dict[Buffer, np.ndarray] = {}
    calls = []
    for e in emitted:
        for b in e.buffers:
            if b not in arrays:
                arrays[b] = np.full(max(1, _at(types.product(b.sizes))), 1, b.dtype.np)
        addresses = compile_kernels([*e.calls, e.source])
        table = np.array([*[arrays[b].ctypes.data for b in e.buffers], *addresses[:-1]], np.int64)
        sizes = np.array([*map(_at, e.sizes), 0], np.int64)
        calls.append((_CALL(addresses[-1]), table, sizes, _at(e.extent)))
    best, start = float("inf"), time.perf_counter()
    while time.perf_counter() - start < SECONDS or best == float("inf"):
        begin = time.perf_counter()
        for run, table, sizes, extent in calls:
            run(table.ctypes.data, sizes.ctypes.data, 0, extent)
        best = min(best, time.perf_counter() - begin)
    return best


def _at(n: Any) -> int:
    found = types.hint(n)
    return 1 if found is None else found
