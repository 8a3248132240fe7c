"""`tf.compat`: `tf.compat.v1` is the names of `graphflow` itself; helpers for text that is str or bytes."""
from __future__ import annotations

import importlib
import numbers
from typing import Any

import numpy as np

__all__ = ["as_bytes", "as_str", "as_str_any", "as_text", "bytes_or_text_types", "complex_types", "integral_types", "path_to_str",
           "real_types", "v1"]

integral_types = (numbers.Integral, np.integer)
real_types = (numbers.Real, np.integer, np.floating)
complex_types = (numbers.Complex, np.number)
bytes_or_text_types = (bytes, str)


def as_bytes(bytes_or_text: Any, encoding: str = "utf-8") -> bytes:
    """Text encoded, bytes as they are.

    Raises:
        TypeError: neither str nor bytes.
    """
    if isinstance(bytes_or_text, str):
        return bytes_or_text.encode(encoding)
    if isinstance(bytes_or_text, bytes | bytearray):
        return bytes(bytes_or_text)
    raise TypeError(f"Expected binary or unicode string, got {bytes_or_text!r}")


def as_text(bytes_or_text: Any, encoding: str = "utf-8") -> str:
    """Bytes decoded, text as it is.

    Raises:
        TypeError: neither str nor bytes.
    """
    if isinstance(bytes_or_text, str):
        return bytes_or_text
    if isinstance(bytes_or_text, bytes | bytearray):
        return bytes(bytes_or_text).decode(encoding)
    raise TypeError(f"Expected binary or unicode string, got {bytes_or_text!r}")


as_str = as_text


def as_str_any(value: Any) -> str:
    """`as_str` for text and bytes, `str` for anything else."""
    return as_text(value) if isinstance(value, bytes | str) else str(value)


def path_to_str(path: Any) -> Any:
    """A `pathlib.Path` as str; anything else as it is."""
    return as_str_any(path.__fspath__()) if hasattr(path, "__fspath__") else path


def __getattr__(name: str) -> Any:
    if name == "v1":  # loaded when asked for: it copies the finished namespace
        return importlib.import_module("graphflow.compat.v1")
    raise AttributeError(f"module 'graphflow.compat' has no attribute {name!r}")
