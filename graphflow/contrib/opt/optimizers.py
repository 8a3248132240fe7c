"""Optimizers beyond those of `tf.train`: each is its formula, or a change to that of another optimizer."""
from __future__ import annotations

import math
from typing import Any, Callable

from ... import array_ops, clip_ops, control_flow_ops, graph, math_ops
from ...graph import GraphKeys, Operation, Tensor
from ...ops import sparse_rows, state
from ...ops.indexed_slices import IndexedSlices
from ...train import AdamOptimizer, ExponentialMovingAverage, MomentumOptimizer, Optimizer, Saver
from ...train.optimizer import Rows, Whole, as_type
from ...train.optimizers import LazyAdamOptimizer, _initial

__all__ = ["AdaMaxOptimizer", "AdamWOptimizer", "AddSignOptimizer", "DecoupledWeightDecayExtension", "LazyAdamOptimizer",
           "MomentumWOptimizer", "MovingAverageOptimizer", "NadamOptimizer", "PowerSignOptimizer", "VariableClippingOptimizer",
           "clip_gradients_by_global_norm", "extend_with_decoupled_weight_decay"]


class NadamOptimizer(AdamOptimizer):
    """Adam with Nesterov momentum (Dozat 2016): the step is along beta1 m + (1 - beta1) g, m already updated."""

    def _update(self, gradient: Tensor, var: Any, at: Whole) -> list[Tensor]:
        m, v = self.get_slot(var, "m"), self.get_slot(var, "v")
        beta1, beta2, epsilon, rate = (as_type(x, var) for x in (self._beta1, self._beta2, self._epsilon, self._rate))
        new_m = at.read(m) * beta1 + gradient * (1.0 - beta1)
        new_v = at.read(v) * beta2 + gradient * gradient * (1.0 - beta2)
        step = rate * (new_m * beta1 + gradient * (1.0 - beta1)) / (math_ops.sqrt(new_v) + epsilon)
        return [at.write(m, new_m), at.write(v, new_v), at.subtract(var, step)]

    def _update_rows(self, values: Tensor, indices: Tensor, var: Any) -> list[Tensor]:
        """As TF1: m and v decay in all rows, the variable moves in those that the gradient names."""
        m, v = self.get_slot(var, "m"), self.get_slot(var, "v")
        beta1, beta2, epsilon, rate = (as_type(x, var) for x in (self._beta1, self._beta2, self._epsilon, self._rate))
        sums, first = sparse_rows.summed_rows(values, indices)
        dense, rows = sparse_rows.spread(sums, first, indices, var.value()), Rows(indices)
        writes = [state.assign(m, m * beta1 + dense * (1.0 - beta1)), state.assign(v, v * beta2 + dense * dense * (1.0 - beta2))]
        with graph.get_default_graph().control_dependencies(writes):
            step = rate * (rows.read(m) * beta1 + sums * (1.0 - beta1)) / (math_ops.sqrt(rows.read(v)) + epsilon)
            return [*writes, rows.subtract(var, step)]


class AdaMaxOptimizer(AdamOptimizer):
    """AdaMax (Kingma and Ba 2014, section 7.1): v = max(beta2 v, |g|); var -= learning_rate / (1 - beta1^t) * m / (v + epsilon).

    Rows that an IndexedSlices does not name stay as they are.
    """

    def __init__(self, learning_rate: Any = 0.001, beta1: Any = 0.9, beta2: Any = 0.999, epsilon: Any = 1e-8, use_locking: bool = False,
                 name: str = "AdaMax"):
        super().__init__(learning_rate, beta1, beta2, epsilon, use_locking, name)

    def _create_slots(self, var_list: list[Any]) -> None:
        first = min(var_list, key=lambda v: v.name)
        self._create_non_slot_variable(_initial(self._beta1, first), "beta1_power", first)
        for v in var_list:
            self._zeros_slot(v, "m", self._name)
            self._zeros_slot(v, "v", self._name)

    def _get_beta_accumulators(self) -> Any:
        return self._get_non_slot_variable("beta1_power", graph.get_default_graph())

    def _prepare(self) -> None:
        power = self._get_beta_accumulators().value()
        self._rate = as_type(self._lr, power) / (1.0 - power)

    def _update(self, gradient: Tensor, var: Any, at: Whole) -> list[Tensor]:
        m, v = self.get_slot(var, "m"), self.get_slot(var, "v")
        beta1, beta2, epsilon, rate = (as_type(x, var) for x in (self._beta1, self._beta2, self._epsilon, self._rate))
        new_m = at.read(m) * beta1 + gradient * (1.0 - beta1)
        new_v = math_ops.maximum(at.read(v) * beta2, math_ops.abs(gradient))
        return [at.write(m, new_m), at.write(v, new_v), at.subtract(var, rate * new_m / (new_v + epsilon))]

    def _update_rows(self, values: Tensor, indices: Tensor, var: Any) -> list[Tensor]:
        return Optimizer._update_rows(self, values, indices, var)

    def _finish(self, update_ops: list[Any], name_scope: str) -> Any:
        power = self._get_beta_accumulators()
        with graph.get_default_graph().control_dependencies(update_ops):
            more = state.assign(power, power * as_type(self._beta1, power))
        return Optimizer._finish(self, [*update_ops, more], name_scope)


