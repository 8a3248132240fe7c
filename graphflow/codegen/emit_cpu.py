"""Numba text for the CPU: a scheduled kernel becomes `kernel(B, S, lo, hi)`.

Knows the spelling of graphflow/codegen/intrinsics.py and vecmath.py; knows no op and no graph (rank 4).  Every
sub-expression is written once, in the outermost loop it can stand in.
"""
from __future__ import annotations

from dataclasses import dataclass, field, replace
from typing import Any, Sequence

import numpy as np

from .. import types
from ..types import DType, Size
from . import ir
from .ir import Axis, Buffer, Expr, Stage
from .schedule import HEAVY, Schedule, inner_axes, scatters, softmaxes
from .simplify import stride

# Lanes whose accumulators are kept in first-level cache.  As many as leave several tasks to threads: a row of a tile is
# read in one piece, and short pieces of long rows touch a new page each (64 lanes took 1.5 times as long as 512).
TILE = 512
# Sizes above this are parameters of the kernel, so that one kernel serves many shapes; small ones unroll.
LITERAL = 16
# Bytes of a row worth asking for before its turn: the processor itself reads ahead within a page only.
NEXT_ROW = 1 << 10, 1 << 15
# Bytes from which a result is written past the caches (glibc's memcpy does so from a similar size), in blocks of elements.
STREAM, BLOCK = 1 << 24, 1024
# Elements along a side of the squares in which a transposition goes, largest first.
SQUARES = 32, 16
# Elements that take as long as one exp or tanh, about: so threads share few elements that take long.
SLOW = 3
# Elements added up before the sum joins the total: short sums are accurate sums.
SUM = 2048


@dataclass
class Emitted:
    """Kernel text and its argument block: `buffers` and `sizes` in order, the extent of the range that threads split,
    the work of one iteration of it, and the messages of its checks (number 1 is the first)."""

    source: str
    buffers: list[Buffer]
    sizes: list[Size]
    extent: Size
    work: Size
    checks: list[str]
    lanes: int  # where threads split lanes: the fewest that a piece may have, else 0
    flops: Size = 0
    calls: tuple[str, ...] = ()  # texts of the kernels it calls: their addresses follow the buffers
    writes: tuple[Buffer, ...] = ()  # of a contraction: the buffers it fills
    table: tuple[Any, ...] = ()  # of a whole loop: the entries of its table, see runtime/flow.py


@dataclass
class _Block:
    header: str
    items: list[object] = field(default_factory=list)
    names: dict[Expr, str] = field(default_factory=dict)


def emit(plan: Schedule, alias: dict[Buffer, Buffer] | None = None) -> Emitted:
    """The text.  `alias` maps a buffer to the one whose memory it shares (in-place results)."""
    return _Emitter(plan, alias or {}).emit()


_INFIX = {"lt": "<", "le": "<=", "gt": ">", "ge": ">=", "eq": "==", "ne": "!="}
_FLOAT_INFIX = {"add": "+", "sub": "-", "mul": "*", "div": "/"}
_INT_INFIX = {"add": "+", "sub": "-", "mul": "*", "bitand": "&", "bitor": "|", "bitxor": "^", "shl": "<<", "shr": ">>"}
# Numbers that stay literals: LLVM simplifies with them.  All others are parameters, so that kernels which differ
# by a learning rate or a seed are one.
PLAIN = {0.0, 1.0, -1.0, 2.0, 0.5, -0.5, -2.0, float("inf"), float("-inf")}
_BITS = {"f32": "bits_i32_f32(to_i32({}))", "f64": "bits_i64_f64({})", "i32": "to_i32({})", "u32": "to_u32({})"}
_ROUND = {"floor": "floor_", "ceil": "ceil_", "trunc": "trunc_", "rint": "rint_", "sqrt": "sqrt_"}


