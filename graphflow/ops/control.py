"""Branches and loops: ops that own regions of the graph, what their gradients need, and slots of arrays written one at a time.

A `While` or `Cond` takes as inputs what its regions read from outside, so that every walk over the graph sees its
dependencies.  A `Saved` op is a value from inside: that of a branch taken, or those of all iterations, one above the other.
Backward loops read the forward ones through it (`_Reader`); the compiler lets the loop itself store what a step needs.
Knows regions, the gradient walk and shapes; knows no pass and no kernel (rank 3).
"""
from __future__ import annotations

import warnings
from typing import Any, Callable, Sequence

import numpy as np

from .. import errors, graph, types
from ..codegen import ir
from ..codegen.ir import m
from ..graph import Graph, Operation, Region, Spec, Tensor
from ..types import UNKNOWN
from . import gradients, state
from .indexed_slices import IndexedSlices
from .opdef import Const, OpDef, constant, constant_value, primitive

ANY = types.ALL + (types.string,)


def _control(*variadic: str, **traits: Any) -> Any:
    return primitive("control", dtypes=ANY, same=("-",), input_dtypes=dict.fromkeys(variadic, ANY), **traits)


# ---------------------------------------------------------------- regions


@_control(type="LoopVariable", default_name="Identity", infer=lambda *, spec: spec, no_gradient="a loop variable")
def loop_variable(*, spec):
    """The value a loop variable has in this iteration."""


def members(region: Region, more: Sequence[Tensor] = ()) -> list[Operation]:
    """The ops of `region` (not of regions inside it) that its results and `more` need, in creation order."""
    return needed(region, (*region.results, *region.also, *more))


def needed(region: Region, tensors: Sequence[Tensor]) -> list[Operation]:
    """The ops of `region` (not of regions inside it) that `tensors` need, in creation order."""
    seen: set[Operation] = set()
    todo = [t.op for t in tensors]
    while todo:
        op = todo.pop()
        if op.region is region and op not in seen:
            seen.add(op)
            todo += [t.op for t in op.inputs]
            todo += op.control_inputs
    return sorted(seen, key=lambda op: op.id)


def captures(regions: Sequence[Region]) -> list[Tensor]:
    """Tensors that the regions read from outside."""
    found: dict[Tensor, None] = {}
    for region in regions:
        for op in members(region):
            found.update(dict.fromkeys(t for t in op.inputs if t.op.region is not region))
        found.update(dict.fromkeys(t for t in region.results if t.op.region is not region))
    return list(found)


def regions_of(op: Operation) -> tuple[Region, ...]:
    """The regions that a control-flow op owns."""
    return op.attrs.get("regions", ())


def written_in(regions: Sequence[Region]) -> list[Operation]:
    """Variables that the regions assign, those of regions inside them included."""
    found: dict[Operation, None] = {}
    for region in regions:
        for op in members(region):
            found.update(dict.fromkeys(op.attrs.get("writes", ()) if regions_of(op) else
                                       [op.inputs[0].op] if op.opdef.effect == "write" else []))
    return list(found)


def finals(op: Operation) -> list[tuple[Operation, Tensor]]:
    """The variables that a branch or loop assigns, with the outputs that are their final values."""
    if not regions_of(op):
        return []
    return list(zip(op.attrs["writes"], op.outputs[op.attrs.get("count", len(op.attrs["regions"][0].results)):]))


def effects(op: Operation) -> set[str | None]:
    """The effect of `op`, and those of all ops in its regions."""
    return {op.opdef.effect}.union(*[effects(o) for r in regions_of(op) for o in members(r)])


def saves(ops: Sequence[Operation]) -> dict[Operation, list[Operation]]:
    """The `Saved` ops among `ops`, by the branch or loop they look into."""
    found: dict[Operation, list[Operation]] = {}
    for op in ops:
        if op.opdef is saved_op:
            found.setdefault(op.attrs["owner"], []).append(op)
    return found


# ---------------------------------------------------------------- the ops


@_control("pred", "captures", type="Cond", default_name="Merge", infer=lambda *_, specs, **__: list(specs))
def cond_op(pred, *captures, regions, specs, writes):
    """The results of the first region where `pred` holds, else of the second; then the variables they assign."""


@_control("inputs", type="While", default_name="Exit", infer=lambda *_, specs, **__: list(specs))
def while_op(*inputs, regions, specs, writes, count, compact=False):
    """Runs the second region (body) while the first (condition) gives True.

    inputs: initial values of the `count` loop variables, then captures.  Outputs: final values of the loop variables, the
    variables the body assigns, and the number of iterations.
    """


