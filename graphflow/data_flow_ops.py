"""Queues of TF1: `FIFOQueue` and its kin (rank 9)."""
from __future__ import annotations

from typing import Any, Sequence

from . import types
from .graph import Operation, Tensor, get_default_graph
from .ops import queues
from .ops.opdef import convert_to_tensor
from .random_ops import get_seed
from .types import DType, TensorShape

__all__ = ["FIFOQueue", "PaddingFIFOQueue", "PriorityQueue", "QueueBase", "RandomShuffleQueue"]


def _dtypes(dtypes: Any) -> list[DType]:
    return [types.as_dtype(d).base_dtype for d in (dtypes if isinstance(dtypes, (list, tuple)) else [dtypes])]


def _shapes(shapes: Any, count: int, partial: bool = False) -> list[TensorShape] | None:
    """One shape for each component.  Raises ValueError for unknown sizes (unless `partial`) and other numbers of shapes."""
    if shapes is None:
        return None
    if isinstance(shapes, TensorShape):
        shapes = [shapes]
    if not isinstance(shapes, (list, tuple)):
        raise TypeError(f"Shapes must be a TensorShape or a list or tuple of TensorShapes, got {shapes!r}")
    if all(n is None or isinstance(n, int) for n in shapes) and not (partial and shapes):
        shapes = [shapes]
    found = [TensorShape(s) for s in shapes]
    for s in found:
        if s.ndims is None:
            raise ValueError(f"All shapes must have a defined rank: {found}")
        if not partial and not s.is_fully_defined():
            raise ValueError(f"All shapes must be fully defined: {found}; a PaddingFIFOQueue takes sizes that differ")
    if len(found) != count:
        raise ValueError(f"Queue shapes must have the same length as dtypes, received len(shapes)={len(found)}, len(dtypes)={count}")
    return found


def _names(names: Any, count: int) -> list[str] | None:
    if names is None:
        return None
    found = list(names) if isinstance(names, (list, tuple)) else [names]
    if len(found) != count:
        raise ValueError(f"List of names must have the same length as the list of dtypes, received len(names)={len(found)}, "
                         f"len(dtypes)={count}")
    return found


def _sizes(shapes: Sequence[TensorShape] | None) -> tuple[types.Shape, ...] | None:
    return None if shapes is None else tuple(types.as_shape(s) for s in shapes)


