"""The process of one side of gpu.py: reads commands as JSON lines, answers each with one JSON line, like worker.py.

    {"do": "prepare", "workload": ..., "inputs": FILE, "result": FILE, "quick": ...}  ->  {"facts": {...}}
    {"do": "round"}     ->  {"device": seconds a call on the device, "wall": seconds of a call that waits, on the host, "note": text}
    {"do": "about"}     ->  {"versions": text}

Runs in the peer's interpreter: it imports that library and NumPy, nothing else. `DEVICE` is "gpu"; or, only to try things where there
is no GPU, "cpu" or, for GraphFlow, "emulated".
"""
from __future__ import annotations

import gc
import importlib
import json
import os
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any

import numpy as np

DEVICE = "GRAPHFLOW_BENCH_DEVICE"
ROUND_SECONDS, MOST = 0.05, 500  # of the queued calls of a round, and how many there are at most
SAMPLED = 1 << 20  # elements of a large result that are compared


# ---------------------------------------------------------------- libraries: how they are loaded, timed and read


class Library:
    """A library on one device: the module that programs get, how to wait and to time, and what its arrays hold."""

    lib: Any

    def __init__(self, device: str):
        self.device, self.note = device, ""  # note: what a reader of the times has to know
        self.load()

    def load(self) -> None:
        raise NotImplementedError

    def versions(self) -> str:
        return getattr(self.lib, "__version__", "?")

    @contextmanager
    def settings(self, workload: Any) -> Iterator[Any]:
        """Precision, and the module for the workload's program."""
        yield self.lib

    def made(self, program: Callable[..., Any], lib: Any, arrays: Sequence[np.ndarray]) -> Any:
        return program(lib, *arrays)

    def wait(self, value: Any) -> None:
        """Until `value`, the result of the last call, is there."""

    def queued(self, step: Callable[[], Any], n: int) -> float | None:
        """Seconds a call on the device, of `n` calls queued one after another."""
        self.wait(step())
        start = time.perf_counter()
        for _ in range(n):
            value = step()
        self.wait(value)
        return (time.perf_counter() - start) / n

    def array(self, value: Any) -> np.ndarray:
        return np.asarray(value)

    def forget(self) -> None:
        """Gives memory back after a workload."""
        gc.collect()


class Torch(Library):
    def load(self) -> None:
        import torch

        self.torch, self.where = torch, "cuda" if self.device == "gpu" else "cpu"
        self.graph: Callable[[], Any] | None = None
        self.result: Any = None
        if self.device == "gpu" and not torch.cuda.is_available():
            raise RuntimeError("this PyTorch finds no CUDA device")
        torch.backends.cudnn.benchmark = True
        self.lib = Placed(torch, lambda a: torch.from_numpy(a if a.flags.c_contiguous else np.ascontiguousarray(a)).to(self.where))

    def versions(self) -> str:
        cuda = f", CUDA {self.torch.version.cuda}, cuDNN {self.torch.backends.cudnn.version()}" if self.device == "gpu" else ""
        return self.torch.__version__ + cuda

    @contextmanager
    def settings(self, workload: Any) -> Iterator[Any]:
        low, self.kind = workload.precision == "tf32", workload.kind
        self.torch.set_float32_matmul_precision("high" if low else "highest")
        self.torch.backends.cudnn.allow_tf32 = low
        self.torch.set_grad_enabled(workload.kind == "step")
        yield self.lib

    def made(self, program: Callable[..., Any], lib: Any, arrays: Sequence[np.ndarray]) -> Any:
        with self.torch.device(self.where):  # for modules; only here, because it makes every call slower
            return program(lib, *arrays)

    def wait(self, value: Any) -> None:
        if self.where == "cuda":
            self.torch.cuda.synchronize()

    def queued(self, step: Callable[[], Any], n: int) -> float | None:
        if self.where != "cuda":
            return super().queued(step, n)
        call = self.recorded(step) if self.kind == "kernel" else step
        first, second = (self.torch.cuda.Event(enable_timing=True) for _ in range(2))
        first.record()
        for _ in range(n):
            call()
        second.record()
        second.synchronize()
        return first.elapsed_time(second) * 1e-3 / n

    def recorded(self, step: Callable[[], Any]) -> Callable[[], Any]:
        """The step as a CUDA graph, so that short kernels do not wait for Python; the step itself where it cannot be recorded."""
        if self.graph is None:
            graph = self.torch.cuda.CUDAGraph()
            try:
                with self.torch.cuda.graph(graph):
                    self.result = step()  # in the graph's memory
                graph.replay()
                self.torch.cuda.synchronize()
                self.graph = graph.replay
            except RuntimeError as problem:
                self.graph, self.note = step, f"not recorded as a CUDA graph: {str(problem).splitlines()[0]}"
        return self.graph

    def array(self, value: Any) -> np.ndarray:
        if not hasattr(value, "detach"):
            return np.asarray(value)
        value = value.detach()
        return (value.float() if value.is_floating_point() else value).cpu().numpy()

    def forget(self) -> None:
        self.graph = self.result = None
        if "torch._dynamo" in sys.modules:
            self.torch._dynamo.reset()
        gc.collect()
        if self.where == "cuda":
            self.torch.cuda.empty_cache()


