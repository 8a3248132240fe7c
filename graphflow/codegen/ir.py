"""Kernel IR: typed scalar expressions over axes.  The narrow waist between the graph and generated code.

It knows sizes, dtypes, axes and buffers, and no op name, no target and no spelling (rank 1).  A kernel is a
tuple of stages; a stage fills one buffer, element by element, with a scalar expression over its axes,
combined over its reduced axes.  Everything a target decides (which axis is parallel, what stays in
registers, vector width) is added by `schedule`, never here.

Expressions are interned: equal expressions are the same object, so sharing is identity.
"""
from __future__ import annotations

import itertools
from dataclasses import dataclass, field
from typing import Any, Callable, Iterable, Iterator, Sequence

import numpy as np

from .. import types
from ..types import DType, Size

# ---------------------------------------------------------------- expressions

# Scalar operators: name -> (arity, meaning in NumPy, result).  `result` is "same" (the dtype of the arguments),
# "bool", or "select" (the dtype of the last argument).
SCALAR: dict[str, tuple[int, Callable[..., Any] | None, str]] = {}


def _scalar(result: str, arity: int, **meanings: Callable[..., Any] | None) -> None:
    SCALAR.update({name: (arity, fn, result) for name, fn in meanings.items()})


def _divide_int(fn: Callable[..., Any]) -> Callable[..., Any]:
    """Integer division defined as 0 by zero; kernels check and report zero divisors separately."""
    def divide(a: Any, b: Any) -> Any:
        with np.errstate(all="ignore"):
            return np.where(b == 0, np.zeros_like(b), fn(a, np.where(b == 0, np.ones_like(b), b)))
    return divide


_scalar("same", 2, add=np.add, sub=np.subtract, mul=np.multiply, div=np.divide, max=np.maximum, min=np.minimum,
        pow=np.power, atan2=np.arctan2, copysign=np.copysign, fmod=np.fmod,
        floordiv=_divide_int(np.floor_divide), mod=_divide_int(np.mod), truncdiv=None, truncmod=None,
        bitand=np.bitwise_and, bitor=np.bitwise_or, bitxor=np.bitwise_xor, shl=np.left_shift, shr=np.right_shift,
        mulhi=lambda a, b: ((a.astype(np.uint64) * b.astype(np.uint64)) >> np.uint64(32)).astype(np.uint32))
_scalar("same", 1, neg=np.negative, abs=np.abs, exp=np.exp, exp2=np.exp2, expm1=np.expm1, log=np.log, log1p=np.log1p, log2=np.log2,
        log10=np.log10, sqrt=np.sqrt, rsqrt=lambda x: 1 / np.sqrt(x), cbrt=np.cbrt, sin=np.sin, cos=np.cos, tan=np.tan, asin=np.arcsin,
        acos=np.arccos, atan=np.arctan, sinh=np.sinh, cosh=np.cosh, tanh=np.tanh, asinh=np.arcsinh,
        acosh=np.arccosh, atanh=np.arctanh, floor=np.floor, ceil=np.ceil, trunc=np.trunc, rint=np.rint,
        bitnot=np.invert, conj=np.conj, sigmoid=None, softplus=None, erf=None, erfc=None, erfinv=None, ndtri=None, lgamma=None,
        digamma=None)
_scalar("bool", 2, lt=np.less, le=np.less_equal, gt=np.greater, ge=np.greater_equal, eq=np.equal, ne=np.not_equal,
        land=np.logical_and, lor=np.logical_or)
_scalar("bool", 1, lnot=np.logical_not, isnan=np.isnan, isinf=np.isinf, isfinite=np.isfinite)
_scalar("select", 3, select=np.where)


