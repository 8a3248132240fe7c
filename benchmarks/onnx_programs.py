"""ONNX graphs written as Python: `session(program, x)` traces `program(op, "x0")` and runs it in ONNX Runtime."""
from __future__ import annotations

import os
from typing import Any, Callable

import numpy as np
import onnx
import onnxruntime
from onnx import helper, numpy_helper


class _Ops:
    """`op.Add(a, b)` appends a node and returns its output's name; numbers and arrays become initializers."""

    def __init__(self) -> None:
        self.nodes: list[Any] = []
        self.constants: list[Any] = []

    def __getattr__(self, kind: str) -> Callable[..., str]:
        def node(*inputs: Any, **attributes: Any) -> str:
            names = [i if isinstance(i, str) else self._constant(i) for i in inputs]
            self.nodes.append(helper.make_node(kind, names, [f"t{len(self.nodes)}"], **attributes))
            return self.nodes[-1].output[0]
        return node

    def _constant(self, value: Any) -> str:
        array = value if isinstance(value, np.ndarray) else np.asarray(value, np.float32)
        self.constants.append(numpy_helper.from_array(array, f"c{len(self.constants)}"))
        return self.constants[-1].name


def session(program: Callable[..., Any], *inputs: np.ndarray) -> Callable[[], list[np.ndarray]]:
    """A function that runs the program once on these inputs, with as many threads as OMP_NUM_THREADS says."""
    op, feeds = _Ops(), {f"x{i}": a for i, a in enumerate(inputs)}
    out = program(op, *feeds)
    names = [out] if isinstance(out, str) else list(out)
    graph = helper.make_graph(op.nodes, "g", [helper.make_tensor_value_info(n, helper.np_dtype_to_tensor_dtype(a.dtype), a.shape)
                                              for n, a in feeds.items()],
                              [helper.make_empty_tensor_value_info(n) for n in names], op.constants)
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = int(os.environ["OMP_NUM_THREADS"])
    options.inter_op_num_threads = 1
    run = onnxruntime.InferenceSession(onnx.shape_inference.infer_shapes(model).SerializeToString(), options,
                                       providers=["CPUExecutionProvider"]).run
    return lambda: run(names, feeds)
