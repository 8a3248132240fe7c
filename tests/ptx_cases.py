"""Kernels for tests of the emulator: a table of kernels of one instruction each, and frames for kernels of many threads.

A case is a PTX body over registers %a, %b, %c (inputs, one element a thread) and %d (the result), its types, and what a person expects:
values written out, or a function of Python numbers that knows nothing of the emulator.
"""
from __future__ import annotations

import math
import struct
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from fractions import Fraction

import numpy as np

from graphflow.testing import ptx

HEAD = ".version 7.8\n.target sm_90\n.address_size 64\n"
DTYPE = {"u8": "u1", "s8": "i1", "u16": "u2", "s16": "i2", "b16": "u2", "f16": "f2", "bf16": "u2", "u32": "u4", "s32": "i4", "b32": "u4",
         "f32": "f4", "u64": "u8", "s64": "i8", "b64": "u8", "f64": "f8", "f16x2": "u4", "bf16x2": "u4", "pred": "u4"}
_REGISTER = {1: "b16", 2: "b16", 4: "b32", 8: "b64"}


@dataclass
class Case:
    """types: the result's, then the inputs'. inputs: a column of values for each input; expected: values, or a function of a row."""

    body: str
    types: str
    inputs: Sequence[Sequence]
    expected: Sequence | Callable

    @property
    def kinds(self) -> list[str]:
        return self.types.split()

    def columns(self) -> list[np.ndarray]:
        return [bits(column, kind) for column, kind in zip(self.inputs, self.kinds[1:], strict=True)]

    def values(self) -> np.ndarray:
        if callable(self.expected):
            rows = zip(*[[_plain(v, k) for v in c] for c, k in zip(self.columns(), self.kinds[1:], strict=True)], strict=True)
            return bits([self.expected(*row) for row in rows], self.kinds[0])
        return bits(self.expected, self.kinds[0])

    def text(self, name: str = "kernel") -> str:
        """The kernel: thread i takes element i of each input and stores %d."""
        result, *kinds = self.kinds
        names = "abc"[:len(kinds)]
        lines = [f".visible .entry {name}(.param .u64 out" + "".join(f", .param .u64 in_{n}" for n in names) + ")", "{",
                 ".reg .pred %p<4>;", ".reg .b16 %h<8>;", ".reg .b32 %r<8>;", ".reg .b64 %q<8>;"]
        for n, kind in zip("d" + names, [result, *kinds], strict=True):
            lines.append(f".reg .{'pred' if kind == 'pred' else _REGISTER[np.dtype(DTYPE[kind]).itemsize]} %{n};")
        lines.append("mov.u32 %r7, %tid.x;")
        for n, kind in zip(names, kinds, strict=True):
            size = np.dtype(DTYPE[kind]).itemsize
            load = {"u8": "u8", "s8": "s8"}.get(kind, f"b{8 * size}")
            if kind == "pred":
                lines += [f"ld.param.u64 %q6, [in_{n}];", "mad.wide.u32 %q7, %r7, 4, %q6;", "ld.global.b32 %r6, [%q7];",
                          f"setp.ne.b32 %{n}, %r6, 0;"]
            else:
                lines += [f"ld.param.u64 %q6, [in_{n}];", f"mad.wide.u32 %q7, %r7, {size}, %q6;", f"ld.global.{load} %{n}, [%q7];"]
        lines.append(self.body)
        size = np.dtype(DTYPE[result]).itemsize
        lines += ["ld.param.u64 %q6, [out];", f"mad.wide.u32 %q7, %r7, {size}, %q6;"]
        lines += ["selp.b32 %r6, 1, 0, %d;", "st.global.b32 [%q7], %r6;"] if result == "pred" else [f"st.global.b{8 * size} [%q7], %d;"]
        return "\n".join([*lines, "ret;", "}"])

    def run(self) -> np.ndarray:
        columns = self.columns()
        out = np.empty(len(columns[0]), DTYPE[self.kinds[0]])
        ptx.run(HEAD + self.text(), 1, len(columns[0]), [ptx.Out(out), *columns])
        return out


def bits(values: Sequence, kind: str) -> np.ndarray:
    """Python numbers as the memory of a type: bf16 from floats (that it holds exactly), integers modulo their size."""
    dtype = np.dtype(DTYPE[kind])
    if kind == "bf16":
        return np.array([struct.unpack("<I", struct.pack("<f", float(v)))[0] >> 16 if isinstance(v, float) else v for v in values], "u2")
    if dtype.kind == "f":
        return np.array([float(v) for v in values]).astype(dtype)
    return np.array([int(v) & ((1 << 8 * dtype.itemsize) - 1) for v in values], f"u{dtype.itemsize}").view(dtype)


def _plain(value: np.generic, kind: str):
    if kind == "bf16":
        return struct.unpack("<f", struct.pack("<I", int(value) << 16))[0]
    return value.item()


# Kernels of many threads ---------------------------------------------------------------------------------------------------------------
SCALE = HEAD + """
.visible .entry scale(.param .u64 .ptr .align 4 a, .param .u64 b, .param .u32 n, .param .f32 s)
{
 .reg .pred %p<2>; .reg .b32 %r<8>; .reg .b64 %rd<8>;
 ld.param.b64 %rd1, [a]; ld.param.b64 %rd2, [b]; ld.param.b32 %r1, [n]; ld.param.b32 %r2, [s];
 mov.u32 %r3, %ctaid.x; mov.u32 %r4, %ntid.x; mov.u32 %r5, %tid.x; mad.lo.s32 %r6, %r3, %r4, %r5;
 setp.ge.s32 %p1, %r6, %r1;
 @%p1 bra DONE;
 mul.wide.s32 %rd3, %r6, 4; add.s64 %rd4, %rd1, %rd3; add.s64 %rd5, %rd2, %rd3;
 ld.global.b32 %r7, [%rd4]; mul.rn.f32 %r7, %r7, %r2; st.global.b32 [%rd5], %r7;
DONE: ret;
}
"""


def kernel(body: str, arrays: str = "a", registers: str = "", before: str = "") -> str:
    """A kernel whose parameters are pointers %a, %b, ... (already global); %t: thread, %i: thread of the grid, %r, %q, %f, %p registers."""
    params = ", ".join(f".param .u64 in_{n}" for n in arrays)
    loads = "\n".join(f".reg .b64 %{n}; ld.param.u64 %{n}, [in_{n}];" for n in arrays)
    return f"""{HEAD}{before}
.visible .entry kernel({params})
{{
 .reg .pred %p<8>; .reg .b16 %h<8>; .reg .b32 %r<32>; .reg .b64 %q<16>; .reg .b32 %t; .reg .b32 %i; .reg .b64 %i4; .reg .b64 %t4;
 {registers}
 {loads}
 mov.u32 %t, %tid.x; mov.u32 %r31, %ctaid.x; mov.u32 %r30, %ntid.x; mad.lo.u32 %i, %r31, %r30, %t;
 mul.wide.u32 %i4, %i, 4; mul.wide.u32 %t4, %t, 4;
{body}
 ret;
}}
"""


