"""Files of records, as TFRecord and event files are: each record with its length and checksums of both.

    uint64 length | uint32 masked CRC-32C of it | the bytes | uint32 masked CRC-32C of them      (little-endian)

`read_records` and `RecordWriter` are what datasets, readers and summaries build on; the classes of `tf.python_io` follow.
"""
from __future__ import annotations

import os
import struct
import zlib
from contextlib import contextmanager
from typing import Any, Iterator

import numpy as np

from .. import errors
from .crc32c import crc32c, crc32c_many, masked

__all__ = ["RecordWriter", "TFRecordCompressionType", "TFRecordOptions", "TFRecordWriter", "read_records", "tf_record_iterator"]

COMPRESSIONS = ("", "ZLIB", "GZIP")
_LENGTH, _CRC = struct.Struct("<Q"), struct.Struct("<I")
HEADER, FOOTER = 12, 4


# ---------------------------------------------------------------- reading


def read_records(path: Any, compression: str = "", chunk: int = 1 << 16) -> Iterator[tuple[int, bytes]]:
    """(offset, bytes) of each record, in order.

    Args:
        compression: "", "GZIP" or "ZLIB".
        chunk: how many bytes are read first; later reads are larger, up to 4 MB.

    Raises:
        NotFoundError, PermissionDeniedError, ...: the file cannot be opened.
        DataLossError: a checksum does not fit, or the file ends in the middle of a record; names the file and the offset (after
            decompression).  The records before are given first.
    """
    path = path_of(path)
    with opened(path, compression) as stream:
        base, data, end = 0, b"", False
        while not end:
            more = b"".join(_pieces(stream, chunk))
            chunk, end, data = min(chunk * 2, 1 << 22), not more, data + more
            starts, lengths, rest = _scan(data)
            bad = _first_bad(data, starts, lengths)
            for start, length in zip(starts[:bad], lengths[:bad]):
                yield base + start, data[start + HEADER:start + HEADER + length]
            if bad < len(starts):
                raise _loss(path, f"corrupted record at {base + starts[bad]}")
            base, data = base + rest, data[rest:]
            if data and not end:  # a long record: all of it at once
                chunk = max(chunk, _needed(data, path, base) - len(data))
        if data:
            raise _loss(path, f"truncated record at {base}")


def _pieces(stream: Any, size: int) -> Iterator[bytes]:
    """`size` bytes or all that there are: nothing is allocated for those that a broken file only promises."""
    while size > 0 and (piece := stream.read(min(size, 1 << 24))):
        size -= len(piece)
        yield piece


def _scan(data: bytes) -> tuple[list[int], list[int], int]:
    """(where the whole records begin, how long they are, where what is left begins)."""
    starts, lengths, at, size, length_of = [], [], 0, len(data), _LENGTH.unpack_from
    while at + HEADER <= size:
        length, = length_of(data, at)
        if length > size - at - HEADER - FOOTER:
            break
        starts.append(at)
        lengths.append(length)
        at += HEADER + length + FOOTER
    return starts, lengths, at


def _needed(data: bytes, path: str, base: int) -> int:
    """The bytes of the record that begins `data`, if its length can be believed."""
    if len(data) < HEADER:
        return HEADER
    if masked(crc32c(data[:8])) != _CRC.unpack_from(data, 8)[0]:
        raise _loss(path, f"corrupted record at {base} (Is this even a TFRecord file?)")
    return HEADER + _LENGTH.unpack_from(data)[0] + FOOTER


def _first_bad(data: bytes, starts: list[int], lengths: list[int]) -> int:
    """The index of the first record that does not fit its checksums, or the number of records."""
    if len(starts) < 4:
        return next((i for i, (s, n) in enumerate(zip(starts, lengths)) if not _fits(data, s, n)), len(starts))
    array, begin, size = np.frombuffer(data, np.uint8), np.array(starts), np.array(lengths)
    right = np.ones(len(starts), bool)
    for at, length, checksum in ((begin, np.full_like(begin, 8), begin + 8), (begin + HEADER, size, begin + HEADER + size)):
        stored = np.ascontiguousarray(array[checksum[:, None] + np.arange(4)]).view("<u4")[:, 0]
        right &= masked(crc32c_many(array, at, length)) == stored
    return len(starts) if right.all() else int(right.argmin())


def _fits(data: bytes, start: int, length: int) -> bool:
    body = data[start + HEADER:start + HEADER + length]
    return (masked(crc32c(data[start:start + 8])) == _CRC.unpack_from(data, start + 8)[0]
            and masked(crc32c(body)) == _CRC.unpack_from(data, start + HEADER + length)[0])


