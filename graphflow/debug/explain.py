"""`tf.explain`: what the compiler makes of a request, before it runs.

Reads the values that compilation leaves behind (reports, fusion, kernels, plan); decides nothing (rank 5).
"""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Sequence

import numpy as np

from .. import graph, types
from ..codegen import ir
from ..codegen.schedule import inner_axes
from ..graph import Operation, Tensor
from ..passes import regions
from ..runtime import devices, phases, placement
from ..runtime.executable import Executable, Variant
from ..runtime.plan import Unit
from ..runtime.store import Store
from . import draw
from .timeline import label


class Drawing:
    """Operations that can be printed and drawn: `to_dot()`, `to_text()`, `to_networkx()`, `to_svg()`, `to_html()`."""

    def __init__(self, ops: Sequence[Operation], title: str):
        self.ops, self.title = list(ops), title

    def to_dot(self) -> str:
        return draw.to_dot(self.ops, self.title)

    def to_text(self) -> str:
        return draw.to_text(self.ops)

    def to_networkx(self) -> Any:
        return draw.to_networkx(self.ops)

    def to_svg(self) -> str:
        return draw.to_svg(self.ops)

    def to_html(self) -> str:
        """A page that any browser opens."""
        return draw.to_html(self.ops, self.title)

    def __len__(self) -> int:
        return len(self.ops)


@dataclass
class KernelInfo:
    """One instruction of the plan.

    ops: the user's operations in it.  source: the generated text ("" for host ops).  bytes: read and written once.
    flops: floating-point operations.  extent: iterations of the range that threads split.
    prologue: it runs when the plan is new or a variable has been written since, not at every step.
    depth: how many branches and loops it is in.
    again: it makes what another kernel has made before, because a memory budget did not let that be kept.
    """

    name: str
    kind: str
    ops: list[str]
    source: str
    bytes: int
    flops: int
    extent: int
    ir: str = ""
    prologue: bool = False
    again: bool = False
    depth: int = 0

    def ptx(self, capability: tuple[int, int] = (9, 0)) -> str:
        """The PTX of a kernel of a GPU, as it is given to the driver.  Raises ValueError for others."""
        if "(GPU" not in self.kind or not self.source:
            raise ValueError(f"{self.name} is no generated kernel of a GPU ({self.kind})")
        from ..codegen.cuda import texts

        return texts.ptx_of(self.source, capability)

    def __str__(self) -> str:
        names = ", ".join(self.ops[:6]) + (f" and {len(self.ops) - 6} more" if len(self.ops) > 6 else "")
        when = " (prologue)" * self.prologue + " (again)" * self.again
        return "  " * self.depth + f"{self.name:28} {self.kind:11} {self.bytes:12,} B {self.flops:14,} flop  {names}{when}"


@dataclass
class Explanation:
    """The answer of `explain`; print it, or look at its parts."""

    original: Drawing
    optimized: Drawing
    passes: Any
    kernels: list[KernelInfo]
    refusals: list[tuple[str, str, str]]
    peak_bytes: int
    memory: dict[str, int] = field(default_factory=dict)
    stages: int = 1
    loops: list[str] = field(default_factory=list)
    interpreted: str = ""
    phases: list[str] = field(default_factory=list)

    def why_not(self, op: str) -> list[str]:
        """Why `op` was not fused with its neighbours."""
        return [f"{a} into {b}: {why}" for a, b, why in self.refusals if op in (a, b)]

    def __str__(self) -> str:
        if self.interpreted:
            return f"{len(self.original)} ops in the graph, run one by one by the interpreter: {self.interpreted}"
        lines = [f"{len(self.original)} ops in the graph, {len(self.optimized)} after optimisation, {len(self.kernels)} kernels"]
        if self.phases:
            lines += ["", "phases (the largest compiled one is shown)"] + [f"  {text}" for text in self.phases]
        lines += ["", "passes", str(self.passes), "", "kernels"] + [str(k) for k in self.kernels]
        if self.loops:
            lines += ["", "branches and loops"] + [f"  {text}" for text in self.loops]
        if self.refusals:
            lines += ["", "not fused"] + [f"  {a} into {b}: {why}" for a, b, why in self.refusals[:40]]
        lines += ["", f"peak memory {self.peak_bytes:,} B (" + ", ".join(f"{k} {v:,}" for k, v in self.memory.items()) + ")"]
        if self.stages > 1:
            lines.append("sizes that depend on data: only the first stage is shown, the rest is compiled when they are known")
        return "\n".join(lines)


