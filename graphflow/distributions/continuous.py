"""Distributions of real numbers."""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import array_ops, graph, math_ops, nn, random_ops, types
from ..graph import Tensor
from ..ops.elementwise import select
from ..ops.opdef import convert_to_tensor
from .distribution import FULLY_REPARAMETERIZED, ScalarDistribution, float_parameters
from .kullback_leibler import RegisterKL
from .special import LOG_2PI, assert_all, depends, log_ndtr, ndtr, new_seed, sample_gamma, uniform_inside

__all__ = ["Beta", "BetaWithSoftplusConcentration", "Cauchy", "Chi2", "Chi2WithAbsDf", "Exponential", "ExponentialWithSoftplusRate",
           "Gamma", "GammaWithSoftplusConcentrationRate", "Gumbel", "HalfNormal", "InverseGamma",
           "InverseGammaWithSoftplusConcentrationRate", "Laplace", "LaplaceWithSoftplusScale", "Logistic", "Normal",
           "NormalWithSoftplusScale", "StudentT", "StudentTWithAbsDfSoftplusScale", "Uniform"]

_EULER = 0.57721566490153286


def _sizes(sample_shape: Any) -> Tensor:
    return convert_to_tensor(sample_shape, types.int32)


class _Parameters(ScalarDistribution):
    """Reads its parameters, by name, in the scope of the distribution.

    Args:
        given: {name: value}; each becomes the attribute `_name`.
        positive: names of those that must be above 0.
    """

    reparameterization: Any = FULLY_REPARAMETERIZED

    def _start(self, parameters: dict[str, Any], given: dict[str, Any], positive: tuple[str, ...], validate_args: bool,
               allow_nan_stats: bool, name: str) -> None:
        with graph.get_default_graph().name_scope(name) as scope:
            tensors = float_parameters(*given.values(), names=tuple(given))
            for key, x in zip(given, tensors):
                if key in positive:
                    x = depends(assert_all(validate_args, lambda x=x: x > 0.0, f"{key} must be positive", x), x)  # type: ignore[misc]
                setattr(self, f"_{key}", x)
        self._arguments = tuple(getattr(self, f"_{key}") for key in given)
        ScalarDistribution.__init__(self, self._arguments[-1].dtype, self.reparameterization, validate_args, allow_nan_stats, parameters,
                                    list(self._arguments), scope)


class _LocationScale(_Parameters):
    """loc + scale * z for a standard z: a subclass gives the functions of z."""

    _loc: Tensor
    _scale: Tensor
    loc = property(lambda self: self._loc)
    scale = property(lambda self: self._scale)

    def __init__(self, loc: Any, scale: Any, validate_args: bool = False, allow_nan_stats: bool = True, name: str | None = None,
                 parameters: Any = None):
        self._start(parameters or {"loc": loc, "scale": scale, "validate_args": validate_args, "allow_nan_stats": allow_nan_stats,
                                   "name": name}, {"loc": loc, "scale": scale}, ("scale",), validate_args, allow_nan_stats,
                    name or type(self).__name__)

    @staticmethod
    def _param_shapes(sample_shape: Any) -> dict[str, Tensor]:
        return {"loc": _sizes(sample_shape), "scale": _sizes(sample_shape)}

    def _z(self, x: Tensor) -> Tensor:
        return (x - self._loc) / self._scale

    def _sample_n(self, n: Any, seed: Any = None) -> Tensor:
        return self._loc + self._scale * self._standard(self._shape(n), seed)

    def _standard(self, shape: Any, seed: Any) -> Tensor:
        raise NotImplementedError

    def _mean(self) -> Tensor:
        return self._spread(self._loc)

    _mode = _mean


