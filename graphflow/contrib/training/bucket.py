"""Batches of elements that belong together, such as sequences of about one length, through queues."""
from __future__ import annotations

from typing import Any, Sequence

from ... import array_ops, control_flow_ops, errors, graph, math_ops, types
from ...data_flow_ops import FIFOQueue, PaddingFIFOQueue, QueueBase
from ...graph import Operation, Tensor
from ...ops.opdef import convert_to_tensor
from ...train.input import _element_shapes, _Form, _keep
from ...train.queue_runner import QueueRunner, add_queue_runner

__all__ = ["bucket", "bucket_by_sequence_length"]


def bucket(tensors: Any, which_bucket: Any, batch_size: Any, num_buckets: int, num_threads: int = 1, capacity: int = 32,
           bucket_capacities: Any = None, shapes: Any = None, dynamic_pad: bool = False, allow_smaller_final_batch: bool = False,
           keep_input: Any = True, shared_name: str | None = None, name: str | None = None) -> tuple[Tensor, Any]:
    """(number of a bucket, a batch of elements of that bucket).

    Args:
        tensors: a tensor, list or dictionary of tensors; one element.
        which_bucket: int32 scalar, the element's bucket, 0 to num_buckets - 1.
        batch_size: of the batches, or a list of one for each bucket.
        num_threads: how many threads compute elements.
        capacity: of the queue of batches; bucket_capacities: of the buckets' queues, `capacity` by default.
        shapes: of an element's tensors, where they are not known.
        dynamic_pad: sizes may be unknown: the elements of a batch are filled up with zeros to the largest.
        allow_smaller_final_batch: the last batches may be smaller; otherwise what is left over is dropped.
        keep_input: a boolean scalar: whether the element is used at all.

    Raises:
        ValueError: no tensors, lists of another length than `num_buckets`, unknown shapes.
    """
    sizes = list(batch_size) if isinstance(batch_size, (list, tuple)) else [batch_size] * num_buckets
    capacities = [capacity] * num_buckets if bucket_capacities is None else list(bucket_capacities)
    if len(sizes) != num_buckets:
        raise ValueError("If batch_size is a list it must have num_buckets elements")
    if len(capacities) != num_buckets:
        raise ValueError(f"The list bucket_capacities ({capacities}) must have exactly num_buckets ({num_buckets}) elements.")
    with graph.get_default_graph().name_scope(name or "bucket"):
        form = _Form(tensors)
        elements = form.stored(form.listed(tensors), False)
        if not elements:
            raise ValueError("Expected at least one tensor in bucket().")
        keep, which = _keep(keep_input, False), convert_to_tensor(which_bucket, types.int32)
        dtypes, known = [t.dtype for t in elements], _element_shapes([elements], shapes, False)
        make = PaddingFIFOQueue if dynamic_pad else FIFOQueue
        buckets = [make(n, dtypes, known, shared_name=f"{shared_name}_{i}" if shared_name else None, name=f"bucket_queue_{i}")
                   for i, n in enumerate(capacities)]
        one_size = None if allow_smaller_final_batch or len(set(map(str, sizes))) > 1 or isinstance(sizes[0], Tensor) else sizes[0]
        top = PaddingFIFOQueue(capacity, [types.int32, *dtypes],
                               [types.TensorShape([]), *(types.TensorShape([one_size]).concatenate(s) for s in buckets[0].shapes)],
                               shared_name=shared_name, name="top_queue")
        _run(buckets, top, elements, which, keep, sizes, allow_smaller_final_batch, num_threads)
        number, *found = top.dequeue(name="dequeue_top")
        return number, form.restored(found)


def _run(buckets: Sequence[QueueBase], top: QueueBase, elements: list[Tensor], which: Tensor, keep: Tensor, sizes: list[Any], smaller: bool,
         threads: int) -> None:
    """The runners that fill the buckets, and move whole batches to the top queue; the end of one is that of the next."""
    def put() -> Operation:
        return control_flow_ops.group(*[
            control_flow_ops.cond(math_ops.logical_and(keep, math_ops.equal(which, i)), lambda q=q: q.enqueue(elements),  # type: ignore
                                  control_flow_ops.no_op) for i, q in enumerate(buckets)], name="group_enqueues")

    ends = errors.OutOfRangeError, errors.CancelledError
    moves = []
    for i, (q, size) in enumerate(zip(buckets, sizes)):
        found = (q.dequeue_up_to if smaller else q.dequeue_many)(size, name=f"read_bucket_{i}")
        batch = list(found) if isinstance(found, (list, tuple)) else [found]
        moves.append(top.enqueue([convert_to_tensor(i, types.int32), *batch], name=f"enqueue_from_bucket_{i}"))
    add_queue_runner(QueueRunner(buckets[0], moves, close_op=top.close(), cancel_op=top.close(cancel_pending_enqueues=True),
                                 queue_closed_exception_types=ends))
    close, cancel = (control_flow_ops.group(*[q.close(cancel_pending_enqueues=now) for q in buckets]) for now in (False, True))
    add_queue_runner(QueueRunner(top, [put() for _ in range(threads)], close_op=close, cancel_op=cancel,
                                 queue_closed_exception_types=ends))


def bucket_by_sequence_length(input_length: Any, tensors: Any, batch_size: Any, bucket_boundaries: Any, num_threads: int = 1,
                              capacity: int = 32, bucket_capacities: Any = None, shapes: Any = None, dynamic_pad: bool = False,
                              allow_smaller_final_batch: bool = False, keep_input: Any = True, shared_name: str | None = None,
                              name: str | None = None) -> tuple[Tensor, Any]:
    """(lengths, elements) in batches whose lengths lie between two neighbours of `bucket_boundaries`.

    Args:
        input_length: int32 scalar, the element's length.
        bucket_boundaries: increasing integers; a bucket holds boundary[i - 1] <= length < boundary[i].
        others: see `bucket`.

    Raises:
        TypeError: boundaries that are no list of integers.  ValueError: none, or not increasing.
    """
    if not isinstance(bucket_boundaries, (list, tuple)):
        raise TypeError(f"bucket_boundaries must be a list or tuple, but received: {bucket_boundaries}")
    if not bucket_boundaries:
        raise ValueError("bucket_boundaries must not be empty")
    for s, e in zip(bucket_boundaries, bucket_boundaries[1:]):
        if not isinstance(s, int) or not isinstance(e, int):
            raise TypeError(f"bucket boundaries must be integers, but saw: {s} and {e}")
        if s >= e:
            raise ValueError(f"Buckets must contain sequential increasing lengths, but saw: {s} before {e}")
    with graph.get_default_graph().name_scope(name or "bucket_by_sequence_length"):
        length = convert_to_tensor(input_length, types.int32, name="input_length")
        below = math_ops.cast(array_ops.stack([math_ops.greater_equal(length, b) for b in bucket_boundaries]), types.int32)
        form = _Form(tensors)
        listed = form.listed(tensors)
        whole = None if shapes is None else [types.TensorShape([]), *shapes]
        _, found = bucket([length, *listed], math_ops.reduce_sum(below), batch_size, len(bucket_boundaries) + 1, num_threads, capacity,
                          bucket_capacities, whole, dynamic_pad, allow_smaller_final_batch, keep_input, shared_name)
        lengths, *rest = found
        if form.keys is not None:
            return lengths, dict(zip(form.keys, rest))
        return lengths, rest if isinstance(tensors, (list, tuple)) else rest[0]
