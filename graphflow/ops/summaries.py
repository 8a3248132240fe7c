"""Summaries: values as serialized `Summary` messages, for event files (rank 3).

The host writes them after the kernels that compute the values; what is not fetched is not written.  Formats are those of TF1:
the histogram's buckets grow by a tenth, images of floats are scaled one by one, sound is 16-bit WAV.
"""
from __future__ import annotations

import functools
import struct
from typing import Any, Iterator

import numpy as np

from .. import errors, types
from ..graph import Spec, Tensor
from .opdef import primitive
from .png import encode_png

REAL = (types.float16, types.bfloat16, types.float32, types.float64, *[t for t in types.ALL if t.kind in "iu"])
TEXT = (types.string,)
FIXED64, BYTES = 1, 2  # wire types
PART = 1 << 15  # elements of a histogram taken at a time


def _summary(*inputs: Tensor, **attrs: Any) -> Spec:
    return Spec(types.string, ())


def _family(**input_dtypes: Any) -> Any:
    return {"infer": _summary, "same": ("-",), "input_dtypes": input_dtypes, "no_gradient": "it writes a summary"}


def _bad(message: str) -> errors.OpError:
    return errors.InvalidArgumentError(None, None, message)


def _proto() -> Any:
    """The messages, which programs without summaries do not load."""
    from .. import proto

    return proto


def _text(tag: Any) -> bytes:
    return tag.encode() if isinstance(tag, str) else bytes(tag)


def _one_tag(tag: Any, what: str) -> bytes:
    if np.ndim(tag):
        raise _bad(f"{what} must be scalar, got an array of shape {np.shape(tag)}")
    return _text(np.asarray(tag, object)[()])


# ---------------------------------------------------------------- the wire: fields of Summary.Value by number


def _value(tag: bytes, number: int, body: bytes) -> bytes:
    """A Summary with one value: its tag, and a field that is a message."""
    return _field(1, _field(1, tag) + _field(number, body))


def _field(number: int, body: bytes) -> bytes:
    return bytes([number << 3 | BYTES]) + _varint(len(body)) + body


def _varint(n: int) -> bytes:
    from ..proto.wire import varint

    return varint(n)


# ---------------------------------------------------------------- numbers


@primitive("host", type="ScalarSummary", **_family(tags=TEXT, values=REAL))
def scalar_summary_op(tags, values):
    """One value for each tag."""


@scalar_summary_op.reference
def _(tags, values):
    tags, values = np.asarray(tags, object), np.asarray(values)
    if tags.shape != values.shape:
        single = f" (tag '{_text(tags.reshape(-1)[0]).decode(errors='replace')}')" if tags.size == 1 else ""
        raise _bad(f"tags and values not the same shape: {list(tags.shape)} != {list(values.shape)}{single}")
    with np.errstate(over="ignore"):
        found = values.astype(np.float32).reshape(-1)
    return b"".join(_field(1, _field(1, _text(t)) + b"\x15" + v.tobytes()) for t, v in zip(tags.reshape(-1), found))


@functools.cache
def limits() -> np.ndarray:
    """The upper ends of the buckets: 0, and 1e-12 growing by a tenth to 1e20, of both signs, and the largest number."""
    ends, v = [], 1e-12
    while v < 1e20:
        ends.append(v)
        v *= 1.1
    ends.append(np.finfo(np.float64).max)
    return np.array([-v for v in reversed(ends)] + [0.0] + ends)


@functools.cache
def _cells(dtype: str) -> tuple[int, np.ndarray, np.ndarray]:
    """Buckets by the leading bits of a float: (bits to drop, the bucket where a cell begins, where in it the next one begins).

    A cell is a sixteenth of an octave, narrower than a bucket, so that it has one end of a bucket in it at most.
    """
    kind: Any = np.dtype(dtype).type
    bits: Any = np.uint32 if kind is np.float32 else np.uint64
    drop = (23 if kind is np.float32 else 52) - 4
    cells: Any = np.arange(1 << np.dtype(kind).itemsize * 8 - drop, dtype=bits)
    ends = np.stack([cells << bits(drop), (cells << bits(drop)) | bits((1 << drop) - 1)]).view(kind)
    ends = np.sort(np.nan_to_num(ends), 0)
    first, last = np.minimum(np.searchsorted(limits(), ends, "right"), len(limits()) - 1)
    with np.errstate(over="ignore"):
        cut = limits().astype(kind)
        cut = np.where(cut.astype(np.float64) < limits(), np.nextafter(cut, kind(np.inf)), cut)
    return drop, first, np.where(last > first, cut[first], kind(np.inf))


