"""Lookup tables: from keys (strings or integers) to values, filled once by an initializer or changed as the program runs (rank 9)."""
from __future__ import annotations

import threading
from typing import Any, Iterable, NamedTuple, Sequence

import numpy as np

from . import errors, types
from .graph import GraphKeys, Operation, Spec, Tensor, get_default_graph
from .ops.hashing import HASHES
from .ops.opdef import constant, convert_to_tensor, primitive
from .ops.resource import handle_op, object_of, resource_op
from .proto.records import opened, path_of
from .sparse_tensor import SparseTensor
from .types import UNKNOWN, DType

# ---------------------------------------------------------------- what a session keeps


def _key(value: Any) -> Any:
    return value.encode() if isinstance(value, str) else value


def _keys(a: np.ndarray) -> list[Any]:
    found = a.reshape(-1).tolist()
    return [_key(k) for k in found] if a.dtype == object else found


class Table:
    """A dictionary.  Values are Python scalars, or arrays where the values of the table are tensors."""

    def __init__(self, op: Operation):
        a = op.attrs
        self.label, self.key_dtype, self.value_dtype = op.name, a["key_dtype"], a["value_dtype"]
        self.value_shape: tuple[int, ...] = a.get("value_shape", ())
        self.lock = threading.Lock()
        self.found: dict[Any, Any] = {}

    def _values(self, a: np.ndarray) -> list[Any]:
        if self.value_shape:
            return [row.copy() for row in a.reshape(-1, *self.value_shape)]
        return _keys(a)

    def check(self, keys: np.ndarray, values: np.ndarray) -> None:
        if values.shape != keys.shape + self.value_shape:
            expected, have = types.shape_text(keys.shape + self.value_shape), types.shape_text(values.shape)
            raise errors.InvalidArgumentError(None, None, f"Expected shape {expected} for the values of these keys, got {have}")

    def lookup(self, keys: np.ndarray, default: np.ndarray) -> np.ndarray:
        missing = default if self.value_shape else _keys(default)[0]
        with self.lock:
            rows = [self.found.get(k, missing) for k in _keys(keys)]
        out = np.empty((len(rows), *self.value_shape), self.value_dtype.np)
        for i, row in enumerate(rows) if self.value_shape or out.dtype == object else ():
            out[i] = row
        if not self.value_shape and out.dtype != object:
            out[:] = rows
        return out.reshape(keys.shape + self.value_shape)

    def insert(self, keys: np.ndarray, values: np.ndarray) -> None:
        self.check(keys, values)
        with self.lock:
            self.found.update(zip(_keys(keys), self._values(values)))

    def remove(self, keys: np.ndarray) -> None:
        with self.lock:
            for k in _keys(keys):
                self.found.pop(k, None)

    def size(self) -> int:
        return len(self.found)

    def export(self) -> list[np.ndarray]:
        with self.lock:
            keys, values = list(self.found), list(self.found.values())
        return [_column(keys, self.key_dtype, ()), _column(values, self.value_dtype, self.value_shape)]


def _column(items: Sequence[Any], dtype: DType, shape: tuple[int, ...]) -> np.ndarray:
    out = np.empty((len(items), *shape), dtype.np)
    for i, item in enumerate(items):
        out[i] = item
    return out


class StaticTable(Table):
    """Filled once; before that it cannot be read."""

    ready = False

    def fill(self, pairs: Iterable[tuple[Any, Any]]) -> None:
        """All pairs or none.  Raises FailedPreconditionError when a key has two values, or the table other contents already."""
        new: dict[Any, Any] = {}
        for k, v in pairs:
            if new.setdefault(k, v) != v:
                raise errors.FailedPreconditionError(None, None, f"HashTable has different value for same key. Key {_shown(k)} has "
                                                     f"{_shown(new[k])} and trying to add value {_shown(v)}")
        with self.lock:
            if self.ready and new != self.found:
                raise errors.FailedPreconditionError(None, None, "Table already initialized.")
            self.found, self.ready = new, True

    def insert(self, keys: np.ndarray, values: np.ndarray) -> None:
        self.check(keys, values)
        self.fill(zip(_keys(keys), self._values(values)))

    def _filled(self) -> None:
        if not self.ready:
            raise errors.FailedPreconditionError(None, None, f"Table not initialized: {self.label}. Run tf.tables_initializer() in this "
                                                 "session first")

    def lookup(self, keys: np.ndarray, default: np.ndarray) -> np.ndarray:
        self._filled()
        return super().lookup(keys, default)

    def export(self) -> list[np.ndarray]:
        self._filled()
        return super().export()


