"""Ops on strings, which are bytes, on the host (rank 3).  The functions that users call are in graphflow/string_ops.py."""
from __future__ import annotations

import base64
import codecs
import math
import re
from functools import lru_cache
from typing import Any, Callable, Sequence

import numpy as np

from .. import types
from ..graph import Spec, Tensor
from . import hashing, printing
from .decoding import STRING, each, sample, strings, to_float, to_int
from .opdef import OpDef, needs_rank, primitive

ANY = types.ALL + STRING
WORDS = strings("Some", " words ", "", "é")


def each_string(type: str, result: types.DType = types.string, **attrs: Any) -> Callable[[Any], OpDef]:
    """Declares an op from what it makes of one string: `fn(input: bytes, *, attrs)`; `attrs` are those of the test's call."""
    def make(fn: Any) -> OpDef:
        op: OpDef = primitive("host", type=type, dtypes=STRING, infer=lambda input, **_: Spec(result, input.sizes), no_gradient="strings",
                              samples=[sample(WORDS, **attrs)])(fn)
        op.reference(lambda input, **attrs: each(input, lambda s: fn(s, **attrs)).astype(result.np))
        return op
    return make


def text_of(s: bytes) -> str:
    """UTF-8 text; bytes that are none come back from `bytes_of`."""
    return s.decode("utf-8", "surrogateescape")


def bytes_of(text: str) -> bytes:
    return text.encode("utf-8", "surrogateescape")


def _coded(s: bytes, encoding: str, plain: Callable[[bytes], bytes], text: Callable[[str], str]) -> bytes:
    if encoding.lower() not in ("", "utf-8"):
        raise ValueError(f"only utf-8 or '' (no encoding) is supported, received {encoding}")
    return bytes_of(text(text_of(s))) if encoding else plain(s)


@each_string("StringLower")
def lower(input, *, encoding=""):
    """ASCII letters in lower case; with encoding "utf-8" all letters."""
    return _coded(input, encoding, bytes.lower, str.lower)


@each_string("StringUpper")
def upper(input, *, encoding=""):
    """ASCII letters in upper case; with encoding "utf-8" all letters."""
    return _coded(input, encoding, bytes.upper, str.upper)


@each_string("StringStrip")
def strip(input):
    """Without ASCII whitespace at both ends."""
    return input.strip()


def _length(s: bytes, unit: str) -> int:
    return len(s) if unit == "BYTE" else sum(b & 0xC0 != 0x80 for b in s)


@each_string("StringLength", types.int32)
def length(input, *, unit="BYTE"):
    """The number of bytes, or of characters with unit "UTF8_CHAR"."""
    return _length(input, unit)


@each_string("EncodeBase64")
def encode_base64(input, *, pad=False):
    """Web-safe base64 (RFC 4648, section 5), with "=" at the end if `pad`."""
    found = base64.urlsafe_b64encode(input)
    return found if pad else found.rstrip(b"=")


@primitive("host", type="DecodeBase64", dtypes=STRING, infer=lambda input: Spec(types.string, input.sizes), no_gradient="strings",
           samples=[sample(strings("YQ", "YWI=", "__79", ""))])
def decode_base64(input):
    """The bytes of web-safe base64."""


@decode_base64.reference
def _(input):
    return each(input, _from_base64)


def _from_base64(s: bytes) -> bytes:
    found = s.rstrip(b"=")
    if re.fullmatch(rb"[A-Za-z0-9_-]*", found) is None or len(s) - len(found) > 2:
        raise ValueError(f"Invalid character found in base64: {s[:60]!r}")
    if len(found) % 4 == 1:
        raise ValueError(f"Base64 string length cannot be 1 modulo 4: {s[:60]!r}")
    return base64.urlsafe_b64decode(found + b"=" * (-len(found) % 4))


# ---------------------------------------------------------------- numbers


@primitive("host", type="StringToNumber", dtypes=STRING, no_gradient="it reads text", samples=[
    sample(strings("1.5", " -2", "1e3")), sample(strings("12", "-3"), out_type=types.int64)])
