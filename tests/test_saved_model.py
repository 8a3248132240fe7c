"""`tf.saved_model`: what is written can be loaded, by signatures, with files and initialising ops; what is damaged says so."""
from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from on_gpu import QUICK

import graphflow as tf
from graphflow.flags import flags

sm = tf.saved_model


@pytest.fixture(autouse=True)
def _fresh():
    with flags.override(interpret=QUICK), tf.Graph().as_default():
        yield


def model():
    x = tf.placeholder(tf.float32, [None, 3], name="x")
    w = tf.get_variable("w", initializer=np.arange(6, dtype=np.float32).reshape(3, 2))
    return x, tf.matmul(x, w, name="y"), w


X = np.float32([[1, 2, 3]])


def test_simple_save_and_load(tmp_path):
    folder = str(tmp_path / "model")
    x, y, w = model()
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        sess.run(w.assign(w * 2))
        sm.simple_save(sess, folder, inputs={"a": x}, outputs={"b": y})
        expected = sess.run(y, {x: X})
    assert sm.loader.maybe_saved_model_directory(folder)
    with tf.Graph().as_default(), tf.Session() as sess:
        meta = sm.loader.load(sess, [sm.tag_constants.SERVING], folder)
        signature = meta.signature_def[sm.signature_constants.DEFAULT_SERVING_SIGNATURE_DEF_KEY]
        assert signature.method_name == "tensorflow/serving/predict" and meta.meta_info_def.tags == ["serve"]
        info = signature.inputs["a"]
        assert (info.name, info.dtype, [d.size for d in info.tensor_shape.dim]) == ("x:0", tf.float32.as_datatype_enum, [-1, 3])
        assert tf.TensorShape(info.tensor_shape).as_list() == [None, 3]
        found = sess.run(signature.outputs["b"].name, {info.name: X})
        np.testing.assert_array_equal(found, expected)
        assert sm.utils.get_tensor_from_tensor_info(info) is sess.graph.get_tensor_by_name("x:0")
        assert [v.op.name for v in tf.global_variables()] == ["w"]


def test_scope(tmp_path):
    folder = str(tmp_path / "model")
    x, y, _ = model()
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        sm.simple_save(sess, folder, {"x": x}, {"y": y})
    with tf.Graph().as_default(), tf.Session() as sess:
        sm.load(sess, ["serve"], folder, import_scope="m")
        assert np.array_equal(sess.run("m/y:0", {"m/x:0": X}), X @ np.arange(6).reshape(3, 2))


def test_builder_with_two_graphs_assets_and_init(tmp_path):
    folder, words = str(tmp_path / "model"), tmp_path / "words.txt"
    words.write_text("a\nb\n")
    path = tf.constant(str(words))
    tf.add_to_collection(tf.GraphKeys.ASSET_FILEPATHS, path)
    w = tf.get_variable("w", initializer=1.0)
    count = tf.get_variable("count", initializer=0, trainable=False, collections=[tf.GraphKeys.LOCAL_VARIABLES])
    init = tf.group(count.assign(7), name="init_all")
    out = tf.add(w, 1.0, name="out")
    signature = sm.signature_def_utils.build_signature_def({}, {"o": sm.utils.build_tensor_info(out)}, "m")
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        builder = sm.builder.SavedModelBuilder(folder)
        with pytest.raises(AssertionError, match="add_meta_graph_and_variables"):
            builder.add_meta_graph(["x"])
        builder.add_meta_graph_and_variables(sess, ["train", "gpu"], signature_def_map={"s": signature}, main_op=init,
                                             assets_collection=tf.get_collection(tf.GraphKeys.ASSET_FILEPATHS))
        with pytest.raises(AssertionError, match="already been saved"):
            builder.add_meta_graph_and_variables(sess, ["train"])
        builder.add_meta_graph(["serve"])
        saved = builder.save()
    assert saved == (tmp_path / "model" / "saved_model.pb").as_posix().encode()
    assert (tmp_path / "model" / "assets" / "words.txt").read_text() == "a\nb\n"
    with tf.Graph().as_default(), tf.Session() as sess:
        meta = sm.loader.load(sess, {"gpu", "train"}, folder)
        assert meta.asset_file_def[0].filename == "words.txt"
        assert sess.run([meta.signature_def["s"].outputs["o"].name, "count:0"]) == [2.0, 7]
    with tf.Graph().as_default(), tf.Session() as sess:
        assert sm.loader.load(sess, ["serve"], folder).signature_def == {}
        with pytest.raises(RuntimeError, match="could not be found"):
            sm.loader.load(sess, ["eval"], folder)


