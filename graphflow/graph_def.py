"""Graphs as JSON: export, import, and reading or writing files.

A `GraphDef` is a list of nodes (name, op, inputs, device, attributes) of plain data; its bytes are JSON text, never pickle.
Arrays are base64 of their little-endian bytes beside dtype and shape; dtypes, tuples and symbolic sizes are tagged objects.
A branch or loop describes its regions (`RegionDef`) and says by name which nodes it means (`Ref`); a node made inside a region has the
number of that as attribute "_region".
Knows ops only through the registry.
"""
from __future__ import annotations

import base64
import copy
import importlib
import json
import os
import tempfile
from typing import Any, Iterable, Iterator, NamedTuple, Sequence

import numpy as np

from . import errors, graph, types
from .graph import Graph, Operation, Region, Spec, Tensor
from .ops import control, opdef

__all__ = ["GraphDef", "NodeDef", "import_graph_def"]

FORMAT = 1


class Ref(NamedTuple):
    """An operation ("op") or tensor ("op:1") of the graph, as an attribute."""

    name: str


class RegionDef(NamedTuple):
    """A branch or loop body: what tells it from others, the tensors it is given at each run, and those that leave it."""

    number: int
    what: str
    params: tuple[Ref, ...]
    results: tuple[Ref, ...]


class NodeDef:
    """One operation: `name`, `op` (its type), `input` (names: "op", "op:1", "^control"), `device`, `attr` (a dict)."""

    __slots__ = ("name", "op", "input", "device", "attr")

    def __init__(self, name: str = "", op: str = "", input: Sequence[str] = (), device: str = "", attr: Any = None):
        self.name, self.op, self.input, self.device, self.attr = name, op, list(input), device, dict(attr or {})

    def CopyFrom(self, other: NodeDef) -> None:
        self.__init__(other.name, other.op, other.input, other.device, copy.copy(other.attr))  # type: ignore[misc]

    def __eq__(self, other: object) -> bool:
        return isinstance(other, NodeDef) and _node_to_json(self) == _node_to_json(other)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"NodeDef(name={self.name!r}, op={self.op!r}, input={self.input!r})"


class _Nodes(list):
    """A list of nodes with protobuf's habits."""

    def add(self, **fields: Any) -> NodeDef:
        self.append(NodeDef(**fields))
        return self[-1]


class GraphDef:
    """A graph as data: `.node` is the list of its operations, inputs before users."""

    def __init__(self, node: Iterable[NodeDef] = ()):
        self.node = _Nodes(node)
        self.versions = {"format": FORMAT}

    # -- JSON

    def to_json(self) -> str:
        """The text form; `from_json` reads it.  Ops that hold Python objects (`tf.py_func`, data sets) stand there as "NotSaved"."""
        return json.dumps({"format": FORMAT, "node": [_node_to_json(n) for n in self.node]})

    @classmethod
    def from_json(cls, text: str | bytes) -> GraphDef:
        """Raises ValueError when the text is not such a graph."""
        found = cls()
        found.ParseFromString(text)
        return found

    def SerializeToString(self) -> bytes:
        """The JSON text as bytes."""
        return self.to_json().encode()

    def ParseFromString(self, data: str | bytes) -> int:
        """Replaces this graph by that of `data`; returns the number of bytes.  Raises ValueError when it is not one."""
        try:
            parsed = json.loads(data)
            if parsed["format"] != FORMAT:
                raise ValueError(f"format {parsed['format']!r}, expected {FORMAT}")
            nodes = [_node_from_json(n) for n in parsed["node"]]
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            raise ValueError(f"Error parsing GraphDef: not the JSON of a graph ({type(e).__name__}: {e})") from None
        self.node = _Nodes(nodes)
        return len(data)

    def ByteSize(self) -> int:
        return len(self.SerializeToString())

    def CopyFrom(self, other: GraphDef) -> None:
        self.node = _Nodes(NodeDef(n.name, n.op, n.input, n.device, n.attr) for n in other.node)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, GraphDef) and list(self.node) == list(other.node)

    __hash__ = None  # type: ignore[assignment]

    def __repr__(self) -> str:
        return f"<GraphDef of {len(self.node)} nodes>"


