"""Attention on a GPU: softmax(q k^T) v tile by tile, and its gradient, so that no array of all scores exists.

The method is that of Dao, "FlashAttention-2" (2023).  A block of threads owns a tile of rows and walks along tiles of columns, which
arrive in shared memory by cp.async, one ahead where there is room for two.  A warp owns 16 rows of scores, or several times 16, and
never meets another warp between two tiles; all it needs of other rows is one barrier a tile.

    kernel              rows                 columns              per tile
    forward             queries              keys, values         S = Q K^T, P = exp(S - max), O = O less + P V
    gradient of queries queries, dO          keys, values         S = Q K^T, dP = dO V^T, dQ += dS K
    gradient of keys    keys, values         queries, dO          S = K Q^T, dP = V dO^T, dV += P dO, dK += dS Q     (all transposed)

where P = exp(S - logsum) and dS = P (dP - delta) in the gradients.  Nothing is added up by atomics: the same bits in every run.

float32 and float64 are multiplied by FMA: a lane owns 4 rows of each 16, every fourth one, and every eighth column, so that reads of
rows by 16 bytes meet different banks; probabilities go to the second product through shared memory that belongs to the warp.  16-bit
floats, and float32 behind the flag `tf32`, are multiplied by tensor cores, where the accumulators of the first product are, packed, an
operand of the second.  Statistics, scores and sums are float32 (float64 for that), exponentials 2^x by the GPU's own unit.

Of what a float32 tile of 64 x 32 scores and 64 columns takes, 78 % of the instructions are FFMA (85 % in the first product, 89 % in the
second; SASS of sm_90).  A 128 x 64 tile of 16-bit floats takes 128 HMMA of 16 x 8 x 16 a warp, 40 LDSM and 64 exponentials in 743
instructions.

Columns that a causal mask hides are left out when every row has a score that makes the hidden ones exp(-inf) = 0; masks known while
compiling are not looked at in tiles that lie on the visible side of the diagonal.  Knows Kernel IR, the operands of `codegen/attention.py`
and the spelling of device words; knows no op by name and no driver (rank 4).
"""
from __future__ import annotations

from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, replace
from functools import partial
from typing import Iterator, Mapping

from ... import types
from ...flags import flags
from ...graph import Operation, Tensor
from ...types import DType, Size
from .. import ir, simplify
from ..attention import Operands, Strided
from ..ir import Axis, Buffer, Kernel
from . import emit
from .device_text import Text
from .launch import Launch

WARP = 32
LINE = 16  # bytes of one access
ROOM = 99 << 10  # bytes of shared memory that every GPU of compute capability 8.0 or newer gives to a block
LOG2E = 1.4426950408889634
FEW = 16  # rows of queries that fill half of a warp's
DEEPEST = {"f32": 128, "f64": 64, "f16": 128, "bf16": 128}  # columns of a query or value whose sums fit in registers


def takes(dtype: DType, *depths: Size) -> bool:
    """Whether there are kernels for operands of a dtype with rows of `depths`: the room of a block must be known."""
    most = DEEPEST.get(dtype.code, 0)
    return all(isinstance(d, int) and 0 < d <= most for d in depths)


def worth(queries: Size) -> bool:
    """Whether blocks have enough rows of queries; for few, folds along all keys at once keep more of a GPU busy."""
    return (types.hint(queries) or 0) >= FEW


def engine(op: Operation) -> str | None:
    """ "attention" for an op that this module computes."""
    if op.opdef.family != "attention":
        return None
    return "attention" if takes(op.inputs[0].dtype, *(op.inputs[i].sizes[-1] for i in (0, 2))) else None  # type: ignore[index]


def kernels(name: str, op: Operation, stored: Mapping[Tensor, Buffer]) -> list[Launch]:
    """Copies of operands that are no matrices by rows, then the attention, or both kernels of its gradient."""
    given = Operands(name, op, stored)
    roles = (Forward,) if len(op.outputs) == 2 else (QueriesGradient, KeysGradient)
    return [*(k for b in given.before for k in emit.launches(simplify.linear(b), {})),  # type: ignore[arg-type]
            *(_launch(False, role, name, given, kind_of(given.q.buffer.dtype)) for role in roles)]


def _launch(wide: bool, role: type[_Tiles], name: str, given: Operands, kind: str) -> Launch:
    """One launch; with indices of 32 bits it knows the other one."""
    made = replace(role(name, given, kind, wide).made(), wide=wide)
    return made if wide else replace(made, widened=partial(_launch, True, role, name, given, kind))


# ---------------------------------------------------------------- forms


@dataclass(frozen=True)
class Form:
    """rows x columns of scores are a tile; a warp owns 16 x `groups` of the rows; `stages` tiles of columns have room."""

    rows: int
    columns: int
    stages: int
    groups: int = 1

    @property
    def warps(self) -> int:
        return self.rows // (16 * self.groups)

    def __str__(self) -> str:
        return f"{self.rows}x{self.columns}"


# The first one with room in shared memory and registers is taken.
_TALL = (Form(128, 64, 2, 2), Form(128, 32, 2, 2))
FORMS = (Form(64, 64, 2), Form(64, 32, 2), Form(64, 32, 1), Form(64, 16, 2), Form(64, 16, 1), Form(32, 16, 2), Form(32, 16, 1),
         Form(16, 16, 1))
SUMS = 160  # registers of a thread for scores and sums
BLOCKS = 132  # that many should have work before they become taller


def kind_of(dtype: DType) -> str:
    """How operands of a dtype are multiplied: what `_Tiles` calls its kind."""
    return "tf32" if dtype is types.float32 and flags.tf32 else dtype.code


# ---------------------------------------------------------------- the kernels


