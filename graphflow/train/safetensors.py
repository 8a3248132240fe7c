"""Files in the safetensors format, which earlier versions of this package saved: they are read, not written.

The format (github.com/huggingface/safetensors): eight bytes of header length, a JSON header {name: {dtype, shape,
data_offsets}, "__metadata__": {text: text}}, then the arrays' bytes.  Here the metadata may also carry a CRC-32 of every
array, and the true dtype of complex arrays, stored as pairs of reals.  Knows bytes; knows no graph and no session.
"""
from __future__ import annotations

import json
import math
import os
import zlib

import numpy as np

from .. import errors, types
from ..types import DType

SUFFIX = ".safetensors"
_CODES = {"float64": "F64", "float32": "F32", "float16": "F16", "bfloat16": "BF16", "int64": "I64", "int32": "I32", "int16": "I16",
          "int8": "I8", "uint8": "U8", "uint16": "U16", "uint32": "U32", "uint64": "U64", "bool": "BOOL"}
_DTYPES = {code: types.as_dtype(name) for name, code in _CODES.items()}
_HEADER_LIMIT = 100_000_000


class SafeTensors:
    """The tensors of one file.

    Raises:
        OSError: there is no such file.  DataLossError: it is cut short or corrupted.
    """

    def __init__(self, path: str):
        self.path = path
        self._open()

    def _open(self) -> None:
        size = os.path.getsize(self.path)
        with open(self.path, "rb") as f:
            length = int.from_bytes(f.read(8), "little")
            self._need(size >= 8 and 0 < length <= min(size - 8, _HEADER_LIMIT), "its header is cut short")
            text = f.read(length)
        try:
            header = json.loads(text)
            metadata = header.pop("__metadata__", None) or {}
            self._complex = json.loads(metadata.get("complex", "{}"))
            self._sums = json.loads(metadata.get("crc32", "{}"))
            self.entries = {name: self._described(**e) for name, e in header.items()}
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            raise self._lost(f"its header cannot be read ({type(e).__name__}: {e})", 8) from None
        self._start = 8 + length
        for name, (dtype, shape, begin, end) in self.entries.items():
            fits = min(shape, default=0) >= 0 and 0 <= begin <= end and end - begin == math.prod(shape) * dtype.size
            self._need(fits, f"the entry of {name!r} contradicts itself", 8)
            self._need(self._start + end <= size, f"it ends before the data of {name!r}", self._start + begin)

    @staticmethod
    def _described(dtype: str, shape: list[int], data_offsets: tuple[int, int]) -> tuple[DType, tuple[int, ...], int, int]:
        begin, end = data_offsets
        return _DTYPES[dtype], tuple(map(int, shape)), int(begin), int(end)

    def _lost(self, why: str, at: int) -> errors.OpError:
        return errors.DataLossError(None, None, f"Checkpoint {self.path!r} is damaged: {why} (at byte {at})")

    def _need(self, condition: bool, why: str, at: int = 0) -> None:
        if not condition:
            raise self._lost(why, at)

    def dtype(self, name: str) -> DType:
        return types.as_dtype(self._complex[name]) if name in self._complex else self.entries[name][0]

    def shape(self, name: str) -> tuple[int, ...]:
        return self.entries[name][1][:-1] if name in self._complex else self.entries[name][1]

    def stored(self, name: str) -> np.ndarray:
        """The array as a variable stores it; bfloat16 as bits."""
        dtype, _, begin, end = self.entries[name]
        with open(self.path, "rb") as f:
            f.seek(self._start + begin)
            raw = f.read(end - begin)
        self._need(len(raw) == end - begin, f"it ends before the data of {name!r}", self._start + begin)
        self._need(name not in self._sums or zlib.crc32(raw) == self._sums[name], f"the data of {name!r} do not match their checksum",
                   self._start + begin)
        data = np.frombuffer(raw, dtype.np.newbyteorder("<")).astype(dtype.np)
        return data.view(self.dtype(name).np).reshape(self.shape(name))