class Normal(_LocationScale):
    """The normal distribution, density exp(-z^2 / 2) / (scale sqrt(2 pi)) with z = (x - loc) / scale."""

    def _standard(self, shape: Any, seed: Any) -> Tensor:
        return random_ops.random_normal(shape, dtype=self.dtype, seed=seed)

    def _log_prob(self, x: Tensor) -> Tensor:
        return -0.5 * math_ops.square(self._z(x)) - (0.5 * LOG_2PI + math_ops.log(self._scale))

    def _cdf(self, x: Tensor) -> Tensor:
        return ndtr(self._z(x))

    def _log_cdf(self, x: Tensor) -> Tensor:
        return log_ndtr(self._z(x))

    def _survival_function(self, x: Tensor) -> Tensor:
        return ndtr(-self._z(x))

    def _log_survival_function(self, x: Tensor) -> Tensor:
        return log_ndtr(-self._z(x))

    def _quantile(self, p: Tensor) -> Tensor:
        return self._loc + self._scale * math_ops.ndtri(p)

    def _entropy(self) -> Tensor:
        return 0.5 * (LOG_2PI + 1.0) + math_ops.log(self._spread(self._scale))

    def _stddev(self) -> Tensor:
        return self._spread(self._scale)


class NormalWithSoftplusScale(Normal):
    """Normal(loc, softplus(scale))."""

    def __init__(self, loc: Any, scale: Any, validate_args: bool = False, allow_nan_stats: bool = True,
                 name: str = "NormalWithSoftplusScale"):
        parameters = dict(locals())
        super().__init__(loc, nn.softplus(scale), validate_args, allow_nan_stats, name, parameters)


class Laplace(_LocationScale):
    """The Laplace distribution, density exp(-|z|) / (2 scale)."""

    def _standard(self, shape: Any, seed: Any) -> Tensor:
        # in (-1, 1): without -1, where the logarithm is infinite
        least = np.nextafter(np.array(-1.0, self.dtype.np), np.array(0.0, self.dtype.np))
        u = random_ops.random_uniform(shape, float(least), 1.0, self.dtype, seed)
        return -math_ops.sign(u) * math_ops.log1p(-math_ops.abs(u))

    def _log_prob(self, x: Tensor) -> Tensor:
        return -math_ops.abs(self._z(x)) - (math.log(2.0) + math_ops.log(self._scale))

    def _cdf(self, x: Tensor) -> Tensor:
        z = self._z(x)
        return 0.5 - 0.5 * math_ops.sign(z) * math_ops.expm1(-math_ops.abs(z))

    def _log_cdf(self, x: Tensor) -> Tensor:
        return self._log_tail(self._z(x))

    def _log_survival_function(self, x: Tensor) -> Tensor:
        return self._log_tail(-self._z(x))

    @staticmethod
    def _log_tail(z: Tensor) -> Tensor:
        return select(z < 0.0, z - math.log(2.0), math_ops.log1p(-0.5 * math_ops.exp(-math_ops.abs(z))))

    def _survival_function(self, x: Tensor) -> Tensor:
        z = self._z(x)
        return 0.5 + 0.5 * math_ops.sign(z) * math_ops.expm1(-math_ops.abs(z))

    def _quantile(self, p: Tensor) -> Tensor:
        return self._loc - self._scale * math_ops.sign(p - 0.5) * math_ops.log1p(-2.0 * math_ops.abs(p - 0.5))

    def _entropy(self) -> Tensor:
        return math.log(2.0) + 1.0 + math_ops.log(self._spread(self._scale))

    def _stddev(self) -> Tensor:
        return math.sqrt(2.0) * self._spread(self._scale)


class LaplaceWithSoftplusScale(Laplace):
    """Laplace(loc, softplus(scale))."""

    def __init__(self, loc: Any, scale: Any, validate_args: bool = False, allow_nan_stats: bool = True,
                 name: str = "LaplaceWithSoftplusScale"):
        parameters = dict(locals())
        super().__init__(loc, nn.softplus(scale), validate_args, allow_nan_stats, name, parameters)


