"""Meeting places of threads beside queues: gradient accumulators, barriers, staging areas (rank 9)."""
from __future__ import annotations

import threading
from collections import deque
from typing import Any, Sequence

import numpy as np

from . import errors, types
from .data_flow_ops import _dtypes, _shapes, _sizes
from .graph import Operation, Spec, Tensor, get_default_graph
from .ops.indexed_slices import IndexedSlices
from .ops.opdef import constant_value, convert_to_tensor
from .ops.resource import handle_op, object_of, resource_op
from .types import UNKNOWN, DType, TensorShape

__all__ = ["Barrier", "ConditionalAccumulator", "ConditionalAccumulatorBase", "SparseConditionalAccumulator", "StagingArea"]


def _int64(value: Any) -> Tensor:
    from .math_ops import cast

    return cast(convert_to_tensor(value), types.int64)  # type: ignore[no-any-return]


# ---------------------------------------------------------------- accumulators


class Accumulator:
    """A sum of gradients that are not older than its step, and how many they are."""

    def __init__(self, op: Operation):
        a = op.attrs
        self.shape, self.mean = a["shape"], a["reduction_type"] == "MEAN"
        self.changed = threading.Condition(threading.Lock())
        self.step, self.count = 0, 0
        self.clear()

    def clear(self) -> None:
        self.sum: Any = None

    def check(self, have: Sequence[Any], what: str) -> None:
        want = self.shape
        if want is not None and (len(want) != len(have) or any(not isinstance(w, types.Dim) and w != h for w, h in zip(want, have))):
            raise errors.InvalidArgumentError(None, None, f"Shape mismatch: expected {what} of shape {types.shape_text(want)}, got "
                                              f"{types.shape_text(tuple(have))}")

    def add(self, step: int, *gradient: np.ndarray) -> None:
        """Adds a gradient, unless it is too old."""
        with self.changed:
            if step >= self.step:
                self._add(*gradient)
                self.count += 1
                self.changed.notify_all()

    def _add(self, gradient: np.ndarray) -> None:
        self.check(gradient.shape, "a gradient")
        if self.sum is not None and self.sum.shape != gradient.shape:
            raise errors.InvalidArgumentError(None, None, f"Shape mismatch: expected a gradient of shape "
                                              f"{types.shape_text(self.sum.shape)}, got {types.shape_text(gradient.shape)}")
        self.sum = gradient.copy() if self.sum is None else self.sum + gradient

    def take(self, access: Any, required: int) -> list[np.ndarray]:
        """The average (or sum) of all, when they are `required`; then begins anew, one step later."""
        if required < 1:
            raise errors.InvalidArgumentError(None, None, f"Argument num_required must be at least 1, got {required}")
        with self.changed:
            access.wait(self.changed, lambda: self.count >= required)
            found = self._total()
            self.step, self.count = self.step + 1, 0
            self.clear()
        return found

    def _total(self) -> list[np.ndarray]:
        return [self.sum / self.sum.dtype.type(self.count) if self.mean else self.sum]


class SparseAccumulator(Accumulator):
    """Sums of rows by their index; the average of a row is that of the gradients which have it."""

    def clear(self) -> None:
        self.rows: dict[int, np.ndarray] = {}
        self.counts: dict[int, int] = {}
        self.last: tuple[np.ndarray, np.ndarray] | None = None

    def _add(self, indices: np.ndarray, values: np.ndarray, dense_shape: np.ndarray) -> None:  # type: ignore[override]
        if indices.ndim != 1 or values.ndim < 1 or len(indices) != len(values):
            raise errors.InvalidArgumentError(None, None, f"Indices of shape {types.shape_text(indices.shape)} do not fit values of shape "
                                              f"{types.shape_text(values.shape)}")
        self.check([self.shape[0] if self.shape else 0, *values.shape[1:]], "a gradient")
        if dense_shape.size:
            self.check(dense_shape.tolist(), "a gradient")
        for i in dict.fromkeys(indices.tolist()):
            row = values[indices == i].sum(0)
            self.rows[i] = row if i not in self.rows else self.rows[i] + row
            self.counts[i] = self.counts.get(i, 0) + 1
        self.last = values, dense_shape

    def _total(self) -> list[np.ndarray]:
        assert self.last is not None
        values, dense_shape = self.last
        order = sorted(self.rows)
        rows = [self.rows[i] / values.dtype.type(self.counts[i]) if self.mean else self.rows[i] for i in order]
        made = np.array(rows, values.dtype).reshape(len(order), *values.shape[1:])
        if not dense_shape.size:
            first = self.shape[0] if self.shape is not None and not isinstance(self.shape[0], types.Dim) else -1
            dense_shape = np.array([first, *values.shape[1:]])
        return [np.array(order, np.int64), made, dense_shape.astype(np.int64)]


