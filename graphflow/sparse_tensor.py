"""`tf.SparseTensor`: the elements of a tensor that are not zero, by position; and the ops on such tensors.

A SparseTensor is three tensors: `indices` [N, rank], `values` [N], `dense_shape` [rank].  Ops are compositions on these three, so
gradients reach the values by themselves.  Only what must look at values (an order, the number of distinct elements) runs on the host.
TF's `tf.sparse` lists the same functions under shorter names: graphflow/sparse.py.
"""
from __future__ import annotations

from typing import Any, Iterable, NamedTuple, Sequence

import numpy as np

from . import array_ops, graph, math_ops, types
from .codegen import ir
from .codegen.ir import m
from .graph import Spec, Tensor
from .ops.array import INDEX, floats, sample
from .ops.opdef import constant_value, convert_to_tensor, needs_rank, primitive, register_tensor_conversion_function
from .ops.sparse import sparse_dense_matmul
from .session import register_session_run_conversion_functions

__all__ = ["SparseTensor", "SparseTensorValue", "convert_to_tensor_or_sparse_tensor", "edit_distance", "sparse_add", "sparse_concat",
           "sparse_expand_dims", "sparse_eye", "sparse_fill_empty_rows", "sparse_from_dense", "sparse_mask", "sparse_matmul",
           "sparse_maximum", "sparse_merge", "sparse_minimum", "sparse_placeholder", "sparse_reduce_max", "sparse_reduce_max_sparse",
           "sparse_reduce_sum", "sparse_reduce_sum_sparse", "sparse_reorder", "sparse_reset_shape", "sparse_reshape", "sparse_retain",
           "sparse_segment_mean", "sparse_segment_sqrt_n", "sparse_segment_sum", "sparse_slice", "sparse_softmax", "sparse_split",
           "sparse_tensor_dense_matmul", "sparse_tensor_to_dense", "sparse_to_dense", "sparse_to_indicator", "sparse_transpose"]

ANY = types.ALL + (types.string,)


class SparseTensorValue(NamedTuple):
    """A SparseTensor that was run, or one to feed: arrays."""

    indices: Any
    values: Any
    dense_shape: Any


class SparseTensor:
    """`values[i]` stands at `indices[i]` of a tensor of shape `dense_shape`; the other elements are zero (or a default).

    Most ops want the indices in row-major order, without repetition; `tf.sparse_reorder` brings them there.

    Args:
        indices: int64 [N, rank].
        values: [N], of any dtype.
        dense_shape: int64 [rank].

    Raises:
        ValueError: shapes that do not fit together.  TypeError: indices or a shape that are no int64.
    """

    def __init__(self, indices: Any, values: Any, dense_shape: Any):
        with graph.get_default_graph().name_scope("SparseTensor"):
            self._indices = _integers(indices, "indices")
            self._values = convert_to_tensor(values, name="values")
            self._dense_shape = _integers(dense_shape, "dense_shape")
        self._static: types.Shape = None  # sizes known although the graph does not determine them: a placeholder's
        types.merge_shapes(self._values.sizes, self._with_rank(self._values, 1))
        n, rank = self._with_rank(self._indices, 2)
        for a, b in ((n, (self._values.sizes or (types.UNKNOWN,))[0]), (rank, self._with_rank(self._dense_shape, 1)[0])):
            if types.same(a, b) is False:
                raise ValueError(f"Dimensions {a} and {b} are not compatible: a SparseTensor has indices [N, rank], values [N] and "
                                 f"dense_shape [rank], got {self._indices.shape}, {self._values.shape} and {self._dense_shape.shape}")

    @staticmethod
    def _with_rank(t: Tensor, rank: int) -> tuple[Any, ...]:
        if t.sizes is None:
            return (types.UNKNOWN,) * rank
        if len(t.sizes) != rank:
            raise ValueError(f"Shape {t.shape} must have rank {rank}")
        return t.sizes

    indices = property(lambda self: self._indices)
    values = property(lambda self: self._values)
    dense_shape = property(lambda self: self._dense_shape)
    dtype = property(lambda self: self._values.dtype)
    op = property(lambda self: self._values.op)
    name = property(lambda self: self._values.name)
    device = property(lambda self: self._values.device)
    graph = property(lambda self: self._values.graph)

    @property
    def shape(self) -> types.TensorShape:
        """The dense shape as far as it is known while the graph is built."""
        return types._shape(_static_sizes(self))

    def get_shape(self) -> types.TensorShape:
        return self.shape

    def consumers(self) -> list[Any]:
        return self._values.consumers()

    def eval(self, feed_dict: Any = None, session: Any = None) -> SparseTensorValue:
        """Its `SparseTensorValue` in `session`, or in the default one."""
        return graph.OPERATORS["default_session"](self, session).run(self, feed_dict)

    @classmethod
    def from_value(cls, sparse_tensor_value: Any) -> SparseTensor:
        """A SparseTensor from another or from a SparseTensorValue."""
        if not isinstance(sparse_tensor_value, (SparseTensor, SparseTensorValue)):
            raise TypeError(f"Neither a SparseTensor nor SparseTensorValue: {sparse_tensor_value!r}.")
        return cls(*sparse_tensor_value) if isinstance(sparse_tensor_value, SparseTensorValue) else sparse_tensor_value

    def with_values(self, new_values: Any) -> SparseTensor:
        """Other values at the same positions."""
        return _like(self, self._indices, new_values)

    # -- as one of the values that branches and loops carry

    def _components(self) -> list[Tensor]:
        return [self._indices, self._values, self._dense_shape]

    def _component_shapes(self) -> list[types.Shape]:
        rank = _rank(self)
        return [(types.UNKNOWN, types.UNKNOWN if rank is None else rank), (types.UNKNOWN,), None if rank is None else (rank,)]

    def _with_components(self, tensors: Sequence[Tensor]) -> SparseTensor:
        found = object.__new__(SparseTensor)
        found._indices, found._values, found._dense_shape = tensors
        found._static = None
        return found

    # -- arithmetic with dense tensors, which broadcast to this shape

    def __mul__(self, other: Any) -> SparseTensor:
        return self.with_values(self._values * _dense_at(self, other, "mul"))

    def __truediv__(self, other: Any) -> SparseTensor:
        return self.with_values(self._values / _dense_at(self, other, "truediv"))

    __div__ = __truediv__

    def __neg__(self) -> SparseTensor:
        return self.with_values(-self._values)

    def __iter__(self) -> Any:
        raise TypeError("'SparseTensor' object is not iterable")

    def __repr__(self) -> str:
        return f"SparseTensor(indices={self._indices}, values={self._values}, dense_shape={self._dense_shape})"


def _integers(value: Any, name: str) -> Tensor:
    """`value` as an int64 tensor."""
    if isinstance(value, (np.ndarray, np.generic)) and value.dtype.kind in "iu" or isinstance(value, (list, tuple)) and len(value) == 0:
        value = np.asarray(value, np.int64)
    if name == "indices" and isinstance(value, np.ndarray) and value.size == 0 and value.ndim == 1:
        raise ValueError("indices of no element must be an array of shape (0, rank), got one of shape (0,)")
    return convert_to_tensor(value, types.int64, name=name)


