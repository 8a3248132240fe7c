"""Distributions made of others: independent ones as one, mixtures, transformed ones."""
from __future__ import annotations

from typing import Any

from .. import array_ops, graph, math_ops, nn, types
from ..graph import Tensor
from ..ops.elementwise import select
from ..ops.opdef import convert_to_tensor
from .bijectors import Bijector, Identity, Sigmoid
from .continuous import Logistic
from .discrete import Categorical
from .distribution import NOT_REPARAMETERIZED, Distribution
from .kullback_leibler import RegisterKL, kl_divergence
from .special import logits_and_probs, new_seed

__all__ = ["Independent", "Mixture", "MixtureSameFamily", "RelaxedBernoulli", "TransformedDistribution"]


class Independent(Distribution):
    """A batch of distributions as one of which an event is all of them.

    Args:
        distribution: the batch.
        reinterpreted_batch_ndims: how many of the last batch axes become axes of the event; all but the first by default.

    Raises:
        ValueError: more than the batch has.
    """

    def __init__(self, distribution: Distribution, reinterpreted_batch_ndims: int | None = None, validate_args: bool = False,
                 name: str | None = None):
        parameters = dict(locals())
        known = distribution.batch_shape.ndims
        if reinterpreted_batch_ndims is None:
            if known is None:
                raise ValueError("reinterpreted_batch_ndims must be given for a distribution of unknown batch rank")
            reinterpreted_batch_ndims = max(0, known - 1)
        if known is not None and reinterpreted_batch_ndims > known:
            raise ValueError(f"reinterpreted_batch_ndims({reinterpreted_batch_ndims}) cannot exceed distribution.batch_ndims({known})")
        self._distribution, self._n = distribution, int(reinterpreted_batch_ndims)
        super().__init__(distribution.dtype, distribution.reparameterization_type, validate_args, distribution.allow_nan_stats, parameters,
                         [], name or "Independent" + distribution.name)

    distribution = property(lambda self: self._distribution)
    reinterpreted_batch_ndims = property(lambda self: self._n)

    def _batch_shape_tensor(self) -> Any:
        shape = self._distribution.batch_shape_tensor()
        return shape[:array_ops.size(shape) - self._n]

    def _batch_shape(self) -> Any:
        shape = self._distribution.batch_shape
        return shape if shape.ndims is None else shape[:shape.ndims - self._n]

    def _event_shape_tensor(self) -> Any:
        shape = self._distribution.batch_shape_tensor()
        return array_ops.concat([shape[array_ops.size(shape) - self._n:], self._distribution.event_shape_tensor()], 0)

    def _event_shape(self) -> Any:
        shape = self._distribution.batch_shape
        return shape if shape.ndims is None else shape[shape.ndims - self._n:].concatenate(self._distribution.event_shape)

    def _summed(self, x: Tensor) -> Tensor:
        return math_ops.reduce_sum(x, list(range(-self._n, 0))) if self._n else x

    def _sample_n(self, n: Any, seed: Any = None) -> Tensor:
        return self._distribution.sample([n], seed)

    def _log_prob(self, x: Tensor) -> Tensor:
        return self._summed(self._distribution.log_prob(x))

    def _entropy(self) -> Tensor:
        return self._summed(self._distribution.entropy())

    def _mean(self) -> Tensor:
        return self._distribution.mean()

    def _variance(self) -> Tensor:
        return self._distribution.variance()

    def _stddev(self) -> Tensor:
        return self._distribution.stddev()

    def _mode(self) -> Tensor:
        return self._distribution.mode()


@RegisterKL(Independent, Independent)
def _kl_independent(a: Independent, b: Independent, name: str | None = None) -> Tensor:
    if a.reinterpreted_batch_ndims != b.reinterpreted_batch_ndims:
        raise NotImplementedError("KL between Independents with different numbers of reinterpreted batch axes is not implemented")
    return a._summed(kl_divergence(a.distribution, b.distribution))


def _expanded(x: Any, event_ndims: int) -> Tensor:
    """`x` with axes of size 1 for the event's."""
    for _ in range(event_ndims):
        x = array_ops.expand_dims(x, -1)
    return x


