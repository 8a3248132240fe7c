"""Writing a saved model: `SavedModelBuilder`, `simple_save`."""
from __future__ import annotations

import base64
import json
import os
import shutil
from typing import Any

import numpy as np

from .. import graph
from ..control_flow_ops import group
from ..graph import GraphKeys, Operation, Tensor
from ..ops.opdef import constant_value
from ..proto import AssetFileDef, SignatureDef
from ..proto.crc32c import crc32c
from ..train import checkpoint
from ..train.meta_graph import describe
from ..train.saver import Saver, saveable_variables
from ..variables import global_variables_initializer, local_variables_initializer, tables_initializer
from . import constants, signature_constants, tag_constants
from .signature_def_utils import predict_signature_def
from .utils import build_tensor_info

__all__ = ["SavedModelBuilder", "main_op", "main_op_with_restore", "simple_save"]

FORMAT = 1


class SavedModelBuilder:
    """Writes graphs, each under tags, and one set of values into a new folder.

        builder = tf.saved_model.builder.SavedModelBuilder("model")
        builder.add_meta_graph_and_variables(sess, [tf.saved_model.tag_constants.SERVING], signature_def_map={...})
        builder.save()

    Raises:
        AssertionError: the folder is there and not empty.
    """

    def __init__(self, export_dir: Any):
        self._export_dir = os.fspath(export_dir)
        if os.path.isdir(self._export_dir) and os.listdir(self._export_dir):
            raise AssertionError(f"Export directory already exists, and isn't empty. Please choose a different export directory, or delete "
                                 f"all the contents of the specified directory: {self._export_dir}")
        os.makedirs(self._export_dir, exist_ok=True)
        self._graphs: list[dict[str, Any]] = []
        self._has_saved_variables = False

    def add_meta_graph_and_variables(self, sess: Any, tags: Any, signature_def_map: Any = None, assets_collection: Any = None,
                                     legacy_init_op: Any = None, clear_devices: bool = False, main_op: Any = None,
                                     strip_default_attrs: bool = False, saver: Any = None, assets_list: Any = None) -> None:
        """The session's graph and the values of its variables: the first call, exactly once.

        Args:
            tags: strings that name this graph.
            signature_def_map: SignatureDefs by name.
            assets_collection (or assets_list): tensors that hold paths of files; the files are copied, and their paths in the copy are
                fed to the initialising op when the model is loaded.
            main_op, legacy_init_op: an operation that runs after loading.
            clear_devices: leave out device strings.
            saver: which variables to save; all saveable ones by default.

        Raises:
            AssertionError: called twice.  ValueError: a signature without dtype or name, no tags, a file that is no text.
        """
        if self._has_saved_variables:
            raise AssertionError("Graph state including variables and assets has already been saved. Please invoke `add_meta_graph()` "
                                 "instead.")
        with sess.graph.as_default():
            saver = saver or Saver(saveable_variables(), allow_empty=True)
            made = self._described(sess.graph, tags, signature_def_map, assets_collection or assets_list, main_op or legacy_init_op,
                                   clear_devices, saver)
            folder = os.path.join(self._export_dir, constants.VARIABLES_DIRECTORY)
            os.makedirs(folder, exist_ok=True)
            if saver._vars:
                saver.save(sess, os.path.join(folder, constants.VARIABLES_FILENAME), write_meta_graph=False, write_state=False)
        self._graphs.append(made)
        self._has_saved_variables = True

    def add_meta_graph(self, tags: Any, signature_def_map: Any = None, assets_collection: Any = None, legacy_init_op: Any = None,
                       clear_devices: bool = False, main_op: Any = None, strip_default_attrs: bool = False, saver: Any = None,
                       assets_list: Any = None) -> None:
        """The default graph under other tags, with the values already saved.  Raises AssertionError when there are none yet."""
        if not self._has_saved_variables:
            raise AssertionError("Graph state including variables and assets has not been saved yet. Please invoke "
                                 "`add_meta_graph_and_variables()` first.")
        saver = saver or Saver(saveable_variables(), allow_empty=True)
        self._graphs.append(self._described(graph.get_default_graph(), tags, signature_def_map, assets_collection or assets_list,
                                            main_op or legacy_init_op, clear_devices, saver))

    def save(self, as_text: bool = False) -> bytes:
        """Writes the file that makes the folder a saved model; returns its path, as bytes."""
        name = constants.SAVED_MODEL_FILENAME_PBTXT if as_text else constants.SAVED_MODEL_FILENAME_PB
        text = json.dumps({"saved_model_format": FORMAT, "meta_graphs": self._graphs}).encode()
        path = os.path.join(self._export_dir, name)
        checkpoint.replace_file(path, [text + b"\n#crc32c=%08x\n" % crc32c(text)])
        return os.fsencode(path)

    # -- parts

    def _described(self, g: Any, tags: Any, signatures: Any, assets: Any, init_op: Any, clear_devices: bool, saver: Any) -> dict[str, Any]:
        if isinstance(tags, (str, bytes)) or not all(isinstance(t, str) for t in tags):
            raise TypeError(f"tags must be a list of strings, got {tags!r}")
        _check_signatures(signatures or {})
        if init_op is not None and not isinstance(init_op, (Operation, Tensor)):
            raise TypeError(f"main_op needs to be an Operation: {init_op!r}")
        meta = describe(g, saver if saver._vars else None, clear_devices=clear_devices)
        return {"tags": list(tags), "graph": meta.SerializeToString().decode(),
                "signatures": {k: _text(s) for k, s in (signatures or {}).items()},
                "assets": [_text(a) for a in self._copied(assets or ())], "init_op": getattr(init_op, "op", init_op) and init_op.name}

    def _copied(self, assets: Any) -> list[Any]:
        """The files that tensors name, copied into the model."""
        found, used = [], {}
        for t in assets:
            value = constant_value(t)
            if value is None or value.size != 1:
                raise ValueError(f"Invalid asset filepath tensor: {t!r} must be a constant path")
            path = os.fsdecode(np.asarray(value).reshape(-1)[0])
            name = os.path.basename(path)
            while used.setdefault(name, path) != path:  # another file of that name
                name = f"_{name}"
            folder = os.path.join(self._export_dir, constants.ASSETS_DIRECTORY)
            os.makedirs(folder, exist_ok=True)
            shutil.copyfile(path, os.path.join(folder, name))
            found.append(AssetFileDef(tensor_info=build_tensor_info(t), filename=name))
        return found