def _node_to_json(n: NodeDef) -> dict[str, Any]:
    if "_outputs" in n.attr:
        n = _without_python(n)
    try:
        attrs = {k: encode(v) for k, v in n.attr.items()}
    except TypeError as e:
        raise TypeError(f"node {n.name!r} ({n.op}): {e}") from None
    return {"name": n.name, "op": n.op, "input": list(n.input), "device": n.device, "attr": attrs}


def _node_from_json(n: dict[str, Any]) -> NodeDef:
    return NodeDef(n["name"], n["op"], [str(i) for i in n["input"]], n["device"], {k: decode(v) for k, v in n["attr"].items()})


# ---------------------------------------------------------------- attribute values


def encode(value: Any) -> Any:
    """JSON data of an attribute.  Raises TypeError for a value that is no plain data (a Python function, say)."""
    if value is None or isinstance(value, (bool, str)):
        return value
    if isinstance(value, (int, np.integer)):
        return int(value)
    if isinstance(value, (float, np.floating)):
        return float(value) if np.isfinite(value) else {"float": repr(float(value))}
    if isinstance(value, complex):
        return {"complex": [encode(value.real), encode(value.imag)]}
    if isinstance(value, types.DType):
        return {"dtype": value.name}
    if isinstance(value, types.Dim):
        if not types.is_unknown(value):
            raise TypeError(f"a symbolic size {value!r} exists only inside the compiler")
        return {"unknown": True}
    if isinstance(value, (bytes, bytearray)):
        return {"bytes": base64.b64encode(value).decode()}
    if isinstance(value, slice):
        return {"slice": [encode(value.start), encode(value.stop), encode(value.step)]}
    if value is Ellipsis:
        return {"ellipsis": True}
    if isinstance(value, Ref):
        return {"ref": value.name}
    if isinstance(value, RegionDef):
        return {"region": [encode(v) for v in value]}
    if isinstance(value, Spec):
        return {"spec": [encode(v) for v in value]}
    if isinstance(value, tuple):
        return {"tuple": [encode(v) for v in value]}
    if isinstance(value, list):
        return [encode(v) for v in value]
    if isinstance(value, dict):
        return {"dict": [[encode(k), encode(v)] for k, v in value.items()]}
    if isinstance(value, types.TensorShape):
        return {"shape": encode(value._dims)}
    if isinstance(value, np.ndarray):
        return {"array": _array_to_json(value)}
    raise TypeError(f"cannot export a {type(value).__name__} ({value!r}): it is no plain data")


def _array_to_json(a: np.ndarray) -> dict[str, Any]:
    if a.dtype == object:
        return {"dtype": "object", "shape": list(a.shape), "items": [encode(v) for v in a.reshape(-1)]}
    little = np.ascontiguousarray(a).astype(a.dtype.newbyteorder("<"), copy=False)
    return {"dtype": a.dtype.name, "shape": list(a.shape), "data": base64.b64encode(little.tobytes()).decode()}


def decode(value: Any) -> Any:
    """The attribute of its JSON data.  Raises ValueError on an unknown tag or data that does not fit."""
    if isinstance(value, list):
        return [decode(v) for v in value]
    if not isinstance(value, dict):
        return value
    (tag, data), = value.items()
    if tag not in _DECODERS:
        raise ValueError(f"unknown attribute tag {tag!r}")
    return _DECODERS[tag](data)


def _array_from_json(data: dict[str, Any]) -> np.ndarray:
    shape = tuple(int(n) for n in data["shape"])
    if data["dtype"] == "object":
        out = np.empty(shape, object)
        out.reshape(-1)[:] = [decode(v) for v in data["items"]]
        return out
    dtype = np.dtype(data["dtype"])
    raw = np.frombuffer(base64.b64decode(data["data"], validate=True), dtype.newbyteorder("<")).astype(dtype)
    array = raw.reshape(shape)
    array.setflags(write=False)
    return array


