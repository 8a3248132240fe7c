"""Variables of a model: making them, finding them by scope and name, giving them values from arrays and checkpoints."""
from __future__ import annotations

import functools
from typing import Any, Callable

import numpy as np

from ... import array_ops, graph, types
from ...control_flow_ops import group
from ...graph import Graph, GraphKeys, Operation, Tensor
from ...ops import state
from ...platform import logging
from ...specs import DeviceSpec
from ...train import Saver, load_checkpoint
from ...train.training_util import (assert_global_step, create_global_step, get_global_step, get_or_create_global_step)
from ...variable_scope import VariableScope, get_variable, get_variable_scope
from ...variables import Variable, VariableAggregation, VariableSynchronization
from .arg_scope import add_arg_scope

__all__ = ["VariableDeviceChooser", "add_model_variable", "assert_global_step", "assert_or_get_global_step", "assign_from_checkpoint",
           "assign_from_checkpoint_fn", "assign_from_values", "assign_from_values_fn", "create_global_step", "filter_variables",
           "get_global_step", "get_local_variables", "get_model_variables", "get_or_create_global_step", "get_trainable_variables",
           "get_unique_variable", "get_variable_full_name", "get_variables", "get_variables_by_name", "get_variables_by_suffix",
           "get_variables_to_restore", "global_variable", "local_variable", "model_variable", "variable", "zero_initializer"]


def zero_initializer(ref: Any, use_locking: bool = True, name: str = "zero_initializer") -> Tensor:
    """Fills a variable with zeros; the result is its value."""
    sizes = ref.get_shape().as_list()
    return state.assign(ref, array_ops.zeros(sizes, ref.dtype.base_dtype), name=name)


def assert_or_get_global_step(graph: Graph | None = None, global_step_tensor: Any = None) -> Any:
    """`global_step_tensor`, checked, or the graph's own (None if it has none).  Raises TypeError for one that is no integer scalar."""
    if global_step_tensor is None:
        return get_global_step(graph)
    assert_global_step(global_step_tensor)
    return global_step_tensor


# ---------------------------------------------------------------- making


def local_variable(initial_value: Any, validate_shape: bool = True, name: str | None = None, use_resource: Any = None) -> Variable:
    """A variable of LOCAL_VARIABLES, not trained."""
    return Variable(initial_value, False, [GraphKeys.LOCAL_VARIABLES], validate_shape, name=name)


def global_variable(initial_value: Any, validate_shape: bool = True, name: str | None = None, use_resource: Any = None) -> Variable:
    """A variable of GLOBAL_VARIABLES, not trained."""
    return Variable(initial_value, False, [GraphKeys.GLOBAL_VARIABLES], validate_shape, name=name)


@add_arg_scope
def variable(name: str, shape: Any = None, dtype: Any = None, initializer: Any = None, regularizer: Any = None, trainable: bool = True,
             collections: Any = None, caching_device: Any = None, device: Any = None, partitioner: Any = None, custom_getter: Any = None,
             use_resource: Any = None, synchronization: Any = VariableSynchronization.AUTO,
             aggregation: Any = VariableAggregation.NONE) -> Any:
    """`tf.get_variable` on `device`; `custom_getter`, if given, is called in its place."""
    wanted = list(dict.fromkeys([GraphKeys.GLOBAL_VARIABLES] if collections is None else collections))
    getter = get_variable if custom_getter is None else functools.partial(custom_getter, reuse=get_variable_scope().reuse)
    with graph.get_default_graph().device(device or ""):
        return getter(name, shape=shape, dtype=dtype, initializer=initializer, regularizer=regularizer, trainable=trainable,
                      collections=wanted, caching_device=caching_device, partitioner=partitioner, use_resource=use_resource,
                      synchronization=synchronization, aggregation=aggregation)


@add_arg_scope
def model_variable(name: str, shape: Any = None, dtype: Any = types.float32, initializer: Any = None, regularizer: Any = None,
                   trainable: bool = True, collections: Any = None, caching_device: Any = None, device: Any = None, partitioner: Any = None,
                   custom_getter: Any = None, use_resource: Any = None, synchronization: Any = VariableSynchronization.AUTO,
                   aggregation: Any = VariableAggregation.NONE) -> Any:
    """`variable` that also joins GLOBAL_VARIABLES and MODEL_VARIABLES."""
    wanted = [*(collections or []), GraphKeys.GLOBAL_VARIABLES, GraphKeys.MODEL_VARIABLES]
    return variable(name, shape=shape, dtype=dtype, initializer=initializer, regularizer=regularizer, trainable=trainable,
                    collections=wanted, caching_device=caching_device, device=device, partitioner=partitioner,
                    custom_getter=custom_getter, use_resource=use_resource, synchronization=synchronization, aggregation=aggregation)


