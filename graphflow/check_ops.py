"""Assertions and printing: what is checked when the graph is built, and what when it runs.

What is known statically is decided at once: a false assertion raises while the graph is built, a true one costs nothing.
The rest becomes host ops, run in program order by control edges, or an elementwise op (`check_numerics`) that fuses.
"""
from __future__ import annotations

import builtins
import itertools
import pprint
import sys
from typing import Any, Callable, Sequence

import numpy as np

from . import control_flow_ops, errors, graph, types
from .graph import Operation, Spec, Tensor
from .ops import opdef, printing
from .ops.opdef import constant_value, convert_to_tensor, elementwise, primitive
from .codegen.ir import m
from .sparse_tensor import SparseTensor

__all__ = ["Assert", "Print", "print", "check_numerics", "verify_tensor_all_finite", "add_check_numerics_ops", "assert_equal",
           "assert_none_equal",
           "assert_less", "assert_less_equal", "assert_greater", "assert_greater_equal", "assert_near", "assert_positive",
           "assert_negative",
           "assert_non_negative", "assert_non_positive", "assert_rank", "assert_rank_at_least", "assert_rank_in", "assert_scalar",
           "assert_type", "assert_integer", "assert_proper_iterable", "assert_same_float_dtype", "is_numeric_tensor", "is_non_decreasing",
           "is_strictly_increasing"]

ANY = types.ALL + (types.string,)


# ---------------------------------------------------------------- ops


@primitive("host", effect="host", type="Assert", infer=lambda condition, *data, summarize: [],
           input_dtypes={"condition": (types.bool_,), "data": ANY},
           no_gradient="it has no output")
def assert_op(condition, *data, summarize=3):
    """Raises InvalidArgumentError with `data` unless every element of `condition` is true."""


@assert_op.reference
def _(condition, *data, summarize):
    if not np.all(condition):
        shown = " ".join(f"[{printing.first(d, summarize)}]" for d in data)
        raise errors.InvalidArgumentError(None, None, f"assertion failed: {shown}")
    return []


@primitive("host", effect="host", type="Print", infer=lambda x, *data, **_: Spec(x.dtype, x.sizes, x.known),
           input_dtypes={"x": ANY, "data": ANY})
def print_op(x, *data, message="", first_n=-1, summarize=3, number=0):
    """`x`, after writing `message` and `data` to standard error, at most `first_n` times."""


print_op.grad(lambda op, dy: (dy, *[None] * (len(op.inputs) - 1)))
_written: dict[int, int] = {}
_numbers = itertools.count(1)


@print_op.reference
def _(x, *data, message, first_n, summarize, number):
    done = _written[number] = _written.get(number, 0) + 1
    if first_n < 0 or done <= first_n:
        shown = "".join(f"[{printing.first(d, summarize)}]" for d in data)
        sys.stderr.write(f"{message}{shown}\n")
    return x


@primitive("host", effect="host", type="PrintV2", infer=lambda *data, **_: [], input_dtypes={"data": ANY}, no_gradient="it has no output")
def print_v2_op(*data, template, end, summarize, stream):
    """Writes a text (a tuple of pieces, with the numbers of inputs between them) to a stream, a file or the log."""


@print_v2_op.reference
def _(*data, template, end, summarize, stream):
    text = "".join(_piece(data[p], summarize) if isinstance(p, int) else p for p in template)
    if stream.startswith("file://"):
        with open(stream[7:], "a") as f:
            f.write(text + end)
    elif stream.startswith("log("):
        from .platform import logging

        logging.log(logging.level_of(stream[4:-1]), text)
    else:
        (sys.stdout if stream == "stdout" else sys.stderr).write(text + end)
    return []


def _piece(value: Any, summarize: int | None) -> str:
    """A tensor as `tf.print` writes it; None stands for a text that is written as it is."""
    if summarize is None:
        text: Any = np.asarray(value)[()]
        return text.decode(errors="replace") if isinstance(text, bytes) else str(text)
    return printing.corners(value, summarize)


def _finite_or_raise(x: Any, *, message: str) -> Any:
    nan, inf = np.isnan(x).any(), np.isinf(x).any()
    if nan or inf:
        raise errors.InvalidArgumentError(None, None,
                                          f"{message} : Tensor had {' and '.join(['Inf'] * bool(inf) + ['NaN'] * bool(nan))} values")
    return x


