"""Default arguments for functions, by scope.

    with arg_scope([conv2d, fully_connected], weights_regularizer=l2_regularizer(0.01)) as sc:
        net = conv2d(images, 32, [3, 3])        # with that regularizer

A scope is a dict {function: {argument: value}}; `arg_scope(sc)` enters it again.  Each thread has its own stack of them.
"""
from __future__ import annotations

import functools
import inspect
import threading
from contextlib import contextmanager
from typing import Any, Callable, Iterator

__all__ = ["add_arg_scope", "arg_scope", "arg_scope_func_key", "arg_scoped_arguments", "current_arg_scope", "has_arg_scope"]

Scope = dict[str, dict[str, Any]]

# Keyword arguments of each decorated function.
_DECORATED: dict[str, tuple[str, ...]] = {}


class _Local(threading.local):
    def __init__(self) -> None:
        self.stack: list[Scope] = [{}]


_local = _Local()


def current_arg_scope() -> Scope:
    """The defaults that apply here."""
    return _local.stack[-1]


def arg_scope_func_key(op: Any) -> str:
    """What stands for `op` in a scope."""
    return getattr(op, "_key_op", str(op))


@contextmanager
def arg_scope(list_ops_or_scope: Any, **kwargs: Any) -> Iterator[Scope]:
    """Calls inside take `kwargs` as defaults.

    Args:
        list_ops_or_scope: functions decorated with `add_arg_scope`, or a scope (the dict this yields) to enter again, without `kwargs`.

    Raises:
        TypeError: something else.  ValueError: a function without the decorator; a scope beside `kwargs`.
    """
    if isinstance(list_ops_or_scope, dict):
        if kwargs:
            raise ValueError("When attempting to re-use a scope by suppling a dictionary, kwargs must be empty.")
        inner: Scope = dict(list_ops_or_scope)
    elif isinstance(list_ops_or_scope, (list, tuple)):
        inner = dict(current_arg_scope())
        for op in list_ops_or_scope:
            if not has_arg_scope(op):
                raise ValueError(f"{(getattr(op, '__module__', None), getattr(op, '__name__', op))} is not decorated with @add_arg_scope")
            key = arg_scope_func_key(op)
            inner[key] = {**inner.get(key, {}), **kwargs}
    else:
        raise TypeError("list_ops_or_scope must either be a list/tuple or reused scope (i.e. dict), got "
                        f"{type(list_ops_or_scope).__name__}")
    _local.stack.append(inner)
    try:
        yield inner
    finally:
        _local.stack.pop()


def add_arg_scope(func: Callable[..., Any]) -> Callable[..., Any]:
    """Decorates a function so that `arg_scope` can give its keyword arguments defaults."""
    key = arg_scope_func_key(func)

    @functools.wraps(func)
    def func_with_args(*args: Any, **kwargs: Any) -> Any:
        return func(*args, **{**current_arg_scope().get(key, {}), **kwargs})

    _DECORATED[key] = tuple(p.name for p in inspect.signature(func).parameters.values() if p.default is not p.empty)
    func_with_args._key_op = key  # type: ignore[attr-defined]
    return func_with_args


def has_arg_scope(func: Any) -> bool:
    """Whether `func` was decorated with `add_arg_scope`."""
    return arg_scope_func_key(func) in _DECORATED


def arg_scoped_arguments(func: Any) -> tuple[str, ...]:
    """The arguments that `arg_scope` can set for `func`.  Raises AssertionError unless it was decorated."""
    assert has_arg_scope(func), f"{func} is not decorated with @add_arg_scope"
    return _DECORATED[arg_scope_func_key(func)]
