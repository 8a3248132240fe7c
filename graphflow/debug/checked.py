"""`check=2`: a plan run one kernel at a time, each held against the Kernel-IR interpreter.

Products and attention, whose kernels are written by generators of their own, and all that a GPU computes are held against the NumPy
reference of their ops.  The first kernel whose native result differs is named, with the user's operations in it and its text.  Knows
plans and kernels; decides nothing (rank 5).
"""
from __future__ import annotations

import ctypes
from typing import Any, Callable, Mapping

import numpy as np

from .. import errors, types
from ..codegen import contract, interp, ir
from ..codegen.compile import label
from ..graph import Operation, Tensor
from ..ops.opdef import Const
from ..runtime import reference, runner

RTOL = {"f16": 2e-3, "bf16": 2e-2, "f32": 2e-5, "f64": 1e-11, "c64": 2e-5, "c128": 1e-11}
MOST = 1 << 24  # points of a stage that are still interpreted


class KernelDiffers(AssertionError):
    """A compiled kernel and the interpreter disagree."""


def run(plan: Any, fresh: Mapping[ir.Buffer, np.ndarray], host: Callable[[Any], None], failed: Callable[[Any, int], None]) -> None:
    """All instructions of a plan as they come, each kernel compared.

    Raises:
        KernelDiffers: with the kernel's operations, the place and both numbers.
    """
    words = plan.code.reshape(-1, runner.WORDS)
    generated, segments = _Generated(plan, fresh), getattr(plan, "segments", {})
    on_device = _OnDevice(plan, fresh) if segments else None
    pc = 0
    while words[pc][runner.OPCODE] != runner.HALT:
        row, unit, following = words[pc], plan.unit_at.get(pc), pc + 1
        if row[runner.OPCODE] == runner.JUMP or row[runner.OPCODE] == runner.JUMP_IF_FALSE and not _flag(row):
            following = int(row[runner.AUX])
        elif row[runner.OPCODE] == runner.HOST and pc in segments:
            segments[pc].step_by_step(on_device.before, on_device.done)  # type: ignore[union-attr]
            if plan.failed_at(pc, segments[pc]):
                failed(plan.unit_at[pc], int(plan.state[runner.CHECK]))
        elif row[runner.OPCODE] == runner.HOST:
            host(plan.hosts[pc])
        elif row[runner.OPCODE] == runner.CALL:
            generated.before(unit)
            wanted, message = _interpreted(plan, unit, fresh)
            _step(plan, row)
            stopped = plan.state[runner.REASON] == runner.CHECK_FAILED
            if message is not None and bool(message) != bool(stopped):
                raise KernelDiffers(f"{_named(unit)}: the interpreter says {message or 'that all checks hold'!r}, the compiled kernel "
                                    f"{'reports a failure' if stopped else 'nothing'}\n{unit.kernel!r}\n{unit.emitted.source}")
            if stopped:
                failed(unit, int(plan.state[runner.CHECK]))
            for b, want in wanted.items():
                if b.role != "tmp" and _whole(unit.kernel, b, plan.env):
                    compare(unit, b, _view(plan, b, fresh), want)
            generated.after(pc, unit)
        elif row[runner.OPCODE] in (runner.COPY, runner.COMMIT, runner.MOVE, runner.ROW):
            _step(plan, row)
        pc = following


def _flag(row: np.ndarray) -> bool:
    """Whether a jump's condition holds: the byte at its address."""
    return bool(ctypes.c_uint8.from_address(int(row[runner.BUFFERS])).value)


def _step(plan: Any, row: np.ndarray) -> None:
    """One instruction by itself; a loop in one kernel until it has ended."""
    code = np.zeros(2 * runner.WORDS, np.int64)
    code[:runner.WORDS] = row
    runner.execute(code, 0, plan.state)
    while plan.state[runner.REASON] == runner.PAUSED:
        runner.execute(code, 0, plan.state)


