"""The instructions that compute registers from registers: each name's function, operand types and accepted modifiers.

A builder takes the instruction and returns Pure(function, operand types, result type, ufunc). What it does not accept raises
Unsupported: no modifier is passed over. Place: `program` binds the operands.
"""
from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import NamedTuple

import numpy as np

from . import integers as I
from . import rounding as F
from .convert import conversion
from .errors import Unsupported
from .imprecise import approximate
from .parse import Instruction
from .values import DTYPES


class Pure(NamedTuple):
    """out = function(*operands). ufunc: it takes `out` and computes in the result's dtype."""

    function: Callable
    sources: tuple[np.dtype, ...]
    result: np.dtype
    ufunc: bool = False


TABLE: dict[str, Callable[[Instruction], Pure]] = {}
FLOATS = {"f16": "f2", "bf16": "bf16", "f32": "f4", "f64": "f8"}
PACKED = {"f16x2": "f16", "bf16x2": "bf16", "f32x2": "f32"}
_HALF = {"f16x2": np.dtype("f2"), "bf16x2": np.dtype("u2"), "f32x2": np.dtype("f4")}
U32, PRED = np.dtype("u4"), np.dtype("?")


def refuse(ins: Instruction, why: str = "") -> Unsupported:
    return Unsupported(f"instruction {'.'.join((ins.op, *ins.mods))} is not supported{why and ': ' + why}",
                       line=ins.line, instruction=ins.text)


def modifiers(ins: Instruction, *allowed: str) -> set[str]:
    """All modifiers but the type, each of them among `allowed`."""
    found = set(ins.mods[:-1])
    if ins.type not in DTYPES:
        raise refuse(ins, "unknown type")
    if found - set(allowed):
        raise refuse(ins, f"modifier {', '.join(sorted(found - set(allowed)))}")
    return found


def builder(*names: str):
    def keep(f):
        for name in names:
            TABLE[name] = f
        return f
    return keep


def _finish(f: Callable, mods: set[str], dtype: str, ufunc: bool) -> tuple[Callable, bool]:
    """.ftz, .sat and .relu around f."""
    if not mods & {"ftz", "sat", "relu"}:
        return f, ufunc
    flush, sat, relu = "ftz" in mods and dtype == "f4", "sat" in mods, "relu" in mods
    def run(*a):
        r = f(*(map(F.flush, a) if flush else a))
        r = F.flush(r) if flush else r
        if sat or relu:
            x = F.from_bf16(r) if dtype == "bf16" else r
            x = np.where(np.isnan(x), x.dtype.type(0 if sat else np.nan), np.maximum(x, x.dtype.type(0)))
            x = np.minimum(x, x.dtype.type(1)) if sat else x
            r = F.to_bf16(x) if dtype == "bf16" else x
        return r
    return run, False


def packed(f: Callable, kind: str) -> Callable:
    """f on the two halves of each register."""
    half, whole = _HALF[kind], DTYPES[kind]
    def run(*a):
        return np.ascontiguousarray(f(*(np.ascontiguousarray(np.atleast_1d(x)).view(half) for x in a))).view(whole)
    return run


def _float(ins: Instruction, make: Callable[[str], tuple[Callable, bool]], arity: int, mods: set[str]) -> Pure:
    """make(dtype) -> (function, ufunc), for a float type or a packed pair."""
    kind = ins.type
    base = PACKED.get(kind, kind)
    if base not in FLOATS:
        raise refuse(ins, "unknown type")
    f, ufunc = make(FLOATS[base])
    if mods & {"approx", "full"}:
        f, ufunc = approximate(ins.op, f), False
    f, ufunc = _finish(f, mods, FLOATS[base], ufunc)
    if kind in PACKED:
        f, ufunc = packed(f, kind), False
    return Pure(f, (DTYPES[kind],) * arity, DTYPES[kind], ufunc)


def _mode(mods: set[str]) -> str:
    return next((m for m in ("rz", "rm", "rp") if m in mods), "rn")


def _is_float(ins: Instruction) -> bool:
    return ins.type in FLOATS or ins.type in PACKED