def _saved_spec(*inputs: Tensor, owner: Operation, tensor: Tensor) -> Spec:
    if owner.opdef is cond_op:
        return Spec(tensor.dtype, tensor.sizes)
    return Spec(tensor.dtype, None if tensor.sizes is None else (UNKNOWN, *tensor.sizes))


@_control("inputs", type="Saved", infer=_saved_spec)
def saved_op(*inputs, owner, tensor):
    """What `tensor`, inside a region of `owner`, was: in a loop all its values along a new first axis; in a branch that was
    not taken, anything.
    """


@saved_op.grad
def _(op, dy):
    walk = gradients._current.get()
    assert walk is not None
    walk.pending.setdefault(op.attrs["owner"], []).append((op.attrs["tensor"], dy))
    return [None] * len(op.inputs)


def _captured_spec(*inputs: Tensor, owner: Operation, position: int) -> Spec:
    return Spec(owner.inputs[position].dtype, owner.inputs[position].sizes)


@_control("inputs", type="Captured", infer=_captured_spec)
def captured_op(*inputs, owner, position):
    """What input `position` of `owner` was when that ran: the value of a variable that has been assigned since."""


@captured_op.grad
def _(op, dy):
    handle = op.attrs["owner"].inputs[op.attrs["position"]]
    return [dy if t is handle else None for t in op.inputs]  # as for any read of a variable


captured_op.sparse_gradient = True  # type: ignore[attr-defined]


@_control("stack", "index", type="Recall")
def recall(stack, index):
    """`stack[index]`, for an index that is known to be in range."""


@recall.infers
def _(stack, index):
    return Spec(stack.dtype, None if stack.sizes is None else tuple(stack.sizes[1:]))


recall.reference(lambda stack, index: stack[int(index)])
recall.lowers(lambda op, index, read: read(0, [m.cast(read(1, []), types.int64), *index]))
recall.output_dtypes = lambda stack, index: [stack.dtype]


@recall.grad
def _(op, dy):
    return _one_row(op.inputs[0], op.inputs[1], dy), None


def _one_row(like: Tensor, index: Tensor, row: Tensor) -> IndexedSlices:
    """A gradient that is zero outside row `index` of `like`."""
    from .array import expand_dims, shape_vector

    found = IndexedSlices(expand_dims(row, axis=0), expand_dims(index, axis=0), shape_vector(like))
    found.row = row  # type: ignore[attr-defined]
    return found


# ---------------------------------------------------------------- building


def enter(g: Graph, what: str, bring: Any = None) -> Region:
    """A new region inside the current one."""
    return Region(g, what, g._state.region, bring)


def finish_cond(g: Graph, pred: Tensor, regions: Sequence[Region]) -> Operation:
    """The `Cond` of two regions whose results are set.  Raises ValueError where their dtypes differ."""
    specs = []
    for a, b in zip(regions[0].results, regions[1].results):
        if a.dtype is not b.dtype:
            raise ValueError(f"Outputs of true_fn and false_fn must have the same type: {a.name!r} is {a.dtype.name}, {b.name!r} is "
                             f"{b.dtype.name}; convert one with tf.cast")
        specs.append(Spec(a.dtype, _common(a.sizes, b.sizes)))
    writes = tuple(written_in(regions))
    specs += [Spec(v.outputs[0].dtype, v.outputs[0].sizes) for v in writes]
    inputs = [pred, *_with_handles(captures(regions), writes)]
    return _owned(g, cond_op, inputs, regions, {"specs": tuple(specs), "writes": writes})


def _own(t: Tensor, region: Region) -> Tensor:
    """`t` as a result of `region`: brought there if it comes from elsewhere."""
    if t.op.region is region or t.op.region is None or t.op.region.around(region):
        return t
    return graph.reachable(region, t, "the result of " + region.what)


def _with_handles(found: list[Tensor], writes: Sequence[Operation]) -> list[Tensor]:
    """Captures, with the handle of every variable that is assigned: its value before matters where it is not."""
    return list(dict.fromkeys([*found, *[v.outputs[0] for v in writes]]))


def _owned(g: Graph, opdef: OpDef, inputs: Sequence[Tensor], regions: Sequence[Region], attrs: dict[str, Any]) -> Operation:
    op = g.create_op(opdef, inputs, {"regions": tuple(regions), **attrs}, None)
    for r in regions:
        r.owner, r.name = op, op.name
    for variable in attrs["writes"]:
        state.forget_reads(g, variable)
    return op


