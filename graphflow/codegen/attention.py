"""Attention kernels: softmax(q k^T) v block by block, and its gradient, so that no array of all scores exists.

The forward kernel takes some rows of queries through the keys, a block at a time: scores by a block kernel (blocks.py) into a
scratch that stays in cache, masks, the running maximum and sum of each row, and the weighted values added to an accumulator that is
scaled down whenever a maximum grows.  The backward kernel makes the probabilities again from the logarithm of each row's sum and adds
up all three gradients while a block of them is in cache (Dao et al., "FlashAttention: Fast and Memory-Efficient Exact Attention",
2022).  A block of keys (and for gradients, of values) is turned, so that vectors run along keys; the rest is read where it lies.

Blocks that a causal mask hides are skipped when every row of the block has a score that makes the hidden ones exp(-inf) = 0.
Tasks depend on the sizes alone, so any number of threads gives the same bits.  Knows Kernel IR; knows no op by name (rank 4).
"""
from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Mapping, Sequence

import numpy as np

from .. import types
from ..graph import Operation, Tensor
from ..ops.opdef import broadcast_index
from ..ops.pull import Pull
from ..types import DType, Size
from . import blocks, ir, simplify
from .contract import PITCH
from .emit_cpu import Emitted
from .ir import Axis, Buffer, Expr, Kernel, Stage

COLUMNS = 512  # bytes of a row of a block of scores
GROUP = 4  # most blocks of rows that a task takes through the keys together, which are turned once for them
TALL = 64  # rows of a block, at least; a multiple of the register tile's
TASKS = 32  # that many, so that every core gets some: with fewer pairs of batch and head, the gradient also cuts the keys
CUT = 512  # keys of one such cut
PLAIN = (0.0, 1.0, float("-inf"), float("inf"))
DEEPEST = 256  # columns of a query or value whose blocks still fit in the second-level cache
HIDDEN = 1e8  # a mask that takes so much from a score hides it


def engine(op: Operation) -> str | None:
    """ "attention" for an op that this module computes: the scratch of a task must have a size that is known."""
    if op.opdef.family != "attention" or op.outputs[0].dtype.code not in ("f32", "f64"):
        return None
    depths = [op.inputs[i].sizes[-1] for i in (0, 2)]  # type: ignore[index]
    return "attention" if all(isinstance(d, int) and 0 < d <= DEEPEST for d in depths) else None


def kernels(name: str, op: Operation, stored: Mapping[Tensor, Buffer]) -> list[Kernel | Emitted]:
    """Copies of operands that are no strided matrices, then the attention or its gradient."""
    made = _Attention(name, op, stored)
    return made.forward() if len(op.outputs) == 2 else made.backward()


# ---------------------------------------------------------------- operands


@dataclass
class Strided:
    """A stack of matrices in memory: the steps of each batch axis, of rows and of columns, in elements."""

    buffer: Buffer
    offset: Size
    batch: list[Size]
    row: Size
    column: Size


