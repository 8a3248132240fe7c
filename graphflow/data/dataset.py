"""`tf.data.Dataset`: a tree of sources and transformations, declared once, run by iterators.

A dataset is a value: what its elements look like (`element`), the tensors it needs when an iterator starts (`tensors()`), and how its
elements are then made (`stream(run)`).  TF1's names, arguments and order of elements (rank 9).
"""
from __future__ import annotations

import itertools
import os
import weakref
from typing import Any, Callable, Iterable, Sequence

import numpy as np

from .. import errors, graph, locks, random_ops, types
from ..graph import Tensor
from ..ops import opdef
from ..ops.host import _error_for
from ..types import UNKNOWN, TensorShape
from . import streams, structure, vectorize
from .function import Function
from .streams import Stream
from .structure import DatasetLeaf, Leaf, SparseLeaf

AUTOTUNE = -1
INT64 = Leaf(types.int64, ())


class Run:
    """A start of an iterator: values of tensors, the session's store, and what passes over the same data share."""

    def __init__(self, values: dict[Any, Any], store: Any = None, config: Any = None):
        self.values, self.config = values, config
        self._store = None if store is None else weakref.ref(store)  # a thread that reads ahead keeps no session alive
        self.kept: dict[Any, Any] = {}
        self.lock = locks.rlock()

    @property
    def store(self) -> Any:
        """The session's variables and resources; None for none, or when it is gone."""
        return None if self._store is None else self._store()

    def value(self, x: Any) -> Any:
        """The array of a tensor; anything else is its own value."""
        if not isinstance(x, Tensor):
            return x
        found = self.values[x]
        return structure.in_bytes(found) if found.dtype == object else found

    def number(self, x: Any, what: str, where: Any) -> int:
        array = np.asarray(self.value(x))
        if array.ndim:
            raise errors.raised_at(errors.InvalidArgumentError, where, f"{what} must be a scalar, got shape {array.shape}")
        return int(array)

    def shared(self, key: Any, make: Callable[[], Any]) -> Any:
        with self.lock:
            if key not in self.kept:
                self.kept[key] = make()
            return self.kept[key]

    def counter(self, f: Function) -> Any:
        """Numbers of the calls of `f`, through all passes."""
        return self.shared(f, itertools.count)

    def bound(self, dataset: Dataset, values: dict[Any, Any]) -> Bound:
        return Bound(dataset, Run({**self.values, **values}, self.store, self.config))


class Bound:
    """A dataset that is an element, with the values it needs."""

    def __init__(self, dataset: Dataset, run: Run):
        self.dataset, self.run = dataset, run

    def stream(self) -> Stream:
        return self.dataset.stream(self.run)


class Listed:
    """Elements that are an element: a window."""

    def __init__(self, elements: list[Any]):
        self.elements = elements

    def stream(self) -> Stream:
        return streams.Given(self.elements)