class Logistic(_LocationScale):
    """The logistic distribution: the distribution function is sigmoid(z)."""

    def _standard(self, shape: Any, seed: Any) -> Tensor:
        u = uniform_inside(shape, self.dtype, seed)
        return math_ops.log(u) - math_ops.log1p(-u)

    def _log_prob(self, x: Tensor) -> Tensor:
        z = self._z(x)
        return -z - 2.0 * nn.softplus(-z) - math_ops.log(self._scale)

    def _cdf(self, x: Tensor) -> Tensor:
        return math_ops.sigmoid(self._z(x))

    def _log_cdf(self, x: Tensor) -> Tensor:
        return -nn.softplus(-self._z(x))

    def _survival_function(self, x: Tensor) -> Tensor:
        return math_ops.sigmoid(-self._z(x))

    def _log_survival_function(self, x: Tensor) -> Tensor:
        return -nn.softplus(self._z(x))

    def _quantile(self, p: Tensor) -> Tensor:
        return self._loc + self._scale * (math_ops.log(p) - math_ops.log1p(-p))

    def _entropy(self) -> Tensor:
        return 2.0 + math_ops.log(self._spread(self._scale))

    def _stddev(self) -> Tensor:
        return self._spread(self._scale) * (math.pi / math.sqrt(3.0))


class Gumbel(_LocationScale):
    """The Gumbel distribution of maxima: the distribution function is exp(-exp(-z))."""

    def _standard(self, shape: Any, seed: Any) -> Tensor:
        return -math_ops.log(-math_ops.log(uniform_inside(shape, self.dtype, seed)))

    def _log_prob(self, x: Tensor) -> Tensor:
        z = self._z(x)
        return -(z + math_ops.exp(-z)) - math_ops.log(self._scale)

    def _log_cdf(self, x: Tensor) -> Tensor:
        return -math_ops.exp(-self._z(x))

    def _cdf(self, x: Tensor) -> Tensor:
        return math_ops.exp(-math_ops.exp(-self._z(x)))

    def _quantile(self, p: Tensor) -> Tensor:
        return self._loc - self._scale * math_ops.log(-math_ops.log(p))

    def _entropy(self) -> Tensor:
        return 1.0 + _EULER + math_ops.log(self._spread(self._scale))

    def _mean(self) -> Tensor:
        return self._spread(self._loc) + self._scale * _EULER

    def _mode(self) -> Tensor:
        return self._spread(self._loc)

    def _stddev(self) -> Tensor:
        return self._spread(self._scale) * (math.pi / math.sqrt(6.0))


class Cauchy(_LocationScale):
    """The Cauchy distribution, density 1 / (pi scale (1 + z^2)); it has no mean."""

    def _standard(self, shape: Any, seed: Any) -> Tensor:
        u = random_ops.random_uniform(shape, dtype=self.dtype, seed=seed)
        return math_ops.tan(math.pi * (u - 0.5))

    def _log_prob(self, x: Tensor) -> Tensor:
        return -math_ops.log1p(math_ops.square(self._z(x))) - (math.log(math.pi) + math_ops.log(self._scale))

    def _cdf(self, x: Tensor) -> Tensor:
        return math_ops.atan(self._z(x)) / math.pi + 0.5

    def _log_cdf(self, x: Tensor) -> Tensor:
        return math_ops.log1p(2.0 / math.pi * math_ops.atan(self._z(x))) - math.log(2.0)

    def _quantile(self, p: Tensor) -> Tensor:
        return self._loc + self._scale * math_ops.tan(math.pi * (p - 0.5))

    def _entropy(self) -> Tensor:
        return math.log(4.0 * math.pi) + math_ops.log(self._spread(self._scale))

    def _mode(self) -> Tensor:
        return self._spread(self._loc)

    def _undefined(self, what: str) -> Tensor:
        nothing = array_ops.zeros_like(self._spread(self._loc))
        return self._where_defined(nothing > 1.0, nothing, f"{what} is undefined for Cauchy distribution.")

    def _mean(self) -> Tensor:
        return self._undefined("mean")

    def _stddev(self) -> Tensor:
        return self._undefined("standard deviation")


