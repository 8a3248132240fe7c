"""`tf.TensorArray`: slots for tensors of one dtype, each written at most once, that loops fill and read.

A value of this class never changes: `write` returns a new one, as in TF1.  Slots are one dense tensor with the slots along its
first axis (`flow`), and a bool for each of them.
"""
from __future__ import annotations

from typing import Any, Sequence

from . import errors, graph, types
from .graph import Tensor
from .ops import control
from .ops.opdef import convert_to_tensor

__all__ = ["TensorArray"]


class TensorArray:
    """Slots for tensors, written and read by index.

    Args:
        dtype: of the elements.
        size: how many slots; an int or an int32 scalar tensor.  0 when None.
        dynamic_size: whether writing past the end makes more slots.
        clear_after_read: accepted; reading twice is always allowed.
        tensor_array_name, handle, colocate_with_first_write_call: accepted.
        flow: the slots of another TensorArray.
        infer_shape: check that all elements have one shape.  They must have one in any case when slots are read.
        element_shape: the shape of an element; otherwise that of the first written.

    A slot that was not written reads as zeros, if the shape of elements is known by then.

    Raises (when run):
        InvalidArgumentError: an index out of range, a slot written twice, an element of another shape, nothing written at all.
    """

    def __init__(self, dtype: Any, size: Any = None, dynamic_size: bool | None = None, clear_after_read: bool | None = None,
                 tensor_array_name: str | None = None, handle: Any = None, flow: Any = None, infer_shape: bool = True,
                 element_shape: Any = None, colocate_with_first_write_call: bool = True, name: str | None = None):
        if handle is not None and tensor_array_name:
            raise ValueError("Cannot construct with both handle and tensor_array_name")
        if handle is not None and not isinstance(handle, Tensor):
            raise TypeError(f"Handle must be a Tensor, got {handle!r}")
        if handle is None and size is None:
            raise ValueError("Size must be provided if handle is not provided")
        for word, given in (("size", size), ("element_shape", element_shape), ("dynamic_size", dynamic_size),
                            ("clear_after_read", clear_after_read)):
            if handle is not None and given is not None:
                raise ValueError(f"Cannot provide both a handle and {word} at the same time")
        self._dtype = types.as_dtype(dtype)
        self._dynamic, self._infer = bool(dynamic_size), infer_shape
        self._elements: list[types.Shape] = [types.as_shape(element_shape)]  # shared by all values made from this one
        self._slots: types.Size = types.UNKNOWN  # how many there are, if that is a number and stays so
        if handle is not None:
            if flow is None:
                raise ValueError("a TensorArray is its handle and its flow: give both")
            self._flow, self._written = flow, handle
            return
        n = _index(size)
        if n.sizes not in ((), None):
            raise ValueError(f"size must be a scalar, got {n!r} of shape {n.shape}")
        self._flow, self._written = control.array_op(n, dtype=self._dtype, element=self._elements, dynamic=self._dynamic,
                                                       name=name or "TensorArray")
        if not self._dynamic and self._written.sizes is not None:
            self._slots = self._written.sizes[0]

    # -- what it is

    dtype = property(lambda self: self._dtype)
    flow = property(lambda self: self._flow)
    handle = property(lambda self: self._written)
    dynamic_size = property(lambda self: self._dynamic)
    graph = property(lambda self: self._flow.graph)
    name = property(lambda self: self._flow.name)

    @property
    def element_shape(self) -> types.TensorShape:
        return types._shape(self._elements[0])

    @property
    def _element_shape(self) -> types.TensorShape:
        return types._shape(self._elements[0])

    def _components(self) -> list[Tensor]:
        return [self._flow, self._written]

    def _component_shapes(self) -> list[types.Shape]:
        element = self._elements[0]
        return [None if element is None else (types.UNKNOWN, *element), (types.UNKNOWN,)]

    def _with_components(self, tensors: Sequence[Tensor]) -> TensorArray:
        found = object.__new__(TensorArray)
        found._dtype, found._dynamic, found._infer, found._elements = self._dtype, self._dynamic, self._infer, self._elements
        found._slots = self._slots
        found._flow, found._written = tensors
        return found

    def identity(self) -> TensorArray:
        """The same slots, available after the control inputs around."""
        from .array_ops import identity

        if not graph.get_default_graph()._state.control:
            return self
        known = self._flow.sizes is not None and types.known(self._flow.sizes[1:])  # slots without a shape cannot be copied
        return self._with_components([identity(self._flow) if known else self._flow, identity(self._written)])

    def grad(self, source: str, flow: Any = None, name: str | None = None) -> Any:
        raise NotImplementedError("TensorArray.grad is how TF1 differentiates its loops; here call tf.gradients")

    def _element(self, sizes: types.Shape, what: str) -> None:
        """Notes the shape of an element.  Raises ValueError when it contradicts what is known."""
        if not self._infer:
            return
        try:
            self._elements[0] = types.merge_shapes(self._elements[0], sizes)
        except ValueError:
            raise ValueError(f"Inconsistent shapes: saw {types._shape(sizes)} but expected {types._shape(self._elements[0])} ({what} of "
                             "a TensorArray; pass infer_shape=False if elements may differ)") from None

    def _value(self, value: Any) -> Tensor:
        t = convert_to_tensor(value, preferred_dtype=self._dtype)
        if t.dtype is not self._dtype:
            raise TypeError(f"TensorArray dtype is {self._dtype.name} but a value of {t.dtype.name} is written: {t!r}; "
                            "convert with tf.cast")
        return t

    # -- one element

    def write(self, index: Any, value: Any, name: str | None = None) -> TensorArray:
        """This array with `value` at `index`.  Raises TypeError for another dtype, ValueError for another shape."""
        from .ops.control import put, unwritten

        with graph.get_default_graph().name_scope(name or "TensorArrayWrite"):
            t = self._value(value)
            self._element(t.sizes, "write")
            at = unwritten(self._written, _index(index), dynamic=self._dynamic)
            flow = put(self._flow, at, t, dynamic=self._dynamic)
            mask = put(self._written, at, convert_to_tensor(True), dynamic=self._dynamic)
        return self._with_components([flow, mask])

    def read(self, index: Any, name: str | None = None) -> Tensor:
        """The element at `index`."""
        at = _index(index)
        found = control.row(self._flow, at, name=name or "TensorArrayReadV3")
        if self._infer and self._elements[0] is not None:
            found.set_shape(types._shape(self._elements[0]))
        return found

    # -- many

    def size(self, name: str | None = None) -> Tensor:
        """The number of slots, an int32 scalar."""
        return control.count_op(self._written, name=name or "TensorArraySizeV3")

    def stack(self, name: str | None = None) -> Tensor:
        """All elements, one above the other along a new first axis."""
        found = control.slots_op(self._flow, element=self._elements[0] if self._infer else None, name=name or "TensorArrayStack")
        if found.sizes is not None and types.is_unknown(found.sizes[0]) and not types.is_unknown(self._slots):
            found.set_shape(types._shape((self._slots, *found.sizes[1:])))
        return found

    def gather(self, indices: Any, name: str | None = None) -> Tensor:
        """The elements at `indices` (a vector), along a new first axis."""
        from .array_ops import gather

        return gather(self.stack(), convert_to_tensor(indices), name=name or "TensorArrayGatherV3")

    def concat(self, name: str | None = None) -> Tensor:
        """All elements, one behind the other along their first axis."""
        from .array_ops import concat, reshape, shape

        with graph.get_default_graph().name_scope(name or "TensorArrayConcatV3"):
            every = self.stack()
            tail = shape(every)
            found = reshape(every, concat([tail[0:1] * tail[1:2], tail[2:]], 0))
            if self._elements[0] is not None:
                found.set_shape(types._shape((types.UNKNOWN, *self._elements[0][1:])))
            return found

    def _rows(self, value: Any) -> Tensor:
        t = self._value(value)
        if t.sizes == ():
            raise ValueError(f"a TensorArray is filled with the rows of a tensor of rank 1 or more, got the scalar {t!r}")
        return t

    def _fill(self, value: Tensor) -> TensorArray:
        """All slots at once."""
        from .array_ops import concat, fill, pad, shape

        self._element(None if value.sizes is None else value.sizes[1:], "unstack")
        rows = types.UNKNOWN if value.sizes is None else value.sizes[0]
        written = fill(shape(value)[0:1], convert_to_tensor(True))
        if isinstance(rows, int) and isinstance(self._slots, int) and rows != self._slots:
            if rows > self._slots:
                raise errors.InvalidArgumentError(None, None, f"TensorArray has {self._slots} slots and is not resizeable, but {rows} "
                                                  f"values are put into it: {value!r}; give size={rows} or dynamic_size=True")
            more = self._slots - rows
            value = pad(value, [[0, more], *[[0, 0] for _ in value.sizes[1:]]])  # type: ignore[index]
            written = concat([written, fill([more], convert_to_tensor(False))], 0)
        found = self._with_components([value, written])
        if not isinstance(rows, int) and not self._dynamic:
            found._slots = types.UNKNOWN
        return found

    def unstack(self, value: Any, name: str | None = None) -> TensorArray:
        """The rows of `value` as elements 0, 1, ...

        Where the number of rows or of slots is known only at run time, the array has as many slots as there are rows.

        Raises:
            InvalidArgumentError: more rows than slots.  ValueError: a scalar.
        """
        with graph.get_default_graph().name_scope(name or "TensorArrayUnstack"):
            return self._fill(self._rows(value))

    def scatter(self, indices: Any, value: Any, name: str | None = None) -> TensorArray:
        """The rows of `value` at `indices` (a vector): a `write` for each."""
        from .array_ops import shape
        from .control_flow_ops import while_loop

        with graph.get_default_graph().name_scope(name or "TensorArrayScatter"):
            t, at = self._rows(value), _index(indices)
            self._element(None if t.sizes is None else t.sizes[1:], "scatter")
            rows = TensorArray(self._dtype, size=shape(t)[0])._fill(t)
            _, found = while_loop(lambda i, _: i < shape(at)[0], lambda i, a: (i + 1, a.write(at[i], rows.read(i))), (0, self))
            return found

    def split(self, value: Any, lengths: Any, name: str | None = None) -> TensorArray:
        """`value` cut along its first axis into elements of `lengths`, which must be equal.

        Raises:
            InvalidArgumentError: lengths that are not all the same, or do not add up to the rows of `value`.
        """
        from .array_ops import concat, identity, reshape, shape
        from .check_ops import assert_equal
        from .math_ops import cast, reduce_sum

        g = graph.get_default_graph()
        with g.name_scope(name or "TensorArraySplit"):
            t, sizes = self._rows(value), cast(convert_to_tensor(lengths), types.int32)
            checks = [assert_equal(sizes, sizes[0], message="TensorArray.split: elements of different lengths are not supported"),
                      assert_equal(reduce_sum(sizes), shape(t)[0], message="Expected sum of lengths to be equal to values.shape[0]")]
            with g.control_dependencies([c for c in checks if c is not None]):
                return self._fill(reshape(t, concat([shape(sizes), identity(sizes)[0:1], shape(t)[1:]], 0)))

    def close(self, name: str | None = None) -> Any:
        """Does nothing: memory is freed when no longer needed."""
        from .control_flow_ops import no_op

        return no_op(name)


def _index(value: Any) -> Tensor:
    """An index, a vector of them, or a size, as a tensor: int32 unless it is one already."""
    return convert_to_tensor(value, None if isinstance(value, Tensor) else types.int32)
