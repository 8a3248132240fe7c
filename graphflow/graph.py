"""The graph: operations, tensors, names, scopes, collections, control edges.

Knows dtypes and shapes, and that an operation has a definition (`opdef`) that can infer its outputs; knows
no op by name, no kernel, no session (rank 1).  Operations are frozen; a graph only grows, until `finalize()`.
"""
from __future__ import annotations

import functools
import os
import re
import sys
import threading
from contextlib import contextmanager
from types import MappingProxyType
from typing import Any, Callable, Iterable, Iterator, NamedTuple, Sequence

import numpy as np

from . import errors, types
from .device_spec import DeviceSpec
from .types import DType, Shape, TensorShape

PACKAGE = os.path.dirname(os.path.abspath(__file__)) + os.sep
_NAME = re.compile(r"^[A-Za-z0-9.][A-Za-z0-9_.\\/>-]*$")
_SCOPE = re.compile(r"^[A-Za-z0-9_.\\/>-]*$")
# Python operators and methods on tensors: filled once by graphflow/ops/__init__.py, so that this module
# does not know any op.
OPERATORS: dict[str, Callable[..., Any]] = {}


class Site(NamedTuple):
    """The user's line that created an operation."""

    file: str
    line: int
    function: str

    def __str__(self) -> str:
        return f"{self.file}:{self.line}"


class Spec(NamedTuple):
    """What is known of a tensor before it runs: dtype, sizes, and (small integer tensors) its value."""

    dtype: DType
    sizes: Shape
    known: np.ndarray | None = None


_ours: dict[str, bool] = {}


def caller_site() -> Site | None:
    """The innermost frame outside this package."""
    frame = sys._getframe(2)
    while frame is not None:
        code = frame.f_code
        inside = _ours.get(code.co_filename)
        if inside is None:
            file = code.co_filename
            inside = _ours[file] = os.path.abspath(file).startswith(PACKAGE) or file.startswith("<frozen")
        if not inside:
            return Site(code.co_filename, frame.f_lineno, code.co_name)
        frame = frame.f_back  # type: ignore[assignment]
    return None


def counts_as(count: int) -> Callable[[Any], Any]:
    """Decorator of a function for which TF1 makes `count` operations (see `Graph.last_id`)."""
    def decorate(fn: Any) -> Any:
        @functools.wraps(fn)
        def counted(*args: Any, **kwargs: Any) -> Any:
            with get_default_graph().counted_as(count):
                return fn(*args, **kwargs)
        return counted
    return decorate


class Region:
    """Ops that run when, and as often as, the control-flow op says that owns them: a branch, or the body of a loop.

    They stand in the same graph as all others and read tensors of the regions around them directly.

    params: tensors given a value at each run of the region (loop variables).  results: what leaves it.
    bring: for a tensor of a region that is not around this one, what to read instead (how the backward pass of a loop reads
        what the loop computed); None refuses.
    """

    def __init__(self, graph: Graph, what: str, outer: Region | None, bring: Callable[[Tensor], Tensor] | None = None):
        self.graph, self.what, self.outer, self._bring = graph, what, outer, bring
        self.name = ""
        self.params: list[Tensor] = []
        self.results: list[Tensor] = []
        self.owner: Operation | None = None
        self.also: list[Tensor] = []  # what it computes besides: only asked for by ops that look into it
        self.twin: Any = None  # what made it as a copy of another region (see ops/checkpoint.py)
        self.reverses = False  # the body of a loop whose first variable counts another loop's iterations down to 0

    def __repr__(self) -> str:
        return f"<{self.what} of {self.name!r}>"

    def around(self, other: Region | None) -> bool:
        """Whether ops of `other` run inside this region."""
        while other is not None and other is not self:
            other = other.outer
        return other is self


def _brought(region: Region | None, t: Tensor) -> Tensor | None:
    home = t.op.region
    while home is not None and not home.around(region):
        at = region
        while at is not None and at._bring is None:
            at = at.outer
        if at is None:
            return None
        found = at._bring(t)  # type: ignore[misc]
        if found is t:
            region = at.outer
            continue
        t, home = found, found.op.region
    return t


