"""Contractions by index labels: `einsum` and `tensordot`, made of transposes, reshapes and one (batch) matrix product a pair.

A pair of labelled tensors is contracted as [batch..., free, contracted] x [batch..., contracted, free]; a transpose that only
swaps the last two groups becomes a flag of the product.  What needs no product (no contracted label, or no free ones) is a
multiplication and a sum, which fuse with what stands around them.
"""
from __future__ import annotations

from typing import Any, NamedTuple, Sequence

import numpy as np

from .. import graph, types
from ..codegen import ir
from ..codegen.ir import m
from ..graph import Spec, Tensor
from . import array, reduce
from .contraction import MATMUL, batch_matmul_op, matmul_op
from .elementwise import multiply
from .opdef import composite, constant_value, convert_to_tensor, movement, needs_rank


class Labelled(NamedTuple):
    """A tensor and the label of each of its axes."""

    tensor: Tensor
    labels: tuple[Any, ...]

    def size(self, label: Any) -> Any:
        """The size of an axis: a number, or a scalar tensor."""
        return array.size_along(self.tensor, self.labels.index(label))


def reordered(x: Labelled, labels: Sequence[Any]) -> Labelled:
    """The same with its axes in the order of `labels`."""
    if tuple(labels) == x.labels:
        return x
    return Labelled(array.transpose(x.tensor, perm=tuple(x.labels.index(n) for n in labels)), tuple(labels))


def summed(x: Labelled, gone: Sequence[Any]) -> Labelled:
    """The sum over the labels in `gone`."""
    if not gone:
        return x
    axes = tuple(i for i, n in enumerate(x.labels) if n in gone)
    return Labelled(reduce.reduce_sum_op(x.tensor, axis=axes, keepdims=False), tuple(n for n in x.labels if n not in gone))


def reshaped(t: Tensor, sizes: Sequence[Any]) -> Tensor:
    """`t` with these sizes, numbers or scalar tensors; at most one dynamic size is left to be worked out."""
    unknown = [i for i, s in enumerate(sizes) if isinstance(s, Tensor)]
    if len(unknown) == 1 and 0 not in sizes:
        sizes = [-1 if isinstance(s, Tensor) else s for s in sizes]
    return array.reshape(t, array.vector(*sizes))


def product_of(sizes: Sequence[Any]) -> Any:
    out: Any = 1
    for s in sizes:
        out = s if isinstance(out, int) and out == 1 else out * s
    return out


def contract(a: Labelled, b: Labelled, keep: Sequence[Any]) -> Labelled:
    """The product of two tensors, summed over the labels not in `keep`; the result's labels are some order of the kept ones."""
    a = summed(a, [n for n in a.labels if n not in keep and n not in b.labels])
    b = summed(b, [n for n in b.labels if n not in keep and n not in a.labels])
    shared = [n for n in a.labels if n in b.labels]
    batch, inner = [n for n in keep if n in shared], [n for n in shared if n not in keep]
    free_a, free_b = ([n for n in x.labels if n not in shared] for x in (a, b))
    if not inner or not free_a and not free_b:
        return _multiplied(a, b, [n for n in keep if n in a.labels or n in b.labels], inner)
    if list(keep) == batch + free_b + free_a and free_a and free_b:
        a, b, free_a, free_b = b, a, free_b, free_a
    return _product(a, b, batch, free_a, free_b, inner)


def _multiplied(a: Labelled, b: Labelled, kept: Sequence[Any], inner: Sequence[Any]) -> Labelled:
    order = [*kept, *inner]
    x, y = (_spread(t, order) for t in (a, b))
    return summed(Labelled(multiply(x, y), tuple(order)), inner)


def _spread(x: Labelled, order: Sequence[Any]) -> Tensor:
    """The tensor with its axes in this order and size 1 where it has none."""
    x = reordered(x, [n for n in order if n in x.labels])
    missing = tuple(i for i, n in enumerate(order) if n not in x.labels)
    for axis in missing:
        x = Labelled(array.expand_dims(x.tensor, axis=axis), x.labels)
    return x.tensor


