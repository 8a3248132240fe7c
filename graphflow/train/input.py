"""Input by queues: producers of file names, numbers and slices, and batches of what threads enqueue (rank 9)."""
from __future__ import annotations

from typing import Any, Callable, Sequence

import numpy as np

from .. import control_flow_ops, data_flow_ops, types
from ..array_ops import dynamic_partition, gather, identity, shape, size
from ..array_ops import range as integers
from ..check_ops import Assert
from ..graph import GraphKeys, Operation, Spec, Tensor, get_default_graph
from ..io_ops import matching_files
from ..math_ops import cast, greater, maximum
from ..ops.opdef import constant, constant_value, convert_to_tensor, primitive
from ..random_ops import random_shuffle
from ..sparse_tensor import SparseTensor, convert_to_tensor_or_sparse_tensor
from ..types import UNKNOWN, TensorShape
from ..variables import Variable
from .queue_runner import QueueRunner, add_queue_runner

__all__ = ["batch", "batch_join", "input_producer", "limit_epochs", "match_filenames_once", "maybe_batch", "maybe_batch_join",
           "maybe_shuffle_batch", "maybe_shuffle_batch_join", "range_input_producer", "shuffle_batch", "shuffle_batch_join",
           "slice_input_producer", "string_input_producer"]


def _scope(name: str | None, default: str) -> Any:
    return get_default_graph().name_scope(name or default)


# ---------------------------------------------------------------- producers


def match_filenames_once(pattern: Any, name: str | None = None) -> Variable:
    """A local variable with the names of the files that match `pattern` (or several) when it is initialized."""
    with _scope(name, "matching_filenames") as scope:
        return Variable(matching_files(pattern), name=scope, trainable=False, validate_shape=False, collections=[GraphKeys.LOCAL_VARIABLES])


def limit_epochs(tensor: Any, num_epochs: int | None = None, name: str | None = None) -> Tensor:
    """`tensor`, which gives OutOfRangeError after it has been computed `num_epochs` times.

    Counts in a local variable `epochs`: run `tf.local_variables_initializer()`.  Raises ValueError for `num_epochs` < 1.
    """
    if num_epochs is None:
        return tensor  # type: ignore[no-any-return]
    if num_epochs <= 0:
        raise ValueError(f"num_epochs must be > 0 not {num_epochs}.")
    with _scope(name, "limit_epochs") as scope:
        epochs = Variable(constant(0, types.int64), name="epochs", trainable=False, collections=[GraphKeys.LOCAL_VARIABLES])
        with get_default_graph().control_dependencies([epochs.count_up_to(num_epochs)]):
            return identity(tensor, name=scope)


def input_producer(input_tensor: Any, element_shape: Any = None, num_epochs: int | None = None, shuffle: bool = True,
                   seed: int | None = None, capacity: int = 32, shared_name: str | None = None, summary_name: str | None = None,
                   name: str | None = None, cancel_op: Any = None) -> data_flow_ops.QueueBase:
    """A queue with the rows of `input_tensor`, again and again.

    Args:
        element_shape: of a row, where `input_tensor` does not tell.
        num_epochs: how often; then reading gives OutOfRangeError.  None for ever.  See `limit_epochs`.
        shuffle, seed: whether the rows of an epoch come in random order.
        capacity: of the queue.
        shared_name, name: of the queue.
        summary_name: a scalar summary of how full the queue is, under this name.
        cancel_op: runs when the coordinator stops, instead of closing the queue.

    Raises:
        ValueError: the shape of a row is not known.
    """
    with _scope(name, "input_producer"):
        rows = convert_to_tensor(input_tensor, name="input_tensor")
        element = rows.shape[1:].merge_with(element_shape)
        if not element.is_fully_defined():
            raise ValueError("Either `input_tensor` must have a fully defined shape or `element_shape` must be specified")
        if shuffle:
            rows = random_shuffle(rows, seed=seed)
        rows = limit_epochs(rows, num_epochs)
        q = data_flow_ops.FIFOQueue(capacity, [rows.dtype.base_dtype], [element], shared_name=shared_name, name=name or "fifo_queue")
        add_queue_runner(QueueRunner(q, [q.enqueue_many([rows])], cancel_op=cancel_op))
        if summary_name is not None:
            _report(summary_name, q, 0, capacity)
        return q


