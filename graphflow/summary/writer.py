"""Event files: `FileWriter` hands events to a thread, which writes them as records into a file that TensorBoard reads."""
from __future__ import annotations

import os
import queue
import socket
import struct
import threading
import time
import warnings
import weakref
from typing import Any

from .. import errors, proto
from .. import graph_def as graph_definition
from ..graph import Graph
from ..ops import summaries
from ..platform import gfile
from ..proto import records, wire
from . import graph_wire

__all__ = ["EventFileWriter", "FileWriter", "FileWriterCache", "SummaryToEventTransformer"]

BUFFER = 1 << 20  # bytes that wait in memory at most


class EventFileWriter:
    """A file `events.out.tfevents.<seconds>.<host><suffix>` in `logdir`, which is made, and the thread that writes it.

    Args:
        logdir: the folder.
        max_queue: events that may wait; then `add_event` does.
        flush_secs: longest time that a written event stays in memory.
        filename_suffix: appended to the file's name.

    Raises:
        errors.OpError: `logdir` cannot be made or written.  What fails in the thread is raised by the next call.
    """

    def __init__(self, logdir: Any, max_queue: int = 10, flush_secs: float = 120, filename_suffix: str | None = None):
        self._logdir = os.fsdecode(os.fspath(logdir))
        self._max_queue, self._flush_secs, self._suffix = max(int(max_queue), 1), flush_secs, filename_suffix or ""
        self._closed = True
        self._start()

    def _start(self) -> None:
        gfile.MakeDirs(self._logdir or ".")
        with gfile._mapped(self._logdir):
            self.path = self._new_file()
        self._work = _Work(self.path, queue.Queue(self._max_queue), self._flush_secs)
        self._work.start()
        self._end = weakref.finalize(self, self._work.finish)  # also when the program ends
        self._closed = False
        self._put(_event(b"\x1a" + _sized(b"brain.Event:2")))

    def _new_file(self) -> str:
        """A file that did not exist: a later second in its name, if two are made within one."""
        second = int(time.time())
        while True:
            path = os.path.join(self._logdir, f"events.out.tfevents.{second:010d}.{socket.gethostname()}{self._suffix}")
            try:
                open(path, "xb").close()
                return path
            except FileExistsError:
                second += 1

    def get_logdir(self) -> str:
        """The folder."""
        return self._logdir

    def add_event(self, event: Any) -> None:
        """Appends an `Event`, or its bytes."""
        if self._closed:
            _warn_closed()
            return
        self._put(event if isinstance(event, bytes) else event.SerializeToString())

    def _put(self, item: Any) -> None:
        while True:
            self._check()
            if not self._work.is_alive():  # a forked child has no such thread
                raise errors.FailedPreconditionError(None, None, f"the writer of {self.path} belongs to another process; make one here")
            try:
                return self._work.events.put(item, timeout=1.0)
            except queue.Full:
                pass

    def _check(self) -> None:
        """Raises what failed in the thread."""
        if self._work.error is not None:
            error, self._work.error, self._closed = self._work.error, None, True
            raise error

    def flush(self) -> None:
        """Returns when all events added so far are in the file."""
        if self._closed:
            _warn_closed()
            return
        done = threading.Event()
        self._put(done)
        while not done.wait(1.0) and self._work.is_alive():
            pass
        self._check()

    def close(self) -> None:
        """Writes what waits, and closes the file."""
        if not self._closed:
            self._closed = True
            self._end()
            self._check()

    def reopen(self) -> None:
        """After `close`, goes on in a new file of the same folder."""
        if self._closed:
            self._start()