def _loss(path: str, what: str) -> errors.OpError:
    return errors.DataLossError(None, None, f"{what} of {path}")


# ---------------------------------------------------------------- files


def path_of(path: Any) -> str:
    """A path as text, from text, bytes or an os.PathLike."""
    return os.fsdecode(os.fspath(path))


_KINDS = ((FileNotFoundError, errors.NotFoundError), (PermissionError, errors.PermissionDeniedError),
          ((IsADirectoryError, NotADirectoryError), errors.FailedPreconditionError), (OSError, errors.UnknownError))


@contextmanager
def file_errors(path: str) -> Iterator[None]:
    """Python's errors of files as TF1's."""
    try:
        yield
    except OSError as e:
        raise file_error(path, e) from None


def file_error(path: str, e: OSError) -> errors.OpError:
    kind = next(found for python, found in _KINDS if isinstance(e, python))  # type: ignore[arg-type]
    return kind(None, None, f"{path}; {e.strerror or e}")


@contextmanager
def opened(path: str, compression: str) -> Iterator[Any]:
    """Something with `read(size)` that gives the decompressed bytes of a file."""
    if compression not in COMPRESSIONS:
        raise errors.InvalidArgumentError(None, None, f"Unsupported compression_type: {compression!r}; expected one of {COMPRESSIONS}")
    with file_errors(path), open(path, "rb") as f:
        yield Decompressed(f, compression, path) if compression else f


class Decompressed:
    """Reads a ZLIB or GZIP file; the latter may have several members.  Raises DataLossError on what is no such file."""

    def __init__(self, file: Any, compression: str, path: str):
        self._file, self._path, self._at, self._any = file, path, 0, False
        self._bits = 31 if compression == "GZIP" else 15
        self._stream, self._waiting = zlib.decompressobj(self._bits), b""

    def read(self, size: int) -> bytes:
        """At most `size` bytes; fewer only at the end."""
        parts: list[bytes] = []
        while size > 0:
            if not self._waiting and not self._stream.eof:
                self._waiting = self._file.read(1 << 18)
                self._any |= bool(self._waiting)
                if not self._waiting:
                    if self._any:
                        raise _loss(self._path, f"truncated {'gzip' if self._bits > 15 else 'zlib'} stream at {self._at}")
                    break
            if self._stream.eof:
                self._waiting = self._waiting or self._file.read(1 << 18)
                if not self._waiting.rstrip(b"\0"):
                    break
                self._stream = zlib.decompressobj(self._bits)
            try:
                parts.append(self._stream.decompress(self._waiting, size))
            except zlib.error as e:
                raise _loss(self._path, f"inflate() failed at {self._at} ({e})") from None
            self._waiting = self._stream.unused_data if self._stream.eof else self._stream.unconsumed_tail
            self._at += len(parts[-1])
            size -= len(parts[-1])
        return b"".join(parts)


# ---------------------------------------------------------------- writing


class RecordWriter:
    """Writes records to a file; a context manager.

    Args:
        path: the file, which is emptied, unless `append`.
        compression: "", "GZIP" or "ZLIB".
        level: zlib's, 0 .. 9, or -1; the other arguments of `zlib.compressobj` follow by keyword.

    Raises:
        NotFoundError, PermissionDeniedError, ...: the file cannot be written.  FailedPreconditionError: it is closed.
    """

    def __init__(self, path: Any, compression: str = "", level: int = -1, window_bits: int = 15, mem_level: int = 8, strategy: int = 0,
                 append: bool = False):
        if compression not in COMPRESSIONS:
            raise errors.InvalidArgumentError(None, None, f"Unsupported compression_type: {compression!r}; expected one of {COMPRESSIONS}")
        self.path = path_of(path)
        bits = window_bits + 16 if compression == "GZIP" and 0 < window_bits < 16 else window_bits
        self._zlib = zlib.compressobj(level, zlib.DEFLATED, bits, mem_level, strategy) if compression else None
        with file_errors(self.path):
            self._file: Any = open(self.path, "ab" if append else "wb", buffering=1 << 16)

    def write(self, record: Any) -> None:
        """Appends a record of bytes."""
        if self._file is None:
            raise errors.FailedPreconditionError(None, None, f"Writer of {self.path} is closed.")
        length = _LENGTH.pack(len(record))
        self._put(b"".join((length, _CRC.pack(masked(crc32c(length))), record, _CRC.pack(masked(crc32c(record))))))

    def _put(self, data: bytes) -> None:
        try:
            self._file.write(data if self._zlib is None else self._zlib.compress(data))
        except OSError as e:
            raise file_error(self.path, e) from None

    def flush(self) -> None:
        """Hands all that was written to the operating system."""
        if self._file is None:
            raise errors.FailedPreconditionError(None, None, f"Writer of {self.path} is closed.")
        with file_errors(self.path):
            if self._zlib is not None:
                self._file.write(self._zlib.flush(zlib.Z_SYNC_FLUSH))
            self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            file, self._file = self._file, None
            with file_errors(self.path), file:
                if self._zlib is not None:
                    file.write(self._zlib.flush())

    def __enter__(self) -> Any:
        return self

    def __exit__(self, *problem: Any) -> None:
        self.close()

    def __del__(self) -> None:
        if getattr(self, "_file", None) is not None:
            self.close()


