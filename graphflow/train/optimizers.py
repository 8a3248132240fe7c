"""The optimizers: each is its slots and its update formula, as in TensorFlow 1.15's training ops.

Each `_update` is the formula of one element; `at` reads and writes whole variables or the rows of an IndexedSlices.
"""
from __future__ import annotations

import math
from typing import Any

from .. import graph, math_ops, types
from ..graph import Tensor
from ..ops import scatter_state, sparse_rows, state
from ..ops.indexed_slices import IndexedSlices
from ..ops.opdef import convert_to_tensor
from .optimizer import Optimizer, TensorOf, Whole, as_type, hyper, start_of


class GradientDescentOptimizer(Optimizer):
    """var -= learning_rate * gradient."""

    def __init__(self, learning_rate: Any, use_locking: bool = False, name: str = "GradientDescent"):
        super().__init__(use_locking, name)
        self._learning_rate = learning_rate

    _learning_rate_tensor = TensorOf("_learning_rate")

    def _update(self, gradient: Tensor, var: Any, at: Whole) -> list[Tensor]:
        return [at.subtract(var, as_type(self._learning_rate, var) * gradient)]

    def _apply_sparse_duplicate_indices(self, grad: IndexedSlices, var: Any) -> list[Tensor]:
        return [scatter_state.scatter_sub(var, grad.indices, as_type(self._learning_rate, var) * grad.values)]  # it adds up by itself


class MomentumOptimizer(Optimizer):
    """accumulation = momentum * accumulation + gradient; var -= learning_rate * accumulation.

    With `use_nesterov`, var -= learning_rate * (gradient + momentum * accumulation) (Sutskever et al. 2013, as TF writes it).
    """

    def __init__(self, learning_rate: Any, momentum: Any, use_locking: bool = False, name: str = "Momentum", use_nesterov: bool = False):
        super().__init__(use_locking, name)
        self._learning_rate, self._momentum, self._use_nesterov = learning_rate, momentum, use_nesterov

    _learning_rate_tensor, _momentum_tensor = TensorOf("_learning_rate"), TensorOf("_momentum")

    def _create_slots(self, var_list: list[Any]) -> None:
        for v in var_list:
            self._make_slot(v, "momentum")

    def _update(self, gradient: Tensor, var: Any, at: Whole) -> list[Tensor]:
        slot, rate, momentum = self.get_slot(var, "momentum"), as_type(self._learning_rate, var), as_type(self._momentum, var)
        accumulation = at.read(slot) * momentum + gradient
        step = gradient + accumulation * momentum if self._use_nesterov else accumulation
        return [at.write(slot, accumulation), at.subtract(var, rate * step)]


class AdamOptimizer(Optimizer):
    """Adam (Kingma and Ba 2014), in the form before its section 2.1's last paragraph ("epsilon hat"), as TF1.

    lr_t = learning_rate * sqrt(1 - beta2^t) / (1 - beta1^t); m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2;
    var -= lr_t * m / (sqrt(v) + epsilon).  Where the gradient is an IndexedSlices, the rows it does not name move too, as their
    m and v decay: one pass over the variable.  `tf.contrib.opt.LazyAdamOptimizer` leaves them alone.
    """

    _lr_t, _beta1_t, _beta2_t, _epsilon_t = (TensorOf(a) for a in ("_lr", "_beta1", "_beta2", "_epsilon"))

    def __init__(self, learning_rate: Any = 0.001, beta1: Any = 0.9, beta2: Any = 0.999, epsilon: Any = 1e-8, use_locking: bool = False,
                 name: str = "Adam"):
        super().__init__(use_locking, name)
        self._lr, self._beta1, self._beta2, self._epsilon = learning_rate, beta1, beta2, epsilon

    def _create_slots(self, var_list: list[Any]) -> None:
        first = min(var_list, key=lambda v: v.name)
        self._create_non_slot_variable(_initial(self._beta1, first), "beta1_power", first)
        self._create_non_slot_variable(_initial(self._beta2, first), "beta2_power", first)
        for v in var_list:
            self._zeros_slot(v, "m", self._name)
            self._zeros_slot(v, "v", self._name)

    def _get_beta_accumulators(self) -> tuple[Any, Any]:
        g = graph.get_default_graph()
        return self._get_non_slot_variable("beta1_power", g), self._get_non_slot_variable("beta2_power", g)

    def _prepare(self) -> None:
        power1, power2 = (p.value() for p in self._get_beta_accumulators())
        self._rate = as_type(self._lr, power1) * math_ops.sqrt(1.0 - power2) / (1.0 - power1)

    def _update(self, gradient: Tensor, var: Any, at: Whole) -> list[Tensor]:
        m, v = self.get_slot(var, "m"), self.get_slot(var, "v")
        beta1, beta2, epsilon, rate = (as_type(x, var) for x in (self._beta1, self._beta2, self._epsilon, self._rate))
        new_m = at.read(m) * beta1 + gradient * (1.0 - beta1)
        new_v = at.read(v) * beta2 + gradient * gradient * (1.0 - beta2)
        return [at.write(m, new_m), at.write(v, new_v), at.subtract(var, rate * new_m / (math_ops.sqrt(new_v) + epsilon))]

    def _update_rows(self, values: Tensor, indices: Tensor, var: Any) -> list[Tensor]:
        sizes = var.shape.as_list()
        if None not in sizes and math.prod(sizes) <= sparse_rows.SMALL:
            dense: Any = IndexedSlices(values, indices, sizes)._to_dense()
        else:
            dense = sparse_rows.spread(*sparse_rows.summed_rows(values, indices, sizes[0]), indices, var.value())
        return self._update(dense, var, Whole())

    def _finish(self, update_ops: list[Any], name_scope: str) -> Any:
        power1, power2 = self._get_beta_accumulators()
        with graph.get_default_graph().control_dependencies(update_ops):
            more = [state.assign(p, p * as_type(beta, p)) for p, beta in ((power1, self._beta1), (power2, self._beta2))]
        return super()._finish([*update_ops, *more], name_scope)


