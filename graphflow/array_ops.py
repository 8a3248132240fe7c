"""TF's array functions with TF1's names and argument forms, written on graphflow/ops/array.py and indexing.py."""
from __future__ import annotations

import builtins
from typing import Any, Sequence

import numpy as np

from . import errors, graph, types
from .graph import Tensor
from .ops import array, indexing, opdef
from .ops.array import size_along, values_of, vector
from .ops.indexed_slices import IndexedSlices, IndexedSlicesValue
from .ops.opdef import constant, constant_value, convert_to_tensor
from .types import Dim, Dimension, TensorShape

newaxis = None


# ---------------------------------------------------------------- arguments


def _scope(name: str | None, default: str) -> Any:
    return graph.get_default_graph().name_scope(name or default)


def _first(*values: Any) -> Any:
    """The argument given under its new or one of its old names."""
    return next((v for v in values if v is not None), None)


def shape_argument(shape: Any, dtype: types.DType = types.int32) -> Tensor:
    """A shape (list of ints, sizes and scalar tensors; TensorShape; tensor) as an integer vector.

    Raises:
        ValueError: a TensorShape or Dimension that is not known; use tf.shape.  TypeError: not integers.
    """
    if isinstance(shape, Tensor) or hasattr(shape, "_as_tensor"):
        shape = convert_to_tensor(shape)
        if shape.dtype not in array.INDEX:
            raise TypeError(f"a shape must be int32 or int64, got {shape.dtype.name} of {shape!r}")
        return shape
    if isinstance(shape, TensorShape):
        if not shape.is_fully_defined():
            raise ValueError(f"Cannot convert a partially known TensorShape to a Tensor: {shape}; use tf.shape(x) for sizes known at run time")
        shape = shape.as_list()
    if isinstance(shape, np.ndarray):
        if shape.dtype.kind not in "iu" and shape.size:
            raise TypeError(f"a shape must hold integers, got an array of {shape.dtype}")
        return constant(shape.astype(np.int64 if shape.dtype == np.int64 and shape.size and builtins.max(shape.flat) >= 2**31 else np.int32))
    if not hasattr(shape, "__iter__"):
        shape = [shape]
    return _integers([_size(s) for s in shape])


def _size(s: Any) -> Any:
    if isinstance(s, (Tensor, Dim)) or hasattr(s, "_as_tensor"):
        return s
    if s is None or isinstance(s, Dimension) and s.value is None:
        raise ValueError("a size of None is not known; use tf.shape(x)[i], or -1 where one size can be inferred")
    if isinstance(s, (float, np.floating)) or isinstance(s, bool) or not hasattr(s, "__index__"):
        raise TypeError(f"Expected int32, got {s!r} of type '{type(s).__name__}' instead.")
    return int(s)


def _integers(values: Sequence[Any]) -> Tensor:
    tensors = [convert_to_tensor(v) for v in values if not isinstance(v, (int, Dim))]
    if any(t.dtype is types.int64 for t in tensors):
        return array.pack(*[_as_int64(v) for v in values], axis=0)
    return vector(*[v if isinstance(v, (int, Dim)) else convert_to_tensor(v) for v in values])


def _as_int64(v: Any) -> Tensor:
    return constant(v, types.int64) if isinstance(v, int) else _cast(vector(v)[0] if isinstance(v, Dim) else v, types.int64)


def _cast(x: Any, dtype: types.DType) -> Tensor:
    from .math_ops import cast

    return cast(x, dtype)


def _static_int(value: Any, what: str) -> int:
    """An integer that must be known while the graph is built."""
    if isinstance(value, Tensor) or hasattr(value, "_as_tensor"):
        found = constant_value(value)
        if found is None:
            raise ValueError(f"{what} must be known when the graph is built, got {value!r}")
        value = found[()] if found.ndim == 0 else found.reshape(-1)[0]
    if isinstance(value, bool) or not hasattr(value, "__index__"):
        raise TypeError(f"{what} must be an integer, got {value!r}")
    return int(value)


