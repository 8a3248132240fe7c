"""Compiling many kernels at once, in helper processes where that pays.

Knows: how many texts are worth a process, and the pipe protocol. Must not know: caches, addresses, what a
text says. Place: between `compile` and `backend`. Numba holds the GIL and one lock while it compiles, so
only processes help. They are started afresh, never forked: a fork of a process with threads can hang. A
helper costs about a second before its first kernel, as does the first compile here, so the two overlap.
Whatever goes wrong with a helper, its texts are compiled here.
"""

import os
import queue
import struct
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

_COLD, _WARM = 12, 60          # texts that are worth one helper, before and after Numba is imported here
_MOST = 8
_LENGTH = struct.Struct("<q")
_ROOT = Path(__file__).parents[2]
_COMMAND = "import sys; sys.path[:] = {path!r}; from graphflow.codegen import helpers; helpers.serve()"


def compile_many(sources: Sequence[str], workers: int | None = None) -> list[bytes]:
    """The object code of each text. `workers` (helper processes) is chosen by the number of texts."""
    count = _choose(len(sources)) if workers is None else workers
    work, results = queue.SimpleQueue(), {}
    for item in enumerate(sources):
        work.put(item)
    threads = [threading.Thread(target=_feed, args=(work, results), daemon=True) for _ in range(count)]
    for thread in threads:
        thread.start()
    _drain(work, results)
    for thread in threads:
        thread.join()
    return [results[k] if k in results else _compile_here(s) for k, s in enumerate(sources)]


def _choose(texts: int) -> int:
    spare = min(_MOST, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    return min(spare - 1, texts // (_WARM if "numba" in sys.modules else _COLD))


def _compile_here(source: str) -> bytes:
    from graphflow.codegen.backend import compile_object
    return compile_object(source)


def _drain(work: queue.SimpleQueue, results: dict) -> None:
    while True:
        try:
            number, source = work.get_nowait()
        except queue.Empty:
            return
        results[number] = _compile_here(source)


# ---- the parent's side of the pipe ------------------------------------------------------------------

def _feed(work: queue.SimpleQueue, results: dict) -> None:
    """Give texts to one helper, one at a time, until none is left. A lost text is compiled later, here."""
    try:
        with _start() as helper:
            if _receive(helper.stdout) != b"ready":
                return
            while True:
                number, source = work.get_nowait()
                _send(helper.stdin, source.encode())
                image = _receive(helper.stdout)
                if image:                                     # empty: it failed there, and will tell here
                    results[number] = image
    except (OSError, EOFError, queue.Empty):
        return


def _start() -> subprocess.Popen:
    path = [str(_ROOT), *(p for p in sys.path if p)]
    return subprocess.Popen([sys.executable, "-c", _COMMAND.format(path=path)], stdin=subprocess.PIPE,
                            stdout=subprocess.PIPE, stderr=subprocess.DEVNULL)


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
            image = b""
        _send(object_pipe, image)
