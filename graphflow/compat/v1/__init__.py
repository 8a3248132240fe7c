"""`import graphflow.compat.v1 as tf`: the same names as `import graphflow as tf`.

Every name is looked up in `graphflow`, so the two can never differ.
"""
from __future__ import annotations

from typing import Any

import graphflow as _graphflow


def __getattr__(name: str) -> Any:
    if name.startswith("__") and name != "__version__":
        raise AttributeError(name)
    try:
        return getattr(_graphflow, name)
    except AttributeError:
        raise AttributeError(f"module 'graphflow.compat.v1' has no attribute {name!r}") from None


def __dir__() -> list[str]:
    return [n for n in dir(_graphflow) if not n.startswith("_")]


__all__ = __dir__()  # for `from graphflow.compat.v1 import *`
