"""PNG files with zlib alone, so that images can be written without a library for them.

W3C, "Portable Network Graphics (PNG) Specification", chunk layout and filters.
"""
from __future__ import annotations

import struct
import zlib

import numpy as np

SIGNATURE = b"\x89PNG\r\n\x1a\n"
COLOUR = {1: 0, 2: 4, 3: 2, 4: 6}  # the colour type of a number of channels


def encode_png(image: np.ndarray, compression: int = -1) -> bytes:
    """The file of an image [height, width, channels] of uint8 or uint16: grey, grey and alpha, RGB or RGBA.

    Args:
        compression: zlib's level, 0 .. 9; -1 is its default.

    Raises:
        ValueError: another shape, an empty image, another dtype.
    """
    if image.ndim != 3 or image.shape[2] not in COLOUR:
        raise ValueError(f"image must be 3-dimensional [height, width, channels] with 1 to 4 channels, got shape {list(image.shape)}")
    if image.dtype not in (np.uint8, np.uint16):
        raise ValueError(f"image must be uint8 or uint16, got {image.dtype}")
    height, width, channels = image.shape
    if not height or not width:
        raise ValueError(f"image is empty, of shape {list(image.shape)}")
    big = np.ascontiguousarray(image, image.dtype.newbyteorder(">")).reshape(height, -1).view(np.uint8)
    rows = np.zeros((height, big.shape[1] + 1), np.uint8)  # a filter type of 0 before each row
    rows[:, 1:] = big
    header = struct.pack(">IIBBBBB", width, height, image.dtype.itemsize * 8, COLOUR[channels], 0, 0, 0)
    return SIGNATURE + b"".join(map(_chunk, (b"IHDR", b"IDAT", b"IEND"), (header, zlib.compress(rows.tobytes(), compression), b"")))


def _chunk(kind: bytes, data: bytes) -> bytes:
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))
