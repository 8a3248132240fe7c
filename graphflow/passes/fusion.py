"""Fusion: which tensors are stored and which ops share a kernel, chosen as data.

A kernel is a set of staged ops (stored ones and folds) that share their `depth` outermost axes; everything else is
inlined into its users.  Two clusters merge along an edge when the reader asks for the producer's element at its own
outer index, no path leads out of the merged kernel and back, and the work is not multiplied.  Knows families and
hooks; knows no op by name, no target (rank 4).
"""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Callable, Sequence

from .. import types
from ..codegen import ir
from ..codegen.ir import Axis, Expr
from ..flags import flags
from ..graph import Operation, Tensor
from ..ops import control
from ..ops.opdef import Const, StandIn
from ..ops.pull import Pull, is_moved, uniform
from ..types import Size
from .again import made_again
from .program import Program

CONTROL = (control.loop_op, control.branch_op)
# A row that several stages read again should stay in the second-level cache; a kernel without outer axes runs
# its stages one after the other on one thread, which only pays for little work.
ROW_LIMIT = 1 << 16
FEW_PARTS, COMPARISONS = 16, 1 << 23  # of a concatenation that is still a kernel, though each element looks for its part
# In an unrolled program of so many ops, kernels of values of so few elements hold at most so many: long ones are all different,
# take the compiler long, and save little where memory is not the limit.
LONG_PROGRAM, SMALL_VALUE, SHORT = 1000, 1 << 16, 8
SERIAL_LIMIT = 1 << 15
# Elements up to which a value made of weights alone is kept from step to step.
ONCE_LIMIT = 1 << 18
# Points up to which a kernel costs little more than its call.
SMALL_WORK = 1 << 10
# Folds of fewer elements are not worth a search for others that read the same tensor.
SHARED = 1 << 12
# Recomputing up to this many operations is cheaper than storing and loading a value.
CHEAP = 2
_HEAVY = {"exp", "exp2", "expm1", "log", "log1p", "log2", "log10", "pow", "atan2", "sin", "cos", "tan", "asin", "acos", "atan", "sinh",
          "cosh",
          "tanh", "asinh", "acosh", "atanh", "sigmoid", "softplus", "erf", "erfc", "erfinv", "ndtri", "lgamma", "digamma", "cbrt"}


@dataclass
class Cluster:
    """One kernel to be: `staged` ops in order, sharing `depth` leading axes; `outputs` leave it."""

    ops: list[Operation]
    staged: list[Operation] = field(default_factory=list)
    outputs: list[Tensor] = field(default_factory=list)
    depth: int = 0
    kind: str = "kernel"  # or "host", "scatter", "scan", "sort", "factor", "contraction": one op run by other means


@dataclass
class Fusion:
    """The plan of kernels, in an order that respects dependencies, and why some ops stand apart."""

    clusters: list[Cluster]
    refusals: list[tuple[str, str, str]]


class _Node:
    """An op that does work: what it reads, as indices in its own axes."""

    def __init__(self, op: Operation, axes: list[Axis], reads: list[tuple[Tensor, tuple[Expr, ...]]], cost: int, fold: bool, work: int):
        self.op, self.axes, self.reads, self.cost, self.fold, self.work = op, axes, reads, cost, fold, work
        self.sizes = op.outputs[0].sizes
        self.cluster: _Group | None = None


class _Group:
    def __init__(self, number: int, node: _Node):
        self.number, self.nodes, self.above = number, [node], 0
        self.pointwise = not node.fold


def fuse(program: Program, opaque: Callable[[Operation], str | None], follows: Follows | None = None,
         place: Place = lambda op: "") -> Fusion:
    """Groups the program's ops.  `opaque(op)` names the means by which an op runs alone ("contraction"), or None.

    `place(op)` names the device an op runs on; kernels do not cross devices.

    `follows(op, cluster, stored)` gives the number of outer axes with which `cluster` can run on the rows that contraction `op`
    has just computed, or None; `stored` are the tensors in memory.

    When the kernels would be many and all different, compiling them would take longer than they save: then every op
    becomes a kernel of its own, which others of its kind share.
    """
    found = _Fuser(program, opaque, flags.fusion_limit, follows, place).run()
    return found if _to_compile(found) <= flags.compile_limit else _Fuser(program, opaque, 1, None, place).run()


