"""Sharing variables by name: `variable_scope`, `get_variable`, `make_template`.

A variable scope prefixes the names of `get_variable` and carries defaults for it.  Entering one also opens a name scope
for ops: opened again, ops go to `vs_1/` while variables stay in `vs/`.  `get_variable` itself ignores name scopes.
"""
from __future__ import annotations

import enum
import functools
import inspect
from contextlib import ExitStack, contextmanager
from typing import Any, Callable, Iterator

import numpy as np

from . import errors, graph, init_ops, partitioned_variables, types
from .graph import GraphKeys
from .ops import opdef
from .variables import Variable, VariableAggregation, VariableSynchronization

__all__ = ["AUTO_REUSE", "VariableScope", "get_variable_scope", "get_variable", "get_local_variable", "variable_scope", "variable_op_scope",
           "no_regularizer", "make_template"]


class _ReuseMode(enum.Enum):
    AUTO_REUSE = 1


AUTO_REUSE = _ReuseMode.AUTO_REUSE


class _Store:
    """Variables made by `get_variable`, and how often each scope name was opened: one a graph."""

    def __init__(self) -> None:
        self.variables: dict[str, Any] = {}
        self.opened: dict[str, int] = {}

    def unique_scope(self, prefix: str) -> str:
        """`prefix`, `prefix_1`, ... under the current scope, the first not opened yet."""
        base = _join(get_variable_scope().name, prefix)
        number = 0
        while self.opened.get(base if not number else f"{base}_{number}"):
            number += 1
        return prefix if not number else f"{prefix}_{number}"


def _store() -> _Store:
    g = graph.get_default_graph()
    return g.__dict__.setdefault("_variable_store", _Store())


def _join(scope: str, name: str) -> str:
    return f"{scope}/{name}" if scope and name else scope or name


def no_regularizer(_: Any) -> None:
    """As `regularizer=`: no regularisation, whatever the scope says."""
    return None


class VariableScope:
    """Name prefix and defaults of `get_variable`: initializer, regularizer, reuse, custom getter, dtype, constraint..."""

    def __init__(self, reuse: Any, name: str = "", initializer: Any = None, regularizer: Any = None, caching_device: Any = None,
                 partitioner: Any = None, custom_getter: Any = None, name_scope: str = "", dtype: Any = types.float32,
                 use_resource: Any = None, constraint: Any = None):
        self._name, self._reuse, self._name_scope = name, reuse, name_scope
        self._initializer, self._regularizer, self._constraint = initializer, regularizer, constraint
        self._caching_device, self._partitioner, self._custom_getter = caching_device, partitioner, custom_getter
        self._dtype, self._use_resource = types.as_dtype(dtype), use_resource

    name = property(lambda self: self._name)
    original_name_scope = property(lambda self: self._name_scope)
    reuse = property(lambda self: self._reuse)
    initializer = property(lambda self: self._initializer)
    regularizer = property(lambda self: self._regularizer)
    constraint = property(lambda self: self._constraint)
    caching_device = property(lambda self: self._caching_device)
    partitioner = property(lambda self: self._partitioner)
    custom_getter = property(lambda self: self._custom_getter)
    dtype = property(lambda self: self._dtype)
    use_resource = property(lambda self: self._use_resource)

    def reuse_variables(self) -> None:
        """From now on `get_variable` in this scope only finds existing variables."""
        self._reuse = True

    def set_initializer(self, initializer: Any) -> None:
        self._initializer = initializer

    def set_regularizer(self, regularizer: Any) -> None:
        self._regularizer = regularizer

    def set_dtype(self, dtype: Any) -> None:
        self._dtype = types.as_dtype(dtype)

    def set_use_resource(self, use_resource: bool) -> None:
        self._use_resource = use_resource

    def set_caching_device(self, caching_device: Any) -> None:
        self._caching_device = caching_device

    def set_partitioner(self, partitioner: Any) -> None:
        self._partitioner = partitioner

    def set_custom_getter(self, custom_getter: Any) -> None:
        self._custom_getter = custom_getter

    def get_collection(self, name: str) -> list[Any]:
        """Items of a collection whose names lie in this scope."""
        return graph.get_default_graph().get_collection(name, self._name + "/" if self._name else "")

    def trainable_variables(self) -> list[Any]:
        return self.get_collection(GraphKeys.TRAINABLE_VARIABLES)

    def global_variables(self) -> list[Any]:
        return self.get_collection(GraphKeys.GLOBAL_VARIABLES)

    def local_variables(self) -> list[Any]:
        return self.get_collection(GraphKeys.LOCAL_VARIABLES)

    def get_variable(self, name: str, shape: Any = None, dtype: Any = None, initializer: Any = None, regularizer: Any = None,
                     reuse: Any = None, trainable: bool | None = None, collections: Any = None, caching_device: Any = None,
                     partitioner: Any = None, validate_shape: bool = True, use_resource: Any = None, custom_getter: Any = None,
                     constraint: Any = None, synchronization: Any = VariableSynchronization.AUTO,
                     aggregation: Any = VariableAggregation.NONE) -> Any:
        """See `tf.get_variable`."""
        if not isinstance(name, str) or not name:
            raise ValueError(f"a variable needs a name, got {name!r}")
        initializer = self._initializer if initializer is None else initializer
        arguments = {
            "name": _join(self._name, name), "shape": shape, "dtype": _checked_dtype(name, dtype, initializer, self._dtype),
            "initializer": initializer,
            "regularizer": self._regularizer if regularizer is None else regularizer, "reuse": self._reuse if reuse is None else reuse,
            "trainable": trainable, "collections": collections, "caching_device": caching_device or self._caching_device,
            "partitioner": partitioner or self._partitioner, "validate_shape": validate_shape,
            "use_resource": self._use_resource if use_resource is None else use_resource,
            "constraint": self._constraint if constraint is None else constraint, "synchronization": synchronization,
            "aggregation": aggregation}
        if isinstance(arguments["regularizer"], type):
            arguments["regularizer"] = arguments["regularizer"]()
        getter = self._custom_getter if custom_getter is None else _compose(self._custom_getter, custom_getter)
        with graph.get_default_graph().name_scope(None):
            return _find_or_make(**arguments) if getter is None else getter(getter=_find_or_make, **arguments)


