"""Learning rates that depend on the step: each returns a scalar tensor.

`global_step` is an integer tensor or variable; the result has the dtype of `learning_rate`.
"""
from __future__ import annotations

import math
from typing import Any, Sequence

from .. import array_ops, graph, math_ops
from ..graph import Tensor
from ..ops.opdef import convert_to_tensor


def _scope(name: str | None, default: str) -> Any:
    return graph.get_default_graph().name_scope(name or default)


def _start(learning_rate: Any, global_step: Any, *others: Any) -> list[Tensor]:
    """The rate as a tensor, and the step and the others cast to its dtype.  Raises ValueError without a step."""
    if global_step is None:
        raise ValueError("global_step is required for a learning-rate schedule.")
    rate = convert_to_tensor(learning_rate, name="learning_rate")
    return [rate, *[_cast(x, rate) for x in (global_step, *others)]]


def _cast(x: Any, like: Tensor) -> Tensor:
    if isinstance(x, (int, float)):
        return convert_to_tensor(float(x), like.dtype)
    x = convert_to_tensor(x)
    return x if x.dtype is like.dtype else math_ops.cast(x, like.dtype)


def exponential_decay(learning_rate: Any, global_step: Any, decay_steps: Any, decay_rate: Any, staircase: bool = False,
                      name: str | None = None) -> Tensor:
    """learning_rate * decay_rate ^ (step / decay_steps); `staircase` takes whole powers."""
    with _scope(name, "ExponentialDecay") as scope:
        rate, step, steps, base = _start(learning_rate, global_step, decay_steps, decay_rate)
        p = step / steps
        return math_ops.multiply(rate, math_ops.pow(base, math_ops.floor(p) if staircase else p), name=scope)


def natural_exp_decay(learning_rate: Any, global_step: Any, decay_steps: Any, decay_rate: Any, staircase: bool = False,
                      name: str | None = None) -> Tensor:
    """learning_rate * exp(-decay_rate * step / decay_steps)."""
    with _scope(name, "NaturalExpDecay") as scope:
        rate, step, steps, decay = _start(learning_rate, global_step, decay_steps, decay_rate)
        p = step / steps
        return math_ops.multiply(rate, math_ops.exp(-decay * (math_ops.floor(p) if staircase else p)), name=scope)


def inverse_time_decay(learning_rate: Any, global_step: Any, decay_steps: Any, decay_rate: Any, staircase: bool = False,
                       name: str | None = None) -> Tensor:
    """learning_rate / (1 + decay_rate * step / decay_steps)."""
    with _scope(name, "InverseTimeDecay") as scope:
        rate, step, steps, decay = _start(learning_rate, global_step, decay_steps, decay_rate)
        p = step / steps
        return math_ops.divide(rate, 1.0 + decay * (math_ops.floor(p) if staircase else p), name=scope)


def piecewise_constant(x: Any, boundaries: Sequence[Any], values: Sequence[Any], name: str | None = None) -> Tensor:
    """values[i] for boundaries[i-1] < x <= boundaries[i].

    Raises:
        ValueError: `values` is not one longer than `boundaries`, or a float boundary is given for an integer `x`.
    """
    if len(boundaries) != len(values) - 1:
        raise ValueError("The length of boundaries should be 1 less than the length of values")
    with _scope(name, "PiecewiseConstant") as scope:
        x = convert_to_tensor(x)
        for b in boundaries:
            if x.dtype.is_integer and isinstance(b, float) and not b.is_integer():
                raise ValueError(f"Boundaries ({b}) must have the same dtype as x ({x.dtype.name}).")
        limits = [math_ops.cast(convert_to_tensor(int(b) if x.dtype.is_integer and isinstance(b, float) else b), x.dtype)
                  for b in boundaries]
        first = convert_to_tensor(values[0])
        chosen = convert_to_tensor(values[-1], first.dtype)
        for limit, value in zip(reversed(limits), reversed([first, *values[1:-1]])):
            chosen = array_ops.where(math_ops.less_equal(x, limit), convert_to_tensor(value, first.dtype), chosen)
        return array_ops.identity(chosen, name=scope)


piecewise_constant_decay = piecewise_constant


