"""Every switch of behaviour and debugging, in one table, with a context manager to set them (rank 0).

A flag starts from the environment variable `GRAPHFLOW_<NAME>`, else from the table.
"""
from __future__ import annotations

import os
from contextlib import contextmanager
from typing import Any, Iterator

TABLE: dict[str, tuple[Any, str]] = {
    "debug": (0, "1: plan; 2: kernel times; 3: graph after each pass; 4: generated source; 5: every rewrite"),
    "check": (0, "1: verify the graph after each pass; 2: also compare every kernel with the reference interpreter"),
    "dot": ("", "a folder that receives one DOT file a pass"),
    "optimize": (1, "0: no optimisation passes, one kernel an op"),
    "interpret": (0, "1: run the reference interpreter (NumPy, op by op) instead of compiled kernels"),
    "early": (1, "1: the first runs of a request are interpreted while it is compiled behind them; 0: it is compiled before its first run"),
    "threads": (0, "threads of one kernel; 0: as many as the machine has cores"),
    "strict_feeds": (1, "0: accept lossy feed casts silently, as TF1 did"),
    "fold_limit": (1 << 16, "largest constant, in bytes, that constant folding creates"),
    "fusion_limit": (48, "most ops of one fused kernel"),
    "compile_limit": (2000, "most ops in the distinct kernels of one program; beyond it ops are not fused, but share kernels"),
    "isa": ("native", "instructions that kernels use: native (all this CPU has), avx2, or generic (any CPU of its kind)"),
    "deterministic": (0, "1: kernels of a GPU add up updates of one element in a fixed order, which takes longer than atomics"),
    "tf32": (0, "1: products of float32 on a GPU may round their operands to 10 bits (TF32), several times faster"),
    "cuda_libraries": (1, "1: products and convolutions on a GPU by cuBLASLt and cuDNN where they are installed; 0: by generated kernels"),
    "tune": (0, "1: measure how products and convolutions are best cut on this machine, once for a shape, and keep the winners"),
    "cache_dir": ("", "folder of the object-code cache; empty: the platform's cache folder"),
}


class Flags:
    """Attributes are the flags; `flags.override(debug=4)` sets them inside a `with`."""

    def __init__(self) -> None:
        for name, (default, _) in TABLE.items():
            text = os.environ.get(f"GRAPHFLOW_{name.upper()}")
            try:
                setattr(self, name, default if text is None else type(default)(text))
            except ValueError:
                wanted = f"of type {type(default).__name__} ({TABLE[name][1]})"
                raise ValueError(f"GRAPHFLOW_{name.upper()} must be {wanted}, got {text!r}") from None

    def __getattr__(self, name: str) -> Any:
        raise AttributeError(f"no flag {name!r}; known: {', '.join(TABLE)}")

    @contextmanager
    def override(self, **values: Any) -> Iterator[None]:
        """Sets flags inside a `with` block; unknown names raise AttributeError."""
        before = {name: getattr(self, name) for name in values}
        self.__dict__.update(values)
        try:
            yield
        finally:
            self.__dict__.update(before)


flags = Flags()
