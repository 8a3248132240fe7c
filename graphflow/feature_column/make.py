"""`tf.feature_column`: the functions that make columns, and their checks."""
from __future__ import annotations

import math
import os
from typing import Any, Iterable, Sequence

import numpy as np

from .. import types
from ..init_ops import truncated_normal_initializer
from ..platform import logging
from .columns import (BucketizedColumn, CategoricalColumn, CrossedColumn, EmbeddingColumn, HashedCategoricalColumn,
                      IdentityCategoricalColumn, IndicatorColumn, NumericColumn, SequenceCategoricalColumn, SequenceNumericColumn,
                      SharedEmbeddingColumn, VocabularyFileCategoricalColumn, VocabularyListCategoricalColumn, WeightedCategoricalColumn,
                      string_or_int)

# ---------------------------------------------------------------- checks


def _key(key: Any) -> str:
    if not isinstance(key, str):
        raise ValueError(f"key must be a string. Got: type {type(key)}. Given key: {key}.")
    return key


def _shape(shape: Any, key: Any) -> tuple[int, ...]:
    sizes = tuple(shape) if isinstance(shape, (list, tuple)) else (shape,)
    for n in sizes:
        if not isinstance(n, int) or isinstance(n, bool):
            raise TypeError(f"shape dimensions must be integer. shape: {sizes}, key: {key}")
        if n < 1:
            raise ValueError(f"shape dimensions must be greater than 0. shape: {sizes}, key: {key}")
    return sizes


def _number(dtype: Any, message: str) -> types.DType:
    found = None if dtype is None else types.as_dtype(dtype)
    if found is None or not (found.is_integer or found.is_floating):
        raise ValueError(message.format(dtype))
    return found


def _filled(shape: tuple[int, ...], value: Any) -> Any:
    return tuple(_filled(shape[1:], value) for _ in range(shape[0])) if shape else value


def _tuples(value: Any) -> Any:
    return tuple(map(_tuples, value)) if isinstance(value, (list, tuple)) else value


def _default(shape: tuple[int, ...], value: Any, dtype: types.DType, key: str) -> Any:
    """The default of a numeric column as nested tuples of `shape`.

    Raises:
        ValueError: another shape.  TypeError: floats in a column of integers, or no numbers.
    """
    if value is None:
        return None
    if isinstance(value, int) or isinstance(value, float) and dtype.is_floating:
        return _filled(shape, value)
    plain = value.tolist() if hasattr(value, "tolist") else value
    if isinstance(plain, (list, tuple)):
        try:
            have = np.asarray(plain).shape
        except ValueError:  # ragged
            have = ()
        if have != shape:
            raise ValueError(f"The shape of default_value must be equal to given shape. default_value: {plain}, shape: {shape}, key: {key}")
        kind = np.asarray(plain).dtype.kind
        if kind in "iub" or kind == "f" and dtype.is_floating:
            return _tuples(plain)
    raise TypeError(f"default_value must be compatible with dtype. default_value: {plain}, dtype: {dtype}, key: {key}")


def _function(normalizer_fn: Any) -> Any:
    if normalizer_fn is not None and not callable(normalizer_fn):
        raise TypeError(f"normalizer_fn must be a callable. Given: {normalizer_fn}")
    return normalizer_fn


def _oov(num_oov_buckets: int | None, default: Any, none: Any, key: str) -> int:
    if not num_oov_buckets:
        return 0
    if default != none:
        raise ValueError(f"Can't specify both num_oov_buckets and default_value in {key}.")
    if num_oov_buckets < 0:
        raise ValueError(f"Invalid num_oov_buckets {num_oov_buckets} in {key}.")
    return num_oov_buckets


# ---------------------------------------------------------------- numbers


def numeric_column(key: str, shape: Any = (1,), default_value: Any = None, dtype: Any = types.float32,
                   normalizer_fn: Any = None) -> NumericColumn:
    """The numbers of a feature [batch, *shape] as float32.

    Args:
        key: the name of the feature, and of the column.
        default_value: what `tf.parse_example` takes for missing values: a number, or nested values of `shape`.
        dtype: of the feature when it is parsed.
        normalizer_fn: a function of the tensor, such as `lambda x: (x - 3.0) / 4.2`.

    Raises:
        ValueError: sizes below 1, a dtype that is no number, a default of another shape, a key that is no text.
        TypeError: sizes that are no integers, a default of another dtype, no function.
    """
    sizes = _shape(shape, key)
    dtype = _number(dtype, f"dtype must be convertible to float. dtype: {{}}, key: {key}")
    default = _default(sizes, default_value, dtype, key)
    return NumericColumn(_key(key), sizes, default, dtype, _function(normalizer_fn))


