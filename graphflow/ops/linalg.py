"""Linear algebra on stacks of matrices: host primitives by numpy.linalg, with gradients in ordinary ops.

A tensor of shape [..., M, N] is a stack of M x N matrices.  Results, gradients and errors are TF1's, except that a
matrix that is not positive definite raises instead of giving NaN.  TF's names are in graphflow/linalg.py, which also
registers the movement ops the gradients need (adjoint, band_part, matrix_diag).
"""
from __future__ import annotations

import numpy as np

from .. import types
from ..graph import OPERATORS, Spec
from ..types import COMPLEX, REAL
from .opdef import needs_rank, primitive

MATRIX = REAL + COMPLEX
SINGULAR = "Input matrix is not invertible."


# ---------------------------------------------------------------- what the gradients are written in


def matmul(a, b):
    return OPERATORS["matmul"](a, b)


def adjoint(a):
    """The conjugate transpose of each matrix."""
    return OPERATORS["adjoint"](a)


def band(a, lower, upper):
    """Each matrix with the diagonals outside [-lower, upper] set to zero; -1 keeps all of that side."""
    return OPERATORS["band_part"](a, lower, upper)


def matrices(x, what="input"):
    """(batch sizes, rows, columns) of a stack of matrices.  Raises UnknownRank, or ValueError below rank 2."""
    sizes = needs_rank(x, what=what)
    if len(sizes) < 2:
        raise ValueError(f"Shape must be at least rank 2 but is rank {len(sizes)}")
    return sizes[:-2], sizes[-2], sizes[-1]


def square(x, what="input"):
    """(batch sizes, n) of a stack of square matrices.  Raises ValueError on others."""
    batch, rows, columns = matrices(x, what)
    if types.same(rows, columns) is False:
        raise ValueError(f"Dimensions must be equal, but are {rows} and {columns}")
    return batch, columns if types.is_unknown(rows) else rows


def _square_like(x, **_):
    batch, n = square(x)
    return Spec(x.dtype, (*batch, n, n))


def _solve_spec(matrix, rhs, **_):
    batch, n = square(matrix, "matrix")
    rhs_batch, rows, columns = matrices(rhs, "rhs")
    if types.same(rows, n) is False:
        raise ValueError(f"Dimensions must be equal, but are {n} and {rows}")
    return Spec(matrix.dtype, (*types.merge_shapes(batch, rhs_batch), n, columns))


def _h(a):
    return np.conj(np.swapaxes(a, -1, -2))


def _solve(a, b):
    try:
        return np.linalg.solve(a, b)
    except np.linalg.LinAlgError:
        raise np.linalg.LinAlgError(SINGULAR) from None


# ---------------------------------------------------------------- factors and inverses


@primitive("host", type="Cholesky", gpu="cholesky", dtypes=MATRIX, infer=_square_like)
def cholesky(x):
    """Lower triangular L with L L^H = x for positive definite x [..., N, N]; only x's lower triangle is read.

    Raises:
        InvalidArgumentError: a matrix is not positive definite.
    """


@cholesky.reference
def _(x):
    try:
        return np.linalg.cholesky(x)
    except np.linalg.LinAlgError:
        raise np.linalg.LinAlgError("Cholesky decomposition was not successful. The input might not be valid.") from None


@cholesky.grad
def _(op, dy):
    # I. Murray, "Differentiation of the Cholesky decomposition" (2016), eq. 10: S = L^-H Phi(L^H dL) L^-1,
    # where Phi keeps the lower triangle with half the diagonal; the gradient of a symmetric input is (S + S^H) / 2.
    lower = op.outputs[0]
    middle = matmul(adjoint(lower), dy)
    phi = band(middle, -1, 0) - band(middle, 0, 0) * 0.5
    left = matrix_triangular_solve(lower, phi, lower=True, adjoint=True)
    s = adjoint(matrix_triangular_solve(lower, adjoint(left), lower=True, adjoint=True))
    return (s + adjoint(s)) * 0.5,


@primitive("host", type="MatrixInverse", gpu="inverse", dtypes=MATRIX, infer=_square_like)
def matrix_inverse(x):
    """The inverse of each matrix of x [..., N, N].

    Raises:
        InvalidArgumentError: a matrix is singular.
    """


