"""Summaries of tensors, of activations and of whole collections; `tf.summary` is loaded when the first is made."""
from __future__ import annotations

import functools
import re
from typing import Any, Callable

from ... import graph, math_ops, types
from ...graph import GraphKeys, Tensor

__all__ = ["summarize_activation", "summarize_activations", "summarize_biases", "summarize_collection", "summarize_tensor",
           "summarize_tensors", "summarize_variables", "summarize_weights"]


def _share(condition: Tensor, tag: str) -> None:
    from ... import summary

    summary.scalar(tag, math_ops.reduce_mean(math_ops.cast(condition, types.float32)))


def summarize_activation(op: Tensor) -> Any:
    """A histogram of an activation `name/activation`, and for ReLUs and softplus the share of inputs below zero, `name/zeros`."""
    from ... import summary

    name, kind = op.op.name, op.op.type
    if kind in ("Relu", "Softplus", "Relu6"):
        _share(math_ops.less(op.op.inputs[0], 0.0), f"{name}/zeros")
    if kind == "Relu6":
        _share(math_ops.greater(op.op.inputs[0], 6.0), f"{name}/sixes")
    return summary.histogram(f"{name}/activation", op)


def summarize_tensor(tensor: Any, tag: str | None = None) -> Any:
    """A scalar's value or a tensor's histogram, `name_summary` by default; None for strings and booleans."""
    from ... import summary

    if tensor.dtype.base_dtype in (types.string, types.bool_):
        return None
    write = summary.scalar if tensor.get_shape().ndims == 0 else summary.histogram
    return write(tag or f"{tensor.op.name}_summary", tensor)


def summarize_tensors(tensors: Any, summarizer: Callable[[Any], Any] = summarize_tensor) -> list[Any]:
    """A summary of each."""
    return [summarizer(tensor) for tensor in tensors]


def summarize_collection(collection: str, name_filter: str | None = None, summarizer: Callable[[Any], Any] = summarize_tensor) -> list[Any]:
    """A summary of each item of a collection whose name the regular expression matches."""
    items = graph.get_default_graph().get_collection(collection)
    return summarize_tensors([t for t in items if name_filter is None or re.match(name_filter, t.op.name)], summarizer)


summarize_variables = functools.partial(summarize_collection, GraphKeys.GLOBAL_VARIABLES)
summarize_weights = functools.partial(summarize_collection, GraphKeys.WEIGHTS)
summarize_biases = functools.partial(summarize_collection, GraphKeys.BIASES)


def summarize_activations(name_filter: str | None = None, summarizer: Callable[[Any], Any] = summarize_activation) -> list[Any]:
    """A summary of each activation of the collection ACTIVATIONS."""
    return summarize_collection(GraphKeys.ACTIVATIONS, name_filter, summarizer)