class LazyAdamOptimizer(AdamOptimizer):
    """Adam that, for a gradient of IndexedSlices, updates m, v and the variable only in the rows that it names.

    `tf.contrib.opt.LazyAdamOptimizer`: other results than Adam's, and no cost for rows that a step does not touch.
    """

    def _update_rows(self, values: Tensor, indices: Tensor, var: Any) -> list[Tensor]:
        return Optimizer._update_rows(self, values, indices, var)


def _initial(value: Any, like: Any) -> Any:
    """A hyperparameter as the initial value of a scalar: float64 beside float64 variables (TF1 loses their precision here), else
    float32.
    """
    value = hyper(value)
    wide = types.float64 if like.dtype.base_dtype is types.float64 else types.float32
    return convert_to_tensor(float(value), wide) if isinstance(value, (int, float)) else value


class RMSPropOptimizer(Optimizer):
    """RMSProp (Hinton, Coursera lecture 6e), with momentum, as TF1.

    ms = decay ms + (1 - decay) g^2; mom = momentum mom + learning_rate g / sqrt(ms + epsilon); var -= mom.
    `centered` also keeps mg = decay mg + (1 - decay) g and divides by sqrt(ms - mg^2 + epsilon).  ms starts from 1.
    """

    def __init__(self, learning_rate: Any, decay: Any = 0.9, momentum: Any = 0.0, epsilon: Any = 1e-10, use_locking: bool = False,
                 centered: bool = False, name: str = "RMSProp"):
        super().__init__(use_locking, name)
        self._learning_rate, self._decay, self._momentum, self._epsilon, self._centered = learning_rate, decay, momentum, epsilon, centered

    def _create_slots(self, var_list: list[Any]) -> None:
        for v in var_list:
            self._make_slot(v, "rms", start_of(v, 1.0))
            if self._centered:
                self._make_slot(v, "mg")
            self._make_slot(v, "momentum")

    def _update(self, gradient: Tensor, var: Any, at: Whole) -> list[Tensor]:
        ms, mom = self.get_slot(var, "rms"), self.get_slot(var, "momentum")
        decay, momentum, epsilon, rate = (as_type(x, var) for x in (self._decay, self._momentum, self._epsilon, self._learning_rate))
        new_ms = at.read(ms) * decay + gradient * gradient * (1.0 - decay)
        variance, writes = new_ms, []
        if self._centered:
            mg = self.get_slot(var, "mg")
            new_mg = at.read(mg) * decay + gradient * (1.0 - decay)
            variance = new_ms - new_mg * new_mg
            writes = [at.write(mg, new_mg)]
        new_mom = at.read(mom) * momentum + rate * gradient * math_ops.rsqrt(variance + epsilon)
        return [at.write(ms, new_ms), *writes, at.write(mom, new_mom), at.subtract(var, new_mom)]


