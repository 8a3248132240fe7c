"""`tf.contrib`, what of it is here; each part is loaded when it is first asked for."""
from __future__ import annotations

import importlib
import sys
from pathlib import Path
from typing import Any, Callable

# Modules and packages beside this file.
_PARTS = sorted(p.stem for p in Path(__file__).parent.iterdir()
                if not p.name.startswith("_") and (p.suffix == ".py" or (p / "__init__.py").is_file()))


def _old_layout(package: str, other: Callable[[str], Any] | None = None) -> Callable[[str], Any]:
    """The `__getattr__` of a part: its `python`, under which TF1 kept its modules (compat/layout.py), else what `other` finds."""
    part = package.removeprefix("graphflow.")
    vars(sys.modules[package]).setdefault("__path__", [])  # `import tensorflow.contrib.crf.python` looks below packages only

    def find(name: str) -> Any:
        from .. import errors
        from ..compat import layout

        if name == "python" and layout.known(f"{part}.python"):
            return layout.module(f"{part}.python")
        if other is not None:
            return other(name)
        known = vars(importlib.import_module(package))
        raise AttributeError(f"module {package!r} has no attribute {name!r}.{errors.suggest(name, [n for n in known if n[0] != '_'])}")
    return find


def __getattr__(name: str) -> Any:
    if name in _PARTS:
        return importlib.import_module(f".{name}", __name__)
    from .. import errors

    raise AttributeError(f"module 'graphflow.contrib' has no attribute {name!r}: tf.contrib.{name} is not in this release."
                         f"{errors.suggest(name, _PARTS)}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_PARTS})
