"""Dtypes, sizes and shapes, and the rules that combine them.

Knows nothing of graphs, ops or devices (rank 0).  Inside the compiler a shape is a plain tuple whose
entries are `int` or `Dim`, or `None` when even the rank is unknown; `TensorShape` and `Dimension` are the
TF1 faces of the same thing.
"""
from __future__ import annotations

import contextvars
import math
from contextlib import contextmanager
from typing import Any, Iterable, Iterator, Sequence, Union

import numpy as np

# ---------------------------------------------------------------- dtypes


class DType:
    """An element type.  `np` is the NumPy dtype its values are stored with (bfloat16: the bits, as uint16)."""

    __slots__ = ("name", "np", "size", "kind", "code")

    def __init__(self, name: str, np_dtype: Any, kind: str, code: str):
        self.name, self.np, self.kind, self.code = name, np.dtype(np_dtype), kind, code
        self.size: int = self.np.itemsize

    as_numpy_dtype = property(lambda self: self.np.type)
    base_dtype = property(lambda self: self)
    real_dtype = property(lambda self: {"complex64": float32, "complex128": float64}.get(self.name, self))
    is_floating = property(lambda self: self.kind == "f")
    is_integer = property(lambda self: self.kind in "iu")
    is_unsigned = property(lambda self: self.kind == "u")
    is_complex = property(lambda self: self.kind == "c")
    is_bool = property(lambda self: self.kind == "b")
    is_differentiable = property(lambda self: self.kind in "fc")
    is_quantized = property(lambda self: False)
    is_numpy_compatible = property(lambda self: True)
    as_datatype_enum = property(lambda self: _ENUM[self.name])
    compute = property(lambda self: float32 if self.name in ("float16", "bfloat16") else self)

    @property
    def min(self) -> Any:
        """Smallest finite value."""
        return _limits(self).min

    @property
    def max(self) -> Any:
        """Largest finite value."""
        return _limits(self).max

    @property
    def limits(self) -> tuple[Any, Any]:
        """The range of intensities of a picture of this dtype, as TF1: from 0 (False) to 1 for floats, to the largest integer."""
        return (False, True) if self.kind == "b" else (0, self.max if self.kind in "iu" else 1)

    def is_compatible_with(self, other: Any) -> bool:
        return self == as_dtype(other)

    def __repr__(self) -> str:
        return f"tf.{self.name}"

    def __str__(self) -> str:
        return f"<dtype: {self.name!r}>"

    def __hash__(self) -> int:
        return hash(self.name)

    def __eq__(self, other: object) -> bool:
        if self is other:
            return True
        if other is None or isinstance(other, DType):
            return False
        try:
            return as_dtype(other) is self
        except TypeError:
            return False

    def __reduce__(self) -> tuple[Any, ...]:
        return as_dtype, (self.name,)


def as_strings(value: Any, what: str = "a string tensor") -> np.ndarray:
    """An array of bytes objects, which is what a string tensor is; text becomes UTF-8.

    Raises TypeError on elements that are neither text nor bytes.
    """
    array = np.asarray(value, object)
    flat = array.reshape(-1).tolist()
    if set(map(type, flat)) <= {bytes}:
        return array
    for i, v in enumerate(flat):
        if isinstance(v, str):
            flat[i] = v.encode("utf-8", "surrogateescape")
        elif not isinstance(v, bytes):
            raise TypeError(f"{what} holds text or bytes, got {v!r} of type {type(v).__name__}")
    out = np.empty(len(flat), object)
    out[:] = flat
    return out.reshape(array.shape)


def _limits(dtype: DType) -> Any:
    if dtype.kind == "b":
        raise TypeError(f"Cannot find minimum or maximum value of {dtype!r}.")
    if dtype.name == "bfloat16":
        return np.finfo(np.float32)
    return np.finfo(dtype.np) if dtype.kind in "fc" else np.iinfo(dtype.np)


