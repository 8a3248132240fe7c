"""`tf.feature_column`: a model's first layer, a linear model and the features of a parser, from columns."""
from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from .. import array_ops, check_ops, graph, math_ops, nn
from ..graph import GraphKeys, Tensor
from ..init_ops import zeros_initializer
from ..ops.opdef import convert_to_tensor
from ..variable_scope import get_variable, get_variable_scope, variable_scope
from .columns import Builder, CategoricalColumn, DenseColumn, FeatureColumn, SequenceDenseColumn, weighted_sum


def _ordered(columns: Any) -> list[Any]:
    """The columns by name.

    Raises:
        ValueError: none, two of one name, other things, a dictionary.
    """
    if isinstance(columns, FeatureColumn):
        columns = [columns]
    if isinstance(columns, dict):
        raise ValueError("Expected feature_columns to be iterable, found dict.")
    found: list[Any] = list(columns) if isinstance(columns, Iterator) else [*columns]
    by_name: dict[str, Any] = {}
    for c in found:
        if not isinstance(c, FeatureColumn):
            raise ValueError(f"Items of feature_columns must be a _FeatureColumn. Given (type {type(c)}): {c}.")
        if c.name in by_name:
            raise ValueError(f"Duplicate feature column name found for columns: {c} and {by_name[c.name]}. They make the same of the same "
                             "feature: leave one out, or give the feature a second name in the features dict.")
        by_name[c.name] = c
    if not found:
        raise ValueError("feature_columns must not be empty.")
    return [by_name[name] for name in sorted(by_name)]


def _collections(given: Any) -> list[str]:
    return list(dict.fromkeys([*(given or []), GraphKeys.GLOBAL_VARIABLES, GraphKeys.MODEL_VARIABLES]))


def _one_batch(tensors: list[Tensor], columns: list[Any]) -> None:
    first: tuple[int, Any] | None = None
    for t, c in zip(tensors, columns):
        n = t.shape[0].value
        if n is None or first is not None and n == first[0]:
            continue
        if first is not None:
            raise ValueError("Batch size (first dimension) of each feature must be same. "
                             f"Batch size of columns ({first[1].name}, {c.name}): ({first[0]}, {n})")
        first = n, c


def _variables_here() -> list[Any]:
    """The global variables of the current variable scope."""
    return graph.get_default_graph().get_collection(GraphKeys.GLOBAL_VARIABLES, scope=get_variable_scope().name + "/")


def input_layer(features: Any, feature_columns: Any, weight_collections: Any = None, trainable: bool = True,
                cols_to_vars: dict[Any, Any] | None = None, cols_to_output_tensors: dict[Any, Any] | None = None) -> Tensor:
    """The tensors of dense columns beside each other, in the order of their names: float32 [batch, sum of their sizes].

    Variables stand in scopes `input_layer/<column>/`.

    Args:
        features: a dictionary of tensors and SparseTensors.
        feature_columns: dense columns; wrap categorical ones in `embedding_column` or `indicator_column`.
        weight_collections: further collections for the variables, which also join GLOBAL_VARIABLES and MODEL_VARIABLES.
        cols_to_vars: a dictionary to fill: column -> its variables.
        cols_to_output_tensors: a dictionary to fill: column -> its tensor [batch, size].

    Raises:
        ValueError: a column that is not dense, two of one name, a feature that is missing, batches of different sizes.
    """
    columns = _ordered(feature_columns)
    for c in columns:
        if not isinstance(c, DenseColumn):
            raise ValueError("Items of feature_columns must be a _DenseColumn. You can wrap a categorical column with an embedding_column "
                             f"or indicator_column. Given: {c}")
    collections, parts = _collections(weight_collections), []
    with variable_scope(None, default_name="input_layer"):
        builder = Builder(features)
        for c in columns:
            with variable_scope(None, default_name=c._var_scope_name):
                found = c._get_dense_tensor(builder, weight_collections=collections, trainable=trainable)
                parts.append(_flat(found, [c._variable_shape.num_elements()], 1))
                if cols_to_vars is not None:
                    cols_to_vars[c] = _variables_here()
                if cols_to_output_tensors is not None:
                    cols_to_output_tensors[c] = parts[-1]
        _one_batch(parts, columns)
        return array_ops.concat(parts, 1)


def _flat(t: Tensor, sizes: list[Any], kept: int) -> Tensor:
    """The first `kept` dimensions, then `sizes`."""
    return array_ops.reshape(t, array_ops.concat([array_ops.shape(t)[:kept], sizes], 0))


