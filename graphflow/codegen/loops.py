"""Loops and branches around kernel texts, as one text: the bodies stand in it, so a turn costs no calls.

`fused(items)` takes a structure of items and returns the text of one function with the usual ABI, `kernel(B, S, lo, hi)`,
for `compile_kernels`; lo and hi are not read.  Items, whose positions are those in the tables B and S of the new kernel:

    Call(text, buffers_at, sizes_at, extent)   a kernel text, with B and S from there on, lo = 0, hi = extent
    Copy(to, source, nbytes, dtype)            bytes from B[source] to B[to]; they may overlap
    Loop(cond, flag, body)                     cond; done unless the byte at B[flag] is nonzero; body; again
    If(flag, then, other)                      one of two lists of items, by the byte at B[flag]

`extent` and `nbytes` are ints, or `At(i)` for the number at S[i].

The result is 0; or `k << 32 | n` where check n of the k-th Call failed (from 0, as the items are written); or -1: "paused".
A kernel given a `deadline`, the position in B of an int64 to compare the cycle counter with, pauses its outermost loop from
time to time once that has passed.  Everything is in memory then, and another call goes on at the loop's condition, which is
computed once more (it must not change what it reads); so such a kernel begins with that loop, and what stands behind the loop
runs when it is done.

`memory` says which entries of B are which memory: entries of equal keys are the same address, entries of different keys are
disjoint for as long as the kernel runs.  Buffers that share memory at different times, or in part, have no key: None may
overlap anything.  With it numbers that go around a loop are kept in registers.  Without it any two Calls may touch the same memory.

How: sums of few terms are written out, each text is renamed apart, lo and hi become numbers, `return bad` a test, and what only
depends on the tables (pointers, sizes) moves before the loops.  A memory of one element which is only ever loaded and stored
becomes a variable, written back when the kernel returns.  Knows the emitter's spelling; knows no op and no plan (rank 4).
"""
from __future__ import annotations

import ast
import copy
import re
from dataclasses import dataclass
from typing import Hashable, Sequence, Union


@dataclass(frozen=True)
class At:
    """The number at S[index]."""

    index: int


@dataclass(frozen=True)
class Call:
    """A kernel text, not an LLVM one; the kernels it calls by address must be in B behind its buffers, as always."""

    text: str
    buffers_at: int
    sizes_at: int
    extent: int | At


@dataclass(frozen=True)
class Copy:
    """Bytes; `dtype`, an element's code such as "f64", lets a number stay in a register."""

    to: int
    source: int
    nbytes: int | At
    dtype: str = ""


@dataclass(frozen=True)
class Loop:
    """Turns as long as the byte at B[flag] is nonzero after `cond`."""

    cond: Sequence[Item]
    flag: int
    body: Sequence[Item]


@dataclass(frozen=True)
class If:
    """`then` if the byte at B[flag] is nonzero, else `other`."""

    flag: int
    then: Sequence[Item]
    other: Sequence[Item] = ()


Item = Union[Call, Copy, Loop, If]


class Unfit(ValueError):
    """These items cannot be one kernel; run them one by one."""


def fused(items: Sequence[Item], deadline: int | None = None, memory: Sequence[Hashable] | None = None) -> str:
    """One text for all items; see the module's text.

    Raises:
        Unfit: a text of another form than the emitters'; a kernel that could pause but does not begin with its loop.
    """
    if deadline is not None and not (items and isinstance(items[0], Loop)):
        raise Unfit("a kernel that can pause begins with its loop")
    return _Fused(deadline, memory).text(items)


