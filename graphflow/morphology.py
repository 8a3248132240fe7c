"""Sliding windows that `tf.nn` has besides its pools: dilation, erosion, fractional pools of [batch, height, width, channels]."""
from __future__ import annotations

from typing import Any, Sequence

import numpy as np

from . import array_ops, graph, math_ops, random_ops, types
from .graph import Spec, Tensor
from .ops.opdef import convert_to_tensor, needs_rank, primitive

__all__ = ["dilation2d", "erosion2d", "fractional_avg_pool", "fractional_max_pool"]


def _scope(name: str | None, default: str) -> Any:
    return graph.get_default_graph().name_scope(name or default)


def _pair(values: Any, what: str) -> tuple[int, int]:
    found = [int(v) for v in values] if hasattr(values, "__iter__") else []
    if len(found) != 4 or found[0] != 1 or found[3] != 1 or min(found) < 1:
        raise ValueError(f"{what} must be [1, height, width, 1] with positive numbers, got {values!r}")
    return found[1], found[2]


def _margins(size: int, window: int, stride: int, padding: str) -> tuple[int, int]:
    if padding == "VALID":
        return 0, 0
    total = max((-(-size // stride) - 1) * stride + window - size, 0)
    return total // 2, total - total // 2


def dilation2d(input: Any, filter: Any = None, strides: Any = None, rates: Any = None, padding: Any = None, name: str | None = None,
               filters: Any = None, dilations: Any = None) -> Tensor:
    """The largest input + filter over each window, for each channel: grey-scale dilation.

    Args:
        input: [batch, height, width, channels], of known height and width.
        filter (or filters): [height, width, channels].
        strides, rates (or dilations): [1, vertical, horizontal, 1].
        padding: "SAME" or "VALID"; what is outside of the picture never wins.

    Raises:
        ValueError: arguments that are none of these, other channels, a window larger than the picture.
    """
    with _scope(name, "Dilation2D") as scope:
        x = convert_to_tensor(input)
        w = convert_to_tensor(filter if filter is not None else filters, x.dtype)
        stride, rate = _pair(strides, "strides"), _pair(rates if rates is not None else dilations, "rates")
        if padding not in ("SAME", "VALID"):
            raise ValueError(f"padding must be 'SAME' or 'VALID', got {padding!r}")
        sizes, (rows, columns, channels) = needs_rank(x, 4), needs_rank(w, 3)
        if types.same(sizes[3], channels) is False:
            raise ValueError(f"Dimensions must be equal, but are {sizes[3]} and {channels}: channels of input and filter of dilation2d")
        if any(isinstance(n, types.Dim) for n in (*sizes[1:3], rows, columns)):
            raise ValueError(f"dilation2d needs known heights and widths, got shapes {x.shape} and {w.shape}")
        spans = [(n - 1) * r + 1 for n, r in zip((rows, columns), rate)]
        if padding == "VALID" and any(a < b for a, b in zip(sizes[1:3], spans)):
            raise ValueError(f"dilation2d: a window of {spans} is larger than the picture, {list(sizes[1:3])}")
        pads = [_margins(n, span, s, padding) for n, span, s in zip(sizes[1:3], spans, stride)]
        x = array_ops.pad(x, [(0, 0), *pads, (0, 0)], constant_values=x.dtype.min)
        found = None
        for i in range(rows):
            for j in range(columns):
                part = x[:, i * rate[0]:, j * rate[1]:]
                ends = [(n + sum(p) - span) // s * s + 1 for n, p, span, s in zip(sizes[1:3], pads, spans, stride)]
                moved = part[:, :ends[0]:stride[0], :ends[1]:stride[1]] + w[i, j]
                found = moved if found is None else math_ops.maximum(found, moved)
        return array_ops.identity(found, name=scope)


def erosion2d(value: Any, kernel: Any, strides: Any, rates: Any, padding: Any, name: str | None = None) -> Tensor:
    """The smallest value - kernel over each window: the dilation of -value by the kernel turned by 180 degrees, negated."""
    with _scope(name, "erosion2d") as scope:
        found = dilation2d(math_ops.negative(value), array_ops.reverse(kernel, [0, 1]), strides, rates, padding)
        return math_ops.negative(found, name=scope)


# ---------------------------------------------------------------- pools whose windows have lengths that differ by one


@primitive("host", effect="random", type="FractionalSequence", input_dtypes={"key": types.ALL}, same=("-",),
           infer=lambda key, *, size, count, **_: Spec(types.int64, (count + 1,)), no_gradient="places")
def fractional_sequence_op(key, *, size, count, pseudo, seed=0, seed2=0):
    """Where `count` windows begin that divide `size` elements, and the end: at random, or by a random offset (`pseudo`)."""


@fractional_sequence_op.reference
def _(key, run, *, size, count, pseudo, **_):
    rng = np.random.default_rng([*np.asarray(key).reshape(-1).astype(np.uint64).tolist(), int(run)])
    if pseudo and count > 1:
        # B. Graham, "Fractional max-pooling" (2015): floor(alpha (i + u)), u so small that the last window ends at the end.
        alpha = size / count
        k = int(alpha)
        u = rng.random() * min((k + 2) / alpha - 1, (size + 1 - k) / alpha - (count - 1))
        edges = np.floor(alpha * (np.arange(count) + u)).astype(np.int64) - int(alpha * u)
        return np.concatenate([edges, [size]])
    lengths = np.full(count, size // count, np.int64)
    lengths[:size % count] += 1
    return np.concatenate([[0], np.cumsum(rng.permutation(lengths))])


def _sequence(size: int, count: int, pseudo: bool, seed: int | None) -> Tensor:
    key, seeds = random_ops._keyed(seed)
    return fractional_sequence_op(key, size=size, count=count, pseudo=pseudo, **seeds)


def _fractional(value: Any, ratio: Sequence[float], pseudo: bool, overlapping: bool, seeds: tuple[int | None, int | None], name: str | None,
                default: str) -> tuple[Tensor, Tensor, Tensor]:
    ratio = list(ratio)
    if len(ratio) != 4 or ratio[0] != 1.0 or ratio[3] != 1.0 or min(ratio) < 1.0:
        raise ValueError(f"pooling_ratio must be [1.0, height, width, 1.0] with numbers of at least 1.0, got {ratio}")
    with _scope(name, default):
        x = convert_to_tensor(value)
        sizes = needs_rank(x, 4)[1:3]
        if any(isinstance(n, types.Dim) for n in sizes):
            raise ValueError(f"{default} needs a known height and width, got shape {x.shape}")
        sequences = [_sequence(n, int(n / r), pseudo, s) for n, r, s in zip(sizes, ratio[1:3], seeds)]
        total, parts = x, []
        for k, (edges, n) in enumerate(zip(sequences, sizes)):
            longest = n // (edges.shape.as_list()[0] - 1) + 2 + overlapping
            ends = math_ops.minimum(edges[1:] + int(overlapping), n)
            places = array_ops.expand_dims(edges[:-1], 1) + np.arange(longest)
            inside = math_ops.less(places, array_ops.expand_dims(ends, 1))
            places = math_ops.minimum(places, array_ops.expand_dims(ends - 1, 1))  # the last element again where a window is shorter
            total = array_ops.gather(total, places, axis=k + 1)
            if default == "FractionalMaxPool":
                total = math_ops.reduce_max(total, k + 2)
            else:
                weights = math_ops.cast(inside, x.dtype)
                weights = weights / math_ops.reduce_sum(weights, 1, keepdims=True)
                shape = [1] * (k + 1) + [-1, longest] + [1] * (3 - k - 1)
                total = math_ops.reduce_sum(total * array_ops.reshape(weights, shape), k + 2)
            parts.append(edges)
        return total, parts[0], parts[1]


def fractional_max_pool(value: Any, pooling_ratio: Any, pseudo_random: bool = False, overlapping: bool = False, deterministic: bool = False,
                        seed: int = 0, seed2: int = 0, name: str | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """Maxima of windows whose heights and widths differ by one, so that sizes shrink by a factor that is no integer.

    Args:
        value: [batch, height, width, channels], of known height and width.
        pooling_ratio: [1.0, height, width, 1.0].
        pseudo_random: windows at regular places with a random offset, instead of a random order of lengths.
        overlapping: neighbouring windows share their border element.
        deterministic, seed, seed2: with a seed the windows of a session are reproducible.

    Returns:
        (the pooled pictures, int64 borders of the windows in rows, and in columns).

    Raises:
        ValueError: other ratios, unknown sizes.
    """
    seeds = (seed or None, seed2 or seed or None)
    return _fractional(value, pooling_ratio, bool(pseudo_random), bool(overlapping), seeds, name, "FractionalMaxPool")


def fractional_avg_pool(value: Any, pooling_ratio: Any, pseudo_random: bool = False, overlapping: bool = False, deterministic: bool = False,
                        seed: int = 0, seed2: int = 0, name: str | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """`fractional_max_pool` with means instead of maxima."""
    seeds = (seed or None, seed2 or seed or None)
    return _fractional(value, pooling_ratio, bool(pseudo_random), bool(overlapping), seeds, name, "FractionalAvgPool")
