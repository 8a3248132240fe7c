"""Sorting on a GPU: rows, or the first of them, in order.

An element becomes a key, an integer whose order is that of the elements (upwards for `descending`, too), and its place in the row; key
and place make a pair that no other equals, so every method gives the same result: of equal elements the first comes first.  NaN counts
as larger than all numbers, and -0 as 0, as on the CPU.  Keys of 32 bits and their places are one int64.

A block sorts up to `MOST` pairs in shared memory (K. E. Batcher: "Sorting networks and their applications", 1968); pairs that stand less
than 32 apart are exchanged by shuffles.  Short rows share a block.  Of longer rows the blocks sort pieces.  Where few of a row are
wanted, each piece passes its first ones on, until one piece has them all; otherwise sorted runs are merged two by two, each thread
finding the place of its pair among those of the other run.

Knows launches and the spelling of words; knows the buffers and attributes of its ops (rank 4).
"""
from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Mapping, Sequence

from ... import types
from ...graph import Operation, Tensor
from ...ops.array import pinned
from ...types import Size
from ..ir import Buffer
from .launch import Launch
from .lines import Lines

WARP = 32
MOST = 4096  # pairs that a block sorts: 48 KiB with keys of 64 bits
TILE = 512  # pairs of a block with short rows, 64 at least
FEW = 1024  # of a row: up to so many are selected rather than all sorted
THREADS, MERGING = 512, 256  # at most, of a block that sorts; of a block that merges
LAST = (1 << 63) - 1  # the key behind all others


def engine(op: Operation) -> str | None:
    """ "sort" for an op that this module computes."""
    return "sort" if op.opdef.gpu == "sort" else None


def kernels(op: Operation, buffers: Mapping[Tensor, Buffer]) -> list[Launch]:
    """The launches that compute `op`: its outputs are places as int32, or values and places."""
    return _Sort(op, buffers).launches()


def _power(n: int) -> int:
    """The least power of 2 from n on, at least 2."""
    return max(2, 1 << (n - 1).bit_length())


