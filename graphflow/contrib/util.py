"""`tf.contrib.util`: TensorProto messages, values of constants."""
from __future__ import annotations

from typing import Any

from ..ops.opdef import constant_value as _constant_value
from ..tensor_util import make_ndarray, make_tensor_proto

__all__ = ["constant_value", "make_ndarray", "make_tensor_proto", "ops_used_by_graph_def"]


def constant_value(tensor: Any, partial: bool = False) -> Any:
    """The array a tensor has in every run, as far as the graph determines it; else None."""
    return _constant_value(tensor)


def ops_used_by_graph_def(graph_def: Any) -> list[str]:
    """The types of the operations in a GraphDef."""
    return list(dict.fromkeys(node.op for node in graph_def.node))
