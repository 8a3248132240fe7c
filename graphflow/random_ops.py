"""Random tensors with TF1's names, arguments and seeds.

The stream of an op is keyed by the graph seed (`tf.set_random_seed`) and the op seed (`seed=`):

    neither      a key from the system's entropy, drawn when the op is made
    graph only   the op seed is the number of operations made before, counted as TF1 makes them
    op only      the graph seed is 87654321
    both         both; two ops with equal seeds draw equal values

Every run of the op draws the next values of its stream; a new Session starts over.  The numbers are TensorFlow's: exactly for given op
seeds; for a graph seed alone as far as the operations before are as many as TF1 makes, which holds for variables and layers, not behind
gradients.
"""
from __future__ import annotations

import hashlib
import os
from types import SimpleNamespace
from typing import Any

import numpy as np

from . import graph, types
from .graph import Tensor
from .ops import random as ops
from .ops.elementwise import add, cast_op, multiply, subtract
from .ops.opdef import Const, Opaque, constant, convert_to_tensor

__all__ = ["random_normal", "random_uniform", "truncated_normal", "random_shuffle", "random_crop", "multinomial", "random_gamma",
           "random_poisson", "stateless_random_uniform", "stateless_random_normal", "stateless_truncated_normal", "set_random_seed",
           "get_seed", "random"]

DEFAULT_GRAPH_SEED, MAX_SEED = 87654321, 2**31 - 1


def set_random_seed(seed: int | None) -> None:
    """Sets the graph seed of the default graph; ops made from now on use it."""
    graph.get_default_graph().seed = seed


def entropy(n: int) -> bytes:
    """`n` bytes that nobody can foretell: what ops, datasets and functions without a seed begin with."""
    return os.urandom(n)


def get_seed(op_seed: int | None, path: str | None = None) -> tuple[int | None, int | None]:
    """(graph seed, op seed) for an op with `seed=op_seed`; (None, None) when neither is set."""
    g = graph.get_default_graph()
    if g.seed is None and op_seed is None:
        return None, None
    first = DEFAULT_GRAPH_SEED if g.seed is None else g.seed
    second = g.last_id if op_seed is None else op_seed
    first, second = int(first) % MAX_SEED, int(second) % MAX_SEED
    return (0, MAX_SEED) if first == second == 0 else (first, second)  # two zeros would mean: draw a seed


def _digest(*parts: Any) -> int:
    """A 63-bit number of the parts, the same in every process."""
    text = "\0".join(map(str, parts)).encode()
    return int.from_bytes(hashlib.blake2b(text, digest_size=8).digest(), "little") >> 1


def _keyed(seed: int | None) -> tuple[Tensor, dict[str, Any]]:
    """The key of the op made in the current name scope, as a constant of two words, and its seed attributes."""
    first, second = get_seed(seed)
    if first is None or second is None:
        value = np.frombuffer(entropy(16), np.uint32).copy().view(Opaque)
    else:
        value = np.array([part for n in (first, second) for part in (n & 0xFFFFFFFF, n >> 32 & 0xFFFFFFFF)], np.uint32).view(Opaque)
    value.setflags(write=False)
    g = graph.get_default_graph()
    with g.counted_as(0):  # TF1 keeps seeds in attributes
        key = g.create_op(Const, (), {"value": value, "dtype": types.uint32}, "key").outputs[0]
    return key, {"seed": int(first or 0), "seed2": int(second or 0)}


def shape_tensor(shape: Any, name: str = "shape") -> Tensor:
    """A vector of sizes from a list, TensorShape, tensor or list with tensors in it.

    Raises:
        ValueError: a TensorShape that is not fully known.  TypeError: sizes that are no integers.
    """
    if isinstance(shape, types.TensorShape):
        if not shape.is_fully_defined():
            raise ValueError(f"the shape must be fully known here, got {shape}; use tf.shape for sizes known only at run time")
        shape = shape.as_list()
    if isinstance(shape, (list, tuple)) and not shape:
        return constant([], types.int32, name=name)
    if isinstance(shape, (int, np.integer)) and not isinstance(shape, types.Dimension):
        shape = [shape]
    return convert_to_tensor(shape, None if hasattr(shape, "dtype") or _has_tensors(shape) else types.int32, name=name)


