"""Optimizers outside the graph: a session evaluates the loss and its gradients, a library such as SciPy decides where."""
from __future__ import annotations

from typing import Any, Callable

import numpy as np

from ... import array_ops, graph
from ...control_flow_ops import group
from ...graph import Tensor
from ...ops import state
from ...ops.gradients import gradients
from ...ops.opdef import convert_to_tensor
from ...platform import logging
from ...session import get_default_session
from ...variables import trainable_variables

__all__ = ["ExternalOptimizerInterface", "ScipyOptimizerInterface"]


class ExternalOptimizerInterface:
    """Base class: override `_minimize`.

    Args:
        loss: a scalar tensor.
        var_list: what to optimize; TRAINABLE_VARIABLES by default.
        equalities, inequalities: lists of scalar tensors that should be 0, or not below 0.
        var_to_bounds: {variable: (low, high)}, each of a shape that broadcasts to the variable's.
        optimizer_kwargs: what `_minimize` is given as `optimizer_kwargs`.
    """

    def __init__(self, loss: Any, var_list: Any = None, equalities: Any = None, inequalities: Any = None, var_to_bounds: Any = None,
                 **optimizer_kwargs: Any):
        self._loss = convert_to_tensor(loss)
        self._equalities, self._inequalities = ([convert_to_tensor(t) for t in tensors or ()] for tensors in (equalities, inequalities))
        self._vars = list(trainable_variables() if var_list is None else var_list)
        if not self._vars:
            raise ValueError("No variables to optimize.")
        self.optimizer_kwargs = optimizer_kwargs
        self._packed_bounds = None if var_to_bounds is None else self._pack_bounds(var_to_bounds)
        self._update_placeholders = [array_ops.placeholder(v.dtype.base_dtype, v.get_shape()) for v in self._vars]
        self._var_updates = group(*[state.assign(v, p) for v, p in zip(self._vars, self._update_placeholders)])
        self._packed_var = self._pack(self._vars)
        self._packed_loss_grad = self._packed_gradient(self._loss)
        self._packed_equality_grads = [self._packed_gradient(t) for t in self._equalities]
        self._packed_inequality_grads = [self._packed_gradient(t) for t in self._inequalities]
        ends = np.cumsum([0, *(int(np.prod(self._shape(v))) for v in self._vars)])
        self._packing_slices = [slice(int(a), int(b)) for a, b in zip(ends, ends[1:])]

    @staticmethod
    def _shape(v: Any) -> tuple[int, ...]:
        return tuple(v.get_shape().as_list())

    def _pack_bounds(self, bounds: dict[Any, Any]) -> list[tuple[float, float]]:
        low, high = (np.concatenate([np.broadcast_to(bounds.get(v, (-np.inf, np.inf))[i], self._shape(v)).ravel() for v in self._vars])
                     for i in (0, 1))
        return list(zip(low.tolist(), high.tolist()))

    @classmethod
    def _pack(cls, tensors: Any) -> Tensor:
        """All elements in one vector."""
        flat = [array_ops.reshape(t, [-1]) for t in tensors]
        return flat[0] if len(flat) == 1 else array_ops.concat(flat, 0)

    def _packed_gradient(self, tensor: Tensor) -> Tensor:
        """The gradient by all variables; zeros where one does not matter."""
        if tensor.shape.num_elements() not in (None, 1):
            raise ValueError(f"the loss and the constraints must be scalars, {tensor.name} has shape {tensor.shape}")
        found = gradients(tensor, self._vars, unconnected_gradients="zero")
        return self._pack([graph.OPERATORS["to_dense"](g) for g in found])

    def minimize(self, session: Any = None, feed_dict: Any = None, fetches: Any = None, step_callback: Callable[[Any], Any] | None = None,
                 loss_callback: Callable[..., Any] | None = None, **run_kwargs: Any) -> None:
        """Finds the variables' values and stores them.

        Args:
            session: the default session if None.
            fetches: tensors to evaluate with the loss, and to give to `loss_callback`.
            step_callback: called with the packed variables after each step of the library.
            run_kwargs: arguments of the `Session.run` that stores the result.

        Raises:
            ValueError: no session.
        """
        session = get_default_session() if session is None else session
        if session is None:
            raise ValueError("minimize needs a session: give one, or enter `with sess:`")
        feeds, fetched = dict(feed_dict or {}), list(fetches or [])

        def evaluate(tensors: list[Any], x: np.ndarray) -> list[Any]:
            values = {v: x[part].reshape(self._shape(v)).astype(v.dtype.base_dtype.np) for v, part in zip(self._vars, self._packing_slices)}
            return session.run(tensors, feed_dict={**values, **feeds})

        def loss_and_gradient(x: np.ndarray) -> list[Any]:
            loss, gradient, *more = evaluate([self._loss, self._packed_loss_grad, *fetched], x)
            if loss_callback is not None:
                loss_callback(*more)
            return [loss, gradient]

        equalities = _Together([*self._equalities, *self._packed_equality_grads], evaluate)
        inequalities = _Together([*self._inequalities, *self._packed_inequality_grads], evaluate)
        n, m = len(self._equalities), len(self._inequalities)
        packed = self._minimize(
            initial_val=session.run(self._packed_var), loss_grad_func=loss_and_gradient,
            equality_funcs=equalities.functions(0, n), equality_grad_funcs=equalities.functions(n, 2 * n),
            inequality_funcs=inequalities.functions(0, m), inequality_grad_funcs=inequalities.functions(m, 2 * m),
            packed_bounds=self._packed_bounds, step_callback=step_callback or (lambda xk: None), optimizer_kwargs=self.optimizer_kwargs)
        results = {p: np.reshape(packed[part], self._shape(v)).astype(v.dtype.base_dtype.np)
                   for v, p, part in zip(self._vars, self._update_placeholders, self._packing_slices)}
        session.run(self._var_updates, feed_dict=results, **run_kwargs)

    def _minimize(self, initial_val: Any, loss_grad_func: Any, equality_funcs: Any, equality_grad_funcs: Any, inequality_funcs: Any,
                  inequality_grad_funcs: Any, packed_bounds: Any, step_callback: Any, optimizer_kwargs: dict[str, Any]) -> Any:
        """The packed variables at the minimum.

        Args:
            initial_val: the packed variables, a vector; all functions take such a vector.
            loss_grad_func: returns [loss, gradient].
            equality_funcs, equality_grad_funcs, inequality_funcs, inequality_grad_funcs: each returns a number or a vector.
            packed_bounds: a list of (low, high), or None.
        """
        raise NotImplementedError("To use ExternalOptimizerInterface, subclass from it and implement the _minimize() method.")


