"""The process of one side: reads commands as JSON lines, answers each with one JSON line.

    {"do": "prepare", "module": ..., "workload": ..., "inputs": FILE, "result": FILE}  ->  {"facts": {...}, "calls": n}
    {"do": "round"}                                                        ->  {"seconds": a call, "faults": a call}

Runs in the peer's interpreter; it imports the peer and NumPy, nothing else. A failure is answered as {"error": text}.
"""
from __future__ import annotations

import gc
import importlib
import itertools
import json
import os
import sys
import time
from typing import Any

import numpy as np

from .workload import SIDES

ROUND_SECONDS = 0.03


def arrays_of(value: Any) -> list[np.ndarray]:
    """A nesting of arrays of any library, flat, as NumPy arrays."""
    if isinstance(value, (list, tuple)):
        return [a for v in value for a in arrays_of(v)]
    if hasattr(value, "detach"):
        value = value.detach()
    return [np.asarray(value)]


def minor_faults() -> int:
    try:
        import resource
    except ImportError:  # Windows
        return 0
    return resource.getrusage(resource.RUSAGE_SELF).ru_minflt


def peak_memory(reset: bool = False) -> int:
    """Largest resident size of this process in bytes; `reset` first forgets what was, so that it is the present size.

    Linux only keeps this apart from the parent's peak in VmHWM, which getrusage's ru_maxrss would inherit.
    """
    try:
        if reset:
            with open("/proc/self/clear_refs", "w") as f:
                f.write("5")
        with open("/proc/self/status") as f:
            return next(int(line.split()[1]) << 10 for line in f if line.startswith("VmHWM"))
    except OSError:
        import resource

        return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss * (1 if sys.platform == "darwin" else 1024)


class Worker:
    def __init__(self, side: str):
        scope: dict[str, Any] = {}
        exec(SIDES[side].load, scope)
        self.side, self.library = side, scope["lib"]

    def prepare(self, module: str, workload: str, inputs: str, result: str, quick: bool) -> dict[str, Any]:
        program = importlib.import_module(module).WORKLOADS[workload].functions[self.side]
        with np.load(inputs) as file:
            arrays = [file[name] for name in file.files]
        made = program(self.library, *arrays)
        self.step, facts = made if isinstance(made, tuple) else (made, {})
        start = time.perf_counter()
        np.savez(result, *arrays_of(facts.pop("check", self.step)()))
        facts["first_call"] = time.perf_counter() - start
        return {"facts": facts, "calls": self._calibrate(quick)}

    def _calibrate(self, quick: bool) -> int:
        """How many calls make a round; also warms up."""
        self.calls, want = 1, ROUND_SECONDS / (10 if quick else 1)
        self.round()
        while (seconds := self.round()["seconds"] * self.calls) < want and self.calls < 10**6:
            self.calls = min(max(self.calls * 2, int(self.calls * want / max(seconds, 1e-9))), 10**6)
        return self.calls

    def round(self) -> dict[str, float]:
        step, n = self.step, self.calls
        gc.collect()
        gc.disable()
        try:
            faults, start = minor_faults(), time.perf_counter()
            for _ in itertools.repeat(None, n):
                step()
            seconds = time.perf_counter() - start
            return {"seconds": seconds / n, "faults": (minor_faults() - faults) / n}
        finally:
            gc.enable()


def main(side: str) -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints must not look like an answer
    worker: Worker | None = None
    for line in sys.stdin:
        command = json.loads(line)
        try:
            worker = worker or Worker(side)
            answer = getattr(worker, command.pop("do"))(**command)
        except Exception as problem:
            text = str(problem).strip().splitlines() or [""]
            answer = {"error": f"{type(problem).__name__}: {text[0]}"[:300]}
        answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
