"""Names that TF had before 1.0 (and programs of that time still use), where 1.15 has no other meaning for them."""
from __future__ import annotations

from typing import Any

from . import array_ops, linalg, math_ops, spectral
from .graph import Tensor
from .ops.contraction import matmul

__all__ = ["batch_cholesky", "batch_cholesky_solve", "batch_fft", "batch_fft2d", "batch_fft3d", "batch_ifft", "batch_ifft2d",
           "batch_ifft3d", "batch_matmul", "batch_matrix_band_part", "batch_matrix_determinant", "batch_matrix_diag",
           "batch_matrix_diag_part", "batch_matrix_inverse", "batch_matrix_set_diag", "batch_matrix_solve", "batch_matrix_solve_ls",
           "batch_matrix_transpose", "batch_matrix_triangular_solve", "batch_self_adjoint_eig", "batch_self_adjoint_eigvals",
           "batch_svd", "complex_abs", "inv", "listdiff", "select"]


def batch_matmul(x: Any, y: Any, adj_x: bool = False, adj_y: bool = False, name: str | None = None) -> Tensor:
    """`matmul` of stacks of matrices, or of their adjoints."""
    return matmul(x, y, adjoint_a=adj_x, adjoint_b=adj_y, name=name)


def select(condition: Any, t: Any, e: Any, name: str | None = None) -> Tensor:
    """`where(condition, t, e)`."""
    return array_ops.where(condition, t, e, name=name)


def listdiff(x: Any, y: Any, out_idx: Any = None, name: str | None = None) -> Any:
    """`setdiff1d`."""
    return array_ops.setdiff1d(x, y, *([] if out_idx is None else [out_idx]), name=name)


inv, complex_abs = math_ops.reciprocal, math_ops.abs
batch_cholesky, batch_cholesky_solve = linalg.cholesky, linalg.cholesky_solve
batch_matrix_determinant, batch_matrix_inverse = linalg.matrix_determinant, linalg.matrix_inverse
batch_matrix_solve, batch_matrix_solve_ls, batch_matrix_triangular_solve = (linalg.matrix_solve, linalg.matrix_solve_ls,
                                                                            linalg.matrix_triangular_solve)
batch_self_adjoint_eig, batch_self_adjoint_eigvals, batch_svd = linalg.self_adjoint_eig, linalg.self_adjoint_eigvals, linalg.svd
batch_matrix_band_part, batch_matrix_diag, batch_matrix_diag_part = (array_ops.matrix_band_part, array_ops.matrix_diag,
                                                                     array_ops.matrix_diag_part)
batch_matrix_set_diag, batch_matrix_transpose = array_ops.matrix_set_diag, array_ops.matrix_transpose
batch_fft, batch_fft2d, batch_fft3d = spectral.fft, spectral.fft2d, spectral.fft3d
batch_ifft, batch_ifft2d, batch_ifft3d = spectral.ifft, spectral.ifft2d, spectral.ifft3d
