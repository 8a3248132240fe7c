"""`tf.image` on boxes: which of them to keep, cutting them out, drawing them, glimpses at places.

A box is [y0, x0, y1, x1].  What must look at values (suppression, drawing) runs on the host; cutting is a composition of gathers, so
gradients reach pictures and boxes.
"""
from __future__ import annotations

import heapq
import math
from typing import Any

import numpy as np

from . import array_ops, graph, math_ops, random_ops, types
from .graph import Spec, Tensor
from .ops.array import size_along
from .ops.opdef import convert_to_tensor, needs_rank, primitive

__all__ = ["combined_non_max_suppression", "crop_and_resize", "draw_bounding_boxes", "extract_glimpse", "non_max_suppression",
           "non_max_suppression_overlaps", "non_max_suppression_padded", "non_max_suppression_with_scores"]

_INF = float("-inf")


def _scope(name: str | None, default: str) -> Any:
    return graph.get_default_graph().name_scope(name or default)


# ---------------------------------------------------------------- suppression


def _overlaps(boxes: np.ndarray) -> Any:
    """`f(i, j)`: intersection over union of box i and the boxes j; 0 where one has no area."""
    low, high = np.minimum(boxes[:, :2], boxes[:, 2:]), np.maximum(boxes[:, :2], boxes[:, 2:])
    area = np.prod(high - low, 1)

    def f(i: int, j: Any) -> np.ndarray:
        shared = np.prod(np.maximum(np.minimum(high[i], high[j]) - np.maximum(low[i], low[j]), 0), 1)
        union = area[i] + area[j] - shared
        good = (area[i] > 0) & (area[j] > 0)
        return np.where(good, shared / np.where(good, union, 1), 0)

    return f


def _keep(similarity: Any, scores: np.ndarray, limit: int, threshold: float, least: float, sigma: float) -> tuple[list[int], list[float]]:
    """The best first, each similar to no better one by more than `threshold`; with a `sigma` scores fade by similarity instead."""
    queue = [(-float(s), i, 0) for i, s in enumerate(scores) if s > least]
    heapq.heapify(queue)
    chosen: list[int] = []
    found: list[float] = []
    while queue and len(chosen) < limit:
        negative, i, begin = heapq.heappop(queue)
        score, hard = -negative, False
        later = similarity(i, chosen[begin:]) if begin < len(chosen) else np.zeros(0)
        for value in later[::-1]:
            if value > threshold:
                hard = True
                break
            if sigma > 0:
                score *= math.exp(-0.5 / sigma * value * value)
                if score <= least:
                    break
        if hard:
            continue
        if score == -negative:
            chosen.append(i)
            found.append(score)
        elif score > least:
            heapq.heappush(queue, (-score, i, len(chosen)))
    return chosen, found


def _suppression_spec(boxes: Tensor, scores: Tensor, *_: Any, pad: bool, **__: Any) -> list[Spec]:
    needs_rank(boxes, 2), needs_rank(scores, 1)
    types.merge_shapes(boxes.sizes[:1], scores.sizes)  # type: ignore[index]
    return [Spec(types.int32, (types.UNKNOWN,)), Spec(scores.dtype, (types.UNKNOWN,)), Spec(types.int32, ())]


def _boxes(sigma: float) -> Any:
    return lambda rng: ((rng.uniform(0, 1, (6, 4)).astype("f4"), rng.uniform(0, 1, 6).astype("f4"), np.int32(3), np.float32(0.3),
                         np.float32(0.1), np.float32(sigma)), {})


@primitive("host", type="NonMaxSuppressionV5", same=("boxes", "scores"), dtypes=types.FLOAT, no_gradient="an index",
           samples=[_boxes(0.0), _boxes(0.5)],
           input_dtypes={"max_output_size": (types.int32, types.int64), **dict.fromkeys(("iou_threshold", "score_threshold",
                                                                                       "soft_nms_sigma"), types.FLOAT)},
           output_dtypes=lambda b, s, *_, **__: [types.int32, s.dtype, types.int32], infer=_suppression_spec)
def non_max_suppression_op(boxes, scores, max_output_size, iou_threshold, score_threshold, soft_nms_sigma, *, pad=False, overlaps=False):
    """(indices of the boxes that are kept, their scores, how many), filled up with zeros if `pad`; `overlaps`: they are given, [n, n]."""