@handle_op("ConditionalAccumulator", Accumulator, "conditional_accumulator")
def _accumulator(*, dtype, shape, reduction_type="MEAN", container="", shared_name=""):
    """A handle."""


@handle_op("SparseConditionalAccumulator", SparseAccumulator, "sparse_conditional_accumulator")
def _sparse_accumulator(*, dtype, shape, reduction_type="MEAN", container="", shared_name=""):
    """A handle."""


@resource_op("AccumulatorApplyGradient", lambda *_: [])
def _apply(handle, local_step, gradient):
    """Adds a gradient."""


@resource_op("SparseAccumulatorApplyGradient", lambda *_: [])
def _apply_sparse(handle, local_step, indices, values, dense_shape):
    """Adds rows of a gradient."""


def _add(access: Any, op: Operation, arrays: list[np.ndarray]) -> list[np.ndarray]:
    object_of(access, op, arrays).add(int(arrays[1]), *arrays[2:])
    return []


_apply.performs(_add)
_apply_sparse.performs(_add)


@resource_op("AccumulatorTakeGradient", lambda handle, n, *, dtype, shape: Spec(dtype, shape), blocks=True)
def _take(handle, num_required, *, dtype, shape):
    """The average of the gradients."""


@resource_op("SparseAccumulatorTakeGradient", lambda handle, n, *, dtype, shape: [
    Spec(types.int64, (UNKNOWN,)), Spec(dtype, None if shape is None else (UNKNOWN, *shape[1:])),
    Spec(types.int64, None if shape is None else (len(shape),))], blocks=True)
def _take_sparse(handle, num_required, *, dtype, shape):
    """The average of the gradients: indices, values, shape."""


def _taken(access: Any, op: Operation, arrays: list[np.ndarray]) -> list[np.ndarray]:
    return object_of(access, op, arrays).take(access, int(arrays[1]))  # type: ignore[no-any-return]


_take.performs(_taken)
_take_sparse.performs(_taken)


@resource_op("AccumulatorNumAccumulated", lambda handle: Spec(types.int32, ()))
def _accumulated(handle):
    """How many gradients there are."""


@_accumulated.performs
def _(access, op, arrays):
    return [np.array(object_of(access, op, arrays).count, np.int32)]


@resource_op("AccumulatorSetGlobalStep", lambda *_: [])
def _set_step(handle, new_global_step):
    """Sets the step."""


@_set_step.performs
def _(access, op, arrays):
    object_of(access, op, arrays).step = int(arrays[1])
    return []


class ConditionalAccumulatorBase:
    """What accumulators share.  dtype, shape: of the gradients; the shape may be None."""

    def __init__(self, dtype: Any, shape: Any, accumulator_ref: Tensor):
        self._dtype, self._shape, self._accumulator_ref = types.as_dtype(dtype), TensorShape(shape), accumulator_ref
        self._name = accumulator_ref.op.name.split("/")[-1]

    @property
    def accumulator_ref(self) -> Tensor:
        """The handle, a string scalar."""
        return self._accumulator_ref

    @property
    def name(self) -> str:
        return self._accumulator_ref.op.name

    @property
    def dtype(self) -> DType:
        return self._dtype

    def num_accumulated(self, name: str | None = None) -> Tensor:
        """How many gradients have been added since the last `take_grad`; int32."""
        return _accumulated(self._accumulator_ref, name=name or f"{self._name}_NumAccumulated")  # type: ignore[no-any-return]

    def set_global_step(self, new_global_step: Any, name: str | None = None) -> Operation:
        """Sets its step: gradients of older ones are ignored."""
        return _set_step(self._accumulator_ref, _int64(new_global_step), name=name)

    def _attrs(self) -> dict[str, Any]:
        return {"dtype": self._dtype, "shape": types.as_shape(self._shape)}


