"""`tf.linalg.LinearOperator*`: matrices (or batches of them) that know their structure, so that products and solutions are cheap.

A subclass says its shape and what it knows better than the dense matrix: `_matmul`, `_solve`, `_log_abs_determinant`, `_diag_part`, ...
Everything else follows from the dense matrix.
"""
from __future__ import annotations

import functools
from typing import Any, Sequence

import numpy as np

from . import array_ops, check_ops, control_flow_ops, graph, linalg, math_ops, types
from .graph import Operation, Tensor
from .ops.contraction import matmul
from .ops.opdef import constant_value, convert_to_tensor, needs_rank

__all__ = ["LinearOperator", "LinearOperatorAdjoint", "LinearOperatorBlockDiag", "LinearOperatorComposition", "LinearOperatorDiag",
           "LinearOperatorFullMatrix", "LinearOperatorHouseholder", "LinearOperatorIdentity", "LinearOperatorInversion",
           "LinearOperatorKronecker", "LinearOperatorLowerTriangular", "LinearOperatorLowRankUpdate", "LinearOperatorScaledIdentity",
           "LinearOperatorZeros"]


def _conj(x: Tensor) -> Tensor:
    return math_ops.conj(x) if x.dtype.is_complex else x


class LinearOperator:
    """A matrix [..., M, N] given by its parts.

    Args of all: `is_non_singular`, `is_self_adjoint`, `is_positive_definite`, `is_square`: promises (True, False, or None for not
    known) that methods rely on; `name`.

    Raises:
        ValueError: promises that contradict each other or the shape.
    """

    def __init__(self, dtype: Any, graph_parents: Any = None, is_non_singular: bool | None = None, is_self_adjoint: bool | None = None,
                 is_positive_definite: bool | None = None, is_square: bool | None = None, name: str | None = None):
        if is_positive_definite and is_self_adjoint is False or is_positive_definite and is_non_singular is False:
            raise ValueError("A positive definite matrix is always non-singular and, here, self-adjoint.")
        if (is_non_singular or is_self_adjoint or is_positive_definite) and is_square is False:
            raise ValueError("A non-singular, self-adjoint or positive definite matrix is always square.")
        self._dtype, self._parents, self._name = types.as_dtype(dtype), list(graph_parents or []), name or type(self).__name__
        self._positive, self._adjoint_self = is_positive_definite, is_self_adjoint or (True if is_positive_definite else is_self_adjoint)
        self._regular = True if is_positive_definite else is_non_singular
        self._square = True if is_non_singular or is_self_adjoint or is_positive_definite else is_square

    dtype = property(lambda self: self._dtype)
    name = property(lambda self: self._name)
    graph_parents = property(lambda self: self._parents)
    is_non_singular = property(lambda self: self._regular)
    is_self_adjoint = property(lambda self: self._adjoint_self)
    is_positive_definite = property(lambda self: self._positive)

    @property
    def is_square(self) -> bool | None:
        sizes = self.shape._dims
        found = None if sizes is None else types.same(sizes[-2], sizes[-1])
        if found is False and self._square:
            raise ValueError(f"{self.name}: promised to be square, but its shape is {self.shape}")
        return self._square if found is None else found

    # -- shapes

    @property
    def shape(self) -> types.TensorShape:
        return types._shape(self._sizes())

    def _sizes(self) -> types.Shape:
        return self.to_dense().sizes

    batch_shape = property(lambda self: self.shape[:-2])
    tensor_rank = property(lambda self: self.shape.ndims)
    domain_dimension = property(lambda self: self.shape[-1])
    range_dimension = property(lambda self: self.shape[-2])

    def shape_tensor(self, name: str = "shape_tensor") -> Tensor:
        if self.shape.is_fully_defined():
            return convert_to_tensor(self.shape.as_list(), types.int32)
        return array_ops.shape(self.to_dense())

    def batch_shape_tensor(self, name: str = "batch_shape_tensor") -> Tensor:
        return self.shape_tensor()[:-2]

    def tensor_rank_tensor(self, name: str = "tensor_rank_tensor") -> Tensor:
        return array_ops.size(self.shape_tensor())

    def domain_dimension_tensor(self, name: str = "domain_dimension_tensor") -> Tensor:
        return self.shape_tensor()[-1]

    def range_dimension_tensor(self, name: str = "range_dimension_tensor") -> Tensor:
        return self.shape_tensor()[-2]

    # -- what subclasses say

    def _to_dense(self) -> Tensor:
        raise NotImplementedError

    def _matmul(self, x: Tensor, adjoint: bool) -> Tensor:
        return matmul(self.to_dense(), x, adjoint_a=adjoint)

    def _solve(self, rhs: Tensor, adjoint: bool) -> Tensor:
        if self.is_positive_definite and self.is_self_adjoint:
            return linalg.cholesky_solve(_like(linalg.cholesky(self.to_dense()), rhs), rhs)
        return linalg.matrix_solve(_like(self.to_dense(), rhs), rhs, adjoint=adjoint)

    def _determinant(self) -> Tensor:
        return linalg.matrix_determinant(self.to_dense())

    def _log_abs_determinant(self) -> Tensor:
        if self.is_positive_definite and self.is_self_adjoint:
            return linalg.logdet(self.to_dense())
        return linalg.log_matrix_determinant(self.to_dense())[1]

    def _diag_part(self) -> Tensor:
        return array_ops.matrix_diag_part(self.to_dense())

    # -- what users call

    def to_dense(self, name: str = "to_dense") -> Tensor:
        """The matrix itself."""
        with self._scope(name):
            return self._to_dense()

    def _scope(self, name: str) -> Any:
        return graph.get_default_graph().name_scope(f"{self._name}/{name}")

    def _needs_square(self, what: str) -> None:
        if self.is_square is False:
            raise NotImplementedError(f"Cannot {what}: {self.name} of shape {self.shape} is not square")

    def matmul(self, x: Any, adjoint: bool = False, adjoint_arg: bool = False, name: str = "matmul") -> Any:
        """The product with x [..., N, K] (or with x^H), of this matrix or its adjoint; with another operator, their composition."""
        if isinstance(x, LinearOperator):
            left, right = self.adjoint() if adjoint else self, x.adjoint() if adjoint_arg else x
            return LinearOperatorComposition([left, right])
        with self._scope(name):
            t = convert_to_tensor(x, self.dtype)
            return self._matmul(linalg.adjoint(t) if adjoint_arg else t, bool(adjoint))

    __matmul__ = matmul

    def matvec(self, x: Any, adjoint: bool = False, name: str = "matvec") -> Tensor:
        """The product with x [..., N]."""
        return array_ops.squeeze(self.matmul(array_ops.expand_dims(convert_to_tensor(x, self.dtype), -1), adjoint, name=name), [-1])

    def solve(self, rhs: Any, adjoint: bool = False, adjoint_arg: bool = False, name: str = "solve") -> Any:
        """X with this matrix (or its adjoint) times X = rhs [..., M, K].  Raises NotImplementedError unless it is square and regular."""
        if self.is_non_singular is False:
            raise NotImplementedError(f"Exact solve not implemented for an operator that is expected to be singular: {self.name}")
        self._needs_square("solve")
        if isinstance(rhs, LinearOperator):
            left = self.adjoint() if adjoint else self
            return LinearOperatorComposition([left.inverse(), rhs.adjoint() if adjoint_arg else rhs])
        with self._scope(name):
            t = convert_to_tensor(rhs, self.dtype)
            return self._solve(linalg.adjoint(t) if adjoint_arg else t, bool(adjoint))

    def solvevec(self, rhs: Any, adjoint: bool = False, name: str = "solve") -> Tensor:
        """`solve` for rhs [..., M]."""
        return array_ops.squeeze(self.solve(array_ops.expand_dims(convert_to_tensor(rhs, self.dtype), -1), adjoint, name=name), [-1])

    def determinant(self, name: str = "det") -> Tensor:
        self._needs_square("compute the determinant")
        with self._scope(name):
            return self._determinant()

    def log_abs_determinant(self, name: str = "log_abs_det") -> Tensor:
        self._needs_square("compute the determinant")
        with self._scope(name):
            return self._log_abs_determinant()

    def diag_part(self, name: str = "diag_part") -> Tensor:
        """The main diagonal [..., min(M, N)]."""
        with self._scope(name):
            return self._diag_part()

    def trace(self, name: str = "trace") -> Tensor:
        with self._scope(name):
            return math_ops.reduce_sum(self._diag_part(), -1)

    def add_to_tensor(self, x: Any, name: str = "add_to_tensor") -> Tensor:
        """This matrix + x."""
        with self._scope(name):
            return self._to_dense() + convert_to_tensor(x, self.dtype)

    def adjoint(self, name: str = "adjoint") -> LinearOperator:
        return self if self.is_self_adjoint else LinearOperatorAdjoint(self)

    H = property(adjoint)

    def inverse(self, name: str = "inverse") -> LinearOperator:
        """Raises ValueError for a matrix not square or singular."""
        if self.is_square is False or self.is_non_singular is False:
            raise ValueError(f"Cannot take the inverse of {self.name}: it is not square, or expected to be singular")
        return LinearOperatorInversion(self)

    def cholesky(self, name: str = "cholesky") -> LinearOperator:
        """The Cholesky factor.  Raises ValueError unless the matrix is promised to be positive definite and self-adjoint."""
        if not (self.is_positive_definite and self.is_self_adjoint):
            raise ValueError("Cannot take the Cholesky decomposition: Not a positive definite self adjoint matrix.")
        with self._scope(name):
            return LinearOperatorLowerTriangular(linalg.cholesky(self.to_dense()), is_non_singular=True, is_square=True)

    def eigvals(self, name: str = "eigvals") -> Tensor:
        """Eigenvalues, ascending, of a self-adjoint matrix.  Raises NotImplementedError for another."""
        if not self.is_self_adjoint:
            raise NotImplementedError("Only self-adjoint matrices are supported.")
        with self._scope(name):
            return linalg.self_adjoint_eigvals(self.to_dense())

    def cond(self, name: str = "cond") -> Tensor:
        """The ratio of the largest and the smallest singular value."""
        with self._scope(name):
            s = linalg.svd(self.to_dense(), compute_uv=False)
            return math_ops.reduce_max(s, -1) / math_ops.reduce_min(s, -1)

    def assert_non_singular(self, name: str = "assert_non_singular") -> Operation:
        """Fails when run, unless the condition number is below 1 / eps."""
        limit = 1.0 / float(np.finfo(self.dtype.real_dtype.np).eps)
        return check_ops.assert_less(self.cond(), limit, message="Singular matrix up to precision epsilon.")

    def assert_positive_definite(self, name: str = "assert_positive_definite") -> Operation:
        """Fails when run, unless there is a Cholesky factor."""
        return control_flow_ops.group(linalg.cholesky(self.to_dense()))

    def assert_self_adjoint(self, name: str = "assert_self_adjoint") -> Operation:
        """Fails when run, unless the matrix is its own adjoint."""
        dense = self.to_dense()
        return check_ops.assert_equal(dense, linalg.adjoint(dense), message="Matrix was not equal to its adjoint.")

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r} shape={self.shape} dtype={self.dtype.name}>"