def _checked_dtype(name: str, dtype: Any, initializer: Any, default: types.DType) -> types.DType:
    """The dtype asked for; else that of a constant initializer, else the scope's."""
    if initializer is None or callable(initializer):
        return default if dtype is None else types.as_dtype(dtype)
    if hasattr(initializer, "dtype"):
        found = types.as_dtype(initializer.dtype)
    else:
        found = types.as_dtype(opdef.to_array(initializer, None).dtype) if dtype is None else types.as_dtype(dtype)
    if dtype is not None and found is not types.as_dtype(dtype):
        raise ValueError(f"Initializer type '{found}' and explicit dtype '{types.as_dtype(dtype)}' don't match for variable {name}.")
    return found


def _compose(outer: Any, inner: Any) -> Any:
    """The custom getter that asks `inner`, whose getter is `outer`."""
    if outer is None:
        return inner
    return lambda getter, *args, **kwargs: inner(functools.partial(outer, getter), *args, **kwargs)


def _find_or_make(name: str, shape: Any = None, dtype: Any = types.float32, initializer: Any = None, regularizer: Any = None,
                  reuse: Any = None,
                  trainable: bool | None = None, collections: Any = None, caching_device: Any = None, partitioner: Any = None,
                  validate_shape: bool = True, use_resource: Any = None, constraint: Any = None, synchronization: Any = None,
                  aggregation: Any = None, partition_info: Any = None) -> Any:
    """The variable called `name`, found or made, as `reuse` says; in parts if there is a partitioner and it is no scalar."""
    store, wanted = _store(), types.as_dtype(dtype)
    if partitioner is not None and not callable(partitioner):
        raise ValueError(f"Partitioner must be callable, but received: {partitioner}")
    if partitioner is not None and types.TensorShape(_whole_shape(shape, initializer)).ndims != 0:
        return _in_parts(store, name, wanted, partitioner, shape, reuse, initializer=initializer, regularizer=regularizer,
                         trainable=trainable, collections=collections, caching_device=caching_device, validate_shape=validate_shape,
                         use_resource=use_resource, constraint=constraint)
    if isinstance(store.variables.get(name), partitioned_variables.PartitionedVariable) or f"{name}/part_0" in store.variables:
        raise ValueError(f"No partitioner was provided, but a partitioned version of the variable was found: {name}/part_0. Perhaps a "
                         "variable of the same name was already created with partitioning?")
    if name in store.variables:
        return _shared(store.variables[name], name, shape, wanted, reuse)
    if reuse is True:
        raise ValueError(f"Variable {name} does not exist, or was not created with tf.get_variable(). Did you mean to set "
                         "reuse=tf.AUTO_REUSE "
                         f"in VarScope?{errors.suggest(name, store.variables)}")
    if collections is not None and GraphKeys.LOCAL_VARIABLES in collections and trainable is None:
        trainable = False
    value = _initial_value(name, shape, wanted, initializer, validate_shape, partition_info)
    fits = validate_shape and callable(value) and shape is not None
    v = Variable(value, trainable=trainable, collections=collections, validate_shape=validate_shape, name=name, dtype=wanted,
                 constraint=constraint,
                 caching_device=caching_device, use_resource=use_resource, shape=shape if fits else None)
    store.variables[name] = v
    if regularizer is not None:
        _regularize(v, name, regularizer)
    return v