@matrix_inverse.reference
def _(x):
    try:
        return np.linalg.inv(x)
    except np.linalg.LinAlgError:
        raise np.linalg.LinAlgError("Input is not invertible.") from None


@matrix_inverse.grad
def _(op, dy):
    inv_h = adjoint(op.outputs[0])
    return -matmul(inv_h, matmul(dy, inv_h)),


@primitive("host", type="MatrixSolve", gpu="solve", dtypes=MATRIX, infer=_solve_spec)
def matrix_solve(matrix, rhs, *, adjoint=False):
    """X with matrix X = rhs, or matrix^H X = rhs if `adjoint`: [..., N, N], [..., N, K] -> [..., N, K].

    Raises:
        InvalidArgumentError: a matrix is singular.
    """


matrix_solve.reference(lambda matrix, rhs, *, adjoint: _solve(_h(matrix) if adjoint else matrix, rhs))


def _solve_gradient(op, d_rhs):
    """d(matrix) of a linear solve from d(rhs) and the solution."""
    x = op.outputs[0]
    return -matmul(x, adjoint(d_rhs)) if op.attrs["adjoint"] else -matmul(d_rhs, adjoint(x))


@matrix_solve.grad
def _(op, dy):
    d_rhs = matrix_solve(op.inputs[0], dy, adjoint=not op.attrs["adjoint"])
    return _solve_gradient(op, d_rhs), d_rhs


@primitive("host", type="MatrixTriangularSolve", gpu="triangular", dtypes=MATRIX, infer=_solve_spec)
def matrix_triangular_solve(matrix, rhs, *, lower=True, adjoint=False):
    """Like `matrix_solve` for a lower (or upper) triangular matrix; the other triangle is not read.

    Raises:
        InvalidArgumentError: a zero on a diagonal.
    """


