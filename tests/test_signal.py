"""`tf.spectral` and `tf.signal` against SciPy and NumPy, and values of TensorFlow 2.21 written down."""
from __future__ import annotations

import numpy as np
import pytest
from on_gpu import QUICK
import scipy.fft
import scipy.signal

import graphflow as tf
from graphflow.flags import flags

RNG = np.random.default_rng(0)
X = RNG.normal(size=(2, 100)).astype(np.float32)
C = (RNG.normal(size=(2, 3, 8)) + 1j * RNG.normal(size=(2, 3, 8))).astype(np.complex64)


@pytest.fixture(autouse=True)
def _fresh():
    with flags.override(interpret=QUICK), tf.Graph().as_default():
        yield


def run(x, feed=None):
    with tf.Session() as sess:
        return sess.run(x, feed)


@pytest.mark.parametrize("home", ["signal", "spectral"])
@pytest.mark.parametrize("name,arg,expected", [
    ("fft", C, np.fft.fft(C)), ("ifft", C, np.fft.ifft(C)), ("fft2d", C, np.fft.fft2(C)), ("ifft2d", C, np.fft.ifft2(C)),
    ("fft3d", C, np.fft.fftn(C)), ("ifft3d", C, np.fft.ifftn(C)), ("rfft", X, np.fft.rfft(X)), ("rfft2d", X, np.fft.rfft2(X)),
    ("irfft", C, np.fft.irfft(C)), ("irfft2d", C, np.fft.irfft2(C)), ("rfft3d", C.real, np.fft.rfftn(C.real)),
    ("irfft3d", C, np.fft.irfftn(C))])
def test_transform(home, name, arg, expected):
    found = getattr(getattr(tf, home), name)(arg)
    assert found.shape.as_list() == list(expected.shape)
    value = run(found)
    assert value.dtype == (np.float32 if name.startswith("irfft") else np.complex64)
    np.testing.assert_allclose(value, expected, rtol=1e-4, atol=1e-4)
    if name in ("fft", "ifft", "fft2d", "ifft2d", "fft3d", "ifft3d"):
        assert run(getattr(tf, name)(arg)).shape == expected.shape


@pytest.mark.parametrize("n", [64, 100, 131])
def test_length_known_when_run(n):
    x, length = tf.placeholder(tf.float64, [None, None]), tf.placeholder(tf.int32, [1])
    y = tf.signal.rfft(x, length)
    back = tf.signal.irfft(y, length)
    spectrum, signal = run([y, back], {x: X, length: [n]})
    np.testing.assert_allclose(spectrum, np.fft.rfft(X.astype(float), n), atol=1e-9)
    np.testing.assert_allclose(signal, np.fft.irfft(np.fft.rfft(X.astype(float), n), n), atol=1e-9)


@pytest.mark.parametrize("kind", [1, 2, 3, 4])
@pytest.mark.parametrize("norm", [None, "ortho"])
@pytest.mark.parametrize("n", [None, 60, 120])
def test_dct(kind, norm, n):
    if kind == 1 and norm:
        with pytest.raises(ValueError, match="Type-I"):
            tf.signal.dct(X, type=1, norm=norm)
        return
    np.testing.assert_allclose(run(tf.signal.dct(X, type=kind, n=n, norm=norm)), scipy.fft.dct(X, kind, n, norm=norm), rtol=1e-3, atol=1e-4)
    scale = 1 if norm else 2 * (99 if kind == 1 else 100)
    np.testing.assert_allclose(run(tf.signal.idct(tf.spectral.dct(X, type=kind, norm=norm), type=kind, norm=norm)), X * scale, rtol=1e-3,
                               atol=1e-3)


@pytest.mark.parametrize("length,periodic", [(8, True), (8, False), (7, True), (7, False), (1, True)])
def test_windows(length, periodic):
    even_periodic = periodic and length % 2 == 0
    for name in ("hann", "hamming"):
        expected = scipy.signal.get_window(name, length, fftbins=even_periodic)
        np.testing.assert_allclose(run(getattr(tf.signal, f"{name}_window")(length, periodic=periodic)), expected, atol=1e-6)


def test_frame():
    x = np.arange(10)
    windows = np.lib.stride_tricks.sliding_window_view(x, 4)[::3]
    assert np.array_equal(run(tf.signal.frame(x, 4, 3)), windows)
    assert np.array_equal(run(tf.signal.frame(x, 4, 3, pad_end=True, pad_value=-1)), [*windows, [9, -1, -1, -1]])
    assert tf.signal.frame(tf.zeros([5, 10, 2]), 4, 3, axis=1).shape.as_list() == [5, 3, 4, 2]
    assert run(tf.signal.frame(x[:3], 4, 3)).shape == (0, 4)
    dynamic, n = tf.placeholder(tf.float32, [None]), tf.placeholder(tf.int32, [])
    assert np.array_equal(run(tf.signal.frame(dynamic, n, 3), {dynamic: x, n: 4}), windows)


