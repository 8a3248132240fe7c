"""Records parsed into tensors on the host (rank 3): Example and SequenceExample, numbers in bytes, CSV, serialized tensors.

Each op gives arrays straight from the bytes; the functions that users call are in graphflow/parsing_ops.py.
"""
from __future__ import annotations

import math
from functools import lru_cache
from typing import Any, Iterator, NamedTuple, Sequence

import numpy as np

from .. import errors, types
from ..graph import Spec, Tensor
from ..proto import example
from ..proto.wire import DecodeError
from .opdef import needs_rank, primitive

STRING = (types.string,)
ANY = types.ALL + STRING
KINDS = {types.string: example.BYTES, types.float32: example.FLOAT, types.int64: example.INT64}
_NAMES = {kind: dtype.name for dtype, kind in KINDS.items()}
_EMPTY = {example.BYTES: [], example.FLOAT: b"", example.INT64: b""}


class Column(NamedTuple):
    """One feature to look for.

    how: "dense" (each example has exactly the elements of `shape`), "sequence" (a multiple of them, filled up in a batch),
        "sparse" (any number).
    default: whether a value for examples without the feature is an input of the op.
    """

    key: str
    how: str
    dtype: types.DType
    shape: tuple[int, ...]
    default: bool


def _spec(c: Column, batch: tuple[Any, ...]) -> list[Spec]:
    if c.how == "sparse":
        rank = len(batch) + 1
        return [Spec(types.int64, (types.UNKNOWN, rank)), Spec(c.dtype, (types.UNKNOWN,)), Spec(types.int64, (rank,))]
    return [Spec(c.dtype, (*batch, *([types.UNKNOWN] if c.how == "sequence" else []), *c.shape))]


# ---------------------------------------------------------------- Example


def _parse_infer(serialized: Tensor, *rest: Tensor, columns: tuple[Any, ...], single: bool, named: bool) -> list[Spec]:
    if serialized.sizes is not None and len(serialized.sizes) != (0 if single else 1):
        raise ValueError(f"Input serialized must be a {'scalar' if single else 'vector'}, got shape {types.shape_text(serialized.sizes)}")
    batch: tuple[Any, ...] = () if single else serialized.sizes or (types.UNKNOWN,)
    return [s for c in columns for s in _spec(Column(*c), batch)]


@primitive("host", type="ParseExample", infer=_parse_infer, dtypes=ANY, same=("-",), input_dtypes={"serialized": STRING, "rest": ANY},
           no_gradient="it reads bytes")
def parse_example_op(serialized, *rest, columns, single, named):
    """The features `columns` of serialized Examples; `rest` are defaults, in order, and then the names of the examples if `named`."""


@parse_example_op.reference
def _(serialized, *rest, columns, single, named):
    if serialized.ndim != (0 if single else 1):
        raise ValueError(f"Input serialized must be a {'scalar' if single else 'vector'}, got shape {list(serialized.shape)}")
    if single and (quick := _one_record(serialized.item(), _dense_columns(columns))) is not None:
        return quick
    found, names = [Column(*c) for c in columns], list(map(_text, np.ravel(rest[-1]))) if named else []
    data = serialized.reshape(-1).tolist()
    where = _Where(names, single)
    places = [_placed(example.example, d, where, i) for i, d in enumerate(data)]
    return _results(found, iter(rest), data, places, where, single)


@lru_cache(200)
def _dense_columns(columns: tuple[Any, ...]) -> tuple[tuple[bytes, int, int, tuple[int, ...]], ...]:
    """(key, kind, number of elements, shape) of each column, if all are dense; else nothing."""
    found = [Column(*c) for c in columns]
    if any(c.how != "dense" for c in found):
        return ()
    return tuple((c.key.encode(), KINDS[c.dtype], math.prod(c.shape), c.shape) for c in found)


