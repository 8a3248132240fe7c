"""Initializers: objects that make a variable's first value from its shape and dtype.

`initializer(shape, dtype=None, partition_info=None)` returns a tensor; `get_config()` and `from_config()` carry one over.
"""
from __future__ import annotations

import math
from types import SimpleNamespace
from typing import Any, Sequence

import numpy as np

from . import graph, random_ops, types
from .graph import Tensor
from .ops.opdef import constant

__all__ = ["zeros_initializer", "ones_initializer", "constant_initializer", "random_uniform_initializer", "random_normal_initializer",
           "truncated_normal_initializer", "uniform_unit_scaling_initializer", "variance_scaling_initializer", "orthogonal_initializer",
           "glorot_uniform_initializer", "glorot_normal_initializer", "initializers"]


class Initializer:
    """Base class; subclasses store their arguments as attributes of the same name, listed in `_config`."""

    _config: tuple[str, ...] = ()
    dtype: Any = types.float32

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        raise NotImplementedError

    def get_config(self) -> dict[str, Any]:
        """The constructor's arguments as plain data."""
        found = {name: getattr(self, name) for name in self._config}
        return {k: v.name if isinstance(v, types.DType) else v for k, v in found.items()}

    @classmethod
    def from_config(cls, config: dict[str, Any]) -> Initializer:
        return cls(**config)

    def _dtype(self, dtype: Any) -> types.DType:
        return types.as_dtype(self.dtype if dtype is None else dtype)

    def _float(self, dtype: Any) -> types.DType:
        found = self._dtype(dtype)
        if found not in types.FLOAT:
            raise ValueError(f"{type(self).__name__} needs a float dtype, got {found.name}")
        return found


def static_shape(shape: Any) -> list[int]:
    """The sizes as ints.  Raises ValueError when one is unknown."""
    found = types.TensorShape(shape)
    if not found.is_fully_defined():
        raise ValueError(f"an initializer needs a fully known shape, got {found}")
    return found.as_list()  # type: ignore[return-value]


# Larger constants are made by an op, so that the graph does not hold the array.
INLINE_LIMIT = 1024


def _filled(shape: Any, value: int, dtype: types.DType, name: str) -> Tensor:
    """A tensor of one value."""
    from . import array_ops

    if isinstance(shape, Tensor):
        return array_ops.fill(shape, constant(value, dtype), name=name)
    sizes = static_shape(shape)
    if math.prod(sizes) > INLINE_LIMIT:
        with graph.get_default_graph().name_scope(name) as scope:
            return array_ops.fill(random_ops.shape_tensor(sizes),
                                  constant(np.asarray(value, np.float32 if dtype is types.bfloat16 else dtype.np), dtype), name=scope)
    return constant(np.full(sizes, value, np.float32 if dtype is types.bfloat16 else dtype.np), dtype, name=name)


class Zeros(Initializer):
    """All zeros."""

    _config = ("dtype",)

    def __init__(self, dtype: Any = types.float32):
        self.dtype = types.as_dtype(dtype)

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        return _filled(shape, 0, self._dtype(dtype), "zeros")


class Ones(Initializer):
    """All ones."""

    _config = ("dtype",)

    def __init__(self, dtype: Any = types.float32):
        self.dtype = types.as_dtype(dtype)

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        return _filled(shape, 1, self._dtype(dtype), "ones")


class Constant(Initializer):
    """A number, or a list or array with the elements of the variable; a shorter one is filled up with its last element.

    Raises:
        TypeError: `value` is no number, list or array.  ValueError (on call): more elements than the shape has.
    """

    _config = ("value", "dtype", "verify_shape")

    def __init__(self, value: Any = 0, dtype: Any = types.float32, verify_shape: bool = False):
        if not (np.isscalar(value) or isinstance(value, (list, tuple, np.ndarray))):
            raise TypeError(f"Invalid type for initial value: {type(value).__name__} (expected a Python number, list, tuple or "
                            "numpy.ndarray)")
        self.value, self.dtype, self.verify_shape = value, types.as_dtype(dtype), verify_shape

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None, verify_shape: bool | None = None) -> Tensor:
        value = self.value
        wanted = self._dtype(dtype)
        if isinstance(value, np.ndarray) and value.dtype != wanted.np and wanted.kind in "fiuc":
            value = value.astype(np.float32 if wanted is types.bfloat16 else wanted.np)
        return constant(value, wanted, static_shape(shape), verify_shape=self.verify_shape if verify_shape is None else verify_shape)


class RandomUniform(Initializer):
    """Uniform in [minval, maxval)."""

    _config = ("minval", "maxval", "seed", "dtype")

    def __init__(self, minval: Any = 0, maxval: Any = None, seed: int | None = None, dtype: Any = types.float32):
        self.minval, self.maxval, self.seed, self.dtype = minval, maxval, seed, types.as_dtype(dtype)

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        return random_ops.random_uniform(shape, self.minval, self.maxval, self._dtype(dtype), self.seed)


