"""TF's math functions with TF1's names and argument forms, and the arithmetic operators of tensors.

Written on graphflow/ops/elementwise.py, reduce.py and scan.py; the same functions are `tf.math.*` (graphflow/math.py).
"""
from __future__ import annotations

import builtins
from typing import Any, Callable, Sequence

import numpy as np

from . import graph, types
from .graph import Spec, Tensor
from .ops import elementwise as ew
from .ops import reduce, scan, shape_like
from .ops.opdef import constant_value, convert_to_tensor, primitive

# ---------------------------------------------------------------- arguments


def _typed(v: Any) -> bool:
    """Whether a value has a dtype of its own in the graph (tensors, variables, slices), unlike numbers and arrays."""
    return isinstance(v, Tensor) or hasattr(v, "_as_tensor") or hasattr(v, "dtype") and not isinstance(v, (np.ndarray, np.generic))


def _pair(x: Any, y: Any) -> tuple[Tensor, Tensor]:
    """Both as tensors; a number or array beside a tensor takes its dtype."""
    if _typed(y) and not _typed(x):
        y = convert_to_tensor(y, name="y")
        return convert_to_tensor(x, y.dtype, name="x"), y
    x = convert_to_tensor(x, name="x")
    return x, convert_to_tensor(y, None if _typed(y) else x.dtype, name="y")


def _graph_of(*values: Any) -> graph.Graph:
    return next((v.graph for v in values if isinstance(v, Tensor)), None) or graph.get_default_graph()


class _in_scope:
    """`with _in_scope(name, default, *values) as scope:` a name scope in the graph of the values; names ops after it."""

    def __init__(self, name: str | None, default: str, *values: Any):
        g = _graph_of(*values)
        self._contexts: list[Any] = [g.as_default(), g.name_scope(name or default)]

    def __enter__(self) -> str:
        self._contexts[0].__enter__()
        return self._contexts[1].__enter__()

    def __exit__(self, *problem: object) -> None:
        self._contexts[1].__exit__(*problem)
        self._contexts[0].__exit__(*problem)


def _apply2(op: Any, default: str, x: Any, y: Any, name: str | None) -> Tensor:
    if type(x) is Tensor and type(y) is Tensor:
        return op(x, y, name=name or default)
    with _in_scope(name, default, x, y) as scope:
        x, y = _pair(x, y)
        return op(x, y, name=scope)


def _apply1(op: Any, x: Any, name: str | None, **attrs: Any) -> Tensor:
    if type(x) is Tensor:
        return op(x, name=name, **attrs)
    if not _typed(x):
        with _in_scope(name, op.default_name) as scope:
            return op(convert_to_tensor(x, name="x"), name=scope, **attrs)
    return op(convert_to_tensor(x), name=name, **attrs)


def _unary(op: Any, name: str) -> Callable[..., Tensor]:
    def fn(x: Any, name: str | None = None) -> Tensor:
        return _apply1(op, x, name)
    return _labelled(fn, name, op)


def _binary(op: Any, name: str, default: str | None = None) -> Callable[..., Tensor]:
    label = default or op.default_name

    def fn(x: Any, y: Any, name: str | None = None) -> Tensor:
        return _apply2(op, label, x, y, name)
    return _labelled(fn, name, op)


def _labelled(fn: Any, name: str, op: Any) -> Any:
    fn.__name__ = fn.__qualname__ = name
    fn.__doc__ = (op.__doc__ or "") + f"\n\n    Dtypes: {', '.join(d.name for d in op.dtypes)}.  Shapes broadcast as in NumPy."
    return fn


# ---------------------------------------------------------------- element by element, one op each

exp, expm1, log, log1p = _unary(ew.exp, "exp"), _unary(ew.expm1, "expm1"), _unary(ew.log, "log"), _unary(ew.log1p, "log1p")
sin, cos, tan = _unary(ew.sin, "sin"), _unary(ew.cos, "cos"), _unary(ew.tan, "tan")
asin, acos, atan = _unary(ew.asin, "asin"), _unary(ew.acos, "acos"), _unary(ew.atan, "atan")
sinh, cosh, tanh = _unary(ew.sinh, "sinh"), _unary(ew.cosh, "cosh"), _unary(ew.tanh, "tanh")
asinh, acosh, atanh = _unary(ew.asinh, "asinh"), _unary(ew.acosh, "acosh"), _unary(ew.atanh, "atanh")
sqrt, rsqrt, square, reciprocal = _unary(ew.sqrt, "sqrt"), _unary(ew.rsqrt,
                                                                  "rsqrt"), _unary(ew.square, "square"), _unary(ew.reciprocal, "reciprocal")
