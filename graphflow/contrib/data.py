"""`tf.contrib.data`: what is now in tf.data and tf.data.experimental, under its older names (rank 9)."""
from __future__ import annotations

from typing import Any, Callable

from .. import types
from ..data import Dataset, FixedLengthRecordDataset, Iterator, TextLineDataset, TFRecordDataset, structure
from ..data.experimental import (AUTOTUNE, Counter, CsvDataset, RandomDataset, Reducer, SqlDataset, bucket_by_sequence_length,
                                 choose_from_datasets, copy_to_device, dense_to_sparse_batch, enumerate_dataset, get_single_element,
                                 group_by_reducer, group_by_window, ignore_errors, make_batched_features_dataset, make_csv_dataset,
                                 map_and_batch, parallel_interleave, parse_example_dataset, prefetch_to_device, rejection_resample,
                                 sample_from_datasets, scan, shuffle_and_repeat, unbatch, unique)

__all__ = ["AUTOTUNE", "Counter", "CsvDataset", "Dataset", "FixedLengthRecordDataset", "Iterator", "RandomDataset", "Reducer", "SqlDataset",
           "TFRecordDataset", "TextLineDataset", "assert_element_shape", "batch_and_drop_remainder", "bucket_by_sequence_length",
           "choose_from_datasets", "copy_to_device", "dense_to_sparse_batch", "enumerate_dataset", "get_single_element",
           "group_by_reducer", "group_by_window", "ignore_errors", "make_batched_features_dataset", "make_csv_dataset", "map_and_batch",
           "padded_batch_and_drop_remainder", "parallel_interleave", "parse_example_dataset", "prefetch_to_device", "reduce_dataset",
           "rejection_resample", "sample_from_datasets", "scan", "shuffle_and_repeat", "sliding_window_batch", "unbatch", "unique"]

Transformation = Callable[[Dataset], Dataset]


def batch_and_drop_remainder(batch_size: Any) -> Transformation:
    """`batch(batch_size, drop_remainder=True)`."""
    return lambda dataset: dataset.batch(batch_size, drop_remainder=True)


def padded_batch_and_drop_remainder(batch_size: Any, padded_shapes: Any, padding_values: Any = None) -> Transformation:
    """`padded_batch(batch_size, padded_shapes, padding_values, drop_remainder=True)`."""
    return lambda dataset: dataset.padded_batch(batch_size, padded_shapes, padding_values, drop_remainder=True)


def sliding_window_batch(window_size: Any, stride: Any = None, window_shift: Any = None, window_stride: Any = 1) -> Transformation:
    """Batches of `window_size` elements, `window_stride` apart, each beginning `window_shift` (older: `stride`) after the one before.

    Raises:
        ValueError: both `stride` and `window_shift` are given.
    """
    if stride is not None and window_shift is not None:
        raise ValueError("Cannot specify both `stride` and `window_shift`")
    shift = next((s for s in (window_shift, stride) if s is not None), 1)

    def apply(dataset: Dataset) -> Dataset:
        windows = dataset.window(window_size, shift, window_stride, drop_remainder=True)

        def together(*parts: Any) -> Dataset:
            batched = [d.batch(window_size) for d in structure.flatten(parts if len(parts) != 1 else parts[0])]
            return Dataset.zip(structure.pack(dataset.element, batched))

        return windows.flat_map(together)

    return apply


def reduce_dataset(dataset: Dataset, reducer: Reducer) -> Any:
    """The result of `reducer` over all elements, as tensors."""
    from .. import constant

    return get_single_element(dataset.apply(group_by_reducer(lambda *x: constant(0, types.int64), reducer)))


def assert_element_shape(expected_shapes: Any) -> Transformation:
    """Elements whose shapes are checked, while the graph is built where they are known and otherwise at run time.

    Raises:
        ValueError: static shapes that do not fit.  InvalidArgumentError (at run time): an element of another shape.
    """
    def apply(dataset: Dataset) -> Dataset:
        from .. import array_ops

        wanted = structure.flatten_up_to(dataset.element, expected_shapes, "expected_shapes")

        def check(*x: Any) -> Any:
            value = x if len(x) != 1 or type(dataset.element) is tuple else x[0]
            return structure.pack(value, [array_ops.ensure_shape(t, s) for t, s in zip(structure.flatten(value), wanted)])

        return dataset.map(check)

    return apply
