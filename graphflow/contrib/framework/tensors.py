"""Checks of shapes and dtypes, and small functions of tensors."""
from __future__ import annotations

from typing import Any, Callable

import numpy as np

from ... import array_ops, check_ops, control_flow_ops, graph, math_ops, types
from ...graph import Graph, Tensor
from ...ops.host import py_func as plain_py_func
from ...ops.opdef import constant_value, convert_to_tensor
from ...sparse_tensor import SparseTensor, convert_to_tensor_or_sparse_tensor

__all__ = ["assert_scalar_int", "convert_to_tensor_or_sparse_tensor", "get_graph_from_inputs", "get_name_scope", "get_placeholders",
           "is_tensor", "prepend_name_scope", "py_func", "reduce_sum_n", "remove_squeezable_dimensions", "smart_case", "smart_cond",
           "smart_constant_value", "strip_name_scope", "with_same_shape", "with_shape"]


def is_tensor(x: Any) -> bool:
    """Whether `x` is a tensor, a sparse tensor or a variable."""
    return isinstance(x, (Tensor, SparseTensor)) or getattr(x, "handle", None) is not None or hasattr(x, "_as_graph_element")


def reduce_sum_n(tensors: Any, name: str | None = None) -> Tensor:
    """The sum of all elements of all tensors.  Raises ValueError for an empty list."""
    if not tensors:
        raise ValueError("No tensors provided.")
    with graph.get_default_graph().name_scope(name or "reduce_sum_n") as scope:
        sums = [math_ops.reduce_sum(t, name=f"{t.op.name}/sum") for t in tensors]
        return sums[0] if len(sums) == 1 else math_ops.add_n(sums, name=scope)


def remove_squeezable_dimensions(predictions: Any, labels: Any, name: str | None = None) -> tuple[Tensor, Tensor]:
    """(predictions, labels); the one that has a last axis of size 1 more than the other, without it."""
    with graph.get_default_graph().name_scope(name or "remove_squeezable_dimensions"):
        predictions, labels = convert_to_tensor(predictions), convert_to_tensor(labels)
        ranks = predictions.shape.ndims, labels.shape.ndims
        if None in ranks:
            more = array_ops.rank(predictions) - array_ops.rank(labels)
            return _squeezed_if(math_ops.equal(more, 1), predictions), _squeezed_if(math_ops.equal(more, -1), labels)
        if ranks[0] - ranks[1] == 1:
            predictions = array_ops.squeeze(predictions, [-1])
        elif ranks[1] - ranks[0] == 1:
            labels = array_ops.squeeze(labels, [-1])
        return predictions, labels


def _squeezed_if(wanted: Tensor, x: Tensor) -> Tensor:
    if x.shape.ndims is not None and not x.shape[-1].is_compatible_with(1):
        return x
    shape = array_ops.shape(x)
    return array_ops.reshape(x, control_flow_ops.cond(wanted, lambda: shape[:-1], lambda: shape))


def with_same_shape(expected_tensor: Tensor, tensor: Tensor) -> Tensor:
    """`tensor`, checked to have the shape of `expected_tensor`."""
    shape = expected_tensor.get_shape()
    return with_shape(shape.as_list() if shape.is_fully_defined() else array_ops.shape(expected_tensor), tensor)


def with_shape(expected_shape: Any, tensor: Any) -> Tensor:
    """`tensor`, checked to have this shape: now if both are known, else when it runs (-1 allows any size).

    Raises:
        ValueError: the shapes differ; the expected one is no vector of int32; the tensor is sparse.
    """
    if isinstance(tensor, SparseTensor):
        raise ValueError("SparseTensor not supported.")
    expected, given = expected_shape, tensor.get_shape()
    if isinstance(expected, types.TensorShape):
        expected = [-1 if n is None else n for n in expected.as_list()]
    dynamic = isinstance(expected, Tensor)
    if not dynamic:
        expected = np.asarray(expected, np.int32) if np.size(expected) == 0 or np.asarray(expected).dtype == np.int64 else \
            np.asarray(expected)
        if expected.ndim > 1:
            raise ValueError(f"Invalid rank {expected.ndim} for shape {expected} expected of tensor {tensor.name}.")
    if expected.dtype != (types.int32 if dynamic else np.int32):
        raise ValueError(f"Invalid dtype {expected.dtype} for shape {expected_shape} expected of tensor {tensor.name}.")
    wanted = None if dynamic else [None if n < 0 else int(n) for n in expected]
    if wanted == [] and (given.ndims is None or given.as_list() in ([1], [None])):
        return array_ops.reshape(tensor, [])
    if wanted is not None and not given.is_compatible_with(wanted):
        raise ValueError(f"Invalid shape for tensor {tensor.name}, expected {wanted}, got {given}.")
    if not dynamic and given.is_fully_defined():
        return tensor
    actual = array_ops.shape(tensor)
    same_rank = math_ops.equal(array_ops.size(expected), array_ops.rank(tensor))
    fits = control_flow_ops.cond(
        same_rank, lambda: math_ops.reduce_all(math_ops.logical_or(math_ops.equal(expected, -1), math_ops.equal(expected, actual))),
        lambda: same_rank)
    check = check_ops.Assert(fits, [f"Wrong shape for {tensor.name} [expected] [actual].", expected, actual])
    with graph.get_default_graph().control_dependencies([check]):
        result = array_ops.identity(tensor)
    if wanted is not None:
        result.set_shape(wanted)
    return result


def assert_scalar_int(tensor: Any, name: str | None = None) -> Tensor:
    """The tensor, an integer scalar.  Raises ValueError for another dtype or rank."""
    tensor = convert_to_tensor(tensor)
    if not tensor.dtype.base_dtype.is_integer:
        raise ValueError(f"Expected integer type for {tensor.name}, received type: {tensor.dtype}.")
    return check_ops.assert_scalar(tensor, name=name)


