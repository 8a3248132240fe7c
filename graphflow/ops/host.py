"""Python functions as ops: `tf.py_func`, called by the host in the middle of a step (rank 3)."""
from __future__ import annotations

from typing import Any, Callable

import numpy as np

from .. import errors, types
from ..graph import Operation, Spec, Tensor
from .opdef import OpDef, convert_to_tensor, primitive

ANY = types.ALL + (types.string,)


def _spec(*inp: Tensor, func: Any, Tout: tuple[types.DType, ...]) -> list[Spec]:
    return [Spec(d, None) for d in Tout]


@primitive("host", effect="host", type="PyFunc", infer=_spec, dtypes=ANY, same=("-",), input_dtypes={"inp": ANY})
def py_func_op(*inp, func, Tout):
    """`func` called with the arrays of `inp`, once in each step that needs a result, in program order."""


@primitive("host", type="PyFuncStateless", infer=_spec, dtypes=ANY, same=("-",), input_dtypes={"inp": ANY})
def pure_py_func_op(*inp, func, Tout):
    """`func` called with the arrays of `inp`; equal calls may be made once."""


@primitive("host", effect="host", type="NotSaved", infer=lambda *inputs, kind, outputs: list(outputs), dtypes=ANY, same=("-",),
           input_dtypes={"inputs": ANY}, no_gradient="what it did is not known")
def not_saved_op(*inputs, kind, outputs):
    """Stands in a loaded graph for an op of type `kind` that holds Python objects, a function say, which no file has; feed its outputs."""


@not_saved_op.reference
def _(*inputs, kind, outputs):
    raise errors.FailedPreconditionError(None, None, f"this was an op of type {kind!r} with Python objects of the process that saved the "
                                         "graph; they are not in the file. Feed what it gave, or map it with input_map")


def _call(*inp: Any, func: Callable[..., Any], Tout: tuple[types.DType, ...]) -> list[np.ndarray]:
    """What `func` returns as arrays of the promised dtypes; what it raises as TF1's error for it."""
    name = getattr(func, "__name__", repr(func))
    try:
        found = func(*[_argument(a) for a in inp])
    except errors.OpError:
        raise
    except Exception as e:
        raise _error_for(e)(None, None, f"{type(e).__name__}: {e} (in the Python function {name!r})") from e
    results = list(found) if isinstance(found, (list, tuple)) else [] if found is None else [found]
    if len(results) != len(Tout):
        raise errors.InvalidArgumentError(None, None, f"{name} returns {len(results)} values, but expects to see {len(Tout)} values.")
    return [_result(name, i, r, dtype) for i, (r, dtype) in enumerate(zip(results, Tout))]


py_func_op.reference(_call)
pure_py_func_op.reference(_call)
for _op in (py_func_op, pure_py_func_op):
    _op.grad(lambda op, *dys: (None,) * len(op.inputs))


def _argument(a: np.ndarray) -> Any:
    """A copy, which the function may change and keep; a scalar string is bytes."""
    return a[()] if a.dtype == object and a.ndim == 0 else np.array(a, copy=True)


def _error_for(e: Exception) -> type[errors.OpError]:
    for kind, found in ((StopIteration, errors.OutOfRangeError), (MemoryError, errors.ResourceExhaustedError),
                        (NotImplementedError, errors.UnimplementedError), ((ValueError, TypeError), errors.InvalidArgumentError)):
        if isinstance(e, kind):  # type: ignore[arg-type]
            return found
    return errors.UnknownError


def _result(name: str, i: int, value: Any, dtype: types.DType) -> np.ndarray:
    array = np.asarray(value)
    if dtype.kind == "s":
        if array.dtype.kind in "SUO":
            return types.as_strings(value, f"{i}-th value returned by {name}")
    elif array.dtype == dtype.np or dtype is types.bfloat16 and array.dtype == np.float32:
        return array
    raise errors.InvalidArgumentError(None, None, f"{i}-th value returned by {name} is {array.dtype}, but expects {dtype.name}")


def py_func(func: Callable[..., Any], inp: Any, Tout: Any, stateful: bool = True, name: str | None = None) -> Any:
    """A Python function of NumPy arrays as an op.

    It runs on the host, between kernels.  A step that fails may have called it already: it is replayed op by op to find
    out where.  The results' shapes are unknown; say more with `set_shape`.  No gradient passes, unless one is registered
    and named by `gradient_override_map({"PyFunc": ...})`.

    Args:
        func: takes an array for each input; returns an array, a list of them, or None.
        inp: a list of tensors.
        Tout: the dtype of the result, or a list of dtypes; exactly those of the arrays `func` returns.
        stateful: False promises that equal inputs give equal results, so that calls may be shared or left out.

    Returns:
        A tensor, a list of tensors if `Tout` is a list, an Operation if it is an empty one.

    Raises:
        InvalidArgumentError (at run time): another dtype or number of results, a ValueError or TypeError of `func`.
        OutOfRangeError, ResourceExhaustedError, UnimplementedError: its StopIteration, MemoryError, NotImplementedError.
        UnknownError: any other exception.
    """
    if not callable(func):
        raise ValueError(f"py_func needs a function, got {func!r}")
    several = isinstance(Tout, (list, tuple))
    dtypes = tuple(types.as_dtype(d) for d in (Tout if several else [Tout]))
    op: OpDef = py_func_op if stateful else pure_py_func_op
    found = op(*[convert_to_tensor(x) for x in (inp if isinstance(inp, (list, tuple)) else [inp])], func=func, Tout=dtypes, name=name)
    if isinstance(found, Operation) or not several:
        return found
    return found if isinstance(found, list) else [found]


def numpy_function(func: Callable[..., Any], inp: Any, Tout: Any, name: str | None = None) -> Any:
    """`py_func` of a function with effects."""
    return py_func(func, inp, Tout, name=name)
