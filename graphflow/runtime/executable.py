"""One request of a Session as a callable: feeds in, fetched arrays out.

Chooses (or makes) the specialisation that fits the actual sizes, and the plan bound to them; runs it natively, does the
host's part in between, and commits variables only when everything has succeeded (rank 4).
"""
from __future__ import annotations

import copy
import ctypes
import os
import sys
import time
import warnings
import weakref
from contextlib import nullcontext
from functools import partial
from threading import get_ident
from typing import Any, Callable, Collection, Sequence

import numpy as np

from .. import errors, locks, types
from ..codegen import ir
from ..flags import TABLE, flags
from ..graph import Graph, Operation, Tensor
from ..ops import control, state
from ..ops.opdef import Const
from ..passes import attention, fusion, pipeline, regions, specialize
from ..passes.program import Program
from . import budget, early, flow, memory, plan_cache, runner
from . import threads as team
from .placement import of_program
from .plan import SMALL, Compiled, NegativeSize, Place, Plan, Unit
from .reference import Reference, evaluate
from .store import aligned

LONG = 0.02  # seconds after which a plan is run where Ctrl-C can reach it


def thread_count(config: Any) -> int:
    """Threads of one kernel: the config's, else the flag's, else one per core this process may use."""
    return getattr(config, "intra_op_parallelism_threads", 0) or flags.threads or team.available()


_compiling = locks.rlock()


class Gpus:
    """The GPUs of a session, and which ops of a program run on them."""

    def __init__(self, placement: Any):
        from .cuda import device

        self.placement = placement
        self.all = device.devices(getattr(placement.devices.config, "gpu_options", None))
        self.told = False

    def place(self, program: Program) -> dict[Operation, str]:
        """The GPUs of ops that do not run on the CPU; a branch or loop, with all inside and its initial values, is on one."""
        found = {op: name for op, name in of_program(program, self.placement).items() if name.startswith("GPU")}
        for op in program.ops():
            if op.opdef in fusion.CONTROL:
                inside = _inside(op)
                names = sorted({found[x] for x in inside if x in found}, key=lambda name: int(name[4:]))
                if len(names) > 1 and not self.told:
                    self.told = True
                    warnings.warn(f"ops inside {', '.join(op.origin or (op.name,))} are placed on {', '.join(names)}: all run on "
                                  f"{names[0]}, since a branch or loop uses one GPU", stacklevel=2)
                starts = [t.op for t in op.inputs if t.op.opdef is control.start and t.op in found]
                found.update({x: names[0] for x in (op, *starts, *(x for x in inside if x in found)) if names})
        return found

    def devices(self, compiled: Compiled) -> dict[str, Any]:
        """The GPUs on which kernels of a program run, by name."""
        return {name: self.all[int(name[4:])] for name in compiled.gpus}

    def key(self, program: Program) -> tuple[Any, ...]:
        """All that decides what runs where, and how: places, libraries, flags of kernels."""
        from .cuda import libraries

        by_name = self.placement.graph._by_name
        users = [by_name.get(name) for op in program.ops() for name in (op.name, *op.origin)]
        users += [what for kind, what, _ in program.inputs if kind == "variable"]
        places = [(op.device, self.placement.of(op)) if op is not None else None for op in users]
        return "gpu", tuple(places), tuple([n for n in sorted(libraries.NAMES) if libraries.available(n)])


def _inside(op: Operation) -> list[Operation]:
    """All ops in a branch or loop of a program, inputs included."""
    parts = op.attrs.get("branches") or (op.attrs["cond"], op.attrs["body"])
    own = [x for part in parts for x in (*(t.op for _, _, t in part.inputs), *part.ops())]
    return [*own, *(x for o in own if o.opdef in fusion.CONTROL for x in _inside(o))]


def passes_of_gpus(place: Place) -> tuple[pipeline.Pass, ...]:
    """The pipeline where ops run on several devices, with one for loops that both sides share at its end.

    An attention becomes one op where the generator of its device computes that; not inside branches and loops: what runs where in
    there is decided later.
    """
    def attended(program: Program) -> Program:
        from ..codegen.cuda import attention as tiles

        places: dict[Operation, str] = {}

        def takes(ops: Sequence[Operation], dtype: types.DType, queries: types.Size, depths: Sequence[types.Size]) -> bool:
            if not places:
                places.update({**dict.fromkeys(program.ops(), "CPU"), **place(program)})
            (where, *others) = {places[op] for op in ops}
            on_gpu = tiles.takes(dtype, *depths) and tiles.worth(queries)
            return not others and (attention.of_cpu(ops, dtype, queries, depths) if where == "CPU" else on_gpu)
        return attention.attention(program, takes)

    special = {"attention": attended, "inside": lambda program: pipeline.inside(program, plain)}
    made = tuple(pipeline.Pass(p.name, special.get(p.name, p.function)) for p in pipeline.current())
    plain = tuple(p for p in made if p.name != "attention")
    return *made, pipeline.Pass("apart", pipeline.apart)


