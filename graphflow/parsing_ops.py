"""Parsing records: `tf.parse_example` and its features, `tf.decode_raw`, `tf.decode_csv`, serialized tensors.

What runs is in graphflow/ops/parsing.py and decoding.py; here are TF1's names, arguments and checks.
"""
from __future__ import annotations

from collections import namedtuple
from typing import Any, NamedTuple, Sequence

import numpy as np

from . import graph, types
from .graph import Tensor
from .ops import decoding as ops
from .ops import parsing
from .ops.opdef import convert_to_tensor
from .ops.parsing import Column
from .sparse_tensor import SparseTensor, _sparse

__all__ = ["FixedLenFeature", "FixedLenSequenceFeature", "SparseFeature", "VarLenFeature", "decode_compressed", "decode_csv",
           "decode_json_example", "decode_raw", "deserialize_many_sparse", "parse_example", "parse_single_example",
           "parse_single_sequence_example", "parse_tensor", "serialize_many_sparse", "serialize_sparse", "serialize_tensor"]


class VarLenFeature(namedtuple("VarLenFeature", ["dtype"])):
    """A feature with any number of values; parsed into a SparseTensor of `dtype` (float32, int64 or string)."""

    __slots__ = ()


class SparseFeature(namedtuple("SparseFeature", ["index_key", "value_key", "dtype", "size", "already_sorted"], defaults=[False])):
    """A SparseTensor whose positions and values are two features (or more: one for each dimension).

    index_key: the key, or a list of keys, of the int64 features with the positions.
    value_key: the key of the values.
    size: the size of the dimension, or a list of them.
    already_sorted: do not sort by position.
    """

    __slots__ = ()


class FixedLenFeature(namedtuple("FixedLenFeature", ["shape", "dtype", "default_value"], defaults=[None])):
    """A feature with the same number of values in each example; parsed into a tensor [batch, *shape] of `dtype`.

    default_value: what examples without the feature get; None makes the feature required.
    """

    __slots__ = ()


class FixedLenSequenceFeature(namedtuple("FixedLenSequenceFeature", ["shape", "dtype", "allow_missing", "default_value"],
                                         defaults=[False, None])):
    """A feature with any number of values of `shape`; parsed into a tensor [batch, longest, *shape] of `dtype`.

    In a SequenceExample it is a list of features, of `shape` each.
    allow_missing: whether an example may be without it (it then has no values); `parse_example` wants it.
    default_value: a scalar that fills shorter examples of a batch; 0 or "" if None.
    """

    __slots__ = ()


# ---------------------------------------------------------------- what is asked for


class _Wanted(NamedTuple):
    """Columns with their defaults, and how the results are put together."""

    columns: dict[str, Column]
    defaults: dict[str, Tensor]
    sparse: dict[str, SparseFeature]


def _wanted(features: dict[str, Any], allowed: tuple[type, ...], lists: bool = False) -> _Wanted:
    if not isinstance(features, dict):
        raise TypeError(f"features must be a dict of features by key, got {features!r}")
    found = _Wanted({}, {}, {})
    for key in sorted(features):
        feature = features[key]
        if not isinstance(feature, allowed):
            raise ValueError(f"Unsupported {type(feature).__name__} {feature} for key {key!r}; expected one of: "
                             f"{', '.join(a.__name__ for a in allowed)}")
        _ADD[type(feature)](found, key, feature, lists)
    return found


def _dtype(feature: Any, key: str) -> types.DType:
    if not feature.dtype:
        raise ValueError(f"Missing type for feature {key}. Received feature={feature}.")
    dtype = types.as_dtype(feature.dtype)
    if dtype not in parsing.KINDS:
        raise TypeError(f"feature {key!r} has DataType {dtype.name} not in list of allowed values: float32, int64, string; parse it as one "
                        "of them, then tf.cast or tf.decode_raw")
    return dtype


def _column(found: _Wanted, key: str, how: str, dtype: types.DType, shape: Any = (), default: bool = False) -> None:
    new = Column(key, how, dtype, tuple(shape), default)
    if found.columns.setdefault(key, new) != new:
        raise ValueError(f"Conflicting type {dtype.name} vs {found.columns[key].dtype.name} for feature {key}.")