class Dataset:
    """Elements of one structure, in order.

    Attributes:
        element: the structure; leaves are `structure.Leaf`.
        inputs, functions, operands: datasets, traced functions, and tensors or numbers it is made of.
        name, type, site: for messages.
    """

    def __init__(self, type: str, element: Any, make: Callable[[Run], Stream], inputs: Sequence[Dataset] = (), operands: Iterable[Any] = (),
                 functions: Sequence[Function] = ()):
        self.type, self.element, self._make = type, element, make
        self.inputs, self.functions = tuple(inputs), tuple(functions)
        self.operands = tuple(operands)
        self.graph = graph.get_default_graph()
        self.name = self.graph.unique_name(type)
        self.site = graph.caller_site()
        self._options: Any = None
        own = [t for v in self.operands for t in (v._components() if isinstance(v, structure.SparseTensor) else [v])
               if isinstance(t, Tensor)]
        self._tensors = list(dict.fromkeys([*[t for d in self.inputs for t in d.tensors()], *[t for f in functions for t in f.captured],
                                            *own]))

    def tensors(self) -> list[Tensor]:
        """What must be known when an iterator starts."""
        return self._tensors

    def stream(self, run: Run) -> Stream:
        return self._make(run)

    def _dataset(self) -> Dataset:
        return self

    def _every(self) -> list[Dataset]:
        """This dataset, those it is made of, and those that its functions make."""
        inside = [v for f in self.functions for v in f.flat if hasattr(v, "_dataset")]
        return [self, *[x for d in (*self.inputs, *inside) for x in d._every()]]

    def _failed(self, message: str) -> Exception:
        return errors.raised_at(errors.InvalidArgumentError, self, message)

    # -- what it is

    @property
    def output_types(self) -> Any:
        """Dtypes in the structure of an element."""
        return structure.map_leaves(lambda leaf: leaf.type, self.element)

    @property
    def output_shapes(self) -> Any:
        """Static shapes in the structure of an element."""
        return structure.map_leaves(lambda leaf: leaf.shape, self.element)

    @property
    def output_classes(self) -> Any:
        """`tf.Tensor` or `tf.SparseTensor` in the structure of an element."""
        return structure.map_leaves(lambda leaf: leaf.kind, self.element)

    element_spec = property(lambda self: self.element)

    def options(self) -> Any:
        """The `tf.data.Options` given by `with_options` to this dataset and to those it is made of."""
        from .options import Options

        found = Options()
        for d in self.inputs:
            found = found.merge(d.options())
        return found if self._options is None else found.merge(self._options)

    def with_options(self, options: Any) -> Dataset:
        """The same elements with `options`.  Raises ValueError where they contradict those there are."""
        self.options().merge(options)
        found = self._derived("OptionsDataset", self.element, self.stream)
        found._options = options
        return found

    def __repr__(self) -> str:
        return f"<DatasetV1Adapter shapes: {self.output_shapes}, types: {structure.map_leaves(lambda t: t, self.output_types)}>"

    def __iter__(self) -> Any:
        raise RuntimeError("dataset.__iter__() is only supported when eager execution is enabled: use make_one_shot_iterator().get_next()")

    def __bool__(self) -> bool:
        return True

    def make_one_shot_iterator(self) -> Any:
        """See `tf.data.make_one_shot_iterator`."""
        from .iterator import make_one_shot_iterator

        return make_one_shot_iterator(self)

    def make_initializable_iterator(self, shared_name: str | None = None) -> Any:
        """See `tf.data.make_initializable_iterator`."""
        from .iterator import make_initializable_iterator

        return make_initializable_iterator(self, shared_name)

    # -- sources

    @staticmethod
    def from_tensors(tensors: Any) -> Dataset:
        """One element: `tensors`."""
        values = structure.map_leaves(_component, tensors)
        flat = structure.flatten(values)
        element = structure.pack(values, [_leaf(v) for v in flat])
        return Dataset("TensorDataset", element, lambda run: streams.Given([_run_values(run, flat)]), operands=flat)

    @staticmethod
    def from_tensor_slices(tensors: Any) -> Dataset:
        """The rows of `tensors` along their first axis.

        Raises:
            ValueError: a scalar, or numbers of rows that differ, as far as is known; InvalidArgumentError when an iterator starts.
        """
        values = structure.map_leaves(_component, tensors)
        flat = structure.flatten(values)
        leaves = [_leaf(v) for v in flat]
        counts = {leaf.sizes[0] for leaf in leaves if leaf.sizes and not isinstance(leaf.sizes[0], types.Dim)}
        element = structure.pack(values, [leaf.inner() for leaf in leaves])
        if len(counts) > 1:
            raise ValueError(f"Dimensions {' and '.join(map(str, sorted(counts)))} are not compatible: all components must have the same "
                             "number of rows")
        if not flat:
            raise ValueError("from_tensor_slices needs at least one component")
        made = Dataset("TensorSliceDataset", element, lambda run: _slices(made, leaves, _run_values(run, flat)), operands=flat)
        return made

    @staticmethod
    def from_sparse_tensor_slices(sparse_tensor: Any) -> Dataset:
        """The rows of a SparseTensor as triples (indices, values, dense_shape)."""
        if not isinstance(sparse_tensor, structure.SparseTensor):
            raise TypeError(f"`sparse_tensor` must be a `tf.SparseTensor` object, got {sparse_tensor!r}")
        leaf = _leaf(sparse_tensor)
        rank = UNKNOWN if leaf.sizes is None else len(leaf.sizes) - 1
        element = Leaf(types.int64, (UNKNOWN, rank)), Leaf(leaf.dtype, (UNKNOWN,)), Leaf(types.int64, (rank,))

        def make(run: Run) -> Stream:
            value, = _run_values(run, [sparse_tensor])
            return streams.Given([tuple(structure.row(leaf, value, i)) for i in range(structure.rows_of(leaf, value))])

        return Dataset("SparseTensorSliceDataset", element, make, operands=[sparse_tensor])

    @staticmethod
    def from_generator(generator: Callable[..., Any], output_types: Any, output_shapes: Any = None, args: Any = None) -> Dataset:
        """What a Python generator yields.

        Args:
            generator: called with the values of `args` when a pass begins; returns an iterable of elements.
            output_types: dtypes in the structure of an element.
            output_shapes: their shapes; unknown if None.  What is yielded is checked against both.
            args: tensors whose values `generator` takes.

        Raises:
            TypeError: `generator` cannot be called, `args` is no list or tuple.
            InvalidArgumentError (at run time): an element of another structure, dtype or shape, or a ValueError or TypeError of it.
        """
        if not callable(generator):
            raise TypeError(f"`generator` must be callable, got {generator!r}")
        if args is not None and not isinstance(args, (list, tuple)):
            raise TypeError(f"`args` must be a tuple or list of tensors, got {args!r}")
        leaves = _declared(output_types, output_shapes)
        operands = [_component(a) for a in args or ()]
        made = Dataset("GeneratorDataset", structure.pack(output_types, leaves),
                       lambda run: _generated(made, generator, leaves, [run.value(a) for a in operands]), operands=operands)
        return made

    @staticmethod
    def range(*args: Any) -> Dataset:
        """int64 numbers: `range(stop)`, `range(start, stop)` or `range(start, stop, step)`."""
        if not 1 <= len(args) <= 3:
            raise ValueError(f"Invalid `args`: range takes 1 to 3 arguments, got {len(args)}")
        bounds = [_number(a, "an argument of range") for a in args]
        start, stop, step = [0, bounds[0], 1] if len(args) == 1 else [*bounds, 1][:3]

        def make(run: Run) -> Stream:
            a, b, c = (run.number(x, "a bound of range", made) for x in (start, stop, step))
            if not c:
                raise made._failed("step must be a non-zero integer")
            return streams.Count(streams.Steps(a, c), len(range(a, b, c)))

        made = Dataset("RangeDataset", INT64, make, operands=[start, stop, step])
        return made

    @staticmethod
    def zip(datasets: Any) -> Dataset:
        """Elements of several datasets side by side, in the structure in which they are given, until one of them ends.

        Raises:
            TypeError: a list (use a tuple), or something that is no dataset.
        """
        parts = structure.flatten(datasets)
        for d in parts:
            if not isinstance(d, Dataset):
                raise TypeError("The argument to `Dataset.zip()` must be a nested structure of `Dataset` objects"
                                + ("; use a tuple instead of a list." if isinstance(d, list) else f", got {d!r}"))
        element = structure.pack(datasets, [d.element for d in parts])
        return Dataset("ZipDataset", element, lambda run: streams.Zip([d.stream(run) for d in parts]), inputs=parts)

    @staticmethod
    def list_files(file_pattern: Any, shuffle: bool | None = None, seed: int | None = None) -> Dataset:
        """Names of the files that match, in random order unless `shuffle` is False.

        Args:
            file_pattern: a glob pattern, a list of them, or a string tensor.

        Raises:
            NotFoundError (when an iterator starts): no file matches.
        """
        from ..platform import gfile

        pattern = _component(file_pattern)

        def make(run: Run) -> Stream:
            patterns = [os.fsdecode(p) for p in np.asarray(run.value(pattern), object).reshape(-1)]
            names = sorted({name for p in patterns for name in gfile.Glob(p)})
            if not names:
                raise errors.raised_at(errors.NotFoundError, made, f"No files matched pattern: {', '.join(patterns)}")
            return _slices(made, [leaf], [np.array([n.encode() for n in names], object)])

        leaf = Leaf(types.string, (UNKNOWN,))
        made = Dataset("MatchingFilesDataset", Leaf(types.string, ()), make, operands=[pattern])
        return made if shuffle is False else made.shuffle(None, seed=seed)

    # -- choosing and ordering

    def _derived(self, type: str, element: Any, make: Callable[[Run], Stream], operands: Sequence[Any] = (),
                 functions: Sequence[Function] = (), inputs: Sequence[Dataset] = ()) -> Dataset:
        return Dataset(type, element, make, (self, *inputs), operands, functions)

    def concatenate(self, dataset: Dataset) -> Dataset:
        """The elements of this dataset, then those of another of the same types.  Raises TypeError for other types or structures."""
        try:
            leaves = [a.merged(b) for a, b in structure.together(self.element, dataset.element, "the second dataset's element")]
        except (TypeError, ValueError) as e:
            raise TypeError(f"Two datasets to concatenate have different types {self.output_types} and {dataset.output_types}: {e}"
                            ) from None
        return self._derived("ConcatenateDataset", structure.pack(self.element, leaves),
                             lambda run: streams.Chain([lambda d=d: d.stream(run) for d in (self, dataset)]), inputs=[dataset])  # type: ignore

    def shuffle(self, buffer_size: Any, seed: Any = None, reshuffle_each_iteration: bool | None = None) -> Dataset:
        """Each time a random one of the next `buffer_size` elements.

        Args:
            seed: with the graph's seed it fixes the order; without both, it is another one each time.
            reshuffle_each_iteration: another order in each pass of a `repeat` (the default).

        Raises:
            InvalidArgumentError (when an iterator starts): `buffer_size` is not positive.
        """
        size = None if buffer_size is None else _number(buffer_size, "buffer_size")  # None: all
        given = None if seed is None else _number(seed, "seed")
        made = self._derived("ShuffleDataset", self.element, lambda run: shuffled(run), [size, given])
        keys = random_ops.get_seed(0 if isinstance(given, Tensor) else given, made.name)

        def shuffled(run: Run) -> Stream:
            n = 1 << 62 if size is None else run.number(size, "buffer_size", made)
            if n <= 0:
                raise made._failed(f"buffer_size must be greater than zero, got {n}")
            entropy, passes = run.shared(made, lambda: (_entropy(keys, run, given), itertools.count()))
            rng = np.random.Generator(np.random.PCG64([*entropy, next(passes) if reshuffle_each_iteration is not False else 0]))
            return streams.Shuffle(self.stream(run), n, rng)

        return made

    def repeat(self, count: Any = None) -> Dataset:
        """The elements `count` times; without end for None or -1."""
        times = -1 if count is None else _number(count, "count")
        return self._derived("RepeatDataset", self.element,
                             lambda run: streams.Repeat(lambda: self.stream(run), run.number(times, "count", self)), [times])

    def take(self, count: Any) -> Dataset:
        """At most `count` elements; all for -1."""
        n = _number(count, "count")
        return self._derived("TakeDataset", self.element, lambda run: streams.Take(self.stream(run), run.number(n, "count", self)), [n])

    def skip(self, count: Any) -> Dataset:
        """All but the first `count` elements; none for -1."""
        n = _number(count, "count")
        return self._derived("SkipDataset", self.element, lambda run: streams.Skip(self.stream(run), run.number(n, "count", self)), [n])

    def shard(self, num_shards: Any, index: Any) -> Dataset:
        """Elements number `index`, `index + num_shards`, ...  Raises InvalidArgumentError when the numbers do not fit."""
        n, i = _number(num_shards, "num_shards"), _number(index, "index")

        def check(shards: int, mine: int) -> None:
            if not 0 <= mine < shards:
                raise made._failed(f"num_shards must be >= 1 and index >= 0 and < num_shards; got {shards} and {mine}")

        def make(run: Run) -> Stream:
            shards, mine = run.number(n, "num_shards", made), run.number(i, "index", made)
            check(shards, mine)
            return streams.Shard(self.stream(run), shards, mine)

        made = self._derived("ShardDataset", self.element, make, [n, i])
        if not isinstance(n, Tensor) and not isinstance(i, Tensor):
            check(n, i)
        return made

    def cache(self, filename: Any = "") -> Dataset:
        """The elements, kept during the first complete pass: in memory, or in a file that later iterators and programs read.

        Raises:
            DataLossError (at run time): the file is damaged.
        """
        from . import cache_file

        name = _component(filename)

        def make(run: Run) -> Stream:
            path = os.fsdecode(np.asarray(run.value(name), object).item())
            if path:
                return cache_file.stream(path, lambda: self.stream(run), structure.flatten(self.element), made)
            return streams.Cache(lambda: self.stream(run), run.shared(made, dict))

        made = self._derived("CacheDataset", self.element, make, [name])
        return made

    def prefetch(self, buffer_size: Any) -> Dataset:
        """The same elements, made by a thread ahead of the step that takes them; `buffer_size` at most, or AUTOTUNE."""
        n = _number(buffer_size, "buffer_size")

        def make(run: Run) -> Stream:
            size = run.number(n, "buffer_size", made)
            if size < -1:
                raise made._failed(f"buffer_size must be >= 0 or AUTOTUNE, got {size}")
            s = self.stream(run)
            ahead = size if size > 0 else 2
            if s.table is None:
                return streams.Prefetch(s, ahead) if size else s
            return streams.Either(s, lambda: streams.Prefetch(streams.rowless(s), ahead)) if s.table.works and size else s

        made = self._derived("PrefetchDataset", self.element, make, [n])
        return made

    # -- functions of elements

    def _function(self, f: Callable[..., Any], name: str) -> Function:
        return Function(f, self.element, name)

    def _calls(self, f: Function, run: Run) -> Callable[[Any], Any]:
        """`f` of an element, in this thread."""
        worker = f.worker(run)
        return lambda element: worker(element, run.bound)

    def map(self, map_func: Callable[..., Any], num_parallel_calls: Any = None) -> Dataset:
        """`map_func` of each element, in order.

        Args:
            map_func: takes the components of an element (a tuple is unpacked) as tensors and returns tensors; it is called once, now.
            num_parallel_calls: how many elements are worked on at a time, in threads; AUTOTUNE for as many as there are cores.
        """
        f = self._function(map_func, "Dataset_map")
        calls = None if num_parallel_calls is None else _number(num_parallel_calls, "num_parallel_calls")

        def make(run: Run) -> Stream:
            s = self.stream(run)
            n = 1 if calls is None else threads(run.number(calls, "num_parallel_calls", made))
            if n < 1:
                raise made._failed(f"num_parallel_calls must be greater than zero or AUTOTUNE, got {n}")
            many = vectorize.rows_at_once(f, run) if s.table is not None else None
            if many is None:
                return parallel_map(s, f, run, n) if n > 1 else streams.Map(s, self._calls(f, run))
            rows = streams.MapRows(s, self._calls(f, run), many)
            return streams.Either(rows, lambda: parallel_map(streams.rowless(s), f, run, n)) if n > 1 else rows

        made = self._derived("MapDataset" if calls is None else "ParallelMapDataset", f.result, make, [calls], [f])
        return made

    map_with_legacy_function = map

    def flat_map(self, map_func: Callable[..., Any]) -> Dataset:
        """The elements of the datasets that `map_func` makes of each element.  Raises TypeError when it returns no dataset."""
        f = self._making(map_func, "flat_map")

        def make(run: Run) -> Stream:
            call = self._calls(f, run)
            return streams.Flat(self.stream(run), lambda x: call(x)[0].stream())

        return self._derived("FlatMapDataset", f.result.element, make, functions=[f])

    def _making(self, map_func: Callable[..., Any], what: str) -> Function:
        return returning_dataset(self._function(map_func, "Dataset_" + what), "map_func")

    def interleave(self, map_func: Callable[..., Any], cycle_length: Any = AUTOTUNE, block_length: Any = 1,
                   num_parallel_calls: Any = None) -> Dataset:
        """`block_length` elements in turn of each of `cycle_length` datasets that `map_func` makes of elements.

        With `num_parallel_calls` the datasets are read by threads; the order stays the same.
        """
        f = self._making(map_func, "interleave")
        cycle, block = _number(cycle_length, "cycle_length"), _number(block_length, "block_length")
        calls = None if num_parallel_calls is None else _number(num_parallel_calls, "num_parallel_calls")

        def make(run: Run) -> Stream:
            width, length = threads(run.number(cycle, "cycle_length", made)), run.number(block, "block_length", made)
            for n, what in ((width, "cycle_length"), (length, "block_length")):
                if n < 1:
                    raise made._failed(f"{what} must be greater than zero, got {n}")
            call = self._calls(f, run)
            if calls is None:
                return streams.Interleave(self.stream(run), lambda x: call(x)[0].stream(), width, length)
            return streams.Interleave(self.stream(run), lambda x: _started(call(x)[0].stream(), 2 * length), width, length)

        made = self._derived("InterleaveDataset" if calls is None else "ParallelInterleaveDatasetV2", f.result.element, make,
                             [cycle, block, calls], [f])
        return made

    def filter(self, predicate: Callable[..., Any]) -> Dataset:
        """Elements for which `predicate` is true.  Raises ValueError when that is no boolean scalar."""
        f = deciding(self._function(predicate, "Dataset_filter"))

        def make(run: Run) -> Stream:
            call = self._calls(f, run)
            return streams.Filter(self.stream(run), lambda x: bool(call(x)[0]))

        return self._derived("FilterDataset", self.element, make, functions=[f])

    filter_with_legacy_function = filter

    def reduce(self, initial_state: Any, reduce_func: Callable[..., Any]) -> Any:
        """The state after `state = reduce_func(state, element)` for every element, as tensors; computed anew in each step.

        Raises:
            TypeError: the state changes its structure or dtypes.
        """
        from .iterator import reduced

        return reduced(self, initial_state, reduce_func)

    def apply(self, transformation_func: Callable[[Dataset], Dataset]) -> Dataset:
        """`transformation_func(self)`.  Raises TypeError when that is no dataset."""
        found = transformation_func(self)
        if not isinstance(found, Dataset):
            raise TypeError(f"`transformation_func` must return a Dataset, got {found!r}")
        return found

    def enumerate(self, start: Any = 0) -> Dataset:
        """Pairs of a number, counted from `start`, and an element."""
        return Dataset.zip((Dataset.range(start, np.iinfo(np.int64).max), self))

    # -- many to one, one to many

    def batch(self, batch_size: Any, drop_remainder: Any = False) -> Dataset:
        """`batch_size` elements as one, along a new first axis; the last may be smaller unless `drop_remainder`.

        Raises:
            InvalidArgumentError (at run time): elements of different shapes; a batch size that is not positive.
        """
        n, drop = _number(batch_size, "batch_size"), _component(drop_remainder)
        leaves = structure.flatten(self.element)
        size = n if not isinstance(n, Tensor) and _known(drop) else UNKNOWN

        def make(run: Run) -> Stream:
            return streams.Batch(self.stream(run), _positive(run, n, made), bool(run.value(drop)), lambda rows: stacked(made, leaves, rows))

        made = self._derived("BatchDataset", structure.pack(self.element, [leaf.outer(size) for leaf in leaves]), make, [n, drop])
        return made

    def padded_batch(self, batch_size: Any, padded_shapes: Any, padding_values: Any = None, drop_remainder: Any = False) -> Dataset:
        """Batches of elements whose sizes differ, padded at the end.

        Args:
            padded_shapes: in the structure of an element, the shape of each component; None (or -1): as large as the largest of the batch.
            padding_values: in the same structure, scalars to pad with; None: 0 or "".

        Raises:
            ValueError: a shape of another rank; TypeError: a padding value of another dtype.
            DataLossError (at run time): an element that is larger than its padded shape.
        """
        n, drop = _number(batch_size, "batch_size"), _component(drop_remainder)
        leaves = structure.flatten(self.element)
        if any(isinstance(leaf, SparseLeaf) for leaf in leaves):
            raise TypeError("Batching of padded sparse tensors is not currently supported")
        shapes = [_padded_shape(s, leaf) for s, leaf in zip(structure.flatten_up_to(self.element, padded_shapes, "padded_shapes"), leaves)]
        pads = [None] * len(leaves) if padding_values is None else structure.flatten_up_to(self.element, padding_values, "padding_values")
        pads = [_padding(p, leaf) for p, leaf in zip(pads, leaves)]
        size = n if not isinstance(n, Tensor) and _known(drop) else UNKNOWN
        out = [Leaf(leaf.dtype, (size, *[UNKNOWN if isinstance(d, Tensor) or d < 0 else d for d in s]) if isinstance(s, list) else None)
               for leaf, s in zip(leaves, shapes)]

        def make(run: Run) -> Stream:
            sizes = [[int(run.value(d)) for d in s] if isinstance(s, list) else [int(d) for d in run.value(s)] for s in shapes]
            values = [np.asarray(run.value(p)) for p in pads]
            stack = lambda rows: tuple([_padded(made, i, [r[i] for r in rows], s, v) for i, (s, v) in enumerate(zip(sizes, values))])  # noqa
            s = self.stream(run)
            return streams.Batch(streams.rowless(s), _positive(run, n, made), bool(run.value(drop)), stack)

        operands = [n, drop, *[d for s in shapes for d in (s if isinstance(s, list) else [s])], *pads]
        made = self._derived("PaddedBatchDataset", structure.pack(self.element, out), make, operands)
        return made

    def window(self, size: Any, shift: Any = None, stride: Any = 1, drop_remainder: Any = False) -> Dataset:
        """Datasets of `size` elements, `stride` apart, each beginning `shift` (by default `size`) after the one before.

        An element of several components gives a dataset for each.
        """
        n = _number(size, "size")
        by, gap, drop = n if shift is None else _number(shift, "shift"), _number(stride, "stride"), _component(drop_remainder)

        def make(run: Run) -> Stream:
            a, b, c = (run.number(x, what, made) for x, what in ((n, "size"), (by, "shift"), (gap, "stride")))
            for v, what in ((a, "size"), (b, "shift"), (c, "stride")):
                if v < 1:
                    raise made._failed(f"Window {what} must be greater than zero, got {v}")
            return streams.Window(self.stream(run), a, b, c, bool(run.value(drop)),
                                  lambda rows: tuple([Listed([(r[i],) for r in rows]) for i in range(len(rows[0]))]))

        made = self._derived("WindowDataset", structure.map_leaves(DatasetLeaf, self.element), make, [n, by, gap, drop])
        return made

    def unbatch(self) -> Dataset:
        """The rows of each element, along its first axis, as elements.  Raises ValueError for a scalar component."""
        leaves = structure.flatten(self.element)

        def rows(element: Any) -> int:
            counts = {structure.rows_of(leaf, v) for leaf, v in zip(leaves, element)}
            if len(counts) != 1:
                raise made._failed(f"all components must have the same number of rows, got {sorted(counts)}")
            return counts.pop()

        def make(run: Run) -> Stream:
            return streams.Unbatch(self.stream(run), rows, lambda x, i: tuple([structure.row(leaf, v, i) for leaf, v in zip(leaves, x)]))

        made = self._derived("UnbatchDataset", structure.pack(self.element, [leaf.inner() for leaf in leaves]), make)
        return made