def _static_ints(values: Any, what: str) -> tuple[int, ...]:
    if isinstance(values, Tensor) or hasattr(values, "_as_tensor"):
        found = constant_value(values)
        if found is None:
            raise ValueError(f"{what} must be known when the graph is built, got {values!r}")
        values = found
    return tuple(_static_int(v, what) for v in (np.ravel(values) if isinstance(values, np.ndarray) else values if hasattr(values, "__iter__") else [values]))


def _axis(axis: Any, rank: int | None, what: str = "axis") -> int:
    """The axis as a static integer, non-negative when the rank is known."""
    k = _static_int(axis, what)
    return k if rank is None else types.canonical_axis(k, rank, what)


def _rank(x: Tensor) -> int | None:
    return None if x.sizes is None else len(x.sizes)


# ---------------------------------------------------------------- inputs


def placeholder(dtype: Any, shape: Any = None, name: str | None = None) -> Tensor:
    """A tensor to be fed: running without feeding it is an InvalidArgumentError.

    Args:
        dtype: the element type.  shape: sizes with None where unknown, or None for an unknown rank.
    """
    return array.placeholder(dtype=types.as_dtype(dtype).base_dtype, shape=types.as_shape(shape), name=name)


def placeholder_with_default(input: Any, shape: Any, name: str | None = None) -> Tensor:
    """A tensor that has the value of `input` unless something else is fed."""
    return array.placeholder_with_default(input, shape=types.as_shape(shape), name=name)


def identity(input: Any, name: str | None = None) -> Any:
    """The same value as a new tensor."""
    if isinstance(input, IndexedSlices):
        return IndexedSlices(identity(input.values, name), input.indices, input.dense_shape)
    return array.identity(input, name=name)


def guarantee_const(input: Any, name: str | None = None) -> Tensor:
    """`input`, which the program promises never to change."""
    return array.identity(input, name=name or "GuaranteeConst")


def ensure_shape(x: Any, shape: Any, name: str | None = None) -> Tensor:
    """`x`, checked at run time to have `shape`, and known to have it from here on."""
    return array.ensure_shape(x, shape=types.as_shape(shape), name=name)


def bitcast(input: Any, type: Any, name: str | None = None) -> Tensor:
    """The bits of `input` read as another dtype."""
    return array.bitcast(input, dtype=types.as_dtype(type), name=name)


# ---------------------------------------------------------------- shapes


def shape(input: Any, name: str | None = None, out_type: Any = types.int32, optimize: bool = True) -> Tensor:
    """The run-time shape of `input` as a vector of `out_type`."""
    if isinstance(input, IndexedSlices):
        return input.dense_shape
    return array.shape_of(input, out_type=types.as_dtype(out_type), name=name)


def shape_n(input: Any, out_type: Any = types.int32, name: str | None = None) -> list[Tensor]:
    """`shape` of each tensor of a list."""
    return [shape(x, name, out_type) for x in input]


def size(input: Any, name: str | None = None, out_type: Any = types.int32) -> Tensor:
    """The number of elements, as a scalar."""
    return array.size_of(input, out_type=types.as_dtype(out_type), name=name)


def rank(input: Any, name: str | None = None) -> Tensor:
    """The number of dimensions, as an int32 scalar."""
    return array.rank_of(input, name=name)


def reshape(tensor: Any, shape: Any, name: str | None = None) -> Tensor:
    """The elements of `tensor` in row-major order as an array of `shape`; one size may be -1.

    Raises:
        ValueError: the number of elements differs.
    """
    return array.reshape(tensor, shape_argument(shape), name=name)


def expand_dims(input: Any, axis: Any = None, name: str | None = None, dim: Any = None) -> Tensor:
    """`input` with a dimension of size 1 put in at `axis`."""
    axis = _first(axis, dim)
    if axis is None:
        raise ValueError("Must specify an axis argument to tf.expand_dims()")
    x = convert_to_tensor(input)
    return array.expand_dims(x, axis=_axis(axis, None if x.sizes is None else len(x.sizes) + 1, "dim"), name=name)