def _interpreted(plan: Any, unit: Any, fresh: Mapping[ir.Buffer, np.ndarray]) -> tuple[dict[ir.Buffer, np.ndarray], str | None]:
    """What the kernel must write, and the check that must fail ("" for none, None where nothing was interpreted)."""
    kernel = unit.kernel
    in_place = unit.cluster.kind == "scatter" and len(kernel.stages) == 1 if kernel is not None else False
    if kernel is None or in_place or kernel_size(kernel, plan.env) > MOST:  # of an update in place the interpreter has not the rest
        return {}, None
    written = {s.target for s in kernel.stages}
    before = {b: _view(plan, b, fresh) for b in kernel.buffers if b.role != "tmp" and b not in written}
    try:
        return interp.run(kernel, before, plan.env), ""
    except interp.Failed as e:
        return {}, e.args[0]


def kernel_size(kernel: ir.Kernel, env: Mapping[str, int]) -> int:
    """Points of the largest stage."""
    return max((types.evaluate(types.product(a.extent for a in s.axes), dict(env)) for s in kernel.stages), default=0)


def _whole(kernel: ir.Kernel, b: ir.Buffer, env: Mapping[str, int]) -> bool:
    """Whether the kernel makes all elements of `b`: of a result in parts (codegen/segments.py) it knows one."""
    made = sum(types.evaluate(types.product(a.extent for a in s.axes if a not in s.reduced), dict(env)) for s in kernel.stages
               if s.target is b)
    return made >= types.evaluate(types.product(b.sizes), dict(env))


class _Generated:
    """Clusters of one product or attention: what their kernels read is kept until the last one has run, then all is compared."""

    def __init__(self, plan: Any, fresh: Mapping[ir.Buffer, np.ndarray]):
        self.plan, self.fresh = plan, fresh
        self.last = {id(u.cluster): pc for pc, u in sorted(plan.unit_at.items()) if u.cluster.kind in ("contraction", "attention")}
        self.read: dict[tuple[int, Tensor], np.ndarray] = {}

    def before(self, unit: Any) -> None:
        if id(unit.cluster) in self.last:
            made = set(unit.cluster.outputs)
            for b in unit.reads:
                t = unit.home.tensor_of.get(b)
                if t is not None and t not in made:  # a later kernel may put its result where this one lies
                    self.read.setdefault((id(unit.cluster), t), np.array(self.view(b)))

    def view(self, b: ir.Buffer) -> np.ndarray:
        return _view(self.plan, b, self.fresh)

    def after(self, pc: int, unit: Any) -> None:
        if self.last.get(id(unit.cluster)) == pc:
            self.compare(unit)

    def compare(self, unit: Any) -> None:
        c = unit.cluster
        values = {t: a for (number, t), a in self.read.items() if number == id(c)}
        for t in c.outputs:
            b = unit.home.buffers.get(t)
            if b is not None and self._value(t, values) is not None:
                terms = self._terms(c.ops[0]) if c.kind in ("contraction", "attention") else 0
                compare(unit, b, self.view(b), np.asarray(values[t]), terms, self.least(c))
        for key in [key for key in self.read if key[0] == id(c)]:  # the next iteration reads other values
            del self.read[key]

    def _value(self, t: Tensor, values: dict[Tensor, np.ndarray]) -> np.ndarray | None:
        """The reference's value of `t`; None where it depends on what NumPy cannot give (a random number, a failing check)."""
        stack = [t]
        while stack:
            op = stack[-1].op
            known = stack[-1].known
            missing = [] if known is not None else [x for x in op.inputs if x not in values]
            if stack[-1] in values:
                stack.pop()
            elif known is not None:
                values[stack.pop()] = np.array([types.evaluate(n, self.plan.env) for n in known.flat], np.int64).reshape(known.shape)
            elif missing:
                stack += missing
            else:
                arrays = [values[x] for x in op.inputs]
                if op.opdef.effect is not None or op.opdef._numpy is None or not op.inputs and op.opdef is not Const:
                    return None
                try:
                    values.update(zip(op.outputs, reference.evaluate(op, arrays)))
                except errors.OpError:
                    return None
        return values[t]

    def least(self, c: Any) -> float:
        """The rounding that results have, whatever their own dtype."""
        return 0.0

    def _terms(self, op: Operation) -> int:
        """Products in a sum."""
        p = contract.product(op, lambda t, index: ir.make("load", index, t.dtype.compute, t))
        if p is not None:
            return types.evaluate(p.sizes[3], dict(self.plan.env))
        return max(types.evaluate(n, dict(self.plan.env)) for t in op.inputs for n in t.sizes[-2:])  # type: ignore[index]