class Parameter(Dataset):
    """What stands for a dataset that is given to a function."""

    def __init__(self, element: Any):
        super().__init__("DatasetParameter", element, lambda run: run.values[self].stream())


# ---------------------------------------------------------------- arguments


def returning_dataset(f: Function, what: str) -> Function:
    if not isinstance(f.result, DatasetLeaf):
        raise TypeError(f"`{what}` must return a `Dataset` object, got {f._returned!r}")
    return f


def returning_number(f: Function, what: str) -> Function:
    """Raises ValueError unless `f` returns an int64 scalar."""
    if not _scalar_of(f, types.int64):
        raise ValueError(f"`{what}` must return a single tf.int64 scalar tensor, got {f.result!r}")
    return f


def deciding(f: Function) -> Function:
    """Raises ValueError unless `f` returns a boolean scalar."""
    if not _scalar_of(f, types.bool_):
        raise ValueError(f"`predicate` must return a scalar boolean tensor, got {f.result!r}")
    return f


def _scalar_of(f: Function, dtype: types.DType) -> bool:
    return type(f.result) is Leaf and f.result.dtype is dtype and f.result.sizes in ((), None)

def _component(value: Any) -> Any:
    """One component as an array, or as a tensor where it is one."""
    if not isinstance(value, (Tensor, structure.SparseTensor, structure.SparseTensorValue)) and not hasattr(value, "_as_tensor"):
        try:
            return _array(opdef.to_array(value, None))
        except (TypeError, ValueError):
            pass  # holds tensors, or cannot be one: says which
    found = structure.as_tensor(value)
    return _array(found.op.attrs["value"]) if isinstance(found, Tensor) and found.op.opdef is opdef.Const else found


