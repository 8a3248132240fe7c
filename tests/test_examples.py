"""Every example runs as it is, and gives the result it promises."""
from __future__ import annotations

import os
import runpy

import numpy as np
import pytest

import graphflow as tf

EXAMPLES = os.path.join(os.path.dirname(os.path.dirname(os.path.abspath(__file__))), "examples")


@pytest.fixture(autouse=True)
def _fresh():
    tf.reset_default_graph()
    yield
    tf.reset_default_graph()


def run(name, *args):
    """What the example's main() returns."""
    return runpy.run_path(os.path.join(EXAMPLES, name + ".py"))["main"](*args)


def test_every_example_has_a_test():
    here = open(__file__, encoding="utf-8").read()
    assert [n for n in sorted(os.listdir(EXAMPLES)) if n.endswith(".py") and f'run("{n[:-3]}"' not in here] == []


def test_constants():
    (total, product), matrix = run("constants")
    assert (total, product) == (5, 6) and total.dtype == np.int16
    np.testing.assert_array_equal(matrix, [[12.0]])


def test_linear_regression():
    w, b, cost = run("linear_regression")
    x = np.random.RandomState(0).uniform(-1, 1, 100)
    y = 3.0 * x + 2.0  # the example adds noise of deviation 0.1
    np.testing.assert_allclose([w, b], np.polyfit(x, y, 1), atol=0.05)
    assert 0.005 < cost < 0.02


def test_logistic_regression():
    pytest.importorskip("sklearn")
    assert run("logistic_regression") > 0.87


def test_xor():
    hypothesis, accuracy = run("xor")
    assert accuracy == 1.0
    np.testing.assert_allclose(hypothesis, [[0], [1], [1], [0]], atol=0.05)


def test_mlp():
    pytest.importorskip("sklearn")
    assert run("mlp") > 0.9


def test_convnet():
    pytest.importorskip("sklearn")
    assert run("convnet") > 0.9


def test_gradients_by_hand():
    found, exact, numeric = run("gradients_by_hand")
    np.testing.assert_allclose(found, [1, 1], atol=1e-6)
    np.testing.assert_allclose(exact, numeric, rtol=1e-6)


def test_save_restore(tmp_path):
    before, restored, after, step = run("save_restore", str(tmp_path))
    assert restored == before > after
    assert step == 200
    assert tf.train.latest_checkpoint(str(tmp_path)) == str(tmp_path / "model.ckpt-100")


def verse(tmp_path):
    """A text that is quick to learn: lines drawn from two kinds of sentences, those of the second half with words of their own."""
    r, words = np.random.RandomState(0), (["king", "crown", "sword", "horse"], ["ship", "storm", "island", "sail"])
    lines = ["ANNA:\nwhere is the %s and the %s of the %s" % tuple(r.choice(words[i >= 300], 3)) + " now" * (i % 2) for i in range(600)]
    (tmp_path / "verse.txt").write_text("\n\n".join(lines))
    return str(tmp_path / "verse.txt")


def test_char_lstm(tmp_path):
    """On the text that is there."""
    history, new, written = run("char_lstm", ["--steps", "150", "--units", "48", "--batch", "16", "--length", "32", "--sample", "120"])
    assert np.mean(history[-10:]) < history[0] - 2 and new < 4  # bits per character; the frequencies of the letters give 4.8
    assert len(written) == 120 and len(set(written)) > 8 and " " in written


def test_char_lstm_learns_what_repeats(tmp_path):
    history, new, written = run("char_lstm", ["--data", verse(tmp_path), "--steps", "120", "--units", "48", "--batch", "16", "--length",
                                              "32", "--sample", "150", "--temperature", "0.3"])
    assert np.mean(history[-10:]) < 1 and new < 1  # six bits of choice in sixty characters: 0.2
    assert " of the " in written


def test_attention_classifier(tmp_path):
    """The halves of this text have words of their own."""
    losses, accuracy, baseline, (lengths, attention) = run("attention_classifier", [
        "--data", verse(tmp_path), "--steps", "60", "--parts", "2", "--shortest", "3", "--batch", "32", "--units", "16"])
    assert np.mean(losses[-10:]) < 0.3 * losses[0] and accuracy > 0.95 > baseline
    np.testing.assert_allclose(attention.sum(1), 1, rtol=1e-5)
    assert len(set(lengths)) > 1 and (attention[np.arange(attention.shape[1]) >= lengths[:, None]] == 0).all()


def test_attention_classifier_on_real_text():
    losses, accuracy, baseline, _ = run("attention_classifier", ["--steps", "100"])
    assert np.mean(losses[-20:]) < 0.95 * losses[0] and accuracy > baseline + 0.05


def test_digits(tmp_path):
    for package in ("sklearn", "tqdm", "matplotlib"):
        pytest.importorskip(package)
    assert run("digits", ["--out", str(tmp_path), "--epochs", "12"]) > 0.96
    assert (tmp_path / "learning_curve.png").read_bytes()[:4] == b"\x89PNG"
    for name in ("graph", "optimized"):
        assert (tmp_path / f"{name}.dot").read_text().startswith("digraph")
        assert "<svg" in (tmp_path / f"{name}.html").read_text()
    assert tf.train.latest_checkpoint(str(tmp_path))
