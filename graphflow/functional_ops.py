"""Functions of the rows of tensors: `map_fn`, `scan`, `foldl`, `foldr`, `vectorized_map`.

Each is one `while_loop` whose counter is its first variable and counts by one: rows are read from unstacked TensorArrays, results
written to others.  Written on the public API.
"""
from __future__ import annotations

from typing import Any, Callable, Sequence

from . import graph, nest, types
from .control_flow_ops import while_loop
from .graph import Tensor
from .ops.opdef import constant, convert_to_tensor
from .tensor_array_ops import TensorArray

__all__ = ["map_fn", "scan", "foldl", "foldr", "vectorized_map"]


class _Rows:
    """The rows of a nesting of tensors.  Raises TypeError, ValueError for what has none, or not equally many."""

    def __init__(self, fn: Any, elems: Any):
        self.structure = elems
        flat = nest.flatten(elems)
        if not flat:
            raise ValueError("elems must contain at least one Tensor")
        self.tensors = [convert_to_tensor(x, name="elem") for x in flat]
        for t in self.tensors:
            if t.sizes == ():
                raise ValueError("elems must be a 1+ dimensional Tensor, not a scalar" if len(flat) == 1 else
                                 "elements in elems must be 1+ dimensional Tensors, not scalars")
        self.static = types.Dimension(None)
        for t in self.tensors:
            self.static = self.static.merge_with(t.shape.with_rank_at_least(1)[0])
        self.count: Any = self.tensors[0].shape.with_rank_at_least(1)[0].value
        if self.count is None:
            from .array_ops import shape

            self.count = shape(self.tensors[0])[0]
        self.arrays = [TensorArray(t.dtype, size=self.count, dynamic_size=False, infer_shape=True).unstack(t) for t in self.tensors]

    def read(self, i: Any) -> Any:
        return nest.pack_sequence_as(self.structure, [a.read(i) for a in self.arrays])

    def stack(self, arrays: Sequence[TensorArray]) -> list[Tensor]:
        """The results, which have as many rows as the elements."""
        found = [a.stack() for a in arrays]
        for t in found:
            t.set_shape(types.TensorShape([self.static]).concatenate(t.shape[1:]))
        return found


def _check(fn: Any, elems: Any) -> None:
    if not callable(fn):
        raise TypeError("fn must be callable.")
    if type(elems).__name__ == "SparseTensor":
        raise TypeError("To perform a map over the values of a sparse tensor use either  SparseTensor(input.indices, fn(input.values), "
                        "input.dense_shape) or  SparseTensor(input.indices, map_fn(fn, input.values), input.dense_shape)")


def map_fn(fn: Callable[..., Any], elems: Any, dtype: Any = None, parallel_iterations: int | None = None, back_prop: bool = True,
           swap_memory: bool = False, infer_shape: bool = True, name: str | None = None) -> Any:
    """`fn` of each row of `elems`, stacked.

    Args:
        fn: takes a row (a nesting of rows, as `elems` is), returns what `dtype` says.
        elems: a tensor of rank 1 or more, or a nesting of such, which have equally many rows.
        dtype: dtypes in the nesting that `fn` returns; when None it is that of `elems`, with their dtypes.
        back_prop, swap_memory, parallel_iterations: as for `while_loop`.
        infer_shape: check that all results have one shape.

    Raises:
        TypeError: `fn` is not callable, `elems` is sparse, a result of another dtype.
        ValueError: a scalar in `elems`, unequal numbers of rows, a result of another structure.
    """
    _check(fn, elems)
    with graph.get_default_graph().name_scope(name or "map"):
        rows = _Rows(fn, elems)
        wanted = nest.pack_sequence_as(elems, [t.dtype for t in rows.tensors]) if dtype is None else dtype
        outputs = [TensorArray(d, size=rows.count, dynamic_size=False, infer_shape=infer_shape) for d in nest.flatten(wanted)]

        def compute(i: Tensor, arrays: list[TensorArray]) -> Any:
            found = fn(rows.read(i))
            nest.assert_same_structure(wanted, found)
            return i + 1, [a.write(i, x) for a, x in zip(arrays, nest.flatten(found))]

        _, results = while_loop(lambda i, _: i < rows.count, compute, (constant(0), outputs), parallel_iterations=parallel_iterations or 10,
                                back_prop=back_prop, swap_memory=swap_memory)
        return nest.pack_sequence_as(wanted, rows.stack(results))