def _common(a: types.Shape, b: types.Shape) -> types.Shape:
    """What is true of both shapes."""
    if a is None or b is None or len(a) != len(b):
        return None
    return tuple(x if types.same(x, y) else UNKNOWN for x, y in zip(a, b))


def make_while(cond: Callable[..., Tensor], body: Callable[..., Sequence[Tensor]], inits: Sequence[Tensor], shapes: Sequence[types.Shape],
               bring: Any = None, compact: bool = False) -> Operation:
    """A `While` over loop variables of the given static shapes; `cond` and `body` take them as tensors."""
    g = graph.get_default_graph()
    regions = []
    for build in (cond, body):
        region = enter(g, "a while loop", bring if build is body else None)
        with g.inside(region):
            region.params = [loop_variable(spec=Spec(t.dtype, s)) for t, s in zip(inits, shapes)]
            region.name = "while"
            if bring is not None and build is body:
                bring.region = region
            found = build(*region.params)
            region.results = [_own(t, region) for t in (found if isinstance(found, (list, tuple)) else [found])]  # type: ignore[arg-type]
        regions.append(region)
    return finish_while(g, inits, regions, compact)


def finish_while(g: Graph, inits: Sequence[Tensor], regions: Sequence[Region], compact: bool = False) -> Operation:
    """The `While` of a condition and a body whose params and results are set."""
    writes = tuple(written_in(regions))
    specs = [Spec(p.dtype, p.sizes) for p in regions[1].params]
    specs += [Spec(v.outputs[0].dtype, v.outputs[0].sizes) for v in writes] + [Spec(types.int32, ())]
    inputs = [*inits, *_with_handles(captures(regions), writes)]
    return _owned(g, while_op, inputs, regions, {"specs": tuple(specs), "writes": writes, "count": len(inits), "compact": compact})


# ---------------------------------------------------------------- slots of an array


@_control(type="TensorArrayV3", default_name="TensorArray", static=("size",), no_gradient="it holds nothing yet")
def array_op(size, *, dtype, element, dynamic=False):
    """Slots for `size` tensors, and which of them are written.

    element: a list of one, the static shape of an element as far as writes have said it by now.
    """


@array_op.infers
def _(size, *, dtype, element, dynamic):
    n = constant_value(size)
    count = UNKNOWN if n is None else int(n)
    return [Spec(dtype, None if element[0] is None else (count, *element[0])), Spec(types.bool_, (count,))]


class Blank:
    """Slots of unknown shape of which none is written, in the reference interpreter."""

    def __init__(self, count: int, dtype: types.DType):
        self.count, self.dtype = count, dtype

    @property
    def shape(self) -> tuple[int, ...]:
        return (self.count,)

    def of(self, shape: tuple[int, ...]) -> np.ndarray:
        return np.full((self.count, *shape), b"", object) if self.dtype.kind == "s" else np.zeros((self.count, *shape), self.dtype.np)


def filled(slots: Any, what: str) -> np.ndarray:
    """The array of slots; raises ValueError where not even their shape is known."""
    if not isinstance(slots, Blank):
        return slots
    if slots.count:
        raise ValueError(f"Could not {what}: no element of the TensorArray has been written, and its element_shape is not known. "
                         "Write it first, or give element_shape")
    return slots.of(())


@array_op.reference
def _(size, *, dtype, element, dynamic):
    if int(size) < 0:
        raise ValueError(f"Size should be >= 0, but is {int(size)}")
    blank = Blank(int(size), dtype)
    return [blank.of(element[0]) if types.known(element[0]) else blank, np.zeros(int(size), bool)]


def _scalar(index: Tensor) -> None:
    if index.sizes not in ((), None):
        raise ValueError(f"Shape must be rank 0 but is rank {len(index.sizes)}: the index of a TensorArray is a scalar")


@_control("slots", "index", "value", type="TensorArrayWrite")
def put(slots, index, value, *, dynamic=False):
    """`slots` with `value` at `index`; with `dynamic` as many slots as that needs.  The index is checked by `unwritten`."""


@put.infers
def _(slots, index, value, *, dynamic):
    _scalar(index)
    if slots.sizes is None:
        return Spec(slots.dtype, None if value.sizes is None else (UNKNOWN, *value.sizes))
    if value.sizes is not None:
        types.merge_shapes(slots.sizes[1:], value.sizes)
    return Spec(slots.dtype, (UNKNOWN, *slots.sizes[1:]) if dynamic else slots.sizes)


