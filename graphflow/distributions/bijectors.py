"""Invertible functions with the determinant of their derivative: `tf.contrib.distributions.bijectors`.

`event_ndims` says how many of the last axes are one event; the logarithm of |det| is summed over them.
"""
from __future__ import annotations

from contextlib import contextmanager
from typing import Any, Callable, Iterator

from .. import array_ops, graph, math_ops, nn, types
from ..graph import Tensor
from ..ops.opdef import convert_to_tensor
from .multivariate import _Diagonal, _Triangular
from .special import softplus_inverse

__all__ = ["Affine", "AffineScalar", "Bijector", "Chain", "Exp", "Identity", "Inline", "Invert", "Permute", "PowerTransform", "Sigmoid",
           "SoftmaxCentered", "Softplus", "Softsign", "Square"]


class Bijector:
    """Base class: a subclass gives `_forward`, `_inverse` and one of `_forward_log_det_jacobian`, `_inverse_log_det_jacobian`.

    Args:
        forward_min_event_ndims: how many of the last axes the function needs at least.
        inverse_min_event_ndims: of its values; the same by default.
        is_constant_jacobian: the determinant does not depend on the argument.
        validate_args: check arguments when they run.
        dtype: of arguments, if it is fixed.
        name: of the scope of its ops.
    """

    def __init__(self, graph_parents: Any = None, is_constant_jacobian: bool = False, validate_args: bool = False, dtype: Any = None,
                 forward_min_event_ndims: int | None = None, inverse_min_event_ndims: int | None = None, name: str | None = None):
        if forward_min_event_ndims is None and inverse_min_event_ndims is None:
            raise ValueError("Must specify at least one of `forward_min_event_ndims` and `inverse_min_event_ndims`.")
        self._forward_min = inverse_min_event_ndims if forward_min_event_ndims is None else forward_min_event_ndims
        self._inverse_min = self._forward_min if inverse_min_event_ndims is None else inverse_min_event_ndims
        for n in (self._forward_min, self._inverse_min):
            if n is None or n < 0:
                raise ValueError("forward_min_event_ndims must be a non-negative integer.")
        self._constant, self._validate_args, self._dtype = is_constant_jacobian, validate_args, dtype
        self._graph_parents = list(graph_parents or ())
        self._name = name or type(self).__name__.lower()

    name = property(lambda self: self._name)
    dtype = property(lambda self: self._dtype)
    graph_parents = property(lambda self: self._graph_parents)
    validate_args = property(lambda self: self._validate_args)
    is_constant_jacobian = property(lambda self: self._constant)
    forward_min_event_ndims = property(lambda self: self._forward_min)
    inverse_min_event_ndims = property(lambda self: self._inverse_min)

    # -- what subclasses give

    def _forward(self, x: Tensor) -> Tensor:
        raise NotImplementedError("forward not implemented.")

    def _inverse(self, y: Tensor) -> Tensor:
        raise NotImplementedError("inverse not implemented.")

    def _forward_log_det_jacobian(self, x: Tensor) -> Tensor:
        raise NotImplementedError("forward_log_det_jacobian not implemented.")

    def _inverse_log_det_jacobian(self, y: Tensor) -> Tensor:
        raise NotImplementedError("inverse_log_det_jacobian not implemented.")

    def _forward_event_shape(self, shape: types.TensorShape) -> types.TensorShape:
        return shape

    def _inverse_event_shape(self, shape: types.TensorShape) -> types.TensorShape:
        return shape

    # -- public

    def forward(self, x: Any, name: str = "forward") -> Tensor:
        """y = g(x)."""
        with self._scope(name):
            return self._forward(convert_to_tensor(x))

    def inverse(self, y: Any, name: str = "inverse") -> Tensor:
        """x with g(x) = y."""
        with self._scope(name):
            return self._inverse(convert_to_tensor(y))

    def forward_log_det_jacobian(self, x: Any, event_ndims: int, name: str = "forward_log_det_jacobian") -> Tensor:
        """log |det dy/dx|, summed over the event's axes.  Raises ValueError for fewer than `forward_min_event_ndims`."""
        with self._scope(name):
            x = convert_to_tensor(x)
            try:
                return _summed(self._forward_log_det_jacobian(x), x, event_ndims, self._forward_min)
            except NotImplementedError:
                y = self._forward(x)
                return -_summed(self._inverse_log_det_jacobian(y), y, event_ndims + self._inverse_min - self._forward_min,
                                self._inverse_min)

    def inverse_log_det_jacobian(self, y: Any, event_ndims: int, name: str = "inverse_log_det_jacobian") -> Tensor:
        """log |det dx/dy|, summed over the event's axes.  Raises ValueError for fewer than `inverse_min_event_ndims`."""
        with self._scope(name):
            y = convert_to_tensor(y)
            try:
                return _summed(self._inverse_log_det_jacobian(y), y, event_ndims, self._inverse_min)
            except NotImplementedError:
                x = self._inverse(y)
                return -_summed(self._forward_log_det_jacobian(x), x, event_ndims + self._forward_min - self._inverse_min,
                                self._forward_min)

    def forward_event_shape(self, input_shape: Any) -> types.TensorShape:
        """The shape of g(x) for an x of this shape."""
        return self._forward_event_shape(types.TensorShape(input_shape))

    def inverse_event_shape(self, output_shape: Any) -> types.TensorShape:
        """The shape of x for a g(x) of this shape."""
        return self._inverse_event_shape(types.TensorShape(output_shape))

    @contextmanager
    def _scope(self, name: str) -> Iterator[str]:
        g = graph.get_default_graph()
        with g.name_scope(self._name), g.name_scope(name) as scope:
            yield scope


