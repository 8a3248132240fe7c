"""PNG files with zlib alone: writing them, and reading those of 16 bits, which Pillow cuts to 8.

W3C, "Portable Network Graphics (PNG) Specification", chunk layout and filters.
"""
from __future__ import annotations

import struct
import zlib
from typing import Iterator

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


def decode_png(data: bytes) -> np.ndarray:
    """The pixels of a file of 16 bits that is not interlaced: uint16 [height, width, channels].

    Raises:
        ValueError: another file, or a broken one.
    """
    kinds = {v: k for k, v in COLOUR.items()}
    try:
        chunks = list(_chunks(data))
        width, height, depth, colour, _, _, interlaced = struct.unpack(">IIBBBBB", chunks[0][1])
        if chunks[0][0] != b"IHDR" or depth != 16 or interlaced:
            raise ValueError("only files of 16 bits that are not interlaced are read")
        channels = kinds[colour]
        raw = zlib.decompressobj().decompress(b"".join(d for kind, d in chunks if kind == b"IDAT"), height * (width * channels * 2 + 1))
        lines = np.frombuffer(raw, np.uint8).reshape(height, width * channels * 2 + 1)
    except (ValueError, KeyError, IndexError, struct.error, zlib.error) as e:
        raise ValueError(f"Invalid PNG data, size {len(data)}: {e}") from None
    out = np.zeros((height + 1, width * channels * 2), np.uint8)
    for i, line in enumerate(lines):
        out[i + 1] = _unfiltered(int(line[0]), line[1:], out[i], channels * 2)
    return out[1:].view(">u2").astype(np.uint16).reshape(height, width, channels)


def _chunks(data: bytes) -> Iterator[tuple[bytes, bytes]]:
    if not data.startswith(SIGNATURE):
        raise ValueError("no PNG file")
    at = len(SIGNATURE)
    while at < len(data):
        length, = struct.unpack_from(">I", data, at)
        kind, body = data[at + 4:at + 8], data[at + 8:at + 8 + length]
        if struct.unpack_from(">I", data, at + 8 + length)[0] != zlib.crc32(kind + body):
            raise ValueError(f"the checksum of {kind!r} at byte {at} is wrong")
        yield kind, body
        at += length + 12


def _unfiltered(kind: int, line: np.ndarray, above: np.ndarray, step: int) -> np.ndarray:
    """A line of bytes as it was; `step` is the distance to the pixel on the left."""
    if kind == 0:
        return line
    if kind == 2:
        return line + above
    if kind == 1:
        return np.add.accumulate(line.reshape(-1, step), 0, np.uint8).reshape(-1)
    if kind not in (3, 4):
        raise ValueError(f"Invalid PNG data: a filter of type {kind}")
    guess = _average if kind == 3 else _paeth
    out, up, given = bytearray(step + line.size), bytes(step) + above.tobytes(), line.tobytes()
    for k, v in enumerate(given, step):
        out[k] = (v + guess(out[k - step], up[k], up[k - step])) & 255
    return np.frombuffer(out, np.uint8)[step:]


def _average(left: int, up: int, corner: int) -> int:
    return (left + up) >> 1


def _paeth(left: int, up: int, corner: int) -> int:
    a, b, c = abs(up - corner), abs(left - corner), abs(left + up - 2 * corner)
    return left if a <= b and a <= c else up if b <= c else corner