class QueueBase:
    """What all queues share: elements are tuples of tensors that threads put in and take out.

    Args:
        dtypes, shapes, names: of the components; `shapes` and `names` may be None.  With names, elements are dictionaries.
        queue_ref: the handle.
    """

    def __init__(self, dtypes: Any, shapes: Any, names: Any, queue_ref: Tensor):
        self._dtypes = _dtypes(dtypes)
        if shapes is not None and len(shapes) != len(self._dtypes):
            raise ValueError(f"Queue shapes must have the same length as dtypes, received len(shapes)={len(shapes)}, "
                             f"len(dtypes)={len(self._dtypes)}")
        self._shapes = [TensorShape(None) for _ in self._dtypes] if shapes is None else [TensorShape(s) for s in shapes]
        self._names = _names(names, len(self._dtypes))
        self._queue_ref = queue_ref
        self._name = queue_ref.op.name.split("/")[-1]

    @staticmethod
    def from_list(index: Any, queues: Sequence[QueueBase]) -> QueueBase:
        """The queue `queues[index]`, for an integer scalar (a tensor) that is known when the step runs.

        Raises TypeError when they are no list of queues, or their dtypes or names differ.
        """
        from .array_ops import gather, stack

        if not queues or not isinstance(queues, list) or not all(isinstance(q, QueueBase) for q in queues):
            raise TypeError("A list of queues expected")
        if any(q.dtypes != queues[0].dtypes for q in queues):
            raise TypeError("Queues do not have matching component dtypes.")
        if any(q.names != queues[0].names for q in queues):
            raise TypeError("Queues do not have matching component names.")
        shapes = [TensorShape(_common(s)) for s in zip(*[q.shapes for q in queues])]
        return QueueBase(queues[0].dtypes, shapes, queues[0].names, gather(stack([q.queue_ref for q in queues]), index))

    @property
    def queue_ref(self) -> Tensor:
        """The handle, a string scalar."""
        return self._queue_ref

    @property
    def name(self) -> str:
        """The name of the handle."""
        return self._queue_ref.op.name

    @property
    def dtypes(self) -> list[DType]:
        return self._dtypes

    @property
    def shapes(self) -> list[TensorShape]:
        return self._shapes

    @property
    def names(self) -> list[str] | None:
        return self._names

    # -- putting

    def _components(self, vals: Any) -> list[Tensor]:
        """The components of an element (or several) as tensors of the queue's dtypes."""
        if isinstance(vals, dict):
            if not self._names:
                raise ValueError("Queue must have names to enqueue a dictionary")
            if sorted(self._names, key=str) != sorted(vals, key=str):
                raise ValueError(f"Keys in dictionary to enqueue do not match names of Queue.  Dictionary: {sorted(vals)}, "
                                 f"Queue: {sorted(self._names)}")
            vals = [vals[k] for k in self._names]
        elif self._names:
            raise ValueError("You must enqueue a dictionary in a Queue with names")
        elif not isinstance(vals, (list, tuple)):
            vals = [vals]
        if len(vals) != len(self._dtypes):
            raise ValueError(f"{self.name}: an element has {len(self._dtypes)} component(s), {len(vals)} were given")
        return [convert_to_tensor(v, d, name=f"component_{i}") for i, (v, d) in enumerate(zip(vals, self._dtypes))]

    def enqueue(self, vals: Any, name: str | None = None) -> Operation:
        """Puts one element; waits while the queue is full.

        Args:
            vals: a tensor, a list or tuple of them, or a dictionary if the queue has names.

        Raises:
            ValueError: a shape that does not fit, other components.
            CancelledError (at run time): the queue has been closed.
        """
        with get_default_graph().name_scope(name or f"{self._name}_enqueue") as scope:
            tensors = self._components(vals)
            for t, s in zip(tensors, self._shapes):
                t.shape.assert_is_compatible_with(s)
            return queues.enqueue(self._queue_ref, *tensors, name=scope)

    def enqueue_many(self, vals: Any, name: str | None = None) -> Operation:
        """Puts the rows of the tensors, one element after the other.  See `enqueue`."""
        with get_default_graph().name_scope(name or f"{self._name}_EnqueueMany") as scope:
            tensors = self._components(vals)
            rows = tensors[0].shape.with_rank_at_least(1)[:1]
            for t, s in zip(tensors, self._shapes):
                shape = t.shape.with_rank_at_least(1)
                rows = rows.merge_with(shape[:1])
                shape[1:].assert_is_compatible_with(s)
            return queues.enqueue_many(self._queue_ref, *tensors, name=scope)

    # -- taking

    def _taken(self, found: Any) -> Any:
        tensors = found if isinstance(found, list) else [found]
        if self._names:
            return dict(zip(self._names, tensors))
        return tensors[0] if len(tensors) == 1 else tensors

    def _attrs(self) -> dict[str, Any]:
        return {"component_types": tuple(self._dtypes), "shapes": _sizes(self._shapes)}

    def dequeue(self, name: str | None = None) -> Any:
        """Takes one element; waits while the queue is empty.

        Returns:
            A tensor, a list of them, or a dictionary if the queue has names.

        Raises:
            OutOfRangeError (at run time): the queue is closed and empty.
        """
        return self._taken(queues.dequeue(self._queue_ref, name=name or f"{self._name}_Dequeue", **self._attrs()))

    def dequeue_many(self, n: Any, name: str | None = None) -> Any:
        """Takes `n` elements; each component has a new first axis of size `n`.

        Raises:
            OutOfRangeError (at run time): the queue is closed and has fewer.
            InvalidArgumentError (at run time): the queue was made without shapes.
        """
        return self._taken(queues.dequeue_many(self._queue_ref, n, name=name or f"{self._name}_DequeueMany", **self._attrs()))

    def dequeue_up_to(self, n: Any, name: str | None = None) -> Any:
        """`dequeue_many`, but of a closed queue as many elements as are left, at least one."""
        return self._taken(queues.dequeue_up_to(self._queue_ref, n, name=name or f"{self._name}_DequeueUpTo", **self._attrs()))

    # -- the rest

    def close(self, cancel_pending_enqueues: bool = False, name: str | None = None) -> Operation:
        """From then on nothing can be put, and taking ends with OutOfRangeError when the queue is empty.

        cancel_pending_enqueues: those that wait because the queue is full fail with CancelledError.
        """
        return queues.close(self._queue_ref, cancel_pending_enqueues=bool(cancel_pending_enqueues), name=name or f"{self._name}_Close")

    def is_closed(self, name: str | None = None) -> Tensor:
        """A boolean tensor."""
        return queues.is_closed(self._queue_ref, name=name or f"{self._name}_Is_Closed")

    def size(self, name: str | None = None) -> Tensor:
        """An int32 tensor, the number of elements."""
        return queues.size(self._queue_ref, name=name or f"{self._name}_Size")