def _one_record(data: bytes, columns: tuple[tuple[bytes, int, int, tuple[int, ...]], ...]) -> list[np.ndarray] | None:
    """The usual case of a program that parses record by record: all features are there and as long as they should be.

    None otherwise: then the general way says what is wrong, or takes the defaults.
    """
    if not columns:
        return None
    out = []
    try:
        places = example.example(data)
        for key, wanted, elements, shape in columns:
            kind, values = example.feature(data, places[key])
            if kind != wanted:
                return None
            flat = example.one(kind, values)
            if flat.size != elements:
                return None
            out.append(flat.reshape(shape))
    except (DecodeError, KeyError):
        return None
    return out


def _results(columns: Sequence[Column], defaults: Iterator[np.ndarray], data: list[bytes], places: list[dict[bytes, Any]], where: Any,
             single: bool) -> list[np.ndarray]:
    out: list[np.ndarray] = []
    for c in columns:
        default = next(defaults) if c.default else None
        lists = _lists(c, data, places, where, default is not None)
        out += _MAKERS[c.how](c, lists, default, where, single)
    return out


class _Where(NamedTuple):
    """How messages name an example."""

    names: list[str]
    single: bool

    def __call__(self, i: int) -> str:
        name = self.names[i] if i < len(self.names) else "<unknown>"
        return f"Name: {name}, " + ("" if self.single else f"Example: {i}, ")


def _text(name: Any) -> str:
    return name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)


def _placed(read: Any, data: bytes, where: _Where, i: int) -> Any:
    try:
        return read(data)
    except DecodeError as e:
        shown = repr(data[:60]) + ("..." if len(data) > 60 else "")
        raise errors.InvalidArgumentError(None, None, f"{where(i)}Could not parse example input, value: {shown} ({e})") from None


def _lists(c: Column, data: list[bytes], places: list[dict[bytes, Any]], where: _Where, default: bool) -> list[Any]:
    """The feature's values in each example; None where it is not set."""
    key, wanted, out = c.key.encode(), KINDS[c.dtype], []
    for i, (d, found) in enumerate(zip(data, places)):
        place = found.get(key)
        kind, values = (example.NOTHING, None) if place is None else _feature(d, place, where, i, c.key)
        if kind == example.NOTHING:
            if c.how == "dense" and not default:
                raise errors.InvalidArgumentError(None, None, f"{where(i)}Feature: {c.key} (data type: {c.dtype.name}) is required but "
                                                  "could not be found. Give FixedLenFeature a default_value, or use VarLenFeature")
            values = None
        elif kind != wanted:
            raise errors.InvalidArgumentError(None, None, f"{where(i)}Key: {c.key}.  Data types don't match. Expected type: "
                                              f"{c.dtype.name}, Data type: {_NAMES[kind]}")
        out.append(values)
    return out


def _feature(data: bytes, place: Any, where: _Where, i: int, key: str) -> tuple[int, Any]:
    try:
        return example.feature(data, place)
    except DecodeError as e:
        raise errors.InvalidArgumentError(None, None, f"{where(i)}Key: {key}.  Can't parse the feature ({e})") from None


def _joined(c: Column, lists: list[Any], where: _Where) -> tuple[np.ndarray, np.ndarray]:
    kind = KINDS[c.dtype]
    try:
        return example.joined(kind, [_EMPTY[kind] if v is None else v for v in lists])
    except DecodeError as e:
        raise errors.InvalidArgumentError(None, None, f"Key: {c.key}.  Can't parse the feature ({e})") from None


def _dense(c: Column, lists: list[Any], default: np.ndarray | None, where: _Where, single: bool) -> list[np.ndarray]:
    each = math.prod(c.shape)
    if single and lists[0] is None:
        return [default]  # type: ignore[list-item]
    flat, counts = _joined(c, lists, where)
    if single and counts[0] == each:  # the usual case of a program that parses record by record
        return [flat.reshape(c.shape)]
    missing = np.array([v is None for v in lists], bool)
    wrong = np.flatnonzero((counts != each) & ~missing)
    if wrong.size:
        i = int(wrong[0])
        raise errors.InvalidArgumentError(None, None, f"{where(i)}Key: {c.key}, Index: {i}.  Number of {c.dtype.name} values != expected.  "
                                          f"values size: {counts[i]} but output shape: {list(c.shape)}")
    if missing.any():
        out = np.empty((len(lists), each), flat.dtype)
        out[~missing] = flat.reshape(-1, each) if each else out[~missing]
        out[missing] = default.reshape(1, each)  # type: ignore[union-attr]
        flat = out
    return [flat.reshape(c.shape if single else (len(lists), *c.shape))]


