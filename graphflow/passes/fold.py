"""Constants and shapes: what is known before a step runs is not computed in it.

`bypass` skips ops that pass their input on, `shapes` cuts operands whose value is known off the ops that computed them,
`fold` evaluates ops of constants.  Asks ops for their traits only (rank 4).
"""
from __future__ import annotations

from typing import Any

import numpy as np

from .. import errors, types
from ..codegen import ir
from ..flags import flags
from ..graph import Operation, Spec, Tensor
from ..ops import opdef
from ..types import DType
from .program import Program, rebuild, with_inputs
from .rewrite import note, same_shape

# Most elements of a constant made from fewer: a larger one would be read from memory where an expression computes it.
EXPANSION = 64


def _static(*, value: tuple[Any, ...], sizes: tuple[int, ...], dtype: DType) -> Tensor:  # type: ignore[empty-body]
    """An integer value made of sizes: known to the compiler, symbols included, and computed by no kernel."""


def _static_infer(*, value: tuple[Any, ...], sizes: tuple[int, ...], dtype: DType) -> Spec:
    known = np.empty(len(value), object)
    known[:] = value
    return Spec(dtype, sizes, known.reshape(sizes))


Static = opdef.OpDef(_static, "constant", type="Static", infer=_static_infer, no_gradient="a known value")
Static.reference(lambda *, value, sizes, dtype: np.array([types.hint(v) for v in value], dtype.np).reshape(sizes))


@Static.lowers
def _(op: Operation, index: Any, read: Any) -> Any:
    """Sizes are parameters of the kernel: the element at the (flat) index among them."""
    sizes, dtype = op.attrs["sizes"], op.attrs["dtype"]
    place = ir.index_const(0)
    for i, n in zip(index, sizes):
        place = place * n + i
    values = [ir.cast(ir.size(v), dtype) for v in op.attrs["value"]]
    found = values[-1] if values else ir.const(0, dtype)
    for k, v in enumerate(values[:-1]):
        found = ir.select(place.eq(k), v, found)
    return found


def _sized(*, dtype: DType, sizes: tuple[Any, ...]) -> Tensor:  # type: ignore[empty-body]
    """Something of this shape whose elements nothing reads."""


Sized = opdef.OpDef(_sized, "constant", type="Sized", infer=lambda *, dtype, sizes: Spec(dtype, sizes), no_gradient="no value")
Sized.reference(lambda *, dtype, sizes: np.broadcast_to(np.zeros((), dtype.np), tuple([types.hint(n) or 0 for n in sizes])))
Sized.lowers(lambda op, index, read: ir.const(0, op.attrs["dtype"].compute))


def const(like: Operation, value: np.ndarray, dtype: DType) -> Tensor:
    """A constant that stands for an output of `like`."""
    value = np.array(value, order="C")
    value.setflags(write=False)
    with opdef.scratch(like) as g:
        return g.create_op(opdef.Const, (), {"value": value, "dtype": dtype}, "folded").outputs[0]


def bypass(program: Program) -> Program:
    """Without ops that move nothing: their kernel expression reads the first input at the same index (Identity,
    StopGradient, a transpose that keeps the order, a cast to the same dtype)."""
    same: dict[Any, bool] = {}

    def change(op: Operation, inputs: tuple[Tensor, ...]) -> Any:
        if not inputs or len(op.outputs) != 1 or op.opdef.effect is not None or op.opdef._lower is None or op.opdef._scatter is not None:
            return None
        if op.outputs[0].dtype is not inputs[0].dtype or not same_shape(inputs[0].sizes, op.outputs[0].sizes):
            return None
        # Without attributes and operands that are read while lowering, the answer depends on dtype and rank only.
        key = (op.opdef, inputs[0].dtype, len(inputs[0].sizes or ())) if not op.attrs and len(inputs) == 1 else op
        if key not in same:
            same[key] = _reads_itself(op)
        if not same[key]:
            return None
        note("pass on", [op])
        return [inputs[0]]
    return rebuild(program, change)


def _reads_itself(op: Operation) -> bool:
    """Whether the op's scalar at an index is just its first input there."""
    x = op.outputs[0]
    value = ir.make("probe", (), x.dtype.compute)
    index = [ir.index_const(0) if n == 1 else ir.axis(ir.Axis(n)) for n in x.sizes]  # type: ignore[union-attr]
    places: list[Any] = []

    def read(i: int, at: Any) -> ir.Expr:
        places.append((i, list(at)))
        return value if i == 0 else ir.make("probe", (), op.inputs[i].dtype.compute, i)

    found = op.opdef._lower(op, index, read)
    return found is value and len(places) == 1 and all(a is b for a, b in zip(places[0][1], index))


