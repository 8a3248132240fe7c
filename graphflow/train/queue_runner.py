"""Threads that fill queues: `QueueRunner`, `add_queue_runner`, `start_queue_runners` (rank 9)."""
from __future__ import annotations

import threading
import warnings
import weakref
from typing import Any, Callable, Sequence

from .. import errors
from ..graph import GraphKeys, get_default_graph
from ..session import BaseSession, get_default_session
from .coordinator import Coordinator

__all__ = ["QueueRunner", "QueueRunnerDef", "add_queue_runner", "start_queue_runners"]


class QueueRunnerDef:
    """A `QueueRunner` by the names of its operations."""

    def __init__(self, queue_name: str = "", enqueue_op_name: Sequence[str] = (), close_op_name: str = "", cancel_op_name: str = "",
                 queue_closed_exception_types: Sequence[int] = ()):
        self.queue_name, self.enqueue_op_name = queue_name, list(enqueue_op_name)
        self.close_op_name, self.cancel_op_name = close_op_name, cancel_op_name
        self.queue_closed_exception_types = list(queue_closed_exception_types)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, QueueRunnerDef) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]


class _Named:
    """A queue of which only the handle is known."""

    def __init__(self, element: Any):
        self.queue_ref, self.name = element, element.op.name if hasattr(element, "op") else element.name


class QueueRunner:
    """The operations that fill a queue, each run again and again in a thread of its own.

    A thread ends when its operation says that there is no more (`queue_closed_exception_types`); the last one closes the queue.
    Any other error goes to the coordinator, which stops all.

    Args:
        queue: the queue to fill.
        enqueue_ops: a list of operations; one that appears twice is run by two threads.
        close_op, cancel_op: close the queue, and cancel those that wait to fill it; made of `queue` when left out.
        queue_closed_exception_types: by default (tf.errors.OutOfRangeError,).
        queue_runner_def, import_scope: what `to_proto` gave, instead of all others, and a scope before its names; `element` finds what
            has a name, if not in the default graph.

    Raises:
        ValueError: `queue` or `enqueue_ops` is missing, or given beside `queue_runner_def`.
        TypeError: `queue_closed_exception_types` is no tuple of errors.
    """

    def __init__(self, queue: Any = None, enqueue_ops: Any = None, close_op: Any = None, cancel_op: Any = None,
                 queue_closed_exception_types: Any = None, queue_runner_def: QueueRunnerDef | None = None, import_scope: str | None = None,
                 element: Callable[[str], Any] | None = None):
        if queue_runner_def is not None:
            if queue or enqueue_ops:
                raise ValueError("queue_runner_def and queue are mutually exclusive.")
            queue, enqueue_ops, close_op, cancel_op, queue_closed_exception_types = _restored(queue_runner_def, import_scope, element)
        if not queue or not enqueue_ops:
            raise ValueError("Must provide queue and enqueue_ops.")
        kinds = queue_closed_exception_types
        if kinds is not None and not (isinstance(kinds, tuple) and kinds and all(
                isinstance(k, type) and issubclass(k, errors.OpError) for k in kinds)):
            raise TypeError(f"queue_closed_exception_types, when provided, must be a tuple of tf.error types, but saw: {kinds}")
        self._queue, self._enqueue_ops = queue, enqueue_ops
        self._close_op = queue.close() if close_op is None else close_op
        self._cancel_op = queue.close(cancel_pending_enqueues=True) if cancel_op is None else cancel_op
        self._ends = kinds or (errors.OutOfRangeError,)
        self._lock = threading.Lock()
        self._running: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()  # threads of each session
        self._exceptions: list[BaseException] = []

    queue = property(lambda self: self._queue)
    enqueue_ops = property(lambda self: self._enqueue_ops)
    close_op = property(lambda self: self._close_op)
    cancel_op = property(lambda self: self._cancel_op)
    queue_closed_exception_types = property(lambda self: self._ends)

    @property
    def exceptions_raised(self) -> list[BaseException]:
        """What threads without a coordinator have raised."""
        return self._exceptions

    @property
    def name(self) -> str:
        """The name of the queue."""
        return self._queue.name  # type: ignore[no-any-return]

    def create_threads(self, sess: Any, coord: Coordinator | None = None, daemon: bool = False,
                       start: bool = False) -> list[threading.Thread]:
        """Threads that fill the queue of `sess`, one for each operation; [] while such threads are running.

        coord: gets their errors and tells them to stop; one more thread then cancels the queue when it does.
        """
        with self._lock:
            if self._running.get(sess, 0) > 0:
                return []
            self._running[sess] = len(self._enqueue_ops)
            self._exceptions = []
        label = f"QueueRunnerThread-{self.name}"
        found = [threading.Thread(target=self._run, args=(sess, op, coord), name=f"{label}-{op.name}") for op in self._enqueue_ops]
        if coord:
            found.append(threading.Thread(target=self._cancel, args=(sess, coord), name=f"{label}-close_on_stop"))
        for t in found:
            if coord:
                coord.register_thread(t)
            if daemon:
                t.daemon = True
            if start:
                t.start()
        return found

    def _run(self, sess: Any, op: Any, coord: Coordinator | None) -> None:
        try:
            step = sess.make_callable(op)
            while not (coord and coord.should_stop()):
                step()
            self._left(sess)
        except self._ends:
            if self._left(sess) == 0:
                _quietly(sess, self._close_op)
        except Exception as e:
            self._left(sess)
            if coord:
                coord.request_stop(e)
                return
            from ..platform import logging

            logging.error("Exception in QueueRunner: %s", e)
            with self._lock:
                self._exceptions.append(e)
            raise

    def _left(self, sess: Any) -> int:
        """One thread less; how many still run."""
        with self._lock:
            self._running[sess] -= 1
            return self._running[sess]

    def _cancel(self, sess: Any, coord: Coordinator) -> None:
        coord.wait_for_stop()
        _quietly(sess, self._cancel_op)

    # -- as data

    def to_proto(self, export_scope: str | None = None) -> QueueRunnerDef | None:
        """Its names, without `export_scope`; None when the queue is not in that scope."""
        if export_scope is not None and not self.name.startswith(export_scope):
            return None

        def short(name: str) -> str:
            return name.removeprefix((export_scope or "").rstrip("/") + "/") if export_scope else name
        return QueueRunnerDef(short(self.name), [short(op.name) for op in self.enqueue_ops], short(self.close_op.name),
                              short(self.cancel_op.name), [errors.error_code_from_exception_type(k) for k in self._ends])

    @staticmethod
    def from_proto(queue_runner_def: QueueRunnerDef, import_scope: str | None = None) -> QueueRunner:
        """The runner of the operations that have these names in the default graph."""
        return QueueRunner(queue_runner_def=queue_runner_def, import_scope=import_scope)


