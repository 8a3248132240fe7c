"""Matrix products by cuBLASLt: a described product becomes descriptors, an algorithm, and a call that only queues work.

cuBLASLt is column-major.  A row-major `C = A B` is the column-major `C^T = B^T A^T`, so operands are exchanged and a bias along the
rows of C^T is one along the columns of C: what an epilogue is called here is meant for row-major matrices.
Knows views and addresses; knows no op and no plan (rank 5).
"""
from __future__ import annotations

import ctypes
from ctypes import addressof, c_char_p, c_float, c_int, c_int32, c_int64, c_size_t, c_uint32, c_uint64, c_void_p, sizeof
from dataclasses import dataclass
from itertools import product
from math import gcd
from typing import Any, NamedTuple

from graphflow import locks
from graphflow.codegen.cuda.library_calls import Matmul, View
from graphflow.runtime.cuda.libraries import loading
from graphflow.runtime.cuda.libraries.loading import Choice, LibraryError, Refused

_p = c_void_p
PROTOTYPES: dict[str, tuple[Any, tuple[Any, ...]]] = {
    "cublasLtGetVersion": (c_size_t, ()), "cublasLtGetStatusString": (c_char_p, (c_int,)),
    "cublasLtCreate": (c_int, (_p,)), "cublasLtDestroy": (c_int, (_p,)),
    "cublasLtMatmulDescCreate": (c_int, (_p, c_int, c_int)), "cublasLtMatmulDescDestroy": (c_int, (_p,)),
    "cublasLtMatmulDescSetAttribute": (c_int, (_p, c_int, _p, c_size_t)),
    "cublasLtMatrixLayoutCreate": (c_int, (_p, c_int, c_uint64, c_uint64, c_int64)), "cublasLtMatrixLayoutDestroy": (c_int, (_p,)),
    "cublasLtMatrixLayoutSetAttribute": (c_int, (_p, c_int, _p, c_size_t)),
    "cublasLtMatmulPreferenceCreate": (c_int, (_p,)), "cublasLtMatmulPreferenceDestroy": (c_int, (_p,)),
    "cublasLtMatmulPreferenceSetAttribute": (c_int, (_p, c_int, _p, c_size_t)),
    "cublasLtMatmulAlgoGetHeuristic": (c_int, (_p, _p, _p, _p, _p, _p, _p, c_int, _p, _p)),
    "cublasLtMatmul": (c_int, (_p, _p, _p, _p, _p, _p, _p, _p, _p, _p, _p, _p, _p, _p, c_size_t, _p)),
}

# Enumerators of cublasLt.h and library_types.h.
DATA = {"float32": 0, "float64": 1, "float16": 2, "bfloat16": 14}
COMPUTE_32F, COMPUTE_64F, COMPUTE_TF32 = 68, 70, 77
TRANSA, TRANSB, EPILOGUE, BIAS, BIAS_STRIDE, AUX, AUX_LD, AUX_STRIDE = 3, 4, 7, 8, 10, 11, 12, 13  # of a product
BATCH_COUNT, BATCH_STRIDE = 5, 6  # of a layout
WORKSPACE_BYTES, REDUCTIONS, ALIGNMENTS = 1, 3, (5, 6, 7, 8)  # of a preference
IN_COMPUTE_TYPE = 2  # partial sums are added in the dtype they were summed in
ALIGNMENT = 16  # bytes, of every address: of one access
WORKSPACE_ALIGNMENT = 256
CALLS = 64  # most products of one description: beyond it launching costs more than it saves

# Operand dtype -> dtypes of the result.
RESULTS = {"float32": ("float32",), "float64": ("float64",), "float16": ("float16", "float32"), "bfloat16": ("bfloat16", "float32")}


class Epilogue(NamedTuple):
    """number: cublasLtEpilogue_t.  bias: "read", or "write" (a gradient); of as many elements as `along` (an axis of C) has.

    aux: "values" is a matrix of the result's dtype, "mask" one of bits; "+" where the product writes it, "-" where it reads it.
    """

    number: int
    bias: str = ""
    along: str = "n"
    aux: str = ""


# GELU is the tanh form, 0.5 x (1 + tanh(sqrt(2 / pi) (x + 0.044715 x^3))).  relu of NaN is 0.
EPILOGUES = {
    "": Epilogue(1), "bias": Epilogue(4, "read"), "relu": Epilogue(2), "bias+relu": Epilogue(6, "read"),
    "relu+mask": Epilogue(130, aux="mask+"), "bias+relu+mask": Epilogue(134, "read", aux="mask+"),
    "gelu_tanh": Epilogue(32), "bias+gelu_tanh": Epilogue(36, "read"),
    "gelu_tanh+input": Epilogue(160, aux="values+"), "bias+gelu_tanh+input": Epilogue(164, "read", aux="values+"),
    "drelu": Epilogue(136, aux="mask-"), "drelu+dbias": Epilogue(152, "write", aux="mask-"),
    "dgelu_tanh": Epilogue(192, aux="values-"), "dgelu_tanh+dbias": Epilogue(208, "write", aux="values-"),
    "sum_b": Epilogue(256, "write"), "sum_a": Epilogue(512, "write", along="m"),  # sums of an operand over the summed axis
}


