"""Convolutions by cuDNN's graph API: a described convolution becomes an operation graph, an engine and a plan.

A device is a cuDNN handle, or a JSON text that describes one: with the text, plans are chosen and built on a machine without a GPU
(cuDNN 9.8 and later), which answers what is supported and how much workspace it takes.
Knows views and addresses; knows no op and no plan of the runtime (rank 5).
"""
from __future__ import annotations

import ctypes
from collections.abc import Sequence
from ctypes import addressof, c_bool, c_char, c_char_p, c_double, c_float, c_int, c_int64, c_size_t, c_void_p
from dataclasses import dataclass
from math import gcd
from typing import Any

from graphflow import locks
from graphflow.codegen.cuda.library_calls import Convolution, View
from graphflow.runtime.cuda.libraries import loading
from graphflow.runtime.cuda.libraries.cublaslt import WORKSPACE_ALIGNMENT, aligned
from graphflow.runtime.cuda.libraries.loading import Choice, LibraryError, Refused

_p = c_void_p
PROTOTYPES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "cudnnGetVersion": (c_size_t, ()), "cudnnGetCudartVersion": (c_size_t, ()),
    "cudnnGetErrorString": (c_char_p, (c_int,)), "cudnnGetLastErrorString": (None, (_p, c_size_t)),
    "cudnnCreate": (c_int, (_p,)), "cudnnSetStream": (c_int, (_p, _p)),
    "cudnnBackendCreateDescriptor": (c_int, (c_int, _p)), "cudnnBackendDestroyDescriptor": (c_int, (_p,)),
    "cudnnBackendFinalize": (c_int, (_p,)), "cudnnBackendSetAttribute": (c_int, (_p, c_int, c_int, c_int64, _p)),
    "cudnnBackendGetAttribute": (c_int, (_p, c_int, c_int, c_int64, _p, _p)), "cudnnBackendExecute": (c_int, (_p, _p, _p)),
}
OLDEST = 90800  # the first with device descriptions, and with all that is set below

# Enumerators of cudnn_graph.h.  Kinds of attribute values: (cudnnBackendAttributeType_t, C type).
HANDLE, DTYPE, BOOL, INT64, FLOAT, DOUBLE, POINTER = (0, _p), (1, c_int), (2, c_bool), (3, c_int64), (4, c_float), (5, c_double), (6, _p)
CONV_MODE, HEURISTIC, NAN_MODE, NOTE, POINTWISE, DESCRIPTOR = (7, c_int), (8, c_int), (10, c_int), (11, c_int), (14, c_int), (15, _p)
CHAR = (24, c_char)
POINTWISE_KIND, CONV_KIND, ENGINE, CONFIG, HEURISTICS, PLAN = range(6)  # cudnnBackendDescriptorType_t
POINTWISE_OP, GRAPH, PACK, TENSOR, DEVICE = 13, 15, 16, 17, 38
DATA = {"float32": 0, "float64": 1, "float16": 2, "bfloat16": 9}


@dataclass(frozen=True)
class Kind:
    """Enumerators of one of the three convolution operations: its descriptor, and attributes (alpha, beta, convolution; w, x, y)."""

    descriptor: int
    alpha: int
    beta: int
    convolution: int
    w: int
    x: int
    y: int


KINDS = {"forward": Kind(10, 700, 701, 702, 703, 704, 705), "filter": Kind(11, 712, 713, 714, 715, 716, 717),
         "data": Kind(12, 706, 707, 708, 709, 710, 711)}
ADD = 0
ACTIVATIONS = {"relu": 100, "tanh": 101, "sigmoid": 102, "gelu": 104, "gelu_tanh": 107}
# cudnnBackendNumericalNote_t.  The last one (strict NaN) is that of engine 0 alone, which has no limits and no tensor cores.
TENSOR_CORE, DOWN_CONVERTED, REDUCED_SUM, NONDETERMINISTIC, GENERAL = 0, 1, 2, 4, 9
BEST, FALLBACK = 3, 2  # cudnnBackendHeurMode_t
X, W, Y, BIAS, ADDED, OUT = 1, 2, 3, 4, 5, 6  # identifiers of tensors; results of inner operations follow
ALIGNMENT = 16  # bytes


def built_for(c: Any) -> int:
    """The major version of CUDA that the library needs."""
    return c.cudnnGetCudartVersion() // 1000


