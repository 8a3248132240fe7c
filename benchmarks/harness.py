"""Runs workloads: one process a side, pinned, checked against NumPy first, then timed in turn, round by round.

The sides of a round follow each other within milliseconds, in an order that alternates, so a busy or slow machine hits all of
them and the ratio of a round stays meaningful. Only one process computes at a time. Knows no workload by name.
"""
from __future__ import annotations

import inspect
import json
import os
import selectors
import shutil
import subprocess
import sys
import tempfile
import textwrap
import time
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any, Iterator

import numpy as np

from .workload import OWN, SIDES, YARDSTICKS, Measured, Program, Workload

ROOT = Path(__file__).resolve().parent.parent
NOT_INSTALLED = "not installed"
PATIENCE = 600.0  # seconds for one answer
PREPARATION = 90.0  # seconds for import, compilation and check of one workload by one side
BUDGET = 30.0  # seconds of all rounds of one Program side, beyond which it gets no further round


class Failed(Exception):
    """A side could not do it; the text says why."""


class Bench:
    """The interpreters, a scratch folder, and how thoroughly to measure."""

    def __init__(self, peers: str | None = None, quick: bool = False, rounds: int = 15, sides: list[str] | None = None):
        self.peers = peers or os.environ.get("GRAPHFLOW_BENCH_PYTHON") or sys.executable
        self.quick, self.rounds = quick, rounds
        self.scratch = Path(tempfile.mkdtemp(prefix="graphflow-bench-"))
        self.versions = {**self._installed(self.peers, [s for s in SIDES if s not in OWN]),
                         **self._installed(sys.executable, list(OWN), own=True)}
        self.sides = list(SIDES) if sides is None else sides

    def close(self) -> None:
        shutil.rmtree(self.scratch, ignore_errors=True)

    def python(self, side: str) -> str:
        return sys.executable if side in OWN else self.peers

    def _installed(self, python: str, sides: list[str], own: bool = False) -> dict[str, str]:
        """Version of the package of each side that this interpreter has; "" where there is none."""
        packages = sorted({SIDES[s].package for s in sides})
        code = ("import json, sys, importlib.util as u, importlib.metadata as m\ndef version(p):\n"
                "    if not u.find_spec(p): return ''\n    try: return m.version(p)\n    except m.PackageNotFoundError: return 'here'\n"
                "print(json.dumps({p: version(p) for p in sys.argv[1:]}))")
        done = subprocess.run([python, "-c", code, *packages], capture_output=True, text=True, cwd=ROOT, check=True,
                              env={**os.environ, "PYTHONPATH": str(ROOT) if own else ""})
        found = json.loads(done.stdout)
        return {s: found[SIDES[s].package] for s in sides}

    # -- one workload

    def measure(self, workload: Workload, threads: int) -> Measured:
        """Prepares, checks and times all sides; what goes wrong with one side is in `problems`."""
        inputs = [np.asarray(a) for a in workload.make_inputs(self.quick)]
        expected = [np.asarray(a) for a in _flat(workload.expected(*inputs))]
        m = Measured(workload.name, threads, {}, {}, {}, self.quick, workload.amount(*inputs))
        file = self.scratch / "inputs.npz"
        np.savez(file, *inputs)
        here = [s for s in SIDES if s in workload.functions and s in self.sides]
        for side in here:
            if not self.versions[side]:
                m.problems[side] = NOT_INSTALLED
        able = [s for s in here if s not in m.problems]
        with pinned(threads):
            if isinstance(workload, Program):
                self._programs(workload, m, able, file, expected)
            else:
                self._steady(workload, m, able, file, expected)
        workload.last = m
        return m

    def _steady(self, workload: Workload, m: Measured, sides: list[str], inputs: Path, expected: list[np.ndarray]) -> None:
        workers: dict[str, Process] = {}
        results: dict[str, list[np.ndarray]] = {}
        try:
            for side in sides:
                with _noting(m, side):
                    workers[side] = Process(self, side, m.threads, self.scratch / f"cache-{side}")
                    result = self.scratch / f"{side}.npz"
                    answer = workers[side].ask(PREPARATION, do="prepare", module=workload.module, workload=workload.name,
                                               inputs=str(inputs), result=str(result), quick=self.quick)
                    results[side], m.facts[side] = load(result), answer["facts"]
            expected = agreed(expected, [r for s, r in results.items() if s not in YARDSTICKS])
            for side, got in results.items():
                with _noting(m, side):
                    if side != "limit":
                        check(got, load(inputs) if side == "copy" else expected, workload.tolerance)
                    m.values[side] = []
            for number in range(self.rounds):
                for side in _order(sides, number):
                    if side not in m.problems:
                        with _noting(m, side):
                            answer = workers[side].ask(do="round")
                            m.values[side].append(answer["seconds"] * m.facts[side].get("scale", 1))
                            m.facts[side].setdefault("faults", []).append(answer["faults"])
        finally:
            for worker in workers.values():
                worker.close()
        for facts in m.facts.values():
            facts["faults"] = float(np.median(facts.get("faults", [0])))

    def _programs(self, workload: Program, m: Measured, sides: list[str], inputs: Path, expected: list[np.ndarray]) -> None:
        spent = dict.fromkeys(sides, 0.0)
        rounds = min(self.rounds, 1 if self.quick else workload.most)
        for number in range(-1 if workload.cache == "warm" else 0, rounds):  # round -1 fills the caches
            for side in _order(sides, number):
                if side in m.problems or spent[side] > BUDGET:
                    continue
                with _noting(m, side), self._cache_folder(workload, side) as cache:
                    start = time.monotonic()
                    value, facts = self._one(workload, side, m.threads, cache, inputs, expected)
                    if number >= 0:
                        m.values.setdefault(side, []).append(value)
                        m.facts[side] = facts
                        spent[side] += time.monotonic() - start

    @contextmanager
    def _cache_folder(self, workload: Program, side: str) -> Iterator[Path]:
        if workload.cache == "warm":
            yield self.scratch / f"warm-{side}"
            return
        folder = Path(tempfile.mkdtemp(dir=self.scratch))
        try:
            yield folder
        finally:
            shutil.rmtree(folder, ignore_errors=True)

    def _one(self, workload: Program, side: str, threads: int, cache: Path, inputs: Path, expected: list[np.ndarray]) -> tuple[float, Any]:
        result = self.scratch / "result.npz"
        result.unlink(missing_ok=True)
        start = time.monotonic()
        try:
            done = subprocess.run([self.python(side), "-c", program_text(workload, side), str(inputs), str(result)], text=True,
                                  capture_output=True, env=self.environment(threads, cache), cwd=self.scratch, timeout=PATIENCE)
        except subprocess.TimeoutExpired:
            raise Failed(f"no end within {PATIENCE:g} s") from None
        if done.returncode:
            lines = [line for line in done.stderr.strip().splitlines() if line.strip() and not line.startswith(" ")]
            raise Failed((lines[-1] if lines else f"exit status {done.returncode}")[:300])
        out = json.loads(done.stdout.strip().splitlines()[-1])
        check(load(result), expected, workload.tolerance)
        value = out.pop("value")
        return (out["end"] - start if value is None else value), out

    def environment(self, threads: int, cache: Path) -> dict[str, str]:
        """Threads and cache folders of every library, set before any of them is imported."""
        cache.mkdir(parents=True, exist_ok=True, mode=0o700)
        n, where = str(threads), str(cache)
        counts = ("OMP_NUM_THREADS", "MKL_NUM_THREADS", "OPENBLAS_NUM_THREADS", "NUMBA_NUM_THREADS", "TF_NUM_INTRAOP_THREADS",
                  "TF_NUM_INTEROP_THREADS", "GRAPHFLOW_THREADS", "GRAPHFLOW_NUM_THREADS", "NUMEXPR_NUM_THREADS", "NUMEXPR_MAX_THREADS")
        own = {k: v for k, v in os.environ.items() if k != "PYTHONDONTWRITEBYTECODE"}  # as installed: compiled files are kept
        return {**own, **dict.fromkeys(counts, n), "PYTHONPATH": str(ROOT),
                "PYTHONWARNINGS": "ignore", "TF_CPP_MIN_LOG_LEVEL": "3", "JAX_PLATFORMS": "cpu", "CUDA_VISIBLE_DEVICES": "",
                "TF_XLA_FLAGS": "--tf_xla_cpu_global_jit",  # for Sessions that ask for XLA; the others are as before
                "XLA_FLAGS": "--xla_cpu_multi_thread_eigen=" + ("false" if threads == 1 else "true"),
                "GRAPHFLOW_EARLY": "0", "GRAPHFLOW_CACHE_DIR": where,
                "NUMBA_CACHE_DIR": where, "PYTENSOR_FLAGS": f"base_compiledir={where}",
                "TORCHINDUCTOR_CACHE_DIR": where, "JAX_COMPILATION_CACHE_DIR": where,
                "JAX_PERSISTENT_CACHE_MIN_COMPILE_TIME_SECS": "0", "JAX_PERSISTENT_CACHE_MIN_ENTRY_SIZE_BYTES": "-1"}