def _array(value: Any) -> np.ndarray:
    found = np.asarray(value)
    return structure.in_bytes(found) if found.dtype == object else found


def _leaf(value: Any) -> Leaf:
    return Leaf(types.as_dtype(value.dtype), value.shape) if isinstance(value, np.ndarray) else structure.leaf_of(value)


def _number(value: Any, what: str) -> Any:
    """An int, or a tensor."""
    if isinstance(value, (int, np.integer)) and not isinstance(value, (bool, np.bool_)):
        return int(value)
    found = _component(value)
    if isinstance(found, np.ndarray):
        if found.dtype.kind not in "iu" or found.ndim:
            raise TypeError(f"{what} must be an integer scalar, got {value!r}")
        return int(found)
    if found.dtype.kind not in "iu":
        raise TypeError(f"{what} must be an integer scalar, got {value!r} of type {found.dtype.name}")
    return found


def _known(drop: Any) -> bool:
    return isinstance(drop, np.ndarray) and bool(drop)


def _positive(run: Run, n: Any, where: Dataset) -> int:
    found = run.number(n, "batch_size", where)
    if found < 1:
        raise where._failed(f"Batch size must be greater than zero, got {found}")
    return found


def threads(n: int) -> int:
    return max(2, len(os.sched_getaffinity(0))) if n == AUTOTUNE else n


