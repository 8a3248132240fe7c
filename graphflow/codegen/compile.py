"""Kernel texts -> addresses: memory first, then disk, then the compiler.

Knows: the order of the caches, what makes object code stale, the promise not to compile. Must not know:
what kernel text says, Numba (imported only through `backend`, on a miss), plans. Place: the session hands
in the texts of a plan and writes the addresses into its instructions; the runner compiles itself here.

With everything on disk Numba is never imported: 0.15 ms a kernel after 25 ms of start-up.
"""

import hashlib
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from functools import cache
from pathlib import Path

from graphflow import locks
from graphflow.codegen import helpers
from graphflow.codegen.cache import ObjectCache
from graphflow.codegen.target import ABI, identity, linker, per_isa
from graphflow.flags import flags

_WORDS = ("intrinsics.py", "machine.py", "backend.py", "translate.py", "vecmath*.py")     # what a text means depends on them


@per_isa
def _meaning() -> bytes:
    """Everything a key covers besides the text itself."""
    here, digest = Path(__file__).parent, hashlib.sha256(identity().encode())
    for file in (found for pattern in _WORDS for found in sorted(here.glob(pattern))):
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.digest()


def object_key(source: str) -> str:
    """Name of the object code of a text on this machine: hex sha256. Does not import Numba."""
    return hashlib.sha256(_meaning() + source.encode()).hexdigest()


class KernelStore:
    """Addresses of compiled kernels. One a process is enough; tests make their own."""

    def __init__(self, disk: ObjectCache | None = None) -> None:
        self.disk = disk if disk is not None else ObjectCache(abi=ABI)
        self._addresses: dict[tuple[str, str], int] = {}               # by instruction set and text
        self._lock = locks.rlock()
        self._begun: set[tuple[str, str]] = set()
        self.stats = {"compiled": 0, "disk_hits": 0, "memory_hits": 0, "compile_seconds": 0.0, "link_seconds": 0.0}

    def compile(self, sources: Sequence[str]) -> list[int]:
        """Addresses of the texts, in order. Raises RuntimeError inside `no_recompile()` for a new text."""
        with self._lock:
            isa = flags.isa
            new = [s for s in dict.fromkeys(sources) if (isa, s) not in self._addresses]
            self.stats["memory_hits"] += len(sources) - len(new)
            for source, image in self._images(new):
                self._addresses[isa, source] = self._link(image, source)
            return [self._addresses[isa, s] for s in sources]

    def begin(self, source: str) -> None:
        """A text that `compile` will be asked for soon: helper processes may start on it."""
        known = (flags.isa, source)
        if _forbidden.depth or known in self._addresses or known in self._begun:
            return
        self._begun.add(known)
        if not self.disk.path(object_key(source)).exists():
            helpers.begin(source)

    def _images(self, sources: list[str]) -> Iterator[tuple[str, bytes]]:
        """(text, object code) from disk where it is, compiled where it is not."""
        missing = []
        for source in sources:
            image = self.disk.load(object_key(source))
            if image is None:
                missing.append(source)
                continue
            self.stats["disk_hits"] += 1
            yield source, image
        if missing:
            yield from self._compile_new(missing)

    def _compile_new(self, sources: list[str]) -> Iterator[tuple[str, bytes]]:
        if _forbidden.depth:
            raise RuntimeError(f"inside no_recompile(): {len(sources)} kernel(s) would have to be compiled, "
                               f"the first is {label(sources[0])}")
        start = time.perf_counter()
        images = helpers.compile_many(sources)
        self.stats["compile_seconds"] += time.perf_counter() - start
        self.stats["compiled"] += len(sources)
        for source, image in zip(sources, images):
            self.disk.store(object_key(source), image, source)
            yield source, image

    def _link(self, image: bytes, source: str) -> int:
        start = time.perf_counter()
        address = linker().link(image, label(source))
        self.stats["link_seconds"] += time.perf_counter() - start
        return address


def is_forbidden() -> bool:
    """Whether this thread is inside `no_recompile()`."""
    return _forbidden.depth > 0


class _Forbidden(threading.local):
    depth = 0


_forbidden = _Forbidden()


@contextmanager
def no_recompile():
    """Inside, on this thread, a text that is neither in memory nor on disk raises RuntimeError."""
    _forbidden.depth += 1
    try:
        yield
    finally:
        _forbidden.depth -= 1


def label(source: str) -> str:
    """What a message calls a text: its first comment line, or else its key."""
    first = source.lstrip().split("\n", 1)[0]
    return first.lstrip("#; ") if first[:1] in ("#", ";") else object_key(source)[:16]


@cache
def default_store() -> KernelStore:
    """The store every Session of this process shares."""
    return KernelStore()


def compile_kernels(sources: Sequence[str]) -> list[int]:
    """Addresses of kernel texts, in order; the same text is compiled once. Safe from any thread."""
    return default_store().compile(sources)


def begin(source: str) -> None:
    """See `KernelStore.begin`."""
    default_store().begin(source)


def stats() -> dict:
    """Counters since the start: compiled, disk_hits, memory_hits, compile_seconds, link_seconds."""
    return dict(default_store().stats)
