"""`tf.io.gfile`: the functions of `tf.gfile` under their later names."""
from __future__ import annotations

import os
from typing import Any, Callable, Iterator

from . import gfile
from .gfile import GFile

__all__ = ["GFile", "copy", "exists", "glob", "isdir", "listdir", "makedirs", "mkdir", "remove", "rename", "rmtree", "stat", "walk"]


def copy(src: Any, dst: Any, overwrite: bool = False) -> None:
    """Copies a file.  Raises AlreadyExistsError unless `overwrite`; NotFoundError."""
    gfile.Copy(src, dst, overwrite)


def exists(path: Any) -> bool:
    """Whether there is a file or folder."""
    return gfile.Exists(path)


def glob(pattern: Any) -> list[str]:
    """Paths that match a pattern, or any of several, sorted."""
    return gfile.Glob(pattern)


def isdir(path: Any) -> bool:
    return gfile.IsDirectory(path)


def listdir(path: Any) -> list[str]:
    """The names in a folder.  Raises NotFoundError."""
    return gfile.ListDirectory(path)


def makedirs(path: Any) -> None:
    """Makes a folder and those above it.  Raises FailedPreconditionError where a file stands."""
    gfile.MakeDirs(path)


def mkdir(path: Any) -> None:
    """Makes a folder in one that exists.  Raises AlreadyExistsError, NotFoundError."""
    gfile.MkDir(path)


def remove(path: Any) -> None:
    """Deletes a file.  Raises NotFoundError."""
    gfile.Remove(path)


def rename(src: Any, dst: Any, overwrite: bool = False) -> None:
    """Moves a file or folder.  Raises AlreadyExistsError unless `overwrite`; NotFoundError."""
    gfile.Rename(src, dst, overwrite)


def rmtree(path: Any) -> None:
    """Deletes a folder and all in it.  Raises NotFoundError."""
    gfile.DeleteRecursively(path)


def stat(path: Any) -> Any:
    """`length` in bytes, `mtime_nsec`, `is_directory`.  Raises NotFoundError."""
    return gfile.Stat(path)


def walk(top: Any, topdown: bool = True, onerror: Callable[[Any], Any] | None = None) -> Iterator[tuple[str, list[str], list[str]]]:
    """(folder, names of folders, names of files) of each folder below `top`; `onerror` is told of those that cannot be read."""
    for where, folders, files in os.walk(gfile._path(top), topdown=topdown, onerror=onerror):
        folders.sort()
        yield where, list(folders), sorted(files)