class HalfNormal(_Parameters):
    """|x| for a normal x of mean 0 and standard deviation `scale`."""

    _scale: Tensor
    scale = property(lambda self: self._scale)

    def __init__(self, scale: Any, validate_args: bool = False, allow_nan_stats: bool = True, name: str = "HalfNormal"):
        self._start(dict(locals()), {"scale": scale}, ("scale",), validate_args, allow_nan_stats, name)

    @staticmethod
    def _param_shapes(sample_shape: Any) -> dict[str, Tensor]:
        return {"scale": _sizes(sample_shape)}

    def _sample_n(self, n: Any, seed: Any = None) -> Tensor:
        return math_ops.abs(self._scale * random_ops.random_normal(self._shape(n), dtype=self.dtype, seed=seed))

    def _prob(self, x: Tensor) -> Tensor:
        density = math.sqrt(2.0 / math.pi) / self._scale * math_ops.exp(-0.5 * math_ops.square(x / self._scale))
        return select(x >= 0.0, density, 0.0)

    def _cdf(self, x: Tensor) -> Tensor:
        return math_ops.erf(math_ops.maximum(x, 0.0) / self._scale * math.sqrt(0.5))

    def _quantile(self, p: Tensor) -> Tensor:
        return math.sqrt(2.0) * self._scale * math_ops.erfinv(p)

    def _entropy(self) -> Tensor:
        return 0.5 * math.log(math.pi / 2.0) + math_ops.log(self._scale) + 0.5

    def _mean(self) -> Tensor:
        return self._scale * math.sqrt(2.0 / math.pi)

    def _mode(self) -> Tensor:
        return array_ops.zeros_like(self._scale)

    def _variance(self) -> Tensor:
        return math_ops.square(self._scale) * (1.0 - 2.0 / math.pi)


class Uniform(_Parameters):
    """The same density in [low, high), 0 outside."""

    _low: Tensor
    _high: Tensor
    low = property(lambda self: self._low)
    high = property(lambda self: self._high)

    def __init__(self, low: Any = 0.0, high: Any = 1.0, validate_args: bool = False, allow_nan_stats: bool = True, name: str = "Uniform"):
        self._start(dict(locals()), {"low": low, "high": high}, (), validate_args, allow_nan_stats, name)
        self._high = depends(assert_all(validate_args, lambda: self._low < self._high, "uniform not defined when low >= high."), self._high)

    @staticmethod
    def _param_shapes(sample_shape: Any) -> dict[str, Tensor]:
        return {"low": _sizes(sample_shape), "high": _sizes(sample_shape)}

    def range(self, name: str = "range") -> Tensor:
        """high - low."""
        with self._scope(name):
            return self._high - self._low

    def _sample_n(self, n: Any, seed: Any = None) -> Tensor:
        return self._low + self.range() * random_ops.random_uniform(self._shape(n), dtype=self.dtype, seed=seed)

    def _prob(self, x: Tensor) -> Tensor:
        x = x + array_ops.zeros_like(self.range())
        outside = math_ops.logical_or(x < self._low, x >= self._high)
        return select(math_ops.is_nan(x), x, select(outside, 0.0, array_ops.ones_like(x) / self.range()))

    def _cdf(self, x: Tensor) -> Tensor:
        return math_ops.minimum(math_ops.maximum((x - self._low) / self.range(), 0.0), 1.0)

    def _quantile(self, p: Tensor) -> Tensor:
        return self._low + p * self.range()

    def _entropy(self) -> Tensor:
        return math_ops.log(self.range())

    def _mean(self) -> Tensor:
        return (self._low + self._high) / 2.0

    def _variance(self) -> Tensor:
        return math_ops.square(self.range()) / 12.0


