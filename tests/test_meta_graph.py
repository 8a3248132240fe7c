"""Graphs with their collections on disk: import_meta_graph, export_meta_graph, and the .meta file of a Saver."""
from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import graphflow as tf


def model():
    x = tf.placeholder(tf.float32, [None, 3], name="x")
    y = tf.layers.dense(x, 2, name="fc", activation=tf.nn.relu)
    y = tf.identity(y, name="y")
    loss = tf.reduce_mean(tf.square(y - 1.0), name="loss")
    train = tf.train.AdamOptimizer(0.1).minimize(loss, name="train")
    tf.add_to_collection("outputs", y)
    tf.add_to_collection("outputs", "a note")
    tf.add_to_collection("train", train)
    return x, y, train


@pytest.fixture
def data():
    return np.random.default_rng(0).normal(size=(4, 3)).astype(np.float32)


@pytest.fixture
def saved(tmp_path, data):
    """(prefix, the values of y before and after one more step) of a trained model."""
    with tf.Graph().as_default(), tf.Session() as sess:
        x, y, train = model()
        sess.run(tf.global_variables_initializer())
        sess.run(train, {x: data})
        path = tf.train.Saver(max_to_keep=2).save(sess, str(tmp_path / "m"), global_step=7)
        before = sess.run(y, {x: data})
        sess.run(train, {x: data})
        return path, before, sess.run(y, {x: data})


def test_restoring_without_the_code(saved, data):
    path, before, after = saved
    saver = tf.train.import_meta_graph(path + ".meta")
    g = tf.get_default_graph()
    with tf.Session() as sess:
        saver.restore(sess, path)
        np.testing.assert_array_equal(sess.run("y:0", {"x:0": data}), before)
        sess.run(g.get_collection("train"), {g.get_tensor_by_name("x:0"): data})
        np.testing.assert_allclose(sess.run(g.get_tensor_by_name("y:0"), {"x:0": data}), after, rtol=1e-5)
    y, note = tf.get_collection("outputs")
    assert y is g.get_tensor_by_name("y:0")
    assert note == "a note"


def test_imported_variables_are_variables(saved, data):
    path, before, _ = saved
    saver = tf.train.import_meta_graph(path + ".meta")
    assert [v.op.name for v in tf.trainable_variables()] == ["fc/kernel", "fc/bias"]
    kernel = tf.trainable_variables()[0]
    assert kernel in tf.global_variables()
    assert kernel.shape == (3, 2)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        saver.restore(sess, path)
        sess.run(kernel.assign(kernel * 2))
        bias = tf.trainable_variables()[1]
        np.testing.assert_allclose(sess.run("y:0", {"x:0": data}), np.maximum(data @ sess.run(kernel) + sess.run(bias), 0), rtol=1e-5)
        extended = tf.gradients(tf.reduce_sum(tf.get_default_graph().get_tensor_by_name("y:0")), kernel)[0]
        assert sess.run(extended, {"x:0": data}).shape == (3, 2)
        again = saver.save(sess, path)
        assert tf.train.latest_checkpoint(path.rsplit("/", 1)[0]) == again


def test_import_scope_and_input_map(saved, data):
    path, _, _ = saved
    mine = tf.placeholder(tf.float32, [None, 3], name="mine")
    saver = tf.train.import_meta_graph(path + ".meta", import_scope="old", input_map={"x:0": mine})
    assert [v.op.name for v in tf.trainable_variables()] == ["old/fc/kernel", "old/fc/bias"]
    kernel, bias = tf.trainable_variables()
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        expected = np.maximum(data @ sess.run(kernel) + sess.run(bias), 0)
        np.testing.assert_allclose(sess.run("old/y:0", {mine: data}), expected, rtol=1e-5)
        with pytest.raises(tf.errors.NotFoundError, match="old/fc"):
            saver.restore(sess, path)


def test_export_and_import_in_memory():
    with tf.Graph().as_default():
        with tf.device("/cpu:0"):
            v = tf.Variable(3.0, name="v")
        tf.add_to_collection("mine", v)
        tf.add_to_collection("other", 5)
        tf.add_to_collection("other", object())
        meta = tf.train.export_meta_graph(clear_devices=True)
        part = tf.train.export_meta_graph(collection_list=["other"])
    assert set(meta.collection_def) == {"variables", "trainable_variables", "mine", "other"}
    assert set(part.collection_def) == {"other"}
    saver = tf.train.import_meta_graph(meta)
    mine, = tf.get_collection("mine")
    assert mine is tf.global_variables()[0]
    assert tf.get_collection("other") == [5]
    assert mine.device == ""
    assert isinstance(saver, tf.train.Saver)
    with tf.Session() as sess:
        sess.run(mine.initializer)
        assert sess.run(mine) == 3


def test_no_variables_no_saver():
    with tf.Graph().as_default():
        tf.constant(1, name="c")
        meta = tf.train.export_meta_graph()
    assert tf.train.import_meta_graph(meta) is None
    assert tf.get_default_graph().get_tensor_by_name("c:0").dtype is tf.int32


def test_savers_with_other_names(tmp_path):
    with tf.Graph().as_default(), tf.Session() as sess:
        v = tf.Variable(2.0, name="v")
        tf.Variable(1.0, name="w")
        sess.run(v.initializer)
        path = tf.train.Saver({"renamed": v}).save(sess, str(tmp_path / "m"))
    saver = tf.train.import_meta_graph(path + ".meta")
    with tf.Session() as sess:
        saver.restore(sess, path)
        assert sess.run("v:0") == 2