def to_number(string_tensor, *, out_type=types.float32):
    """The numbers that strings are in decimal."""


@to_number.infers
def _(string_tensor, *, out_type):
    allowed = (types.float32, types.float64, types.int32, types.int64)
    if out_type not in allowed:
        raise TypeError(f"Value passed to parameter 'out_type' has DataType {out_type.name} not in list of allowed values: "
                        f"{', '.join(d.name for d in allowed)}")
    return Spec(out_type, string_tensor.sizes)


@to_number.reference
def _(string_tensor, *, out_type):
    convert, out = to_int if out_type.kind == "i" else to_float, np.empty(string_tensor.size, out_type.np)
    for i, s in enumerate(string_tensor.reshape(-1).tolist()):
        try:
            out[i] = convert(s)
        except (ValueError, OverflowError):
            raise ValueError(f"StringToNumberOp could not correctly convert string: {text_of(s)!r} (element {i})") from None
    return out.reshape(string_tensor.shape)


@primitive("host", type="AsString", dtypes=types.NUMERIC + (types.bool_, types.string), no_gradient="it makes text",
           infer=lambda input, **_: Spec(types.string, input.sizes), samples=[
               sample(np.array([1, -2])), sample(np.array([1.5, 2e10]), precision=2), sample(np.array([True, False]))])
def as_string(input, *, precision=-1, scientific=False, shortest=False, width=-1, fill="", real=True):
    """Numbers as C's printf writes them; `real` says whether they are floating-point numbers in the graph."""


@as_string.reference
def _(input, *, precision, scientific, shortest, width, fill, real):
    if scientific and shortest:
        raise ValueError("Cannot select both scientific and shortest notation")
    if fill not in ("", " ", "+", "-", "0", "#"):
        raise ValueError(f'Fill argument not supported: "{fill}"')
    kind = input.dtype.kind
    if kind == "O":
        return input
    if kind == "b":
        return each(input, lambda v: b"true" if v else b"false")
    if kind in "iu" and precision >= 0:
        raise ValueError(f"precision not supported for datatype {input.dtype.name}")
    letter = "d" if kind in "iu" else "e" if scientific else "g" if shortest else "f"
    form = f"%{fill}{width if width >= 0 else ''}{f'.{precision}' if precision >= 0 else ''}{letter}"
    if kind == "c":
        return each(input, lambda v: f"({form % v.real},{form % v.imag})".encode())
    return each(input, lambda v: (form % v).encode())


# ---------------------------------------------------------------- hashes


def _bucket_op(type: str, hash: Callable[..., int], doc: str) -> OpDef:
    def fn(input, *, num_buckets):
        return hash(input) % num_buckets

    fn.__name__, fn.__doc__ = type, doc
    return each_string(type, types.int64, num_buckets=1000)(fn)


to_hash_bucket = _bucket_op("StringToHashBucket", hashing.hash64, "The rest of the string's MurmurHash64A.")
to_hash_bucket_fast = _bucket_op("StringToHashBucketFast", hashing.fingerprint64, "The rest of the string's Fingerprint64.")


@each_string("StringToHashBucketStrong", types.int64, num_buckets=1000, key=(1, 2))
def to_hash_bucket_strong(input, *, num_buckets, key):
    """The rest of the string's SipHash with the two numbers `key`."""
    return hashing.siphash(key, input) % num_buckets


# ---------------------------------------------------------------- regular expressions

# RE2's classes in brackets, which Python has not.
_POSIX = {"alpha": "A-Za-z", "digit": "0-9", "alnum": "A-Za-z0-9", "upper": "A-Z", "lower": "a-z", "space": r"\t\n\v\f\r ", "blank": r"\t ",
          "punct": r"!-/:-@\[-`{-~", "xdigit": "0-9A-Fa-f", "word": "A-Za-z0-9_", "cntrl": r"\x00-\x1f\x7f", "print": " -~", "graph": "!-~",
          "ascii": r"\x00-\x7f"}