@elementwise(scalar=lambda x, *, message: m.check(m.isfinite(x), x, f"{message} : Tensor had NaN or Inf values"), numpy=_finite_or_raise,
             dtypes=types.FLOAT,
             type="CheckNumerics")
def check_numerics_op(x, *, message=""):
    """`x`; an element that is not finite raises InvalidArgumentError with `message`."""


@check_numerics_op.grad
def _(op, dy):
    return dy,


@primitive("host", effect="host", type="AssertFinite", infer=lambda x, *, message: [], dtypes=types.FLOAT, no_gradient="it has no output")
def assert_finite_op(x, *, message):
    """Raises InvalidArgumentError with `message` when an element of `x` is not finite."""


@assert_finite_op.reference
def _(x, *, message):
    _finite_or_raise(x, message=message)
    return []


# ---------------------------------------------------------------- TF1's functions


def _data(values: Any) -> list[Tensor]:
    return [convert_to_tensor(v) for v in (values if isinstance(values, (list, tuple)) else [values])]


def Assert(condition: Any, data: Sequence[Any], summarize: int | None = None, name: str | None = None) -> Operation:
    """An operation that raises InvalidArgumentError with `data` unless `condition` holds; put it in `control_dependencies`.

    Raises:
        errors.InvalidArgumentError: the condition is known to be false already.
    """
    with graph.get_default_graph().name_scope(name or "Assert"):
        condition = convert_to_tensor(condition)
        return assert_op(condition, *_data(data), summarize=3 if summarize is None else summarize)


def Print(input_: Any, data: Sequence[Any], message: str | None = None, first_n: int | None = None, summarize: int | None = None,
          name: str | None = None) -> Tensor:
    """`input_`, which writes `message` and `data` to standard error whenever it is computed."""
    return print_op(convert_to_tensor(input_), *_data(data), message=message or "", first_n=-1 if first_n is None else first_n,
                    summarize=3 if summarize is None else summarize, number=next(_numbers), name=name)


def print(*inputs: Any, output_stream: Any = None, summarize: int | None = 3, sep: str = " ", end: str = "\n",
          name: str | None = None) -> Operation:
    """An operation that writes tensors and Python objects, and structures that hold both, as one line.

    Args:
        inputs: written as Python does, with `[1 2 3 ... 7 8 9]` for a tensor.
        output_stream: `sys.stderr` (the default), `sys.stdout`, `"file://path"` (appended to), or `tf.logging.info`, `warning` or `error`.
        summarize: elements at the start and the end of each dimension; all with -1.

    Raises:
        ValueError: another output stream.
    """
    tensors: list[Tensor] = []
    plain = len(inputs) == 1 and isinstance(inputs[0], Tensor) and inputs[0].dtype is types.string and inputs[0].sizes == ()
    pieces: list[Any] = [0] if plain else []
    if plain:
        tensors.append(inputs[0])
    else:
        texts = [x if isinstance(x, str) else pprint.pformat(_marked(x, tensors), width=80) for x in inputs]
        for i, text in enumerate(sep.join(texts).split(_MARK)):
            pieces += ([i - 1] if i else []) + [text]
    attrs = {"template": tuple(pieces), "end": end, "summarize": None if plain else 3 if summarize is None else summarize,
             "stream": _stream(output_stream)}
    return opdef.graph_of(tensors).create_op(print_v2_op, tensors, attrs, name)


_MARK = "\0"


class _Marked:
    """Stands for a tensor in a structure that is being written."""

    def __init__(self, text: str):
        self.text = text

    def __repr__(self) -> str:
        return self.text


def _marked(x: Any, tensors: list[Tensor]) -> Any:
    """The structure with marks instead of its tensors, which are appended to `tensors`; dicts sorted by key."""
    if isinstance(x, dict):
        return {k: _marked(x[k], tensors) for k in _sorted(x)}
    if isinstance(x, (list, tuple)):
        items = [_marked(v, tensors) for v in x]
        return type(x)(*items) if hasattr(x, "_fields") else type(x)(items)
    if isinstance(x, SparseTensor):
        tensors += [x.indices, x.values, x.dense_shape]
        return _Marked(f"SparseTensor(indices={_MARK}, values={_MARK}, shape={_MARK})")
    if isinstance(x, Tensor) or hasattr(x, "_as_tensor"):
        tensors.append(convert_to_tensor(x))
        return _Marked(_MARK)
    return x