class Placed:
    """PyTorch with a `from_numpy` that puts arrays on the device, so that the programs of the CPU tables run there."""

    def __init__(self, torch: Any, from_numpy: Callable[[np.ndarray], Any]):
        self._torch, self.from_numpy = torch, from_numpy

    def __getattr__(self, name: str) -> Any:
        return getattr(self._torch, name)


class Jax(Library):
    def load(self) -> None:
        import jax

        self.lib = jax
        there = jax.default_backend()
        if self.device == "gpu" and there != "gpu":
            raise RuntimeError(f"this JAX finds no CUDA device, only {there}; pip install 'jax[cuda13]'")

    @contextmanager
    def settings(self, workload: Any) -> Iterator[Any]:
        with self.lib.default_matmul_precision({"tf32": "tensorfloat32", "float32": "highest"}.get(workload.precision, "default")):
            yield self.lib

    def wait(self, value: Any) -> None:
        self.lib.block_until_ready(value)

    def array(self, value: Any) -> np.ndarray:
        value = np.asarray(value)
        return value if value.dtype.kind in "iub" else value.astype(np.float32)

    def forget(self) -> None:
        self.lib.clear_caches()
        gc.collect()


class Cupy(Library):
    """CuPy; NumPy takes its place where programs are only tried on the CPU."""

    def load(self) -> None:
        if self.device == "gpu":
            import cupy  # type: ignore[import-not-found]

            cupy.cuda.runtime.getDeviceCount()
            self.lib = cupy
        else:
            self.lib = np

    def versions(self) -> str:
        return self.lib.__version__ if self.device == "gpu" else f"NumPy {np.__version__} runs its programs"

    def wait(self, value: Any) -> None:
        if self.device == "gpu":
            self.lib.cuda.get_current_stream().synchronize()

    def queued(self, step: Callable[[], Any], n: int) -> float | None:
        if self.device != "gpu":
            return super().queued(step, n)
        first, second = self.lib.cuda.Event(), self.lib.cuda.Event()
        first.record()
        for _ in range(n):
            step()
        second.record()
        second.synchronize()
        return self.lib.cuda.get_elapsed_time(first, second) * 1e-3 / n

    def array(self, value: Any) -> np.ndarray:
        return value.get() if hasattr(value, "get") else np.asarray(value)

    def forget(self) -> None:
        gc.collect()
        if self.device == "gpu":
            self.lib.get_default_memory_pool().free_all_blocks()


