"""`tf.gfile`: files and folders; failures are `tf.errors`, as when TensorFlow reads them.

Local paths only.
"""
from __future__ import annotations

import glob as _glob
import os
import shutil
from contextlib import contextmanager
from typing import Any, Iterator

from .. import errors

__all__ = ["Copy", "DeleteRecursively", "Exists", "FastGFile", "GFile", "Glob", "IsDirectory", "ListDirectory", "MakeDirs", "MkDir", "Open",
           "Remove", "Rename", "Stat", "Walk"]


@contextmanager
def _mapped(path: Any) -> Iterator[None]:
    """Python's errors as TF1's.  `OSError` has a subclass or an errno for each."""
    try:
        yield
    except FileNotFoundError as e:
        raise errors.NotFoundError(None, None, f"{path}; {e.strerror}") from None
    except FileExistsError as e:
        raise errors.AlreadyExistsError(None, None, f"{path}; {e.strerror}") from None
    except PermissionError as e:
        raise errors.PermissionDeniedError(None, None, f"{path}; {e.strerror}") from None
    except (IsADirectoryError, NotADirectoryError) as e:
        raise errors.FailedPreconditionError(None, None, f"{path}; {e.strerror}") from None
    except OSError as e:
        raise errors.UnknownError(None, None, f"{path}; {e.strerror}") from None


def _path(path: Any) -> str:
    path = os.fspath(path)
    path = path.decode() if isinstance(path, bytes) else path
    path = path.removeprefix("file://")
    if "://" in path:
        raise errors.UnimplementedError(None, None, f"File system scheme {path.split('://')[0]!r} not implemented (file: {path!r})")
    return path


class GFile:
    """A file opened when it is first used; a context manager and an iterator over its lines.

    Args:
        name: its path.
        mode: "r", "w", "a", each also with "+" or "b"; without "b" text is UTF-8.

    Raises:
        NotFoundError, PermissionDeniedError, FailedPreconditionError: on the first use.  PermissionDeniedError: the mode does not
        allow what is asked for.
    """

    def __init__(self, name: Any, mode: str = "r"):
        if mode not in ("r", "w", "a", "r+", "w+", "a+", "rb", "wb", "ab", "rb+", "wb+", "ab+", "r+b", "w+b", "a+b"):
            raise errors.InvalidArgumentError(None, None, f"mode is not 'r' or 'w' or 'a': {mode!r}")
        self._name, self._mode, self._file = _path(name), mode, None  # type: ignore[var-annotated]

    name = property(lambda self: self._name)
    mode = property(lambda self: self._mode)

    def _open(self, what: str = "") -> Any:
        if what == "read" and self._mode[0] in "wa" and "+" not in self._mode:
            raise errors.PermissionDeniedError(None, None, "File isn't open for reading")
        if what == "write" and self._mode[0] == "r" and "+" not in self._mode:
            raise errors.PermissionDeniedError(None, None, "File isn't open for writing")
        if self._file is None:
            with _mapped(self._name):
                text = {} if "b" in self._mode else {"encoding": "utf-8", "newline": ""}
                self._file = open(self._name, self._mode, **text)  # type: ignore[call-overload]
        return self._file

    def read(self, n: int = -1) -> Any:
        """The next `n` characters (bytes in mode "b"), or all that is left."""
        with _mapped(self._name):
            return self._open("read").read(n)

    def readline(self) -> Any:
        """The next line with its end; empty at the end of the file."""
        with _mapped(self._name):
            return self._open("read").readline()

    def readlines(self) -> list[Any]:
        return list(iter(self.readline, b"" if "b" in self._mode else ""))

    def __iter__(self) -> GFile:
        return self

    def __next__(self) -> Any:
        line = self.readline()
        if not line:
            raise StopIteration
        return line

    next = __next__

    def write(self, file_content: Any) -> None:
        """Appends text (bytes in mode "b", where text is encoded)."""
        f = self._open("write")
        if not isinstance(file_content, (str, bytes, bytearray, memoryview)):
            raise TypeError(f"Expected binary or unicode string, got {file_content!r}")
        if "b" in self._mode:
            file_content = file_content.encode() if isinstance(file_content, str) else file_content
        elif not isinstance(file_content, str):
            file_content = bytes(file_content).decode()
        with _mapped(self._name):
            f.write(file_content)

    def seek(self, offset: int | None = None, whence: int = 0, position: int | None = None) -> None:
        """To `offset` bytes from the start (whence 0), from here (1) or from the end (2); `position` is the old name."""
        offset = position if offset is None else offset
        if offset is None:
            raise TypeError("seek(): offset argument required")
        if whence not in (0, 1, 2):
            raise errors.InvalidArgumentError(None, None, f"Invalid whence argument: {whence}. Valid values are 0, 1, or 2.")
        base = {0: 0, 1: self.tell() if whence == 1 else 0, 2: self.size() if whence == 2 else 0}[whence]
        if base + offset < 0:
            raise errors.InvalidArgumentError(None, None, f"Seeking to a negative position: {base + offset} in {self._name}")
        self._open().seek(base + offset)

    def tell(self) -> int:
        """Where in the file, in bytes from its start."""
        return self._open().tell()

    def seekable(self) -> bool:
        return True

    def size(self) -> int:
        """Bytes of the file."""
        self.flush()
        return Stat(self._name).length

    def flush(self) -> None:
        if self._file is not None and not self._file.closed:
            with _mapped(self._name):
                self._file.flush()

    def close(self) -> None:
        if self._file is not None:
            with _mapped(self._name):
                self._file.close()
            self._file = None
        elif self._mode[0] == "w":  # opened and closed: an empty file
            self._open().close()
            self._file = None

    Close, Flush, Size, Read = close, flush, size, read

    def __enter__(self) -> GFile:
        return self

    def __exit__(self, *problem: Any) -> None:
        self.close()