def _whole_shape(shape: Any, initializer: Any) -> Any:
    """The shape asked for, or that of a constant initializer."""
    return np.shape(initializer) if shape is None and initializer is not None and not callable(initializer) and not hasattr(
        initializer, "shape") else getattr(initializer, "shape", None) if shape is None else shape


def _in_parts(store: _Store, name: str, dtype: types.DType, partitioner: Any, shape: Any, reuse: Any, *, initializer: Any,
              **common: Any) -> Any:
    """The PartitionedVariable called `name`, found or made."""
    found = store.variables.get(name)
    if isinstance(found, partitioned_variables.PartitionedVariable):
        if not reuse:
            raise ValueError(f"Partitioned variable with name {name} already exists. Did you mean to set reuse=True or reuse=tf.AUTO_REUSE "
                             "in VarScope?")
        if shape is not None and not types.TensorShape(shape).is_compatible_with(found.shape):
            raise ValueError(f"Trying to reuse partitioned variable {name}, but specified shape {types.TensorShape(shape)} and found shape "
                             f"{found.shape}.")
        if dtype is not found.dtype:
            raise ValueError(f"Trying to reuse partitioned variable {name}, but specified dtype {dtype.name} and found dtype "
                             f"{found.dtype.name}.")
        return found
    if found is not None:
        raise ValueError(f"A partitioner was provided, but an unpartitioned version of the variable was found: {name}. Perhaps a variable "
                         "of the same name was already created without partitioning?")
    if reuse is True:
        raise ValueError(f"PartitionedVariable {name} does not exist, or was not created with tf.get_variable(). Did you mean to set "
                         "reuse=False or reuse=tf.AUTO_REUSE in VarScope?")

    def part(part_name: str, sizes: list[int], info: Any, axis: int) -> Any:
        if initializer is None or callable(initializer):
            return _find_or_make(part_name, sizes, dtype, initializer, reuse=False, partition_info=info, **common)
        rows = [slice(o, o + n) for o, n in zip(info.var_offset, sizes)]
        value = initializer if hasattr(initializer, "shape") else np.asarray(opdef.to_array(initializer, dtype))
        return _find_or_make(part_name, None, dtype, value[tuple(rows)], reuse=False, **common)

    made = store.variables[name] = partitioned_variables.make(name, _whole_shape(shape, initializer), dtype, partitioner, part)
    return made


def _shared(v: Any, name: str, shape: Any, dtype: types.DType, reuse: Any) -> Any:
    if not reuse:
        raise ValueError(f"Variable {name} already exists, disallowed. Did you mean to set reuse=True or reuse=tf.AUTO_REUSE in VarScope? "
                         f"Originally defined at:\n\n  {v.op.site}")
    if shape is not None and not types.TensorShape(shape).is_compatible_with(v.shape):
        raise ValueError(f"Trying to share variable {name}, but specified shape {types.TensorShape(shape)} and found shape {v.shape}. "
                         f"Originally defined at:\n\n  {v.op.site}")
    if dtype is not v.dtype:
        raise ValueError(f"Trying to share variable {name}, but specified dtype {dtype.name} and found dtype {v.dtype.name}. "
                         f"Originally defined at:\n\n  {v.op.site}")
    return v


