"""`tf.saved_model`: a graph with its values, signatures and files as a folder, for serving.

    builder.py    writes the folder          signatures.py   what a model takes and gives
    loader.py     reads it into a session    constants.py    names of files, tags and signatures

The folder has TensorFlow's layout; the values are a TensorFlow checkpoint, the graph is this package's own (see `MetaGraphDef`), so
models that TensorFlow wrote cannot be loaded.  TF1's submodules (`tf.saved_model.utils`, ...) are names of these.
"""
from __future__ import annotations

from types import SimpleNamespace

from . import builder, constants, loader, signature_constants, signature_def_utils, tag_constants, utils
from .builder import SavedModelBuilder, main_op_with_restore, simple_save
from .builder import main_op as _main_op
from .constants import (ASSETS_DIRECTORY, ASSETS_KEY, LEGACY_INIT_OP_KEY, MAIN_OP_KEY, SAVED_MODEL_FILENAME_PB,
                        SAVED_MODEL_FILENAME_PBTXT, SAVED_MODEL_SCHEMA_VERSION, VARIABLES_DIRECTORY, VARIABLES_FILENAME)
from .loader import contains_saved_model, load, maybe_saved_model_directory
from .signature_constants import *
from .signature_def_utils import (build_signature_def, classification_signature_def, is_valid_signature, predict_signature_def,
                                  regression_signature_def)
from .tag_constants import EVAL, GPU, SERVING, TPU, TRAINING
from .utils import build_tensor_info, get_tensor_from_tensor_info

Builder = SavedModelBuilder
main_op = SimpleNamespace(main_op=_main_op, main_op_with_restore=main_op_with_restore)