class Process:
    """The worker process of one side."""

    def __init__(self, bench: Bench, side: str, threads: int, cache: Path, module: str = "benchmarks.worker"):
        self.log = tempfile.TemporaryFile("w+")
        self.child = subprocess.Popen([bench.python(side), "-m", module, side], text=True, stdin=subprocess.PIPE,
                                      stdout=subprocess.PIPE, stderr=self.log, env=bench.environment(threads, cache), cwd=ROOT)
        self.ready = selectors.DefaultSelector()
        self.ready.register(self.child.stdout, selectors.EVENT_READ)  # type: ignore[arg-type]

    def ask(self, patience: float = PATIENCE, **command: Any) -> dict[str, Any]:
        """The answer to a command; raises Failed with the worker's own words, or when it died or is silent for too long."""
        try:
            self.child.stdin.write(json.dumps(command) + "\n")  # type: ignore[union-attr]
            self.child.stdin.flush()  # type: ignore[union-attr]
        except OSError:
            raise Failed(self._last_words()) from None
        if not self.ready.select(patience):
            self.child.kill()
            raise Failed(f"not ready within {patience:g} s")
        line = self.child.stdout.readline()  # type: ignore[union-attr]
        if not line:
            raise Failed(self._last_words())
        answer = json.loads(line)
        if "error" in answer:
            raise Failed(answer["error"])
        return answer

    def _last_words(self) -> str:
        status = self.child.wait(10)
        self.log.seek(0)
        lines = self.log.read().strip().splitlines()
        return f"worker ended with status {status}: {lines[-1][:200] if lines else ''}"

    def close(self) -> None:
        self.child.kill()
        self.child.wait()
        with suppress(OSError):  # a command the dead child never read
            self.child.stdin.close()  # type: ignore[union-attr]
        for stream in (self.child.stdout, self.log, self.ready):
            stream.close()  # type: ignore[union-attr]


