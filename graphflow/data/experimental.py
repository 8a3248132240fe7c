"""`tf.data.experimental`: more transformations, most of them functions to be given to `Dataset.apply` (rank 9)."""
from __future__ import annotations

from typing import Any, Callable, Sequence

import numpy as np

from .. import array_ops, errors, math_ops, types
from ..graph import Tensor
from ..ops import opdef
from ..random_ops import get_seed
from ..types import UNKNOWN, TensorShape
from . import streams, structure
from .dataset import (AUTOTUNE, INT64, Dataset, Listed, Run, _component, _entropy, _number, _positive, _started, deciding,
                      returning_dataset, returning_number)
from .function import Function
from .iterator import folding, get_single_element
from .options import DistributeOptions, OptimizationOptions, ThreadingOptions
from .streams import End, Stream
from .structure import DatasetLeaf, Leaf, SparseLeaf

__all__ = ["AUTOTUNE", "Counter", "CsvDataset", "DistributeOptions", "INFINITE_CARDINALITY", "OptimizationOptions", "RandomDataset",
           "Reducer", "SqlDataset", "TFRecordWriter", "ThreadingOptions", "UNKNOWN_CARDINALITY", "bucket_by_sequence_length", "cardinality",
           "choose_from_datasets", "copy_to_device", "dense_to_sparse_batch", "enumerate_dataset", "get_single_element", "group_by_reducer",
           "group_by_window", "ignore_errors", "make_batched_features_dataset", "make_csv_dataset", "map_and_batch",
           "map_and_batch_with_legacy_function", "parallel_interleave", "parse_example_dataset", "prefetch_to_device", "rejection_resample",
           "sample_from_datasets", "scan", "shuffle_and_repeat", "take_while", "unbatch", "unique"]

Transformation = Callable[[Dataset], Dataset]


# ---------------------------------------------------------------- shorter ways of writing


def shuffle_and_repeat(buffer_size: Any, count: Any = None, seed: Any = None) -> Transformation:
    """`shuffle(buffer_size, seed)`, another order each time, and `repeat(count)`."""
    return lambda dataset: dataset.shuffle(buffer_size, seed).repeat(count)


def map_and_batch(map_func: Callable[..., Any], batch_size: Any, num_parallel_batches: Any = None, drop_remainder: Any = False,
                  num_parallel_calls: Any = None) -> Transformation:
    """`map(map_func)` in threads and `batch(batch_size, drop_remainder)`.

    Args:
        num_parallel_batches: how many batches are worked on at a time; or `num_parallel_calls`: how many elements.

    Raises:
        ValueError: both are given.
    """
    if num_parallel_batches is not None and num_parallel_calls is not None:
        raise ValueError("`map_and_batch` allows only one of `num_parallel_batches` and `num_parallel_calls` to be set.")
    calls = num_parallel_calls
    if num_parallel_batches is not None:
        calls = AUTOTUNE
    return lambda dataset: dataset.map(map_func, calls).batch(batch_size, drop_remainder)


map_and_batch_with_legacy_function = map_and_batch


def unbatch() -> Transformation:
    """`Dataset.unbatch`."""
    return lambda dataset: dataset.unbatch()


def enumerate_dataset(start: Any = 0) -> Transformation:
    """`Dataset.enumerate`."""
    return lambda dataset: dataset.enumerate(start)


def prefetch_to_device(device: Any, buffer_size: Any = None) -> Transformation:
    """`prefetch(buffer_size)`; there is one device here."""
    return lambda dataset: dataset.prefetch(AUTOTUNE if buffer_size is None else buffer_size)


def copy_to_device(target_device: Any, source_device: Any = "/cpu:0") -> Transformation:
    """The same elements; there is one device here."""
    return lambda dataset: dataset


