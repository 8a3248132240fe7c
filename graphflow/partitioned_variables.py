"""Variables kept in parts: partitioners, `PartitionedVariable`, and what `get_variable(partitioner=...)` makes.

A partitioner is a function `(shape, dtype) -> parts along each axis`, of which at most one may be more than 1.  The parts are ordinary
variables `name/part_0`, `name/part_1`, ...; as a tensor the variable is their concatenation.
"""
from __future__ import annotations

import math
from typing import Any, Callable, Iterator, Sequence

from . import array_ops, graph, types
from .control_flow_ops import group
from .graph import Operators, Tensor
from .ops.opdef import convert_to_tensor

__all__ = ["PartitionedVariable", "create_partitioned_variables", "fixed_size_partitioner", "min_max_variable_partitioner",
           "variable_axis_size_partitioner"]


class SaveSliceInfo:
    """Which part of a whole variable one part is.

    Attributes:
        full_name, full_shape: of the whole.
        var_offset, var_shape: where the part begins and its sizes, lists of ints.
    """

    def __init__(self, full_name: Any = None, full_shape: Any = None, var_offset: Any = None, var_shape: Any = None,
                 save_slice_info_def: Any = None, import_scope: Any = None):
        self.full_name, self.full_shape, self.var_offset, self.var_shape = full_name, full_shape, var_offset, var_shape

    @property
    def spec(self) -> str:
        """TF's text form: the whole shape, then `offset,size` of each axis."""
        parts = ":".join(f"{o},{s}" for o, s in zip(self.var_offset, self.var_shape))
        return " ".join(map(str, self.full_shape)) + " " + parts


class PartitionInfo:
    """What an initializer with an argument `partition_info` is told: the whole shape, and where the part begins."""

    def __init__(self, full_shape: Sequence[int], var_offset: Sequence[int]):
        self.full_shape, self.var_offset = list(full_shape), list(var_offset)

    def single_offset(self, shape: Sequence[int]) -> int:
        """The offset along the axis that is split; 0 if none is."""
        axis = self.single_slice_dim(shape)
        return 0 if axis is None else self.var_offset[axis]

    def single_slice_dim(self, shape: Sequence[int]) -> int | None:
        """The axis along which a part of `shape` is smaller than the whole, or None.  Raises ValueError when several are."""
        found = [k for k, (n, whole) in enumerate(zip(shape, self.full_shape)) if n != whole]
        if len(found) > 1:
            raise ValueError(f"Cannot use single_slice_dim() with shape {list(shape)} and full_shape {self.full_shape} since slice dim "
                             f"could be either dimension {found[0]} or {found[1]}.")
        return found[0] if found else None


