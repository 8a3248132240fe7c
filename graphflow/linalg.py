"""`tf.linalg`, and its functions under TF1's older top-level names (`tf.matrix_inverse`, `tf.cholesky`, ...).

Written on ops/linalg.py and the public array and math functions.  Every argument called a matrix may be a stack
[..., M, N] of them; dtypes are float32, float64, complex64 and complex128.
"""
from __future__ import annotations

from typing import Any, Sequence

import numpy as np

from . import array_ops, graph, math_ops, types
from .graph import Tensor
from .ops import linalg as ops
from .ops.contraction import matmul
from .ops.opdef import convert_to_tensor

__all__ = ["cholesky", "cholesky_solve", "cross", "log_matrix_determinant", "matrix_determinant", "matrix_inverse",
           "matrix_solve", "matrix_solve_ls", "matrix_square_root", "matrix_triangular_solve", "norm", "qr", "self_adjoint_eig",
           "self_adjoint_eigvals", "svd", "trace"]

# Names of tf.linalg that live elsewhere: `tf.linalg.band_part` is `tf.matrix_band_part`.
_ELSEWHERE = {"band_part": "matrix_band_part", "diag": "matrix_diag", "diag_part": "matrix_diag_part", "set_diag": "matrix_set_diag",
              "transpose": "matrix_transpose", "matrix_transpose": "matrix_transpose", "tensor_diag": "diag",
              "tensor_diag_part": "diag_part", "eye": "eye", "matmul": "matmul", "einsum": "einsum", "global_norm": "global_norm",
              "tensordot": "tensordot", "l2_normalize": "l2_normalize"}


def __getattr__(name: str) -> Any:
    if name.startswith("LinearOperator"):
        from . import linear_operators

        if name in linear_operators.__all__:
            return getattr(linear_operators, name)
    elif name in _ELSEWHERE:
        import graphflow

        home = graphflow.nn if name in ("l2_normalize",) else graphflow
        return getattr(home, _ELSEWHERE[name])
    from . import errors, linear_operators

    known = [n for n in globals() if not n.startswith("_")] + [*_ELSEWHERE, *linear_operators.__all__]
    raise AttributeError(f"module 'graphflow.linalg' has no attribute {name!r}.{errors.suggest(name, known)}")


def cholesky(input: Any, name: str | None = None) -> Tensor:
    """Lower triangular L [..., N, N] with L L^H = input, positive definite.

    Raises:
        InvalidArgumentError: when run, for an input that is not positive definite.
    """
    return ops.cholesky(input, name=name)


def matrix_inverse(input: Any, adjoint: bool = False, name: str | None = None) -> Tensor:
    """The inverse of each matrix, or of its adjoint.  A singular one raises InvalidArgumentError when run."""
    input = convert_to_tensor(input)
    return ops.matrix_inverse(globals()["adjoint"](input) if adjoint else input, name=name)


def matrix_solve(matrix: Any, rhs: Any, adjoint: bool = False, name: str | None = None) -> Tensor:
    """X [..., N, K] with matrix X = rhs (matrix^H X = rhs if `adjoint`).  A singular matrix raises InvalidArgumentError when run."""
    return ops.matrix_solve(matrix, rhs, adjoint=bool(adjoint), name=name)


def matrix_triangular_solve(matrix: Any, rhs: Any, lower: bool = True, adjoint: bool = False, name: str | None = None) -> Tensor:
    """`matrix_solve` for a lower or upper triangular matrix, whose other triangle is ignored."""
    return ops.matrix_triangular_solve(matrix, rhs, lower=bool(lower), adjoint=bool(adjoint), name=name)


def cholesky_solve(chol: Any, rhs: Any, name: str | None = None) -> Tensor:
    """X with (chol chol^H) X = rhs, given chol = cholesky(A)."""
    with graph.get_default_graph().name_scope(name or "cholesky_solve"):
        chol = convert_to_tensor(chol)
        return matrix_triangular_solve(chol, matrix_triangular_solve(chol, rhs), adjoint=True)


