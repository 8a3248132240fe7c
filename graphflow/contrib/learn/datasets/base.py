"""Containers of data sets, and readers of CSV files."""
from __future__ import annotations

import csv
import os
from typing import Any, NamedTuple

import numpy as np

from .... import errors
from ....platform import gfile


class Dataset(NamedTuple):
    """Features [n, ...] and targets [n]."""

    data: Any
    target: Any


class Datasets(NamedTuple):
    """Three parts of one data set."""

    train: Any
    validation: Any
    test: Any


def maybe_download(filename: str, work_directory: str, source_url: str | None = None) -> str:
    """The path of `filename` in `work_directory`, or of the same file uncompressed (without ".gz").

    Raises:
        NotFoundError: neither is there.  Nothing is downloaded; the message says where to put the file.
    """
    path = os.path.join(work_directory, filename)
    for found in (path, path.removesuffix(".gz")):
        if os.path.exists(found):
            return found
    source = f"from {source_url} " if source_url else ""
    raise errors.NotFoundError(None, None, f"no file {path}: nothing is downloaded here; get {filename} {source}and put it into "
                                           f"{os.path.abspath(work_directory)}")


def load_csv_with_header(filename: str, target_dtype: Any, features_dtype: Any, target_column: int = -1) -> Dataset:
    """A CSV file whose first line starts with the number of rows and the number of features.

    Raises:
        ValueError: a row has another number of features, or there are more or fewer rows than announced.
    """
    with gfile.Open(filename) as f:
        lines = csv.reader(f)
        header = next(lines)
        count, width = int(header[0]), int(header[1])
        data, target = np.zeros((count, width), features_dtype), np.zeros(count, target_dtype)
        n = -1
        for n, row in enumerate(lines):
            if n >= count:
                raise ValueError(f"{filename}: more rows than the {count} that its first line says")
            target[n] = np.asarray(row.pop(target_column), target_dtype)
            data[n] = np.asarray(row, features_dtype)
    if n + 1 != count:
        raise ValueError(f"{filename}: {n + 1} rows, its first line says {count}")
    return Dataset(data, target)


def load_csv_without_header(filename: str, target_dtype: Any, features_dtype: Any, target_column: int = -1) -> Dataset:
    """A CSV file of rows; one column is the target."""
    data, target = [], []
    with gfile.Open(filename) as f:
        for row in csv.reader(f):
            target.append(row.pop(target_column))
            data.append(np.asarray(row, features_dtype))
    return Dataset(np.array(data), np.array(target, target_dtype))


def shrink_csv(filename: str, ratio: int) -> None:
    """Writes every `ratio`-th line of `filename` to the file with "_small." for "." in its name."""
    with gfile.Open(filename) as source, gfile.Open(filename.replace(".", "_small."), "w") as target:
        csv.writer(target).writerows(row for i, row in enumerate(csv.reader(source)) if i % ratio == 0)


def load_iris(data_path: str | None = None) -> Dataset:
    """Fisher's 150 irises, 4 features and 3 classes: from a CSV file with a header, else from scikit-learn."""
    if data_path is not None:
        return load_csv_with_header(data_path, np.int64, np.float64)
    try:
        from sklearn.datasets import load_iris as load  # type: ignore[import-untyped]
    except ImportError as e:
        raise ImportError("load_iris reads the copy in scikit-learn: pip install 'graphflow[examples]', or give data_path") from e
    found = load()
    return Dataset(found.data, found.target)


def load_boston(data_path: str | None = None) -> Dataset:
    """House prices of Boston from a CSV file with a header.  Raises ValueError without a path: no library has the data any more."""
    if data_path is None:
        raise ValueError("load_boston needs data_path=, a CSV file with a header of the counts: the data is not in this package")
    return load_csv_with_header(data_path, np.float64, np.float64)