def Counter(start: Any = 0, step: Any = 1, dtype: Any = types.int64) -> Dataset:
    """`start`, `start + step`, ... without end."""
    dtype = types.as_dtype(dtype)
    end = np.iinfo(np.int64).max if not isinstance(step, int) or step > 0 else np.iinfo(np.int64).min
    numbers = Dataset.range(start, end, step)
    return numbers if dtype is types.int64 else numbers.map(lambda n: math_ops.cast(n, dtype))


# ---------------------------------------------------------------- choosing


def ignore_errors() -> Transformation:
    """Elements whose making raises an error (of `tf.errors`) are left out."""
    return lambda dataset: dataset._derived("IgnoreErrorsDataset", dataset.element,
                                            lambda run: streams.IgnoreErrors(streams.rowless(dataset.stream(run)), errors.OpError))


def take_while(predicate: Callable[..., Any]) -> Transformation:
    """Elements up to the first for which `predicate` is false.  Raises ValueError when that is no boolean scalar."""
    def apply(dataset: Dataset) -> Dataset:
        f = deciding(dataset._function(predicate, "take_while"))

        def make(run: Run) -> Stream:
            call = dataset._calls(f, run)
            return streams.Whenever(dataset.stream(run), lambda x: bool(call(x)[0]))

        return dataset._derived("TakeWhileDataset", dataset.element, make, functions=[f])

    return apply


def unique() -> Transformation:
    """Each element once.  Raises TypeError unless it is one scalar of int32, int64 or string."""
    def apply(dataset: Dataset) -> Dataset:
        if not isinstance(dataset.element, Leaf) or dataset.element.dtype not in (types.int32, types.int64, types.string):
            raise TypeError("`tf.data.experimental.unique()` only supports inputs with a single component of type tf.int32, tf.int64 or "
                            f"tf.string, got {dataset.element!r}")

        def make(run: Run) -> Stream:
            seen: set[Any] = set()
            return streams.Filter(dataset.stream(run), lambda x: (v := x[0].item()) not in seen and not seen.add(v))  # type: ignore

        return dataset._derived("UniqueDataset", dataset.element, make)

    return apply


def sample_from_datasets(datasets: Sequence[Dataset], weights: Any = None, seed: int | None = None) -> Dataset:
    """Each element from one of `datasets`, chosen at random.

    Args:
        weights: probabilities (a list, or a tensor of rank 1), or a dataset of them; equal if None.

    Raises:
        TypeError: elements of different types, no floating point weights.  ValueError: another number of weights than datasets.
    """
    datasets = list(datasets)
    element = _common(datasets)
    values = np.full(len(datasets), 1 / len(datasets), np.float32) if weights is None and datasets else weights
    if isinstance(values, Dataset):
        return _sampled(datasets, element, values, seed)
    values = _component(values)
    if values.dtype not in (types.float32, types.float64) and getattr(values.dtype, "kind", "") != "f":
        raise TypeError(f"`weights` must be convertible to a tensor of `tf.float32` or `tf.float64` elements, got {values!r}")
    if isinstance(values, np.ndarray) and values.shape != (len(datasets),):
        raise ValueError(f"`weights` must have the length of `datasets`, {len(datasets)}, got shape {values.shape}")
    return _sampled(datasets, element, Dataset.from_tensors(values).repeat(), seed)


def _sampled(datasets: list[Dataset], element: Any, weights: Dataset, seed: int | None) -> Dataset:
    def make(run: Run) -> Stream:
        entropy = run.shared(made, lambda: _entropy(keys, run, None))
        rng, source = np.random.Generator(np.random.PCG64(entropy)), streams.rowless(weights.stream(run))

        def choose(open_: Sequence[bool]) -> int:
            p = np.where(open_, np.asarray(source.next()[0], np.float64), 0)
            if not p.sum():
                raise End
            return int(np.searchsorted(np.cumsum(p) / p.sum(), rng.random(), side="right"))

        return streams.Choose([streams.rowless(d.stream(run)) for d in datasets], choose)

    made = Dataset("SampleFromDatasets", element, make, [*datasets, weights])
    keys = get_seed(seed, made.name)
    return made