@put.reference
def _(slots, index, value, *, dynamic):
    i = int(index)
    array = slots.of(value.shape) if isinstance(slots, Blank) else slots
    if array.shape[1:] != value.shape:
        raise ValueError(f"TensorArray holds elements of shape {array.shape[1:]}, but one of shape {value.shape} is written")
    more = i + 1 - len(array)
    value = value.item() if value.dtype == object and not value.shape else value
    out = np.concatenate([array, np.zeros((more, *array.shape[1:]), array.dtype)]) if more > 0 else array.copy()
    out[i] = value
    return out


put.lowers(lambda op, index, read: read(0, index))
put.output_dtypes = lambda slots, *_, **__: [slots.dtype]


@put.scatters
def _(op, index, read):
    return ir.Scatter(None, op.inputs[2].sizes, (m.cast(read(1, []), types.int64), *index), read(2, index))


@put.grad
def _(op, dy):
    slots, index, value = op.inputs
    if not gradients.wanted(slots):
        return None, None, recall(dy, index)
    kept = put(dy, index, graph.OPERATORS["zeros_like"](value))
    if op.attrs["dynamic"]:
        with op.graph.inside(op.region):
            count = count_op(slots)  # there: only this number is kept, not all the slots
        kept = graph.OPERATORS["getitem"](kept, slice(None, count))
    return kept, None, recall(dy, index)


@_control("slots", "index", type="TensorArrayRead")
def row(slots, index):
    """`slots[index]`."""


@row.infers
def _(slots, index):
    _scalar(index)
    return Spec(slots.dtype, None if slots.sizes is None else tuple(slots.sizes[1:]))


@row.reference
def _(slots, index):
    n = slots.shape[0]
    if not 0 <= int(index) < n:
        raise ValueError(f"Tried to read from index {int(index)} but array size is: {n}")
    return filled(slots, f"read from TensorArray index {int(index)}")[int(index)]


@row.lowers
def _(op, index, read):
    n = op.inputs[0].sizes[0]
    if types.same(n, 0):
        return m.check(ir.const(False, types.bool_), ir.const(0, op.outputs[0].dtype.compute), "Tried to read from an array of size 0")
    at = m.cast(read(1, []), types.int64)
    inside = ir.binary("land", ir.binary("le", 0, at), ir.binary("lt", at, ir.size(n)))
    return read(0, [m.check(inside, at, "Tried to read from an index outside of the TensorArray"), *index])


row.output_dtypes = recall.output_dtypes


@row.grad
def _(op, dy):
    return _one_row(op.inputs[0], op.inputs[1], dy), None


@_control("written", "index", type="TensorArraySlot", no_gradient="an index")
def unwritten(written, index, *, dynamic=False):
    """`index`, checked: inside the array (unless that is `dynamic`), and not written before."""


@unwritten.infers
def _(written, index, *, dynamic):
    _scalar(index)
    return Spec(index.dtype, (), index.known)


unwritten.checks = True  # type: ignore[attr-defined]  # it stays where its value is known, too


@unwritten.reference
def _(written, index, *, dynamic):
    i, n = int(index), len(written)
    if i < 0 or i >= n and not dynamic:
        raise ValueError(f"Tried to write to index {i} but array is not resizeable and size is: {n}")
    if i < n and written[i]:
        raise ValueError(f"Could not write to TensorArray index {i} because it has already been written to.")
    return index


@unwritten.lowers
def _(op, index, read):
    n = op.inputs[0].sizes[0]
    at = m.cast(read(1, []), types.int64)
    if types.same(n, 0):
        return m.check(ir.const(False, types.bool_), read(1, []), "Tried to write to an array of size 0")
    inside = ir.binary("land", ir.binary("le", 0, at), ir.binary("lt", at, ir.size(n)))
    at = m.check(inside, at, "Tried to write to an index outside of the TensorArray, which is not resizeable")
    free = ir.unary("lnot", read(0, [at]))
    return m.cast(m.check(free, at, "Could not write to a TensorArray index because it has already been written to."), op.outputs[0].dtype)


@_control("slots", type="TensorArrayGatherV3")
def slots_op(slots, *, element=None):
    """All slots as one tensor; `element` is what is known of the shape of each."""