class Operands:
    """What an attention, or its gradient, reads and how: matrices in memory, copied before (`before`) where they are none that a kernel
    reads by rows; masks; batch axes, and the axes of rows and keys."""

    def __init__(self, name: str, op: Operation, stored: Mapping[Tensor, Buffer]):
        self.name, self.op = name, op
        self.before: list[Kernel | Emitted] = []
        self.outputs = [stored[t] for t in op.outputs]
        self.dtype: DType = op.outputs[0].dtype
        self.pull = Pull(lambda t, index: None if t not in stored else ir.load(stored[t], index))
        q, k, v, *rest = op.inputs
        self.m, self.n, self.d, self.e = q.sizes[-2], k.sizes[-2], q.sizes[-1], v.sizes[-1]  # type: ignore[index]
        sizes = op.outputs[0].sizes[:-2]  # type: ignore[index]
        self.batch = [Axis(s) for s in sizes]
        self.rows, self.keys = Axis(self.m), Axis(self.n)
        depth, across = Axis(self.d), Axis(self.e)
        self.q, self.k, self.v = (self._matrix(t, *axes) for t, axes in (
            (q, (self.rows, depth)), (k, (self.keys, depth)), (v, (self.keys, across))))
        if len(op.outputs) == 3:
            logsum, delta, dy, *rest = rest
            self.logsum, self.delta = self._matrix(logsum, self.rows), self._matrix(delta, self.rows)
            self.dy = self._matrix(dy, self.rows, across)
        self.masks = [self._operand(t, broadcast_index(t.sizes, self._index(self.rows, self.keys)), (self.rows, self.keys)) for t in rest]
        self.steps, self.scale = op.attrs["steps"], op.attrs["scale"]
        self.hidden = hides(self.steps, 760.0 if self.dtype.code == "f64" else 110.0)

    def _index(self, *last: Axis) -> list[Expr]:
        return [ir.index_const(0) if types.same(a.extent, 1) else ir.axis(a) for a in (*self.batch, *last)]

    def _matrix(self, t: Tensor, *last: Axis) -> Strided:
        """An operand whose columns lie side by side."""
        index = self._index(*last)
        keep = index[len(index) - len(last):]
        own = [*broadcast_index(t.sizes[:-len(last)], index[:-len(last)]), *keep]  # type: ignore[index]
        return self._operand(t, own, (*last, None)[:2], last[1] if len(last) == 2 and not types.same(last[1].extent, 1) else None)

    def _operand(self, t: Tensor, index: Sequence[Expr], last: tuple[Axis | None, ...], across: Axis | None = None) -> Strided:
        """across: the axis whose elements must lie side by side."""
        e = self.pull.at(t, index)
        if e.op == "load" and e.data.dtype is t.dtype:
            f = simplify.affine(simplify.offset(e.data, e.args))
            if all(x.op == "axis" for x in f.terms):
                steps = {x.data: c for x, c in f.terms.items()}
                if across is None or steps.get(across) == 1:
                    return Strided(e.data, f.const, [steps.get(a, 0) for a in self.batch], *(steps.get(a, 0) if a else 0 for a in last))
        return self._dense(e, t.dtype, last, across)

    def _dense(self, e: Expr, dtype: DType, last: tuple[Axis | None, ...], across: Axis | None) -> Strided:
        """A copy, over the axes on which the value depends, and `across`."""
        used = ir.axes_in(e) | {across}
        axes = [a for a in (*self.batch, *last) if a is not None and a in used]
        target = Buffer(dtype, tuple(a.extent for a in axes), "part", "copy")
        stage = Stage(target, tuple(axes), tuple(map(ir.axis, axes)), e)
        buffers = tuple(dict.fromkeys([*(x.data for x in ir.loads(e)), target]))
        self.before.append(Kernel(f"{self.name}_copy", buffers, (stage,), tuple(axes)))
        steps: dict[Any, Size] = {}
        step: Size = 1
        for a in reversed(axes):
            steps[a], step = step, step * a.extent
        return Strided(target, 0, [steps.get(a, 0) for a in self.batch], *(steps.get(a, 0) if a else 0 for a in last))

    @property
    def count(self) -> Size:
        """Matrices in the batch."""
        return types.product(a.extent for a in self.batch)