def _to_compile(fusion: Fusion) -> int:
    """Ops in kernels that differ by more than constants and sizes."""
    kinds = {tuple(op.type for op in c.ops): len(c.ops) for c in fusion.clusters if c.kind == "kernel"}
    return sum(kinds.values())


def kind_of(op: Operation, opaque: Callable[[Operation], str | None]) -> str:
    d = op.opdef
    if d is StandIn:
        return "input"
    if d is Const:
        return "const"
    if d in CONTROL:
        return "control"
    if d is control.blank:
        return "blank"
    if d._numpy is not None and any(t.dtype.kind == "s" for t in (*op.inputs, *op.outputs)):
        return "host"  # no kernel works on strings
    found = opaque(op)
    if found:
        return found
    if _joins(op) and len(op.inputs) > FEW_PARTS and len(op.inputs) * elements(op.outputs[0].sizes) > COMPARISONS:
        return "host"  # a montage: NumPy copies each part, a kernel would ask each element which part it is in
    if d._scatter is not None:
        return "scatter"
    if d.family == "scan":
        return "scan"
    if d._fold is not None:
        return "fold"
    if d._lower is not None:
        return "map"
    if not op.outputs or d._numpy is not None:
        return "host"
    raise NotImplementedError(f"op {op.name!r} ({op.type}) has no kernel, no reference and was not decomposed")


def _joins(op: Operation) -> bool:
    """A concatenation: read in place, each element would have to look which part it is in."""
    return op.opdef.variadic == "values" and bool(op.outputs) and sum(t.dtype is op.outputs[0].dtype for t in op.inputs) > 1


def _is_mask(op: Operation) -> bool:
    """A comparison with a number, as in the gradient of relu: made again where it is used, it costs less than a mask in memory."""
    return op.opdef.result == "bool" and len(op.inputs) == 2 and any(t.op.opdef is Const and uniform(t.op) is not None for t in op.inputs)


def elements(sizes: Sequence[Size]) -> int:
    """The number of elements at the first binding."""
    n = 1
    for s in sizes:
        n *= types.hint(s) or 0 if types.hint(s) is not None else 1
    return n


Follows = Callable[[Operation, Cluster, set[Tensor]], "int | None"]
Place = Callable[[Operation], str]


