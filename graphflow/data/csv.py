"""Datasets of CSV files (rank 9)."""
from __future__ import annotations

import collections
import csv
import io
import itertools
import os
from typing import Any, Iterator, Sequence

import numpy as np

from .. import errors, types
from ..graph import Tensor
from ..ops import opdef
from ..platform import gfile
from ..proto import records
from . import streams
from .dataset import AUTOTUNE, Dataset, Run, _component
from .readers import _names, _scalar, _text
from .streams import Stream
from .structure import Leaf

KINDS = (types.int32, types.int64, types.float32, types.float64, types.string)


class _Bytes:
    """A readable raw stream over what `records.opened` gives."""

    def __init__(self, source: Any):
        self.source = source

    def __iter__(self) -> Iterator[str]:
        raw = io.BytesIO(b"".join(iter(lambda: self.source.read(1 << 20), b"")))
        return iter(io.TextIOWrapper(raw, "utf-8", "surrogateescape", newline=""))


def rows_of(path: str, kind: str, delimiter: str, quotes: bool) -> Iterator[list[str]]:
    """The fields of each record of a file."""
    with records.opened(path, kind) as f:
        quoting: Any = csv.QUOTE_MINIMAL if quotes else csv.QUOTE_NONE
        yield from filter(None, csv.reader(_Bytes(f), delimiter=delimiter, quoting=quoting, strict=True))


class CsvDataset(Dataset):
    """The records of CSV files, each a tuple of scalars.

    Args:
        filenames: strings, or a tensor of them.
        record_defaults: for each selected column a dtype (the field must not be empty) or a value for empty fields.
        compression_type: "", "ZLIB" or "GZIP".  buffer_size: accepted.
        header: leave the first line of each file out.
        field_delim, use_quote_delim: how fields stand in a line.
        na_value: what stands for an empty field besides "".
        select_cols: rising indices of the columns to read; all if None.

    Raises:
        ValueError: another number of defaults than selected columns.
        InvalidArgumentError (at run time): a record with too few fields, or a field that is no number of its dtype or missing.
    """

    def __init__(self, filenames: Any, record_defaults: Sequence[Any], compression_type: Any = None, buffer_size: Any = None,
                 header: Any = False, field_delim: str = ",", use_quote_delim: bool = True, na_value: str = "",
                 select_cols: Sequence[int] | None = None):
        names = filenames if isinstance(filenames, Dataset) else _names(filenames)
        self._defaults = [_default(d) for d in record_defaults]
        if select_cols is not None and len(select_cols) != len(self._defaults):
            raise ValueError(f"select_cols and record_defaults must have the same length, got {len(select_cols)} and {len(self._defaults)}")
        if select_cols is not None and list(select_cols) != sorted(set(select_cols)):
            raise ValueError(f"select_cols must be strictly increasing indices, got {list(select_cols)}")
        self._files, self._kind, self._header = names, _component(compression_type or ""), _component(header)
        self._format = field_delim, use_quote_delim
        self._missing, self._columns = na_value, None if select_cols is None else list(select_cols)
        super().__init__("CsvDataset", tuple([Leaf(dtype, ()) for dtype, _ in self._defaults]), self._start, [names],
                         [self._kind, self._header])

    def _start(self, run: Run) -> Stream:
        kind, header = _text(run.value(self._kind)), bool(run.value(self._header))

        def of_file(name: Any) -> Stream:
            path = _text(name[0])
            return streams.Pulled(lambda: itertools.islice(rows_of(path, kind, *self._format), int(header), None),
                                  lambda row: self._record(row, path), self._named)

        return streams.Flat(streams.rowless(self._files.stream(run)), of_file)

    def _named(self, e: Exception) -> Exception:
        if isinstance(e, errors.OpError):
            return errors.raised_at(type(e), self, e.message) if e.op is None else e
        return errors.raised_at(errors.InvalidArgumentError, self, f"{type(e).__name__}: {e}")

    def _record(self, row: list[str], path: str) -> Any:
        places = range(len(self._defaults)) if self._columns is None else self._columns
        if self._columns is None and len(row) != len(self._defaults) or len(row) <= max(places, default=-1):
            raise self._failed(f"Expect {len(self._defaults)} fields but have {len(row)} in record {row} of {path}")
        return tuple([self._field(i, row[i], d, path) for i, d in zip(places, self._defaults)])

    def _field(self, i: int, text: str, default: Any, path: str) -> np.ndarray:
        dtype, value = default
        if not text or text == self._missing:
            if value is None:
                raise self._failed(f"Field {i} is required but missing in record of {path}!")
            return value
        if dtype.kind == "s":
            return _scalar(text.encode("utf-8", "surrogateescape"))
        found = parsed(text, dtype)
        if found is None:
            raise self._failed(f"Field {i} in record is not a valid {dtype.name}: {text} (in {path})")
        return np.array(found, dtype.np)


def parsed(text: str, dtype: types.DType) -> Any:
    """The number that stands there, or None when it is none of this dtype."""
    try:
        found = int(text) if dtype.kind in "iu" else float(text)
    except ValueError:
        return None
    if dtype.kind in "iu" and not dtype.min <= found <= dtype.max:
        return None
    return found


def _default(value: Any) -> tuple[types.DType, Any]:
    """(dtype, array or None where a field is required)."""
    if not isinstance(value, (list, tuple, np.ndarray, int, float, str, bytes, Tensor)):
        try:
            return types.as_dtype(value), None
        except TypeError:
            pass
    found = _component(value)
    if not isinstance(found, np.ndarray):
        raise TypeError(f"a record default must be a dtype or a constant, got {value!r}")
    dtype = types.as_dtype(found.dtype)
    if dtype not in KINDS:
        raise TypeError(f"a record default must be of int32, int64, float32, float64 or string, got {dtype.name}")
    if found.size > 1:
        raise ValueError(f"Each record default should be at most a scalar or a vector of one element, got {value!r}")
    if not found.size:
        return dtype, None
    item = found.reshape(-1)[0]
    return dtype, _scalar(item.encode() if isinstance(item, str) else item) if dtype.kind == "s" else np.array(item, dtype.np)


