"""Loops whose backward pass keeps little and computes more (`swap_memory=True`).

n iterations are cut into segments of about sqrt(n).  Only the loop variables at the start of each segment are kept; the backward
pass computes a segment again, keeping what its gradient needs, before it walks it backwards: memory for 2 sqrt(n) iterations, and
the loop computed three times (Griewank and Walther 2000; Chen, Xu, Zhang, Guestrin: "Training Deep Nets with Sublinear Memory
Cost", 2016).  The starts are found by running the loop once more, because n is known only when it has ended.
Knows regions and the gradient of a plain loop (ops/control.py); knows no pass and no kernel (rank 3).
"""
from __future__ import annotations

from typing import Any, Sequence

import numpy as np

from .. import graph, types
from ..codegen import ir
from ..codegen.ir import m
from ..graph import Operation, Region, Spec, Tensor
from . import control
from .control import cond_op, while_op
from .opdef import constant, primitive

# ---------------------------------------------------------------- ops


def _root_spec(n: Tensor) -> Spec:
    found = None if n.known is None else types.opaque("root", n.known[()], 1)  # type: ignore[arg-type]
    return Spec(n.dtype, (), None if found is None or types.is_unknown(found) else np.array(found, object))


@primitive("control", type="SegmentLength", dtypes=types.INTEGER, same=("n",), static=("n",), infer=_root_spec,
           no_gradient="a number of iterations")
def segment_length(n):
    """The smallest number whose square is at least `n`; not less than 1.  Static: the length of what is kept."""


segment_length.reference(lambda n: types.opaque("root", int(n), 1))
segment_length.lowers(lambda op, index, read: m.cast(
    m.max(m.ceil(m.sqrt(m.cast(read(0, []), types.float64))), ir.const(1.0, types.float64)), op.outputs[0].dtype))


@primitive("control", type="TensorArrayWritten", dtypes=types.ALL, same=("slots", "value"),
           infer=lambda slots, *_: Spec(slots.dtype, slots.sizes))
def written_op(slots, index, value):
    """`slots`, which nobody reads; its gradient is that of writing `value` at `index`."""


written_op.reference(lambda slots, index, value: slots)
written_op.lowers(lambda op, index, read: read(0, index))


@written_op.grad
def _(op, dy):
    _, index, value = op.inputs
    return control.put(dy, index, graph.OPERATORS["zeros_like"](value)), None, control.recall(dy, index)


# ---------------------------------------------------------------- copies


class Twin:
    """A region of a loop once more: its ops, made here when asked for, on other values of what it takes.

    source: the region that is repeated.  made: its tensors here.  base: the loop as a whole, or the copy of the region around.
    tick: the number of the iteration as an int64 scalar; None in a branch.
    """

    def __init__(self, source: Region, region: Region, made: dict[Tensor, Tensor], base: Any, tick: Tensor | None):
        self.source, self.region, self.made, self.base, self.tick = source, region, made, base, tick
        self.owners: dict[Operation, Operation] = {}  # branches and loops inside, with their copies
        self.inner: dict[Region, Twin] = {}
        self.counters: dict[Operation, Tensor] = {}
        region.twin = self

    def __call__(self, t: Tensor) -> Tensor:
        if t.op.region is not self.source:
            return self.base(t)
        if t not in self.made:
            with t.graph.inside(self.region):
                for op in control.needed(self.source, [t]):
                    if any(out not in self.made for out in op.outputs) or not op.outputs:
                        self.made.update(zip(op.outputs, self._copy(op)))
        return self.made[t]

    def _copy(self, op: Operation) -> Sequence[Tensor]:
        d, handle = op.opdef, control.variable_read(op)
        if handle is not None:
            return [self.variable(handle)]
        if d is control.unwritten:  # has been checked
            return [self(op.inputs[1])]
        if d is control.counter_op:
            return [self.counter(op.attrs["of"])]
        if d in (cond_op, while_op):
            return self._with_regions(op)
        inputs = [self(t) for t in op.inputs]
        if d is control.put and self.is_blank(op.inputs[0]):
            return [written_op(*inputs)]
        if d is control.saved_op:
            owner = self.owners[op.attrs["owner"]]
            return [control.saved(owner, self.inner[op.attrs["tensor"].op.region](op.attrs["tensor"]))]
        if d.effect == "random":
            made = control.drawn_op(*inputs, self.counter(op), of=op, name=op.name.rpartition("/")[2])
            return made if isinstance(made, list) else [made]
        return control.again(op, inputs)

    def is_blank(self, t: Tensor) -> bool:
        """Whether `t` is an array that is only written to."""
        while t.op.opdef is control.put:
            t = t.op.inputs[0]
        return isinstance(self.base, _Loop) and t in self.base.blank

    def variable(self, handle: Tensor) -> Tensor:
        return self.base.variable(handle)

    def counter(self, of: Operation) -> Tensor:
        """The run counter of a random op of the repeated region, as it was in this iteration."""
        if of not in self.counters:
            outer = self.base.counter(of)
            with of.graph.inside(self.region):
                self.counters[of] = outer if self.tick is None else control.stream_tensor(outer, self.tick)
        return self.counters[of]

    def _with_regions(self, op: Operation) -> Sequence[Tensor]:
        g, loop = op.graph, op.opdef is while_op
        count = op.attrs.get("count", 0)
        ticking = loop and "random" in control.effects(op)
        inits = [self(t) for t in op.inputs[:count]]
        regions = []
        for source in op.attrs["regions"]:
            region = control.enter(g, source.what)
            with g.inside(region):
                region.params = [control.loop_variable(spec=Spec(p.dtype, p.sizes)) for p in source.params]
                tick = control.loop_variable(spec=Spec(types.int64, ())) if ticking else None
                child = self.inner[source] = Twin(source, region, dict(zip(source.params, region.params)), self, tick)
                region.results = [control._own(child(t), region) for t in source.results]
                region.also = [child(t) for t in (*source.also, *[t for t in g._saved if t.op.region is source])]
                region.reverses = source.reverses
                if tick is not None:
                    region.params.append(tick)
                    region.results += [tick + constant(1, types.int64)] if len(regions) else []
            regions.append(region)
        if not loop:
            made = self.owners[op] = control.finish_cond(g, self(op.inputs[0]), regions)
            return made.outputs
        made = self.owners[op] = control.finish_while(g, [*inits, *([constant(0, types.int64)] if ticking else [])], regions)
        if op in g._checkpointed:
            g._checkpointed.add(made)
        return [*made.outputs[:count], *made.outputs[count + ticking:]]


