"""`tf.spectral`: Fourier and cosine transforms along the last dimensions; `tf.fft`, `tf.ifft`, ... at the top level.

The transforms are host ops by numpy.fft, complex64 from float32 and complex128 from float64.  A complex gradient is
dL/d(re) + i dL/d(im), as everywhere, so that the gradient of a linear map is its adjoint: an FFT's is an inverse FFT.
"""
from __future__ import annotations

import math
from typing import Any, Callable

import numpy as np

from . import array_ops, graph, math_ops, types
from .graph import Spec, Tensor
from .ops.array import INDEX, sample, sizes_from
from .ops.opdef import convert_to_tensor, needs_rank, primitive
from .types import COMPLEX, REAL

__all__ = ["dct", "fft", "fft2d", "fft3d", "idct", "ifft", "ifft2d", "ifft3d", "irfft", "irfft2d", "irfft3d", "rfft", "rfft2d", "rfft3d"]


def _scope(name: str | None, default: str) -> Any:
    return graph.get_default_graph().name_scope(name or default)


def _complexes(*shape: int) -> Any:
    return lambda rng: rng.normal(size=shape) + 1j * rng.normal(size=shape)


def _axes(rank: int) -> tuple[int, ...]:
    return tuple(range(-rank, 0))


# ---------------------------------------------------------------- complex to complex


def _whole(x: Tensor, *, rank: int) -> Spec:
    if len(needs_rank(x)) < rank:
        raise ValueError(f"Shape must be at least rank {rank} but is rank {len(x.sizes)}")  # type: ignore[arg-type]
    return Spec(x.dtype, x.sizes)


@primitive("host", type="FFT", dtypes=COMPLEX, infer=_whole, samples=[sample(_complexes(2, 5), rank=1), sample(_complexes(3, 4), rank=2)])
def fft_op(x, *, rank):
    """The discrete Fourier transform over the last `rank` dimensions."""


@primitive("host", type="IFFT", dtypes=COMPLEX, infer=_whole, samples=[sample(_complexes(2, 5), rank=1), sample(_complexes(3, 4), rank=2)])
def ifft_op(x, *, rank):
    """The inverse transform over the last `rank` dimensions, divided by their size."""


fft_op.reference(lambda x, *, rank: np.fft.fftn(x, axes=_axes(rank)))
ifft_op.reference(lambda x, *, rank: np.fft.ifftn(x, axes=_axes(rank)))


def _count(x: Tensor, rank: int, dtype: types.DType) -> Any:
    """How many elements one transform has, as a scalar of `dtype`."""
    sizes = x.sizes[-rank:]  # type: ignore[index]
    if types.known(sizes):
        return convert_to_tensor(math.prod(sizes), dtype)
    return math_ops.cast(math_ops.reduce_prod(array_ops.shape(x)[-rank:]), dtype)


@fft_op.grad
def _(op, dy):
    rank = op.attrs["rank"]
    return ifft_op(dy, rank=rank) * _count(dy, rank, dy.dtype),


@ifft_op.grad
def _(op, dy):
    rank = op.attrs["rank"]
    return fft_op(dy, rank=rank) / _count(dy, rank, dy.dtype),


# ---------------------------------------------------------------- real to complex and back


def _half(n: Any) -> Any:
    return n // 2 + 1


def _lengths(x: Tensor, fft_length: Tensor, rank: int) -> tuple[Any, ...]:
    """The sizes of the real side of a transform.  Raises ValueError unless `fft_length` is an int32 vector of `rank` sizes."""
    found = sizes_from(fft_length)
    if len(found) != rank:
        raise ValueError(f"fft_length must have shape [{rank}], got a vector of {len(found)}")
    return found


def _outer(x: Tensor, rank: int) -> tuple[Any, ...]:
    sizes = needs_rank(x)
    if len(sizes) < rank:
        raise ValueError(f"Shape must be at least rank {rank} but is rank {len(sizes)}")
    return sizes[:-rank]


def _complex_of(x: Any, *_: Any, **__: Any) -> list[types.DType]:
    return [types.complex128 if x.dtype is types.float64 else types.complex64]


@primitive("host", type="RFFT", dtypes=(types.float32, types.float64), static=("fft_length",), output_dtypes=_complex_of, same=("x",),
           input_dtypes={"fft_length": INDEX}, samples=[
               sample(lambda r: r.normal(size=(2, 6)), [6], rank=1), sample(lambda r: r.normal(size=(2, 5)), [7], rank=1),
               sample(lambda r: r.normal(size=(2, 7)), [4], rank=1), sample(lambda r: r.normal(size=(2, 3, 5)), [4, 5], rank=2)])
