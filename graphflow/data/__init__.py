"""`tf.data`: input pipelines."""
from . import experimental
from .dataset import Dataset
from .iterator import (Iterator, get_legacy_output_classes, get_legacy_output_shapes, get_legacy_output_types, make_initializable_iterator,
                       make_one_shot_iterator)
from .options import Options
from .readers import FixedLengthRecordDataset, TextLineDataset, TFRecordDataset

get_output_classes, get_output_shapes, get_output_types = get_legacy_output_classes, get_legacy_output_shapes, get_legacy_output_types
__all__ = ["Dataset", "FixedLengthRecordDataset", "Iterator", "Options", "TFRecordDataset", "TextLineDataset", "experimental",
           "get_output_classes", "get_output_shapes", "get_output_types", "make_initializable_iterator", "make_one_shot_iterator"]
