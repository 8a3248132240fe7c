"""Compiled programs on disk: a program that some process has compiled before is loaded instead of optimised again.

The key is the content of the specialised program (ops, attributes, constants, sizes, order of inputs, outputs and
writes) with everything its kernels depend on besides: flags, rules and passes, this package's source, the machine.
The value is what `Compiled` needs to make plans, as JSON: units with their kernel texts, buffers, symbolic sizes,
constants that passes made, guards.  Branches and loops hold programs, so all of this is said of programs in programs too; of
the ops in them plans need nothing but what the host runs.  It holds no address and no code: texts go through the kernel cache.  What only
people look at (clusters, Kernel IR, reports) is not stored; `Variant.whole` compiles again when somebody asks.

A `Compiled` is written attribute by attribute and dataclass by dataclass, so that new fields are stored by themselves; a
field that is not to be stored says `field(metadata={"stored": False})` and comes back as its default.  What cannot be
written (a py_func made by a rule, an op or a rule defined outside this package) makes the program one that is compiled
in every process.  Damaged and outdated entries are ignored (rank 5).
"""
from __future__ import annotations

import base64
import dataclasses
import hashlib
import json
import sys
import zlib
from functools import cache
from pathlib import Path
from typing import Any, Callable

import numpy as np

from .. import types
from ..codegen import compile as native, tune
from ..flags import TABLE, flags
from ..graph import Operation, Spec, Tensor
from ..ops import control, opdef
from ..passes import fusion, pipeline, rewrite
from ..passes.program import Program
from ..types import Dim, DType
from . import flow

FORMAT = 2
FEWEST = 12  # ops of a program that is worth a file
LONG = 48  # characters of a text that is written once: kernels share their source
MOST = 4 << 20  # bytes of constants made by passes that are stored; programs with more are not
# Flags that no kernel and no plan depends on.  All others are part of the key.
_IRRELEVANT = {"debug", "check", "dot", "interpret", "threads", "strict_feeds", "cache_dir"}
# Attributes of Compiled that are not stored: they are read only while it is made, or by people, or are addresses.
_PASSING = {"program", "fusion", "last_use", "entry", "updated", "parted", "place", "devices", "crossing"}
_OUTSIDE = {"tensor_of", "inputs", "order"}  # ... of the outermost program alone: nobody asks for them inside
_BUILDING = {"backward"}  # attributes that only the building of gradients reads


Opened = Callable[[], "list[fusion.Cluster]"]


class Unstorable(Exception):
    """Something in a program or plan has no content that another process could compare or read."""


# ---------------------------------------------------------------- the key


@cache
def _source() -> bytes:
    """The content of this package, which decides what a program becomes, and of what it stands on."""
    root = Path(__file__).parents[1]
    digest = hashlib.sha256(native._meaning() + repr(sys.version_info[:2]).encode())
    for file in sorted(root.rglob("*.py")):
        digest.update(file.name.encode() + hashlib.sha256(file.read_bytes()).digest())
    return digest.digest()


def usable() -> bool:
    """Whether plans may be taken from disk: not while passes and kernels are watched or checked."""
    return not (flags.check or flags.debug or flags.dot)


def key(program: Program, *more: Any) -> str | None:
    """The name of the program's entry; None for one whose meaning only this process knows.

    `more`: anything else that the caller's compilation depends on.
    """
    if pipeline._added or not usable() or len(_everything(program)) < FEWEST:
        return None
    try:
        content = (FORMAT, more, _rules(rewrite.changes), _flags(), tune.generation(), _Content(program).parts())
    except Unstorable:
        return None
    digest = hashlib.sha256(_source())
    digest.update(repr(content).encode())
    return digest.hexdigest()


def _flags() -> list[tuple[str, Any]]:
    return [(name, getattr(flags, name)) for name in TABLE if name not in _IRRELEVANT]


@cache
def _rules(changes: int) -> tuple[str, ...]:
    """Names of all rules, in order; raises Unstorable when somebody outside this package has added one."""
    found = []
    for table in rewrite.TABLES.values():
        for r in table.rules:
            functions = [r.function, r.on] if isinstance(r, rewrite.OpRule) else [r.pattern, r.replacement]
            if not all(_own(f) for f in functions):
                raise Unstorable(f"rule {r.name!r}")
            found.append(f"{table.name}:{r.name}")
    return tuple(found)