def _product(a: Labelled, b: Labelled, batch: list[Any], free_a: list[Any], free_b: list[Any], inner: list[Any]) -> Labelled:
    left, flag_a = _matrix(a, batch, free_a, inner)
    right, flag_b = _matrix(b, batch, inner, free_b)
    op = batch_matmul_op if batch else matmul_op
    y = op(left, right, transpose_a=flag_a, transpose_b=flag_b)
    if len(free_a) != 1 or len(free_b) != 1:
        # A batch axis may have size 1 in one operand (ellipsis): the product's own size is the one to keep.
        sizes = [array.size_along(y, i) for i in range(len(batch))]
        y = reshaped(y, [*sizes, *map(a.size, free_a), *map(b.size, free_b)])
    return Labelled(y, (*batch, *free_a, *free_b))


def _matrix(x: Labelled, batch: list[Any], rows: list[Any], columns: list[Any]) -> tuple[Tensor, bool]:
    """[batch..., rows, columns] as a batch of matrices, or its transpose and True when that saves moving elements."""
    flag = x.labels == (*batch, *columns, *rows) and x.labels != (*batch, *rows, *columns)
    groups = [columns, rows] if flag else [rows, columns]
    t = reordered(x, [*batch, *groups[0], *groups[1]]).tensor
    if len(rows) != 1 or len(columns) != 1:
        t = reshaped(t, [*[x.size(n) for n in batch], *[product_of([x.size(n) for n in g]) for g in groups]])
    return t, flag


# ---------------------------------------------------------------- einsum


def einsum(equation: str, *inputs: Any, **kwargs: Any) -> Tensor:
    """Sums of products of elements named by index labels, e.g. `einsum("bij,bjk->bik", x, y)`.

    Letters name axes, `...` stands for axes that broadcast, a label repeated within one term takes the diagonal, a label
    missing from the output is summed.  Without `->` the output holds, in alphabetical order, the labels that occur once.
    More than two operands are contracted from the left.

    Raises:
        ValueError: the equation is malformed, or does not fit the ranks or sizes of the inputs.
    """
    name = kwargs.pop("name", None)
    if kwargs:
        raise TypeError(f"invalid keyword arguments for this function: {', '.join(sorted(kwargs))}")
    tensors = [convert_to_tensor(x) for x in (inputs[0] if len(inputs) == 1 and isinstance(inputs[0], (list, tuple)) else inputs)]
    terms, output = parse(equation, [_rank(t) for t in tensors])
    with graph.get_default_graph().name_scope(name or "einsum"):
        operands = [_diagonal(Labelled(t, term)) for t, term in zip(tensors, terms)]
        _check_sizes(operands)
        out = operands[0]
        for i, operand in enumerate(operands[1:], 1):
            later = {n for x in operands[i + 1:] for n in x.labels}
            keep = [*output, *[n for n in dict.fromkeys(out.labels + operand.labels) if n in later and n not in output]]
            out = contract(out, operand, keep)
        out = summed(out, [n for n in out.labels if n not in output])
        return reordered(out, output).tensor


def _rank(t: Tensor) -> int:
    if t.sizes is None:
        raise ValueError(f"einsum needs inputs of known rank; call set_shape on {t.name}")
    return len(t.sizes)