def _same(f: Callable, ins: Instruction, arity: int, ufunc: bool = True) -> Pure:
    d = DTYPES[ins.type]
    return Pure(f, (d,) * arity, d, ufunc)


@builder("add", "sub", "mul", "div", "fma", "mad")
def _arithmetic(ins: Instruction) -> Pure:
    op, arity = ins.op, 3 if ins.op in ("fma", "mad") else 2
    if _is_float(ins):
        mods = modifiers(ins, "rn", "rz", "rm", "rp", "ftz", "sat", "relu", *(("approx", "full") if op == "div" else ()))
        try:
            return _float(ins, lambda d: F.arithmetic("fma" if op == "mad" else op, d, _mode(mods)), arity, mods)
        except ValueError as e:
            raise refuse(ins, f"rounding {e}") from None
    mods, d = modifiers(ins, *(("lo", "hi", "wide") if op in ("mul", "mad") else ())), DTYPES[ins.type]
    if op == "fma" or d.kind not in "iu":
        raise refuse(ins)
    if op == "div":
        return _same(I.divide, ins, 2, False)
    if "wide" in mods:
        w = I.widened(d)
        if op == "mul":
            return Pure(I.multiply_wide, (d, d), w)
        return Pure(lambda a, b, c: I.multiply_wide(a, b) + c, (d, d, w), w)
    if "hi" in mods and op == "mul":
        return _same(I.multiply_high, ins, 2, False)
    if "hi" in mods:
        return _same(lambda a, b, c: I.multiply_high(a, b) + c, ins, 3, False)
    if op == "mad":
        return _same(lambda a, b, c: a * b + c, ins, 3, False)
    return _same({"add": np.add, "sub": np.subtract, "mul": np.multiply}[op], ins, 2)


@builder("mul24", "mad24")
def _mul24(ins: Instruction) -> Pure:
    mods, d = modifiers(ins, "lo", "hi"), DTYPES[ins.type]
    def low24(x):
        return (x.astype("i8") << np.int64(40)) >> np.int64(40) if d.kind == "i" else x.astype("i8") & np.int64(0xFFFFFF)
    def run(a, b, c=np.int64(0)):
        return ((low24(a) * low24(b) >> np.int64(16 if "hi" in mods else 0)) + c).astype(d)
    return _same(run, ins, 3 if ins.op == "mad24" else 2, False)


@builder("rem")
def _rem(ins: Instruction) -> Pure:
    modifiers(ins)
    return _same(I.remainder, ins, 2, False)


@builder("min", "max")
def _min(ins: Instruction) -> Pure:
    small = ins.op == "min"
    if not _is_float(ins):
        modifiers(ins)
        return _same(np.minimum if small else np.maximum, ins, 2, False)  # NumPy wants their `out` by name
    mods = modifiers(ins, "ftz", "NaN")
    pick = F.smaller if small else F.larger
    pick = F.spreading(pick) if "NaN" in mods else pick
    def make(d):
        return (lambda a, b: F.to_bf16(pick(F.from_bf16(a), F.from_bf16(b)))) if d == "bf16" else pick, False
    return _float(ins, make, 2, mods)


@builder("abs", "neg")
def _sign(ins: Instruction) -> Pure:
    op = np.abs if ins.op == "abs" else np.negative
    if not _is_float(ins):
        modifiers(ins)
        return _same(op, ins, 1)
    mods = modifiers(ins, "ftz")
    def make(d):
        if d != "bf16":
            return op, True
        return ((lambda x: x & np.uint16(0x7FFF)) if ins.op == "abs" else lambda x: x ^ np.uint16(0x8000)), False
    return _float(ins, make, 1, mods)


@builder("copysign")
def _copysign(ins: Instruction) -> Pure:
    modifiers(ins)
    return _same(lambda a, b: np.copysign(b, a), ins, 2, False)