abs, sign, negative = _unary(ew.abs, "abs"), _unary(ew.sign, "sign"), _unary(ew.negative, "negative")
sigmoid, softplus, softsign = _unary(ew.sigmoid, "sigmoid"), _unary(ew.softplus, "softplus"), _unary(ew.softsign, "softsign")
erf, erfc, erfinv, ndtri = _unary(ew.erf, "erf"), _unary(ew.erfc, "erfc"), _unary(ew.erfinv, "erfinv"), _unary(ew.ndtri, "ndtri")
lgamma, digamma = _unary(ew.lgamma, "lgamma"), _unary(ew.digamma, "digamma")
is_nan, is_inf, is_finite = _unary(ew.is_nan, "is_nan"), _unary(ew.is_inf, "is_inf"), _unary(ew.is_finite, "is_finite")
logical_not = _unary(ew.logical_not, "logical_not")


def _adder(default: str | None = None) -> Callable[..., Tensor]:
    numbers = _binary(ew.add, "add", default)

    def fn(x: Any, y: Any, name: str | None = None) -> Tensor:
        if any(isinstance(v, (str, bytes)) or getattr(v, "dtype", None) is types.string for v in (x, y)):
            from .ops.strings import joined_strings

            return joined_strings(convert_to_tensor(x, types.string), convert_to_tensor(y, types.string), name=name)
        return numbers(x, y, name)

    fn = _labelled(fn, "add", ew.add)
    fn.__doc__ += "  Strings are joined."
    return fn


add, subtract, multiply = _adder(), _binary(ew.subtract, "subtract"), _binary(ew.multiply, "multiply")
realdiv = _binary(ew.real_div, "realdiv")
floor_div, floormod = _binary(ew.floor_div, "floor_div"), _binary(ew.floor_mod, "floormod")
truncatediv, truncatemod = _binary(ew.truncate_div, "truncatediv"), _binary(ew.truncate_mod, "truncatemod")
maximum, minimum = _binary(ew.maximum, "maximum"), _binary(ew.minimum, "minimum")
squared_difference, atan2 = _binary(ew.squared_difference, "squared_difference"), _binary(ew.atan2, "atan2")
equal, not_equal = _binary(ew.equal, "equal"), _binary(ew.not_equal, "not_equal")
less, less_equal = _binary(ew.less, "less"), _binary(ew.less_equal, "less_equal")
greater, greater_equal = _binary(ew.greater, "greater"), _binary(ew.greater_equal, "greater_equal")
logical_and, logical_or = _binary(ew.logical_and, "logical_and"), _binary(ew.logical_or, "logical_or")
pow = _binary(ew.pow, "pow")
divide_no_nan = div_no_nan = _binary(ew.div_no_nan, "divide_no_nan", "div_no_nan")
xlogy, xdivy = _binary(ew.xlogy, "xlogy"), _binary(ew.xdivy, "xdivy")
floordiv = _binary(ew.floor_div, "floordiv", "floordiv")
mod = floormod


def logical_xor(x: Any, y: Any, name: str | None = "LogicalXor") -> Tensor:
    """Whether exactly one of x and y, of booleans."""
    return _apply2(ew.logical_xor, "LogicalXor", x, y, name)


_TRUE_DIVISION = {types.int8: types.float32, types.uint8: types.float32, types.int16: types.float32, types.uint16: types.float32,
                  types.int32: types.float64, types.uint32: types.float64, types.int64: types.float64, types.uint64: types.float64}


