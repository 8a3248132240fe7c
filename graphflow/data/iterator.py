"""Iterators: what a session keeps of a pass over a dataset, and the ops that start and read it.

A handle op stands for an iterator, of which each session has its own; its value as a tensor is its name, so that a string chooses
between iterators at run time.  `get_next` runs on the host, before the compiled rest of a step (rank 9).
"""
from __future__ import annotations

import warnings
from typing import Any, Callable, Sequence

import numpy as np

from .. import errors, graph, locks, types
from ..graph import Operation, Spec, Tensor
from ..ops import opdef
from ..ops.opdef import convert_to_tensor
from ..ops.resource import handle_op, resource_op
from ..proto import records
from ..runtime.executable import Executable
from . import streams, structure
from .dataset import Dataset, Run, _component, _declared
from .function import Function, is_outside
from .streams import End


class Kept:
    """An iterator in a session."""

    def __init__(self, handle: Operation):
        self.handle, self.element = handle, handle.attrs["element"]
        self.stream: streams.Stream | None = None
        self.lock = locks.rlock()
        self.closed = False

    def start(self, dataset: Dataset, run: Run) -> None:
        new = dataset.stream(run)
        with self.lock:
            old, self.stream = self.stream, new
            if self.element is None:
                self.element = dataset.element
        if old is not None:
            old.close()

    def next(self, access: Any) -> tuple[Any, ...]:
        with self.lock:
            if self.stream is None:
                self._first(access)
            try:
                with streams.waiting(access):
                    return self.stream.next()  # type: ignore[union-attr]
            except End:
                if self.closed:
                    raise errors.CancelledError(None, None, "the session has been closed") from None
                raise errors.OutOfRangeError(None, None, "End of sequence") from None

    def _first(self, access: Any) -> None:
        dataset = self.handle.attrs.get("dataset")
        if dataset is None:
            raise errors.FailedPreconditionError(None, None, "GetNext() failed because the iterator has not been initialized. Run the "
                                                 "initializer operation for this iterator in this session before getting the next element")
        tensors = dataset.tensors()
        values = Executable(self.handle.graph, tensors, [], [], access.store)(()) if tensors else []
        self.start(dataset, Run(dict(zip(tensors, map(np.asarray, values))), access.store))

    def close(self) -> None:
        self.closed = True
        if self.stream is not None:
            self.stream.close()


@handle_op("IteratorV2", Kept)
def iterator_handle(*, element, shared_name="", container=""):
    """An iterator that an op starts."""


@handle_op("OneShotIterator", Kept)
def one_shot_handle(*, element, dataset, shared_name="", container=""):
    """An iterator that starts when it is first read."""


def _kept(access: Any, op: Operation, handle: np.ndarray) -> Kept:
    """The iterator of that name.  Raises InvalidArgumentError when it is none."""
    name = handle.item()
    name = name.decode("utf-8", "replace") if isinstance(name, bytes) else str(name)
    found = op.graph._by_name.get(name)
    if found is None or found.opdef not in (iterator_handle, one_shot_handle):
        raise errors.InvalidArgumentError(None, None, f"the string handle {name!r} is not that of an iterator of this graph; get one with "
                                          "sess.run(iterator.string_handle())")
    return access.resource(found)


@resource_op("MakeIterator", lambda handle, *tensors, dataset: [])
def make_iterator(handle, *tensors, dataset):
    """Starts an iterator over `dataset`; `tensors` are the values it needs."""


@make_iterator.performs
def _(access, op, arrays):
    dataset = op.attrs["dataset"]
    _kept(access, op, arrays[0]).start(dataset, Run(dict(zip(dataset.tensors(), arrays[1:])), access.store))
    return []


@resource_op("IteratorGetNext", lambda handle, *, element: [Spec(d, s) for leaf in structure.flatten(element) for d, s in leaf.specs()])
def iterator_get_next(handle, *, element):
    """The next element, as a tensor for each dense component and three for a sparse one."""


@iterator_get_next.performs
def _(access, op, arrays):
    kept, element = _kept(access, op, arrays[0]), op.attrs["element"]
    if kept.element is not element and kept.element is not None:
        try:
            _fitting(element, kept.element, "the iterator's element")
        except (TypeError, ValueError) as e:
            raise errors.InvalidArgumentError(None, None, f"the iterator gives elements of other types than expected: {e}") from None
    found = kept.next(access)
    return [a for leaf, v in zip(structure.flatten(element), found) for a in leaf.arrays(v)]