class Expr:
    """A scalar: `op` applied to `args`, of type `dtype`; `data` is the constant, axis, size or buffer it names, `axes` all axes in it."""

    __slots__ = ("op", "args", "dtype", "data", "axes", "__weakref__")

    op: str
    args: tuple[Expr, ...]
    dtype: DType
    data: Any
    axes: frozenset[Axis]

    def __repr__(self) -> str:
        return text(self)

    def __add__(self, o: Any) -> Expr: return binary("add", self, o)  # noqa: E704
    def __radd__(self, o: Any) -> Expr: return binary("add", o, self)  # noqa: E704
    def __sub__(self, o: Any) -> Expr: return binary("sub", self, o)  # noqa: E704
    def __rsub__(self, o: Any) -> Expr: return binary("sub", o, self)  # noqa: E704
    def __mul__(self, o: Any) -> Expr: return binary("mul", self, o)  # noqa: E704
    def __rmul__(self, o: Any) -> Expr: return binary("mul", o, self)  # noqa: E704
    def __truediv__(self, o: Any) -> Expr: return binary("div", self, o)  # noqa: E704
    def __rtruediv__(self, o: Any) -> Expr: return binary("div", o, self)  # noqa: E704
    def __floordiv__(self, o: Any) -> Expr: return binary("floordiv", self, o)  # noqa: E704
    def __mod__(self, o: Any) -> Expr: return binary("mod", self, o)  # noqa: E704
    def __lt__(self, o: Any) -> Expr: return binary("lt", self, o)  # noqa: E704
    def __le__(self, o: Any) -> Expr: return binary("le", self, o)  # noqa: E704
    def __gt__(self, o: Any) -> Expr: return binary("gt", self, o)  # noqa: E704
    def __ge__(self, o: Any) -> Expr: return binary("ge", self, o)  # noqa: E704
    def __and__(self, o: Any) -> Expr: return binary("bitand", self, o)  # noqa: E704
    def __or__(self, o: Any) -> Expr: return binary("bitor", self, o)  # noqa: E704
    def __xor__(self, o: Any) -> Expr: return binary("bitxor", self, o)  # noqa: E704
    def __lshift__(self, o: Any) -> Expr: return binary("shl", self, o)  # noqa: E704
    def __rshift__(self, o: Any) -> Expr: return binary("shr", self, o)  # noqa: E704
    def __neg__(self) -> Expr: return unary("neg", self)  # noqa: E704

    def eq(self, o: Any) -> Expr: return binary("eq", self, o)  # noqa: E704
    def ne(self, o: Any) -> Expr: return binary("ne", self, o)  # noqa: E704


_table: dict[tuple, Expr] = {}


def make(op: str, args: tuple[Expr, ...], dtype: DType, data: Any = None) -> Expr:
    """The one expression with these parts."""
    key = (op, tuple([id(a) for a in args]), dtype.name, data if op != "const" else (repr(data)))
    found = _table.get(key)
    if found is None:
        found = Expr.__new__(Expr)
        found.op, found.args, found.dtype, found.data = op, args, dtype, data
        found.axes = _axes(args) if op != "axis" else frozenset((data,))
        _table[key] = found
    return found


_NO_AXES: frozenset[Any] = frozenset()


def _axes(args: tuple[Expr, ...]) -> frozenset[Axis]:
    """The axes in all of `args`; where one has them all, its very set."""
    found = _NO_AXES
    for a in args:
        if not a.axes <= found:
            found = a.axes if found <= a.axes else found | a.axes
    return found


def trim_table() -> None:
    """Forgets interned expressions; called between compilations only."""
    _table.clear()


def const(value: Any, dtype: DType) -> Expr:
    """A typed literal."""
    if dtype.kind in "iu":
        value = int(value)
    elif dtype.kind == "b":
        value = bool(value)
    elif dtype.kind == "c":
        value = complex(value)
    else:
        value = float(np.asarray(value, dtype.compute.np))
    return make("const", (), dtype, value)


def index_const(n: int) -> Expr:
    return const(n, types.int64)


def size(n: Size) -> Expr:
    """A size as an int64 expression: a literal, or a parameter of the kernel."""
    return make("size", (), types.int64, n) if isinstance(n, types.Dim) else index_const(int(n))


def _match(args: Sequence[Any]) -> tuple[Expr, ...]:
    """Python numbers take the dtype of the expression beside them."""
    dtype = next(a.dtype for a in args if isinstance(a, Expr))
    return tuple(a if isinstance(a, Expr) else const(a, dtype) for a in args)


def unary(op: str, x: Expr) -> Expr:
    return make(op, (x,), types.bool_ if SCALAR[op][2] == "bool" else x.dtype)


