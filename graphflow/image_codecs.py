"""`tf.image`: reading and writing image files.  The files are read by graphflow/ops/images.py."""
from __future__ import annotations

from typing import Any

from . import graph, math_ops, types
from .graph import Tensor
from .ops import images as ops
from .ops.opdef import convert_to_tensor

__all__ = ["decode_and_crop_jpeg", "decode_bmp", "decode_gif", "decode_image", "decode_jpeg", "decode_png", "encode_jpeg", "encode_png",
           "extract_jpeg_shape", "is_jpeg"]


def _contents(value: Any) -> Tensor:
    return convert_to_tensor(value, types.string, name="contents")


def _allowed(value: Any, name: str, *dtypes: types.DType) -> types.DType:
    dtype = types.as_dtype(value)
    if dtype not in dtypes:
        raise TypeError(f"Value passed to parameter {name!r} has DataType {dtype.name} not in list of allowed values: "
                        f"{', '.join(d.name for d in dtypes)}")
    return dtype


def decode_jpeg(contents: Any, channels: int = 0, ratio: int = 1, fancy_upscaling: bool = True, try_recover_truncated: bool = False,
                acceptable_fraction: float = 1, dct_method: str = "", name: str | None = None) -> Tensor:
    """A JPEG file (or PNG, or a GIF of one frame) as uint8 [height, width, channels].

    The accurate DCT and smooth upscaling are always used.

    Args:
        contents: the bytes of the file, a string scalar.
        channels: 1 for grey, 3 for RGB, 0 for what the file has.
        ratio: 1, 2, 4 or 8: the size is divided by it.
        try_recover_truncated: fill in what is missing at the end; also where `acceptable_fraction` is below 1.
        fancy_upscaling, dct_method: accepted ("", "INTEGER_FAST", "INTEGER_ACCURATE").

    Raises:
        InvalidArgumentError (at run time): no such file, a broken one, other channels.  ImportError: Pillow is not installed.
    """
    return ops.decode_jpeg_op(_contents(contents), channels=_number(channels), ratio=ratio, fancy_upscaling=fancy_upscaling,
                              try_recover_truncated=try_recover_truncated, acceptable_fraction=float(acceptable_fraction),
                              dct_method=dct_method, name=name)


def _number(channels: Any) -> int:
    return 0 if channels is None else int(channels)


def decode_and_crop_jpeg(contents: Any, crop_window: Any, channels: int = 0, ratio: int = 1, fancy_upscaling: bool = True,
                         try_recover_truncated: bool = False, acceptable_fraction: float = 1, dct_method: str = "",
                         name: str | None = None) -> Tensor:
    """`decode_jpeg`, and the window (y, x, height, width) cut out of it.

    Raises InvalidArgumentError (at run time): as decode_jpeg; a window that is not inside.
    """
    return ops.decode_and_crop_jpeg_op(_contents(contents), convert_to_tensor(crop_window, types.int32), channels=_number(channels),
                                       ratio=ratio, fancy_upscaling=fancy_upscaling, try_recover_truncated=try_recover_truncated,
                                       acceptable_fraction=float(acceptable_fraction), dct_method=dct_method, name=name)


def decode_png(contents: Any, channels: int = 0, dtype: Any = types.uint8, name: str | None = None) -> Tensor:
    """A PNG file (or JPEG, or a GIF of one frame) as uint8 or uint16 [height, width, channels].

    Args:
        contents: the bytes of the file, a string scalar.
        channels: 1 for grey, 3 for RGB, 4 for RGBA, 0 for what the file has.
        dtype: uint8 or uint16.

    Raises:
        TypeError: another dtype.  InvalidArgumentError (at run time): no such file, a broken one, other channels.
    """
    return ops.decode_png_op(_contents(contents), channels=_number(channels), dtype=_allowed(dtype, "dtype", types.uint8, types.uint16),
                             name=name)


def decode_bmp(contents: Any, channels: int = 0, name: str | None = None) -> Tensor:
    """An uncompressed BMP file of 8 (grey), 24 or 32 bits as uint8 [height, width, channels]; channels: 0, 3 or 4.

    Raises InvalidArgumentError (at run time) on other files.
    """
    return ops.decode_bmp_op(_contents(contents), channels=_number(channels), name=name)