def _has_tensors(values: Any) -> bool:
    return isinstance(values,
                      (list, tuple)) and any(isinstance(v, Tensor) or hasattr(v, "_as_tensor") or hasattr(v, "dtype") for v in values)


def _float_dtype(dtype: Any, what: str) -> types.DType:
    dtype = types.as_dtype(dtype)
    if dtype not in types.FLOAT:
        raise ValueError(f"{what} needs a float dtype, got {dtype.name}; one of: {', '.join(d.name for d in types.FLOAT)}")
    return dtype


def _scope(name: str | None, default: str) -> Any:
    return graph.get_default_graph().name_scope(name or default)


def random_normal(shape: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = types.float32, seed: int | None = None,
                  name: str | None = None) -> Tensor:
    """Samples of the normal distribution.

    Args:
        shape: sizes of the result (integers, or an integer tensor).
        mean, stddev: numbers or tensors that broadcast against `shape`.
        dtype: a float dtype.
        seed: see the module's docstring.
    """
    with _scope(name, "random_normal") as scope:
        dtype = _float_dtype(dtype, "random_normal")
        sizes = shape_tensor(shape)
        mean_t, stddev_t = convert_to_tensor(mean, dtype, name="mean"), convert_to_tensor(stddev, dtype, name="stddev")
        key, seeds = _keyed(seed)
        z = ops.random_standard_normal_op(sizes, key, dtype=dtype, **seeds)
        return add(multiply(z, stddev_t, name="mul"), mean_t, name=scope)


def truncated_normal(shape: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = types.float32, seed: int | None = None,
                     name: str | None = None) -> Tensor:
    """Samples of the normal distribution given that they lie within two standard deviations of the mean."""
    with _scope(name, "truncated_normal") as scope:
        dtype = _float_dtype(dtype, "truncated_normal")
        sizes = shape_tensor(shape)
        mean_t, stddev_t = convert_to_tensor(mean, dtype, name="mean"), convert_to_tensor(stddev, dtype, name="stddev")
        key, seeds = _keyed(seed)
        z = ops.truncated_normal_op(sizes, key, dtype=dtype, **seeds)
        return add(multiply(z, stddev_t, name="mul"), mean_t, name=scope)


def random_uniform(shape: Any, minval: Any = 0, maxval: Any = None, dtype: Any = types.float32, seed: int | None = None,
                   name: str | None = None) -> Tensor:
    """Samples uniform in [minval, maxval); floats default to [0, 1), integers need `maxval`.

    Raises:
        ValueError: an integer dtype without `maxval`.  errors.InvalidArgumentError: integers with minval >= maxval.
    """
    with _scope(name, "random_uniform") as scope:
        dtype = types.as_dtype(dtype)
        if maxval is None:
            if dtype.is_integer:
                raise ValueError(f"Must specify maxval for integer dtype {dtype.name}")
            maxval = 1
        if dtype not in types.FLOAT + (types.int32, types.int64):
            raise ValueError(f"random_uniform has no dtype {dtype.name}; one of: float16, bfloat16, float32, float64, int32, int64")
        sizes = shape_tensor(shape)
        low, high = convert_to_tensor(minval, dtype, name="min"), convert_to_tensor(maxval, dtype, name="max")
        key, seeds = _keyed(seed)
        if dtype.is_integer:
            return ops.random_uniform_int_op(sizes, key, low, high, dtype=dtype, name=scope, **seeds)
        u = ops.random_uniform_op(sizes, key, dtype=dtype, **seeds)
        return add(multiply(u, subtract(high, low, name="sub"), name="mul"), low, name=scope)


def random_shuffle(value: Any, seed: int | None = None, name: str | None = None) -> Tensor:
    """`value` with its rows (axis 0) in random order.  Unlike TF1's, it has a gradient."""
    with _scope(name, "RandomShuffle") as scope:
        value = convert_to_tensor(value)
        key, seeds = _keyed(seed)
        if value.dtype.is_differentiable and value.sizes:
            from . import array_ops

            order = ops.random_shuffle_op(array_ops.range(array_ops.shape(value)[0]), key, **seeds)
            return array_ops.gather(value, order, name=scope)
        return ops.random_shuffle_op(value, key, name=scope, **seeds)