class Graphflow(Library):
    """GraphFlow.  Its device time is that of the recorded graphs of a step, of a kernel launched `n` times between two events."""

    def load(self) -> None:
        import graphflow

        self.lib = graphflow

    def versions(self) -> str:
        if self.device != "gpu":
            return self.lib.__version__
        from graphflow.runtime.cuda import libraries

        said = {name: libraries.why_not(name) for name in libraries.NAMES}
        return "; ".join([self.lib.__version__, *[f"{name}: " + (f"not used, {why}" if why else "used") for name, why in said.items()]])

    @contextmanager
    def settings(self, workload: Any) -> Iterator[Any]:
        from graphflow.flags import flags

        self.kind = workload.kind
        self.lib.reset_default_graph()
        with flags.override(tf32=int(workload.precision == "tf32"), early=0):
            yield Resident(self.lib, workload.kind == "kernel") if workload.resident and self.device == "gpu" else self.lib

    def queued(self, step: Callable[[], Any], n: int) -> float | None:
        if self.device != "gpu":
            return super().queued(step, n)
        for _ in range(3):  # queued, recorded, replayed
            step()
        if self.kind != "step":
            return self.replayed(step, n)
        return sum(self.replayed(step, 1) for _ in range(n)) / n  # a loop whose body ran n times in a row would not be that loop

    def replayed(self, step: Callable[[], Any], n: int) -> float:
        """Seconds on the device of a step, of which each recorded graph is launched n times."""
        from graphflow.runtime.cuda import segments

        times: list[float] = []

        def run(segment: Any) -> None:
            form = segment.forms.get(segment.plan.form)
            if form is None or form.graph is None:
                raise RuntimeError(f"a part of the step was not recorded: {segment.label}")
            with segment.device.timed() as seconds:
                for _ in range(n):
                    form.graph()
            segment.device.synchronize(segment.label)
            times.append(seconds() / n)
        before, segments.Segment.run = segments.Segment.run, run  # type: ignore[method-assign]
        try:
            step()
        finally:
            segments.Segment.run = before  # type: ignore[method-assign]
        if not times:
            raise RuntimeError("nothing of the step ran on the GPU")
        return sum(times)

    def array(self, value: Any) -> np.ndarray:
        return value.numpy() if hasattr(value, "bits") else np.asarray(value)

    def forget(self) -> None:
        from graphflow.runtime.cuda import device

        self.lib.reset_default_graph()
        gc.collect()
        if self.device == "gpu":
            for found in device.devices():
                found.trim()


class Resident:
    """GraphFlow whose feeds are put on the GPU when they are first given, and with `stay` results that are left there.

    So the programs of the CPU tables, which feed and fetch NumPy arrays, work on arrays that are there, as those of the others do.
    """

    def __init__(self, tf: Any, stay: bool):
        self._tf, self.stay = tf, stay

    def __getattr__(self, name: str) -> Any:
        return getattr(self._tf, name)

    def Session(self, *args: Any, **options: Any) -> ResidentSession:
        return ResidentSession(self._tf.Session(*args, **options), self.stay)


class ResidentSession:
    def __init__(self, session: Any, stay: bool):
        self.session, self.stay = session, stay
        self.there: dict[Any, tuple[Any, Any]] = {}  # by placeholder: what was fed, and that on the device

    def __getattr__(self, name: str) -> Any:
        return getattr(self.session, name)

    def put(self, t: Any, value: Any) -> Any:
        from graphflow.runtime.cuda import arrays, device

        if self.there.get(t, (None,))[0] is not value:
            self.there[t] = value, arrays.DeviceArray.put(device.devices()[0], value, t.dtype)
        return self.there[t][1]

    def run(self, fetches: Any, feed_dict: Any = None, **options: Any) -> Any:
        return self.session.run(fetches, {t: self.put(t, value) for t, value in (feed_dict or {}).items()}, **options)

    def make_callable(self, fetches: Any, feed_list: Sequence[Any] = ()) -> Callable[..., Any]:
        run, session = self.session.make_callable(fetches, feed_list), self.session
        given: list[Any] = [None, None]

        def call(*values: Any) -> Any:
            if given[0] is None or any(a is not b for a, b in zip(given[0], values)):
                given[:] = values, [self.put(t, value) for t, value in zip(feed_list, values)]
            return session.run_on_device(fetches, dict(zip(feed_list, given[1]))) if self.stay else run(*given[1])
        return call


