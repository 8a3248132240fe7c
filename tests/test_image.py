"""tf.image against NumPy: loops over pixels for resizing, colorsys for colours, slices for cutting and turning."""
from __future__ import annotations

import colorsys

import numpy as np
import pytest

import graphflow as tf


@pytest.fixture
def x():
    return np.random.default_rng(0).random((2, 5, 7, 3)).astype(np.float32)


@pytest.fixture
def u():
    return np.random.default_rng(1).integers(0, 256, (2, 5, 7, 3)).astype(np.uint8)


def run(t, feed=None):
    with tf.Session() as sess:
        return sess.run(t, feed)


# ---------------------------------------------------------------- resizing


def along(a, axis, new, method, align):
    """One axis resized, pixel by pixel."""
    a = np.moveaxis(a.astype(np.float64), axis, 0)
    old = len(a)
    scale = (old - 1) / (new - 1) if align and new > 1 else old / new
    out = []
    for i in range(new):
        at = i * scale
        if method == "nearest":
            out.append(a[min(int(np.floor(at + 0.5 if align else at)), old - 1)])
        elif method == "bilinear":
            k = int(at + 1e-9)
            out.append(a[k] + (a[min(k + 1, old - 1)] - a[k]) * (at - k))
        elif method == "area":
            shares = [max(min(k + 1, at + scale) - max(k, at), 0) for k in range(old)]
            out.append(sum(s * v for s, v in zip(shares, a)) / scale)
        else:
            k, c = int(at + 1e-9), -0.75
            total = 0.0
            for j in range(k - 1, k + 3):
                d = abs(at - j)
                w = (c + 2) * d**3 - (c + 3) * d**2 + 1 if d <= 1 else c * d**3 - 5 * c * d**2 + 8 * c * d - 4 * c if d < 2 else 0
                total = total + w * a[min(max(j, 0), old - 1)]
            out.append(total)
    return np.moveaxis(np.array(out), 0, axis)


@pytest.mark.parametrize("size", [(3, 4), (10, 14), (1, 1), (5, 9)])
@pytest.mark.parametrize("align", [False, True])
@pytest.mark.parametrize("method", ["bilinear", "nearest", "bicubic", "area"])
def test_resize(x, u, method, align, size):
    if method == "area" and align:
        pytest.skip("the window of the last pixels lies outside: see test_area_outside")
    number = {"bilinear": tf.image.ResizeMethod.BILINEAR, "nearest": tf.image.ResizeMethod.NEAREST_NEIGHBOR,
              "bicubic": tf.image.ResizeMethod.BICUBIC, "area": tf.image.ResizeMethod.AREA}[method]
    found, single, coded = run([tf.image.resize_images(x, size, number, align), tf.image.resize_images(x[0], size, method, align),
                                tf.image.resize_images(u, size, number, align)])
    expected = along(along(x, 1, size[0], method, align), 2, size[1], method, align)
    tolerance = 2e-3 if method == "bicubic" else 1e-5  # positions are rounded to 1/1024
    np.testing.assert_allclose(found, expected, atol=tolerance)
    np.testing.assert_array_equal(single, found[0])
    assert coded.dtype == (np.uint8 if method == "nearest" else np.float32)
    np.testing.assert_allclose(coded, along(along(u, 1, size[0], method, align), 2, size[1], method, align), atol=255 * tolerance)


def test_area_outside():
    x = np.arange(4, dtype=np.float32).reshape(1, 1, 4, 1)
    # Three positions 0, 1.5 and 3 with windows of 1.5: the last pixel goes on.
    expected = [(0 + 0.5 * 1) / 1.5, (0.5 * 1 + 2) / 1.5, 3]
    np.testing.assert_allclose(run(tf.image.resize_area(x, (1, 3), align_corners=True)).ravel(), expected, rtol=1e-6)