class Mixture(Distribution):
    """One of several distributions of one batch and event shape, chosen by a Categorical `cat`.

    Raises:
        TypeError: `cat` is no Categorical, a component no distribution, or of another dtype.
        ValueError: no components, another number than classes, or shapes that do not fit.
    """

    def __init__(self, cat: Categorical, components: Any, validate_args: bool = False, allow_nan_stats: bool = True,
                 use_static_graph: bool = False, name: str = "Mixture"):
        parameters = dict(locals())
        if not isinstance(cat, Categorical):
            raise TypeError(f"cat must be a Categorical distribution, but saw: {cat}")
        if not components:
            raise ValueError("components must be a non-empty list or tuple")
        if not all(isinstance(c, Distribution) for c in components):
            raise TypeError(f"all entries in components must be Distribution instances, but saw: {components}")
        dtype = components[0].dtype
        if any(c.dtype is not dtype for c in components):
            raise TypeError(f"All components must have the same dtype, but saw: {[(c.name, c.dtype) for c in components]}")
        batch, event = cat.batch_shape, components[0].event_shape
        for c in components:
            if not (c.batch_shape.is_compatible_with(batch) and c.event_shape.is_compatible_with(event)):
                raise ValueError(f"components do not fit: {c} with batch shape {batch} and event shape {event}")
        known = cat.logits.shape[-1].value
        if known is not None and known != len(components):
            raise ValueError(f"cat.num_classes != len(components): {known} vs. {len(components)}")
        self._cat, self._components = cat, list(components)
        super().__init__(dtype, NOT_REPARAMETERIZED, validate_args, allow_nan_stats, parameters, [], name)

    cat = property(lambda self: self._cat)
    components = property(lambda self: self._components)
    num_components = property(lambda self: len(self._components))

    def _batch_shape_tensor(self) -> Any:
        return self._cat.batch_shape_tensor()

    def _batch_shape(self) -> Any:
        return self._cat.batch_shape

    def _event_shape_tensor(self) -> Any:
        return self._components[0].event_shape_tensor()

    def _event_shape(self) -> Any:
        return self._components[0].event_shape

    def _sample_n(self, n: Any, seed: Any = None) -> Tensor:
        k, ndims = len(self._components), self.event_shape.ndims
        chosen = array_ops.one_hot(self._cat.sample([n], new_seed(seed, "cat")), k, dtype=self.dtype)
        return math_ops.add_n([c.sample([n], new_seed(seed, f"component {i}")) * _expanded(chosen[..., i], ndims)
                               for i, c in enumerate(self._components)])

    def _weights(self) -> list[Tensor]:
        probs = nn.softmax(self._cat.logits)
        return [probs[..., i] for i in range(len(self._components))]

    def _log_prob(self, x: Tensor) -> Tensor:
        log_weights = nn.log_softmax(self._cat.logits)
        parts = [c.log_prob(x) + log_weights[..., i] for i, c in enumerate(self._components)]
        return math_ops.reduce_logsumexp(array_ops.stack(parts, 0), 0)

    def _log_cdf(self, x: Tensor) -> Tensor:
        log_weights = nn.log_softmax(self._cat.logits)
        parts = [c.log_cdf(x) + log_weights[..., i] for i, c in enumerate(self._components)]
        return math_ops.reduce_logsumexp(array_ops.stack(parts, 0), 0)

    def _mean(self) -> Tensor:
        ndims = self.event_shape.ndims
        return math_ops.add_n([c.mean() * _expanded(w, ndims) for c, w in zip(self._components, self._weights())])

    def _variance(self) -> Tensor:
        ndims, mean = self.event_shape.ndims, self._mean()
        return math_ops.add_n([(c.variance() + math_ops.square(c.mean() - mean)) * _expanded(w, ndims)
                               for c, w in zip(self._components, self._weights())])

    def entropy_lower_bound(self, name: str = "entropy_lower_bound") -> Tensor:
        """The mean of the components' entropies, which the entropy is not below."""
        with self._scope(name):
            return math_ops.add_n([c.entropy() * w for c, w in zip(self._components, self._weights())])


