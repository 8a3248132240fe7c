"""Which values are made again by every kernel that reads them, instead of being stored once and loaded.

A value that is a few operations on at most two large arrays which are in memory anyway costs no more to make than to
load: storing it would write it once and read it as often.  Batch norm's `x - mean` is the model.  Knows families and
hooks; knows no op by name, no target (rank 4).
"""
from __future__ import annotations

from typing import Callable, Mapping, Sequence

from .. import types
from ..codegen import ir
from ..graph import Operation, Tensor
from ..ops.opdef import Const
from ..ops.pull import Pull, uniform

# Arrays below this stay in the first-level cache: where they are is of no consequence.
LARGE = 4096
OPERATIONS = 6  # in the whole expression
SOURCES = 2     # large arrays it reads
SMALLER = 8     # an array this many times smaller than the result costs nothing to read


def made_again(ops: Sequence[Operation], kinds: Mapping[Operation, str], readers: Mapping[Tensor, Sequence[Operation]],
               required: set[Operation], looked_through: Callable[[Operation], bool],
               count: Callable[[Sequence[types.Size]], int]) -> set[Operation]:
    """Ops to inline into every reader.

    kinds: how each op is computed (passes/fusion.py); required: ops whose result must be in memory; looked_through: ops
    that are inlined in any case; count: elements of a shape at the first binding.
    """
    return _Choice(ops, kinds, readers, required, looked_through, count).run()


class _Choice:
    def __init__(self, ops, kinds, readers, required, looked_through, count):
        self.ops, self.kinds, self.readers, self.required = ops, kinds, readers, required
        self.looked_through, self.count = looked_through, count
        self.made_of: dict[Operation, tuple[frozenset[Tensor], int]] = {}  # large arrays and operations behind a cheap op
        self.found: set[Operation] = set()

    def run(self) -> set[Operation]:
        for op in self.ops:
            if self._may(op):
                self._look(op)
        for op in reversed(self.ops):
            if op in self.made_of and (len(set(self.readers.get(op.outputs[0], ()))) > 1 or self._waits(op)):
                self._take(op)
        return self.found

    def _waits(self, op: Operation) -> bool:
        """Whether the one reader loads no more when it makes the value itself, which then waits for it in no memory.

        The model is the gradient of tanh, which reads `1 - y * y` long after y.
        """
        size = self.count(op.outputs[0].sizes)  # type: ignore[arg-type]
        return len(self.made_of[op][0]) == 1 and all(
            self.kinds[r] == "map" and self.count(r.outputs[0].sizes) <= size for r in self.readers.get(op.outputs[0], ()))  # type: ignore

    def _may(self, op: Operation) -> bool:
        return (self.kinds[op] == "map" and op.opdef.family == "elementwise" and op not in self.required and bool(op.inputs)
                and len(op.outputs) == 1 and self.count(op.outputs[0].sizes) >= LARGE)  # type: ignore[arg-type]

    def _look(self, op: Operation) -> None:
        cost = _operations(op)
        sources: set[Tensor] = set()
        size = self.count(op.outputs[0].sizes)  # type: ignore[arg-type]
        for t in op.inputs:
            if t.op.opdef is Const and uniform(t.op) is not None or self.count(t.sizes) * SMALLER <= size:  # type: ignore[arg-type]
                continue
            behind = self.made_of.get(t.op)
            if behind is not None and (t.op not in self.required):
                sources |= behind[0]
                cost += behind[1]
            elif self.kinds[t.op] == "map" and self.looked_through(t.op):
                if t.op.opdef.family != "movement" or not self._spread(t.op, size):
                    return
            elif self._in_memory(t, op):
                sources.add(t)
            else:
                return
        if cost <= OPERATIONS and len(sources) <= SOURCES:
            self.made_of[op] = frozenset(sources), cost

    def _spread(self, op: Operation, size: int) -> bool:
        """Whether the op only spreads a small array."""
        while self.kinds[op] == "map" and op.opdef.family == "movement" and op.inputs:
            if self.count(op.inputs[0].sizes) * SMALLER <= size:  # type: ignore[arg-type]
                return True
            op = op.inputs[0].op
        return False

    def _in_memory(self, t: Tensor, reader: Operation) -> bool:
        """Whether `t` will be stored whatever becomes of `reader`."""
        return t.op in self.required or self.kinds[t.op] == "input" or any(c is not reader for c in self.readers[t])

    def _take(self, op: Operation) -> None:
        """The op, and what only it reads."""
        stack = [op]
        while stack:
            p = stack.pop()
            if p not in self.found:
                self.found.add(p)
                stack.extend(t.op for t in p.inputs if t.op in self.made_of)


def _operations(op: Operation) -> int:
    """Scalar operations of the op itself; many for those that are no arithmetic."""
    axes = [ir.index_const(0) if types.same(s, 1) else ir.axis(ir.Axis(s)) for s in op.outputs[0].sizes]  # type: ignore[union-attr]
    expr = Pull(lambda t, index: ir.make("load", index, t.dtype.compute, t)).inside(op, axes)
    return sum(1 if e.op in _CHEAP else 99 for e in ir.walk(expr) if e.op in ir.SCALAR and e.dtype is not types.int64)


_CHEAP = {"add", "sub", "mul", "neg", "abs", "max", "min", "lt", "le", "gt", "ge", "eq", "ne", "select", "cast", "land", "lor", "lnot"}