class DenseTable(Table):
    """As in TF1 two keys are set aside, and refused."""

    def __init__(self, op: Operation):
        super().__init__(op)
        self.reserved = {_key(op.attrs["empty_key"]): "empty_key", _key(op.attrs["deleted_key"]): "deleted_key"}

    def _refuse(self, keys: np.ndarray) -> None:
        for k in _keys(keys):
            if k in self.reserved:
                raise errors.InvalidArgumentError(None, None, f"Using the {self.reserved[k]} as a table key is not allowed")

    def lookup(self, keys: np.ndarray, default: np.ndarray) -> np.ndarray:
        self._refuse(keys)
        return super().lookup(keys, default)

    def insert(self, keys: np.ndarray, values: np.ndarray) -> None:
        self._refuse(keys)
        super().insert(keys, values)

    def remove(self, keys: np.ndarray) -> None:
        self._refuse(keys)
        super().remove(keys)


def _shown(value: Any) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else str(value)


def _text_pairs(path: str, key: tuple[int, DType], value: tuple[int, DType], most: int, delimiter: str) -> list[tuple[Any, Any]]:
    """(key, value) of each line.  Raises InvalidArgumentError naming the line that does not fit."""
    found = []
    with opened(path, "") as f:
        for number, line in enumerate(f):
            if 0 <= most <= number:
                break
            line = line.rstrip(b"\n").replace(b"\r", b"")
            columns = line.split(delimiter.encode()) if max(key[0], value[0]) >= 0 else []
            found.append(tuple(_field(path, number, line, columns, *what) for what in (key, value)))
    if most >= 0 and len(found) < most:
        raise errors.InvalidArgumentError(None, None, f"Invalid vocab_size in {path}: expected {most} but got {len(found)}")
    return found  # type: ignore[return-value]


def _field(path: str, number: int, line: bytes, columns: list[bytes], index: int, dtype: DType) -> Any:
    if index == TextFileIndex.LINE_NUMBER:
        return number
    if index >= len(columns) and index >= 0:
        raise errors.InvalidArgumentError(None, None, f"Invalid number of columns in {path} line {number} ({_shown(line)}) : expected at "
                                          f"least {index + 1} got {len(columns)}")
    text = line if index == TextFileIndex.WHOLE_LINE else columns[index]
    if dtype.kind == "s":
        return text
    try:
        return float(text) if dtype.kind == "f" else int(text)
    except ValueError:
        message = f"Field {_shown(text)} in line {number} of {path} is not a valid {dtype.name}."
        raise errors.InvalidArgumentError(None, None, message) from None


# ---------------------------------------------------------------- ops


@handle_op("HashTableV2", StaticTable, "hash_table")
def _hash_table(*, key_dtype, value_dtype, container="", shared_name=""):
    """A handle."""


@handle_op("MutableHashTableOfTensorsV2", Table, "MutableHashTable")
def _mutable_table(*, key_dtype, value_dtype, value_shape=(), container="", shared_name=""):
    """A handle."""


@handle_op("MutableDenseHashTableV2", DenseTable, "MutableDenseHashTable")
def _dense_table(*, key_dtype, value_dtype, value_shape=(), empty_key, deleted_key, container="", shared_name=""):
    """A handle."""


def _find_spec(table: Tensor, keys: Tensor, default_value: Tensor) -> Spec:
    values = default_value.sizes
    return Spec(default_value.dtype, None if keys.sizes is None or values is None else (*keys.sizes, *values))


@resource_op("LookupTableFindV2", _find_spec)
def _find(table, keys, default_value):
    """The values of `keys`, `default_value` for those that are not there."""


@_find.performs
def _(access, op, arrays):
    return [object_of(access, op, arrays).lookup(arrays[1], arrays[2])]


@resource_op("LookupTableInsertV2", lambda *_: [])
def _insert(table, keys, values):
    """Sets the values of `keys`; the last of equal keys counts."""


@resource_op("LookupTableImportV2", lambda *_: [])
def _import(table, keys, values):
    """Fills a table."""


def _put(access: Any, op: Operation, arrays: list[np.ndarray]) -> list[np.ndarray]:
    object_of(access, op, arrays).insert(arrays[1], arrays[2])
    return []


