"""Queues: elements (tuples of arrays) that threads put in and take out, and wait for (rank 3).

Who waits is served in the order of arrival.  A queue that has been closed takes nothing more, and gives what it holds; taking more
than that is the end of the data, `OutOfRangeError`.
"""
from __future__ import annotations

import random
import threading
from bisect import insort
from collections import deque
from typing import Any, Callable, Sequence

import numpy as np

from .. import errors, types
from ..graph import Operation, Spec, Tensor
from ..types import UNKNOWN
from .opdef import constant_value
from .resource import handle_op, object_of, resource_op

Element = tuple[np.ndarray, ...]


class Queue:
    """First in, first out; `_add`, `_pop`, `_back` and `_count` are what other kinds change.

    capacity: elements it holds; negative for any number.  shapes: sizes of each component, or None where they may be any.
    """

    KIND = "FIFOQueue"

    def __init__(self, op: Operation):
        a = op.attrs
        self.label = f"{self.KIND} '{op.name}'"
        self.capacity = a["capacity"] if a["capacity"] >= 0 else 1 << 62
        self.dtypes: Sequence[types.DType] = a["component_types"]
        self.shapes: Sequence[types.Shape] | None = a["shapes"]
        lock = threading.Lock()
        self.filled, self.room = threading.Condition(lock), threading.Condition(lock)  # what takers and putters wait for
        self.items: Any = deque()
        self.takers: deque[object] = deque()
        self.putters: deque[object] = deque()
        self.closed = self.cancelled = False

    # -- what kinds differ in

    def _add(self, element: Element) -> None:
        self.items.append(element)

    def _pop(self) -> Element:
        return self.items.popleft()

    def _back(self, elements: Sequence[Element]) -> None:
        """Puts elements back that have been popped last."""
        self.items.extendleft(reversed(elements))

    def _count(self) -> int:
        """How many elements may be taken now."""
        return len(self.items)

    # -- putting

    def put(self, access: Any, count: int, element: Callable[[int], Element]) -> None:
        """Adds `element(0)`, `element(1)`, ...; waits where it is full.  Raises CancelledError when it is closed."""
        done, me = 0, object()
        with self.room:
            if self.closed:
                raise errors.CancelledError(None, None, f"{self.label} is closed.")
            if not access.patient and (self.putters or len(self.items) + count > self.capacity):
                access.wait(self.room, lambda: False)
            self.putters.append(me)
            try:
                while done < count:
                    access.wait(self.room, lambda: self.cancelled or self.putters[0] is me and len(self.items) < self.capacity, done > 0)
                    if self.cancelled:
                        raise errors.CancelledError(None, None, f"Enqueue operation was cancelled: {self.label} is closed.")
                    while done < count and len(self.items) < self.capacity:
                        self._add(element(done))
                        done += 1
                    if self.takers:
                        self.filled.notify_all()
            finally:
                self.putters.remove(me)
                self._left(self.putters)

    # -- taking

    def _ended(self) -> bool:
        return self.closed and not self.putters

    def take(self, access: Any, count: int, fewer: bool = False) -> list[Element]:
        """`count` elements, as soon as they are there; at the end fewer, but at least one, if those are enough.

        Raises OutOfRangeError when it is closed and has not so many.  Who gives up waiting puts back what he has.
        """
        found: list[Element] = []
        me = object()
        with self.filled:
            if not access.patient and (self.takers or self._count() < count and not self._ended()):
                access.wait(self.filled, lambda: False)
            self.takers.append(me)
            try:
                while len(found) < count:
                    access.wait(self.filled, lambda: self.takers[0] is me and (self._count() > 0 or self._ended()), bool(found))
                    while len(found) < count and self._count() > 0:
                        found.append(self._pop())
                    if len(found) < count and self._ended():
                        if fewer and found:
                            break
                        raise errors.OutOfRangeError(None, None, f"{self.label} is closed and has insufficient elements (requested "
                                                     f"{count}, current size {len(found) + len(self.items)})")
                    if self.putters:
                        self.room.notify_all()
            except BaseException:
                self._back(found)
                raise
            finally:
                self.takers.remove(me)
                self._left(self.takers)
        return found

    def _left(self, waiting: deque[object]) -> None:
        """Wakes those who may go on when somebody has gone: the next ones, and those who waited for him."""
        if self.takers and (waiting is self.takers or self.closed):
            self.filled.notify_all()
        if self.putters:
            self.room.notify_all()

    # -- the rest

    def shut(self, cancel: bool) -> None:
        """Takes no more elements; with `cancel` not those either that wait to be put."""
        with self.room:
            self.closed, self.cancelled = True, self.cancelled or cancel
            self.filled.notify_all()
            self.room.notify_all()

    def close(self) -> None:
        """The end of the session."""
        with self.room:
            self.items.clear()

    def size(self) -> int:
        return len(self.items)

    def check(self, arrays: Sequence[np.ndarray], skip: int) -> None:
        """Raises InvalidArgumentError for components of other shapes; `skip`: leading axes that are no part of an element."""
        if self.shapes is None:
            return
        for i, (a, want) in enumerate(zip(arrays, self.shapes)):
            have = a.shape[skip:]
            if have != want and not _fits(have, want):
                raise errors.InvalidArgumentError(None, None, f"Shape mismatch in tuple component {i}. Expected {types.shape_text(want)}, "
                                                  f"got {types.shape_text(have)}")

    def together(self, elements: Sequence[Element]) -> list[np.ndarray]:
        """Components of the elements, one above the other."""
        found = []
        for i, dtype in enumerate(self.dtypes):
            shape = elements[0][i].shape if elements else tuple(self.shapes[i])  # type: ignore[arg-type, index]
            rows = np.empty((len(elements), *shape), dtype.np)
            for row, element in enumerate(elements):
                rows[row] = element[i][()]  # a scalar string is no array in an array
            found.append(rows)
        return found


