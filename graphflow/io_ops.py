"""Files as ops: `read_file`, `write_file`, `matching_files`, and readers, which give the records of the files named by a queue (rank 9)."""
from __future__ import annotations

import glob
import json
import os
import threading
from itertools import islice
from typing import Any, Callable, Iterator

import numpy as np

from . import errors, types
from .graph import Operation, Spec, Tensor
from .ops.opdef import convert_to_tensor, primitive
from .ops.resource import handle_op, object_of, resource_op
from .proto.records import file_errors, opened, path_of, read_records
from .types import UNKNOWN

__all__ = ["FixedLengthRecordReader", "IdentityReader", "ReaderBase", "TFRecordReader", "TextLineReader", "WholeFileReader",
           "matching_files", "read_file", "write_file"]

_STRING = (types.string,)


# ---------------------------------------------------------------- whole files


@primitive("host", effect="outside", type="ReadFile", dtypes=_STRING, infer=lambda filename: Spec(types.string, ()), no_gradient="bytes")
def read_file_op(filename):
    """The contents of the file, now."""


@read_file_op.reference
def _(filename):
    path = path_of(_scalar(filename, "filename"))
    with file_errors(path), open(path, "rb") as f:
        return np.array(f.read(), object)


@primitive("host", effect="host", type="WriteFile", dtypes=_STRING, infer=lambda filename, contents: [], no_gradient="it has no output")
def write_file_op(filename, contents):
    """Writes the file."""


@write_file_op.reference
def _(filename, contents):
    path = path_of(_scalar(filename, "filename"))
    with file_errors(path):
        os.makedirs(os.path.dirname(path) or ".", exist_ok=True)
        with open(path, "wb") as f:
            f.write(_bytes(_scalar(contents, "contents")))
    return []


@primitive("host", effect="outside", type="MatchingFiles", dtypes=_STRING, infer=lambda pattern: Spec(types.string, (UNKNOWN,)),
           no_gradient="names")
def matching_files_op(pattern):
    """The names of the files there are."""


@matching_files_op.reference
def _(pattern):
    found = {path_of(name) for p in pattern.reshape(-1) for name in glob.glob(path_of(p))}
    return np.array([os.fsencode(name) for name in sorted(found)], object)


def _scalar(a: np.ndarray, what: str) -> Any:
    if a.ndim:
        raise ValueError(f"Input {what} must be scalar, but had shape: {types.shape_text(a.shape)}")
    return a.item()


def _bytes(value: Any) -> bytes:
    return value.encode() if isinstance(value, str) else bytes(value)


def read_file(filename: Any, name: str | None = None) -> Tensor:
    """The contents of the file as a string scalar.  Raises NotFoundError (at run time)."""
    return read_file_op(convert_to_tensor(filename, types.string), name=name)


def write_file(filename: Any, contents: Any, name: str | None = None) -> Operation:
    """An operation that writes the string `contents` to the file, and makes the folders for it."""
    return write_file_op(convert_to_tensor(filename, types.string), convert_to_tensor(contents, types.string), name=name)


def matching_files(pattern: Any, name: str | None = None) -> Tensor:
    """A string vector with the names of the files that match `pattern`, or one of a vector of them; sorted."""
    return matching_files_op(convert_to_tensor(pattern, types.string), name=name)


# ---------------------------------------------------------------- the records of a file

Records = Iterator[tuple[bytes, bytes]]  # (key, value)


def _lines(path: bytes, skip: int) -> Records:
    name = path_of(path)
    with opened(name, "") as f:
        for number, line in enumerate(f, 1):
            if number > skip:
                yield path + b":%d" % number, line.rstrip(b"\n").replace(b"\r", b"")


def _whole(path: bytes) -> Records:
    with opened(path_of(path), "") as f:
        yield path, f.read()


def _fixed(path: bytes, size: int, header: int, footer: int, hop: int, encoding: str) -> Records:
    """Records of `size` bytes, one every `hop`, between header and footer."""
    name = path_of(path)
    with opened(name, encoding) as f:
        f.read(header)
        ahead = b""  # read but not given yet: the footer, and what records share
        number = 0
        while True:
            while len(ahead) < size + footer and (more := f.read(max(1 << 16, size + footer - len(ahead)))):
                ahead += more
            at = 0
            while at + size + footer <= len(ahead):
                yield path + b":%d" % number, ahead[at:at + size]
                number, at = number + 1, at + hop
            if not at:
                return
            if at > len(ahead):
                f.read(at - len(ahead))
            ahead = ahead[at:]


def _tf_records(path: bytes, compression: str) -> Records:
    for offset, record in read_records(path_of(path), compression):
        yield path + b":%d" % offset, record


def _itself(path: bytes) -> Records:
    yield path, path


