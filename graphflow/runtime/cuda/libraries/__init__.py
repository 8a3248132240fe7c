"""cuBLASLt and cuDNN behind small functions: `prepare` makes a call of a described product or convolution.

    described = library_calls.from_product(product, dtype).bind(sizes)
    if libraries.supports(described):
        call = libraries.prepare(described)          # chosen once for a shape; call.label, call.workspace_bytes
        call.enqueue(stream, a, b, c, workspace=w)   # also inside a capture

Both are optional (`pip install 'graphflow[cuda-libs]'`) and loaded when first asked for; `why_not` says what is missing, and kernels
that are generated take their place.  Knows descriptions, addresses and streams; knows no op and no plan (rank 5).
"""
from __future__ import annotations

from dataclasses import dataclass, replace
from typing import Any

from graphflow import locks
from graphflow.codegen.cuda.library_calls import Convolution, Matmul
from graphflow.flags import flags
from graphflow.runtime.cuda import device as devices_of
from graphflow.runtime.cuda.libraries import cublaslt, cudnn, loading
from graphflow.runtime.cuda.libraries.cublaslt import ALIGNMENT, EPILOGUES, MatmulCall
from graphflow.runtime.cuda.libraries.cudnn import ACTIVATIONS, ConvolutionCall
from graphflow.runtime.cuda.libraries.loading import NAMES, Choice, LibraryError, Missing, Refused, installed

MATMUL_WORKSPACE = 32 << 20  # bytes
CONVOLUTION_WORKSPACE = 256 << 20
KEPT = 2048  # prepared calls that are kept for when they are asked for again

_MODULES: dict[str, Any] = {"cublaslt": cublaslt, "cudnn": cudnn}
_KINDS: dict[str, Any] = {"cublaslt": cublaslt.CublasLt, "cudnn": cudnn.Cudnn}

Call = MatmulCall | ConvolutionCall


@dataclass(frozen=True)
class Answer:
    """Whether a library computes something; if not, why."""

    yes: bool
    reason: str = ""
    workspace_bytes: int | None = None  # None where only a device can tell
    label: str = ""

    def __bool__(self) -> bool:
        return self.yes


def library_of(d: Matmul | Convolution) -> str:
    """ "cublaslt" or "cudnn"."""
    return "cublaslt" if isinstance(d, Matmul) else "cudnn"


def why_not(name: str) -> str:
    """Why "cublaslt" or "cudnn" cannot be used here, with the next step; empty if it can."""
    if name not in NAMES:
        raise ValueError(f"no library {name!r}; there are {', '.join(NAMES)}")
    reason = loading.usable(name)
    if reason:
        return reason
    try:
        c = loading.library(name, _MODULES[name].PROTOTYPES)
    except Missing as error:
        return error.reason
    return loading.too_new(name, _MODULES[name].built_for(c))



def available(name: str) -> bool:
    """Whether "cublaslt" or "cudnn" is installed and the device in use is one it can work on."""
    return not why_not(name)


def supports(d: Matmul | Convolution, device: str | None = None, workspace: int | None = None) -> Answer:
    """Whether a library computes the described (bound) product or convolution, and why not.  Nothing runs.

    device: a JSON description of a device, for which cuDNN then makes a plan without there being one.  Without it, answers are
    what can be told from the description alone, and `prepare` has the last word.
    workspace: bytes that a plan may use.
    """
    try:
        if isinstance(d, Matmul):
            cublaslt.check(d)
            return Answer(True)
        cudnn.check(d)
        if device is None:
            return Answer(True)
        call = ConvolutionCall(_open("cudnn", device, lambda: cudnn.Cudnn(device)), _anonymous(d), _choice(d, workspace, ALIGNMENT))
    except (Refused, Missing) as error:
        return Answer(False, error.reason)
    except LibraryError as error:
        return Answer(False, str(error))
    return Answer(True, "", call.workspace_bytes, call.label)


# ---------------------------------------------------------------- prepared calls

_lock = locks.rlock()
_opened: dict[tuple, Any] = {}
_calls: dict[tuple, Call] = {}


def prepare(d: Matmul | Convolution, ordinal: int = 0, workspace: int | None = None, alignment: int = ALIGNMENT) -> Call:
    """The call for a described (bound) product or convolution on the device that is current, number `ordinal`; made once for a shape.

    workspace: bytes that it may use.  alignment: bytes by which every address that `enqueue` gets will be divisible.
    Raises Missing: the library is not installed or the device is none for it.  Refused: it does not compute this.  LibraryError.
    """
    name = library_of(d)
    reason = why_not(name)
    if reason:
        raise Missing(reason)
    with _lock:
        opened = _open(name, ordinal, _KINDS[name])
        key = (opened, _anonymous(d), _choice(d, workspace, alignment))
        if key not in _calls:
            while len(_calls) >= KEPT:
                del _calls[next(iter(_calls))]
            make: Any = MatmulCall if name == "cublaslt" else ConvolutionCall
            _calls[key] = make(*key)
        return _calls[key]


def _choice(d: Matmul | Convolution, workspace: int | None, alignment: int) -> Choice:
    usual = MATMUL_WORKSPACE if isinstance(d, Matmul) else CONVOLUTION_WORKSPACE
    return Choice(usual if workspace is None else workspace, alignment, bool(flags.tf32), bool(flags.deterministic))


def _open(name: str, where: Any, make: Any) -> Any:
    """The library with a handle on a device (an ordinal, or a described one)."""
    with _lock:
        key = (name, where, loading.library(name, _MODULES[name].PROTOTYPES))
        if key not in _opened:
            _opened[key] = make()
        return _opened[key]


def _anonymous(d: Any) -> Any:
    """Without the buffers, which say nothing about what is computed."""
    views = {name: replace(getattr(d, name), buffer=None) for name in (("a", "b", "c") if isinstance(d, Matmul) else ("x", "w", "y"))}
    return replace(d, **views)


def forget() -> None:
    """Drops every prepared call and handle, for a device that was given back or lost; calls that are in use stay whole."""
    with _lock:
        _calls.clear()
        _opened.clear()


devices_of.endings.append(forget)