def bucketized_column(source_column: Any, boundaries: Sequence[float]) -> BucketizedColumn:
    """Which of the `len(boundaries) + 1` ranges between sorted boundaries a number is in; each range includes its lower end.

    Dense in `input_layer` (one-hot), categorical in `linear_model` and crosses.
    Raises ValueError: no numeric column of one dimension, boundaries that do not rise.
    """
    if not isinstance(source_column, NumericColumn):
        raise ValueError(f"source_column must be a column generated with numeric_column(). Given: {source_column}")
    if len(source_column.shape) > 1:
        raise ValueError(f"source_column must be one-dimensional column. Given: {source_column}")
    if not len(boundaries):
        raise ValueError("boundaries must not be empty.")
    if not isinstance(boundaries, (list, tuple)) or any(a >= b for a, b in zip(boundaries, boundaries[1:])):
        raise ValueError(f"boundaries must be a sorted list. Given: {boundaries}")
    return BucketizedColumn(source_column, tuple(boundaries))


# ---------------------------------------------------------------- categories


def categorical_column_with_hash_bucket(key: str, hash_bucket_size: int, dtype: Any = types.string) -> HashedCategoricalColumn:
    """Strings (or integers, by their digits) as Fingerprint64 modulo `hash_bucket_size`.

    Here and below a feature is a SparseTensor, or a tensor in which "" and -1 stand for nothing.
    Raises ValueError: less than one bucket, another dtype, a key that is no text.
    """
    if hash_bucket_size is None:
        raise ValueError(f"hash_bucket_size must be set. key: {key}")
    if hash_bucket_size < 1:
        raise ValueError(f"hash_bucket_size must be at least 1. hash_bucket_size: {hash_bucket_size}, key: {key}")
    dtype = types.as_dtype(dtype)
    string_or_int(dtype, f"column_name: {_key(key)}")
    return HashedCategoricalColumn(key, hash_bucket_size, dtype)


def categorical_column_with_vocabulary_file(key: str, vocabulary_file: Any, vocabulary_size: int | None = None,
                                            num_oov_buckets: int | None = 0, default_value: int | None = None,
                                            dtype: Any = types.string) -> VocabularyFileCategoricalColumn:
    """The number of the line of a file on which a word stands.

    Args:
        vocabulary_size: how many lines count; all of them if None.
        num_oov_buckets: how many ids behind them are shared by other words (by hash).
        default_value: the id of other words where there are no such buckets; -1, which is left out, if None.

    Raises:
        ValueError: no file, no lines, both a default and buckets, another dtype.
    """
    if not vocabulary_file:
        raise ValueError(f"Missing vocabulary_file in {key}.")
    path = os.fspath(vocabulary_file)
    if vocabulary_size is None:
        if not os.path.exists(path):
            raise ValueError(f"vocabulary_file in {key} does not exist: {path}.")
        with open(path, "rb") as f:
            vocabulary_size = sum(1 for _ in f)
        logging.info("vocabulary_size = %d in %s is inferred from the number of elements in the vocabulary_file %s.", vocabulary_size, key,
                     path)
    if vocabulary_size < 1:
        raise ValueError(f"Invalid vocabulary_size in {key}.")
    dtype, oov = types.as_dtype(dtype), _oov(num_oov_buckets, default_value, None, key)
    string_or_int(dtype, f"column_name: {_key(key)}")
    return VocabularyFileCategoricalColumn(key, path, vocabulary_size, oov, dtype, -1 if default_value is None else default_value)


def categorical_column_with_vocabulary_list(key: str, vocabulary_list: Sequence[Any], dtype: Any = None, default_value: int = -1,
                                            num_oov_buckets: int = 0) -> VocabularyListCategoricalColumn:
    """The place of a word (or integer) in a list.

    Args:
        dtype: string or an integer type; that of the list if None.
        default_value, num_oov_buckets: ids of other words, see `categorical_column_with_vocabulary_file`.

    Raises:
        ValueError: nothing in the list or something twice, both a default and buckets, dtypes that do not fit.
    """
    if vocabulary_list is None or len(vocabulary_list) < 1:
        raise ValueError(f"vocabulary_list {vocabulary_list} must be non-empty, column_name: {key}")
    if len(set(vocabulary_list)) != len(vocabulary_list):
        raise ValueError(f"Duplicate keys in vocabulary_list {vocabulary_list}, column_name: {key}")
    own, oov = types.as_dtype(np.array(vocabulary_list).dtype), _oov(num_oov_buckets, default_value, -1, key)
    string_or_int(own, f"column_name: {key} vocabulary")
    dtype = own if dtype is None else types.as_dtype(dtype)
    if dtype.is_integer != own.is_integer:
        raise ValueError(f"dtype {dtype} and vocabulary dtype {own} do not match, column_name: {key}")
    string_or_int(dtype, f"column_name: {_key(key)}")
    return VocabularyListCategoricalColumn(key, tuple(vocabulary_list), dtype, default_value, oov)


