"""Contractions that are plain matrix products or convolutions of arrays in memory, described for cuBLASLt and cuDNN.

`from_product` looks at a contraction `C[b, i, j] = sum_r A(b, i, r) B(b, r, j)` whose operands are single loads, and says which
strided matrices or images they are; anything it cannot prove to be exactly that gives None, and is left to generated kernels.  `fused`
does the same for what follows it.  A description is data: buffers, element strides, sizes that may be symbols until `bind`.
Knows Kernel IR; knows no op by name, no library and no device (rank 4).
"""
from __future__ import annotations

from ....types import DType
from ...contract import Product
from .convolutions import convolution
from .described import Convolution, Matmul, View
from .epilogues import Fused, fused
from .products import matmul
from .reads import Problem


def from_product(p: Product, out: DType | None = None) -> Matmul | Convolution | None:
    """The contraction as a library call, or None.

    out: the dtype that the result is stored with; that of the operands where it is not given.
    """
    problem = Problem.of(p, out)
    if problem is None:
        return None
    product = matmul(problem)
    if product is not None and len(product.c.sizes) <= 3:
        return product
    return convolution(problem) or product  # several batches that are not one: a call for each
