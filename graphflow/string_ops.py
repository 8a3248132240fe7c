"""String ops under TF1's names: at the top level (`tf.string_join`) and, under shorter names, in `tf.strings` (graphflow/strings.py).

Strings are bytes; text counts as UTF-8.  What returns ragged tensors in TensorFlow is not here.
"""
from __future__ import annotations

from typing import Any, Sequence

from . import array_ops, graph, types
from .graph import Tensor
from .ops import strings as ops
from .ops.opdef import convert_to_tensor
from .sparse_tensor import SparseTensor

__all__ = ["as_string", "decode_base64", "encode_base64", "reduce_join", "regex_replace", "string_join", "string_split", "string_strip",
           "string_to_hash_bucket", "string_to_hash_bucket_fast", "string_to_hash_bucket_strong", "string_to_number", "substr"]


def _strings(value: Any, name: str = "input") -> Tensor:
    return convert_to_tensor(value, types.string, name=name)


def _either(new: Any, old: Any, *names: str) -> Any:
    """The value of an argument with two names."""
    if (new is None) == (old is None):
        raise ValueError(f"exactly one of {' and '.join(names)} must be given")
    return old if new is None else new


def _one_of(what: str, op: str, value: Any, *known: str) -> str:
    if value not in known:
        raise ValueError(f"Attr {what!r} of {op!r} Op passed string {value!r} not in: {', '.join(map(repr, known))}.")
    return value


# ---------------------------------------------------------------- joining and splitting


def string_join(inputs: Sequence[Any], separator: str = "", name: str | None = None) -> Tensor:
    """The strings at each place of `inputs` joined, with `separator` between them.

    inputs: a list of string tensors of one shape, or scalars.
    Raises ValueError on other shapes.
    """
    with graph.get_default_graph().name_scope(name or "StringJoin") as scope:
        return ops.string_join(*[_strings(x, f"inputs_{i}") for i, x in enumerate(inputs)], separator=separator, name=scope)


def _as_result(made: list[Tensor], result_type: str) -> SparseTensor:
    if result_type == "RaggedTensor":
        raise ValueError("result_type 'RaggedTensor' is not in this release; use 'SparseTensor'")
    if result_type != "SparseTensor":
        raise ValueError("result_type must be 'RaggedTensor' or 'SparseTensor'.")
    return SparseTensor(*made)


def string_split(source: Any, sep: Any = None, skip_empty: bool = True, delimiter: Any = None, result_type: str = "SparseTensor",
                 name: str | None = None) -> SparseTensor:
    """The pieces of strings [N], as a SparseTensor [N, longest].

    Args:
        sep: characters, each of which separates pieces; " " if None, and "" gives every byte.  Also called `delimiter`.
        skip_empty: leave out empty pieces.

    Raises:
        ValueError: another rank.
    """
    if sep is not None and delimiter is not None:
        raise ValueError("Got values for both 'sep' and 'delimiter', its old name")
    between = delimiter if sep is None else sep
    with graph.get_default_graph().name_scope(name or "StringSplit"):
        made = ops.string_split(_strings(source, "source"), _strings(" " if between is None else between, "sep"),
                                skip_empty=bool(skip_empty), name="StringSplit")
        return _as_result(made, result_type)


def split(input: Any = None, sep: Any = None, maxsplit: int = -1, result_type: str = "SparseTensor", source: Any = None,
          name: str | None = None) -> SparseTensor:
    """The pieces of strings, as Python's `split` gives them, as a SparseTensor with one more dimension (a scalar counts as [1]).

    Args:
        sep: what separates pieces; runs of whitespace if it is None or "".
        maxsplit: how many times a string is split at most.
        source: the old name of `input`.
    """
    with graph.get_default_graph().name_scope(name or "StringSplit"):
        strings = _strings(_either(input, source, "input", "source"))
        if strings.sizes == ():
            strings = array_ops.expand_dims(strings, 0)
        made = ops.string_split_v2(strings, _strings("" if sep is None else sep, "sep"), maxsplit=int(maxsplit), name="StringSplitV2")
        return _as_result(made, result_type)


def reduce_join(inputs: Any, axis: Any = None, keep_dims: bool | None = None, separator: str = "", name: str | None = None,
                reduction_indices: Any = None, keepdims: bool | None = None) -> Tensor:
    """The strings along `axis` joined.

    Args:
        axis: a dimension or a list of them, the first moving fastest; all in row-major order if None.  Also called `reduction_indices`.
        keepdims: keep them with size 1; also called `keep_dims`.
        separator: what stands between them.
    """
    axis = reduction_indices if axis is None else axis
    keep = bool(keep_dims if keepdims is None else keepdims)
    with graph.get_default_graph().name_scope(name or "ReduceJoin"):
        inputs = _strings(inputs, "inputs")
        if axis is None:
            if inputs.sizes is None:
                raise ValueError("reduce_join without an axis needs the rank of its input")
            axis = range(len(inputs.sizes) - 1, -1, -1)
        axes = (int(axis),) if isinstance(axis, int) or getattr(axis, "ndim", None) == 0 else tuple(int(a) for a in axis)
        return ops.reduce_join(inputs, axis=axes, keepdims=keep, separator=separator, name="ReduceJoin")


