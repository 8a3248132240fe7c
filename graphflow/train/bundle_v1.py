"""TensorFlow's checkpoint format V1, of programs from before 2017: one file, a table of slices of tensors; it is read, not written.

The key "" has a SavedTensorSlices with what there is: names, shapes, dtypes and slices.  Each other key, a name with a slice, has one
with the slice's values, as a TensorProto.  A checkpoint in shards is the files `<prefix>-?????-of-?????`.  Knows bytes and paths.
"""
from __future__ import annotations

import glob
import os
from typing import Any, NamedTuple

import numpy as np

from .. import errors, types
from ..proto.wire import DecodeError, unpack_varints
from ..types import DType
from .bundle import _CODES, Damaged, _fields, _shape, _slice, _slice_key, read_table

_REALS = {5: "<f4", 6: "<f8", 9: "<f4", 12: "<f8"}  # fields of a TensorProto: numbers as they are in memory
_WHOLE = (7, 10, 11, 13, 16, 17)  # integers, as varints
_HALF = 13


class Slices(NamedTuple):
    """A tensor, and the slices it is stored as; each a list of (start, length), length -1 for all."""

    dtype: DType
    shape: tuple[int, ...]
    slices: list[list[tuple[int, int]]]


def files_of(prefix: str) -> list[str]:
    """The files of a checkpoint in this format; none where it is something else."""
    return [prefix] if os.path.isfile(prefix) else sorted(glob.glob(glob.escape(prefix) + "-?????-of-?????"))


class OldBundle:
    """The tensors of one checkpoint.

    Raises:
        OSError: there is no such file.  DataLossError: it is cut short or corrupted, or no checkpoint.
    """

    def __init__(self, prefix: str):
        self.path = prefix
        self.entries: dict[str, Slices] = {}
        self._values: dict[bytes, tuple[str, bytes]] = {}
        for path in files_of(prefix):
            with open(path, "rb") as f:
                data = f.read()
            try:
                pairs = read_table(data)
                for key in (k for k in pairs if k):
                    self._values[key] = path, pairs[key]
                self._describe(pairs[b""])
            except Damaged as e:
                raise self._lost(path, *e.args) from None
            except (KeyError, ValueError, IndexError) as e:
                raise self._lost(path, f"its entries cannot be read ({type(e).__name__}: {e})", 0) from None

    def _lost(self, path: str, why: str, offset: int) -> errors.OpError:
        return errors.DataLossError(None, None, f"Checkpoint {path!r} is damaged: {why} (at byte {offset})")

    def _describe(self, data: bytes) -> None:
        for number, meta in _fields(data):
            for kind, tensor in _fields(meta) if number == 1 else ():
                if kind == 1:
                    known: dict[int, Any] = dict(_fields(tensor))
                    name, dtype = known[1].decode(), types.as_dtype(_CODES[known[3]])
                    slices = [_slice(value) for field, value in _fields(tensor) if field == 4]
                    before = self.entries[name].slices if name in self.entries else []
                    self.entries[name] = Slices(dtype, _shape(known.get(2, b"")), before + slices)

    def dtype(self, name: str) -> DType:
        return self.entries[name].dtype

    def shape(self, name: str) -> tuple[int, ...]:
        return self.entries[name].shape

    def stored(self, name: str) -> np.ndarray:
        """The array as a variable stores it; bfloat16 as bits, strings as objects."""
        dtype, shape, slices = self.entries[name]
        out = np.zeros(shape, object if dtype is types.string else dtype.np)
        for extents in slices:
            found = self._values.get(_slice_key(name, extents))
            if found is None:
                raise self._lost(self.path, f"a slice of {name!r} is missing", 0)
            place = tuple([slice(s, None if n < 0 else s + n) for s, n in extents])
            try:
                saved: dict[int, Any] = dict(_fields(dict(_fields(found[1]))[2]))
                out[place] = _values(saved.get(3, b""), dtype, out[place].size).reshape(out[place].shape)
            except Damaged as e:
                raise self._lost(found[0], f"the data of {name!r}: {e.args[0]}", e.args[1]) from None
            except (KeyError, ValueError, DecodeError) as e:
                raise self._lost(found[0], f"the data of {name!r} cannot be read ({type(e).__name__}: {e})", 0) from None
        return out


def _values(proto: bytes, dtype: DType, size: int) -> np.ndarray:
    """The numbers of a TensorProto, flat; the last of fewer than `size` stands for the rest."""
    parts: list[np.ndarray] = []
    for field, value in _fields(proto):
        if field == 4:
            parts.append(np.frombuffer(value, dtype.np.newbyteorder("<")))
        elif field in _REALS and isinstance(value, bytes):
            parts.append(np.frombuffer(value, _REALS[field]).view(dtype.np.newbyteorder("<")))
        elif field in _WHOLE:
            numbers = unpack_varints(value, 0, len(value)) if isinstance(value, bytes) else np.array([value], np.uint64)
            if field == _HALF:
                parts.append(numbers.astype(np.uint16).view(dtype.np))
            else:
                parts.append(numbers.astype(np.int64, copy=False).astype(dtype.np))
        elif field == 8:
            one = np.empty(1, object)
            one[0] = value
            parts.append(one)
    found = np.concatenate(parts) if parts else np.zeros(0, dtype.np)
    return np.concatenate([found, np.full(size - found.size, found[-1], found.dtype)]) if 0 < found.size < size else found
