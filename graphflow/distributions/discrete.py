"""Distributions of whole numbers and of classes."""
from __future__ import annotations

import math
from typing import Any

import numpy as np

from .. import array_ops, graph, math_ops, nn, random_ops, types
from ..graph import Tensor
from ..ops.elementwise import select
from ..ops.opdef import constant_value, convert_to_tensor
from .distribution import NOT_REPARAMETERIZED, Distribution, ScalarDistribution, float_parameters
from .kullback_leibler import RegisterKL
from .special import assert_all, depends, log_combinations, logits_and_probs, new_seed, uniform_inside

__all__ = ["Bernoulli", "BernoulliWithSigmoidProbs", "Binomial", "Categorical", "Deterministic", "Geometric", "Multinomial",
           "NegativeBinomial", "OneHotCategorical", "Poisson"]


def _sizes(sample_shape: Any) -> Tensor:
    return convert_to_tensor(sample_shape, types.int32)


def _safe_log(p: Tensor) -> Tensor:
    return math_ops.log(select(p > 0.0, p, array_ops.ones_like(p)))


def _xlogx(p: Tensor) -> Tensor:
    """p log p, 0 where p is 0."""
    return p * _safe_log(p)


class _OfEvent(ScalarDistribution):
    """Of an event that has a probability: `logits` (log-odds) or `probs`."""

    _logits: Tensor
    _probs: Tensor
    logits = property(lambda self: self._logits)
    probs = property(lambda self: self._probs)

    def _start(self, parameters: dict[str, Any], logits: Any, probs: Any, dtype: Any, validate_args: bool, allow_nan_stats: bool, name: str,
               more: Any = None) -> None:
        with graph.get_default_graph().name_scope(name) as scope:
            self._logits, self._probs = logits_and_probs(logits, probs, validate_args, False)
            if more is not None:
                more = convert_to_tensor(more, self._probs.dtype, name="total_count")
        self._arguments = (self._probs,) if more is None else (more, self._probs)
        ScalarDistribution.__init__(self, types.as_dtype(dtype or self._probs.dtype), NOT_REPARAMETERIZED, validate_args, allow_nan_stats,
                                    parameters, [self._logits, self._probs], scope)

    @staticmethod
    def _param_shapes(sample_shape: Any) -> dict[str, Tensor]:
        return {"logits": _sizes(sample_shape)}


class Bernoulli(_OfEvent):
    """1 with probability `probs`, else 0.

    Args:
        logits, probs: log-odds or probabilities; one of them.
        dtype: of samples.
    """

    def __init__(self, logits: Any = None, probs: Any = None, dtype: Any = types.int32, validate_args: bool = False,
                 allow_nan_stats: bool = True, name: str = "Bernoulli", parameters: Any = None):
        given = parameters or {k: v for k, v in locals().items() if k != "parameters"}
        self._start(given, logits, probs, dtype, validate_args, allow_nan_stats, name)

    def _sample_n(self, n: Any, seed: Any = None) -> Tensor:
        u = random_ops.random_uniform(self._shape(n), dtype=self._probs.dtype, seed=seed)
        return math_ops.cast(u < self._probs, self.dtype)

    def _log_prob(self, event: Tensor) -> Tensor:
        x = math_ops.cast(event, self._logits.dtype)
        x = self._checked(x, lambda x: math_ops.logical_or(math_ops.equal(x, 0.0), math_ops.equal(x, 1.0)), "event must be 0 or 1")
        logits = self._logits + array_ops.zeros_like(x)
        return -nn.sigmoid_cross_entropy_with_logits(labels=x + array_ops.zeros_like(logits), logits=logits)

    def _entropy(self) -> Tensor:
        return -self._logits * (math_ops.sigmoid(self._logits) - 1.0) + nn.softplus(-self._logits)

    def _mean(self) -> Tensor:
        return array_ops.identity(self._probs)

    def _variance(self) -> Tensor:
        return self._probs * (1.0 - self._probs)

    def _mode(self) -> Tensor:
        return math_ops.cast(self._probs > 0.5, self.dtype)


