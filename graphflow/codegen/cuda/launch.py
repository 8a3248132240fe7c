"""A launch: kernel text and how it meets memory.  What `emit` and `gemm` make, and a device's plan binds (rank 4)."""
from __future__ import annotations

from dataclasses import dataclass, field
from typing import Callable

from ...types import Size
from ..ir import Buffer

LIMIT = 1 << 30  # elements; below it 32 bits leave room for the arithmetic of indices


@dataclass
class Many:
    """The text that does a launch's work for several launches of its kind at once: each block reads a record of int64 in a table.

    source: its parameters are the table, and the `cell` where it is guarded.
    sizes: what follows in a record after the addresses of the launch's buffers and the number of the block's first thread: the number of
    elements, then sizes and bits.  Without `lanes` the second is the number of the block in its own launch, and all are as the launch's.
    lanes: elements of a thread; what is left at the end is for threads of their own.  threads: of a block.
    """

    source: str
    sizes: list[Size]
    lanes: int
    threads: int

    def starts(self, first: int, grid: int) -> list[int]:
        """What the blocks begin with; `first`: the first of the values of `sizes`, `grid`: the blocks of the launch."""
        if not self.lanes:
            return list(range(grid))
        elements = first // self.lanes + first % self.lanes
        return list(range(0, elements, self.threads))


@dataclass
class Launch:
    """One kernel of a GPU.

    source: device text; its parameters are those of `buffers`, then the `cell` where it has one, then `sizes`, then `base` with a cell.
    buffers: what the pointers are, by what is in whose memory (aliases resolved).
    sizes: sizes of the plan, int32, or where they are longer than the letter says, bits.
    grid: blocks along x, y, z, in sizes.  threads: of a block.
    writes: the buffers it fills.
    checks: messages of its checks; number 1 is the first.  It notes `base + number` in the cell.
    wide: its indices have 64 bits.  widened: makes such a launch, for buffers of `LIMIT` elements or more.
    guarded: it changes nothing once a check of this run has failed: for kernels that write variables.
    many: its text for several at once that are alike but for how much they do.  Such neighbours of a plan become one launch where they
    do not meet; and so do small launches of equal text (see `device_text.alike`).
    flops: multiplications and additions of a product or attention; the first of several launches of a product has those of all.
    """

    source: str
    buffers: list[Buffer]
    sizes: list[Size]
    grid: tuple[Size, Size, Size]
    threads: int
    writes: tuple[Buffer, ...]
    checks: list[str] = field(default_factory=list)
    guarded: bool = False
    wide: bool = False
    widened: Callable[[], Launch] | None = field(default=None, metadata={"stored": False})
    many: Many | None = None
    flops: Size = 0

    @property
    def cell(self) -> bool:
        """Whether the kernel looks at the cell of failed checks."""
        return self.guarded or bool(self.checks)