def matrix_solve_ls(matrix: Any, rhs: Any, l2_regularizer: float = 0.0, fast: bool = True, name: str | None = None) -> Tensor:
    """argmin |matrix X - rhs|^2 + l2_regularizer |X|^2: [..., M, N], [..., M, K] -> [..., N, K].

    Args:
        fast: by Cholesky of the normal equations (differentiable; a full-rank matrix with known sizes); otherwise by the
            singular value decomposition, which ignores `l2_regularizer` and gives the solution of smallest norm.
    """
    matrix = convert_to_tensor(matrix)
    rhs = convert_to_tensor(rhs, matrix.dtype)
    if not fast:
        return ops.matrix_solve_ls(matrix, rhs, name=name)
    with graph.get_default_graph().name_scope(name or "matrix_solve_ls"):
        h = adjoint(matrix)
        wide = types.less(matrix.sizes[-2], matrix.sizes[-1])
        gram = matmul(matrix, h) if wide else matmul(h, matrix)
        if l2_regularizer:
            gram = gram + ops.band(array_ops.ones_like(gram), 0, 0) * l2_regularizer
        if wide:
            return matmul(h, cholesky_solve(cholesky(gram), rhs))
        return cholesky_solve(cholesky(gram), matmul(h, rhs))


def matrix_determinant(input: Any, name: str | None = None) -> Tensor:
    """The determinant of each matrix: [..., N, N] -> [...]."""
    return ops.matrix_determinant(input, name=name)


def log_matrix_determinant(input: Any, name: str | None = None) -> tuple[Tensor, Tensor]:
    """(sign, log|det|) of each matrix, each of shape [...]."""
    return tuple(ops.log_matrix_determinant(input, name=name))


slogdet = log_matrix_determinant


def logdet(matrix: Any, name: str | None = None) -> Tensor:
    """log det of each positive definite matrix, by its Cholesky factor."""
    with graph.get_default_graph().name_scope(name or "logdet"):
        diagonal = array_ops.matrix_diag_part(cholesky(matrix))
        return 2.0 * math_ops.reduce_sum(math_ops.log(math_ops.real(diagonal)), -1)


def self_adjoint_eig(tensor: Any, name: str | None = None) -> tuple[Tensor, Tensor]:
    """(eigenvalues [..., N] ascending, eigenvectors [..., N, N] in columns) of self-adjoint matrices; the lower triangle is read."""
    return tuple(ops.self_adjoint_eig(tensor, compute_v=True, name=name))


def self_adjoint_eigvals(tensor: Any, name: str | None = None) -> Tensor:
    """The eigenvalues [..., N] of self-adjoint matrices, ascending."""
    return ops.self_adjoint_eig(tensor, compute_v=False, name=name)[0]


def svd(tensor: Any, full_matrices: bool = False, compute_uv: bool = True, name: str | None = None) -> Any:
    """(s, u, v) with tensor = u diag(s) v^H, s descending; only s without `compute_uv`."""
    found = ops.svd(tensor, compute_uv=bool(compute_uv), full_matrices=bool(full_matrices), name=name)
    return tuple(found) if compute_uv else found[0]


def qr(input: Any, full_matrices: bool = False, name: str | None = None) -> tuple[Tensor, Tensor]:
    """(q, r) with orthonormal columns in q and upper triangular r."""
    return tuple(ops.qr(input, full_matrices=bool(full_matrices), name=name))


def expm(input: Any, name: str | None = None) -> Tensor:
    """The matrix exponential of each matrix."""
    return ops.matrix_exponential(input, name=name)


def matrix_square_root(input: Any, name: str | None = None) -> Tensor:
    """The principal square root of each matrix."""
    return ops.matrix_square_root(input, name=name)


def logm(input: Any, name: str | None = None) -> Tensor:
    """The principal logarithm of each complex matrix; no gradient, as in TF."""
    return ops.matrix_logarithm(input, name=name)