def _add_var(found: _Wanted, key: str, feature: VarLenFeature, lists: bool) -> None:
    _column(found, key, "sparse", _dtype(feature, key))


def _add_sparse(found: _Wanted, key: str, feature: SparseFeature, lists: bool) -> None:
    for name, value in (("index_key", feature.index_key), ("value_key", feature.value_key), ("type", feature.dtype)):
        if not value:
            raise ValueError(f"Missing {name} for SparseFeature {feature}.")
    keys, sizes = _listed(feature.index_key), _listed(feature.size)
    if len(keys) != len(sizes):
        raise ValueError(f"SparseFeature {key!r} has {len(keys)} index keys but {len(sizes)} sizes: {feature}")
    for k in sorted(keys):
        _column(found, k, "sparse", types.int64)
    _column(found, feature.value_key, "sparse", _dtype(feature, key))
    found.sparse[key] = feature


def _listed(value: Any) -> list[Any]:
    return list(value) if isinstance(value, (list, tuple)) else [value]


def _sizes(feature: Any, key: str) -> list[int]:
    if feature.shape is None:
        raise ValueError(f"Missing shape for feature {key}. Received feature={feature}.")
    sizes = types.TensorShape(feature.shape).as_list()
    if sizes and sizes[0] is None:
        raise ValueError(f"First dimension of shape for feature {key} unknown. Consider using FixedLenSequenceFeature. Received "
                         f"feature={feature}.")
    if any(n is None for n in sizes):
        raise ValueError(f"All dimensions of shape for feature {key} need to be known but received {sizes}.")
    return sizes


def _add_fixed(found: _Wanted, key: str, feature: FixedLenFeature, lists: bool) -> None:
    dtype, sizes = _dtype(feature, key), _sizes(feature, key)
    _column(found, key, "dense", dtype, sizes, feature.default_value is not None)
    if feature.default_value is not None:
        found.defaults[key] = _default(feature.default_value, dtype, sizes, key)


def _default(value: Any, dtype: types.DType, sizes: list[int], key: str) -> Tensor:
    from . import array_ops

    made = convert_to_tensor(value, dtype, name=f"key_{key}")
    if made.sizes is not None and list(made.sizes) == sizes:
        return made
    return array_ops.reshape(made, np.array(sizes, np.int32))


def _add_sequence(found: _Wanted, key: str, feature: FixedLenSequenceFeature, lists: bool) -> None:
    dtype, sizes = _dtype(feature, key), _sizes(feature, key)
    if lists:
        if feature.default_value is not None:
            raise ValueError(f"the default_value of the feature list {key!r} must be None: a list has as many rows as it has features")
        _column(found, key, "sequence" if feature.allow_missing else "dense", dtype, sizes)
        return
    if not feature.allow_missing:
        raise ValueError(f"Unsupported: FixedLenSequenceFeature requires allow_missing to be True (feature {key!r}).")
    _column(found, key, "sequence", dtype, sizes, feature.default_value is not None)
    if feature.default_value is not None:
        found.defaults[key] = _default(feature.default_value, dtype, [], key)


_ADD: dict[type, Any] = {VarLenFeature: _add_var, SparseFeature: _add_sparse, FixedLenFeature: _add_fixed,
                         FixedLenSequenceFeature: _add_sequence}


def _ordered(found: _Wanted) -> list[Column]:
    """SparseTensors first, then by key, as TF numbers the outputs."""
    return sorted(found.columns.values(), key=lambda c: (c.how != "sparse", c.key))


def _collected(columns: Sequence[Column], outputs: list[Tensor]) -> dict[str, Any]:
    """By key: a tensor, or the three of a SparseTensor; takes them from the front of `outputs`."""
    out: dict[str, Any] = {}
    for c in columns:
        n = 3 if c.how == "sparse" else 1
        out[c.key] = outputs[0] if n == 1 else SparseTensor(*outputs[:3])
        del outputs[:n]
    return out