def _like(sp: SparseTensor, indices: Any, values: Any) -> SparseTensor:
    """Other elements in the shape of `sp`."""
    found = SparseTensor(indices, values, sp.dense_shape)
    found._static = sp._static
    return found


def _sparse(sp: Any, what: str = "Input") -> SparseTensor:
    if isinstance(sp, SparseTensorValue):
        return SparseTensor.from_value(sp)
    if not isinstance(sp, SparseTensor):
        raise TypeError(f"{what} must be a SparseTensor, got {sp!r}.")
    return sp


def convert_to_tensor_or_sparse_tensor(value: Any, dtype: Any = None, name: str | None = None) -> Any:
    """A SparseTensor or SparseTensorValue as a SparseTensor, anything else as a tensor."""
    if isinstance(value, (SparseTensor, SparseTensorValue)):
        found = _sparse(value)
        if dtype is not None and types.as_dtype(dtype) is not found.dtype:
            raise RuntimeError(f"Sparse dtype: requested = {types.as_dtype(dtype).name}, actual = {found.dtype.name}")
        return found
    return convert_to_tensor(value, dtype, name)


def _refuse(value: Any, dtype: Any, name: Any, as_ref: bool) -> Any:
    raise TypeError(f"Failed to convert {value!r} to a Tensor. Use tf.sparse_tensor_to_dense, or its indices and values")


register_tensor_conversion_function(SparseTensor, _refuse, 0)


def _fed(sp: SparseTensor, value: Any) -> list[tuple[Tensor, Any]]:
    if not isinstance(value, (tuple, list)) or len(value) != 3:
        raise TypeError(f"A SparseTensor is fed a tf.SparseTensorValue, or a tuple (indices, values, dense_shape), got {value!r}")
    shape = np.asarray(value[2])
    static = sp._static
    if static is not None and shape.shape == (len(static),) and any(types.same(a, int(b)) is False for a, b in zip(static, shape)):
        raise ValueError(f"Cannot feed a SparseTensorValue of dense shape {tuple(shape.tolist())} for {sp!r}, which has shape '{sp.shape}'")
    parts = [np.asarray(value[0]), value[1], shape]
    if parts[0].size == 0 and parts[0].ndim < 2:  # no element: [] says nothing of the rank
        parts[0] = np.zeros((0, shape.size), np.int64)
    return list(zip(sp._components(), parts))


register_session_run_conversion_functions(SparseTensor, lambda sp: (sp._components(), lambda r: SparseTensorValue(*r)), _fed)
register_session_run_conversion_functions(SparseTensorValue, lambda v: (list(v), lambda r: SparseTensorValue(*r)))


def sparse_placeholder(dtype: Any, shape: Any = None, name: str | None = None) -> SparseTensor:
    """A SparseTensor to be fed with a `tf.SparseTensorValue` or a tuple (indices, values, dense_shape).

    Args:
        dtype: of the values.
        shape: its dense shape, with None where unknown; None for an unknown rank.  A shape that is known must be fed.  A tensor
            is the shape unless another is fed.
    """
    if isinstance(shape, Tensor) or hasattr(shape, "_as_tensor"):
        return _placeholder_of_shape(dtype, convert_to_tensor(shape), name)
    sizes = types.as_shape(shape)
    rank = None if sizes is None else len(sizes)
    part = (lambda what: None) if name is None else (lambda what: f"{name}/{what}")
    if sizes is not None and types.known(sizes):
        default = convert_to_tensor(np.array(sizes, np.int64).reshape(-1), name=part("shape_default"))
        dense_shape = array_ops.placeholder_with_default(default, [rank], part("shape"))
    else:
        dense_shape = array_ops.placeholder(types.int64, [rank], part("shape"))
    values = array_ops.placeholder(dtype, [None], part("values"))
    found = SparseTensor(array_ops.placeholder(types.int64, [None, rank], part("indices")), values, dense_shape)
    found._static = sizes
    return found


def _placeholder_of_shape(dtype: Any, shape: Tensor, name: str | None) -> SparseTensor:
    rank = needs_rank(shape, 1)[0]
    part = (lambda what: None) if name is None else (lambda what: f"{name}/{what}")
    default = math_ops.cast(shape, types.int64)
    found = SparseTensor(array_ops.placeholder(types.int64, [None, rank if isinstance(rank, int) else None], part("indices")),
                         array_ops.placeholder(dtype, [None], part("values")),
                         array_ops.placeholder_with_default(default, shape.shape, part("shape")))
    value = constant_value(shape)
    found._static = None if value is None else tuple(int(v) for v in value)
    return found


# ---------------------------------------------------------------- sizes and positions


def _static_sizes(sp: SparseTensor) -> types.Shape:
    if sp._static is not None:
        return sp._static
    value = constant_value(sp.dense_shape)
    if value is not None:
        return tuple(int(v) for v in value)
    if sp.dense_shape.known is not None:
        return tuple(v if isinstance(v, types.Dim) else int(v) for v in sp.dense_shape.known)
    rank = _rank(sp)
    return None if rank is None else (types.UNKNOWN,) * rank


def _rank(sp: SparseTensor) -> int | None:
    for t in (sp.dense_shape, sp.indices):
        if t.sizes is not None and isinstance(t.sizes[-1], int):
            return t.sizes[-1]
    return None


def _known_rank(sp: SparseTensor) -> int:
    rank = _rank(sp)
    if rank is None:
        raise ValueError(f"the rank of {sp!r} must be known; give tf.sparse_placeholder a shape, if only of Nones")
    return rank


def _axis(sp: SparseTensor, axis: int) -> int:
    return types.canonical_axis(axis, _known_rank(sp))


def _sizes(sp: SparseTensor) -> list[Any]:
    """Each size of the dense shape, an int where it is known, otherwise an int64 scalar."""
    static = _static_sizes(sp)
    return [s if isinstance(s, int) else sp.dense_shape[k] for k, s in enumerate(static or ())]


def _shape_of(sp: SparseTensor) -> Tensor:
    """The dense shape, with the sizes that are known."""
    sizes = _sizes(sp)
    if not sizes:
        return sp.dense_shape
    return _vector(sizes)


def _vector(sizes: Sequence[Any]) -> Tensor:
    """Ints and int64 scalars as an int64 vector."""
    if all(isinstance(s, int) for s in sizes):
        return convert_to_tensor(np.array(sizes, np.int64).reshape(-1))
    return array_ops.stack([s if isinstance(s, Tensor) else convert_to_tensor(s, types.int64) for s in sizes])


def _column(sp: SparseTensor, k: int) -> Tensor:
    return sp.indices[:, k]


