"""Beam search: whole sequences from the steps' ids and the beams they came from (rank 3)."""
from __future__ import annotations

import numpy as np

from .. import errors, types
from ..graph import Spec
from .opdef import needs_rank, primitive

_INT32 = (types.int32,)


def _tree_spec(step_ids, parent_ids, max_sequence_lengths, end_token):
    sizes = step_ids.sizes
    for what, x, rank in (("step_ids", step_ids, 3), ("parent_ids", parent_ids, 3), ("max_sequence_lengths", max_sequence_lengths, 1),
                          ("end_token", end_token, 0)):
        if x.sizes is not None and len(x.sizes) != rank:
            raise ValueError(f"Shape must be rank {rank} but is rank {len(x.sizes)}: {what} of gather_tree has shape {x.shape}")
    steps = types.merge_shapes(sizes, needs_rank(parent_ids, what="parent_ids"))
    batch = None if max_sequence_lengths.sizes is None else (types.UNKNOWN, max_sequence_lengths.sizes[0], types.UNKNOWN)
    return Spec(step_ids.dtype, types.merge_shapes(steps, batch))


@primitive("host", type="GatherTree", dtypes=_INT32, infer=_tree_spec, no_gradient="ids", samples=[
    # The example of TF's documentation: beam 1 ends at step 1, beam 0 came from beam 1.
    lambda r: ((np.array([[[1, 2, 3]], [[4, 5, 6]], [[7, 8, 9]], [[-1, -1, -1]]], np.int32),
                np.array([[[0, 0, 0]], [[0, 1, 1]], [[2, 1, 2]], [[-1, -1, -1]]], np.int32), np.array([3], np.int32), np.int32(10)), {}),
    lambda r: ((r.integers(0, 4, (5, 3, 2)).astype(np.int32), r.integers(0, 2, (5, 3, 2)).astype(np.int32),
                np.array([5, 0, 9], np.int32), np.int32(3)), {})])
def gather_tree(step_ids, parent_ids, max_sequence_lengths, end_token):
    """The sequences that end in each beam: ids [time, batch, beam] read backwards along `parent_ids`.

    Args:
        step_ids: the id chosen at each step, int32 [time, batch, beam].
        parent_ids: the beam of the step before that each one continues, of the same shape.
        max_sequence_lengths: [batch]; reading starts at the last step below it.
        end_token: a scalar; fills what lies behind the length, and behind the first `end_token` of a sequence.

    Raises (when run):
        InvalidArgumentError: a parent that is no beam.
    """


@gather_tree.reference
def _(step_ids, parent_ids, max_sequence_lengths, end_token):
    time, batch, beams = step_ids.shape
    found = np.full_like(step_ids, end_token)
    lengths = np.minimum(max_sequence_lengths, time)[:, None]
    rows, beam = np.arange(batch)[:, None], np.broadcast_to(np.arange(beams), (batch, beams)).copy()
    for t in range(time - 1, -1, -1):
        inside = np.broadcast_to(t < lengths, beam.shape)
        wrong = inside & ((beam < 0) | (beam >= beams))
        if wrong.any():
            b, k = np.argwhere(wrong)[0]
            raise errors.InvalidArgumentError(None, None, f"Saw invalid parent id {beam[b, k]} at (batch, time, beam) == ({b}, {t}, {k})")
        at = np.where(inside, beam, 0)
        found[t] = np.where(inside, step_ids[t][rows, at], end_token)
        beam = np.where(inside, parent_ids[t][rows, at], beam)
    ended = np.cumsum(found == end_token, axis=0) > 0
    return np.where(ended, np.asarray(end_token, found.dtype), found)
