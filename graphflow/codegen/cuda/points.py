"""Kernels in which a thread takes points of the outer axes: maps, short loops inside, transpositions, scatters.

Knows Kernel IR and the spelling of words; knows no op and no driver (rank 4).
"""
from __future__ import annotations

from dataclasses import replace
from typing import Sequence

from ... import types
from ...types import Size
from .. import ir, simplify
from ..ir import Axis, Buffer, Expr, Stage
from ..schedule import inner_axes, scatters
from .cut import BLOCKS, BUSY, SHORT, THREADS, count
from .device_text import LONG, Text, Unsupported
from .launch import Launch, Many
from .offsets import steps_over

MANY_GROUPS = 1 << 20  # groups of neighbours from which a thread takes two
SIDE = 32  # of a square


def threads_of(work: Size) -> int:
    """Threads of a block: fewer where there is little work, so that all processors have some."""
    n = types.hint(work)
    return THREADS if n is None or n >= BLOCKS * THREADS else 128 if n >= BLOCKS * 128 else 64


class Points(Text):
    """Forms for points of the outer axes."""

    def points(self) -> Launch:
        """A thread computes neighbours in the row-major order of the outer axes: as many as one access of 16 bytes holds."""
        rows = self.kernel.outer
        total = types.product(a.extent for a in rows)
        lanes = self._point_lanes(rows[-1].extent if rows else 1, total)
        whole = bool(rows) and isinstance(rows[-1].extent, int) and rows[-1].extent % lanes == 0
        work = types.floordiv(total, lanes) if whole else types.floordiv(total + lanes * (lanes - 1), lanes)
        threads = threads_of(work)
        turns = self._turns(work, threads) if whole else 1
        if turns > 1:
            self.open(f"for turn in unroll({turns}):")
            self.place("quad", f"({self.index_of('block()')} * {turns} + turn) * {threads} + thread()")
        else:
            self.place("quad", f"{self.index_of('block()')} * {threads} + thread()")
        if not whole:
            return self._ragged(total, lanes, threads)
        if not isinstance(work, int) or work % threads:
            self.open(f"if quad < {self.size(work)}:")
        quads = Axis(rows[-1].extent // lanes, name="q")  # type: ignore[operator]
        self.unflatten((*rows[:-1], quads), "quad")
        if lanes == 1:
            self.bind(rows[-1], self.axis_name[quads])
            self._stages()
        else:
            self.neighbours(self.kernel.stages, rows[-1], quads, lanes, self._stages)
        while len(self.stack) > 1:
            self.close()
        return self.launch((types.ceildiv(work, threads * turns), 1, 1), threads)

    def _turns(self, work: Size, threads: int) -> int:
        """Groups of neighbours that a thread takes: two where there are many and little is done, so that blocks are fewer."""
        nodes = sum(1 for s in self.kernel.stages for _ in ir.walk(s.expr))
        many = isinstance(work, int) and work >= MANY_GROUPS and work % (2 * threads) == 0
        return 2 if many and nodes <= LONG // 2 and not self.alias else 1

    def _ragged(self, total: Size, lanes: int, threads: int) -> Launch:
        """Points whose last axis is no multiple: neighbours across rows; what is left at the end is for threads of their own."""
        n = self.size(total)
        if lanes == 1:
            self.open(f"if quad < {n}:")
            self._point("quad")
            self.close()
            return self.launch((types.ceildiv(total, threads), 1, 1), threads)
        self._in_order(n, lanes)
        return self.launch((types.ceildiv(total + lanes * (lanes - 1), threads * lanes), 1, 1), threads)

    def _in_order(self, n: str, lanes: int) -> None:
        """Neighbours in row-major order, `n` in all."""
        rows = self.kernel.outer
        flat = simplify.affine(simplify.offset(Buffer(types.float32, tuple(a.extent for a in rows), "in"), [ir.axis(a) for a in rows]))

        def spot(index: Expr) -> str | None:
            f = simplify.affine(index)
            same = f.terms.keys() == flat.terms.keys() and all(simplify._equal(c, flat.terms[e]) for e, c in f.terms.items())
            return "first" if same and isinstance(f.const, int) and f.const == 0 else None

        known = n.isdigit()
        self.line(f"quads = {int(n) // lanes if known else f'udiv({n}, {lanes})'}")
        self.open("if quad < quads:")
        self.place("first", f"quad * {lanes}")
        with self.side_by_side(self.kernel.stages, spot, lanes):
            self.place("at", "first + u")
            self.unflatten(rows, "at")
            self._stages()
        self.close()
        self.open(f"elif quad < quads + {int(n) % lanes if known else f'umod({n}, {lanes})'}:")
        self.place("at", f"quad + quads * {lanes - 1}")
        self._point("at")
        self.close()

    def many(self) -> Many:
        """The points of several kernels that are alike but for their buffers, their constants and how many points they have."""
        (a,) = self.kernel.outer or (None,)
        lanes = 1 if a is None else self._most_lanes(self.kernel.stages, a)
        self.place("quad", "start + thread()")
        if lanes > 1:
            self._in_order("n", lanes)
        else:
            self.open("if quad < n:")
            self._point("quad")
            self.close()
        sizes: list[Size] = [1 if a is None else a.extent, *self.sizes, *[bits for _, bits in self.parameters.values()]]
        width, first = len(self.buffers) + 1 + len(sizes), len(self.buffers)
        start = [f"base = block() * {width}", *[f"p{i} = pointer(table, base + {i})" for i in range(first)]]
        start += [f"{name} = to_i32(ld_i64(table, base + {first + i}, 99))" for i, name in enumerate(("start", "n", *self.sizes.values()))]
        start += [f"{n}b = ld_i64(table, base + {width - len(self.parameters) + i}, 99)" for i, n in enumerate(self.parameters)]
        return Many(self._written("p", ["table"], start, THREADS), sizes, lanes, THREADS)

    def _point_lanes(self, last: Size, total: Size) -> int:
        """Neighbours that a thread takes: what 16 bytes of the widest element hold, fewer where rows have no multiple of that."""
        lanes = self._most_lanes(self.kernel.stages, self.kernel.outer[-1] if self.kernel.outer else None)
        if (types.hint(total) or 0) < lanes:
            return 1
        found = lanes
        while found > 1 and not (isinstance(last, int) and last % found == 0):
            found //= 2
        return found if found * 2 >= lanes and found > 1 else lanes

    def _point(self, flat: str) -> None:
        self.unflatten(self.kernel.outer, flat)
        self._stages()

    def _stages(self) -> None:
        """All stages at one point; loads come before the first store where they may."""
        values: list[tuple[Stage, str]] = []
        reads = {e.data for s in self.kernel.stages for e in ir.walk(s.expr, *s.index) if e.op == "at"}
        for s in self.kernel.stages:
            values.append((s, self.value(s.expr)))
            if s.target in reads or s.target in self.alias:
                self.flush(values)
        self.flush(values)

    def flush(self, values: list[tuple[Stage, str]]) -> None:
        for s, v in values:
            if s.target.role == "tmp":
                self.stack[-1].names[ir.make("at", s.index, s.target.dtype.compute, s.target)] = v
            else:
                self._store(s, v)
                self.stack[-1].names[ir.make("at", s.index, s.target.dtype.compute, s.target)] = self._again(s, v)
        values.clear()

    def _again(self, s: Stage, v: str) -> str:
        """A stored value as it would be read: rounded to its dtype."""
        return v if s.target.dtype is s.target.dtype.compute else f"to_{s.target.dtype.code}({v})"

    def threads(self) -> Launch:
        """A thread takes an outer point and runs all loops inside."""
        total = types.product(a.extent for a in self.kernel.outer)
        if (lanes := self._window_lanes(total)) > 1:
            return self._windows(lanes)
        threads = threads_of(total)
        self.place("flat", f"{self.index_of('block()')} * {threads} + thread()")
        self.open(f"if flat < {self.size(total)}:")
        self.unflatten(self.kernel.outer, "flat")
        self._row_body()
        self.close()
        return self.launch((types.ceildiv(total, threads), 1, 1), threads)

    def _window_lanes(self, total: Size) -> int:
        """Neighbouring points that a thread takes together: where short folds of all inside run along the outer axes."""
        folds, *rest = self.plan.groups
        last, inner = self.kernel.outer[-1].extent, inner_axes(folds[0], self.kernel)
        short = all(isinstance(a.extent, int) and a.bound is None for a in inner) and count(inner) <= SHORT
        if not inner or not short or not all(s.combine and not s.scan and not scatters(s) and set(inner) == set(s.reduced) for s in folds):
            return 1
        if any(inner_axes(s, self.kernel) or s.combine or s.scan for g in rest for s in g) or not isinstance(last, int):
            return 1
        lanes = self._most_lanes(folds, self.kernel.outer[-1])
        while lanes > 1 and (last % lanes or (types.hint(total) or 0) < BUSY * lanes // 4):
            lanes //= 2
        along = any(e.op == "at" and self._aligned(e.args[0], self.kernel.outer[-1], lanes) for s in folds for e in ir.walk(s.expr))
        return lanes if along else 1

    def _windows(self, lanes: int) -> Launch:
        """Short folds, as of pooling, at neighbouring points: the places inside are written out, each is loaded for all points at once."""
        (folds, *rest), (*before, last) = self.plan.groups, self.kernel.outer
        quads = Axis(last.extent // lanes, name="q")  # type: ignore[operator]
        work = types.product([*(a.extent for a in before), quads.extent])
        self.place("quad", f"{self.index_of('block()')} * {THREADS} + thread()")
        self.open(f"if quad < {self.size(work)}:")
        self.unflatten((*before, quads), "quad")
        accs = {s: f"acc{k}" for k, s in enumerate(folds)}
        for s, acc in accs.items():
            self.line(f"{acc} = stack_{s.expr.dtype.code}({lanes})")
            self.open(f"for u in unroll({lanes}):")
            self.line(f"st_{s.expr.dtype.code}({acc}, u, {self._neutral(s)}, 99)")
            self.close()

        def step() -> None:
            for s, acc in accs.items():
                code = s.expr.dtype.code
                v = self.combine(s.combine or "", s.expr.dtype, f"ld_{code}({acc}, u, 99)", self.value(s.expr))
                self.line(f"st_{code}({acc}, u, {v}, 99)")

        def end() -> None:
            for s, acc in accs.items():
                v = f"ld_{s.expr.dtype.code}({acc}, u, 99)"
                if s.init is not None:
                    v = self.combine(s.combine or "", s.expr.dtype, self.value(s.init), v)
                self._keep(s, v)
            for s in (s for g in rest for s in g):
                self._keep(s, self.value(s.expr))

        inner = inner_axes(folds[0], self.kernel)
        for a in inner:
            self.open(f"for {a.name} in unroll({a.extent}):")
            self.bind(a, a.name)
        self.neighbours([replace(s, target=Buffer(s.target.dtype, s.target.sizes, "tmp")) for s in folds], last, quads, lanes, step)
        for _ in inner:
            self.close()
        nothing = {s: ir.const(ir.neutral(s.combine or "", s.expr.dtype), s.expr.dtype) for s in folds}
        plain = [replace(s, expr=nothing[s], combine=None, reduced=(), axes=self.kernel.outer) for s in folds]
        self.neighbours([*plain, *(s for g in rest for s in g)], last, quads, lanes, end)
        self.close()
        return self.launch((types.ceildiv(work, THREADS), 1, 1), THREADS)

    def _keep(self, s: Stage, v: str) -> None:
        """The value of a stage at the present point, under its name, and in memory where it has a place there."""
        name = self.name()
        self.line(f"{name} = {v}")
        if s.target.role != "tmp":
            self._store(s, name)
        self.stack[-1].names[ir.make("at", s.index, s.target.dtype.compute, s.target)] = self._again(s, name)

    def _ask_for_next_row(self, group: Sequence[Stage]) -> None:
        """Nothing to ask for: other warps work while this one waits."""

    def updates(self) -> Launch:
        """A scatter: threads take updates that cannot meet, and run one after the other through those that can."""
        (s,) = self.kernel.stages
        if s.init is not None or s.target.dtype.kind == "c" and s.combine != "set":
            raise Unsupported(f"updates of {s.target.dtype.name} combined by {s.combine!r} in one place")
        apart = [a for a in s.axes if self._apart(s, a)]
        code, b = s.target.dtype.code, self.alias.get(s.target, s.target)
        atomic = s.combine in ("add", "mul", "max", "min") and s.target.dtype.kind != "b" and (
            s.combine != "mul" and s.target.dtype.kind in "iu" and s.target.dtype.size >= 4)
        atomic = atomic or s.combine == "add" and code in ("f32", "f64") and not self.deterministic()
        taken = list(s.axes) if atomic else apart
        if s.combine == "set" and len(apart) == len(s.axes) and (lanes := self._set_lanes(s)) > 1:
            return self._set(s, lanes)
        total = types.product(a.extent for a in taken)
        threads = threads_of(total)
        self.place("flat", f"{self.index_of('block()')} * {threads} + thread()")
        self.open(f"if flat < {self.size(total)}:")
        self.unflatten(taken, "flat")
        for a in s.axes:
            if a not in taken:
                self.loop(a)
        where, v = self.value(s.index[0]), self.value(s.expr)
        places = types.product(s.target.sizes)
        if isinstance(places, types.Dim) or places == 0:
            self.open(f"if {self.size(places)} > 0:")  # checks have failed: there is no place to write to
        if atomic:
            self.line(f"atomic_{s.combine}_{code}(p{self.scope[b]}, {where}, {v})")
        else:
            if s.combine != "set":
                v = self.combine(s.combine or "", s.expr.dtype, f"ld_{code}(p{self.scope[b]}, {where}, 99)", v)
            self.line(f"st_{code}(p{self.scope[b]}, {where}, {v}, 99)")
        while len(self.stack) > 1:
            self.close()
        return self.launch((types.ceildiv(total, threads), 1, 1), threads)

    def _set_lanes(self, s: Stage) -> int:
        """Neighbours that a thread sets: a piece of an array that goes elsewhere as a whole."""
        a = s.axes[-1]
        lanes = self._most_lanes([replace(s, combine=None)], a)
        while lanes > 1 and not (isinstance(a.extent, int) and a.extent % lanes == 0 and self._aligned(s.index[0], a, lanes)):
            lanes //= 2
        return lanes

    def _set(self, s: Stage, lanes: int) -> Launch:
        *others, last = s.axes
        quads = Axis(last.extent // lanes, name="q")  # type: ignore[operator]
        work = types.product([*(a.extent for a in others), quads.extent])
        threads = threads_of(work)
        self.place("quad", f"{self.index_of('block()')} * {threads} + thread()")
        self.open(f"if quad < {self.size(work)}:")
        self.unflatten((*others, quads), "quad")
        plain = replace(s, combine=None)
        self.neighbours([plain], last, quads, lanes, lambda: self._store(plain, self.value(s.expr)))
        self.close()
        return self.launch((types.ceildiv(work, threads), 1, 1), threads)

    def _apart(self, s: Stage, a: Axis) -> bool:
        """Whether different values of `a` always hit different elements: the offset is `stride * a` plus what skips over it."""
        form = simplify.affine(s.index[0])
        step = form.terms.get(ir.axis(a), 0)
        if any(e.op != "axis" and a in ir.axes_in(e) for e in form.terms) or not isinstance(step, int) or step == 0:
            return False
        reach = step * a.extent
        return all(e.op == "axis" and e.data is a or steps_over(c, step, reach, e) for e, c in form.terms.items())

    def deterministic(self) -> bool:
        from ...flags import flags

        return bool(flags.deterministic)

    def squares(self, a: Axis, lane: Axis, loads: Sequence[Expr]) -> Launch:
        """Squares of 32 x 32 elements: read along one axis, written along the other; a row of padding keeps the banks apart."""
        others = [x for x in self.kernel.outer if x not in (a, lane)]
        across, down = types.ceildiv(lane.extent, SIDE), types.ceildiv(a.extent, SIDE)
        pitch = SIDE + 1
        for k, e in enumerate(loads):
            self.line(f"square{k} = shared_{e.dtype.code}({SIDE * pitch}, {k})")
        self.place("tile", self.index_of("block()"))
        self.line(f"x = thread() % {SIDE}")
        self.line(f"y = thread() // {SIDE}")
        self.place("left", f"umod(tile, {self.size(across)}) * {SIDE}")
        self.place("rest", f"udiv(tile, {self.size(across)})")
        self.place("top", f"umod(rest, {self.size(down)}) * {SIDE}")
        self.place("others", f"udiv(rest, {self.size(down)})")
        self.unflatten(others, "others")
        steps = SIDE * SIDE // THREADS

        def visit(along: Axis, start: str, over: Axis, first: str) -> None:
            self.open(f"for k in unroll({steps}):")
            self.place(along.name, f"{start} + x")
            self.place(over.name, f"{first} + y + k * {SIDE // steps}")
            self.open(f"if ({along.name} < {self.size(along.extent)}) & ({over.name} < {self.size(over.extent)}):")
            self.bind(along, along.name)  # here: what depends on them is computed inside
            self.bind(over, over.name)

        visit(a, "top", lane, "left")
        for k, e in enumerate(loads):
            self.line(f"st_{e.dtype.code}(square{k}, (y + k * {SIDE // steps}) * {pitch} + x, {self.value(e)}, {60 + k})")
        self.close()
        self.close()
        self.line("barrier()")
        visit(lane, "left", a, "top")
        for k, e in enumerate(loads):
            t = self.name()
            self.line(f"{t} = ld_{e.dtype.code}(square{k}, x * {pitch} + y + k * {SIDE // steps}, {60 + k})")
            self.stack[-1].names[e] = t
        self._stages()
        self.close()
        self.close()
        total = types.product([across, down, *(x.extent for x in others)])
        return self.launch((total, 1, 1), THREADS)