def _entropy(keys: Any, run: Run, given: Any) -> list[int]:
    if keys[0] is None:
        return [int.from_bytes(random_ops.entropy(8), "little")]
    seed = int(run.value(given)) if isinstance(given, Tensor) else keys[1]
    return [int(keys[0]) & (1 << 64) - 1, int(seed) & (1 << 64) - 1]


def _declared(output_types: Any, output_shapes: Any) -> list[Leaf]:
    dtypes = [types.as_dtype(t) for t in structure.flatten(output_types)]
    if output_shapes is None:
        return [Leaf(t, None) for t in dtypes]
    shapes = structure.flatten_up_to(output_types, output_shapes, "output_shapes")
    return [Leaf(t, types.as_shape(s)) for t, s in zip(dtypes, shapes)]


# ---------------------------------------------------------------- run time


def _run_values(run: Run, values: Sequence[Any]) -> tuple[Any, ...]:
    return tuple([structure.SparseTensorValue(*map(run.value, v._components())) if isinstance(v, structure.SparseTensor) else run.value(v)
                  for v in values])


def _slices(made: Dataset, leaves: Sequence[Leaf], values: Sequence[Any]) -> Stream:
    for leaf, v in zip(leaves, values):
        if not isinstance(leaf, SparseLeaf) and not np.ndim(v):
            raise made._failed("a scalar has no rows: every component must have at least one dimension")
    counts = {structure.rows_of(leaf, v) for leaf, v in zip(leaves, values)}
    if len(counts) > 1:
        raise made._failed(f"all components must have the same number of rows, got {sorted(counts)}")
    n = counts.pop()
    if all(type(leaf) is Leaf for leaf in leaves):
        return streams.Count(streams.Slices([np.asarray(v) for v in values]), n)
    return streams.Given([tuple([structure.row(leaf, v, i) for leaf, v in zip(leaves, values)]) for i in range(n)])