def truediv(x: Any, y: Any, name: str | None = None) -> Tensor:
    """x / y as Python 3 divides: integers become float32 (8 and 16 bits) or float64.

    Raises:
        TypeError: x and y have different dtypes.
    """
    if type(x) is Tensor and type(y) is Tensor and x.dtype not in _TRUE_DIVISION and y.dtype not in _TRUE_DIVISION:
        return ew.real_div(x, y, name=name or "truediv")
    with _in_scope(name, "truediv", x, y) as scope:
        x, y = _pair(x, y)
        if x.dtype is not y.dtype:
            raise TypeError(f"x and y must have the same dtype, got {x.dtype.name} != {y.dtype.name}; convert with tf.cast")
        target = _TRUE_DIVISION.get(x.dtype)
        if target is not None:
            x, y = cast(x, target), cast(y, target)
        return ew.real_div(x, y, name=scope)


def divide(x: Any, y: Any, name: str | None = None) -> Tensor:
    """x / y as Python 3 divides; see `truediv`."""
    return truediv(x, y, name)


def div(x: Any, y: Any, name: str | None = None) -> Tensor:
    """x / y as Python 2 divides: floats truly, integers rounded down."""
    with _in_scope(name, "div", x, y) as scope:
        x, y = _pair(x, y)
        return (ew.floor_div if x.dtype.is_integer else ew.real_div)(x, y, name=scope)


def scalar_mul(scalar: Any, x: Any, name: str | None = None) -> Any:
    """A scalar times a tensor or IndexedSlices.

    Raises:
        ValueError: `scalar` is not of rank 0.
    """
    scalar = convert_to_tensor(scalar, None if _typed(scalar) else x.dtype.base_dtype if _typed(x) else None, name="scalar")
    if scalar.sizes != ():
        raise ValueError(f"Only scalar multiply works, got shape {scalar.shape}")
    if hasattr(x, "indices") and hasattr(x, "values"):
        return type(x)(ew.multiply(scalar, x.values, name=name), x.indices, x.dense_shape)
    return _apply2(ew.multiply, "Mul", scalar, x, name)


def round(x: Any, name: str | None = None) -> Tensor:
    """The nearest whole number, halves to even; integers pass unchanged."""
    return _round_like(ew.round, x, name)


def rint(x: Any, name: str | None = None) -> Tensor:
    """The nearest whole number, halves to even."""
    return _apply1(ew.rint, x, name)


def floor(x: Any, name: str | None = None) -> Tensor:
    """The largest whole number <= x; integers pass unchanged."""
    return _round_like(ew.floor, x, name)


def ceil(x: Any, name: str | None = None) -> Tensor:
    """The smallest whole number >= x; integers pass unchanged."""
    return _round_like(ew.ceil, x, name)


def trunc(x: Any, name: str | None = None) -> Tensor:
    """x rounded toward zero; integers pass unchanged."""
    return _round_like(ew.trunc, x, name)


def _round_like(op: Any, x: Any, name: str | None) -> Tensor:
    x = x if isinstance(x, Tensor) else convert_to_tensor(x, name="x")
    return x if x.dtype.is_integer else op(x, name=name)


def log_sigmoid(x: Any, name: str | None = None) -> Tensor:
    """log(sigmoid(x)) = -softplus(-x), without overflow."""
    with _in_scope(name, "LogSigmoid", x) as scope:
        return ew.negative(ew.softplus(ew.negative(convert_to_tensor(x, name="x"))), name=scope)


def clip_by_value(t: Any, clip_value_min: Any, clip_value_max: Any, name: str | None = None) -> Any:
    """`t` taken into [clip_value_min, clip_value_max], which broadcast against it; IndexedSlices clip their values.

    Raises:
        ValueError: the bounds would make the result larger than `t`.
    """
    if hasattr(t, "indices") and hasattr(t, "values"):
        return type(t)(clip_by_value(t.values, clip_value_min, clip_value_max, name), t.indices, t.dense_shape)
    with _in_scope(name, "clip_by_value", t) as scope:
        t = convert_to_tensor(t, name="t")
        out = ew.clip(t, clip_value_min, clip_value_max, name=scope)
        try:
            if out.sizes is not None and t.sizes is not None and len(out.sizes) != len(t.sizes):
                raise ValueError(f"the result would have shape {types.shape_text(out.sizes)}")
            types.merge_shapes(out.sizes, t.sizes)
        except ValueError as e:
            raise ValueError(f"clip_by_value: the bounds must broadcast to the shape {types.shape_text(t.sizes)} of t: {e}") from None
        return out


