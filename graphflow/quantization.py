"""`tf.quantization` and `tf.fake_quant_*`: rounding to the values that integers of few bits could hold, in float32.

The range [min, max] is moved so that 0 is one of the values; outside of it values are clipped.  Gradients pass where the input lies
inside the range; what lies outside goes to the bound that clipped it.
"""
from __future__ import annotations

from typing import Any

import numpy as np

from . import array_ops, graph, math_ops, types
from .custom_gradient import custom_gradient
from .graph import Tensor
from .ops.opdef import composite, convert_to_tensor, needs_rank

__all__ = ["fake_quant_with_min_max_args", "fake_quant_with_min_max_args_gradient", "fake_quant_with_min_max_vars",
           "fake_quant_with_min_max_vars_gradient", "fake_quant_with_min_max_vars_per_channel",
           "fake_quant_with_min_max_vars_per_channel_gradient", "quantize_and_dequantize"]

_FLOAT32 = (types.float32,)


def _scope(name: str | None, default: str) -> Any:
    return graph.get_default_graph().name_scope(name or default)


def _nudged(low: Tensor, high: Tensor, num_bits: int, narrow_range: bool) -> tuple[Tensor, Tensor, Tensor]:
    """The moved range and the distance of neighbouring values."""
    first, last = float(narrow_range), float(2**num_bits - 1)
    scale = (high - low) / (last - first)
    zero = first - low / scale
    # Half rounds away from zero, and the zero point is never negative where it is not cut off.
    place = math_ops.minimum(math_ops.maximum(math_ops.floor(zero + 0.5), first), last)
    return (first - place) * scale, (last - place) * scale, scale


@composite(type="FakeQuantWithMinMaxVars", dtypes=_FLOAT32)
def fake_quant_op(inputs, low, high, *, num_bits=8, narrow_range=False):
    """Each element of `inputs` as the nearest of 2^num_bits evenly spaced values in [low, high], which broadcast; all 0 where both are."""
    least, most, scale = _nudged(low, high, num_bits, narrow_range)
    steps = math_ops.floor((math_ops.minimum(math_ops.maximum(inputs, least), most) - least) * (1.0 / scale) + 0.5)
    empty = math_ops.logical_and(math_ops.equal(low, 0.0), math_ops.equal(high, 0.0))
    return array_ops.where_v2(empty, array_ops.zeros_like(inputs), steps * scale + least)


@fake_quant_op.grad
def _(op, dy):
    return _gradients(dy, *op.inputs, op.attrs["num_bits"], op.attrs["narrow_range"])


fake_quant_op.samples = [
    lambda r: ((r.normal(size=(3, 4)).astype("f4") * 2, np.float32(-1.1), np.float32(1.4)), {}),
    lambda r: ((r.normal(size=(3, 4)).astype("f4") * 2, -r.uniform(0.5, 1, 4).astype("f4"), r.uniform(0.5, 1, 4).astype("f4")),
               {"num_bits": 4, "narrow_range": True})]


def _gradients(dy: Tensor, inputs: Tensor, low: Tensor, high: Tensor, num_bits: int, narrow_range: bool) -> tuple[Tensor, Tensor, Tensor]:
    least, most, _ = _nudged(low, high, num_bits, narrow_range)
    empty = math_ops.logical_and(math_ops.equal(low, 0.0), math_ops.equal(high, 0.0))
    zero = array_ops.zeros_like(dy)
    below = math_ops.logical_and(math_ops.less(inputs, least), math_ops.logical_not(empty))
    above = math_ops.logical_and(math_ops.greater(inputs, most), math_ops.logical_not(empty))
    inside = array_ops.where_v2(math_ops.logical_or(below, above), zero, dy)
    outer = list(range(len(needs_rank(inputs)) - len(needs_rank(low))))
    return (inside, math_ops.reduce_sum(array_ops.where_v2(below, dy, zero), outer),
            math_ops.reduce_sum(array_ops.where_v2(above, dy, zero), outer))


def _check(num_bits: int, most: int = 16) -> int:
    if not 2 <= num_bits <= most:
        raise ValueError(f"num_bits must be between 2 and {most}, inclusive, got {num_bits}")
    return int(num_bits)


def _vars(inputs: Any, min: Any, max: Any, rank: int) -> list[Tensor]:
    """The three tensors, with bounds of `rank` dimensions.  Raises ValueError for others."""
    found = [convert_to_tensor(t, types.float32) for t in (inputs, min, max)]
    needs_rank(found[1], rank), needs_rank(found[2], rank)
    if rank:
        channels = (needs_rank(found[0]) or (None,))[-1]
        for t in found[1:]:
            if channels is None or types.same(t.sizes[0], channels) is False:  # type: ignore[index]
                raise ValueError(f"min and max must have one element per channel of shape {found[0].shape}, got {t.shape}")
    return found


def fake_quant_with_min_max_args(inputs: Any, min: float = -6, max: float = 6, num_bits: int = 8, narrow_range: bool = False,
                                 name: str | None = None) -> Tensor:
    """`fake_quant_with_min_max_vars` for a range of numbers.  Raises ValueError unless min < max and 2 <= num_bits <= 16."""
    if not min < max:
        raise ValueError(f"min has to be smaller than max, was: {min} >= {max}")
    return fake_quant_op(*_vars(inputs, float(min), float(max), 0), num_bits=_check(num_bits), narrow_range=bool(narrow_range), name=name)


