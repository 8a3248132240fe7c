"""The ops of `tf.summary`: each returns a string tensor, a serialized `Summary`, and joins the collection SUMMARIES."""
from __future__ import annotations

import re
from contextlib import contextmanager
from typing import Any, Iterator, Sequence

from .. import graph, proto, types
from ..graph import GraphKeys, Tensor
from ..ops import summaries
from ..ops.opdef import constant, convert_to_tensor
from ..platform import logging

__all__ = ["audio", "get_summary_description", "histogram", "image", "merge", "merge_all", "scalar", "tensor_summary", "text"]


def _clean(name: Any) -> str:
    """The name with `_` for what cannot be in the name of an op."""
    if not isinstance(name, str):
        raise TypeError(f"the name of a summary must be a string, got {name!r}")
    new = re.sub(r"[^-/\w\.]", "_", name).lstrip("/")
    if new != name:
        logging.info("Summary name %s is illegal; using %s instead.", name, new)
    return new


@contextmanager
def _scope(name: Any, family: Any, values: Sequence[Any]) -> Iterator[tuple[str, str]]:
    """(tag, name of the op with a "/"): unique names make unique tags."""
    name = _clean(name)
    family = None if family is None else _clean(family)
    with _graph_of(values).as_default() as g, g.name_scope(name if family is None else f"{family}/{name}") as scope:
        tag = scope.rstrip("/")
        yield (tag if family is None else f"{family}/{tag}"), scope


def _graph_of(values: Sequence[Any]) -> graph.Graph:
    """The graph of the first tensor or variable, else the default graph."""
    return next((v.graph for v in values if isinstance(v, Tensor) or hasattr(v, "_as_tensor") and hasattr(v, "graph")),
                graph.get_default_graph())


def _collected(summary: Tensor, collections: Any, default: Sequence[str] = (GraphKeys.SUMMARIES,)) -> Tensor:
    for key in default if collections is None else collections:
        summary.graph.add_to_collection(key, summary)
    return summary


def scalar(name: str, tensor: Any, collections: Any = None, family: str | None = None) -> Tensor:
    """A summary of one number.

    Args:
        name: the tag after the scopes around; made unique, and cleaned of characters that names cannot have.
        tensor: a real scalar.
        collections: keys of the collections it joins; [GraphKeys.SUMMARIES] by default.
        family: put in front of the tag, so that TensorBoard shows those of a family together.

    Returns:
        A string scalar, the serialized Summary.

    Raises:
        InvalidArgumentError (at run time): no scalar.
    """
    with _scope(name, family, [tensor]) as (tag, scope):
        values = convert_to_tensor(tensor, name="values")
        return _collected(summaries.scalar_summary_op(constant(tag, name="tags"), values, name=scope), collections)


def histogram(name: str, values: Any, collections: Any = None, family: str | None = None) -> Tensor:
    """A summary of how the elements of a real tensor are distributed; the other arguments as of `scalar`.

    Raises:
        InvalidArgumentError (at run time): an element is NaN or infinite.
    """
    with _scope(name, family, [values]) as (tag, scope):
        converted = convert_to_tensor(values, name="values")
        return _collected(summaries.histogram_summary_op(constant(tag, name="tag"), converted, name=scope), collections)


def image(name: str, tensor: Any, max_outputs: int = 3, collections: Any = None, family: str | None = None) -> Tensor:
    """A summary of the first `max_outputs` pictures, tagged `name/image/0`... (`name/image` if `max_outputs` is 1).

    Args:
        tensor: [batch, height, width, channels] of uint8 or floats; 1 channel is grey, 3 are RGB, 4 RGBA.  Floats are scaled
            picture by picture: the largest becomes 255, or, if there are negative ones, 0 becomes 128; a pixel that is not finite is red.

    Raises:
        ValueError: max_outputs below 1.  InvalidArgumentError (at run time): another shape.
    """
    if max_outputs < 1:
        raise ValueError(f"max_outputs must be at least 1, got {max_outputs}")
    with _scope(name, family, [tensor]) as (tag, scope):
        pixels = convert_to_tensor(tensor, name="tensor")
        found = summaries.image_summary_op(constant(tag, name="tag"), pixels, max_images=int(max_outputs), name=scope)
        return _collected(found, collections)