def unsorted_segment_join(inputs: Any, segment_ids: Any, num_segments: Any, separator: str = "", name: str | None = None) -> Tensor:
    """The strings of each of `num_segments` segments joined, in order; those of negative segments are left out.

    Raises InvalidArgumentError (at run time): a segment that is too large.
    """
    return ops.unsorted_segment_join(_strings(inputs), convert_to_tensor(segment_ids), convert_to_tensor(num_segments), separator=separator,
                                     name=name)


# ---------------------------------------------------------------- string by string


def lower(input: Any, encoding: str = "", name: str | None = None) -> Tensor:
    """ASCII letters in lower case; with encoding "utf-8" all letters."""
    return ops.lower(_strings(input), encoding=encoding, name=name)


def upper(input: Any, encoding: str = "", name: str | None = None) -> Tensor:
    """ASCII letters in upper case; with encoding "utf-8" all letters."""
    return ops.upper(_strings(input), encoding=encoding, name=name)


def string_strip(input: Any, name: str | None = None) -> Tensor:
    """Strings without the whitespace at both ends."""
    return ops.strip(_strings(input), name=name)


def length(input: Any, name: str | None = None, unit: str = "BYTE") -> Tensor:
    """The lengths, as int32: in bytes, or in characters if `unit` is "UTF8_CHAR"."""
    return ops.length(_strings(input), unit=_one_of("unit", "StringLength", unit, "BYTE", "UTF8_CHAR"), name=name)


def substr(input: Any, pos: Any, len: Any, name: str | None = None, unit: str = "BYTE") -> Tensor:
    """`len` bytes (or characters, if `unit` is "UTF8_CHAR") from `pos` on, fewer where the string ends before.

    All three broadcast.  Negative positions count from the end.
    Raises InvalidArgumentError (at run time): a position outside the string.
    """
    unit = _one_of("unit", "Substr", unit, "BYTE", "UTF8_CHAR")
    return ops.substr(_strings(input), convert_to_tensor(pos), convert_to_tensor(len), unit=unit, name=name)


def regex_full_match(input: Any, pattern: Any, name: str | None = None) -> Tensor:
    """Whether whole strings match a pattern in RE2's syntax.

    Raises InvalidArgumentError (at run time) on a pattern that is none.
    """
    return ops.regex_full_match(_strings(input), _strings(pattern, "pattern"), name=name)


def regex_replace(input: Any, pattern: Any, rewrite: Any, replace_global: bool = True, name: str | None = None) -> Tensor:
    r"""Strings with what matches a pattern in RE2's syntax replaced: all of it, or the first.

    rewrite: the new text; \1 .. \9 are groups, \0 is the whole match, \\ a backslash.
    Raises InvalidArgumentError (at run time) on a pattern that is none.
    """
    return ops.regex_replace(_strings(input), _strings(pattern, "pattern"), _strings(rewrite, "rewrite"),
                             replace_global=bool(replace_global), name=name)


def encode_base64(input: Any, pad: bool = False, name: str | None = None) -> Tensor:
    """Strings in web-safe base64, with "=" at the end if `pad`."""
    return ops.encode_base64(_strings(input), pad=bool(pad), name=name)


def decode_base64(input: Any, name: str | None = None) -> Tensor:
    """The bytes of web-safe base64.  Raises InvalidArgumentError (at run time) on other strings."""
    return ops.decode_base64(_strings(input), name=name)


# ---------------------------------------------------------------- numbers


def string_to_number(string_tensor: Any = None, out_type: Any = types.float32, name: str | None = None, input: Any = None) -> Tensor:
    """The numbers that strings are: float32, float64, int32 or int64.

    Raises InvalidArgumentError (at run time) on a string that is none.
    """
    strings = _strings(_either(string_tensor, input, "string_tensor", "input"))
    return ops.to_number(strings, out_type=types.as_dtype(out_type), name=name)


