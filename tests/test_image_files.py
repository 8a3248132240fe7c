"""Image files: literals of TensorFlow 2.21, files made by hand and by Pillow from known pixels; broken files and errors."""
from __future__ import annotations

import base64
import builtins
import io
import struct

import numpy as np
import pytest

import graphflow as tf
from graphflow.ops import png

Image = pytest.importorskip("PIL.Image")
INVALID = tf.errors.InvalidArgumentError
I = tf.image  # noqa: E741
Y, X = np.mgrid[:4, :6]
RGB = np.stack([X * 40, Y * 60, (X + Y) * 20], -1).astype(np.uint8)
RGBA = np.concatenate([RGB, 255 - RGB[:, :, :1]], 2)
NOISE = np.random.RandomState(0).randint(0, 256, (13, 17, 3)).astype(np.uint8)
# RGB by tf.image.encode_jpeg(quality=100, chroma_downsampling=False, optimize_size=True), and its pixels by the accurate DCT.
JPEG = base64.b64decode(
    "/9j/4AAQSkZJRgABAQEBLAEsAAD/2wBDAAEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQH/2wBDAQEBAQEBAQEB"
    "AQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQEBAQH/wAARCAAEAAYDAREAAhEBAxEB/8QAFAABAAAAAAAAAAAAAAAAAAAABP/E"
    "ACEQAAAEBQUAAAAAAAAAAAAAAAEDCBEAAgQJFjNEU2Wh/8QAFQEBAQAAAAAAAAAAAAAAAAAABQf/xAAqEQAAAQcMAwAAAAAAAAAAAAABAAIDBAYHEQUICRYjJSYxQUNTYWNk8P/a"
    "AAwDAQACEQMRAD8AQjS3alfFJwwPYFDq0fIT1zePEfZB5DWCqwGUI2YDkfqJvk7Iqj5nhP3qMfiuF2IdtY5UHt/CX//Z")
PIXELS = [[[0, 0, 2], [39, 0, 19], [80, 0, 40], [120, 0, 61], [159, 0, 80], [200, 0, 99]],
          [[2, 60, 20], [41, 60, 40], [80, 60, 61], [119, 60, 80], [158, 60, 99], [200, 61, 120]],
          [[1, 120, 40], [40, 120, 59], [79, 120, 80], [119, 121, 100], [159, 121, 120], [199, 120, 141]],
          [[2, 181, 61], [40, 181, 79], [81, 180, 100], [120, 180, 120], [159, 180, 139], [201, 180, 161]]]
GREY = [[0, 14, 28, 43, 57, 71], [38, 52, 66, 80, 94, 109], [75, 89, 103, 118, 132, 146], [114, 127, 141, 155, 169, 184]]


@pytest.fixture(autouse=True)
def fresh_graph():
    with tf.Graph().as_default():
        yield


def run(fetches, feed=None):
    with tf.Session() as s:
        return s.run(fetches, feed)


def saved(pixels, kind, mode=None, **options):
    out = io.BytesIO()
    image = pixels if isinstance(pixels, Image.Image) else Image.fromarray(pixels)
    (image.convert(mode) if mode else image).save(out, kind, **options)
    return out.getvalue()


def gif(frames):
    first, *rest = [Image.fromarray(f).convert("P", palette=Image.Palette.ADAPTIVE) for f in frames]
    return saved(first, "GIF", save_all=True, append_images=rest, disposal=1)


def bmp(pixels):
    """An uncompressed bitmap, rows from bottom to top."""
    height, width, depth = pixels.shape
    stored = pixels[::-1, :, [2, 1, 0, 3][:depth] if depth > 1 else [0]]
    rows = b"".join(row.tobytes() + bytes(-width * depth % 4) for row in stored)
    return b"BM" + struct.pack("<IHHI", 54 + len(rows), 0, 0, 54) + struct.pack(
        "<IiiHHIIiiII", 40, width, height, 1, 8 * depth, 0, len(rows), 0, 0, 0, 0) + rows


FRAMES = [np.full((5, 7, 3), c, np.uint8) for c in (0, 100, 200)]


# ---------------------------------------------------------------- decoding


