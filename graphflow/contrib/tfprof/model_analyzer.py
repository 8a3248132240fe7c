"""`tf.contrib.tfprof.model_analyzer`: `tf.profiler.profile` and its ready-made options under their older names."""
from __future__ import annotations

from typing import Any

from ...profiler import GraphNodeProto, ProfileOptionBuilder, profile

__all__ = ["FLOAT_OPS_OPTIONS", "TRAINABLE_VARS_PARAMS_STAT_OPTIONS", "print_model_analysis"]

TRAINABLE_VARS_PARAMS_STAT_OPTIONS = ProfileOptionBuilder.trainable_variables_parameter()
FLOAT_OPS_OPTIONS = ProfileOptionBuilder.float_operation()


def print_model_analysis(graph: Any, run_meta: Any = None, op_log: Any = None, tfprof_cmd: str = "scope",
                         tfprof_options: Any = None) -> GraphNodeProto:
    """Writes what `tf.profiler.profile` counts, and returns it; see there for the arguments."""
    return profile(graph, run_meta, op_log, tfprof_cmd, tfprof_options)