def matvec(a: Any, b: Any, transpose_a: bool = False, adjoint_a: bool = False, a_is_sparse: bool = False, b_is_sparse: bool = False,
           name: str | None = None) -> Tensor:
    """Products of matrices [..., M, N] and vectors [..., N]: [..., M]."""
    with graph.get_default_graph().name_scope(name or "MatVec"):
        found = matmul(a, array_ops.expand_dims(b, -1), transpose_a=transpose_a, adjoint_a=adjoint_a)
        return array_ops.squeeze(found, [-1])


def normalize(tensor: Any, ord: Any = "euclidean", axis: Any = None, name: str | None = None) -> tuple[Tensor, Tensor]:
    """(tensor / norm, norm), the norm being that of `tf.norm` with its axes kept."""
    with graph.get_default_graph().name_scope(name or "normalize"):
        x = convert_to_tensor(tensor)
        size = norm(x, ord, axis, keepdims=True)
        return x / math_ops.cast(size, x.dtype), size


def lu(input: Any, output_idx_type: Any = types.int32, name: str | None = None) -> tuple[Tensor, Tensor]:
    """(L and U in one matrix, order of the rows) with input[order] = L U, by partial pivoting; L's unit diagonal is left out.

    Raises:
        InvalidArgumentError (when run): a matrix is singular.
    """
    found = ops.lu(input, output_idx_type=types.as_dtype(output_idx_type), name=name)
    return found[0], found[1]


def _inverse_order(order: Tensor) -> Tensor:
    """For each row of a permutation [..., N] its inverse."""
    return array_ops.argsort(order, axis=-1)


def _take_rows(x: Tensor, order: Tensor) -> Tensor:
    """Rows of each matrix of x [..., N, K] in the order [..., N]."""
    outer = len(order.sizes) - 1  # type: ignore[arg-type]
    return array_ops.gather(x, order, axis=outer, batch_dims=outer)


def lu_solve(lower_upper: Any, perm: Any, rhs: Any, validate_args: bool = False, name: str | None = None) -> Tensor:
    """X with A X = rhs, given `lu(A)`: rhs [..., N, K]."""
    with graph.get_default_graph().name_scope(name or "lu_solve"):
        packed = convert_to_tensor(lower_upper)
        lower, upper = ops.lu_parts(packed)
        rows = _take_rows(convert_to_tensor(rhs, packed.dtype), convert_to_tensor(perm))
        return matrix_triangular_solve(upper, matrix_triangular_solve(lower, rows), lower=False)


def lu_matrix_inverse(lower_upper: Any, perm: Any, validate_args: bool = False, name: str | None = None) -> Tensor:
    """The inverse of A, given `lu(A)`."""
    with graph.get_default_graph().name_scope(name or "lu_matrix_inverse"):
        packed = convert_to_tensor(lower_upper)
        return lu_solve(packed, perm, ops.band(array_ops.ones_like(packed), 0, 0))


def lu_reconstruct(lower_upper: Any, perm: Any, validate_args: bool = False, name: str | None = None) -> Tensor:
    """A, given `lu(A)`."""
    with graph.get_default_graph().name_scope(name or "lu_reconstruct"):
        lower, upper = ops.lu_parts(convert_to_tensor(lower_upper))
        return _take_rows(matmul(lower, upper), _inverse_order(convert_to_tensor(perm)))


# ---------------------------------------------------------------- three diagonals


