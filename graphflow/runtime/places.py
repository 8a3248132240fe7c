"""What of a graph or program is connected, and where its parts go so that little is copied.

A *place* is the short name of a device ("CPU:0", "GPU:1").  What is decided before (`tf.device`, ops without a GPU kernel, variables)
comes in as `fixed`; `Choice` gives the rest a place.  Knows control flow and families; knows no device string (rank 5).
"""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Collection, Iterable, NamedTuple

from .. import types
from ..graph import Operation, Region, Tensor
from ..ops import control
from ..ops.opdef import StandIn
from ..passes.apart import FEW
from .able import WORKLESS, comes_from_nothing

CPU = "CPU:0"
# Elements read and written by work that is not worth a kernel launch and two copies (some 20 microseconds).
LITTLE = 1 << 14
# Ops that own others; each of their results has a place of its own.
OWNERS = (control.loop_op, control.branch_op, control.while_op, control.cond_op)


class Sets:
    """Disjoint sets of things that are to be in one place."""

    def __init__(self) -> None:
        self.up: dict[Any, Any] = {}

    def find(self, x: Any) -> Any:
        up, root = self.up, x
        while (above := up.get(root, root)) is not root:
            root = above
        while (above := up.get(x, x)) is not root:
            up[x], x = root, above
        return root

    def join(self, a: Any, b: Any) -> None:
        a, b = self.find(a), self.find(b)
        if a is not b:
            self.up[b] = a


def where(t: Tensor) -> Any:
    """What has a place: an op, or a result of a branch or loop, each of which may be elsewhere."""
    op = t.op
    return t if op.opdef in OWNERS else op


class Loop(NamedTuple):
    """goes_on: what decides.  params: what each loop variable is called before it, in condition, in body.  news: the next values.

    regions: those of the loop, in a user's graph.
    """

    goes_on: Tensor
    params: list[list[Tensor]]
    news: list[Tensor]
    regions: tuple[Region, ...] = ()


@dataclass
class View:
    """What of a graph or program matters here.

    ops: producers before users.  reads: (tensor, place of the reader, how): "data", "host" (its value must be known to the host), "shape"
    (only its sizes).  links: one value under two names.
    """

    ops: list[Operation] = field(default_factory=list)
    reads: list[tuple[Tensor, Any, str]] = field(default_factory=list)
    links: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    loops: list[Loop] = field(default_factory=list)
    names: dict[Tensor, Tensor] = field(default_factory=dict)  # of captures: what they are called outside

    def link(self, pairs: Iterable[tuple[Tensor | None, Tensor | None]]) -> None:
        self.links += [(a, b) for a, b in pairs if a is not None and b is not None]

    def read(self, op: Operation) -> None:
        d = op.opdef
        special = d.static or d.shape_only
        for i, t in enumerate(op.inputs):
            name = d.param_name(i) if special else ""
            self.reads.append((t, op, "host" if name in d.static else "shape" if name in d.shape_only else "data"))
            self._outside(t, *self.reads[-1][1:])

    def asked(self, t: Tensor) -> None:
        """The host reads a boolean: it decides how to go on."""
        self.reads.append((t, None, "host"))
        self._outside(t, None, "host")

    def _outside(self, t: Tensor, reader: Any, how: str) -> None:
        while t in self.names:
            t = self.names[t]
            self.reads.append((t, reader, how))


def view_of_graph(ops: Iterable[Operation]) -> View:
    """Of ops of a user's graph in creation order, those in branches and loops included."""
    view = View()
    for op in ops:
        view.ops.append(op)
        regions, d = control.regions_of(op), op.opdef
        if d is control.while_op:
            n = op.attrs["count"]
            ask, work = regions
            view.link(zip(op.inputs, work.params))
            view.link(zip(ask.params, work.params))
            view.link(zip(work.results, work.params))
            view.link(zip(work.params, op.outputs))
            view.link(zip([v.outputs[0] for v in op.attrs["writes"]], op.outputs[n:]))
            view.asked(ask.results[0])
            view.loops.append(Loop(ask.results[0], [list(p) for p in zip(ask.params, work.params)], work.results[:n], regions))
        elif regions:
            view.asked(op.inputs[0])
            for region in regions:
                view.link(zip(region.results, op.outputs))
            view.link(zip([v.outputs[0] for v in op.attrs["writes"]], op.outputs[len(regions[0].results):]))
        elif d is control.saved_op:
            view.link([(op.attrs["tensor"], op.outputs[0])])
        elif d is control.captured_op:
            view.link([(op.attrs["owner"].inputs[op.attrs["position"]], op.outputs[0])])
        else:
            view.read(op)
    return view