def histogram(values: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """(upper ends, counts) of the buckets of finite values as TF1 writes them: runs of empty buckets are one."""
    return _collapsed(sum((_counts(part) for part in _parts(values)), np.zeros(len(limits()), np.int64)))


def _parts(values: np.ndarray) -> list[np.ndarray]:
    """As many values at a time as stay in cache, as floats."""
    if values.dtype not in (np.float32, np.float64):
        values = values.astype(np.float64)
    return [values[i:i + PART] for i in range(0, values.size, PART)]


def _counts(values: np.ndarray) -> np.ndarray:
    drop, first, cut = _cells(values.dtype.name)
    raw: Any = values.view(np.uint32 if values.dtype == np.float32 else np.uint64)
    cell = (raw >> drop).astype(np.intp)
    bucket = first.take(cell)
    bucket += values >= cut.take(cell)
    return np.bincount(bucket, minlength=len(limits()))


def _collapsed(counts: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    counts = counts.astype(np.float64)
    full = counts > 0
    keep = full.copy()
    keep[:-1] |= full[1:]  # the last of each run of empty ones
    keep[-1] = True
    return limits()[keep], counts[keep]


@primitive("host", type="HistogramSummary", **_family(tag=TEXT, values=REAL))
def histogram_summary_op(tag, values):
    """How the elements are distributed."""


@histogram_summary_op.reference
def _(tag, values):
    tag = _one_tag(tag, "tags")
    values = np.ascontiguousarray(values).reshape(-1)
    low, high = (values.min(), values.max()) if values.size else (np.finfo(np.float64).max, np.finfo(np.float64).min)
    if not np.isfinite(low) or not np.isfinite(high):
        raise _bad(f"{'Nan' if np.isnan(low) else 'Infinity'} in summary histogram for: {tag.decode(errors='replace')}")
    ends, counts = histogram(values)
    wide = [part.astype(np.float64, copy=False) for part in _parts(values)]
    total, squares = (float(sum(map(np.sum, parts))) for parts in (wide, map(np.square, wide)))  # no BLAS: its threads spin
    numbers = (float(low), float(high), float(values.size), total, squares)
    body = b"".join(struct.pack("<Bd", i << 3 | FIXED64, n) for i, n in enumerate(numbers, 1) if n)
    body += _field(6, ends.tobytes()) + _field(7, counts.tobytes())
    return _value(tag, 5, body)


# ---------------------------------------------------------------- pictures and sound


def _names(tag: bytes, kind: str, limit: int, count: int) -> list[bytes]:
    """`tag/image` if there can be one, else `tag/image/0`, `tag/image/1`..."""
    return [tag + f"/{kind}".encode()] if limit == 1 and count else [tag + f"/{kind}/{i}".encode() for i in range(count)]


@primitive("host", type="ImageSummary",
           **_family(tag=TEXT, tensor=(types.uint8, types.float32, types.float16, types.float64)))
def image_summary_op(tag, tensor, *, max_images=3, bad_color=(255, 0, 0, 255)):
    """The first `max_images` pictures of [batch, height, width, 1, 3 or 4 channels] as PNG."""


@image_summary_op.reference
def _(tag, tensor, *, max_images, bad_color):
    tag = _one_tag(tag, "Tags")
    if tensor.ndim != 4 or tensor.shape[3] not in (1, 3, 4):
        raise _bad(f"Tensor must be 4-D with last dim 1, 3, or 4, not {list(tensor.shape)}")
    depth = tensor.shape[3]
    if len(bad_color) < depth:
        raise _bad(f"expected depth <= {len(bad_color)}, the channels of bad_color, got {depth}")
    out = []
    for name, picture in zip(_names(tag, "image", max_images, min(max_images, len(tensor))), tensor):
        pixels = picture if picture.dtype == np.uint8 else scaled(picture, np.array(bad_color[:depth], np.uint8))
        head = b"".join(bytes([i << 3]) + _varint(n) for i, n in enumerate(pixels.shape, 1) if n)
        out.append(_value(name, 4, head + _field(4, _png(pixels))))
    return b"".join(out)


def _png(pixels: np.ndarray) -> bytes:
    try:
        return encode_png(pixels)
    except ValueError as e:
        raise _bad(f"PNG encoding failed: {e}") from None


def scaled(picture: np.ndarray, bad_color: np.ndarray) -> np.ndarray:
    """Floats as bytes: 0 and the largest become 0 and 255; with negative ones 0 becomes 128.  Pixels not finite get `bad_color`."""
    finite = np.isfinite(picture).all(-1)
    inside = picture[finite]
    low, high = (float(inside.min()), float(inside.max())) if inside.size else (np.inf, -np.inf)
    span, top, offset = (max(abs(low), abs(high)), 127.0, 128.0) if low < 0 else (high, 255.0, 0.0)
    scale = picture.dtype.type(0.0 if span < 1e-6 else np.float32(top) / np.float32(span))
    out = np.empty(picture.shape, np.uint8)
    out[finite] = (inside * scale + picture.dtype.type(offset)).astype(np.uint8)
    out[~finite] = bad_color
    return out


@primitive("host", type="AudioSummaryV2", **_family(tag=TEXT, tensor=(types.float32,), sample_rate=(types.float32,)))
def audio_summary_op(tag, tensor, sample_rate, *, max_outputs=3):
    """The first `max_outputs` sounds of [batch, frames] or [batch, frames, channels], between -1 and 1, as WAV."""


@audio_summary_op.reference
def _(tag, tensor, sample_rate, *, max_outputs):
    tag = _one_tag(tag, "Tags")
    rate = np.asarray(sample_rate)
    if tensor.ndim not in (2, 3):
        raise _bad(f"Tensor must be 3-D or 2-D, got: {list(tensor.shape)}")
    if rate.ndim:
        raise _bad(f"sample_rate must be a scalar, got {list(rate.shape)}")
    out = []
    for name, sound in zip(_names(tag, "audio", max_outputs, min(max_outputs, len(tensor))), tensor):
        sound = sound.reshape(len(sound), *sound.shape[1:] or (1,))
        out.append(_proto().Summary(value=[{"tag": name, "audio": {
            "sample_rate": float(rate), "num_channels": sound.shape[1], "length_frames": len(sound), "content_type": "audio/wav",
            "encoded_audio_string": wav(sound, int(rate))}}]).SerializeToString())
    return b"".join(out)


def wav(sound: np.ndarray, rate: int) -> bytes:
    """A WAV file of 16-bit samples from [frames, channels] between -1 and 1.  Raises InvalidArgumentError without frames or channels."""
    frames, channels = sound.shape
    if not frames or not channels or rate <= 0:
        raise _bad(f"cannot encode {frames} frames of {channels} channels at {rate} Hz")
    samples = sound * np.float32(32768)
    whole = np.clip(np.copysign(np.floor(np.abs(samples) + np.float32(0.5)), samples), -32768, 32767).astype("<i2").tobytes()
    head = struct.pack("<4sIHHIIHH4sI", b"fmt ", 16, 1, channels, rate, rate * channels * 2, channels * 2, 16, b"data", len(whole))
    return struct.pack("<4sI4s", b"RIFF", 4 + len(head) + len(whole), b"WAVE") + head + whole


# ---------------------------------------------------------------- any tensor, and several summaries


@primitive("host", type="TensorSummaryV2",
           **_family(tag=TEXT, tensor=types.ALL + TEXT, serialized_summary_metadata=TEXT))
def tensor_summary_op(tag, tensor, serialized_summary_metadata, *, dtype):
    """A tensor with what a plugin of TensorBoard needs to know of it."""


@tensor_summary_op.reference
def _(tag, tensor, serialized_summary_metadata, *, dtype):
    value = _proto().Summary.Value(tag=_one_tag(tag, "tag"), tensor=tensor_proto(tensor, dtype))
    try:
        value.metadata.ParseFromString(_one_tag(serialized_summary_metadata, "serialized_summary_metadata"))
    except ValueError as e:
        raise _bad(f"serialized_summary_metadata is no SummaryMetadata: {e}") from None
    return _proto().Summary(value=[value]).SerializeToString()


def tensor_proto(array: np.ndarray, dtype: types.DType) -> Any:
    """A TensorProto of a reference array."""
    array = np.asarray(array)
    found = _proto().TensorProto(dtype=dtype.as_datatype_enum, tensor_shape={"dim": [{"size": n} for n in array.shape]})
    if dtype is types.string:
        found.string_val.extend([_text(v) for v in array.reshape(-1)])
    else:
        stored = types.bf16_encode(array) if dtype is types.bfloat16 and array.dtype != np.uint16 else array.astype(dtype.np, copy=False)
        found.tensor_content = stored.tobytes()
    return found


@primitive("host", type="MergeSummary", **_family(inputs=TEXT))
def merge_summary_op(*inputs):
    """All values of several summaries as one."""


@merge_summary_op.reference
def _(*inputs):
    parts = [_text(s) for x in inputs for s in np.asarray(x, object).reshape(-1)]
    seen: set[bytes] = set()
    for tag in (t for p in parts for t in tags_of(p)):
        if tag in seen:
            raise _bad(f"Duplicate tag {tag.decode(errors='replace')} found in summary inputs")
        seen.add(tag)
    return b"".join(parts)  # a message of repeated fields: the bytes one after the other are the sum


def tags_of(summary: bytes) -> Iterator[bytes]:
    """The tags of a serialized Summary.  Raises InvalidArgumentError when it is none."""
    try:
        for start, end in _fields(summary, 0, len(summary), 1):
            yield next((summary[a:b] for a, b in _fields(summary, start, end, 1)), b"")
    except ValueError as e:
        raise _bad(f"Could not parse one of the summary inputs: {e}") from None


def described(summary: bytes) -> list[bytes]:
    """The tags of its values that carry metadata.  Raises DecodeError, a ValueError, when it is no Summary."""
    found = []
    for start, end in list(_fields(summary, 0, len(summary), 1)):
        if any(True for _ in _fields(summary, start, end, 9)):
            found += [summary[a:b] for a, b in _fields(summary, start, end, 1)][:1]
    return found


def _fields(data: bytes, at: int, end: int, number: int) -> Iterator[tuple[int, int]]:
    """Where the fields `number`, of bytes, of a message begin and end."""
    from ..proto import wire

    wanted = number << 3 | BYTES
    while at < end:
        found, after = wire.read_tag(data, at, end)
        if found == wanted:
            start, at = wire.read_length(data, after, end)
            yield start, at
        else:
            at = wire.skip(data, after, end, found)