UNKNOWN = 99                                       # an alias scope that may be anything
SCOPES = 60                                        # those of buffers; `intrinsics` knows 64
DOMAIN = 1000                                      # scope numbers of one Call begin at a multiple, where `memory` is not known
WIDTH = {"f32": 4, "f64": 8, "i8": 1, "u8": 1, "i16": 2, "u16": 2, "i32": 4, "u32": 4, "i64": 8, "u64": 8, "b1": 1, "c64": 8, "c128": 16}
SHORT = 16                                         # terms of a sum that is written out
UNROLL = 64                                        # bytes of a copy that is written as elements
# Turns between two looks at the clock: as many as take about so many of its cycles, but not more than so many.
FEWEST, MOST, CYCLES = 16, 1 << 14, 1 << 18
_ACCESS = re.compile(r"(ld|st)_([a-z]+\d+)$")
# Words whose result depends on their arguments only; a stack's place may as well be taken once.
_SAME = re.compile(r"(to_\w+|bits_\w+|stack_\w+|min|max|fmin|fmax|select|advance|size|buf|ifloordiv|imod)$")


class _Fused:
    def __init__(self, deadline: int | None, memory: Sequence[Hashable] | None):
        self.deadline, self.memory = deadline, memory
        self.pointers: dict[int, str] = {}         # by the first entry of its memory
        self.first: dict[Hashable, int] = {}
        self.scopes: dict[int, int] = {}
        self.head: list[ast.stmt] = []             # outside the function
        self.before: list[ast.stmt] = []           # before the loops
        self.calls = 0
        self.names: list[str] = []
        self.unknown = False                       # some memory may be any other

    def text(self, items: Sequence[Item]) -> str:
        body = self.block(items, outermost=self.deadline is not None)
        body = [*body, *_lines("return 0")]
        loaded, body = _in_registers(body, set() if self.unknown else set(self.pointers.values()))
        pointers = _lines("\n".join(f"{name} = buf(B, {entry if entry >= 0 else self.deadline})" for entry, name in self.pointers.items()))
        function = _lines("def kernel(B, S, lo, hi):\n    pass")[0]
        assert isinstance(function, ast.FunctionDef)
        function.body = [*pointers, *self.before, *loaded, *body]
        label = ", ".join(dict.fromkeys(self.names))[:80]
        return f"# loop: {label}\n{ast.unparse(ast.fix_missing_locations(ast.Module([*self.head, function], [])))}\n"

    # -- memory

    def entry(self, position: int) -> int:
        """The first entry of B with the same address."""
        key = self.memory[position] if self.memory is not None else None
        self.unknown = self.unknown or key is None
        return position if key is None else self.first.setdefault(key, position)

    def pointer(self, position: int) -> str:
        entry = self.entry(position)
        return self.pointers.setdefault(entry, f"q{len(self.pointers)}")

    def scope(self, position: int) -> int:
        """The alias scope of an entry whose memory is known."""
        if self.memory is None or self.memory[position] is None:
            return UNKNOWN
        return self.scopes.setdefault(self.entry(position), len(self.scopes) if len(self.scopes) < SCOPES else UNKNOWN)

    # -- items

    def block(self, items: Sequence[Item], outermost: bool = False) -> list[ast.stmt]:
        """A failed check waits until what stands in one line with it is done: a kernel that fails goes on with safe numbers, and
        an exit in the middle would keep LLVM from moving loads out of the loop."""
        made: list[ast.stmt] = []
        checks: list[ast.stmt] = []
        for k, item in enumerate(items):
            if isinstance(item, Call):
                statements, check = self.call(item)
                made += statements
                checks += check
            elif isinstance(item, Copy):
                made += self.copy(item)
            else:
                made, checks = [*made, *checks], []
                made += self.branch(item) if isinstance(item, If) else self.loop(item, outermost and k == 0)
        return [*made, *checks]

    def loop(self, item: Loop, outermost: bool) -> list[ast.stmt]:
        """The condition stands before the loop and at its end: then the body runs whenever the loop does, and LLVM moves out of it
        what stays the same."""
        cond, body, again = self.block(item.cond), self.block(item.body), self.flag(item.flag)
        if not outermost:
            return _filled(f"COND\nwhile {again}:\n    BODY\n    COND", COND=cond, BODY=body)
        self.pointers[-1] = "qd"
        self.before += _lines(f"turns = {FEWEST}\nbegun = cycles()\nlast = ld_i64(qd, 0, {UNKNOWN})")
        return _filled("COND\n"
                       f"while {again}:\n"
                       "    turn = 0\n"
                       f"    while {again} & (turn < turns):\n"
                       "        BODY\n"
                       "        turn = turn + 1\n"
                       "        COND\n"
                       f"    if {again}:\n"
                       "        now = cycles()\n"
                       "        if now > last:\n"
                       "            return -1\n"
                       f"        turns = select(now - begun < {CYCLES}, min(2 * turns, {MOST}), max(turns // 2, 1))\n"
                       "        begun = now", COND=cond, BODY=body)

    def branch(self, item: If) -> list[ast.stmt]:
        then, other = self.block(item.then), self.block(item.other)
        if not other:
            return _filled(f"if {self.flag(item.flag)}:\n    THEN", THEN=then or _lines("pass"))
        return _filled(f"if {self.flag(item.flag)}:\n    THEN\nelse:\n    OTHER", THEN=then or _lines("pass"), OTHER=other)

    def flag(self, position: int) -> str:
        return f"ld_b1({self.pointer(position)}, 0, {self.scope(position)})"

    def number(self, n: int | At) -> str:
        """An int, or the name of a number that is read once."""
        if not isinstance(n, At):
            return str(n)
        name = f"n{n.index}"
        line = f"{name} = size(S, {n.index})"
        if not any(ast.unparse(s) == line for s in self.before):
            self.before += _lines(line)
        return name

    def copy(self, item: Copy) -> list[ast.stmt]:
        to, source = self.pointer(item.to), self.pointer(item.source)
        if to == source:
            return []
        known = UNKNOWN not in (self.scope(item.to), self.scope(item.source))
        t = item.dtype if item.dtype in WIDTH else {1: "u8", 2: "i16", 4: "i32"}.get(item.nbytes, "i64")  # type: ignore[arg-type]
        if known and item.nbytes in (16, 32, 64):
            return _lines(f"move({to}, {source}, {item.nbytes}, {self.scope(item.source)}, {self.scope(item.to)})")
        if known and isinstance(item.nbytes, int) and item.nbytes <= UNROLL and item.nbytes % WIDTH[t] == 0:
            return [s for k in range(item.nbytes // WIDTH[t])
                    for s in _lines(f"st_{t}({to}, {k}, ld_{t}({source}, {k}, {self.scope(item.source)}), {self.scope(item.to)})")]
        return _lines(f"copy_bytes(address({to}), address({source}), {self.number(item.nbytes)})")

    def call(self, item: Call) -> tuple[list[ast.stmt], list[ast.stmt]]:
        number, self.calls = self.calls, self.calls + 1
        part = _Part(self, item, number)
        self.head += part.head
        self.before += part.before
        return part.body, part.check


class _Part(ast.NodeTransformer):
    """A text made ready to stand among others: `head` outside the function, `before` the loops, `body` in place, `check` after it."""

    def __init__(self, whole: _Fused, item: Call, number: int):
        self.whole, self.item, self.number = whole, item, number
        if item.text.startswith(";"):
            raise Unfit("an LLVM text")
        *head, function = ast.parse(item.text).body
        if not (isinstance(function, ast.FunctionDef) and function.name == "kernel" and [a.arg for a in function.args.args] == _ABI):
            raise Unfit("a text of another form")
        *statements, end = function.body
        returns = [n for n in ast.walk(function) if isinstance(n, ast.Return)]
        if not isinstance(end, ast.Return) or len(returns) != 1 or end.value is None:
            raise Unfit("a text that returns in several places")
        first = item.text.split("\n", 1)[0]
        whole.names.append(first.lstrip("# ") if first.startswith("#") else "kernel")
        self.times = _times(function)
        self.local = {*self.times, *(n.id for s in head for n in ast.walk(s) if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store))}
        self.of: dict[str, int] = {}               # pointers to buffers, by their position in B
        self.owner: dict[int, int] = {}            # alias scopes, by the same
        self._find(statements)
        reads: dict[str, int] = {}
        for n in ast.walk(function):
            if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Load):
                reads[n.id] = reads.get(n.id, 0) + 1
        zeros = {_target(s) or "" for s in head if re.fullmatch(r"\w+ = np\.float(32|64)\(0\.0\)", ast.unparse(s))}
        statements = _shortened(statements, reads, zeros)
        self.head = [self.visit(s) for s in head]
        self.before: list[ast.stmt] = []
        self.body: list[ast.stmt] = []
        self.check: list[ast.stmt] = []
        fixed = {*self.of, *(n.id for s in head for n in ast.walk(s) if isinstance(n, ast.Name))}
        for s in statements:
            self._place(s, fixed)
        self._end(function, end)

    def _find(self, statements: Sequence[ast.stmt]) -> None:
        for s in statements:
            k = _buffer(s)
            if k is not None and self.times[s.targets[0].id] == 1:  # type: ignore[attr-defined]
                self.of[s.targets[0].id] = self.item.buffers_at + k  # type: ignore[attr-defined]
        for s in statements:
            for n in ast.walk(s):
                if isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and _ACCESS.match(n.func.id):
                    self._owned(n)

    def _owned(self, n: ast.Call) -> None:
        scope = _int(n.args[-1])
        if isinstance(n.args[0], ast.Name) and n.args[0].id in self.of and scope is not None:
            position, known = self.of[n.args[0].id], self.owner.setdefault(scope, self.of[n.args[0].id])
            if known >= 0 and self.whole.entry(known) != self.whole.entry(position):
                self.owner[scope] = -1             # one scope for two memories: then it tells nothing

    def _place(self, s: ast.stmt, fixed: set[str]) -> None:
        """Before the loops what depends on the tables only, the rest in place."""
        if _buffer(s) is not None and s.targets[0].id in self.of:  # type: ignore[attr-defined]
            return
        name = _target(s)
        if name is not None and self.times[name] == 1:
            read = {n.id for n in ast.walk(s) if isinstance(n, ast.Name) and n.id != name} & (self.local | {"lo", "hi"})
            called = [n.func for n in ast.walk(s) if isinstance(n, ast.Call)]
            if read <= fixed and all(isinstance(f, ast.Name) and _SAME.match(f.id) for f in called):
                fixed.add(name)
                self.before.append(self.visit(s))
                return
        always = isinstance(self.item.extent, int) and self.item.extent > 0
        if always and isinstance(s, ast.If) and not s.orelse and ast.unparse(s.test) == "lo < hi":
            self.body += [self.visit(x) for x in s.body]
            return
        self.body.append(self.visit(s))

    def _end(self, function: ast.FunctionDef, end: ast.Return) -> None:
        """`bad` can only be something where it is set again."""
        value = end.value
        if isinstance(value, ast.Constant) and value.value == 0:
            return
        if isinstance(value, ast.Name) and self.times.get(value.id) == 1:
            setting = [s for s in self.before if ast.unparse(s) == f"{self.name(value.id)} = 0"]
            if setting:
                self.before = [s for s in self.before if s is not setting[0]]
                return
        found = ast.unparse(self.visit(value))     # type: ignore[type-var]
        self.check = _lines(f"if {found} != 0:\n    return {self.number << 32} + {found}")

    # -- names and tables

    def name(self, name: str) -> str:
        return f"c{self.number}_{name}"

    def visit_Name(self, n: ast.Name) -> ast.AST:
        if n.id in self.of:
            return ast.Name(self.whole.pointer(self.of[n.id]), n.ctx)
        written, _, k = n.id.rpartition("_")       # a sum that is written out counts its names; to_i64 is no copy of a local `to`
        if n.id in self.local or (k.isdigit() and written in self.local):
            return ast.Name(self.name(n.id), n.ctx)
        if n.id == "lo":
            return ast.Constant(0)
        if n.id == "hi":
            return ast.parse(self.whole.number(self.item.extent), mode="eval").body
        if n.id in ("B", "S"):
            raise Unfit("a text that hands on its tables")
        return n

    def visit_Subscript(self, n: ast.Subscript) -> ast.AST:
        if isinstance(n.value, ast.Name) and n.value.id == "S":
            return self._table("size", "S", n.slice, self.item.sizes_at)
        return self.generic_visit(n)

    def visit_Call(self, n: ast.Call) -> ast.AST:
        word = n.func.id if isinstance(n.func, ast.Name) else ""
        if word in ("buf", "size") and isinstance(n.args[0], ast.Name) and n.args[0].id in ("B", "S"):
            return self._table(word, n.args[0].id, n.args[1], self.item.buffers_at if word == "buf" else self.item.sizes_at)
        position = self.of.get(n.args[0].id) if _ACCESS.match(word) and isinstance(n.args[0], ast.Name) else None
        made = self.generic_visit(n)
        if position is not None and self.whole.memory is not None:  # also where the text says "anything": here is known what it may be
            n.args[-1] = ast.Constant(self.whole.scope(position))
        elif _ACCESS.match(word):
            n.args[-1] = ast.Constant(self._scope(n.args[-1]))
        return made

    def _table(self, word: str, table: str, index: ast.expr, start: int) -> ast.AST:
        k = _int(index)
        if k is None:
            raise Unfit("a text that computes positions in its tables")
        return ast.parse(f"{word}({table}, {start + k})", mode="eval").body

    def _scope(self, node: ast.expr) -> int:
        scope = _int(node)
        if scope is None or not 0 <= scope < 64:
            return UNKNOWN
        if self.whole.memory is None:
            return DOMAIN * (self.number + 1) + scope
        owner = self.owner.get(scope, -1)
        return UNKNOWN if owner < 0 else self.whole.scope(owner)