def rfft_op(x, fft_length, *, rank):
    """The transform of real x, cut or filled with zeros to `fft_length`; the last dimension keeps its first half, n // 2 + 1."""


@rfft_op.infers
def _(x, fft_length, *, rank):
    n = _lengths(x, fft_length, rank)
    return Spec(_complex_of(x)[0], (*_outer(x, rank), *n[:-1], _half(n[-1])))


@primitive("host", type="IRFFT", dtypes=COMPLEX, static=("fft_length",), same=("x",), input_dtypes={"fft_length": INDEX},
           output_dtypes=lambda x, *_, **__: [x.dtype.real_dtype], samples=[
               sample(_complexes(2, 4), [6], rank=1), sample(_complexes(2, 3), [5], rank=1), sample(_complexes(2, 6), [4], rank=1),
               sample(_complexes(2, 2), [6], rank=1), sample(_complexes(3, 3), [2, 4], rank=2)])
def irfft_op(x, fft_length, *, rank):
    """The real signal of `fft_length` whose `rfft` is x, cut or filled with zeros."""


@irfft_op.infers
def _(x, fft_length, *, rank):
    return Spec(x.dtype.real_dtype, (*_outer(x, rank), *_lengths(x, fft_length, rank)))


def _sized(x: np.ndarray, sizes: Any) -> np.ndarray:
    """The last dimensions cut or filled with zeros."""
    at: tuple[Any, ...] = (..., *[slice(0, n) for n in sizes])
    x = x[at]
    return np.pad(x, [(0, 0)] * (x.ndim - len(sizes)) + [(0, int(n) - k) for n, k in zip(sizes, x.shape[-len(sizes):])])


rfft_op.reference(lambda x, fft_length, *, rank: np.fft.rfftn(_sized(x, fft_length), axes=_axes(rank)))