_insert.performs(_put)
_import.performs(_put)


@resource_op("InitializeTableFromTextFileV2", lambda *_, **__: [])
def _from_text(table, filename, *, key_index, value_index, vocab_size, delimiter):
    """Fills a table from the lines of a file."""


@_from_text.performs
def _(access, op, arrays):
    table, a = object_of(access, op, arrays), op.attrs
    table.fill(_text_pairs(path_of(arrays[1].item()), (a["key_index"], table.key_dtype), (a["value_index"], table.value_dtype),
                           a["vocab_size"], a["delimiter"]))
    return []


@resource_op("LookupTableSizeV2", lambda table: Spec(types.int64, ()))
def _size(table):
    """The number of keys."""


@_size.performs
def _(access, op, arrays):
    return [np.array(object_of(access, op, arrays).size(), np.int64)]


@resource_op("LookupTableRemoveV2", lambda *_: [])
def _remove(table, keys):
    """Takes keys out."""


@_remove.performs
def _(access, op, arrays):
    object_of(access, op, arrays).remove(arrays[1])
    return []


@resource_op("LookupTableExportV2", lambda table, *, key_dtype, value_dtype, value_shape: [
    Spec(key_dtype, (UNKNOWN,)), Spec(value_dtype, (UNKNOWN, *value_shape))])
def _export(table, *, key_dtype, value_dtype, value_shape):
    """All keys, and their values."""


@_export.performs
def _(access, op, arrays):
    return object_of(access, op, arrays).export()


@primitive("host", type="TableBuckets", same=("-",), dtypes=types.INTEGER + (types.string,), no_gradient="an index",
           input_dtypes={"keys": types.INTEGER + (types.string,)}, infer=lambda keys, **_: Spec(types.int64, keys.sizes))
def _buckets(keys, *, num_buckets, hasher, key):
    """The hash of each key (an integer as its decimal digits), modulo `num_buckets`."""


@_buckets.reference
def _(keys, *, num_buckets, hasher, key):
    found = keys.reshape(-1).tolist()
    texts = [_key(k) for k in found] if keys.dtype == object else [b"%d" % k for k in found]
    return np.array([HASHES[hasher](t, key) % num_buckets for t in texts], np.int64).reshape(keys.shape)


# ---------------------------------------------------------------- initializers


class TextFileIndex:
    """What of a line is meant, beside the number of a column."""

    WHOLE_LINE, LINE_NUMBER = -2, -1


class TableInitializerBase:
    """What fills a table: its dtypes, and `initialize(table)`, the operation that does it."""

    def __init__(self, key_dtype: Any, value_dtype: Any):
        self._key_dtype, self._value_dtype = types.as_dtype(key_dtype).base_dtype, types.as_dtype(value_dtype).base_dtype

    key_dtype = property(lambda self: self._key_dtype)
    value_dtype = property(lambda self: self._value_dtype)
    _shared_name = ""

    def initialize(self, table: Any) -> Operation:
        """The operation that fills `table`; also in the collection TABLE_INITIALIZERS."""
        raise NotImplementedError

    def _check(self, table: Any) -> None:
        if (table.key_dtype, table.value_dtype) != (self.key_dtype, self.value_dtype):
            raise TypeError(f"Invalid dtypes: the table is from {table.key_dtype.name} to {table.value_dtype.name}, its initializer from "
                            f"{self.key_dtype.name} to {self.value_dtype.name}")


def _registered(op: Operation) -> Operation:
    op.graph.add_to_collection(GraphKeys.TABLE_INITIALIZERS, op)
    return op


class KeyValueTensorInitializer(TableInitializerBase):
    """Fills a table with a vector of keys and one of values."""

    def __init__(self, keys: Any, values: Any, key_dtype: Any = None, value_dtype: Any = None, name: str | None = None):
        with get_default_graph().inside(None):
            self._keys = convert_to_tensor(keys, key_dtype, name="keys")
            self._values = convert_to_tensor(values, value_dtype, name="values")
        self._name = name or "key_value_init"
        super().__init__(self._keys.dtype, self._values.dtype)

    def initialize(self, table: Any) -> Operation:
        self._check(table)
        with get_default_graph().name_scope(self._name):
            return _registered(_import(table.resource_handle, self._keys, self._values))


