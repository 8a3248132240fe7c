"""The variable store: the values a Session owns.

Arrays are 64-byte aligned, C-contiguous and private; a step reads them in place and commits at its end.
Knows nothing of plans (rank 4).
"""
from __future__ import annotations

import os
import threading
import time
import weakref
from typing import Any, Callable, Protocol

import numpy as np

from .. import errors, locks
from ..graph import Operation


def aligned(shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
    """An uninitialised array whose data starts at a multiple of 64 bytes; one of strings anywhere."""
    if dtype.kind == "O":
        return np.empty(shape, object)
    size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
    raw = np.empty(size + 64, np.uint8)
    start = -raw.__array_interface__["data"][0] % 64
    return raw[start:start + size].view(dtype).reshape(shape)


_stores: weakref.WeakSet[Store] = weakref.WeakSet()


class Mirror(Protocol):
    """A variable's value on a device.  `ahead`: "device" where it is newer than the host's; "host" where another is newer, the host's or
    that of a device which is ahead; "" where it is the host's.
    """

    ahead: str

    def pull(self, value: np.ndarray) -> None:
        """Copies it to the host."""

    def drop(self) -> None:
        """Frees its memory."""


class Store:
    """Values of variables by their op, and how often each random op has run."""

    def __init__(self) -> None:
        self.values: dict[Operation, np.ndarray] = {}
        self.counters: dict[Operation, int] = {}
        self.lock = locks.rlock()  # held by a run that may write, and for a moment by one that only reads when it begins
        self.drawing = locks.rlock()  # held for a moment by who takes a number from a random stream
        self.inside: dict[object, int] = {}  # runs that only read now, and their threads; a run that ends looks at `waiting`
        self.waiting = False  # whether a run that writes waits for them: then the last of them sets `left`
        self.left = threading.Event()
        _stores.add(self)
        self.writes = 0  # changes whenever a value may have changed
        self.version = 0  # changes when an array is replaced, so that plans bind its new address
        self.mirrors: dict[Operation, dict[Any, Mirror]] = {}  # of the variables that devices work with, by device
        self.resources: dict[Any, Any] = {}  # queues, iterators, tables: by their handle, and by the name they are shared under
        self.making = locks.rlock()
        self.waits: dict[object, threading.Condition] = {}  # what threads wait for now
        self.closed = False

    def alone(self) -> None:
        """Waits until no other thread's run reads; the caller holds the lock, so none begins."""
        me, self.waiting = threading.get_ident(), True
        while any(thread != me for thread in list(self.inside.values())):
            self.left.wait(0.1)
            self.left.clear()
        self.waiting = False

    def has(self, var: Operation) -> bool:
        return var in self.values

    def read(self, var: Operation) -> np.ndarray:
        """The value.  Raises FailedPreconditionError when the variable has none."""
        try:
            value = self.values[var]
        except KeyError:
            raise errors.raised_at(errors.FailedPreconditionError, var, f"Attempting to use uninitialized value {var.name}; "
                                   "run tf.global_variables_initializer() in this session first") from None
        if self.mirrors:
            self.settle(var)
        return value

    def settle(self, var: Operation) -> None:
        """Makes the value on the host the newest one."""
        newest = [m for m in self.mirrors.get(var, {}).values() if m.ahead == "device"]
        if newest:
            newest[0].pull(self.values[var])
            for mirror in newest:
                mirror.ahead = ""

    def changed(self, var: Operation) -> None:
        """The value on the host is newer than those on devices."""
        for mirror in self.mirrors.get(var, {}).values():
            mirror.ahead = "host"

    def ahead(self, var: Operation, mirror: Mirror) -> None:
        """The value on one device is newer than all others."""
        mirrors = self.mirrors[var]
        if len(mirrors) > 1:
            self.changed(var)
        mirror.ahead = "device"

    def _drop(self, var: Operation) -> None:
        for mirror in self.mirrors.pop(var, {}).values():
            mirror.drop()

    def write(self, var: Operation, value: np.ndarray) -> None:
        """Copies `value` in: in place when the shape is the same."""
        if self.inside:
            self.alone()
        self.writes += 1
        old = self.values.get(var)
        if var in self.mirrors and (old is None or old.shape != value.shape):
            self._drop(var)
        self.changed(var)
        if value.dtype == object:  # strings
            self.values[var], self.version = np.array(value, object), self.version + 1
            return
        if old is None or old.shape != value.shape:
            old = self.values[var] = aligned(value.shape, var.outputs[0].dtype.np)
            self.version += 1
        old[...] = value

    def adopt(self, var: Operation, array: np.ndarray) -> None:
        """Takes an array that nobody else keeps as the variable's memory."""
        if self.inside:
            self.alone()
        self._drop(var)
        self.writes += 1
        self.version += 1
        self.values[var] = array

    def draws(self, op: Operation) -> int:
        return self.counters.get(op, 0)

    def commit(self, written: dict[Operation, np.ndarray], drawn: dict[Operation, int]) -> None:
        """The end of a successful step."""
        with self.lock:
            for var, value in written.items():
                self.write(var, value)
            for op, n in drawn.items():
                self.counters[op] = n + 1

    def resource(self, handle: Operation) -> Any:
        """The object that `handle` stands for in this session, made when it is asked for first.  Raises CancelledError when closed."""
        try:
            return self.resources[handle]
        except KeyError:
            pass
        with self.making:
            if self.closed:
                raise errors.CancelledError(None, None, "the session has been closed")
            shared = handle.attrs.get("shared_name")
            key = (handle.opdef, handle.attrs.get("container", ""), shared) if shared else handle
            if key not in self.resources:
                self.resources[key] = handle.opdef.makes(handle)
            self.resources[handle] = self.resources[key]
            return self.resources[handle]

    def close(self) -> None:
        """The end of the session: wakes all threads that wait for a resource (CancelledError), closes and drops the resources."""
        self.closed = True
        for condition in list(self.waits.values()):
            with condition:
                condition.notify_all()
        with self.making:
            found = list({id(r): r for r in self.resources.values()}.values())
            self.resources.clear()
        for r in found:
            if hasattr(r, "close"):
                r.close()
        self.clear()

    def clear(self) -> None:
        for var in list(self.mirrors):
            self._drop(var)
        self.values.clear()
        self.counters.clear()
        self.version += 1
        self.writes += 1


class WouldBlock(Exception):
    """An op that was asked not to wait would have to; it has done nothing."""


class Access:
    """What one run may do with the resources of its session.

    end: when waiting ends, by `time.monotonic()`.  patient: False where an op must raise `WouldBlock` rather than wait.
    told: called with each op that the host has run, and when it began by `time.perf_counter()`; None if nobody asks.
    """

    __slots__ = ("store", "end", "patient", "cancelled", "told")

    def __init__(self, store: Store, end: float | None = None, patient: bool = True):
        self.store, self.end, self.patient, self.cancelled = store, end, patient, False
        self.told: Callable[[Operation, float], None] | None = None

    def resource(self, handle: Operation) -> Any:
        return self.store.resource(handle)

    def wait(self, condition: threading.Condition, ready: Callable[[], Any], begun: bool = False) -> None:
        """Waits until `ready()`; the caller holds `condition`, and whoever changes what `ready` looks at notifies it.

        begun: the op has changed something already, so it must not begin anew.
        Raises DeadlineExceededError, CancelledError (the session has been closed), and lets Ctrl-C through.
        """
        if ready():
            return
        if not (self.patient or begun):
            raise WouldBlock
        me = object()
        self.store.waits[me] = condition
        try:
            while not (self.store.closed or self.cancelled):
                left = None if self.end is None else self.end - time.monotonic()
                if left is not None and left <= 0:
                    raise errors.DeadlineExceededError(None, None, "Timed out while waiting for others"
                                                       + ("" if begun else "; nothing has been taken or put"))
                condition.wait(left)
                if ready() and not self.store.closed:
                    return
            raise errors.CancelledError(None, None, "the session has been closed" if self.store.closed else "another operation of the step "
                                        "has failed")
        finally:
            del self.store.waits[me]

    def cancel(self) -> None:
        """Ends the waiting of all threads of this run."""
        self.cancelled = True
        for condition in list(self.store.waits.values()):
            with condition:
                condition.notify_all()


def _after_fork() -> None:
    """The threads of runs that read in the parent are not in the child."""
    for store in list(_stores):
        store.inside.clear()
        store.left = threading.Event()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
