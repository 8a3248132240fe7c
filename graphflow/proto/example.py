"""Where the features of serialized Examples lie, without making messages: what parsing a million small records needs.

The usual layout is read in place; anything else that the wire format allows goes through the message classes.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from . import wire
from .wire import DecodeError

# Kinds of a feature's list, which are also its field numbers; 0 where nothing is set.
NOTHING, BYTES, FLOAT, INT64 = range(4)
Range = tuple[int, int]
_LIST, _KEY, _VALUE = 0x0A, 0x0A, 0x12  # tags of fields 1 and 2 that have a length


def _fields(data: bytes, at: int, end: int, wanted: tuple[int, ...]) -> list[tuple[int, int, int]]:
    """(field number, start, end) of the wanted fields that have a length; others are skipped."""
    found = []
    while at < end:
        tag, at = wire.read_tag(data, at, end)
        if tag & 7 == wire.BYTES and tag >> 3 in wanted:
            start, at = wire.read_length(data, at, end)
            found.append((tag >> 3, start, at))
        else:
            at = wire.skip(data, at, end, tag)
    return found


def _map(data: bytes, at: int, end: int) -> dict[bytes, Range]:
    """Key -> where the value lies, of the map which is field 1 of the message at `at .. end`; of equal keys the last counts."""
    found: dict[bytes, Range] = {}
    while at < end:
        if data[at] != _LIST:
            tag, at = wire.read_tag(data, at, end)
            at = wire.skip(data, at, end, tag)
            continue
        start, at = _length(data, at + 1, end)
        if at - start > 4 and data[start] == _KEY and data[start + 1] < 128:  # key, value, nothing else
            middle = start + 2 + data[start + 1]
            if middle + 1 < at and data[middle] == _VALUE:
                value, after = _length(data, middle + 1, at)
                if after == at:
                    found[data[start + 2:middle]] = (value, at)
                    continue
        key, place = b"", (at, at)
        for number, a, b in _fields(data, start, at, (1, 2)):
            if number == 1:
                key = data[a:b]
            else:
                place = (a, b)
        found[key] = place
    return found


def _length(data: bytes, at: int, end: int) -> Range:
    """(start, end) of what follows the length at `at`."""
    if at < end:
        n = data[at]
        if n < 128 and at + 1 + n <= end:
            return at + 1, at + 1 + n
    return wire.read_length(data, at, end)


def example(data: bytes) -> dict[bytes, Range]:
    """Key -> where the Feature lies, of a serialized Example.  Raises DecodeError."""
    end = len(data)
    if end and data[0] == _LIST:
        start, after = _length(data, 1, end)
        if after == end:
            return _map(data, start, end)
    found: dict[bytes, Range] = {}
    for _, a, b in _fields(data, 0, end, (1,)):
        found.update(_map(data, a, b))
    return found


def sequence_example(data: bytes) -> tuple[dict[bytes, Range], dict[bytes, list[Range]]]:
    """(context: key -> Feature; lists: key -> its Features) of a serialized SequenceExample.  Raises DecodeError."""
    context: dict[bytes, Range] = {}
    lists: dict[bytes, list[Range]] = {}
    for number, a, b in _fields(data, 0, len(data), (1, 2)):
        found = _map(data, a, b)
        if number == 1:
            context.update(found)
        else:
            lists.update({k: [(x, y) for _, x, y in _fields(data, *place, (1,))] for k, place in found.items()})
    return context, lists


def feature(data: bytes, place: Range) -> tuple[int, Any]:
    """(kind, values) of the Feature at `place`: a list of bytes, or packed little-endian floats, or packed varints."""
    at, end = place
    if at == end:
        return NOTHING, None
    kind = data[at] >> 3
    if data[at] & 7 == wire.BYTES and 1 <= kind <= 3:
        start, after = _length(data, at + 1, end)
        if after == end:
            found = _strings(data, start, end) if kind == BYTES else _packed(data, start, end)
            if found is not None:
                return kind, found
    return _other(data[at:end])


def _strings(data: bytes, at: int, end: int) -> list[bytes] | None:
    found = []
    while at < end:
        if data[at] != _LIST:
            return None
        start, at = _length(data, at + 1, end)
        found.append(data[start:at])
    return found


def _packed(data: bytes, at: int, end: int) -> bytes | None:
    if at == end:
        return b""
    if data[at] == _LIST:
        start, after = _length(data, at + 1, end)
        if after == end:
            return data[start:end]
    return None


def _other(data: bytes) -> tuple[int, Any]:
    """A Feature in an unusual layout."""
    from . import Feature

    message = Feature.FromString(data)
    name = message.WhichOneof("kind")
    if name is None:
        return NOTHING, None
    kind, values = {"bytes_list": BYTES, "float_list": FLOAT, "int64_list": INT64}[name], getattr(message, name).value
    return kind, list(values) if kind == BYTES else type(getattr(message, name)).value.kind.packs(values)


def one(kind: int, values: Any) -> np.ndarray:
    """The values of one feature as an array."""
    if kind == INT64:
        return wire.unpack_varints(values, 0, len(values)).view(np.int64)
    if kind == FLOAT:
        if len(values) % 4:
            raise DecodeError("a part of a float", 0)
        return np.frombuffer(values, "<f4").astype(np.float32)
    flat = np.empty(len(values), object)
    flat[:] = values
    return flat


def joined(kind: int, lists: list[Any]) -> tuple[np.ndarray, np.ndarray]:
    """(all values one after the other, how many each list has)."""
    if len(lists) == 1:
        flat = one(kind, lists[0])
        return flat, np.array([flat.size])
    if kind == BYTES:
        flat = np.empty(sum(map(len, lists)), object)
        flat[:] = [v for values in lists for v in values]
        return flat, np.array([len(v) for v in lists], np.int64)
    sizes = np.array([len(v) for v in lists], np.int64)
    data = b"".join(lists)
    if kind == FLOAT:
        if (sizes % 4).any():
            raise DecodeError("a part of a float", 0)
        return np.frombuffer(data, "<f4").astype(np.float32), sizes // 4
    for values in lists:
        if values and values[-1] > 127:
            raise DecodeError("truncated varint", len(values))
    before = np.concatenate([[0], np.cumsum(np.frombuffer(data, np.uint8) < 128)])
    ends = np.cumsum(sizes)
    return wire.unpack_varints(data, 0, len(data)).view(np.int64), before[ends] - before[ends - sizes]