def _text(message: Any) -> str:
    return base64.b64encode(message.SerializeToString()).decode()


def _check_signatures(signatures: dict[str, Any]) -> None:
    for key, signature in signatures.items():
        if not isinstance(signature, SignatureDef):
            raise TypeError(f"signature_def_map[{key!r}] must be a SignatureDef, got {signature!r}")
        for name, info in [*signature.inputs.items(), *signature.outputs.items()]:
            if not info.WhichOneof("encoding") or not info.dtype:
                raise ValueError("All TensorInfo protos used in the SignatureDefs must have the name and dtype fields set: "
                                 f"{name!r} of {key!r}")


def simple_save(session: Any, export_dir: Any, inputs: Any, outputs: Any, legacy_init_op: Any = None) -> None:
    """A model for serving whose default signature takes `inputs` and gives `outputs`, dicts of tensors by name.

    Raises:
        AssertionError: the folder is there and not empty.
    """
    with session.graph.as_default():
        builder = SavedModelBuilder(export_dir)
        signature = {signature_constants.DEFAULT_SERVING_SIGNATURE_DEF_KEY: predict_signature_def(inputs, outputs)}
        builder.add_meta_graph_and_variables(session, [tag_constants.SERVING], signature_def_map=signature, main_op=legacy_init_op,
                                             assets_collection=graph.get_default_graph().get_collection(GraphKeys.ASSET_FILEPATHS),
                                             clear_devices=True)
        builder.save()


def main_op() -> Operation:
    """Initialises variables and tables."""
    with graph.get_default_graph().control_dependencies([global_variables_initializer()]):
        return group(local_variables_initializer(), tables_initializer())


def main_op_with_restore(restore_op_name: Any) -> Operation:
    """`main_op` after the operation `restore_op_name`."""
    with graph.get_default_graph().control_dependencies([main_op()]):
        return group(graph.get_default_graph().as_graph_element(restore_op_name) if isinstance(restore_op_name, str) else restore_op_name)