class _Fuser:
    def __init__(self, program: Program, opaque: Callable[[Operation], str | None], limit: int, follows: Follows | None = None,
                 place: Place = lambda op: ""):
        self.program, self.opaque, self.limit, self.follows, self.place = program, opaque, limit, follows, place
        self.short = limit if len(program.ops()) < LONG_PROGRAM else min(limit, SHORT)
        self._roots = {t.op for t in program.roots()}
        self.ops = program.ops()
        self.places = {op: i for i, op in enumerate(self.ops)}
        self.kinds = {op: kind_of(op, opaque) for op in self.ops}
        self._has_opaque = any(k not in ("input", "const", "map", "fold") for k in self.kinds.values())
        self.consumers = program.consumers()
        self.required = self._required()
        self.invariant = self._invariant()
        self.levels = self._levels()
        self.copied: set[Operation] = set()
        if flags.optimize and limit > 1:
            self.copied = made_again(self.ops, self.kinds, self.consumers, self.required, self.inlined, elements)
        self.nodes: dict[Operation, _Node] = {}
        self.groups: list[_Group] = []
        self.live: set[_Group] = set()
        self.users: dict[Operation, list[_Node]] = {}
        self.folds_of: dict[Tensor, list[_Node]] = {}
        self.refusals: list[tuple[str, str, str]] = []

    def _required(self) -> set[Operation]:
        """Ops whose result must be in memory: fetched, assigned, or read by something that is no kernel."""
        found = {t.op for t in self.program.roots()}
        for op in self.ops:
            if self.kinds[op] in ("host", "scan", "sort", "factor", "control"):
                found.update(t.op for t in op.inputs)
            elif self.kinds[op] in ("contraction", "attention"):
                found.update(self._past_moves(op))
        return found

    def _invariant(self) -> set[Operation]:
        """Ops of constants, and of variables that the program does not write."""
        written = {var for var, _ in self.program.writes}
        found = {t.op for kind, what, t in self.program.inputs if kind == "variable" and what not in written}
        for op in self.ops:
            if self.kinds[op] not in ("input", "host", "control", "blank") and all(t.op in found for t in op.inputs):
                found.add(op)
        return found

    def _levels(self) -> dict[Operation, int]:
        """For each op how often values go from one device to another before it, on the longest way; empty where none does.

        What is made of inputs alone by little work is no reason to begin early: it is on the level of its readers.
        """
        places = {op: self.place(op) if self.kinds[op] not in ("input", "const") else "" for op in self.ops}
        found: dict[Operation, int] = {}
        light: set[Operation] = set()
        for op in self.ops if len(set(places.values()) - {""}) > 1 else ():
            found[op] = max((found[t.op] + (places[t.op] not in ("", places[op]) and places[op] != "") for t in op.inputs), default=0)
            if self.kinds[op] in ("input", "const", "map") and all(t.op in light for t in op.inputs):
                light.add(op)
        for op in reversed(self.ops) if found else ():
            if op in light and op not in self._roots:
                found[op] = min((found[r] for t in op.outputs for r in self.consumers.get(t, ()) if places[r] == places[op]),
                                default=found[op])
        return found

    def _apart(self, producer: Operation, reader: Operation) -> str:
        """Why two ops cannot be one kernel wherever they are."""
        if self.place(producer) != self.place(reader):
            return "they run on different devices"
        if self.levels and self.levels[producer] != self.levels[reader]:
            return "the first would wait, as the other does, for another device"
        return ""

    def _past_moves(self, op: Operation) -> set[Operation]:
        """The producers of a contraction's operands; moves in between become part of its packing."""
        out: set[Operation] = set()
        stack = [t.op for t in op.inputs]
        while stack:
            p = stack.pop()
            if self.kinds[p] == "map" and is_moved(p) and not _joins(p):
                stack.extend(t.op for t in p.inputs)
            elif p.inputs or self.kinds[p] != "map":
                out.add(p)
        return out

    def inlined(self, op: Operation) -> bool:
        """Ops that only move or widen elements, or make them of nothing, are never a node of their own unless required."""
        return self.kinds[op] == "map" and op not in self.required and (
            is_moved(op) or not op.inputs or _is_mask(op) or op in self.copied)

    def run(self) -> Fusion:
        for op in self.ops:
            if self.kinds[op] in ("map", "fold") and not self.inlined(op):
                self._add(op)
        return Fusion(self._ordered(), self.refusals)

    # -- nodes

    def _add(self, op: Operation) -> None:
        node = self.nodes[op] = self._node(op)
        group = node.cluster = _Group(len(self.groups), node)
        self.groups.append(group)
        self.live.add(group)
        for t, _ in node.reads:
            self.users.setdefault(t.op, []).append(node)
            if t.op in self.nodes:
                other = self.nodes[t.op].cluster
                assert other is not None
                group.above |= 1 << other.number | other.above
        for source in self._behind(op):
            if self.kinds[source] not in ("input", "const"):
                group.above |= self._above_opaque(source)
        for producer in dict.fromkeys(t.op for t, _ in node.reads):  # a montage reads the same images a thousand times
            if producer in self.nodes:
                self._try_merge(self.nodes[producer], node)
        if node.fold:
            self._beside(node)
        if node.fold:  # values that were in the way as stored ones may now live inside the fold
            for inner in list(node.cluster.nodes):
                for producer in dict.fromkeys(t.op for t, _ in inner.reads):
                    if producer in self.nodes and inner is not node:
                        self._try_merge(self.nodes[producer], inner)

    def _beside(self, node: _Node) -> None:
        """Folds over the same axes of one large tensor share a pass over it."""
        if node.work <= SHARED:
            return
        assert node.cluster is not None
        inside = {n.op for n in node.cluster.nodes}
        for t in dict.fromkeys(t for n in node.cluster.nodes for t, _ in n.reads if t.op not in inside):
            if elements(t.sizes) * 2 > node.work:  # type: ignore[arg-type]
                for other in self.folds_of.setdefault(t, []):
                    if other.sizes == node.sizes and other.work == node.work and other.cluster is not node.cluster:
                        self._join(other, node)
                self.folds_of[t].append(node)

    def _join(self, first: _Node, second: _Node) -> None:
        a, b = first.cluster, second.cluster
        assert a is not None and b is not None
        why = self._refuse(a, b, first, second, True) or self._too_wide(a.nodes + b.nodes)
        if why:
            self.refusals.append((first.op.name, second.op.name, why))
        else:
            self._merge(a, b, False)

    def _node(self, op: Operation) -> _Node:
        reads: list[tuple[Tensor, tuple[Expr, ...]]] = []

        def leaf(t: Tensor, index: tuple[Expr, ...]) -> Expr | None:
            if t.op.opdef is Const and uniform(t.op) is not None or self.inlined(t.op):
                return None
            reads.append((t, index))
            return ir.make("load", index, t.dtype.compute, t)

        pull = Pull(leaf)
        axes = [Axis(s) for s in op.outputs[0].sizes]
        index = [ir.index_const(0) if types.same(a.extent, 1) else ir.axis(a) for a in axes]
        fold = self.kinds[op] == "fold"
        found = pull.fold(op, index) if fold else None
        expr = found.expr if found is not None else pull.inside(op, index)
        work = elements([a.extent for a in (*axes, *(found.axes if found is not None else ()))])
        cost = sum(8 if e.op in _HEAVY else 1 for e in ir.walk(expr) if e.op in ir.SCALAR and e.dtype is not types.int64)
        return _Node(op, axes, list(dict.fromkeys(reads)), cost, fold, work)

    def _behind(self, op: Operation) -> list[Operation]:
        """Producers reached through inlined ops."""
        out, stack = [], [t.op for t in op.inputs]
        while stack:
            p = stack.pop()
            if self.inlined(p):
                stack.extend(t.op for t in p.inputs)
            else:
                out.append(p)
        return out

    def _above_opaque(self, op: Operation) -> int:
        """Groups above an op that runs alone (host, contraction, ...)."""
        found = self._opaque_cache.get(op)
        if found is None:
            found = 0
            for p in self._behind(op):
                if p in self.nodes:
                    g = self.nodes[p].cluster
                    assert g is not None
                    found |= 1 << g.number | g.above
                elif self.kinds[p] not in ("input", "const"):
                    found |= self._above_opaque(p)
            if op not in self.nodes:
                self._opaque_cache[op] = found
        return found

    @property
    def _opaque_cache(self) -> dict[Operation, int]:
        return self.__dict__.setdefault("_cache", {})

    # -- merging

    def _try_merge(self, producer: _Node, reader: _Node) -> None:
        a, b = producer.cluster, reader.cluster
        assert a is not None and b is not None
        if a is b:
            return
        aligned = a.pointwise and b.pointwise and self._pointwise(producer, reader)
        why = self._refuse(a, b, producer, reader, aligned)
        if why:
            self.refusals.append((producer.op.name, reader.op.name, why))
            return
        self._merge(a, b, aligned)

    def _pointwise(self, producer: _Node, reader: _Node) -> bool:
        """Whether the reader has the producer's shape and reads it at its own index only."""
        rank = len(reader.axes)
        return len(producer.sizes) == rank and all(_aligned(index, reader) == rank for t, index in reader.reads if t.op is producer.op) \
            and tuple(producer.sizes) == tuple(reader.sizes)

    def _refuse(self, a: _Group, b: _Group, producer: _Node, reader: _Node, aligned: bool) -> str:
        if not flags.optimize:
            return "optimisation is off"
        if apart := self._apart(producer.op, reader.op):
            return apart
        together = len(a.nodes) + len(b.nodes)
        if together > self.short and self.limit > 1 and all(elements(n.sizes) <= SMALL_VALUE for n in (*a.nodes, *b.nodes)):
            return f"the kernel would exceed {self.short} ops on small values, of which this long program has many"
        if together > self.limit:
            return (f"the kernel would exceed {self.limit} ops" if self.limit > 1
                    else f"over {flags.compile_limit} ops would be compiled into kernels used once")
        if self._computed_once(a, b):
            return "it stays the same until a variable is written: it is computed then, not at every step"
        if self._delays(a, b):
            return "others would wait for all that the reader waits for"
        if self._cycle(a, b):
            return "a value would have to leave the kernel and come back"
        if aligned:
            return ""
        if not producer.fold and not reader.fold and self._multiplies(producer, reader):
            return "the reader would recompute it many times"
        if reader.fold and not producer.fold and self._multiplies(producer, reader):
            return "the reduction would recompute it many times"
        return self._too_wide(a.nodes + b.nodes)

    def _too_wide(self, nodes: list[_Node]) -> str:
        """Why stages would not find each other's values in cache, or not run on several threads."""
        depth, staged = self._depth(nodes), self._staged(nodes)
        if all(elements(n.sizes) == 1 for n in staged):  # sums over everything are cut into pieces
            return ""
        if depth == 0 and len(nodes[0].sizes) + len(nodes[-1].sizes) and sum(n.work for n in nodes) > SERIAL_LIMIT:
            return "they share no outer axis"
        inner = max((elements(n.sizes[depth:]) for n in nodes), default=1)
        passes = sum(n.fold or elements(n.sizes[depth:]) > 1 for n in staged)
        if inner > ROW_LIMIT and passes > 1 and any(n.fold for n in nodes):
            return "a row would not stay in cache"
        return ""

    def _computed_once(self, a: _Group, b: _Group) -> bool:
        """Whether `a` depends on weights only, `b` on more, and `a` is work worth keeping the result of."""
        return (any(n.fold for n in a.nodes) or sum(n.cost for n in a.nodes) > CHEAP) and all(n.op in self.invariant for n in a.nodes) \
            and not all(n.op in self.invariant for n in b.nodes) and max(elements(n.sizes) for n in a.nodes) <= ONCE_LIMIT

    def _delays(self, a: _Group, b: _Group) -> bool:
        """Whether small values that others read too, such as a step's learning rate, would wait for the reader's large operands.

        Those others would then run late, and what they read would be kept until then.
        """
        if sum(n.work for n in a.nodes) > SMALL_WORK or not any(self._escapes(n, {m.op for m in (*a.nodes, *b.nodes)}) for n in a.nodes):
            return False
        between, small = b.above & ~(a.above | 1 << a.number), max(256, 16 * max(n.work for n in a.nodes))
        return any(between >> g.number & 1 and max(n.work for n in g.nodes) > small for g in self.live) or any(
            self.kinds[p] not in ("input", "const") and p not in self.nodes and not self._above_opaque(p) >> a.number & 1
            for n in b.nodes for p in self._behind(n.op))

    def _multiplies(self, producer: _Node, reader: _Node) -> bool:
        """Whether inlining computes elements again that hoisting does not save."""
        if reader.fold and reader.work > max(SMALL_WORK, elements(producer.sizes)) and self._chain(producer) > CHEAP:
            return True  # over other axes too: a query against every row of a memory
        if producer.cost <= CHEAP:
            return False
        more = elements([a.extent for a in reader.axes]) > elements(producer.sizes)
        if reader.fold:
            return any(index_axes(i) is None for t, i in reader.reads if t.op is producer.op)
        for t, index in reader.reads:
            if t.op is producer.op and more and not self._prefix(index, reader):
                return True
        return False

    def _chain(self, producer: _Node) -> int:
        """What an element of the producer costs, with the values of its kernel that it is made of."""
        seen, stack = {producer.op: producer}, [producer]
        while stack:
            for t, _ in stack.pop().reads:
                n = self.nodes.get(t.op)
                if n is not None and n.cluster is producer.cluster and not n.fold and n.op not in seen:
                    seen[n.op] = n
                    stack.append(n)
        return sum(n.cost for n in seen.values())

    def _prefix(self, index: Sequence[Expr], reader: _Node) -> bool:
        """The element depends on leading axes only, so the emitter hoists it out of the inner loop."""
        used = ir.axes_in(*index)
        return used <= set(reader.axes[:max(len(reader.axes) - 1, 0)])

    def _cycle(self, a: _Group, b: _Group) -> bool:
        """Whether some other group lies on a path between the two."""
        for upper, lower in ((a, b), (b, a)):
            between = lower.above & ~(1 << upper.number)
            while between:
                bit = between & -between
                between ^= bit
                g = self.groups[bit.bit_length() - 1]
                if g is not upper and g is not lower and g.above >> upper.number & 1:
                    return True
        return bool(a.above >> b.number & 1 and b.above >> a.number & 1) or self._has_opaque and self._through_opaque(a, b)

    def _through_opaque(self, a: _Group, b: _Group) -> bool:
        """Whether an op that runs alone lies on a path from `a` to `b`."""
        return any(self._above_opaque(p) >> a.number & 1 for n in b.nodes for p in self._behind(n.op)
                   if p not in self.nodes and self.kinds[p] not in ("input", "const"))

    def _merge(self, a: _Group, b: _Group, aligned: bool) -> None:
        keep, gone = (a, b)
        keep.pointwise = keep.pointwise and gone.pointwise and aligned
        keep.nodes = sorted(a.nodes + b.nodes, key=lambda n: self.places[n.op])
        keep.above = (a.above | b.above) & ~(1 << keep.number | 1 << gone.number)
        for n in gone.nodes:
            n.cluster = keep
        bits = 1 << keep.number | 1 << gone.number
        self.live.discard(gone)
        for g in self.live:
            if g.above & bits:
                g.above |= keep.above | 1 << keep.number
        if self._has_opaque:
            self._opaque_cache.clear()

    def _staged(self, nodes: list[_Node]) -> list[_Node]:
        """Nodes of a would-be kernel that are stored: folds, and values used elsewhere."""
        inside = {n.op for n in nodes}
        return [n for n in nodes if n.fold or n.op in self.required or self._escapes(n, inside)]

    def _escapes(self, n: _Node, inside: set[Operation]) -> bool:
        """Read by an op outside the kernel (looking through inlined ops)."""
        stack = list(self.consumers.get(n.op.outputs[0], ()))
        while stack:
            c = stack.pop()
            if c in inside:
                continue
            if not self.inlined(c):
                return True
            stack.extend(self.consumers.get(c.outputs[0], ()))
        return not self.consumers.get(n.op.outputs[0])

    def _depth(self, nodes: list[_Node]) -> int:
        """How many leading axes all staged nodes share, reading each other only at the same outer index."""
        staged = self._staged(nodes)
        first = staged[0].sizes
        depth = min(len(n.sizes) for n in staged)
        for n in staged:
            depth = next((i for i in range(depth) if n.sizes[i] != first[i]), depth)
        ops = {n.op for n in staged}
        by_op = {n.op: n for n in nodes}
        for n in staged:
            for _, index in self._reads_of_staged(n, ops, by_op):
                depth = min(depth, _aligned(index, n))
        return depth

    def _reads_of_staged(self, n: _Node, staged: set[Operation], nodes: dict[Operation, _Node]) -> list[tuple[Tensor, tuple[Expr, ...]]]:
        """Staged values that node n reads, through unstaged nodes inlined into it."""
        out: list[tuple[Tensor, tuple[Expr, ...]]] = []
        stack, seen = list(n.reads), set()
        while stack:
            t, index = stack.pop()
            if (key := (t, *map(id, index))) in seen:  # values that several inlined ones read: expressions are interned
                continue
            seen.add(key)
            if t.op in staged:
                out.append((t, index))
            elif t.op in nodes:
                inner = nodes[t.op]
                place = dict(zip(inner.axes, index))
                stack.extend((u, tuple(ir.substitute(e, place) for e in i)) for u, i in inner.reads)
        return out

    # -- result

    def _ordered(self) -> list[Cluster]:
        """Clusters and single ops in dependency order."""
        made: dict[int, Cluster] = {}
        units: list[Cluster] = []
        unit_of: dict[Operation, Cluster] = {}
        for op in self.ops:
            node = self.nodes.get(op)
            if node is not None:
                assert node.cluster is not None
                c = made.get(id(node.cluster))
                if c is None:
                    c = made[id(node.cluster)] = self._cluster(node.cluster)
                    units.append(c)
                unit_of[op] = c
            elif self.kinds[op] in ("host", "scatter", "scan", "sort", "factor", "contraction", "attention", "control", "blank"):
                c = Cluster([op], [op], list(op.outputs), 0, self.kinds[op])
                units.append(c)
                unit_of[op] = c
        ordered = self._sort(units, unit_of)
        return self._attach(ordered, unit_of) if self.follows is not None and self.limit > 1 and flags.optimize else ordered

    # -- what follows a contraction runs on its blocks

    def _attach(self, units: list[Cluster], unit_of: dict[Operation, Cluster]) -> list[Cluster]:
        """Joins a contraction with a kernel that reads its result row by row, where no path leads out and back."""
        stored = {t for c in units for t in c.outputs}
        attached = False
        for c in [u for u in units if u.kind == "contraction"]:
            result = c.ops[0].outputs[0]
            readers = [unit_of[r] for r in self._readers(result) if r in unit_of]
            for k in dict.fromkeys(map(id, readers)):
                reader = next(r for r in readers if id(r) == k)
                if apart := self._apart(c.ops[0], reader.ops[0]):
                    self.refusals.append((c.ops[0].name, reader.ops[-1].name, apart))
                    continue
                if reader.kind != "kernel" or self._between(c, reader, unit_of):
                    self.refusals.append((c.ops[0].name, reader.ops[-1].name, "a value would have to leave the kernel and come back"))
                    continue
                depth = self.follows(c.ops[0], reader, stored)  # type: ignore[misc]
                if depth is None:
                    self.refusals.append((c.ops[0].name, reader.ops[-1].name, "it does not read the product row by row"))
                    continue
                kept = [result] if c.ops[0] in self._roots or any(unit_of.get(r) is not reader for r in self._readers(result)) else []
                joined = Cluster([c.ops[0], *reader.ops], reader.staged, [*kept, *reader.outputs], depth, "contraction")
                for op in joined.ops:
                    unit_of[op] = joined
                units = [joined if u is reader else u for u in units if u is not c]
                attached = True
                break
        return self._sort(units, unit_of) if attached else units

    def _readers(self, t: Tensor) -> list[Operation]:
        """The ops that read `t`, through inlined ones."""
        out, stack = [], list(self.consumers.get(t, ()))
        while stack:
            op = stack.pop()
            if self.inlined(op):
                stack.extend(self.consumers.get(op.outputs[0], ()))
            else:
                out.append(op)
        return list(dict.fromkeys(out))

    def _between(self, c: Cluster, reader: Cluster, unit_of: dict[Operation, Cluster]) -> bool:
        """Whether something else stands on a path from `c` to `reader`."""
        seen: set[int] = {id(reader)}
        stack = [u for u in self._needs(reader, unit_of) if u is not c]
        while stack:
            u = stack.pop()
            if u is c:
                return True
            if id(u) not in seen:
                seen.add(id(u))
                stack.extend(self._needs(u, unit_of))
        return False

    def _needs(self, c: Cluster, unit_of: dict[Operation, Cluster]) -> list[Cluster]:
        found = {id(unit_of[p]): unit_of[p] for op in c.ops for p in self._behind(op) if p in unit_of and unit_of[p] is not c}
        return list(found.values())

    def _cluster(self, g: _Group) -> Cluster:
        staged = self._staged(g.nodes)
        inside = {n.op for n in g.nodes}
        depth = self._depth(g.nodes)
        # A fold that is not one scalar per iteration of the outer loops needs memory too.
        outputs = [n.op.outputs[0] for n in staged if n.op in self.required or self._escapes(n, inside)
                   or n.fold and not all(types.same(s, 1) for s in n.sizes[depth:])]
        return Cluster([n.op for n in g.nodes], [n.op for n in staged], outputs, depth)

    def _sort(self, units: list[Cluster], unit_of: dict[Operation, Cluster]) -> list[Cluster]:
        needs = {id(c): {id(unit_of[p]): unit_of[p] for op in c.ops for p in self._behind(op) if p in unit_of and unit_of[p] is not c}
                 for c in units}
        done: set[int] = set()
        out: list[Cluster] = []
        for start in units:
            stack = [(start, False)]
            while stack:
                c, ready = stack.pop()
                if id(c) in done:
                    continue
                if ready:
                    done.add(id(c))
                    out.append(c)
                else:
                    stack.append((c, True))
                    stack.extend((p, False) for p in needs[id(c)].values() if id(p) not in done)
        return out


def _aligned(index: Sequence[Expr], reader: _Node) -> int:
    """How many leading positions of `index` are the reader's own leading axes."""
    for p, (e, a) in enumerate(zip(index, reader.axes)):
        if not (e.op == "axis" and e.data is a) and not (types.same(a.extent, 1) and e.op == "const"):
            return p
    return min(len(index), len(reader.axes))


def index_axes(index: Sequence[Expr]) -> list[Axis] | None:
    """The axes of an index made of bare axes and zeros only, else None."""
    out = []
    for e in index:
        if e.op == "axis":
            out.append(e.data)
        elif e.op != "const":
            return None
    return out
