"""Device text -> PTX: Numba's words and LLVM's NVPTX back end, both already here.

llvmlite's LLVM holds the NVPTX target, so nothing of NVIDIA's is needed to make a kernel; the driver's own compiler turns PTX into
machine code.  Knows how text becomes an LLVM module for a GPU.  Must not know kernels, launches, caches (rank 4).

A text is `def kernel(p0, ..., s0, ...)` below two comment lines: a label, and `#: kinds threads`, with one letter for each parameter:
p a pointer, i an int32, l an int64.  A line `#: packed` lets LLVM make vectors of accesses that lie side by side, a line `#: room=bytes`
says how much shared memory the launch must bring along.
Integers stay 32 bits wide unless one of 64 bits meets them: a GPU has no 64-bit integer unit.
"""
from __future__ import annotations

import ast
import re
from functools import cache

import llvmlite.binding as llvm
import numpy as np
from llvmlite import ir
from numba.core import types
from numba.core.compiler_lock import global_compiler_lock

from .. import backend, intrinsics, machine, translate
from . import functions, words
from .texts import room, signature

I32, I64 = ir.IntType(32), ir.IntType(64)
TRIPLE = "nvptx64-nvidia-cuda"
_KINDS = {"p": types.voidptr, "i": types.int32, "l": types.int64, "f": types.float32, "d": types.float64}
# Every driver since CUDA 11.8 takes PTX 7.8, and makes code for later GPUs of what is written for these.
_PTX, _KNOWN = "+ptx78", (90, 89, 87, 86, 80)
_SHORT = {types.int8, types.int16, types.int32}


def compile_ptx(source: str, capability: tuple[int, int] = (9, 0)) -> str:
    """PTX of one kernel text for GPUs of a compute capability or later; its entry is `kernel`."""
    with global_compiler_lock:
        module = _module(source)
        target = _target(capability)
        module.triple, module.data_layout = TRIPLE, str(target.target_data)
        options = llvm.create_pipeline_tuning_options(3)
        options.loop_vectorization = options.slp_vectorization = False
        passes = llvm.create_pass_builder(target, options)
        passes.getModulePassManager().run(module, passes)
        return _tidy(target.emit_assembly(module))


@cache
def _target(capability: tuple[int, int]) -> llvm.TargetMachine:
    llvm.initialize_all_targets()
    llvm.initialize_all_asmprinters()
    # Of float32: division by div.full (2 ulp, any operands) and approximate roots take 8 instructions instead of 30 and a call;
    # `quotient` and `sqrt_f32` mend these with 5 more, and what must be exact asks for `div_exact`.
    llvm.set_option("", "-nvptx-prec-divf32=1")
    llvm.set_option("", "-nvptx-prec-sqrtf32=0")
    llvm.set_option("", "-disable-vector-combine=1")  # it would take loads of several elements apart
    number = next((n for n in _KNOWN if capability[0] * 10 + capability[1] >= n), None)
    if number is None:
        raise ValueError(f"kernels need a GPU of compute capability 8.0 or newer, got {capability[0]}.{capability[1]}")
    return llvm.Target.from_triple(TRIPLE).create_target_machine(cpu=f"sm_{number}", features=_PTX, opt=3)


def _tidy(text: str) -> str:
    """The same text in every process: without comments and empty lines."""
    lines = (re.sub(r"\s*//.*", "", line).rstrip() for line in text.splitlines())
    return "\n".join(line for line in lines if line) + "\n"


def _namespace(names: set[str]) -> dict:
    """Device words first, then those of the CPU."""
    found = {n: getattr(words, n) for n in names if hasattr(words, n) and not n.startswith("_")}
    found.update({n: functions.NAMES[n] for n in names if n in functions.NAMES})
    rest = names - found.keys() - {"unroll"}
    for module in (intrinsics, machine):
        found.update({n: getattr(module, n) for n in rest if hasattr(module, n) and not n.startswith("_")})
    if names - found.keys() - {"unroll"}:
        from .. import vecmath

        found.update({n: getattr(vecmath, n) for n in names - found.keys() if hasattr(vecmath, n) and not n.startswith("_")})
    if names - found.keys() - {"unroll"}:
        raise NameError(f"device text uses unknown words: {sorted(names - found.keys())}")
    return {"np": np, "__name__": "graphflow.kernel", **found}


def _module(source: str) -> llvm.ModuleRef:
    tree = ast.parse(source, "<kernel>")
    kinds, threads = signature(source)
    namespace = _namespace(backend._words(tree))
    globals_ = [n for n in tree.body if not isinstance(n, ast.FunctionDef)]
    exec(compile(ast.Module(globals_, []), "<kernel>", "exec"), namespace)
    try:
        made, library = translate.module(tree, namespace, tuple(_KINDS[k] for k in kinds), "kernel", translator=_Translator)
    except translate.Unsupported as error:
        raise NotImplementedError(f"device text of {source.splitlines()[0]}: {error}") from error
    text = str(made).replace('target triple = "', ";", 1).replace('target datalayout = "', ";", 1)
    text = _entry(text, threads, "\n#: packed\n" in source, room(source) > 0, _exchanged(tree))
    module = llvm.parse_assembly(text)
    for needed in library._linking_libraries:
        module.link_in(needed._get_module_for_linking(), preserve=True)
    module.verify()
    backend._hide(module)
    return module