float16 = half = DType("float16", np.float16, "f", "f16")
bfloat16 = DType("bfloat16", np.uint16, "f", "bf16")
float32 = DType("float32", np.float32, "f", "f32")
float64 = double = DType("float64", np.float64, "f", "f64")
int8 = DType("int8", np.int8, "i", "i8")
int16 = DType("int16", np.int16, "i", "i16")
int32 = DType("int32", np.int32, "i", "i32")
int64 = DType("int64", np.int64, "i", "i64")
uint8 = DType("uint8", np.uint8, "u", "u8")
uint16 = DType("uint16", np.uint16, "u", "u16")
uint32 = DType("uint32", np.uint32, "u", "u32")
uint64 = DType("uint64", np.uint64, "u", "u64")
bool_ = DType("bool", np.bool_, "b", "b1")
complex64 = DType("complex64", np.complex64, "c", "c64")
complex128 = DType("complex128", np.complex128, "c", "c128")
string = DType("string", object, "s", "str")

DTYPES = {d.name: d for d in (float16, bfloat16, float32, float64, int8, int16, int32, int64, uint8, uint16,
                              uint32, uint64, bool_, complex64, complex128, string)}
FLOAT = (float16, bfloat16, float32, float64)
REAL = (float32, float64)
SIGNED = (int8, int16, int32, int64)
INTEGER = SIGNED + (uint8, uint16, uint32, uint64)
COMPLEX = (complex64, complex128)
NUMERIC = FLOAT + INTEGER + COMPLEX
ALL = NUMERIC + (bool_,)
# DataType numbers of TF's types.proto, which graph and checkpoint files use.
_ENUM = {"float32": 1, "float64": 2, "int32": 3, "uint8": 4, "int16": 5, "int8": 6, "string": 7, "complex64": 8,
         "int64": 9, "bool": 10, "bfloat16": 14, "uint16": 17, "complex128": 18, "float16": 19, "uint32": 22,
         "uint64": 23}
_BY_NP = {d.np: d for d in DTYPES.values() if d.name not in ("bfloat16", "string")}
_BY_ANY: dict[Any, DType] = {**{d.np.type: d for d in _BY_NP.values()}, **dict(DTYPES.items()),
                             **{_ENUM[n]: d for n, d in DTYPES.items()},
                             float: float32, int: int32, bool: bool_, complex: complex128, str: string, bytes: string,
                             "half": float16, "double": float64, "float": float32, "int": int32}


def as_dtype(value: Any) -> DType:
    """The `DType` meant by a DType, name, NumPy dtype or type, Python type, or TF enum number.

    Raises:
        TypeError: `value` names no dtype.
    """
    if isinstance(value, DType):
        return value
    found: DType | None = None
    try:
        found = _BY_ANY.get(value)
    except TypeError:
        pass
    if found is None and getattr(value, "name", "") == "bfloat16":
        return bfloat16
    if found is None:
        try:
            np_dtype = np.dtype(value)
        except TypeError:
            np_dtype = None
        found = None if np_dtype is None else _BY_NP.get(np_dtype)
        if found is None and np_dtype is not None and np_dtype.kind in "OUS":
            found = string
    if found is None:
        raise TypeError(f"Cannot convert value {value!r} to a dtype; known are {', '.join(DTYPES)}.")
    return found


def bf16_encode(x: np.ndarray) -> np.ndarray:
    """float32 values as bfloat16 bits, round to nearest even; NaN stays NaN."""
    bits = np.ascontiguousarray(x, np.float32).view(np.uint32)
    rounded = ((bits + np.uint32(0x7FFF) + ((bits >> np.uint32(16)) & np.uint32(1))) >> np.uint32(16)).astype(np.uint16)
    return np.where(np.isnan(np.asarray(x, np.float32)), np.uint16(0x7FC0), rounded).reshape(np.shape(x))


def bf16_decode(bits: np.ndarray) -> np.ndarray:
    """bfloat16 bits as the float32 values they stand for (exact)."""
    return (np.asarray(bits).astype(np.uint32) << np.uint32(16)).view(np.float32).reshape(np.shape(bits))


# ---------------------------------------------------------------- sizes


