"""The switches between TF2 and TF1 behaviour: most are accepted and without effect, for there is only TF1 behaviour."""
from __future__ import annotations

from .. import types

__all__ = ["control_flow_v2_enabled", "disable_control_flow_v2", "disable_eager_execution", "disable_resource_variables",
           "disable_tensor_equality", "disable_v2_behavior", "disable_v2_tensorshape", "enable_control_flow_v2",
           "enable_resource_variables", "enable_v2_tensorshape", "executing_eagerly", "executing_eagerly_outside_functions",
           "resource_variables_enabled"]


def disable_v2_behavior() -> None:
    """Graphs, sessions and race-free variables are all there is; shapes have Dimensions."""
    types.plain_sizes(False)


def enable_v2_tensorshape() -> None:
    """From now on shape[i] is a number or None, not a Dimension."""
    types.plain_sizes(True)


def disable_v2_tensorshape() -> None:
    """Shape[i] is a Dimension again."""
    types.plain_sizes(False)


def disable_control_flow_v2() -> None:
    """Accepted and without effect."""


disable_eager_execution = disable_resource_variables = disable_tensor_equality = disable_control_flow_v2
enable_control_flow_v2 = enable_resource_variables = disable_control_flow_v2


def executing_eagerly() -> bool:
    """False: ops build the graph."""
    return False


executing_eagerly_outside_functions = executing_eagerly


def control_flow_v2_enabled() -> bool:
    """True: branches and loops are regions of the graph."""
    return True


def resource_variables_enabled() -> bool:
    """True: variables are read without races."""
    return True