def _merged(features: dict[str, Any], sparse: dict[str, SparseFeature], parsed: dict[str, Any]) -> dict[str, Any]:
    """The results under the keys that were asked for."""
    for key, f in sparse.items():
        values = parsed[f.value_key]
        ids = [t for k in _listed(f.index_key) for t in (parsed[k].indices, parsed[k].values)]
        made = parsing.merge_sparse_op(values.indices, values.values, values.dense_shape, *ids, sizes=tuple(map(int, _listed(f.size))),
                                       ordered=bool(f.already_sorted))
        parsed = {**parsed, "\0" + key: SparseTensor(*made)}
    return {key: parsed["\0" + key if key in sparse else key] for key in features}


_EXAMPLE = (VarLenFeature, SparseFeature, FixedLenFeature, FixedLenSequenceFeature)


def _parse(serialized: Any, features: dict[str, Any], names: Any, name: str | None, single: bool) -> dict[str, Any]:
    label = "ParseSingleExample" if single else "ParseExample"
    with graph.get_default_graph().name_scope(name or label):
        serialized = convert_to_tensor(serialized, types.string, name="serialized")
        found = _wanted(features, _EXAMPLE)
        columns = _ordered(found)
        rest = [found.defaults[c.key] for c in columns if c.default]
        if names is not None:
            rest.append(convert_to_tensor(names, types.string, name="names"))
        single = single or serialized.sizes == ()
        made = parsing.parse_example_op(serialized, *rest, columns=tuple(map(tuple, columns)), single=single, named=names is not None,
                                        name=label)
        return _merged(features, found.sparse, _collected(columns, made if isinstance(made, list) else [made]))


def parse_example(serialized: Any, features: dict[str, Any], name: str | None = None, example_names: Any = None) -> dict[str, Any]:
    """The features of a batch of serialized `tf.train.Example`s, by key.

    Args:
        serialized: strings [batch].
        features: by key, a FixedLenFeature, FixedLenSequenceFeature (with allow_missing), VarLenFeature or SparseFeature.
        example_names: strings [batch] for messages.

    Raises:
        ValueError, TypeError: features that make no sense.
        InvalidArgumentError (at run time): bytes that are no Example; a required feature is missing, has another type or number of
            values.  The message names the feature and the example.
    """
    if not features:
        raise ValueError(f"Missing: features was {features}.")
    return _parse(serialized, features, example_names, name, False)


def parse_single_example(serialized: Any, features: dict[str, Any], name: str | None = None, example_names: Any = None) -> dict[str, Any]:
    """The features of one serialized `tf.train.Example`: `parse_example` of a scalar, without the dimension of the batch.

    Raises: as parse_example.
    """
    if not features:
        raise ValueError(f"Missing features: {features}.")
    return _parse(serialized, features, example_names, name, True)


def parse_single_sequence_example(serialized: Any, context_features: dict[str, Any] | None = None,
                                  sequence_features: dict[str, Any] | None = None, example_name: Any = None,
                                  name: str | None = None) -> tuple[dict[str, Any], dict[str, Any]]:
    """The features of one serialized `tf.train.SequenceExample`.

    Args:
        serialized: a string scalar.
        context_features: by key, FixedLenFeature, VarLenFeature or SparseFeature.
        sequence_features: by key, FixedLenSequenceFeature ([steps, *shape]), or VarLenFeature or SparseFeature (SparseTensors whose
            first dimension are the steps).
        example_name: for messages.

    Returns:
        (context, sequences): dicts by key.

    Raises:
        ValueError, TypeError: features that make no sense.
        InvalidArgumentError (at run time): as parse_example; the message also names the step.
    """
    return _parse_sequences(serialized, context_features, sequence_features, example_name, name, True)[:2]


def parse_sequence_example(serialized: Any, context_features: dict[str, Any] | None = None, sequence_features: dict[str, Any] | None = None,
                           example_names: Any = None, name: str | None = None) -> tuple[dict[str, Any], dict[str, Any], dict[str, Tensor]]:
    """The features of a batch of serialized `tf.train.SequenceExample`s, strings [batch]: as parse_single_sequence_example.

    Returns:
        (context, sequences, lengths): dicts by key.  Dense sequences are [batch, longest, *shape], filled up with 0 or "", and
        `lengths` has their true lengths [batch].

    Raises: as parse_single_sequence_example.
    """
    return _parse_sequences(serialized, context_features, sequence_features, example_names, name, False)


