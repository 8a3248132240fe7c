"""Functions of dataset elements: traced once into a graph of their own, compiled, and called for each element.

A function graph reads constants, variables and tables of the graphs around it; any other outer tensor becomes a capture, a value
computed when an iterator starts.  Calls keep no state: a random op draws by the number of the element, so that threads and
restarts change nothing (rank 9).
"""
from __future__ import annotations

from typing import Any, Callable, Sequence

import numpy as np

from .. import graph, locks, random_ops, types
from ..flags import flags
from ..graph import Graph, Operation, Spec, Tensor
from ..ops import array as array_ops
from ..ops import control, opdef, state
from ..runtime import phases
from ..runtime.executable import Executable
from ..runtime.reference import Reference, evaluate
from ..runtime.store import Store
from . import structure


LIGHT = ("host", "movement", "elementwise", "constant", "input")


class FunctionGraph(opdef.Scratch):
    """The graph of a function: has names of its own, and takes tensors of the graphs around it as captures."""

    def __init__(self, outer: Graph, name: str):
        super().__init__()
        self.outer, self.captures = outer, {}  # type: ignore[var-annotated]
        self._first = outer._first + (1 << 40)  # what stands outside has been made before
        self._collections = outer._collections
        self.seed = None if outer.seed is None else random_ops._digest(outer.seed, name)

    create_op = Graph.create_op
    unique_name = Graph.unique_name

    def _adopt(self, t: Tensor, opdef_: Any) -> Tensor:
        if is_outside(t.op):
            return t
        home = t.op.graph
        if home is not self.outer:
            if not isinstance(self.outer, FunctionGraph):
                raise ValueError(f"Tensor {t.name!r} must be from the same graph as the dataset whose function reads it")
            t = self.outer._adopt(t, opdef_)
        return self.capture(t)

    def capture(self, t: Tensor) -> Tensor:
        """The tensor of this graph that stands for `t` of the graph around."""
        found = self.captures.get(t)
        if found is None:
            with self.inside(None), self.name_scope(None), self.control_dependencies(None):
                if t.op.opdef is opdef.Const:
                    return self.create_op(opdef.Const, (), t.op.attrs, t.op.name.replace("/", "_")).outputs[0]
                found = self.captures[t] = self.param(t.dtype, t.sizes, "capture_" + t.op.name.replace("/", "_"))
        return found

    def param(self, dtype: types.DType, sizes: types.Shape, name: str) -> Tensor:
        return self.create_op(opdef.StandIn, (), {"spec": Spec(dtype, sizes)}, name).outputs[0]


