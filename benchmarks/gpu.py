"""`python benchmarks/gpu.py`: GraphFlow on a GPU beside PyTorch, torch.compile, JAX and CuPy, in one table.  See benchmarks/GPU.md.

    python benchmarks/gpu.py                                  # everything
    python benchmarks/gpu.py --only softmax --sides graphflow torch --out table.md
    python benchmarks/gpu.py --quick                          # tiny sizes: does everything run? (the numbers mean nothing)
    python benchmarks/gpu.py --emulated                       # without a GPU: results checked, instructions and sectors counted
    python benchmarks/gpu.py --device cpu --quick             # without a GPU: the programs of the peers, on the CPU
    python benchmarks/gpu.py --list

Exit status: 0; 1 when GraphFlow failed or any side computed something wrong; 2 when there is no GPU.
"""
from __future__ import annotations

import argparse
import json
import os
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
import timeit
from collections.abc import Iterable, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any

if __package__ in (None, ""):  # started as a file: this folder must not hide the standard library's modules
    sys.path[0] = str(Path(__file__).resolve().parent.parent)
    __package__ = "benchmarks"

import numpy as np

from benchmarks.gpu_worker import DEVICE, Worker
from benchmarks.gpu_workloads import PEERS, SIDES, WORKLOADS, GpuWorkload
from benchmarks.harness import NOT_INSTALLED, ROOT, Failed, Process, _flat, _noting, _order, agreed, check, load
from benchmarks.report import quantity
from benchmarks.workload import UNKNOWN, Measured
from graphflow.testing import emulated_gpu

PACKAGES = {"graphflow": "graphflow", "torch": "torch", "torchcompile": "torch", "jax": "jax", "cupy": "cupy", "copy": "graphflow"}
PATIENCE = 600.0  # seconds for one answer

# TFLOP/s by the vendor's data sheets: dense, at boost clock, with float32 accumulation.  float32 outside of tensor cores.
PEAKS = {
    "B300": {"float32": 75, "tf32": 1100, "bfloat16": 2250}, "B200": {"float32": 75, "tf32": 1100, "bfloat16": 2250},
    "GH200": {"float32": 67, "tf32": 494, "bfloat16": 989}, "H200": {"float32": 67, "tf32": 494, "bfloat16": 989},
    "H100 PCIe": {"float32": 51, "tf32": 378, "bfloat16": 756}, "H100 NVL": {"float32": 60, "tf32": 417, "bfloat16": 835},
    "H100": {"float32": 67, "tf32": 494, "bfloat16": 989}, "A100": {"float32": 19.5, "tf32": 156, "bfloat16": 312},
    "L40S": {"float32": 91.6, "tf32": 183, "bfloat16": 362}, "L4": {"float32": 30.3, "tf32": 60, "bfloat16": 121},
    "A10": {"float32": 31.2, "tf32": 62.5, "bfloat16": 125}, "RTX 4090": {"float32": 82.6, "tf32": 82.6, "bfloat16": 165},
    "RTX 3090": {"float32": 35.6, "tf32": 35.6, "bfloat16": 71},
}


def peak(device: str, precision: str) -> float | None:
    """FLOP/s that a device of this name can do at most, None where the table does not say."""
    words = device.replace("-", " ").split()
    names = [name for name in PEAKS if all(word in words for word in name.split())]
    rates = PEAKS[max(names, key=len)] if names else {}
    tera = rates.get("bfloat16" if precision == "float16" else precision)
    return tera and tera * 1e12


def arguments(argv: Sequence[str] | None = None) -> argparse.Namespace:
    p = argparse.ArgumentParser(prog="python benchmarks/gpu.py", description=__doc__.split("\n")[0])
    p.add_argument("--only", metavar="TEXT", nargs="+", help="only workloads with one of these in their name or group")
    p.add_argument("--minutes", type=float, default=float("inf"), help="begin no workload after so many minutes; the table says which")
    p.add_argument("--sides", nargs="+", choices=SIDES, default=list(SIDES), help="only these sides")
    p.add_argument("--quick", action="store_true", help="tiny sizes, to see that everything runs; the numbers mean nothing")
    p.add_argument("--emulated", action="store_true", help="GraphFlow on the emulated GPU: results and counters, no times")
    p.add_argument("--device", choices=("gpu", "cpu", "emulated"), default="gpu",
                   help="to try the command where there is no GPU: all programs on the CPU, or GraphFlow's on the emulated GPU")
    p.add_argument("--peers", metavar="PYTHON", help="interpreter with the peers; default: $GRAPHFLOW_BENCH_PYTHON, else this one")
    p.add_argument("--rounds", type=int, default=9, help="rounds of all sides in turn, default: 9")
    p.add_argument("--out", metavar="FILE", help="also write the table as Markdown")
    p.add_argument("--json", metavar="FILE", help="also write every round's value")
    p.add_argument("--list", action="store_true", help="names of the workloads")
    return p.parse_args(argv)


