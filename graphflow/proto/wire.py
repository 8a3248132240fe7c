"""The protocol-buffer wire format: varints, tags, packed arrays, and how each scalar type is checked and written.

Knows no message.  Everything that reads takes a whole buffer and the range `at .. end` in it, so that an error can say
where in the file it is.
"""
from __future__ import annotations

import operator
import struct
from typing import Any, Callable, Iterable, NamedTuple

import numpy as np

VARINT, FIXED64, BYTES, START, STOP, FIXED32 = range(6)
DEPTH = 100  # of messages in messages, as in protobuf
MASK = 2**64 - 1


class DecodeError(ValueError):
    """Bytes that are no such message.  `offset` is where in them the reader stood."""

    def __init__(self, what: str, offset: int):
        super().__init__(f"Error parsing message: {what} at byte {offset}")
        self.offset = offset


# ---------------------------------------------------------------- varints


_SMALL = [bytes([i]) for i in range(128)]


def varint(value: int) -> bytes:
    """The bytes of 0 <= value < 2^64, seven bits each, the lowest first."""
    if value < 128:
        return _SMALL[value]
    out = bytearray()
    while value > 127:
        out.append(value & 127 | 128)
        value >>= 7
    out.append(value)
    return bytes(out)


def read_varint(data: bytes, at: int, end: int) -> tuple[int, int]:
    """(value, where it ends)."""
    if at >= end:
        raise DecodeError("truncated varint", at)
    byte = data[at]
    if byte < 128:
        return byte, at + 1
    value, shift, start = byte & 127, 7, at
    while True:
        at += 1
        if at >= end:
            raise DecodeError("truncated varint", start)
        byte = data[at]
        value |= (byte & 127) << shift
        if byte < 128:
            return value & MASK, at + 1  # bits past the 64th are dropped, as in protobuf
        shift += 7
        if shift > 63:
            raise DecodeError("varint of more than 10 bytes", start)


def pack_varints(values: np.ndarray) -> bytes:
    """One after the other, those of an array of uint64."""
    if values.size < 24:
        return b"".join(map(varint, values.tolist()))
    if values.max() < 128:
        return values.astype(np.uint8).tobytes()
    shifts = np.arange(0, 70, 7, dtype=np.uint64)
    groups = values[:, None] >> shifts  # NumPy shifts by 63 at most: 7 bits ten times are 63 and one more
    length = 1 + (values[:, None] >= (np.uint64(1) << shifts[1:])).sum(1)
    place = np.arange(10)
    out = (groups & np.uint64(127)).astype(np.uint8) | np.where(place < length[:, None] - 1, 128, 0).astype(np.uint8)
    return out[place < length[:, None]].tobytes()


def unpack_varints(data: bytes, at: int, end: int) -> np.ndarray:
    """The varints that fill `at .. end`, as uint64."""
    if end - at < 24:
        found = []
        while at < end:
            value, at = read_varint(data, at, end)
            found.append(value)
        return np.array(found, np.uint64)
    raw = np.frombuffer(data, np.uint8, end - at, at)
    last = raw < 128
    if last.all():
        return raw.astype(np.uint64)
    ends = np.flatnonzero(last)
    if not last[-1]:
        raise DecodeError("truncated varint", at + (int(ends[-1]) + 1 if ends.size else 0))
    starts = np.concatenate([[0], ends[:-1] + 1])
    if (ends - starts > 9).any():
        raise DecodeError("varint of more than 10 bytes", at + int(starts[(ends - starts > 9).argmax()]))
    place = np.arange(raw.size) - np.repeat(starts, ends - starts + 1)
    return np.bitwise_or.reduceat((raw & 127).astype(np.uint64) << (7 * place).astype(np.uint64), starts)


# ---------------------------------------------------------------- fields


def tag(number: int, wire: int) -> bytes:
    return varint(number << 3 | wire)


def read_tag(data: bytes, at: int, end: int) -> tuple[int, int]:
    """(field number and wire type as one number, where the tag ends)."""
    found, after = read_varint(data, at, end)
    if found < 8 or found >= 1 << 32 or after - at > 5:
        raise DecodeError("no valid field number", at)
    return found, after


def read_length(data: bytes, at: int, end: int) -> tuple[int, int]:
    """(where the bytes begin, where they end) of a field that says how long it is."""
    length, start = read_varint(data, at, end)
    if length > end - start:
        raise DecodeError(f"a field of {length} bytes, of which {end - start} are there,", at)
    return start, start + length


def skip(data: bytes, at: int, end: int, found: int, depth: int = 0) -> int:
    """Where the field ends whose tag `found` was just read."""
    wire = found & 7
    if wire == VARINT:
        return read_varint(data, at, end)[1]
    if wire == BYTES:
        return read_length(data, at, end)[1]
    if wire in (FIXED32, FIXED64):
        after = at + (4 if wire == FIXED32 else 8)
        if after > end:
            raise DecodeError("truncated number", at)
        return after
    if wire == START and depth < DEPTH:
        start = at
        while at < end:
            inner, at = read_tag(data, at, end)
            if inner == found + 1:
                return at
            at = skip(data, at, end, inner, depth + 1)
        raise DecodeError("a group without an end", start)
    raise DecodeError({START: "groups nested too deep", STOP: "an end of no group"}.get(wire, f"unknown wire type {wire}"), at)


# ---------------------------------------------------------------- scalars


class Kind(NamedTuple):
    """A scalar type.

    check: the value as it is kept; raises TypeError (another type) or ValueError (out of range, no UTF-8).
    pack, unpack: between a kept value and what is on the wire: an int below 2^64 (varints) or bytes.
    many: likewise `check` for an iterable; packs, unpacks: for a whole packed array.
    """

    name: str
    wire: int
    default: Any
    check: Callable[[Any], Any]
    pack: Callable[[Any], Any]
    unpack: Callable[[Any], Any]
    many: Callable[[Iterable[Any]], list[Any]]
    packs: Callable[[list[Any]], bytes] | None = None
    unpacks: Callable[[bytes, int, int], list[Any]] | None = None