def _reduction(kind: str) -> str:
    if kind not in ("MEAN", "SUM"):
        raise ValueError(f"reduction_type must be 'MEAN' or 'SUM', got {kind!r}")
    return kind


class ConditionalAccumulator(ConditionalAccumulatorBase):
    """Collects gradients of several workers until there are enough.

    Args:
        shared_name: accumulators with the same one are the same in a session.
        reduction_type: "MEAN" or "SUM".
    """

    def __init__(self, dtype: Any, shape: Any = None, shared_name: str | None = None, name: str = "conditional_accumulator",
                 reduction_type: str = "MEAN"):
        ref = _accumulator(dtype=types.as_dtype(dtype), shape=types.as_shape(TensorShape(shape)), reduction_type=_reduction(reduction_type),
                           shared_name=shared_name or "", name=name)
        super().__init__(dtype, shape, ref)

    def apply_grad(self, grad: Any, local_step: Any = 0, name: str | None = None) -> Operation:
        """Adds `grad`, unless `local_step` is smaller than the accumulator's step.  Raises ValueError for another shape."""
        grad = convert_to_tensor(grad, self._dtype)
        grad.shape.assert_is_compatible_with(self._shape)
        return _apply(self._accumulator_ref, _int64(local_step), grad, name=name)

    def take_grad(self, num_required: Any, name: str | None = None) -> Tensor:
        """The average of the gradients; waits until there are `num_required`.  Then it is empty, and its step larger by 1.

        Raises InvalidArgumentError (at run time) for `num_required` < 1.
        """
        return _take(self._accumulator_ref, num_required, name=name, **self._attrs())  # type: ignore[no-any-return]


class SparseConditionalAccumulator(ConditionalAccumulatorBase):
    """`ConditionalAccumulator` of gradients of which each has some rows; a row's average is that of those which have it."""

    def __init__(self, dtype: Any, shape: Any = None, shared_name: str | None = None, name: str = "sparse_conditional_accumulator",
                 reduction_type: str = "MEAN"):
        ref = _sparse_accumulator(dtype=types.as_dtype(dtype), shape=types.as_shape(TensorShape(shape)), shared_name=shared_name or "",
                                  reduction_type=_reduction(reduction_type), name=name)
        super().__init__(dtype, shape, ref)

    def apply_indexed_slices_grad(self, grad: Any, local_step: Any = 0, name: str | None = None) -> Operation:
        """Adds an IndexedSlices.  See `apply_grad`."""
        return self.apply_grad(grad.indices, grad.values, grad.dense_shape, local_step, name)

    def apply_grad(self, grad_indices: Any, grad_values: Any, grad_shape: Any = None, local_step: Any = 0,
                   name: str | None = None) -> Operation:
        """Adds rows `grad_values` at `grad_indices`, unless `local_step` is smaller than the accumulator's step.

        Raises InvalidArgumentError (at run time) for shapes that do not fit.
        """
        return _apply_sparse(self._accumulator_ref, _int64(local_step), _int64(grad_indices), convert_to_tensor(grad_values, self._dtype),
                             convert_to_tensor([], types.int64) if grad_shape is None else _int64(grad_shape), name=name)

    def take_grad(self, num_required: Any, name: str | None = None) -> tuple[Tensor, Tensor, Tensor]:
        """(indices, values, shape) of the average; see `ConditionalAccumulator.take_grad`."""
        return tuple(_take_sparse(self._accumulator_ref, num_required, name=name, **self._attrs()))  # type: ignore[return-value]

    def take_indexed_slices_grad(self, num_required: Any, name: str | None = None) -> IndexedSlices:
        """The average as an IndexedSlices."""
        indices, values, shape = self.take_grad(num_required, name)
        return IndexedSlices(values, indices, shape)