class _Sign(Optimizer):
    """var -= learning_rate * multiplier(decay * sign(g) sign(m)) * g, m the average of g (Bello et al. 2017)."""

    def __init__(self, learning_rate: Any, beta: Any, sign_decay_fn: Callable[[Any], Any] | None, use_locking: bool, name: str):
        super().__init__(use_locking, name)
        self._lr, self._beta, self._sign_decay_fn = learning_rate, beta, sign_decay_fn
        self._sign_decay: Any = 1.0

    def apply_gradients(self, grads_and_vars: Any, global_step: Any = None, name: str | None = None) -> Operation:
        if self._sign_decay_fn is not None:
            self._sign_decay = self._sign_decay_fn(global_step)
        return super().apply_gradients(grads_and_vars, global_step, name)

    def _create_slots(self, var_list: list[Any]) -> None:
        for v in var_list:
            self._zeros_slot(v, "m", self._name)

    def _update(self, gradient: Tensor, var: Any, at: Whole) -> list[Tensor]:
        m, beta = self.get_slot(var, "m"), as_type(self._beta, var)
        new_m = at.read(m) * beta + gradient * (1.0 - beta)
        agreement = as_type(self._sign_decay, var) * math_ops.sign(gradient) * math_ops.sign(new_m)
        return [at.write(m, new_m), at.subtract(var, as_type(self._lr, var) * self._multiplier(agreement, var) * gradient)]

    def _update_rows(self, values: Tensor, indices: Tensor, var: Any) -> list[Tensor]:
        """m decays in all rows; where the gradient is zero the variable stays."""
        return self._update(sparse_rows.spread(*sparse_rows.summed_rows(values, indices), indices, var.value()), var, Whole())

    def _multiplier(self, agreement: Tensor, var: Any) -> Tensor:
        raise NotImplementedError


class PowerSignOptimizer(_Sign):
    """var -= learning_rate * base^(decay * sign(g) sign(m)) * g, m the average of g (Bello et al. 2017).

    Args:
        sign_decay_fn: the decay as a function of the global step; 1 by default.
    """

    def __init__(self, learning_rate: Any = 0.1, base: float = math.e, beta: Any = 0.9, sign_decay_fn: Any = None,
                 use_locking: bool = False, name: str = "PowerSignOptimizer"):
        super().__init__(learning_rate, beta, sign_decay_fn, use_locking, name)
        self._logbase = math.log(base)

    def _multiplier(self, agreement: Tensor, var: Any) -> Tensor:
        return math_ops.exp(agreement * as_type(self._logbase, var))


class AddSignOptimizer(_Sign):
    """var -= learning_rate * (alpha + decay * sign(g) sign(m)) * g, m the average of g (Bello et al. 2017).

    Args:
        sign_decay_fn: the decay as a function of the global step; 1 by default.
    """

    def __init__(self, learning_rate: Any = 0.1, alpha: Any = 1.0, beta: Any = 0.9, sign_decay_fn: Any = None, use_locking: bool = False,
                 name: str = "AddSignOptimizer"):
        super().__init__(learning_rate, beta, sign_decay_fn, use_locking, name)
        self._alpha = alpha

    def _multiplier(self, agreement: Tensor, var: Any) -> Tensor:
        return agreement + as_type(self._alpha, var)


# ---------------------------------------------------------------- weight decay


