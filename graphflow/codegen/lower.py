"""From a cluster of ops to Kernel IR: one stage per stored value or fold, everything else inlined.

Knows the hooks of the registry and Kernel IR; knows no op by name and no target (rank 4).
"""
from __future__ import annotations

from typing import Any, Mapping, Sequence

from .. import types
from ..graph import Operation, Tensor
from ..ops.pull import Pull
from . import ir
from .ir import Axis, Buffer, Expr, Kernel, Stage
from .schedule import HEAVY


def lower(name: str, staged: Sequence[Operation], outputs: Sequence[Tensor], depth: int, stored: Mapping[Tensor, Buffer]) -> Kernel:
    """The kernel that computes `staged`, writing `outputs`, with `depth` shared outer axes.

    stored: the buffer of every tensor that is in memory before the kernel runs, and of the outputs.
    """
    return _Lowering(staged, outputs, depth, stored).kernel(name)


class _Lowering:
    def __init__(self, staged: Sequence[Operation], outputs: Sequence[Tensor], depth: int, stored: Mapping[Tensor, Buffer]):
        self.staged, self.outputs, self.depth, self.stored = staged, set(outputs), depth, stored
        self.local: dict[Tensor, Buffer] = {}
        self.single: dict[Tensor, tuple[list[Axis], Expr]] = {}  # folds over nothing: their one term, at these axes
        self.buffers: dict[Buffer, None] = {}
        self.inner: dict[tuple[int, Any], Axis] = {}
        self.outer = [Axis(s) for s in staged[0].outputs[0].sizes[:depth]]  # type: ignore[index]
        self.own = {t for op in staged for t in op.outputs}
        self.pull = Pull(self.leaf)
        self.made: dict[Tensor, Stage] = {}
        self.points = 0  # at which the stage in hand reads

    def leaf(self, t: Tensor, index: tuple[Expr, ...]) -> Expr | None:
        if t in self.local:
            return _load_local(self.local[t], index)
        if t in self.single:
            axes, term = self.single[t]
            return ir.substitute(term, {a: i for a, i in zip(axes, index) if not types.same(a.extent, 1)})
        if t in self.own:
            return self._made_before(t, index)
        buffer = self.stored.get(t)
        if buffer is None:
            return None
        self.buffers.setdefault(buffer)
        return ir.load(buffer, index)

    def _made_before(self, t: Tensor, index: tuple[Expr, ...]) -> Expr | None:
        """The stored value of an earlier stage, where reading it at more points than it has would compute something heavy again."""
        s = self.made.get(t)
        if s is None or s.target.role != "out" or s.target.dtype is not t.dtype.compute or self.points < 2 * _count(t.sizes):
            return None
        return ir.load(s.target, index) if any(e.op in HEAVY for e in ir.walk(s.expr)) else None

    def kernel(self, name: str) -> Kernel:
        stages = []
        for op in self.staged:
            self.points = max([_count(op.outputs[0].sizes), *[_count(t.sizes) for t in op.inputs if t.dtype is op.outputs[0].dtype]])
            stage = self.stage(op)
            if stage is not None:
                stages.append(stage)
                self.made[op.outputs[0]] = stage
        outs = [s.target for s in stages]
        return Kernel(name, tuple(dict.fromkeys([*self.buffers, *outs])), tuple(stages),
                      tuple(a for a in self.outer if not types.same(a.extent, 1)))

    def stage(self, op: Operation) -> Stage | None:
        """How the op's value is made; None where it is computed wherever it is read."""
        out = op.outputs[0]
        sizes = out.sizes
        assert sizes is not None
        inner = _Inner(self)
        axes = [*self.outer, *map(inner.axis, sizes[self.depth:])]
        index = tuple(_at(a) for a in axes)
        if op.opdef._fold is None:
            return Stage(self.target(out), self.loops(axes), index, self.pull.inside(op, index), ops=(op.name,))
        fold = self.pull.fold(op, index)
        reduced = [inner.axis(a.extent) for a in fold.axes]
        expr = ir.substitute(fold.expr, {a: _at(r) for a, r in zip(fold.axes, reduced)})
        if not self.loops(reduced) and fold.init is None and out not in self.outputs:
            self.single[out] = axes, expr
            return None
        target = self.target(out)
        self.local[out] = target
        return Stage(target, self.loops([*axes, *reduced]), index, expr, fold.combine, self.loops(reduced), fold.init, ops=(op.name,))

    def axis(self, position: int, extent: types.Size) -> Axis:
        """Stages with equal inner loops share their axes, so that equal expressions are one."""
        return self.inner.setdefault((position, extent), Axis(extent))

    def loops(self, axes: Sequence[Axis]) -> tuple[Axis, ...]:
        return tuple(a for a in axes if not types.same(a.extent, 1))

    def target(self, t: Tensor) -> Buffer:
        if t in self.outputs:
            return self.stored[t]
        return Buffer(t.dtype.compute, t.sizes, "tmp", "tmp")  # type: ignore[arg-type]


