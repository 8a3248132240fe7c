"""`tf.distributions.Distribution`: batches of random variables.

A sample has shape sample_shape + batch_shape + event_shape.  A subclass gives `_log_prob`, `_sample_n` and their kin, each
for a value as a tensor; the public functions here convert arguments, open name scopes and derive what is missing (`prob` from
`log_prob`, `survival_function` from `cdf`, ...).
"""
from __future__ import annotations

import math
from contextlib import contextmanager
from typing import Any, Callable, Iterator

import numpy as np

from .. import array_ops, graph, math_ops, types
from ..graph import Tensor
from ..ops.elementwise import select
from ..ops.opdef import constant_value, convert_to_tensor
from .special import assert_all, depends


class ReparameterizationType:
    """Whether gradients pass through samples to the parameters."""

    def __init__(self, rep_type: str):
        self._rep_type = rep_type

    def __repr__(self) -> str:
        return f"<Reparameterization Type: {self._rep_type}>"

    def __eq__(self, other: object) -> bool:
        return self is other

    def __hash__(self) -> int:
        return id(self)


FULLY_REPARAMETERIZED = ReparameterizationType("FULLY_REPARAMETERIZED")
NOT_REPARAMETERIZED = ReparameterizationType("NOT_REPARAMETERIZED")


def _either(*attempts: Callable[[], Any]) -> Any:
    """The result of the first attempt that is implemented; else the first one's NotImplementedError."""
    missing = None
    for attempt in attempts:
        try:
            return attempt()
        except NotImplementedError as e:
            missing = missing or e
    raise missing  # type: ignore[misc]