def _sorted(keys: Any) -> list[Any]:
    try:
        return sorted(keys)
    except TypeError:
        return list(keys)


def _stream(wanted: Any) -> str:
    if wanted is None or isinstance(wanted, str) and wanted.startswith("file://"):
        return wanted or "stderr"
    for name in ("stdout", "stderr"):
        if wanted is getattr(sys, name) or wanted is getattr(sys, f"__{name}__"):
            return name
    from .platform import logging

    for name in ("info", "warning", "error"):
        if wanted in (getattr(logging, name), logging.level_of(name)):
            return f"log({name})"
    raise ValueError(f"Unsupported output stream, logging level, or file: {wanted!r}. Supported are sys.stdout, sys.stderr, "
                     "tf.logging.info, tf.logging.warning, tf.logging.error and 'file://path'")


def check_numerics(tensor: Any, message: str, name: str | None = None) -> Tensor:
    """`tensor`; raises InvalidArgumentError with `message` when an element is NaN or infinite."""
    return check_numerics_op(convert_to_tensor(tensor), message=message, name=name)


def verify_tensor_all_finite(t: Any = None, msg: str | None = None, name: str | None = None, x: Any = None,
                             message: str | None = None) -> Tensor:
    """Like `check_numerics`, with TF1's older argument names `t` and `msg`, or `x` and `message`.

    Raises:
        ValueError: a tensor under both names.  TypeError: no tensor, or no message.
    """
    if t is not None and x is not None or msg is not None and message is not None:
        raise ValueError("Cannot specify both 't' and 'x', or both 'msg' and 'message'.")
    tensor, text = x if t is None else t, message if msg is None else msg
    if tensor is None or not isinstance(text, str):
        raise TypeError(f"verify_tensor_all_finite needs a tensor and a message, got {tensor!r} and {text!r}")
    with graph.get_default_graph().name_scope(name or "VerifyFinite"):
        return check_numerics(tensor, text)


def add_check_numerics_ops() -> Operation:
    """An operation that checks every float tensor of the default graph (as it stands now) for NaN and infinity.

    The error names the first one, in the order in which they were declared.  What is inside a branch or loop is seen where it leaves it.
    """
    g = graph.get_default_graph()
    found = [assert_finite_op(t, message=t.name) for op in g.get_operations() for t in op.outputs
             if t.dtype in types.FLOAT and op.region is None and op.type not in ("Const", "Placeholder", "VariableV2")]
    return control_flow_ops.group(*found)


def _pass(name: str | None = None) -> Operation:
    return control_flow_ops.no_op(name or "static_checks_determined_all_ok")


def _static(t: Tensor) -> np.ndarray | None:
    value = constant_value(t)
    return types.bf16_decode(value) if value is not None and t.dtype is types.bfloat16 else value


def _decide(values: Sequence[np.ndarray | None], test: Callable[..., Any]) -> builtins.bool | None:
    """The outcome, when all values are known."""
    return None if any(v is None for v in values) else builtins.bool(np.all(test(*values)))


def _binary(name: str, symbol: str, numpy: Any, function: str) -> Callable[..., Any]:
    def check(x: Any, y: Any, data: Any = None, summarize: int | None = None, message: str | None = None, name: str | None = None) -> Any:
        with graph.get_default_graph().name_scope(name or check.__name__):
            x, y = _pair(x, y)
            words = [*([message] if message else []), f"Condition x {symbol} y did not hold element-wise:", f"x ({x.name}) = ", x,
                     f"y ({y.name}) = ", y]
            return _compared(x, y, numpy, function, words if data is None else data, words, summarize)
    check.__name__ = name
    check.__doc__ = f"""An operation that raises InvalidArgumentError unless `x {symbol} y` for every element (with broadcasting).

    Args:
        data: what the error shows, a list of tensors and text; by default what was compared.
        summarize: elements of each that are shown, 3 by default.

    Raises:
        errors.InvalidArgumentError: already when the graph is built, if both values are known then.
        TypeError: different dtypes.
    """
    return check


def _compared(x: Tensor, y: Tensor, numpy: Any, function: str, data: Any, words: Sequence[Any], summarize: int | None) -> Any:
    """The check of a comparison: done now if both values are known, else an assertion that shows `data`."""
    from . import math_ops

    known = _decide([_static(x), _static(y)], numpy) if x.dtype is y.dtype else None
    if known:
        return _pass()
    if known is False:
        count = 3 if summarize is None else summarize
        raise errors.InvalidArgumentError(None, None, "\n".join(
            w if isinstance(w, str) else f"[{printing.first(_static(w), count)}]" if w.sizes else printing.first(_static(w), count)
            for w in words))
    return Assert(math_ops.reduce_all(getattr(math_ops, function)(x, y)), data, summarize=summarize)


