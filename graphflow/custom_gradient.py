"""Gradients given by the user, and second derivatives (rank 9)."""
from __future__ import annotations

import functools
import inspect
from typing import Any, Callable

from . import array_ops, graph, types
from .graph import Tensor
from .ops import gradients as reverse
from .ops import state
from .ops.gradients import gradients
from .ops.opdef import composite, convert_to_tensor

__all__ = ["custom_gradient", "grad_pass_through", "hessians", "recompute_grad"]


@composite(type="IdentityN", forgets=("backward",), dtypes=types.ALL, same=("-",), input_dtypes={"input": types.ALL})
def identity_n_op(*input, backward):
    """Its inputs; `backward(*dys)` is the gradient of the last ones, the arguments of the user's function."""
    return list(input)


@identity_n_op.grad
def _(op, *dys):
    if op.attrs["backward"] is None:
        raise LookupError(f"No gradient defined for operation {op.name!r} (op type: {op.type}): its gradient is a Python function, "
                          "which the file of this graph does not have")
    return op.attrs["backward"](*dys)


def custom_gradient(f: Any = None) -> Callable[..., Any]:
    """Decorator: a function of tensors whose gradient is the one it says.

        @tf.custom_gradient
        def log1pexp(x):
            e = tf.exp(x)
            return tf.log(1 + e), lambda dy: dy * (1 - 1 / (1 + e))

    `f(*args)` returns (a tensor or a list of them, `grad_fn`).  `grad_fn(*dys)` returns the gradient of each argument.
    When `f` reads trainable variables, it is `grad_fn(*dys, variables=None)`, is called with the list of them, and returns
    (gradients of the arguments, list of gradients of the variables).

    Raises:
        ValueError: `f` does not return such a pair, or `grad_fn` another number of gradients.
        TypeError: `f` reads variables, and `grad_fn` does not take `variables`.
    """
    if f is None:
        return custom_gradient

    @functools.wraps(f)
    def decorated(*args: Any, **kwargs: Any) -> Any:
        inputs = [array_ops.identity(convert_to_tensor(a)) for a in args]
        found = f(*inputs, **kwargs)
        if not isinstance(found, tuple) or len(found) != 2 or not callable(found[1]):
            raise ValueError(f"{getattr(f, '__name__', f)!r} must return (result, grad_fn), got {found!r}")
        result, grad_fn = found
        several = isinstance(result, (list, tuple))
        results = [convert_to_tensor(r) for r in (result if several else [result])]
        variables = _variables_between(inputs, results)
        takes = inspect.signature(grad_fn).parameters
        if variables and "variables" not in takes and not any(p.kind is p.VAR_KEYWORD for p in takes.values()):
            raise TypeError("If using @custom_gradient with a function that uses variables, then grad_fn must accept a 'variables' "
                            f"keyword argument; it reads {[v.op.name for v in variables]}")
        reads = [state.read(v.handle) for v in variables]
        n = len(results)

        def backward(*dys: Any) -> list[Any]:
            if variables:
                ours, theirs = grad_fn(*dys[:n], variables=variables)
                theirs = list(theirs)
                if len(theirs) != len(variables):
                    raise ValueError("Must return gradient for each variable from @custom_gradient grad_fn.")
            else:
                ours, theirs = grad_fn(*dys[:n]), []
            ours = list(ours) if isinstance(ours, (list, tuple)) else [ours]
            if len(ours) != len(inputs):
                raise ValueError(f"custom_gradient function expected to return {len(inputs)} gradients but returned {len(ours)} instead.")
            return [None] * n + [None if d is None else convert_to_tensor(d) for d in ours + theirs]

        made = identity_n_op(*results, *inputs, *reads, backward=backward)
        made = made if isinstance(made, list) else [made]
        return made[0] if not several else type(result)(made[:n]) if type(result) in (list, tuple) else made[:n]
    return decorated


def _variables_between(inputs: list[Tensor], results: list[Tensor]) -> list[Any]:
    """Trainable variables that `results` read, other than through `inputs`."""
    g = graph.get_default_graph()
    by_handle = {v.handle: v for v in g.get_collection(graph.GraphKeys.TRAINABLE_VARIABLES) if getattr(v, "handle", None) is not None}
    found = []
    for op in graph.topological([r.op for r in results if r not in inputs], set(inputs)):
        found += [by_handle[t] for t in op.outputs if t in by_handle]
    return found


def grad_pass_through(f: Callable[..., Any]) -> Callable[..., Any]:
    """`f`, whose gradient in its arguments is that of its results: rounding, for example, seen as the identity.

    Variables that `f` reads get none.
    """
    @custom_gradient
    def passing(*args: Any, **kwargs: Any) -> Any:
        def backward(*dys: Any, variables: Any = None) -> Any:
            return (list(dys), [None] * len(variables)) if variables is not None else list(dys)

        return f(*args, **kwargs), backward

    return functools.wraps(f)(passing)


def recompute_grad(f: Callable[..., Any]) -> Callable[..., Any]:
    """`f`, computed again where its gradient needs what it made on the way.

    Here the compiler decides that for the whole step: `tf.ConfigProto(memory_budget=bytes)` bounds the memory, and values are made again
    instead of kept, with the same bits.  So this is `f` itself under its own name.
    """
    @functools.wraps(f)
    def again(*args: Any, **kwargs: Any) -> Any:
        return f(*args, **kwargs)

    return again


def hessians(ys: Any, xs: Any, name: str = "hessians", colocate_gradients_with_ops: bool = False, gate_gradients: bool = False,
             aggregation_method: Any = None) -> list[Tensor]:
    """For each x, the second derivatives of the sum of `ys`: a tensor of shape x.shape + x.shape.

    One reverse walk for each element of x, so the number of elements must be known and should be small.

    Raises:
        ValueError: the shape of an x is not fully known.
    """
    found = []
    with graph.get_default_graph().name_scope(name):
        for x in xs if isinstance(xs, (list, tuple)) else [xs]:
            sizes = reverse._element(x).sizes
            if not types.known(sizes):
                raise ValueError(f"hessians needs the full static shape of {x!r}")
            slope = array_ops.reshape(gradients(ys, x, unconnected_gradients="zero")[0], [-1])
            count = types.product(sizes)
            rows = [gradients(array_ops.gather(slope, i), x, unconnected_gradients="zero")[0] for i in range(count)]
            empty = array_ops.zeros([*sizes, *sizes], slope.dtype)
            found.append(array_ops.reshape(array_ops.stack(rows), [*sizes, *sizes]) if rows else empty)
    return found
