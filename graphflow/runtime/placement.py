"""Which device each op runs on: TF1's answer for the ops of a graph, and where the values of an optimised program live.

A graph is placed as TF1 does it: the device that an op names; ops that share a variable or stand under `colocate_with` together;
everything else on GPU:0 where a kernel can be made for it, else on the CPU.  Two things are decided by what is around an op: constants
and feeds go where they are read, and a little work between ops of the CPU stays there.  Whether there is a kernel follows from the
registry (families, hooks, dtypes), never from the name of an op.

A program (passes/program.py) is placed by the same rules from the devices of the user's ops it was made of, with one more: what decides
whether a loop goes on stays with the host, which reads it after each iteration (TF1 keeps such integers in host memory, too).

Knows graphs, programs and the registry; knows no kernel and no driver (rank 5).
"""
from __future__ import annotations

import functools
import warnings
import weakref
from dataclasses import dataclass, field
from typing import Any, Callable, Collection, Iterable, Iterator, Mapping, MutableMapping, NamedTuple, Sequence

from .. import errors, locks, types
from ..codegen import ir
from ..device_spec import DeviceSpec
from ..graph import Graph, Operation, Region, Site, Tensor
from ..ops import control, state
from ..ops.opdef import StandIn, UnknownRank, scratch
from .devices import HOST, Devices

# Elements read and written by work that is not worth a kernel launch and two copies (some 20 microseconds).
LITTLE = 1 << 14
# Elements of a value that decides whether a loop goes on.
FEW = 16
# What device kernels compute with; of complex numbers not everything.
DTYPES = frozenset(types.ALL)
# Families whose ops are kernels of their own, without a scalar formula.
ENGINES = frozenset(("scan",))
# Families without work: values from elsewhere, memory, and ops that only own others.
WORKLESS = frozenset(("constant", "input", "state", "control"))

# Ops that own others; each of their results has a place of its own.
_OWNERS = (control.loop_op, control.branch_op, control.while_op, control.cond_op)

CPU = "CPU:0"
Why = Callable[[Operation], "str | None"]


# ---------------------------------------------------------------- is there a kernel


def why_not(op: Operation) -> str | None:
    """Why no GPU can run `op`: half a sentence.  None where a kernel can be made, or where it takes no work at all."""
    d = op.opdef
    if d._performs is not None or d.makes is not None:
        return "it works on an object of the session (a queue, table, reader or iterator), which lives on the host"
    if any(t.dtype.kind == "s" for t in (*op.inputs, *op.outputs)):
        return "strings live in host memory"
    if d.effect in ("host", "outside"):
        return "its effects are the host's"
    if d.family == "composite":
        return _body(op)
    if any(t.dtype.kind == "c" for t in (*op.inputs, *op.outputs)) and (found := _complex(op)):
        return found
    if d.family in WORKLESS or d.family in ENGINES or d._lower is not None or d._fold is not None or d._scatter is not None:
        return None
    return "it is computed by NumPy, on the host"


def _complex(op: Operation) -> str | None:
    """Why there is no GPU kernel of an op on complex numbers."""
    from ..codegen.cuda import emit

    d = op.opdef
    if d.scalar is not None:
        loads = [ir.make("load", (), t.dtype.compute, t) for t in op.inputs]
        for e in ir.walk(d.scalar(*loads, **op.attrs)):
            if e.op in ir.SCALAR and e.op not in emit.COMPLEX and any(x.dtype.kind == "c" for x in (e, *e.args)):
                return f"no GPU kernel computes {e.op} of complex numbers"
    if d._scatter is not None:
        return "no GPU kernel adds up complex numbers in one place"
    return None


_bodies: dict[Any, str | None] = {}


def _body(op: Operation) -> str | None:
    """Why the body of a composite cannot run on a GPU; the same for all calls on inputs of the same dtypes and ranks."""
    key = op.opdef, tuple([(t.dtype, None if t.sizes is None else len(t.sizes)) for t in op.inputs])
    if key not in _bodies:
        with scratch() as g, types.recording_guards():
            try:
                op.opdef.fn(*[g.stand_in(_spec(t)) for t in op.inputs], **op.attrs)
            except UnknownRank:  # it is opened when the rank is known; of what, its dtypes have told
                return None
        found = next(((o, why) for o in g._ops if (why := why_not(o))), None)
        _bodies[key] = found and f"a part of it ({found[0].type}) has no GPU kernel: {found[1]}"
    return _bodies[key]


