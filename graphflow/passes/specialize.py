"""From the user's graph to a program: sizes become symbols, state becomes dataflow.

Walks the operations of one step in the order the program made them, keeping the current value of each variable, and
infers every op again from the actual inputs.  Where a size or a shape operand depends on data, the walk stops there
(`Blocked`) and the step continues as a second stage once that value is known (rank 4).
"""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Any, Collection, Sequence

import numpy as np

from .. import errors, types
from ..graph import Operation, Spec, Tensor, topological
from ..ops import control, opdef, state
from ..types import Dim, Size
from .program import Program

Key = tuple[str, Any]  # ("feed", tensor) | ("variable", op) | ("counter", op) | ("stage", tensor)


@dataclass
class Binding:
    """Where symbols get their numbers: sizes (and, where asked for, values) of the inputs."""

    positions: list[tuple[Key, int, Size]] = field(default_factory=list)  # (input, axis, symbol or number)
    values: list[tuple[Key, int, Size]] = field(default_factory=list)  # (input, flat index, symbol)
    guards: list[types.Guard] = field(default_factory=list)

    def environment(self, shapes: Any, values: Any) -> dict[str, int] | None:
        """Symbol values for actual shapes and values; None when this specialisation does not fit them."""
        env: dict[str, int] = {}
        for key, axis, size in self.positions:
            if not _bind(env, size, shapes(key)[axis]):
                return None
        for key, i, size in self.values:
            actual = int(np.asarray(values(key)).reshape(-1)[i])
            if isinstance(size, Dim) and actual < 0 or not _bind(env, size, actual):
                return None
        return env if types.guards_hold(self.guards, env) else None


def _bind(env: dict[str, int], size: Size, actual: int) -> bool:
    if not isinstance(size, Dim):
        return size == actual
    name, = types.symbols_of(size)
    return env.setdefault(name, actual) == actual


@dataclass
class Stage:
    """One specialised piece of a step.  When `blocked` is empty, its outputs are the step's."""

    program: Program
    binding: Binding
    blocked: list[Operation]
    wants_values: set[Key]
    outputs: list[Tensor]  # the user's tensors that program.outputs stand for
    ranks: tuple[tuple[Key, int], ...] = ()


class Specializer:
    """Makes stages for one request: fetches, targets and fed tensors of a user's graph."""

    def __init__(self, fetches: Sequence[Tensor], targets: Sequence[Operation], feeds: Sequence[Tensor],
                 done: Collection[Operation] = ()):
        self.fetches, self.feeds = list(fetches), dict.fromkeys(feeds)  # in order: so are the inputs of programs
        self.done = done  # operations that have run before, by others
        self.ops = topological([*[t.op for t in fetches if t not in self.feeds], *targets], {*self.feeds, *done})

    def stage(self, shapes: Any, values: Any, bound: dict[Tensor, Any], valued: set[Key]) -> Stage:
        """The next piece.

        Args:
            shapes(key), values(key): the actual shape and value of an input.
            bound: the user's tensors computed by earlier stages.
            valued: inputs whose integer values are needed as sizes.
        """
        return _Walk(self, shapes, values, bound, valued).run()


