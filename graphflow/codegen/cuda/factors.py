"""Factors and solutions of dense matrices on a GPU: Cholesky, triangular systems, and elimination for inverses and determinants.

Cholesky and triangular systems go by blocks of 32 rows.  A block of threads has the 32 x 32 elements on the diagonal in shared memory;
threads of their own take the rows below (or the columns of the right side) against it; tiles of 32 x 32 subtract the product of what
has been found from what is left.  The launches of all steps have one text for each of these parts.

Elimination is Gauss and Jordan's with the largest pivot of a column: one block of threads takes a matrix that fits in shared memory,
with its right side; larger ones are changed in memory, column by column, by a launch that finds the pivot and exchanges rows, and one
that subtracts.  Determinants are products of pivots.

Knows launches and the spelling of words; knows the buffers and attributes of its ops (rank 4).
"""
from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Any, Callable, Mapping

from ... import types
from ...graph import Operation, Tensor
from ...ops.array import pinned
from ...types import Size
from ..ir import Buffer
from .launch import Launch
from .lines import Lines

BLOCK, PITCH = 32, 33  # rows of a block, and what keeps the banks apart
THREADS = 256
ROWS = 64  # of a block of threads that works against a diagonal
ROOM = 40 << 10  # bytes of shared memory for a matrix with its right side
NOT_POSITIVE = "Cholesky decomposition was not successful. The input might not be valid."
SINGULAR = {"MatrixInverse": "Input is not invertible."}


def engine(op: Operation) -> str | None:
    """ "factor" for an op that this module computes."""
    return "factor" if op.opdef.gpu in KINDS and op.outputs[0].dtype.kind == "f" else None


def kernels(op: Operation, buffers: Mapping[Tensor, Buffer]) -> list[Launch]:
    """The launches that compute `op`."""
    made: list[Callable[[bool], Launch]] = KINDS[op.opdef.gpu or ""](op, [buffers[t] for t in op.inputs], [buffers[t] for t in op.outputs])
    return [replace(m(False), widened=partial(m, True)) for m in made]


def _stack(t: Tensor) -> tuple[Size, int, Size]:
    """(how many matrices, rows, columns) of a tensor; rows decide the form of a kernel."""
    assert t.sizes is not None
    return types.product(t.sizes[:-2]), pinned(t.sizes[-2]), t.sizes[-1]


def _tile(t: Lines, name: str, b: Buffer, at: str, inside: str) -> None:
    """A square of shared memory from `b`: `at` and `inside` are of row i and column c; 0 outside."""
    t.open("for u in unroll(4):", "i = y + 8 * u", f"v = to_{b.dtype.code}(0)")
    t.open(f"if {inside}:", f"v = {t.load(b, at)}")
    t.close()
    t.line(f"st_{b.dtype.code}({name}, i * {PITCH} + c, v, 6{0 if name == 'left' else 1})")
    t.close()


def _squares(t: Lines, code: str, *names: str) -> None:
    t.line(*[f"{n} = shared_{code}({BLOCK * PITCH}, {k})" for k, n in enumerate(names)], "y = udiv(thread(), 32)", "c = umod(thread(), 32)")


# ---------------------------------------------------------------- Cholesky


def _cholesky(op: Operation, inputs: list[Buffer], outputs: list[Buffer]) -> list[Any]:
    (a,), (l,) = inputs, outputs  # noqa: E741
    many, n, _ = _stack(op.inputs[0])
    if n <= BLOCK:
        return [partial(_diagonal, a, l, many, n, 0)]
    made = [partial(_lower, a, l, many, n)]
    for k in range(0, n, BLOCK):
        left = n - k - BLOCK
        made.append(partial(_diagonal, l, l, many, n, k))
        if left > 0:
            made += [partial(_panel, l, many, n, k), partial(_trailing, l, many, n, k)]
    return made


