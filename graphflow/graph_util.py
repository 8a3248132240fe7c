"""`tf.graph_util`: parts of a graph, and a graph with its variables frozen to constants."""
from __future__ import annotations

from typing import Any, Sequence

import numpy as np

from . import errors, types
from .graph_def import GraphDef, NodeDef, _base, import_graph_def, mentioned, needed

__all__ = ["extract_sub_graph", "import_graph_def", "convert_variables_to_constants", "remove_training_nodes", "must_run_on_cpu",
           "tensor_shape_from_node_def_name"]


def extract_sub_graph(graph_def: GraphDef, dest_nodes: Sequence[str]) -> GraphDef:
    """The nodes that `dest_nodes` need, in the same order.

    Raises:
        TypeError: `dest_nodes` is a string.  ValueError: a name that is not in the graph.
    """
    if isinstance(dest_nodes, str):
        raise TypeError("dest_nodes must be a list.")
    nodes = {n.name: n for n in graph_def.node}
    wanted, todo = set(), [_base(d) for d in dest_nodes]
    while todo:
        name = todo.pop()
        if name not in nodes:
            raise ValueError(f"{name} is not in graph.{errors.suggest(name, nodes)}")
        if name not in wanted:
            wanted.add(name)
            todo.extend(needed(nodes[name]))
    return GraphDef(NodeDef(n.name, n.op, n.input, n.device, n.attr) for n in graph_def.node if n.name in wanted)


def convert_variables_to_constants(sess: Any, input_graph_def: GraphDef, output_node_names: Sequence[str],
                                   variable_names_whitelist: Any = None, variable_names_blacklist: Any = None) -> GraphDef:
    """The part of the graph that `output_node_names` need, with the variables' values of `sess` as constants.

    Raises:
        ValueError: an unknown output.  errors.FailedPreconditionError: a variable without a value.
    """
    part = extract_sub_graph(input_graph_def, output_node_names)
    names = [n.name for n in part.node if n.op == "VariableV2" and (variable_names_whitelist is None or n.name in variable_names_whitelist)
             and n.name not in (variable_names_blacklist or ())]
    values = dict(zip(names, sess.run([f"{n}:0" for n in names]) if names else []))
    for n in part.node:
        if n.name in values:
            dtype = n.attr["dtype"]
            value = np.asarray(values[n.name])
            array = types.bf16_encode(value) if dtype is types.bfloat16 else np.array(value, dtype.np)
            array.setflags(write=False)
            n.op, n.input, n.attr = "Const", [], {"value": array, "dtype": dtype}
        elif n.op == "ReadVariableOp" and _base(n.input[0]) in values:
            n.op, n.attr = "Identity", {}
    return part


def remove_training_nodes(input_graph: GraphDef, protected_nodes: Sequence[str] | None = None) -> GraphDef:
    """The graph without CheckNumerics and Identity nodes, their readers going to their input."""
    kept = set(protected_nodes or ())
    dropped = {n.name: n.input[0] for n in input_graph.node
               if n.op in ("Identity", "CheckNumerics") and n.name not in kept and not any(i.startswith("^") for i in n.input)}
    # A node that others wait for by a control edge, or mean by its name, stays.
    for n in input_graph.node:
        for name in [m for v in n.attr.values() for m in mentioned(v)]:
            dropped.pop(_base(name), None)
        for i in n.input:
            if i.startswith("^"):
                dropped.pop(i[1:], None)

    def source(name: str) -> str:
        while not name.startswith("^") and _base(name) in dropped:
            name = dropped[_base(name)]
        return name

    return GraphDef(NodeDef(n.name, n.op, [source(i) for i in n.input], n.device, n.attr) for n in input_graph.node
                    if n.name not in dropped)


def must_run_on_cpu(node: Any, pin_variables_on_cpu: bool = False) -> bool:
    """Whether a node has no device kernel: host ops, strings, and (if asked) variables."""
    from .ops.opdef import REGISTRY

    op = node.op if isinstance(node, NodeDef) else node.type
    return REGISTRY[op].family == "host" or pin_variables_on_cpu and op == "VariableV2"


def tensor_shape_from_node_def_name(graph: Any, input_name: str) -> types.TensorShape:
    """The static shape of the tensor called `input_name` in `graph`."""
    return graph.get_tensor_by_name(input_name if ":" in input_name else input_name + ":0").shape