class PartitionedVariable(Operators):
    """Variables that together are one: an iterable of its parts, and as a tensor their concatenation.

    Args:
        name: of the whole.
        shape, dtype: of the whole.
        variable_list: the parts, in order; each has `_save_slice_info`.
        partitions: how many parts along each axis.

    Raises:
        TypeError, ValueError: no list of such variables.
    """

    def __init__(self, name: str, shape: Any, dtype: Any, variable_list: Sequence[Any], partitions: Sequence[int]):
        if not isinstance(variable_list, (list, tuple)):
            raise TypeError(f"variable_list is not a list or tuple: {variable_list!r}")
        if not isinstance(partitions, (list, tuple)) or any(p < 1 for p in partitions):
            raise ValueError(f"partitions must be a list of positive numbers: {partitions!r}")
        if not variable_list:
            raise ValueError("variable_list may not be empty")
        for v in variable_list:
            if getattr(v, "_save_slice_info", None) is None:
                raise ValueError(f"All variables must have a save_slice_info() available: {v!r}")
        self._parts = sorted(variable_list, key=lambda v: v._save_slice_info.var_offset)
        self._name, self._shape, self._dtype, self._partitions = name, types.TensorShape(shape), types.as_dtype(dtype), list(partitions)

    name = property(lambda self: self._name)
    dtype = property(lambda self: self._dtype)
    shape = property(lambda self: self._shape)
    graph = property(lambda self: self._parts[0].graph)
    op = property(lambda self: self._concat().op)

    def get_shape(self) -> types.TensorShape:
        return self._shape

    def __iter__(self) -> Iterator[Any]:
        return iter(self._parts)

    def __len__(self) -> int:
        """How many parts there are along the axis that is split."""
        axes = [p for p in self._partitions if p > 1]
        if len(axes) > 1:
            raise ValueError(f"Cannot get a length for {len(axes)} > 1 partition axes")
        return len(self._parts)

    def _axis(self) -> int:
        return next((k for k, p in enumerate(self._partitions) if p > 1), 0)

    def _partition_axes(self) -> list[int]:
        return [k for k, p in enumerate(self._partitions) if p > 1] or [0]

    def _get_variable_list(self) -> list[Any]:
        return self._parts

    def _get_partitions(self) -> list[int]:
        return self._partitions

    def _concat(self) -> Tensor:
        values = [v.value() for v in self._parts]
        if len(values) == 1:
            return array_ops.identity(values[0], name=self._name.replace(":", "_"))
        with graph.get_default_graph().name_scope(self._name + "/ConcatPartitions/"):
            return array_ops.concat(values, self._axis())

    def as_tensor(self) -> Tensor:
        """The whole, at this point of the program."""
        return self._concat()

    _as_tensor = as_tensor

    @property
    def initializer(self) -> Any:
        return group(*[v.initializer for v in self._parts])

    def _each(self, method: str, value: Any, *args: Any, **kwargs: Any) -> list[Any]:
        """The method of each part with its piece of `value`, a tensor or another PartitionedVariable split alike."""
        if isinstance(value, PartitionedVariable):
            pieces: Sequence[Any] = list(value)
        elif isinstance(value, (list, tuple)) and len(value) == len(self._parts) and not isinstance(value[0], (int, float)):
            pieces = value
        else:
            sizes = [v.shape.as_list()[self._axis()] for v in self._parts]
            whole = convert_to_tensor(value, self._dtype)
            pieces = array_ops.split(whole, sizes, axis=self._axis()) if len(sizes) > 1 else [whole]
        return [getattr(v, method)(p, *args, **kwargs) for v, p in zip(self._parts, pieces)]

    def assign(self, value: Any, use_locking: bool = False, name: str | None = None, read_value: bool = True) -> list[Any]:
        """The parts set to the pieces of `value`; a tensor for each."""
        return self._each("assign", value, use_locking, name, read_value)

    def assign_add(self, value: Any, use_locking: bool = False, name: str | None = None, read_value: bool = True) -> list[Any]:
        return self._each("assign_add", value, use_locking, name, read_value)

    def assign_sub(self, value: Any, use_locking: bool = False, name: str | None = None, read_value: bool = True) -> list[Any]:
        return self._each("assign_sub", value, use_locking, name, read_value)

    def eval(self, session: Any = None) -> Any:
        return self._concat().eval(session=session)

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    def __ne__(self, other: object) -> bool:
        return self is not other

    def __repr__(self) -> str:
        return f"<tf.PartitionedVariable '{self._name}' shape={self._shape} dtype={self._dtype.name} partitions={self._partitions}>"


# ---------------------------------------------------------------- making one


def cut(name: str, sizes: Sequence[int], partitions: Sequence[int]) -> tuple[int, list[tuple[list[int], list[int]]]]:
    """(the axis that is split, offset and shape of each part).  The first parts are longer by one where the size does not divide.

    Raises:
        ValueError: partitions that do not fit `sizes`, or several axes that are split.
    """
    if len(partitions) != len(sizes):
        raise ValueError(f"Partitioner returned a partition list that does not match the Variable's rank: {list(partitions)} vs. "
                         f"{list(sizes)} ({name})")
    for p, n in zip(partitions, sizes):
        if p <= 0 or n and p > n:
            raise ValueError(f"Partitioner returned {list(partitions)} for variable {name} of shape {list(sizes)}: the number of parts "
                             "must be from 1 to the size of the axis")
    axes = [k for k, p in enumerate(partitions) if p > 1]
    if len(axes) > 1:
        raise ValueError(f"Cannot slice more than one dimension: {name} of shape {list(sizes)} by {list(partitions)}")
    axis = axes[0] if axes else 0
    count, rest = divmod(sizes[axis], partitions[axis])
    found, offset = [], 0
    for i in range(partitions[axis]):
        n = count + (i < rest)
        found.append(([offset if k == axis else 0 for k in range(len(sizes))], [n if k == axis else s for k, s in enumerate(sizes)]))
        offset += n
    return axis, found


def make(name: str, shape: Any, dtype: types.DType, partitioner: Callable[..., Any], part: Callable[..., Any]) -> PartitionedVariable:
    """A new variable in parts; `part(name, shape, info, axis)` makes one of them.

    Raises:
        ValueError: a shape that is not fully known, a partitioner whose answer does not fit it.
    """
    whole = types.TensorShape(shape)
    if not whole.is_fully_defined():
        raise ValueError(f"Shape of a new partitioned variable ({name}) must be fully defined, but instead was {whole}.")
    sizes = [int(n) for n in whole.as_list()]
    partitions = partitioner(shape=whole, dtype=dtype)
    if not isinstance(partitions, (list, tuple)) or not partitions:
        raise ValueError(f"Partitioner must return a sequence, but saw: {partitions}")
    partitions = [int(p) for p in partitions]
    axis, pieces = cut(name, sizes, partitions)
    parts = []
    for i, (offset, piece) in enumerate(pieces):
        v = part(f"{name}/part_{i}", piece, PartitionInfo(sizes, offset), axis)
        v._set_save_slice_info(SaveSliceInfo(name, sizes, offset, piece))
        parts.append(v)
    return PartitionedVariable(name, whole, dtype, parts, partitions)