def chosen(only: Sequence[str] | None) -> list[GpuWorkload]:
    found = [w for w in WORKLOADS.values() if not only or any(text.lower() in f"{w.group} {w.name}".lower() for text in only)]
    if not found:
        raise SystemExit(f"no workload has {' or '.join(only or ())!r} in its name; --list shows them")
    return found


# ---------------------------------------------------------------- measuring


class Bench:
    """The processes of the sides, which stay for all workloads, and how to measure."""

    def __init__(self, args: argparse.Namespace):
        self.peers = args.peers or os.environ.get("GRAPHFLOW_BENCH_PYTHON") or sys.executable
        self.quick, self.rounds, self.target, self.sides = args.quick, 2 if args.quick else args.rounds, args.device, list(args.sides)
        self.scratch = Path(tempfile.mkdtemp(prefix="graphflow-bench-"))
        self.workers: dict[str, Process] = {}
        self.absent: dict[str, str] = {}
        self.versions: dict[str, str] = {}
        for side in [s for s in (*SIDES, "copy") if s in self.sides or s == "copy"]:
            try:
                self.versions[side] = self.worker(side).ask(PATIENCE, do="about")["versions"]
            except Failed as problem:
                missing = str(problem).startswith("ModuleNotFoundError") and PACKAGES[side] in str(problem)
                self.absent[side] = NOT_INSTALLED if missing else str(problem)
                self.drop(side)

    # What `Process` asks for.

    def python(self, side: str) -> str:
        return sys.executable if PACKAGES[side] == "graphflow" else self.peers

    def environment(self, threads: int, cache: Path) -> dict[str, str]:
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        where = str(cache)
        platforms = {"JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": "", "OMP_NUM_THREADS": "1"} if self.target == "cpu" else {}
        return {**os.environ, **platforms, DEVICE: self.target, "PYTHONPATH": str(ROOT), "PYTHONWARNINGS": "ignore",
                "XLA_PYTHON_CLIENT_PREALLOCATE": "false", "TF_CPP_MIN_LOG_LEVEL": "3", "GRAPHFLOW_CACHE_DIR": where,
                "TORCHINDUCTOR_CACHE_DIR": where, "TRITON_CACHE_DIR": where}

    def worker(self, side: str) -> Process:
        if side not in self.workers:
            self.workers[side] = Process(self, side, 0, self.scratch / f"cache-{side}", "benchmarks.gpu_worker")  # type: ignore[arg-type]
        return self.workers[side]

    def drop(self, side: str) -> None:
        if side in self.workers:
            self.workers.pop(side).close()

    def close(self) -> None:
        for side in list(self.workers):
            self.drop(side)
        shutil.rmtree(self.scratch, ignore_errors=True)

    # One workload.

    def measure(self, w: GpuWorkload) -> Measured:
        """Checks all sides against NumPy on small inputs and against each other on the full ones, then times them in turn."""
        m = Measured(w.name, 0, {}, {}, {}, self.quick, (0.0, 0.0))
        for side in [s for s in SIDES if s in w.functions and s in self.sides and s in self.absent]:
            m.problems[side] = NOT_INSTALLED  # or worse: what is said of the side at the top
        m = self.prepared(w, m, True)
        if not self.quick:
            m = self.prepared(w, m, False)
        for number in range(self.rounds):
            for side in _order(self.able(w, m), number):
                with self.noting(m, side):
                    answer = self.worker(side).ask(PATIENCE, do="round")
                    facts = m.facts.setdefault(side, {})
                    facts["note"] = answer.pop("note")
                    for clock, seconds in answer.items():
                        facts.setdefault(clock, []).append(seconds)
                    used = answer["wall"] if w.kind != "kernel" or answer["device"] is None else answer["device"]
                    m.values.setdefault(side, []).append(used)
        for side in self.workers:
            with self.noting(m, side):
                self.workers[side].ask(PATIENCE, do="end")
        for facts in m.facts.values():
            device, wall = (median(facts.get(k)) for k in ("device", "wall"))
            facts["host"] = wall - device if self.target == "gpu" and device is not None and wall is not None else None
        return m

    def able(self, w: GpuWorkload, m: Measured) -> list[str]:
        """The sides that take part, the yardstick of bandwidth with them where the workload is held to it."""
        sides = [s for s in self.sides if s in w.functions and s not in m.problems]
        moves = bool(m.work[1]) and "copy" not in self.absent and "copy" not in m.problems
        return sides + ["copy"] * moves

    def noting(self, m: Measured, side: str) -> Any:
        return _Noting(self, m, side)

    def prepared(self, w: GpuWorkload, m: Measured, small: bool) -> Measured:
        """Every side's program, made, run and compared: on small inputs with NumPy, on the full ones with the median of the sides."""
        arrays, file = w.make_inputs(small), self.scratch / "inputs.npz"
        m = m._replace(work=w.amount(*arrays))
        np.savez(file, *arrays)
        results: dict[str, list[np.ndarray]] = {}
        for side in self.able(w, m):
            with self.noting(m, side):
                saved = self.scratch / f"{side}.npz"
                answer = self.worker(side).ask(PATIENCE, do="prepare", workload=w.name, inputs=str(file), result=str(saved), quick=small)
                m.facts[side] = answer["facts"]
                if side != "copy":
                    results[side] = load(saved)
        count = max((len(r) for r in results.values()), default=0)
        expected = agreed(said(w, arrays) if small else [np.asarray(UNKNOWN)] * count, list(results.values()))
        for side, got in results.items():
            with self.noting(m, side):
                check(got, expected, w.tolerance)
        file.unlink()
        return m