def _summed(log_det: Any, x: Tensor, event_ndims: int, minimum: int) -> Tensor:
    """A log determinant, which lacks the last `minimum` axes of x, summed over the event's other axes."""
    log_det = convert_to_tensor(log_det, x.dtype)
    more = int(event_ndims) - minimum
    if more < 0:
        raise ValueError(f"event_ndims ({event_ndims}) must be larger than min_event_ndims ({minimum})")
    if not more:
        return log_det
    # a constant determinant counts once for each element of the event
    like = x if not minimum else x[(..., *([0] * minimum))]
    return math_ops.reduce_sum(log_det + array_ops.zeros_like(like), list(range(-more, 0)))


class Identity(Bijector):
    """y = x."""

    def __init__(self, validate_args: bool = False, name: str = "identity"):
        super().__init__(forward_min_event_ndims=0, is_constant_jacobian=True, validate_args=validate_args, name=name)

    def _forward(self, x: Tensor) -> Tensor:
        return x

    def _inverse(self, y: Tensor) -> Tensor:
        return y

    def _forward_log_det_jacobian(self, x: Tensor) -> Tensor:
        return array_ops.zeros([], x.dtype)


class PowerTransform(Bijector):
    """y = (1 + power x)^(1 / power); exp(x) for power 0."""

    def __init__(self, power: float = 0.0, validate_args: bool = False, name: str = "power_transform"):
        if power < 0:
            raise ValueError("`power` must be a non-negative TF constant.")
        self._power = power
        super().__init__(forward_min_event_ndims=0, validate_args=validate_args, name=name)

    power = property(lambda self: self._power)

    def _forward(self, x: Tensor) -> Tensor:
        return math_ops.exp(x) if self._power == 0 else math_ops.exp(math_ops.log1p(x * self._power) / self._power)

    def _inverse(self, y: Tensor) -> Tensor:
        return math_ops.log(y) if self._power == 0 else math_ops.expm1(math_ops.log(y) * self._power) / self._power

    def _inverse_log_det_jacobian(self, y: Tensor) -> Tensor:
        return (self._power - 1.0) * math_ops.log(y)

    def _forward_log_det_jacobian(self, x: Tensor) -> Tensor:
        return x if self._power == 0 else (1.0 / self._power - 1.0) * math_ops.log1p(x * self._power)


class Exp(PowerTransform):
    """y = exp(x)."""

    def __init__(self, validate_args: bool = False, name: str = "exp"):
        super().__init__(0.0, validate_args, name)


class Softplus(Bijector):
    """y = hinge_softness * log(1 + exp(x / hinge_softness)).  Raises ValueError for a softness of 0."""

    def __init__(self, hinge_softness: Any = None, validate_args: bool = False, name: str = "softplus"):
        if isinstance(hinge_softness, (int, float)) and hinge_softness == 0:
            raise ValueError("hinge_softness must be non-zero")
        self._softness = None if hinge_softness is None else convert_to_tensor(hinge_softness, name="hinge_softness")
        super().__init__(forward_min_event_ndims=0, validate_args=validate_args, name=name)

    hinge_softness = property(lambda self: self._softness)

    def _scaled(self, x: Tensor) -> Tensor:
        return x if self._softness is None else x / math_ops.cast(self._softness, x.dtype)

    def _back(self, x: Tensor, like: Tensor) -> Tensor:
        return x if self._softness is None else x * math_ops.cast(self._softness, like.dtype)

    def _forward(self, x: Tensor) -> Tensor:
        return self._back(nn.softplus(self._scaled(x)), x)

    def _inverse(self, y: Tensor) -> Tensor:
        return self._back(softplus_inverse(self._scaled(y)), y)

    def _forward_log_det_jacobian(self, x: Tensor) -> Tensor:
        return -nn.softplus(-self._scaled(x))

    def _inverse_log_det_jacobian(self, y: Tensor) -> Tensor:
        return -math_ops.log(-math_ops.expm1(-self._scaled(y)))


