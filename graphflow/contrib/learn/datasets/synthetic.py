"""Points in the plane in circles or spirals, from NumPy's global random stream."""
from __future__ import annotations

from typing import Any, Callable

import numpy as np

from .base import Dataset


def _shuffled(points: Any, classes: Any, noise: float | None) -> Dataset:
    order = np.random.permutation(len(classes))  # noqa: NPY002 (TF1 draws from the global stream)
    if noise is not None:
        points = points + np.random.normal(scale=noise, size=points.shape)  # noqa: NPY002
    return Dataset(points[order], classes[order])


def circles(n_samples: int = 100, noise: float | None = None, seed: int | None = None, factor: float = 0.8, n_classes: int = 2,
            *args: Any, **kwargs: Any) -> Dataset:
    """Concentric circles, each `factor` times the one around it: data [n_samples, 2], target [n_samples] of the circle's number.

    What `n_samples` leaves after division by `n_classes` joins class 0.
    """
    if seed is not None:
        np.random.seed(seed)  # noqa: NPY002
    each, rest = divmod(n_samples, n_classes)
    angles = np.linspace(0, 2 * np.pi, each)
    radii = np.repeat(factor ** np.arange(n_classes), each)
    more = [np.random.rand(rest) * 2 * np.pi for _ in range(2)]  # noqa: NPY002
    x = np.append(radii * np.tile(np.cos(angles), n_classes), np.cos(more[0]))
    y = np.append(radii * np.tile(np.sin(angles), n_classes), np.sin(more[1]))
    classes = np.append(np.repeat(np.arange(n_classes), each), np.zeros(rest)).astype(np.int32)
    return _shuffled(np.stack([x, y], 1), classes, noise)


# Radius at an angle.
_RADIUS: dict[str, Callable[..., Any]] = {
    "archimedes": lambda angle, **_: angle,
    "bernoulli": lambda angle, exp_scale=0.1, **_: np.exp(exp_scale * angle),
    "fermat": lambda angle, **_: np.sqrt(angle),
}


def spirals(n_samples: int = 100, noise: float | None = None, seed: int | None = None, mode: str = "archimedes", n_loops: int = 2,
            *args: Any, **kwargs: Any) -> Dataset:
    """Two spirals, half a turn apart, each axis scaled to [-1, 1]: data [n_samples, 2], target [n_samples] of 0 and 1.

    Raises:
        ValueError: `mode` is none of "archimedes", "bernoulli", "fermat".
    """
    if mode not in _RADIUS:
        raise ValueError(f"Cannot generate spiral with mode {mode}; expected one of {sorted(_RADIUS)}")
    if seed is not None:
        np.random.seed(seed)  # noqa: NPY002
    each, rest = divmod(n_samples, 2)

    def arm(angle: Any, turned: float) -> Any:
        radius = _RADIUS[mode](angle, **kwargs)
        points = np.stack([radius * np.cos(angle + turned), radius * np.sin(angle + turned)], 1)
        return points / np.abs(points).max(0)

    along = np.linspace(0, 2 * n_loops * np.pi, each)
    parts = [arm(along, 0.0), arm(along, np.pi)]
    if rest:
        parts.append(arm(np.random.rand(rest) * 2 * np.pi, 0.0))  # noqa: NPY002
    classes = np.append(np.repeat([0, 1], each), np.zeros(rest)).astype(np.int32)
    return _shuffled(np.concatenate(parts), classes, noise)
