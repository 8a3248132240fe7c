"""`tf.logging`: messages of a program by severity, on Python's logging (the logger "tensorflow").

Lines are written to standard error: `INFO:tensorflow:message`.  The level is WARN until `set_verbosity`; in an interactive session
it is INFO, and lines go to standard output.
"""
from __future__ import annotations

import logging as _logging
import sys
from typing import Any

__all__ = ["DEBUG", "ERROR", "FATAL", "INFO", "TaskLevelStatusMessage", "WARN", "debug", "error", "fatal", "flush", "get_verbosity",
           "info", "log", "log_every_n", "log_first_n", "log_if", "set_verbosity", "vlog", "warn", "warning"]

DEBUG, INFO, WARN, ERROR, FATAL = _logging.DEBUG, _logging.INFO, _logging.WARNING, _logging.ERROR, _logging.CRITICAL


class _Handler(_logging.StreamHandler):
    """Writes to what `sys.stderr` (`sys.stdout` in an interactive session) is now, so that redirections are honoured."""

    def __init__(self, name: str) -> None:
        _logging.Handler.__init__(self)
        self.target = name
        self.setFormatter(_logging.Formatter(_logging.BASIC_FORMAT))

    stream = property(lambda self: getattr(sys, self.target), lambda self, value: None)  # type: ignore[assignment]


def _make() -> _logging.Logger:
    logger = _logging.getLogger("tensorflow")
    # A program that has set up logging of its own gets our messages through it.
    if not _logging.getLogger().handlers and not logger.handlers:
        interactive = hasattr(sys, "ps1") or bool(sys.flags.interactive)
        if interactive:
            logger.setLevel(INFO)
        logger.addHandler(_Handler("stdout" if interactive else "stderr"))
        logger.propagate = False
    return logger


_logger = _make()


def get_logger() -> _logging.Logger:
    """Python's logger "tensorflow", to which all of this writes."""
    return _logger


_get_logger = get_logger  # its name before 1.14


def level_of(name: str) -> int:
    """The severity called "debug", "info", "warning", "error" or "fatal"."""
    return {"debug": DEBUG, "info": INFO, "warning": WARN, "error": ERROR, "fatal": FATAL}[name]


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