_ABI = ["B", "S", "lo", "hi"]


def _times(function: ast.FunctionDef) -> dict[str, int]:
    """How often each name is set."""
    found: dict[str, int] = {}
    for n in ast.walk(function):
        if isinstance(n, ast.Name) and isinstance(n.ctx, ast.Store):
            found[n.id] = found.get(n.id, 0) + 1
    return found


def _buffer(s: ast.stmt) -> int | None:
    """k of `name = buf(B, k)`."""
    v = s.value if _target(s) is not None else None  # type: ignore[attr-defined]
    return _int(v.args[1]) if isinstance(v, ast.Call) and isinstance(v.func, ast.Name) and v.func.id == "buf" else None


def _int(n: ast.AST | None) -> int | None:
    """A literal int."""
    return n.value if isinstance(n, ast.Constant) and type(n.value) is int else None


def _target(s: ast.stmt) -> str | None:
    """The name that a plain assignment sets."""
    return s.targets[0].id if isinstance(s, ast.Assign) and len(s.targets) == 1 and isinstance(s.targets[0], ast.Name) else None


def _shortened(body: list[ast.stmt], reads: dict[str, int], zeros: set[str]) -> list[ast.stmt]:
    """Statements that are waited for less: short sums are written out and added two by two, together with a number added to the sum;
    a product with the result of a function is multiplied and added at once (LLVM would choose the other product of two)."""
    made: list[ast.stmt] = []
    waiting: dict[str, list[str]] = {}             # sums that are added up where they are used
    at: dict[str, ast.expr] = {}                   # values by name, in order
    for k, s in enumerate(body):
        if isinstance(s, (ast.For, ast.If, ast.While)):
            s.body = _shortened(s.body, reads, zeros)
            s.orelse = _shortened(s.orelse, reads, zeros)
        found = _terms(s) if isinstance(s, ast.For) else None
        if found:
            statements, name, terms = found
            made += statements
            start = at.get(name)
            if isinstance(start, ast.Name) and start.id in zeros and reads[name] == 2 and any(name in _addends(x) for x in body[k + 1:]):
                waiting[name] = terms
            else:
                made += _lines(f"{name} = radd({name}, {_tree(terms)})")
            continue
        added = _addends(s)
        held = next((n for n in added if n in waiting), None)
        if held is not None:
            first, *rest = waiting.pop(held)
            other = added[1 - added.index(held)]
            s.value = ast.parse(_tree([f"({first} + {other})", *rest]), mode="eval").body  # type: ignore[attr-defined]
        late = max(added, key=lambda n: list(at).index(n) if n in at else -1, default="")
        factors = _factors(at.get(late), at)
        if held is None and factors and added[0] != added[1]:
            s.value = ast.parse(f"fma_({factors}, {added[1 - added.index(late)]})", mode="eval").body  # type: ignore[attr-defined]
        name = _target(s)
        if name is not None:
            at.pop(name, None)
            at[name] = s.value  # type: ignore[attr-defined]
        made.append(s)
    return made


