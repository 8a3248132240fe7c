"""Image files as tensors and back, on the host (rank 3).  Pillow reads JPEG, GIF and most PNG files; BMP and 16-bit PNG need nothing.

The functions that users call are in graphflow/image_codecs.py.
"""
from __future__ import annotations

import io
import struct
from typing import Any

import numpy as np

from .. import types
from ..graph import Spec, Tensor
from . import png
from .opdef import needs_rank, primitive

STRING = (types.string,)
MAGIC = {"JPEG": b"\xff\xd8\xff", "PNG": png.SIGNATURE, "GIF": b"GIF8", "BMP": b"BM"}


def pillow() -> Any:
    """The module PIL.Image.  Raises ImportError that says how to get it."""
    try:
        from PIL import Image
    except ImportError:
        raise ImportError("reading and writing JPEG, GIF and PNG files needs Pillow: pip install 'graphflow[images]'") from None
    return Image


def format_of(data: bytes) -> str:
    """ "JPEG", "PNG", "GIF" or "BMP".  Raises ValueError."""
    for name, magic in MAGIC.items():
        if data.startswith(magic):
            return name
    raise ValueError(f"Unknown image file format. One of JPEG, PNG, GIF, BMP required, got {len(data)} bytes that begin with {data[:16]!r}")


# ---------------------------------------------------------------- frames of a file: uint8 or uint16, [height, width, channels]


def _opened(data: bytes, kind: str) -> Any:
    Image = pillow()
    try:
        return Image.open(io.BytesIO(data), formats=[kind])
    except Exception as e:  # Pillow raises errors of many kinds on broken headers
        raise ValueError(f"Invalid {kind} data, size {len(data)}: {e}") from None


def _array(image: Any, kind: str, size: int) -> np.ndarray:
    """The pixels, which Pillow reads only now."""
    try:
        found = np.asarray(image)
    except Exception as e:
        raise ValueError(f"Invalid {kind} data, size {size}: {e}") from None
    return found if found.ndim == 3 else found[:, :, None]