@resource_op("IteratorToStringHandle", lambda handle: Spec(types.string, ()))
def string_handle_op(handle):
    """The name by which `from_string_handle` finds an iterator."""


string_handle_op.performs(lambda access, op, arrays: [np.array(arrays[0])])


class Iterator:
    """A position in a dataset.  Made by the `make_..._iterator` functions, or one of the `from_` methods."""

    MANY = 32  # calls of get_next after which one is warned

    def __init__(self, iterator_resource: Tensor, initializer: Any, output_types: Any, output_shapes: Any, output_classes: Any):
        self._resource, self._initializer = iterator_resource, initializer
        self._element = _element(output_types, output_shapes, output_classes)
        self._calls = 0
        self._string: Tensor | None = None

    @classmethod
    def _of(cls, resource: Tensor, element: Any, initializer: Any = None) -> Iterator:
        found = cls.__new__(cls)
        found._resource, found._initializer, found._element, found._calls, found._string = resource, initializer, element, 0, None
        return found

    @staticmethod
    def from_structure(output_types: Any, output_shapes: Any = None, shared_name: str | None = None,
                       output_classes: Any = None) -> Iterator:
        """An iterator that `make_initializer` starts over any dataset of this structure."""
        element = _element(output_types, output_shapes, output_classes)
        return Iterator._of(iterator_handle(element=element, shared_name=shared_name or ""), element)

    @staticmethod
    def from_string_handle(string_handle: Any, output_types: Any, output_shapes: Any = None, output_classes: Any = None) -> Iterator:
        """The iterator whose `string_handle()` has the value of this string scalar when a step runs.

        Raises:
            ValueError: it is no string.  InvalidArgumentError (at run time): no iterator of that name, or one of other types.
        """
        handle = convert_to_tensor(string_handle)
        if handle.dtype is not types.string:
            raise ValueError(f"string_handle must be a string tensor, got {handle.dtype.name}")
        return Iterator._of(handle, _element(output_types, output_shapes, output_classes))

    @property
    def initializer(self) -> Operation:
        """The op that starts it.  Raises ValueError for an iterator that has none."""
        if self._initializer is None:
            raise ValueError("Iterator does not have an initializer: it is a one-shot iterator, or one for make_initializer")
        return self._initializer

    def make_initializer(self, dataset: Dataset, name: str | None = None) -> Operation:
        """An op that starts it over `dataset`.  Raises ValueError for another structure, TypeError for other types or shapes."""
        _check(dataset)
        _fitting(self._element, dataset.element, "the dataset's element")
        return make_iterator(self._resource, *dataset.tensors(), dataset=dataset, name=name or "make_initializer")

    def get_next(self, name: str | None = None) -> Any:
        """The next element as tensors: one step takes one element for each call of this function in the program.

        Raises (at run time):
            OutOfRangeError: no more elements.  FailedPreconditionError: not started.  What the dataset's functions raise.
        """
        self._calls += 1
        if self._calls == self.MANY:
            warnings.warn("Iterator.get_next() has been called many times: each call adds ops to the graph. Call it once, outside of the "
                          "training loop, and run its result", stacklevel=2)
        leaves = structure.flatten(self._element)
        if any(leaf.is_dataset for leaf in leaves):
            raise TypeError("an element of this iterator is a dataset; take it apart with flat_map first")
        found = iterator_get_next(self._resource, element=self._element, name=name)
        tensors = iter(found if isinstance(found, list) else [found])
        return structure.pack(self._element, [leaf.of_tensors([next(tensors) for _ in leaf.specs()]) for leaf in leaves])

    def string_handle(self, name: str | None = None) -> Tensor:
        """A string scalar for `from_string_handle`."""
        if name is None and self._string is not None:
            return self._string
        found = string_handle_op(self._resource, name=name)
        self._string = self._string if name is not None else found
        return found

    output_types = property(lambda self: structure.map_leaves(lambda leaf: leaf.type, self._element))
    output_shapes = property(lambda self: structure.map_leaves(lambda leaf: leaf.shape, self._element))
    output_classes = property(lambda self: structure.map_leaves(lambda leaf: leaf.kind, self._element))
    element_spec = property(lambda self: self._element)