class BernoulliWithSigmoidProbs(Bernoulli):
    """Bernoulli(probs=sigmoid(logits))."""

    def __init__(self, logits: Any = None, dtype: Any = types.int32, validate_args: bool = False, allow_nan_stats: bool = True,
                 name: str = "BernoulliWithSigmoidProbs"):
        parameters = dict(locals())
        super().__init__(None, math_ops.sigmoid(logits), dtype, validate_args, allow_nan_stats, name, parameters)


class Geometric(_OfEvent):
    """How often an event of probability 1 - probs happens before one of probability `probs`: 0, 1, 2, ..."""

    def __init__(self, logits: Any = None, probs: Any = None, validate_args: bool = False, allow_nan_stats: bool = True,
                 name: str = "Geometric"):
        self._start(dict(locals()), logits, probs, None, validate_args, allow_nan_stats, name)

    def _sample_n(self, n: Any, seed: Any = None) -> Tensor:
        return math_ops.floor(math_ops.log(uniform_inside(self._shape(n), self.dtype, seed)) / math_ops.log1p(-self._probs))

    def _log_prob(self, k: Tensor) -> Tensor:
        k = self._checked(k, lambda k: k >= 0.0, "counts must not be negative")
        probs = self._probs + array_ops.zeros_like(k)
        # 0 log 0 is 0: a sure event is never waited for
        sure = math_ops.logical_and(math_ops.equal(probs, 1.0), math_ops.equal(k, 0.0))
        return k * math_ops.log1p(-select(sure, array_ops.zeros_like(probs), probs)) + math_ops.log(probs)

    def _cdf(self, k: Tensor) -> Tensor:
        return select(k < 0.0, 0.0, -math_ops.expm1((1.0 + math_ops.floor(k)) * math_ops.log1p(-self._probs)))

    def _entropy(self) -> Tensor:
        return -(_xlogx(self._probs) + _xlogx(1.0 - self._probs)) / self._probs

    def _mean(self) -> Tensor:
        return math_ops.exp(-self._logits)

    def _variance(self) -> Tensor:
        return self._mean() / self._probs

    def _mode(self) -> Tensor:
        return array_ops.zeros_like(self._probs)


class Binomial(_OfEvent):
    """How many of `total_count` events of probability `probs` happen."""

    def __init__(self, total_count: Any, logits: Any = None, probs: Any = None, validate_args: bool = False, allow_nan_stats: bool = True,
                 name: str = "Binomial"):
        self._start(dict(locals()), logits, probs, None, validate_args, allow_nan_stats, name, total_count)

    @property
    def total_count(self) -> Tensor:
        """The number of events."""
        return self._arguments[0]

    def _sample_n(self, n: Any, seed: Any = None) -> Tensor:
        most = math_ops.cast(math_ops.reduce_max(self.total_count), types.int32)
        u = random_ops.random_uniform(array_ops.concat([self._shape(n), [most]], 0), dtype=self.dtype, seed=seed)
        counted = math_ops.cast(array_ops.range(most), self.dtype) < array_ops.expand_dims(self._spread(self.total_count), -1)
        return math_ops.reduce_sum(math_ops.cast(math_ops.logical_and(u < array_ops.expand_dims(self._probs, -1), counted), self.dtype), -1)

    def _inside(self, k: Tensor) -> Tensor:
        return self._checked(k, lambda k: math_ops.logical_and(k >= 0.0, k <= self.total_count), "counts must be in [0, total_count]")

    def _log_prob(self, k: Tensor) -> Tensor:
        k, n = self._inside(k), self.total_count
        return (k * math_ops.log(self._probs) + (n - k) * math_ops.log1p(-self._probs)
                + math_ops.lgamma(1.0 + n) - math_ops.lgamma(1.0 + k) - math_ops.lgamma(1.0 + n - k))

    def _cdf(self, k: Tensor) -> Tensor:
        from ..special_math import betainc

        k = math_ops.floor(self._inside(k)) + array_ops.zeros_like(self._spread(self._probs))
        n, p = self.total_count + array_ops.zeros_like(k), self._probs + array_ops.zeros_like(k)
        last = k >= n
        rest = select(last, array_ops.ones_like(k), n - k)
        return select(last, 1.0, betainc(rest, 1.0 + k, 1.0 - p))

    def _mean(self) -> Tensor:
        return self.total_count * self._probs

    def _variance(self) -> Tensor:
        return self._mean() * (1.0 - self._probs)

    def _mode(self) -> Tensor:
        return math_ops.floor((1.0 + self.total_count) * self._probs)


