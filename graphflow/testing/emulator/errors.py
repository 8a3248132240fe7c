"""What the emulator reports: one class a kind of defect, each with kernel, PTX line, block and thread.

Knows: nothing of instructions. Place: raised by every module of the emulator, exported by `graphflow.testing.ptx`.
"""
from __future__ import annotations


class EmulationError(Exception):
    """A defect found in a kernel, or a kernel the emulator cannot run.

    Attributes: what (the sentence), kernel, line (1-based, in the PTX text), instruction (its text), block and thread (x, y, z) or None.
    """

    def __init__(self, what: str, *, kernel: str = "", line: int = 0, instruction: str = "",
                 block: tuple[int, int, int] | None = None, thread: tuple[int, int, int] | None = None) -> None:
        self.what, self.kernel, self.line, self.instruction, self.block, self.thread = what, kernel, line, instruction, block, thread
        place = [f"kernel {kernel}" * bool(kernel), f"PTX line {line}: {instruction}" * bool(line),
                 f"block {block}, thread {thread}" * (thread is not None)]
        super().__init__("\n  ".join([what, *filter(None, place)]))


class SyntaxFault(EmulationError):
    """The text is not PTX as the parser knows it."""


class Unsupported(EmulationError):
    """An instruction or a modifier that the emulator does not model."""


class LaunchFault(EmulationError):
    """Grid, block, shared memory or arguments do not fit the kernel."""


class OutOfBounds(EmulationError):
    """An access outside an allocation, a shared array or a thread's local memory."""


class Misaligned(EmulationError):
    """An address that is no multiple of the access's size."""


class UninitializedRead(EmulationError):
    """A load of bytes that nothing has written."""


class SharedRace(EmulationError):
    """Two threads of a block touch a shared address with no barrier between them, and one of them writes."""


class GlobalRace(EmulationError):
    """Two threads of a launch touch a global address unordered, and one of them writes."""


class BarrierFault(EmulationError):
    """Threads of one block wait at different barriers, or some have exited."""


class InactiveLane(EmulationError):
    """A warp instruction reads from, or waits for, a lane that does not take part."""


class StepLimit(EmulationError):
    """The kernel did not end within the limit of steps."""
