"""TensorFlow's checkpoint format V2: `<prefix>.index`, a sorted table of what is stored where, and `<prefix>.data-?????-of-?????`.

The index is a table in the form of LevelDB: blocks of (key, value) pairs, a block that finds them, a footer.  The key "" has a
BundleHeaderProto, each other key, the name of a tensor, a BundleEntryProto: dtype, shape, shard, offset, size, CRC-32C.  Data
files are the tensors' bytes, little endian.  Knows bytes and paths; knows no graph and no session.

A save replaces both files at once: new ones are complete under the names `*.next` before either takes its place, and a reader
takes `*.next` where the index of that name is there.
"""
from __future__ import annotations

import os
import struct
from typing import Any, Callable, Iterable, Iterator, Mapping

import numpy as np

from .. import errors, types
from ..proto.crc32c import crc32c, masked
from ..types import DType

INDEX, DATA = ".index", ".data-00000-of-00001"
_MAGIC = bytes.fromhex("57fb808b247547db")
_FOOTER = 48
_BLOCK = 1 << 16
_CODES = {1: "float32", 2: "float64", 3: "int32", 4: "uint8", 5: "int16", 6: "int8", 7: "string", 8: "complex64", 9: "int64", 10: "bool",
          14: "bfloat16", 17: "uint16", 18: "complex128", 19: "float16", 22: "uint32", 23: "uint64"}
_NUMBERS = {name: code for code, name in _CODES.items()}


class Damaged(Exception):
    """(why, offset in the index)"""


# ---------------------------------------------------------------- the two messages


def _varint(n: int) -> bytes:
    out = bytearray()
    while n > 127:
        out.append(n & 127 | 128)
        n >>= 7
    out.append(n)
    return bytes(out)


def _read_varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while at < len(data) and shift < 64:
        byte = data[at]
        value |= (byte & 127) << shift
        at, shift = at + 1, shift + 7
        if byte < 128:
            return value & 2**64 - 1, at
    raise Damaged("a number is cut short", at)


def _fields(data: bytes) -> Iterator[tuple[int, Any]]:
    """(field number, int or bytes) of each field of a message."""
    at = 0
    while at < len(data):
        tag, at = _read_varint(data, at)
        if tag & 7 == 0:
            value: Any
            value, at = _read_varint(data, at)
        else:
            size, at = _read_varint(data, at) if tag & 7 == 2 else ({1: 8, 5: 4}.get(tag & 7, -1), at)
            if size < 0 or at + size > len(data):
                raise Damaged("an entry is cut short", at)
            value = data[at:at + size] if tag & 7 == 2 else int.from_bytes(data[at:at + size], "little")
            at += size
        yield tag >> 3, value


def _message(*fields: tuple[int, Any]) -> bytes:
    """The bytes of a message; ints of value 0 are left out, as their default."""
    out = b""
    for number, value in fields:
        if isinstance(value, bytes):
            out += _varint(number << 3 | 2) + _varint(len(value)) + value
        elif value:
            out += _varint(number << 3) + _varint(value)
    return out


def _shape(data: bytes) -> tuple[int, ...]:
    return tuple([_signed(dict(_fields(dim)).get(1, 0)) for number, dim in _fields(data) if number == 2])


def _signed(n: int) -> int:
    return n - 2**64 if n >> 63 else n


class Entry:
    """Where a tensor is: dtype, shape, shard, offset, size, masked sum, and the slices that it is stored as, if it is."""

    __slots__ = ("dtype", "shape", "shard", "offset", "size", "sum", "slices")

    def __init__(self, data: bytes):
        pairs = list(_fields(data))
        known: dict[int, Any] = dict(pairs)
        if known.get(1) not in _CODES:
            raise Damaged(f"dtype {known.get(1)!r} is unknown", 0)
        self.dtype = types.as_dtype(_CODES[known[1]])
        self.shape = _shape(known.get(2, b""))
        self.shard, self.offset, self.size, self.sum = (known.get(i, 0) for i in (3, 4, 5, 6))
        self.slices = [_slice(value) for number, value in pairs if number == 7]
        if min(self.shape, default=0) < 0 or not self.slices and self.dtype is not types.string and self.size != self._bytes():
            raise Damaged(f"{self.size} bytes for shape {list(self.shape)} of {self.dtype.name}", 0)

    def _bytes(self) -> int:
        size = self.dtype.size
        for n in self.shape:
            size *= n
        return size