# ---------------------------------------------------------------- conversion and complex parts


def cast(x: Any, dtype: Any, name: str | None = None) -> Any:
    """`x` as another dtype: floats to integers round toward zero, nonzero is True, complex keeps its real part.

    The same dtype returns `x` itself.  IndexedSlices and sparse tensors cast their values.
    """
    target = types.as_dtype(dtype).base_dtype
    if type(x) is Tensor:
        return x if x.dtype is target else ew.cast_op(x, DstT=target, name=name)
    if hasattr(x, "indices") and hasattr(x, "values"):
        return type(x)(**{**{k: getattr(x, k) for k in ("indices", "dense_shape")}, "values": cast(x.values, target, name)})
    if _typed(x):
        return cast(convert_to_tensor(x), target, name)
    with _in_scope(name, "Cast") as scope:
        x = convert_to_tensor(x, name="x")
        return x if x.dtype is target else ew.cast_op(x, DstT=target, name=scope)


def saturate_cast(value: Any, dtype: Any, name: str | None = None) -> Tensor:
    """`cast` after clipping to the target's range, so that nothing wraps around."""
    target = types.as_dtype(dtype).base_dtype
    with _in_scope(name, "saturate_cast", value) as scope:
        x = convert_to_tensor(value, name="value")
        if target.kind in "iu" and x.dtype.kind in "iuf":
            if x.dtype.min < target.min:
                x = ew.maximum(x, _bound(target.min, x.dtype, up=True))
            if x.dtype.max > target.max:
                x = ew.minimum(x, _bound(target.max, x.dtype, up=False))
        return cast(x, target, name=scope)


def _bound(limit: int, dtype: types.DType, up: bool) -> Any:
    """An integer limit as the nearest value of `dtype` inside it."""
    if dtype.kind in "iu":
        return int(limit)
    storage = np.float32 if dtype is types.bfloat16 else dtype.np.type
    value = storage(limit)
    if not np.isfinite(value):
        return float(np.finfo(storage).min if up else np.finfo(storage).max)
    while builtins.int(value) < limit if up else builtins.int(value) > limit:
        value = np.nextafter(value, storage(0))
    return float(value)


def _caster(name: str, dtype: types.DType, default: str) -> Callable[..., Any]:
    def fn(x: Any, name: str = default) -> Any:
        return cast(x, dtype, name=name)
    fn.__name__ = fn.__qualname__ = name
    fn.__doc__ = f"`x` as {dtype.name}; see `cast`."
    return fn


to_float, to_double = _caster("to_float", types.float32, "ToFloat"), _caster("to_double", types.float64, "ToDouble")
to_int32, to_int64 = _caster("to_int32", types.int32, "ToInt32"), _caster("to_int64", types.int64, "ToInt64")
to_bfloat16 = _caster("to_bfloat16", types.bfloat16, "ToBFloat16")
to_complex64, to_complex128 = _caster("to_complex64", types.complex64,
                                      "ToComplex64"), _caster("to_complex128", types.complex128, "ToComplex128")


def complex(real: Any, imag: Any, name: str | None = None) -> Tensor:
    """real + i imag, of two float32 (complex64) or two float64 (complex128) tensors."""
    with _in_scope(name, "Complex", real, imag) as scope:
        re, im = _pair(real, imag)
        return ew.complex_op(re, im, name=scope)


def _part(op: Any, real_case: Callable[[Tensor], Tensor], x: Any, name: str | None) -> Tensor:
    x = convert_to_tensor(x)
    return op(x, name=name) if x.dtype.is_complex else real_case(x)


def real(input: Any, name: str | None = None) -> Tensor:
    """The real part; a real tensor itself."""
    return _part(ew.real_op, lambda x: x, input, name)


def imag(input: Any, name: str | None = None) -> Tensor:
    """The imaginary part; zeros for a real tensor."""
    return _part(ew.imag_op, lambda x: shape_like.zeros_like(x, name=name), input, name)


