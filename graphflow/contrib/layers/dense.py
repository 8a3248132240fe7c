"""Fully connected layers, dropout, and functions that apply layers in a row.

Variables: `weights` [inputs, outputs] and `biases` [outputs] below the layer's scope, in MODEL_VARIABLES.
"""
from __future__ import annotations

import functools
from typing import Any, Callable

from ... import array_ops, graph, nn
from ...graph import GraphKeys, Tensor
from ...init_ops import zeros_initializer
from ...layers.core import Dense, Dropout
from ...ops.contraction import matmul
from ...ops.opdef import convert_to_tensor
from ...variable_scope import get_variable, variable_scope
from ..framework.arg_scope import add_arg_scope
from .initializers import xavier_initializer
from .utils import add_to_variable_collections, collect_named_outputs, finished, variable_getter

__all__ = ["dropout", "elu", "fully_connected", "legacy_fully_connected", "legacy_linear", "legacy_relu", "linear", "relu", "relu6",
           "repeat", "stack"]


@add_arg_scope
def fully_connected(inputs: Any, num_outputs: int, activation_fn: Any = nn.relu, normalizer_fn: Any = None, normalizer_params: Any = None,
                    weights_initializer: Any = xavier_initializer(), weights_regularizer: Any = None,
                    biases_initializer: Any = zeros_initializer(), biases_regularizer: Any = None, reuse: Any = None,
                    variables_collections: Any = None, outputs_collections: Any = None, trainable: bool = True,
                    scope: Any = None) -> Tensor:
    """activation_fn(inputs weights + biases): [..., inputs] -> [..., num_outputs].

    Args:
        activation_fn: applied last; None for a linear layer.
        normalizer_fn, normalizer_params: applied, with these keyword arguments, in place of biases.
        biases_initializer: None for no biases.
        variables_collections: collections for all variables, or {"weights": [...], "biases": [...]}.
        outputs_collections: collections for the outputs.
        reuse, scope: of the variables; the scope is "fully_connected" by default.

    Raises:
        ValueError: `num_outputs` is no int; the inputs' rank is below 2 or their last size unknown.
    """
    if not hasattr(num_outputs, "__index__"):
        raise ValueError(f"num_outputs type should be int, got {type(num_outputs).__name__} {num_outputs!r}.")
    with variable_scope(scope, "fully_connected", [inputs], reuse=reuse,
                        custom_getter=variable_getter(bias="biases", kernel="weights")) as sc:
        inputs = convert_to_tensor(inputs)
        layer = Dense(num_outputs, None, bool(not normalizer_fn and biases_initializer), weights_initializer, biases_initializer,
                      weights_regularizer, biases_regularizer, trainable=trainable, name=sc.name, dtype=inputs.dtype.base_dtype, _scope=sc,
                      _reuse=reuse)
        outputs = layer.apply(inputs)
        add_to_variable_collections(layer.kernel, variables_collections, "weights")
        add_to_variable_collections(layer.bias, variables_collections, "biases")
        return finished(outputs, activation_fn, outputs_collections, sc.name, normalizer_fn, normalizer_params)


relu = functools.partial(fully_connected, activation_fn=nn.relu)
relu6 = functools.partial(fully_connected, activation_fn=nn.relu6)
elu = functools.partial(fully_connected, activation_fn=nn.elu)
linear = functools.partial(fully_connected, activation_fn=None)


