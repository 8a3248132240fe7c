"""The pipeline: every pass in its order, and the one place that runs, checks, draws and times them (rank 4).

`run` must be called inside `types.recording_guards()` when a program has symbolic sizes: opening a composite compares
sizes, and the plan holds only while the answers stay the same.
"""
from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from .. import types
from ..flags import flags
from ..graph import Operation
from ..ops import control as forms
from ..ops import opdef
from . import algebra as _algebra
from . import rewrite as rules
from . import stability as _stability
from .apart import twice
from .attention import attention
from .control import control, Round
from .cse import cse
from .decompose import decompose
from .fold import bypass, fold, folded, shapes
from .layout import layout
from .program import Program, rebuild
from .rewrite import recording, rewrite


class Pass(NamedTuple):
    """A step of the pipeline."""

    name: str
    function: Callable[[Program], Program]


def stability(program: Program) -> Program:
    """Formulas that overflow or cancel, in their stable form."""
    return rewrite(program, _stability.STABILITY, folded)


def algebra(program: Program) -> Program:
    """Identities and cheaper forms of primitives."""
    return rewrite(program, _algebra.ALGEBRA, folded)


def dead_state(program: Program) -> Program:
    """Without writes that store the value which the variable already has."""
    old = {what: t for kind, what, t in program.inputs if kind == "variable"}
    return Program(program.inputs, program.outputs, tuple((v, t) for v, t in program.writes if old.get(v) is not t), program.effects)


def inside(program: Program, passes: Sequence[Pass] | None = None) -> Program:
    """The programs of branches and loops, each through the whole pipeline, or `passes`.

    But `dead state`: the writes of a body are the outputs of its loop by position, those of variables that keep their value too.
    """
    return _inside(program, lambda p: run(p, passes=tuple(q for q in passes or current() if q.function is not dead_state)))


def plainly_inside(program: Program) -> Program:
    """The programs of branches and loops, with what must happen only."""
    return _inside(program, lambda p: run(p, passes=MINIMAL))


def smaller(program: Program) -> Program:
    """Branches and loops without what leaves them, and tidied up."""
    after = control(program)
    return program if after is program else _inside(after, lambda p: run(p, passes=TIDY))


def apart(program: Program) -> Program:
    """Loops in which what the host asks is not read by kernels of a device."""
    return Round(_inside(program, apart), twice, lambda *_: None).run()


def _inside(program: Program, change: Callable[[Program], Program]) -> Program:
    def changed(op: Operation, inputs: Any) -> Any:
        if op.opdef not in (forms.loop_op, forms.branch_op):
            return None
        attrs = {k: change(v) if isinstance(v, Program) else tuple(map(change, v)) if k == "branches" else v for k, v in op.attrs.items()}
        specs = [opdef.Spec(t.dtype, t.sizes, t.known) for t in op.outputs]
        return Operation(op.graph, op.id, op.name, op.opdef, inputs, op.control_inputs, attrs, specs, op.device, op.site,
                         op.origin or (op.name,)).outputs
    return rebuild(program, changed) if any(op.opdef in (forms.loop_op, forms.branch_op) for op in program.ops()) else program


PIPELINE: tuple[Pass, ...] = (
    Pass("bypass", bypass),        # first: every pattern below would have to see through identities
    Pass("shapes", shapes),        # before fold and cse: ops that only computed sizes are gone when those look
    Pass("fold", fold),            # before cse: equal values computed in different ways become equal constants
    Pass("cse", cse),              # before rules: `x*x` is recognised by both operands being one tensor
    Pass("stability", stability),  # before decompose: it must still see log(softmax(x)) as two ops
    Pass("attention", attention),  # before decompose: softmax and its gradient are a few ops still; after stability, which finds softmax
    Pass("decompose", decompose),  # before algebra: bodies multiply by ones and negate twice like users do
    Pass("shapes again", shapes),  # bodies take shapes of their inputs ...
    Pass("fold again", fold),      # ... compute with constants ...
    Pass("cse again", cse),        # ... and share the parts of each other (softmax and its gradient)
    Pass("inside", inside),        # branches and loops: what is inside is in the form of what is around
    Pass("control", smaller),      # after inside: it looks for products of primitives; before algebra: what leaves a loop is ordinary
    Pass("layout", layout),        # after decompose: bodies are primitives; before algebra: what it brings to a product becomes a flag
    Pass("algebra", algebra),      # the last to change formulas; it folds the constants it makes
    Pass("bypass last", bypass),   # two transposes became one that keeps the order
    Pass("cse last", cse),         # rules made ops that other places have too (square of `x**2` and `x*x`)
    Pass("dead state", dead_state),  # last: `v = v * 1` stores the old value only now
)

# What is worth doing again in a branch or loop that work has left.
TIDY = tuple(p for p in PIPELINE if p.name in ("algebra", "bypass last", "cse last"))

# What must happen before kernels can be made: nothing else runs with flags.optimize=0.
MINIMAL = tuple(p for p in PIPELINE if p.name in ("shapes", "decompose", "shapes again")) + (Pass("inside", plainly_inside),)

_added: list[tuple[str, Pass]] = []


def version() -> tuple[Any, ...]:
    """Changes whenever a rule or a pass is added or taken out: part of the key of a compiled plan."""
    return rules.changes, *[(after, p.name, id(p.function)) for after, p in _added]