# ---------------------------------------------------------------- barriers


class Rows:
    """Elements put together component by component under a key; whole ones leave in the order of their first component."""

    def __init__(self, op: Operation):
        self.dtypes, self.shapes, self.label = op.attrs["component_types"], op.attrs["shapes"], f"Barrier '{op.name}'"
        self.changed = threading.Condition(threading.Lock())
        self.number, self.closed, self.cancelled = -2**63, False, False
        self.rows: dict[bytes, tuple[int, list[Any]]] = {}  # number of the call that has begun it, and its components
        self.ready: list[tuple[int, int, bytes, list[Any]]] = []
        self.begun: dict[bytes, int] = {}
        self.order = 0

    def insert(self, component: int, keys: np.ndarray, values: np.ndarray) -> None:
        if keys.ndim != 1 or values.ndim < 1 or len(keys) != len(values):
            raise errors.InvalidArgumentError(None, None, f"keys of shape {types.shape_text(keys.shape)} do not fit values of shape "
                                              f"{types.shape_text(values.shape)}")
        names = [k.encode() if isinstance(k, str) else k for k in keys.tolist()]
        with self.changed:
            if self.cancelled or self.closed and any(k not in self.rows for k in names):
                raise errors.CancelledError(None, None, f"{self.label} is closed")
            for k in names:
                if k in self.rows and self.rows[k][1][component] is not None:
                    raise errors.InvalidArgumentError(None, None, f"Key {k.decode(errors='replace')} already has a value for component "
                                                      f"{component} in barrier {self.label}")
            for k, v in zip(names, values):
                if k not in self.rows:
                    self.rows[k], self.begun[k] = (self.number, [None] * len(self.dtypes)), self.order
                    self.order += 1
                self.rows[k][1][component] = np.array(v)
                if all(c is not None for c in self.rows[k][1]):
                    number, parts = self.rows.pop(k)
                    self.ready.append((self.begun.pop(k), number, k, parts))
            self.number += 1
            self.changed.notify_all()

    def _ended(self) -> bool:
        return self.closed and (self.cancelled or not self.rows)

    def take(self, access: Any, count: int, fewer: bool) -> list[np.ndarray]:
        with self.changed:
            access.wait(self.changed, lambda: len(self.ready) >= count or self._ended())
            self.ready.sort(key=lambda row: row[0])
            if len(self.ready) < count and not (fewer and self.ready):
                raise errors.OutOfRangeError(None, None, f"{self.label} is closed and has insufficient elements (requested {count}, total "
                                             f"size {len(self.ready)})")
            found, self.ready = self.ready[:count], self.ready[count:]
        columns = [np.stack([row[3][i] for row in found]) if found else np.zeros((0,), d.np) for i, d in enumerate(self.dtypes)]
        return [np.array([row[1] for row in found], np.int64), np.array([row[2] for row in found], object), *columns]

    def shut(self, cancel: bool) -> None:
        with self.changed:
            self.closed, self.cancelled = True, self.cancelled or cancel
            self.changed.notify_all()


@handle_op("Barrier", Rows, "barrier")
def _barrier(*, component_types, shapes, container="", shared_name=""):
    """A handle."""


@resource_op("BarrierInsertMany", lambda *_, component_index: [])
def _insert(handle, keys, values, *, component_index):
    """Sets a component of the elements of `keys`."""


@_insert.performs
def _(access, op, arrays):
    object_of(access, op, arrays).insert(op.attrs["component_index"], arrays[1], arrays[2])
    return []


def _row_specs(handle: Tensor, n: Tensor, *, component_types: Any, shapes: Any, allow_small_batch: bool) -> list[Spec]:
    known = None if allow_small_batch else constant_value(n)
    count = UNKNOWN if known is None else int(known)
    columns = [Spec(d, None if shapes is None else (count, *shapes[i])) for i, d in enumerate(component_types)]
    return [Spec(types.int64, (count,)), Spec(types.string, (count,)), *columns]


