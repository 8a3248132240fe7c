"""`graphflow run`, the names of TensorFlow's own modules, Python 2 sources, and the report of graphs that grow."""
from __future__ import annotations

import importlib
import os
import subprocess
import sys
import warnings
from pathlib import Path

import numpy as np
import pytest

import graphflow as tf
from graphflow.compat import layout, python2
from graphflow.compat.imports import install

ROOT = Path(__file__).parents[1]


def run(folder, text, *args, name="script.py", before=(), **more):
    script = folder / name
    script.write_text(text, encoding="utf-8")
    env = {**os.environ, "PYTHONPATH": str(ROOT), **more}
    return subprocess.run([sys.executable, "-m", "graphflow", "run", *before, str(script), *args], env=env, cwd=folder, capture_output=True,
                          text=True, timeout=120)


def test_a_script_runs_as_it_is(tmp_path):
    (tmp_path / "beside.py").write_text("import tensorflow.compat.v1 as tf\ndef double(x): return tf.multiply(x, 2)\n")
    done = run(tmp_path, """
import sys
import numpy as np
import tensorflow as tf
from tensorflow.python.framework import ops
from tensorflow.contrib import rnn
from tensorflow.examples.tutorials.mnist import input_data
import beside
ops.reset_default_graph()
assert __name__ == "__main__" and sys.argv[1:] == ["--steps", "3"] and rnn.LSTMCell and input_data.read_data_sets
assert np.float is float
with tf.Session() as sess:
    print(tf.__version__, sess.run(beside.double(tf.constant(4.0))))
sys.exit(3)
""", "--steps", "3")
    assert (done.returncode, done.stdout) == (3, "1.15.0 8.0\n"), done.stderr


def test_an_installed_tensorflow_is_not_touched(tmp_path):
    (tmp_path / "site" / "tensorflow").mkdir(parents=True)
    (tmp_path / "site" / "tensorflow" / "__init__.py").write_text("raise SystemExit('the other one')")
    done = run(tmp_path, "import tensorflow as tf, tensorflow.contrib.layers\nprint(tf.constant(1).dtype.name)",
               PYTHONPATH=f"{ROOT}{os.pathsep}{tmp_path / 'site'}")
    assert (done.returncode, done.stdout) == (0, "int32\n"), done.stderr


def test_a_traceback_begins_at_the_script(tmp_path):
    done = run(tmp_path, "import tensorflow as tf\ndef f():\n    return tf.matmull(1, 2)\nf()\n")
    lines = done.stderr.splitlines()
    assert done.returncode == 1 and "script.py" in lines[1] and "line 4" in lines[1]
    assert lines[-1].endswith("Did you mean 'matmul'?")


def test_files_that_cannot_be_run(tmp_path):
    missing = subprocess.run([sys.executable, "-m", "graphflow", "run", "nowhere.py"], capture_output=True, text=True, cwd=tmp_path,
                             env={**os.environ, "PYTHONPATH": str(ROOT)}, timeout=60)
    assert missing.returncode == 2 and "cannot read nowhere.py" in missing.stderr
    broken = run(tmp_path, "def f(:\n")
    assert broken.returncode == 2 and "script.py:1" in broken.stderr and "--python2" not in broken.stderr


OLD = """import tensorflow as tf, helper
print "half", 7 / 2, 7.0 / 2
n = 9
n /= 2
for k, v in {'a': n}.iteritems(): print k, v, helper.half(5)
print tf.Session().run(tf.constant([1., 2.]) / 2)
"""


def test_python2_gets_a_message_and_runs_when_asked_to(tmp_path):
    (tmp_path / "helper.py").write_text("def half(n):\n\tprint 'x',\n\treturn n / 2\n")
    done = run(tmp_path, OLD)
    assert done.returncode == 2 and "script.py:2 is Python 2" in done.stderr and "--python2" in done.stderr
    done = run(tmp_path, OLD, before=["--python2"])
    assert (done.returncode, done.stdout) == (0, "half 3 3.5\nx a 4 2\n[0.5 1. ]\n"), done.stderr
    assert (tmp_path / "script.py").read_text() == OLD
    done = run(tmp_path, "import helper\n", name="new.py")
    assert done.returncode == 1 and "helper.py is Python 2" in done.stderr


