"""NVIDIA's shared libraries, looked for when first asked for: in the wheels of `graphflow[cuda-libs]`, then where the system looks.

A library is an object whose attributes are its C functions; they take plain ints for handles and addresses, so that a test can put
an object of Python functions in its place.  Knows file names and C prototypes' shape; knows no descriptor (rank 5).
"""
from __future__ import annotations

import ctypes
import importlib.util
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from graphflow import locks
from graphflow.flags import flags
from graphflow.runtime.cuda import driver

EXTRA = "pip install 'graphflow[cuda-libs]'"
NAMES = {"cublaslt": "cuBLASLt", "cudnn": "cuDNN"}
# In the order of preference.  What cuDNN opens by name is loaded before it, since wheels are not on the system's search path.
FILES = {"cublaslt": ("libcublasLt.so.13", "libcublasLt.so.12"), "cudnn": ("libcudnn.so.9",)}
FIRST = {"cublaslt": (), "cudnn": (("libnvrtc.so.13", "libnvrtc.so.12"), FILES["cublaslt"], ("libcublas.so.13", "libcublas.so.12"))}

Prototypes = Mapping[str, tuple[Any, tuple[Any, ...]]]


class Missing(RuntimeError):
    """A library that cannot be used; `.reason` says why, and what to install."""

    def __init__(self, reason: str):
        self.reason = reason
        super().__init__(reason)


class Refused(RuntimeError):
    """What a library does not compute; `.reason` says why."""

    def __init__(self, reason: str):
        self.reason = reason
        super().__init__(reason)


@dataclass(frozen=True)
class Choice:
    """What an algorithm may do: bytes of workspace, alignment of every address (bytes), rounding to TF32; and whether it must
    give the same bits each time."""

    workspace: int
    alignment: int
    tf32: bool = False
    deterministic: bool = False


class LibraryError(RuntimeError):
    """A call of a library failed: `.library`, `.code`, `.text`."""

    def __init__(self, library: str, code: int, text: str):
        self.library, self.code, self.text = library, code, text
        super().__init__(f"{NAMES[library]}: {text} (status {code})")

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (self.library, self.code, self.text)


_lock = locks.rlock()
_installed: dict[str, Any] = {}
_loaded: dict[str, Any] = {}


def library(name: str, prototypes: Prototypes) -> Any:
    """The C functions of "cublaslt" or "cudnn".  Raises Missing(reason)."""
    if name in _installed:
        return _installed[name]
    with _lock:
        if name not in _loaded:
            _loaded[name] = _opened(name, prototypes)
    if isinstance(_loaded[name], Missing):
        raise Missing(_loaded[name].reason)
    return _loaded[name]


def _opened(name: str, prototypes: Prototypes) -> Any:
    try:
        for files in FIRST[name]:
            _open(files)
        found = _open(FILES[name])
        if found is None:
            return Missing(f"{NAMES[name]} ({FILES[name][0]}) is not installed: {EXTRA}")
        for function, (result, arguments) in prototypes.items():
            f = getattr(found, function)
            f.restype, f.argtypes = result, arguments
    except (OSError, AttributeError) as error:  # found, but another library or a function is not there
        return Missing(f"{NAMES[name]} cannot be loaded: {error}; a matching one comes with {EXTRA}")
    return found


def _open(files: tuple[str, ...]) -> Any:
    """The first of the files that exists, None without any.  OSError from one that exists and does not load."""
    for file in files:
        for folder in _folders():
            if (folder / file).exists():
                return ctypes.CDLL(str(folder / file))
    for file in files:
        try:
            return ctypes.CDLL(file)
        except OSError as error:
            if file not in str(error) or "No such file" not in str(error):
                raise
    return None


def _folders() -> list[Path]:
    """`lib` folders of NVIDIA's wheels; they share a namespace package, which is not imported."""
    spec = importlib.util.find_spec("nvidia")
    roots = [] if spec is None or spec.submodule_search_locations is None else list(spec.submodule_search_locations)
    return [f for root in roots for f in sorted(Path(root).glob("*/lib"), reverse=True)]


def usable(name: str) -> str:
    """Why "cublaslt" or "cudnn" must not be called on the device in use, apart from being installed; empty if it may."""
    if not flags.cuda_libraries:
        return f"{NAMES[name]} is switched off by the flag cuda_libraries"
    if name in _installed:
        return ""
    try:
        used = driver.current()
    except driver.Unavailable as error:
        return error.reason
    return "" if isinstance(used, driver.Libcuda) else f"{NAMES[name]} needs a real device, and {used.name} is in use"


def too_new(name: str, needs: int) -> str:
    """Why the driver in use cannot serve a library made for CUDA `needs`; empty if it can."""
    used = None if name in _installed else driver.current()
    if not isinstance(used, driver.Libcuda) or used.version // 1000 >= needs:
        return ""
    here = driver.version_text(used.version)
    return f"this {NAMES[name]} needs a driver of CUDA {needs} or later, and that of CUDA {here} is here: update it"


@contextmanager
def installed(**libraries: Any) -> Iterator[None]:
    """Inside a `with` block these objects are the libraries: `installed(cublaslt=..., cudnn=...)`."""
    before = dict(_installed)
    with _lock:
        _installed.update(libraries)
    try:
        yield
    finally:
        with _lock:
            _installed.clear()
            _installed.update(before)


def forget() -> None:
    """Looks for the libraries again when they are next asked for; for tests."""
    with _lock:
        _loaded.clear()