@builder("testp")
def _testp(ins: Instruction) -> Pure:
    d = DTYPES[ins.type]
    tests: dict[str, Callable] = {"finite": np.isfinite, "infinite": np.isinf, "notanumber": np.isnan, "number": lambda x: ~np.isnan(x),
             "normal": lambda x: np.isfinite(x) & (np.abs(x) >= np.finfo(d).tiny),
             "subnormal": lambda x: (np.abs(x) < np.finfo(d).tiny) & (x != 0)}
    if len(ins.mods) != 2 or ins.mods[0] not in tests:
        raise refuse(ins)
    return Pure(tests[ins.mods[0]], (d,), PRED)


_FUNCTIONS: dict[str, Callable] = {
    "sqrt": np.sqrt, "ex2": np.exp2, "lg2": np.log2, "sin": np.sin, "cos": np.cos, "tanh": np.tanh,
    "rcp": lambda x: 1 / x, "rsqrt": lambda x: 1 / np.sqrt(x)}


@builder(*_FUNCTIONS)
def _function(ins: Instruction) -> Pure:
    mods = modifiers(ins, "approx", "ftz", *(("rn", "rz", "rm", "rp") if ins.op in ("sqrt", "rcp") else ()))
    mode, f = _mode(mods), _FUNCTIONS[ins.op]
    if mode != "rn":
        if ins.op == "sqrt":
            raise refuse(ins, f"rounding {mode}")
        divide = F.arithmetic("div", FLOATS[ins.type], mode)[0]
        return _float(ins, lambda d: ((lambda x: divide(np.ones_like(x), x)), False), 1, mods)
    def make(d):
        return (np.sqrt, True) if ins.op == "sqrt" and d in ("f4", "f8") else (F.through(f, d), False)
    return _float(ins, make, 1, mods)


@builder("and", "or", "xor")
def _logic(ins: Instruction) -> Pure:
    modifiers(ins)
    return _same({"and": np.bitwise_and, "or": np.bitwise_or, "xor": np.bitwise_xor}[ins.op], ins, 2)


@builder("not")
def _not(ins: Instruction) -> Pure:
    modifiers(ins)
    return _same(np.invert, ins, 1)


@builder("cnot")
def _cnot(ins: Instruction) -> Pure:
    modifiers(ins)
    return _same(lambda a: (a == 0).astype(a.dtype), ins, 1, False)


@builder("shl", "shr")
def _shift(ins: Instruction) -> Pure:
    modifiers(ins)
    d = DTYPES[ins.type]
    op = np.left_shift if ins.op == "shl" else np.right_shift
    if d.itemsize == 4:
        return Pure(op, (d, d), d, True)  # NumPy too takes a count beyond the width as "all out"
    if d.itemsize == 8:
        return Pure(lambda a, n: op(a, n.astype(d)), (d, U32), d)
    return Pure(lambda a, n: op(a, np.minimum(n, np.uint32(64)).astype(d)), (d, U32), d)


@builder("popc")
def _popc(ins: Instruction) -> Pure:
    modifiers(ins)
    return Pure(lambda x: np.bitwise_count(x).astype("u4"), (DTYPES[ins.type],), U32)


@builder("clz")
def _clz(ins: Instruction) -> Pure:
    modifiers(ins)
    return Pure(I.leading_zeros, (DTYPES[ins.type],), U32)


@builder("bfind")
def _bfind(ins: Instruction) -> Pure:
    return Pure(partial(I.find_top, shift="shiftamt" in modifiers(ins, "shiftamt")), (DTYPES[ins.type],), U32)


@builder("brev")
def _brev(ins: Instruction) -> Pure:
    modifiers(ins)
    return _same(I.reverse_bits, ins, 1, False)


@builder("bfe")
def _bfe(ins: Instruction) -> Pure:
    modifiers(ins)
    d = DTYPES[ins.type]
    return Pure(I.extract, (d, U32, U32), d)


@builder("bfi")
def _bfi(ins: Instruction) -> Pure:
    modifiers(ins)
    d = DTYPES[ins.type]
    return Pure(I.insert, (d, d, U32, U32), d)


@builder("szext")
def _szext(ins: Instruction) -> Pure:
    mods, d = modifiers(ins, "wrap", "clamp"), DTYPES[ins.type]
    return Pure(partial(I.sign_extend, wrap="wrap" in mods), (d, U32), d)


