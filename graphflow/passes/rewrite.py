"""Rules as pairs of small functions, the matcher, and the engine that applies a table of rules to a program.

A rule's pattern and replacement are ordinary functions that call ops: their positional parameters stand for any
tensor (those called `c`, `c1`, `c2`... for constants only), their keyword-only ones for static attributes.  The pattern
is run once, on stand-ins, and compared with the program structurally; commutative ops match both ways.

    rule("x * x", lambda x: op.Mul(x, x), lambda x: op.Square(x), table=ALGEBRA)

The engine walks a program once, inputs first, and simplifies what a replacement creates before going on, so that
every pattern sees operands that no rule can change any more: one walk is a fixpoint.  Knows programs and the registry;
knows no op (rank 4).
"""
from __future__ import annotations

import inspect
import warnings
import weakref
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from .. import types
from ..graph import Operation, Spec, Tensor
from ..ops import opdef
from ..types import DType
from .program import Program, with_inputs

# Rewrites that one op may go through before a rule is held to undo another one.
BUDGET = 64


class Ops:
    """Ops by TF type: `op.Add(x, y)`.  A type that is not registered raises Missing."""

    def __getattr__(self, type: str) -> opdef.OpDef:
        if type not in opdef.REGISTRY:
            raise Missing(type)
        return opdef.REGISTRY[type]


class Missing(LookupError):
    """A rule names an op type that is not registered."""


op = Ops()


# ---------------------------------------------------------------- what happened

_record: ContextVar[list[tuple[str, tuple[str, ...]]] | None] = ContextVar("rewrites", default=None)


@contextmanager
def recording() -> Iterator[list[tuple[str, tuple[str, ...]]]]:
    """Collects (rule or action, names of the user's ops it changed) for everything passes do inside."""
    found: list[tuple[str, tuple[str, ...]]] = []
    token = _record.set(found)
    try:
        yield found
    finally:
        _record.reset(token)


def note(action: str, ops: Sequence[Operation]) -> None:
    """Records that a pass changed `ops`."""
    found = _record.get()
    if found is not None:
        found.append((action, names_of(ops)))


def names_of(ops: Sequence[Operation]) -> tuple[str, ...]:
    """The user's op names that `ops` stand for."""
    return tuple(dict.fromkeys(n for o in ops for n in (o.origin or (o.name,))))


# ---------------------------------------------------------------- constants

_splats: weakref.WeakKeyDictionary[Operation, Any] = weakref.WeakKeyDictionary()


def splat(t: Tensor) -> Any:
    """The number that every element of a constant has, else None."""
    o = t.op
    if o.opdef is not opdef.Const:
        return None
    if o not in _splats:
        value = types.bf16_decode(o.attrs["value"]) if t.dtype is types.bfloat16 else o.attrs["value"]
        first = value.flat[0] if value.size else None
        _splats[o] = first if first is not None and (value == first).all() else None
    return _splats[o]


def same_constant(a: Tensor, b: Tensor) -> bool:
    if a.op.opdef is not opdef.Const or b.op.opdef is not opdef.Const or a.dtype is not b.dtype:
        return False
    return np.array_equal(a.op.attrs["value"], b.op.attrs["value"])


def same_shape(a: types.Shape, b: types.Shape) -> bool:
    """Whether two shapes are surely equal, for every binding of their symbols."""
    return a is not None and b is not None and len(a) == len(b) and all(x == y for x, y in zip(a, b))


# ---------------------------------------------------------------- patterns


class Pattern:
    """What a pattern function builds on stand-ins, ready to be compared with ops of a program."""

    def __init__(self, fn: Callable[..., Any]):
        g = _PatternGraph()
        with g.as_default():
            # Parameters with a default are not part of the pattern: they bind the variable of a loop that makes rules.
            parameters = [p for p in inspect.signature(fn).parameters.values() if p.default is p.empty]
            self.tensors = [p.name for p in parameters if p.kind is not p.KEYWORD_ONLY]
            self.attrs = [p.name for p in parameters if p.kind is p.KEYWORD_ONLY]
            wild = {name: g.wild(name) for name in self.tensors}
            self.root: Operation = fn(**wild, **{a: _Hole(a) for a in self.attrs}).op
        if self.root.opdef is _Wild:
            raise ValueError("a pattern must be an op applied to something, not a bare parameter")
        children = [t.op for t in self.root.inputs]
        self.needs = frozenset(opdef.Const if _only_constants(c) else c.opdef for c in children if c.opdef is not _Wild
                               or _only_constants(c))

    def match(self, o: Operation) -> dict[str, Any] | None:
        """What the parameters stand for when the pattern is `o`; key "" holds the ops that were matched."""
        return _match([(self.root.outputs[0], o.outputs[0])], {"": ()})


