"""`import tensorflow` answered by GraphFlow.

`install()` puts a finder before all others: `tensorflow`, `tensorflow.compat.v1` and every module below them are those of this package,
also where a TensorFlow is installed, which is neither imported nor changed.  `graphflow.python` and `graphflow.core`, TF1's own layout
(layout.py), can be imported with or without it.
"""
from __future__ import annotations

import importlib
import importlib.abc
import importlib.machinery
import sys
import types
from typing import Any, Sequence

from . import layout

_VIRTUAL = ("python", "core")


class _Loader(importlib.abc.Loader):
    """Puts a module that exists in the place of the one that the import system made."""

    def __init__(self, module: types.ModuleType):
        self.module = module

    def create_module(self, spec: Any) -> None:
        return None

    def exec_module(self, module: types.ModuleType) -> None:
        sys.modules[module.__name__] = self.module


class Layout(importlib.abc.MetaPathFinder):
    """`graphflow.python.*` and `graphflow.core.*`."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: Any = None) -> Any:
        package, _, inner = name.partition(".")
        virtual = inner.split(".")[0] in _VIRTUAL or inner.startswith("contrib.") and "python" in inner.split(".")
        if package != "graphflow" or not virtual or not layout.known(inner):
            return None
        return importlib.machinery.ModuleSpec(name, _Loader(layout.module(inner)), is_package=True)


class Tensorflow(importlib.abc.MetaPathFinder):
    """`tensorflow` and what is below it."""

    def find_spec(self, name: str, path: Sequence[str] | None = None, target: Any = None) -> Any:
        package, _, inner = name.partition(".")
        if package != "tensorflow":
            return None
        found = _find(inner)
        if not isinstance(found, types.ModuleType):
            raise ModuleNotFoundError(f"No module named {name!r} in GraphFlow, which runs this program as TensorFlow 1.x."
                                      + _why(inner), name=name)
        return importlib.machinery.ModuleSpec(name, _Loader(found), is_package=True)


def _find(inner: str) -> Any:
    """The module or namespace behind `tensorflow.<inner>`; None when there is none."""
    import graphflow

    found: Any = graphflow
    parts = [p for p in inner.split(".") if p]
    if parts[:2] in (["compat", "v1"], ["_api", "v1"]):
        parts = parts[2:]
    for i, part in enumerate(parts):
        try:
            found = importlib.import_module(f"{found.__name__}.{part}") if hasattr(found, "__path__") else getattr(found, part)
        except ModuleNotFoundError:
            found = getattr(found, part, None)
        if found is None:
            return None
        if not isinstance(found, types.ModuleType):
            found = _as_module(".".join(["tensorflow", *parts[:i + 1]]), found)
    return found


def _as_module(name: str, namespace: Any) -> types.ModuleType | None:
    """A namespace that is no module (`tf.nn.rnn_cell` may be a class or an object), as one."""
    if callable(namespace) and not isinstance(namespace, type):
        return None
    made = types.ModuleType(name)
    made.__dict__.update({n: getattr(namespace, n) for n in dir(namespace) if not n.startswith("__")})
    return made


def _why(inner: str) -> str:
    import graphflow

    first = inner.split(".")[0]
    if first in _VIRTUAL:
        return layout.nearest(inner)
    found: Any = graphflow
    try:
        for part in inner.split("."):
            found = getattr(found, part)
    except AttributeError as e:
        return f" {e}"
    return " It is a name, not a module: import it with `from ... import`."


def install() -> None:
    """From now on `import tensorflow` means GraphFlow.  Raises RuntimeError when a TensorFlow has been imported already."""
    import graphflow

    there = sys.modules.get("tensorflow")
    if there is not None and there is not graphflow:
        raise RuntimeError(f"tensorflow has been imported already, from {getattr(there, '__file__', '?')}: install GraphFlow's finder "
                           "before the first import of tensorflow")
    if not any(isinstance(f, Tensorflow) for f in sys.meta_path):
        sys.meta_path.insert(0, Tensorflow())
    importlib.import_module("tensorflow")


sys.meta_path.insert(0, Layout())