class MixtureSameFamily(Distribution):
    """One of k distributions of one kind: the last batch axis of `components_distribution`, chosen by a Categorical.

    Raises:
        ValueError: the numbers of components differ, or the choice's dtype is no integer.
    """

    def __init__(self, mixture_distribution: Categorical, components_distribution: Distribution, validate_args: bool = False,
                 allow_nan_stats: bool = True, name: str = "MixtureSameFamily"):
        parameters = dict(locals())
        if not mixture_distribution.dtype.is_integer:
            raise ValueError(f"`mixture_distribution.dtype` ({mixture_distribution.dtype.name}) is not over integers")
        batch, k = components_distribution.batch_shape, mixture_distribution.logits.shape[-1].value
        if batch.ndims is not None and batch.ndims and k is not None and batch[-1].value not in (None, k):
            raise ValueError(f"`mixture_distribution components` ({k}) does not equal `components_distribution.batch_shape[-1]` "
                             f"({batch[-1].value})")
        self._mixture, self._parts = mixture_distribution, components_distribution
        super().__init__(components_distribution.dtype, NOT_REPARAMETERIZED, validate_args, allow_nan_stats, parameters, [], name)

    mixture_distribution = property(lambda self: self._mixture)
    components_distribution = property(lambda self: self._parts)

    def _batch_shape_tensor(self) -> Any:
        return self._parts.batch_shape_tensor()[:-1]

    def _batch_shape(self) -> Any:
        return self._parts.batch_shape[:-1]

    def _event_shape_tensor(self) -> Any:
        return self._parts.event_shape_tensor()

    def _event_shape(self) -> Any:
        return self._parts.event_shape

    def _sample_n(self, n: Any, seed: Any = None) -> Tensor:
        x = self._parts.sample([n], new_seed(seed, "components"))
        k = array_ops.shape(self._mixture.logits)[-1]
        chosen = array_ops.one_hot(self._mixture.sample([n], new_seed(seed, "mixture")), k, dtype=self.dtype)
        axis = -1 - self.event_shape.ndims
        return math_ops.reduce_sum(x * _expanded(chosen, self.event_shape.ndims), axis)

    def _spread_value(self, x: Tensor) -> Tensor:
        return array_ops.expand_dims(x, -1 - self.event_shape.ndims)

    def _log_prob(self, x: Tensor) -> Tensor:
        parts = self._parts.log_prob(self._spread_value(x))
        return math_ops.reduce_logsumexp(parts + nn.log_softmax(self._mixture.logits), -1)

    def _cdf(self, x: Tensor) -> Tensor:
        return math_ops.reduce_sum(self._parts.cdf(self._spread_value(x)) * nn.softmax(self._mixture.logits), -1)

    def _weighted(self, x: Tensor) -> Tensor:
        ndims = self.event_shape.ndims
        return math_ops.reduce_sum(x * _expanded(nn.softmax(self._mixture.logits), ndims), -1 - ndims)

    def _mean(self) -> Tensor:
        return self._weighted(self._parts.mean())

    def _variance(self) -> Tensor:
        apart = math_ops.square(self._parts.mean() - self._spread_value(self._mean()))
        return self._weighted(self._parts.variance() + apart)


