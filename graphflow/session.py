"""Sessions: feeds in, fetches out, and the variables in between.

Maps any nesting of fetches to tensors and back, checks feeds, keeps one executable per (fetches, fed tensors),
and owns the variable store.  Knows nothing of kernels: an executable is a callable from arrays to arrays (rank 5).
"""
from __future__ import annotations

import sys
import threading
import warnings
from typing import Any, Callable, Sequence

import numpy as np

from . import errors, graph, locks, types
from .config import DeviceAttributes, default
from .flags import flags
from .graph import Graph, Operation, Tensor
from .runtime import devices, placement
from .runtime.store import Store

GROWING = 5  # times that a line has added ops between runs when it is reported
_local = threading.local()
SERVERS: dict[str, Callable[[Graph], Store]] = {}  # by their targets: whose sessions share variables
# type -> (its component tensors, the value from their results), for things fetched as a whole.
_expansions: list[tuple[type, Callable[[Any], tuple[list[Any], Callable[[list[Any]], Any]]], Callable[..., Any] | None]] = []


def register_session_run_conversion_functions(tensor_type: type, fetch_function: Any, feed_function: Any = None,
                                              feed_function_for_partial_run: Any = None) -> None:
    """Lets `Session.run` fetch (and feed) objects of `tensor_type`: `fetch_function(x) -> (tensors, rebuild)`."""
    _expansions.insert(0, (tensor_type, fetch_function, feed_function))


def get_default_session() -> Any:
    """The innermost session of a `with`, or None."""
    stack = getattr(_local, "sessions", None)
    return stack[-1] if stack else None


def _default_for(element: Any, session: Any) -> Any:
    session = session or get_default_session()
    if session is None:
        raise ValueError("Cannot use the default session to evaluate: no session is registered. "
                         "Use `with sess.as_default()` or pass `session=sess`")
    return session


graph.OPERATORS["default_session"] = _default_for


# ---------------------------------------------------------------- fetches


class Fetches:
    """A nesting of fetches flattened to unique elements; `rebuild` puts results back into the nesting."""

    def __init__(self, g: Graph, fetches: Any):
        self.graph = g
        self.elements: list[Tensor | Operation] = []
        self._positions: dict[Any, int] = {}
        self._build = self._visit(fetches)
        self.single = isinstance(fetches, Tensor)
        self.tensors = [e for e in self.elements if isinstance(e, Tensor)]
        self.targets = [e for e in self.elements if isinstance(e, Operation)]
        order: dict[Any, int] = {e: i for i, e in enumerate(self.tensors)}
        self._slots = [order.get(e) for e in self.elements]

    def rebuild(self, results: Sequence[Any]) -> Any:
        return self._build([None if s is None else results[s] for s in self._slots])

    def _visit(self, fetch: Any) -> Callable[[list[Any]], Any]:
        if fetch is None:
            raise TypeError("Fetch argument None has invalid type <class 'NoneType'>")
        if isinstance(fetch, dict):
            parts = {k: self._visit(v) for k, v in fetch.items()}
            kind = type(fetch)
            return lambda r: kind((k, p(r)) for k, p in parts.items())
        if isinstance(fetch, (list, tuple)):
            items = [self._visit(f) for f in fetch]
            make: Any = type(fetch)._make if hasattr(fetch, "_make") else type(fetch)
            return lambda r: make([p(r) for p in items])
        if hasattr(type(fetch), "__attrs_attrs__"):
            names = [a.name for a in type(fetch).__attrs_attrs__]
            fields = [self._visit(getattr(fetch, n)) for n in names]
            return lambda r: type(fetch)(*[p(r) for p in fields])
        for kind, expand, _ in _expansions:
            if isinstance(fetch, kind):
                tensors, contract = expand(fetch)
                inner = [self._visit(t) for t in tensors]
                return lambda r: contract([p(r) for p in inner])
        return self._leaf(fetch)

    def _leaf(self, fetch: Any) -> Callable[[list[Any]], Any]:
        try:
            element = self.graph.as_graph_element(fetch)
        except TypeError as e:
            raise TypeError(f"Fetch argument {fetch!r} has invalid type {type(fetch)}, must be a string or Tensor. ({e})") from None
        except (ValueError, KeyError) as e:
            raise ValueError(f"Fetch argument {fetch!r} cannot be interpreted as a Tensor. ({e.args[0]})") from None
        op = element.op if isinstance(element, Tensor) else element
        if op in self.graph._unfetchable:
            raise ValueError(f"Operation {op.name!r} has been marked as not fetchable.")
        if op.region is not None:
            raise errors.InaccessibleTensorError(
                f"{element!r} cannot be fetched: it is inside {op.region.what} ({op.region.name!r}) and has a value only while that runs. "
                "Fetch what the control-flow op returns"
                + (", or keep the values in a tf.TensorArray" if op.region.what == "a while loop" else ""))
        i = self._positions.setdefault(element, len(self.elements))
        if i == len(self.elements):
            self.elements.append(element)
        return lambda r: r[i]


