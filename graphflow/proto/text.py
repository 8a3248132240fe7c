"""The text format of messages, as `str(message)` shows them and `.pbtxt` files hold them."""
from __future__ import annotations

from typing import Any, Iterator

import numpy as np

from .message import Field, MapField, Message


def MessageToString(message: Message) -> str:
    """Lines `name: value` and `name { ... }`, by field number; maps by key.  Unknown fields are left out."""
    return "".join(f"{line}\n" for line in _lines(message, ""))


def _lines(message: Message, indent: str) -> Iterator[str]:
    for field, value in message.ListFields():
        if isinstance(field, MapField):
            for key in sorted(value):
                yield f"{indent}{field.name} {{"
                yield from _one(field.key, key, indent + "  ")
                yield from _one(field.value, value[key], indent + "  ")
                yield f"{indent}}}"
        else:
            for v in value if field.repeated else [value]:
                yield from _one(field, v, indent)


def _one(field: Field, value: Any, indent: str) -> Iterator[str]:
    if isinstance(value, Message):
        yield f"{indent}{field.name} {{"
        yield from _lines(value, indent + "  ")
        yield f"{indent}}}"
    else:
        yield f"{indent}{field.name}: {_scalar(field, value)}"


def _scalar(field: Field, value: Any) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, float):
        return str(float(str(np.float32(value)))) if field.kind.name == "float" else str(value)  # the shortest that is the same number
    if isinstance(value, int):
        return next((name for name, number in _enum(field).items() if number == value), str(value))
    return f'"{_escaped(value)}"'


def _enum(field: Field) -> dict[str, int]:
    from .tables import ENUMS

    return ENUMS.get(field.kind.name, {})


_ESCAPES = {ord("\n"): "\\n", ord("\r"): "\\r", ord("\t"): "\\t", ord('"'): '\\"', ord("'"): "\\'", ord("\\"): "\\\\"}


def _escaped(value: str | bytes) -> str:
    if isinstance(value, str):
        return "".join(_ESCAPES.get(ord(c), c if c.isprintable() or ord(c) > 126 else f"\\{ord(c):03o}") for c in value)
    return "".join(_ESCAPES.get(b, chr(b) if 32 <= b < 127 else f"\\{b:03o}") for b in value)
