"""Fused multiply-add rounded once, as NumPy ufuncs: two loops that LLVM compiles, with the processor's own fma or libm's.

NumPy has no fma, and float64 arithmetic on float32 rounds twice. Place: used by `arithmetic` alone.
"""
from __future__ import annotations

import ctypes
from functools import cache

import numpy as np

_LOOP = """
declare {t} @llvm.fma.{n}({t}, {t}, {t})
define void @loop_{n}(ptr %args, ptr %dims, ptr %steps, ptr %data) {{
start:
  %n = load i64, ptr %dims
  %pb = getelementptr i64, ptr %args, i64 1
  %pc = getelementptr i64, ptr %args, i64 2
  %pd = getelementptr i64, ptr %args, i64 3
  %a0 = load ptr, ptr %args
  %b0 = load ptr, ptr %pb
  %c0 = load ptr, ptr %pc
  %d0 = load ptr, ptr %pd
  %sb = getelementptr i64, ptr %steps, i64 1
  %sc = getelementptr i64, ptr %steps, i64 2
  %sd = getelementptr i64, ptr %steps, i64 3
  %ta = load i64, ptr %steps
  %tb = load i64, ptr %sb
  %tc = load i64, ptr %sc
  %td = load i64, ptr %sd
  %none = icmp sle i64 %n, 0
  br i1 %none, label %end, label %next
next:
  %i = phi i64 [0, %start], [%i1, %next]
  %a = phi ptr [%a0, %start], [%a1, %next]
  %b = phi ptr [%b0, %start], [%b1, %next]
  %c = phi ptr [%c0, %start], [%c1, %next]
  %d = phi ptr [%d0, %start], [%d1, %next]
  %x = load {t}, ptr %a
  %y = load {t}, ptr %b
  %z = load {t}, ptr %c
  %r = call {t} @llvm.fma.{n}({t} %x, {t} %y, {t} %z)
  store {t} %r, ptr %d
  %a1 = getelementptr i8, ptr %a, i64 %ta
  %b1 = getelementptr i8, ptr %b, i64 %tb
  %c1 = getelementptr i8, ptr %c, i64 %tc
  %d1 = getelementptr i8, ptr %d, i64 %td
  %i1 = add i64 %i, 1
  %more = icmp slt i64 %i1, %n
  br i1 %more, label %next, label %end
end:
  ret void
}}
"""
_ALIVE: list = []  # NumPy keeps pointers to these


@cache
def fma() -> np.ufunc:
    """fma(a, b, c) = a*b + c rounded once; float32 and float64."""
    from llvmlite import binding
    binding.initialize_native_target()
    binding.initialize_native_asmprinter()
    triple = f'target triple = "{binding.get_process_triple()}"'  # without it, LLVM takes any target that is initialised
    module = binding.parse_assembly(triple + _LOOP.format(t="float", n="f32") + _LOOP.format(t="double", n="f64"))
    host = binding.Target.from_default_triple().create_target_machine(
        cpu=binding.get_host_cpu_name(), features=binding.get_host_cpu_features().flatten(), opt=3, jit=True)
    engine = binding.create_mcjit_compiler(module, host)
    engine.finalize_object()
    loops = (ctypes.c_void_p * 2)(*(engine.get_function_address(f"loop_{n}") for n in ("f32", "f64")))
    data = (ctypes.c_void_p * 2)()
    kinds = (ctypes.c_char * 8)(*[np.dtype(d).num for d in ("f4", "f8") for _ in range(4)])
    _ALIVE.extend([engine, loops, data, kinds])
    return _from_loops()(loops, data, kinds, 2, 3, 1, -1, b"fma", b"a*b + c rounded once", 0)


def _from_loops():
    """PyUFunc_FromFuncAndData of NumPy's C interface (entry 1 of its table)."""
    from numpy._core import _multiarray_umath
    pointer = ctypes.pythonapi.PyCapsule_GetPointer
    pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
    table = ctypes.cast(pointer(_multiarray_umath._UFUNC_API, None), ctypes.POINTER(ctypes.c_void_p))
    shape = ctypes.PYFUNCTYPE(ctypes.py_object, ctypes.c_void_p, ctypes.c_void_p, ctypes.c_void_p, *[ctypes.c_int] * 4,
                              ctypes.c_char_p, ctypes.c_char_p, ctypes.c_int)
    return shape(table[1])