def test_jpeg():
    p = tf.placeholder(tf.string)
    for decode in (I.decode_jpeg, I.decode_png, I.decode_image):
        found = run(decode(p), {p: JPEG})
        assert found.dtype == np.uint8 and np.abs(found.astype(int) - PIXELS).max() <= 1
    assert np.abs(run(I.decode_jpeg(JPEG, channels=1))[:, :, 0].astype(int) - GREY).max() <= 1
    assert run(I.decode_jpeg(JPEG, channels=3)).shape == (4, 6, 3) and run(I.decode_gif(JPEG)).shape == (1, 4, 6, 3)
    grey = saved(NOISE[:, :, 0], "JPEG", quality=95)
    one = run(I.decode_jpeg(grey))
    assert one.shape == (13, 17, 1) and np.array_equal(run(I.decode_jpeg(grey, channels=3)), np.repeat(one, 3, 2))


def test_sizes_of_jpeg():
    data = saved(np.full((37, 53, 3), 77, np.uint8), "JPEG", quality=95)
    for ratio, shape in ((1, (37, 53, 3)), (2, (19, 27, 3)), (4, (10, 14, 3)), (8, (5, 7, 3))):
        found = run(I.decode_jpeg(data, ratio=ratio))
        assert found.shape == shape and abs(found.astype(int) - 77).max() <= 1
    assert run(I.extract_jpeg_shape(data)).tolist() == [37, 53, 3]
    assert run(I.extract_jpeg_shape(saved(NOISE[:, :, 0], "JPEG", progressive=True), tf.int64)).tolist() == [13, 17, 1]


def test_cmyk_jpeg():
    found = run(I.decode_jpeg(saved(np.full((8, 8, 3), (200, 100, 50), np.uint8), "JPEG", "CMYK", quality=100)))
    assert found.shape == (8, 8, 3) and np.abs(found.astype(int) - (200, 100, 50)).max() <= 2


def test_crop():
    whole = run(I.decode_jpeg(JPEG))
    window = tf.placeholder(tf.int32, [4])
    assert np.array_equal(run(I.decode_and_crop_jpeg(JPEG, window), {window: [1, 2, 3, 4]}), whole[1:4, 2:6])
    assert I.decode_and_crop_jpeg(JPEG, [1, 2, 3, 4], channels=3).shape.as_list() == [3, 4, 3]
    for bad in ([0, 0, 5, 1], [0, 0, 0, 1], [-1, 0, 1, 1], [0, 5, 1, 2]):
        with pytest.raises(INVALID, match="crop window"):
            run(I.decode_and_crop_jpeg(JPEG, bad))
    with pytest.raises(ValueError, match="must be 4"):
        I.decode_and_crop_jpeg(JPEG, [1, 2, 3])
    with pytest.raises(INVALID, match="PNG"):
        run(I.decode_and_crop_jpeg(png.encode_png(RGB), [0, 0, 1, 1]))


@pytest.mark.parametrize("pixels", [RGB, RGBA, NOISE, NOISE[:, :, :1], NOISE[:, :, :2]], ids=lambda p: str(p.shape))
def test_png(pixels):
    data = saved(pixels if pixels.shape[2] > 1 else pixels[:, :, 0], "PNG")
    p = tf.placeholder(tf.string)
    for decode in (I.decode_png, I.decode_jpeg, I.decode_image):
        assert np.array_equal(run(decode(p), {p: data}), pixels)
    depth = pixels.shape[2]
    colour = pixels[:, :, :3] if depth > 2 else np.repeat(pixels[:, :, :1], 3, 2)
    alpha = pixels[:, :, -1:] if depth in (2, 4) else np.full_like(pixels[:, :, :1], 255)
    assert np.array_equal(run(I.decode_png(p, channels=3), {p: data}), colour)
    assert np.array_equal(run(I.decode_png(p, channels=4), {p: data}), np.concatenate([colour, alpha], 2))
    assert np.array_equal(run(I.decode_png(p, dtype=tf.uint16), {p: data}), pixels.astype(np.uint16) * 257)
    assert run(I.decode_png(p, channels=1), {p: data}).shape == (*pixels.shape[:2], 1)


def test_grey_of_png_is_that_of_libpng():
    assert run(I.decode_png(saved(RGB, "PNG"), channels=1))[:, :, 0].tolist() == [
        [0, 14, 28, 42, 56, 71], [37, 51, 65, 80, 94, 108], [74, 89, 103, 117, 131, 146], [112, 126, 140, 155, 169, 183]]


