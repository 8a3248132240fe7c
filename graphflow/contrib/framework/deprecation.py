"""Decorators that warn, once for each function, when something old is called."""
from __future__ import annotations

import functools
import inspect
import re
from typing import Any, Callable

from ...platform import logging

__all__ = ["deprecated", "deprecated_arg_values", "deprecated_args"]

Decorator = Callable[[Callable[..., Any]], Callable[..., Any]]


def _checked(date: str | None, instructions: str) -> str:
    """When it goes.  Raises ValueError for a date that is not YYYY-MM-DD, or without instructions."""
    if date is not None and not re.match(r"20\d\d-[01]\d-[0123]\d", date):
        raise ValueError("Date must be YYYY-MM-DD.")
    if not instructions:
        raise ValueError("Don't deprecate things without conversion instructions!")
    return "in a future version" if date is None else f"after {date}"


def _warn(func: Callable[..., Any], what: str, when: str, instructions: str) -> None:
    logging.warning("%s (from %s)%s is deprecated and will be removed %s.\nInstructions for updating:\n%s", func.__qualname__,
                    func.__module__, what, when, instructions)


def deprecated(date: str | None, instructions: str, warn_once: bool = True) -> Decorator:
    """Warns that the function (or class) itself goes after `date` (None: in a future version)."""
    when = _checked(date, instructions)

    def decorate(func: Any) -> Any:
        seen: list[bool] = []

        def note() -> None:
            if not (seen and warn_once):
                seen.append(True)
                _warn(func, "", when, instructions)

        if isinstance(func, type):
            start = func.__init__  # type: ignore[misc]

            @functools.wraps(start)
            def init(self: Any, *args: Any, **kwargs: Any) -> None:
                note()
                start(self, *args, **kwargs)

            func.__init__ = init  # type: ignore[misc]
            return func

        @functools.wraps(func)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            note()
            return func(*args, **kwargs)
        return wrapper
    return decorate


def deprecated_args(date: str | None, instructions: str, *deprecated_arg_names_or_tuples: Any, warn_once: bool = True) -> Decorator:
    """Warns when one of these arguments is given; a tuple (name, value) allows that value.

    Raises:
        ValueError: the function has no such argument.
    """
    when = _checked(date, instructions)
    if not deprecated_arg_names_or_tuples:
        raise ValueError("Specify which argument is deprecated.")
    allowed = {a[0]: a[1:] for a in ((a,) if isinstance(a, str) else tuple(a) for a in deprecated_arg_names_or_tuples)}

    def decorate(func: Callable[..., Any]) -> Callable[..., Any]:
        signature, seen = inspect.signature(func), set()
        anything = any(p.kind in (p.VAR_KEYWORD, p.VAR_POSITIONAL) for p in signature.parameters.values())
        missing = [name for name in allowed if name not in signature.parameters]
        if missing and not anything:
            raise ValueError(f"The following deprecated arguments are not present in the function signature: {missing}.")

        @functools.wraps(func)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            given = signature.bind_partial(*args, **kwargs).arguments
            for name, fine in allowed.items():
                if name in given and not any(given[name] is v or given[name] == v for v in fine) and not (warn_once and name in seen):
                    seen.add(name)
                    _warn(func, f" with argument {name!r}", when, instructions)
            return func(*args, **kwargs)
        return wrapper
    return decorate


def deprecated_arg_values(date: str | None, instructions: str, warn_once: bool = True, **deprecated_kwargs: Any) -> Decorator:
    """Warns when an argument is given one of these values."""
    when = _checked(date, instructions)
    if not deprecated_kwargs:
        raise ValueError("Specify which argument values are deprecated.")

    def decorate(func: Callable[..., Any]) -> Callable[..., Any]:
        signature, seen = inspect.signature(func), set()

        @functools.wraps(func)
        def wrapper(*args: Any, **kwargs: Any) -> Any:
            given = signature.bind_partial(*args, **kwargs).arguments
            for name, value in deprecated_kwargs.items():
                if name in given and given[name] == value and not (warn_once and name in seen):
                    seen.add(name)
                    _warn(func, f" with {name}={value}", when, instructions)
            return func(*args, **kwargs)
        return wrapper
    return decorate