@lru_cache(1000)
def pattern_of(pattern: bytes) -> re.Pattern[str]:
    """The compiled pattern, in RE2's syntax.  Raises ValueError."""
    text = re.sub(r"\[:(\w+):\]", lambda m: _POSIX.get(m[1], m[0]), text_of(pattern)).replace("\\z", "\\Z").replace("\\C", ".")
    try:
        return re.compile(text, re.ASCII)
    except re.error as e:
        raise ValueError(f"Invalid pattern: {text_of(pattern)}, error: {e}") from None


def _pattern(array: np.ndarray, what: str = "pattern") -> bytes:
    if array.ndim:
        raise ValueError(f"{what} must be scalar, but received {list(array.shape)}")
    return array.item()


@primitive("host", type="RegexFullMatch", dtypes=STRING, infer=lambda input, pattern: Spec(types.bool_, input.sizes), no_gradient="strings",
           samples=[sample(WORDS, strings(".*o.*").reshape(()))])
def regex_full_match(input, pattern):
    """Whether the whole string matches the pattern."""


@regex_full_match.reference
def _(input, pattern):
    found = pattern_of(_pattern(pattern))
    return each(input, lambda s: found.fullmatch(text_of(s)) is not None).astype(bool)


@primitive("host", type="RegexReplace", dtypes=STRING, infer=lambda input, *_, **__: Spec(types.string, input.sizes), no_gradient="strings",
           samples=[sample(WORDS, strings("(o)(.)").reshape(()), strings(r"\2\1").reshape(()))])
def regex_replace(input, pattern, rewrite, *, replace_global=True):
    r"""What matches the pattern (all, or the first) replaced by `rewrite`, in which \1 .. \9 are groups and \0 the whole match."""


@regex_replace.reference
def _(input, pattern, rewrite, *, replace_global):
    found, count = pattern_of(_pattern(pattern)), 0 if replace_global else 1
    parts = re.split(r"\\(.)", text_of(_pattern(rewrite, "rewrite")), flags=re.DOTALL)
    if any(c.isdigit() and int(c) > found.groups for c in parts[1::2]):
        return input  # RE2 replaces nothing then

    def replaced(match: re.Match[str]) -> str:
        return "".join(p if i % 2 == 0 else match[int(p)] or "" if p.isdigit() else p for i, p in enumerate(parts))

    return each(input, lambda s: bytes_of(found.sub(replaced, text_of(s), count)))


# ---------------------------------------------------------------- parts


def _broadcast_infer(input: Tensor, pos: Tensor, len: Tensor, **_: Any) -> Spec:
    return Spec(types.string, types.broadcast_shapes(input.sizes, types.broadcast_shapes(pos.sizes, len.sizes)))


@primitive("host", type="Substr", dtypes=ANY, same=("pos", "len"), infer=_broadcast_infer, no_gradient="strings",
           input_dtypes={"input": STRING, "pos": (types.int32, types.int64), "len": (types.int32, types.int64)},
           samples=[sample(strings("hello", "wörld"), np.array([1, -3]), np.array(2))])
def substr(input, pos, len, *, unit="BYTE"):
    """`len` bytes (or characters) from `pos` on; negative positions count from the end.  All three broadcast."""


@substr.reference
def _(input, pos, len, *, unit):
    out = [np.asarray(a) for a in np.broadcast_arrays(input, pos, len)]
    found = np.empty(out[0].size, object)
    for i, (s, p, n) in enumerate(zip(*[a.reshape(-1).tolist() for a in out])):
        found[i] = _part(s, p, n, unit, i)
    return found.reshape(out[0].shape)


