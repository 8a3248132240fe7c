"""A graph with its collections as data: `tf.train.export_meta_graph`, `import_meta_graph`, and the `.meta` file of a Saver.

The file is JSON: the nodes of graph_def.py, the collections, and which variables a Saver saves under which names.  Of a
collection's items, variables, tensors, operations, queue runners, text and numbers are kept; other objects exist only in their process.
"""
from __future__ import annotations

import json
import os
from typing import Any

from .. import errors, graph, graph_def
from ..graph import Graph, Operation, Tensor
from ..graph_def import GraphDef
from ..partitioned_variables import SaveSliceInfo
from ..proto.crc32c import crc32c
from ..variables import Variable
from . import checkpoint
from .queue_runner import QueueRunner, QueueRunnerDef

__all__ = ["MetaGraphDef", "export_meta_graph", "import_meta_graph"]

FORMAT = 1
_START = b'{"meta_graph_format"'
_SUM = b"\n#crc32c=%08x\n"  # of the text before it


class MetaGraphDef:
    """`graph_def`, `collection_def` (items as plain data, by collection) and `saver_def` (a Saver's variables, or None).

    Of a saved model that was loaded also `signature_def` (by name), `asset_file_def` and `meta_info_def`, which has its `tags`.
    """

    def __init__(self, graph_def: GraphDef | None = None, collection_def: Any = None, saver_def: Any = None):
        self.graph_def = GraphDef() if graph_def is None else graph_def
        self.collection_def: dict[str, list[Any]] = dict(collection_def or {})
        self.saver_def: dict[str, Any] | None = saver_def
        self.signature_def: dict[str, Any] = {}
        self.asset_file_def: list[Any] = []
        self.meta_info_def: Any = None

    def HasField(self, name: str) -> bool:
        return getattr(self, name) is not None

    def SerializeToString(self) -> bytes:
        """The JSON text as bytes.  Ops that hold Python objects (`tf.py_func`, iterators) stand there without them: they can be fed."""
        nodes = json.loads(self.graph_def.to_json())
        text = json.dumps({"meta_graph_format": FORMAT, "graph": nodes, "collections": self.collection_def,
                           "saver": self.saver_def}).encode()
        return text + _SUM % crc32c(text)

    def ParseFromString(self, data: str | bytes) -> int:
        """Replaces this one by that of `data`; returns the number of bytes.

        Raises:
            ValueError: it is something else.  DataLossError: it is cut short or corrupted.
        """
        raw = data.encode() if isinstance(data, str) else data
        text, mark, found = raw.rpartition(_SUM[:9])
        if mark and found.strip() != b"%08x" % crc32c(text):
            raise errors.DataLossError(None, None, "a MetaGraphDef does not match its checksum "
                                       f"(the sum at byte {len(text)} is of bytes 0 to {len(text) - 1})")
        if not mark and raw[:len(_START)] != _START[:len(raw)]:
            raise ValueError("Error parsing MetaGraphDef: not the JSON of a graph with collections"
                             + (": TensorFlow wrote it" if raw[:1] in b"\n\x12" and raw else ""))
        try:
            self._take(json.loads(text if mark else raw))
        except json.JSONDecodeError as e:
            raise errors.DataLossError(None, None, f"a MetaGraphDef is cut short or damaged: {e.msg} at byte {e.pos}") from None
        except (ValueError, KeyError, TypeError, AttributeError) as e:
            raise ValueError(f"Error parsing MetaGraphDef: not the JSON of a graph with collections ({type(e).__name__}: {e})") from None
        return len(data)

    def _take(self, parsed: dict[str, Any]) -> None:
        if parsed["meta_graph_format"] != FORMAT:
            raise ValueError(f"format {parsed['meta_graph_format']!r}, expected {FORMAT}")
        found, collections, saver = GraphDef.from_json(json.dumps(parsed["graph"])), dict(parsed["collections"]), parsed["saver"]
        self.graph_def, self.collection_def, self.saver_def = found, collections, saver


# ---------------------------------------------------------------- export


def _item(x: Any) -> Any:
    """A collection's item as data, None when it has no such form."""
    if getattr(x, "handle", None) is not None and getattr(x, "initializer", None) is not None:
        return {"variable": _variable(x)}
    if isinstance(x, (Tensor, Operation)):
        return {"node": x.name}
    if isinstance(x, QueueRunner):
        return {"queue_runner": vars(x.to_proto())}
    if isinstance(x, bool | int | float | str):
        return {"value": x}
    return None


def _variable(v: Any) -> dict[str, Any]:
    initial, info = getattr(v, "initial_value", None), getattr(v, "_save_slice_info", None)
    return {"name": v.handle.name, "initializer": v.initializer.name, "initial_value": initial.name if isinstance(initial,
                                                                                                                  Tensor) else None,
            "trainable": bool(v.trainable), **({} if info is None else {
                "slice": [info.full_name, list(info.full_shape), list(info.var_offset), list(info.var_shape)]})}


def describe(g: Graph, saver: Any = None, collection_list: Any = None, clear_devices: bool = False) -> MetaGraphDef:
    """The graph, its collections (those named) and the variables of `saver`, a `Saver._vars`."""
    exported = graph_def.export(g)
    if clear_devices:
        for node in exported.node:
            node.device = ""
    keys = g.get_all_collection_keys() if collection_list is None else [k for k in collection_list if k in g.get_all_collection_keys()]
    collections = {k: [d for d in map(_item, g.get_collection(k)) if d is not None] for k in keys}
    saver_def = None if saver is None else {"variables": {name: [_variable(p) for p in v.parts] for name, v in saver._vars.items()},
                                            "max_to_keep": saver._max_to_keep, "hours": saver._hours, "sharded": saver._sharded}
    return MetaGraphDef(exported, {k: items for k, items in collections.items() if items}, saver_def)


