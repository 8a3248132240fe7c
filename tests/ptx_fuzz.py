"""Random functions in LLVM IR, compiled twice: by LLVM for this processor, and by its NVPTX back end for the emulator.

The results must be the same bit for bit. The functions avoid what LLVM leaves undefined (large shifts, division by zero, conversions out
of range, the payload of a NaN); they have nested branches, loops and a local array, so lanes take different ways.
"""
from __future__ import annotations

import ctypes
import random
from functools import cache

import numpy as np

from graphflow.testing import ptx

TYPES = {"i8": "u1", "i16": "u2", "i32": "u4", "i64": "u8", "half": "f2", "float": "f4", "double": "f8"}
INTS, FLOATS = ("i8", "i16", "i32", "i64"), ("half", "float", "double")
WIDTH = {"i8": 8, "i16": 16, "i32": 32, "i64": 64, "half": 16, "float": 32, "double": 64}
THREADS = 64
_SUFFIX = {"half": "f16", "float": "f32", "double": "f64"}


class Program:
    """body: the function's blocks, from %t (thread) and one value of each type; `result` sums up everything it computed."""

    def __init__(self, seed: int, size: int = 40) -> None:
        self.random = random.Random(seed)
        self.lines: list[str] = []
        self.count = 0
        self.declared: set[str] = set()
        self.values: dict[str, list[str]] = {t: [f"%in_{t}"] for t in TYPES}
        self.block = "start"
        self.statements(size, 3)
        self.finish()

    def name(self) -> str:
        self.count += 1
        return f"%v{self.count}"

    def emit(self, text: str) -> str:
        n = self.name()
        self.lines.append(f"  {n} = {text}")
        return n

    def label(self, word: str) -> str:
        self.count += 1
        return f"{word}{self.count}"

    def start(self, label: str) -> None:
        self.lines.append(f"{label}:")
        self.block = label

    def any(self, kind: str) -> str:
        r = self.random.random()
        if r < 0.12:
            if kind in INTS:
                return str(self.random.choice([0, 1, -1, 2, 7, self.random.randrange(1 << WIDTH[kind] - 1)]))
            return self.random.choice(["0.0", "1.0", "-2.5", "0.5", "1024.0"])
        return self.random.choice(self.values[kind][-8:])

    def intrinsic(self, name: str, kind: str, *args: str, result: str = "", kinds: tuple[str, ...] = ()) -> str:
        kinds = kinds or (kind,) * len(args)
        self.declared.add(f"declare {result or kind} @llvm.{name}({', '.join(kinds)})")
        return f"call {result or kind} @llvm.{name}({', '.join(f'{k} {a}' for k, a in zip(kinds, args, strict=True))})"

    # Statements -------------------------------------------------------------------------------------------------------------------------
    def statements(self, n: int, depth: int) -> None:
        while n > 0:
            r = self.random.random()
            if depth and r < 0.06 and n > 6:
                n -= self.branch(min(n // 2, 10), depth - 1)
            elif depth and r < 0.09 and n > 6:
                n -= self.loop(min(n // 2, 8), depth - 1)
            else:
                kind = self.random.choice([*INTS, "i32", "float", *FLOATS])
                made = self.integer(kind) if kind in INTS else self.floating(kind)
                self.values[kind].append(self.emit(made))
                n -= 1

    def condition(self) -> str:
        if self.random.random() < 0.5:
            kind = self.random.choice(INTS)
            op = self.random.choice("eq ne slt sle sgt sge ult ule ugt uge".split())
            return self.emit(f"icmp {op} {kind} {self.any(kind)}, {self.any(kind)}")
        kind = self.random.choice(FLOATS)
        op = self.random.choice("oeq one olt ole ogt oge ord uno ueq une ult ule ugt uge".split())
        return self.emit(f"fcmp {op} {kind} {self.any(kind)}, {self.any(kind)}")

    def branch(self, n: int, depth: int) -> int:
        yes, no, join = self.label("yes"), self.label("no"), self.label("join")
        self.lines.append(f"  br i1 {self.condition()}, label %{yes}, label %{no}")
        kept = {k: list(v) for k, v in self.values.items()}
        ends = []
        for label in (yes, no):
            self.values = {k: list(v) for k, v in kept.items()}
            self.start(label)
            self.statements(n // 2, depth)
            ends.append(({k: self.values[k][-1] for k in TYPES}, self.block))
            self.lines.append(f"  br label %{join}")
        self.values = kept
        self.start(join)
        for kind in TYPES:
            phi = self.emit(f"phi {kind} [{ends[0][0][kind]}, %{ends[0][1]}], [{ends[1][0][kind]}, %{ends[1][1]}]")
            self.values[kind].append(phi)
        return n

    def loop(self, n: int, depth: int) -> int:
        """A trip count from 1 to 4 that depends on the thread."""
        head, before, kind = self.label("loop"), self.block, self.random.choice(["i32", "i64", "float", "double"])
        trips = self.emit(f"and i32 {self.random.choice(self.values['i32'])}, 3")
        first = self.values[kind][-1]
        self.lines.append(f"  br label %{head}")
        i, carried, ahead, result = self.name(), self.name(), self.name(), self.name()
        kept = {k: list(v) for k, v in self.values.items()}
        self.start(head)
        at = len(self.lines)
        self.values["i32"].append(i)
        self.values[kind].append(carried)
        self.statements(n, depth)
        self.lines.append(f"  {result} = {self.integer(kind) if kind in INTS else self.floating(kind)}")
        self.lines.append(f"  {ahead} = add i32 {i}, 1")
        after, more = self.label("after"), self.emit(f"icmp ule i32 {ahead}, {trips}")
        self.lines.append(f"  br i1 {more}, label %{head}, label %{after}")
        self.lines[at:at] = [f"  {i} = phi i32 [0, %{before}], [{ahead}, %{self.block}]",
                             f"  {carried} = phi {kind} [{first}, %{before}], [{result}, %{self.block}]"]
        last = {k: self.values[k][-1] for k in TYPES}
        self.values = kept
        self.start(after)
        for k in TYPES:
            self.values[k].append(last[k])
        self.values[kind].append(result)
        return n

    def integer(self, kind: str) -> str:
        w, a, b = WIDTH[kind], self.any(kind), self.any(kind)
        choice = self.random.randrange(16)
        if choice < 4:
            return f"{self.random.choice('add sub mul and or xor'.split())} {kind} {a}, {b}"
        if choice == 4:
            count = self.emit(f"and {kind} {b}, {w - 1}")
            return f"{self.random.choice(['shl', 'lshr', 'ashr'])} {kind} {a}, {count}"
        if choice == 5:
            divisor = self.emit(f"or {kind} {b}, 1")
            return f"{self.random.choice(['udiv', 'urem'])} {kind} {a}, {divisor}"
        if choice == 6:
            half, divisor = self.emit(f"ashr {kind} {a}, 1"), self.emit(f"or {kind} {b}, 1")
            return f"{self.random.choice(['sdiv', 'srem'])} {kind} {half}, {divisor}"
        if choice == 7:
            return self.intrinsic(f"{self.random.choice(['smin', 'smax', 'umin', 'umax'])}.{kind}", kind, a, b)
        if choice == 8:
            name = self.random.choice(["ctpop", "bitreverse", *(["bswap"] if w > 8 else [])])
            return self.intrinsic(f"{name}.{kind}", kind, a)
        if choice == 9:
            return self.intrinsic(f"{self.random.choice(['ctlz', 'cttz'])}.{kind}", kind, a, "false", kinds=(kind, "i1"))
        if choice == 10:
            return self.intrinsic(f"{self.random.choice(['fshl', 'fshr'])}.{kind}", kind, a, b, self.any(kind))
        if choice == 11:
            return f"select i1 {self.condition()}, {kind} {a}, {kind} {b}"
        if choice == 12:
            source = self.random.choice(FLOATS)
            name = self.random.choice(["fptosi", "fptoui"])
            given = self.number(source, self.any(source))  # LLVM's code for this processor converts a NaN of float16 wrongly
            return self.intrinsic(f"{name}.sat.{kind}.{_SUFFIX[source]}", kind, given, result=kind, kinds=(source,))
        if choice == 13:
            sat = self.random.choice(["sadd", "uadd", "ssub", "usub"])
            return self.intrinsic(f"{sat}.sat.{kind}", kind, a, b)
        other = self.random.choice([k for k in INTS if k != kind])
        if WIDTH[other] > w:
            return f"trunc {other} {self.any(other)} to {kind}"
        return f"{self.random.choice(['zext', 'sext'])} {other} {self.any(other)} to {kind}"

    def floating(self, kind: str) -> str:
        a, b, s = self.any(kind), self.any(kind), _SUFFIX[kind]
        choice = self.random.randrange(13)
        if choice < 4:
            return f"{self.random.choice(['fadd', 'fsub', 'fmul', 'fdiv'])} {kind} {a}, {b}"
        if choice == 4:
            return self.intrinsic(f"fma.{s}", kind, a, b, self.any(kind)) if kind != "half" else f"fadd half {a}, {b}"
        if choice == 5:
            name = self.random.choice(["floor", "ceil", "trunc", "rint", "fabs"])
            return self.intrinsic(f"{name}.{s}", kind, a)
        if choice == 6:
            return self.intrinsic(f"sqrt.{s}", kind, self.emit(self.intrinsic(f"fabs.{s}", kind, a)))
        if choice == 7:
            return self.intrinsic(f"copysign.{s}", kind, a, self.number(kind, b))
        if choice == 8:
            return self.intrinsic(f"{self.random.choice(['minimum', 'maximum'])}.{s}", kind, a, b)
        if choice == 9:
            return f"select i1 {self.condition()}, {kind} {a}, {kind} {b}"
        if choice == 10:
            source = self.random.choice(INTS)
            return f"{self.random.choice(['sitofp', 'uitofp'])} {source} {self.any(source)} to {kind}"
        other = self.random.choice([k for k in FLOATS if k != kind])
        return f"{'fptrunc' if WIDTH[other] > WIDTH[kind] else 'fpext'} {other} {self.any(other)} to {kind}"

    def number(self, kind: str, a: str) -> str:
        """a, or 1 where it is NaN: the sign of a NaN is not the same on all machines."""
        return self.emit(f"select i1 {self.emit(f'fcmp uno {kind} {a}, {a}')}, {kind} 1.0, {kind} {a}")

    def finish(self) -> None:
        """Every value goes into one sum of 64 bits; the last of each type is stored too."""
        total = "0"
        for kind, values in self.values.items():
            for v in values:
                bits = v
                if kind in FLOATS:
                    bits = self.emit(f"bitcast {kind} {self.number(kind, v)} to i{WIDTH[kind]}")
                if WIDTH[kind] < 64:
                    bits = self.emit(f"zext i{WIDTH[kind]} {bits} to i64")
                total = self.emit(f"add i64 {self.emit(f'mul i64 {total}, 31')}, {bits}")
        self.total = total

    def ir(self, gpu: bool) -> str:
        head = "define ptx_kernel void @kernel(ptr %in, ptr %out) {" if gpu else "define void @kernel(ptr %in, ptr %out, i32 %t) {"
        lines = [head, "start:"]
        if gpu:
            lines.append("  %t = call i32 @llvm.nvvm.read.ptx.sreg.tid.x()")
        lines.append("  %row = mul i32 %t, 32")
        for i, kind in enumerate(TYPES):
            lines += [f"  %at_{kind} = add i32 %row, {OFFSETS[i]}", f"  %p_{kind} = getelementptr i8, ptr %in, i32 %at_{kind}",
                      f"  %in_{kind} = load {kind}, ptr %p_{kind}"]
        lines += [*self.lines, "  %op = getelementptr i64, ptr %out, i32 %t", f"  store i64 {self.total}, ptr %op", "  ret void", "}"]
        extra = ["declare i32 @llvm.nvvm.read.ptx.sreg.tid.x()"] if gpu else []
        return "\n".join([*lines, *sorted(self.declared), *extra])


OFFSETS = (30, 28, 24, 16, 26, 20, 8)  # of the inputs in a row of 32 bytes


def inputs(seed: int) -> np.ndarray:
    """THREADS rows of 32 bytes: small and large integers, ordinary and special floats."""
    rng = np.random.default_rng(seed)
    rows = np.zeros((THREADS, 32), np.uint8)
    for offset, (kind, code) in zip(OFFSETS, TYPES.items(), strict=True):
        d = np.dtype(code)
        if kind in FLOATS:
            v = (rng.standard_normal(THREADS) * 2.0 ** rng.integers(-8, 8, THREADS)).astype(d)
            v[:7] = [0.0, -0.0, np.inf, -np.inf, 1.0, np.finfo(d).tiny, np.finfo(d).smallest_subnormal]
        else:
            v = rng.integers(0, 256, (THREADS, d.itemsize), np.uint8).view(d).ravel()
            v[::3] %= 16
        rows[:, offset:offset + d.itemsize] = v.view(np.uint8).reshape(THREADS, -1)
    return rows


@cache
def _machines():
    from llvmlite import binding
    binding.initialize_all_targets()
    binding.initialize_all_asmprinters()
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    nvptx = binding.Target.from_triple("nvptx64-nvidia-cuda").create_target_machine(cpu="sm_90", features="+ptx78", opt=3)
    return binding, nvptx


def to_ptx(program: Program, optimise: bool) -> str:
    binding, nvptx = _machines()
    module = binding.parse_assembly('target triple = "nvptx64-nvidia-cuda"\n' + program.ir(True))
    module.verify()
    if optimise:
        passes = binding.create_pass_builder(nvptx, binding.create_pipeline_tuning_options(3))
        passes.getModulePassManager().run(module, passes)
    return nvptx.emit_assembly(module)


def on_the_processor(program: Program, rows: np.ndarray) -> np.ndarray:
    binding, _ = _machines()
    host = binding.Target.from_default_triple().create_target_machine(  # the engine takes it over
        cpu=binding.get_host_cpu_name(), features=binding.get_host_cpu_features().flatten(), opt=0, jit=True)
    module = binding.parse_assembly(f'target triple = "{binding.get_process_triple()}"\n' + program.ir(False))
    engine = binding.create_mcjit_compiler(module, host)
    engine.finalize_object()
    kernel = ctypes.CFUNCTYPE(None, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_int32)(engine.get_function_address("kernel"))
    out = np.zeros(THREADS, np.uint64)
    for t in range(THREADS):
        kernel(rows.ctypes.data, out.ctypes.data, t)
    return out


def on_the_emulator(text: str, rows: np.ndarray) -> np.ndarray:
    out = np.zeros(THREADS, np.uint64)
    ptx.run(text, 1, THREADS, [rows.view("u8"), ptx.Out(out)])
    return out


# Races -------------------------------------------------------------------------------------------------------------------------------
def race_case(seed: int) -> tuple[str, int, int, str | None]:
    """A kernel of random accesses to shared or global memory: its text, blocks, threads, and "shared", "global" or None: whether two of its
    accesses race, found by looking at all pairs."""
    r = random.Random(seed)
    blocks, threads, shared = r.choice([1, 2]), r.choice([32, 64]), r.random() < 0.6
    lines = [".shared .align 16 .b8 tile[512];", "mov.u64 %q1, tile;"] if shared else ["mov.u64 %q1, %a;"]
    if shared:  # everything is written first, by its own thread
        lines += ["mad.wide.u32 %q2, %t, 8, %q1; st.shared.b64 [%q2], %q2; bar.sync 0;"]
    touches: list[tuple[int, str, int, int, int, int, int]] = []  # position, kind, block, thread, first byte, bytes, value
    orders: list[tuple[int, str]] = [(-1, "barrier")]
    steps = r.randrange(2, 6)
    for position in range(steps):
        scale, shift, width = r.choice([1, 1, 1, 2, 3]), r.choice([0, 0, 0, 1, 5]), r.choice([1, 2, 4, 4, 4])
        own = r.random() < 0.3  # a block's own half of the memory
        few, kind = r.choice([0, 0, 0, 1, 3, 31]), r.choice(["load", "store", "store", "atomic"])
        width = 4 if kind == "atomic" else width
        slots = 256 // width // 2
        value = r.choice(["%t", "7"])
        lines.append(f"mad.lo.u32 %r1, %t, {scale}, {shift}; rem.u32 %r1, %r1, {slots};")
        if own and not shared:
            lines.append(f"mad.lo.u32 %r1, %r31, {slots}, %r1;")
        lines.append(f"mad.wide.u32 %q3, %r1, {width}, %q1; and.b32 %r2, %t, {few}; setp.eq.u32 %p1, %r2, 0; cvt.u16.u32 %h1, {value};")
        space, size = "shared" if shared else "global", 8 * width
        register = "%h1" if width < 4 else value
        lines.append({"load": f"@%p1 ld.{space}.b{size} {'%h2' if width < 4 else '%r3'}, [%q3];",
                      "store": f"@%p1 st.{space}.b{size} [%q3], {register};", "atomic": f"@%p1 red.{space}.add.u32 [%q3], 1;"}[kind])
        for block in range(blocks):
            for t in range(threads):
                if t & few == 0:
                    index = (t * scale + shift) % slots + (block * slots if own and not shared else 0)
                    v = (t if value == "%t" else 7) % (1 << size)
                    touches.append((position, kind, block, t, index * width, width, v))
        if r.random() < 0.35:
            kind = r.choice(["barrier", "barrier", "warp"])
            orders.append((position, kind))
            lines.append("bar.sync 0;" if kind == "barrier" else "bar.warp.sync -1;")
    return "\n".join(lines), blocks, threads, ("shared" if shared else "global") if _races(touches, orders, shared) else None


def _races(touches: list, orders: list, shared: bool) -> bool:
    cells: dict[tuple, list] = {}
    for p, kind, block, t, first, width, value in touches:
        for i in range(width):
            cells.setdefault((block if shared else 0, first + i), []).append((p, kind, block, t, value >> 8 * i & 255))
    for cell in cells.values():
        for n, (p, kind, block, t, value) in enumerate(cell):
            for q, other, block2, t2, value2 in cell[:n]:
                if (block, t) == (block2, t2) or "store" not in (kind, other) or kind == other and value == value2:
                    continue
                between = [o for at, o in orders if min(p, q) <= at < max(p, q)]
                if not ("barrier" in between and block == block2 or "warp" in between and (block, t // 32) == (block2, t2 // 32)):
                    return True
    return False


if __name__ == "__main__":  # python tests/ptx_fuzz.py 0 1000: more of both than the tests take
    import sys

    from ptx_cases import kernel
    for seed in range(*map(int, sys.argv[1:3])):
        program, rows = Program(seed, 60), inputs(seed)
        for optimise in (False, True):
            same = on_the_emulator(to_ptx(program, optimise), rows) == on_the_processor(program, rows)
            assert same.all(), f"function {seed}, {optimise}"
        body, blocks, threads, expected = race_case(seed)
        try:
            ptx.run(kernel(body), blocks, threads, [ptx.InOut(np.zeros(1024, np.uint8))])
            found = None
        except (ptx.SharedRace, ptx.GlobalRace) as error:
            found = "shared" if isinstance(error, ptx.SharedRace) else "global"
        assert found == expected, f"race {seed}"