def _pair(x: Any, y: Any) -> tuple[Tensor, Tensor]:
    """Both as tensors; a Python value takes the dtype of the other side, where that is a tensor."""
    if isinstance(y, Tensor) or hasattr(y, "_as_tensor"):
        y = convert_to_tensor(y)
        return convert_to_tensor(x, None if isinstance(x, Tensor) or hasattr(x, "_as_tensor") else y.dtype, name="x"), y
    x = convert_to_tensor(x, name="x")
    return x, convert_to_tensor(y, x.dtype, name="y")


assert_equal = _binary("assert_equal", "==", np.equal, "equal")
assert_none_equal = _binary("assert_none_equal", "!=", np.not_equal, "not_equal")
assert_less = _binary("assert_less", "<", np.less, "less")
assert_less_equal = _binary("assert_less_equal", "<=", np.less_equal, "less_equal")
assert_greater = _binary("assert_greater", ">", np.greater, "greater")
assert_greater_equal = _binary("assert_greater_equal", ">=", np.greater_equal, "greater_equal")


def assert_near(x: Any, y: Any, rtol: Any = None, atol: Any = None, data: Any = None, summarize: int | None = None,
                message: str | None = None,
                name: str | None = None) -> Any:
    """An operation that raises InvalidArgumentError unless |x - y| <= atol + rtol |y|; both default to 10 epsilons."""
    from . import math_ops

    with graph.get_default_graph().name_scope(name or "assert_near"):
        x, y = _pair(x, y)
        eps = 10 * float(np.finfo(x.dtype.compute.np).eps)
        bound = math_ops.abs(y) * (eps if rtol is None else rtol) + (eps if atol is None else atol)
        words = [message or "", f"x and y not equal to tolerance rtol = {rtol if rtol is not None else eps}, "
                 f"atol = {atol if atol is not None else eps}", f"x ({x.name}) = ", x, f"y ({y.name}) = ", y]
        return Assert(math_ops.reduce_all(math_ops.less_equal(math_ops.abs(x - y), bound)), words if data is None else data,
                      summarize=summarize)


def _sign(name: str, symbol: str, numpy: Any, function: str) -> Callable[..., Any]:
    def check(x: Any, data: Any = None, summarize: int | None = None, message: str | None = None, name: str | None = None) -> Any:
        g = graph.get_default_graph()
        with g.name_scope(name or check.__name__):
            x = convert_to_tensor(x)
            zero = opdef.constant(0, x.dtype)
            words = [f"{message}.  " if message else "", f"Condition x {symbol} 0 did not hold element-wise:", f"x ({x.name}) = ", x]
            with g.name_scope(f"assert_{function}"):
                left, right = (zero, x) if symbol[0] == ">" else (x, zero)
                return _compared(left, right, numpy, function, words if data is None else data, words, summarize)
    check.__name__, check.__doc__ = name, f"""An operation that raises InvalidArgumentError unless every element of `x` is {symbol} 0.

    Raises:
        errors.InvalidArgumentError: already when the graph is built, if `x` is known then.
    """
    return check


assert_positive = _sign("assert_positive", ">", np.less, "less")
assert_negative = _sign("assert_negative", "<", np.less, "less")
assert_non_negative = _sign("assert_non_negative", ">=", np.less_equal, "less_equal")
assert_non_positive = _sign("assert_non_positive", "<=", np.less_equal, "less_equal")


def _rank_check(x: Any, rank: Any, test: Callable[..., Any], function: str, what: str, data: Any, summarize: int | None,
                message: str | None, name: str) -> Any:
    with graph.get_default_graph().name_scope(name):
        x = convert_to_tensor(x)
        wanted = constant_value(rank) if isinstance(rank, Tensor) else np.asarray(rank)
        if wanted is not None and wanted.ndim:
            raise ValueError("Rank must be a scalar.")
        if wanted is not None and wanted.dtype.kind not in "iu":
            raise TypeError(f"Rank must be an integer, got {rank!r}")
        if x.sizes is not None and wanted is not None:
            if not test(len(x.sizes), int(wanted)):
                raise ValueError(f"{_lead(message)}Tensor {x.name} must have rank {what}{int(wanted)}.  Received rank "
                                 f"{len(x.sizes)}, shape {x.shape}")
            return _pass()
        from . import array_ops, math_ops

        actual = array_ops.rank(x)
        words = [_lead(message), f"Tensor {x.name} must have rank {what}".rstrip(), rank, "Received shape: ", array_ops.shape(x)]
        holds = getattr(math_ops, function)(actual, convert_to_tensor(rank, types.int32))
        return Assert(holds, words if data is None else data, summarize=summarize)


