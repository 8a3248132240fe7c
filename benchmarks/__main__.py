"""`python -m benchmarks [GROUP ...]`: measures GraphFlow beside its peers and prints the tables. See benchmarks/README.md."""
from __future__ import annotations

import argparse
import importlib
import json
import os
import sys

from . import report
from .harness import Bench
from .workload import SIDES, Program, Workload

GROUPS = ("small", "chain", "rows", "matmul", "conv", "models", "steps", "loops", "cold", "build", "memory", "data")


def arguments(argv: list[str] | None = None) -> argparse.Namespace:
    p = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    p.add_argument("groups", nargs="*", help=f"any of: {' '.join(GROUPS)}; default: all")
    p.add_argument("--peers", metavar="PYTHON", help="interpreter with the peers; default: $GRAPHFLOW_BENCH_PYTHON, else this one")
    p.add_argument("--sides", nargs="+", choices=SIDES, help="only these sides")
    p.add_argument("--only", metavar="TEXT", help="only workloads with this in their name")
    p.add_argument("--threads", type=int, nargs="+", default=[1, 2], help="thread counts, default: 1 2")
    p.add_argument("--rounds", type=int, default=15, help="rounds of all sides, default: 15")
    p.add_argument("--quick", action="store_true", help="tiny sizes, to see that everything runs; the numbers mean nothing")
    p.add_argument("--json", metavar="FILE", help="also write every round's value")
    p.add_argument("--markdown", metavar="FILE", help="also write the table as Markdown")
    p.add_argument("--plot", metavar="FILE", help="also draw the ratios to the best peer (PNG, SVG; needs matplotlib)")
    args = p.parse_args(argv)
    unknown = set(args.groups) - set(GROUPS)
    if unknown:
        p.error(f"no group {', '.join(sorted(unknown))}; there are: {', '.join(GROUPS)}")
    return args


def counts(workload: Workload, wanted: list[int]) -> list[int]:
    """Thread counts for a workload: its own, or the wanted ones; a process from its start gets the largest alone."""
    allowed = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count() or 1
    possible = sorted({min(n, allowed) for n in workload.threads or wanted})
    return possible[-1:] if isinstance(workload, Program) else possible


def main(argv: list[str] | None = None) -> int:
    """The exit status: 1 when GraphFlow failed, or any side gave a wrong result."""
    args = arguments(argv)
    bench = Bench(args.peers, args.quick, args.rounds, args.sides)
    about = report.machine(bench.versions) | ({"sizes": "QUICK, the numbers mean nothing"} if args.quick else {})
    print("\n".join(f"{k}: {v}" for k, v in about.items()) + "\n", flush=True)
    rows: list[report.Row] = []
    try:
        for group in args.groups or GROUPS:
            for workload in importlib.import_module(f"benchmarks.{group}").WORKLOADS.values():
                if not args.only or args.only.lower() in workload.name.lower():
                    for threads in counts(workload, args.threads):
                        rows.append((workload, bench.measure(workload, threads)))
                        rows += [(d, d.of(rows[-1][1])) for d in workload.derived]
                        print("\n".join(report.long(*row) for row in rows[-1 - len(workload.derived):]) + "\n", flush=True)
    except KeyboardInterrupt:
        print("interrupted; what there is so far:\n")
    finally:
        bench.close()
    table = report.markdown(rows, about)
    print(table)
    if args.markdown:
        with open(args.markdown, "w") as f:
            f.write(table)
    if args.plot:
        print(report.plot(rows, args.plot))
    if args.json:
        with open(args.json, "w") as f:
            json.dump(report.as_json(rows, about), f, indent=1)
    return int(any(bad(side, text) for _, m in rows for side, text in m.problems.items()))


def bad(side: str, problem: str) -> bool:
    return side == "graphflow" or problem.startswith("WRONG")


if __name__ == "__main__":
    sys.exit(main())