class NegativeBinomial(_OfEvent):
    """How many events of probability `probs` happen before `total_count` of the others."""

    def __init__(self, total_count: Any, logits: Any = None, probs: Any = None, validate_args: bool = False, allow_nan_stats: bool = True,
                 name: str = "NegativeBinomial"):
        self._start(dict(locals()), logits, probs, None, validate_args, allow_nan_stats, name, total_count)

    @property
    def total_count(self) -> Tensor:
        """The number of the other events."""
        return self._arguments[0]

    def _sample_n(self, n: Any, seed: Any = None) -> Tensor:
        rate = random_ops.random_gamma([n], self._spread(self.total_count), math_ops.exp(-self._logits), self.dtype, seed)
        return random_ops.random_poisson(rate, [], self.dtype, new_seed(seed, "NegativeBinom"))

    def _log_prob(self, k: Tensor) -> Tensor:
        k, n = self._checked(k, lambda k: k >= 0.0, "counts must not be negative"), self.total_count
        return (n * math_ops.log_sigmoid(-self._logits) + k * math_ops.log_sigmoid(self._logits)
                - math_ops.lgamma(n) - math_ops.lgamma(1.0 + k) + math_ops.lgamma(n + k))

    def _cdf(self, k: Tensor) -> Tensor:
        from ..special_math import betainc

        k = math_ops.floor(k) + array_ops.zeros_like(self._spread(self._probs))
        return betainc(self.total_count + array_ops.zeros_like(k), 1.0 + k, math_ops.sigmoid(-self._logits) + array_ops.zeros_like(k))

    def _mean(self) -> Tensor:
        return self.total_count * math_ops.exp(self._logits)

    def _variance(self) -> Tensor:
        return self._mean() / math_ops.sigmoid(-self._logits)

    def _mode(self) -> Tensor:
        return math_ops.maximum(0.0, math_ops.floor((self.total_count - 1.0) * math_ops.exp(self._logits)))


class Poisson(ScalarDistribution):
    """The Poisson distribution, mass rate^k exp(-rate) / k!.

    Args:
        rate, log_rate: one of them.
        interpolate_nondiscrete: the formulas also for other than whole numbers; else the mass there is 0.
    """

    def __init__(self, rate: Any = None, log_rate: Any = None, interpolate_nondiscrete: bool = True, validate_args: bool = False,
                 allow_nan_stats: bool = True, name: str = "Poisson"):
        parameters = dict(locals())
        if (rate is None) == (log_rate is None):
            raise ValueError("Must specify exactly one of `rate` and `log_rate`.")
        with graph.get_default_graph().name_scope(name) as scope:
            given, = float_parameters(rate if log_rate is None else log_rate)
            if log_rate is None:
                given = depends(assert_all(validate_args, lambda: given > 0.0, "rate must be positive", given), given, "rate")
            self._rate, self._log_rate = (given, math_ops.log(given)) if log_rate is None else (math_ops.exp(given), given)
        self._interpolate, self._arguments = interpolate_nondiscrete, (self._rate,)
        super().__init__(self._rate.dtype, NOT_REPARAMETERIZED, validate_args, allow_nan_stats, parameters, [self._rate], scope)

    rate = property(lambda self: self._rate)
    log_rate = property(lambda self: self._log_rate)
    interpolate_nondiscrete = property(lambda self: self._interpolate)

    @staticmethod
    def _param_shapes(sample_shape: Any) -> dict[str, Tensor]:
        return {"rate": _sizes(sample_shape)}

    def _sample_n(self, n: Any, seed: Any = None) -> Tensor:
        return random_ops.random_poisson(self._rate, [n], self.dtype, seed)

    def _log_prob(self, k: Tensor) -> Tensor:
        k = self._checked(k, lambda k: k >= 0.0, "counts must not be negative")
        whole = k if self._interpolate else math_ops.maximum(math_ops.floor(k), 0.0)
        found = whole * self._log_rate - math_ops.lgamma(1.0 + whole) - self._rate
        return found if self._interpolate else select(math_ops.equal(k, whole), found, -math.inf)

    def _cdf(self, k: Tensor) -> Tensor:
        from ..special_math import igammac

        whole = k if self._interpolate else math_ops.floor(k)
        return select(k < 0.0, 0.0, igammac(math_ops.maximum(1.0 + whole, 0.5), self._rate))

    def _mean(self) -> Tensor:
        return array_ops.identity(self._rate)

    def _variance(self) -> Tensor:
        return array_ops.identity(self._rate)

    def _mode(self) -> Tensor:
        return math_ops.floor(self._rate)