@slots_op.infers
def _(slots, *, element):
    sizes = slots.sizes if slots.sizes is None or element is None else types.merge_shapes(slots.sizes, (UNKNOWN, *element))
    return Spec(slots.dtype, (UNKNOWN, *element) if sizes is None and element is not None else sizes)


@slots_op.reference
def _(slots, *, element):
    if isinstance(slots, Blank) and not slots.count and element is not None:
        if not types.known(element):
            raise ValueError(f"TensorArray has size zero, but element shape {types.shape_text(element)} is not fully defined. "
                             "Give element_shape")
        return slots.of(element)
    return filled(slots, "stack the TensorArray")


slots_op.lowers(lambda op, index, read: read(0, index))
slots_op.grad(lambda op, dy: (dy,))


@_control("like", type="TensorArraySizeV3", shape_only=("like",), no_gradient="a size")
def count_op(like):
    """The number of slots."""


@count_op.infers
def _(like):
    n = like.sizes[0] if like.sizes else UNKNOWN
    return Spec(types.int32, (), None if types.is_unknown(n) else np.array(n, object))


count_op.reference(lambda like: np.int32(like.shape[0]))


# ---------------------------------------------------------------- what the compiler makes of them (passes/specialize.py)


@_control("inputs", type="Loop", infer=lambda *_, specs, **__: list(specs), no_gradient="made by the compiler")
def loop_op(*inputs, cond, body, specs, trip, checked, compact=False):
    """A loop as two programs over symbolic sizes.  inputs: initial values of the variables, one for each output, then captures.

    cond, body: programs (passes/program.py).  Their inputs are ("variable", `Slot`, tensor) for each loop variable and ("capture",
    position, tensor) for others; the body's `writes` give each variable its next value; the condition's output is a bool scalar.
    compact: nothing more is to be kept of all iterations, not even to make products of many at once (see ops/checkpoint.py).
    trip: the number of iterations as a size, where that is known before it runs, else None.  checked: whether it is at most that.
    """


@_control("pred", "captures", type="Branch", infer=lambda *_, specs, **__: list(specs), no_gradient="made by the compiler")
def branch_op(pred, *captures, branches, specs):
    """Two programs with the same outputs, of which one runs.  An output None is left as it is: whatever was in memory."""


@_control(type="Blank", infer=lambda *, sizes, dtype: Spec(dtype, sizes), no_gradient="anything")
def blank(*, sizes, dtype):
    """Memory whose content does not matter."""


blank.reference(lambda *, sizes, dtype: np.zeros(sizes, dtype.np))
blank.lowers(lambda op, index, read: ir.const(0, op.outputs[0].dtype.compute))


@_control(type="Zeros", infer=lambda *, sizes, dtype: Spec(dtype, sizes), no_gradient="zeros")
def zeros_op(*, sizes, dtype):
    """Zeros of sizes that are known symbolically."""


zeros_op.reference(lambda *, sizes, dtype: np.zeros(sizes, dtype.np))
zeros_op.lowers(lambda op, index, read: ir.const(0, op.outputs[0].dtype.compute))


@_control("x", type="Start", infer=lambda x: Spec(x.dtype, x.sizes), no_gradient="made by the compiler")
def start(x):
    """A copy of `x` in memory of its own: where a loop variable begins."""


start.reference(lambda x: x)
start.lowers(lambda op, index, read: read(0, index))


class Slot:
    """A loop variable, as the key of its value."""

    __slots__ = ("name",)

    def __init__(self, name: str):
        self.name = name

    def __repr__(self) -> str:
        return f"<loop variable {self.name}>"


_GOLDEN = -7046029254386353131  # 2**64 / golden ratio, odd: multiplying by it scatters counters


def stream(counter: Any, tick: Any) -> Any:
    """The run counter of a random op in iteration `tick` of a loop that has `counter` outside (integers, wrapping)."""
    return (int(counter) * _GOLDEN + int(tick) + 1 + 2**63) % 2**64 - 2**63


@_control(type="RunCounter", effect="random", infer=lambda *, of: Spec(types.int64, ()), no_gradient="a counter")
def counter_op(*, of):
    """The run counter that the random op `of`, inside a loop of this region, has outside of that loop."""


def _drawn_spec(*inputs: Tensor, of: Operation) -> list[Spec]:
    return of.opdef.infer(inputs[:-1], of.attrs)


@_control("inputs", type="Drawn", infer=_drawn_spec, no_gradient="random values")
def drawn_op(*inputs, of):
    """What the random op `of` gives for the run counter that is the last of `inputs`; its own come before."""


