"""`tf.profiler`: parameters and float operations of a graph by name scope, and the times of a traced run.

Float operations are counted from the static shapes, by the formulas of TF1: two for each multiplication with its addition, one for each
element of other arithmetic.  What has no formula (or an unknown size) counts nothing, and for the latter a warning says so.
"""
from __future__ import annotations

import copy
import math
import re
import sys
import warnings
from typing import Any, Callable, Iterable, Sequence

from . import errors, graph, types
from .graph import GraphKeys, Operation, Tensor

__all__ = ["GraphNodeProto", "ProfileOptionBuilder", "profile"]

TRAINABLE = "_trainable_variables"

# ---------------------------------------------------------------- float operations


def _sizes(t: Tensor) -> list[int]:
    """The static shape.  Raises ValueError when it is not known."""
    if t.sizes is None or not all(isinstance(n, int) for n in t.sizes):
        raise ValueError(f"{t.name} of shape {t.shape}")
    return [int(n) for n in t.sizes]  # type: ignore[arg-type]


def _count(t: Tensor) -> int:
    """The number of elements.  Raises ValueError when it is not known."""
    return math.prod(_sizes(t))


def _each_input(times: int = 1) -> Callable[[Operation], float]:
    return lambda op: times * _count(op.inputs[0])


def _each_output(times: int = 1) -> Callable[[Operation], float]:
    return lambda op: times * _count(op.outputs[0])


def _folded(finish: int) -> Callable[[Operation], float]:
    """One for each element but the first of a result, and `finish` for each result."""
    return lambda op: _count(op.inputs[0]) + (finish - 1) * _count(op.outputs[0])


def _matmul(op: Operation) -> float:
    return 2 * _sizes(op.inputs[0])[-2 if op.get_attr("transpose_a") else -1] * _count(op.outputs[0])


def _conv(op: Operation) -> float:
    return 2 * _count(op.outputs[0]) * _count(op.inputs[1]) / _sizes(op.inputs[1])[-1]


def _conv_backward(image: Tensor, kernel: Tensor, op: Operation) -> float:
    return 2 * _count(image) * _count(kernel) / (_sizes(image)[-1] * math.prod(op.get_attr("strides")))


def _area(op: Operation) -> int:
    return math.prod(op.get_attr("window"))


FLOPS: dict[str, Callable[[Operation], float]] = {
    **dict.fromkeys(("Reciprocal", "Square", "Log", "Neg", "AssignSub", "AssignAdd"), _each_input()),
    "Rsqrt": _each_input(2), "Softmax": _each_input(5), "L2Loss": lambda op: 3 * _count(op.inputs[0]) - 1,
    **dict.fromkeys(("Add", "AddV2", "Sub", "Mul", "RealDiv", "Maximum", "Minimum", "Pow", "GreaterEqual", "Greater", "LessEqual", "Less",
                     "Equal", "NotEqual", "BiasAdd"), _each_output()),
    "SquaredDifference": _each_output(2), "Mean": _folded(1), **dict.fromkeys(("Sum", "ArgMax", "ArgMin"), _folded(0)),
    "AddN": lambda op: _count(op.inputs[0]) * (len(op.inputs) - 1), "MatMul": _matmul, "BatchMatMul": _matmul, "Conv2D": _conv,
    "Conv2DBackpropInput": lambda op: _conv_backward(op.outputs[0], op.inputs[1], op),
    "Conv2DBackpropFilter": lambda op: _conv_backward(op.inputs[0], op.outputs[0], op),
    "MaxPool": lambda op: _area(op) * _count(op.outputs[0]), "AvgPool": lambda op: _area(op) * _count(op.outputs[0]),
    "MaxPoolGrad": lambda op: (_area(op) + 1) * _count(op.inputs[1]), "AvgPoolGrad": lambda op: 2 * _area(op) * _count(op.inputs[1])}


def float_ops(op: Operation) -> int:
    """Float operations of one run of the op, 0 where there is no formula.  Raises ValueError for unknown sizes."""
    formula = FLOPS.get(op.type)
    return 0 if formula is None else int(formula(op))