class Deterministic(ScalarDistribution):
    """`loc`, always; values within atol + rtol |loc| of it count as equal."""

    def __init__(self, loc: Any, atol: Any = None, rtol: Any = None, validate_args: bool = False, allow_nan_stats: bool = True,
                 name: str = "Deterministic"):
        parameters = dict(locals())
        with graph.get_default_graph().name_scope(name) as scope:
            self._loc = array_ops.identity(convert_to_tensor(loc), name="loc")
            self._slack = sum((convert_to_tensor(0 if t is None else t, self._loc.dtype) * factor for t, factor in
                               ((atol, 1), (rtol, math_ops.abs(self._loc)))), array_ops.zeros_like(self._loc))
        self._arguments = (self._loc,)
        super().__init__(self._loc.dtype, NOT_REPARAMETERIZED, validate_args, allow_nan_stats, parameters, [self._loc], scope)

    loc = property(lambda self: self._loc)

    def _sample_n(self, n: Any, seed: Any = None) -> Tensor:
        return self._loc + array_ops.zeros(self._shape(n), self.dtype)

    def _prob(self, x: Tensor) -> Tensor:
        return math_ops.cast(math_ops.abs(x - self._loc) <= self._slack, self.dtype)

    def _cdf(self, x: Tensor) -> Tensor:
        return math_ops.cast(x >= self._loc - self._slack, self.dtype)

    def _mean(self) -> Tensor:
        return array_ops.identity(self._loc)

    _mode = _mean

    def _variance(self) -> Tensor:
        return array_ops.zeros_like(self._loc)

    _entropy = _variance


# ---------------------------------------------------------------- classes


class _OfClasses(Distribution):
    """Of k classes along the last axis of `logits` or `probs`."""

    _logits: Tensor
    _probs: Tensor
    logits = property(lambda self: self._logits)
    probs = property(lambda self: self._probs)

    def _start(self, parameters: dict[str, Any], logits: Any, probs: Any, dtype: Any, validate_args: bool, allow_nan_stats: bool,
               name: str) -> None:
        with graph.get_default_graph().name_scope(name) as scope:
            self._logits, self._probs = logits_and_probs(logits, probs, validate_args, True)
        Distribution.__init__(self, types.as_dtype(dtype or self._logits.dtype), NOT_REPARAMETERIZED, validate_args, allow_nan_stats,
                              parameters, [self._logits, self._probs], scope)

    @property
    def event_size(self) -> Tensor:
        """The number of classes: int32 scalar."""
        return convert_to_tensor(self._classes(), types.int32)

    def _classes(self) -> Any:
        known = self._logits.shape[-1].value if self._logits.shape.ndims is not None else None
        return array_ops.shape(self._logits)[-1] if known is None else known

    def _batch_shape_tensor(self) -> Any:
        return array_ops.shape(self._logits)[:-1]

    def _batch_shape(self) -> Any:
        return self._logits.shape[:-1]

    def _event_shape_tensor(self) -> Any:
        return array_ops.shape(self._logits)[-1:]

    def _event_shape(self) -> Any:
        return self._logits.shape.with_rank_at_least(1)[-1:]

    def _log_probs(self) -> Tensor:
        return nn.log_softmax(self._logits)

    def _draws(self, n: Any, seed: Any) -> Tensor:
        """Class numbers, int64: [n] + batch shape."""
        rows = array_ops.reshape(self._logits, [-1, self._classes()])
        drawn = array_ops.transpose(random_ops.multinomial(rows, n, seed))
        return array_ops.reshape(drawn, array_ops.concat([[n], self.batch_shape_tensor()], 0))

    def _class_entropy(self) -> Tensor:
        return -math_ops.reduce_sum(self._log_probs() * nn.softmax(self._logits), -1)