def reachable(region: Region | None, t: Tensor, reader: str) -> Tensor:
    """The tensor by which an op of `region` reads `t`.  Raises InaccessibleTensorError for one of a region not around it."""
    found = _brought(region, t)
    if found is None:
        raise _inaccessible(t, reader)
    return found


def _inaccessible(t: Tensor, reader: str) -> ValueError:
    region = t.op.region
    assert region is not None
    return errors.InaccessibleTensorError(
        f"Cannot use {t.name!r} as input to {reader!r} because it is inside {region.what} ({region.name or 'being built'}): it has a value "
        "only while that runs. Return it from the function that makes it"
        + (", or keep the values of all iterations in a tf.TensorArray" if region.what == "a while loop" else "")
        + (f"\n  defined at {t.op.site}" if t.op.site else ""))


class Operation:
    """One node: a definition applied to input tensors, with static attributes.  Never changes."""

    __slots__ = ("graph", "id", "name", "opdef", "inputs", "control_inputs", "attrs", "outputs", "device", "site",
                 "origin", "region", "__weakref__")

    graph: Graph
    id: int
    name: str
    opdef: Any
    inputs: tuple[Tensor, ...]
    control_inputs: tuple[Operation, ...]
    attrs: dict[str, Any]
    outputs: tuple[Tensor, ...]
    device: str
    site: Site | None
    origin: tuple[str, ...]
    region: Region | None

    def __init__(self, graph: Graph, number: int, name: str, opdef: Any, inputs: tuple[Tensor, ...],
                 control_inputs: tuple[Operation, ...], attrs: dict[str, Any], specs: Sequence[Spec],
                 device: str = "", site: Site | None = None, origin: tuple[str, ...] = (), region: Region | None = None):
        put = object.__setattr__
        put(self, "graph", graph)
        put(self, "id", number)
        put(self, "name", name)
        put(self, "opdef", opdef)
        put(self, "inputs", inputs)
        put(self, "control_inputs", control_inputs)
        put(self, "attrs", attrs)
        put(self, "device", device)
        put(self, "site", site)
        put(self, "origin", origin)
        put(self, "region", region)
        put(self, "outputs", tuple([Tensor(self, i, s) for i, s in enumerate(specs)]))

    def __setattr__(self, name: str, value: Any) -> None:
        raise AttributeError(f"operation {self.name!r} is immutable; cannot set {name!r}")

    @property
    def type(self) -> str:
        return self.opdef.type

    @property
    def node_def(self) -> Any:
        """The op as a `tf.NodeDef`: name, op (its type), input, device, attr."""
        from . import graph_def

        return graph_def.node_of(self)

    @property
    def traceback(self) -> list[Site]:
        return [self.site] if self.site else []

    def get_attr(self, name: str) -> Any:
        """The attribute's value; raises ValueError naming those there are."""
        if name not in self.attrs:
            raise ValueError(f"Operation {self.name!r} has no attr named {name!r}; it has: {sorted(self.attrs)}.")
        return self.attrs[name]

    def values(self) -> tuple[Tensor, ...]:
        return self.outputs

    def run(self, feed_dict: Any = None, session: Any = None) -> None:
        """Runs this operation in `session`, or in the default session."""
        OPERATORS["default_session"](self, session).run(self, feed_dict)

    def colocation_groups(self) -> list[bytes]:
        """What this op was put beside by `colocate_with`, as b"loc:@name"; itself where nothing says so."""
        return [f"loc:@{other.name}".encode() for other in self.graph._colocated.get(self, (self,))]

    def __repr__(self) -> str:
        return f"<tf.Operation '{self.name}' type={self.type}>"


_UNARY = object()  # not None: x[None] adds an axis


def _operator(name: str, reverse: bool = False) -> Callable[..., Any]:
    def method(self: Any, other: Any = _UNARY) -> Any:
        if other is _UNARY:
            return OPERATORS[name](self)
        try:
            return OPERATORS[name](other, self) if reverse else OPERATORS[name](self, other)
        except TypeError:
            if hasattr(type(other), "__array_priority__") and not isinstance(other, (Tensor, np.ndarray, np.generic)):
                return NotImplemented
            raise
    return method


