"""What a library is asked for, as data: strided views of arrays, matrix products and convolutions of them (rank 4)."""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any, Iterable, Mapping

from .... import types
from ....types import DType, Size
from ...ir import Buffer

Number = Any  # a Size; an int once bound


@dataclass(frozen=True)
class View:
    """Elements of an array: (i0, i1, ...) lies `offset + i0 * strides[0] + ...` elements after its start.

    buffer: which array; None for the result of the contraction.
    """

    buffer: Buffer | None
    dtype: DType
    sizes: tuple[Number, ...]
    strides: tuple[Number, ...]
    offset: Number = 0

    def bind(self, env: Mapping[str, int]) -> View:
        start, = _numbers([self.offset], env)
        return replace(self, sizes=_numbers(self.sizes, env), strides=_numbers(self.strides, env), offset=start)


@dataclass(frozen=True)
class Matmul:
    """c[..., i, j] = alpha * sum_r a[..., i, r] * b[..., r, j] + beta * c[..., i, j], then the epilogue.

    Leading axes of the three views are batches (stride 0: broadcast).  `epilogue`: names of runtime.cuda.libraries.EPILOGUES.
    """

    a: View
    b: View
    c: View
    compute: DType
    alpha: float = 1.0
    beta: float = 0.0
    epilogue: str = ""

    def bind(self, env: Mapping[str, int]) -> Matmul:
        return replace(self, a=self.a.bind(env), b=self.b.bind(env), c=self.c.bind(env))

    @property
    def reads(self) -> tuple[Buffer | None, Buffer | None]:
        """The buffers whose addresses a call takes, before that of the result."""
        return self.a.buffer, self.b.buffer


@dataclass(frozen=True)
class Convolution:
    """A convolution (cross-correlation) or one of its gradients; `kind` says which of the three views is the result.

    y[n, k, o] = sum over channels c of k's group and taps t of x[n, c, o * strides + t * dilations - pads[0]] * w[k, c, t]

    kind: "forward" gives y, "data" gives x from w and y, "filter" gives w from x and y.
    x: [n, c, *spatial]; w: [k, c / groups, *taps]; y: [n, k, *windows], each with any strides.
    pads: (before, after) per spatial axis.
    """

    kind: str
    x: View
    w: View
    y: View
    pads: tuple[tuple[Number, Number], ...]
    strides: tuple[int, ...]
    dilations: tuple[int, ...]
    groups: int
    compute: DType
    epilogue: str = ""

    def bind(self, env: Mapping[str, int]) -> Convolution:
        pads = tuple(_numbers(p, env) for p in self.pads)
        return replace(self, x=self.x.bind(env), w=self.w.bind(env), y=self.y.bind(env), pads=pads)

    @property
    def result(self) -> View:
        return {"forward": self.y, "data": self.x, "filter": self.w}[self.kind]

    @property
    def operands(self) -> tuple[View, View]:
        """What is read, in the order of a call's addresses: (x, w), (w, y) or (x, y)."""
        return {"forward": (self.x, self.w), "data": (self.w, self.y), "filter": (self.x, self.y)}[self.kind]

    @property
    def reads(self) -> tuple[Buffer | None, Buffer | None]:
        first, second = self.operands
        return first.buffer, second.buffer


def _numbers(sizes: Iterable[Size], env: Mapping[str, int]) -> tuple:
    return tuple(types.evaluate(s, dict(env)) for s in sizes)