def view_of_program(program: Any) -> View:
    """Of an optimised program and all inside its branches and loops."""
    view, seen = View(), set()

    def visit(p: Any) -> None:
        for op in p.ops():
            if op in seen:  # constants are shared by the programs around
                continue
            seen.add(op)
            if op.opdef is control.loop_op:
                loop(op)
            elif op.opdef is control.branch_op:
                view.asked(op.inputs[0])
                for inner in op.attrs["branches"]:
                    captured(op, inner, 1)
                    visit(inner)
                    view.link(zip(inner.outputs, op.outputs))
            else:
                view.read(op)
            view.ops.append(op)

    def captured(op: Operation, inner: Any, first: int) -> None:
        view.names.update({t: op.inputs[first + what] for kind, what, t in inner.inputs if kind == "capture"})

    def loop(op: Operation) -> None:
        ask, work = op.attrs["cond"], op.attrs["body"]
        params = [{slot: t for kind, slot, t in p.inputs if kind == "variable"} for p in (ask, work)]
        slots = [slot for kind, slot, _ in work.inputs if kind == "variable"]
        news = [t for _, t in work.writes]
        for p in (ask, work):
            captured(op, p, len(slots))
            visit(p)
        for p in params:
            view.link((t, p.get(slot)) for t, slot in zip(op.inputs, slots))
        view.link((params[1].get(s), t) for s, t in zip(slots, news))
        view.link((params[1].get(s), t) for s, t in zip(slots, op.outputs))
        view.link((params[1].get(s), params[0].get(s)) for s in slots)
        if op.attrs["trip"] is None or op.attrs["checked"]:  # of others the host knows how often they go on before they begin
            view.asked(ask.outputs[0])
            begun = [[t] if t.op.opdef is control.start else [] for t in op.inputs]
            view.loops.append(Loop(ask.outputs[0], [[*first, *[p[s] for p in params if s in p]] for first, s in zip(begun, slots)], news))

    visit(program)
    return view


# ---------------------------------------------------------------- the choice


def _elements(sizes: types.Shape) -> float:
    """How many, at the first binding; endless where nobody knows."""
    n = 1.0
    for s in sizes if sizes is not None else (types.UNKNOWN,):
        known = types.hint(s)
        n *= float("inf") if known is None else known
    return n


def _work(x: Any) -> float:
    """Elements that an op reads and writes; none where it only hands on."""
    if isinstance(x, Tensor) or x.opdef.family in WORKLESS or x.opdef is StandIn:
        return 0.0
    sizes = x.opdef.shape_only
    read = x.inputs if not sizes else [t for i, t in enumerate(x.inputs) if x.opdef.param_name(i) not in sizes]
    return sum(0.0 if n != n else n for n in (_elements(t.sizes) for t in (*read, *x.outputs)))


def deciding(view: View) -> set[Operation]:
    """All that decides whether loops go on, where that is a few numbers computed from a few numbers."""
    found: set[Operation] = set()
    there = set(view.ops)
    for loop in view.loops:
        slot_of = {t: k for k, names in enumerate(loop.params) for t in names}
        slots: set[int] = set()
        ops: dict[Operation, None] = {}
        todo, small = [loop.goes_on], True
        while todo and small:
            t = todo.pop()
            inside = t.op in there and (not loop.regions or t.op.region in loop.regions)
            if t in slot_of:
                if slot_of[t] not in slots:
                    slots.add(slot_of[t])
                    todo.append(loop.news[slot_of[t]])
            elif inside and t.op not in ops and t.op.opdef is not StandIn and not comes_from_nothing(t.op):
                ops[t.op] = None
                todo += t.op.inputs
            small = _elements(t.sizes) <= FEW and not (inside and t.op.opdef in OWNERS)
        if small:
            found.update(ops)
            found.update(t.op for k in slots for t in loop.params[k])
    return found