def _factors(e: ast.expr | None, at: dict[str, ast.expr]) -> str:
    """The two names in `a * b` where one is the result of a function of floats."""
    if not (isinstance(e, ast.BinOp) and isinstance(e.op, ast.Mult) and isinstance(e.left, ast.Name) and isinstance(e.right, ast.Name)):
        return ""
    made = [at.get(n.id) for n in (e.left, e.right)]
    words = [v.func.id for v in made if isinstance(v, ast.Call) and isinstance(v.func, ast.Name)]
    function = any(re.match(r"(?!ld_|to_|bits_)[a-z0-9_]+_f(32|64)$", w) for w in words)
    return f"{e.left.id}, {e.right.id}" if function else ""


def _addends(s: ast.stmt) -> list[str]:
    """The names in `x = a + b`."""
    v = s.value if _target(s) is not None else None  # type: ignore[attr-defined]
    if isinstance(v, ast.BinOp) and isinstance(v.op, ast.Add) and isinstance(v.left, ast.Name) and isinstance(v.right, ast.Name):
        return [v.left.id, v.right.id]
    return []


def _tree(terms: list[str]) -> str:
    """Their sum, by pairs of one of the first half with one of the second, which is there later. Not by `radd`: LLVM would make a
    chain of it."""
    while len(terms) > 1:
        half = len(terms) // 2
        terms = [f"({a} + {b})" for a, b in zip(terms[:half], terms[half:])] + terms[2 * half:]
    return terms[0]


