"""The text of one launch: names, offsets, accesses of several elements, and the lines around them.

Knows Kernel IR and the spelling of words; knows no form of a kernel (rank 4).
"""
from __future__ import annotations

import re
from contextlib import contextmanager
from dataclasses import replace
from typing import Callable, Iterator, Mapping, Sequence

from ... import types
from ...types import DType, Size
from .. import ir, schedule, simplify
from ..emit_cpu import _BITS, _Block, _Emitter, _literal, _render
from ..ir import Axis, Buffer, Expr, Kernel, Stage
from .launch import Launch, Many
from .offsets import exact, offset_like, rounded_quotient, span_of, widened
from .texts import signature

WIDE = 16  # bytes of the widest access: what a thread's neighbouring elements fill
LONG = 64  # operations in a kernel's expressions from which a thread takes 4 neighbours at most
_COMPLEX = {**{op: f"c_{op}({{0}}, {{1}})" for op in ("add", "sub", "mul", "div", "eq")}, "ne": "c_eq({0}, {1}) == False",
            **{op: f"c_{op}({{0}})" for op in ("neg", "conj", "abs")}, "select": "select({0}, {1}, {2})"}
_PARTS = {"complex": "c_make(to_{t}({0}), to_{t}({1}))", "real": "c_real({0})", "imag": "c_imag({0})"}
COMPLEX = frozenset((*_COMPLEX, *_PARTS))  # what can be computed of complex numbers
_NUMBERS = {"f32": "float32", "f64": "float64", "i8": "int8", "i16": "int16", "i32": "int32", "i64": "int64", "u8": "uint8",
            "u16": "uint16", "u32": "uint32", "u64": "uint64", "c64": "complex64", "c128": "complex128"}


class Unsupported(Exception):
    """A kernel that has no form on a GPU; the argument says why."""


class Text(_Emitter):
    """The text of one launch."""

    packed = False  # whether LLVM is to find accesses that lie side by side
    room = 0  # bytes of shared memory that a launch brings along

    def __init__(self, kernel: Kernel, alias: dict[Buffer, Buffer], wide: bool = False):
        stages = [replace(s, expr=ir.rewrite(ir.rewrite(s.expr, rounded_quotient), exact)) for s in kernel.stages]
        kernel = replace(kernel, stages=tuple(widened(s, wide) for s in stages))
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

    # -- neighbours: accesses of several elements at once

    def _most_lanes(self, stages: Sequence[Stage], a: Axis | None) -> int:
        loads = [e for s in stages for e in ir.walk(s.expr) if e.op == "at" and e.data.role != "tmp" and a in ir.axes_in(e)]
        sizes = [e.data.dtype.size for e in loads if ir.axes_in(e) >= set(self.kernel.outer)]  # of others come only few
        sizes += [s.target.dtype.size for s in stages if s.target.role != "tmp" and not s.combine]
        lanes = max(WIDE // max(sizes, default=4), 1)
        return min(lanes, 4) if sum(1 for s in stages for _ in ir.walk(s.expr)) > LONG else lanes

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

    def parameter(self, n: Size) -> str:
        """A size that the compiler does not know: loops of few steps would be written out."""
        return self.sizes.setdefault(n, f"s{len(self.sizes)}")

    def _spell(self, e: Expr, a: list[str], level: int) -> str:
        if e.op == "wide":
            return f"to_i64({a[0]})"
        if e.op == "short":
            return f"to_i32({a[0]})"
        if e.op in ("div_by", "div_exact"):
            return f"{e.op}({', '.join(a)})"
        if e.op == "check":
            number = self.checks.setdefault(str(e.data), len(self.checks) + 1)
            self.line(f"bad = max(bad, select({a[0]}, 0, {number}))", level)
            return f"select({a[0]}, {a[1]}, to_{e.dtype.code}(0))" if e.dtype.kind in "iu" else a[1]
        if e.op in _PARTS:
            return _PARTS[e.op].format(*a, t=e.args[0].dtype.code)
        if e.op in ir.SCALAR and e.dtype.kind == "c" or e.args and e.args[0].dtype.kind == "c" and e.op in ir.SCALAR:
            return self._complex_word(e, a)
        if e.dtype is types.int64 and e.op in ("floordiv", "mod") and e.args[1].op in ("const", "size") and (
                (bound := span_of(e.args[0])) is not None and bound[0] >= 0):
            return f"{'udiv' if e.op == 'floordiv' else 'umod'}({a[0]}, {a[1]})"
        text = super()._spell(e, a, level)
        data = e.dtype is types.int64 and e.op in ir.SCALAR and not offset_like(e)
        return f"to_i64({text})" if data else text  # of short literals, for one, before it meets others

    def _complex_word(self, e: Expr, a: list[str]) -> str:
        word = _COMPLEX.get(e.op)
        if word is None:
            raise Unsupported(f"{e.op} of complex numbers")
        return word.format(*a, t=e.dtype.code)

    def _float(self, op: str, t: str, a: list[str]) -> str:
        if op in ("floordiv", "truncdiv"):
            return f"{'floor_' if op == 'floordiv' else 'trunc_'}(div_exact({a[0]}, {a[1]}))"
        if op == "div":
            return f"quotient({a[0]}, {a[1]})"
        if op == "sqrt" and t == "f32":
            return f"sqrt_f32({a[0]})"
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
        head += [f"#: room={self.room}"] * bool(self.room)
        head += [f"{n} = np.{_NUMBERS[code]}({_literal(value)})" for (code, value), n in self.consts.items() if n not in self.parameters]
        bits = [f"{n} = {_BITS[code].format(f'{n}b')}" for n, (code, _) in self.parameters.items()]
        out: list[str] = []
        self.stack[0].header = f"def kernel({', '.join(parameters)}):"
        _render(self.stack[0], 0, out)
        return "\n".join([*head, out[0], *[f"    {line}" for line in (*start, *bits)], *out[1:]]) + "\n"


def alike(launch: Launch) -> Many | None:
    """The text that does the work of several launches of this text, whose blocks are numbered along x alone; None where it cannot."""
    if launch.checks or launch.wide or launch.grid[1:] != (1, 1) or re.search(r"block_[yz]\(|#: packed", launch.source):
        return None
    head, _, rest = launch.source.partition("def kernel(")
    parameters, _, body = rest.partition("):\n")
    names, (kinds, threads) = parameters.split(", "), signature(launch.source)
    width = len(names) + 1
    word = {"p": "pointer(table, base + {})", "i": "to_i32(ld_i64(table, base + {}, 99))", "l": "ld_i64(table, base + {}, 99)"}
    start = [f"base = block() * {width}", f"number = to_i32(ld_i64(table, base + {len(launch.buffers)}, 99))"]
    start += [f"{n} = {word[k].format(i + (i >= len(launch.buffers)))}" for i, (n, k) in enumerate(zip(names, kinds, strict=True))]
    lines = "".join(f"    {line}\n" for line in start)
    source = f"{head.replace(f'#: {kinds} ', '#: p ')}def kernel(table):\n{lines}{body.replace('block()', 'number')}"
    return Many(source, launch.sizes, 0, threads)


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