def _slice(data: bytes) -> list[tuple[int, int]]:
    """(start, length) of each dimension; length -1 is all of it."""
    extents = [dict(_fields(value)) for number, value in _fields(data) if number == 1]
    return [(_signed(e.get(1, 0)), _signed(e[2]) if 2 in e else -1) for e in extents]


def _ordered(n: int) -> bytes:
    """A signed number as bytes that sort as the numbers do: the first bits say how many bytes there are."""
    positive = ~n if n < 0 else n
    length = positive.bit_length() // 7 + 1
    raw = bytearray(n.to_bytes(10, "big", signed=True)[10 - length:])
    header = (2**length - 1) << (16 - length)
    raw[0] ^= header >> 8
    if length > 8:
        raw[1] ^= header & 255
    return bytes(raw)


def _slice_key(name: str, extents: list[tuple[int, int]]) -> bytes:
    """The key that a slice of a tensor has in the index."""
    rank = len(extents)
    return (b"\x00" + name.encode().replace(b"\x00", b"\x00\xff") + b"\x00\x01" + (bytes([1, rank]) if rank else b"\x00")
            + b"".join(_ordered(start) + _ordered(length) for start, length in extents))


# ---------------------------------------------------------------- tables


def _handle(offset: int, size: int) -> bytes:
    return _varint(offset) + _varint(size)


def write_table(pairs: Iterable[tuple[bytes, bytes]]) -> bytes:
    """A table of sorted (key, value) pairs, uncompressed, without shared prefixes."""
    out = bytearray()
    finders: list[tuple[bytes, bytes]] = []

    def block(entries: list[tuple[bytes, bytes]]) -> bytes:
        data, starts = bytearray(), []
        for key, value in entries:
            starts.append(len(data))
            data += b"\x00" + _varint(len(key)) + _varint(len(value)) + key + value
        data += struct.pack(f"<{max(len(starts), 1)}II", *(starts or [0]), max(len(starts), 1))
        place = _handle(len(out), len(data))
        data += b"\x00"  # not compressed
        out.extend(data + struct.pack("<I", masked(crc32c(bytes(data)))))
        return place

    pending: list[tuple[bytes, bytes]] = []
    size = 0
    for key, value in pairs:
        pending.append((key, value))
        size += len(key) + len(value)
        if size > _BLOCK:
            finders.append((pending[-1][0], block(pending)))
            pending, size = [], 0
    if pending:
        finders.append((pending[-1][0], block(pending)))
    footer = block([]) + block(finders)
    return bytes(out) + footer.ljust(_FOOTER - 8, b"\x00") + _MAGIC


def read_table(data: bytes) -> dict[bytes, bytes]:
    """The pairs of a table.  Raises Damaged."""
    if len(data) < _FOOTER or data[-8:] != _MAGIC:
        raise Damaged("it does not end as a table does", max(len(data) - 8, 0))
    at = len(data) - _FOOTER
    for _ in range(2):
        _, at = _read_varint(data, at)
    start, at = _read_varint(data, at)
    size, at = _read_varint(data, at)
    found: dict[bytes, bytes] = {}
    for _, place in _pairs(_block(data, start, size), start):
        start, used = _read_varint(place, 0)
        size, _ = _read_varint(place, used)
        found.update(_pairs(_block(data, start, size), start))
    return found


def _block(data: bytes, start: int, size: int) -> bytes:
    end = start + size
    if end + 5 > len(data):
        raise Damaged("a block is cut short", start)
    if masked(crc32c(data[start:end + 1])) != int.from_bytes(data[end + 1:end + 5], "little"):
        raise Damaged("a block does not match its checksum", start)
    if data[end] > 1:
        raise Damaged(f"a block has the unknown compression {data[end]}", end)
    return _unsnapped(data[start:end], start) if data[end] else data[start:end]


def _unsnapped(data: bytes, where: int) -> bytes:
    """What was compressed by Snappy (github.com/google/snappy/blob/main/format_description.txt)."""
    length, at = _read_varint(data, 0)
    out = bytearray()
    while at < len(data):
        tag = data[at]
        at += 1
        if tag & 3 == 0:  # literal bytes
            n = tag >> 2
            more = max(n - 59, 0)
            n = int.from_bytes(data[at:at + more], "little") if more else n
            at += more
            out += data[at:at + n + 1]
            at += n + 1
        else:  # a copy of what was written before
            wide = tag & 3
            n = (tag >> 2 & 7) + 4 if wide == 1 else (tag >> 2) + 1
            back = (tag >> 5 << 8 | data[at]) if wide == 1 else int.from_bytes(data[at:at + (2 if wide == 2 else 4)], "little")
            at += (1, 2, 4)[wide - 1]
            if not 0 < back <= len(out):
                raise Damaged("a compressed block refers outside itself", where)
            for _ in range(n):
                out.append(out[-back])
    if len(out) != length:
        raise Damaged("a compressed block has another length than it says", where)
    return bytes(out)