class RandomNormal(Initializer):
    """Normal with `mean` and `stddev`."""

    _config = ("mean", "stddev", "seed", "dtype")

    def __init__(self, mean: Any = 0.0, stddev: Any = 1.0, seed: int | None = None, dtype: Any = types.float32):
        self.mean, self.stddev, self.seed, self.dtype = mean, stddev, seed, types.as_dtype(dtype)

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        return random_ops.random_normal(shape, self.mean, self.stddev, self._float(dtype), self.seed)


class TruncatedNormal(Initializer):
    """Normal, given that values lie within two standard deviations of the mean."""

    _config = ("mean", "stddev", "seed", "dtype")

    def __init__(self, mean: Any = 0.0, stddev: Any = 1.0, seed: int | None = None, dtype: Any = types.float32):
        self.mean, self.stddev, self.seed, self.dtype = mean, stddev, seed, types.as_dtype(dtype)

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        return random_ops.truncated_normal(shape, self.mean, self.stddev, self._float(dtype), self.seed)


class UniformUnitScaling(Initializer):
    """Uniform with variance `factor**2 / n`, n the product of all sizes but the last (keeps the scale of activations)."""

    _config = ("factor", "seed", "dtype")

    def __init__(self, factor: float = 1.0, seed: int | None = None, dtype: Any = types.float32):
        self.factor, self.seed, self.dtype = factor, seed, types.as_dtype(dtype)

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        sizes = static_shape(shape if partition_info is None else partition_info.full_shape)
        limit = math.sqrt(3 / max(1.0, float(math.prod(sizes[:-1])))) * self.factor
        return random_ops.random_uniform(shape, -limit, limit, self._float(dtype), self.seed)


def fans(sizes: Sequence[int]) -> tuple[float, float]:
    """(fan in, fan out) of a weight: matrices are [in, out], filters [..., in, out] times their spatial size."""
    if len(sizes) < 2:
        n = float(sizes[0]) if sizes else 1.0
        return n, n
    field = math.prod(sizes[:-2])
    return float(sizes[-2] * field), float(sizes[-1] * field)


# A normal truncated at two standard deviations has this standard deviation.
TRUNCATED_STDDEV = 0.87962566103423978


class VarianceScaling(Initializer):
    """Zero mean and variance `scale / n`, n the fan in, fan out or their mean (Glorot 2010, He 2015, LeCun 1998).

    Raises:
        ValueError: scale <= 0, an unknown mode or distribution.
    """

    _config: tuple[str, ...] = ("scale", "mode", "distribution", "seed", "dtype")

    def __init__(self, scale: float = 1.0, mode: str = "fan_in", distribution: str = "truncated_normal", seed: int | None = None,
                 dtype: Any = types.float32):
        if scale <= 0.0:
            raise ValueError(f"`scale` must be positive float, got {scale}")
        if mode not in ("fan_in", "fan_out", "fan_avg"):
            raise ValueError(f"Invalid `mode` argument: {mode!r}; one of fan_in, fan_out, fan_avg")
        if distribution.lower() not in ("normal", "uniform", "truncated_normal", "untruncated_normal"):
            raise ValueError(f"Invalid `distribution` argument: {distribution!r}; one of normal, truncated_normal, untruncated_normal, "
                             "uniform")
        self.scale, self.mode, self.distribution, self.seed, self.dtype = scale, mode, distribution.lower(), seed, types.as_dtype(dtype)

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        fan_in, fan_out = fans(static_shape(shape if partition_info is None else partition_info.full_shape))
        n = {"fan_in": fan_in, "fan_out": fan_out, "fan_avg": (fan_in + fan_out) / 2}[self.mode]
        variance, wanted = self.scale / max(1.0, n), self._float(dtype)
        if self.distribution == "uniform":
            limit = math.sqrt(3.0 * variance)
            return random_ops.random_uniform(shape, -limit, limit, wanted, self.seed)
        if self.distribution == "untruncated_normal":
            return random_ops.random_normal(shape, 0.0, math.sqrt(variance), wanted, self.seed)
        return random_ops.truncated_normal(shape, 0.0, math.sqrt(variance) / TRUNCATED_STDDEV, wanted, self.seed)


class Orthogonal(Initializer):
    """A matrix with orthonormal rows or columns: Q of a random normal matrix, signs from R's diagonal (Saxe et al. 2013).

    A shape of more dimensions is a matrix of all but the last by the last.  Raises ValueError for fewer than two.
    """

    _config = ("gain", "seed", "dtype")

    def __init__(self, gain: float = 1.0, seed: int | None = None, dtype: Any = types.float32):
        self.gain, self.seed, self.dtype = gain, seed, types.as_dtype(dtype)

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        from . import array_ops, math_ops
        from . import linalg as linalg_ops

        sizes, wanted = static_shape(shape), self._float(dtype)
        if len(sizes) < 2:
            raise ValueError(f"The tensor to initialize must be at least two-dimensional, got shape {sizes}")
        rows, columns = math.prod(sizes[:-1]), sizes[-1]
        a = random_ops.random_normal([max(rows, columns), min(rows, columns)], dtype=wanted, seed=self.seed)
        q, r = linalg_ops.qr(a, full_matrices=False)
        q = q * math_ops.sign(array_ops.diag_part(r))
        if rows < columns:
            q = array_ops.transpose(q)
        return array_ops.reshape(q, sizes) * constant(self.gain, wanted)


