"""`optimize_loss`: one call from a loss to a training operation."""
from __future__ import annotations

from typing import Any, Callable

from ... import array_ops, check_ops, graph, math_ops, random_ops, train
from ...clip_ops import clip_by_global_norm, global_norm
from ...control_flow_ops import with_dependencies
from ...graph import GraphKeys, Tensor
from ...init_ops import constant_initializer, zeros_initializer
from ...ops.elementwise import select
from ...ops.indexed_slices import IndexedSlices
from ...ops.opdef import convert_to_tensor
from ...train import Optimizer
from ...train.moving_averages import assign_moving_average
from ...variable_scope import get_variable, variable_scope
from ...variables import trainable_variables

__all__ = ["OPTIMIZER_CLS_NAMES", "OPTIMIZER_SUMMARIES", "adaptive_clipping_fn", "optimize_loss"]

OPTIMIZER_CLS_NAMES: dict[str, Callable[..., Optimizer]] = {
    "Adagrad": train.AdagradOptimizer,
    "Adam": train.AdamOptimizer,
    "Ftrl": train.FtrlOptimizer,
    "Momentum": lambda learning_rate: train.MomentumOptimizer(learning_rate, momentum=0.9),
    "RMSProp": train.RMSPropOptimizer,
    "SGD": train.GradientDescentOptimizer,
}
OPTIMIZER_SUMMARIES = ["learning_rate", "loss", "gradients", "gradient_norm", "global_gradient_norm"]

Pairs = list[tuple[Any, Any]]


def optimize_loss(loss: Any, global_step: Any, learning_rate: Any, optimizer: Any, gradient_noise_scale: float | None = None,
                  gradient_multipliers: dict[Any, Any] | None = None, clip_gradients: Any = None,
                  learning_rate_decay_fn: Callable[..., Any] | None = None, update_ops: Any = None, variables: Any = None,
                  name: str | None = None, summaries: Any = None, colocate_gradients_with_ops: bool = False,
                  increment_global_step: bool = True) -> Tensor:
    """The loss as a tensor that, when it runs, also takes a step of the optimizer.

    Args:
        loss: a scalar.
        global_step: an integer variable; None: the graph's own, or none.
        learning_rate: a float (then a variable "learning_rate" of the scope), a scalar tensor, or None.
        optimizer: a name of `OPTIMIZER_CLS_NAMES`, an Optimizer, its class, or a function of the learning rate that makes one.
        gradient_noise_scale: adds truncated normal noise times this to the gradients.
        gradient_multipliers: {variable or its name: factor for its gradient}.
        clip_gradients: a float, the largest global norm; or a function from pairs (gradient, variable) to such pairs.
        learning_rate_decay_fn: a function of (learning rate, global step).
        update_ops: operations to run before the loss; those of UPDATE_OPS by default.
        variables: what to train; TRAINABLE_VARIABLES by default.
        summaries: which of `OPTIMIZER_SUMMARIES` to write; loss, learning_rate and global_gradient_norm by default.

    Raises:
        ValueError: a loss that is no scalar; a learning rate, an optimizer, summaries or `clip_gradients` of another kind; a decay
            without a global step; no gradients.
    """
    loss = check_ops.assert_scalar(convert_to_tensor(loss))
    if global_step is None:
        global_step = train.get_global_step()
    else:
        train.assert_global_step(global_step)
    with variable_scope(name, "OptimizeLoss", [loss, getattr(global_step, "handle", global_step)]):
        updates = graph.get_default_graph().get_collection(GraphKeys.UPDATE_OPS) if update_ops is None else list(update_ops)
        if updates:
            loss = with_dependencies(list(dict.fromkeys(updates)), loss)
        rate = _learning_rate(learning_rate)
        wanted = _checked_summaries(summaries)
        write = _Summaries(wanted)
        if learning_rate is not None and learning_rate_decay_fn is not None:
            if global_step is None:
                raise ValueError("global_step is required for learning_rate_decay_fn.")
            rate = learning_rate_decay_fn(rate, global_step)
            write.scalar("learning_rate", ("learning_rate",), lambda: rate)
        used = _optimizer(optimizer, rate, learning_rate)
        pairs = used.compute_gradients(loss, trainable_variables() if variables is None else variables,
                                       colocate_gradients_with_ops=colocate_gradients_with_ops)
        if gradient_noise_scale is not None:
            pairs = [(_noisy(g, gradient_noise_scale), v) for g, v in pairs]
        if gradient_multipliers is not None:
            pairs = [(_multiplied(g, gradient_multipliers.get(v, gradient_multipliers.get(v.name))), v) for g, v in pairs]
            if not pairs:
                raise ValueError("Empty list of (gradient, var) pairs encountered. This is most likely to be caused by an improper value "
                                 "of gradient_multipliers.")
        norms = ("global_gradient_norm", "gradient_norm")
        write.scalar("global_norm/gradient_norm", norms, lambda: global_norm([g for g, _ in pairs]))
        clipped = _clipped(pairs, clip_gradients)
        write.scalar("loss", ("loss",), lambda: loss)
        for gradient, v in clipped:
            write.gradient(gradient, v.name.replace(":", "_"))
        if clip_gradients is not None:
            write.scalar("global_norm/clipped_gradient_norm", norms, lambda: global_norm([g for g, _ in clipped]))
        step = used.apply_gradients(clipped, global_step=global_step if increment_global_step else None, name="train")
        return with_dependencies([step], loss)


