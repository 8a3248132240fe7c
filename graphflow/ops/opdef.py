"""The registry: what an op is, and how a decorated function becomes one.

An op's facts stand together in one block: its function (positional parameters are tensors, keyword-only
ones static attributes, the docstring its documentation), its kernel expression, its NumPy reference, its
gradient and what its tests need.  The family decorator supplies everything else.  Knows graphs and Kernel IR
expressions; knows no pass, no target and no other op than `Const` (rank 2).
"""
from __future__ import annotations

from typing import Any, Callable, NamedTuple, Sequence

import numpy as np

from .. import errors, graph, types
from ..codegen import ir
from ..codegen.ir import Expr
from ..graph import Operation, Spec, Tensor
from ..types import DType



class Opaque(np.ndarray):
    """The value of a constant that no pass may look at: a random key, so that programs which differ by seeds compile to the same."""


class WrongDtype(TypeError, ValueError):
    """A tensor of another dtype than asked for: TF1 raises one or the other, by who asks."""


class UnknownRank(ValueError):
    """Inference cannot go on before the rank of an input is known."""


REGISTRY: dict[str, OpDef] = {}
UNSET = object()
# Largest integer tensor whose value is followed while the graph is built (shapes, axes, paddings).
KNOWN_LIMIT = 256

Read = Callable[[int, Sequence[Expr]], Expr]


class Axes(NamedTuple):
    """How an op acts along axes, for passes that store tensors with their axes in another order.

    output: the op's axis along which each axis of its output runs; the op has axes 0 .. n - 1.  Axes of a tensor that run
        along one axis of the op (a reshape splits it) stay together.
    inputs: likewise for each input; None for one that is no such array (sizes, indices).
    make: `make(order, inputs)` is the op with axis `order[k]` as axis k; the inputs have theirs in that order already.
    aligned: inputs broadcast: those with fewer axes are matched from the last one on.
    """

    output: tuple[int, ...]
    inputs: tuple[tuple[int, ...] | None, ...]
    make: Callable[[tuple[int, ...], Sequence[Tensor]], Tensor]
    aligned: bool = False


