"""Distributions of vectors: normal with a diagonal or triangular scale, Dirichlet, relaxed one-hot vectors."""
from __future__ import annotations

from typing import Any

from .. import array_ops, graph, linalg, math_ops, nn, random_ops
from ..graph import Tensor
from ..ops.contraction import matmul
from ..ops.opdef import convert_to_tensor
from .discrete import Multinomial
from .distribution import FULLY_REPARAMETERIZED, NOT_REPARAMETERIZED, Distribution, float_parameters
from .kullback_leibler import RegisterKL
from .special import LOG_2PI, assert_all, depends, log_combinations, logits_and_probs, new_seed, sample_gamma, uniform_inside

__all__ = ["Dirichlet", "DirichletMultinomial", "ExpRelaxedOneHotCategorical", "MultivariateNormalDiag",
           "MultivariateNormalDiagWithSoftplusScale", "MultivariateNormalFullCovariance", "MultivariateNormalTriL",
           "RelaxedOneHotCategorical"]


def _lbeta(c: Tensor) -> Tensor:
    """log of the multivariate beta function along the last axis."""
    return math_ops.reduce_sum(math_ops.lgamma(c), -1) - math_ops.lgamma(math_ops.reduce_sum(c, -1))


class _Diagonal:
    """A matrix with `diag` [..., k] on its diagonal."""

    def __init__(self, diag: Tensor):
        self.diag = diag

    def matvec(self, x: Tensor) -> Tensor:
        return self.diag * x

    def solve(self, y: Tensor) -> Tensor:
        return y / self.diag

    def log_abs_determinant(self) -> Tensor:
        return math_ops.reduce_sum(math_ops.log(math_ops.abs(self.diag)), -1)

    def diag_part(self) -> Tensor:
        return self.diag

    def to_dense(self) -> Tensor:
        return array_ops.matrix_diag(self.diag)

    def variances(self) -> Tensor:
        return math_ops.square(self.diag)


class _Triangular:
    """A lower triangular matrix `tril` [..., k, k]."""

    def __init__(self, tril: Tensor):
        self.tril = array_ops.matrix_band_part(tril, -1, 0)

    def matvec(self, x: Tensor) -> Tensor:
        return math_ops.reduce_sum(self.tril * array_ops.expand_dims(x, -2), -1)

    def solve(self, y: Tensor) -> Tensor:
        # One solve for all samples needs the matrix of each: leading axes that only y has become columns.
        column = array_ops.expand_dims(y, -1)
        whole = self.tril + array_ops.zeros_like(column)
        return array_ops.squeeze(linalg.matrix_triangular_solve(whole, column, lower=True), [-1])

    def log_abs_determinant(self) -> Tensor:
        return math_ops.reduce_sum(math_ops.log(math_ops.abs(self.diag_part())), -1)

    def diag_part(self) -> Tensor:
        return array_ops.matrix_diag_part(self.tril)

    def to_dense(self) -> Tensor:
        return self.tril

    def variances(self) -> Tensor:
        return math_ops.reduce_sum(math_ops.square(self.tril), -1)


