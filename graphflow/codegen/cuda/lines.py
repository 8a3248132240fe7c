"""Device text written line by line, for launches that no Kernel IR describes (rank 4)."""
from __future__ import annotations

from typing import Mapping, Sequence

from ...types import Size
from ..ir import Buffer
from .launch import Launch


class Lines:
    """The lines of one launch over `buffers`; `long`: indices have 64 bits."""

    def __init__(self, buffers: Sequence[Buffer], long: bool):
        self.buffers, self.long = list(dict.fromkeys(buffers)), long
        self.lines: list[str] = []
        self.depth = 1

    def of(self, b: Buffer) -> int:
        """The number of a buffer's pointer."""
        return self.buffers.index(b)

    def index(self, text: str) -> str:
        return f"to_i64({text})" if self.long else text

    def line(self, *texts: str) -> None:
        self.lines += ["    " * self.depth + s for s in texts]

    def open(self, header: str, *texts: str) -> None:
        self.line(header)
        self.depth += 1
        self.line(*texts)

    def close(self, count: int = 1) -> None:
        self.depth -= count

    def load(self, b: Buffer, at: str) -> str:
        return f"ld_{b.dtype.code}(p{self.of(b)}, {at}, {self.of(b)})"

    def store(self, b: Buffer, at: str, value: str) -> None:
        self.line(f"st_{b.dtype.code}(p{self.of(b)}, {at}, {value}, {self.of(b)})")

    def launch(self, label: str, sizes: Mapping[str, Size], grid: Size, threads: int, writes: Sequence[Buffer],
               checks: Sequence[str] = (), head: Sequence[str] = (), short: bool = False) -> Launch:
        """sizes: of the plan, by their names in the text, where they have 32 bits if they are `short`.  checks: messages; the text says
        `bad = n` for the n-th, from `bad = 0` on."""
        if short and self.long:
            self.lines = [*[f"    {name} = to_i32({name}l)" for name in sizes], *self.lines]
            sizes = {f"{name}l": n for name, n in sizes.items()}
        kinds = "p" * (len(self.buffers) + bool(checks)) + ("l" if self.long else "i") * len(sizes) + "i" * bool(checks)
        names = [*[f"p{i}" for i in range(len(self.buffers))], *["cell"] * bool(checks), *sizes, *["base"] * bool(checks)]
        lines = [*["    bad = 0"] * bool(checks), *self.lines, *["    if bad > 0:", "        fail(cell, base + bad)"] * bool(checks)]
        source = "\n".join([f"# {label}", f"#: {kinds} {threads}", *head, f"def kernel({', '.join(names)}):", *lines]) + "\n"
        return Launch(source, self.buffers, list(sizes.values()), (grid, 1, 1), threads, tuple(writes), list(checks), wide=self.long)