# ---------------------------------------------------------------- feeds


def flatten_feeds(g: Graph, feed_dict: Any) -> dict[Tensor, Any]:
    """`feed_dict` with keys resolved to tensors and nested keys taken apart.

    Raises:
        TypeError: a key is no tensor of this graph, or the argument is no dict.
    """
    if not feed_dict:
        return {}
    if not hasattr(feed_dict, "items"):
        raise TypeError(f"feed_dict must be a dict from tensors to values, got {type(feed_dict).__name__}")
    out: dict[Tensor, Any] = {}
    for key, value in feed_dict.items():
        if type(key) is Tensor and key.op.graph is g:
            out[key] = value
        else:
            _flatten_feed(g, key, value, out)
    for t in out:
        if t in g._unfeedable:
            raise ValueError(f"Tensor {t.name!r} may not be fed: graph.prevent_feeding was called for it" + _line(t))
        if t.op.region is not None:
            raise ValueError(f"Tensor {t.name!r} may not be fed: it is inside {t.op.region.what} ({t.op.region.name!r}). "
                             "Feed what that reads" + _line(t))
    return out


def _flatten_feed(g: Graph, key: Any, value: Any, out: dict[Tensor, Any]) -> None:
    if isinstance(key, (tuple, list)):
        if not isinstance(value, (tuple, list)) or len(value) != len(key):
            raise ValueError(f"feed_dict: the key {key!r} has {len(key)} parts, its value does not")
        for k, v in zip(key, value):
            _flatten_feed(g, k, v, out)
        return
    for kind, _, feed in _expansions:
        if feed is not None and isinstance(key, kind):
            for k, v in feed(key, value):
                _flatten_feed(g, k, v, out)
            return
    try:
        t = g.as_graph_element(key, allow_operation=False)
    except (TypeError, ValueError, KeyError) as e:
        raise TypeError(f"Cannot interpret feed_dict key as Tensor: {e.args[0]}") from None
    out[t] = value  # type: ignore[index]


def feed_array(t: Tensor, value: Any) -> np.ndarray:
    """The value as a C-contiguous array of the tensor's dtype, checked against its shape.

    Raises:
        ValueError: another shape; a ragged list; a lossy cast.  TypeError: a Tensor or something that is no array.
    """
    if type(value) is np.ndarray and value.dtype == t.dtype.np and t.dtype not in (types.bfloat16, types.string):
        array = value
    else:
        array = _convert_feed(t, value)
    sizes = t.sizes
    if sizes is not None and array.shape != sizes and not (
            len(sizes) == len(array.shape) and all(isinstance(s, types.Dim) or s == n for s, n in zip(sizes, array.shape))):
        raise ValueError(f"Cannot feed value of shape {array.shape} for Tensor '{t.name}', which has shape '{t.shape}'"
                         + _line(t))
    return array


def _line(t: Tensor) -> str:
    return f"\n  defined at {t.op.site}" if t.op.site else ""


def _convert_feed(t: Tensor, value: Any) -> np.ndarray:
    if isinstance(value, Tensor) or hasattr(value, "handle"):
        raise TypeError(f"The value of a feed cannot be a tf.Tensor object; for '{t.name}' got {value!r}. Acceptable feed values are "
                        "Python scalars, strings, lists and numpy arrays")
    dtype = t.dtype
    if hasattr(type(value), "__dlpack_device__") or hasattr(value, "__cuda_array_interface__"):
        found = _device_feed(t, value)
        if found is not None:
            return found
    if dtype.kind == "s":
        return types.as_strings(value, f"the feed of string Tensor '{t.name}'")
    try:
        array = np.asarray(value)
    except ValueError as e:
        raise ValueError(f"Cannot feed a ragged value for Tensor '{t.name}': {e}{_line(t)}") from None
    if array.dtype.kind in "SU":
        raise ValueError(f"could not convert string to {dtype.name}: feed of Tensor '{t.name}' is {value!r}{_line(t)}")
    if array.dtype.kind == "O":
        if value is not None or flags.strict_feeds:
            raise TypeError(f"Cannot feed an object of type {type(value).__name__} for Tensor '{t.name}' of dtype {dtype.name}{_line(t)}")
        array = np.asarray(np.nan)
    if flags.strict_feeds:
        _check_cast(t, array, isinstance(value, (bool, int, float, complex, list, tuple)))
    if dtype is types.bfloat16:
        return types.bf16_encode(array) if array.dtype != np.uint16 else array
    with np.errstate(all="ignore"):
        return array.astype(dtype.np, order="C", copy=False)


