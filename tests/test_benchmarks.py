"""The benchmark harness: it runs, takes turns, refuses wrong results, names what is missing.  No time is asserted."""
import json
import os
import shutil
import subprocess
import sys
from contextlib import contextmanager
from types import SimpleNamespace

import numpy as np
import pytest

from benchmarks import __main__ as cli
from benchmarks import (build, chain, cold, conv, data, gpu, gpu_worker, gpu_workloads, harness, limits, loops, matmul, memory, models,
                        profile, recurrent, report, rows, small, steps)
from benchmarks.dialects import Numpy
from benchmarks.workload import BEST, SIDES, UNKNOWN, Measured, Program, at_most, best_of, fact, of_limit, times_as_fast, within


@pytest.fixture
def bench(monkeypatch):
    """Two rounds of tiny sizes, without peers, in the reference interpreter."""
    monkeypatch.setenv("GRAPHFLOW_INTERPRET", "1")
    made = harness.Bench(sys.executable, quick=True, rounds=2, sides=["graphflow", "numpy", "copy"])
    yield made
    made.close()


NETWORKS = list(models.WORKLOADS.values())
LOOPS = [w for w in loops.WORKLOADS.values() if not isinstance(w, Program)]


@pytest.mark.parametrize("workload", [small.scalar, small.scalar_run, small.fifty, small.rosenbrock, chain.math, rows.layer_norm,
                                      rows.columns, *list(matmul.WORKLOADS.values())[-3:], *conv.WORKLOADS.values(), *NETWORKS, *LOOPS,
                                      data.numbers],
                         ids=lambda w: w.name)
def test_steady_workloads_run_and_agree_with_numpy(bench, workload):
    m = bench.measure(workload, 1)
    assert not m.problems
    assert len(m.values["graphflow"]) == 2


@pytest.mark.parametrize("workload", [cold.first_empty, cold.imported, build.built, build.differentiated, memory.peak,
                                      next(iter(steps.WORKLOADS.values())), loops.short, loops.resized, loops.whole, loops.spared],
                         ids=lambda w: w.name)
def test_programs_run_and_agree_with_numpy(bench, workload):
    m = bench.measure(workload, 1)
    assert not m.problems
    assert len(m.values["graphflow"]) == 1 and m.values["graphflow"][0] > 0


@pytest.mark.parametrize("workload", [small.scalar, cold.first_empty], ids=["steady", "program"])
def test_a_wrong_result_is_refused(bench, workload, monkeypatch):
    right = workload.expected
    monkeypatch.setattr(workload, "expected", lambda *a: right(*a) + 1)
    m = bench.measure(workload, 1)
    assert m.problems["graphflow"].startswith("WRONG RESULT") and "graphflow" not in m.values


@pytest.mark.parametrize("got, wrong", [([np.ones(3)], False), ([np.ones(3), np.ones(3)], True), ([np.ones((3, 1))], True),
                                        ([np.array([1, 1, 1.1])], True), ([np.array([1, 1, np.nan])], True)])
def test_check(got, wrong):
    expected = [np.ones(3)]
    if wrong:
        with pytest.raises(harness.Failed, match="WRONG"):
            harness.check(got, expected, (1e-4, 1e-5))
    else:
        harness.check(got, expected, (1e-4, 1e-5))


def test_a_wrong_network_is_refused(bench, monkeypatch):
    """The slope of the loss along a direction is NumPy's own: a gradient that is wrong cannot pass."""
    right = models.mlp_step.expected
    monkeypatch.setattr(models.mlp_step, "expected", lambda *a: [right(*a)[0] * 1.02, *right(*a)[1:]])
    assert bench.measure(models.mlp_step, 1).problems["graphflow"].startswith("WRONG RESULT 0")