class _Made:
    """One run of the compiler: what the passes did, the kernels, and the comparisons of sizes that both relied on."""

    def __init__(self, program: Program, place: Place | None = None):
        self.report = pipeline.Report()
        with _compiling:  # expressions are interned in one table, which one compilation at a time fills and empties
            with types.recording_guards() as self.guards:
                passes = pipeline.MINIMAL if not flags.optimize else None if place is None else passes_of_gpus(place)
                optimised = pipeline.run(program, passes=passes, report=self.report)
                self.compiled = Compiled(optimised, place=place)
            ir.trim_table()


class Variant:
    """One specialisation: its stage, its kernels, and the plans made for actual sizes."""

    def __init__(self, stage: specialize.Stage, gpus: Gpus | None = None):
        self.stage, self.gpus = stage, gpus
        self.plans: dict[tuple[int, ...], list[Plan]] = {}
        self.lock = locks.rlock()
        self.settings = {name: getattr(flags, name) for name in TABLE}
        self._whole: _Made | None = None
        self._opened: list[Any] = []
        # Under a memory budget: kernels that make values again, sizes that no plan was found for, and variants found instead.
        self.fitted: list[tuple[Compiled, list[types.Guard]]] = []
        self.refused: dict[tuple[int, ...], tuple[Any, ...]] = {}
        self.instead: dict[tuple[int, ...], Variant] = {}
        self.first: tuple[int, ...] = ()  # the sizes it was compiled for
        name = plan_cache.key(stage.program, *(gpus.key(stage.program) if gpus is not None else ()))
        found = None if name is None else plan_cache.load(name, Compiled, stage.program, self._clusters)
        if found is not None:
            self.compiled, guards = found
            self.compiled.link()
        else:
            self._whole = _Made(stage.program, self._place())
            self.compiled, guards = self._whole.compiled, self._whole.guards
            if name is not None:
                plan_cache.save(name, self.compiled, stage.program, guards)
        self.guards = guards
        stage.binding.guards += guards
        if flags.debug >= 1:
            from ..debug import ladder

            ladder.compiled(self.compiled.every())

    def _place(self) -> Place | None:
        return None if self.gpus is None else self.gpus.place

    def whole(self) -> _Made:
        """All that compiling leaves behind, also where the plan came from disk: from now on it is made of this."""
        with self.lock:
            if self._whole is None:
                with flags.override(**{k: v for k, v in self.settings.items() if k not in ("debug", "dot", "check")}):
                    self._whole = _Made(self.stage.program, self._place())
                self.compiled, self.plans = self._whole.compiled, {}
            return self._whole

    def _clusters(self) -> list[Any]:
        """The clusters that a plan from disk refers to by number."""
        made = self.whole()
        if not self._opened:
            self._opened = plan_cache.clusters(made.compiled, self.stage.program, made.guards)
        return self._opened

    @property
    def program(self) -> Program:
        return self.whole().compiled.program

    @property
    def report(self) -> pipeline.Report:
        return self.whole().report

    def take(self, env: dict[str, int], store: Any, threads: int, limit: int = 0) -> tuple[Plan, tuple[int, ...]]:
        """A plan for these sizes, of at most `limit` bytes, that nobody else is running.  Raises ResourceExhaustedError."""
        key = (store.version, *env.values())
        with self.lock:
            free = self.plans.setdefault(key, [])
            if free:
                return free.pop(), key
            if len(self.plans) > 16:
                self.plans = {key: free}
        make = partial(self._plan, env, store, threads)
        try:
            return make(self.compiled, limit), key
        except memory.Exceeded as e:
            if not limit:
                raise budget.exhausted(e.args[0], limit) from None
        return self._fitted(env, make, limit), key

    def _plan(self, env: dict[str, int], store: Any, threads: int, compiled: Compiled, limit: int) -> Plan:
        """Raises memory.Exceeded."""
        if self.gpus is None or not compiled.on_devices:
            return Plan(compiled, env, store, threads, limit)
        from .cuda.plan import DevicePlan, Narrow

        try:
            return DevicePlan(compiled, env, store, threads, self.gpus.devices(compiled), limit)
        except Narrow:
            compiled = self.whole().compiled
            return DevicePlan(compiled, env, store, threads, self.gpus.devices(compiled), limit)

    def _fitted(self, env: dict[str, int], make: Callable[[Compiled, int], Plan], limit: int) -> Plan:
        """A plan that makes values again instead of keeping them: of kernels found for other sizes, or newly found."""
        for compiled, guards in self.fitted:
            if types.guards_hold(guards, env):
                try:
                    return make(compiled, limit)
                except memory.Exceeded:
                    continue
        sizes = tuple(env.values())
        if sizes in self.refused:
            raise errors.ResourceExhaustedError(*self.refused[sizes])
        made = self.whole().compiled
        with _compiling:
            try:
                with types.recording_guards() as guards:
                    plan = budget.fit(made, env, make, limit)
            except errors.ResourceExhaustedError as e:
                self.refused[sizes] = e.node_def, e.op, e.message
                raise
            finally:
                ir.trim_table()
        self.fitted.append((plan.compiled, guards))
        return plan

    def give(self, plan: Plan, key: tuple[int, ...]) -> None:
        with self.lock:
            if key in self.plans and (plan.compiled is self.compiled or any(plan.compiled is c for c, _ in self.fitted)):
                self.plans[key].append(plan)


    def keep(self, plan: Plan, key: tuple[int, ...]) -> None:
        """Takes a plan that has been given back for a `Fast`, which gives it back when it ends."""
        with self.lock:
            free = self.plans.get(key, [])
            free[:] = [p for p in free if p is not plan]


