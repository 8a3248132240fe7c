"""The machine words that generated kernel text is written in, as Numba intrinsics.

Knows: LLVM instructions, alias metadata, fast-math flags, and how each GraphFlow element type lies in
memory. Must not know: ops, Kernel IR, schedules, plans. Place: `emit_cpu` prints kernel text calling
these names; `compile` puts them into the text's namespace; `vecmath` builds on them. Importing this
module imports Numba, so only a compile that missed the cache does it.

Every public name here may be used by kernel text. `<t>` is one of f16 bf16 f32 f64 i8 u8 i16 u16 i32
u32 i64 u64 b1 c64 c128. f16 and bf16 exist in memory only: a load widens to float32, a store rounds to
nearest even. b1 is one byte; a load gives a boolean.
"""

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.core.errors import TypingError
from numba.extending import intrinsic, register_jitable

from .target import features

I1, I8, I16, I32, I64 = (ir.IntType(n) for n in (1, 8, 16, 32, 64))
F16, F32, F64 = ir.HalfType(), ir.FloatType(), ir.DoubleType()
_BYTES = I8.as_pointer()
_SCOPES = 64
_REDUCE = ("reassoc", "contract", "nsz")

# name -> (Numba type of the value, LLVM type in memory, bytes)
_ELEMENT = {
    "f16": (types.float32, F16, 2), "bf16": (types.float32, I16, 2),
    "f32": (types.float32, F32, 4), "f64": (types.float64, F64, 8),
    "i8": (types.int8, I8, 1), "u8": (types.uint8, I8, 1),
    "i16": (types.int16, I16, 2), "u16": (types.uint16, I16, 2),
    "i32": (types.int32, I32, 4), "u32": (types.uint32, I32, 4),
    "i64": (types.int64, I64, 8), "u64": (types.uint64, I64, 8),
    "b1": (types.boolean, I8, 1),
    "c64": (types.complex64, F32, 4), "c128": (types.complex128, F64, 8),
}


# ---- alias scopes -----------------------------------------------------------------------------------

def _scope_lists(module, scope: int, domain: int = 0):
    """(alias.scope, noalias) metadata that tells buffer `scope` apart from every other buffer of its domain.

    Scopes appear as the text uses them, so the `noalias` lists made earlier grow by each new one.
    """
    known = module.__dict__.setdefault("_graphflow_scopes", {}).setdefault(domain, {})
    if scope not in known:
        node = module.add_metadata([f"buffer {scope}", module.add_metadata([f"graphflow buffers {domain}"])])
        others = module.add_metadata([f"all but buffer {scope} of {domain}"])  # unique now, filled in below
        others.operands = tuple(entry[0] for entry in known.values())
        for _, _, list_of_others in known.values():
            list_of_others.operands += (node,)
        known[scope] = (node, module.add_metadata([node]), others)
    return known[scope][1:]


def _in_scope(module, instruction, scope: int):
    """Mark a load or store; scopes outside 0..63 stay unmarked, that is, they may alias anything.

    The thousands are the domain: scopes of two domains, as of two kernels inside one (loops.py), may alias.
    """
    domain, scope = divmod(scope, 1000)
    if 0 <= scope < _SCOPES:                                           # lists grow as the square
        mine, others = _scope_lists(module, scope, domain)
        instruction.set_metadata("alias.scope", mine)
        instruction.set_metadata("noalias", others)
    return instruction


def _literal(value, what: str) -> int:
    if not isinstance(value, types.IntegerLiteral):
        raise TypingError(f"{what} must be a literal int, got {value}")
    return value.literal_value


# ---- loads and stores -------------------------------------------------------------------------------

def _element_pointer(builder, memory, pointer, index):
    return builder.gep(builder.bitcast(pointer, memory.as_pointer()), [index])


def _load_one(builder, memory, size, pointer, index, scope):
    cell = builder.load(_element_pointer(builder, memory, pointer, index), align=size)
    return _in_scope(builder.module, cell, scope)


def _store_one(builder, memory, size, pointer, index, value, scope):
    cell = builder.store(value, _element_pointer(builder, memory, pointer, index), align=size)
    _in_scope(builder.module, cell, scope)