class _Summaries:
    """Writes the summaries that are wanted; `tf.summary` is loaded when there are any."""

    def __init__(self, wanted: list[str]):
        self.wanted = wanted

    def _any(self, kinds: tuple[str, ...]) -> bool:
        return any(kind in self.wanted for kind in kinds)

    def scalar(self, tag: str, kinds: tuple[str, ...], value: Callable[[], Any]) -> None:
        from ... import summary

        if self._any(kinds):
            summary.scalar(tag, value())

    def gradient(self, gradient: Any, name: str) -> None:
        from ... import summary

        values = gradient.values if isinstance(gradient, IndexedSlices) else gradient
        if values is not None and self._any(("gradients",)):
            summary.histogram(f"gradients/{name}", values)
        if values is not None:
            self.scalar(f"gradient_norm/{name}", ("gradient_norm",), lambda: global_norm([values]))


def _checked_summaries(summaries: Any) -> list[str]:
    if summaries is None:
        return ["loss", "learning_rate", "global_gradient_norm"]
    for kind in summaries:
        if kind not in OPTIMIZER_SUMMARIES:
            raise ValueError(f"Summaries should be one of [{', '.join(OPTIMIZER_SUMMARIES)}], you provided {kind}.")
    return list(summaries)


def _learning_rate(given: Any) -> Any:
    if given is None or isinstance(given, Tensor) and given.shape.ndims == 0:
        return given
    if not isinstance(given, float):
        raise ValueError(f"Learning rate should be 0d Tensor or float. Got {given} of type {type(given)}")
    if given < 0.0:
        raise ValueError(f"Invalid learning_rate {given}.")
    return get_variable("learning_rate", [], trainable=False, initializer=constant_initializer(given))


def _optimizer(optimizer: Any, rate: Any, given_rate: Any) -> Optimizer:
    if isinstance(optimizer, Optimizer):
        return optimizer
    if isinstance(optimizer, str) and optimizer not in OPTIMIZER_CLS_NAMES:
        raise ValueError(f"Optimizer name should be one of [{', '.join(OPTIMIZER_CLS_NAMES)}], you provided {optimizer}.")
    kind = "string" if isinstance(optimizer, str) else "class"
    by_name = isinstance(optimizer, str) or isinstance(optimizer, type) and issubclass(optimizer, Optimizer)
    if by_name and rate is None:
        raise ValueError(f"Learning rate is None, but should be specified if optimizer is {kind} ({optimizer}).")
    if by_name:
        return OPTIMIZER_CLS_NAMES[optimizer](learning_rate=rate) if kind == "string" else optimizer(learning_rate=rate)
    if not callable(optimizer):
        raise ValueError("Unrecognized optimizer: should be string, subclass of Optimizer, instance of subclass of Optimizer or function "
                         f"with one argument. Got {optimizer}.")
    made = optimizer() if given_rate is None else optimizer(rate)
    if not isinstance(made, Optimizer):
        raise ValueError(f"Unrecognized optimizer: function should return subclass of Optimizer. Got {made}.")
    return made