def squeeze(input: Any, axis: Any = None, name: str | None = None, squeeze_dims: Any = None) -> Tensor:
    """`input` without its dimensions of size 1, or without those of `axis` only."""
    axis = _first(axis, squeeze_dims)
    x = convert_to_tensor(input)
    axes = () if axis is None else tuple(sorted({_axis(a, _rank(x), "squeeze_dims") for a in _static_ints(axis, "axis")}))
    return array.squeeze(x, axis=axes, name=name)


def transpose(a: Any, perm: Any = None, name: str | None = None, conjugate: bool = False) -> Tensor:
    """`a` with its dimensions in the order `perm`, or reversed; conjugated if asked for."""
    x = convert_to_tensor(a)
    if conjugate and x.dtype.is_complex:
        from .ops.elementwise import conj

        x = conj(x)
    return array.transpose(x, perm=None if perm is None else _static_ints(perm, "perm"), name=name)


def matrix_transpose(a: Any, name: str | None = None, conjugate: bool = False) -> Tensor:
    """`a` with its last two dimensions exchanged."""
    x = convert_to_tensor(a)
    if x.sizes is None or len(x.sizes) < 2:
        raise ValueError(f"Argument `a` should be a (batch) matrix of rank at least 2, got shape {x.shape}")
    n = len(x.sizes)
    return transpose(x, [*builtins.range(n - 2), n - 1, n - 2], name or "matrix_transpose", conjugate)


# ---------------------------------------------------------------- creation


def fill(dims: Any, value: Any, name: str | None = None) -> Tensor:
    """An array of shape `dims` of the scalar `value`."""
    return array.fill(shape_argument(dims), value, name=name)


def zeros(shape: Any, dtype: Any = types.float32, name: str | None = None) -> Tensor:
    """An array of zeros; of empty strings or False for these dtypes."""
    return _filled(shape, dtype, 0, name or "zeros")


def ones(shape: Any, dtype: Any = types.float32, name: str | None = None) -> Tensor:
    """An array of ones."""
    return _filled(shape, dtype, 1, name or "ones")


def _filled(shape: Any, dtype: Any, value: int, name: str) -> Tensor:
    dtype = types.as_dtype(dtype).base_dtype
    with _scope(name, name) as scope:
        scalar: Any = (b"", b"1")[value] if dtype.kind == "s" else bool(value) if dtype.kind == "b" else value
        return array.fill(shape_argument(shape), constant(scalar, dtype), name=scope)


def eye(num_rows: Any, num_columns: Any = None, batch_shape: Any = None, dtype: Any = types.float32, name: str | None = None) -> Tensor:
    """An identity matrix, repeated for `batch_shape`."""
    batch = [] if batch_shape is None else batch_shape
    with _scope(name, "eye") as scope:
        rows_columns = [num_rows, num_rows if num_columns is None else num_columns]
        if isinstance(batch, Tensor):
            whole = array.concat(batch, shape_argument(rows_columns), axis=0)
        else:
            whole = shape_argument([*batch, *rows_columns])
        return array.eye_op(whole, dtype=types.as_dtype(dtype), name=scope)


def range(start: Any, limit: Any = None, delta: Any = 1, dtype: Any = None, name: str = "range") -> Tensor:  # noqa: A001
    """start, start + delta, ... up to but not including `limit`; `range(n)` starts at 0.

    Raises:
        ValueError: `delta` is 0, or leads away from `limit`.
    """
    start, limit = (0, start) if limit is None else (start, limit)
    with _scope(name, "range") as scope:
        if dtype is None:
            found = [v.dtype.base_dtype if isinstance(v, Tensor) or hasattr(v, "_as_tensor") else convert_to_tensor(v).dtype for v in (start, limit, delta)]
            dtype = builtins.max(found, key=lambda d: ["int32", "int64", "float16", "bfloat16", "float32", "float64"].index(d.name))
        dtype = types.as_dtype(dtype)
        a, b, d = [_number(v, dtype) for v in (start, limit, delta)]
        if dtype.is_integer:
            return array.range_op(a, b, d, name=scope)
        return _float_range(a, b, d, dtype, scope)