def _own(function: Any) -> bool:
    return str(getattr(function, "__module__", "")).startswith("graphflow.")


def _inside(op: Operation) -> tuple[Program, ...]:
    """The programs of a branch or loop."""
    if op.opdef is control.loop_op:
        return op.attrs["cond"], op.attrs["body"]
    return op.attrs["branches"] if op.opdef is control.branch_op else ()


def _everything(program: Program) -> list[Operation]:
    """All ops, those of branches and loops included, each once, in an order that the content of the program decides."""
    found: dict[Operation, None] = {}

    def visit(p: Program) -> None:
        for op in p.ops():
            if op not in found:
                found[op] = None
                for part in _inside(op):
                    visit(part)
    visit(program)
    return list(found)


class _Content:
    """A program as plain values that are equal for programs that compile to the same."""

    def __init__(self, program: Program):
        self.program = program
        self.places: dict[Operation, int] = {}
        self.numbers: dict[Tensor, int] = {}
        self.things: dict[Any, int] = {}
        self.sizes: dict[Any, Any] = {}
        self.own: dict[opdef.OpDef, bool] = {}
        self.opaque: dict[bytes, int] = {}

    def parts(self) -> list[Any]:
        return self._parts(self.program)

    def _parts(self, p: Program) -> list[Any]:
        number, places = self.numbers, self.places
        parts: list[Any] = []
        for kind, what, t in p.inputs:
            number[t] = len(number)
            static = self.shape(what.outputs[0].sizes) if kind == "variable" and isinstance(what, Operation) else None
            name = what if kind == "capture" else self.thing(what)
            parts.append((kind, name, t.dtype.name, self.shape(t.sizes), self.value(t.known), static))
        for op in p.ops():
            if op.opdef is opdef.StandIn:
                if op.outputs[0] not in number:
                    raise Unstorable("a value from nowhere")
                continue
            if op in places:  # programs inside share constants with those around
                parts.append(places[op])
                continue
            places[op] = len(places)
            parts.append((op.opdef.type, [number[t] for t in op.inputs], [places.get(c, -1) for c in op.control_inputs],
                          self.attrs(op), [(t.dtype.name, self.shape(t.sizes)) for t in op.outputs]))
            for t in op.outputs:
                number[t] = len(number)
        parts.append(([None if t is None else number[t] for t in p.outputs], [(self.thing(v), number[t]) for v, t in p.writes],
                      [places[e] for e in p.effects]))
        return parts

    def thing(self, what: Any) -> int:
        """Variables, loop variables, feeds and random ops by their order."""
        return self.things.setdefault(what, len(self.things))

    def shape(self, sizes: Any) -> Any:
        try:
            return self.sizes[sizes]
        except KeyError:
            found = self.sizes[sizes] = None if sizes is None else tuple([self.value(s) for s in sizes])
            return found

    def attrs(self, op: Operation) -> Any:
        d = op.opdef
        own = self.own.get(d)
        if own is None:
            own = self.own[d] = _own(d)
        if not own:
            raise Unstorable(f"op {d.name!r}")
        if d in fusion.CONTROL:
            rest = [(k, self.value(v)) for k, v in op.attrs.items() if k not in ("cond", "body", "branches", "specs")]
            return [self._parts(p) for p in _inside(op)], rest
        if d.effect == "host":  # the op itself is run, whatever its attributes are
            return [(k, "called" if callable(v) else self.value(v)) for k, v in op.attrs.items()]
        if d.family == "random":  # its stream comes with the key, which is an input
            return [(k, self.value(v)) for k, v in op.attrs.items() if k not in ("seed", "seed2")]
        return [(k, self.value(v)) for k, v in op.attrs.items() if k not in _BUILDING] if op.attrs else ()

    def value(self, v: Any) -> Any:
        kind = type(v)
        if v is None or kind is int or kind is str or kind is bool or kind is bytes:
            return v
        if kind is float or kind is complex:
            return repr(v)
        if kind is tuple or kind is list:
            return kind.__name__, [self.value(x) for x in v]
        if kind is Dim:
            terms = v.terms and [([self._atom(a) for a in m], c) for m, c in sorted(v.terms.items(), key=repr)]
            return "dim", v.hint, terms
        if kind is DType:
            return "dtype", v.name
        if isinstance(v, opdef.Opaque):
            return "opaque", v.shape, v.dtype.str, self.opaque.setdefault(v.tobytes(), len(self.opaque))
        if isinstance(v, np.ndarray):
            return self._array(v)
        if isinstance(v, np.generic):
            return "scalar", v.dtype.str, v.tobytes()
        if kind is dict:
            return "dict", [(self.value(k), self.value(x)) for k, x in v.items()]
        if isinstance(v, np.dtype):
            return "np", v.str
        raise Unstorable(f"an attribute of type {kind.__name__}")

    def _atom(self, atom: Any) -> Any:
        return atom if isinstance(atom, str) else (atom[0], self.value(atom[1]), self.value(atom[2]))

    def _array(self, v: np.ndarray) -> Any:
        if v.dtype == object:
            return "objects", v.shape, [self.value(x) for x in v.flat]
        content = v.tobytes() if v.nbytes <= 64 else hashlib.sha256(np.ascontiguousarray(v).data).digest()
        return "array", v.shape, v.dtype.str, content