# Rounding, from rationals ------------------------------------------------------------------------------------------------------------
_FORMAT = {"f16": (11, -14, 15), "bf16": (8, -126, 127), "f32": (24, -126, 127), "f64": (53, -1022, 1023), "tf32": (11, -126, 127)}


def rounded(x: Fraction, kind: str, mode: str = "rn") -> float:
    """The value of a format nearest to a rational (rn: ties to even; rna: away), or the neighbour in a direction (rz, rm, rp)."""
    precision, least, most = _FORMAT[kind]
    if x == 0:
        return 0.0
    exponent = max(_log2(abs(x)), least)
    unit = Fraction(2) ** (exponent - precision + 1)
    count = x / unit
    low = math.floor(count)
    rest = count - low
    up = {"rn": rest > Fraction(1, 2) or rest == Fraction(1, 2) and low % 2 == 1, "rz": x < 0 and rest > 0, "rm": False, "rp": rest > 0,
          "rna": rest > Fraction(1, 2) or rest == Fraction(1, 2) and x > 0}[mode]
    value = (low + up) * unit
    biggest = (2 - Fraction(2) ** (1 - precision)) * Fraction(2) ** most
    if abs(value) > biggest:
        toward = mode == "rz" or mode == "rm" and x > 0 or mode == "rp" and x < 0
        return math.copysign(float(biggest) if toward else math.inf, x)
    return float(value)


def _log2(x: Fraction) -> int:
    n = x.numerator.bit_length() - x.denominator.bit_length()
    return n if x >= Fraction(2) ** n else n - 1


def exactly(f: Callable, kind: str, mode: str = "rn") -> Callable:
    """A function of floats that is `f` of their exact values, rounded once."""
    return lambda *xs: rounded(f(*map(Fraction, xs)), kind, mode)


def same(got: np.ndarray, expected: np.ndarray) -> None:
    """Bit for bit, but any NaN equals any."""
    u = f"u{got.dtype.itemsize}"
    nan = np.isnan(got) & np.isnan(expected) if got.dtype.kind == "f" else np.zeros(got.shape, bool)
    bad = np.flatnonzero((got.view(u) != expected.view(u)) & ~nan)
    assert not bad.size, f"lanes {bad[:5]}: got {got[bad][:5]}, expected {expected[bad][:5]}"


# The table ---------------------------------------------------------------------------------------------------------------------------
_rng = np.random.default_rng(7)
INF, NAN = math.inf, math.nan
I32 = [0, 1, -1, 7, -7, 2 ** 31 - 1, -2 ** 31, 123456789]
J32 = [3, -1, -1, 2, 2, 2, -1, -1000]
I64 = [0, 1, -1, 7, -7, 2 ** 63 - 1, -2 ** 63, 1234567890123456789]
J64 = [3, -1, -1, 2, 2, 2, -1, -1000]
I16 = [0, 1, -1, 7, -7, 2 ** 15 - 1, -2 ** 15, 12345]
U32 = [0, 1, 2 ** 32 - 1, 0x80000000, 0x12345678, 0xF0F0F0F0, 255, 256]
V32 = [5, 2 ** 32 - 1, 2 ** 32 - 1, 3, 0x9ABCDEF0, 16, 7, 1]
U64 = [0, 1, 2 ** 64 - 1, 2 ** 63, 0x123456789ABCDEF0, 0xF0F0F0F0F0F0F0F0, 2 ** 32 - 1, 2 ** 32]
V64 = [5, 2 ** 64 - 1, 2 ** 64 - 1, 3, 0xFEDCBA9876543210, 2 ** 32, 2 ** 32 + 1, 2 ** 32 - 1]
F = [1.5, -2.25, 0.1, -0.3, 3e38, 1e-38, 7.0, -1e10]
G = [0.5, 2.25, 0.3, 0.3, 2e38, 1e-39, 3.0, 1e-10]
H = [1.0, -1.0, 1e-9, 0.09, -1e38, -1e-45, 0.0, 1.0]
SPECIAL = [0.0, -0.0, INF, -INF, NAN, 1.0, -1.0, 1e-40]
S32, S64, S16 = (lambda x, n=n: (x + (1 << n - 1)) % (1 << n) - (1 << n - 1) for n in (32, 64, 16))


def _random(kind: str, n: int = 200, spread: float = 8) -> list[float]:
    """Floats of a format with exponents from -spread to spread."""
    wide = _rng.standard_normal(n) * 2.0 ** _rng.uniform(-spread, spread, n)
    return [rounded(Fraction(float(v)), kind) for v in wide]


def _low24(a: int) -> int:
    return ((a & 0xFFFFFF) ^ 0x800000) - 0x800000


def _trunc(a: int, b: int) -> int:
    return abs(a) // abs(b) * (1 if (a < 0) == (b < 0) else -1)


def _clamp(low: int, high: int, whole: Callable) -> Callable:
    return lambda x: 0 if x != x else low if x < low else high if x > high else whole(x)


def _half_even(x: float) -> int:
    return round(Fraction(x))


def _bfe(width: int, signed: bool) -> Callable:
    """By the loop of the PTX manual."""
    def run(a: int, b: int, c: int) -> int:
        pos, length, msb = b & 255, c & 255, width - 1
        sign = 0 if not signed or length == 0 else a >> min(pos + length - 1, msb) & 1
        out = 0
        for i in range(width):
            out |= (a >> (pos + i) & 1 if i < length and pos + i <= msb else sign) << i
        return out
    return run


def _bfi(width: int) -> Callable:
    def run(a: int, b: int, c: int, pos: int = 5, length: int = 9) -> int:
        out = b
        for i in range(length):
            if pos + i < width:
                out = out & ~(1 << pos + i) | (a >> i & 1) << pos + i
        return out
    return run


def _prmt(a: int, b: int, c: int) -> int:
    data = (a | b << 32).to_bytes(8, "little")
    out = []
    for i in range(4):
        nibble = c >> 4 * i & 15
        byte = data[nibble & 7]
        out.append((255 if byte & 128 else 0) if nibble & 8 else byte)
    return int.from_bytes(bytes(out), "little")


def _dp4a(sign_a: bool, sign_b: bool) -> Callable:
    def byte(x: int, i: int, signed: bool) -> int:
        v = x >> 8 * i & 255
        return v - 256 if signed and v > 127 else v
    return lambda a, b, c: sum(byte(a, i, sign_a) * byte(b, i, sign_b) for i in range(4)) + c


def _pair(f: Callable, kind: str) -> Callable:
    """f on both halves of a register."""
    size = 32 if kind == "f32" else 16
    def read(x: int) -> float:
        if kind == "f16":
            return struct.unpack("<e", struct.pack("<H", x))[0]
        return struct.unpack("<f", struct.pack("<I", x << 32 - size))[0]
    def write(v: float) -> int:
        return struct.unpack("<H", struct.pack("<e", v))[0] if kind == "f16" else struct.unpack("<I", struct.pack("<f", v))[0] >> 32 - size
    low = (1 << size) - 1
    return lambda *xs: write(f(*(read(x & low) for x in xs))) | write(f(*(read(x >> size) for x in xs))) << size