def test_resize_of_unknown_sizes_and_gradient(x):
    p, size = tf.placeholder(tf.float32, [None, None, None, 3]), tf.placeholder(tf.int32, [2])
    y = tf.image.resize_bilinear(p, size)
    slope, = tf.gradients(y, p, 2 * tf.ones_like(y))
    found, dx = run([y, slope], {p: x, size: [8, 3]})
    np.testing.assert_allclose(found, along(along(x, 1, 8, "bilinear", False), 2, 3, "bilinear", False), atol=1e-5)
    assert dx.sum() == pytest.approx(2 * found.size, rel=1e-4)  # the weights of each pixel have the sum 1


def test_resize_arguments(x):
    same = tf.image.resize_images(x, (5, 7))
    assert same.dtype is tf.float32
    assert tf.image.resize_images(x, (10, 10), preserve_aspect_ratio=True).shape == (2, 7, 10, 3)
    for bad, words in ((lambda: tf.image.resize_images(x[0, 0], (2, 2)), "dimensional"), (lambda: tf.image.resize_images(x, (2, 2, 2)),
                                                                                          "2 elements"),
                       (lambda: tf.image.resize_bilinear(x[0], (2, 2)), "four-dimensional"), (lambda: tf.image.resize_images(x, (0, 2)),
                                                                                              "positive"),
                       (lambda: tf.image.resize_images(x, (2, 2), "fancy"), "not implemented")):
        with pytest.raises(ValueError, match=words):
            bad()


# ---------------------------------------------------------------- cutting and turning


def test_turning(x):
    cases = {"flip_left_right": x[:, :, ::-1], "flip_up_down": x[:, ::-1], "transpose_image": x.transpose(0, 2, 1, 3)}
    for name, expected in cases.items():
        np.testing.assert_array_equal(run(getattr(tf.image, name)(x)), expected)
        np.testing.assert_array_equal(run(getattr(tf.image, name)(x[0])), expected[0])
    for k in range(5):
        np.testing.assert_array_equal(run(tf.image.rot90(x, k)), np.rot90(x, k, (1, 2)))


@pytest.mark.parametrize("name, turned", [("random_flip_left_right", np.s_[:, ::-1]), ("random_flip_up_down", np.s_[::-1])])
def test_random_flips(x, name, turned):
    many = np.repeat(x[:1], 64, 0)
    one, batch = getattr(tf.image, name)(x[0], seed=1), getattr(tf.image, name)(many, seed=2)
    with tf.Session() as sess:
        seen = {bool(np.array_equal(f, x[0])) for f in (sess.run(one) for _ in range(20))}
        assert seen == {True, False}
        found = sess.run(batch)
    kept = [np.array_equal(f, x[0]) for f in found]
    assert 10 < sum(kept) < 54
    for k, f in zip(kept, found):
        np.testing.assert_array_equal(f, x[0] if k else x[0][turned])


@pytest.mark.parametrize("dynamic", [False, True])
def test_cutting(x, dynamic):
    p = tf.placeholder(tf.float32, [None, None, None, 3] if dynamic else x.shape)
    found = run([tf.image.crop_to_bounding_box(p, 1, 2, 3, 4), tf.image.pad_to_bounding_box(p, 1, 2, 9, 11), tf.image.central_crop(p, 0.5),
                 tf.image.resize_image_with_crop_or_pad(p, 3, 10), tf.image.resize_image_with_crop_or_pad(p, 8, 4)], {p: x})
    wide = np.zeros((2, 9, 11, 3), np.float32)
    wide[:, 1:6, 2:9] = x
    flat, tall = np.zeros((2, 3, 10, 3), np.float32), np.zeros((2, 8, 4, 3), np.float32)
    flat[:, :, 1:8] = x[:, 1:4]
    tall[:, 1:6] = x[:, :, 1:5]
    for f, e in zip(found, (x[:, 1:4, 2:6], wide, x[:, 1:4, 1:6], flat, tall)):
        np.testing.assert_array_equal(f, e)


def test_cutting_errors(x):
    for bad, words in ((lambda: tf.image.crop_to_bounding_box(x, 3, 0, 3, 3), "height must be >= target"),
                       (lambda: tf.image.crop_to_bounding_box(x, -1, 0, 3, 3), "offset_height must be >= 0"),
                       (lambda: tf.image.pad_to_bounding_box(x, 0, 0, 3, 3), "must be <= target - offset"),
                       (lambda: tf.image.central_crop(x, 0.0), "central_fraction"),
                       (lambda: tf.image.resize_image_with_crop_or_pad(x, 0, 3), "target_height must be > 0")):
        with pytest.raises(ValueError, match=words):
            bad()