class _Shapes(Store):
    """A store in which every variable has its static shape, so that nothing needs to be initialised to be explained."""

    def __init__(self, real: Store | None):
        super().__init__()
        self.real = real

    def read(self, var: Operation) -> np.ndarray:
        if self.real is not None and self.real.has(var):
            return self.real.read(var)
        if var not in self.values:
            self.values[var] = np.zeros([types.hint(s) or 1 for s in var.outputs[0].sizes or ()], var.outputs[0].dtype.np)
        return self.values[var]

    def has(self, var: Operation) -> bool:
        return True


def explain(fetches: Any, feed_dict: Any = None, session: Any = None) -> Explanation:
    """What a `run` of `fetches` would do: passes, fusion, kernels with source, bytes and flops, and peak memory, without running.

    Args:
        fetches: as in `Session.run`.
        feed_dict: feeds, or anything with their shapes; a placeholder left out counts with 32 for each unknown size.
        session: whose variables give shapes; otherwise the static shapes count.

    Returns:
        An `Explanation`; `str()` of it is the report.
    """
    from ..session import Fetches, feed_array, flatten_feeds, get_default_session

    session = session or get_default_session()
    g = session.graph if session is not None else _graph_of(fetches)
    parsed = Fetches(g, fetches)
    feeds = flatten_feeds(g, feed_dict)
    ops = graph.topological([*[t.op for t in parsed.tensors], *parsed.targets], set(feeds))
    for op in ops:
        if op.type == "Placeholder" and op.outputs[0] not in feeds:
            feeds[op.outputs[0]] = _example(op.outputs[0])
    store = _Shapes(session.store if session is not None else None)
    wanted, targets, told = parsed.tensors, parsed.targets, []
    done: Any = ()
    if any(phases.on_resources(op) for op in ops):
        parts = phases.Split(wanted, targets, list(feeds), store).parts
        told = [_phase(part) for part in parts]
        natives = [part for part in parts if isinstance(part, phases.Native)]
        largest = max(natives, key=lambda part: len(part.ops), default=phases.Native([]))
        wanted, targets, done = largest.fetches, largest.targets, largest.done
        feeds = {t: feeds[t] if t in feeds else _example(t) for t in largest.feeds}
    placed = session.placement if session is not None else placement.Placement(g, devices.Devices())
    exe = Executable(g, wanted, targets, list(feeds), store, getattr(session, "_config", None), feed_array, done, placed)
    arrays = [feed_array(t, v) for t, v in feeds.items()]
    try:
        variant, plan = exe.first(arrays)
    except regions.NotNative as e:
        return Explanation(Drawing(ops, "the graph"), Drawing(ops, "as it is"), None, [], [], 0, interpreted=str(e), phases=told)
    found = _explanation(ops, variant, plan, arrays)
    found.phases = told
    return found


def _phase(part: Any) -> str:
    if isinstance(part, phases.Native):
        return f"compiled: {len(part.ops)} ops"
    kinds = [" (may wait)" if u.op.opdef.blocks else " (interpreted)" if u.inner else "" for u in part]
    return "resources: " + ", ".join(u.op.name + kind for u, kind in zip(part, kinds))


def _graph_of(fetches: Any) -> graph.Graph:
    if isinstance(fetches, (list, tuple)) and fetches:
        return _graph_of(fetches[0])
    return getattr(fetches, "graph", None) or graph.get_default_graph()


def _example(t: Tensor) -> np.ndarray:
    sizes = [32 if types.hint(s) is None else types.hint(s) for s in t.sizes or ()]
    return np.zeros(sizes, t.dtype.np)  # type: ignore[arg-type]


def _explanation(ops: list[Operation], variant: Variant, plan: Any, arrays: list[np.ndarray]) -> Explanation:
    c = plan.compiled
    memory = plan.memory()
    kernels = [k for u in c.units for k in _kernels(u, plan, 0)]
    loops = [_told(u, plan) for u in c.every() if u.nest]
    return Explanation(Drawing(ops, "the graph"), Drawing(c.program.ops(), "after optimisation"), variant.report, kernels,
                       c.fusion.refusals, sum(memory.values()), memory, 2 if variant.stage.blocked else 1, loops)


