"""`tf.contrib`, what of it is here; each part is loaded when it is first asked for."""
from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

# Modules and packages beside this file.
_PARTS = sorted(p.stem for p in Path(__file__).parent.iterdir()
                if not p.name.startswith("_") and (p.suffix == ".py" or (p / "__init__.py").is_file()))


def __getattr__(name: str) -> Any:
    if name in _PARTS:
        return importlib.import_module(f".{name}", __name__)
    from .. import errors

    raise AttributeError(f"module 'graphflow.contrib' has no attribute {name!r}: tf.contrib.{name} is not in this release."
                         f"{errors.suggest(name, _PARTS)}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_PARTS})
