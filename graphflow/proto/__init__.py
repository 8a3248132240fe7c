"""TensorFlow's protocol-buffer messages, and files of records, in plain Python.

`from graphflow.proto import Example, Event`: each name of the tables is a class, made when it is first asked for.
Knows bytes and NumPy, no graph and no op (rank 1).

    wire.py     varints, tags, scalar types       text.py     the text format
    message.py  message classes                   tables.py   which messages there are
"""
from __future__ import annotations

from typing import Any

from .. import locks
from .tables import ENUMS, MESSAGES

# What is not a message: loaded when it is asked for, as files of records need none of it.
_LATE = {"DecodeError": ".wire", "Enum": ".message", "Message": ".message", "MessageToString": ".text"}


_lock = locks.rlock()


def _family() -> Any:
    from .message import Family

    with _lock:
        return globals().setdefault("FAMILY", Family(MESSAGES, ENUMS, "tensorflow", __name__))


def __getattr__(name: str) -> Any:
    """A message class or an enum."""
    if name in MESSAGES:
        found: Any = _loaded("FAMILY").message(name)
    elif name in ENUMS:
        found = _loaded("Enum")(name, ENUMS[name])
    elif name == "FAMILY":
        found = _family()
    elif name in _LATE:
        import importlib

        found = getattr(importlib.import_module(_LATE[name], __name__), name)
    else:
        from ..errors import suggest

        raise AttributeError(f"module {__name__!r} has no message {name!r}.{suggest(name, MESSAGES)}")
    globals()[name] = found
    return found


def _loaded(name: str) -> Any:
    return globals()[name] if name in globals() else __getattr__(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_LATE, *[m for m in MESSAGES if "." not in m], *[e for e in ENUMS if "." not in e]})
