"""`tf.contrib.tensorboard.plugins.projector`: which variables TensorBoard's projector shows, with which labels and pictures.

TensorBoard reads the values from a checkpoint, with TensorFlow; or, without it, from the table that `tensor_path` names.
"""
from __future__ import annotations

import os
from typing import Any

from ....platform import gfile
from ....proto import EmbeddingInfo, MessageToString, ProjectorConfig, SpriteMetadata

__all__ = ["EmbeddingInfo", "ProjectorConfig", "SpriteMetadata", "visualize_embeddings"]

FILE = "projector_config.pbtxt"


def visualize_embeddings(summary_writer: Any, config: Any) -> None:
    """Writes `config`, a ProjectorConfig, as projector_config.pbtxt into the folder of a `tf.summary.FileWriter`.

    Raises:
        ValueError: the writer has no folder.  TypeError: no ProjectorConfig.
    """
    folder = summary_writer.get_logdir() if hasattr(summary_writer, "get_logdir") else summary_writer
    if not folder:
        raise ValueError("Summary writer must have a logdir")
    if not isinstance(config, ProjectorConfig):
        raise TypeError(f"config must be a ProjectorConfig, got {config!r} of type {type(config).__name__}")
    with gfile.GFile(os.path.join(folder, FILE), "w") as f:
        f.write(MessageToString(config))
