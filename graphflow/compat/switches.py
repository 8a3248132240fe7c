"""The switches between TF2 and TF1 behaviour: accepted and without effect, for there is only TF1 behaviour."""
from __future__ import annotations

__all__ = ["disable_control_flow_v2", "disable_eager_execution", "disable_resource_variables", "disable_tensor_equality",
           "disable_v2_behavior", "disable_v2_tensorshape", "enable_control_flow_v2", "enable_resource_variables", "executing_eagerly"]


def disable_v2_behavior() -> None:
    """Accepted and without effect: graphs, sessions and race-free variables are all there is."""


disable_control_flow_v2 = disable_eager_execution = disable_resource_variables = disable_tensor_equality = disable_v2_behavior
disable_v2_tensorshape = enable_control_flow_v2 = enable_resource_variables = disable_v2_behavior


def executing_eagerly() -> bool:
    """False: ops build the graph."""
    return False