def _scaled(gradient: Any, factor: Any) -> Any:
    """A gradient, dense or of rows, times a number."""
    if isinstance(gradient, IndexedSlices):
        return IndexedSlices(gradient.values * factor, gradient.indices, gradient.dense_shape)
    return gradient * factor


def _noisy(gradient: Any, scale: float) -> Any:
    if gradient is None:
        return None
    dense = convert_to_tensor(graph.OPERATORS["to_dense"](gradient))
    shape = dense.shape.as_list() if dense.shape.is_fully_defined() else array_ops.shape(dense)
    return dense + math_ops.cast(random_ops.truncated_normal(shape) * scale, dense.dtype)


def _multiplied(gradient: Any, factor: Any) -> Any:
    return gradient if gradient is None or factor is None else _scaled(gradient, math_ops.cast(factor, gradient.dtype))


def _clipped(pairs: Pairs, clip_gradients: Any) -> Pairs:
    if clip_gradients is None:
        return pairs
    if callable(clip_gradients):
        return list(clip_gradients(pairs))
    if not isinstance(clip_gradients, float):
        raise ValueError(f"Unknown type {type(clip_gradients)} for clip_gradients")
    clipped, _ = clip_by_global_norm([g for g, _ in pairs], clip_gradients)
    return list(zip(clipped, [v for _, v in pairs]))


def adaptive_clipping_fn(std_factor: float = 2.0, decay: float = 0.95, static_max_norm: float | None = None, global_step: Any = None,
                         report_summary: bool = False, epsilon: float = 1e-8, name: str | None = None) -> Callable[[Pairs], Pairs]:
    """A function for `clip_gradients`: norms above the usual ones are shortened to their mean.

    The usual ones are exp(mean + std_factor * deviation) of the logarithms of the norms, kept as moving averages "mean" and
    "sq_mean"; with a `global_step` the averages begin as plain means.
    """
    def clip(pairs: Pairs) -> Pairs:
        norm = global_norm([g for g, _ in pairs])
        largest, mean = _adaptive_max_norm(norm, std_factor, decay, global_step, epsilon, name)
        if report_summary:
            from ... import summary

            summary.scalar("global_norm/adaptive_max_gradient_norm", largest)
        factor = select(norm < largest, array_ops.ones_like(norm), math_ops.exp(mean) / norm)
        if static_max_norm is not None:
            factor = math_ops.minimum(static_max_norm / norm, factor)
        return [(None if g is None else _scaled(g, factor), v) for g, v in pairs]
    return clip


def _adaptive_max_norm(norm: Tensor, std_factor: float, decay: Any, global_step: Any, epsilon: float,
                       name: str | None) -> tuple[Tensor, Tensor]:
    with variable_scope(name, "AdaptiveMaxNorm", [norm]):
        log_norm = math_ops.log(norm + epsilon)
        if global_step is not None:
            n = math_ops.cast(global_step, norm.dtype)
            decay = math_ops.minimum(decay, n / (n + 1.0))

        def average(name: str, value: Tensor) -> Tensor:
            v = get_variable(name, value.shape, value.dtype, zeros_initializer(), trainable=False)
            return assign_moving_average(v, value, decay, zero_debias=False)
        mean = average("mean", log_norm)
        variance = average("sq_mean", math_ops.square(log_norm)) - math_ops.square(mean)
        return math_ops.exp(mean + std_factor * math_ops.sqrt(math_ops.maximum(epsilon, variance))), mean