@irfft_op.reference
def _(x, fft_length, *, rank):
    halved = [*fft_length[:-1], fft_length[-1] // 2 + 1]
    return np.fft.irfftn(_sized(x, halved), [int(n) for n in fft_length], axes=_axes(rank))


def _weights(n: Tensor, inner: float, dtype: types.DType) -> Tensor:
    """How often each of the n // 2 + 1 frequencies occurs in the whole transform, times `inner` / 2; the ends occur once."""
    k = array_ops.range(n // 2 + 1)
    once = math_ops.logical_or(math_ops.equal(k, 0), math_ops.equal(k * 2, n))
    real = array_ops.where(once, array_ops.ones_like(k, dtype.real_dtype), array_ops.fill(array_ops.shape(k), convert_to_tensor(
        inner, dtype.real_dtype)))
    return math_ops.cast(real, dtype)


def _resized(x: Tensor, like: Tensor, rank: int) -> Tensor:
    """x with its last dimensions cut or filled with zeros to those of `like`."""
    have, want = array_ops.shape(x)[-rank:], array_ops.shape(like)[-rank:]
    for k in range(rank):
        a, b = x.sizes[k - rank], like.sizes[k - rank]  # type: ignore[index]
        if types.same(a, b) is True:
            continue
        axis = len(x.sizes) + k - rank  # type: ignore[arg-type]
        kept = array_ops.gather(x, array_ops.range(math_ops.minimum(have[k], want[k])), axis=axis)
        missing = math_ops.maximum(want[k] - have[k], 0)
        pads = [[0, missing if i == axis else 0] for i in range(len(x.sizes))]  # type: ignore[arg-type]
        x = array_ops.pad(kept, pads)
    x.set_shape(like.shape)
    return x


@rfft_op.grad
def _(op, dy):
    # The adjoint of the half transform: each frequency counts once, while irfft adds those inside and their mirror images.
    x, n, rank = *op.inputs, op.attrs["rank"]
    back = irfft_op(dy * _weights(n[-1], 0.5, dy.dtype), n, rank=rank) * math_ops.cast(math_ops.reduce_prod(n), x.dtype)
    return _resized(back, x, rank), None


@irfft_op.grad
def _(op, dy):
    x, n, rank = *op.inputs, op.attrs["rank"]
    forth = rfft_op(dy, n, rank=rank) * _weights(n[-1], 2.0, x.dtype) / math_ops.cast(math_ops.reduce_prod(n), x.dtype)
    return _resized(forth, x, rank), None


# ---------------------------------------------------------------- TF's names


def _transform(op: Any, rank: int, name: str, what: str) -> Callable[..., Tensor]:
    where = "last dimension" if rank == 1 else f"last {rank} dimensions"

    def f(input: Any, name: str | None = None) -> Tensor:
        return op(convert_to_tensor(input), rank=rank, name=name)

    f.__name__, f.__qualname__ = name, name
    f.__doc__ = f"The {what} of complex64 or complex128 `input` over its {where}.\n\n    Raises TypeError for another dtype."
    return f


fft, fft2d, fft3d = [_transform(fft_op, r, n, "discrete Fourier transform") for r, n in ((1, "fft"), (2, "fft2d"), (3, "fft3d"))]
ifft, ifft2d, ifft3d = [_transform(ifft_op, r, n, "inverse discrete Fourier transform")
                        for r, n in ((1, "ifft"), (2, "ifft2d"), (3, "ifft3d"))]


def _length_of(x: Tensor, rank: int, back: bool) -> Tensor:
    """The length when none is given: x's own, or the even one whose half x is."""
    sizes = needs_rank(x)[-rank:]
    if types.known(sizes):
        return convert_to_tensor([*sizes[:-1], max(2 * (sizes[-1] - 1), 0) if back else sizes[-1]], types.int32)
    found = array_ops.shape(x)[-rank:]
    last = math_ops.maximum(0, 2 * (found[-1] - 1)) if back else found[-1]
    return array_ops.concat([found[:-1], [last]], 0)


def _real_transform(op: Any, rank: int, name: str, doc: str) -> Callable[..., Tensor]:
    def f(input_tensor: Any, fft_length: Any = None, name: str | None = None) -> Tensor:
        with _scope(name, op.type) as scope:
            x = convert_to_tensor(input_tensor, preferred_dtype=types.float32 if op is rfft_op else types.complex64)
            n = _length_of(x, rank, op is irfft_op) if fft_length is None else convert_to_tensor(fft_length, preferred_dtype=types.int32)
            return op(x, array_ops.reshape(n, [1]) if n.sizes == () else n, rank=rank, name=scope)

    f.__name__, f.__qualname__ = name, name
    f.__doc__ = doc.format(where="last dimension" if rank == 1 else f"last {rank} dimensions", rank=rank)
    return f


_RFFT = """The Fourier transform of real `input_tensor` over its {where}: the last one has fft_length // 2 + 1 frequencies.

    Args:
        input_tensor: float32 or float64.
        fft_length: int32 [{rank}], to which the signal is cut or filled with zeros; its own sizes by default.
    """
_IRFFT = """The real signal over the {where} whose `rfft` is `input_tensor`, complex64 or complex128.

    Args:
        fft_length: int32 [{rank}], the sizes of the signal; by default the last one is even, 2 (n - 1).
    """
rfft, rfft2d, rfft3d = [_real_transform(rfft_op, r, n, _RFFT) for r, n in ((1, "rfft"), (2, "rfft2d"), (3, "rfft3d"))]
irfft, irfft2d, irfft3d = [_real_transform(irfft_op, r, n, _IRFFT) for r, n in ((1, "irfft"), (2, "irfft2d"), (3, "irfft3d"))]


# ---------------------------------------------------------------- cosine transforms


def _check_dct(input: Any, type: int, n: Any, axis: int, norm: Any) -> Tensor:
    if axis != -1:
        raise NotImplementedError(f"axis must be -1. Got: {axis}")
    if type not in (1, 2, 3, 4):
        raise ValueError(f"Types I, II, III and IV (I)DCT are supported. Got: {type}.")
    if norm not in (None, "ortho"):
        raise ValueError(f"Unknown normalization. Expected None or 'ortho', got: {norm}")
    if type == 1 and norm == "ortho":
        raise ValueError("Normalization is not supported for the Type-I DCT.")
    x = convert_to_tensor(input, preferred_dtype=types.float32)
    if x.dtype not in REAL:
        raise TypeError(f"dct needs float32 or float64, got {x.dtype.name}")
    if n is not None:
        if n < 1:
            raise ValueError(f"n should be a positive integer or None, got {n}")
        size = needs_rank(x)[-1]
        x = x[..., :n]
        if types.less(size, n) is not False:
            missing = math_ops.maximum(n - array_ops.shape(x)[-1], 0) if not isinstance(size, int) else n - size
            x = array_ops.pad(x, [[0, 0]] * (len(x.sizes) - 1) + [[0, missing]])  # type: ignore[arg-type]
            x.set_shape(x.shape.as_list()[:-1] + [n])
    size = needs_rank(x)[-1]
    if type == 1 and isinstance(size, int) and size < 2:
        raise ValueError(f"Type-I DCT requires the dimension to be greater than one, got {size}")
    return x


@primitive("host", type="DCT", dtypes=(types.float32, types.float64), infer=lambda x, **_: Spec(x.dtype, needs_rank(x)), samples=[
    sample(lambda r: r.normal(size=(2, 5)), type=t, ortho=o) for t, o in ((1, False), (2, False), (2, True), (3, False), (3, True),
                                                                         (4, False), (4, True))])
def dct_op(x, *, type, ortho):
    """The cosine transform of one of the types 1 to 4 over the last dimension; orthogonal if `ortho` (not type 1)."""


@dct_op.reference
def _(x, *, type, ortho):
    n = x.shape[-1]
    k = np.arange(n)
    if type == 1:
        return np.fft.rfft(np.concatenate([x, x[..., -2:0:-1]], -1)).real
    if type == 4:
        turned = np.fft.fft(x * np.exp(-0.5j * np.pi * k / n), 2 * n)[..., :n]
        y = 2 * (turned * np.exp(-0.25j * np.pi * (2 * k + 1) / n)).real
        return y / math.sqrt(2 * n) if ortho else y
    # J. Makhoul, "A fast cosine transform in one and two dimensions" (1980): even places, then the odd ones backwards.
    ends = np.where(k == 0, math.sqrt(4 * n), math.sqrt(2 * n)) if ortho else 1.0
    if type == 2:
        turned = np.fft.fft(np.concatenate([x[..., ::2], x[..., 1::2][..., ::-1]], -1))
        return 2 * (turned * np.exp(-0.5j * np.pi * k / n)).real / ends
    c = x * ends
    mirrored = np.concatenate([np.zeros_like(c[..., :1]), c[..., :0:-1]], -1)
    v = np.fft.ifft((c - 1j * mirrored) * np.exp(0.5j * np.pi * k / n)).real * (0.5 if ortho else n)
    y = np.empty_like(v)
    y[..., ::2], y[..., 1::2] = v[..., :(n + 1) // 2], v[..., (n + 1) // 2:][..., ::-1]
    return y


@dct_op.grad
def _(op, dy):
    # The matrices of types 2 and 3 are transposes of each other but for the factor of element 0, which occurs once, not twice.
    kind, ortho = op.attrs["type"], op.attrs["ortho"]
    back = {1: 1, 2: 3, 3: 2, 4: 4}[kind]
    if ortho or kind == 4:
        return dct_op(dy, type=back, ortho=ortho),
    n = array_ops.shape(dy)[-1]
    k = array_ops.range(n)
    end = math_ops.logical_or(math_ops.equal(k, 0), math_ops.logical_and(math_ops.equal(k, n - 1), kind == 1))
    twice = 2.0 - math_ops.cast(end, dy.dtype)  # 1 where an element occurs once
    if kind == 1:
        return dct_op(dy / twice, type=1, ortho=False) * twice,
    return (dct_op(dy * (2.0 / twice), type=3, ortho=False) if kind == 2 else dct_op(dy, type=2, ortho=False) * twice * 0.5),


def dct(input: Any, type: int = 2, n: int | None = None, axis: int = -1, norm: str | None = None, name: str | None = None) -> Tensor:
    """The cosine transform of the last dimension.

    Type 2: y_k = 2 sum_j x_j cos(pi k (2j + 1) / 2N); type 3 its inverse times 2N; type 1 and 4 as SciPy's.

    Args:
        input: float32 or float64.
        n: cut or fill with zeros to this length.
        norm: "ortho" makes types 2, 3 and 4 orthogonal.

    Raises:
        ValueError: another type or norm, n < 1.  NotImplementedError: another axis.
    """
    with _scope(name, "dct"):
        x = _check_dct(input, type, n, axis, norm)
        return dct_op(x, type=type, ortho=norm == "ortho")


def idct(input: Any, type: int = 2, n: int | None = None, axis: int = -1, norm: str | None = None, name: str | None = None) -> Tensor:
    """The inverse of `dct`, without its factor: for norm=None, `idct(dct(x)) / (2 N)` is x (2 (N - 1) for type 1).

    Arguments and errors as those of `dct`.
    """
    return dct(input, {1: 1, 2: 3, 3: 2, 4: 4}.get(type, type), n, axis, norm, name or "idct")
