"""What the layers share: collections of variables and outputs, variables that join MODEL_VARIABLES, sizes."""
from __future__ import annotations

import weakref
from typing import Any, Callable

from ... import graph, types
from ...graph import Tensor
from ...ops.opdef import constant_value as graph_constant
from ..framework.tensors import smart_cond
from ..framework.variables import model_variable

__all__ = ["append_tensor_alias", "channel_dimension", "collect_named_outputs", "constant_value", "convert_collection_to_dict",
           "gather_tensors_aliases", "get_tensor_aliases", "get_variable_collections", "last_dimension", "n_positive_integers",
           "smart_cond", "static_cond", "two_element_tuple"]

_aliases: weakref.WeakKeyDictionary[Any, list[str]] = weakref.WeakKeyDictionary()


# ---------------------------------------------------------------- outputs


def collect_named_outputs(collections: Any, alias: str, outputs: Any) -> Any:
    """`outputs`, put into `collections` under the name `alias`, if there are any."""
    if collections:
        append_tensor_alias(outputs, alias)
        graph.get_default_graph().add_to_collections(collections, outputs)
    return outputs


def append_tensor_alias(tensor: Any, alias: str) -> Any:
    """Gives a tensor one more name for `convert_collection_to_dict`."""
    _aliases.setdefault(tensor, []).append(alias.removesuffix("/"))
    return tensor


def get_tensor_aliases(tensor: Any) -> list[str]:
    """The names a tensor was given, else that of its op."""
    return list(_aliases.get(tensor) or [tensor.op.name if tensor.name.endswith(":0") else tensor.name])


def gather_tensors_aliases(tensors: Any) -> list[str]:
    """The names of several tensors."""
    return [alias for tensor in tensors for alias in get_tensor_aliases(tensor)]


def convert_collection_to_dict(collection: Any, clear_collection: bool = False) -> dict[str, Any]:
    """{name: tensor} of a collection; `clear_collection` empties it."""
    g = graph.get_default_graph()
    found = {alias: tensor for tensor in g.get_collection(collection) for alias in get_tensor_aliases(tensor)}
    if clear_collection:
        g.get_collection_ref(collection).clear()
    return found


def finished(outputs: Any, activation_fn: Callable[..., Any] | None, outputs_collections: Any, alias: str,
             normalizer_fn: Callable[..., Any] | None = None, normalizer_params: dict[str, Any] | None = None) -> Any:
    """The outputs of a layer, normalised, activated and collected."""
    if normalizer_fn is not None:
        outputs = normalizer_fn(outputs, **(normalizer_params or {}))
    if activation_fn is not None:
        outputs = activation_fn(outputs)
    return collect_named_outputs(outputs_collections, alias, outputs)


# ---------------------------------------------------------------- variables


def get_variable_collections(variables_collections: Any, name: str) -> Any:
    """The collections for the variable `name`, from a dict by names or a list for all."""
    return variables_collections.get(name) if isinstance(variables_collections, dict) else variables_collections


def add_to_variable_collections(variable: Any, variables_collections: Any, name: str) -> None:
    """Puts a variable (None: nothing) into its collections, once."""
    g = graph.get_default_graph()
    for collection in get_variable_collections(variables_collections, name) or () if variable is not None else ():
        if all(v is not variable for v in g.get_collection(collection)):
            g.add_to_collection(collection, variable)


def variable_getter(**rename: str) -> Callable[..., Any]:
    """A custom getter that makes model variables, those of `tf.layers` under the names of contrib ("kernel": "weights")."""
    def getter(getter: Callable[..., Any], name: str, shape: Any = None, dtype: Any = None, initializer: Any = None,
               regularizer: Any = None, trainable: bool = True, collections: Any = None, caching_device: Any = None,
               partitioner: Any = None, use_resource: Any = None, **_: Any) -> Any:
        scope, slash, short = name.rpartition("/")
        return model_variable(scope + slash + rename.get(short, short), shape=shape, dtype=dtype, initializer=initializer,
                              regularizer=regularizer, collections=collections, trainable=trainable, caching_device=caching_device,
                              partitioner=partitioner, custom_getter=getter, use_resource=use_resource)
    return getter