class Sigmoid(Bijector):
    """y = 1 / (1 + exp(-x))."""

    def __init__(self, validate_args: bool = False, name: str = "sigmoid"):
        super().__init__(forward_min_event_ndims=0, validate_args=validate_args, name=name)

    def _forward(self, x: Tensor) -> Tensor:
        return math_ops.sigmoid(x)

    def _inverse(self, y: Tensor) -> Tensor:
        return math_ops.log(y) - math_ops.log1p(-y)

    def _forward_log_det_jacobian(self, x: Tensor) -> Tensor:
        return -nn.softplus(-x) - nn.softplus(x)

    def _inverse_log_det_jacobian(self, y: Tensor) -> Tensor:
        return -math_ops.log(y) - math_ops.log1p(-y)


class Softsign(Bijector):
    """y = x / (1 + |x|)."""

    def __init__(self, validate_args: bool = False, name: str = "softsign"):
        super().__init__(forward_min_event_ndims=0, validate_args=validate_args, name=name)

    def _forward(self, x: Tensor) -> Tensor:
        return x / (1.0 + math_ops.abs(x))

    def _inverse(self, y: Tensor) -> Tensor:
        return y / (1.0 - math_ops.abs(y))

    def _forward_log_det_jacobian(self, x: Tensor) -> Tensor:
        return -2.0 * math_ops.log1p(math_ops.abs(x))

    def _inverse_log_det_jacobian(self, y: Tensor) -> Tensor:
        return -2.0 * math_ops.log1p(-math_ops.abs(y))


class Square(Bijector):
    """y = x^2 for x >= 0."""

    def __init__(self, validate_args: bool = False, name: str = "square"):
        super().__init__(forward_min_event_ndims=0, validate_args=validate_args, name=name)

    def _forward(self, x: Tensor) -> Tensor:
        return math_ops.square(x)

    def _inverse(self, y: Tensor) -> Tensor:
        return math_ops.sqrt(y)

    def _forward_log_det_jacobian(self, x: Tensor) -> Tensor:
        return math_ops.log(2.0 * x)


class AffineScalar(Bijector):
    """y = shift + scale x."""

    def __init__(self, shift: Any = None, scale: Any = None, validate_args: bool = False, name: str = "affine_scalar"):
        self._shift, self._scale = (None if v is None else convert_to_tensor(v) for v in (shift, scale))
        super().__init__(forward_min_event_ndims=0, is_constant_jacobian=True, validate_args=validate_args, name=name)

    shift = property(lambda self: self._shift)
    scale = property(lambda self: self._scale)

    def _forward(self, x: Tensor) -> Tensor:
        x = x if self._scale is None else x * self._scale
        return x if self._shift is None else x + self._shift

    def _inverse(self, y: Tensor) -> Tensor:
        y = y if self._shift is None else y - self._shift
        return y if self._scale is None else y / self._scale

    def _forward_log_det_jacobian(self, x: Tensor) -> Tensor:
        return array_ops.zeros([], x.dtype) if self._scale is None else math_ops.log(math_ops.abs(self._scale))