def _kernels(u: Unit, plan: Any, depth: int) -> list[KernelInfo]:
    """The instruction, and those inside of it."""
    if u.cluster.kind == "blank":
        return []
    own = _kernel(u, plan)
    own.depth = depth
    return [own, *[k for part in (u.nest.parts if u.nest else ()) for v in part.units for k in _kernels(v, plan, depth + 1)]]


def _told(u: Unit, plan: Any) -> str:
    """What becomes of a branch or loop: how long it is known to be, what it carries, what it keeps for its gradient."""
    op = u.op
    name = ", ".join(op.origin or (op.name,))
    if u.nest is None or u.nest.kind == "branch":
        return f"{name}: a branch, {len(op.outputs)} result(s)"
    trip = op.attrs["trip"]
    most = "at most " if op.attrs["checked"] else ""
    often = "until its condition fails" if trip is None else f"{most}{types.evaluate(trip, plan.env)} iterations"
    kept = [t for t, i in zip(op.outputs, op.inputs) if i.op.type == "Blank"]
    nbytes = sum(plan.nbytes(plan.compiled.buffers[t]) for t in kept if t in plan.compiled.buffers)
    saves = f", keeps {nbytes:,} B of all iterations in {len(kept)} array(s)" if kept else ""
    saves += ", checkpointed: each of its iterations computes again what it needs" if op.attrs.get("compact") else ""
    made = "one kernel" if u.emitted is not None else f"{sum(len(p.units) for p in u.nest.parts)} instructions an iteration"
    return f"{name}: a loop, {often}, {len(op.outputs)} variable(s), {made}{saves}"


def _kernel(u: Unit, plan: Any) -> KernelInfo:
    names = list(dict.fromkeys(n for op in u.cluster.ops for n in (op.origin or (op.name,))))
    if u.launch is not None:
        k, kind = u.launch, f"{u.cluster.kind} ({'GPU' if len(plan.sides) == 1 else u.device})"
        if u.covered and u.cluster in plan.done_by_library:
            return KernelInfo("(done by the library)", kind, names, "", 0, 0, 1)
        by = plan.libraries_used.get(id(u)) if u.library is not None else None
        if by is not None:
            return KernelInfo(by, kind, names, "", sum(plan.nbytes(b) for b in k.buffers), 0, 1, "", u.prologue)
        flops, text = (_flops(u.kernel, plan.env), repr(u.kernel)) if u.kernel is not None else (types.evaluate(k.flops, plan.env), "")
        return KernelInfo(label(u), kind, names, k.source, sum(plan.nbytes(b) for b in k.buffers), flops,
                          types.evaluate(types.product(k.grid), plan.env) * k.threads, text, u.prologue)
    if u.emitted is None:
        nbytes = sum(plan.nbytes(u.home.buffers[t]) for t in (*u.reads, *u.writes) if isinstance(t, Tensor) and t in u.home.buffers)
        return KernelInfo(u.op.type, u.cluster.kind, names, "", nbytes, 0, 1)
    e = u.emitted
    extent = types.evaluate(e.extent, plan.env)
    flops = _flops(u.kernel, plan.env) if u.kernel is not None else types.evaluate(e.flops, plan.env)
    return KernelInfo(label(u), u.cluster.kind, names, e.source, sum(plan.nbytes(b) for b in e.buffers), flops, extent, repr(u.kernel),
                      u.prologue, any(op.name.endswith("/again") for op in u.cluster.staged))


def _flops(kernel: ir.Kernel, env: dict[str, int]) -> int:
    """Floating-point operators, each at the depth of loops where the kernel evaluates it."""
    total, seen = 0, set()
    for s in kernel.stages:
        axes = [*kernel.outer, *inner_axes(s, kernel)]
        for e in ir.walk(s.expr):
            if e.op in ir.SCALAR and e.dtype.kind in "fc" and e not in seen:
                seen.add(e)
                used = ir.axes_in(e)
                deepest = max((i for i, a in enumerate(axes) if a in used), default=-1)
                total += types.evaluate(types.product(a.extent for a in axes[:deepest + 1]), env)
        if s.combine:
            total += types.evaluate(types.product(a.extent for a in axes), env)
    return total
