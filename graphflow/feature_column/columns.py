"""Feature columns: what becomes of one feature, or of several, before a model sees it.

A column is a tuple of its settings.  Dense columns give a tensor [batch, ..], categorical ones ids (and weights) as SparseTensors
[batch, any]; a `Builder` holds the features and what columns have made of them, so that each is made once.
"""
from __future__ import annotations

from collections import namedtuple
from typing import Any, NamedTuple

from .. import array_ops, check_ops, graph, lookup_ops, math_ops, sparse_tensor, types
from ..control_flow_ops import cond
from ..embedding_ops import safe_embedding_lookup_sparse
from ..graph import GraphKeys, Tensor
from ..init_ops import zeros_initializer
from ..ops.contraction import matmul
from ..ops.opdef import convert_to_tensor
from ..parsing_ops import FixedLenFeature, VarLenFeature
from ..sparse_cross import sparse_cross_hashed
from ..sparse_tensor import SparseTensor, convert_to_tensor_or_sparse_tensor
from ..types import TensorShape
from ..variable_scope import get_variable


class IdWeightPair(NamedTuple):
    """Ids of a categorical column and their weights (None: all 1), SparseTensors with the same indices."""

    id_tensor: SparseTensor
    weight_tensor: SparseTensor | None


class TensorSequenceLengthPair(NamedTuple):
    """A tensor [batch, time, ..] and the int64 [batch] lengths."""

    dense_tensor: Tensor
    sequence_length: Tensor


class Builder:
    """The features by name, and what columns made of them."""

    def __init__(self, features: Any):
        self._features = dict(features)
        self._made: dict[Any, Any] = {}

    def get(self, key: Any) -> Any:
        """A feature [batch, ..] by its name, or what a column makes of it.

        Raises:
            ValueError: there is no such feature, or it is a scalar.  TypeError: neither a name nor a column.
        """
        place = key if isinstance(key, str) else (type(key), key)
        if place not in self._made:
            self._made[place] = self._feature(key) if isinstance(key, str) else self._column(key)
        return self._made[place]

    def _column(self, key: Any) -> Any:
        if not isinstance(key, FeatureColumn):
            raise TypeError(f'"key" must be either a "str" or "_FeatureColumn". Provided: {key}')
        return key._transform_feature(self)

    def _feature(self, key: str) -> Any:
        if key not in self._features:
            raise ValueError(f"Feature {key} is not in features dictionary. It has {sorted(map(str, self._features))}.")
        found = convert_to_tensor_or_sparse_tensor(self._features[key])
        rank = found.shape.ndims
        if rank == 0:
            raise ValueError(f"Feature (key: {key}) cannot have rank 0. Given: {found}")
        if rank is None and isinstance(found, SparseTensor):
            return _as_matrix(found)
        if rank is None:
            positive = check_ops.assert_positive(array_ops.rank(found), message=f"Feature (key: {key}) cannot have rank 0. Given: {found}")
            with graph.get_default_graph().control_dependencies([positive]):
                return cond(math_ops.equal(1, array_ops.rank(found)), lambda: array_ops.expand_dims(found, -1), lambda: found)
        return found if rank != 1 else _as_column(found)


def _as_column(found: Any) -> Any:
    """[batch] as [batch, 1]."""
    if isinstance(found, SparseTensor):
        return sparse_tensor.sparse_expand_dims(found, -1)
    return array_ops.expand_dims(found, -1)


def _as_matrix(found: SparseTensor) -> SparseTensor:
    """A SparseTensor of unknown rank as [batch, any]; [batch] becomes [batch, 1], and more dimensions fail when run."""
    more = math_ops.maximum(2 - array_ops.shape(found.dense_shape)[0], 0)
    rows = array_ops.shape(found.indices)[0]
    indices = array_ops.concat([found.indices, array_ops.zeros(array_ops.stack([rows, more]), types.int64)], 1)
    shape = array_ops.concat([found.dense_shape, array_ops.fill(array_ops.expand_dims(more, 0), convert_to_tensor(1, types.int64))], 0)
    return SparseTensor(array_ops.ensure_shape(indices, [None, 2]), found.values, array_ops.ensure_shape(shape, [2]))