def conj(x: Any, name: str | None = None) -> Tensor:
    """The complex conjugate; a real tensor itself."""
    return _part(ew.conj_op, lambda t: t, x, name)


def angle(input: Any, name: str | None = None) -> Tensor:
    """The argument of a complex number in [-pi, pi]; 0 or pi for a real one."""
    return _part(ew.angle_op, lambda x: ew.atan2(shape_like.zeros_like(x), x, name=name), input, name)


# ---------------------------------------------------------------- reductions


def _given(new: Any, *old: Any) -> Any:
    """The value of an argument with older names.  Raises ValueError when two are given."""
    given = [v for v in (new, *old) if v is not None]
    if len(given) > 1:
        raise ValueError("Cannot specify an argument under both its new and its old name (axis/reduction_indices/dimension, "
                         "keepdims/keep_dims)")
    return given[0] if given else None


def _axes(x: Tensor, axis: Any) -> tuple[int, ...] | None:
    """The axes as a sorted tuple, None for all.

    Raises:
        ValueError: out of range, given twice, or not known while the graph is built.
    """
    if axis is None:
        return None
    if isinstance(axis, Tensor) or hasattr(axis, "_as_tensor"):
        found = constant_value(axis)
        if found is None:
            raise ValueError(f"the axis of a reduction must be known when the graph is built, got {axis!r}")
        axis = found
    values = [_axis_number(a)
              for a in (axis.reshape(-1) if isinstance(axis, np.ndarray) else axis if hasattr(axis, "__iter__") else [axis])]
    if x.sizes is None:
        return tuple(values)
    rank = len(x.sizes)
    places = sorted(types.canonical_axis(v, rank, "reduction dimension") for v in values)
    if len(set(places)) < len(places):
        raise ValueError(f"Invalid reduction arguments: axes contain a dimension twice: {values}")
    return tuple(places)


def _axis_number(a: Any) -> int:
    if isinstance(a, Tensor):
        found = constant_value(a)
        a = None if found is None else found[()]
    if isinstance(a, bool) or not hasattr(a, "__index__"):
        raise TypeError(f"an axis must be an integer, got {a!r}")
    return int(a)


def _reduced(op: Any, input_tensor: Any, axis: Any, keepdims: Any, name: str | None, reduction_indices: Any = None, keep_dims: Any = None,
             **attrs: Any) -> Tensor:
    x = input_tensor if isinstance(input_tensor, Tensor) else convert_to_tensor(input_tensor, name="input_tensor")
    axes = _axes(x, _given(axis, reduction_indices))
    keep = _given(keepdims, keep_dims)
    return op(x, axis=axes, keepdims=bool(keep), name=name, **attrs)


def _reduction(op: Any, name: str) -> Callable[..., Tensor]:
    def fn(input_tensor: Any, axis: Any = None, keepdims: Any = None, name: str | None = None, reduction_indices: Any = None,
           keep_dims: Any = None) -> Tensor:
        return _reduced(op, input_tensor, axis, keepdims, name, reduction_indices, keep_dims)
    fn.__name__ = fn.__qualname__ = name
    fn.__doc__ = f"""{(op.__doc__ or '').strip()}

    Args:
        input_tensor: {', '.join(d.name for d in op.dtypes)}.
        axis: one axis or several; None folds all of them.  keepdims: keep them with size 1.

    Raises:
        ValueError: an axis out of range or given twice.
    """
    return fn


reduce_sum, reduce_mean = _reduction(reduce.reduce_sum_op, "reduce_sum"), _reduction(reduce.reduce_mean_op, "reduce_mean")
reduce_prod = _reduction(reduce.reduce_prod_op, "reduce_prod")
reduce_max, reduce_min = _reduction(reduce.reduce_max_op, "reduce_max"), _reduction(reduce.reduce_min_op, "reduce_min")
reduce_all, reduce_any = _reduction(reduce.reduce_all_op, "reduce_all"), _reduction(reduce.reduce_any_op, "reduce_any")
reduce_logsumexp = _reduction(reduce.logsumexp_op, "reduce_logsumexp")
reduce_euclidean_norm = _reduction(reduce.euclidean_norm_op, "reduce_euclidean_norm")