def polynomial_decay(learning_rate: Any, global_step: Any, decay_steps: Any, end_learning_rate: Any = 0.0001, power: Any = 1.0,
                     cycle: bool = False,
                     name: str | None = None) -> Tensor:
    """(learning_rate - end) * (1 - step / decay_steps) ^ power + end; after `decay_steps` the end, or with `cycle` a longer period."""
    with _scope(name, "PolynomialDecay") as scope:
        rate, step, steps, end, p = _start(learning_rate, global_step, decay_steps, end_learning_rate, power)
        if cycle:
            steps = steps * math_ops.maximum(math_ops.ceil(step / steps), 1.0)
        else:
            step = math_ops.minimum(step, steps)
        return math_ops.add((rate - end) * math_ops.pow(1.0 - step / steps, p), end, name=scope)


def _half_cosine(fraction: Tensor) -> Tensor:
    return (1.0 + math_ops.cos(fraction * math.pi)) * 0.5


def cosine_decay(learning_rate: Any, global_step: Any, decay_steps: Any, alpha: float = 0.0, name: str | None = None) -> Tensor:
    """Half a cosine from learning_rate to alpha * learning_rate over `decay_steps` (Loshchilov and Hutter 2016)."""
    with _scope(name, "CosineDecay") as scope:
        rate, step, steps = _start(learning_rate, global_step, decay_steps)
        decayed = _half_cosine(math_ops.minimum(step, steps) / steps)
        return math_ops.multiply(rate, decayed * (1.0 - alpha) + alpha, name=scope)


def cosine_decay_restarts(learning_rate: Any, global_step: Any, first_decay_steps: Any, t_mul: float = 2.0, m_mul: float = 1.0,
                          alpha: float = 0.0,
                          name: str | None = None) -> Tensor:
    """Cosine decay that restarts (SGDR, Loshchilov and Hutter 2016): each period is `t_mul` times longer, its start `m_mul` times lower."""
    with _scope(name, "SGDRDecay") as scope:
        rate, step, first, t, m = _start(learning_rate, global_step, first_decay_steps, t_mul, m_mul)
        done = step / first
        if isinstance(t_mul, (int, float)) and t_mul == 1.0:
            restarts = math_ops.floor(done)
            fraction = done - restarts
        else:
            restarts = math_ops.floor(math_ops.log(1.0 - done * (1.0 - t)) / math_ops.log(t))
            length = math_ops.pow(t, restarts)
            fraction = (done - (1.0 - length) / (1.0 - t)) / length
        decayed = math_ops.pow(m, restarts) * _half_cosine(fraction)
        return math_ops.multiply(rate, decayed * (1.0 - alpha) + alpha, name=scope)


def linear_cosine_decay(learning_rate: Any, global_step: Any, decay_steps: Any, num_periods: float = 0.5, alpha: float = 0.0,
                        beta: float = 0.001,
                        name: str | None = None) -> Tensor:
    """learning_rate * ((alpha + linear) * cosine + beta) (Bello et al. 2017, "Neural optimizer search")."""
    with _scope(name, "LinearCosineDecay") as scope:
        rate, step, steps = _start(learning_rate, global_step, decay_steps)
        fraction = math_ops.minimum(step, steps) / steps
        return math_ops.multiply(rate, (alpha + (1.0 - fraction)) * _half_cosine(fraction * (2.0 * num_periods)) + beta, name=scope)


def noisy_linear_cosine_decay(learning_rate: Any, global_step: Any, decay_steps: Any, initial_variance: float = 1.0,
                              variance_decay: float = 0.55,
                              num_periods: float = 0.5, alpha: float = 0.0, beta: float = 0.001, name: str | None = None) -> Tensor:
    """`linear_cosine_decay` with Gaussian noise on the linear part, of variance initial_variance / (1 + step) ^ variance_decay."""
    from .. import random_ops

    with _scope(name, "NoisyLinearCosineDecay") as scope:
        rate, step, steps = _start(learning_rate, global_step, decay_steps)
        step = math_ops.minimum(step, steps)
        deviation = math_ops.sqrt(initial_variance / math_ops.pow(1.0 + step, variance_decay))
        noisy = (steps - step) / steps + random_ops.random_normal([], dtype=rate.dtype) * deviation
        return math_ops.multiply(rate, (alpha + noisy) * _half_cosine(step / steps * (2.0 * num_periods)) + beta, name=scope)