def categorical_column_with_identity(key: str, num_buckets: int, default_value: int | None = None) -> IdentityCategoricalColumn:
    """Integers in [0, num_buckets) as they are; others become `default_value`, or fail (InvalidArgumentError, when run) if it is None.

    Raises ValueError: less than one bucket, a default outside.
    """
    if num_buckets < 1:
        raise ValueError(f"num_buckets {num_buckets} < 1, column_name {key}")
    if default_value is not None and not 0 <= default_value < num_buckets:
        raise ValueError(f"default_value {default_value} not in range [0, {num_buckets}), column_name {key}")
    return IdentityCategoricalColumn(_key(key), num_buckets, default_value)


def weighted_categorical_column(categorical_column: Any, weight_feature_key: str, dtype: Any = types.float32) -> WeightedCategoricalColumn:
    """A categorical column with weights: another feature of the same positions (a tensor without its zeros, or a SparseTensor).

    Raises ValueError: a dtype that is no number.
    """
    return WeightedCategoricalColumn(categorical_column, weight_feature_key, _number(dtype, "dtype {} is not convertible to float."))


def crossed_column(keys: Sequence[Any], hash_bucket_size: int, hash_key: int | None = None) -> CrossedColumn:
    """The hash of every combination of values, modulo `hash_bucket_size`.

    Args:
        keys: two or more names of features of strings or integers, or categorical columns that are not hashed.
        hash_key: another one gives other hashes.

    Raises:
        ValueError: less than one bucket or two keys, other things as keys, a hashed column (name its feature instead).
    """
    if not hash_bucket_size or hash_bucket_size < 1:
        raise ValueError(f"hash_bucket_size must be > 1. hash_bucket_size: {hash_bucket_size}")
    if not keys or len(keys) < 2:
        raise ValueError(f"keys must be a list with length > 1. Given: {keys}")
    for key in keys:
        if not isinstance(key, (str, CategoricalColumn)):
            raise ValueError("Unsupported key type. All keys must be either string, or categorical column except "
                             f"HashedCategoricalColumn. Given: {key}")
        if isinstance(key, HashedCategoricalColumn):
            raise ValueError("categorical_column_with_hash_bucket is not supported for crossing: hashing twice collides more often. "
                             f"Use the feature name as a string. Given: {key}")
    return CrossedColumn(tuple(keys), hash_bucket_size, hash_key)


# ---------------------------------------------------------------- dense from categories


def indicator_column(categorical_column: Any) -> IndicatorColumn:
    """How often each id of a row is there (or the sum of its weights): float32 [batch, num_buckets].

    Raises ValueError: no categorical column.
    """
    if not isinstance(categorical_column, CategoricalColumn):
        raise ValueError(f"Unsupported input type. Input must be a CategoricalColumn. Given: {categorical_column}")
    return IndicatorColumn(categorical_column)


def _embedding(dimension: Any, initializer: Any, ckpt: Any, tensor_name: Any, of: str) -> Any:
    """The initializer, after the checks of both kinds of embeddings."""
    if dimension is None or dimension < 1:
        raise ValueError(f"Invalid dimension {dimension}.")
    if (ckpt is None) != (tensor_name is None):
        raise ValueError("Must specify both `ckpt_to_load_from` and `tensor_name_in_ckpt` or none of them.")
    if initializer is not None and not callable(initializer):
        raise ValueError(f"initializer must be callable if specified. {of}")
    return truncated_normal_initializer(mean=0.0, stddev=1 / math.sqrt(dimension)) if initializer is None else initializer


def embedding_column(categorical_column: Any, dimension: int, combiner: str = "mean", initializer: Any = None,
                     ckpt_to_load_from: Any = None, tensor_name_in_ckpt: str | None = None, max_norm: float | None = None,
                     trainable: bool = True) -> EmbeddingColumn:
    """A row of `dimension` numbers for each id, combined over the ids of an example: float32 [batch, dimension].

    Args:
        combiner: "mean", "sqrtn" or "sum", see `tf.nn.embedding_lookup_sparse`; examples without ids give zeros.
        initializer: truncated normal with a standard deviation of 1/sqrt(dimension) if None.
        ckpt_to_load_from, tensor_name_in_ckpt: a checkpoint and the name there, to start from.
        max_norm: clips rows to this norm.

    Raises:
        ValueError: a dimension below 1, only one of the checkpoint and the name, an initializer that is none.
    """
    name = getattr(categorical_column, "name", categorical_column)
    initializer = _embedding(dimension, initializer, ckpt_to_load_from, tensor_name_in_ckpt, f"Embedding of column_name: {name}")
    return EmbeddingColumn(categorical_column, dimension, combiner, initializer, ckpt_to_load_from, tensor_name_in_ckpt, max_norm,
                           trainable)


