"""`python -m benchmarks.profile WORKLOAD`: where GraphFlow's time goes in one workload, kernel by kernel.

    python -m benchmarks.profile lenet                    # text in a workload's name
    python -m benchmarks.profile resnet20 --threads 2 --top 40 --source

Each line: best microseconds of several traced runs, share of the sum, GFLOP/s, GB/s (each operand once), the kernel and its ops.
The last line compares their sum with an untraced step: the rest is feeds, fetches and the way from Python and back.
"""
from __future__ import annotations

import argparse
import importlib
import os
import re
import time

import numpy as np


def arguments(argv=None):
    p = argparse.ArgumentParser(prog="python -m benchmarks.profile", description=__doc__.split("\n")[0])
    p.add_argument("workload", help="a part of the name of a steady workload")
    p.add_argument("--threads", type=int, default=1)
    p.add_argument("--repeats", type=int, default=20, help="traced runs")
    p.add_argument("--top", type=int, default=25, help="lines to print")
    p.add_argument("--source", action="store_true", help="also the text of the slowest kernel")
    p.add_argument("--order", choices=("time", "run"), default="time", help="slowest first, or in the order they run")
    p.add_argument("--quick", action="store_true", help="tiny sizes")
    return p.parse_args(argv)


def find(text):
    """The first steady workload of GraphFlow with this text in its name."""
    from .__main__ import GROUPS
    from .workload import Steady

    for group in GROUPS:
        for w in importlib.import_module(f"benchmarks.{group}").WORKLOADS.values():
            if isinstance(w, Steady) and "graphflow" in w.functions and text.lower() in w.name.lower():
                return w
    raise SystemExit(f"no workload has {text!r} in its name")


class Seen:
    """Stands for `Session.make_callable` while a workload is made, and keeps what it was asked for last."""

    def __init__(self, tf):
        self.tf, self.real, self.calls = tf, tf.Session.make_callable, []

    def __enter__(self):
        def make_callable(session, fetches, feed_list=None, **options):
            made = self.real(session, fetches, feed_list, **options)

            def call(*values):
                self.calls.append((session, fetches, dict(zip(feed_list or (), values))))
                return made(*values)
            return call
        self.tf.Session.make_callable = make_callable
        return self

    def __exit__(self, *_):
        self.tf.Session.make_callable = self.real


def main(argv=None):
    args = arguments(argv)
    os.environ.setdefault("GRAPHFLOW_THREADS", str(args.threads))
    os.environ.setdefault("GRAPHFLOW_EARLY", "0")
    import graphflow as tf

    from .harness import pinned

    w = find(args.workload)
    with pinned(args.threads), Seen(tf) as seen:
        made = w.functions["graphflow"](tf, *(np.asarray(a) for a in w.make_inputs(args.quick)))
        step = made[0] if isinstance(made, tuple) else made
        start = time.perf_counter()
        step()
        first = time.perf_counter() - start
        session, fetches, feeds = seen.calls[-1]
        whole = min(timed(step) for _ in range(args.repeats))
        runs = [traced(tf, session, fetches, feeds) for _ in range(args.repeats)]
    best = [min((run[i] for run in runs), key=lambda e: e["duration_us"]) for i in range(len(runs[0]))]
    known = {(k.name, tuple(k.ops)): k for k in tf.explain(fetches, feeds, session).kernels}
    for e in best:
        e["kind"] = getattr(known.get((e["name"], tuple(e["ops"]))), "kind", e["kind"])
    print(report(w, best, known, args, whole * 1e6, first))
    if args.source:
        slowest = max(best, key=lambda e: e["duration_us"])
        print("\n" + known[slowest["name"], tuple(slowest["ops"])].source)


def timed(step):
    start = time.perf_counter()
    step()
    return time.perf_counter() - start


def traced(tf, session, fetches, feeds):
    about = tf.RunMetadata()
    session.run(fetches, feeds, options=tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE), run_metadata=about)
    return [event(n) for device in about.step_stats.dev_stats for n in device.node_stats]


def event(node):
    """A node of a trace: its label is `name = kind(inputs): op, op, ...`."""
    kind, ops = re.match(r".*? = (.*?)\(.*?\)(?:: (.*))?$", node.timeline_label).groups()
    return {"name": kind, "kind": kind, "ops": (ops or node.node_name).split(", "), "duration_us": node.all_end_rel_nanos / 1e3}


def report(w, events, known, args, whole, first):
    total = sum(e["duration_us"] for e in events)
    shown = sorted(events, key=lambda e: -e["duration_us"])[:args.top] if args.order == "time" else events[:args.top]
    lines = [f"{w.name}   [{args.threads} thread{'s' * (args.threads > 1)}], {len(events)} kernels, first step {first:.2f} s", "",
             f"{'us':>9} {'share':>6} {'GFLOP/s':>8} {'GB/s':>6}  kernel and ops"]
    for e in shown:
        us, k = e["duration_us"], known.get((e["name"], tuple(e["ops"])))
        rates = f"{k.flops / us / 1e3:8.1f} {k.bytes / us / 1e3:6.1f}" if k else f"{'?':>8} {'?':>6}"
        names = ", ".join(e["ops"][:5]) + (f" and {len(e['ops']) - 5} more" if len(e["ops"]) > 5 else "")
        lines.append(f"{us:9.1f} {us / total:6.1%} {rates}  {e['kind']} {e['name'][:40]}: {names}")
    sums = {}
    for e in events:
        kind = e["name"] if e["kind"] == "contraction" else e["kind"]
        sums[kind] = sums.get(kind, 0) + e["duration_us"]
    lines += ["", ", ".join(f"{kind} {us / total:.0%}" for kind, us in sorted(sums.items(), key=lambda item: -item[1])),
              f"{total:.1f} us in kernels, {whole:.1f} us a step"]
    return "\n".join(lines)


if __name__ == "__main__":
    main()