def _initial_value(name: str, shape: Any, dtype: types.DType, initializer: Any, validate_shape: bool, partition_info: Any = None) -> Any:
    """What `Variable` starts from: a value, or a function that builds it inside the variable's scope."""
    if initializer is not None and not callable(initializer):
        if shape is not None and not _same_shape(shape, initializer):
            raise ValueError(f"If initializer is a constant, do not specify shape. (variable {name})")
        return initializer
    sizes = types.TensorShape(shape)
    if initializer is None:
        initializer = init_ops.default_initializer(dtype)
    elif isinstance(initializer, type):
        initializer = initializer()
    if sizes.is_fully_defined():
        return functools.partial(_call_initializer, initializer, sizes.as_list(), dtype, partition_info)
    if shape is None and not _required(initializer):
        return initializer
    raise ValueError(f"Shape of a new variable ({name}) must be fully defined, but instead was {sizes}.")


def _same_shape(shape: Any, value: Any) -> bool:
    """TF1 refuses a shape beside a constant; one that says the same is let through."""
    return types.TensorShape(shape) == (value.shape if hasattr(value, "shape") else np.shape(value))


def _required(fn: Any) -> list[str]:
    try:
        parameters = inspect.signature(fn).parameters.values()
    except (TypeError, ValueError):
        return []
    return [p.name for p in parameters if p.default is p.empty and p.kind in (p.POSITIONAL_ONLY, p.POSITIONAL_OR_KEYWORD, p.KEYWORD_ONLY)]


def _call_initializer(fn: Any, sizes: Any, dtype: types.DType, partition_info: Any = None) -> Any:
    """Calls an initializer with as many of (shape, dtype, partition_info) as it takes."""
    try:
        parameters = inspect.signature(fn).parameters
    except (TypeError, ValueError):
        return fn(sizes, dtype=dtype)
    if not parameters:
        return fn()
    kinds = {p.kind for p in parameters.values()}
    offered = {"dtype": dtype, "partition_info": partition_info}
    required, takes_all = _required(fn), inspect.Parameter.VAR_KEYWORD in kinds
    wanted = {k for k in offered if k in required or k in parameters and (k == "dtype" or partition_info is not None)}
    return fn(sizes, **{k: v for k, v in offered.items() if k in wanted or k == "dtype" and takes_all})


def _regularize(v: Any, name: str, regularizer: Callable[[Any], Any]) -> None:
    g = graph.get_default_graph()
    with g.colocate_with(v.op), g.name_scope(name + "/Regularizer/"):
        loss = regularizer(v)
    if loss is not None:
        g.add_to_collection(GraphKeys.REGULARIZATION_LOSSES, loss)


# ---------------------------------------------------------------- the current scope


def get_variable_scope() -> VariableScope:
    """The innermost `variable_scope`, or the root scope."""
    state = graph.get_default_graph()._state
    if state.variable_scope is None:
        state.variable_scope = VariableScope(False)
    return state.variable_scope


def get_variable(name: str, shape: Any = None, dtype: Any = None, initializer: Any = None, regularizer: Any = None,
                 trainable: bool | None = None,
                 collections: Any = None, caching_device: Any = None, partitioner: Any = None, validate_shape: bool = True,
                 use_resource: Any = None, custom_getter: Any = None, constraint: Any = None,
                 synchronization: Any = VariableSynchronization.AUTO, aggregation: Any = VariableAggregation.NONE) -> Variable:
    """The variable `name` of the current variable scope: made, or found when the scope reuses.

    Args:
        name: its name below the scope's.
        shape, dtype: of a new variable (float32 by default); checked against a shared one.
        initializer: an initializer, a function of no arguments, or a value (then without `shape`); by default the scope's,
            else Glorot uniform for floats and zeros for integers.
        regularizer: a function whose result for a new variable joins REGULARIZATION_LOSSES.
        trainable, collections, validate_shape, constraint: see `tf.Variable`.
        custom_getter: called as `custom_getter(getter, name=..., shape=..., ...)` instead.
        partitioner: a function (shape, dtype) -> parts along each axis; gives a `PartitionedVariable`.
        caching_device, use_resource, synchronization, aggregation: accepted; they change nothing here.

    Raises:
        ValueError: it exists and the scope does not reuse; it is missing and the scope reuses; a shared one has another shape
            or dtype; the shape of a new one is not fully known.
    """
    return get_variable_scope().get_variable(
        name, shape=shape, dtype=dtype, initializer=initializer, regularizer=regularizer, trainable=trainable, collections=collections,
        caching_device=caching_device, partitioner=partitioner, validate_shape=validate_shape, use_resource=use_resource,
        custom_getter=custom_getter, constraint=constraint, synchronization=synchronization, aggregation=aggregation)


