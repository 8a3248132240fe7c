"""Reading a tensor as a scalar expression: ops inlined into their users until something stored is met.

This is what fusion means here: an index is pulled through the definitions.  Knows the registry's `lower` and `fold`
hooks; knows no cluster and no target (rank 3).
"""
from __future__ import annotations

from typing import Any, Callable, Sequence

import numpy as np

from .. import types
from ..codegen import ir
from ..codegen.ir import Expr
from ..graph import Operation, Tensor
from .opdef import Const, OpDef, Opaque

Leaf = Callable[[Tensor, tuple[Expr, ...]], "Expr | None"]


class Pull:
    """`at(t, index)` is the scalar of `t` at `index`; `leaf` gives the load of a stored tensor, or None to look inside."""

    def __init__(self, leaf: Leaf):
        self.leaf = leaf
        self._done: dict[tuple, Expr] = {}
        self._checks: dict[Expr, dict[Expr, None]] = {}

    def at(self, t: Tensor, index: Sequence[Expr]) -> Expr:
        key = (t, *map(id, index))
        found = self._done.get(key)
        if found is None:
            found = self._done[key] = self._checked(self._new(t, tuple(index)), index)
        return found

    def _checked(self, value: Expr, index: Sequence[Expr]) -> Expr:
        """The value with the checks of an index that it does not depend on (that of a gather from equal elements)."""
        for i in index:
            for check in self._checks_in(i):
                if check not in self._checks_in(value):
                    value = ir.check(check.args[0], value, check.data)
        return value

    def _checks_in(self, root: Expr) -> dict[Expr, None]:
        found = self._checks.get(root)
        if found is None:
            for e in ir.walk(root):
                if e not in self._checks:
                    inside = [c for a in e.args for c in self._checks[a]]
                    self._checks[e] = dict.fromkeys([*inside, e] if e.op == "check" else inside) if inside or e.op == "check" else _NONE
            found = self._checks[root]
        return found

    def _new(self, t: Tensor, index: tuple[Expr, ...]) -> Expr:
        stored = self.leaf(t, index)
        if stored is not None:
            return stored
        if t.op.opdef is Const:
            value = uniform(t.op)
            assert value is not None, "a constant array is a leaf"
            return ir.const(value, t.dtype.compute)
        return self.inside(t.op, index)

    def inside(self, op: Operation, index: Sequence[Expr]) -> Expr:
        """The op's own definition at `index`, its inputs pulled."""
        return op.opdef._lower(op, index, self.reader(op))

    def fold(self, op: Operation, index: Sequence[Expr]) -> ir.Fold:
        return op.opdef._fold(op, index, self.reader(op))

    def scatter(self, op: Operation, index: Sequence[Expr]) -> ir.Scatter:
        return op.opdef._scatter(op, index, self.reader(op))

    def reader(self, op: Operation) -> Callable[[int, Sequence[Expr]], Expr]:
        return lambda i, index: self.at(op.inputs[i], index)


_NONE: dict[Expr, None] = {}


def is_uniform(t: Tensor) -> bool:
    """Whether `t` is a constant that is written as a number wherever it is read."""
    return t.op.opdef is Const and uniform(t.op) is not None


def is_moved(op: Operation) -> bool:
    """Whether `op` only moves elements, or reads them from a dtype of half the size or less: never worth an array of its own.

    So int8 and float16 data are read as they are by what multiplies them in a wider dtype.
    """
    if op.opdef.family == "movement":
        return True
    if not op.opdef.converts:
        return False
    narrow, wide = op.inputs[0].dtype, op.outputs[0].dtype
    return narrow.kind in "iuf" and wide.kind in "iuf" and narrow.size <= 2 and narrow.size < wide.size


def uniform(op: Operation) -> object | None:
    """The one value of a constant whose elements are all equal, else None."""
    array = op.attrs["value"]
    if array.size == 0 or array.dtype.kind not in "fiubc" or isinstance(array, Opaque):
        return None
    first = array.reshape(-1)[0]
    if array.size > 1 and not (array == first).all():
        return None
    return types.bf16_decode(np.asarray(first))[()] if op.attrs["dtype"] is types.bfloat16 else first


# ---------------------------------------------------------------- what may fail

_checking: dict[OpDef, bool] = {}


def has_check(op: Operation) -> bool:
    """Whether a kernel of the op may report a failed check (conservative: by the names in its hooks' code)."""
    found = _checking.get(op.opdef)
    if found is None:
        hooks = [h for h in (op.opdef._lower, op.opdef._fold, op.opdef._scatter, op.opdef.scalar) if h is not None]
        found = _checking[op.opdef] = any("check" in _names(h) for h in hooks)
    return found


def _names(fn: Callable[..., Any]) -> set[str]:
    code = getattr(fn, "__code__", None)
    found = set(code.co_names) if code else set()
    for cell in getattr(fn, "__closure__", None) or ():
        if callable(cell.cell_contents) and hasattr(cell.cell_contents, "__code__"):
            found |= set(cell.cell_contents.__code__.co_names)
    helpers = [getattr(fn, "__globals__", {}).get(n) for n in list(found)]
    for h in helpers:
        if callable(h) and hasattr(h, "__code__"):
            found |= set(h.__code__.co_names)
    return found