def _like(matrix: Tensor, rhs: Tensor) -> Tensor:
    """`matrix` with the batch dimensions of `rhs`, where they are known to be more."""
    ours, theirs = needs_rank(matrix)[:-2], needs_rank(rhs)[:-2]
    if len(ours) == len(theirs) and all(types.same(a, b) for a, b in zip(ours, theirs)):
        return matrix
    outer = array_ops.broadcast_dynamic_shape(array_ops.shape(matrix)[:-2], array_ops.shape(rhs)[:-2])
    return array_ops.broadcast_to(matrix, array_ops.concat([outer, array_ops.shape(matrix)[-2:]], 0))


class LinearOperatorFullMatrix(LinearOperator):
    """A dense matrix [..., M, N]."""

    def __init__(self, matrix: Any, is_non_singular: bool | None = None, is_self_adjoint: bool | None = None,
                 is_positive_definite: bool | None = None, is_square: bool | None = None, name: str = "LinearOperatorFullMatrix"):
        self._matrix = convert_to_tensor(matrix, name="matrix")
        if len(needs_rank(self._matrix)) < 2:
            raise ValueError(f"Argument matrix must have at least 2 dimensions.  Found: {self._matrix!r}")
        super().__init__(self._matrix.dtype, [self._matrix], is_non_singular, is_self_adjoint, is_positive_definite, is_square, name)

    def _sizes(self) -> types.Shape:
        return self._matrix.sizes

    def _to_dense(self) -> Tensor:
        return self._matrix


