"""A program: what one step computes, as pure dataflow.  The value every pass takes and returns.

It is the graph pruned to the fetches, with symbolic sizes instead of unknown ones, and without state: a variable's
old value is an input, its new value an output.  Operations and tensors are those of graphflow/graph.py, frozen;
a pass shares what it does not change.  Knows no rule and no kernel (rank 4).
"""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Callable, Collection, Iterable, Mapping

from ..graph import Operation, Tensor
from ..ops import opdef


@dataclass(frozen=True)
class Program:
    """One step.

    inputs: StandIn tensors by what they stand for: ("feed", tensor of the user's graph), ("variable", variable op), or
        ("counter", random op): how often that random op has run, an int64 scalar.
    outputs: the fetched values, in order; in the program of a branch None for one that it leaves undefined.
    writes: the final value of each variable the step assigns.
    effects: operations with host effects (Print, Assert, py_func), in program order.
    """

    inputs: tuple[tuple[str, Any, Tensor], ...]
    outputs: tuple[Tensor, ...]
    writes: tuple[tuple[Operation, Tensor], ...] = ()
    effects: tuple[Operation, ...] = ()

    def roots(self) -> list[Tensor]:
        """Every tensor that must exist when the step ends."""
        return [t for t in (*self.outputs, *[t for _, t in self.writes]) if t is not None]

    def ops(self) -> list[Operation]:
        """All operations, inputs before users, in a deterministic order; unused ones are not here.  Do not change the list."""
        found = self.__dict__.get("_order")
        if found is None:
            found = self.__dict__["_order"] = ordered([*[t.op for t in self.roots()], *self.effects])
        return found

    def consumers(self) -> dict[Tensor, list[Operation]]:
        """The operations that read each tensor (an op appears once per use)."""
        out: dict[Tensor, list[Operation]] = {}
        for op in self.ops():
            for t in op.inputs:
                out.setdefault(t, []).append(op)
        return out

    def with_roots(self, change: Callable[[Tensor], Tensor], effect: Callable[[Operation], Operation]) -> Program:
        outputs = tuple([t if t is None else change(t) for t in self.outputs])
        return replace(self, outputs=outputs, writes=tuple((v, change(t)) for v, t in self.writes),
                       effects=tuple(map(effect, self.effects)))


def ordered(targets: Iterable[Operation], outer: Collection[Tensor] = ()) -> list[Operation]:
    """Depth-first post-order from `targets`, without recursion; not into ops that make `outer` tensors."""
    seen: set[Operation] = set()
    out: list[Operation] = []
    stack = [(op, False) for op in reversed(list(targets))]
    while stack:
        op, done = stack.pop()
        if done:
            out.append(op)
        elif op not in seen:
            seen.add(op)
            stack.append((op, True))
            if op.control_inputs:
                stack.extend([(c, False) for c in reversed(op.control_inputs) if c not in seen])
            stack.extend([(t.op, False) for t in reversed(op.inputs) if t.op not in seen and t not in outer])
    return out


def rebuild(program: Program, change: Callable[[Operation, tuple[Tensor, ...]], Iterable[Tensor] | None]) -> Program:
    """The program with ops replaced, inputs first.

    `change(op, new_inputs)` returns the tensors to use instead of `op.outputs`, or None to keep the op (copied only if
    its inputs changed).
    """
    new: dict[Tensor, Tensor] = {}
    ops: dict[Operation, Operation] = {}
    for op in program.ops():
        inputs = op.inputs
        if new and any(t in new for t in inputs):
            inputs = tuple([new.get(t, t) for t in inputs])
        found = change(op, inputs)
        if found is None:
            if inputs is op.inputs and not op.control_inputs:
                continue
            copy = with_inputs(op, inputs, tuple([ops.get(c, c) for c in op.control_inputs]))
            if copy is op:
                continue
            ops[op] = copy
            found = copy.outputs
        else:
            found = tuple(found)
            if found and found[0].op.opdef is op.opdef:  # the same, changed: its effects are the op's
                ops[op] = found[0].op
        for old, t in zip(op.outputs, found):
            if old is not t:
                new[old] = t
    return program.with_roots(lambda t: new.get(t, t), lambda op: ops.get(op, op)) if new else program


def with_inputs(op: Operation, inputs: tuple[Tensor, ...], control: tuple[Operation, ...] | None = None) -> Operation:
    """`op` on other inputs of the same specs; `op` itself when nothing changes."""
    control = op.control_inputs if control is None else control
    if all(a is b for a, b in zip(inputs, op.inputs)) and control == op.control_inputs:
        return op
    specs = [opdef.Spec(t.dtype, t.sizes, t.known) for t in op.outputs]
    return Operation(op.graph, op.id, op.name, op.opdef, inputs, control, op.attrs, specs, op.device, op.site, op.origin or (op.name,))


def substitute(program: Program, mapping: Mapping[Tensor, Tensor]) -> Program:
    """The program with some tensors replaced by others of the same spec."""
    return rebuild(program, lambda op, inputs: [mapping.get(t, t) for t in with_inputs(op, inputs).outputs]
                   if any(t in mapping for t in op.outputs) else None)