def _compact(diagonals: Any, diagonals_format: str) -> Tensor:
    """Three diagonals as [..., 3, M]: above, on and below the main one.  Raises ValueError for another format."""
    if diagonals_format == "compact":
        return convert_to_tensor(diagonals)
    if diagonals_format == "sequence":
        if not isinstance(diagonals, (tuple, list)) or len(diagonals) != 3:
            raise ValueError("Expected diagonals to be a sequence of length 3.")
        above, middle, below = (convert_to_tensor(d) for d in diagonals)
        size = middle.sizes[-1]  # type: ignore[index]
        pad = [[0, 0]] * (len(middle.sizes) - 1)  # type: ignore[arg-type]
        if types.same(above.sizes[-1], size) is False:  # type: ignore[index]
            above = array_ops.pad(above, [*pad, [0, 1]])
        if types.same(below.sizes[-1], size) is False:  # type: ignore[index]
            below = array_ops.pad(below, [*pad, [1, 0]])
        return array_ops.stack([above, middle, below], -2)
    if diagonals_format == "matrix":
        m = convert_to_tensor(diagonals)
        pad = [[0, 0]] * (len(m.sizes) - 2)  # type: ignore[arg-type]
        return array_ops.stack([array_ops.pad(array_ops.matrix_diag_part(m[..., :-1, 1:]), [*pad, [0, 1]]),
                                array_ops.matrix_diag_part(m), array_ops.pad(array_ops.matrix_diag_part(m[..., 1:, :-1]), [*pad, [1, 0]])],
                               -2)
    raise ValueError(f"Unrecognized diagonals format: {diagonals_format}")


def _shifted(x: Tensor, by: int) -> Tensor:
    """Rows of [..., M, K] moved down by 1 or -1, zeros where none comes from."""
    pad = [[0, 0]] * (len(x.sizes) - 2)  # type: ignore[arg-type]
    return array_ops.pad(x[..., :-1, :], [*pad, [1, 0], [0, 0]]) if by > 0 else array_ops.pad(x[..., 1:, :], [*pad, [0, 1], [0, 0]])


def _adjoint_diagonals(d: Tensor) -> Tensor:
    turned = array_ops.stack([_shifted(d[..., 2, :, None], -1)[..., 0], d[..., 1, :], _shifted(d[..., 0, :, None], 1)[..., 0]], -2)
    return math_ops.conj(turned) if turned.dtype.is_complex else turned


def _outer_diagonals(a: Tensor, x: Tensor) -> Tensor:
    """The three diagonals of a x^H."""
    right = math_ops.conj(x) if x.dtype.is_complex else x
    return array_ops.stack([math_ops.reduce_sum(a * r, -1) for r in (_shifted(right, -1), right, _shifted(right, 1))], -2)


def tridiagonal_matmul(diagonals: Any, rhs: Any, diagonals_format: str = "compact", name: str | None = None) -> Tensor:
    """T rhs for a matrix T of three diagonals, rhs [..., M, K]; see `tridiagonal_solve` for the formats."""
    with graph.get_default_graph().name_scope(name or "tridiagonal_matmul"):
        d = _compact(diagonals, diagonals_format)
        x = convert_to_tensor(rhs, d.dtype)
        return d[..., 0, :, None] * _shifted(x, -1) + d[..., 1, :, None] * x + d[..., 2, :, None] * _shifted(x, 1)


def tridiagonal_solve(diagonals: Any, rhs: Any, diagonals_format: str = "compact", transpose_rhs: bool = False, conjugate_rhs: bool = False,
                      name: str | None = None, partial_pivoting: bool = True) -> Tensor:
    """X with T X = rhs for a matrix T of three diagonals, rhs [..., M] or [..., M, K].

    Args:
        diagonals: "compact": [..., 3, M], above (its last element unused), on and below (its first unused) the main diagonal;
            "sequence": these three, the outer ones of length M - 1 or M; "matrix": T itself.
        transpose_rhs, conjugate_rhs: the right-hand side is [..., K, M], or is conjugated first; X is [..., M, K].
        partial_pivoting: exchange rows where that is more exact.

    Raises:
        ValueError: another format, shapes that do not fit.  InvalidArgumentError (when run): T is singular.
    """
    with graph.get_default_graph().name_scope(name or "tridiagonal_solve"):
        d = _compact(diagonals, diagonals_format)
        x = convert_to_tensor(rhs, d.dtype)
        vector = len(x.sizes) == len(d.sizes) - 1  # type: ignore[arg-type]
        if conjugate_rhs:
            x = math_ops.conj(x)
        x = array_ops.expand_dims(x, -1) if vector else array_ops.matrix_transpose(x) if transpose_rhs else x
        found = ops.tridiagonal_solve(d, x, partial_pivoting=bool(partial_pivoting))
        return array_ops.squeeze(found, [-1]) if vector else found


