"""Variables as ops: a handle, reads and writes.

A write's meaning is a body `new(old, ...)` in ordinary ops, so that the `state` pass can turn a step into pure
dataflow: reads and writes take effect in the order in which the program made them (TF1's races are not copied).
"""
from __future__ import annotations

from contextlib import nullcontext
from typing import Any

from .. import types
from ..graph import Operation, Spec, Tensor
from ..types import DType
from .opdef import OpDef, convert_to_tensor, graph_of, primitive

ANY = types.ALL + (types.string,)
_here = nullcontext()


@primitive("state", type="VariableV2", default_name="Variable", infer=lambda *, dtype, shape: Spec(dtype, shape),
           no_gradient="a variable's handle")
def variable_handle(*, dtype: DType, shape: types.Shape):
    """A variable; as a tensor, its value at this point of the program.  The value lives in the Session."""


@primitive("state", type="ReadVariableOp", default_name="read", effect="read", dtypes=ANY, infer=lambda v: Spec(v.dtype, v.sizes))
def read_handle(v):
    """The variable's value after all earlier writes of the step."""


read_handle.grad(lambda op, dy: (dy,))
read_handle.sparse_gradient = True  # type: ignore[attr-defined]  # the gradient of a gathered variable stays IndexedSlices


@primitive("state", type="IsVariableInitialized", effect="read", dtypes=ANY, infer=lambda v: Spec(types.bool_, ()), no_gradient="a boolean")
def is_variable_initialized_op(v):
    """Whether the variable has a value in this Session."""


def write(type: str, default_name: str | None = None, dtypes: tuple[DType, ...] = types.ALL) -> Any:
    """Declares a writing op from the body that computes the new value of the old one."""
    def make(fn: Any) -> OpDef:
        op = OpDef(fn, "state", type=type, default_name=default_name or type, effect="write", same=(fn.__code__.co_varnames[0], "value"),
                   dtypes=dtypes, infer=_write_infer, no_gradient="writes have no gradient")
        op._body = fn
        return op
    return make


def _write_infer(v: Tensor, *rest: Tensor, validate_shape: bool = True) -> Spec:
    value = rest[-1]
    if len(rest) == 1 and validate_shape:
        sizes = types.merge_shapes(v.sizes, value.sizes)
    else:
        sizes = v.sizes if validate_shape else value.sizes
    return Spec(v.dtype, sizes)


@write("Assign", dtypes=ANY)
def assign_op(v, value, *, validate_shape=True):
    """Replaces the value; the output is the new value."""
    return value


@write("AssignAdd")
def assign_add_op(v, value):
    """Adds to the value."""
    return v + value


@write("AssignSub")
def assign_sub_op(v, value):
    """Subtracts from the value."""
    return v - value


def handle_of(ref: Any) -> Tensor:
    """The handle tensor of a variable object, of a handle, or of a read or write of one.

    Raises:
        TypeError: the value does not come from a variable.
    """
    t = getattr(ref, "handle", None)
    t = convert_to_tensor(ref) if t is None else t
    while t.op.opdef is not variable_handle:
        if t.op.opdef.effect not in ("read", "write") and t.op.type != "Identity":
            raise TypeError(f"{ref!r} is not a variable: assign needs a tf.Variable or the result of an assign op")
        t = t.op.inputs[0]
    return t


def read(handle: Tensor, name: str | None = None) -> Tensor:
    """The value now, in program order.  Reads between two writes share one op when no control edges are asked for."""
    g = graph_of([handle])
    if g._state.control or name is not None:
        return read_handle(handle, name=name)
    if handle.op not in g._reads:
        with g.name_scope(handle.op.name + "/"), g.control_dependencies(None), g.beside(handle.op):
            g._reads[handle.op] = read_handle(handle, name="read")
    return g._reads[handle.op]


def written(op: OpDef, ref: Any, *values: Any, name: str | None = None, **attrs: Any) -> Tensor:
    """Appends a write of `ref` and forgets the shared read, so that later reads see it."""
    handle = handle_of(ref)
    tensors = [convert_to_tensor(v) if i < len(values) - 1 else convert_to_tensor(v, handle.dtype) for i, v in enumerate(values)]
    g = graph_of([handle])
    with g.beside(handle.op) if handle.op.device and g._state.devices else _here:
        out = g.create_op(op, [handle, *tensors], op._bind((handle, *tensors), attrs)[1], name).outputs[0]
    forget_reads(out.op.graph, handle.op)
    return out


def forget_reads(g: Any, variable: Operation) -> None:
    """From now on reading `variable` makes a new op, in every branch and loop body."""
    for reads in g._reads_of.values():
        reads.pop(variable, None)


def assign(ref: Any, value: Any, validate_shape: bool | None = None, use_locking: bool | None = None, name: str | None = None) -> Tensor:
    """Writes `value`; the result is the variable's new value.  `validate_shape=False` lets the shape change."""
    return written(assign_op, ref, value, name=name, validate_shape=validate_shape is not False)


def assign_add(ref: Any, value: Any, use_locking: bool | None = None, name: str | None = None) -> Tensor:
    """`ref += value`; the result is the new value."""
    return written(assign_add_op, ref, value, name=name)


def assign_sub(ref: Any, value: Any, use_locking: bool | None = None, name: str | None = None) -> Tensor:
    """`ref -= value`; the result is the new value."""
    return written(assign_sub_op, ref, value, name=name)


def state_of(op: Operation) -> Operation | None:
    """The variable an op reads or writes, or None."""
    return op.inputs[0].op if op.opdef.effect in ("read", "write") and op.opdef.family == "state" else None
