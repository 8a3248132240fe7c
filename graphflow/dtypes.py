"""`tf.dtypes`: element types and conversions between them."""
from typing import Any

from .math_ops import cast, complex, saturate_cast
from .types import (DType, as_dtype, bfloat16, complex64, complex128, double, float16, float32, float64, half, int8, int16, int32, int64,
                    string, uint8, uint16, uint32, uint64)
from .types import bool_ as bool

__all__ = ["DType", "as_dtype", "bfloat16", "bool", "cast", "complex", "complex64", "complex128", "double", "float16", "float32", "float64",
           "half", "int8", "int16", "int32", "int64", "saturate_cast", "string", "uint8", "uint16", "uint32", "uint64"]


def __getattr__(name: str) -> Any:
    if name == "as_string":
        import graphflow

        return getattr(graphflow, name)
    raise AttributeError(f"module 'graphflow.dtypes' has no attribute {name!r}")