def _fits(have: tuple[int, ...], want: types.Shape) -> bool:
    return want is None or len(have) == len(want) and all(isinstance(w, types.Dim) or h == w for h, w in zip(have, want))


class ShuffleQueue(Queue):
    """Elements leave in random order; while it is open, `min_after_dequeue` of them stay."""

    KIND = "RandomShuffleQueue"

    def __init__(self, op: Operation):
        super().__init__(op)
        self.items = []
        self.least = op.attrs["min_after_dequeue"]
        seeds = op.attrs["seed"], op.attrs["seed2"]
        self.choose = (random.Random() if seeds == (0, 0) else random.Random(f"{seeds}")).random

    def _pop(self) -> Element:
        items = self.items
        at = int(self.choose() * len(items))
        items[at], items[-1] = items[-1], items[at]
        return items.pop()  # type: ignore[no-any-return]

    def _back(self, elements: Sequence[Element]) -> None:
        self.items.extend(elements)

    def _count(self) -> int:
        return len(self.items) - (0 if self.closed else self.least)


class PaddingQueue(Queue):
    """Elements of different sizes; those taken together are filled up with zeros (or empty strings) to the largest."""

    KIND = "PaddingFIFOQueue"

    def together(self, elements: Sequence[Element]) -> list[np.ndarray]:
        found = []
        for i, dtype in enumerate(self.dtypes):
            shapes = [e[i].shape for e in elements]
            if not shapes:
                shapes = [tuple([0 if isinstance(n, types.Dim) else n for n in self.shapes[i]])]  # type: ignore[index, union-attr]
            largest = tuple(map(max, zip(*shapes)))
            if all(s == largest for s in shapes):
                rows = np.empty((len(elements), *largest), dtype.np)
            else:
                rows = np.full((len(elements), *largest), b"" if dtype.kind == "s" else 0, dtype.np)
            for row, element in enumerate(elements):
                rows[(row, *[slice(n) for n in element[i].shape])] = element[i][()]  # type: ignore[index]
            found.append(rows)
        return found


class PriorityQueue(Queue):
    """The element with the smallest first component (an int64 scalar) leaves first; among equals the one that came first."""

    KIND = "PriorityQueue"

    def __init__(self, op: Operation):
        super().__init__(op)
        self.items = []
        self.arrived = 0

    def _add(self, element: Element) -> None:
        if element[0].ndim:
            raise errors.InvalidArgumentError(None, None, "Expected the priority element to be a scalar, but received shape "
                                              f"{types.shape_text(element[0].shape)}")
        self.arrived += 1
        insort(self.items, (-int(element[0]), -self.arrived, element), key=lambda item: item[:2])

    def _pop(self) -> Element:
        return self.items.pop()[2]  # type: ignore[no-any-return]

    def _back(self, elements: Sequence[Element]) -> None:
        for k, e in enumerate(elements):
            insort(self.items, (-int(e[0]), len(elements) - k, e), key=lambda item: item[:2])


# ---------------------------------------------------------------- ops


@handle_op("FIFOQueueV2", Queue, "fifo_queue")
def fifo_queue(*, component_types, shapes, capacity, shared_name="", container=""):
    """A handle; `shapes` are sizes of each component, or None."""


@handle_op("RandomShuffleQueueV2", ShuffleQueue, "random_shuffle_queue")
def random_shuffle_queue(*, component_types, shapes, capacity, min_after_dequeue, seed=0, seed2=0, shared_name="", container=""):
    """A handle; without seeds the order is another one each time."""


