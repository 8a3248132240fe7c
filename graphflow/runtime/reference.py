"""The reference interpreter: a step run op by op with NumPy, in program order.

It is what every compiled result is compared with, and the way to name the op that failed inside a fused kernel.
Knows ops only through the registry; knows no kernel and no Session (rank 4).
"""
from __future__ import annotations

from typing import Any, Callable, Iterable

import numpy as np

from .. import errors, graph, types
from ..graph import Operation, Tensor
from ..ops import opdef, state

# What a step needs of a Session: reading a variable (raises FailedPreconditionError), whether it has a value, and
# the number of times a random op has run.
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


class Step:
    """One run: values of tensors, and variables written but not yet committed."""

    def __init__(self, feeds: dict[Tensor, np.ndarray], store: Any):
        self.values: dict[Tensor, np.ndarray] = dict(feeds)
        self.fed = set(feeds)
        self.store = store
        self.written: dict[Operation, np.ndarray] = {}
        self.drawn: dict[Operation, int] = {}

    def run(self, ops: Iterable[Operation]) -> None:
        for op in ops:
            if any(t not in self.values for t in op.outputs) or not op.outputs:
                self._one(op)

    def _one(self, op: Operation) -> None:
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
        if d.effect == "read":
            return [np.asarray(self.has(op.inputs[0].op))] if d is state.is_variable_initialized_op else [self.variable(op.inputs[0].op)]
        if d.effect == "write":
            return [self._write(op, arrays)]
        if d.effect == "random":
            arrays = [*arrays, np.asarray(self._draw(op), np.int64)]
        if d._numpy is None and d._body is not None:
            return self._body(op, d._body, arrays)
        return evaluate(op, arrays)

    def variable(self, var: Operation) -> np.ndarray:
        if var.outputs[0] in self.fed:
            return self.values[var.outputs[0]]
        return self.written[var] if var in self.written else self.store.read(var)

    def has(self, var: Operation) -> bool:
        return var in self.written or self.store.has(var)

    def _draw(self, op: Operation) -> int:
        self.drawn[op] = self.store.draws(op)
        return self.drawn[op]

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
        with opdef.scratch(op) as g:
            ins = [g.stand_in(graph.Spec(t.dtype, a.shape, opdef.as_known(a, t.dtype))) for t, a in zip(op.inputs, arrays)]
            found = body(*ins, **op.attrs)
        outputs = list(found) if isinstance(found, (list, tuple)) else [found]
        inner = Step(dict(zip(ins, arrays)), self.store)
        inner.run(graph.topological([t.op for t in outputs], inner.fed))
        return [inner.values[t] for t in outputs]


class Reference:
    """A step of a graph as a callable: feeds in, fetched arrays out; variables are committed only at the end."""

    def __init__(self, fetches: list[Tensor], targets: list[Operation], feeds: list[Tensor], store: Any):
        self.fetches, self.feeds, self.store = fetches, feeds, store
        self.ops = graph.topological([*[t.op for t in fetches if t not in set(feeds)], *targets], set(feeds))

    def __call__(self, arrays: list[np.ndarray]) -> list[np.ndarray]:
        step = Step(dict(zip(self.feeds, arrays)), self.store)
        step.run(self.ops)
        results = [np.array(self._value(step, t), copy=True) for t in self.fetches]
        self.store.commit(step.written, step.drawn)
        return results

    def _value(self, step: Step, t: Tensor) -> np.ndarray:
        return step.variable(t.op) if step._is_handle(t) else step.values[t]