def reduce_variance(input_tensor: Any, axis: Any = None, keepdims: Any = False, name: str | None = None) -> Tensor:
    """The mean squared distance from the mean over `axis`."""
    return _reduced(reduce.reduce_variance_op, input_tensor, axis, keepdims, name)


def reduce_std(input_tensor: Any, axis: Any = None, keepdims: Any = False, name: str | None = None) -> Tensor:
    """The standard deviation over `axis`: the square root of `reduce_variance`."""
    with _in_scope(name, "reduce_std", input_tensor) as scope:
        return ew.sqrt(reduce_variance(input_tensor, axis, keepdims), name=scope)


def count_nonzero(input_tensor: Any = None, axis: Any = None, keepdims: Any = None, dtype: Any = types.int64, name: str | None = None,
                  reduction_indices: Any = None, keep_dims: Any = None, input: Any = None) -> Tensor:
    """How many elements over `axis` are not 0, as `dtype`."""
    return _reduced(reduce.count_nonzero_op, _given(input_tensor, input), axis, keepdims, name, reduction_indices, keep_dims,
                    dtype=types.as_dtype(dtype))


def zero_fraction(value: Any, name: str | None = None) -> Tensor:
    """The fraction of zeros in `value`, a float32 scalar; nan of no elements."""
    with _in_scope(name, "zero_fraction", value):
        value = convert_to_tensor(value, name="value")
        zeros = cast(ew.equal(value, shape_like.zeros_like(value)), types.float32)
        return reduce_mean(zeros, name="fraction")


def argmax(input: Any, axis: Any = None, name: str | None = None, dimension: Any = None, output_type: Any = types.int64) -> Tensor:
    """The position of the largest element along `axis` (0 when not given), the first of equals; of the first nan, if any.

    Raises:
        ValueError: the axis is out of range or has size 0.
    """
    return _arg(reduce.arg_max, input, _given(axis, dimension), output_type, name)


def argmin(input: Any, axis: Any = None, name: str | None = None, dimension: Any = None, output_type: Any = types.int64) -> Tensor:
    """The position of the smallest element along `axis`; as `argmax`."""
    return _arg(reduce.arg_min, input, _given(axis, dimension), output_type, name)


def arg_max(input: Any, dimension: Any, output_type: Any = types.int64, name: str | None = None) -> Tensor:
    """The old form of `argmax`."""
    return _arg(reduce.arg_max, input, dimension, output_type, name)


def arg_min(input: Any, dimension: Any, output_type: Any = types.int64, name: str | None = None) -> Tensor:
    """The old form of `argmin`."""
    return _arg(reduce.arg_min, input, dimension, output_type, name)


def _arg(op: Any, input: Any, axis: Any, output_type: Any, name: str | None) -> Tensor:
    x = convert_to_tensor(input, name="input")
    place, = _axes(x, 0 if axis is None else axis) or (0,)
    return op(x, axis=place, output_type=types.as_dtype(output_type), name=name)


# ---------------------------------------------------------------- scans, sums of several, counting


def cumsum(x: Any, axis: Any = 0, exclusive: bool = False, reverse: bool = False, name: str | None = None) -> Tensor:
    """The running sum along `axis`: [a, a+b, a+b+c]; `exclusive` gives [0, a, a+b], `reverse` runs from the end."""
    return _scanned(scan.cumsum_op, x, axis, exclusive, reverse, name)


def cumprod(x: Any, axis: Any = 0, exclusive: bool = False, reverse: bool = False, name: str | None = None) -> Tensor:
    """The running product along `axis`: [a, ab, abc]; `exclusive` gives [1, a, ab], `reverse` runs from the end."""
    return _scanned(scan.cumprod_op, x, axis, exclusive, reverse, name)


def _scanned(op: Any, x: Any, axis: Any, exclusive: bool, reverse: bool, name: str | None) -> Tensor:
    x = convert_to_tensor(x, name="x")
    place, = _axes(x, axis)  # type: ignore[misc]
    return op(x, axis=place, exclusive=bool(exclusive), reverse=bool(reverse), name=name)