def choose_from_datasets(datasets: Sequence[Dataset], choice_dataset: Dataset) -> Dataset:
    """Each element from the one of `datasets` whose number `choice_dataset` gives.

    Raises:
        TypeError: elements of different types, or choices that are no int64 scalars.
    """
    datasets = list(datasets)
    element = _common(datasets)
    if choice_dataset.element != INT64:
        raise TypeError(f"`choice_dataset` must be a dataset of scalar `tf.int64` tensors, got {choice_dataset.element!r}")

    def make(run: Run) -> Stream:
        choices = streams.rowless(choice_dataset.stream(run))

        def choose(open_: Sequence[bool]) -> int:
            i = int(choices.next()[0])
            if not 0 <= i < len(datasets):
                raise made._failed(f"the choice {i} is none of {len(datasets)} datasets")
            return i

        return streams.Choose([streams.rowless(d.stream(run)) for d in datasets], choose)

    made = Dataset("ChooseFromDatasets", element, make, [*datasets, choice_dataset])
    return made


def _common(datasets: list[Dataset]) -> Any:
    if not datasets:
        raise ValueError("`datasets` must have at least one dataset")
    leaves = structure.flatten(datasets[0].element)
    for d in datasets[1:]:
        leaves = [a.merged(b) for (_, b), a in zip(structure.together(datasets[0].element, d.element, "every dataset's element"), leaves)]
    return structure.pack(datasets[0].element, leaves)


def RandomDataset(seed: Any = None) -> Dataset:
    """Random int64 numbers from 0 up to 2^32, without end."""
    given = None if seed is None else _number(seed, "seed")

    def make(run: Run) -> Stream:
        rng = np.random.Generator(np.random.PCG64(_entropy(keys, run, given)))
        return streams.Pulled(lambda: iter(lambda: rng.integers(0, 1 << 32), None), lambda n: (np.array(n, np.int64),), lambda e: e)

    made = Dataset("RandomDataset", INT64, make, operands=[given])
    keys = get_seed(0 if not isinstance(given, int | None) else given, made.name)
    return made


# ---------------------------------------------------------------- functions of elements


def scan(initial_state: Any, scan_func: Callable[..., Any]) -> Transformation:
    """`state, output = scan_func(state, element)` for each element; the outputs.  Raises TypeError when the state changes its type."""
    def apply(dataset: Dataset) -> Dataset:
        state, initial, f = folding(dataset, initial_state, scan_func, "scan")
        n = len(structure.flatten(state))

        def make(run: Run) -> Stream:
            worker = f.worker(run)

            def step(s: Any, x: Any) -> Any:
                found = worker((*s, *x), run.bound)
                return found[:n], found[n:]

            return streams.Scan(dataset.stream(run), tuple(run.value(v) for v in initial), step)

        return dataset._derived("ScanDataset", f.result[1], make, initial, [f])

    return apply


def parallel_interleave(map_func: Callable[..., Any], cycle_length: Any, block_length: Any = 1, sloppy: Any = False,
                        buffer_output_elements: Any = None, prefetch_input_elements: Any = None) -> Transformation:
    """`interleave` with each of `cycle_length` datasets read by a thread, `buffer_output_elements` ahead.

    The order is that of `interleave`, also with `sloppy`, which allows another one.
    """
    def apply(dataset: Dataset) -> Dataset:
        f = dataset._making(map_func, "parallel_interleave")
        cycle, block = _number(cycle_length, "cycle_length"), _number(block_length, "block_length")
        ahead = None if buffer_output_elements is None else _number(buffer_output_elements, "buffer_output_elements")

        def make(run: Run) -> Stream:
            n, length = run.number(cycle, "cycle_length", made), run.number(block, "block_length", made)
            if n < 1 or length < 1:
                raise made._failed(f"cycle_length and block_length must be greater than zero, got {n} and {length}")
            size = 2 * length if ahead is None else max(1, run.number(ahead, "buffer_output_elements", made))
            call = dataset._calls(f, run)
            return streams.Interleave(dataset.stream(run), lambda x: _started(call(x)[0].stream(), size), n, length)

        made = dataset._derived("ParallelInterleaveDataset", f.result.element, make, [cycle, block, ahead], [f])
        return made

    return apply