def legacy_fully_connected(x: Any, num_output_units: int, activation_fn: Any = None, weight_init: Any = xavier_initializer(),
                           bias_init: Any = zeros_initializer(), name: str | None = None,
                           weight_collections: Any = (GraphKeys.WEIGHTS,), bias_collections: Any = (GraphKeys.BIASES,),
                           output_collections: Any = (GraphKeys.ACTIVATIONS,), trainable: bool = True, weight_regularizer: Any = None,
                           bias_regularizer: Any = None) -> Tensor:
    """activation_fn(x weights + bias), with variables `weights` and `bias` and the older argument names.

    Raises:
        ValueError: the rank of `x` is unknown or below 2, or its last size unknown.
    """
    with variable_scope(name, "fully_connected", [x]):
        x = convert_to_tensor(x)
        if x.shape.ndims is None or x.shape.ndims < 2:
            raise ValueError(f"rank of x must be at least 2 not: {x.shape.ndims}")
        units = x.shape[-1].value
        if units is None:
            raise ValueError("last dimension of x must be known but is None")
        dtype = x.dtype.base_dtype

        def parameter(name: str, shape: list[int], initializer: Any, regularizer: Any, collections: Any) -> Any:
            wanted = list(dict.fromkeys([*(collections or ()), GraphKeys.GLOBAL_VARIABLES]))
            return get_variable(name, shape, dtype, initializer, regularizer, trainable, wanted)

        weights = parameter("weights", [units, num_output_units], weight_init, weight_regularizer, weight_collections)
        y = matmul(x if x.shape.ndims == 2 else array_ops.reshape(x, [-1, units]), weights)
        if bias_init is not None:
            y = nn.bias_add(y, parameter("bias", [num_output_units], bias_init, bias_regularizer, bias_collections))
        if x.shape.ndims > 2:
            y = array_ops.reshape(y, array_ops.concat([array_ops.shape(x)[:-1], [num_output_units]], 0))
            y.set_shape([*x.shape.as_list()[:-1], num_output_units])
        if activation_fn is not None:
            y = activation_fn(y)
        graph.get_default_graph().add_to_collections(list(dict.fromkeys([*(output_collections or ()), GraphKeys.ACTIVATIONS])), y)
        return y


legacy_relu = functools.partial(legacy_fully_connected, activation_fn=nn.relu)
legacy_linear = functools.partial(legacy_fully_connected, activation_fn=None)


@add_arg_scope
def dropout(inputs: Any, keep_prob: Any = 0.5, noise_shape: Any = None, is_training: Any = True, outputs_collections: Any = None,
            scope: Any = None, seed: int | None = None) -> Tensor:
    """Each element kept with probability `keep_prob` and divided by it, else 0; the inputs when not training."""
    with variable_scope(scope, "Dropout", [inputs], custom_getter=variable_getter()) as sc:
        layer = Dropout(1 - keep_prob, noise_shape, seed, name=sc.name, _scope=sc)
        return collect_named_outputs(outputs_collections, sc.name, layer.apply(convert_to_tensor(inputs), training=is_training))


def _name_of(layer: Callable[..., Any], default: str) -> str:
    return getattr(layer, "__name__", None) or getattr(getattr(layer, "func", None), "__name__", default)


def repeat(inputs: Any, repetitions: int, layer: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
    """`layer(x, *args, **kwargs)` so many times in a row, in scopes `scope/scope_1`, ... ("Repeat" and the layer's name by default)."""
    return _in_a_row(inputs, layer, [args] * repetitions, kwargs, "Repeat", "repeat")


def stack(inputs: Any, layer: Callable[..., Any], stack_args: Any, **kwargs: Any) -> Any:
    """`layer` once for each element of `stack_args`, its arguments (one, or a list of them).

    Raises:
        ValueError: `stack_args` is no list or tuple.
    """
    if not isinstance(stack_args, (list, tuple)):
        raise ValueError(f"stack_args need to be a list or tuple, got {type(stack_args).__name__}")
    return _in_a_row(inputs, layer, [a if isinstance(a, (list, tuple)) else [a] for a in stack_args], kwargs, "Stack", "stack")


def _in_a_row(inputs: Any, layer: Callable[..., Any], calls: Any, kwargs: dict[str, Any], outer: str, inner: str) -> Any:
    scope = kwargs.pop("scope", None)
    with variable_scope(scope, outer, [inputs]):
        outputs = convert_to_tensor(inputs)
        for i, args in enumerate(calls):
            outputs = layer(outputs, *args, **{**kwargs, "scope": f"{scope or _name_of(layer, inner)}_{i + 1}"})
        return outputs