def _jpeg(data: bytes, channels: int, ratio: int = 1, recover: bool = False) -> np.ndarray:
    if channels not in (0, 1, 3):
        raise ValueError(f"JPEG does not support {channels} channels")
    image = _opened(data, "JPEG")
    if channels == 1 and image.mode not in ("L", "RGB"):
        raise ValueError(f"Invalid JPEG data, size {len(data)}: a picture in {image.mode} has no grey form")
    wanted = {0: image.mode, 1: "L", 3: "RGB"}[channels]
    if ratio > 1 or wanted == "L":  # in the decoder itself
        image.draft("L" if wanted == "L" else image.mode, tuple(max(1, n // ratio) for n in image.size))
    try:
        found = _array(image, "JPEG", len(data))
    except ValueError:
        if not recover:
            raise
        return _jpeg(data + b"\xff\xd9", channels, ratio)  # with an end, the decoder fills in what is missing
    if image.mode == "CMYK":
        light = 255 - found.astype(np.int32)
        return (light[:, :, 3:] * light[:, :, :3] // 255).astype(np.uint8)
    return np.repeat(found, 3, 2) if channels == 3 and found.shape[2] == 1 else found


def _png(data: bytes, channels: int, dtype: types.DType) -> np.ndarray:
    depth = data[24] if len(data) > 28 else 0
    found = png.decode_png(data) if depth == 16 else _png_by_pillow(data)
    if dtype is types.uint16 and found.dtype == np.uint8:
        found = found.astype(np.uint16) * 257
    elif dtype is types.uint8 and found.dtype == np.uint16:
        found = (found >> 8).astype(np.uint8)
    return _with_channels(found, channels)


def _png_by_pillow(data: bytes) -> np.ndarray:
    image = _opened(data, "PNG")
    see_through = "transparency" in image.info
    mode = {"1": "L", "P": "RGBA" if see_through else "RGB", "PA": "RGBA", "L": "LA" if see_through else "L",
            "RGB": "RGBA" if see_through else "RGB"}.get(image.mode, image.mode)
    try:
        return _array(image if mode == image.mode else image.convert(mode), "PNG", len(data))
    except Exception as e:
        raise ValueError(f"Invalid PNG data, size {len(data)}: {e}") from None


# Of libpng: the weights of red, green and blue in grey, in 1/32768.
_GREY = np.array([9797, 19234, 3737])


def _with_channels(found: np.ndarray, channels: int) -> np.ndarray:
    """1: grey, 3: RGB, 4: RGBA, 0: as it is.  Alpha is dropped, or full where it is new."""
    have = found.shape[2]
    if channels in (0, have):
        return found
    colour, alpha = found[:, :, :have - 1 if have in (2, 4) else have], found[:, :, -1:]
    if channels == 1 and colour.shape[2] == 3:
        mixed = (colour.astype(np.int64) @ _GREY) >> 15
        return mixed[:, :, None].astype(found.dtype)
    if channels in (3, 4) and colour.shape[2] == 1:
        colour = np.repeat(colour, 3, 2)
    if channels == 4:
        full = alpha if have in (2, 4) else np.full_like(alpha, np.iinfo(found.dtype).max)
        return np.concatenate([colour, full], 2)
    return colour


def _gif(data: bytes) -> np.ndarray:
    """All frames: [number, height, width, 3]."""
    image = _opened(data, "GIF")
    frames = []
    try:
        for k in range(image.n_frames):
            image.seek(k)
            frames.append(np.asarray(image.convert("RGB")))
    except Exception as e:
        raise ValueError(f"Invalid GIF data, size {len(data)}: {e}") from None
    return np.stack(frames)


def _bmp(data: bytes, channels: int) -> np.ndarray:
    """An uncompressed bitmap of 8 (grey), 24 or 32 bits a pixel."""
    if channels not in (0, 3, 4):
        raise ValueError(f"`channels` must be 0, 3 or 4 for BMP, but got {channels}")
    if len(data) < 54:
        raise ValueError(f"Invalid BMP data, size {len(data)}: no header")
    start, width, height, bits, compression = (*struct.unpack_from("<I", data, 10), *struct.unpack_from("<ii", data, 18),
                                               *struct.unpack_from("<HI", data, 28))
    if bits not in (8, 24, 32) or width <= 0 or height == 0 or compression not in (0, 3):
        raise ValueError(f"a BMP of {bits} bits a pixel, size {width} x {height}, compression {compression}: 8, 24 or 32 bits, "
                         "uncompressed, can be read")
    row, rows = (width * bits // 8 + 3) // 4 * 4, abs(height)
    if start + row * rows > len(data):
        raise ValueError(f"Invalid BMP data, size {len(data)}: {width} x {height} pixels do not fit in")
    found = np.frombuffer(data, np.uint8, row * rows, start).reshape(rows, row)[:, :width * bits // 8].reshape(rows, width, bits // 8)
    found = found[::-1] if height > 0 else found
    found = found[:, :, [2, 1, 0, 3][:bits // 8]] if bits > 8 else found
    return np.ascontiguousarray(_with_channels(found, channels))


# ---------------------------------------------------------------- decoders


def _check_channels(channels: int) -> None:
    if channels not in (0, 1, 3, 4):
        raise ValueError(f"`channels` must be 0, 1, 3 or 4 but got {channels}")


def _one(data: bytes, op: str, channels: int, dtype: types.DType = types.uint8, **jpeg: Any) -> np.ndarray:
    """A picture of any format but BMP."""
    _check_channels(channels)
    kind = format_of(data)
    if kind == "JPEG":
        return _jpeg(data, channels, **jpeg)
    if kind == "PNG":
        return _png(data, channels, dtype)
    if kind == "BMP":
        raise ValueError(f"Trying to decode BMP format using a wrong op. Use `decode_bmp` or `decode_image` instead. Op used: {op}")
    frames = _gif(data)
    if len(frames) > 1:
        raise ValueError(f"Got {len(frames)} frames, but animated gifs can only be decoded by tf.image.decode_gif or tf.image.decode_image")
    return _with_channels(frames[0], channels)


def _picture_spec(contents: Tensor, *, channels: int = 0, dtype: types.DType = types.uint8, **_: Any) -> Spec:
    _scalar(contents)
    return Spec(dtype, (types.UNKNOWN, types.UNKNOWN, channels or types.UNKNOWN))


def _scalar(contents: Tensor) -> None:
    if contents.sizes:
        raise ValueError(f"Shape must be rank 0 but is rank {len(contents.sizes)}: contents is one image file")


def _data(contents: np.ndarray) -> bytes:
    if contents.ndim:
        raise ValueError(f"contents must be scalar, got shape {list(contents.shape)}")
    return contents.item()


@primitive("host", type="DecodeJpeg", dtypes=STRING, infer=_picture_spec, no_gradient="it reads bytes")
def decode_jpeg_op(contents, *, channels=0, ratio=1, fancy_upscaling=True, try_recover_truncated=False, acceptable_fraction=1.0,
                   dct_method=""):
    """A JPEG file as uint8 [height, width, channels]; PNG and GIF files of one frame are read as well."""


def _check_jpeg(ratio: int, dct_method: str) -> None:
    if ratio not in (1, 2, 4, 8):
        raise ValueError(f"ratio must be 1, 2, 4, or 8, got {ratio}")
    if dct_method not in ("", "INTEGER_FAST", "INTEGER_ACCURATE"):
        raise ValueError("dct_method must be one of {'', 'INTEGER_FAST', 'INTEGER_ACCURATE'}, got " + repr(dct_method))


@decode_jpeg_op.reference
def _(contents, *, channels, ratio, fancy_upscaling, try_recover_truncated, acceptable_fraction, dct_method):
    _check_jpeg(ratio, dct_method)
    return _one(_data(contents), "DecodeJpeg", channels, ratio=ratio, recover=try_recover_truncated or acceptable_fraction < 1)


@primitive("host", type="DecodeAndCropJpeg", dtypes=STRING, static=(), same=("contents",), input_dtypes={"crop_window": (types.int32,)},
           no_gradient="it reads bytes")
def decode_and_crop_jpeg_op(contents, crop_window, *, channels=0, ratio=1, fancy_upscaling=True, try_recover_truncated=False,
                            acceptable_fraction=1.0, dct_method=""):
    """The part `crop_window` (y, x, height, width) of a JPEG file."""


@decode_and_crop_jpeg_op.infers
def _(contents, crop_window, *, channels, **_):
    _scalar(contents)
    if types.same(needs_rank(crop_window, 1, "crop_window")[0], 4) is False:
        raise ValueError(f"Dimension must be 4 but is {crop_window.sizes[0]}: crop_window is (y, x, height, width)")
    known = [None] * 4 if crop_window.known is None else crop_window.known
    size = [v if isinstance(v, int) else types.UNKNOWN for v in known[2:]]
    return Spec(types.uint8, (*size, channels or types.UNKNOWN))


@decode_and_crop_jpeg_op.reference
def _(contents, crop_window, *, channels, ratio, fancy_upscaling, try_recover_truncated, acceptable_fraction, dct_method):
    _check_jpeg(ratio, dct_method)
    data, (y, x, height, width) = _data(contents), crop_window.tolist()
    _check_channels(channels)
    if format_of(data) != "JPEG":
        raise ValueError(f"decode_and_crop_jpeg reads JPEG files, got a {format_of(data)} file")
    whole = _jpeg(data, channels, ratio, try_recover_truncated or acceptable_fraction < 1)
    if y < 0 or x < 0 or height <= 0 or width <= 0 or y + height > whole.shape[0] or x + width > whole.shape[1]:
        raise ValueError(f"Invalid JPEG data or crop window, data size {len(data)}: window {crop_window.tolist()} of a picture of "
                         f"{whole.shape[0]} x {whole.shape[1]}")
    return whole[y:y + height, x:x + width]


@primitive("host", type="DecodePng", dtypes=STRING, infer=_picture_spec, no_gradient="it reads bytes")
def decode_png_op(contents, *, channels=0, dtype=types.uint8):
    """A PNG file as uint8 or uint16 [height, width, channels]; JPEG files and GIF files of one frame are read as well."""


@decode_png_op.reference
def _(contents, *, channels, dtype):
    found = _one(_data(contents), "DecodePng", channels, dtype)
    return found.astype(dtype.np, copy=False)


@primitive("host", type="DecodeBmp", dtypes=STRING, infer=_picture_spec, no_gradient="it reads bytes")
def decode_bmp_op(contents, *, channels=0):
    """A BMP file as uint8 [height, width, channels]."""


@decode_bmp_op.reference
def _(contents, *, channels):
    data = _data(contents)
    kind = format_of(data)
    if kind != "BMP":
        raise ValueError(f"Trying to decode {kind} format using DecodeBmp op. Use `decode_{kind.lower()}` or `decode_image` instead.")
    return _bmp(data, channels)


@primitive("host", type="DecodeGif", dtypes=STRING, no_gradient="it reads bytes")
def decode_gif_op(contents):
    """All frames of a GIF file as uint8 [number, height, width, 3]; a JPEG or PNG file is one frame."""


@decode_gif_op.infers
def _(contents):
    _scalar(contents)
    return Spec(types.uint8, (types.UNKNOWN, types.UNKNOWN, types.UNKNOWN, 3))


@decode_gif_op.reference
def _(contents):
    data = _data(contents)
    return _gif(data) if format_of(data) == "GIF" else _one(data, "DecodeGif", 3)[None]


@primitive("host", type="DecodeImage", dtypes=STRING, no_gradient="it reads bytes")
def decode_image_op(contents, *, channels=0, dtype=types.uint8, expand_animations=True):
    """An image file of any format: [height, width, channels], and all frames [number, height, width, 3] of a GIF file."""


@decode_image_op.infers
def _(contents, *, channels, dtype, expand_animations):
    _scalar(contents)
    return Spec(dtype, None if expand_animations else (types.UNKNOWN, types.UNKNOWN, channels or types.UNKNOWN))


@decode_image_op.reference
def _(contents, *, channels, dtype, expand_animations):
    _check_channels(channels)
    data = _data(contents)
    kind = format_of(data)
    if kind == "GIF":
        if channels not in (0, 3):
            raise ValueError(f"a GIF file has 3 channels, not {channels}")
        frames = _gif(data)
        return _converted(frames if expand_animations else frames[0], dtype)
    found = _bmp(data, channels) if kind == "BMP" else _one(data, "DecodeImage", channels, types.uint16 if dtype.size > 1 else types.uint8)
    return _converted(found, dtype)


def _converted(found: np.ndarray, dtype: types.DType) -> np.ndarray:
    """8- or 16-bit pixels in another dtype; floats are in [0, 1]."""
    top = np.iinfo(found.dtype).max
    if dtype.kind == "f":
        return found.astype(np.float32) / np.float32(top)
    if dtype is types.uint16 and found.dtype == np.uint8:
        return found.astype(np.uint16) * 256  # as tf.image.convert_image_dtype
    return found.astype(dtype.np, copy=False)


@primitive("host", type="ExtractJpegShape", dtypes=STRING, no_gradient="it reads bytes")
def extract_jpeg_shape_op(contents, *, output_type=types.int32):
    """(height, width, channels) from the header of a JPEG file."""


@extract_jpeg_shape_op.infers
def _(contents, *, output_type):
    _scalar(contents)
    return Spec(output_type, (3,))


@extract_jpeg_shape_op.reference
def _(contents, *, output_type):
    return np.array(_jpeg_shape(_data(contents)), output_type.np)


def _jpeg_shape(data: bytes) -> tuple[int, int, int]:
    """Reads the markers up to that of the frame (ITU-T T.81, B.2.2)."""
    at = 2
    while data.startswith(MAGIC["JPEG"]) and at + 9 < len(data) and data[at] == 0xFF:
        marker = data[at + 1]
        if 0xC0 <= marker <= 0xCF and marker not in (0xC4, 0xC8, 0xCC):
            height, width, channels = struct.unpack_from(">HHB", data, at + 5)
            return height, width, channels
        if marker == 0xFF:  # fill bytes
            at += 1
        else:
            at += 2 + struct.unpack_from(">H", data, at + 2)[0]
    raise ValueError(f"Invalid JPEG data, size {len(data)}")


# ---------------------------------------------------------------- encoders


def _image_spec(image: Tensor, **_: Any) -> Spec:
    if image.sizes is not None and len(image.sizes) != 3:
        raise ValueError(f"Shape must be rank 3 but is rank {len(image.sizes)}: an image is [height, width, channels]")
    return Spec(types.string, ())


@primitive("host", type="EncodePng", dtypes=(types.uint8, types.uint16), infer=_image_spec, no_gradient="it makes bytes")
def encode_png_op(image, *, compression=-1):
    """The PNG file of an image of 1 to 4 channels."""


@encode_png_op.reference
def _(image, *, compression):
    if not -1 <= compression <= 9:
        raise ValueError(f"compression should be in [-1,9], got {compression}")
    return np.array(png.encode_png(image, compression), object)


@primitive("host", type="EncodeJpeg", dtypes=(types.uint8,), infer=_image_spec, no_gradient="it makes bytes")
def encode_jpeg_op(image, *, format="", quality=95, progressive=False, optimize_size=False, chroma_downsampling=True, density_unit="in",
                   x_density=300, y_density=300, xmp_metadata=""):
    """The JPEG file of a grey or RGB image."""


@encode_jpeg_op.reference
def _(image, *, format, quality, progressive, optimize_size, chroma_downsampling, density_unit, x_density, y_density, xmp_metadata):
    if not 0 <= quality <= 100:
        raise ValueError(f"quality must be in [0,100], got {quality}")
    if image.ndim != 3 or image.shape[2] not in (1, 3) or not image.size:
        raise ValueError(f"image must have 1 or 3 channels, got {list(image.shape)}")
    if format and image.shape[2] != {"grayscale": 1, "rgb": 3}[format]:
        raise ValueError(f"format {format} expects {3 if format == 'rgb' else 1} channels, got {list(image.shape)}")
    out = io.BytesIO()
    extra = {"xmp": xmp_metadata.encode()} if xmp_metadata else {}
    picture = pillow().fromarray(np.ascontiguousarray(image[:, :, 0] if image.shape[2] == 1 else image))
    picture.save(out, "JPEG", quality=quality, subsampling=2 if chroma_downsampling else 0, progressive=progressive, optimize=optimize_size,
                 dpi=(x_density, y_density), **extra)
    data = bytearray(out.getvalue())
    data[13] = {"in": 1, "cm": 2}[density_unit]  # of the JFIF header, which comes first
    return np.array(bytes(data), object)
