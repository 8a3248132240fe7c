"""Recomputation: values that are not kept until they are read late, but made a second time from kept ones.

Works on kernels to be (fusion's clusters) in the order in which they run: a value is made again by the very kernel that
made it first (or by the part of it between two stored values, where that cannot change a bit), so that its bits are the
same, little else is compiled, and no pass can merge the two.  The step is cut where most memory waits for late readers
(in training, where the backward pass begins).  Which values to keep across the cut is a minimum cut of a flow network:
keeping one costs its bytes, and making one again needs what its kernel
reads.  The kernels before the cut are taken in parts, and nothing is made again from beyond its part: more parts keep
more values and make fewer again at a time, as in Chen et al., "Training Deep Nets with Sublinear Memory Cost" (2016).

Knows clusters, sizes and families; knows no arena and no kernel (rank 4).
"""
from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, fields, replace
from typing import Any

from ..graph import Operation, Spec, Tensor
from .fusion import Cluster
from .program import Program

# What may be made again, cheapest first.
ELEMENTWISE, REDUCTIONS, CONTRACTIONS, NEVER = range(4)
PARTS = (1, 2, 3, 4, 5, 6, 8, 10, 12, 16, 20, 24, 32, 48)
# A value is only made again if that saves at least one byte for so many that its kernel reads and writes.
WORTH = 64
# Bytes that could be read in the time of one multiply-add of a contraction, about.
BYTES_PER_FLOP = 0.25


@dataclass(frozen=True)
class Again:
    """One way to do it: what is made again, the bytes its kernels move, and the bytes then alive at the worst moment."""

    made: frozenset[Tensor]
    cut: int
    cost: float
    peak: int
    level: int
    parts: int


