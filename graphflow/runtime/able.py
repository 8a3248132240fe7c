"""Which ops a GPU can run, and which stay with the host whatever a program says.

Asked of an op's definition: its family, hooks and effects, and the dtypes of its tensors; never of its name (rank 5).
"""
from __future__ import annotations

from typing import Any, Callable

from .. import types
from ..codegen import ir
from ..graph import Operation, Spec
from ..ops import control
from ..ops.opdef import UnknownRank, scratch

# Families whose ops are kernels of their own, without a scalar formula.
ENGINES = frozenset(("scan",))
# Families without work: values from elsewhere, memory, and ops that only own others.
WORKLESS = frozenset(("constant", "input", "state", "control"))

Why = Callable[[Operation], "str | None"]


def why_not(op: Operation) -> str | None:
    """Why no GPU can run `op`: half a sentence.  None where a kernel can be made, or where it takes no work at all."""
    d = op.opdef
    if d._performs is not None or d.makes is not None:
        return "it works on an object of the session (a queue, table, reader or iterator), which lives on the host"
    if any(t.dtype.kind == "s" for t in (*op.inputs, *op.outputs)):
        return "strings live in host memory"
    if d.effect in ("host", "outside"):
        return "its effects are the host's"
    if d.family == "composite":
        return _body(op)
    if any(t.dtype.kind == "c" for t in (*op.inputs, *op.outputs)) and (found := _complex(op)):
        return found
    if d.family == "attention":
        return _attention(op)
    if d.gpu or d.family in WORKLESS or d.family in ENGINES or d._lower is not None or d._fold is not None or d._scatter is not None:
        return None
    return "it is computed by NumPy, on the host"


def _attention(op: Operation) -> str | None:
    from ..codegen.cuda import attention

    return None if attention.engine(op) else "no GPU kernel of attention takes rows of this length or dtype"


def _complex(op: Operation) -> str | None:
    """Why there is no GPU kernel of an op on complex numbers."""
    from ..codegen.cuda import emit

    d = op.opdef
    if d.gpu:
        return "no GPU kernel computes it of complex numbers"
    if d.scalar is not None:
        loads = [ir.make("load", (), t.dtype.compute, t) for t in op.inputs]
        for e in ir.walk(d.scalar(*loads, **op.attrs)):
            if e.op in ir.SCALAR and e.op not in emit.COMPLEX and any(x.dtype.kind == "c" for x in (e, *e.args)):
                return f"no GPU kernel computes {e.op} of complex numbers"
    if d._scatter is not None:
        return "no GPU kernel adds up complex numbers in one place"
    return None


_bodies: dict[Any, str | None] = {}


def _body(op: Operation) -> str | None:
    """Why the body of a composite cannot run on a GPU; the same for all calls on inputs of the same dtypes and ranks."""
    d = op.opdef
    if d.static and any(t.known is None and d.param_name(i) in d.static for i, t in enumerate(op.inputs)):
        return None  # it is opened when the value is known, like ranks
    key = d, tuple([(t.dtype, None if t.sizes is None else len(t.sizes)) for t in op.inputs])
    if key not in _bodies:
        with scratch() as g, types.recording_guards():
            try:
                d.fn(*[g.stand_in(Spec(t.dtype, t.sizes, t.known)) for t in op.inputs], **op.attrs)
            except UnknownRank:  # it is opened when the rank is known; of what, its dtypes have told
                return None
        found = next(((o, why) for o in g._ops if (why := why_not(o))), None)
        _bodies[key] = found and f"a part of it ({found[0].type}) has no GPU kernel: {found[1]}"
    return _bodies[key]


def of_host(op: Operation) -> bool:
    """Whether an op runs on the CPU under any `tf.device`, without a word.

    Checks and the texts they print (TF1's GPU kernels for these do nothing), feeds of text, and ops on objects of the session, among them
    iterators and staging areas, which TF1 has for GPUs: what they give comes from the host like a feed.
    """
    d = op.opdef
    if d._performs is not None or d.makes is not None or d.effect == "host" and not op.outputs:
        return True
    return bool(op.outputs) and op.outputs[0].dtype.kind == "s" and comes_from_nothing(op)


def numeric(op: Operation) -> bool:
    """Whether an op only computes numbers from numbers: for nearly all of these TF1 has GPU kernels, so programs may ask for a GPU."""
    d = op.opdef
    return d._performs is None and d.makes is None and d.effect in (None, "random") and not any(
        t.dtype.kind == "s" for t in (*op.inputs, *op.outputs))


def comes_from_nothing(op: Operation) -> bool:
    """Constants, feeds and the like: made by the host for whoever reads them."""
    return not op.inputs and bool(op.outputs) and op.opdef.effect is None and op.opdef.family not in ("state", "random", "host") \
        and op.opdef is not control.loop_variable
