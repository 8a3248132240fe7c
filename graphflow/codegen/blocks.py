"""Block kernels: the product of two blocks that lie in cache, as LLVM text.

A block kernel is native code that other kernels call by address, so that each is compiled once for all products:

    kernel(a, b, c, rows, cols, taps, depth, hop, lda, ldb, panel, ldc, add)

    C[i, j] (+)= sum over t < taps, r < depth of  A(i, t, r) * B(t * depth + r, j)      for i < rows, j < cols

All strides are counted in elements.  B lies in panels of `width` columns, `panel` apart, with `ldb` between its rows; C has `ldc`
between its rows and is added to when `add` is not 0.  A sum of no products is 0.  A(i, t, r) is at `t * hop + i * pitch + r` in a
"rows" kernel, whose pitch is part of the text so that it becomes an address constant, and at `t * hop + r * lda + i` in a "cols"
kernel.  A "tiles" kernel finds the rows of tile q, numbers rows * q // tiles up to rows * (q + 1) // tiles with
tiles = ceil(rows / Shape.rows), at `q * hop + r * LINE`: a cache line for each r.

The loop over k holds rows x vectors sums in registers (Goto and van de Geijn, 2008); rows are cut into tiles of nearly equal height,
the last vector of a tile is masked, so no work is wasted at the edges.  Pure text: imports neither LLVM nor Numba (rank 4).
"""
from __future__ import annotations

from typing import NamedTuple

from . import target


LINE = 16  # elements between the columns of a packed tile of A
AHEAD = 12  # rows of B asked for before they are multiplied ...
FEW = 4  # ... where so few rows of A use them that memory is what limits
UNROLL = 2  # more needs so many bytes of code that the loop no longer fits where decoded instructions are kept


class Shape(NamedTuple):
    """Rows and vectors of the largest register tile, and lanes of a vector."""

    rows: int
    vectors: int
    lanes: int

    @property
    def width(self) -> int:
        """Columns of a panel."""
        return self.vectors * self.lanes


