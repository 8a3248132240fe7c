"""The optimizers: each is its slots and its update formula, as in TensorFlow 1.15's training ops.

In `_apply`, `var`, `self.get_slot(...)` are read before they are written; the writes are in program order.
"""
from __future__ import annotations

from typing import Any

from .. import math_ops, types
from ..graph import Tensor
from ..ops import state
from ..ops.opdef import convert_to_tensor
from .optimizer import Optimizer, as_type, hyper, start_of


class GradientDescentOptimizer(Optimizer):
    """var -= learning_rate * gradient."""

    def __init__(self, learning_rate: Any, use_locking: bool = False, name: str = "GradientDescent"):
        super().__init__(use_locking, name)
        self._learning_rate = learning_rate

    def _apply(self, gradient: Tensor, var: Any) -> list[Tensor]:
        return [state.assign_sub(var, as_type(self._learning_rate, var) * gradient)]


class MomentumOptimizer(Optimizer):
    """accumulation = momentum * accumulation + gradient; var -= learning_rate * accumulation.

    With `use_nesterov`, var -= learning_rate * (gradient + momentum * accumulation) (Sutskever et al. 2013, as TF writes it).
    """

    def __init__(self, learning_rate: Any, momentum: Any, use_locking: bool = False, name: str = "Momentum", use_nesterov: bool = False):
        super().__init__(use_locking, name)
        self._learning_rate, self._momentum, self._use_nesterov = learning_rate, momentum, use_nesterov

    def _create_slots(self, var_list: list[Any]) -> None:
        for v in var_list:
            self._make_slot(v, "momentum")

    def _apply(self, gradient: Tensor, var: Any) -> list[Tensor]:
        slot, rate, momentum = self.get_slot(var, "momentum"), as_type(self._learning_rate, var), as_type(self._momentum, var)
        accumulation = slot * momentum + gradient
        step = gradient + accumulation * momentum if self._use_nesterov else accumulation
        return [state.assign(slot, accumulation), state.assign_sub(var, rate * step)]


class AdamOptimizer(Optimizer):
    """Adam (Kingma and Ba 2014), in the form before its section 2.1's last paragraph ("epsilon hat"), as TF1.

    lr_t = learning_rate * sqrt(1 - beta2^t) / (1 - beta1^t); m = beta1 m + (1 - beta1) g; v = beta2 v + (1 - beta2) g^2;
    var -= lr_t * m / (sqrt(v) + epsilon).
    """

    def __init__(self, learning_rate: Any = 0.001, beta1: Any = 0.9, beta2: Any = 0.999, epsilon: Any = 1e-8, use_locking: bool = False,
                 name: str = "Adam"):
        super().__init__(use_locking, name)
        self._lr, self._beta1, self._beta2, self._epsilon = learning_rate, beta1, beta2, epsilon

    def _create_slots(self, var_list: list[Any]) -> None:
        first = min(var_list, key=lambda v: v.name)
        self._make_shared(_initial(self._beta1, first), "beta1_power", first)
        self._make_shared(_initial(self._beta2, first), "beta2_power", first)
        for v in var_list:
            self._make_slot(v, "m")
            self._make_slot(v, "v")

    def _get_beta_accumulators(self) -> tuple[Any, Any]:
        return self._get_shared("beta1_power"), self._get_shared("beta2_power")

    def _prepare(self) -> None:
        power1, power2 = (p.value() for p in self._get_beta_accumulators())
        self._lr_t = as_type(self._lr, power1) * math_ops.sqrt(1.0 - power2) / (1.0 - power1)

    def _apply(self, gradient: Tensor, var: Any) -> list[Tensor]:
        m, v = self.get_slot(var, "m"), self.get_slot(var, "v")
        beta1, beta2, epsilon, rate = (as_type(x, var) for x in (self._beta1, self._beta2, self._epsilon, self._lr_t))
        new_m = m * beta1 + gradient * (1.0 - beta1)
        new_v = v * beta2 + gradient * gradient * (1.0 - beta2)
        return [state.assign(m, new_m), state.assign(v, new_v), state.assign_sub(var, rate * new_m / (math_ops.sqrt(new_v) + epsilon))]

    def _finish(self) -> list[Tensor]:
        power1, power2 = self._get_beta_accumulators()
        return [state.assign(power1, power1 * as_type(self._beta1, power1)), state.assign(power2, power2 * as_type(self._beta2, power2))]


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

    def _apply(self, gradient: Tensor, var: Any) -> list[Tensor]:
        ms, mom = self.get_slot(var, "rms"), self.get_slot(var, "momentum")
        decay, momentum, epsilon, rate = (as_type(x, var) for x in (self._decay, self._momentum, self._epsilon, self._learning_rate))
        new_ms = ms * decay + gradient * gradient * (1.0 - decay)
        variance, writes = new_ms, []
        if self._centered:
            mg = self.get_slot(var, "mg")
            new_mg = mg * decay + gradient * (1.0 - decay)
            variance = new_ms - new_mg * new_mg
            writes = [state.assign(mg, new_mg)]
        new_mom = mom * momentum + rate * gradient * math_ops.rsqrt(variance + epsilon)
        return [state.assign(ms, new_ms), *writes, state.assign(mom, new_mom), state.assign_sub(var, new_mom)]