class Cudnn:
    """The library; with a handle, on the device whose context is current on the threads that call it."""

    def __init__(self, device: str | None = None):
        self.c = loading.library("cudnn", PROTOTYPES)
        n = self.c.cudnnGetVersion()
        self.number, self.version = n, f"{n // 10000}.{n // 100 % 100}"
        if n < OLDEST:
            raise loading.Missing(f"cuDNN {self.version} is too old, 9.8 is needed: {loading.EXTRA}")
        self.lock = locks.rlock()
        self.handle, self.device = 0, None
        if device is None:
            out = c_void_p()
            self.run("cudnnCreate", addressof(out))
            self.handle = out.value or 0
        else:
            text = device.encode() + b"\0"
            self.device = self.made(DEVICE, (2702, CHAR, text))

    def run(self, function: str, *arguments: Any) -> None:
        status = getattr(self.c, function)(*arguments)
        if status:
            why = ctypes.create_string_buffer(512)
            self.c.cudnnGetLastErrorString(addressof(why), len(why))
            texts = self.c.cudnnGetErrorString(status).decode(), why.value.decode(errors="replace").strip()
            raise LibraryError("cudnn", status, f"{function}: {': '.join(filter(None, texts))}")

    def made(self, kind: int, *attributes: tuple) -> Descriptor:
        """A finished descriptor with these (attribute, kind of value, value or values)."""
        made = Descriptor(self, kind)
        for attribute, of, value in attributes:
            made.put(attribute, of, value)
        self.run("cudnnBackendFinalize", made.address)
        return made


class Descriptor:
    """One of cuDNN's backend descriptors; keeps those it names alive."""

    def __init__(self, dnn: Cudnn, kind: int):
        self.dnn, self.kept = dnn, []  # type: ignore[var-annotated]
        out = c_void_p()
        dnn.run("cudnnBackendCreateDescriptor", kind, addressof(out))
        self.address = out.value or 0

    def put(self, attribute: int, of: tuple[int, Any], value: Any) -> None:
        if of is CHAR:
            array: Any = ctypes.create_string_buffer(value, len(value))
        else:
            values = list(value) if isinstance(value, Sequence) else [value]
            self.kept += [v for v in values if isinstance(v, Descriptor)]
            array = (of[1] * len(values))(*[v.address if isinstance(v, Descriptor) else v for v in values])
        self.dnn.run("cudnnBackendSetAttribute", self.address, attribute, of[0], len(array), addressof(array))

    def numbers(self, attribute: int, of: tuple[int, Any], most: int) -> list[Any]:
        count, out = c_int64(), (of[1] * most)()
        self.dnn.run("cudnnBackendGetAttribute", self.address, attribute, of[0], most, addressof(count), addressof(out))
        return list(out[:min(count.value, most)])

    def descriptors(self, attribute: int, kind: int) -> list[Descriptor]:
        """Those that an attribute holds, as new descriptors."""
        count = c_int64()
        self.dnn.run("cudnnBackendGetAttribute", self.address, attribute, DESCRIPTOR[0], 0, addressof(count), None)
        out = [Descriptor(self.dnn, kind) for _ in range(count.value)]
        if out:
            array = (c_void_p * len(out))(*[d.address for d in out])
            self.dnn.run("cudnnBackendGetAttribute", self.address, attribute, DESCRIPTOR[0], len(out), addressof(count), addressof(array))
        return out[:count.value]

    def __del__(self) -> None:
        if "address" in self.__dict__:
            self.dnn.c.cudnnBackendDestroyDescriptor(self.address)


# ---------------------------------------------------------------- support


def steps_of(epilogue: str) -> list[str]:
    """ "add+bias+relu" as its steps, in the order that cuDNN's compiled kernels know.  Raises Refused."""
    steps = [s for s in epilogue.split("+") if s]
    order = [0 if s == "add" else 1 if s == "bias" else 2 if s in ACTIVATIONS else -1 for s in steps]
    if -1 in order or order != sorted(set(order)):
        raise Refused(f"no epilogue {epilogue!r}: add, bias and one of {', '.join(ACTIVATIONS)}, in this order, joined by +")
    return steps