def export_meta_graph(filename: Any = None, meta_info_def: Any = None, graph_def: Any = None, saver_def: Any = None,
                      collection_list: Any = None, as_text: bool = False, graph: Graph | None = None, export_scope: str | None = None,
                      clear_devices: bool = False, clear_extraneous_savers: bool = False, strip_default_attrs: bool = False,
                      save_debug_info: bool = False) -> MetaGraphDef:
    """The default graph (or `graph`) with its collections, written to `filename` if that is given.

    Args:
        collection_list: the names of the collections to export; all by default.
        saver_def: a Saver or SaverDef, whose variables `import_meta_graph` then gives to the Saver it returns.
        clear_devices: leave out device strings.
        meta_info_def, graph_def, as_text, clear_extraneous_savers, strip_default_attrs, save_debug_info: accepted without meaning here.

    Raises:
        NotImplementedError: an `export_scope`.
    """
    if export_scope:
        raise NotImplementedError("export_meta_graph: export_scope is not in this release; import with an import_scope instead")
    from ..graph import get_default_graph

    saver = saver_def._saver() if hasattr(saver_def, "_saver") else saver_def if getattr(saver_def, "_vars", None) is not None else None
    found = describe(get_default_graph() if graph is None else graph, saver, collection_list, clear_devices)
    if filename:
        checkpoint.replace_file(os.fspath(filename), [found.SerializeToString()])
    return found


# ---------------------------------------------------------------- import


class _Back:
    """Objects of the default graph for the names in a MetaGraphDef."""

    def __init__(self, made: dict[str, Any]):
        self.made = made
        self.variables: dict[str, Variable] = {}

    def element(self, name: str) -> Any:
        base, colon, index = name.partition(":")
        op = self.made[base]
        return op.outputs[int(index)] if colon else op

    def variable(self, d: dict[str, Any]) -> Variable:
        """The one Variable of that handle."""
        if d["name"] not in self.variables:
            v = self.variables[d["name"]] = Variable.__new__(Variable)
            v.handle, v.initializer = self.element(d["name"]), self.element(d["initializer"])
            v._initial = self.element(d["initial_value"]) if d["initial_value"] else v.initializer.inputs[1]
            v._trainable, v.constraint = d["trainable"], None
            v._save_slice_info = SaveSliceInfo(*d["slice"]) if "slice" in d else None
        return self.variables[d["name"]]

    def item(self, d: dict[str, Any]) -> Any:
        if "variable" in d:
            return self.variable(d["variable"])
        if "queue_runner" in d:
            return QueueRunner(queue_runner_def=QueueRunnerDef(**d["queue_runner"]), element=self.element)
        return self.element(d["node"]) if "node" in d else d["value"]


def import_meta_graph(meta_graph_or_file: Any, clear_devices: bool = False, import_scope: str | None = None, **kwargs: Any) -> Any:
    """Adds a saved graph and its collections to the default graph; returns a Saver for its variables (None without any).

        saver = tf.train.import_meta_graph("model-100.meta")
        saver.restore(sess, "model-100")
        y = tf.get_default_graph().get_tensor_by_name("y:0")

    Args:
        meta_graph_or_file: a MetaGraphDef or the path of a `.meta` file.
        clear_devices: leave out device strings.
        import_scope: a prefix of the names.
        input_map: tensors to use in place of the graph's, as in `import_graph_def`.

    Raises:
        OSError: there is no such file.  ValueError: it is not one of ours, or an op type in it is unknown.
    """
    from .saver import Saver

    unknown = kwargs.keys() - {"input_map"}
    if unknown:
        raise TypeError(f"import_meta_graph() got unexpected argument(s) {sorted(unknown)}")
    meta = meta_graph_or_file
    if not isinstance(meta, MetaGraphDef):
        path = os.fspath(meta)
        if not os.path.exists(path):
            raise OSError(f"File {path} does not exist.")
        with open(path, "rb") as f:
            data = f.read()
        meta = MetaGraphDef()
        try:
            meta.ParseFromString(data)
        except errors.DataLossError as e:
            raise errors.DataLossError(None, None, f"Cannot parse file {path}: {e}") from None
        except ValueError as e:
            raise ValueError(f"Cannot parse file {path}: {e}") from None
    nodes = GraphDef([])
    nodes.CopyFrom(meta.graph_def)
    if clear_devices:
        for node in nodes.node:
            node.device = ""
    names = [n.name for n in nodes.node]
    made = graph_def.import_graph_def(nodes, kwargs.get("input_map"), names, name=import_scope or "")
    back = _Back(dict(zip(names, made or [])))
    g = graph.get_default_graph()
    try:
        for key, items in meta.collection_def.items():
            for d in items:
                g.add_to_collection(key, back.item(d))
        saved = None if meta.saver_def is None else {
            (f"{import_scope}/{n}" if import_scope else n): list(map(back.variable, [d] if isinstance(d, dict) else d))
            for n, d in meta.saver_def["variables"].items()}
    except (KeyError, TypeError, IndexError, AttributeError) as e:
        raise ValueError(f"the MetaGraphDef's collections do not fit its graph ({type(e).__name__}: {e})") from None
    if saved:
        kept = meta.saver_def
        return Saver(saved, max_to_keep=kept["max_to_keep"], keep_checkpoint_every_n_hours=kept.get("hours", 10000.0),
                     sharded=kept.get("sharded", False))
    ours = [v for v in back.variables.values() if v in g.get_collection(graph.GraphKeys.GLOBAL_VARIABLES)]
    return Saver(ours) if ours else None