class LinearOperatorLowerTriangular(LinearOperator):
    """The lower triangle of `tril` [..., N, N]; what stands above is not read."""

    def __init__(self, tril: Any, is_non_singular: bool | None = None, is_self_adjoint: bool | None = None,
                 is_positive_definite: bool | None = None, is_square: bool | None = None, name: str = "LinearOperatorLowerTriangular"):
        if is_square is False:
            raise ValueError("Only square lower triangular operators supported at this time.")
        self._tril = convert_to_tensor(tril, name="tril")
        linalg.ops.square(self._tril)
        super().__init__(self._tril.dtype, [self._tril], is_non_singular, is_self_adjoint, is_positive_definite, True, name)

    def _sizes(self) -> types.Shape:
        return self._tril.sizes

    def _to_dense(self) -> Tensor:
        return array_ops.matrix_band_part(self._tril, -1, 0)

    def _solve(self, rhs: Tensor, adjoint: bool) -> Tensor:
        return linalg.matrix_triangular_solve(_like(self._tril, rhs), _like(rhs, self._tril), lower=True, adjoint=adjoint)

    def _diag_part(self) -> Tensor:
        return array_ops.matrix_diag_part(self._tril)

    def _determinant(self) -> Tensor:
        return math_ops.reduce_prod(self._diag_part(), -1)

    def _log_abs_determinant(self) -> Tensor:
        return math_ops.reduce_sum(math_ops.log(math_ops.abs(self._diag_part())), -1)