def stacked(made: Dataset, leaves: Sequence[Leaf], rows: list[Any]) -> Any:
    return tuple([structure.stack(leaf, [r[i] for r in rows], lambda m, i=i: made._failed(m.format(component=i)))  # type: ignore[misc]
                  for i, leaf in enumerate(leaves)])


def parallel_map(s: Stream, f: Function, run: Run, n: int, ahead: int | None = None) -> Stream:
    """`f` of the elements, in `n` threads."""
    def make() -> Callable[[int, Any], Any]:
        worker = f.worker(run)
        return lambda number, element: worker(element, run.bound, number)

    return streams.ParallelMap(s, n, run.counter(f).__next__, make, ahead)


def _started(s: Stream, size: int) -> Stream:
    found = streams.Prefetch(s, size)
    found.start()
    return found


def _padded_shape(shape: Any, leaf: Leaf) -> Any:
    """A list of ints and scalar tensors (-1: the largest of the batch), or a vector tensor."""
    if isinstance(shape, Tensor):
        return shape
    try:
        sizes = [-1 if d is None else d if isinstance(d, Tensor) else int(d) if isinstance(d, (int, np.integer)) else _size(d)
                 for d in (TensorShape(shape) if isinstance(shape, (TensorShape, int)) else shape)]
    except TypeError:
        kind = ValueError if np.iterable(shape) and any(isinstance(d, (list, tuple, TensorShape)) for d in shape) else TypeError
        raise kind(f"Padded shape {shape!r} must be a list of sizes, a TensorShape or a 1-D tensor of type tf.int64") from None
    if leaf.sizes is not None and len(leaf.sizes) != len(sizes):
        raise ValueError(f"The padded shape {shape} is not compatible with the corresponding input component shape {leaf.shape}.")
    for d, s in zip(sizes, leaf.sizes or ()):
        if not isinstance(d, Tensor) and 0 <= d and not isinstance(s, types.Dim) and d < s:
            raise ValueError(f"The padded shape {shape} is not compatible with the corresponding input component shape {leaf.shape}.")
    return sizes


