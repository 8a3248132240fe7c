"""What follows a product or convolution, if a library computes it on the way (rank 4)."""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Callable, Sequence

import numpy as np

from .... import types
from ....types import Size
from ... import interp, ir, simplify
from ...ir import Axis, Buffer, Expr, Kernel, Stage
from ...simplify import Affine
from .described import Convolution, Matmul
from .reads import key


@dataclass(frozen=True)
class Fused:
    """A call that computes what follows as well: its result is `out`; `bias` and `add` are read (None: not needed)."""

    call: Matmul | Convolution
    out: Buffer
    bias: Buffer | None
    add: Buffer | None


# NaN stays NaN in them; cuBLASLt's relu makes it 0, and is not one of a product's.
_ACTIVATIONS: dict[str, Callable[[np.ndarray], np.ndarray]] = {
    "relu": lambda x: np.maximum(x, 0), "gelu_tanh": lambda x: 0.5 * x * (1 + np.tanh(np.sqrt(2 / np.pi) * (x + 0.044715 * x ** 3)))}
# With filters laid out as TF's, cuDNN has kernels for a bias and relu only (after a sum with another array, if there is one).
_FUSED = {Matmul: ("gelu_tanh",), Convolution: ("relu",)}
_POINTS = np.array([-30, -7.5, -4, -2, -1, -0.5, -0.1, 0, 0.1, 0.5, 1, 2, 4, 7.5, 30, np.nan])


def fused(d: Matmul | Convolution, then: Kernel, result: Buffer) -> Fused | None:
    """The call with an epilogue in place of `then`, a linear kernel that reads `result` where it writes; None where there is none.

    What is understood: scale * result + bias along the last axis + factor * an array like the result, and an activation of that.
    """
    if len(then.stages) != 1 or d.epilogue:
        return None
    s = then.stages[0]
    if s.combine is not None or s.scan is not None or s.init is not None or isinstance(d, Convolution) and d.kind != "forward":
        return None
    place = simplify.affine(s.index[0])
    inside = [e for e in ir.walk(s.expr) if any(x.op == "at" and x.data is result for x in ir.walk(e))]
    for e in reversed(inside):
        x = ir.make("at", (ir.index_const(0),), e.dtype, Buffer(e.dtype, (len(_POINTS),), "in", "x"))
        rest = ir.rewrite(s.expr, lambda y, args, e=e, x=x: x if y is e else ir.rebuilt(y, args))
        if any(y.op in ("at", "load", "axis", "size", "check") for y in ir.walk(rest) if y is not x):
            continue
        name = "" if rest is x else _activation(rest, x, _FUSED[type(d)])
        terms = None if name is None else _sum(e, place, result, _columns(d))
        if name is not None and terms is not None:
            return _fused(d, s.target, name, terms)
    return None


@dataclass
class _Sum:
    """scale * result + bias + factor * add."""

    scale: Any = None
    bias: Buffer | None = None
    add: Buffer | None = None
    factor: float = 1.0


def _fused(d: Matmul | Convolution, out: Buffer, activation: str, s: _Sum) -> Fused | None:
    if any(b is not None and b.dtype is not out.dtype for b in (s.bias, s.add)):
        return None
    steps = ["add"] * (s.add is not None) + ["bias"] * (s.bias is not None) + [activation] * bool(activation)
    if isinstance(d, Matmul):
        steps = [x for x in steps if x != "add"]
        if steps and d.compute is types.float64:
            return None
        call = replace(d, c=replace(d.c, dtype=out.dtype), epilogue="+".join(steps), alpha=s.scale, beta=s.factor if s.add else 0.0)
        return Fused(call, out, s.bias, s.add)
    if s.bias is None or s.scale != 1 or s.factor != 1 or any(v.dtype is not out.dtype for v in d.operands):
        return None
    return Fused(replace(d, y=replace(d.y, dtype=out.dtype), epilogue="+".join(steps)), out, s.bias, s.add)


def _columns(d: Matmul | Convolution) -> Size:
    """The extent of the axis that a bias runs along, which is the last one in memory."""
    return d.c.sizes[-1] if isinstance(d, Matmul) else d.y.sizes[1]


def _activation(e: Expr, x: Expr, names: Sequence[str]) -> str | None:
    """Which function of x an expression is, tried at some points; None for another one."""
    a, source, out = Axis(len(_POINTS)), x.data, Buffer(e.dtype, (len(_POINTS),), "out")
    body = ir.rewrite(e, lambda y, args: ir.load(source, (ir.axis(a),)) if y is x else ir.rebuilt(y, args))
    points = _POINTS.astype(source.dtype.np)
    with np.errstate(all="ignore"):
        values = interp.run(Kernel("", (source, out), (Stage(out, (a,), (ir.axis(a),), body),)), {source: points}, {})[out]
        return next((n for n in names if np.allclose(values, _ACTIVATIONS[n](points), 1e-5, 1e-6, equal_nan=True)), None)


def _sum(e: Expr, place: Affine, result: Buffer, columns: Size) -> _Sum | None:
    """The expression as such a sum; every array is read at `place`, the bias at its last coordinate."""
    out = _Sum()
    for x, factor in _terms(e):
        if x.op != "at":
            return None
        where = simplify.affine(x.args[0])
        same = key(where) == key(place)
        if x.data is result:
            if not same or out.scale is not None:
                return None
            out.scale = factor
        elif same and out.add is None:
            out.add, out.factor = x.data, factor
        elif factor == 1 and out.bias is None and _last(where, place, columns) and types.same(types.product(x.data.sizes), columns) is True:
            out.bias = x.data
        else:
            return None
    return out if out.scale is not None else None


def _terms(e: Expr) -> list[tuple[Expr, float]]:
    """The terms of a sum, with constant factors."""
    out, todo = [], [(e, 1.0)]
    while todo:
        x, factor = todo.pop()
        number = next((y for y in x.args if y.op == "const"), None) if x.op == "mul" else None
        if x.op in ("add", "sub"):
            todo += [(x.args[0], factor), (x.args[1], factor if x.op == "add" else -factor)]
        elif x.op == "neg":
            todo.append((x.args[0], -factor))
        elif number is not None:
            todo.append((next(y for y in x.args if y is not number), factor * number.data))
        else:
            out.append((x, factor))
    return out


def _last(where: Affine, place: Affine, columns: Size) -> bool:
    """Whether `where` is `place` modulo the columns."""
    rest = place.plus(where, -1)
    inside = simplify.affine(ir.make("mod", (place.expr(), ir.size(columns)), types.int64))
    return key(inside) == key(where) and bool(rest.terms)