class TextFileInitializer(TableInitializerBase):
    """Fills a table from a text file, one line for each key.

    Args:
        filename: its path, a string or a string scalar.
        key_dtype, key_index: what the keys are: a column (from 0), TextFileIndex.WHOLE_LINE, or LINE_NUMBER (int64, from 0).
        value_dtype, value_index: likewise the values.
        vocab_size: how many lines count; the file must have as many.
        delimiter: between columns.

    Raises:
        ValueError: no file name, an index or dtype that does not fit.
        NotFoundError, InvalidArgumentError (at run time): no such file, a line that does not fit.
    """

    def __init__(self, filename: Any, key_dtype: Any, key_index: int, value_dtype: Any, value_index: int, vocab_size: int | None = None,
                 delimiter: str = "\t", name: str | None = None):
        if not isinstance(filename, Tensor) and not filename:
            raise ValueError("Filename required for TextFileInitializer.")
        super().__init__(key_dtype, value_dtype)
        for what, dtype, index in (("Key", self.key_dtype, key_index), ("Value", self.value_dtype, value_index)):
            if index < -2:
                raise ValueError(f"Invalid {what.lower()} index {index}.")
            if index == TextFileIndex.LINE_NUMBER and dtype is not types.int64:
                raise ValueError(f"Signature mismatch. {what}s must be dtype int64, got {dtype.name}.")
            if index == TextFileIndex.WHOLE_LINE and not dtype.is_integer and dtype is not types.string:
                raise ValueError(f"Signature mismatch. {what}s must be integer or string, got {dtype.name}.")
        if vocab_size is not None and vocab_size <= 0:
            raise ValueError(f"Invalid vocab_size {vocab_size}.")
        self._filename, self._indices, self._delimiter, self._name = filename, (key_index, value_index), delimiter, name
        self._vocab_size = -1 if vocab_size is None else int(vocab_size)
        if not isinstance(filename, Tensor):
            count = "" if vocab_size is None else f"{vocab_size}_"
            self._shared_name = f"hash_table_{path_of(filename)}_{count}{key_index}_{value_index}"

    def initialize(self, table: Any) -> Operation:
        self._check(table)
        g = get_default_graph()
        with g.name_scope(self._name or "text_file_init"):
            filename = convert_to_tensor(self._filename, types.string, name="asset_filepath")
            g.add_to_collection(GraphKeys.ASSET_FILEPATHS, filename)
            return _registered(_from_text(table.resource_handle, filename, key_index=self._indices[0], value_index=self._indices[1],
                                          vocab_size=self._vocab_size, delimiter=self._delimiter))


class TextFileStringTableInitializer(TextFileInitializer):
    """From int64 (by default the number of the line) to strings (by default the line)."""

    def __init__(self, filename: Any, key_column_index: int = TextFileIndex.LINE_NUMBER, value_column_index: int = TextFileIndex.WHOLE_LINE,
                 vocab_size: int | None = None, delimiter: str = "\t", name: str = "text_file_string_table_init"):
        super().__init__(filename, types.int64, key_column_index, types.string, value_column_index, vocab_size, delimiter, name)


class TextFileIdTableInitializer(TextFileInitializer):
    """From strings (by default the line) to int64 (by default the number of the line)."""

    def __init__(self, filename: Any, key_column_index: int = TextFileIndex.WHOLE_LINE, value_column_index: int = TextFileIndex.LINE_NUMBER,
                 vocab_size: int | None = None, delimiter: str = "\t", name: str = "text_file_id_table_init",
                 key_dtype: Any = types.string):
        super().__init__(filename, key_dtype, key_column_index, types.int64, value_column_index, vocab_size, delimiter, name)


# ---------------------------------------------------------------- tables


class LookupInterface:
    """What all tables share: dtypes, `lookup` and `size`."""

    def __init__(self, key_dtype: Any, value_dtype: Any):
        self._key_dtype, self._value_dtype = types.as_dtype(key_dtype).base_dtype, types.as_dtype(value_dtype).base_dtype

    key_dtype = property(lambda self: self._key_dtype)
    value_dtype = property(lambda self: self._value_dtype)

    @property
    def name(self) -> Any:
        raise NotImplementedError

    def size(self, name: str | None = None) -> Tensor:
        """The number of keys, an int64 tensor."""
        raise NotImplementedError

    def lookup(self, keys: Any, name: str | None = None) -> Any:
        """The values of `keys`."""
        raise NotImplementedError

    def __getitem__(self, keys: Any) -> Any:
        return self.lookup(keys)

    def _tensor(self, keys: Any) -> Any:
        """`keys` as a tensor or SparseTensor of the table's dtype.  Raises TypeError for another."""
        found = keys if isinstance(keys, (Tensor, SparseTensor)) else convert_to_tensor(keys, preferred_dtype=self._key_dtype)
        if found.dtype.base_dtype is not self._key_dtype:
            raise TypeError(f"Signature mismatch. Keys must be dtype {self._key_dtype.name}, got {found.dtype.name}.")
        return found