def _number(v: Any, dtype: types.DType) -> Tensor:
    if isinstance(v, Tensor) or hasattr(v, "_as_tensor"):
        t = convert_to_tensor(v)
        return t if t.dtype is dtype else _cast(t, dtype)
    return constant(dtype.np.type(v) if dtype is not types.bfloat16 else v, dtype)


def _float_range(a: Tensor, b: Tensor, d: Tensor, dtype: types.DType, name: str) -> Tensor:
    """start + i * delta: only the number of elements must be known when kernels are made."""
    fixed = [constant_value(t) for t in (a, b, d)]
    if all(f is not None for f in fixed):
        start, stop, step = [float(f) for f in fixed]  # type: ignore[arg-type]
        if step == 0:
            raise ValueError("Requires delta != 0: 0.0")
        if (stop - start) * step < 0:
            raise ValueError(f"Requires start {'<=' if step > 0 else '>='} limit when delta {'>' if step > 0 else '<'} 0: {start}/{stop}")
        n: Any = constant(int(np.ceil((stop - start) / step)))
    else:
        from .math_ops import ceil

        n = _cast(ceil((b - a) / d), types.int32)
    steps = array.range_op(constant(0), n, constant(1))
    return identity(a + _cast(steps, dtype) * d, name)


def linspace(start: Any, stop: Any, num: Any, name: str | None = None) -> Tensor:
    """`num` evenly spaced numbers from `start` to `stop`, both included."""
    return array.lin_space(start, stop, num, name=name)


lin_space = linspace


# ---------------------------------------------------------------- joining and slicing


def concat(values: Any, axis: Any, name: str = "concat") -> Tensor:
    """The tensors one after the other along `axis`.

    Raises:
        ValueError: sizes differ in another dimension.  TypeError: dtypes differ, or the arguments are in the order of TF 0.x.
    """
    if isinstance(values, int) and not isinstance(axis, int):
        raise TypeError("tf.concat takes (values, axis) since TF 1.0; the arguments look like the old order (concat_dim, values)")
    if not isinstance(values, (list, tuple)):
        values = [values]
    tensors = _tensors(values)
    if not tensors:
        raise ValueError("tf.concat needs at least one value")
    if len(tensors) == 1:
        return identity(tensors[0], name)
    return array.concat(*tensors, axis=_axis(axis, next((len(t.sizes) for t in tensors if t.sizes is not None), None), "concat dimension"), name=name)


def _tensors(values: Sequence[Any]) -> list[Tensor]:
    """Tensors of one dtype: that of the first that has one."""
    shared = opdef._first_dtype(list(values))
    return [convert_to_tensor(v, None if isinstance(v, Tensor) else shared) for v in values]


def stack(values: Any, axis: Any = 0, name: str = "stack") -> Tensor:
    """Tensors of one shape along a new dimension `axis`."""
    if isinstance(values, (Tensor, np.ndarray)):
        values = unstack(values) if isinstance(values, Tensor) else list(values)
    tensors = _tensors(list(values))
    if not tensors:
        raise ValueError("tf.stack needs at least one value")
    known = next((len(t.sizes) + 1 for t in tensors if t.sizes is not None), None)
    return array.pack(*tensors, axis=_axis(axis, known), name=name or "stack")


def unstack(value: Any, num: int | None = None, axis: Any = 0, name: str = "unstack") -> list[Tensor]:
    """The slices of `value` along `axis`, as a list.

    Raises:
        ValueError: the size of the axis is not known and `num` is not given.
    """
    x = convert_to_tensor(value)
    k = _axis(axis, _rank(x))
    n = None if x.sizes is None else x.sizes[k]
    if num is None:
        if n is None or types.is_unknown(n):
            raise ValueError(f"Cannot infer argument `num` from shape {x.shape}")
        num = n
    elif n is not None and types.same(n, num) is False:
        raise ValueError(f"Dimension {k} of shape {x.shape} is not num={num}")
    with _scope(name, "unstack"):
        return [array.strided_slice(x, spec=(*[array.FULL] * k, ("i", i), ("e",)), name="unstack") for i in builtins.range(num)]


pack, unpack = stack, unstack