def _dense_at(sp: SparseTensor, dense: Any, what: str) -> Tensor:
    """The elements of `dense`, broadcast to the shape of `sp`, at its positions."""
    dense = convert_to_tensor(dense, preferred_dtype=sp.dtype)
    rank = len(needs_rank(dense))
    if rank == 0:
        return dense
    static = _static_sizes(sp)
    full = (types.UNKNOWN,) * rank if static is None else static
    if rank > len(full) or any(types.same(d, 1) is False and types.same(d, s) is False for d, s in zip(dense.sizes[::-1], full[::-1])):
        raise ValueError(f"{what}: a dense operand broadcasts to the SparseTensor only, got incompatible shapes: {sp.shape} vs. "
                         f"{dense.shape}")
    spread = math_ops.cast(math_ops.not_equal(array_ops.shape(dense, out_type=types.int64), 1), types.int64)
    return array_ops.gather_nd(dense, sp.indices[:, len(full) - rank:] * spread)


# ---------------------------------------------------------------- what the host must look at


def out_of_order(indices: np.ndarray, shape: np.ndarray, what: str = "") -> str | None:
    """TF's message for the first of `indices` [N, rank] that is out of bounds, out of order or repeated; None if there is none."""
    bounds = ((indices < 0) | (indices >= shape)).any(1)
    order, same = np.zeros(len(indices), bool), np.zeros(len(indices), bool)
    bounds = np.asarray(bounds)
    if len(indices) > 1:
        step = np.diff(indices, axis=0)
        same[1:] = np.logical_not(step.any(1))
        if indices.shape[1]:  # the first dimension in which a row differs from the one before decides
            order[1:] = np.take_along_axis(step, (step != 0).argmax(1)[:, None], 1)[:, 0] < 0
    bad = np.flatnonzero(bounds | order | same)
    if not len(bad):
        return None
    i = bad[0]
    at = f"{what}indices[{i}] = [{','.join(map(str, indices[i]))}] is "
    if bounds[i]:
        return at + f"out of bounds: need 0 <= index < [{','.join(map(str, shape))}]"
    if same[i]:
        return at + "repeated"
    return at + "out of order. Many sparse ops require sorted indices. Use `tf.sparse.reorder` to create a correctly ordered copy."


@primitive("indexing", type="SparseToDense", dtypes=ANY, same=("values", "default_value"), static=("output_shape",),
           updates=lambda op: op.inputs[0].sizes[:1],
           input_dtypes={"indices": INDEX, "output_shape": INDEX}, output_dtypes=lambda i, o, values, d, **_: [values.dtype])
def sparse_to_dense_op(indices, output_shape, values, default_value, *, validate_indices=True):
    """`values` at `indices` of a dense tensor of shape `output_shape` that has `default_value` elsewhere; the last of equal ones wins."""


sparse_to_dense_op.samples = [sample([[0, 1], [2, 0]], [3, 2], floats(2), floats()),
                              sample([[2, 0], [0, 1]], [3, 2], floats(2), floats(), validate_indices=False)]


@sparse_to_dense_op.infers
def _(indices, output_shape, values, default_value, *, validate_indices):
    from .ops.array import sizes_from

    if default_value.sizes not in ((), None):
        raise ValueError(f"default_value should be a scalar, got shape {default_value.shape}")
    sizes, at = sizes_from(output_shape), indices.sizes
    width = 1 if at is not None and len(at) < 2 else None if at is None else at[1]
    if width is not None and types.same(width, len(sizes)) is False:
        raise ValueError(f"output_shape has incorrect number of elements: {len(sizes)} should be: {width}")
    count = () if not at else at[:1]
    if at is not None and values.sizes and (len(values.sizes) != 1 or types.same(values.sizes[0], types.product(count)) is False):
        raise ValueError(f"sparse_values has incorrect shape {list(values.sizes)}, should be [] or [{types.product(count)}]")
    return Spec(values.dtype, sizes)


@sparse_to_dense_op.reference
def _(indices, output_shape, values, default_value, *, validate_indices):
    rows = (indices.reshape(-1, 1) if indices.ndim < 2 else indices).astype(np.int64)
    problem = out_of_order(rows, output_shape.astype(np.int64))
    if problem and (validate_indices or ((rows < 0) | (rows >= output_shape)).any()):
        raise ValueError(problem)
    out = np.full(tuple(int(s) for s in output_shape), default_value[()], values.dtype)
    out[tuple(rows.T)] = values
    return out


sparse_to_dense_op.lowers(lambda op, index, read: read(3, []))


@sparse_to_dense_op.scatters
def _(op, index, read):
    from .ops.array import clamp, every, inside, int64

    indices, values, sizes = op.inputs[0], op.inputs[2], op.outputs[0].sizes

    def row(k):
        return [int64(read(0, [*k, ir.index_const(j)] if len(indices.sizes) > 1 else k)) for j in range(len(sizes))]

    at, value = row(index), read(2, index if values.sizes else [])
    good = every([inside(i, n) for i, n in zip(at, sizes)])
    if op.attrs["validate_indices"] and index:
        later = ir.const(False, types.bool_)
        for i, before in reversed(list(zip(at, row([m.max(index[0] - 1, 0)])))):
            later = m.lor(i > before, m.land(i.eq(before), later))
        good = m.land(good, m.lor(index[0].eq(0), later))
    place = [clamp(i, n) for i, n in zip(at, sizes)]
    message = "indices of sparse_to_dense are out of bounds, out of order or repeated"
    return ir.Scatter(None, indices.sizes[:1], tuple(m.check(good, i, message) for i in place), value)


@sparse_to_dense_op.grad
def _(op, dy):
    indices = op.inputs[0]
    if indices.sizes is not None and len(indices.sizes) < 2:
        indices = array_ops.reshape(indices, [-1, 1])
    at = array_ops.gather_nd(dy, indices)
    elsewhere = math_ops.reduce_sum(dy) - math_ops.reduce_sum(at)
    return None, None, at if op.inputs[2].sizes != () else math_ops.reduce_sum(at), elsewhere


@primitive("host", type="SparseOrder", dtypes=INDEX, no_gradient="an index", infer=lambda indices: Spec(types.int64,
                                                                                                     needs_rank(indices, 2)[:1]),
           output_dtypes=lambda indices: [types.int64])
def sparse_order(indices):
    """The order that sorts the rows of `indices` [N, rank] row-major; equal rows keep theirs."""


sparse_order.samples = [sample([[1, 0], [0, 2], [0, 1], [0, 2]])]
sparse_order.reference(lambda indices: np.lexsort(indices.T[::-1]) if indices.shape[1] else np.arange(len(indices)))


@primitive("host", type="SparseRows", dtypes=INDEX, no_gradient="an index", output_dtypes=lambda indices: [indices.dtype, types.int64],
           infer=lambda indices: [Spec(indices.dtype, (types.UNKNOWN, needs_rank(indices, 2)[1])), Spec(types.int64, indices.sizes[:1])])
def sparse_rows(indices):
    """The distinct rows of `indices` [N, rank] in row-major order, and for each row its place among them."""