_H2 = [0x3C003800, 0xC0000400, 0x00013555, 0x7BFF0001]   # float16 pairs: 1 and .5, -2 and 2**-14, ...
_I2 = [0x40003C00, 0x3C003C00, 0x3C010400, 0x3C003C00]
_B2 = [0x3F803F00, 0xC0003EAB, 0x42283F81, 0x3DCD3F80]   # bfloat16 pairs
_F2 = [0x3F8000003F000001, 0xC00000003EAAAAAB, 0x422800003F810003, 0x3DCCCCCD3F800000]  # float32 pairs
_C2 = [0x40003F80, 0x3F803EAB, 0x3F813F81, 0x3DCD4049]

INTEGER = {
    "add.s32": Case("add.s32 %d, %a, %b;", "s32 s32 s32", (I32, J32), lambda a, b: a + b),
    "add.u64": Case("add.u64 %d, %a, %b;", "u64 u64 u64", (U64, V64), lambda a, b: a + b),
    "add.s16": Case("add.s16 %d, %a, %b;", "s16 s16 s16", (I16, I16), lambda a, b: a + b),
    "sub.u32": Case("sub.u32 %d, %a, %b;", "u32 u32 u32", (U32, V32), lambda a, b: a - b),
    "sub immediate": Case("sub.s32 %d, %a, -5;", "s32 s32", (I32,), lambda a: a + 5),
    "mul.lo.s32": Case("mul.lo.s32 %d, %a, %b;", "s32 s32 s32", (I32, J32), lambda a, b: a * b),
    "mul.lo.s64": Case("mul.lo.s64 %d, %a, %b;", "s64 s64 s64", (I64, J64), lambda a, b: a * b),
    "mul.hi.s32": Case("mul.hi.s32 %d, %a, %b;", "s32 s32 s32", (I32, J32), lambda a, b: a * b >> 32),
    "mul.hi.u32": Case("mul.hi.u32 %d, %a, %b;", "u32 u32 u32", (U32, V32), lambda a, b: a * b >> 32),
    "mul.hi.s64": Case("mul.hi.s64 %d, %a, %b;", "s64 s64 s64", (I64, I64[::-1]), lambda a, b: a * b >> 64),
    "mul.hi.u64": Case("mul.hi.u64 %d, %a, %b;", "u64 u64 u64", (U64, V64), lambda a, b: a * b >> 64),
    "mul.hi.u16": Case("mul.hi.u16 %d, %a, %b;", "u16 u16 u16", (I16, I16), lambda a, b: a * b >> 16),
    "mul.wide.s32": Case("mul.wide.s32 %d, %a, %b;", "s64 s32 s32", (I32, J32), lambda a, b: a * b),
    "mul.wide.u32": Case("mul.wide.u32 %d, %a, %b;", "u64 u32 u32", (U32, V32), lambda a, b: a * b),
    "mul.wide.s16": Case("mul.wide.s16 %d, %a, %b;", "s32 s16 s16", (I16, I16), lambda a, b: a * b),
    "mad.lo.s32": Case("mad.lo.s32 %d, %a, %b, %c;", "s32 s32 s32 s32", (I32, J32, I32), lambda a, b, c: a * b + c),
    "mad.hi.u32": Case("mad.hi.u32 %d, %a, %b, %c;", "u32 u32 u32 u32", (U32, V32, U32), lambda a, b, c: (a * b >> 32) + c),
    "mad.wide.s32": Case("mad.wide.s32 %d, %a, %b, %c;", "s64 s32 s32 s64", (I32, J32, I64), lambda a, b, c: a * b + c),
    "mul24.lo.u32": Case("mul24.lo.u32 %d, %a, %b;", "u32 u32 u32", (U32, V32), lambda a, b: (a & 0xFFFFFF) * (b & 0xFFFFFF)),
    "sad.s32": Case("sad.s32 %d, %a, %b, %c;", "s32 s32 s32 s32", ([3, -3, 5], [5, 5, -5], [1, 2, 3]), [3, 10, 13]),
    "div.s32": Case("div.s32 %d, %a, %b;", "s32 s32 s32", (I32, J32), _trunc),
    "div.u32": Case("div.u32 %d, %a, %b;", "u32 u32 u32", (U32, V32), lambda a, b: a // b),
    "div.s64": Case("div.s64 %d, %a, %b;", "s64 s64 s64", (I64, J64), _trunc),
    "div.u64": Case("div.u64 %d, %a, %b;", "u64 u64 u64", (U64, V64), lambda a, b: a // b),
    "div.s16": Case("div.s16 %d, %a, %b;", "s16 s16 s16", (I16, [3, 1, -1, 2, 2, 3, -1, -100]), _trunc),
    "division by zero": Case("div.s32 %d, %a, %b;", "s32 s32 s32", ([5, 0, -5], [0, 0, 0]), [-1, -1, -1]),
    "rem.s32": Case("rem.s32 %d, %a, %b;", "s32 s32 s32", (I32, J32), lambda a, b: a - b * _trunc(a, b)),
    "rem.u32": Case("rem.u32 %d, %a, %b;", "u32 u32 u32", (U32, V32), lambda a, b: a % b),
    "rem.s64": Case("rem.s64 %d, %a, %b;", "s64 s64 s64", (I64, J64), lambda a, b: a - b * _trunc(a, b)),
    "min.s32": Case("min.s32 %d, %a, %b;", "s32 s32 s32", (I32, J32), min),
    "max.u32": Case("max.u32 %d, %a, %b;", "u32 u32 u32", (U32, V32), max),
    "max.s64": Case("max.s64 %d, %a, %b;", "s64 s64 s64", (I64, J64), max),
    "min.u16": Case("min.u16 %d, %a, %b;", "u16 u16 u16", (I16, I16[::-1]), min),
    "abs.s32": Case("abs.s32 %d, %a;", "s32 s32", (I32,), abs),
    "neg.s64": Case("neg.s64 %d, %a;", "s64 s64", (I64,), lambda a: -a),
    "and.b32": Case("and.b32 %d, %a, %b;", "u32 u32 u32", (U32, V32), lambda a, b: a & b),
    "or.b64": Case("or.b64 %d, %a, %b;", "u64 u64 u64", (U64, V64), lambda a, b: a | b),
    "xor.b16": Case("xor.b16 %d, %a, %b;", "u16 u16 u16", (I16, I16[::-1]), lambda a, b: a ^ b),
    "not.b32": Case("not.b32 %d, %a;", "u32 u32", (U32,), lambda a: ~a),
    "cnot.b32": Case("cnot.b32 %d, %a;", "u32 u32", (U32,), lambda a: int(a == 0)),
    "shl.b32": Case("shl.b32 %d, %a, %b;", "u32 u32 u32", (U32, [0, 1, 31, 32, 4, 33, 200, 8]), lambda a, b: a << b if b < 32 else 0),
    "shl.b64": Case("shl.b64 %d, %a, %b;", "u64 u64 u32", (U64, [0, 1, 63, 64, 4, 33, 200, 8]), lambda a, b: a << b if b < 64 else 0),
    "shl.b16": Case("shl.b16 %d, %a, %b;", "u16 u16 u32", (I16, [0, 1, 15, 16, 4, 33, 200, 8]), lambda a, b: a << b if b < 16 else 0),
    "shr.s32": Case("shr.s32 %d, %a, %b;", "s32 s32 u32", (I32, [0, 1, 31, 1, 1, 33, 40, 8]), lambda a, b: a >> min(b, 31)),
    "shr.u32": Case("shr.u32 %d, %a, %b;", "u32 u32 u32", (U32, [0, 1, 31, 32, 4, 33, 200, 8]), lambda a, b: a >> b),
    "shr.s64": Case("shr.s64 %d, %a, %b;", "s64 s64 u32", (I64, [0, 1, 63, 1, 1, 65, 99, 8]), lambda a, b: a >> min(b, 63)),
    "shr.u16": Case("shr.u16 %d, %a, %b;", "u16 u16 u32", (I16, [0, 1, 15, 16, 4, 33, 200, 8]), lambda a, b: a >> b),
    "shf.l.wrap": Case("shf.l.wrap.b32 %d, %a, %b, %c;", "u32 u32 u32 u32", (U32, V32, [0, 1, 31, 32, 7, 33, 8, 16]),
                       lambda a, b, c: ((b << 32 | a) << (c & 31)) >> 32),
    "shf.r.wrap": Case("shf.r.wrap.b32 %d, %a, %b, %c;", "u32 u32 u32 u32", (U32, V32, [0, 1, 31, 32, 7, 33, 8, 16]),
                       lambda a, b, c: (b << 32 | a) >> (c & 31)),
    "shf.r.clamp": Case("shf.r.clamp.b32 %d, %a, %b, %c;", "u32 u32 u32 u32", (U32, V32, [0, 1, 31, 32, 7, 33, 8, 16]),
                        lambda a, b, c: (b << 32 | a) >> min(c, 32)),
    "prmt": Case("prmt.b32 %d, %a, %b, %c;", "u32 u32 u32 u32", (U32, V32, [0x3210, 0x0123, 0x7654, 0xFEDC, 0x5410, 0xBA98, 0, 0x1032]),
                 _prmt),
    "prmt.f4e": Case("prmt.b32.f4e %d, %a, %b, %c;", "u32 u32 u32 u32", ([0x44332211] * 4, [0x88776655] * 4, [0, 1, 2, 3]),
                     [0x44332211, 0x55443322, 0x66554433, 0x77665544]),
    "lop3": Case("lop3.b32 %d, %a, %b, %c, 0x96;", "u32 u32 u32 u32", (U32, V32, U32[::-1]), lambda a, b, c: a ^ b ^ c),
    "lop3 select": Case("lop3.b32 %d, %a, %b, %c, 0xCA;", "u32 u32 u32 u32", (U32, V32, U32[::-1]), lambda a, b, c: a & b | ~a & c),
    "bfe.u32": Case("bfe.u32 %d, %a, %b, %c;", "u32 u32 u32 u32", (U32, [0, 0, 4, 31, 8, 28, 0, 40], [8, 1, 8, 1, 16, 8, 0, 8]),
                    _bfe(32, False)),
    "bfe.s32": Case("bfe.s32 %d, %a, %b, %c;", "s32 s32 u32 u32", (I32, [0, 0, 4, 0, 8, 28, 0, 40], [8, 1, 8, 3, 16, 8, 32, 8]),
                    _bfe(32, True)),
    "bfe.u64": Case("bfe.u64 %d, %a, %b, %c;", "u64 u64 u32 u32", (U64, [0, 0, 4, 63, 8, 60, 0, 70], [8, 1, 64, 1, 40, 8, 0, 8]),
                    _bfe(64, False)),
    "bfi.b32": Case("bfi.b32 %d, %a, %b, 5, 9;", "u32 u32 u32 u32", (U32, V32, U32), _bfi(32)),
    "bfi.b32 at the end": Case("bfi.b32 %d, %a, %b, 28, 9;", "u32 u32 u32 u32", (U32, V32, U32), lambda a, b, c: _bfi(32)(a, b, c, 28, 9)),
    "szext.clamp.s32": Case("szext.clamp.s32 %d, %a, %b;", "s32 s32 u32", ([127, 128, 255, -1, 5], [8, 8, 8, 40, 0]),
        [127, -128, -1, -1, 0]),
    "szext.wrap.u32": Case("szext.wrap.u32 %d, %a, %b;", "u32 u32 u32", ([511, 511, 511], [8, 9, 40]), [255, 511, 255]),
    "mad24.hi.s32": Case("mad24.hi.s32 %d, %a, %b, %c;", "s32 s32 s32 s32", ([0x7FFFFF, -5, 0x1000000], [0x7FFFFF, 7, 3], [1, 2, 3]),
                         lambda a, b, c: ((_low24(a) * _low24(b)) >> 16) + c),
    "popc.b32": Case("popc.b32 %d, %a;", "u32 u32", (U32,), int.bit_count),
    "popc.b64": Case("popc.b64 %d, %a;", "u32 u64", (U64,), int.bit_count),
    "clz.b32": Case("clz.b32 %d, %a;", "u32 u32", (U32,), lambda a: 32 - a.bit_length()),
    "clz.b64": Case("clz.b64 %d, %a;", "u32 u64", (U64,), lambda a: 64 - a.bit_length()),
    "brev.b32": Case("brev.b32 %d, %a;", "u32 u32", (U32,), lambda a: int(f"{a:032b}"[::-1], 2)),
    "brev.b64": Case("brev.b64 %d, %a;", "u64 u64", (U64,), lambda a: int(f"{a:064b}"[::-1], 2)),
    "bfind.u32": Case("bfind.u32 %d, %a;", "u32 u32", (U32,), lambda a: a.bit_length() - 1),
    "bfind.s32": Case("bfind.s32 %d, %a;", "u32 s32", (I32,), lambda a: (a if a >= 0 else ~a).bit_length() - 1),
    "bfind.shiftamt": Case("bfind.shiftamt.u32 %d, %a;", "u32 u32", (U32,), lambda a: 32 - a.bit_length() if a else -1),
    "dp4a.s32.s32": Case("dp4a.s32.s32 %d, %a, %b, %c;", "s32 u32 u32 s32", (U32, V32, I32), _dp4a(True, True)),
    "dp4a.u32.u32": Case("dp4a.u32.u32 %d, %a, %b, %c;", "u32 u32 u32 u32", (U32, V32, U32), _dp4a(False, False)),
    "dp4a.s32.u32": Case("dp4a.s32.u32 %d, %a, %b, %c;", "s32 u32 u32 s32", (U32, V32, I32), _dp4a(True, False)),
    "mov unpack": Case("mov.b64 {%r1, %r2}, %a; sub.s32 %d, %r1, %r2;", "s32 u64", (U64,), lambda a: (a & 0xFFFFFFFF) - (a >> 32)),
    "mov pack": Case("mov.b64 %d, {%a, %b};", "u64 u32 u32", (U32, V32), lambda a, b: a | b << 32),
    "mov halves": Case("mov.b32 {%h1, %h2}, %a; mov.b32 %d, {%h2, %h1};", "u32 u32", (U32,), lambda a: a >> 16 | a << 16),
    "mov in place": Case("mov.b32 %r1, %a; mov.b64 %q1, {%r1, %b}; mov.b64 {%b, %r1}, %q1; sub.u32 %d, %b, %r1;", "u32 u32 u32", (U32, V32),
                         lambda a, b: a - b),
    "add.cc and addc": Case("mov.b64 {%r1, %r2}, %a; mov.b64 {%r3, %r4}, %b; add.cc.u32 %r1, %r1, %r3; addc.u32 %r2, %r2, %r4; "
                            "mov.b64 %d, {%r1, %r2};", "u64 u64 u64", (U64, V64), lambda a, b: a + b),
    "sub.cc and subc": Case("mov.b64 {%r1, %r2}, %a; mov.b64 {%r3, %r4}, %b; sub.cc.u32 %r1, %r1, %r3; subc.u32 %r2, %r2, %r4; "
                            "mov.b64 %d, {%r1, %r2};", "u64 u64 u64", (U64, V64), lambda a, b: a - b),
    "mad.cc and madc": Case("mov.b64 {%r1, %r2}, %c; mad.lo.cc.u32 %r1, %a, %b, %r1; madc.hi.u32 %r2, %a, %b, %r2; mov.b64 %d, {%r1, %r2};",
                            "u64 u32 u32 u64", (U32, V32, U64), lambda a, b, c: a * b + c),
    "a chain of carries": Case("add.cc.u64 %q1, %a, %b; addc.cc.u64 %q2, %a, %b; addc.u64 %d, 0, 0;", "u64 u64 u64", (U64, V64),
                               lambda a, b: (a + b + (a + b >> 64)) >> 64),
    "selp": Case("setp.lt.s32 %p1, %a, %b; selp.b32 %d, %a, %b, %p1;", "s32 s32 s32", (I32, J32), min),
    "slct": Case("slct.b32.s32 %d, %a, %b, %c;", "s32 s32 s32 s32", ([1, 2, 3], [4, 5, 6], [0, -1, 7]), [1, 5, 3]),
    "set.lt.u32.s32": Case("set.lt.u32.s32 %d, %a, %b;", "u32 s32 s32", (I32, J32), lambda a, b: -(a < b)),
    "guard": Case("setp.lt.s32 %p1, %a, 0; mov.b32 %d, %a; @%p1 neg.s32 %d, %a; @!%p1 add.s32 %d, %a, 1;", "s32 s32", ([5, -5, 0], ),
                  [6, 5, 1]),
    "a taken branch": Case("mov.b32 %d, %a; setp.gt.s32 %p1, %a, 3; @%p1 bra L; neg.s32 %d, %a; L:", "s32 s32", ([2, 5, 3, 9],),
        [-2, 5, -3, 9]),
    "a loop": Case("mov.b32 %d, 0; mov.b32 %r1, %a; L: setp.le.s32 %p1, %r1, 0; @%p1 bra E; add.s32 %d, %d, %r1; sub.s32 %r1, %r1, 1; "
                   "bra.uni L; E:", "s32 s32", ([0, 1, 2, 10, 5],), [0, 1, 3, 55, 15]),
    "mov.pred": Case("mov.pred %d, 1; setp.lt.s32 %p1, %a, 0; @%p1 mov.pred %d, 0;", "pred s32", ([1, -1],), [1, 0]),
    "setp of two, guarded": Case("setp.gt.s32 %p3, %a, 0; mov.pred %p1, 0; mov.pred %p2, 0; @%p3 setp.lt.s32 %p1|%p2, %a, 5; "
                                 "selp.b32 %d, 1, 0, %p1; @%p2 add.s32 %d, %d, 2;", "s32 s32", ([-1, 1, 9],), [0, 1, 2]),
    "float literals": Case("add.rn.f32 %d, %a, 0f3FC00000; add.rn.f32 %d, %d, 0d3FE0000000000000;", "f32 f32", ([1.0, 2.5],), [3.0, 4.5]),
    "numbers of all bases": Case("add.s32 %d, %a, 0x10; add.s32 %d, %d, 0b101; add.s32 %d, %d, 010; add.s32 %d, %d, -3U;", "s32 s32",
        ([100],),
                                 [126]),
    "and.pred": Case("and.pred %d, %a, %b;", "pred pred pred", ([0, 0, 1, 1], [0, 1, 0, 1]), [0, 0, 0, 1]),
    "xor.pred": Case("xor.pred %p1, %a, %b; not.pred %d, %p1;", "pred pred pred", ([0, 0, 1, 1], [0, 1, 0, 1]), [1, 0, 0, 1]),
}
COMPARE = {
    **{f"setp.{op}.s32": Case(f"setp.{op}.s32 %d, %a, %b;", "pred s32 s32", (I32, J32), f) for op, f in {
        "eq": lambda a, b: a == b, "ne": lambda a, b: a != b, "lt": lambda a, b: a < b, "le": lambda a, b: a <= b, "gt": lambda a, b: a > b,
        "ge": lambda a, b: a >= b}.items()},
    **{f"setp.{op}.u32": Case(f"setp.{op}.u32 %d, %a, %b;", "pred u32 u32", (U32, V32), f) for op, f in {
        "lo": lambda a, b: a < b, "ls": lambda a, b: a <= b, "hi": lambda a, b: a > b, "hs": lambda a, b: a >= b}.items()},
    **{f"setp.{op}.{kind}": Case(f"setp.{op}.{kind} %d, %a, %b;", f"pred {kind} {kind}",
                                 ([1.0, 2.0, 2.0, NAN, 1.0, NAN, 0.0], [2.0, 1.0, 2.0, 1.0, NAN, NAN, -0.0]), values)
       for kind in ("f32", "f64", "f16", "bf16") for op, values in {
           "eq": [0, 0, 1, 0, 0, 0, 1], "ne": [1, 1, 0, 0, 0, 0, 0], "lt": [1, 0, 0, 0, 0, 0, 0], "ge": [0, 1, 1, 0, 0, 0, 1],
           "equ": [0, 0, 1, 1, 1, 1, 1], "neu": [1, 1, 0, 1, 1, 1, 0], "ltu": [1, 0, 0, 1, 1, 1, 0], "leu": [1, 0, 1, 1, 1, 1, 1],
           "gtu": [0, 1, 0, 1, 1, 1, 0], "geu": [0, 1, 1, 1, 1, 1, 1], "num": [1, 1, 1, 0, 0, 0, 1], "nan": [0, 0, 0, 1, 1, 1, 0]}.items()},
    "setp.and": Case("setp.gt.s32 %p1, %a, 0; setp.lt.and.s32 %d, %a, %b, %p1;", "pred s32 s32", ([1, 1, -1], [2, 0, 5]), [1, 0, 0]),
    "setp.or not": Case("setp.gt.s32 %p1, %a, 0; setp.lt.or.s32 %d, %a, %b, !%p1;", "pred s32 s32", ([1, 1, -1], [2, 0, -5]), [1, 0, 1]),
    "setp of two": Case("setp.lt.s32 %p1|%p2, %a, %b; selp.b32 %d, 1, 0, %p2; @%p1 add.s32 %d, %d, 2;", "s32 s32 s32", ([1, 3], [2, 2]),
        [2, 1]),
    "setp.ftz": Case("setp.eq.ftz.f32 %d, %a, %b;", "pred f32 f32", ([1e-40, 1e-40, 1.0], [0.0, 2e-40, 1.0]), [1, 1, 1]),
}
_SIGNED = {"f32": (F, G, H), "f64": (F, G, H), "f16": tuple(_random("f16", 100, 5) for _ in range(3)),
           "bf16": tuple(_random("bf16", 100, 20) for _ in range(3))}
_SIGNED = {k: tuple([rounded(Fraction(struct.unpack("<f", struct.pack("<f", v))[0] if k == "f32" else v), k) for v in c] for c in cs)
           for k, cs in _SIGNED.items()}
_MANY = {k: tuple(_random(k, 300, s) for _ in range(3)) for k, s in (("f32", 14), ("f64", 30))}
FLOATING = {
    **{f"{op}.{kind}": Case(f"{op}.{kind} %d, %a, %b;", f"{kind} {kind} {kind}", _SIGNED[kind][:2], exactly(f, kind))
       for kind, rn in (("f32", ".rn"), ("f64", ".rn"), ("f16", ".rn"))
       for op, f in ((f"add{rn}", lambda a, b: a + b), (f"sub{rn}", lambda a, b: a - b), (f"mul{rn}", lambda a, b: a * b))},
    **{f"{op}.rn.bf16": Case(f"{op}.rn.bf16 %d, %a, %b;", "bf16 bf16 bf16", _SIGNED["bf16"][:2], exactly(f, "bf16"))
       for op, f in (("add", lambda a, b: a + b), ("sub", lambda a, b: a - b), ("mul", lambda a, b: a * b))},
    **{f"fma.rn.{kind}": Case(f"fma.rn.{kind} %d, %a, %b, %c;", f"{kind} {kind} {kind} {kind}", columns,
                              exactly(lambda a, b, c: a * b + c, kind)) for kind, columns in {**_SIGNED, **_MANY}.items()},
    "fma.rn.f32 between": Case("fma.rn.f32 %d, %a, %b, %c;", "f32 f32 f32 f32",  # rounding the float64 sum would tie, and miss
                               ([1 + 2.0 ** -23, 1 - 2.0 ** -24], [1 + 2.0 ** -12] * 2, [2.0 ** -60, -2.0 ** -70]),
                               exactly(lambda a, b, c: a * b + c, "f32")),
    **{f"{op}.{mode}.{kind}": Case(f"{op}.{mode}.{kind} %d, %a, %b;", f"{kind} {kind} {kind}", _MANY[kind][:2], exactly(f, kind, mode))
       for kind in ("f32", "f64") for mode in ("rz", "rm", "rp")
       for op, f in (("add", lambda a, b: a + b), ("sub", lambda a, b: a - b), ("mul", lambda a, b: a * b), ("div", lambda a, b: a / b))},
    **{f"fma.{mode}.{kind}": Case(f"fma.{mode}.{kind} %d, %a, %b, %c;", f"{kind} {kind} {kind} {kind}", _MANY[kind],
                                  exactly(lambda a, b, c: a * b + c, kind, mode)) for kind in ("f32", "f64")
            for mode in ("rz", "rm", "rp")},
    **{f"{op}.{kind}": Case(f"{op}.{kind} %d, %a, %b;", f"{kind} {kind} {kind}", _MANY[kind][:2], exactly(lambda a, b: a / b, kind))
       for op, kind in (("div.rn", "f32"), ("div.rn", "f64"), ("div.full", "f32"), ("div.approx", "f32"))},
    "rcp.rn.f32": Case("rcp.rn.f32 %d, %a;", "f32 f32", (_MANY["f32"][0],), exactly(lambda a: 1 / a, "f32")),
    "rcp.approx.f32": Case("rcp.approx.f32 %d, %a;", "f32 f32", ([2.0, -4.0, INF, 0.0, -0.0],), [0.5, -0.25, 0.0, INF, -INF]),
    "rcp.rz.f32": Case("rcp.rz.f32 %d, %a;", "f32 f32", (_MANY["f32"][0],), exactly(lambda a: 1 / a, "f32", "rz")),
    "sqrt.rn.f32": Case("sqrt.rn.f32 %d, %a;", "f32 f32", ([4.0, 2.25, 0.0, -1.0, INF],), [2.0, 1.5, 0.0, NAN, INF]),
    "sqrt.rn.f64": Case("sqrt.rn.f64 %d, %a;", "f64 f64", ([2.0, 9.0],), [math.sqrt(2), 3.0]),
    "sqrt.approx.f32": Case("sqrt.approx.f32 %d, %a;", "f32 f32", ([16.0, 0.25],), [4.0, 0.5]),
    "rsqrt.approx.f32": Case("rsqrt.approx.f32 %d, %a;", "f32 f32", ([4.0, 0.25, 0.0, INF],), [0.5, 2.0, INF, 0.0]),
    "ex2.approx.f32": Case("ex2.approx.f32 %d, %a;", "f32 f32", ([0.0, 1.0, -3.0, 200.0, -INF],), [1.0, 2.0, 0.125, INF, 0.0]),
    "ex2.approx.ftz": Case("ex2.approx.ftz.f32 %d, %a;", "f32 f32", ([-130.0, -126.0],), [0.0, 2.0 ** -126]),
    "lg2.approx.f32": Case("lg2.approx.f32 %d, %a;", "f32 f32", ([1.0, 8.0, 0.25, 0.0, -1.0],), [0.0, 3.0, -2.0, -INF, NAN]),
    "sin.approx.f32": Case("sin.approx.f32 %d, %a;", "f32 f32", ([0.0, 0.5],), [0.0, math.sin(0.5)]),
    "cos.approx.f32": Case("cos.approx.f32 %d, %a;", "f32 f32", ([0.0, 0.5],), [1.0, math.cos(0.5)]),
    "tanh.approx.f32": Case("tanh.approx.f32 %d, %a;", "f32 f32", ([0.0, 0.5, 100.0],), [0.0, math.tanh(0.5), 1.0]),
    "ex2.approx.f16": Case("ex2.approx.f16 %d, %a;", "f16 f16", ([0.0, 1.0, -3.0],), [1.0, 2.0, 0.125]),
    "tanh.approx.bf16": Case("tanh.approx.bf16 %d, %a;", "bf16 bf16", ([0.0, 0.5, 4.0],),
                             [rounded(Fraction(math.tanh(v)), "bf16") for v in (0.0, 0.5, 4.0)]),
    "add.sat.f32": Case("add.rn.sat.f32 %d, %a, %b;", "f32 f32 f32", ([0.25, 1.0, -1.0, NAN], [0.5, 1.0, 0.5, 1.0]), [0.75, 1.0, 0.0, 0.0]),
    "mul.ftz.f32": Case("mul.rn.ftz.f32 %d, %a, %b;", "f32 f32 f32", ([1e-20, -1e-20, 1e-40, 2.0], [1e-20, 1e-20, 1e10, 3.0]),
                        [0.0, -0.0, 0.0, 6.0]),
    "min.f32": Case("min.f32 %d, %a, %b;", "f32 f32 f32", ([1.0, NAN, 2.0, NAN, 0.0, -0.0, -INF], [2.0, 1.0, NAN, NAN, -0.0, 0.0, 3.0]),
                    [1.0, 1.0, 2.0, NAN, -0.0, -0.0, -INF]),
    "max.f32": Case("max.f32 %d, %a, %b;", "f32 f32 f32", ([1.0, NAN, 2.0, NAN, 0.0, -0.0], [2.0, 1.0, NAN, NAN, -0.0, 0.0]),
                    [2.0, 1.0, 2.0, NAN, 0.0, 0.0]),
    "max.NaN.f32": Case("max.NaN.f32 %d, %a, %b;", "f32 f32 f32", ([1.0, NAN, 2.0], [2.0, 1.0, NAN]), [2.0, NAN, NAN]),
    "min.f64": Case("min.f64 %d, %a, %b;", "f64 f64 f64", ([1.0, NAN, 2.0], [2.0, 1.0, NAN]), [1.0, 1.0, 2.0]),
    "min.NaN.bf16": Case("min.NaN.bf16 %d, %a, %b;", "bf16 bf16 bf16", ([1.0, 3.0], [2.0, -1.0]), [1.0, -1.0]),
    "max.f16": Case("max.f16 %d, %a, %b;", "f16 f16 f16", ([1.0, NAN], [2.0, 5.0]), [2.0, 5.0]),
    "abs.f32": Case("abs.f32 %d, %a;", "f32 f32", (SPECIAL,), [0.0, 0.0, INF, INF, NAN, 1.0, 1.0, 1e-40]),
    "neg.f64": Case("neg.f64 %d, %a;", "f64 f64", (SPECIAL,), [-0.0, 0.0, -INF, INF, NAN, -1.0, 1.0, -1e-40]),
    "neg.bf16": Case("neg.bf16 %d, %a;", "bf16 bf16", ([0.0, 1.5, -2.0],), [-0.0, -1.5, 2.0]),
    "abs.f16": Case("abs.f16 %d, %a;", "f16 f16", ([-0.0, -1.5],), [0.0, 1.5]),
    "copysign.f32": Case("copysign.f32 %d, %a, %b;", "f32 f32 f32", ([-1.0, 1.0, -0.0], [3.0, -3.0, 5.0]), [-3.0, 3.0, -5.0]),
    **{f"testp.{name}": Case(f"testp.{name}.f32 %d, %a;", "pred f32", (SPECIAL,), values) for name, values in {
        "finite": [1, 1, 0, 0, 0, 1, 1, 1], "infinite": [0, 0, 1, 1, 0, 0, 0, 0], "number": [1, 1, 1, 1, 0, 1, 1, 1],
        "notanumber": [0, 0, 0, 0, 1, 0, 0, 0], "normal": [0, 0, 0, 0, 0, 1, 1, 0], "subnormal": [0, 0, 0, 0, 0, 0, 0, 1]}.items()},
    "fma.rn.f16x2": Case("fma.rn.f16x2 %d, %a, %b, %c;", "u32 u32 u32 u32", (_H2, _I2, _I2[::-1]),
                         _pair(exactly(lambda a, b, c: a * b + c, "f16"), "f16")),
    "add.rn.f16x2": Case("add.rn.f16x2 %d, %a, %b;", "u32 u32 u32", (_H2, _I2), _pair(exactly(lambda a, b: a + b, "f16"), "f16")),
    "fma.rn.bf16x2": Case("fma.rn.bf16x2 %d, %a, %b, %c;", "u32 u32 u32 u32", (_B2, _C2, _C2[::-1]),
                          _pair(exactly(lambda a, b, c: a * b + c, "bf16"), "bf16")),
    "fma.rn.f32x2": Case("fma.rn.f32x2 %d, %a, %b, %c;", "u64 u64 u64 u64", (_F2, _F2[::-1], _F2),
                         _pair(exactly(lambda a, b, c: a * b + c, "f32"), "f32")),
    "add.rn.f32x2": Case("add.rn.f32x2 %d, %a, %b;", "u64 u64 u64", (_F2, _F2[::-1]), _pair(exactly(lambda a, b: a + b, "f32"), "f32")),
    "max.bf16x2": Case("max.bf16x2 %d, %a, %b;", "u32 u32 u32", (_B2, _C2), _pair(max, "bf16")),
}
_EDGE = [0.5, 1.5, 2.5, -0.5, -1.5, 0.49999997, 3e9, -3e9, 1e20, -1e20, NAN, INF, -INF, 255.5, -129.0, 65535.9]
_EDGE = [struct.unpack("<f", struct.pack("<f", v))[0] for v in _EDGE]
_NEAR = [1.0, 1 + 2.0 ** -11, 1 + 3 * 2.0 ** -11, 1 + 2.0 ** -8, 1 + 3 * 2.0 ** -8, 1 + 2.0 ** -8 + 2.0 ** -20, 65519.0, 65520.0, 1e-8,
        -6e-8, 3.14159]
_NEAR = [struct.unpack("<f", struct.pack("<f", v))[0] for v in _NEAR]
_HALF = [1.0, -2.5, 65504.0, 2.0 ** -24, 0.333251953125]
CONVERT = {
    **{f"cvt.{mode}.{kind}.f32": Case(f"cvt.{mode}.{kind}.f32 %d, %a;", f"{kind} f32", (_EDGE,), _clamp(low, high, f))
       for mode, f in (("rni", _half_even), ("rzi", math.trunc), ("rmi", math.floor), ("rpi", math.ceil))
       for kind, low, high in (("s32", -2 ** 31, 2 ** 31 - 1), ("u32", 0, 2 ** 32 - 1), ("s64", -2 ** 63, 2 ** 63 - 1),
        ("u64", 0, 2 ** 64 - 1),
                               ("s16", -2 ** 15, 2 ** 15 - 1), ("u16", 0, 2 ** 16 - 1))},
    "cvt.rzi.s32.f64": Case("cvt.rzi.s32.f64 %d, %a;", "s32 f64", (_EDGE,), _clamp(-2 ** 31, 2 ** 31 - 1, math.trunc)),
    "cvt.rzi.u8.f32": Case("cvt.rzi.u8.f32 %h1, %a; cvt.u32.u16 %d, %h1;", "u32 f32", (_EDGE,), _clamp(0, 255, math.trunc)),
    "cvt.rzi.s32.f16": Case("cvt.rzi.s32.f16 %d, %a;", "s32 f16", ([1.75, -1.75, 60000.0],), [1, -1, 60000]),
    "cvt.rn.f32.s32": Case("cvt.rn.f32.s32 %d, %a;", "f32 s32", (I32,), exactly(lambda a: a, "f32")),
    "cvt.rn.f32.u32": Case("cvt.rn.f32.u32 %d, %a;", "f32 u32", (U32,), exactly(lambda a: a, "f32")),
    "cvt.rn.f32.s64": Case("cvt.rn.f32.s64 %d, %a;", "f32 s64", (I64,), exactly(lambda a: a, "f32")),
    "cvt.rn.f64.u64": Case("cvt.rn.f64.u64 %d, %a;", "f64 u64", (U64,), exactly(lambda a: a, "f64")),
    "cvt.rn.f64.s32": Case("cvt.rn.f64.s32 %d, %a;", "f64 s32", (I32,), float),
    **{f"cvt.{mode}.f32.s32": Case(f"cvt.{mode}.f32.s32 %d, %a;", "f32 s32", (I32,), exactly(lambda a: a, "f32", mode))
        for mode in ("rz", "rm", "rp")},
    **{f"cvt.{mode}.f64.s64": Case(f"cvt.{mode}.f64.s64 %d, %a;", "f64 s64", (I64,), exactly(lambda a: a, "f64", mode))
        for mode in ("rz", "rm", "rp")},
    **{f"cvt.rn.bf16.{kind}": Case(f"cvt.rn.bf16.{kind} %d, %a;", f"bf16 {kind}", (column,), exactly(lambda a: a, "bf16"))
       for kind, column in (("s32", I32), ("u32", U32), ("s64", [*I64, 2 ** 40 + 2 ** 32, 2 ** 40 + 2 ** 32 + 1]))},
    "cvt.sat.f32.s32": Case("cvt.rn.sat.f32.s32 %d, %a;", "f32 s32", ([-3, 0, 1, 7],), [0.0, 0.0, 1.0, 1.0]),
    "cvt.rz.f32.u64": Case("cvt.rz.f32.u64 %d, %a;", "f32 u64", (U64,), exactly(lambda a: a, "f32", "rz")),
    "cvt.rn.f16.s32": Case("cvt.rn.f16.s32 %d, %a;", "f16 s32", ([1, 2049, 2051, -4097, 100000],), exactly(lambda a: a, "f16")),
    "cvt.f32.f16": Case("cvt.f32.f16 %d, %a;", "f32 f16", (_HALF,), float),
    "cvt.f64.f32": Case("cvt.f64.f32 %d, %a;", "f64 f32", (_NEAR,), float),
    "cvt.f32.bf16": Case("cvt.f32.bf16 %d, %a;", "f32 bf16", ([1.0, -3.0, 0.15625],), float),
    **{f"cvt.{mode}.{kind}.f32": Case(f"cvt.{mode}.{kind}.f32 %d, %a;", f"{kind} f32", (_NEAR,), exactly(lambda a: a, kind, mode))
       for kind, modes in (("f16", ("rn", "rz")), ("bf16", ("rn", "rz"))) for mode in modes},
    "cvt.rna.tf32.f32": Case("cvt.rna.tf32.f32 %d, %a;", "f32 f32", (_NEAR,), exactly(lambda a: a, "tf32", "rna")),
    **{f"cvt.{mode}.f32.f64": Case(f"cvt.{mode}.f32.f64 %d, %a;", "f32 f64",
        ([0.1, -0.1, 1 + 2.0 ** -24, 1 + 2.0 ** -24 + 2.0 ** -50, 1e300],),
                                   exactly(lambda a: a, "f32", mode)) for mode in ("rn", "rz", "rm", "rp")},
    "cvt.rn.f16.f64": Case("cvt.rn.f16.f64 %d, %a;", "f16 f64", ([1 + 2.0 ** -11 + 2.0 ** -40, 1 + 2.0 ** -11, 0.1],),
        exactly(lambda a: a, "f16")),
    "cvt.rn.bf16x2.f32": Case("cvt.rn.bf16x2.f32 %d, %a, %b;", "u32 f32 f32", ([1.0, 3.14159274], [2.0, -1.00390625]),
        [0x3F804000, 0x4049BF80]),
    "cvt.rn.f16x2.f32": Case("cvt.rn.f16x2.f32 %d, %a, %b;", "u32 f32 f32", ([1.0, 65504.0], [2.0, -0.5]), [0x3C004000, 0x7BFFB800]),
    "cvt.rni.f32.f32": Case("cvt.rni.f32.f32 %d, %a;", "f32 f32", ([0.5, 1.5, -2.5, 2.4],), [0.0, 2.0, -2.0, 2.0]),
    "cvt.rmi.f64.f64": Case("cvt.rmi.f64.f64 %d, %a;", "f64 f64", ([0.5, -0.5],), [0.0, -1.0]),
    "cvt.rpi.f32.f32": Case("cvt.rpi.f32.f32 %d, %a;", "f32 f32", ([0.5, -0.5, 1.0],), [1.0, -0.0, 1.0]),
    "cvt.rzi.f16.f16": Case("cvt.rzi.f16.f16 %d, %a;", "f16 f16", ([1.75, -1.75],), [1.0, -1.0]),
    "cvt.sat.f32.f32": Case("cvt.sat.f32.f32 %d, %a;", "f32 f32", ([0.5, 2.0, -1.0, NAN],), [0.5, 1.0, 0.0, 0.0]),
    "cvt.ftz.f32.f32": Case("cvt.rni.ftz.f32.f32 %d, %a;", "f32 f32", ([1e-40, 1.5],), [0.0, 2.0]),
    "cvt.rn.relu.bf16.f32": Case("cvt.rn.relu.bf16.f32 %d, %a;", "bf16 f32", ([-1.0, 2.0],), [0.0, 2.0]),
    "cvt.u64.u32": Case("cvt.u64.u32 %d, %a;", "u64 u32", (U32,), int),
    "cvt.s64.s32": Case("cvt.s64.s32 %d, %a;", "s64 s32", (I32,), int),
    "cvt.u32.u64": Case("cvt.u32.u64 %d, %a;", "u32 u64", (U64,), int),
    "cvt.s32.s8": Case("cvt.s32.s8 %d, %a;", "s32 s32", ([127, 128, 255, 0x1234],), [127, -128, -1, 0x34]),
    "cvt.s16.s8": Case("cvt.s16.s8 %d, %a;", "s16 u16", ([127, 128, 255, 0x1234],), [127, -128, -1, 0x34]),
    "cvt.u16.u8": Case("cvt.u16.u8 %d, %a;", "u16 u16", ([127, 128, 255, 0x1234],), [127, 128, 255, 0x34]),
    "cvt.s8.s32": Case("cvt.s8.s32 %d, %a;", "s32 s32", ([127, 128, 255, 0x1234],), [127, -128, -1, 0x34]),
    "cvt.sat.s8.s32": Case("cvt.sat.s8.s32 %d, %a;", "s32 s32", ([127, 128, -300, 5],), [127, 127, -128, 5]),
    "cvt.sat.u16.s32": Case("cvt.sat.u16.s32 %d, %a;", "u16 s32", ([-5, 70000, 6],), [0, 65535, 6]),
    "cvt.sat.s32.u32": Case("cvt.sat.s32.u32 %d, %a;", "s32 u32", ([2 ** 32 - 1, 6],), [2 ** 31 - 1, 6]),
}
CASES = {**INTEGER, **COMPARE, **FLOATING, **CONVERT}