# ---------------------------------------------------------------- options


class ProfileOptionBuilder:
    """Options of `profile`: a dict, from one of the ready-made ones or by the methods `with_...`, each of which returns the builder."""

    def __init__(self, options: dict[str, Any] | None = None):
        self._options = copy.deepcopy(options) if options is not None else {**_options(), "select": ["micros"], "max_depth": 100,
                                                                            "account_displayed_op_only": False}

    @staticmethod
    def trainable_variables_parameter() -> dict[str, Any]:
        """The sizes of the trainable variables."""
        return {**_options(), "account_type_regexes": [TRAINABLE], "select": ["params"]}

    @staticmethod
    def float_operation() -> dict[str, Any]:
        """Float operations, the largest first."""
        return {**_options(), "min_float_ops": 1, "order_by": "float_ops", "select": ["float_ops"]}

    def build(self) -> dict[str, Any]:
        """The options."""
        return copy.deepcopy(self._options)

    def _with(self, **options: Any) -> ProfileOptionBuilder:
        self._options.update(options)
        return self

    def with_max_depth(self, max_depth: int) -> ProfileOptionBuilder:
        """Shows scopes within that many others at most."""
        return self._with(max_depth=max_depth)

    def with_min_execution_time(self, min_micros: int = 0, min_accelerator_micros: int = 0, min_cpu_micros: int = 0) -> Any:
        """Shows nodes that took that long."""
        return self._with(min_micros=max(min_micros, min_accelerator_micros, min_cpu_micros))

    def with_min_parameters(self, min_params: int) -> ProfileOptionBuilder:
        """Shows nodes with that many parameters."""
        return self._with(min_params=min_params)

    def with_min_float_operations(self, min_float_ops: int) -> ProfileOptionBuilder:
        """Shows nodes with that many float operations."""
        return self._with(min_float_ops=min_float_ops)

    def with_accounted_types(self, account_type_regexes: Sequence[str]) -> ProfileOptionBuilder:
        """Counts ops whose type matches one of the expressions; `_trainable_variables` is a type of such variables."""
        return self._with(account_type_regexes=list(account_type_regexes))

    def with_node_names(self, start_name_regexes: Any = None, show_name_regexes: Any = None, hide_name_regexes: Any = None,
                        trim_name_regexes: Any = None) -> ProfileOptionBuilder:
        """Shows nodes whose name matches `show_name_regexes` and not `hide_name_regexes`; `trim` leaves out all in what it matches."""
        given = {"start_name_regexes": start_name_regexes, "show_name_regexes": show_name_regexes, "hide_name_regexes": hide_name_regexes,
                 "trim_name_regexes": trim_name_regexes}
        return self._with(**{k: list(v) for k, v in given.items() if v is not None})

    def account_displayed_op_only(self, is_true: bool) -> ProfileOptionBuilder:
        """Whether totals count the nodes that are shown only."""
        return self._with(account_displayed_op_only=is_true)

    def order_by(self, attribute: str) -> ProfileOptionBuilder:
        """By "name", or the largest "params", "float_ops" or "micros" first."""
        return self._with(order_by=attribute)

    def select(self, attributes: Sequence[str]) -> ProfileOptionBuilder:
        """What is shown: any of "params", "float_ops", "micros"."""
        return self._with(select=list(attributes))

    def with_empty_output(self) -> ProfileOptionBuilder:
        """Writes nothing; `profile` only returns the counts."""
        return self._with(output="none")

    def with_stdout_output(self) -> ProfileOptionBuilder:
        """Writes to standard output."""
        return self._with(output="stdout")

    def with_file_output(self, outfile: str) -> ProfileOptionBuilder:
        """Writes to a file."""
        return self._with(output=f"file:outfile={outfile}")