sparse_rows.samples = [sample([[1, 0], [0, 2], [0, 1], [0, 2]])]


@sparse_rows.reference
def _(indices):
    rows, places = np.unique(indices, axis=0, return_inverse=True)
    return rows, places.reshape(-1)


# ---------------------------------------------------------------- to and from dense tensors


def _scope(name: str | None, default: str) -> Any:
    return graph.get_default_graph().name_scope(name or default)


def sparse_to_dense(sparse_indices: Any, output_shape: Any, sparse_values: Any, default_value: Any = 0, validate_indices: bool = True,
                    name: str | None = None) -> Tensor:
    """A dense tensor of `output_shape` with `sparse_values` at `sparse_indices` and `default_value` elsewhere.

    Args:
        sparse_indices: [N, rank]; [N] or a scalar for a vector.
        sparse_values: [N], or a scalar that stands at all positions.
        validate_indices: insist on row-major order without repetition.

    Raises (when run):
        InvalidArgumentError: an index outside `output_shape`, out of order or repeated.
    """
    values = convert_to_tensor(sparse_values)
    integer = types.int64 if not isinstance(sparse_indices, Tensor) else None
    shape = convert_to_tensor(output_shape, types.int64) if not isinstance(output_shape, Tensor) else output_shape
    return sparse_to_dense_op(convert_to_tensor(sparse_indices, integer), shape, values, _default(default_value, values.dtype),
                              validate_indices=bool(validate_indices), name=name or "SparseToDense")


def _default(value: Any, dtype: types.DType) -> Tensor:
    if value is None or not isinstance(value, (Tensor, str, bytes)) and dtype.kind == "s" and value == 0:
        value = "" if dtype.kind == "s" else 0
    return convert_to_tensor(bool(value) if dtype.kind == "b" and not isinstance(value, Tensor) else value, dtype)


def sparse_tensor_to_dense(sp_input: Any, default_value: Any = None, validate_indices: bool = True, name: str | None = None) -> Tensor:
    """`sp_input` as a dense tensor, with `default_value` (zero, or an empty string) where it has no element.

    Raises (when run):
        InvalidArgumentError: an index out of bounds; with `validate_indices` also one out of order or repeated.
    """
    sp = _sparse(sp_input)
    return sparse_to_dense(sp.indices, _shape_of(sp), sp.values, default_value, validate_indices, name)


def sparse_from_dense(tensor: Any, name: str | None = None) -> SparseTensor:
    """The elements of `tensor` that are not zero."""
    with _scope(name, "dense_to_sparse"):
        t = convert_to_tensor(tensor)
        zero = convert_to_tensor("" if t.dtype.kind == "s" else t.dtype.np.type(0), t.dtype)
        at = array_ops.where(math_ops.not_equal(t, zero))
        return SparseTensor(at, array_ops.gather_nd(t, at), array_ops.shape(t, out_type=types.int64))


def sparse_eye(num_rows: int, num_columns: int | None = None, dtype: Any = types.float32, name: str | None = None) -> SparseTensor:
    """Ones on the diagonal of a matrix."""
    with _scope(name, "eye"):
        n, k = int(num_rows), int(num_rows if num_columns is None else num_columns)
        at = np.repeat(np.arange(min(n, k), dtype=np.int64)[:, None], 2, 1)
        return SparseTensor(at, array_ops.ones([min(n, k)], dtype), [n, k])


def sparse_to_indicator(sp_input: Any, vocab_size: int, name: str | None = None) -> Tensor:
    """bool [D0, .., vocab_size]: whether an integer value stands in the row of the last dimension."""
    sp = _sparse(sp_input)
    with _scope(name, "SparseToIndicator"):
        last = array_ops.expand_dims(math_ops.cast(sp.values, types.int64), 1)
        at, _ = sparse_rows(array_ops.concat([sp.indices[:, :-1], last], 1))
        return sparse_to_dense(at, _vector([*_sizes(sp)[:-1], int(vocab_size)]), True, False)


# ---------------------------------------------------------------- order and selection


def _taken(sp: SparseTensor, order: Tensor) -> SparseTensor:
    return _like(sp, array_ops.gather(sp.indices, order), array_ops.gather(sp.values, order))


def sparse_reorder(sp_input: Any, name: str | None = None) -> SparseTensor:
    """The same elements in row-major order of their indices."""
    sp = _sparse(sp_input)
    with _scope(name, "SparseReorder"):
        return _taken(sp, sparse_order(sp.indices))


def sparse_retain(sp_input: Any, to_retain: Any) -> SparseTensor:
    """The elements for which `to_retain` (bool [N]) is True.  Raises ValueError when its length is known to differ."""
    sp, keep = _sparse(sp_input), convert_to_tensor(to_retain)
    types.merge_shapes(sp.values.sizes, keep.sizes)
    with _scope(None, "SparseRetain"):
        return _taken(sp, array_ops.where(keep)[:, 0])


def sparse_slice(sp_input: Any, start: Any, size: Any, name: str | None = None) -> SparseTensor:
    """The part that begins at `start` and has at most `size` along each dimension."""
    sp = _sparse(sp_input)
    with _scope(name, "SparseSlice"):
        start, size = _integers(start, "start"), _integers(size, "size")
        inside = math_ops.reduce_all(math_ops.logical_and(sp.indices >= start, sp.indices < start + size), 1)
        shape = math_ops.maximum(math_ops.minimum(sp.dense_shape - start, size), convert_to_tensor(0, types.int64))
        part = _taken(sp, array_ops.where(inside)[:, 0])
        return SparseTensor(part.indices - start, part.values, shape)


