"""Kernel IR -> launches: which thread computes what, in device text.

A kernel takes one of few forms.  *Points*: every stage is computed at the outer axes alone; a thread takes 4 neighbours, which become
one 128-bit access.  *Rows*: the threads of a block, or of a warp, share each row of inner axes and add up by shuffles; what several
passes over a row need stays in registers.  *Threads*: one thread runs all inner loops of an outer point, as the CPU does: short inner
loops, and folds across rows, where neighbouring threads read neighbouring columns.  *Squares*: transposition through shared memory.
*Updates*: scatters.  What has no outer axes is cut into kernels that have.

Knows Kernel IR and the spelling of words; knows no op and no driver (rank 4).
"""
from __future__ import annotations

from contextlib import contextmanager
from dataclasses import replace
from functools import partial
from typing import Callable, Iterator, Mapping, Sequence

from ... import types
from ...types import DType, Size
from .. import ir, schedule, simplify
from ..emit_cpu import _BITS, _Block, _Emitter, _literal, _render
from ..ir import Axis, Buffer, Expr, Kernel, Stage
from ..schedule import HEAVY, inner_axes, scatters
from .launch import LIMIT, Launch, Many

THREADS = 256
WIDE = 16  # bytes of the widest access: what a thread's neighbouring elements fill
LONG = 64  # operations in a kernel's expressions from which a thread takes 4 neighbours at most
WARP = 32
TEAMS = WARP, 128, 256, 512, 1024  # threads that share a row
REGISTERS = 48  # values of a row that a thread keeps
TURNS = 32  # elements of a row that a thread takes, at most, written out one by one
TOGETHER = 1 << 13  # elements of work up to which one block runs all stages of a kernel without outer axes
PIECE = 1 << 13  # elements of a large fold that one block folds
SHORT = 16  # elements of inner work up to which a thread takes a whole row
BUSY = 1 << 16  # threads that keep a GPU busy
MEMBERS = 8  # buffers of launches that may become one
BLOCKS = 264  # blocks that do: two for each processor
MANY_ROWS = 1 << 14  # from which a thread scans a row alone
MANY_GROUPS = 1 << 20  # groups of neighbours from which a thread takes two
BAND = 16  # rows that a thread folds, at least, where folds across rows are cut
SIDE = 32  # of a square
_ARITHMETIC = {"add", "sub", "mul", "neg", "floordiv", "mod"}
_CLAMPS = {"min", "max"}
_COMPLEX = {**{op: f"c_{op}({{0}}, {{1}})" for op in ("add", "sub", "mul", "div", "eq")}, "ne": "c_eq({0}, {1}) == False",
            **{op: f"c_{op}({{0}})" for op in ("neg", "conj", "abs")}, "select": "select({0}, {1}, {2})"}
_PARTS = {"complex": "c_make(to_{t}({0}), to_{t}({1}))", "real": "c_real({0})", "imag": "c_imag({0})"}
COMPLEX = frozenset((*_COMPLEX, *_PARTS))  # what can be computed of complex numbers
_NUMBERS = {"f32": "float32", "f64": "float64", "i8": "int8", "i16": "int16", "i32": "int32", "i64": "int64", "u8": "uint8",
            "u16": "uint16", "u32": "uint32", "u64": "uint64", "c64": "complex64", "c128": "complex128"}


class Unsupported(Exception):
    """A kernel that has no form on a GPU; the argument says why."""


def launches(kernel: Kernel, alias: Mapping[Buffer, Buffer] | None = None, guarded: bool = False, wide: bool = False) -> list[Launch]:
    """The launches of a linear kernel, in order.

    alias: by result, the buffer whose memory it takes.  guarded: it writes variables.  wide: indices have 64 bits.

    Raises:
        Unsupported: no form of a kernel on a GPU computes this.
    """
    made = [_wide_too(k, dict(alias or {}), wide) for k in _cut(_settled(kernel))]
    return [replace(m, guarded=guarded) for m in made] if guarded else made


# ---------------------------------------------------------------- cutting


def _settled(kernel: Kernel) -> Kernel:
    """Values that live for one row but are no single number go to memory."""
    def lives(s: Stage) -> bool:
        return s.target.role == "tmp" and any(a not in s.reduced for a in inner_axes(s, kernel))

    moved = {s.target: Buffer(s.target.dtype, s.target.sizes, "part", "between") for s in kernel.stages if lives(s)}
    return _renamed(kernel, moved) if moved else kernel