def create_partitioned_variables(shape: Any, slicing: Sequence[int], initializer: Any, dtype: Any = types.float32, trainable: bool = True,
                                 collections: Any = None, name: str | None = None, reuse: Any = None) -> list[Any]:
    """The parts of a variable of `shape`, `slicing[k]` of them along axis k (at most one axis may have more than 1).

    Raises:
        ValueError: a slicing that does not fit the shape.
    """
    from .variable_scope import get_variable, variable_scope

    if len(shape) != len(slicing):
        raise ValueError("The 'shape' and 'slicing' of a new Partitioned Variable must have the length: "
                         f"shape: {shape}, slicing: {slicing}")
    if len(shape) < 1:
        raise ValueError(f"A new Partitioned Variable must have rank at least 1: shape: {shape}")
    with variable_scope(name, "PartitionedVariable", reuse=reuse):
        found = get_variable("PartitionedVariable" if name is None else name, shape, dtype, initializer, trainable=trainable,
                             collections=collections, partitioner=lambda **_: list(slicing))
    return list(found)


# ---------------------------------------------------------------- partitioners


def _along(axis: int, count: int, rank: int, what: str) -> list[int]:
    if not 0 <= axis < rank:
        raise ValueError(f"{what}: axis {axis} is not an axis of a variable of rank {rank}")
    return [count if k == axis else 1 for k in range(rank)]


def fixed_size_partitioner(num_shards: int, axis: int = 0) -> Callable[..., list[int]]:
    """`num_shards` parts along `axis`, fewer if that is shorter."""
    def partitioner(shape: Any, **_: Any) -> list[int]:
        sizes = types.TensorShape(shape).as_list()
        return _along(axis, min(num_shards, sizes[axis]), len(sizes), "fixed_size_partitioner")

    return partitioner


def _row_bytes(sizes: Sequence[int], axis: int, dtype: Any, string_bytes: int) -> int:
    dtype = types.as_dtype(dtype)
    element = string_bytes if dtype.kind == "s" else dtype.size
    return element * math.prod(n for k, n in enumerate(sizes) if k != axis)


def variable_axis_size_partitioner(max_shard_bytes: int, axis: int = 0, bytes_per_string_element: int = 16,
                                   max_shards: int | None = None) -> Callable[..., list[int]]:
    """As few parts along `axis` as keep each of them within `max_shard_bytes`, at most `max_shards`.

    Raises:
        ValueError: limits that are not positive.
    """
    if max_shard_bytes < 1 or bytes_per_string_element < 1:
        raise ValueError("Both max_shard_bytes and bytes_per_string_element must be positive. Currently they are "
                         f"{max_shard_bytes} and {bytes_per_string_element} respectively")
    if max_shards is not None and max_shards < 1:
        raise ValueError(f"max_shards must be positive, got {max_shards}.")

    def partitioner(shape: Any, dtype: Any) -> list[int]:
        sizes = types.TensorShape(shape).as_list()
        rows = max(1, max_shard_bytes // max(_row_bytes(sizes, axis, dtype, bytes_per_string_element), 1))
        count = -(-sizes[axis] // rows)
        return _along(axis, max(1, min(count, sizes[axis], max_shards or count)), len(sizes), "variable_axis_size_partitioner")

    return partitioner


def min_max_variable_partitioner(max_partitions: int = 1, axis: int = 0, min_slice_size: int = 256 << 10,
                                 bytes_per_string_element: int = 16) -> Callable[..., list[int]]:
    """At most `max_partitions` parts along `axis`, each of at least `min_slice_size` bytes."""
    def partitioner(shape: Any, dtype: Any) -> list[int]:
        sizes = types.TensorShape(shape).as_list()
        if axis >= len(sizes):
            raise ValueError(f"Cannot partition variable along axis {axis} when shape is only {sizes}")
        whole = _row_bytes(sizes, axis, dtype, bytes_per_string_element) * sizes[axis]
        count = min(max_partitions, sizes[axis], -(-whole // min_slice_size))
        return _along(axis, max(1, count), len(sizes), "min_max_variable_partitioner")

    return partitioner
