"""Which device each op runs on: TF1's answer for the ops of a graph, and where the values of an optimised program live.

A graph is placed as TF1 does it: the device that an op names; ops that share a variable or stand under `colocate_with` together;
everything else on GPU:0 where a kernel can be made for it, else on the CPU.  Two things are decided by what is around an op: constants
and feeds go where they are read, and a little work between ops of the CPU stays there.  Whether there is a kernel follows from the
registry (families, hooks, dtypes), never from the name of an op.

A program (passes/program.py) is placed by the same rules from the devices of the user's ops it was made of, with one more: what decides
whether a loop goes on stays with the host, which reads it after each iteration (TF1 keeps such integers in host memory, too).

able.py says what has a kernel, places.py compares what is left open.  Knows graphs, programs and device strings; knows no kernel and no
driver (rank 5).
"""
from __future__ import annotations

import functools
import warnings
import weakref
from typing import Any, Iterable, Iterator, Mapping, MutableMapping, NamedTuple, Sequence

from .. import errors, locks
from ..device_spec import DeviceSpec
from ..graph import Graph, Operation, Site
from ..ops import control, state
from ..ops.opdef import StandIn
from .able import Why, comes_from_nothing, numeric, of_host, why_not
from .devices import HOST, Devices
from .places import CPU, OWNERS, Choice, Sets, View, deciding, view_of_graph, view_of_program, where


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
        view = view_of_graph(ops)
        free = [op for op in ops if comes_from_nothing(op)]
        follow = {op for op in free if op not in fixed and together.find(op) is op and len(groups[op]) == 1}
        near = self._near(view)
        neutral = [op for op in (*free, *near) if op not in follow and isinstance(op, Operation) and comes_from_nothing(op)]
        numbers = {op for op in deciding(view) if op not in fixed and together.find(op) is op and len(groups.get(op, ())) == 1}
        fixed.update(dict.fromkeys(numbers, CPU))
        self._why.update(dict.fromkeys(numbers, "it decides whether a loop goes on"))
        choice = Choice(view, {**near, **fixed}, together, [*neutral, *numbers], follow)
        self._places.update(choice.run())
        self._why.update(choice.why)
        for op in ops:
            if op not in self._places:  # a branch or loop: on a GPU where something of it is
                self._places[op] = next((p for t in op.outputs if (p := self._places.get(t, CPU)) != CPU), CPU)

    def _near(self, view: View) -> dict[Any, str]:
        """Earlier ops beside new ones."""
        around = [where(t) for t, _, _ in view.reads] + [where(t) for pair in view.links for t in pair]
        return {x: self._places[x] for x in around if x in self._places}

    def _together(self, ops: Sequence[Operation]) -> tuple[Sets, dict[Any, Operation]]:
        """A variable with what reads and writes it, and what `colocate_with` says; by set one that has been placed earlier."""
        sets, others = Sets(), {}
        for op in ops:
            found = list(self.graph._colocated.get(op, ()))
            if found and (of_host(op) or numeric(op) and self.kernels(op) is not None):
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
                if short is not None and not self.soft and not of_host(op):
                    if numeric(op):
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
                for t in op.outputs if op.opdef in OWNERS else ():
                    fixed[t] = short if t.dtype.kind != "s" else CPU
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
        view = view_of_program(program)
        if not self.devices.gpus:
            return dict.fromkeys(view.ops, "CPU")
        inner = any(kind == "capture" or isinstance(what, control.Slot) for kind, what, _ in program.inputs)
        known = self._inner if inner else {}
        fixed, follow = self._given_places(program, view, known)
        numbers = {x for x in deciding(view) if x not in known}
        fixed.update(dict.fromkeys(numbers, CPU))
        neutral = {*numbers, *[op for op in fixed if isinstance(op, Operation) and op.opdef is not StandIn and comes_from_nothing(op)]}
        for variable, t in program.writes:
            if isinstance(variable, Operation):
                view.reads.append((t, variable, "data"))
                fixed[variable] = self._places.get(variable, CPU)
        places = Choice(view, fixed, Sets(), neutral, follow).run()
        if not inner:
            for op in view.ops:
                for part in () if op.opdef not in OWNERS else op.attrs.get("branches") or (op.attrs["cond"], op.attrs["body"]):
                    self._inner.update({x: places[x] for o in part.ops() for x in (o, *o.outputs) if x in places})
                    self._inner.update({t.op: places[t.op] for _, _, t in part.inputs if t.op in places})
        return {op: self._short(op, places) for op in view.ops}

    def on_gpus(self, program: Any) -> dict[Operation, str]:
        """The ops of `of_program` that are on a GPU.  Also of a program inside a branch or loop of one that has been placed."""
        return {op: place for op, place in self.program(program).items() if place != "CPU"}

    def _given_places(self, program: Any, view: View, known: Mapping[Any, str]) -> tuple[dict[Any, str], set[Any]]:
        """What is decided before anything is compared, and what goes where it is read."""
        from ..passes import fusion

        fixed: dict[Any, str] = {}
        follow: set[Any] = set()
        inputs = {t.op: (kind, what) for kind, what, t in program.inputs}
        for op in view.ops:
            kind, what = inputs.get(op, ("", None))
            if op in known:
                fixed[op] = known[op]
            elif op.opdef in OWNERS:
                fixed.update({t: known.get(t, CPU) for t in op.outputs if t in known or t.dtype.kind == "s"})
            elif kind == "variable" and isinstance(what, Operation):
                fixed[op] = self._places.get(what, CPU)
            elif kind and kind != "variable" or op.opdef is StandIn and op.outputs[0] in view.names or (
                    comes_from_nothing(op) and op.opdef is not StandIn):
                follow.add(op)
            elif op.opdef is StandIn:
                if op.outputs[0].dtype.kind == "s":
                    fixed[op] = CPU
            elif self.kernels(op) is not None or op.opdef.family != "composite" and fusion.kind_of(op, lambda o: o.opdef.gpu) == "host":
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