@non_max_suppression_op.reference
def _(boxes, scores, max_output_size, iou_threshold, score_threshold, soft_nms_sigma, *, pad, overlaps):
    limit = int(max_output_size)
    if not overlaps and not 0 <= iou_threshold <= 1:
        raise ValueError(f"iou_threshold must be in [0, 1], got {iou_threshold}")
    similarity = (lambda i, j: boxes[i, j]) if overlaps else _overlaps(boxes)
    chosen, found = _keep(similarity, scores, limit, float(iou_threshold), float(score_threshold), float(soft_nms_sigma))
    count = len(chosen)
    if pad:
        chosen, found = chosen + [0] * (limit - count), found + [0.0] * (limit - count)
    return np.array(chosen, np.int32), np.array(found, scores.dtype), np.int32(count)


def _suppressed(boxes: Any, scores: Any, max_output_size: Any, threshold: Any, least: Any, sigma: Any = 0.0, name: str | None = None,
                **attrs: Any) -> list[Tensor]:
    boxes = convert_to_tensor(boxes)
    scores = convert_to_tensor(scores, boxes.dtype)
    for what, value in (("iou_threshold", threshold),) if not attrs.get("overlaps") else ():
        if isinstance(value, (int, float)) and not 0 <= value <= 1:
            raise ValueError(f"{what} must be in [0, 1], got {value}")
    numbers = [convert_to_tensor(v, boxes.dtype if not isinstance(v, Tensor) else None) for v in (threshold, least, sigma)]
    size = convert_to_tensor(max_output_size, types.int32) if not isinstance(max_output_size, Tensor) else max_output_size
    return non_max_suppression_op(boxes, scores, size, *numbers, name=name, **attrs)


def non_max_suppression(boxes: Any, scores: Any, max_output_size: Any, iou_threshold: Any = 0.5, score_threshold: Any = _INF,
                        name: str | None = None) -> Tensor:
    """Indices [m] of at most `max_output_size` boxes [n, (y0, x0, y1, x1)], best first by `scores` [n].

    A box is left out when its intersection over union with a better one exceeds `iou_threshold`, or its score is not above
    `score_threshold`.  Raises ValueError for a threshold outside [0, 1].
    """
    return _suppressed(boxes, scores, max_output_size, iou_threshold, score_threshold, name=name or "non_max_suppression")[0]


def non_max_suppression_with_scores(boxes: Any, scores: Any, max_output_size: Any, iou_threshold: Any = 0.5, score_threshold: Any = _INF,
                                    soft_nms_sigma: Any = 0.0, name: str | None = None) -> tuple[Tensor, Tensor]:
    """`non_max_suppression` and the scores of the boxes.

    Args:
        soft_nms_sigma: above 0, each score is multiplied by exp(-iou^2 / (2 sigma)) for each better box that is kept (Bodla et al., 2017).
    """
    found = _suppressed(boxes, scores, max_output_size, iou_threshold, score_threshold, soft_nms_sigma, name or
                        "non_max_suppression_with_scores")
    return found[0], found[1]


def non_max_suppression_padded(boxes: Any, scores: Any, max_output_size: Any, iou_threshold: Any = 0.5, score_threshold: Any = _INF,
                               pad_to_max_output_size: bool = False, name: str | None = None) -> tuple[Tensor, Tensor]:
    """(indices, how many of them count): `non_max_suppression`, filled up with zeros to `max_output_size` if wanted."""
    found = _suppressed(boxes, scores, max_output_size, iou_threshold, score_threshold, name=name or "non_max_suppression_padded",
                        pad=bool(pad_to_max_output_size))
    if pad_to_max_output_size and isinstance(max_output_size, int):
        found[0].set_shape([max_output_size])
    return found[0], found[2]


def non_max_suppression_overlaps(overlaps: Any, scores: Any, max_output_size: Any, overlap_threshold: Any = 0.5,
                                 score_threshold: Any = _INF, name: str | None = None) -> Tensor:
    """`non_max_suppression` by a matrix of overlaps [n, n], whatever these are."""
    return _suppressed(overlaps, scores, max_output_size, overlap_threshold, score_threshold, name=name or "non_max_suppression_overlaps",
                       overlaps=True)[0]


def _combined_sample(rng: np.random.Generator) -> Any:
    numbers = np.int32(2), np.int32(3), np.float32(0.4), np.float32(0.2)
    return (rng.uniform(0, 1, (2, 5, 1, 4)).astype("f4"), rng.uniform(0, 1, (2, 5, 3)).astype("f4"), *numbers), {}


@primitive("host", type="CombinedNonMaxSuppression", same=("boxes", "scores"), dtypes=types.FLOAT, no_gradient="a choice",
           samples=[_combined_sample],
           input_dtypes={**dict.fromkeys(("per_class", "total"), (types.int32,)), **dict.fromkeys(("iou", "least"), types.FLOAT)},
           output_dtypes=lambda b, *_, **__: [b.dtype, b.dtype, b.dtype, types.int32])