def assert_rank(x: Any, rank: Any, data: Any = None, summarize: int | None = None, message: str | None = None,
                name: str | None = None) -> Any:
    """An operation that checks the rank of `x`; raises ValueError at once when it is known to be wrong."""
    return _rank_check(x, rank, lambda a, b: a == b, "equal", "", data, summarize, message, name or "assert_rank")


def assert_rank_at_least(x: Any, rank: Any, data: Any = None, summarize: int | None = None, message: str | None = None,
                         name: str | None = None) -> Any:
    """An operation that checks that `x` has at least `rank` dimensions; raises ValueError at once when known."""
    return _rank_check(x, rank, lambda a, b: a >= b, "greater_equal", "at least ", data, summarize, message, name or "assert_rank_at_least")


def assert_rank_in(x: Any, ranks: Sequence[int], data: Any = None, summarize: int | None = None, message: str | None = None,
                   name: str | None = None) -> Any:
    """An operation that checks that the rank of `x` is one of `ranks`; raises ValueError at once when known."""
    from . import array_ops, math_ops

    with graph.get_default_graph().name_scope(name or "assert_rank_in"):
        x = convert_to_tensor(x)
        if x.sizes is not None:
            if len(x.sizes) not in [int(r) for r in ranks]:
                raise ValueError(f"{_lead(message)}Tensor {x.name} must have rank in {tuple(ranks)}.  Received rank {len(x.sizes)}, "
                                 f"shape {x.shape}")
            return _pass()
        actual = array_ops.rank(x)
        found = math_ops.reduce_any(math_ops.equal(actual, opdef.constant(np.asarray(ranks, np.int32))))
        words = [_lead(message), f"Tensor {x.name} must have rank in", *[opdef.constant(int(r)) for r in ranks], "Received shape: ",
                 array_ops.shape(x)]
        return Assert(found, words if data is None else data, summarize=summarize)


def _lead(message: str | None) -> str:
    """The user's words before ours."""
    return f"{message}.  " if message else ""


def assert_scalar(tensor: Any, name: str | None = None, message: str | None = None) -> Tensor:
    """`tensor`; raises ValueError unless it is known to be a scalar."""
    with graph.get_default_graph().name_scope(name or "assert_scalar"):
        tensor = convert_to_tensor(tensor)
    if tensor.sizes != ():
        raise ValueError(f"{_lead(message)}Expected scalar shape for {tensor.name}, saw shape: {tensor.shape}.")
    return tensor


def assert_type(tensor: Any, tf_type: Any, message: str | None = None, name: str | None = None) -> Operation:
    """Raises TypeError unless `tensor` has dtype `tf_type`; returns an operation that does nothing."""
    with graph.get_default_graph().name_scope(name or "assert_type"):
        tensor, wanted = convert_to_tensor(tensor), types.as_dtype(tf_type)
        if tensor.dtype is not wanted:
            raise TypeError(f"{_lead(message)}{tensor.name} must be of type {wanted!r}; got {tensor.dtype!r}")
        return _pass("statically_determined_correct_type")


def assert_integer(x: Any, message: str | None = None, name: str | None = None) -> Operation:
    """Raises TypeError unless `x` is of an integer dtype; returns an operation that does nothing."""
    with graph.get_default_graph().name_scope(name or "assert_integer"):
        x = convert_to_tensor(x)
        if not x.dtype.is_integer:
            raise TypeError(f'{_lead(message)}Expected "x" to be integer type.  Found: {x.name} of dtype {x.dtype!r}')
        return _pass("statically_determined_was_integer")