def _operators(name: str) -> tuple[Callable[..., Any], Callable[..., Any]]:
    """`a + b`, and what Python calls when only `b` knows how."""
    return _operator(name), _operator(name, reverse=True)


class Operators:
    """The Python operators of tensors and variables: each makes an op."""

    __array_priority__ = 100
    __slots__ = ()

    __add__, __radd__ = _operators("add")
    __sub__, __rsub__ = _operators("sub")
    __mul__, __rmul__ = _operators("mul")
    __truediv__, __rtruediv__ = _operators("truediv")
    __floordiv__, __rfloordiv__ = _operators("floordiv")
    __mod__, __rmod__ = _operators("mod")
    __pow__, __rpow__ = _operators("pow")
    __matmul__, __rmatmul__ = _operators("matmul")
    __and__, __rand__ = _operators("and")
    __or__, __ror__ = _operators("or")
    __xor__, __rxor__ = _operators("xor")
    __div__, __rdiv__ = _operators("div")
    __lt__ = _operator("lt")
    __le__ = _operator("le")
    __gt__ = _operator("gt")
    __ge__ = _operator("ge")
    __neg__ = _operator("neg")
    __abs__ = _operator("abs")
    __invert__ = _operator("invert")
    __getitem__ = _operator("getitem")

    def __iter__(self) -> Any:
        raise errors.OperatorNotAllowedInGraphError(
            f"iterating over tensor {getattr(self, 'name', self)!r} is not allowed while a graph is built; use tf.unstack or tf.map_fn")

    def __bool__(self) -> bool:
        raise errors.OperatorNotAllowedInGraphError(
            f"using tensor {getattr(self, 'name', self)!r} as a Python bool is not allowed: it has no value yet. "
            "Use `if t is not None:` to test for presence, tf.cond or tf.where to choose by value")

    __nonzero__ = __bool__

    def __len__(self) -> int:
        raise TypeError(f"len() of tensor {getattr(self, 'name', self)!r} is not defined; use t.shape[0] or tf.shape(t)[0]")

    def __array__(self, *_: Any, **__: Any) -> Any:
        raise NotImplementedError(
            f"Cannot convert the symbolic tensor {getattr(self, 'name', self)!r} to a NumPy array; fetch it with Session.run")

    def __array_ufunc__(self, ufunc: Any, method: str, *args: Any, **_: Any) -> Any:
        """Lets `ndarray + tensor` build an op rather than an array of objects."""
        name = {"add": "add", "subtract": "sub", "multiply": "mul", "divide": "truediv", "true_divide": "truediv",
                "floor_divide": "floordiv", "remainder": "mod", "power": "pow", "matmul": "matmul", "less": "lt",
                "less_equal": "le", "greater": "gt", "greater_equal": "ge"}.get(ufunc.__name__)
        if name is None or method != "__call__" or len(args) != 2:
            raise NotImplementedError(f"NumPy's {ufunc.__name__} cannot take a symbolic tensor; use the tf function")
        return OPERATORS[name](*args)


class Tensor(Operators):
    """A value that will exist when the graph runs: output `index` of `op`."""

    OVERLOADABLE_OPERATORS = frozenset(f"__{name}__" for name in (
        "add radd sub rsub mul rmul div rdiv truediv rtruediv floordiv rfloordiv mod rmod lt le gt ge and rand or ror xor rxor getitem pow "
        "rpow invert neg abs matmul rmatmul").split())

    __slots__ = ("op", "value_index", "dtype", "sizes", "known", "__weakref__")

    def __init__(self, op: Operation, index: int, spec: Spec):
        self.op, self.value_index = op, index
        self.dtype, self.sizes, self.known = spec

    @property
    def graph(self) -> Graph:
        return self.op.graph

    @property
    def name(self) -> str:
        return f"{self.op.name}:{self.value_index}"

    @property
    def device(self) -> str:
        return self.op.device

    @property
    def shape(self) -> TensorShape:
        """The static shape, with unknown sizes as `Dimension(None)`."""
        return types._shape(self.sizes)

    def get_shape(self) -> TensorShape:
        return self.shape

    def set_shape(self, shape: Any) -> None:
        """Adds what the program knows of the shape.  Raises ValueError when it contradicts what is known."""
        try:
            self.sizes = types.merge_shapes(self.sizes, types.as_shape(shape))
        except ValueError as e:
            raise ValueError(errors.at(self.op, f"set_shape: {e}")) from None
        self.graph._version += 1

    def consumers(self) -> list[Operation]:
        return self.graph._consumers_of(self)

    def eval(self, feed_dict: Any = None, session: Any = None) -> Any:
        """This tensor's value, run in `session` or in the default session."""
        return OPERATORS["default_session"](self, session).run(self, feed_dict)

    def __repr__(self) -> str:
        return f"<tf.Tensor '{self.name}' shape={self.shape} dtype={self.dtype.name}>"

    def __str__(self) -> str:
        return f'Tensor("{self.name}", shape={self.shape}, dtype={self.dtype.name})'

    def __hash__(self) -> int:
        return id(self)

    def __eq__(self, other: object) -> bool:
        return self is other

    # identity, as in TF1
    def __ne__(self, other: object) -> bool:
        return self is not other