_DECODERS: dict[str, Any] = {
    "float": float, "complex": lambda d: complex(decode(d[0]), decode(d[1])), "dtype": types.as_dtype, "unknown": lambda d: types.UNKNOWN,
    "bytes": base64.b64decode, "slice": lambda d: slice(*map(decode, d)), "ellipsis": lambda d: Ellipsis,
    "tuple": lambda d: tuple([decode(v) for v in d]), "dict": lambda d: {decode(k): decode(v) for k, v in d},
    "shape": lambda d: types.TensorShape(decode(d)), "array": _array_from_json, "ref": Ref,
    "region": lambda d: RegionDef(*map(decode, d)), "spec": lambda d: Spec(*map(decode, d))}


# ---------------------------------------------------------------- export


def _input_name(t: Tensor) -> str:
    return t.op.name if t.value_index == 0 else f"{t.op.name}:{t.value_index}"


def node_of(op: Operation) -> NodeDef:
    """The node of one operation."""
    attrs = {k: _described(v) for k, v in op.attrs.items()}
    if op.region is not None:
        attrs["_region"] = _number(op.region)
    if op in op.graph._checkpointed:
        attrs["_checkpointed"] = True
    if op in op.graph._colocated:
        attrs["_class"] = tuple(op.colocation_groups())
    return NodeDef(op.name, op.type, [*map(_input_name, op.inputs), *[f"^{c.name}" for c in op.control_inputs]], op.device, attrs)


def _number(region: Region) -> int:
    """A number that no other region of the graph has: that of its owner, and which of the owner's regions it is."""
    assert region.owner is not None
    regions = control.regions_of(region.owner)
    return region.owner.id * 2 + regions.index(region)


def _described(value: Any) -> Any:
    """An attribute with names in place of operations, tensors and regions."""
    if isinstance(value, Operation):
        return Ref(value.name)
    if isinstance(value, Tensor):
        return Ref(f"{value.op.name}:{value.value_index}")
    if isinstance(value, Region):
        return RegionDef(_number(value), value.what, *[tuple([_described(t) for t in x]) for x in (value.params, value.results)])
    if type(value) in (list, tuple):
        return type(value)([_described(v) for v in value])
    return value


def mentioned(value: Any) -> Iterator[str]:
    """The names that an attribute mentions."""
    if isinstance(value, Ref):
        yield value.name
    elif isinstance(value, (list, tuple)) and not isinstance(value, Spec):
        for v in value:
            yield from mentioned(v)


def needed(n: NodeDef) -> list[str]:
    """The names of the nodes that `n` cannot do without: inputs, and what its attributes mention."""
    return [_base(i) for i in (*n.input, *[name for v in n.attr.values() for name in mentioned(v)])]


def _abandoned(region: Region | None) -> bool:
    """Whether a branch or body was given up while it was built, by an error: nothing can use what stands there."""
    while region is not None and region.owner is not None:
        region = region.outer
    return region is not None


def export(g: Graph) -> GraphDef:
    """The whole graph, in the order in which it was made."""
    found = GraphDef()
    for op in g.get_operations():
        if _abandoned(op.region):
            continue
        node = node_of(op)
        shapes = [t.sizes for t in op.outputs]
        if any(s is not None and s != old.sizes for s, old in zip(shapes, op.opdef.infer(op.inputs, op.attrs))):
            node.attr["_shapes"] = tuple(shapes)  # narrowed by set_shape
        if not all(map(_is_plain, node.attr.values())):
            node.attr["_outputs"] = tuple([Spec(t.dtype, _known(t.sizes)) for t in op.outputs])
        found.node.append(node)
    return found


def _known(sizes: types.Shape) -> types.Shape:
    return None if sizes is None else tuple(types.UNKNOWN if isinstance(s, types.Dim) else s for s in sizes)


