"""Register tiles: the innermost loop of a matrix product, as LLVM vectors.

`tile_<t>_<rows>x<vectors>_<lanes>(kc, a, lda, b, c, ldc, add)` computes rows x (vectors * lanes) elements of C.  `b` is a packed
panel with `vectors * lanes` numbers for each k.  `a` is a packed panel with `rows` numbers for each k when `lda` is 0, else
`rows` rows that lie `lda` apart and are read along k where they are.  All sums stay in registers over the whole loop; LLVM's
own vectoriser would keep them in memory.  With `add` not 0 the tile is added to C.  Words of kernel text; imports Numba.
"""

import re
from functools import cache

from llvmlite import ir
from numba import types
from numba.core import cgutils
from numba.extending import intrinsic

I32, I64 = ir.IntType(32), ir.IntType(64)
_NAME = re.compile(r"tile_(f32|f64)_(\d+)x(\d+)_(\d+)$")
_FLOAT = {"f32": (ir.FloatType(), 4), "f64": (ir.DoubleType(), 8)}


def __getattr__(name):
    found = _NAME.match(name)
    if not found:
        raise AttributeError(name)
    return _tile(found[1], *map(int, found.groups()[1:]))


@cache
def _tile(kind, rows, vectors, lanes):
    def multiply(typing, kc, a, lda, b, c, ldc, add):
        packed = isinstance(lda, types.IntegerLiteral) and lda.literal_value == 0

        def code(context, builder, signature, args):
            _Tile(builder, kind, rows, vectors, lanes, packed).emit(*args)
            return context.get_dummy_value()
        step = lda if packed else types.int64
        return types.none(types.int64, types.voidptr, step, types.voidptr, types.voidptr, types.int64, types.int64), code
    multiply.__name__ = f"tile_{kind}_{rows}x{vectors}_{lanes}"
    return intrinsic(prefer_literal=True)(multiply)


class _Tile:
    def __init__(self, builder, kind, rows, vectors, lanes, packed):
        self.b, self.rows, self.vectors, self.lanes, self.packed = builder, rows, vectors, lanes, packed
        self.scalar, self.size = _FLOAT[kind]
        self.vector = ir.VectorType(self.scalar, lanes)
        shape = ir.FunctionType(self.vector, [self.vector] * 3)
        self.fma = cgutils.get_or_insert_function(builder.module, shape, f"llvm.fma.v{lanes}{kind}")

    def emit(self, kc, a, lda, b, c, ldc, add):
        """The k loop, then the tile into C."""
        builder, width = self.b, self.vectors * self.lanes
        a, b, c = (builder.bitcast(p, self.scalar.as_pointer()) for p in (a, b, c))
        before = builder.block
        loop, done = builder.append_basic_block("k"), builder.append_basic_block("tile")
        builder.branch(loop)
        builder.position_at_end(loop)
        k = builder.phi(I64)
        sums = [[builder.phi(self.vector) for _ in range(self.vectors)] for _ in range(self.rows)]
        at_b = [self.load(b, builder.add(builder.mul(k, I64(width)), I64(j * self.lanes))) for j in range(self.vectors)]
        new = []
        for i, row in enumerate(sums):
            at_a = builder.add(builder.mul(k, I64(self.rows)), I64(i)) if self.packed else builder.add(builder.mul(lda, I64(i)), k)
            x = self.splat(builder.load(builder.gep(a, [at_a])))
            new.append([builder.call(self.fma, [x, at_b[j], row[j]]) for j in range(self.vectors)])
        following = builder.add(k, I64(1))
        k.add_incoming(I64(0), before)
        k.add_incoming(following, loop)
        zero = ir.Constant(self.vector, [0.0] * self.lanes)
        for row, made in zip(sums, new):
            for phi, value in zip(row, made):
                phi.add_incoming(zero, before)
                phi.add_incoming(value, loop)
        builder.cbranch(builder.icmp_signed("<", following, kc), loop, done)
        builder.position_at_end(done)
        self.finish(new, c, ldc, add)

    def finish(self, made, c, ldc, add):
        builder = self.b
        adding, storing, after = (builder.append_basic_block(n) for n in ("add", "store", "after"))
        builder.cbranch(builder.icmp_signed("!=", add, I64(0)), adding, storing)
        for block, keep in ((adding, True), (storing, False)):
            builder.position_at_end(block)
            for i, row in enumerate(made):
                start = builder.mul(ldc, I64(i))
                for j, value in enumerate(row):
                    place = builder.add(start, I64(j * self.lanes))
                    self.store(builder.fadd(self.load(c, place), value) if keep else value, c, place)
            builder.branch(after)
        builder.position_at_end(after)

    def load(self, p, i):
        found = self.b.load(self.b.bitcast(self.b.gep(p, [i]), self.vector.as_pointer()))
        found.align = self.size
        return found

    def store(self, value, p, i):
        self.b.store(value, self.b.bitcast(self.b.gep(p, [i]), self.vector.as_pointer())).align = self.size

    def splat(self, x):
        nothing = ir.Constant(self.vector, ir.Undefined)
        return self.b.shuffle_vector(self.b.insert_element(nothing, x, I32(0)), nothing,
                                     ir.Constant(ir.VectorType(I32, self.lanes), [0] * self.lanes))