def _spec(t: Tensor) -> Any:
    from ..graph import Spec

    return Spec(t.dtype, t.sizes, t.known)


def _of_host(op: Operation) -> bool:
    """Whether an op runs on the CPU under any `tf.device`, without a word.

    Checks and the texts they print (TF1's GPU kernels for these do nothing), feeds of text, and ops on objects of the session, among them
    iterators and staging areas, which TF1 has for GPUs: what they give comes from the host like a feed.
    """
    d = op.opdef
    if d._performs is not None or d.makes is not None or d.effect == "host" and not op.outputs:
        return True
    return bool(op.outputs) and op.outputs[0].dtype.kind == "s" and _comes_from_nothing(op)


def _numeric(op: Operation) -> bool:
    """Whether an op only computes numbers from numbers: for nearly all of these TF1 has GPU kernels, so programs may ask for a GPU."""
    d = op.opdef
    return d._performs is None and d.makes is None and d.effect in (None, "random") and not any(
        t.dtype.kind == "s" for t in (*op.inputs, *op.outputs))


# ---------------------------------------------------------------- device strings


@functools.lru_cache(4096)
def _parsed(text: str) -> DeviceSpec:
    return DeviceSpec.from_string(text)


class _Asked(NamedTuple):
    """What a device string comes to: the device, None where it leaves the choice (of a `job` at most); or why it does not exist."""

    short: str | None
    task: str = HOST
    missing: str = ""


_FREE = _Asked(None)


def _resolve(text: str, devices: Devices, cluster: bool) -> _Asked:
    """The device that `text` names.  cluster: whether jobs and tasks of any name are this process."""
    s = _parsed(text)
    local = (s.job or "localhost", s.replica or 0, s.task or 0)
    if local != ("localhost", 0, 0) and not cluster:
        return _Asked(None, HOST, "this session has no other job or task: it runs in its own process")
    task = "/job:{}/replica:{}/task:{}".format(*local)
    if s.device_type is None:
        return _Asked(None, task)
    if s.device_type == "CPU":
        there: Sequence[Any] = devices.cpus
    elif s.device_type == "GPU":
        there = devices.gpus
    else:
        return _Asked(None, task, f"there are no devices of type {s.device_type}")
    index = s.device_index or 0
    if index < len(there):
        return _Asked(there[index].short, task)
    if there:
        count = f"there is {len(there)} {s.device_type}" if len(there) == 1 else f"there are {len(there)} {s.device_type}s"
        more = ", more with tf.ConfigProto(device_count={'CPU': n})" if s.device_type == "CPU" else (
            f"; {devices.reason}" if devices.reason else "")
        return _Asked(None, task, count + more)
    return _Asked(None, task, f"there is no GPU to use: {devices.reason}")


# ---------------------------------------------------------------- what is connected


class _Sets:
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


def _where(t: Tensor) -> Any:
    """What has a place: an op, or a result of a branch or loop, each of which may be elsewhere."""
    op = t.op
    return t if op.opdef in _OWNERS else op


class _Loop(NamedTuple):
    """goes_on: the boolean that decides.  params: what each loop variable is called in condition and body.  news: what it becomes.

    regions: those of the loop, in a user's graph.
    """

    goes_on: Tensor
    params: list[list[Tensor]]
    news: list[Tensor]
    regions: tuple[Region, ...] = ()


@dataclass
class _View:
    """What of a graph or program matters here.

    ops: producers before users.  reads: (tensor, place of the reader, how): "data", "host" (its value must be known to the host), "shape"
    (only its sizes).  links: one value under two names.
    """

    ops: list[Operation] = field(default_factory=list)
    reads: list[tuple[Tensor, Any, str]] = field(default_factory=list)
    links: list[tuple[Tensor, Tensor]] = field(default_factory=list)
    loops: list[_Loop] = field(default_factory=list)
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


def _view_of_graph(ops: Iterable[Operation]) -> _View:
    """Of ops of a user's graph in creation order, those in branches and loops included."""
    view = _View()
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
            view.loops.append(_Loop(ask.results[0], [list(p) for p in zip(ask.params, work.params)], work.results[:n], regions))
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


