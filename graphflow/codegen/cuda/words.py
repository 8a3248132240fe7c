"""The machine words that only device text uses: threads, barriers, shuffles, shared memory, atomics.

Everything else (`ld_`, `st_`, `to_`, `select`, vecmath) is the CPU's own.  Knows LLVM's NVPTX intrinsics (LLVM's "User Guide for
NVPTX Back-end") and how an element type crosses lanes.  Must not know kernels or launches.  Place: `emit` writes text with these
names, `ptx` puts them in the text's namespace.  Importing this module imports Numba.
"""
from __future__ import annotations

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

from ..intrinsics import (_BYTES, _ELEMENT, F16, F32, F64, I8, I32, I64, _complex_parts, _element_pointer, _in_scope, _literal,
                          _make_complex, _named, _narrow, _widen)

GLOBAL, SHARED = 1, 3  # LLVM's address spaces of an NVPTX module
FULL = -1  # every lane of the warp takes part


def _declared(builder, name, result, arguments):
    return cgutils.get_or_insert_function(builder.module, ir.FunctionType(result, arguments), name)


def _register(name, register, doc):
    """A word that reads one of the special registers, an int32."""
    def word(typing):
        def code(context, builder, signature, args):
            return builder.call(_declared(builder, f"llvm.nvvm.read.ptx.sreg.{register}", I32, []), [])
        return types.int32(), code
    word.__name__, word.__doc__ = name, doc
    return intrinsic(word)


thread = _register("thread", "tid.x", "Number of this thread along x in its block.")
thread_y = _register("thread_y", "tid.y", "Number of this thread along y in its block.")
block = _register("block", "ctaid.x", "Number of this block along x.")
block_y = _register("block_y", "ctaid.y", "Number of this block along y.")
block_z = _register("block_z", "ctaid.z", "Number of this block along z.")
lane = _register("lane", "laneid", "Number of this thread in its warp.")


@intrinsic
def barrier(typing):
    """Waits until every thread of the block is here; what they wrote to shared and global memory is visible after it."""
    def code(context, builder, signature, args):
        builder.call(_declared(builder, "llvm.nvvm.barrier.cta.sync.aligned.all", ir.VoidType(), [I32]), [I32(0)])
        return context.get_dummy_value()
    return types.none(), code


@intrinsic
def barrier_warp(typing):
    """Waits until every lane of the warp is here; what they wrote is visible to each other after it."""
    def code(context, builder, signature, args):
        builder.call(_declared(builder, "llvm.nvvm.bar.warp.sync", ir.VoidType(), [I32]), [I32(FULL)])
        return context.get_dummy_value()
    return types.none(), code


def _unsigned(name, operation, doc):
    def word(typing, a, b):
        kind = types.int64 if types.int64 in (a, b) else types.int32

        def code(context, builder, signature, args):
            return getattr(builder, operation)(*args)
        return kind(kind, kind), code
    word.__name__, word.__doc__ = name, doc
    return intrinsic(word)


udiv = _unsigned("udiv", "udiv", "a // b of integers known not to be negative.")
umod = _unsigned("umod", "urem", "a % b of integers known not to be negative.")


@intrinsic
def quotient(typing, a, b):
    """a / b; of float32 with at most 0.50001 ulp of error, and none where the quotient is a float32 (5 / 5, or 100 / 4).

    q of div.full.f32 is up to 2 ulp off: what it leaves of a, which fma gives exactly, is divided by b once more and added (Markstein,
    "Computation of elementary functions on the IBM RISC System/6000 processor", 1990).  Where b or 1/b is denormal, something is not
    finite, or q is a zero, whose sign the sum would lose, q stays.
    """
    kind = types.float64 if types.float64 in (a, b) else types.float32

    def code(context, builder, signature, args):
        x, y = args
        q = builder.fdiv(x, y)
        if q.type == F64:
            return q

        def call(name, *values):
            return builder.call(_declared(builder, f"llvm.{name}", F32, [F32] * len(values)), values)
        rest = call("fma.f32", builder.fneg(q), y, x)
        better = call("fma.f32", rest, call("nvvm.rcp.approx.ftz.f", y), q)
        good = builder.fcmp_ordered("<", call("fabs.f32", better), F32(float("inf")))
        return builder.select(builder.and_(good, builder.fcmp_ordered("!=", rest, F32(0.0))), better, q)
    return kind(kind, kind), code


@intrinsic
def div_exact(typing, a, b):
    """a / b rounded to nearest; plain `/` of float32 may be 2 ulp off (div.full.f32), `quotient` in the last bit."""
    kind = types.float64 if types.float64 in (a, b) else types.float32

    def code(context, builder, signature, args):
        t = args[0].type
        return builder.call(_declared(builder, f"llvm.nvvm.div.rn.{'d' if t == F64 else 'f'}", t, [t, t]), args)
    return kind(kind, kind), code


@intrinsic
def div_by(typing, a, c, inverse):
    """a / c rounded to nearest for a constant float32 c whose inverse, rounded, is given: a product, corrected by its error.

    The error is exact, so the result is the nearest (Markstein), but for results below 2^-100, which may be 1 ulp off; where there is none
    the product stays, with its sign if it is zero, and so do infinities and NaN.
    """
    def code(context, builder, signature, args):
        x, c, y = args
        fma = _declared(builder, "llvm.fma.f32", F32, [F32] * 3)
        q = builder.fmul(x, y)
        error = builder.call(fma, [builder.fneg(q), c, x])
        bits = builder.and_(builder.bitcast(error, I32), I32(0x7FFFFFFF))
        some = builder.icmp_unsigned("<", builder.sub(bits, I32(1)), I32(0x7F7FFFFF))  # neither 0 nor infinite nor NaN
        return builder.select(some, builder.call(fma, [error, y, q]), q)
    return types.float32(types.float32, types.float32, types.float32), code