def _pairs(block: bytes, where: int) -> Iterator[tuple[bytes, bytes]]:
    if len(block) < 4:
        raise Damaged("a block is too short", where)
    end = len(block) - 4 * (1 + int.from_bytes(block[-4:], "little"))
    at, key = 0, b""
    while at < end:
        shared, at = _read_varint(block, at)
        own, at = _read_varint(block, at)
        size, at = _read_varint(block, at)
        if shared > len(key) or at + own + size > end:
            raise Damaged("a block contradicts itself", where + at)
        key = key[:shared] + block[at:at + own]
        yield key, block[at + own:at + own + size]
        at += own + size


# ---------------------------------------------------------------- writing


def write(prefix: str, tensors: Mapping[str, tuple[DType, np.ndarray]], replace: Callable[[str, Iterable[bytes]], None]) -> None:
    """Writes stored arrays (bfloat16: the bits); who reads at any moment finds the checkpoint of before or this one, whole.

    Args:
        replace: puts chunks of bytes at a path in one step (checkpoint.replace_file).
    """
    entries = [(b"", _message((1, 1), (3, _message((1, 1)))))]
    chunks: list[Any] = []
    offset = 0
    for name in sorted(tensors, key=str.encode):
        dtype, array = tensors[name]
        if dtype.name not in _NUMBERS:
            raise errors.UnimplementedError(None, None, f"cannot save {name!r}: a checkpoint holds no {dtype.name}")
        raw, checksum = _text(array) if dtype is types.string else _numbers(array)
        shape = b"".join(_message((2, _message((1, n)))) for n in array.shape)
        entries.append((name.encode(), _message((1, _NUMBERS[dtype.name]), (2, shape), (4, offset), (5, raw.nbytes))
                        + b"\x35" + struct.pack("<I", checksum)))
        chunks.append(raw)
        offset += raw.nbytes
    settle(prefix)
    fresh = not os.path.exists(prefix + INDEX)
    replace(prefix + DATA + ("" if fresh else ".next"), chunks)
    replace(prefix + INDEX + ("" if fresh else ".next"), [write_table(entries)])
    settle(prefix)


def _numbers(array: np.ndarray) -> tuple[memoryview, int]:
    """(bytes, masked sum) of an array."""
    little = np.ascontiguousarray(array).astype(array.dtype.newbyteorder("<"), copy=False)
    raw: Any = memoryview(little.reshape(-1).view(np.uint8))  # type: ignore[arg-type]
    return raw, masked(crc32c(raw))


def _text(array: np.ndarray) -> tuple[memoryview, int]:
    """(lengths as varints, their masked sum, the strings; masked sum of lengths as numbers and the rest) of an array of strings."""
    items = [v.encode() if isinstance(v, str) else bytes(v) for v in array.reshape(-1)]
    total = crc32c(b"".join(struct.pack("<I" if len(v) < 2**32 else "<Q", len(v)) for v in items))
    rest = struct.pack("<I", masked(total)) + b"".join(items)
    return memoryview(b"".join(_varint(len(v)) for v in items) + rest), masked(crc32c(rest, total))


def settle(prefix: str) -> None:
    """Finishes a save that was cut off after its files were complete."""
    if os.path.exists(prefix + INDEX + ".next"):
        if os.path.exists(prefix + DATA + ".next"):
            os.replace(prefix + DATA + ".next", prefix + DATA)
        os.replace(prefix + INDEX + ".next", prefix + INDEX)


# ---------------------------------------------------------------- reading