class Affine(Bijector):
    """y = shift + scale x for vectors, scale = scale_identity_multiplier I + diag(scale_diag) + scale_tril.

    Raises:
        NotImplementedError: `scale_perturb_factor`.
    """

    def __init__(self, shift: Any = None, scale_identity_multiplier: Any = None, scale_diag: Any = None, scale_tril: Any = None,
                 scale_perturb_factor: Any = None, scale_perturb_diag: Any = None, validate_args: bool = False, name: str = "affine"):
        if scale_perturb_factor is not None or scale_perturb_diag is not None:
            raise NotImplementedError("Affine: scale_perturb_factor and scale_perturb_diag are not supported")
        super().__init__(forward_min_event_ndims=1, is_constant_jacobian=True, validate_args=validate_args, name=name)
        self._shift, multiplier, diag, tril = (None if v is None else convert_to_tensor(v) for v in
                                               (shift, scale_identity_multiplier, scale_diag, scale_tril))
        self._multiplier: Any = None
        self._matrix: Any = None
        if tril is not None:
            for part in (diag, None if multiplier is None else array_ops.expand_dims(multiplier, -1)):
                if part is not None:
                    tril = array_ops.matrix_set_diag(tril, array_ops.matrix_diag_part(tril) + part)
            self._matrix = _Triangular(tril)
        elif diag is not None:
            self._matrix = _Diagonal(diag if multiplier is None else diag + array_ops.expand_dims(multiplier, -1))
        else:
            self._multiplier = multiplier

    shift = property(lambda self: self._shift)
    scale = property(lambda self: self._matrix)

    def _scale_for(self, x: Tensor) -> Any:
        """The matrix; of an identity's multiple as large as x is."""
        if self._matrix is not None:
            return self._matrix
        like = array_ops.ones_like(x)
        return _Diagonal(like if self._multiplier is None else like * array_ops.expand_dims(self._multiplier, -1))

    def _forward(self, x: Tensor) -> Tensor:
        y = self._scale_for(x).matvec(x)
        return y if self._shift is None else y + self._shift

    def _inverse(self, y: Tensor) -> Tensor:
        y = y if self._shift is None else y - self._shift
        return self._scale_for(y).solve(y)

    def _forward_log_det_jacobian(self, x: Tensor) -> Tensor:
        return self._scale_for(x).log_abs_determinant()


class SoftmaxCentered(Bijector):
    """y = softmax([x, 0]): a vector of k numbers as a point of the simplex of k + 1."""

    def __init__(self, validate_args: bool = False, name: str = "softmax_centered"):
        super().__init__(forward_min_event_ndims=1, validate_args=validate_args, name=name)

    def _forward_event_shape(self, shape: types.TensorShape) -> types.TensorShape:
        return shape[:-1].concatenate(shape[-1] + 1)

    def _inverse_event_shape(self, shape: types.TensorShape) -> types.TensorShape:
        return shape[:-1].concatenate(shape[-1] - 1)

    def _forward(self, x: Tensor) -> Tensor:
        return nn.softmax(array_ops.concat([x, array_ops.zeros_like(x[..., :1])], -1))

    def _inverse(self, y: Tensor) -> Tensor:
        log_y = math_ops.log(y)
        return log_y[..., :-1] - log_y[..., -1:]

    def _inverse_log_det_jacobian(self, y: Tensor) -> Tensor:
        size = math_ops.cast(array_ops.shape(y)[-1], y.dtype)
        return -0.5 * math_ops.log(size) - math_ops.reduce_sum(math_ops.log(y), -1)

    def _forward_log_det_jacobian(self, x: Tensor) -> Tensor:
        size = math_ops.cast(array_ops.shape(x)[-1], x.dtype) + 1.0
        largest = nn.softplus(math_ops.reduce_logsumexp(x, -1))
        return 0.5 * math_ops.log(size) + math_ops.reduce_sum(x, -1) - size * largest


class Permute(Bijector):
    """The last axis in another order.  Raises ValueError unless `permutation` holds each of 0 .. k - 1 once."""

    def __init__(self, permutation: Any, validate_args: bool = False, name: str = "permute"):
        import numpy as np

        self._order = np.asarray(permutation, np.int32)
        if not np.array_equal(np.sort(self._order), np.arange(len(self._order))):
            raise ValueError(f"Permutation over `d` must contain exactly one of each of `{{0, 1, ..., d}}`, got {permutation}")
        super().__init__(forward_min_event_ndims=1, is_constant_jacobian=True, validate_args=validate_args, name=name)

    permutation = property(lambda self: convert_to_tensor(self._order))

    def _forward(self, x: Tensor) -> Tensor:
        return array_ops.gather(x, self._order, axis=-1)

    def _inverse(self, y: Tensor) -> Tensor:
        return array_ops.gather(y, self._order.argsort().astype(self._order.dtype), axis=-1)

    def _forward_log_det_jacobian(self, x: Tensor) -> Tensor:
        return array_ops.zeros([], x.dtype)


