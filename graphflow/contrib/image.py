"""`tf.contrib.image`: projective transforms of images, rotation and translation.

A transform is eight numbers (a0, a1, a2, b0, b1, b2, c0, c1): the output at (x, y) is the input at
((a0 x + a1 y + a2) / k, (b0 x + b1 y + b2) / k) with k = c0 x + c1 y + 1, and 0 outside.
"""
from __future__ import annotations

from typing import Any

from .. import array_ops, graph, math_ops, types
from ..graph import Tensor
from ..ops.contraction import matmul
from ..ops.elementwise import select
from ..ops.opdef import convert_to_tensor
from . import _old_layout

__all__ = ["angles_to_projective_transforms", "compose_transforms", "flat_transforms_to_matrices", "matrices_to_flat_transforms",
           "rotate", "transform", "translate", "translations_to_projective_transforms"]

__getattr__ = _old_layout(__name__)

_DTYPES = (types.uint8, types.int32, types.int64, types.float16, types.float32, types.float64)


def _scope(name: str | None, default: str) -> Any:
    return graph.get_default_graph().name_scope(name or default)


def _batched(images: Any) -> tuple[Tensor, Tensor]:
    """(the argument, as [n, rows, columns, channels]).  Raises TypeError for another dtype or rank."""
    given = convert_to_tensor(images)
    if given.dtype.base_dtype not in _DTYPES:
        raise TypeError(f"Invalid dtype {given.dtype.name}.")
    rank = given.shape.ndims
    if rank is None:
        raise TypeError("image_or_images rank must be statically known")
    if rank not in (2, 3, 4):
        raise TypeError(f"Images should have rank between 2 and 4, got {rank}.")
    batch = array_ops.expand_dims(given, 0) if rank < 4 else given
    return given, array_ops.expand_dims(batch, -1) if rank == 2 else batch


def _rows(x: Any, width: int, what: str) -> Tensor:
    """One of `width` numbers, or a batch of them, as a float32 matrix.  Raises TypeError for another rank."""
    x = convert_to_tensor(x, types.float32)
    if x.shape.ndims is None:
        raise TypeError(f"{what} rank must be statically known")
    if x.shape.ndims not in (1, 2):
        raise TypeError(f"{what} should have rank 1 or 2, got {x.shape.ndims}.")
    return array_ops.reshape(x, [1, width]) if x.shape.ndims == 1 else x


def transform(images: Any, transforms: Any, interpolation: str = "NEAREST", output_shape: Any = None, name: str | None = None) -> Tensor:
    """Images [n, rows, columns, channels], [rows, columns, channels] or [rows, columns], transformed.

    Args:
        transforms: [8] for all images, or [n, 8]; see the module's docstring.
        interpolation: "NEAREST" or "BILINEAR".
        output_shape: (rows, columns) of the result; those of the images by default.

    Raises:
        TypeError: a dtype or rank that images do not have.  ValueError: another interpolation or output shape.
    """
    if interpolation.upper() not in ("NEAREST", "BILINEAR"):
        raise ValueError(f"interpolation must be NEAREST or BILINEAR, got {interpolation!r}")
    with _scope(name, "transform"):
        given, batch = _batched(images)
        matrices = _rows(transforms, 8, "Transforms")
        shape = array_ops.shape(batch)
        size = shape[1:3] if output_shape is None else convert_to_tensor(output_shape, types.int32)
        if not size.shape.is_compatible_with([2]):
            raise ValueError("output_shape must be a 1-D Tensor of 2 elements: new_height, new_width")
        rows, columns = size[0], size[1]
        y = array_ops.reshape(math_ops.cast(array_ops.range(rows), types.float32), [1, -1, 1])
        x = array_ops.reshape(math_ops.cast(array_ops.range(columns), types.float32), [1, 1, -1])
        t = [array_ops.reshape(matrices[:, i], [-1, 1, 1]) for i in range(8)]
        k = t[6] * x + t[7] * y + 1.0
        source_x, source_y = (t[0] * x + t[1] * y + t[2]) / k, (t[3] * x + t[4] * y + t[5]) / k
        result = (_nearest if interpolation.upper() == "NEAREST" else _bilinear)(batch, shape, source_x, source_y)
        n, channels = batch.shape[0].value, batch.shape[3].value
        known = batch.shape.as_list()[1:3] if output_shape is None else [None, None]
        if isinstance(output_shape, (list, tuple)):
            known = [int(v) for v in output_shape]
        result.set_shape([n, *known, channels])
        result = array_ops.squeeze(result, [3]) if given.shape.ndims == 2 else result
        return array_ops.squeeze(result, [0]) if given.shape.ndims < 4 else result


def _read(batch: Tensor, shape: Tensor, column: Tensor, row: Tensor) -> Tensor:
    """The pixels at these whole positions, floats [n or 1, rows, columns]; 0 outside."""
    n, rows, columns = shape[0], shape[1], shape[2]
    height, width = math_ops.cast(rows, types.float32), math_ops.cast(columns, types.float32)
    inside = (row >= 0.0) & (row < height) & (column >= 0.0) & (column < width)
    safe_row, safe_column = (math_ops.cast(select(inside, v, 0.0), types.int32) for v in (row, column))
    image = array_ops.reshape(array_ops.range(n), [-1, 1, 1])
    index = (image * rows + safe_row) * columns + safe_column
    pixels = array_ops.gather(array_ops.reshape(batch, [-1, shape[3]]), index)
    return select(array_ops.expand_dims(inside, -1), pixels, array_ops.zeros_like(pixels))