def _device_feed(t: Tensor, value: Any) -> Any:
    """A feed that lies on a GPU, as a DeviceArray; None for one of the host."""
    if not hasattr(value, "__cuda_array_interface__") and value.__dlpack_device__()[0] not in (2, 13):  # kDLCUDA, kDLCUDAManaged
        return None
    from .runtime.cuda.arrays import DeviceArray

    array = DeviceArray.of(value)
    if array.dtype is not t.dtype:
        raise TypeError(f"Cannot feed an array of dtype {array.dtype.name} on {getattr(array.device, 'name', 'the host')} for Tensor "
                        f"'{t.name}' of dtype {t.dtype.name}: convert it there{_line(t)}")
    return array


def _check_cast(t: Tensor, array: np.ndarray, python: bool) -> None:
    """Refuses casts that lose what the user wrote: fractions, high bits, imaginary parts."""
    have, want = array.dtype.kind, t.dtype
    problem = ""
    if want.kind in "iu" and have in "iub" and array.size:
        if array.dtype != want.np and not np.can_cast(array.dtype, want.np) and (array.min() < want.min or array.max() > want.max):
            message = (f"Value {array.reshape(-1)[:3]} is out of range for Tensor '{t.name}' of dtype {want.name}. "
                       f"Try explicitly setting the type of the feed tensor to a larger type{_line(t)}")
            raise TypeError(message) if python else ValueError(message)
    elif want.kind in "iu" and have == "f" and array.size and not (np.isfinite(array).all() and (array == np.trunc(array)).all()):
        problem = "fractions would be cut off"
    elif want.kind in "fiu" and have == "c" and array.size and np.any(array.imag):
        problem = "imaginary parts would be lost"
    elif want.kind == "b" and have in "fc":
        problem = "floats are not booleans"
    if problem:
        raise ValueError(f"Cannot feed {array.dtype} values for Tensor '{t.name}' of dtype {want.name}: {problem}. Convert with .astype "
                         "first, "
                         f"or set GRAPHFLOW_STRICT_FEEDS=0 for TF1's silent cast{_line(t)}")


# ---------------------------------------------------------------- sessions

Executable = Callable[..., list[Any]]


