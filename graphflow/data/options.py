"""`tf.data.Options`: kept, merged and otherwise without effect, since the engine has no such switches (rank 9)."""
from __future__ import annotations

from typing import Any


class Options:
    """Options of a dataset.  All are accepted; elements and their order never depend on them.

    Raises:
        AttributeError: an option that TF1 does not have.
    """

    NAMES = ("experimental_autotune", "experimental_deterministic", "experimental_distribute", "experimental_optimization",
             "experimental_slack", "experimental_stats", "experimental_threading", "experimental_stateful_whitelist",
             "experimental_numa_aware", "experimental_filter_fusion", "experimental_hoist_random_uniform",
             "experimental_map_and_batch_fusion", "experimental_map_and_filter_fusion", "experimental_map_fusion",
             "experimental_map_parallelization", "experimental_noop_elimination", "experimental_shuffle_and_repeat_fusion")

    def __init__(self) -> None:
        for name in self.NAMES:
            object.__setattr__(self, name, None)
        object.__setattr__(self, "experimental_threading", ThreadingOptions())
        object.__setattr__(self, "experimental_optimization", OptimizationOptions())
        object.__setattr__(self, "experimental_distribute", DistributeOptions())
        object.__setattr__(self, "experimental_stats", Nested())

    def __setattr__(self, name: str, value: Any) -> None:
        if name not in self.NAMES:
            from .. import errors

            raise AttributeError(f"Cannot set the property {name!r} on Options.{errors.suggest(name, self.NAMES)}")
        object.__setattr__(self, name, value)

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Options) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]

    def merge(self, options: Options) -> Options:
        """Both together.  Raises ValueError where they differ."""
        if not isinstance(options, Options):
            raise TypeError(f"`options` must be a tf.data.Options, got {options!r}")
        found = Options()
        for name in self.NAMES:
            object.__setattr__(found, name, _merged(name, getattr(self, name), getattr(options, name)))
        return found


class Nested:
    """Options of one kind; any attribute may be set."""

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return None

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Nested) and vars(self) == vars(other)

    __hash__ = None  # type: ignore[assignment]


class ThreadingOptions(Nested):
    """Numbers of threads; the engine has those that `num_parallel_calls` asks for."""


class OptimizationOptions(Nested):
    """Rewrites of pipelines; the engine makes those that change nothing."""


class DistributeOptions(Nested):
    """How a dataset is cut for several workers; there is one."""


def _merged(name: str, a: Any, b: Any) -> Any:
    if isinstance(a, Nested) and isinstance(b, Nested):
        found = type(a)()
        for key in {**vars(a), **vars(b)}:
            setattr(found, key, _merged(f"{name}.{key}", getattr(a, key), getattr(b, key)))
        return found
    if a is None or b is None or a == b:
        return b if a is None else a
    raise ValueError(f"Cannot merge incompatible values of option {name}: {a!r} and {b!r}")