def stream_tensor(counter: Tensor, tick: Tensor) -> Tensor:
    """`stream` of int64 scalars, as ops."""
    return counter * constant(_GOLDEN, types.int64) + (tick + constant(1, types.int64))


# ---------------------------------------------------------------- gradients


class _Reader:
    """How the backward region of a branch or loop reads what the forward one computed.

    Moves, constants, and what stays the same in all iterations are made again; other values are saved.
    """

    def __init__(self, owner: Operation, forward: Region, step: Callable[[], Tensor] | None):
        self.owner, self.forward, self.step = owner, forward, step
        self.region: Region | None = None
        self.made: dict[Operation, Sequence[Tensor]] = {}
        self.variant = _reach(forward, forward.params)

    def __call__(self, t: Tensor) -> Tensor:
        if self.forward.twin is not None and t.op.region is self.forward.twin.source:
            t = self.forward.twin(t)  # a gradient function that knows the ops this region repeats
        if t.op.region is not self.forward:
            return t
        found = self.made.get(t.op)
        if found is None:
            with t.graph.inside(self.region):
                found = self.made[t.op] = self._make(t.op)
        return found[t.value_index]

    def _make(self, op: Operation) -> Sequence[Tensor]:
        if op.opdef is loop_variable:
            return [self._variable(op.outputs[0])]
        handle = variable_read(op)
        if handle is not None and handle.op not in self.owner.attrs["writes"]:
            return [captured(self.owner, handle)]
        if handle is None and self._again(op):
            return again(op, op.inputs)
        return [self._saved(t) for t in op.outputs]

    def _again(self, op: Operation) -> bool:
        if op.opdef.effect is not None or op.opdef.family in ("control", "host") and op.opdef not in (row, recall):
            return False
        if op.opdef is Const or op.opdef.converts or op.opdef.family == "movement":
            return True
        return not any(t in self.variant for t in op.outputs) or op.opdef in (row, recall) and op.inputs[0] not in self.variant

    def _variable(self, t: Tensor) -> Tensor:
        j = self.forward.params.index(t)
        result = self.forward.results[j]
        if result is t:
            return self.owner.inputs[j]
        by = _increment(t, result)
        if by is not None and self.step is not None:
            start = self.owner.inputs[j]
            return start + graph.OPERATORS["cast"](self.step(), t.dtype) * constant(by, t.dtype)
        return self._saved(t)

    def _saved(self, t: Tensor) -> Tensor:
        kept = saved(self.owner, t)
        return kept if self.step is None else recall(kept, self.step())


def _anchor(owner: Operation) -> list[Tensor]:
    """What an op that looks into `owner` takes as inputs, so that every walk over the graph meets what it depends on."""
    return [*(owner.outputs[-1:] if owner.opdef is while_op else ()), *owner.inputs]


def saved(owner: Operation, t: Tensor) -> Tensor:
    """What `t`, inside a branch or loop, was: in a loop all its values along a new first axis."""
    g = owner.graph
    if t not in g._saved:
        with g.inside(owner.region), g.name_scope(None), g.device(None):
            g._saved[t] = saved_op(*_anchor(owner), owner=owner, tensor=t, name=t.op.name + "/saved")
    return g._saved[t]


def variable_read(op: Operation) -> Tensor | None:
    """The handle of the variable whose value the op gives, if it does no more."""
    if op.opdef is captured_op:
        return op.attrs["owner"].inputs[op.attrs["position"]]
    return op.inputs[0] if op.opdef is state.read_handle else None


def captured(owner: Operation, handle: Tensor) -> Tensor:
    """The value that the variable has for a branch or loop that reads and does not assign it."""
    with owner.graph.inside(owner.region), owner.graph.name_scope(None), owner.graph.device(None):
        return captured_op(*_anchor(owner), owner=owner, position=owner.inputs.index(handle), name=handle.op.name + "/captured")


def again(op: Operation, inputs: Sequence[Tensor], attrs: dict[str, Any] | None = None) -> tuple[Tensor, ...]:
    """The outputs of `op` made once more, in the current region."""
    made = op.graph.create_op(op.opdef, inputs, op.attrs if attrs is None else attrs, op.name.rpartition("/")[2])
    for old, new in zip(op.outputs, made.outputs):
        new.sizes = types.merge_shapes(new.sizes, old.sizes)
    if op in op.graph._overridden:
        op.graph._overridden[made] = op.graph._overridden[op]
    return made.outputs