@resource_op("BarrierTakeMany", _row_specs, blocks=True)
def _take_rows(handle, num_elements, *, component_types, shapes, allow_small_batch=False):
    """Indices, keys and components of whole elements."""


@_take_rows.performs
def _(access, op, arrays):
    return object_of(access, op, arrays).take(access, int(arrays[1]), op.attrs["allow_small_batch"])


@resource_op("BarrierClose", lambda handle, **_: [])
def _close(handle, *, cancel_pending_enqueues=False):
    """No new elements may be begun."""


@_close.performs
def _(access, op, arrays):
    object_of(access, op, arrays).shut(op.attrs["cancel_pending_enqueues"])
    return []


@resource_op("BarrierReadySize", lambda handle: Spec(types.int32, ()))
def _ready(handle):
    """The number of whole elements."""


@_ready.performs
def _(access, op, arrays):
    return [np.array(len(object_of(access, op, arrays).ready), np.int32)]


@resource_op("BarrierIncompleteSize", lambda handle: Spec(types.int32, ()))
def _incomplete(handle):
    """The number of elements that lack components."""


@_incomplete.performs
def _(access, op, arrays):
    return [np.array(len(object_of(access, op, arrays).rows), np.int32)]


class Barrier:
    """A map from strings to tuples of tensors that are put together component by component, and taken when they are whole.

    Args:
        types, shapes: of the components; `shapes` may be None.
        shared_name: barriers with the same one are the same in a session.

    Raises ValueError for shapes without elements.
    """

    def __init__(self, types: Any, shapes: Any = None, shared_name: str | None = None, name: str = "barrier"):
        self._types = _dtypes(types)
        found = _shapes(shapes, len(self._types))
        for i, s in enumerate(found or ()):
            if s.num_elements() == 0:
                raise ValueError(f"Empty tensors are not supported, but received shape '{s}' at index {i}")
        self._sizes = _sizes(found)
        self._barrier_ref = _barrier(component_types=tuple(self._types), shapes=self._sizes, shared_name=shared_name or "", name=name)
        self._name = self._barrier_ref.op.name.split("/")[-1]

    @property
    def barrier_ref(self) -> Tensor:
        """The handle, a string scalar."""
        return self._barrier_ref  # type: ignore[no-any-return]

    @property
    def name(self) -> str:
        return self._barrier_ref.op.name  # type: ignore[no-any-return]

    def insert_many(self, component_index: int, keys: Any, values: Any, name: str | None = None) -> Operation:
        """Gives the elements of `keys`, a string vector, their component `component_index`: the rows of `values`.

        Raises (at run time):
            InvalidArgumentError: an element has that component already.  CancelledError: the barrier is closed, and a key is new.
        """
        return _insert(self._barrier_ref, convert_to_tensor(keys), convert_to_tensor(values, self._types[component_index]),
                       component_index=int(component_index), name=name or f"{self._name}_BarrierInsertMany")

    def take_many(self, num_elements: Any, allow_small_batch: bool = False, timeout: Any = None, name: str | None = None) -> Any:
        """Takes whole elements; waits for them.

        Args:
            allow_small_batch: when the barrier is closed, fewer are enough, but at least one.
            timeout: accepted; use `tf.RunOptions(timeout_in_ms=...)`.

        Returns:
            (indices, keys, list of values): the number of the call that has begun an element, from -2**63 on; its key; components.

        Raises:
            OutOfRangeError (at run time): closed, and not enough elements.
        """
        found = _take_rows(self._barrier_ref, num_elements, component_types=tuple(self._types), shapes=self._sizes,
                           allow_small_batch=bool(allow_small_batch), name=name or f"{self._name}_BarrierTakeMany")
        return found[0], found[1], found[2:]

    def close(self, cancel_pending_enqueues: bool = False, name: str | None = None) -> Operation:
        """From then on no new elements may be begun; with `cancel_pending_enqueues` none be completed either."""
        return _close(self._barrier_ref, cancel_pending_enqueues=bool(cancel_pending_enqueues), name=name or f"{self._name}_BarrierClose")

    def ready_size(self, name: str | None = None) -> Tensor:
        """The number of whole elements; int32."""
        return _ready(self._barrier_ref, name=name or f"{self._name}_BarrierReadySize")  # type: ignore[no-any-return]

    def incomplete_size(self, name: str | None = None) -> Tensor:
        """The number of elements that lack components; int32."""
        return _incomplete(self._barrier_ref, name=name or f"{self._name}_BarrierIncompleteSize")  # type: ignore[no-any-return]


