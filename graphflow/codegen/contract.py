"""Contractions: which engine makes a product or convolution.

Today's engine is the general loop generator for small ones and the BLAS of NumPy's wheel for large matrix products;
the generated GEMM takes this seam over (rank 4).
"""
from __future__ import annotations

from typing import Mapping

from ..graph import Operation, Tensor
from . import ir


def engine(op: Operation) -> str | None:
    """ "contraction" for an op that runs alone through an engine of this module, None for the general generator."""
    return None


def kernels(name: str, op: Operation, stored: Mapping[Tensor, ir.Buffer]) -> list[ir.Kernel]:
    """The kernels of a contraction."""
    raise AssertionError("no engine was chosen for " + op.name)