def _lower(a: Buffer, l: Buffer, many: Size, n: int, long: bool) -> Launch:  # noqa: E741
    """The lower triangles, with zeros above."""
    t = Lines([a, l], long)
    t.line(f"t = {t.index('block()')} * {THREADS} + thread()")
    t.open("if t < total:", f"v = {t.load(a, 't')}")
    t.store(l, "t", f"select(umod(t, {n}) <= umod(udiv(t, {n}), {n}), v, to_{a.dtype.code}(0))")
    return t.launch("lower triangles", {"total": many * n * n}, types.ceildiv(many * n * n, THREADS), THREADS, [l])


def _diagonal(a: Buffer, l: Buffer, many: Size, n: int, k: int, long: bool) -> Launch:  # noqa: E741
    """The factor of the block on the diagonal that begins at row k, by columns; of a matrix that is one block, all of the result."""
    code, t, whole = a.dtype.code, Lines([a, l], long), a is not l
    w = t.index(str(n))
    _squares(t, code, "left")
    t.line(f"first = {t.index('block()')} * {n * n} + k * {t.index(str(n + 1))}", f"rows = min({BLOCK}, {n} - k)")
    _tile(t, "left", a, f"first + i * {w} + c", "(i < rows) & (c <= i)")
    t.open("for j in range(0, rows):", "barrier()", f"d = ld_{code}(left, j * {PITCH + 1}, 60)")
    t.open(f"if (d > to_{code}(0)) == False:", "bad = 1")
    t.close()
    t.line("i = j + 1 + thread()")
    t.open("if i < rows:")
    t.line(f"st_{code}(left, i * {PITCH} + j, div_exact(ld_{code}(left, i * {PITCH} + j, 60), sqrt_(d)), 60)")
    t.close()
    t.line("barrier()")
    t.open("for u in unroll(4):", "i = y + 8 * u")
    t.open("if (c > j) & (c <= i) & (i < rows):")
    t.line(f"v = ld_{code}(left, i * {PITCH} + c, 60) - ld_{code}(left, i * {PITCH} + j, 60) * ld_{code}(left, c * {PITCH} + j, 60)")
    t.line(f"st_{code}(left, i * {PITCH} + c, v, 60)")
    t.close(3)
    t.line("barrier()")
    t.open("for u in unroll(4):", "i = y + 8 * u")
    t.open(f"if (i < rows) & (c {'< rows' if whole else '<= i'}):", f"v = ld_{code}(left, i * {PITCH} + c, 60)")
    t.line("v = select(c == i, sqrt_(v), v)", *[f"v = select(c > i, to_{code}(0), v)"] * whole)
    t.store(l, f"first + i * {w} + c", "v")
    t.close(2)
    return t.launch(f"Cholesky: a block of {BLOCK}", {"k": k}, many, THREADS, [l], [NOT_POSITIVE], short=True)


