"""Checkpoints: round trips, the file format, partial restores, damaged files, the `checkpoint` file."""
from __future__ import annotations

import os

import numpy as np
import pytest

import graphflow as tf
from graphflow.flags import flags
from graphflow.train import checkpoint


@pytest.fixture(autouse=True)
def _fresh():
    with flags.override(interpret=1), tf.Graph().as_default():
        yield


def started():
    sess = tf.Session()
    sess.run(tf.global_variables_initializer())
    return sess


VALUES = {"f32": np.float32([[1, 2], [3, 4]]), "f64": np.float64([1.5, np.inf]), "f16": np.float16([0.5]), "i64": np.int64(7),
          "i8": np.int8([-1, 2]),
          "u8": np.uint8([255]), "flag": np.array([True, False]), "c64": np.complex64([1 + 2j]), "c128": np.complex128([[3 - 4j]]),
          "empty": np.zeros((0, 3), np.float32)}


def test_every_dtype_comes_back(tmp_path):
    variables = {n: tf.Variable(v, name=n) for n, v in VALUES.items()}
    variables["bf16"] = tf.Variable(tf.constant([1.5, -2.0], tf.bfloat16), name="bf16")
    saver = tf.train.Saver()
    with started() as sess:
        before = sess.run(variables)
        prefix = saver.save(sess, str(tmp_path / "model.ckpt"))
    with tf.Session() as sess:
        saver.restore(sess, prefix)
        for n, v in sess.run(variables).items():
            np.testing.assert_array_equal(v, before[n])
            assert v.dtype == before[n].dtype


def test_the_safetensors_package_reads_it_and_we_read_its_files(tmp_path):
    numpy_api = pytest.importorskip("safetensors.numpy")
    real = {n: v for n, v in VALUES.items() if not np.iscomplexobj(v)}
    for n, v in real.items():
        tf.Variable(v, name="scope/" + n)
    with started() as sess:
        prefix = tf.train.Saver().save(sess, str(tmp_path / "ours"))
    found = numpy_api.load_file(prefix + ".safetensors")
    assert sorted(found) == sorted("scope/" + n for n in real)
    for n, v in real.items():
        np.testing.assert_array_equal(found["scope/" + n], v)
    numpy_api.save_file({n: np.ascontiguousarray(v) for n, v in real.items()}, str(tmp_path / "theirs.safetensors"),
                        metadata={"by": "them"})
    reader = tf.train.NewCheckpointReader(str(tmp_path / "theirs"))
    for n, v in real.items():
        np.testing.assert_array_equal(reader.get_tensor(n), v)


def test_reader_and_listing(tmp_path):
    tf.Variable(np.ones((2, 3), np.float32), name="a/w")
    tf.Variable(np.int64(3), name="step")
    with started() as sess:
        prefix = tf.train.Saver().save(sess, str(tmp_path / "m"), global_step=12)
    assert prefix == str(tmp_path / "m-12")
    assert tf.train.list_variables(str(tmp_path)) == [("a/w", [2, 3]), ("step", [])]
    assert tf.train.load_variable(prefix, "step:0") == 3
    reader = tf.train.load_checkpoint(prefix)
    assert reader.get_variable_to_shape_map() == {"a/w": [2, 3], "step": []}
    assert reader.get_variable_to_dtype_map() == {"a/w": tf.float32, "step": tf.int64}
    assert reader.has_tensor("step") and not reader.has_tensor("stp")
    with pytest.raises(tf.errors.NotFoundError, match="Did you mean 'step'"):
        reader.get_tensor("stepp")
    with pytest.raises(tf.errors.NotFoundError):
        tf.train.NewCheckpointReader(str(tmp_path / "none"))


def test_partial_restore_and_renaming(tmp_path):
    a, b = tf.Variable([1.0, 2.0], name="a"), tf.Variable([3.0], name="b")
    with started() as sess:
        prefix = tf.train.Saver({"old/a": a, "b": b}).save(sess, str(tmp_path / "m"))
    with tf.Session() as sess:
        tf.train.Saver({"old/a": a}).restore(sess, prefix)
        np.testing.assert_array_equal(sess.run(a), [1, 2])
        with pytest.raises(tf.errors.FailedPreconditionError):
            sess.run(b)


def test_nothing_changes_when_one_variable_cannot_be_restored(tmp_path):
    a, b = tf.Variable([1.0, 2.0], name="a"), tf.Variable([3.0], name="b")
    saver = tf.train.Saver()
    with started() as sess:
        prefix = saver.save(sess, str(tmp_path / "m"))
        sess.run([tf.assign(a, [8.0, 9.0]), tf.assign(b, [7.0])])
        for other, error, text in ((tf.Variable([1.0], name="bb"), tf.errors.NotFoundError, "Did you mean 'b'"),
                                   (None, tf.errors.InvalidArgumentError, "rhs shape= "), (None, tf.errors.InvalidArgumentError, "dtype")):
            wrong = tf.Variable([0.0] * 3) if "rhs" in text else tf.Variable([1, 2])
            names = {"b": b, "a": wrong} if other is None else {"a": a, "bb": other}
            with pytest.raises(error, match=text):
                tf.train.Saver(names).restore(sess, prefix)
            assert sess.run([a, b])[0].tolist() == [8, 9] and sess.run(b).tolist() == [7]
        saver.restore(sess, prefix)
        assert sess.run(a).tolist() == [1, 2]