# ---------------------------------------------------------------- writing


def pack(compiled: Any, program: Program, guards: list[types.Guard]) -> bytes:
    """The entry of a compiled program.  `program`: the specialised one, whose parts the entry refers to.

    Raises:
        Unstorable: something in it has no stored form.
    """
    text = json.dumps(_Writer(program).whole(compiled, guards), separators=(",", ":"))
    return zlib.compress(text.encode(), 1)


class _Writer:
    """Values as JSON: numbers, strings and None as they are, everything else a list that starts with its kind.

    Objects (buffers, tensors, ops, arrays, dataclasses) stand in one table and are referred to by number, so that what
    was one object is one again.
    """

    def __init__(self, program: Program):
        self.program = program
        self.inputs = {t: i for i, (_, _, t) in enumerate(program.inputs)}
        self.things = {**{v: ["write", i] for i, (v, _) in enumerate(program.writes)},
                       **{what: ["what", i] for i, (_, what, _) in enumerate(program.inputs)}}  # of the user's graph
        self.ops = {op: i for i, op in enumerate(_everything(program))}
        self.attrs = {id(op.attrs): i for op, i in self.ops.items() if op.attrs}
        self.arrays = {id(op.attrs["value"]): i for op, i in self.ops.items() if op.opdef is opdef.Const}
        self.objects: list[Any] = []
        self.numbers: dict[int, int] = {}
        self.alive: list[Any] = []
        self.clusters: list[fusion.Cluster] = []
        self.texts: dict[str, int] = {}
        self.bytes = 0

    def whole(self, compiled: Any, guards: list[types.Guard]) -> dict[str, Any]:
        p = compiled.program
        if p.inputs != self.program.inputs:
            raise Unstorable("a program whose inputs have changed")
        try:
            for c in flow.programs(compiled):
                self.constants(c)
                for u in c.units:  # before any tensor that they make
                    if u.host:
                        self.value(u.op)
            return {"attributes": [[k, self.value(v)] for k, v in vars(compiled).items() if k not in _PASSING],
                    "outputs": [self.value(t) for t in p.outputs],
                    "writes": [[[v for v, _ in self.program.writes].index(v), self.value(t)] for v, t in p.writes],
                    "guards": [self.value(g) for g in guards], "objects": self.objects,
                    "texts": list(self.texts)}
        except (RecursionError, ValueError):
            raise Unstorable("a long chain") from None

    def constants(self, compiled: Any) -> None:
        """Constants of the user's program are not written: the program that is loaded has them."""
        for b, array in compiled.arrays.items():
            op = compiled.tensor_of[b].op
            place = self.ops.get(op, self.arrays.get(id(op.attrs["value"])))
            if place is not None:
                self.add(array, ["constant", place])
            elif isinstance(op.attrs["value"], opdef.Opaque):
                raise Unstorable("a constant of this process alone")

    def value(self, v: Any) -> Any:
        kind = type(v)
        if v is None or kind is int or kind is bool:
            return v
        if kind is str:
            return v if len(v) < LONG else ["text", self.texts.setdefault(v, len(self.texts))]
        if kind is list or kind is tuple:
            return ["list" if kind is list else "tuple", *[self.value(x) for x in v]]
        if kind is Dim:
            return ["dim", v.hint, [[[self._atom(a) for a in m], c] for m, c in v.terms.items()] if v.terms is not None else None]
        if kind is DType:
            return ["dtype", v.name]
        if kind is float:
            return ["float", v.hex()]
        if kind is dict:
            return ["dict", *[[self.value(k), self.value(x)] for k, x in v.items()]]
        if kind is set:
            return ["set", *[self.value(x) for x in sorted(v, key=self._order)]]
        if isinstance(v, np.integer):
            return int(v)
        return ["#", self.number(v)]

    def _order(self, v: Any) -> Any:
        return (0, self.numbers.get(id(v), len(self.numbers)), "") if not isinstance(v, (str, int)) else (1, 0, repr(v))

    def _atom(self, atom: Any) -> Any:
        return atom if isinstance(atom, str) else [atom[0], self.value(atom[1]), self.value(atom[2])]

    def number(self, v: Any) -> int:
        found = self.numbers.get(id(v))
        return self.add(v) if found is None else found

    def add(self, v: Any, described: list[Any] | None = None) -> int:
        found = self.numbers[id(v)] = len(self.objects)
        self.alive.append(v)  # an id is taken once
        self.objects.append(None)
        self.objects[found] = described if described is not None else self.describe(v)
        return found

    def describe(self, v: Any) -> list[Any]:
        if isinstance(v, (Tensor, Operation)) and v in self.things:
            return self.things[v]
        if isinstance(v, Tensor):
            return self._tensor(v)
        if isinstance(v, fusion.Cluster):
            self.clusters.append(v)
            return ["cluster", len(self.clusters) - 1, v.kind, [self.value(op) for op in v.ops] if v.kind == "host" else None]
        if isinstance(v, Operation):
            return self._operation(v)
        if isinstance(v, np.ndarray):
            return self._array(v)
        if type(v).__name__ == "Compiled":
            return ["nested", *[[k, self.value(x)] for k, x in vars(v).items() if k not in _PASSING and k not in _OUTSIDE]]
        if dataclasses.is_dataclass(v) and type(v).__name__ in _classes():
            return ["object", type(v).__name__, *[self.value(getattr(v, f)) for f in _fields(v.__class__)]]
        raise Unstorable(f"a {type(v).__name__}")

    def _tensor(self, t: Tensor) -> list[Any]:
        if t in self.inputs:
            return ["input", self.inputs[t]]
        if t.op in self.ops:
            return ["tensor", self.ops[t.op], t.value_index]
        if t.op.opdef is opdef.Const:
            return ["const", self.value(t.dtype), self.value(t.op.attrs["value"])]
        if id(t.op) in self.numbers:  # an output of a host op
            return ["output", self.value(t.op), t.value_index]
        return ["made", self.value(t.dtype), self.value(t.sizes)]

    def _operation(self, op: Operation) -> list[Any]:
        """An op that the host runs."""
        if op in self.ops:
            return ["op", self.ops[op]]
        inputs, specs = [self.value(t) for t in op.inputs], [[self.value(t.dtype), self.value(t.sizes)] for t in op.outputs]
        if op.attrs and id(op.attrs) in self.attrs:
            return ["like", self.attrs[id(op.attrs)], op.opdef.type, inputs, specs]
        if not _own(op.opdef):
            raise Unstorable(f"op {op.opdef.name!r}")
        return ["made op", op.opdef.type, inputs, specs, self.value(dict(op.attrs))]

    def _array(self, v: np.ndarray) -> list[Any]:
        if id(v) in self.arrays:
            return ["constant", self.arrays[id(v)]]
        self.bytes += v.nbytes
        if v.dtype == object or self.bytes > MOST or isinstance(v, opdef.Opaque):
            raise Unstorable("a large or private constant")
        return ["array", v.dtype.str, list(v.shape), base64.b64encode(v.tobytes()).decode()]


