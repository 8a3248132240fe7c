"""Measured cuts of products: winners are kept in a file, used by later processes, and never change what is computed."""
from __future__ import annotations

import json
import os
import subprocess
import sys

import numpy as np
import pytest

import graphflow as tf
from graphflow.codegen import tune
from graphflow.codegen.tune import Cut
from graphflow.flags import flags
from graphflow.runtime import plan_cache

pytestmark = pytest.mark.cpu_only(reason="cuts of its products are measured")


@pytest.fixture
def folder(tmp_path, monkeypatch):
    """A cache folder of this test's own, and programs that are compiled anew."""
    monkeypatch.setattr(plan_cache, "key", lambda program: None)
    monkeypatch.setattr(tune, "SECONDS", 0.001)
    with tf.Graph().as_default(), flags.override(cache_dir=str(tmp_path)):
        yield tmp_path


def kept(folder):
    file = folder / "tuned.json"
    return json.loads(file.read_text()) if file.exists() else {}


def draw(*shape, seed=0):
    return np.random.default_rng([seed, *shape]).standard_normal(shape).astype(np.float32)


def product(m=70, k=90, n=130):
    a, b = draw(m, k), draw(k, n, seed=1)
    with tf.Graph().as_default(), tf.Session() as sess:
        x, y = (tf.placeholder(tf.float32, t.shape) for t in (a, b))
        return sess.run(tf.matmul(x, y), {x: a, y: b}), a.astype(np.float64) @ b


def filter_gradient():
    """A convolution read from slabs of the image, and its gradients."""
    a, w = draw(2, 12, 13, 16), draw(3, 3, 16, 16, seed=1)
    with tf.Graph().as_default(), tf.Session() as sess:
        x, ws = (tf.placeholder(tf.float32, t.shape) for t in (a, w))
        y = tf.nn.conv2d(x, ws, [1, 1, 1, 1], "SAME")
        return sess.run([y, *tf.gradients(tf.reduce_sum(tf.square(y)), [x, ws])], {x: a, ws: w})


def test_nothing_is_measured_or_kept_without_the_flag(folder, monkeypatch):
    monkeypatch.setattr(tune, "seconds", lambda kernels: pytest.fail("measured"))
    got, want = product()
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
    assert kept(folder) == {} and tune.generation() == ""


def test_the_fastest_candidate_is_kept_and_used_without_measuring_again(folder, monkeypatch):
    clock = iter([5.0, 4.0, 1.0, 3.0, *[9.0] * 99])
    tried = []
    monkeypatch.setattr(tune, "seconds", lambda kernels: tried.append(kernels) or next(clock))
    with flags.override(tune=1):
        product()
    assert 3 <= len(tried) <= tune.TRIED
    (name, winner), = kept(folder).items()
    assert "[1, 70, 130, 90" in name and len(winner) == len(Cut._fields)
    first, count = tune.generation(), len(tried)
    for measuring in (1, 0):
        with flags.override(tune=measuring):
            got, want = product()
        np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
    assert len(tried) == count and first == tune.generation() != ""
    candidates = [Cut(1, 2), Cut(3, 4), Cut(5, 6)]
    monkeypatch.setattr(tune, "seconds", lambda cut: cut[0].columns)
    with flags.override(tune=1):
        assert tune.choose("of a test", candidates[::-1], lambda c: [c]) == Cut(1, 2)
    assert tune.choose("of a test", candidates[1:], lambda c: [c]) == Cut(3, 4), "a kept winner that is no candidate is not used"
    assert tune.choose("of a test", candidates[::-1], lambda c: [c]) == Cut(1, 2)


def test_real_measurements_give_the_same_results(folder):
    plain, gradients = product()[0], filter_gradient()
    with flags.override(tune=1):
        got, want = product()
        again = filter_gradient()
    assert len(kept(folder)) >= 2
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
    np.testing.assert_allclose(got, plain, rtol=1e-4, atol=1e-4)
    for x, y in zip(again, gradients):
        np.testing.assert_allclose(x, y, rtol=1e-4, atol=1e-4 * np.abs(y).max())


