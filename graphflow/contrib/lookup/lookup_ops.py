"""`tf.contrib.lookup`: lookup tables under their older names."""
from __future__ import annotations

from typing import Any

from ... import types
from ...graph import Tensor
from ...lookup_ops import (FastHashSpec, HasherSpec, HashTable, IdTableWithHashBuckets, InitializableLookupTableBase,
                          KeyValueTensorInitializer, LookupInterface, MutableDenseHashTable, MutableHashTable, StrongHashSpec,
                          TableInitializerBase, TextFileIdTableInitializer, TextFileIndex, TextFileInitializer,
                          TextFileStringTableInitializer, index_table_from_file)
from ...lookup_ops import index_table_from_tensor as _from_tensor
from ...lookup_ops import index_to_string_table_from_file
from ...lookup_ops import index_to_string_table_from_tensor as _to_string
from ...ops.opdef import convert_to_tensor

__all__ = ["FastHashSpec", "HashTable", "HasherSpec", "IdTableWithHashBuckets", "InitializableLookupTableBase",
           "KeyValueTensorInitializer", "LookupInterface", "MutableDenseHashTable", "MutableHashTable", "StrongHashSpec",
           "TableInitializerBase", "TextFileIdTableInitializer", "TextFileIndex", "TextFileInitializer",
           "TextFileStringTableInitializer", "index_table_from_file", "index_table_from_tensor", "index_to_string",
           "index_to_string_table_from_file", "index_to_string_table_from_tensor", "string_to_index",
           "string_to_index_table_from_file", "string_to_index_table_from_tensor"]


def index_table_from_tensor(mapping: Any, num_oov_buckets: int = 0, default_value: int = -1, hasher_spec: HasherSpec = FastHashSpec,
                            dtype: Any = types.string, name: str | None = None) -> Any:
    """A table from the elements of the vector `mapping` to their places in it; the rest as in `index_table_from_file`."""
    if mapping is None:
        raise ValueError("mapping must be specified.")
    return _from_tensor(mapping, num_oov_buckets, default_value, hasher_spec, dtype, name)


def index_to_string_table_from_tensor(mapping: Any, default_value: Any = "UNK", name: str | None = None) -> Any:
    """A table from the places of the string vector `mapping` to its elements."""
    if mapping is None:
        raise ValueError("mapping must be specified.")
    return _to_string(mapping, default_value, name)


def string_to_index_table_from_file(vocabulary_file: Any = None, num_oov_buckets: int = 0, vocab_size: int | None = None,
                                    default_value: int = -1, hasher_spec: HasherSpec = FastHashSpec, name: str | None = None) -> Any:
    """`index_table_from_file` of strings."""
    return index_table_from_file(vocabulary_file, num_oov_buckets, vocab_size, default_value, hasher_spec, types.string, name)


def string_to_index_table_from_tensor(mapping: Any, num_oov_buckets: int = 0, default_value: int = -1,
                                      hasher_spec: HasherSpec = FastHashSpec, name: str | None = None) -> Any:
    """`index_table_from_tensor` of strings.  Raises ValueError for others."""
    strings = convert_to_tensor(mapping)
    if strings.dtype is not types.string:
        raise ValueError("string_to_index_table_from_tensor requires string.")
    return index_table_from_tensor(strings, num_oov_buckets, default_value, hasher_spec, name=name)


def string_to_index(tensor: Any, mapping: Any, default_value: int = -1, name: str | None = None) -> Tensor:
    """The places in `mapping` of the strings in `tensor`, `default_value` for others.  Run `tf.tables_initializer()` before."""
    return index_table_from_tensor(mapping, default_value=default_value, name=name).lookup(tensor)  # type: ignore[no-any-return]


def index_to_string(tensor: Any, mapping: Any, default_value: Any = "UNK", name: str | None = None) -> Tensor:
    """The strings that stand in `mapping` at the places in `tensor`, `default_value` for others."""
    return index_to_string_table_from_tensor(mapping, default_value, name).lookup(tensor)  # type: ignore[no-any-return]