def test_true_division_of_python2():
    names = {"q": None}
    exec(python2.compiled(b"from __future__ import division\nq = 7 / 2\n", "<a>"), names)
    assert names["q"] == 3.5
    names = {python2.DIVIDE: python2.quotient, python2.DIVIDE_IN_PLACE: python2.quotient_in_place, "np": np}
    exec(python2.compiled(b"""
class A: pass
a, x, f = A(), [7, 8.0], np.ones(2)
a.n, same = 9, f
a.n /= 2
x[0] /= 2; x[1] /= 2
f /= 4
whole = np.array([7, 9]) / 2
""", "<c>"), names)
    assert names["a"].n == 4 and names["x"] == [3, 4.0] and names["whole"].tolist() == [3, 4]
    assert names["f"] is names["same"] and names["same"].tolist() == [0.25, 0.25]
    with pytest.raises(SyntaxError, match="neither"):
        python2.compiled(b"def f(:\n", "<b>")


@pytest.fixture
def tensorflow():
    before = {n for n in sys.modules if n.split(".")[0] == "tensorflow"}
    finders = list(sys.meta_path)
    install()
    yield importlib.import_module("tensorflow")
    sys.meta_path[:] = finders
    for name in [n for n in sys.modules if n.split(".")[0] == "tensorflow" and n not in before]:
        del sys.modules[name]


def test_every_module_of_the_layout_has_names(tensorflow):
    empty = []
    for name in sorted(layout._modules()):
        module = importlib.import_module(f"tensorflow.{name}")
        assert module is importlib.import_module(f"graphflow.{name}")
        if layout._modules()[name] and not dir(module):
            empty.append(name)
    assert not empty


@pytest.mark.parametrize("path, public", [
    ("python.ops.array_ops.concat", "concat"), ("python.ops.rnn_cell_impl.LSTMStateTuple", "nn.rnn_cell.LSTMStateTuple"),
    ("python.framework.errors_impl.InvalidArgumentError", "errors.InvalidArgumentError"), ("python.platform.gfile.Exists", "gfile.Exists"),
    ("python.training.saver.Saver", "train.Saver"), ("core.protobuf.config_pb2.ConfigProto", "ConfigProto"),
    ("core.framework.summary_pb2.Summary", "Summary"), ("core.example.example_pb2.Example", "train.Example"),
    ("python.framework.ops.name_scope", "name_scope"), ("python.ops.gradients_impl.gradients", "gradients"),
    ("python.data.ops.dataset_ops.Dataset", "data.Dataset"), ("python.summary.summary.scalar", "summary.scalar")])
def test_private_paths_are_public_names(tensorflow, path, public):
    module, _, name = path.rpartition(".")
    want = tf
    for part in public.split("."):
        want = getattr(want, part)
    assert getattr(importlib.import_module(f"tensorflow.{module}"), name) is want


@pytest.mark.parametrize("statement, message", [
    ("import tensorflow.nonesuch", "No module named 'tensorflow.nonesuch'"), ("import tensorflow.matmul", "not a module"),
    ("import tensorflow.python.ops.arry_ops", "python.ops.array_ops"), ("import tensorflow.keras", "not in this release")])
def test_unknown_modules_say_what_is_near(tensorflow, statement, message):
    with pytest.raises(ModuleNotFoundError, match=message):
        exec(statement)


def test_unknown_names_of_a_module_say_what_is_near(tensorflow):
    with pytest.raises(AttributeError, match="Did you mean 'matmul'"):
        importlib.import_module("tensorflow.python.ops.math_ops").mattmul


def test_smart_cond_and_linear(tensorflow):
    from tensorflow.python.layers.utils import smart_cond
    from tensorflow.python.ops.rnn_cell_impl import _linear

    assert smart_cond(True, lambda: 1, lambda: 2) == 1
    flag, x = tf.placeholder(tf.bool, []), tf.placeholder(tf.float32, [None, 2])
    chosen = smart_cond(flag, lambda: tf.constant(3), lambda: tf.constant(4))
    y = _linear([x, x], 3, True, kernel_initializer=tf.ones_initializer())
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        assert sess.run(chosen, {flag: False}) == 4
        np.testing.assert_allclose(sess.run(y, {x: [[1, 2]]}), [[6, 6, 6]])
    with pytest.raises(TypeError, match="pred must be"):
        smart_cond("yes", lambda: 1, lambda: 2)


def test_a_line_that_adds_ops_between_runs_is_reported_once():
    v = tf.get_variable("v", [], initializer=tf.zeros_initializer())
    with tf.Session() as sess, warnings.catch_warnings(record=True) as seen:
        warnings.simplefilter("always")
        sess.run(tf.global_variables_initializer())
        good = v.assign_add(1.0)
        for _ in range(20):
            sess.run(good)
        assert not seen
        for _ in range(20):
            sess.run(v.assign_add(1.0))
    report, = seen
    assert report.filename == __file__ and "between runs" in str(report.message) and "finalize" in str(report.message)
    assert "sess.run(v.assign_add(1.0))" in Path(__file__).read_text().splitlines()[report.lineno - 1]