Open = FastGFile = GFile


# ---------------------------------------------------------------- files and folders


def Exists(filename: Any) -> bool:
    """Whether there is a file or folder."""
    return os.path.exists(_path(filename))


def IsDirectory(dirname: Any) -> bool:
    return os.path.isdir(_path(dirname))


def MkDir(dirname: Any) -> None:
    """Makes a folder in one that exists.  Raises AlreadyExistsError, NotFoundError."""
    with _mapped(dirname):
        os.mkdir(_path(dirname))


def MakeDirs(dirname: Any) -> None:
    """Makes a folder and those above it; one that exists is fine.  Raises FailedPreconditionError where a file stands."""
    path = _path(dirname)
    if os.path.exists(path) and not os.path.isdir(path):
        raise errors.FailedPreconditionError(None, None, f"{path}; Not a directory")
    with _mapped(path):
        os.makedirs(path, exist_ok=True)


def ListDirectory(dirname: Any) -> list[str]:
    """The names in a folder.  Raises NotFoundError."""
    path = _path(dirname)
    if not os.path.isdir(path):
        raise errors.NotFoundError(None, None, f"Could not find directory {path}")
    with _mapped(path):
        return os.listdir(path)


def Glob(filename: Any) -> list[str]:
    """Paths that match a pattern of * ? [..], or any of several patterns, sorted; those of a pattern without a folder begin with "./"."""
    patterns = [_path(p) for p in (filename if isinstance(filename, (list, tuple)) else [filename])]
    patterns = [p if os.path.dirname(p) or not _glob.has_magic(p) else f"./{p}" for p in patterns]
    return [p for pattern in patterns for p in sorted(_glob.glob(pattern))]


def Remove(filename: Any) -> None:
    """Deletes a file.  Raises NotFoundError; FailedPreconditionError for a folder."""
    path = _path(filename)
    if os.path.isdir(path) and not os.path.islink(path):
        raise errors.FailedPreconditionError(None, None, f"{path}; Is a directory")
    with _mapped(path):
        os.remove(path)


def DeleteRecursively(dirname: Any) -> None:
    """Deletes a folder and all in it, or a file.  Raises NotFoundError."""
    path = _path(dirname)
    with _mapped(path):
        shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.remove(path)


def Copy(oldpath: Any, newpath: Any, overwrite: bool = False) -> None:
    """Copies a file.  Raises AlreadyExistsError unless `overwrite`; NotFoundError."""
    _may_write(newpath, overwrite)
    with _mapped(oldpath if not os.path.exists(_path(oldpath)) else newpath):
        shutil.copyfile(_path(oldpath), _path(newpath))


def Rename(oldname: Any, newname: Any, overwrite: bool = False) -> None:
    """Moves a file or folder.  Raises AlreadyExistsError unless `overwrite`; NotFoundError."""
    _may_write(newname, overwrite)
    with _mapped(oldname):
        os.replace(_path(oldname), _path(newname))


def _may_write(path: Any, overwrite: bool) -> None:
    if not overwrite and Exists(path):
        raise errors.AlreadyExistsError(None, None, f"file already exists: {path}")


class _Stat:
    """`length` in bytes, `mtime_nsec`, `is_directory`."""

    def __init__(self, found: os.stat_result, is_directory: bool):
        self.length, self.mtime_nsec, self.is_directory = found.st_size, found.st_mtime_ns, is_directory


def Stat(filename: Any) -> _Stat:
    """Size and time of a file.  Raises NotFoundError."""
    path = _path(filename)
    with _mapped(path):
        return _Stat(os.stat(path), os.path.isdir(path))


def Walk(top: Any, in_order: bool = True) -> Iterator[tuple[str, list[str], list[str]]]:
    """(folder, names of folders, names of files) of each folder below `top`; parents first, or last if not `in_order`."""
    for where, folders, files in os.walk(_path(top), topdown=in_order):
        folders.sort()
        yield where, list(folders), sorted(files)
