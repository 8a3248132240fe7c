"""Descriptions of tensors: `build_tensor_info` and back."""
from __future__ import annotations

from typing import Any

from .. import graph
from ..graph import Tensor
from ..ops.opdef import convert_to_tensor
from ..proto import TensorInfo
from ..sparse_tensor import SparseTensor

__all__ = ["build_tensor_info", "get_tensor_from_tensor_info"]


def build_tensor_info(tensor: Any) -> Any:
    """A `TensorInfo`: name, dtype and shape of a tensor, variable or SparseTensor."""
    if isinstance(tensor, SparseTensor):
        parts = TensorInfo.CooSparse(values_tensor_name=tensor.values.name, indices_tensor_name=tensor.indices.name,
                                     dense_shape_tensor_name=tensor.dense_shape.name)
        return TensorInfo(dtype=tensor.dtype.as_datatype_enum, tensor_shape=tensor.shape.as_proto(), coo_sparse=parts)
    t = convert_to_tensor(tensor)
    name = tensor.name if hasattr(tensor, "handle") else t.name
    return TensorInfo(dtype=t.dtype.as_datatype_enum, tensor_shape=t.shape.as_proto(), name=name)


def get_tensor_from_tensor_info(tensor_info: Any, graph: Any = None, import_scope: str | None = None) -> Any:
    """The tensor or SparseTensor of a description in the default graph (or `graph`).

    Raises:
        KeyError: it is not there.  ValueError: the description has no name.
    """
    g = _default(graph)

    def find(name: str) -> Tensor:
        return g.get_tensor_by_name(f"{import_scope}/{name}" if import_scope else name)

    kind = tensor_info.WhichOneof("encoding")
    if kind == "name":
        return find(tensor_info.name)
    if kind == "coo_sparse":
        parts = tensor_info.coo_sparse
        return SparseTensor(find(parts.indices_tensor_name), find(parts.values_tensor_name), find(parts.dense_shape_tensor_name))
    raise ValueError(f"Invalid TensorInfo.encoding: {kind}")


def _default(g: Any) -> Any:
    return graph.get_default_graph() if g is None else g