class _Work(threading.Thread):
    """Writes events (bytes) as records; flushes at a `threading.Event`, and sets it.

    It keeps what is not written itself, so that a forked child, which has no such thread, writes nothing twice.
    """

    def __init__(self, path: str, events: queue.Queue[Any], flush_secs: float):
        super().__init__(name="graphflow events", daemon=True)
        self.file = records.RecordWriter(path, append=True)
        self.events, self.flush_secs = events, flush_secs
        self.error: Exception | None = None
        self.ends = False
        self.waiting: list[bytes] = []
        self.size = 0

    def run(self) -> None:
        due = time.monotonic() + self.flush_secs
        while not (self.ends and self.events.empty()):
            try:
                item = self.events.get(timeout=max(due - time.monotonic(), 0.05))
            except queue.Empty:
                item = b""
            if item and isinstance(item, bytes):
                self.waiting.append(item)
                self.size += len(item)
            if not isinstance(item, bytes) or self.size > BUFFER or time.monotonic() >= due:
                self.write()
                due = time.monotonic() + self.flush_secs
            if isinstance(item, threading.Event):
                item.set()
        self.write(self.file.close)

    def write(self, last: Any = None) -> None:
        """What waits, to the file; after an error it is lost, and the writer's next call raises."""
        waiting, self.waiting, self.size = self.waiting, [], 0
        try:
            for event in waiting:
                self.file.write(event)
            (last or self.file.flush)()
        except Exception as e:
            self.error = self.error or e

    def finish(self) -> None:
        """Ends the thread when all is written."""
        if not self.is_alive():
            return
        self.ends = True
        try:
            self.events.put_nowait(b"")  # wakes it
        except queue.Full:
            pass
        if threading.current_thread() is not self:
            self.join()


def _warn_closed() -> None:
    warnings.warn("Attempting to use a closed FileWriter. The operation will be a noop unless the FileWriter is explicitly reopened.",
                  stacklevel=4)


# ---------------------------------------------------------------- events


def _sized(body: bytes) -> bytes:
    return wire.varint(len(body)) + body


def _event(what: bytes, step: Any = None) -> bytes:
    """An Event of now, from its last field."""
    at = b"" if not step else b"\x10" + wire.varint(int(step) & wire.MASK)
    return b"\x09" + struct.pack("<d", time.time()) + at + what


class SummaryToEventTransformer:
    """What a `FileWriter` adds: summaries, graphs, run metadata, session logs.

    Args:
        event_writer: has `add_event`, `get_logdir`.
        graph, graph_def: a graph to add at once.
    """

    def __init__(self, event_writer: Any, graph: Any = None, graph_def: Any = None):
        self.event_writer = event_writer
        self._session_run_tags: set[str] = set()
        self._described: set[bytes] = set()
        if graph is not None or graph_def is not None:
            self._add(b"\x4a" + _sized(graph_wire.meta_graph_bytes(self._add_graph(graph, None, graph_def))), None)

    def add_summary(self, summary: Any, global_step: Any = None) -> None:
        """Appends a Summary: what a summary op gave, or a `tf.Summary`.

        Args:
            global_step: the step it belongs to, a number.

        Raises:
            TypeError: no summary.  DecodeError (a ValueError): bytes that are none.
        """
        if isinstance(summary, proto.Message):
            summary = summary.SerializeToString()
        elif hasattr(summary, "SerializeToString"):
            summary = summary.SerializeToString()
        if not isinstance(summary, bytes):
            raise TypeError(f"a summary must be bytes or a tf.Summary, got {summary!r} of type {type(summary).__name__}")
        self._add(b"\x2a" + _sized(self._told_once(summary)), global_step)

    def _told_once(self, summary: bytes) -> bytes:
        """Without the metadata of tags whose metadata are in the file already."""
        described = summaries.described(summary)
        if self._described.isdisjoint(described):
            self._described.update(described)
            return summary
        found = proto.Summary.FromString(summary)
        for value in found.value:
            if value.tag.encode() in self._described:
                value.ClearField("metadata")
        self._described.update(described)
        return found.SerializeToString()

    def add_session_log(self, session_log: Any, global_step: Any = None) -> None:
        """Appends a `tf.SessionLog`."""
        self._add(b"\x3a" + _sized(session_log.SerializeToString()), global_step)

    def add_graph(self, graph: Any, global_step: Any = None, graph_def: Any = None) -> None:
        """Appends the graph that TensorBoard shows.

        Raises:
            ValueError: both `graph` and `graph_def`.  TypeError: neither is a graph.
        """
        self._add_graph(graph, global_step, graph_def)

    def _add_graph(self, graph: Any, global_step: Any, graph_def: Any) -> bytes:
        if graph is not None and graph_def is not None:
            raise ValueError("Please pass only graph, or graph_def (deprecated), but not both.")
        found = _graph_bytes(graph if graph is not None else graph_def)
        self._add(b"\x22" + _sized(found), global_step)
        return found

    def add_meta_graph(self, meta_graph_def: Any, global_step: Any = None) -> None:
        """Appends a `tf.MetaGraphDef`: its graph, in TensorFlow's form.

        Raises:
            TypeError: something else.
        """
        if type(meta_graph_def).__name__ != "MetaGraphDef":
            raise TypeError(f"meta_graph_def must be type MetaGraphDef, saw type: {type(meta_graph_def)}")
        self._add(b"\x4a" + _sized(graph_wire.meta_graph_bytes(_graph_bytes(meta_graph_def.graph_def))), global_step)

    def add_run_metadata(self, run_metadata: Any, tag: str, global_step: Any = None) -> None:
        """Appends what a run left in a `tf.RunMetadata`, under a tag of its own.

        Raises:
            ValueError: the tag has been used.
        """
        if tag in self._session_run_tags:
            raise ValueError("The provided tag was already used for this event type")
        self._session_run_tags.add(tag)
        self._add(b"\x42" + _sized(b"\x0a" + _sized(tag.encode()) + b"\x12" + _sized(run_metadata.SerializeToString())), global_step)

    def _add(self, what: bytes, step: Any) -> None:
        self.event_writer.add_event(_event(what, step))