_nothing = nullcontext()
_on_gpus: weakref.WeakSet[Executable] = weakref.WeakSet()
_parents: list[Any] = []  # plans of the process that this one was forked from


def _after_fork() -> None:
    """A child leaves its parent's plans of GPUs alone: the page-locked memory in which they take feeds is one for both."""
    _parents.extend(exe.leave() for exe in list(_on_gpus))


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)


class Executable:
    """See `runtime.reference.Reference` for the same thing in NumPy."""

    def __init__(self, graph: Graph, fetches: list[Tensor], targets: list[Operation], feeds: list[Tensor], store: Any,
                 config: Any = None, convert: Callable[[Tensor, Any], np.ndarray] = lambda t, v: np.asarray(v, t.dtype.np),
                 done: Collection[Operation] = (), placement: Any = None):
        self.fetches, self.targets, self.feeds, self.store, self.config = fetches, targets, feeds, store, config
        self.request, self.done = specialize.Specializer(fetches, targets, feeds, done), done
        self.variants: list[list[Variant]] = []  # by stage
        self.valued: list[set[Any]] = []
        self.threads = thread_count(config)
        self.timeout = getattr(config, "operation_timeout_in_ms", 0) or 0
        self.limit = getattr(config, "memory_budget", 0) or 0
        self.convert = convert if placement is not None and placement.devices.gpus else partial(_of_host, convert)
        # Only one run at a time may write variables; runs that only read them go on beside each other.  Those that have nothing to do
        # with variables (what fills a queue) go on beside all; others advance random streams alone.
        effects = set().union(*[control.effects(op) for op in self.request.ops])
        variables = any(op.opdef is state.variable_handle for op in self.request.ops)
        self.free = not self.limit and not variables and effects <= {None, "random", "outside"}
        self.shared = self.free or not self.limit and effects <= {None, "read", "outside"}
        self.gpus = Gpus(placement) if placement is not None and placement.devices.gpus else None
        self.idle: list[Fast] = []
        self.staying: Fast | None = None  # for results that stay on a GPU
        self.fallback: regions.NotNative | None = None  # why the interpreter runs this request
        self.conditional = any(control.regions_of(op) for op in self.request.ops)
        self.early = self._first() if self.gpus is None and early.allowed(self) else None
        if self.gpus is not None:
            _on_gpus.add(self)

    def on(self, store: Any) -> Executable:
        """The same request on another store, for another thread: what is compiled is shared, plans in use are not."""
        found = copy.copy(self)
        found.store, found.idle = store, []
        found.early = found._first() if self.early is not None and not any(self.variants) else None
        if self.gpus is not None:
            _on_gpus.add(found)
        return found

    def leave(self) -> list[Any]:
        """Forgets every plan, and returns them."""
        plans = [*self.idle, self.staying, *[v.plans for variants in self.variants for v in variants]]
        self.idle, self.staying = [], None
        for v in [v for variants in self.variants for v in variants]:
            v.plans = {}
        return plans

    def _first(self) -> early.Early:
        return early.Early(self, lambda arrays: _Run(self, arrays, None, None).stage(0), self._keep)

    def _interpreted(self, values: Sequence[Any], done: dict[Tensor, np.ndarray] | None = None, timeout: float | None = None) -> list[Any]:
        """done: what has been computed already."""
        again = control.saves(self.request.ops)  # what looks into a branch or loop needs it to run here
        done = {t: a for t, a in (done or {}).items() if t.op not in again}
        arrays = [*[_of_host(self.convert, t, v) for t, v in zip(self.feeds, values)], *done.values()]
        with self.store.lock, self._streams():
            if self.store.inside:
                self.store.alone()
            limit = timeout if timeout is not None else self.timeout / 1000 or None
            found = Reference(self.fetches, self.targets, [*self.feeds, *done], self.store, self.done)(arrays, limit)
        return [own(r, t, t in self.feeds) for r, t in zip(found, self.fetches)]

    def __call__(self, values: Sequence[Any], timeout: float | None = None, timeline: Any = None, stay: bool = False) -> list[Any]:
        """Results of one run on feed values in the order of `feeds`, which `convert` checks and makes arrays of.

        stay: results that are made on a GPU are DeviceArrays there.
        """
        if self.fallback is not None:
            return self._interpreted(values, None, timeout)
        store, again = self.store, timeout is None and timeline is None and not stay
        if again and self.early is not None:
            found = self._early(values)
            if found is not None:
                return found
        if again and self.shared and self.idle:
            try:
                fast = self.idle.pop()
            except IndexError:  # another thread was quicker
                fast = None
            if fast is not None:
                found = self._freely(fast, values) if self.free else self._beside(fast, values)
                if found is not None:
                    self.idle.append(fast)
                    return found
        with store.lock, self._streams():
            if store.inside and not self.shared:
                store.alone()
            if again and self.idle and not self.shared:
                fast = self.idle[0]
                found = fast(values) if fast.version == store.version else None
                if found is not None:
                    return found
            if stay and timeout is None and timeline is None and self.staying is not None:
                found = self.staying(values) if self.staying.version == store.version else None
                if found is not None:
                    return found
                self.staying.end()
                self.staying = None
            try:
                self.idle.pop().end()  # its plan is free for this run, which leaves another
            except IndexError:
                pass
            run = _Run(self, [self.convert(t, v) for t, v in zip(self.feeds, values)], timeout, timeline)
            run.stay = stay
            try:
                found = run.run()
            except regions.NotNative as e:
                if e.always:
                    self.fallback = e
                    warnings.warn(f"this request is run op by op, slowly: {e}", stacklevel=4)
                return self._interpreted(values, run.bound, timeout)
            except errors.FailedPreconditionError:  # a variable without a value may be read in a branch that is not taken
                if not self.conditional:
                    raise
                return self._interpreted(values, run.bound, timeout)
            results = [own(r, t, t in run.fed) if isinstance(r, np.ndarray) else r for r, t in zip(found, self.fetches)]
            made = run.again()
            if made is not None and stay:
                self.staying = made
            elif made is not None:
                self.idle.append(made)
            return results

    def close(self) -> None:
        """The session ends: memory of devices is given back at once."""
        plans = [f.plan for f in (*self.idle, self.staying) if f is not None]
        plans += [p for variants in self.variants for v in variants for free in v.plans.values() for p in free]
        for plan in plans:
            plan.release()

    def _streams(self) -> Any:
        """Held where a run takes numbers from random streams at its beginning and counts them at its end: others run freely meanwhile."""
        return self.store.drawing if self.free else _nothing

    def _early(self, values: Sequence[Any]) -> list[Any] | None:
        """An interpreted run while there is nothing better; None from then on."""
        with self.store.lock, self._streams():
            if self.early is None:
                return None
            if self.store.inside:
                self.store.alone()
            found = self.early(values)
            if found is None:
                self.early = None
                return None
        return [own(r, t, t in self.feeds) for r, t in zip(found, self.fetches)]

    def _keep(self, stage: specialize.Stage) -> None:
        """Compiles a first stage that another thread will run."""
        made = Variant(stage)
        with self.store.lock:
            self.variants[0].insert(0, made)

    def _freely(self, fast: Fast, values: Sequence[Any]) -> list[Any] | None:
        """A run that no other one can disturb; None where it needs the general way."""
        found = None
        try:
            found = fast(values)
        finally:
            if found is None:
                fast.end()
        return found

    def _beside(self, fast: Fast, values: Sequence[Any]) -> list[Any] | None:
        """A run that only reads variables, on a plan of its own, while others read them too; None where it needs the general way."""
        store, found = self.store, None
        with store.lock:
            store.inside[fast] = get_ident()
        try:
            if fast.version == store.version:
                found = fast(values)
        finally:
            del store.inside[fast]
            if store.waiting:
                store.left.set()
            if found is None:
                fast.end()
        return found

    def first(self, arrays: Sequence[np.ndarray]) -> tuple[Variant, Plan]:
        """The first stage for these feeds, compiled and planned but not run (for `explain`)."""
        run = _Run(self, arrays, None, None)
        variant, env = run.variant(0)
        variant.whole()
        return run.take(variant, env)[:2]


