"""TF's array functions with TF1's names and argument forms, written on graphflow/ops/array.py and indexing.py."""
from __future__ import annotations

import builtins
from typing import Any, NamedTuple, Sequence

import numpy as np

from . import graph, types
from .graph import Tensor
from .ops import array, indexing, opdef
from .ops.array import size_along, values_of, vector
from .ops.indexed_slices import IndexedSlices, IndexedSlicesValue
from .ops.opdef import constant, constant_value, convert_to_tensor
from .session import register_session_run_conversion_functions
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
            raise ValueError(f"Cannot convert a partially known TensorShape to a Tensor: {shape}; use tf.shape(x) for sizes known at run "
                             "time")
        shape = shape.as_list()
    if isinstance(shape, np.ndarray):
        if shape.dtype.kind not in "iu" and shape.size:
            raise TypeError(f"a shape must hold integers, got an array of {shape.dtype}")
        return constant(shape.astype(np.int64 if shape.dtype == np.int64 and shape.size
                                     and builtins.max(shape.flat) >= 2**31 else np.int32))
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
    return tuple(_static_int(v, what)
                 for v in (np.ravel(values) if isinstance(values, np.ndarray) else values if hasattr(values, "__iter__") else [values]))


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
    if hasattr(input, "_components"):  # a SparseTensor
        return input._with_components([identity(t, name) for t in input._components()])
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
    if hasattr(input, "dense_shape"):  # a SparseTensor
        return _cast(input.dense_shape, types.as_dtype(out_type))
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
    if isinstance(perm, Tensor) and constant_value(perm) is None:
        return array.transpose_by(x, perm, name=name)
    return array.transpose(x, perm=None if perm is None else _static_ints(perm, "perm"), name=name)


def matrix_transpose(a: Any, name: str | None = None, conjugate: bool = False) -> Tensor:
    """`a` with its last two dimensions exchanged."""
    x = convert_to_tensor(a)
    if x.sizes is None:
        if conjugate and x.dtype.is_complex:
            from .ops.elementwise import conj

            x = conj(x)
        return array.matrix_transpose_op(x, name=name or "matrix_transpose")
    if len(x.sizes) < 2:
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


def _few(shape: Any) -> bool:
    """Whether TF1 makes one constant of so many equal elements, instead of a shape, a value and a fill."""
    try:
        sizes = [int(n) for n in (shape if hasattr(shape, "__iter__") else [shape])]
    except (TypeError, ValueError):  # tensors, unknown sizes
        return False
    return bool(np.prod(sizes) < 1000)


def _filled(shape: Any, dtype: Any, value: int, name: str) -> Tensor:
    dtype = types.as_dtype(dtype).base_dtype
    with _scope(name, name) as scope, graph.get_default_graph().counted_as(1 if _few(shape) else 3):
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


@graph.counts_as(4)
def range(start: Any, limit: Any = None, delta: Any = 1, dtype: Any = None, name: str = "range") -> Tensor:
    """start, start + delta, ... up to but not including `limit`; `range(n)` starts at 0.

    Raises:
        ValueError: `delta` is 0, or leads away from `limit`.
    """
    start, limit = (0, start) if limit is None else (start, limit)
    with _scope(name, "range") as scope:
        if dtype is None:
            found = [v.dtype.base_dtype if isinstance(v, Tensor) or hasattr(v, "_as_tensor") else convert_to_tensor(v).dtype
                     for v in (start, limit, delta)]
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
    return array.concat(*tensors, axis=_axis(axis, next((len(t.sizes) for t in tensors if t.sizes is not None), None), "concat dimension"),
                        name=name)


concat_v2 = concat


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


@graph.counts_as(1)
def unstack(value: Any, num: Any = None, axis: Any = 0, name: str = "unstack") -> list[Tensor]:
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


@graph.counts_as(2)
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
            return _equal_parts(x, k, n, int(num_or_size_splits))  # type: ignore[arg-type]
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