# ---------------------------------------------------------------- staging areas


class Stage:
    """A queue without end that may be looked into.  capacity, memory_limit: elements and bytes it holds, 0 for any number."""

    def __init__(self, op: Operation):
        self.capacity, self.limit = op.attrs["capacity"], op.attrs["memory_limit"]
        self.changed = threading.Condition(threading.Lock())
        self.items: deque[list[np.ndarray]] = deque()
        self.bytes = 0

    def _room(self, nbytes: int) -> bool:
        return (not self.capacity or len(self.items) < self.capacity) and (not self.limit or self.bytes + nbytes <= self.limit)

    def put(self, access: Any, element: list[np.ndarray]) -> None:
        nbytes = sum(a.nbytes for a in element)
        if self.limit and nbytes > self.limit:
            raise errors.ResourceExhaustedError(None, None, f"Attempted to insert tensors with combined size of '{nbytes}' bytes into "
                                                f"Staging Area with a memory limit of '{self.limit}'.")
        with self.changed:
            access.wait(self.changed, lambda: self._room(nbytes))
            self.items.append(element)
            self.bytes += nbytes
            self.changed.notify_all()

    def get(self, access: Any) -> list[np.ndarray]:
        with self.changed:
            access.wait(self.changed, lambda: self.items)
            found = self.items.popleft()
            self.bytes -= sum(a.nbytes for a in found)
            self.changed.notify_all()
        return found

    def peek(self, access: Any, index: int) -> list[np.ndarray]:
        with self.changed:
            access.wait(self.changed, lambda: len(self.items) > index)
            return self.items[index]

    def clear(self) -> None:
        with self.changed:
            self.items.clear()
            self.bytes = 0
            self.changed.notify_all()


@handle_op("StagingArea", Stage, "StagingArea")
def _staging(*, capacity, memory_limit, container="", shared_name=""):
    """A handle."""


@resource_op("Stage", lambda *_: [], blocks=True)
def _stage(handle, *values):
    """Puts an element."""


@_stage.performs
def _(access, op, arrays):
    object_of(access, op, arrays).put(access, [a.copy() for a in arrays[1:]])
    return []


@resource_op("Unstage", lambda handle, *, dtypes, shapes: [Spec(d, s) for d, s in zip(dtypes, shapes)], blocks=True)
def _unstage(handle, *, dtypes, shapes):
    """Takes the oldest element."""


@_unstage.performs
def _(access, op, arrays):
    return object_of(access, op, arrays).get(access)


@resource_op("StagePeek", lambda handle, index, *, dtypes, shapes: [Spec(d, s) for d, s in zip(dtypes, shapes)], blocks=True)
def _peek(handle, index, *, dtypes, shapes):
    """Looks at an element."""


@_peek.performs
def _(access, op, arrays):
    return object_of(access, op, arrays).peek(access, int(arrays[1]))


@resource_op("StageSize", lambda handle: Spec(types.int32, ()))
def _stage_size(handle):
    """The number of elements."""


@_stage_size.performs
def _(access, op, arrays):
    return [np.array(len(object_of(access, op, arrays).items), np.int32)]


@resource_op("StageClear", lambda handle: [])
def _stage_clear(handle):
    """Drops all elements."""


@_stage_clear.performs
def _(access, op, arrays):
    object_of(access, op, arrays).clear()
    return []