@pytest.mark.parametrize("kind", sorted(recurrent.CELLS))
def test_gradients_by_hand_of_recurrent_networks(kind):
    """Against central differences, along a direction for each weight."""
    net = recurrent.Net(kind, layers=2, both=True, steps=4, batch=3, features=4, units=5, classes=3)
    x, y, *weights = net.arrays()
    x, weights, r, h = x.astype(float), [w.astype(float) for w in weights], np.random.RandomState(1), 1e-6
    found = recurrent.loss_and_gradient(net, x, y, weights)[1]
    assert [g.shape for g in found] == net.shapes()
    for i, g in enumerate(found):
        d = r.normal(size=g.shape)
        up, down = (recurrent.loss_and_gradient(net, x, y, [w + s * d if i == j else w for j, w in enumerate(weights)])[0] for s in (h, -h))
        np.testing.assert_allclose((g * d).sum(), (up - down) / (2 * h), rtol=1e-5, atol=1e-8)


def test_wrong_losses_of_a_recurrent_network_are_refused(bench, monkeypatch):
    """A learning rate that is off by a hundredth shows in the tenth loss."""
    monkeypatch.setattr(recurrent, "RATE", recurrent.RATE * 1.01)
    assert bench.measure(loops.lstm, 1).problems["graphflow"].startswith("WRONG RESULT 0")


def test_what_numpy_does_not_say_is_agreed_upon():
    expected = [np.array(1.0), np.asarray(UNKNOWN)]
    filled = harness.agreed(expected, [[np.array(1.0), np.array(v)] for v in (2.0, 2.1, 7.0)] + [[np.array(1.0)]])
    assert filled[0] == 1 and filled[1] == 2.1
    assert np.isnan(harness.agreed(expected, [])[1])


def test_a_missing_peer_is_named(bench):
    bench.sides, bench.versions["jax"] = ["numpy", "jax"], ""
    m = bench.measure(chain.math, 1)
    assert m.problems == {"jax": harness.NOT_INSTALLED} and m.values["numpy"]
    assert "JAX           not installed" in report.long(chain.math, m)


def test_a_side_that_dies_leaves_the_others(bench, monkeypatch):
    monkeypatch.setattr(harness.Bench, "python", lambda self, side: shutil.which("false") if side == "copy" else sys.executable)
    m = bench.measure(chain.moves, 1)
    assert "ended with status 1" in m.problems["copy"] and len(m.values["numpy"]) == 2


def test_rounds_alternate_their_order():
    assert harness._order(["a", "b"], 0) == ["a", "b"] and harness._order(["a", "b"], 1) == ["b", "a"]


def test_goals():
    m = Measured("w", 1, {"graphflow": [1.0, 2.0, 3.0], "jax": [2.0, 6.0, 9.0], "copy": [1.0, 2.0, 2.0]}, {"graphflow": {"kernels": 2}}, {})
    assert m.ratio("jax") == 3 and m.ratio("torch") is None
    verdict = {g.text: g.test(m) for g in (at_most(2, "2 s"), at_most(1.9, "1.9 s"), times_as_fast(3, "jax"), times_as_fast(3.1, "jax"),
                                            within(1, "copy"), best_of("jax", "torch"), best_of("torch"), fact("kernels", 1, "one"))}
    assert list(verdict.values()) == [True, False, True, False, True, True, None, False]


def test_best_peer_and_limit():
    m = Measured("w", 1, {"graphflow": [1.0], "jax": [2.0], "torch": [1.5], "copy": [0.1], "limit": [0.9]}, {}, {}, work=(3e9, 0))
    assert m.best() == "torch" and BEST.test(m) and BEST.test(m._replace(values={"graphflow": [1.0]})) is None
    assert of_limit({1: 0.85, 2: 0.95}).test(m) and of_limit({1: 0.95}).test(m) is False and of_limit({2: 0.1}).test(m) is None
    assert report.rate(m) == "3 GFLOP/s, 90% of the limit" and report.compared(m) == "PyTorch 1.50"
    slower = m._replace(workload="v", values={"graphflow": [1.0], "jax": [0.5]})
    w = small.scalar
    told = report.summary([(w, m), (w, slower)])
    assert told == "1 thread: geometric mean of the best peer's time by GraphFlow's over 2 workloads 0.87; behind: v (0.50)"


def test_plot(tmp_path):
    pytest.importorskip("matplotlib")
    m = Measured("w", 1, {"graphflow": [1.0], "jax": [2.0]}, {}, {})
    assert report.plot([(small.scalar, m), (small.scalar, m._replace(threads=2))], str(tmp_path / "p.png")).startswith("drawn")
    assert (tmp_path / "p.png").stat().st_size > 1000


