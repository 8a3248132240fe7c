"""Descriptions without values: `tf.TensorSpec`, `tf.SparseTensorSpec`, `tf.IndexedSlicesSpec`, and `tf.DeviceSpec` of a device string."""
from __future__ import annotations

from typing import Any

from . import types
from .device_spec import DeviceSpec

__all__ = ["DeviceSpec", "IndexedSlicesSpec", "SparseTensorSpec", "TensorSpec", "TypeSpec"]


class TypeSpec:
    """What is common to them: equality by contents, and `is_compatible_with`."""

    def _key(self) -> tuple[Any, ...]:
        raise NotImplementedError

    def is_compatible_with(self, spec_or_value: Any) -> bool:
        """Whether shape and dtype agree with another description or with a value."""
        dtype, shape = getattr(spec_or_value, "dtype", None), getattr(spec_or_value, "shape", None)
        return dtype is not None and types.as_dtype(dtype) is self.dtype and self.shape.is_compatible_with(shape)  # type: ignore[attr-defined]

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self._key() == other._key()  # type: ignore[attr-defined]

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash(self._key())


class TensorSpec(TypeSpec):
    """The shape, dtype and name of a tensor."""

    def __init__(self, shape: Any, dtype: Any = types.float32, name: str | None = None):
        self.shape, self.dtype, self.name = types.TensorShape(shape), types.as_dtype(dtype), name

    @classmethod
    def from_spec(cls, spec: Any, name: str | None = None) -> TensorSpec:
        return cls(spec.shape, spec.dtype, name or spec.name)

    @classmethod
    def from_tensor(cls, tensor: Any, name: str | None = None) -> TensorSpec:
        """That of a tensor, named like its op."""
        return cls(tensor.shape, tensor.dtype, name or tensor.op.name)

    def _key(self) -> tuple[Any, ...]:
        return str(self.shape), self.dtype, self.name

    def __repr__(self) -> str:
        return f"TensorSpec(shape={self.shape}, dtype={self.dtype!r}, name={self.name!r})"


class SparseTensorSpec(TypeSpec):
    """The dense shape and the dtype of a SparseTensor."""

    def __init__(self, shape: Any = None, dtype: Any = types.float32):
        self.shape, self.dtype = types.TensorShape(shape), types.as_dtype(dtype)

    def _key(self) -> tuple[Any, ...]:
        return str(self.shape), self.dtype

    def __repr__(self) -> str:
        return f"SparseTensorSpec({self.shape}, {self.dtype!r})"


class IndexedSlicesSpec(TypeSpec):
    """The dense shape of IndexedSlices, and the dtypes of their values and indices."""

    def __init__(self, shape: Any = None, dtype: Any = types.float32, indices_dtype: Any = types.int64, dense_shape_dtype: Any = None,
                 indices_shape: Any = None):
        self.shape, self.dtype, self.indices_dtype = types.TensorShape(shape), types.as_dtype(dtype), types.as_dtype(indices_dtype)
        self.dense_shape_dtype = None if dense_shape_dtype is None else types.as_dtype(dense_shape_dtype)
        self.indices_shape = types.TensorShape(indices_shape)

    def _key(self) -> tuple[Any, ...]:
        return str(self.shape), self.dtype, self.indices_dtype, self.dense_shape_dtype, str(self.indices_shape)

    def __repr__(self) -> str:
        return f"IndexedSlicesSpec({self.shape}, {self.dtype!r})"