def _like(keys: Any, values: Tensor) -> Any:
    return SparseTensor(keys.indices, values, keys.dense_shape) if isinstance(keys, SparseTensor) else values


class _HandleTable(LookupInterface):
    """A table of its own in each session."""

    def __init__(self, key_dtype: Any, value_dtype: Any, default_value: Any, handle: Tensor):
        super().__init__(key_dtype, value_dtype)
        self._default_value, self._resource_handle = default_value, handle
        self._table_name = handle.op.name.split("/")[-1]

    default_value = property(lambda self: self._default_value)
    resource_handle = property(lambda self: self._resource_handle)

    @property
    def name(self) -> Any:
        """The last part of the handle's name."""
        return self._table_name

    def _scope(self, name: str | None, what: str) -> Any:
        return get_default_graph().name_scope(name or f"{self.name}_{what}")

    def size(self, name: str | None = None) -> Tensor:
        with self._scope(name, "Size"):
            return _size(self._resource_handle)  # type: ignore[no-any-return]

    def _exported(self, name: str | None, what: str) -> tuple[Tensor, Tensor]:
        with self._scope(name, what):
            keys, values = _export(self._resource_handle, key_dtype=self._key_dtype, value_dtype=self._value_dtype,
                                   value_shape=self._default_value.sizes)
            return keys, values


class InitializableLookupTableBase(_HandleTable):
    """A table that its initializer fills once: run `initializer`, or `tf.tables_initializer()` for all tables.

    Args:
        default_value: a scalar, the value of keys that are not there.
        initializer: what fills it, and says its dtypes.
    """

    def __init__(self, default_value: Any, initializer: Any, shared_name: str | None = None, name: str | None = None):
        default = convert_to_tensor(default_value, initializer.value_dtype)
        default.shape.assert_has_rank(0)
        with get_default_graph().inside(None):
            handle = _hash_table(key_dtype=initializer.key_dtype, value_dtype=initializer.value_dtype,
                                 shared_name=shared_name or getattr(initializer, "_shared_name", ""), name=name or "hash_table")
            super().__init__(initializer.key_dtype, initializer.value_dtype, default, handle)
            self._initializer = initializer
            self._init_op = initializer.initialize(self)

    @property
    def initializer(self) -> Operation:
        """The operation that fills it."""
        return self._init_op  # type: ignore[no-any-return]

    init = initializer

    def lookup(self, keys: Any, name: str | None = None) -> Any:
        """The values of `keys` (a tensor or SparseTensor), `default_value` where there is none; of the same form.

        Raises:
            TypeError: another dtype.  FailedPreconditionError (at run time): not initialized.
        """
        keys = self._tensor(keys)
        with self._scope(name, "Lookup"):
            return _like(keys, _find(self._resource_handle, keys.values if isinstance(keys, SparseTensor) else keys, self._default_value))


class StaticHashTable(InitializableLookupTableBase):
    """A table that is filled once.  See `InitializableLookupTableBase`."""

    def __init__(self, initializer: Any, default_value: Any, name: str | None = None):
        super().__init__(default_value, initializer, name=name)

    def export(self, name: str | None = None) -> tuple[Tensor, Tensor]:
        """(keys, values), two vectors."""
        return self._exported(name, "Export")


class HashTable(StaticHashTable):
    """`tf.contrib.lookup.HashTable`: `StaticHashTable` with a name to share it under."""

    def __init__(self, initializer: Any, default_value: Any, shared_name: str | None = None, name: str | None = None):
        InitializableLookupTableBase.__init__(self, default_value, initializer, shared_name, name)


class HasherSpec(NamedTuple("HasherSpec", [("hasher", str), ("key", Any)])):
    """Which hash gives the bucket of an unknown key: "fasthash" (Fingerprint64), "legacy", or "stronghash" with a key."""


FastHashSpec = HasherSpec("fasthash", None)