def slice(input_: Any, begin: Any, size: Any, name: str | None = None) -> Tensor:
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
    return ("Only integers, slices (`:`), ellipsis (`...`), tf.newaxis (`None`) and scalar tf.int32/tf.int64 tensors are valid indices, "
            f"got {item!r}; "
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


def gather(params: Any, indices: Any, validate_indices: Any = None, name: str | None = None, axis: Any = None,
           batch_dims: int = 0) -> Tensor:
    """Slices of `params` along `axis` at the positions `indices`.

    Raises (when run):
        InvalidArgumentError: a position outside the axis.
    """
    params, indices = convert_to_tensor(params), convert_to_tensor(indices)
    axis = batch_dims if axis is None else axis
    return indexing.gather(params, indices, axis=_axis(axis, _rank(params)), batch_dims=_static_int(batch_dims, "batch_dims"), name=name)


def gather_nd(params: Any, indices: Any, name: str | None = None, batch_dims: int = 0) -> Tensor:
    """Slices of `params` at the positions in the last dimension of `indices`."""
    params, indices = convert_to_tensor(params), convert_to_tensor(indices)
    if batch_dims:
        return _batch_gather_nd(params, indices, batch_dims, name)
    return indexing.gather_nd(params, indices, name=name)


def _batch_gather_nd(params: Tensor, indices: Tensor, batch_dims: int, name: str | None) -> Tensor:
    """The positions get their own batch coordinates in front."""
    with _scope(name, "GatherNd"):
        sizes = [size_along(indices, k) for k in builtins.range(len(opdef.needs_rank(indices)) - 1)]
        parts = []
        for k in builtins.range(batch_dims):
            at = reshape(range(size_along(params, k), dtype=indices.dtype), [-1 if j == k else 1 for j in builtins.range(len(sizes) + 1)])
            parts.append(broadcast_to(at, [*sizes, 1]))
        return indexing.gather_nd(params, concat([*parts, indices], -1))


def batch_gather(params: Any, indices: Any, name: str | None = None) -> Tensor:
    """`gather` along the last dimension of `indices`, the earlier ones matched one to one."""
    indices = convert_to_tensor(indices)
    n = len(opdef.needs_rank(indices)) - 1
    return gather(params, indices, axis=n, batch_dims=n, name=name)


def scatter_nd(indices: Any, updates: Any, shape: Any, name: str | None = None) -> Tensor:
    """Zeros of `shape` with updates added at positions."""
    return indexing.scatter_nd(indices, updates, shape_argument(shape), name=name)


def tensor_scatter_update(tensor: Any, indices: Any, updates: Any, name: str | None = None) -> Tensor:
    """`tensor` with the slices at `indices` replaced."""
    return indexing.tensor_scatter_update(tensor, indices, updates, name=name)


def tensor_scatter_add(tensor: Any, indices: Any, updates: Any, name: str | None = None) -> Tensor:
    """`tensor` with updates added at `indices`."""
    return indexing.tensor_scatter_add(tensor, indices, updates, name=name)


def tensor_scatter_sub(tensor: Any, indices: Any, updates: Any, name: str | None = None) -> Tensor:
    """`tensor` with updates subtracted at `indices`."""
    return indexing.tensor_scatter_sub(tensor, indices, updates, name=name)


tensor_scatter_nd_update, tensor_scatter_nd_add, tensor_scatter_nd_sub = tensor_scatter_update, tensor_scatter_add, tensor_scatter_sub


def one_hot(indices: Any, depth: Any, on_value: Any = None, off_value: Any = None, axis: Any = None, dtype: Any = None,
            name: str | None = None) -> Tensor:
    """1 at the index and 0 elsewhere, along a new dimension of size `depth`: the last one, or `axis`.

    Raises:
        TypeError: `on_value`, `off_value` and `dtype` disagree.
    """
    given = [v for v in (on_value, off_value) if v is not None]
    if dtype is None:
        dtype = next((v.dtype for v in given if hasattr(v, "dtype")),
                     None) or (convert_to_tensor(given[0]).dtype if given else types.float32)
    dtype = types.as_dtype(dtype)
    on, off = [convert_to_tensor(v if v is not None else d if dtype.kind != "b" else bool(d), dtype) for v,
               d in ((on_value, 1), (off_value, 0))]
    indices = convert_to_tensor(indices)
    k = -1 if axis is None else _axis(axis, None if indices.sizes is None else len(indices.sizes) + 1)
    return indexing.one_hot(indices, depth, on, off, axis=k, name=name)


def where(condition: Any, x: Any = None, y: Any = None, name: str | None = None) -> Tensor:
    """The positions where `condition` holds; or with `x` and `y`, x where it holds and y elsewhere.

    A vector condition chooses whole rows of x and y of higher rank, as in TF1; otherwise all three broadcast.

    Raises:
        ValueError: only one of x and y is given, or the shapes do not fit.
    """
    from .ops.elementwise import select

    if (x is None) != (y is None):
        raise ValueError("x and y must both be non-None or both be None.")
    if x is None:
        return indexing.where_op(condition, name=name)
    condition = convert_to_tensor(condition, types.bool_)
    x, y = _tensors([x, y])
    if _rank(condition) == 1 and (_rank(x) or 0) > 1 and (_rank(y) or 0) > 1:
        if types.same(condition.sizes[0], x.sizes[0]) is False:
            raise ValueError(f"where: a vector condition of size {condition.sizes[0]} chooses rows, but x has {x.sizes[0]} rows; "
                             "use tf.where_v2 for broadcasting")
        condition = graph.OPERATORS["expand_axes"](condition, tuple(builtins.range(1, len(x.sizes))))
    return select(condition, x, y, name=name)


def where_v2(condition: Any, x: Any = None, y: Any = None, name: str | None = None) -> Tensor:
    """`where` with NumPy broadcasting of all three arguments."""
    from .ops.elementwise import select

    if x is None and y is None:
        return indexing.where_op(condition, name=name)
    return select(convert_to_tensor(condition, types.bool_), *_tensors([x, y]), name=name or "SelectV2")


def boolean_mask(tensor: Any, mask: Any, name: str = "boolean_mask", axis: Any = None) -> Tensor:
    """The slices of `tensor` where `mask`, which covers dimensions from `axis` (0) on, is True.

    Raises:
        ValueError: the mask is a scalar or of unknown rank, or does not fit.
    """
    x, mask = convert_to_tensor(tensor), convert_to_tensor(mask, types.bool_)
    if mask.sizes is None:
        raise ValueError("Number of mask dimensions must be specified, even if some dimensions are None. E.g. shape=[None] is ok, but "
                         "shape=None is not.")
    n = len(mask.sizes)
    if n == 0:
        raise ValueError("mask cannot be scalar.")
    sizes = opdef.needs_rank(x)
    k = 0 if axis is None else _axis(axis, len(sizes))
    types.merge_shapes(sizes[k:k + n], mask.sizes)
    with _scope(name, "boolean_mask"):
        found = squeeze(indexing.where_op(reshape(mask, [-1])), [1])
        if n > 1:
            x = reshape(x, concat([shape(x)[:k], [-1], shape(x)[k + n:]], 0))
        return indexing.gather(x, found, axis=k)


# ---------------------------------------------------------------- repeating, padding, reordering


def tile(input: Any, multiples: Any, name: str | None = None) -> Tensor:
    """`input` repeated `multiples[k]` times along dimension k."""
    return array.tile(input, shape_argument(multiples), name=name)


def pad(tensor: Any, paddings: Any, mode: str = "CONSTANT", name: str | None = None, constant_values: Any = 0) -> Tensor:
    """`tensor` with `paddings[k] = (before, after)` elements around dimension k.

    Args:
        mode: "CONSTANT" (`constant_values`), "REFLECT" or "SYMMETRIC".
    """
    mode = mode.upper()
    x = convert_to_tensor(tensor)
    widths = convert_to_tensor(_pairs(paddings))
    if mode in ("REFLECT", "SYMMETRIC"):
        return array.mirror_pad(x, widths, mode=mode, name=name)
    if mode != "CONSTANT":
        raise ValueError(f"Unknown padding mode: {mode}")
    if x.dtype is types.string and not isinstance(constant_values, Tensor):
        return array.pad(x, widths, value=types.as_strings(constant_values or b"")[()], name=name)
    value = constant_value(constant_values) if isinstance(constant_values, Tensor) else np.asarray(constant_values)
    if value is not None:
        return array.pad(x, widths, value=_plain(value, x.dtype), name=name)
    # A run-time value: 0 inside a frame of ones times that value.
    frame = array.pad(graph.OPERATORS["ones_like"](x), widths, value=0)
    from .ops.elementwise import equal, select

    return select(equal(frame, 0), constant_values, array.pad(x, widths, value=0), name=name)


def _pairs(paddings: Any) -> Any:
    """Paddings as something that converts to an integer [n, 2] tensor, an empty list too."""
    if isinstance(paddings, (list, tuple)) and any(isinstance(p, (list, tuple)) and any(isinstance(v, Dim) for v in p) for p in paddings):
        return array.pack(*[shape_argument(p) for p in paddings], axis=0)
    return np.zeros((0, 2), np.int32) if isinstance(paddings, (list, tuple)) and len(paddings) == 0 else paddings


def _plain(value: np.ndarray, dtype: types.DType) -> Any:
    if value.ndim:
        raise ValueError("constant_values must be a scalar")
    return {"b": bool, "i": int, "u": int, "f": float, "c": complex}[dtype.kind](value[()])


def reverse(tensor: Any, axis: Any, name: str | None = None) -> Tensor:
    """`tensor` backwards along each dimension of `axis`."""
    x = convert_to_tensor(tensor)
    if isinstance(axis, (list, tuple)) and axis and all(isinstance(a, bool) for a in axis):
        axis = [k for k, turned in enumerate(axis) if turned]
    axes = tuple(_axis(a, _rank(x)) for a in _static_ints(axis, "axis"))
    if len(set(axes)) != len(axes):
        raise ValueError(f"axis specified more than once: {axes}")
    return array.reverse(x, axis=axes, name=name)


reverse_v2 = reverse


def roll(input: Any, shift: Any, axis: Any, name: str | None = None) -> Tensor:
    """`input` rotated by `shift` places along `axis`; lists rotate along several."""
    x, shifts = convert_to_tensor(input), convert_to_tensor(shift)
    axes = tuple(_axis(a, _rank(x)) for a in _static_ints(axis, "axis"))
    shifts = reshape(shifts, [1]) if shifts.sizes == () else shifts
    if shifts.sizes is not None and types.same(shifts.sizes[0], len(axes)) is False:
        raise ValueError(f"shift and axis must have the same size, got {shifts.sizes[0]} and {len(axes)}")
    return array.roll(x, shifts, axis=axes, name=name)


def reverse_sequence(input: Any, seq_lengths: Any, seq_axis: Any = None, batch_axis: Any = None, name: str | None = None,
                     seq_dim: Any = None,
                     batch_dim: Any = None) -> Tensor:
    """Reverses the first `seq_lengths[b]` elements along `seq_axis` for each b along `batch_axis`."""
    seq = _first(seq_axis, seq_dim)
    if seq is None:
        raise ValueError("reverse_sequence needs seq_axis")
    return indexing.reverse_sequence(input, seq_lengths, seq_axis=_static_int(seq, "seq_axis"),
                                     batch_axis=_static_int(_first(batch_axis, batch_dim, 0), "batch_axis"), name=name)


def broadcast_to(input: Any, shape: Any, name: str | None = None) -> Tensor:
    """`input` repeated to `shape` by the rules of broadcasting."""
    return array.broadcast_to(input, shape_argument(shape), name=name)


def broadcast_static_shape(shape_x: Any, shape_y: Any) -> TensorShape:
    """The shape that both shapes broadcast to.  Raises ValueError when they do not."""
    return types._shape(types.broadcast_shapes(types.as_shape(shape_x), types.as_shape(shape_y)))


def broadcast_dynamic_shape(shape_x: Any, shape_y: Any) -> Tensor:
    """The shape, as a tensor, that both shapes (tensors too) broadcast to."""
    from .ops.elementwise import equal, select

    x, y = shape_argument(shape_x), shape_argument(shape_y)
    n, k = len_of(x), len_of(y)
    x, y = [t if d <= 0 else concat([ones([d], t.dtype), t], 0) for t, d in ((x, k - n), (y, n - k))]
    return select(equal(x, 1), y, x)


def len_of(vector: Tensor) -> int:
    """The length of a vector, which must be known."""
    n = opdef.needs_rank(vector, 1)[0]
    if isinstance(n, Dim):
        raise ValueError(f"the length of {vector!r} must be known")
    return n


def meshgrid(*args: Any, indexing: str = "xy", name: str = "meshgrid") -> list[Tensor]:
    """Coordinate arrays of a grid: as many as there are vectors, each of all their sizes; "xy" swaps the first two."""
    if indexing not in ("xy", "ij"):
        raise ValueError("indexing parameter must be either 'xy' or 'ij'")
    with _scope(name, "meshgrid"):
        vectors = [reshape(convert_to_tensor(a), [-1]) for a in args]
        places = list(builtins.range(len(vectors)))
        if indexing == "xy" and len(vectors) > 1:
            places[:2] = [1, 0]
        sizes: list[Any] = [None] * len(vectors)
        for v, k in zip(vectors, places):
            sizes[k] = size_along(v, 0)
        whole = shape_argument(sizes) if sizes else None
        return [broadcast_to(reshape(v, [-1 if j == k else 1 for j in builtins.range(len(vectors))]), whole) for v,
                k in zip(vectors, places)]


def sequence_mask(lengths: Any, maxlen: Any = None, dtype: Any = types.bool_, name: str | None = None) -> Tensor:
    """`mask[..., j] = j < lengths[...]`, for j below `maxlen` (the largest length if None)."""
    from .ops.elementwise import less
    from .ops.reduce import reduce_max_op

    with _scope(name, "SequenceMask"):
        lengths = convert_to_tensor(lengths)
        top = reduce_max_op(lengths, axis=None, keepdims=False) if maxlen is None else convert_to_tensor(maxlen)
        if top.sizes not in (None, ()):
            raise ValueError("maxlen must be scalar for sequence_mask")
        top = top if top.dtype is lengths.dtype else _cast(top, lengths.dtype)
        out = less(range(top), expand_dims(lengths, -1))
        dtype = types.as_dtype(dtype)
        return out if dtype is types.bool_ else _cast(out, dtype)


# ---------------------------------------------------------------- diagonals


def diag(diagonal: Any, name: str | None = None) -> Tensor:
    """A tensor of twice the rank with `diagonal` on its diagonal."""
    return array.diag(diagonal, name=name)


def diag_part(input: Any, name: str | None = None) -> Tensor:
    """The diagonal of a tensor of sizes (*s, *s)."""
    return array.diag_part(input, name=name)


tensor_diag, tensor_diag_part = diag, diag_part


def _diagonals(k: Any) -> tuple[int, int]:
    """The lowest and highest diagonal that `k` (a number or two) names.  Raises ValueError when they are out of order."""
    found = _static_ints(k, "k")
    low, high = (found[0], found[0]) if len(found) == 1 else found
    if low > high:
        raise ValueError(f"k must have the lower diagonal first, got {low} and {high}")
    return low, high


def _band(rows: int, columns: int, low: int, high: int) -> tuple[np.ndarray, np.ndarray, np.ndarray, int]:
    """Where diagonals stand in a matrix: for each of its elements (in the band, number of the diagonal, place on it), and the longest.

    Diagonals are numbered from the highest one down; places count from the diagonal's own beginning.
    """
    m, n = np.indices((rows, columns))
    d = n - m
    inside = (d >= low) & (d <= high)
    longest = builtins.max(rows + builtins.min(high, 0), 0), builtins.max(columns - builtins.max(low, 0), 0)
    return inside, high - d, np.minimum(m, n), builtins.min(longest)


def _known_matrix(x: Tensor, what: str) -> tuple[int, int]:
    rows, columns = opdef.needs_rank(x)[-2:]
    if isinstance(rows, Dim) or isinstance(columns, Dim):
        raise ValueError(f"{what} with k != 0 needs matrices of known size, got shape {x.shape}")
    return rows, columns


def _picked(x: Tensor, at: np.ndarray, there: np.ndarray, elsewhere: Any, outer: int) -> Tensor:
    """x with its last `len - outer` dimensions as one, at the places `at`; `elsewhere` where `there` is False."""
    lead = [size_along(x, i) for i in builtins.range(outer)]
    flat = reshape(x, [*lead, -1])
    found = gather(flat, np.where(there, at, 0).astype(np.int32), axis=outer)
    return found if there.all() else where_v2(there, found, elsewhere)


def matrix_diag(diagonal: Any, name: str | None = "diag", k: Any = 0, num_rows: Any = -1, num_cols: Any = -1,
                padding_value: Any = 0) -> Tensor:
    """Matrices with `diagonal` on the diagonal `k`, `padding_value` elsewhere.

    Args:
        diagonal: [..., n] for one diagonal, or [..., diagonals, n] from the highest to the lowest one, shorter ones filled up at
            their end.
        k: 0 is the main diagonal, positive ones lie above; or two numbers, the lowest and the highest of a band.
        num_rows, num_cols: sizes; by default as small as the diagonals allow, square if neither is given.

    Raises:
        ValueError: sizes that do not fit the diagonals, or are not known although k is not 0.
    """
    if isinstance(k, int) and k == 0 and _is_default(num_rows) and _is_default(num_cols) and _is_zero(padding_value):
        return array.matrix_diag(diagonal, name=name)
    with _scope(name, "diag"):
        x = convert_to_tensor(diagonal)
        low, high = _diagonals(k)
        n = opdef.needs_rank(x)[-1]
        count = 1 if low == high else x.sizes[-2]  # type: ignore[index]
        if isinstance(n, Dim) or isinstance(count, Dim):
            raise ValueError(f"matrix_diag with k needs diagonals of known size, got shape {x.shape}")
        if count != high - low + 1:
            raise ValueError("The number of diagonals provided in the input does not match the lower_diag_index and upper_diag_index "
                             f"range: {count} for k = {(low, high)}")
        rows, columns = _static_int(num_rows, "num_rows"), _static_int(num_cols, "num_cols")
        least_rows, least_columns = n - builtins.min(high, 0), n + builtins.max(low, 0)
        if rows == -1 and columns == -1:
            rows = columns = builtins.max(least_rows, least_columns)
        rows, columns = least_rows if rows == -1 else rows, least_columns if columns == -1 else columns
        if rows < least_rows or columns < least_columns or (rows != least_rows and columns != least_columns):
            raise ValueError(f"The number of rows and columns do not fit diagonals of length {n}: {rows} x {columns} for k = {(low, high)}")
        inside, number, place, _ = _band(rows, columns, low, high)
        outer = len(x.sizes) - (1 if low == high else 2)  # type: ignore[arg-type]
        return _picked(x, number * n + place, inside, convert_to_tensor(padding_value, x.dtype), outer)


def _is_default(size: Any) -> bool:
    return isinstance(size, int) and size == -1


def _is_zero(value: Any) -> bool:
    return isinstance(value, (int, float)) and value == 0


def matrix_diag_part(input: Any, name: str | None = "diag_part", k: Any = 0, padding_value: Any = 0) -> Tensor:
    """The diagonals `k` of matrices, in the form of `matrix_diag`; shorter ones are filled up with `padding_value` at their end."""
    if isinstance(k, int) and k == 0:
        return array.matrix_diag_part(input, name=name)
    with _scope(name, "diag_part"):
        x = convert_to_tensor(input)
        low, high = _diagonals(k)
        rows, columns = _known_matrix(x, "matrix_diag_part")
        if not -rows < low <= high < columns:
            raise ValueError(f"k = {(low, high)} is not a band of diagonals of {rows} x {columns} matrices")
        longest = _band(rows, columns, low, high)[-1]
        d, place = np.arange(high, low - 1, -1)[:, None], np.arange(longest)
        m, n = place - np.minimum(d, 0), place + np.maximum(d, 0)
        there = (m < rows) & (n < columns)
        at = m * columns + n
        if low == high:
            at, there = at[0], there[0]
        return _picked(x, at, there, convert_to_tensor(padding_value, x.dtype), len(x.sizes) - 2)  # type: ignore[arg-type]


def matrix_set_diag(input: Any, diagonal: Any, name: str | None = "set_diag", k: Any = 0) -> Tensor:
    """Matrices with their diagonals `k` replaced by those of `diagonal`, in the form of `matrix_diag`."""
    if isinstance(k, int) and k == 0:
        return array.matrix_set_diag(input, diagonal, name=name)
    with _scope(name, "set_diag"):
        x = convert_to_tensor(input)
        d = convert_to_tensor(diagonal, x.dtype)
        low, high = _diagonals(k)
        rows, columns = _known_matrix(x, "matrix_set_diag")
        inside, number, place, longest = _band(rows, columns, low, high)
        outer = len(x.sizes) - 2  # type: ignore[arg-type]
        lead = [size_along(x, i) for i in builtins.range(outer)]
        types.merge_shapes(d.sizes, (*x.sizes[:outer], *([] if low == high else [high - low + 1]), longest))  # type: ignore[index]
        flat = reshape(d, [*lead, -1])
        return where_v2(inside, gather(flat, np.where(inside, number * longest + place, 0).astype(np.int32), axis=outer), x)


def matrix_band_part(input: Any, num_lower: Any, num_upper: Any, name: str | None = None) -> Tensor:
    """`input` within a band around the diagonal, zeros outside; a negative number keeps that whole triangle."""
    return array.matrix_band_part(input, num_lower, num_upper, name=name)


# ---------------------------------------------------------------- sorting, searching, sets


def unravel_index(indices: Any, dims: Any, name: str | None = None) -> Tensor:
    """The coordinates [rank, n] of row-major positions `indices` [n] in an array of sizes `dims`; [rank] of a scalar.

    Raises (when run):
        InvalidArgumentError: a position past the end.
    """
    from .check_ops import assert_less

    with _scope(name, "UnravelIndex") as scope:
        at = convert_to_tensor(indices)
        sizes = convert_to_tensor(dims, at.dtype)
        rank = opdef.needs_rank(sizes, 1)[0]
        if isinstance(rank, Dim):
            raise ValueError(f"unravel_index: the length of dims must be known, got {sizes!r}")
        from .math_ops import reduce_prod

        check = assert_less(at, reduce_prod(sizes), message="index is out of bound as with dims")
        with graph.get_default_graph().control_dependencies([] if check is None else [check]):
            found, at = [], identity(at)
        for k in builtins.range(rank - 1, -1, -1):
            found.append(at % sizes[k])
            at = at // sizes[k]
        return stack(found[::-1], name=scope)


def repeat(input: Any, repeats: Any, axis: Any = None, name: str | None = None) -> Tensor:
    """Each element (or slice along `axis`) several times, one after the other.

    Args:
        repeats: how often: a number for all, or one for each.
        axis: None takes `input` as a vector.

    Raises:
        ValueError: `repeats` is neither a scalar nor a vector of the axis' size.
    """
    with _scope(name, "Repeat"):
        x = convert_to_tensor(input)
        x = reshape(x, [-1]) if axis is None else x
        k = _axis(0 if axis is None else axis, _rank(x))
        counts = convert_to_tensor(repeats)
        if len(opdef.needs_rank(counts)) > 1:
            raise ValueError(f"repeats must be a scalar or a vector, got shape {counts.shape}")
        if counts.sizes in ((), (1,)):
            each = reshape(counts, [])
            sizes = [size_along(x, i) for i in builtins.range(len(opdef.needs_rank(x)))]
            wide = tile(expand_dims(x, k + 1), [each if i == k + 1 else 1 for i in builtins.range(len(sizes) + 1)])
            known = constant_value(each)
            factor = int(known) if known is not None else _cast(each, types.int32)
            return reshape(wide, [s * factor if i == k else s for i, s in enumerate(sizes)])
        types.merge_shapes(counts.sizes, (opdef.needs_rank(x)[k],))
        return gather(x, indexing_of_repeats(_cast(counts, types.int64)), axis=k)


def indexing_of_repeats(counts: Tensor) -> Tensor:
    """0 as often as counts[0] says, then 1, ...: the places that `repeat` gathers."""
    from .math_ops import cumsum, reduce_sum

    ends = cumsum(counts)
    return searchsorted(ends, range(reduce_sum(counts)), side="right", out_type=types.int64)


def top_k(input: Any, k: Any = 1, sorted: bool = True, name: str | None = None) -> Any:
    """The `k` largest entries of the last dimension and their positions, as (values, indices)."""
    return TopK(*indexing.top_k(input, k, sorted=sorted, name=name))


class TopK(NamedTuple):
    """What `top_k` returns."""

    values: Tensor
    indices: Tensor


def in_top_k(predictions: Any, targets: Any, k: int, name: str | None = None) -> Tensor:
    """Whether entry `targets[i]` is among the `k` largest of row i; ties count as in; never for NaN or a target out of range."""
    from .ops.elementwise import greater, is_finite, less, logical_and, maximum, minimum
    from .ops.reduce import reduce_sum_op

    with _scope(name, "in_top_k"):
        x, t = convert_to_tensor(predictions), convert_to_tensor(targets)
        sizes = opdef.needs_rank(x, 2)
        n = _cast(size_along(x, 1), t.dtype) if isinstance(size_along(x, 1), Tensor) else constant(sizes[1], t.dtype)
        valid = logical_and(less(t, n), less(constant(-1, t.dtype), t))
        mine = indexing.gather(x, expand_dims(minimum(maximum(t, 0), n - 1), 1), axis=1, batch_dims=1)
        better = reduce_sum_op(_cast(greater(x, mine), types.int32), axis=(1,), keepdims=False)
        k = k if not isinstance(k, Tensor) else _cast(k, types.int32)
        return logical_and(logical_and(valid, is_finite(squeeze(mine, [1]))), less(better, k))


def _to_last(x: Tensor, axis: Any) -> tuple[Tensor, Any]:
    """`x` with `axis` last, and the permutation that undoes that."""
    rank = len(opdef.needs_rank(x))
    k = _axis(axis, rank)
    if k == rank - 1:
        return x, None
    perm = [j for j in builtins.range(rank) if j != k] + [k]
    return transpose(x, perm), [int(p) for p in np.argsort(perm)]


def _direction(direction: str) -> bool:
    if direction not in ("ASCENDING", "DESCENDING"):
        raise ValueError(f"Unknown sort direction: {direction}; expected 'ASCENDING' or 'DESCENDING'")
    return direction == "DESCENDING"


def argsort(values: Any, axis: Any = -1, direction: str = "ASCENDING", stable: bool = False, name: str | None = None) -> Tensor:
    """The positions that sort `values` along `axis`; equal elements keep their order."""
    with _scope(name, "argsort"):
        x, back = _to_last(convert_to_tensor(values), axis)
        found = indexing.argsort_op(x, descending=_direction(direction))
        return found if back is None else transpose(found, back)


def sort(values: Any, axis: Any = -1, direction: str = "ASCENDING", name: str | None = None) -> Tensor:
    """`values` sorted along `axis`."""
    with _scope(name, "sort"):
        x, back = _to_last(convert_to_tensor(values), axis)
        last = len(x.sizes) - 1
        found = indexing.gather(x, indexing.argsort_op(x, descending=_direction(direction)), axis=last, batch_dims=last)
        return found if back is None else transpose(found, back)


def searchsorted(sorted_sequence: Any, values: Any, side: str = "left", out_type: Any = types.int32, name: str | None = None) -> Tensor:
    """For each value, the position in the sorted last dimension before ("left") or after ("right") its equals."""
    if side not in ("left", "right"):
        raise ValueError(f"side must be either 'right' or 'left'.  Saw: {side}.")
    return indexing.search_sorted(sorted_sequence, values, side=side, out_type=types.as_dtype(out_type), name=name)


def unique(x: Any, out_idx: Any = types.int32, name: str | None = None) -> Any:
    """The distinct elements of a vector in order of first appearance, and each element's number: (y, idx)."""
    return Unique(*indexing.unique(x, out_idx=types.as_dtype(out_idx), name=name))


def unique_with_counts(x: Any, out_idx: Any = types.int32, name: str | None = None) -> Any:
    """`unique` and how often each element appears: (y, idx, count)."""
    return UniqueWithCounts(*indexing.unique_with_counts(x, out_idx=types.as_dtype(out_idx), name=name))


def setdiff1d(x: Any, y: Any, index_dtype: Any = types.int32, name: str | None = None) -> Any:
    """The elements of `x` not in `y`, and their positions: (out, idx)."""
    return ListDiff(*indexing.list_diff(x, y, out_idx=types.as_dtype(index_dtype), name=name))


class Unique(NamedTuple):
    """What `unique` returns."""

    y: Tensor
    idx: Tensor


class UniqueWithCounts(NamedTuple):
    """What `unique_with_counts` returns."""

    y: Tensor
    idx: Tensor
    count: Tensor  # type: ignore[assignment]  # TF1 names this field so


class ListDiff(NamedTuple):
    """What `setdiff1d` returns."""

    out: Tensor
    idx: Tensor


def invert_permutation(x: Any, name: str | None = None) -> Tensor:
    """The vector y with y[x[i]] = i."""
    return indexing.invert_permutation(x, name=name)


def dynamic_partition(data: Any, partitions: Any, num_partitions: int, name: str | None = None) -> list[Tensor]:
    """The slices of `data` sorted into `num_partitions` tensors by their entry in `partitions`."""
    found = indexing.dynamic_partition(data, partitions, num_partitions=_static_int(num_partitions, "num_partitions"), name=name)
    return found if isinstance(found, list) else [found]


def dynamic_stitch(indices: Any, data: Any, name: str | None = None) -> Tensor:
    """Row `indices[k][i]` of the result is `data[k][i]`; later ones win."""
    if len(indices) != len(data) or not indices:
        raise ValueError(f"dynamic_stitch needs as many index tensors as data tensors, at least one; got {len(indices)} and {len(data)}")
    return indexing.dynamic_stitch(*[convert_to_tensor(i, types.int32) for i in indices], *_tensors(list(data)), name=name)


# ---------------------------------------------------------------- segments


def _segment(op: Any) -> Any:
    def fn(data: Any, segment_ids: Any, name: str | None = None) -> Tensor:
        x, ids = convert_to_tensor(data), convert_to_tensor(segment_ids)
        with graph.get_default_graph().counted_as(1):
            return op(x, ids, indexing.number_of_segments(ids), name=name)
    fn.__name__ = op.name
    fn.__doc__ = op.__doc__ + "  `segment_ids` is a sorted vector; there are segment_ids[-1] + 1 segments."
    return fn


def _unsorted_segment(op: Any) -> Any:
    def fn(data: Any, segment_ids: Any, num_segments: Any, name: str | None = None) -> Tensor:
        return op(data, segment_ids, num_segments, name=name)
    fn.__name__, fn.__doc__ = op.name, op.__doc__
    return fn


segment_sum, segment_mean, segment_prod, segment_max, segment_min = map(_segment, (
    indexing.segment_sum, indexing.segment_mean, indexing.segment_prod, indexing.segment_max, indexing.segment_min))
unsorted_segment_sum, unsorted_segment_prod, unsorted_segment_max, unsorted_segment_min = map(_unsorted_segment, (
    indexing.unsorted_segment_sum, indexing.unsorted_segment_prod, indexing.unsorted_segment_max, indexing.unsorted_segment_min))


def _segment_counts(data: Tensor, ids: Tensor, num_segments: Any) -> Tensor:
    """Elements a segment, at least 1, shaped to divide per-segment values."""
    from .ops.elementwise import maximum

    counts = indexing.unsorted_segment_sum(graph.OPERATORS["ones_like"](ids, dtype=data.dtype), ids, num_segments)
    extra = len(opdef.needs_rank(data)) - len(opdef.needs_rank(ids))
    return graph.OPERATORS["expand_axes"](maximum(counts, 1), tuple(builtins.range(1, 1 + extra)))


def unsorted_segment_mean(data: Any, segment_ids: Any, num_segments: Any, name: str | None = None) -> Tensor:
    """The mean of each segment; 0 of an empty one."""
    with _scope(name, "UnsortedSegmentMean"):
        x, ids = convert_to_tensor(data), convert_to_tensor(segment_ids)
        return indexing.unsorted_segment_sum(x, ids, num_segments) / _segment_counts(x, ids, num_segments)


def unsorted_segment_sqrt_n(data: Any, segment_ids: Any, num_segments: Any, name: str | None = None) -> Tensor:
    """The sum of each segment divided by the square root of its size."""
    from .ops.elementwise import sqrt

    with _scope(name, "UnsortedSegmentSqrtN"):
        x, ids = convert_to_tensor(data), convert_to_tensor(segment_ids)
        return indexing.unsorted_segment_sum(x, ids, num_segments) / sqrt(_segment_counts(x, ids, num_segments))


# ---------------------------------------------------------------- blocks


def _width_pairs(values: Any, n: int) -> list[list[Any]]:
    """n pairs of widths, ints where the graph determines them, else scalars."""
    if isinstance(values, Tensor) and constant_value(values) is None:
        return [[values[k, 0], values[k, 1]] for k in builtins.range(n)]
    return np.asarray(constant_value(values) if isinstance(values, Tensor) else values).reshape(-1, 2).tolist()


def space_to_batch_nd(input: Any, block_shape: Any, paddings: Any, name: str | None = None) -> Tensor:
    """Pads the spatial dimensions 1..n and moves blocks of `block_shape` of them into the batch dimension."""
    with _scope(name, "SpaceToBatchND") as scope:
        x, blocks = convert_to_tensor(input), _static_ints(block_shape, "block_shape")
        widths = _width_pairs(paddings, len(blocks))
        rank, n = len(opdef.needs_rank(x)), len(blocks)
        x = pad(x, [[0, 0], *widths, *[[0, 0]] * (rank - 1 - n)])
        sizes = [size_along(x, k) for k in builtins.range(rank)]
        for k, b in enumerate(blocks):
            if isinstance(sizes[1 + k], int) and sizes[1 + k] % b:
                raise ValueError(f"padded size {sizes[1 + k]} of dimension {1 + k} is not divisible by the block size {b}")
        inner = [v for k, b in enumerate(blocks) for v in (sizes[1 + k] // b, b)]
        y = reshape(x, [sizes[0], *inner, *sizes[1 + n:]])
        y = transpose(y,
                      [*[2 + 2 * k for k in builtins.range(n)], 0, *[1 + 2 * k for k in builtins.range(n)],
                       *builtins.range(2 * n + 1, rank + n)])
        return reshape(y, [-1, *inner[::2], *sizes[1 + n:]], name=scope)


def batch_to_space_nd(input: Any, block_shape: Any, crops: Any, name: str | None = None) -> Tensor:
    """Moves blocks out of the batch dimension into the spatial dimensions and crops: undoes `space_to_batch_nd`."""
    with _scope(name, "BatchToSpaceND") as scope:
        x, blocks = convert_to_tensor(input), _static_ints(block_shape, "block_shape")
        cut = _width_pairs(crops, len(blocks))
        rank, n = len(opdef.needs_rank(x)), len(blocks)
        sizes = [size_along(x, k) for k in builtins.range(rank)]
        batch = sizes[0] // int(np.prod(blocks))
        y = reshape(x, [*blocks, batch, *sizes[1:]])
        y = transpose(y, [n, *[j for k in builtins.range(n) for j in (n + 1 + k, k)], *builtins.range(2 * n + 1, rank + n)])
        y = reshape(y, [batch, *[sizes[1 + k] * b for k, b in enumerate(blocks)], *sizes[1 + n:]])
        key = [builtins.slice(a, sizes[1 + k] * blocks[k] - b) for k, (a, b) in enumerate(cut)]
        crop = any(not isinstance(v, int) or v for pair in cut for v in pair)
        return identity(getitem(y, (builtins.slice(None), *key, Ellipsis)) if crop else y, name=scope)


def space_to_batch(input: Any, paddings: Any, block_size: Any = None, name: str | None = None, block_shape: Any = None) -> Tensor:
    """`space_to_batch_nd` of images, with square blocks."""
    block = _first(block_size, block_shape)
    return space_to_batch_nd(input, [block, block] if isinstance(block, (int, np.integer)) else block, paddings, name)


def batch_to_space(input: Any, crops: Any, block_size: Any = None, name: str | None = None, block_shape: Any = None) -> Tensor:
    """`batch_to_space_nd` of images, with square blocks."""
    block = _first(block_size, block_shape)
    return batch_to_space_nd(input, [block, block] if isinstance(block, (int, np.integer)) else block, crops, name)


def required_space_to_batch_paddings(input_shape: Any, block_shape: Any, base_paddings: Any = None,
                                     name: str | None = None) -> tuple[Tensor, Tensor]:
    """Paddings [n, 2] that make `input_shape` [n] divisible by `block_shape`, at least `base_paddings`; and the crops that undo them."""
    with _scope(name, "required_space_to_batch_paddings"):
        given = [convert_to_tensor(t, types.int32 if not isinstance(t, Tensor) else None) for t in (input_shape, block_shape)]
        n = opdef.needs_rank(given[1], 1)[0]
        base = zeros([n, 2], types.int32) if base_paddings is None else convert_to_tensor(base_paddings)
        known = [constant_value(t) for t in (*given, base)]
        if all(k is not None for k in known):
            sizes, blocks, pads = known
            end = (-(sizes + pads.sum(1))) % blocks  # type: ignore[operator, union-attr]
            paddings = np.stack([pads[:, 0], pads[:, 1] + end], 1).astype(np.int32)  # type: ignore[index]
            return constant(paddings, name="paddings"), constant(np.stack([0 * end, end], 1).astype(np.int32), name="crops")
        total, blocks_t = given[0] + base[:, 0] + base[:, 1], given[1]
        extra = (blocks_t - total % blocks_t) % blocks_t
        return stack([base[:, 0], base[:, 1] + extra], 1), stack([zeros_like(extra), extra], 1)


def _with_nhwc(x: Tensor, data_format: str, fn: Any) -> Tensor:
    if data_format not in ("NHWC", "NCHW"):
        raise ValueError(f"data_format must be NHWC or NCHW, got {data_format!r}")
    return fn(x) if data_format == "NHWC" else transpose(fn(transpose(x, [0, 2, 3, 1])), [0, 3, 1, 2])


def space_to_depth(input: Any, block_size: int, name: str | None = None, data_format: str = "NHWC") -> Tensor:
    """Moves blocks of block_size x block_size pixels into the channels."""
    b = _static_int(block_size, "block_size")

    def move(x: Tensor) -> Tensor:
        n, h, w, c = [size_along(x, k) for k in builtins.range(len(opdef.needs_rank(x, 4)))]
        for s in (h, w):
            if isinstance(s, int) and s % b:
                raise ValueError(f"Dimension size must be evenly divisible by {b} but is {s}")
        y = transpose(reshape(x, [n, h // b, b, w // b, b, c]), [0, 1, 3, 2, 4, 5])
        return reshape(y, [n, h // b, w // b, b * b * c])

    with _scope(name, "SpaceToDepth") as scope:
        return identity(_with_nhwc(convert_to_tensor(input), data_format, move), name=scope)


def depth_to_space(input: Any, block_size: int, name: str | None = None, data_format: str = "NHWC") -> Tensor:
    """Moves groups of block_size * block_size channels into pixels."""
    b = _static_int(block_size, "block_size")

    def move(x: Tensor) -> Tensor:
        n, h, w, c = [size_along(x, k) for k in builtins.range(len(opdef.needs_rank(x, 4)))]
        if isinstance(c, int) and c % (b * b):
            raise ValueError(f"Dimension size must be evenly divisible by {b * b} but is {c}")
        y = transpose(reshape(x, [n, h, w, b, b, c // (b * b)]), [0, 1, 3, 2, 4, 5])
        return reshape(y, [n, h * b, w * b, c // (b * b)])

    with _scope(name, "DepthToSpace") as scope:
        return identity(_with_nhwc(convert_to_tensor(input), data_format, move), name=scope)


def parallel_stack(values: Any, name: str = "parallel_stack") -> Tensor:
    """`stack` along dimension 0."""
    return stack(values, 0, name)


def get_static_value(tensor: Any, partial: bool = False) -> np.ndarray | None:
    """The value of `tensor` if the graph determines it, else None."""
    return constant_value(tensor)


def zeros_like(tensor: Any, dtype: Any = None, name: str | None = None, optimize: bool = True) -> Tensor:
    """Zeros of the shape of `tensor`, and of its dtype unless `dtype` is given."""
    return graph.OPERATORS["zeros_like"](tensor, dtype=None if dtype is None else types.as_dtype(dtype), name=name)


@graph.counts_as(3)
def ones_like(tensor: Any, dtype: Any = None, name: str | None = None, optimize: bool = True) -> Tensor:
    """Ones of the shape of `tensor`, and of its dtype unless `dtype` is given."""
    return graph.OPERATORS["ones_like"](tensor, dtype=None if dtype is None else types.as_dtype(dtype), name=name)


def _fetch_slices(x: IndexedSlices) -> Any:
    parts = [t for t in (x.values, x.indices, x.dense_shape) if t is not None]
    return parts, lambda r: IndexedSlicesValue(*r)


def _feed_slices(x: IndexedSlices, value: Any) -> Any:
    return [(t, v) for t, v in zip((x.values, x.indices, x.dense_shape), value) if t is not None]


register_session_run_conversion_functions(IndexedSlices, _fetch_slices, _feed_slices)
graph.OPERATORS.update(getitem=getitem, stack=stack)

__all__ = """newaxis placeholder placeholder_with_default identity guarantee_const ensure_shape bitcast shape shape_n size rank reshape
expand_dims
squeeze transpose matrix_transpose fill zeros ones eye range linspace lin_space concat concat_v2 stack unstack pack unpack split slice
strided_slice gather
gather_nd batch_gather scatter_nd tensor_scatter_update tensor_scatter_add tensor_scatter_sub tensor_scatter_nd_update tensor_scatter_nd_add
tensor_scatter_nd_sub one_hot where where_v2 boolean_mask tile pad reverse reverse_v2 roll reverse_sequence broadcast_to
broadcast_static_shape
broadcast_dynamic_shape meshgrid sequence_mask diag diag_part matrix_diag matrix_diag_part matrix_set_diag matrix_band_part
tensor_diag tensor_diag_part argsort sort searchsorted unique unique_with_counts setdiff1d invert_permutation dynamic_partition
dynamic_stitch
segment_sum segment_mean segment_prod segment_max segment_min unsorted_segment_sum unsorted_segment_prod unsorted_segment_max
unsorted_segment_min
unsorted_segment_mean unsorted_segment_sqrt_n space_to_batch_nd batch_to_space_nd space_to_batch batch_to_space
required_space_to_batch_paddings repeat unravel_index
space_to_depth depth_to_space parallel_stack get_static_value zeros_like ones_like IndexedSlices IndexedSlicesValue""".split()
