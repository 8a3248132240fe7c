"""Reverse-mode differentiation: `gradients` walks the graph backwards and appends ordinary ops.

Knows the gradient hook of the registry; knows no op by name (rank 3).
"""
from __future__ import annotations

import contextvars
import warnings
from typing import Any, Callable

from .. import errors, graph, types
from ..graph import Operation, Tensor
from .opdef import UnknownRank, composite, convert_to_tensor, unsupported_gradient

OVERRIDES: dict[str, Callable[..., Any]] = {}


class UnconnectedGradients:
    """What `gradients` returns for an x that the ys do not depend on."""

    NONE = "none"
    ZERO = "zero"


class AggregationMethod:
    """Accepted for TF1's sake; sums are planned by the compiler."""

    ADD_N = DEFAULT = 0
    EXPERIMENTAL_TREE = 1
    EXPERIMENTAL_ACCUMULATE_N = 2


def RegisterGradient(op_type: str) -> Callable[..., Any]:
    """Decorator: a gradient `fn(op, *dys)` for ops of `op_type`, or under a new name for `gradient_override_map`."""
    def register(fn: Callable[..., Any]) -> Callable[..., Any]:
        if op_type in OVERRIDES:
            raise KeyError(f"a gradient is registered for {op_type!r} already")
        OVERRIDES[op_type] = fn
        return fn
    return register


def _listed(x: Any) -> list[Any]:
    return list(x) if isinstance(x, (list, tuple)) else [x]


def gradients(ys: Any, xs: Any, grad_ys: Any = None, name: str = "gradients", colocate_gradients_with_ops: bool = False,
              gate_gradients: bool = False, aggregation_method: Any = None, stop_gradients: Any = None,
              unconnected_gradients: Any = UnconnectedGradients.NONE) -> list[Any]:
    """d(sum of ys)/dx for each x, as new nodes under `name/`.

    Args:
        ys, xs: tensors or lists of tensors; an x may be a Variable.
        grad_ys: dL/dy for each y, of its shape; None means ones.
        stop_gradients: tensors not differentiated through; what reaches one that is also an x still counts.
        unconnected_gradients: "none" or "zero", for an x no y depends on.

    Returns:
        One tensor of x's shape per x; None where unconnected (a warning names the op that cut the path).

    Raises:
        LookupError: an op on the path has no gradient.  ValueError: `grad_ys` has another length or shape, or the option is unknown.
    """
    ys_t = [_element(y) for y in _listed(ys)]
    xs_t = [_element(x) for x in _listed(xs)]
    option = getattr(unconnected_gradients, "value", unconnected_gradients)
    if option not in (UnconnectedGradients.NONE, UnconnectedGradients.ZERO):
        raise ValueError(f"Unknown value for unconnected_gradients: {unconnected_gradients!r}")
    g = ys_t[0].graph if ys_t else graph.get_default_graph()
    with g.as_default(), g.name_scope(name), g.control_dependencies(None):
        walk = _Walk(ys_t, xs_t, [_element(t) for t in _listed(stop_gradients or [])])
        walk.seed(_listed(grad_ys) if grad_ys is not None else [None] * len(ys_t))
        walk.run()
        return [walk.result(x, option) for x in xs_t]


def _element(x: Any) -> Tensor:
    """A variable stands for its handle: every read of it is a path."""
    return getattr(x, "handle", None) if getattr(x, "handle", None) is not None else convert_to_tensor(x)


_current: contextvars.ContextVar[_Walk | None] = contextvars.ContextVar("walk", default=None)


def wanted(t: Tensor) -> bool:
    """Whether the gradient that is being built leads to an x through `t`; a gradient function may skip other inputs."""
    walk = _current.get()
    return walk is None or t in walk.reached


def is_flat(op: Operation) -> bool:
    """Whether no gradient passes through `op`."""
    return bool(op.opdef.no_gradient) and op.graph._overridden.get(op, op.type) not in OVERRIDES