def audio(name: str, tensor: Any, sample_rate: Any, max_outputs: int = 3, collections: Any = None, family: str | None = None) -> Tensor:
    """A summary of the first `max_outputs` sounds, tagged `name/audio/0`... (`name/audio` if `max_outputs` is 1).

    Args:
        tensor: float32 [batch, frames] or [batch, frames, channels], between -1 and 1.
        sample_rate: frames a second, a number or a scalar tensor.
    """
    if max_outputs < 1:
        raise ValueError(f"max_outputs must be at least 1, got {max_outputs}")
    with _scope(name, family, [tensor]) as (tag, scope):
        sound = convert_to_tensor(tensor, name="tensor")
        rate = convert_to_tensor(sample_rate, types.float32, name="sample_rate")
        found = summaries.audio_summary_op(constant(tag, name="tag"), sound, rate, max_outputs=int(max_outputs), name=scope)
        return _collected(found, collections)


def tensor_summary(name: str, tensor: Any, summary_description: Any = None, collections: Any = None, summary_metadata: Any = None,
                   family: str | None = None, display_name: str | None = None) -> Tensor:
    """A summary of any tensor.

    Args:
        summary_metadata: a SummaryMetadata, which names the plugin that shows the tensor.
        summary_description, display_name: put into the metadata.
    """
    metadata = proto.SummaryMetadata()
    if summary_metadata is not None:
        metadata.ParseFromString(summary_metadata.SerializeToString())
    if summary_description is not None:
        metadata.summary_description = summary_description
    if display_name is not None:
        metadata.display_name = display_name
    with _scope(name, family, [tensor]) as (tag, scope):
        value = convert_to_tensor(tensor, name="tensor")
        return _collected(summaries.tensor_summary_op(
            constant(tag, name="tag"), value, constant(metadata.SerializeToString(), name="serialized_summary_metadata"),
            dtype=value.dtype, name=scope), collections)


def text(name: str, tensor: Any, collections: Any = None) -> Tensor:
    """A summary of a string tensor, which TensorBoard shows as Markdown; a table if it has axes.

    Raises:
        ValueError: another dtype.
    """
    tensor = convert_to_tensor(tensor)
    if tensor.dtype is not types.string:
        raise ValueError(f"Expected tensor {tensor.name} to have dtype string, got {tensor.dtype.name}")
    metadata = proto.SummaryMetadata(plugin_data={"plugin_name": "text"})
    return tensor_summary(name, tensor, summary_metadata=metadata, collections=collections)


def merge(inputs: Sequence[Any], collections: Any = None, name: str | None = None) -> Tensor:
    """One summary with the values of all of `inputs`; in no collection unless `collections` says so.

    Raises:
        ValueError: no inputs.  InvalidArgumentError (at run time): two values with the same tag, or bytes that are no Summary.
    """
    if not isinstance(inputs, (list, tuple)):
        raise TypeError(f"Expected list for 'inputs' argument to 'MergeSummary' Op, not {inputs!r}.")
    if not inputs:
        raise ValueError("List argument 'inputs' to 'MergeSummary' Op with length 0 shorter than minimum length 1.")
    name = None if name is None else _clean(name)
    with _graph_of(inputs).as_default() as g, g.name_scope(name or "Merge"):
        return _collected(summaries.merge_summary_op(*[convert_to_tensor(x) for x in inputs], name=name), collections, ())


def merge_all(key: Any = GraphKeys.SUMMARIES, scope: str | None = None, name: str | None = None) -> Tensor | None:
    """`merge` of a collection of the default graph (of what is in `scope`, if given); None if there is nothing."""
    found = graph.get_default_graph().get_collection(key, scope)
    return merge(found, name=name) if found else None


def get_summary_description(node_def: Any) -> Any:
    """The SummaryDescription in the attribute `description` of a node.

    Raises:
        ValueError: the node is no TensorSummary.
    """
    import json

    if node_def.op != "TensorSummary":
        raise ValueError(f"Can't get_summary_description on {node_def.op}")
    value = node_def.attr["description"]
    found = json.loads(getattr(value, "s", value) or "{}")
    return proto.SummaryDescription(type_hint=found.get("typeHint", found.get("type_hint", "")))