def parse(equation: str, ranks: Sequence[int]) -> tuple[list[tuple[Any, ...]], tuple[Any, ...]]:
    """Labels of each operand and of the result; the axes of `...` are labelled -1, -2, ... from the right."""
    text = equation.replace(" ", "")
    left, arrow, right = text.partition("->")
    terms = left.split(",")
    if len(terms) != len(ranks):
        raise ValueError(f"Got {len(ranks)} arguments for equation {equation!r}, expecting {len(terms)}")
    found = [_term(term, rank, equation) for term, rank in zip(terms, ranks)]
    used = [n for term in found for n in term]
    hidden = sorted({n for n in used if isinstance(n, int)})
    if arrow:
        output = _term(right, len(right.replace("...", "")) + (len(hidden) if "..." in right else 0), equation)
        missing = next((n for n in output if n not in used), None)
        if missing is not None:
            raise ValueError(f"Output label {missing!r} of equation {equation!r} does not occur in its inputs")
        if len(set(output)) != len(output):
            raise ValueError(f"Output labels of equation {equation!r} must not repeat")
        if hidden and "..." not in right:
            raise ValueError(f"Output of equation {equation!r} must contain '...' since its inputs do")
    else:
        output = (*hidden, *sorted(n for n in set(used) if isinstance(n, str) and used.count(n) == 1))
    return found, output


def _term(term: str, rank: int, equation: str) -> tuple[Any, ...]:
    before, dots, after = term.partition("...")
    if not all(c.isalpha() for c in before + after):
        raise ValueError(f"Equation {equation!r} may hold letters, ',', '...' and '->' only, got {term!r}")
    hidden = rank - len(before) - len(after)
    if hidden < 0 or hidden and not dots:
        raise ValueError(f"Unexpected number of dimensions: {term!r} in equation {equation!r} has {len(before + after)} labels for an "
                         f"input of rank {rank}")
    return (*before, *range(-hidden, 0), *after)


def _check_sizes(operands: Sequence[Labelled]) -> None:
    seen: dict[Any, Any] = {}
    for x in operands:
        for n, s in zip(x.labels, x.tensor.sizes or ()):
            if isinstance(n, str) and types.same(seen.setdefault(n, s), s) is False:
                raise ValueError(f"Dimensions must be equal, but are {seen[n]!r} and {s!r} for label {n!r}")


def _diagonal(x: Labelled) -> Labelled:
    """Repeated labels of one operand: its diagonal."""
    for n in dict.fromkeys(x.labels):
        while x.labels.count(n) > 1:
            i = x.labels.index(n)
            j = x.labels.index(n, i + 1)
            rest = [k for k in range(len(x.labels)) if k not in (i, j)]
            t = array.transpose(x.tensor, perm=(*rest, i, j))
            x = Labelled(take_diagonal(t), (*[x.labels[k] for k in rest], n))
    return x


@movement(type="EinsumDiagonal", samples=[lambda r: ((r.normal(size=(2, 3, 3)),), {})])
def take_diagonal(x):
    """x[..., i, i]."""


@take_diagonal.infers
def _(x):
    *rest, a, b = needs_rank(x)
    if types.same(a, b) is False:
        raise ValueError(f"Dimensions must be equal, but are {a!r} and {b!r}")
    return Spec(x.dtype, (*rest, b if types.is_unknown(a) else a))


take_diagonal.lowers(lambda op, index, read: read(0, [*index, index[-1]]))
take_diagonal.reference(lambda x: np.diagonal(x, axis1=-2, axis2=-1))
take_diagonal.grad(lambda op, dy: (spread_diagonal(dy),))


@movement(type="EinsumDiagonalGrad", samples=[lambda r: ((r.normal(size=(2, 3)),), {})])
def spread_diagonal(x):
    """Square matrices with x on their diagonal."""


spread_diagonal.infers(lambda x: Spec(x.dtype, (*needs_rank(x), x.sizes[-1])))
spread_diagonal.reference(lambda x: x[..., None] * np.eye(x.shape[-1], dtype=x.dtype))
spread_diagonal.grad(lambda op, dy: (take_diagonal(dy),))


@spread_diagonal.lowers
def _(op, index, read):
    value = read(0, index[:-1])
    return m.select(index[-1].eq(index[-2]), value, ir.const(0, value.dtype))