def _options() -> dict[str, Any]:
    return {"max_depth": 10000, "min_bytes": 0, "min_micros": 0, "min_params": 0, "min_float_ops": 0, "min_occurrence": 0,
            "order_by": "name", "account_type_regexes": [".*"], "start_name_regexes": [".*"], "trim_name_regexes": [],
            "show_name_regexes": [".*"], "hide_name_regexes": [], "account_displayed_op_only": True, "select": ["params"], "step": -1,
            "output": "stdout"}


# ---------------------------------------------------------------- the tree


class GraphNodeProto:
    """An op or scope: its own counts, those of all below it (`total_...`), and `children`."""

    def __init__(self, name: str):
        self.name = name
        self.children: list[GraphNodeProto] = []
        self.parameters = self.float_ops = self.exec_micros = 0
        self.total_parameters = self.total_float_ops = self.total_exec_micros = 0
        self.shape: types.TensorShape | None = None  # of a variable

    def __repr__(self) -> str:
        return (f"<{self.name}: {self.total_parameters} parameters, {self.total_float_ops} float operations, {self.total_exec_micros} us, "
                f"{len(self.children)} children>")


# name of an option -> (a node's own count, its total, how it is written)
SELECT = {"params": ("parameters", "total_parameters", "params", "# parameters"), "float_ops": ("float_ops", "total_float_ops", "flops",
                                                                                               "# float_ops"),
          "micros": ("exec_micros", "total_exec_micros", "us", "execution time")}
_OWN = [own for own, *_ in SELECT.values()]


def profile(graph: Any = None, run_meta: Any = None, op_log: Any = None, cmd: str = "scope", options: Any = None) -> GraphNodeProto:
    """Counts parameters, float operations and times by name scope, writes the tree and returns it.

    Args:
        graph: the default graph if None.
        run_meta: a `tf.RunMetadata` of a traced run, for the times; a kernel's time is that of the last of its ops.
        cmd: "scope", the only view here.
        op_log: accepted without effect, as are the options `min_bytes`, `min_occurrence` and `step`.
        options: of a `ProfileOptionBuilder`; "params" and "float_ops" of everything if None.

    Raises:
        ValueError: another view, an option that is not known or not counted here.
    """
    chosen = {**_options(), **(options if options is not None else {"select": ["params", "float_ops"]})}
    _check(cmd, chosen)
    root = _counted(_default() if graph is None else graph, run_meta, chosen["account_type_regexes"])
    root.children = _starts(root, [re.compile(r) for r in chosen["start_name_regexes"]])
    root = _shown(root, chosen, -1)[0]
    _write(root, chosen)
    return root


def _default() -> graph.Graph:
    return graph.get_default_graph()


def _check(cmd: str, options: dict[str, Any]) -> None:
    if cmd != "scope":
        raise ValueError(f"profile: the view {cmd!r} is not in this release; there is 'scope'")
    for word in [*options["select"], options["order_by"]]:
        if word not in SELECT and word != "name":
            raise ValueError(f"profile: {word!r} is not counted here; there are {sorted(SELECT)}.{errors.suggest(word, SELECT)}")
    unknown = options.keys() - _options().keys() - {"min_peak_bytes", "min_residual_bytes", "min_output_bytes"}
    if unknown:
        raise ValueError(f"profile: unknown option(s) {sorted(unknown)}; there are {sorted(_options())}")


def _counted(g: graph.Graph, run_meta: Any, accounted: Iterable[str]) -> GraphNodeProto:
    """The tree of all ops, each with what it counts for itself."""
    wanted = [re.compile(r) for r in accounted]
    trainable = {v.op.name for v in g.get_collection(GraphKeys.TRAINABLE_VARIABLES)}
    micros: dict[str, int] = {}
    for device in run_meta.step_stats.dev_stats if run_meta is not None else ():
        for n in device.node_stats:
            micros[n.node_name] = micros.get(n.node_name, 0) + n.all_end_rel_micros
    root = GraphNodeProto("_TFProfRoot")
    nodes = {"": root}
    unknown = []
    for op in g.get_operations():
        kinds = [op.type, op.device, *([TRAINABLE] if op.name in trainable else [])]
        if not any(r.fullmatch(k) for r in wanted for k in kinds):
            continue
        node = _node(nodes, op.name)
        try:
            node.float_ops = float_ops(op)
        except ValueError as e:
            unknown.append(str(e))
        if op.type == "VariableV2":
            node.shape = op.outputs[0].shape
            node.parameters = _count(op.outputs[0]) if node.shape.is_fully_defined() else 0
        node.exec_micros = micros.get(op.name, 0)
    if unknown:
        warnings.warn(f"float operations of {len(unknown)} op(s) are not counted, because sizes are not known: {unknown[0]}"
                      + (", ..." if len(unknown) > 1 else ""), stacklevel=4)
    return root