def check(c: Convolution) -> None:
    """Raises Refused for what cuDNN's interface cannot say, without asking the library."""
    if c.epilogue and c.kind != "forward":
        raise Refused(f"an epilogue after the {c.kind} gradient")
    steps_of(c.epilogue)
    names = {v.dtype.name for v in (c.x, c.w, c.y)}
    if len(names) != 1 or not names <= set(DATA):
        raise Refused(f"a convolution of {', '.join(sorted(names))}")
    lines = zip(c.x.sizes[2:], c.w.sizes[2:], c.y.sizes[2:], c.pads, c.strides, c.dilations)
    if any(min(pads) < 0 or windows != (n + sum(pads) - (taps - 1) * d - 1) // s + 1 for n, taps, windows, pads, s, d in lines):
        raise Refused(f"{c.y.sizes[2:]} windows do not follow from {c.x.sizes[2:]} positions, {c.w.sizes[2:]} taps and padding {c.pads}")
    for name, v in (("x", c.x), ("w", c.w), ("y", c.y)):
        if 0 in v.sizes:
            raise Refused(f"{name} has no elements")
        if any(n > 1 and s <= 0 for n, s in zip(v.sizes, v.strides)):
            raise Refused(f"{name} is read with strides {v.strides}")


def strides(v: View) -> tuple[int, ...]:
    """The view's strides, those of axes of size 1 as if the array were packed (their value says which layout it is)."""
    real = {d: s for d, (n, s) in enumerate(zip(v.sizes, v.strides)) if n > 1}
    spatial = [s for d, s in real.items() if d > 1]
    out = list(v.strides)
    last = 1 not in real or not spatial or real[1] < min(spatial)  # channels last
    order = [1, *range(len(out) - 1, 1, -1), 0] if last else [*range(len(out) - 1, 1, -1), 1, 0]
    span = 1
    for d in order:
        if d not in real:
            out[d] = span
        span = max(span, out[d] * v.sizes[d])
    return tuple(out)


# ---------------------------------------------------------------- calls


class ConvolutionCall:
    """A convolution ready to be queued.  The first call loads its kernels: make it outside of a capture.

    It must outlive every graph that was captured from it: kernels compiled at run time belong to its plan.
    label: what runs, for people.  workspace_bytes: device memory that a call uses while it runs.
    """

    def __init__(self, dnn: Cudnn, c: Convolution, choice: Choice):
        check(c)
        self.dnn, self.c, self.alignment = dnn, c, choice.alignment
        self.steps = steps_of(c.epilogue)
        self.graph = self._graph()
        self.plan, self.workspace_bytes, self.engine = self._chosen(choice)
        self.label = self._label("tf32" if choice.tf32 and c.x.dtype.name == "float32" else c.x.dtype.code)

    # -- the graph of operations

    def _tensor(self, identifier: int, v: View, virtual: bool = False, alignment: int = ALIGNMENT) -> Descriptor:
        """Inner results are kept in the compute dtype."""
        dtype = self.c.compute if virtual else v.dtype
        return self.dnn.made(TENSOR, (906, INT64, identifier), (901, DTYPE, DATA[dtype.name]), (900, INT64, alignment),
                             (902, INT64, v.sizes), (903, INT64, strides(v)), *([(907, BOOL, True)] if virtual else []))

    def _aligned(self, v: View) -> int:
        return gcd(ALIGNMENT, self.alignment, v.offset * v.dtype.size)

    def _graph(self) -> Descriptor:
        c, dnn, k = self.c, self.dnn, KINDS[self.c.kind]
        compute = DATA[c.compute.name]
        self.tensors = {"x": X, "w": W, "y": OUT if self.steps else Y}
        x, w = (self._tensor(i, v, alignment=self._aligned(v)) for i, v in ((X, c.x), (W, c.w)))
        y = self._tensor(Y, c.y, bool(self.steps), self._aligned(c.y))
        conv = dnn.made(CONV_KIND, (100, DTYPE, compute), (101, CONV_MODE, 1), (106, INT64, len(c.strides)), (102, INT64, c.dilations),
                        (103, INT64, c.strides), (105, INT64, [lo for lo, _ in c.pads]), (104, INT64, [hi for _, hi in c.pads]))
        scale = DOUBLE if c.compute.name == "float64" else FLOAT
        ops = [dnn.made(k.descriptor, (k.alpha, scale, 1.0), (k.beta, scale, 0.0), (k.convolution, DESCRIPTOR, conv),
                        (k.w, DESCRIPTOR, w), (k.x, DESCRIPTOR, x), (k.y, DESCRIPTOR, y))]
        for number, step in enumerate(self.steps):
            last = number == len(self.steps) - 1
            after = self._tensor(OUT if last else OUT + 1 + number, c.y, not last, self._aligned(c.y))
            ops.append(self._pointwise(step, y, after))
            y = after
        handle = [(800, HANDLE, dnn.handle)] if dnn.handle else []
        return dnn.made(GRAPH, *handle, (801, DESCRIPTOR, ops))

    def _pointwise(self, step: str, before: Descriptor, after: Descriptor) -> Descriptor:
        c, dnn = self.c, self.dnn
        mode = ACTIVATIONS.get(step, ADD)
        nan = [(2, NAN_MODE, 1)] if step == "relu" else []  # max(x, 0) of NaN is NaN, as everywhere
        how = dnn.made(POINTWISE_KIND, (0, POINTWISE, mode), (1, DTYPE, DATA[c.compute.name]), *nan)
        other = []
        if step == "bias":
            n, rank = c.y.sizes[1], len(c.y.sizes)
            vector = View(None, c.y.dtype, (1, n, *[1] * (rank - 2)), (n, 1, *[n] * (rank - 2)))
            other = [(752, DESCRIPTOR, self._tensor(BIAS, vector))]
        elif step == "add":
            other = [(752, DESCRIPTOR, self._tensor(ADDED, c.y))]
        return dnn.made(POINTWISE_OP, (750, DESCRIPTOR, how), (751, DESCRIPTOR, before), *other, (753, DESCRIPTOR, after))

    # -- the plan

    def _chosen(self, choice: Choice) -> tuple[Descriptor, int, int]:
        """(plan, workspace, engine): the library's first one that does what it may."""
        unwanted = {DOWN_CONVERTED, REDUCED_SUM, *([NONDETERMINISTIC] if choice.deterministic else [])}
        if self.c.x.dtype.name == "float32" and not choice.tf32:
            unwanted.add(TENSOR_CORE)  # they round float32 operands to TF32
        why: list[str] = []
        for mode in (BEST, FALLBACK):
            for config in self._configs(mode, why):
                engine, = config.descriptors(300, ENGINE)
                notes = set(engine.numbers(1303, NOTE, 32))
                if unwanted & notes:
                    why.append("an engine that rounds or is not deterministic")
                    continue
                if GENERAL in notes:
                    why.append("the engine that takes everything, slower than kernels generated for the case")
                    continue
                try:
                    plan = self._planned(config)
                except LibraryError as error:
                    why.append(error.text)
                    continue
                need, = plan.numbers(402, INT64, 1)
                if need <= choice.workspace:
                    number, = engine.numbers(1301, INT64, 1)
                    return plan, need, number
                why.append(f"{need} bytes of workspace, {choice.workspace} are allowed")
        reasons = "; ".join(dict.fromkeys(why))
        raise Refused(f"cuDNN {self.dnn.version} has no engine for this convolution{': ' + reasons if reasons else ''}")

    def _configs(self, mode: int, why: list[str]) -> list[Descriptor]:
        device = [] if self.dnn.device is None else [(204, DESCRIPTOR, self.dnn.device)]
        try:
            return self.dnn.made(HEURISTICS, (201, DESCRIPTOR, self.graph), (200, HEURISTIC, mode), *device).descriptors(202, CONFIG)
        except LibraryError as error:
            why.append(error.text)
            return []

    def _planned(self, config: Descriptor) -> Descriptor:
        dnn = self.dnn
        where = (407, DESCRIPTOR, dnn.device) if dnn.device is not None else (400, HANDLE, dnn.handle)
        return dnn.made(PLAN, where, (401, DESCRIPTOR, config))

    def _label(self, kind: str) -> str:
        c = self.c
        layout = "NHWC" if strides(c.x)[1] == 1 and c.x.sizes[1] > 1 else "NCHW" if c.x.sizes[1] > 1 else ""
        geometry = f"{'x'.join(map(str, c.x.sizes))} by {'x'.join(map(str, c.w.sizes))}"
        groups = f" groups {c.groups}" if c.groups > 1 else ""
        epilogue = f" {c.epilogue}" if c.epilogue else ""
        return f"cuDNN {self.dnn.version} {c.kind} {kind} {layout} {geometry}{groups}{epilogue} engine {self.engine}".replace("  ", " ")

    def enqueue(self, stream: int, first: int, second: int, result: int, *, workspace: int = 0, bias: int = 0, add: int = 0) -> None:
        """Queues the convolution: addresses of the arrays of `c.operands` and of the result; nothing is allocated or waited for.

        workspace: `workspace_bytes` of device memory.  bias [k], add (as y): what the epilogue reads.
        Raises ValueError on an address that is missing or not aligned as promised, LibraryError.
        """
        c, size = self.c, self.c.x.dtype.size
        views = dict(zip(("x", "w", "y"), (c.x, c.w, c.y)))
        order = {"forward": "xwy", "data": "wyx", "filter": "xyw"}[c.kind]
        given = dict(zip(order, (first, second, result)))
        extra = {name: address for name, address in (("bias", bias), ("add", add)) if name in self.steps}
        aligned(self.label, self.alignment, **given, **extra)
        if self.workspace_bytes:
            aligned(self.label, WORKSPACE_ALIGNMENT, workspace=workspace)
        pointers = {self.tensors[name]: address + views[name].offset * size for name, address in given.items()}
        pointers |= {{"bias": BIAS, "add": ADDED}[name]: address for name, address in extra.items()}
        pack = self.dnn.made(PACK, (1000, INT64, list(pointers)), (1001, POINTER, list(pointers.values())), (1003, POINTER, workspace))
        with self.dnn.lock:  # the stream is the handle's
            self.dnn.run("cudnnSetStream", self.dnn.handle, stream)
            self.dnn.run("cudnnBackendExecute", self.dnn.handle, self.plan.address, pack.address)