@cache
def _classes() -> dict[str, Any]:
    """Dataclasses that plans are made of, by name."""
    from ..codegen import contract, emit_cpu, ir
    from ..codegen.cuda import launch, library_calls
    from . import plan

    modules = (contract, emit_cpu, flow, ir, launch, library_calls, plan)
    found = {c.__name__: c for m in modules for c in vars(m).values() if isinstance(c, type) and dataclasses.is_dataclass(c)
             and c.__module__.startswith("graphflow.")}
    for name in ("Kernel", "Stage", "Fold", "Scatter", "Axis", "Cluster", "Schedule"):  # Kernel IR is not stored
        found.pop(name, None)
    return found


@cache
def _fields(c: Any) -> tuple[str, ...]:
    return tuple(f.name for f in dataclasses.fields(c) if f.metadata.get("stored", True))


# ---------------------------------------------------------------- reading


def unpack(content: bytes, compiled_class: type, program: Program, opened: Opened) -> tuple[Any, list[types.Guard]]:
    """(a Compiled without its kernels linked, guards) of an entry.  `opened()` compiles the program to give its clusters.

    Raises whatever a damaged entry leads to.
    """
    return _Reader(json.loads(zlib.decompress(content)), program, opened).whole(compiled_class)


class Closed:
    """A cluster of a stored plan: its kind, and its ops when somebody asks."""

    def __init__(self, number: int, kind: str, opened: Opened):
        self.number, self.kind, self._opened = number, kind, opened

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        found = self._opened()
        return getattr(found[min(self.number, len(found) - 1)], name)