# ---------------------------------------------------------------- the backward pass


def repeatable(op: Operation) -> bool:
    """Whether the loop may be run again: it reads variables and draws random numbers, but changes and prints nothing."""
    body = op.attrs["regions"][1]
    return not op.attrs["writes"] and set().union(*[control.effects(o) for o in control.members(body)]) <= {None, "read", "random"}


class _Loop:
    """A While that is run again in segments."""

    def __init__(self, op: Operation):
        self.op, self.body, self.n = op, op.attrs["regions"][1], op.attrs["count"]
        self.variables: dict[Tensor, Tensor] = {}
        self.counters: dict[Operation, Tensor] = {}
        self.count = op.outputs[-1]
        self.length = segment_length(self.count)
        self.segments = (self.count + self.length - constant(1, types.int32)) // self.length
        params, results = self.body.params, self.body.results
        self.fixed = [j for j in range(self.n) if results[j] is params[j]]
        self.steps = {j: by for j in range(self.n) if (by := control._increment(params[j], results[j])) is not None}
        unread = self._unread()
        self.blank = {params[j] for j in unread if params[j].dtype.is_differentiable}
        self.carried = [j for j in range(self.n) if j not in self.fixed and j not in self.steps and j not in unread]

    def _unread(self) -> list[int]:
        """Loop variables that are only written to: slots of arrays, and which of them are written."""
        users: dict[Tensor, list[Operation]] = {}
        for op in control.members(self.body):
            for t in op.inputs:
                users.setdefault(t, []).append(op)

        def only_written(t: Tensor, result: Tensor) -> bool:
            if t is result:
                return t not in users and self.body.results.count(t) == 1
            found = [op for op in users.get(t, []) if op.opdef is not control.unwritten]
            return len(found) == 1 and found[0].opdef is control.put and found[0].inputs[0] is t and t not in self.body.results and \
                only_written(found[0].outputs[0], result)
        return [j for j in range(self.n) if j not in self.fixed and only_written(self.body.params[j], self.body.results[j])]

    # -- what its copies take from outside

    def __call__(self, t: Tensor) -> Tensor:
        return self.variable(t) if t.op.opdef is control.state.variable_handle else t

    def variable(self, handle: Tensor) -> Tensor:
        if handle not in self.variables:
            self.variables[handle] = control.captured(self.op, handle)
        return self.variables[handle]

    def counter(self, of: Operation) -> Tensor:
        if of not in self.counters:
            with of.graph.inside(self.op.region):
                self.counters[of] = control.counter_op(of=of)
        return self.counters[of]

    # -- running it

    def segment(self, first: Tensor, end: Tensor, starts: dict[int, Tensor]) -> Operation:
        """A While over iterations `first`, ... of one segment, before `end`, from values of some variables."""
        def ask(k: Tensor, *_: Tensor) -> Tensor:
            from .elementwise import logical_and

            return logical_and(k < self.length, k < end - first)

        def work(k: Tensor, *values: Tensor) -> list[Tensor]:
            region = graph.get_default_graph()._state.region
            at = first + k
            made = {self.body.params[j]: self.op.inputs[j] for j in self.fixed}
            for j, by in self.steps.items():
                start = self.op.inputs[j]
                made[self.body.params[j]] = start + _cast(at, start.dtype) * constant(by, start.dtype)
            made.update(zip([self.body.params[j] for j in starts], values))
            twin = Twin(self.body, region, made, self, _cast(at, types.int64))
            return [k + constant(1, types.int32), *[twin(self.body.results[j]) for j in starts]]

        return control.make_while(ask, work, [constant(0, types.int32), *starts.values()],
                                  [(), *[self.body.params[j].sizes for j in starts]])

    def starts(self) -> dict[int, Tensor]:
        """The values of the carried variables at the start of each segment, one above the other."""
        if not self.carried:
            return {}
        end = (self.segments - constant(1, types.int32)) * self.length  # nobody needs what the last one gives

        def work(i: Tensor, *values: Tensor) -> list[Tensor]:
            made = self.segment(i * self.length, end, dict(zip(self.carried, values)))
            return [i + constant(1, types.int32), *made.outputs[1:1 + len(self.carried)]]

        made = control.make_while(lambda i, *_: i < self.segments, work,
                                  [constant(0, types.int32), *[self.op.inputs[j] for j in self.carried]],
                                  [(), *[self.body.params[j].sizes for j in self.carried]], compact=True)
        return {j: control.saved(made, p) for j, p in zip(self.carried, made.attrs["regions"][1].params[1:])}