def random_crop(value: Any, size: Any, seed: int | None = None, name: str | None = None) -> Tensor:
    """A block of `size` cut from `value` at a random offset.

    Raises:
        errors.InvalidArgumentError: `size` is larger than `value`.
    """
    from . import array_ops

    with _scope(name, "random_crop") as scope:
        value = convert_to_tensor(value, name="value")
        wanted = shape_tensor(size, name="size")
        room = array_ops.shape(value) - wanted + 1
        offset = random_uniform(array_ops.shape(room), 0, types.int32.max, types.int32, seed) % room
        return array_ops.slice(value, offset, wanted, name=scope)


def multinomial(logits: Any, num_samples: Any, seed: int | None = None, name: str | None = None, output_dtype: Any = None) -> Tensor:
    """Class numbers `[batch, num_samples]` drawn from rows of unnormalised log-probabilities `[batch, classes]`."""
    with _scope(name, "multinomial"):
        logits = convert_to_tensor(logits, name="logits")
        count = convert_to_tensor(num_samples, name="num_samples")
        key, seeds = _keyed(seed)
        with graph.get_default_graph().counted_as(1):
            draws = ops.multinomial_draws_op(_rows_by(logits, count), key, dtype=types.float64, **seeds)
            return ops.multinomial_op(logits, draws, dtype=types.as_dtype(output_dtype or types.int64))


def _rows_by(logits: Tensor, count: Tensor) -> Tensor:
    """The sizes [rows of a matrix, count]."""
    from . import array_ops

    return array_ops.stack([array_ops.shape(logits)[0], cast_op(count, DstT=types.int32)])


def categorical(logits: Any, num_samples: Any, dtype: Any = None, seed: int | None = None, name: str | None = None) -> Tensor:
    """`multinomial` with the argument order of `tf.random.categorical`."""
    return multinomial(logits, num_samples, seed, name or "categorical", dtype)


def random_gamma(shape: Any, alpha: Any, beta: Any = None, dtype: Any = types.float32, seed: int | None = None,
                 name: str | None = None) -> Tensor:
    """Samples of Gamma(alpha, rate beta): shape `shape + alpha.shape` (alpha and beta broadcast).

    They have gradients for alpha and beta: that for alpha is the implicit one, -(dP(alpha, z) / d alpha) / p(z) for the distribution
    function P and the density p of a sample z (Figurnov et al. 2018).
    """
    from .custom_gradient import custom_gradient
    from .ops.elementwise import real_div

    with _scope(name, "random_gamma") as scope:
        dtype = _float_dtype(dtype, "random_gamma")
        sizes = shape_tensor(shape)
        alpha_t = convert_to_tensor(alpha, dtype, name="alpha")
        beta_t = convert_to_tensor(1 if beta is None else beta, dtype, name="beta")
        # Adding zeros of beta's shape broadcasts alpha, whose every element gets samples of its own.
        shaped = alpha_t if beta is None else add(alpha_t, multiply(beta_t, constant(0, dtype)))
        key, seeds = _keyed(seed)

        @custom_gradient
        def draw(a: Tensor) -> Any:
            z = ops.random_gamma_op(sizes, a, key, dtype=dtype, **seeds)
            return z, lambda dy: _gamma_gradient(z, a, dy)
        return real_div(draw(shaped), beta_t, name=scope)


def _gamma_gradient(z: Tensor, a: Tensor, dy: Tensor) -> Tensor:
    """What samples z of Gamma(a, 1), of more leading axes than a, pass back to a."""
    from . import array_ops, math_ops
    from .special_math import igamma_grad_a_op

    density = math_ops.exp((a - 1.0) * math_ops.log(z) - z - math_ops.lgamma(a))
    slope = -dy * igamma_grad_a_op(a + array_ops.zeros_like(z), z) / density
    added = array_ops.range(array_ops.rank(z) - array_ops.rank(a))
    return array_ops.reshape(math_ops.reduce_sum(slope, added), array_ops.shape(a))


def random_poisson(lam: Any, shape: Any, dtype: Any = types.float32, seed: int | None = None, name: str | None = None) -> Tensor:
    """Samples of Poisson(lam): shape `shape + lam.shape`."""
    with _scope(name, "random_poisson"):
        rate = convert_to_tensor(lam, name="rate")
        key, seeds = _keyed(seed)
        return ops.random_poisson_op(shape_tensor(shape), rate, key, dtype=types.as_dtype(dtype), **seeds)


