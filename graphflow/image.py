"""`tf.image`: pictures [height, width, channels] or batches of them [batch, height, width, channels].

Functions of colour take float pictures in [0, 1] or integer ones up to the dtype's largest value; they compute in float32
and give the dtype back.  Resizing places pixels as TF1 does: pixel i of the result is at i * (old size / new size), or with
`align_corners` at i * (old - 1) / (new - 1).
"""
from __future__ import annotations

from typing import Any, Sequence

import numpy as np

from . import array_ops, graph, math_ops, random_ops, types
from .graph import Spec, Tensor
from .image_boxes import (combined_non_max_suppression, crop_and_resize, draw_bounding_boxes, extract_glimpse, non_max_suppression,
                          non_max_suppression_overlaps, non_max_suppression_padded, non_max_suppression_with_scores)
from .image_codecs import (decode_and_crop_jpeg, decode_bmp, decode_gif, decode_image, decode_jpeg, decode_png, encode_jpeg, encode_png,
                           extract_jpeg_shape, is_jpeg)
from .ops.elementwise import select
from .ops.opdef import convert_to_tensor, primitive

__all__ = ["ResizeMethod", "adjust_brightness", "adjust_contrast", "adjust_gamma", "adjust_hue", "adjust_saturation", "central_crop",
           "combined_non_max_suppression", "convert_image_dtype", "crop_and_resize", "crop_to_bounding_box", "draw_bounding_boxes",
           "extract_glimpse", "extract_image_patches", "extract_patches", "flip_left_right", "flip_up_down", "grayscale_to_rgb",
           "hsv_to_rgb", "image_gradients", "non_max_suppression", "non_max_suppression_overlaps", "non_max_suppression_padded",
           "non_max_suppression_with_scores", "pad_to_bounding_box", "per_image_standardization", "psnr", "random_brightness",
           "random_contrast", "random_crop", "random_flip_left_right", "random_flip_up_down", "random_hue", "random_saturation",
           "resize", "resize_area", "resize_bicubic", "resize_bilinear", "resize_image_with_crop_or_pad", "resize_image_with_pad",
           "resize_images", "resize_nearest_neighbor", "resize_with_crop_or_pad", "rgb_to_grayscale", "rgb_to_hsv", "rgb_to_yiq",
           "rgb_to_yuv", "rot90", "sample_distorted_bounding_box", "sobel_edges", "ssim", "ssim_multiscale", "total_variation",
           "transpose", "transpose_image", "yiq_to_rgb", "yuv_to_rgb",
           "decode_and_crop_jpeg", "decode_bmp", "decode_gif", "decode_image", "decode_jpeg", "decode_png", "encode_jpeg", "encode_png",
           "extract_jpeg_shape", "is_jpeg"]


def _scope(name: str | None, default: str) -> Any:
    return graph.get_default_graph().name_scope(name or default)


def _picture(image: Any, ranks: Sequence[int] = (3, 4)) -> Tensor:
    """A tensor of one of the ranks, or of unknown rank when 3 is meant."""
    image = convert_to_tensor(image, name="image")
    if image.sizes is None:
        if 3 not in ranks:
            raise ValueError("'images' must have a known rank")
        image.set_shape([None, None, None])
    if len(image.sizes) not in ranks:
        words = {3: "three-dimensional", 4: "four-dimensional"}
        raise ValueError(f"'image' (shape {image.shape}) must be {' or '.join(words[r] for r in ranks)}.")
    return image


def _float(image: Tensor) -> Tensor:
    return image if image.dtype in (types.float16, types.float32) else convert_image_dtype(image, types.float32)


def _back(image: Tensor, dtype: types.DType) -> Tensor:
    return convert_image_dtype(image, dtype, saturate=True)


def _sizes(image: Tensor) -> tuple[Any, Any]:
    """Height and width: ints where known, else scalar tensors."""
    first = len(image.sizes) - 3  # type: ignore[arg-type]
    dynamic = None
    found = []
    for k in (first, first + 1):
        size = image.sizes[k]  # type: ignore[index]
        if isinstance(size, types.Dim):
            dynamic = array_ops.shape(image) if dynamic is None else dynamic
            size = dynamic[k]
        found.append(size)
    return found[0], found[1]


def _size(image: Tensor, k: int) -> Any:
    size = image.sizes[k]  # type: ignore[index]
    return array_ops.shape(image)[k] if isinstance(size, types.Dim) else size


def _known(*values: Any) -> bool:
    return all(isinstance(v, (int, np.integer)) for v in values)


def _check(holds: Any, message: str) -> None:
    if not holds:
        raise ValueError(message)


# ---------------------------------------------------------------- turning


def flip_left_right(image: Any) -> Tensor:
    """The columns in reverse order."""
    with _scope(None, "flip_left_right"):
        return array_ops.reverse(_picture(image), [-2])


def flip_up_down(image: Any) -> Tensor:
    """The rows in reverse order."""
    with _scope(None, "flip_up_down"):
        return array_ops.reverse(_picture(image), [-3])


def _random_flip(image: Any, axis: int, seed: int | None, name: str) -> Tensor:
    with _scope(None, name):
        image = _picture(image)
        shape: Any = [] if len(image.sizes) == 3 else array_ops.stack([array_ops.shape(image)[0], 1, 1, 1])  # type: ignore[arg-type]
        chosen = math_ops.less(random_ops.random_uniform(shape, 0, 1.0, seed=seed), 0.5)
        found = select(chosen, array_ops.reverse(image, [axis]), image)
        found.set_shape(image.shape)
        return found


def random_flip_left_right(image: Any, seed: int | None = None) -> Tensor:
    """Half of the pictures flipped, each for itself, anew in each run."""
    return _random_flip(image, -2, seed, "random_flip_left_right")