class BaseSession:
    """What Session and InteractiveSession share."""

    def __init__(self, target: str = "", graph: Graph | None = None, config: Any = None):
        from .graph import get_default_graph

        if not isinstance(target, (str, bytes)):
            raise TypeError(f"target must be a string, but got {target!r} of type {type(target).__name__}")
        if graph is not None and not isinstance(graph, Graph):
            raise TypeError(f"graph must be a tf.Graph, but got {graph!r} of type {type(graph).__name__}")
        if config is not None and not hasattr(config, "intra_op_parallelism_threads"):
            raise TypeError(f"config must be a tf.ConfigProto, but got {config!r} of type {type(config).__name__}")
        config = default() if config is None else config
        self._graph = get_default_graph() if graph is None else graph
        self._config, self._target = config, target
        place = target.decode() if isinstance(target, bytes) else target
        if place not in ("", "local", *SERVERS):
            raise errors.NotFoundError(None, None, f"No session factory registered for the given session options: {{target: {place!r}}}: "
                                       "a session runs in this process; the targets here are '', 'local' and those of its tf.train.Server")
        self._shared = place in SERVERS
        self.store = SERVERS[place](self._graph) if self._shared else Store()
        self._closed = False
        self._executables: dict[Any, Executable] = {}
        self._known: dict[Any, tuple[Fetches, list[Tensor], Executable]] = {}  # requests by their literal form
        self._lock = locks.rlock()
        self._warned: set[Tensor] = set()
        self._seen = -1  # ops of the graph at the last run; before the first one, building is no mistake
        self._adding: dict[Any, int] = {}  # lines that added ops between runs, and how often
        self.devices = devices.Devices(config)
        self._placement: placement.Placement | None = None
        self._placed: set[Operation] = set()
        if getattr(config, "log_device_placement", False):
            known = "".join(f"{d.name} -> {d.text}\n" for d in self.devices.gpus) or "no known devices.\n"
            print("Device mapping:" + (" " if known.startswith("no") else "\n") + known, end="", file=sys.stderr)

    @property
    def graph(self) -> Graph:
        return self._graph

    @property
    def graph_def(self) -> Any:
        return self._graph.as_graph_def()

    @property
    def sess_str(self) -> str:
        return self._target

    def run(self, fetches: Any, feed_dict: Any = None, options: Any = None, run_metadata: Any = None) -> Any:
        """Runs what `fetches` needs and returns their values in the same nesting.

        Args:
            fetches: a tensor, operation, variable or name, or any nesting of list, tuple, namedtuple, dict, attrs class.
            feed_dict: values for any tensors, by tensor or name; what lies above a fed tensor is not run.
            options, run_metadata: `tf.RunOptions` (timeouts, tracing) and a `tf.RunMetadata` to fill.

        Returns:
            Arrays the caller owns; NumPy scalars for rank 0; None for operations.

        Raises:
            RuntimeError: closed, or the graph is empty.  ValueError, TypeError: a bad fetch or feed.
            errors.OpError: an op failed; no variable has changed.
        """
        parsed, values, step = self._asked(fetches, feed_dict)
        if len(self._graph._ops) != self._seen:
            self._grown()
        results = step(values) if options is None and run_metadata is None else self._traced(step, values, options, run_metadata)
        return results[0] if parsed.single else parsed.rebuild(results)

    def _asked(self, fetches: Any, feed_dict: Any) -> tuple[Fetches, Any, Executable]:
        """A request, the values of its feeds in order, and what runs it."""
        try:  # the common request has been made before: same fetches, same keys
            known = self._known[_known_key(fetches, feed_dict)]
        except (KeyError, TypeError):
            known = None
        if known is None or self._closed:
            self._check_open()
            feeds = flatten_feeds(self._graph, feed_dict)
            known = self._prepare(fetches, list(feeds), {t for t in feed_dict or () if type(t) is Tensor})
            try:
                if all(type(k) is Tensor for k in feed_dict or ()):
                    self._known[_known_key(fetches, feed_dict)] = known
            except TypeError:
                pass
            values: Any = [feeds[t] for t in known[1]]
        else:
            values = feed_dict.values() if feed_dict else ()
        return known[0], values, known[2]

    def run_on_device(self, fetches: Any, feed_dict: Any = None) -> Any:
        """As `run`, but results stay on the GPU: arrays with `__dlpack__` and `__cuda_array_interface__`, for other programs to use.

        A result that a kernel makes is written where the caller keeps it; what the CPU makes, or a variable, is copied there.
        Feeds may lie on a GPU in `run` too.

        Returns:
            `graphflow.runtime.cuda.arrays.DeviceArray`s in the nesting of `fetches`; None for operations.

        Raises:
            errors.FailedPreconditionError: the session has no GPU; the message says why.  TypeError: strings.  Else as `run`.
        """
        from .runtime.cuda import device
        from .runtime.cuda.arrays import DeviceArray

        if not self.devices.gpus:
            raise errors.FailedPreconditionError(None, None, f"run_on_device needs a GPU: {self.devices.reason}")
        parsed, values, step = self._asked(fetches, feed_dict)
        results = step(values, stay=True) if getattr(step, "gpus", None) is not None else step(values)
        if not all(isinstance(r, DeviceArray) for r in results):
            gpu = device.devices(getattr(self._config, "gpu_options", None))[0]
            results = [r if isinstance(r, DeviceArray) else DeviceArray.put(gpu, r, t.dtype) for r, t in zip(results, parsed.tensors)]
        return parsed.rebuild(results)

    def _grown(self) -> None:
        """Reports, once, a line that adds ops between one run and the next again and again: TF1's classic mistake."""
        before, self._seen = self._seen, len(self._graph._ops)
        if before < 0:
            return
        for site in {op.site for op in self._graph._ops[before:]} - {None}:
            times = self._adding[site] = self._adding.get(site, 0) + 1
            if times == GROWING:
                warnings.warn_explicit(
                    f"ops were added to the graph between runs, {times} times by this line: {self._seen} now. "
                    f"Every run after such a line is prepared anew, and memory grows. Make the ops once, before the "
                    "loop, and run them again (feed what changes); tf.get_default_graph().finalize() turns the mistake into an error",
                    UserWarning, site.file, site.line)

    def _traced(self, step: Executable, values: Any, options: Any, run_metadata: Any) -> list[Any]:
        """A run with a time limit or a trace."""
        from .debug import timeline

        return timeline.traced(step, list(values), options, run_metadata)

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("Attempted to use a closed Session.")
        if not self._graph._ops:
            raise RuntimeError("The Session graph is empty. Add operations to the graph before calling run().")

    def _prepare(self, fetches: Any, fed: list[Tensor], named: Any = None) -> tuple[Fetches, list[Tensor], Executable]:
        parsed = Fetches(self._graph, fetches)
        key = (tuple(parsed.elements), tuple(fed), flags.optimize, flags.interpret, flags.isa)
        with self._lock:
            step = self._executables.get(key)
            if step is None:
                step = self._executables[key] = self._compile(parsed.tensors, parsed.targets, fed)
                self._warn_unused(parsed, fed, fed if named is None else named)
        return parsed, fed, step

    @property
    def placement(self) -> placement.Placement:
        """Where the ops of the graph run in this session."""
        if self._placement is None:
            soft = getattr(self._config, "allow_soft_placement", False)
            self._placement = placement.Placement(self._graph, self.devices, soft, cluster=self._shared)
        return self._placement

    def _place(self, ops: list[Operation], fed: list[Tensor]) -> None:
        """Refuses devices that cannot be had, as TF1's hard placement does; prints placements where the config asks for it."""
        ops = list(placement.with_regions(ops))
        self.placement.check(ops)
        if getattr(self._config, "log_device_placement", False):
            for op in [*[t.op for t in fed], *ops]:
                if op not in self._placed:
                    self._placed.add(op)
                    print(f"{op.name}: ({op.type}): {self.placement.of(op)}", file=sys.stderr)

    def _compile(self, tensors: list[Tensor], targets: list[Operation], fed: list[Tensor]) -> Executable:
        ops = graph.topological([*[t.op for t in tensors], *targets], set(fed))
        self._place(ops, fed)
        if any(op.opdef._performs or "regions" in op.attrs for op in ops):
            from .runtime import phases

            if any(phases.on_resources(op) for op in ops):
                return phases.Phases(tensors, targets, fed, self.store, self._config, self._native, feed_array)
        return self._native(tensors, targets, fed)

    def _native(self, tensors: list[Tensor], targets: list[Operation], fed: list[Tensor], done: Any = ()) -> Executable:
        """An executable of a request without ops on resources.  `done`: operations that have run before."""
        ops = graph.topological([*[t.op for t in tensors], *targets], {*fed, *done})
        if flags.interpret or any(op.type == "VariableV2" and op.attrs["dtype"].kind == "s" for op in ops):  # no kernel has strings
            from .runtime.reference import Reference

            reference = Reference(tensors, targets, fed, self.store, done)
            return lambda values, limit=None, timeline=None: [
                _own(r, t, fed) for r, t in zip(reference([feed_array(t, v) for t, v in zip(fed, values)], limit), tensors)]
        from .runtime.executable import Executable as Compiled

        return Compiled(self._graph, tensors, targets, fed, self.store, self._config, feed_array, done, self.placement)

    def _warn_unused(self, parsed: Fetches, fed: list[Tensor], named: Any) -> None:
        """Warns of tensors that were fed by themselves; the parts of a SparseTensor come together, needed or not."""
        if not fed:
            return
        used = set(parsed.tensors)
        for op in graph.topological([*[t.op for t in parsed.tensors], *parsed.targets], set(fed)):
            used.update(op.inputs)
        for t in fed:
            if t in named and t not in used and t not in self._warned:
                self._warned.add(t)
                warnings.warn(f"feed_dict: Tensor '{t.name}' is not used by these fetches", stacklevel=4)

    def make_callable(self, fetches: Any, feed_list: Any = None, accept_options: bool = False) -> Callable[..., Any]:
        """A function of the values of `feed_list`, in order, that runs `fetches` with little overhead."""
        self._check_open()
        order = [self._graph.as_graph_element(t, allow_operation=False) for t in feed_list or []]
        parsed, fed, step = self._prepare(fetches, order)  # type: ignore[arg-type]
        count, single = len(fed), parsed.single

        def call(*values: Any) -> Any:
            if len(values) != count:
                raise TypeError(f"this callable takes {count} feed value(s), {len(values)} were given")
            if self._closed:
                self._check_open()
            results = step(values)  # type: ignore[arg-type]
            return results[0] if single else parsed.rebuild(results)

        def traced(*values: Any, options: Any = None, run_metadata: Any = None) -> Any:
            if options is None and run_metadata is None:
                return call(*values)
            return parsed.rebuild(self._traced(step, values, options, run_metadata))

        return traced if accept_options else call

    def close(self) -> None:
        """Frees variables and resources; threads that wait for a queue get CancelledError, later runs raise RuntimeError."""
        self._closed = True
        for step in list(self._executables.values()):
            if hasattr(step, "close"):
                step.close()
        self._executables.clear()
        self._known.clear()
        if not self._shared:
            self.store.close()

    def as_default(self) -> _AsDefault:
        """A context in which this is the default session of `eval()` and `run()`; it is not closed at the end."""
        return _AsDefault(self)

    def list_devices(self) -> list[Any]:
        """The devices of this session, CPUs first: name, device_type, memory_limit_bytes, incarnation, physical_device_desc."""
        return device_attributes(self.devices)