def _widen(builder, name, raw):
    """Memory form -> the value a kernel computes with."""
    if name == "f16":
        return builder.fpext(raw, F32)
    if name == "bf16":
        return builder.bitcast(builder.shl(builder.zext(raw, I32), I32(16)), F32)
    return builder.icmp_unsigned("!=", raw, I8(0)) if name == "b1" else raw


def _narrow(builder, name, value):
    """The value a kernel computed -> memory form; f16 and bf16 round to nearest even."""
    if name == "f16":
        return builder.fptrunc(value, F16)
    if name == "bf16":
        return _round_bf16(builder, value)
    return builder.zext(value, I8) if name == "b1" else value


class _BFloat(ir.Type):
    """LLVM's bfloat, which llvmlite has no name for."""

    def _to_string(self):
        return "bfloat"

    def __eq__(self, other):
        return isinstance(other, _BFloat)

    def __hash__(self):
        return hash(_BFloat)


def _round_bf16(builder, value):
    if getattr(builder.module, "device", False):                     # GPUs have an instruction for it
        return builder.bitcast(builder.fptrunc(value, _BFloat()), I16)
    bits = builder.bitcast(value, I32)
    odd = builder.and_(builder.lshr(bits, I32(16)), I32(1))
    rounded = builder.lshr(builder.add(builder.add(bits, I32(0x7FFF)), odd), I32(16))
    quiet = builder.or_(builder.lshr(bits, I32(16)), I32(0x40))      # the carry could turn a NaN into inf
    is_nan = builder.fcmp_unordered("uno", value, value)
    return builder.trunc(builder.select(is_nan, quiet, rounded), I16)


def _complex_parts(builder, value):
    return builder.extract_value(value, 0), builder.extract_value(value, 1)


def _make_complex(builder, real, imag):
    pair = ir.Constant(ir.LiteralStructType([real.type, imag.type]), ir.Undefined)
    return builder.insert_value(builder.insert_value(pair, real, 0), imag, 1)


def _load_value(builder, name, pointer, index, scope):
    _, memory, size = _ELEMENT[name]
    if name not in ("c64", "c128"):
        return _widen(builder, name, _load_one(builder, memory, size, pointer, index, scope))
    first = builder.shl(index, I64(1))
    parts = [_load_one(builder, memory, size, pointer, builder.add(first, I64(k)), scope) for k in (0, 1)]
    return _make_complex(builder, *parts)


def _store_value(builder, name, pointer, index, value, scope):
    _, memory, size = _ELEMENT[name]
    if name not in ("c64", "c128"):
        return _store_one(builder, memory, size, pointer, index, _narrow(builder, name, value), scope)
    first = builder.shl(index, I64(1))
    for k, part in enumerate(_complex_parts(builder, value)):
        _store_one(builder, memory, size, pointer, builder.add(first, I64(k)), part, scope)


def _named(function, name):
    """An intrinsic under its public name; literal ints (alias scopes, counts) reach its typing."""
    function.__name__ = function.__qualname__ = name
    return intrinsic(prefer_literal=True)(function)


def _make_load(name):
    value = _ELEMENT[name][0]

    def load(typing, p, i, s):
        scope = _literal(s, f"ld_{name}: the alias scope")

        def code(context, builder, signature, args):
            return _load_value(builder, name, args[0], args[1], scope)
        return value(types.voidptr, types.int64, s), code
    return _named(load, f"ld_{name}")


def _make_store(name):
    value = _ELEMENT[name][0]

    def store(typing, p, i, v, s):
        scope = _literal(s, f"st_{name}: the alias scope")

        def code(context, builder, signature, args):
            _store_value(builder, name, args[0], args[1], args[2], scope)
            return context.get_dummy_value()
        return types.none(types.voidptr, types.int64, value, s), code
    return _named(store, f"st_{name}")


def _make_stack(name):
    _, memory, size = _ELEMENT[name]
    per_element = 2 * size if name in ("c64", "c128") else size

    def stack(typing, n):
        count = _literal(n, f"stack_{name}: the element count")

        def code(context, builder, signature, args):
            with builder.goto_entry_block():                         # once a call, also inside a loop
                space = builder.alloca(ir.ArrayType(I8, max(count, 1) * per_element))
            space.align = 64
            return builder.bitcast(space, _BYTES)
        return types.voidptr(n), code
    return _named(stack, f"stack_{name}")