_PLAIN = (bool, str, int, float, complex, np.number, np.ndarray, bytes, bytearray, slice, types.DType, types.TensorShape, Ref, RegionDef,
          Spec, type(None), type(Ellipsis))


def _is_plain(value: Any) -> bool:
    """Whether an attribute has a text form."""
    if isinstance(value, dict):
        return all(map(_is_plain, value.values()))
    if isinstance(value, (list, tuple)) and not isinstance(value, _PLAIN):
        return all(map(_is_plain, value))
    return isinstance(value, _PLAIN) or types.is_unknown(value)


def _without_python(n: NodeDef) -> NodeDef:
    """A node that holds Python objects without them: "NotSaved" in its place, or, where only its gradient asks for them, the same op."""
    definition = _definition(n.op)
    forgets = () if definition is None else definition.forgets
    lost = {k for k, v in n.attr.items() if not _is_plain(v)}
    if lost <= set(forgets):
        return NodeDef(n.name, n.op, n.input, n.device, {k: v for k, v in n.attr.items() if k != "_outputs"} | dict.fromkeys(lost))
    kept = {k: v for k, v in n.attr.items() if k.startswith("_") and k not in ("_outputs", "_shapes")}
    return NodeDef(n.name, "NotSaved", n.input, n.device, {**kept, "kind": n.op, "outputs": n.attr["_outputs"]})


# ---------------------------------------------------------------- import


def import_graph_def(graph_def: GraphDef, input_map: dict[str, Any] | None = None, return_elements: Sequence[str] | None = None,
                     name: str | None = None, op_dict: Any = None, producer_op_list: Any = None) -> list[Any] | None:
    """Adds the operations of `graph_def` to the default graph, below the scope `name` ("import").

    Args:
        graph_def: a GraphDef.
        input_map: tensors of this graph to use in place of `graph_def`'s, by name ("x", "x:0", or "^op" for an operation).
        return_elements: names of operations ("op") and tensors ("op:0") to return.
        name: a prefix; "" imports without one.

    Raises:
        TypeError: arguments of other types.  ValueError: a malformed graph, an op type unknown here, names of `input_map` or
            `return_elements` that are not in it, a value of another dtype.
    """
    if not isinstance(graph_def, GraphDef):
        raise TypeError(f"graph_def must be a GraphDef, got {type(graph_def).__name__}")
    if input_map is not None and not (isinstance(input_map, dict) and all(isinstance(k, str) for k in input_map)):
        raise TypeError("input_map must be a dictionary mapping strings to Tensor objects.")
    if return_elements is not None and not all(isinstance(e, str) for e in return_elements):
        raise TypeError("return_elements must be a list of strings.")
    g = graph.get_default_graph()
    mapping = {_canonical(k): opdef.convert_to_tensor(v) if not isinstance(v, Operation) else v for k, v in (input_map or {}).items()}
    importer = _Importer(g, mapping)
    with g.control_dependencies(None), g.name_scope("import" if name is None else name or g._state.name):
        importer.run(graph_def)
    unused = [k for k in mapping if k not in importer.used]
    if unused:
        names = importer.names
        raise ValueError("Attempted to map inputs that were not found in graph_def: "
                         f"[{', '.join(unused)}]{errors.suggest(unused[0].split(':')[0].lstrip('^'), names)}")
    return None if return_elements is None else [importer.element(e) for e in return_elements]


# Modules with ops that `import graphflow` leaves for later; tests/test_meta_graph.py holds this list.
_LATE_OPS = ("lookup_ops", "ops.images", "accumulators", "train.input", "data.iterator", "special_math", "spectral", "image", "image_boxes",
             "ctc_ops", "sets", "quantization", "morphology", "candidate_sampling", "train.warm_starting_util", "ops.beam", "ops.attention",
             "parsing_ops", "string_ops")