def device_attributes(found: devices.Devices) -> list[Any]:
    """As TF1 describes devices."""
    return [DeviceAttributes(d.name, d.kind, d.limit, d.incarnation, d.text) for d in found.all]


def _known_key(fetches: Any, feed_dict: Any) -> Any:
    """A request as a dictionary key.  Raises TypeError when something in it cannot be hashed."""
    f = fetches if type(fetches) is Tensor else _fetch_key(fetches)
    return (f, *feed_dict, flags.optimize, flags.interpret, flags.isa) if feed_dict else (f, flags.optimize, flags.interpret, flags.isa)


def _fetch_key(fetches: Any) -> Any:
    if isinstance(fetches, (list, tuple)):
        return (type(fetches), *[_fetch_key(f) for f in fetches])
    if isinstance(fetches, dict):
        return (type(fetches), *[(k, _fetch_key(v)) for k, v in fetches.items()])
    hash(fetches)
    return fetches


def _own(value: np.ndarray, t: Tensor, feeds: Any) -> Any:
    """Computed scalars come back as NumPy scalars, as TF1 does; bfloat16 as the float32 it stands for."""
    if t.dtype is types.bfloat16:
        value = types.bf16_decode(value)
    return value[()] if value.ndim == 0 and t not in feeds else value


class _AsDefault:
    def __init__(self, session: Any):
        self.session = session

    def __enter__(self) -> Any:
        if not hasattr(_local, "sessions"):
            _local.sessions = []
        _local.sessions.append(self.session)
        return self.session

    def __exit__(self, *problem: Any) -> None:
        if _local.sessions[-1] is not self.session:
            raise AssertionError(f"Nesting violated for default session stack of {self.session}")
        _local.sessions.pop()


