"""GraphFlow: a static computation-graph compiler and session runtime, with the TensorFlow 1.x names.

    import graphflow as tf

Public names only; each comes from the module that owns it.
"""
from . import bitwise, compat, errors
from .compat import imports as _imports
from .array_ops import *
from .math_ops import *
from .graph import Graph, GraphKeys, Operation, Tensor, get_default_graph, reset_default_graph
from .ops.contraction import matmul
from .ops.einsum import einsum, tensordot
from .ops.elementwise import stop_gradient
from .ops.host import numpy_function, py_func
from .ops.gradients import AggregationMethod, RegisterGradient, UnconnectedGradients, gradients
from .ops.opdef import constant, convert_to_tensor, register_tensor_conversion_function
from .ops.state import assign, assign_add, assign_sub
from .ops import summaries as _summaries
from .session import InteractiveSession, Session, get_default_session
from .types import (DType, Dimension, TensorShape, as_dtype, bfloat16, complex64, complex128, double, float16, float32, float64,
                    half, int8, int16, int32, int64, string, uint8, uint16, uint32, uint64)
from .types import bool_ as bool
from .check_ops import *
from .compat.switches import *
from .config import *
from .control_flow_ops import *
from .custom_gradient import *
from .data_flow_ops import *
from .framework import *
from .functional_ops import *
from .graph_def import *
from .init_ops import *
from .io_ops import *
from .random_ops import *
from .sparse_tensor import *
from .tensor_array_ops import *
from .state_ops import *
from .partitioned_variables import *
from .variable_scope import *
from .variables import *
from . import math
from .clip_ops import *
from .linalg import *
from . import layers, linalg, losses, sparse, train
from . import nn
from .nn import extract_image_patches
from . import graph_util, late_names
from .version import GRAPHFLOW_VERSION, VERSION

__version__ = VERSION  # of the API: what TF1 programs ask for


def explain(fetches, feed_dict=None, session=None):
    """See graphflow/debug/explain.py; loaded when it is first asked for."""
    from .debug.explain import explain as explain_

    return explain_(fetches, feed_dict, session)


# Modules that most programs do not need are loaded when first asked for.
_LAZY = {
    "app": ".platform.app",
    "config": ".platform.config",
    "contrib": ".contrib",
    "core": ".core",
    "data": ".data",
    "debugging": ".debugging",
    "distributions": ".distributions",
    "examples": ".examples",
    "feature_column": ".feature_column",
    "flags": ".platform.flags",
    "gfile": ".platform.gfile",
    "image": ".image",
    "logging": ".platform.logging",
    "metrics": ".metrics",
    "profiler": ".profiler",
    "python": ".python",
    "resource_loader": ".platform.resource_loader",
    "summary": ".summary",
    "test": ".platform.test",
}
_LATE_NAMES = {"confusion_matrix": ".metrics", "MetaGraphDef": ".train.meta_graph",  # functions of such modules
               "get_logger": ".platform.logging"}
_LATE_NAMES |= dict.fromkeys(("Event", "HistogramProto", "LogMessage", "RunMetadata", "SessionLog", "Summary", "SummaryMetadata"),
                             ".proto")
_LAZY |= {"io": ".io", "python_io": ".python_io", "strings": ".strings"}
_LATE_NAMES |= dict.fromkeys(("audio_summary", "histogram_summary", "image_summary", "merge_all_summaries", "merge_summary",
                              "scalar_summary"), ".summary.old")
_LAZY |= late_names.MODULES
_LATE_NAMES |= late_names.NAMES
# What is known to be missing, by the first name or a part of it.
_LATER = {"estimator": "tf.estimator", "keras": "tf.keras", "distribute": "tf.distribute"}

# graphflow/flags.py and graphflow/config.py stay importable; `tf.flags` and `tf.config` are TF1's.
globals().pop("flags")
globals().pop("config")


def __getattr__(name: str):
    """Modules loaded late; for any other name an AttributeError that says what is near or where it will come."""
    if name in _LAZY:
        import importlib

        found = globals()[name] = importlib.import_module(_LAZY[name], __name__)
        return found
    if name in _LATE_NAMES:
        import importlib

        return getattr(importlib.import_module(_LATE_NAMES[name], __name__), name)
    if name in late_names.ABSENT:
        raise AttributeError(f"module 'graphflow' has no attribute {name!r}: {late_names.ABSENT[name]}")
    if name in _LATER:
        raise AttributeError(f"module 'graphflow' has no attribute {name!r}: {_LATER[name]} is not in this release")
    raise AttributeError(
        f"module 'graphflow' has no attribute {name!r}.{errors.suggest(name, __dir__()) if not name.startswith('_') else ''}")


def __dir__() -> list[str]:
    return sorted({*globals(), *_LAZY, *_LATE_NAMES})