class OpDef:
    """One op: call it to append an operation to the default graph.

    Hooks, set by the family and refined with decorators of the same name:
        infer(*inputs, **attrs)  -> specs of the outputs; raises ValueError or TypeError
        numpy(*arrays, **attrs)  -> the reference result
        lower(op, index, read)   -> the scalar at `index` of output 0; `read(i, idx)` is input i there
        fold(op, index, read)    -> `ir.Fold`: the scalars combined into the element at `index` (windows, contractions)
        scatter(op, index, read) -> `ir.Scatter`: where the update at `index` goes; `lower` gives the initial value
        grad(op, *dys)           -> a gradient (or None) for each input
        body(*tensors, **attrs)  -> a composite in other ops; output shape and dtype are its
        axes(op)                 -> `Axes`, or None: how the op can be made with its axes in another order
        performs(access, op, arrays) -> the results of an op on a resource of the session (a queue, an iterator); see ops/resource.py
    Traits: `family`, `combine` (reductions), `effect` ("read", "write", "random", "host", "outside" (its result
    depends on files and the like) or None), `static` (names of the
    inputs whose value must be known before kernels are made), `shape_only` (names of the inputs of which only the shape
    is used, never an element), `output_dtypes` (when ranks are unknown), `commutative`, `converts` (each element of its input in
    another dtype, nothing else), `blocks` (it may wait for other threads), `makes` (a handle: `makes(op)` is its object), `forgets`
    (attributes that only the gradient reads: a file may have None for them), `updates`
    (a scattering op: `op -> sizes` of its updates, where no input called "updates" or "data" has them), `gpu` (of an op that NumPy
    computes on the CPU: the generator in codegen/cuda that makes its kernels).
    Tests (tests/test_ops.py) come from `samples`: a list of `rng -> (args, attrs)`, functions of a `np.random.Generator` that
    return one call of the op: `args` a tuple of NumPy arrays (or numbers), one per tensor input, `attrs` a dict.  Elementwise,
    reduction and scan ops need none: calls are drawn from `domain` (the interval of random inputs), and `special` maps an input
    (a number, or a tuple of one per input) to its exact result.  `tolerance` scales the allowed relative error.
    """

    def __init__(self, fn: Callable[..., Any], family: str, **traits: Any):
        self.fn, self.family = fn, family
        self.name: str = fn.__name__.rstrip("_")
        self.type: str = traits.pop("type", None) or "".join(p.capitalize() for p in self.name.split("_"))
        self.default_name: str = traits.pop("default_name", None) or self.type
        self.__name__, self.__doc__, self.__module__ = self.name, fn.__doc__, fn.__module__
        code, defaults, named = fn.__code__, fn.__defaults__ or (), fn.__kwdefaults__ or {}  # inspect.signature would cost 0.1 ms an op
        count, words = code.co_argcount, code.co_varnames
        self.params = list(words[:count])
        self.variadic = words[count + code.co_kwonlyargcount] if code.co_flags & 4 else None  # CO_VARARGS
        self.optional = {p for p, v in zip(reversed(self.params), reversed(defaults)) if v is None}
        self.defaults = {p: named.get(p, UNSET) for p in words[count:count + code.co_kwonlyargcount]}
        self.dtypes: tuple[DType, ...] = traits.pop("dtypes", types.ALL)
        self.static: tuple[str, ...] = traits.pop("static", ())
        self.shape_only: tuple[str, ...] = traits.pop("shape_only", ())
        self.same: tuple[str, ...] = traits.pop("same", None) or tuple(p for p in self.params if p not in self.static)
        self.input_dtypes: dict[str, tuple[DType, ...]] = traits.pop("input_dtypes", {})
        self.effect: str | None = traits.pop("effect", None)
        self.combine: str | None = traits.pop("combine", None)
        self.scalar: Callable[..., Expr] | None = traits.pop("scalar", None)
        self.result: str = traits.pop("result", "same")
        self.commutative: bool = traits.pop("commutative", False)
        self.converts: bool = traits.pop("converts", False)
        self.constants: int = traits.pop("constants", 0)
        self.blocks: bool = traits.pop("blocks", False)
        self.gpu: str | None = traits.pop("gpu", None)
        self.forgets: tuple[str, ...] = traits.pop("forgets", ())
        self.makes: Callable[[Operation], Any] | None = traits.pop("makes", None)
        # Test data: domain of random inputs, special values, sample calls (see tests/test_ops.py).
        self.domain: tuple[float, float] = traits.pop("domain", (-3.0, 3.0))
        self.special: dict[Any, Any] = traits.pop("special", {})
        self.samples: Sequence[Any] = traits.pop("samples", ())
        self.tolerance: float = traits.pop("tolerance", 1.0)
        self._accepted: set[tuple[int, ...]] = set()
        self._infer: Callable[..., Any] | None = traits.pop("infer", None)
        self._numpy: Callable[..., Any] | None = traits.pop("numpy", None)
        self._lower: Callable[..., Expr] | None = traits.pop("lower", None)
        self._fold: Callable[..., ir.Fold] | None = traits.pop("fold", None)
        self._scatter: Callable[..., ir.Scatter] | None = traits.pop("scatter", None)
        self.updates: Callable[[Operation], Any] | None = traits.pop("updates", None)
        self._axes: Callable[[Operation], Axes | None] | None = traits.pop("axes", None)
        self._performs: Callable[..., Sequence[np.ndarray]] | None = traits.pop("performs", None)
        self._grad: Callable[..., Any] | None = None
        self.no_gradient: str | None = traits.pop("no_gradient", None)
        self._body: Callable[..., Any] | None = fn if family == "composite" else None
        self.output_dtypes: Callable[..., Sequence[DType]] = traits.pop("output_dtypes", lambda *inputs, **attrs: [inputs[0].dtype])
        if traits:
            raise TypeError(f"op {self.name}: unknown traits {sorted(traits)}")
        if self.type in REGISTRY:
            raise ValueError(f"op type {self.type!r} is registered twice")
        REGISTRY[self.type] = self

    # -- the hooks as decorators: `@log.grad`, `@reshape.infer`, ...

    def grad(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Decorator: the gradient, `fn(op, *dys) -> one gradient or None per input`."""
        self._grad = fn
        return fn

    def infers(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Decorator: `fn(*inputs, **attrs) -> Spec, or a list of them`."""
        self._infer = fn
        return fn

    def reference(self, fn: Callable[..., Any]) -> Callable[..., Any]:
        """Decorator: the NumPy meaning, `fn(*arrays, **attrs)`."""
        self._numpy = fn
        return fn

    def lowers(self, fn: Callable[..., Expr]) -> Callable[..., Expr]:
        """Decorator: the scalar at an output index, `fn(op, index, read)`."""
        self._lower = fn
        return fn

    def folds(self, fn: Callable[..., ir.Fold]) -> Callable[..., ir.Fold]:
        """Decorator: the fold that gives an output element, `fn(op, index, read)`."""
        self._fold = fn
        return fn

    def scatters(self, fn: Callable[..., ir.Scatter]) -> Callable[..., ir.Scatter]:
        """Decorator: the effect of one update, `fn(op, index, read)`."""
        self._scatter = fn
        return fn

    def axes(self, fn: Callable[[Operation], Axes | None]) -> Callable[[Operation], Axes | None]:
        """Decorator: how the op acts along axes, `fn(op)`; sizes are known to it."""
        self._axes = fn
        return fn

    def performs(self, fn: Callable[..., Sequence[np.ndarray]]) -> Callable[..., Sequence[np.ndarray]]:
        """Decorator: what the op does to a resource, `fn(access, op, arrays) -> results` (see ops/resource.py)."""
        self._performs = fn
        return fn

    # -- building

    def __call__(self, *args: Any, name: str | None = None, **attrs: Any) -> Any:
        inputs, attrs = self._bind(args, attrs)
        op = graph_of(inputs).create_op(self, self._convert(inputs), attrs, name)
        return op if not op.outputs else op.outputs[0] if len(op.outputs) == 1 else list(op.outputs)

    def _bind(self, args: tuple[Any, ...], attrs: dict[str, Any]) -> tuple[list[Any], dict[str, Any]]:
        values = list(args)
        for p in self.params[len(values):]:
            if p in attrs:
                values.append(attrs.pop(p))
            elif p not in self.optional:
                raise TypeError(f"{self.name}() is missing the argument {p!r}")
        if len(values) > len(self.params) and not self.variadic:
            raise TypeError(f"{self.name}() takes {len(self.params)} tensor(s) but {len(values)} were given")
        values = [v for v in values if v is not None]
        unknown = attrs.keys() - self.defaults.keys()
        if unknown:
            raise TypeError(f"{self.name}() got unexpected argument(s) {sorted(unknown)}; it has {sorted(self.defaults)}")
        full = {**self.defaults, **attrs} if attrs else dict(self.defaults)
        missing = [k for k, v in full.items() if v is UNSET]
        if missing:
            raise TypeError(f"{self.name}() needs {missing}")
        return values, full

    def param_name(self, i: int) -> str:
        return self.params[i] if i < len(self.params) else self.variadic or f"input{i}"

    def _convert(self, values: Sequence[Any]) -> list[Tensor]:
        """Python values take the dtype of the first tensor among the inputs that share one."""
        if all(type(v) is Tensor for v in values):
            return list(values)
        names = [self.param_name(i) for i in range(len(values))]
        shared = next((v.dtype.base_dtype if hasattr(v, "dtype") and not isinstance(v, np.ndarray | np.generic) else None
                       for v, n in zip(values, names) if self._shares(n) and isinstance(v, Tensor) or hasattr(v, "_as_tensor")), None)
        out = []
        for v, n in zip(values, names):
            hint = shared if self._shares(n) else types.int32 if n in self.static and not hasattr(v, "dtype") else None
            out.append(convert_to_tensor(v, dtype=hint) if not isinstance(v, Tensor) else v)
            if shared is None and self._shares(n):
                shared = out[-1].dtype
        return out

    def _shares(self, name: str) -> bool:
        return name in self.same or name == self.variadic

    # -- inference

    def infer(self, inputs: Sequence[Tensor], attrs: dict[str, Any]) -> list[Spec]:
        """Specs of the outputs.  Raises TypeError on dtypes, ValueError on shapes."""
        self._check_dtypes(inputs)
        if self._infer is None:
            raise NotImplementedError(f"op {self.name} has no shape inference")
        try:
            found = self._infer(*inputs, **attrs)
        except UnknownRank:
            return [Spec(d, None) for d in self.output_dtypes(*inputs, **attrs)]
        return [found] if isinstance(found, Spec) else list(found)

    def _check_dtypes(self, inputs: Sequence[Tensor]) -> None:
        signature = tuple([id(t.dtype) for t in inputs])  # dtypes are single objects
        if signature not in self._accepted:
            self._refuse_dtypes(inputs)
            self._accepted.add(signature)

    def _refuse_dtypes(self, inputs: Sequence[Tensor]) -> None:
        first: Tensor | None = None
        for i, t in enumerate(inputs):
            n = self.param_name(i)
            allowed = self.input_dtypes.get(n) or (self.dtypes if self._shares(n) else types.ALL + (types.string,))
            if t.dtype not in allowed:
                raise TypeError(f"Input '{n}' of '{self.type}' Op has type {t.dtype.name}, expected one of: "
                                f"{', '.join(d.name for d in allowed)}")
            if self._shares(n) and n not in self.input_dtypes:
                if first is not None and t.dtype is not first.dtype:
                    raise TypeError(f"Input '{n}' of '{self.type}' Op has type {t.dtype.name} that does not match type "
                                    f"{first.dtype.name} of argument '{self.param_name(0)}'; convert with tf.cast")
                first = t if first is None else first

    # -- evaluation by NumPy

    def evaluate(self, op: Operation, arrays: Sequence[np.ndarray]) -> list[np.ndarray]:
        """The reference result of `op` on stored arrays; 16-bit floats are computed in float32."""
        decoded = list(arrays)  # behind those of the inputs: the run counter of a random op
        for i, t in enumerate(op.inputs):
            if t.dtype is types.bfloat16 or t.dtype is types.float16:
                decoded[i] = types.bf16_decode(arrays[i]) if t.dtype is types.bfloat16 else arrays[i].astype(np.float32)
        if self._numpy is None:
            raise NotImplementedError(f"op {self.name} has no NumPy reference")
        with np.errstate(all="ignore"):
            found = self._numpy(*decoded, **op.attrs)
        results = found if isinstance(found, (tuple, list)) else [found]
        return [_store(r, t.dtype) for r, t in zip(results, op.outputs, strict=True)]

    def __repr__(self) -> str:
        return f"<op {self.name} ({self.family})>"


def _store(value: Any, dtype: DType) -> np.ndarray:
    if dtype is types.bfloat16:
        return types.bf16_encode(np.asarray(value, np.float32))
    if dtype.kind == "s":
        return np.asarray(value, object)
    array = np.asarray(value)
    if array.dtype == dtype.np:
        return array
    with np.errstate(all="ignore"):
        return array.astype(dtype.np)


# ---------------------------------------------------------------- converting values

_conversions: list[tuple[int, type, Callable[..., Any]]] = []


def register_tensor_conversion_function(base_type: Any, conversion_func: Callable[..., Any], priority: int = 100) -> None:
    """`convert_to_tensor` of a `base_type` calls `conversion_func(value, dtype, name, as_ref)`."""
    for t in base_type if isinstance(base_type, tuple) else (base_type,):
        _conversions.append((priority, t, conversion_func))
    _conversions.sort(key=lambda c: c[0])


def convert_to_tensor(value: Any, dtype: Any = None, name: str | None = None, preferred_dtype: Any = None,
                      dtype_hint: Any = None) -> Tensor:
    """A tensor from a tensor, variable, number, nested list or array.

    Python numbers become int32 or float32 unless `dtype` says otherwise; arrays keep their dtype.

    Raises:
        TypeError: the value does not fit `dtype`.  ValueError: a ragged list, or None.
    """
    dtype = None if dtype is None else types.as_dtype(dtype)
    if isinstance(value, Tensor):
        if dtype is not None and value.dtype is not dtype:
            raise WrongDtype(f"Tensor conversion requested dtype {dtype.name} for Tensor with dtype {value.dtype.name}: {value!r}; convert "
                             "with tf.cast")
        return value
    if hasattr(value, "_as_tensor"):
        return convert_to_tensor(value._as_tensor(), dtype)
    for _, kind, convert in _conversions:
        if isinstance(value, kind):
            found = convert(value, dtype, name, False)
            if found is not NotImplemented:
                return found
    if isinstance(value, (list, tuple)) and _holds_tensor(value):
        return graph.OPERATORS["stack"]([convert_to_tensor(v, dtype or _first_dtype(value)) for v in value], name=name)
    preferred = preferred_dtype if preferred_dtype is not None else dtype_hint
    if dtype is None and preferred is not None:
        try:
            return constant(value, preferred, name=name or "Const")
        except (TypeError, ValueError):
            pass
    return constant(value, dtype, name=name or "Const")


def _holds_tensor(values: Any) -> bool:
    return any(isinstance(v, Tensor) or hasattr(v, "_as_tensor") or (isinstance(v, (list, tuple)) and _holds_tensor(v)) for v in values)


def _first_dtype(values: Any) -> DType | None:
    for v in values:
        if isinstance(v, Tensor) or hasattr(v, "_as_tensor"):
            return v.dtype.base_dtype
        if isinstance(v, (list, tuple)) and (found := _first_dtype(v)):
            return found
    return None


def to_array(value: Any, dtype: DType | None, what: str = "constant") -> np.ndarray:
    """A stored array of `dtype` (inferred when None) from Python data.

    Raises:
        TypeError: a value that the dtype cannot hold (a float in an int, a string, None).  ValueError: ragged.
    """
    if value is None:
        raise ValueError("None values not supported: a tensor, a number or an array is expected")
    if isinstance(value, types.Dimension | types.TensorShape):
        value = int(value) if isinstance(value, types.Dimension) else value.as_list()  # type: ignore[call-overload]
    try:
        array = np.asarray(value)
    except UnicodeDecodeError:  # text beside bytes that are none
        array = np.asarray(value, object)
    except ValueError as e:
        raise ValueError(f"cannot make a {what} of a ragged sequence: {e}") from None
    if array.dtype == object and array.size and not isinstance(array.flat[0], (str, bytes)):
        bad = next((v for v in array.flat if not isinstance(v, (int, float, np.generic))), array.flat[0])
        raise TypeError(f"Failed to convert object of type {type(bad).__name__} to a {what}: {bad!r}")
    weak = not hasattr(value, "__array__") and not _holds_numpy(value)  # arrays, and what is one: columns of a table
    if dtype is None:
        dtype = _natural(array, weak)
    if dtype.kind == "s":
        return types.as_strings(value, f"a {what} of strings")
    if array.dtype.kind in "SUO":
        raise TypeError(f"Expected {dtype.name}, got {value!r} of type {type(value).__name__} instead.")
    if weak and array.size:
        _check_weak(value, array, dtype)
    if dtype is types.bfloat16:
        return types.bf16_encode(array.astype(np.float32))
    with np.errstate(all="ignore"):
        return np.array(array, dtype.np, order="C")


def _holds_numpy(value: Any) -> bool:
    return isinstance(value, (list, tuple)) and len(value) > 0 and isinstance(value[0], (np.ndarray, np.generic))


def _natural(array: np.ndarray, weak: bool) -> DType:
    """Python floats are float32 and ints int32 (int64 when they need it); arrays keep their dtype."""
    if weak and array.dtype == np.float64:
        return types.float32
    if weak and array.dtype == np.int64:
        fits = array.size == 0 or (array.min() >= -2**31 and array.max() < 2**31)
        return types.int32 if fits else types.int64
    return types.as_dtype(array.dtype)


def _check_weak(value: Any, array: np.ndarray, dtype: DType) -> None:
    kind = array.dtype.kind
    if dtype.kind in "iu":
        if kind == "b" or kind in "fc":
            raise TypeError(f"Expected {dtype.name}, got {_offender(value)} of type '{_kind_name(kind)}' instead.")
        if array.min() < dtype.min or array.max() > dtype.max:
            raise TypeError(f"Value {value!r} is out of range for {dtype.name} [{dtype.min}, {dtype.max}].")
    if dtype.kind == "b" and kind != "b" or dtype.kind in "fc" and kind == "b" or dtype.kind == "f" and kind == "c":
        raise TypeError(f"Expected {dtype.name}, got {_offender(value)} of type '{_kind_name(kind)}' instead.")


def _kind_name(kind: str) -> str:
    return {"b": "bool", "f": "float", "c": "complex", "i": "int", "u": "int"}[kind]


def _offender(value: Any) -> str:
    text = repr(value)
    return text if len(text) < 60 else text[:57] + "..."


def as_known(array: np.ndarray, dtype: DType) -> np.ndarray | None:
    """The value as an object array, when it is one worth following."""
    followed = dtype.kind in "iu" and array.size <= KNOWN_LIMIT and array.ndim <= 2 and not isinstance(array, Opaque)
    return array.astype(object) if followed else None


def _const_infer(*, value: np.ndarray, dtype: DType) -> Spec:
    return Spec(dtype, tuple(value.shape), as_known(value, dtype))


def _const(*, value: np.ndarray, dtype: DType) -> Tensor:  # type: ignore[empty-body]
    """A constant array, stored read-only in the graph."""


Const = OpDef(_const, "constant", type="Const", default_name="Const", infer=_const_infer, no_gradient="a constant")
Const.reference(lambda *, value, dtype: types.bf16_decode(value) if dtype is types.bfloat16 else value)


def constant(value: Any, dtype: Any = None, shape: Any = None, name: str | None = "Const", verify_shape: bool = False) -> Tensor:
    """A constant tensor.

    Args:
        value: a number, nested list or array.
        dtype: its dtype; otherwise Python floats give float32, ints int32, arrays their own.
        shape: the result's shape; a shorter `value` is filled up with its last element, as in TF1.
        verify_shape: refuse to fill.

    Raises:
        TypeError: the value does not fit the dtype.  ValueError: it has more elements than `shape`.
    """
    array = to_array(value, None if dtype is None else types.as_dtype(dtype))
    element = types.as_dtype(dtype) if dtype is not None else types.as_dtype(array.dtype)
    if shape is not None:
        array = _fill(array, types.TensorShape(shape).as_list(), verify_shape)
    array.setflags(write=False)
    return graph.get_default_graph().create_op(Const, (), {"value": array, "dtype": element}, name).outputs[0]


def _fill(array: np.ndarray, sizes: list[Any], verify: bool) -> np.ndarray:
    count = int(np.prod(sizes))
    if verify and list(array.shape) != sizes:
        raise TypeError(f"Expected a value of shape {sizes}, got one of shape {list(array.shape)}.")
    if array.size > count:
        raise ValueError(f"Too many elements provided. Needed at most {count}, but received {array.size}.")
    flat = array.reshape(-1)
    if array.size < count:
        flat = np.concatenate([flat, np.full(count - flat.size, flat[-1] if flat.size else 0, flat.dtype)])
    return flat.reshape(sizes)


def graph_of(values: Sequence[Any]) -> graph.Graph:
    """The scratch graph a pass builds in, else the graph of the first tensor, else the default graph."""
    default = graph.get_default_graph()
    if isinstance(default, Scratch):
        return default
    for v in values:
        if isinstance(v, Tensor):
            return v.op.graph
    return default


def constant_value(tensor: Any) -> np.ndarray | None:
    """The tensor's value if the graph determines it, else None."""
    tensor = convert_to_tensor(tensor)
    if tensor.op.opdef is Const:
        return tensor.op.attrs["value"]
    if tensor.known is not None and not any(isinstance(v, types.Dim) for v in tensor.known.flat):
        return tensor.known.astype(tensor.dtype.np)
    return None


# ---------------------------------------------------------------- families


def _follow(fn: Callable[..., Any], inputs: Sequence[Any], attrs: dict[str, Any]) -> np.ndarray | None:
    """Applies an op's NumPy meaning to followed integer values, which may hold symbolic sizes."""
    if any(t.known is None for t in inputs):
        return None
    try:
        found = np.asarray(fn(*[t.known for t in inputs], **attrs), object)
    except (TypeError, ValueError, AttributeError, ZeroDivisionError):
        return None
    low, high = (inputs[0].dtype.min, inputs[0].dtype.max) if inputs[0].dtype.kind in "iu" else (0, 0)
    fits = found.size <= KNOWN_LIMIT and all(isinstance(v, types.Dim) or low <= v <= high for v in found.flat)
    return found if fits else None


def elementwise(*, scalar: Callable[..., Expr], numpy: Callable[..., Any], result: Any = "same", follow: Any = None,
                **traits: Any) -> Callable[..., OpDef]:
    """An op that acts on each element, with NumPy broadcasting.

    scalar: the element as a Kernel IR expression, from the inputs' elements (and the attributes by keyword).
    result: "same", "bool", "real" (the real type of a complex input), "last" (the last input's), or a function
        `(*inputs, **attrs) -> DType`.
    follow: how followed integer values combine, when that is not what `numpy` does to object arrays.
    """
    def infer(*inputs: Tensor, **attrs: Any) -> Spec:
        first = inputs[-1].dtype if result == "last" else inputs[0].dtype
        if callable(result):
            dtype = result(*inputs, **attrs)
        else:
            dtype = types.bool_ if result == "bool" else first.real_dtype if result == "real" else first
        sizes = types.broadcast_shapes(*[t.sizes for t in inputs])
        known = _follow(follow or numpy, inputs, attrs) if dtype.kind in "iu" else None
        return Spec(dtype, sizes, known)

    def lower(op: Operation, index: Sequence[Expr], read: Read) -> Expr:
        return scalar(*[read(i, broadcast_index(t.sizes, index)) for i, t in enumerate(op.inputs)], **op.attrs)

    return lambda fn: OpDef(fn, "elementwise", scalar=scalar, numpy=numpy, result=result, infer=infer, lower=lower, axes=same_axes,
                             **traits)


def same_axes(op: Operation, make: Any = None) -> Axes:
    """Each element depends on those at the same place: `make` is the same op, unless one is given."""
    rank = len(op.outputs[0].sizes)  # type: ignore[arg-type]
    inputs = tuple(tuple(range(rank - len(t.sizes), rank)) for t in op.inputs)  # type: ignore[arg-type]
    return Axes(tuple(range(rank)), inputs, make or (lambda order, inputs: op.opdef(*inputs, **op.attrs)), aligned=True)


def broadcast_index(sizes: Any, index: Sequence[Expr]) -> list[Expr]:
    """Where an input of `sizes` is read for the output element at `index`."""
    tail = index[len(index) - len(sizes):]
    return [ir.index_const(0) if types.same(s, 1) else i for s, i in zip(sizes, tail)]


def reduction(*, combine: str, numpy: Callable[..., Any], **traits: Any) -> Callable[..., OpDef]:
    """An op `f(x, *, axis, keepdims)` that folds axes; `axis` is a tuple of ints (negative only while the rank is unknown), or None for
    all.
    """
    def infer(x: Tensor, *, axis: tuple[int, ...] | None, keepdims: bool) -> Spec:
        if x.sizes is None:
            return Spec(x.dtype, () if axis is None and not keepdims else None)
        folded = set(range(len(x.sizes)) if axis is None else [types.canonical_axis(a, len(x.sizes)) for a in axis])
        sizes = tuple(1 if i in folded else s for i, s in enumerate(x.sizes) if keepdims or i not in folded)
        return Spec(x.dtype, sizes, _follow(lambda a: numpy(a, axis=axis, keepdims=keepdims), [x], {}))

    def reference(x: np.ndarray, *, axis: Any, keepdims: bool) -> Any:
        return numpy(x, axis=axis, keepdims=keepdims)

    def fold(op: Operation, index: Sequence[Expr], read: Read) -> ir.Fold:
        sizes, axis, keepdims = op.inputs[0].sizes, op.attrs["axis"], op.attrs["keepdims"]
        folded = {i: ir.Axis(sizes[i]) for i in (range(len(sizes)) if axis is None else sorted(a % len(sizes) for a in axis))}
        kept = iter(index)
        at: list[Expr] = []
        for i in range(len(sizes)):
            if i not in folded or keepdims:
                place = next(kept)
            at.append(ir.axis(folded[i]) if i in folded else place)
        return ir.Fold(combine, tuple(folded.values()), read(0, at))

    traits.setdefault("constants", 1)
    return lambda fn: OpDef(fn, "reduction", combine=combine, numpy=reference, infer=infer, fold=fold, axes=_reduction_axes, **traits)


def _reduction_axes(op: Operation) -> Axes:
    rank, keep = len(op.inputs[0].sizes), op.attrs["keepdims"]  # type: ignore[arg-type]
    folded = range(rank) if op.attrs["axis"] is None else [a % rank for a in op.attrs["axis"]]
    return Axes(tuple(a for a in range(rank) if keep or a not in folded), (tuple(range(rank)),),
                lambda order, inputs: op.opdef(inputs[0], axis=tuple(sorted(map(order.index, folded))), keepdims=keep))


def movement(**traits: Any) -> Callable[..., OpDef]:
    """An op that only moves elements: `lowers` maps an output index to the element read."""
    return lambda fn: OpDef(fn, "movement", **traits)


def composite(**traits: Any) -> Callable[..., OpDef]:
    """A named op whose function body, in other ops, is its meaning; it is opened before fusion.

    Its spec is that of the body, unless `infers` gives a cheaper one.
    """
    def make(fn: Callable[..., Any]) -> OpDef:
        op = OpDef(fn, "composite", **traits)
        if op._infer is None:
            op._infer = lambda *inputs, **attrs: _body_spec(op, inputs, attrs)
        if op._numpy is None:
            op._numpy = None
        return op
    return make


def _body_spec(opdef: OpDef, inputs: Sequence[Tensor], attrs: dict[str, Any]) -> list[Spec]:
    """Builds the body in a scratch graph to learn its outputs."""
    with scratch() as g:
        stand_ins = [g.stand_in(Spec(t.dtype, t.sizes, t.known)) for t in inputs]
        found = opdef.fn(*stand_ins, **attrs)
    outputs = found if isinstance(found, (list, tuple)) else [found]
    return [Spec(t.dtype, t.sizes, t.known) for t in outputs]


def primitive(family: str, **traits: Any) -> Callable[..., OpDef]:
    """Any other op, with all hooks given by decorators.  Families: contraction, indexing, random, linalg, state, host, window, scan."""
    return lambda fn: OpDef(fn, family, **traits)


# ---------------------------------------------------------------- scratch graphs, for bodies, rules and passes


def _stand_in(*, spec: Spec) -> Tensor:  # type: ignore[empty-body]
    """A value that comes from outside a scratch graph."""


StandIn = OpDef(_stand_in, "input", type="StandIn", infer=lambda *, spec: spec, no_gradient="an outside value")


class Scratch(graph.Graph):
    """A graph that passes build in: inputs may belong to any graph, names need not be unique."""

    _numbers = iter(range(1 << 62))

    def __init__(self, device: str = "", site: Any = None, origin: tuple[str, ...] = (), prefix: str = ""):
        super().__init__()
        self._context = device, site, origin
        self._prefix = prefix

    def create_op(self, opdef: Any, inputs: Sequence[Tensor], attrs: dict[str, Any], name: str | None = None) -> Operation:
        specs = opdef.infer(inputs, attrs)
        number = next(Scratch._numbers)
        op = Operation(self, number, f"{self._prefix}{name or opdef.default_name}", opdef, tuple(inputs), (), attrs, specs, *self._context)
        self._ops.append(op)
        return op

    def unique_name(self, name: str, mark_as_used: bool = True) -> str:
        return name

    def stand_in(self, spec: Spec) -> Tensor:
        return self.create_op(StandIn, (), {"spec": spec}).outputs[0]


class scratch:
    """`with scratch(origin of op) as g:` makes a new scratch graph the default."""

    def __init__(self, like: Operation | None = None):
        self._graph = Scratch() if like is None else Scratch(like.device, like.site, like.origin or (like.name,), like.name + "/")

    def __enter__(self) -> Scratch:
        self._entered = self._graph.as_default()
        self._entered.__enter__()
        return self._graph

    def __exit__(self, *problem: Any) -> None:
        self._entered.__exit__(*problem)


def needs_rank(x: Tensor, rank: int | None = None, what: str = "input") -> tuple[Any, ...]:
    """The sizes of `x`, of `rank` dimensions if that is given.

    Raises:
        UnknownRank: not known yet; the outputs then have unknown rank too.  ValueError: another rank.
    """
    if x.sizes is None:
        raise UnknownRank(f"the rank of {what} must be known; call set_shape on it")
    if rank is not None and len(x.sizes) != rank:
        raise ValueError(f"Shape must be rank {rank} but is rank {len(x.sizes)}")
    return x.sizes


def unsupported_gradient(op: Operation) -> str:
    return f"No gradient defined for operation {errors.where(op)}" + (f": {op.opdef.no_gradient}" if op.opdef.no_gradient else "")