class Distribution:
    """Base class.

    Args:
        dtype: of samples.
        reparameterization_type: FULLY_REPARAMETERIZED or NOT_REPARAMETERIZED.
        validate_args: check parameters and values when they run.
        allow_nan_stats: an undefined mean, mode, ... is NaN; else it is an error when it runs.
        parameters: the constructor's arguments, for `copy`.
        graph_parents: tensors that the distribution is made of.
        name: of the scope of its ops.
    """

    def __init__(self, dtype: Any, reparameterization_type: Any, validate_args: bool, allow_nan_stats: bool, parameters: Any = None,
                 graph_parents: Any = None, name: str | None = None):
        for i, t in enumerate(graph_parents or ()):
            if not isinstance(t, Tensor) and getattr(t, "handle", None) is None:
                raise ValueError(f"Graph parent item {i} is not a Tensor; {t}.")
        if not name or not name.endswith("/"):
            with graph.get_default_graph().name_scope(name or type(self).__name__) as name:
                pass
        self._dtype, self._reparameterization_type = dtype, reparameterization_type
        self._allow_nan_stats, self._validate_args = allow_nan_stats, validate_args
        self._parameters = dict(parameters or {})
        self._graph_parents, self._name = list(graph_parents or ()), name

    name = property(lambda self: self._name)
    dtype = property(lambda self: self._dtype)
    reparameterization_type = property(lambda self: self._reparameterization_type)
    allow_nan_stats = property(lambda self: self._allow_nan_stats)
    validate_args = property(lambda self: self._validate_args)

    @property
    def parameters(self) -> dict[str, Any]:
        """The constructor's arguments."""
        return {k: v for k, v in self._parameters.items() if not k.startswith("__") and k != "self"}

    def copy(self, **override_parameters_kwargs: Any) -> Any:
        """One of the same kind with some other arguments."""
        return type(self)(**{**self.parameters, **override_parameters_kwargs})

    @classmethod
    def param_shapes(cls, sample_shape: Any, name: str = "DistributionParamShapes") -> dict[str, Tensor]:
        """{parameter: the shape it needs} for one sample to have `sample_shape`."""
        with graph.get_default_graph().name_scope(name):
            return cls._param_shapes(sample_shape)

    @classmethod
    def param_static_shapes(cls, sample_shape: Any) -> dict[str, types.TensorShape]:
        """`param_shapes` as TensorShapes.  Raises ValueError for a shape that is not known."""
        if isinstance(sample_shape, types.TensorShape):
            if not sample_shape.is_fully_defined():
                raise ValueError("TensorShape sample_shape must be fully defined")
            sample_shape = sample_shape.as_list()
        found = {}
        for key, shape in cls.param_shapes(sample_shape).items():
            value = constant_value(shape)
            if value is None:
                raise ValueError("sample_shape must be a fully-defined TensorShape or list/tuple")
            found[key] = types.TensorShape([int(n) for n in value])
        return found

    # -- what subclasses give

    def _missing(self, what: str) -> NotImplementedError:
        return NotImplementedError(f"{what} is not implemented: {type(self).__name__}")

    @staticmethod
    def _param_shapes(sample_shape: Any) -> dict[str, Tensor]:
        raise NotImplementedError("_param_shapes not implemented")

    def _batch_shape_tensor(self) -> Any:
        raise self._missing("batch_shape_tensor")

    def _batch_shape(self) -> Any:
        return types.TensorShape(None)

    def _event_shape_tensor(self) -> Any:
        raise self._missing("event_shape_tensor")

    def _event_shape(self) -> Any:
        return types.TensorShape(None)

    def _sample_n(self, n: Any, seed: Any = None) -> Any:
        raise self._missing("sample_n")

    def _log_prob(self, value: Tensor) -> Any:
        raise self._missing("log_prob")

    def _prob(self, value: Tensor) -> Any:
        raise self._missing("prob")

    def _log_cdf(self, value: Tensor) -> Any:
        raise self._missing("log_cdf")

    def _cdf(self, value: Tensor) -> Any:
        raise self._missing("cdf")

    def _log_survival_function(self, value: Tensor) -> Any:
        raise self._missing("log_survival_function")

    def _survival_function(self, value: Tensor) -> Any:
        raise self._missing("survival_function")

    def _quantile(self, value: Tensor) -> Any:
        raise self._missing("quantile")

    def _entropy(self) -> Any:
        raise self._missing("entropy")

    def _mean(self) -> Any:
        raise self._missing("mean")

    def _variance(self) -> Any:
        raise self._missing("variance")

    def _stddev(self) -> Any:
        raise self._missing("stddev")

    def _covariance(self) -> Any:
        raise self._missing("covariance")

    def _mode(self) -> Any:
        raise self._missing("mode")

    # -- shapes

    @property
    def batch_shape(self) -> types.TensorShape:
        """The shape of the parameters, broadcast, as far as it is known."""
        return types.TensorShape(self._batch_shape())

    @property
    def event_shape(self) -> types.TensorShape:
        """The shape of one draw, as far as it is known."""
        return types.TensorShape(self._event_shape())

    def batch_shape_tensor(self, name: str = "batch_shape_tensor") -> Tensor:
        """The batch shape as an int32 vector."""
        with self._scope(name):
            return _vector(self.batch_shape, self._batch_shape_tensor)

    def event_shape_tensor(self, name: str = "event_shape_tensor") -> Tensor:
        """The event shape as an int32 vector."""
        with self._scope(name):
            return _vector(self.event_shape, self._event_shape_tensor)

    def is_scalar_event(self, name: str = "is_scalar_event") -> Tensor:
        """Whether an event is a scalar: a boolean tensor."""
        with self._scope(name):
            return _is_scalar(self.event_shape, self.event_shape_tensor)

    def is_scalar_batch(self, name: str = "is_scalar_batch") -> Tensor:
        """Whether the batch shape is []: a boolean tensor."""
        with self._scope(name):
            return _is_scalar(self.batch_shape, self.batch_shape_tensor)

    # -- samples

    def sample(self, sample_shape: Any = (), seed: Any = None, name: str = "sample") -> Tensor:
        """Samples of shape sample_shape + batch_shape + event_shape; an int is a shape of one axis."""
        with self._scope(name):
            static = _static_shape(sample_shape)
            if static is not None:
                sizes: Any = static
                samples = convert_to_tensor(self._sample_n(math.prod(static), seed))
            else:
                sizes = array_ops.reshape(convert_to_tensor(sample_shape, types.int32), [-1])
                samples = convert_to_tensor(self._sample_n(math_ops.reduce_prod(sizes), seed))
            rest = samples.shape[1:]
            inner = rest.as_list() if rest.ndims is not None and rest.is_fully_defined() else array_ops.shape(samples)[1:]
            both_known = static is not None and isinstance(inner, list)
            shape = [*static, *inner] if both_known else array_ops.concat([sizes, inner], 0) if static or static is None else inner
            samples = array_ops.reshape(samples, shape)
            known = self.batch_shape.concatenate(self.event_shape)
            if static is not None:
                known = types.TensorShape(static).concatenate(known)
            elif sizes.shape[0].value is None or known.ndims is None:
                return samples
            else:
                known = types.TensorShape([None] * sizes.shape[0].value).concatenate(known)
            samples.set_shape(known)
            return samples

    # -- functions of a value

    def log_prob(self, value: Any, name: str = "log_prob") -> Tensor:
        """The logarithm of the density (or mass) at `value`: sample_shape + batch_shape."""
        with self._scope(name):
            x = self._value(value)
            return _either(lambda: self._log_prob(x), lambda: math_ops.log(self._prob(x)))

    def prob(self, value: Any, name: str = "prob") -> Tensor:
        """The density (or mass) at `value`."""
        with self._scope(name):
            x = self._value(value)
            return _either(lambda: self._prob(x), lambda: math_ops.exp(self._log_prob(x)))

    def log_cdf(self, value: Any, name: str = "log_cdf") -> Tensor:
        """log P(X <= value)."""
        with self._scope(name):
            x = self._value(value)
            return _either(lambda: self._log_cdf(x), lambda: math_ops.log(self._cdf(x)))

    def cdf(self, value: Any, name: str = "cdf") -> Tensor:
        """P(X <= value)."""
        with self._scope(name):
            x = self._value(value)
            return _either(lambda: self._cdf(x), lambda: math_ops.exp(self._log_cdf(x)))

    def log_survival_function(self, value: Any, name: str = "log_survival_function") -> Tensor:
        """log P(X > value)."""
        with self._scope(name):
            x = self._value(value)
            return _either(lambda: self._log_survival_function(x), lambda: math_ops.log1p(-self.cdf(x)))

    def survival_function(self, value: Any, name: str = "survival_function") -> Tensor:
        """P(X > value)."""
        with self._scope(name):
            x = self._value(value)
            return _either(lambda: self._survival_function(x), lambda: 1.0 - self.cdf(x))

    def quantile(self, value: Any, name: str = "quantile") -> Tensor:
        """The x with P(X <= x) = value."""
        with self._scope(name):
            return self._quantile(self._value(value))

    # -- statistics

    def entropy(self, name: str = "entropy") -> Tensor:
        """The (differential) entropy in nats."""
        with self._scope(name):
            return self._entropy()

    def mean(self, name: str = "mean") -> Tensor:
        """The mean."""
        with self._scope(name):
            return self._mean()

    def variance(self, name: str = "variance") -> Tensor:
        """The variance of each component."""
        with self._scope(name):
            return _either(self._variance, lambda: math_ops.square(self._stddev()))

    def stddev(self, name: str = "stddev") -> Tensor:
        """The standard deviation of each component."""
        with self._scope(name):
            return _either(self._stddev, lambda: math_ops.sqrt(self._variance()))

    def covariance(self, name: str = "covariance") -> Tensor:
        """The matrix of covariances of a vector."""
        with self._scope(name):
            return self._covariance()

    def mode(self, name: str = "mode") -> Tensor:
        """The most likely value."""
        with self._scope(name):
            return self._mode()

    def cross_entropy(self, other: Distribution, name: str = "cross_entropy") -> Tensor:
        """The mean of -log q, q the density of `other`: entropy() + kl_divergence(other)."""
        with self._scope(name):
            return self._cross_entropy(other)

    def kl_divergence(self, other: Distribution, name: str = "kl_divergence") -> Tensor:
        """KL(self || other).  Raises NotImplementedError for a pair without a formula."""
        with self._scope(name):
            return self._kl_divergence(other)

    def _cross_entropy(self, other: Distribution) -> Tensor:
        from .kullback_leibler import cross_entropy

        return cross_entropy(self, other, allow_nan_stats=self.allow_nan_stats)

    def _kl_divergence(self, other: Distribution) -> Tensor:
        from .kullback_leibler import kl_divergence

        return kl_divergence(self, other, allow_nan_stats=self.allow_nan_stats)

    def __str__(self) -> str:
        batch, event = (f", {what}_shape={shape}" if shape.ndims is not None else "" for what, shape in
                        (("batch", self.batch_shape), ("event", self.event_shape)))
        return f'tfp.distributions.{type(self).__name__}("{self.name}"{batch}{event}, dtype={getattr(self.dtype, "name", self.dtype)})'

    def __repr__(self) -> str:
        return (f"<tfp.distributions.{type(self).__name__} '{self.name}' batch_shape={self.batch_shape} event_shape={self.event_shape} "
                f"dtype={getattr(self.dtype, 'name', self.dtype)}>")

    # -- helpers

    @contextmanager
    def _scope(self, name: str | None = None) -> Iterator[str]:
        g = graph.get_default_graph()
        with g.name_scope(self._name), g.name_scope(name) as scope:
            yield scope

    def _value(self, value: Any) -> Tensor:
        """As a tensor: Python and NumPy values become of this dtype if they can."""
        if isinstance(value, Tensor) or hasattr(value, "_as_tensor") or self.dtype is None:
            return convert_to_tensor(value, name="value")
        try:
            return convert_to_tensor(value, self.dtype, name="value")
        except (TypeError, ValueError):
            return convert_to_tensor(value, name="value")

    def _where_defined(self, condition: Any, value: Any, what: str) -> Tensor:
        """`value`, NaN where the condition does not hold; without `allow_nan_stats` an error there."""
        if self.allow_nan_stats:
            return select(condition, value, float("nan"))
        return depends(assert_all(True, lambda: condition, what), value)

    def _checked(self, x: Any, condition: Callable[[Tensor], Any], what: str) -> Tensor:
        """`x`, with `validate_args` checked where it runs."""
        x = convert_to_tensor(x)
        checks = assert_all(self.validate_args, lambda: condition(x), what, x)
        return depends(checks, x) if checks else x