def _refuse(value: Any, expected: str) -> TypeError:
    return TypeError(f"{value!r} has type {type(value).__name__}, but expected one of: {expected}")


def _each(check: Callable[[Any], Any]) -> Callable[[Iterable[Any]], list[Any]]:
    return lambda values: [check(v) for v in values]


def _in_bulk(check: Callable[[Any], Any], kinds: str, dtype: Any, low: float, high: float) -> Callable[[Iterable[Any]], list[Any]]:
    """`check` of many numbers at once, where NumPy sees that they are all right."""
    def many(values: Iterable[Any]) -> list[Any]:
        values = values if isinstance(values, (list, tuple, np.ndarray)) else list(values)
        if len(values) > 16:
            array = values if isinstance(values, np.ndarray) else np.asarray(values)
            if array.ndim == 1 and array.dtype.kind in kinds and (array.dtype.kind == "f" or low <= array.min() and array.max() <= high):
                with np.errstate(over="ignore"):
                    return array.astype(dtype).tolist()
        return [check(v) for v in values]

    return many


def _integer(name: str, bits: int, signed: bool) -> Kind:
    low, high = (-(1 << bits - 1), (1 << bits - 1) - 1) if signed else (0, (1 << bits) - 1)
    dtype = np.dtype(f"{'i' if signed else 'u'}{bits // 8}")
    mask, sign = (1 << bits) - 1, 1 << bits - 1

    def check(value: Any) -> int:
        try:
            value = operator.index(value)
        except TypeError:
            raise _refuse(value, "int") from None
        if not low <= value <= high:
            raise ValueError(f"Value out of range: {value} for {name}")
        return value

    def unpack(raw: int) -> int:
        raw &= mask
        return raw - (sign << 1) if signed and raw & sign else raw

    return Kind(name, VARINT, 0, check, lambda v: v & MASK, unpack, _in_bulk(check, "iu", dtype, low, high),
                lambda values: pack_varints(np.array(values, np.int64 if signed else np.uint64).view(np.uint64)),
                lambda data, at, end: unpack_varints(data, at, end).astype(dtype).tolist())


def _check_bool(value: Any) -> bool:
    if isinstance(value, np.bool_):
        return bool(value)
    try:
        return bool(operator.index(value))
    except TypeError:
        raise _refuse(value, "bool, int") from None


def _real(name: str, wire: int, code: str) -> Kind:
    form, dtype = struct.Struct("<" + code), np.dtype("<" + ("f4" if code == "f" else "f8"))

    def check(value: Any) -> float:
        if isinstance(value, (str, bytes)) or not hasattr(value, "__float__") and not hasattr(value, "__index__"):
            raise _refuse(value, "int, float")
        number = float(value)
        if code == "d" or number != number:
            return number
        try:
            return form.unpack(form.pack(number))[0]
        except OverflowError:
            return float("inf") if number > 0 else float("-inf")

    return Kind(name, wire, 0.0, check, form.pack, lambda raw: form.unpack(raw)[0], _in_bulk(check, "fiu", dtype, -np.inf, np.inf),
                lambda values: np.array(values, dtype).tobytes(),
                lambda data, at, end: _whole(np.frombuffer, data, at, end, dtype))


def _whole(read: Any, data: bytes, at: int, end: int, dtype: np.dtype) -> list[Any]:
    if (end - at) % dtype.itemsize:
        raise DecodeError(f"packed numbers of {dtype.itemsize} bytes in {end - at} bytes", at)
    return read(data, dtype, (end - at) // dtype.itemsize, at).tolist()


def _check_bytes(value: Any) -> bytes:
    if type(value) is bytes:
        return value
    if isinstance(value, (bytes, bytearray, memoryview)):
        return bytes(value)
    raise _refuse(value, "bytes")


def _check_string(value: Any) -> str:
    if isinstance(value, str):
        value.encode()  # raises UnicodeEncodeError, a ValueError, on half a surrogate pair
        return str(value)
    if isinstance(value, bytes):
        try:
            return value.decode()
        except UnicodeDecodeError:
            raise ValueError(f"{value!r} has type bytes, but isn't valid UTF-8 encoding") from None
    raise _refuse(value, "bytes, str")


def enum_kind(name: str, numbers: dict[str, int]) -> Kind:
    """An int32 that may also be given by name; numbers without a name are kept (proto3)."""
    base = KINDS["int32"]

    def check(value: Any) -> int:
        if isinstance(value, str):
            if value not in numbers:
                raise ValueError(f"unknown enum label {value!r} for {name}; known: {', '.join(numbers)}")
            return numbers[value]
        return base.check(value)

    return base._replace(name=name, check=check, many=_each(check))


KINDS = {k.name: k for k in (
    *[_integer(f"{'' if signed else 'u'}int{bits}", bits, signed) for bits in (32, 64) for signed in (True, False)],
    _integer("bool", 64, False)._replace(name="bool", default=False, check=_check_bool, pack=int, unpack=bool, many=_each(_check_bool),
                                         unpacks=lambda data, at, end: (unpack_varints(data, at, end) != 0).tolist()),
    _real("float", FIXED32, "f"), _real("double", FIXED64, "d"),
    Kind("bytes", BYTES, b"", _check_bytes, lambda v: v, lambda raw: raw, _each(_check_bytes)),
    Kind("string", BYTES, "", _check_string, str.encode, bytes.decode, _each(_check_string)))}
