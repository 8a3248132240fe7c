"""Text and bytes turned into tensors, and back, on the host (rank 3): raw numbers, CSV, JSON Examples, serialized tensors.

The functions that users call are in graphflow/parsing_ops.py.
"""
from __future__ import annotations

import base64
import json
import zlib
from typing import Any

import numpy as np

from .. import errors, proto, types
from ..graph import Spec, Tensor
from .opdef import needs_rank, primitive

STRING = (types.string,)
ANY = types.ALL + STRING
RAW = (types.float16, types.float32, types.float64, types.int32, types.uint16, types.uint8, types.int16, types.int8, types.int64,
       types.complex64, types.complex128, types.bool_, types.bfloat16)


def strings(*texts: Any) -> np.ndarray:
    """A string array for samples."""
    return types.as_strings(list(texts))


def sample(*args: Any, **attrs: Any) -> Any:
    """Test data: one call of an op, with these arrays."""
    return lambda rng: (args, attrs)


# ---------------------------------------------------------------- raw bytes


@primitive("host", type="DecodeRaw", dtypes=STRING, no_gradient="it reads bytes", samples=[
    sample(strings("\x01\x02\x03\x04", "abcd"), out_type=types.uint8),
    sample(strings("abcdefgh"), out_type=types.int16, little_endian=False)])
def decode_raw_op(bytes, *, out_type, little_endian=True):
    """The numbers that strings of equal length are in memory: [..., length / size]."""


@decode_raw_op.infers
def _(bytes, *, out_type, little_endian):
    if out_type not in RAW:
        raise TypeError(f"Value passed to parameter 'out_type' has DataType {out_type.name} not in list of allowed values: "
                        f"{', '.join(d.name for d in RAW)}")
    return Spec(out_type, None if bytes.sizes is None else (*bytes.sizes, types.UNKNOWN))