def shapes(program: Program) -> Program:
    """Operands that only say sizes no longer hold on to the ops that computed them.

    A `static` operand becomes a constant (Static when symbols are in it); a `shape_only` one a Sized without data.
    """
    def change(op: Operation, inputs: tuple[Tensor, ...]) -> Any:
        if op.opdef.effect is not None or not (op.opdef.static or op.opdef.shape_only):
            return None
        new = tuple([_cut(op, i, t) for i, t in enumerate(inputs)])
        if all(a is b for a, b in zip(new, inputs)):
            return None
        note("shape operand", [op])
        return with_inputs(op, new).outputs
    return rebuild(program, change)


def _cut(op: Operation, i: int, t: Tensor) -> Tensor:
    """What input `i` of the op can be instead of `t`, when its data is not read."""
    name = op.opdef.param_name(i)
    if t.op.opdef.family in ("constant", "input"):
        return t
    if name in op.opdef.static and t.known is not None and not any(types.is_unknown(v) for v in t.known.flat):
        return known(t)
    if name in op.opdef.shape_only and t.sizes is not None and not any(types.is_unknown(n) for n in t.sizes):
        with opdef.scratch(t.op) as g:
            return g.create_op(Sized, (), {"dtype": t.dtype, "sizes": t.sizes}).outputs[0]
    return t


def known(t: Tensor) -> Tensor:
    """A tensor of the known value of `t` that needs nothing else."""
    value = t.known
    assert value is not None
    if not any(isinstance(v, types.Dim) for v in value.flat):
        return const(t.op, value.astype(t.dtype.np), t.dtype)
    with opdef.scratch(t.op) as g:
        return g.create_op(Static, (), {"value": tuple(value.flat), "sizes": value.shape, "dtype": t.dtype}).outputs[0]


def size_vector(sizes: Any) -> Tensor:
    """Sizes as an operand, in the scratch graph that is open."""
    if not any(isinstance(n, types.Dim) for n in sizes):
        return opdef.constant(np.array(sizes, np.int32))
    return Static(value=tuple(sizes), sizes=(len(sizes),), dtype=types.int32)


def fold(program: Program) -> Program:
    """Ops of constants replaced by their value, up to `flags.fold_limit` bytes."""
    return rebuild(program, lambda op, inputs: folded(op, inputs))


def folded(op: Operation, inputs: tuple[Tensor, ...] | None = None) -> tuple[Tensor, ...] | None:
    """Constants for the outputs of an op on `inputs` (its own by default), or None."""
    if op.opdef.effect is not None or op.opdef.family in ("constant", "input", "state"):
        return None
    inputs = op.inputs if inputs is None else inputs
    arrays = [_array(t) for t in inputs]
    return _values(op) if any(a is None for a in arrays) else _evaluated(op, arrays)


def _array(t: Tensor) -> np.ndarray | None:
    """The value of a constant; anything of the right shape for an operand whose elements are not read."""
    if t.op.opdef is opdef.Const:
        value = t.op.attrs["value"]
        return None if isinstance(value, opdef.Opaque) else value
    if t.op.opdef is Sized and types.known(t.sizes):
        return np.broadcast_to(np.zeros((), t.dtype.np), t.sizes)  # type: ignore[arg-type]
    return None


def _values(op: Operation) -> tuple[Tensor, ...] | None:
    """The outputs as constants when their values are known numbers although the inputs are not constant (tf.shape)."""
    found = []
    if getattr(op.opdef, "checks", False):
        return None
    for t in op.outputs:
        if t.known is None or any(isinstance(v, types.Dim) for v in t.known.flat):
            return None
        found.append(const(op, t.known.astype(t.dtype.np), t.dtype))
    if found:
        note("known value", [op])
    return tuple(found) or None


def _evaluated(op: Operation, arrays: list[Any]) -> tuple[Tensor, ...] | None:
    if op.opdef._numpy is None or not op.outputs or not all(types.known(t.sizes) for t in op.outputs):
        return None
    count = [types.product(t.sizes) for t in op.outputs]  # type: ignore[arg-type]
    given = max((a.size for a in arrays if 0 not in a.strides), default=0)
    nbytes = sum(n * t.dtype.size for n, t in zip(count, op.outputs))  # type: ignore[misc, operator]
    if nbytes > flags.fold_limit or any(n > max(given, EXPANSION) for n in count):  # type: ignore[operator]
        return None
    try:
        found = op.opdef.evaluate(op, arrays)
    except (ValueError, IndexError, ZeroDivisionError, np.linalg.LinAlgError, NotImplementedError, errors.OpError):
        return None  # it fails when it runs, with the op's name
    if any(not same_shape(a.shape, t.sizes) for a, t in zip(found, op.outputs)):
        return None
    note("fold", [op])
    return tuple([const(op, a, t.dtype) for a, t in zip(found, op.outputs)])
