"""Reductions: primitives that fold axes with one combiner, and the means, norms and arg-ops made of them."""
from __future__ import annotations

import numpy as np

from .. import types
from ..graph import OPERATORS
from ..types import NUMERIC
from .opdef import reduction


def expand_like(dy, op):
    """`dy` with the folded axes of reduction `op` back as size 1, so that it broadcasts against the input."""
    x, axis = op.inputs[0], op.attrs["axis"]
    if op.attrs["keepdims"]:
        return dy
    axes = range(len(x.sizes)) if axis is None else axis
    return OPERATORS["expand_axes"](dy, tuple(axes))


@reduction(combine="add", numpy=np.sum, dtypes=NUMERIC, type="Sum")
def reduce_sum_op(x, *, axis=None, keepdims=False):
    """The sum over `axis`."""


@reduce_sum_op.grad
def _(op, dy):
    return OPERATORS["broadcast_like"](expand_like(dy, op), op.inputs[0]),


_ = types