def _vector(shape: types.TensorShape, dynamic: Callable[[], Any]) -> Tensor:
    if shape.is_fully_defined():
        return convert_to_tensor(np.array(shape.as_list(), np.int32))
    return convert_to_tensor(dynamic())


def _is_scalar(shape: types.TensorShape, dynamic: Callable[[], Tensor]) -> Tensor:
    return convert_to_tensor(shape.ndims == 0) if shape.ndims is not None else math_ops.equal(array_ops.size(dynamic()), 0)


def _static_shape(shape: Any) -> list[int] | None:
    """A shape as ints as far as the graph determines it, else None."""
    if isinstance(shape, types.TensorShape):
        shape = shape.as_list()
    value = constant_value(shape) if isinstance(shape, Tensor) else None if getattr(shape, "handle", None) is not None else shape
    if value is None or isinstance(value, (list, tuple)) and any(isinstance(n, Tensor) or n is None for n in value):
        return None
    return [int(n) for n in np.reshape(np.asarray(value), -1)]


class ScalarDistribution(Distribution):
    """A distribution of numbers whose parameters broadcast to the batch: they are in `_arguments`."""

    _arguments: tuple[Any, ...] = ()

    def _batch_shape_tensor(self) -> Any:
        whole = array_ops.zeros_like(self._arguments[0])
        for x in self._arguments[1:]:
            whole = whole + array_ops.zeros_like(x, dtype=whole.dtype)
        return array_ops.shape(whole)

    def _batch_shape(self) -> Any:
        shape = self._arguments[0].shape
        for x in self._arguments[1:]:
            shape = array_ops.broadcast_static_shape(shape, x.shape)
        return shape

    def _event_shape_tensor(self) -> Any:
        return convert_to_tensor(np.array([], np.int32))

    def _event_shape(self) -> Any:
        return types.TensorShape([])

    def _shape(self, n: Any) -> Any:
        """[n] + batch shape, known or as a tensor."""
        batch = self.batch_shape
        if batch.is_fully_defined():
            return [n, *batch.as_list()] if isinstance(n, int) else array_ops.concat([[n], np.array(batch.as_list(), np.int32)], 0)
        return array_ops.concat([[n], self._batch_shape_tensor()], 0)

    def _spread(self, x: Any) -> Tensor:
        """`x` with the batch's shape."""
        x, batch = convert_to_tensor(x), self.batch_shape
        if batch.is_fully_defined() and x.shape.is_fully_defined() and x.shape.as_list() == batch.as_list():
            return x
        for other in self._arguments:
            x = x + array_ops.zeros_like(other, dtype=x.dtype)
        return x


def float_parameters(*parameters: Any, names: tuple[str, ...] = ()) -> list[Tensor]:
    """Tensors of one float dtype.  Raises ValueError for others."""
    from ..check_ops import assert_same_float_dtype

    tensors = [array_ops.identity(convert_to_tensor(p), name=n) for p, n in zip(parameters, names or [None] * len(parameters))]  # type: ignore[list-item]
    assert_same_float_dtype(tensors)
    return tensors