def string_input_producer(string_tensor: Any, num_epochs: int | None = None, shuffle: bool = True, seed: int | None = None,
                          capacity: int = 32, shared_name: str | None = None, name: str | None = None,
                          cancel_op: Any = None) -> data_flow_ops.QueueBase:
    """A queue with the strings of a vector (file names), again and again.  See `input_producer`.

    Raises:
        ValueError: an empty list.  InvalidArgumentError (at run time): an empty tensor.
    """
    missing = "string_input_producer requires a non-null input tensor"
    if not isinstance(string_tensor, Tensor) and not hasattr(string_tensor, "_as_tensor") and not len(string_tensor):
        raise ValueError(missing)
    with _scope(name, "input_producer") as scope:
        strings = convert_to_tensor(string_tensor, types.string)
        with get_default_graph().control_dependencies([Assert(greater(size(strings), 0), [missing])]):
            strings = identity(strings)
        return input_producer(strings, [], num_epochs, shuffle, seed, capacity, shared_name, f"fraction_of_{capacity}_full", scope,
                              cancel_op)


def range_input_producer(limit: Any, num_epochs: int | None = None, shuffle: bool = True, seed: int | None = None, capacity: int = 32,
                         shared_name: str | None = None, name: str | None = None) -> data_flow_ops.QueueBase:
    """A queue with the integers from 0 to `limit` - 1, again and again.  See `input_producer`."""
    with _scope(name, "input_producer") as scope:
        return input_producer(integers(limit), [], num_epochs, shuffle, seed, capacity, shared_name, f"fraction_of_{capacity}_full", scope)


def slice_input_producer(tensor_list: Any, num_epochs: int | None = None, shuffle: bool = True, seed: int | None = None, capacity: int = 32,
                         shared_name: str | None = None, name: str | None = None) -> list[Tensor]:
    """A row of each tensor of the list, another one at each run: those at the same place.  See `input_producer`.

    Raises ValueError for an empty list.
    """
    with _scope(name, "input_producer"):
        tensors = [convert_to_tensor(t) for t in tensor_list]
        if not tensors:
            raise ValueError("Expected at least one tensor in slice_input_producer().")
        q = range_input_producer(shape(tensors[0])[0], num_epochs, shuffle, seed, capacity, shared_name)
        index = q.dequeue()
        return [gather(t, index) for t in tensors]


def _report(name: str, q: data_flow_ops.QueueBase, least: int, capacity: int) -> None:
    """A summary of how full the queue is, beyond `least` elements."""
    from ..summary import scalar

    scalar(name, cast(maximum(0, q.size() - least) if least else q.size(), types.float32) * (1.0 / (capacity - least)))


# ---------------------------------------------------------------- sparse elements


def _packed_spec(indices: Tensor, values: Tensor, dense_shape: Tensor, *, rows: bool) -> Spec:
    return Spec(types.string, (UNKNOWN,) if rows else ())


@primitive("host", type="PackSparse", infer=_packed_spec, dtypes=types.ALL + (types.string,), same=("-",), no_gradient="it is stored",
           input_dtypes=dict.fromkeys(("indices", "values", "dense_shape"), types.ALL + (types.string,)))
def pack_sparse(indices, values, dense_shape, *, rows):
    """A sparse tensor (with `rows` each of its rows) as one element of a queue."""


@pack_sparse.reference
def _(indices, values, dense_shape, *, rows):
    if not rows:
        return _element([(indices.copy(), values.copy(), dense_shape.copy())], ())  # what is stored outlives the step
    places = [np.nonzero(indices[:, 0] == k)[0] for k in range(int(dense_shape[0]))]
    return _element([(indices[at, 1:], values[at], dense_shape[1:].copy()) for at in places], (len(places),))


class _Stored(bytes):
    """Indices, values and shape of one sparse element; for everybody else an element of a string tensor."""

    parts: Any

    def __new__(cls, parts: Any) -> _Stored:
        made = super().__new__(cls)
        made.parts = parts
        return made


def _element(parts: list[Any], sizes: tuple[int, ...]) -> np.ndarray:
    found = np.empty(len(parts), object)
    for k, part in enumerate(parts):
        found[k] = _Stored(part)
    return found.reshape(sizes)


def _plus(rank: int | None) -> Any:
    return UNKNOWN if rank is None else rank + 1


