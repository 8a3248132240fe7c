"""Traced runs: time limits, kernel times, and the Chrome trace that TF1's Timeline wrote.

Fills `RunMetadata.step_stats` from the cycle counts the native runner leaves (rank 5).
"""
from __future__ import annotations

import json
import time
from typing import Any

import numpy as np

from ..runtime import runner


class Recorder:
    """Collects the times of a run's instructions; handed to an Executable as `timeline`."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.start = time.perf_counter()

    def begin(self, plan: Any) -> None:
        self.ticks = np.zeros(len(plan.code) // runner.WORDS * 2, np.int64)
        runner.set_timing(plan.state, self.ticks)
        self.wall = time.perf_counter()

    def end(self, plan: Any) -> None:
        """Turns cycle counts into microseconds by the wall time of the whole native run."""
        runner.set_timing(plan.state, None)
        seconds = time.perf_counter() - self.wall
        used = self.ticks[self.ticks > 0]
        if not used.size:
            return
        first, span = int(used.min()), max(int(used.max() - used.min()), 1)
        scale, offset = seconds * 1e6 / span, (self.wall - self.start) * 1e6
        for pc, u in plan.unit_at.items():
            begin, end = self.ticks[2 * pc], self.ticks[2 * pc + 1]
            if begin and end:
                ops = list(dict.fromkeys(n for op in u.cluster.ops for n in (op.origin or (op.name,))))
                name = u.emitted.source.split("\n", 1)[0].lstrip("# ") if u.emitted else u.op.type
                self.events.append({"name": name, "ops": ops, "kind": u.cluster.kind, "start_us": offset + (int(begin) - first) * scale,
                                    "duration_us": max((int(end) - int(begin)) * scale, 0.001)})


def traced(step: Any, values: list[Any], options: Any, run_metadata: Any) -> list[Any]:
    """Runs an executable with `tf.RunOptions` and fills a `tf.RunMetadata`."""
    limit = getattr(options, "timeout_in_ms", 0) or 0
    if not hasattr(step, "variants"):  # the reference interpreter has no kernels to time
        return step(values)
    trace = getattr(options, "trace_level", 0) and run_metadata is not None
    recorder = Recorder() if trace else None
    results = step(values, limit / 1000 or None, recorder or object())
    if recorder is not None:
        run_metadata.step_stats = StepStats(recorder.events)
    return results


class StepStats:
    """The times of one run: `.events`, one dict a kernel with name, ops, start_us, duration_us."""

    def __init__(self, events: list[dict[str, Any]]):
        self.events = events

    def __repr__(self) -> str:
        return "\n".join(f"{e['start_us']:10.1f} us {e['duration_us']:10.1f} us  {e['name']}  {', '.join(e['ops'])}" for e in self.events)


class Timeline:
    """`Timeline(run_metadata.step_stats).generate_chrome_trace_format()`: JSON for chrome://tracing or Perfetto."""

    def __init__(self, step_stats: StepStats, graph: Any = None):
        self.step_stats = step_stats

    def generate_chrome_trace_format(self, show_dataflow: bool = True, show_memory: bool = False) -> str:
        events: list[dict[str, Any]] = [{"name": "process_name", "ph": "M", "pid": 0, "args": {"name": "/device:CPU:0"}}]
        events += [{"name": e["name"], "cat": e["kind"], "ph": "X", "pid": 0, "tid": 0, "ts": e["start_us"], "dur": e["duration_us"],
                    "args": {"ops": e["ops"]}} for e in self.step_stats.events]
        return json.dumps({"traceEvents": events}, indent=1)