class _PatternGraph(opdef.Scratch):
    """Ops are kept as they were called, without inference: a pattern holds for every dtype and shape."""

    def create_op(self, d: opdef.OpDef, inputs: Sequence[Tensor], attrs: dict[str, Any], name: str | None = None) -> Operation:
        return Operation(self, 0, name or d.default_name, d, tuple(inputs), (), attrs, [Spec(types.float32, None)])

    def wild(self, name: str) -> Tensor:
        return self.create_op(_Wild, (), {}, name).outputs[0]


_Wild = opdef.OpDef(lambda: None, "pattern", type="Wildcard", no_gradient="a parameter of a rule")
opdef.REGISTRY.pop("Wildcard")


@dataclass(frozen=True)
class _Hole:
    """A keyword-only parameter of a pattern: matches any value of an attribute."""

    name: str


def _only_constants(p: Operation) -> bool:
    return p.opdef is opdef.Const or p.opdef is _Wild and is_constant_name(p.name)


def is_constant_name(name: str) -> bool:
    """Whether a parameter stands for constants only: c, c1, c2, ..."""
    return name == "c" or name[0] == "c" and name[1:].isdigit()


def _match(todo: list[tuple[Tensor, Tensor]], env: dict[str, Any]) -> dict[str, Any] | None:
    """Compares pairs of (pattern tensor, tensor), trying both orders under commutative ops."""
    while todo:
        (p, t), todo = todo[0], todo[1:]
        kind, o = p.op.opdef, t.op
        if kind is _Wild:
            if not _bind(env, p.op, t):
                return None
        elif kind is opdef.Const:
            value = splat(t)
            if value is None or value != p.op.attrs["value"].flat[0]:
                return None
        else:
            if o.opdef is not kind or t.value_index or len(o.inputs) != len(p.op.inputs) or not _bind_attrs(env, p.op, o):
                return None
            env[""] = (*env[""], o)
            pairs = list(zip(p.op.inputs, o.inputs))
            if kind.commutative and len(pairs) == 2 and o.inputs[0] is not o.inputs[1]:
                found = _match([*pairs, *todo], dict(env))
                if found is not None:
                    return found
                pairs = list(zip(p.op.inputs, reversed(o.inputs)))
            todo = [*pairs, *todo]
    return env


def _bind(env: dict[str, Any], wild: Operation, t: Tensor) -> bool:
    if _only_constants(wild) and t.op.opdef is not opdef.Const:
        return False
    bound = env.setdefault(wild.name, t)
    return bound is t or same_constant(bound, t)


def _bind_attrs(env: dict[str, Any], p: Operation, o: Operation) -> bool:
    for key, wanted in p.attrs.items():
        have = o.attrs[key]
        if isinstance(wanted, _Hole):
            if wanted.name in env and env[wanted.name] != have:
                return False
            env[wanted.name] = have
        elif wanted != have:
            return False
    return True


# ---------------------------------------------------------------- rules


class Workspace(opdef.Scratch):
    """The scratch graph replacements are built in, one for a whole walk."""

    def standing_for(self, o: Operation, matched: Sequence[Operation]) -> Workspace:
        """Emptied; what is built next stands in the place of `o` and for the `matched` ops."""
        self._ops = []
        self._context = o.device, o.site, names_of(matched)
        self._prefix = o.name + "/"
        return self