def _increment(t: Tensor, result: Tensor) -> int | None:
    """The number that an iteration adds to the integer `t`, if that is all it does."""
    if t.dtype.kind not in "iu" or t.sizes != () or result.op.type not in ("AddV2", "Add", "Sub") or result.sizes != ():
        return None
    a, b = result.op.inputs
    if b is t and result.op.type != "Sub":
        a, b = b, a
    value = constant_value(b) if a is t else None
    return None if value is None else int(value) if result.op.type != "Sub" else -int(value)


def _reach(region: Region, start: Sequence[Tensor], more: Sequence[Tensor] = (), smooth: bool = False) -> set[Tensor]:
    """Tensors of `region` computed from those in `start`; with `smooth`, on ways that a gradient may take."""
    reached = set(start)
    for op in members(region, more):
        if any(t in reached for t in op.inputs) and not (smooth and gradients.is_flat(op)):
            reached.update([t for t in op.outputs if t.dtype.is_differentiable] if smooth else op.outputs)
    return reached


def _differentiable(tensors: Sequence[Tensor], reached: set[Tensor]) -> list[Tensor]:
    return [t for t in dict.fromkeys(tensors) if t.dtype.is_differentiable and t in reached]


def _inner(region: Region, ys: Sequence[Tensor], dys: Sequence[Any], xs: Sequence[Tensor]) -> Any:
    """The walk inside `region` from `ys` back to `xs`."""
    walk = gradients._Walk(list(ys), list(xs), [], members(region, [t for t in ys if t.op.region is region]))
    walk.seed(list(dys))
    walk.run()
    return walk


@cond_op.grad
def _(op, *dys):
    outer = gradients._current.get()
    assert outer is not None
    regions, n = op.attrs["regions"], len(op.attrs["regions"][0].results)
    given = [(j, dy) for j, dy in enumerate(dys[:n]) if dy is not None]
    pending = outer.pending.pop(op, [])
    xs = _differentiable(op.inputs[1:], outer.reached)
    if not xs or not (given or pending):
        return [None] * len(op.inputs)
    readers = [_Reader(op, r, None) for r in regions]
    g, built = op.graph, []
    for region, reader in zip(regions, readers):
        back = reader.region = enter(g, "a branch of tf.cond", reader)
        with g.inside(back):
            here = [(t, d) for t, d in pending if t.op.region is region]
            walk = _inner(region, [*[region.results[j] for j, _ in given], *[t for t, _ in here]],
                          [*[d for _, d in given], *[d for _, d in here]], xs)
            back.results = [_own(_dense_or_zeros(walk._total(x), x), back) for x in xs]
        built.append(back)
    found = dict(zip(xs, finish_cond(g, op.inputs[0], built).outputs))
    return [None, *[found.pop(t, None) for t in op.inputs[1:]]]


def _dense_or_zeros(d: Any, like: Tensor) -> Tensor:
    return graph.OPERATORS["zeros_like"](like) if d is None else graph.OPERATORS["to_dense"](d)


cond_op.raw_gradient = while_op.raw_gradient = saved_op.raw_gradient = True  # type: ignore[attr-defined]  # outputs without a gradient give None


@while_op.grad
def _(op, *dys):
    outer = gradients._current.get()
    assert outer is not None
    from . import checkpoint

    pending = outer.pending.pop(op, [])
    asked = op in op.graph._checkpointed and not pending
    if asked and not checkpoint.repeatable(op):
        warnings.warn(f"swap_memory=True has no effect on the gradient of {errors.where(op)}: it assigns variables or has other effects, "
                      "so it cannot be run again", stacklevel=2)
    elif asked:
        return checkpoint.backward(op, dys, outer.reached)
    return backward(op, dys, pending, outer.reached)


