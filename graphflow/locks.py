"""Locks that a child made by fork finds free, whoever held them in its parent (rank 0).

The thread that held such a lock does not exist in the child, so nobody would ever release it there.  What the lock guards may
be half done: its users replace values whole, or make them again.
"""
from __future__ import annotations

import os
import threading
import weakref
from typing import Any

_all: weakref.WeakSet[Any] = weakref.WeakSet()


def rlock() -> Any:
    """A `threading.RLock` that is free in a forked child, unless the forking thread itself holds it."""
    made = threading.RLock()
    _all.add(made)
    return made


def _free() -> None:
    for held in list(_all):
        if not held._is_owned():
            held._at_fork_reinit()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_free)