class LinearOperatorDiag(LinearOperator):
    """The diagonal matrix of `diag` [..., N]."""

    def __init__(self, diag: Any, is_non_singular: bool | None = None, is_self_adjoint: bool | None = None,
                 is_positive_definite: bool | None = None, is_square: bool | None = None, name: str = "LinearOperatorDiag"):
        if is_square is False:
            raise ValueError("Only square diagonal operators currently supported.")
        self._diag = convert_to_tensor(diag, name="diag")
        if not needs_rank(self._diag):
            raise ValueError(f"Argument diag must have at least 1 dimension.  Found: {self._diag!r}")
        real = not self._diag.dtype.is_complex
        super().__init__(self._diag.dtype, [self._diag], is_non_singular, real or is_self_adjoint, is_positive_definite, True, name)

    diag = property(lambda self: self._diag)

    def _sizes(self) -> types.Shape:
        return (*self._diag.sizes, self._diag.sizes[-1])

    def _to_dense(self) -> Tensor:
        return array_ops.matrix_diag(self._diag)

    def _matmul(self, x: Tensor, adjoint: bool) -> Tensor:
        return array_ops.expand_dims(_conj(self._diag) if adjoint else self._diag, -1) * x

    def _solve(self, rhs: Tensor, adjoint: bool) -> Tensor:
        return rhs / array_ops.expand_dims(_conj(self._diag) if adjoint else self._diag, -1)

    def _diag_part(self) -> Tensor:
        return self._diag

    def _determinant(self) -> Tensor:
        return math_ops.reduce_prod(self._diag, -1)

    def _log_abs_determinant(self) -> Tensor:
        return math_ops.reduce_sum(math_ops.log(math_ops.abs(self._diag)), -1)

    def inverse(self, name: str = "inverse") -> LinearOperator:
        if self.is_non_singular is False:
            return super().inverse(name)
        return LinearOperatorDiag(1.0 / self._diag, True, self.is_self_adjoint, self.is_positive_definite, True)

    def cholesky(self, name: str = "cholesky") -> LinearOperator:
        if not (self.is_positive_definite and self.is_self_adjoint):
            return super().cholesky(name)
        return LinearOperatorDiag(math_ops.sqrt(self._diag), True, True, True, True)


class LinearOperatorScaledIdentity(LinearOperator):
    """`multiplier` [...] times the identity of `num_rows`."""

    def __init__(self, num_rows: Any, multiplier: Any, is_non_singular: bool | None = None, is_self_adjoint: bool | None = None,
                 is_positive_definite: bool | None = None, is_square: bool | None = True, assert_proper_shapes: bool = False,
                 name: str = "LinearOperatorScaledIdentity"):
        if is_square is False:
            raise ValueError("A ScaledIdentity operator is always square.")
        self._multiplier, self._rows = convert_to_tensor(multiplier, name="multiplier"), _count(num_rows, "num_rows")
        real = not self._multiplier.dtype.is_complex
        super().__init__(self._multiplier.dtype, [self._multiplier], is_non_singular, real or is_self_adjoint, is_positive_definite, True,
                         name)

    multiplier = property(lambda self: self._multiplier)

    def _sizes(self) -> types.Shape:
        n = self._rows if isinstance(self._rows, int) else types.UNKNOWN
        return (*needs_rank(self._multiplier), n, n)

    def _wide(self, adjoint: bool = False) -> Tensor:
        m = _conj(self._multiplier) if adjoint else self._multiplier
        return array_ops.expand_dims(array_ops.expand_dims(m, -1), -1)

    def _to_dense(self) -> Tensor:
        return array_ops.eye(self._rows, dtype=self.dtype) * self._wide()

    def _matmul(self, x: Tensor, adjoint: bool) -> Tensor:
        return x * self._wide(adjoint)

    def _solve(self, rhs: Tensor, adjoint: bool) -> Tensor:
        return rhs / self._wide(adjoint)

    def _diag_part(self) -> Tensor:
        return array_ops.expand_dims(self._multiplier, -1) * array_ops.ones(array_ops.stack([self._rows]), self.dtype)

    def _determinant(self) -> Tensor:
        return math_ops.pow(self._multiplier, math_ops.cast(self._rows, self.dtype))

    def _log_abs_determinant(self) -> Tensor:
        return math_ops.cast(self._rows, self.dtype.real_dtype) * math_ops.log(math_ops.abs(self._multiplier))

    def trace(self, name: str = "trace") -> Tensor:
        return math_ops.cast(self._rows, self.dtype) * self._multiplier

    def inverse(self, name: str = "inverse") -> LinearOperator:
        return LinearOperatorScaledIdentity(self._rows, 1.0 / self._multiplier, True, self.is_self_adjoint, self.is_positive_definite)


def _count(n: Any, what: str) -> Any:
    t = convert_to_tensor(n, types.int32 if not isinstance(n, Tensor) else None)
    if t.sizes not in ((), None):
        raise ValueError(f"Argument {what} must be a 0-D Tensor.  Found: {t!r}")
    value = constant_value(t)
    if value is not None and value < 0:
        raise ValueError(f"Argument {what} must be non-negative.  Found: {int(value)}")
    return int(value) if value is not None else t