@contextmanager
def _noting(m: Measured, side: str) -> Iterator[None]:
    """A side that fails is out of the running, and the table says why."""
    try:
        yield
    except Failed as problem:
        m.problems[side] = str(problem)
        m.values.pop(side, None)


def _order(sides: list[str], number: int) -> list[str]:
    return sides if number % 2 == 0 else sides[::-1]


@contextmanager
def pinned(threads: int) -> Iterator[None]:
    """This process, and so the children started inside, on the first `threads` of the allowed CPUs."""
    if not hasattr(os, "sched_setaffinity"):
        yield
        return
    before = os.sched_getaffinity(0)
    os.sched_setaffinity(0, sorted(before)[:threads])
    try:
        yield
    finally:
        os.sched_setaffinity(0, before)


_PROGRAM = """import json, sys, time
start = time.perf_counter()
{load}
load_seconds = time.perf_counter() - start
import numpy
inputs = list(numpy.load(sys.argv[1]).values())
{function}
out = {name}(lib, *inputs)
end = time.monotonic()
out = out if isinstance(out, dict) else dict(result=out)
imported = int("numba" in sys.modules)
from benchmarks.worker import arrays_of
numpy.savez(sys.argv[2], *arrays_of(out.pop("result")))
print(json.dumps(dict(value=None, end=end, numba=imported) | out))
"""


def program_text(workload: Workload, side: str) -> str:
    """What `python -c` gets: the library's import, the side's function without its decorators (or its `text`), and a call."""
    function = workload.functions[side]
    text = getattr(function, "text", None) or textwrap.dedent(inspect.getsource(function))
    lines = text.splitlines()
    start = next(i for i, line in enumerate(lines) if line.startswith("def "))
    return _PROGRAM.format(load=SIDES[side].load, name=function.__name__, function="\n".join(lines[start:]))


# ---------------------------------------------------------------- correctness


def _flat(value: Any) -> list[Any]:
    return [a for v in value for a in _flat(v)] if isinstance(value, (list, tuple)) else [value]


def load(file: Path) -> list[np.ndarray]:
    with np.load(file) as arrays:
        return [arrays[name] for name in arrays.files]


def agreed(expected: list[np.ndarray], results: list[list[np.ndarray]]) -> list[np.ndarray]:
    """`expected` with what NumPy does not say filled in: the median of the sides that gave as many arrays of the same shape."""
    out = list(expected)
    for i, a in enumerate(expected):
        if a.dtype == object:
            said = [r[i] for r in results if len(r) == len(expected)]
            said = [v for v in said if v.shape == said[0].shape]
            out[i] = np.median(np.stack(said), 0) if said else np.array(np.nan)
    return out


def check(got: list[np.ndarray], expected: list[np.ndarray], tolerance: tuple[float, float]) -> None:
    """Raises Failed unless the arrays agree: count, shapes, and |got - expected| <= atol + rtol * |expected|."""
    if len(got) != len(expected):
        raise Failed(f"WRONG RESULT: {len(got)} arrays, NumPy has {len(expected)}")
    for i, (a, b) in enumerate(zip(got, expected)):
        if a.shape != b.shape:
            raise Failed(f"WRONG RESULT {i}: shape {a.shape}, NumPy has {b.shape}")
        rtol, atol = tolerance
        if not np.allclose(a, b, rtol=rtol, atol=atol):
            raise Failed(f"WRONG RESULT {i}: differs from NumPy by up to {np.nanmax(np.abs(a - b)):.3g}")