def to_sparse(found: Any, ignored: Any = None) -> SparseTensor:
    """A dense tensor without its elements `ignored` ("" or -1, or zero of other dtypes) as a SparseTensor."""
    if isinstance(found, SparseTensor):
        return found
    with graph.get_default_graph().name_scope("to_sparse_input"):
        if ignored is None:
            ignored = {"s": "", "i": -1, "u": -1}.get(found.dtype.kind, 0)
        if found.dtype.kind == "u" and ignored < 0:
            ignored %= int(found.dtype.max) + 1
        indices = array_ops.where(math_ops.not_equal(found, convert_to_tensor(ignored, found.dtype)), name="indices")
        return SparseTensor(indices, array_ops.gather_nd(found, indices, name="values"), array_ops.shape(found, out_type=types.int64))


def as_rows(ids: SparseTensor | None) -> SparseTensor | None:
    """[batch, ..] as [batch, any]."""
    if ids is None or ids.shape.ndims == 2:
        return ids
    return sparse_tensor.sparse_reshape(ids, array_ops.stack([ids.dense_shape[0], convert_to_tensor(-1, types.int64)]))


def string_or_int(dtype: types.DType, prefix: str) -> None:
    if dtype.kind not in "siu":
        raise ValueError(f"{prefix} dtype must be string or integer. dtype: {dtype}.")


# ---------------------------------------------------------------- kinds of columns


class FeatureColumn:
    """`name`, `parse_example_spec` (what `tf.parse_example` needs for it), and `_transform_feature`, what it makes of features."""

    __slots__ = ()
    name: Any
    parse_example_spec: Any
    _var_scope_name = property(lambda self: self.name)
    _parse_example_spec = property(lambda self: self.parse_example_spec)

    def _transform_feature(self, inputs: Builder) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no _transform_feature")


class DenseColumn(FeatureColumn):
    """Gives a tensor [batch, *variable_shape]."""

    __slots__ = ()
    variable_shape: Any
    _variable_shape = property(lambda self: self.variable_shape)

    def _get_dense_tensor(self, inputs: Builder, weight_collections: Any = None, trainable: bool | None = None) -> Tensor:
        return inputs.get(self)


class CategoricalColumn(FeatureColumn):
    """Gives ids below `num_buckets`."""

    __slots__ = ()
    num_buckets: Any
    _num_buckets = property(lambda self: self.num_buckets)

    def _get_sparse_tensors(self, inputs: Builder, weight_collections: Any = None, trainable: bool | None = None) -> IdWeightPair:
        return IdWeightPair(inputs.get(self), None)


class SequenceDenseColumn(FeatureColumn):
    """Gives a tensor [batch, time, *variable_shape] and lengths."""

    __slots__ = ()

    def _get_sequence_dense_tensor(self, inputs: Builder, weight_collections: Any = None, trainable: bool | None = None) -> Any:
        raise NotImplementedError(f"{type(self).__name__} has no _get_sequence_dense_tensor")


# ---------------------------------------------------------------- numbers


class NumericColumn(DenseColumn, namedtuple("NumericColumn", ["key", "shape", "default_value", "dtype", "normalizer_fn"])):
    """Numbers as float32, after `normalizer_fn`."""

    __slots__ = ()
    name = property(lambda self: self.key)
    variable_shape = property(lambda self: TensorShape(self.shape))
    parse_example_spec = property(lambda self: {self.key: FixedLenFeature(self.shape, self.dtype, self.default_value)})

    def _transform_feature(self, inputs: Builder) -> Tensor:
        found = inputs.get(self.key)
        if isinstance(found, SparseTensor):
            raise ValueError("The corresponding Tensor of numerical column must be a Tensor. SparseTensor is not supported. "
                             f"key: {self.key}")
        return math_ops.cast(self.normalizer_fn(found) if self.normalizer_fn is not None else found, types.float32)


