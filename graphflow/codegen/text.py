"""Kernel texts that are put together by hand around what the emitter writes: loops over flattened axes, calls by address.

Knows the emitter's spelling; knows no op and no algorithm (rank 4).
"""
from __future__ import annotations

from typing import Mapping, Sequence

from .. import types
from ..types import Size
from . import ir, schedule
from .emit_cpu import Emitted, _Emitter
from .ir import Axis, Buffer, Expr, Kernel


class Text(_Emitter):
    """A kernel text that is put together here: sizes are parameters, so that one text serves many shapes."""

    def __init__(self, label: str, buffers: Sequence[Buffer], then: Kernel | None = None, alias: Mapping[Buffer, Buffer] | None = None):
        kernel = Kernel(label, tuple(dict.fromkeys(buffers)), then.stages if then else (), then.outer if then else ())
        super().__init__(schedule.rows_of(kernel), dict(alias or {}))
        self.label = label
        self.window: dict[Axis, tuple[str, str]] = {}
        self.in_places: dict[Size, str] = {}
        stages = then.stages if then else ()
        for number, a in enumerate(dict.fromkeys([*(then.outer if then else ()), *[x for t in stages for x in t.axes]])):
            object.__setattr__(a, "name", f"i{number}n")

    def kernel_label(self) -> str:
        return self.label if not self.kernel.stages else f"{self.label} {super().kernel_label()}"

    def size(self, n: Size) -> str:
        """A parameter of its own for each place: which sizes are equal, or 1, must not show in the text."""
        name = f"s{len(self.sizes)}"
        self.sizes[n, name] = name  # type: ignore[index]
        return name

    def _found(self, e: Expr) -> str | None:
        if e.op not in ("const", "size") or e.dtype is not types.int64:
            return super()._found(e)
        if isinstance(e.data, int) and -1 <= e.data <= 1:
            return str(e.data)
        if e.data not in self.in_places:
            self.in_places[e.data] = self.size(e.data)
        return self.in_places[e.data]

    def call(self, source: str) -> str:
        """The name of another kernel's address."""
        return self.calls.setdefault(source, f"f{len(self.calls)}")

    def loop(self, a: Axis, start: str = "0") -> None:
        if a in self.window:
            first, last = self.window[a]
            self.open(f"for {a.name} in range({first}, {last}):")
            self.level[a], self.axis_name[a] = len(self.stack) - 1, a.name
        else:
            super().loop(a, start)

    def loop_named(self, a: Axis | None, name: str, start: str, stop: str) -> None:
        self.open(f"for {name} in range({start}, {stop}):")
        if a is not None:
            self.bind(a, name)

    def bind(self, a: Axis, name: str) -> None:
        self.level[a], self.axis_name[a] = len(self.stack) - 1, name

    def unflatten(self, axes: Sequence[Axis], flat: str) -> None:
        """Names the axes of which `flat` is the row-major position."""
        for k, a in enumerate(reversed(axes)):
            if k == len(axes) - 1:
                self.bind(a, flat)
            else:
                name, rest = self.name(), self.name()
                self.line(f"{name} = {flat} % {self.size(a.extent)}")
                self.line(f"{rest} = {flat} // {self.size(a.extent)}")
                self.bind(a, name)
                flat = rest

    def counting(self, axes: Sequence[Axis], name: str, start: str, stop: str) -> list[str]:
        """Opens a loop over positions in the product of `axes`; returns the lines that belong at its end."""
        if len(axes) <= 1:
            self.open(f"for {name} in range({start}, {stop}):")
            for a in axes:
                self.bind(a, name)
            return []
        names, rest = [], start
        for k, a in enumerate(reversed(axes)):
            n = self.name()
            names.insert(0, n)
            if k == len(axes) - 1:
                self.line(f"{n} = {rest} + 0")
            else:
                self.line(f"{n} = {rest} % {self.size(a.extent)}")
                r = self.name()
                self.line(f"{r} = {rest} // {self.size(a.extent)}")
                rest = r
        self.open(f"for {name} in range({start}, {stop}):")
        for a, n in zip(axes, names):
            self.bind(a, n)
        lines, indent = [], ""
        for k in range(len(axes) - 1, 0, -1):
            lines += [f"{indent}{names[k]} = {names[k]} + 1", f"{indent}if {names[k]} == {self.size(axes[k].extent)}:",
                      f"{indent}    {names[k]} = 0"]
            indent += "    "
        return [*lines, f"{indent}{names[0]} = {names[0]} + 1"]

    def end(self, lines: Sequence[str] = ()) -> None:
        for text in lines:
            self.line(text)
        self.close()

    def at(self, e: Expr, a: Axis, name: str) -> str:
        """The value of `e` where axis `a` has the value called `name`."""
        place = Axis(a.extent)
        self.bind(place, name)
        return self.value(ir.substitute(e, {a: ir.axis(place)}))

    def finish(self, extent: Size, work: Size, writes: Sequence[Buffer], flops: Size = 0) -> Emitted:
        self.line("return bad")
        self.stack[0].items.insert(0, "bad = 0")
        sizes = [*[n for n, _ in self.sizes], *[bits for _, bits in self.parameters.values()]]  # type: ignore[misc]
        return Emitted(self._text(), self.buffers, sizes, extent, work, list(self.checks), False, flops, tuple(self.calls), tuple(writes))
