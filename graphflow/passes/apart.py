"""Loops that two devices share: what decides whether one goes on is computed twice.

The host computes the few numbers that it asks after each iteration; whatever else reads them gets numbers of its own, computed beside
it, so that no iteration carries them from one side to the other.  Knows loops; knows no device (rank 4).
"""
from __future__ import annotations

from ..graph import Operation, Tensor
from .fusion import CONTROL, kind_of
from .opened import Open, Variable, elements
from .program import with_inputs
from .rewrite import note

FEW = 16  # elements of a value that decides whether a loop goes on


def twice(op: Operation, needed: list[int], effect: bool) -> tuple[Operation, dict[int, Tensor]] | None:
    """A loop whose kernels read copies of what its condition reads; None where it asks nothing, or nothing but for that."""
    if op.attrs["trip"] is not None and not op.attrs["checked"]:
        return None
    loop = Open(op, op.inputs, needed)
    deciding = _deciding(loop)
    if deciding is None:
        return None
    variables, own = deciding
    theirs = {v.param for v in variables}.union(*[o.outputs for o in own])
    readers = [o for o in loop.program.ops() if o not in own and not theirs.isdisjoint(o.inputs) and o.opdef not in CONTROL
               and kind_of(o, lambda _: None) != "host"]
    kept = [v for v in loop.variables if v not in variables and loop.new(v) in theirs]
    if not readers and not kept:
        return None
    copies = {v.param: loop.add(v.slot.name, v.init, lambda param: param).param for v in variables}
    twins = dict(zip(variables, loop.variables[-len(variables):]))
    for o in [o for o in loop.program.ops() if o in own]:
        copies.update(zip(o.outputs, with_inputs(o, tuple([copies.get(t, t) for t in o.inputs])).outputs))
    for v in [*variables, *kept]:
        loop.assign(twins.get(v, v), copies.get(loop.new(v), loop.new(v)))
    loop.change(lambda o, inputs: with_inputs(o, tuple([copies.get(old, new) for old, new in zip(o.inputs, inputs)])).outputs
                if o in readers else None)
    note("what decides is computed twice", [op])
    return loop.close()


def _deciding(loop: Open) -> tuple[list[Variable], set[Operation]] | None:
    """The variables and ops that settle whether the loop goes on; None unless these are few numbers computed from few."""
    of = {v.param: v for v in loop.variables}
    variables: dict[Variable, None] = {}
    own: dict[Operation, None] = {}
    todo = [loop.cond]
    while todo:
        t = todo.pop()
        if t not in loop.variant:
            continue
        if elements(t) > FEW or t.op.opdef in CONTROL or t.op.opdef.effect is not None or kind_of(t.op, lambda _: None) == "host":
            return None
        if t in of:
            if of[t] not in variables:
                variables[of[t]] = None
                todo.append(loop.new(of[t]))
        elif t.op not in own:
            own[t.op] = None
            todo += t.op.inputs
    return list(variables), set(own)