class Function:
    """`f` traced on elements of the structure `spec`.

    Attributes:
        result: structure of the result; leaves are `structure.Leaf`.
        captured: tensors of the graph around, whose values a call is given.
    """

    def __init__(self, f: Callable[..., Any], spec: Any, name: str, unpack: bool = True):
        if not callable(f):
            raise TypeError(f"{name} must be a function, got {f!r}")
        self.name = getattr(f, "__name__", name)
        outer = graph.get_default_graph()
        self.graph = g = FunctionGraph(outer, outer.unique_name(name, mark_as_used=True))
        self.spec = structure.flatten(spec)
        self.params: list[Tensor] = []
        self.inner: list[Any] = []  # for each leaf that is a dataset, what stands for it
        with g.as_default():
            arguments = structure.pack(spec, [self._argument(i, leaf) for i, leaf in enumerate(self.spec)])
            found = f(*arguments) if unpack and type(arguments) is tuple else f(arguments)
            found = tuple(found) if type(found) is list else found
            self._returned = found
            self.flat = [self._result(v) for v in structure.flatten(found)]
        self.result = structure.pack(found, [self._leaf(v) for v in self.flat])
        self.leaves = structure.flatten(self.result)
        self.tensors = [t for v in self.flat for t in self._needed(v)]
        self._split()
        self._compiled: dict[Any, Any] = {}
        self._lock = locks.rlock()

    # -- tracing

    def _argument(self, i: int, leaf: structure.Leaf) -> Any:
        if isinstance(leaf, structure.DatasetLeaf):
            from .dataset import Parameter

            self.inner.append((i, Parameter(leaf.element)))
            return self.inner[-1][1]
        made = [self.graph.param(dtype, sizes, f"arg{i}") for dtype, sizes in leaf.specs()]
        self.params += made
        return leaf.of_tensors(made)

    def _result(self, value: Any) -> Any:
        if hasattr(value, "_dataset"):
            return value._dataset()
        if value is None:
            raise TypeError(f"Unsupported return value from function {self.name!r} passed to a dataset: None. Return tensors, or a "
                            "structure of them")
        try:
            value = structure.as_tensor(value)
        except (TypeError, ValueError) as e:
            raise TypeError(f"Unsupported return value from function {self.name!r} passed to a dataset: {value!r}. ({e})") from e
        if isinstance(value, structure.SparseTensor):
            return value._with_components([self._mine(t) for t in value._components()])
        return self._mine(value)

    def _mine(self, t: Tensor) -> Tensor:
        if t.op.graph is self.graph and t.op.opdef is not state.variable_handle:
            return t
        with self.graph.as_default():
            return array_ops.identity(t) if t.op.opdef is state.variable_handle else self.graph._adopt(t, None)

    @staticmethod
    def _leaf(value: Any) -> structure.Leaf:
        return structure.DatasetLeaf(value.element) if hasattr(value, "_dataset") else structure.leaf_of(value)

    def _needed(self, value: Any) -> list[Tensor]:
        if hasattr(value, "_dataset"):
            return [self._mine(t) for t in value.tensors()]
        return value._components() if isinstance(value, structure.SparseTensor) else [value]

    def _split(self) -> None:
        """What needs running, and what is an argument or constant that a call passes on."""
        self.captured = list(self.graph.captures)
        inputs = [*self.params, *self.graph.captures.values()]
        place = {t: i for i, t in enumerate(inputs)}
        self.computed = list(dict.fromkeys(t for t in self.tensors if t not in place and t.op.opdef is not opdef.Const))
        self.targets = [op for op in self.graph._ops if op.region is None and control.effects(op) & {"write", "host"}]
        ops = graph.topological([*[t.op for t in self.computed], *self.targets], set(inputs))
        used = {t for op in ops for t in op.inputs}.union(*[control.captures(control.regions_of(op)) for op in ops])
        self.fed = [t for t in inputs if t in used]
        self.ops = ops
        self.takes = [place[t] for t in self.fed]
        order = {t: i for i, t in enumerate(self.computed)}
        self.sources = [("argument", place[t]) if t in place else ("computed", order[t]) if t in order else ("constant", _value(t))
                        for t in self.tensors]
        everything = [o for op in ops for o in _all(op)]
        self.effects: set[Any] = {o.opdef.effect for o in everything}
        self.stateful = any(is_outside(t.op) for o in everything for t in [*o.inputs, *o.outputs])
        # What parses and decodes, with little arithmetic behind it: op by op is shorter than host and kernels in turn.
        families = [o.opdef.family for o in everything]
        self.light = "host" in families and families.count("elementwise") <= 16 and all(
            o.opdef.family in LIGHT and (o.opdef._numpy is not None or o.opdef is opdef.StandIn) for o in everything)
        self.on_resources = any(phases.on_resources(op) for op in ops)
        self.outside = self.captured + [t for o in everything for t in o.inputs if t.op.graph is not self.graph]

    # -- calling

    def worker(self, run: Any) -> Worker:
        """A caller for one thread, of an iterator that was started as `run`."""
        captured = [run.value(t) for t in self.captured]
        return Worker(self, self._executable(run), captured, run.counter(self))

    def _executable(self, run: Any) -> Any:
        if not self.computed and not self.targets:
            return None
        draws = Draws(run.store) if self.stateful else Alone()
        if self.on_resources:
            def native(fetches: list[Tensor], targets: list[Operation], feeds: list[Tensor], done: Any = ()) -> Any:
                return _native(self.graph, fetches, targets, feeds, draws, run.config, done)

            return phases.Phases(self.computed, self.targets, self.fed, draws, run.config, native, _convert), draws
        return self.executable(self.graph, self.computed, self.targets, self.fed, draws, run), draws

    def kept(self, key: Any, make: Callable[[], Any]) -> Any:
        """What is made once of this function."""
        with self._lock:
            if key not in self._compiled:
                if len(self._compiled) > 16:  # sessions come and go
                    self._compiled.clear()
                self._compiled[key] = make()
            return self._compiled[key]

    def executable(self, g: Graph, fetches: list[Tensor], targets: list[Operation], feeds: list[Tensor], draws: Any, run: Any) -> Any:
        """A step of a graph of this function, with a store and plans of its own; what is compiled is shared."""
        if self.light and g is self.graph:
            return OpByOp(self.ops, fetches, feeds)
        if flags.interpret:
            reference = Reference(fetches, targets, feeds, draws)
            return lambda values: reference(list(values))
        key = (g, id(run.store) if self.stateful else None, flags.optimize)
        return self.kept(key, lambda: _native(g, fetches, targets, feeds, draws, run.config, ())).on(draws)

    def call(self, worker: Worker, number: int, leaves: Sequence[Any], bound: Any) -> tuple[Any, ...]:
        """The leaves of the result."""
        inputs = [a for leaf, v in zip(self.spec, leaves) for a in leaf.arrays(v)] + worker.captured
        results = worker.compute([inputs[i] for i in self.takes], number)
        flat = [inputs[x] if kind == "argument" else results[x] if kind == "computed" else x for kind, x in self.sources]
        if len(flat) == len(self.leaves) and not self.inner and all(type(leaf) is structure.Leaf for leaf in self.leaves):
            return tuple(flat)
        return self._assembled(flat, leaves, bound)

    def _assembled(self, flat: list[Any], leaves: Sequence[Any], bound: Any) -> tuple[Any, ...]:
        out, at = [], 0
        for value, leaf in zip(self.flat, self.leaves):
            if hasattr(value, "_dataset"):
                needs = value.tensors()
                env = dict(zip(needs, flat[at:at + len(needs)]))
                env.update({d: leaves[i] for i, d in self.inner})
                out.append(bound(value, env))
                at += len(needs)
            else:
                out.append(leaf.of_arrays(flat[at:at + leaf.tensors]))
                at += leaf.tensors
        return tuple(out)


