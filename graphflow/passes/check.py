"""A rule tested by itself: pattern and replacement on random inputs of every dtype it takes, compared by NumPy (rank 4)."""
from __future__ import annotations

import inspect
from collections.abc import Iterator
from typing import Any

import numpy as np

from .. import types
from ..graph import Spec, Tensor
from ..ops import opdef
from ..types import DType
from .evaluate import compute, evaluate
from .program import Program
from .rewrite import OpRule, Rule, Table, is_constant_name, recording, rewrite

DTYPES = (types.float32, types.float64, types.int32, types.uint8, types.bool_, types.complex64)
SHAPES: tuple[tuple[int, ...], ...] = ((2, 3), (), (4,), (1, 3))


class RuleFailed(AssertionError):
    """A rule never fires on its own pattern, or changes values."""


def check_rule(rule: Rule | OpRule, seed: int = 0) -> int:
    """Checks that the rule fires on its pattern and keeps the values; returns the number of cases.

    Raises:
        RuleFailed: it never fires, or a result differs.
    """
    rng = np.random.default_rng(seed)
    alone = Table(rule.name)
    alone.add(rule)
    cases = sum(_check(rule, alone, build, values, rng) for build, values in _cases(rule, rng))
    if not cases and (isinstance(rule, OpRule) or rule.samples):
        raise RuleFailed(f"rule {rule.name!r} never fires on its own pattern")
    return cases


def _cases(rule: Rule | OpRule, rng: np.random.Generator) -> Iterator[tuple[Any, dict[str, Any]]]:
    """(function that builds the pattern, the arguments it takes)."""
    for dtype in DTYPES:
        if isinstance(rule, OpRule):
            for example in rule.examples():
                yield example, {"x": _random((2, 3), dtype, rng, (-3.0, 3.0))}
        elif dtype in rule.dtypes or any("x" in s for s in rule.samples):
            for sample in rule.samples:
                for shape in SHAPES if not any(isinstance(v, tuple) for v in sample.values()) else SHAPES[:1]:
                    yield rule.pattern, _arguments(rule, sample, dtype, shape, rng)


def _arguments(rule: Rule, sample: dict[str, Any], dtype: DType, shape: tuple[int, ...], rng: np.random.Generator) -> dict[str, Any]:
    out: dict[str, Any] = {}
    for p in inspect.signature(rule.pattern).parameters.values():
        if p.default is not p.empty:
            continue
        given = sample.get(p.name)
        if p.kind is p.KEYWORD_ONLY:
            out[p.name] = given
        elif isinstance(given, np.ndarray):
            out[p.name] = opdef.to_array(given.tolist(), dtype)
        else:
            of = types.as_dtype(given) if isinstance(given, str) else dtype
            out[p.name] = _random(given if isinstance(given, tuple) else shape, of, rng, rule.domain)
    return out


def _random(shape: tuple[int, ...], dtype: DType, rng: np.random.Generator, domain: tuple[float, float]) -> np.ndarray:
    if dtype.kind == "b":
        return rng.random(shape) < 0.5
    if dtype.kind in "iu":
        return rng.integers(0 if dtype.kind == "u" else -5, 6, shape).astype(dtype.np)
    value = rng.uniform(*domain, shape)
    return np.asarray(value + (1j * rng.uniform(*domain, shape) if dtype.kind == "c" else 0)).astype(dtype.np)


def _check(rule: Rule | OpRule, alone: Table, build: Any, values: dict[str, Any], rng: np.random.Generator) -> bool:
    """Whether the rule fired on this case; it then agreed."""
    with opdef.scratch() as g:
        inputs: dict[str, Any] = {k: _operand(g, k, v) if isinstance(v, (np.ndarray, np.generic)) else v for k, v in values.items()}
        try:
            before = build(**inputs)
        except (TypeError, ValueError):
            return False  # the pattern is not for this dtype or shape
    feeds = {t: values[k] for k, t in inputs.items() if isinstance(t, Tensor) and t.op.opdef is opdef.StandIn}
    program = Program(tuple(("feed", t, t) for t in feeds), (before,))
    with recording() as changes:
        after = rewrite(program, alone)
    if not any(name == rule.name for name, _ in changes):
        return False
    want, = compute([before], feeds)
    have, = evaluate(after, feeds)
    _same(rule, want, have, before.dtype, feeds)
    return True


def _operand(g: opdef.Scratch, name: str, value: Any) -> Tensor:
    dtype = types.as_dtype(value.dtype)
    return opdef.constant(value, dtype) if is_constant_name(name) else g.stand_in(Spec(dtype, value.shape))


def _same(rule: Rule | OpRule, want: np.ndarray, have: np.ndarray, dtype: DType, feeds: Any) -> None:
    if want.shape != have.shape or want.dtype != have.dtype:
        raise RuleFailed(f"rule {rule.name!r} gives {have.dtype}{have.shape} instead of {want.dtype}{want.shape}")
    exact = dtype.kind in "iub" or getattr(rule, "exact", False)
    eps = 0.0 if exact else 64 * float(np.finfo(want.dtype).eps)
    if not np.allclose(have, want, rtol=eps, atol=eps, equal_nan=True):
        raise RuleFailed(f"rule {rule.name!r} changes values for {list(feeds.values())}:\n{want}\nbecame\n{have}")