# ---------------------------------------------------------------- groups


def group_by_window(key_func: Callable[..., Any], reduce_func: Callable[..., Any], window_size: Any = None,
                    window_size_func: Callable[..., Any] | None = None) -> Transformation:
    """The elements of `reduce_func(key, dataset)` for each `window_size` elements with the same key, and for those left at the end.

    Args:
        key_func: an element's key, an int64 scalar.
        reduce_func: takes a key and a dataset of elements, returns a dataset.
        window_size: how many, or `window_size_func`: how many of a key.

    Raises:
        ValueError: neither or both of the last two; a key or size that is no int64 scalar.
    """
    if (window_size is None) == (window_size_func is None):
        raise ValueError("Must pass either window_size or window_size_func.")
    sizes = window_size_func or (lambda key: math_ops.cast(window_size, types.int64))

    def apply(dataset: Dataset) -> Dataset:
        key = returning_number(dataset._function(key_func, "group_key"), "key_func")
        size = returning_number(Function(lambda k: math_ops.cast(sizes(k), types.int64), INT64, "group_size"), "window_size_func")
        reduce = returning_dataset(Function(reduce_func, (INT64, DatasetLeaf(dataset.element)), "group_reduce"), "reduce_func")

        def make(run: Run) -> Stream:
            keys, reducer = dataset._calls(key, run), reduce.worker(run)
            counts, known = dataset._calls(size, run), {}

            def size_of(k: int) -> int:
                if k not in known:
                    known[k] = int(counts((np.array(k, np.int64),))[0])
                    if known[k] < 1:
                        raise made._failed(f"Window size must be greater than zero, but got {known[k]}.")
                return known[k]

            return streams.Groups(dataset.stream(run), lambda x: int(keys(x)[0]), size_of,
                                  lambda k, rows: reducer((np.array(k, np.int64), Listed(rows)), run.bound)[0].stream())

        made = dataset._derived("GroupByWindowDataset", reduce.result.element, make, functions=[key, size, reduce])
        return made

    return apply


def bucket_by_sequence_length(element_length_func: Callable[..., Any], bucket_boundaries: Sequence[int], bucket_batch_sizes: Sequence[int],
                              padded_shapes: Any = None, padding_values: Any = None, pad_to_bucket_boundary: bool = False,
                              no_padding: bool = False, drop_remainder: bool = False) -> Transformation:
    """Padded batches of elements of similar length.

    Args:
        element_length_func: the length of an element, int32.
        bucket_boundaries: lengths at which a new bucket begins, rising.
        bucket_batch_sizes: the batch size of each bucket, one more than boundaries.
        padded_shapes, padding_values: as for `padded_batch`; by default as long as the longest of the batch, and zeros.
        pad_to_bucket_boundary: pad unknown sizes to the largest length of the bucket; no element may be longer than the last boundary.
        no_padding: `batch` instead.

    Raises:
        ValueError: the numbers of boundaries and batch sizes do not fit.
        InvalidArgumentError (at run time): with `pad_to_bucket_boundary`, an element that belongs to the last, open bucket.
    """
    if len(bucket_batch_sizes) != len(bucket_boundaries) + 1:
        raise ValueError(f"len(bucket_batch_sizes) must equal len(bucket_boundaries) + 1, got {len(bucket_batch_sizes)} and "
                         f"{len(bucket_boundaries)}")
    bounds, sizes = np.array(bucket_boundaries, np.int32), np.array(bucket_batch_sizes, np.int64)

    def key(*element: Any) -> Any:
        length = math_ops.cast(element_length_func(*element), types.int32)
        return math_ops.reduce_sum(math_ops.cast(math_ops.less_equal(bounds, length), types.int64))

    def apply(dataset: Dataset) -> Dataset:
        def reduce(bucket: Any, group: Dataset) -> Dataset:
            size = array_ops.gather(sizes, bucket)
            if no_padding:
                return group.batch(size, drop_remainder)
            shapes = dataset.output_shapes if padded_shapes is None else padded_shapes
            if pad_to_bucket_boundary:
                shapes = _filled(dataset, shapes, _boundary(bounds, bucket))
            return group.padded_batch(size, shapes, padding_values, drop_remainder)

        return dataset.apply(group_by_window(key, reduce, window_size_func=lambda bucket: array_ops.gather(sizes, bucket)))

    return apply


