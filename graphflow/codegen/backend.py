"""Kernel text -> object code: the one place that leans on Numba's insides.

Knows: how to make Numba lower a function without optimising or linking it, and how LLVM turns that into
an object file with the single symbol `kernel`. Must not know: caches, addresses, processes, plans.
Place: `compile` calls `compile_object` for texts no cache holds, here or in a helper process
(`helpers`). Importing this module imports Numba.

Numba's own way to a cfunc optimises twice, builds wrappers nobody calls and links at once: here LLVM's O3
runs once, and `translate` stands for Numba's front end wherever it understands the text.
"""

import ast
import builtins
import importlib
from functools import cache

import llvmlite.binding as llvm
import numpy as np
from numba import types
from numba.core import compiler
from numba.core.compiler_lock import global_compiler_lock
from numba.core.cpu_options import FastMathOptions
from numba.core.registry import cpu_target

from graphflow.codegen import intrinsics, machine, translate
from graphflow.codegen.target import cpu, features, per_isa, symbol

_ARGUMENTS = (types.CPointer(types.voidptr), types.CPointer(types.int64), types.int64, types.int64)

# Numba returns a status and the result through a pointer. Kernel text cannot raise (Numba refuses it without
# its run-time, NRT); whatever else failed would report "check 1 failed".
_ENTRY = """
define i64 @{symbol}(ptr %b, ptr %s, i64 %lo, i64 %hi) nounwind {{
  %slot = alloca i64
  %why = alloca ptr
  store i64 0, ptr %slot
  %status = call i32 @{inner}(ptr %slot, ptr %why, ptr %b, ptr %s, i64 %lo, i64 %hi)
  %value = load i64, ptr %slot
  %ok = icmp eq i32 %status, 0
  %result = select i1 %ok, i64 %value, i64 1
  ret i64 %result
}}
declare i32 @{inner}(ptr, ptr, ptr, ptr, i64, i64)
"""


def compile_object(source: str) -> bytes:
    """The object code of one kernel text; it defines the symbol `kernel`, with the kernel ABI unless it is LLVM text (blocks.py)."""
    if source.startswith(";"):
        return _target_machine().emit_object(_parsed(source))
    with global_compiler_lock:
        module = _module(source)
        _optimise(module, source)
        return _target_machine(_loops(source)).emit_object(module)


def optimised_ir(source: str) -> str:
    """The optimised LLVM IR of a kernel text, for people and tests."""
    with global_compiler_lock:
        module = _module(source)
        _optimise(module, source)
        return str(module)


def assembly(source: str) -> str:
    """The assembly of a kernel text, for people and tests."""
    if source.startswith(";"):
        return _target_machine().emit_assembly(_parsed(source))
    with global_compiler_lock:
        module = _module(source)
        _optimise(module, source)
        return _target_machine(_loops(source)).emit_assembly(module)


def _parsed(source: str) -> llvm.ModuleRef:
    """LLVM text, which is written as it is meant: nothing is optimised but what code generation does."""
    module, machine_ = llvm.parse_assembly(source), _target_machine()
    module.verify()
    module.triple, module.data_layout = llvm.get_process_triple(), str(machine_.target_data)
    return module


# ---- text -> Python function ------------------------------------------------------------------------

def _module(source: str) -> llvm.ModuleRef:
    """The unoptimised module of a kernel text: by the short way, or by Numba where that does not understand the text."""
    tree = ast.parse(source, "<kernel>")
    namespace = _namespace(_words(tree))
    exec(compile(tree, "<kernel>", "exec"), namespace)
    try:
        return _translated(tree, namespace, _loops(source))
    except translate.Unsupported:
        return _lower(namespace["kernel"])