@target.per_isa
def shape(kind: str) -> Shape:
    """The register tile by instruction set: sums, one row of B and a broadcast element of A fill the registers."""
    features = target.features()
    bits = 512 if "+avx512f" in features else 256 if "+avx2" in features and "+fma" in features else 128
    rows, vectors = {512: (14, 2), 256: (6, 2), 128: (8, 2)}[bits]
    return Shape(rows, vectors, bits // (64 if kind in ("f64", "i64") else 32))


_SCALAR = {"f32": "float", "f64": "double", "i32": "i32", "i64": "i64"}


@target.per_isa
def text(kind: str, pitch: int | None, tiles: bool = False, whole: bool = False) -> str:
    """The block kernel for `kind` (f32, f64, i32, i64): "rows" with this pitch, or for None "cols" or "tiles".

    whole: rows of B may be read up to the end of the last vector, past the last column.  Masked loads take a slot of the multipliers.
    """
    return _Writer(kind, pitch, tiles, whole).module()


class _Writer:
    def __init__(self, kind: str, pitch: int | None, tiles: bool, whole: bool):
        self.kind, self.pitch, self.tiles, self.whole, self.shape = kind, pitch, tiles, whole, shape(kind)
        self.scalar, lanes = _SCALAR[kind], self.shape.lanes
        self.size = 8 if kind in ("f64", "i64") else 4
        self.vector, self.mask = f"<{lanes} x {self.scalar}>", f"<{lanes} x i1>"
        self.suffix = f"v{lanes}{kind}"
        self.lines: list[str] = []
        self.count = 0

    def add(self, text: str) -> None:
        self.lines.append("  " + text)

    def new(self, text: str) -> str:
        self.count += 1
        self.add(f"%v{self.count} = {text}")
        return f"%v{self.count}"

    def module(self) -> str:
        form = f"rows {self.pitch}" if self.pitch is not None else "tiles" if self.tiles else "cols"
        form += " whole" if self.whole else ""
        s = self.shape
        tiles = "\n\n".join(self.tile(r, v) for v in range(1, s.vectors + 1) for r in range(1, s.rows + 1))
        declared = [f"declare {self.vector} @llvm.masked.load.{self.suffix}.p0(ptr, i32, {self.mask}, {self.vector})",
                    f"declare void @llvm.masked.store.{self.suffix}.p0({self.vector}, ptr, i32, {self.mask})"]
        declared.append("declare void @llvm.prefetch.p0(ptr, i32, i32, i32)")
        if self.kind[0] == "f":
            declared.append(f"declare {self.vector} @llvm.fma.{self.suffix}({self.vector}, {self.vector}, {self.vector})")
        return "\n".join([f"; block_{self.kind} {form} {s.rows}x{s.vectors}x{s.lanes}", self.driver(), "", tiles, "", *declared, ""])

    # -- over panels and tiles

    def driver(self) -> str:
        s = self.shape
        calls = []
        for v in range(1, s.vectors + 1):
            cases = " ".join(f"i64 {r}, label %call{r}x{v}" for r in range(1, s.rows + 1))
            calls.append(f"tiles{v}:\n  switch i64 %height, label %next [{cases}]")
            calls += [f"call{r}x{v}:\n  call fastcc void @tile{r}x{v}(ptr %pa, ptr %pb, ptr %pc, i64 %taps, i64 %depth, i64 %hops, "
                      f"i64 %ldas, i64 %ldbs, i64 %ldcs, i64 %add, i64 %left)\n  br label %next" for r in range(1, s.rows + 1)]
        by_width = "\n".join(f"  %fits{v} = icmp sle i64 %width, {v * s.lanes}\n"
                             f"  br i1 %fits{v}, label %tiles{v}, label %wider{v}\nwider{v}:"
                             for v in range(1, s.vectors))
        down = "mul i64 %t, %hops" if self.tiles else f"mul i64 %top, {self.size * (1 if self.pitch is None else self.pitch)}"
        return f"""define i64 @kernel(ptr %a, ptr %b, ptr %c, i64 %rows, i64 %cols, i64 %taps, i64 %depth, i64 %hop,
                   i64 %lda, i64 %ldb, i64 %panel, i64 %ldc, i64 %add) nounwind {{
entry:
  %hops = mul i64 %hop, {self.size}
  %ldas = mul i64 %lda, {self.size}
  %ldbs = mul i64 %ldb, {self.size}
  %ldcs = mul i64 %ldc, {self.size}
  %more = add i64 %rows, {s.rows - 1}
  %tiles = udiv i64 %more, {s.rows}
  %some = icmp sgt i64 %rows, 0
  %any = icmp sgt i64 %cols, 0
  %go = and i1 %some, %any
  br i1 %go, label %begin, label %done
begin:
  %products = mul i64 %taps, %depth
  %empty = icmp sle i64 %products, 0
  br i1 %empty, label %nothing, label %panels
nothing:
  %kept = icmp ne i64 %add, 0
  %across = mul i64 %cols, {self.size}
  br i1 %kept, label %done, label %clear
clear:
  %row = phi i64 [0, %nothing], [%rown, %clear]
  %downz = mul i64 %row, %ldcs
  %pz = getelementptr i8, ptr %c, i64 %downz
  call void @llvm.memset.p0.i64(ptr %pz, i8 0, i64 %across, i1 false)
  %rown = add i64 %row, 1
  %cleared = icmp sge i64 %rown, %rows
  br i1 %cleared, label %done, label %clear
panels:
  %j = phi i64 [0, %begin], [%jn, %after]
  %pb = phi ptr [%b, %begin], [%pbn, %after]
  %rest = sub i64 %cols, %j
  %width = call i64 @llvm.smin.i64(i64 %rest, i64 {s.width})
  %cj = getelementptr {self.scalar}, ptr %c, i64 %j
  br label %heights
heights:
  %t = phi i64 [0, %panels], [%tn, %next]
  %top = phi i64 [0, %panels], [%bottom, %next]
  %tn = add i64 %t, 1
  %reach = mul i64 %rows, %tn
  %bottom = udiv i64 %reach, %tiles
  %height = sub i64 %bottom, %top
  %downa = {down}
  %pa = getelementptr i8, ptr %a, i64 %downa
  %downc = mul i64 %top, %ldcs
  %pc = getelementptr i8, ptr %cj, i64 %downc
  %left = add i64 %width, 0
{by_width}
  br label %tiles{s.vectors}
{chr(10).join(calls)}
next:
  %last = icmp eq i64 %tn, %tiles
  br i1 %last, label %after, label %heights
after:
  %jn = add i64 %j, {s.width}
  %pbn = getelementptr {self.scalar}, ptr %pb, i64 %panel
  %end = icmp sge i64 %jn, %cols
  br i1 %end, label %done, label %panels
done:
  ret i64 0
}}
declare i64 @llvm.smin.i64(i64, i64)
declare void @llvm.memset.p0.i64(ptr, i8, i64, i1)"""

    # -- one tile

    def tile(self, rows: int, vectors: int) -> str:
        """C[rows, vectors * lanes] with all sums in registers; only the last vector can be cut off by the mask."""
        self.lines, self.count = [], 0
        lanes = self.shape.lanes
        counting = "<" + ", ".join(f"i64 {i}" for i in range(lanes)) + ">"
        kept = self.new(f"sub i64 %left, {(vectors - 1) * lanes}")
        many = self.new(f"insertelement <{lanes} x i64> poison, i64 {kept}, i32 0")
        every = self.new(f"shufflevector <{lanes} x i64> {many}, <{lanes} x i64> poison, <{lanes} x i32> zeroinitializer")
        mask = self.new(f"icmp slt <{lanes} x i64> {counting}, {every}")
        places = []
        for i in range(rows):
            down = self.new(f"mul i64 %ldc, {i}")
            row = self.new(f"getelementptr i8, ptr %c, i64 {down}")
            places.append([self.new(f"getelementptr {self.scalar}, ptr {row}, i64 {j * lanes}") for j in range(vectors)])
        self.add("%adding = icmp ne i64 %add, 0")
        self.add("br i1 %adding, label %old, label %outer")
        self.lines.append("old:")
        old = [[self.load(p, mask if j == vectors - 1 else None) for j, p in enumerate(row)] for row in places]
        self.add("br label %outer")
        self.lines.append("outer:")
        self.phi("tap", "i64", ("%taps", "entry"), ("%taps", "old"), ("%tapn", "tapend"))
        self.phi("ta", "ptr", ("%a", "entry"), ("%a", "old"), ("%tan", "tapend"))
        self.phi("tb", "ptr", ("%b", "entry"), ("%b", "old"), ("%pbe", "tapend"))
        for i in range(rows):
            for j in range(vectors):
                self.phi(f"s{i}_{j}", self.vector, ("zeroinitializer", "entry"), (old[i][j], "old"), (f"%e{i}_{j}", "tapend"))
        self.steps(rows, vectors, mask)
        self.lines.append("tapend:")
        for name, kind, before, after in self.ends:
            self.phi(name, kind, (before, "rest"), (after, "one"))
        self.add("%tapn = sub i64 %tap, 1")
        self.add("%tan = getelementptr i8, ptr %ta, i64 %hop")
        self.add("%tdone = icmp eq i64 %tapn, 0")
        self.add("br i1 %tdone, label %store, label %outer")
        self.lines.append("store:")
        for i in range(rows):
            for j in range(vectors):
                self.store(f"%e{i}_{j}", places[i][j], mask if j == vectors - 1 else None)
        self.add("ret void")
        return (f"define internal fastcc void @tile{rows}x{vectors}(ptr %a, ptr %b, ptr %c, i64 %taps, i64 %depth, i64 %hop, i64 %lda, "
                "i64 %ldb, i64 %ldc, i64 %add, i64 %left) nounwind noinline {\nentry:\n" + "\n".join(self.lines) + "\n}")

    def steps(self, rows: int, vectors: int, mask: str) -> None:
        """The loop over k, UNROLL at a time, then one by one; the sums end as %e."""
        sums = [f"{i}_{j}" for i in range(rows) for j in range(vectors)]
        self.add(f"%fours = udiv i64 %depth, {UNROLL}")
        self.add(f"%singles = urem i64 %depth, {UNROLL}")
        self.add("%anyfour = icmp ne i64 %fours, 0")
        self.add("br i1 %anyfour, label %four, label %rest")
        self.lines.append("four:")
        self.phi("f", "i64", ("%fours", "outer"), ("%fn", "four"))
        self.phi("fa", "ptr", ("%ta", "outer"), ("%fan", "four"))
        self.phi("fb", "ptr", ("%tb", "outer"), ("%fbn", "four"))
        for x in sums:
            self.phi(f"f{x}", self.vector, (f"%s{x}", "outer"), (f"%g{x}", "four"))
        pa, pb, current = "%fa", "%fb", {x: f"%f{x}" for x in sums}
        for u in range(UNROLL):
            current = self.step(rows, vectors, mask, pa, pb, current, "g" if u == UNROLL - 1 else f"u{u}_")
            pa, pb = self.further(pa, pb, *(("fan", "fbn") if u == UNROLL - 1 else (f"ua{u}", f"ub{u}")))
        self.add("%fn = sub i64 %f, 1")
        self.add("%fdone = icmp eq i64 %fn, 0")
        self.add("br i1 %fdone, label %rest, label %four")
        self.lines.append("rest:")
        self.phi("ra", "ptr", ("%ta", "outer"), ("%fan", "four"))
        self.phi("rb", "ptr", ("%tb", "outer"), ("%fbn", "four"))
        for x in sums:
            self.phi(f"r{x}", self.vector, (f"%s{x}", "outer"), (f"%g{x}", "four"))
        self.add("%anyone = icmp ne i64 %singles, 0")
        self.add("br i1 %anyone, label %one, label %tapend")
        self.lines.append("one:")
        self.phi("o", "i64", ("%singles", "rest"), ("%on", "one"))
        self.phi("oa", "ptr", ("%ra", "rest"), ("%oan", "one"))
        self.phi("ob", "ptr", ("%rb", "rest"), ("%obn", "one"))
        for x in sums:
            self.phi(f"o{x}", self.vector, (f"%r{x}", "rest"), (f"%h{x}", "one"))
        self.step(rows, vectors, mask, "%oa", "%ob", {x: f"%o{x}" for x in sums}, "h")
        self.further("%oa", "%ob", "oan", "obn")
        self.add("%on = sub i64 %o, 1")
        self.add("%odone = icmp eq i64 %on, 0")
        self.add("br i1 %odone, label %tapend, label %one")
        self.ends = [("pbe", "ptr", "%rb", "%obn"), *[(f"e{x}", self.vector, f"%r{x}", f"%h{x}") for x in sums]]

    def further(self, pa: str, pb: str, to_a: str, to_b: str) -> tuple[str, str]:
        """The pointers of the next k."""
        step = f"i64 {self.size}" if self.pitch is not None else f"i64 {LINE * self.size}" if self.tiles else "i64 %lda"
        self.add(f"%{to_a} = getelementptr i8, ptr {pa}, {step}")
        self.add(f"%{to_b} = getelementptr i8, ptr {pb}, i64 %ldb")
        return f"%{to_a}", f"%{to_b}"

    def step(self, rows: int, vectors: int, mask: str, pa: str, pb: str, sums: dict[str, str], to: str) -> dict[str, str]:
        """One k: a row of B times the elements of A."""
        lanes = self.shape.lanes
        at = [self.new(f"getelementptr {self.scalar}, ptr {pb}, i64 {j * lanes}") for j in range(vectors)]
        right = [self.load(p, mask if j == vectors - 1 and not self.whole else None) for j, p in enumerate(at)]
        if rows <= FEW:
            ahead = self.new(f"mul i64 %ldb, {AHEAD}")
            soon = self.new(f"getelementptr i8, ptr {pb}, i64 {ahead}")
            for j in range(vectors * lanes * self.size // 64):
                line = self.new(f"getelementptr i8, ptr {soon}, i64 {64 * j}")
                self.add(f"call void @llvm.prefetch.p0(ptr {line}, i32 0, i32 3, i32 1)")
        for i in range(rows):
            place = self.new(f"getelementptr {self.scalar}, ptr {pa}, i64 {i * (self.pitch or 1)}")
            x = self.new(f"load {self.scalar}, ptr {place}, align {self.size}")
            one = self.new(f"insertelement {self.vector} poison, {self.scalar} {x}, i32 0")
            left = self.new(f"shufflevector {self.vector} {one}, {self.vector} poison, <{lanes} x i32> zeroinitializer")
            for j in range(vectors):
                self.multiply_add(f"{to}{i}_{j}", left, right[j], sums[f"{i}_{j}"])
        return {x: f"%{to}{x}" for x in sums}

    def phi(self, name: str, kind: str, *incoming: tuple[str, str]) -> None:
        self.add(f"%{name} = phi {kind} " + ", ".join(f"[{v}, %{b}]" for v, b in incoming))

    def load(self, place: str, mask: str | None) -> str:
        if mask is None:
            return self.new(f"load {self.vector}, ptr {place}, align {self.size}")
        return self.new(f"call {self.vector} @llvm.masked.load.{self.suffix}.p0(ptr {place}, i32 {self.size}, {self.mask} {mask}, "
                        f"{self.vector} zeroinitializer)")

    def store(self, value: str, place: str, mask: str | None) -> None:
        if mask is None:
            self.add(f"store {self.vector} {value}, ptr {place}, align {self.size}")
        else:
            self.add(f"call void @llvm.masked.store.{self.suffix}.p0({self.vector} {value}, ptr {place}, i32 {self.size}, "
                     f"{self.mask} {mask})")

    def multiply_add(self, name: str, x: str, y: str, total: str) -> None:
        v = self.vector
        if self.kind[0] == "f":
            self.add(f"%{name} = call {v} @llvm.fma.{self.suffix}({v} {x}, {v} {y}, {v} {total})")
        else:
            self.add(f"%{name} = add {v} {self.new(f'mul {v} {x}, {y}')}, {total}")


# ---------------------------------------------------------------- transposing


@target.per_isa
def transpose(kind: str) -> str:
    """kernel(to, from, rows, cols, ldto, ldfrom): to[j, i] = from[i, j] for i < rows, j < cols; squares of vectors by shuffles."""
    return _Transpose(kind).module()


class _Transpose:
    def __init__(self, kind: str):
        self.kind, self.scalar, self.lanes = kind, _SCALAR[kind], shape(kind).lanes
        self.vector = f"<{self.lanes} x {self.scalar}>"
        self.size = 8 if kind in ("f64", "i64") else 4

    def module(self) -> str:
        n, t, size = self.lanes, self.scalar, self.size
        return f"""; transpose_{self.kind} {n}
define i64 @kernel(ptr %to, ptr %from, i64 %rows, i64 %cols, i64 %ldto, i64 %ldfrom) nounwind {{
entry:
  %ldt = mul i64 %ldto, {size}
  %ldf = mul i64 %ldfrom, {size}
  %some = icmp sgt i64 %rows, 0
  %any = icmp sgt i64 %cols, 0
  %go = and i1 %some, %any
  br i1 %go, label %down, label %done
down:
  %i = phi i64 [0, %entry], [%in, %downend]
  %restr = sub i64 %rows, %i
  %nr = call i64 @llvm.smin.i64(i64 %restr, i64 {n})
  %offi = mul i64 %i, %ldf
  %fi = getelementptr i8, ptr %from, i64 %offi
  %ti = getelementptr {t}, ptr %to, i64 %i
  %fullr = icmp eq i64 %nr, {n}
  br label %across
across:
  %j = phi i64 [0, %down], [%jn, %acrossend]
  %restc = sub i64 %cols, %j
  %nc = call i64 @llvm.smin.i64(i64 %restc, i64 {n})
  %f = getelementptr {t}, ptr %fi, i64 %j
  %offt = mul i64 %j, %ldt
  %d = getelementptr i8, ptr %ti, i64 %offt
  %fullc = icmp eq i64 %nc, {n}
  %full = and i1 %fullr, %fullc
  br i1 %full, label %square, label %edge
square:
{self.square()}
  br label %acrossend
edge:
  br label %edger
edger:
  %x = phi i64 [0, %edge], [%xn, %edgerend]
  %xo = mul i64 %x, %ldf
  %xp = getelementptr i8, ptr %f, i64 %xo
  br label %edgec
edgec:
  %y = phi i64 [0, %edger], [%yn, %edgec]
  %yp = getelementptr {t}, ptr %xp, i64 %y
  %value = load {t}, ptr %yp, align {size}
  %yo = mul i64 %y, %ldt
  %zp = getelementptr i8, ptr %d, i64 %yo
  %z = getelementptr {t}, ptr %zp, i64 %x
  store {t} %value, ptr %z, align {size}
  %yn = add i64 %y, 1
  %ydone = icmp eq i64 %yn, %nc
  br i1 %ydone, label %edgerend, label %edgec
edgerend:
  %xn = add i64 %x, 1
  %xdone = icmp eq i64 %xn, %nr
  br i1 %xdone, label %acrossend, label %edger
acrossend:
  %jn = add i64 %j, {n}
  %jdone = icmp sge i64 %jn, %cols
  br i1 %jdone, label %downend, label %across
downend:
  %in = add i64 %i, {n}
  %idone = icmp sge i64 %in, %rows
  br i1 %idone, label %done, label %down
done:
  ret i64 0
}}
declare i64 @llvm.smin.i64(i64, i64)
"""

    def square(self) -> str:
        """Rows exchange halves, then quarters, ... : log2(lanes) rounds of two-row shuffles."""
        n, v, lines = self.lanes, self.vector, []
        rows = []
        for i in range(n):
            lines += [f"  %fo{i} = mul i64 %ldf, {i}", f"  %fp{i} = getelementptr i8, ptr %f, i64 %fo{i}",
                      f"  %q0_{i} = load {v}, ptr %fp{i}, align {self.size}"]
            rows.append(f"%q0_{i}")
        step, turn = n // 2, 1
        while step:
            new = list(rows)
            low = [k if not k & step else n + k - step for k in range(n)]
            high = [k + step if not k & step else n + k for k in range(n)]
            for i in range(n):
                if not i & step:
                    for k, chosen in ((i, low), (i + step, high)):
                        mask = ", ".join(f"i32 {c}" for c in chosen)
                        lines.append(f"  %q{turn}_{k} = shufflevector {v} {rows[i]}, {v} {rows[i + step]}, <{n} x i32> <{mask}>")
                        new[k] = f"%q{turn}_{k}"
            rows, step, turn = new, step // 2, turn + 1
        for i in range(n):
            lines += [f"  %to{i} = mul i64 %ldt, {i}", f"  %tp{i} = getelementptr i8, ptr %d, i64 %to{i}",
                      f"  store {v} {rows[i]}, ptr %tp{i}, align {self.size}"]
        return "\n".join(lines)