# ---------------------------------------------------------------- column-major form


class Layout(NamedTuple):
    """A column-major matrix in memory: element (i, j) of batch b lies at `i + j * ld + b * stride`."""

    rows: int
    columns: int
    ld: int
    stride: int


@dataclass(frozen=True)
class Columns:
    """`D = op(A) op(B)` for matrices stored by columns; `starts` has, for each call, where its a, b and d begin (elements)."""

    a: Layout
    b: Layout
    d: Layout
    transpose_a: bool
    transpose_b: bool
    batch: int
    exchanged: bool  # a is the description's b
    starts: tuple[tuple[int, int, int], ...]


def columns(m: Matmul) -> Columns:
    """The description for a column-major library.  Raises Refused."""
    if 0 in m.a.sizes or 0 in m.b.sizes:
        raise Refused("a product of matrices without elements")
    rows, cols = m.c.strides[-2:]
    exchanged = cols == 1 or m.c.sizes[-1] == 1
    if not exchanged and rows != 1 and m.c.sizes[-2] != 1:
        raise Refused(f"the result's strides are {m.c.strides[-2:]}: neither its rows nor its columns are contiguous")
    a, b = (_turned(m.b), _turned(m.a)) if exchanged else (m.a, m.b)
    d = _turned(m.c) if exchanged else m.c
    outer = len(m.c.sizes) - 2
    most = max(range(outer), key=lambda i: m.c.sizes[i], default=None)
    step = lambda v: 0 if most is None else v.strides[most]  # noqa: E731
    if any(n > 1 and s == 0 for n, s in zip(m.c.sizes, m.c.strides)):
        raise Refused("the result is written more than once")
    (la, ta), (lb, tb), (ld, td) = (_layout(v, step(v)) for v in (a, b, d))
    if td:
        raise Refused(f"the result's strides are {m.c.strides[-2:]}: its rows overlap")
    loops = [[0] if i == most else range(m.c.sizes[i]) for i in range(outer)]
    at = lambda v, index: v.offset + sum(i * s for i, s in zip(index, v.strides))  # noqa: E731
    starts = tuple((at(a, i), at(b, i), at(d, i)) for i in product(*loops))
    if len(starts) > CALLS:
        raise Refused(f"the batches do not lie at one stride: {len(starts)} products would be launched one by one")
    return Columns(la, lb, ld, ta, tb, 1 if most is None else m.c.sizes[most], exchanged, starts)


def _turned(v: View) -> View:
    last = lambda t: (*t[:-2], t[-1], t[-2])  # noqa: E731
    return View(v.buffer, v.dtype, last(v.sizes), last(v.strides), v.offset)


def _layout(v: View, stride: int) -> tuple[Layout, bool]:
    """How a matrix lies in memory by columns, and whether that is its transpose."""
    (m, n), (down, across) = v.sizes[-2:], v.strides[-2:]
    if (down == 1 or m == 1) and (n == 1 or across >= m):
        return Layout(m, n, across if n > 1 else m, stride), False
    if (across == 1 or n == 1) and (m == 1 or down >= n):
        return Layout(n, m, down if m > 1 else n, stride), True
    raise Refused(f"a matrix of strides {v.strides[-2:]}: neither its rows nor its columns are contiguous")


# ---------------------------------------------------------------- support


def check(m: Matmul) -> Columns:
    """The product in column-major form if cuBLASLt computes it, as far as can be told without a device.  Raises Refused."""
    a, b, c = m.a.dtype.name, m.b.dtype.name, m.c.dtype.name
    if a != b or c not in RESULTS.get(a, ()):
        raise Refused(f"a product of {a} and {b} stored as {c}")
    if m.epilogue not in EPILOGUES:
        raise Refused(f"no epilogue {m.epilogue!r}; there are {', '.join(filter(None, EPILOGUES))}")
    epilogue, form = EPILOGUES[m.epilogue], columns(m)
    if m.epilogue and a == "float64":
        raise Refused("epilogues are not computed in float64")
    if m.epilogue and (not form.exchanged or len(form.starts) > 1 or form.batch > 1 and (epilogue.aux or epilogue.bias == "write")):
        raise Refused("an epilogue needs one row-major result")
    if m.beta and m.epilogue.startswith("d"):
        raise Refused("the gradient of an activation is not added to what is there")
    return form


