"""The exception family of TF1, and the one formatter of what an error says.

Build and usage errors are Python builtins.  Run-time errors are `OpError`s, which here also inherit the
builtin a Python programmer would catch.  Knows nothing of graphs: an op is anything with `.name`, `.type`
and `.site` (rank 0).
"""
from __future__ import annotations

from typing import Any

OK, CANCELLED, UNKNOWN, INVALID_ARGUMENT, DEADLINE_EXCEEDED, NOT_FOUND, ALREADY_EXISTS, PERMISSION_DENIED = range(8)
RESOURCE_EXHAUSTED, FAILED_PRECONDITION, ABORTED, OUT_OF_RANGE, UNIMPLEMENTED, INTERNAL, UNAVAILABLE, DATA_LOSS = range(8, 16)
UNAUTHENTICATED = 16


class OpError(Exception):
    """A failure while a graph runs.  `.op`, `.node_def`, `.message`, `.error_code` as in TF1."""

    code = UNKNOWN

    def __init__(self, node_def: Any = None, op: Any = None, message: str = "", error_code: int | None = None):
        super().__init__(message)
        self.node_def, self.op, self.message = node_def, op, message
        self.error_code = self.code if error_code is None else error_code

    def __str__(self) -> str:
        return self.message

    def __reduce__(self) -> tuple[Any, ...]:
        return type(self), (None, None, self.message, self.error_code)


def _family(name: str, code: int, builtin: type[Exception] | None = None) -> type[OpError]:
    """One OpError subclass that is also the natural builtin, constructed as TF1 does: (node_def, op, message)."""
    bases = (OpError,) if builtin is None else (OpError, builtin)

    def __init__(self: OpError, node_def: Any = None, op: Any = None, message: str = "", error_code: int | None = None) -> None:
        OpError.__init__(self, node_def, op, message, error_code)

    return type(name, bases, {"code": code, "__init__": __init__, "__str__": OpError.__str__, "__module__": __name__,
                              "__doc__": f"TF1's {name}" + (f"; also a {builtin.__name__}." if builtin else ".")})


CancelledError = _family("CancelledError", CANCELLED)
UnknownError = _family("UnknownError", UNKNOWN)
InvalidArgumentError = _family("InvalidArgumentError", INVALID_ARGUMENT, ValueError)
DeadlineExceededError = _family("DeadlineExceededError", DEADLINE_EXCEEDED, TimeoutError)
NotFoundError = _family("NotFoundError", NOT_FOUND, LookupError)
AlreadyExistsError = _family("AlreadyExistsError", ALREADY_EXISTS)
PermissionDeniedError = _family("PermissionDeniedError", PERMISSION_DENIED)
UnauthenticatedError = _family("UnauthenticatedError", UNAUTHENTICATED)
ResourceExhaustedError = _family("ResourceExhaustedError", RESOURCE_EXHAUSTED, MemoryError)
FailedPreconditionError = _family("FailedPreconditionError", FAILED_PRECONDITION, RuntimeError)
AbortedError = _family("AbortedError", ABORTED)
OutOfRangeError = _family("OutOfRangeError", OUT_OF_RANGE, IndexError)
UnimplementedError = _family("UnimplementedError", UNIMPLEMENTED, NotImplementedError)
InternalError = _family("InternalError", INTERNAL)
UnavailableError = _family("UnavailableError", UNAVAILABLE)
DataLossError = _family("DataLossError", DATA_LOSS)

_CLASSES = {c.code: c for c in (CancelledError, UnknownError, InvalidArgumentError, DeadlineExceededError, NotFoundError,
            AlreadyExistsError, PermissionDeniedError, UnauthenticatedError, ResourceExhaustedError,
            FailedPreconditionError, AbortedError, OutOfRangeError, UnimplementedError, InternalError,
            UnavailableError, DataLossError)}


def exception_type_from_error_code(code: int) -> type[OpError]:
    return _CLASSES[code]


def error_code_from_exception_type(cls: type[OpError]) -> int:
    return cls.code


class InaccessibleTensorError(ValueError):
    """A tensor that cannot be fetched from where it stands."""


class OperatorNotAllowedInGraphError(TypeError):
    """A Python operation that needs a value, applied to a symbolic tensor."""


def where(op: Any) -> str:
    """`'name' (op: 'Type') defined at file:line`, as much of it as is known."""
    if op is None:
        return ""
    site = getattr(op, "site", None)
    return f"'{op.name}' (op: '{op.type}')" + (f" defined at {site}" if site else "")


def at(op: Any, message: str) -> str:
    """`message`, followed by the op and the user's line."""
    return f"{message}\n  at {where(op)}" if op is not None else message


def raised_at(cls: type[OpError], op: Any, message: str) -> OpError:
    """The error to raise when `op` failed at run time."""
    return cls(op, op, at(op, message))


def suggest(name: str, names: Any) -> str:
    """`  Did you mean 'x'?`, or nothing."""
    import difflib

    near = difflib.get_close_matches(name, list(names), 1)
    return f" Did you mean {near[0]!r}?" if near else ""