def _size(d: Any) -> int:
    value = getattr(d, "value", d)
    return -1 if value is None else int(value)


def _padding(value: Any, leaf: Leaf) -> Any:
    if value is None:
        return np.array("" if leaf.dtype.kind == "s" else 0, leaf.dtype.np) if leaf.dtype.kind != "s" else np.array(b"", object)
    if isinstance(value, Tensor):
        if value.dtype is not leaf.dtype:
            raise TypeError(f"Padding value type ({value.dtype.name}) does not match {leaf.dtype.name} of the component")
        return _component(value)
    try:
        found = opdef.to_array(value, leaf.dtype)
    except TypeError as e:
        raise TypeError(f"Padding value {value!r} does not match the type {leaf.dtype.name} of its component: {e}") from None
    if found.ndim:
        raise ValueError(f"Padding value should be a scalar, but is {value!r}")
    return found


def _padded(made: Dataset, component: int, values: list[np.ndarray], sizes: list[int], pad: np.ndarray) -> np.ndarray:
    rank = len(sizes)
    for v in values:
        if v.ndim != rank:
            raise made._failed("All elements in a batch must have the same rank as the padded shape for component "
                               f"{component}: expected rank {rank} but got element with rank {v.ndim}")
    most = [max(v.shape[k] for v in values) for k in range(rank)]
    for k, (size, largest) in enumerate(zip(sizes, most)):
        if 0 <= size < largest:
            raise errors.raised_at(errors.DataLossError, made, "Attempted to pad to a smaller size than the input element: component "
                                   f"{component} has size {largest} along axis {k}, its padded shape {size}")
    out = np.empty((len(values), *[m if s < 0 else s for s, m in zip(sizes, most)]), values[0].dtype)
    out[...] = pad
    for i, v in enumerate(values):
        if rank:
            out[(i, *[slice(n) for n in v.shape])] = v  # type: ignore[index]
        else:
            out[i] = v[()]
    return out