@primitive("host", type="UnpackSparse", dtypes=(types.string,), no_gradient="it has been stored",
           infer=lambda packed, *, dtype, rank: [Spec(types.int64, (UNKNOWN, _plus(rank))), Spec(dtype, (UNKNOWN,)),
                                                 Spec(types.int64, (_plus(rank),))])
def unpack_sparse(packed, *, dtype, rank):
    """Elements of `pack_sparse`, one above the other: indices, values and shape of the whole."""


@unpack_sparse.reference
def _(packed, *, dtype, rank):
    parts = [stored.parts for stored in packed.reshape(-1)]
    if not parts:
        return np.zeros((0, (rank or 0) + 1), np.int64), np.zeros(0, dtype.np), np.zeros((rank or 0) + 1, np.int64)
    indices = [np.concatenate([np.full((len(i), 1), k, np.int64), i], 1) for k, (i, _, _) in enumerate(parts)]
    return (np.concatenate(indices), np.concatenate([v for _, v, _ in parts]).astype(dtype.np),
            np.array([len(parts), *np.max([s for _, _, s in parts], 0)], np.int64))


class _Form:
    """How elements are written: as a dictionary or a list, which of them are sparse."""

    def __init__(self, tensors: Any):
        self.keys = sorted(tensors, key=str) if isinstance(tensors, dict) else None
        self.sparse = [t.dtype if isinstance(t, SparseTensor) else None for t in self.listed(tensors)]

    def listed(self, tensors: Any) -> list[Any]:
        if self.keys is not None:
            found = [tensors[k] for k in self.keys]
        else:
            found = list(tensors) if isinstance(tensors, (list, tuple)) else [tensors]
        return [convert_to_tensor_or_sparse_tensor(t) for t in found]

    def stored(self, tensors: list[Any], many: bool) -> list[Tensor]:
        self.ranks = [(t.dense_shape.sizes or (None,))[0] if isinstance(t, SparseTensor) else None for t in tensors]
        self.ranks = [r - many if isinstance(r, int) else None for r in self.ranks]
        return [pack_sparse(t.indices, t.values, t.dense_shape, rows=many) if isinstance(t, SparseTensor) else t for t in tensors]

    def restored(self, found: Any) -> Any:
        tensors = list(found) if isinstance(found, list) else [found]
        whole = [t if d is None else SparseTensor(*unpack_sparse(t, dtype=d, rank=r)) for t, d, r in zip(tensors, self.sparse, self.ranks)]
        if self.keys is not None:
            return dict(zip(self.keys, whole))
        return whole[0] if len(whole) == 1 else whole


# ---------------------------------------------------------------- batches


def _keep(keep_input: Any, many: bool) -> Tensor:
    keep = convert_to_tensor(keep_input, types.bool_)
    if keep.shape.ndims is None:
        raise ValueError("`keep_input` dimensions must be known at graph construction.")
    if not many and keep.shape.ndims == 1:
        raise ValueError("`keep_input` cannot be a vector when `enqueue_many=False`.")
    if keep.shape.ndims > 1:
        raise ValueError("`keep_input` must be 0 or 1 dimensions.")
    return keep


def _element_shapes(lists: list[list[Tensor]], shapes: Any, many: bool) -> list[Any]:
    """What all lists agree on; the shape of a row, if those are the elements."""
    if shapes is not None:
        return shapes  # type: ignore[no-any-return]
    found = []
    for column in zip(*lists):
        merged = TensorShape(None)
        for t in column:
            if t.shape.ndims is None:
                raise ValueError(f"Cannot infer Tensor's rank: {t}")
            merged = merged.merge_with(t.shape.with_rank_at_least(1)[1:] if many else t.shape)
        found.append(merged)
    return found


def _put(q: data_flow_ops.QueueBase, tensors: list[Tensor], many: bool, keep: Tensor) -> Operation:
    """Enqueues what is to be kept."""
    put = q.enqueue_many if many else q.enqueue
    if keep.shape.ndims == 1:
        return put([dynamic_partition(t, cast(keep, types.int32), 2)[1] for t in tensors])
    known = constant_value(keep)
    if known is not None:
        return put(tensors) if known else control_flow_ops.no_op()
    return control_flow_ops.cond(keep, lambda: put(tensors), control_flow_ops.no_op)  # type: ignore[no-any-return]