class _Reader:
    def __init__(self, entry: dict[str, Any], program: Program, opened: Opened):
        self.entry, self.program, self.opened = entry, program, opened
        self.described, self.texts, self.ops = entry["objects"], entry["texts"], _everything(program)
        self.objects: list[Any] = [None] * len(self.described)
        self.dims: dict[str, Dim] = {}

    def whole(self, compiled_class: Any) -> tuple[Any, list[types.Guard]]:
        e, p = self.entry, self.program
        self.compiled_class = compiled_class
        compiled = compiled_class.__new__(compiled_class)
        for name, v in e["attributes"]:
            setattr(compiled, name, self.value(v))
        outputs = tuple([self.value(v) for v in e["outputs"]])
        compiled.program = Program(p.inputs, outputs, tuple((p.writes[i][0], self.value(t)) for i, t in e["writes"]))
        return compiled, [self.value(g) for g in e["guards"]]

    def value(self, v: Any) -> Any:
        if type(v) is not list:
            return v
        kind = v[0]
        if kind == "#":
            found = self.objects[v[1]]
            return self.make(v[1]) if found is None else found
        if kind == "list":
            return [self.value(x) for x in v[1:]]
        if kind == "tuple":
            return tuple([self.value(x) for x in v[1:]])
        if kind == "dict":
            return {self.value(k): self.value(x) for k, x in v[1:]}
        if kind == "dtype":
            return types.DTYPES[v[1]]
        if kind == "text":
            return self.texts[v[1]]
        if kind == "dim":
            return self._dim(v)
        if kind == "float":
            return float.fromhex(v[1])
        if kind == "set":
            return {self.value(x) for x in v[1:]}
        raise ValueError(f"unknown kind {kind!r}")

    def _dim(self, v: Any) -> Dim:
        name = json.dumps(v)
        found = self.dims.get(name)
        if found is None:
            terms = None if v[2] is None else {tuple([self._atom(a) for a in m]): c for m, c in v[2]}
            found = self.dims[name] = types.UNKNOWN if terms is None else Dim(terms, v[1])
        return found

    def _atom(self, a: Any) -> Any:
        return a if isinstance(a, str) else (a[0], self.value(a[1]), self.value(a[2]))

    def make(self, n: int) -> Any:
        d = self.described[n]
        if d[0] == "object":  # known before its fields are read: they may lead back to it
            c = _classes()[d[1]]
            found = self.objects[n] = c.__new__(c)
            fields = _fields(c)
            if len(fields) != len(d) - 2:
                raise ValueError(f"{d[1]} has other fields")
            for f in dataclasses.fields(c):
                if not f.metadata.get("stored", True):
                    object.__setattr__(found, f.name, f.default_factory() if callable(f.default_factory) else f.default)
            for name, v in zip(fields, d[2:]):
                object.__setattr__(found, name, self.value(v))
            return found
        found = self.objects[n] = getattr(self, "_" + d[0].replace(" ", "_"))(*d[1:])
        return found

    def _nested(self, *attributes: Any) -> Any:
        compiled = self.compiled_class.__new__(self.compiled_class)
        for name, v in attributes:
            setattr(compiled, name, self.value(v))
        return compiled

    def _write(self, i: int) -> Any:
        return self.program.writes[i][0]

    def _what(self, i: int) -> Any:
        return self.program.inputs[i][1]

    def _input(self, i: int) -> Tensor:
        return self.program.inputs[i][2]

    def _tensor(self, i: int, k: int) -> Tensor:
        return self.ops[i].outputs[k]

    def _output(self, op: Any, k: int) -> Tensor:
        return self.value(op).outputs[k]

    def _made(self, dtype: Any, sizes: Any) -> Tensor:
        return _operation(opdef.StandIn, (), [Spec(self.value(dtype), self.value(sizes))]).outputs[0]

    def _const(self, dtype: Any, array: Any) -> Tensor:
        value, dtype = self.value(array), self.value(dtype)
        return _operation(opdef.Const, (), [Spec(dtype, value.shape)], {"value": value, "dtype": dtype}).outputs[0]

    def _op(self, i: int) -> Operation:
        return self.ops[i]

    def _like(self, i: int, kind: str, inputs: Any, specs: Any) -> Operation:
        return _operation(opdef.REGISTRY[kind], self._inputs(inputs), self._specs(specs), self.ops[i].attrs, self.ops[i])

    def _made_op(self, kind: str, inputs: Any, specs: Any, attrs: Any) -> Operation:
        return _operation(opdef.REGISTRY[kind], self._inputs(inputs), self._specs(specs), self.value(attrs))

    def _inputs(self, inputs: Any) -> tuple[Tensor, ...]:
        return tuple([self.value(t) for t in inputs])

    def _specs(self, specs: Any) -> list[Spec]:
        return [Spec(self.value(dtype), self.value(sizes)) for dtype, sizes in specs]

    def _cluster(self, number: int, kind: str, ops: Any) -> Any:
        if ops is None:
            return Closed(number, kind, self.opened)
        found = [self.value(op) for op in ops]
        return fusion.Cluster(found, found, [t for op in found for t in op.outputs], 0, kind)

    def _constant(self, i: int) -> np.ndarray:
        from .store import aligned

        value = self.ops[i].attrs["value"]
        if value.dtype == object:
            return value
        array = aligned(value.shape, value.dtype)
        array[...] = value
        return array

    def _array(self, dtype: str, shape: Any, content: str) -> np.ndarray:
        from .store import aligned

        array = aligned(tuple(shape), np.dtype(dtype))
        array[...] = np.frombuffer(base64.b64decode(content), dtype).reshape(shape)
        return array