@intrinsic
def pointer(typing, p, i):
    """The address of global memory that stands in element i of a table of int64, which does not change while the kernel runs."""
    def code(context, builder, signature, args):
        value = builder.load(_element_pointer(builder, I64, args[0], args[1]), align=8)
        value.set_metadata("invariant.load", builder.module.add_metadata([]))
        return builder.addrspacecast(builder.inttoptr(value, I8.as_pointer(GLOBAL)), _BYTES)
    return types.voidptr(types.voidptr, types.int64), code


@intrinsic
def fmod_(typing, a, b):
    """The C remainder of two floats, exact: the sign of `a`.  LLVM's own frem on a GPU is a - trunc(a / b) b, wrong where a / b is large.

    Steps take q t off the rest, t = 2^(20k) b with r / t < 2^22 and q its whole part, off by one at most: every difference is a multiple
    of the unit of t below t, so it is exact.
    """
    kind = types.float64 if types.float64 in (a, b) else types.float32

    def code(context, builder, signature, args):
        x, y = args
        t = x.type
        letter = "d" if t == F64 else "f"

        def call(name, *values):
            return builder.call(_declared(builder, f"llvm.{name}", t, [t] * len(values)), values)

        def divided(p, q):
            return builder.call(_declared(builder, f"llvm.nvvm.div.rn.{letter}", t, [t, t]), [p, q])
        width = "f64" if t == F64 else "f32"
        a, b = call(f"fabs.{width}", x), call(f"fabs.{width}", y)
        good = builder.and_(builder.fcmp_ordered("<", a, t(float("inf"))), builder.fcmp_ordered(">", b, t(0.0)))
        a, b = builder.select(good, a, t(0.0)), builder.select(good, b, t(1.0))
        before = builder.block
        outer, inner, scale, step, done = (builder.append_basic_block(n) for n in ("rest", "scale", "scaled", "step", "remainder"))
        builder.branch(outer)
        builder.position_at_end(outer)
        r = builder.phi(t)
        r.add_incoming(a, before)
        builder.cbranch(builder.fcmp_ordered(">=", r, b), inner, done)
        builder.position_at_end(inner)
        u = builder.phi(t)
        u.add_incoming(b, outer)
        q = divided(r, u)
        builder.cbranch(builder.fcmp_ordered("<", q, t(2.0 ** 22)), step, scale)
        builder.position_at_end(scale)
        u.add_incoming(builder.fmul(u, t(2.0 ** 20)), scale)
        builder.branch(inner)
        builder.position_at_end(step)
        less = call(f"fma.{width}", builder.fneg(call(f"trunc.{width}", q)), u, r)
        less = builder.select(builder.fcmp_ordered("<", less, t(0.0)), builder.fadd(less, u), less)
        r.add_incoming(less, step)
        builder.branch(outer)
        builder.position_at_end(done)
        found = builder.select(good, r, t(float("nan")))
        return call(f"copysign.{width}", found, x)
    return kind(kind, kind), code


# ---- shared memory ------------------------------------------------------------------------------------

def _make_shared(name):
    _, memory, size = _ELEMENT[name]
    parts = 2 if name in ("c64", "c128") else 1

    def shared(typing, n, number):
        count, which = _literal(n, f"shared_{name}: the element count"), _literal(number, f"shared_{name}: the array's number")

        def code(context, builder, signature, args):
            array = ir.GlobalVariable(builder.module, ir.ArrayType(memory, max(count, 1) * parts), f"shared{which}", SHARED)
            array.linkage, array.align = "internal", 16
            array.initializer = ir.Constant(array.value_type, ir.Undefined)
            return builder.addrspacecast(builder.bitcast(array, I8.as_pointer(SHARED)), _BYTES)
        return types.voidptr(n, number), code
    return _named(shared, f"shared_{name}")


@intrinsic
def shared_room(typing):
    """The shared memory that a launch brings along (the text's line `#: room=bytes`), aligned to 16 bytes."""
    def code(context, builder, signature, args):
        array = ir.GlobalVariable(builder.module, ir.ArrayType(I8, 0), "room", SHARED)
        array.linkage, array.align = "external", 16
        return builder.addrspacecast(builder.bitcast(array, I8.as_pointer(SHARED)), _BYTES)
    return types.voidptr(), code


# ---- neighbours ------------------------------------------------------------------------------------------

WIDE = 16  # bytes of the widest access


def _frozen(builder, value):
    """The value itself, which LLVM then does not take apart: of a vector that is loaded and used by elements it makes a load for each."""
    made = ir.Instruction(builder.block, value.type, "freeze", [value])
    builder._insert(made)
    return made


