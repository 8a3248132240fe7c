"""The reference interpreter: a step run op by op with NumPy, in program order.

It is what every compiled result is compared with, and the way to name the op that failed inside a fused kernel.
Knows ops only through the registry; knows no kernel and no Session (rank 4).
"""
from __future__ import annotations

import time
from typing import Any, Callable, Collection, Iterable

import numpy as np

from .. import errors, graph, types
from ..graph import Operation, Tensor
from ..ops import control, opdef, state

# What a step needs of a Session: reading a variable (raises FailedPreconditionError), whether it has a value, and
# the number of times a random op has run.
KEPT = 1000  # composites opened for one request, for all shapes it was run with
Read = Callable[[Operation], np.ndarray]


def evaluate(op: Operation, arrays: list[np.ndarray]) -> list[np.ndarray]:
    """The NumPy reference of `op`; what it raises becomes an OpError that names the op."""
    if op.opdef.family == "input":
        t = op.outputs[0]
        raise errors.raised_at(errors.InvalidArgumentError, op, f"You must feed a value for placeholder tensor '{op.name}' with dtype "
                               f"{t.dtype.name} and shape {types.shape_text(t.sizes)}")
    try:
        return op.opdef.evaluate(op, arrays)
    except errors.OpError as e:
        raise e if e.op is not None else errors.raised_at(type(e), op, e.message) from None
    except (ValueError, IndexError, ZeroDivisionError, np.linalg.LinAlgError) as e:
        raise errors.raised_at(errors.InvalidArgumentError, op, str(e)) from e


def perform(access: Any, op: Operation, arrays: list[np.ndarray]) -> list[np.ndarray]:
    """What `op` does to a resource of the session: its results, of the dtypes and shapes that it promises."""
    try:
        found = op.opdef._performs(access, op, arrays)
    except errors.OpError as e:
        raise e if e.op is not None else errors.raised_at(type(e), op, e.message) from e.__cause__
    except (ValueError, IndexError, ZeroDivisionError) as e:
        raise errors.raised_at(errors.InvalidArgumentError, op, str(e)) from e
    for t, a in zip(op.outputs, found, strict=True):
        if t.sizes is not None and a.shape != t.sizes and not _agree(t.sizes, a.shape):
            raise errors.raised_at(errors.InvalidArgumentError, op, f"a result of shape {a.shape} where {types.shape_text(t.sizes)} was "
                                   "promised; the shapes of the components say otherwise than what has been put in")
    return found  # type: ignore[no-any-return]


def _agree(static: tuple[Any, ...], actual: tuple[int, ...]) -> bool:
    if len(static) != len(actual):
        return False
    for s, n in zip(static, actual):
        if type(s) is int and s != n:
            return False
    return True