class AdagradOptimizer(Optimizer):
    """Adagrad (Duchi et al. 2011): accumulator += g^2; var -= learning_rate * g / sqrt(accumulator)."""

    def __init__(self, learning_rate: Any, initial_accumulator_value: float = 0.1, use_locking: bool = False, name: str = "Adagrad"):
        _positive(initial_accumulator_value)
        super().__init__(use_locking, name)
        self._learning_rate, self._initial_accumulator_value = learning_rate, initial_accumulator_value

    def _create_slots(self, var_list: list[Any]) -> None:
        for v in var_list:
            self._make_slot(v, "accumulator", start_of(v, self._initial_accumulator_value))

    def _update(self, gradient: Tensor, var: Any, at: Whole) -> list[Tensor]:
        accumulator = self.get_slot(var, "accumulator")
        new = at.read(accumulator) + gradient * gradient
        return [at.write(accumulator, new), at.subtract(var, as_type(self._learning_rate, var) * gradient * math_ops.rsqrt(new))]


def _positive(value: float, what: str = "initial_accumulator_value", zero: bool = False) -> None:
    if value < 0 or value == 0 and not zero:
        raise ValueError(f"{what} must be {'non-negative' if zero else 'positive'}: {value}")


class AdadeltaOptimizer(Optimizer):
    """Adadelta (Zeiler 2012): accum = rho accum + (1 - rho) g^2; update = sqrt(accum_update + eps) / sqrt(accum + eps) g;
    accum_update = rho accum_update + (1 - rho) update^2; var -= learning_rate * update."""

    def __init__(self, learning_rate: Any = 0.001, rho: Any = 0.95, epsilon: Any = 1e-8, use_locking: bool = False, name: str = "Adadelta"):
        super().__init__(use_locking, name)
        self._lr, self._rho, self._epsilon = learning_rate, rho, epsilon

    def _create_slots(self, var_list: list[Any]) -> None:
        for v in var_list:
            self._make_slot(v, "accum")
            self._make_slot(v, "accum_update")

    def _update(self, gradient: Tensor, var: Any, at: Whole) -> list[Tensor]:
        accum, accum_update = self.get_slot(var, "accum"), self.get_slot(var, "accum_update")
        rho, epsilon, rate = (as_type(x, var) for x in (self._rho, self._epsilon, self._lr))
        new, old_update = at.read(accum) * rho + gradient * gradient * (1.0 - rho), at.read(accum_update)
        update = math_ops.sqrt(old_update + epsilon) * math_ops.rsqrt(new + epsilon) * gradient
        new_update = old_update * rho + update * update * (1.0 - rho)
        return [at.write(accum, new), at.write(accum_update, new_update), at.subtract(var, update * rate)]


def _shrink(x: Tensor, by: Any) -> Tensor:
    """sign(x) max(|x| - by, 0), the proximal step of an L1 norm."""
    return math_ops.sign(x) * math_ops.maximum(math_ops.abs(x) - by, 0.0)


class FtrlOptimizer(Optimizer):
    """FTRL-proximal (McMahan et al. 2013, "Ad click prediction", algorithm 1), with TF1's shrinkage term.

    accum_new = accum + g^2; sigma = (accum_new^-p - accum^-p) / learning_rate; linear += g' - sigma var;
    quadratic = accum_new^-p / learning_rate + 2 l2; var = (sign(linear) l1 - linear) / quadratic where |linear| > l1, else 0;
    p is `learning_rate_power`, g' = g + 2 l2_shrinkage var.
    """

    def __init__(self, learning_rate: Any, learning_rate_power: float = -0.5, initial_accumulator_value: float = 0.1,
                 l1_regularization_strength: float = 0.0, l2_regularization_strength: float = 0.0, use_locking: bool = False,
                 name: str = "Ftrl", accum_name: str | None = None, linear_name: str | None = None,
                 l2_shrinkage_regularization_strength: float = 0.0):
        super().__init__(use_locking, name)
        _positive(initial_accumulator_value, zero=True)
        for what, value in (("l1_regularization_strength", l1_regularization_strength),
                            ("l2_regularization_strength", l2_regularization_strength),
                            ("l2_shrinkage_regularization_strength", l2_shrinkage_regularization_strength)):
            _positive(value, what, zero=True)
        if learning_rate_power > 0:
            raise ValueError(f"learning_rate_power {learning_rate_power} needs to be negative or zero")
        self._learning_rate, self._power, self._initial_accumulator_value = learning_rate, learning_rate_power, initial_accumulator_value
        self._l1, self._l2, self._shrinkage = l1_regularization_strength, l2_regularization_strength, l2_shrinkage_regularization_strength
        self._accum_name, self._linear_name = accum_name, linear_name

    def _create_slots(self, var_list: list[Any]) -> None:
        for v in var_list:
            self._make_slot(v, "accum", start_of(v, self._initial_accumulator_value), self._accum_name)
            self._make_slot(v, "linear", None, self._linear_name)

    def _update(self, gradient: Tensor, var: Any, at: Whole) -> list[Tensor]:
        slot, linear, old = self.get_slot(var, "accum"), self.get_slot(var, "linear"), at.read(var)
        rate, l1, l2 = (as_type(x, var) for x in (self._learning_rate, self._l1, self._l2))
        accum = at.read(slot)
        new = accum + gradient * gradient
        root, old_root = (math_ops.sqrt(a) if self._power == -0.5 else math_ops.pow(a, -self._power) for a in (new, accum))
        shrunk = gradient + old * (2.0 * self._shrinkage) if self._shrinkage else gradient
        new_linear = at.read(linear) + shrunk - (root - old_root) / rate * old
        return [at.write(slot, new), at.write(linear, new_linear),
                at.write(var, -_shrink(new_linear, l1) / (root / rate + l2 * 2.0))]


