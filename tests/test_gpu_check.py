"""`python -m graphflow gpu`: the ladder on the emulated GPU, and what it says of steps that fail."""
from __future__ import annotations

import re
import subprocess
import sys
from argparse import Namespace
from pathlib import Path

import numpy as np
import pytest
from fake_cuda import child

import graphflow as tf
from graphflow import command
from graphflow.testing import emulated_gpu, gpu_check
from graphflow.testing.gpu_check import Bench, Differs, Step, same


def ladder(capsys, monkeypatch, *steps, only=(), after=0):
    """(exit status, what is printed) of some steps on the emulator."""
    if steps:
        monkeypatch.setattr(gpu_check, "STEPS", steps)
    status = gpu_check.main(Namespace(emulated=True, only=list(only), after=after), patience=0)
    return status, capsys.readouterr().out


def test_every_step_is_right_on_the_emulator(capsys, monkeypatch):
    status, said = ladder(capsys, monkeypatch)
    assert status == 0, said
    n = len(gpu_check.STEPS)
    assert said.startswith("GPU 0 (Emulated GPU), compute capability 9.0")
    assert f"{n - 1} of {n} steps are as they should be, 1 left out." in said
    assert len(re.findall(r"\.\.\. (ok|left out), \d+\.\d\d s", said)) == n and said.count(" left out, ") == 1


def test_a_step_that_differs_says_what_and_shows_its_kernels(capsys, monkeypatch, tmp_path):
    monkeypatch.setattr(gpu_check.tempfile, "mkdtemp", lambda **_: str(tmp_path))

    def wrong(c):
        x = tf.placeholder(tf.float32, [10], name="x")
        real, c.on_gpu = c.on_gpu, lambda *given: [r + np.arange(10, dtype=np.float32) * (r > 1) for r in real(*given)]
        c.both(tf.exp(x), {x: np.linspace(-1, 1, 10)}, runs=1)

    status, said = ladder(capsys, monkeypatch, Step("an exponential", wrong), Step("the next", lambda c: "still told"))
    assert status == 1 and "1 of 2 steps are as they should be; above is what is not." in said
    words = r"FAILED.*\n +Exp:0, run 1: 5 of 10 elements differ, the worst at \(9,\): .*11\.7.* on the GPU, .*2\.7.* on the CPU"
    assert re.search(words, said)
    text, ptx = re.search(r"exp: (\S+\.py), (\.ptx)", said).groups()
    assert "def kernel(" in Path(text).read_text() and ".visible .entry kernel" in Path(text).with_suffix(ptx).read_text()
    assert re.search(r" 2  the next \.\.\. ok, .* s: still told", said)


def test_a_step_that_raises(capsys, monkeypatch):
    def broken(c):
        c.device.driver.fail_next("launch", "CUDA_ERROR_INVALID_VALUE")
        c.both(tf.exp(tf.constant(np.ones(3, np.float32)) + tf.random_uniform([3])))

    status, said = ladder(capsys, monkeypatch, Step("broken", broken))
    assert status == 1 and "CUDA_ERROR_INVALID_VALUE" in said and "kernels of this request" in said and "Traceback" in said


def test_the_steps_after_a_lost_device_run_in_a_new_process(capfd, monkeypatch):
    def lost(c):
        c.device.driver.fail_next("launch", "CUDA_ERROR_ILLEGAL_ADDRESS")
        c.both(tf.exp(tf.random_uniform([3])))

    monkeypatch.setattr(gpu_check, "STEPS", (Step("copies", lost), *gpu_check.STEPS[1:]))
    assert gpu_check.main(Namespace(emulated=True, only=["copies in", "copies", "exchange"], after=0), patience=0) == 1
    said = capfd.readouterr().out
    assert "lost for this process" in said and re.search(r"kernels of this request:\n +\w+: \S+\.py, \.ptx", said)
    assert re.search(r" 2  copies in and out.*ok", said) and re.search(r"18  exchange.*ok", said)
    assert said.rstrip().endswith("3 of 3 steps are as they should be.") and said.count("Emulated GPU), compute") == 1


def test_a_name_that_no_step_has(capsys, monkeypatch):
    status, said = ladder(capsys, monkeypatch, Step("an exponential", lambda c: ""), only=["sinus", "cosinus"])
    assert status == 2 and said.endswith("no step has 'sinus' or 'cosinus' in its name; there are:\n  an exponential\n")


def test_without_a_gpu_the_status_is_2():
    ran = child("import sys; from graphflow.command import main; sys.exit(main(['gpu']))", GRAPHFLOW_LIBCUDA="/nowhere/libcuda.so.1")
    assert ran.returncode == 2 and ran.stdout == ""
    assert re.match(r"No GPU can be used: The CUDA driver library .*nowhere.*\n`python -m graphflow gpu --emulated` runs", ran.stderr)


def test_the_command_hangs_no_longer_than_its_patience():
    code = ("import time; from argparse import Namespace; from graphflow.testing import gpu_check as g\n"
            "g.STEPS = (g.Step('a kernel without end', lambda c: time.sleep(60)),)\n"
            "g.main(Namespace(emulated=True, only=[], after=0), patience=0.5)")
    ran = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, timeout=50)
    assert ran.returncode == 1 and "a kernel without end ... " in ran.stdout and "Timeout (0:00:00.5" in ran.stderr


def test_the_command_line(monkeypatch):
    seen = []
    monkeypatch.setattr(gpu_check, "main", lambda given: seen.append((given.emulated, given.only, given.after)) or 7)
    assert command.main(["gpu", "--emulated", "--only", "rows", "folds", "--after", "3"]) == 7 == command.main(["gpu"])
    assert seen == [(True, ["rows", "folds"], 3), (False, [], 0)]


@pytest.mark.parametrize("ours, theirs, rtol, words", [
    (np.zeros(2, np.float32), np.zeros(2), 1, r"float32\[2\] on the GPU, float64\[2\]"),
    (np.zeros((2, 1)), np.zeros(2), 1, r"float64\[2, 1\] on the GPU"),
    (np.array([1.0, np.nan]), np.array([1.0, 2.0]), 1, r"1 of 2 .*\(1,\)"),
    (np.array([1.0, np.inf]), np.array([1.0, -np.inf]), 1, "1 of 2"), (np.array([1, 3]), np.array([1, 2]), 1, r"1 of 2 .*3.* on the GPU"),
    (np.array([100.0, 1.2]), np.array([100.0, 1.0]), 1e-3, r"1 of 2.*allowed: 0\.1"), (np.float32(1), np.float32(2), 0.1, "1 of 1"),
    (np.array([1 + 1j]), np.array([1 + 2j]), 0.1, "1 of 1"),
])
def test_what_differs(ours, theirs, rtol, words):
    with pytest.raises(Differs, match=words):
        same("x", ours, theirs, rtol)


def test_what_does_not_differ():
    for a, b in (([1.0, np.nan, np.inf], [1.0, np.nan, np.inf]), ([100.0, 1.05], [100.0, 1.0]), ([], []), ([True], [True])):
        same("x", np.array(a), np.array(b), 1e-3)


def test_sizes_are_small_on_the_emulator():
    with emulated_gpu():
        assert (Bench(True).n(1000, 3), Bench(False).n(1000, 3)) == (3, 1000)
        assert (Bench(True).few(1, 2), Bench(False).few(1, 2)) == ((1,), (1, 2))