def _common(shapes: Sequence[TensorShape]) -> Any:
    """What is true of all the shapes."""
    if any(s.ndims is None or s.ndims != shapes[0].ndims for s in shapes):
        return None
    return [sizes[0] if all(n == sizes[0] for n in sizes) else None for sizes in zip(*[s.as_list() for s in shapes])]


class FIFOQueue(QueueBase):
    """First in, first out.

    Args:
        capacity: how many elements it holds; putting more waits.
        dtypes: of the components of an element.
        shapes: of the components, fully known; None for any (then there is no `dequeue_many`).
        names: of the components; elements are dictionaries then.
        shared_name: queues with the same one are the same queue in a session.
    """

    def __init__(self, capacity: int, dtypes: Any, shapes: Any = None, names: Any = None, shared_name: str | None = None,
                 name: str = "fifo_queue"):
        kinds = _dtypes(dtypes)
        found = _shapes(shapes, len(kinds))
        ref = queues.fifo_queue(component_types=tuple(kinds), shapes=_sizes(found), capacity=int(capacity), shared_name=shared_name or "",
                                name=name)
        super().__init__(kinds, found, _names(names, len(kinds)), ref)


class RandomShuffleQueue(QueueBase):
    """Gives its elements in random order.

    Args:
        min_after_dequeue: as long as it is open so many elements stay in it, for a good mixture.
        seed: with this, or a graph seed, the order depends only on the order of putting.
        others: as for `FIFOQueue`.
    """

    def __init__(self, capacity: int, min_after_dequeue: int, dtypes: Any, shapes: Any = None, names: Any = None, seed: int | None = None,
                 shared_name: str | None = None, name: str = "random_shuffle_queue"):
        kinds = _dtypes(dtypes)
        found = _shapes(shapes, len(kinds))
        g = get_default_graph()
        with g.name_scope(name) as scope:
            first, second = get_seed(seed, shared_name if shared_name and seed is None else None)
        ref = queues.random_shuffle_queue(component_types=tuple(kinds), shapes=_sizes(found), capacity=int(capacity),
                                          min_after_dequeue=int(min_after_dequeue), seed=first or 0, seed2=second or 0,
                                          shared_name=shared_name or "", name=scope)
        super().__init__(kinds, found, _names(names, len(kinds)), ref)


class PaddingFIFOQueue(QueueBase):
    """A `FIFOQueue` whose `shapes` may have unknown sizes: `dequeue_many` fills up with zeros (or empty strings) to the largest."""

    def __init__(self, capacity: int, dtypes: Any, shapes: Any, names: Any = None, shared_name: str | None = None,
                 name: str = "padding_fifo_queue"):
        kinds = _dtypes(dtypes)
        if not isinstance(shapes, (list, tuple)) or any(s is None or isinstance(s, int) for s in shapes):
            raise ValueError("When providing partial shapes, a list of shapes must be provided.")
        found = _shapes(shapes, len(kinds), partial=True)
        ref = queues.padding_fifo_queue(component_types=tuple(kinds), shapes=_sizes(found), capacity=int(capacity),
                                        shared_name=shared_name or "", name=name)
        super().__init__(kinds, found, _names(names, len(kinds)), ref)


class PriorityQueue(QueueBase):
    """Gives the element with the smallest priority first.  An element begins with that, an int64 scalar, before those of `types`."""

    def __init__(self, capacity: int, types: Any, shapes: Any = None, names: Any = None, shared_name: str | None = None,
                 name: str = "priority_queue"):
        kinds = _dtypes(types)
        found = _shapes(shapes, len(kinds))
        every = [_dtypes("int64")[0], *kinds]
        full = None if found is None else [TensorShape([]), *found]
        ref = queues.priority_queue(component_types=tuple(every), shapes=_sizes(full), capacity=int(capacity),
                                    shared_name=shared_name or "", name=name)
        super().__init__(every, full, _names(names, len(every)), ref)