class _Attention(Operands):
    """One op as kernels."""

    def __init__(self, name: str, op: Operation, stored: Mapping[Tensor, Buffer]):
        super().__init__(name, op, stored)
        self.kind, self.w = self.dtype.code, self.dtype.size
        self.width = blocks.shape(self.kind).width
        self.columns = COLUMNS // self.w
        self.tall = -(-TALL // blocks.shape(self.kind).rows) * blocks.shape(self.kind).rows
        # Whether rows of the operands end with a vector: then no load needs a mask.
        self.whole = all(isinstance(x, int) and x % blocks.shape(self.kind).lanes == 0 for x in (self.d, self.e))

    @property
    def many(self) -> Size:
        """Blocks of rows."""
        return types.ceildiv(self.m, self.tall)

    def _turn(self, t: _Text, x: Strided, what: str, depth: Size) -> None:
        """The block of keys or values at j0 as [depth, key of the block]: vectors run along keys."""
        f = t.call(blocks.transpose(self.kind))
        t.line(f"call_transpose({f}, {what}, {t.at(x, 'j0')}, cols, {t.size(depth)}, {self.columns}, {t.size(x.row)})")

    def _block(self, t: _Text, index: str) -> None:
        """Block `index` of the rows, all of nearly equal height."""
        m, many = t.size(self.m), t.size(self.many)
        t.line(f"i0 = {m} * {index} // {many}")
        t.line(f"rows = {m} * ({index} + 1) // {many} - i0")

    # -- forward

    def forward(self) -> list[Kernel | Emitted]:
        out, logsum = self.outputs
        t, kind, w, steps = _Text(f"attention_{self.kind}", self), self.kind, self.w, self.columns
        block = t.call(blocks.text(kind, PITCH, False, self.whole))
        tall, m, n, d, e = self.tall, t.size(self.m), t.size(self.n), t.size(self.d), t.size(self.e)
        lowest, zero = t.const(float("-inf")), t.const(0.0)
        tasks = (types.hint(self.count) or 0) * -(-(types.hint(self.m) or 0) // tall)
        several = next((g for g in (GROUP, GROUP // 2) if 2 * tasks >= TASKS * g), 1)  # blocks of rows that share turned keys
        groups = types.ceildiv(self.many, several)
        for name, room in (("left", tall * PITCH), ("score", tall * PITCH), ("turned", t.room(self.d) * steps), ("top", tall * GROUP),
                           ("total", tall * GROUP)):
            t.line(f"{name} = stack_{kind}({room})")
        t.open("for o in range(lo, hi):")
        t.line(f"bh = o // {t.size(groups)}")
        t.batches("bh")
        t.line(f"r0 = o % {t.size(groups)} * {t.size(several)}")
        t.line(f"r1 = min(r0 + {t.size(several)}, {t.size(self.many)})")
        t.line(f"base = {m} * r0 // {t.size(self.many)}")
        t.line(f"count = {m} * r1 // {t.size(self.many)} - base")
        t.line(f"y = advance({t.buffer(out)}, (bh * {m} + base) * {e} * {w})")
        t.open("for i in range(count):")
        t.line(f"st_{kind}(top, i, {lowest}, 60)")
        t.line(f"st_{kind}(total, i, {zero}, 61)")
        t.close()
        t.open(f"for j0 in range(0, {n}, {steps}):")
        t.line(f"cols = min({steps}, {n} - j0)")
        self._turn(t, self.k, "turned", self.d)
        t.line(f"v = {t.at(self.v, 'j0')}")
        t.open("for r in range(r0, r1):")
        self._block(t, "r")
        t.line(f"tops = advance(top, (i0 - base) * {w})")
        t.line(f"totals = advance(total, (i0 - base) * {w})")
        self._skip(t, "tops")
        self._queries(t)
        t.line(f"call_block({block}, left, turned, score, rows, cols, 1, {d}, 0, 0, {steps}, {self.width}, {PITCH}, 0)")
        t.open("for i in range(rows):")
        t.line(f"s = advance(score, i * {PITCH * w})")
        t.line(f"best = {lowest}")
        self._mask_rows(t)
        t.open("for c in range(cols):")
        self._masked(t, False)
        if self.steps:
            t.line(f"st_{kind}(s, c, x, 62)")
        t.line("best = fmax(best, x)")
        t.close()
        t.line(f"old = ld_{kind}(tops, i, 60)")
        t.line("new = fmax(old, best)")
        t.line(f"st_{kind}(tops, i, new, 60)")
        t.line(f"safe = select(new == {lowest}, {zero}, new)")
        t.line(f"row = {zero}")
        t.open("for c in range(cols):")
        t.line(f"x = exp_{kind}(ld_{kind}(s, c, 62) - safe)")
        t.line(f"st_{kind}(s, c, x, 62)")
        t.line("row = radd(row, x)")
        t.close()
        t.open("if j0 > 0:")
        t.line(f"less = exp_{kind}(old - safe)")
        t.line(f"row = row + ld_{kind}(totals, i, 61) * less")
        t.open(f"if less != {t.const(1.0)}:")
        t.line(f"z = advance(y, (i0 - base + i) * {e} * {w})")
        t.open(f"for c in range({e}):")
        t.line(f"st_{kind}(z, c, ld_{kind}(z, c, 59) * less, 59)")
        t.close(3)
        t.line(f"st_{kind}(totals, i, row, 61)")
        t.close()
        t.line(f"call_block({block}, score, v, advance(y, (i0 - base) * {e} * {w}), rows, {e}, 1, cols, 0, 0, {t.size(self.v.row)}, "
               f"{self.width}, {e}, j0)")
        t.close(2)
        t.open(f"if {n} == 0:")
        t.line(f"zero_{kind}(y, count * {e})")
        t.close()
        t.line(f"z = advance({t.buffer(logsum)}, (bh * {m} + base) * {w})")
        t.open("for i in range(count):")
        t.line(f"row = ld_{kind}(total, i, 61)")
        t.line(f"best = ld_{kind}(top, i, 60)")
        t.line(f"safe = select(best == {lowest}, {zero}, best)")
        t.line(f"st_{kind}(z, i, safe + log_{kind}(row), 58)")
        t.line(f"part = select({n} == 0, {zero}, {t.const(1.0)} / row)")
        t.line(f"u = advance(y, i * {e} * {w})")
        t.open(f"for c in range({e}):")
        t.line(f"st_{kind}(u, c, ld_{kind}(u, c, 59) * part, 59)")
        t.close(3)
        flops = 2 * self.count * self.m * self.n * (self.d + self.e)
        return [*self.before, t.finish(self.count * groups, self._work(flops, self.count * groups), [out, logsum], flops)]

    def _work(self, flops: Size, tasks: Size) -> Size:
        return max(1, (types.hint(flops) or 1) // max(1, 16 * (types.hint(tasks) or 1)))

    def _queries(self, t: _Text) -> None:
        """The block of queries, scaled, into `left`."""
        t.line(f"q = {t.at(self.q, 'i0')}")
        t.open("for i in range(rows):")
        t.open(f"for c in range({t.size(self.d)}):")
        t.line(f"st_{self.kind}(left, i * {PITCH} + c, ld_{self.kind}(q, i * {t.size(self.q.row)} + c, 56) * {t.const(self.scale)}, 55)")
        t.close(2)

    def _skip(self, t: _Text, scores: str) -> None:
        """On to the next block of rows, where this one lies above the diagonal and no row needs it."""
        if self.hidden is None:
            return
        offset, enough = self.hidden
        t.open(f"if j0 > i0 + rows - 1 + {offset}:")
        t.line("needed = 0")
        t.open("for i in range(rows):")
        t.open(f"if not ld_{self.kind}({scores}, i, 60) > {t.const(enough)}:")
        t.line("needed = 1")
        t.close(2)
        t.open("if needed == 0:")
        t.line("continue")
        t.close(2)

    # -- masks

    def _mask_rows(self, t: _Text) -> None:
        """Where each mask starts for row i0 + i and column j0."""
        for k, x in enumerate(self.masks):
            t.line(f"m{k} = advance({t.at(x, '(i0 + i)')}, j0 * {t.size(x.column)} * {x.buffer.dtype.size})")
        t.line("diagonal = i0 + i - j0")

    def _masked(self, t: _Text, slope: bool) -> None:
        """x, the score of column c after all steps; and `slope`, what its gradient is multiplied by."""
        kind = self.kind
        t.line(f"x = ld_{kind}(s, c, 62)")
        if slope:
            t.line(f"slope = {t.const(self.scale)}")
        for what, source, fill in self.steps:
            if source is None:
                value = t.const(fill)
            elif isinstance(source, int):
                mask = self.masks[source]
                value = f"ld_{mask.buffer.dtype.code}(m{source}, c * {t.size(mask.column)}, {40 + source if source < 10 else 99})"
            elif what in ("keep", "drop"):
                offset, below, above = source
                value = f"c <= diagonal + {offset}" if below else f"c > diagonal + {offset}"
                if bool(below) == bool(above):
                    value = "c >= 0" if below else "c < 0"
            else:
                offset, below, above = source
                value = f"select(c <= diagonal + {offset}, {t.const(below)}, {t.const(above)})"
            if what in ("keep", "drop"):
                t.line(f"held = {value}")
                order = ("x", t.const(fill)) if what == "keep" else (t.const(fill), "x")
                t.line(f"x = select(held, {order[0]}, {order[1]})")
                if slope:
                    order = ("slope", t.const(0.0)) if what == "keep" else (t.const(0.0), "slope")
                    t.line(f"slope = select(held, {order[0]}, {order[1]})")
                continue
            t.line(f"x = x {dict(scale='*', mul='*', add='+', sub='-')[what]} {value}")
            if slope and what in ("scale", "mul"):
                t.line(f"slope = slope * {value}")

    # -- backward

    def backward(self) -> list[Kernel | Emitted]:
        dq, dk, dv = self.outputs
        t, kind, w, steps = _Text(f"attention_gradient_{self.kind}", self), self.kind, self.w, self.columns
        block, across = t.call(blocks.text(kind, PITCH, False, self.whole)), t.call(blocks.text(kind, None, False, self.whole))
        tall, n, m, d, e = self.tall, t.size(self.n), t.size(self.m), t.size(self.d), t.size(self.e)
        cut: Size = CUT if (types.hint(self.count) or 0) < TASKS and (types.hint(self.n) or 0) > CUT else 0
        cuts = types.ceildiv(self.n, cut) if cut else 1
        sums = Buffer(self.dtype, (cuts, self.count, self.m, self.d), "part", "sums") if cut else dq
        for name in ("left", "score", "slopes", "far"):
            t.line(f"{name} = stack_{kind}({tall * PITCH})")
        t.line(f"k_right = stack_{kind}({t.room(self.d) * steps})")
        t.line(f"v_right = stack_{kind}({t.room(self.e) * steps})")
        for name in ("level", "shift"):
            t.line(f"{name} = stack_{kind}({tall})")
        t.open("for o in range(lo, hi):")
        t.line(f"bh = o // {t.size(cuts)}")
        t.line(f"part = o % {t.size(cuts)}")
        t.batches("bh")
        t.line(f"first = part * {t.size(cut)}" if cut else "first = part")
        t.line(f"last = min(first + {t.size(cut)}, {n})" if cut else f"last = {n}")
        t.line(f"to_q = advance({t.buffer(sums)}, (part * {t.size(self.count)} + bh) * {m} * {d} * {w})")
        if self.hidden is None:
            t.open("if first >= last:")
        t.line(f"zero_{kind}(to_q, {m} * {d})")
        if self.hidden is None:
            t.close()
        t.open(f"for j0 in range(first, last, {steps}):")
        t.line(f"cols = min({steps}, last - j0)")
        self._turn(t, self.k, "k_right", self.d)
        self._turn(t, self.v, "v_right", self.e)
        t.line(f"k = {t.at(self.k, 'j0')}")
        t.line(f"to_k = advance({t.buffer(dk)}, (bh * {n} + j0) * {d} * {w})")
        t.line(f"to_v = advance({t.buffer(dv)}, (bh * {n} + j0) * {e} * {w})")
        t.line("began = 0")
        t.open(f"for r in range({t.size(self.many)}):")
        self._block(t, "r")
        t.line(f"z = {t.at(self.logsum, 'i0')}")
        t.line(f"u = {t.at(self.delta, 'i0')}")
        t.open("for i in range(rows):")
        t.line(f"st_{kind}(level, i, ld_{kind}(z, i * {t.size(self.logsum.row)}, 54), 60)")
        t.line(f"st_{kind}(shift, i, ld_{kind}(u, i * {t.size(self.delta.row)}, 53), 61)")
        t.close()
        self._skip(t, "level")
        self._queries(t)
        t.line(f"g = {t.at(self.dy, 'i0')}")
        t.open("for i in range(rows):")
        t.line(f"copy_{kind}(advance(far, i * {PITCH * w}), advance(g, i * {t.size(self.dy.row)} * {w}), {e})")
        t.close()
        t.line(f"call_block({block}, left, k_right, score, rows, cols, 1, {d}, 0, 0, {steps}, {self.width}, {PITCH}, 0)")
        t.line(f"call_block({block}, far, v_right, slopes, rows, cols, 1, {e}, 0, 0, {steps}, {self.width}, {PITCH}, 0)")
        t.open("for i in range(rows):")
        t.line(f"s = advance(score, i * {PITCH * w})")
        t.line(f"y = advance(slopes, i * {PITCH * w})")
        t.line(f"height = ld_{kind}(level, i, 60)")
        t.line(f"less = ld_{kind}(shift, i, 61)")
        self._mask_rows(t)
        t.open("for c in range(cols):")
        slope = any(what not in ("add", "sub") for what, _, _ in self.steps)
        self._masked(t, slope)
        t.line(f"x = exp_{kind}(x - height)")
        t.line(f"st_{kind}(s, c, x, 62)")
        t.line(f"st_{kind}(y, c, x * (ld_{kind}(y, c, 59) - less) * {'slope' if slope else t.const(self.scale)}, 59)")
        t.close(2)
        t.line(f"call_block({across}, score, g, to_v, cols, {e}, 1, rows, 0, {PITCH}, {t.size(self.dy.row)}, {self.width}, {e}, began)")
        t.line(f"call_block({across}, slopes, q, to_k, cols, {d}, 1, rows, 0, {PITCH}, {t.size(self.q.row)}, {self.width}, {d}, began)")
        t.line(f"call_block({block}, slopes, k, advance(to_q, i0 * {d} * {w}), rows, {d}, 1, cols, 0, 0, {t.size(self.k.row)}, "
               f"{self.width}, {d}, {'j0 - first' if self.hidden is None else 1})")
        t.line("began = 1")
        t.close()
        t.open("if began == 0:")
        t.line(f"zero_{kind}(to_k, cols * {d})")
        t.line(f"zero_{kind}(to_v, cols * {e})")
        t.close(3)
        flops = 2 * self.count * self.m * self.n * (3 * self.d + 2 * self.e)
        made = t.finish(self.count * cuts, self._work(flops, self.count * cuts), list(dict.fromkeys([dk, dv, sums])), flops)
        return [*self.before, made, *([self._summed(sums, dq, cuts)] if cut else [])]

    def _summed(self, sums: Buffer, dq: Buffer, cuts: Size) -> Kernel:
        """The parts of the queries' gradient added up in order."""
        n = self.count * self.m * self.d
        i, r = Axis(n), Axis(cuts)
        value = ir.make("at", (ir.axis(r) * ir.size(n) + ir.axis(i),), self.dtype, sums)
        stage = Stage(dq, (i, r), (ir.axis(i),), value, "add", (r,))
        return Kernel(f"{self.name}_total", (sums, dq), (stage,), (i,))


def hides(steps: Sequence[Any], most: float) -> tuple[int, float] | None:
    """(offset, bound) when scores right of column row + offset vanish beside any score above `bound`.

    A mask that is put in place of a score hides it exactly; one that is added hides scores that are small beside it.
    """
    for what, source, fill in reversed(steps):
        if what in ("mul", "scale") or source is None:
            return None
        if isinstance(source, int):
            continue
        offset, below, above = source
        if what == "keep" and below and not above or what == "drop" and above and not below:
            return (offset, fill + most) if fill < 0 else None
        taken = -above if what == "add" else above if what == "sub" else 0.0
        if taken >= HIDDEN:
            return offset, -taken / 2
    return None


class _Text:
    """Lines of a kernel text, its buffers, sizes and constants."""

    def __init__(self, label: str, made: _Attention):
        self.label, self.made = label, made
        self.lines: list[str] = []
        self.level = 1
        self.buffers: dict[Buffer, str] = {}
        self.sizes: dict[Size, str] = {}
        self.consts: dict[str, str] = {}
        self.parameters: dict[int, str] = {}  # by their bits
        self.calls: dict[str, str] = {}

    def line(self, text: str) -> None:
        self.lines.append("    " * self.level + text)

    def open(self, text: str) -> None:
        self.line(text)
        self.level += 1

    def close(self, levels: int = 1) -> None:
        self.level -= levels

    def buffer(self, b: Buffer) -> str:
        return self.buffers.setdefault(b, f"p{len(self.buffers)}")

    def call(self, source: str) -> str:
        return self.calls.setdefault(source, f"f{len(self.calls)}")

    def size(self, n: Size) -> str:
        """A literal where it decides how code is made, else a parameter, so that one text serves many shapes."""
        if isinstance(n, int) and 0 <= n <= 1:
            return str(n)
        return self.sizes.setdefault(n, f"s{len(self.sizes)}")

    def const(self, x: float) -> str:
        """A number of the kernel's dtype: a literal where it decides how code is made, else a parameter."""
        if x in PLAIN:
            text = repr(float(x)).replace("inf", "np.inf")
            return self.consts.setdefault(text, f"k{len(self.consts)}")
        number, bits = {"f32": (np.float32, np.int32), "f64": (np.float64, np.int64)}[self.made.kind]
        return self.parameters.setdefault(int(np.asarray(x, number).view(bits)), f"x{len(self.parameters)}")

    def room(self, n: Size) -> int:
        """Elements of scratch for a row of n."""
        assert isinstance(n, int)
        return -(-n // 64) * 64

    def batches(self, flat: str) -> None:
        """Names the places along the batch axes of which `flat` is the row-major position."""
        rest = flat
        for k in range(len(self.made.batch) - 1, -1, -1):
            extent = self.size(self.made.batch[k].extent)
            self.line(f"b{k} = {rest} % {extent}" if k else f"b0 = {rest}")
            if k:
                self.line(f"left{k} = {rest} // {extent}")
                rest = f"left{k}"

    def at(self, x: Strided, row: str) -> str:
        """The address of the first column of a row, in the matrix of this task."""
        terms = [f"b{k} * {self.size(s)}" for k, s in enumerate(x.batch) if not (isinstance(s, int) and s == 0)]
        terms += [f"{row} * {self.size(x.row)}", self.size(x.offset)]
        return f"advance({self.buffer(x.buffer)}, ({' + '.join(terms)}) * {x.buffer.dtype.size})"

    def finish(self, extent: Size, work: Size, writes: list[Buffer], flops: Size) -> Emitted:
        number = {"f32": "float32", "f64": "float64"}[self.made.kind]
        head = [f"# {self.label}", *[f"{n} = np.{number}({value})" for value, n in self.consts.items()], "def kernel(B, S, lo, hi):"]
        head += [f"    {n} = buf(B, {i})" for i, n in enumerate([*self.buffers.values(), *self.calls.values()])]
        head += [f"    {n} = S[{i}]" for i, n in enumerate(self.sizes.values())]
        bits = "bits_i32_f32(to_i32(S[{}]))" if self.made.kind == "f32" else "bits_i64_f64(S[{}])"
        head += [f"    {n} = {bits.format(len(self.sizes) + i)}" for i, n in enumerate(self.parameters.values())]
        source = "\n".join([*head, *self.lines, "    return 0", ""])
        return Emitted(source, list(self.buffers), [*self.sizes, *self.parameters], extent, work, [], False, flops, tuple(self.calls),
                       tuple(writes))
