"""The summary ops of TensorFlow before 1.0: tags are given, not made of names, and may be tensors."""
from __future__ import annotations

from typing import Any

from .. import types
from ..graph import GraphKeys, Tensor
from ..ops import summaries
from ..ops.opdef import convert_to_tensor
from .build import _collected, _graph_of, merge_all

__all__ = ["audio_summary", "histogram_summary", "image_summary", "merge_all_summaries", "merge_summary", "scalar_summary"]


def _made(op: Any, name: str | None, collections: Any, tensors: Any, dtypes: Any = None, **attrs: Any) -> Tensor:
    with _graph_of(tensors).as_default() as g, g.name_scope(name or op.default_name) as scope:
        inputs = [convert_to_tensor(t, dtype, name=p) for t, p, dtype in zip(tensors, op.params, dtypes or [None] * len(tensors))]
        return _collected(op(*inputs, name=scope, **attrs), collections)


def scalar_summary(tags: Any, values: Any, collections: Any = None, name: str | None = None) -> Tensor:
    """A summary of numbers: strings and as many values, of one shape."""
    return _made(summaries.scalar_summary_op, name, collections, [tags, values])


def histogram_summary(tag: Any, values: Any, collections: Any = None, name: str | None = None) -> Tensor:
    """A summary of how the elements of `values` are distributed."""
    return _made(summaries.histogram_summary_op, name, collections, [tag, values])


def image_summary(tag: Any, tensor: Any, max_images: int = 3, collections: Any = None, name: str | None = None) -> Tensor:
    """A summary of the first `max_images` pictures of [batch, height, width, channels]."""
    return _made(summaries.image_summary_op, name, collections, [tag, tensor], max_images=max_images)


def audio_summary(tag: Any, tensor: Any, sample_rate: Any, max_outputs: int = 3, collections: Any = None,
                  name: str | None = None) -> Tensor:
    """A summary of the first `max_outputs` sounds of [batch, frames] or [batch, frames, channels]."""
    return _made(summaries.audio_summary_op, name, collections, [tag, tensor, sample_rate], (types.string, None, types.float32),
                 max_outputs=max_outputs)


def merge_summary(inputs: Any, collections: Any = None, name: str | None = None) -> Tensor:
    """One summary with the values of all."""
    from .build import merge

    return merge(inputs, collections, name or "MergeSummary")


def merge_all_summaries(key: Any = GraphKeys.SUMMARIES) -> Tensor | None:
    """`merge_summary` of a collection; None if there is nothing."""
    return merge_all(key, name="MergeSummary")