class StudentT(_Parameters):
    """Student's distribution with `df` degrees of freedom, shifted by `loc` and scaled by `scale`."""

    _df: Tensor
    _loc: Tensor
    _scale: Tensor
    df = property(lambda self: self._df)
    loc = property(lambda self: self._loc)
    scale = property(lambda self: self._scale)

    def __init__(self, df: Any, loc: Any, scale: Any, validate_args: bool = False, allow_nan_stats: bool = True, name: str = "StudentT",
                 parameters: Any = None):
        self._start(parameters or {k: v for k, v in locals().items() if k != "parameters"}, {"df": df, "loc": loc, "scale": scale}, ("df",),
                    validate_args, allow_nan_stats, name)

    @staticmethod
    def _param_shapes(sample_shape: Any) -> dict[str, Tensor]:
        return {key: _sizes(sample_shape) for key in ("df", "loc", "scale")}

    def _sample_n(self, n: Any, seed: Any = None) -> Tensor:
        normal = random_ops.random_normal(self._shape(n), dtype=self.dtype, seed=seed)
        chi2 = 2.0 * sample_gamma([n], 0.5 * self._spread(self._df), new_seed(seed, "student_t"))
        return self._loc + self._scale * normal * math_ops.rsqrt(chi2 / self._df)

    def _y(self, x: Tensor) -> Tensor:
        return (x - self._loc) / self._scale

    def _log_prob(self, x: Tensor) -> Tensor:
        y, df = self._y(x), self._df
        norm = (math_ops.log(math_ops.abs(self._scale)) + 0.5 * math_ops.log(df) + 0.5 * math.log(math.pi) + math_ops.lgamma(0.5 * df)
                - math_ops.lgamma(0.5 * (df + 1.0)))
        return -0.5 * (df + 1.0) * math_ops.log1p(math_ops.square(y) / df) - norm

    def _cdf(self, x: Tensor) -> Tensor:
        from ..special_math import betainc

        y = (x - self._loc) / math_ops.abs(self._scale)
        df = self._df + array_ops.zeros_like(y)
        tail = 0.5 * betainc(0.5 * df, array_ops.fill(array_ops.shape(df), convert_to_tensor(0.5, df.dtype)), df / (y * y + df))
        return select(y < 0.0, tail, 1.0 - tail)

    def _entropy(self) -> Tensor:
        df = self._spread(self._df)
        beta = math_ops.lgamma(0.5 * df) + 0.5 * math.log(math.pi) - math_ops.lgamma(0.5 * (df + 1.0))
        psi = math_ops.digamma(0.5 * (df + 1.0)) - math_ops.digamma(0.5 * df)
        return math_ops.log(math_ops.abs(self._scale)) + 0.5 * math_ops.log(df) + beta + 0.5 * (df + 1.0) * psi

    def _mean(self) -> Tensor:
        return self._where_defined(self._spread(self._df) > 1.0, self._spread(self._loc), "mean not defined for components of df <= 1")

    def _variance(self) -> Tensor:
        df = self._spread(self._df)
        safe = select(df > 2.0, df, array_ops.ones_like(df) * 3.0)
        found = select(df > 2.0, math_ops.square(self._scale) * safe / (safe - 2.0), float("inf"))
        return self._where_defined(df > 1.0, found, "variance not defined for components of df <= 1")

    def _mode(self) -> Tensor:
        return self._spread(self._loc)


class StudentTWithAbsDfSoftplusScale(StudentT):
    """StudentT(floor(|df|), loc, softplus(scale))."""

    def __init__(self, df: Any, loc: Any, scale: Any, validate_args: bool = False, allow_nan_stats: bool = True,
                 name: str = "StudentTWithAbsDfSoftplusScale"):
        parameters = dict(locals())
        super().__init__(math_ops.floor(math_ops.abs(df)), loc, nn.softplus(scale), validate_args, allow_nan_stats, name, parameters)


class _ConcentrationRate(_Parameters):
    """Two positive parameters, `concentration` and `rate`."""

    _concentration: Tensor
    _rate: Tensor
    concentration = property(lambda self: self._concentration)
    rate = property(lambda self: self._rate)

    def __init__(self, concentration: Any, rate: Any, validate_args: bool = False, allow_nan_stats: bool = True, name: str | None = None,
                 parameters: Any = None):
        self._start(parameters or {k: v for k, v in locals().items() if k != "parameters"}, {"concentration": concentration, "rate": rate},
                    ("concentration", "rate"), validate_args, allow_nan_stats, name or type(self).__name__)

    @staticmethod
    def _param_shapes(sample_shape: Any) -> dict[str, Tensor]:
        return {"concentration": _sizes(sample_shape), "rate": _sizes(sample_shape)}

    def _standard_gamma(self, n: Any, seed: Any) -> Tensor:
        """Samples of Gamma(concentration, 1), never 0."""
        return math_ops.maximum(sample_gamma([n], self._spread(self._concentration), seed), float(np.finfo(self.dtype.np).tiny))

    def _positive(self, x: Tensor) -> Tensor:
        return self._checked(x, lambda x: x > 0.0, "Sample must be positive.")


