"""A program run op by op with NumPy, for checking passes and rules (rank 4)."""
from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np

from .. import types
from ..graph import Operation, Spec, Tensor
from ..ops import control, opdef
from ..types import Dim
from .decompose import is_composite
from .program import Program, ordered


def evaluate(program: Program, values: Mapping[Tensor, Any]) -> list[np.ndarray]:
    """The program's outputs, then the values it writes.

    Args:
        values: an array (as stored: bfloat16 as bits) for each input tensor; their shapes give the symbols.
    """
    return compute(program.roots(), values, program.effects)


def compute(wanted: Sequence[Tensor], values: Mapping[Tensor, Any], effects: Sequence[Operation] = (),
            env: Mapping[str, int] | None = None) -> list[np.ndarray]:
    """Any tensors of a program; `env` gives symbols that no input's shape tells."""
    have = {t: np.asarray(v) for t, v in values.items()}
    env = dict(env or {})
    for t, v in have.items():
        env.update(_symbols(t, v))
    for op in ordered([*[t.op for t in wanted], *effects]):
        if any(t not in have for t in op.outputs) or not op.outputs:
            have.update(zip(op.outputs, _run(op, [have[t] for t in op.inputs], env)))
    return [have[t] for t in wanted]


def _symbols(t: Tensor, value: np.ndarray) -> dict[str, int]:
    """What an input's shape says of symbols that are sizes by themselves."""
    pairs = [*zip(t.sizes or (), value.shape), *([] if t.known is None else zip(t.known.flat, value.flat))]
    return {repr(s): int(n) for s, n in pairs if isinstance(s, Dim) and types.symbols_of(s) == {repr(s)}}


def _run(op: Operation, arrays: list[np.ndarray], env: dict[str, int]) -> list[np.ndarray]:
    if op.opdef in _NESTED:
        return _NESTED[op.opdef](op, arrays, env)
    if op.opdef._numpy is not None and not _symbolic(op):
        return op.opdef.evaluate(op, arrays)
    if op.opdef.family == "constant":
        t, = op.outputs
        sizes = tuple(types.evaluate(n, env) for n in t.sizes or ())
        if t.known is None:
            return [np.zeros(sizes, t.dtype.np)]
        return [np.array([types.evaluate(v, env) for v in t.known.flat], t.dtype.np).reshape(sizes)]
    if is_composite(op):
        with opdef.scratch(op) as g:
            inputs = [g.stand_in(_spec(t, a)) for t, a in zip(op.inputs, arrays)]
            found: Any = op.opdef._body(*inputs, **op.attrs)
        outputs = list(found) if isinstance(found, (list, tuple)) else [found]
        return compute(outputs, dict(zip(inputs, arrays)))
    raise NotImplementedError(f"op {op.opdef.name} has no NumPy reference")


def _spec(t: Tensor, a: np.ndarray) -> Any:
    return Spec(t.dtype, a.shape, opdef.as_known(a, t.dtype))


def _symbolic(op: Operation) -> bool:
    values = [v for t in op.outputs for v in [*(t.sizes or ()), *(() if t.known is None else t.known.flat)]]
    return op.opdef.family == "constant" and any(isinstance(v, Dim) for v in values)


# ---------------------------------------------------------------- branches and loops


def _loop(op: Operation, arrays: list[np.ndarray], env: dict[str, int]) -> list[np.ndarray]:
    cond, body = op.attrs["cond"], op.attrs["body"]
    current, captures = arrays[:len(op.outputs)], arrays[len(op.outputs):]
    slots = [slot for slot, _ in body.writes]
    while bool(_inside(cond, dict(zip(slots, current)), captures, env)[0]):
        current = _inside(body, dict(zip(slots, current)), captures, env)
    return current


def _branch(op: Operation, arrays: list[np.ndarray], env: dict[str, int]) -> list[np.ndarray]:
    program = op.attrs["branches"][0 if bool(arrays[0]) else 1]
    found = iter(_inside(program, {}, arrays[1:], env))
    return [next(found) if t is not None else anything([types.evaluate(n, env) for n in out.sizes or ()], out.dtype)
            for t, out in zip(program.outputs, op.outputs)]


def _inside(program: Program, variables: Mapping[Any, np.ndarray], captures: Sequence[np.ndarray], env: dict[str, int]) -> list[np.ndarray]:
    values = {t: variables[what] if kind == "variable" else captures[what] for kind, what, t in program.inputs}
    return compute(program.roots(), values, program.effects, env)


def anything(sizes: Sequence[int], dtype: types.DType) -> np.ndarray:
    """What memory without content may hold: numbers that show where one reads it."""
    return np.full(sizes, np.nan if dtype.kind in "fc" else dtype.kind == "b" or 77, dtype.np)


def _memory(op: Operation, arrays: list[np.ndarray], env: dict[str, int]) -> list[np.ndarray]:
    sizes, dtype = [types.evaluate(n, env) for n in op.attrs["sizes"]], op.attrs["dtype"]
    return [anything(sizes, dtype) if op.opdef is control.blank else np.zeros(sizes, dtype.np)]


_NESTED = {control.loop_op: _loop, control.branch_op: _branch, control.blank: _memory, control.zeros_op: _memory}
