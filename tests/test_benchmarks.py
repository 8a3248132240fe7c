"""The benchmark harness: it runs, takes turns, refuses wrong results, names what is missing.  No time is asserted."""
import json
import shutil
import sys

import numpy as np
import pytest

from benchmarks import __main__ as cli
from benchmarks import build, chain, cold, harness, memory, report, rows, small
from benchmarks.workload import SIDES, Measured, Program, at_most, best_of, fact, times_as_fast, within


@pytest.fixture
def bench(monkeypatch):
    """Two rounds of tiny sizes, without peers, in the reference interpreter."""
    monkeypatch.setenv("GRAPHFLOW_INTERPRET", "1")
    made = harness.Bench(sys.executable, quick=True, rounds=2, sides=["graphflow", "numpy", "copy"])
    yield made
    made.close()


@pytest.mark.parametrize("workload", [small.scalar, small.scalar_run, small.fifty, small.rosenbrock, chain.math, rows.layer_norm],
                         ids=lambda w: w.name)
def test_steady_workloads_run_and_agree_with_numpy(bench, workload):
    m = bench.measure(workload, 1)
    assert not m.problems
    assert len(m.values["graphflow"]) == 2


@pytest.mark.parametrize("workload", [cold.first_empty, cold.imported, build.built, build.differentiated, memory.peak],
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
    for module in (small, chain, rows, cold, build, memory):
        for w in module.WORKLOADS.values():
            assert "graphflow" in w.functions and set(w.functions) <= set(SIDES)
            assert len(w.make_inputs(True)) and w.expected(*w.make_inputs(True)) is not None
            if isinstance(w, Program):
                compile(harness.program_text(w, "graphflow"), w.name, "exec")