def test_the_limit_is_work_done(monkeypatch):
    """The loop does the multiply-adds that it counts, the copy copies, and the side scales them to the workload."""
    run, flops = limits.fma_kernel()
    assert flops % (2 * limits.ACCUMULATORS) == 0 and run(10) is None
    step, moved = limits.copy_step(2, 1000)
    assert moved == 8000 and step() is None
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    monkeypatch.setattr(limits, "SECONDS", 1e-4)
    monkeypatch.setattr(limits, "MOVED", 1000)
    step, facts = limits.side(1e9, 0)(None)
    assert facts["bound"] == "FMA" and facts["scale"] > 1 and step() is None
    assert limits.side(0, 1e9)(None)[1]["bound"] == "copy"


def test_operations_are_counted():
    m = Numpy()
    m.dense(np.ones((3, 5)), np.ones((5, 7)), 0)
    assert m.flops == 2 * 3 * 5 * 7
    m.conv(np.ones((2, 4, 4, 3)), np.ones((3, 3, 3, 5)))
    assert m.flops == 2 * 3 * 5 * 7 + 2 * (2 * 4 * 4 * 5) * (3 * 3 * 3)


@pytest.mark.parametrize("name, parameters", [("resnet18", 11_689_512), ("resnet50", 25_557_032), ("mobilenet", 3_504_872)])
def test_networks_have_the_published_size(name, parameters):
    """The trained parameters that torchvision states for resnet18, resnet50 and mobilenet_v2."""
    m = Numpy()
    getattr(models, name)(m, models.images(1, 32, 3))
    assert sum(a.size for a, t in zip(m.made, m.trained) if t) == parameters


def test_profile(capsys, monkeypatch):
    monkeypatch.setenv("GRAPHFLOW_THREADS", "1")
    profile.main(["scalar a*b+c, make_callable", "--quick", "--repeats", "2", "--source"])
    out = capsys.readouterr().out
    assert "1 kernels" in out and "us a step" in out and "def kernel" in out
    with pytest.raises(SystemExit, match="no workload"):
        profile.main(["nothing like this"])


def test_command_line(monkeypatch, tmp_path, capsys):
    monkeypatch.setenv("GRAPHFLOW_INTERPRET", "1")
    files = [str(tmp_path / "out.json"), str(tmp_path / "out.md")]
    assert cli.main(["small", "--quick", "--rounds", "2", "--sides", "graphflow", "--only", "scalar", "--json", files[0], "--markdown",
                     files[1]]) == 0
    assert "a*b+c" in capsys.readouterr().out
    with open(files[0]) as f:
        data = json.load(f)
    assert [len(x["values"]["graphflow"]) for x in data["measurements"]] == [2, 2] and data["machine"]["cpu"]
    with open(files[1]) as f:
        assert f.read().count("| scalar") == 2


def test_every_workload_is_complete():
    for module in (small, chain, rows, matmul, conv, models, steps, loops, cold, build, memory):
        for w in module.WORKLOADS.values():
            assert "graphflow" in w.functions and set(w.functions) <= set(SIDES)
            assert len(w.make_inputs(True)) and w.expected(*w.make_inputs(True)) is not None
            if isinstance(w, Program):
                compile(harness.program_text(w, "graphflow"), w.name, "exec")


# ---------------------------------------------------------------- on a GPU: gpu.py


def table_of(text):
    """Rows of a Markdown table, as lists of cells."""
    return [[c.strip() for c in line.strip("|").split("|")] for line in text.splitlines() if line.startswith("|")][2:]


def test_gpu_emulated(tmp_path, capsys):
    file = tmp_path / "table.md"
    assert gpu.main(["--emulated", "--quick", "--only", "softmax", "--out", str(file)]) == 0
    rows = {r[0]: r for r in table_of(file.read_text())}
    assert len(rows) == 4 and all(r[-1] == "right" for r in rows.values())
    name, launches, waits, instructions, read, written, needed, _ = rows["softmax of 65536x1024, float32"]
    assert launches == "1" and int(waits) <= 2 and 5 < float(instructions) < 50
    assert float(read) == float(written) == float(needed) / 2 == 4 / 32