def test_kinds_of_png():
    palette = Image.fromarray(np.tile(np.uint8([[0, 1], [2, 1]]), (3, 3)), "P")
    palette.putpalette([10, 20, 30, 40, 50, 60, 70, 80, 90] + [0] * 759)
    found = run(I.decode_png(saved(palette, "PNG")))
    assert found[0, 0].tolist() == [10, 20, 30] and found[1, 0].tolist() == [70, 80, 90]
    clear = run(I.decode_png(saved(palette, "PNG", transparency=1)))
    assert clear[0, :2].tolist() == [[10, 20, 30, 255], [40, 50, 60, 0]]
    bits = run(I.decode_png(saved(Image.fromarray(NOISE[:, :, 0] > 100), "PNG")))
    assert np.array_equal(bits[:, :, 0], np.where(NOISE[:, :, 0] > 100, 255, 0))


@pytest.mark.parametrize("channels", [1, 2, 3, 4])
def test_png_of_16_bits(channels):
    pixels = np.random.RandomState(channels).randint(0, 65536, (6, 5, channels)).astype(np.uint16)
    data = run(I.encode_png(pixels))
    assert np.array_equal(run(I.decode_png(data, dtype=tf.uint16)), pixels)
    assert np.array_equal(run(I.decode_png(data)), pixels >> 8)
    assert np.array_equal(run(I.decode_image(data, dtype=tf.uint16)), pixels)
    np.testing.assert_allclose(run(I.decode_image(data, dtype=tf.float32)), pixels / 65535, rtol=1e-6)