def get_local_variable(name: str, shape: Any = None, dtype: Any = None, initializer: Any = None, regularizer: Any = None,
                       trainable: bool = False, collections: Any = None, caching_device: Any = None, partitioner: Any = None,
                       validate_shape: bool = True, use_resource: Any = None, custom_getter: Any = None, constraint: Any = None,
                       synchronization: Any = VariableSynchronization.AUTO, aggregation: Any = VariableAggregation.NONE) -> Variable:
    """`get_variable` for a variable of LOCAL_VARIABLES: not trained, not saved."""
    wanted = [*(collections or ()), *([] if collections and GraphKeys.LOCAL_VARIABLES in collections else [GraphKeys.LOCAL_VARIABLES])]
    return get_variable(name, shape, dtype, initializer, regularizer, False, wanted, caching_device, partitioner, validate_shape,
                        use_resource, custom_getter, constraint, synchronization, aggregation)


class variable_scope:
    """`with tf.variable_scope("layer1", reuse=tf.AUTO_REUSE) as vs:`.

    Args:
        name_or_scope: a name below the current scope, or a VariableScope to enter again.
        default_name: used, made unique, when `name_or_scope` is None; such a scope cannot reuse.
        values: tensors the ops inside use; they must be of one graph.
        initializer, regularizer, caching_device, partitioner, custom_getter, dtype, use_resource, constraint: defaults of
            `get_variable`.
        reuse: True, AUTO_REUSE, or None (as around).
        auxiliary_name_scope: False opens no name scope for ops.

    Raises:
        ValueError: neither name, reuse with only a default name.  TypeError: a name that is none.
    """

    def __init__(self, name_or_scope: Any, default_name: str | None = None, values: Any = None, initializer: Any = None,
                 regularizer: Any = None,
                 caching_device: Any = None, partitioner: Any = None, custom_getter: Any = None, reuse: Any = None, dtype: Any = None,
                 use_resource: Any = None, constraint: Any = None, auxiliary_name_scope: bool = True):
        if name_or_scope is None and default_name is None:
            raise ValueError("If default_name is None then name_or_scope is required")
        if name_or_scope is None and reuse:
            raise ValueError("reuse=True cannot be used without a name_or_scope")
        if name_or_scope is not None and not isinstance(name_or_scope, (str, VariableScope)):
            raise TypeError(f"VariableScope: name_or_scope must be a string or VariableScope, got {name_or_scope!r}")
        if not isinstance(auxiliary_name_scope, bool):
            raise TypeError(f"The auxiliary_name_scope must be `True` or `False`, while get {auxiliary_name_scope}")
        self._target, self._default, self._values, self._aux = name_or_scope, default_name, values, auxiliary_name_scope
        self._given = {"initializer": initializer, "regularizer": regularizer, "caching_device": caching_device, "partitioner": partitioner,
                           "custom_getter": custom_getter, "reuse": reuse, "dtype": dtype, "use_resource": use_resource,
                           "constraint": constraint}
        self._stacks: list[ExitStack] = []

    def __enter__(self) -> VariableScope:
        stack = ExitStack()
        try:
            scope = self._enter(stack)
        except BaseException:
            stack.close()
            raise
        self._stacks.append(stack)
        return scope

    def __exit__(self, *problem: Any) -> None:
        self._stacks.pop().__exit__(*problem)

    def _enter(self, stack: ExitStack) -> VariableScope:
        g = _graph_of(self._values)
        if g is not graph.get_default_graph():
            stack.enter_context(g.as_default())
        target, ops_name = self._target, self._default
        if target is not None:
            ops_name = target if isinstance(target, str) else target.name.split("/")[-1]
        else:
            target = _store().unique_scope(self._default)  # type: ignore[arg-type]
        if self._aux and ops_name:
            name_scope = stack.enter_context(g.name_scope(ops_name.rstrip("/")))
        else:
            name_scope = g._state.name
        return stack.enter_context(_pure_scope(g, target, name_scope, self._given))