class GraphKeys:
    """Names of the standard collections."""

    GLOBAL_VARIABLES = "variables"
    LOCAL_VARIABLES = "local_variables"
    METRIC_VARIABLES = "metric_variables"
    MODEL_VARIABLES = "model_variables"
    TRAINABLE_VARIABLES = "trainable_variables"
    MOVING_AVERAGE_VARIABLES = "moving_average_variables"
    CONCATENATED_VARIABLES = "concatenated_variables"
    SUMMARIES = "summaries"
    QUEUE_RUNNERS = "queue_runners"
    TABLE_INITIALIZERS = "table_initializer"
    ASSET_FILEPATHS = "asset_filepaths"
    REGULARIZATION_LOSSES = "regularization_losses"
    ACTIVATIONS = "activations"
    WEIGHTS = "weights"
    BIASES = "biases"
    UPDATE_OPS = "update_ops"
    LOSSES = "losses"
    SAVERS = "savers"
    SAVEABLE_OBJECTS = "saveable_objects"
    RESOURCES = "resources"
    LOCAL_RESOURCES = "local_resources"
    INIT_OP = "init_op"
    LOCAL_INIT_OP = "local_init_op"
    READY_OP = "ready_op"
    READY_FOR_LOCAL_INIT_OP = "ready_for_local_init_op"
    SUMMARY_OP = "summary_op"
    GLOBAL_STEP = "global_step"
    TRAINABLE_RESOURCE_VARIABLES = "trainable_resource_variables"
    EVAL_STEP = "eval_step"
    TRAIN_OP = "train_op"
    COND_CONTEXT = "cond_context"
    WHILE_CONTEXT = "while_context"
    VARIABLES = "variables"