def _boundary(bounds: np.ndarray, bucket: Any) -> Any:
    from .. import check_ops, framework

    inside = check_ops.assert_less(bucket, np.int64(len(bounds)), message="When pad_to_bucket_boundary=True, elements must have length < "
                                   "max(bucket_boundaries).")
    with framework.control_dependencies([inside]):
        return math_ops.cast(array_ops.gather(bounds, math_ops.minimum(bucket, np.int64(len(bounds) - 1))), types.int64) - 1


def _filled(dataset: Dataset, shapes: Any, size: Any) -> Any:
    parts = structure.flatten_up_to(dataset.element, shapes, "padded_shapes")
    return structure.pack(dataset.element, [[size if _unknown(d) else d for d in (TensorShape(s) if not isinstance(s, list) else s)]
                                            for s in parts])


def _unknown(d: Any) -> bool:
    return d is None or getattr(d, "value", d) is None or isinstance(d, int) and d == -1


class Reducer:
    """What `group_by_reducer` does with the elements of a key.

    init_func: the first state, of the key.  reduce_func: the next one, of state and element.  finalize_func: the result, of the last.
    """

    def __init__(self, init_func: Callable[..., Any], reduce_func: Callable[..., Any], finalize_func: Callable[..., Any]):
        self.init_func, self.reduce_func, self.finalize_func = init_func, reduce_func, finalize_func


def group_by_reducer(key_func: Callable[..., Any], reducer: Reducer) -> Transformation:
    """One element for each key: `reducer` over all elements with it.  Raises ValueError for a key that is no int64 scalar."""
    def apply(dataset: Dataset) -> Dataset:
        key = returning_number(dataset._function(key_func, "group_key"), "key_func")
        first = Function(reducer.init_func, INT64, "init_func")
        step = Function(lambda s, x: reducer.reduce_func(s, x), (first.result, dataset.element), "reduce_func")
        for a, b in structure.together(first.result, step.result, "the new state of reduce_func"):
            a.merged(b)
        last = Function(reducer.finalize_func, step.result, "finalize_func", unpack=type(step.result) is tuple)

        def make(run: Run) -> Stream:
            keys, begin, go, end = (f.worker(run) for f in (key, first, step, last))

            def results() -> Any:
                states: dict[int, Any] = {}
                for x in streams.rowless(dataset.stream(run)):
                    k = int(keys(x, run.bound)[0])
                    s = states[k] if k in states else begin((np.array(k, np.int64),), run.bound)
                    states[k] = go((*s, *x), run.bound)
                for k in sorted(states):
                    yield end(states[k], run.bound)

            return streams.Pulled(results, lambda x: x, lambda e: e)

        return dataset._derived("GroupByReducerDataset", last.result, make, functions=[key, first, step, last])

    return apply


