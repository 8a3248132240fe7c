"""Compiling many kernels at once, in helper processes where that pays.

Knows: how many texts are worth a process, and the pipe protocol. Must not know: caches, addresses, what a
text says. Place: between `compile` and `backend`. Numba holds the GIL and one lock while it compiles, so
only processes help. They are started afresh, never forked: a fork of a process with threads can hang. A
helper costs about a second before its first kernel, as does the first compile here, so the two overlap.
Whatever goes wrong with a helper, its texts are compiled here.
"""

import os
import struct
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from graphflow.flags import flags

_COLD, _WARM = 12, 60          # texts that are worth one helper, before and after Numba is imported here
_MOST = 8
_PATIENCE = 60.0               # seconds for one text
_LENGTH = struct.Struct("<q")
_ROOT = Path(__file__).parents[2]
_COMMAND = "import sys; sys.path[:] = {path!r}; from graphflow.codegen import helpers; helpers.serve()"


def compile_many(sources: Sequence[str], workers: int | None = None) -> list[bytes]:
    """The object code of each text. `workers` (helper processes) is chosen by the number of texts."""
    batch = _Batch(sources)
    for _ in range(_choose(len(sources)) if workers is None else workers):
        threading.Thread(target=_feed, args=(batch,), daemon=True).start()
    while (item := batch.take()) is not None:
        batch.images[item[0]] = _compile_here(item[1])
    batch.wait_for_helpers()
    return [batch.images.get(k) or _compile_here(source) for k, source in enumerate(sources)]


class _Batch:
    """Texts to compile, taken one at a time by whoever is free, and what came of them."""

    def __init__(self, sources: Sequence[str]) -> None:
        self._left, self._lock = list(enumerate(sources))[::-1], threading.Lock()
        self._lent, self._returned = 0, threading.Semaphore(0)
        self.images: dict[int, bytes] = {}

    def take(self) -> tuple[int, str] | None:
        with self._lock:
            return self._left.pop() if self._left else None

    def lend(self) -> tuple[int, str] | None:
        """`take` for a helper, which will `give_back`."""
        with self._lock:
            self._lent += bool(self._left)
            return self._left.pop() if self._left else None

    def give_back(self) -> None:
        self._returned.release()

    def wait_for_helpers(self) -> None:
        """Wait for the texts helpers hold, not for helpers that came too late; a stuck one is given up."""
        for _ in range(self._lent):
            if not self._returned.acquire(timeout=_PATIENCE):
                return


def _choose(texts: int) -> int:
    spare = min(_MOST, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    return min(spare - 1, texts // (_WARM if "numba" in sys.modules else _COLD))


def _compile_here(source: str) -> bytes:
    from graphflow.codegen.backend import compile_object
    return compile_object(source)


# ---- the parent's side of the pipe ------------------------------------------------------------------

def _feed(batch: _Batch) -> None:
    """Give texts to one helper, one at a time, until none is left."""
    try:
        with _start() as helper:
            if _receive(helper.stdout) != b"ready":
                return
            while (item := batch.lend()) is not None:
                try:
                    _send(helper.stdin, item[1].encode())
                    batch.images[item[0]] = _receive(helper.stdout)
                finally:
                    batch.give_back()
    except (OSError, EOFError):                               # lost texts are compiled in compile_many
        return


def _start() -> subprocess.Popen:
    path = [str(_ROOT), *(p for p in sys.path if p)]
    return subprocess.Popen([sys.executable, "-c", _COMMAND.format(path=path)], stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL,
                            env={**os.environ, "GRAPHFLOW_ISA": flags.isa})


def _send(pipe, content: bytes) -> None:
    pipe.write(_LENGTH.pack(len(content)) + content)
    pipe.flush()


def _receive(pipe) -> bytes:
    head = pipe.read(_LENGTH.size)
    if len(head) < _LENGTH.size:
        raise EOFError
    length = _LENGTH.unpack(head)[0]
    content = pipe.read(length)
    if len(content) < length:
        raise EOFError
    return content


# ---- the helper's side ------------------------------------------------------------------------------

def serve() -> None:
    """Read texts from stdin and write object code to stdout until stdin closes."""
    source_pipe, object_pipe = sys.stdin.buffer, os.fdopen(os.dup(1), "wb")
    os.dup2(2, 1)                                             # nothing else may print into the pipe
    from graphflow.codegen.backend import compile_object
    _send(object_pipe, b"ready")
    while True:
        try:
            source = _receive(source_pipe).decode()
        except EOFError:
            return
        try:
            image = compile_object(source)
        except Exception:
            image = b""                                       # it fails again in the parent, and tells there
        _send(object_pipe, image)