@builder("shf")
def _shf(ins: Instruction) -> Pure:
    mods = modifiers(ins, "l", "r", "wrap", "clamp")
    return Pure(partial(I.funnel, left="l" in mods, wrap="wrap" in mods), (U32, U32, U32), U32)


@builder("prmt")
def _prmt(ins: Instruction) -> Pure:
    if ins.mods[0] != "b32" or len(ins.mods) > 2:
        raise refuse(ins)
    return Pure(partial(I.permute_mode, mode=ins.mods[1]) if len(ins.mods) == 2 else I.permute, (U32, U32, U32), U32)


@builder("lop3")
def _lop3(ins: Instruction) -> Pure:
    modifiers(ins)
    return Pure(partial(I.logic3, table=int(ins.operands[4], 0)), (U32, U32, U32), U32)


@builder("dp4a")
def _dp4a(ins: Instruction) -> Pure:
    if len(ins.mods) != 2 or not set(ins.mods) <= {"u32", "s32"}:
        raise refuse(ins)
    signs = (ins.mods[0] == "s32", ins.mods[1] == "s32")
    d = DTYPES["s32" if any(signs) else "u32"]
    return Pure(partial(I.dot_bytes, signs=signs), (U32, U32, d), d)


@builder("sad")
def _sad(ins: Instruction) -> Pure:
    modifiers(ins)
    return _same(I.absolute_difference, ins, 3, False)


@builder("cvt")
def _cvt(ins: Instruction) -> Pure:
    try:
        return Pure(*conversion(ins.mods))
    except KeyError as e:
        raise refuse(ins, str(e.args[0])) from None


# Comparisons ------------------------------------------------------------------------------------------------------------------------
_ORDERED = {"eq": np.equal, "lt": np.less, "le": np.less_equal, "gt": np.greater, "ge": np.greater_equal}
_UNSIGNED = {"lo": np.less, "ls": np.less_equal, "hi": np.greater, "hs": np.greater_equal}
_OPPOSITE = {"ltu": np.greater_equal, "leu": np.greater, "gtu": np.less_equal, "geu": np.less}
_JOIN = {"and": np.logical_and, "or": np.logical_or, "xor": np.logical_xor}


def comparison(ins: Instruction) -> tuple[Callable, bool, str | None, np.dtype]:
    """setp and set: the comparison, whether it is a ufunc, how it joins a predicate ("and", "or", "xor", None), the operands' dtype."""
    mods = [m for m in ins.mods if m != "ftz"]
    kind, how = mods[-1], mods[0]
    join = mods[1] if len(mods) > 2 and mods[1] in _JOIN else None
    d = DTYPES.get(kind)
    known = len(mods) == 2 + (join is not None) or ins.op == "set"
    if d is None or not known or (kind in PACKED):
        raise refuse(ins)
    float_ = kind in FLOATS
    f: Callable
    if how in _ORDERED:
        f, ufunc = _ORDERED[how], True
    elif how == "ne":
        f, ufunc = ((lambda a, b: (a < b) | (a > b)), False) if float_ else (np.not_equal, True)
    elif not float_ and how in _UNSIGNED:
        f, ufunc = _UNSIGNED[how], True
    elif float_ and how in _OPPOSITE:
        opposite = _OPPOSITE[how]
        f, ufunc = (lambda a, b: ~opposite(a, b)), False
    elif float_ and how == "neu":
        f, ufunc = np.not_equal, True
    elif float_ and how == "equ":
        f, ufunc = (lambda a, b: ~((a < b) | (a > b))), False
    elif float_ and how in ("num", "nan"):
        g = lambda a, b: np.isnan(a) | np.isnan(b)  # noqa: E731
        f, ufunc = (g if how == "nan" else lambda a, b: ~g(a, b)), False
    else:
        raise refuse(ins)
    if kind == "bf16":
        inner = f
        f, ufunc = (lambda a, b: inner(F.from_bf16(a), F.from_bf16(b))), False
    if "ftz" in ins.mods and kind == "f32":
        plain = f
        f, ufunc = (lambda a, b: plain(F.flush(a), F.flush(b))), False
    return f, ufunc, join, d