def _of_host(convert: Callable[[Tensor, Any], Any], t: Tensor, value: Any) -> np.ndarray:
    """A feed as an array of the host, also where it lies on a device."""
    found = convert(t, value)
    return found if isinstance(found, np.ndarray) else found.bits()


def own(value: np.ndarray, t: Tensor, fed: bool) -> Any:
    """What the caller gets: NumPy scalars for computed rank 0, as TF1 does; bfloat16 as the float32 it stands for."""
    if t.dtype is types.bfloat16:
        value = types.bf16_decode(value)
    return value[()] if value.ndim == 0 and not fed else value


_CELLS = {"float32": ctypes.c_float, "float64": ctypes.c_double, "int32": ctypes.c_int32, "int64": ctypes.c_int64}


class Fast:
    """One plan run again and again on feeds of the same shapes: a few copies around one native call."""

    def __init__(self, puts: list[Callable[[Any], bool]], plan: Plan, takes: list[Callable[[], Any]], fresh: list[Any], counters: list[Any],
                 store: Any):
        self.puts, self.plan, self.takes, self.fresh, self.counters, self.store = puts, plan, takes, fresh, counters, store
        self.end: Callable[[], None] = lambda: None  # gives the plan back
        self.stay: list[ir.Buffer] = []  # results that stay on a device
        self.go, self.halt, self.version = plan.go if plan.seconds <= LONG else self._patiently, plan.halt, store.version
        self.changes = bool(plan.start) or plan.writes  # whether the run has a prologue, or ends that of others

    @classmethod
    def of(cls, exe: Executable, v: Variant, plan: Plan, key: tuple[int, ...], stay: bool = False) -> Fast | None:
        c = plan.compiled
        places = {what: t for kind, what, t in c.program.inputs if kind == "feed"}
        if any(kind not in ("feed", "variable", "counter") for kind, _, _ in c.program.inputs):
            return None
        if any(t in c.inputs or t.op.opdef is Const or t.dtype.kind == "s" or t.dtype is types.bfloat16 for t in c.program.outputs):
            return None
        if v.stage.binding.values or any(t.dtype.kind == "s" or t.dtype is types.bfloat16 for t in exe.feeds):
            return None
        if any(t not in places or places[t] not in c.buffers for t in exe.feeds):  # a feed that no kernel reads
            return None
        if any(kind == "counter" and t not in c.buffers for kind, _, t in c.program.inputs):  # a random op optimised away
            return None
        puts = [_putter(exe, plan, t, c.buffers[places[t]]) for t in exe.feeds]
        fresh = [(b, plan.late[b], _Results(plan.shape[b], b.dtype.np)) for b in plan.late if c.tensor_of[b] not in c.inputs]
        counters = [(what, _cell(plan, c.buffers[t])) for kind, what, t in c.program.inputs if kind == "counter"]
        made = cls(puts, plan, [], fresh, counters, exe.store)._with_outputs(stay)
        if made is not None:
            made.end = partial(v.give, plan, key)
            v.keep(plan, key)
        return made

    def _with_outputs(self, stay: bool) -> Fast | None:
        plan, seen = self.plan, set()
        self.made: dict[ir.Buffer, Any] = {}
        if stay:
            self.stay = [plan.compiled.buffers[t] for t in plan.compiled.program.outputs]
            self.takes = [partial(self.made.get, b) for b in self.stay]
            return self if all(plan.lends(b) for b in self.stay) else None
        for t in plan.compiled.program.outputs:
            b = plan.compiled.buffers[t]
            root = plan.alias.get(b, b)
            if root in plan.late:
                if root in seen:
                    return None
                seen.add(root)
                self.takes.append(partial(self.made.pop, root))
            else:
                view = plan.views[root].reshape(plan.shape[b])
                self.takes.append(partial(view.__getitem__, ()) if view.ndim == 0 else view.copy)
        return self

    def _patiently(self, pc: int) -> int:
        """A plan that took long the last time, where Ctrl-C can reach it."""
        start = time.perf_counter()
        pc = self.plan.patiently(pc)
        while self.plan.state[runner.REASON] == runner.PAUSED:  # a loop lets Python look around, and goes on
            pc = self.plan.patiently(pc)
        if time.perf_counter() - start <= LONG:
            self.go = self.plan.go
        return pc

    def __call__(self, values: Sequence[Any]) -> list[Any] | None:
        """The results, or None when the values need the general way."""
        for put, value in zip(self.puts, values):
            if put(value):
                return None
        for b in self.stay:
            self.made[b] = self.plan.new(b)
        if self.plan.borrowed or self.plan.lent or self.stay:
            theirs = (*self.plan.borrowed.items(), *[(b, self.made[b]) for b in self.stay])
            self.plan.lend({b: array.address for b, array in theirs})
        drawn = self._draw() if self.counters else ()
        for b, positions, take in self.fresh:
            self.made[b], address = take()
            for p in positions:
                self.plan.table[p] = address
        if self.changes or self.store.mirrors:
            self.plan.begin()
        done = False
        try:
            done = self.go(0) == self.halt
        finally:
            if not done:
                self.made.clear()
                self._undraw(drawn)
        if not done:
            return None
        if self.changes:
            self.plan.done()
        results = [take() for take in self.takes]
        if self.stay:
            self.made.clear()  # they are the caller's
        return results

    def _draw(self) -> list[int]:
        """Takes a number from each random stream: no other run gets it."""
        store = self.store
        with store.drawing:
            drawn = [store.draws(what) for what, _ in self.counters]
            for n, (what, cell) in zip(drawn, self.counters):
                cell[...] = n
                store.counters[what] = n + 1
        return drawn

    def _undraw(self, drawn: Sequence[int]) -> None:
        """Gives the numbers back after a run that has failed, where nobody has taken the next one."""
        store = self.store
        with store.drawing:
            for n, (what, _) in zip(drawn, self.counters):
                if store.counters.get(what) == n + 1:
                    store.counters[what] = n