class Gamma(_ConcentrationRate):
    """The gamma distribution, density proportional to x^(concentration - 1) exp(-rate x) for x > 0."""

    def _sample_n(self, n: Any, seed: Any = None) -> Tensor:
        return self._standard_gamma(n, seed) / self._rate

    def _log_prob(self, x: Tensor) -> Tensor:
        x, c = self._positive(x), self._concentration
        return (c - 1.0) * math_ops.log(x) - self._rate * x - (math_ops.lgamma(c) - c * math_ops.log(self._rate))

    def _cdf(self, x: Tensor) -> Tensor:
        from ..special_math import igamma

        return igamma(self._concentration, self._rate * self._positive(x))

    def _entropy(self) -> Tensor:
        c = self._concentration
        return c - math_ops.log(self._rate) + math_ops.lgamma(c) + (1.0 - c) * math_ops.digamma(c)

    def _mean(self) -> Tensor:
        return self._concentration / self._rate

    def _variance(self) -> Tensor:
        return self._concentration / math_ops.square(self._rate)

    def _mode(self) -> Tensor:
        mode = (self._concentration - 1.0) / self._rate
        return self._where_defined(self._spread(self._concentration) > 1.0, mode, "mode not defined when any concentration <= 1")


class GammaWithSoftplusConcentrationRate(Gamma):
    """Gamma(softplus(concentration), softplus(rate))."""

    def __init__(self, concentration: Any, rate: Any, validate_args: bool = False, allow_nan_stats: bool = True,
                 name: str = "GammaWithSoftplusConcentrationRate"):
        parameters = dict(locals())
        super().__init__(nn.softplus(concentration), nn.softplus(rate), validate_args, allow_nan_stats, name, parameters)


class InverseGamma(_ConcentrationRate):
    """1 / x for a gamma-distributed x."""

    def _sample_n(self, n: Any, seed: Any = None) -> Tensor:
        return self._rate / self._standard_gamma(n, seed)

    def _log_prob(self, x: Tensor) -> Tensor:
        x, c = self._positive(x), self._concentration
        return -(1.0 + c) * math_ops.log(x) - self._rate / x - (math_ops.lgamma(c) - c * math_ops.log(self._rate))

    def _cdf(self, x: Tensor) -> Tensor:
        from ..special_math import igammac

        return igammac(self._concentration, self._rate / self._positive(x))

    def _entropy(self) -> Tensor:
        c = self._concentration
        return c + math_ops.log(self._rate) + math_ops.lgamma(c) - (1.0 + c) * math_ops.digamma(c)

    def _mean(self) -> Tensor:
        return self._where_defined(self._spread(self._concentration) > 1.0, self._rate / (self._concentration - 1.0),
                                   "mean undefined when any concentration <= 1")

    def _variance(self) -> Tensor:
        c = self._concentration
        found = math_ops.square(self._rate) / math_ops.square(c - 1.0) / (c - 2.0)
        return self._where_defined(self._spread(c) > 2.0, found, "variance undefined when any concentration <= 2")

    def _mode(self) -> Tensor:
        return self._rate / (1.0 + self._concentration)


class InverseGammaWithSoftplusConcentrationRate(InverseGamma):
    """InverseGamma(softplus(concentration), softplus(rate))."""

    def __init__(self, concentration: Any, rate: Any, validate_args: bool = False, allow_nan_stats: bool = True,
                 name: str = "InverseGammaWithSoftplusConcentrationRate"):
        parameters = dict(locals())
        super().__init__(nn.softplus(concentration), nn.softplus(rate), validate_args, allow_nan_stats, name, parameters)