def _exchanged(tree: ast.Module) -> set[int]:
    """The parameters through which threads may tell each other something: read and written, in a text with barriers."""
    calls = [n for n in ast.walk(tree) if isinstance(n, ast.Call) and isinstance(n.func, ast.Name)]
    if not any(n.func.id in ("barrier", "barrier_warp") for n in calls):  # type: ignore[attr-defined]
        return set()
    read: set[str] = set()
    written: set[str] = set()
    for n in calls:
        name = n.func.id  # type: ignore[attr-defined]
        for place, a in enumerate(n.args):
            if isinstance(a, ast.Name):
                to = place == 0 and name.startswith(("st_", "store_", "moved_", "atomic_"))
                (written if to else read).add(a.id)
                read.update({a.id} if name.startswith("atomic_") else ())
    (kernel,) = (n for n in tree.body if isinstance(n, ast.FunctionDef))
    return {number for number, a in enumerate(kernel.args.args) if a.arg in read & written}


def _entry(text: str, threads: int, packed: bool, roomy: bool, exchanged: set[int]) -> str:
    """The function as a kernel, whose pointers are aligned as the allocator aligns and reach different memory.

    Of memory behind `noalias` LLVM thinks that no barrier changes it, so that a value from before one would do after it.
    roomy: it takes so much shared memory that few blocks meet: for more of them no register need be saved.
    """
    head = re.search(r"^define void @\"?kernel\"?\((.*?)\)(.*)$", text, re.M)
    assert head is not None
    # LLVM's own search for vectors reads past the end of buffers to fill one; this attribute stops it.
    search = "" if packed else " noimplicitfloat"
    parameters = ", ".join(re.sub(r"(?:i8\*|ptr) %", "ptr align 16 %" if number in exchanged else "ptr noalias align 16 %", one)
                           for number, one in enumerate(head[1].split(", ")))
    flags = f'nounwind{search} "nvvm.maxntid"="{threads}"' + ' "nvvm.minctasm"="1"' * roomy
    return f"{text[:head.start()]}define ptx_kernel void @kernel({parameters}) {flags}{text[head.end():]}"