for _name in _ELEMENT:
    globals()[f"ld_{_name}"] = _make_load(_name)
    globals()[f"st_{_name}"] = _make_store(_name)
    globals()[f"stack_{_name}"] = _make_stack(_name)


@intrinsic
def buf(typing, B, k):
    """Byte pointer to buffer k. The table itself never changes while a kernel runs."""
    def code(context, builder, signature, args):
        pointer = builder.load(builder.gep(args[0], [args[1]]), align=8)
        pointer.set_metadata("invariant.load", builder.module.add_metadata([]))
        return pointer
    return types.voidptr(types.CPointer(types.voidptr), types.int64), code


@intrinsic
def size(typing, S, k):
    """Entry k of the size table, an int64 that never changes while a kernel runs."""
    def code(context, builder, signature, args):
        value = builder.load(builder.gep(args[0], [args[1]]), align=8)
        value.set_metadata("invariant.load", builder.module.add_metadata([]))
        return value
    return types.int64(types.CPointer(types.int64), types.int64), code


@intrinsic
def advance(typing, p, nbytes):
    """The byte pointer `nbytes` further on."""
    def code(context, builder, signature, args):
        return builder.gep(args[0], [args[1]])
    return types.voidptr(types.voidptr, types.int64), code


@intrinsic
def prefetch(typing, p):
    """Ask for the cache line at p, to be read soon and kept."""
    def code(context, builder, signature, args):
        kind = ir.FunctionType(ir.VoidType(), [_BYTES, I32, I32, I32])
        ask = builder.module.declare_intrinsic("llvm.prefetch", [_BYTES], kind)
        builder.call(ask, [args[0], I32(0), I32(3), I32(1)])
        return context.get_dummy_value()
    return types.none(types.voidptr), code