class _OnDevice(_Generated):
    """All clusters of GPUs, with values from the memory of the one that runs a unit."""

    def __init__(self, plan: Any, fresh: Mapping[ir.Buffer, np.ndarray]):
        super().__init__(plan, fresh)
        self.last = {id(u.cluster): id(u) for pc in sorted(plan.segments) for u in plan.segments[pc].units}

    def before(self, unit: Any) -> None:
        self.side = self.plan.side(unit)
        super().before(unit)

    def view(self, b: ir.Buffer) -> np.ndarray:
        found, device = np.empty(self.plan.shape[b], b.dtype.np), self.side.device
        device.copy_out(found, self.plan.at(self.side, b))
        device.synchronize("comparing results")
        return found

    def least(self, c: Any) -> float:
        """That of the coarsest float inside."""
        return max((RTOL[t.dtype.code] for op in c.ops for t in (*op.inputs, *op.outputs) if t.dtype.kind in "fc"), default=0.0)

    def done(self, unit: Any) -> None:
        if self.last[id(unit.cluster)] == id(unit):
            self.compare(unit)


def compare(unit: Any, b: ir.Buffer, found: np.ndarray, want: np.ndarray, terms: int = 0, least: float = 0.0) -> None:
    """Equal up to the rounding of the dtype and of a sum, of so many products if that is known, and of what is inside."""
    x, y = interp._loaded(found, b.dtype), interp._loaded(want.reshape(found.shape), b.dtype)
    if b.dtype.kind in "fc":
        top = np.abs(y[np.isfinite(y)]).max(initial=1.0)
        rtol = max(RTOL[b.dtype.code], least, terms * float(np.finfo(b.dtype.compute.np).eps))
        same = np.isclose(x, y, rtol=rtol, atol=rtol * float(top), equal_nan=True)
    else:
        same = x == y
    if not np.all(same):
        at = tuple(int(i) for i in np.argwhere(~np.atleast_1d(same))[0])
        raise KernelDiffers(f"{_named(unit)}\n{b!r} at {list(at)}: compiled {np.atleast_1d(x)[at]!r}, interpreted {np.atleast_1d(y)[at]!r} "
                            f"({np.size(same) - int(np.sum(same))} of {np.size(same)} differ)\n{unit.kernel or ''}\n{_source(unit)}")


def _source(unit: Any) -> str:
    return unit.emitted.source if unit.emitted is not None else unit.launch.source


def _named(unit: Any) -> str:
    names = dict.fromkeys(n for op in unit.cluster.ops for n in (op.origin or (op.name,)))
    return f"kernel {unit.kernel.name if unit.kernel is not None else label(_source(unit))} of {', '.join(names)}"


def _view(plan: Any, b: ir.Buffer, fresh: Mapping[ir.Buffer, np.ndarray]) -> np.ndarray:
    root = plan.alias.get(b, b)
    row = plan.rows.get(root)
    if row is not None:
        return _view(plan, row.base, fresh)[int(_view(plan, row.index, fresh))].reshape(plan.shape[b])
    found = fresh.get(root)
    return (plan.views[root] if found is None else found).reshape(plan.shape[b])
