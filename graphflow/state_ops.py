"""Writes to variables: whole ones and parts.  TF's `state_ops`."""
from __future__ import annotations

from typing import Any

import numpy as np

from . import array_ops, graph, types
from .graph import Tensor
from .ops.opdef import convert_to_tensor, needs_rank
from .ops.scatter_state import *
from .ops.scatter_state import __all__ as _parts
from .ops.scatter_state import scatter_nd_update
from .ops.state import assign, assign_add, assign_sub

__all__ = ["assign", "assign_add", "assign_sub", "batch_scatter_update", "count_up_to", *_parts]


def count_up_to(ref: Any, limit: int, name: str | None = None) -> Tensor:
    """Adds 1 to the integer variable `ref` and returns the value before; at `limit` raises OutOfRangeError and changes nothing."""
    if name is None:
        return ref.count_up_to(limit)
    return array_ops.identity(ref.count_up_to(limit), name=name)


def batch_scatter_update(ref: Any, indices: Any, updates: Any, use_locking: bool = True, name: str | None = None) -> Tensor:
    """ref[i_1, .., i_b, indices[i_1, .., i_b, j], ...] = updates[i_1, .., i_b, j, ...]; the new value of `ref`.

    The leading dimensions of `indices` [.., n] and `ref` [.., m, ...] are the same batch, whose sizes must be known.

    Raises:
        ValueError: shapes that do not fit.  InvalidArgumentError (when run): an index outside [0, m).
    """
    with graph.get_default_graph().name_scope(name or "batch_scatter_update"):
        at = convert_to_tensor(indices)
        batch = needs_rank(at)[:-1]
        if not types.known(batch):
            raise ValueError(f"batch_scatter_update needs the batch sizes of `indices`, got shape {at.shape}")
        types.merge_shapes(batch, types.as_shape(ref.shape)[:len(batch)])  # type: ignore[index]
        grids = np.meshgrid(*[np.arange(n) for n in batch], indexing="ij")
        outer = [array_ops.broadcast_to(convert_to_tensor(g[..., None].astype(at.dtype.np)), array_ops.shape(at)) for g in grids]
        return scatter_nd_update(ref, array_ops.stack([*outer, at], -1), updates)