def _restored(d: QueueRunnerDef, scope: str | None, find: Callable[[str], Any] | None) -> tuple[Any, ...]:
    find = find or get_default_graph().as_graph_element

    def element(name: str) -> Any:
        return find(f"{scope}/{name}" if scope else name)
    kinds = tuple(errors.exception_type_from_error_code(code) for code in d.queue_closed_exception_types)
    return (_Named(element(d.queue_name)), [element(n) for n in d.enqueue_op_name], element(d.close_op_name), element(d.cancel_op_name),
            kinds or None)


def _quietly(sess: Any, op: Any) -> None:
    """Closes a queue; its session may have been closed before."""
    try:
        sess.run(op)
    except Exception as e:
        from ..platform import logging

        logging.vlog(1, "Ignored exception: %s", e)


def add_queue_runner(qr: QueueRunner, collection: str = GraphKeys.QUEUE_RUNNERS) -> None:
    """Adds `qr` to what `start_queue_runners` starts."""
    get_default_graph().add_to_collection(collection, qr)


def start_queue_runners(sess: Any = None, coord: Coordinator | None = None, daemon: bool = True, start: bool = True,
                        collection: str = GraphKeys.QUEUE_RUNNERS) -> list[threading.Thread]:
    """Starts the threads of all queue runners of the graph; returns them.

    Args:
        sess: the session whose queues they fill; otherwise the default one.
        coord: a Coordinator that stops them and gets their errors.
        daemon: whether the program may end while they run.
        start: False only makes them.

    Raises:
        ValueError: no session.  TypeError: `sess` is none.
    """
    sess = get_default_session() if sess is None else sess
    if sess is None:
        raise ValueError("Cannot start queue runners: No default session is registered. Use `with sess.as_default()` or pass an explicit "
                         "session to tf.start_queue_runners(sess=sess)")
    if not isinstance(sess, BaseSession):
        if hasattr(sess, "should_stop") and hasattr(sess, "graph"):  # a monitored session has started them
            return []
        raise TypeError(f"sess must be a `tf.Session` object. Given class: {sess.__class__}")
    with sess.graph.as_default():
        runners = sess.graph.get_collection(collection)
        if not runners:
            warnings.warn("`tf.train.start_queue_runners()` was called when no queue runners were defined. You can safely remove the call "
                          "to this deprecated function.", stacklevel=2)
        return [t for qr in runners for t in qr.create_threads(sess, coord=coord, daemon=daemon, start=start)]
