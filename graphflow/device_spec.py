"""Device strings: `/job:worker/replica:0/task:1/device:CPU:0`, taken apart and put together.

What a string means in a session says runtime/placement.py (rank 0).
"""
from __future__ import annotations

import re
from typing import Any

__all__ = ["DeviceSpec"]

_PARTS = ("job", "replica", "task", "device_type", "device_index")
_PIECE = re.compile(r"^(?:(?P<key>job|replica|task):(?P<value>[\w.*-]+)|"
                    r"(?P<kind>device:[A-Za-z]\w*|[cC][pP][uU]|[gGtT][pP][uU])(?::(?P<index>\d+|\*))?)$")


class DeviceSpec:
    """A device, as far as it is said: `job` (text), `replica`, `task`, `device_type` ("CPU"), `device_index`; each may be None.

    Raises:
        ValueError: text that is no device string.
    """

    __slots__ = tuple("_" + p for p in _PARTS)

    def __init__(self, job: Any = None, replica: Any = None, task: Any = None, device_type: Any = None, device_index: Any = None):
        self.job, self.replica, self.task, self.device_type, self.device_index = job, replica, task, device_type, device_index

    @staticmethod
    def from_string(spec: str) -> DeviceSpec:
        """The device that `spec` names; "" and None name none."""
        return DeviceSpec().parse_from_string(spec)

    def parse_from_string(self, spec: str | None) -> DeviceSpec:
        """Takes all parts from `spec`; returns itself."""
        found: dict[str, Any] = dict.fromkeys(_PARTS)
        for piece in filter(None, (spec or "").split("/")):
            part = _PIECE.match(piece)
            if part is None or part["key"] in ("replica", "task") and not re.fullmatch(r"\d+|\*", part["value"]):
                raise ValueError(f"Malformed device specification {spec!r}: Unknown attribute {piece!r}; expected for example '/cpu:0' or "
                                 "'/job:worker/task:0/device:GPU:0'")
            if part["key"]:
                found[part["key"]] = None if part["value"] == "*" else part["value"]
                continue
            if found["device_type"] is not None:
                raise ValueError(f"Malformed device specification {spec!r}: Cannot specify multiple device types")
            found["device_type"] = part["kind"].removeprefix("device:").upper()
            found["device_index"] = None if part["index"] in (None, "*") else int(part["index"])
        for name, value in found.items():
            setattr(self, name, value)
        return self

    def merge_from(self, dev: DeviceSpec) -> None:
        """Takes over the parts that `dev` says."""
        for name in _PARTS:
            if getattr(dev, name) is not None:
                setattr(self, name, getattr(dev, name))

    def make_merged_spec(self, dev: DeviceSpec) -> DeviceSpec:
        """A new one: `dev`, and what it does not say from this one."""
        made = DeviceSpec(*[getattr(self, p) for p in _PARTS])
        made.merge_from(dev)
        return made

    def replace(self, **parts: Any) -> DeviceSpec:
        """A new one with some parts changed."""
        return DeviceSpec(**{**{p: getattr(self, p) for p in _PARTS}, **parts})

    def to_string(self) -> str:
        out = "".join(f"/{p}:{getattr(self, p)}" for p in ("job", "replica", "task") if getattr(self, p) is not None)
        if self.device_type is not None:
            out += f"/device:{self.device_type}:{'*' if self.device_index is None else self.device_index}"
        return out

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DeviceSpec) and self.to_string() == other.to_string()

    def __hash__(self) -> int:
        return hash(self.to_string())

    __str__ = to_string

    def __repr__(self) -> str:
        return f"<DeviceSpec({', '.join(f'{p}={getattr(self, p)}' for p in _PARTS)})>"


def _part(name: str) -> property:
    def put(self: DeviceSpec, value: Any) -> None:
        if value is not None:
            value = int(value) if name in ("replica", "task", "device_index") else str(value)
            value = value.upper() if name == "device_type" and value in ("cpu", "gpu") else value
        setattr(self, "_" + name, value)

    return property(lambda self: getattr(self, "_" + name), put)


for _name in _PARTS:
    setattr(DeviceSpec, _name, _part(_name))