def said(w: GpuWorkload, inputs: list[np.ndarray]) -> list[np.ndarray]:
    """What NumPy says of a workload; UNKNOWN where it says nothing."""
    results = [np.asarray(a) for a in _flat(w.expected(*inputs))]
    return [np.asarray(a) for a in w.digest(inputs, results)] if w.digest else results


class _Noting:
    """A side that fails is out of this workload; its process, which may have lost the device, ends."""

    def __init__(self, bench: Bench, m: Measured, side: str):
        self.bench, self.m, self.side, self.inner = bench, m, side, _noting(m, side)

    def __enter__(self) -> None:
        self.inner.__enter__()

    def __exit__(self, kind: Any, problem: Any, trace: Any) -> bool | None:
        if kind is not None and issubclass(kind, Failed):
            self.bench.drop(self.side)
        return self.inner.__exit__(kind, problem, trace)


def median(values: Iterable[float | None] | None) -> float | None:
    there = [v for v in values or () if v is not None]
    return statistics.median(there) if there else None


# ---------------------------------------------------------------- the table


def rate(w: GpuWorkload, m: Measured, device: str) -> str:
    """"3900 GB/s, 91% of copy" or "640 TFLOP/s, 65% of 989"."""
    seconds = median(m.facts.get("graphflow", {}).get("device")) or m.median("graphflow")
    if not seconds or not any(m.work):
        return ""
    if m.work[0]:
        most = peak(device, w.precision)
        share = f", {m.work[0] / seconds / most:.0%} of {most / 1e12:g}" if most else ""
        return f"{m.work[0] / seconds / 1e12:.3g} TFLOP/s{share}"
    copied = m.ratio("copy")
    return f"{m.work[1] / seconds / 1e9:.4g} GB/s" + (f", {copied:.0%} of copy" if copied is not None else "")


def verdict(w: GpuWorkload, m: Measured) -> str:
    out = []
    for target in w.targets:
        reached = None if m.quick else target.reached(m)
        out.append(f"{target.text}: " + ("-" if reached is None else "reached" if reached >= 1 else f"short by {1 - reached:.0%}"))
    return "; ".join(out)


def cell(m: Measured, side: str) -> str:
    if side in m.problems:
        return "wrong" if m.problems[side].startswith("WRONG") else "-" if m.problems[side] == NOT_INSTALLED else "failed"
    ratio = m.ratio(side)
    return quantity(m.median(side), "s") + (f" ({ratio:.2f})" if ratio is not None else "")


def row(w: GpuWorkload, m: Measured, device: str) -> list[str]:
    mine = "failed" if "graphflow" in m.problems else quantity(m.median("graphflow"), "s")
    host = m.facts.get("graphflow", {}).get("host")
    if w.kind != "kernel" and host is not None and "graphflow" not in m.problems:
        mine += f", host {quantity(host, 's')}"
    return [w.title, w.precision, mine, rate(w, m, device), *[cell(m, s) for s in PEERS], verdict(w, m)]


HEAD = ["workload", "precision", "GraphFlow", "rate", *[SIDES[s] for s in PEERS], "target"]