# ---------------------------------------------------------------- calls


class Result(ctypes.Structure):
    """cublasLtMatmulHeuristicResult_t."""

    _fields_ = [("algorithm", c_uint64 * 8), ("workspace", c_size_t), ("state", c_int), ("waves", c_float), ("reserved", c_int * 4)]


class CublasLt:
    """The library on one device, whose context is current on the threads that call it."""

    def __init__(self) -> None:
        self.c = loading.library("cublaslt", PROTOTYPES)
        self.version = version(self.c)
        self.handle = self.made("cublasLtCreate")

    def run(self, function: str, *arguments: Any) -> None:
        status = getattr(self.c, function)(*arguments)
        if status:
            raise LibraryError("cublaslt", status, f"{function}: {self.c.cublasLtGetStatusString(status).decode()}")

    def made(self, function: str, *arguments: Any) -> int:
        """The handle that a function makes."""
        out = c_void_p()
        self.run(function, addressof(out), *arguments)
        return out.value or 0

    def put(self, kind: str, descriptor: int, attribute: int, value: Any) -> None:
        self.run(f"cublasLt{kind}SetAttribute", descriptor, attribute, addressof(value), sizeof(value))


def version(c: Any) -> str:
    n = c.cublasLtGetVersion()
    return f"{n // 10000}.{n // 100 % 100}" if n >= 100000 else f"{n // 1000}.{n // 100 % 10}"


def aligned(label: str, by: int, **addresses: int) -> None:
    """Raises ValueError for an address that is 0, or not divisible by `by`."""
    for name, address in addresses.items():
        if not address or address % by:
            raise ValueError(f"{label}: the address of {name} is {address:#x}, expected one divisible by {by}")


def built_for(c: Any) -> int:
    """The major version of CUDA that the library needs."""
    return int(version(c).split(".")[0])