class ProximalGradientDescentOptimizer(Optimizer):
    """Gradient descent followed by the proximal step of l1 |var| + l2/2 var^2 (Duchi and Singer 2009)."""

    def __init__(self, learning_rate: Any, l1_regularization_strength: float = 0.0, l2_regularization_strength: float = 0.0,
                 use_locking: bool = False, name: str = "ProximalGradientDescent"):
        super().__init__(use_locking, name)
        self._learning_rate, self._l1, self._l2 = learning_rate, l1_regularization_strength, l2_regularization_strength

    def _update(self, gradient: Tensor, var: Any, at: Whole) -> list[Tensor]:
        rate = as_type(self._learning_rate, var)
        return [at.write(var, _shrink(at.read(var) - rate * gradient, rate * self._l1) / (1.0 + rate * self._l2))]


class ProximalAdagradOptimizer(Optimizer):
    """Adagrad followed by the proximal step of l1 |var| + l2/2 var^2 at each element's own rate."""

    def __init__(self, learning_rate: Any, initial_accumulator_value: float = 0.1, l1_regularization_strength: float = 0.0,
                 l2_regularization_strength: float = 0.0, use_locking: bool = False, name: str = "ProximalAdagrad"):
        _positive(initial_accumulator_value)
        super().__init__(use_locking, name)
        self._learning_rate, self._initial_accumulator_value = learning_rate, initial_accumulator_value
        self._l1, self._l2 = l1_regularization_strength, l2_regularization_strength

    def _create_slots(self, var_list: list[Any]) -> None:
        for v in var_list:
            self._make_slot(v, "accumulator", start_of(v, self._initial_accumulator_value))

    def _update(self, gradient: Tensor, var: Any, at: Whole) -> list[Tensor]:
        accumulator = self.get_slot(var, "accumulator")
        new = at.read(accumulator) + gradient * gradient
        rate = as_type(self._learning_rate, var) * math_ops.rsqrt(new)
        return [at.write(accumulator, new),
                at.write(var, _shrink(at.read(var) - rate * gradient, rate * self._l1) / (1.0 + rate * self._l2))]


class AdagradDAOptimizer(Optimizer):
    """Adagrad with dual averaging (Duchi et al. 2011, section 1): var is a function of the sums of g and g^2 alone.

    var = -shrink(sum g, l1 t) / (l2 t + sqrt(sum g^2) / learning_rate), where t is `global_step` + 1.
    """

    def __init__(self, learning_rate: Any, global_step: Any, initial_gradient_squared_accumulator_value: float = 0.1,
                 l1_regularization_strength: float = 0.0, l2_regularization_strength: float = 0.0, use_locking: bool = False,
                 name: str = "AdagradDA"):
        _positive(initial_gradient_squared_accumulator_value, "initial_gradient_squared_accumulator_value")
        super().__init__(use_locking, name)
        self._learning_rate, self._global_step = learning_rate, global_step
        self._initial = initial_gradient_squared_accumulator_value
        self._l1, self._l2 = l1_regularization_strength, l2_regularization_strength

    def _create_slots(self, var_list: list[Any]) -> None:
        for v in var_list:
            self._make_slot(v, "gradient_accumulator")
            self._make_slot(v, "gradient_squared_accumulator", start_of(v, self._initial))

    def _update(self, gradient: Tensor, var: Any, at: Whole) -> list[Tensor]:
        total, squares = self.get_slot(var, "gradient_accumulator"), self.get_slot(var, "gradient_squared_accumulator")
        rate, step = as_type(self._learning_rate, var), as_type(self._global_step, var) + 1.0
        new, new_squares = at.read(total) + gradient, at.read(squares) + gradient * gradient
        return [at.write(total, new), at.write(squares, new_squares),
                at.write(var, -_shrink(new, step * self._l1) / (step * self._l2 + math_ops.sqrt(new_squares) / rate))]