class _Walk:
    def __init__(self, request: Specializer, shapes: Any, values: Any, bound: dict[Tensor, Any], valued: set[Key]):
        self.request, self.shapes, self.values, self.bound, self.valued = request, shapes, values, bound, valued
        self.graph = opdef.Scratch()
        self.binding = Binding()
        self.symbols: dict[int, Dim] = {}
        self.inputs: dict[Key, Tensor] = {}
        self.env: dict[Tensor, Tensor] = {}
        self.current: dict[Operation, Tensor] = {}
        self.written: dict[Operation, Tensor] = {}  # variable -> the user's tensor of its last write
        self.effects: list[Operation] = []
        self.done_effects: set[Operation] = set()
        self.blocked: list[Operation] = []
        self.wants: set[Key] = set()
        self.saves = control.saves(request.ops)
        self.roomy: set[Tensor] = set()  # counters of loops for whose iterations growing arrays have room
        self.taken: dict[tuple[Operation, int], Tensor] = {}  # variables as a branch or loop found them

    def run(self) -> Stage:
        with types.recording_guards() as guards, self.graph.as_default():
            for t in self.request.feeds:
                self.env[t] = self.input(("feed", t), t)
            for t in self.bound:
                self.env[t] = self.input(("stage", t), t)
            for op in self.request.ops:
                self._one(op)
            outputs = list(self.request.fetches)
            if self.blocked:
                stage = self._partial()
            else:
                values = tuple(self._value(t) for t in outputs)
                program = Program(self._input_list(), values, tuple((v, self.current[v]) for v in self.written), tuple(self.effects))
                stage = Stage(program, self.binding, [], self.wants, outputs)
        self.binding.guards = guards
        return stage

    # -- inputs

    def input(self, key: Key, like: Tensor) -> Tensor:
        """A StandIn whose unknown sizes are symbols; equal sizes at the first binding share one."""
        if key in self.inputs:
            return self.inputs[key]
        shape = () if key[0] == "counter" else self.shapes(key)
        static = like.sizes if like.sizes is not None and key[0] != "stage" else (types.UNKNOWN,) * len(shape)
        sizes = tuple(self._size(key, i, s, n) for i, (s, n) in enumerate(zip(static, shape)))
        dtype = types.int64 if key[0] == "counter" else like.dtype
        known = self._known(key, shape) if key in self.valued else None
        self.inputs[key] = self.graph.stand_in(Spec(dtype, sizes, known))
        return self.inputs[key]

    def _size(self, key: Key, axis: int, static: Size, actual: int) -> Size:
        if not isinstance(static, Dim):
            return static
        size: Size = 1 if actual == 1 else self.symbols.setdefault(actual, types.symbol(f"n{len(self.symbols)}", actual))
        self.binding.positions.append((key, axis, size))
        return size

    def _known(self, key: Key, shape: tuple[int, ...]) -> np.ndarray:
        actual = np.asarray(self.values(key))
        out = np.empty(actual.shape, object)
        for i, v in enumerate(actual.reshape(-1)):
            # Symbols are sizes, never negative: a negative number (reshape's -1) is a case of its own.
            symbol = int(v) if v < 0 else types.symbol(f"v{len(self.binding.values)}", int(v))
            self.binding.values.append((key, i, symbol))
            out.reshape(-1)[i] = symbol
        return out

    def _input_list(self) -> tuple[tuple[str, Any, Tensor], ...]:
        return tuple((kind, what, t) for (kind, what), t in self.inputs.items())

    # -- operations

    def _one(self, op: Operation) -> None:
        d = op.opdef
        if op.outputs and (all(t in self.env for t in op.outputs) or control.regions_of(op) and any(t in self.bound for t in op.outputs)):
            if d.effect == "write" and op.outputs[0] not in self.request.feeds:  # a fed write is not run
                self._wrote(op)
            for v, t in control.finals(op):  # an earlier stage has run it, and hands on what others read
                self.current[v], self.written[v] = self.env[t], t
            if d is control.while_op and op.outputs[-1] in self.bound:
                from . import regions

                regions.regrown(self, op)
            return
        if d is state.variable_handle:
            return
        if d.effect in ("read", "write") and d.family == "state":
            self._state(op)
            return
        inputs = [self._value(t, missing_ok=True) for t in op.inputs]
        if any(t is None for t in inputs):
            return
        from . import regions

        if d in regions.SPECIAL:
            regions.SPECIAL[d](self, op)
        elif d is control.captured_op:
            regions.captured(self, op)
        else:
            self._plain(op, regions.resolved(op, inputs, op) if d.family == "control" or any(
                not isinstance(t, Tensor) for t in inputs) else inputs)  # type: ignore[arg-type]

    def _value(self, t: Tensor, missing_ok: bool = False) -> Tensor | None:
        if t.op.opdef is state.variable_handle and t not in self.env:
            return self._variable(t.op)
        return self.env.get(t) if missing_ok else self.env[t]

    def _variable(self, var: Operation) -> Tensor:
        if var.outputs[0] in self.env:  # fed: every read of the step sees that
            return self.env[var.outputs[0]]
        if var not in self.current:
            self.current[var] = self.input(("variable", var), var.outputs[0])
        return self.current[var]

    def _state(self, op: Operation) -> None:
        var = op.inputs[0].op
        if op.opdef is state.read_handle:
            self.env[op.outputs[0]] = self._variable(var)
            return
        if op.opdef is state.is_variable_initialized_op:
            self.env[op.outputs[0]] = self.input(("initialized", var), op.outputs[0])
            return
        rest = [self._value(t, missing_ok=True) for t in op.inputs[1:]]
        if any(t is None for t in rest):
            return
        if op.opdef is state.assign_op:
            new = rest[-1]
        else:
            with opdef.scratch(op):
                new = op.opdef.fn(self._variable(var), *rest)
        assert new is not None
        if op.attrs.get("validate_shape", True):
            self._agree(op, new.sizes, var.outputs[0].sizes)
        self.env[op.outputs[0]] = new
        self._wrote(op)

    def _wrote(self, op: Operation) -> None:
        var = op.inputs[0].op
        self.current[var] = self.env[op.outputs[0]]
        self.written[var] = op.outputs[0]

    def _agree(self, op: Operation, have: types.Shape, want: types.Shape) -> None:
        try:
            types.merge_shapes(have, want)
        except ValueError as e:
            raise errors.raised_at(errors.InvalidArgumentError, op, f"Assign requires shapes of both tensors to match: {e}") from None

    def _plain(self, op: Operation, inputs: list[Tensor], of: Operation | None = None) -> None:
        """Appends `op`, or the random op `of` whose run counter is the last of `inputs`."""
        kind = of or op
        for name in kind.opdef.static:
            i = kind.opdef.params.index(name)
            if i < len(inputs) and not _determined(inputs[i].known):
                self._block(op, [op.inputs[i]], value=True)
                return
        specs = self._infer(op, inputs)
        if any(s.sizes is None or any(types.is_unknown(n) for n in s.sizes) for s in specs):
            self._block(op, list(op.inputs))
            return
        if op.opdef.effect == "random":
            inputs = [*inputs, self.input(("counter", op), op.outputs[0])]
        new = Operation(self.graph, op.id, op.name, kind.opdef, tuple(inputs), (), kind.attrs, specs, op.device, op.site, (op.name,))
        self.env.update(zip(op.outputs, new.outputs))
        if op.opdef.effect == "host":
            self.effects.append(new)

    def _infer(self, op: Operation, inputs: list[Tensor]) -> list[Spec]:
        try:
            specs = op.opdef.infer(inputs, op.attrs)
            return [Spec(s.dtype, _merged(s.sizes, t.sizes), s.known) for s, t in zip(specs, op.outputs)]
        except errors.OpError:
            raise
        except (ValueError, TypeError) as e:
            shapes = ", ".join(types.shape_text(tuple(types.hint(n) for n in t.sizes)) for t in inputs)  # type: ignore[union-attr, misc]
            raise errors.raised_at(errors.InvalidArgumentError, op, f"{e}; input shapes: {shapes}") from None

    # -- data-dependent sizes

    def _block(self, op: Operation, needed: list[Tensor], value: bool = False) -> None:
        """`op` cannot be specialised before `needed` have been computed."""
        inputs = {t: k for k, t in self.inputs.items()}
        if value:
            key = inputs.get(self.env[needed[0]])
            if key is not None:
                self.wants.add(key)
                self.blocked.append(op)
                return
        self.blocked.append(op)
        self.needed = [*getattr(self, "needed", []), *needed]

    def _partial(self) -> Stage:
        """A stage that computes what the blocked ops wait for, and every value that crosses to the next stage."""
        needed = [t for t in getattr(self, "needed", []) if t in self.env or t.op.opdef is state.variable_handle]
        inside = set(topological([t.op for t in needed], {*self.request.feeds, *self.bound, *self.request.done}))
        crossing = dict.fromkeys(needed)
        for op in self.request.ops:
            if op not in inside:
                crossing.update(dict.fromkeys(t for t in op.inputs if t.op in inside and t in self.env))
        crossing.update(dict.fromkeys(t for t in self.request.fetches if t.op in inside))
        crossing.update(dict.fromkeys(t for t in self.written.values() if t.op in inside))
        outputs = [t for t in crossing if t not in self.bound and t not in self.request.feeds and t.op.opdef is not state.variable_handle
                   and t.op.opdef is not opdef.Const and isinstance(self.env[t], Tensor)]
        program = Program(self._input_list(), tuple(self.env[t] for t in outputs), (), ())
        return Stage(program, self.binding, self.blocked, self.wants, outputs)


def _determined(known: np.ndarray | None) -> bool:
    return known is not None and not any(isinstance(v, Dim) and types.is_unknown(v) for v in known.flat)


def _merged(found: types.Shape, declared: types.Shape) -> types.Shape:
    if found is None or declared is None:
        return declared if found is None else found
    return types.merge_shapes(found, declared)
