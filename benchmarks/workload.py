"""What a benchmark is made of: workloads, the sides that can run them, the goals they are held to.

A workload is a named set of small functions that stand next to each other in one file, one for each side:

    softmax = Steady("softmax of rows", goals=[best_of("jax", "torch")])

    @softmax.inputs
    def _(quick): ...                   # -> list of arrays
    @softmax.reference
    def _(x): ...                       # what NumPy says
    @softmax.jax
    def _(jax, x): ...                  # library module, inputs -> a function of no arguments that runs it once

Knows no timing and no process; imports the standard library and NumPy only, because every peer's interpreter reads it.
"""
from __future__ import annotations

import statistics
import sys
from typing import Any, Callable, NamedTuple

US, MS, MIB = 1e-6, 1e-3, float(1 << 20)
UNKNOWN = None  # in a reference: NumPy does not say, the sides have to agree among themselves


class Side(NamedTuple):
    """Who runs a workload: its title, the package it needs, the statement that binds the library to `lib`."""

    title: str
    package: str
    load: str


SIDES = {
    "graphflow": Side("GraphFlow", "graphflow", "import graphflow as lib"),
    "numpy": Side("NumPy", "numpy", "import numpy as lib"),
    "copy": Side("np.copyto", "numpy", "import numpy as lib"),
    "tensorflow": Side("TF Session", "tensorflow", "import tensorflow.compat.v1 as lib; lib.disable_v2_behavior()"),
    "xla": Side("TF + XLA", "tensorflow", "import tensorflow as lib"),
    "jax": Side("JAX", "jax", "import jax as lib; lib.config.update('jax_enable_x64', True)"),
    "torch": Side("PyTorch", "torch", "import torch as lib"),
    "torchcompile": Side("torch.compile", "torch", "import torch as lib"),
    "onnxruntime": Side("ONNX Runtime", "onnxruntime", "from benchmarks import onnx_programs as lib"),
    "pytensor": Side("PyTensor", "pytensor", "import pytensor as lib"),
    "numexpr": Side("numexpr", "numexpr", "import numexpr as lib"),
    "limit": Side("the limit", "llvmlite", "import numpy as lib"),
}
OWN = ("graphflow", "numpy", "copy", "limit")  # run by the interpreter that runs the benchmark
YARDSTICKS = ("copy", "limit")  # no peers: they do not compute what the workload asks for


def _defining_module() -> str:
    frame = sys._getframe(1)
    while frame.f_globals["__name__"] == __name__:
        frame = frame.f_back  # type: ignore[assignment]
    return frame.f_globals["__name__"]


class Workload:
    """A measurement.

    Args:
        name: what is measured; unique in its group.
        goals: what GraphFlow has to reach.
        unit: how values print: "s" or "B".
        tolerance: relative and absolute, for the check against the reference.
        threads: thread counts it is measured with; None takes all allowed.
        aside: facts of a side to print next to its value, by name.
    """

    def __init__(self, name: str, goals: list[Goal] | None = None, unit: str = "s", tolerance: tuple[float, float] = (1e-4, 1e-5),
                 threads: tuple[int, ...] | None = None, aside: tuple[str, ...] = ()):
        self.name, self.goals, self.unit, self.tolerance = name, goals or [], unit, tolerance
        self.threads, self.aside = threads, aside
        self.functions: dict[str, Callable[..., Any]] = {}
        self.amount: Callable[..., tuple[float, float]] = lambda *inputs: (0.0, 0.0)
        self.last: Measured | None = None  # what came of it, most recently
        self.derived: tuple[Derived, ...] = getattr(self, "derived", ())
        self.module = _defining_module()
        sys.modules[self.module].__dict__.setdefault("WORKLOADS", {})[name] = self

    def inputs(self, function: Callable[..., Any]) -> Callable[..., Any]:
        self.make_inputs = function
        return function

    def reference(self, function: Callable[..., Any]) -> Callable[..., Any]:
        self.expected = function
        return function

    def work(self, function: Callable[..., tuple[float, float]]) -> Callable[..., Any]:
        """`@workload.work`: inputs -> (floating-point operations, bytes that must go through memory); adds the side `limit`."""
        def limit(lib: Any, *inputs: Any) -> Any:
            from .limits import side

            return side(*function(*inputs))(lib, *inputs)
        self.amount, self.functions["limit"] = function, limit
        return function

    def __getattr__(self, side: str) -> Callable[..., Any]:
        """`@workload.jax` sets the program of a side."""
        if side not in SIDES:
            raise AttributeError(side)

        def put(function: Callable[..., Any]) -> Callable[..., Any]:
            self.functions[side] = function
            return function
        return put


class Steady(Workload):
    """The time of one call, again and again in a process that stays: rounds of all sides in turn.

    A side's function gets the library and the inputs, and returns a function without arguments, or that and a dict of facts. Its
    entry "check" is a function that gives the results to compare, instead of the first call.
    """