def _definition(op_type: str) -> opdef.OpDef | None:
    """The op of that type, None if there is none."""
    for module in _LATE_OPS:
        if op_type in opdef.REGISTRY:
            break
        importlib.import_module(f".{module}", __package__)
    return opdef.REGISTRY.get(op_type)


def _canonical(name: str) -> str:
    return name if name.startswith("^") or ":" in name else f"{name}:0"


class _Importer:
    """Rebuilds nodes in an order in which inputs come first, whatever the order of the file."""

    def __init__(self, g: Graph, mapping: dict[str, Any]):
        self.graph, self.mapping = g, mapping
        self.made: dict[str, Operation] = {}
        self.names: set[str] = set()
        self.used: set[str] = set()
        self.outside = g._state.region
        self.regions: dict[int, Region] = {}

    def run(self, graph_def: GraphDef) -> None:
        nodes: dict[str, NodeDef] = {}
        for n in graph_def.node:
            if n.name in nodes:
                raise ValueError(f"graph_def has two nodes named {n.name!r}")
            nodes[n.name] = n
        self.names = set(nodes)
        # What is mapped counts as found when the graph has it, used by a node or not.
        self.used = {k for k in self.mapping if k.lstrip("^").split(":")[0] in nodes}
        self._enclose(nodes)
        for n in _sorted(nodes):
            self._add(n)
        for n in nodes.values():
            if "_class" in n.attr:
                self._colocate(n)

    def _enclose(self, nodes: dict[str, NodeDef]) -> None:
        """Makes the regions, outer ones first."""
        found = {d.number: (d, n) for n in nodes.values() for d in n.attr.get("regions", ())}

        def region(number: int, inner: tuple[int, ...] = ()) -> Region:
            if number not in found or number in inner:
                raise ValueError(f"graph_def is invalid: no branch or loop owns region {number}")
            if number not in self.regions:
                d, owner = found[number]
                outer = owner.attr.get("_region")
                self.regions[number] = Region(self.graph, d.what, self.outside if outer is None else region(outer, (*inner, number)))
            return self.regions[number]

        for number in {*found, *[n.attr["_region"] for n in nodes.values() if "_region" in n.attr]}:
            region(number)

    def _meant(self, value: Any) -> Any:
        """An attribute with what its names stand for."""
        if isinstance(value, Ref):
            base, colon, index = value.name.partition(":")
            return self.made[base].outputs[int(index)] if colon else self.made[base]
        if isinstance(value, RegionDef):
            region = self.regions[value.number]
            region.params, region.results = [list(map(self._meant, x)) for x in (value.params, value.results)]
            return region
        if type(value) in (list, tuple):
            return type(value)([self._meant(v) for v in value])
        return value

    def _add(self, n: NodeDef) -> None:
        definition = _definition(n.op)
        if definition is None:
            raise ValueError(f"No op named {n.op} in this version (node {n.name!r}).{errors.suggest(n.op, opdef.REGISTRY)}")
        inputs = [self._tensor(i, n) for i in n.input if not i.startswith("^")]
        waits = [self._operation(i, n) for i in n.input if i.startswith("^")]
        attrs = {k: self._meant(v) for k, v in n.attr.items() if not k.startswith("_") or k in definition.defaults}
        missing = definition.defaults.keys() - attrs.keys()
        attrs.update({k: definition.defaults[k] for k in missing})
        if any(v is opdef.UNSET for v in attrs.values()):
            raise ValueError(f"node {n.name!r} ({n.op}) lacks the attribute(s) {sorted(k for k, v in attrs.items() if v is opdef.UNSET)}")
        if extra := attrs.keys() - definition.defaults.keys():
            raise ValueError(f"node {n.name!r} ({n.op}) has unknown attribute(s) {sorted(extra)}; known: {sorted(definition.defaults)}")
        region = self.regions[n.attr["_region"]] if "_region" in n.attr else self.outside
        with self.graph.device(n.device or ""), self.graph.inside(region), self.graph.control_dependencies(waits):
            op = self.graph.create_op(definition, inputs, attrs, n.name)
        self._settle(op, n)
        for t, sizes in zip(op.outputs, n.attr.get("_shapes", ())):
            t.sizes = types.merge_shapes(t.sizes, sizes)
        self.made[n.name] = op

    def _settle(self, op: Operation, n: NodeDef) -> None:
        """What the graph knows of branches and loops."""
        for region in control.regions_of(op):
            region.owner, region.name = op, op.name
        if n.attr.get("_checkpointed"):
            self.graph._checkpointed.add(op)
        if op.opdef is control.saved_op:
            self.graph._saved[op.attrs["tensor"]] = op.outputs[0]

    def _colocate(self, n: NodeDef) -> None:
        """With the ops that `_class` names, as far as they are here."""
        names = [name.decode().removeprefix("loc:@") for name in n.attr["_class"]]
        self.graph._colocated[self.made[n.name]] = tuple([self.made[name] for name in names if name in self.made])

    def _tensor(self, name: str, n: NodeDef) -> Tensor:
        full = _canonical(name)
        if full in self.mapping:
            return self.mapping[full]
        base, _, index = full.rpartition(":")
        outputs = self.made[base].outputs
        if not index.isdigit() or int(index) >= len(outputs):
            raise ValueError(f"node {n.name!r} reads {name!r}, but {base!r} has {len(outputs)} output(s)")
        return outputs[int(index)]

    def _operation(self, name: str, n: NodeDef) -> Operation:
        mapped = self.mapping.get(name)
        if mapped is not None:
            return mapped.op if isinstance(mapped, Tensor) else mapped
        return self.made[name[1:]]

    def element(self, name: str) -> Any:
        base, colon, index = name.partition(":")
        if base not in self.made or colon and (not index.isdigit() or int(index) >= len(self.made[base].outputs)):
            raise ValueError(f"Requested return_element {name!r} not found in graph_def.{errors.suggest(base, self.names)}")
        return self.made[base].outputs[int(index)] if colon else self.made[base]