class _MultivariateNormal(Distribution):
    """loc + scale z for a vector z of standard normal numbers."""

    def __init__(self, loc: Tensor | None, scale: Any, validate_args: bool, allow_nan_stats: bool, parameters: dict[str, Any], scope: str):
        self._loc, self._scale = loc, scale
        diag = scale.diag_part()
        self._like = diag if loc is None else diag + loc  # shaped as batch and event
        super().__init__(diag.dtype, FULLY_REPARAMETERIZED, validate_args, allow_nan_stats, parameters, [diag], scope)

    loc = property(lambda self: self._loc)
    scale = property(lambda self: self._scale)

    def _batch_shape_tensor(self) -> Any:
        return array_ops.shape(self._like)[:-1]

    def _batch_shape(self) -> Any:
        return self._like.shape[:-1]

    def _event_shape_tensor(self) -> Any:
        return array_ops.shape(self._like)[-1:]

    def _event_shape(self) -> Any:
        return self._like.shape.with_rank_at_least(1)[-1:]

    def _shifted(self, x: Tensor) -> Tensor:
        return x if self._loc is None else x + self._loc

    def _sample_n(self, n: Any, seed: Any = None) -> Tensor:
        shape = array_ops.concat([[n], array_ops.shape(self._like)], 0)
        return self._shifted(self._scale.matvec(random_ops.random_normal(shape, dtype=self.dtype, seed=seed)))

    def _size(self) -> Any:
        known = self.event_shape[0].value
        return math_ops.cast(array_ops.shape(self._like)[-1], self.dtype) if known is None else float(known)

    def _log_prob(self, x: Tensor) -> Tensor:
        z = self._scale.solve((x if self._loc is None else x - self._loc) + array_ops.zeros_like(self._like))
        return -0.5 * math_ops.reduce_sum(math_ops.square(z), -1) - 0.5 * self._size() * LOG_2PI - self._scale.log_abs_determinant()

    def _entropy(self) -> Tensor:
        spread = array_ops.zeros_like(math_ops.reduce_sum(self._like, -1))
        return 0.5 * self._size() * (1.0 + LOG_2PI) + self._scale.log_abs_determinant() + spread

    def _mean(self) -> Tensor:
        return self._shifted(array_ops.zeros_like(self._like))

    _mode = _mean

    def _variance(self) -> Tensor:
        return self._scale.variances() + array_ops.zeros_like(self._like)

    def _covariance(self) -> Tensor:
        dense = self._scale.to_dense()
        return matmul(dense, dense, adjoint_b=True) + array_ops.expand_dims(array_ops.zeros_like(self._like), -1)


class MultivariateNormalDiag(_MultivariateNormal):
    """The normal distribution of vectors with independent components.

    Args:
        loc: [..., k]; None for 0.
        scale_diag: [..., k], the standard deviations.
        scale_identity_multiplier: [...], added to each of them; alone, the standard deviation of all.

    Raises:
        ValueError: none of them says how many components there are.
    """

    def __init__(self, loc: Any = None, scale_diag: Any = None, scale_identity_multiplier: Any = None, validate_args: bool = False,
                 allow_nan_stats: bool = True, name: str = "MultivariateNormalDiag", parameters: Any = None):
        given = parameters or {k: v for k, v in locals().items() if k not in ("parameters", "self")}
        with graph.get_default_graph().name_scope(name) as scope:
            found = float_parameters(*[v for v in (loc, scale_diag, scale_identity_multiplier) if v is not None])
            rest = iter(found)
            mean, diag, factor = (None if v is None else next(rest) for v in (loc, scale_diag, scale_identity_multiplier))
            if diag is None:
                if mean is None:
                    raise ValueError("Cannot infer `event_shape` unless `loc` or `scale_diag` is specified.")
                ones = array_ops.ones_like(mean)
                diag = ones if factor is None else array_ops.expand_dims(factor, -1) * ones
            elif factor is not None:
                diag = diag + array_ops.expand_dims(factor, -1)
            diag = depends(assert_all(validate_args, lambda: math_ops.not_equal(diag, 0.0), "Scale must be non-singular", diag), diag)
        super().__init__(mean, _Diagonal(diag), validate_args, allow_nan_stats, given, scope)


class MultivariateNormalDiagWithSoftplusScale(MultivariateNormalDiag):
    """MultivariateNormalDiag(loc, softplus(scale_diag))."""

    def __init__(self, loc: Any, scale_diag: Any, validate_args: bool = False, allow_nan_stats: bool = True,
                 name: str = "MultivariateNormalDiagWithSoftplusScale"):
        parameters = dict(locals())
        super().__init__(loc, nn.softplus(scale_diag), None, validate_args, allow_nan_stats, name, parameters)