def add_n(inputs: Any, name: str | None = None) -> Any:
    """The sum of a list of tensors (or IndexedSlices) of one dtype and shape.

    Raises:
        ValueError: no list, an empty one, or shapes that differ.  TypeError: dtypes that differ.
    """
    if not isinstance(inputs, (list, tuple)) or not inputs:
        raise ValueError("inputs must be a list of at least one Tensor/IndexedSlices with the same dtype and shape")
    tensors = [convert_to_tensor(shape_like.to_dense(t)) for t in inputs]
    if len(tensors) == 1:
        return graph.OPERATORS["identity"](tensors[0], name=name) if name and "identity" in graph.OPERATORS else tensors[0]
    return ew.add_n_op(*tensors, name=name)


def accumulate_n(inputs: Any, shape: Any = None, tensor_dtype: Any = None, name: str | None = None) -> Any:
    """`add_n`; `shape` and `tensor_dtype` are checked."""
    if not isinstance(inputs, (list, tuple)) or not inputs:
        raise ValueError("inputs must be a list of at least one Tensor with the same dtype and shape")
    tensors = [convert_to_tensor(t) for t in inputs]
    if tensor_dtype is not None and tensors[0].dtype is not types.as_dtype(tensor_dtype):
        raise TypeError(f"tensor_dtype is {types.as_dtype(tensor_dtype).name}, but input is of type {tensors[0].dtype.name}")
    if any(t.dtype is not tensors[0].dtype for t in tensors):
        raise ValueError("inputs must be a list of at least one Tensor with the same dtype and shape, got dtypes "
                         f"{[t.dtype.name for t in tensors]}")
    for t in tensors if shape is not None else ():
        types.merge_shapes(t.sizes, types.as_shape(shape))
    return add_n(tensors, name=name or "AccumulateNV2" if len(tensors) > 1 else name)


def lbeta(x: Any, name: str | None = None) -> Tensor:
    """log |Beta(x)| over the last axis: sum(lgamma(x)) - lgamma(sum(x))."""
    with _in_scope(name, "lbeta", x) as scope:
        x = convert_to_tensor(x, name="x")
        return ew.subtract(reduce_sum(ew.lgamma(x), axis=[-1]), ew.lgamma(reduce_sum(x, axis=[-1])), name=scope)


def polyval(coeffs: Sequence[Any], x: Any, name: str | None = None) -> Tensor:
    """The polynomial with `coeffs` (highest power first) at `x`, by Horner's rule."""
    if not isinstance(coeffs, list):
        raise ValueError(f"Argument coeffs must be list type, found {type(coeffs)}.")
    with _in_scope(name, "polyval", x) as scope:
        x = convert_to_tensor(x, name="x")
        if not coeffs:
            return shape_like.zeros_like(x, name=scope)
        p = convert_to_tensor(coeffs[0], None if _typed(coeffs[0]) else x.dtype)
        for c in coeffs[1:]:
            p = p * x + c
        return p


@primitive("host", type="Bincount", no_gradient="a count", input_dtypes={"arr": types.INTEGER, "weights": types.FLOAT + types.INTEGER},
           same=("arr",),
           output_dtypes=lambda arr, weights=None, *, dtype, **_: [dtype],
           samples=[lambda rng: ((rng.integers(0, 5, 9).astype(np.int32),), {}),
                    lambda rng: ((rng.integers(0, 5, 9).astype(np.int32), rng.normal(size=9)), {"dtype": types.float64})])
def bincount_op(arr, weights=None, *, minlength=0, maxlength=None, dtype=types.int32):
    """How often each value occurs in a tensor of non-negative integers, or the sum of its weights."""


@bincount_op.infers
def _(arr: Tensor, weights: Tensor | None = None, *, minlength: int, maxlength: int | None, dtype: types.DType) -> Spec:
    return Spec(dtype, (types.UNKNOWN,))


@bincount_op.reference
def _(arr: np.ndarray, weights: np.ndarray | None = None, *, minlength: int, maxlength: int | None, dtype: types.DType) -> np.ndarray:
    if arr.size and arr.min() < 0:
        raise ValueError(f"Input arr must be non-negative, got {arr.min()}")
    flat = arr.reshape(-1)
    w = None if weights is None else np.broadcast_to(weights, arr.shape).reshape(-1)
    least = builtins.max(minlength, int(flat.max(initial=-1)) + 1)
    if maxlength is not None:
        keep, least = flat < maxlength, builtins.min(least, maxlength)
        flat, w = flat[keep], None if w is None else w[keep]
    return np.bincount(flat, w, least)