class Exponential(Gamma):
    """The exponential distribution, density rate exp(-rate x) for x >= 0."""

    def __init__(self, rate: Any, validate_args: bool = False, allow_nan_stats: bool = True, name: str = "Exponential",
                 parameters: Any = None):
        given = parameters or {k: v for k, v in locals().items() if k not in ("parameters", "self")}
        rate = convert_to_tensor(rate, name="rate")
        super().__init__(array_ops.ones_like(rate), rate, validate_args, allow_nan_stats, name, given)

    @staticmethod
    def _param_shapes(sample_shape: Any) -> dict[str, Tensor]:
        return {"rate": _sizes(sample_shape)}

    def _sample_n(self, n: Any, seed: Any = None) -> Tensor:
        return -math_ops.log(uniform_inside(self._shape(n), self.dtype, seed)) / self._rate

    def _log_prob(self, x: Tensor) -> Tensor:
        return math_ops.log(self._rate) - self._rate * self._checked(x, lambda x: x >= 0.0, "Sample must not be negative.")

    def _cdf(self, x: Tensor) -> Tensor:
        return -math_ops.expm1(-self._rate * self._checked(x, lambda x: x >= 0.0, "Sample must not be negative."))

    def _log_survival_function(self, x: Tensor) -> Tensor:
        return -self._rate * x

    def _quantile(self, p: Tensor) -> Tensor:
        return -math_ops.log1p(-p) / self._rate

    def _entropy(self) -> Tensor:
        return 1.0 - math_ops.log(self._rate)

    def _mode(self) -> Tensor:
        return array_ops.zeros_like(self._rate)


class ExponentialWithSoftplusRate(Exponential):
    """Exponential(softplus(rate))."""

    def __init__(self, rate: Any, validate_args: bool = False, allow_nan_stats: bool = True, name: str = "ExponentialWithSoftplusRate"):
        parameters = dict(locals())
        super().__init__(nn.softplus(rate), validate_args, allow_nan_stats, name, parameters)


class Chi2(Gamma):
    """The sum of the squares of `df` standard normal numbers."""

    def __init__(self, df: Any, validate_args: bool = False, allow_nan_stats: bool = True, name: str = "Chi2", parameters: Any = None):
        given = parameters or {k: v for k, v in locals().items() if k not in ("parameters", "self")}
        self._df, = float_parameters(df, names=("df",))
        half = convert_to_tensor(0.5, self._df.dtype)
        super().__init__(half * self._df, half, validate_args, allow_nan_stats, name, given)

    df = property(lambda self: self._df)

    @staticmethod
    def _param_shapes(sample_shape: Any) -> dict[str, Tensor]:
        return {"df": _sizes(sample_shape)}


class Chi2WithAbsDf(Chi2):
    """Chi2(floor(|df|))."""

    def __init__(self, df: Any, validate_args: bool = False, allow_nan_stats: bool = True, name: str = "Chi2WithAbsDf"):
        parameters = dict(locals())
        super().__init__(math_ops.floor(math_ops.abs(df)), validate_args, allow_nan_stats, name, parameters)


class Beta(_Parameters):
    """The beta distribution, density proportional to x^(concentration1 - 1) (1 - x)^(concentration0 - 1) in (0, 1)."""

    _concentration1: Tensor
    _concentration0: Tensor
    concentration1 = property(lambda self: self._concentration1)
    concentration0 = property(lambda self: self._concentration0)

    def __init__(self, concentration1: Any = None, concentration0: Any = None, validate_args: bool = False, allow_nan_stats: bool = True,
                 name: str = "Beta", parameters: Any = None):
        given = parameters or {k: v for k, v in locals().items() if k not in ("parameters", "self")}
        self._start(given, {"concentration1": concentration1, "concentration0": concentration0}, ("concentration1", "concentration0"),
                    validate_args, allow_nan_stats, name)

    @staticmethod
    def _param_shapes(sample_shape: Any) -> dict[str, Tensor]:
        return {"concentration1": _sizes(sample_shape), "concentration0": _sizes(sample_shape)}

    @property
    def total_concentration(self) -> Tensor:
        """concentration1 + concentration0."""
        return self._concentration1 + self._concentration0

    def _sample_n(self, n: Any, seed: Any = None) -> Tensor:
        one = sample_gamma([n], self._spread(self._concentration1), seed)
        return one / (one + sample_gamma([n], self._spread(self._concentration0), new_seed(seed, "beta")))

    def _inside(self, x: Tensor) -> Tensor:
        return self._checked(x, lambda x: math_ops.logical_and(x > 0.0, x < 1.0), "sample must be positive and less than `1`")

    def _log_beta(self) -> Tensor:
        return math_ops.lgamma(self._concentration1) + math_ops.lgamma(self._concentration0) - math_ops.lgamma(self.total_concentration)

    def _log_prob(self, x: Tensor) -> Tensor:
        x = self._inside(x)
        return ((self._concentration1 - 1.0) * math_ops.log(x) + (self._concentration0 - 1.0) * math_ops.log1p(-x)) - self._log_beta()

    def _cdf(self, x: Tensor) -> Tensor:
        from ..special_math import betainc

        return betainc(self._concentration1, self._concentration0, self._inside(x))

    def _entropy(self) -> Tensor:
        a, b, total = self._concentration1, self._concentration0, self.total_concentration
        return (self._log_beta() - (a - 1.0) * math_ops.digamma(a) - (b - 1.0) * math_ops.digamma(b)
                + (total - 2.0) * math_ops.digamma(total))

    def _mean(self) -> Tensor:
        return self._concentration1 / self.total_concentration

    def _variance(self) -> Tensor:
        mean = self._mean()
        return mean * (1.0 - mean) / (1.0 + self.total_concentration)

    def _mode(self) -> Tensor:
        mode = (self._concentration1 - 1.0) / (self.total_concentration - 2.0)
        defined = math_ops.logical_and(self._spread(self._concentration1) > 1.0, self._spread(self._concentration0) > 1.0)
        return self._where_defined(defined, mode, "Mode undefined for concentration1 <= 1 or concentration0 <= 1.")