def dense_to_sparse_batch(batch_size: Any, row_shape: Any) -> Transformation:
    """Batches of elements of different sizes as SparseTensors of shape [batch_size] + `row_shape` (None: the largest of the batch).

    Raises:
        TypeError: an element of several components.  InvalidArgumentError (at run time): an element that is larger than `row_shape`.
    """
    def apply(dataset: Dataset) -> Dataset:
        leaf = dataset.element
        if not isinstance(leaf, Leaf) or isinstance(leaf, SparseLeaf):
            raise TypeError(f"dense_to_sparse_batch needs elements of one dense component, got {leaf!r}")
        n, row = _number(batch_size, "batch_size"), [None if _unknown(d) else int(d) for d in TensorShape(row_shape)]

        def stack(rows: list[Any]) -> Any:
            values = [r[0] for r in rows]
            most = np.max([v.shape for v in values], 0) if row else []
            shape = [int(m) if d is None else d for d, m in zip(row, most)]
            for v in values:
                if v.ndim != len(row) or any(m > d for d, m in zip(shape, v.shape)):
                    raise made._failed(f"Element has shape {v.shape} that does not fit the row shape {row}")
            indices = [np.concatenate([np.full((v.size, 1), i), np.argwhere(np.ones(v.shape, bool))], 1) for i, v in enumerate(values)]
            return structure.SparseTensorValue(np.concatenate(indices).astype(np.int64), np.concatenate([v.reshape(-1) for v in values]),
                                               np.array([len(rows), *shape], np.int64)),

        made = dataset._derived("DenseToSparseBatchDataset", SparseLeaf(leaf.dtype, (UNKNOWN, *TensorShape(row_shape)._dims)),  # type: ignore
                                lambda run: streams.Batch(streams.rowless(dataset.stream(run)), _positive(run, n, made), False, stack), [n])
        return made

    return apply


def rejection_resample(class_func: Callable[..., Any], target_dist: Any, initial_dist: Any = None,
                       seed: int | None = None) -> Transformation:
    """Elements left out at random so that their classes have the distribution `target_dist`; pairs of a class and an element.

    Args:
        class_func: the class of an element, int32 from 0.
        target_dist: a floating point vector, the wanted share of each class.
        initial_dist: that of the input; if None it is counted on the way.

    Raises:
        TypeError: distributions that are not floating point.  ValueError: a class that is no int32 scalar, or other numbers of classes.
    """
    wanted, given = _component(target_dist), None if initial_dist is None else _component(initial_dist)
    for d in (wanted, given):
        if d is not None and types.as_dtype(d.dtype) not in types.FLOAT:
            raise TypeError(f"target_dist and initial_dist must be floating point vectors, got {d!r}")

    def apply(dataset: Dataset) -> Dataset:
        f = dataset._function(class_func, "class_func")
        if type(f.result) is not Leaf or f.result.dtype is not types.int32 or f.result.sizes not in ((), None):
            raise ValueError(f"`class_func` must return a scalar tf.int32 tensor, got {f.result!r}")

        def make(run: Run) -> Stream:
            target = np.asarray(run.value(wanted), np.float64)
            seen = np.ones(len(target)) if given is None else np.asarray(run.value(given), np.float64)
            if seen.shape != target.shape:
                raise made._failed(f"target_dist and initial_dist must have the same length, got {target.shape} and {seen.shape}")
            call, rng = dataset._calls(f, run), np.random.Generator(np.random.PCG64(_entropy(keys, run, None)))

            def classed(x: Any) -> Any:
                k = call(x)[0]
                if not 0 <= int(k) < len(target):
                    raise made._failed(f"class_func gave the class {int(k)}; there are {len(target)} classes")
                if given is None:
                    seen[int(k)] += 1
                return k, *x

            def keep(x: Any) -> bool:
                with np.errstate(divide="ignore", invalid="ignore"):
                    share = np.where(target > 0, target / seen, 0)
                return rng.random() * share.max() < share[int(x[0])]

            return streams.Filter(streams.Map(streams.rowless(dataset.stream(run)), classed), keep)

        made = dataset._derived("RejectionResample", (f.result, dataset.element), make, [wanted, given], [f])
        keys = get_seed(seed, made.name)
        return made

    return apply