def get_graph_from_inputs(op_input_list: Any, graph: Graph | None = None) -> Graph:
    """`graph`, or that of the first tensor or operation among the inputs, or the default graph.

    Raises:
        TypeError: `graph` is no Graph.  ValueError: the inputs are of several graphs.
    """
    from ...graph import get_default_graph

    if graph is not None and not isinstance(graph, Graph):
        raise TypeError(f"Input graph needs to be a Graph: {graph!r}")
    if not isinstance(op_input_list, (list, tuple)):
        raise TypeError(f"The op_input_list must be a list or a tuple: {op_input_list!r}")
    for x in op_input_list:
        own = getattr(x, "graph", None)
        if isinstance(own, Graph):
            if graph is not None and own is not graph:
                raise ValueError(f"{x!r} must be from the same graph as the other inputs")
            graph = own
    return graph or get_default_graph()


def get_name_scope() -> str:
    """The current name scope, without its last slash."""
    return graph.get_default_graph().get_name_scope()


def get_placeholders(graph: Graph) -> list[Tensor]:
    """All placeholders of a graph.  Raises TypeError for something else."""
    if not isinstance(graph, Graph):
        raise TypeError(f"Input graph needs to be a Graph: {graph!r}")
    return [op.outputs[0] for op in graph.get_operations() if op.type == "Placeholder"]


def prepend_name_scope(name: str, import_scope: str | None) -> str:
    """`name` below `import_scope`; "^" (control edges), "@" and "loc:@" stay in front."""
    if not import_scope:
        return name
    start = next((p for p in ("loc:@", "^", "@") if name.startswith(p)), "")
    return f"{start}{import_scope.rstrip('/')}/{name[len(start):]}"


def strip_name_scope(name: str, export_scope: str | None) -> str:
    """`name` without `export_scope` in front."""
    if not export_scope:
        return name
    start = next((p for p in ("loc:@", "^", "@") if name.startswith(p)), "")
    return start + name[len(start):].removeprefix(export_scope.rstrip("/") + "/")


def smart_constant_value(pred: Any) -> bool | None:
    """The value of a predicate as far as it is known while building, else None.

    Raises:
        TypeError: `pred` is no bool, 0, 1 or tensor.
    """
    if isinstance(pred, (bool, np.bool_)) or isinstance(pred, int) and pred in (0, 1):
        return bool(pred)
    if not isinstance(pred, Tensor) and getattr(pred, "handle", None) is None:
        raise TypeError(f"`pred` must be a Tensor, or a Python bool, or 1 or 0. Found instead: {pred!r}")
    value = constant_value(pred) if isinstance(pred, Tensor) else None
    return None if value is None else bool(value)


def smart_cond(pred: Any, true_fn: Any = None, false_fn: Any = None, name: str | None = None) -> Any:
    """The result of one function when `pred` is known, else `tf.cond`.  Raises TypeError unless both are functions."""
    for what, fn in (("true_fn", true_fn), ("false_fn", false_fn)):
        if not callable(fn):
            raise TypeError(f"`{what}` must be callable, got {fn!r}")
    value = smart_constant_value(pred)
    if value is not None:
        return true_fn() if value else false_fn()
    return control_flow_ops.cond(pred, true_fn=true_fn, false_fn=false_fn, name=name)


def smart_case(pred_fn_pairs: Any, default: Any = None, exclusive: bool = False, name: str = "smart_case") -> Any:
    """`tf.case`, decided now as far as the predicates are known."""
    pairs = list(pred_fn_pairs.items()) if isinstance(pred_fn_pairs, dict) else list(pred_fn_pairs)
    open_pairs = []
    for pred, fn in pairs:
        value = smart_constant_value(pred)
        if value and not open_pairs:
            return fn()
        if value is not False:
            open_pairs.append((convert_to_tensor(pred), fn))
    if not open_pairs and default is not None:
        return default()
    return control_flow_ops.case(open_pairs, default=default, exclusive=exclusive, name=name)


def py_func(func: Callable[..., Any], args: Any = (), kwargs: Any = None, output_types: Any = None, output_shapes: Any = None,
            stateful: bool = True, name: str | None = None) -> Any:
    """A Python function of NumPy arrays as an op, with keyword arguments and shapes.

    Args:
        args, kwargs: structures of tensors.
        output_types: a structure of dtypes, or None when `func` returns nothing.
        output_shapes: the shapes in the same structure, or one for all.

    Returns:
        Tensors in the structure of `output_types`; the operation if that is None.
    """
    from ... import nest

    args, kwargs = tuple(args), dict(kwargs or {})
    flat = [convert_to_tensor(x) for x in nest.flatten((args, kwargs))]
    dtypes = [] if output_types is None else nest.flatten(output_types)

    def call(*values: Any) -> Any:
        given, named = nest.pack_sequence_as((args, kwargs), list(values))
        result = func(*given, **named)
        if output_types is None:
            return np.int32(0)
        return [np.asarray(v, types.as_dtype(t).np) for v, t in zip(nest.flatten_up_to(output_types, result), dtypes)]

    found = plain_py_func(call, flat, dtypes or [types.int32], stateful, name)
    if output_types is None:
        return found[0].op
    if output_shapes is not None:
        shapes = [output_shapes] * len(found) if isinstance(output_shapes, types.TensorShape) or not nest.is_sequence(output_types) else \
            nest.flatten_up_to(output_types, output_shapes)
        for t, shape in zip(found, shapes):
            t.set_shape(shape)
    return nest.pack_sequence_as(output_types, found)