class Categorical(_OfClasses):
    """A class number, 0 to k - 1.

    Args:
        logits, probs: [..., k], logarithms of unnormalised probabilities, or probabilities; one of them.
        dtype: of samples.
    """

    def __init__(self, logits: Any = None, probs: Any = None, dtype: Any = types.int32, validate_args: bool = False,
                 allow_nan_stats: bool = True, name: str = "Categorical"):
        self._start(dict(locals()), logits, probs, dtype, validate_args, allow_nan_stats, name)

    @staticmethod
    def _param_shapes(sample_shape: Any) -> dict[str, Tensor]:
        return {"logits": _sizes(sample_shape)}

    def _event_shape_tensor(self) -> Any:
        return convert_to_tensor(np.array([], np.int32))

    def _event_shape(self) -> Any:
        return types.TensorShape([])

    def _sample_n(self, n: Any, seed: Any = None) -> Tensor:
        return math_ops.cast(self._draws(n, seed), self.dtype)

    def _value(self, value: Any) -> Tensor:
        return convert_to_tensor(value, name="value")

    def _log_prob(self, k: Tensor) -> Tensor:
        k = self._checked(math_ops.cast(k, types.int32) if k.dtype.is_floating else k,
                          lambda k: math_ops.logical_and(k >= 0, k < self._classes()), "value must be a class number")
        logits = self._logits + array_ops.zeros_like(array_ops.expand_dims(k, -1), dtype=self._logits.dtype)
        k = k + array_ops.zeros(array_ops.shape(logits)[:-1], k.dtype)
        return -nn.sparse_softmax_cross_entropy_with_logits(labels=k, logits=logits)

    def _cdf(self, k: Tensor) -> Tensor:
        below = math_ops.cast(array_ops.range(self._classes()), types.float32) <= array_ops.expand_dims(math_ops.cast(k, types.float32), -1)
        return math_ops.reduce_sum(select(below, self._probs, array_ops.zeros_like(self._probs)), -1)

    def _entropy(self) -> Tensor:
        return self._class_entropy()

    def _mode(self) -> Tensor:
        return math_ops.cast(math_ops.argmax(self._logits, -1), self.dtype)


class OneHotCategorical(_OfClasses):
    """A vector of k with a 1 at the place of a class.

    Args:
        logits, probs: [..., k]; one of them.
        dtype: of samples.
    """

    def __init__(self, logits: Any = None, probs: Any = None, dtype: Any = types.int32, validate_args: bool = False,
                 allow_nan_stats: bool = True, name: str = "OneHotCategorical"):
        self._start(dict(locals()), logits, probs, dtype, validate_args, allow_nan_stats, name)

    @staticmethod
    def _param_shapes(sample_shape: Any) -> dict[str, Tensor]:
        return {"logits": _sizes(sample_shape)}

    def _sample_n(self, n: Any, seed: Any = None) -> Tensor:
        return array_ops.one_hot(self._draws(n, seed), self._classes(), dtype=self.dtype)

    def _log_prob(self, x: Tensor) -> Tensor:
        x = self._checked(math_ops.cast(x, self._logits.dtype), lambda x: math_ops.equal(math_ops.reduce_sum(x, -1), 1.0),
                          "value must be one-hot")
        return math_ops.reduce_sum(x * self._log_probs(), -1)

    def _entropy(self) -> Tensor:
        return self._class_entropy()

    def _mean(self) -> Tensor:
        return array_ops.identity(self._probs)

    def _variance(self) -> Tensor:
        return self._probs * (1.0 - self._probs)

    def _covariance(self) -> Tensor:
        p = self._probs
        return array_ops.matrix_diag(p) - array_ops.expand_dims(p, -1) * array_ops.expand_dims(p, -2)

    def _mode(self) -> Tensor:
        return array_ops.one_hot(math_ops.argmax(self._logits, -1), self._classes(), dtype=self.dtype)