def combined_non_max_suppression_op(boxes, scores, per_class, total, iou, least, *, pad_per_class=False, clip_boxes=True):
    """The best boxes of all classes of each picture: boxes, scores, classes, how many."""


@combined_non_max_suppression_op.infers
def _(boxes, scores, *_, **__):
    batch = needs_rank(boxes, 4)[0]
    needs_rank(scores, 3)
    return [Spec(boxes.dtype, (batch, types.UNKNOWN, 4)), Spec(boxes.dtype, (batch, types.UNKNOWN)),
            Spec(boxes.dtype, (batch, types.UNKNOWN)), Spec(types.int32, (batch,))]


@combined_non_max_suppression_op.reference
def _(boxes, scores, per_class, total, iou, least, *, pad_per_class, clip_boxes):
    batch, _, groups, _ = boxes.shape
    classes, limit = scores.shape[2], int(total)
    if groups not in (1, classes):
        raise ValueError(f"third dimension of boxes must be either 1 or equal to the third dimension of scores, got {groups} and {classes}")
    size = min(limit, int(per_class) * classes) if pad_per_class else limit
    out = np.zeros((batch, size, 4), boxes.dtype), np.zeros((batch, size), boxes.dtype), np.zeros((batch, size), boxes.dtype)
    counts = np.zeros(batch, np.int32)
    for b in range(batch):
        found = []
        for c in range(classes):
            own = boxes[b, :, c if groups > 1 else 0]
            chosen, values = _keep(_overlaps(own), scores[b, :, c], int(per_class), float(iou), float(least), 0.0)
            found += [(-v, c, k, own[i]) for k, (i, v) in enumerate(zip(chosen, values))]
        found.sort(key=lambda f: f[:3])
        counts[b] = min(len(found), size)
        for k, (v, c, _, box) in enumerate(found[:size]):
            out[0][b, k], out[1][b, k], out[2][b, k] = np.clip(box, 0, 1) if clip_boxes else box, -v, c
    return (*out, counts)


def combined_non_max_suppression(boxes: Any, scores: Any, max_output_size_per_class: Any, max_total_size: Any, iou_threshold: Any = 0.5,
                                 score_threshold: Any = _INF, pad_per_class: bool = False, clip_boxes: bool = True,
                                 name: str | None = None) -> tuple[Tensor, Tensor, Tensor, Tensor]:
    """`non_max_suppression` of each class of each picture, and the best of what is left over all classes.

    Args:
        boxes: [batch, n, q, 4], q being 1 or the number of classes.  scores: [batch, n, classes].
        pad_per_class: results have min(max_total_size, max_output_size_per_class * classes) rows, else max_total_size.
        clip_boxes: cut boxes off at [0, 1].

    Returns:
        (boxes [batch, rows, 4], scores [batch, rows], classes [batch, rows], how many count [batch]); the rest is zero.
    """
    with _scope(name, "combined_non_max_suppression") as scope:
        b = convert_to_tensor(boxes, preferred_dtype=types.float32)
        counts = [convert_to_tensor(n, types.int32) for n in (max_output_size_per_class, max_total_size)]
        numbers = [convert_to_tensor(v, b.dtype) for v in (iou_threshold, score_threshold)]
        found = combined_non_max_suppression_op(b, convert_to_tensor(scores, b.dtype), *counts, *numbers, pad_per_class=bool(pad_per_class),
                                                clip_boxes=bool(clip_boxes), name=scope)
        return tuple(found)


# ---------------------------------------------------------------- cutting boxes out