@dataclass
class Rule:
    """`replacement` instead of `pattern`.

    name: what reports show.
    pattern, replacement: functions of the same parameters (the replacement may use fewer); a replacement that returns
        None, or a tensor of another dtype or shape, leaves the program as it is.
    where: a condition on the parameters.
    dtypes: dtypes of the first parameter for which the rule holds.
    samples: what its test calls the pattern with, by parameter: an array, a shape, (dtype, shape), or an attribute's value.
    domain: interval of the test's random floats.
    exact: whether integers and floats come out bit by bit the same.
    """

    name: str
    pattern: Callable[..., Any]
    replacement: Callable[..., Any]
    where: Callable[..., bool] | None = None
    dtypes: tuple[DType, ...] = types.ALL
    samples: Sequence[dict[str, Any]] = ({},)
    domain: tuple[float, float] = (-3.0, 3.0)
    exact: bool = False
    compiled: Pattern | None = field(default=None, repr=False)

    def compile(self) -> Pattern:
        """The pattern; raises Missing when it names an op that does not exist."""
        if self.compiled is None:
            self.compiled = Pattern(self.pattern)
            self._wants = [_names(f) for f in (self.replacement, self.where) if f is not None]
        return self.compiled

    def apply(self, o: Operation, g: Workspace) -> tuple[Tensor, list[Operation], tuple[Operation, ...]] | None:
        """(new tensor, ops made for it, ops matched), or None when the rule does not hold at `o`."""
        found = self.compile().match(o)
        if found is None or found.get(self.compiled.tensors[0], o.outputs[0]).dtype not in self.dtypes:  # type: ignore[union-attr]
            return None
        matched = found[""]
        if self.where is not None and not self.where(**{k: found[k] for k in self._wants[-1]}):
            return None
        with g.standing_for(o, matched).as_default():
            t = self.replacement(**{k: found[k] for k in self._wants[0]})
        return None if t is None or not _fits(t, o.outputs[0]) else (t, g._ops, matched)


@dataclass
class OpRule:
    """A rule written as a function of an op: `function(op)` returns the tensor to use instead of its output, or None.

    For what a pattern cannot say: any number of inputs, any op of a family.
    """

    name: str
    function: Callable[[Operation], Any]
    on: Callable[[opdef.OpDef], bool]
    examples: Callable[[], Sequence[Any]] = lambda: ()

    def apply(self, o: Operation, g: Workspace) -> tuple[Tensor, list[Operation], tuple[Operation, ...]] | None:
        with g.standing_for(o, (o,)).as_default():
            t = self.function(o)
        return None if t is None or not _fits(t, o.outputs[0]) else (t, g._ops, (o,))


def _names(fn: Callable[..., Any]) -> list[str]:
    return [p.name for p in inspect.signature(fn).parameters.values() if p.default is p.empty]


def _fits(new: Tensor, old: Tensor) -> bool:
    return new is not old and new.dtype is old.dtype and same_shape(new.sizes, old.sizes)


# Counts changes of any table, so that compiled plans can be keyed by it.
changes = 0


class Table:
    """Rules in the order they are tried, found by the op at the root of their pattern."""

    def __init__(self, name: str):
        self.name = name
        self.rules: list[Rule | OpRule] = []
        self.missing: dict[str, str] = {}  # rule -> op type that is not registered
        self._index: dict[opdef.OpDef, list[tuple[frozenset[Any], Rule | OpRule]]] = {}

    def add(self, new: Rule | OpRule) -> None:
        """Adds a rule; raises ValueError when there is one of that name."""
        if any(r.name == new.name for r in self.rules):
            raise ValueError(f"there is a rule {new.name!r} in {self.name} already")
        self.rules.append(new)
        self._changed()

    def remove(self, name: str) -> None:
        self.rules = [r for r in self.rules if r.name != name]
        self._changed()

    def _changed(self) -> None:
        global changes
        changes += 1
        self._index.clear()

    def of(self, d: opdef.OpDef) -> list[tuple[frozenset[Any], Rule | OpRule]]:
        """The rules that may hold at an op, each with the ops that must be among its inputs."""
        found = self._index.get(d)
        if found is None:
            found = self._index[d] = [entry for r in self.rules if (entry := self._entry(r, d)) is not None]
        return found

    def _entry(self, r: Rule | OpRule, d: opdef.OpDef) -> tuple[frozenset[Any], Rule | OpRule] | None:
        if isinstance(r, OpRule):
            return (frozenset(), r) if r.on(d) else None
        try:
            pattern = r.compile()
        except Missing as e:
            self.missing[r.name] = str(e)
            return None
        return (pattern.needs, r) if pattern.root.opdef is d else None