def _graph_bytes(g: Any) -> bytes:
    if isinstance(g, graph_definition.GraphDef):
        with Graph().as_default() as made:
            graph_definition.import_graph_def(g, name="")
        return graph_wire.graph_bytes(made)
    if isinstance(g, Graph):
        return graph_wire.graph_bytes(g)
    if type(g).__name__ == "GraphDef" and hasattr(g, "SerializeToString"):  # a message of TensorFlow's form
        return g.SerializeToString()
    raise TypeError(f"The passed graph must be an instance of `Graph` or the deprecated `GraphDef`, got {g!r}")


_shared: weakref.WeakKeyDictionary[Any, dict[str, EventFileWriter]] = weakref.WeakKeyDictionary()


class FileWriter(SummaryToEventTransformer):
    """Writes summaries and other events into a new event file of `logdir`, for TensorBoard.  A context manager.

    Args:
        logdir: a folder, made if needed.
        graph: a Graph to show, such as `sess.graph`.
        max_queue: events that may wait for the writing thread.
        flush_secs: longest time that an event stays in memory.
        graph_def: the old form of `graph`.
        filename_suffix: appended to the file's name.
        session: writers of the same session and folder share one file.
    """

    def __init__(self, logdir: Any, graph: Any = None, max_queue: int = 10, flush_secs: float = 120, graph_def: Any = None,
                 filename_suffix: str | None = None, session: Any = None):
        made = None if session is None else _shared.setdefault(session, {})
        folder = os.fsdecode(os.fspath(logdir))
        writer = None if made is None else made.get(folder)
        if writer is None:
            writer = EventFileWriter(folder, max_queue, flush_secs, filename_suffix)
            if made is not None:
                made[folder] = writer
        super().__init__(writer, graph, graph_def)

    def __enter__(self) -> FileWriter:
        return self

    def __exit__(self, *problem: Any) -> None:
        self.close()

    def get_logdir(self) -> str:
        """The folder of the event file."""
        return self.event_writer.get_logdir()

    def add_event(self, event: Any) -> None:
        """Appends a `tf.Event` as it is."""
        self.event_writer.add_event(event)

    def flush(self) -> None:
        """Returns when all events added so far are in the file; raises what failed in the writing thread."""
        self.event_writer.flush()

    def close(self) -> None:
        """Flushes and closes the file."""
        self.event_writer.close()

    def reopen(self) -> None:
        """After `close`, goes on in a new file of the same folder."""
        self.event_writer.reopen()


class FileWriterCache:
    """One `FileWriter` for each folder."""

    _cache: dict[str, FileWriter] = {}
    _lock = threading.RLock()

    @staticmethod
    def get(logdir: Any) -> FileWriter:
        """The writer for the folder, with the graph of the default session's program; made at the first call."""
        from ..graph import get_default_graph

        with FileWriterCache._lock:
            if logdir not in FileWriterCache._cache:
                FileWriterCache._cache[logdir] = FileWriter(logdir, graph=get_default_graph())
            return FileWriterCache._cache[logdir]

    @staticmethod
    def clear() -> None:
        """Closes and forgets all of them."""
        with FileWriterCache._lock:
            for writer in FileWriterCache._cache.values():
                writer.close()
            FileWriterCache._cache.clear()
