"""`tf.signal`: frames, windows, short-time Fourier transforms, mel scales; and the transforms of spectral.py.

Signals run along the last axis, [..., samples]; lengths are Python ints or integer scalars.  Everything is a composition of public ops,
so gradients pass.
"""
from __future__ import annotations

import functools
from typing import Any, Callable

import numpy as np

from . import array_ops, graph, math_ops, types
from .graph import Tensor
from .ops.opdef import constant_value, convert_to_tensor, needs_rank
from .spectral import dct, fft, fft2d, fft3d, idct, ifft, ifft2d, ifft3d, irfft, irfft2d, irfft3d, rfft, rfft2d, rfft3d

__all__ = ["dct", "fft", "fft2d", "fft3d", "fftshift", "frame", "hamming_window", "hann_window", "idct", "ifft", "ifft2d", "ifft3d",
           "ifftshift", "inverse_stft", "inverse_stft_window_fn", "irfft", "irfft2d", "irfft3d", "linear_to_mel_weight_matrix",
           "mfccs_from_log_mel_spectrograms", "overlap_and_add", "rfft", "rfft2d", "rfft3d", "stft"]


def _scope(name: str | None, default: str) -> Any:
    return graph.get_default_graph().name_scope(name or default)


def _length(value: Any, what: str) -> Any:
    """A Python int where the graph determines it, else an int32 scalar.  Raises ValueError unless it is a scalar."""
    t = convert_to_tensor(value)
    if t.sizes not in ((), None):
        raise ValueError(f"{what} must be a scalar, got shape {t.shape}")
    known = constant_value(t)
    return int(known) if known is not None else math_ops.cast(t, types.int32)


def _size(x: Tensor, axis: int) -> Any:
    size = x.sizes[axis]  # type: ignore[index]
    return size if isinstance(size, int) else array_ops.shape(x)[axis]


def _largest(a: Any, b: Any) -> Any:
    return max(a, b) if isinstance(a, int) and isinstance(b, int) else math_ops.maximum(a, b)


# ---------------------------------------------------------------- frames