def scan(fn: Callable[..., Any], elems: Any, initializer: Any = None, parallel_iterations: int = 10, back_prop: bool = True,
         swap_memory: bool = False, infer_shape: bool = True, reverse: bool = False, name: str | None = None) -> Any:
    """All of a, fn(a, row 0), fn(fn(a, row 0), row 1), ... but the first, stacked; `a` is `initializer`.

    Without `initializer` the first row is the first result.  With `reverse` rows are taken from the last to the first, and results
    stand where their rows do.

    Args:
        fn: takes what it returned last and a row; returns a nesting like `initializer` (or `elems` without one).
        elems, back_prop, swap_memory, parallel_iterations, infer_shape: as for `map_fn`.

    Raises:
        TypeError, ValueError: as `map_fn`; also for a result whose dtype or shape is not that of `initializer`.
    """
    _check(fn, elems)
    with graph.get_default_graph().name_scope(name or "scan"):
        rows = _Rows(fn, elems)
        n, first, start = rows.count, rows.count - 1 if reverse else 0, 0 if initializer is not None else 1
        structure = elems if initializer is None else initializer
        last = [a.read(first) for a in rows.arrays] if initializer is None else [convert_to_tensor(x) for x in nest.flatten(initializer)]
        outputs = [TensorArray(a.dtype, size=n, element_shape=a.shape if infer_shape else None, dynamic_size=False, infer_shape=infer_shape)
                   for a in last]
        if initializer is None:
            outputs = [a.write(first, x) for a, x in zip(outputs, last)]

        def compute(i: Tensor, before: list[Tensor], arrays: list[TensorArray]) -> Any:
            found = fn(nest.pack_sequence_as(structure, before), rows.read(i))
            nest.assert_same_structure(structure, found)
            flat = nest.flatten(found)
            return i - 1 if reverse else i + 1, flat, [a.write(i, x) for a, x in zip(arrays, flat)]

        begin = convert_to_tensor(n - 1 - start if reverse else start)
        _, _, results = while_loop((lambda i, *_: i >= 0) if reverse else (lambda i, *_: i < n), compute, (begin, last, outputs),
                                   parallel_iterations=parallel_iterations, back_prop=back_prop, swap_memory=swap_memory)
        return nest.pack_sequence_as(structure, rows.stack(results))


def foldl(fn: Callable[..., Any], elems: Any, initializer: Any = None, parallel_iterations: int = 10, back_prop: bool = True,
          swap_memory: bool = False, name: str | None = None) -> Any:
    """fn(... fn(fn(initializer, row 0), row 1) ..., last row); without `initializer` it starts with the first row.

    Args, raises: as for `scan`.
    """
    _check(fn, elems)
    with graph.get_default_graph().name_scope(name or "foldl"):
        rows = _Rows(fn, elems)
        a, i = (rows.read(0), 1) if initializer is None else (initializer, 0)
        _, found = while_loop(lambda i, _: i < rows.count, lambda i, a: [i + 1, fn(a, rows.read(i))], [constant(i), a],
                              parallel_iterations=parallel_iterations, back_prop=back_prop, swap_memory=swap_memory)
        return found


def foldr(fn: Callable[..., Any], elems: Any, initializer: Any = None, parallel_iterations: int = 10, back_prop: bool = True,
          swap_memory: bool = False, name: str | None = None) -> Any:
    """fn(... fn(fn(initializer, last row), row before) ..., row 0); without `initializer` it starts with the last row.

    Args, raises: as for `scan`.
    """
    _check(fn, elems)
    with graph.get_default_graph().name_scope(name or "foldr"):
        rows = _Rows(fn, elems)
        last = rows.count - 1
        a, i = (rows.read(last), last - 1) if initializer is None else (initializer, last)
        _, found = while_loop(lambda i, _: i >= 0, lambda i, a: [i - 1, fn(a, rows.read(i))], [convert_to_tensor(i), a],
                              parallel_iterations=parallel_iterations, back_prop=back_prop, swap_memory=swap_memory)
        return found


def vectorized_map(fn: Callable[..., Any], elems: Any) -> Any:
    """`fn` of each row of `elems`, stacked; what `fn` returns may have any structure and dtypes.

    Args, raises: as for `map_fn`.  `fn` is called once.
    """
    _check(fn, elems)
    with graph.get_default_graph().name_scope("loop_body"):
        rows = _Rows(fn, elems)
        results, structure = _tabulate(lambda i: fn(rows.read(i)), rows.count)
        return nest.pack_sequence_as(structure, rows.stack(results))


def _tabulate(fn: Callable[[Tensor], Any], count: Any) -> tuple[list[TensorArray], Any]:
    """fn(0), fn(1), ..., fn(count - 1) in one TensorArray for each leaf; and the structure of what `fn` returns.

    The dtypes of the arrays are known only when `fn` has been called, so the body is built before its variables are.
    """
    from .ops import control

    g, n = graph.get_default_graph(), convert_to_tensor(count)
    ask, work = (control.enter(g, "a while loop") for _ in range(2))
    with g.inside(work):
        index = control.loop_variable(spec=graph.Spec(types.int32, ()))
        structure = fn(index)
        leaves = [convert_to_tensor(x) for x in nest.flatten(structure)]
    arrays = [TensorArray(t.dtype, size=n, element_shape=t.shape) for t in leaves]
    inits = [constant(0), *[c for a in arrays for c in a._components()]]
    shapes = [(), *[s for a in arrays for s in a._component_shapes()]]
    for region in (ask, work):
        region.name = g.get_name_scope()
        with g.inside(region):
            at = index if region is work else control.loop_variable(spec=graph.Spec(types.int32, ()))
            more = [control.loop_variable(spec=graph.Spec(t.dtype, s)) for t, s in zip(inits[1:], shapes[1:])]
            region.params = [at, *more]
            if region is ask:
                region.results = [at < n]
                continue
            parts = iter(more)
            new = [a._with_components([next(parts), next(parts)]).write(at, x) for a, x in zip(arrays, leaves)]
            region.results = [at + 1, *[c for a in new for c in a._components()]]
    outputs = iter(control.finish_while(g, inits, [ask, work]).outputs[1:])
    return [a._with_components([next(outputs), next(outputs)]) for a in arrays], structure