class BucketizedColumn(DenseColumn, CategoricalColumn, namedtuple("BucketizedColumn", ["source_column", "boundaries"])):
    """The place of numbers between boundaries: 0 below the first one, i from boundary i - 1 on."""

    __slots__ = ()
    name = property(lambda self: f"{self.source_column.name}_bucketized")
    parse_example_spec = property(lambda self: self.source_column.parse_example_spec)
    variable_shape = property(lambda self: TensorShape((*self.source_column.shape, len(self.boundaries) + 1)))
    num_buckets = property(lambda self: (len(self.boundaries) + 1) * self.source_column.shape[0])

    def _transform_feature(self, inputs: Builder) -> Tensor:
        ends = convert_to_tensor(list(self.boundaries), types.float32)
        below = math_ops.less(array_ops.expand_dims(inputs.get(self.source_column), -1), ends)
        return len(self.boundaries) - math_ops.reduce_sum(math_ops.cast(below, types.int32), -1)

    def _get_dense_tensor(self, inputs: Builder, weight_collections: Any = None, trainable: bool | None = None) -> Tensor:
        return array_ops.one_hot(inputs.get(self), len(self.boundaries) + 1, 1.0, 0.0)

    def _get_sparse_tensors(self, inputs: Builder, weight_collections: Any = None, trainable: bool | None = None) -> IdWeightPair:
        bucket, width = inputs.get(self), self.source_column.shape[0]
        ids = math_ops.cast(bucket, types.int64) + (len(self.boundaries) + 1) * array_ops.range(width, dtype=types.int64)
        batch = array_ops.shape(bucket, out_type=types.int64)[0]
        at = array_ops.range(batch * width, dtype=types.int64)
        indices = array_ops.stack([at // width, at % width], 1)
        shape = array_ops.stack([batch, convert_to_tensor(width, types.int64)])
        return IdWeightPair(SparseTensor(indices, array_ops.reshape(ids, [-1]), shape), None)


# ---------------------------------------------------------------- categories


class _OfKey(CategoricalColumn):
    """A categorical column of one feature."""

    __slots__ = ()
    key: Any
    dtype: Any
    num_oov_buckets: Any
    default_value: Any
    name = property(lambda self: self.key)
    parse_example_spec = property(lambda self: {self.key: VarLenFeature(self.dtype)})

    def _input(self, inputs: Builder) -> SparseTensor:
        found = to_sparse(inputs.get(self.key))
        string_or_int(found.dtype, f"column_name: {self.key} input_tensor")
        if self.dtype.is_integer != found.dtype.is_integer:
            raise ValueError(f"Column dtype and SparseTensors dtype must be compatible. key: {self.key}, column dtype: {self.dtype}, "
                             f"tensor dtype: {found.dtype}")
        return found

    def _looked_up(self, inputs: Builder, table: Any, **settings: Any) -> SparseTensor:
        """The ids of a table that `table(.., name=)` makes for text or int64."""
        found = self._input(inputs)
        made = table(num_oov_buckets=self.num_oov_buckets, default_value=self.default_value, name=f"{self.key}_lookup", **settings)
        return made.lookup(found.with_values(math_ops.cast(found.values, types.int64)) if found.dtype.is_integer else found)

    @property
    def _table_dtype(self) -> types.DType:
        return types.int64 if self.dtype.is_integer else self.dtype


class HashedCategoricalColumn(_OfKey, namedtuple("HashedCategoricalColumn", ["key", "hash_bucket_size", "dtype"])):
    """Fingerprint64 of the text (of integers: their digits), modulo the number of buckets."""

    __slots__ = ()
    num_buckets = property(lambda self: self.hash_bucket_size)

    def _transform_feature(self, inputs: Builder) -> SparseTensor:
        found = self._input(inputs)
        return found.with_values(lookup_ops._buckets(found.values, num_buckets=int(self.hash_bucket_size), hasher="fasthash", key=None,
                                                     name="lookup"))


class VocabularyFileCategoricalColumn(_OfKey, namedtuple("VocabularyFileCategoricalColumn", [
        "key", "vocabulary_file", "vocabulary_size", "num_oov_buckets", "dtype", "default_value"])):
    """The line of a file; then buckets of other words, or a default."""

    __slots__ = ()
    num_buckets = property(lambda self: self.vocabulary_size + self.num_oov_buckets)

    def _transform_feature(self, inputs: Builder) -> SparseTensor:
        return self._looked_up(inputs, lookup_ops.index_table_from_file, vocabulary_file=self.vocabulary_file,
                               vocab_size=self.vocabulary_size, key_dtype=self._table_dtype)


class VocabularyListCategoricalColumn(_OfKey, namedtuple("VocabularyListCategoricalColumn", [
        "key", "vocabulary_list", "dtype", "default_value", "num_oov_buckets"])):
    """The place in a list; then buckets of other words, or a default."""

    __slots__ = ()
    num_buckets = property(lambda self: len(self.vocabulary_list) + self.num_oov_buckets)

    def _transform_feature(self, inputs: Builder) -> SparseTensor:
        return self._looked_up(inputs, lookup_ops.index_table_from_tensor, vocabulary_list=list(self.vocabulary_list),
                               dtype=self._table_dtype)


class IdentityCategoricalColumn(_OfKey, namedtuple("IdentityCategoricalColumn", ["key", "number_buckets", "default_value"])):
    """The integers themselves; others than [0, number_buckets) become the default, or fail."""

    __slots__ = ()
    dtype = types.int64
    num_buckets = property(lambda self: self.number_buckets)

    def _transform_feature(self, inputs: Builder) -> SparseTensor:
        found = to_sparse(inputs.get(self.key))
        if not found.dtype.is_integer:
            raise ValueError(f"Invalid input, not integer. key: {self.key} dtype: {found.dtype}")
        values = math_ops.cast(found.values, types.int64, name="values")
        return found.with_values(self._checked(values) if self.default_value is None else self._replaced(values))

    def _checked(self, values: Tensor) -> Tensor:
        size = convert_to_tensor(self.number_buckets, types.int64)
        low = check_ops.assert_greater_equal(values, convert_to_tensor(0, types.int64), data=(values,), name="assert_greater_or_equal_0")
        high = check_ops.assert_less(values, size, data=(values, size), name="assert_less_than_num_buckets")
        with graph.get_default_graph().control_dependencies([low, high]):
            return array_ops.identity(values)

    def _replaced(self, values: Tensor) -> Tensor:
        out = math_ops.logical_or(values < 0, values >= self.number_buckets, name="out_of_range")
        return array_ops.where_v2(out, convert_to_tensor(self.default_value, types.int64), values)


class WeightedCategoricalColumn(CategoricalColumn, namedtuple("WeightedCategoricalColumn", [
        "categorical_column", "weight_feature_key", "dtype"])):
    """A categorical column with weights from another feature."""

    __slots__ = ()
    name = property(lambda self: f"{self.categorical_column.name}_weighted_by_{self.weight_feature_key}")
    num_buckets = property(lambda self: self.categorical_column._num_buckets)

    @property
    def parse_example_spec(self) -> dict[str, Any]:
        found = dict(self.categorical_column._parse_example_spec)
        if self.weight_feature_key in found:
            raise ValueError(f"Parse config {found[self.weight_feature_key]} already exists for {self.weight_feature_key}.")
        return {**found, self.weight_feature_key: VarLenFeature(self.dtype)}

    def _transform_feature(self, inputs: Builder) -> tuple[SparseTensor, SparseTensor]:
        found = inputs.get(self.weight_feature_key)
        if found.dtype != self.dtype:
            raise ValueError(f"Bad dtype, expected {self.dtype}, but got {found.dtype}.")
        weights = to_sparse(found, 0)
        if not weights.dtype.is_floating:
            weights = weights.with_values(math_ops.cast(weights.values, types.float32))
        return self.categorical_column._get_sparse_tensors(inputs).id_tensor, weights

    def _get_sparse_tensors(self, inputs: Builder, weight_collections: Any = None, trainable: bool | None = None) -> IdWeightPair:
        return IdWeightPair(*inputs.get(self))


class CrossedColumn(CategoricalColumn, namedtuple("CrossedColumn", ["keys", "hash_bucket_size", "hash_key"])):
    """The hash of every combination of the values of features, or ids of columns."""

    __slots__ = ()
    num_buckets = property(lambda self: self.hash_bucket_size)
    name = property(lambda self: "_X_".join(sorted(k.name if isinstance(k, FeatureColumn) else k for k in self._leaves())))

    def _leaves(self) -> list[Any]:
        """Features and columns, with crosses inside this one opened."""
        return [leaf for k in self.keys for leaf in (k._leaves() if isinstance(k, CrossedColumn) else [k])]

    @property
    def parse_example_spec(self) -> dict[str, Any]:
        found: dict[str, Any] = {}
        for k in self.keys:
            found.update(k._parse_example_spec if isinstance(k, FeatureColumn) else {k: VarLenFeature(types.string)})
        return found

    def _transform_feature(self, inputs: Builder) -> SparseTensor:
        parts = [inputs.get(k) if isinstance(k, str) else self._ids(k, inputs) for k in self._leaves()]
        return sparse_cross_hashed(parts, self.hash_bucket_size, self.hash_key)

    @staticmethod
    def _ids(column: Any, inputs: Builder) -> SparseTensor:
        ids, weights = column._get_sparse_tensors(inputs)
        if weights is not None:
            raise ValueError("crossed_column does not support weight_tensor, but the given column populates weight_tensor. "
                             f"Given column: {column.name}")
        return ids


class SequenceCategoricalColumn(CategoricalColumn, namedtuple("SequenceCategoricalColumn", ["categorical_column"])):
    """A categorical column whose second dimension is time: ids [batch, time, any]."""

    __slots__ = ()
    name = property(lambda self: self.categorical_column.name)
    parse_example_spec = property(lambda self: self.categorical_column._parse_example_spec)
    num_buckets = property(lambda self: self.categorical_column._num_buckets)

    def _transform_feature(self, inputs: Builder) -> Any:
        return self.categorical_column._transform_feature(inputs)

    def _get_sparse_tensors(self, inputs: Builder, weight_collections: Any = None, trainable: bool | None = None) -> IdWeightPair:
        ids, weights = self.categorical_column._get_sparse_tensors(inputs)
        shape = ids.dense_shape
        steps = array_ops.concat([shape[:2], [math_ops.reduce_prod(shape[2:])]], 0)
        return IdWeightPair(*(None if t is None else sparse_tensor.sparse_reshape(t, steps) for t in (ids, weights)))


# ---------------------------------------------------------------- categories as dense tensors


def _no_sequence(column: Any, kind: str) -> None:
    if isinstance(column.categorical_column, SequenceCategoricalColumn):
        raise ValueError(f"In {kind}: {column.name}. categorical_column must not be of type _SequenceCategoricalColumn: use a column "
                         f"without sequence_ here, or tf.contrib.feature_column.sequence_input_layer. Given: {column.categorical_column}")


def _a_sequence(column: Any, kind: str) -> None:
    if not isinstance(column.categorical_column, SequenceCategoricalColumn):
        raise ValueError(f"In {kind}: {column.name}. categorical_column must be of type _SequenceCategoricalColumn to use "
                         f"sequence_input_layer: use one of sequence_categorical_column_with_*. Given: {column.categorical_column}")


def sequence_length(ids: SparseTensor, elements: int = 1) -> Tensor:
    """int64 [batch]: the last column of each row that has a value, in steps of `elements`."""
    with graph.get_default_graph().name_scope("sequence_length"):
        ends = math_ops.cast(ids.indices[:, 1], types.int64) + 1
        last = math_ops.maximum(array_ops.unsorted_segment_max(ends, ids.indices[:, 0], ids.dense_shape[0]), 0)
        return (last + (elements - 1)) // elements


class IndicatorColumn(DenseColumn, SequenceDenseColumn, namedtuple("IndicatorColumn", ["categorical_column"])):
    """How often each id is there, or the sum of its weights: float32 [batch, num_buckets]."""

    __slots__ = ()
    name = property(lambda self: f"{self.categorical_column.name}_indicator")
    parse_example_spec = property(lambda self: self.categorical_column._parse_example_spec)
    variable_shape = property(lambda self: TensorShape([1, self.categorical_column._num_buckets]))

    def _transform_feature(self, inputs: Builder) -> Tensor:
        (ids, weights), size = self.categorical_column._get_sparse_tensors(inputs), int(self.categorical_column._num_buckets)
        if weights is None:
            dense = sparse_tensor.sparse_tensor_to_dense(ids, -1)
            return math_ops.reduce_sum(array_ops.one_hot(dense, size, 1.0, 0.0), -2)
        merged = sparse_tensor.sparse_merge(ids, weights, size)
        known = math_ops.logical_and(merged.indices[:, -1] >= 0, merged.indices[:, -1] < size)
        merged = sparse_tensor.sparse_retain(merged, known)
        return array_ops.scatter_nd(merged.indices, merged.values, merged.dense_shape)

    def _get_dense_tensor(self, inputs: Builder, weight_collections: Any = None, trainable: bool | None = None) -> Tensor:
        _no_sequence(self, "indicator_column")
        return inputs.get(self)

    def _get_sequence_dense_tensor(self, inputs: Builder, weight_collections: Any = None, trainable: bool | None = None) -> Any:
        _a_sequence(self, "indicator_column")
        return TensorSequenceLengthPair(inputs.get(self), sequence_length(self.categorical_column._get_sparse_tensors(inputs).id_tensor))


class _Embedding(DenseColumn, SequenceDenseColumn):
    """A row of a variable for each id, combined: float32 [batch, dimension]."""

    __slots__ = ()
    categorical_column: Any
    dimension: Any
    combiner: Any
    initializer: Any
    ckpt_to_load_from: Any
    tensor_name_in_ckpt: Any
    max_norm: Any
    trainable: Any
    parse_example_spec = property(lambda self: self.categorical_column._parse_example_spec)
    variable_shape = property(lambda self: TensorShape([self.dimension]))

    def _transform_feature(self, inputs: Builder) -> Any:
        return inputs.get(self.categorical_column)

    def _variable(self, weight_collections: Any, trainable: bool | None) -> Any:
        wanted = list(weight_collections or [])
        if wanted and GraphKeys.GLOBAL_VARIABLES not in wanted:
            wanted.append(GraphKeys.GLOBAL_VARIABLES)
        return get_variable("embedding_weights", (self.categorical_column._num_buckets, self.dimension), types.float32, self.initializer,
                            trainable=bool(self.trainable and trainable), collections=wanted or None)

    def _embedded(self, inputs: Builder, weight_collections: Any, trainable: bool | None) -> Tensor:
        ids, weights = self.categorical_column._get_sparse_tensors(inputs, weight_collections, trainable)
        table = self._variable(weight_collections, trainable)
        if self.ckpt_to_load_from is not None:
            from ..train import init_from_checkpoint

            init_from_checkpoint(self.ckpt_to_load_from, {self.tensor_name_in_ckpt: table})
        return safe_embedding_lookup_sparse(table, ids, weights, combiner=self.combiner, name=f"{self.name}_weights",
                                            max_norm=self.max_norm)

    def _get_dense_tensor(self, inputs: Builder, weight_collections: Any = None, trainable: bool | None = None) -> Tensor:
        _no_sequence(self, "embedding_column")
        return self._embedded(inputs, weight_collections, trainable)

    def _get_sequence_dense_tensor(self, inputs: Builder, weight_collections: Any = None, trainable: bool | None = None) -> Any:
        _a_sequence(self, "embedding_column")
        dense = self._embedded(inputs, weight_collections, trainable)
        return TensorSequenceLengthPair(dense, sequence_length(self.categorical_column._get_sparse_tensors(inputs).id_tensor))


class EmbeddingColumn(_Embedding, namedtuple("EmbeddingColumn", [
        "categorical_column", "dimension", "combiner", "initializer", "ckpt_to_load_from", "tensor_name_in_ckpt", "max_norm",
        "trainable"])):
    """Embeddings of its own."""

    __slots__ = ()
    name = property(lambda self: f"{self.categorical_column.name}_embedding")


class SharedEmbeddingColumn(_Embedding, namedtuple("_SharedEmbeddingColumn", [
        "categorical_column", "dimension", "combiner", "initializer", "shared_embedding_collection_name", "ckpt_to_load_from",
        "tensor_name_in_ckpt", "max_norm", "trainable"])):
    """Embeddings that all columns of one name use: the variable in the collection of that name."""

    __slots__ = ()
    name = property(lambda self: f"{self.categorical_column.name}_shared_embedding")
    _var_scope_name = property(lambda self: self.shared_embedding_collection_name)

    def _variable(self, weight_collections: Any, trainable: bool | None) -> Any:
        key, shape = self.shared_embedding_collection_name, [self.categorical_column._num_buckets, self.dimension]
        found = graph.get_default_graph().get_collection(key)
        if len(found) > 1:
            raise ValueError(f"Collection {found} can only contain one variable: give {key!r} another name, or add no variables to it.")
        if not found:
            made = super()._variable(weight_collections, trainable)
            graph.get_default_graph().add_to_collection(key, made)
            return made
        if found[0].shape.as_list() != shape:
            raise ValueError(f"Shared embedding collection {key} contains variable {found[0].name} of unexpected shape {found[0].shape}. "
                             f"Expected shape is {tuple(shape)}. Choose another name for the collection, or add no variables to it.")
        return found[0]

    def _embedded(self, inputs: Builder, weight_collections: Any, trainable: bool | None) -> Tensor:
        with graph.get_default_graph().name_scope(self.name):
            return super()._embedded(inputs, weight_collections, trainable)


class SequenceNumericColumn(SequenceDenseColumn, namedtuple("SequenceNumericColumn", [
        "key", "shape", "default_value", "dtype", "normalizer_fn"])):
    """Sequences of numbers: a SparseTensor [batch, any] as [batch, time, *shape], padded with the default."""

    __slots__ = ()
    name = property(lambda self: self.key)
    variable_shape = property(lambda self: TensorShape(self.shape))
    _variable_shape = property(lambda self: self.variable_shape)
    parse_example_spec = property(lambda self: {self.key: VarLenFeature(self.dtype)})

    def _transform_feature(self, inputs: Builder) -> Any:
        found = inputs.get(self.key)
        return self.normalizer_fn(found) if self.normalizer_fn is not None else found

    def _get_sequence_dense_tensor(self, inputs: Builder, weight_collections: Any = None, trainable: bool | None = None) -> Any:
        found = inputs.get(self)
        dense = sparse_tensor.sparse_tensor_to_dense(found, self.default_value)
        dense = array_ops.reshape(dense, array_ops.concat([array_ops.shape(dense)[:1], [-1], list(self.shape)], 0))
        return TensorSequenceLengthPair(dense, sequence_length(found, self.variable_shape.num_elements() if found.shape.ndims == 2 else 1))


# ---------------------------------------------------------------- weights of a linear model


def weighted_sum(column: Any, inputs: Builder, units: int, combiner: str, collections: list[str], trainable: bool) -> Tensor:
    """The column times a variable "weights" of the current scope: float32 [batch, units]."""
    categorical = isinstance(column, CategoricalColumn)
    rows = int(column._num_buckets if categorical else column._variable_shape.num_elements())
    weights = get_variable("weights", [rows, units], initializer=zeros_initializer(), trainable=trainable, collections=collections)
    if not categorical:
        dense = column._get_dense_tensor(inputs, weight_collections=collections, trainable=trainable)
        return matmul(array_ops.reshape(dense, [-1, rows]), convert_to_tensor(weights), name="weighted_sum")
    ids, by = column._get_sparse_tensors(inputs, weight_collections=collections, trainable=trainable)
    return safe_embedding_lookup_sparse(weights, as_rows(ids), as_rows(by), combiner=combiner, name="weighted_sum")