# ---------------------------------------------------------------- records and tables


def parse_example_dataset(features: Any, num_parallel_calls: Any = 1) -> Transformation:
    """Vectors of serialized Examples as dicts of tensors, by `tf.parse_example`.

    Raises:
        ValueError: no features.  TypeError: elements that are no vectors of strings.
    """
    if not features:
        raise ValueError("Missing: features was %s." % (features,))

    def apply(dataset: Dataset) -> Dataset:
        from ..io import parse_example

        leaf = dataset.element
        if type(leaf) is not Leaf or leaf.dtype is not types.string or leaf.sizes is not None and len(leaf.sizes) != 1:
            raise TypeError(f"Input dataset should be a dataset of vectors of strings, got {leaf!r}")
        return dataset.map(lambda x: parse_example(x, features), num_parallel_calls)

    return apply


def make_batched_features_dataset(file_pattern: Any, batch_size: Any, features: Any, reader: Any = None, label_key: str | None = None,
                                  reader_args: Any = None, num_epochs: int | None = None, shuffle: bool = True,
                                  shuffle_buffer_size: int = 10000, shuffle_seed: int | None = None,
                                  prefetch_buffer_size: Any = None, reader_num_threads: int | None = None,
                                  parser_num_threads: int | None = None, sloppy_ordering: bool = False,
                                  drop_final_batch: bool = False) -> Dataset:
    """Batches of parsed Examples from files: dicts of tensors, with `label_key` pairs of that and the label.

    Args:
        reader: makes a dataset of a file name and `reader_args`; TFRecordDataset if None.
        num_epochs: how often; without end if None.  drop_final_batch: leave a smaller last batch out.
        reader_num_threads: how many files are read at a time.  parser_num_threads: likewise batches.

    Raises:
        ValueError: `label_key` is none of `features`.
    """
    from .readers import TFRecordDataset

    if label_key is not None and label_key not in features:
        raise ValueError(f"The `label_key` provided ({label_key!r}) must be one of the `features` keys.")
    make, cycle = TFRecordDataset if reader is None else reader, reader_num_threads or 1
    dataset: Any = Dataset.list_files(file_pattern, shuffle=shuffle, seed=shuffle_seed)
    dataset = dataset.interleave(lambda name: make(name, *(reader_args or [])), cycle, num_parallel_calls=cycle if cycle > 1 else None)
    if type(dataset.element) is tuple:  # of a key and a value
        dataset = dataset.map(lambda *x: x[-1])
    if shuffle:
        dataset = dataset.shuffle(shuffle_buffer_size, shuffle_seed)
    dataset = dataset.repeat(num_epochs).batch(batch_size, drop_remainder=drop_final_batch or num_epochs is None)
    dataset = dataset.apply(parse_example_dataset(features, parser_num_threads or 2))
    if label_key is not None:
        dataset = dataset.map(lambda x: (x, x.pop(label_key)))
    return dataset.prefetch(AUTOTUNE if prefetch_buffer_size is None else prefetch_buffer_size)