def _view_of_program(program: Any) -> _View:
    """Of an optimised program and all inside its branches and loops."""
    view, seen = _View(), set()

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
        view.asked(ask.outputs[0])
        view.loops.append(_Loop(ask.outputs[0], [[p[s] for p in params if s in p] for s in slots], news))

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


def _comes_from_nothing(op: Operation) -> bool:
    """Constants, feeds and the like: made by the host for whoever reads them."""
    return not op.inputs and bool(op.outputs) and op.opdef.effect is None and op.opdef.family not in ("state", "random", "host") \
        and op.opdef is not control.loop_variable


def _deciding(view: _View) -> set[Operation]:
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
            elif inside and t.op not in ops and t.op.opdef is not StandIn and not _comes_from_nothing(t.op):
                ops[t.op] = None
                todo += t.op.inputs
            small = _elements(t.sizes) <= FEW and not (inside and t.op.opdef in _OWNERS)
        if small:
            found.update(ops)
            found.update(t.op for k in slots for t in loop.params[k])
    return found


class _Choice:
    """Places for all of a view whose place is not `fixed`: a device's short name by op, or by result of a branch or loop.

    together: sets whose members share a place.  neutral: fixed ones that say nothing about their neighbours.
    """

    def __init__(self, view: _View, fixed: dict[Any, str], together: _Sets, neutral: Collection[Any] = (), follow: Collection[Any] = ()):
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
            readers.setdefault(_where(t), []).append((reader, how))
        linked = {_where(t) for pair in self.view.links for t in pair}
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
            for x in [_where(t) for t in op.outputs] or [op]:
                if x not in self.places and x not in self.follow:
                    seen[x] = None
        for t, reader, how in self.view.reads:
            if how == "data":
                meet(_where(t), reader)
            elif how == "host" and _where(t) in seen:
                touch(_where(t), CPU)
        for a, b in self.view.links:
            meet(_where(a), _where(b))
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
        pairs = [(_where(t), r, how) for t, r, how in self.view.reads]
        pairs += [p for a, b in self.view.links for p in ((_where(a), _where(b), "data"), (_where(b), _where(a), "data"))]
        for x, reader, how in pairs:
            if x in self.follow:
                readers.setdefault(x, []).append(reader if how == "data" else None)
        for x in reversed(self.view.ops):  # readers before what they read
            if x in self.follow and x not in self.places:
                gpus = [d for r in readers.get(x, ()) if (d := self.places.get(r, CPU)) != CPU]
                self.places[x] = gpus[0] if gpus else CPU if x in readers else "GPU:0"
                self.why[x] = "it is read there" if x in readers else "a GPU kernel can be made for it"


# ---------------------------------------------------------------- a graph