class MultivariateNormalTriL(_MultivariateNormal):
    """The normal distribution of vectors with covariance scale_tril scale_tril^T.

    Args:
        loc: [..., k]; None for 0.
        scale_tril: [..., k, k], lower triangular; its upper part is not used.  By default the identity.

    Raises:
        ValueError: neither is given.
    """

    def __init__(self, loc: Any = None, scale_tril: Any = None, validate_args: bool = False, allow_nan_stats: bool = True,
                 name: str = "MultivariateNormalTriL", parameters: Any = None):
        given = parameters or {k: v for k, v in locals().items() if k not in ("parameters", "self")}
        if loc is None and scale_tril is None:
            raise ValueError("Must specify one or both of `loc`, `scale_tril`.")
        with graph.get_default_graph().name_scope(name) as scope:
            found = float_parameters(*[v for v in (loc, scale_tril) if v is not None])
            mean = None if loc is None else found[0]
            scale: Any = _Diagonal(array_ops.ones_like(found[0])) if scale_tril is None else _Triangular(found[-1])
            if scale_tril is not None and validate_args:
                diag = scale.diag_part()
                regular = assert_all(True, lambda: math_ops.not_equal(diag, 0.0), "scale_tril must be non-singular", diag)
                scale = _Triangular(depends(regular, found[-1]))
        super().__init__(mean, scale, validate_args, allow_nan_stats, given, scope)


class MultivariateNormalFullCovariance(MultivariateNormalTriL):
    """The normal distribution of vectors with this covariance matrix [..., k, k], symmetric and positive definite."""

    def __init__(self, loc: Any = None, covariance_matrix: Any = None, validate_args: bool = False, allow_nan_stats: bool = True,
                 name: str = "MultivariateNormalFullCovariance"):
        parameters = dict(locals())
        scale = None
        if covariance_matrix is not None:
            c = convert_to_tensor(covariance_matrix)
            symmetric = assert_all(validate_args, lambda: math_ops.equal(c, array_ops.matrix_transpose(c)), "Matrix was not symmetric.", c)
            scale = linalg.cholesky(depends(symmetric, c))
        super().__init__(loc, scale, validate_args, allow_nan_stats, name, parameters)


class _OfConcentration(Distribution):
    """Of proportions of k classes, from `concentration` [..., k]."""

    def _start(self, parameters: dict[str, Any], concentration: Any, validate_args: bool, allow_nan_stats: bool, name: str,
               kind: Any) -> None:
        with graph.get_default_graph().name_scope(name) as scope:
            c, = float_parameters(concentration, names=("concentration",))
            if c.shape.ndims == 0:
                raise ValueError(f"concentration needs an axis of components, got shape {c.shape}")
            self._concentration = depends(assert_all(validate_args, lambda: c > 0.0, "Concentration parameter must be positive.", c), c)
            self._total = math_ops.reduce_sum(self._concentration, -1)
        Distribution.__init__(self, c.dtype, kind, validate_args, allow_nan_stats, parameters, [self._concentration, self._total], scope)

    concentration = property(lambda self: self._concentration)
    total_concentration = property(lambda self: self._total)

    def _batch_shape_tensor(self) -> Any:
        return array_ops.shape(self._total)

    def _batch_shape(self) -> Any:
        return self._total.shape

    def _event_shape_tensor(self) -> Any:
        return array_ops.shape(self._concentration)[-1:]

    def _event_shape(self) -> Any:
        return self._concentration.shape.with_rank_at_least(1)[-1:]

    def _proportions(self, n: Any, seed: Any) -> Tensor:
        parts = sample_gamma([n], self._concentration, seed)
        return parts / math_ops.reduce_sum(parts, -1, keepdims=True)

    def _mean(self) -> Tensor:
        return self._concentration / array_ops.expand_dims(self._total, -1)

    def _scale(self) -> Tensor:
        """The factor of the means that gives their covariance: the off-diagonal part is -(factor mean) (factor mean)^T."""
        raise NotImplementedError

    def _covariance(self) -> Tensor:
        x = self._scale() * self._mean()
        outer = array_ops.expand_dims(x, -1) * array_ops.expand_dims(x, -2)
        return array_ops.matrix_set_diag(-outer, self._variance())