def _element(output_types: Any, output_shapes: Any, output_classes: Any) -> Any:
    leaves = _declared(output_types, output_shapes)
    if output_classes is not None:
        kinds = structure.flatten_up_to(output_types, output_classes, "output_classes")
        leaves = [structure.SparseLeaf(x.dtype, x.sizes) if k is structure.SparseTensor else x for x, k in zip(leaves, kinds)]
    return structure.pack(output_types, leaves)


def _check(dataset: Any) -> None:
    if not isinstance(dataset, Dataset):
        raise TypeError(f"a tf.data.Dataset is expected, got {dataset!r}")


def _fitting(element: Any, other: Any, what: str) -> None:
    for mine, its in structure.together(element, other, what):
        mine.merged(its)
        if not mine.shape.is_compatible_with(its.shape):
            raise TypeError(f"{what} must have shapes compatible with {mine.shape}, got {its.shape}")


# ---------------------------------------------------------------- making them


def make_initializable_iterator(dataset: Dataset, shared_name: str | None = None) -> Iterator:
    """An iterator over `dataset` that `sess.run(iterator.initializer)` starts, and starts anew.

    Tensors that the dataset is made of (placeholders too) get their values then.  `shared_name`: handles of this name are one iterator.
    """
    _check(dataset)
    handle = iterator_handle(element=dataset.element, shared_name=shared_name or "", name="Iterator")
    initializer = make_iterator(handle, *dataset.tensors(), dataset=dataset, name="MakeIterator")
    return Iterator._of(handle, dataset.element, initializer)


def make_one_shot_iterator(dataset: Dataset) -> Iterator:
    """An iterator that goes over `dataset` once, started by the first step that reads it.

    Raises:
        ValueError: the dataset needs a placeholder, variable, table or random number of the graph around.
    """
    _check(dataset)
    for op in graph.topological([t.op for d in dataset._every() for t in d.tensors() if t.op.graph is dataset.graph]):
        if op.opdef.family == "input" and op.opdef is not opdef.StandIn:
            raise _stateful(f"Cannot capture a placeholder (name:{op.name}, type:{op.type}) by value.")
        if op.opdef.effect or is_outside(op):
            raise _stateful(f"Cannot capture a stateful node (name:{op.name}, type:{op.type}) by value.")
    for f in (f for d in dataset._every() for f in d.functions):
        for t in f.outside:
            if is_outside(t.op):
                raise _stateful(f"Cannot capture a stateful node (name:{t.op.name}, type:{t.op.type}) by value.")
    return Iterator._of(one_shot_handle(element=dataset.element, dataset=dataset), dataset.element)


def _stateful(reason: str) -> ValueError:
    return ValueError("Failed to create a one-shot iterator for a dataset: it depends on something whose value is only known in a session. "
                      f"Use `Dataset.make_initializable_iterator()` and run its initializer. (Original error: {reason})")


def get_legacy_output_types(dataset_or_iterator: Any) -> Any:
    """Dtypes of the elements of a dataset or iterator, in their structure."""
    return dataset_or_iterator.output_types


def get_legacy_output_shapes(dataset_or_iterator: Any) -> Any:
    """Static shapes of the elements of a dataset or iterator, in their structure."""
    return dataset_or_iterator.output_shapes


def get_legacy_output_classes(dataset_or_iterator: Any) -> Any:
    """Classes of the components of a dataset or iterator, in their structure."""
    return dataset_or_iterator.output_classes


# ---------------------------------------------------------------- whole passes in one step


def folding(dataset: Dataset, initial_state: Any, f: Callable[..., Any], what: str) -> tuple[Any, list[Any], Function]:
    """(structure of the state, its initial values, the traced `f(state, element)`), with the shapes that a step keeps.

    `f` returns the state, or (what = "scan") a pair of the state and something else.  Raises TypeError where structure or dtype changes.
    """
    values = structure.map_leaves(_component, initial_state)
    flat = structure.flatten(values)
    from .dataset import _leaf

    state = structure.pack(values, [_leaf(v) for v in flat])
    while True:
        traced = Function(lambda s, x: f(s, x), (state, dataset.element), what)
        result = traced.result
        if what == "scan":
            if not isinstance(result, tuple) or len(result) != 2:
                raise TypeError(f"The scan function must return a pair of the new state and an output, got {result!r}")
            result = result[0]
        try:
            merged = [a.merged(b) for a, b in structure.together(state, result, "the new state")]
        except (TypeError, ValueError) as e:
            raise TypeError(f"The new state of {what} must have the structure and dtypes of the initial one, {state!r}, got {result!r}: {e}"
                            ) from None
        if merged == structure.flatten(state):
            return state, flat, traced
        state = structure.pack(state, merged)