def _cell(plan: Plan, b: ir.Buffer) -> np.ndarray:
    return plan.views[b]


def _putter(exe: Executable, plan: Plan, t: Tensor, b: ir.Buffer) -> Callable[[Any], bool]:
    """Stores a feed where the plan reads it; True when it does not fit."""
    shape, dtype, convert = plan.shape[b], t.dtype.np, exe.convert
    if b in plan.late:
        positions, table = plan.late[b], plan.table
        keep: list[Any] = [None]
        bound = 0

        def bind(value: Any) -> bool:
            nonlocal bound
            # The array of the last run is bound already.
            if positions and value is keep[0] and value.shape == shape and value.dtype is dtype and table[positions[0]] == bound:
                return False
            array = value if type(value) is np.ndarray and value.dtype == dtype else convert(t, value)
            if array.shape != shape:
                return True
            if not (array.flags.c_contiguous and array.flags.aligned):
                array = np.require(array, None, ["C", "A"])
            keep[0] = array
            bound = array.__array_interface__["data"][0]
            for p in positions:
                table[p] = bound
            return False

        return bind
    view, borrowed = plan.views[b], plan.borrowed

    def put(value: Any) -> bool:
        array = value if type(value) is np.ndarray and value.dtype is dtype else convert(t, value)
        if array.shape != shape:
            return True
        if isinstance(array, np.ndarray):
            if borrowed:
                borrowed.pop(b, None)
            view[...] = array
            return False
        if not plan.lends(b, array):
            return True
        borrowed[b] = array
        return False

    if shape != () or t.dtype.name not in _CELLS:
        return put
    cell: Any = _CELLS[t.dtype.name].from_address(plan.address[b])
    plain = float if t.dtype.kind == "f" else None

    def put_number(value: Any) -> bool:
        if type(value) is plain or type(value) is np.ndarray and value.dtype is dtype and value.ndim == 0:
            cell.value = value
            if borrowed:
                borrowed.pop(b, None)
            return False
        return put(value)

    return put_number