class Step:
    """One run: values of tensors, and variables written but not yet committed."""

    def __init__(self, feeds: dict[Tensor, np.ndarray], store: Any, access: Any = None, bodies: dict[Any, Any] | None = None):
        self.bodies: dict[Any, Any] = {} if bodies is None else bodies  # what composites open to, by op and input shapes
        self.access = access  # to the resources of the session
        self.values: dict[Tensor, np.ndarray] = dict(feeds)
        self.fed = set(feeds)
        self.store = store
        self.written: dict[Operation, np.ndarray] = {}
        self.drawn: dict[Operation, int] = {}
        self.end: float | None = None  # when loops stop
        self.ticks: list[int] = []  # iterations of the loops around
        self.saves: dict[Operation, list[Operation]] = {}
        self.kept: dict[Operation, dict[Tensor, Any]] = {}  # by branch or loop: what Saved ops ask for
        self.taken: dict[Operation, dict[int, Any]] = {}  # by branch or loop: the variables among its inputs, as they were

    def run(self, ops: Iterable[Operation]) -> None:
        ops = list(ops)
        self.saves.update(control.saves(ops))
        for op in ops:
            if self.end is not None and time.monotonic() > self.end:
                raise errors.raised_at(errors.DeadlineExceededError, op, "Timed out; no variable has changed")
            if any(t not in self.values for t in op.outputs) or not op.outputs:
                self._one(op)

    def _one(self, op: Operation) -> None:
        special = _SPECIAL.get(op.opdef)
        if special is not None:
            special(self, op)
            return
        skip = 1 if op.opdef.family == "state" and op.opdef.effect else 0
        results = self.evaluate(op, [self.variable(t.op) if self._is_handle(t) else self.values[t] for t in op.inputs[skip:]])
        for t, r in zip(op.outputs, results):
            if t not in self.fed:
                self.values[t] = r

    def _is_handle(self, t: Tensor) -> bool:
        return t.op.opdef is state.variable_handle and t not in self.values

    def evaluate(self, op: Operation, arrays: list[np.ndarray]) -> list[np.ndarray]:
        """Outputs of one op on given input values."""
        d = op.opdef
        if d is state.variable_handle:
            return []
        if d._performs is not None:
            return perform(self.access, op, arrays)
        if d.effect == "read":
            return [np.asarray(self.has(op.inputs[0].op))] if d is state.is_variable_initialized_op else [self.variable(op.inputs[0].op)]
        if d.effect == "write":
            return [self._write(op, arrays)]
        if d.effect == "random":
            arrays = [*arrays, np.asarray(self._draw(op), np.int64)]
        if d._numpy is None and d._body is not None:
            return self._body(op, d._body, arrays)
        if any(isinstance(a, (control.Blank, Ragged)) for a in arrays):
            if op.opdef.type in ("ZerosLike", "Identity", "StopGradient"):  # of nothing: nothing
                return [arrays[0]]
            if op.opdef is control.recall:
                return [arrays[0][int(arrays[1])]]
            known = next((a for a in arrays if isinstance(a, np.ndarray) and a.ndim), None)
            if known is not None and op.opdef.family == "elementwise":
                arrays = [a.of(known.shape[1:]) if isinstance(a, control.Blank) else a for a in arrays]
        return evaluate(op, arrays)

    def variable(self, var: Operation) -> np.ndarray:
        if var.outputs[0] in self.fed:
            return self.values[var.outputs[0]]
        return self.written[var] if var in self.written else self.store.read(var)

    def has(self, var: Operation) -> bool:
        return var in self.written or self.store.has(var)

    def _draw(self, op: Operation) -> int:
        counter = self.drawn[op] = self.store.draws(op)
        for tick in self.ticks:
            counter = control.stream(counter, tick)
        return counter

    # -- branches and loops

    def _input(self, t: Tensor) -> Any:
        return self.variable(t.op) if self._is_handle(t) else self.values[t]

    def _region(self, region: graph.Region, ops: list[Operation]) -> list[Any]:
        for op in ops:
            for t in op.outputs:
                if op.opdef is not control.loop_variable:
                    self.values.pop(t, None)
        self.run(ops)
        return [self._input(t) for t in region.results]

    def _remember(self, op: Operation) -> None:
        self.taken[op] = {i: self._input(t) for i, t in enumerate(op.inputs) if t.op.opdef is state.variable_handle
                          and (t in self.values or self.has(t.op))}

    def _wanted(self, op: Operation) -> list[Tensor]:
        return [s.attrs["tensor"] for s in self.saves.get(op, ())]

    def _cond(self, op: Operation) -> None:
        self._remember(op)
        region = op.attrs["regions"][0 if _truth(op, self._input(op.inputs[0])) else 1]
        wanted = [t for t in self._wanted(op) if t.op.region is region]
        results = self._region(region, control.members(region, wanted))
        self.kept[op] = {t: self.values[t] for t in wanted}
        self.values.update(zip(op.outputs, results))
        self.values.update(zip(op.outputs[len(region.results):], [self.variable(v) for v in op.attrs["writes"]]))

    def _while(self, op: Operation) -> None:
        cond, body = op.attrs["regions"]
        wanted = self._wanted(op)
        ask, work = control.members(cond), control.members(body, wanted)
        current = [self._input(t) for t in op.inputs[:op.attrs["count"]]]
        self._remember(op)
        rows: dict[Tensor, list[Any]] = {t: [] for t in wanted}
        count = 0
        while True:
            if self.end is not None and time.monotonic() > self.end:
                raise errors.raised_at(errors.DeadlineExceededError, op, f"Timed out after {count} iterations; no variable has changed")
            self.values.update(zip(cond.params, current))
            self.ticks.append(count)
            if not _truth(op, self._region(cond, ask)[0]):
                self.ticks.pop()
                break
            self.values.update(zip(body.params, current))
            current = self._region(body, work)
            self.ticks.pop()
            for t in wanted:
                rows[t].append(self.values[t])
            count += 1
        self.kept[op] = {t: _rows(t, found) for t, found in rows.items()}
        self.values.update(zip(op.outputs, [*current, *[self.variable(v) for v in op.attrs["writes"]], np.array(count, np.int32)]))

    def _saved(self, op: Operation) -> None:
        t = op.attrs["tensor"]
        kept = self.kept[op.attrs["owner"]].get(t)
        self.values[op.outputs[0]] = np.zeros([n if isinstance(n, int) else 0 for n in t.sizes or ()],
                                              t.dtype.np) if kept is None else kept

    def _array(self, op: Operation) -> None:
        size = int(self.values[op.inputs[0]])
        if size < 0:
            raise errors.raised_at(errors.InvalidArgumentError, op, f"Size should be >= 0, but is {size}")
        self.values.update(zip(op.outputs, op.opdef._numpy(size, **op.attrs)))  # type: ignore[misc]

    def _captured(self, op: Operation) -> None:
        owner = op.attrs["owner"]
        self.values[op.outputs[0]] = self.taken[owner][op.attrs["position"]]

    def _counter(self, op: Operation) -> None:
        self.values[op.outputs[0]] = np.array(self._draw(op.attrs["of"]), np.int64)

    def _drawn(self, op: Operation) -> None:
        self.values.update(zip(op.outputs, evaluate(op.attrs["of"], [self.values[t] for t in op.inputs])))

    def _write(self, op: Operation, arrays: list[np.ndarray]) -> np.ndarray:
        var = op.inputs[0].op
        if op.opdef is state.assign_op:
            new = arrays[-1]
        else:
            new, = self._body(op, op.opdef.fn, [self.variable(var), *arrays])
        self.written[var] = np.array(new, copy=True)
        return self.written[var]

    def _body(self, op: Operation, body: Any, arrays: list[np.ndarray]) -> list[np.ndarray]:
        """A composite: its body built in a scratch graph on the actual shapes, then run."""
        known = [opdef.as_known(a, t.dtype) for t, a in zip(op.inputs, arrays)]
        key = op, tuple((a.shape, None if k is None else a.tobytes()) for a, k in zip(arrays, known))
        if key not in self.bodies:
            with opdef.scratch(op) as g:
                ins = [g.stand_in(graph.Spec(t.dtype, a.shape, k)) for t, a, k in zip(op.inputs, arrays, known)]
                found = body(*ins, **op.attrs)
            outputs = list(found) if isinstance(found, (list, tuple)) else [found]
            self.bodies[key] = ins, outputs, graph.topological([t.op for t in outputs], set(ins))
        ins, outputs, ops = self.bodies[key]
        inner = Step(dict(zip(ins, arrays)), self.store, bodies=self.bodies)
        inner.run(ops)
        return [inner.values[t] for t in outputs]


