"""`tf.io`: the later names of records, files, parsing and decoding; each is the same object as under its older name."""
from __future__ import annotations

from typing import Any

from . import errors

# Where each of the others lives: at the top level, in a module of it, and under which name there.
_PLACES = {
    **{n: f"python_io.{n}" for n in ("TFRecordCompressionType", "TFRecordOptions", "TFRecordWriter", "tf_record_iterator")},
    **{n: n for n in ("FixedLenFeature", "FixedLenSequenceFeature", "SparseFeature", "VarLenFeature", "decode_base64", "decode_compressed",
                      "decode_csv", "decode_json_example", "decode_raw", "deserialize_many_sparse", "encode_base64",
                      "matching_files", "parse_example", "parse_single_example", "parse_single_sequence_example", "parse_tensor",
                      "read_file", "serialize_many_sparse", "serialize_sparse", "serialize_tensor", "write_file", "PaddingFIFOQueue",
                      "PriorityQueue", "QueueBase", "RandomShuffleQueue")},
    **{n: f"image.{n}" for n in ("decode_and_crop_jpeg", "decode_bmp", "decode_gif", "decode_image", "decode_jpeg", "decode_png",
                                 "encode_jpeg", "encode_png", "extract_jpeg_shape", "is_jpeg")},
        "match_filenames_once": "train.match_filenames_once", "write_graph": "train.write_graph"}


def __getattr__(name: str) -> Any:
    import graphflow

    if name == "gfile":
        from .platform import io_gfile

        return io_gfile
    if name == "parse_sequence_example":  # the only one with no older name
        from .parsing_ops import parse_sequence_example

        return parse_sequence_example
    found: Any = graphflow
    for part in _PLACES.get(name, "").split("."):
        found = getattr(found, part, None) if part else None
    if found is None:
        near = errors.suggest(name, __dir__()) if not name.startswith("_") else ""
        raise AttributeError(f"module 'graphflow.io' has no attribute {name!r}.{near}")
    return found


def __dir__() -> list[str]:
    import graphflow

    def there(path: str) -> bool:
        first, _, second = path.partition(".")
        return hasattr(graphflow, first) and (not second or hasattr(getattr(graphflow, first), second))

    return sorted(["gfile", *(n for n, path in _PLACES.items() if there(path))])