class Identity(Initializer):
    """`gain` times the identity matrix; only for two dimensions."""

    _config = ("gain", "dtype")

    def __init__(self, gain: float = 1.0, dtype: Any = types.float32):
        self.gain, self.dtype = gain, types.as_dtype(dtype)

    def __call__(self, shape: Any, dtype: Any = None, partition_info: Any = None) -> Tensor:
        sizes = static_shape(shape if partition_info is None else partition_info.full_shape)
        if len(sizes) != 2:
            raise ValueError(f"Identity matrix initializer can only be used for 2D matrices, got shape {sizes}")
        return constant((self.gain * np.eye(sizes[0], sizes[1])).astype(np.float32), self._dtype(dtype))


class GlorotUniform(VarianceScaling):
    """Uniform in +-sqrt(6 / (fan in + fan out)) (Glorot and Bengio 2010)."""

    _config = ("seed", "dtype")

    def __init__(self, seed: int | None = None, dtype: Any = types.float32):
        super().__init__(1.0, "fan_avg", "uniform", seed, dtype)


class GlorotNormal(VarianceScaling):
    """Truncated normal with variance 2 / (fan in + fan out)."""

    _config = ("seed", "dtype")

    def __init__(self, seed: int | None = None, dtype: Any = types.float32):
        super().__init__(1.0, "fan_avg", "truncated_normal", seed, dtype)


def he_normal(seed: int | None = None) -> Initializer:
    """Truncated normal with variance 2 / fan in (He et al. 2015)."""
    return VarianceScaling(2.0, "fan_in", "truncated_normal", seed)


def he_uniform(seed: int | None = None) -> Initializer:
    """Uniform in +-sqrt(6 / fan in)."""
    return VarianceScaling(2.0, "fan_in", "uniform", seed)


def lecun_normal(seed: int | None = None) -> Initializer:
    """Truncated normal with variance 1 / fan in."""
    return VarianceScaling(1.0, "fan_in", "truncated_normal", seed)


def lecun_uniform(seed: int | None = None) -> Initializer:
    """Uniform in +-sqrt(3 / fan in)."""
    return VarianceScaling(1.0, "fan_in", "uniform", seed)


zeros_initializer = Zeros
ones_initializer = Ones
constant_initializer = Constant
random_uniform_initializer = RandomUniform
random_normal_initializer = RandomNormal
truncated_normal_initializer = TruncatedNormal
uniform_unit_scaling_initializer = UniformUnitScaling
variance_scaling_initializer = VarianceScaling
orthogonal_initializer = Orthogonal
identity_initializer = Identity
glorot_uniform_initializer = GlorotUniform
glorot_normal_initializer = GlorotNormal


def default_initializer(dtype: types.DType) -> Initializer:
    """What `get_variable` uses without an initializer: Glorot's for floats, zeros for integers and booleans.

    Raises:
        ValueError: strings and complex numbers have no default.
    """
    if dtype.is_floating:
        return GlorotUniform(dtype=dtype)
    if dtype.is_integer or dtype.is_bool:
        return Zeros(dtype)
    raise ValueError(f"An initializer for a variable of {dtype.name} is required")


def global_variables() -> Any:
    """`tf.initializers.global_variables()`: the op that initialises all global variables."""
    from .variables import global_variables_initializer

    return global_variables_initializer()


def local_variables() -> Any:
    """`tf.initializers.local_variables()`: the op that initialises all local variables."""
    from .variables import local_variables_initializer

    return local_variables_initializer()


def variables(var_list: Any, name: str = "init") -> Any:
    """`tf.initializers.variables(...)`: the op that initialises these variables."""
    from .variables import variables_initializer

    return variables_initializer(var_list, name)


def tables_initializer(name: str = "init_all_tables") -> Any:
    """`tf.tables_initializer`."""
    from .variables import tables_initializer as found

    return found(name)


initializers = SimpleNamespace(
    zeros=Zeros, ones=Ones, constant=Constant, random_uniform=RandomUniform, random_normal=RandomNormal, truncated_normal=TruncatedNormal,
    uniform_unit_scaling=UniformUnitScaling, variance_scaling=VarianceScaling, orthogonal=Orthogonal, identity=Identity,
    glorot_uniform=GlorotUniform, glorot_normal=GlorotNormal, he_normal=he_normal, he_uniform=he_uniform, lecun_normal=lecun_normal,
    lecun_uniform=lecun_uniform, global_variables=global_variables, local_variables=local_variables, variables=variables,
    tables_initializer=tables_initializer)