class Graph:
    """Operations by name, and the building context: scopes, control edges, devices, collections."""

    _first = 0  # number of the first operation

    def __init__(self) -> None:
        self._ops: list[Operation] = []
        self._by_name: dict[str, Operation] = {}
        self._used: dict[str, int] = {}
        self._collections: dict[Any, list[Any]] = {}
        self._local = threading.local()
        self._version = 0
        self._finalized = False
        self._uncounted = 0  # operations here that TF1 does not make, less those that only TF1 makes
        self._consumer_cache: tuple[int, dict[Tensor, list[Operation]]] = (-1, {})
        self.seed: int | None = None
        self._unfeedable: set[Tensor] = set()
        self._unfetchable: set[Operation] = set()
        # Latest read of each variable, so that reads between two writes share one op (see ops/state.py).
        self._reads: dict[Operation, Tensor] = {}
        self._reads_of: dict[Region | None, dict[Operation, Tensor]] = {None: self._reads}  # in each branch or loop body
        self._checkpointed: set[Operation] = set()  # loops whose backward pass keeps little and computes more
        self._saved: dict[Tensor, Tensor] = {}  # what backward passes keep of loops and branches (see ops/control.py)
        self._gradient_overrides: list[dict[str, str]] = []
        self._colocated: dict[Operation, tuple[Operation, ...]] = {}  # ops made under `colocate_with`, and what they stand with
        self._overridden: dict[Operation, str] = {}  # operations made under a `gradient_override_map`, with the name given there

    # -- adding operations

    def create_op(self, opdef: Any, inputs: Sequence[Tensor], attrs: dict[str, Any], name: str | None = None) -> Operation:
        """Appends one operation; dtypes and shapes are inferred now.

        Raises:
            RuntimeError: the graph is finalized.  ValueError, TypeError: the inputs do not fit; says op and line.
        """
        if self._finalized:
            raise RuntimeError(f"Graph is finalized and cannot be modified; cannot add {name or opdef.type!r}.")
        if any(t.op.graph is not self for t in inputs):
            inputs = [t if t.op.graph is self else self._adopt(t, opdef) for t in inputs]
        scope = self._state
        region = scope.region
        if any(t.op.region is not region for t in inputs):
            inputs = [t if t.op.region is region else reachable(region, t, (name or opdef.type).rstrip("/")) for t in inputs]
        full = name[:-1] if name and name.endswith("/") else self.unique_name(name or opdef.default_name)
        if full in self._by_name:  # a scope's name used twice for its result
            with self.name_scope(None):
                full = self.unique_name(full)
        site = caller_site()
        try:
            specs = opdef.infer(inputs, attrs)
        except (ValueError, TypeError) as e:
            e.args = (f"{e} for '{full}' (op: '{opdef.type}')" + _shapes_note(inputs) + (f"\n  at {site}" if site else ""),)
            raise
        device = scope.device_for(self, full, opdef, inputs) if scope.devices else ""
        op = Operation(self, self._first + len(self._ops), full, opdef, tuple(inputs), scope.control, attrs, specs, device, site, (),
                       region)
        self._ops.append(op)
        self._uncounted -= opdef.constants
        self._by_name[full] = op
        for mapping in self._gradient_overrides:  # the innermost wins
            if opdef.type in mapping:
                self._overridden[op] = mapping[opdef.type]
        if scope.colocated:
            self._colocated[op] = scope.colocated
        self._version += 1
        return op

    def _adopt(self, t: Tensor, opdef: Any) -> Tensor:
        """The tensor by which an op of this graph reads one of another; here it cannot."""
        raise ValueError(f"Tensor {t.name!r} must be from the same graph as the other inputs of {opdef.type!r}")

    @property
    def _state(self) -> _Scopes:
        try:
            return self._local.scopes
        except AttributeError:
            self._local.scopes = _Scopes()
            return self._local.scopes

    def unique_name(self, name: str, mark_as_used: bool = True) -> str:
        """`name` under the current scope, with `_1`, `_2`... when taken (compared without case, as TF1 does)."""
        scope = self._state.name
        if not (_SCOPE if scope else _NAME).match(name):
            raise ValueError(f"'{name}' is not a valid name for an op or scope: expected {(_SCOPE if scope else _NAME).pattern}")
        full = scope + name
        key = full.lower()
        taken = self._used.get(key, 0)
        if taken:
            while f"{key}_{taken}" in self._used:
                taken += 1
            if mark_as_used:
                self._used[key] = taken + 1
            full = f"{full}_{taken}"
            key = full.lower()
        if mark_as_used:
            self._used[key] = 1
        return full

    # -- contexts

    @contextmanager
    def as_default(self) -> Iterator[Graph]:
        _defaults().append(self)
        try:
            yield self
        finally:
            if _defaults()[-1] is not self:
                raise AssertionError(f"Nesting violated for default graph stack of {self}")
            _defaults().pop()

    @contextmanager
    def name_scope(self, name: str | None) -> Iterator[str]:
        """Prefixes names inside with `name/`, made unique; `"s/"` re-enters `s`; None or "" is the root."""
        state = self._state
        before = state.name
        if not name:
            state.name = ""
        else:
            state.name = name if name.endswith("/") else self.unique_name(name) + "/"
        try:
            yield state.name
        finally:
            state.name = before

    def get_name_scope(self) -> str:
        return self._state.name.rstrip("/")

    @contextmanager
    def control_dependencies(self, control_inputs: Iterable[Any] | None) -> Iterator[None]:
        """Ops made inside run after `control_inputs`; None clears those around."""
        state = self._state
        before = state.control
        if control_inputs is None:
            state.control = ()
        else:
            wanted = [self.as_graph_element(c) for c in control_inputs]
            new = [c.op if isinstance(c, Tensor) else c for c in wanted]
            for c in new:
                if c.region is not None and not c.region.around(state.region):
                    raise errors.InaccessibleTensorError(
                        f"Cannot depend on {c.name!r} because it is inside {c.region.what} ({c.region.name!r}): it runs only when that "
                        "does. "
                        "Make it a dependency of what the function returns: with tf.control_dependencies([...]) inside it"
                        + (f"\n  defined at {c.site}" if c.site else ""))
            new = [c for c in new if c.region is state.region]  # what stands outside has run before this region does
            state.control = tuple(dict.fromkeys((*before, *new)))
        try:
            yield
        finally:
            state.control = before

    @contextmanager
    def inside(self, region: Region | None) -> Iterator[Region | None]:
        """Ops made inside belong to `region`; None stands for no branch or loop at all."""
        state = self._state
        before = state.region, state.control, self._reads
        state.region, state.control = region, ()
        self._reads = self._reads_of.setdefault(region, {})
        try:
            yield region
        finally:
            state.region, state.control, self._reads = before

    @contextmanager
    def device(self, name_or_function: Any) -> Iterator[None]:
        """Keeps the device string (or the answer of a function of the op) on ops made inside."""
        if isinstance(name_or_function, DeviceSpec):
            name_or_function = name_or_function.to_string()
        if isinstance(name_or_function, str):
            DeviceSpec.from_string(name_or_function)
        state = self._state
        state.devices.append(name_or_function)
        try:
            yield
        finally:
            state.devices.pop()

    @contextmanager
    def colocate_with(self, op: Any, ignore_existing: bool = False) -> Iterator[None]:
        """Ops made inside have the device of `op` (an operation or tensor) and run where it runs; None says nothing.

        ignore_existing: instead of being with what other `colocate_with` around say.
        """
        other = getattr(op, "op", op)  # of a tensor, variable or IndexedSlices
        if other is not None and not isinstance(other, Operation):
            other = self.as_graph_element(other, allow_tensor=False)
        state = self._state
        before = state.colocated, state.devices
        around = () if ignore_existing else state.colocated
        state.colocated = around if other is None else tuple(dict.fromkeys((*around, *self._colocated.get(other, ()), other)))
        if other is not None:
            state.devices = [other.device] if other.device else []
        try:
            yield
        finally:
            state.colocated, state.devices = before

    @contextmanager
    def beside(self, op: Operation) -> Iterator[None]:
        """Ops made inside have the device of `op`, whatever `tf.device` around says."""
        state = self._state
        before, state.devices = state.devices, [op.device] if op.device else []
        try:
            yield
        finally:
            state.devices = before

    @contextmanager
    def gradient_override_map(self, mapping: dict[str, str]) -> Iterator[None]:
        """Inside, ops of type `k` take the gradient registered as `mapping[k]`."""
        self._gradient_overrides.append(mapping)
        try:
            yield
        finally:
            self._gradient_overrides.pop()

    @contextmanager
    def container(self, name: str) -> Iterator[str]:
        yield name

    # -- looking up

    def get_operations(self) -> list[Operation]:
        return list(self._ops)

    def get_operation_by_name(self, name: str) -> Operation:
        """Raises KeyError (unknown, with the nearest name) or TypeError (not a string)."""
        if not isinstance(name, str):
            raise TypeError(f"Operation names are strings, not {name!r}.")
        return self._find(name, name)

    def get_tensor_by_name(self, name: str) -> Tensor:
        """The tensor `op:index`.  Raises KeyError (unknown), ValueError (not of that form), TypeError (no string)."""
        if not isinstance(name, str):
            raise TypeError(f"Tensor names are strings, not {name!r}.")
        base, colon, index = name.rpartition(":")
        if not colon or not index.isdigit():
            hint = f" Did you mean '{name}:0'?" if name in self._by_name else ""
            raise ValueError(f"The name {name!r} looks like an operation name, not a tensor name 'op:index'.{hint}")
        op = self._find(base, name)
        if int(index) >= len(op.outputs):
            raise KeyError(f"The name {name!r} refers to a tensor that does not exist: operation {base!r} has {len(op.outputs)} output(s).")
        return op.outputs[int(index)]

    def _find(self, base: str, name: str) -> Operation:
        if base not in self._by_name:
            raise KeyError(f"The name {name!r} refers to an operation not in the graph.{errors.suggest(base, self._by_name)}")
        return self._by_name[base]

    def as_graph_element(self, obj: Any, allow_tensor: bool = True, allow_operation: bool = True) -> Tensor | Operation:
        """The tensor or operation meant by an object or a name.

        Raises:
            ValueError: of another graph or of a form not allowed.  KeyError: unknown name.  TypeError: no element.
        """
        convert = getattr(obj, "_as_graph_element", None)
        obj = obj if convert is None else convert()
        if isinstance(obj, str):
            obj = self.get_tensor_by_name(obj) if ":" in obj and allow_tensor else self.get_operation_by_name(obj)
        if not isinstance(obj, (Tensor, Operation)):
            raise TypeError(f"Can not convert a {type(obj).__name__} into a Tensor or Operation.")
        if obj.graph is not self:
            raise ValueError(f"{obj!r} is not an element of this graph.")
        if isinstance(obj, Operation) and not allow_operation or isinstance(obj, Tensor) and not allow_tensor:
            raise ValueError(f"{obj!r} must be {'a Tensor' if allow_tensor else 'an Operation'}")
        return obj

    def is_feedable(self, tensor: Any) -> bool:
        return tensor not in self._unfeedable and getattr(tensor, "op", tensor).region is None

    def is_fetchable(self, tensor_or_op: Any) -> bool:
        """Whether it stands outside of all branches and loops, and `prevent_fetching` was not called for its op."""
        op = getattr(tensor_or_op, "op", tensor_or_op)
        return op not in self._unfetchable and op.region is None

    def prevent_feeding(self, tensor: Tensor) -> None:
        """From now on feeding `tensor` is a ValueError."""
        self._unfeedable.add(tensor)

    def prevent_fetching(self, op: Operation) -> None:
        """From now on fetching `op` or its outputs is a ValueError."""
        self._unfetchable.add(op)

    def switch_to_thread_local(self) -> None:
        """Accepted: scopes, devices and control dependencies always belong to the thread that entered them."""

    def _consumers_of(self, tensor: Tensor) -> list[Operation]:
        if self._consumer_cache[0] != self._version:
            found: dict[Tensor, list[Operation]] = {}
            for op in self._ops:
                for t in dict.fromkeys(op.inputs):
                    found.setdefault(t, []).append(op)
            self._consumer_cache = (self._version, found)
        return list(self._consumer_cache[1].get(tensor, ()))

    # -- collections

    def add_to_collection(self, name: Any, value: Any) -> None:
        self._collections.setdefault(name, []).append(value)

    def add_to_collections(self, names: Any, value: Any) -> None:
        for name in dict.fromkeys([names] if isinstance(names, str) else names):
            self.add_to_collection(name, value)

    def get_collection(self, name: Any, scope: str | None = None) -> list[Any]:
        """A copy of the collection; with `scope`, only items whose name matches that regular expression."""
        items = self._collections.get(name, [])
        if scope is None:
            return list(items)
        pattern = re.compile(scope)
        return [x for x in items if hasattr(x, "name") and pattern.match(x.name)]

    def get_collection_ref(self, name: Any) -> list[Any]:
        return self._collections.setdefault(name, [])

    def get_all_collection_keys(self) -> list[Any]:
        return [k for k in self._collections if isinstance(k, str)]

    def clear_collection(self, name: Any) -> None:
        self._collections.pop(name, None)

    # -- life

    @property
    def last_id(self) -> int:
        """How many operations TF1 would have made so far: its seed for an op without one."""
        return len(self._ops) - self._uncounted

    @contextmanager
    def counted_as(self, count: int) -> Iterator[None]:
        """Whatever is made inside, TF1 makes `count` operations for it."""
        before = self.last_id
        try:
            yield
        finally:
            self._uncounted = len(self._ops) - before - count

    @property
    def version(self) -> int:
        return self._version

    @property
    def finalized(self) -> bool:
        return self._finalized

    def finalize(self) -> None:
        """From now on adding an operation raises RuntimeError."""
        self._finalized = True

    def _unsafe_unfinalize(self) -> None:
        self._finalized = False

    @property
    def collections(self) -> list[Any]:
        return list(self._collections)

    building_function = False

    # -- looking at it (graphflow/debug/draw.py draws)

    def to_dot(self) -> str:
        """The graph in Graphviz's DOT: clusters by scope, shapes on the edges, control edges dashed."""
        from .debug import draw

        return draw.to_dot(self._ops)

    def to_networkx(self) -> Any:
        """A `networkx.MultiDiGraph` whose nodes are op names and whose edges carry tensor, dtype and shape."""
        from .debug import draw

        return draw.to_networkx(self._ops)

    def to_text(self) -> str:
        """One line an op: outputs with dtype and shape, type, inputs, attributes, the user's line."""
        from .debug import draw

        return draw.to_text(self._ops)

    def to_svg(self) -> str:
        """The picture as one SVG element: data flows downwards, control edges dashed, details in tooltips."""
        from .debug import draw

        return draw.to_svg(self._ops)

    def to_html(self, title: str = "graph") -> str:
        """The picture as a page of its own, which zooms, drags, finds and shows an op's details."""
        from .debug import draw

        return draw.to_html(self._ops, title)

    def as_graph_def(self, from_version: int | None = None, add_shapes: bool = False) -> Any:
        """The graph as JSON-able data, which `tf.import_graph_def` reads back."""
        from . import graph_def

        return graph_def.export(self)