@pytest.mark.parametrize("text", ["", "{", "[1, 2]", "7", '"x"'])
def test_a_file_that_cannot_be_read_is_reported_and_replaced(folder, text):
    (folder / "tuned.json").write_text(text)
    with flags.override(tune=1), pytest.warns(UserWarning, match="tuned.json cannot be read"):
        got, want = product()
    np.testing.assert_allclose(got, want, rtol=1e-4, atol=1e-4)
    assert len(kept(folder)) == 1


def test_entries_that_are_no_cuts_are_passed_over(folder, monkeypatch):
    monkeypatch.setattr(tune, "seconds", lambda cut: cut[0].columns)
    with flags.override(tune=1):
        tune.choose("one", [Cut(1, 2), Cut(3, 4)], lambda c: [c])
    name, = kept(folder)
    for wrong in ("x", [1], [1, 2, 3, "4"], None, [[1], 2, 3, 4], {"tiles": 1}):
        (folder / "tuned.json").write_text(json.dumps({name: wrong, "other": [1, 2, 1, 0]}))
        tune._loaded.clear()
        assert tune.choose("one", [Cut(3, 4), Cut(1, 2)], lambda c: [c]) == Cut(3, 4)


def test_what_other_processes_kept_stays(folder, monkeypatch):
    monkeypatch.setattr(tune, "seconds", lambda cut: cut[0].columns)
    with flags.override(tune=1):
        tune.choose("one", [Cut(1, 2), Cut(3, 4)], lambda c: [c])
        (folder / "tuned.json").write_text(json.dumps({**kept(folder), "of another process": [1, 2, 1, 0]}))
        tune.choose("two", [Cut(1, 2), Cut(3, 4)], lambda c: [c])
    assert len(kept(folder)) == 3


def test_a_folder_that_cannot_be_written_costs_a_warning_only(folder, monkeypatch):
    (folder / "file").write_text("")
    monkeypatch.setattr(tune, "seconds", lambda cut: cut[0].columns)
    with flags.override(tune=1, cache_dir=str(folder / "file" / "below")), pytest.warns(UserWarning, match="not kept|cannot be read"):
        assert tune.choose("one", [Cut(3, 4), Cut(1, 2)], lambda c: [c]) == Cut(1, 2)
        assert tune.choose("one", [Cut(3, 4), Cut(1, 2)], lambda c: [c]) == Cut(1, 2)


SCRIPT = """
import sys, numpy as np, graphflow as tf
from graphflow.codegen import tune
measured = []
real = tune.seconds
tune.SECONDS = 0.001
tune.seconds = lambda kernels: measured.append(1) or real(kernels)
x, y = tf.placeholder(tf.float32, [70, 90]), tf.placeholder(tf.float32, [90, 130])
a, b = np.full((70, 90), 0.5, np.float32), np.arange(90 * 130, dtype=np.float32).reshape(90, 130) / 8192
got = tf.Session().run(tf.matmul(x, y), {x: a, y: b})
assert np.allclose(got, a @ b, rtol=1e-4)
print(len(measured), tune.generation())
"""


def test_a_second_process_uses_the_winners_of_the_first(tmp_path):
    def run(**more):
        environment = {**os.environ, "GRAPHFLOW_CACHE_DIR": str(tmp_path), **more}
        out = subprocess.run([sys.executable, "-c", SCRIPT], env=environment, capture_output=True, text=True, timeout=120)
        assert out.returncode == 0, out.stderr
        return out.stdout.split()
    assert run() == ["0"]
    tuned, generation = run(GRAPHFLOW_TUNE="1")
    assert int(tuned) >= 2 and len(kept(tmp_path)) == 1, "a program stored before is compiled again to be measured"
    assert run(GRAPHFLOW_TUNE="1") == ["0", generation] == run()