class Reader:
    """Takes names from a queue and gives the records of the files, one after the other.  One thread at a time reads."""

    def __init__(self, op: Operation, records: Callable[..., Records], single: bool = False):
        self.records, self.single = records, single  # single: a file is one record
        self.serializes = single
        self.free, self.busy = threading.Condition(threading.Lock()), False
        self.reset()

    def reset(self) -> None:
        self.file: Records | None = None
        self.started = self.finished = self.produced = 0

    def alone(self, access: Any, work: Callable[[], Any]) -> Any:
        """`work()` while no other thread reads."""
        with self.free:
            access.wait(self.free, lambda: not self.busy)
            self.busy = True
        try:
            return work()
        finally:
            with self.free:
                self.busy = False
                self.free.notify_all()

    def read(self, access: Any, queue: Any, most: int) -> list[tuple[bytes, bytes]]:
        """At least one record, and at most `most` of one file.  What a failing file still had is left out."""
        while True:
            if self.file is None:
                name, = queue.take(access, 1)[0]
                self.file, self.started = self.records(_bytes(_scalar(name, "the element of the queue"))), self.started + 1
            try:
                found = list(islice(self.file, most))
            except BaseException:
                self.file, self.finished = None, self.started
                raise
            if len(found) < most or self.single:
                self.file, self.finished = None, self.started
            if found:
                self.produced += len(found)
                return found

    def state(self) -> bytes:
        if not self.serializes:
            raise errors.UnimplementedError(None, None, "Reader SerializeState")
        return json.dumps([self.started, self.finished, self.produced]).encode()

    def restore(self, state: bytes) -> None:
        if not self.serializes:
            raise errors.UnimplementedError(None, None, "Reader RestoreState")
        try:
            started, finished, produced = map(int, json.loads(state))
        except (ValueError, TypeError):
            raise errors.InvalidArgumentError(None, None, f"Could not parse state for reader: {state[:40]!r}") from None
        self.reset()
        self.started, self.finished, self.produced = started, finished, produced


@handle_op("TextLineReaderV2", lambda op: Reader(op, lambda path: _lines(path, op.attrs["skip_header_lines"])), "TextLineReaderV2")
def _text_line(*, skip_header_lines=0, container="", shared_name=""):
    """A handle."""


@handle_op("WholeFileReaderV2", lambda op: Reader(op, _whole, True), "WholeFileReaderV2")
def _whole_file(*, container="", shared_name=""):
    """A handle."""


@handle_op("FixedLengthRecordReaderV2", lambda op: Reader(op, lambda path: _fixed(path, *[op.attrs[k] for k in (
    "record_bytes", "header_bytes", "footer_bytes", "hop_bytes", "encoding")])), "FixedLengthRecordReaderV2")
def _fixed_length(*, record_bytes, header_bytes=0, footer_bytes=0, hop_bytes=0, encoding="", container="", shared_name=""):
    """A handle."""


@handle_op("TFRecordReaderV2", lambda op: Reader(op, lambda path: _tf_records(path, op.attrs["compression_type"])), "TFRecordReaderV2")
def _tf_record(*, compression_type="", container="", shared_name=""):
    """A handle."""


@handle_op("IdentityReaderV2", lambda op: Reader(op, _itself, True), "IdentityReaderV2")
def _identity(*, container="", shared_name=""):
    """A handle."""


@resource_op("ReaderReadV2", lambda reader, queue: [Spec(types.string, ())] * 2, blocks=True)
def reader_read(reader, queue):
    """Key and value of the next record; waits for the queue."""


@reader_read.performs
def _(access, op, arrays):
    reader, queue = object_of(access, op, arrays), object_of(access, op, arrays, 1)
    found, = reader.alone(access, lambda: reader.read(access, queue, 1))
    return [np.array(part, object) for part in found]


@resource_op("ReaderReadUpToV2", lambda reader, queue, n: [Spec(types.string, (UNKNOWN,))] * 2, blocks=True)
def reader_read_up_to(reader, queue, num_records):
    """Keys and values of at most `num_records` records of one file; waits for the queue."""


@reader_read_up_to.performs
def _(access, op, arrays):
    reader, queue, n = object_of(access, op, arrays), object_of(access, op, arrays, 1), int(arrays[2])
    if n < 1:
        raise errors.InvalidArgumentError(None, None, f"num_records must be positive, got {n}")
    found = reader.alone(access, lambda: reader.read(access, queue, n))
    return [np.array(part, object) for part in zip(*found)]


def _told(type: str, dtype: types.DType, value: Callable[[Reader], Any]) -> Any:
    """An op that tells something of a reader."""
    def tell(reader):  # type: ignore[no-untyped-def]
        """What the reader says."""

    op = resource_op(type, lambda reader: Spec(dtype, ()))(tell)
    op.performs(lambda access, op, arrays: [np.array(value(object_of(access, op, arrays)), dtype.np)])
    return op


_produced = _told("ReaderNumRecordsProducedV2", types.int64, lambda r: r.produced)
_completed = _told("ReaderNumWorkUnitsCompletedV2", types.int64, lambda r: r.finished)
_state = _told("ReaderSerializeStateV2", types.string, Reader.state)


@resource_op("ReaderRestoreStateV2", lambda reader, state: [])
def _restore(reader, state):
    """Goes back to a state."""


@_restore.performs
def _(access, op, arrays):
    reader = object_of(access, op, arrays)
    reader.alone(access, lambda: reader.restore(_bytes(_scalar(arrays[1], "state"))))
    return []