def test_signatures():
    text, scores, classes = tf.placeholder(tf.string, [None]), tf.zeros([2, 3]), tf.constant(["a", "b"])
    regress = sm.regression_signature_def(text, scores)
    classify = sm.classification_signature_def(text, classes, scores)
    predict = sm.predict_signature_def({"t": text}, {"s": scores})
    assert regress.method_name == "tensorflow/serving/regress" and set(classify.outputs) == {"classes", "scores"}
    assert all(map(sm.is_valid_signature, (regress, classify, predict)))
    assert not sm.is_valid_signature(sm.build_signature_def({}, {}, "tensorflow/serving/predict"))
    sparse = tf.sparse_placeholder(tf.float32, [2, 3], name="sp")
    info = sm.utils.build_tensor_info(sparse)
    assert info.coo_sparse.values_tensor_name == "sp/values:0" and [d.size for d in info.tensor_shape.dim] == [2, 3]
    assert sm.utils.get_tensor_from_tensor_info(info).values is sparse.values
    for bad in (lambda: sm.regression_signature_def(scores, scores), lambda: sm.classification_signature_def(text, None, None),
                lambda: sm.predict_signature_def({}, {"s": scores})):
        with pytest.raises(ValueError):
            bad()


def test_bad_files(tmp_path):
    folder = tmp_path / "model"
    x, y, _ = model()
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        sm.simple_save(sess, folder, {"x": x}, {"y": y})
        with pytest.raises(AssertionError, match="already exists"):
            sm.simple_save(sess, folder, {"x": x}, {"y": y})
    data = (folder / "saved_model.pb").read_bytes()
    with tf.Session() as sess, pytest.raises(OSError, match="does not exist"):
        sm.load(sess, ["serve"], tmp_path)
    for broken, kind in ((data[:-30], tf.errors.DataLossError), (data.replace(b"serve", b"serwe", 1), tf.errors.DataLossError),
                         (b"\x08\x01" + data, ValueError)):
        (folder / "saved_model.pb").write_bytes(broken)
        with tf.Graph().as_default(), tf.Session() as sess, pytest.raises(kind):
            sm.load(sess, ["serve"], folder)


ANOTHER_PROCESS = """
import sys
import numpy as np
import graphflow as tf

with tf.Session(graph=tf.Graph()) as sess:
    meta = tf.saved_model.loader.load(sess, ["serve"], sys.argv[1])
    signature = meta.signature_def["serving_default"]
    names = [signature.outputs[k].name for k in ("words", "numbers")]
    words, numbers = sess.run(names, {signature.inputs["words"].name: ["a", "z", "b"]})
    assert words.tolist() == [b"one", b"none", b"two"], words
    assert np.array_equal(numbers, np.float32([4, 4, 7])), numbers
"""


def test_another_process_with_tables_branches_and_strings(tmp_path):
    vocabulary, folder = tmp_path / "words.txt", str(tmp_path / "model")
    vocabulary.write_text("a\nb\n")
    words = tf.placeholder(tf.string, [None])
    ids = tf.contrib.lookup.index_table_from_file(str(vocabulary)).lookup(words)
    text = tf.contrib.lookup.index_to_string_table_from_tensor(["one", "two"], default_value="none").lookup(ids)
    scale = tf.get_variable("scale", initializer=3.0)
    _, numbers = tf.while_loop(lambda i, x: i < 2, lambda i, x: (i + 1, tf.cond(i > 0, lambda: x + 1, lambda: x * scale)),
                               [0, tf.cast(ids, tf.float32) + 1 / 3 + tf.cast(ids < 0, tf.float32)])
    numbers = tf.round(numbers + 2)
    with tf.Session() as sess:
        sess.run([tf.global_variables_initializer(), tf.tables_initializer()])
        sess.run(scale.assign(3.0))
        expected = sess.run([text, numbers], {words: ["a", "z", "b"]})
        assert expected[1].tolist() == [4, 4, 7]
        sm.simple_save(sess, folder, {"words": words}, {"words": text, "numbers": numbers}, legacy_init_op=tf.tables_initializer())
    vocabulary.unlink()  # the copy in the model is used
    done = subprocess.run([sys.executable, "-c", ANOTHER_PROCESS, folder], capture_output=True, text=True,
                          cwd=Path(__file__).parents[1], check=False)
    assert done.returncode == 0, done.stderr