class LinearOperatorIdentity(LinearOperatorScaledIdentity):
    """The identity of `num_rows`, a batch of them if `batch_shape` is given."""

    def __init__(self, num_rows: Any, batch_shape: Any = None, dtype: Any = None, is_non_singular: bool | None = True,
                 is_self_adjoint: bool | None = True, is_positive_definite: bool | None = True, is_square: bool | None = True,
                 assert_proper_shapes: bool = False, name: str = "LinearOperatorIdentity"):
        for promise, what in ((is_self_adjoint, "self-adjoint"), (is_non_singular, "non-singular"), (is_positive_definite,
                                                                                                   "positive-definite")):
            if not promise:
                raise ValueError(f"An identity operator is always {what}.")
        ones = array_ops.ones([] if batch_shape is None else batch_shape, types.float32 if dtype is None else types.as_dtype(dtype))
        super().__init__(num_rows, ones, True, True, True, is_square, assert_proper_shapes, name)
        self._batched = batch_shape is not None

    def _matmul(self, x: Tensor, adjoint: bool) -> Tensor:
        return super()._matmul(x, adjoint) if self._batched else x

    _solve = _matmul  # type: ignore[assignment]

    def inverse(self, name: str = "inverse") -> LinearOperator:
        return self


class LinearOperatorZeros(LinearOperator):
    """Zeros, [.., num_rows, num_columns]."""

    def __init__(self, num_rows: Any, num_columns: Any = None, batch_shape: Any = None, dtype: Any = None,
                 is_non_singular: bool | None = False, is_self_adjoint: bool | None = True, is_positive_definite: bool | None = False,
                 is_square: bool | None = True, assert_proper_shapes: bool = False, name: str = "LinearOperatorZeros"):
        if is_non_singular or is_positive_definite:
            raise ValueError("A zero operator is always singular and never positive definite.")
        self._rows, self._columns = _count(num_rows, "num_rows"), _count(num_rows if num_columns is None else num_columns, "num_columns")
        if is_square and isinstance(self._rows, int) and isinstance(self._columns, int) and self._rows != self._columns:
            raise ValueError("LinearOperatorZeros initialized as is_square=True, but got num_rows != num_columns")
        self._batch = [] if batch_shape is None else batch_shape
        super().__init__(types.float32 if dtype is None else dtype, None, False, is_self_adjoint if is_square else None, False, is_square,
                         name)

    def _to_dense(self) -> Tensor:
        outer = convert_to_tensor(self._batch, types.int32)
        return array_ops.zeros(array_ops.concat([outer, array_ops.stack([self._rows, self._columns])], 0), self.dtype)

    def _diag_part(self) -> Tensor:
        return array_ops.matrix_diag_part(self._to_dense())


class LinearOperatorAdjoint(LinearOperator):
    """The adjoint of another operator."""

    def __init__(self, operator: LinearOperator, is_non_singular: bool | None = None, is_self_adjoint: bool | None = None,
                 is_positive_definite: bool | None = None, is_square: bool | None = None, name: str | None = None):
        self._operator = operator
        promises = _inherited(operator, is_non_singular, is_self_adjoint, is_positive_definite, is_square)
        super().__init__(operator.dtype, operator.graph_parents, name=name or f"{operator.name}_adjoint", **promises)

    operator = property(lambda self: self._operator)

    def _sizes(self) -> types.Shape:
        s = self._operator._sizes()
        return None if s is None else (*s[:-2], s[-1], s[-2])

    def _to_dense(self) -> Tensor:
        return linalg.adjoint(self._operator._to_dense())

    def _matmul(self, x: Tensor, adjoint: bool) -> Tensor:
        return self._operator._matmul(x, not adjoint)

    def _solve(self, rhs: Tensor, adjoint: bool) -> Tensor:
        return self._operator._solve(rhs, not adjoint)

    def _determinant(self) -> Tensor:
        return _conj(self._operator._determinant())

    def _log_abs_determinant(self) -> Tensor:
        return self._operator._log_abs_determinant()

    def _diag_part(self) -> Tensor:
        return _conj(self._operator._diag_part())

    def adjoint(self, name: str = "adjoint") -> LinearOperator:
        return self._operator

    H = property(adjoint)


_PROMISES = ("is_non_singular", "is_self_adjoint", "is_positive_definite", "is_square")


def _inherited(operator: LinearOperator, *given: bool | None) -> dict[str, bool | None]:
    """The promises given, else those of `operator`."""
    return {p: getattr(operator, p) if own is None else own for p, own in zip(_PROMISES, given)}


def _shared(operators: Sequence[LinearOperator], *given: bool | None) -> dict[str, bool | None]:
    """The promises given, else those that all `operators` make."""
    return {p: (True if all(getattr(o, p) for o in operators) else None) if own is None else own for p, own in zip(_PROMISES, given)}