@pytest.mark.parametrize("kind", range(5))
def test_filters_of_png(kind):
    """Each filter of the specification, applied here in the plain way to 16-bit pixels."""
    pixels = np.random.RandomState(kind).randint(0, 65536, (5, 4, 3)).astype(np.uint16)
    raw = pixels.astype(">u2").reshape(5, -1).view(np.uint8).astype(int)
    left, up = np.pad(raw, ((0, 0), (6, 0)))[:, :-6], np.pad(raw, ((1, 0), (0, 0)))[:-1]
    corner = np.pad(raw, ((1, 0), (6, 0)))[:-1, :-6]
    guess = left + up - corner
    distance = [abs(guess - v) for v in (left, up, corner)]
    paeth = np.where((distance[0] <= distance[1]) & (distance[0] <= distance[2]), left, np.where(distance[1] <= distance[2], up, corner))
    filtered = (raw - [0, left, up, (left + up) // 2, paeth][kind]) & 255
    rows = np.concatenate([np.full((5, 1), kind), filtered], 1).astype(np.uint8).tobytes()
    import zlib
    data = png.SIGNATURE + b"".join(map(png._chunk, (b"IHDR", b"IDAT", b"IEND"), (struct.pack(">IIBBBBB", 4, 5, 16, 2, 0, 0, 0),
                                                                                 zlib.compress(rows), b"")))
    assert np.array_equal(run(I.decode_png(data, dtype=tf.uint16)), pixels)
    for broken in (data[:-20], data[:40], data[:60] + b"\0" + data[61:]):
        with pytest.raises(INVALID, match="Invalid PNG data"):
            run(I.decode_png(broken, dtype=tf.uint16))


@pytest.mark.parametrize("pixels", [RGB, RGBA, NOISE, NOISE[:, :, :1]], ids=lambda p: str(p.shape))
def test_bmp(pixels):
    p = tf.placeholder(tf.string)
    assert np.array_equal(run(I.decode_bmp(p), {p: bmp(pixels)}), pixels)
    assert np.array_equal(run(I.decode_image(p), {p: bmp(pixels)}), pixels)
    assert run(I.decode_bmp(p, channels=4), {p: bmp(pixels)}).shape[2] == 4
    if pixels.shape[2] == 3:
        assert np.array_equal(run(I.decode_bmp(p), {p: saved(pixels, "BMP")}), pixels)
    with pytest.raises(INVALID, match="decode_bmp"):
        run(I.decode_jpeg(p), {p: bmp(pixels)})
    for broken in (bmp(pixels)[:40], bmp(pixels)[:-3], bmp(pixels)[:28] + b"\x10" + bmp(pixels)[29:]):
        with pytest.raises(INVALID, match="BMP"):
            run(I.decode_bmp(p), {p: broken})


def test_gif():
    p = tf.placeholder(tf.string)
    assert np.array_equal(run(I.decode_gif(p), {p: gif(FRAMES)}), FRAMES)
    assert np.array_equal(run(I.decode_image(p), {p: gif(FRAMES)}), FRAMES)
    assert np.array_equal(run(I.decode_image(p, expand_animations=False), {p: gif(FRAMES)}), FRAMES[0])
    assert np.array_equal(run(I.decode_png(p), {p: gif(FRAMES[1:2])}), FRAMES[1])
    with pytest.raises(INVALID, match="Got 3 frames"):
        run(I.decode_jpeg(p), {p: gif(FRAMES)})
    with pytest.raises(INVALID, match="3 channels"):
        run(I.decode_image(p, channels=1), {p: gif(FRAMES)})


def test_decode_image_in_other_dtypes():
    data = saved(RGB, "PNG")
    np.testing.assert_allclose(run(I.decode_image(data, dtype=tf.float32)), RGB / 255, rtol=1e-6)
    assert run(I.decode_image(data, dtype=tf.float64)).dtype == np.float64
    with pytest.raises(TypeError, match="int32"):
        I.decode_image(data, dtype=tf.int32)


def test_static_shapes_and_names():
    p = tf.placeholder(tf.string)
    assert I.decode_jpeg(p).shape.as_list() == [None] * 3 and I.decode_jpeg(p, channels=3).shape.as_list() == [None, None, 3]
    assert I.decode_image(p).shape.ndims is None and I.decode_image(p, 3, expand_animations=False).shape.as_list() == [None, None, 3]
    assert I.decode_gif(p).shape.as_list() == [None, None, None, 3] and I.extract_jpeg_shape(p).shape.as_list() == [3]
    assert I.decode_png(p, dtype=tf.uint16).dtype == tf.uint16 and I.decode_png(p).name == "DecodePng_1:0"
    assert I.decode_image(p).name == "decode_image_2/DecodeImage:0" and I.encode_png(RGB).shape.as_list() == []
    assert tf.io.decode_jpeg is I.decode_jpeg and tf.io.is_jpeg is I.is_jpeg


@pytest.mark.parametrize("data, message", [
    (b"this is no image", "Unknown image file format"), (b"", "Unknown image file format"), (JPEG[:300], "Invalid JPEG data"),
    (JPEG[:100], "Invalid JPEG data"), (saved(NOISE, "PNG")[:300], "Invalid PNG data"), (png.SIGNATURE, "Invalid PNG data"),
    (gif(FRAMES)[:30], "Invalid GIF data")])
def test_broken_files(data, message):
    p = tf.placeholder(tf.string)
    with pytest.raises(INVALID, match=message) as caught:
        run(I.decode_image(p), {p: data})
    assert "test_image_files.py" in str(caught.value)


def test_truncated_jpeg_can_be_recovered():
    data = saved(np.full((64, 64, 3), 90, np.uint8) + NOISE[:1, :1], "JPEG", quality=95)
    data = data[:len(data) - 40]
    with pytest.raises(INVALID, match="Invalid JPEG data"):
        run(I.decode_jpeg(data))
    found = run(I.decode_jpeg(data, try_recover_truncated=True))
    assert found.shape == (64, 64, 3) and np.array_equal(found[:16], run(I.decode_jpeg(data, acceptable_fraction=.5))[:16])


def test_arguments():
    for call, message in ((lambda: I.decode_jpeg(JPEG, channels=4), "4 channels"), (lambda: I.decode_png(JPEG, channels=2), "channels"),
                          (lambda: I.decode_jpeg(JPEG, ratio=3), "ratio must be"),
                          (lambda: I.decode_jpeg(JPEG, dct_method="X"), "dct_method"),
                          (lambda: I.decode_bmp(bmp(RGB), channels=1), "0, 3 or 4"), (lambda: I.extract_jpeg_shape(b"abc"), "Invalid JPEG"),
                          (lambda: I.decode_bmp(JPEG), "DecodeBmp")):
        with pytest.raises(INVALID, match=message):
            run(call())
    with pytest.raises(TypeError, match="uint32"):
        I.decode_png(JPEG, dtype=tf.uint32)
    with pytest.raises(ValueError, match="rank 0"):
        I.decode_png([JPEG])


def test_is_jpeg():
    p = tf.placeholder(tf.string)
    assert [run(I.is_jpeg(p), {p: data}) for data in (JPEG, saved(RGB, "PNG"), b"", b"\xff\xd8")] == [True, False, False, False]


def test_without_pillow(monkeypatch):
    real = builtins.__import__

    def no_pillow(name, *args):
        if name == "PIL" or name.startswith("PIL."):
            raise ImportError(name)
        return real(name, *args)

    monkeypatch.setattr(builtins, "__import__", no_pillow)
    with pytest.raises(ImportError, match=r"graphflow\[images\]"):
        run(I.decode_jpeg(JPEG))
    wide = RGB.astype(np.uint16)
    assert np.array_equal(run(I.decode_png(I.encode_png(wide), dtype=tf.uint16)), wide) and run(I.decode_bmp(bmp(RGB))).shape == RGB.shape


# ---------------------------------------------------------------- encoding


@pytest.mark.parametrize("pixels", [RGB, RGBA, NOISE[:, :, :1], NOISE[:, :, :2]], ids=lambda p: str(p.shape))
@pytest.mark.parametrize("compression", [-1, 0, 9])
def test_encode_png(pixels, compression):
    p = tf.placeholder(tf.uint8, [None, None, None])
    data = run(I.encode_png(p, compression), {p: pixels})
    found = np.asarray(Image.open(io.BytesIO(data)))
    assert isinstance(data, bytes) and np.array_equal(found.reshape(pixels.shape), pixels)


def test_encode_jpeg():
    p = tf.placeholder(tf.uint8, [None, None, None])
    made = I.encode_jpeg(p, quality=100, chroma_downsampling=False, optimize_size=True)
    found = np.asarray(Image.open(io.BytesIO(run(made, {p: RGB}))))
    assert np.abs(found.astype(int) - RGB).max() <= 3
    sizes = [len(run(I.encode_jpeg(NOISE, quality=q))) for q in (10, 50, 95)]
    assert sizes == sorted(sizes)
    grey = Image.open(io.BytesIO(run(I.encode_jpeg(NOISE[:, :, :1], format="grayscale", density_unit="cm", x_density=10, y_density=20))))
    assert grey.mode == "L" and grey.info["jfif_unit"] == 2 and grey.info["jfif_density"] == (10, 20)
    assert Image.open(io.BytesIO(run(I.encode_jpeg(NOISE, progressive=True)))).info.get("progressive")
    assert b"<x/>" in run(I.encode_jpeg(NOISE, xmp_metadata="<x/>"))


@pytest.mark.parametrize("call, kind, message", [
    (lambda: I.encode_png(np.zeros((2, 2, 5), np.uint8)), INVALID, "1 to 4 channels"), (lambda: I.encode_png(RGB, 11), INVALID, "-1,9"),
    (lambda: I.encode_png(np.zeros((0, 2, 3), np.uint8)), INVALID, "empty"),
    (lambda: I.encode_png(RGB.astype(np.float32)), TypeError, "float32"),
    (lambda: I.encode_png(np.zeros((2, 2), np.uint8)), ValueError, "rank 3"), (lambda: I.encode_jpeg(RGBA), INVALID, "1 or 3 channels"),
    (lambda: I.encode_jpeg(RGB, quality=101), INVALID, "0,100"), (lambda: I.encode_jpeg(RGB, format="grayscale"), INVALID, "expects 1"),
    (lambda: I.encode_jpeg(RGB, format="x"), ValueError, "format"),
    (lambda: I.encode_jpeg(RGB, density_unit="m"), ValueError, "density_unit"),
    (lambda: I.encode_jpeg(RGB.astype(np.uint16)), TypeError, "uint16")])
def test_encoding_errors(call, kind, message):
    with pytest.raises(kind, match=message):
        run(call())


# ---------------------------------------------------------------- boxes


def test_draw_bounding_boxes():
    """Pixels of TensorFlow 2.21."""
    blank, yellow, blue = [0] * 3, [1, 1, 0], [0, 0, 1]
    image = tf.placeholder(tf.float32, [1, 5, 6, 3])
    found = run(I.draw_bounding_boxes(image, [[[.2, .1, .8, .7], [.5, -1., 2., .9]]]), {image: np.zeros((1, 5, 6, 3))})
    assert found[0].tolist() == [[yellow] * 4 + [blank] * 2, [yellow, blank, blank, yellow, blank, blank], [blue] * 5 + [blank],
                                 [yellow] * 4 + [blue, blank], [blank] * 4 + [blue, blank]]
    grey = run(I.draw_bounding_boxes(np.full((1, 5, 6, 1), .5, np.float32), [[[.3, .2, .9, .75]]]))
    assert grey[0, :, :, 0].tolist() == [[.5] * 6, [.5, 1, 1, 1, .5, .5], [.5, 1, .5, 1, .5, .5], [.5, 1, 1, 1, .5, .5], [.5] * 6]