class Placement:
    """Devices of the ops of one graph in one session; ops added later join those that have been placed.

    Args:
        devices: what there is.
        soft: a device that is missing, or has no kernel, is replaced by another instead of an error.
        kernels: `kernels(op)` says why no GPU can run an op, or None.
        cluster: device strings may name any job and task: they all are this process.
    """

    def __init__(self, graph: Graph, devices: Devices | None = None, soft: bool = False, kernels: Why = why_not, cluster: bool = False):
        self.graph, self.devices, self.soft, self.kernels, self.cluster = graph, devices or Devices(), soft, kernels, cluster
        self._places: dict[Any, str] = {}
        self._why: dict[Any, str] = {}
        self._tasks: dict[Operation, str] = {}
        self._pinned: dict[Operation, str] = {}  # by tf.device, or by what they share a place with
        self._problems: dict[Operation, str] = {}
        self._inner: MutableMapping[Any, str] = weakref.WeakKeyDictionary()  # what is inside the branches and loops of programs
        self._warned: set[str] = set()
        self._hosted: dict[Operation, str] = {}  # what runs on the CPU though a GPU is asked for, and why
        self._lock = locks.rlock()
        self._seen = 0
        self._asked: dict[str, _Asked] = {}

    # -- answers

    def of(self, op: Operation) -> str:
        """The full name of the device that runs `op`.  Raises InvalidArgumentError where it cannot be had."""
        self.check([op])
        return f"{self._tasks.get(op, HOST)}/device:{self._places[op]}"

    def check(self, ops: Iterable[Operation]) -> None:
        """Raises InvalidArgumentError at the first op that cannot have the device it names, or that its neighbours need.

        Warns, once for each type, of ops under a GPU that NumPy computes on the host.
        """
        self.extend()
        for op in ops if self._problems or self._hosted else ():
            if op in self._problems:
                raise errors.raised_at(errors.InvalidArgumentError, op, self._problems[op])
            if op in self._hosted and op.type not in self._warned:
                self._warned.add(op.type)
                site = op.site or Site("<unknown>", 0, "")
                warnings.warn_explicit(f"{op.name} ({op.type}) stands under tf.device({op.device!r}), but {self._hosted[op]}: its inputs "
                                       "are copied there and its results back, at every run", UserWarning, site.file, site.line)

    def why(self, op: Operation) -> str:
        """Why `op` is where it is: half a sentence."""
        self.extend()
        return self._why.get(op, "")

    def on_gpu(self, op: Operation) -> str | None:
        """`GPU:k` for an op of the graph or of an optimised program that is placed there by its own or its user's `tf.device`."""
        short = self._named(op)
        return short if short is not None and short.startswith("GPU") else None

    def extend(self) -> None:
        """Places the ops that the graph has got since."""
        with self._lock:
            new = self.graph._ops[self._seen:]
            if new:
                self._place(new)
                self._seen += len(new)

    # -- the rules

    def _ask(self, text: str) -> _Asked:
        found = self._asked.get(text)
        if found is None:
            found = self._asked[text] = _resolve(text, self.devices, self.cluster)
        return found

    def _place(self, ops: Sequence[Operation]) -> None:
        if not self.devices.gpus and not any(op.device for op in ops):
            self._places.update(dict.fromkeys(ops, CPU))
            return
        together, anchors = self._together(ops)
        groups: dict[Any, list[Operation]] = {}
        for op in ops:
            groups.setdefault(together.find(op), []).append(op)
        fixed: dict[Any, str] = {}
        for root, members in groups.items():
            self._fix(members, anchors.get(root), fixed)
        if not self.devices.gpus:
            self._places.update({**dict.fromkeys(ops, CPU), **fixed})
            return
        view = _view_of_graph(ops)
        free = [op for op in ops if _comes_from_nothing(op)]
        follow = {op for op in free if op not in fixed and together.find(op) is op and len(groups[op]) == 1}
        near = self._near(view)
        neutral = [op for op in (*free, *near) if op not in follow and isinstance(op, Operation) and _comes_from_nothing(op)]
        deciding = {op for op in _deciding(view) if op not in fixed and together.find(op) is op and len(groups.get(op, ())) == 1}
        fixed.update(dict.fromkeys(deciding, CPU))
        self._why.update(dict.fromkeys(deciding, "it decides whether a loop goes on"))
        choice = _Choice(view, {**near, **fixed}, together, [*neutral, *deciding], follow)
        self._places.update(choice.run())
        self._why.update(choice.why)
        for op in ops:
            if op not in self._places:  # a branch or loop: on a GPU where something of it is
                self._places[op] = next((p for t in op.outputs if (p := self._places.get(t, CPU)) != CPU), CPU)

    def _near(self, view: _View) -> dict[Any, str]:
        """Earlier ops beside new ones."""
        around = [_where(t) for t, _, _ in view.reads] + [_where(t) for pair in view.links for t in pair]
        return {x: self._places[x] for x in around if x in self._places}

    def _together(self, ops: Sequence[Operation]) -> tuple[_Sets, dict[Any, Operation]]:
        """A variable with what reads and writes it, and what `colocate_with` says; by set one that has been placed earlier."""
        sets, others = _Sets(), {}
        for op in ops:
            found = list(self.graph._colocated.get(op, ()))
            if found and (_of_host(op) or _numeric(op) and self.kernels(op) is not None):
                found = []  # alone: the others do not leave a GPU for it
            variable = state.state_of(op)
            if variable is not None and (op.opdef.effect == "write" or op.device in ("", variable.device)):
                found.append(variable)
            if found:
                others[op] = found
                for other in found:
                    sets.join(other, op)
        anchors = {sets.find(op): other for op, found in others.items() for other in found if other in self._places}
        return sets, anchors

    def _fix(self, members: list[Operation], anchor: Operation | None, fixed: dict[Any, str]) -> None:
        """Decides for ops that share a place, as far as they say something, or have no kernel; notes what cannot be.

        anchor: one of them that has been placed before.
        """
        asked, by = self._wanted(members)
        short = asked.short if anchor is None else self._places[anchor]
        why = "tf.device asks for it" if by is not None else ""
        if anchor is not None or len(members) > 1:
            why = f"colocated with {(anchor or by or members[0]).name}" + (f"; {why}" if why else "")
        pinned = short is not None
        if short != CPU and self.devices.gpus:
            for op, no in [(op, no) for op in members if (no := self.kernels(op)) is not None]:
                if short is not None and not self.soft and not _of_host(op):
                    if _numeric(op):
                        self._hosted[op] = no
                    else:
                        self._problems.setdefault(op, self._no_kernel(op, by or anchor or members[0], no, members))
                short, why, pinned = CPU, no if len(members) == 1 else f"{no}: {op.name}", False
                break
        for op in members:
            if asked.task != HOST:
                self._tasks[op] = asked.task
            if short is not None:
                fixed[op], self._why[op] = short, why
                for t in op.outputs if op.opdef in _OWNERS else ():
                    fixed[t] = short if t.dtype in DTYPES else CPU
                if pinned:
                    self._pinned[op] = short

    def _wanted(self, members: Sequence[Operation]) -> tuple[_Asked, Operation | None]:
        """What members ask for, all together, and the one who asks."""
        asking = [op for op in members if op.device]
        if not asking:
            return _FREE, None
        by, spec = asking[0], _parsed(asking[0].device)
        for op in asking[1:]:
            more = _parsed(op.device)
            odd = next((p for p in ("job", "replica", "task", "device_type", "device_index")
                        if None not in (getattr(spec, p), getattr(more, p)) and getattr(spec, p) != getattr(more, p)), None)
            if odd is not None:
                if not self.soft:
                    self._problems[op] = (f"Cannot colocate nodes {by.name!r} and {op.name!r}: cannot merge the devices "
                                          f"'{by.device}' and '{op.device}'. One of them changes a variable of the "
                                          "other, or stands under tf.colocate_with; give both the same tf.device, or use "
                                          "tf.ConfigProto(allow_soft_placement=True)")
                continue
            spec = spec.make_merged_spec(more)
        found = self._ask(spec.to_string())
        if not found.missing:
            return found, by
        if not self.soft:
            for op in asking:
                self._problems.setdefault(op, self._missing(op, found.missing))
        return _Asked("GPU:0" if spec.device_type == "GPU" and self.devices.gpus else CPU), by  # softly: another one of its kind

    def _missing(self, op: Operation, why: str) -> str:
        return (f"Cannot assign a device for operation {op.name}: it was explicitly assigned to {op.device} but available devices are "
                f"[ {self.devices.names} ]. Make sure the device specification refers to a valid device: {why}. "
                "Use tf.device('/cpu:0'), or tf.ConfigProto(allow_soft_placement=True) to run it on a device that is there")

    def _no_kernel(self, op: Operation, by: Operation, why: str, members: Sequence[Operation]) -> str:
        kinds = ", ".join(sorted({t.dtype.name for t in (*op.inputs, *op.outputs)}))
        group = "" if len(members) == 1 else f" It shares a device with {', '.join(o.name for o in members[:8] if o is not op)}."
        return (f"Cannot assign a device for operation {op.name}: Could not satisfy explicit device specification "
                f"'{op.device or by.device}' because no supported kernel for GPU devices is available: {why} (op {op.type}"
                + (f" of {kinds}" if kinds else "") + f").{group} Make it under tf.device('/cpu:0'), or use "
                "tf.ConfigProto(allow_soft_placement=True) to run it on the CPU")

    # -- programs

    def _named(self, op: Operation) -> str | None:
        """Where an op of a program is to be, by that of the user it was made of, or by its own device; None leaves it open."""
        for user in (op, *[self.graph._by_name.get(name) for name in op.origin]):
            if user in self._pinned:
                return self._pinned[user]
        found = self._ask(op.device) if op.device and not op.origin else None
        return found.short if found is not None else None

    def program(self, program: Any) -> dict[Operation, str]:
        """See `of_program`."""
        self.extend()
        view = _view_of_program(program)
        if not self.devices.gpus:
            return dict.fromkeys(view.ops, "CPU")
        inner = any(kind == "capture" or isinstance(what, control.Slot) for kind, what, _ in program.inputs)
        known = self._inner if inner else {}
        fixed, follow = self._given_places(program, view, known)
        deciding = {x for x in _deciding(view) if x not in known}
        fixed.update(dict.fromkeys(deciding, CPU))
        neutral = {*deciding, *[op for op in fixed if isinstance(op, Operation) and op.opdef is not StandIn and _comes_from_nothing(op)]}
        for variable, t in program.writes:
            if isinstance(variable, Operation):
                view.reads.append((t, variable, "data"))
                fixed[variable] = self._places.get(variable, CPU)
        places = _Choice(view, fixed, _Sets(), neutral, follow).run()
        if not inner:
            for op in view.ops:
                for part in () if op.opdef not in _OWNERS else op.attrs.get("branches") or (op.attrs["cond"], op.attrs["body"]):
                    self._inner.update({x: places[x] for o in part.ops() for x in (o, *o.outputs) if x in places})
                    self._inner.update({t.op: places[t.op] for _, _, t in part.inputs if t.op in places})
        return {op: self._short(op, places) for op in view.ops}

    def on_gpus(self, program: Any) -> dict[Operation, str]:
        """The ops of `of_program` that are on a GPU.  Also of a program inside a branch or loop of one that has been placed."""
        return {op: place for op, place in self.program(program).items() if place != "CPU"}

    def _given_places(self, program: Any, view: _View, known: Mapping[Any, str]) -> tuple[dict[Any, str], set[Any]]:
        """What is decided before anything is compared, and what goes where it is read."""
        from ..passes import fusion

        fixed: dict[Any, str] = {}
        follow: set[Any] = set()
        inputs = {t.op: (kind, what) for kind, what, t in program.inputs}
        for op in view.ops:
            kind, what = inputs.get(op, ("", None))
            if op in known:
                fixed[op] = known[op]
            elif op.opdef in _OWNERS:
                fixed.update({t: known.get(t, CPU) for t in op.outputs if t in known or t.dtype not in DTYPES})
            elif kind == "variable" and isinstance(what, Operation):
                fixed[op] = self._places.get(what, CPU)
            elif kind and kind != "variable" or op.opdef is StandIn and op.outputs[0] in view.names or (
                    _comes_from_nothing(op) and op.opdef is not StandIn):
                follow.add(op)
            elif op.opdef is StandIn:
                if op.outputs[0].dtype not in DTYPES:
                    fixed[op] = CPU
            elif self.kernels(op) is not None or fusion.kind_of(op, lambda _: None) == "host":
                fixed[op] = CPU
            elif (named := self._named(op)) is not None:
                fixed[op] = named
        return fixed, follow

    def _short(self, op: Operation, places: Mapping[Any, str]) -> str:
        found = [places[op]] if op in places else [places.get(t, CPU) for t in op.outputs]
        return next((p for p in found if p.startswith("GPU")), "CPU")


def place(ops: Iterable[Operation], available: Devices | None = None, soft: bool = False, kernels: Why = why_not) -> dict[Operation, str]:
    """Full device names of `ops`, all of one graph: see `Placement`.

    Raises:
        InvalidArgumentError: a device that is not there, has no kernel for the op, or differs from that of what it must be with.
    """
    ops = list(ops)
    if not ops:
        return {}
    placement = Placement(ops[0].graph, available, soft, kernels)
    placement.check(ops)
    return {op: placement.of(op) for op in ops}


def of_program(program: Any, placement: Placement) -> dict[Operation, str]:
    """`GPU:k` or `CPU` for every op of an optimised program, those of programs inside branches and loops included.

    An op stands where its user's op has been placed by `tf.device`; others where `Placement` puts such work, so that little is copied.
    Inputs of the program and constants stand where they are read; variables where the session has them.  A branch or loop is on a GPU
    where some result of it is; the place of loop variable k is that of the body's input for it.
    """
    return placement.program(program)


def with_regions(ops: Iterable[Operation]) -> Iterator[Operation]:
    """`ops`, each followed by those of its branches or loop body."""
    for op in ops:
        yield op
        for region in control.regions_of(op):
            yield from with_regions(control.members(region))
