"""Descriptions without values: `tf.TensorSpec`, `tf.SparseTensorSpec`, `tf.IndexedSlicesSpec`, and `tf.DeviceSpec` of a device string."""
from __future__ import annotations

import re
from typing import Any

from . import types

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


class DeviceSpec:
    """The parts of a device string such as "/job:ps/replica:0/task:1/device:GPU:0"; parts that are None are left open.

    Args:
        job, device_type: names.  replica, task, device_index: numbers.
    """

    def __init__(self, job: str | None = None, replica: int | None = None, task: int | None = None, device_type: str | None = None,
                 device_index: int | None = None):
        self.job, self.device_type = job or None, device_type.upper() if device_type and device_type != "*" else None
        self.replica, self.task, self.device_index = (None if n is None else int(n) for n in (replica, task, device_index))

    def parse_from_string(self, spec: str) -> DeviceSpec:
        """Takes the parts that a device string names, and returns itself.  Raises ValueError for an unknown part."""
        for part in filter(None, spec.split("/")):
            kind, *rest = part.split(":")
            numbers = [None if r == "*" else r for r in rest]
            if kind in ("job", "replica", "task") and len(rest) == 1:
                value: Any = numbers[0]
                setattr(self, kind, value if kind == "job" or value is None else int(value))
            elif kind == "device" and len(rest) in (1, 2):
                self.device_type = numbers[0].upper() if numbers[0] else None
                self.device_index = int(numbers[1]) if len(rest) == 2 and numbers[1] else None
            elif re.fullmatch(r"(?i)[cgt]pu", kind) and len(rest) == 1:
                self.device_type, self.device_index = kind.upper(), int(numbers[0]) if numbers[0] else None
            else:
                raise ValueError(f"Unknown attribute {kind!r} is encountered while parsing the device spec: {spec!r}.")
        return self

    @classmethod
    def from_string(cls, spec: str) -> DeviceSpec:
        """The parts of a device string."""
        return cls().parse_from_string(spec)

    def merge_from(self, dev: DeviceSpec) -> None:
        """Takes the parts that `dev` names."""
        for part in ("job", "replica", "task", "device_type", "device_index"):
            if getattr(dev, part) is not None:
                setattr(self, part, getattr(dev, part))

    def make_merged_spec(self, dev: DeviceSpec) -> DeviceSpec:
        """These parts with those that `dev` names."""
        found = self.replace()
        found.merge_from(dev)
        return found

    def replace(self, **parts: Any) -> DeviceSpec:
        """A copy with other parts."""
        return DeviceSpec(**{**{k: getattr(self, k) for k in ("job", "replica", "task", "device_type", "device_index")}, **parts})

    def to_string(self) -> str:
        """The device string."""
        text = "".join(f"/{k}:{getattr(self, k)}" for k in ("job", "replica", "task") if getattr(self, k) is not None)
        if self.device_type is None:
            return text
        return f"{text}/device:{self.device_type}:{'*' if self.device_index is None else self.device_index}"

    def __eq__(self, other: object) -> bool:
        return isinstance(other, DeviceSpec) and self.to_string() == other.to_string()

    def __hash__(self) -> int:
        return hash(self.to_string())

    def __repr__(self) -> str:
        return f"DeviceSpec({self.to_string()!r})"