def _generated(made: Dataset, generator: Callable[..., Any], leaves: list[Leaf], args: list[np.ndarray]) -> Stream:
    name = getattr(generator, "__name__", repr(generator))

    def failed(e: Exception) -> Exception:
        if isinstance(e, errors.OpError):
            return e
        return errors.raised_at(_error_for(e), made, f"{type(e).__name__}: {e} (in the generator {name!r})")

    def convert(value: Any) -> Any:
        try:
            flat = structure.flatten_up_to(made.element, value, "what the generator yields")
        except (TypeError, ValueError) as e:
            raise made._failed(f"{type(e).__name__}: `generator` yielded an element that did not match the expected structure. The "
                               f"expected structure was {made.output_types!r}, but the yielded element was {value!r}.") from e
        return tuple([_yielded(made, v, leaf) for v, leaf in zip(flat, leaves)])

    def make() -> Any:
        return generator(*[a[()] if a.ndim == 0 else np.array(a) for a in map(np.asarray, args)])

    return streams.Pulled(make, convert, failed)


def _yielded(made: Dataset, value: Any, leaf: Leaf) -> np.ndarray:
    try:
        array = np.array(opdef.to_array(value, leaf.dtype) if not isinstance(value, np.ndarray) or leaf.dtype.kind == "s"
                         else value.astype(leaf.dtype.np, casting="same_kind"))
    except (TypeError, ValueError) as e:
        raise made._failed("TypeError: `generator` yielded an element that could not be converted to the expected type. The expected "
                           f"type was {leaf.dtype.name}, but the yielded element was {value!r}. ({e})") from e
    array = structure.in_bytes(array) if array.dtype == object else array
    sizes = leaf.sizes
    if sizes is not None and (len(sizes) != array.ndim or any(not isinstance(s, types.Dim) and s != n for s, n in zip(sizes, array.shape))):
        raise made._failed(f"ValueError: `generator` yielded an element of shape {array.shape} where an element of shape {leaf.shape} was "
                           "expected.")
    return array
