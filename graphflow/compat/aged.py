"""Names that NumPy and Python had when TensorFlow 1.x programs were written and have dropped since.

`graphflow run` gives them back, where they are missing, before the script starts: the program's own text stays as it is.  Nothing that
exists is replaced.
"""
from __future__ import annotations

import collections
import collections.abc
import inspect
import time
from typing import Any

import numpy as np


def _arg_spec(func: Any) -> Any:
    from .private import _getargspec

    return _getargspec(func)


_NUMPY: dict[str, Any] = {
    "bool": bool, "int": int, "float": float, "complex": complex, "object": object, "str": str, "long": int, "unicode": str,
    "float_": np.float64, "complex_": np.complex128, "unicode_": np.str_, "string_": np.bytes_, "Inf": np.inf, "Infinity": np.inf,
    "infty": np.inf, "PINF": np.inf, "NINF": -np.inf, "NaN": np.nan, "NAN": np.nan, "product": np.prod, "cumproduct": np.cumprod,
    "alltrue": np.all, "sometrue": np.any, "row_stack": np.vstack, "asscalar": lambda a: np.asarray(a).item(),
    "trapz": getattr(np, "trapezoid", None), "in1d": np.isin, "msort": lambda a: np.sort(a, axis=0), "round_": np.round,
    "asfarray": lambda a, dtype=np.float64: np.asarray(a, dtype),
}


def restore() -> None:
    """Adds what is missing to numpy, time, collections and inspect."""
    for name, value in _NUMPY.items():
        if name not in np.__dict__ and value is not None:  # hasattr would warn
            setattr(np, name, value)
    for name in collections.abc.__all__:
        if not hasattr(collections, name):
            setattr(collections, name, getattr(collections.abc, name))
    for module, name, value in ((time, "clock", time.perf_counter), (inspect, "getargspec", _arg_spec)):
        if not hasattr(module, name):
            setattr(module, name, value)