def backward(op: Operation, dys: Sequence[Any], pending: list[tuple[Tensor, Any]], reached: set[Tensor],
             begun: dict[Tensor, Tensor] | None = None) -> list[Any]:
    """The gradients of the inputs of a While: a loop from its last iteration to its first.

    dys: gradients that arrived at its outputs, None where none did.  pending: tensors of its body, and the gradient of all values
    that each had, along a first axis.  reached: tensors on the way to an x.  begun: what to add the gradients of captures to.
    """
    body, n = op.attrs["regions"][1], op.attrs["count"]
    state_of, taken = _active(op, body, n, reached, [j for j in range(n) if dys[j] is not None], [t for t, _ in pending])
    if not state_of and not taken:
        return [None] * len(op.inputs)
    from .array import identity

    reader = _Reader(op, body, lambda: reader.region.params[0])  # type: ignore[union-attr]
    stacks = [c for c in taken if _one_by_one(c, body)]
    summed = [c for c in taken if c not in stacks]
    starts = [graph.OPERATORS["to_dense"](dys[j]) if dys[j] is not None else graph.OPERATORS["zeros_like"](op.outputs[j]) for j in state_of]
    sums = [begun[c] if begun and c in begun else graph.OPERATORS["zeros_like"](c) for c in summed]
    def step(k: Tensor, *values: Tensor) -> list[Tensor]:
        reader.region.reverses = True  # type: ignore[union-attr]
        d_state, totals = values[:len(state_of)], values[len(state_of):]
        ys = [*[body.results[j] for j in state_of], *[t for t, _ in pending]]
        walk = _inner(body, ys, [*d_state, *[recall(d, k) for _, d in pending]], [*[body.params[j] for j in state_of], *taken])
        new = [_dense_or_zeros(walk._total(body.params[j]), d if types.known(body.params[j].sizes) else body.params[j])
               for j, d in zip(state_of, d_state)]
        reader.region.also = [identity(_row_of(walk._total(c), c, body)) for c in stacks]  # type: ignore[union-attr]
        return [k - constant(1, types.int32), *new, *[_add(total, walk._total(c)) for total, c in zip(totals, summed)]]

    first = op.outputs[-1] - constant(1, types.int32)
    shapes = [(), *[body.params[j].sizes for j in state_of], *[t.sizes for t in sums]]
    made = make_while(lambda k, *_: k >= constant(0, types.int32), step, [first, *starts, *sums], shapes, reader)
    found: dict[Any, Tensor] = dict(zip(state_of, made.outputs[1:]))
    by_capture = dict(zip(summed, made.outputs[1 + len(state_of):]))
    by_capture.update((c, saved(made, row)) for c, row in zip(stacks, made.attrs["regions"][1].also))
    return [*[found.get(j) for j in range(n)], *[by_capture.get(t) for t in op.inputs[n:]]]


def _one_by_one(c: Tensor, body: Region) -> bool:
    """Whether `c` holds values of a loop that `body` walks backwards, and each iteration reads its own of them.

    Its gradient then is what the iterations of a loop forwards again give, one above the other: no sum, and any shapes.
    """
    users = [op for op in members(body) if c in op.inputs]
    return body.reverses and bool(users) and c not in body.results and all(
        op.opdef is recall and op.inputs[1] is body.params[0] for op in users)


def _row_of(d: Any, c: Tensor, body: Region) -> Tensor:
    if hasattr(d, "row"):
        return d.row
    user = next(op for op in members(body) if c in op.inputs)
    return graph.OPERATORS["zeros_like"](user.outputs[0]) if d is None else recall(graph.OPERATORS["to_dense"](d), body.params[0])


def _add(total: Tensor, d: Any) -> Tensor:
    """`total + d`, where `d` may be none, or some rows."""
    from .array import expand_dims
    from .indexing import tensor_scatter_add

    if d is None:
        return total
    if isinstance(d, IndexedSlices):
        return tensor_scatter_add(total, expand_dims(d.indices, axis=-1), d.values)
    return total + d


def _active(op: Operation, body: Region, n: int, reached: set[Tensor], given: list[int],
            kept: list[Tensor]) -> tuple[list[int], list[Tensor]]:
    """Loop variables and captures that lie on a path from an x to a y."""
    variables = [j for j in range(n) if body.params[j].dtype.is_differentiable]
    around = _differentiable(op.inputs[n:], reached)
    forward = {j for j in variables if op.inputs[j] in reached}
    while True:
        found = _reach(body, [*[body.params[j] for j in forward], *around], kept, smooth=True)
        more = {j for j in variables if body.results[j] in found} - forward
        if not more:
            break
        forward |= more
    influence = {t: _reach(body, [t], kept, smooth=True) for t in [*[body.params[j] for j in variables], *around]}
    live = set(given)
    while True:
        ends = {*[body.results[j] for j in live], *kept}
        more = {j for j in variables if influence[body.params[j]] & ends} - live
        if not more:
            break
        live |= more
    ends = {*[body.results[j] for j in live], *kept}
    return [j for j in variables if j in forward and j in live], [c for c in around if influence[c] & ends]
