"""Traced runs: time limits, kernel times, and the Chrome trace that TF1's Timeline wrote.

Fills `RunMetadata.step_stats` from the cycle counts the native runner leaves.  A kernel is one node of the statistics: it has the
name of its last op, and its label tells which ops became it (rank 6).
"""
from __future__ import annotations

import json
import re
import time
from typing import Any

import numpy as np

from .. import proto
from ..runtime import runner

TASK = "/job:localhost/replica:0/task:0/device:"


def label(u: Any) -> str:
    """What a unit does, in a word or two."""
    text = u.emitted.source if u.emitted else u.launch.source if u.launch else ""
    return text.split("\n", 1)[0].lstrip("# ") if text else u.op.type


class Recorder:
    """Collects the times of a run's instructions; handed to an Executable as `timeline`."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.start, self.epoch = time.perf_counter(), time.time()

    def begin(self, plan: Any) -> None:
        self.ticks = np.zeros(len(plan.code) // runner.WORDS * 2, np.int64)
        runner.set_timing(plan.state, self.ticks)
        self.wall = time.perf_counter()
        if hasattr(plan, "watched"):
            plan.watched = []

    def host(self, op: Any, began: float) -> None:
        """An op that the host has run since `began`."""
        self._add([op], op.type, began - self.start, time.perf_counter() - began)

    def end(self, plan: Any) -> None:
        """Turns cycle counts into seconds by the wall time of the whole native run."""
        runner.set_timing(plan.state, None)
        seconds = time.perf_counter() - self.wall
        if hasattr(plan, "watched"):
            self._of_device(plan)
        used = self.ticks[self.ticks > 0]
        if not used.size:
            return
        first, span = int(used.min()), max(int(used.max() - used.min()), 1)
        scale, offset = seconds / span, self.wall - self.start
        for pc, u in plan.unit_at.items():
            begin, end = self.ticks[2 * pc], self.ticks[2 * pc + 1]
            if begin and end and u.launch is None:
                self._add(u.cluster.ops, label(u), offset + (int(begin) - first) * scale, (int(end) - int(begin)) * scale)

    def _of_device(self, plan: Any) -> None:
        """The times of launches and copies, taken on the device."""
        for what, name, began, seconds in plan.watched:
            if isinstance(what, str):
                self.events.append({"ops": [what], "inputs": [], "kind": what, "start": began - self.start, "seconds": seconds()})
            else:
                self._add(what.cluster.ops, label(what), began - self.start, seconds())
            self.events[-1]["device"] = name
        plan.watched = None

    def _add(self, ops: Any, kind: str, start: float, seconds: float) -> None:
        names = [n for op in ops for n in _names(op)]
        inside = set(ops)
        inputs = [_names(t.op)[-1] for op in ops for t in op.inputs if t.op not in inside and t.op.opdef.family != "input"]
        self.events.append({"ops": list(dict.fromkeys(names)), "inputs": list(dict.fromkeys(inputs)), "kind": kind, "start": start,
                            "seconds": seconds})

    def step_stats(self) -> Any:
        """All of it as a StepStats message: the devices that did something, each in the order of time."""
        maker = {n: e["ops"][-1] for e in self.events for n in e["ops"]}
        found = proto.StepStats()
        names = sorted({e.get("device", "CPU:0") for e in self.events} or {"CPU:0"})
        devices = {name: found.dev_stats.add(device=TASK + name) for name in names}
        for e in sorted(self.events, key=lambda e: e["start"]):
            at, last = self.epoch + e["start"], e["ops"][-1]
            inputs = list(dict.fromkeys(maker.get(n, n) for n in e["inputs"]))
            devices[e.get("device", "CPU:0")].node_stats.add(
                node_name=last, all_start_micros=int(at * 1e6), all_start_nanos=int(at * 1e9),
                timeline_label=f"{last} = {e['kind']}({', '.join(inputs)}): {', '.join(e['ops'])}",
                **{f"{field}_micros": max(round(e["seconds"] * 1e6), 1) for field in ("op_end_rel", "all_end_rel")},
                **{f"{field}_nanos": max(round(e["seconds"] * 1e9), 1) for field in ("op_end_rel", "all_end_rel")})
        return found


def _names(op: Any) -> tuple[str, ...]:
    """The ops of the program from which the optimised one was made."""
    return op.origin or (op.name,)


def traced(step: Any, values: list[Any], options: Any, run_metadata: Any) -> list[Any]:
    """Runs an executable with `tf.RunOptions` and fills a `tf.RunMetadata`."""
    limit = getattr(options, "timeout_in_ms", 0) or 0
    if not hasattr(step, "variants"):  # the reference interpreter has no kernels to time
        return step(values)
    trace = getattr(options, "trace_level", 0) and run_metadata is not None
    recorder = Recorder() if trace else None
    results = step(values, limit / 1000 or None, recorder or object())
    if recorder is not None:
        run_metadata.step_stats.CopyFrom(recorder.step_stats())
    return results


# ---------------------------------------------------------------- Chrome's trace


class Timeline:
    """`Timeline(run_metadata.step_stats).generate_chrome_trace_format()`: JSON for chrome://tracing or Perfetto.

    Args:
        step_stats: what a traced run left in its RunMetadata.
        graph: accepted; the names of inputs are in the statistics.
    """

    def __init__(self, step_stats: Any, graph: Any = None):
        self._step_stats, self._graph = step_stats, graph

    def generate_chrome_trace_format(self, show_dataflow: bool = True, show_memory: bool = False) -> str:
        """The trace: one event a kernel, in the lane of its device, with its inputs and the ops in it.

        Args:
            show_dataflow: with arrows from a kernel to those that read what it makes.
            show_memory: accepted; one arena is planned before the run, see `tf.explain`.
        """
        events: list[dict[str, Any]] = []
        nodes: list[dict[str, Any]] = []
        for pid, device in enumerate(self._step_stats.dev_stats):
            events.append({"name": "process_name", "ph": "M", "pid": pid, "args": {"name": f"{device.device} Compute"}})
            nodes += [_slice(n, pid) for n in device.node_stats]
        return json.dumps({"traceEvents": events + nodes + (_arrows(nodes) if show_dataflow else [])}, indent=4)


def _slice(n: Any, pid: int) -> dict[str, Any]:
    match = re.match(r"(.*?) = (.*?)\((.*?)\)(?:: (.*))?$", n.timeline_label)
    kind, inputs, ops = match.group(2, 3, 4) if match else (n.node_name, "", None)
    start, spent = ((n.all_start_nanos / 1000, n.all_end_rel_nanos / 1000) if n.all_end_rel_nanos
                    else (n.all_start_micros, n.all_end_rel_micros))
    args = {"name": n.node_name, "op": kind, **{f"input{i}": name for i, name in enumerate(filter(None, (inputs or "").split(", ")))}}
    return {"name": kind, "cat": "Op", "ph": "X", "pid": pid, "tid": n.thread_id, "ts": start, "dur": spent,
            "args": args | ({"ops": ops.split(", ")} if ops else {})}


def _arrows(nodes: list[dict[str, Any]]) -> list[dict[str, Any]]:
    """From the end of what makes a value to the beginning of what reads it, also on another device."""
    makers = {n["args"]["name"]: n for n in nodes}
    found: list[dict[str, Any]] = []
    for n in nodes:
        for name in [v for k, v in n["args"].items() if k.startswith("input")]:
            if name in makers and makers[name] is not n:
                m = makers[name]
                for ph, node, ts in (("s", m, m["ts"] + m["dur"]), ("t", n, n["ts"])):
                    found.append({"name": name, "cat": "DataFlow", "ph": ph, "pid": node["pid"], "tid": node["tid"], "ts": ts,
                                  "id": len(found) // 2})
    return found