def frame(signal: Any, frame_length: Any, frame_step: Any, pad_end: bool = False, pad_value: Any = 0, axis: int = -1,
          name: str | None = None) -> Tensor:
    """Windows along `axis`, which becomes two: [..., samples, ...] -> [..., frames, frame_length, ...].

    Args:
        frame_length, frame_step: in samples.
        pad_end: also the frames that begin before the end, filled with `pad_value`; otherwise whole frames only.
    """
    with _scope(name, "frame"):
        x = convert_to_tensor(signal, name="signal")
        axis = types.canonical_axis(axis, len(needs_rank(x)))
        length, step = _length(frame_length, "frame_length"), _length(frame_step, "frame_step")
        samples = _size(x, axis)
        if pad_end:
            count = -(-samples // step)
            missing = _largest(0, length + step * (count - 1) - samples)
            if not (isinstance(missing, int) and missing == 0):
                x = array_ops.pad(x, [[0, missing if k == axis else 0] for k in range(len(x.sizes))],  # type: ignore[arg-type]
                                  constant_values=pad_value)
        else:
            count = _largest(0, 1 + (samples - length) // step)
        places = array_ops.expand_dims(array_ops.range(count) * step, 1) + array_ops.range(length)
        # Not along the first axis, where the gradient would be IndexedSlices.
        return array_ops.gather(array_ops.expand_dims(x, 0), places, axis=axis + 1)[0]


def overlap_and_add(signal: Any, frame_step: Any, name: str | None = None) -> Tensor:
    """The sum of frames, each `frame_step` samples after the one before: [..., frames, length] -> [..., (frames - 1) step + length].

    Raises:
        ValueError: a signal below rank 2, a step that is no scalar.  TypeError: a step that is no integer.
    """
    with _scope(name, "overlap_and_add"):
        x = convert_to_tensor(signal, name="signal")
        if len(needs_rank(x)) < 2:
            raise ValueError(f"overlap_and_add: signal must be at least rank 2, got shape {x.shape}")
        if not convert_to_tensor(frame_step).dtype.is_integer:
            raise ValueError(f"frame_step must be an integer. Got {convert_to_tensor(frame_step).dtype.name}")
        step = _length(frame_step, "frame_step")
        rank = len(x.sizes)  # type: ignore[arg-type]
        frames, length = _size(x, rank - 2), _size(x, rank - 1)
        outer = [_size(x, k) for k in range(rank - 2)]
        # Frames cut into blocks of a step; skewing puts blocks that fall on the same samples below each other.
        blocks = -(-length // step)
        fill = [[0, 0]] * (rank - 2)
        x = array_ops.pad(x, [*fill, [0, blocks], [0, blocks * step - length]])
        x = array_ops.reshape(x, [*outer, frames + blocks, blocks, step])
        x = array_ops.transpose(x, [*range(rank - 2), rank - 1, rank - 2, rank])
        x = array_ops.reshape(x, [*outer, blocks * (frames + blocks), step])
        x = array_ops.reshape(x[..., :blocks * (frames + blocks - 1), :], [*outer, blocks, frames + blocks - 1, step])
        x = array_ops.reshape(math_ops.reduce_sum(x, -3), [*outer, (frames + blocks - 1) * step])
        return x[..., :(frames - 1) * step + length]


# ---------------------------------------------------------------- windows


def _raised_cosine(name: str | None, default: str, window_length: Any, periodic: Any, dtype: Any, a: float, b: float) -> Tensor:
    dtype = types.as_dtype(dtype)
    if not dtype.is_floating:
        raise ValueError(f"Data type {dtype.name} not supported. Expected floating point type.")
    with _scope(name, default):
        length = _length(window_length, "window_length")
        if isinstance(length, int) and length == 1:
            return array_ops.ones([1], dtype)
        even = 1 - length % 2
        n = length - 1 + (even if isinstance(periodic, (bool, np.bool_)) and periodic else 0 if isinstance(periodic, (bool, np.bool_))
                          else math_ops.cast(periodic, types.int32) * even)
        turns = math_ops.cast(array_ops.range(length), dtype) * (2 * np.pi) / math_ops.cast(n, dtype)
        return a - b * math_ops.cos(turns)


def hann_window(window_length: Any, periodic: Any = True, dtype: Any = types.float32, name: str | None = None) -> Tensor:
    """0.5 - 0.5 cos(2 pi j / n), n being the length of a periodic window, one less of a symmetric one (and of odd lengths)."""
    return _raised_cosine(name, "hann_window", window_length, periodic, dtype, 0.5, 0.5)


def hamming_window(window_length: Any, periodic: Any = True, dtype: Any = types.float32, name: str | None = None) -> Tensor:
    """0.54 - 0.46 cos(2 pi j / n); see `hann_window`."""
    return _raised_cosine(name, "hamming_window", window_length, periodic, dtype, 0.54, 0.46)


# ---------------------------------------------------------------- short-time transforms


def _enclosing_power_of_two(value: Any) -> Any:
    if isinstance(value, int):
        return 1 << max(value - 1, 0).bit_length()
    exponent = math_ops.ceil(math_ops.log(math_ops.cast(value, types.float32)) / np.log(2.0))
    return math_ops.cast(math_ops.pow(2.0, exponent), types.int32)


def stft(signals: Any, frame_length: Any, frame_step: Any, fft_length: Any = None, window_fn: Any = functools.partial(
        hann_window, periodic=True), pad_end: bool = False, name: str | None = None) -> Tensor:
    """The spectra of windowed frames: [..., samples] -> complex64 [..., frames, fft_length // 2 + 1].

    Args:
        fft_length: to which frames are filled with zeros; the next power of two by default.
        window_fn: `window_fn(frame_length, dtype=...)`; None for no window.
        pad_end: see `frame`.
    """
    with _scope(name, "stft"):
        x = convert_to_tensor(signals, name="signals")
        length = _length(frame_length, "frame_length")
        size = _enclosing_power_of_two(length) if fft_length is None else _length(fft_length, "fft_length")
        frames = frame(x, length, _length(frame_step, "frame_step"), pad_end)
        if window_fn is not None:
            frames = frames * window_fn(length, dtype=frames.dtype)
        return rfft(frames, [size])


def inverse_stft_window_fn(frame_step: Any, forward_window_fn: Any = functools.partial(hann_window, periodic=True),
                           name: str | None = None) -> Callable[..., Tensor]:
    """The window for `inverse_stft` that undoes `stft` with `forward_window_fn` exactly: it divides by the sum of overlapping squares."""
    def inverse(frame_length: Any, dtype: Any) -> Tensor:
        with _scope(name, "inverse_stft_window_fn"):
            length, step = _length(frame_length, "frame_length"), _length(frame_step, "frame_step")
            window = forward_window_fn(length, dtype=dtype)
            overlaps = -(-length // step)
            squares = array_ops.pad(math_ops.square(window), [[0, overlaps * step - length]])
            total = math_ops.reduce_sum(array_ops.reshape(squares, [overlaps, step]), 0)
            return window / array_ops.tile(total, [overlaps])[:length]

    return inverse


def inverse_stft(stfts: Any, frame_length: Any, frame_step: Any, fft_length: Any = None, window_fn: Any = functools.partial(
        hann_window, periodic=True), name: str | None = None) -> Tensor:
    """The signal of spectra [..., frames, fft_length // 2 + 1]: windowed frames, added up where they overlap.

    To undo `stft`, `window_fn` must be `inverse_stft_window_fn(frame_step, forward_window_fn)`.
    """
    with _scope(name, "inverse_stft"):
        x = convert_to_tensor(stfts, name="stfts")
        length = _length(frame_length, "frame_length")
        size = _enclosing_power_of_two(length) if fft_length is None else _length(fft_length, "fft_length")
        frames = irfft(x, [size])
        fill = _largest(length - size, 0)
        frames = frames[..., :length]
        if not (isinstance(fill, int) and fill == 0):
            frames = array_ops.pad(frames, [[0, 0]] * (len(needs_rank(frames)) - 1) + [[0, fill]])
        if window_fn is not None:
            frames = frames * window_fn(length, dtype=x.dtype.real_dtype)
        return overlap_and_add(frames, _length(frame_step, "frame_step"))


def _shifted(x: Any, axes: Any, name: str | None, default: str, by: Callable[[Any], Any]) -> Tensor:
    with _scope(name, default):
        t = convert_to_tensor(x)
        rank = len(needs_rank(t))
        chosen = list(range(rank)) if axes is None else [int(a) for a in (axes if hasattr(axes, "__iter__") else [axes])]
        return array_ops.roll(t, [by(_size(t, types.canonical_axis(a, rank))) for a in chosen], chosen)


def fftshift(x: Any, axes: Any = None, name: str | None = None) -> Tensor:
    """Frequency zero moved from the front to the middle of `axes` (all of them by default)."""
    return _shifted(x, axes, name, "fftshift", lambda n: n // 2)


def ifftshift(x: Any, axes: Any = None, name: str | None = None) -> Tensor:
    """The inverse of `fftshift`."""
    return _shifted(x, axes, name, "ifftshift", lambda n: -(n // 2))


# ---------------------------------------------------------------- mel scale


def _mel(hertz: Tensor) -> Tensor:
    """HTK's scale: 1127 ln(1 + f / 700)."""
    return 1127.0 * math_ops.log(1.0 + hertz / 700.0)


def linear_to_mel_weight_matrix(num_mel_bins: int = 20, num_spectrogram_bins: Any = 129, sample_rate: Any = 8000,
                                lower_edge_hertz: Any = 125.0, upper_edge_hertz: Any = 3800.0, dtype: Any = types.float32,
                                name: str | None = None) -> Tensor:
    """A matrix [num_spectrogram_bins, num_mel_bins] of triangles, which turns linear spectra into mel spectra.

    Raises:
        ValueError: counts or rates that are not positive, edges out of order or above half the sample rate, a dtype that is no float.
    """
    dtype = types.as_dtype(dtype)
    for holds, problem in (
            (num_mel_bins > 0, f"num_mel_bins must be positive. Got: {num_mel_bins}"),
            (lower_edge_hertz >= 0.0, f"lower_edge_hertz must be non-negative. Got: {lower_edge_hertz}"),
            (lower_edge_hertz < upper_edge_hertz, f"lower_edge_hertz {lower_edge_hertz} >= upper_edge_hertz {upper_edge_hertz}"),
            (isinstance(sample_rate, Tensor) or sample_rate > 0.0, f"sample_rate must be positive. Got: {sample_rate}"),
            (isinstance(sample_rate, Tensor) or upper_edge_hertz <= sample_rate / 2,
             f"upper_edge_hertz must not be larger than the Nyquist frequency (sample_rate / 2). Got {upper_edge_hertz} for sample_rate: "
             f"{sample_rate}"),
            (dtype.is_floating, f"dtype must be a floating point type. Got: {dtype.name}")):
        if not holds:
            raise ValueError(problem)
    with _scope(name, "linear_to_mel_weight_matrix"):
        nyquist = math_ops.cast(sample_rate, dtype) / 2.0
        bins = array_ops.linspace(convert_to_tensor(0.0, dtype), nyquist, num_spectrogram_bins)[1:]  # without the constant part
        spectrum = array_ops.expand_dims(_mel(bins), 1)
        low, high = (_mel(convert_to_tensor(float(e), dtype)) for e in (lower_edge_hertz, upper_edge_hertz))
        edges = array_ops.linspace(low, high, num_mel_bins + 2)
        lower, center, upper = edges[:-2], edges[1:-1], edges[2:]
        rising, falling = (spectrum - lower) / (center - lower), (upper - spectrum) / (upper - center)
        weights = math_ops.maximum(convert_to_tensor(0.0, dtype), math_ops.minimum(rising, falling))
        return array_ops.pad(weights, [[1, 0], [0, 0]])


def mfccs_from_log_mel_spectrograms(log_mel_spectrograms: Any, name: str | None = None) -> Tensor:
    """Mel-frequency cepstral coefficients: the orthogonal DCT-II of log mel spectra [..., bins], without HTK's extra factor for 0.

    Raises:
        ValueError: no bins.
    """
    with _scope(name, "mfccs_from_log_mel_spectrograms"):
        x = convert_to_tensor(log_mel_spectrograms)
        size = _size(x, len(needs_rank(x)) - 1)
        if isinstance(size, int) and size == 0:
            raise ValueError(f"num_mel_bins must be at least 1. Got: {size}")
        return dct(x, type=2) * math_ops.rsqrt(math_ops.cast(size, x.dtype) * 2.0)