# ---------------------------------------------------------------- colours


def test_convert_image_dtype(x, u):
    np.testing.assert_allclose(run(tf.image.convert_image_dtype(u, tf.float32)), u / 255.0, rtol=1e-6)
    np.testing.assert_array_equal(run(tf.image.convert_image_dtype(u, tf.uint16)), u.astype(np.uint16) * 256)
    np.testing.assert_array_equal(run(tf.image.convert_image_dtype(u.astype(np.int32) << 23, tf.uint8)), u)
    np.testing.assert_array_equal(run(tf.image.convert_image_dtype(x, tf.uint8)), (x * np.float32(255.5)).astype(np.uint8))
    np.testing.assert_array_equal(run(tf.image.convert_image_dtype(x * 4 - 1, tf.uint8, saturate=True)),
                                  np.clip((x * 4 - 1) * np.float32(255.5), 0, 255).astype(np.uint8))


def test_hsv(x):
    hsv = np.array([colorsys.rgb_to_hsv(*map(float, p)) for p in x.reshape(-1, 3)]).reshape(x.shape)
    np.testing.assert_allclose(run(tf.image.rgb_to_hsv(x)), hsv, atol=1e-5)
    np.testing.assert_allclose(run(tf.image.hsv_to_rgb(hsv.astype(np.float32))), x, atol=1e-5)

    def changed(hue, factor):
        return np.array([colorsys.hsv_to_rgb((h + hue) % 1, min(s * factor, 1), v) for h, s, v in hsv.reshape(-1, 3)]).reshape(x.shape)

    np.testing.assert_allclose(run(tf.image.adjust_hue(x, -0.3)), changed(-0.3, 1), atol=1e-5)
    np.testing.assert_allclose(run(tf.image.adjust_saturation(x, 1.7)), changed(0, 1.7), atol=1e-5)
    gray = run(tf.image.rgb_to_hsv(np.float32([[[0.5, 0.5, 0.5], [0, 0, 0]]])))
    np.testing.assert_array_equal(gray, [[[0, 0, 0.5], [0, 0, 0]]])


def test_brightness_contrast_gray(x, u):
    np.testing.assert_allclose(run(tf.image.adjust_brightness(x, 0.2)), x + np.float32(0.2), rtol=1e-6)
    np.testing.assert_array_equal(run(tf.image.adjust_brightness(u, 1.0)), 255)
    mean = x.mean((1, 2), keepdims=True)
    np.testing.assert_allclose(run(tf.image.adjust_contrast(x, 2.0)), (x - mean) * 2 + mean, atol=1e-5)
    gray = x @ np.float32([[0.2989], [0.587], [0.114]])
    np.testing.assert_allclose(run(tf.image.rgb_to_grayscale(x)), gray, rtol=1e-5)
    np.testing.assert_array_equal(run(tf.image.grayscale_to_rgb(gray)), np.repeat(gray, 3, -1))
    np.testing.assert_allclose(run(tf.image.adjust_gamma(x, 2.0, 0.5)), 0.5 * x**2, rtol=1e-5)


def test_random_colours_stay_in_range_and_vary(x):
    with tf.Session() as sess:
        bright = tf.image.random_brightness(x, 0.25, seed=1)
        deltas = [np.median(sess.run(bright) - x) for _ in range(30)]
        contrast = tf.image.random_contrast(x, 0.5, 2.0, seed=1)
        factors = [np.ptp(sess.run(contrast)[0, ..., 0]) / np.ptp(x[0, ..., 0]) for _ in range(30)]
        assert sess.run(tf.image.random_hue(x, 0.1)).shape == sess.run(tf.image.random_saturation(x, 0.5, 1.5)).shape == x.shape
    assert -0.2501 < min(deltas) < 0 < max(deltas) < 0.2501
    assert 0.499 < min(factors) < 1 < max(factors) < 2.001
    for bad in (lambda: tf.image.random_brightness(x, -1), lambda: tf.image.random_contrast(x, 2, 1),
                lambda: tf.image.random_contrast(x, -1, 1),
                lambda: tf.image.random_hue(x, 0.6), lambda: tf.image.random_saturation(x, 1, 1)):
        with pytest.raises(ValueError, match="must be"):
            bad()


