"""`tf.IndexedSlices`: a gradient that is zero outside some rows, kept as those rows."""
from __future__ import annotations

from typing import Any

from .. import graph, types
from ..graph import Tensor
from .opdef import convert_to_tensor


class IndexedSlices:
    """Rows `values[i]` at `indices[i]` of a tensor of shape `dense_shape`; rows of equal index add up.

    It converts to a dense tensor where one is needed.
    """

    def __init__(self, values: Any, indices: Any, dense_shape: Any = None):
        self._values = convert_to_tensor(values)
        self._indices = convert_to_tensor(indices)
        self._dense_shape = None if dense_shape is None else convert_to_tensor(dense_shape)

    values = property(lambda self: self._values)
    indices = property(lambda self: self._indices)
    dense_shape = property(lambda self: self._dense_shape)
    dtype = property(lambda self: self._values.dtype)
    name = property(lambda self: self._values.name)
    op = property(lambda self: self._values.op)
    device = property(lambda self: self._values.device)
    graph = property(lambda self: self._values.graph)

    @property
    def shape(self) -> types.TensorShape:
        """The dense shape as far as it is known."""
        from .array import values_of

        found = None if self._dense_shape is None else values_of(self._dense_shape)
        return types._shape(None if found is None else tuple(found))

    def get_shape(self) -> types.TensorShape:
        return self.shape

    def consumers(self) -> list[Any]:
        return self._values.consumers()

    def _components(self) -> list[Tensor]:
        return [self._values, self._indices, *([] if self._dense_shape is None else [self._dense_shape])]

    def _with_components(self, tensors: Any) -> IndexedSlices:
        return IndexedSlices(*tensors)

    def _to_dense(self, name: str | None = None) -> Tensor:
        """The dense tensor.  Raises ValueError without a dense shape."""
        from .indexing import unsorted_segment_sum

        if self._dense_shape is None:
            raise ValueError(f"Tensor conversion requested for IndexedSlices without dense_shape: {self!r}")
        rows = graph.OPERATORS["getitem"](self._dense_shape, 0)
        return unsorted_segment_sum(self._values, self._indices, rows, name=name)

    _as_tensor = _to_dense

    def __neg__(self) -> IndexedSlices:
        return IndexedSlices(-self._values, self._indices, self._dense_shape)

    def __repr__(self) -> str:
        return f"IndexedSlices(indices={self._indices!r}, values={self._values!r}, dense_shape={self._dense_shape!r})"


class IndexedSlicesValue:
    """An `IndexedSlices` that was run: arrays `values`, `indices`, `dense_shape`."""

    __slots__ = ("values", "indices", "dense_shape")

    def __init__(self, values: Any, indices: Any, dense_shape: Any = None):
        self.values, self.indices, self.dense_shape = values, indices, dense_shape

    def __iter__(self) -> Any:
        return iter((self.values, self.indices, self.dense_shape))

    def __repr__(self) -> str:
        return f"IndexedSlicesValue(values={self.values!r}, indices={self.indices!r}, dense_shape={self.dense_shape!r})"