# ---------------------------------------------------------------- arguments


def constant_value(value_or_tensor_or_var: Any, dtype: Any = None) -> Any:
    """A Python value as it is, that of a tensor as far as the graph determines it, else None.

    Raises:
        ValueError: it is None, or of another dtype.
    """
    x = value_or_tensor_or_var
    if x is None:
        raise ValueError("value_or_tensor_or_var cannot be None")
    tensor = isinstance(x, Tensor)
    if not tensor and getattr(x, "handle", None) is None:
        return x
    if dtype and x.dtype.base_dtype != dtype:
        raise ValueError(f"It has the wrong type {x.dtype} instead of {dtype}")
    return graph_constant(x) if tensor else None


def static_cond(pred: Any, fn1: Callable[[], Any], fn2: Callable[[], Any]) -> Any:
    """fn1() if `pred`, a Python value, is true, else fn2().  Raises TypeError unless both are functions."""
    for name, fn in (("fn1", fn1), ("fn2", fn2)):
        if not callable(fn):
            raise TypeError(f"{name} must be callable.")
    return fn1() if pred else fn2()


def _dimension(shape: Any, axis: int, min_rank: int) -> int:
    shape = types.TensorShape(shape)
    if shape.ndims is None:
        raise ValueError("dims of shape must be known but is None")
    if shape.ndims < min_rank:
        raise ValueError(f"rank of shape must be at least {min_rank} not: {shape.ndims}")
    if shape[axis].value is None:
        raise ValueError(f"dimension {axis} of shape must be known but is None: {shape}")
    return shape[axis].value


def channel_dimension(shape: Any, data_format: str, min_rank: int = 1) -> int:
    """The number of channels ("channels_first" or "channels_last").  Raises ValueError when unknown or of too small a rank."""
    return _dimension(shape, 1 if data_format == "channels_first" else -1, min_rank)


def last_dimension(shape: Any, min_rank: int = 1) -> int:
    """The last size.  Raises ValueError when unknown or of too small a rank."""
    return _dimension(shape, -1, min_rank)


def two_element_tuple(int_or_tuple: Any) -> tuple[int, int]:
    """Two ints from one or from two.  Raises ValueError on anything else."""
    if isinstance(int_or_tuple, int):
        return int_or_tuple, int_or_tuple
    if isinstance(int_or_tuple, (list, tuple, types.TensorShape)):
        if len(int_or_tuple) != 2:
            raise ValueError(f"Must be a list with 2 elements: {int_or_tuple}")
        return int(int_or_tuple[0]), int(int_or_tuple[1])
    raise ValueError(f"Must be an int, a list with 2 elements or a TensorShape of length 2: {int_or_tuple!r}")


def n_positive_integers(n: int, value: Any) -> tuple[int, ...]:
    """`n` positive ints from one or from a sequence of `n`.  Raises ValueError on anything else."""
    if int(n) != n or n < 1:
        raise ValueError(f"n must be a positive integer: {n}")
    found = (value,) * n if hasattr(value, "__index__") else tuple(value)
    if len(found) != n:
        raise ValueError(f"Expected sequence of {n} positive integers, but received {value!r}")
    numbers = tuple(int(v) for v in found)
    if min(numbers) < 1:
        raise ValueError(f"expected positive integer, but received {min(numbers)}")
    return numbers


def checked_format(data_format: str, allowed: tuple[str, ...]) -> bool:
    """Whether the channels come first.  Raises ValueError for a format that is not allowed."""
    if data_format not in allowed:
        raise ValueError(f"data_format has to be either {' or '.join(allowed)}, got {data_format!r}.")
    return data_format.startswith("NC")