class _Emitter:
    def __init__(self, plan: Schedule, alias: dict[Buffer, Buffer]):
        self.plan, self.kernel, self.alias = plan, plan.kernel, alias
        self.buffers = [b for b in self.kernel.buffers if b.role != "tmp" and b not in alias]
        self.scope = {b: i for i, b in enumerate(self.buffers)}
        self.sizes: dict[Size, str] = {}
        self.consts: dict[tuple[str, str], str] = {}
        self.parameters: dict[str, tuple[str, int]] = {}
        self.checks: dict[str, int] = {}
        self.calls: dict[str, str] = {}
        self.stack = [_Block("def kernel(B, S, lo, hi):")]
        self.level: dict[Axis, int] = {}
        self.axis_name: dict[Axis, str] = {}
        self.tiles: dict[Buffer, str] = {}
        # Targets with axes inside the lane: their tile holds one place at a time, so later stages read the stored values.
        self.spread: set[Buffer] = set()
        self.written: set[Buffer] = set()
        self.strip = 0
        self.loose, self.below = softmaxes(self.kernel)
        self.count = 0

    # -- writing

    def line(self, text: str, level: int | None = None) -> None:
        self.stack[-1 if level is None else level].items.append(text)

    def open(self, header: str) -> None:
        self.stack.append(_Block(header))

    def close(self) -> None:
        block = self.stack.pop()
        self.stack[-1].items.append(block)
        for a in [a for a, n in self.level.items() if n >= len(self.stack)]:
            del self.level[a], self.axis_name[a]

    def name(self) -> str:
        self.count += 1
        return f"t{self.count}"

    def loop(self, a: Axis, start: str = "0") -> None:
        stop = self.size(a.extent)
        if a.bound is not None:
            stop = f"min({stop}, {self.value(a.bound)})"
        self.open(f"for {a.name} in range({start}, {stop}):" if start != "0" else f"for {a.name} in range({stop}):")
        self.level[a], self.axis_name[a] = len(self.stack) - 1, a.name

    # -- the whole kernel

    def emit(self) -> Emitted:
        rename = {}
        for a in dict.fromkeys([*self.kernel.outer, *[x for s in self.kernel.stages for x in s.axes]]):
            rename[a] = f"i{len(rename)}"
        self.names_of_axes = rename
        for a, n in rename.items():
            object.__setattr__(a, "name", n)
        self.line("bad = 0")
        extent, work = self._arranged()
        self.line("return bad")
        return Emitted(self._text(), self.buffers, [*self.sizes, *[bits for _, bits in self.parameters.values()]], extent, work,
                       list(self.checks), max(self.strip, 1) if not self.plan.rows and self.plan.lane is not None else 0)

    def _arranged(self) -> tuple[Size, Size]:
        """All loops; the extent of the parallel range, and the work of one iteration of it."""
        if self.plan.lane is None:
            return self._rows(self._row_body)
        crossed = self._crossed()
        if crossed:
            return self._squares(*crossed)
        if self.plan.rows:
            return self._rows(lambda: self._tiles("0", self.size(self.plan.lane.extent)))  # type: ignore[union-attr]
        self._tiles("lo", "hi")
        return self.plan.lane.extent, self._work()

    def _work(self) -> Size:
        """Elements touched per iteration of the parallel range, each counted more for functions that take long."""
        inner: Size = 1
        for s in self.kernel.stages:
            n = types.product(a.extent for a in inner_axes(s, self.kernel))
            if (types.hint(n) or 0) > (types.hint(inner) or 0):
                inner = n
        return inner * (1 + SLOW * len({e for s in self.kernel.stages for e in ir.walk(s.expr) if e.op in HEAVY}))

    def _rows(self, body) -> tuple[Size, Size]:
        rows = self.plan.rows
        work = self._work() * (self.plan.lane.extent if self.plan.lane is not None else 1)
        if not rows:
            self.open("if lo < hi:")
            body()
            self.close()
            return 1, work
        *others, last = rows
        start, stop = "lo", "hi"
        if others:  # whole runs of the last axis, so that the other axes are worked out once a run
            n = self.size(last.extent)
            self.open(f"for run in range(lo // {n}, (hi + {n} - 1) // {n}):")
            self._places_of("run", others)
            self.line(f"first = max(lo - run * {n}, 0)")
            self.line(f"end = min(hi - run * {n}, {n})")
            start, stop = "first", "end"
        self.open(f"for {last.name} in range({start}, {stop}):")
        self.level[last], self.axis_name[last] = len(self.stack) - 1, last.name
        body()
        self.close()
        if others:
            self.close()
        return types.product(a.extent for a in rows), work

    def _places_of(self, flat: str, axes: Sequence[Axis]) -> None:
        """The values of `axes` at the flattened position `flat`."""
        rest = flat
        for k, a in enumerate(reversed(axes)):
            self.level[a], self.axis_name[a] = len(self.stack) - 1, a.name
            n, first = self.size(a.extent), k == len(axes) - 1
            self.line(f"{a.name} = {rest}" if first else f"{a.name} = {rest} % {n}")
            if not first:
                self.line(f"r{k} = {rest} // {n}")
                rest = f"r{k}"

    # -- transposing: squares are read along one axis and written along another

    def _crossed(self) -> tuple[Axis, list[Expr], int] | None:
        """An outer axis along which loads run while stores run along the lanes, those loads, the side of a square."""
        lane, k = self.plan.lane, self.kernel
        assert lane is not None
        if self.alias or any(s.combine or s.scan or inner_axes(s, k) or stride(s.index[0], lane) != 1 for s in k.stages):
            return None
        made = {s.target for s in k.stages}
        loads = [e for e in dict.fromkeys(e for s in k.stages for e in ir.walk(s.expr)) if e.op == "at"]
        for a in self.plan.rows:
            found = [e for e in loads if stride(e.args[0], a) == 1 and stride(e.args[0], lane) not in (0, 1, None)]
            least = min((x.extent if isinstance(x.extent, int) else 0) for x in (a, lane))
            if found and least >= SQUARES[-1]:
                return None if any(e.data in made for e in loads) else (a, found, next(n for n in SQUARES if least >= n))
        return None

    def _squares(self, a: Axis, loads: Sequence[Expr], n: int) -> tuple[Size, Size]:
        """Squares at the edge overlap their neighbours: the elements there are written twice, with the same value."""
        lane = self.plan.lane
        assert lane is not None and isinstance(a.extent, int)
        band = Axis(-(-a.extent // n), name="band")
        self.plan = replace(self.plan, rows=(*(x for x in self.plan.rows if x is not a), band))
        squares = {e: f"square{k}" for k, e in enumerate(loads)}
        for e, q in squares.items():
            self.line(f"{q} = stack_{e.dtype.code}({n * n})", 0)

        def loop(x: Axis, name: str, start: str) -> None:
            self.open(f"for {name} in range({n}):")
            self.line(f"{x.name} = {start} + {name}")
            self.level[x], self.axis_name[x] = len(self.stack) - 1, x.name

        def body() -> None:
            self.line(f"start = min(band * {n}, {self.size(a.extent)} - {n})")
            self.open(f"for strip in range(0, {self.size(lane.extent)}, {n}):")
            self.line(f"tile = min(strip, {self.size(lane.extent)} - {n})")
            for k, (e, q) in enumerate(squares.items()):
                loop(lane, "j", "tile")
                loop(a, "i", "start")
                self.line(f"st_{e.dtype.code}({q}, j * {n} + i, {self.value(e)}, {60 + k % 4})")
                self.close()
                self.close()
            loop(a, "i", "start")
            loop(lane, "j", "tile")
            for k, (e, q) in enumerate(squares.items()):
                t = self.stack[-1].names[e] = self.name()
                self.line(f"{t} = ld_{e.dtype.code}({q}, j * {n} + i, {60 + k % 4})")
            for s in (s for g in self.plan.groups for s in g):
                self._store(s, self.value(s.expr))
            self.close()
            self.close()
            self.close()
        extent, _ = self._rows(body)
        return extent, lane.extent * n

    # -- each group's own innermost axis is the vector

    def _row_body(self) -> None:
        for number, group in enumerate(self.plan.groups):
            if number == 1:
                self._ask_for_next_row(self.plan.groups[0])
            if group[0].scan is not None:
                self._scan(group[0])
            elif scatters(group[0]):
                self._scatter(group[0])
            else:
                self._row_group(group)

    def _ask_for_next_row(self, group: Sequence[Stage]) -> None:
        """Prefetches what the first pass over the next row reads, while later passes over this row read the cache."""
        inner = inner_axes(group[0], self.kernel)
        if not self.plan.rows or len(inner) != 1 or inner[0].bound is not None:
            return
        row, a = self.plan.rows[-1], inner[0]
        for e in dict.fromkeys(x for s in group for x in ir.walk(s.expr) if x.op == "at" and x.data.role == "in"):
            width, n = e.data.dtype.size, types.hint(a.extent) or 0
            if NEXT_ROW[0] <= n * width <= NEXT_ROW[1] and stride(e.args[0], a) == 1 and stride(e.args[0], row) == a.extent:
                start = self.value(ir.substitute(e.args[0], {a: ir.index_const(0), row: ir.axis(row) + 1}))
                self.open(f"for line in range(0, {self.size(a.extent)} * {width}, 64):")
                self.line(f"prefetch(advance(p{self.scope[self.alias.get(e.data, e.data)]}, {start} * {width} + line))")
                self.close()

    def _row_group(self, group: Sequence[Stage]) -> None:
        inner = inner_axes(group[0], self.kernel)
        reduced = [a for a in inner if a in group[0].reduced]
        depth = len(self.stack)
        for a in inner:
            if a not in reduced:
                self.loop(a)
        folds = [s for s in group if s.combine]
        accs = [(s, self._start(s)) for s in folds]
        inside = len(self.stack)
        blocked = bool(reduced) and all(s.combine == "add" and s.expr.dtype.kind in "fc"
                                        for s in folds) and (types.hint(reduced[-1].extent) or 0) > SUM
        parts = []
        for a in reduced[:-1]:
            self.loop(a)
        if reduced and blocked:
            stop = self.size(reduced[-1].extent)
            if reduced[-1].bound is not None:
                stop = f"min({stop}, {self.value(reduced[-1].bound)})"
            self.open(f"for {reduced[-1].name}b in range(0, {stop}, {SUM}):")
            parts = [(s, self._start(s, zero=True)) for s in folds]
            self.open(f"for {reduced[-1].name} in range({reduced[-1].name}b, min({reduced[-1].name}b + {SUM}, {stop})):")
            self.level[reduced[-1]], self.axis_name[reduced[-1]] = len(self.stack) - 1, reduced[-1].name
        elif reduced:
            self.loop(reduced[-1])
        values = [(s, self.value(s.expr)) for s in group]
        for s, v in values:
            if s.combine:
                acc = next(n for f, n in (parts or accs) if f is s)
                self.line(f"{acc} = {self._folded(s, acc, v)}")
            else:
                self._store(s, v)
        if parts:
            self.close()
            for (s, p), (_, acc) in zip(parts, accs):
                self.line(f"{acc} = {self.combine(s.combine or '', s.expr.dtype, acc, p)}")
        while len(self.stack) > inside:
            self.close()
        for s, acc in accs:
            self._finish(s, acc)
        while len(self.stack) > depth:
            self.close()

    def _folded(self, s: Stage, a: str, b: str) -> str:
        return f"fmax_loose({a}, {b})" if s.target in self.loose else self.combine(s.combine or "", s.expr.dtype, a, b)

    def _start(self, s: Stage, zero: bool = False) -> str:
        acc = self.name()
        start = self.value(s.init) if s.init is not None and not zero else self._neutral(s)
        self.line(f"{acc} = {start}")
        return acc

    def _neutral(self, s: Stage) -> str:
        return self.constant(ir.const(ir.neutral(s.combine or "", s.expr.dtype), s.expr.dtype))

    def _finish(self, s: Stage, acc: str) -> None:
        """The fold's value: a local for the stages after it, and stored when it leaves the kernel."""
        self.stack[-1].names[ir.make("at", s.index, s.target.dtype.compute, s.target)] = acc
        if s.target.role != "tmp":
            self._store(s, acc)

    def _store(self, s: Stage, value: str) -> None:
        where = self.value(s.index[0])
        b = self.alias.get(s.target, s.target)
        self.line(f"st_{s.target.dtype.code}(p{self.scope[b]}, {where}, {value}, {self.scope[b]})")
        self.written.add(s.target)

    # -- the last outer axis is the vector: accumulators are tiles

    def _tiles(self, lo: str, hi: str) -> None:
        lane = self.plan.lane
        assert lane is not None
        if not any(s.combine or inner_axes(s, self.kernel) for s in self.kernel.stages):
            if self._streamed(lo, hi):
                return
            self.open(f"for {lane.name} in range({lo}, {hi}):")
            self.level[lane], self.axis_name[lane] = len(self.stack) - 1, lane.name
            for group in self.plan.groups:
                for s in group:
                    self._store(s, self.value(s.expr))
            self.close()
            return
        for s in self.kernel.stages:
            if s.combine:
                if s.target.role != "tmp" and any(a not in s.reduced for a in inner_axes(s, self.kernel)):
                    self.spread.add(s.target)
                self.tiles[s.target] = f"acc{len(self.tiles)}"
                self.line(f"{self.tiles[s.target]} = stack_{s.expr.dtype.code}({TILE})", 0)
        self.strip = self._strip_width()
        if self.strip:  # the last strip overlaps the one before: its lanes are added up again, to the same sums
            self.open(f"for strip in range({lo}, {hi}, {self.strip}):")
            self.line(f"tile = min(strip, {hi} - {self.strip})")
        else:
            self.open(f"for tile in range({lo}, {hi}, {TILE}):")
            self.line(f"stop = min(tile + {TILE}, {hi})")
        for group in self.plan.groups:
            self._tile_group(group)
        self.close()

    def _streamed(self, lo: str, hi: str) -> bool:
        """Large results of an elementwise kernel go past the caches: written in order, they are gone from there before they are read."""
        lane = self.plan.lane
        assert lane is not None
        reads = {e.data for s in self.kernel.stages for e in ir.walk(s.expr, *s.index) if e.op == "at"}
        out = [s for s in self.kernel.stages if s.target.role == "out" and s.target not in self.alias and s.target not in reads
               and s.index[0].op == "axis" and (types.hint(lane.extent) or 0) * s.target.dtype.size >= STREAM]
        if not out or self.plan.rows:
            return False
        blocks = {s: f"block{k}" for k, s in enumerate(out)}
        for s, b in blocks.items():
            self.line(f"{b} = stack_{s.target.dtype.code}({BLOCK})", 0)
        self.open(f"for tile in range({lo}, {hi}, {BLOCK}):")
        self.line(f"stop = min(tile + {BLOCK}, {hi})")
        self._lanes()
        for s in (s for g in self.plan.groups for s in g):
            if s in blocks:
                self.line(f"st_{s.target.dtype.code}({blocks[s]}, {self._place()}, {self.value(s.expr)}, {60 + out.index(s) % 4})")
            else:
                self._store(s, self.value(s.expr))
        self.close()
        for s, b in blocks.items():
            n = s.target.dtype.size
            self.line(f"stream(advance(p{self.scope[s.target]}, tile * {n}), {b}, (stop - tile) * {n})")
        self.close()
        self.line("fence()")
        return True

    def _strip_width(self) -> int:
        """Lanes of a strip whose accumulators are registers, or 0: their number must be known, and no store may meet another's load."""
        lane = self.plan.lane
        assert lane is not None
        n = lane.extent
        if not isinstance(n, int) or n < 16 or n >= TILE and not self.plan.rows or any(inner_axes(s, self.kernel) and not s.combine
                                                                                       for s in self.kernel.stages):
            return 0
        reads = {e.data for s in self.kernel.stages for e in ir.walk(s.expr, *s.index) if e.op == "at" and e.data.role != "tmp"}
        if self.alias or any(s.target in reads for s in self.kernel.stages if not s.combine) or self.spread:
            return 0
        return next(w for w in (TILE, 256, 64, 32, 16) if n >= w)

    def _lanes(self) -> None:
        lane = self.plan.lane
        assert lane is not None
        if self.strip:
            self.open(f"for lane in range({self.strip}):")
            self.line(f"{lane.name} = tile + lane")
        else:
            self.open(f"for {lane.name} in range(tile, stop):")
        self.level[lane], self.axis_name[lane] = len(self.stack) - 1, lane.name

    def _tile_group(self, group: Sequence[Stage]) -> None:
        inner = inner_axes(group[0], self.kernel)
        depth = len(self.stack)
        for a in inner:
            if a not in group[0].reduced:
                self.loop(a)
        folds = [s for s in group if s.combine]
        if folds:
            self._lanes()
            for s in folds:
                self._tile_put(s, self.value(s.init) if s.init is not None else self._neutral(s))
            self.close()
        reduced = [a for a in inner if a in group[0].reduced]
        for a in reduced[:-1]:
            self.loop(a)
        steps = [0]
        nodes = sum(1 for _ in ir.walk(*(s.expr for s in folds)))
        if reduced and len(folds) == len(group) and nodes < 60:
            steps = [4 if nodes < 24 else 2]
            self._unrolled(folds, reduced[-1], steps[0])
        if reduced:
            self.loop(reduced[-1], f"{reduced[-1].name}4" if steps != [0] else "0")
        self._lanes()
        for s in group:
            v = self.value(s.expr)
            if s.combine:
                self._tile_put(s, self._folded(s, self._tile_get(s.target, s.expr.dtype), v))
            else:
                self._store(s, v)
        while len(self.stack) > depth + len(inner) - len(reduced):
            self.close()
        for s in folds:
            if s.target.role != "tmp":
                self._lanes()
                self._store(s, self._tile_get(s.target, s.expr.dtype))
                self.close()
        while len(self.stack) > depth:
            self.close()

    def _unrolled(self, folds: Sequence[Stage], r: Axis, steps: int) -> None:
        """Several steps of the reduction per pass over the accumulators."""
        n = self.size(r.extent)
        if r.bound is not None:
            n = f"min({n}, {self.value(r.bound)})"
        self.line(f"{r.name}4 = {n} // {steps} * {steps}")
        self.open(f"for {r.name} in range(0, {r.name}4, {steps}):")
        self.level[r], self.axis_name[r] = len(self.stack) - 1, r.name
        self._lanes()
        for s in folds:
            terms = [self.value(s.expr if k == 0 else ir.substitute(s.expr, {r: ir.axis(r) + k})) for k in range(steps)]
            while len(terms) > 1:  # as a tree: one addition waits for the accumulator, not four
                terms = [self._folded(s, a, b) for a, b in zip(terms[::2], terms[1::2])]
            self._tile_put(s, self._folded(s, self._tile_get(s.target, s.expr.dtype), terms[0]))
        self.close()
        self.close()

    def _tile_get(self, b: Buffer, dtype: DType) -> str:
        assert self.plan.lane is not None
        return f"ld_{dtype.code}({self.tiles[b]}, {self._place()}, {60 + list(self.tiles).index(b) % 4})"

    def _tile_put(self, s: Stage, value: str) -> None:
        assert self.plan.lane is not None
        k = 60 + list(self.tiles).index(s.target) % 4
        self.line(f"st_{s.expr.dtype.code}({self.tiles[s.target]}, {self._place()}, {value}, {k})")

    def _place(self) -> str:
        """The lane's place in an accumulator tile."""
        return "lane" if self.strip else f"{self.plan.lane.name} - tile"  # type: ignore[union-attr]

    # -- one after the other

    def _scan(self, s: Stage) -> None:
        assert s.scan is not None
        acc = self.name()
        self.line(f"{acc} = {self.constant(ir.const(ir.neutral(s.combine or '', s.expr.dtype), s.expr.dtype))}")
        self.loop(s.scan)
        v = self.value(s.expr)
        if s.exclusive:
            self._store(s, acc)
        self.line(f"{acc} = {self.combine(s.combine or '', s.expr.dtype, acc, v)}")
        if not s.exclusive:
            self._store(s, acc)
        self.close()

    def _scatter(self, s: Stage) -> None:
        depth = len(self.stack)
        for a in s.axes:
            self.loop(a)
        b = self.alias.get(s.target, s.target)
        where, v = self.value(s.index[0]), self.value(s.expr)
        code = s.target.dtype.code
        if s.combine != "set":
            v = self.combine(s.combine or "", s.expr.dtype, f"ld_{code}(p{self.scope[b]}, {where}, 99)", v)
        self.line(f"st_{code}(p{self.scope[b]}, {where}, {v}, 99)")
        while len(self.stack) > depth:
            self.close()

    def combine(self, combine: str, dtype: DType, a: str, b: str) -> str:
        """Two values of a fold as one."""
        return _combine(combine, dtype, a, b)

    # -- expressions

    def value(self, root: Expr) -> str:
        """A name or literal for the value, its parts written before in the loops they belong to."""
        for e in ir.walk(root):
            if self._found(e) is None:
                self._define(e)
        found = self._found(root)
        assert found is not None
        return found

    def _found(self, e: Expr) -> str | None:
        if e.op == "const" and e.dtype is not types.int64:
            return self.constant(e)
        if e.op in ("const", "size"):
            return self.size(e.data)
        if e.op == "axis":
            return self.axis_name[e.data]
        for block in reversed(self.stack):
            if e in block.names:
                return block.names[e]
        return None

    def _level(self, e: Expr) -> int:
        """The outermost open loop in which everything `e` needs exists."""
        if e.op == "axis":
            return self.level[e.data]
        if e.op in ("const", "size"):
            return 0
        if e.op == "at" and (e.data in self.tiles or e.data in self.written):
            return len(self.stack) - 1
        level = 0
        for a in e.args:
            if a.op == "axis":
                level = max(level, self.level[a.data])
            elif a.op not in ("const", "size"):
                level = max(level, next(i for i in range(len(self.stack) - 1, -1, -1) if a in self.stack[i].names))
        return level

    def _define(self, e: Expr) -> None:
        level = self._level(e)
        text = self._spell(e, [self._found(a) or "" for a in e.args], level)
        n = self.name()
        self.line(f"{n} = {text}", level)
        self.stack[level].names[e] = n

    def _spell(self, e: Expr, a: list[str], level: int) -> str:
        op, dtype = e.op, e.dtype
        if op == "at":
            if e.data in self.tiles and e.data not in self.spread:
                return self._tile_get(e.data, dtype)
            b = self.alias.get(e.data, e.data)
            return f"ld_{e.data.dtype.code}(p{self.scope[b]}, {a[0]}, {self.scope[b]})"
        if op == "check":
            number = self.checks.setdefault(str(e.data), len(self.checks) + 1)
            self.line(f"bad = fmax(bad, select({a[0]}, 0, {number}))", level)
            return f"select({a[0]}, {a[1]}, to_{dtype.code}(0))" if dtype.kind in "iu" else a[1]
        if op == "select":
            return f"select({a[0]}, {a[1]}, {a[2]})"
        if op == "cast":
            return f"({a[0]} != 0)" if dtype.kind == "b" and e.args[0].dtype.kind != "b" else f"to_{dtype.compute.code}({a[0]})"
        if op == "bitcast":
            return f"bits_{e.args[0].dtype.code}_{dtype.code}({a[0]})"
        if op in ("complex", "real", "imag"):
            return f"to_{dtype.code}({a[0]}) + to_{dtype.code}(1j) * to_{dtype.code}({a[1]})" if op == "complex" else f"{a[0]}.{op}"
        kind = e.args[0].dtype.kind if e.args else dtype.kind
        if e in self.below:
            return f"exp_below_{dtype.code}({a[0]})"
        if op in _INFIX:
            return f"{a[0]} {_INFIX[op]} {a[1]}"
        if op in ("land", "lor"):
            return f"{a[0]} {'&' if op == 'land' else '|'} {a[1]}"
        if op == "lnot":
            return f"{a[0]} == False"
        if kind == "b" and op in ("bitand", "bitor", "bitxor", "max", "min", "add", "mul"):
            return f"{a[0]} { {'bitand': '&', 'min': '&', 'mul': '&', 'bitxor': '^'}.get(op, '|')} {a[1]}"
        if kind == "f":
            return self._float(op, e.args[0].dtype.code, a)
        if kind == "c":
            return self._complex(op, dtype, a)
        return self._int(op, dtype.code, a, dtype)

    def _float(self, op: str, t: str, a: list[str]) -> str:
        if op in _FLOAT_INFIX:
            return f"{a[0]} {_FLOAT_INFIX[op]} {a[1]}"
        if op in _ROUND:
            return f"{_ROUND[op]}({a[0]})"
        simple = {"neg": "-{0}", "abs": "fabs_({0})", "max": "fmax({0}, {1})", "min": "fmin({0}, {1})", "copysign": "copysign_({0}, {1})",
                  "isnan": "{0} != {0}", "isinf": f"fabs_({{0}}) == to_{t}(np.inf)", "isfinite": f"fabs_({{0}}) < to_{t}(np.inf)",
                  "floordiv": "floor_({0} / {1})", "truncdiv": "trunc_({0} / {1})", "fmod": "fmod_({0}, {1})",
                  "truncmod": "fmod_({0}, {1})",
                  "conj": "{0}"}
        if op in simple:
            return simple[op].format(*a)
        if op == "mod":
            r = self.name()
            self.line(f"{r} = to_{t}(fmod_({a[0]}, {a[1]}))")
            return f"select(({r} != 0) & (({r} < 0) != ({a[1]} < 0)), {r} + {a[1]}, {r})"
        if op == "cbrt":
            return f"copysign_(pow_{t}(fabs_({a[0]}), to_{t}(1.0 / 3.0)), {a[0]})"
        return f"{op}_{t}({', '.join(a)})"

    def _int(self, op: str, t: str, a: list[str], dtype: DType) -> str:
        wrap = (lambda s: f"to_{t}({s})") if t != "i64" else (lambda s: s)
        if op in _INT_INFIX:
            return wrap(f"{a[0]} {_INT_INFIX[op]} {a[1]}")
        if op in ("floordiv", "mod"):
            return wrap(f"{'ifloordiv' if op == 'floordiv' else 'imod'}({a[0]}, {a[1]})")
        if op in ("truncdiv", "truncmod"):
            q, y = ("ifloordiv({}, {})".format(*a), a)
            fix = f"{q} + to_{t}(select(({a[0]} != {q} * {a[1]}) & (({a[0]} < 0) != ({a[1]} < 0)), 1, 0))"
            return wrap(fix) if op == "truncdiv" else wrap(f"{y[0]} - ({fix}) * {y[1]}")
        if op == "abs":
            return f"select({a[0]} < 0, {wrap('-' + a[0])}, {a[0]})" if dtype.kind == "i" else a[0]
        simple = {"neg": wrap(f"-{a[0]}"), "max": f"fmax({', '.join(a)})", "min": f"fmin({', '.join(a)})", "bitnot": wrap(f"~{a[0]}"),
                  "mulhi": f"mulhi_u32({', '.join(a)})", "conj": a[0], "isnan": "False", "isinf": "False", "isfinite": "True",
                  "floor": a[0], "ceil": a[0], "trunc": a[0], "rint": a[0], "pow": f"ipow({', '.join(a)})"}
        return simple[op]

    def _complex(self, op: str, dtype: DType, a: list[str]) -> str:
        if op in _FLOAT_INFIX:
            return f"{a[0]} {_FLOAT_INFIX[op]} {a[1]}"
        simple = {"neg": "-{0}", "abs": "abs({0})", "conj": "{0}.conjugate()", "rsqrt": "1.0 / np.sqrt({0})"}
        if op in simple:
            text = simple[op].format(*a)
        else:
            known = {"pow": "({0}) ** ({1})", "asin": "np.arcsin({0})", "acos": "np.arccos({0})", "atan": "np.arctan({0})",
                     "sigmoid": "1.0 / (1.0 + np.exp(-{0}))"}
            text = known.get(op, f"np.{op}({{0}})").format(*a)
        return text if op == "abs" else f"to_{dtype.code}({text})"

    # -- constants and sizes

    def constant(self, e: Expr) -> str:
        if e.dtype.kind == "b":
            return "True" if e.data else "False"
        if e.dtype is types.int64:
            return self.size(e.data)
        key = (e.dtype.compute.code, repr(e.data))
        if key not in self.consts:
            self.consts[key] = f"K{len(self.consts)}"
            if e.data not in PLAIN and key[0] in _BITS:
                self.parameters[self.consts[key]] = (key[0], _bits(e.data, key[0]))
        return self.consts[key]

    def size(self, n: Size) -> str:
        if isinstance(n, int) and -LITERAL <= n <= LITERAL:
            return str(n)
        if n not in self.sizes:
            self.sizes[n] = f"s{len(self.sizes)}"
        return self.sizes[n]

    def _text(self) -> str:
        np_name = {"f32": "float32", "f64": "float64", "i8": "int8", "i16": "int16", "i32": "int32", "i64": "int64", "u8": "uint8",
                   "u16": "uint16",
                   "u32": "uint32", "u64": "uint64", "c64": "complex64", "c128": "complex128"}
        head = [f"# {self.kernel_label()}"]
        head += [f"{n} = np.{np_name[code]}({_literal(value)})" for (code, value), n in self.consts.items() if n not in self.parameters]
        pointers = [f"    p{i} = buf(B, {i})" for i in range(len(self.buffers))]
        pointers += [f"    {n} = buf(B, {len(self.buffers) + i})" for i, n in enumerate(self.calls.values())]
        sizes = [f"    {n} = S[{i}]" for i, n in enumerate(self.sizes.values())]
        sizes += [f"    {n} = {_BITS[code].format(f'S[{len(self.sizes) + i}]')}" for i,
                  (n, (code, _)) in enumerate(self.parameters.items())]
        out: list[str] = []
        _render(self.stack[0], 0, out)
        return "\n".join([*head, out[0], *pointers, *sizes, *out[1:]]) + "\n"

    def kernel_label(self) -> str:
        """What the kernel does, without the names of one graph, so that equal kernels have equal text."""
        ops = [e.op for s in self.kernel.stages for e in ir.walk(s.expr) if e.op in ir.SCALAR and e.dtype is not types.int64]
        folds = [s.combine for s in self.kernel.stages if s.combine]
        return "_".join(dict.fromkeys([*[f or "" for f in folds], *ops]))[:60] or "copy"


def _bits(value: Any, code: str) -> int:
    """The value's bits as the signed integer that travels in the size table."""
    if code in ("i32", "u32"):
        return int(value)
    return int(np.asarray(value, np.float32 if code == "f32" else np.float64).view(np.int32 if code == "f32" else np.int64))


def _literal(text: str) -> str:
    special = {"inf": "np.inf", "-inf": "-np.inf", "nan": "np.nan"}
    return special.get(text, text).replace("infj", "np.inf*1j") if "inf" in text or "nan" in text else text


def _combine(combine: str, dtype: DType, a: str, b: str) -> str:
    if combine == "add":
        return f"radd({a}, {b})" if dtype.kind in "fc" else f"to_{dtype.code}({a} + {b})"
    if combine == "mul":
        return f"rmul({a}, {b})" if dtype.kind == "f" else f"to_{dtype.code}({a} * {b})"
    if combine in ("max", "min") and dtype.kind != "b":
        return f"f{combine}({a}, {b})"
    return f"({a} {'&' if combine in ('land', 'min') else '|'} {b})"


def _render(block: _Block, depth: int, out: list[str]) -> None:
    out.append("    " * depth + block.header)
    if not block.items:
        out.append("    " * (depth + 1) + "pass")
    for item in block.items:
        if isinstance(item, _Block):
            _render(item, depth + 1, out)
        else:
            out.append("    " * (depth + 1) + str(item))