class _Translator(translate._Translator):
    """Kernel text with integers of 32 bits, `unroll`, and no result."""

    def __init__(self, *given):
        self.literals: dict[str, int] = {}  # the counters of the loops that are being written out
        super().__init__(*given)

    def constant(self, v):
        if type(v) is int and -1 << 31 <= v < 1 << 31:
            return translate._Value(types.literal(v), ir.Constant(I32, v))
        if isinstance(v, np.complexfloating):
            kind = self.typing.resolve_value_type(v)
            part = self.context.get_value_type(kind.underlying_float)
            return translate._Value(kind, ir.Constant.literal_struct([ir.Constant(part, float(x)) for x in (v.real, v.imag)]))
        if isinstance(v, np.integer):
            return translate._Value(self.typing.resolve_value_type(v), ir.Constant(ir.IntType(8 * v.itemsize), int(v)))
        return super().constant(v)

    def plain_type(self, kind):
        if isinstance(kind, types.IntegerLiteral):
            return types.int32 if -1 << 31 <= kind.literal_value < 1 << 31 else types.int64
        return types.unliteral(kind)

    def cast(self, v, kind):
        if isinstance(v.type, types.IntegerLiteral):
            n = v.type.literal_value
            if kind == v.type:
                return v.llvm
            if isinstance(kind, types.Integer) and not isinstance(kind, types.IntegerLiteral):
                return ir.Constant(ir.IntType(kind.bitwidth), n)
            if isinstance(kind, types.Float):
                return ir.Constant(self.context.get_value_type(kind), float(n))
            v = translate._Value(types.int64, ir.Constant(I64, n))
        return super().cast(v, kind)

    def plain(self, v):
        kind = self.plain_type(v.type)
        return translate._Value(kind, self.cast(v, kind))

    def put(self, name, v):
        v = self.plain(v)
        have = self.names.get(name)
        if have is not None and have[0] == types.int64 and v.type in _SHORT:
            v = translate._Value(types.int64, self.cast(v, types.int64))
        super().put(name, v)

    def binary(self, op, a, b):
        x, y = self.plain_type(a.type), self.plain_type(b.type)
        if x in translate._SIGNED and y in translate._SIGNED and op in translate._INTEGER:
            kind = types.int64 if types.int64 in (x, y) else types.int32
            if isinstance(a.type, types.IntegerLiteral) and isinstance(b.type, types.IntegerLiteral):
                kind = types.int64 if types.int64 in (x, y) else types.int32
            return translate._Value(kind, translate._INTEGER[op](self.builder, self.cast(a, kind), self.cast(b, kind)))
        return super().binary(op, self._beside(a, y), self._beside(b, x))

    def _beside(self, v, kind):
        """A literal beside a value takes its integer type."""
        if isinstance(v.type, types.IntegerLiteral) and isinstance(kind, types.Integer) and not isinstance(kind, types.IntegerLiteral):
            return translate._Value(kind, self.cast(v, kind))
        return v

    def of_Compare(self, node):
        if len(node.ops) != 1 or type(node.ops[0]) not in translate._COMPARE:
            raise translate.Unsupported("a chain of comparisons")
        a, b = self.value(node.left), self.value(node.comparators[0])
        x, y = self.plain_type(a.type), self.plain_type(b.type)
        op = translate._COMPARE[type(node.ops[0])]
        if x in translate._SIGNED and y in translate._SIGNED:
            kind = types.int64 if types.int64 in (x, y) else types.int32
            return translate._Value(types.boolean, self.builder.icmp_signed(op, self.cast(a, kind), self.cast(b, kind)))
        if x is y and x in translate._FLOATS:
            compare = self.builder.fcmp_unordered if op == "!=" else self.builder.fcmp_ordered
            return translate._Value(types.boolean, compare(op, a.llvm, b.llvm))
        return self.call(translate._COMPARED[op], [self._beside(a, y), self._beside(b, x)])

    def call(self, fn, values):
        name = getattr(fn, "__name__", "") or getattr(fn, "_name", "")
        if fn in (min, max) and all(self.plain_type(v.type) in translate._SIGNED for v in values):
            kind = types.int64 if any(self.plain_type(v.type) == types.int64 for v in values) else types.int32
            found = self.cast(values[0], kind)
            for v in values[1:]:
                w = self.cast(v, kind)
                found = self.builder.select(self.builder.icmp_signed("<" if fn is min else ">", w, found), w, found)
            return translate._Value(kind, found)
        if not _takes_literals(name):
            kinds = [self.plain_type(v.type) for v in values if not isinstance(v.type, types.IntegerLiteral)]
            whole = next((k for k in kinds if isinstance(k, types.Integer)), types.int32)
            if not any(isinstance(k, (types.Float, types.Complex)) for k in kinds) or name[:7] == "shuffle":
                if name[:7] == "shuffle":
                    whole = types.int32
                elif any(self.plain_type(v.type) == types.int64 for v in values) and isinstance(whole, types.Integer) and whole.signed:
                    whole = types.int64
                values = [translate._Value(whole, self.cast(v, whole)) if isinstance(v.type, types.IntegerLiteral) else v for v in values]
        else:
            values = [translate._Value(v.type, ir.Constant(I64, v.type.literal_value)) if isinstance(v.type, types.IntegerLiteral) else v
                      for v in values]
        return super().call(fn, values)

    def do_Return(self, s):
        self.builder.ret_void()

    def run(self):
        self.node.body.append(ast.Return(None))
        super().run()

    def do_For(self, s):
        if isinstance(s.iter, ast.Call) and isinstance(s.iter.func, ast.Name) and s.iter.func.id == "unroll":
            for k in range(*map(ast.literal_eval, s.iter.args)):
                self.literals[s.target.id] = k
                self.body(s.body)
            self.literals.pop(s.target.id, None)
            return
        given = [self.value(a) for a in s.iter.args]
        if not 1 <= len(given) <= 3 or s.orelse:
            raise translate.Unsupported("a loop over no range")
        kind = types.int64 if any(self.plain_type(v.type) == types.int64 for v in given) else types.int32
        bounds = [self.cast(v, kind) for v in given]
        t = self.context.get_value_type(kind)
        start, stop = (ir.Constant(t, 0), bounds[0]) if len(bounds) == 1 else bounds[:2]
        step = bounds[2] if len(bounds) == 3 else ir.Constant(t, 1)
        counter = translate.cgutils.alloca_once(self.builder, t, name="at")
        self.builder.store(start, counter)
        head, inside, onward, after = (self.function.append_basic_block(n) for n in ("head", "inside", "onward", "after"))
        self.builder.branch(head)
        self.builder.position_at_end(head)
        now = self.builder.load(counter)
        self.builder.cbranch(self.builder.icmp_signed("<", now, stop), inside, after)  # device loops count up
        self.builder.position_at_end(onward)
        self.builder.store(self.builder.add(self.builder.load(counter), step, flags=("nsw",)), counter)
        self.builder.branch(head)
        self.builder.position_at_end(inside)
        self.put(self.name(s.target), translate._Value(kind, now))
        self.loop(s.body, None, onward, after)

    def of_Name(self, node):
        return self.constant(self.literals[node.id]) if node.id in self.literals else super().of_Name(node)


_LITERAL = re.compile(r"(ld|st|load|store|stack|shared|rotl|moved|multiplied|cleared|settled|asked|await|dotted|weighted)_")


def _takes_literals(name: str) -> bool:
    """Whether a word's own typing reads literal arguments."""
    return bool(_LITERAL.match(name))