# ---------------------------------------------------------------- tensordot


def tensordot(a: Any, b: Any, axes: Any, name: str | None = None) -> Tensor:
    """Contraction of the given axes of `a` and `b`.

    Args:
        axes: n, for the last n axes of `a` with the first n of `b`; or a pair of axes or of lists of axes.

    Raises:
        ValueError: the axes do not exist, differ in number or in size.
    """
    a, b = matmul_op._convert([a, b])
    if a.sizes is None or b.sizes is None:
        return tensordot_op(a, b, axes=_frozen(axes), name=name or "Tensordot")
    rank_a, rank_b = len(a.sizes), len(b.sizes)
    with graph.get_default_graph().name_scope(name or "Tensordot"):
        axes_a, axes_b = _dot_axes(axes, rank_a, rank_b)
        labels_a: list[Any] = [f"a{i}" for i in range(rank_a)]
        labels_b: list[Any] = [f"b{i}" for i in range(rank_b)]
        for n, (i, j) in enumerate(zip(axes_a, axes_b)):
            if types.same(a.sizes[i], b.sizes[j]) is False:
                raise ValueError(f"Dimensions must be equal, but are {a.sizes[i]!r} and {b.sizes[j]!r} in tensordot of "
                                 f"{types.shape_text(a.sizes)} and {types.shape_text(b.sizes)} over axes {axes_a} and {axes_b}")
            labels_a[i] = labels_b[j] = f"k{n}"
        keep = [n for n in labels_a + labels_b if not n.startswith("k")]
        return reordered(contract(Labelled(a, tuple(labels_a)), Labelled(b, tuple(labels_b)), keep), keep).tensor


def _frozen(axes: Any) -> Any:
    """The axes as nested tuples."""
    value = constant_value(axes) if isinstance(axes, Tensor) else axes
    if value is None:
        raise ValueError("axes of tensordot must be known when the graph is built")
    if np.ndim(value) == 0 and not isinstance(value, (list, tuple)):
        return int(value)
    return tuple(_frozen(v) for v in value)


@composite(type="Tensordot", dtypes=MATMUL, output_dtypes=lambda a, b, **_: [a.dtype])
def tensordot_op(a, b, *, axes):
    """`tensordot`, where a rank is not known yet."""
    needs_rank(a)
    needs_rank(b)
    return tensordot(a, b, axes)


tensordot_op.samples = [lambda r: ((r.normal(size=(2, 3)), r.normal(size=(3, 4))), {"axes": 1})]


def _dot_axes(axes: Any, rank_a: int, rank_b: int) -> tuple[list[int], list[int]]:
    if isinstance(axes, Tensor):
        value = constant_value(axes)
        if value is None:
            raise ValueError("axes of tensordot must be known when the graph is built")
        axes = value.tolist()
    if not hasattr(axes, "__len__") or isinstance(axes, np.ndarray) and axes.ndim == 0:
        n = int(axes)
        if n < 0:
            raise ValueError(f"'axes' must be at least 0, got {n}")
        if n > rank_a or n > rank_b:
            raise ValueError(f"'axes' must not be larger than the number of dimensions of tensors {rank_a} and {rank_b}, got {n}")
        return list(range(rank_a - n, rank_a)), list(range(n))
    if len(axes) != 2:
        raise ValueError("'axes' must be an integer or have length 2.")
    pair = [[int(k) for k in np.reshape(v, -1)] for v in axes]
    if len(pair[0]) != len(pair[1]):
        raise ValueError(f"Different number of contraction axes 'a' and 'b', {len(pair[0])} != {len(pair[1])}.")
    out = [[types.canonical_axis(k, rank) for k in v] for v, rank in zip(pair, (rank_a, rank_b))]
    if any(len(set(v)) != len(v) for v in out):
        raise ValueError(f"axes of tensordot must not repeat, got {axes}")
    return out[0], out[1]