class Schedule:
    """Kernels to be in the order in which they run.

    Args:
        clusters: in that order.
        nbytes: the size of a tensor.
        may_fail: whether a cluster may stop the step: it is never run a second time.
        free: tensors whose memory is there in any case.
    """

    def __init__(self, program: Program, clusters: Sequence[Cluster], nbytes: Callable[[Tensor], int],
                 may_fail: Callable[[Cluster], bool], free: Callable[[Tensor], bool]):
        self.program, self.clusters, self.nbytes = program, list(clusters), nbytes
        self.maker = {t: i for i, c in enumerate(clusters) for t in c.outputs}
        self.reads = [self._stored_inputs(c) for c in clusters]
        roots = set(program.roots())
        self.free = {t for t in self.maker if t in roots or free(t)}
        self.level = [NEVER if may_fail(c) else _level(c) for c in clusters]
        self.last = dict(self.maker)
        for i, r in enumerate(self.reads):
            self.last.update((t, i) for t in r)
        self.kernels, self.source = list(clusters), dict(self.maker)  # also those that only make again; by which a value is
        self._pieces()

    def _stored_inputs(self, c: Cluster, made: Tensor | None = None) -> list[Tensor]:
        """What other kernels made and this one (or its piece for `made`) reads, looking through ops that are part of their readers."""
        found: dict[Tensor, None] = {}
        seen, stack = set(c.ops), list(c.ops)
        while stack:
            for t in stack.pop().inputs:
                if t in self.maker:
                    if t is not made if made is not None else t not in c.outputs:
                        found[t] = None
                elif t.op not in seen:
                    seen.add(t.op)
                    stack.append(t.op)
        return list(found)

    def _pieces(self) -> None:
        """One more kernel for each of several elementwise results of one cluster, so that one is made again without the others."""
        consumers, member = self.program.consumers(), {op for c in self.clusters for op in c.ops}
        for i, c in enumerate(self.clusters):
            for t in c.outputs if len(c.outputs) > 1 and c.kind == "kernel" and self.level[i] < NEVER else ():
                ops = self._piece(c, t, consumers, member)
                if ops:
                    self.source[t] = len(self.kernels)
                    self.kernels.append(Cluster(ops, [t.op], [t], len(t.sizes)))  # type: ignore[arg-type]
                    self.reads.append(self._stored_inputs(self.kernels[-1], t))
                    self.level.append(ELEMENTWISE)

    def parted(self) -> list[Cluster]:
        """The clusters, with elementwise ones in pieces: more kernels, which need fewer values at a time."""
        return [p for i, c in enumerate(self.clusters) for p in (self._parts_of(c) if self.level[i] == ELEMENTWISE else [c])]

    def _parts_of(self, c: Cluster) -> list[Cluster]:
        """Pieces of a cluster and what is left of it, in an order that respects dependencies; itself where there is none."""
        pieces = [p for p in (self.kernels[self.source[t]] for t in c.outputs) if p is not c]
        taken = {op for p in pieces for op in p.ops}
        left = [op for op in c.ops if op not in taken]
        rest = Cluster(left, [op for op in c.staged if op not in taken], [t for t in c.outputs if t.op not in taken], c.depth)
        todo, out, done = [*pieces, *([rest] if left else [])], [], set(c.outputs)
        if left and not rest.outputs:
            return [c]
        while todo:
            ready = next((p for p in todo if done.isdisjoint(set(self._stored_inputs(p)))), None)
            if ready is None:
                return [c]
            todo.remove(ready)
            out.append(ready)
            done -= set(ready.outputs)
        return out

    def _piece(self, c: Cluster, t: Tensor, consumers: dict[Tensor, list[Operation]], member: set[Operation]) -> list[Operation]:
        """Ops of `c` that make `t` of stored values; none where a product has other readers in `c`.  `member`: ops in clusters.

        A product and a sum become one rounding where nobody else reads the product: in the piece as in the whole.
        """
        own, found, stack = set(c.ops), {t.op}, [t.op]
        while stack:
            op = stack.pop()
            if op in own and op.opdef.family not in ("elementwise", "movement"):
                return []
            for u in op.inputs:
                if u in self.maker:
                    if u.op in own and u.dtype.compute is not u.dtype:  # the cluster computes with more bits than it stores
                        return []
                elif u.op not in found and u.op.inputs:
                    found.add(u.op)
                    stack.append(u.op)
        for op in found - {t.op}:
            if op.opdef.family != "movement" and any(r not in found and (r in own or r not in member)
                                                     for u in op.outputs for r in consumers.get(u, ())):
                return []
        return [op for op in c.ops if op in found]

    # -- where to cut

    def waiting(self) -> int:
        """The step after which most bytes wait longest for a reader."""
        return self._top(lambda t: self.nbytes(t) * (self.last[t] - self.maker[t]))

    def fullest(self) -> int:
        """The step at which most bytes are alive."""
        return self._top(self.nbytes)

    def _top(self, weight: Callable[[Tensor], int]) -> int:
        changes = [0] * (len(self.clusters) + 1)
        for t, first in self.maker.items():
            if t not in self.free:
                changes[first] += weight(t)
                changes[self.last[t]] -= weight(t)
        best = at = now = 0
        for i, change in enumerate(changes):
            now += change
            if now > best:
                best, at = now, i
        return at

    # -- what to make again

    def choices(self) -> Iterator[Again]:
        """Ways to make values again: every cut, every level of cost, every number of parts."""
        seen = set()
        for cut in dict.fromkeys((self.waiting(), self.fullest())):
            late = {t for r in self.reads[cut + 1:] for t in r}
            needed = sorted((t for t in late if self.maker[t] <= cut and t not in self.free), key=self.maker.__getitem__)
            for level in (ELEMENTWISE, REDUCTIONS, CONTRACTIONS):
                for parts in PARTS:
                    if parts > max(len(needed), 1):
                        break
                    made = frozenset(self._made(needed, cut, level, parts))
                    if made and (made, cut) not in seen:
                        seen.add((made, cut))
                        cost = sum(self.cost(i) for i, again in self._steps(made, cut) if again)
                        yield Again(made, cut, cost, self._peak(made, cut), level, parts)

    def cost(self, i: int) -> float:
        """Bytes that kernel i reads and writes, and what could be read while it multiplies."""
        sizes = [self.nbytes(t) for t in (*self.reads[i], *self.kernels[i].outputs)]
        if self.level[i] < CONTRACTIONS:
            return float(sum(sizes))
        op = self.kernels[i].ops[0]
        counts = [self.nbytes(t) / t.dtype.size for t in (*op.inputs[:2], op.outputs[0])]
        return sum(sizes) + BYTES_PER_FLOP * (counts[0] * counts[1] * counts[-1]) ** 0.5  # (mk * kn * mn) ** 0.5 = mkn

    def _made(self, needed: list[Tensor], cut: int, level: int, parts: int) -> set[Tensor]:
        """Values made again: needed after the cut, or in order to make those."""
        part = self._parted(needed, cut, parts)
        kept: set[Tensor] = set()
        made: set[Tensor] = set()
        for p in reversed(range(parts)):
            here = [t for t in needed if part[self.maker[t]] == p and t not in kept]
            k, m = self._minimum_cut(here, level, kept, lambda t, p=p: part[self.maker[t]] == p)  # type: ignore[misc]
            kept |= k
            made |= m
        return made - kept

    def _parted(self, needed: list[Tensor], cut: int, parts: int) -> list[int]:
        """The part of each cluster up to the cut: parts hold about as many bytes that are needed later."""
        total = sum(map(self.nbytes, needed))
        at = [0] * (cut + 1)
        for t in needed:
            at[self.maker[t]] += self.nbytes(t)
        found, done = [], 0
        for n in at:
            found.append(min(done * parts // max(total, 1), parts - 1))
            done += n
        return found

    def _minimum_cut(self, needed: list[Tensor], level: int, kept: set[Tensor],
                     inside: Callable[[Tensor], bool]) -> tuple[set[Tensor], set[Tensor]]:
        """(values to keep, values to make again) for the cheapest way to have all of `needed`."""
        import networkx

        net = networkx.DiGraph()
        stack, seen = list(needed), set(needed)
        for t in needed:
            net.add_edge("needed", (t, "wanted"))
        while stack:
            t = stack.pop()
            net.add_edge((t, "wanted"), (t, "made"), capacity=0 if t in kept else self.nbytes(t))
            i = self.source[t]
            if not inside(t) or self.level[i] > level:
                net.add_edge((t, "made"), "kept")
                continue
            net.add_edge((t, "made"), "kept", capacity=self.cost(i) / WORTH)
            for u in self.reads[i]:
                if u not in self.free:
                    net.add_edge((t, "made"), (u, "wanted"))
                    if u not in seen:
                        seen.add(u)
                        stack.append(u)
        if not needed:
            return set(), set()
        _, (side, _) = networkx.minimum_cut(net, "needed", "kept")
        return ({t for t in seen if (t, "wanted") in side and (t, "made") not in side}, {t for t in seen if (t, "made") in side})

    # -- the new order

    def _steps(self, made: frozenset[Tensor], cut: int) -> list[tuple[int, bool]]:
        """Indices of kernels in their new order, and whether each makes something again."""
        n = len(self.clusters)
        out = [(i, False) for i in range(min(cut + 1, n))]
        done: set[int] = set()
        for i in range(cut + 1, n):
            stack = [(self.source[t], False) for t in reversed(self.reads[i]) if t in made]
            while stack:
                j, ready = stack.pop()
                if j in done:
                    continue
                if ready:
                    done.add(j)
                    out.append((j, True))
                else:
                    stack.append((j, True))
                    stack.extend((self.source[u], False) for u in reversed(self.reads[j]) if u in made and self.source[u] not in done)
            out.append((i, False))
        return out

    def peak(self) -> int:
        """Most bytes alive at a step of the order as it is."""
        return self._peak(frozenset(), len(self.clusters))

    def _peak(self, made: frozenset[Tensor], cut: int) -> int:
        """Most bytes alive at a step of the new order."""
        steps = self._steps(made, cut)
        first: dict[tuple[Tensor, bool], int] = {}
        last: dict[tuple[Tensor, bool], int] = {}
        for at, (i, again) in enumerate(steps):
            for t in self.kernels[i].outputs:
                first[t, again] = last[t, again] = at
            for t in self.reads[i]:
                last[t, t in made and (again or i > cut)] = at
        changes = [0] * (len(steps) + 1)
        for (t, again), at in first.items():
            if again or t not in self.free:
                changes[at] += self.nbytes(t)
                changes[last[t, again] + 1] -= self.nbytes(t)
        best = now = 0
        for change in changes:
            now += change
            best = max(best, now)
        return best

    def apply(self, choice: Again) -> tuple[Program, list[Cluster]]:
        """The program and its clusters in order, with values made again."""
        now, effects = _Versions(set(self.maker)), {}
        out: list[Cluster] = []
        for i, again in self._steps(choice.made, choice.cut):
            c = self.kernels[i]
            copy = now.copied(c, again)
            for old, new in zip(c.outputs, copy.outputs):
                if old is not new and (not again or old in choice.made):
                    now.of[old] = new
            effects.update(() if again else zip(c.ops, copy.ops))
            out.append(copy)
        return self.program.with_roots(lambda t: now.of.get(t, t), lambda op: effects.get(op, op)), out


def _level(c: Cluster) -> int:
    if c.kind == "host" or any(op.opdef.effect not in (None, "random") for op in c.ops):
        return NEVER
    if c.kind not in ("kernel", "scatter", "scan"):
        return CONTRACTIONS
    return ELEMENTWISE if c.kind == "kernel" and all(op.opdef._fold is None for op in c.ops) else REDUCTIONS


class _Versions:
    """Copies of ops that read the newest version of each value."""

    def __init__(self, stored: set[Tensor]):
        self.stored = stored
        self.of: dict[Tensor, Tensor] = {}

    def copied(self, c: Cluster, again: bool) -> Cluster:
        """The cluster on newest values; itself where nothing has changed, unless it runs `again`."""
        ops: dict[Operation, Operation] = {}
        for op in c.ops:
            self._copy(op, ops, set(c.ops), again)
        if all(a is b for a, b in ops.items()):
            return c

        def new(v: Any) -> Any:
            if isinstance(v, Operation):
                return ops.get(v, v)
            if isinstance(v, Tensor):
                return ops[v.op].outputs[v.value_index] if v.op in ops else v
            return type(v)(map(new, v)) if isinstance(v, (list, tuple)) else v

        return replace(c, **{f.name: new(getattr(c, f.name)) for f in fields(c)})

    def _copy(self, start: Operation, ops: dict[Operation, Operation], own: set[Operation], again: bool) -> None:
        """Fills `ops` for an op and the ops that are part of it."""
        stack = [(start, False)]
        while stack:
            op, ready = stack.pop()
            if op in ops:
                continue
            if not ready:
                stack.append((op, True))
                stack.extend((t.op, False) for t in op.inputs if t.op in own or t not in self.stored and t.op.inputs)
                continue
            inputs = tuple([ops[t.op].outputs[t.value_index] if t.op in ops and (t.op in own or t not in self.stored) else self.of.get(t, t)
                            for t in op.inputs])
            changed = any(a is not b for a, b in zip(inputs, op.inputs))
            ops[op] = _again(op, inputs, again) if changed or again and op in own else op


def _again(op: Operation, inputs: tuple[Tensor, ...], again: bool) -> Operation:
    specs = [Spec(t.dtype, t.sizes, t.known) for t in op.outputs]
    name, origin = f"{op.name}/again" if again else op.name, op.origin or (op.name,)
    return Operation(op.graph, op.id, name, op.opdef, inputs, op.control_inputs, op.attrs, specs, op.device, op.site, origin)