def _inner(column: Any) -> Any:
    while isinstance(column, (WeightedCategoricalColumn, SequenceCategoricalColumn)):
        column = column.categorical_column
    return column


def shared_embedding_columns(categorical_columns: Iterable[Any], dimension: int, combiner: str = "mean", initializer: Any = None,
                             shared_embedding_collection_name: str | None = None, ckpt_to_load_from: Any = None,
                             tensor_name_in_ckpt: str | None = None, max_norm: float | None = None, trainable: bool = True
                             ) -> list[SharedEmbeddingColumn]:
    """An embedding column for each of `categorical_columns`, all with one variable.

    Args:
        shared_embedding_collection_name: the collection that holds the variable, and its scope; made of the names if None.
        The others: see `embedding_column`.

    Raises:
        ValueError: columns of different kinds or sizes, and as `embedding_column`.
    """
    columns = list(categorical_columns)
    initializer = _embedding(dimension, initializer, ckpt_to_load_from, tensor_name_in_ckpt, "")
    ordered = sorted(columns, key=lambda c: c.name)
    for c in ordered:
        if not isinstance(c, CategoricalColumn):
            raise ValueError(f"All categorical_columns must be subclasses of _CategoricalColumn. Given: {c}, of type: {type(c)}")
    first = _inner(ordered[0])
    for c in map(_inner, ordered[1:]):
        if type(c) is not type(first):
            raise ValueError("To use shared_embedding_column, all categorical_columns must have the same type, or be "
                             f"weighted_categorical_column or sequence column of the same type. Given column: {first} of type: "
                             f"{type(first)} does not match given column: {c} of type: {type(c)}")
        if c._num_buckets != first._num_buckets:
            raise ValueError("To use shared_embedding_column, all categorical_columns must have the same number of buckets. Given column: "
                             f"{first} with buckets: {first._num_buckets} does not match column: {c} with buckets: {c._num_buckets}")
    name = shared_embedding_collection_name or "_".join(c.name for c in ordered) + "_shared_embedding"
    return [SharedEmbeddingColumn(c, dimension, combiner, initializer, name, ckpt_to_load_from, tensor_name_in_ckpt, max_norm, trainable)
            for c in columns]


# ---------------------------------------------------------------- sequences


def sequence_numeric_column(key: str, shape: Any = (1,), default_value: float = 0.0, dtype: Any = types.float32,
                            normalizer_fn: Any = None) -> SequenceNumericColumn:
    """Sequences of numbers: a SparseTensor [batch, any] as [batch, time, *shape], with `default_value` where a sequence is shorter."""
    sizes = _shape(shape, key)
    dtype = _number(dtype, f"dtype must be convertible to float. dtype: {{}}, key: {key}")
    return SequenceNumericColumn(_key(key), sizes, default_value, dtype, _function(normalizer_fn))


def sequence_categorical_column_with_identity(key: str, num_buckets: int, default_value: int | None = None) -> SequenceCategoricalColumn:
    """`categorical_column_with_identity` along time."""
    return SequenceCategoricalColumn(categorical_column_with_identity(key, num_buckets, default_value))


def sequence_categorical_column_with_hash_bucket(key: str, hash_bucket_size: int, dtype: Any = types.string) -> SequenceCategoricalColumn:
    """`categorical_column_with_hash_bucket` along time."""
    return SequenceCategoricalColumn(categorical_column_with_hash_bucket(key, hash_bucket_size, dtype))


def sequence_categorical_column_with_vocabulary_file(key: str, vocabulary_file: Any, vocabulary_size: int | None = None,
                                                     num_oov_buckets: int | None = 0, default_value: int | None = None,
                                                     dtype: Any = types.string) -> SequenceCategoricalColumn:
    """`categorical_column_with_vocabulary_file` along time."""
    return SequenceCategoricalColumn(categorical_column_with_vocabulary_file(key, vocabulary_file, vocabulary_size, num_oov_buckets,
                                                                             default_value, dtype))


def sequence_categorical_column_with_vocabulary_list(key: str, vocabulary_list: Sequence[Any], dtype: Any = None, default_value: int = -1,
                                                     num_oov_buckets: int = 0) -> SequenceCategoricalColumn:
    """`categorical_column_with_vocabulary_list` along time."""
    return SequenceCategoricalColumn(categorical_column_with_vocabulary_list(key, vocabulary_list, dtype, default_value, num_oov_buckets))