# ---------------------------------------------------------------- tf.python_io


class TFRecordCompressionType:
    """How a file of records is compressed."""

    NONE, ZLIB, GZIP = range(3)


class TFRecordOptions:
    """How a file of records is compressed, by name ("", "ZLIB", "GZIP") or TFRecordCompressionType, or as other options are.

    The sizes of buffers, the flush mode and the method are accepted; zlib's window bits (9 .. 15), level (0 .. 9), memory level and
    strategy count.

    Raises:
        ValueError: another compression.
    """

    compression_type_map = dict(enumerate(COMPRESSIONS))

    def __init__(self, compression_type: Any = None, flush_mode: Any = None, input_buffer_size: Any = None, output_buffer_size: Any = None,
                 window_bits: int | None = None, compression_level: int | None = None, compression_method: Any = None,
                 mem_level: int | None = None, compression_strategy: int | None = None):
        self.get_compression_type_string(compression_type)
        self.compression_type = compression_type
        self.flush_mode, self.input_buffer_size, self.output_buffer_size = flush_mode, input_buffer_size, output_buffer_size
        self.window_bits, self.compression_level, self.compression_method = window_bits, compression_level, compression_method
        self.mem_level, self.compression_strategy = mem_level, compression_strategy

    @classmethod
    def get_compression_type_string(cls, options: Any) -> str:
        """"", "ZLIB" or "GZIP" of options, a number, a name or None.  Raises ValueError."""
        if options is None or options == "":
            return ""
        if isinstance(options, TFRecordOptions):
            return cls.get_compression_type_string(options.compression_type)
        if isinstance(options, int) and options in cls.compression_type_map:
            return cls.compression_type_map[options]
        if options in COMPRESSIONS:
            return options
        raise ValueError(f'Not a valid compression_type: "{options}"; expected one of {COMPRESSIONS}')

    def zlib_arguments(self) -> dict[str, int]:
        """What `RecordWriter` is told."""
        found = {"level": self.compression_level, "window_bits": self.window_bits, "mem_level": self.mem_level,
                 "strategy": self.compression_strategy}
        return {k: v for k, v in found.items() if v is not None}


class TFRecordWriter(RecordWriter):
    """Writes records to a TFRecord file; a context manager.  `options` are TFRecordOptions or what they are made of.

    Raises:
        NotFoundError, PermissionDeniedError, ...: the file cannot be written.  ValueError: no such compression.
        TypeError: a record that is no bytes or str.  FailedPreconditionError: the writer is closed.
    """

    def __init__(self, path: Any, options: Any = None):
        options = options if isinstance(options, TFRecordOptions) else TFRecordOptions(options)
        super().__init__(path, TFRecordOptions.get_compression_type_string(options), **options.zlib_arguments())

    def write(self, record: Any) -> None:
        """Appends a record of bytes; a str is written as UTF-8."""
        record = record.encode() if isinstance(record, str) else record
        if not isinstance(record, (bytes, bytearray, memoryview)):
            raise TypeError(f"a record is bytes, got {record!r} of type {type(record).__name__}; call SerializeToString() on a message")
        super().write(bytes(record))


def tf_record_iterator(path: Any, options: Any = None) -> Iterator[bytes]:
    """The records of a TFRecord file.

    Raises:
        NotFoundError: there is no such file.  DataLossError: it is broken; names the file and the offset.
    """
    compression = TFRecordOptions.get_compression_type_string(options)
    return (record for _, record in read_records(path, compression))