def as_string(input: Any, precision: int = -1, scientific: bool = False, shortest: bool = False, width: int = -1, fill: str = "",
              name: str | None = None) -> Tensor:
    """Numbers and booleans as text, as C's printf writes them.

    Args:
        precision: digits after the point of floats; 6 if negative.
        scientific, shortest: exponents (%e), or the shorter of both (%g), instead of %f.
        width, fill: the smallest width, filled with spaces on the left, "0", or on the right with "-"; "+" shows signs.

    Raises:
        InvalidArgumentError (at run time): both `scientific` and `shortest`, a precision of integers, another `fill`.
    """
    return ops.as_string(convert_to_tensor(input), precision=int(precision), scientific=bool(scientific), shortest=bool(shortest),
                         width=int(width), fill=fill, name=name)


def _buckets(op: Any, strings: Any, num_buckets: Any, name: str | None, **attrs: Any) -> Tensor:
    if num_buckets is None or num_buckets < 1:
        raise ValueError(f"Attr 'num_buckets' of '{op.type}' Op passed {num_buckets} less than minimum 1.")
    return op(_strings(strings), num_buckets=int(num_buckets), name=name, **attrs)


def string_to_hash_bucket(string_tensor: Any = None, num_buckets: int | None = None, name: str | None = None, input: Any = None) -> Tensor:
    """int64 numbers below `num_buckets`: TF1's own hash of the strings.  `string_to_hash_bucket_fast` is the better one."""
    return _buckets(ops.to_hash_bucket, _either(string_tensor, input, "string_tensor", "input"), num_buckets, name)


def string_to_hash_bucket_fast(input: Any, num_buckets: int, name: str | None = None) -> Tensor:
    """int64 numbers below `num_buckets`: the Fingerprint64 of the strings."""
    return _buckets(ops.to_hash_bucket_fast, input, num_buckets, name)


def string_to_hash_bucket_strong(input: Any, num_buckets: int, key: Sequence[int], name: str | None = None) -> Tensor:
    """int64 numbers below `num_buckets`: the SipHash of the strings with a key of two numbers, which nobody can foresee without it."""
    if len(key) != 2:
        raise ValueError(f"Key must have 2 elements, got {list(key)}")
    return _buckets(ops.to_hash_bucket_strong, input, num_buckets, name, key=tuple(int(k) for k in key))


# ---------------------------------------------------------------- text


def format(template: str, inputs: Any, placeholder: str = "{}", summarize: int = 3, name: str | None = None) -> Tensor:
    """The template with each placeholder replaced by a tensor as text, as `tf.print` writes it; a string scalar.

    Args:
        inputs: a tensor, or a list of as many as there are placeholders.
        summarize: how many elements are shown at both ends of each dimension; all if -1.

    Raises:
        ValueError: another number of tensors.
    """
    given = list(inputs) if isinstance(inputs, (list, tuple)) else [inputs]
    if template.count(placeholder) != len(given):
        raise ValueError(f"The template expects {template.count(placeholder)} tensors, but the inputs only has {len(given)}. Please ensure "
                         "the number of placeholders in template matches inputs length.")
    return ops.string_format(*[convert_to_tensor(x) for x in given], template=template, placeholder=placeholder, summarize=int(summarize),
                             name=name)


def unicode_transcode(input: Any, input_encoding: str, output_encoding: str, errors: str = "replace", replacement_char: int = 65533,
                      replace_control_characters: bool = False, name: str | None = None) -> Tensor:
    """Strings in another encoding.

    Args:
        input_encoding: any that Python knows.
        output_encoding: "UTF-8", "UTF-16-BE" or "UTF-32-BE".
        errors: what happens to what is no text: "replace" (by `replacement_char`, a code point), "ignore" or "strict".

    Raises:
        ValueError: another name.  InvalidArgumentError (at run time): an unknown encoding, no text where `errors` is "strict".
    """
    ops.output_encoding(output_encoding)
    return ops.unicode_transcode(_strings(input), input_encoding=input_encoding, output_encoding=output_encoding, name=name,
                                 errors=_one_of("errors", "UnicodeTranscode", errors, "strict", "replace", "ignore"),
                                 replacement_char=int(replacement_char), replace_control_characters=bool(replace_control_characters))


def unicode_encode(input: Any, output_encoding: str, errors: str = "replace", replacement_char: int = 65533,
                   name: str | None = None) -> Tensor:
    """Code points, int32 [..., length], as strings in "UTF-8", "UTF-16-BE" or "UTF-32-BE".

    Raises InvalidArgumentError (at run time): no code point where `errors` is "strict".
    """
    ops.output_encoding(output_encoding)
    return ops.unicode_encode(convert_to_tensor(input, types.int32), output_encoding=output_encoding,
                              errors=_one_of("errors", "UnicodeEncode", errors, "strict", "replace", "ignore"),
                              replacement_char=int(replacement_char), name=name)