def _count(sizes: types.Shape) -> int:
    return types.hint(types.product(sizes)) or 0  # type: ignore[arg-type]


class _Inner:
    """Inner axes of one stage, counted without those of size 1."""

    def __init__(self, lowering: _Lowering):
        self.lowering, self.count = lowering, 0

    def axis(self, extent: types.Size) -> Axis:
        if types.same(extent, 1):
            return Axis(1)
        self.count += 1
        return self.lowering.axis(self.count, extent)


def _load_local(b: Buffer, index: Sequence[Expr]) -> Expr:
    """A value that lives in a register: where there is one element only, every way to write its index is 0."""
    found = ir.load(b, [ir.index_const(0) if types.same(n, 1) else i for n, i in zip(b.sizes, index)])
    for e in ir.walk(*(i for n, i in zip(b.sizes, index) if types.same(n, 1))):
        if e.op == "check":
            found = ir.check(e.args[0], found, e.data)
    return found


def _at(a: Axis) -> Expr:
    return ir.index_const(0) if types.same(a.extent, 1) else ir.axis(a)


def lower_scatter(name: str, op: Operation, stored: Mapping[Tensor, Buffer]) -> Kernel:
    """Initial values everywhere, then the updates one after the other."""
    low = _Lowering([op], op.outputs, 0, stored)
    out = op.outputs[0]
    axes = [Axis(s) for s in out.sizes or ()]
    index = tuple(map(_at, axes))
    start = Stage(stored[out], low.loops(axes), index, low.pull.inside(op, index), ops=(op.name,))
    sizes = _update_sizes(op)
    updates = [Axis(s) for s in sizes]
    s = low.pull.scatter(op, tuple(map(_at, updates)))
    loops = low.loops(updates)
    old = ir.load(stored[out], s.index)
    if not loops:  # one update only
        put = Stage(stored[out], (), tuple(s.index), ir.binary(s.combine, old, s.value) if s.combine else s.value, ops=(op.name,))
    else:  # where all updates meet in one place there is no scatter but a fold, which starts from the value in that place
        one_place = s.combine is not None and not ir.axes_in(*s.index) & set(loops)
        put = Stage(stored[out], loops, tuple(s.index), s.value, s.combine or "set", loops, old if one_place else None, ops=(op.name,))
    return Kernel(name, tuple(dict.fromkeys([*low.buffers, stored[out]])), (start, put))


def _update_sizes(op: Operation) -> Any:
    """The shape of the updates: what the op's trait says, else that of its input `updates` or `data`, else of its last one."""
    if op.opdef.updates is not None:
        return op.opdef.updates(op)
    names = op.opdef.params
    i = names.index("updates") if "updates" in names else names.index("data") if "data" in names else len(op.inputs) - 1
    return op.inputs[i].sizes


def lower_scan(name: str, op: Operation, stored: Mapping[Tensor, Buffer]) -> Kernel:
    """The running combination along `axis`, with the scan's axis innermost."""
    low = _Lowering([op], op.outputs, 0, stored)
    x, out, k = op.inputs[0], op.outputs[0], op.attrs["axis"]
    sizes = out.sizes
    assert sizes is not None
    axes = [Axis(s) for s in sizes]
    index = [_at(a) for a in axes]
    if op.attrs.get("reverse"):
        index[k] = ir.size(sizes[k] - 1) - index[k]
    rest = tuple(a for i, a in enumerate(axes) if i != k)
    stage = Stage(stored[out], (*low.loops(rest), axes[k]), tuple(index), low.pull.at(x, index), op.opdef.combine, (), None, axes[k],
                  bool(op.attrs.get("exclusive")), (op.name,))
    return Kernel(name, tuple(dict.fromkeys([*low.buffers, stored[out]])), (stage,), low.loops(rest))