_Make = Callable[[list[Any], list[Any]], data_flow_ops.QueueBase]


def _batches(lists: Sequence[Any], batch_size: Any, keep_input: Any, threads: int, many: bool, shapes: Any, smaller: bool,
             default: str, name: str | None, make: _Make, least: int, capacity: int) -> Any:
    """Elements of several lists of tensors through one queue; the first list says what comes back.

    threads: how many run the enqueue of each list.  make: the queue, of dtypes and shapes.
    """
    if not lists:
        raise ValueError("Expected at least one set of tensors")
    if isinstance(lists[0], dict) and any(not isinstance(t, dict) or t.keys() != lists[0].keys() for t in lists):
        raise ValueError("All dictionaries in tensors_list must have the same keys")
    with _scope(name, default) as scope:
        forms = [_Form(t) for t in lists]
        tensors = [f.listed(t) for f, t in zip(forms, lists)]
        if not tensors[0]:
            raise ValueError("Expected at least one tensor in batch().")
        if any(f.sparse != forms[0].sparse for f in forms):
            raise ValueError("some lists have sparse tensors where others have none")
        keep = _keep(keep_input, many)
        stored = [f.stored(t, many) for f, t in zip(forms, tensors)]
        dtypes = [[t.dtype for t in s] for s in stored]
        for other in dtypes[1:]:
            if other != dtypes[0]:
                raise TypeError(f"Expected types to be consistent: {', '.join(d.name for d in dtypes[0])} vs. "
                                f"{', '.join(d.name for d in other)}.")
        q = make(dtypes[0], _element_shapes(stored, shapes, many))
        add_queue_runner(QueueRunner(q, [op for s in stored for op in [_put(q, s, many, keep)] * threads]))
        _report(f"fraction_over_{least}_of_{capacity - least}_full" if default.startswith("shuffle") else f"fraction_of_{capacity}_full",
                q, least, capacity)
        found = q.dequeue_up_to(batch_size, name=scope) if smaller else q.dequeue_many(batch_size, name=scope)
        return forms[0].restored(found)


def _fifo(dynamic_pad: bool, capacity: int, shared_name: str | None) -> _Make:
    kind = data_flow_ops.PaddingFIFOQueue if dynamic_pad else data_flow_ops.FIFOQueue
    return lambda dtypes, shapes: kind(capacity, dtypes, shapes, shared_name=shared_name)


def _shuffled(capacity: int, least: int, seed: int | None, shared_name: str | None) -> _Make:
    if capacity <= least:
        raise ValueError(f"capacity {capacity} must be bigger than min_after_dequeue {least}.")
    return lambda dtypes, shapes: data_flow_ops.RandomShuffleQueue(capacity, least, dtypes, shapes, seed=seed, shared_name=shared_name)


def maybe_batch(tensors: Any, keep_input: Any, batch_size: Any, num_threads: int = 1, capacity: int = 32, enqueue_many: bool = False,
                shapes: Any = None, dynamic_pad: bool = False, allow_smaller_final_batch: bool = False, shared_name: str | None = None,
                name: str | None = None) -> Any:
    """`batch` of those elements for which the boolean `keep_input` holds; a vector, with `enqueue_many`, speaks of each row."""
    return _batches([tensors], batch_size, keep_input, num_threads, enqueue_many, shapes, allow_smaller_final_batch, "batch", name,
                    _fifo(dynamic_pad, capacity, shared_name), 0, capacity)


def batch(tensors: Any, batch_size: Any, num_threads: int = 1, capacity: int = 32, enqueue_many: bool = False, shapes: Any = None,
          dynamic_pad: bool = False, allow_smaller_final_batch: bool = False, shared_name: str | None = None,
          name: str | None = None) -> Any:
    """Batches of what `num_threads` threads compute of `tensors`.

    Args:
        tensors: a tensor, list or dictionary of tensors (sparse ones too); one element.
        batch_size: of the batches; an integer or a tensor.
        num_threads: with more than one the order of elements is not that of their source.
        capacity: of the queue between.
        enqueue_many: the rows of `tensors` are the elements.
        shapes: of an element's tensors, where they are not known.
        dynamic_pad: sizes may be unknown: the elements of a batch are filled up with zeros to the largest.
        allow_smaller_final_batch: the last batch may be smaller; otherwise what is left over is dropped.
        shared_name, name: of the queue, and of the batch.

    Returns:
        What `tensors` is, with one more axis in front.  Reading gives OutOfRangeError when the source has ended.

    Raises:
        ValueError: shapes are not known.
    """
    return maybe_batch(tensors, True, batch_size, num_threads, capacity, enqueue_many, shapes, dynamic_pad, allow_smaller_final_batch,
                       shared_name, name)


