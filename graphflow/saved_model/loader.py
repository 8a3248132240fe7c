"""Reading a saved model into a session."""
from __future__ import annotations

import base64
import json
import os
from types import SimpleNamespace
from typing import Any

from .. import errors
from ..proto import AssetFileDef, SignatureDef
from ..proto.crc32c import crc32c
from ..train.meta_graph import MetaGraphDef, import_meta_graph
from . import constants

__all__ = ["contains_saved_model", "load", "maybe_saved_model_directory"]


def _file(export_dir: Any) -> str | None:
    for name in (constants.SAVED_MODEL_FILENAME_PB, constants.SAVED_MODEL_FILENAME_PBTXT):
        path = os.path.join(os.fspath(export_dir), name)
        if os.path.exists(path):
            return path
    return None


def contains_saved_model(export_dir: Any) -> bool:
    """Whether the folder has the file of a saved model."""
    return _file(export_dir) is not None


maybe_saved_model_directory = contains_saved_model


def _parsed(export_dir: Any) -> list[dict[str, Any]]:
    """The graphs of the model.  Raises OSError, ValueError, DataLossError."""
    path = _file(export_dir)
    if path is None:
        raise OSError(f"SavedModel file does not exist at: {os.path.join(os.fspath(export_dir), '{saved_model.pbtxt|saved_model.pb}')}")
    with open(path, "rb") as f:
        data = f.read()
    text, mark, found = data.rpartition(b"\n#crc32c=")
    if not data.startswith(b'{"saved_model_format"'):
        raise ValueError(f"Cannot parse file {path}: it is no saved model of this package"
                         + ("; TensorFlow wrote it" if data[:1] in (b"\x08", b"s") else ""))
    if not mark or found.strip() != b"%08x" % crc32c(text):
        raise errors.DataLossError(None, None, f"{path} is cut short or damaged: its checksum (at byte {len(text)}) does not match")
    parsed = json.loads(text)
    if parsed["saved_model_format"] != 1:
        raise ValueError(f"{path}: format {parsed['saved_model_format']!r}, expected 1")
    return parsed["meta_graphs"]


def _decoded(kind: Any, text: str) -> Any:
    message = kind()
    message.ParseFromString(base64.b64decode(text))
    return message


def load(sess: Any, tags: Any, export_dir: Any, import_scope: str | None = None, **saver_kwargs: Any) -> MetaGraphDef:
    """Adds the graph with exactly these `tags` to the session's graph, restores its values and runs its initialising op.

    Returns:
        Its MetaGraphDef: `signature_def` are the SignatureDefs by name, `asset_file_def` the files.

    Raises:
        OSError: there is no such folder.  ValueError: it is another kind of file.  DataLossError: it is damaged.
        RuntimeError: no graph has these tags.
    """
    wanted = {tags} if isinstance(tags, str) else set(tags)
    graphs = _parsed(export_dir)
    chosen = next((m for m in graphs if set(m["tags"]) == wanted), None)
    if chosen is None:
        raise RuntimeError(f"MetaGraphDef associated with tags {sorted(wanted)} could not be found in SavedModel, with available tags "
                           f"{[m['tags'] for m in graphs]}; give the tags of one of these, all of them")
    meta = MetaGraphDef()
    meta.ParseFromString(chosen["graph"])
    with sess.graph.as_default():
        saver = import_meta_graph(meta, import_scope=import_scope)
    folder = os.fspath(export_dir)
    variables = os.path.join(folder, constants.VARIABLES_DIRECTORY, constants.VARIABLES_FILENAME)
    if saver is not None and meta.saver_def is not None:
        saver._vars = {name.removeprefix(f"{import_scope}/") if import_scope else name: v for name, v in saver._vars.items()}
        saver.restore(sess, variables)
    assets = [_decoded(AssetFileDef, a) for a in chosen["assets"]]
    prefix = f"{import_scope}/" if import_scope else ""
    if chosen["init_op"]:
        paths = {prefix + a.tensor_info.name: os.path.join(folder, constants.ASSETS_DIRECTORY, a.filename) for a in assets}
        sess.run(sess.graph.as_graph_element(prefix + chosen["init_op"]), paths or None)
    meta.signature_def = {key: _decoded(SignatureDef, s) for key, s in chosen["signatures"].items()}
    meta.asset_file_def, meta.meta_info_def = assets, SimpleNamespace(tags=list(chosen["tags"]))
    return meta
