"""Variables that start from checkpoints, and variables in parts in checkpoints."""
from __future__ import annotations

import numpy as np
import pytest
from on_gpu import QUICK

import graphflow as tf
from graphflow.flags import flags

T = tf.train


@pytest.fixture(autouse=True)
def _interpreted():
    with flags.override(interpret=QUICK), tf.Graph().as_default():
        yield


@pytest.fixture
def old(tmp_path):
    """A checkpoint of a/w, a/b, table."""
    with tf.Graph().as_default(), tf.Session() as sess:
        tf.get_variable("a/w", initializer=np.float32([1, 2]))
        tf.get_variable("a/b", initializer=np.float32([3]))
        tf.get_variable("table", initializer=np.arange(8, dtype=np.float32).reshape(4, 2))
        sess.run(tf.global_variables_initializer())
        return T.Saver().save(sess, str(tmp_path / "old"))


def started(variables):
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        return [x.tolist() for x in sess.run(variables)]


def parts(name="parts", rows=5, **kwargs):
    return tf.get_variable(name, [rows, 2], partitioner=tf.fixed_size_partitioner(2), **kwargs)


def test_parts_are_saved_as_one_tensor(tmp_path):
    p = parts(initializer=tf.ones_initializer())
    values = [np.arange(6, dtype=np.float32).reshape(3, 2), np.arange(6, 10, dtype=np.float32).reshape(2, 2)]
    loss = tf.reduce_sum(tf.square(tf.concat(list(p), 0)))
    train = T.MomentumOptimizer(0.0, 0.5).minimize(loss)
    saver = T.Saver()
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for v, value in zip(p, values):
            v.load(value, sess)
        sess.run(train)
        prefix = saver.save(sess, str(tmp_path / "m"))
    # As TensorFlow names them, slots too.
    assert T.list_variables(prefix) == [("parts", [5, 2]), ("parts/Momentum", [5, 2])]
    np.testing.assert_array_equal(T.load_variable(prefix, "parts"), np.arange(10).reshape(5, 2))
    with tf.Session() as sess:
        saver.restore(sess, prefix)
        assert [x.tolist() for x in sess.run(list(p))] == [v.tolist() for v in values]
    with tf.Graph().as_default():
        whole = tf.get_variable("parts", [5, 2])
        with tf.Session() as sess:
            T.Saver([whole]).restore(sess, prefix)
            np.testing.assert_array_equal(sess.run(whole), np.arange(10).reshape(5, 2))
    with tf.Graph().as_default():
        again = T.import_meta_graph(prefix + ".meta")
        with tf.Session() as sess:
            again.restore(sess, prefix)
            assert sess.run("parts/part_1:0").tolist() == values[1].tolist()
    renamed = T.Saver({"other": p})
    assert T.Saver.from_proto(renamed.to_proto()).as_saver_def() == renamed.as_saver_def()
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        assert T.list_variables(renamed.save(sess, str(tmp_path / "r"))) == [("other", [5, 2])]
        with pytest.raises(ValueError, match="only 1 of its parts"):
            T.Saver([list(p)[0]]).save(sess, str(tmp_path / "s"))
    with pytest.raises(TypeError, match="parts of a partitioned"):
        T.Saver({"both": [tf.Variable(1.0), tf.Variable(2.0)]})


def test_init_from_checkpoint(old):
    w, b, other = tf.get_variable("new/w", [2]), tf.get_variable("new/b", [1]), tf.get_variable("mine", [2])
    table = parts("table", 4)
    twice = tf.Variable(w.initialized_value() * 2.0)
    T.init_from_checkpoint(old, {"a/": "new/", "a/w": other, "table": table})
    again = tf.Variable(w.initialized_value() * 3.0)
    T.init_from_checkpoint(old, [("a/w", w)])
    with tf.Session() as sess:
        sess.run([w.initializer, b.initializer, other.initializer, *[v.initializer for v in table], again.initializer])
        found = [x.tolist() for x in sess.run([w, b, other, again, *table])]
    assert found == [[1, 2], [3], [1, 2], [3, 6], [[0, 1], [2, 3]], [[4, 5], [6, 7]]] and twice.shape == [2]
    for mapping, error in (({"a/b": w}, ValueError), ({"no": w}, tf.errors.NotFoundError), ({"a/w": "no"}, ValueError),
                           ({"a/": "no/"}, ValueError)):
        with pytest.raises(error):
            T.init_from_checkpoint(old, mapping)


def test_warm_start_by_names(old):
    w, b = tf.get_variable("a/w", [2]), tf.get_variable("bias", [1])
    tf.get_variable("other", [3], initializer=tf.zeros_initializer())
    T.warm_start(old, "a/|bias", var_name_to_prev_var_name={"bias": "a/b"})
    assert started([w, b]) == [[1, 2], [3]]
    T.warm_start(old, [w])
    T.warm_start(old, ["a/w"])
    with pytest.raises(ValueError, match="not warm-started"):
        T.warm_start(old, [w], var_name_to_prev_var_name={"elsewhere": "a/w"})
    with pytest.raises(ValueError, match="vars_to_warm_start"):
        T.warm_start(old, 3)
    with pytest.raises(TypeError, match="no variable"):
        T.warm_start(old, [3])


@pytest.mark.parametrize("split", [False, True])
def test_warm_start_with_another_vocabulary(old, tmp_path, split):
    (tmp_path / "old.txt").write_text("ant\nbee\ncat\ndog\n")
    (tmp_path / "new.txt").write_text("dog\neel\nant\n")
    table = parts("table", 4) if split else tf.get_variable("table", [4, 2])
    info = T.VocabInfo(str(tmp_path / "new.txt"), 3, 1, str(tmp_path / "old.txt"), backup_initializer=tf.constant_initializer(-1.0))
    T.warm_start(old, None, {"table": info})
    found = started(list(table) if split else [table])
    assert sum(found, []) == [[6, 7], [-1, -1], [0, 1], [-1, -1]]
    with pytest.raises(ValueError, match="4 entries"):
        T.warm_start(old, "table", {"table": info._replace(num_oov_buckets=3)})


def test_columns_of_a_vocabulary(old, tmp_path):
    (tmp_path / "old.txt").write_text("x\ny\n")
    (tmp_path / "new.txt").write_text("y\nz\nx\n")
    table = tf.get_variable("table", [4, 3])
    T.warm_start(old, "table", {"table": T.VocabInfo(str(tmp_path / "new.txt"), 3, 0, str(tmp_path / "old.txt"), axis=1)})
    assert started([table])[0] == [[1, 0, 0], [3, 0, 2], [5, 0, 4], [7, 0, 6]]