def sparse_split(keyword_required: Any = None, sp_input: Any = None, num_split: int | None = None, axis: int | None = None,
                 name: str | None = None, split_dim: int | None = None) -> list[SparseTensor]:
    """`num_split` parts along `axis`; the first ones are longer by one where the size does not divide."""
    if keyword_required is not None and not isinstance(keyword_required, (SparseTensor, SparseTensorValue)):
        raise ValueError("Keyword arguments are required for this function.")
    sp = _sparse(sp_input if sp_input is not None else keyword_required)
    axis = _axis(sp, axis if axis is not None else 0 if split_dim is None else split_dim)
    count = int(num_split)  # type: ignore[arg-type]
    with _scope(name, "SparseSplit"):
        n = sp.dense_shape[axis]
        edges = [n // count * k + math_ops.minimum(n % count, convert_to_tensor(k, types.int64)) for k in range(count + 1)]
        parts = []
        for a, b in zip(edges, edges[1:]):
            starts = [a if k == axis else 0 for k in range(_known_rank(sp))]
            sizes = [b - a if k == axis else s for k, s in enumerate(_sizes(sp))]
            parts.append(sparse_slice(sp, _vector(starts), _vector(sizes)))
        return parts


# ---------------------------------------------------------------- shapes


def sparse_concat(axis: int, sp_inputs: Sequence[Any], name: str | None = None, expand_nonconcat_dim: bool = False,
                  concat_dim: int | None = None, expand_nonconcat_dims: bool | None = None) -> SparseTensor:
    """SparseTensors one behind the other along `axis`, in row-major order.

    With `expand_nonconcat_dim` the other dimensions may differ: the result has the largest of each.

    Raises:
        ValueError: ranks or other dimensions that are known to differ.
        InvalidArgumentError (when run): other dimensions that differ.
    """
    axis = concat_dim if concat_dim is not None else axis
    expand = bool(expand_nonconcat_dim or expand_nonconcat_dims)
    sps = [_sparse(sp) for sp in (sp_inputs if isinstance(sp_inputs, (list, tuple)) and not isinstance(sp_inputs, SparseTensorValue)
                                  else [sp_inputs])]
    if not sps:
        raise ValueError("sparse_concat needs at least one SparseTensor")
    if len(sps) == 1:
        return sps[0]
    k = _axis(sps[0], axis)
    if len({_known_rank(sp) for sp in sps}) > 1:
        raise ValueError(f"sparse_concat: all inputs must have one rank, got {[_rank(sp) for sp in sps]}")
    with _scope(name, "SparseConcat"):
        sizes = [_sizes(sp) for sp in sps]
        checks, others = [], []
        for d in range(len(sizes[0])):
            of = [s[d] for s in sizes]
            checks += [] if d == k or expand else _all_equal(of, d)
            others.append(math_ops.reduce_max(_vector(of)) if expand and not all(isinstance(s, int) for s in of) else
                          max(of) if expand else of[0])
        edges: list[Any] = [0]
        for s in sizes:
            edges.append(edges[-1] + s[k])
        with graph.get_default_graph().control_dependencies(checks):
            shift = [_vector([e if d == k else 0 for d in range(len(others))]) for e in edges[:-1]]
            indices = array_ops.concat([sp.indices + s for sp, s in zip(sps, shift)], 0)
            values = array_ops.concat([sp.values for sp in sps], 0)
            shape = _vector([edges[-1] if d == k else s for d, s in enumerate(others)])
            return sparse_reorder(SparseTensor(indices, values, shape))


def _all_equal(sizes: Sequence[Any], dim: int) -> list[Any]:
    from .check_ops import assert_equal

    fixed = [s for s in sizes if isinstance(s, int)]
    if len(set(fixed)) > 1:
        at = next(i for i, s in enumerate(sizes) if isinstance(s, int) and s != fixed[0])
        raise ValueError(f"Input shapes must match: expected {fixed[0]} for dimension {dim} but got {sizes[at]} at position {at}")
    first = fixed[0] if fixed else sizes[0]
    return [assert_equal(s, convert_to_tensor(first, types.int64), message=f"Input shapes must match for dimension {dim}")
            for s in sizes if isinstance(s, Tensor) and s is not first]


def sparse_reset_shape(sp_input: Any, new_shape: Any = None) -> SparseTensor:
    """The same elements in a larger shape; without `new_shape` in the smallest that holds them.

    Raises:
        ValueError: `new_shape` has another rank, or is known to be smaller.
        InvalidArgumentError (when run): it is smaller.
    """
    from .check_ops import assert_less_equal

    sp = _sparse(sp_input)
    with _scope(None, "SparseResetShape"):
        if new_shape is None:
            # The largest of no index would be the least int64: 0 as the size then.
            zero = convert_to_tensor(0, types.int64)
            return SparseTensor(sp.indices, sp.values, math_ops.maximum(math_ops.reduce_max(sp.indices, 0), zero - 1) + 1)
        shape = _integers(new_shape, "new_shape")
        types.merge_shapes(sp.dense_shape.sizes, shape.sizes)
        have, want = _static_sizes(sp), constant_value(shape)
        if have is not None and want is not None and any(types.less(int(w), h) is True for h, w in zip(have, want)):
            raise ValueError(f"Requested new_shape should have dimension sizes >= sp_input.shape.  Found new_shape ({want}), "
                             f"sp_input.shape ({sp.shape}).")
        check = assert_less_equal(sp.dense_shape, shape, message="Requested new_shape should have dimension sizes >= sp_input.shape")
        with graph.get_default_graph().control_dependencies([] if check is None else [check]):
            return SparseTensor(sp.indices, sp.values, array_ops.identity(shape))


def sparse_reshape(sp_input: Any, shape: Any, name: str | None = None) -> SparseTensor:
    """The elements at the positions they have when the dense tensor is reshaped; one size may be -1."""
    sp = _sparse(sp_input)
    with _scope(name, "SparseReshape"):
        wanted = _integers(shape, "shape")
        old, rank = _sizes(sp), len_of(wanted)
        place = _places(sp, range(_known_rank(sp)))
        total = math_ops.reduce_prod(_vector(old))
        known = constant_value(wanted)
        if known is not None and all(isinstance(s, int) for s in old):
            new: list[Any] = _filled_in(known, int(np.prod(old)), sp)
        else:
            rest = math_ops.reduce_prod(array_ops.where(wanted < 0, array_ops.ones_like(wanted), wanted))
            new = [array_ops.where(wanted[k] < 0, total // rest, wanted[k]) for k in range(rank)]
        columns = []
        for s in reversed(new):
            columns.append(place % s)
            place = place // s
        return SparseTensor(array_ops.stack(columns[::-1], 1), sp.values, _vector(new))


def _filled_in(wanted: np.ndarray, total: int, sp: SparseTensor) -> list[Any]:
    rest = int(np.prod([int(w) for w in wanted if w >= 0]))
    if sum(w < 0 for w in wanted) > 1:
        raise ValueError(f"only one output dimension may be -1, got {wanted.tolist()}")
    new = [int(w) if w >= 0 else total // max(rest, 1) for w in wanted]
    if int(np.prod(new)) != total:
        raise ValueError(f"Cannot reshape a tensor with {total} elements to shape {wanted.tolist()}: {sp!r}")
    return new


def len_of(vector: Tensor) -> int:
    if vector.sizes is None or not isinstance(vector.sizes[0], int):
        raise ValueError(f"the length of {vector!r} must be known")
    return vector.sizes[0]


def _places(sp: SparseTensor, axes: Iterable[int]) -> Tensor:
    """For each element its place in row-major order over `axes`."""
    place, sizes = array_ops.zeros_like(sp.indices[:, 0]), _sizes(sp)
    for k in axes:
        place = place * sizes[k] + _column(sp, k)
    return place


def sparse_transpose(sp_input: Any, perm: Any = None, name: str | None = None) -> SparseTensor:
    """Dimension k of the result is dimension `perm[k]`; reversed without `perm`."""
    sp = _sparse(sp_input)
    with _scope(name, "SparseTranspose"):
        order = list(range(_known_rank(sp)))[::-1] if perm is None else [int(p) for p in perm]
        sizes = _sizes(sp)
        return sparse_reorder(SparseTensor(array_ops.gather(sp.indices, order, axis=1), sp.values, _vector([sizes[k] for k in order])))


def sparse_expand_dims(sp_input: Any, axis: int | None = None, name: str | None = None) -> SparseTensor:
    """A dimension of size 1 at `axis` (the last without it)."""
    sp = _sparse(sp_input)
    with _scope(name, "expand_dims"):
        rank = _known_rank(sp)
        k = types.canonical_axis(-1 if axis is None else axis, rank + 1)
        zero, sizes = array_ops.zeros_like(sp.indices[:, :1]), _sizes(sp)
        return SparseTensor(array_ops.concat([sp.indices[:, :k], zero, sp.indices[:, k:]], 1), sp.values,
                            _vector([*sizes[:k], 1, *sizes[k:]]))


def sparse_fill_empty_rows(sp_input: Any, default_value: Any, name: str | None = None) -> tuple[SparseTensor, Tensor]:
    """(`sp_input` with `default_value` at column 0 of every row that has no element, which rows those were).

    Raises (when run):
        InvalidArgumentError: an index outside the rows.
    """
    sp = _sparse(sp_input)
    with _scope(name, "SparseFillEmptyRows"):
        sizes = _sizes(sp)
        rows = sizes[0] if isinstance(sizes[0], Tensor) else convert_to_tensor(sizes[0], types.int64)
        counts = array_ops.unsorted_segment_sum(array_ops.ones_like(sp.indices[:, 0]), _column(sp, 0), rows)
        empty = math_ops.equal(counts, 0)
        at = array_ops.where(empty)
        indices = array_ops.concat([sp.indices, array_ops.pad(at, [[0, 0], [0, _known_rank(sp) - 1]])], 0)
        fill = array_ops.fill(array_ops.shape(at)[:1], _default(default_value, sp.dtype))
        full = _like(sp, indices, array_ops.concat([sp.values, fill], 0))
        return sparse_reorder(full), empty


# ---------------------------------------------------------------- arithmetic


def sparse_add(a: Any, b: Any, threshold: Any = None, thresh: Any = None) -> Any:
    """The sum: sparse where both are, dense where one is a tensor.

    Args:
        threshold: elements of a sparse sum whose absolute value is less are left out; 0 keeps all.

    Raises:
        TypeError: neither is a SparseTensor.  ValueError: shapes that differ.
    """
    if not isinstance(a, (SparseTensor, SparseTensorValue)) and not isinstance(b, (SparseTensor, SparseTensorValue)):
        raise TypeError("At least one input should be SparseTensor; do you mean to use tf.add()?")
    threshold = threshold if threshold is not None else 0 if thresh is None else thresh
    with _scope(None, "SparseAdd"):
        sparse = [x for x in (a, b) if isinstance(x, (SparseTensor, SparseTensorValue))]
        if len(sparse) == 1:
            sp, dense = _sparse(sparse[0]), b if sparse[0] is a else a
            dense = convert_to_tensor(dense, sp.dtype)
            types.merge_shapes(_static_sizes(sp), dense.sizes)
            return array_ops.tensor_scatter_add(dense, sp.indices, sp.values)
        first, second = _sparse(a), _sparse(b)
        found = _merged(first, second, array_ops.unsorted_segment_sum)
        if isinstance(threshold, (int, float)) and threshold == 0:
            return found
        limit = convert_to_tensor(threshold, found.dtype.real_dtype)
        return sparse_retain(found, math_ops.greater_equal(math_ops.abs(found.values), limit))


def _merged(a: SparseTensor, b: SparseTensor, combine: Any) -> SparseTensor:
    """The elements of both; those that stand at one place combined."""
    if a.dtype is not b.dtype:
        raise TypeError(f"SparseTensors of different types: {a.dtype.name} and {b.dtype.name}; convert with tf.cast")
    types.merge_shapes(_static_sizes(a), _static_sizes(b))
    rows, places = sparse_rows(array_ops.concat([a.indices, b.indices], 0))
    count = array_ops.shape(rows, out_type=types.int64)[0]
    return _like(a, rows, combine(array_ops.concat([a.values, b.values], 0), places, count))


def _extreme(combine: Any, choose: Any, name: str) -> Any:
    def op(sp_a: Any, sp_b: Any, name: str | None = None) -> SparseTensor:
        a, b = _sparse(sp_a), _sparse(sp_b)
        with _scope(name, op.__name__):
            # Where only one has an element the other is 0: zeros at all places of both.
            both = _merged(a.with_values(array_ops.zeros_like(a.values)), b.with_values(array_ops.zeros_like(b.values)),
                           array_ops.unsorted_segment_sum)
            parts = [_merged(x, both.with_values(array_ops.zeros_like(both.values)), array_ops.unsorted_segment_sum) for x in (a, b)]
            return _like(a, both.indices, choose(parts[0].values, parts[1].values))
    op.__name__ = op.__qualname__ = name
    op.__doc__ = f"The {'larger' if name.endswith('maximum') else 'smaller'} of two SparseTensors at each place where one has an element."
    return op


sparse_maximum = _extreme(None, math_ops.maximum, "sparse_maximum")
sparse_minimum = _extreme(None, math_ops.minimum, "sparse_minimum")


def sparse_tensor_dense_matmul(sp_a: Any, b: Any, adjoint_a: bool = False, adjoint_b: bool = False, name: str | None = None) -> Tensor:
    """The matrix product of a SparseTensor [m, k] and a dense matrix [k, n]; indices may be in any order, equal ones add up.

    Args:
        adjoint_a, adjoint_b: take the conjugate transpose first.

    Raises:
        ValueError: inner sizes that are known to differ.
        InvalidArgumentError (when run): an index out of bounds.
    """
    sp = _sparse(sp_a)
    with _scope(name, "SparseTensorDenseMatMul"):
        b = convert_to_tensor(b, preferred_dtype=sp.dtype)
        needs_rank(b, 2)
        if _rank(sp) not in (2, None):
            raise ValueError(f"sparse_tensor_dense_matmul needs a sparse matrix, got {sp!r} of rank {_rank(sp)}")
        values = sp.values
        if adjoint_b:
            b = array_ops.matrix_transpose(b, conjugate=True)
        if adjoint_a and values.dtype.kind == "c":
            values = math_ops.conj(values)
        row, inner = (1, 0) if adjoint_a else (0, 1)
        static = _static_sizes(sp) or (types.UNKNOWN,) * 2
        if types.same(static[inner], b.sizes[0]) is False:
            raise ValueError(f"Dimensions must be equal, but are {static[inner]} and {b.sizes[0]} for 'SparseTensorDenseMatMul' "
                             f"with input shapes: {sp.shape}{' (adjoint)' if adjoint_a else ''}, {b.shape}.")
        rows = static[row] if isinstance(static[row], int) else sp.dense_shape[row]
        return sparse_dense_matmul(_column(sp, row), _column(sp, inner), values, b, _vector([rows]))


def _reduced(sp_input: Any, axis: Any, keepdims: bool, combine: Any, name: str) -> Tensor:
    sp = _sparse(sp_input)
    rank = _known_rank(sp)
    folded = set(range(rank)) if axis is None else {_axis(sp, int(a)) for a in (axis if isinstance(axis, (list, tuple)) else [axis])}
    kept = [k for k in range(rank) if k not in folded]
    with _scope(None, name):
        sizes = _sizes(sp)
        found = combine(sp.values, _places(sp, kept), math_ops.reduce_prod(_vector([sizes[k] for k in kept])))
        return array_ops.reshape(found, _vector([1 if k in folded else s for k, s in enumerate(sizes) if keepdims or k not in folded]))


def sparse_reduce_sum(sp_input: Any, axis: Any = None, keepdims: bool | None = None, reduction_axes: Any = None,
                      keep_dims: bool | None = None) -> Tensor:
    """The sum over `axis` (an int or a list; all without it), a dense tensor.  Raises ValueError for an axis that is not there."""
    axis = reduction_axes if axis is None else axis
    return _reduced(sp_input, axis, bool(keepdims or keep_dims), array_ops.unsorted_segment_sum, "SparseReduceSum")


def sparse_reduce_max(sp_input: Any, axis: Any = None, keepdims: bool | None = None, reduction_axes: Any = None,
                      keep_dims: bool | None = None) -> Tensor:
    """The largest element over `axis` that is there, 0 where none is, a dense tensor."""
    def combine(values: Tensor, places: Tensor, n: Tensor) -> Tensor:
        counts = array_ops.unsorted_segment_sum(array_ops.ones_like(places), places, n)
        largest = array_ops.unsorted_segment_max(values, places, n)
        return array_ops.where(math_ops.equal(counts, 0), array_ops.zeros_like(largest), largest)

    axis = reduction_axes if axis is None else axis
    return _reduced(sp_input, axis, bool(keepdims or keep_dims), combine, "SparseReduceMax")


def _reduced_sparse(sp_input: Any, axis: Any, keepdims: bool, combine: Any, name: str) -> SparseTensor:
    """The reduction as a SparseTensor: its elements are the places at which something was there, in row-major order."""
    sp = _sparse(sp_input)
    rank = _known_rank(sp)
    folded = set(range(rank)) if axis is None else {_axis(sp, int(a)) for a in (axis if isinstance(axis, (list, tuple)) else [axis])}
    kept = [k for k in range(rank) if k not in folded]
    with _scope(None, name):
        rows, places = sparse_rows(array_ops.stack([_column(sp, k) for k in kept], 1) if kept else sp.indices[:, :0])
        values = combine(sp.values, places, array_ops.shape(rows)[0])
        sizes = _sizes(sp)
        if keepdims:
            zero = array_ops.zeros_like(rows[:, 0]) if kept else array_ops.zeros(array_ops.shape(values), types.int64)
            columns = {k: rows[:, i] for i, k in enumerate(kept)}
            rows = array_ops.stack([columns.get(k, zero) for k in range(rank)], 1)
        return SparseTensor(rows, values, _vector([1 if k in folded else s for k, s in enumerate(sizes) if keepdims or k not in folded]))


def sparse_reduce_sum_sparse(sp_input: Any, axis: Any = None, keepdims: bool | None = None, reduction_axes: Any = None,
                             keep_dims: bool | None = None) -> SparseTensor:
    """`sparse_reduce_sum` as a SparseTensor."""
    axis = reduction_axes if axis is None else axis
    return _reduced_sparse(sp_input, axis, bool(keepdims or keep_dims), array_ops.unsorted_segment_sum, "SparseReduceSumSparse")


def sparse_reduce_max_sparse(sp_input: Any, axis: Any = None, keepdims: bool | None = None, reduction_axes: Any = None,
                             keep_dims: bool | None = None) -> SparseTensor:
    """`sparse_reduce_max` as a SparseTensor."""
    axis = reduction_axes if axis is None else axis
    return _reduced_sparse(sp_input, axis, bool(keepdims or keep_dims), array_ops.unsorted_segment_max, "SparseReduceMaxSparse")


def sparse_mask(a: Any, mask_indices: Any, name: str | None = None) -> Any:
    """The rows of IndexedSlices whose index is not among `mask_indices`."""
    with _scope(name, "sparse_mask"):
        kept, places = array_ops.setdiff1d(a.indices, convert_to_tensor(mask_indices, a.indices.dtype))
        return array_ops.IndexedSlices(array_ops.gather(a.values, places), kept, a.dense_shape)


def sparse_matmul(a: Any, b: Any, transpose_a: bool = False, transpose_b: bool = False, a_is_sparse: bool = False,
                  b_is_sparse: bool = False, name: str | None = None) -> Tensor:
    """`matmul` of dense matrices that may have many zeros; the result is float32."""
    from .ops.contraction import matmul

    with _scope(name, "SparseMatMul") as scope:
        x, y = (math_ops.cast(convert_to_tensor(t), types.float32) for t in (a, b))
        return matmul(x, y, transpose_a=transpose_a, transpose_b=transpose_b, name=scope)


def sparse_merge(sp_ids: Any, sp_values: Any, vocab_size: Any, name: str | None = None, already_sorted: bool = False) -> SparseTensor:
    """Values at the positions that ids name: [.., vocab_size] from ids and values of equal positions.

    Args:
        sp_ids: a SparseTensor of integers, whose last dimension they replace; or a list of them, one for each last dimension.
        sp_values: a SparseTensor with the same indices.
        vocab_size: the size (or list of sizes) of the new dimensions.
        already_sorted: leave the order as it is.

    Raises:
        TypeError, ValueError: no SparseTensors, or lists that do not match.
    """
    several = isinstance(sp_ids, (list, tuple)) and not isinstance(sp_ids, SparseTensorValue)
    ids = [_sparse(sp, "sp_ids") for sp in (sp_ids if several else [sp_ids])]
    sizes = list(vocab_size) if isinstance(vocab_size, (list, tuple)) else [vocab_size]
    if len(ids) != len(sizes):
        raise ValueError(f"sp_ids and vocab_size have to have equal lengths, got {len(ids)} and {len(sizes)}.")
    values = _sparse(sp_values, "sp_values")
    with _scope(name, "SparseMerge"):
        columns = [array_ops.expand_dims(math_ops.cast(sp.values, types.int64), 1) for sp in ids]
        indices = array_ops.concat([ids[0].indices[:, :-1], *columns], 1)
        outer = _sizes(ids[0])[:-1]
        new = [int(s) if not isinstance(s, Tensor) else math_ops.cast(s, types.int64) for s in sizes]
        found = SparseTensor(indices, values.values, _vector([*outer, *new]))
        return found if already_sorted else sparse_reorder(found)


# ---------------------------------------------------------------- segments of rows chosen by indices


def _row_segments(data: Any, indices: Any, segment_ids: Any, num_segments: Any, name: str, sorted_op: Any, counted_op: Any) -> Tensor:
    with _scope(name, name) as scope:
        # Not along the first axis, where the gradient would be IndexedSlices.
        rows = array_ops.gather(array_ops.expand_dims(convert_to_tensor(data), 0), convert_to_tensor(indices), axis=1)[0]
        ids = math_ops.cast(convert_to_tensor(segment_ids), types.int32)
        found = sorted_op(rows, ids) if num_segments is None else counted_op(rows, ids, num_segments)
        return array_ops.identity(found, name=scope)


def sparse_segment_sum(data: Any, indices: Any, segment_ids: Any, name: str | None = None, num_segments: Any = None) -> Tensor:
    """The sums of segments of the rows of `data` at `indices`; `segment_ids` are sorted, or below `num_segments`."""
    return _row_segments(data, indices, segment_ids, num_segments, name or "SparseSegmentSum", array_ops.segment_sum,
                         array_ops.unsorted_segment_sum)


def sparse_segment_mean(data: Any, indices: Any, segment_ids: Any, name: str | None = None, num_segments: Any = None) -> Tensor:
    """`sparse_segment_sum` divided by the number of rows of each segment."""
    return _row_segments(data, indices, segment_ids, num_segments, name or "SparseSegmentMean", array_ops.segment_mean,
                         array_ops.unsorted_segment_mean)


def _segment_sqrt_n(rows: Tensor, ids: Tensor) -> Tensor:
    counts = array_ops.segment_sum(array_ops.ones_like(ids, dtype=rows.dtype), ids)
    counts = math_ops.maximum(counts, 1.0)  # segments without rows
    return array_ops.segment_sum(rows, ids) / array_ops.reshape(math_ops.sqrt(counts), [-1] + [1] * (len(needs_rank(rows)) - 1))


def sparse_segment_sqrt_n(data: Any, indices: Any, segment_ids: Any, name: str | None = None, num_segments: Any = None) -> Tensor:
    """`sparse_segment_sum` divided by the root of the number of rows of each segment."""
    return _row_segments(data, indices, segment_ids, num_segments, name or "SparseSegmentSqrtN", _segment_sqrt_n,
                         array_ops.unsorted_segment_sqrt_n)


def sparse_softmax(sp_input: Any, name: str | None = None) -> SparseTensor:
    """The softmax over the last dimension of the elements that are there (the others count as -inf)."""
    sp = _sparse(sp_input)
    with _scope(name, "SparseSoftmax"):
        outer, sizes = range(_known_rank(sp) - 1), _sizes(sp)
        places, n = _places(sp, outer), math_ops.reduce_prod(_vector([sizes[k] for k in outer]))
        largest = array_ops.gather(array_ops.unsorted_segment_max(sp.values, places, n), places)
        from .ops.elementwise import stop_gradient

        e = math_ops.exp(sp.values - stop_gradient(largest))
        return sp.with_values(e / array_ops.gather(array_ops.unsorted_segment_sum(e, places, n), places))


# ---------------------------------------------------------------- distances between sequences


@primitive("host", type="EditDistance", dtypes=ANY, same=("h_values", "t_values"), no_gradient="it counts",
           input_dtypes=dict.fromkeys(("h_indices", "h_shape", "t_indices", "t_shape"), INDEX),
           output_dtypes=lambda *_, **__: [types.float32])
def edit_distance_op(h_indices, h_values, h_shape, t_indices, t_values, t_shape, *, normalize=True):
    """Levenshtein distances of the sequences along the last dimension of two sparse tensors."""


@edit_distance_op.infers
def _(h_indices, h_values, h_shape, t_indices, t_values, t_shape, *, normalize):
    for i, v, s in ((h_indices, h_values, h_shape), (t_indices, t_values, t_shape)):
        needs_rank(i, 2), needs_rank(v, 1), needs_rank(s, 1)
    if h_shape.known is not None and t_shape.known is not None:
        return Spec(types.float32, tuple(types.UNKNOWN if isinstance(a, types.Dim) or isinstance(b, types.Dim) else max(int(a), int(b))
                                         for a, b in zip(h_shape.known[:-1], t_shape.known[:-1])))
    rank = next((t.sizes[-1] for t in (h_shape, t_shape, h_indices, t_indices) if isinstance(t.sizes[-1], int)), None)
    return Spec(types.float32, None if rank is None else (types.UNKNOWN,) * (rank - 1))


edit_distance_op.samples = [sample([[0, 0], [1, 0]], [1, 2], [2, 1], [[0, 0], [0, 1], [1, 0]], [3, 1, 2], [2, 2])]


@edit_distance_op.reference
def _(h_indices, h_values, h_shape, t_indices, t_values, t_shape, *, normalize):
    for what, i, s in (("hypothesis", h_indices, h_shape), ("truth", t_indices, t_shape)):
        problem = out_of_order(i, s)
        if problem:
            raise ValueError(f"{what} is not a valid SparseTensor: {problem}")
    if len(h_shape) != len(t_shape):
        raise ValueError(f"hypothesis and truth must have one rank, got shapes {h_shape.tolist()} and {t_shape.tolist()}")
    shape = tuple(int(max(a, b)) for a, b in zip(h_shape[:-1], t_shape[:-1]))
    said, meant = _sequences(h_indices, h_values), _sequences(t_indices, t_values)
    out = np.zeros(shape, np.float32)
    for at in {*said, *meant}:
        h, t = said.get(at, []), meant.get(at, [])
        d = levenshtein(h, t)
        out[at] = d if not normalize else d / len(t) if t else np.inf if d else 0.0
    return out


def _sequences(indices: np.ndarray, values: np.ndarray) -> dict[tuple[int, ...], list[Any]]:
    found: dict[tuple[int, ...], list[Any]] = {}
    for i, v in zip(indices.tolist(), values.tolist()):
        found.setdefault(tuple(i[:-1]), []).append(v)
    return found


def levenshtein(a: Sequence[Any], b: Sequence[Any]) -> int:
    """How many insertions, deletions and substitutions turn `a` into `b`."""
    row = list(range(len(b) + 1))
    for i, x in enumerate(a, 1):
        previous, row[0] = row[0], i
        for j, y in enumerate(b, 1):
            previous, row[j] = row[j], min(row[j] + 1, row[j - 1] + 1, previous + (x != y))
    return row[-1]


def edit_distance(hypothesis: Any, truth: Any, normalize: bool = True, name: str = "edit_distance") -> Tensor:
    """Levenshtein distances between the sequences along the last dimension of two SparseTensors, float32.

    Args:
        normalize: divide each by the length of the truth; infinite where that is empty and the hypothesis is not.

    Raises:
        TypeError: not SparseTensors.
        InvalidArgumentError (when run): indices out of order or bounds, ranks that differ.
    """
    h, t = _sparse(hypothesis, "Hypothesis"), _sparse(truth, "Truth")
    return edit_distance_op(*h._components(), *t._components(), normalize=bool(normalize), name=name or "edit_distance")