def adjoint(matrix: Any, name: str | None = None) -> Tensor:
    """The conjugate transpose of each matrix."""
    matrix = convert_to_tensor(matrix)
    turned = array_ops.matrix_transpose(matrix, name=name or "adjoint")
    return math_ops.conj(turned) if matrix.dtype.is_complex else turned


def trace(x: Any, name: str | None = None) -> Tensor:
    """The sum of the main diagonal: [..., M, N] -> [...]."""
    with graph.get_default_graph().name_scope(name or "Trace") as scope:
        return math_ops.reduce_sum(array_ops.matrix_diag_part(x), -1, name=scope)


def _longer_side(a: Tensor, dtype: types.DType) -> Any:
    """max(M, N) of matrices [..., M, N]: a number where it is known."""
    sizes = a.sizes[-2:] if a.sizes is not None else (types.UNKNOWN,) * 2
    if types.known(tuple(sizes)):
        return float(max(int(n) for n in sizes))  # type: ignore[arg-type]
    shape = array_ops.shape(a)
    return math_ops.cast(math_ops.maximum(shape[-1], shape[-2]), dtype)


def pinv(a: Any, rcond: Any = None, validate_args: bool = False, name: str | None = None) -> Tensor:
    """The Moore-Penrose inverse [..., N, M]; singular values up to `rcond` times the largest count as zero.

    Args:
        rcond: default 10 max(M, N) eps, as TF's.
    """
    a = convert_to_tensor(a)
    with graph.get_default_graph().name_scope(name or "pinv"):
        if rcond is None:
            rcond = _longer_side(a, a.dtype.real_dtype) * (10.0 * float(np.finfo(a.dtype.real_dtype.np).eps))
        s, u, v = svd(a)
        cut = math_ops.reduce_max(s, -1, keepdims=True) * convert_to_tensor(rcond, s.dtype)
        kept = math_ops.cast(math_ops.greater(s, cut), s.dtype)
        scale = kept / (s + (1.0 - kept))
        return matmul(v * math_ops.cast(scale, a.dtype)[..., None, :], adjoint(u))


def matrix_rank(a: Any, tol: Any = None, validate_args: bool = False, name: str | None = None) -> Tensor:
    """The number of singular values above `tol` (default: eps max(M, N) times the largest), int32 [...]."""
    a = convert_to_tensor(a)
    with graph.get_default_graph().name_scope(name or "matrix_rank"):
        s = svd(a, compute_uv=False)
        if tol is None:
            tol = math_ops.reduce_max(s, -1, keepdims=True) * (_longer_side(a, s.dtype) * float(np.finfo(s.dtype.np).eps))
        return math_ops.reduce_sum(math_ops.cast(math_ops.greater(s, tol), types.int32), -1)


def cross(a: Any, b: Any, name: str | None = None) -> Tensor:
    """The vector product along the last axis, of size 3.  Raises ValueError for another size or different shapes."""
    a = convert_to_tensor(a)
    b = convert_to_tensor(b, a.dtype)
    for t in (a, b):
        if t.sizes is not None and (not t.sizes or types.same(t.sizes[-1], 3) is False):
            raise ValueError(f"cross: the last dimension must be 3, got shape {types.shape_text(t.sizes)}")
    types.merge_shapes(a.sizes, b.sizes)
    with graph.get_default_graph().name_scope(name or "Cross") as scope:
        (a0, a1, a2), (b0, b1, b2) = [[t[..., i] for i in range(3)] for t in (a, b)]
        return array_ops.stack([a1 * b2 - a2 * b1, a2 * b0 - a0 * b2, a0 * b1 - a1 * b0], -1, name=scope)