def _parse_sequences(serialized: Any, context_features: dict[str, Any] | None, sequence_features: dict[str, Any] | None, names: Any,
                     name: str | None, single: bool) -> tuple[dict[str, Any], dict[str, Any], dict[str, Tensor]]:
    if not (context_features or sequence_features):
        raise ValueError("Missing features: context_features and sequence_features are both empty or None.")
    label = "ParseSingleSequenceExample" if single else "ParseSequenceExample"
    with graph.get_default_graph().name_scope(name or label):
        serialized = convert_to_tensor(serialized, types.string, name="serialized")
        context = _wanted(context_features or {}, (VarLenFeature, SparseFeature, FixedLenFeature))
        lists = _wanted(sequence_features or {}, (VarLenFeature, SparseFeature, FixedLenSequenceFeature), lists=True)
        if shared := set(context_features or {}) & set(sequence_features or {}):
            raise ValueError(f"Context and sequence feature lists overlap: {sorted(shared)}")
        one, two = _ordered(context), _ordered(lists)
        rest = [context.defaults[c.key] for c in one if c.default]
        if names is not None:
            rest.append(convert_to_tensor(names, types.string, name="names"))
        made = parsing.parse_sequence_op(serialized, *rest, context=tuple(map(tuple, one)), lists=tuple(map(tuple, two)), single=single,
                                         named=names is not None, name=label)
        outputs = made if isinstance(made, list) else [made]
        first, second = _collected(one, outputs), _collected(two, outputs)
        lengths = dict(zip([c.key for c in two if c.how != "sparse"], outputs))
        return (_merged(context_features or {}, context.sparse, first), _merged(sequence_features or {}, lists.sparse, second),
                {key: lengths[key] for key in sequence_features or {} if key in lengths})


# ---------------------------------------------------------------- bytes and text


def decode_raw(input_bytes: Any = None, out_type: Any = None, little_endian: bool = True, name: str | None = None,
               bytes: Any = None) -> Tensor:
    """The numbers that strings are in memory.

    Args:
        input_bytes: strings of any shape, all of the same length; also called `bytes`.
        out_type: float16, float32, float64, bfloat16, int8 .. int64, uint8, uint16, complex64, complex128 or bool.
        little_endian: the order of the bytes.

    Returns:
        A tensor of the shape of the strings and one more dimension.

    Raises:
        TypeError: another dtype.  InvalidArgumentError (at run time): lengths that differ or are no multiple of the dtype's size.
    """
    data = _either(input_bytes, bytes, "input_bytes", "bytes")
    if out_type is None:
        raise ValueError("decode_raw needs out_type")
    return ops.decode_raw_op(convert_to_tensor(data, types.string), out_type=types.as_dtype(out_type), little_endian=bool(little_endian),
                             name=name)


def _either(new: Any, old: Any, *names: str) -> Any:
    """The value of an argument with two names."""
    if (new is None) == (old is None):
        raise ValueError(f"exactly one of {' and '.join(names)} must be given")
    return old if new is None else new


def decode_compressed(bytes: Any, compression_type: str = "", name: str | None = None) -> Tensor:
    """Strings that were compressed with "ZLIB" or "GZIP", decompressed.

    Raises:
        InvalidArgumentError (at run time): another type.  DataLossError (at run time): strings that are not so compressed.
    """
    return ops.decode_compressed_op(convert_to_tensor(bytes, types.string), compression_type=compression_type, name=name)