def crop_and_resize(image: Any, boxes: Any, box_ind: Any = None, crop_size: Any = None, method: str = "bilinear",
                    extrapolation_value: float = 0, name: str | None = None, box_indices: Any = None) -> Tensor:
    """The contents of boxes of pictures, each resized to `crop_size`: float32 [boxes, height, width, channels].

    Args:
        image: [batch, height, width, channels].
        boxes: float32 [n, (y0, x0, y1, x1)] in [0, 1]; they may be turned round (a flip) or reach out of the picture.
        box_ind (or box_indices): int32 [n], the picture of each.
        crop_size: two sizes.
        method: "bilinear" or "nearest"; pixel centres of a box's borders lie on its borders.
        extrapolation_value: for what lies outside.

    Raises:
        ValueError: another method, shapes that do not fit.  InvalidArgumentError (when run): a picture that is not there.
    """
    if method not in ("bilinear", "nearest"):
        raise ValueError(f"method must be 'bilinear' or 'nearest', got {method!r}")
    with _scope(name, "CropAndResize") as scope:
        x = math_ops.cast(convert_to_tensor(image), types.float32)
        b = convert_to_tensor(boxes, types.float32)
        which = convert_to_tensor(box_ind if box_ind is not None else box_indices, types.int32)
        needs_rank(x, 4), needs_rank(b, 2), needs_rank(which, 1)
        if types.same(b.sizes[1], 4) is False:  # type: ignore[index]
            raise ValueError(f"boxes must be [n, 4], got shape {b.shape}")
        types.merge_shapes(b.sizes[:1], which.sizes)  # type: ignore[index]
        size = array_ops._static_ints(crop_size, "crop_size")
        if len(size) != 2 or min(size) < 1:
            raise ValueError(f"crop_size must be two positive sizes, got {crop_size!r}")
        rows, columns = (_samples(b[:, k], b[:, k + 2], size_along(x, k + 1), size[k]) for k in range(2))
        inside = math_ops.logical_and(array_ops.expand_dims(rows[1], 2), array_ops.expand_dims(columns[1], 1))
        # Rows first, then columns: the same product of weights with two gathers less.
        batch = array_ops.reshape(which, [-1, 1])
        lines = _blend(rows, method, lambda i: array_ops.gather_nd(x, array_ops.stack([batch + array_ops.zeros_like(i), i], 2)), 3)
        pictures = _blend(columns, method, lambda i: array_ops.gather(lines, array_ops.broadcast_to(array_ops.expand_dims(
            i, 1), array_ops.stack([array_ops.shape(i)[0], size[0], size[1]])), axis=2, batch_dims=2), 3, at=1)
        found = array_ops.where_v2(array_ops.expand_dims(inside, 3), pictures, float(extrapolation_value), name=scope)
        found.set_shape([b.shape[0].value, *size, x.shape[3].value])
        return found


def _samples(low: Tensor, high: Tensor, size: Any, count: int) -> tuple[Tensor, Tensor, Tensor]:
    """Where the pixels of boxes fall along an axis [n, count]: positions, whether inside, and the axis' last position."""
    last = math_ops.cast(size, types.float32) - 1.0
    low, high = array_ops.expand_dims(low, 1), array_ops.expand_dims(high, 1)
    if count > 1:
        at = low * last + np.arange(count, dtype=np.float32) * ((high - low) * last / float(count - 1))
    else:
        at = 0.5 * (low + high) * last
    inside = math_ops.logical_and(math_ops.greater_equal(at, 0.0), math_ops.less_equal(at, last))
    return at, inside, last


def _blend(samples: tuple[Tensor, Tensor, Tensor], method: str, take: Any, rank: int, at: int = 0) -> Tensor:
    """The values at positions between pixels; `take(indices)` reads pixels."""
    places, _, last = samples
    bounded = math_ops.maximum(math_ops.minimum(places, last), 0.0)
    if method == "nearest":
        return take(math_ops.cast(math_ops.floor(bounded + 0.5), types.int32))
    low, high = math_ops.floor(bounded), math_ops.ceil(bounded)
    share = places - low
    share = array_ops.reshape(share, [*[size_along(share, 0)], *([1] * at), size_along(share, 1), *([1] * (2 - at))])
    first, second = take(math_ops.cast(low, types.int32)), take(math_ops.cast(high, types.int32))
    return first + (second - first) * share


# ---------------------------------------------------------------- drawing


_PALETTE = np.array([[1, 1, 0, 1], [0, 0, 1, 1], [1, 0, 0, 1], [0, 1, 0, 1], [0.5, 0, 0.5, 1], [0.5, 0.5, 0, 1], [0.5, 0, 0, 1],
                     [0, 0, 0.5, 1], [0, 1, 1, 1], [1, 0, 1, 1]], np.float32)


@primitive("host", type="DrawBoundingBoxesV2", same=("images",), dtypes=(types.float16, types.float32), no_gradient="it draws",
           input_dtypes={"boxes": (types.float32,), "colors": (types.float32,)}, infer=lambda images, *_: Spec(
               images.dtype, needs_rank(images, 4)),
           samples=[lambda rng: ((rng.uniform(0, 1, (2, 6, 7, 3)).astype("f4"), np.array([[[0.1, 0.2, 0.7, 0.8]], [[0, 0, 1, 1.2]]], "f4"),
                                 np.zeros((0, 4), "f4")), {})])