def _renamed(kernel: Kernel, moved: Mapping[Buffer, Buffer]) -> Kernel:
    def change(e: Expr, args: tuple[Expr, ...]) -> Expr:
        return ir.make("at", args, e.dtype, moved[e.data]) if e.op == "at" and e.data in moved else ir.rebuilt(e, args)

    stages = tuple(replace(s, target=moved.get(s.target, s.target), expr=ir.rewrite(s.expr, change),
                           index=tuple(ir.rewrite(i, change) for i in s.index),
                           init=None if s.init is None else ir.rewrite(s.init, change)) for s in kernel.stages)
    return replace(kernel, stages=stages, buffers=(*(moved.get(b, b) for b in kernel.buffers),
                                                   *(b for b in moved.values() if b not in kernel.buffers)))


def _cut(kernel: Kernel) -> list[Kernel]:
    """Kernels whose outer axes have work for many threads, or that are small enough for one block."""
    if kernel.outer:
        return _bands(kernel)
    if not kernel.stages or _small(kernel):
        return [kernel]
    folds = schedule._column_folds(kernel)
    if folds and _points(folds[0].axes) > 4 * PIECE and (rest := _points(folds[0].reduced[1:])) <= PIECE:
        return [k for part in schedule._in_bands(kernel, folds, folds[0].reduced[0], max(PIECE // rest, 1)) for k in _cut(part)]
    out: list[Kernel] = []
    for stages in _runs(_shared(kernel)):
        out += _alone(kernel, stages)
    return out


def _small(kernel: Kernel) -> bool:
    """Whether one block runs all stages, one after the other."""
    serial = any(scatters(s) or s.scan is not None for s in kernel.stages)
    pointwise = len(kernel.stages) == 1 and not kernel.stages[0].combine
    return not serial and not pointwise and sum(_points(s.axes) for s in kernel.stages) <= TOGETHER


def _points(axes: Sequence[Axis]) -> int:
    found = types.hint(types.product(a.extent for a in axes))
    return 1 << 40 if found is None else found


def _shared(kernel: Kernel) -> list[Stage]:
    """The stages, with memory for what passes between them."""
    moved = {s.target: Buffer(s.target.dtype, s.target.sizes, "part", "between") for s in kernel.stages if s.target.role == "tmp"}
    return list(_renamed(kernel, moved).stages)


def _runs(stages: Sequence[Stage]) -> list[list[Stage]]:
    """Neighbouring stages that are computed at the same points and read only their own point of each other."""
    out: list[list[Stage]] = []
    for s in stages:
        last = out[-1] if out else []
        own = {t.target: t.index[0] for t in last}
        alike = bool(last) and last[0].axes == s.axes and not any(t.combine or t.scan for t in (*last, s))
        reads = [e for e in ir.walk(s.expr, *s.index) if e.op == "at" and e.data in own]
        if alike and s.target not in own and all(e.args[0] is own[e.data] for e in reads) and not _reads_any(last, s.target):
            last.append(s)
        else:
            out.append([s])
    return out


def _reads_any(stages: Sequence[Stage], b: Buffer) -> bool:
    return any(e.op == "at" and e.data is b for s in stages for e in ir.walk(s.expr, *s.index))


def _alone(kernel: Kernel, stages: Sequence[Stage]) -> list[Kernel]:
    """Some stages as kernels of their own: what is not folded becomes outer."""
    s = stages[0]
    if scatters(s) or s.combine == "set":
        return [schedule._of_stages(kernel, kernel.name, stages, ())]
    kept = tuple(a for a in s.axes if a not in s.reduced and a is not s.scan)
    return _bands(schedule._of_stages(kernel, kernel.name, stages, kept))


def _bands(kernel: Kernel) -> list[Kernel]:
    """Folds across many rows of few columns are cut into bands of rows, then combined."""
    if len(kernel.outer) != 1 or kernel.outer[0].bound is not None or not (folds := schedule._column_folds(kernel)):
        return [kernel]
    if any(s.target.role == "part" and s.target.label == "partial" for s in kernel.stages):
        return [kernel]
    points, first, rest = _points(kernel.outer), folds[0].reduced[0], _points(folds[0].reduced[1:])
    if first.bound is not None or points * 4 > BUSY:
        return [kernel]
    long = types.hint(first.extent) or 0
    if _columns(kernel):
        width = _width(kernel)
        least, blocks = -(-BAND * THREADS // width // rest), points // width
    else:
        again = any(inner_axes(s, kernel) and s not in folds for s in kernel.stages)  # then cut rows are read once more, and again
        if not _by_thread(kernel) and (long * rest < 8 * PIECE or again and points * 5 > BLOCKS):
            return [kernel]
        least, blocks = max((BAND if _by_thread(kernel) else PIECE) // rest, 1), points // THREADS if _by_thread(kernel) else points
    band = max(least, -(-long * max(blocks, 1) // BLOCKS))
    return [kernel] if long <= 2 * band else schedule._in_bands(kernel, folds, first, band)


def _by_thread(kernel: Kernel) -> bool:
    """Whether one thread takes an outer point: loads run along the outer axes, or there is little to do inside."""
    inside = _inside(kernel)
    if not kernel.outer or any(scatters(s) for s in kernel.stages):
        return bool(kernel.outer)
    if any(s.scan is not None for s in kernel.stages):
        return _points(kernel.outer) >= MANY_ROWS or len(kernel.stages) > 1
    return inside <= SHORT or _across(kernel) and not _columns(kernel)


def _columns(kernel: Kernel) -> bool:
    """Whether a block takes some neighbouring outer points, and its threads share what is inside: loads run along the outer axes."""
    if not kernel.outer or any(scatters(s) for s in kernel.stages) or not _across(kernel):
        return False
    if any(s.scan is not None for s in kernel.stages):
        return len(kernel.stages) == 1 and _points(kernel.outer) < MANY_ROWS
    return _inside(kernel) > SHORT and _points(kernel.outer) < BUSY and not any(
        a.bound is not None and ir.axes_in(a.bound) & {kernel.outer[-1]} for s in kernel.stages for a in inner_axes(s, kernel))


def _inside(kernel: Kernel) -> int:
    return max((_points(inner_axes(s, kernel)) for s in kernel.stages), default=1)


def _across(kernel: Kernel) -> bool:
    """Whether what is loaded and stored inside runs along the last outer axis rather than along the innermost ones."""
    last, across, along = kernel.outer[-1], 0, 0
    for s in kernel.stages:
        inner = inner_axes(s, kernel)
        if not inner:
            continue
        places = [e.args[0] for e in ir.walk(s.expr) if e.op == "at"] + ([] if s.combine else [s.index[0]])
        for place in places:
            if ir.axes_in(place) & set(inner):
                across += simplify.stride(place, last) == 1
                along += simplify.stride(place, inner[-1]) == 1
    if across == along:
        return _points(kernel.outer) > BUSY if across else schedule._lane_is_vector(kernel)
    return across > along


def _width(kernel: Kernel) -> int:
    """Neighbouring outer points that a block takes: a warp's, or as many as lie side by side."""
    return min(WARP, 1 << (max(_points(kernel.outer[-1:]), 1) - 1).bit_length())


# ---------------------------------------------------------------- forms


def _wide_too(kernel: Kernel, alias: dict[Buffer, Buffer], wide: bool) -> Launch:
    made = replace(_launch(kernel, alias, wide), wide=wide)
    return made if wide else replace(made, widened=partial(_wide_too, kernel, alias, True), many=_many(kernel, alias, made))


def _many(kernel: Kernel, alias: dict[Buffer, Buffer], made: Launch) -> Many | None:
    (a, *more) = kernel.outer or (None,)
    if a is None or more or a.bound is not None or made.checks or len(made.buffers) > MEMBERS:
        return None
    folds = any(s.combine or s.scan or inner_axes(s, kernel) for s in kernel.stages)
    return None if folds else Device(kernel, alias).many()


def _launch(kernel: Kernel, alias: dict[Buffer, Buffer], wide: bool) -> Launch:
    if len(kernel.stages) == 1 and not kernel.outer and (scatters(kernel.stages[0]) or kernel.stages[0].combine == "set"):
        return Device(kernel, alias, wide).updates()
    if kernel.outer and not any(s.combine or s.scan or inner_axes(s, kernel) for s in kernel.stages):
        crossed = _crossed(kernel, alias)
        return Device(kernel, alias, wide).squares(*crossed) if crossed else Device(kernel, alias, wide).points()
    if not kernel.outer and len(kernel.stages) == 1 and not kernel.stages[0].axes:
        return Device(kernel, alias, wide).points()
    if _columns(kernel):
        return Device(kernel, alias, wide).columns()
    return Device(kernel, alias, wide).threads() if _by_thread(kernel) else Device(kernel, alias, wide).rows()


def _crossed(kernel: Kernel, alias: Mapping[Buffer, Buffer]) -> tuple[Axis, Axis, list[Expr]] | None:
    """(the axis along which loads run, the one along which stores do, those loads) of a transposition."""
    lane = kernel.outer[-1]
    if alias or any(simplify.stride(s.index[0], lane) != 1 for s in kernel.stages) or (types.hint(lane.extent) or 0) < SIDE // 2:
        return None
    made = {s.target for s in kernel.stages}
    loads = [e for e in dict.fromkeys(e for s in kernel.stages for e in ir.walk(s.expr)) if e.op == "at"]
    if any(e.data in made for e in loads) or any(x.op == "check" for s in kernel.stages for x in ir.walk(s.expr)):
        return None
    for a in kernel.outer[:-1]:
        found = [e for e in loads if simplify.stride(e.args[0], a) == 1 and simplify.stride(e.args[0], lane) not in (0, 1, None)
                 and not _conditional(e, kernel)]
        if found and (types.hint(a.extent) or 0) >= SIDE // 2 and len(found) <= 4:
            return a, lane, found
    return None


def _conditional(e: Expr, kernel: Kernel) -> bool:
    """Whether a load stands where only a condition makes its index right."""
    return any(x.op == "select" for s in kernel.stages for x in ir.walk(s.expr) if any(y is e for y in ir.walk(x)))


def _threads(work: Size) -> int:
    """Threads of a block: fewer where there is little work, so that all processors have some."""
    n = types.hint(work)
    return THREADS if n is None or n >= BLOCKS * THREADS else 128 if n >= BLOCKS * 128 else 64


class Device(_Emitter):
    """The text of one launch."""

    packed = False  # whether LLVM is to find accesses that lie side by side

    def __init__(self, kernel: Kernel, alias: dict[Buffer, Buffer], wide: bool = False):
        stages = [replace(s, expr=ir.rewrite(s.expr, _rounded_quotient)) for s in kernel.stages]
        kernel = replace(kernel, stages=tuple(_widened(s, wide) for s in stages))
        super().__init__(schedule.Schedule(kernel, kernel.outer, None, schedule._groups(kernel)), alias)
        roots = [alias.get(b, b) for b in self.kernel.buffers if b.role != "tmp"]
        self.buffers = list(dict.fromkeys(roots))
        self.scope = {b: i for i, b in enumerate(self.buffers)}
        self.wide, self.loose = wide, set()
        self.width = 0  # of a block that takes neighbouring points
        self.rooms: dict[Buffer, str] = {}  # stack arrays that take what is stored later
        self.fetched: set[Expr] = set()  # what the present neighbours were loaded for
        self.stack = [_Block("")]
        self.shared = 0
        for number, a in enumerate(dict.fromkeys([*kernel.outer, *[x for s in kernel.stages for x in s.axes]])):
            object.__setattr__(a, "name", f"i{number}")

    # -- forms

    def points(self) -> Launch:
        """A thread computes neighbours in the row-major order of the outer axes: as many as one access of 16 bytes holds."""
        rows = self.kernel.outer
        total = types.product(a.extent for a in rows)
        lanes = self._point_lanes(rows[-1].extent if rows else 1, total)
        whole = bool(rows) and isinstance(rows[-1].extent, int) and rows[-1].extent % lanes == 0
        work = types.floordiv(total, lanes) if whole else types.floordiv(total + lanes * (lanes - 1), lanes)
        threads = _threads(work)
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

        self.line(f"quads = udiv({n}, {lanes})")
        self.open("if quad < quads:")
        self.place("first", f"quad * {lanes}")
        with self.side_by_side(self.kernel.stages, spot, lanes):
            self.place("at", "first + u")
            self.unflatten(rows, "at")
            self._stages()
        self.close()
        self.open(f"elif quad < quads + umod({n}, {lanes}):")
        self.place("at", f"quad + quads * {lanes - 1}")
        self._point("at")
        self.close()

    def many(self) -> Many:
        """The points of several kernels that are alike but for their buffers, their constants and how many points they have."""
        (a,) = self.kernel.outer
        lanes = self._most_lanes(self.kernel.stages, a)
        self.place("quad", "start + thread()")
        if lanes > 1:
            self._in_order("n", lanes)
        else:
            self.open("if quad < n:")
            self._point("quad")
            self.close()
        sizes: list[Size] = [a.extent, *self.sizes, *[bits for _, bits in self.parameters.values()]]
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

    def _most_lanes(self, stages: Sequence[Stage], a: Axis | None) -> int:
        loads = [e for s in stages for e in ir.walk(s.expr) if e.op == "at" and e.data.role != "tmp" and a in ir.axes_in(e)]
        sizes = [e.data.dtype.size for e in loads if ir.axes_in(e) >= set(self.kernel.outer)]  # of others come only few
        sizes += [s.target.dtype.size for s in stages if s.target.role != "tmp" and not s.combine]
        lanes = max(WIDE // max(sizes, default=4), 1)
        return min(lanes, 4) if sum(1 for s in stages for _ in ir.walk(s.expr)) > LONG else lanes

    # -- neighbours: accesses of several elements at once

    def neighbours(self, stages: Sequence[Stage], a: Axis, quads: Axis, lanes: int, body: Callable[[], None],
                   kept: Mapping[Expr, tuple[str, str]] = {}) -> None:
        """Runs `body` for the `lanes` values of `a` from `lanes * quads` on."""
        start = self.axis_name[quads]

        def spot(index: Expr) -> str | None:
            return self.value(ir.substitute(index, {a: ir.axis(quads) * lanes})) if self._aligned(index, a, lanes) else None

        with self.side_by_side(stages, spot, lanes, kept):
            self.place(f"{start}u", f"{start} * {lanes} + u")
            self.bind(a, f"{start}u")
            body()

    def _aligned(self, index: Expr, a: Axis, lanes: int) -> bool:
        """Whether an offset runs along `a`, from multiples of `lanes` on."""
        f = simplify.affine(index)
        others = [c for e, c in f.terms.items() if e is not ir.axis(a)]
        return (simplify.stride(index, a) == 1 and not any(isinstance(c, types.Dim) for c in (*others, f.const))
                and all(c % lanes == 0 for c in (*others, f.const)))  # type: ignore[operator]

    @contextmanager
    def side_by_side(self, stages: Sequence[Stage], spot: Callable[[Expr], str | None], lanes: int,
                     kept: Mapping[Expr, tuple[str, str]] = {}) -> Iterator[None]:
        """A loop over `lanes` neighbours, written out: what lies side by side in memory is loaded before it, and stored after it.

        spot: the place of the first neighbour, or None where an offset does not allow.  kept: by load, the array that keeps it, and where.
        """
        made = {s.target: s.index[0] for s in stages}
        loads = [e for e in dict.fromkeys(e for s in stages for e in ir.walk(s.expr, *s.index)) if e.op == "at"]
        arrays: dict[Expr, tuple[str, str]] = {}
        for e in loads:
            if e.data not in made and e.data.role != "tmp" and (where := spot(e.args[0])) is not None:
                b, code = self.alias.get(e.data, e.data), e.data.dtype.code
                if e in kept:
                    array, first = kept[e]
                else:
                    array, first = self.name(), "0"
                    self.line(f"{array} = stack_{code}({lanes})")
                self.line(f"load_{code}({array}, {first}, p{self.scope[b]}, {where}, {lanes}, {self.scope[b]})")
                arrays[e] = array, first
        for e in dict.fromkeys(e for s in stages for e in ir.walk(s.expr)):  # what neighbours share, as a block of random numbers
            same = e.op == "shr" and e.args[1].op == "const" and (1 << e.args[1].data) % lanes == 0
            if same and (where := spot(e.args[0])) is not None:
                self.stack[-1].names[e] = t = self.name()
                self.line(f"{t} = {self._spell(e, [where, str(e.args[1].data)], len(self.stack) - 1)}")
        self.rooms, self.fetched, after = {}, set(arrays), []
        elsewhere = {e.data for e in loads if e.data in made and e.args[0] is not made[e.data]}
        for s in stages:
            once = sum(t.target is s.target for t in stages) == 1 and not s.combine
            if s.target.role != "tmp" and once and s.target not in elsewhere and (where := spot(s.index[0])) is not None:
                b, code = self.alias.get(s.target, s.target), s.target.dtype.code
                self.rooms[s.target] = room = self.name()
                self.line(f"{room} = stack_{code}({lanes})")
                after.append(f"store_{code}(p{self.scope[b]}, {where}, {room}, 0, {lanes}, {self.scope[b]})")
        self.open(f"for u in unroll({lanes}):")
        for e, (array, first) in arrays.items():
            self.stack[-1].names[e] = t = self.name()
            self.line(f"{t} = ld_{e.data.dtype.code}({array}, {first} + u, 99)")
        yield
        self.close()
        self.rooms = {}
        for text in after:
            self.line(text)

    def _store(self, s: Stage, value: str) -> None:
        if s.target in self.rooms:
            self.line(f"st_{s.target.dtype.code}({self.rooms[s.target]}, u, {value}, 99)")
        else:
            super()._store(s, value)

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
        self.place("flat", f"{self.index_of('block()')} * {THREADS} + thread()")
        self.open(f"if flat < {self.size(total)}:")
        self.unflatten(self.kernel.outer, "flat")
        self._row_body()
        self.close()
        return self.launch((types.ceildiv(total, THREADS), 1, 1), THREADS)

    def _window_lanes(self, total: Size) -> int:
        """Neighbouring points that a thread takes together: where short folds of all inside run along the outer axes."""
        folds, *rest = self.plan.groups
        last, inner = self.kernel.outer[-1].extent, inner_axes(folds[0], self.kernel)
        short = all(isinstance(a.extent, int) and a.bound is None for a in inner) and _points(inner) <= SHORT
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
        total = types.product(a.extent for a in taken)
        self.place("flat", f"{self.index_of('block()')} * {THREADS} + thread()")
        self.open(f"if flat < {self.size(total)}:")
        self.unflatten(taken, "flat")
        for a in s.axes:
            if a not in taken:
                self.loop(a)
        where, v = self.value(s.index[0]), self.value(s.expr)
        if atomic:
            self.line(f"atomic_{s.combine}_{code}(p{self.scope[b]}, {where}, {v})")
        else:
            if s.combine != "set":
                v = self.combine(s.combine or "", s.expr.dtype, f"ld_{code}(p{self.scope[b]}, {where}, 99)", v)
            self.line(f"st_{code}(p{self.scope[b]}, {where}, {v}, 99)")
        while len(self.stack) > 1:
            self.close()
        return self.launch((types.ceildiv(total, THREADS), 1, 1), THREADS)

    def _apart(self, s: Stage, a: Axis) -> bool:
        """Whether different values of `a` always hit different elements: the offset is `stride * a` plus what skips over it."""
        form = simplify.affine(s.index[0])
        step = form.terms.get(ir.axis(a), 0)
        if any(e.op != "axis" and a in ir.axes_in(e) for e in form.terms) or not isinstance(step, int) or step == 0:
            return False
        reach = step * a.extent
        return all(e.op == "axis" and e.data is a or _steps_over(c, step, reach, e) for e, c in form.terms.items())

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

    # -- rows

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
        width, total = _width(self.kernel), types.product(a.extent for a in self.kernel.outer)
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
        widest = max(_points(inner_axes(s, self.kernel)) for s in self.kernel.stages)
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

        def body() -> None:
            for s in group:
                v = self.value(s.expr)
                if s.combine:
                    acc = next(n for f, n in accs if f is s)
                    self.line(f"{acc} = {self.combine(s.combine, s.expr.dtype, acc, v)}")
                else:
                    self._store(s, v)
        self._strided(inner, body, self._worth_keeping(group, later, inner), group)
        if folds:
            self._joined(accs)

    def _row_group_inside(self, group: Sequence[Stage], kept: Sequence[Axis]) -> None:
        """Folds of one kept place, by one thread."""
        reduced = [a for a in inner_axes(group[0], self.kernel) if a not in kept]
        accs = [(s, self._start(s)) for s in group if s.combine]
        depth = len(self.stack)
        for a in reduced:
            self.loop(a)
        for s in group:
            v = self.value(s.expr)
            if s.combine:
                acc = next(n for f, n in accs if f is s)
                self.line(f"{acc} = {self.combine(s.combine, s.expr.dtype, acc, v)}")
            else:
                self._store(s, v)
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
        self.place("quad", place.format(team=self.team))
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

    # -- spelling

    def place(self, name: str, text: str) -> None:
        """An index under a name."""
        self.line(f"{name} = {text}")

    def index_of(self, text: str) -> str:
        return f"to_i64({text})" if self.wide else text

    def bind(self, a: Axis, name: str) -> None:
        self.level[a], self.axis_name[a] = len(self.stack) - 1, name

    def unflatten(self, axes: Sequence[Axis], flat: str) -> None:
        """Names the axes of which `flat` is the row-major position."""
        for k, a in enumerate(reversed(axes)):
            if k == len(axes) - 1:
                self.bind(a, flat)
            else:
                name, rest = self.name(), self.name()
                self.line(f"{name} = umod({flat}, {self.size(a.extent)})")
                self.line(f"{rest} = udiv({flat}, {self.size(a.extent)})")
                self.bind(a, name)
                flat = rest

    def loop(self, a: Axis, start: str = "0") -> None:
        super().loop(a, start)
        if self.wide:
            self.line(f"{a.name}w = to_i64({a.name})")
            self.axis_name[a] = f"{a.name}w"

    def constant(self, e: Expr) -> str:
        return f"to_i64({e.data})" if e.dtype is types.int64 else super().constant(e)

    def combine(self, combine: str, dtype: DType, a: str, b: str) -> str:
        return f"c_mul({a}, {b})" if combine == "mul" and dtype.kind == "c" else super().combine(combine, dtype, a, b)

    def size(self, n: Size) -> str:
        if isinstance(n, int):
            return str(n)
        if n not in self.sizes:
            self.sizes[n] = f"s{len(self.sizes)}"
        return self.sizes[n]

    def _spell(self, e: Expr, a: list[str], level: int) -> str:
        if e.op == "wide":
            return f"to_i64({a[0]})"
        if e.op == "short":
            return f"to_i32({a[0]})"
        if e.op == "check":
            number = self.checks.setdefault(str(e.data), len(self.checks) + 1)
            self.line(f"bad = max(bad, select({a[0]}, 0, {number}))", level)
            return f"select({a[0]}, {a[1]}, to_{e.dtype.code}(0))" if e.dtype.kind in "iu" else a[1]
        if e.op in _PARTS:
            return _PARTS[e.op].format(*a, t=e.args[0].dtype.code)
        if e.op in ir.SCALAR and e.dtype.kind == "c" or e.args and e.args[0].dtype.kind == "c" and e.op in ir.SCALAR:
            return self._complex_word(e, a)
        if e.dtype is types.int64 and e.op in ("floordiv", "mod") and e.args[1].op in ("const", "size") and (
                (bound := _range(e.args[0])) is not None and bound[0] >= 0):
            return f"{'udiv' if e.op == 'floordiv' else 'umod'}({a[0]}, {a[1]})"
        text = super()._spell(e, a, level)
        data = e.dtype is types.int64 and e.op in ir.SCALAR and not _offset_like(e)
        return f"to_i64({text})" if data else text  # of short literals, for one, before it meets others

    def _complex_word(self, e: Expr, a: list[str]) -> str:
        word = _COMPLEX.get(e.op)
        if word is None:
            raise Unsupported(f"{e.op} of complex numbers")
        return word.format(*a, t=e.dtype.code)

    def _float(self, op: str, t: str, a: list[str]) -> str:
        if op in ("floordiv", "truncdiv"):
            return f"{'floor_' if op == 'floordiv' else 'trunc_'}(div_exact({a[0]}, {a[1]}))"
        return super()._float(op, t, a)

    # -- the text

    def launch(self, grid: tuple[Size, Size, Size], threads: int) -> Launch:
        checks = list(self.checks)
        if checks:
            self.stack[0].items.insert(0, "bad = 0")
            self.stack[0].items.append(_Block("if bad > 0:", ["fail(cell, base + bad)"]))
        word = "l" if self.wide else "i"
        sizes: list[Size] = [*self.sizes, *[bits for _, bits in self.parameters.values()]]
        names = [*self.sizes.values(), *[f"{n}b" for n in self.parameters]]
        kinds = "p" * (len(self.buffers) + bool(checks)) + word * len(self.sizes) + "l" * len(self.parameters) + "i" * bool(checks)
        parameters = [*[f"p{i}" for i in range(len(self.buffers))], *["cell"] * bool(checks), *names, *["base"] * bool(checks)]
        source = self._written(kinds, parameters, [], threads)
        writes = tuple(dict.fromkeys(s.target for s in self.kernel.stages if s.target.role != "tmp"))
        return Launch(source, self.buffers, sizes, grid, threads, writes, checks)

    def _written(self, kinds: str, parameters: Sequence[str], start: Sequence[str], threads: int) -> str:
        """The text, with `start` as its first lines."""
        head = [f"# {self.kernel_label()}", f"#: {kinds} {threads}", *["#: packed"] * self.packed]
        head += [f"{n} = np.{_NUMBERS[code]}({_literal(value)})" for (code, value), n in self.consts.items() if n not in self.parameters]
        bits = [f"{n} = {_BITS[code].format(f'{n}b')}" for n, (code, _) in self.parameters.items()]
        out: list[str] = []
        self.stack[0].header = f"def kernel({', '.join(parameters)}):"
        _render(self.stack[0], 0, out)
        return "\n".join([*head, out[0], *[f"    {line}" for line in (*start, *bits)], *out[1:]]) + "\n"


def guarded_text(source: str) -> str:
    """The text of a launch that does nothing once a check has failed."""
    head, _, rest = source.partition("def kernel(")
    parameters, _, body = rest.partition("):\n")
    names = parameters.split(", ")
    if "cell" not in names:
        kinds = head.split("#: ")[1].split(" ")[0]
        pointers = kinds.rfind("p") + 1
        names.insert(pointers, "cell")
        head = head.replace(f"#: {kinds} ", f"#: {kinds[:pointers]}p{kinds[pointers:]} ")
    lines = "\n".join(f"    {line}" if line else line for line in body.rstrip("\n").split("\n"))
    return f"{head}def kernel({', '.join(names)}):\n    if not failed(cell):\n{lines}\n"


def _rounded_quotient(e: Expr, args: tuple[Expr, ...]) -> Expr:
    """A float64 quotient by a constant that is rounded to less: a product does, and takes a tenth of the time."""
    if e.op == "cast" and e.dtype.kind == "f" and e.dtype.size <= 4 and args[0].op == "div" and args[0].dtype is types.float64:
        a, b = args[0].args
        if b.op == "const" and b.data and 1e-300 < abs(b.data) < 1e300:
            return ir.rebuilt(e, (ir.make("mul", (a, ir.const(1.0 / b.data, types.float64)), types.float64),))
    return ir.rebuilt(e, args)


def _without(root: Expr, known: set[Expr]) -> Expr:
    """An expression with what is known already left out, for a look at what is to be loaded."""
    return ir.rewrite(root, lambda e, args: ir.const(0, e.dtype) if e in known and e.dtype.kind != "c" else ir.rebuilt(e, args))


# ---------------------------------------------------------------- integers


def _steps_over(c: Size, step: int, reach: Size, e: Expr) -> bool:
    """Whether `c * e` cannot undo what `step * a` (below `reach`) adds: it moves by whole multiples of `reach`, or stays inside `step`."""
    if not isinstance(c, int) or not isinstance(reach, int):
        return isinstance(c, types.Dim) and c == reach
    return c % reach == 0 or e.op == "axis" and isinstance(e.data.extent, int) and abs(c) * (e.data.extent - 1) < abs(step)


def _range(e: Expr) -> tuple[int, int] | None:
    """Bounds of the arithmetic of axes and sizes; None where anything else is in it."""
    if e.op == "axis":
        n = e.data.extent
        return 0, (n if isinstance(n, int) else LIMIT) - 1
    if e.op in ("const", "size") and e.dtype is types.int64:
        return (e.data, e.data) if isinstance(e.data, int) else (0, LIMIT)
    if e.op not in _ARITHMETIC | _CLAMPS or e.dtype is not types.int64:
        return None
    parts = [_range(a) for a in e.args]
    if any(p is None for p in parts):
        return None
    (a, b), (c, d) = parts[0], parts[-1]  # type: ignore[misc]
    if e.op == "add":
        return a + c, b + d
    if e.op == "sub":
        return a - d, b - c
    if e.op in _CLAMPS:
        return (min(a, c), min(b, d)) if e.op == "min" else (max(a, c), max(b, d))
    if e.op == "neg":
        return -b, -a
    if e.op == "mul":
        corners = [a * c, a * d, b * c, b * d]
        return min(corners), max(corners)
    if c <= 0:
        return None
    return (a // d, b // c) if e.op == "floordiv" and a >= 0 else (0, min(d - 1, max(b, 0))) if e.op == "mod" else (a, b)


def _widened(s: Stage, wide: bool) -> Stage:
    """The stage with its 64-bit integers told apart: data keep 64 bits, offsets take 32."""
    memo: dict[tuple[Expr, bool], Expr] = {}

    def data(e: Expr) -> Expr:
        return _visit(e, False)

    def _visit(e: Expr, index: bool) -> Expr:
        key = (e, index)
        if key not in memo:
            memo[key] = _new(e, index)
        return memo[key]

    def _new(e: Expr, index: bool) -> Expr:
        if not e.args and e.op != "axis":
            return e
        if e.op == "axis":
            return e
        if e.op == "at":
            new = ir.make("at", tuple(_visit(a, True) for a in e.args), e.dtype, e.data)
            return ir.make("short", (new,), types.int64) if index and e.dtype is types.int64 and not wide else new
        plain = e.dtype is types.int64 and _offset_like(e)
        if plain and not index and not _fits(e):
            return ir.make(e.op, tuple(_leaf(_visit(a, False)) for a in e.args), e.dtype, e.data)
        if plain:
            return ir.make(e.op, tuple(_visit(a, index) for a in e.args), e.dtype, e.data)
        args = tuple(_visit(a, False) for a in e.args)
        new = e if args == e.args else ir.make(e.op, args, e.dtype, e.data)
        if index and e.dtype is types.int64 and not wide:
            return ir.make("short", (new,), types.int64)
        return new

    def _leaf(e: Expr) -> Expr:
        return ir.make("wide", (e,), types.int64) if e.op in ("axis", "size") or e.dtype is types.int64 and _fits(e) and e.args else e

    return replace(s, expr=data(s.expr), index=tuple(_visit(i, True) for i in s.index), init=None if s.init is None else data(s.init))


def _offset_like(e: Expr) -> bool:
    """Whether an operation on int64 may be one on 32 bits inside an offset: its low bits depend on low bits only, or all bits fit."""
    return e.op in _ARITHMETIC or e.op in _CLAMPS and all(map(_fits, e.args))


def _fits(e: Expr) -> bool:
    bounds = _range(e)
    return bounds is not None and -(1 << 31) <= bounds[0] and bounds[1] < 1 << 31