def bincount(arr: Any, weights: Any = None, minlength: Any = None, maxlength: Any = None, dtype: Any = types.int32,
             name: str | None = None) -> Tensor:
    """Counts (or sums the weights) of each integer in `arr`.

    Args:
        arr: non-negative integers of any shape.  weights: of the same shape; its dtype is then the result's.
        minlength, maxlength: the result has at least, at most so many elements.

    Raises:
        InvalidArgumentError (at run time): a negative value.
    """
    arr = cast(convert_to_tensor(arr, name="arr"), types.int32)
    low, high = (None if v is None else int(np.asarray(constant_value(v) if isinstance(v, Tensor) else v)) for v in (minlength, maxlength))
    if weights is not None:
        weights = convert_to_tensor(weights, name="weights")
        dtype = weights.dtype
    return bincount_op(*[t for t in (arr, weights) if t is not None], minlength=low or 0, maxlength=high, dtype=types.as_dtype(dtype),
                       name=name)


# Names from before TF 1.0.
mul, sub, neg = multiply, subtract, negative

# ---------------------------------------------------------------- operators of tensors


def _by_dtype(on_bool: Any, on_int: Any, name: str) -> Callable[..., Tensor]:
    """`&`, `|`, `^`: logic of booleans, bits of integers."""
    def fn(x: Any, y: Any) -> Tensor:
        known = x if _typed(x) else y
        return _apply2(on_int if convert_to_tensor(known).dtype.is_integer else on_bool, name, x, y, None)
    return fn


def _invert(x: Any) -> Tensor:
    x = convert_to_tensor(x)
    return ew.invert(x) if x.dtype.is_integer else ew.logical_not(x)


graph.OPERATORS.update({
    "add": _adder("add"), "sub": _binary(ew.subtract, "sub", "sub"), "mul": _binary(ew.multiply, "mul", "mul"),
    "truediv": truediv, "div": div,
    "floordiv": floordiv, "mod": _binary(ew.floor_mod, "mod", "mod"), "pow": _binary(ew.pow, "pow", "pow"),
    "and": _by_dtype(ew.logical_and, ew.bitwise_and, "and"), "or": _by_dtype(ew.logical_or, ew.bitwise_or, "or"),
    "xor": _by_dtype(ew.logical_xor, ew.bitwise_xor, "xor"), "lt": less, "le": less_equal, "gt": greater, "ge": greater_equal,
    "neg": negative, "abs": abs, "invert": _invert})

__all__ = [
    "abs", "accumulate_n", "acos", "acosh", "add", "add_n", "angle", "arg_max", "arg_min", "argmax", "argmin", "asin", "asinh", "atan",
    "atan2", "atanh",
    "bincount", "cast", "ceil", "clip_by_value", "complex", "conj", "cos", "cosh", "count_nonzero", "cumprod", "cumsum", "digamma", "div",
    "div_no_nan", "divide",
    "equal", "erf", "erfc", "exp", "expm1", "floor", "floor_div", "floordiv", "floormod", "greater", "greater_equal", "imag", "is_finite",
    "is_inf", "is_nan",
    "lbeta", "less", "less_equal", "lgamma", "log", "log1p", "log_sigmoid", "logical_and", "logical_not", "logical_or", "logical_xor",
    "maximum", "minimum", "mod",
    "mul", "multiply", "neg", "negative", "not_equal", "pow", "real", "realdiv", "reciprocal", "reduce_all", "reduce_any",
    "reduce_logsumexp", "reduce_max",
    "reduce_mean", "reduce_min", "reduce_prod", "reduce_sum", "rint", "round", "rsqrt", "saturate_cast", "scalar_mul", "sigmoid", "sign",
    "sin", "sinh", "sqrt",
    "square", "squared_difference", "sub", "subtract", "tan", "tanh", "to_bfloat16", "to_complex128", "to_complex64", "to_double",
    "to_float", "to_int32", "to_int64",
    "truediv", "truncatediv", "truncatemod"]