class Copy(Library):
    """The yardstick: as many bytes as the workload moves, half of them read and half written, by the driver's own copy."""

    def load(self) -> None:
        self.there: list[Any] = []
        if self.device == "gpu":
            from graphflow.runtime.cuda import device

            self.gpu = device.devices()[0]

    def program(self, moved: float) -> Callable[[], Any]:
        n = max(int(moved) // 2, 1)
        if self.device != "gpu":
            source, target = np.ones(n, np.uint8), np.zeros(n, np.uint8)
            return lambda: np.copyto(target, source)
        self.there = [self.gpu.allocate(n) for _ in range(2)]
        self.gpu.fill(self.there[0], 1, n)
        return lambda: self.gpu.copy(self.there[1], self.there[0], n)

    def queued(self, step: Callable[[], Any], n: int) -> float | None:
        if self.device != "gpu":
            return super().queued(step, n)
        with self.gpu.timed() as seconds:
            for _ in range(n):
                step()
        self.gpu.synchronize("copies")
        return seconds() / n

    def wait(self, value: Any) -> None:
        if self.device == "gpu":
            self.gpu.synchronize("copies")

    def versions(self) -> str:
        return ""

    def forget(self) -> None:
        while self.there:
            self.gpu.free(self.there.pop())
        if self.device == "gpu":
            self.gpu.trim()


LIBRARIES = {"graphflow": Graphflow, "torch": Torch, "torchcompile": Torch, "jax": Jax, "cupy": Cupy, "copy": Copy}


# ---------------------------------------------------------------- the worker


def flat(value: Any) -> list[Any]:
    return [a for v in value for a in flat(v)] if isinstance(value, (list, tuple)) else [] if value is None else [value]


def sampled(a: np.ndarray) -> np.ndarray:
    """Large results by a million of their elements, spread by a stride that is no multiple of a power of two."""
    a = np.asarray(a)
    return a if a.size <= SAMPLED else a.reshape(-1)[::a.size // SAMPLED | 1].copy()


class Worker:
    def __init__(self, side: str, device: str):
        self.side, self.library = side, LIBRARIES[side](device)
        self.open = ExitStack()
        self.step: Callable[[], Any] | None = None

    def about(self) -> dict[str, Any]:
        return {"versions": self.library.versions()}

    def prepare(self, workload: str, inputs: str, result: str, quick: bool) -> dict[str, Any]:
        """Makes the workload's program, runs it once and saves its results."""
        self.end()
        w = importlib.import_module("benchmarks.gpu_workloads").WORKLOADS[workload]
        with np.load(inputs) as file:
            arrays = [file[name] for name in file.files]
        if isinstance(self.library, Copy):
            self.step = self.library.program(w.amount(*arrays)[1])
            return {"facts": {}}
        lib = self.open.enter_context(self.library.settings(w))
        made = self.library.made(w.functions[self.side], lib, arrays)
        self.step, facts = made if isinstance(made, tuple) else (made, {})
        start = time.perf_counter()
        results = [self.library.array(a) for a in flat(facts.pop("check", self.step)())]
        first = time.perf_counter() - start
        results = w.digest(arrays, results) if w.digest else results
        np.savez(result, *[sampled(a) for a in results])
        self.kind = w.kind
        return {"facts": {"first_call": first}}

    def end(self) -> None:
        """Forgets the workload and its memory."""
        self.step, self.calls, self.library.note = None, 0, ""
        self.open.close()
        self.library.forget()

    def round(self) -> dict[str, Any]:
        assert self.step is not None
        if not self.calls:  # also warms up
            once = min(self.waited(1) for _ in range(3))
            self.calls = min(max(int(ROUND_SECONDS / max(once, 1e-9)), 3), MOST)
        gc.collect()
        gc.disable()
        try:
            return {"device": self.library.queued(self.step, self.calls), "wall": self.waited(self.calls), "note": self.library.note}
        finally:
            gc.enable()

    def waited(self, n: int) -> float:
        """Seconds of a call, each waited for before the next."""
        step, wait = self.step, self.library.wait
        start = time.perf_counter()
        for _ in range(n):
            wait(step())  # type: ignore[misc]
        return (time.perf_counter() - start) / n


def main(side: str) -> None:
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)  # what a library prints must not look like an answer
    worker: Worker | None = None
    device, played = os.environ.get(DEVICE, "gpu"), ExitStack()
    if device == "emulated" and LIBRARIES[side] in (Graphflow, Copy):
        from graphflow.testing import emulated_gpu

        played.enter_context(emulated_gpu())
    for line in sys.stdin:
        command = json.loads(line)
        try:
            worker = worker or Worker(side, "cpu" if device == "cpu" else "gpu")
            answer = getattr(worker, command.pop("do"))(**command) or {}
        except Exception as problem:
            text = str(problem).strip().splitlines() or [""]
            answer = {"error": f"{type(problem).__name__}: {text[0]}"[:300]}
        answers.write(json.dumps(answer) + "\n")


if __name__ == "__main__":
    main(sys.argv[1])