class Program(Workload):
    """One number from each fresh `python -c`: the seconds from the start of the process to the end of the side's function,
    or the "value" of the dict it returns. Other entries of the dict are facts, "result" is compared with the reference.

    Args:
        cache: "empty" gives every process a new cache folder, "warm" one that a first process has filled.
        most: rounds at most; each is a process.
        derived: what else the same processes tell.
    """

    def __init__(self, name: str, cache: str = "warm", most: int = 5, derived: tuple[Derived, ...] = (), **options: Any):
        self.cache, self.most, self.derived = cache, most, derived
        super().__init__(name, **options)


class Derived:
    """A fact of every side of another workload, as a measurement of its own."""

    def __init__(self, name: str, fact: str, unit: str, goals: list[Goal]):
        self.name, self.fact, self.unit, self.goals, self.aside = name, fact, unit, goals, ()

    def of(self, m: Measured) -> Measured:
        values = {s: [facts[self.fact]] for s, facts in m.facts.items() if s in m.values and self.fact in facts}
        return Measured(self.name, m.threads, values, {}, m.problems, m.quick)


# ---------------------------------------------------------------- goals


class Measured(NamedTuple):
    """What came of one workload with one number of threads; lists hold one value a round."""

    workload: str
    threads: int
    values: dict[str, list[float]]
    facts: dict[str, dict[str, Any]]
    problems: dict[str, str]
    quick: bool = False
    work: tuple[float, float] = (0.0, 0.0)  # floating-point operations, bytes

    def median(self, side: str) -> float | None:
        return statistics.median(self.values[side]) if self.values.get(side) else None

    def ratios(self, side: str) -> list[float]:
        """The side's value by GraphFlow's of the same round: above 1, GraphFlow is better."""
        return [b / a for a, b in zip(self.values.get("graphflow", []), self.values.get(side, [])) if a]

    def ratio(self, side: str) -> float | None:
        return statistics.median(self.ratios(side)) if self.ratios(side) else None

    def best(self) -> str | None:
        """The peer that comes nearest to GraphFlow, or beats it by most."""
        peers = [s for s in SIDES if s != "graphflow" and s not in YARDSTICKS and self.ratios(s)]
        return min(peers, key=lambda s: self.ratio(s) or 0, default=None)


class Goal(NamedTuple):
    """A sentence, and whether the measurement holds it (None: cannot be said)."""

    text: str
    test: Callable[[Measured], bool | None]


def at_most(value: float, text: str, threads: int | None = None) -> Goal:
    def test(m: Measured) -> bool | None:
        mine = m.median("graphflow")
        return None if mine is None or threads not in (None, m.threads) else mine <= value
    return Goal(f"at most {text}", test)


def at_most_times(factor: float, other: Workload) -> Goal:
    """GraphFlow's value is at most `factor` times its value in another workload, which must be measured before."""
    def test(m: Measured) -> bool | None:
        mine, less = m.median("graphflow"), other.last and other.last.median("graphflow")
        return mine <= factor * less if mine and less else None
    return Goal(f"at most {factor:g} x the time of: {other.name}", test)


def times_as_fast(factor: float, side: str) -> Goal:
    def test(m: Measured) -> bool | None:
        ratio = m.ratio(side)
        return None if ratio is None else ratio >= factor
    return Goal(f"at least {factor:g} x as fast as {SIDES[side].title}", test)


def within(factor: float, side: str) -> Goal:
    def test(m: Measured) -> bool | None:
        ratio = m.ratio(side)
        return None if ratio is None else 1 / ratio <= factor
    return Goal(f"within {factor:g} x of {SIDES[side].title}", test)


def best_of(*sides: str) -> Goal:
    def test(m: Measured) -> bool | None:
        ratios = [r for r in map(m.ratio, sides) if r is not None]
        return min(ratios) >= 1 if ratios else None
    return Goal("at least as fast as the best of " + ", ".join(SIDES[s].title for s in sides), test)


def _best_peer(m: Measured) -> bool | None:
    peer = m.best()
    return None if peer is None else (m.ratio(peer) or 0) >= 1


BEST = Goal("at least as fast as the best peer", _best_peer)


def of_limit(share: dict[int, float]) -> Goal:
    """At least this share of what the machine can do, by number of threads."""
    def test(m: Measured) -> bool | None:
        ratio = m.ratio("limit")
        return None if ratio is None or m.threads not in share else ratio >= share[m.threads]
    return Goal("at least " + ", ".join(f"{s:.0%} ({n} thread{'s' * (n > 1)})" for n, s in share.items()) + " of the limit", test)


def fact(name: str, most: float, text: str) -> Goal:
    """The fact `name` of GraphFlow's side is at most `most`."""
    def test(m: Measured) -> bool | None:
        value = m.facts.get("graphflow", {}).get(name)
        return None if value is None else value <= most
    return Goal(text, test)