def _graph_of(values: Any) -> graph.Graph:
    tensors = [v for v in values or () if v is not None]
    found = [getattr(v, "graph", None) for v in tensors]
    graphs = [g for g in found if isinstance(g, graph.Graph)]
    if any(g is not graphs[0] for g in graphs):
        raise ValueError("the values of a variable_scope must be from the same graph")
    return graphs[0] if graphs else graph.get_default_graph()


@contextmanager
def _pure_scope(g: graph.Graph, target: Any, name_scope: str, given: dict[str, Any]) -> Iterator[VariableScope]:
    """The variable scope without its name scope; opening and leaving it count for the names of default scopes."""
    store, outer = _store(), get_variable_scope()
    again = isinstance(target, VariableScope)
    base = target if again else outer
    name = target.name if again else _join(outer.name, target)
    inner = VariableScope(
        given["reuse"] or (target.reuse if again else outer.reuse), name, name_scope=target.original_name_scope if again else name_scope,
        **{k: getattr(base, k) if given[k] is None else given[k] for k in
           ("initializer", "regularizer", "caching_device", "partitioner", "dtype", "use_resource", "constraint")},
        custom_getter=base.custom_getter if given["custom_getter"] is None else _compose(base.custom_getter, given["custom_getter"]))
    before = dict(store.opened)
    store.opened[name] = store.opened.get(name, 0) + 1
    g._state.variable_scope = inner
    try:
        yield inner
    finally:
        g._state.variable_scope = outer
        store.opened = before if again else {k: 0 if k.startswith(name + "/") else n for k, n in store.opened.items()}


def variable_op_scope(values: Any, name_or_scope: Any, default_name: str | None = None, initializer: Any = None, regularizer: Any = None,
                      caching_device: Any = None, partitioner: Any = None, custom_getter: Any = None, reuse: Any = None, dtype: Any = None,
                      use_resource: Any = None, constraint: Any = None) -> variable_scope:
    """`variable_scope` with `values` first (TF1's older form)."""
    return variable_scope(name_or_scope, default_name, values, initializer, regularizer, caching_device, partitioner, custom_getter, reuse,
                          dtype, use_resource, constraint)


# ---------------------------------------------------------------- templates


def make_template(name_: str, func_: Callable[..., Any], create_scope_now_: bool = False, unique_name_: str | None = None,
                  custom_getter_: Any = None, **kwargs: Any) -> Callable[..., Any]:
    """`func_` with variables of its own: the first call makes them, later calls share them.

    Args:
        name_: scope of the variables, made unique.
        create_scope_now_: fix the scope now rather than at the first call.
        unique_name_: the scope's exact name, in place of `name_`.
        kwargs: arguments of `func_`, bound now.
    """
    return _Template(name_, functools.partial(func_, **kwargs) if kwargs else func_, create_scope_now_, unique_name_, custom_getter_)


class _Template:
    """The result of `make_template`."""

    def __init__(self, name: str, fn: Callable[..., Any], now: bool, unique: str | None, getter: Any):
        self._name, self._fn, self._unique, self._getter = name, fn, unique, getter
        self._scope: VariableScope | None = None
        self._made = False
        if now:
            with variable_scope(unique, default_name=name, custom_getter=getter) as self._scope:
                pass

    name = property(lambda self: self._name)

    @property
    def variable_scope(self) -> VariableScope | None:
        return self._scope

    @property
    def variables(self) -> list[Any]:
        return self._scope.global_variables() if self._scope is not None else []

    @property
    def trainable_variables(self) -> list[Any]:
        return self._scope.trainable_variables() if self._scope is not None else []

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        if self._scope is None:
            with variable_scope(self._unique, default_name=self._name, custom_getter=self._getter) as self._scope:
                result = self._fn(*args, **kwargs)
        else:
            with variable_scope(self._scope, reuse=self._made or None):
                result = self._fn(*args, **kwargs)
        self._made = True
        return result
