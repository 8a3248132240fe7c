"""Datasets of what stands in files: lines, TFRecords, records of fixed length (rank 9)."""
from __future__ import annotations

import os
from typing import Any, Callable, Iterator

import numpy as np

from .. import errors, types
from ..proto import records
from . import streams
from .dataset import Dataset, Run, _component, _leaf, _number, _started, threads
from .streams import Stream
from .structure import Leaf

STRING = Leaf(types.string, ())
CHUNK = 1 << 18


class _Files(Dataset):
    """The records of files, one file after another or several in turn."""

    def __init__(self, type: str, filenames: Any, compression_type: Any, num_parallel_reads: Any, operands: list[Any],
                 read: Callable[..., Iterator[bytes]]):
        names = filenames if isinstance(filenames, Dataset) else _names(filenames)
        if [names.element] != [STRING] and not (isinstance(names.element, Leaf) and names.element.dtype is types.string
                                               and names.element.sizes in ((), None)):
            raise TypeError(f"`filenames` must be a `tf.data.Dataset` of scalar `tf.string` elements or strings, got {names.element!r}")
        self._kind = _component("" if compression_type is None else compression_type)
        self._reads = None if num_parallel_reads is None else _number(num_parallel_reads, "num_parallel_reads")
        self._numbers, self._read, self._names = operands, read, names
        super().__init__(type, STRING, self._start, [names], [self._kind, self._reads, *operands])

    def _start(self, run: Run) -> Stream:
        kind = _text(run.value(self._kind))
        if kind not in ("", "GZIP", "ZLIB"):
            raise self._failed(f"Unsupported compression_type: {kind!r}; expected '', 'GZIP' or 'ZLIB'")
        numbers = [run.number(x, "an argument", self) for x in self._numbers]

        def of_file(name: Any) -> Stream:
            path = _text(name[0])
            return streams.Pulled(lambda: self._read(path, kind, *numbers), lambda record: (_scalar(record),), self._named)

        names = streams.rowless(self._names.stream(run))
        if self._reads is None:
            return streams.Flat(names, of_file)
        n = threads(run.number(self._reads, "num_parallel_reads", self))
        if n < 1:
            raise self._failed(f"num_parallel_reads must be greater than zero, got {n}")
        return streams.Interleave(names, lambda name: _started(of_file(name), 64), n, 1) if n > 1 else streams.Flat(names, of_file)

    def _named(self, e: Exception) -> Exception:
        if isinstance(e, errors.OpError):
            return errors.raised_at(type(e), self, e.message) if e.op is None else e
        return errors.raised_at(errors.UnknownError, self, f"{type(e).__name__}: {e}")


class TextLineDataset(_Files):
    """The lines of text files, without their ends.

    Args:
        filenames: strings, a tensor of them, or a dataset of string scalars.
        compression_type: "", "ZLIB" or "GZIP".
        buffer_size: accepted.
        num_parallel_reads: how many files are read at a time, in turn.

    Raises:
        NotFoundError (at run time): no such file.  DataLossError: a damaged compressed file.
    """

    def __init__(self, filenames: Any, compression_type: Any = None, buffer_size: Any = None, num_parallel_reads: Any = None):
        super().__init__("TextLineDataset", filenames, compression_type, num_parallel_reads, [], _lines)


class TFRecordDataset(_Files):
    """The records of TFRecord files, as bytes.

    Args:
        filenames, compression_type, buffer_size, num_parallel_reads: as for `TextLineDataset`.

    Raises:
        NotFoundError (at run time): no such file.  DataLossError: a damaged file; says at which offset.
    """

    def __init__(self, filenames: Any, compression_type: Any = None, buffer_size: Any = None, num_parallel_reads: Any = None):
        super().__init__("TFRecordDataset", filenames, compression_type, num_parallel_reads, [],
                         lambda path, kind: (record for _, record in records.read_records(path, kind)))


class FixedLengthRecordDataset(_Files):
    """Records of `record_bytes` bytes that stand in files behind a header and before a footer.

    Args:
        filenames, buffer_size, compression_type, num_parallel_reads: as for `TextLineDataset`.
        record_bytes, header_bytes, footer_bytes: sizes.

    Raises:
        InvalidArgumentError (at run time): the bytes between header and footer are no multiple of `record_bytes`.
    """

    def __init__(self, filenames: Any, record_bytes: Any, header_bytes: Any = None, footer_bytes: Any = None, buffer_size: Any = None,
                 compression_type: Any = None, num_parallel_reads: Any = None):
        sizes = [_number(v, what) for v, what in ((record_bytes, "record_bytes"), (header_bytes or 0, "header_bytes"),
                                                  (footer_bytes or 0, "footer_bytes"))]
        super().__init__("FixedLengthRecordDataset", filenames, compression_type, num_parallel_reads, sizes, _fixed)


def _names(filenames: Any) -> Dataset:
    value = _component(os.fspath(filenames) if isinstance(filenames, os.PathLike) else filenames)
    leaf = _leaf(value)
    if leaf.dtype is not types.string:
        raise TypeError(f"`filenames` must be a `tf.data.Dataset` of scalar strings or a tensor of `tf.string`, got {leaf!r}")
    def make(run: Run) -> Stream:
        return streams.Given([(_scalar(v),) for v in np.asarray(run.value(value), object).reshape(-1)])

    return Dataset("FileNames", STRING, make, operands=[value])


def _text(name: Any) -> str:
    return os.fsdecode(np.asarray(name, object).item())


def _scalar(value: Any) -> np.ndarray:
    found = np.empty((), object)
    found[()] = value
    return found


def _lines(path: str, kind: str) -> Iterator[bytes]:
    rest = b""
    with records.opened(path, kind) as f:
        while data := f.read(CHUNK):
            lines = (rest + data).replace(b"\r", b"").split(b"\n")
            rest = lines.pop()
            yield from lines
    if rest:
        yield rest


def _fixed(path: str, kind: str, size: int, header: int, footer: int) -> Iterator[bytes]:
    if size < 1:
        raise errors.InvalidArgumentError(None, None, f"record_bytes must be greater than zero, got {size}")
    with records.opened(path, kind) as f:
        data, skip = b"", header
        while more := f.read(CHUNK):
            data += more
            if skip:
                cut = min(skip, len(data))
                data, skip = data[cut:], skip - cut
            whole = max(0, len(data) - footer) // size * size
            for i in range(0, whole, size):
                yield data[i:i + size]
            data = data[whole:]
    if skip or len(data) != footer:
        raise errors.InvalidArgumentError(None, None, f"Excess bytes: {len(data) - footer} bytes between header and footer of {path} are "
                                          f"no whole record of {size} bytes (header {header}, footer {footer})")