def is_outside(op: Operation) -> bool:
    """Whether `op` stands for something that a session keeps: a variable, a table."""
    return op.opdef is state.variable_handle or getattr(op.opdef, "makes", None) is not None


def _all(op: Operation) -> list[Operation]:
    return [op, *[inner for r in control.regions_of(op) for o in control.members(r) for inner in _all(o)]]


def _native(g: Graph, fetches: list[Tensor], targets: list[Operation], feeds: list[Tensor], store: Any, config: Any,
            done: Any) -> Executable:
    found = Executable(g, fetches, targets, feeds, store, config, done=done)
    found.shared = not any("write" in control.effects(op) for op in found.request.ops)  # draws are by the number of the element
    return found


def _convert(t: Tensor, value: Any) -> np.ndarray:
    return np.asarray(value, t.dtype.np)


class Worker:
    """Calls a function in one thread."""

    def __init__(self, function: Function, made: Any, captured: list[Any], counter: Any):
        self.function, self.captured, self.counter = function, captured, counter
        self.step, self.draws = made or (None, None)
        self.outputs = function.computed

    def number(self) -> int:
        """The number of the next element: what its random ops draw by."""
        return next(self.counter)

    def compute(self, values: list[Any], number: int) -> list[np.ndarray]:
        if self.step is None:
            return []
        self.draws.number = number
        return [_array(r, t) for r, t in zip(self.step(values), self.outputs)]

    def __call__(self, leaves: Sequence[Any], bound: Any, number: int | None = None) -> tuple[Any, ...]:
        return self.function.call(self, self.number() if number is None else number, leaves, bound)


def _value(t: Tensor) -> np.ndarray:
    """That of a constant."""
    found = np.asarray(t.op.attrs["value"])
    return structure.in_bytes(found) if found.dtype == object else found


def _array(value: Any, t: Tensor) -> np.ndarray:
    if t.dtype is types.bfloat16 and np.asarray(value).dtype == np.float32:
        return types.bf16_encode(np.asarray(value))
    if t.dtype.kind == "s":
        return structure.in_bytes(np.asarray(value, object))
    return value if type(value) is np.ndarray else np.asarray(value, t.dtype.np)


class OpByOp:
    """Ops of the host one after the other, on the values of `feeds`; results are of `fetches`."""

    def __init__(self, ops: Sequence[Operation], fetches: Sequence[Tensor], feeds: Sequence[Tensor]):
        every = [*feeds, *[t for op in ops if op.opdef is not opdef.StandIn for t in op.outputs]]
        place = {t: i for i, t in enumerate(every)}
        self.rest = [np.asarray(t.op.attrs["value"]) if t.op.opdef is opdef.Const else None for t in every[len(feeds):]]
        self.steps = [(op, [place[t] for t in op.inputs], [place[t] for t in op.outputs]) for op in ops
                      if op.opdef not in (opdef.StandIn, opdef.Const)]
        self.results = [place[t] for t in fetches]

    def __call__(self, values: Sequence[Any]) -> list[Any]:
        slots: list[Any] = [*values, *self.rest]
        for op, inputs, outputs in self.steps:
            for i, found in zip(outputs, evaluate(op, [slots[k] for k in inputs])):
                slots[i] = found
        return [slots[i] for i in self.results]


# ---------------------------------------------------------------- stores of calls


class Alone(Store):
    """The store of a function that reads no variable: random ops draw by the number of the element."""

    number = 0

    def __init__(self) -> None:
        super().__init__()
        self.base = int.from_bytes(random_ops.entropy(4), "little") << 20
        self.counters = _Forgetting()

    def draws(self, op: Operation) -> int:
        """Seeded ops begin anew with every iterator, the others somewhere."""
        seeded = op.attrs.get("seed") or op.attrs.get("seed2")
        return self.number if seeded else self.base + self.number


class _Forgetting(dict):
    def __setitem__(self, key: Any, value: Any) -> None:
        pass


class Draws(Alone):
    """The same over a Session's variables."""

    def __init__(self, session: Any):
        super().__init__()
        self.session = session
        for name in ("values", "inside", "left", "waiting", "writes", "version", "resources", "making", "waits", "closed"):
            self.__dict__.pop(name, None)
        self.lock = session.lock

    def __getattr__(self, name: str) -> Any:
        return getattr(self.__dict__["session"], name)

    def write(self, var: Operation, value: np.ndarray) -> None:
        self.session.write(var, value)

    def adopt(self, var: Operation, array: np.ndarray) -> None:
        self.session.adopt(var, array)

    def has(self, var: Operation) -> bool:
        return self.session.has(var)

    def read(self, var: Operation) -> np.ndarray:
        return self.session.read(var)

    def alone(self) -> None:
        self.session.alone()

    def commit(self, written: dict[Operation, np.ndarray], drawn: dict[Operation, int]) -> None:
        self.session.commit(written, {})

    def clear(self) -> None:
        pass