TABLES: dict[str, Table] = {}


def table(name: str) -> Table:
    """The table of that name, made when there is none."""
    return TABLES.setdefault(name, Table(name))


def rule(name: str, pattern: Callable[..., Any], replacement: Callable[..., Any], *, table: Table | str = "stability",
         **facts: Any) -> Rule:
    """Adds a rule to a table: "stability" is tried on the user's ops, "algebra" on primitives.  See `Rule` for `facts`."""
    new = Rule(name, pattern, replacement, **facts)
    _table(table).add(new)
    return new


def op_rule(name: str, on: Callable[[opdef.OpDef], bool], *, table: Table | str, examples: Any = lambda: ()) -> Callable[..., Any]:
    """Decorator: adds a rule that is a function of an op; `on(opdef)` says for which ops it is tried."""
    def add(fn: Callable[[Operation], Any]) -> Callable[[Operation], Any]:
        _table(table).add(OpRule(name, fn, on, examples))
        return fn
    return add


def _table(which: Table | str) -> Table:
    if isinstance(which, Table):
        return which
    if which not in TABLES:
        raise ValueError(f"no table of rules {which!r}; there are {sorted(TABLES)}")
    return TABLES[which]


# ---------------------------------------------------------------- the engine


Fold = Callable[[Operation], "tuple[Tensor, ...] | None"]


def rewrite(program: Program, rules: Table, fold: Fold = lambda o: None) -> Program:
    """The program with the rules applied wherever they hold; the same object when none does.

    `fold` evaluates ops of constants that replacements make, so that the next pattern sees a constant.
    """
    engine = _Engine(rules, fold)
    new: dict[Tensor, Tensor] = {}
    effects: dict[Operation, Operation] = {}
    for o in program.ops():
        copy = moved(o, new, effects) if new else o
        if copy is not o:
            effects[o] = copy
        if rules.of(copy.opdef) and copy.opdef.effect is None and len(copy.outputs) == 1:
            found = engine.simplified(copy, BUDGET)
        elif copy is o:
            continue
        else:
            found = copy.outputs
        for old, t in zip(o.outputs, found):
            if old is not t:
                new[old] = t
    if not new and not effects:
        return program
    return program.with_roots(lambda t: new.get(t, t), lambda o: effects.get(o, o))


def moved(o: Operation, new: dict[Tensor, Tensor], ops: dict[Operation, Operation]) -> Operation:
    """`o` reading what its inputs became; itself when they did not change."""
    for t in o.inputs:
        if t in new:
            return with_inputs(o, tuple([new.get(t, t) for t in o.inputs]), tuple([ops.get(c, c) for c in o.control_inputs]))
    return o


class _Engine:
    def __init__(self, rules: Table, fold: Fold):
        self.rules, self.fold, self.workspace = rules, fold, Workspace()

    def simplified(self, o: Operation, budget: int) -> tuple[Tensor, ...]:
        """The outputs of `o`, or what the rules make of them."""
        rules = self.rules.of(o.opdef)
        if not rules:
            return o.outputs
        children = {t.op.opdef for t in o.inputs}
        for needs, r in rules:
            if needs <= children:
                found = r.apply(o, self.workspace)
                if found is not None:
                    t, made, matched = found
                    if budget == 0:
                        warnings.warn(f"rule {r.name!r} is applied again and again at {o.name!r}; another rule undoes it", stacklevel=2)
                        return o.outputs
                    note(r.name, matched)
                    return (self._settled(t, made, budget - 1),)
        return o.outputs

    def _settled(self, t: Tensor, made: list[Operation], budget: int) -> Tensor:
        """`t` after the ops that a replacement made have been simplified in turn."""
        new: dict[Tensor, Tensor] = {}
        for o in made:
            copy = moved(o, new, {})
            found = self.fold(copy)
            if found is None:
                found = self.simplified(copy, budget) if len(copy.outputs) == 1 else copy.outputs
            for old, n in zip(o.outputs, found):
                if old is not n:
                    new[old] = n
        return new.get(t, t)