@pytest.mark.parametrize("step", [1, 3, 4, 6])
def test_overlap_and_add(step):
    frames = RNG.normal(size=(2, 5, 4))
    expected = np.zeros((2, 4 * step + 4))
    for k in range(5):
        expected[:, k * step:k * step + 4] += frames[:, k]
    np.testing.assert_allclose(run(tf.signal.overlap_and_add(frames, step)), expected)
    dynamic = tf.placeholder(tf.float64, [None, None, None])
    np.testing.assert_allclose(run(tf.signal.overlap_and_add(dynamic, step), {dynamic: frames}), expected)


@pytest.mark.parametrize("length,step,fft", [(16, 8, None), (20, 7, 32), (16, 4, 16)])
def test_stft_and_back(length, step, fft):
    window = scipy.signal.get_window("hann", length)
    size = fft or 2 ** int(np.ceil(np.log2(length)))
    frames = np.lib.stride_tricks.sliding_window_view(X, length, axis=-1)[:, ::step] * window
    spectra = tf.signal.stft(X, length, step, fft)
    np.testing.assert_allclose(run(spectra), np.fft.rfft(frames, size), atol=1e-4)
    back = tf.signal.inverse_stft(spectra, length, step, fft, window_fn=tf.signal.inverse_stft_window_fn(step))
    inner = slice(length, 100 - 2 * length)
    np.testing.assert_allclose(run(back)[:, inner], X[:, inner], atol=1e-4)


def test_stft_gradient():
    x = tf.constant(X[0], tf.float64)
    y = tf.reduce_sum(tf.abs(tf.signal.stft(x, 16, 8)))
    grad, = tf.gradients(y, x)
    d = RNG.normal(size=100)
    probe = tf.placeholder(tf.float64, [100])
    loss = tf.reduce_sum(tf.abs(tf.signal.stft(probe, 16, 8)))
    with tf.Session() as sess:
        slope = (sess.run(loss, {probe: X[0] + 1e-6 * d}) - sess.run(loss, {probe: X[0] - 1e-6 * d})) / 2e-6
        np.testing.assert_allclose(np.sum(sess.run(grad) * d), slope, rtol=1e-5)


def test_mel():
    m = run(tf.signal.linear_to_mel_weight_matrix(3, 6, 8000, 125.0, 3800.0))
    expected = [[0, 0, 0], [0.5903806, 0.40961936, 0], [0, 0.5825246, 0.41747543], [0, 0, 0.87871796], [0, 0, 0.3374126],
                [0, 0, 0]]  # of TensorFlow 2.21
    np.testing.assert_allclose(m, expected, atol=1e-5)
    log_mel = RNG.normal(size=(2, 5)).astype(np.float32)
    expected = scipy.fft.dct(log_mel, 2) / np.sqrt(10)
    np.testing.assert_allclose(run(tf.signal.mfccs_from_log_mel_spectrograms(log_mel)), expected, atol=1e-5)


def test_shift():
    x = RNG.normal(size=(3, 4, 5))
    assert np.array_equal(run(tf.signal.fftshift(x)), np.fft.fftshift(x))
    assert np.array_equal(run(tf.signal.ifftshift(x, [0, 2])), np.fft.ifftshift(x, [0, 2]))
    assert np.array_equal(run(tf.signal.ifftshift(x, 1)), np.fft.ifftshift(x, 1))


@pytest.mark.parametrize("kind,message,make", [
    (ValueError, "rank", lambda: tf.signal.fft2d(tf.zeros([3], tf.complex64))), (TypeError, "FFT", lambda: tf.signal.fft(tf.zeros([3]))),
    (ValueError, "fft_length", lambda: tf.signal.rfft(tf.zeros([3]), [3, 4])),
    (ValueError, "Types I", lambda: tf.signal.dct(X, type=5)), (NotImplementedError, "axis", lambda: tf.signal.dct(X, axis=0)),
    (ValueError, "ortho", lambda: tf.signal.dct(X, norm="x")), (ValueError, "rank 2", lambda: tf.signal.overlap_and_add(tf.zeros([3]), 1)),
    (ValueError, "integer", lambda: tf.signal.overlap_and_add(X, 1.5)),
    (ValueError, "floating", lambda: tf.signal.hann_window(3, dtype=tf.int32)),
    (ValueError, "num_mel_bins", lambda: tf.signal.linear_to_mel_weight_matrix(0)),
    (ValueError, "Nyquist", lambda: tf.signal.linear_to_mel_weight_matrix(sample_rate=1000)),
])
def test_bad_input(kind, message, make):
    with pytest.raises(kind, match=message):
        make()