def _words(tree: ast.Module) -> set[str]:
    """The names a text reads but nowhere defines."""
    names = [n for n in ast.walk(tree) if isinstance(n, ast.Name)]
    defined = {n.id for n in names if not isinstance(n.ctx, ast.Load)}
    defined |= {n.name for n in ast.walk(tree) if isinstance(n, ast.FunctionDef)}
    defined |= {n.arg for n in ast.walk(tree) if isinstance(n, ast.arg)}
    return {n.id for n in names} - defined - {"np"} - set(dir(builtins))


def _namespace(words: set[str]) -> dict:
    """The words a text uses and no others, so that vecmath is only imported for texts that need it."""
    found = {"np": np, "__name__": "graphflow.kernel"}
    for module in (intrinsics, machine, _vecmath):
        missing = {w for w in words - found.keys() if not w.startswith("_")}
        module = module() if missing and module is _vecmath else module
        found.update({w: getattr(module, w) for w in missing if hasattr(module, w)})
    if words - found.keys():
        raise NameError(f"kernel text uses unknown words: {sorted(words - found.keys())}")
    return found


@cache
def _vecmath():
    return importlib.import_module("graphflow.codegen.vecmath")


# ---- Python function -> LLVM module -----------------------------------------------------------------

@cache
def _flags() -> compiler.Flags:
    flags = compiler.Flags()
    flags.no_compile = flags.no_cpython_wrapper = flags.no_cfunc_wrapper = True
    flags.no_rewrites, flags.nrt, flags.error_model = True, False, "numpy"
    flags.fastmath = FastMathOptions({"contract"})
    return flags


def _translated(tree: ast.Module, namespace: dict, loops: bool = False) -> llvm.ModuleRef:
    made, library = translate.module(tree, namespace, _ARGUMENTS, symbol(), hasty=loops)
    module = llvm.parse_assembly(str(made))
    for needed in library._linking_libraries:
        module.link_in(needed._get_module_for_linking(), preserve=True)
    module.verify()
    _hide(module)
    return module


def _lower(function) -> llvm.ModuleRef:
    """An unoptimised module that holds the function, all it calls, and the C entry `kernel`."""
    result = compiler.compile_extra(cpu_target.typing_context, cpu_target.target_context, function,
                                    _ARGUMENTS, types.int64, _flags(), {})
    module, inner = result.library._final_module, result.fndesc.mangled_name
    for library in result.library._linking_libraries:
        module.link_in(library._get_module_for_linking(), preserve=True)
    entry = llvm.parse_assembly(_ENTRY.format(symbol=symbol(), inner=inner))
    entry.triple, entry.data_layout = module.triple, module.data_layout
    module.link_in(entry)
    _hide(module)
    return module


def _hide(module: llvm.ModuleRef) -> None:
    """Everything but the entry becomes internal: it is inlined and then dropped."""
    for item in (*module.functions, *module.global_variables):
        if not item.is_declaration and item.name != symbol():
            if str(item.linkage) == "Linkage.common":          # Numba's empty environment slot
                continue
            item.linkage = "internal"


# ---- LLVM module -> object code ---------------------------------------------------------------------

def _loops(source: str) -> bool:
    """Whether a text is a loop around kernels (see loops.py)."""
    return source.startswith("# loop:")


@per_isa
def _target_machine(loops: bool = False) -> llvm.TargetMachine:
    """loops: elements from several places are loaded one by one, since LLVM moves loads out of a loop, but no gathers."""
    llvm.initialize_native_target()
    llvm.initialize_native_asmprinter()
    target = llvm.Target.from_triple(llvm.get_process_triple())
    given = ",".join(filter(None, [features(), "+prefer-no-gather" if loops and "+avx512f" in features() else ""]))
    return target.create_target_machine(cpu=cpu(), features=given, opt=3, reloc="pic", codemodel="default")


def _optimise(module: llvm.ModuleRef, source: str = "") -> None:
    options = llvm.create_pipeline_tuning_options(3)
    options.loop_vectorization = options.slp_vectorization = True
    passes = llvm.create_pass_builder(_target_machine(_loops(source)), options)
    passes.getModulePassManager().run(module, passes)
