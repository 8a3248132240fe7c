"""What a model consists of: its variables and operations, with their sizes."""
from __future__ import annotations

from typing import Any, Sequence

import numpy as np

from ... import types

__all__ = ["analyze_ops", "analyze_vars", "tensor_description"]


def tensor_description(var: Any) -> str:
    """`(float32_ref 784x128)`: the dtype and sizes of a tensor or variable; ? for a size that is not known."""
    sizes = var.get_shape().as_list() if var.get_shape().ndims is not None else ["?"]
    return f"({var.dtype.name} {'x'.join('?' if n is None else str(n) for n in sizes)})"


def analyze_ops(graph: Any, print_info: bool = False) -> int:
    """The number of elements of all outputs of the graph whose shapes are known; with `print_info` a line for each operation."""
    if print_info:
        print("---------\nOperations: name -> (type shapes) [size]\n---------")
    total = 0
    for op in graph.get_operations():
        count, shapes = 0, []
        for t in op.outputs:
            size = t.get_shape().num_elements() or 0
            shapes += [tensor_description(t)] if size else []
            count += size
        total += count
        if print_info:
            print(op.name, "\t->", ", ".join(shapes), f"[{count}]")
    return total


def analyze_vars(variables: Sequence[Any], print_info: bool = False) -> tuple[int, int]:
    """(elements, bytes) of the variables; with `print_info` a line for each of them and one for all."""
    if print_info:
        print("---------\nVariables: name (type shape) [size]\n---------")
    total = nbytes = 0
    for v in variables:
        size = int(np.prod([n or 0 for n in v.get_shape().as_list()], dtype=np.int64))
        width = types.as_dtype(v.dtype).base_dtype.size
        total, nbytes = total + size, nbytes + size * width
        if print_info:
            print(v.name, tensor_description(v), f"[{size}, bytes: {size * width}]")
    if print_info:
        print(f"Total size of variables: {total}\nTotal bytes of variables: {nbytes}")
    return total, nbytes