@matrix_triangular_solve.reference
def _(matrix, rhs, *, lower, adjoint):
    a = np.tril(matrix) if lower else np.triu(matrix)
    a, lower = (_h(a), not lower) if adjoint else (a, lower)
    # Substitution by blocks of rows, in the order in which unknowns become known.
    n, block = a.shape[-1], 64
    x = np.zeros(np.broadcast_shapes(a.shape[:-2], rhs.shape[:-2]) + rhs.shape[-2:], np.result_type(a, rhs))
    starts = range(0, n, block) if lower else range((n - 1) // block * block, -1, -block)
    for i in starts:
        rows = slice(i, min(i + block, n))
        known = slice(0, i) if lower else slice(rows.stop, n)
        x[..., rows, :] = _solve(a[..., rows, rows], rhs[..., rows, :] - a[..., rows, known] @ x[..., known, :])
    return x


@matrix_triangular_solve.grad
def _(op, dy):
    lower = op.attrs["lower"]
    d_rhs = matrix_triangular_solve(op.inputs[0], dy, lower=lower, adjoint=not op.attrs["adjoint"])
    d_matrix = _solve_gradient(op, d_rhs)
    return band(d_matrix, -1, 0) if lower else band(d_matrix, 0, -1), d_rhs


@primitive("host", type="MatrixSolveLs", dtypes=MATRIX, no_gradient="use fast=True (normal equations) for a differentiable least squares")
def matrix_solve_ls(matrix, rhs):
    """The least-squares solution of smallest norm, by the singular value decomposition: [..., M, N], [..., M, K] -> [..., N, K]."""


@matrix_solve_ls.infers
def _(matrix, rhs):
    batch, rows, columns = matrices(matrix, "matrix")
    rhs_batch, rhs_rows, k = matrices(rhs, "rhs")
    if types.same(rows, rhs_rows) is False:
        raise ValueError(f"Dimensions must be equal, but are {rows} and {rhs_rows}")
    return Spec(matrix.dtype, (*types.merge_shapes(batch, rhs_batch), columns, k))


@matrix_solve_ls.reference
def _(matrix, rhs):
    return np.linalg.pinv(matrix) @ rhs


# ---------------------------------------------------------------- determinants


@primitive("host", type="MatrixDeterminant", gpu="determinant", dtypes=MATRIX)
def matrix_determinant(x):
    """The determinant of each matrix: [..., N, N] -> [...]."""


matrix_determinant.infers(lambda x: Spec(x.dtype, tuple(square(x)[0])))
matrix_determinant.reference(lambda x: np.linalg.det(x))


@matrix_determinant.grad
def _(op, dy):
    scale = dy * OPERATORS["conj"](op.outputs[0])
    return scale[..., None, None] * adjoint(matrix_inverse(op.inputs[0])),


@primitive("host", type="LogMatrixDeterminant", gpu="logarithm", dtypes=MATRIX, output_dtypes=lambda x: [x.dtype, x.dtype])
def log_matrix_determinant(x):
    """(sign, log|det|) of each matrix: [..., N, N] -> [...], [...]; a singular one gives (0, -inf)."""


@log_matrix_determinant.infers
def _(x):
    batch, _ = square(x)
    return [Spec(x.dtype, tuple(batch)), Spec(x.dtype, tuple(batch))]


log_matrix_determinant.reference(lambda x: tuple(np.linalg.slogdet(x)))


@log_matrix_determinant.grad
def _(op, _, d_log):
    return d_log[..., None, None] * adjoint(matrix_inverse(op.inputs[0])),


# ---------------------------------------------------------------- orthogonal decompositions


def _off_diagonal_inverse(difference):
    """1 / d off the diagonal of each square matrix d, whose diagonal is zero; zero on it."""
    eye = band(OPERATORS["ones_like"](difference), 0, 0)
    return (1.0 - eye) / (difference + eye)


@primitive("host", type="SelfAdjointEigV2", dtypes=MATRIX, output_dtypes=lambda x, **_: [x.dtype, x.dtype])
def self_adjoint_eig(x, *, compute_v=True):
    """Eigenvalues [..., N], ascending, and eigenvectors [..., N, N] in columns, of self-adjoint x; its lower triangle is read.

    Without `compute_v` the second output is empty.
    """


@self_adjoint_eig.infers
def _(x, *, compute_v):
    batch, n = square(x)
    return [Spec(x.dtype, (*batch, n)), Spec(x.dtype, (*batch, n, n) if compute_v else (0,))]


@self_adjoint_eig.reference
def _(x, *, compute_v):
    return tuple(np.linalg.eigh(x)) if compute_v else (np.linalg.eigvalsh(x), np.zeros(0, x.dtype))


@self_adjoint_eig.grad
def _(op, de, dv):
    # M. Giles, "Collected matrix derivative results for forward and reverse mode AD" (2008), section 3.1.
    x = op.inputs[0]
    e, v = op.outputs if op.attrs["compute_v"] else self_adjoint_eig(x)
    inner = OPERATORS["matrix_diag"](de)
    if op.attrs["compute_v"]:
        inner = inner + _off_diagonal_inverse(e[..., None, :] - e[..., :, None]) * matmul(adjoint(v), dv)
    full = matmul(v, matmul(inner, adjoint(v)))
    # Only the lower triangle was read: an element below the diagonal stands for two.
    both = full + adjoint(full)
    return band(both, -1, 0) - band(both, 0, 0) * 0.5,


@primitive("host", type="Svd", dtypes=MATRIX, output_dtypes=lambda x, **_: [x.dtype.real_dtype, x.dtype, x.dtype])
def svd(x, *, compute_uv=True, full_matrices=False):
    """Singular values s [..., P], descending, u [..., M, P] and v [..., N, P] with x = u diag(s) v^H; P = min(M, N).

    `full_matrices` gives square u and v; without `compute_uv` they are empty.
    """


@svd.infers
def _(x, *, compute_uv, full_matrices):
    batch, m, n = matrices(x)
    p = _smaller(m, n)
    u, v = ((*batch, m, m if full_matrices else p), (*batch, n, n if full_matrices else p)) if compute_uv else ((0,), (0,))
    return [Spec(x.dtype.real_dtype, (*batch, p)), Spec(x.dtype, u), Spec(x.dtype, v)]


def _smaller(m, n):
    """min of two sizes, either of which may be symbolic."""
    return m if types.same(m, n) else types.opaque("min", m, n)


@svd.reference
def _(x, *, compute_uv, full_matrices):
    if not compute_uv:
        return np.linalg.svd(x, compute_uv=False), np.zeros(0, x.dtype), np.zeros(0, x.dtype)
    u, s, vh = np.linalg.svd(x, full_matrices=full_matrices)
    return s, u, _h(vh)


@svd.grad
def _(op, ds, du, dv):
    # J. Townsend, "Differentiating the singular value decomposition" (2016), the thin real case.
    x = op.inputs[0]
    if op.attrs["full_matrices"] and not types.same(x.sizes[-2], x.sizes[-1]):
        raise NotImplementedError("the gradient of svd needs full_matrices=False unless the matrix is square")
    s, u, v = op.outputs if op.attrs["compute_uv"] else svd(x)
    if not op.attrs["compute_uv"]:
        return matmul(u * OPERATORS["cast"](ds, x.dtype)[..., None, :], adjoint(v)),
    if x.dtype.is_complex:
        raise NotImplementedError("the gradient of svd is defined for real matrices only")
    row, column = s[..., None, :], s[..., :, None]
    f = _off_diagonal_inverse((row - column) * (row + column))
    utdu, vtdv = matmul(adjoint(u), du), matmul(adjoint(v), dv)
    inner = OPERATORS["matrix_diag"](ds) + f * (utdu - adjoint(utdu)) * row + column * f * (vtdv - adjoint(vtdv))
    along = matmul(u, matmul(inner, adjoint(v)))
    left = matmul((du - matmul(u, utdu)) / row, adjoint(v))
    right = matmul(u / row, adjoint(dv - matmul(v, vtdv)))
    return along + left + right,


@primitive("host", type="Qr", dtypes=MATRIX, output_dtypes=lambda x, **_: [x.dtype, x.dtype])
def qr(x, *, full_matrices=False):
    """q [..., M, P] with orthonormal columns and upper triangular r [..., P, N], x = q r; P = min(M, N), or M if `full_matrices`."""


@qr.infers
def _(x, *, full_matrices):
    batch, m, n = matrices(x)
    p = m if full_matrices else _smaller(m, n)
    return [Spec(x.dtype, (*batch, m, p)), Spec(x.dtype, (*batch, p, n))]


qr.reference(lambda x, *, full_matrices: tuple(np.linalg.qr(x, mode="complete" if full_matrices else "reduced")))


@qr.grad
def _(op, dq, dr):
    # S. Walter and L. Lehmann, "Algorithmic differentiation of linear algebra functions" (2010), section on QR.
    m, n = op.inputs[0].sizes[-2:]
    if types.less(m, n) or op.attrs["full_matrices"] and not types.same(m, n):
        raise NotImplementedError("the gradient of qr needs at least as many rows as columns, and full_matrices=False unless square")
    q, r = op.outputs
    qtdq, rdrt = matmul(adjoint(q), dq), matmul(r, adjoint(dr))
    low = band(qtdq - adjoint(qtdq) + rdrt - adjoint(rdrt), -1, 0)
    return matmul(q, dr + _right_solve(low, r)) + _right_solve(dq - matmul(q, qtdq), r),


def _right_solve(x, r):
    """x r^-H for upper triangular r."""
    return adjoint(matrix_triangular_solve(r, adjoint(x), lower=False))


# ---------------------------------------------------------------- functions of matrices


@primitive("host", type="MatrixExponential", dtypes=MATRIX, infer=_square_like)
def matrix_exponential(x):
    """e to the power of each matrix of x [..., N, N]."""


# Numerator coefficients of the [13/13] Pade approximant of exp.
_PADE = [64764752532480000., 32382376266240000., 7771770303897600., 1187353796428800., 129060195264000., 10559470521600.,
         670442572800., 33522128640., 1323241920., 40840800., 960960., 16380., 182., 1.]


@matrix_exponential.reference
def _(x):
    # N. Higham, "The scaling and squaring method for the matrix exponential revisited" (2005), order 13.
    norm = np.max(np.sum(np.abs(x), axis=-2), initial=0.0)
    if not np.isfinite(norm):
        return np.full_like(x, np.nan)
    halvings = max(0, int(np.ceil(np.log2(norm / 5.37)))) if norm > 5.37 else 0
    wide = x.astype(np.complex128 if np.iscomplexobj(x) else np.float64) / 2.0**halvings
    eye = np.eye(x.shape[-1])
    even, odd, power, squared = 0, 0, eye, wide @ wide
    for k in range(0, 14, 2):
        even, odd = even + _PADE[k] * power, odd + _PADE[k + 1] * power
        power = power @ squared
    odd = wide @ odd
    y = np.linalg.solve(even - odd, even + odd)
    for _ in range(halvings):
        y = y @ y
    return y


@primitive("host", type="MatrixSquareRoot", dtypes=MATRIX, infer=_square_like)
def matrix_square_root(x):
    """The principal square root of each matrix of x [..., N, N], whose eigenvalues must not be negative reals.

    Raises:
        InvalidArgumentError: a matrix is singular.
    """


@matrix_square_root.reference
def _(x):
    # The product form of the Denman-Beavers iteration: N. Higham, "Functions of matrices" (2008), eq. 6.29.
    y = m = x.astype(np.complex128 if np.iscomplexobj(x) else np.float64)
    eye = np.eye(x.shape[-1])
    for _ in range(60):
        inverse = _solve(m, np.broadcast_to(eye, m.shape))
        y = y @ (eye + inverse) / 2
        m = (eye + (m + inverse) / 2) / 2
        if np.abs(m - eye).max(initial=0.0) < 1e-14:
            break
    return y


def _analytic_gradient(fn):
    """The gradient of an analytic matrix function: the corner of fn([[x^H, dy], [0, x^H]]) (Higham 2008, eq. 3.16)."""
    def grad(op, dy):
        x_h, n = adjoint(op.inputs[0]), op.inputs[0].sizes[-1]
        concat = OPERATORS["concat"]
        if types.is_unknown(n):
            raise NotImplementedError(f"the gradient of {fn.name} needs a matrix of known size")
        top, bottom = concat([x_h, dy], -1), concat([OPERATORS["zeros_like"](dy), x_h], -1)
        return fn(concat([top, bottom], -2))[..., :n, n:],
    return grad


matrix_exponential.grad(_analytic_gradient(matrix_exponential))
matrix_square_root.grad(_analytic_gradient(matrix_square_root))


# ---------------------------------------------------------------- triangular factors with pivoting


@primitive("host", type="Lu", dtypes=MATRIX, output_dtypes=lambda x, **_: [x.dtype, types.int32])
def lu(x, *, output_idx_type=types.int32):
    """L and U in one matrix (the diagonal of L is 1 and left out), and the rows of x in the order in which L U has them."""


@lu.infers
def _(x, *, output_idx_type):
    batch, n = square(x)
    return [Spec(x.dtype, (*batch, n, n)), Spec(output_idx_type, (*batch, n))]


@lu.reference
def _(x, *, output_idx_type):
    a = x.reshape(-1, *x.shape[-2:]).copy()
    order = np.tile(np.arange(a.shape[-1]), (len(a), 1))
    each = np.arange(len(a))
    for k in range(a.shape[-1]):
        best = k + np.abs(a[:, k:, k]).argmax(1)
        a[each, k], a[each, best] = a[each, best], a[each, k].copy()
        order[each, k], order[each, best] = order[each, best], order[each, k].copy()
        if (a[:, k, k] == 0).any():
            raise ValueError(SINGULAR)
        a[:, k + 1:, k] /= a[:, k, k, None]
        a[:, k + 1:, k + 1:] -= a[:, k + 1:, k, None] * a[:, k, None, k + 1:]
    return a.reshape(x.shape), order.reshape(x.shape[:-1]).astype(output_idx_type.np)


@lu.grad
def _(op, dy, _):
    # dA = P^T L^-H (below(L^H dL) + above(dU U^H)) U^-H: what is outside these triangles would leave the factors' form.
    packed, order = op.outputs
    lower, upper = lu_parts(packed)
    middle = band(matmul(adjoint(lower), band(dy, -1, 0) - band(dy, 0, 0)), -1, 0)
    middle = middle - band(middle, 0, 0) + band(matmul(band(dy, 0, -1), adjoint(upper)), 0, -1)
    left = matrix_triangular_solve(lower, middle, lower=True, adjoint=True)
    found = adjoint(matrix_triangular_solve(upper, adjoint(left), lower=False, adjoint=False))
    return OPERATORS["take_rows"](found, OPERATORS["inverse_order"](order)),


def lu_parts(packed):
    """(L, U) of a matrix that holds both."""
    eye = band(OPERATORS["ones_like"](packed), 0, 0)
    return band(packed, -1, 0) - band(packed, 0, 0) + eye, band(packed, 0, -1)


# ---------------------------------------------------------------- three diagonals


@primitive("host", type="TridiagonalSolve", dtypes=MATRIX)
def tridiagonal_solve(diagonals, rhs, *, partial_pivoting=True):
    """X with T X = rhs: diagonals [..., 3, M] above (its last element unused), on and below (its first unused) the main one of T.

    Raises:
        InvalidArgumentError: T is singular; without pivoting, a pivot is zero.
    """


@tridiagonal_solve.infers
def _(diagonals, rhs, *, partial_pivoting):
    batch, three, m = matrices(diagonals, "diagonals")
    rhs_batch, rows, k = matrices(rhs, "rhs")
    if types.same(three, 3) is False or types.same(rows, m) is False:
        raise ValueError(f"diagonals must be [..., 3, {rows}] for a right-hand side of {rows} rows, got [..., {three}, {m}]")
    return Spec(rhs.dtype, (*types.merge_shapes(batch, rhs_batch), rows, k))


@tridiagonal_solve.reference
def _(diagonals, rhs, *, partial_pivoting):
    above, middle, below = (np.array(diagonals[..., k, :]) for k in range(3))
    m, b = middle.shape[-1], rhs.copy()
    # Row k while the rows before it are done: its elements in columns k, k + 1, k + 2.
    u0, u1, u2 = middle.copy(), above.copy(), np.zeros_like(above)
    if m:
        u1[..., -1] = 0
    for k in range(m - 1):
        low = np.stack([below[..., k + 1], middle[..., k + 1], u1[..., k + 1]], -1)
        own = np.stack([u0[..., k], u1[..., k], u2[..., k]], -1)
        swap = (np.abs(low[..., 0]) > np.abs(own[..., 0])) & partial_pivoting
        s, row, other = swap[..., None], b[..., k, :].copy(), b[..., k + 1, :].copy()
        own, low = np.where(s, low, own), np.where(s, own, low)
        row, other = np.where(s, other, row), np.where(s, row, other)
        if (own[..., 0] == 0).any():
            raise ValueError(SINGULAR)
        factor = low[..., 0] / own[..., 0]
        u0[..., k], u1[..., k], u2[..., k] = own[..., 0], own[..., 1], own[..., 2]
        u0[..., k + 1], u1[..., k + 1] = low[..., 1] - factor * own[..., 1], low[..., 2] - factor * own[..., 2]
        b[..., k, :], b[..., k + 1, :] = row, other - factor[..., None] * row
        middle[..., k + 1] = u0[..., k + 1]
    if m and (u0[..., -1] == 0).any():
        raise ValueError(SINGULAR)
    for k in range(m - 1, -1, -1):
        total = b[..., k, :]
        if k + 1 < m:
            total = total - u1[..., k, None] * b[..., k + 1, :]
        if k + 2 < m:
            total = total - u2[..., k, None] * b[..., k + 2, :]
        b[..., k, :] = total / u0[..., k, None]
    return b


@tridiagonal_solve.grad
def _(op, dy):
    diagonals, x = op.inputs[0], op.outputs[0]
    d_rhs = tridiagonal_solve(OPERATORS["tridiagonal_adjoint"](diagonals), dy, partial_pivoting=op.attrs["partial_pivoting"])
    return OPERATORS["tridiagonal_outer"](-d_rhs, x), d_rhs


# ---------------------------------------------------------------- logarithms


@primitive("host", type="MatrixLogarithm", dtypes=COMPLEX, infer=_square_like, no_gradient="as in TF")
def matrix_logarithm(x):
    """The principal logarithm of each complex matrix, whose eigenvalues must not be negative reals or zero."""


@matrix_logarithm.reference
def _(x):
    return np.stack([_logm(m) for m in x.reshape(-1, *x.shape[-2:])]).reshape(x.shape) if x.size else x


def _logm(x):
    """Square roots until the matrix is near 1, then Gauss-Legendre quadrature (Higham 2008, sections 11.4, 11.5)."""
    eye, roots, y = np.eye(len(x)), 0, x.astype(np.complex128)
    while np.linalg.norm(y - eye, 1) > 0.25 and roots < 60:
        y, roots = matrix_square_root._numpy(y[None])[0], roots + 1
    nodes, weights = np.polynomial.legendre.leggauss(12)
    e = y - eye
    total = sum(w / 2 * np.linalg.solve(eye + (t + 1) / 2 * e, e) for t, w in zip(nodes, weights))
    return total * 2.0 ** roots