def random_flip_up_down(image: Any, seed: int | None = None) -> Tensor:
    """Half of the pictures flipped, each for itself, anew in each run."""
    return _random_flip(image, -3, seed, "random_flip_up_down")


def transpose_image(image: Any) -> Tensor:
    """Rows and columns exchanged."""
    with _scope(None, "transpose_image"):
        image = _picture(image)
        return array_ops.transpose(image, [1, 0, 2] if len(image.sizes) == 3 else [0, 2, 1, 3])  # type: ignore[arg-type]


transpose = transpose_image


def rot90(image: Any, k: int = 1, name: str | None = None) -> Tensor:
    """Turned counter-clockwise `k` (a Python int) times by 90 degrees."""
    with _scope(name, "rot90"):
        image = _picture(image)
        turned = transpose_image(image) if k % 2 else image
        axes = {0: [], 1: [-3], 2: [-3, -2], 3: [-2]}[k % 4]
        return array_ops.reverse(turned, axes) if axes else turned


# ---------------------------------------------------------------- dtype and colour


def convert_image_dtype(image: Any, dtype: Any, saturate: bool = False, name: str | None = None) -> Tensor:
    """Another dtype at the same brightness: integers fill their range, floats [0, 1].

    `saturate` clips what would not fit, before the cast.
    """
    image = convert_to_tensor(image, name="image")
    dtype = types.as_dtype(dtype)
    if dtype is image.dtype:
        return array_ops.identity(image, name=name)
    with _scope(name, "convert_image") as scope:
        cast = math_ops.saturate_cast if saturate else math_ops.cast
        ours, theirs = image.dtype.is_integer, dtype.is_integer
        if ours and theirs:
            if image.dtype.max > dtype.max:
                return cast(image // ((int(image.dtype.max) + 1) // (int(dtype.max) + 1)), dtype, name=scope)
            return math_ops.multiply(cast(image, dtype), (int(dtype.max) + 1) // (int(image.dtype.max) + 1), name=scope)
        if ours:
            return math_ops.multiply(math_ops.cast(image, dtype), 1.0 / float(image.dtype.max), name=scope)
        if theirs:
            return cast(image * (float(dtype.max) + 0.5), dtype, name=scope)
        return math_ops.cast(image, dtype, name=scope)


def adjust_brightness(image: Any, delta: Any) -> Tensor:
    """`delta` (of the float scale) added."""
    with _scope(None, "adjust_brightness"):
        image = convert_to_tensor(image)
        return _back(_float(image) + math_ops.cast(delta, _float(image).dtype), image.dtype)


def adjust_contrast(images: Any, contrast_factor: Any) -> Tensor:
    """(x - mean) * factor + mean, with the mean of each channel of each picture."""
    with _scope(None, "adjust_contrast"):
        image = convert_to_tensor(images)
        x = math_ops.cast(_float(image), types.float32)
        middle = math_ops.reduce_mean(x, [-3, -2], keepdims=True)
        return _back(math_ops.cast((x - middle) * contrast_factor + middle, _float(image).dtype), image.dtype)


def adjust_gamma(image: Any, gamma: Any = 1, gain: Any = 1) -> Tensor:
    """gain * x ** gamma.  Raises ValueError for a negative gamma."""
    with _scope(None, "adjust_gamma"):
        image = convert_to_tensor(image)
        _check(not _known(gamma) and not isinstance(gamma, float) or gamma >= 0, "Gamma should be a non-negative real number.")
        return _back(gain * _float(image) ** gamma, image.dtype)


def rgb_to_grayscale(images: Any, name: str | None = None) -> Tensor:
    """One channel: 0.2989 R + 0.5870 G + 0.1140 B."""
    with _scope(name, "rgb_to_grayscale") as scope:
        image = convert_to_tensor(images)
        x = _float(image)
        gray = math_ops.reduce_sum(x * convert_to_tensor([0.2989, 0.587, 0.114], x.dtype), -1, keepdims=True)
        return array_ops.identity(convert_image_dtype(gray, image.dtype), name=scope)


def grayscale_to_rgb(images: Any, name: str | None = None) -> Tensor:
    """The one channel three times."""
    with _scope(name, "grayscale_to_rgb") as scope:
        image = convert_to_tensor(images)
        if image.sizes is not None and types.same(image.sizes[-1], 1) is False:
            raise ValueError(f"grayscale_to_rgb: the last dimension must be 1, got shape {image.shape}")
        return array_ops.concat([image] * 3, -1, name=scope)


def _channels(image: Tensor) -> list[Tensor]:
    if image.sizes is not None and types.same(image.sizes[-1], 3) is False:
        raise ValueError(f"input must have 3 channels but instead has {image.sizes[-1]} channels.")
    return [image[..., k] for k in range(3)]


def rgb_to_hsv(images: Any, name: str | None = None) -> Tensor:
    """Hue, saturation and value, all in [0, 1], of float pictures in [0, 1].

    Formula: Smith, "Color gamut transform pairs" (1978).
    """
    with _scope(name, "RGBToHSV") as scope:
        r, g, b = _channels(convert_to_tensor(images))
        value = math_ops.maximum(math_ops.maximum(r, g), b)
        spread = value - math_ops.minimum(math_ops.minimum(r, g), b)
        saturation = math_ops.div_no_nan(spread, math_ops.maximum(value, array_ops.zeros_like(value)))
        part = math_ops.div_no_nan(array_ops.ones_like(spread), 6.0 * spread)
        hue = select(math_ops.equal(r, value), part * (g - b),
                     select(math_ops.equal(g, value), part * (b - r) + 2.0 / 6.0, part * (r - g) + 4.0 / 6.0))
        hue = select(spread > 0.0, hue, array_ops.zeros_like(hue))
        return array_ops.stack([select(hue < 0.0, hue + 1.0, hue), saturation, value], -1, name=scope)


def hsv_to_rgb(images: Any, name: str | None = None) -> Tensor:
    """The inverse of `rgb_to_hsv`."""
    with _scope(name, "HSVToRGB") as scope:
        h, s, v = _channels(convert_to_tensor(images))
        h = h * 6.0

        def clipped(x: Tensor) -> Tensor:
            return math_ops.minimum(math_ops.maximum(x, 0.0), 1.0)

        parts = clipped(math_ops.abs(h - 3.0) - 1.0), clipped(2.0 - math_ops.abs(h - 2.0)), clipped(2.0 - math_ops.abs(h - 4.0))
        return array_ops.stack([(1.0 - s + s * p) * v for p in parts], -1, name=scope)


def _in_hsv(image: Any, change: Any) -> Tensor:
    image = convert_to_tensor(image)
    h, s, v = _channels(rgb_to_hsv(_float(image)))
    return _back(hsv_to_rgb(array_ops.stack([*change(h, s), v], -1)), image.dtype)


def adjust_hue(image: Any, delta: Any, name: str | None = None) -> Tensor:
    """The hue turned by `delta` of the colour circle, in [-1, 1]."""
    with _scope(name, "adjust_hue"):
        return _in_hsv(image, lambda h, s: (math_ops.floormod(h + math_ops.cast(delta, h.dtype), array_ops.ones_like(h)), s))


def adjust_saturation(image: Any, saturation_factor: Any, name: str | None = None) -> Tensor:
    """The saturation multiplied, at most 1."""
    with _scope(name, "adjust_saturation"):
        return _in_hsv(image, lambda h, s: (h, math_ops.minimum(math_ops.maximum(s * math_ops.cast(saturation_factor, s.dtype), 0.0), 1.0)))


def random_brightness(image: Any, max_delta: float, seed: int | None = None) -> Tensor:
    """`adjust_brightness` by an amount uniform in [-max_delta, max_delta).  Raises ValueError when it is negative."""
    _check(max_delta >= 0, "max_delta must be non-negative.")
    return adjust_brightness(image, random_ops.random_uniform([], -max_delta, max_delta, seed=seed))


def random_hue(image: Any, max_delta: float, seed: int | None = None) -> Tensor:
    """`adjust_hue` by an amount uniform in [-max_delta, max_delta).  Raises ValueError outside [0, 0.5]."""
    _check(max_delta <= 0.5, "max_delta must be <= 0.5.")
    _check(max_delta >= 0, "max_delta must be non-negative.")
    return adjust_hue(image, random_ops.random_uniform([], -max_delta, max_delta, seed=seed))


def _factor(lower: float, upper: float, seed: int | None) -> Tensor:
    _check(upper > lower, "upper must be > lower.")
    _check(lower >= 0, "lower must be non-negative.")
    return random_ops.random_uniform([], lower, upper, seed=seed)


def random_contrast(image: Any, lower: float, upper: float, seed: int | None = None) -> Tensor:
    """`adjust_contrast` by a factor uniform in [lower, upper).  Raises ValueError unless 0 <= lower < upper."""
    return adjust_contrast(image, _factor(lower, upper, seed))


def random_saturation(image: Any, lower: float, upper: float, seed: int | None = None) -> Tensor:
    """`adjust_saturation` by a factor uniform in [lower, upper).  Raises ValueError unless 0 <= lower < upper."""
    return adjust_saturation(image, _factor(lower, upper, seed))


def per_image_standardization(image: Any) -> Tensor:
    """Each picture in float32 with mean 0 and variance 1; the deviation counts as at least 1 / sqrt(number of values)."""
    with _scope(None, "per_image_standardization") as scope:
        x = math_ops.cast(_picture(image), types.float32)
        centred = x - math_ops.reduce_mean(x, [-3, -2, -1], keepdims=True)
        deviation = math_ops.sqrt(math_ops.reduce_mean(math_ops.square(centred), [-3, -2, -1], keepdims=True))
        count = math_ops.cast(math_ops.reduce_prod(array_ops.shape(x)[-3:]), types.float32)
        return math_ops.truediv(centred, math_ops.maximum(deviation, math_ops.rsqrt(count)), name=scope)


# ---------------------------------------------------------------- cutting and framing


def crop_to_bounding_box(image: Any, offset_height: Any, offset_width: Any, target_height: Any, target_width: Any) -> Tensor:
    """The block of the target's size at an offset.  Raises ValueError when it does not lie inside."""
    with _scope(None, "crop_to_bounding_box"):
        image = _picture(image)
        height, width = _sizes(image)
        for word, offset, target, size in (("width", offset_width, target_width, width), ("height", offset_height, target_height, height)):
            _check(not _known(offset) or offset >= 0, f"offset_{word} must be >= 0.")
            _check(not _known(target) or target > 0, f"target_{word} must be > 0.")
            _check(not _known(offset, target, size) or size >= offset + target, f"{word} must be >= target + offset.")
        # Sizes in full, not -1: the offset may be known only when the graph runs.
        rank = len(image.sizes)  # type: ignore[arg-type]
        outer = [_size(image, k) for k in range(rank - 3)]
        return array_ops.slice(image, [*[0] * (rank - 3), offset_height, offset_width, 0],
                               [*outer, target_height, target_width, _size(image, rank - 1)])


def pad_to_bounding_box(image: Any, offset_height: Any, offset_width: Any, target_height: Any, target_width: Any) -> Tensor:
    """The picture at an offset in one of the target's size, zeros around it.  Raises ValueError when it does not fit."""
    with _scope(None, "pad_to_bounding_box"):
        image = _picture(image)
        height, width = _sizes(image)
        after_width, after_height = target_width - offset_width - width, target_height - offset_height - height
        for word, offset, after in (("width", offset_width, after_width), ("height", offset_height, after_height)):
            _check(not _known(offset) or offset >= 0, f"offset_{word} must be >= 0")
            _check(not _known(after) or after >= 0, f"{word} must be <= target - offset")
        batch = [[0, 0]] * (len(image.sizes) - 3)  # type: ignore[arg-type]
        found = array_ops.pad(image, [*batch, [offset_height, after_height], [offset_width, after_width], [0, 0]])
        found.set_shape([*[None] * len(batch), *[n if _known(n) else None for n in (target_height, target_width)], None])
        return found


def resize_image_with_crop_or_pad(image: Any, target_height: Any, target_width: Any) -> Tensor:
    """The middle of the picture, cut or framed with zeros to the target's size.  Raises ValueError for sizes below 1."""
    with _scope(None, "resize_image_with_crop_or_pad"):
        image = _picture(image)
        for word, target in (("width", target_width), ("height", target_height)):
            _check(not _known(target) or target > 0, f"target_{word} must be > 0.")
        height, width = _sizes(image)

        def bigger(a: Any, b: Any) -> Any:
            return max(a, b) if _known(a, b) else math_ops.maximum(a, b)

        def smaller(a: Any, b: Any) -> Any:
            return min(a, b) if _known(a, b) else math_ops.minimum(a, b)

        down, right = target_height - height, target_width - width
        cut = crop_to_bounding_box(image, bigger((height - target_height) // 2, 0), bigger((width - target_width) // 2, 0),
                                   smaller(target_height, height), smaller(target_width, width))
        return pad_to_bounding_box(cut, bigger(down // 2, 0), bigger(right // 2, 0), target_height, target_width)


resize_with_crop_or_pad = resize_image_with_crop_or_pad


def central_crop(image: Any, central_fraction: float) -> Tensor:
    """The middle `central_fraction` of each side.  Raises ValueError unless it is in (0, 1]."""
    with _scope(None, "central_crop"):
        image = _picture(image)
        _check(0.0 < central_fraction <= 1.0, "central_fraction must be within (0, 1]")
        if central_fraction == 1.0:
            return image

        def start(size: Any) -> Any:
            if _known(size):
                return int((size - size * central_fraction) / 2)
            size = math_ops.cast(size, types.float64)
            return math_ops.cast((size - size * central_fraction) / 2, types.int32)

        height, width = _sizes(image)
        top, left = start(height), start(width)
        return crop_to_bounding_box(image, top, left, height - top * 2, width - left * 2)


# ---------------------------------------------------------------- resizing


class ResizeMethod:
    """How `resize_images` finds new pixels."""

    BILINEAR, NEAREST_NEIGHBOR, BICUBIC, AREA = range(4)


def _extent(size: Any) -> tuple[Any, Any]:
    """Height and width of a new size: ints where known, else scalar tensors."""
    if isinstance(size, Tensor) or hasattr(size, "_as_tensor"):
        size = convert_to_tensor(size, name="size")
        if size.dtype is not types.int32:
            raise ValueError("'size' must be a 1-D int32 Tensor")
    if isinstance(size, Tensor):
        if size.sizes is not None and (len(size.sizes) != 1 or types.same(size.sizes[0], 2) is False):
            raise ValueError("'size' must be a 1-D Tensor of 2 elements: new_height, new_width")
        parts: list[Any] = [size[0], size[1]]
        if size.known is not None:
            parts = [p if isinstance(v, types.Dim) else int(v) for p, v in zip(parts, size.known)]
        return parts[0], parts[1]
    values = list(size) if not isinstance(size, types.TensorShape) else size.as_list()
    if len(values) != 2:
        raise ValueError("'size' must be a 1-D Tensor of 2 elements: new_height, new_width")
    values = [v if isinstance(v, Tensor) else int(v) for v in values]
    _check(all(isinstance(v, Tensor) or v > 0 for v in values), f"output dimensions must be positive, got {values}")
    return values[0], values[1]


def _scale(old: Any, new: Any, align_corners: bool) -> Any:
    """Old pixels for one new pixel, in float32."""
    if _known(old, new):
        return np.float32(old - 1) / np.float32(new - 1) if align_corners and new > 1 else np.float32(old) / np.float32(new)
    old, new = (math_ops.cast(v, types.float32) for v in (old, new))
    if not align_corners:
        return old / new
    return select(new > 1.0, (old - 1.0) / math_ops.maximum(new - 1.0, 1.0), old / new)


def _positions(old: Any, new: Any, align_corners: bool, half_pixel_centers: bool) -> Tensor:
    """Where in the old axis the pixels of the new one lie."""
    at = math_ops.cast(array_ops.range(new), types.float32)
    scale = _scale(old, new, align_corners)
    return (at + 0.5) * scale - 0.5 if half_pixel_centers else at * scale


def _along(weights: Tensor, axis: int) -> Tensor:
    return array_ops.reshape(weights, [1, -1, 1, 1] if axis == 1 else [1, 1, -1, 1])


def _bounded(index: Tensor, old: Any) -> Tensor:
    return math_ops.minimum(math_ops.maximum(index, 0), old - 1)


def _linear(x: Tensor, axis: int, old: Any, new: Any, align: bool, half: bool) -> Tensor:
    at = _positions(old, new, align, half)
    floor = math_ops.floor(at)
    low = math_ops.cast(floor, types.int32)
    a, b = array_ops.gather(x, _bounded(low, old), axis=axis), array_ops.gather(x, _bounded(low + 1, old), axis=axis)
    return a + (b - a) * _along(at - floor, axis)


def _nearest(x: Tensor, axis: int, old: Any, new: Any, align: bool, half: bool) -> Tensor:
    at = _positions(old, new, align, False)
    if half:
        at = (math_ops.cast(array_ops.range(new), types.float32) + 0.5) * _scale(old, new, align)
    at = math_ops.floor(at + 0.5) if align else math_ops.floor(at)
    return array_ops.gather(x, _bounded(math_ops.cast(at, types.int32), old), axis=axis)


def _cubic(x: Tensor, axis: int, old: Any, new: Any, align: bool, half: bool) -> Tensor:
    """Cubic convolution (Keys 1981, a = -0.75, or -0.5 with half pixel centers) with positions rounded to 1/1024."""
    a = -0.5 if half else -0.75
    at = _positions(old, new, align, half)
    floor = math_ops.floor(at)
    t = math_ops.rint((at - floor) * 1024.0) / 1024.0
    low = math_ops.cast(floor, types.int32)

    def inner(d: Tensor) -> Tensor:
        return ((a + 2.0) * d - (a + 3.0)) * d * d + 1.0

    def outer(d: Tensor) -> Tensor:
        return ((a * d - 5.0 * a) * d + 8.0 * a) * d - 4.0 * a

    weights = [outer(t + 1.0), inner(t), inner(1.0 - t), outer(2.0 - t)]
    if half:  # pixels outside do not count
        weights = [select(math_ops.equal(_bounded(low + k, old), low + k), w, array_ops.zeros_like(w))
                   for k, w in zip((-1, 0, 1, 2), weights)]
        total = math_ops.add_n(weights)
        weights = [w / total for w in weights]
    parts = [array_ops.gather(x, _bounded(low + k, old), axis=axis) * _along(w, axis) for k, w in zip((-1, 0, 1, 2), weights)]
    return math_ops.add_n(parts)


def _area(x: Tensor, axis: int, old: Any, new: Any, align: bool, half: bool) -> Tensor:
    """Each new pixel is the mean of the old ones it covers; the last row and column go on outside."""
    scale = _scale(old, new, align)
    start = array_ops.expand_dims(math_ops.cast(array_ops.range(new), types.float32) * scale, 1)
    cell = array_ops.expand_dims(math_ops.cast(array_ops.range(old), types.float32), 0)
    end = select(math_ops.equal(cell, math_ops.cast(old - 1, types.float32)), cell + 3.0e8, cell + 1.0)
    shared = math_ops.maximum(math_ops.minimum(end, start + scale) - math_ops.maximum(cell, start), 0.0)
    from .ops.einsum import einsum

    found = einsum("oi,bijc->bojc" if axis == 1 else "oi,bjic->bjoc", shared, x)
    return found / scale


def _resizer(step: Any, default: str, keeps: bool, text: str) -> Any:
    def resize_op(images: Any, size: Any, align_corners: bool = False, name: str | None = None, half_pixel_centers: bool = False) -> Tensor:
        if align_corners and half_pixel_centers:
            raise ValueError("If half_pixel_centers is True, align_corners must be False.")
        with _scope(name, default) as scope:
            x = _picture(images, (4,))
            (height, width), (rows, columns) = _sizes(x), _extent(size)
            x = x if keeps or x.dtype is types.float32 else math_ops.cast(x, types.float32)
            x = step(x, 1, height, rows, align_corners, half_pixel_centers)
            return array_ops.identity(step(x, 2, width, columns, align_corners, half_pixel_centers), name=scope)
    resize_op.__name__ = resize_op.__qualname__ = default
    resize_op.__doc__ = (f"{text}\n\n    Args:\n        images: [batch, height, width, channels].\n        size: (new height, new width).\n"
                         "        align_corners: the corners of both pictures are the same points.\n\n    Raises:\n"
                         "        ValueError: another rank, or sizes below 1.\n    ")
    return resize_op


resize_bilinear = _resizer(_linear, "ResizeBilinear", False, "Resized in float32 by linear interpolation between four pixels.")
resize_nearest_neighbor = _resizer(_nearest, "ResizeNearestNeighbor", True, "Resized by taking the nearest pixel; keeps the dtype.")
resize_bicubic = _resizer(_cubic, "ResizeBicubic", False, "Resized in float32 by cubic convolution of sixteen pixels.")
resize_area = _resizer(_area, "ResizeArea", False, "Resized in float32 by the mean over the area that each new pixel covers.")


def resize_images(images: Any, size: Any, method: Any = ResizeMethod.BILINEAR, align_corners: bool = False,
                  preserve_aspect_ratio: bool = False, name: str | None = None) -> Tensor:
    """Pictures of `size` (height, width); float32, except by NEAREST_NEIGHBOR or when the size is theirs already.

    Args:
        method: one of ResizeMethod.
        preserve_aspect_ratio: `size` is what the result must fit into.

    Raises:
        ValueError: a bad rank, size or method.
    """
    with _scope(name, "resize"):
        image = _picture(images)
        single = len(image.sizes) == 3  # type: ignore[arg-type]
        batch = array_ops.expand_dims(image, 0) if single else image
        rows, columns = _extent(size)
        height, width = _sizes(image)
        if preserve_aspect_ratio:
            rows, columns = _fitting(rows, columns, height, width)
        methods = {0: resize_bilinear, 1: resize_nearest_neighbor, 2: resize_bicubic, 3: resize_area,
                   "bilinear": resize_bilinear, "nearest": resize_nearest_neighbor, "bicubic": resize_bicubic, "area": resize_area}
        if method not in methods:
            raise ValueError(f"Resize method is not implemented: {method!r}")
        if _known(rows, columns, height, width) and (rows, columns) == (height, width):
            return image
        found = methods[method](batch, (rows, columns), align_corners)
        return array_ops.squeeze(found, [0]) if single else found


resize = resize_images


def _fitting(rows: Any, columns: Any, height: Any, width: Any) -> tuple[Any, Any]:
    """The largest size within (rows, columns) of the aspect of (height, width), in float32 as TF's."""
    if _known(rows, columns, height, width):
        scale = min(np.float32(rows) / np.float32(height), np.float32(columns) / np.float32(width))
        return tuple(int(np.rint(scale * np.float32(v))) for v in (height, width))  # type: ignore[return-value]
    new, old = ([math_ops.cast(v, types.float32) for v in pair] for pair in ((rows, columns), (height, width)))
    by = math_ops.minimum(new[0] / old[0], new[1] / old[1])
    return tuple(math_ops.cast(math_ops.round(by * v), types.int32) for v in old)  # type: ignore[return-value]


def resize_image_with_pad(image: Any, target_height: int, target_width: int, method: Any = ResizeMethod.BILINEAR,
                          align_corners: bool = False) -> Tensor:
    """Resized to fit into the target without changing the aspect ratio, zeros around it.  Raises ValueError for sizes below 1."""
    with _scope(None, "resize_image_with_pad"):
        image = _picture(image)
        height, width = _sizes(image)
        for word, target in (("height", target_height), ("width", target_width)):
            _check(not _known(target) or target > 0, f"target_{word} must be > 0.")
        rows: Any
        columns: Any
        top: Any
        left: Any
        if _known(height, width, target_height, target_width):
            ratio = max(width / target_width, height / target_height)
            rows, columns = int(height / ratio), int(width / ratio)
            top, left = (max(0, int((target - size / ratio) / 2)) for target, size in ((target_height, height), (target_width, width)))
        else:
            old, new = ([math_ops.cast(v, types.float64) for v in pair] for pair in ((height, width), (target_height, target_width)))
            by = math_ops.maximum(old[1] / new[1], old[0] / new[0])
            rows, columns = (math_ops.cast(math_ops.floor(v / by), types.int32) for v in old)
            top, left = (math_ops.maximum(0, math_ops.cast(math_ops.floor((n - v / by) / 2.0), types.int32)) for n, v in zip(new, old))
        found = resize_images(image, (rows, columns), method, align_corners)
        return pad_to_bounding_box(found, top, left, target_height, target_width)


# ---------------------------------------------------------------- comparing


def total_variation(images: Any, name: str | None = None) -> Tensor:
    """The sum of |differences| of neighbouring pixels: a scalar for a picture, a vector for a batch."""
    with _scope(name, "total_variation"):
        x = _picture(images)
        down, right = image_differences(x)
        axes = None if len(x.sizes) == 3 else [1, 2, 3]  # type: ignore[arg-type]
        return math_ops.reduce_sum(math_ops.abs(down), axes) + math_ops.reduce_sum(math_ops.abs(right), axes)


def image_differences(x: Tensor) -> tuple[Tensor, Tensor]:
    """Each row minus the one above, each column minus the one to its left."""
    return x[..., 1:, :, :] - x[..., :-1, :, :], x[..., 1:, :] - x[..., :-1, :]


def image_gradients(image: Any) -> tuple[Tensor, Tensor]:
    """(dy, dx): the next row (column) minus this one, 0 in the last one."""
    x = _picture(image, (4,))
    down, right = image_differences(x)
    return array_ops.pad(down, [[0, 0], [0, 1], [0, 0], [0, 0]]), array_ops.pad(right, [[0, 0], [0, 0], [0, 1], [0, 0]])


def _pair(a: Any, b: Any, max_val: Any) -> tuple[Tensor, Tensor, Tensor]:
    a, b = _picture(a), _picture(b)
    if not a.shape.is_compatible_with(b.shape):
        raise ValueError(f"Shapes {a.shape} and {b.shape} are incompatible")
    limit = convert_image_dtype(math_ops.cast(max_val, a.dtype), types.float32)
    return convert_image_dtype(a, types.float32), convert_image_dtype(b, types.float32), limit


def psnr(a: Any, b: Any, max_val: Any, name: str | None = None) -> Tensor:
    """Peak signal-to-noise ratio in dB of each picture: 20 log10(max_val) - 10 log10(mean squared error)."""
    with _scope(name, "PSNR"):
        a, b, limit = _pair(a, b, max_val)
        error = math_ops.reduce_mean(math_ops.squared_difference(a, b), [-3, -2, -1])
        return (20.0 / float(np.log(10))) * math_ops.log(limit) - (10.0 / float(np.log(10))) * math_ops.log(error)


def ssim(img1: Any, img2: Any, max_val: Any, filter_size: int = 11, filter_sigma: float = 1.5, k1: float = 0.01,
         k2: float = 0.03) -> Tensor:
    """Structural similarity of each picture, the mean over its channels (Wang et al., 2004); sides of at least `filter_size`."""
    with _scope(None, "SSIM"):
        x, y, limit = _pair(img1, img2, max_val)
        single = len(x.sizes) == 3  # type: ignore[arg-type]
        x, y = (array_ops.expand_dims(v, 0) if single else v for v in (x, y))
        found = math_ops.reduce_mean(_similarity(x, y, limit, filter_size, filter_sigma, k1, k2)[0], -1)
        return array_ops.squeeze(found, [0]) if single else found


def _similarity(x: Tensor, y: Tensor, limit: Tensor, filter_size: int, filter_sigma: float, k1: float, k2: float) -> tuple[Tensor, Tensor]:
    """The structural similarity of each channel of each picture, [batch, channels], and the part of it without brightness."""
    from . import nn

    height, width = _sizes(x)
    _check(not _known(height, width) or min(height, width) >= filter_size,
           f"ssim: the pictures must be at least {filter_size} wide and high")
    at = np.arange(filter_size) - (filter_size - 1) / 2.0
    bell = np.exp(-(at[:, None] ** 2 + at[None] ** 2) / (2 * filter_sigma ** 2))
    window = convert_to_tensor((bell / bell.sum()).astype(np.float32)[:, :, None, None])
    channels = x.sizes[-1]  # type: ignore[index]

    def blurred(v: Tensor) -> Tensor:
        return nn.depthwise_conv2d(v, array_ops.tile(window, [1, 1, channels, 1]), [1, 1, 1, 1], "VALID")

    c1, c2 = (k1 * limit) ** 2, (k2 * limit) ** 2
    mx, my = blurred(x), blurred(y)
    cross, squares = mx * my * 2.0, math_ops.square(mx) + math_ops.square(my)
    light = (cross + c1) / (squares + c1)
    structure = (blurred(x * y) * 2.0 - cross + c2) / (blurred(math_ops.square(x) + math_ops.square(y)) - squares + c2)
    return math_ops.reduce_mean(light * structure, [-3, -2]), math_ops.reduce_mean(structure, [-3, -2])


# ---------------------------------------------------------------- boxes


@primitive("host", effect="random", type="SampleDistortedBoundingBoxV2", same=("image_size",), dtypes=types.INTEGER,
           input_dtypes={"bounding_boxes": (types.float32,), "key": (types.uint32,)}, no_gradient="a random choice",
           infer=lambda image_size, boxes, key, **_: [Spec(image_size.dtype, (3,)), Spec(image_size.dtype, (3,)), Spec(types.float32, (1, 1,
                                                                                                                                       4))])
def sample_distorted_bounding_box_op(image_size, bounding_boxes, key, *, min_object_covered=0.1, aspect_ratio_range=(0.75, 1.33),
                                     area_range=(0.05, 1.0), max_attempts=100, use_image=False, seed=0, seed2=0):
    """A random block that covers enough of a box: (begin, size, the block as a box in [0, 1])."""


@sample_distorted_bounding_box_op.reference
def _(image_size, boxes, key, run, *, min_object_covered, aspect_ratio_range, area_range, max_attempts, use_image, **_):
    from .ops.random import _generator

    height, width = int(image_size[0]), int(image_size[1])
    boxes = boxes.reshape(-1, 4)
    if not len(boxes):
        if not use_image:
            raise ValueError("No bounding boxes provided as input. One must enable use_image_if_no_bounding_boxes if you wish to not "
                             "provide any.")
        boxes = np.float32([[0, 0, 1, 1]])
    if (boxes < 0).any() or (boxes > 1).any() or (boxes[:, :2] > boxes[:, 2:]).any():
        raise ValueError(f"All bounding box coordinates must be in [0.0, 1.0] and ordered, got {boxes.tolist()}")
    rng = _generator(key, run)
    areas = boxes * np.float32([height, width, height, width])
    top, left, rows, columns = 0, 0, height, width
    for _attempt in range(max_attempts):
        found = _random_block(rng, height, width, rng.uniform(*aspect_ratio_range), area_range)
        if found and _covers(found, areas, min_object_covered):
            top, left, rows, columns = found
            break
    box = np.float32([[[top / height, left / width, (top + rows) / height, (left + columns) / width]]])
    return np.array([top, left, 0]), np.array([rows, columns, int(image_size[2])]), box


def _random_block(rng: np.random.Generator, height: int, width: int, ratio: float, area_range: Any) -> tuple[int, int, int, int] | None:
    """(top, left, height, width) of a block of width / height `ratio` whose share of the picture is in `area_range`, if it fits."""
    least, most = (share * height * width for share in area_range)
    low, high = round(np.sqrt(least / ratio)), min(round(np.sqrt(most / ratio)), height, int((width + 0.5 - 1e-7) / ratio))
    rows = int(rng.integers(low, high + 1)) if low < high else high
    columns = round(rows * ratio)
    if rows * columns < least:
        rows += 1
        columns = round(rows * ratio)
    if rows * columns > most:
        rows -= 1
        columns = round(rows * ratio)
    if not (least <= rows * columns <= most and 0 < rows <= height and 0 < columns <= width):
        return None
    return int(rng.integers(height - rows + 1)), int(rng.integers(width - columns + 1)), rows, columns


def _covers(block: tuple[int, int, int, int], boxes: np.ndarray, share: float) -> bool:
    """Whether the block holds that share of one of the boxes (in pixels)."""
    top, left, rows, columns = block
    for y0, x0, y1, x1 in boxes:
        area = (y1 - y0) * (x1 - x0)
        inside = max(min(y1, top + rows) - max(y0, top), 0) * max(min(x1, left + columns) - max(x0, left), 0)
        if area >= 1 and inside / area >= share:
            return True
    return False


def sample_distorted_bounding_box(image_size: Any, bounding_boxes: Any, seed: int | None = None, seed2: int | None = None,
                                  min_object_covered: float = 0.1, aspect_ratio_range: Any = None, area_range: Any = None,
                                  max_attempts: int | None = None, use_image_if_no_bounding_boxes: bool | None = None,
                                  name: str | None = None) -> tuple[Tensor, Tensor, Tensor]:
    """A random block of a picture for `tf.slice`: (begin, size, the block as a box [1, 1, 4] in [0, 1]).

    It has an aspect ratio (width / height) in `aspect_ratio_range`, an area in `area_range` of the picture's, and holds at
    least `min_object_covered` of one of the boxes [1, number, (y0, x0, y1, x1)]; after `max_attempts` it is the whole picture.
    Unlike TF1's, `size` ends in the number of channels (where TF1 has -1), and blocks come from this package's generator.

    Raises (when run):
        InvalidArgumentError: no boxes unless `use_image_if_no_bounding_boxes`, or boxes outside [0, 1].
    """
    with _scope(name, "sample_distorted_bounding_box"):
        key, seeds = random_ops._keyed(seed or None)
        begin, size, box = sample_distorted_bounding_box_op(
            convert_to_tensor(image_size), convert_to_tensor(bounding_boxes, types.float32), key,
            min_object_covered=float(min_object_covered), aspect_ratio_range=tuple(map(float, aspect_ratio_range or (0.75, 1.33))),
            area_range=tuple(map(float, area_range or (0.05, 1.0))), max_attempts=int(max_attempts or 100),
            use_image=bool(use_image_if_no_bounding_boxes), **seeds)
        return begin, size, box


# ---------------------------------------------------------------- other spaces of colour, edges, several scales


def _recoloured(images: Any, matrix: Any, name: str) -> Tensor:
    with _scope(None, name):
        x = convert_to_tensor(images, name="images")
        _channels(x)
        found = math_ops.reduce_sum(array_ops.expand_dims(x, -1) * convert_to_tensor(np.array(matrix), x.dtype), -2)
        found.set_shape(x.shape[:-1].concatenate(3))
        return found


_YIQ = [[0.299, 0.59590059, 0.2115], [0.587, -0.27455667, -0.52273617], [0.114, -0.32134392, 0.31119955]]
_YUV = [[0.299, -0.14714119, 0.61497538], [0.587, -0.28886916, -0.51496512], [0.114, 0.43601035, -0.10001026]]


def rgb_to_yiq(images: Any) -> Tensor:
    """Brightness and the two colour differences of NTSC, of float pictures."""
    return _recoloured(images, _YIQ, "rgb_to_yiq")


def yiq_to_rgb(images: Any) -> Tensor:
    """The inverse of `rgb_to_yiq`."""
    return _recoloured(images, [[1, 1, 1], [0.95598634, -0.27201283, -1.10674021], [0.6208248, -0.64720424, 1.70423049]], "yiq_to_rgb")


def rgb_to_yuv(images: Any) -> Tensor:
    """Brightness and the two colour differences of PAL, of float pictures."""
    return _recoloured(images, _YUV, "rgb_to_yuv")


def yuv_to_rgb(images: Any) -> Tensor:
    """The inverse of `rgb_to_yuv`."""
    return _recoloured(images, [[1, 1, 1], [0, -0.394642334, 2.03206185], [1.13988303, -0.58062185, 0]], "yuv_to_rgb")


def sobel_edges(image: Any) -> Tensor:
    """Sobel's differences of each channel, vertical and horizontal: [batch, height, width, channels, 2], borders reflected."""
    from . import nn

    with _scope(None, "sobel_edges"):
        x = _picture(image, (4,))
        channels = x.sizes[-1]  # type: ignore[index]
        if isinstance(channels, types.Dim):
            raise ValueError(f"sobel_edges: the number of channels must be known, got shape {x.shape}")
        kernels = np.array([[[-1, -2, -1], [0, 0, 0], [1, 2, 1]], [[-1, 0, 1], [-2, 0, 2], [-1, 0, 1]]], np.float32)
        filters = np.tile(kernels.transpose(1, 2, 0)[:, :, None], [1, 1, channels, 1])
        padded = array_ops.pad(x, [[0, 0], [1, 1], [1, 1], [0, 0]], mode="REFLECT")
        edges = nn.depthwise_conv2d(padded, convert_to_tensor(filters, x.dtype), [1, 1, 1, 1], "VALID")
        return array_ops.reshape(edges, array_ops.concat([array_ops.shape(x), [2]], 0))


def ssim_multiscale(img1: Any, img2: Any, max_val: Any, power_factors: Sequence[float] = (0.0448, 0.2856, 0.3001, 0.2363, 0.1333),
                    filter_size: int = 11, filter_sigma: float = 1.5, k1: float = 0.01, k2: float = 0.03) -> Tensor:
    """The structure part of `ssim` at halved sizes, the whole at the last one, to the powers `power_factors`, multiplied (Wang, 2003)."""
    from . import nn

    with _scope(None, "MS-SSIM"):
        x, y, limit = _pair(img1, img2, max_val)
        single = len(x.sizes) == 3  # type: ignore[arg-type]
        x, y = (array_ops.expand_dims(v, 0) if single else v for v in (x, y))
        parts = []
        for k in range(len(power_factors)):
            if k:
                x, y = (nn.avg_pool(_even(v), [1, 2, 2, 1], [1, 2, 2, 1], "VALID") for v in (x, y))
            whole, structure = _similarity(x, y, limit, filter_size, filter_sigma, k1, k2)
            parts.append(nn.relu(whole if k == len(power_factors) - 1 else structure))
        powers = [math_ops.pow(p, float(f)) for p, f in zip(parts, power_factors)]
        product = powers[0]
        for p in powers[1:]:
            product = product * p
        found = math_ops.reduce_mean(product, -1)
        return array_ops.squeeze(found, [0]) if single else found


def _even(x: Tensor) -> Tensor:
    """Pictures with a last row and column more where their sizes are odd."""
    height, width = _sizes(x)
    return array_ops.pad(x, [[0, 0], [0, height % 2], [0, width % 2], [0, 0]], mode="SYMMETRIC")


def random_crop(value: Any, size: Any, seed: int | None = None, name: str | None = None) -> Tensor:
    """`tf.random_crop`."""
    return random_ops.random_crop(value, size, seed, name)


def extract_image_patches(images: Any, ksizes: Any = None, strides: Any = None, rates: Any = None, padding: Any = None,
                          name: str | None = None, sizes: Any = None) -> Tensor:
    """`tf.extract_image_patches`."""
    from . import nn

    return nn.extract_image_patches(images, ksizes if sizes is None else sizes, strides, rates, padding, name)


def extract_patches(images: Any, sizes: Any, strides: Any, rates: Any, padding: Any, name: str | None = None) -> Tensor:
    """`tf.extract_image_patches`, under its later name."""
    return extract_image_patches(images, sizes, strides, rates, padding, name)