@resource_op("ReduceDataset", lambda *tensors, state, **_: [Spec(d, s) for leaf in structure.flatten(state) for d, s in leaf.specs()])
def reduce_dataset(*tensors, state, initial, dataset, function):
    """The state after all elements."""


@reduce_dataset.performs
def _(access, op, arrays):
    a = op.attrs
    run = Run(dict(zip(a["dataset"].tensors(), arrays)), access.store)
    run.values.update(zip(op.inputs, arrays))
    state = tuple(run.value(v) for v in a["initial"])
    worker = a["function"].worker(run)
    s = a["dataset"].stream(run)
    try:
        with streams.waiting(access):
            for element in s:
                state = worker((*state, *element), run.bound)
    finally:
        s.close()
    return [x for leaf, v in zip(structure.flatten(a["state"]), state) for x in leaf.arrays(v)]


def reduced(dataset: Dataset, initial_state: Any, reduce_func: Callable[..., Any]) -> Any:
    """See `Dataset.reduce`."""
    state, initial, f = folding(dataset, initial_state, reduce_func, "reduce")
    needed = list(dict.fromkeys([*dataset.tensors(), *f.captured, *[v for v in initial if isinstance(v, Tensor)]]))
    return _outputs(reduce_dataset(*needed, state=state, initial=tuple(initial), dataset=dataset, function=f), state)


@resource_op("DatasetToSingleElement", lambda *tensors, dataset: [Spec(d, s) for leaf in structure.flatten(dataset.element)
                                                                  for d, s in leaf.specs()])
def single_element(*tensors, dataset):
    """The only element."""


@single_element.performs
def _(access, op, arrays):
    dataset = op.attrs["dataset"]
    s = dataset.stream(Run(dict(zip(dataset.tensors(), arrays)), access.store))
    try:
        found, _ended = streams.upto(streams.rowless(s), 2)
    finally:
        s.close()
    if len(found) != 1:
        raise errors.InvalidArgumentError(None, None, "Dataset was empty." if not found else "Dataset had more than one element.")
    return [a for leaf, v in zip(structure.flatten(dataset.element), found[0]) for a in leaf.arrays(v)]


def get_single_element(dataset: Dataset) -> Any:
    """The only element of `dataset` as tensors; InvalidArgumentError (at run time) when it has none or several."""
    _check(dataset)
    return _outputs(single_element(*dataset.tensors(), dataset=dataset), dataset.element)


@resource_op("DatasetToTFRecord", lambda filename, compression, *tensors, dataset: [])
def write_records(filename, compression, *tensors, dataset):
    """Writes the elements to a file of records."""


@write_records.performs
def _(access, op, arrays):
    dataset, (path, kind) = op.attrs["dataset"], [np.asarray(a, object).item() for a in arrays[:2]]
    kind = kind.decode() if isinstance(kind, bytes) else kind
    s = streams.rowless(dataset.stream(Run(dict(zip(dataset.tensors(), arrays[2:])), access.store)))
    try:
        with streams.waiting(access), records.RecordWriter(path, kind) as writer:
            for element, in s:
                writer.write(element.item())
    finally:
        s.close()
    return []


class TFRecordWriter:
    """Writes datasets of string scalars to a TFRecord file, compressed by "", "ZLIB" or "GZIP"."""

    def __init__(self, filename: Any, compression_type: Any = None):
        self._filename = convert_to_tensor(filename, types.string)
        self._compression = convert_to_tensor(compression_type or "", types.string)

    def write(self, dataset: Dataset) -> Operation:
        """The op that writes all elements.  Raises TypeError when they are no string scalars."""
        _check(dataset)
        leaf = dataset.element
        if type(leaf) is not structure.Leaf or leaf.dtype is not types.string or leaf.sizes not in ((), None):
            raise TypeError(f"`dataset` must be a dataset of scalar strings, got {leaf!r}")
        return write_records(self._filename, self._compression, *dataset.tensors(), dataset=dataset)


def _outputs(found: Any, element: Any) -> Any:
    tensors = iter(found if isinstance(found, Sequence) else [found])
    return structure.pack(element, [leaf.of_tensors([next(tensors) for _ in leaf.specs()]) for leaf in structure.flatten(element)])