def norm(tensor: Any, ord: Any = "euclidean", axis: Any = None, keepdims: bool | None = None, name: str | None = None,
         keep_dims: bool | None = None) -> Tensor:
    """The norm of vectors (one axis, or all elements) or of matrices (two axes).

    Args:
        ord: "euclidean", 1, 2, numpy.inf, or any p > 0 for vectors; "fro", "euclidean", 1, 2, numpy.inf for matrices.
        axis: None for all elements as one vector, an int, or two ints.

    Raises:
        ValueError: an `ord` or `axis` that is none of these.
    """
    keepdims = bool(keep_dims if keepdims is None else keepdims)
    matrix = isinstance(axis, (tuple, list))
    if matrix:
        axis = tuple(axis)
        if len(axis) != 2 or axis[0] == axis[1]:
            raise ValueError(f"'axis' must be None, an integer, or a tuple of 2 unique integers, got {axis}")
        if ord not in ("euclidean", "fro", 1, 2, np.inf):
            raise ValueError(f"'ord' must be a supported matrix norm in ['euclidean', 'fro', 1, 2, inf], got {ord}")
    elif ord != "euclidean" and (isinstance(ord, str) or not ord > 0):
        raise ValueError(f"'ord' must be a supported vector norm: 'euclidean' or a positive number, got {ord}")
    with graph.get_default_graph().name_scope(name or "norm"):
        return _norm(convert_to_tensor(tensor), ord, axis, keepdims, matrix)


def _norm(x: Tensor, ord: Any, axis: Any, keepdims: bool, matrix: bool) -> Tensor:
    if matrix and ord == 2:
        return _spectral_norm(x, axis, keepdims)
    if ord in ("euclidean", "fro", 2):
        squares = math_ops.real(x * math_ops.conj(x)) if x.dtype.is_complex else x * x
        return math_ops.sqrt(math_ops.reduce_sum(squares, axis, keepdims=keepdims))
    size = math_ops.abs(x)
    if matrix:
        inner, outer = axis if ord == 1 else axis[::-1]
        found = math_ops.reduce_max(math_ops.reduce_sum(size, inner, keepdims=True), outer, keepdims=True)
        return found if keepdims else array_ops.squeeze(found, list(axis))
    if ord == np.inf:
        return math_ops.reduce_max(size, axis, keepdims=keepdims)
    if ord == 1:
        return math_ops.reduce_sum(size, axis, keepdims=keepdims)
    return math_ops.pow(math_ops.reduce_sum(math_ops.pow(size, ord), axis, keepdims=keepdims), 1.0 / ord)


def _spectral_norm(x: Tensor, axis: Sequence[int], keepdims: bool) -> Tensor:
    rank = x.shape.ndims
    if rank is None:
        raise ValueError("norm: the spectral norm needs a tensor of known rank")
    a, b = (types.canonical_axis(i, rank) for i in axis)
    rest = [i for i in range(rank) if i not in (a, b)]
    found = math_ops.reduce_max(svd(array_ops.transpose(x, [*rest, a, b]), compute_uv=False), -1)
    for i in sorted((a, b)) if keepdims else ():
        found = array_ops.expand_dims(found, i)
    return found


# tf.linalg's short names for functions that have a longer top-level one.
det, inv, solve, triangular_solve = matrix_determinant, matrix_inverse, matrix_solve, matrix_triangular_solve
eigh, eigvalsh, lstsq, sqrtm = self_adjoint_eig, self_adjoint_eigvals, matrix_solve_ls, matrix_square_root

graph.OPERATORS.update(adjoint=adjoint, take_rows=_take_rows, inverse_order=_inverse_order, tridiagonal_adjoint=_adjoint_diagonals,
                       tridiagonal_outer=_outer_diagonals,
                       band_part=lambda x, lower, upper: array_ops.matrix_band_part(x, lower, upper),
                       matrix_diag=lambda x: array_ops.matrix_diag(x),
                       conj=lambda x: math_ops.conj(x) if x.dtype.is_complex else x,
                       cast=lambda x, dtype: math_ops.cast(x, dtype),
                       concat=lambda values, axis: array_ops.concat(values, axis))