def test_gpu_workloads_are_chosen_and_left_out(tmp_path, capsys):
    names = [w.name for w in gpu.chosen(["layer norm", "argmax"])]
    assert len(names) == 4 and all("layer norm" in n or "argmax" in n for n in names)
    with pytest.raises(SystemExit, match="nothing like this"):
        gpu.chosen(["nothing like this"])
    file = tmp_path / "table.md"
    assert gpu.main(["--device", "emulated", "--minutes", "0", "--only", "argmax", "--sides", "graphflow", "--out", str(file)]) == 0
    assert "left out: after 0 minutes: argmax of rows of 65536x1024, float32" in file.read_text()


def test_gpu_emulated_tells_the_host_cost(capsys):
    assert gpu.main(["--emulated", "--only", "of numbers"]) == 0
    row, = table_of("|\n|\n" + capsys.readouterr().out)
    assert row[:3] == ["a*b + c of numbers, float32", "1", "1"] and row[-1].startswith("right, host ") and row[-1].endswith("us")


def test_gpu_emulated_refuses_a_wrong_result(monkeypatch, capsys):
    w = gpu_workloads.WORKLOADS["x + y, float32"]
    right = w.expected
    monkeypatch.setattr(w, "expected", lambda *a: right(*a) + 1)
    assert gpu.main(["--emulated", "--only", "x + y, float32"]) == 1
    assert "WRONG RESULT" in capsys.readouterr().out


def test_without_a_gpu_the_command_says_why():
    env = {k: v for k, v in os.environ.items() if k not in ("PYTHONPATH", "CUDA_VISIBLE_DEVICES")}
    done = subprocess.run([sys.executable, str(harness.ROOT / "benchmarks" / "gpu.py"), "--only", "softmax"], text=True,
                          capture_output=True, env={**env, "GRAPHFLOW_LIBCUDA": "/nowhere/libcuda.so.1"})
    assert done.returncode == 2 and done.stderr.startswith("No GPU can be used: ") and "libcuda" in done.stderr


def test_gpu_command_on_the_emulated_gpu(tmp_path, capsys):
    """All of it, with the yardstick, a result that stays on the device, and clocks of the emulator."""
    files = [tmp_path / "table.md", tmp_path / "all.json"]
    assert gpu.main(["--device", "emulated", "--quick", "--only", "gather: 65536 rows of 1024 from a table of 65536, float32", "--sides",
                     "graphflow", "--out", str(files[0]), "--json", str(files[1])]) == 0
    row, = table_of(files[0].read_text())
    assert row[2].endswith("s") and row[3].endswith("% of copy") and "compute capability 9.0" in files[0].read_text()
    m, = json.loads(files[1].read_text())["measurements"]
    assert len(m["facts"]["graphflow"]["device"]) == len(m["values"]["copy"]) == 2 and not m["problems"]
    assert m["values"]["graphflow"] == m["facts"]["graphflow"]["device"] != m["facts"]["graphflow"]["wall"]


def test_gpu_programs_on_the_cpu(tmp_path, capsys):
    """The whole command, its processes and table; the peers' programs run where there are peers."""
    file, name = tmp_path / "table.md", "sum of columns of 65536x1024, float32"
    assert gpu.main(["--device", "cpu", "--quick", "--only", name, "--sides", "graphflow", "cupy", "--out", str(file)]) == 0
    row, = table_of(file.read_text())
    assert row[0] == name.rpartition(",")[0] and row[2].split(",")[0].endswith("s") and "(" in row[7]
    assert "NumPy" in file.read_text()


@pytest.mark.parametrize("device, precision, peak", [("NVIDIA H200", "bfloat16", 989e12), ("NVIDIA H100 PCIe", "tf32", 378e12),
                                                     ("NVIDIA H100 80GB HBM3", "float16", 989e12),
                                                     ("NVIDIA A100-SXM4-80GB", "float32", 19.5e12),
                                                     ("NVIDIA GeForce GT 1030", "float32", None)])
def test_peaks(device, precision, peak):
    assert gpu.peak(device, precision) == peak