def _part(s: bytes, at: int, count: int, unit: str, i: int) -> bytes:
    whole: Any = s if unit == "BYTE" else text_of(s)
    if not -len(whole) <= at <= len(whole):
        raise ValueError(f"pos {at} out of range for string b'{text_of(s)}' at index {i}")
    at = at + len(whole) if at < 0 else at
    part = whole[at:at + count] if count >= 0 else whole[at:]
    return part if unit == "BYTE" else bytes_of(part)


def _split_infer(input: Tensor, *_: Tensor, **__: Any) -> list[Spec]:
    rank = len(needs_rank(input))
    return [Spec(types.int64, (types.UNKNOWN, rank + 1)), Spec(types.string, (types.UNKNOWN,)), Spec(types.int64, (rank + 1,))]


def _sparse(lists: Sequence[Sequence[bytes]], shape: tuple[int, ...]) -> list[np.ndarray]:
    """Lists of strings, which stand in an array of this shape, as the three arrays of a SparseTensor."""
    counts = np.array([len(v) for v in lists], np.int64)
    row = np.repeat(np.arange(len(lists)), counts)
    column = np.arange(row.size) - np.repeat(np.cumsum(counts) - counts, counts)
    values = np.empty(row.size, object)
    values[:] = [v for found in lists for v in found]
    at = np.stack([*np.unravel_index(row, shape), column], 1).astype(np.int64) if row.size else np.zeros((0, len(shape) + 1), np.int64)
    return [at, values, np.array([*shape, counts.max(initial=0)], np.int64)]


@primitive("host", type="StringSplit", dtypes=STRING, infer=lambda input, *_, **__: _split_infer(input) if needs_rank(input, 1) else [],
           no_gradient="strings", samples=[sample(strings("a b", "", "c,d"), strings(" ,").reshape(()))])
def string_split(input, delimiter, *, skip_empty=True):
    """The pieces of each string between any of the bytes of `delimiter`; each byte, if that is empty."""


@string_split.reference
def _(input, delimiter, *, skip_empty):
    between = _pattern(delimiter, "delimiter")
    cut = re.compile(b"[" + re.escape(between) + b"]").split if between else lambda s: [bytes([b]) for b in s]
    found = [cut(s) if s else [] if skip_empty or not between else [b""] for s in input.tolist()]
    return _sparse([[v for v in pieces if v] if skip_empty else pieces for pieces in found], input.shape)


@primitive("host", type="StringSplitV2", dtypes=STRING, infer=_split_infer, no_gradient="strings",
           samples=[sample(strings(" a  b", "", "c d e"), strings("").reshape(()), maxsplit=1),
                    sample(strings("a<>b<>"), strings("<>").reshape(()))])
def string_split_v2(input, sep, *, maxsplit=-1):
    """The pieces as Python's `split` gives them: between runs of whitespace if `sep` is empty."""


@string_split_v2.reference
def _(input, sep, *, maxsplit):
    between = _pattern(sep, "sep")
    return _sparse([s.split(between or None, maxsplit if maxsplit > 0 else -1) for s in input.reshape(-1).tolist()], input.shape)


# ---------------------------------------------------------------- together


@primitive("host", type="StringJoin", dtypes=STRING, no_gradient="strings", samples=[
    sample(WORDS, strings("x").reshape(()), WORDS, separator="-")])
def string_join(*inputs, separator=""):
    """The strings at each place one after the other, `separator` between them.  All have one shape, or none."""


@string_join.infers
def _(*inputs, separator):
    sizes: types.Shape = ()
    for t in inputs:
        sizes = types.merge_shapes(sizes, t.sizes) if sizes != () and t.sizes != () else t.sizes if sizes == () else sizes
    return Spec(types.string, sizes)


@string_join.reference
def _(*inputs, separator):
    shapes = {a.shape for a in inputs if a.ndim}
    if len(shapes) > 1:
        raise ValueError(f"Input shapes do not match: {' vs. '.join(map(str, sorted(shapes)))}")
    shape, between = next(iter(shapes), ()), bytes_of(separator)
    out = np.empty(int(np.prod(shape, dtype=np.int64)), object)
    columns = [a.reshape(-1).tolist() if a.ndim else [a[()]] * out.size for a in inputs]
    out[:] = [between.join(parts) for parts in zip(*columns)] if columns else [b""] * out.size
    return out.reshape(shape)