class TransformedDistribution(Distribution):
    """g(X) for a random X and a bijector g.

    Args:
        distribution: of X.
        bijector: g; the identity by default.
        batch_shape, event_shape: not supported.

    Raises:
        NotImplementedError: they are given.
    """

    def __init__(self, distribution: Distribution, bijector: Bijector | None = None, batch_shape: Any = None, event_shape: Any = None,
                 validate_args: bool = False, name: str | None = None):
        parameters = dict(locals())
        if batch_shape is not None or event_shape is not None:
            raise NotImplementedError("TransformedDistribution: batch_shape and event_shape are not supported; give a distribution of that "
                                      "shape")
        self._distribution, self._bijector = distribution, bijector or Identity()
        default = ("" if bijector is None else bijector.name) + distribution.name
        super().__init__(distribution.dtype, distribution.reparameterization_type, validate_args, distribution.allow_nan_stats, parameters,
                         [], name or default.rstrip("/"))

    distribution = property(lambda self: self._distribution)
    bijector = property(lambda self: self._bijector)

    def _batch_shape_tensor(self) -> Any:
        return self._distribution.batch_shape_tensor()

    def _batch_shape(self) -> Any:
        return self._distribution.batch_shape

    def _event_shape_tensor(self) -> Any:
        shape = self._event_shape()
        if shape.is_fully_defined():
            return convert_to_tensor(shape.as_list(), types.int32)
        return self._distribution.event_shape_tensor()

    def _event_shape(self) -> Any:
        return self._bijector.forward_event_shape(self._distribution.event_shape)

    def _ndims(self) -> int:
        return max(self.event_shape.ndims or 0, self._bijector.inverse_min_event_ndims)

    def _sample_n(self, n: Any, seed: Any = None) -> Tensor:
        return self._bijector.forward(self._distribution.sample([n], seed))

    def _log_prob(self, y: Tensor) -> Tensor:
        x = self._bijector.inverse(y)
        found = self._distribution.log_prob(x)
        more = self._ndims() - (self.event_shape.ndims or 0)
        if more:  # a bijector of vectors makes a batch of numbers one event
            found = math_ops.reduce_sum(found, list(range(-more, 0)))
        return found + self._bijector.inverse_log_det_jacobian(y, self._ndims())

    def _scalar(self, what: str) -> None:
        if self.event_shape.ndims or self._bijector.forward_min_event_ndims:
            raise self._missing(what)

    def _increasing(self) -> Tensor:
        """Whether g grows, tried at two points; functions of values are only defined for such."""
        a, b = (self._bijector.forward(convert_to_tensor(v, self.dtype)) for v in (0.25, 0.5))
        return b > a

    def _cdf(self, y: Tensor) -> Tensor:
        self._scalar("cdf")
        x = self._bijector.inverse(y)
        return select(self._increasing(), self._distribution.cdf(x), self._distribution.survival_function(x))

    def _log_cdf(self, y: Tensor) -> Tensor:
        self._scalar("log_cdf")
        x = self._bijector.inverse(y)
        return select(self._increasing(), self._distribution.log_cdf(x), self._distribution.log_survival_function(x))

    def _quantile(self, p: Tensor) -> Tensor:
        self._scalar("quantile")
        return self._bijector.forward(self._distribution.quantile(select(self._increasing(), p, 1.0 - p)))

    def _entropy(self) -> Tensor:
        if not self._bijector.is_constant_jacobian:
            raise self._missing("entropy")
        like = self._distribution.mean()
        return self._distribution.entropy() + self._bijector.forward_log_det_jacobian(like, self._ndims())

    def _mean(self) -> Tensor:
        if not self._bijector.is_constant_jacobian:
            raise self._missing("mean")
        return self._bijector.forward(self._distribution.mean())


class RelaxedBernoulli(TransformedDistribution):
    """A number in (0, 1) near 0 or 1, nearer for a lower temperature: sigmoid((logits + logistic noise) / temperature).

    Args:
        temperature: positive.
        logits, probs: log-odds or probabilities; one of them.
    """

    def __init__(self, temperature: Any, logits: Any = None, probs: Any = None, validate_args: bool = False, allow_nan_stats: bool = True,
                 name: str = "RelaxedBernoulli"):
        given = {k: v for k, v in locals().items() if k not in ("self", "__class__")}
        with graph.get_default_graph().name_scope(name):
            self._logits, self._probs = logits_and_probs(logits, probs, validate_args, False)
            self._temperature = convert_to_tensor(temperature, self._logits.dtype, name="temperature")
            noise = Logistic(self._logits / self._temperature, 1.0 / self._temperature, validate_args, allow_nan_stats)
        super().__init__(noise, Sigmoid(validate_args), validate_args=validate_args, name=name)
        self._parameters = given

    temperature = property(lambda self: self._temperature)
    logits = property(lambda self: self._logits)
    probs = property(lambda self: self._probs)