def table(rows: list[tuple[GpuWorkload, Measured]], about: dict[str, str], device: str) -> str:
    """Markdown: the machine, the table, what failed."""
    lines = [f"- {k}: {v}" for k, v in about.items()]
    lines += ["", "Times are medians of interleaved rounds: on the device for kernels; of a call that waits for its result for training",
              "steps and tiny graphs. In brackets the peer's time by GraphFlow's: above 1, GraphFlow is faster.", ""]
    for group in dict.fromkeys(w.group for w, _ in rows):
        lines += [f"### {group}", "", "| " + " | ".join(HEAD) + " |", "|" + "---|" * len(HEAD)]
        lines += ["| " + " | ".join(c or " " for c in row(w, m, device)) + " |" for w, m in rows if w.group == group] + [""]
    problems = [f"- {w.name}, {SIDES.get(s, s)}: {text}" for w, m in rows for s, text in m.problems.items() if text != NOT_INSTALLED]
    notes = [f"- {w.name}, {SIDES.get(s, s)}: {facts['note']}" for w, m in rows for s, facts in m.facts.items() if facts.get("note")]
    for head, entries in (("What failed", problems), ("Notes", notes)):
        lines += [f"### {head}", "", *entries, ""] if entries else []
    return "\n".join(lines) + "\n"


def machine(bench: Bench, args: argparse.Namespace) -> tuple[dict[str, str], str, str]:
    """The device, its driver and clocks, the versions of all sides; the device's name, and its PCI bus."""
    about, name, bus = {}, "CPU", ""
    if args.device != "cpu":
        from graphflow.runtime.cuda import driver

        found = driver.current()
        p = found.properties(0)
        name, bus = p.name, p.pci_bus_id
        about["device"] = (f"{p.name}, compute capability {p.capability[0]}.{p.capability[1]}, {p.multiprocessors} multiprocessors, "
                           f"{p.memory / 2**30:.0f} GiB, L2 {p.l2_bytes / 2**20:.0f} MiB, {p.clock / 1e9:.2f} GHz at most, memory "
                           f"{p.bandwidth / 1e9:.0f} GB/s by its clock")
        about["driver"] = f"{found.name}, {nvidia_smi(bus)}"
        about["peaks"] = ", ".join(f"{k} {v:g} TFLOP/s" for k in ("float32", "tf32", "bfloat16")
                                   if (v := (peak(name, k) or 0) / 1e12)) or "not known for this device"
    else:
        about["device"] = "the CPU: the numbers say nothing of a GPU"
    about["host"] = f"{os.cpu_count()} CPUs, Python {sys.version.split()[0]}, NumPy {np.__version__}; threads as each library sets them"
    for side in SIDES:
        if side in bench.sides:
            about[SIDES[side]] = bench.absent.get(side) or bench.versions[side]
    if "copy" in bench.absent:
        about["copy"] = bench.absent["copy"]
    about["sizes"] = "QUICK, the numbers mean nothing" if args.quick else f"full, {args.rounds} rounds"
    return about, name, bus


def nvidia_smi(bus: str) -> str:
    """Driver version, clocks and power limit now of the device on this bus."""
    fields = "driver_version,clocks.sm,clocks.mem,power.limit,persistence_mode"
    try:
        done = subprocess.run(["nvidia-smi", f"--query-gpu={fields}", "--format=csv,noheader", "-i", bus], capture_output=True, text=True,
                              timeout=20, check=True)
    except (OSError, subprocess.SubprocessError):
        return "nvidia-smi does not answer"
    version, sm, memory, power, persistence = (x.strip() for x in done.stdout.strip().split(","))
    return f"{version}, clocks now {sm} and {memory} (memory), power limit {power}, persistence mode {persistence}"


# ---------------------------------------------------------------- without a GPU


def emulated(workloads: list[GpuWorkload]) -> tuple[str, bool]:
    """(a table of what GraphFlow's kernels do on the emulated GPU with small inputs, whether all is right)."""
    lines = ["Emulated: results checked against NumPy, counters of one call by the elements of the largest input. No times.", "",
             "Waits: how often the host waits for the GPU. A sector is 32 bytes; L1 and L2 may save some of those read. Needed: what the",
             "definition reads and writes. Host: a call, were GPU and driver infinitely fast.", "",
             "| workload | launches | waits | instructions of threads | sectors read | sectors written | sectors needed | result |",
             "|" + "---|" * 8]
    good = True
    with tempfile.TemporaryDirectory() as folder:
        for w in workloads:
            with emulated_gpu() as driver:
                line, fine = counted(w, driver, Path(folder))
            lines.append(line)
            good &= fine
            print(line, flush=True)
    return "\n".join(lines) + "\n", good


