"""Object code on disk, found by content; one file a kernel and its readable text beside it.

Knows: files, ownership, a checked header, the size bound. Must not know: what is in an object, how it is
made or linked. Place: `compile` asks here before it compiles and stores here after. Nothing is unpickled
or executed: an entry is returned only if its header, length and sha256 agree and only this user could
have written it. No fault of the disk stops a program: the cache warns once and goes on without.
"""

import hashlib
import os
import struct
import sys
import tempfile
import warnings
from pathlib import Path

from graphflow import locks

MAGIC = b"GFOBJ\0\r\n"
_HEADER = struct.Struct("<8sIQ32s")            # magic, ABI, payload length, sha256 of the payload
_DEFAULT_LIMIT = 1 << 30
_SUFFIXES = {".o", ".py", ".plan", ".cubin", ".ptx", ".ptxo", ".tmp"}


def default_directory() -> Path:
    """GRAPHFLOW_CACHE_DIR, or the platform's place for caches."""
    named = os.environ.get("GRAPHFLOW_CACHE_DIR")
    if named:
        return Path(named).expanduser()
    if sys.platform == "win32":
        base = os.environ.get("LOCALAPPDATA") or Path.home() / "AppData" / "Local"
    elif sys.platform == "darwin":
        base = Path.home() / "Library" / "Caches"
    else:
        base = os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache"
    return Path(base) / "graphflow"


def pack(image: bytes, abi: int) -> bytes:
    """The file content for an object."""
    return _HEADER.pack(MAGIC, abi, len(image), hashlib.sha256(image).digest()) + image


def unpack(content: bytes, abi: int) -> bytes | None:
    """The object in a file's content, or None if the content is not exactly what `pack` wrote."""
    if len(content) < _HEADER.size:
        return None
    magic, had_abi, length, digest = _HEADER.unpack_from(content)
    image = content[_HEADER.size:]
    good = magic == MAGIC and had_abi == abi and length == len(image)
    return image if good and hashlib.sha256(image).digest() == digest else None


class ObjectCache:
    """A directory of objects. `directory=None` takes the default; `limit` bounds its bytes."""

    def __init__(self, directory: Path | str | None = None, *, abi: int = 1, limit: int = _DEFAULT_LIMIT):
        self.abi, self.limit = abi, limit
        self._warned = False
        self._usable: bool | None = None           # not known before the first use
        self._total: int | None = None
        self._lock = locks.rlock()
        try:
            self.directory = Path(directory) if directory is not None else default_directory()
        except RuntimeError as error:                              # no home directory
            self.directory = Path(os.devnull)
            self._give_up("place", error)

    def path(self, key: str, suffix: str = ".o") -> Path:
        return self.directory / f"{key}{suffix}"

    def load(self, key: str, suffix: str = ".o") -> bytes | None:
        """The object stored under `key`, or None. A damaged entry is removed."""
        if not self._ready():
            return None
        try:
            content = self._read_own(self.path(key, suffix))
        except OSError:
            return None
        image = None if content is None else unpack(content, self.abi)
        if content is not None and image is None:
            self._remove(key, suffix)
        return image

    def store(self, key: str, image: bytes, source: str = "", suffix: str = ".o", text: str = ".py") -> None:
        """Keep an object and, if there is one, its text (suffix `text`). Never raises for a fault of the disk."""
        if not self._ready():
            return
        try:
            if source:
                self._write(self.path(key, text), source.encode())
            self._write(self.path(key, suffix), pack(image, self.abi))
        except OSError as error:
            return self._give_up("write", error)
        with self._lock:
            self._account(len(image) + len(source) + _HEADER.size)

    def clear(self) -> None:
        """Remove every entry."""
        for file in self._files():
            file.unlink(missing_ok=True)
        self._total = 0

    # ---- files --------------------------------------------------------------------------------------

    def _ready(self) -> bool:
        """Whether the directory exists and is this user's alone; decided once."""
        if self._usable is None:
            try:
                self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
                self._usable = _only_mine(os.stat(self.directory))
                if not self._usable:
                    self._give_up("trust", "it belongs to another user or others may write in it")
            except OSError as error:
                self._give_up("create", error)
        return self._usable

    def _read_own(self, path: Path) -> bytes | None:
        """The bytes of a plain file that only this user can write; None for any other file."""
        with open(os.open(path, os.O_RDONLY | getattr(os, "O_NOFOLLOW", 0)), "rb") as file:
            if not _only_mine(os.fstat(file.fileno())):
                return None
            content = file.read()
        self._touch(path)
        return content

    def _touch(self, path: Path) -> None:
        try:
            os.utime(path)                                            # the order of eviction
        except OSError:
            pass                                                      # a read-only disk still serves

    def _write(self, path: Path, content: bytes) -> None:
        """All or nothing, also with another process writing the same entry."""
        handle, temporary = tempfile.mkstemp(dir=self.directory, suffix=".tmp")
        try:
            with open(handle, "wb") as file:
                file.write(content)
            os.replace(temporary, path)
        except BaseException:
            Path(temporary).unlink(missing_ok=True)
            raise

    def _remove(self, key: str, suffix: str) -> None:
        try:
            self.path(key, suffix).unlink(missing_ok=True)
        except OSError:
            pass

    def _give_up(self, what: str, error) -> None:
        self._usable = False
        if not self._warned:
            self._warned = True
            warnings.warn(f"GraphFlow goes on without its kernel cache: could not {what} {self.directory}: "
                          f"{error}. Set GRAPHFLOW_CACHE_DIR to a private, writable folder.",
                          RuntimeWarning, stacklevel=2)

    # ---- the size bound -----------------------------------------------------------------------------

    def _files(self) -> list[Path]:
        if not self.directory.is_dir():
            return []
        return [f for f in self.directory.iterdir() if f.suffix in _SUFFIXES]

    def _account(self, added: int) -> None:
        """Count what was stored; over the limit, evict down to three quarters of it."""
        self._total = self._measure() if self._total is None else self._total + added
        if self._total > self.limit:
            self._evict(3 * self.limit // 4)

    def _measure(self) -> int:
        return sum(size for _, size, _ in self._ages())

    def _ages(self) -> list[tuple[float, int, Path]]:
        ages = []
        for file in self._files():
            try:
                info = file.stat()
            except OSError:                                           # another process evicted it
                continue
            ages.append((info.st_mtime, info.st_size, file))
        return ages

    def _evict(self, goal: int) -> None:
        """Drop the least recently used entries, each text with its object."""
        entries: dict[str, list] = {}
        for when, size, file in self._ages():
            entries.setdefault(file.stem, []).append((when, size, file))
        self._total = sum(size for files in entries.values() for _, size, _ in files)
        for files in sorted(entries.values(), key=lambda files: max(when for when, _, _ in files)):
            if self._total <= goal:
                break
            self._total -= sum(size for _, size, file in files if _unlinked(file))


def _unlinked(file: Path) -> bool:
    try:
        file.unlink(missing_ok=True)
    except OSError:
        return False
    return True


def _only_mine(info: os.stat_result) -> bool:
    """Owned by this user and writable by nobody else (Windows has no such bits: its profile is private)."""
    if not hasattr(os, "getuid"):
        return True
    return info.st_uid == os.getuid() and not info.st_mode & 0o022