def sequence_input_layer(features: Any, feature_columns: Any, weight_collections: Any = None,
                         trainable: bool = True) -> tuple[Tensor, Tensor]:
    """Sequences of dense columns beside each other: (float32 [batch, time, sum of sizes], int64 [batch] lengths).

    Args:
        feature_columns: `sequence_numeric_column`s, and embedding or indicator columns of sequence_categorical ones.
        The others: see `input_layer`; scopes are `sequence_input_layer/<column>/`.

    Raises:
        ValueError: another column.  InvalidArgumentError (when run): sequences of different lengths.
    """
    columns, collections = _ordered(feature_columns), _collections(weight_collections)
    for c in columns:
        if not isinstance(c, SequenceDenseColumn):
            raise ValueError(f"All feature_columns must be of type _SequenceDenseColumn. Given (type {type(c)}): {c}. Use an "
                             "embedding_column of sequence_categorical_column_with_*, or sequence_numeric_column.")
    parts, lengths = [], []
    with variable_scope(None, default_name="sequence_input_layer"):
        builder = Builder(features)
        for c in columns:
            with variable_scope(None, default_name=c._var_scope_name):
                dense, length = c._get_sequence_dense_tensor(builder, weight_collections=collections, trainable=trainable)
                parts.append(_flat(dense, [c._variable_shape.num_elements()], 2))
                lengths.append(length)
        equal = [check_ops.assert_equal(lengths[0], n) for n in lengths[1:]]
        with graph.get_default_graph().control_dependencies(equal):
            return array_ops.concat(parts, -1), array_ops.identity(lengths[0])


def linear_model(features: Any, feature_columns: Any, units: int = 1, sparse_combiner: str = "sum", weight_collections: Any = None,
                 trainable: bool = True, cols_to_vars: dict[Any, Any] | None = None) -> Tensor:
    """The sum of weights times columns, and a bias: float32 [batch, units].

    Variables, all zero at first, are `linear_model/<column>/weights` and `linear_model/bias_weights`.  A categorical column has a row
    of weights for each id.

    Args:
        sparse_combiner: how the weights of several ids of one example are combined: "sum", "mean" or "sqrtn".
        cols_to_vars: a dictionary to fill: column -> its variables, and "bias".
        The others: see `input_layer`.

    Raises:
        ValueError: a column that is neither dense nor categorical, and as `input_layer`.
    """
    columns = _ordered(feature_columns)
    for c in columns:
        if not isinstance(c, (DenseColumn, CategoricalColumn)):
            raise ValueError(f"Items of feature_columns must be either a _DenseColumn or _CategoricalColumn. Given: {c}")
    with variable_scope(None, "linear_model") as own:
        pass  # only the name: TF1 takes the names of columns beside it, not inside
    scopes = [_scope_name(c) for c in columns]
    collections, sums = _collections(weight_collections), []
    with variable_scope(own, auxiliary_name_scope=False), graph.get_default_graph().name_scope(own.original_name_scope):
        builder = Builder(features)
        for scope, c in zip(scopes, columns):
            with variable_scope(scope):
                sums.append(weighted_sum(c, builder, units, sparse_combiner, collections, trainable))
                if cols_to_vars is not None:
                    cols_to_vars[c] = _variables_here()
        _one_batch(sums, columns)
        total = math_ops.add_n(sums, name="weighted_sum_no_bias")
        bias = get_variable("bias_weights", [units], initializer=zeros_initializer(), trainable=trainable, collections=collections)
        if cols_to_vars is not None:
            cols_to_vars["bias"] = list(bias) if hasattr(bias, "_get_partitions") else [bias]
        return nn.bias_add(total, convert_to_tensor(bias), name="weighted_sum")


def _scope_name(column: Any) -> str:
    with variable_scope(None, default_name=column._var_scope_name) as vs:
        return vs.name.rpartition("/")[2]


def make_parse_example_spec(feature_columns: Any) -> dict[str, Any]:
    """What `tf.parse_example` needs to give the features of the columns.

    Raises ValueError: something that is no column, or two columns that want one feature in different forms.
    """
    found: dict[str, Any] = {}
    for c in feature_columns:
        if not isinstance(c, FeatureColumn):
            raise ValueError(f"All feature_columns must be _FeatureColumn instances. Given: {c}")
        for key, value in c._parse_example_spec.items():
            if found.setdefault(key, value) != value:
                raise ValueError(f"feature_columns contain different parse_spec for key {key}. Given {value} and {found[key]}")
    return found