def binary(op: str, a: Any, b: Any) -> Expr:
    """`a op b`, with the arithmetic of indices simplified as it is built."""
    a, b = _match((a, b))
    if a.dtype is not b.dtype:
        raise TypeError(f"kernel expression {op} of {a.dtype!r} and {b.dtype!r}")
    simple = _simplify_index(op, a, b) if a.dtype is types.int64 else None
    return simple if simple is not None else make(op, (a, b), types.bool_ if SCALAR[op][2] == "bool" else a.dtype)


def _number(x: Expr) -> Any:
    return x.data if x.op in ("const", "size") else None


def _simplify_index(op: str, a: Expr, b: Expr) -> Expr | None:
    """Constants folded, neutral elements dropped: most indices become a bare axis."""
    x, y = _number(a), _number(b)
    if x is not None and y is not None and op in ("add", "sub", "mul"):
        return size(x + y if op == "add" else x - y if op == "sub" else x * y)
    if x is not None and y is not None and op in ("floordiv",
                                                  "mod") and not isinstance(x, types.Dim) and not isinstance(y, types.Dim) and y:
        return index_const(x // y if op == "floordiv" else x % y)
    numbers = x is not None and y is not None and not isinstance(x, types.Dim) and not isinstance(y, types.Dim)
    if numbers and op in ("lt", "le", "gt", "ge", "eq", "ne"):
        return const(bool(SCALAR[op][1](x, y)), types.bool_)  # type: ignore[misc]
    zero = lambda n: isinstance(n, int) and n == 0  # noqa: E731
    one = lambda n: isinstance(n, int) and n == 1  # noqa: E731
    if op == "add":
        return b if zero(x) else a if zero(y) else None
    if op == "sub":
        return a if zero(y) else None
    if op == "mul":
        return index_const(0) if zero(x) or zero(y) else b if one(x) else a if one(y) else None
    if op == "floordiv" and one(y):
        return a
    if op == "mod" and one(y):
        return index_const(0)
    return None


def call(op: str, *args: Any) -> Expr:
    """Any scalar operator of `SCALAR` by name."""
    matched = _match(args)
    return unary(op, matched[0]) if len(matched) == 1 else binary(op, *matched) if len(matched) == 2 else select(*matched)


def select(condition: Expr, yes: Any, no: Any) -> Expr:
    """`yes` where `condition` else `no`; both are evaluated, so neither may read out of bounds."""
    yes, no = _match((yes, no))
    if condition.op == "const":
        return yes if condition.data else no
    return make("select", (condition, yes, no), yes.dtype)


def cast(x: Expr, dtype: DType) -> Expr:
    """The value converted; float to integer truncates."""
    return x if x.dtype is dtype else make("cast", (x,), dtype)


def bitcast(x: Expr, dtype: DType) -> Expr:
    """The same bits read as another dtype of the same size."""
    return x if x.dtype is dtype else make("bitcast", (x,), dtype)


def complex_(re: Expr, im: Expr, dtype: DType) -> Expr:
    return make("complex", (re, im), dtype)


def real(x: Expr) -> Expr:
    return make("real", (x,), x.dtype.real_dtype)


def imag(x: Expr) -> Expr:
    return make("imag", (x,), x.dtype.real_dtype)


def check(condition: Expr, value: Expr, number: Any) -> Expr:
    """`value`, after noting that check `number` failed wherever `condition` is false."""
    return make("check", (condition, value), value.dtype, number)


class Math:
    """`m.exp(x)`: scalar operators as functions, for the scalar text of op definitions."""

    select, cast, bitcast = staticmethod(select), staticmethod(cast), staticmethod(bitcast)
    const, check = staticmethod(const), staticmethod(check)
    complex, real, imag = staticmethod(complex_), staticmethod(real), staticmethod(imag)

    def __getattr__(self, name: str) -> Callable[..., Expr]:
        if name not in SCALAR:
            raise AttributeError(f"no scalar operator {name!r}")
        return lambda *args: call(name, *args)


m = Math()


# ---------------------------------------------------------------- axes, buffers, stages, kernels

_axis_numbers = itertools.count()


@dataclass(frozen=True, eq=False)
class Axis:
    """A loop variable in [0, extent); with `bound`, it stops there if that is less."""

    extent: Size
    name: str = field(default_factory=lambda: f"a{next(_axis_numbers)}")
    bound: Any = None

    def __repr__(self) -> str:
        return f"{self.name}<{self.extent}"


def axis(a: Axis) -> Expr:
    return make("axis", (), types.int64, a)


@dataclass(frozen=True, eq=False)
class Buffer:
    """A row-major array in memory.  `role`: "in", "out" or "tmp" (lives inside one kernel)."""

    dtype: DType
    sizes: tuple[Size, ...]
    role: str
    label: str = ""

    def __repr__(self) -> str:
        return f"{self.label or self.role}:{self.dtype.code}{types.shape_text(self.sizes)}"


def load(buffer: Buffer, index: Sequence[Expr]) -> Expr:
    """One element; the stored 16-bit floats arrive as float32."""
    return make("load", tuple(index), buffer.dtype.compute, buffer)


@dataclass(frozen=True, eq=False)
class Fold:
    """What a folding op says of one output element: `expr` combined over `axes`; `init` starts it (None: neutral)."""

    combine: str
    axes: tuple[Axis, ...]
    expr: Expr
    init: Expr | None = None


@dataclass(frozen=True, eq=False)
class Scatter:
    """What a scattering op says of one update: where it goes, its value; `combine` None lets the last one win."""

    combine: str | None
    sizes: tuple[Size, ...]
    index: tuple[Expr, ...]
    value: Expr


@dataclass(frozen=True, eq=False)
class Stage:
    """`target[index] = expr` for all `axes`, or with `combine`, folded over `reduced` starting from `init`.

    combine: None, "add", "mul", "max", "min", "land", "lor"; or for a scatter, where several iterations may hit one
    element, the same names with `reduced` naming the axes that collide.  With `scan`, the running value along that
    axis is stored at every step.
    """

    target: Buffer
    axes: tuple[Axis, ...]
    index: tuple[Expr, ...]
    expr: Expr
    combine: str | None = None
    reduced: tuple[Axis, ...] = ()
    init: Expr | None = None
    scan: Axis | None = None
    exclusive: bool = False
    ops: tuple[str, ...] = ()

    def __repr__(self) -> str:
        fold = f" {self.combine} over {list(self.reduced)}" if self.combine else ""
        return f"{self.target!r}[{', '.join(map(text, self.index))}] ={fold} {text(self.expr)}   for {list(self.axes)}"


@dataclass(frozen=True, eq=False)
class Kernel:
    """Stages run one after the other, inside the loops over `outer`, which all of them share.

    `buffers` are in the order of the argument block; "tmp" ones live inside one iteration of the outer loops.
    """

    name: str
    buffers: tuple[Buffer, ...]
    stages: tuple[Stage, ...]
    outer: tuple[Axis, ...] = ()

    def __repr__(self) -> str:
        return f"kernel {self.name}({', '.join(map(repr, self.buffers))})\n" + "\n".join(f"  {s!r}" for s in self.stages)


# Neutral element of each way to combine.
def neutral(combine: str, dtype: DType) -> Any:
    """The value that changes nothing when combined."""
    if combine in ("add", "lor"):
        return 0
    if combine in ("mul", "land"):
        return 1
    top = combine == "min"
    if dtype.kind == "f":
        return np.inf if top else -np.inf
    return int(dtype.max if top else dtype.min) if dtype.kind in "iu" else top


def walk(*roots: Expr) -> Iterator[Expr]:
    """Every sub-expression once, arguments before users; no recursion."""
    seen: set[int] = set()
    stack: list[tuple[Expr, bool]] = [(r, False) for r in reversed(roots)]
    while stack:
        e, done = stack.pop()
        if done:
            yield e
        elif id(e) not in seen:
            seen.add(id(e))
            stack.append((e, True))
            stack.extend((a, False) for a in reversed(e.args) if id(a) not in seen)


def rewrite(root: Expr, change: Callable[[Expr, tuple[Expr, ...]], Expr], within: Iterable[Axis] | None = None) -> Expr:
    """`root` with every sub-expression replaced by `change(e, new_args)`, bottom up; with `within`, only those where one of
    these axes is."""
    if within is not None and root.axes.isdisjoint(within):
        return root
    done: dict[int, Expr] = {}
    stack = [root]
    while stack:
        e = stack[-1]
        if id(e) in done:
            stack.pop()
        elif within is not None and e.axes.isdisjoint(within):
            done[id(e)] = e
            stack.pop()
        elif missing := [a for a in reversed(e.args) if id(a) not in done]:
            stack += missing
        else:
            done[id(e)] = change(e, tuple([done[id(a)] for a in e.args]))
            stack.pop()
    return done[id(root)]


def rebuilt(e: Expr, args: tuple[Expr, ...]) -> Expr:
    """`e` with other arguments, simplified again."""
    if args == e.args:  # the same objects
        return e
    if e.op in SCALAR and len(args) == 2:
        return binary(e.op, *args)
    return select(*args) if e.op == "select" else make(e.op, args, e.dtype, e.data)


def substitute(root: Expr, mapping: dict[Axis, Expr]) -> Expr:
    """`root` with axes replaced by expressions."""
    return rewrite(root, lambda e, args: mapping.get(e.data, e) if e.op == "axis" else rebuilt(e, args), mapping)


def loads(*roots: Expr) -> Iterable[Expr]:
    return (e for e in walk(*roots) if e.op == "load")


def axes_in(*roots: Expr) -> frozenset[Axis]:
    return _axes(roots)


_INFIX = {"add": "+", "sub": "-", "mul": "*", "div": "/", "floordiv": "//", "mod": "%", "lt": "<", "le": "<=", "gt": ">",
          "ge": ">=", "eq": "==", "ne": "!=", "bitand": "&", "bitor": "|", "bitxor": "^", "shl": "<<", "shr": ">>"}


def text(root: Expr) -> str:
    """Readable form; shared sub-expressions are written out each time, up to a length."""
    done: dict[int, str] = {}
    for e in walk(root):
        a = [done[id(x)] for x in e.args]
        if e.op == "const":
            s = f"{e.data}" if e.dtype is types.int64 else f"{e.dtype.code}({e.data})"
        elif e.op == "axis":
            s = e.data.name
        elif e.op == "size":
            s = f"({e.data!r})"
        elif e.op in ("load", "at"):
            s = f"{e.data.label or 'buf'}[{', '.join(a)}]"
        elif e.op in _INFIX:
            s = f"({a[0]} {_INFIX[e.op]} {a[1]})"
        else:
            s = f"{e.op}{'.' + e.dtype.code if e.op in ('cast', 'bitcast') else ''}({', '.join(a)})"
        done[id(e)] = s if len(s) < 2000 else s[:900] + " ... " + s[-900:]
    return done[id(root)]


def verify(kernel: Kernel) -> None:
    """Raises AssertionError where the kernel breaks a rule of the IR."""
    known = set(map(id, kernel.buffers))
    for s in kernel.stages:
        assert id(s.target) in known, f"{kernel.name}: target {s.target!r} is no buffer of the kernel"
        assert len(s.index) == len(s.target.sizes), f"{kernel.name}: rank of the index of {s!r}"
        assert s.expr.dtype is s.target.dtype.compute, f"{kernel.name}: {s.expr.dtype!r} stored in {s.target!r}"
        assert set(s.reduced) <= set(s.axes), f"{kernel.name}: reduced axes are axes"
        assert bool(s.reduced) == bool(s.combine) or s.combine, f"{kernel.name}: reduced without combine"
        assert axes_in(s.expr, *s.index) <= set(s.axes), f"{kernel.name}: free axis in {s!r}"
        for e in walk(s.expr, *s.index):
            if e.op == "load":
                assert id(e.data) in known, f"{kernel.name}: load of foreign buffer {e.data!r}"
                assert len(e.args) == len(e.data.sizes), f"{kernel.name}: rank of load {text(e)}"
            if e.op in SCALAR and e.op != "select":
                assert all(x.dtype is e.args[0].dtype for x in e.args), f"{kernel.name}: mixed dtypes in {text(e)}"