class Inline(Bijector):
    """A bijector of functions."""

    def __init__(self, forward_fn: Callable[..., Any] | None = None, inverse_fn: Callable[..., Any] | None = None,
                 inverse_log_det_jacobian_fn: Callable[..., Any] | None = None,
                 forward_log_det_jacobian_fn: Callable[..., Any] | None = None,
                 forward_event_shape_fn: Callable[..., Any] | None = None, forward_event_shape_tensor_fn: Callable[..., Any] | None = None,
                 inverse_event_shape_fn: Callable[..., Any] | None = None, inverse_event_shape_tensor_fn: Callable[..., Any] | None = None,
                 is_constant_jacobian: bool = False, validate_args: bool = False, forward_min_event_ndims: int | None = None,
                 inverse_min_event_ndims: int | None = None, name: str = "inline"):
        super().__init__(None, is_constant_jacobian, validate_args, None, forward_min_event_ndims, inverse_min_event_ndims, name)
        for attribute, fn in (("_forward", forward_fn), ("_inverse", inverse_fn),
                              ("_inverse_log_det_jacobian", inverse_log_det_jacobian_fn),
                              ("_forward_log_det_jacobian", forward_log_det_jacobian_fn), ("_forward_event_shape", forward_event_shape_fn),
                              ("_inverse_event_shape", inverse_event_shape_fn)):
            if fn is not None:
                setattr(self, attribute, fn)


class Invert(Bijector):
    """The inverse of another bijector."""

    def __init__(self, bijector: Bijector, validate_args: bool = False, name: str | None = None):
        self._bijector = bijector
        super().__init__(bijector.graph_parents, bijector.is_constant_jacobian, validate_args, bijector.dtype,
                         bijector.inverse_min_event_ndims, bijector.forward_min_event_ndims, name or f"invert_{bijector.name}")

    bijector = property(lambda self: self._bijector)

    def _forward(self, x: Tensor) -> Tensor:
        return self._bijector.inverse(x)

    def _inverse(self, y: Tensor) -> Tensor:
        return self._bijector.forward(y)

    def _forward_log_det_jacobian(self, x: Tensor) -> Tensor:
        return self._bijector.inverse_log_det_jacobian(x, self._bijector.inverse_min_event_ndims)

    def _inverse_log_det_jacobian(self, y: Tensor) -> Tensor:
        return self._bijector.forward_log_det_jacobian(y, self._bijector.forward_min_event_ndims)

    def _forward_event_shape(self, shape: types.TensorShape) -> types.TensorShape:
        return self._bijector.inverse_event_shape(shape)

    def _inverse_event_shape(self, shape: types.TensorShape) -> types.TensorShape:
        return self._bijector.forward_event_shape(shape)


class Chain(Bijector):
    """y = bijectors[0](bijectors[1](...(x)))."""

    def __init__(self, bijectors: Any = None, validate_args: bool = False, name: str | None = None):
        self._bijectors = list(bijectors or ())
        dtypes = {b.dtype for b in self._bijectors if b.dtype is not None}
        if len(dtypes) > 1:
            raise ValueError(f"incompatible dtypes: {sorted(d.name for d in dtypes)}")
        least = max((b.forward_min_event_ndims for b in self._bijectors), default=0)
        inverse = max((b.inverse_min_event_ndims for b in self._bijectors), default=0)
        default = "_of_".join(["chain", *(b.name for b in self._bijectors)]) if self._bijectors else "identity"
        super().__init__(None, all(b.is_constant_jacobian for b in self._bijectors), validate_args, next(iter(dtypes), None), least,
                         inverse, name or default)

    bijectors = property(lambda self: self._bijectors)

    def _forward(self, x: Tensor) -> Tensor:
        for b in reversed(self._bijectors):
            x = b.forward(x)
        return x

    def _inverse(self, y: Tensor) -> Tensor:
        for b in self._bijectors:
            y = b.inverse(y)
        return y

    def _forward_log_det_jacobian(self, x: Tensor) -> Tensor:
        total, ndims = array_ops.zeros([], x.dtype), self._forward_min
        for b in reversed(self._bijectors):
            total = total + b.forward_log_det_jacobian(x, ndims)
            x, ndims = b.forward(x), ndims + b.inverse_min_event_ndims - b.forward_min_event_ndims
        return total

    def _inverse_log_det_jacobian(self, y: Tensor) -> Tensor:
        total, ndims = array_ops.zeros([], y.dtype), self._inverse_min
        for b in self._bijectors:
            total = total + b.inverse_log_det_jacobian(y, ndims)
            y, ndims = b.inverse(y), ndims + b.forward_min_event_ndims - b.inverse_min_event_ndims
        return total

    def _forward_event_shape(self, shape: types.TensorShape) -> types.TensorShape:
        for b in reversed(self._bijectors):
            shape = b.forward_event_shape(shape)
        return shape

    def _inverse_event_shape(self, shape: types.TensorShape) -> types.TensorShape:
        for b in self._bijectors:
            shape = b.inverse_event_shape(shape)
        return shape