class Dim:
    """A size known only later: a polynomial over symbols, or `UNKNOWN`, which absorbs all arithmetic.

    `terms` maps a monomial (a sorted tuple of atoms) to its integer coefficient; an atom is a symbol's name
    or an opaque `(operator, operand, operand)`.  Two equal polynomials are the same size for every binding,
    which is what lets loops merge and kernels be shared.  `hint` is the value at the first binding.
    """

    __slots__ = ("terms", "hint", "_key")

    def __init__(self, terms: dict[tuple, int] | None, hint: int | None = None):
        self.terms, self.hint = terms, hint
        self._key = None if terms is None else tuple(sorted(terms.items(), key=repr))

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Dim) and self._key is not None and self._key == other._key

    def __hash__(self) -> int:
        return hash(self._key)

    def __repr__(self) -> str:
        if self.terms is None:
            return "?"
        parts = ["*".join(([str(c)] if c != 1 or not m else []) + [_atom_text(a) for a in m]) for m, c in self.terms.items()]
        return " + ".join(parts) or "0"

    def __add__(self, other: Size) -> Size:
        return _poly(lambda a, b: _merge(a, b, 1), lambda x, y: x + y, self, other)

    __radd__ = __add__

    def __neg__(self) -> Size:
        return self * -1

    def __sub__(self, other: Size) -> Size:
        return self + other * -1

    def __rsub__(self, other: Size) -> Size:
        return self * -1 + other

    def __mul__(self, other: Size) -> Size:
        return _poly(_product, lambda x, y: x * y, self, other)

    __rmul__ = __mul__

    def __floordiv__(self, other: Size) -> Size:
        return floordiv(self, other)

    def __rfloordiv__(self, other: Size) -> Size:
        return floordiv(other, self)

    def __mod__(self, other: Size) -> Size:
        return opaque("%", self, other)

    def __index__(self) -> int:
        raise TypeError(f"a size known only at run time ({self!r}) was used where a number is needed")

    __int__ = __index__
    # NumPy's object loops look for these names.
    maximum = lambda self, other: opaque("max", self, other)  # noqa: E731


Size = Union[int, Dim]
Shape = Union[tuple[Size, ...], None]
UNKNOWN = Dim(None)


def symbol(name: str, hint: int | None = None) -> Dim:
    """A fresh size called `name`."""
    return Dim({(name,): 1}, hint)


def _atom_text(atom: Any) -> str:
    return atom if isinstance(atom, str) else f"({atom[1]!r} {atom[0]} {atom[2]!r})"


def _terms(size: Size) -> dict[tuple, int]:
    if isinstance(size, Dim):
        assert size.terms is not None
        return size.terms
    return {(): int(size)} if size else {}


def _merge(a: dict, b: dict, scale: int) -> dict:
    out = dict(a)
    for m, c in b.items():
        out[m] = out.get(m, 0) + scale * c
    return {m: c for m, c in out.items() if c}


def _product(a: dict, b: dict) -> dict:
    out: dict = {}
    for ma, ca in a.items():
        for mb, cb in b.items():
            m = tuple(sorted(ma + mb, key=repr))
            out[m] = out.get(m, 0) + ca * cb
    return {m: c for m, c in out.items() if c}


def _poly(terms_of: Any, value_of: Any, a: Size, b: Size) -> Size:
    if is_unknown(a) or is_unknown(b):
        return UNKNOWN
    ha, hb = hint(a), hint(b)
    return _size(terms_of(_terms(a), _terms(b)), None if ha is None or hb is None else value_of(ha, hb))


def _size(terms: dict, hint_value: int | None) -> Size:
    return terms.get((), 0) if not any(terms) else Dim(terms, hint_value)


# Dividing by a size of 0 happens in indices of arrays without elements only.
_VALUE: dict[str, Any] = {"//": lambda a, b: a // b if b else 0, "%": lambda a, b: a % b if b else 0, "max": max, "min": min,
                          "root": lambda a, b: max(math.isqrt(max(a - 1, 0)) + 1, b)}


def opaque(op: str, a: Size, b: Size) -> Size:
    """`a op b` for an operator polynomials are not closed under: `//`, `%`, `max`, `min`, and `root`.

    `a root b` is the smallest number whose square is at least a, or b if that is larger.
    """
    if is_unknown(a) or is_unknown(b):
        return UNKNOWN
    if isinstance(a, (int, np.integer)) and isinstance(b, (int, np.integer)):
        if op in ("//", "%") and not b:
            raise ZeroDivisionError("integer division or modulo by zero")
        return int(_VALUE[op](int(a), int(b)))
    ha, hb = hint(a), hint(b)
    return Dim({((op, a, b),): 1}, None if ha is None or hb is None else _VALUE[op](ha, hb))