def decode_csv(records: Any, record_defaults: Sequence[Any], field_delim: str = ",", use_quote_delim: bool = True, name: str | None = None,
               na_value: str = "", select_cols: Sequence[int] | None = None) -> list[Tensor]:
    """The columns of records of comma-separated text (RFC 4180).

    Args:
        records: strings of any shape, a record each, without line ends.
        record_defaults: for each column a tensor or list of one element, used where a field is empty, or of none (the field is then
            required); its dtype (float32, float64, int32, int64 or string) is that of the column.
        field_delim: one character.
        use_quote_delim: whether double quotes enclose fields.
        na_value: text that also counts as empty.
        select_cols: indices of the columns to give, increasing.

    Returns:
        A tensor for each column, of the shape of `records`.

    Raises:
        ValueError: columns that are not increasing, or another number of defaults.
        InvalidArgumentError (at run time): a record with too few or many fields, a required field missing, no such number.
    """
    columns = [] if select_cols is None else list(select_cols)
    if any(b <= a for a, b in zip(columns, columns[1:])):
        raise ValueError("select_cols is not strictly increasing.")
    if columns and columns[0] < 0:
        raise ValueError("select_cols contains negative values.")
    if select_cols is not None and len(columns) != len(record_defaults):
        raise ValueError("Length of select_cols and record_defaults do not match.")
    with graph.get_default_graph().name_scope(name or "DecodeCSV") as scope:
        defaults = [convert_to_tensor(d, name=f"record_defaults_{i}") for i, d in enumerate(record_defaults)]
        made = ops.decode_csv_op(convert_to_tensor(records, types.string, name="records"), *defaults, field_delim=field_delim,
                                 use_quote_delim=bool(use_quote_delim), na_value=na_value, select_cols=tuple(columns), name=scope)
    return made if isinstance(made, list) else [made]


def decode_json_example(json_examples: Any, name: str | None = None) -> Tensor:
    """Examples in protobuf's JSON form, as serialized Examples.  Raises InvalidArgumentError (at run time) on other text."""
    return ops.decode_json_op(convert_to_tensor(json_examples, types.string), name=name)


# ---------------------------------------------------------------- serialized tensors


def serialize_tensor(tensor: Any, name: str | None = None) -> Tensor:
    """A tensor as a string: its TensorProto, which `parse_tensor` reads."""
    tensor = convert_to_tensor(tensor)
    return ops.serialize_tensor_op(tensor, dtype=tensor.dtype, name=name)


def parse_tensor(serialized: Any, out_type: Any, name: str | None = None) -> Tensor:
    """The tensor that a string (of `serialize_tensor`, or any TensorProto) holds.

    Raises InvalidArgumentError (at run time): another dtype than `out_type`; no TensorProto.
    """
    return ops.parse_tensor_op(convert_to_tensor(serialized, types.string), out_type=types.as_dtype(out_type), name=name)


def _string_only(out_type: Any) -> None:
    if types.as_dtype(out_type) is not types.string:
        raise TypeError(f"SparseTensors are serialized as tf.string, not {types.as_dtype(out_type).name}: there are no variants here")


def serialize_sparse(sp_input: Any, name: str | None = None, out_type: Any = types.string) -> Tensor:
    """A SparseTensor as three strings: its indices, values and shape as serialized tensors."""
    _string_only(out_type)
    sp = _sparse(sp_input)
    return ops.serialize_sparse_op(sp.indices, sp.values, sp.dense_shape, dtype=sp.dtype, name=name)


def serialize_many_sparse(sp_input: Any, name: str | None = None, out_type: Any = types.string) -> Tensor:
    """Strings [N, 3]: the entries of the first dimension of a SparseTensor, each as `serialize_sparse` writes it."""
    _string_only(out_type)
    sp = _sparse(sp_input)
    return ops.serialize_many_sparse_op(sp.indices, sp.values, sp.dense_shape, dtype=sp.dtype, name=name)


def deserialize_many_sparse(serialized_sparse: Any, dtype: Any, rank: int | None = None, name: str | None = None) -> SparseTensor:
    """Serialized SparseTensors, strings [N, 3], of values of `dtype`, as one with a new first dimension of size N.

    `rank`, where known, is the rank of the result.
    Raises InvalidArgumentError (at run time): strings that are no such tensors, ranks that differ.
    """
    return SparseTensor(*ops.deserialize_many_sparse_op(convert_to_tensor(serialized_sparse, types.string), dtype=types.as_dtype(dtype),
                                                        rank=rank, name=name))