class BetaWithSoftplusConcentration(Beta):
    """Beta(softplus(concentration1), softplus(concentration0))."""

    def __init__(self, concentration1: Any, concentration0: Any, validate_args: bool = False, allow_nan_stats: bool = True,
                 name: str = "BetaWithSoftplusConcentration"):
        parameters = dict(locals())
        super().__init__(nn.softplus(concentration1), nn.softplus(concentration0), validate_args, allow_nan_stats, name, parameters)


# ---------------------------------------------------------------- divergences


@RegisterKL(Normal, Normal)
def _kl_normal(a: Normal, b: Normal, name: str | None = None) -> Tensor:
    ratio = math_ops.square(a.scale / b.scale)
    return math_ops.square(a.loc - b.loc) / (2.0 * math_ops.square(b.scale)) + 0.5 * (ratio - 1.0 - math_ops.log(ratio))


@RegisterKL(HalfNormal, HalfNormal)
def _kl_half_normal(a: HalfNormal, b: HalfNormal, name: str | None = None) -> Tensor:
    return math_ops.log(b.scale) - math_ops.log(a.scale) + (math_ops.square(a.scale) - math_ops.square(b.scale)) / (
        2.0 * math_ops.square(b.scale))


@RegisterKL(Gamma, Gamma)
def _kl_gamma(a: Gamma, b: Gamma, name: str | None = None) -> Tensor:
    return ((a.concentration - b.concentration) * math_ops.digamma(a.concentration) + math_ops.lgamma(b.concentration)
            - math_ops.lgamma(a.concentration) + b.concentration * math_ops.log(a.rate) - b.concentration * math_ops.log(b.rate)
            + a.concentration * (b.rate / a.rate - 1.0))


@RegisterKL(Beta, Beta)
def _kl_beta(a: Beta, b: Beta, name: str | None = None) -> Tensor:
    da, db = a.concentration1 - b.concentration1, a.concentration0 - b.concentration0
    return (b._log_beta() - a._log_beta() + da * math_ops.digamma(a.concentration1) + db * math_ops.digamma(a.concentration0)
            - (da + db) * math_ops.digamma(a.total_concentration))


@RegisterKL(Gumbel, Gumbel)
def _kl_gumbel(a: Gumbel, b: Gumbel, name: str | None = None) -> Tensor:
    ratio = a.scale / b.scale
    return (math_ops.log(b.scale) - math_ops.log(a.scale) + _EULER * (ratio - 1.0)
            + math_ops.expm1((b.loc - a.loc) / b.scale + math_ops.lgamma(ratio + 1.0)) + (a.loc - b.loc) / b.scale)


