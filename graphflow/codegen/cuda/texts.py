"""PTX of device texts, found again in memory and on disk; Numba is imported for what is new only.

Knows how a text says its parameters, and keys.  Must not know kernels or devices (rank 4).
"""
from __future__ import annotations

import hashlib
import re
from functools import cache
from importlib.metadata import version
from pathlib import Path

from ..cache import ObjectCache
from .. import compile as native

ABI = 1  # of the files
# What a text means depends on them.
_WORDS = ("intrinsics.py", "vecmath*.py", "translate.py", "backend.py", "cuda/words*.py", "cuda/functions.py", "cuda/ptx.py")
stats = {"compiled": 0, "found": 0}
_known: dict[tuple[str, tuple[int, int]], str] = {}


def signature(source: str) -> tuple[str, int]:
    """(a letter for each parameter, threads of a block) of a text.

    Raises:
        ValueError: the text has no line that says so.
    """
    found = re.search(r"^#: (\w*) (\d+)$", source, re.M)
    if found is None:
        raise ValueError("device text says its parameters and threads in a line '#: kinds threads'")
    return found[1], int(found[2])


def room(source: str) -> int:
    """Bytes of shared memory that a launch of a text brings along."""
    found = re.search(r"^#: room=(\d+)$", source, re.M)
    return int(found[1]) if found else 0


def label(source: str) -> str:
    """What a message calls a text: its first line."""
    return source.split("\n", 1)[0].lstrip("# ")


def ptx_of(source: str, capability: tuple[int, int]) -> str:
    """The PTX of a text for GPUs of a compute capability.  Raises RuntimeError inside `no_recompile()` for a new text."""
    known = _known.get((source, capability))
    if known is None:
        known = _known[source, capability] = _stored(source, capability) or _compiled(source, capability)
    return known


def _stored(source: str, capability: tuple[int, int]) -> str | None:
    image = _disk().load(_key(source, capability), ".ptxo")
    if image is None:
        return None
    stats["found"] += 1
    return image.decode()


def _compiled(source: str, capability: tuple[int, int]) -> str:
    if native.is_forbidden():
        raise RuntimeError(f"inside no_recompile(): the kernel {label(source)} of a GPU would have to be compiled")
    from . import ptx

    text = ptx.compile_ptx(source, capability)
    stats["compiled"] += 1
    _disk().store(_key(source, capability), text.encode(), source, ".ptxo", ".py")
    return text


@cache
def _disk() -> ObjectCache:
    return ObjectCache(abi=ABI)


@cache
def _meaning() -> bytes:
    """Everything a key covers besides the text and the GPU."""
    here, digest = Path(__file__).parent.parent, hashlib.sha256(" ".join(version(n) for n in ("numba", "llvmlite")).encode())
    for file in (found for pattern in _WORDS for found in sorted(here.glob(pattern))):
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.digest()


def _key(source: str, capability: tuple[int, int]) -> str:
    return "gpu_" + hashlib.sha256(_meaning() + repr(capability).encode() + source.encode()).hexdigest()[:40]