class StrongHashSpec(HasherSpec):
    """SipHash with a key of two unsigned integers.  Raises ValueError, TypeError for another key."""

    def __new__(cls, key: Sequence[int]) -> Any:
        if len(key) != 2:
            raise ValueError("key must have size 2, got %s." % (key,))
        if not all(isinstance(k, (int, np.integer)) for k in key):
            raise TypeError("Invalid key %s. Must be unsigned integer values." % (key,))
        return super().__new__(cls, "stronghash", tuple(map(int, key)))


class IdTableWithHashBuckets(LookupInterface):
    """`table`, and ids from its size on for keys that it has not: the size plus the hash of the key modulo `num_oov_buckets`.

    Args:
        table: from int64 or strings to int64; None for hashes alone.
        hasher_spec: which hash.
        key_dtype: of the keys looked up, any integer for an int64 table.

    Raises:
        TypeError: dtypes that do not fit.  ValueError: neither table nor buckets.
    """

    def __init__(self, table: Any, num_oov_buckets: int, hasher_spec: HasherSpec = FastHashSpec, name: str | None = None,
                 key_dtype: Any = None):
        if table is None and num_oov_buckets <= 0:
            raise ValueError("oov_buckets must be > 0 if no table is supplied.")
        key = types.as_dtype(key_dtype or (types.string if table is None else table.key_dtype)).base_dtype
        if table is not None:
            if table.key_dtype not in (types.int64, types.string) or table.key_dtype.is_integer != key.is_integer:
                raise TypeError(f"Invalid key dtype: the table has {table.key_dtype.name}, got {key.name}.")
            if table.value_dtype is not types.int64:
                raise TypeError(f"Invalid value dtype, expected int64, but got {table.value_dtype.name}.")
        if not key.is_integer and key is not types.string:
            raise TypeError(f"Invalid key_dtype, expected integer or string, got {key.name}.")
        if not isinstance(hasher_spec, HasherSpec):
            raise TypeError(f"hasher_spec must be of type HasherSpec, got {hasher_spec}")
        if hasher_spec.hasher not in HASHES:
            raise ValueError(f"Unknown hasher {hasher_spec.hasher}")
        super().__init__(key, types.int64)
        self._table, self._num_oov_buckets, self._hasher_spec = table, num_oov_buckets, hasher_spec
        self._table_name = (name or ("hash_bucket" if table is None else table.name)).rstrip("/").split("/")[-1]

    @property
    def name(self) -> Any:
        return self._table_name

    @property
    def initializer(self) -> Operation:
        """The operation that fills the table."""
        from .control_flow_ops import no_op

        return no_op("init") if self._table is None else self._table.initializer  # type: ignore[no-any-return]

    init = initializer

    @property
    def resource_handle(self) -> Any:
        return None if self._table is None else self._table.resource_handle

    def _scope(self, name: str | None, what: str) -> Any:
        return get_default_graph().name_scope(name or f"{self.name}_{what}")

    def size(self, name: str | None = None) -> Tensor:
        """The size of the table plus the number of buckets."""
        with self._scope(name, "Size"):
            known = constant(0, types.int64) if self._table is None else self._table.size()
            return known + self._num_oov_buckets  # type: ignore[no-any-return]

    def lookup(self, keys: Any, name: str | None = None) -> Any:
        """The ids of `keys` (a tensor or SparseTensor); of the same form.  Raises TypeError for another dtype."""
        from .array_ops import where
        from .math_ops import cast, not_equal

        keys = self._tensor(keys)
        values = keys.values if isinstance(keys, SparseTensor) else keys
        with self._scope(name, "Lookup"):
            if self._table is not None:
                values = cast(values, types.int64) if values.dtype.is_integer else values
                ids = self._table.lookup(values)
                if not self._num_oov_buckets:
                    return _like(keys, ids)
            buckets = _buckets(values, num_buckets=int(self._num_oov_buckets), hasher=self._hasher_spec.hasher, key=self._hasher_spec.key,
                               name="hash_bucket")
            if self._table is None:
                return _like(keys, buckets)
            known = not_equal(ids, self._table.default_value)
            return _like(keys, where(known, ids, buckets + self._table.size()))