def split(value: Any, num_or_size_splits: Any, axis: Any = 0, num: int | None = None, name: str = "split") -> list[Tensor]:
    """`value` cut along `axis` into a number of equal parts, or into parts of the sizes given (one may be -1).

    Raises:
        ValueError: the axis cannot be cut so.
    """
    x = convert_to_tensor(value)
    k = _axis(axis, _rank(x))
    with _scope(name, "split"):
        n = size_along(x, k)
        if isinstance(num_or_size_splits, (int, np.integer, Dimension)):
            return _equal_parts(x, k, n, int(num_or_size_splits))
        given = constant_value(num_or_size_splits) if isinstance(num_or_size_splits, Tensor) else None
        if given is not None and given.ndim == 0:
            return _equal_parts(x, k, n, int(given))
        sizes = unstack(num_or_size_splits, num) if isinstance(num_or_size_splits, Tensor) and given is None else \
            [_size(s) for s in (given if given is not None else num_or_size_splits)]
        if any(isinstance(s, int) and s == -1 for s in sizes):
            rest = n
            for s in sizes:
                rest = rest if isinstance(s, int) and s == -1 else rest - s
            sizes = [rest if isinstance(s, int) and s == -1 else s for s in sizes]
        elif isinstance(n, int) and all(isinstance(s, int) for s in sizes) and sum(sizes) != n:
            raise ValueError(f"Sizes to split {sizes} must sum to the size of dimension {k}, which is {n}")
        return _parts(x, k, sizes)