def test_standardization(x, u):
    found = run(tf.image.per_image_standardization(u[0]))
    np.testing.assert_allclose(found, (u[0] - u[0].mean()) / u[0].std(), atol=1e-5)
    np.testing.assert_allclose(run(tf.image.per_image_standardization(np.full((4, 4, 3), 7, np.uint8))), 0)


# ---------------------------------------------------------------- comparing, boxes


def test_comparisons(x):
    total = np.abs(np.diff(x, axis=1)).sum((1, 2, 3)) + np.abs(np.diff(x, axis=2)).sum((1, 2, 3))
    np.testing.assert_allclose(run(tf.image.total_variation(x)), total, rtol=1e-5)
    np.testing.assert_allclose(run(tf.image.psnr(x, x * 0.9, 1.0)), 10 * np.log10(1 / ((x * 0.1) ** 2).mean((1, 2, 3))), rtol=1e-4)
    big = np.tile(x, (1, 3, 3, 1))
    same, other = run([tf.image.ssim(big, big, 1.0), tf.image.ssim(big, 1 - big, 1.0)])
    np.testing.assert_allclose(same, 1, rtol=1e-5)
    assert (other < 0).all()
    dy, dx = run(tf.image.image_gradients(x))
    np.testing.assert_allclose(dy[:, :-1], np.diff(x, axis=1), atol=1e-6)
    np.testing.assert_allclose(dx[:, :, :-1], np.diff(x, axis=2), atol=1e-6)
    assert not dy[:, -1].any()
    assert not dx[:, :, -1].any()


def test_random_blocks(x):
    begin, size, box = tf.image.sample_distorted_bounding_box([50, 80, 3], [[[0.2, 0.2, 0.6, 0.7]]], seed=1, min_object_covered=0.5,
                                                              aspect_ratio_range=[0.5, 2.0], area_range=[0.1, 0.9])
    picture = tf.zeros([50, 80, 3])
    block = tf.slice(picture, begin, size)
    seen = set()
    with tf.Session() as sess:
        for _ in range(20):
            b, s, edges, cut = sess.run([begin, size, box, block])
            assert cut.shape == (s[0], s[1], 3)
            assert s[2] == 3
            np.testing.assert_allclose(edges.ravel(), [b[0] / 50, b[1] / 80, (b[0] + s[0]) / 50, (b[1] + s[1]) / 80], rtol=1e-6)
            assert 0.1 <= s[0] * s[1] / 4000 <= 0.9
            rows, columns = min(30, b[0] + s[0]) - max(10, b[0]), min(56, b[1] + s[1]) - max(16, b[1])
            assert max(rows, 0) * max(columns, 0) >= 0.5 * 20 * 40
            seen.add(tuple(b))
        assert len(seen) > 5
        with pytest.raises(tf.errors.InvalidArgumentError, match="bounding boxes"):
            sess.run(tf.image.sample_distorted_bounding_box([5, 5, 3], np.zeros((1, 0, 4), np.float32))[0])


def test_non_max_suppression():
    boxes = np.float32([[0, 0, 1, 1], [0, 0.1, 1, 1.1], [0, -0.1, 1, 0.9], [0, 10, 1, 11], [0, 10.1, 1, 11.1], [0, 100, 1, 101]])
    scores = np.float32([0.9, 0.75, 0.6, 0.95, 0.5, 0.3])
    assert run(tf.image.non_max_suppression(boxes, scores, 9)).tolist() == [3, 0, 5]
    assert run(tf.image.non_max_suppression(boxes, scores, 2)).tolist() == [3, 0]
    assert run(tf.image.non_max_suppression(boxes, scores, 9, 0.5, 0.4)).tolist() == [3, 0]
