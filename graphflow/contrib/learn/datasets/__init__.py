"""`tf.contrib.learn.datasets`: small data sets as arrays.  Reads local files; nothing is downloaded."""
from typing import Any, Callable

from . import base, mnist, synthetic
from .base import load_boston, load_iris

DATASETS: dict[str, Callable[..., Any]] = {"iris": load_iris, "boston": load_boston, "mnist": mnist.load_mnist}
SYNTHETIC: dict[str, Callable[..., Any]] = {"circles": synthetic.circles, "spirals": synthetic.spirals}


def load_dataset(name: str, size: str = "small", test_with_fake_data: bool = False) -> Any:
    """The data set `name`, one of `DATASETS`.  Raises ValueError for another name."""
    if name not in DATASETS:
        raise ValueError(f"Name of dataset is not found: {name}; expected one of {sorted(DATASETS)}")
    return DATASETS[name]()


def make_dataset(name: str, n_samples: int = 100, noise: float | None = None, seed: int | None = 42, *args: Any, **kwargs: Any) -> Any:
    """`n_samples` points of the data set `name`, one of `SYNTHETIC`.  Raises ValueError for another name."""
    if name not in SYNTHETIC:
        raise ValueError(f"Synthetic dataset not found or not implemented: {name}; expected one of {sorted(SYNTHETIC)}")
    return SYNTHETIC[name](n_samples, noise, seed, *args, **kwargs)


__all__ = ["DATASETS", "SYNTHETIC", "base", "load_boston", "load_dataset", "load_iris", "make_dataset", "mnist", "synthetic"]