@resource_op("ReaderResetV2", lambda reader: [])
def _reset(reader):
    """Goes back to the beginning."""


@_reset.performs
def _(access, op, arrays):
    reader = object_of(access, op, arrays)
    reader.alone(access, reader.reset)
    return []


# ---------------------------------------------------------------- readers


class ReaderBase:
    """What all readers share: they take names of files from a queue, and give records as (key, value).

    reader_ref: the handle.  supports_serialize: whether `serialize_state` works.
    """

    def __init__(self, reader_ref: Tensor, supports_serialize: bool = False):
        self._reader_ref, self._supports_serialize = reader_ref, supports_serialize

    @property
    def reader_ref(self) -> Tensor:
        """The handle, a string scalar."""
        return self._reader_ref

    def read(self, queue: Any, name: str | None = None) -> tuple[Tensor, Tensor]:
        """(key, value) of the next record, two string scalars; takes names from `queue` as it needs them, and waits for it.

        Raises (at run time):
            OutOfRangeError: the queue is closed and empty.  NotFoundError: no such file.  DataLossError: it is damaged.
        """
        return tuple(reader_read(self._reader_ref, getattr(queue, "queue_ref", queue), name=name or "ReaderReadV2"))  # type: ignore

    def read_up_to(self, queue: Any, num_records: Any, name: str | None = None) -> tuple[Tensor, Tensor]:
        """(keys, values) of at most `num_records` records, fewer at the end of a file.  See `read`."""
        found = reader_read_up_to(self._reader_ref, getattr(queue, "queue_ref", queue), convert_to_tensor(num_records, types.int64),
                                  name=name or "ReaderReadUpToV2")
        return tuple(found)  # type: ignore[return-value]

    def num_records_produced(self, name: str | None = None) -> Tensor:
        """How many records it has given; int64."""
        return _produced(self._reader_ref, name=name)  # type: ignore[no-any-return]

    def num_work_units_completed(self, name: str | None = None) -> Tensor:
        """How many files it has read to the end; int64."""
        return _completed(self._reader_ref, name=name)  # type: ignore[no-any-return]

    def serialize_state(self, name: str | None = None) -> Tensor:
        """Its state as a string; UnimplementedError (at run time) for readers that cannot."""
        return _state(self._reader_ref, name=name)  # type: ignore[no-any-return]

    def restore_state(self, state: Any, name: str | None = None) -> Operation:
        """Goes back to a state that `serialize_state` gave.  Raises InvalidArgumentError (at run time) when it is none."""
        return _restore(self._reader_ref, convert_to_tensor(state, types.string), name=name)

    @property
    def supports_serialize(self) -> bool:
        return self._supports_serialize

    def reset(self, name: str | None = None) -> Operation:
        """Forgets the file it reads and all counts."""
        return _reset(self._reader_ref, name=name)


class WholeFileReader(ReaderBase):
    """A file is one record: its name and its contents."""

    def __init__(self, name: str | None = None):
        super().__init__(_whole_file(name=name), supports_serialize=True)


class TextLineReader(ReaderBase):
    """A line is a record: "file:number" and the text without the end of the line.  The first `skip_header_lines` are left out."""

    def __init__(self, skip_header_lines: int | None = None, name: str | None = None):
        super().__init__(_text_line(skip_header_lines=int(skip_header_lines or 0), name=name))


class FixedLengthRecordReader(ReaderBase):
    """Records of `record_bytes` bytes: "file:number", counted from 0, and the bytes.

    Args:
        header_bytes, footer_bytes: left out at the beginning and end of a file.
        hop_bytes: from the beginning of a record to that of the next; 0 for `record_bytes`.
        encoding: "", "ZLIB" or "GZIP": how files are compressed.

    Raises:
        ValueError: a negative number, or `record_bytes` is 0.
    """

    def __init__(self, record_bytes: int, header_bytes: int | None = None, footer_bytes: int | None = None, hop_bytes: int | None = None,
                 name: str | None = None, encoding: str | None = None):
        header, footer, hop = header_bytes or 0, footer_bytes or 0, hop_bytes or 0
        if record_bytes <= 0 or min(header, footer, hop) < 0:
            raise ValueError(f"record_bytes must be > 0 and header_bytes, footer_bytes, hop_bytes >= 0, got {record_bytes}, {header}, "
                             f"{footer}, {hop}")
        super().__init__(_fixed_length(record_bytes=int(record_bytes), header_bytes=int(header), footer_bytes=int(footer),
                                       hop_bytes=int(hop or record_bytes), encoding=encoding or "", name=name))


class TFRecordReader(ReaderBase):
    """The records of TFRecord files: "file:offset" and the bytes.  `options`: `tf.python_io.TFRecordOptions` with a compression."""

    def __init__(self, name: str | None = None, options: Any = None):
        from .python_io import TFRecordOptions

        super().__init__(_tf_record(compression_type=TFRecordOptions.get_compression_type_string(options) or "", name=name))


class IdentityReader(ReaderBase):
    """An element of the queue is a record: both its key and its value."""

    def __init__(self, name: str | None = None):
        super().__init__(_identity(name=name), supports_serialize=True)
