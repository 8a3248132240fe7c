"""The first training step in a fresh process: seconds to build and compile it, from an empty and a warm cache, and the peak memory.

The networks are those of models.py. The seconds begin after the library's import and end with the first loss; the memory is the
high-water mark of the resident size above what the process had after the import, over three steps.
"""
from __future__ import annotations

import time

from . import models
from .worker import arrays_of, peak_memory
from .workload import Derived, Goal, Program, at_most

MOST = {"resnet20": (8.0, 0.3)}  # seconds, cold and warm


def first_step(name, side, lib, inputs):
    base, start = peak_memory(reset=True), time.perf_counter()
    made = models.WORKLOADS[name].functions[side](lib, *inputs)
    step = made[0] if isinstance(made, tuple) else made
    loss = arrays_of(step())[0]
    seconds = time.perf_counter() - start
    for _ in range(2):
        step()
    return {"value": seconds, "result": loss, "memory": peak_memory() - base}


def no_more_memory(m):
    found = [m.ratio(side) for side in ("torch", "jax") if m.ratio(side) is not None]
    return min(found) >= 1 if found else None


LEAN = Goal("at most PyTorch's and JAX's", no_more_memory)


def fresh(steady):
    """Two workloads on a training step: with an empty cache and with a warm one."""
    short = steady.name.split(":")[0]
    goals = [[at_most(s, f"{s} s")] for s in MOST.get(short, ())] or [[], []]
    peak = Derived(f"{short}: peak memory of training steps", "memory", "B", [LEAN])
    for cache, goal, derived in (("empty", goals[0], ()), ("warm", goals[1], (peak,))):
        w = Program(f"{short}: first training step, {cache} cache, without import", cache=cache, most=2, goals=goal, derived=derived,
                    tolerance=steady.tolerance)
        w.inputs(steady.make_inputs)
        w.reference(lambda *inputs: steady.expected(*inputs)[1])
        for side in steady.functions:
            if side != "limit":
                w.functions[side] = program(steady.name, side)


def program(name, side):
    def step(*_):
        """Stands for its text."""
    step.text = ("def step(lib, *inputs):\n    from benchmarks.steps import first_step\n"
                 f"    return first_step({name!r}, {side!r}, lib, inputs)\n")
    return step


for each in list(models.WORKLOADS.values()):
    if "training step" in each.name:
        fresh(each)