class _Together:
    """Constraints and their gradients: one run of the session for all of them at a point."""

    def __init__(self, tensors: list[Tensor], evaluate: Callable[[list[Any], np.ndarray], list[Any]]):
        self._tensors, self._evaluate = tensors, evaluate
        self._at: np.ndarray | None = None
        self._values: list[Any] = []

    def _value(self, i: int, x: np.ndarray) -> Any:
        if self._at is None or not np.array_equal(self._at, x):
            self._values, self._at = self._evaluate(self._tensors, x), np.array(x)
        value = self._values[i]
        return float(np.reshape(value, ())) if np.size(value) == 1 and self._tensors[i].shape.ndims == 0 else np.asarray(value, np.float64)

    def functions(self, start: int, end: int) -> list[Callable[[np.ndarray], Any]]:
        return [lambda x, i=i: self._value(i, x) for i in range(start, end)]  # type: ignore[misc]


class ScipyOptimizerInterface(ExternalOptimizerInterface):
    """`scipy.optimize.minimize` on the loss of a graph, by its gradient.

        optimizer = ScipyOptimizerInterface(loss, method="L-BFGS-B", options={"maxiter": 100})
        optimizer.minimize(session)

    Args:
        optimizer_kwargs: those of `scipy.optimize.minimize`: `method` ("L-BFGS-B" by default), `options`, `tol`.

    Raises:
        ImportError: SciPy is not installed.  ValueError: an argument that is set here, such as `jac` or `bounds`.
    """

    _DEFAULT_METHOD = "L-BFGS-B"

    def _minimize(self, initial_val: Any, loss_grad_func: Any, equality_funcs: Any, equality_grad_funcs: Any, inequality_funcs: Any,
                  inequality_grad_funcs: Any, packed_bounds: Any, step_callback: Any, optimizer_kwargs: dict[str, Any]) -> Any:
        try:
            import scipy.optimize  # type: ignore[import-untyped]
        except ImportError as e:
            raise ImportError("ScipyOptimizerInterface needs SciPy: pip install 'graphflow[scipy]'") from e

        def fun(x: np.ndarray) -> tuple[float, np.ndarray]:
            loss, gradient = loss_grad_func(x)
            return float(np.reshape(loss, ())), np.asarray(gradient, np.float64)

        constraints = [{"type": kind, "fun": f, "jac": jac} for kind, fs, jacs in (("eq", equality_funcs, equality_grad_funcs),
                                                                                   ("ineq", inequality_funcs, inequality_grad_funcs))
                       for f, jac in zip(fs, jacs)]
        set_here = {"jac": True, "callback": step_callback, "constraints": constraints, "bounds": packed_bounds}
        for name in set_here:
            if name in optimizer_kwargs:
                raise ValueError("Bounds must be set using the var_to_bounds argument" if name == "bounds" else
                                 f"Optimizer keyword arg '{name}' is set automatically and cannot be injected manually")
        arguments = {"method": self._DEFAULT_METHOD, **set_here, **optimizer_kwargs}
        result = scipy.optimize.minimize(fun, np.asarray(initial_val, np.float64), **arguments)
        counts = "".join(f"\n  {what}: {result[key]}" for what, key in (("Number of iterations", "nit"),
                                                                        ("Number of functions evaluations", "nfev")) if key in result)
        message = result.message.decode() if isinstance(result.message, bytes) else result.message
        logging.info("Optimization terminated with:\n  Message: %s\n  Objective function value: %f%s", message, result.fun, counts)
        return result["x"]