class _Scopes:
    """The building context of one thread."""

    def __init__(self) -> None:
        self.name = ""
        self.control: tuple[Operation, ...] = ()
        self.devices: list[Any] = []
        self.colocated: tuple[Operation, ...] = ()
        self.region: Region | None = None
        self.variable_scope: Any = None

    def device_for(self, g: Graph, name: str, opdef: Any, inputs: Sequence[Tensor]) -> str:
        found = ""
        for d in self.devices:
            if callable(d):  # it may look at name, type and node_def of an op that has no device yet
                d = d(Operation(g, -1, name, opdef, tuple(inputs), (), {}, (), found)) or ""
            found = "" if d is None else _merge_devices(found, d)
        return found


def _merge_devices(outer: str, inner: str) -> str:
    """Parts named by the inner string win over those of the outer one."""
    return DeviceSpec.from_string(outer).make_merged_spec(DeviceSpec.from_string(inner)).to_string()


def _shapes_note(inputs: Sequence[Tensor]) -> str:
    return " with input shapes: " + ", ".join(types.shape_text(t.sizes) for t in inputs) + "." if inputs else ""


# -- the default graph, one stack a thread

_stack = threading.local()
_global_default: list[Graph] = []


def _defaults() -> list[Graph]:
    if not hasattr(_stack, "graphs"):
        _stack.graphs = []
    return _stack.graphs


def get_default_graph() -> Graph:
    """The innermost graph of `Graph.as_default()`, else the process-wide default."""
    stack = getattr(_stack, "graphs", None)
    if stack:
        return stack[-1]
    if not _global_default:
        _global_default.append(Graph())
    return _global_default[0]


def reset_default_graph() -> None:
    """Replaces the process-wide default graph.  Raises AssertionError inside `Graph.as_default()`."""
    if _defaults():
        raise AssertionError("Do not use tf.reset_default_graph() to clear nested graphs; leave the `with` block first.")
    _global_default[:] = [Graph()]


def topological(targets: Iterable[Operation], stop: Any = ()) -> list[Operation]:
    """Operations needed by `targets`, inputs before users, in creation order; those in `stop` are not entered.

    `stop` holds tensors (fed ones): their producers are left out unless needed otherwise; and operations that have run already.
    """
    seen: set[Operation] = set()
    todo = list(targets)
    while todo:
        op = todo.pop()
        if op in seen:
            continue
        seen.add(op)
        todo.extend(t.op for t in op.inputs if t not in stop)
        todo.extend([c for c in op.control_inputs if c not in stop])
    return sorted(seen, key=lambda op: op.id)


ReadOnly = MappingProxyType