class Choice:
    """Places for all of a view whose place is not `fixed`: a device's short name by op, or by result of a branch or loop.

    together: sets whose members share a place.  neutral: fixed ones that say nothing about their neighbours.
    """

    def __init__(self, view: View, fixed: dict[Any, str], together: Sets, neutral: Collection[Any] = (), follow: Collection[Any] = ()):
        self.view, self.fixed, self.together = view, fixed, together
        self.neutral, self.follow = set(neutral), set(follow)
        self.why: dict[Any, str] = {}
        self.places = dict(fixed)

    def run(self) -> dict[Any, str]:
        self._shapes()
        self._computed()
        self._given()
        return self.places

    def _shapes(self) -> None:
        """What only becomes sizes, axes or another number that the host must know."""
        readers: dict[Any, list[tuple[Any, str]]] = {}
        for t, reader, how in self.view.reads:
            readers.setdefault(where(t), []).append((reader, how))
        linked = {where(t) for pair in self.view.links for t in pair}
        for op in reversed(self.view.ops):
            if op in self.places or op in self.follow or op in linked or self.together.find(op) is not op:
                continue
            mine = readers.get(op, ())
            sized = bool(mine) and all(how != "data" or r in self.neutral and self.places.get(r) == CPU for r, how in mine) and all(
                t.dtype.kind in "iub" for t in op.outputs) and _work(op) <= LITTLE
            if sized:
                self.places[op], self.why[op] = CPU, "the host needs its value: a size, an axis or the like"
                self.neutral.add(op)
            elif all(t.known is not None for t in op.outputs) and op.outputs:
                self.follow.add(op)  # it follows from shapes and constants: no work, wherever it is

    def _computed(self) -> None:
        near: dict[Any, set[str]] = {}
        sets = self.together
        seen: dict[Any, None] = {}

        def touch(x: Any, device: str) -> None:
            near.setdefault(x, set()).add(device)

        def meet(a: Any, b: Any) -> None:
            for x in (a, b):
                if x in self.follow or x in self.neutral:
                    return
            pa, pb = self.places.get(a), self.places.get(b)
            if pa is None and pb is None:
                sets.join(a, b)
            elif pa is None:
                touch(a, pb)  # type: ignore[arg-type]
            elif pb is None:
                touch(b, pa)

        for op in self.view.ops:
            for x in [where(t) for t in op.outputs] or [op]:
                if x not in self.places and x not in self.follow:
                    seen[x] = None
        for t, reader, how in self.view.reads:
            if how == "data":
                meet(where(t), reader)
            elif how == "host" and where(t) in seen:
                touch(where(t), CPU)
        for a, b in self.view.links:
            meet(where(a), where(b))
        work: dict[Any, float] = {}
        around: dict[Any, set[str]] = {}
        for x in seen:
            root = sets.find(x)
            work[root] = work.get(root, 0.0) + _work(x)
            around.setdefault(root, set()).update(near.get(x, ()))
        for x in seen:
            root = sets.find(x)
            gpus = sorted(d for d in around[root] if d.startswith("GPU"))
            if not gpus and around[root] and work[root] <= LITTLE:
                self.places[x], self.why[x] = CPU, "little work between ops of the CPU"
            else:
                self.places[x] = gpus[0] if len(gpus) == 1 else "GPU:0"
                self.why[x] = "a GPU kernel can be made for it"

    def _given(self) -> None:
        """Constants, feeds and what follows from shapes: where they are read."""
        readers: dict[Any, list[Any]] = {}
        pairs = [(where(t), r, how) for t, r, how in self.view.reads]
        pairs += [p for a, b in self.view.links for p in ((where(a), where(b), "data"), (where(b), where(a), "data"))]
        for x, reader, how in pairs:
            if x in self.follow:
                readers.setdefault(x, []).append(reader if how == "data" else None)
        for x in reversed(self.view.ops):  # readers before what they read
            if x in self.follow and x not in self.places:
                gpus = [d for r in readers.get(x, ()) if (d := self.places.get(r, CPU)) != CPU]
                self.places[x] = gpus[0] if gpus else CPU if x in readers else "GPU:0"
                self.why[x] = "it is read there" if x in readers else "a GPU kernel can be made for it"