class LinearOperatorInversion(LinearOperator):
    """The inverse of another operator."""

    def __init__(self, operator: LinearOperator, is_non_singular: bool | None = None, is_self_adjoint: bool | None = None,
                 is_positive_definite: bool | None = None, is_square: bool | None = None, name: str | None = None):
        if operator.is_non_singular is False or is_non_singular is False:
            raise ValueError("operator and supplied hints must have is_non_singular=True or None")
        self._operator = operator
        promises = _inherited(operator, True, is_self_adjoint, is_positive_definite, is_square)
        super().__init__(operator.dtype, operator.graph_parents, name=name or f"{operator.name}_inv", **promises)

    operator = property(lambda self: self._operator)

    def _sizes(self) -> types.Shape:
        return self._operator._sizes()

    def _to_dense(self) -> Tensor:
        return self._operator._solve(_eye_of(self._operator), False)

    def _matmul(self, x: Tensor, adjoint: bool) -> Tensor:
        return self._operator._solve(x, adjoint)

    def _solve(self, rhs: Tensor, adjoint: bool) -> Tensor:
        return self._operator._matmul(rhs, adjoint)

    def _determinant(self) -> Tensor:
        return 1.0 / self._operator._determinant()

    def _log_abs_determinant(self) -> Tensor:
        return -self._operator._log_abs_determinant()

    def inverse(self, name: str = "inverse") -> LinearOperator:
        return self._operator


def _eye_of(operator: LinearOperator) -> Tensor:
    """The identity with the operator's shape."""
    shape = operator.shape_tensor()
    return array_ops.eye(shape[-1], batch_shape=shape[:-2], dtype=operator.dtype)


class LinearOperatorComposition(LinearOperator):
    """The product of operators, in their order."""

    def __init__(self, operators: Sequence[LinearOperator], is_non_singular: bool | None = None, is_self_adjoint: bool | None = None,
                 is_positive_definite: bool | None = None, is_square: bool | None = None, name: str | None = None):
        if not operators:
            raise ValueError(f"Expected a non-empty list of operators. Found: {operators}")
        self._operators = list(operators)
        for a, b in zip(self._operators, self._operators[1:]):
            if a.dtype is not b.dtype:
                raise TypeError(f"Expected all operators to have the same dtype, got {[o.dtype.name for o in operators]}")
            if not a.domain_dimension.is_compatible_with(b.range_dimension):
                raise ValueError(f"Operators do not fit: {a!r} and {b!r}")
        if all(o.is_non_singular for o in operators):
            is_non_singular = True if is_non_singular is None else is_non_singular
        super().__init__(operators[0].dtype, [p for o in operators for p in o.graph_parents], is_non_singular, is_self_adjoint,
                         is_positive_definite, is_square, name or "_o_".join(o.name for o in operators))

    operators = property(lambda self: self._operators)

    def _sizes(self) -> types.Shape:
        parts = [o._sizes() for o in self._operators]
        if any(p is None for p in parts):
            return None
        outer = functools.reduce(types.broadcast_shapes, [p[:-2] for p in parts])  # type: ignore[index]
        return (*outer, parts[0][-2], parts[-1][-1])  # type: ignore[index, misc]

    def _to_dense(self) -> Tensor:
        found = self._operators[-1]._to_dense()
        for o in self._operators[-2::-1]:
            found = o._matmul(found, False)
        return found

    def _matmul(self, x: Tensor, adjoint: bool) -> Tensor:
        for o in self._operators if adjoint else self._operators[::-1]:
            x = o._matmul(x, adjoint)
        return x

    def _solve(self, rhs: Tensor, adjoint: bool) -> Tensor:
        if not all(o.is_square for o in self._operators):
            return super()._solve(rhs, adjoint)
        for o in self._operators[::-1] if adjoint else self._operators:
            rhs = o._solve(rhs, adjoint)
        return rhs

    def _determinant(self) -> Tensor:
        if not all(o.is_square for o in self._operators):
            return super()._determinant()
        return functools.reduce(lambda a, b: a * b, [o._determinant() for o in self._operators])

    def _log_abs_determinant(self) -> Tensor:
        if not all(o.is_square for o in self._operators):
            return super()._log_abs_determinant()
        return functools.reduce(lambda a, b: a + b, [o._log_abs_determinant() for o in self._operators])