def _panel(l: Buffer, many: Size, n: int, k: int, long: bool) -> Launch:  # noqa: E741
    """The rows below a finished block: each, times the inverse of the block's transpose."""
    code, t = l.dtype.code, Lines([l], long)
    w = t.index(str(n))
    t.line(f"left = shared_{code}({BLOCK * PITCH}, 0)", f"rows = shared_{code}({ROWS * PITCH}, 1)", "each = udiv("
           f"{n + ROWS - 1 - BLOCK} - k, {ROWS})", f"first = {t.index('udiv(block(), each)')} * {n * n}")
    t.line(f"top = k + {BLOCK} + umod(block(), each) * {ROWS}")
    t.open(f"for e in range(thread(), {BLOCK * BLOCK}, {ROWS}):", "i = udiv(e, 32)", "c = umod(e, 32)")
    t.line(f"st_{code}(left, i * {PITCH} + c, {t.load(l, f'first + (k + i) * {w} + k + c')}, 60)")
    t.close()
    t.open(f"for e in range(thread(), {BLOCK * ROWS}, {ROWS}):", "i = udiv(e, 32)", "c = umod(e, 32)", f"v = to_{code}(0)")
    t.open(f"if top + i < {n}:", f"v = {t.load(l, f'first + (top + i) * {w} + k + c')}")
    t.close()
    t.line(f"st_{code}(rows, i * {PITCH} + c, v, 61)")
    t.close()
    t.line("barrier()", f"mine = thread() * {PITCH}")
    t.open(f"for j in range(0, {BLOCK}):", f"v = ld_{code}(rows, mine + j, 61)")
    t.open("for i in range(0, j):", f"v = v - ld_{code}(rows, mine + i, 61) * ld_{code}(left, j * {PITCH} + i, 60)")
    t.close()
    t.line(f"st_{code}(rows, mine + j, div_exact(v, ld_{code}(left, j * {PITCH + 1}, 60)), 61)")
    t.close()
    t.line("barrier()")
    t.open(f"for e in range(thread(), {BLOCK * ROWS}, {ROWS}):", "i = udiv(e, 32)", "c = umod(e, 32)")
    t.open(f"if top + i < {n}:")
    t.store(l, f"first + (top + i) * {w} + k + c", f"ld_{code}(rows, i * {PITCH} + c, 61)")
    t.close(2)
    return t.launch("Cholesky: rows below a block", {"k": k}, many * -(-(n - k - BLOCK) // ROWS), ROWS, [l], short=True)


def _trailing(l: Buffer, many: Size, n: int, k: int, long: bool) -> Launch:  # noqa: E741
    """What is left, less the product of the rows that have just been found with their transpose, in the lower triangle."""
    code, t = l.dtype.code, Lines([l], long)
    w = t.index(str(n))
    tiles = -(-(n - k - BLOCK) // BLOCK)
    _squares(t, code, "left", "right")
    t.line("place = umod(block(), tiles * tiles)", f"first = {t.index('udiv(block(), tiles * tiles)')} * {n * n}")
    t.line(f"top = k + {BLOCK} + udiv(place, tiles) * {BLOCK}", f"across = k + {BLOCK} + umod(place, tiles) * {BLOCK}")
    t.open("if across <= top:")
    _tile(t, "left", l, f"first + (top + i) * {w} + k + c", f"top + i < {n}")
    _tile(t, "right", l, f"first + (across + i) * {w} + k + c", f"across + i < {n}")
    t.line("barrier()")
    t.open("for u in unroll(4):", "i = y + 8 * u", f"v = to_{code}(0)")
    t.open("for j in unroll(32):", f"v = v + ld_{code}(left, i * {PITCH} + j, 60) * ld_{code}(right, c * {PITCH} + j, 61)")
    t.close()
    t.open(f"if (top + i < {n}) & (across + c <= top + i):", f"at = first + (top + i) * {w} + across + c")
    t.store(l, "at", f"{t.load(l, 'at')} - v")
    t.close(3)
    return t.launch("Cholesky: what is left", {"k": k, "tiles": tiles}, many * tiles * tiles, THREADS, [l], short=True)


# ---------------------------------------------------------------- triangular systems


def _triangular(op: Operation, inputs: list[Buffer], outputs: list[Buffer]) -> list[Any]:
    (a, rhs), (x,) = inputs, outputs
    many, n, columns = _stack(op.inputs[1])
    system = _System(a, x, many, n, columns, op.attrs["lower"], op.attrs["adjoint"])
    made: list[Any] = []
    for k in range(0, n, BLOCK):
        source = x if k else rhs
        made.append(partial(system.solve, source, k))
        if n - k > BLOCK:
            made.append(partial(system.subtract, source, k))
    return made


class _System:
    """L X = B, where L is lower triangular once rows and columns are counted from the end, or are exchanged, as the op says."""

    def __init__(self, a: Buffer, x: Buffer, many: Size, n: int, columns: Size, lower: bool, adjoint: bool):
        self.a, self.x, self.many, self.n, self.columns = a, x, many, n, columns
        self.forward, self.adjoint = lower != adjoint, adjoint

    def row(self, i: str) -> str:
        return i if self.forward else f"({self.n - 1} - ({i}))"

    def of(self, i: str, j: str) -> str:
        """The offset of an element of L."""
        i, j = (self.row(j), self.row(i)) if self.adjoint else (self.row(i), self.row(j))
        return f"first + ({i}) * height + {j}"

    def at(self, i: str, column: str) -> str:
        """The offset of an element of X and B."""
        return f"start + ({self.row(i)}) * width + {column}"

    def solve(self, source: Buffer, k: int, long: bool) -> Launch:
        """The 32 rows from k on; a thread takes a column."""
        code, t = self.a.dtype.code, Lines([self.a, source, self.x], long)
        t.line(f"left = shared_{code}({BLOCK * PITCH}, 0)", f"mine = shared_{code}({BLOCK * ROWS}, 1)")
        t.line(f"rows = min({BLOCK}, {self.n} - k)")
        t.line(f"matrix = {t.index('udiv(block(), strips)')}", f"column = umod(block(), strips) * {ROWS} + thread()")
        t.line(f"height = {t.index(str(self.n))}", f"width = {t.index('columns')}", "first = matrix * height * height",
               "start = matrix * height * width")
        t.open(f"for e in range(thread(), {BLOCK * BLOCK}, {ROWS}):", "i = udiv(e, 32)", "c = umod(e, 32)")
        t.open("if (i < rows) & (c <= i):", f"st_{code}(left, i * {PITCH} + c, {t.load(self.a, self.of('k + i', 'k + c'))}, 60)")
        t.close(2)
        t.line("barrier()")
        t.open("if column < columns:")
        t.open("for j in range(0, rows):", f"v = {t.load(source, self.at('k + j', 'column'))}")
        t.open("for i in range(0, j):", f"v = v - ld_{code}(left, j * {PITCH} + i, 60) * ld_{code}(mine, i * {ROWS} + thread(), 61)")
        t.close()
        t.line(f"d = ld_{code}(left, j * {PITCH + 1}, 60)")
        t.open(f"if d == to_{code}(0):", "bad = 1")
        t.close()
        t.line("v = div_exact(v, d)", f"st_{code}(mine, j * {ROWS} + thread(), v, 61)")
        t.store(self.x, self.at("k + j", "column"), "v")
        t.close(2)
        strips = types.ceildiv(self.columns, ROWS)
        return t.launch("triangular system: a block of rows", {"k": k, "columns": self.columns, "strips": strips}, self.many * strips, ROWS,
                        [self.x], ["Input matrix is not invertible."], short=True)

    def subtract(self, source: Buffer, k: int, long: bool) -> Launch:
        """The rows below, less their part of L times the rows that have just been found."""
        code, t = self.a.dtype.code, Lines([self.a, source, self.x], long)
        down, strips = -(-(self.n - k - BLOCK) // BLOCK), types.ceildiv(self.columns, BLOCK)
        _squares(t, code, "left", "right")
        t.line("place = umod(block(), down * strips)", f"matrix = {t.index('udiv(block(), down * strips)')}")
        t.line(f"height = {t.index(str(self.n))}", f"width = {t.index('columns')}", "first = matrix * height * height",
               "start = matrix * height * width")
        t.line(f"top = k + {BLOCK} + udiv(place, strips) * {BLOCK}", f"across = umod(place, strips) * {BLOCK}")
        _tile(t, "left", self.a, self.of("top + i", "k + c"), f"top + i < {self.n}")
        _tile(t, "right", self.x, self.at("k + i", "across + c"), "across + c < columns")
        t.line("barrier()")
        t.open("for u in unroll(4):", "i = y + 8 * u", f"v = to_{code}(0)")
        t.open("for j in unroll(32):", f"v = v + ld_{code}(left, i * {PITCH} + j, 60) * ld_{code}(right, j * {PITCH} + c, 61)")
        t.close()
        t.open(f"if (top + i < {self.n}) & (across + c < columns):", f"at = {self.at('top + i', 'across + c')}")
        t.store(self.x, "at", f"{t.load(source, 'at')} - v")
        t.close(2)
        return t.launch("triangular system: what is left", {"k": k, "columns": self.columns, "down": down, "strips": strips},
                        self.many * strips * down, THREADS, [self.x], short=True)


# ---------------------------------------------------------------- elimination


class _Elimination:
    """Rows of [A | B] become those of [1 | X]; of A alone (for its determinant) those of an upper triangle.

    kind: "inverse" (B is the unit matrix), "solve", "determinant", or "logarithm" of its magnitude, with its sign.
    """

    def __init__(self, kind: str, op: Operation, inputs: list[Buffer], outputs: list[Buffer]):
        self.kind, self.inputs, self.outputs = kind, inputs, outputs
        self.many, self.n, _ = _stack(op.inputs[0])
        self.solves = kind in ("inverse", "solve")
        self.right = self.n if kind == "inverse" else pinned(op.inputs[1].sizes[-1]) if kind == "solve" else 0  # type: ignore[index]
        self.width = self.n + self.right
        self.adjoint = bool(op.attrs.get("adjoint"))
        self.code, self.dtype = inputs[0].dtype.code, inputs[0].dtype
        self.checks = [SINGULAR.get(op.type, "Input matrix is not invertible.")] if self.solves else []

    def made(self) -> list[Any]:
        if self.n * self.width * self.dtype.size <= ROOM:
            return [self.small]
        work = Buffer(self.dtype, (self.many, self.n, self.width), "part", "rows")
        steps = [partial(step, work, j) for j in range(self.n) for step in (self.pivot, self.below)]
        return [partial(self.begin, work), *steps, *[partial(self.end, work)] * self.solves]

    # -- parts of texts

    def _given(self, t: Lines) -> None:
        """`v`: the element of [A | B] in row i and column c, of the matrix whose elements are from `first` on."""
        i, c = ("c", "i") if self.adjoint else ("i", "c")
        t.line(f"v = to_{self.code}(0)")
        t.open(f"if c < {self.n}:", f"v = {t.load(self.inputs[0], f'matrix * {self.n * self.n} + {i} * {t.index(str(self.n))} + {c}')}")
        t.close()
        if self.kind == "solve":
            at = f"matrix * {self.n * self.right} + i * {t.index(str(self.right))} + c - {self.n}"
            t.open(f"if c >= {self.n}:", f"v = {t.load(self.inputs[1], at)}")
            t.close()
        elif self.kind == "inverse":
            t.line(f"v = select(c == i + {self.n}, to_{self.code}(1), v)")

    def _counted(self, t: Lines) -> None:
        """`product` and `logs` of the pivots so far."""
        if self.kind == "determinant":
            t.line("product = product * select(place == j, pivot, -pivot)")
        elif self.kind == "logarithm":
            t.line("product = product * select(pivot == zero, zero, select((place == j) == (pivot > zero), one, -one))")
            t.line(f"logs = logs + log_{self.code}(fabs_(pivot))")

    def _started(self, t: Lines) -> None:
        t.line(f"zero = to_{self.code}(0)", f"one = to_{self.code}(1)", "product = one", *["logs = zero"] * (self.kind == "logarithm"))

    def _results(self, t: Lines, at: str) -> None:
        for b, name in zip(self.outputs, ("product", "logs")):
            t.store(b, at, name)

    def _checked(self, t: Lines) -> None:
        if self.solves:
            t.open(f"if pivot == to_{self.code}(0):", "bad = 1")
            t.close()

    def _factor(self, mine: str, pivot: str) -> str:
        """What a row is reduced by: pivots of systems have been divided by already."""
        return mine if self.solves else f"select({pivot} == to_{self.code}(0), to_{self.code}(0), div_exact({mine}, {pivot}))"

    # -- a matrix in shared memory

    def small(self, long: bool) -> Launch:
        code, n, width, threads = self.code, self.n, self.width, 128
        t = Lines([*self.inputs, *self.outputs], long)
        t.line(f"rows = shared_{code}({n * width}, 0)", f"matrix = {t.index('block()')}")
        t.open(f"for e in range(thread(), {n * width}, {threads}):", f"i = udiv(e, {max(width, 1)})", f"c = umod(e, {max(width, 1)})")
        self._given(t)
        t.line(f"st_{code}(rows, e, v, 60)")
        t.close()
        self._started(t)
        t.open(f"for j in range(0, {n}):", "barrier()", "place = j", f"most = fabs_(ld_{code}(rows, j * {width + 1}, 60))")
        t.open(f"for i in range(j + 1, {n}):", f"v = fabs_(ld_{code}(rows, i * {width} + j, 60))")
        t.line("place = select(v > most, i, place)", "most = select(v > most, v, most)")
        t.close()
        t.line(f"pivot = ld_{code}(rows, place * {width} + j, 60)")
        self._checked(t)
        self._counted(t)
        t.line("barrier()")
        t.open(f"for c in range(j + thread(), {width}, {threads}):", f"v = ld_{code}(rows, place * {width} + c, 60)")
        t.line(f"st_{code}(rows, place * {width} + c, ld_{code}(rows, j * {width} + c, 60), 60)")
        t.line(f"st_{code}(rows, j * {width} + c, {'div_exact(v, pivot)' if self.solves else 'v'}, 60)")
        t.close()
        t.line("barrier()")
        t.open(f"for e in range(thread(), {n * width}, {threads}):", f"i = udiv(e, {max(width, 1)})", f"c = umod(e, {max(width, 1)})")
        t.open(f"if (c > j) & (i {'!=' if self.solves else '>'} j):")
        t.line(f"f = {self._factor(f'ld_{code}(rows, i * {width} + j, 60)', 'pivot')}")
        t.line(f"st_{code}(rows, e, ld_{code}(rows, e, 60) - f * ld_{code}(rows, j * {width} + c, 60), 60)")
        t.close(3)
        t.line("barrier()")
        if self.solves:
            t.open(f"for e in range(thread(), {n * self.right}, {threads}):", f"i = udiv(e, {max(self.right, 1)})")
            t.line(f"c = umod(e, {max(self.right, 1)}) + {n}")
            t.store(self.outputs[0], f"matrix * {n * self.right} + e", f"ld_{code}(rows, i * {width} + c, 60)")
        else:
            t.open("if thread() == 0:")
            self._results(t, "matrix")
        t.close()
        return t.launch(f"elimination in shared memory: {self.kind}", {}, self.many, threads, self.outputs, self.checks)

    # -- a matrix in memory

    def begin(self, work: Buffer, long: bool) -> Launch:
        t = Lines([*self.inputs, work], long)
        each = self.n * self.width
        t.line(f"t = {t.index('block()')} * {THREADS} + thread()")
        t.open("if t < total:", f"matrix = udiv(t, {each})", f"i = umod(udiv(t, {self.width}), {self.n})", f"c = umod(t, {self.width})")
        self._given(t)
        t.store(work, "t", "v")
        return t.launch("elimination: the rows", {"total": self.many * each}, types.ceildiv(self.many * each, THREADS), THREADS, [work])

    def pivot(self, work: Buffer, j: int, long: bool) -> Launch:
        """The row of the largest element of column j, in place of row j; divided by it where a system is solved."""
        code, t = self.code, Lines([work, *([] if self.solves else self.outputs)], long)
        t.line(f"largest = shared_{code}({THREADS}, 0)", f"where = shared_i32({THREADS}, 1)", f"width = {t.index(str(self.width))}")
        t.line(f"first = {t.index('block()')} * {self.n} * width", f"most = -to_{code}(1)", "place = j")
        t.open(f"for i in range(j + thread(), {self.n}, {THREADS}):", f"v = fabs_({t.load(work, 'first + i * width + j')})")
        t.line("place = select(v > most, i, place)", "most = select(v > most, v, most)")
        t.close()
        t.line(f"st_{code}(largest, thread(), most, 60)", "st_i32(where, thread(), place, 61)", f"step = {THREADS // 2}")
        t.open("while step > 0:", "barrier()")
        t.open("if thread() < step:", f"v = ld_{code}(largest, thread() + step, 60)", "i = ld_i32(where, thread() + step, 61)")
        t.open("if (v > most) | ((v == most) & (i < place)):", "most = v", "place = i")
        t.close()
        t.line(f"st_{code}(largest, thread(), most, 60)", "st_i32(where, thread(), place, 61)")
        t.close()
        t.line("step = udiv(step, 2)")
        t.close()
        t.line("barrier()", "place = ld_i32(where, 0, 61)", f"pivot = {t.load(work, 'first + place * width + j')}", "barrier()")
        self._checked(t)
        t.open(f"for c in range(j + thread(), {self.width}, {THREADS}):", f"v = {t.load(work, 'first + place * width + c')}")
        t.store(work, "first + place * width + c", t.load(work, "first + j * width + c"))
        t.store(work, "first + j * width + c", "div_exact(v, pivot)" if self.solves else "v")
        t.close()
        if not self.solves:
            self._started(t)
            t.open("if thread() == 0:")
            t.open("if j > 0:", *[f"{name} = {t.load(b, 'block()')}" for b, name in zip(self.outputs, ("product", "logs"))])
            t.close()
            self._counted(t)
            self._results(t, "block()")
            t.close()
        return t.launch("elimination: a pivot", {"j": j}, self.many, THREADS, [work, *([] if self.solves else self.outputs)], self.checks,
                        short=True)

    def below(self, work: Buffer, j: int, long: bool) -> Launch:
        """The other rows, less their multiples of row j; of a triangle only those below it."""
        t = Lines([work], long)
        strips = -(-self.n * self.width // THREADS)
        t.line(f"width = {t.index(str(self.width))}", f"first = {t.index(f'udiv(block(), {strips})')} * {self.n} * width")
        t.line(f"e = umod(block(), {strips}) * {THREADS} + thread()", f"i = udiv(e, {self.width})", f"c = umod(e, {self.width})")
        t.open(f"if (i < {self.n}) & (c > j) & (i {'!=' if self.solves else '>'} j):", f"mine = {t.load(work, 'first + i * width + j')}",
               f"pivot = {t.load(work, 'first + j * width + j')}", f"f = {self._factor('mine', 'pivot')}")
        at = "first + i * width + c"
        t.store(work, at, f"{t.load(work, at)} - f * {t.load(work, 'first + j * width + c')}")
        return t.launch("elimination: other rows", {"j": j}, self.many * strips, THREADS, [work], short=True)

    def end(self, work: Buffer, long: bool) -> Launch:
        (x,), t = self.outputs, Lines([work, self.outputs[0]], long)
        total = self.many * self.n * self.right
        t.line(f"t = {t.index('block()')} * {THREADS} + thread()")
        t.open("if t < total:")
        at = f"udiv(t, {self.right}) * {self.width} + umod(t, {self.right}) + {self.n}"
        t.store(x, "t", t.load(work, at))
        return t.launch("elimination: the solution", {"total": total}, types.ceildiv(total, THREADS), THREADS, [x])


KINDS: dict[str, Callable[..., list[Any]]] = {"cholesky": _cholesky, "triangular": _triangular}
KINDS |= {kind: lambda *given, kind=kind: _Elimination(kind, *given).made() for kind in ("inverse", "solve", "determinant", "logarithm")}