class DecoupledWeightDecayExtension(Optimizer):
    """Before another optimizer: var -= weight_decay * var, then its own step (Loshchilov and Hutter 2017).

    Args:
        weight_decay: a number, a tensor or a function of none; not multiplied by the learning rate.
    """

    def __init__(self, weight_decay: Any, *args: Any, **kwargs: Any):
        self._weight_decay = weight_decay
        self._decay_var_list: set[Any] | None = None
        super().__init__(*args, **kwargs)

    def minimize(self, loss: Any, global_step: Any = None, var_list: Any = None, gate_gradients: int = Optimizer.GATE_OP,
                 aggregation_method: Any = None, colocate_gradients_with_ops: bool = False, name: str | None = None,
                 grad_loss: Any = None, decay_var_list: Any = None) -> Operation:
        """`Optimizer.minimize`; only the variables of `decay_var_list` decay, if it is given."""
        pairs = self.compute_gradients(loss, var_list, gate_gradients, aggregation_method, colocate_gradients_with_ops, grad_loss)
        if not any(g is not None for g, _ in pairs):
            raise ValueError("No gradients provided for any variable, check your graph for ops that do not support gradients, "
                             f"between variables {[v.name for _, v in pairs]} and loss {loss!r}.")
        return self.apply_gradients(pairs, global_step, name, decay_var_list)

    def apply_gradients(self, grads_and_vars: Any, global_step: Any = None, name: str | None = None,
                        decay_var_list: Any = None) -> Operation:
        """`Optimizer.apply_gradients`; only the variables of `decay_var_list` decay, if it is given."""
        self._decay_var_list = set(decay_var_list) if decay_var_list else None
        return super().apply_gradients(grads_and_vars, global_step, name)

    def _decay(self, var: Any, at: Whole) -> list[Tensor]:
        if self._decay_var_list is not None and var not in self._decay_var_list:
            return []
        return [at.subtract(var, as_type(self._weight_decay, var) * at.read(var))]

    def _apply_dense(self, grad: Tensor, var: Any) -> Any:
        decayed = self._decay(var, Whole())
        with graph.get_default_graph().control_dependencies(decayed):
            return [*decayed, super()._apply_dense(grad, var)]

    def _apply_sparse_duplicate_indices(self, grad: IndexedSlices, var: Any) -> Any:
        decayed = self._decay(var, Rows(grad.indices))
        with graph.get_default_graph().control_dependencies(decayed):
            return [*decayed, super()._apply_sparse_duplicate_indices(grad, var)]


def extend_with_decoupled_weight_decay(base_optimizer: type[Optimizer]) -> type[Optimizer]:
    """A class of optimizers like `base_optimizer` whose constructor takes `weight_decay` first."""
    return type("OptimizerWithDecoupledWeightDecay", (DecoupledWeightDecayExtension, base_optimizer), {"__doc__": base_optimizer.__doc__})


class MomentumWOptimizer(DecoupledWeightDecayExtension, MomentumOptimizer):
    """Momentum with decoupled weight decay."""

    def __init__(self, weight_decay: Any, learning_rate: Any, momentum: Any, use_locking: bool = False, name: str = "MomentumW",
                 use_nesterov: bool = False):
        super().__init__(weight_decay, learning_rate, momentum, use_locking, name, use_nesterov)


class AdamWOptimizer(DecoupledWeightDecayExtension, AdamOptimizer):
    """Adam with decoupled weight decay."""

    def __init__(self, weight_decay: Any, learning_rate: Any = 0.001, beta1: Any = 0.9, beta2: Any = 0.999, epsilon: Any = 1e-8,
                 use_locking: bool = False, name: str = "AdamW"):
        super().__init__(weight_decay, learning_rate, beta1, beta2, epsilon, use_locking, name)


# ---------------------------------------------------------------- around an optimizer