class StagingArea:
    """Holds what one step makes for a later one: `put` in this step, `get` in the next.

    Args:
        dtypes, shapes, names: lists for the components of an element; `shapes` and `names` may be None.  With names, elements are
            dictionaries.
        shared_name: areas with the same one are the same in a session.
        capacity, memory_limit: elements and bytes it holds; `put` waits when it is full.  0 for any number.

    Raises ValueError for lists of other lengths.
    """

    def __init__(self, dtypes: Any, shapes: Any = None, names: Any = None, shared_name: str | None = None, capacity: int = 0,
                 memory_limit: int = 0):
        self._dtypes = _dtypes(dtypes)
        for what, found in (("shapes", shapes), ("names", names)):
            if found is not None and len(found) != len(self._dtypes):
                raise ValueError(f"StagingArea {what} must be the same length as dtypes")
        if shared_name is not None and not isinstance(shared_name, str):
            raise ValueError(f"shared_name must be a string, got {shared_name!r}")
        self._shapes = [TensorShape(s) for s in (shapes or [None] * len(self._dtypes))]
        self._names, self._capacity, self._memory_limit = None if names is None else list(names), int(capacity), int(memory_limit)
        self._handle = _staging(capacity=self._capacity, memory_limit=self._memory_limit, shared_name=shared_name or "",
                                name=shared_name or "StagingArea")
        self._name = shared_name or self._handle.op.name

    name = property(lambda self: self._name)
    dtypes = property(lambda self: self._dtypes)
    shapes = property(lambda self: self._shapes)
    names = property(lambda self: self._names)
    capacity = property(lambda self: self._capacity)
    memory_limit = property(lambda self: self._memory_limit)

    def put(self, values: Any, name: str | None = None) -> Operation:
        """Puts an element: a tensor, a list or tuple of them, or a dictionary if it has names; waits while the area is full.

        Raises ValueError for other components, dtypes or shapes.
        """
        with get_default_graph().name_scope(name or f"{self._name}_put") as scope:
            if isinstance(values, dict):
                if not self._names:
                    raise ValueError("Staging areas must have names to enqueue a dictionary")
                if set(values) != set(self._names):
                    raise ValueError(f"Keys in dictionary to put do not match names of staging area. Dictionary: {sorted(values)}, "
                                     f"names: {sorted(self._names)}")
                values = [values[n] for n in self._names]
            elif self._names:
                raise ValueError("You must enqueue a dictionary in a staging area with names")
            values = list(values) if isinstance(values, (list, tuple)) else [values]
            if len(values) != len(self._dtypes):
                raise ValueError(f"Unexpected number of inputs {len(values)} vs {len(self._dtypes)}")
            tensors = [convert_to_tensor(v, preferred_dtype=d) for v, d in zip(values, self._dtypes)]
            for t, d, s in zip(tensors, self._dtypes, self._shapes):
                if t.dtype.base_dtype is not d:
                    raise ValueError(f"Datatypes do not match. {t.dtype.name} != {d.name}")
                t.shape.assert_is_compatible_with(s)
            return _stage(self._handle, *tensors, name=scope)

    def _given(self, found: Any) -> Any:
        tensors = found if isinstance(found, list) else [found]
        return dict(zip(self._names, tensors)) if self._names else tensors

    def _attrs(self) -> dict[str, Any]:
        return {"dtypes": tuple(self._dtypes), "shapes": tuple(types.as_shape(s) for s in self._shapes)}

    def get(self, name: str | None = None) -> Any:
        """Takes the oldest element, a list of tensors (a dictionary if it has names); waits for it."""
        return self._given(_unstage(self._handle, name=name or f"{self._name}_get", **self._attrs()))

    def peek(self, index: Any, name: str | None = None) -> Any:
        """The element at `index` (0 is the oldest), which stays; waits for it."""
        return self._given(_peek(self._handle, index, name=name or f"{self._name}_peek", **self._attrs()))

    def size(self, name: str | None = None) -> Tensor:
        """The number of elements; int32."""
        return _stage_size(self._handle, name=name or f"{self._name}_size")  # type: ignore[no-any-return]

    def clear(self, name: str | None = None) -> Operation:
        """Drops all elements."""
        return _stage_clear(self._handle, name=name or f"{self._name}_clear")