def decode_gif(contents: Any, name: str | None = None) -> Tensor:
    """All frames of a GIF file as uint8 [number, height, width, 3].  Raises InvalidArgumentError (at run time) on other files."""
    return ops.decode_gif_op(_contents(contents), name=name)


def decode_image(contents: Any, channels: int | None = None, dtype: Any = types.uint8, name: str | None = None,
                 expand_animations: bool = True) -> Tensor:
    """A JPEG, PNG, GIF or BMP file, whichever it is.

    Args:
        contents: the bytes of the file, a string scalar.
        channels: as for decode_png.
        dtype: uint8, uint16, or a float dtype for values in [0, 1].
        expand_animations: give all frames of a GIF file, [number, height, width, 3]; the static rank is then unknown.

    Raises:
        InvalidArgumentError (at run time): no such file, a broken one, other channels.
    """
    dtype = _allowed(dtype, "dtype", types.uint8, types.uint16, types.float16, types.float32, types.float64)
    with graph.get_default_graph().name_scope(name or "decode_image"):
        return ops.decode_image_op(_contents(contents), channels=_number(channels), dtype=dtype, expand_animations=bool(expand_animations),
                                   name="DecodeImage")


def extract_jpeg_shape(contents: Any, output_type: Any = types.int32, name: str | None = None) -> Tensor:
    """(height, width, channels) of a JPEG file, as int32 or int64 [3], without decoding it.

    Raises InvalidArgumentError (at run time) on other files.
    """
    dtype = _allowed(output_type, "output_type", types.int32, types.int64)
    return ops.extract_jpeg_shape_op(_contents(contents), output_type=dtype, name=name)


def is_jpeg(contents: Any, name: str | None = None) -> Tensor:
    """A boolean scalar: whether the bytes begin as those of a JPEG file."""
    from . import string_ops

    with graph.get_default_graph().name_scope(name or "is_jpeg"):
        return math_ops.equal(string_ops.substr(_contents(contents), 0, 3), ops.MAGIC["JPEG"], name="equal")


def encode_png(image: Any, compression: int = -1, name: str | None = None) -> Tensor:
    """The PNG file of an image [height, width, channels] of uint8 or uint16 with 1 to 4 channels, as a string scalar.

    compression: zlib's level, 0 .. 9, or -1.
    Raises TypeError: another dtype.  InvalidArgumentError (at run time): other channels or level.
    """
    return ops.encode_png_op(convert_to_tensor(image, name="image"), compression=int(compression), name=name)


def encode_jpeg(image: Any, format: str = "", quality: int = 95, progressive: bool = False, optimize_size: bool = False,
                chroma_downsampling: bool = True, density_unit: str = "in", x_density: int = 300, y_density: int = 300,
                xmp_metadata: str = "", name: str | None = None) -> Tensor:
    """The JPEG file of a uint8 image [height, width, channels] with 1 (grey) or 3 (RGB) channels, as a string scalar.

    Args:
        format: "", "grayscale" or "rgb", which must then be what the image is.
        quality: 0 .. 100.
        progressive, optimize_size, chroma_downsampling: how the file is made.
        density_unit, x_density, y_density, xmp_metadata: what the file says; the unit is "in" or "cm".

    Raises:
        ValueError: another format or unit.  InvalidArgumentError (at run time): other channels or quality.
    """
    for what, value, known in (("format", format, ("", "grayscale", "rgb")), ("density_unit", density_unit, ("in", "cm"))):
        if value not in known:
            raise ValueError(f"Attr {what!r} of 'EncodeJpeg' Op passed string {value!r} not in: {', '.join(map(repr, known))}.")
    return ops.encode_jpeg_op(convert_to_tensor(image, name="image"), format=format, quality=quality, progressive=progressive,
                              optimize_size=optimize_size, chroma_downsampling=chroma_downsampling, density_unit=density_unit,
                              x_density=x_density, y_density=y_density, xmp_metadata=xmp_metadata, name=name)
