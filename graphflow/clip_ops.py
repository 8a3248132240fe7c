"""Clipping by norms: `tf.clip_by_norm`, `tf.clip_by_global_norm`, `tf.global_norm`, `tf.clip_by_average_norm`."""
from __future__ import annotations

from typing import Any, Sequence

from . import array_ops, graph, math_ops
from .graph import Tensor
from .ops.opdef import convert_to_tensor

__all__ = ["clip_by_average_norm", "clip_by_global_norm", "clip_by_norm", "global_norm"]


def _is_slices(t: Any) -> bool:
    return hasattr(t, "values") and hasattr(t, "indices")


def _values(t: Any) -> Tensor:
    """The tensor whose elements a norm sees: the rows of an IndexedSlices, else the tensor."""
    return t.values if _is_slices(t) else convert_to_tensor(t)


def _with_values(t: Any, values: Tensor, name: str) -> Any:
    """`t` again, an IndexedSlices or a tensor, holding `values`."""
    return type(t)(values, t.indices, t.dense_shape) if _is_slices(t) else array_ops.identity(values, name=name)


def clip_by_norm(t: Any, clip_norm: Any, axes: Any = None, name: str | None = None) -> Any:
    """`t` scaled so that its L2 norm over `axes` (all by default) is at most `clip_norm`.

    An IndexedSlices stays one.  A zero tensor stays zero, and so does its gradient.
    """
    with graph.get_default_graph().name_scope(name or "clip_by_norm") as scope:
        values = _values(t)
        clip_norm = convert_to_tensor(clip_norm, values.dtype)
        squares = math_ops.reduce_sum(values * values, axes, keepdims=True)
        positive = math_ops.cast(math_ops.greater(squares, 0.0), values.dtype)
        # sqrt has no gradient at 0: a zero tensor takes the norm 1, whose gradient is then multiplied away.
        norm = math_ops.sqrt(squares + (1.0 - positive)) * positive
        scaled = values * clip_norm / math_ops.maximum(norm, clip_norm)
        return _with_values(t, scaled, scope)


def clip_by_average_norm(t: Any, clip_norm: Any, name: str | None = None) -> Tensor:
    """`t` scaled so that its L2 norm divided by its number of elements is at most `clip_norm`."""
    with graph.get_default_graph().name_scope(name or "clip_by_average_norm") as scope:
        t = convert_to_tensor(t)
        count = math_ops.cast(array_ops.size(t), t.dtype)
        inverse = count * math_ops.rsqrt(math_ops.reduce_sum(t * t))
        return math_ops.multiply(t * clip_norm, math_ops.minimum(inverse, 1.0 / convert_to_tensor(clip_norm, t.dtype)), name=scope)


def global_norm(t_list: Sequence[Any], name: str | None = None) -> Tensor | None:
    """The L2 norm of all tensors of the list as one vector; Nones are skipped, and a list of nothing else gives None.

    Raises:
        TypeError: `t_list` is not a sequence.
    """
    _check_list(t_list)
    with graph.get_default_graph().name_scope(name or "global_norm"):
        squares = [math_ops.reduce_sum(v * v) for v in (_values(t) for t in t_list if t is not None)]
        return math_ops.sqrt(math_ops.add_n(squares), name="global_norm") if squares else None


def clip_by_global_norm(t_list: Sequence[Any], clip_norm: Any, use_norm: Any = None,
                        name: str | None = None) -> tuple[list[Any], Tensor | None]:
    """The tensors scaled by clip_norm / max(global norm, clip_norm), and the global norm.

    Args:
        t_list: tensors, IndexedSlices or Nones; a Python sequence.
        use_norm: the global norm, when it is known already.

    Returns:
        (list like `t_list`, global norm).  An infinite or NaN norm makes every tensor NaN, as in TF1.

    Raises:
        TypeError: `t_list` is not a sequence.
    """
    _check_list(t_list)
    norm = use_norm if use_norm is not None else global_norm(t_list, name and name + "/global_norm")
    if norm is None:
        return list(t_list), None
    with graph.get_default_graph().name_scope(name or "clip_by_global_norm"):
        norm = convert_to_tensor(norm)
        clip_norm = convert_to_tensor(clip_norm, norm.dtype)
        # norm - norm is 0 for a finite norm and NaN otherwise.
        scale = clip_norm / math_ops.maximum(norm, clip_norm) + (norm - norm)
        return [None if t is None else _with_values(t, _values(t) * scale, f"clipped_{i}") for i, t in enumerate(t_list)], norm


def _check_list(t_list: Any) -> None:
    if not isinstance(t_list, (list, tuple)):
        raise TypeError(f"t_list should be a sequence, got {type(t_list).__name__}")