class _Sort:
    def __init__(self, op: Operation, buffers: Mapping[Tensor, Buffer]):
        x, places = op.inputs[0], op.outputs[-1]
        assert x.sizes is not None and places.sizes is not None
        self.x, self.places = buffers[x], buffers[places]
        self.values = buffers[op.outputs[0]] if len(op.outputs) > 1 else None
        self.n, self.k = pinned(x.sizes[-1]), pinned(places.sizes[-1])
        self.rows = types.product(x.sizes[:-1])
        self.down = bool(op.attrs.get("descending", True))
        self.wide = x.dtype in (types.float64, types.int64, types.uint64)

    def pairs(self, count: Size) -> list[Buffer]:
        """Memory for pairs of each row."""
        kinds = [types.int64, types.int32] if self.wide else [types.int64]
        return [Buffer(d, (self.rows, count), "part", f"pairs of {d.name}") for d in kinds]

    def launches(self) -> list[Launch]:
        piece = self.n if self.n <= MOST else MOST if self.k > FEW else min(MOST, max(TILE, _power(8 * self.k)))
        made: list[Launch] = []
        source, count = [self.x], self.n
        while count > piece and self.k <= FEW:
            pieces = -(-count // piece)
            to = self.pairs(pieces * self.k)
            made.append(self._block(source, count, piece, to, self.k))
            source, count, piece = to, pieces * self.k, MOST
        if count <= piece:
            return [*made, self._block(source, count, max(count, 1), None, self.k)]
        count = -(-count // piece) * piece
        source = self.pairs(count)
        made.append(self._block([self.x], self.n, piece, source, piece))
        while piece < count:
            to = None if 2 * piece >= count else self.pairs(count)
            made.append(self._merge(source, count, piece, to))
            source, piece = to or source, 2 * piece
        return made

    # -- the two kinds of launches

    def _block(self, source: Sequence[Buffer], count: int, piece: int, to: list[Buffer] | None, kept: int) -> Launch:
        return self._launch(partial(self._sorted, source, count, piece, to, kept))

    def _merge(self, source: Sequence[Buffer], count: int, run: int, to: list[Buffer] | None) -> Launch:
        return self._launch(partial(self._merged, source, count, run, to))

    @staticmethod
    def _launch(make: partial[Launch]) -> Launch:
        return replace(make(False), widened=partial(make, True))

    def _sorted(self, source: Sequence[Buffer], count: int, piece: int, to: list[Buffer] | None, kept: int, wide: bool) -> Launch:
        """Each `piece` of the `count` elements of a row in order: its first `kept`."""
        width, pieces = _power(piece), max(-(-count // piece), 1)
        tile = max(width, TILE)
        threads = min(tile // 2, THREADS)
        each = tile // threads
        t = _Text(self, source, to, wide)
        element = f"for u in unroll({each}):", f"e = u * {threads} + thread()", f"g = first + udiv(e, {width})"
        t.line(f"keys = shared_i64({tile}, 0)", *[f"order = shared_i32({tile}, 1)"] * self.wide)
        t.line(f"mine = stack_i64({each})", *[f"places = stack_i32({each})"] * self.wide)
        t.line(f"first = {t.index('block()')} * {tile // width}")
        t.open(*element, f"j = umod(g, {pieces}) * {piece} + umod(e, {width})", f"at = udiv(g, {pieces}) * {count} + j")
        t.line(f"key = to_i64({LAST})", *["place = 2147483647"] * self.wide)
        t.open(f"if (g < s0) & (j < {count}):")
        if source[0] is self.x:
            t.key("at", "j")
        else:
            t.take("at")
        t.close()
        t.put("e", "key", "place")
        t.close()
        t.line("size = 2")
        t.open(f"while size <= {width}:", "step = udiv(size, 2)")
        t.open(f"while step >= {WARP}:", "barrier()")
        t.open(f"for u in unroll({tile // 2 // threads}):", f"t = u * {threads} + thread()", "i = 2 * t - (t & (step - 1))")
        t.line("a = ld_i64(keys, i, 60)", "b = ld_i64(keys, i + step, 60)")
        t.line(*["c = ld_i32(order, i, 61)", "d = ld_i32(order, i + step, 61)"] * self.wide)
        t.open(f"if {t.before('b', 'd', 'a', 'c')} == ((i & size & {width - 1}) == 0):")
        t.put("i", "b", "d")
        t.put("i + step", "a", "c")
        t.close(2)
        t.line("step = udiv(step, 2)")
        t.close()
        t.line("barrier()")
        t.open(f"for u in unroll({each}):", f"e = u * {threads} + thread()", "st_i64(mine, u, ld_i64(keys, e, 60), 62)")
        t.line(*["st_i32(places, u, ld_i32(order, e, 61), 63)"] * self.wide)
        t.close()
        t.open("while step > 0:")
        t.open(f"for u in unroll({each}):", f"e = u * {threads} + thread()", "a = ld_i64(mine, u, 62)", "b = shuffle_xor(a, step)")
        t.line(*["c = ld_i32(places, u, 63)", "d = shuffle_xor(c, step)"] * self.wide)
        t.line(f"other = {t.before('b', 'd', 'a', 'c')} == (((e & step) == 0) == ((e & size & {width - 1}) == 0))")
        t.line("st_i64(mine, u, select(other, b, a), 62)", *["st_i32(places, u, select(other, d, c), 63)"] * self.wide)
        t.close()
        t.line("step = udiv(step, 2)")
        t.close()
        t.open(f"for u in unroll({each}):", f"e = u * {threads} + thread()")
        t.put("e", "ld_i64(mine, u, 62)", "ld_i32(places, u, 63)")
        t.close()
        t.line("size = size * 2")
        t.close()
        t.line("barrier()")
        t.open(*element, f"r = umod(e, {width})")
        t.open(f"if (g < s0) & (r < {kept}):", "key = ld_i64(keys, e, 60)", *["place = ld_i32(order, e, 61)"] * self.wide)
        if to is None:
            t.result("g", "r")
        else:
            t.give(f"g * {kept} + r")
        t.close(2)
        return t.of_pieces(f"sort of {piece} in a block", self.rows * pieces, tile // width, threads)

    def _merged(self, source: Sequence[Buffer], count: int, run: int, to: list[Buffer] | None, wide: bool) -> Launch:
        """Sorted runs of the `count` pairs of a row become runs twice as long."""
        t = _Text(self, source, to, wide)
        zero = t.index("0")
        t.line(f"t = {t.index('block()')} * {MERGING} + thread()")
        t.open("if t < s0:", f"row = udiv(t, {count})", f"j = umod(t, {count})", f"mine = udiv(j, {run})", "odd = umod(mine, 2)")
        t.take("t")
        t.line(f"start = (mine + 1 - 2 * odd) * {run}", f"low = {zero}", f"high = max(min({count} - start, {run}), {zero})")
        t.open("while low < high:", "middle = udiv(low + high, 2)", f"at = row * {count} + start + middle")
        t.line(*[f"{name} = {t.load(b, 'at')}" for name, b in zip("bd", source)])
        # Of two equal ones (both behind the end of the row) that of the even run comes first.
        t.line(f"less = select(odd > 0, {t.before('key', 'place', 'b', 'd')} == False, {t.before('b', 'd', 'key', 'place')})")
        t.line("low = select(less, middle + 1, low)", "high = select(less, high, middle)")
        t.close()
        t.line(f"at = j - odd * {run} + low")
        if to is None:
            t.open(f"if at < {self.k}:")
            t.result("row", "at")
            t.close()
        else:
            t.give(f"row * {count} + at")
        t.close()
        return t.of_pieces(f"sorted runs of {run} merged", self.rows * count, MERGING, MERGING)


class _Text(Lines):
    """The lines of one launch; `key` and `place` are the pair in hand (without keys of 64 bits `key` is all of it)."""

    def __init__(self, sort: _Sort, source: Sequence[Buffer], to: Sequence[Buffer] | None, long: bool):
        self.sort, self.source = sort, source
        results = [sort.places, *([sort.values] if sort.values else [])] if to is None else list(to)
        needed = [sort.x] if to is None and sort.values else []
        super().__init__([*source, *needed, *results], long)
        self.results = results

    def key(self, at: str, place: str) -> None:
        """The pair of the element at an offset of the input."""
        dtype = self.sort.x.dtype
        self.line(f"v = {self.load(self.sort.x, at)}")
        if dtype.kind == "f":
            i, f, top = ("i64", "f64", "to_i64(9223372036854775807)") if dtype is types.float64 else ("i32", "f32", "2147483647")
            self.line(f"n = bits_{f}_{i}(v)", f"n = n ^ select(n < 0, {top}, to_{i}(0))")
            self.line(f"n = select(v == to_{f}(0), to_{i}(0), select(v == v, n, {top}))")
        elif dtype is types.uint64:
            self.line("n = to_i64(v) ^ low64")
        else:
            special = {types.int64: "to_i64(v)", types.uint32: "to_i32(to_i64(v) - 2147483648)"}
            self.line(f"n = {special.get(dtype, 'to_i32(v)')}")
        if self.sort.down:
            self.line("n = n ^ -1")
        if self.sort.wide:
            self.line("key = n", f"place = to_i32({place})")
        else:
            self.line(f"key = (to_i64(n) * 4294967296) | to_i64({place})")

    def take(self, at: str) -> None:
        """The pair at an offset of memory for pairs."""
        self.line(f"key = {self.load(self.source[0], at)}", *[f"place = {self.load(b, at)}" for b in self.source[1:]])

    def put(self, at: str, key: str, place: str) -> None:
        """Into shared memory."""
        self.line(f"st_i64(keys, {at}, {key}, 60)", *[f"st_i32(order, {at}, {place}, 61)"] * self.sort.wide)

    def give(self, at: str) -> None:
        for b, name in zip(self.results, ("key", "place")):
            self.store(b, at, name)

    def before(self, key: str, place: str, other: str, its: str) -> str:
        return f"(({key} < {other}) | (({key} == {other}) & ({place} < {its})))" if self.sort.wide else f"({key} < {other})"

    def result(self, row: str, at: str) -> None:
        """The pair's place, and the element there, as the result at `at` of a row."""
        s = self.sort
        if not s.wide:
            self.line("place = to_i32(key & 4294967295)")
        self.store(s.places, f"{row} * {s.k} + {at}", "place")
        if s.values is not None:
            self.store(s.values, f"{row} * {s.k} + {at}", self.load(s.x, f"{row} * {s.n} + place"))

    def of_pieces(self, label: str, total: Size, each: int, threads: int) -> Launch:
        """`total` pieces of work, `each` of them for a block."""
        head = ["low64 = np.int64(-9223372036854775808)"] if self.sort.x.dtype is types.uint64 else []
        return self.launch(label, {"s0": total}, types.ceildiv(total, each), threads, self.results, head=head)
