"""The memories of an emulated device: bytes, and for each byte whether it is allocated and whether it was written.

Region is what instructions load from and store to; Memory is the device's global memory with its allocations. Real memory is taken only
where it is touched, so a device may claim many GiB. Place: below `access`, above nothing.
"""
from __future__ import annotations

import mmap
from bisect import bisect_right, insort
from dataclasses import dataclass

import numpy as np

ABSENT, EMPTY, WRITTEN = 0, 1, 3   # state of a byte: not allocated, never written, written
GLOBAL, SHARED, LOCAL = 0x0A00_0000_0000, 0x0B00_0000_0000, 0x0C00_0000_0000  # bases of the generic address windows
DEVICE_STRIDE = 1 << 36            # global windows of several devices stand this far apart
_ALIGN, _GAP = 512, 512            # of allocations; the gap catches accesses just past the end


def _lazy(nbytes: int) -> np.ndarray:
    """Zero bytes that cost real memory only where they are touched."""
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | getattr(mmap, "MAP_NORESERVE", 0)
    return np.frombuffer(mmap.mmap(-1, max(nbytes, mmap.PAGESIZE), flags=flags), np.uint8)


class Region:
    """`size` bytes of data with their states; `views[dtype]` is the data as an array of a dtype."""

    def __init__(self, size: int, data: np.ndarray, state: np.ndarray) -> None:
        self.size, self.data, self.state = size, data, state
        self._views: dict[np.dtype, np.ndarray] = {}
        self._marks: dict[int, np.ndarray] = {}

    def view(self, dtype: np.dtype) -> np.ndarray:
        found = self._views.get(dtype)
        if found is None:
            found = self._views[dtype] = self.data[:self.data.size // dtype.itemsize * dtype.itemsize].view(dtype)
        return found

    def mark(self, at: np.ndarray, width: int, state: int = WRITTEN) -> None:
        """The `width` bytes (1, 2, 4, 8 or 16) at each offset (a multiple of width) are written, or in another state."""
        unit = min(width, 8)
        states = self._marks.get(unit)
        if states is None:
            states = self._marks[unit] = self.state[:self.state.size // unit * unit].view(f"u{unit}")
        value = int.from_bytes(bytes([state]) * unit, "little")
        where = at // unit
        states[where] = value
        if width == 16:
            states[where + 1] = value


def scratch(size: int) -> Region:
    """Shared or local memory of a batch: all of it exists, nothing is written."""
    return Region(size, np.zeros(size, np.uint8), np.full(size, EMPTY, np.uint8))


@dataclass(frozen=True)
class Allocation:
    address: int
    nbytes: int


class Memory(Region):
    """Global memory of a device. Offsets count from `base`; addresses are base + offset. free space is what remains of `capacity`."""

    def __init__(self, capacity: int = 1 << 30, base: int = GLOBAL) -> None:
        self.capacity, self.base, self.used = capacity, base, 0
        size = capacity + capacity // 4 + (1 << 20)  # room for the gaps
        super().__init__(size, _lazy(size + 64), _lazy(size + 64))
        self.owners = _lazy(0)                       # int32 a granule, for the search of races; made on first use
        self._starts: list[int] = []
        self._allocations: dict[int, Allocation] = {}
        self._free: list[tuple[int, int]] = [(_ALIGN, size - _ALIGN)]  # (offset, bytes), sorted, merged

    def end(self) -> None:
        """Lets go of the bytes."""
        self.size = 0
        self.data = self.state = self.owners = np.zeros(0, np.uint8)
        self._views.clear()
        self._marks.clear()

    def allocate(self, nbytes: int) -> int:
        """An address, a multiple of 512. Raises MemoryError when capacity or room is exhausted."""
        if nbytes <= 0:
            raise ValueError(f"allocation of {nbytes} bytes")
        room = -(-nbytes // _ALIGN) * _ALIGN + _GAP
        place = next((i for i, (_, n) in enumerate(self._free) if n >= room), None)
        if place is None or self.used + nbytes > self.capacity:
            raise MemoryError(f"{nbytes} bytes asked, {self.capacity - self.used} of {self.capacity} free")
        at, n = self._free.pop(place)
        if n > room:
            self._free.insert(place, (at + room, n - room))
        self.state[at:at + nbytes] = EMPTY
        self.used += nbytes
        address = self.base + at
        insort(self._starts, address)
        self._allocations[address] = Allocation(address, nbytes)
        return address

    def free(self, address: int) -> None:
        """Raises ValueError if `address` is no live allocation."""
        found = self._allocations.pop(address, None)
        if found is None:
            raise ValueError(f"{address:#x} is not the start of an allocation")
        self._starts.remove(address)
        at = address - self.base
        self.state[at:at + found.nbytes] = ABSENT
        self.used -= found.nbytes
        insort(self._free, (at, -(-found.nbytes // _ALIGN) * _ALIGN + _GAP))
        merged: list[tuple[int, int]] = []
        for start, n in self._free:
            if merged and sum(merged[-1]) == start:
                merged[-1] = (merged[-1][0], merged[-1][1] + n)
            else:
                merged.append((start, n))
        self._free = merged

    def find(self, address: int) -> Allocation | None:
        """The live allocation that ends after, or starts nearest before, `address`."""
        i = bisect_right(self._starts, address)
        return self._allocations[self._starts[i - 1]] if i else None

    @property
    def allocations(self) -> list[Allocation]:
        return [self._allocations[a] for a in self._starts]

    def _range(self, address: int, nbytes: int) -> slice:
        at = address - self.base
        if at < 0 or at + nbytes > self.size or (nbytes and not self.state[at:at + nbytes].all()):
            raise ValueError(f"{nbytes} bytes at {address:#x} are not inside an allocation")
        return slice(at, at + nbytes)

    def write(self, address: int, values: np.ndarray | bytes) -> None:
        raw = np.frombuffer(values, np.uint8) if isinstance(values, bytes) else np.ascontiguousarray(values).reshape(-1).view(np.uint8)
        where = self._range(address, raw.size)
        self.data[where], self.state[where] = raw, WRITTEN

    def fill(self, address: int, byte: int, nbytes: int) -> None:
        where = self._range(address, nbytes)
        self.data[where], self.state[where] = byte, WRITTEN

    def copy(self, to: int, source: int, nbytes: int, other: Memory | None = None) -> None:
        """Device to device; never written bytes stay so."""
        other = other or self
        a, b = self._range(to, nbytes), other._range(source, nbytes)
        self.data[a], self.state[a] = other.data[b].copy(), other.state[b].copy()

    def read(self, address: int, dtype: np.typing.DTypeLike, shape: tuple[int, ...] | int) -> np.ndarray:
        """A copy of the values, whether written or not (see never_written)."""
        dtype = np.dtype(dtype)
        return self.data[self._range(address, int(np.prod(shape)) * dtype.itemsize)].copy().view(dtype).reshape(shape)

    def store(self, values: np.ndarray) -> int:
        """A new allocation that holds `values`."""
        address = self.allocate(max(values.nbytes, 1))
        self.write(address, values)
        return address

    def never_written(self, address: int, nbytes: int | None = None) -> np.ndarray:
        """Offsets from `address` of the bytes that nothing has written; nbytes: to the allocation's end."""
        found = self.find(address)
        if nbytes is None:
            if found is None:
                raise ValueError(f"{address:#x} is not inside an allocation")
            nbytes = found.address + found.nbytes - address
        return np.flatnonzero(self.state[self._range(address, nbytes)] != WRITTEN)

    def forget(self, address: int, nbytes: int | None = None) -> None:
        """Takes the bytes as never written, to see what the next launch writes or reads."""
        found = self.find(address)
        self.state[self._range(address, found.address + found.nbytes - address if nbytes is None else nbytes)] = EMPTY

    def owner_of(self) -> np.ndarray:
        if self.owners.size < 4 * self.size:
            self.owners = _lazy(4 * self.size)
        return self.owners.view(np.int32)