def _move(typing, to, source, nbytes, scope, scope_to):
    """Copy a literal number of bytes, 16, 32 or 64, as one vector; alias scopes of the load and of the store."""
    count, of, at = (_literal(n, f"move: {what}") for n, what in ((nbytes, "the bytes"), (scope, "the scope"), (scope_to, "the scope")))

    def code(context, builder, signature, args):
        vector = ir.VectorType(I64, count // 8).as_pointer()
        value = _in_scope(builder.module, builder.load(builder.bitcast(args[1], vector), align=1), of)
        _in_scope(builder.module, builder.store(value, builder.bitcast(args[0], vector), align=1), at)
        return context.get_dummy_value()
    return types.none(types.voidptr, types.voidptr, nbytes, scope, scope_to), code


move = _named(_move, "move")


def _make_rows(name, copies):
    """`copy_<t>(to, from, n)` and `zero_<t>(to, n)`: short rows by whole vectors, the last one masked."""
    _, memory, size = _ELEMENT[name]

    def code(context, builder, signature, args):
        _fill_row(builder, memory, size, args[0], args[1] if copies else None, args[-1])
        return context.get_dummy_value()
    if copies:
        return _named(lambda typing, to, source, n: (types.none(types.voidptr, types.voidptr, types.int64), code), f"copy_{name}")
    return _named(lambda typing, to, n: (types.none(types.voidptr, types.int64), code), f"zero_{name}")


def _fill_row(builder, memory, size, to, source, n):
    lanes = 64 // size if "+avx512f" in features() else 32 // size if "+avx2" in features() else 16 // size
    vector, module = ir.VectorType(memory, lanes), builder.module
    mask_type = ir.VectorType(I1, lanes)
    before = builder.block
    loop, done = builder.append_basic_block("row"), builder.append_basic_block("rowend")
    builder.cbranch(builder.icmp_signed(">", n, I64(0)), loop, done)
    builder.position_at_end(loop)
    i = builder.phi(I64)
    i.add_incoming(I64(0), before)
    rest = builder.insert_element(ir.Constant(ir.VectorType(I64, lanes), ir.Undefined), builder.sub(n, i), I32(0))
    rest = builder.shuffle_vector(rest, rest, ir.Constant(ir.VectorType(I32, lanes), [0] * lanes))
    mask = builder.icmp_signed("<", ir.Constant(ir.VectorType(I64, lanes), list(range(lanes))), rest)
    zero, pointer = ir.Constant(vector, [0] * lanes), vector.as_pointer()
    suffix = f"v{lanes}{'f' if isinstance(memory, (ir.FloatType, ir.DoubleType)) else 'i'}{8 * size}.p0"
    value = zero
    if source is not None:
        shape = ir.FunctionType(vector, [pointer, I32, mask_type, vector])
        load = cgutils.get_or_insert_function(module, shape, f"llvm.masked.load.{suffix}")
        value = builder.call(load, [builder.bitcast(_element_pointer(builder, memory, source, i), pointer), I32(size), mask, zero])
    store = cgutils.get_or_insert_function(module, ir.FunctionType(ir.VoidType(), [vector, pointer, I32, mask_type]),
                                           f"llvm.masked.store.{suffix}")
    builder.call(store, [value, builder.bitcast(_element_pointer(builder, memory, to, i), pointer), I32(size), mask])
    following = builder.add(i, I64(lanes))
    i.add_incoming(following, loop)
    builder.cbranch(builder.icmp_signed("<", following, n), loop, done)
    builder.position_at_end(done)


for _name in ("f32", "f64", "i32", "i64"):
    globals()[f"copy_{_name}"] = _make_rows(_name, True)
    globals()[f"zero_{_name}"] = _make_rows(_name, False)


@intrinsic
def stream(typing, target, source, nbytes):
    """Copy `nbytes` past the caches, any alignment: for results too large to be found there when they are read.

    The ranges must not overlap.  Other threads see the bytes after a `fence`.
    """
    def code(context, builder, signature, args):
        builder.call(_stream_function(builder.module), args)
        return context.get_dummy_value()
    return types.none(types.voidptr, types.voidptr, types.int64), code


def _stream_function(module):
    """void (target, source, n): up to a cache line as usual, whole lines by non-temporal stores, the rest as usual."""
    name = "graphflow_stream"
    if name in module.globals:
        return module.globals[name]
    function = ir.Function(module, ir.FunctionType(ir.VoidType(), [_BYTES, _BYTES, I64]), name)
    function.linkage = "internal"
    target, source, count = function.args
    start, head, line, tail = (function.append_basic_block(n) for n in ("start", "head", "line", "tail"))
    builder = ir.IRBuilder(start)
    shape = ir.FunctionType(ir.VoidType(), [_BYTES, _BYTES, I64, I1])
    copy = module.declare_intrinsic("llvm.memcpy", [_BYTES, _BYTES, I64], shape)
    off = builder.and_(builder.neg(builder.ptrtoint(target, I64)), I64(63))
    first = builder.select(builder.icmp_unsigned("<", off, count), off, count)
    lines = builder.and_(builder.sub(count, first), I64(-64))
    end = builder.add(first, lines)
    whole = builder.icmp_unsigned("==", first, I64(0))
    builder.cbranch(whole, head, line_entry := function.append_basic_block("peel"))
    builder.position_at_end(line_entry)
    builder.call(copy, [target, source, first, I1(0)])
    builder.branch(head)
    builder.position_at_end(head)
    builder.cbranch(builder.icmp_unsigned("==", lines, I64(0)), tail, line)
    builder.position_at_end(line)
    at = builder.phi(I64)
    at.add_incoming(first, head)
    block = ir.VectorType(I64, 8)
    value = builder.load(builder.bitcast(builder.gep(source, [at]), block.as_pointer()), align=1)
    put = builder.store(value, builder.bitcast(builder.gep(target, [at]), block.as_pointer()), align=64)
    put.set_metadata("nontemporal", module.add_metadata([I32(1)]))
    following = builder.add(at, I64(64))
    at.add_incoming(following, line)
    builder.cbranch(builder.icmp_unsigned("<", following, end), line, tail)
    builder.position_at_end(tail)
    rest, done = function.append_basic_block("rest"), function.append_basic_block("done")
    builder.cbranch(builder.icmp_unsigned("==", end, count), done, rest)
    builder.position_at_end(rest)
    builder.call(copy, [builder.gep(target, [end]), builder.gep(source, [end]), builder.sub(count, end), I1(0)])
    builder.branch(done)
    builder.position_at_end(done)
    builder.ret_void()
    return function


@intrinsic
def fence(typing):
    """All stores so far become visible before any later one; `stream` needs it before another thread reads."""
    def code(context, builder, signature, args):
        builder.fence("seq_cst")
        return context.get_dummy_value()
    return types.none(), code


# ---- arithmetic -------------------------------------------------------------------------------------

def _common(typing, *kinds):
    """The one type all operands are brought to; literal ints count as int64."""
    plain = [types.unliteral(k) for k in kinds]
    both = plain[0] if all(k == plain[0] for k in plain) else typing.unify_types(*plain)
    if both is None:
        raise TypingError(f"no common type for {kinds}")
    return both


def _binary(name, emit, doc):
    """An intrinsic of two operands of one common type; `emit(builder, type, a, b)`."""
    def operation(typing, a, b):
        kind = _common(typing, a, b)

        def code(context, builder, signature, args):
            return emit(builder, kind, *args)
        return kind(kind, kind), code
    operation.__name__, operation.__doc__ = name, doc
    return intrinsic(operation)


def _emit_radd(builder, kind, a, b):
    if isinstance(kind, types.Complex):
        pairs = zip(_complex_parts(builder, a), _complex_parts(builder, b))
        return _make_complex(builder, *(builder.fadd(x, y, flags=_REDUCE) for x, y in pairs))
    return builder.fadd(a, b, flags=_REDUCE) if isinstance(kind, types.Float) else builder.add(a, b)


def _emit_rmul(builder, kind, a, b):
    return builder.fmul(a, b, flags=_REDUCE) if isinstance(kind, types.Float) else builder.mul(a, b)


def _emit_extreme(word):
    """word is 'max' or 'min'; NaN wins, as in np.maximum; the sign of a zero result is free (nsz)."""
    def emit(builder, kind, a, b):
        if isinstance(kind, types.Float):
            stem = f"llvm.{word}imum"
        else:
            stem = f"llvm.{'s' if getattr(kind, 'signed', False) else 'u'}{word}"
        shape = ir.FunctionType(a.type, [a.type, a.type])
        flags = ("nsz",) if isinstance(kind, types.Float) else ()
        return builder.call(builder.module.declare_intrinsic(stem, [a.type], shape), [a, b], fastmath=flags)
    return emit


def _emit_loose_max(builder, kind, a, b):
    """One machine instruction, where `maximum` takes four to carry NaN."""
    shape = ir.FunctionType(a.type, [a.type, a.type])
    return builder.call(builder.module.declare_intrinsic("llvm.maxnum", [a.type], shape), [a, b], fastmath=("nnan", "nsz"))


def _safe_divisor(builder, kind, a, b):
    """b, or 1 where the machine division would trap: b == 0, and INT_MIN / -1."""
    one = b.type(1)
    bad = builder.icmp_unsigned("==", b, b.type(0))
    if kind.signed:
        lowest = builder.icmp_unsigned("==", a, a.type(-(1 << (kind.bitwidth - 1))))
        overflow = builder.and_(lowest, builder.icmp_unsigned("==", b, b.type(-1)))
        return builder.select(builder.or_(bad, overflow), one, b)
    return builder.select(bad, one, b)


def _floor_division(builder, kind, a, b):
    """(quotient, remainder) rounded down, for a divisor known to be safe."""
    if not kind.signed:
        return builder.udiv(a, b), builder.urem(a, b)
    quotient, remainder = builder.sdiv(a, b), builder.srem(a, b)
    inexact = builder.icmp_unsigned("!=", remainder, b.type(0))
    differ = builder.icmp_signed("<", builder.xor(remainder, b), b.type(0))
    fix = builder.and_(inexact, differ)
    return (builder.select(fix, builder.sub(quotient, b.type(1)), quotient),
            builder.select(fix, builder.add(remainder, b), remainder))


def _emit_division(which):
    def emit(builder, kind, a, b):
        if not isinstance(kind, types.Integer):
            raise TypingError(f"integer division of {kind}")
        result = _floor_division(builder, kind, a, _safe_divisor(builder, kind, a, b))[which]
        return builder.select(builder.icmp_unsigned("==", b, b.type(0)), b.type(0), result)
    return emit


radd = _binary("radd", _emit_radd, "a + b that may be reassociated, so that reductions vectorise.")
rmul = _binary("rmul", _emit_rmul, "a * b that may be reassociated, so that reductions vectorise.")
fmax = _binary("fmax", _emit_extreme("max"), "The larger; NaN if either is NaN.")
fmax_loose = _binary("fmax_loose", _emit_loose_max, "The larger of two floats; any value if either is NaN.")
fmin = _binary("fmin", _emit_extreme("min"), "The smaller; NaN if either is NaN.")
ifloordiv = _binary("ifloordiv", _emit_division(0), "a // b rounded down; 0 for b == 0; INT_MIN // -1 wraps.")
imod = _binary("imod", _emit_division(1), "a % b with the sign of b; 0 for b == 0 and for INT_MIN % -1.")


def _float_intrinsic(name, stem, count):
    """llvm.<stem> over `count` operands of one float type (an integer operand counts as float64)."""
    def operation(typing, *kinds):
        kind = _common(typing, *kinds)
        kind = kind if isinstance(kind, types.Float) else types.float64

        def code(context, builder, signature, args):
            shape = ir.FunctionType(args[0].type, [args[0].type] * count)
            declared = builder.module.declare_intrinsic(f"llvm.{stem}", [args[0].type], shape)
            return builder.call(declared, args)
        return kind(*[kind] * count), code
    by_count = {1: lambda typing, x: operation(typing, x),
                2: lambda typing, x, y: operation(typing, x, y),
                3: lambda typing, x, y, z: operation(typing, x, y, z)}[count]
    by_count.__name__, by_count.__doc__ = name, f"llvm.{stem} on float32 or float64."
    return intrinsic(by_count)


floor_ = _float_intrinsic("floor_", "floor", 1)
ceil_ = _float_intrinsic("ceil_", "ceil", 1)
trunc_ = _float_intrinsic("trunc_", "trunc", 1)
rint_ = _float_intrinsic("rint_", "rint", 1)
sqrt_ = _float_intrinsic("sqrt_", "sqrt", 1)
fabs_ = _float_intrinsic("fabs_", "fabs", 1)
copysign_ = _float_intrinsic("copysign_", "copysign", 2)
fma_ = _float_intrinsic("fma_", "fma", 3)


@intrinsic
def select(typing, c, a, b):
    """a if c else b, both already evaluated, no branch."""
    kind = _common(typing, a, b)

    def code(context, builder, signature, args):
        return builder.select(*args)
    return kind(types.boolean, kind, kind), code


# ---- casts ------------------------------------------------------------------------------------------

def _float_to_int(builder, value, target):
    """Truncate toward zero. Narrow and u32 targets go through a wider signed int, so they wrap as C does."""
    if target.bitwidth == 64:
        return (builder.fptosi if target.signed else builder.fptoui)(value, I64)
    wide = I32 if target.bitwidth < 32 or target.signed else I64
    whole = builder.fptosi(value, wide)
    return builder.trunc(whole, ir.IntType(target.bitwidth)) if target.bitwidth < wide.width else whole


def _resize_float(builder, value, memory):
    if value.type == memory:
        return value
    return (builder.fpext if memory == F64 else builder.fptrunc)(value, memory)


def _to_float(builder, value, source, memory):
    if isinstance(source, types.Float):
        return _resize_float(builder, value, memory)
    unsigned = source == types.boolean or not source.signed
    return (builder.uitofp if unsigned else builder.sitofp)(value, memory)


def _to_int(builder, value, source, target):
    if isinstance(source, types.Float):
        return _float_to_int(builder, value, target)
    have, want = (1 if source == types.boolean else source.bitwidth), target.bitwidth
    if have >= want:
        return value if have == want else builder.trunc(value, ir.IntType(want))
    unsigned = source == types.boolean or not source.signed
    return (builder.zext if unsigned else builder.sext)(value, ir.IntType(want))


def _to_bool(builder, value, source):
    if source == types.boolean:
        return value
    if isinstance(source, types.Float):
        return builder.fcmp_unordered("!=", value, value.type(0.0))
    return builder.icmp_unsigned("!=", value, value.type(0))


def _cast(builder, value, source, name):
    """`value` of Numba type `source` as element type `name`."""
    target, memory, _ = _ELEMENT[name]
    if isinstance(target, types.Complex):
        parts = _complex_parts(builder, value) if isinstance(source, types.Complex) else (value, None)
        part_type = source.underlying_float if isinstance(source, types.Complex) else source
        real, imag = (memory(0.0) if p is None else _to_float(builder, p, part_type, memory) for p in parts)
        return _make_complex(builder, real, imag)
    if isinstance(source, types.Complex):
        parts = _complex_parts(builder, value)
        if name == "b1":
            return builder.or_(*(_to_bool(builder, p, source.underlying_float) for p in parts))
        value, source = parts[0], source.underlying_float
    if name == "b1":
        return _to_bool(builder, value, source)
    if name in ("f16", "bf16"):
        return _widen(builder, name, _narrow(builder, name, _to_float(builder, value, source, F32)))
    return (_to_float(builder, value, source, memory) if isinstance(target, types.Float)
            else _to_int(builder, value, source, target))


def _make_cast(name):
    def cast(typing, x):
        source = types.unliteral(x)
        if not isinstance(source, (types.Number, types.Boolean)):
            raise TypingError(f"to_{name}: cannot cast {x}")

        def code(context, builder, signature, args):
            return _cast(builder, args[0], source, name)
        return _ELEMENT[name][0](source), code
    cast.__name__, cast.__doc__ = f"to_{name}", f"x as {name}; floats truncate toward zero to integers."
    return intrinsic(cast)


for _name in _ELEMENT:
    globals()[f"to_{_name}"] = _make_cast(_name)


# ---- bits -------------------------------------------------------------------------------------------

def _make_bits(source, target):
    def bits(typing, x):
        def code(context, builder, signature, args):
            return builder.bitcast(args[0], _ELEMENT[target][1])
        return _ELEMENT[target][0](_ELEMENT[source][0]), code
    bits.__name__, bits.__doc__ = f"bits_{source}_{target}", f"The bits of a {source} read as {target}."
    return intrinsic(bits)


for _float, _int in (("f32", "i32"), ("f32", "u32"), ("f64", "i64"), ("f64", "u64")):
    globals()[f"bits_{_float}_{_int}"] = _make_bits(_float, _int)
    globals()[f"bits_{_int}_{_float}"] = _make_bits(_int, _float)


@intrinsic
def mulhi_u32(typing, a, b):
    """High 32 bits of the 64-bit product."""
    def code(context, builder, signature, args):
        x, y = (builder.zext(v, I64) for v in args)
        return builder.trunc(builder.lshr(builder.mul(x, y), I64(32)), I32)
    return types.uint32(types.uint32, types.uint32), code


def _rotl_u32(typing, a, n):
    """a rotated left by a literal number of bits."""
    count = _literal(n, "rotl_u32: the bit count") % 32

    def code(context, builder, signature, args):
        shape = ir.FunctionType(I32, [I32] * 3)
        funnel = builder.module.declare_intrinsic("llvm.fshl", [I32], shape)
        return builder.call(funnel, [args[0], args[0], I32(count)])
    return types.uint32(types.uint32, n), code


rotl_u32 = _named(_rotl_u32, "rotl_u32")


# ---- what LLVM has as an instruction but a vector unit has not -------------------------------------------

@intrinsic
def fmod_(typing, a, b):
    """The C remainder of two floats: the sign of `a`."""
    kind = _common(typing, a, b)

    def code(context, builder, signature, args):
        return builder.frem(*args)
    return kind(kind, kind), code


@register_jitable
def ipow(base, exponent):
    """Integer power by squaring; wraps, and a negative exponent gives what 1 // base**-n truncates to."""
    if exponent < 0:
        return base * 0 + select(base == 1, 1, 0) + select(base == -1, 1 - 2 * (exponent & 1), 0)
    result = base * 0 + 1
    while exponent > 0:
        if exponent & 1:
            result = result * base
        base = base * base
        exponent = exponent >> 1
    return result
