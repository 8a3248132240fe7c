"""`tf.logging`: messages of a program by severity, on Python's logging (the logger "tensorflow").

Lines are written to standard error as glog does: `I1231 23:59:59.123456 4242 train.py:12] message`.
The level is WARN until `set_verbosity`.
"""
from __future__ import annotations

import logging as _logging
import sys
import threading
import time
from typing import Any

__all__ = ["DEBUG", "ERROR", "FATAL", "INFO", "TaskLevelStatusMessage", "WARN", "debug", "error", "fatal", "flush", "get_verbosity",
           "info", "log", "log_every_n", "log_first_n", "log_if", "set_verbosity", "vlog", "warn", "warning"]

DEBUG, INFO, WARN, ERROR, FATAL = _logging.DEBUG, _logging.INFO, _logging.WARNING, _logging.ERROR, _logging.CRITICAL
_LETTERS = {DEBUG: "D", INFO: "I", WARN: "W", ERROR: "E", FATAL: "F"}


class _Format(_logging.Formatter):
    """The severity's letter, date and time, thread, file and line."""

    def format(self, record: _logging.LogRecord) -> str:
        at = time.strftime("%m%d %H:%M:%S", time.localtime(record.created))
        text = super().format(record)
        return (f"{_LETTERS.get(record.levelno, 'I')}{at}.{int(record.created % 1 * 1e6):06d} {threading.get_native_id()} "
                f"{record.filename}:{record.lineno}] {text}")


class _Stderr(_logging.StreamHandler):
    """Writes to what `sys.stderr` is now, so that redirections are honoured."""

    def __init__(self) -> None:
        _logging.Handler.__init__(self)
        self.setFormatter(_Format("%(message)s"))

    stream = property(lambda self: sys.stderr, lambda self, value: None)  # type: ignore[assignment]


def _make() -> _logging.Logger:
    logger = _logging.getLogger("tensorflow")
    if logger.level == _logging.NOTSET:
        logger.setLevel(WARN)
    # A program that has set up logging of its own gets our messages through it.
    if not _logging.getLogger().handlers and not logger.handlers:
        logger.addHandler(_Stderr())
        logger.propagate = False
    return logger


_logger = _make()


def _get_logger() -> _logging.Logger:
    return _logger


def get_verbosity() -> int:
    """The lowest severity that is written."""
    return _logger.getEffectiveLevel()


def set_verbosity(v: Any) -> None:
    """Writes messages of severity `v` (DEBUG, INFO, WARN, ERROR, FATAL) and above."""
    _logger.setLevel(v)


def _writer(level: int) -> Any:
    def write(msg: Any, *args: Any, **kwargs: Any) -> None:
        _logger.log(level, msg, *args, stacklevel=2, **kwargs)
    write.__doc__ = f"Writes `msg % args` with severity {_logging.getLevelName(level)}."
    return write


debug, info, error, fatal = _writer(DEBUG), _writer(INFO), _writer(ERROR), _writer(FATAL)
warn = warning = _writer(WARN)


def log(level: int, msg: Any, *args: Any, **kwargs: Any) -> None:
    """Writes `msg % args` with severity `level`."""
    _logger.log(level, msg, *args, stacklevel=2, **kwargs)


def vlog(level: int, msg: Any, *args: Any, **kwargs: Any) -> None:
    """The same as `log`, TF1's other name."""
    _logger.log(level, msg, *args, stacklevel=2, **kwargs)


_counts: dict[Any, int] = {}


def _count() -> int:
    """How often the line that called the caller has come here before."""
    frame = sys._getframe(2)
    key = frame.f_code.co_filename, frame.f_lineno
    _counts[key] = _counts.get(key, -1) + 1
    return _counts[key]


def log_every_n(level: int, msg: Any, n: int, *args: Any) -> None:
    """Writes the 1st, (n+1)th, (2n+1)th... message of the calling line."""
    if _count() % n == 0:
        _logger.log(level, msg, *args, stacklevel=2)


def log_first_n(level: int, msg: Any, n: int, *args: Any) -> None:
    """Writes the first n messages of the calling line."""
    if _count() < n:
        _logger.log(level, msg, *args, stacklevel=2)


def log_if(level: int, msg: Any, condition: Any, *args: Any) -> None:
    """Writes the message when `condition` is true."""
    if condition:
        _logger.log(level, msg, *args, stacklevel=2)


def TaskLevelStatusMessage(msg: Any) -> None:
    """A message of severity ERROR."""
    _logger.log(ERROR, msg, stacklevel=2)


def flush() -> None:
    for handler in _logger.handlers:
        handler.flush()