class _Run:
    """One step."""

    def __init__(self, exe: Executable, arrays: Sequence[np.ndarray], timeout: float | None, timeline: Any):
        self.exe, self.store = exe, exe.store
        self.given: dict[Any, np.ndarray] = {("feed", t): a for t, a in zip(exe.feeds, arrays)}
        self.fed = set(exe.feeds)
        self.bound: dict[Tensor, np.ndarray] = {}
        self.drawn: set[Operation] = set()
        self.timeout = timeout if timeout is not None else exe.timeout / 1000 or None
        self.timeline = timeline
        self.stay = False
        self.kept: dict[ir.Buffer, Any] = {}  # results that stay on a device

    def run(self) -> list[np.ndarray]:
        index = 0
        while True:
            variant, env = self.variant(index)
            results = self.execute(variant, env)
            if not variant.stage.blocked:
                return results
            self.next_stage(variant, results)
            index += 1
            if index > len(self.exe.request.ops):  # every stage settles an op; never loop silently
                op = variant.stage.blocked[0]
                raise errors.raised_at(errors.InternalError, op, "the sizes of its result cannot be determined")

    def again(self) -> Fast | None:
        """The same run as a fixed sequence of copies and one native call, where it is as simple as that."""
        v, plan, key = self.last
        watched = self.timeout is not None or flags.check >= 2 or flags.debug >= 2
        if watched or self.bound or plan.hosts or plan.replaced:
            return None
        return Fast.of(self.exe, v, plan, key, self.stay)

    # -- choosing

    def value(self, key: Any) -> np.ndarray:
        kind, what = key
        if kind == "feed":
            found = self.given[key]
            return found if isinstance(found, np.ndarray) else found.bits()
        if kind == "variable":
            return self.store.read(what)
        if kind == "counter":
            return np.array(self.store.draws(what), np.int64)
        if kind == "initialized":
            return np.array(self.store.has(what))
        return self.bound[what]

    def shape(self, key: Any) -> tuple[int, ...]:
        if key[0] == "variable" and types.known(key[1].outputs[0].sizes):
            return key[1].outputs[0].sizes
        return (self.given[key] if key[0] == "feed" else self.value(key)).shape

    def variant(self, index: int) -> tuple[Variant, dict[str, int]]:
        exe = self.exe
        while len(exe.variants) <= index:
            exe.variants.append([])
            exe.valued.append(set())
        for v in list(exe.variants[index]):
            env = self._fits(v)
            if env is not None:
                if not v.first:
                    v.first = tuple(env.values())
                return v, env
        v = Variant(self.stage(index), exe.gpus)
        exe.variants[index].insert(0, v)
        env = self._fits(v)
        assert env is not None
        v.first = tuple(env.values())
        return v, env

    def stage(self, index: int) -> specialize.Stage:
        """The piece of the step that follows what is bound, specialised for these inputs."""
        exe = self.exe
        while len(exe.variants) <= index:
            exe.variants.append([])
            exe.valued.append(set())
        while True:
            stage = exe.request.stage(self.shape, self.value, self.bound, exe.valued[index])
            if not stage.wants_values:
                return stage
            exe.valued[index] |= stage.wants_values

    def take(self, v: Variant, env: dict[str, int]) -> tuple[Variant, Plan, tuple[int, ...]]:
        """A plan, and its variant: under a budget maybe one compiled for these sizes instead of the first ones."""
        exe, sizes = self.exe, tuple(env.values())
        if sizes in v.instead:
            v = v.instead[sizes]
            env = self._fits(v) or env
        try:
            return v, *v.take(env, self.store, exe.threads, exe.limit)
        except errors.ResourceExhaustedError:
            if not exe.limit or tuple(env.values()) == v.first:
                raise
        index = next(i for i, there in enumerate(exe.variants) if v in there)
        new = v.instead[sizes] = Variant(exe.request.stage(self.shape, self.value, self.bound, exe.valued[index]), exe.gpus)
        env = self._fits(new) or env
        new.first = tuple(env.values())
        return new, *new.take(env, self.store, exe.threads, exe.limit)

    def _fits(self, v: Variant) -> dict[str, int] | None:
        try:
            for key, rank in ((("feed", t), len(i.sizes)) for (kind, t, i) in v.stage.program.inputs if kind == "feed" and t.sizes is None):
                if len(self.shape(key)) != rank:
                    return None
            return v.stage.binding.environment(self.shape, self.value)
        except (KeyError, IndexError):
            return None

    # -- executing

    def execute(self, v: Variant, env: dict[str, int]) -> list[np.ndarray]:
        if flags.check or flags.debug:
            v.whole()
        try:
            v, plan, key = self.take(v, env)
        except NegativeSize:
            self._replay()
            raise errors.InvalidArgumentError(None, None, "a size computed in this step is negative") from None
        self.last = v, plan, key
        try:
            fresh = self._fresh = self._bind(plan)
            plan.begin()
            if flags.debug >= 2 and self.timeline is None:
                self._timed(v, plan, fresh)
            else:
                self._native(v, plan, fresh)
            plan.done()
            results = self._results(plan, fresh)
            self._commit(v, plan)
            return results
        finally:
            plan.lend({})
            v.give(plan, key)

    def _timed(self, v: Variant, plan: Plan, fresh: dict[ir.Buffer, np.ndarray]) -> None:
        """A run whose kernel times are printed."""
        from ..debug import ladder, timeline

        self.timeline = timeline.Recorder()
        self._native(v, plan, fresh)
        ladder.ran(plan, self.timeline.events)
        self.timeline = None

    def _bind(self, plan: Plan) -> dict[ir.Buffer, np.ndarray]:
        """Feeds into the arena or by address; new arrays for large results."""
        c, fresh = plan.compiled, {}
        lent: dict[ir.Buffer, int] = {}
        for kind, what, t in c.program.inputs:
            if kind == "variable":
                continue
            b = c.buffers.get(t)
            if b is None:
                continue
            given = self.given.get((kind, what))
            if given is not None and not isinstance(given, np.ndarray) and plan.lends(b, given):
                lent[b] = given.address
                continue
            value = self.value((kind, what))
            if b in plan.late:
                value = np.require(value, None, ["C", "A"])
                fresh[b] = value
            elif b.dtype.kind == "s":
                plan.views[b] = value
            else:
                plan.views[b][...] = value
        for b, positions in plan.late.items():
            if b not in fresh:
                fresh[b] = (aligned if b in plan.adopted else _pool.take)(plan.shape[b], b.dtype.np)
            address = fresh[b].__array_interface__["data"][0]
            for p in positions:
                plan.table[p] = address
        for b in [c.buffers[t] for t in c.program.outputs if t in c.buffers] if self.stay else ():
            if plan.lends(b) and b not in lent:
                self.kept[b] = plan.new(b)
                lent[b] = self.kept[b].address
        plan.lend(lent)
        return fresh

    def _native(self, v: Variant, plan: Plan, fresh: dict[ir.Buffer, np.ndarray]) -> None:
        if flags.check >= 2:
            from ..debug import checked

            checked.run(plan, fresh, lambda u: self._host(plan, u, fresh), lambda u, number: self._explain_failure(plan, u, number))
            return
        pc = 0
        start = time.perf_counter()
        record = hasattr(self.timeline, "begin")
        if record:
            self.timeline.begin(plan)
        while True:
            if self.timeout is not None or plan.seconds > LONG:
                pc = plan.patiently(pc, self.timeout)
            else:
                pc = plan.go(pc)
            reason = plan.state[runner.REASON]
            if reason == runner.DONE:
                break
            if reason == runner.AT_HOST:
                began = time.perf_counter()
                self._host(plan, plan.hosts[pc], fresh)
                if record:
                    self.timeline.host(plan.hosts[pc].op, began)
                pc += 1
            elif reason == runner.PAUSED and (self.timeout is None or time.perf_counter() - start < self.timeout):
                continue
            elif reason == runner.CHECK_FAILED:
                self._explain_failure(plan, plan.unit_at[pc], int(plan.state[runner.CHECK]))
            else:
                raise errors.DeadlineExceededError(None, None, f"Timed out after {self.timeout} s; no variable has changed")
        plan.seconds = time.perf_counter() - start
        if record:
            self.timeline.end(plan)

    def _host(self, plan: Plan, u: Unit | flow.StringMove, fresh: dict[ir.Buffer, np.ndarray]) -> None:
        """An op without a kernel, by its NumPy reference."""
        if isinstance(u, flow.StringMove):
            plan.views[u.target] = self._view(plan, u.source, fresh)
            return
        c, op = u.home, u.op
        arrays = [self._array(plan, t, fresh, c) for t in op.inputs]
        results = evaluate(op, arrays)
        for t, r in zip(op.outputs, results):
            b = c.buffers.get(t)
            if b is None:
                continue
            if b.dtype.kind == "s":
                plan.views[b] = r
            else:
                self._view(plan, b, fresh)[...] = r

    def _array(self, plan: Plan, t: Tensor, fresh: dict[ir.Buffer, np.ndarray], home: Compiled) -> np.ndarray:
        if t.op.opdef is Const and t not in home.buffers:
            return t.op.attrs["value"]
        return self._view(plan, home.buffers[t], fresh)

    def _view(self, plan: Plan, b: ir.Buffer, fresh: dict[ir.Buffer, np.ndarray]) -> np.ndarray:
        root = plan.alias.get(b, b)
        found = fresh.get(root)
        return (plan.views[root] if found is None else found).reshape(plan.shape.get(b, ())) if root.dtype.kind != "s" else plan.views[root]

    def _results(self, plan: Plan, fresh: dict[ir.Buffer, np.ndarray]) -> list[np.ndarray]:
        out = []
        for t in plan.compiled.program.outputs:
            if t.op.opdef is Const and t not in plan.compiled.buffers:
                out.append(np.array(t.op.attrs["value"], copy=True))
                continue
            b = plan.compiled.buffers[t]
            if b in self.kept:
                out.append(self.kept[b])
                continue
            view = self._view(plan, b, fresh)
            own = b in fresh and b not in plan.adopted and t not in plan.compiled.inputs and not any(view is x for x in out)
            out.append(view if own else np.array(view, copy=True))
        return out

    def _commit(self, v: Variant, plan: Plan) -> None:
        if plan.replaced:
            new = [(var, None if plan.adopted.get(b) is var else np.array(self._final(plan, b), copy=True), b) for var, b in plan.replaced]
            for var, value, b in new:
                if value is None:
                    self.store.adopt(var, self._fresh[b])
                else:
                    self.store.write(var, value)
        self.drawn.update(what for kind, what, _ in v.stage.program.inputs if kind == "counter")
        if not v.stage.blocked:  # all stages of a run draw with the same counters
            for what in self.drawn:
                self.store.counters[what] = self.store.draws(what) + 1

    def _final(self, plan: Plan, b: ir.Buffer) -> np.ndarray:
        return self._view(plan, b, self._fresh)

    def next_stage(self, v: Variant, results: list[np.ndarray]) -> None:
        """Binds what this stage computed, and runs on the host the ops whose result sizes depend on data."""
        self.bound.update(zip(v.stage.outputs, results))
        for op in v.stage.blocked:
            if op.opdef._lower is None and op.opdef._fold is None and op.opdef._numpy is not None:
                arrays = [self._known(t) for t in op.inputs]
                if all(a is not None for a in arrays) and not op.opdef.static:
                    began = time.perf_counter()
                    self.bound.update(zip(op.outputs, evaluate(op, arrays)))  # type: ignore[arg-type]
                    if hasattr(self.timeline, "host"):
                        self.timeline.host(op, began)

    def _known(self, t: Tensor) -> np.ndarray | None:
        if t in self.bound:
            return self.bound[t]
        if ("feed", t) in self.given:
            return self.given[("feed", t)]
        if t.op.type == "VariableV2":
            return self.store.read(t.op)
        return t.op.attrs["value"] if t.op.opdef is Const else None

    # -- failure

    def _explain_failure(self, plan: Plan, u: Unit, number: int) -> None:
        """Replays the step in the reference interpreter to name the op; nothing has been committed."""
        self._replay()
        if u.nest is not None:  # a loop as one kernel: which of its parts, and which check of that
            u, number = u.nest.calls[number >> 32], number & 0xffffffff
        checks = u.emitted.checks if u.emitted else u.launch.checks if u.launch else []
        message = checks[number - 1] if 0 < number <= len(checks) else "a check failed"
        raise errors.raised_at(errors.InvalidArgumentError, u.op, message)

    def _replay(self) -> None:
        """The step by the reference interpreter, whose error names the op."""
        exe = self.exe
        Reference(exe.fetches, exe.targets, exe.feeds, _ReadOnly(self.store), exe.done)([self.given[("feed", t)] for t in exe.feeds])