def _equal_parts(x: Tensor, k: int, n: Any, num: int) -> list[Tensor]:
    if num < 1:
        raise ValueError(f"num_split must be at least 1, got {num}")
    if isinstance(n, int) and n % num:
        raise ValueError(f"Dimension size must be evenly divisible by {num} but is {n}: dimension {k} of {x.shape}")
    return _parts(x, k, [n // num] * num)


def _parts(x: Tensor, k: int, sizes: Sequence[Any]) -> list[Tensor]:
    out, at = [], 0
    for s in sizes:
        item = builtins.slice(at, at + s)
        out.append(getitem(x, (*[builtins.slice(None)] * k, item, Ellipsis), name="split"))
        at = at + s
    return out


def slice(input_: Any, begin: Any, size: Any, name: str | None = None) -> Tensor:  # noqa: A001
    """The block of `size` that starts at `begin`; a size of -1 means up to the end."""
    x = convert_to_tensor(input_)
    b, s = shape_argument(begin), shape_argument(size)
    found = values_of(s)
    if found is not None and values_of(b) is None and any(isinstance(v, int) and v == -1 for v in found):
        s = _integers([shape(x)[k] - b[k] if isinstance(v, int) and v == -1 else v for k, v in enumerate(found)])
    return array.slice_op(x, b, s, name=name)


def strided_slice(input_: Any, begin: Any, end: Any, strides: Any = None, begin_mask: int = 0, end_mask: int = 0, ellipsis_mask: int = 0,
                  new_axis_mask: int = 0, shrink_axis_mask: int = 0, var: Any = None, name: str | None = None) -> Tensor:
    """`x[begin[0]:end[0]:strides[0], ...]`, with bit k of a mask changing the meaning of item k, as in TF."""
    def items(v: Any) -> list[Any]:
        return unstack(v) if isinstance(v, Tensor) and constant_value(v) is None else \
            [int(i) for i in constant_value(v)] if isinstance(v, Tensor) else list(v)  # type: ignore[union-attr]

    begins, ends = items(begin), items(end)
    steps = [1] * len(begins) if strides is None else items(strides)
    key: list[Any] = []
    for k, (b, e, s) in enumerate(zip(begins, ends, steps)):
        bit = 1 << k
        if ellipsis_mask & bit:
            key.append(Ellipsis)
        elif new_axis_mask & bit:
            key.append(None)
        elif shrink_axis_mask & bit:
            key.append(b)
        else:
            key.append(builtins.slice(None if begin_mask & bit else b, None if end_mask & bit else e, s))
    return getitem(input_, tuple(key), name=name)


def getitem(x: Any, key: Any, name: str | None = None) -> Tensor:
    """`x[key]` with NumPy's basic indexing: ints, slices, None, Ellipsis, scalar tensors; or one boolean mask.

    Raises:
        TypeError: an index of another kind; use tf.gather for lists of positions.  ValueError: out of bounds.
    """
    x = convert_to_tensor(x)
    if _is_mask(key):
        return boolean_mask(x, key)
    spec: list[Any] = []
    indices: list[Tensor] = []
    bounds: list[Any] = []
    for item in key if isinstance(key, tuple) else (key,):
        spec.append(_item(item, indices, bounds))
    if spec.count(("e",)) > 1:
        raise ValueError("Multiple ellipses not allowed")
    if bounds:
        return array.bounded_slice(x, _integers(bounds), *indices, spec=tuple(spec), name=name)
    return array.strided_slice(x, *indices, spec=tuple(spec), name=name)


def _is_mask(key: Any) -> bool:
    if isinstance(key, np.ndarray):
        return key.dtype == bool
    return (isinstance(key, Tensor) or hasattr(key, "_as_tensor")) and key.dtype is types.bool_


def _item(item: Any, indices: list[Tensor], bounds: list[Any]) -> Any:
    """One item of an index as an item of a slice spec."""
    if item is None:
        return ("n",)
    if item is Ellipsis:
        return ("e",)
    if isinstance(item, builtins.slice):
        step = 1 if item.step is None else _static_int(item.step, "the step of a slice")
        return ("s", _end(item.start, bounds), _end(item.stop, bounds), step)
    if isinstance(item, Tensor) or hasattr(item, "_as_tensor"):
        t = convert_to_tensor(item)
        if t.dtype.kind not in "iu" or t.sizes not in (None, ()):
            raise TypeError(_bad_index(item))
        found = constant_value(t)
        if found is not None:
            return ("i", int(found))
        indices.append(t)
        return ("t", len(indices) - 1)
    if isinstance(item, Dim):
        return ("i", item)
    if isinstance(item, bool) or not hasattr(item, "__index__") or isinstance(item, np.ndarray) and item.ndim:
        raise TypeError(_bad_index(item))
    return ("i", int(item))


def _bad_index(item: Any) -> str:
    return (f"Only integers, slices (`:`), ellipsis (`...`), tf.newaxis (`None`) and scalar tf.int32/tf.int64 tensors are valid indices, got {item!r}; "
            "use tf.gather for several positions and tf.boolean_mask for a mask")


def _end(v: Any, bounds: list[Any]) -> Any:
    if v is None or isinstance(v, Dim):
        return v
    if isinstance(v, Tensor) or hasattr(v, "_as_tensor"):
        t = convert_to_tensor(v)
        found = constant_value(t)
        if found is not None:
            return int(found)
        bounds.append(t)
        return ("b", len(bounds) - 1)
    if isinstance(v, bool) or not hasattr(v, "__index__"):
        raise TypeError(_bad_index(v))
    return int(v)


# ---------------------------------------------------------------- gathering


def gather(params: Any, indices: Any, validate_indices: Any = None, name: str | None = None, axis: Any = None, batch_dims: int = 0) -> Tensor:
    """Slices of `params` along `axis` at the positions `indices`.

    Raises (when run):
        InvalidArgumentError: a position outside the axis.
    """
    params, indices = convert_to_tensor(params), convert_to_tensor(indices)
    axis = batch_dims if axis is None else axis
    return indexing.gather(params, indices, axis=_axis(axis, _rank(params)), batch_dims=_static_int(batch_dims, "batch_dims"), name=name)


graph.OPERATORS.update(getitem=getitem, stack=stack)

__all__ = [n for n in globals() if not n.startswith("_") and n not in (
    "annotations", "builtins", "Any", "Sequence", "np", "errors", "graph", "types", "Tensor", "array", "indexing", "opdef", "size_along", "values_of", "vector",
    "constant", "constant_value", "convert_to_tensor", "Dim", "Dimension", "TensorShape", "shape_argument")]