def test_reshape_on_request(tmp_path):
    a = tf.Variable(np.arange(6.0), name="a")
    with started() as sess:
        prefix = tf.train.Saver().save(sess, str(tmp_path / "m"))
    with tf.Graph().as_default():
        b = tf.Variable(np.zeros((2, 3)), name="a")
        with tf.Session() as sess:
            tf.train.Saver(reshape=True).restore(sess, prefix)
            np.testing.assert_array_equal(sess.run(b), np.arange(6.0).reshape(2, 3))
    assert a.shape == [6]


@pytest.mark.parametrize("damage", ["empty", "header", "data", "flip", "json", "entry", "dtype"])
def test_damaged_files_are_refused(tmp_path, damage):
    a = tf.Variable(np.arange(100.0), name="a")
    saver = tf.train.Saver()
    with started() as sess:
        path = saver.save(sess, str(tmp_path / "m")) + ".safetensors"
        data = bytearray(open(path, "rb").read())
        if damage == "flip":
            data[-5] ^= 1
        if damage == "json":
            data[8:12] = b"xxxx"
        if damage == "entry":
            data = data.replace(b"[100]", b"[900]")
        if damage == "dtype":
            data = data.replace(b"F64", b"Q64")
        cut = {"empty": 0, "header": 20, "data": len(data) - 8}.get(damage, len(data))
        with open(path, "wb") as f:
            f.write(data[:cut])
        sess.run(tf.assign(a, np.ones(100)))
        with pytest.raises(tf.errors.DataLossError, match="damaged"):
            saver.restore(sess, str(tmp_path / "m"))
        assert sess.run(a).tolist() == [1.0] * 100


def test_old_checkpoints_are_deleted(tmp_path):
    tf.Variable(1.0, name="a")
    saver = tf.train.Saver(max_to_keep=2)
    with started() as sess:
        for step in range(4):
            saver.save(sess, str(tmp_path / "m"), global_step=step)
    assert [os.path.basename(p) for p in saver.last_checkpoints] == ["m-2", "m-3"]
    assert sorted(p for p in os.listdir(tmp_path) if p.endswith(".safetensors")) == ["m-2.safetensors", "m-3.safetensors"]
    state = tf.train.get_checkpoint_state(str(tmp_path))
    assert state.model_checkpoint_path == tf.train.latest_checkpoint(str(tmp_path)) == str(tmp_path / "m-3")
    assert state.all_model_checkpoint_paths == [str(tmp_path / "m-2"), str(tmp_path / "m-3")]
    again = tf.train.Saver(max_to_keep=2)
    again.recover_last_checkpoints(state.all_model_checkpoint_paths + [str(tmp_path / "gone")])
    with started() as sess:
        again.save(sess, str(tmp_path / "m"), global_step=9)
    assert [os.path.basename(p) for p in again.last_checkpoints] == ["m-3", "m-9"]
    assert not tf.train.checkpoint_exists(str(tmp_path / "m-2"))


def test_hourly_checkpoints_survive(tmp_path):
    tf.Variable(1.0, name="a")
    saver = tf.train.Saver(max_to_keep=1, keep_checkpoint_every_n_hours=1e-9)
    with started() as sess:
        for step in range(3):
            saver.save(sess, str(tmp_path / "m"), global_step=step)
    assert tf.train.checkpoint_exists(str(tmp_path / "m-0")) and tf.train.checkpoint_exists(str(tmp_path / "m-2"))


