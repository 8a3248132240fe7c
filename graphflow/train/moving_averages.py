"""Exponential moving averages of variables and tensors."""
from __future__ import annotations

from typing import Any

from .. import control_flow_ops, graph, math_ops, types
from ..graph import GraphKeys, Operation, Tensor
from ..ops import state
from ..ops.opdef import convert_to_tensor
from ..variables import Variable
from .optimizer import make_slot, start_of


def assign_moving_average(variable: Any, value: Any, decay: Any, zero_debias: bool = True, name: str | None = None) -> Tensor:
    """variable -= (1 - decay) * (variable - value); the result is the new value.

    Args:
        zero_debias: correct for a start at zero, with the slots "biased" and "local_step" (Kingma and Ba 2014, section 3).
    """
    g = graph.get_default_graph()
    with g.name_scope(name or "AssignMovingAvg") as scope:
        dtype = variable.dtype.base_dtype
        rate = 1.0 - _decay(decay, dtype)
        value = convert_to_tensor(value, dtype)
        if not zero_debias:
            return state.assign_sub(variable, (variable - value) * rate, name=scope)
        biased = make_slot(variable, start_of(variable), "biased")
        local_step = make_slot(variable, lambda: convert_to_tensor(0.0, dtype), "local_step")
        new = biased - (biased - value) * rate
        step = local_step + 1.0
        writes = [state.assign(biased, new), state.assign(local_step, step)]
        with g.control_dependencies([w.op for w in writes]):
            return state.assign(variable, new / (1.0 - math_ops.pow(1.0 - rate, step)), name=scope)


def _decay(decay: Any, dtype: types.DType) -> Tensor:
    if isinstance(decay, (int, float)):
        return convert_to_tensor(float(decay), dtype)
    return math_ops.cast(convert_to_tensor(decay), dtype)


class ExponentialMovingAverage:
    """Shadow variables that follow variables: shadow -= (1 - decay) * (shadow - variable).

    Args:
        decay: close to 1.
        num_updates: a count of updates; the decay is then min(decay, (1 + num_updates) / (10 + num_updates)).
        zero_debias: correct the averages of tensors for their start at zero.
        name: last part of the shadows' names: "w/ExponentialMovingAverage".
    """

    def __init__(self, decay: Any, num_updates: Any = None, zero_debias: bool = False, name: str = "ExponentialMovingAverage"):
        self._decay, self._num_updates, self._zero_debias, self._name = decay, num_updates, zero_debias, name
        self._averages: dict[Any, Variable] = {}

    @property
    def name(self) -> str:
        return self._name

    def apply(self, var_list: Any = None) -> Operation:
        """Makes shadows of `var_list` (variables start at their initial value, tensors at zero) and the op that updates them.

        Raises:
            TypeError: an element is not a float.  ValueError: nothing to average.
        """
        g = graph.get_default_graph()
        var_list = g.get_collection(GraphKeys.TRAINABLE_VARIABLES) if var_list is None else list(var_list)
        if not var_list:
            raise ValueError("There are no variables to average.")
        for v in var_list:
            if not v.dtype.base_dtype.is_floating:
                raise TypeError(f"The variables must be half, float, or double: {v.name}")
            if v not in self._averages:
                self._averages[v] = self._shadow(v)
        with g.name_scope(self._name) as scope:
            decay = convert_to_tensor(self._decay, name="decay")
            if self._num_updates is not None:
                count = math_ops.cast(self._num_updates, types.float32)
                decay = math_ops.minimum(decay, (1.0 + count) / (10.0 + count))
            updates = [assign_moving_average(self._averages[v], v, decay, zero_debias=self._zero_debias and isinstance(v, Tensor))
                       for v in var_list]
            return control_flow_ops.group(*updates, name=scope)

    def _shadow(self, v: Any) -> Variable:
        is_variable = getattr(v, "handle", None) is not None
        if is_variable and hasattr(v, "initialized_value"):
            start = v.initialized_value
        else:
            start = (lambda: v.initial_value) if is_variable else start_of(v)
        shadow = make_slot(v, start, self._name)
        if is_variable:
            v.graph.add_to_collection(GraphKeys.MOVING_AVERAGE_VARIABLES, v)
        return shadow

    def average(self, var: Any) -> Variable | None:
        """The shadow of `var`, or None."""
        return self._averages.get(var)

    def average_name(self, var: Any) -> str:
        """The name the shadow of `var` has, or would have."""
        return self._averages[var].op.name if var in self._averages else f"{var.op.name}/{self._name}"

    def variables_to_restore(self, moving_avg_variables: Any = None) -> dict[str, Any]:
        """{name to restore from: variable} for a Saver: the averaged variables take the values of their shadows."""
        g = graph.get_default_graph()
        if moving_avg_variables is None:
            moving_avg_variables = g.get_collection(GraphKeys.TRAINABLE_VARIABLES) + g.get_collection(GraphKeys.MOVING_AVERAGE_VARIABLES)
        averaged = dict.fromkeys(moving_avg_variables)
        out = {self.average_name(v): v for v in averaged}
        names = {v.op.name for v in averaged}
        rest = [v for v in g.get_collection(GraphKeys.GLOBAL_VARIABLES) if v.op.name not in names]
        out.update({v.op.name: v for v in rest if v.op.name not in out})
        return out