def draw_bounding_boxes_op(images, boxes, colors):
    """Pictures with lines, one pixel wide, along the borders of their boxes."""


@draw_bounding_boxes_op.reference
def _(images, boxes, colors):
    out = images.copy()
    _, height, width, depth = images.shape
    palette = colors if len(colors) else _PALETTE.copy()
    if depth == 1 and not len(colors):
        palette[:, 0] = 1.0
    if len(boxes) != len(images) or boxes.shape[2] != 4:
        raise ValueError(f"boxes must be [{len(images)}, n, 4], got {list(boxes.shape)}")
    scale = np.float32([height - 1, width - 1, height - 1, width - 1])
    for picture, own in zip(out, boxes):
        for k, box in enumerate(own):
            color = palette[k % len(palette)][:depth].astype(images.dtype)
            top, left, bottom, right = (box * scale).astype(np.int64)
            if top > bottom or left > right or top >= height or bottom < 0 or left >= width or right < 0:
                continue
            rows, columns = slice(max(top, 0), min(bottom, height - 1) + 1), slice(max(left, 0), min(right, width - 1) + 1)
            if top >= 0:
                picture[top, columns] = color
            if bottom < height:
                picture[bottom, columns] = color
            if left >= 0:
                picture[rows, left] = color
            if right < width:
                picture[rows, right] = color
    return out


def draw_bounding_boxes(images: Any, boxes: Any, name: str | None = None, colors: Any = None) -> Tensor:
    """Pictures [batch, height, width, channels] with the borders of `boxes` [batch, n, (y0, x0, y1, x1)] in [0, 1] drawn on them.

    Args:
        images: float32 or float16, of 1, 3 or 4 channels.
        colors: float32 [m, 4], taken in turn; ten colours by default.
    """
    table = np.zeros((0, 4), np.float32) if colors is None else colors
    return draw_bounding_boxes_op(convert_to_tensor(images, preferred_dtype=types.float32), convert_to_tensor(boxes, types.float32),
                                  convert_to_tensor(table, types.float32), name=name or "draw_bounding_boxes")


# ---------------------------------------------------------------- glimpses


def extract_glimpse(input: Any, size: Any, offsets: Any, centered: bool = True, normalized: bool = True, uniform_noise: bool = True,
                    name: str | None = None) -> Tensor:
    """Windows of `size` at `offsets` of pictures; what lies outside is noise.

    Args:
        input: float32 [batch, height, width, channels].
        size: int32 [2], height and width of a window.
        offsets: float32 [batch, (y, x)] of the windows' centres.
        centered: offsets count from the picture's centre; otherwise from its upper left corner.
        normalized: offsets are in [-1, 1] (or [0, 1]) of the picture's sides; otherwise in pixels.
        uniform_noise: noise is uniform in [0, 1), otherwise normal.
    """
    with _scope(name, "ExtractGlimpse") as scope:
        x = convert_to_tensor(input, types.float32)
        at = convert_to_tensor(offsets, types.float32)
        needs_rank(x, 4), needs_rank(at, 2)
        sizes = array_ops._static_ints(size, "size")
        if len(sizes) != 2 or min(sizes) < 1:
            raise ValueError(f"size must be two positive sizes, got {size!r}")
        places, inside = [], []
        for k, window in enumerate(sizes):
            length = size_along(x, k + 1)
            whole = math_ops.cast(length, types.float32)
            start = at[:, k]
            start = start * whole if normalized else start
            start = (start / 2.0 + whole / 2.0 if centered else start) - window / 2.0
            place = array_ops.expand_dims(math_ops.cast(start, types.int32), 1) + np.arange(window, dtype=np.int32)
            inside.append(math_ops.logical_and(math_ops.greater_equal(place, 0), math_ops.less(place, length)))
            places.append(math_ops.maximum(math_ops.minimum(place, length - 1), 0))
        rows = array_ops.gather(x, places[0], axis=1, batch_dims=1)
        columns = array_ops.broadcast_to(array_ops.expand_dims(places[1], 1), array_ops.stack([array_ops.shape(x)[0], *sizes]))
        found = array_ops.gather(rows, columns, axis=2, batch_dims=2)
        there = math_ops.logical_and(array_ops.expand_dims(inside[0], 2), array_ops.expand_dims(inside[1], 1))
        shape = array_ops.shape(found)
        noise = random_ops.random_uniform(shape) if uniform_noise else random_ops.random_normal(shape)
        found = array_ops.where_v2(array_ops.expand_dims(there, 3), found, noise, name=scope)
        found.set_shape([x.shape[0].value, *sizes, x.shape[3].value])
        return found