class AdagradOptimizer(Optimizer):
    """Adagrad (Duchi et al. 2011): accumulator += g^2; var -= learning_rate * g / sqrt(accumulator)."""

    def __init__(self, learning_rate: Any, initial_accumulator_value: float = 0.1, use_locking: bool = False, name: str = "Adagrad"):
        _positive(initial_accumulator_value)
        super().__init__(use_locking, name)
        self._learning_rate, self._initial_accumulator_value = learning_rate, initial_accumulator_value

    def _create_slots(self, var_list: list[Any]) -> None:
        for v in var_list:
            self._make_slot(v, "accumulator", start_of(v, self._initial_accumulator_value))

    def _apply(self, gradient: Tensor, var: Any) -> list[Tensor]:
        accumulator = self.get_slot(var, "accumulator")
        new = accumulator + gradient * gradient
        return [state.assign(accumulator, new), state.assign_sub(var, as_type(self._learning_rate, var) * gradient * math_ops.rsqrt(new))]


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

    def _apply(self, gradient: Tensor, var: Any) -> list[Tensor]:
        accum, accum_update = self.get_slot(var, "accum"), self.get_slot(var, "accum_update")
        rho, epsilon, rate = (as_type(x, var) for x in (self._rho, self._epsilon, self._lr))
        new = accum * rho + gradient * gradient * (1.0 - rho)
        update = math_ops.sqrt(accum_update + epsilon) * math_ops.rsqrt(new + epsilon) * gradient
        new_update = accum_update * rho + update * update * (1.0 - rho)
        return [state.assign(accum, new), state.assign(accum_update, new_update), state.assign_sub(var, update * rate)]


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

    def _apply(self, gradient: Tensor, var: Any) -> list[Tensor]:
        accum, linear, old = self.get_slot(var, "accum").value(), self.get_slot(var, "linear"), var.value()
        rate, l1, l2 = (as_type(x, var) for x in (self._learning_rate, self._l1, self._l2))
        new = accum + gradient * gradient
        root, old_root = (math_ops.sqrt(a) if self._power == -0.5 else math_ops.pow(a, -self._power) for a in (new, accum))
        shrunk = gradient + old * (2.0 * self._shrinkage) if self._shrinkage else gradient
        new_linear = linear + shrunk - (root - old_root) / rate * old
        return [state.assign(self.get_slot(var, "accum"), new), state.assign(linear, new_linear),
                state.assign(var, -_shrink(new_linear, l1) / (root / rate + l2 * 2.0))]


class ProximalGradientDescentOptimizer(Optimizer):
    """Gradient descent followed by the proximal step of l1 |var| + l2/2 var^2 (Duchi and Singer 2009)."""

    def __init__(self, learning_rate: Any, l1_regularization_strength: float = 0.0, l2_regularization_strength: float = 0.0,
                 use_locking: bool = False, name: str = "ProximalGradientDescent"):
        super().__init__(use_locking, name)
        self._learning_rate, self._l1, self._l2 = learning_rate, l1_regularization_strength, l2_regularization_strength

    def _apply(self, gradient: Tensor, var: Any) -> list[Tensor]:
        rate = as_type(self._learning_rate, var)
        return [state.assign(var, _shrink(var - rate * gradient, rate * self._l1) / (1.0 + rate * self._l2))]


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

    def _apply(self, gradient: Tensor, var: Any) -> list[Tensor]:
        accumulator = self.get_slot(var, "accumulator")
        new = accumulator + gradient * gradient
        rate = as_type(self._learning_rate, var) * math_ops.rsqrt(new)
        return [state.assign(accumulator, new),
                state.assign(var, _shrink(var - rate * gradient, rate * self._l1) / (1.0 + rate * self._l2))]


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

    def _apply(self, gradient: Tensor, var: Any) -> list[Tensor]:
        total, squares = self.get_slot(var, "gradient_accumulator"), self.get_slot(var, "gradient_squared_accumulator")
        rate, step = as_type(self._learning_rate, var), as_type(self._global_step, var) + 1.0
        new, new_squares = total + gradient, squares + gradient * gradient
        return [state.assign(total, new), state.assign(squares, new_squares),
                state.assign(var, -_shrink(new, step * self._l1) / (step * self._l2 + math_ops.sqrt(new_squares) / rate))]