class SqlDataset(Dataset):
    """The rows of a query to an SQLite database, as tuples of scalars.

    Args:
        driver_name: "sqlite".  data_source_name: the file.  query: SQL.
        output_types: the dtypes of the columns.

    Raises (at run time):
        InvalidArgumentError: another driver, number of columns or value.  UnknownError: what the database says.
    """

    def __init__(self, driver_name: Any, data_source_name: Any, query: Any, output_types: Any):
        dtypes = [types.as_dtype(t) for t in output_types]
        texts = [_component(v) for v in (driver_name, data_source_name, query)]
        super().__init__("SqlDataset", tuple([Leaf(t, ()) for t in dtypes]), lambda run: self._rows(run, texts, dtypes), operands=texts)

    def _rows(self, run: Run, texts: Any, dtypes: Any) -> Stream:
        import sqlite3
        from contextlib import closing

        driver, source, query = (np.asarray(run.value(t), object).item().decode() for t in texts)
        if driver != "sqlite":
            raise self._failed(f"The database type, {driver}, is not supported by SqlDataset. The supported type is sqlite")

        def rows() -> Any:
            with closing(sqlite3.connect(f"file:{source}?mode=ro", uri=True, check_same_thread=False)) as connection:
                yield from connection.execute(query)

        def convert(row: Any) -> Any:
            if len(row) != len(dtypes):
                raise self._failed(f"The number of columns of the query, {len(row)}, is not that of output_types, {len(dtypes)}")
            return tuple([self._value(v, t) for v, t in zip(row, dtypes)])

        return streams.Pulled(rows, convert, lambda e: errors.raised_at(errors.UnknownError, self, f"{type(e).__name__}: {e}"))

    def _value(self, value: Any, dtype: types.DType) -> np.ndarray:
        if dtype.kind == "s":
            return np.array(b"" if value is None else value if isinstance(value, bytes) else str(value).encode(), object)
        try:
            return np.array(0 if value is None else value, dtype.np)
        except (TypeError, ValueError, OverflowError) as e:
            raise self._failed(f"the value {value!r} is no {dtype.name}: {e}") from e


# ---------------------------------------------------------------- how many

INFINITE_CARDINALITY, UNKNOWN_CARDINALITY = -1, -2


def cardinality(dataset: Dataset) -> Any:
    """The number of elements as an int64 scalar; INFINITE_CARDINALITY, or UNKNOWN_CARDINALITY where only a pass would tell."""
    return opdef.constant(np.array(_count(dataset), np.int64), name="cardinality")


def _count(d: Dataset) -> int:
    given = [v for v in d.operands if v is not None]
    below = [_count(x) for x in d.inputs]
    if any(isinstance(v, Tensor) for v in given) or UNKNOWN_CARDINALITY in below or d.type not in _COUNTS:
        return UNKNOWN_CARDINALITY
    return _COUNTS[d.type](given, *below)


def _times(n: int, k: int) -> int:
    return 0 if not (n and k) else -1 if n < 0 or k < 0 else n * k


def _least(*counts: int) -> int:
    return min([n for n in counts if n >= 0], default=-1)


def _batches(given: Any, n: int) -> int:
    return n if n < 0 else n // given[0] if given[1] else -(-n // given[0])


_COUNTS: dict[str, Callable[..., int]] = {
    "TensorDataset": lambda given: 1, "TensorSliceDataset": lambda given: len(given[0]) if isinstance(given[0], np.ndarray) else -2,
    "RangeDataset": lambda given: len(range(*given)), "ZipDataset": lambda given, *n: _least(*n),
    "ConcatenateDataset": lambda given, *n: -1 if -1 in n else sum(n), "RepeatDataset": lambda given, n: _times(n, given[0]),
    "TakeDataset": lambda given, n: n if given[0] < 0 else _least(n, given[0]),
    "SkipDataset": lambda given, n: 0 if given[0] < 0 else n if n < 0 else max(0, n - given[0]),
    "ShardDataset": lambda given, n: n if n < 0 else len(range(given[1], n, given[0])), "BatchDataset": _batches,
    "PaddedBatchDataset": _batches,
    **dict.fromkeys(("MapDataset", "ParallelMapDataset", "CacheDataset", "PrefetchDataset", "ShuffleDataset", "OptionsDataset",
                     "ScanDataset"), lambda given, n: n)}


from .csv import CsvDataset, make_csv_dataset  # noqa: E402  (it is written on what stands here)
from .iterator import TFRecordWriter  # noqa: E402