class _Tiles(Text):
    """What the three kernels share: tiles, products, elements of scores."""

    label = ""
    role = ""  # "forward", "queries" or "keys": whose rows

    def __init__(self, name: str, given: Operands, kind: str, wide: bool):
        self.given, self.kind = given, kind
        self.dtype, self.acc = given.q.buffer.dtype, given.q.buffer.dtype.compute
        self.size_of = self.dtype.size
        self.cores = self.kind in ("tf32", "f16", "bf16")
        self.code, self.sums_code = {2: "u16", 4: "f32", 8: "f64"}[self.size_of], self.acc.code
        self.unit = 16 if self.size_of == 2 else 8  # depths in shared memory are multiples of it
        assert isinstance(given.d, int) and isinstance(given.e, int)
        self.d, self.e = (-(-n // self.unit) * self.unit for n in (given.d, given.e))
        self.rows_of, self.columns_of, self.outs = self.operands()
        matrices = [*self.rows_of, *self.columns_of, *self.vectors(), *given.masks]
        buffers = dict.fromkeys([*(x.buffer for x in matrices), *self.outs])
        super().__init__(Kernel(name, tuple(buffers), (), ()), {}, wide)
        self.form = self.chosen()
        self.across = self.form.columns // 8
        # Of a thread: rows down + gy * 16 + uy * apart, columns over + gx * 8 + ux.
        self.down_of, self.over_of, self.apart = (2, 2, 8) if self.cores else (4, 1, 4)
        self.slots = self.form.groups * self.down_of
        self.steps = self._steps_of_masks()

    # -- what a kernel says

    def operands(self) -> tuple[list[Strided], list[Strided], list[Buffer]]:
        """Matrices of its rows, those of its columns, and its results."""
        raise NotImplementedError

    def vectors(self) -> list[Strided]:
        """What it reads a number a row of."""
        return []

    def sums(self) -> int:
        """Columns of its accumulators."""
        raise NotImplementedError

    @property
    def transposed(self) -> bool:
        """Whether rows are keys."""
        return self.role == "keys"

    @property
    def extents(self) -> tuple[Size, Size]:
        """Rows and columns of all scores."""
        g = self.given
        return (g.n, g.m) if self.transposed else (g.m, g.n)

    @property
    def uneven(self) -> bool:
        """Whether the last tile of rows may end early."""
        return simplify._exact(self.extents[0], self.form.rows) is None

    # -- room

    def chosen(self) -> Form:
        """By sizes alone."""
        tasks = (types.hint(self.given.count) or 0) * -(-(types.hint(self.extents[0]) or 0) // 128)
        tall = _TALL if self.cores and self.role == "forward" and tasks >= BLOCKS else ()
        return next(f for f in (*tall, *FORMS) if self.room_of(f) <= ROOM and self.registers_of(f) <= SUMS)

    def registers_of(self, f: Form) -> int:
        scores = f.groups * f.columns // 2 * (1 if self.role == "forward" else 2)
        return (scores + f.groups * self.sums() // 2) * (self.acc.size // 4)

    def room_of(self, f: Form) -> int:
        """Bytes of shared memory; settles where its parts begin, in elements of the operands."""
        one, two = self.pitch(self.d), self.pitch(self.e)
        self.row_at = [0, f.rows * one][:len(self.rows_of)]
        at = f.rows * (one + (two if len(self.rows_of) > 1 else 0))
        self.stage_at, self.stage = at, f.columns * (one + two)
        at += f.stages * self.stage
        self.weights_at, self.weights_pitch = at, f.columns + 8
        if not self.cores:
            at += f.rows * self.weights_pitch
        nbytes = at * self.size_of
        self.numbers_at, self.numbers = nbytes // self.acc.size, 2 * f.columns if self.transposed else 0
        nbytes += f.stages * self.numbers * self.acc.size
        self.cells_at = nbytes // 4
        return nbytes + (f.warps * 4 if self.given.hidden is not None else 0)

    def pitch(self, depth: int) -> int:
        """Elements from row to row in shared memory: an odd number of lines of 16 bytes, so that neighbours are in different banks."""
        return depth + LINE // self.size_of

    # -- the text

    def kernel_label(self) -> str:
        g = self.given
        return f"{self.label} {self.kind} {self.form}, depth {g.d}" + (f" and {g.e}" if g.e != g.d else "")

    def made(self) -> Launch:
        f, rows = self.form, self.extents[0]
        self.room = self.room_of(f)
        tiles = types.ceildiv(rows, f.rows)
        self.line("t = thread()")
        self.line("warp = udiv(t, 32)")
        self.line("lane = umod(t, 32)")
        self.line("number = block()")
        last = f"{self.size(tiles - 1)} - " if self.given.hidden is not None and not self.transposed else ""  # long rows first
        self.line(f"top = ({last}umod(number, {self.size(tiles)})) * {f.rows}")
        self.place("b", self.index_of(f"udiv(number, {self.size(tiles)})"))
        self.places = [Axis(a.extent) for a in self.given.batch]
        if self.places:
            self.unflatten(self.places, "b")
        parts = 4 if self.cores else 8
        self.line(f"down = warp * {16 * f.groups} + udiv(lane, {parts})")
        self.line(f"over = umod(lane, {parts})" + (" * 2" if self.cores else ""))
        self.line("shared = shared_room()")
        self._where_fragments()
        self.starts: dict[int, str] = {}
        self.body()
        made = self.launch((types.product([tiles, self.given.count]), 1, 1), WARP * f.warps)
        return replace(made, writes=tuple(self.outs), flops=2 * self.given.count * self.given.m * self.given.n * self.products())

    def body(self) -> None:
        raise NotImplementedError

    def products(self) -> int:
        """Multiplications for each score."""
        raise NotImplementedError

    def number(self, x: float) -> str:
        return self.constant(ir.const(x, self.acc))

    def start(self, x: Strided) -> str:
        """Where a matrix of this block begins."""
        if id(x) not in self.starts:
            terms = {ir.axis(a): s for a, s in zip(self.places, x.batch) if not (isinstance(s, int) and s == 0)}
            name = self.starts[id(x)] = self.name()
            self.place(name, self.value(simplify.Affine(terms, x.offset).expr()))
        return self.starts[id(x)]

    @contextmanager
    def inside(self, *headers: str) -> Iterator[None]:
        """Blocks; empty headers are none."""
        opened = [h for h in headers if h]
        for h in opened:
            self.open(h)
        yield
        for _ in opened:
            self.close()

    def each_row(self) -> ExitStack:
        """The rows of a thread: `slot` numbers them, `row` is the place in the tile."""
        stack = ExitStack()
        stack.enter_context(self.inside(f"for gy in unroll({self.form.groups}):", f"for uy in unroll({self.down_of}):"))
        return stack

    @property
    def slot(self) -> str:
        return f"gy * {self.down_of} + uy"

    @property
    def row(self) -> str:
        return f"down + (gy * 16 + uy * {self.apart})"

    def each_column(self) -> ExitStack:
        stack = ExitStack()
        stack.enter_context(self.inside(f"for gx in unroll({self.across}):", *[f"for ux in unroll({self.over_of}):"] * (self.over_of > 1)))
        return stack

    @property
    def column(self) -> str:
        return f"over + (gx * 8{' + ux' if self.over_of > 1 else ''})"

    @property
    def element(self) -> str:
        """The place of the present row and column in the scores of a thread."""
        return self.register_of(self.across, "gx")

    def register_of(self, across: int, gx: str) -> str:
        """The place of column group `gx` of the present row, of `across` groups, in a thread's registers."""
        if self.cores:
            return f"(gy * {across} + {gx}) * 4 + uy * 2 + ux"
        return f"(gy * 4 + uy) * {across} + {gx}"

    def get(self, array: str, at: str) -> str:
        return f"ld_{self.sums_code}({array}, {at}, 99)"

    def set(self, array: str, at: str, value: str) -> None:
        self.line(f"st_{self.sums_code}({array}, {at}, {value}, 99)")

    def registers(self, name: str, count: int, zero: bool = False) -> None:
        self.line(f"{name} = stack_{self.sums_code}({count})")
        if zero:
            self.line(f"cleared_{self.sums_code}({name}, {count})")

    @property
    def scores(self) -> int:
        """Elements of a thread."""
        return self.slots * self.across * self.over_of

    # -- tiles from memory

    def ask(self, x: Strided, actual: Size, depth: int, to: str, first: str, rows: int, extent: Size) -> None:
        """Begins to copy rows `first` ... of a matrix to shared memory; zeros beyond `extent` and beyond its columns."""
        threads, scope, pitch = WARP * self.form.warps, self.scope[x.buffer], self.pitch(depth)
        v = self._vector(x, actual)
        across = depth // v
        w = next(n for n in (4, 2, 1) if across % n == 0)  # lanes of a row; eight rows, one after the other, are in other banks
        start, high, name = self.start(x), threads // w, self.name()
        self.line(f"{name}c = umod(udiv(t, 8), {w}) * {v}")
        self.line(f"{name}r = umod(t, 8) + udiv(t, {8 * w}) * 8")
        with self.inside(f"if {name}r < {rows}:" if high > rows else ""):
            for down in range(0, rows, high):
                self.line(f"{name}i = {first} + {name}r + {down}")
                self.place(f"{name}at", f"{start} + {self.index_of(f'{name}i')} * {self.size(x.row)}")
                for right in range(0, depth, w * v):
                    ok = [f"({name}i < {self.size(extent)})"] * (simplify._exact(extent, rows) is None)
                    ok += [f"({name}c + {right} < {actual})"] * (right + w * v > actual)  # type: ignore[operator]
                    place = f"{to} + {name}r * {pitch} + {name}c + {down * pitch + right}"
                    source = f"p{scope}, {name}at + ({name}c + {right}), {' & '.join(ok) or 'True'}, {v}"
                    if v * self.size_of >= 4:
                        self.line(f"asked_{self.code}(shared, {place}, {source}, {scope})")
                    else:
                        self.line(f"moved_{self.code}(shared, {place}, {source}, 60, {scope})")

    def _vector(self, x: Strided, depth: Size) -> int:
        """Elements that one access takes."""
        n = LINE // self.size_of
        while n > 1 and any(simplify._exact(c, n) is None for c in (x.offset, x.row, depth, *x.batch)):
            n //= 2
        return n

    def ask_rows(self) -> None:
        for x, at, (actual, depth) in zip(self.rows_of, self.row_at, self.depths()):
            self.ask(x, actual, depth, str(at), "top", self.form.rows, self.extents[0])

    def ask_columns(self, left: str, to: str) -> None:
        """The tiles of columns `left` ..., to a stage that begins at `to`."""
        for x, at, (actual, depth) in zip(self.columns_of, self.column_at(), self.depths()):
            self.ask(x, actual, depth, f"{to} + {at}", left, self.form.columns, self.extents[1])

    def depths(self) -> list[tuple[Size, int]]:
        return [(self.given.d, self.d), (self.given.e, self.e)]

    def column_at(self) -> list[int]:
        return [0, self.form.columns * self.pitch(self.d)]

    # -- the walk along columns

    @contextmanager
    def walk(self, first: str, steps: str, enough: str = "") -> Iterator[None]:
        """One tile of columns after the other, from number `first` on: `left` is its first column, `now` where it lies.

        enough: a condition, true in all threads or in none, to end with.
        """
        f = self.form
        two = f.stages == 2
        self.line(f"step = {first}")
        self.line(f"now = {self.stage_at}")
        self.ask_rows()
        if two:
            with self.inside(f"if step < {steps}:"):
                self.ask_columns(f"step * {f.columns}", str(self.stage_at))
        self.line("commit_asked()")
        self.open(f"for turn in range(step, {steps}):")
        self.line(f"left = turn * {f.columns}")
        if two:
            self.line("await_asked(0)")
        self.line("barrier()")
        if enough:
            self.leave(enough)
        if two:
            self.line(f"other = {2 * self.stage_at + self.stage} - now")
            with self.inside(f"if turn + 1 < {steps}:"):
                self.ask_columns(f"left + {f.columns}", "other")
            self.line("commit_asked()")
        else:
            self.ask_columns("left", "now")
            self.line("commit_asked()")
            self.line("await_asked(0)")
            self.line("barrier()")
        yield
        if two:
            self.line("now = other")
        self.close()

    def leave(self, enough: str) -> None:
        """Ends the walk where no row needs what a mask hides."""
        raise NotImplementedError

    def any_thread(self, bad: str) -> None:
        """`bad`, 0 or 1, becomes the largest of all threads of the block."""
        for k in (1, 2, 4, 8, 16):
            self.line(f"{bad} = max({bad}, shuffle_xor({bad}, {k}))")
        with self.inside("if lane == 0:"):
            self.line(f"st_i32(shared, {self.cells_at} + warp, {bad}, 60)")
        self.line("barrier()")
        for k in range(self.form.warps):
            self.line(f"{bad} = max({bad}, ld_i32(shared, {self.cells_at + k}, 60))")

    # -- products

    def _where_fragments(self) -> None:
        """Where a thread reads operands, from the beginning of a tile, in rows: times the pitch where that is known."""
        g = 16 * self.form.groups
        if self.cores:
            half = LINE // self.size_of
            self.line("high = udiv(lane, 16)")
            self.line("low = umod(udiv(lane, 8), 2)")
            self.line("eighth = umod(lane, 8)")
            self.line(f"a_row = warp * {g} + low * 8 + eighth")
            self.line(f"a_column = high * {half}")
            self.line("b_row = high * 8 + eighth")
            self.line(f"b_column = low * {half}")

    def product(self, to: str, a: int, b: str, depth: int) -> None:
        """Scores: to = A B^T, A the rows from `a` on, B the columns from `b` on."""
        pitch, f = self.pitch(depth), self.form
        self.line(f"cleared_{self.sums_code}({to}, {self.scores})")
        if not self.cores:
            n = 8
            self.line(f"a_at = {a} + down * {pitch}")
            self.line(f"b_at = {b} + over * {pitch}")
            with self.inside(f"for k in range(0, {self.parameter(depth)}, {n}):"):
                self.line(f"dotted_{self.code}({to}, shared, a_at + k, b_at + k, {n}, {self.slots}, {self.across}, "
                          f"{self.apart * pitch}, {8 * pitch}, 60)")
            return
        step = 2 * LINE // self.size_of
        self.line(f"a_at = {a} + a_row * {pitch} + a_column")
        self.line(f"b_at = {b} + b_row * {pitch} + b_column")
        with self.inside(f"for q in unroll({depth // step}):"):
            with self.inside(f"for gy in unroll({f.groups}):"):
                self.line(f"ldmatrix_{self.code}(x, gy * 4, shared, a_at + (gy * {16 * pitch} + q * {step}))")
            self._rounded("x", 4 * f.groups)
            with self.inside(f"for gx in unroll({f.columns // 16}):"):
                self.line(f"ldmatrix_{self.code}(y, 0, shared, b_at + (gx * {16 * pitch} + q * {step}))")
                self._rounded("y", 4)
                with self.inside("for h in unroll(2):", f"for gy in unroll({f.groups}):"):
                    self.line(f"mma_{self.kind}({to}, (gy * {self.across} + gx * 2 + h) * 4, x, gy * 4, y, h * 2)")

    def _rounded(self, array: str, count: int) -> None:
        if self.kind == "tf32":
            with self.inside(f"for u in unroll({count}):"):
                self.line(f"st_f32({array}, u, tf32(ld_f32({array}, u, 99)), 99)")

    def weigh(self, to: str, weights: str, b: str, depth: int) -> None:
        """to += W B, W what the threads hold as they hold scores, B the columns from `b` on."""
        pitch, f = self.pitch(depth), self.form
        if not self.cores:
            self._weigh_by_multiply_adds(to, weights, b, depth)
            return
        self._as_operand(weights)
        n = f.columns // (16 if self.size_of == 2 else 8)
        if self.size_of == 2:
            self.line(f"b_at = {b} + (low * 8 + eighth) * {pitch} + high * 8")
            with self.inside(f"for q in unroll({n}):", f"for gx in unroll({depth // 16}):"):
                self.line(f"ldmatrix_turned_u16(y, 0, shared, b_at + (q * {16 * pitch} + gx * 16))")
                with self.inside("for h in unroll(2):", f"for gy in unroll({f.groups}):"):
                    self.line(f"mma_{self.kind}({to}, (gy * {depth // 8} + gx * 2 + h) * 4, w, (gy * {n} + q) * 4, y, h * 2)")
            return
        # A step takes columns 2 t and 2 t + 1 of W as its t-th and (t + 4)-th, and rows of B likewise.
        self.line(f"b_at = {b} + over * {pitch} + udiv(lane, 4)")
        with self.inside(f"for q in unroll({n}):", f"for gx in unroll({depth // 8}):"):
            with self.inside("for u in unroll(2):"):
                self.line(f"st_f32(y, u, tf32(ld_f32(shared, b_at + (q * {8 * pitch} + u * {pitch} + gx * 8), 60)), 99)")
            with self.inside(f"for gy in unroll({f.groups}):"):
                self.line(f"mma_tf32({to}, (gy * {depth // 8} + gx) * 4, w, (gy * {n} + q) * 4, y, 0)")

    def _as_operand(self, weights: str) -> None:
        """The threads' elements as fragments `w`."""
        g = self.form.groups
        if self.size_of == 2:
            n = self.form.columns // 16
            with self.inside(f"for gy in unroll({g}):", f"for q in unroll({n}):", "for h in unroll(2):", "for uy in unroll(2):"):
                at = f"(gy * {self.across} + q * 2 + h) * 4 + uy * 2"
                pair = f"{self.get(weights, at)}, {self.get(weights, at + ' + 1')}"
                self.line(f"packed_{self.kind}(w, (gy * {n} + q) * 4 + h * 2 + uy, {pair})")
            return
        with self.inside(f"for gy in unroll({g}):", f"for q in unroll({self.across}):", "for ux in unroll(2):", "for uy in unroll(2):"):
            at = f"(gy * {self.across} + q) * 4"
            self.line(f"st_f32(w, {at} + ux * 2 + uy, tf32({self.get(weights, at + ' + uy * 2 + ux')}), 99)")

    def _weigh_by_multiply_adds(self, to: str, weights: str, b: str, depth: int) -> None:
        f, pitch, wide = self.form, self.pitch(depth), self.weights_pitch
        self.line(f"w_at = {self.weights_at} + down * {wide}")
        self.line("barrier_warp()")
        with self.each_row(), self.each_column():
            place = f"w_at + over + ((gy * 16 + uy * {self.apart}) * {wide} + gx * 8)"
            self.line(f"st_{self.code}(shared, {place}, {self.get(weights, self.element)}, 60)")
        self.line("barrier_warp()")
        with self.inside(f"for k in range(0, {self.parameter(f.columns)}, 8):"):
            for first, base, v in self.pieces(depth):
                self.line(f"weighted_{self.code}({to}, {first}, {depth // 8}, shared, w_at + k, {b} + {base} + over * {v} + k * {pitch}, "
                          f"8, {self.slots}, {v}, {self.apart * wide}, {pitch}, 60)")

    def pieces(self, depth: int) -> list[tuple[int, int, int]]:
        """(a lane's first, the first of all, how many) of its neighbouring sums of a row: as many as one access takes, then fewer."""
        found, first, base, v = [], 0, 0, LINE // self.size_of
        while base < depth:
            while base + 8 * v > depth:
                v //= 2
            found.append((first, base, v))
            first, base = first + v, base + 8 * v
        return found

    def operand_registers(self) -> None:
        """Fragments, for tensor cores."""
        if self.cores:
            self.line(f"x = stack_u32({4 * self.form.groups})")
            self.line("y = stack_u32(4)")
            self.line(f"w = stack_u32({self.scores if self.kind == 'tf32' else self.scores // 2})")

    # -- masks

    def _steps_of_masks(self) -> int | None:
        """The offset of the diagonal on whose visible side all masks change nothing; None where there is none."""
        g, offsets = self.given, []
        for what, source, _ in g.steps:
            if source is None or isinstance(source, int):
                return None
            offset, below, _ = source
            if below != {"add": 0, "sub": 0, "mul": 1, "keep": True, "drop": False}[what]:
                return None
            offsets.append(offset)
        return min(offsets, default=None)

    def masked(self, slopes: str = "") -> None:
        """All scores after scale and masks; `slopes`: what is multiplied by the derivative, besides the scale."""
        g = self.given
        if not g.steps:
            self._scaled(slopes)
            return
        if self.steps is None:
            self._all_masks(slopes)
            return
        f = self.form
        last, first = (f"top + {f.rows - 1}", "left") if self.transposed else (f"left + {f.columns - 1}", "top")
        with self.inside(f"if {last} > {first} + {self.steps}:"):
            self._all_masks(slopes)
        with self.inside("else:"):
            self._scaled(slopes)

    def _scaled(self, slopes: str) -> None:
        with self.each_row(), self.each_column():
            self.set("s", self.element, f"times({self.get('s', self.element)}, {self.number(self.given.scale)})")
            if slopes:
                self.set(slopes, self.element, f"{self.get(slopes, self.element)} - {self.shift()}")

    def shift(self) -> str:
        """What is taken from the gradient of a probability."""
        raise NotImplementedError

    def _all_masks(self, slopes: str) -> None:
        g = self.given
        i, j = ("column", "row") if self.transposed else ("row", "column")
        with self.each_row():
            self.line(f"row = top + {self.row}")
            with self.each_column():
                self.line(f"column = left + {self.column}")
                for k, x in enumerate(g.masks):
                    where = [self.start(x)]
                    for name, extent, step in ((i, g.m, x.row), (j, g.n, x.column)):
                        if not (isinstance(step, int) and step == 0):
                            tile = self.form.columns if name == "column" else self.form.rows
                            held = name if simplify._exact(extent, tile) is not None else f"min({name}, {self.size(extent - 1)})"
                            where.append(f"{self.index_of(held)} * {self.size(step)}")
                    self.line(f"m{k} = ld_{x.buffer.dtype.code}(p{self.scope[x.buffer]}, {' + '.join(where)}, {self.scope[x.buffer]})")
                self.line(f"score = times({self.get('s', self.element)}, {self.number(g.scale)})")
                if slopes:
                    self.line(f"slope = {self.number(1.0)}")
                for what, source, fill in g.steps:
                    self._mask(what, source, fill, i, j, bool(slopes))
                self.set("s", self.element, "score")
                if slopes:
                    self.set(slopes, self.element, f"({self.get(slopes, self.element)} - {self.shift()}) * slope")

    def _mask(self, what: str, source: object, fill: float | None, i: str, j: str, slope: bool) -> None:
        value = ""
        if isinstance(source, tuple):
            offset, below, above = source
            value = f"{j} <= {i} + {offset}"
            if what not in ("keep", "drop"):
                value = f"select({value}, {self.number(below)}, {self.number(above)})"
            elif bool(below) == bool(above):
                value = f"{j} >= 0" if below else f"{j} < 0"
            elif above:
                value = f"{j} > {i} + {offset}"
        elif source is not None:
            value = f"m{source}"
        else:
            value = self.number(fill)  # type: ignore[arg-type]
        if what in ("keep", "drop"):
            self.line(f"held = {value}")
            order = ("{0}", "{1}") if what == "keep" else ("{1}", "{0}")
            for name, other in (("score", fill), *([("slope", 0.0)] if slope else [])):
                yes, no = (o.format(name, self.number(other)) for o in order)  # type: ignore[arg-type]
                self.line(f"{name} = select(held, {yes}, {no})")
            return
        if what in ("mul", "scale"):
            self.line(f"score = times(score, {value})")
            if slope:
                self.line(f"slope = slope * {value}")
        else:
            self.line(f"score = score {'+' if what == 'add' else '-'} {value}")

    def power(self, of: str) -> str:
        """e^x, of x * `factor` made before."""
        return f"pow2_f32({of})" if self.sums_code == "f32" else f"exp_f64({of})"

    def factor(self, scale: float = 1.0) -> float:
        return scale * (LOG2E if self.sums_code == "f32" else 1.0)

    # -- results

    def store(self, sums: str, out: Buffer, actual: Size, depth: int, factor: str = "") -> None:
        """A thread's sums, times `factor` of their row, to rows of a result."""
        rows = self.extents[0]
        paired = self.size_of == 2 and simplify._exact(actual, 8) is not None
        self.line("own = stack_u32(2)" if paired else f"own = stack_{out.dtype.code}({2 if self.cores else LINE // self.size_of})")
        if paired:
            self.line("odd = umod(lane, 2) == 1")
        with self.each_row():
            self.line(f"row = top + {self.row}")
            self.line(f"share = {factor or self.number(1.0)}")
            self.place("row_at", f"(b * {self.size(rows)} + {self.index_of('row')}) * {actual}")
            there = f"row < {self.size(rows)}" if self.uneven else ""
            if paired:
                self._store_pairs(sums, out, actual, depth, there)
                return
            with self.inside(f"if {there}:" if there else ""):
                if self.cores:
                    with self.inside(f"for gx in unroll({depth // 8}):"):
                        self._store_piece(out, actual, depth, "over + gx * 8", 2, self.get(sums, self.register_of(depth // 8, "gx")))
                    return
                for first, base, v in self.pieces(depth):
                    value = self.get(sums, f"(gy * 4 + uy) * {depth // 8} + {first} + ux")
                    self._store_piece(out, actual, depth, f"{base} + over * {v}", v, value)

    def _store_pairs(self, sums: str, out: Buffer, actual: Size, depth: int, there: str) -> None:
        """16-bit sums of two groups of 8 columns: lanes exchange halves, so that each stores four neighbours and a row's lanes 32 bytes."""
        scope = self.scope[out]
        with self.inside(f"for gx in unroll({depth // 16}):"):
            for k in (0, 1):
                at = f"(gy * {depth // 8} + gx * 2 + {k}) * 4 + uy * 2"
                self.line(f"packed_{self.kind}(own, {k}, {self.get(sums, at)} * share, {self.get(sums, at + ' + 1')} * share)")
            self.line("one = ld_u32(own, 0, 99)")
            self.line("two = ld_u32(own, 1, 99)")
            self.line("given = shuffle_xor(select(odd, one, two), 1)")
            self.line("st_u32(own, 0, select(odd, given, one), 99)")
            self.line("st_u32(own, 1, select(odd, two, given), 99)")
            self.line("column = select(odd, over + 6, over) + gx * 16")
            conditions = [c for c in (there, f"column < {actual}" if actual != depth else "") if c]
            with self.inside(f"if {' and '.join(conditions)}:" if conditions else ""):
                self.line(f"moved_u16(p{scope}, row_at + column, own, 0, True, 4, {scope}, 99)")

    def _store_piece(self, out: Buffer, actual: Size, depth: int, column: str, v: int, value: str) -> None:
        """`v` neighbours from a column on, by one access where rows allow that."""
        scope, code, moved = self.scope[out], out.dtype.code, {2: "u16"}.get(self.size_of, self.code)
        together = simplify._exact(actual, v) is not None
        self.line(f"column = {column}")
        with self.inside(f"if column < {actual}:" if actual != depth and together else ""):
            with self.inside(f"for ux in unroll({v}):"):
                if together:
                    self.line(f"st_{code}(own, ux, {value} * share, 99)")
                else:
                    with self.inside(f"if column + ux < {actual}:"):
                        self.line(f"st_{code}(p{scope}, row_at + column + ux, {value} * share, {scope})")
            if together:
                self.line(f"moved_{moved}(p{scope}, row_at + column, own, 0, True, {v}, {scope}, 99)")

    def across_row(self, name: str, combine: str) -> None:
        """`name` of all threads that share the row."""
        for w in (1, 2) if self.cores else (1, 2, 4):
            other = f"shuffle_xor({name}, {w})"
            self.line(f"{name} = " + (f"fmax({name}, {other})" if combine == "max" else f"{name} + {other}"))

    def ragged(self, otherwise: float, *arrays: str) -> None:
        """In a tile that columns end in: what a thread's elements of `arrays` are beyond."""
        columns, n = self.extents[1], self.form.columns
        if simplify._exact(columns, n) is not None:
            return
        with self.inside(f"if left + {n} > {self.size(columns)}:"), self.each_row(), self.each_column():
            self.line(f"there = left + {self.column} < {self.size(columns)}")
            for array in arrays:
                self.set(array, self.element, f"select(there, {self.get(array, self.element)}, {self.number(otherwise)})")


class Forward(_Tiles):
    """The result, and the logarithm of each row's sum."""

    label, role = "attention", "forward"

    def products(self) -> int:
        return self.d + self.e

    def operands(self) -> tuple[list[Strided], list[Strided], list[Buffer]]:
        g = self.given
        return [g.q], [g.k, g.v], list(g.outputs)

    def sums(self) -> int:
        return self.e

    def body(self) -> None:
        g, f = self.given, self.form
        raw = not g.steps and g.scale > 0
        low, zero = self.number(float("-inf")), self.number(0.0)
        factor = self.number(self.factor(g.scale if raw else 1.0))
        sums = self.slots * self.e // 8 * self.over_of
        self.registers("total", self.slots, True)
        self.registers("top_score", self.slots)
        self.registers("less", self.slots)
        with self.each_row():
            self.set("top_score", self.slot, low)
        self.registers("sums", sums, True)
        self.registers("s", self.scores)
        self.operand_registers()
        for x in (*self.rows_of, *self.columns_of, *g.masks):
            self.start(x)
        enough = f"left > top + {f.rows - 1 + g.hidden[0]}" if g.hidden is not None else ""
        with self.walk("0", self.parameter(types.ceildiv(g.n, f.columns)), enough):
            first, second = self.column_at()
            self.product("s", 0, f"now + {first}", self.d)
            if not raw:
                self.masked()
            self.ragged(float("-inf"), "s")
            with self.each_row():
                self.line(f"best = {low}")
                with self.each_column():
                    self.line(f"best = fmax(best, {self.get('s', self.element)})")
                self.across_row("best", "max")
                self.line(f"old = {self.get('top_score', self.slot)}")
                self.line("new = fmax(old, best)")
                self.set("top_score", self.slot, "new")
                self.line(f"safe = select(new == {low}, {zero}, new)")
                self.line(f"shrink = {self.power(f'(old - safe) * {factor}')}")
                self.set("less", self.slot, "shrink")
                self.line(f"part = {zero}")
                with self.each_column():
                    score = self.get("s", self.element)
                    self.line(f"e = {self.power(f'({score} - safe) * {factor}')}")
                    self.set("s", self.element, "e")
                    self.line("part = part + e")
                self.set("total", self.slot, f"{self.get('total', self.slot)} * shrink + part")
            with self.each_row(), self.inside(f"for gx in unroll({self.e // 8}):", *["for ux in unroll(2):"] * self.cores):
                place = self.register_of(self.e // 8, "gx")
                self.set("sums", place, f"{self.get('sums', place)} * {self.get('less', self.slot)}")
            self.weigh("sums", "s", f"now + {second}", self.e)
        self._end(low, zero, raw)

    def leave(self, enough: str) -> None:
        _, bound = self.given.hidden  # type: ignore[misc]
        with self.inside(f"if {enough}:"):
            self.line("bad = 0")
            with self.each_row():
                one = f"select(top + {self.row} < {self.size(self.given.m)}, 1, bad)" if self.uneven else "1"
                self.line(f"bad = select({self.get('top_score', self.slot)} > {self.number(bound)}, bad, {one})")
            self.any_thread("bad")
            with self.inside("if bad == 0:"):
                self.line("break")

    def _end(self, low: str, zero: str, raw: bool) -> None:
        g, logsum = self.given, self.outs[1]
        with self.each_row():
            self.line(f"part = {self.get('total', self.slot)}")
            self.across_row("part", "sum")
            self.line(f"best = {self.get('top_score', self.slot)}")
            self.line(f"safe = select(best == {low}, {zero}, best)")
            self.line(f"row = top + {self.row}")
            owner = "over == 0"
            rows = [f"row < {self.size(g.m)}"] * self.uneven
            with self.inside(f"if {' and '.join([owner, *rows])}:"):
                value = f"times(safe, {self.number(g.scale)})" if raw else "safe"
                self.place("row_at", f"b * {self.size(g.m)} + {self.index_of('row')}")
                scope = self.scope[logsum]
                self.line(f"st_{logsum.dtype.code}(p{scope}, row_at, {value} + log_{self.sums_code}(part), {scope})")
            whole = f"{self.number(1.0)} / part"
            empty = isinstance(g.n, int) and g.n > 0
            self.set("total", self.slot, whole if empty else f"select({self.size(g.n)} == 0, {zero}, {whole})")
        self.store("sums", self.outs[0], g.e, self.e, self.get("total", self.slot))


class _Gradient(_Tiles):
    """What both kernels of the gradient share."""

    def vectors(self) -> list[Strided]:
        return [self.given.logsum, self.given.delta]

    def height(self) -> str:
        """The logarithm of the sum of a score's row of queries."""
        raise NotImplementedError

    def derived(self) -> None:
        """s = P, z = dS, of the present tile."""
        first, second = self.column_at()
        self.product("s", self.row_at[0], f"now + {first}", self.d)
        self.product("z", self.row_at[1], f"now + {second}", self.e)
        self.masked("z")
        with self.each_row(), self.each_column():
            score, factor = self.get("s", self.element), self.number(self.factor())
            self.line(f"e = {self.power(f'({score} - {self.height()}) * {factor}')}")
            self.set("s", self.element, "e")
            self.set("z", self.element, f"e * {self.get('z', self.element)}")
        self.ragged(0.0, "s", "z")

    def begin(self) -> None:
        self.registers("s", self.scores)
        self.registers("z", self.scores)
        self.operand_registers()
        for x in (*self.rows_of, *self.columns_of, *self.vectors(), *self.given.masks):
            self.start(x)


class QueriesGradient(_Gradient):
    """The gradient of the queries."""

    label, role = "attention gradient of queries", "queries"

    def products(self) -> int:
        return 2 * self.d + self.e

    def operands(self) -> tuple[list[Strided], list[Strided], list[Buffer]]:
        g = self.given
        return [g.q, g.dy], [g.k, g.v], [g.outputs[0]]

    def sums(self) -> int:
        return self.d

    def height(self) -> str:
        return self.get("level", self.slot)

    def shift(self) -> str:
        return self.get("shift", self.slot)

    def body(self) -> None:
        g, f = self.given, self.form
        self.registers("sums", self.slots * self.d // 8 * self.over_of, True)
        self.begin()
        for name, x in (("level", g.logsum), ("shift", g.delta)):
            self.registers(name, self.slots)
            with self.each_row():
                row = f"top + {self.row}"
                held = f"min({row}, {self.size(g.m - 1)})" if self.uneven else row
                scope = self.scope[x.buffer]
                at = f"{self.start(x)} + {self.index_of(held)} * {self.size(x.row)}"
                self.set(name, self.slot, f"ld_{self.sums_code}(p{scope}, {at}, {scope})")
        self.line(f"steps = {self.parameter(types.ceildiv(g.n, f.columns))}")
        if g.hidden is not None:
            offset, bound = g.hidden
            self.line("bad = 0")
            with self.each_row():
                self.line(f"bad = select({self.get('level', self.slot)} > {self.number(bound)}, bad, 1)")
            self.any_thread("bad")
            with self.inside("if bad == 0:"):
                self.line(f"steps = min(steps, udiv(max(top + {f.rows + offset}, 0) + {f.columns - 1}, {f.columns}))")
        with self.walk("0", "steps"):
            self.derived()
            self.weigh("sums", "z", f"now + {self.column_at()[0]}", self.d)
        self.store("sums", self.outs[0], g.d, self.d, self.number(g.scale))


class KeysGradient(_Gradient):
    """The gradients of keys and values."""

    label, role = "attention gradient of keys", "keys"

    def products(self) -> int:
        return 2 * (self.d + self.e)

    def operands(self) -> tuple[list[Strided], list[Strided], list[Buffer]]:
        g = self.given
        return [g.k, g.v], [g.q, g.dy], list(g.outputs[1:])

    def sums(self) -> int:
        return self.d + self.e

    def height(self) -> str:
        return f"ld_{self.sums_code}(shared, numbers + {self.column}, 60)"

    def shift(self) -> str:
        return f"ld_{self.sums_code}(shared, numbers + {self.form.columns} + {self.column}, 60)"

    def ask_columns(self, left: str, to: str) -> None:
        super().ask_columns(left, to)
        n, threads = self.form.columns, WARP * self.form.warps
        stage = f"select({to} == {self.stage_at}, 0, {self.numbers})" if self.form.stages == 2 else "0"
        name = self.name()
        self.line(f"{name} = {self.numbers_at} + {stage} + t")
        for k, x in enumerate(self.vectors()):
            for first in range(0, n, threads):
                with self.inside(f"if t < {n - first}:" if n - first < threads else ""):
                    ok = f"{left} + t + {first} < {self.size(self.given.m)}" if simplify._exact(self.given.m, n) is None else "True"
                    at = f"{self.start(x)} + {self.index_of(f'({left} + t + {first})')} * {self.size(x.row)}"
                    scope = self.scope[x.buffer]
                    self.line(f"asked_{self.sums_code}(shared, {name} + {k * n + first}, p{scope}, {at}, {ok}, 1, {scope})")

    def body(self) -> None:
        g, f = self.given, self.form
        self.registers("keys", self.slots * self.d // 8 * self.over_of, True)
        self.registers("values", self.slots * self.e // 8 * self.over_of, True)
        self.begin()
        self.line("first = 0")
        if g.hidden is not None:
            self._first(*g.hidden)
        with self.walk("first", self.parameter(types.ceildiv(g.m, f.columns))):
            self.line(f"numbers = {self.numbers_at} + " + (f"select(now == {self.stage_at}, 0, {self.numbers})" if f.stages == 2 else "0"))
            self.derived()
            first, second = self.column_at()
            self.weigh("values", "s", f"now + {second}", self.e)
            self.weigh("keys", "z", f"now + {first}", self.d)
        self.store("keys", self.outs[0], g.d, self.d, self.number(g.scale))
        self.store("values", self.outs[1], g.e, self.e)

    def _first(self, offset: int, bound: float) -> None:
        """The first tile of queries that sees any of these keys, if all queries before have no need of hidden ones."""
        g, f, x = self.given, self.form, self.given.logsum
        self.line(f"above = udiv(min(max(top - {offset}, 0), {self.size(g.m)}), {f.columns})")
        self.line("bad = 0")
        scope = self.scope[x.buffer]
        with self.inside(f"for i in range(t, above * {f.columns}, {WARP * f.warps}):"):
            at = f"{self.start(x)} + {self.index_of('i')} * {self.size(x.row)}"
            self.line(f"bad = select(ld_{self.sums_code}(p{scope}, {at}, {scope}) > {self.number(bound)}, bad, 1)")
        self.any_thread("bad")
        with self.inside("if bad == 0:"):
            self.line("first = above")