def _sorted(nodes: dict[str, NodeDef]) -> list[NodeDef]:
    """The order of the file, except that inputs come first.  Raises ValueError on unknown inputs and cycles."""
    out: list[NodeDef] = []
    state: dict[str, int] = {}
    for root in nodes:
        stack = [root]
        while stack:
            name = stack[-1]
            if state.get(name) == 2:
                stack.pop()
                continue
            waiting = [b for b in needed(nodes[name]) if state.get(b) != 2]
            for b in waiting:
                if b not in nodes:
                    raise ValueError(f"graph_def is invalid at node {name!r}: input {b!r} not found.{errors.suggest(b, nodes)}")
                if state.get(b) == 1:
                    raise ValueError(f"graph_def is invalid: {name!r} and {b!r} are on a cycle")
            state[name] = 1
            if waiting:
                stack.append(waiting[0])
            else:
                state[name] = 2
                out.append(nodes[stack.pop()])
    return out


def _base(input_name: str) -> str:
    return input_name.lstrip("^").split(":")[0]


# ---------------------------------------------------------------- files


def write_graph(graph_or_graph_def: Any, logdir: str, name: str, as_text: bool = True) -> str:
    """Writes a graph to `logdir/name` as JSON, atomically, and returns the path (`tf.train.write_graph`)."""
    found = graph_or_graph_def.as_graph_def() if isinstance(graph_or_graph_def, Graph) else graph_or_graph_def
    os.makedirs(logdir or ".", exist_ok=True)
    path = os.path.join(logdir, name)
    text = found.to_json()
    if as_text:
        text = json.dumps(json.loads(text), indent=1)
    handle, temporary = tempfile.mkstemp(dir=logdir or ".", prefix="." + os.path.basename(name))
    try:
        with os.fdopen(handle, "w") as f:
            f.write(text)
        os.replace(temporary, path)
    except BaseException:
        os.unlink(temporary)
        raise
    return path