class _ReadOnly:
    """A store that a replay cannot change."""

    def __init__(self, store: Any):
        self.read, self.has, self.draws = store.read, store.has, store.draws

    def commit(self, written: Any, drawn: Any) -> None:
        pass


class _Results:
    """Arrays for one result of one plan, taken again when the caller has let them go; one caller at a time."""

    KEPT, SMALL_ENOUGH = 4, 1 << 20

    def __init__(self, shape: tuple[int, ...], dtype: np.dtype):
        self.shape, self.dtype = shape, dtype
        self.kept: list[tuple[np.ndarray, np.ndarray, int]] = []
        self.large = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize > self.SMALL_ENOUGH

    def __call__(self) -> tuple[np.ndarray, int]:
        """An array nobody else holds, and its address."""
        for owner, array, address in self.kept:
            if sys.getrefcount(owner) == 4:  # the tuple, `array`, `owner` and the argument: views hang on the owner of the memory
                return array.view(), address
        if self.large:
            array = _pool.take(self.shape, self.dtype)
            return array, array.__array_interface__["data"][0]
        array = aligned(self.shape, self.dtype)
        address = array.__array_interface__["data"][0]
        if len(self.kept) >= self.KEPT:
            self.kept.pop(0)
        self.kept.append((array.base, array, address))  # type: ignore[arg-type]
        return array.view(), address


class _Pool:
    """Memory of large results that the caller has let go, so that a loop of runs touches no new pages."""

    def __init__(self) -> None:
        self.bases: dict[int, list[np.ndarray]] = {}
        self.lock = locks.rlock()

    def take(self, shape: tuple[int, ...], dtype: np.dtype) -> np.ndarray:
        size = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        if size <= SMALL:
            return np.empty(shape, dtype)
        with self.lock:
            kept = self.bases.setdefault(size, [])
            for base in kept:
                # NumPy hangs every view on the owner of the memory, not on `base`: one reference from base, one argument.
                if sys.getrefcount(base.base) == 2:
                    return base.view(dtype).reshape(shape)
            base = aligned((size,), np.dtype(np.uint8))
            if len(kept) >= 4:
                kept.pop(0)
            kept.append(base)
            return base.view(dtype).reshape(shape)


_pool = _Pool()
