"""The file that `Dataset.cache(filename)` writes: elements as plain bytes, no pickle.

    "GFCACHE1" | for each component of each element: its shape and bytes | "E" and the number of elements | CRC-32 of all before

An array is `A` rank sizes bytes; strings are `S` rank sizes lengths bytes.  The file appears whole, when a first pass has been
complete (rank 9).
"""
from __future__ import annotations

import os
import struct
import zlib
from typing import Any, Callable, Sequence

import numpy as np

from .. import errors
from .streams import End, Given, Stream
from .structure import Leaf

MAGIC = b"GFCACHE1"


def stream(path: str, make: Callable[[], Stream], leaves: Sequence[Leaf], made: Any) -> Stream:
    """The elements of the file, or those of `make()`, which writes it."""
    if os.path.exists(path):
        return Given(read(path, leaves, made))
    return Writing(path, make(), leaves, made)


class Writing(Stream):
    """Passes the elements on, and keeps them in a file beside, which takes its name at the end."""

    def __init__(self, path: str, s: Stream, leaves: Sequence[Leaf], made: Any):
        self.inputs, self.path, self.leaves, self.made = (s,), path, leaves, made
        self.beside = f"{path}.{os.getpid()}.{id(self)}.part"
        self.file: Any = None
        self.crc = self.count = 0
        self.over = False

    def next(self) -> Any:
        if self.over:
            raise End
        try:
            if self.file is None:
                self.file = open(self.beside, "wb")
                self._put(MAGIC)
            try:
                found = self.inputs[0].next()
            except End:
                self._put(b"E" + struct.pack("<Q", self.count))
                self.file.write(struct.pack("<I", self.crc))
                self.file.close()
                os.replace(self.beside, self.path)
                self.over = True
                raise
            for leaf, v in zip(self.leaves, found):
                for a in leaf.arrays(v):
                    self._put(_bytes(a))
            self.count += 1
            return found
        except OSError as e:
            raise errors.raised_at(errors.UnknownError if not isinstance(e, FileNotFoundError) else errors.NotFoundError, self.made,
                                   f"cannot write the cache {self.path}: {e}") from e

    def _put(self, data: bytes) -> None:
        self.crc = zlib.crc32(data, self.crc)
        self.file.write(data)

    def close(self) -> None:
        super().close()
        if self.file is not None and not self.over:
            self.over = True
            self.file.close()
            if os.path.exists(self.beside):
                os.unlink(self.beside)


def _bytes(a: np.ndarray) -> bytes:
    head = (b"S" if a.dtype == object else b"A") + struct.pack(f"<B{a.ndim}Q", a.ndim, *a.shape)
    if a.dtype != object:
        return head + np.ascontiguousarray(a).tobytes()
    texts = [v.encode() if isinstance(v, str) else bytes(v) for v in a.reshape(-1)]
    return head + struct.pack(f"<{len(texts)}Q", *map(len, texts)) + b"".join(texts)


def read(path: str, leaves: Sequence[Leaf], made: Any) -> list[Any]:
    """The elements.  Raises DataLossError when the file is not what was written."""
    try:
        with open(path, "rb") as f:
            data = f.read()
    except OSError as e:
        raise errors.raised_at(errors.UnknownError, made, f"cannot read the cache {path}: {e}") from e
    try:
        if len(data) < len(MAGIC) + 13 or zlib.crc32(data[:-4]) != struct.unpack("<I", data[-4:])[0] or data[:len(MAGIC)] != MAGIC:
            raise ValueError("its checksum does not fit")
        reader, found = _Reader(data, len(MAGIC)), []
        while data[reader.at:reader.at + 1] != b"E":
            found.append(tuple([leaf.of_arrays([reader.array(dtype.np) for dtype, _ in leaf.specs()]) for leaf in leaves]))
        if reader.at != len(data) - 13 or reader.numbers(1, 1)[0] != len(found):
            raise ValueError("it holds elements of another structure")
        return found
    except (ValueError, struct.error, TypeError) as e:
        raise errors.raised_at(errors.DataLossError, made, f"the cache {path} is damaged, or of another dataset: {e}. Delete it") from e


class _Reader:
    def __init__(self, data: bytes, at: int):
        self.data, self.at = data, at

    def numbers(self, skip: int, n: int) -> tuple[int, ...]:
        found = struct.unpack_from(f"<{n}Q", self.data, self.at + skip)
        self.at += skip + 8 * n
        return found

    def array(self, dtype: Any) -> np.ndarray:
        kind, rank = self.data[self.at:self.at + 1], self.data[self.at + 1]
        shape = self.numbers(2, rank)
        count = int(np.prod(shape, dtype=np.int64))
        if (kind == b"S") != (dtype == np.dtype(object)):
            raise ValueError("it holds components of other dtypes")
        if kind == b"A":
            size = count * dtype.itemsize
            found = np.frombuffer(self.data, dtype, count, self.at).reshape(shape)
            self.at += size
            return found
        out = np.empty(count, object)
        lengths = self.numbers(0, count)
        for i, n in enumerate(lengths):
            out[i] = self.data[self.at:self.at + n]
            self.at += n
        return out.reshape(shape)