def _terms(n: ast.For) -> tuple[list[ast.stmt], str, list[str]] | None:
    """A short sum: the statements that make its terms, the name it is added to, and the terms."""
    *before, last = n.body
    name = _target(last)
    limits = n.iter.args if isinstance(n.iter, ast.Call) else []
    count = _int(limits[0]) if len(limits) == 1 else None
    if name is None or count is None or not 2 < count <= SHORT or n.orelse:
        return None
    found = re.fullmatch(rf"radd\({name}, (\w+)\)", ast.unparse(last.value))  # type: ignore[attr-defined]
    inner = [_target(s) for s in before]
    if not found or None in inner or len(set(inner)) < len(inner) or name in inner or found[1] not in inner \
            or any(isinstance(x, ast.Name) and x.id == name for s in before for x in ast.walk(s)) or _carried(before, inner):
        return None
    made: list[ast.stmt] = []
    for k in range(count):
        made += [_Numbered(n.target.id, k, set(inner)).visit(x) for s in before for x in _lines(ast.unparse(s))]  # type: ignore[attr-defined]
    return made, name, [f"{found[1]}_{k}" for k in range(count)]


def _carried(body: list[ast.stmt], targets: list[str | None]) -> bool:
    """Whether a statement reads what it or a later one sets: a value of the turn before, as a second sum does."""
    return any(isinstance(x, ast.Name) and x.id in targets[k:] for k, s in enumerate(body)
               for x in ast.walk(s.value))  # type: ignore[attr-defined]