class _Walk:
    """One reverse walk: `sums[t]` collects the gradients that arrived at tensor t."""

    def __init__(self, ys: list[Tensor], xs: list[Tensor], stops: list[Tensor], ops: list[Operation] | None = None):
        self.ops = graph.topological([y.op for y in ys]) if ops is None else ops  # all that is looked at
        self.ys, self.xs, self.stops = ys, xs, set(stops)
        self.sums: dict[Tensor, list[Any]] = {}
        self.path = self._between()
        self.cuts: dict[Tensor, str] = {}
        self.pending: dict[Operation, list[tuple[Tensor, Any]]] = {}  # gradients of values saved from inside a branch or loop

    def _between(self) -> set[Operation]:
        """Ops on a path from an x to a y."""
        reached: set[Tensor] = set(self.xs)
        between = set()
        stopped = {t.op for t in self.stops}
        for op in self.ops:
            if op not in stopped and any(t in reached for t in op.inputs):
                between.add(op)
                reached.update(op.outputs)
        self.reached = reached
        return between

    def seed(self, grad_ys: list[Any]) -> None:
        if len(grad_ys) != len(self.ys):
            raise ValueError(f"Passed {len(grad_ys)} grad_ys for {len(self.ys)} ys")
        for y, dy in zip(self.ys, grad_ys):
            if dy is None:
                if not y.dtype.is_differentiable:
                    continue
                dy = graph.OPERATORS["ones_like"](y, name="grad_ys")
            else:
                dy = graph.OPERATORS["to_dense"](dy)
                dy = convert_to_tensor(dy, y.dtype)
                types.merge_shapes(dy.sizes, y.sizes)
            self.sums.setdefault(y, []).append(dy)

    def run(self) -> None:
        for op in reversed(self.ops):
            if op in self.path and (op in self.pending or any(t in self.sums for t in op.outputs)):
                self._through(op)

    def _through(self, op: Operation) -> None:
        dys = [self._total(t) for t in op.outputs]
        fn = self._gradient_function(op)
        with op.graph.device(op.device or None), op.graph.name_scope(f"{op.name.replace(':', '_')}_grad"):
            token = _current.set(self)
            try:
                raw = getattr(op.opdef, "raw_gradient", False)
                dxs = fn(op, *(dys if raw else [_dense_or_zeros(op, t, d) for t, d in zip(op.outputs, dys)]))
            finally:
                _current.reset(token)
        dxs = list(dxs) if isinstance(dxs, (tuple, list)) else [dxs]
        if len(dxs) != len(op.inputs):
            raise ValueError(errors.at(op, f"Num gradients {len(dxs)} generated for {len(op.inputs)} inputs"))
        for t, dx in zip(op.inputs, dxs):
            if dx is None:
                self.cuts.setdefault(t, f"{errors.where(op)} passes no gradient to its input {t.name}")
            elif t.dtype.is_differentiable:
                self.sums.setdefault(t, []).append(dx)

    def _gradient_function(self, op: Operation) -> Callable[..., Any]:
        override = op.graph._overridden.get(op, op.type)
        if override in OVERRIDES:
            return OVERRIDES[override]
        if override != op.type:
            raise LookupError(errors.at(op, f"gradient_override_map: no gradient is registered as {override!r}."
                                            + errors.suggest(override, OVERRIDES)))
        if op.opdef._grad is not None:
            return op.opdef._grad
        if op.opdef._body is not None and op.opdef.effect is None:
            return _body_gradient
        if op.opdef.no_gradient:
            self.cuts.update({t: unsupported_gradient(op) for t in op.inputs})
            return lambda op, *dys: [None] * len(op.inputs)
        raise LookupError(unsupported_gradient(op))

    def _total(self, t: Tensor) -> Any:
        parts = self.sums.get(t)
        if not parts:
            return None
        if len(parts) > 1:
            self.sums[t] = parts = [graph.OPERATORS["add_gradients"](parts)]
        return parts[0]

    def result(self, x: Tensor, option: str) -> Any:
        total = self._total(x)
        if total is None and option == UnconnectedGradients.ZERO:
            return graph.OPERATORS["zeros_like"](x)
        if total is None:
            warnings.warn(f"gradients: no path from {[y.name for y in self.ys]} to {x.name}; the result is None"
                          + (f" ({self._why(x)})" if self._why(x) else ""), stacklevel=3)
        return total

    def _why(self, x: Tensor) -> str:
        """The op that cut the path from x, if one did."""
        if not x.dtype.is_differentiable:
            return f"{x.dtype.name} is not differentiable"
        reached = {x}
        for op in self.ops:
            if any(t in reached for t in op.inputs):
                reached.update(op.outputs)
        return next((why for t, why in self.cuts.items() if t in reached), "")


def _dense_or_zeros(op: Operation, t: Tensor, dy: Any) -> Any:
    if dy is None:
        return graph.OPERATORS["zeros_like"](t) if t.dtype.is_differentiable else None
    return graph.OPERATORS["to_dense"](dy) if not getattr(op.opdef, "sparse_gradient", False) else dy


def _body_gradient(op: Operation, *dys: Any) -> list[Any]:
    """A composite without a gradient of its own: differentiate its body; later, where the ranks that it needs are not known yet."""
    try:
        return _through_body(op.opdef, list(op.inputs), list(dys), op.attrs)
    except UnknownRank:
        return late_gradient_op(*op.inputs, *[d for d in dys if d is not None], of=op.opdef, attrs=tuple(op.attrs.items()),
                                given=tuple(d is not None for d in dys))


def _through_body(opdef: Any, inputs: list[Any], dys: list[Any], attrs: dict[str, Any]) -> list[Any]:
    found = opdef.fn(*inputs, **attrs)
    outputs = list(found) if isinstance(found, (list, tuple)) else [found]
    pairs = [(y, dy) for y, dy in zip(outputs, dys) if dy is not None]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        return gradients([y for y, _ in pairs], inputs, [dy for _, dy in pairs], name="body")


@composite(type="LateGradient", dtypes=types.ALL, same=("-",), output_dtypes=lambda *values, given, **_: [
    t.dtype for t in values[:len(values) - sum(given)]])
def late_gradient_op(*values, of, attrs, given):
    """The gradient of a composite whose body needs ranks that are known only when the step runs: (inputs, then the given dys)."""
    count = len(values) - sum(given)
    rest = iter(values[count:])
    found = _through_body(of, list(values[:count]), [next(rest) if g else None for g in given], dict(attrs))
    return [graph.OPERATORS["zeros_like"](x) if d is None else d for d, x in zip(found, values)]
