"""Arrays as text, the way TF1 writes them: `tf.Print`, `tf.print`, assertion messages (rank 3).

Floats are written with the fewest of 6 or 9 digits (15 or 17 in float64) that give the same number back.
"""
from __future__ import annotations

from typing import Any

import numpy as np


def element(value: Any, quoted: bool = False) -> str:
    """One element: `0.1`, `1e+10`, `1` for true, text with escapes (in quotes if `quoted`)."""
    if isinstance(value, (bytes, str)):
        text = _escaped(value.encode() if isinstance(value, str) else value)
        return f'"{text}"' if quoted else text
    if isinstance(value, (bool, np.bool_)):
        return str(int(value))
    if isinstance(value, (float, np.floating)):
        return _number(value)
    if isinstance(value, (complex, np.complexfloating)):
        return f"({_number(value.real)},{_number(value.imag)})"
    return str(value)


def _number(value: Any) -> str:
    kind, few, all_digits = (np.float64, 15, 17) if isinstance(value, np.float64) or type(value) is float else (np.float32, 6, 9)
    text = f"{float(value):.{few}g}"
    return text if not np.isfinite(value) or kind(text) == value else f"{float(value):.{all_digits}g}"


def _escaped(data: bytes) -> str:
    """C escapes for what is neither printable ASCII nor UTF-8."""
    named = {"\t": "\\t", "\n": "\\n", "\r": "\\r", '"': '\\"', "'": "\\'", "\\": "\\\\"}
    return "".join(named.get(c) or _octal(c) for c in data.decode(errors="surrogateescape"))


def _octal(c: str) -> str:
    if "\udc80" <= c <= "\udcff":  # a byte that is no UTF-8
        return f"\\{ord(c) - 0xDC00:03o}"
    return f"\\{ord(c):03o}" if c < " " or c == "\x7f" else c


def first(value: Any, count: int) -> str:
    """The first `count` elements (all if negative), inner dimensions in brackets: `1 2 3...`, `[1 2][3...]...`."""
    array = np.asarray(value)
    limit = array.size if count < 0 else min(count, array.size)
    if array.ndim == 0:
        return element(array[()]) if limit else "..."
    return _rows(array, limit, 0)[0] + ("..." if array.size > limit else "")


def _rows(array: np.ndarray, left: int, depth: int) -> tuple[str, int]:
    """The text of an array of which `left` elements may be written, and how many are left after it."""
    if array.ndim == 1:
        shown = " ".join(element(v) for v in array[:left])
        return shown + ("..." if depth and array.size > left else ""), max(left - array.size, 0)
    out = ""
    for row in array:
        if left <= 0:
            break
        text, left = _rows(row, left, depth + 1)
        out += f"[{text}]"
    return out, left


def corners(value: Any, count: int) -> str:
    """The first and last `count` along each dimension (all if negative), one row a line: `[1 2 3 ... 7 8 9]`."""
    array = np.asarray(value)
    return element(array[()], quoted=True) if array.ndim == 0 else _block(array, count, 0)


def _block(array: np.ndarray, count: int, depth: int) -> str:
    if array.size == 0:
        return "[]"
    long = 0 <= count and len(array) > 2 * count
    rows = [*array[:count], None, *array[len(array) - count:]] if long else list(array)
    if array.ndim == 1:
        return f"[{' '.join('...' if r is None else element(r, quoted=True) for r in rows)}]"
    between = "\n" * (array.ndim - 1) + " " * (depth + 1)
    return f"[{between.join('...' if r is None else _block(r, count, depth + 1) for r in rows)}]"