class LinearOperatorBlockDiag(LinearOperator):
    """Operators as blocks along the diagonal, zeros elsewhere."""

    def __init__(self, operators: Sequence[LinearOperator], is_non_singular: bool | None = None, is_self_adjoint: bool | None = None,
                 is_positive_definite: bool | None = None, is_square: bool | None = True, name: str | None = None):
        if not operators:
            raise ValueError(f"Expected a list of >=1 operators. Found: {operators}")
        self._operators = list(operators)
        if len({o.dtype for o in operators}) > 1:
            raise TypeError(f"Expected all operators to have the same dtype, got {[o.dtype.name for o in operators]}")
        promises = _shared(operators, is_non_singular, is_self_adjoint, is_positive_definite, is_square)
        super().__init__(operators[0].dtype, [p for o in operators for p in o.graph_parents],
                         name=name or "_ds_".join(o.name for o in operators), **promises)

    operators = property(lambda self: self._operators)

    def _parts(self, x: Tensor, axis: int) -> list[Tensor]:
        sizes = [(o.shape[axis].value if o.shape[axis].value is not None else o.shape_tensor()[axis]) for o in self._operators]
        if all(isinstance(n, int) for n in sizes):
            return array_ops.split(x, sizes, axis=-2)
        return array_ops.split(x, array_ops.stack(sizes), axis=-2, num=len(sizes))

    def _each(self, method: str, x: Tensor, axis: int, adjoint: bool) -> Tensor:
        found = [getattr(o, method)(p, adjoint) for o, p in zip(self._operators, self._parts(x, axis))]
        outer = [array_ops.shape(f)[:-2] for f in found]
        if len({len(needs_rank(f)) for f in found}) > 1:
            whole = functools.reduce(array_ops.broadcast_dynamic_shape, outer)
            found = [array_ops.broadcast_to(f, array_ops.concat([whole, array_ops.shape(f)[-2:]], 0)) for f in found]
        return array_ops.concat(found, -2)

    def _matmul(self, x: Tensor, adjoint: bool) -> Tensor:
        return self._each("_matmul", x, -2 if adjoint else -1, adjoint)

    def _solve(self, rhs: Tensor, adjoint: bool) -> Tensor:
        return self._each("_solve", rhs, -1 if adjoint else -2, adjoint)

    def _to_dense(self) -> Tensor:
        parts = [o._to_dense() for o in self._operators]
        widths = [array_ops.shape(p)[-1] for p in parts]
        rows = []
        for k, p in enumerate(parts):
            before, after = (functools.reduce(lambda a, b: a + b, w, 0) for w in (widths[:k], widths[k + 1:]))
            rows.append(array_ops.pad(p, [*[[0, 0]] * (len(needs_rank(p)) - 1), [before, after]]))
        return array_ops.concat(rows, -2)

    def _sizes(self) -> types.Shape:
        parts = [o._sizes() for o in self._operators]
        if any(p is None for p in parts):
            return None
        outer = functools.reduce(types.broadcast_shapes, [p[:-2] for p in parts])  # type: ignore[index]
        return (*outer, *[functools.reduce(lambda a, b: a + b, [p[k] for p in parts]) for k in (-2, -1)])  # type: ignore[index, misc]

    def _diag_part(self) -> Tensor:
        return array_ops.concat([o._diag_part() for o in self._operators], -1)

    def _determinant(self) -> Tensor:
        return functools.reduce(lambda a, b: a * b, [o._determinant() for o in self._operators])

    def _log_abs_determinant(self) -> Tensor:
        return functools.reduce(lambda a, b: a + b, [o._log_abs_determinant() for o in self._operators])