def _stateless(op: Any, default: str) -> Any:
    def function(shape: Any, seed: Any, mean: Any = 0.0, stddev: Any = 1.0, dtype: Any = types.float32, name: str | None = None) -> Tensor:
        with _scope(name, default) as scope:
            dtype = _float_dtype(dtype, default)
            z = op(shape_tensor(shape), convert_to_tensor(seed, name="seed"), dtype=dtype)
            return add(multiply(z, convert_to_tensor(stddev, dtype), name="mul"), convert_to_tensor(mean, dtype), name=scope)
    function.__name__, function.__doc__ = default, f"{op.__doc__} `seed` is a pair of integers; scaled by `stddev` and shifted by `mean`."
    return function


stateless_random_normal = _stateless(ops.stateless_random_normal_op, "stateless_random_normal")
stateless_truncated_normal = _stateless(ops.stateless_truncated_normal_op, "stateless_truncated_normal")


def stateless_random_uniform(shape: Any, seed: Any, minval: Any = 0, maxval: Any = None, dtype: Any = types.float32,
                             name: str | None = None) -> Tensor:
    """Samples uniform in [minval, maxval), a function of `shape` and `seed` (a pair of integers) alone."""
    with _scope(name, "stateless_random_uniform") as scope:
        dtype = types.as_dtype(dtype)
        if maxval is None and dtype.is_integer:
            raise ValueError(f"Must specify maxval for integer dtype {dtype.name}")
        low, high = convert_to_tensor(minval, dtype, name="min"), convert_to_tensor(1 if maxval is None else maxval, dtype, name="max")
        sizes, pair = shape_tensor(shape), convert_to_tensor(seed, name="seed")
        if dtype.is_integer:
            return ops.stateless_random_uniform_int_op(sizes, pair, low, high, dtype=dtype, name=scope)
        u = ops.stateless_random_uniform_op(sizes, pair, dtype=dtype)
        return add(multiply(u, subtract(high, low, name="sub"), name="mul"), low, name=scope)


def stateless_multinomial(logits: Any, num_samples: Any, seed: Any, output_dtype: Any = types.int64, name: str | None = None) -> Tensor:
    """Class numbers [batch, num_samples] drawn from rows of log-probabilities [batch, classes], a function of the arguments alone."""
    from . import array_ops, math_ops

    with _scope(name, "stateless_multinomial"):
        logits = convert_to_tensor(logits, name="logits")
        count = convert_to_tensor(num_samples, types.int32 if not isinstance(num_samples, Tensor) else None)
        sizes = array_ops.shape(logits)
        shape = array_ops.stack([sizes[0], math_ops.cast(count, types.int32), sizes[1]])
        draws = stateless_random_uniform(shape, seed, dtype=types.float64)
        # The largest of log p + Gumbel noise falls on each class with its probability.
        noise = -math_ops.log(-math_ops.log(math_ops.maximum(draws, 1e-300)))
        wide = array_ops.expand_dims(math_ops.cast(logits, types.float64), 1)
        return math_ops.argmax(wide + noise, -1, output_type=types.as_dtype(output_dtype))


def stateless_categorical(logits: Any, num_samples: Any, seed: Any, dtype: Any = types.int64, name: str | None = None) -> Tensor:
    """`stateless_multinomial` with the argument names of `tf.random.stateless_categorical`."""
    return stateless_multinomial(logits, num_samples, seed, dtype, name or "stateless_categorical")


class _Namespace(SimpleNamespace):
    """`tf.random`; the candidate samplers are loaded when asked for."""

    def __getattr__(self, name: str) -> Any:
        if name.endswith("_candidate_sampler"):
            from . import candidate_sampling

            if name in candidate_sampling.__all__:
                return getattr(candidate_sampling, name)
        from . import errors

        raise AttributeError(f"module 'graphflow.random' has no attribute {name!r}.{errors.suggest(name, vars(self))}")


random = _Namespace(
    normal=random_normal, uniform=random_uniform, truncated_normal=truncated_normal, shuffle=random_shuffle, categorical=categorical,
    multinomial=multinomial, gamma=random_gamma, poisson=random_poisson, set_random_seed=set_random_seed, get_seed=get_seed,
    stateless_normal=stateless_random_normal, stateless_uniform=stateless_random_uniform,
    stateless_truncated_normal=stateless_truncated_normal, stateless_multinomial=stateless_multinomial,
    stateless_categorical=stateless_categorical)