def _truth(op: Operation, value: Any) -> bool:
    if np.ndim(value):
        shape = types.shape_text(value.shape)
        raise errors.raised_at(errors.InvalidArgumentError, op, f"the predicate must be a scalar, got shape {shape}")
    return bool(value)


class Ragged(list):
    """Values of different shapes, one of each iteration of a loop."""


def _rows(t: Tensor, found: list[Any]) -> Any:
    if not found:
        return np.zeros((0, *[n if isinstance(n, int) else 0 for n in t.sizes or ()]), t.dtype.np)
    same = all(isinstance(v, (np.ndarray, np.generic)) and v.shape == found[0].shape for v in found)
    return np.stack(found) if same else Ragged(found)


_SPECIAL: dict[Any, Callable[[Step, Operation], None]] = {
    control.cond_op: Step._cond, control.while_op: Step._while, control.saved_op: Step._saved, control.captured_op: Step._captured,
    control.array_op: Step._array, control.counter_op: Step._counter, control.drawn_op: Step._drawn}


def _inside(op: Operation) -> list[Operation]:
    """The ops in the regions of `op`, those of regions inside them included."""
    found = [o for region in control.regions_of(op) for o in control.members(region)]
    return found + [inner for o in found for inner in _inside(o)]


class Reference:
    """A step of a graph as a callable: feeds in, fetched arrays out; variables are committed only at the end."""

    def __init__(self, fetches: list[Tensor], targets: list[Operation], feeds: list[Tensor], store: Any,
                 done: Collection[Operation] = ()):
        self.fetches, self.feeds, self.store = fetches, feeds, store
        self.bodies: dict[Any, Any] = {}
        self.ops = graph.topological([*[t.op for t in fetches if t not in set(feeds)], *targets], {*feeds, *done})
        # A random op in a branch or loop has been drawn from once when the step ends, also where it did not run.
        self.random = [o for op in self.ops for o in _inside(op) if o.opdef.effect == "random" and o.opdef is not control.counter_op]

    def __call__(self, arrays: list[np.ndarray], timeout: float | None = None, access: Any = None) -> list[np.ndarray]:
        """Raises DeadlineExceededError when a loop is still running after `timeout` seconds.  access: see runtime/store.py."""
        if len(self.bodies) > KEPT:
            self.bodies.clear()
        step = Step(dict(zip(self.feeds, arrays)), self.store, access, self.bodies)
        step.end = None if timeout is None else time.monotonic() + timeout
        step.drawn.update((op, self.store.draws(op)) for op in self.random)
        step.run(self.ops)
        results = [np.array(self._value(step, t), copy=True) for t in self.fetches]
        self.store.commit(step.written, step.drawn)
        return results

    def _value(self, step: Step, t: Tensor) -> np.ndarray:
        return step.variable(t.op) if step._is_handle(t) else step.values[t]
