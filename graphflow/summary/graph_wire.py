"""A graph as the bytes of TensorFlow's GraphDef message, for TensorBoard's picture of it.

A loop or branch stands as in TF1: its ops in their name scope, the loop's variables fed by its first values, and the op that owns
it fed by what leaves it.  The bytes are written directly: a program may have ten thousand nodes.
"""
from __future__ import annotations

import functools
import struct
from typing import Any, Iterable

import numpy as np

from .. import types
from ..graph import Graph, Operation, Region, Tensor
from ..ops import control, summaries
from ..proto import wire

PRODUCER = 134  # the version of graphs that TensorFlow 1.15 writes
LARGE = 1024    # bytes of an attribute that TensorBoard would not show


def graph_bytes(g: Graph) -> bytes:
    """A GraphDef: names, types, inputs and control inputs, devices, attributes, and `_output_shapes`."""
    nodes = [_field(1, _node(op)) for op in g.get_operations()]
    return b"".join(nodes) + _field(4, b"\x08" + wire.varint(PRODUCER))


def meta_graph_bytes(graph_def: bytes) -> bytes:
    """A MetaGraphDef with that graph."""
    return _field(2, graph_def)


def _field(number: int, body: bytes) -> bytes:
    return wire.tag(number, wire.BYTES) + wire.varint(len(body)) + body


def _node(op: Operation) -> bytes:
    inputs = [_input(t) for t in (*op.inputs, *_around(op))]
    parts = [_field(1, op.name.encode()), _field(2, op.type.encode())]
    parts += [_field(3, name.encode()) for name in dict.fromkeys([*inputs, *(f"^{c.name}" for c in op.control_inputs)])]
    if op.device:
        parts.append(_field(4, op.device.encode()))
    parts += [_attr(name, value) for name, value in _attrs(op) if value is not None]
    return b"".join(parts)


def _input(t: Tensor) -> str:
    return t.op.name if t.value_index == 0 else t.name


def _around(op: Operation) -> list[Tensor]:
    """What an op reads in the picture only: what leaves the regions of a loop or branch, the first value of a loop's variable."""
    if op.opdef is control.loop_variable and op.region is not None and op.region.owner is not None:
        return [op.region.owner.inputs[_place(op, op.region)]]
    return [t for region in control.regions_of(op) for t in region.results]


def _place(op: Operation, region: Region) -> int:
    return next(i for i, p in enumerate(region.params) if p.op is op)


# ---------------------------------------------------------------- attributes


def _attr(name: str, value: bytes) -> bytes:
    return _field(5, _field(1, name.encode()) + _field(2, value))


def _attrs(op: Operation) -> Iterable[tuple[str, bytes | None]]:
    """(name, AttrValue), those of TF1's ops first."""
    values = op.attrs
    outputs = [t.dtype for t in op.outputs]
    if not op.inputs and outputs and "dtype" not in values:
        yield "dtype", _type(outputs[0])
    elif op.inputs:
        yield "T", _type(op.inputs[0].dtype)
    for name, value in values.items():
        if name == "shape" and isinstance(value, tuple):
            yield name, _field(7, _shape(value))
        elif isinstance(value, np.ndarray):
            yield name, _tensor(value, values.get("dtype") or types.as_dtype(value.dtype))
        else:
            yield name, _attr_value(value)
    yield "_output_shapes", _field(1, b"".join(_field(7, _shape(t.sizes)) for t in op.outputs)) if op.outputs else None


def _attr_value(value: Any) -> bytes | None:
    """An AttrValue; None for what has no such form."""
    if isinstance(value, (bool, np.bool_)):
        return b"\x28" + bytes([bool(value)])
    if isinstance(value, (int, np.integer)):
        return b"\x18" + _integer(int(value))
    if isinstance(value, (float, np.floating)):
        with np.errstate(over="ignore"):
            return b"\x25" + struct.pack("<f", np.float32(value))
    if isinstance(value, (str, bytes)):
        text = value.encode() if isinstance(value, str) else value
        return _field(2, text) if len(text) <= LARGE else None
    if isinstance(value, types.DType):
        return _type(value)
    if isinstance(value, (tuple, list)):
        return _list(value)
    return _field(2, getattr(value, "__name__", "").encode()) if callable(value) else None


def _integer(value: int) -> bytes:
    return wire.varint(value & wire.MASK)


def _list(values: Any) -> bytes | None:
    if values and all(isinstance(v, types.DType) for v in values):
        return _field(1, b"".join(_type(v) for v in values))
    items = [_attr_value(v) if isinstance(v, (bool, int, float, str)) else None for v in values[:LARGE // 8]]
    return None if any(v is None for v in items) else _field(1, b"".join(items))  # type: ignore[arg-type]


@functools.cache
def _type(dtype: types.DType) -> bytes:
    return b"\x30" + wire.varint(dtype.as_datatype_enum)


@functools.lru_cache(1024)
def _shape(sizes: types.Shape) -> bytes:
    """A TensorShapeProto; sizes that are not known are -1."""
    if sizes is None:
        return b"\x18\x01"
    return b"".join(_field(2, b"\x08" + _integer(n if isinstance(n, int) else -1)) for n in sizes)


def _tensor(array: np.ndarray, dtype: types.DType) -> bytes:
    """A constant's value; of a large one only dtype and shape."""
    size = sum(map(len, array.reshape(-1))) if dtype is types.string else array.nbytes
    if size <= LARGE:
        return _field(8, summaries.tensor_proto(array, dtype).SerializeToString())
    return _field(8, b"\x08" + wire.varint(dtype.as_datatype_enum) + _field(2, _shape(array.shape)))
