"""Compiling many kernels at once, in helper processes where that pays.

Knows: how much work is worth a process, and the pipe protocol. Must not know: caches, addresses, what a
text says. Place: between `compile` and `backend`. Numba holds the GIL and one lock while it compiles, so
only processes help. They are started afresh, never forked: a fork of a process with threads can hang. A
helper costs about a second before its first kernel and stays for the next program; what `begin` hands over
is compiled while the caller still writes other texts. Whatever goes wrong with a helper, its texts are
compiled here.
"""

import os
import struct
import subprocess
import sys
import threading
from collections.abc import Sequence
from pathlib import Path

from graphflow.flags import flags

_LINE = 0.0025                 # seconds that a line of text takes to compile, about
_WORTH = 1.0                   # seconds of work for each process that make another one worth its start
_MOST = 8
_PATIENCE = 60.0               # seconds for one text
_IDLE = 60.0                   # seconds after which a helper that nobody needs ends
_LENGTH = struct.Struct("<q")
_ROOT = Path(__file__).parents[2]
_COMMAND = "import sys; sys.path[:] = {path!r}; from graphflow.codegen import helpers; helpers.serve()"

Item = tuple[str, str]         # the instruction set and a text


def begin(source: str) -> None:
    """Lets helpers compile a text that `compile_many` will be asked for soon, if there is enough to do for one."""
    with _work.changed:
        _work.add([(flags.isa, source)])
        _work.hire()


def compile_many(sources: Sequence[str], workers: int | None = None) -> list[bytes]:
    """The object code of each text. `workers` (helper processes) is chosen by the amount of work."""
    mine = list(dict.fromkeys((flags.isa, s) for s in sources))
    with _work.changed:
        _work.add(mine)
        _work.hire(workers)
    while (item := _work.take(mine)) is not None:
        _work.put(item, _compile_here(item[1]))
    found = _work.results(mine)
    return [found.get((flags.isa, s)) or _compile_here(s) for s in sources]


class _Work:
    """Texts to compile, taken one at a time, the longest first, by whoever is free, and what came of them."""

    def __init__(self) -> None:
        self.changed = threading.Condition()
        self.left: dict[Item, None] = {}
        self.lent: set[Item] = set()
        self.images: dict[Item, bytes] = {}
        self.helpers = self.free = 0

    def add(self, items: Sequence[Item]) -> None:
        new = [i for i in items if i not in self.images and i not in self.lent]
        self.left.update(dict.fromkeys(new))
        if new and self.free:
            self.changed.notify_all()

    def hire(self, workers: int | None = None) -> None:
        """Start helpers, if the work will keep them busy."""
        wanted = _choose(sum(len(source.splitlines()) for _, source in self.left)) if workers is None else workers
        while self.helpers < wanted:
            self.helpers += 1
            threading.Thread(target=_lead, args=(self,), name="graphflow-helper", daemon=True).start()

    def take(self, mine: Sequence[Item]) -> Item | None:
        """One of `mine` that nobody has."""
        with self.changed:
            item = max((i for i in mine if i in self.left), key=_length, default=None)
            if item is not None:
                del self.left[item]
            return item

    def lend(self) -> Item | None:
        """Any text, for a helper; None when none came for a long time."""
        with self.changed:
            self.free += 1
            ready = self.changed.wait_for(lambda: self.left, _IDLE)
            self.free -= 1
            if not ready:
                return None
            item = max(self.left, key=_length)
            del self.left[item]
            self.lent.add(item)
            return item

    def put(self, item: Item, image: bytes) -> None:
        with self.changed:
            self.lent.discard(item)
            self.images[item] = image
            self.changed.notify_all()

    def results(self, mine: Sequence[Item]) -> dict[Item, bytes]:
        """The images of `mine` that there are, once no helper works on any; a stuck one is given up."""
        with self.changed:
            while any(i in self.lent for i in mine):
                if not self.changed.wait_for(lambda had=len(self.images): len(self.images) != had, _PATIENCE):
                    break
            return {i: self.images.pop(i) for i in mine if i in self.images}


def _length(item: Item) -> int:
    return len(item[1])


def _choose(lines: int) -> int:
    """Helpers beside this process: each of all must have enough to do."""
    cores = min(_MOST, len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1)
    return max(min(cores, int(lines * _LINE / _WORTH)) - 1, 0)


_work = _Work()


def _forget() -> None:
    """A forked child has none of its parent's threads, and leaves the helpers to it."""
    global _work
    _work = _Work()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_forget)


_here = threading.Lock()       # held while LLVM works in this process


def _compile_here(source: str) -> bytes:
    from graphflow.codegen.backend import compile_object
    with _here:
        return compile_object(source)


def stop() -> None:
    """At the end of the process: waits for LLVM and lets no thread into it again, for its library is about to be taken down."""
    _here.acquire()


# ---- the parent's side of the pipe ------------------------------------------------------------------

def _lead(work: _Work) -> None:
    """Give texts to one helper, one at a time, until there are none for long."""
    item = None
    try:
        helper = _start()
        try:
            if _receive(helper.stdout) != b"ready":
                return
            while (item := work.lend()) is not None:
                _send(helper.stdin, "\0".join(item).encode())
                work.put(item, _receive(helper.stdout))
                item = None
        finally:
            helper.kill()
            helper.wait()
            helper.stdin.close()
            helper.stdout.close()
    except (OSError, EOFError, ValueError):                   # lost texts are compiled in compile_many
        pass
    finally:
        if item is not None:
            work.put(item, b"")
        with work.changed:
            work.helpers -= 1


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
            isa, _, source = _receive(source_pipe).decode().partition("\0")
        except EOFError:
            return
        try:
            with flags.override(isa=isa):
                image = compile_object(source)
        except Exception:
            image = b""                                       # it fails again in the parent, and tells there
        _send(object_pipe, image)