class StaticVocabularyTable(IdTableWithHashBuckets):
    """The table that `initializer` (to int64) fills, and `num_oov_buckets` ids for keys that it has not.  See `IdTableWithHashBuckets`.

    Raises ValueError for `num_oov_buckets` < 1.
    """

    def __init__(self, initializer: Any, num_oov_buckets: int, lookup_key_dtype: Any = None, name: str | None = None):
        if num_oov_buckets <= 0:
            raise ValueError("oov_buckets must be > 0; use StaticHashTable for a table without")
        if initializer is not None and initializer.value_dtype is not types.int64:
            raise TypeError(f"Invalid value dtype, expected int64 but got {initializer.value_dtype.name}.")
        table = None if initializer is None else StaticHashTable(initializer, -1)
        super().__init__(table, num_oov_buckets, FastHashSpec, name, lookup_key_dtype)


class MutableHashTable(_HandleTable):
    """A table that is changed as the program runs; `insert`, `remove`, `export`.

    Args:
        default_value: a scalar or a tensor, the value of keys that are not there.
        checkpoint: accepted; tables are not part of checkpoints.
    """

    def __init__(self, key_dtype: Any, value_dtype: Any, default_value: Any, shared_name: str | None = None,
                 name: str = "MutableHashTable", checkpoint: bool = True):
        default = convert_to_tensor(default_value, value_dtype)
        handle = _mutable_table(key_dtype=types.as_dtype(key_dtype), value_dtype=types.as_dtype(value_dtype), value_shape=default.sizes,
                                shared_name=shared_name or "", name=name)
        super().__init__(key_dtype, value_dtype, default, handle)

    def lookup(self, keys: Any, name: str | None = None) -> Tensor:
        """The values of `keys`, `default_value` where there is none."""
        with self._scope(name, "lookup_table_find"):
            return _find(self._resource_handle, convert_to_tensor(keys, self._key_dtype), self._default_value)  # type: ignore[no-any-return]

    def insert(self, keys: Any, values: Any, name: str | None = None) -> Operation:
        """Sets the values of `keys`."""
        with self._scope(name, "lookup_table_insert"):
            return _insert(self._resource_handle, convert_to_tensor(keys, self._key_dtype), convert_to_tensor(values, self._value_dtype))

    def remove(self, keys: Any, name: str | None = None) -> Operation:
        """Takes keys out; those that are not there do not matter.  Raises TypeError for another dtype."""
        keys = self._tensor(keys)
        with self._scope(name, "lookup_table_remove"):
            return _remove(self._resource_handle, keys)

    def export(self, name: str | None = None) -> tuple[Tensor, Tensor]:
        """(keys, values), in the order of insertion."""
        return self._exported(name, "lookup_table_export_values")


class MutableDenseHashTable(MutableHashTable):
    """`MutableHashTable` with two keys set aside, `empty_key` and `deleted_key`, which nobody may use.

    initial_num_buckets: accepted; the table grows as it needs.
    """

    def __init__(self, key_dtype: Any, value_dtype: Any, default_value: Any, empty_key: Any, deleted_key: Any,
                 initial_num_buckets: int | None = None, shared_name: str | None = None, name: str = "MutableDenseHashTable",
                 checkpoint: bool = True):
        default = convert_to_tensor(default_value, value_dtype)
        handle = _dense_table(key_dtype=types.as_dtype(key_dtype), value_dtype=types.as_dtype(value_dtype), value_shape=default.sizes,
                              empty_key=empty_key, deleted_key=deleted_key, shared_name=shared_name or "", name=name)
        _HandleTable.__init__(self, key_dtype, value_dtype, default, handle)


# ---------------------------------------------------------------- tables of vocabularies