class Bundle:
    """The tensors of one checkpoint.

    Raises:
        OSError: a file is not there.  DataLossError: one is cut short or corrupted.
    """

    def __init__(self, prefix: str):
        self.prefix = prefix
        self.path = prefix + INDEX
        self._next = os.path.exists(self.path + ".next")
        if self._next:
            self.path += ".next"
        with open(self.path, "rb") as f:
            data = f.read()
        try:
            pairs = read_table(data)
            header = dict(_fields(pairs.pop(b"")))
            self.shards = header.get(1, 0)
            self.entries = {k.decode(): Entry(v) for k, v in pairs.items() if not k.startswith(b"\x00")}
            self._slices = {k: Entry(v) for k, v in pairs.items() if k.startswith(b"\x00")}
        except Damaged as e:
            raise self._lost(self.path, *e.args) from None
        except (KeyError, UnicodeDecodeError, IndexError, struct.error) as e:
            raise self._lost(self.path, f"its entries cannot be read ({type(e).__name__}: {e})", 0) from None
        if header.get(2):
            raise errors.UnimplementedError(None, None, f"Checkpoint {self.path!r} is big endian")
        for name, e in [*self.entries.items(), *self._slices.items()]:
            if not 0 <= e.shard < max(self.shards, 1):
                raise self._lost(self.path, f"the entry of {name!r} contradicts itself", 0)
            if not e.slices:
                self._check_length(str(name), e)

    def _lost(self, path: str, why: str, offset: int) -> errors.OpError:
        return errors.DataLossError(None, None, f"Checkpoint {path!r} is damaged: {why} (at byte {offset})")

    def data_file(self, shard: int) -> str:
        path = f"{self.prefix}.data-{shard:05d}-of-{max(self.shards, 1):05d}"
        return path + ".next" if self._next and os.path.exists(path + ".next") else path

    def _check_length(self, name: str, e: Entry) -> None:
        path = self.data_file(e.shard)
        size = os.path.getsize(path)
        if e.offset + e.size > size:
            raise self._lost(path, f"it ends at byte {size}, before the data of {name!r}", e.offset)

    def raw(self, name: str, e: Entry) -> np.ndarray:
        """The bytes of an entry, as they are stored and checked."""
        path = self.data_file(e.shard)
        with open(path, "rb") as f:
            f.seek(e.offset)
            data = np.fromfile(f, np.uint8, e.size)
        if len(data) != e.size:
            raise self._lost(path, f"it ends before the data of {name!r}", e.offset)
        if e.dtype is not types.string and masked(crc32c(data)) != e.sum:
            raise self._lost(path, f"the data of {name!r} do not match their checksum", e.offset)
        return data

    def dtype(self, name: str) -> DType:
        return self.entries[name].dtype

    def shape(self, name: str) -> tuple[int, ...]:
        return self.entries[name].shape

    def stored(self, name: str) -> np.ndarray:
        """The array as a variable stores it; bfloat16 as bits, strings as objects."""
        e = self.entries[name]
        if e.slices:
            return self._assembled(name, e)
        return self._array(name, e)

    def _array(self, name: str, e: Entry) -> np.ndarray:
        data = self.raw(name, e)
        if e.dtype is types.string:
            return self._strings(name, e, data.tobytes())
        return data.view(e.dtype.np.newbyteorder("<")).astype(e.dtype.np, copy=False).reshape(e.shape)

    def _assembled(self, name: str, e: Entry) -> np.ndarray:
        """A tensor that was saved in parts (a partitioned variable)."""
        out = np.zeros(e.shape, object if e.dtype is types.string else e.dtype.np)
        for extents in e.slices:
            part = self._slices.get(_slice_key(name, extents))
            if part is None or len(extents) != len(e.shape):
                raise self._lost(self.path, f"a slice of {name!r} is missing", 0)
            out[tuple([slice(s, None if n < 0 else s + n) for s, n in extents])] = self._array(name, part)
        return out

    def _strings(self, name: str, e: Entry, data: bytes) -> np.ndarray:
        """Lengths as varints, a checksum of them, the bytes."""
        count = int(np.prod(e.shape))
        lengths, at, total = [], 0, 0
        try:
            for _ in range(count):
                n, at = _read_varint(data, at)
                lengths.append(n)
                total = crc32c(struct.pack("<I" if n < 2**32 else "<Q", n), total)
        except Damaged:
            raise self._lost(self.data_file(e.shard), f"the data of {name!r} end early", e.offset) from None
        stored = data[at:at + 4]
        total = crc32c(data[at:], total)
        at += 4
        if len(stored) < 4 or at + sum(lengths) != len(data) or masked(total) != e.sum:
            raise self._lost(self.data_file(e.shard), f"the data of {name!r} do not match their checksum", e.offset)
        out = np.empty(count, object)
        for i, n in enumerate(lengths):
            out[i], at = data[at:at + n], at + n
        return out.reshape(e.shape)