_GRAPH = opdef.Scratch()


def _operation(d: opdef.OpDef, inputs: tuple[Tensor, ...], specs: list[Spec], attrs: Any = None,
               like: Operation | None = None) -> Operation:
    if like is None:
        return Operation(_GRAPH, 0, d.default_name, d, inputs, (), attrs or {}, specs)
    return Operation(_GRAPH, 0, like.name, d, inputs, (), attrs, specs, like.device, like.site, like.origin or (like.name,))


# ---------------------------------------------------------------- the files


def load(name: str, compiled_class: type, program: Program, opened: Opened) -> tuple[Any, list[types.Guard]] | None:
    """What `save` kept under `name`, or None."""
    content = native.default_store().disk.load(name, ".plan")
    if content is None:
        return None
    try:
        return unpack(content, compiled_class, program, opened)
    except Exception:  # not what this version writes, whatever it is: made anew
        return None


def stored(program: Program) -> bool:
    """Whether `load` will find this program."""
    name = key(program)
    return name is not None and native.default_store().disk.path(name, ".plan").exists()


def save(name: str, compiled: Any, program: Program, guards: list[types.Guard]) -> None:
    """Keeps a compiled program; does nothing for one that has no stored form."""
    try:
        content = pack(compiled, program, guards)
    except Unstorable:
        return
    native.default_store().disk.store(name, content, suffix=".plan")


def clusters(compiled: Any, program: Program, guards: list[types.Guard]) -> list[fusion.Cluster]:
    """The clusters of a compiled program in the order in which its entry numbers them."""
    writer = _Writer(program)
    writer.whole(compiled, guards)
    return writer.clusters