class LinearOperatorKronecker(LinearOperator):
    """The Kronecker product of operators."""

    def __init__(self, operators: Sequence[LinearOperator], is_non_singular: bool | None = None, is_self_adjoint: bool | None = None,
                 is_positive_definite: bool | None = None, is_square: bool | None = None, name: str | None = None):
        if not operators:
            raise ValueError(f"Expected a list of >=1 operators. Found: {operators}")
        self._operators = list(operators)
        promises = _shared(operators, is_non_singular, is_self_adjoint, is_positive_definite, is_square)
        super().__init__(operators[0].dtype, [p for o in operators for p in o.graph_parents],
                         name=name or "_x_".join(o.name for o in operators), **promises)

    operators = property(lambda self: self._operators)

    def _to_dense(self) -> Tensor:
        def product(a: Tensor, b: Tensor) -> Tensor:
            both = array_ops.expand_dims(array_ops.expand_dims(a, -2), -1) * array_ops.expand_dims(array_ops.expand_dims(b, -3), -2)
            # [..., i, k, j, l] of a[i, j] b[k, l]
            shape = array_ops.shape(both)
            return array_ops.reshape(both, array_ops.concat([shape[:-4], [shape[-4] * shape[-3], shape[-2] * shape[-1]]], 0))

        return functools.reduce(product, [o._to_dense() for o in self._operators])

    def _log_abs_determinant(self) -> Tensor:
        whole = self.domain_dimension_tensor()
        return functools.reduce(lambda a, b: a + b, [o._log_abs_determinant() * math_ops.cast(
            whole // o.domain_dimension_tensor(), self.dtype) for o in self._operators])


class LinearOperatorHouseholder(LinearOperator):
    """The reflection 1 - 2 v v^H of the unit vector along `reflection_axis` [..., N]."""

    def __init__(self, reflection_axis: Any, is_non_singular: bool | None = None, is_self_adjoint: bool | None = None,
                 is_positive_definite: bool | None = None, is_square: bool | None = None, name: str = "LinearOperatorHouseholder"):
        for promise, what in ((is_self_adjoint is not False, "self adjoint"), (not is_positive_definite, "not positive definite"),
                              (is_square is not False, "square"), (is_non_singular is not False, "non-singular")):
            if not promise:
                raise ValueError(f"A Householder operator is always {what}.")
        self._axis = convert_to_tensor(reflection_axis, name="reflection_axis")
        super().__init__(self._axis.dtype, [self._axis], True, True, False, True, name)

    reflection_axis = property(lambda self: self._axis)

    def _sizes(self) -> types.Shape:
        return (*needs_rank(self._axis), needs_rank(self._axis)[-1])

    def _unit(self) -> Tensor:
        return array_ops.expand_dims(self._axis / linalg.norm(self._axis, axis=-1, keepdims=True), -1)

    def _matmul(self, x: Tensor, adjoint: bool) -> Tensor:
        v = self._unit()
        return x - 2.0 * v * matmul(v, x, adjoint_a=True)

    _solve = _matmul  # type: ignore[assignment]

    def _to_dense(self) -> Tensor:
        v = self._unit()
        return array_ops.eye(array_ops.shape(v)[-2], dtype=self.dtype) - 2.0 * matmul(v, v, adjoint_b=True)

    def _determinant(self) -> Tensor:
        return -array_ops.ones(array_ops.shape(self._axis)[:-1], self.dtype)

    def _log_abs_determinant(self) -> Tensor:
        return array_ops.zeros(array_ops.shape(self._axis)[:-1], self.dtype)


class LinearOperatorLowRankUpdate(LinearOperator):
    """L + U D V^H of an operator L, U [..., M, K], V [..., N, K] (U by default) and the diagonal D [..., K] (ones by default)."""

    def __init__(self, base_operator: LinearOperator, u: Any, diag_update: Any = None, v: Any = None,
                 is_diag_update_positive: bool | None = None, is_non_singular: bool | None = None, is_self_adjoint: bool | None = None,
                 is_positive_definite: bool | None = None, is_square: bool | None = None, name: str = "LinearOperatorLowRankUpdate"):
        self._base, self._u = base_operator, convert_to_tensor(u, base_operator.dtype, name="u")
        self._v = self._u if v is None else convert_to_tensor(v, base_operator.dtype, name="v")
        self._d = None if diag_update is None else convert_to_tensor(diag_update, base_operator.dtype, name="diag_update")
        positive = is_diag_update_positive or diag_update is None
        if v is None and base_operator.is_self_adjoint and is_self_adjoint is None:
            is_self_adjoint = True
        if v is None and positive and base_operator.is_positive_definite and is_positive_definite is None:
            is_positive_definite = True
        parents = [t for t in (*base_operator.graph_parents, self._u, self._v, self._d) if t is not None]
        super().__init__(base_operator.dtype, parents, is_non_singular, is_self_adjoint, is_positive_definite,
                         base_operator.is_square if is_square is None else is_square, name)

    base_operator = property(lambda self: self._base)
    u = property(lambda self: self._u)
    v = property(lambda self: self._v)
    diag_update = property(lambda self: self._d)

    def _sizes(self) -> types.Shape:
        return self._base._sizes()

    def _scaled(self, x: Tensor, adjoint: bool = False) -> Tensor:
        if self._d is None:
            return x
        return array_ops.expand_dims(_conj(self._d) if adjoint else self._d, -1) * x

    def _to_dense(self) -> Tensor:
        return self._base._to_dense() + matmul(self._u, self._scaled(linalg.adjoint(self._v)))

    def _matmul(self, x: Tensor, adjoint: bool) -> Tensor:
        left, right = (self._v, self._u) if adjoint else (self._u, self._v)
        return self._base._matmul(x, adjoint) + matmul(left, self._scaled(matmul(right, x, adjoint_a=True), adjoint))

    def _capacitance(self, adjoint: bool) -> tuple[Tensor, Tensor, Tensor]:
        """D^-1 + V^H L^-1 U of the matrix determinant lemma, with U and V."""
        left, right = (self._v, self._u) if adjoint else (self._u, self._v)
        inner = matmul(right, self._base._solve(left, adjoint), adjoint_a=True)
        ones = array_ops.ones_like(inner[..., 0])
        diagonal = ones if self._d is None else ones / (_conj(self._d) if adjoint else self._d)
        return inner + array_ops.matrix_diag(diagonal), left, right

    def _solve(self, rhs: Tensor, adjoint: bool) -> Tensor:
        # Woodbury: X - L^-1 U C^-1 V^H X with X = L^-1 rhs.
        c, left, right = self._capacitance(adjoint)
        x = self._base._solve(rhs, adjoint)
        return x - self._base._solve(matmul(left, linalg.matrix_solve(c, matmul(right, x, adjoint_a=True))), adjoint)

    def _log_abs_determinant(self) -> Tensor:
        c = self._capacitance(False)[0]
        found = self._base._log_abs_determinant() + linalg.log_matrix_determinant(c)[1]
        return found if self._d is None else found + math_ops.reduce_sum(math_ops.log(math_ops.abs(self._d)), -1)

    def _determinant(self) -> Tensor:
        found = self._base._determinant() * linalg.matrix_determinant(self._capacitance(False)[0])
        return found if self._d is None else found * math_ops.reduce_prod(self._d, -1)
