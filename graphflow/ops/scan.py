"""Cumulative sums and products: `combine` run along one axis, storing every step."""
from __future__ import annotations

import numpy as np

from .. import types
from ..graph import Spec
from ..types import NUMERIC
from .elementwise import conj
from .opdef import Axes, primitive


def _spec(x, *, axis, exclusive, reverse):
    if x.sizes is not None:
        types.canonical_axis(axis, len(x.sizes))
    return Spec(x.dtype, x.sizes)


def _axes(op):
    axes = tuple(range(len(op.outputs[0].sizes)))
    return Axes(axes, (axes,), lambda order, inputs: op.opdef(*inputs, **{**op.attrs, "axis": order.index(op.attrs["axis"] % len(axes))}))


def _reference(accumulate, neutral):
    """NumPy's accumulation, started one step earlier when exclusive, from the end when reversed."""
    def run(x, *, axis, exclusive, reverse):
        x = np.flip(x, axis) if reverse else x
        if exclusive and x.shape[axis]:
            head = np.full_like(np.take(x, [0], axis), neutral)
            x = np.concatenate([head, np.take(x, range(x.shape[axis] - 1), axis)], axis)
        y = accumulate(x, axis=axis, dtype=x.dtype)
        return np.flip(y, axis) if reverse else y
    return run


_SAMPLES = [lambda rng, e=e, r=r, k=k: ((rng.uniform(0.5, 1.5, (3, 4)),), {"axis": k, "exclusive": e, "reverse": r})
            for e, r, k in ((False, False, 0), (True, False, 1), (False, True, 1), (True, True, 0))]


@primitive("scan", combine="add", type="Cumsum", dtypes=NUMERIC, infer=_spec, axes=_axes, numpy=_reference(np.cumsum, 0), samples=_SAMPLES)
def cumsum_op(x, *, axis=0, exclusive=False, reverse=False):
    """The running sum along `axis`; `exclusive` leaves each element's own value out, `reverse` runs from the end."""


@cumsum_op.grad
def _(op, dy):
    return cumsum_op(dy, axis=op.attrs["axis"], exclusive=op.attrs["exclusive"], reverse=not op.attrs["reverse"]),


@primitive("scan", combine="mul", type="Cumprod", dtypes=NUMERIC, infer=_spec, axes=_axes, numpy=_reference(np.cumprod, 1),
           samples=_SAMPLES)
def cumprod_op(x, *, axis=0, exclusive=False, reverse=False):
    """The running product along `axis`; `exclusive` leaves each element's own value out, `reverse` runs from the end."""


@cumprod_op.grad
def _(op, dy):
    # As in TF the gradient divides by x: it is nan where an element is 0.
    x, y = op.inputs[0], op.outputs[0]
    later = cumsum_op(dy * conj(y), axis=op.attrs["axis"], exclusive=op.attrs["exclusive"], reverse=not op.attrs["reverse"])
    return later / conj(x),


@primitive("scan", combine="max", type="Cummax", dtypes=types.FLOAT + types.INTEGER, infer=_spec, axes=_axes,
           no_gradient="use where() on the running maximum",
           numpy=lambda x, *, axis, exclusive, reverse: _reference(lambda a, axis, dtype: np.maximum.accumulate(a, axis=axis),
                                                                   -np.inf if x.dtype.kind == "f" else np.iinfo(x.dtype).min)(
               x, axis=axis, exclusive=exclusive, reverse=reverse), samples=_SAMPLES)
def cummax_op(x, *, axis=0, exclusive=False, reverse=False):
    """The running maximum along `axis`."""
