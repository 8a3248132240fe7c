"""Contractions that are products of strided matrices (rank 4)."""
from __future__ import annotations

from .... import types
from ....types import DType, Size
from ...ir import Axis, Buffer
from .described import Matmul, View
from .reads import Problem, runs


def matmul(p: Problem) -> Matmul | None:
    x, y = p.reads
    if not x.plain() or not y.plain():
        return None
    inside: dict[str, list[Axis]] = {"both": [], "x": [], "y": [], "": []}
    for a in p.outs:
        inside["both" if x.stride(a) and y.stride(a) else "x" if x.stride(a) else "y" if y.stride(a) else ""].append(a)
    result = lambda a: p.outs[a]  # noqa: E731
    k = runs(sorted(p.reduced, key=lambda a: -(types.hint(x.stride(a)) or 0)), x.stride, y.stride)
    if inside[""] or len(k) != 1 or not x.stride(k[0][-1]) or not y.stride(k[0][-1]):
        return None
    rows, levels = _matrix_axis(runs(inside["x"], x.stride, result))
    columns, more = _matrix_axis(runs(inside["y"], y.stride, result))
    levels = [*runs(inside["both"], x.stride, y.stride, result), *levels, *more]

    def view(stride, buffer: Buffer | None, dtype: DType, offset: Size, *matrix: list[Axis]) -> View:
        axes = [*levels, *matrix]
        sizes = tuple(types.product(a.extent for a in run) for run in axes)
        return View(buffer, dtype, sizes, tuple(stride(run[-1]) if run else 0 for run in axes), offset)
    left = view(x.stride, x.buffer, x.buffer.dtype, x.offset().const, rows, k[0])
    right = view(y.stride, y.buffer, y.buffer.dtype, y.offset().const, k[0], columns)
    if not _apart(left) or not _apart(right):
        return None
    return Matmul(left, right, view(lambda a: p.outs.get(a, 0), None, p.stored, 0, rows, columns), p.compute)


def _apart(v: View) -> bool:
    """Whether rows or columns lie one after the other; windows of a line do not."""
    (m, n), (down, across) = v.sizes[-2:], v.strides[-2:]
    if types.same(m, 1) is True or types.same(n, 1) is True:
        return True
    gaps = across - m * down, down - n * across
    return any((types.hint(g) if types.hint(g) is not None else -1) >= 0 for g in gaps)


def _matrix_axis(runs: list[list[Axis]]) -> tuple[list[Axis], list[list[Axis]]]:
    """The longest group, which becomes the axis of the matrix, and the others, which become batches."""
    if not runs:
        return [], []
    longest = max(range(len(runs)), key=lambda i: (types.hint(types.product(a.extent for a in runs[i])) or 0, i))
    return runs[longest], runs[:longest] + runs[longest + 1:]