def _nearest(batch: Tensor, shape: Tensor, x: Tensor, y: Tensor) -> Tensor:
    x, y = (math_ops.sign(v) * math_ops.floor(math_ops.abs(v) + 0.5) for v in (x, y))
    return _read(batch, shape, x, y)


def _bilinear(batch: Tensor, shape: Tensor, x: Tensor, y: Tensor) -> Tensor:
    left, top = math_ops.floor(x), math_ops.floor(y)
    wide = types.float64 if batch.dtype.base_dtype is types.float64 else types.float32
    total: Any = 0.0
    for dx in (0.0, 1.0):
        for dy in (0.0, 1.0):
            weight = (1.0 - math_ops.abs(x - (left + dx))) * (1.0 - math_ops.abs(y - (top + dy)))
            pixels = math_ops.cast(_read(batch, shape, left + dx, top + dy), wide)
            total = total + math_ops.cast(array_ops.expand_dims(weight, -1), wide) * pixels
    return math_ops.cast(total, batch.dtype.base_dtype)


def angles_to_projective_transforms(angles: Any, image_height: Any, image_width: Any, name: str | None = None) -> Tensor:
    """Rotations by `angles` (radians, counterclockwise; one or [n]) around the centre of images of this size: [n, 8].

    Raises:
        TypeError: angles of another rank.
    """
    with _scope(name, "angles_to_projective_transforms"):
        angles = convert_to_tensor(angles, types.float32)
        if angles.shape.ndims not in (0, 1):
            raise TypeError("Angles should have rank 0 or 1.")
        angles = array_ops.reshape(angles, [-1])
        right, down = (math_ops.cast(v, types.float32) - 1.0 for v in (image_width, image_height))
        cos, sin = math_ops.cos(angles), math_ops.sin(angles)
        x = (right - (cos * right - sin * down)) / 2.0
        y = (down - (sin * right + cos * down)) / 2.0
        zero = array_ops.zeros_like(angles)
        return array_ops.stack([cos, -sin, x, sin, cos, y, zero, zero], 1)


def rotate(images: Any, angles: Any, interpolation: str = "NEAREST", name: str | None = None) -> Tensor:
    """Images rotated counterclockwise by `angles` (radians; one, or one for each image), of the same size."""
    with _scope(name, "rotate"):
        given, batch = _batched(images)
        sizes = array_ops.shape(batch)
        height, width = (batch.shape[i].value or math_ops.cast(sizes[i], types.float32) for i in (1, 2))
        return transform(given, angles_to_projective_transforms(angles, height, width), interpolation)


def translations_to_projective_transforms(translations: Any, name: str | None = None) -> Tensor:
    """Translations by (dx, dy), one or [n, 2], as transforms [n, 8]."""
    with _scope(name, "translations_to_projective_transforms"):
        moves = _rows(translations, 2, "Translations")
        one, zero = array_ops.ones_like(moves[:, 0]), array_ops.zeros_like(moves[:, 0])
        return array_ops.stack([one, zero, -moves[:, 0], zero, one, -moves[:, 1], zero, zero], 1)


def translate(images: Any, translations: Any, interpolation: str = "NEAREST", name: str | None = None) -> Tensor:
    """Images moved by (dx, dy) pixels, one or [n, 2]."""
    with _scope(name, "translate"):
        return transform(images, translations_to_projective_transforms(translations), interpolation)


def compose_transforms(*transforms: Any) -> Tensor:
    """One transform for several, [8] or [n, 8], the first of which is applied first to images.  Raises AssertionError for none."""
    assert transforms, "transforms cannot be empty"
    with _scope(None, "compose_transforms"):
        composed = flat_transforms_to_matrices(transforms[0])
        for t in transforms[1:]:
            composed = matmul(composed, flat_transforms_to_matrices(t))
        return matrices_to_flat_transforms(composed)


def flat_transforms_to_matrices(transforms: Any) -> Tensor:
    """Transforms [8] or [n, 8] as matrices [n, 3, 3].  Raises ValueError for another rank."""
    with _scope(None, "flat_transforms_to_matrices"):
        t = convert_to_tensor(transforms)
        if t.shape.ndims not in (1, 2):
            raise ValueError(f"Transforms should be 1D or 2D, got: {t}")
        t = array_ops.reshape(t, [-1, 8])
        return array_ops.reshape(array_ops.concat([t, array_ops.ones_like(t[:, :1])], 1), [-1, 3, 3])


def matrices_to_flat_transforms(transform_matrices: Any) -> Tensor:
    """Matrices [3, 3] or [n, 3, 3] as transforms [n, 8].  Raises ValueError for another rank."""
    with _scope(None, "matrices_to_flat_transforms"):
        m = convert_to_tensor(transform_matrices)
        if m.shape.ndims not in (2, 3):
            raise ValueError(f"Matrices should be 2D or 3D, got: {m}")
        m = array_ops.reshape(m, [-1, 9])
        return (m / m[:, 8:9])[:, :8]
