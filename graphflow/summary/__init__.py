"""`tf.summary`: values of a step as event files, which TensorBoard shows.

    build.py       the ops            writer.py   FileWriter and the file
    graph_wire.py  the graph's bytes  events.py   reading event files

What a summary op gives is a serialized `Summary`; the op runs on the host, after the kernels, and only when it is fetched.
"""
from __future__ import annotations

from ..proto import Event, SessionLog, Summary, SummaryDescription, TaggedRunMetadata
from .build import audio, get_summary_description, histogram, image, merge, merge_all, scalar, tensor_summary, text
from .events import summary_iterator
from .writer import FileWriter, FileWriterCache

__all__ = ["Event", "FileWriter", "FileWriterCache", "SessionLog", "Summary", "SummaryDescription", "TaggedRunMetadata", "audio",
           "get_summary_description", "histogram", "image", "merge", "merge_all", "scalar", "summary_iterator", "tensor_summary", "text"]