class Dirichlet(_OfConcentration):
    """The Dirichlet distribution of vectors of k positive numbers that sum to 1, density proportional to prod x_i^(c_i - 1).

    Args:
        concentration: [..., k], positive.
    """

    def __init__(self, concentration: Any, validate_args: bool = False, allow_nan_stats: bool = True, name: str = "Dirichlet"):
        self._start(dict(locals()), concentration, validate_args, allow_nan_stats, name, FULLY_REPARAMETERIZED)

    def _sample_n(self, n: Any, seed: Any = None) -> Tensor:
        return self._proportions(n, seed)

    def _log_prob(self, x: Tensor) -> Tensor:
        def inside(x: Tensor) -> Tensor:
            return math_ops.logical_and(x > 0.0, math_ops.abs(math_ops.reduce_sum(x, -1, keepdims=True) - 1.0) < 1e-5)
        x = self._checked(x, inside, "samples must be positive and sum to `1`")
        return math_ops.reduce_sum((self._concentration - 1.0) * math_ops.log(x), -1) - _lbeta(self._concentration)

    def _entropy(self) -> Tensor:
        c, k = self._concentration, math_ops.cast(array_ops.shape(self._concentration)[-1], self.dtype)
        return (_lbeta(c) + (self._total - k) * math_ops.digamma(self._total)
                - math_ops.reduce_sum((c - 1.0) * math_ops.digamma(c), -1))

    def _scale(self) -> Tensor:
        return math_ops.rsqrt(1.0 + array_ops.expand_dims(self._total, -1))

    def _variance(self) -> Tensor:
        mean = self._mean()
        return math_ops.square(self._scale()) * mean * (1.0 - mean)

    def _mode(self) -> Tensor:
        c, k = self._concentration, math_ops.cast(array_ops.shape(self._concentration)[-1], self.dtype)
        mode = (c - 1.0) / (array_ops.expand_dims(self._total, -1) - k)
        defined = math_ops.reduce_all(c > 1.0, -1, keepdims=True)
        return self._where_defined(math_ops.logical_and(defined, math_ops.equal(c, c)), mode, "Mode undefined when any concentration <= 1")


class DirichletMultinomial(_OfConcentration):
    """Counts of `total_count` draws of k classes whose probabilities come from a Dirichlet distribution.

    Args:
        total_count: a whole number as a float, of the batch's shape.
        concentration: [..., k], positive.
    """

    def __init__(self, total_count: Any, concentration: Any, validate_args: bool = False, allow_nan_stats: bool = True,
                 name: str = "DirichletMultinomial"):
        self._start(dict(locals()), concentration, validate_args, allow_nan_stats, name, NOT_REPARAMETERIZED)
        self._total_count = convert_to_tensor(total_count, self.dtype, name="total_count")

    total_count = property(lambda self: self._total_count)

    def _sample_n(self, n: Any, seed: Any = None) -> Tensor:
        p = self._proportions(n, seed)
        return Multinomial(self._total_count, probs=p).sample((), new_seed(seed, "dirichlet_multinomial"))

    def _log_prob(self, counts: Tensor) -> Tensor:
        counts = self._checked(counts, lambda x: math_ops.equal(math_ops.reduce_sum(x, -1), self._total_count),
                               "counts must sum to total_count")
        return (_lbeta(self._concentration + counts) - _lbeta(self._concentration)
                + log_combinations(self._total_count, counts))

    def _mean(self) -> Tensor:
        return array_ops.expand_dims(self._total_count, -1) * super()._mean()

    def _scale(self) -> Tensor:
        """sqrt((total + n) / (total (1 + total))) by which the covariance of the means grows."""
        total, n = (array_ops.expand_dims(x, -1) for x in (self._total, self._total_count))
        return math_ops.sqrt((total + n) / (n * (1.0 + total)))

    def _variance(self) -> Tensor:
        mean = self._mean()
        return math_ops.square(self._scale()) * mean * (array_ops.expand_dims(self._total_count, -1) - mean)


