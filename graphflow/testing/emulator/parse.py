"""PTX text -> Module: variables and functions, each body a flat list of instructions with their lines, scopes resolved.

Knows: PTX's grammar of directives, statements and operands. Must not know: what an instruction does. Place: first step of the emulator.
"""
from __future__ import annotations

import re
from bisect import bisect_right
from dataclasses import dataclass, field
from functools import lru_cache
from typing import NamedTuple

import numpy as np

from .errors import SyntaxFault
from .values import DTYPES, immediate


class Instruction(NamedTuple):
    """One statement. guard: (predicate register, negated) or None; operands: texts such as "%r1", "{%r1,%r2}", "[%rd1+4]", "7"."""

    op: str
    mods: tuple[str, ...]
    operands: tuple[str, ...]
    guard: tuple[str, bool] | None
    line: int
    text: str

    @property
    def type(self) -> str:
        return self.mods[-1] if self.mods else ""


class Variable(NamedTuple):
    """A variable of a space ("global", "const", "shared", "local", "param"). size in bytes, None: extern array, sized by the launch."""

    name: str
    space: str
    align: int
    size: int | None
    type: str
    value: bytes | None            # initial bytes, or None
    links: tuple[tuple[int, str], ...] = ()  # offsets of the value that hold other variables' addresses


@dataclass
class Function:
    name: str
    entry: bool
    params: list[Variable]
    results: list[Variable]
    limits: dict[str, tuple[int, ...]]                      # maxntid, reqntid, ...
    line: int
    instructions: list[Instruction] = field(default_factory=list)
    labels: dict[str, int] = field(default_factory=dict)    # label -> index of the instruction it stands before
    tables: dict[str, list[str]] = field(default_factory=dict)  # name -> labels of a .branchtargets
    registers: dict[str, str] = field(default_factory=dict)  # name -> pool
    variables: list[Variable] = field(default_factory=list)  # shared, local and param variables of the body


@dataclass
class Module:
    version: str
    target: str
    variables: dict[str, Variable]
    functions: dict[str, Function]

    @property
    def kernels(self) -> list[str]:
        return [f.name for f in self.functions.values() if f.entry]


_COMMENT = re.compile(r"/\*.*?\*/|//[^\n]*", re.S)
_POOL = {"pred": "?", "b8": "u2", "u8": "u2", "s8": "u2", "b16": "u2", "u16": "u2", "s16": "u2", "f16": "u2", "bf16": "u2",
         "b32": "u4", "u32": "u4", "s32": "u4", "f32": "u4", "f16x2": "u4", "b64": "u8", "u64": "u8", "s64": "u8", "f64": "u8"}
_TOP = re.compile(r"\s*(?:\.(version|target|address_size|file|loc|alias|pragma)\b([^\n;]*);?"
                  r"|(?:\.(visible|extern|weak|common|internal)\s+)*\.(entry|func)\b"
                  r"|\.section\s+[^{]*\{[^}]*\}"
                  r"|((?:\.\w+\s+)*?\.(?:global|const|shared)\b[^;]*);)", re.S)
_VARIABLE = re.compile(r"((?:\.\w+(?:\s*\(\s*\d+\s*\))?\s+(?:\d+\s+)?)+)([\w$.]+)\s*((?:\[\s*\d*\s*\])*)\s*(?:=\s*(.*))?$", re.S)
_STATEMENT = re.compile(r"\s*(?:([$%\w.]+)\s*:(?!:)|([{}])|([^;{}\s](?:[^;{}]|\{[^{}]*\})*);)", re.S)
_PARTS = re.compile(r"(?:@(!?)\s*([%$\w]+)\s+)?([a-z]\w*)((?:\.[\w:]+)*)\s*(.*)$", re.S)
_OPERAND = re.compile(r"\{[^}]*\}|\[[^\]]*\]|\([^)]*\)|[^,\s]+")
_REGISTERS = re.compile(r"([%$\w]+)(?:<(\d+)>)?")
_NAME = re.compile(r"[%$A-Za-z_][\w$%.]*")


