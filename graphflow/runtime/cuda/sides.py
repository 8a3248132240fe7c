"""What a plan has on one GPU: where its buffers lie there, memory for feeds and results, the cell of checks, the values of variables.

A plan has a side for each GPU that it runs kernels on.  Knows a device and buffers; knows no unit and no instruction (rank 4).
"""
from __future__ import annotations

from collections.abc import Mapping, Sequence

import numpy as np

from ...codegen import ir
from .device import Device

ALIGN = 256  # of buffers on a device: 128-bit accesses, whole cache lines


class Variable:
    """The value of a variable on a device (see `store.Mirror`)."""

    def __init__(self, device: Device, shape: tuple[int, ...], dtype: np.dtype):
        self.device, self.shape, self.dtype = device, shape, dtype
        self.nbytes = int(np.prod(shape, dtype=np.int64)) * dtype.itemsize
        self.address = device.allocate(max(self.nbytes, 1))
        self.ahead = "host"

    def pull(self, value: np.ndarray) -> None:
        self.device.copy_out(value, self.address)
        self.device.synchronize("reading a variable")
        self.ahead = ""

    def push(self, value: np.ndarray) -> None:
        if self.nbytes:
            self.device.copy_in(self.address, value)
        self.ahead = ""

    def fetch(self, other: Variable) -> None:
        """Takes the value from another GPU, which the caller orders with this one."""
        self.device.fetch(self.address, other.device, other.address, self.nbytes)
        self.ahead = other.ahead

    def drop(self) -> None:
        self.device.free(self.address)


class Side:
    """A GPU of a plan.

    name: what the session calls it.  used, made: buffers (the memory of others apart) that kernels use and make here.  there: addresses.
    blocks: of memory that end with the plan.  feeds, results: what lies in the boxes.
    """

    def __init__(self, name: str, device: Device):
        self.name, self.device = name, device
        self.used: set[ir.Buffer] = set()
        self.made: set[ir.Buffer] = set()
        self.there: dict[ir.Buffer, int] = {}
        self.mirrors: dict[ir.Buffer, Variable] = {}
        self.blocks: list[int] = []
        self.nbytes = 0  # of temporaries
        self.checked = False  # whether any kernel has checks
        self._workspace = 0, 0

    def take(self, nbytes: int) -> int:
        if nbytes:
            self.blocks.append(self.device.allocate(nbytes))
            return self.blocks[-1]
        return 0

    def constant(self, array: np.ndarray) -> int:
        address = self.take(max(array.nbytes, 1))
        if array.nbytes:
            self.device.copy_in(address, np.ascontiguousarray(array))
        return address

    def give_back(self, blocks: Sequence[int]) -> None:
        for address in blocks:
            self.blocks.remove(address)
            self.device.free(address)

    def release(self) -> None:
        while self.blocks:
            self.device.free(self.blocks.pop())

    def workspace(self, nbytes: int) -> int:
        """Memory that one call of a library after the other uses."""
        if nbytes > self._workspace[1]:
            self._workspace = self.take(nbytes), nbytes
        return self._workspace[0]

    # -- boxes: what comes in lies together, and so does what goes out, with the cell of checks before it

    def boxes(self, feeds: dict[ir.Buffer, int], results: dict[ir.Buffer, int]) -> None:
        """What will lie in them, of so many bytes each."""
        self.feeds, self.results = feeds, results
        self.feed_bytes, self.result_bytes = sum(feeds.values()), ALIGN + sum(results.values())

    def open_boxes(self, block: np.ndarray, places: Mapping[ir.Buffer, int]) -> None:
        """Their memory.  Feeds come from `places` of the host's `block`: neighbours there are neighbours here, one copy for all of them."""
        base, at, end = self.take(self.feed_bytes), 0, -1
        self.parcels: list[tuple[np.ndarray, int]] = []  # memory of the host, address
        for b, n in self.feeds.items():
            self.there[b] = base + at
            if places[b] != end:
                begin, start = places[b], at
                self.parcels.append((block, base))
            end, at = places[b] + n, at + n
            self.parcels[-1] = block[begin:end], base + start
        self.box, self.cell, at = self.device.pinned((self.result_bytes,), np.uint8), self.take(self.result_bytes), ALIGN
        for b, n in self.results.items():
            self.there[b] = self.cell + at
            at += n
        self.device.fill(self.cell, 0, at)  # the gaps between results are copied, too
        self.failed = self.box[:4].view(np.uint32)
        self.failed[0] = 0