class MovingAverageOptimizer(Optimizer):
    """Another optimizer that also keeps moving averages of the variables; `swapping_saver` saves them in the variables' place.

    Args:
        average_decay, num_updates: see `tf.train.ExponentialMovingAverage`.
        sequential_update: move the averages after the variables, not at once.
    """

    def __init__(self, opt: Optimizer, average_decay: float = 0.9999, num_updates: Any = None, sequential_update: bool = True):
        super().__init__(False, "MovingAverage")
        self._optimizer, self._sequential_update = opt, sequential_update
        self._ema = ExponentialMovingAverage(average_decay, num_updates=num_updates)
        self._swapped: dict[str, str] | None = None

    def compute_gradients(self, *args: Any, **kwargs: Any) -> list[tuple[Any, Any]]:
        return self._optimizer.compute_gradients(*args, **kwargs)

    def apply_gradients(self, grads_and_vars: Any, global_step: Any = None, name: str | None = None) -> Operation:
        pairs = list(grads_and_vars)
        step = self._optimizer.apply_gradients(pairs, global_step=global_step, name=name)
        trained = [v for g, v in pairs if g is not None]
        with graph.get_default_graph().control_dependencies([step] if self._sequential_update else []):
            averaged = self._ema.apply(trained)
        names = [(v.op.name, self._ema.average(v).op.name) for v in trained]
        self._swapped = {**dict(names), **{b: a for a, b in names}}
        return control_flow_ops.group(step, averaged, name="train_with_avg")

    def swapping_saver(self, var_list: Any = None, name: str = "swapping_saver", **kwargs: Any) -> Saver:
        """A Saver under whose names the averages and the variables have changed places.

        Raises:
            RuntimeError: no gradients were applied yet.  ValueError: only one of a pair is in `var_list`.
        """
        if self._swapped is None:
            raise RuntimeError("Must call apply_gradients or minimize before creating the swapping_saver")
        if var_list is None:
            var_list = graph.get_default_graph().get_collection(GraphKeys.GLOBAL_VARIABLES)
        given = var_list if isinstance(var_list, dict) else {v.op.name: v for v in var_list}
        return Saver({key: self._other(given, key, v) for key, v in given.items()}, name=name, **kwargs)

    def _other(self, given: dict[str, Any], key: str, v: Any) -> Any:
        other = (self._swapped or {}).get(key)
        if other is not None and other not in given:
            raise ValueError(f"Variable to swap {other} is not part of variables to save. This breaks MovingAverageOptimizer.")
        return v if other is None else given[other]


class VariableClippingOptimizer(Optimizer):
    """Another optimizer, after whose step the variables' norms are clipped.

    Args:
        vars_to_clip_dims: {variable: axes that a norm is over}.
        max_norm: the largest norm.
        colocate_clip_ops_with_vars: accepted.
    """

    def __init__(self, opt: Optimizer, vars_to_clip_dims: dict[Any, Any], max_norm: Any, use_locking: bool = False,
                 colocate_clip_ops_with_vars: bool = False, name: str = "VariableClipping"):
        super().__init__(use_locking, name)
        self._opt, self._max_norm = opt, max_norm
        self._dims = {v: list(dims) for v, dims in vars_to_clip_dims.items()}

    def compute_gradients(self, *args: Any, **kwargs: Any) -> list[tuple[Any, Any]]:
        return self._opt.compute_gradients(*args, **kwargs)

    def get_slot(self, *args: Any, **kwargs: Any) -> Any:
        return self._opt.get_slot(*args, **kwargs)

    def get_slot_names(self, *args: Any, **kwargs: Any) -> list[str]:
        return self._opt.get_slot_names(*args, **kwargs)

    def apply_gradients(self, grads_and_vars: Any, global_step: Any = None, name: str | None = None) -> Operation:
        g, pairs = graph.get_default_graph(), list(grads_and_vars)
        with g.name_scope(name or self._name) as scope:
            step = self._opt.apply_gradients(pairs, global_step=global_step)
            clipped = []
            with g.control_dependencies([step]):
                for gradient, v in pairs:
                    if gradient is not None and v in self._dims:
                        with g.name_scope("clip_" + v.op.name):
                            clipped.append(self._clip(gradient, v))
            return control_flow_ops.group(step, *clipped, name=scope)

    def _clip(self, gradient: Any, v: Any) -> Tensor:
        dims = self._dims[v]
        if isinstance(gradient, IndexedSlices) and 0 not in dims:  # only the rows that may have grown
            rows = Rows(gradient.indices)
            return rows.write(v, clip_ops.clip_by_norm(rows.read(v), self._max_norm, dims))
        return state.assign(v, clip_ops.clip_by_norm(array_ops.identity(v.read_value()), self._max_norm, dims))


def clip_gradients_by_global_norm(gradients_variables: Any, clip_norm: float = 20.0) -> tuple[list[tuple[Any, Any]], Tensor]:
    """(pairs whose gradients have a global norm of at most `clip_norm`, the norm before)."""
    pairs = list(gradients_variables)
    norm = clip_ops.global_norm([g for g, _ in pairs])
    clipped, _ = clip_ops.clip_by_global_norm([g for g, _ in pairs], clip_norm, use_norm=norm)
    return list(zip(clipped, [v for _, v in pairs])), norm