def register_pass(fn: Callable[[Program], Program], after: str = "cse", name: str | None = None) -> Callable[[Program], Program]:
    """Adds a pass of the user behind the pass called `after`, for all programs compiled from now on.

    Raises:
        ValueError: there is no such pass, or one of that name already.
    """
    names = [p.name for p in current()]
    new = Pass(name or fn.__name__, fn)
    if after not in names or new.name in names:
        raise ValueError(f"no pass {after!r}; there are {names}" if after not in names else f"there is a pass {new.name!r} already")
    _added.append((after, new))
    return fn


def unregister_pass(name: str) -> None:
    """Takes a user's pass out again."""
    _added[:] = [(after, p) for after, p in _added if p.name != name]


def current() -> tuple[Pass, ...]:
    """PIPELINE with the passes that users added."""
    out = list(PIPELINE)
    for after, p in _added:
        out.insert([q.name for q in out].index(after) + 1, p)
    return tuple(out)


@dataclass
class Record:
    """What one pass did: ops before and after, seconds, and (rule or action, names of the user's ops) for each change."""

    name: str
    before: int
    after: int
    seconds: float
    changes: list[tuple[str, tuple[str, ...]]]

    def __str__(self) -> str:
        counts: dict[str, int] = {}
        for action, _ in self.changes:
            counts[action] = counts.get(action, 0) + 1
        text = ", ".join(f"{a} x{n}" if n > 1 else a for a, n in counts.items())
        return f"{self.name:12} {self.before:6} -> {self.after:6} ops  {1e3 * self.seconds:8.2f} ms  {text}"


@dataclass
class Report:
    """The records of one run of the pipeline, in order."""

    records: list[Record] = field(default_factory=list)

    def rules_of(self, name: str) -> list[str]:
        """Passes and rules that changed the user's op `name`."""
        return [f"{r.name}: {action}" for r in self.records for action, ops in r.changes if name in ops]

    def __str__(self) -> str:
        return "\n".join(map(str, self.records))


Observer = Callable[[str, Program, Program, float], None]


def run(program: Program, observer: Observer | None = None, passes: Sequence[Pass] | None = None, report: Report | None = None) -> Program:
    """The optimised program.

    Args:
        observer: called after each pass with its name, the program before and after, and seconds; `watch` by default.
        passes: instead of the pipeline.
        report: receives one record a pass.
    """
    observer = observer or watch
    count = len(program.ops()) if report is not None else 0
    for p in current() if passes is None else passes:
        start = time.perf_counter()
        with recording() as changes:
            after = p.function(program)
        seconds = time.perf_counter() - start
        observer(p.name, program, after, seconds)
        if report is not None:
            before, count = count, count if after is program else len(after.ops())
            report.records.append(Record(p.name, before, count, seconds, changes))
        if flags.debug >= 5:
            for action, names in changes:
                print(f"[{p.name}] {action}: {', '.join(names)}", file=sys.stderr)
        program = after
    return program


def watch(name: str, before: Program, after: Program, seconds: float) -> None:
    """The observer that flags ask for: verifies (check), prints (debug), draws (dot)."""
    if flags.check >= 1:
        verify(after, name)
    if flags.debug >= 3 and after is not before:
        from ..debug import draw

        print(f"--- after {name} ({1e3 * seconds:.2f} ms)\n{draw.to_text(after.ops())}", file=sys.stderr)
    if flags.dot:
        _draw(name, after)


_drawn = iter(range(1 << 30))


def _draw(name: str, program: Program) -> None:
    from ..debug import draw

    os.makedirs(flags.dot, exist_ok=True)
    with open(os.path.join(flags.dot, f"{next(_drawn):04}-{name.replace(' ', '-')}.dot"), "w", encoding="utf-8") as f:
        f.write(draw.to_dot(program.ops()))


class InvalidProgram(AssertionError):
    """A pass broke a program."""


def verify(program: Program, where: str = "") -> None:
    """Infers every op again.

    Raises:
        InvalidProgram: an output has not the dtype or shape that its op gives on its inputs, or an input is not an input.
    """
    inputs = {t.op for _, _, t in program.inputs}
    for op in program.ops():
        if op.opdef is opdef.StandIn and op not in inputs:
            raise InvalidProgram(f"after {where}: {op.name!r} is read but is no input of the program")
        try:
            with types.recording_guards():
                specs = op.opdef.infer(op.inputs[:-1] if op.opdef.effect == "random" else op.inputs, op.attrs)
        except (TypeError, ValueError) as e:
            raise InvalidProgram(f"after {where}: {op!r} does not fit its inputs {op.inputs}: {e}") from e
        _agree(op, specs, where)


def _agree(op: Operation, specs: Any, where: str) -> None:
    for t, s in zip(op.outputs, specs, strict=True):
        with types.recording_guards():
            wrong = t.dtype is not s.dtype or (t.sizes is not None and s.sizes is not None and (
                len(t.sizes) != len(s.sizes) or any(types.same(a, b) is False for a, b in zip(t.sizes, s.sizes))))
        if wrong:
            raise InvalidProgram(f"after {where}: {t.name} is {t.dtype.name}{types.shape_text(t.sizes)}, "
                                 f"but its op gives {s.dtype.name}{types.shape_text(s.sizes)}")