def maybe_batch_join(tensors_list: Any, keep_input: Any, batch_size: Any, capacity: int = 32, enqueue_many: bool = False,
                     shapes: Any = None, dynamic_pad: bool = False, allow_smaller_final_batch: bool = False,
                     shared_name: str | None = None, name: str | None = None) -> Any:
    """`batch_join` of those elements for which `keep_input` holds."""
    return _batches(tensors_list, batch_size, keep_input, 1, enqueue_many, shapes, allow_smaller_final_batch, "batch_join", name,
                    _fifo(dynamic_pad, capacity, shared_name), 0, capacity)


def batch_join(tensors_list: Any, batch_size: Any, capacity: int = 32, enqueue_many: bool = False, shapes: Any = None,
               dynamic_pad: bool = False, allow_smaller_final_batch: bool = False, shared_name: str | None = None,
               name: str | None = None) -> Any:
    """`batch` of several sources: a list of what `batch` takes, each computed by a thread of its own."""
    return maybe_batch_join(tensors_list, True, batch_size, capacity, enqueue_many, shapes, dynamic_pad, allow_smaller_final_batch,
                            shared_name, name)


def maybe_shuffle_batch(tensors: Any, batch_size: Any, capacity: int, min_after_dequeue: int, keep_input: Any, num_threads: int = 1,
                        seed: int | None = None, enqueue_many: bool = False, shapes: Any = None, allow_smaller_final_batch: bool = False,
                        shared_name: str | None = None, name: str | None = None) -> Any:
    """`shuffle_batch` of those elements for which `keep_input` holds."""
    return _batches([tensors], batch_size, keep_input, num_threads, enqueue_many, shapes, allow_smaller_final_batch, "shuffle_batch", name,
                    _shuffled(capacity, min_after_dequeue, seed, shared_name), min_after_dequeue, capacity)


def shuffle_batch(tensors: Any, batch_size: Any, capacity: int, min_after_dequeue: int, num_threads: int = 1, seed: int | None = None,
                  enqueue_many: bool = False, shapes: Any = None, allow_smaller_final_batch: bool = False, shared_name: str | None = None,
                  name: str | None = None) -> Any:
    """`batch` in random order: a batch is drawn from `min_after_dequeue` elements and more.

    Raises ValueError unless `capacity` is larger than that.
    """
    return maybe_shuffle_batch(tensors, batch_size, capacity, min_after_dequeue, True, num_threads, seed, enqueue_many, shapes,
                               allow_smaller_final_batch, shared_name, name)


def maybe_shuffle_batch_join(tensors_list: Any, batch_size: Any, capacity: int, min_after_dequeue: int, keep_input: Any,
                             seed: int | None = None, enqueue_many: bool = False, shapes: Any = None,
                             allow_smaller_final_batch: bool = False, shared_name: str | None = None, name: str | None = None) -> Any:
    """`shuffle_batch_join` of those elements for which `keep_input` holds."""
    return _batches(tensors_list, batch_size, keep_input, 1, enqueue_many, shapes, allow_smaller_final_batch, "shuffle_batch_join", name,
                    _shuffled(capacity, min_after_dequeue, seed, shared_name), min_after_dequeue, capacity)


def shuffle_batch_join(tensors_list: Any, batch_size: Any, capacity: int, min_after_dequeue: int, seed: int | None = None,
                       enqueue_many: bool = False, shapes: Any = None, allow_smaller_final_batch: bool = False,
                       shared_name: str | None = None, name: str | None = None) -> Any:
    """`shuffle_batch` of several sources: a list of what that takes, each computed by a thread of its own."""
    return maybe_shuffle_batch_join(tensors_list, batch_size, capacity, min_after_dequeue, True, seed, enqueue_many, shapes,
                                    allow_smaller_final_batch, shared_name, name)