class _Numbered(ast.NodeTransformer):
    """The k-th turn of a loop that is written out."""

    def __init__(self, counter: str, k: int, inner: set):
        self.counter, self.k, self.inner = counter, k, inner

    def visit_Name(self, n: ast.Name) -> ast.AST:
        if n.id == self.counter:
            return ast.Constant(self.k)
        return ast.Name(f"{n.id}_{self.k}", n.ctx) if n.id in self.inner else n


def _lines(text: str) -> list[ast.stmt]:
    return ast.parse(text).body


def _filled(text: str, **blocks: list[ast.stmt]) -> list[ast.stmt]:
    """The statements of `text`, where a line that is one of the words stands for statements."""
    class Fill(ast.NodeTransformer):
        def visit_Expr(self, n: ast.Expr):
            return copy.deepcopy(blocks[n.value.id]) if isinstance(n.value, ast.Name) else n
    return Fill().visit(ast.parse(text)).body


# ---------------------------------------------------------------- memory of one element as a variable

NOT_EXACT = {"f16", "bf16"}                        # a load of what was stored is another number


def _in_registers(body: list[ast.stmt], pointers: set[str]) -> tuple[list[ast.stmt], list[ast.stmt]]:
    """(loads to go before, the statements with variables for memories that are only loaded and stored at element 0 as one type)."""
    kind: dict[str, str | None] = {}
    stored: set[str] = set()
    plain: dict[str, int] = {}
    uses: dict[str, int] = {}
    for n in (n for s in body for n in ast.walk(s)):
        if isinstance(n, ast.Name) and n.id in pointers:
            uses[n.id] = uses.get(n.id, 0) + 1
        found = _element(n)
        if found:
            way, t, p, at = found
            plain[p] = plain.get(p, 0) + 1
            kind[p] = t if at == 0 and t not in NOT_EXACT and kind.get(p, t) == t else None
            if way == "st":
                stored.add(p)
    chosen = {p: t for p, t in kind.items() if t is not None and p in stored and plain[p] == uses.get(p)}

    def variable(p: str) -> str:
        return f"v{p[1:]}"

    class Rewrite(ast.NodeTransformer):
        def visit_Call(self, n: ast.Call) -> ast.AST:
            self.generic_visit(n)
            found = _element(n)
            return ast.Name(variable(found[2]), ast.Load()) if found and found[0] == "ld" and found[2] in chosen else n

        def visit_Expr(self, n: ast.Expr) -> ast.AST:
            found = _element(n.value)
            self.generic_visit(n)
            if found and found[0] == "st" and found[2] in chosen:
                value = ast.Call(ast.Name(f"to_{found[1]}", ast.Load()), [n.value.args[2]], [])  # type: ignore[attr-defined]
                return ast.Assign([ast.Name(variable(found[2]), ast.Store())], value, lineno=0)
            return n

        def visit_Return(self, n: ast.Return):
            return [*_lines("\n".join(f"st_{t}({p}, 0, {variable(p)}, {UNKNOWN})" for p, t in chosen.items())), n]

    body = [x for s in body for x in (lambda made: made if isinstance(made, list) else [made])(Rewrite().visit(s))]
    return _lines("\n".join(f"{variable(p)} = ld_{t}({p}, 0, {UNKNOWN})" for p, t in chosen.items())), body


def _element(n: ast.AST) -> tuple[str, str, str, object] | None:
    """(ld or st, type, pointer, position) of an access through a named pointer."""
    found = isinstance(n, ast.Call) and isinstance(n.func, ast.Name) and _ACCESS.match(n.func.id)
    if not found or not isinstance(n.args[0], ast.Name):  # type: ignore[attr-defined]
        return None
    at = n.args[1]  # type: ignore[attr-defined]
    return found[1], found[2], n.args[0].id, _int(at)  # type: ignore[attr-defined]