def _sequence(c: Column, lists: list[Any], default: np.ndarray | None, where: _Where, single: bool) -> list[np.ndarray]:
    each = math.prod(c.shape)
    flat, counts = _joined(c, lists, where)
    wrong = np.flatnonzero(counts % each if each else counts)
    if wrong.size:
        i = int(wrong[0])
        raise errors.InvalidArgumentError(None, None, f"{where(i)}Key: {c.key}, Index: {i}.  Number of {c.dtype.name} values is not a "
                                          f"multiple of stride length.  values size: {counts[i]} but output shape: [?, "
                                          f"{', '.join(map(str, c.shape))}]")
    if single:
        return [flat.reshape(-1, *c.shape) if each else np.zeros((0, *c.shape), c.dtype.np)]
    longest = int(counts.max(initial=0))
    out = np.full((len(lists), longest), _blank(c.dtype) if default is None else default.reshape(-1)[0], c.dtype.np)
    out[np.arange(longest) < counts[:, None]] = flat
    return [out.reshape(len(lists), longest // each if each else 0, *c.shape)]


def _blank(dtype: types.DType) -> Any:
    return b"" if dtype is types.string else 0


def _sparse(c: Column, lists: list[Any], default: np.ndarray | None, where: _Where, single: bool) -> list[np.ndarray]:
    flat, counts = _joined(c, lists, where)
    if single:
        return [np.arange(flat.size, dtype=np.int64)[:, None], flat, np.array([flat.size], np.int64)]
    return [_numbered(counts), flat, np.array([len(lists), counts.max(initial=0)], np.int64)]


def _numbered(counts: np.ndarray) -> np.ndarray:
    """Indices [N, 2] of lists of so many elements: the list, the place in it."""
    row = np.repeat(np.arange(len(counts)), counts)
    return np.stack([row, np.arange(row.size) - np.repeat(np.cumsum(counts) - counts, counts)], 1).astype(np.int64)


_MAKERS = {"dense": _dense, "sequence": _sequence, "sparse": _sparse}


# ---------------------------------------------------------------- SparseFeature


def _merge_infer(indices: Tensor, values: Tensor, shape: Tensor, *ids: Tensor, sizes: tuple[int, ...], ordered: bool) -> list[Spec]:
    extra = needs_rank(indices, 2)[1] - 1
    return [Spec(types.int64, (types.UNKNOWN, extra + len(sizes))), Spec(values.dtype, (types.UNKNOWN,)),
            Spec(types.int64, (extra + len(sizes),))]


@primitive("host", type="MergeSparseFeature", infer=_merge_infer, dtypes=ANY, same=("-",), no_gradient="it reads bytes",
           input_dtypes={"indices": (types.int64,), "values": ANY, "shape": (types.int64,), "ids": (types.int64,)})
def merge_sparse_op(indices, values, shape, *ids, sizes, ordered):
    """A SparseTensor of `values`, whose positions within an example are the values `ids` of other features.

    `indices` and `shape` are those of the values as they were parsed; `ids` come in pairs, indices and values of each feature.
    """


@merge_sparse_op.reference
def _(indices, values, shape, *ids, sizes, ordered):
    for where, of in zip(ids[::2], ids[1::2]):
        if where.shape != indices.shape or (where != indices).any():
            raise ValueError(f"a SparseFeature has {len(values)} values but {len(of)} indices, or in other examples")
    found = np.concatenate([indices[:, :-1], *[v[:, None] for v in ids[1::2]]], 1)
    if not ordered:
        order = np.lexsort(found.T[::-1])
        found, values = found[order], values[order]
    return [found, values, np.array([*shape[:-1], *sizes], np.int64)]


# ---------------------------------------------------------------- SequenceExample


def _sequence_infer(serialized: Tensor, *rest: Tensor, context: tuple[Any, ...], lists: tuple[Any, ...], single: bool,
                    named: bool) -> list[Spec]:
    if serialized.sizes is not None and len(serialized.sizes) != (0 if single else 1):
        raise ValueError(f"Input serialized must be a {'scalar' if single else 'vector'}, got shape {types.shape_text(serialized.sizes)}")
    batch: tuple[Any, ...] = () if single else serialized.sizes or (types.UNKNOWN,)
    found = [s for c in context for s in _spec(Column(*c), batch)]
    for c in [Column(*c) for c in lists]:
        found += _spec(c._replace(how="sparse" if c.how == "sparse" else "dense"), (*batch, types.UNKNOWN))
    return found + ([] if single else [Spec(types.int64, batch) for c in lists if Column(*c).how != "sparse"])


@primitive("host", type="ParseSequenceExample", infer=_sequence_infer, dtypes=ANY, same=("-",), no_gradient="it reads bytes",
           input_dtypes={"serialized": STRING, "rest": ANY})
def parse_sequence_op(serialized, *rest, context, lists, single, named):
    """Features of serialized SequenceExamples: those of the context, and lists with a row for each of their features.

    A list that may be missing ("sequence") then has no rows.  In a batch, dense lists are filled up, and their lengths follow at the end.
    """


@parse_sequence_op.reference
def _(serialized, *rest, context, lists, single, named):
    if serialized.ndim != (0 if single else 1):
        raise ValueError(f"Input serialized must be a {'scalar' if single else 'vector'}, got shape {list(serialized.shape)}")
    where = _Where(list(map(_text, np.ravel(rest[-1]))) if named else [], single)
    data = serialized.reshape(-1).tolist()
    placed = [_placed(example.sequence_example, d, where, i) for i, d in enumerate(data)]
    out = _results([Column(*c) for c in context], iter(rest), data, [p[0] for p in placed], where, single)
    lengths = []
    for c in [Column(*c) for c in lists]:
        parts = [_steps(c, d, rows, where, i) for i, (d, (_, rows)) in enumerate(zip(data, placed))]
        if single:
            out += parts[0]
        elif c.how == "sparse":
            out += _stacked(c, parts)
        else:
            lengths.append(np.array([len(p[0]) for p in parts], np.int64))
            out.append(_filled_up(c, [p[0] for p in parts]))
    return out + lengths


def _steps(c: Column, data: bytes, rows: dict[bytes, list[Any]], where: _Where, i: int) -> list[np.ndarray]:
    """One list of one example: [steps, *shape], or the parts of a SparseTensor [steps, longest]."""
    found = rows.get(c.key.encode())
    if found is None and c.how == "dense":
        raise errors.InvalidArgumentError(None, None, f"{where(i)}Feature list '{c.key}' is required but could not be found. Give "
                                          "FixedLenSequenceFeature allow_missing=True if it may be missing. The example has the lists "
                                          f"{sorted(map(_text, rows))}")
    steps = [{c.key.encode(): place} for place in found or []]
    name = where(i).removeprefix("Name: ").removesuffix(", ")
    step = _Where([f"{name}, Feature list: {c.key}, Step: {k}" for k in range(len(steps))], True)
    one = c._replace(how="sparse" if c.how == "sparse" else "dense")
    return _MAKERS[one.how](one, _lists(one, [data] * len(steps), steps, step, False), None, step, False)


def _stacked(c: Column, parts: list[list[np.ndarray]]) -> list[np.ndarray]:
    """SparseTensors, one for each example, as one with a new first dimension."""
    indices = [np.concatenate([np.full((len(p[0]), 1), i), p[0]], 1) for i, p in enumerate(parts)]
    shapes = np.array([p[2] for p in parts], np.int64).reshape(-1, 2)
    return [np.concatenate([np.zeros((0, 3), np.int64), *indices]).astype(np.int64),
            np.concatenate([p[1] for p in parts]) if parts else np.zeros(0, c.dtype.np),
            np.array([len(parts), *shapes.max(0, initial=0)], np.int64)]


def _filled_up(c: Column, parts: list[np.ndarray]) -> np.ndarray:
    out = np.full((len(parts), max(map(len, parts), default=0), *c.shape), _blank(c.dtype), c.dtype.np)
    for row, p in zip(out, parts):
        row[:len(p)] = p
    return out