@decode_raw_op.reference
def _(bytes, *, out_type, little_endian):
    data = bytes.reshape(-1).tolist()
    length = len(data[0]) if data else 0
    for i, d in enumerate(data):
        if len(d) != length:
            raise ValueError(f"DecodeRaw requires input strings to all be the same size, but element {i} has size {len(d)} != {length}")
    if length % out_type.size:
        raise ValueError(f"Input to DecodeRaw has length {length} that is not a multiple of {out_type.size}, the size of {out_type.name}")
    order = out_type.np.newbyteorder("<" if little_endian else ">")
    found = np.frombuffer(b"".join(data), order).astype(out_type.np, copy=False).reshape(*bytes.shape, length // out_type.size)
    return types.bf16_decode(found) if out_type is types.bfloat16 else found


@primitive("host", type="DecodeCompressed", dtypes=STRING, no_gradient="it reads bytes", infer=lambda bytes, **_: Spec(
    types.string, bytes.sizes), samples=[sample(strings(zlib.compress(b"some text")), compression_type="ZLIB")])
def decode_compressed_op(bytes, *, compression_type=""):
    """Strings that were compressed: "", "ZLIB" or "GZIP"."""


@decode_compressed_op.reference
def _(bytes, *, compression_type):
    bits = {"": 0, "ZLIB": 15, "GZIP": 31}.get(compression_type)
    if bits is None:
        raise ValueError(f"Only ZLIB, GZIP or NONE are supported compressions, got {compression_type!r}")
    try:
        return each(bytes, lambda d: zlib.decompress(d, bits) if bits else d)
    except zlib.error as e:
        raise errors.DataLossError(None, None, f"inflate() failed: {e}") from None


def each(array: np.ndarray, f: Any) -> np.ndarray:
    """`f` of each element of a string array, as an array of objects."""
    out = np.empty(array.size, object)
    out[:] = [f(v) for v in array.reshape(-1).tolist()]
    return out.reshape(array.shape)


# ---------------------------------------------------------------- CSV


def _csv_infer(records: Tensor, *defaults: Tensor, **_: Any) -> list[Spec]:
    for d in defaults:
        if d.sizes is not None and (len(d.sizes) > 1 or len(d.sizes) == 1 and types.less(1, d.sizes[0])):
            raise ValueError("Each record default must be a length-0 or length-1 vector, or a scalar, got shape "
                             f"{types.shape_text(d.sizes)}")
    return [Spec(d.dtype, records.sizes) for d in defaults]


@primitive("host", type="DecodeCSV", infer=_csv_infer, dtypes=ANY, same=("-",), no_gradient="it reads text",
           input_dtypes={"records": STRING, "defaults": (types.float32, types.float64, types.int32, types.int64, types.string)},
           samples=[sample(strings('1,"a,b",', '2,"c ""d""",0.5'), np.array([7], np.int32), strings(""), np.array([1.5], np.float32))])
def decode_csv_op(records, *defaults, field_delim=",", use_quote_delim=True, na_value="", select_cols=()):
    """A tensor for each column of records of text (RFC 4180); an empty default makes a field required."""


@decode_csv_op.reference
def _(records, *defaults, field_delim, use_quote_delim, na_value, select_cols):
    delim, na = types.as_strings(field_delim)[()], types.as_strings(na_value)[()]
    if len(delim) != 1:
        raise ValueError(f"field_delim should be only 1 char, got {field_delim!r}")
    rows = [_fields(r, delim, use_quote_delim, na) for r in records.reshape(-1).tolist()]
    for i, row in enumerate(rows):
        if select_cols:
            if select_cols[-1] >= len(row):
                raise ValueError(f"Expect {select_cols[-1] + 1} fields but have {len(row)} in record {i}")
        elif len(row) != len(defaults):
            raise ValueError(f"Expect {len(defaults)} fields but have {len(row)} in record {i}")
    out = []
    for default, column in zip(defaults, select_cols or range(len(defaults))):
        found = _column([row[column] for row in rows], default, column)
        out.append(found.reshape(records.shape))
    return out


def _fields(record: bytes, delim: bytes, quotes: bool, na: bytes) -> list[bytes | None]:
    """The fields of a record; None for one that is empty or `na`."""
    if not record:
        return []
    if not quotes or b'"' not in record and b"\n" not in record and b"\r" not in record:
        return [None if f in (b"", na) else f for f in record.split(delim)]
    out: list[bytes | None] = []
    at, end = 0, len(record)
    while at <= end:
        if record[at:at + 1] == b'"':
            field, at = _quoted(record, at + 1, delim)
            out.append(field or None)
        else:
            stop = record.find(delim, at)
            stop = end if stop < 0 else stop
            field = record[at:stop]
            if any(c in field for c in (b'"', b"\n", b"\r")):
                raise ValueError(f"Unquoted fields cannot have quotes/CRLFs inside: {record!r}")
            out.append(None if field in (b"", na) else field)
            at = stop + 1
    return out


def _quoted(record: bytes, at: int, delim: bytes) -> tuple[bytes, int]:
    """(the field whose opening quote stands before `at`, where the next field begins)."""
    parts = []
    while True:
        stop = record.find(b'"', at)
        if stop < 0:
            raise ValueError(f"Quoted field has to end with quote followed by delim or end: {record!r}")
        parts.append(record[at:stop])
        following = record[stop + 1:stop + 2]
        if following in (b"", delim):
            return b'"'.join(parts), stop + 2
        if following != b'"':
            raise ValueError(f"Quote inside a string has to be escaped by another quote: {record!r}")
        at = stop + 2


def _column(fields: list[bytes | None], default: np.ndarray, column: int) -> np.ndarray:
    out = np.empty(len(fields), default.dtype)
    missing = default.reshape(-1)[0] if default.size else None
    convert = _CONVERT[default.dtype.kind]
    for i, f in enumerate(fields):
        if f is None:
            if missing is None:
                raise ValueError(f"Field {column} is required but missing in record {i}!")
            out[i] = missing
        else:
            try:
                out[i] = convert(f)
            except (ValueError, OverflowError):
                name = {"float32": "float", "float64": "double"}.get(default.dtype.name, default.dtype.name)
                raise ValueError(f"Field {column} in record {i} is not a valid {name}: {f.decode('utf-8', 'replace')}") from None
    return out


def to_int(text: bytes) -> int:
    """An integer in decimal.  Raises ValueError."""
    if b"_" in text:
        raise ValueError(text)
    return int(text)


def to_float(text: bytes) -> float:
    """A floating-point number in decimal or hexadecimal.  Raises ValueError."""
    if b"_" in text:
        raise ValueError(text)
    try:
        return float(text)
    except ValueError:
        if b"x" not in text.lower():
            raise
        return float.fromhex(text.decode())


_CONVERT: dict[str, Any] = {"i": to_int, "f": to_float, "O": lambda f: f}


# ---------------------------------------------------------------- Examples as JSON


@primitive("host", type="DecodeJSONExample", dtypes=STRING, no_gradient="it reads text", infer=lambda json_examples: Spec(
    types.string, json_examples.sizes), samples=[sample(strings('{"features": {"feature": {"a": {"int64List": {"value": [1, "2"]}}}}}'))])
def decode_json_op(json_examples):
    """Examples in protobuf's JSON form as serialized Examples."""


decode_json_op.reference(lambda json_examples: each(json_examples, _from_json))

_JSON: dict[str, tuple[str, Any]] = {"bytesList": ("bytes_list", base64.b64decode), "int64List": ("int64_list", int),
                                     "floatList": ("float_list", float)}


def _from_json(text: bytes) -> bytes:
    made = proto.Example()
    try:
        found = json.loads(text)
        for key, lists in found.get("features", {}).get("feature", {}).items():
            feature = made.features.feature[key]
            for name, values in lists.items():
                field, convert = _JSON[name if name in _JSON else "".join((name.split("_")[0], "List"))]
                getattr(feature, field).value.extend([convert(v) for v in values.get("value", [])])
    except (ValueError, TypeError, AttributeError, KeyError) as e:
        raise ValueError(f"Error while parsing JSON: {type(e).__name__}: {e} in {text[:80]!r}") from None
    return made.SerializeToString()


# ---------------------------------------------------------------- serialized tensors


def tensor_proto(array: np.ndarray, dtype: types.DType) -> Any:
    """The TensorProto of a stored array."""
    made = proto.TensorProto(dtype=dtype.as_datatype_enum)
    made.tensor_shape.SetInParent()
    for n in array.shape:
        made.tensor_shape.dim.add(size=n)
    if dtype is types.string:
        made.string_val.extend(array.reshape(-1).tolist())
    else:
        made.tensor_content = np.ascontiguousarray(array, dtype.np.newbyteorder("<")).tobytes()
    return made


_VALUES = {"float32": "float_val", "float64": "double_val", "int64": "int64_val", "bool": "bool_val", "uint32": "uint32_val",
           "uint64": "uint64_val", "complex64": "scomplex_val", "complex128": "dcomplex_val", "float16": "half_val", "bfloat16": "half_val"}


def from_tensor_proto(message: Any) -> tuple[np.ndarray, types.DType]:
    """(the stored array, its dtype) of a TensorProto.  Raises ValueError on one that does not fit together."""
    dtype = types.as_dtype(message.dtype)
    shape = [d.size for d in message.tensor_shape.dim]
    if any(n < 0 for n in shape) or message.tensor_shape.unknown_rank:
        raise ValueError(f"a tensor of unknown shape {shape}")
    size = int(np.prod(shape, dtype=object))
    if dtype is types.string:
        flat = np.empty(len(message.string_val), object)
        flat[:] = list(message.string_val)
    elif message.tensor_content:
        flat = np.frombuffer(message.tensor_content, dtype.np.newbyteorder("<")).astype(dtype.np)
    else:
        values = getattr(message, _VALUES.get(dtype.name, "int_val"))
        if dtype.kind == "c":
            flat = np.array(values, dtype.real_dtype.np).view(dtype.np)
        else:
            flat = np.array(values, np.uint16).view(dtype.np) if dtype.size == 2 and dtype.kind == "f" else np.array(values, dtype.np)
        if 0 < flat.size < size:  # the last one is meant for all the rest
            flat = np.concatenate([flat, np.repeat(flat[-1:], size - flat.size)])
    if flat.size != size:
        raise ValueError(f"a tensor of shape {shape} with {flat.size} values")
    return flat.reshape(shape), dtype


@primitive("host", type="SerializeTensor", dtypes=ANY, no_gradient="it makes bytes", infer=lambda tensor, **_: Spec(types.string, ()))
def serialize_tensor_op(tensor, *, dtype):
    """A TensorProto, serialized; `dtype` is the tensor's."""


@serialize_tensor_op.reference
def _(tensor, *, dtype):
    return np.array(_serialized(tensor, dtype), object)


def _serialized(array: np.ndarray, dtype: types.DType = types.int64) -> bytes:
    stored = types.bf16_encode(array) if dtype is types.bfloat16 else array.astype(dtype.np, copy=False)
    return tensor_proto(stored, dtype).SerializeToString()


@primitive("host", type="ParseTensor", dtypes=STRING, no_gradient="it reads bytes")
def parse_tensor_op(serialized, *, out_type):
    """The tensor of a serialized TensorProto."""


parse_tensor_op.infers(lambda serialized, *, out_type: Spec(out_type, None))
parse_tensor_op.output_dtypes = lambda serialized, *, out_type: [out_type]


@parse_tensor_op.reference
def _(serialized, *, out_type):
    if serialized.ndim:
        raise ValueError(f"Expected `serialized` to be a scalar, got shape: {list(serialized.shape)}")
    return _decoded(_parsed(serialized[()], out_type), out_type)


def _decoded(array: np.ndarray, dtype: types.DType) -> np.ndarray:
    return types.bf16_decode(array) if dtype is types.bfloat16 else array


def _parsed(data: bytes, dtype: types.DType) -> np.ndarray:
    try:
        array, found = from_tensor_proto(proto.TensorProto.FromString(data))
    except (ValueError, TypeError) as e:
        raise ValueError(f"Could not parse `serialized` as TensorProto: {e}") from None
    if found is not dtype:
        raise ValueError(f"Type mismatch between parsed tensor ({found.name}) and dtype ({dtype.name})")
    return array


# ---------------------------------------------------------------- serialized sparse tensors


@primitive("host", type="SerializeSparse", dtypes=ANY, same=("-",), no_gradient="it makes bytes",
           input_dtypes={"indices": (types.int64,), "values": ANY, "shape": (types.int64,)},
           infer=lambda *_, **__: Spec(types.string, (3,)))
def serialize_sparse_op(indices, values, shape, *, dtype):
    """A SparseTensor of values of `dtype` as three serialized tensors."""


serialize_sparse_op.reference(lambda indices, values, shape, *, dtype: strings(
    _serialized(indices), _serialized(values, dtype), _serialized(shape)))


@primitive("host", type="SerializeManySparse", dtypes=ANY, same=("-",), no_gradient="it makes bytes",
           input_dtypes={"indices": (types.int64,), "values": ANY, "shape": (types.int64,)},
           infer=lambda *_, **__: Spec(types.string, (types.UNKNOWN, 3)))
def serialize_many_sparse_op(indices, values, shape, *, dtype):
    """Each entry of the first dimension of a SparseTensor as three serialized tensors: [N, 3]."""


@serialize_many_sparse_op.reference
def _(indices, values, shape, *, dtype):
    if len(shape) < 2:
        raise ValueError(f"Rank of input SparseTensor should be > 1, but saw rank: {len(shape)}")
    out = np.empty((int(shape[0]), 3), object)
    for i in range(len(out)):
        mine = indices[:, 0] == i
        out[i] = [_serialized(indices[mine, 1:]), _serialized(values[mine], dtype), _serialized(shape[1:])]
    return out


def _deserialize_infer(serialized: Tensor, *, dtype: types.DType, rank: int | None) -> list[Spec]:
    columns = needs_rank(serialized, 2)[1]
    if types.same(columns, 3) is False:
        raise ValueError(f"Serialized sparse should have 3 columns, but has {columns}")
    places = types.UNKNOWN if rank is None else rank
    return [Spec(types.int64, (types.UNKNOWN, places)), Spec(dtype, (types.UNKNOWN,)), Spec(types.int64, (places,))]


@primitive("host", type="DeserializeManySparse", dtypes=STRING, no_gradient="it reads bytes", infer=_deserialize_infer)
def deserialize_many_sparse_op(serialized, *, dtype, rank=None):
    """Serialized SparseTensors [N, 3] put together along a new first dimension."""


deserialize_many_sparse_op.output_dtypes = lambda serialized, *, dtype, rank: [types.int64, dtype, types.int64]


@deserialize_many_sparse_op.reference
def _(serialized, *, dtype, rank):
    if not len(serialized):
        raise ValueError("Must have at least 1 serialized SparseTensor")
    parts = [[_parsed(d, t) for d, t in zip(row, (types.int64, dtype, types.int64))] for row in serialized.tolist()]
    shapes = [p[2] for p in parts]
    if len({len(s) for s in shapes}) > 1:
        raise ValueError(f"Inconsistent rank across SparseTensors: {sorted({len(s) for s in shapes})}")
    indices = [np.concatenate([np.full((len(p[0]), 1), i), p[0].reshape(len(p[1]), len(p[2]))], 1) for i, p in enumerate(parts)]
    return [np.concatenate(indices).astype(np.int64), _decoded(np.concatenate([p[1] for p in parts]), dtype),
            np.array([len(parts), *np.max(shapes, 0)], np.int64)]
