"""Objects that live in a session and keep something between its runs: queues, iterators, tables, readers.

A *handle* is an op without inputs whose definition says `makes=fn(op) -> object`; each session makes its object when a run first
needs it, and closes it (`close()`, where it has one) when the session is closed.  As a tensor the handle is its name, a string
scalar.  Handles with the same attribute `shared_name` (and `container`) stand for one object.

An op on a resource takes the handle as its first input and says what it does with `@op.performs`:

    fn(access, op, arrays) -> list of arrays, one for each output

`access.resource(op.inputs[0].op)` is the object.  Such ops run on the host between compiled parts of the step, in program order
and outside the session's lock (see runtime/phases.py), so they bring their own locks.  One that may wait says `blocks=True` and
waits with `access.wait(condition, ready)`, which hears of time limits, Ctrl-C and closed sessions.  Arrays it is given belong to
others: it copies what it keeps; arrays it returns are never written to, and copied where a caller gets them.
Knows no session (rank 3).
"""
from __future__ import annotations

from typing import Any, Callable

import numpy as np

from .. import errors, types
from ..graph import Operation, Spec, Tensor
from .opdef import OpDef, primitive

ANY = types.ALL + (types.string,)


def handle_op(type: str, makes: Callable[[Operation], Any], default_name: str | None = None) -> Callable[..., OpDef]:
    """Declares a kind of handle: a function with keyword-only attributes."""
    def make(fn: Any) -> OpDef:
        op: OpDef = primitive("host", effect="host", type=type, default_name=default_name, infer=lambda **_: Spec(types.string, ()),
                              makes=makes, no_gradient="a resource")(fn)
        op.performs(lambda access, op, arrays: [np.array(op.name.encode(), object)])
        return op
    return make


def resource_op(type: str, infer: Callable[..., Any], blocks: bool = False, **traits: Any) -> Callable[..., OpDef]:
    """Declares an op on a resource: `fn(handle, *inputs, *, attrs)`, refined with `@op.performs`."""
    return lambda fn: primitive("host", effect="host", type=type, infer=infer, blocks=blocks, dtypes=ANY, same=("-",),
                                input_dtypes=_any(fn), no_gradient="it takes from or puts into a resource", **traits)(fn)


def _any(fn: Any) -> dict[str, tuple[types.DType, ...]]:
    code = fn.__code__
    return dict.fromkeys((*code.co_varnames[:code.co_argcount], code.co_varnames[code.co_argcount + code.co_kwonlyargcount]
                          if code.co_flags & 4 else "-"), ANY)


def _made(op: Operation) -> Any:
    return op.attrs["make"]()


@handle_op("AnonymousResource", _made, "resource")
def resource_handle(*, make, shared_name="", container=""):
    """A handle of an object that the function `make()` gives each session."""


def is_handle(t: Tensor) -> bool:
    return t.op.opdef.makes is not None


def object_of(access: Any, op: Operation, arrays: list[np.ndarray], position: int = 0) -> Any:
    """The resource an op works on: that of its first input (or another), which may also be a string tensor with the name of a handle.

    Raises InvalidArgumentError when there is no such handle.
    """
    t = op.inputs[position]
    if t.op.opdef.makes is not None:
        return access.resource(t.op)
    name = arrays[position].item()
    name = name.decode() if isinstance(name, bytes) else str(name)
    handle = op.graph._by_name.get(name)
    if handle is None or handle.opdef.makes is None:
        raise errors.InvalidArgumentError(None, None, f"{name!r} is not the handle of a resource of this graph")
    return access.resource(handle)