def _node(nodes: dict[str, GraphNodeProto], name: str) -> GraphNodeProto:
    if name not in nodes:
        nodes[name] = GraphNodeProto(name)
        _node(nodes, name.rpartition("/")[0]).children.append(nodes[name])
    return nodes[name]


def _starts(node: GraphNodeProto, wanted: Sequence[re.Pattern[str]]) -> list[GraphNodeProto]:
    """The outermost nodes below one whose names match."""
    return [n for c in node.children for n in ([c] if any(r.fullmatch(c.name) for r in wanted) else _starts(c, wanted))]


def _shown(node: GraphNodeProto, options: dict[str, Any], depth: int) -> list[GraphNodeProto]:
    """The node with what is shown below it and its totals; only that if the node itself is not shown."""
    if any(re.fullmatch(r, node.name) for r in options["trim_name_regexes"]):
        return []
    below = [n for c in node.children for n in _shown(c, options, depth + 1)]
    only = options["account_displayed_op_only"]
    for own in _OWN:
        counted = below if only else node.children
        setattr(node, f"total_{own}", getattr(node, own) + sum(getattr(c, f"total_{own}") for c in counted))
    node.children = sorted(below, key=lambda n: n.name)
    if options["order_by"] != "name":
        node.children.sort(key=lambda n: -getattr(n, SELECT[options["order_by"]][1]))
    place = 0 if only else 1
    least = all(getattr(node, SELECT[k][place]) >= options[f"min_{k}"] for k in SELECT)
    named = (any(re.fullmatch(r, node.name) for r in options["show_name_regexes"])
             and not any(re.fullmatch(r, node.name) for r in options["hide_name_regexes"]))
    return [node] if depth < 0 or least and named and depth <= options["max_depth"] else below


# ---------------------------------------------------------------- text


def _number(n: float) -> str:
    for size, unit in ((1e9, "b"), (1e6, "m"), (1e3, "k")):
        if n >= size:
            return f"{n / size:.2f}{unit}"
    return str(int(n))


def _lines(node: GraphNodeProto, select: Sequence[str], depth: int) -> Iterable[str]:
    shape = ["x".join(map(str, node.shape.as_list())) or "scalar"] if node.shape is not None and "params" in select else []
    counts = []
    for k in select:
        own, total, unit, _ = SELECT[k]
        counts.append(f"{_number(getattr(node, own)) if getattr(node, own) else '--'}/{_number(getattr(node, total))} {unit}")
    yield f"{'  ' * depth}{node.name} ({', '.join([*shape, *counts])})"
    for c in node.children:
        yield from _lines(c, select, depth + 1)


def _write(root: GraphNodeProto, options: dict[str, Any]) -> None:
    kind, _, rest = options["output"].partition(":")
    if kind not in ("stdout", "none", "file"):
        raise ValueError(f"profile: output is 'stdout', 'none' or 'file:outfile=PATH', got {options['output']!r}")
    titles = " | ".join(SELECT[k][3] for k in options["select"])
    text = "\n".join(["Profile:", f"node name | {titles}", *_lines(root, options["select"], 0), ""])
    if kind == "file":
        with open(rest.partition("outfile=")[2], "w", encoding="utf-8") as f:
            f.write(text)
    elif kind == "stdout":
        sys.stdout.write(text)