def _both_infer(x: Tensor, y: Tensor) -> Spec:
    return Spec(types.string, types.broadcast_shapes(x.sizes, y.sizes))


@primitive("host", type="AddStrings", default_name="add", dtypes=STRING, infer=_both_infer, no_gradient="strings",
           samples=[sample(WORDS, strings("x"))])
def joined_strings(x, y):
    """x + y, string by string, with NumPy broadcasting."""


joined_strings.reference(lambda x, y: np.add(x, y))


@primitive("host", type="ReduceJoin", dtypes=STRING, no_gradient="strings", samples=[
    sample(strings(*"abcdef").reshape(2, 3), axis=(0,), separator="."), sample(strings(*"abcd").reshape(2, 2), axis=(1, 0), keepdims=True)])
def reduce_join(inputs, *, axis, keepdims=False, separator=""):
    """The strings along `axis` joined, the first of `axis` moving fastest."""


@reduce_join.infers
def _(inputs, *, axis, keepdims, separator):
    sizes = needs_rank(inputs)
    gone = [types.canonical_axis(a, len(sizes)) for a in axis]
    if len(set(gone)) < len(gone):
        raise ValueError(f"Duplicate reduction dimension in {list(axis)}")
    return Spec(types.string, tuple(1 if i in gone else n for i, n in enumerate(sizes) if keepdims or i not in gone))


reduce_join.output_dtypes = lambda inputs, **_: [types.string]


@reduce_join.reference
def _(inputs, *, axis, keepdims, separator):
    gone, between = [a % inputs.ndim for a in axis], bytes_of(separator)
    kept = [i for i in range(inputs.ndim) if i not in gone]
    shape = tuple(1 if i in gone else n for i, n in enumerate(inputs.shape) if keepdims or i not in gone)
    out = np.empty(math.prod(shape), object)
    rows = inputs.transpose(kept + gone[::-1]).reshape(out.size, math.prod([inputs.shape[i] for i in gone]))
    out[:] = [between.join(row) for row in rows.tolist()]
    return out.reshape(shape)


@primitive("host", type="UnsortedSegmentJoin", dtypes=ANY, same=("inputs",), no_gradient="strings",
           input_dtypes={"inputs": STRING, "segment_ids": (types.int32, types.int64), "num_segments": (types.int32, types.int64)},
           samples=[sample(strings("a", "b", "c"), np.array([1, 0, 1]), np.array(3), separator="-")])
def unsorted_segment_join(inputs, segment_ids, num_segments, *, separator=""):
    """The strings of each segment joined, in order."""


@unsorted_segment_join.infers
def _(inputs, segment_ids, num_segments, *, separator):
    if inputs.sizes is None or segment_ids.sizes is None:
        return Spec(types.string, None)
    types.merge_shapes(inputs.sizes[:len(segment_ids.sizes)], segment_ids.sizes)
    known = num_segments.known
    count = known[()] if known is not None and known.shape == () else types.UNKNOWN
    return Spec(types.string, (count, *inputs.sizes[len(segment_ids.sizes):]))


@unsorted_segment_join.reference
def _(inputs, segment_ids, num_segments, *, separator):
    count, rest = int(num_segments), inputs.shape[segment_ids.ndim:]
    rows = inputs.reshape(-1, int(np.prod(rest, dtype=np.int64)))
    parts: list[list[Any]] = [[] for _ in range(count)]
    for i, k in enumerate(segment_ids.reshape(-1).tolist()):
        if k >= count:
            raise ValueError(f"segment_ids must be less than num_segments = {count}, got {k} at {i}")
        if k >= 0:
            parts[k].append(rows[i].tolist())
    out = np.empty((count, rows.shape[1]), object)
    for k, found in enumerate(parts):
        out[k] = [bytes_of(separator).join(column) for column in zip(*found)] if found else [b""] * rows.shape[1]
    return out.reshape(count, *rest)