def fake_quant_with_min_max_args_gradient(gradients: Any, inputs: Any, min: float = -6, max: float = 6, num_bits: int = 8,
                                          narrow_range: bool = False, name: str | None = None) -> Tensor:
    """`gradients` where the input lies inside the range, 0 elsewhere."""
    return fake_quant_with_min_max_vars_gradient(gradients, inputs, float(min), float(max), num_bits, narrow_range, name)[0]


def fake_quant_with_min_max_vars(inputs: Any, min: Any, max: Any, num_bits: int = 8, narrow_range: bool = False,
                                 name: str | None = None) -> Tensor:
    """float32 `inputs` rounded to 2^num_bits values (one less with `narrow_range`) of the range of the scalars min and max."""
    return fake_quant_op(*_vars(inputs, min, max, 0), num_bits=_check(num_bits), narrow_range=bool(narrow_range), name=name)


def fake_quant_with_min_max_vars_gradient(gradients: Any, inputs: Any, min: Any, max: Any, num_bits: int = 8, narrow_range: bool = False,
                                          name: str | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients in the inputs, in min and in max."""
    with _scope(name, "FakeQuantWithMinMaxVarsGradient"):
        dy = convert_to_tensor(gradients, types.float32)
        x, low, high = _vars(inputs, min, max, 0)
        return _gradients(dy, x, low, high, _check(num_bits), bool(narrow_range))


def fake_quant_with_min_max_vars_per_channel(inputs: Any, min: Any, max: Any, num_bits: int = 8, narrow_range: bool = False,
                                             name: str | None = None) -> Tensor:
    """`fake_quant_with_min_max_vars` with a range for each element of the last dimension: min and max are [d]."""
    return fake_quant_op(*_vars(inputs, min, max, 1), num_bits=_check(num_bits), narrow_range=bool(narrow_range), name=name)


def fake_quant_with_min_max_vars_per_channel_gradient(gradients: Any, inputs: Any, min: Any, max: Any, num_bits: int = 8,
                                                      narrow_range: bool = False,
                                                      name: str | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """The gradients in the inputs, in min and in max, which are [d]."""
    with _scope(name, "FakeQuantWithMinMaxVarsPerChannelGradient"):
        dy = convert_to_tensor(gradients, types.float32)
        x, low, high = _vars(inputs, min, max, 1)
        return _gradients(dy, x, low, high, _check(num_bits), bool(narrow_range))


def quantize_and_dequantize(input: Any, input_min: Any, input_max: Any, signed_input: bool = True, num_bits: int = 8,
                            range_given: bool = False, round_mode: str = "HALF_TO_EVEN", name: str | None = None,
                            narrow_range: bool = False, axis: int | None = None) -> Tensor:
    """`input` rounded to integers of `num_bits` times a scale that maps the range on them; the gradient passes unchanged.

    Args:
        input_min, input_max: the range, if `range_given`; otherwise it is that of the values.
        signed_input: integers from -2^(num_bits-1), otherwise from 0.
        round_mode: "HALF_TO_EVEN" or "HALF_UP".
        narrow_range: leave out the lowest integer, so that they are symmetric.
        axis: each slice along it has a range of its own, given as vectors.

    Raises:
        ValueError: another mode, bits outside [1, 63], a range out of order where the graph determines it.
    """
    if round_mode not in ("HALF_TO_EVEN", "HALF_UP"):
        raise ValueError(f"round_mode must be HALF_TO_EVEN or HALF_UP, got {round_mode!r}")
    if not signed_input + 1 <= num_bits <= 62:
        raise ValueError(f"num_bits is out of range: {num_bits} with signed_input={signed_input}")
    with _scope(name, "quantize_and_dequantize"):
        x = convert_to_tensor(input)
        axes = None if axis is None else [k for k in range(len(needs_rank(x))) if k != types.canonical_axis(axis, len(x.sizes))]  # type: ignore
        shape = None if axis is None else [1 if k in axes else -1 for k in range(len(x.sizes))]  # type: ignore[arg-type,operator]
        if range_given:
            low, high = convert_to_tensor(input_min, x.dtype), convert_to_tensor(input_max, x.dtype)
            low, high = (low, high) if shape is None else (array_ops.reshape(low, shape), array_ops.reshape(high, shape))
        else:
            low, high = (f(x, axes, keepdims=axis is not None) for f in (math_ops.reduce_min, math_ops.reduce_max))
        least = float(-2 ** (num_bits - 1) + narrow_range) if signed_input else 0.0
        most = float(2 ** (num_bits - 1) - 1) if signed_input else float(2**num_bits - 1)
        # The side of the range that needs more of its integers decides the scale.
        by_low = math_ops.div_no_nan(convert_to_tensor(least, x.dtype), low)
        by_high = math_ops.div_no_nan(convert_to_tensor(most, x.dtype), high)
        infinite = convert_to_tensor(x.dtype.max, x.dtype)
        by_low = array_ops.where_v2(math_ops.greater(least * low, 0.0), by_low, infinite * array_ops.ones_like(low))
        by_high = array_ops.where_v2(math_ops.greater(most * high, 0.0), by_high, infinite * array_ops.ones_like(high))
        scale = math_ops.minimum(by_low, by_high)
        from_low = math_ops.less(by_low, by_high)
        low, high = (array_ops.where_v2(from_low, low, least / scale), array_ops.where_v2(from_low, most / scale, high))


        def rounded(v: Tensor) -> Any:
            steps = (math_ops.minimum(math_ops.maximum(v, low), high) if range_given else v) * scale
            whole = math_ops.round(steps) if round_mode == "HALF_TO_EVEN" else math_ops.floor(steps + 0.5)
            return whole * (1.0 / scale), lambda dy: dy

        return custom_gradient(rounded)(x)