def index_table_from_file(vocabulary_file: Any = None, num_oov_buckets: int = 0, vocab_size: int | None = None, default_value: int = -1,
                          hasher_spec: HasherSpec = FastHashSpec, key_dtype: Any = types.string, name: str | None = None,
                          key_column_index: int = TextFileIndex.WHOLE_LINE, value_column_index: int = TextFileIndex.LINE_NUMBER,
                          delimiter: str = "\t") -> Any:
    """A table from the words of a file, one a line, to the numbers of their lines.

    Args:
        num_oov_buckets: ids for other words, by their hash; without them they are `default_value`.
        vocab_size: how many lines count.
        key_dtype: string, or an integer.
        others: as for `TextFileInitializer`.

    Raises:
        ValueError: no file, a bad size.  TypeError: `key_dtype`.
    """
    if vocabulary_file is None or isinstance(vocabulary_file, (str, bytes)) and not vocabulary_file:
        raise ValueError("vocabulary_file must be specified and must not be empty.")
    if num_oov_buckets < 0:
        raise ValueError(f"num_oov_buckets must be greater or equal than 0, got {num_oov_buckets}.")
    if vocab_size is not None and vocab_size < 1:
        raise ValueError(f"vocab_size must be greater than 0, got {vocab_size}.")
    key = types.as_dtype(key_dtype)
    if not key.is_integer and key is not types.string:
        raise TypeError("Only integer and string keys are supported.")
    g = get_default_graph()
    with g.name_scope(name or "string_to_index"), g.name_scope("hash_table"):
        filled = TextFileIdTableInitializer(vocabulary_file, key_column_index, value_column_index, vocab_size, delimiter, "table_init",
                                            types.int64 if key.is_integer else key)
        table = StaticHashTable(filled, default_value)
        return IdTableWithHashBuckets(table, num_oov_buckets, hasher_spec, key_dtype=key) if num_oov_buckets else table


def index_table_from_tensor(vocabulary_list: Any, num_oov_buckets: int = 0, default_value: int = -1, hasher_spec: HasherSpec = FastHashSpec,
                            dtype: Any = types.string, name: str | None = None) -> Any:
    """A table from the elements of a vector to their places in it.  See `index_table_from_file`.

    Raises:
        ValueError: no vector, or of another dtype.  TypeError: `dtype` is neither string nor an integer.
    """
    from .array_ops import range as integers
    from .array_ops import size
    from .math_ops import cast

    if vocabulary_list is None:
        raise ValueError("vocabulary_list must be specified.")
    if num_oov_buckets < 0:
        raise ValueError(f"num_oov_buckets must be greater or equal than 0, got {num_oov_buckets}.")
    key = types.as_dtype(dtype)
    if not key.is_integer and key is not types.string:
        raise TypeError("Only integer and string keys are supported.")
    g = get_default_graph()
    with g.name_scope(name or "string_to_index"):
        keys = convert_to_tensor(vocabulary_list)
        if keys.dtype.is_integer != key.is_integer or not key.is_integer and keys.dtype is not key:
            raise ValueError(f"Expected {'integer' if key.is_integer else 'string'}, got {keys.dtype.name}.")
        values = cast(integers(size(keys)), types.int64)
        with g.name_scope("hash_table"):
            keys = cast(keys, types.int64) if key.is_integer else keys
            table = StaticHashTable(KeyValueTensorInitializer(keys, values, name="table_init"), default_value)
        return IdTableWithHashBuckets(table, num_oov_buckets, hasher_spec, key_dtype=key) if num_oov_buckets else table


def index_to_string_table_from_file(vocabulary_file: Any, vocab_size: int | None = None, default_value: Any = "UNK",
                                    name: str | None = None,
                                    key_column_index: int = TextFileIndex.LINE_NUMBER,
                                    value_column_index: int = TextFileIndex.WHOLE_LINE, delimiter: str = "\t") -> StaticHashTable:
    """A table from the numbers of lines of a file to the words there, `default_value` for others.  See `index_table_from_file`."""
    if vocabulary_file is None or isinstance(vocabulary_file, (str, bytes)) and not vocabulary_file:
        raise ValueError("vocabulary_file must be specified and must not be empty.")
    if vocab_size is not None and vocab_size < 1:
        raise ValueError(f"vocab_size must be greater than 0, got {vocab_size}.")
    with get_default_graph().name_scope(name or "index_to_string"):
        filled = TextFileStringTableInitializer(vocabulary_file, key_column_index, value_column_index, vocab_size, delimiter, "table_init")
        return StaticHashTable(filled, default_value)


def index_to_string_table_from_tensor(vocabulary_list: Any, default_value: Any = "UNK", name: str | None = None) -> StaticHashTable:
    """A table from the places of a string vector to its elements, `default_value` for others.  Raises ValueError for None."""
    from .array_ops import range as integers
    from .array_ops import size
    from .math_ops import cast

    if vocabulary_list is None:
        raise ValueError("vocabulary_list must be specified.")
    with get_default_graph().name_scope(name or "index_to_string"):
        values = convert_to_tensor(vocabulary_list, types.string)
        keys = cast(integers(size(values)), types.int64)
        return StaticHashTable(KeyValueTensorInitializer(keys, values, types.int64, types.string, name="table_init"), default_value)
