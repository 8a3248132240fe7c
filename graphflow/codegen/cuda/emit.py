"""Kernel IR -> launches: which thread computes what, in device text.

A kernel takes one of few forms.  *Points* (points.py): every stage is computed at the outer axes alone; a thread takes neighbours that
fill accesses of 16 bytes.  *Threads*: one thread runs the short loops inside an outer point, *windows* those of several neighbours at once.
*Squares*: transposition through shared memory.  *Updates*: scatters.  *Rows* (rows.py): the threads of a block, or of a warp, share each
row of inner axes and add up by shuffles; what several passes over a row need stays in registers.  *Columns*: where memory runs along the
outer axes, a block takes some neighbours, and threads that stand one above the other add up through shared memory.  What has no outer
axes, and long folds with few results, are cut into kernels that have work for all processors (cut.py).

Knows Kernel IR and the spelling of words; knows no op and no driver (rank 4).
"""
from __future__ import annotations

from dataclasses import replace
from functools import partial
from typing import Mapping

from ... import types
from .. import ir, simplify
from ..ir import Axis, Buffer, Expr, Kernel
from ..schedule import inner_axes, scatters
from .cut import WARP, by_columns, by_thread, cut, settled
from .device_text import COMPLEX, Unsupported, alike, guarded_text
from .launch import LIMIT, Launch, Many
from .points import SIDE, Points
from .rows import Rows

__all__ = ["COMPLEX", "WARP", "Device", "Unsupported", "alike", "guarded_text", "launches"]
MEMBERS = 8  # buffers of launches that may become one


class Device(Points, Rows):
    """All forms."""


def launches(kernel: Kernel, alias: Mapping[Buffer, Buffer] | None = None, guarded: bool = False, wide: bool = False) -> list[Launch]:
    """The launches of a linear kernel, in order.

    alias: by result, the buffer whose memory it takes.  guarded: it writes variables.  wide: indices have 64 bits.

    Raises:
        Unsupported: no form of a kernel on a GPU computes this.
    """
    made = [_wide_too(k, dict(alias or {}), wide) for k in cut(settled(kernel))]
    return [replace(m, guarded=guarded) for m in made] if guarded else made


def _wide_too(kernel: Kernel, alias: dict[Buffer, Buffer], wide: bool) -> Launch:
    wide = wide or any(isinstance(n, int) and n >= LIMIT for s in kernel.stages for n in [types.product(a.extent for a in s.axes)])
    made = replace(_launch(_interned(kernel) if wide else kernel, alias, wide), wide=wide)
    return made if wide else replace(made, widened=partial(_wide_too, kernel, alias, True), many=_many(kernel, alias, made))


def _interned(kernel: Kernel) -> Kernel:
    """The kernel with its expressions in the table of today: one for 64 bits is asked for after the compilation that made it."""
    def now(e: Expr) -> Expr:
        return ir.rewrite(e, lambda x, args: ir.make(x.op, args, x.dtype, x.data))

    stages = [replace(s, expr=now(s.expr), index=tuple(map(now, s.index)), init=None if s.init is None else now(s.init))
              for s in kernel.stages]
    return replace(kernel, stages=tuple(stages))


def _many(kernel: Kernel, alias: dict[Buffer, Buffer], made: Launch) -> Many | None:
    (a, *more) = kernel.outer or (None,)
    if more or a is not None and a.bound is not None or made.checks or len(made.buffers) > MEMBERS:
        return None
    folds = any(s.combine or s.scan or inner_axes(s, kernel) for s in kernel.stages)
    return None if folds or not kernel.stages else Device(kernel, alias).many()


def _launch(kernel: Kernel, alias: dict[Buffer, Buffer], wide: bool) -> Launch:
    if len(kernel.stages) == 1 and not kernel.outer and (scatters(kernel.stages[0]) or kernel.stages[0].combine == "set"):
        return Device(kernel, alias, wide).updates()
    if kernel.outer and not any(s.combine or s.scan or inner_axes(s, kernel) for s in kernel.stages):
        crossed = _crossed(kernel, alias)
        return Device(kernel, alias, wide).squares(*crossed) if crossed else Device(kernel, alias, wide).points()
    if not kernel.outer and len(kernel.stages) == 1 and not kernel.stages[0].axes:
        return Device(kernel, alias, wide).points()
    if by_columns(kernel):
        return Device(kernel, alias, wide).columns()
    return Device(kernel, alias, wide).threads() if by_thread(kernel) else Device(kernel, alias, wide).rows()


def _crossed(kernel: Kernel, alias: Mapping[Buffer, Buffer]) -> tuple[Axis, Axis, list[Expr]] | None:
    """(the axis along which loads run, the one along which stores do, those loads) of a transposition."""
    lane = kernel.outer[-1]
    if alias or any(simplify.stride(s.index[0], lane) != 1 for s in kernel.stages) or (types.hint(lane.extent) or 0) < SIDE // 2:
        return None
    made = {s.target for s in kernel.stages}
    loads = [e for e in dict.fromkeys(e for s in kernel.stages for e in ir.walk(s.expr)) if e.op == "at"]
    if any(e.data in made for e in loads) or any(x.op == "check" for s in kernel.stages for x in ir.walk(s.expr)):
        return None
    for a in kernel.outer[:-1]:
        found = [e for e in loads if simplify.stride(e.args[0], a) == 1 and simplify.stride(e.args[0], lane) not in (0, 1, None)
                 and not _conditional(e, kernel)]
        if found and (types.hint(a.extent) or 0) >= SIDE // 2 and len(found) <= 4:
            return a, lane, found
    return None


def _conditional(e: Expr, kernel: Kernel) -> bool:
    """Whether a load stands where only a condition makes its index right."""
    return any(x.op == "select" for s in kernel.stages for x in ir.walk(s.expr) if any(y is e for y in ir.walk(x)))
