"""TensorFlow's protocol-buffer messages, and files of records, in plain Python.

`from graphflow.proto import Example, Event`: each name of the tables is a class, made when it is first asked for.
Knows bytes and NumPy, no graph and no op (rank 1).

    wire.py     varints, tags, scalar types       text.py     the text format
    message.py  message classes                   tables.py   which messages there are
"""
from __future__ import annotations

from typing import Any

from .message import DecodeError, Enum, Family, Message
from .tables import ENUMS, MESSAGES
from .text import MessageToString

FAMILY = Family(MESSAGES, ENUMS, "tensorflow", __name__)


def __getattr__(name: str) -> Any:
    """A message class or an enum."""
    if name in MESSAGES:
        found: Any = FAMILY.message(name)
    elif name in ENUMS:
        found = Enum(name, ENUMS[name])
    else:
        from ..errors import suggest

        raise AttributeError(f"module {__name__!r} has no message {name!r}.{suggest(name, MESSAGES)}")
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted({*globals(), *[m for m in MESSAGES if "." not in m], *[e for e in ENUMS if "." not in e]})