class Session(BaseSession):
    """`with tf.Session() as sess:` runs a graph; leaving the `with` closes it.

    Args:
        target: accepted; execution is in this process.
        graph: the graph to run; otherwise the default graph.
        config: a `tf.ConfigProto`.
    """

    def __enter__(self) -> Session:
        if getattr(self, "_entered", None):
            raise RuntimeError("Session context managers are not re-entrant. Use `Session.as_default()` if you want to enter a session "
                               "multiple times.")
        self._entered: list[Any] = [self._graph.as_default(), self.as_default()]
        for context in self._entered:
            context.__enter__()
        return self

    def __exit__(self, *problem: Any) -> None:
        for context in reversed(self._entered):
            context.__exit__(*problem)
        self._entered = []
        self.close()

    @staticmethod
    def reset(target: str, containers: Any = None, config: Any = None) -> None:
        """Accepted: nothing is shared between sessions here."""


class InteractiveSession(BaseSession):
    """A session that is the default one from its construction until `close()`."""

    def __init__(self, target: str = "", graph: Graph | None = None, config: Any = None):
        super().__init__(target, graph, config)
        self._installed = self.as_default()
        self._installed.__enter__()
        self._own_graph = None if graph is None else graph.as_default()
        if self._own_graph is not None:
            self._own_graph.__enter__()

    def close(self) -> None:
        if not self._closed:
            if self._own_graph is not None:
                self._own_graph.__exit__(None, None, None)
            if get_default_session() is self:
                self._installed.__exit__(None, None, None)
        super().close()
