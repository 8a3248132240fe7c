"""Kernels in which threads share what is inside an outer point: folds and scans of rows, or of columns next to each other.

Knows Kernel IR and the spelling of words; knows no op and no driver (rank 4).
"""
from __future__ import annotations

from dataclasses import replace
from typing import Mapping, Sequence

from ... import types
from ...types import Size
from .. import ir
from ..ir import Axis, Expr, Stage
from ..schedule import HEAVY, inner_axes
from .cut import BUSY, THREADS, WARP, column_width, count
from .device_text import Text, Unsupported
from .launch import LIMIT, Launch

TEAMS = WARP, 128, 256, 512, 1024  # threads that share a row
REGISTERS = 48  # values of a row that a thread keeps
TURNS = 32  # elements of a row that a thread takes, at most, written out one by one


def _without(root: Expr, known: set[Expr]) -> Expr:
    """An expression with what is known already left out, for a look at what is to be loaded."""
    return ir.rewrite(root, lambda e, args: ir.const(0, e.dtype) if e in known and e.dtype.kind != "c" else ir.rebuilt(e, args))


class Rows(Text):
    """Forms for rows."""

    def rows(self) -> Launch:
        """A warp or a block takes a row: each thread some of its elements; folds end in shuffles."""
        rows = types.product(a.extent for a in self.kernel.outer)
        team = self._team(rows)
        self.team, per = team, max(4 * WARP // team, 1)
        if per > 1:
            self.line(f"x = thread() % {WARP}")
            self.place("row", f"{self.index_of('block()')} * {per} + thread() // {WARP}")
            self.open(f"if row < {self.size(rows)}:")
        else:
            self.line("x = thread()")
            self.place("row", self.index_of("block()"))
        self._body("row", "barrier()" if per == 1 else "barrier_warp()")
        return self.launch((types.ceildiv(rows, per), 1, 1), max(team, 4 * WARP))

    def columns(self) -> Launch:
        """Neighbouring threads take neighbouring outer points; those of a block that have the same one share what is inside."""
        width, total = column_width(self.kernel), types.product(a.extent for a in self.kernel.outer)
        self.team, self.width = THREADS // width, width
        self.place("column", f"{self.index_of('block()')} * {width} + thread() % {width}")
        self.line(f"x = thread() // {width}")
        if not isinstance(total, int) or total % width:  # threads past the end do what the last point's do, but no loads and stores
            self.line(f"x = select(column < {self.size(total)}, x, {LIMIT})")
            self.place("column", f"min(column, {self.size(total)} - 1)")
        self._body("column", "barrier()")
        return self.launch((types.ceildiv(total, width), 1, 1), THREADS)

    def _body(self, flat: str, wait: str) -> None:
        """Everything at one outer point, by a team of threads."""
        self.unflatten(self.kernel.outer, flat)
        self.kept: dict[tuple[Expr, tuple[Axis, ...]], str] = {}  # by value and the places at which it was computed
        groups = self.plan.groups
        for number, group in enumerate(groups):
            if number and self._meets(group, groups[:number]):
                self.line(wait)
            self._row(group, groups[number + 1:])
        while len(self.stack) > 1:
            self.close()

    def _team(self, rows: Size) -> int:
        """Threads that share a row: so many that what each keeps of it fits in registers, and that all processors have work."""
        widest = max(count(inner_axes(s, self.kernel)) for s in self.kernel.stages)
        inner = {a for s in self.kernel.stages for a in inner_axes(s, self.kernel)}
        values = {e for s in self.kernel.stages for e in ir.walk(s.expr) if (e.op == "at" and e.data.role != "tmp" or e.op in HEAVY)
                  and ir.axes_in(e) & inner}
        each = TURNS if len(values) < 2 else TURNS // 2 if len(values) < 3 else TURNS // 4
        team = next(t for t in TEAMS if t * each >= widest or t == TEAMS[-1])
        if not self.kernel.outer:
            return max(team, 128)
        many = types.hint(rows)
        for larger in TEAMS[TEAMS.index(team) + 1:]:
            if many is not None and many * larger <= BUSY and larger * 4 <= widest:
                team = larger
        return team

    def _meets(self, group: Sequence[Stage], before: Sequence[Sequence[Stage]]) -> bool:
        """Whether a group reads or changes memory that an earlier one of this kernel has written."""
        written = {s.target for g in before for s in g if s.target.role != "tmp"}
        return any(s.target in written or e.op == "at" and e.data in written for s in group for e in ir.walk(s.expr, *s.index))

    def _row(self, group: Sequence[Stage], later: Sequence[Sequence[Stage]]) -> None:
        if group[0].scan is not None:
            self._running(group[0])
            return
        inner = inner_axes(group[0], self.kernel)
        kept = [a for a in inner if a not in group[0].reduced]
        folds = [s for s in group if s.combine]
        if folds and kept:
            self._strided(kept, lambda: self._row_group_inside(group, kept))  # no neighbours: each place has its own loop
            return
        if not inner:  # a value a row
            if folds:
                raise Unsupported("a fold over nothing among rows")
            self.open("if x == 0:")
            for s in group:
                self._store(s, self.value(s.expr)) if s.target.role != "tmp" else None
            self.close()
            return
        accs = [(s, self._start(s, zero=True)) for s in folds]

        self._strided(inner, lambda: self._each_stage(group, accs), self._worth_keeping(group, later, inner), group)
        if folds:
            self._joined(accs)

    def _each_stage(self, group: Sequence[Stage], accs: Sequence[tuple[Stage, str]]) -> None:
        """What each stage does with one element: a fold takes it in, another stores it."""
        for s in group:
            v = self.value(s.expr)
            if s.combine:
                acc = next(n for f, n in accs if f is s)
                self.line(f"{acc} = {self.combine(s.combine, s.expr.dtype, acc, v)}")
            else:
                self._store(s, v)

    def _row_group_inside(self, group: Sequence[Stage], kept: Sequence[Axis]) -> None:
        """Folds of one kept place, by one thread."""
        reduced = [a for a in inner_axes(group[0], self.kernel) if a not in kept]
        accs = [(s, self._start(s)) for s in group if s.combine]
        depth = len(self.stack)
        for a in reduced:
            self.loop(a)
        self._each_stage(group, accs)
        while len(self.stack) > depth:
            self.close()
        for s, acc in accs:
            self._store(s, acc)

    def _worth_keeping(self, group: Sequence[Stage], later: Sequence[Sequence[Stage]], inner: Sequence[Axis]) -> list[Expr]:
        """Loads and heavy values of this pass that a later pass over the same places needs again."""
        def found(stages: Sequence[Stage]) -> dict[Expr, None]:
            return dict.fromkeys(e for s in stages for e in ir.walk(s.expr) if ir.axes_in(e) & set(inner)
                                 and (e.op in HEAVY or e.op == "at" and e.data.role == "in"))
        same = [s for g in later for s in g if inner_axes(s, self.kernel) == tuple(inner)]
        again = found(same)
        return [e for e in found(group) if e in again and (e, tuple(inner)) not in self.kept]

    def _strided(self, axes: Sequence[Axis], body, keep: Sequence[Expr] = (), stages: Sequence[Stage] = ()) -> None:
        """Runs `body` at every place of `axes`, dealt to the threads of the team: neighbours each where the sizes allow."""
        total, team = types.product(a.extent for a in axes), self.team
        lanes = self._row_lanes(axes, total, stages)
        if self.width:
            self._looped(axes, body, stages, 1)
        elif not isinstance(total, int) or -(-total // (team * lanes)) * lanes > TURNS:
            self._looped(axes, body, stages, lanes if axes[0].bound is None else 1)
        elif axes[0].bound is not None:  # all pieces but the last are whole
            self.open(f"if {self.value(axes[0].bound)} >= {self.size(axes[0].extent)}:")
            self._unrolled_turns(axes, body, (), total, stages, lanes)
            self.close()
            self.open("else:")
            self._looped(axes, body, stages, 1)
            self.close()
        else:
            self._unrolled_turns(axes, body, keep, total, stages, lanes)

    def _row_lanes(self, axes: Sequence[Axis], total: Size, stages: Sequence[Stage]) -> int:
        last, lanes = axes[-1].extent, self._most_lanes(stages, axes[-1])
        if not isinstance(last, int) or not isinstance(total, int):
            return 1
        while lanes > 1 and (last % lanes or total < lanes * self.team // 2):
            lanes //= 2
        return lanes

    def _unrolled_turns(self, axes: Sequence[Axis], body, keep: Sequence[Expr], total: int, stages: Sequence[Stage], lanes: int) -> None:
        team = self.team
        turns, whole = -(-total // (team * lanes)), total // (team * lanes)
        arrays: dict[Expr, str] = {}
        before = dict(self.kept)
        for e in keep:
            if (len(self.kept) + 1) * turns * lanes <= REGISTERS and not isinstance(e.dtype, tuple):
                arrays[e] = self.kept[e, tuple(axes)] = f"kept{len(self.kept)}"
                self.line(f"{arrays[e]} = stack_{e.data.dtype.code if e.op == 'at' else e.dtype.code}({turns * lanes})", 0)

        def each() -> None:
            for (e, places), name in before.items():
                if places == tuple(axes):
                    self.stack[-1].names[e] = t = self.name()
                    self.line(f"{t} = ld_{e.data.dtype.code if e.op == 'at' else e.dtype.code}({name}, turn * {lanes} + u, 99)")
            for e, name in arrays.items():
                if e not in self.fetched:
                    self.line(f"st_{e.data.dtype.code if e.op == 'at' else e.dtype.code}({name}, turn * {lanes} + u, {self.value(e)}, 99)")
            body()

        if whole:
            self.open(f"for turn in unroll({whole}):")
            self._turn(axes, each, stages, lanes, arrays, before)
            self.close()
        if whole < turns:
            self.open(f"for turn in unroll({whole}, {turns}):")
            self.open(f"if turn * {team} + x < {total // lanes}:")
            self._turn(axes, each, stages, lanes, arrays, before)
            self.close()
            self.close()

    def _turn(self, axes: Sequence[Axis], body, stages: Sequence[Stage], lanes: int, arrays: Mapping[Expr, str] = {},
              before: Mapping[tuple[Expr, tuple[Axis, ...]], str] = {}, place: str = "turn * {team} + x") -> None:
        """One turn of a thread: `lanes` neighbours."""
        quads = Axis(axes[-1].extent // lanes if lanes > 1 else axes[-1].extent, name="q")  # type: ignore[operator]
        self.place("quad", self.index_of(place.format(team=self.team)))
        self.unflatten((*axes[:-1], quads), "quad")
        known = {e for e, places in before if places == tuple(axes)}
        wanted = [s if not known else replace(s, expr=_without(s.expr, known)) for s in stages]
        kept = {e: (name, f"turn * {lanes}") for e, name in arrays.items() if e.op == "at"}
        self.neighbours(wanted, axes[-1], quads, lanes, body, kept)

    def _looped(self, axes: Sequence[Axis], body, stages: Sequence[Stage], lanes: int) -> None:
        kept, self.kept = self.kept, {}
        if axes[0].bound is not None:
            first, rest = self.size(axes[0].extent), self.size(types.product(a.extent for a in axes[1:]))
            total = f"min({first}, {self.value(axes[0].bound)}) * {rest}"
        else:
            total = self.size(types.floordiv(types.product(a.extent for a in axes), lanes))
        self.open(f"for turn in range(x, {total}, {self.team}):")
        self._turn(axes, body, stages, lanes, place="turn")
        self.close()
        self.kept = kept

    def _running(self, s: Stage) -> None:
        """A scan: each turn the team takes as many neighbours as it has threads; lanes, then warps, then turns follow each other."""
        assert s.scan is not None
        team, code, warps = self.team, s.expr.dtype.code, self.team // WARP
        neutral = self._neutral(s)
        self.line(f"carry = {neutral}")
        if self.width:
            self._running_columns(s, neutral)
            return
        if warps > 1:
            self.line(f"totals = shared_{code}({warps}, {self.shared})")
            self.shared += 1
        n = self.size(s.scan.extent)
        self.open(f"for start in range(0, {n}, {team}):")
        self.place("at", "start + x")
        self.line(f"v = {neutral}")
        self.open(f"if at < {n}:")
        self.bind(s.scan, "at")
        self.line(f"v = {self.value(s.expr)}")
        self.close()
        for step in (1, 2, 4, 8, 16):
            self.line(f"o = shuffle_up(v, {step})")
            self.line(f"v = select(lane() >= {step}, {self.combine(s.combine or '', s.expr.dtype, 'o', 'v')}, v)")
        self.line("before = carry")
        if warps > 1:
            self.open(f"if lane() == {WARP - 1}:")
            self.line(f"st_{code}(totals, thread() // {WARP}, v, 99)")
            self.close()
            self.line("barrier()")
            self.open(f"for w in unroll({warps}):")
            self.line(f"o = ld_{code}(totals, w, 99)")
            self.line(f"before = select(w < thread() // {WARP}, {self.combine(s.combine or '', s.expr.dtype, 'before', 'o')}, before)")
            self.line(f"carry = {self.combine(s.combine or '', s.expr.dtype, 'carry', 'o')}")
            self.close()
            self.line("barrier()")
        else:
            self.line(f"carry = {self.combine(s.combine or '', s.expr.dtype, 'carry', f'shuffle_at(v, {WARP - 1})')}")
        if s.exclusive:
            self.line("o = shuffle_up(v, 1)")
            self.line(f"v = select(lane() == 0, before, {self.combine(s.combine or '', s.expr.dtype, 'before', 'o')})")
        else:
            self.line(f"v = {self.combine(s.combine or '', s.expr.dtype, 'before', 'v')}")
        self.open(f"if at < {n}:")
        self.bind(s.scan, "at")
        self._store(s, "v")
        self.close()
        self.close()

    def _running_columns(self, s: Stage, neutral: str) -> None:
        """A scan by threads that stand one above the other: each adds up what is above it in this turn."""
        assert s.scan is not None
        code, n = s.expr.dtype.code, self.size(s.scan.extent)

        def joined(a: str, b: str) -> str:
            return self.combine(s.combine or "", s.expr.dtype, a, b)

        self.line(f"turns = shared_{code}({THREADS}, {self.shared})")
        self.shared += 1
        self.open(f"for start in range(0, {n}, {self.team}):")
        self.place("at", "start + x")
        self.line(f"v = {neutral}")
        self.open(f"if at < {n}:")
        self.bind(s.scan, "at")
        self.line(f"v = {self.value(s.expr)}")
        self.close()
        self.line(f"st_{code}(turns, thread(), v, 99)")
        self.line("barrier()")
        self.line("before = carry")
        self.open(f"for k in unroll({self.team}):")
        self.line(f"o = ld_{code}(turns, k * {self.width} + thread() % {self.width}, 99)")
        self.line(f"before = select(k < thread() // {self.width}, {joined('before', 'o')}, before)")
        self.line(f"carry = {joined('carry', 'o')}")
        self.close()
        self.line("barrier()")
        if not s.exclusive:
            self.line(f"before = {joined('before', 'v')}")
        self.open(f"if at < {n}:")
        self.bind(s.scan, "at")
        self._store(s, "before")
        self.close()
        self.close()

    def _joined(self, accs: Sequence[tuple[Stage, str]]) -> None:
        """The folds of all threads of the team, known to each of them."""
        if self.width:
            self._stacked(accs)
        else:
            self._shuffled(accs, WARP // 2)
        if not self.width and self.team > WARP:
            warps = self.team // WARP
            for s, acc in accs:
                self.line(f"shared{self.shared} = shared_{s.expr.dtype.code}({warps}, {self.shared})")
                self.open("if lane() == 0:")
                self.line(f"st_{s.expr.dtype.code}(shared{self.shared}, thread() // {WARP}, {acc}, 99)")
                self.close()
                self.shared += 1
            self.line("barrier()")
            for k, (s, acc) in enumerate(accs):
                self.line(f"{acc} = ld_{s.expr.dtype.code}(shared{self.shared - len(accs) + k}, lane() % {warps}, 99)")
            self._shuffled(accs, warps // 2)
        for s, acc in accs:
            if s.init is not None:
                self.line(f"{acc} = {self.combine(s.combine or '', s.expr.dtype, self.value(s.init), acc)}")
            self.stack[-1].names[ir.make("at", s.index, s.target.dtype.compute, s.target)] = acc
            if s.target.role != "tmp":
                self.open("if x == 0:")
                self._store(s, acc)
                self.close()

    def _stacked(self, accs: Sequence[tuple[Stage, str]]) -> None:
        """Folds of threads that stand one above the other."""
        for k, (s, acc) in enumerate(accs):
            code = s.expr.dtype.code
            self.line(f"shared{self.shared + k} = shared_{code}({THREADS}, {self.shared + k})")
            self.line(f"st_{code}(shared{self.shared + k}, thread(), {acc}, 99)")
        self.line("barrier()")
        for k, (s, acc) in enumerate(accs):
            self.line(f"{acc} = ld_{s.expr.dtype.code}(shared{self.shared + k}, thread() % {self.width}, 99)")
            self.open(f"for k in unroll(1, {self.team}):")
            o = f"ld_{s.expr.dtype.code}(shared{self.shared + k}, k * {self.width} + thread() % {self.width}, 99)"
            self.line(f"{acc} = {self.combine(s.combine or '', s.expr.dtype, acc, o)}")
            self.close()
        self.shared += len(accs)

    def _shuffled(self, accs: Sequence[tuple[Stage, str]], widest: int) -> None:
        step = widest
        while step:
            for s, acc in accs:
                self.line(f"{acc} = {self.combine(s.combine or '', s.expr.dtype, acc, f'shuffle_xor({acc}, {step})')}")
            step //= 2