@lru_cache(maxsize=64)
def parse(text: str) -> Module:
    """The module of a PTX text. Raises SyntaxFault with the line."""
    return _Parser(text).module()


class _Parser:
    def __init__(self, text: str) -> None:
        self.text = _COMMENT.sub(lambda m: "\n" * m[0].count("\n") or " ", text).replace("\0", " ")
        self.starts = [m.start() for m in re.finditer("^", self.text, re.M)]

    def line(self, at: int) -> int:
        return bisect_right(self.starts, at)

    def fault(self, what: str, at: int) -> SyntaxFault:
        return SyntaxFault(what, line=self.line(at), instruction=self.text[at:at + 80].strip().split("\n")[0])

    def module(self) -> Module:
        out, at = Module("", "", {}, {}), 0
        while found := _TOP.match(self.text, at):
            word, rest, _, function, variable = found.groups()
            at = found.end()
            if word in ("version", "target"):
                setattr(out, word, rest.strip())
            elif function:
                made, at = self.function(function == "entry", at)
                if made.name not in out.functions or made.instructions:
                    out.functions[made.name] = made
            elif variable:
                v = self.variable(variable, found.start(5))
                out.variables[v.name] = v
        if self.text[at:].strip():
            raise self.fault("not a PTX directive", at + len(self.text[at:]) - len(self.text[at:].lstrip()))
        return out

    def variable(self, text: str, at: int) -> Variable:
        found = _VARIABLE.match(text.strip())
        if found is None:
            raise self.fault("not a declaration of a variable", at)
        words = re.findall(r"\.(\w+)(?:\s+(\d+))?", found[1])
        space = next(w for w, _ in words if w in ("global", "const", "shared", "local", "param"))
        # A parameter may say ".ptr .global .align 16" of what it points to: only what stands before .ptr is its own
        plain = words[:[w for w, _ in words].index("ptr")] if "ptr" in dict(words) else words
        kind = next((w for w, _ in plain if w in DTYPES), None)
        if kind is None:
            raise self.fault("a variable of unknown type", at)
        width = DTYPES[kind].itemsize * (4 if ".v4" in found[1] else 2 if ".v2" in found[1] else 1)
        dims = re.findall(r"\[\s*(\d*)\s*\]", found[3])
        value, links = self.initial(found[4], kind) if found[4] else (None, ())
        count = int(np.prod([int(d) if d else 0 for d in dims])) if dims else 1
        if dims and not dims[0]:
            size = len(value) if value is not None else None
        else:
            size = count * width
        align = next((int(n) for w, n in plain if w == "align" and n), width)
        return Variable(found[2], space, align, size, kind, value.ljust(size, b"\0") if value is not None else None, links)

    def initial(self, text: str, kind: str) -> tuple[bytes, tuple[tuple[int, str], ...]]:
        dtype, raw, links, at = DTYPES[kind], bytearray(), [], 0
        for item in re.findall(r"[^{},\s]+", text):
            part = re.match(r"0x[fF]+\((\w+)\)|mask\((\w+)\)", item)  # byte by byte addresses: not seen from LLVM for 64 bits
            value = immediate(item, dtype)
            if value is None and (part is not None or dtype.itemsize != 8):
                raise SyntaxFault(f"an initial value that is neither a number nor an 8-byte address: {item}")
            if value is None:
                found = re.match(r"(?:generic\()?([\w$]+)\)?(?:\+(\d+))?$", item)
                if found is None:
                    raise SyntaxFault(f"an initial value that is neither a number nor an address: {item}")
                links.append((at, found[1]))
                value = np.array(int(found[2] or 0), dtype)
            raw += value.tobytes()
            at += dtype.itemsize
        return bytes(raw), tuple(links)

    def params(self, text: str, at: int) -> list[Variable]:
        return [self.variable(p, at) for p in re.split(r",(?![^<]*>)", text) if p.strip()]

    def function(self, entry: bool, at: int) -> tuple[Function, int]:
        found = re.compile(r"\s*(?:\(([^)]*)\)\s*)?([\w$.]+)\s*(?:\(([^)]*)\))?\s*((?:\.[a-z]\w*[^{;]*)?)([{;])", re.S).match(self.text, at)
        if found is None:
            raise self.fault("not a function's head", at)
        results, name, params, limits, opening = found.groups()
        out = Function(name, entry, self.params(params or "", at), self.params(results or "", at),
                       {w: tuple(int(n) for n in re.findall(r"\d+", rest)) for w, rest in re.findall(r"\.(\w+)([^.]*)", limits)},
                       self.line(found.start(2)))
        return (out, self.body(out, found.end())) if opening == "{" else (out, found.end())

    def body(self, f: Function, at: int) -> int:
        """Reads statements up to the closing brace; returns where it ended."""
        scopes: list[dict[str, str]] = [{}]  # inner scopes: declared name -> its name in the flat body
        count = 0
        while found := _STATEMENT.match(self.text, at):
            label, brace, statement = found.groups()
            start, at = found.start(found.lastindex), found.end()
            if label:
                rest = re.compile(r"\s*\.branchtargets\s+([^;]*);").match(self.text, at)
                if rest:
                    f.tables[label], at = re.findall(r"[$\w]+", rest[1]), rest.end()
                    continue
                scopes[-1][label] = label if len(scopes) == 1 else scopes[-1].get(label, label)
                f.labels[label] = len(f.instructions)
            elif brace == "{":
                scopes.append({})
                count += 1
            elif brace == "}":
                scopes.pop()
                if not scopes:
                    return at
            elif statement.startswith("."):
                self.declare(f, statement, start, scopes, count)
            else:
                f.instructions.append(self.instruction(statement, start, scopes))
        raise self.fault(f"function {f.name} does not end", at)

    def declare(self, f: Function, statement: str, at: int, scopes: list[dict[str, str]], count: int) -> None:
        word = re.match(r"\.(\w+)", statement)[1]
        inner = len(scopes) > 1
        if word == "reg":
            kind, names = re.match(r"\.reg\s+(?:\.v\d\s+)?\.(\w+)\s+(.*)", statement, re.S).groups()
            if kind not in _POOL:
                raise self.fault(f"registers of type .{kind} are not supported", at)
            for name, number in _REGISTERS.findall(names):
                for one in [f"{name}{i}" for i in range(int(number))] if number else [name]:
                    flat = f"{one}@{count}" if inner else one
                    scopes[-1][one] = flat
                    f.registers[flat] = _POOL[kind]
        elif word in ("local", "shared", "param"):
            v = self.variable(statement, at)
            if inner:
                scopes[-1][v.name] = f"{v.name}@{count}"
                v = v._replace(name=f"{v.name}@{count}")
            f.variables.append(v)
        elif word not in ("loc", "pragma", "file", "callprototype", "branchtargets"):
            raise self.fault(f"directive .{word} is not supported inside a function", at)

    def instruction(self, statement: str, at: int, scopes: list[dict[str, str]]) -> Instruction:
        found = _PARTS.match(statement)
        if found is None:
            raise self.fault("not an instruction", at)
        negated, guard, op, mods, rest = found.groups()
        if len(scopes) > 1:
            names = {k: v for scope in scopes[1:] for k, v in scope.items()}
            def flat(m: re.Match) -> str:
                return names.get(m[0], m[0])
            rest, guard = _NAME.sub(flat, rest), names.get(guard, guard)
        operands = tuple(o if o[0] not in "{[(" else re.sub(r"\s+", "", o) for o in _OPERAND.findall(rest))
        return Instruction(op, tuple(mods.split(".")[1:]), operands, (guard, bool(negated)) if guard else None, self.line(at),
                           " ".join(statement.split()))
