"""Arrays as TensorProto messages and back."""
from __future__ import annotations

from typing import Any

import numpy as np

from . import proto, types
from .ops.decoding import from_tensor_proto, tensor_proto
from .ops.opdef import to_array

__all__ = ["make_ndarray", "make_tensor_proto"]

# The field that holds the values of a dtype, if they are few.
_FIELDS = {"float32": "float_val", "float64": "double_val", "int64": "int64_val", "bool": "bool_val", "uint32": "uint32_val",
           "uint64": "uint64_val", "complex64": "scomplex_val", "complex128": "dcomplex_val", "float16": "half_val",
           "string": "string_val"}


def make_tensor_proto(values: Any, dtype: Any = None, shape: Any = None, verify_shape: bool = False, allow_broadcast: bool = False) -> Any:
    """A TensorProto of a number, a list, an array or strings.

    Args:
        dtype: by default that of the array; of Python numbers float32, int32 (int64 for large ones), string.
        shape: by default that of the values; a larger one is filled up with the last value.
        verify_shape: the values must have exactly this shape.
        allow_broadcast: of the values only one, or as many as the shape has.

    Raises:
        ValueError: None, ragged lists, more values than the shape has, both flags.
        TypeError: values that are no `dtype`; another shape than the one to be verified.
    """
    if allow_broadcast and verify_shape:
        raise ValueError("allow_broadcast and verify_shape are not both allowed.")
    if isinstance(values, proto.TensorProto):
        return values
    if values is None:
        raise ValueError("None values not supported.")
    wanted = None if dtype is None else types.as_dtype(dtype).base_dtype
    if wanted is not None and isinstance(values, (np.ndarray, np.generic)) and wanted is not types.string:
        array = np.asarray(values).astype(wanted.np)
    else:
        array = to_array(values, wanted)
    kind = wanted or types.as_dtype(array.dtype)
    sizes = list(array.shape) if shape is None else [int(n) for n in types.TensorShape(shape).as_list()]  # type: ignore[arg-type]
    count = int(np.prod(sizes, dtype=np.int64))
    if allow_broadcast and array.size not in (1, count) or verify_shape and list(array.shape) != sizes:
        raise TypeError(f"Expected Tensor's shape: {tuple(sizes)}, but got {array.shape}.")
    if array.size > count:
        raise ValueError(f"Too many elements provided. Takes at most {count}, but got {array.size}.")
    if array.size == count > 1 and kind is not types.string:
        return tensor_proto(array.reshape(sizes), kind)
    made = proto.TensorProto(dtype=kind.as_datatype_enum)
    made.tensor_shape.SetInParent()
    for n in sizes:
        made.tensor_shape.dim.add(size=n)
    getattr(made, _FIELDS.get(kind.name, "half_val" if kind.kind == "f" else "int_val")).extend(_numbers(array.reshape(-1), kind))
    return made


def _numbers(flat: np.ndarray, kind: types.DType) -> list[Any]:
    if kind is types.string:
        return [v if isinstance(v, bytes) else str(v).encode() for v in flat.tolist()]
    if kind.kind == "c":
        return [part for v in flat.tolist() for part in (v.real, v.imag)]
    return (flat.view(np.uint16) if kind.size == 2 and kind.kind == "f" else flat).tolist()


def make_ndarray(tensor: Any) -> np.ndarray:
    """The array in a TensorProto.  Raises TypeError for one whose dtype or shape does not fit its values."""
    try:
        array, _ = from_tensor_proto(tensor)
    except (ValueError, KeyError) as e:
        raise TypeError(f"Unsupported tensor: {e}") from None
    return array