def test_relative_paths(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    os.mkdir("sub")
    a = tf.Variable(1.0, name="a")
    saver = tf.train.Saver()
    with started() as sess:
        assert saver.save(sess, "./model.ckpt") == "./model.ckpt"
        assert saver.save(sess, "plain") == "plain"
        assert saver.save(sess, "sub/model", 3) == "sub/model-3"
        assert open("sub/checkpoint").read().startswith('model_checkpoint_path: "model-3"\n')
        assert tf.train.latest_checkpoint("sub") == "sub/model-3"
        saver.restore(sess, tf.train.latest_checkpoint("."))
        saver.restore(sess, tf.train.latest_checkpoint("sub"))
        assert sess.run(a) == 1.0
    assert tf.train.latest_checkpoint("nowhere") is None
    assert tf.train.get_checkpoint_state("nowhere") is None


def test_global_step_may_be_a_variable(tmp_path):
    step = tf.train.get_or_create_global_step()
    saver = tf.train.Saver(pad_step_number=True)
    with started() as sess:
        sess.run(tf.assign_add(step, 5))
        assert saver.save(sess, str(tmp_path / "m"), global_step=step).endswith("m-00000005")
        assert saver.save(sess, str(tmp_path / "m"), global_step=step.value(), write_state=False).endswith("m-00000005")


def test_a_garbled_checkpoint_file_is_no_checkpoint(tmp_path):
    (tmp_path / "checkpoint").write_text("model_checkpoint_path: what\x00is this")
    assert tf.train.get_checkpoint_state(str(tmp_path)) is None
    (tmp_path / "checkpoint").write_bytes(b"\xff\xfe\x00")
    assert tf.train.latest_checkpoint(str(tmp_path)) is None
    name = str(tmp_path / 'quote"back\\slash')
    tf.train.update_checkpoint_state(str(tmp_path), name)
    assert tf.train.get_checkpoint_state(str(tmp_path)).model_checkpoint_path == name


def test_saver_errors(tmp_path):
    with pytest.raises(ValueError, match="No variables to save"):
        tf.train.Saver()
    assert tf.train.Saver(allow_empty=True).save(tf.Session(), str(tmp_path / "m")) is None
    a = tf.Variable([1.0], name="a")
    with pytest.raises(TypeError, match="not a Variable"):
        tf.train.Saver([tf.constant(1.0)])
    with pytest.raises(TypeError, match="list or a dict"):
        tf.train.Saver(a)
    saver = tf.train.Saver()
    with tf.Session() as sess:
        with pytest.raises(tf.errors.FailedPreconditionError, match="uninitialized value a"):
            saver.save(sess, str(tmp_path / "m"))
        assert os.listdir(tmp_path) == []
        with pytest.raises(ValueError, match="when it is None"):
            saver.restore(sess, None)
        with pytest.raises(ValueError, match="not a valid checkpoint"):
            saver.restore(sess, str(tmp_path / "m"))
        with pytest.raises(ValueError, match="Parent directory"):
            saver.save(sess, str(tmp_path / "no" / "m"))
        with pytest.raises(ValueError, match="path components"):
            saver.save(sess, str(tmp_path / "m"), latest_filename="a/b")
    with pytest.raises(TypeError, match="must be a Session"):
        saver.save(None, str(tmp_path / "m"))


def test_a_failed_write_leaves_the_old_checkpoint(tmp_path, monkeypatch):
    a = tf.Variable([1.0], name="a")
    saver = tf.train.Saver()
    with started() as sess:
        prefix = saver.save(sess, str(tmp_path / "m"))
        sess.run(tf.assign(a, [2.0]))

        def full(*_):
            raise OSError(28, "No space left on device")

        monkeypatch.setattr(os, "fsync", full)
        with pytest.raises(OSError, match="No space"):
            saver.save(sess, str(tmp_path / "m"))
        monkeypatch.undo()
        saver.restore(sess, prefix)
        assert sess.run(a) == [1.0]
    assert not [p for p in os.listdir(tmp_path) if ".tmp" in p]


def test_restore_reaches_moving_averages_and_slots(tmp_path):
    w = tf.Variable([1.0], name="w")
    train = tf.train.AdamOptimizer(0.1).minimize(w * w)
    ema = tf.train.ExponentialMovingAverage(0.5)
    update = ema.apply([w])
    saver = tf.train.Saver()
    with started() as sess:
        sess.run(train)
        sess.run(update)
        prefix = saver.save(sess, str(tmp_path / "m"))
        after = [sess.run(train), sess.run(w)][1]
        saver.restore(sess, prefix)
        sess.run(train)
        np.testing.assert_array_equal(sess.run(w), after)
        average = sess.run(ema.average(w))
        tf.train.Saver(ema.variables_to_restore([w])).restore(sess, prefix)
        np.testing.assert_array_equal(sess.run(w), average)
    names = [n for n, _ in tf.train.list_variables(prefix)]
    assert names == ["beta1_power", "beta2_power", "w", "w/Adam", "w/Adam_1", "w/ExponentialMovingAverage"]


def test_init_from_checkpoint(tmp_path):
    with tf.Graph().as_default():
        tf.Variable([1.0, 2.0], name="old/w")
        tf.Variable([3.0], name="b")
        with started() as sess:
            tf.train.Saver().save(sess, str(tmp_path / "m"))
    w, b = tf.Variable([0.0, 0.0], name="new/w"), tf.Variable([0.0], name="b")
    with pytest.raises(ValueError, match="doesn't match"):
        tf.train.init_from_checkpoint(str(tmp_path), {"b": w})
    tf.train.init_from_checkpoint(str(tmp_path), {"old/": "new/", "b": b})
    with started() as sess:
        assert sess.run(w).tolist() == [1, 2] and sess.run(b).tolist() == [3]


def test_writer_is_sorted_and_aligned(tmp_path):
    path = str(tmp_path / "x.safetensors")
    checkpoint.write_file(path, {"b": (tf.float32, np.float32([1])), "a": (tf.float64, np.float64([2]))})
    data = open(path, "rb").read()
    assert int.from_bytes(data[:8], "little") % 8 == 0
    assert data[-12:] == np.float64([2]).tobytes() + np.float32([1]).tobytes()
