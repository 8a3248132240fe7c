"""`tf.train.Coordinator`: lets several threads stop together, and hands the first error of one of them to who waits (rank 9)."""
from __future__ import annotations

import sys
import threading
import time
from contextlib import contextmanager
from typing import Any, Callable, Iterator, Sequence

from .. import errors

__all__ = ["Coordinator", "LooperThread"]


class Coordinator:
    """One flag, `should_stop()`, that any thread raises with `request_stop()` and all look at.

    clean_stop_exception_types: exceptions that are no errors when they are reported, but the end of the data; by default
        (tf.errors.OutOfRangeError,).
    """

    def __init__(self, clean_stop_exception_types: Any = None):
        self._clean = tuple((errors.OutOfRangeError,) if clean_stop_exception_types is None else clean_stop_exception_types)
        self._lock = threading.Lock()
        self._stop = threading.Event()
        self._problem: BaseException | None = None
        self._joined = False
        self._threads: set[threading.Thread] = set()

    def request_stop(self, ex: Any = None) -> None:
        """Asks all threads to stop.

        ex: an exception, or `sys.exc_info()`.  The first one that is given before the stop is raised by `join`.  After `join` has
            returned it is raised here.
        """
        problem = ex[1] if isinstance(ex, tuple) else ex
        if isinstance(problem, self._clean):
            problem = None
        elif problem is not None and not isinstance(problem, BaseException):
            problem = ValueError(f"ex must be a tuple of sys.exc_info() or an exception, got {ex!r}")
        with self._lock:
            if self._joined and problem is not None:
                raise problem
            if not self._stop.is_set():
                if problem is not None and self._problem is None:
                    from ..platform import logging

                    logging.info("Error reported to Coordinator: %s, %s", type(problem), problem)
                    self._problem = problem
                self._stop.set()

    def clear_stop(self) -> None:
        """Forgets the stop, its error, and that threads have been joined."""
        with self._lock:
            self._joined, self._problem = False, None
            self._stop.clear()

    def should_stop(self) -> bool:
        """Whether a stop has been requested."""
        return self._stop.is_set()

    @contextmanager
    def stop_on_exception(self) -> Iterator[None]:
        """What is raised inside requests a stop, and goes no further."""
        try:
            yield
        except BaseException:
            self.request_stop(sys.exc_info())

    def wait_for_stop(self, timeout: float | None = None) -> bool:
        """Waits for a stop, at most `timeout` seconds; whether it has been requested."""
        return self._stop.wait(timeout)

    def register_thread(self, thread: threading.Thread) -> None:
        """Adds a thread for `join` to wait for."""
        with self._lock:
            self._threads.add(thread)

    def join(self, threads: Sequence[threading.Thread] | None = None, stop_grace_period_secs: float = 120,
             ignore_live_threads: bool = False) -> None:
        """Waits until `threads` and the registered ones have ended, and raises the error that has been reported.

        Raises:
            RuntimeError: a thread still runs `stop_grace_period_secs` seconds after the stop, unless `ignore_live_threads`.
        """
        with self._lock:
            every = list(self._threads.union(threads or ()))

        def alive() -> list[threading.Thread]:
            return [t for t in every if t.is_alive()]

        while alive() and not self.wait_for_stop(0.02):
            pass
        end = time.monotonic() + stop_grace_period_secs
        while alive() and time.monotonic() < end:
            alive_now = alive()
            if alive_now:
                alive_now[0].join(max(min(0.05, end - time.monotonic()), 0.0))
        late = " ".join(t.name for t in alive())
        with self._lock:
            self._joined, self._threads = True, set()
            if self._problem is not None:
                raise self._problem
        if late and not ignore_live_threads:
            raise RuntimeError(f"Coordinator stopped with threads still running: {late}")
        if late:
            from ..platform import logging

            logging.info("Coordinator stopped with threads still running: %s", late)

    @property
    def joined(self) -> bool:
        """Whether `join` has ended."""
        return self._joined

    def raise_requested_exception(self) -> None:
        """Raises the error that has been reported, if there is one."""
        with self._lock:
            if self._problem is not None:
                raise self._problem


class LooperThread(threading.Thread):
    """A daemon thread that calls a function, or its own `run_loop`, again and again until the coordinator stops.

    Args:
        coord: a Coordinator, which gets what the function raises.
        timer_interval_secs: the time from call to call; None calls back to back.
        target, args, kwargs: the function and its arguments.
    """

    def __init__(self, coord: Coordinator, timer_interval_secs: float | None, target: Callable[..., Any] | None = None, args: Any = None,
                 kwargs: Any = None):
        if not isinstance(coord, Coordinator):
            raise ValueError(f"'coord' argument must be a Coordinator: {coord}")
        if not target and (args or kwargs):
            raise ValueError("'args' and 'kwargs' argument require that you also pass 'target'")
        super().__init__(daemon=True)
        self._coord, self._interval = coord, timer_interval_secs
        self._call = (target, args or (), kwargs or {}) if target else None
        coord.register_thread(self)

    @staticmethod
    def loop(coord: Coordinator, timer_interval_secs: float | None, target: Callable[..., Any], args: Any = None,
             kwargs: Any = None) -> LooperThread:
        """A started thread that calls `target`."""
        found = LooperThread(coord, timer_interval_secs, target, args, kwargs)
        found.start()
        return found

    def run(self) -> None:
        with self._coord.stop_on_exception():
            self.start_loop()
            if self._interval is None:
                while not self._coord.should_stop():
                    self.run_loop()
            else:
                at = time.time()
                while not self._coord.wait_for_stop(max(at - time.time(), 0.0)):
                    at += self._interval
                    self.run_loop()
            self.stop_loop()

    def start_loop(self) -> None:
        """Called once before the first `run_loop`."""

    def stop_loop(self) -> None:
        """Called once after the last."""

    def run_loop(self) -> None:
        """One turn; calls `target`."""
        if self._call is not None:
            target, args, kwargs = self._call
            target(*args, **kwargs)