class MatmulCall:
    """A product ready to be queued.  The first call loads its kernel: make it outside of a capture.

    label: what runs, for people.  workspace_bytes: device memory that a call uses while it runs.  aux_shape: rows and leading
    dimension (elements, of a mask: bits) of the epilogue's matrix.
    """

    def __init__(self, lt: CublasLt, m: Matmul, choice: Choice):
        self.lt, self.m, self.form, self.epilogue = lt, m, check(m), EPILOGUES[m.epilogue]
        self._lock = locks.rlock()
        self.size, self.result_size = m.a.dtype.size, m.c.dtype.size
        self.alignment = choice.alignment
        double = m.compute.name == "float64"
        compute = COMPUTE_64F if double else COMPUTE_TF32 if choice.tf32 and m.a.dtype.name == "float32" else COMPUTE_32F
        scale = ctypes.c_double if double else c_float
        self.alpha, self.beta = scale(m.alpha), scale(m.beta)
        self.descriptor = lt.made("cublasLtMatmulDescCreate", compute, DATA["float64" if double else "float32"])
        self._describe()
        f, a, c = self.form, DATA[m.a.dtype.name], DATA[m.c.dtype.name]
        self.a, self.b, self.d = (self._matrix(kind, x) for kind, x in ((a, f.a), (a, f.b), (c, f.d)))
        self.algorithm, self.workspace_bytes = self._chosen(choice.workspace)
        self.label = self._label("tf32" if compute == COMPUTE_TF32 else m.a.dtype.code)

    def _describe(self) -> None:
        f, put = self.form, lambda attribute, value: self.lt.put("MatmulDesc", self.descriptor, attribute, value)
        put(TRANSA, c_int32(f.transpose_a))
        put(TRANSB, c_int32(f.transpose_b))
        put(EPILOGUE, c_uint32(self.epilogue.number))
        if self.epilogue.bias:
            put(BIAS, c_void_p(self.alignment))  # what its alignment will be
            put(BIAS_STRIDE, c_int64(0))
        self.aux_shape = None
        if self.epilogue.aux:
            by = 128 if "mask" in self.epilogue.aux else 8
            self.aux_shape = (f.d.columns, -(-f.d.rows // by) * by)
            put(AUX, c_void_p(self.alignment))
            put(AUX_LD, c_int64(self.aux_shape[1]))

    @property
    def aux_bytes(self) -> int:
        """Of the matrix that an epilogue with "+mask" or "+input" writes and its gradient reads."""
        if self.aux_shape is None:
            return 0
        elements = self.aux_shape[0] * self.aux_shape[1]
        return elements // 8 if "mask" in self.epilogue.aux else elements * self.result_size

    def _matrix(self, kind: int, x: Layout) -> int:
        made = self.lt.made("cublasLtMatrixLayoutCreate", kind, x.rows, x.columns, x.ld)
        if self.form.batch > 1:
            self.lt.put("MatrixLayout", made, BATCH_COUNT, c_int32(self.form.batch))
            self.lt.put("MatrixLayout", made, BATCH_STRIDE, c_int64(x.stride))
        return made

    def _chosen(self, limit: int) -> tuple[Any, int]:
        """The library's first choice among algorithms within `limit` bytes of workspace."""
        lt = self.lt
        preference = lt.made("cublasLtMatmulPreferenceCreate")
        try:
            put = lambda attribute, value: lt.put("MatmulPreference", preference, attribute, value)  # noqa: E731
            put(WORKSPACE_BYTES, c_uint64(limit))
            if self.m.c.dtype.size == 2:
                put(REDUCTIONS, c_uint32(IN_COMPUTE_TYPE))
            for attribute, n in zip(ALIGNMENTS, self._alignments()):
                put(attribute, c_uint32(n))
            found, count = (Result * 1)(), c_int()
            arguments = (self.descriptor, self.a, self.b, self.d, self.d, preference, 1, addressof(found), addressof(count))
            try:
                lt.run("cublasLtMatmulAlgoGetHeuristic", lt.handle, *arguments)
            except LibraryError as error:
                raise Refused(f"cuBLASLt has no algorithm for this product ({error.text})") from error
            if not count.value or found[0].state:
                raise Refused("cuBLASLt has no algorithm for this product")
            return found[0].algorithm, found[0].workspace
        finally:
            lt.run("cublasLtMatmulPreferenceDestroy", preference)

    def _alignments(self) -> tuple[int, int, int, int]:
        """Bytes by which all starts of a, b, c and d are divisible, if the addresses are by `alignment`."""
        a, b, d = (gcd(self.alignment, *[s[i] * size for s in self.form.starts])
                   for i, size in enumerate((self.size, self.size, self.result_size)))
        return a, b, d, d

    def _label(self, kind: str) -> str:
        m = self.m
        (rows, k), n = m.a.sizes[-2:], m.b.sizes[-1]
        times = f" x{self.form.batch}" if self.form.batch > 1 else ""
        calls = f" in {len(self.form.starts)} calls" if len(self.form.starts) > 1 else ""
        flags = "".join("nt"[t] for t in (self.form.transpose_b, self.form.transpose_a) if self.form.exchanged) or "column-major"
        return f"cuBLASLt {self.lt.version} {kind} {rows}x{n}x{k}{times} {flags}{' ' + m.epilogue if m.epilogue else ''}{calls}"

    def enqueue(self, stream: int, a: int, b: int, c: int, *, workspace: int = 0, bias: int = 0, aux: int = 0, add: int = 0) -> None:
        """Queues the product: addresses of the arrays that the views a, b and c lie in; nothing is allocated or waited for.

        workspace: `workspace_bytes` of device memory.  bias, aux: what the epilogue reads or writes.  add: what `beta` multiplies,
        laid out like c; c itself where it is not given.
        Raises ValueError on an address that is missing or not aligned as promised, LibraryError.
        """
        aligned(self.label, self.alignment, a=a, b=b, c=c, **({"bias": bias} if self.epilogue.bias else {}),
                **({"aux": aux} if self.epilogue.aux else {}), **({"add": add} if add else {}))
        if self.workspace_bytes:
            aligned(self.label, WORKSPACE_ALIGNMENT, workspace=workspace)
        first, second = (b, a) if self.form.exchanged else (a, b)
        with self._lock:
            if self.epilogue.bias:
                self.lt.put("MatmulDesc", self.descriptor, BIAS, c_void_p(bias))
            if self.epilogue.aux:
                self.lt.put("MatmulDesc", self.descriptor, AUX, c_void_p(aux))
            for x, y, z in self.form.starts:
                added, out = ((at or c) + z * self.result_size for at in (add, c))
                self.lt.run("cublasLtMatmul", self.lt.handle, self.descriptor, addressof(self.alpha), first + x * self.size, self.a,
                            second + y * self.size, self.b, addressof(self.beta), added, self.d, out, self.d, addressof(self.algorithm),
                            workspace, self.workspace_bytes, stream)

    def __del__(self) -> None:
        for kind, name in (("MatmulDesc", "descriptor"), ("MatrixLayout", "a"), ("MatrixLayout", "b"), ("MatrixLayout", "d")):
            if name in self.__dict__:
                getattr(self.lt.c, f"cublasLt{kind}Destroy")(self.__dict__[name])