def assert_shapes(shapes: Any, data: Any = None, summarize: int | None = None, message: str | None = None, name: str | None = None) -> Any:
    """An operation that checks shapes, and that sizes of the same name are equal; what is known is checked at once.

    Args:
        shapes: a dict (or list of pairs) from tensors to shapes: tuples of ints, names for sizes (`"batch"`), and None or "." for any;
            a leading `...` or "*" stands for any dimensions.  A shape that is no tuple is that of a vector.

    Raises:
        ValueError: a shape that is known does not fit.  InvalidArgumentError (at run time): likewise.
    """
    from . import array_ops, math_ops

    named: dict[str, tuple[Any, str]] = {}
    checks: list[Operation] = []
    with graph.get_default_graph().name_scope(name or "assert_shapes"):
        for x, wanted in shapes.items() if hasattr(shapes, "items") else shapes:
            x = convert_to_tensor(x)
            wanted = tuple(wanted) if isinstance(wanted, (tuple, list, types.TensorShape)) else (wanted,)
            open_ = bool(wanted) and wanted[0] in (Ellipsis, "*")
            tail = wanted[1:] if open_ else wanted
            shown = f"{_lead(message)}Tensor {x.name} must have shape {wanted}"
            if x.sizes is None:
                rank = array_ops.rank(x)
                fits = math_ops.greater_equal(rank, len(tail)) if open_ else math_ops.equal(rank, len(tail))
                checks.append(Assert(fits, [shown, "Received shape: ", array_ops.shape(x)] if data is None else data, summarize))
            elif len(x.sizes) < len(tail) or not open_ and len(x.sizes) != len(tail):
                raise ValueError(f"{shown}.  Received shape {x.shape}")
            for i, want in enumerate(tail, -len(tail)):
                if want is None or want == ".":
                    continue
                known = x.sizes[i] if x.sizes is not None and isinstance(x.sizes[i], int) else None
                with graph.get_default_graph().control_dependencies(checks):
                    size: Any = known if known is not None else array_ops.shape(x)[i]
                where = f"dimension {len(tail) + i} of {x.name}"
                expected, first = named.setdefault(want, (size, where)) if isinstance(want, str) else (int(want), "the shape asked for")
                if isinstance(size, int) and isinstance(expected, int):
                    if size != expected:
                        raise ValueError(f"{shown}.  {where} is {size}, but {first} is {expected}")
                elif expected is not size:
                    words = [f"{shown}.  {where} is ", size, f", but {first} is ", expected]
                    checks.append(Assert(math_ops.equal(size, expected), words if data is None else data, summarize))
        return control_flow_ops.group(*checks) if checks else _pass()


def assert_proper_iterable(values: Any) -> None:
    """Raises TypeError for a tensor, an array, text or anything that cannot be iterated."""
    if isinstance(values, (Tensor, np.ndarray, bytes, str)) or not hasattr(values, "__iter__"):
        raise TypeError(f"Expected argument \"values\" to be a \"proper\" iterable.  Found: {type(values)}")


def assert_same_float_dtype(tensors: Any = None, dtype: Any = None) -> types.DType:
    """The float dtype that all `tensors` (and `dtype`) share, float32 without any.  Raises ValueError otherwise."""
    found = None if dtype is None else types.as_dtype(dtype)
    for t in tensors or ():
        if t is None:
            continue
        t = convert_to_tensor(t)
        if found is not None and t.dtype is not found:
            raise ValueError(f"Expected {found.name}, got {t.dtype.name} of tensor {t.name}")
        found = t.dtype
    found = found or types.float32
    if not found.is_floating:
        raise ValueError(f"Expected floating point type, got {found.name}.")
    return found


def is_numeric_tensor(tensor: Any) -> builtins.bool:
    """Whether it is a tensor of numbers."""
    return isinstance(tensor, Tensor) and tensor.dtype in types.NUMERIC


def is_non_decreasing(x: Any, name: str | None = None) -> Tensor:
    """A boolean tensor: x[0] <= x[1] <= ... over the flattened elements."""
    return _ordered(x, "less_equal", name or "is_non_decreasing")


def is_strictly_increasing(x: Any, name: str | None = None) -> Tensor:
    """A boolean tensor: x[0] < x[1] < ... over the flattened elements."""
    return _ordered(x, "less", name or "is_strictly_increasing")


def _ordered(x: Any, function: str, name: str) -> Tensor:
    from . import array_ops, math_ops

    with graph.get_default_graph().name_scope(name):
        flat = array_ops.reshape(convert_to_tensor(x), [-1])
        return math_ops.reduce_all(getattr(math_ops, function)(flat[:-1], flat[1:]))