@pytest.mark.parametrize("text", [b"{}", b"\x00\xff", b'{"meta_graph_format": 9}',
                                  b'{"meta_graph_format": 1, "graph": 3, "collections": {}, "saver": null}',
                                  b'{"meta_graph_format": 1, "graph": {"format": 1, "node": []}, '
                                  b'"collections": {"a": [{"node": "b"}]}, "saver": null}'])
def test_damaged_files(tmp_path, text):
    path = tmp_path / "bad.meta"
    path.write_bytes(text)
    with pytest.raises(ValueError, match=r"Cannot parse|do not fit"):
        tf.train.import_meta_graph(str(path))
    with pytest.raises(OSError, match="does not exist"):
        tf.train.import_meta_graph(str(tmp_path / "none.meta"))


def test_a_meta_file_cut_short_or_flipped(saved):
    path = saved[0] + ".meta"
    with open(path, "rb") as f:
        data = f.read()
    for at in [0, 1, 10, *range(30, len(data), len(data) // 40), len(data) - 5]:
        for damaged in (data[:at], data[:at] + bytes([data[at] ^ 1]) + data[at + 1:]):
            with open(path, "wb") as f:
                f.write(damaged)
            with pytest.raises(tf.errors.DataLossError, match="at byte"):
                tf.train.import_meta_graph(path)
            assert not tf.get_default_graph().get_operations()


PYTHON_IS_MISSING = """
import sys
import numpy as np
import pytest
import graphflow as tf

with tf.Session() as sess:
    saver = tf.train.import_meta_graph(sys.argv[1] + ".meta")
    saver.restore(sess, sys.argv[1])
    g = tf.get_default_graph()
    x, y, called, z = [g.get_tensor_by_name(name + ":0") for name in ("IteratorGetNext", "y", "cond/Merge", "z")]
    assert (x.dtype, x.shape.as_list(), x.op.type) == (tf.float32, [None], "NotSaved")
    assert sess.run(y, {x: [1, 2]}).tolist() == [3, 6]
    assert sess.run([called, z], {x: [1, 2], "big:0": False}) == [-1, 2]
    for fetch, feed in ((y, {}), (g.get_operation_by_name("MakeIterator"), {}), (called, {x: [1, 2], "big:0": True})):
        with pytest.raises(tf.errors.FailedPreconditionError, match="Feed what it gave"):
            sess.run(fetch, feed)
    with pytest.raises(LookupError, match="its gradient is a Python function"):
        tf.gradients(z, x)
"""


def test_python_objects_are_not_in_the_file(tmp_path):
    with tf.Graph().as_default(), tf.Session() as sess:
        numbers = tf.data.Dataset.from_tensor_slices(np.arange(6, dtype=np.float32)).map(lambda v: v * 2)
        iterator = numbers.batch(2).make_initializable_iterator()
        x = iterator.get_next()
        w = tf.get_variable("w", initializer=3.0)
        y = tf.multiply(x, w, name="y")
        big = tf.placeholder(tf.bool, [], name="big")
        tf.cond(big, lambda: tf.py_func(lambda a: a, [tf.reduce_sum(x)], tf.float32), lambda: -x[0])
        tf.multiply(tf.custom_gradient(lambda a: (a * 1.0, lambda dy: dy * 7))(x[1]), 1.0, name="z")
        sess.run([tf.global_variables_initializer(), iterator.initializer])
        path = tf.train.Saver().save(sess, str(tmp_path / "m"))
        assert sess.run(y).tolist() == [0, 6]
        meta = tf.train.export_meta_graph()  # in this process the functions are there
        assert "PyFunc" in [n.op for n in meta.graph_def.node]
        written = tf.GraphDef()
        with open(tf.train.write_graph(tf.get_default_graph(), str(tmp_path), "graph.pbtxt")) as f:
            written.ParseFromString(f.read())
        lost = [n.attr["kind"] for n in written.node if n.op == "NotSaved"]
        assert sorted(lost) == ["IteratorGetNext", "IteratorV2", "MakeIterator", "PyFunc"]
        assert tf.get_default_graph().as_graph_def() == written
    done = subprocess.run([sys.executable, "-W", "ignore", "-c", PYTHON_IS_MISSING, path], capture_output=True, text=True,
                          cwd=Path(__file__).parents[1], check=False, env={**os.environ, "GRAPHFLOW_INTERPRET": "1"})
    assert done.returncode == 0, done.stderr


LATE_OPS = """
import importlib, pkgutil, sys
import graphflow
from graphflow.graph_def import _LATE_OPS, _definition
from graphflow.ops.opdef import REGISTRY
at_once = set(REGISTRY)
_definition("no such op")  # loads what an imported graph may need
known = set(REGISTRY)
for module in pkgutil.walk_packages(graphflow.__path__, "graphflow."):
    if not module.name.endswith("__main__"):
        importlib.import_module(module.name)
late = {t: REGISTRY[t].__module__ for t in set(REGISTRY) - known}
assert not {t: m for t, m in late.items() if not m.startswith("graphflow.passes.")}, late  # passes make ops that no graph has when exported
assert len(known) > len(at_once)
"""


def test_graphs_with_ops_of_modules_not_yet_loaded():
    done = subprocess.run([sys.executable, "-c", LATE_OPS], capture_output=True, text=True, cwd=Path(__file__).parents[1], check=False)
    assert done.returncode == 0, done.stderr