def _cast(t: Tensor, dtype: types.DType) -> Tensor:
    return graph.OPERATORS["cast"](t, dtype)


def backward(op: Operation, dys: Sequence[Any], reached: set[Tensor]) -> list[Any]:
    """The gradients of the inputs of a While, as `control.backward` gives them."""
    body, n = op.attrs["regions"][1], op.attrs["count"]
    state_of, taken = control._active(op, body, n, reached, [j for j in range(n) if dys[j] is not None], [])
    if not state_of and not taken:
        return [None] * len(op.inputs)
    loop = _Loop(op)
    kept = loop.starts()
    here = [graph.reachable(op.graph._state.region, loop(c), "a gradient") for c in taken]
    zeros = graph.OPERATORS["zeros_like"]
    states = [graph.OPERATORS["to_dense"](dys[j]) if dys[j] is not None else zeros(op.outputs[j]) for j in state_of]
    sums = [zeros(c) for c in taken]

    def step(i: Tensor, *values: Tensor) -> list[Tensor]:
        starts = {j: control.recall(stack, i) for j, stack in kept.items()}
        for j in range(n):
            if body.params[j] in loop.blank:  # an array of no slots stands for one that nobody reads
                starts[j] = graph.OPERATORS["getitem"](op.outputs[j], slice(0, 0))
        starts.update((j, op.inputs[j]) for j in loop.fixed if j in state_of)
        again = loop.segment(i * loop.length, loop.count, starts)
        place = {j: k for k, j in enumerate(starts, 1)}
        d_state, totals = values[:len(state_of)], values[len(state_of):]
        given: list[Any] = [None] * len(again.outputs)
        for j, d in zip(state_of, d_state):
            given[place[j]] = d
        found = control.backward(again, given, [], {*[again.inputs[place[j]] for j in state_of], *here}, dict(zip(here, totals)))
        by_capture = dict(zip(again.inputs[1 + len(starts):], found[1 + len(starts):]))
        new = [control._dense_or_zeros(found[place[j]], starts[j]) for j in state_of]
        return [i - constant(1, types.int32), *new, *[s if (d := by_capture.get(c)) is None else d for s, c in zip(totals, here)]]

    shapes = [(), *[body.params[j].sizes for j in state_of], *[t.sizes for t in sums]]
    made = control.make_while(lambda i, *_: i >= constant(0, types.int32), step,
                              [loop.segments - constant(1, types.int32), *states, *sums], shapes, compact=True)
    found: dict[Any, Any] = dict(zip(state_of, made.outputs[1:]))
    for j in state_of:
        if body.params[j] in loop.blank and body.results[j].op.attrs.get("dynamic"):
            found[j] = graph.OPERATORS["getitem"](found[j], slice(None, control.count_op(op.inputs[j])))
    by_capture = dict(zip(taken, made.outputs[1 + len(state_of):]))
    return [*[found.get(j) for j in range(n)], *[by_capture.get(t) for t in op.inputs[n:]]]