def _make_neighbours(name, loads):
    """`load_<t>(array, k, p, i, n, scope)` and `store_<t>(p, i, array, k, n, scope)`: between memory and a stack array, as accesses of
    up to 16 bytes; the address of element i is a multiple of what one access takes."""
    _, memory, size = _ELEMENT[name]
    parts = 2 if name in ("c64", "c128") else 1
    word = f"{'load' if loads else 'store'}_{name}"

    def move(array, k, p, i, count, scope):
        total = count * parts
        width = min(total, WIDE // size)
        vector = ir.VectorType(memory, width)

        def code(context, builder, signature, args):
            values = dict(zip(("array", "k", "p", "i") if loads else ("p", "i", "array", "k"), args))
            first, at = (builder.mul(values[x], I64(parts)) for x in ("i", "k"))
            for piece in range(0, total, width):
                pointer = _element_pointer(builder, memory, values["p"], builder.add(first, I64(piece)))
                pointer = builder.bitcast(pointer, vector.as_pointer())
                cells = [_element_pointer(builder, memory, values["array"], builder.add(at, I64(piece + u))) for u in range(width)]
                if loads:
                    found = _frozen(builder, _in_scope(builder.module, builder.load(pointer, align=width * size), scope))
                    for u, cell in enumerate(cells):
                        builder.store(builder.extract_element(found, I32(u)), cell, align=size)
                else:
                    made = ir.Constant(vector, ir.Undefined)
                    for u, cell in enumerate(cells):
                        made = builder.insert_element(made, builder.load(cell, align=size), I32(u))
                    _in_scope(builder.module, builder.store(made, pointer, align=width * size), scope)
            return context.get_dummy_value()
        return code

    def load(typing, array, k, p, i, n, scope):
        code = move(array, k, p, i, _literal(n, f"{word}: the element count"), _literal(scope, f"{word}: the alias scope"))
        return types.none(types.voidptr, types.int64, types.voidptr, types.int64, n, scope), code

    def store(typing, p, i, array, k, n, scope):
        code = move(array, k, p, i, _literal(n, f"{word}: the element count"), _literal(scope, f"{word}: the alias scope"))
        return types.none(types.voidptr, types.int64, types.voidptr, types.int64, n, scope), code
    return _named(load if loads else store, word)


# ---- values across lanes -------------------------------------------------------------------------------

def _words_of(builder, value):
    """A value as 32-bit words."""
    t = value.type
    if isinstance(t, ir.LiteralStructType):
        return [w for p in _complex_parts(builder, value) for w in _words_of(builder, p)]
    if t == F32:
        return [builder.bitcast(value, I32)]
    if t == F64:
        value, t = builder.bitcast(value, I64), I64
    if t.width == 64:
        return [builder.trunc(value, I32), builder.trunc(builder.lshr(value, I64(32)), I32)]
    return [value if t.width == 32 else builder.zext(value, I32)]


def _of_words(builder, words, t):
    """The value of LLVM type `t` made of 32-bit words."""
    if isinstance(t, ir.LiteralStructType):
        half = len(words) // 2
        return _make_complex(builder, _of_words(builder, words[:half], t.elements[0]), _of_words(builder, words[half:], t.elements[1]))
    if t == F32:
        return builder.bitcast(words[0], F32)
    if t == F64 or t.width == 64:
        both = builder.or_(builder.zext(words[0], I64), builder.shl(builder.zext(words[1], I64), I64(32)))
        return builder.bitcast(both, F64) if t == F64 else both
    return words[0] if t.width == 32 else builder.trunc(words[0], t)


def _make_shuffle(word, mode, clamp):
    def shuffle(typing, value, n):
        kind = types.unliteral(value)

        def code(context, builder, signature, args):
            ask = _declared(builder, f"llvm.nvvm.shfl.sync.{mode}.i32", I32, [I32] * 4)
            moved = [builder.call(ask, [I32(FULL), w, args[1], I32(clamp)]) for w in _words_of(builder, args[0])]
            return _of_words(builder, moved, args[0].type)
        return kind(kind, types.int32), code
    shuffle.__name__, shuffle.__doc__ = word, f"The value of another lane (shfl.sync.{mode}); every lane of the warp must be here."
    return intrinsic(shuffle)


shuffle_xor = _make_shuffle("shuffle_xor", "bfly", 31)
shuffle_up = _make_shuffle("shuffle_up", "up", 0)
shuffle_down = _make_shuffle("shuffle_down", "down", 31)
shuffle_at = _make_shuffle("shuffle_at", "idx", 31)


# ---- atomics --------------------------------------------------------------------------------------------

_RMW = {"add": ("add", "add", "fadd"), "max": ("max", "umax", "fmax"), "min": ("min", "umin", "fmin")}


def _make_atomic(combine, name):
    value_type, memory, size = _ELEMENT[name]

    def atomic(typing, p, i, v):
        def code(context, builder, signature, args):
            pointer = _element_pointer(builder, memory, args[0], args[1])
            if name[0] in "iu" and size >= 4 and combine in _RMW:
                builder.atomic_rmw(_RMW[combine][0 if name[0] == "i" else 1], pointer, args[2], "monotonic")
            elif name in ("f32", "f64") and combine == "add":
                builder.atomic_rmw("fadd", pointer, args[2], "monotonic")
            else:
                _exchange_loop(builder, name, memory, size, pointer, lambda old: _COMBINE[combine](builder, name, old, args[2]))
            return context.get_dummy_value()
        return types.none(types.voidptr, types.int64, value_type), code
    return _named(atomic, f"atomic_{combine}_{name}")


def _combined(word):
    def combine(builder, name, a, b):
        if name in ("f16", "bf16", "f32", "f64"):
            stem = {"mul": None, "add": None, "max": "llvm.maximum", "min": "llvm.minimum"}[word]
            if stem is None:
                return (builder.fmul if word == "mul" else builder.fadd)(a, b)
            return builder.call(builder.module.declare_intrinsic(stem, [a.type], ir.FunctionType(a.type, [a.type] * 2)), [a, b])
        if word in ("add", "mul") and name != "b1":
            return getattr(builder, word)(a, b)
        if name == "b1":
            return (builder.or_ if word in ("add", "max") else builder.and_)(a, b)
        stem = f"llvm.{'s' if name[0] == 'i' else 'u'}{word}"
        return builder.call(builder.module.declare_intrinsic(stem, [a.type], ir.FunctionType(a.type, [a.type] * 2)), [a, b])
    return combine


_COMBINE = {word: _combined(word) for word in ("add", "mul", "max", "min")}


def _exchange_loop(builder, name, memory, size, pointer, change):
    """Compare and exchange until nobody came between; elements narrower than 32 bits inside the word that holds them."""
    wide = I64 if size == 8 else I32
    narrow = ir.IntType(8 * size)
    address = builder.ptrtoint(pointer, I64)
    shift = builder.trunc(builder.shl(builder.and_(address, I64(3)), I64(3)), I32) if size < 4 else None
    cell = builder.inttoptr(builder.and_(address, I64(-4)), I32.as_pointer()) if size < 4 else builder.bitcast(pointer, wide.as_pointer())
    first = builder.load(cell, align=max(size, 4))
    first.volatile = True
    before, loop, done = builder.block, builder.append_basic_block("again"), builder.append_basic_block("exchanged")
    builder.branch(loop)
    builder.position_at_end(loop)
    seen = builder.phi(wide)
    seen.add_incoming(first, before)
    bits = seen if shift is None else builder.trunc(builder.lshr(seen, shift), narrow)
    old = builder.bitcast(bits, memory) if memory != bits.type else bits
    new = _narrow(builder, name, change(_widen(builder, name, old)))
    new = builder.bitcast(new, narrow) if new.type != narrow else new
    if shift is not None:
        hole = builder.not_(builder.shl(I32((1 << 8 * size) - 1), shift))
        new = builder.or_(builder.and_(seen, hole), builder.shl(builder.zext(new, I32), shift))
    pair = builder.cmpxchg(cell, seen, new, "monotonic", "monotonic")
    seen.add_incoming(builder.extract_value(pair, 0), builder.block)
    builder.cbranch(builder.extract_value(pair, 1), done, loop)
    builder.position_at_end(done)


for _name in _ELEMENT:
    globals()[f"shared_{_name}"] = _make_shared(_name)
    globals()[f"load_{_name}"], globals()[f"store_{_name}"] = _make_neighbours(_name, True), _make_neighbours(_name, False)
    if _name not in ("c64", "c128"):
        for _combine in _COMBINE:
            globals()[f"atomic_{_combine}_{_name}"] = _make_atomic(_combine, _name)


# ---- tiles ----------------------------------------------------------------------------------------------

def _vector_of(memory, count):
    return ir.VectorType(memory, count) if count > 1 else memory


def _make_moved(name):
    _, memory, size = _ELEMENT[name]

    def moved(typing, to, i, source, j, ok, n, scope_to, scope):
        count, at, of = _literal(n, f"moved_{name}: the elements"), _literal(scope_to, "the scope"), _literal(scope, "the scope")

        def code(context, builder, signature, args):
            words = size * count // 4 if size < 4 and size * count % 4 == 0 else 0
            kind = _vector_of(I32 if words else memory, words or count)
            zero = ir.Constant(kind, [kind.element(0)] * kind.count if isinstance(kind, ir.VectorType) else 0)
            inside = args[4]
            safe = builder.select(inside, args[3], I64(0))
            where = builder.bitcast(_element_pointer(builder, memory, args[2], safe), kind.as_pointer())
            value = _in_scope(builder.module, builder.load(where, align=size * count), of)
            value = builder.select(inside, value, zero)
            there = builder.bitcast(_element_pointer(builder, memory, args[0], args[1]), kind.as_pointer())
            _in_scope(builder.module, builder.store(value, there, align=size * count), at)
            return context.get_dummy_value()
        return types.none(types.voidptr, types.int64, types.voidptr, types.int64, types.boolean, n, scope_to, scope), code
    moved.__doc__ = "to[i : i + n] = source[j : j + n] by one access, zeros where not `ok` (source[0] then exists); i, j: multiples of n."
    return _named(moved, f"moved_{name}")


def _make_multiplied(name):
    _, memory, size = _ELEMENT[name]

    def multiplied(typing, c, shared, at, bt, depth, rows, columns, group, pitch_a, step_a, pitch_b, step_b, scope):
        literals = (depth, rows, columns, group, pitch_a, step_a, pitch_b, step_b, scope)
        steps, m, n, v, pitch_x, step_x, pitch_y, step_y, where = (_literal(k, f"multiplied_{name}: sizes") for k in literals)
        vector = _vector_of(memory, v)

        def code(context, builder, signature, args):
            c, shared, at, bt = args[:4]

            def read(start, offset, count, step):
                found = []
                for g in range(count // v):
                    place = _element_pointer(builder, memory, shared, builder.add(start, I64(offset + g * step)))
                    cell = builder.load(builder.bitcast(place, vector.as_pointer()), align=v * size)
                    _in_scope(builder.module, cell, where)
                    found += [builder.extract_element(cell, I32(k)) for k in range(v)] if v > 1 else [cell]
                return found
            cells = [_element_pointer(builder, memory, c, I64(k)) for k in range(m * n)]
            sums = [builder.load(cell, align=size) for cell in cells]
            for q in range(steps):
                x, y = read(at, q * pitch_x, m, step_x), read(bt, q * pitch_y, n, step_y)
                sums = [_multiplied(builder, x[k // n], y[k % n], one) for k, one in enumerate(sums)]
            for cell, one in zip(cells, sums):
                builder.store(one, cell, align=size)
            return context.get_dummy_value()
        return types.none(types.voidptr, types.voidptr, types.int64, types.int64, *literals), code
    multiplied.__doc__ = """c[x, y] += a[q, x] * b[q, y] for q < depth, c a `rows` x `columns` tile in registers, by fused multiply-adds.
    Row q of a begins at shared[at + q * pitch_a] and goes on every `group` elements `step_a` further; b likewise."""
    return _named(multiplied, f"multiplied_{name}")


def _vectors(builder, memory, size, shared, start, offset, count, where):
    """`count` elements from shared[start + offset] on, by accesses of up to 16 bytes."""
    width, found = min(count, WIDE // size), []
    for k in range(0, count, width):
        place = _element_pointer(builder, memory, shared, builder.add(start, I64(offset + k)))
        kind = _vector_of(memory, width)
        value = _in_scope(builder.module, builder.load(builder.bitcast(place, kind.as_pointer()), align=width * size), where)
        found += [builder.extract_element(value, I32(u)) for u in range(width)] if width > 1 else [value]
    return found


def _added_up(builder, memory, size, c, places, terms):
    """c[p] += what `terms` gives for each of `places`: pairs of factors, in order."""
    cells = [_element_pointer(builder, memory, c, I64(p)) for p in places]
    sums = [builder.load(cell, align=size) for cell in cells]
    for pairs in terms:
        sums = [_multiplied(builder, x, y, one) for (x, y), one in zip(pairs, sums, strict=True)]
    for cell, one in zip(cells, sums, strict=True):
        builder.store(one, cell, align=size)


def _make_dotted(name):
    _, memory, size = _ELEMENT[name]

    def dotted(typing, c, shared, at, bt, depth, rows, columns, step_a, step_b, scope):
        literals = (depth, rows, columns, step_a, step_b, scope)
        steps, m, n, step_x, step_y, where = (_literal(k, f"dotted_{name}: sizes") for k in literals)

        def code(context, builder, signature, args):
            c, shared, at, bt = args[:4]

            def terms():
                for q in range(0, steps, WIDE // size):
                    x = [_vectors(builder, memory, size, shared, at, i * step_x + q, WIDE // size, where) for i in range(m)]
                    y = [_vectors(builder, memory, size, shared, bt, j * step_y + q, WIDE // size, where) for j in range(n)]
                    for u in range(WIDE // size):
                        yield [(x[i][u], y[j][u]) for i in range(m) for j in range(n)]
            _added_up(builder, memory, size, c, range(m * n), terms())
            return context.get_dummy_value()
        return types.none(types.voidptr, types.voidptr, types.int64, types.int64, *literals), code
    dotted.__doc__ = """c[x, y] += a[x, q] * b[y, q] for q < depth, c a `rows` x `columns` tile in registers, by fused multiply-adds.
    Row x of a begins at shared[at + x * step_a], row y of b at shared[bt + y * step_b]: at multiples of 16 bytes, as is depth."""
    return _named(dotted, f"dotted_{name}")


def _make_weighted(name):
    _, memory, size = _ELEMENT[name]

    def weighted(typing, c, ci, ck, shared, at, bt, depth, rows, columns, step_a, pitch_b, scope):
        literals = (depth, rows, columns, step_a, pitch_b, scope)
        steps, m, n, step_x, pitch_y, where = (_literal(k, f"weighted_{name}: sizes") for k in literals)
        first, apart = _literal(ci, "the first place"), _literal(ck, "the distance of rows")

        def code(context, builder, signature, args):
            c, shared, at, bt = args[0], *args[3:6]

            def terms():
                for q in range(0, steps, WIDE // size):
                    x = [_vectors(builder, memory, size, shared, at, i * step_x + q, WIDE // size, where) for i in range(m)]
                    for u in range(WIDE // size):
                        y = _vectors(builder, memory, size, shared, bt, (q + u) * pitch_y, n, where)
                        yield [(x[i][u], y[j]) for i in range(m) for j in range(n)]
            _added_up(builder, memory, size, c, [first + i * apart + j for i in range(m) for j in range(n)], terms())
            return context.get_dummy_value()
        return types.none(types.voidptr, ci, ck, types.voidptr, types.int64, types.int64, *literals), code
    weighted.__doc__ = """c[ci + x * ck + y] += a[x, q] * b[q, y] for q < depth, x < rows, y < columns, c in registers, by fused
    multiply-adds.  Row x of a begins at shared[at + x * step_a], row q of b at shared[bt + q * pitch_b]: at multiples of 16 bytes, or
    of `columns`."""
    return _named(weighted, f"weighted_{name}")


def _make_cleared(name):
    _, memory, size = _ELEMENT[name]

    def cleared(typing, c, n):
        count = _literal(n, f"cleared_{name}: the elements")

        def code(context, builder, signature, args):
            for k in range(count):
                builder.store(memory(0), _element_pointer(builder, memory, args[0], I64(k)), align=size)
            return context.get_dummy_value()
        return types.none(types.voidptr, n), code
    cleared.__doc__ = "c[0 : n] = 0 in registers."
    return _named(cleared, f"cleared_{name}")


def _make_settled(name):
    _, memory, size = _ELEMENT[name]
    letter = {"f32": "f", "f64": "d", "i32": "r", "i64": "l"}[name]

    def settled(typing, c, n):
        count = _literal(n, f"settled_{name}: the elements")

        def code(context, builder, signature, args):
            for k in range(count):
                where = _element_pointer(builder, memory, args[0], I64(k))
                value = builder.asm(ir.FunctionType(memory, [memory]), "", f"={letter},0", [builder.load(where, align=size)], True)
                builder.store(value, where, align=size)
            return context.get_dummy_value()
        return types.none(types.voidptr, n), code
    settled.__doc__ = "c[0 : n] in registers have their values here: what makes them is not moved into conditions that come later."
    return _named(settled, f"settled_{name}")


def _multiplied(builder, a, b, c):
    if a.type not in (F32, F64):
        return builder.add(builder.mul(a, b), c)
    return builder.call(builder.module.declare_intrinsic("llvm.fma", [a.type], ir.FunctionType(a.type, [a.type] * 3)), [a, b, c])


for _name in ("f32", "f64"):
    globals()[f"dotted_{_name}"] = _make_dotted(_name)
    globals()[f"weighted_{_name}"] = _make_weighted(_name)
for _name in ("f32", "f64", "i8", "i16", "i32", "i64", "u8", "u16", "u32", "u64"):
    globals()[f"moved_{_name}"] = _make_moved(_name)
for _name in ("f32", "f64", "i32", "i64"):
    globals()[f"multiplied_{_name}"] = _make_multiplied(_name)
    globals()[f"cleared_{_name}"] = _make_cleared(_name)
    globals()[f"settled_{_name}"] = _make_settled(_name)


def _make_asked(name):
    _, memory, size = _ELEMENT[name]

    def asked(typing, to, i, source, j, ok, n, scope):
        nbytes = size * _literal(n, f"asked_{name}: the elements")

        def code(context, builder, signature, args):
            far, near = I8.as_pointer(GLOBAL), I8.as_pointer(SHARED)
            there = builder.addrspacecast(builder.bitcast(_element_pointer(builder, memory, args[0], args[1]), _BYTES), near)
            safe = builder.select(args[4], args[3], I64(0))
            where = builder.addrspacecast(builder.bitcast(_element_pointer(builder, memory, args[2], safe), _BYTES), far)
            ask = f"llvm.nvvm.cp.async.{'cg' if nbytes == 16 else 'ca'}.shared.global.{nbytes}.s"
            given = builder.select(args[4], I32(nbytes), I32(0))  # the rest is zeros
            builder.call(_declared(builder, ask, ir.VoidType(), [near, far, I32]), [there, where, given])
            return context.get_dummy_value()
        return types.none(types.voidptr, types.int64, types.voidptr, types.int64, types.boolean, n, scope), code
    asked.__doc__ = """Like `moved` of 4, 8 or 16 bytes from global to shared memory, past the registers: there once `await_asked` says so.

    Nobody else may write `source` during the kernel."""
    return _named(asked, f"asked_{name}")


for _name in ("f32", "f64", "u16"):
    globals()[f"asked_{_name}"] = _make_asked(_name)


@intrinsic
def commit_asked(typing):
    """Ends a group of `asked` copies of this thread."""
    def code(context, builder, signature, args):
        builder.call(_declared(builder, "llvm.nvvm.cp.async.commit.group", ir.VoidType(), []), [])
        return context.get_dummy_value()
    return types.none(), code


def _await_asked(typing, n):
    """Waits until all but the last `n` groups of this thread's copies are there; a barrier makes them visible to others."""
    count = _literal(n, "await_asked: the groups")

    def code(context, builder, signature, args):
        builder.call(_declared(builder, "llvm.nvvm.cp.async.wait.group", ir.VoidType(), [I32]), [I32(count)])
        return context.get_dummy_value()
    return types.none(n), code


await_asked = _named(_await_asked, "await_asked")


# ---- tensor cores -----------------------------------------------------------------------------------------

def _put_registers(builder, memory, pointer, at, four):
    for k in range(4):
        builder.store(builder.extract_value(four, k), _element_pointer(builder, memory, pointer, builder.add(at, I64(k))), align=4)


def _make_ldmatrix(name, turned):
    size = _ELEMENT[name][2]

    def ldmatrix(typing, to, i, source, j):
        def code(context, builder, signature, args):
            row = builder.addrspacecast(builder.gep(args[2], [builder.mul(args[3], I64(size))]), I8.as_pointer(SHARED))
            shape = ir.LiteralStructType([I32] * 4)
            ask = f"llvm.nvvm.ldmatrix.sync.aligned.m8n8.x4{'.trans' if turned else ''}.b16.p3"
            found = builder.call(_declared(builder, ask, shape, [I8.as_pointer(SHARED)]), [row])
            _put_registers(builder, I32, args[0], args[1], found)
            return context.get_dummy_value()
        return types.none(types.voidptr, types.int64, types.voidptr, types.int64), code
    ldmatrix.__doc__ = f"""Registers to[i : i + 4]: four 8 x 8 matrices of 16 bits{', transposed' if turned else ''}; lane l says by j where
    row l % 8 of matrix l // 8 begins, 16 bytes in shared memory."""
    ldmatrix.__name__ = f"ldmatrix{'_turned' if turned else ''}_{name}"
    return intrinsic(ldmatrix)


_MMA = {"f16": ("m16n8k16.row.col.f32.f32", ir.VectorType(F16, 2)), "bf16": ("m16n8k16.row.col.bf16", I32),
        "tf32": ("m16n8k8.row.col.tf32", I32)}


def _make_mma(name):
    form, kind = _MMA[name]

    def mma(typing, c, ci, a, ai, b, bi):
        def code(context, builder, signature, args):
            def read(pointer, at, count, t):
                return [builder.load(_element_pointer(builder, t, pointer, builder.add(at, I64(k))), align=4) for k in range(count)]
            left, right, sums = read(args[2], args[3], 4, I32), read(args[4], args[5], 2, I32), read(args[0], args[1], 4, F32)
            given = [builder.bitcast(v, kind) if kind != I32 else v for v in (*left, *right)]
            ask = _declared(builder, f"llvm.nvvm.mma.{form}", ir.LiteralStructType([F32] * 4), [kind] * 6 + [F32] * 4)
            found = builder.call(ask, [*given, *sums])
            _put_registers(builder, F32, args[0], args[1], found)
            return context.get_dummy_value()
        return types.none(types.voidptr, types.int64, types.voidptr, types.int64, types.voidptr, types.int64), code
    mma.__doc__ = f"c[ci : ci + 4] += a[ai : ai + 4] b[bi : bi + 2]: fragments of a warp in registers, {form}, sums in float32."
    mma.__name__ = f"mma_{name}"
    return intrinsic(mma)


for _name in ("u16", "f32"):
    globals()[f"ldmatrix_{_name}"] = _make_ldmatrix(_name, False)
ldmatrix_turned_u16 = _make_ldmatrix("u16", True)
for _name in _MMA:
    globals()[f"mma_{_name}"] = _make_mma(_name)


def _make_packed(name):
    def packed(typing, to, i, low, high):
        def code(context, builder, signature, args):
            text = f"cvt.rn.{name}x2.f32 $0, $1, $2;"  # llvmlite cannot say the type of LLVM's own function for bfloat16
            value = builder.asm(ir.FunctionType(I32, [F32, F32]), text, "=r,f,f", [args[3], args[2]], False)
            builder.store(value, _element_pointer(builder, I32, args[0], args[1]), align=4)
            return context.get_dummy_value()
        return types.none(types.voidptr, types.int64, types.float32, types.float32), code
    packed.__doc__ = "Register to[i]: two float32 rounded to 16 bits, `low` in the low half."
    packed.__name__ = f"packed_{name}"
    return intrinsic(packed)


packed_f16, packed_bf16 = _make_packed("f16"), _make_packed("bf16")


@intrinsic
def pow2_f32(typing, x):
    """2^x by the GPU's own unit (2 ulp); results below the normal numbers are 0."""
    def code(context, builder, signature, args):
        return builder.call(_declared(builder, "llvm.nvvm.ex2.approx.ftz.f", F32, [F32]), args)
    return types.float32(types.float32), code


@intrinsic
def times(typing, a, b):
    """a * b rounded by itself, never part of a fused multiply-add."""
    kind = types.float64 if types.float64 in (a, b) else types.float32

    def code(context, builder, signature, args):
        t = args[0].type
        return builder.call(_declared(builder, f"llvm.nvvm.mul.rn.{'d' if t == F64 else 'f'}", t, [t, t]), args)
    return kind(kind, kind), code


@intrinsic
def tf32(typing, x):
    """x rounded to 10 bits after the point, ties away from zero, as tensor cores read float32."""
    def code(context, builder, signature, args):
        return builder.bitcast(builder.call(_declared(builder, "llvm.nvvm.f2tf32.rna", I32, [F32]), args), F32)
    return types.float32(types.float32), code


@intrinsic
def c_abs(typing, z):
    """|z|: the larger part times a root, so that no square overflows."""
    def code(context, builder, signature, args):
        x, y = _complex_parts(builder, args[0])
        t = x.type

        def call(name, *values):
            return builder.call(builder.module.declare_intrinsic(f"llvm.{name}", [t], ir.FunctionType(t, [t] * len(values))), values)
        a, b = call("fabs", x), call("fabs", y)
        high, low = call("maximum", a, b), call("minimum", a, b)
        plain = builder.fcmp_ordered("==", high, t(0.0))
        infinite = builder.or_(builder.fcmp_ordered("==", a, t(float("inf"))), builder.fcmp_ordered("==", b, t(float("inf"))))
        ratio = builder.fdiv(low, builder.select(plain, t(1.0), high))
        size = builder.fmul(high, call("sqrt", builder.fadd(t(1.0), builder.fmul(ratio, ratio))))
        return builder.select(infinite, t(float("inf")), size)
    return z.underlying_float(z), code


@intrinsic
def c_div(typing, z, w):
    """z / w, by the conjugate of w scaled by its larger part (Smith's way), so that no square overflows."""
    def code(context, builder, signature, args):
        (a, b), (c, d) = _complex_parts(builder, args[0]), _complex_parts(builder, args[1])
        t = a.type
        fabs = builder.module.declare_intrinsic("llvm.fabs", [t], ir.FunctionType(t, [t]))
        wide = builder.fcmp_ordered(">=", builder.call(fabs, [c]), builder.call(fabs, [d]))
        p, q = builder.select(wide, c, d), builder.select(wide, d, c)
        r = builder.fdiv(q, p)
        below = builder.fadd(p, builder.fmul(q, r))
        x, y = builder.select(wide, a, b), builder.select(wide, b, a)
        real = builder.fdiv(builder.fadd(x, builder.fmul(y, r)), below)
        imag = builder.fdiv(builder.fsub(y, builder.fmul(x, r)), below)
        return _make_complex(builder, real, builder.select(wide, imag, builder.fneg(imag)))
    return z(z, w), code


def _of_complex(name, emit, doc, result=lambda kind: kind, arity=2):
    """A word of complex numbers: `emit(builder, *parts)`."""
    def operation(typing, *kinds):
        def code(context, builder, signature, args):
            return emit(builder, *[p for a in args for p in _complex_parts(builder, a)])
        return result(kinds[0])(*kinds), code
    word = (lambda typing, z: operation(typing, z)) if arity == 1 else (lambda typing, z, w: operation(typing, z, w))
    word.__name__, word.__doc__ = name, doc
    return intrinsic(word)


c_add = _of_complex("c_add", lambda k, a, b, c, d: _make_complex(k, k.fadd(a, c), k.fadd(b, d)), "z + w")
c_sub = _of_complex("c_sub", lambda k, a, b, c, d: _make_complex(k, k.fsub(a, c), k.fsub(b, d)), "z - w")
c_mul = _of_complex("c_mul", lambda k, a, b, c, d: _make_complex(
    k, k.fsub(k.fmul(a, c), k.fmul(b, d)), k.fadd(k.fmul(a, d), k.fmul(b, c))), "z * w")
c_eq = _of_complex("c_eq", lambda k, a, b, c, d: k.and_(k.fcmp_ordered("==", a, c), k.fcmp_ordered("==", b, d)), "z == w",
                   lambda kind: types.boolean)
c_neg = _of_complex("c_neg", lambda k, a, b: _make_complex(k, k.fneg(a), k.fneg(b)), "-z", arity=1)
c_conj = _of_complex("c_conj", lambda k, a, b: _make_complex(k, a, k.fneg(b)), "The conjugate.", arity=1)
c_real = _of_complex("c_real", lambda k, a, b: a, "The real part.", lambda kind: kind.underlying_float, 1)
c_imag = _of_complex("c_imag", lambda k, a, b: b, "The imaginary part.", lambda kind: kind.underlying_float, 1)


@intrinsic
def c_make(typing, a, b):
    """a + b i"""
    def code(context, builder, signature, args):
        return _make_complex(builder, *args)
    return (types.complex128 if a == types.float64 else types.complex64)(a, b), code


@intrinsic
def ipow(typing, base, exponent):
    """Integer power by squaring; wraps, and a negative exponent gives what 1 // base**-n truncates to."""
    kind = types.unliteral(base)

    def code(context, builder, signature, args):
        base, exponent = args
        t = base.type
        one, zero = t(1), t(0)
        before = builder.block
        head, inside, done = (builder.append_basic_block(n) for n in ("power", "square", "powered"))
        builder.branch(head)
        builder.position_at_end(head)
        result, square, rest = (builder.phi(t) for _ in range(3))
        for phi, first in ((result, one), (square, base), (rest, exponent)):
            phi.add_incoming(first, before)
        builder.cbranch(builder.icmp_signed(">", rest, zero) if kind.signed else builder.icmp_unsigned("!=", rest, zero), inside, done)
        builder.position_at_end(inside)
        odd = builder.icmp_unsigned("!=", builder.and_(rest, one), zero)
        result.add_incoming(builder.select(odd, builder.mul(result, square), result), inside)
        square.add_incoming(builder.mul(square, square), inside)
        rest.add_incoming(builder.lshr(rest, one), inside)
        builder.branch(head)
        builder.position_at_end(done)
        if not kind.signed:
            return result
        odd = builder.icmp_unsigned("!=", builder.and_(exponent, one), zero)
        minus = builder.select(builder.icmp_signed("==", base, t(-1)), builder.select(odd, t(-1), one), zero)
        inverse = builder.select(builder.icmp_signed("==", base, one), one, minus)
        return builder.select(builder.icmp_signed("<", exponent, zero), inverse, result)
    return kind(kind, kind), code


@intrinsic
def fail(typing, p, number):
    """Notes in the cell at `p` that a check failed; of several the highest number stays."""
    def code(context, builder, signature, args):
        builder.atomic_rmw("umax", builder.bitcast(args[0], I32.as_pointer()), args[1], "monotonic")
        return context.get_dummy_value()
    return types.none(types.voidptr, types.int32), code


@intrinsic
def failed(typing, p):
    """Whether a check of this run has failed."""
    def code(context, builder, signature, args):
        cell = builder.load(builder.bitcast(args[0], I32.as_pointer()), align=4)
        return builder.icmp_unsigned("!=", cell, I32(0))
    return types.boolean(types.voidptr), code