@handle_op("PaddingFIFOQueueV2", PaddingQueue, "padding_fifo_queue")
def padding_fifo_queue(*, component_types, shapes, capacity, shared_name="", container=""):
    """A handle; unknown sizes in `shapes` may differ from element to element."""


@handle_op("PriorityQueueV2", PriorityQueue, "priority_queue")
def priority_queue(*, component_types, shapes, capacity, shared_name="", container=""):
    """A handle; the first component is the priority."""


@resource_op("QueueEnqueueV2", lambda *_: [], blocks=True)
def enqueue(handle, *components):
    """Puts one element; waits while the queue is full."""


@enqueue.performs
def _(access, op, arrays):
    queue = object_of(access, op, arrays)
    queue.check(arrays[1:], 0)
    element = tuple([a.copy() for a in arrays[1:]])
    queue.put(access, 1, lambda i: element)
    return []


@resource_op("QueueEnqueueManyV2", lambda *_: [], blocks=True)
def enqueue_many(handle, *components):
    """Puts the rows of the components, one element after the other."""


@enqueue_many.performs
def _(access, op, arrays):
    queue = object_of(access, op, arrays)
    counts = {a.shape[0] if a.ndim else None for a in arrays[1:]}
    if len(counts) != 1 or None in counts:
        raise errors.InvalidArgumentError(None, None, "All input tensors must have the same size in the 0th dimension, got shapes "
                                          + ", ".join(types.shape_text(a.shape) for a in arrays[1:]))
    queue.check(arrays[1:], 1)
    rows = [a.copy() for a in arrays[1:]]
    queue.put(access, counts.pop(), lambda i: tuple([r[i, ...] for r in rows]))
    return []


def _one(handle: Tensor, *, component_types: Any, shapes: Any) -> list[Spec]:
    return [Spec(d, s) for d, s in zip(component_types, shapes or [None] * len(component_types))]


def _several(handle: Tensor, n: Tensor, *, component_types: Any, shapes: Any) -> list[Spec]:
    count = constant_value(n)
    if count is not None and count < 0:
        raise ValueError(f"the number of elements to dequeue must not be negative, got {int(count)}")
    return _rows(component_types, shapes, UNKNOWN if count is None else int(count))


def _rows(component_types: Any, shapes: Any, count: Any) -> list[Spec]:
    return [Spec(d, None if s is None else (count, *s)) for d, s in zip(component_types, shapes or [None] * len(component_types))]


@resource_op("QueueDequeueV2", _one, blocks=True)
def dequeue(handle, *, component_types, shapes):
    """One element; waits while the queue is empty."""


@dequeue.performs
def _(access, op, arrays):
    return object_of(access, op, arrays).take(access, 1)[0]


@resource_op("QueueDequeueManyV2", _several, blocks=True)
def dequeue_many(handle, n, *, component_types, shapes):
    """`n` elements, one above the other."""


@resource_op("QueueDequeueUpToV2", lambda handle, n, **a: _rows(a["component_types"], a["shapes"], UNKNOWN), blocks=True)
def dequeue_up_to(handle, n, *, component_types, shapes):
    """`n` elements, one above the other; when the queue is closed as many as there are."""


def _take(access: Any, op: Operation, arrays: list[np.ndarray]) -> list[np.ndarray]:
    queue, n = object_of(access, op, arrays), int(arrays[1])
    if n < 0:
        raise errors.InvalidArgumentError(None, None, f"the number of elements to dequeue must not be negative, got {n}")
    if queue.shapes is None or any(s is None for s in queue.shapes):
        raise errors.InvalidArgumentError(None, None, f"{queue.label}: DequeueMany and DequeueUpTo require the components to have "
                                          "specified shapes; give the queue `shapes`")
    found = queue.take(access, n, op.opdef is dequeue_up_to)
    return queue.together(found)  # type: ignore[no-any-return]


dequeue_many.performs(_take)
dequeue_up_to.performs(_take)


@resource_op("QueueCloseV2", lambda handle, **_: [])
def close(handle, *, cancel_pending_enqueues=False):
    """The queue takes no more elements."""


@close.performs
def _(access, op, arrays):
    object_of(access, op, arrays).shut(op.attrs["cancel_pending_enqueues"])
    return []


@resource_op("QueueSizeV2", lambda handle: Spec(types.int32, ()))
def size(handle):
    """The number of elements now."""


@size.performs
def _(access, op, arrays):
    return [np.array(object_of(access, op, arrays).size(), np.int32)]


@resource_op("QueueIsClosedV2", lambda handle: Spec(types.bool_, ()))
def is_closed(handle):
    """Whether it has been closed."""


@is_closed.performs
def _(access, op, arrays):
    return [np.array(object_of(access, op, arrays).closed)]