def add_model_variable(var: Any) -> None:
    """Puts a variable into MODEL_VARIABLES, once."""
    g = graph.get_default_graph()
    if all(v is not var for v in g.get_collection(GraphKeys.MODEL_VARIABLES)):
        g.add_to_collection(GraphKeys.MODEL_VARIABLES, var)


class VariableDeviceChooser:
    """A device function: variables go to the parameter servers in turn; without any, to the device that the arguments name.

    Args:
        num_tasks, job_name: of the parameter servers.
        device_type, device_index, replica: of the device.
    """

    def __init__(self, num_tasks: int = 0, job_name: str = "ps", device_type: str = "CPU", device_index: int | None = 0,
                 replica: int | None = None):
        self._num_tasks, self._job_name, self._next = num_tasks, job_name, 0
        self._device: dict[str, Any] = {"replica": replica, "device_type": device_type, "device_index": device_index}

    def __call__(self, op: Any) -> str:
        if not self._num_tasks:
            return DeviceSpec(**self._device).to_string()
        task, self._next = self._next, (self._next + 1) % self._num_tasks
        return DeviceSpec(job=self._job_name, task=task, **self._device).to_string()


# ---------------------------------------------------------------- finding


def get_variables(scope: Any = None, suffix: str | None = None, collection: str = GraphKeys.GLOBAL_VARIABLES) -> list[Any]:
    """The variables of a collection below `scope` (a VariableScope, or a regular expression for the start) whose name ends in `suffix`."""
    pattern = scope.name if isinstance(scope, VariableScope) else scope
    if suffix is not None:
        pattern = (pattern or "") + ".*" + (suffix if ":" in suffix else suffix + ":")
    return graph.get_default_graph().get_collection(collection, pattern)


def get_model_variables(scope: Any = None, suffix: str | None = None) -> list[Any]:
    """`get_variables` of MODEL_VARIABLES."""
    return get_variables(scope, suffix, GraphKeys.MODEL_VARIABLES)


def get_local_variables(scope: Any = None, suffix: str | None = None) -> list[Any]:
    """`get_variables` of LOCAL_VARIABLES."""
    return get_variables(scope, suffix, GraphKeys.LOCAL_VARIABLES)


def get_trainable_variables(scope: Any = None, suffix: str | None = None) -> list[Any]:
    """`get_variables` of TRAINABLE_VARIABLES."""
    return get_variables(scope, suffix, GraphKeys.TRAINABLE_VARIABLES)


def get_variables_by_suffix(suffix: str, scope: Any = None) -> list[Any]:
    """Global variables whose name ends in `suffix`."""
    return get_variables(scope, suffix)


def get_variables_by_name(given_name: str, scope: Any = None) -> list[Any]:
    """Global variables called `given_name` below any scope, or below `scope`."""
    return [v for v in get_variables(scope) if v.op.name.split("/")[-1] == given_name]


def get_variables_to_restore(include: Any = None, exclude: Any = None) -> list[Any]:
    """Global variables in the scopes of `include` (all by default) and in none of `exclude`.

    Raises:
        TypeError: one of them is no list or tuple.
    """
    for name, value in (("include", include), ("exclude", exclude)):
        if value is not None and not isinstance(value, (list, tuple)):
            raise TypeError(f"{name} is provided but is not a list or a tuple: {value!r}")
    left_out = {v for scope in exclude or () for v in get_variables(scope)}
    found = get_variables() if include is None else [v for scope in include for v in get_variables(scope)]
    return [v for v in found if v not in left_out]


def get_unique_variable(var_op_name: str) -> Any:
    """The global variable with this whole name.  Raises ValueError when there is none."""
    candidates = get_variables(var_op_name)
    if not candidates:
        raise ValueError(f"Couldn't find variable {var_op_name}")
    for candidate in candidates:
        if candidate.op.name == var_op_name:
            return candidate
    raise ValueError(f"Variable {var_op_name} does not uniquely identify a variable: it may be any of {[v.op.name for v in candidates]}")


def get_variable_full_name(var: Any) -> str:
    """The name under which a checkpoint holds the variable."""
    return var._save_slice_info.full_name if getattr(var, "_save_slice_info", None) else var.op.name