def floordiv(a: Size, b: Size) -> Size:
    """`a // b`, exact where the polynomial divides."""
    if is_unknown(a) or is_unknown(b):
        return UNKNOWN
    if isinstance(a, Dim) and isinstance(b, int) and b and all(c % b == 0 for c in _terms(a).values()):
        h = hint(a)
        return _size({m: c // b for m, c in _terms(a).items()}, None if h is None else h // b)
    if isinstance(a, Dim) and isinstance(b, Dim):
        exact = _divide_monomial(a, b)
        if exact is not None:
            return exact
    return opaque("//", a, b)


def _divide_monomial(a: Dim, b: Dim) -> Size | None:
    """a / b when b is a single term that divides every term of a."""
    if len(_terms(b)) != 1:
        return None
    (mb, cb), = _terms(b).items()
    out = {}
    for ma, ca in _terms(a).items():
        rest = list(ma)
        for atom in mb:
            if atom not in rest:
                return None
            rest.remove(atom)
        if ca % cb:
            return None
        out[tuple(rest)] = ca // cb
    ha, hb = a.hint, b.hint
    return _size(out, ha // hb if ha is not None and hb else None)


def ceildiv(a: Size, b: Size) -> Size:
    """Smallest integer >= a / b."""
    return floordiv(a + b - 1, b)


def hint(size: Size) -> int | None:
    """The size's value at the first binding, or None."""
    return size.hint if isinstance(size, Dim) else int(size)


def is_unknown(size: Size) -> bool:
    return isinstance(size, Dim) and size.terms is None


def evaluate(size: Size, env: dict[str, int]) -> int:
    """The size's value when symbols have the values of `env`."""
    if not isinstance(size, Dim):
        return int(size)
    total = 0
    for monomial, c in _terms(size).items():
        for atom in monomial:
            c *= env[atom] if isinstance(atom, str) else _VALUE[atom[0]](evaluate(atom[1], env), evaluate(atom[2], env))
        total += c
    return total


def symbols_of(size: Size) -> set[str]:
    """Names of the symbols a size depends on."""
    if not isinstance(size, Dim) or size.terms is None:
        return set()
    out: set[str] = set()
    for monomial in size.terms:
        for atom in monomial:
            out |= {atom} if isinstance(atom, str) else symbols_of(atom[1]) | symbols_of(atom[2])
    return out


# -- comparing sizes.  While a graph is specialised the answer is taken from the hints and written down as a
# guard; a plan is reused for new sizes only when all its guards give the same answers.

Guard = tuple[str, Size, Size, bool]
_guards: contextvars.ContextVar[list[Guard] | None] = contextvars.ContextVar("guards", default=None)


@contextmanager
def recording_guards() -> Iterator[list[Guard]]:
    """Collects the comparisons of symbolic sizes made inside."""
    found: list[Guard] = []
    token = _guards.set(found)
    try:
        yield found
    finally:
        _guards.reset(token)


def _compare(op: str, a: Size, b: Size) -> bool | None:
    if not isinstance(a, Dim) and not isinstance(b, Dim):
        return _holds(op, int(a), int(b))
    if is_unknown(a) or is_unknown(b):
        return None
    if a == b:
        return op in ("==", "<=")
    ha, hb = hint(a), hint(b)
    if ha is None or hb is None:
        return None
    answer = _holds(op, ha, hb)
    recorded = _guards.get()
    if recorded is not None and (op, a, b, answer) not in recorded:
        recorded.append((op, a, b, answer))
    return answer


def _holds(op: str, a: int, b: int) -> bool:
    return a == b if op == "==" else a < b if op == "<" else a <= b


def guards_hold(guards: Iterable[Guard], env: dict[str, int]) -> bool:
    return all(_holds(op, evaluate(a, env), evaluate(b, env)) == answer for op, a, b, answer in guards)


def same(a: Size, b: Size) -> bool | None:
    """Whether two sizes are equal; None while that cannot be known."""
    return _compare("==", a, b)


def less(a: Size, b: Size) -> bool | None:
    return _compare("<", a, b)


# ---------------------------------------------------------------- shapes


def product(sizes: Iterable[Size]) -> Size:
    """Number of elements of a shape."""
    out: Size = 1
    for s in sizes:
        out = out * s
    return out


def broadcast_shapes(*shapes: Shape) -> Shape:
    """NumPy broadcasting of shapes that may hold unknown sizes.

    Raises:
        ValueError: two known sizes differ and neither is 1.
    """
    first = shapes[0]
    if first is not None and all(s == first and UNKNOWN not in s and not any(map(is_unknown, s)) for s in shapes if s is not None) \
            and all(s is not None for s in shapes):
        return first
    if any(s is None for s in shapes):
        return None
    rank = max(len(s) for s in shapes if s is not None)
    padded = [(1,) * (rank - len(s)) + s for s in shapes if s is not None]
    return tuple(_broadcast_sizes(column, shapes) for column in zip(*padded))


def _broadcast_sizes(sizes: Sequence[Size], shapes: Sequence[Shape]) -> Size:
    out: Size = 1
    for s in sizes:
        if same(out, 1):
            out = s
        elif same(s, 1):
            continue
        elif is_unknown(s) or is_unknown(out):
            # An unknown size against a known one that is not 1: the known one is the answer.
            out = s if is_unknown(out) and not is_unknown(s) else out
        elif same(s, out) is False:
            raise ValueError(f"Dimensions must be equal, but are {out!r} and {s!r} with input shapes: "
                             + ", ".join(shape_text(x) for x in shapes))
    return out


def shape_text(shape: Shape) -> str:
    """`[2,?,3]`, or `<unknown>`."""
    return "<unknown>" if shape is None else "[" + ",".join("?" if is_unknown(s) else str(s) for s in shape) + "]"


def merge_shapes(a: Shape, b: Shape) -> Shape:
    """The shape that says what both say.

    Raises:
        ValueError: they contradict each other.
    """
    if a is None or b is None:
        return b if a is None else a
    if len(a) != len(b):
        raise ValueError(f"Shapes {shape_text(a)} and {shape_text(b)} must have the same rank")
    out = []
    for x, y in zip(a, b):
        if same(x, y) is False:
            raise ValueError(f"Shapes {shape_text(a)} and {shape_text(b)} are not compatible")
        out.append(y if is_unknown(x) else x)
    return tuple(out)


def known(shape: Shape) -> bool:
    """Whether rank and every size are numbers."""
    return shape is not None and not any(isinstance(s, Dim) for s in shape)


def canonical_axis(axis: Any, rank: int | None, what: str = "axis") -> int:
    """A possibly negative axis as one in [0, rank).

    Raises:
        ValueError: out of range, or not a number.
    """
    try:
        number = int(axis)
    except TypeError:
        raise ValueError(f"{what} must be an integer known when the graph is built, got {axis!r}") from None
    if rank is None:
        raise ValueError(f"{what}={number} needs an input of known rank; call set_shape on it")
    if not -rank <= number < rank:
        raise ValueError(f"Invalid {what} {number}: expected a value in [{-rank}, {rank}) for an input of rank {rank}")
    return number + rank if number < 0 else number


class Dimension:
    """TF1's view of one size: an `int` with `.value`, or an unknown whose `.value` is None."""

    _value: int | None = None

    def __new__(cls, value: Any = None) -> Any:
        if isinstance(value, Dimension):
            return value
        if value is None or isinstance(value, Dim):
            return object.__new__(_UnknownDimension)
        number = value.__index__() if hasattr(value, "__index__") else int(value)
        if number < 0:
            raise ValueError(f"Dimension {number} must be >= 0")
        return int.__new__(_KnownDimension, number)

    @property
    def value(self) -> int | None:
        return self._value

    def is_compatible_with(self, other: Any) -> bool:
        other = Dimension(other)
        return self.value is None or other.value is None or self.value == other.value

    def merge_with(self, other: Any) -> Dimension:
        other = Dimension(other)
        if not self.is_compatible_with(other):
            raise ValueError(f"Dimensions {self} and {other} are not compatible")
        return other if self.value is None else self

    def assert_is_compatible_with(self, other: Any) -> None:
        self.merge_with(other)


def _sized(method: str) -> Any:
    """int's arithmetic, whose result is a size again where it can be one."""
    plain = getattr(int, method)

    def f(self: Any, other: Any) -> Any:
        found = plain(self, other)
        return Dimension(found) if type(found) is int and found >= 0 else found

    return f


class _KnownDimension(int, Dimension):
    """A known size; arithmetic is that of `int`, and sums, products and quotients are sizes too."""

    value = property(int)  # type: ignore[assignment]
    __add__, __radd__, __sub__, __rsub__ = map(_sized, ("__add__", "__radd__", "__sub__", "__rsub__"))
    __mul__, __rmul__, __mod__, __rmod__ = map(_sized, ("__mul__", "__rmul__", "__mod__", "__rmod__"))
    __floordiv__, __rfloordiv__ = map(_sized, ("__floordiv__", "__rfloordiv__"))
    __div__, __rdiv__ = __floordiv__, __rfloordiv__

    def __repr__(self) -> str:
        return f"Dimension({int(self)})"

    def __str__(self) -> str:
        return str(int(self))

    def __eq__(self, other: object) -> Any:
        return None if isinstance(other, _UnknownDimension) else int.__eq__(self, other)

    __hash__ = int.__hash__


class _UnknownDimension(Dimension):
    """An unknown size: arithmetic gives another, comparisons give None, as in TF1."""

    def __repr__(self) -> str:
        return "Dimension(None)"

    def __str__(self) -> str:
        return "?"

    def _unknown(self, *_: Any) -> Dimension:
        return Dimension(None)

    def _undecided(self, *_: Any) -> None:
        return None

    __add__ = __radd__ = __sub__ = __rsub__ = __mul__ = __rmul__ = _unknown
    __floordiv__ = __rfloordiv__ = __mod__ = __rmod__ = __div__ = __rdiv__ = _unknown
    __eq__ = __ne__ = __lt__ = __le__ = __gt__ = __ge__ = _undecided  # type: ignore[assignment]

    def __hash__(self) -> int:
        return hash(None)

    def __int__(self) -> int:
        raise TypeError("an unknown Dimension has no number; use tf.shape(x)[i] for the size at run time")

    __index__ = __int__


_plain_sizes = False  # whether shapes have numbers and None in place of Dimensions: TF2's behaviour


def plain_sizes(on: bool) -> None:
    """`tf.enable_v2_tensorshape` and its opposite."""
    global _plain_sizes
    _plain_sizes = on


def _seen(d: Any) -> Any:
    """A size as programs see it: a Dimension, or a number or None."""
    return (None if d is None or isinstance(d, Dim) else int(d)) if _plain_sizes else Dimension(d)


class TensorShape:
    """A shape as programs see it: iterable of `Dimension`, with unknown sizes or an unknown rank."""

    __slots__ = ("_dims",)

    def __init__(self, dims: Any = None):
        self._dims: Shape = as_shape(dims)

    @property
    def dims(self) -> list[Any] | None:
        return None if self._dims is None else [Dimension(d) for d in self._dims]

    @property
    def ndims(self) -> int | None:
        return None if self._dims is None else len(self._dims)

    rank = ndims

    def as_list(self) -> list[int | None]:
        """Sizes as ints, None where unknown.  Raises ValueError when the rank is unknown."""
        return [None if isinstance(d, Dim) else d for d in self._need_rank()]

    def _need_rank(self) -> tuple[Size, ...]:
        if self._dims is None:
            raise ValueError("as_list() is not defined on an unknown TensorShape; call set_shape on the tensor first.")
        return self._dims

    def as_proto(self) -> Any:
        """A TensorShapeProto: -1 where a size is unknown."""
        from .proto import TensorShapeProto

        if self._dims is None:
            return TensorShapeProto(unknown_rank=True)
        return TensorShapeProto(dim=[TensorShapeProto.Dim(size=-1 if n is None else n) for n in self.as_list()])

    def num_elements(self) -> int | None:
        return None if not self.is_fully_defined() else math.prod(self.as_list())  # type: ignore[arg-type]

    def is_fully_defined(self) -> bool:
        return known(self._dims)

    def assert_is_fully_defined(self) -> None:
        if not self.is_fully_defined():
            raise ValueError(f"Shape {self} is not fully defined")

    def is_compatible_with(self, other: Any) -> bool:
        try:
            merge_shapes(self._dims, as_shape(other))
        except ValueError:
            return False
        return True

    def assert_is_compatible_with(self, other: Any) -> None:
        if not self.is_compatible_with(other):
            raise ValueError(f"Shapes {self} and {TensorShape(other)} are incompatible")

    def assert_has_rank(self, rank: int) -> None:
        if self.ndims not in (None, rank):
            raise ValueError(f"Shape {self} must have rank {rank}")

    def assert_same_rank(self, other: Any) -> None:
        self.with_rank(TensorShape(other).ndims) if TensorShape(other).ndims is not None else None

    def merge_with(self, other: Any) -> TensorShape:
        return _shape(merge_shapes(self._dims, as_shape(other)))

    def concatenate(self, other: Any) -> TensorShape:
        tail = as_shape(other)
        return _shape(None if self._dims is None or tail is None else self._dims + tail)

    def with_rank(self, rank: int) -> TensorShape:
        """This shape, known to have `rank` dimensions.  Raises ValueError when it has another rank."""
        try:
            return self.merge_with([None] * rank)
        except ValueError:
            raise ValueError(f"Shape {self} must have rank {rank}") from None

    def with_rank_at_least(self, rank: int) -> TensorShape:
        if self.ndims is not None and self.ndims < rank:
            raise ValueError(f"Shape {self} must have rank at least {rank}")
        return self

    def with_rank_at_most(self, rank: int) -> TensorShape:
        if self.ndims is not None and self.ndims > rank:
            raise ValueError(f"Shape {self} must have rank at most {rank}")
        return self

    def __len__(self) -> int:
        if self._dims is None:
            raise ValueError("Cannot take the length of Shape with unknown rank.")
        return len(self._dims)

    def __bool__(self) -> bool:
        return self._dims is not None

    def __iter__(self) -> Iterator[Any]:
        if self._dims is None:
            raise ValueError("Cannot iterate over a shape with unknown rank.")
        return map(_seen, self._dims)

    def __getitem__(self, key: Any) -> Any:
        if self._dims is None:
            return TensorShape(None) if isinstance(key, slice) else _seen(None)
        return _shape(self._dims[key]) if isinstance(key, slice) else _seen(self._dims[key])

    def __add__(self, other: Any) -> TensorShape:
        return self.concatenate(other)

    def __radd__(self, other: Any) -> TensorShape:
        return TensorShape(other).concatenate(self)

    def __eq__(self, other: object) -> bool:
        try:
            theirs = as_shape(other)
        except (TypeError, ValueError):
            return NotImplemented
        return _public(self._dims) == _public(theirs)

    def __hash__(self) -> int:
        return hash(_public(self._dims))

    def __repr__(self) -> str:
        return f"TensorShape({None if self._dims is None else [Dimension(d) for d in self._dims]})"

    def __str__(self) -> str:
        if self._dims is None:
            return "<unknown>"
        text = ", ".join("?" if isinstance(d, Dim) else str(d) for d in self._dims)
        return f"({text},)" if len(self._dims) == 1 else f"({text})"


def _public(shape: Shape) -> tuple[int | None, ...] | None:
    return None if shape is None else tuple(None if isinstance(s, Dim) else s for s in shape)


def _shape(dims: Shape) -> TensorShape:
    out = TensorShape.__new__(TensorShape)
    out._dims = dims
    return out


def as_shape(value: Any) -> Shape:
    """A shape from None, a TensorShape, an int, or a sequence of ints, Nones and Dimensions.

    Raises:
        TypeError, ValueError: anything else, or a negative size.
    """
    if value is None:
        return None
    if isinstance(value, TensorShape):
        return value._dims
    if isinstance(value, (int, np.integer)):
        value = (value,)
    if hasattr(value, "unknown_rank"):  # a TensorShapeProto
        return None if value.unknown_rank else tuple(UNKNOWN if d.size < 0 else int(d.size) for d in value.dim)
    if isinstance(value, (str, bytes)) or not hasattr(value, "__iter__"):
        raise TypeError(f"Cannot convert {value!r} to a shape; expected None, a number, or a list of sizes")
    return tuple(_as_size(d) for d in value)


def _as_size(d: Any) -> Size:
    if d is None or isinstance(d, _UnknownDimension):
        return UNKNOWN
    if isinstance(d, Dim):
        return d
    if isinstance(d, Dimension):
        return int(d.value or 0)
    if isinstance(d, bool) or not hasattr(d, "__index__"):
        raise TypeError(f"Dimension value must be an integer or None, got {d!r} of type {type(d).__name__}")
    if (n := d.__index__()) < 0:
        raise ValueError(f"Dimension {n} must be >= 0")
    return n