class ExpRelaxedOneHotCategorical(Distribution):
    """The logarithm of a relaxed one-hot vector: log_softmax((logits + Gumbel noise) / temperature) (Maddison et al. 2016)."""

    def __init__(self, temperature: Any, logits: Any = None, probs: Any = None, dtype: Any = None, validate_args: bool = False,
                 allow_nan_stats: bool = True, name: str = "ExpRelaxedOneHotCategorical"):
        self._start(dict(locals()), temperature, logits, probs, validate_args, allow_nan_stats, name)

    def _start(self, parameters: dict[str, Any], temperature: Any, logits: Any, probs: Any, validate_args: bool, allow_nan_stats: bool,
               name: str) -> None:
        with graph.get_default_graph().name_scope(name) as scope:
            self._logits, self._probs = logits_and_probs(logits, probs, validate_args, True)
            t = convert_to_tensor(temperature, self._logits.dtype, name="temperature")
            self._temperature = depends(assert_all(validate_args, lambda: t > 0.0, "temperature must be positive", t), t)
            self._divisor = array_ops.expand_dims(self._temperature, -1)
            self._like = self._logits + array_ops.zeros_like(self._divisor)
        Distribution.__init__(self, self._logits.dtype, FULLY_REPARAMETERIZED, validate_args, allow_nan_stats, parameters,
                              [self._logits, self._probs, self._temperature], scope)

    temperature = property(lambda self: self._temperature)
    logits = property(lambda self: self._logits)
    probs = property(lambda self: self._probs)

    @property
    def event_size(self) -> Tensor:
        """The number of classes: int32 scalar."""
        return array_ops.shape(self._logits)[-1]

    def _batch_shape_tensor(self) -> Any:
        return array_ops.shape(self._like)[:-1]

    def _batch_shape(self) -> Any:
        return self._like.shape[:-1]

    def _event_shape_tensor(self) -> Any:
        return array_ops.shape(self._like)[-1:]

    def _event_shape(self) -> Any:
        return self._like.shape.with_rank_at_least(1)[-1:]

    def _sample_n(self, n: Any, seed: Any = None) -> Tensor:
        shape = array_ops.concat([[n], array_ops.shape(self._like)], 0)
        gumbel = -math_ops.log(-math_ops.log(uniform_inside(shape, self.dtype, seed)))
        return nn.log_softmax((gumbel + self._logits) / self._divisor)

    def _log_prob(self, y: Tensor) -> Tensor:
        k = math_ops.cast(self.event_size, self.dtype)
        log_norm = math_ops.lgamma(k) + (k - 1.0) * math_ops.log(self._temperature)
        return math_ops.reduce_sum(nn.log_softmax(self._logits - y * self._divisor), -1) + log_norm


class RelaxedOneHotCategorical(ExpRelaxedOneHotCategorical):
    """A point of the simplex near a one-hot vector, nearer for a lower temperature (Maddison et al. 2016, Jang et al. 2016).

    Args:
        temperature: positive.
        logits, probs: [..., k]; one of them.
    """

    def __init__(self, temperature: Any, logits: Any = None, probs: Any = None, dtype: Any = None, validate_args: bool = False,
                 allow_nan_stats: bool = True, name: str = "RelaxedOneHotCategorical"):
        self._start(dict(locals()), temperature, logits, probs, validate_args, allow_nan_stats, name)

    def _sample_n(self, n: Any, seed: Any = None) -> Tensor:
        return math_ops.exp(super()._sample_n(n, seed))

    def _log_prob(self, x: Tensor) -> Tensor:
        y = math_ops.log(x)
        return super()._log_prob(y) - math_ops.reduce_sum(y, -1)


# ---------------------------------------------------------------- divergences


@RegisterKL(_MultivariateNormal, _MultivariateNormal)
def _kl_multivariate_normal(a: _MultivariateNormal, b: _MultivariateNormal, name: str | None = None) -> Tensor:
    if isinstance(a.scale, _Diagonal) and isinstance(b.scale, _Diagonal):
        trace = math_ops.reduce_sum(math_ops.square(a.scale.diag / b.scale.diag), -1)
    else:
        lower, inner = b.scale.to_dense(), a.scale.to_dense()
        whole = inner + array_ops.zeros_like(lower)
        trace = math_ops.reduce_sum(math_ops.square(linalg.matrix_triangular_solve(lower + array_ops.zeros_like(inner), whole)), [-2, -1])
    apart = math_ops.reduce_sum(math_ops.square(b.scale.solve(b.mean() - a.mean())), -1)
    return b.scale.log_abs_determinant() - a.scale.log_abs_determinant() + 0.5 * (trace + apart - a._size())


@RegisterKL(Dirichlet, Dirichlet)
def _kl_dirichlet(a: Dirichlet, b: Dirichlet, name: str | None = None) -> Tensor:
    psi = math_ops.digamma(a.concentration) - math_ops.digamma(array_ops.expand_dims(a.total_concentration, -1))
    return (math_ops.reduce_sum((a.concentration - b.concentration) * psi, -1) - _lbeta(a.concentration) + _lbeta(b.concentration))