# ---------------------------------------------------------------- batches of named columns


def make_csv_dataset(file_pattern: Any, batch_size: int, column_names: Sequence[str] | None = None, column_defaults: Any = None,
                     label_name: str | None = None, select_columns: Any = None, field_delim: str = ",", use_quote_delim: bool = True,
                     na_value: str = "", header: bool = True, num_epochs: int | None = None, shuffle: bool = True,
                     shuffle_buffer_size: int = 10000, shuffle_seed: int | None = None, prefetch_buffer_size: int | None = None,
                     num_parallel_reads: int | None = None, sloppy: bool = False, num_rows_for_inference: int | None = 100,
                     compression_type: str | None = None, ignore_errors: bool = False) -> Dataset:
    """Batches of the rows of CSV files as an OrderedDict from column names to vectors; with `label_name` a pair of that and the label.

    Args:
        file_pattern: a glob pattern, or a list of files.
        column_names: by default those in the first line.
        column_defaults: dtypes or defaults of the (selected) columns; by default dtypes that fit the first `num_rows_for_inference` rows.
        label_name: the column that is the label.
        select_columns: names or indices of the columns to read.
        num_epochs: how often the rows are repeated; without end if None.
        shuffle, shuffle_buffer_size, shuffle_seed: the order of rows (and files).
        num_parallel_reads, sloppy, prefetch_buffer_size: accepted, or passed on.
        ignore_errors: leave rows out that cannot be read.

    Raises:
        ValueError: no files, column names that differ between files, unknown label or selected column.
    """
    patterns = [file_pattern] if isinstance(file_pattern, (str, bytes, os.PathLike)) else list(file_pattern)
    files = sorted({name for p in patterns for name in gfile.Glob(os.fsdecode(p))})
    if not files:
        raise ValueError("No files match %s." % ", ".join(os.fsdecode(p) for p in patterns))
    kind = (field_delim, use_quote_delim)
    if column_names is None:
        if not header:
            raise ValueError("Cannot infer column names without a header line.")
        column_names = next(rows_of(files[0], compression_type or "", *kind), [])
        for name in files[1:]:
            if (other := next(rows_of(name, compression_type or "", *kind), [])) != column_names:
                raise ValueError(f"Files to be parsed have inconsistent column names: {column_names} in {files[0]}, {other} in {name}")
    names = list(column_names)
    if len(set(names)) != len(names):
        raise ValueError("Cannot have duplicate column names.")
    columns = None if select_columns is None else sorted(_index(names, c) for c in select_columns)
    chosen = names if columns is None else [names[i] for i in columns]
    if column_defaults is None:
        column_defaults = _inferred(files, names, columns, kind, na_value, header, num_rows_for_inference, compression_type or "")
    if label_name is not None and label_name not in chosen:
        raise ValueError("`label_name` provided must be one of the columns.")

    dataset: Any = Dataset.from_tensor_slices(np.array([f.encode() for f in files], object))
    if shuffle:
        dataset = dataset.shuffle(len(files), shuffle_seed)
    dataset = dataset.flat_map(lambda name: CsvDataset(name, column_defaults, compression_type, None, header, *kind, na_value, columns))
    if ignore_errors:
        from .experimental import ignore_errors as ignored

        dataset = dataset.apply(ignored())
    if shuffle:
        dataset = dataset.shuffle(shuffle_buffer_size, shuffle_seed)
    dataset = dataset.repeat(num_epochs).batch(batch_size, drop_remainder=num_epochs is None)

    def named(*values: Any) -> Any:
        features = collections.OrderedDict(zip(chosen, values))
        return features if label_name is None else (features, features.pop(label_name))

    return dataset.map(named).prefetch(AUTOTUNE if prefetch_buffer_size is None else prefetch_buffer_size)


def _index(names: list[str], column: Any) -> int:
    if isinstance(column, int):
        if not 0 <= column < len(names):
            raise ValueError(f"Invalid column index {column}: there are {len(names)} columns")
        return column
    if column not in names:
        raise ValueError(f"Value '{column}' is not a valid column name.{errors.suggest(column, names)}")
    return names.index(column)


def _inferred(files: list[str], names: list[str], columns: list[int] | None, kind: Any, na_value: str, header: bool, limit: int | None,
              compression: str) -> list[Any]:
    """For each chosen column the first dtype that all of the first fields have; as a default for empty ones, 0 or ""."""
    places = range(len(names)) if columns is None else columns
    found = [0] * len(places)
    count = 0
    for name in files:
        for n, row in enumerate(rows_of(name, compression, *kind)):
            if header and not n:
                continue
            if limit is not None and count >= limit:
                break
            if len(row) != len(names):
                raise ValueError(f"Problem inferring types: CSV row {row} of {name} has {len(row)} fields. Expected: {len(names)}.")
            count += 1
            for k, i in enumerate(places):
                text = row[i]
                while text and text != na_value and found[k] < 4 and not _fits(text, KINDS[found[k]]):
                    found[k] += 1
    return [opdef.to_array([b""] if KINDS[k].kind == "s" else [0], KINDS[k]) for k in found]


def _fits(text: str, dtype: types.DType) -> bool:
    value = parsed(text, dtype)
    return value is not None and not (dtype is types.float32 and np.isinf(np.float32(value)) and not np.isinf(value))