@primitive("host", type="StringFormat", dtypes=ANY, same=("-",), input_dtypes={"inputs": ANY}, no_gradient="it makes text",
           infer=lambda *_, **__: Spec(types.string, ()))
def string_format(*inputs, template, placeholder, summarize):
    """The template with each placeholder replaced by an array as text."""


@string_format.reference
def _(*inputs, template, placeholder, summarize):
    parts = template.split(placeholder)
    shown = [*[printing.corners(a, summarize) for a in inputs], ""]
    return np.array(bytes_of("".join(p + s for p, s in zip(parts, shown))), object)


# ---------------------------------------------------------------- Unicode


def _codec(name: str) -> str:
    try:
        return codecs.lookup(name).name
    except LookupError:
        raise ValueError(f"Could not create converter for input encoding {name}") from None


_OUTPUT = {"UTF-8": "utf-8", "UTF-16-BE": "utf-16-be", "UTF-32-BE": "utf-32-be"}


def output_encoding(name: str) -> str:
    """Python's name of one of TF's three.  Raises ValueError."""
    if name not in _OUTPUT:
        raise ValueError(f"output_encoding must be one of {', '.join(_OUTPUT)}, got {name!r}")
    return _OUTPUT[name]


@primitive("host", type="UnicodeTranscode", dtypes=STRING, infer=lambda input, **_: Spec(types.string, input.sizes), no_gradient="strings",
           samples=[sample(WORDS, input_encoding="UTF-8", output_encoding="UTF-16-BE")])
def unicode_transcode(input, *, input_encoding, output_encoding, errors="replace", replacement_char=65533,
                      replace_control_characters=False):
    """Strings in another encoding; what is no text is replaced, left out ("ignore"), or an error ("strict")."""


@unicode_transcode.reference
def _(input, *, input_encoding, output_encoding, errors, replacement_char, replace_control_characters):
    source, target = _codec(input_encoding), _OUTPUT[output_encoding]
    other = {"replace": chr(replacement_char), "ignore": ""}.get(errors)
    handler = lambda e: (other * (1 if e.end > e.start else 0), e.end)  # noqa: E731
    name = f"graphflow-{errors}-{replacement_char}"
    codecs.register_error(name, handler if other is not None else codecs.strict_errors)

    def change(s: bytes) -> bytes:
        try:
            text = s.decode(source, name)
        except UnicodeDecodeError as e:
            raise ValueError(f"Invalid formatting on input string: {e}") from None
        if replace_control_characters:
            text = re.sub("[\x00-\x1f]", other or "", text)
        return text.encode(target)

    return each(input, change)


@primitive("host", type="UnicodeEncode", dtypes=(types.int32,), no_gradient="strings", samples=[
    sample(np.array([[72, 105], [233, 0x1F600]], np.int32), output_encoding="UTF-8")])
def unicode_encode(input, *, output_encoding, errors="replace", replacement_char=65533):
    """The strings of code points [..., length]."""


unicode_encode.infers(lambda input, **_: Spec(types.string, needs_rank(input)[:-1]))
unicode_encode.output_dtypes = lambda input, **_: [types.string]


@unicode_encode.reference
def _(input, *, output_encoding, errors, replacement_char):
    target = _OUTPUT[output_encoding]

    def character(v: int) -> str:
        if 0 <= v < 0xD800 or 0xE000 <= v < 0x110000:
            return chr(v)
        if errors == "strict":
            raise ValueError(f"Code point {v} is out of range for Unicode, or a surrogate")
        return "" if errors == "ignore" else chr(replacement_char)

    rows = input.reshape(-1, input.shape[-1]).tolist()
    out = np.empty(len(rows), object)
    out[:] = ["".join(map(character, row)).encode(target) for row in rows]
    return out.reshape(input.shape[:-1])