class Multinomial(_OfClasses):
    """How often each of k classes comes in `total_count` draws: a vector that sums to it.

    Args:
        total_count: a whole number as a float, of the batch's shape or one that broadcasts to it.
        logits, probs: [..., k]; one of them.
    """

    def __init__(self, total_count: Any, logits: Any = None, probs: Any = None, validate_args: bool = False, allow_nan_stats: bool = True,
                 name: str = "Multinomial"):
        self._start(dict(locals()), logits, probs, None, validate_args, allow_nan_stats, name)
        with self._scope():
            self._total_count = convert_to_tensor(total_count, self._logits.dtype, name="total_count")

    total_count = property(lambda self: self._total_count)

    def _batch_shape_tensor(self) -> Any:
        return array_ops.broadcast_dynamic_shape(array_ops.shape(self._total_count), array_ops.shape(self._logits)[:-1])

    def _batch_shape(self) -> Any:
        return array_ops.broadcast_static_shape(self._total_count.shape, self._logits.shape[:-1])

    def _count(self) -> Tensor:
        return array_ops.expand_dims(self._total_count, -1)

    def _sample_n(self, n: Any, seed: Any = None) -> Tensor:
        known = constant_value(self._total_count)
        most = math_ops.cast(math_ops.reduce_max(self._total_count), types.int32) if known is None else int(known.max())
        shape = array_ops.concat([[n], self.batch_shape_tensor(), [most]], 0)
        k = self._classes()
        logits = self._logits + array_ops.zeros(array_ops.concat([self.batch_shape_tensor(), [k]], 0), self.dtype)
        rows = array_ops.reshape(logits, [-1, k])
        drawn = array_ops.reshape(random_ops.multinomial(rows, n * most, seed), [-1, n, most])
        drawn = array_ops.reshape(array_ops.transpose(drawn, [1, 0, 2]), shape)
        counted = math_ops.cast(array_ops.range(most), self.dtype) < self._count()
        hot = array_ops.one_hot(drawn, k, dtype=self.dtype) * array_ops.expand_dims(math_ops.cast(counted, self.dtype), -1)
        return math_ops.reduce_sum(hot, -2)

    def _log_prob(self, counts: Tensor) -> Tensor:
        counts = self._checked(counts, lambda x: math_ops.equal(math_ops.reduce_sum(x, -1), self._total_count),
                               "counts must sum to total_count")
        return math_ops.reduce_sum(counts * self._log_probs(), -1) + log_combinations(self._total_count, counts)

    def _mean(self) -> Tensor:
        return self._probs * self._count()

    def _variance(self) -> Tensor:
        return self._mean() * (1.0 - self._probs)

    def _covariance(self) -> Tensor:
        mean = self._mean()
        return array_ops.matrix_diag(mean) - array_ops.expand_dims(mean, -1) * array_ops.expand_dims(self._probs, -2)


# ---------------------------------------------------------------- divergences


@RegisterKL(Bernoulli, Bernoulli)
def _kl_bernoulli(a: Bernoulli, b: Bernoulli, name: str | None = None) -> Tensor:
    # log p and log (1 - p) of both, from the logits
    one, none = -nn.softplus(-a.logits) + nn.softplus(-b.logits), -nn.softplus(a.logits) + nn.softplus(b.logits)
    return math_ops.sigmoid(a.logits) * one + math_ops.sigmoid(-a.logits) * none


def _kl_classes(a: _OfClasses, b: _OfClasses, name: str | None = None) -> Tensor:
    return math_ops.reduce_sum(nn.softmax(a.logits) * (nn.log_softmax(a.logits) - nn.log_softmax(b.logits)), -1)


RegisterKL(Categorical, Categorical)(_kl_classes)
RegisterKL(OneHotCategorical, OneHotCategorical)(_kl_classes)