def filter_variables(var_list: Any, include_patterns: Any = None, exclude_patterns: Any = None, reg_search: bool = True) -> list[Any]:
    """Variables that one of `include_patterns` matches (any, by default) and none of `exclude_patterns`.

    Args:
        reg_search: the regular expressions may match anywhere in a name ("scope/v:0"), else from its start.

    Raises:
        TypeError: the patterns are no list or tuple.
    """
    import re

    for name, value in (("include_patterns", include_patterns), ("exclude_patterns", exclude_patterns)):
        if value is not None and not isinstance(value, (list, tuple)):
            raise TypeError(f"{name} is provided but is not a list or a tuple: {value!r}")
    match = re.search if reg_search else re.match
    return [v for v in var_list if (include_patterns is None or any(match(p, v.name) for p in include_patterns))
            and not any(match(p, v.name) for p in exclude_patterns or ())]


# ---------------------------------------------------------------- giving values


def _fed(pairs: list[tuple[Any, np.ndarray]]) -> tuple[Operation, dict[Tensor, np.ndarray]]:
    """The operation that assigns the arrays, and the feeds with them."""
    feeds, assignments = {}, []
    for v, value in pairs:
        fed = array_ops.placeholder(v.dtype.base_dtype, v.get_shape(), name=f"placeholder/{v.op.name}")
        assignments.append(state.assign(v, fed))
        feeds[fed] = value
    return group(*assignments), feeds


def assign_from_values(var_names_to_values: dict[str, np.ndarray]) -> tuple[Operation, dict[Tensor, np.ndarray]]:
    """An operation and the feeds with which it assigns the arrays to the global variables of these names.

    Raises:
        ValueError: a name is unknown, or stands for several variables.
    """
    pairs = []
    for name, value in var_names_to_values.items():
        found = graph.get_default_graph().get_collection(GraphKeys.GLOBAL_VARIABLES, name)
        if not found:
            raise ValueError(f"Variable {name} wasn't found")
        exact = found if len(found) == 1 else [v for v in found if v.op.name == name]
        if not exact:
            raise ValueError(f"Variable {name} doesn't uniquely identify a variable")
        pairs.append((exact[0], np.reshape(value, exact[0].get_shape().as_list())))
    return _fed(pairs)


def assign_from_values_fn(var_names_to_values: dict[str, np.ndarray]) -> Callable[[Any], Any]:
    """A function of a session that assigns the arrays."""
    op, feeds = assign_from_values(var_names_to_values)
    return lambda session: session.run(op, feeds)


def assign_from_checkpoint(model_path: str, var_list: Any, ignore_missing_vars: bool = False) -> tuple[Operation, dict[Tensor, np.ndarray]]:
    """An operation and the feeds with which it assigns the values of a checkpoint.

    Args:
        var_list: variables, or {name in the checkpoint: variable or list of variables}.
        ignore_missing_vars: leave variables that the checkpoint lacks, with a warning.

    Raises:
        ValueError: the checkpoint lacks one, or has it in another shape.
    """
    wanted = var_list if isinstance(var_list, dict) else {get_variable_full_name(v): v for v in var_list}
    reader, pairs = load_checkpoint(model_path), []
    for name, variables in wanted.items():
        if not reader.has_tensor(name):
            if not ignore_missing_vars:
                raise ValueError(f"Checkpoint is missing variable [{name}]")
            logging.warning("Checkpoint is missing variable [%s]", name)
            continue
        value = reader.get_tensor(name)
        for v in variables if isinstance(variables, (list, tuple)) else [variables]:
            if v.get_shape().as_list() != list(value.shape):
                raise ValueError(f"Total size of new array must be unchanged for {name} lh_shape: [{value.shape}], "
                                 f"rh_shape: [{v.get_shape()}]")
            pairs.append((v, value))
    return _fed(pairs)


def assign_from_checkpoint_fn(model_path: str, var_list: Any, ignore_missing_vars: bool = False,
                              reshape_variables: bool = False) -> Callable[[Any], None] | None:
    """A function of a session that restores variables from a checkpoint; None when none of them is in it.

    Args:
        var_list: variables, or {name in the checkpoint: variable}.
        ignore_missing_vars: leave variables that the checkpoint lacks, with a warning.
        reshape_variables: take values of another shape and the same number of elements.

    Raises:
        ValueError: `var_list` is empty.
    """
    if not var_list:
        raise ValueError("var_list cannot be empty")
    if ignore_missing_vars:
        reader = load_checkpoint(model_path)
        wanted = var_list if isinstance(var_list, dict) else {v.op.name: v for v in var_list}
        for name in wanted:
            if not reader.has_tensor(name):
                logging.warning("Variable %s missing in checkpoint %s", name, model_path)
        var_list = {name: v for name, v in wanted.items() if reader.has_tensor(name)}
        if not var_list:
            logging.warning("No Variables to restore")
            return None
    saver = Saver(var_list, reshape=reshape_variables)
    return lambda session: saver.restore(session, model_path)