def test_gpu_targets_and_rates():
    w, s = gpu_workloads.WORKLOADS["softmax of 65536x1024, float32"], gpu_workloads.WORKLOADS["product of 1024x1024, bfloat16"]
    m = Measured(w.name, 0, {"graphflow": [1e-3], "copy": [0.9e-3], "torch": [2e-3]}, {"graphflow": {"device": [1e-3]}}, {}, work=(0, 4e9))
    assert gpu.rate(w, m, "NVIDIA H200") == "4000 GB/s, 90% of copy" and gpu.verdict(w, m) == "85% of copy: reached"
    slow = m._replace(values={"graphflow": [1e-3], "copy": [0.34e-3]})
    assert gpu.verdict(w, slow) == "85% of copy: short by 60%"
    m = m._replace(values={"graphflow": [1e-3], "torch": [0.97e-3], "torchcompile": [2e-3]}, work=(494.5e9, 0))
    assert gpu.rate(s, m, "NVIDIA H200") == "494 TFLOP/s, 50% of 989" and gpu.verdict(s, m) == "97% of PyTorch: reached"
    assert gpu.verdict(s, m._replace(values={"graphflow": [1e-3]})) == "97% of PyTorch: -"
    tiny = gpu_workloads.WORKLOADS["a*b + c of numbers, float32"]
    m = Measured(tiny.name, 0, {"graphflow": [2e-5], "jax": [5e-5]}, {"graphflow": {"host": 12.5e-6}}, {})
    assert gpu.verdict(tiny, m) == "twice the best peer: reached; 10 us of host: short by 20%"


@pytest.mark.parametrize("precision", ["float16", "bfloat16"])
def test_inputs_are_rounded_to_nearest_even(precision):
    """1 + 1.5 and 2.5 units of the last place, and what the precision has already."""
    unit = {"float16": 2.0 ** -10, "bfloat16": 2.0 ** -7}[precision]
    x = np.float32([1 + 1.5 * unit, 1 + 2.5 * unit, 1 + 3 * unit, -1 - 1.25 * unit])
    np.testing.assert_array_equal(gpu_workloads.rounded(x, precision), np.float32([1 + 2 * unit, 1 + 2 * unit, 1 + 3 * unit, -1 - unit]))


def test_every_gpu_workload_is_complete():
    for w in gpu_workloads.WORKLOADS.values():
        assert {"graphflow", "torch", "jax"} <= set(w.functions) <= set(gpu_workloads.SIDES) and w.group and w.precision in w.name
        if w.kind != "step":
            inputs = w.make_inputs(True)
            assert w.expected(*inputs) is not None and sum(a.size for a in inputs) < 1 << 18


class PlayedTorch:
    """As much of torch.cuda as a recorded step needs: two events that are 6 ms apart; `refuses`: nothing can be recorded."""

    def __init__(self, refuses=False):
        self.cuda, self.refuses, self.replays, self.inside = self, refuses, 0, False

    def CUDAGraph(self):
        return self

    @contextmanager
    def graph(self, graph):
        if self.refuses:
            raise RuntimeError("operation not permitted when stream is capturing\nmore")
        self.inside = True
        yield
        self.inside = False

    def replay(self):
        self.replays += 1

    def Event(self, enable_timing):
        return SimpleNamespace(record=lambda: None, synchronize=lambda: None, elapsed_time=lambda end: 6.0)

    def synchronize(self):
        pass


@pytest.mark.parametrize("kind, refuses", [("kernel", False), ("kernel", True), ("step", False)])
def test_kernels_of_pytorch_are_recorded(kind, refuses):
    side, torch, calls = gpu_worker.Torch.__new__(gpu_worker.Torch), PlayedTorch(refuses), []
    side.torch, side.where, side.kind, side.graph, side.note = torch, "cuda", kind, None, ""
    assert [side.queued(lambda: calls.append(torch.inside), 3) for _ in range(2)] == [pytest.approx(2e-3)] * 2
    if kind == "kernel" and not refuses:
        assert calls == [True] and torch.replays == 1 + 6 and not side.note
    else:
        assert calls == [False] * 6 and not torch.replays
        assert side.note == ("not recorded as a CUDA graph: operation not permitted when stream is capturing" if refuses else "")
