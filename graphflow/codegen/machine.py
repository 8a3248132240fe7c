"""Intrinsics for native code that drives other native code: calls by address, atomics, the clock.

Knows: the two C signatures the runner calls, and LLVM's spelling of them. Must not know: what a plan's
instructions mean. Place: kernel text uses `intrinsics`; only the runner's own text uses this module too.
All addresses are plain int64, so that a plan stays an array of integers.
"""

from llvmlite import ir
from llvmlite.binding import get_process_triple
from numba import types
from numba.extending import intrinsic

I8, I32, I64 = (ir.IntType(n) for n in (8, 32, 64))
_BYTES = I8.as_pointer()


def _call_address(builder, result, arguments):
    """Call the function whose int64 address is arguments[0]."""
    shape = ir.FunctionType(result, [a.type for a in arguments[1:]])
    return builder.call(builder.inttoptr(arguments[0], shape.as_pointer()), arguments[1:])


@intrinsic
def address(typing, p):
    """A pointer as an int64."""
    def code(context, builder, signature, args):
        return builder.ptrtoint(args[0], I64)
    return types.int64(types.voidptr), code


@intrinsic
def pointer(typing, a):
    """An int64 address as a byte pointer."""
    def code(context, builder, signature, args):
        return builder.inttoptr(args[0], _BYTES)
    return types.voidptr(types.int64), code


@intrinsic
def function_table(typing, B):
    """The first kernel argument as a plain byte pointer."""
    def code(context, builder, signature, args):
        return builder.bitcast(args[0], _BYTES)
    return types.voidptr(types.CPointer(types.voidptr)), code


@intrinsic
def call_kernel(typing, fn, buffers, sizes, lo, hi):
    """int64 fn(buffers, sizes, lo, hi): the kernel ABI."""
    def code(context, builder, signature, args):
        return _call_address(builder, I64, args)
    return types.int64(*[types.int64] * 5), code


@intrinsic
def call_block(typing, fn, a, b, c, rows, cols, taps, depth, hop, lda, ldb, panel, ldc, add):
    """A block kernel (see blocks.py) by its address, given as a pointer."""
    def code(context, builder, signature, args):
        shape = ir.FunctionType(I64, [_BYTES] * 3 + [I64] * 10)
        return builder.call(builder.bitcast(args[0], shape.as_pointer()), args[1:])
    return types.int64(*[types.voidptr] * 4, *[types.int64] * 10), code


@intrinsic
def call_transpose(typing, fn, to, source, rows, cols, ldto, ldsource):
    """The transposing kernel (see blocks.py) by its address, given as a pointer."""
    def code(context, builder, signature, args):
        shape = ir.FunctionType(I64, [_BYTES] * 2 + [I64] * 4)
        return builder.call(builder.bitcast(args[0], shape.as_pointer()), args[1:])
    return types.int64(*[types.voidptr] * 3, *[types.int64] * 4), code


@intrinsic
def call_parallel_for(typing, parallel_for, fn, arguments, dims, steps, data, threads):
    """Launch a gufunc-form function (one argument, no inner dimension) on Numba's threading layer."""
    def code(context, builder, signature, args):
        entry, fn, arguments, dims, steps, data, threads = args
        _call_address(builder, ir.VoidType(), [entry, fn, arguments, dims, steps, data, I64(0), I64(1),
                                               builder.trunc(threads, I32)])
        return context.get_dummy_value()
    return types.none(*[types.int64] * 7), code


@intrinsic
def load_volatile(typing, a):
    """int64 at an address, read anew each time: another thread may write it."""
    def code(context, builder, signature, args):
        return builder.load_atomic(builder.inttoptr(args[0], I64.as_pointer()), "monotonic", 8)
    return types.int64(types.int64), code


@intrinsic
def load_ordered(typing, a):
    """int64 at an address, in one order with all atomic updates that every thread agrees on."""
    def code(context, builder, signature, args):
        return builder.load_atomic(builder.inttoptr(args[0], I64.as_pointer()), "seq_cst", 8)
    return types.int64(types.int64), code


@intrinsic
def pause(typing):
    """A moment of waiting that leaves the core to its other thread; nothing where there is no such instruction."""
    def code(context, builder, signature, args):
        machine = get_process_triple().split("-")[0]
        if machine in ("x86_64", "i386", "i686", "AMD64"):
            builder.call(builder.module.declare_intrinsic("llvm.x86.sse2.pause", (), ir.FunctionType(ir.VoidType(), [])), [])
        elif machine in ("aarch64", "arm64"):
            hint = builder.module.declare_intrinsic("llvm.aarch64.hint", (), ir.FunctionType(ir.VoidType(), [I32]))
            builder.call(hint, [I32(1)])
        return context.get_dummy_value()
    return types.none(), code


def _atomic(name, operation, doc):
    def update(typing, a, value):
        def code(context, builder, signature, args):
            cell = builder.inttoptr(args[0], I64.as_pointer())
            return builder.atomic_rmw(operation, cell, args[1], "seq_cst")
        return types.int64(types.int64, types.int64), code
    update.__name__, update.__doc__ = name, doc
    return intrinsic(update)


atomic_min = _atomic("atomic_min", "min", "Store the smaller of the cell and value; returns the old cell.")
atomic_add = _atomic("atomic_add", "add", "Add value; returns the old cell.")
atomic_swap = _atomic("atomic_swap", "xchg", "Store value; returns the old cell.")


@intrinsic
def copy_bytes(typing, target, source, count):
    """memmove: overlapping ranges are allowed."""
    def code(context, builder, signature, args):
        target, source = (builder.inttoptr(a, _BYTES) for a in args[:2])
        shape = ir.FunctionType(ir.VoidType(), [_BYTES, _BYTES, I64, ir.IntType(1)])
        move = builder.module.declare_intrinsic("llvm.memmove", [_BYTES, _BYTES, I64], shape)
        builder.call(move, [target, source, args[2], ir.IntType(1)(0)])
        return context.get_dummy_value()
    return types.none(*[types.int64] * 3), code


@intrinsic
def cycles(typing):
    """A counter that runs at a constant rate (the time-stamp counter on x86)."""
    def code(context, builder, signature, args):
        return builder.call(builder.module.declare_intrinsic("llvm.readcyclecounter", (), ir.FunctionType(I64, [])), [])
    return types.int64(), code


@intrinsic
def size_table(typing, S):
    """The second kernel argument as a plain byte pointer."""
    def code(context, builder, signature, args):
        return builder.bitcast(args[0], _BYTES)
    return types.voidptr(types.CPointer(types.int64)), code