def counted(w: GpuWorkload, driver: Any, folder: Path) -> tuple[str, bool]:
    worker, inputs = Worker("graphflow", "gpu"), [np.asarray(a) for a in w.make_inputs(True)]
    np.savez(folder / "inputs.npz", *inputs)
    try:
        worker.prepare(w.name, str(folder / "inputs.npz"), str(folder / "result.npz"), True)
        got = load(folder / "result.npz")
        check(got, agreed(said(w, inputs), [got]), w.tolerance)
        assert worker.step is not None
        worker.step()
        before, waits = driver.counters.copy(), driver.calls["synchronize"]
        worker.step()
        c, n = driver.counters - before, max(a.size for a in inputs)
        if not c.launches:
            raise Failed("nothing of it ran on the GPU")
        needed = w.amount(*inputs)[1] / 32 / n
        numbers = [c.launches, driver.calls["synchronize"] - waits, c.thread_instructions / n, c.global_load_sectors / n,
                   c.global_store_sectors / n, needed or np.nan]
        text, fine = "right" + (f", host {quantity(host(worker.step, driver), 's')}" if w.kind == "tiny" else ""), True
    except Exception as problem:  # the table says it, and the exit status
        numbers, text, fine = [], f"{type(problem).__name__}: {str(problem).splitlines()[0] if str(problem) else ''}"[:200], False
    finally:
        worker.end()
    return "| " + " | ".join([w.name, *["-" if v != v else f"{v:.4g}" for v in numbers], *["-"] * (6 - len(numbers)), text]) + " |", fine


def host(step: Any, driver: Any) -> float:
    """Seconds of a call on a GPU, and with a driver, that take no time."""
    driver.launch_graph = driver.synchronize = lambda *args: None
    try:
        return min(timeit.repeat(step, number=200, repeat=10)) / 200
    finally:
        del driver.launch_graph, driver.synchronize


# ---------------------------------------------------------------- the command


def missing() -> str:
    """Why no GPU can be used, "" if one can."""
    from graphflow.runtime.cuda import driver

    try:
        return "" if driver.current().count() else "the driver finds no device"
    except driver.Unavailable as problem:
        return problem.reason


def written(text: str, file: str | None) -> None:
    if file:
        Path(file).write_text(text)


def main(argv: Sequence[str] | None = None) -> int:
    args = arguments(argv)
    workloads = chosen(args.only)
    if args.list:
        print("\n".join(f"{w.group}: {w.name}" for w in workloads))
        return 0
    if args.emulated:
        text, good = emulated(workloads)
        written(text, args.out)
        return int(not good)
    why = missing() if args.device == "gpu" else ""
    if why:
        print(f"No GPU can be used: {why}", "--emulated checks GraphFlow's side without one, --device cpu the peers' programs.", sep="\n",
              file=sys.stderr)
        return 2
    with emulated_gpu() if args.device == "emulated" else nullcontext():
        return measured(args, workloads)


def measured(args: argparse.Namespace, workloads: list[GpuWorkload]) -> int:
    """Measures and prints; the exit status."""
    bench, end = Bench(args), time.monotonic() + 60 * args.minutes
    rows: list[tuple[GpuWorkload, Measured]] = []
    about, device, bus = machine(bench, args)
    print("\n".join(f"{k}: {v}" for k, v in about.items()) + "\n", flush=True)
    try:
        for k, w in enumerate(workloads):
            if time.monotonic() > end:
                about["left out"] = f"after {args.minutes:g} minutes: " + "; ".join(left.name for left in workloads[k:])
                break
            m = bench.measure(w)
            rows.append((w, m))
            failed = [f"    {s}: {p}" for s, p in m.problems.items() if p != NOT_INSTALLED]
            print(" | ".join(row(w, m, device)), *failed, sep="\n", flush=True)
            written(table(rows, about, device), args.out)
    except KeyboardInterrupt:
        print("interrupted; what there is so far:\n")
    finally:
        bench.close()
    if args.device == "gpu":
        about["at the end"] = nvidia_smi(bus)
    if rates := [m.work[1] / c / 1e9 for _, m in rows if (c := m.median("copy"))]:
        about["copy"] = f"{statistics.median(rates):.0f} GB/s read and written, {min(rates):.0f} to {max(rates):.0f} between workloads"
    print("\n" + table(rows, about, device))
    written(table(rows, about, device), args.out)
    written(json.dumps({"machine": about, "measurements": [m._asdict() for _, m in rows]}, indent=1), args.json)
    return int(any(s == "graphflow" or text.startswith("WRONG") for _, m in rows for s, text in m.problems.items()))


if __name__ == "__main__":
    sys.exit(main())
