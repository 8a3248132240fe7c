"""Checkpoints: round trips, the file format, partial restores, damaged files, the `checkpoint` file."""
from __future__ import annotations

import json
import os
import signal
import zlib

import numpy as np
import pytest
from on_gpu import QUICK

import graphflow as tf
from graphflow.flags import flags
from graphflow.proto.crc32c import crc32c, masked
from graphflow.train import bundle


@pytest.fixture(autouse=True)
def _fresh():
    with flags.override(interpret=QUICK), tf.Graph().as_default():
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


# What TensorFlow 2.21's compat.v1 Saver wrote for w = [[1, 2], [3, 4]], step = 7 and the string s = ["hi"].
TF_INDEX = bytes.fromhex(
    "00000608011a02080100010f73080712041202080128073509eb4d1501030d746570080912002007280835bbd79f11000115770801120812020802120208022"
    "00f2810354c289874000000000100000000d0bb3fb5000000000100000000c0f2a1b00001027800500000000001000000004a4aefe75508620e" + "00" * 35
    + "57fb808b247547db")
TF_DATA = bytes.fromhex("02d8d81073686907000000000000000000803f000000400000404000008040")


@pytest.fixture
def theirs(tmp_path):
    (tmp_path / "theirs.index").write_bytes(TF_INDEX)
    (tmp_path / "theirs.data-00000-of-00001").write_bytes(TF_DATA)
    return str(tmp_path / "theirs")


def test_a_checkpoint_of_tensorflow(theirs):
    assert tf.train.list_variables(theirs) == [("s", [1]), ("step", []), ("w", [2, 2])]
    assert tf.train.load_variable(theirs, "s").tolist() == [b"hi"]
    w, step = tf.Variable(np.zeros((2, 2), np.float32), name="w"), tf.Variable(np.int64(0), name="step")
    with tf.Session() as sess:
        tf.train.Saver().restore(sess, theirs)
        assert sess.run(w).tolist() == [[1, 2], [3, 4]] and sess.run(step) == 7


def test_strings_are_written_as_tensorflow_does(theirs, tmp_path):
    s = tf.Variable(["hi"], name="s")
    many = tf.Variable([["a", ""], ["b" * 300, "\u00e9"]], name="many")
    saver = tf.train.Saver()
    with started() as sess:
        path = saver.save(sess, str(tmp_path / "ours"))
    assert open(path + ".data-00000-of-00001", "rb").read().endswith(TF_DATA[:7])
    with tf.Session() as sess:
        saver.restore(sess, path)
        assert sess.run(s).tolist() == [b"hi"] and sess.run(many).tolist() == [[b"a", b""], [b"b" * 300, "\u00e9".encode()]]


def test_every_damaged_byte_of_it_is_found(theirs):
    for path, data in ((theirs + ".index", TF_INDEX), (theirs + ".data-00000-of-00001", TF_DATA)):
        for at in range(len(data)):
            for damaged in (data[:at], data[:at] + bytes([data[at] ^ 4]) + data[at + 1:]):
                with open(path, "wb") as f:
                    f.write(damaged)
                try:
                    reader = tf.train.NewCheckpointReader(theirs)
                    found = {n: reader.get_tensor(n).tolist() for n in reader.names()}
                except tf.errors.DataLossError as e:
                    assert "at byte" in str(e)
                    continue
                # Bytes that say nothing: the padding of the footer, and unused parts of tables.
                assert len(damaged) == len(data) and found == {"s": [b"hi"], "step": 7, "w": [[1, 2], [3, 4]]}, (path, at)
        with open(path, "wb") as f:
            f.write(data)


# What the same Saver wrote in format V1 for w = [[1, 2], [3, 4]], step = 7 and i = [-3, 5].
TF_V1 = bytes.fromhex(
    "00003c0a3a0a0f0a0169120412020802180322020a000a0c0a04737465701200180922000a150a017712081202080212020802180122040a000a0012020801000818"
    "006900010101807f12160a016912020a001a0d3a0bfdffffffffffffffff010501070f73746570000100120d0a047374657012001a0352010701091f770001010280"
    "7f807f121d0a017712040a000a001a122a100000803f000000400000404000008040000000000100000000feeded1c000000000100000000c0f2a1b00001030100ae"
    "0100000000010000000038195cafb30108c0010f" + "00" * 34 + "57fb808b247547db")


def test_a_checkpoint_of_format_v1(tmp_path):
    path = tmp_path / "old.ckpt"
    path.write_bytes(TF_V1)
    expected = {"i": [-3, 5], "step": 7, "w": [[1, 2], [3, 4]]}
    w = tf.Variable(np.zeros((2, 2), np.float32), name="w")
    with tf.Session() as sess:
        tf.train.Saver().restore(sess, str(path))
        assert sess.run(w).tolist() == expected["w"] and tf.train.checkpoint_exists(str(path))
    for at in range(len(TF_V1)):
        for damaged in (TF_V1[:at], TF_V1[:at] + bytes([TF_V1[at] ^ 4]) + TF_V1[at + 1:]):
            path.write_bytes(damaged)
            try:
                reader = tf.train.NewCheckpointReader(str(path))
                found = {n: reader.get_tensor(n).tolist() for n in reader.names()}
            except tf.errors.DataLossError as e:
                assert "at byte" in str(e)
                continue
            assert len(damaged) == len(TF_V1) and found == expected, at
    tf.train.remove_checkpoint(str(path))
    assert not path.exists()


def test_tables_of_several_blocks_shared_prefixes_and_snappy():
    pairs = [(b"key%06d" % i, b"v" * 700) for i in range(400)]
    assert bundle.read_table(bundle.write_table(pairs)) == dict(pairs)
    # By Snappy's description of its format: nine bytes; the literal "ab"; four from two back; the literal "c"; two from one back.
    assert bundle._unsnapped(bytes([9, 1 << 2]) + b"ab" + bytes([1, 2, 0]) + b"c" + bytes([1 << 2 | 2, 1, 0]), 0) == b"ababab" + b"ccc"


def test_parts_of_a_partitioned_variable_are_put_together(tmp_path):
    rows = np.arange(12, dtype=np.float32).reshape(4, 3)
    message = bundle._message

    def shape(*sizes):
        return 2, b"".join(message((2, message((1, n)))) for n in sizes)

    pairs, slices = {b"": message((1, 1))}, b""
    for k in range(2):
        part = rows[2 * k:2 * k + 2]
        slices += message((7, message((1, message((1, 2 * k), (2, 2))), (1, b""))))
        pairs[bundle._slice_key("p", [(2 * k, 2), (0, -1)])] = message((1, 1), shape(2, 3), (4, 24 * k), (5, 24)) + _sum(part)
    pairs[b"p"] = message((1, 1), shape(4, 3)) + slices
    (tmp_path / "m.index").write_bytes(bundle.write_table(sorted(pairs.items())))
    (tmp_path / "m.data-00000-of-00001").write_bytes(rows.tobytes())
    np.testing.assert_array_equal(tf.train.load_variable(str(tmp_path / "m"), "p"), rows)
    assert bundle._slice_key("parts", [(3, 2), (0, 300)]).hex() == "00706172747300010102838280c12c"  # as TensorFlow writes it


def _sum(array):
    return b"\x35" + masked(crc32c(array.tobytes())).to_bytes(4, "little")


def test_tensorflow_names_of_files(tmp_path):
    tf.Variable(1.0, name="a")
    saver = tf.train.Saver()
    with started() as sess:
        path = saver.save(sess, str(tmp_path / "model.ckpt"), global_step=100)
    assert sorted(os.listdir(tmp_path)) == ["checkpoint", *["model.ckpt-100" + s for s in (".data-00000-of-00001", ".index", ".meta")]]
    tf.train.remove_checkpoint(path)
    assert os.listdir(tmp_path) == ["checkpoint"] and not tf.train.checkpoint_exists(path)


def test_sums_go_on():
    data = np.random.default_rng(0).integers(0, 256, 9_000_001, dtype=np.uint8)
    whole = crc32c(data)
    for cut in (3, 5000, 4_200_002, 9_000_000):
        assert crc32c(data[cut:].tobytes(), crc32c(data[:cut].tobytes())) == whole


@pytest.mark.parametrize("killed_at", [0, 1, 2, 3])
def test_a_save_that_is_killed_leaves_a_whole_checkpoint(tmp_path, monkeypatch, killed_at):
    a, b = tf.Variable(np.zeros(1000), name="a"), tf.Variable(np.zeros(1000), name="b")
    both = tf.group(a.assign_add(tf.ones([1000], tf.float64)), b.assign_add(tf.ones([1000], tf.float64)))
    saver = tf.train.Saver()
    with started() as sess:
        prefix = saver.save(sess, str(tmp_path / "m"))
        sess.run(both)
        if (child := os.fork()) == 0:
            rename, seen = os.replace, []

            def replace(*names):
                if len(seen) == killed_at:
                    os.kill(os.getpid(), signal.SIGKILL)
                seen.append(names)
                rename(*names)

            os.replace = replace
            saver.save(sess, prefix)
            os._exit(0)
        assert os.waitpid(child, 0)[1] == signal.SIGKILL
        sess.run(both)
        saver.restore(sess, prefix)
        found = sess.run([a, b])
        expected = 1.0 if killed_at > 1 else 0.0  # from the second renaming on, the new one counts
        assert all((x == expected).all() for x in found)
        sess.run(both)
        saver.save(sess, prefix)
        saver.restore(sess, prefix)
        assert (sess.run(b) == expected + 1).all()


def _safetensors(arrays, metadata=None):
    """A file of that format, by its description."""
    codes = {"float32": "F32", "float64": "F64", "int64": "I64"}
    header, at = {} if metadata is None else {"__metadata__": metadata}, 0
    for n, v in arrays.items():
        header[n] = {"dtype": codes[v.dtype.name], "shape": list(v.shape), "data_offsets": [at, at + v.nbytes]}
        at += v.nbytes
    text = json.dumps(header).encode()
    return len(text).to_bytes(8, "little") + text + b"".join(v.tobytes() for v in arrays.values())


def test_checkpoints_of_earlier_versions_are_read(tmp_path):
    value = np.arange(100.0)
    sums = json.dumps({"a": zlib.crc32(value.tobytes()), "c": zlib.crc32(np.float64([1, 2]).tobytes())})
    path = tmp_path / "m.safetensors"
    path.write_bytes(_safetensors({"a": value, "c": np.float64([[1, 2]])}, {"crc32": sums, "complex": json.dumps({"c": "complex128"})}))
    a, c = tf.Variable(np.zeros(100), name="a"), tf.Variable(np.zeros(1, np.complex128), name="c")
    saver = tf.train.Saver()
    with tf.Session() as sess:
        saver.restore(sess, str(tmp_path / "m"))
        np.testing.assert_array_equal(sess.run(a), value)
        assert sess.run(c).tolist() == [1 + 2j]
        again = saver.save(sess, str(tmp_path / "m"))
        sess.run(tf.global_variables_initializer())
        path.write_bytes(b"")  # the new files count
        saver.restore(sess, again)
        np.testing.assert_array_equal(sess.run(a), value)


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
def test_damaged_files_of_earlier_versions_are_refused(tmp_path, damage):
    a = tf.Variable(np.ones(100), name="a")
    value = np.arange(100.0)
    data = bytearray(_safetensors({"a": value}, {"crc32": json.dumps({"a": zlib.crc32(value.tobytes())})}))
    if damage == "flip":
        data[-5] ^= 1
    if damage == "json":
        data[8:12] = b"xxxx"
    if damage == "entry":
        data = data.replace(b"[100]", b"[900]")
    if damage == "dtype":
        data = data.replace(b"F64", b"Q64")
    cut = {"empty": 0, "header": 20, "data": len(data) - 8}.get(damage, len(data))
    (tmp_path / "m.safetensors").write_bytes(data[:cut])
    with started() as sess:
        with pytest.raises(tf.errors.DataLossError, match="damaged.*at byte"):
            tf.train.Saver().restore(sess, str(tmp_path / "m"))
        assert sess.run(a).tolist() == [1.0] * 100


def test_nothing_is_restored_from_a_damaged_checkpoint(tmp_path):
    a, b = tf.Variable(np.arange(100.0), name="a"), tf.Variable(np.arange(100.0), name="b")
    saver = tf.train.Saver()
    with started() as sess:
        prefix = saver.save(sess, str(tmp_path / "m"))
        with open(prefix + ".data-00000-of-00001", "r+b") as f:
            f.seek(1500)
            f.write(b"\xff")
        sess.run([a.assign(np.ones(100)), b.assign(np.ones(100))])
        with pytest.raises(tf.errors.DataLossError, match="data of 'b' do not match.*at byte 800"):
            saver.restore(sess, prefix)
        assert sess.run(a).tolist() == [1.0] * 100


def test_saver_def():
    tf.Variable(1.0, name="a")
    b = tf.Variable(1.0, name="b")
    saver = tf.train.Saver({"old": b}, max_to_keep=3)
    made = tf.train.Saver.from_proto(saver.to_proto())
    assert made.as_saver_def() == saver.as_saver_def() and saver.saver_def.max_to_keep == 3
    assert saver.to_proto(export_scope="elsewhere") is None
    with pytest.raises(ValueError, match="must not be"):
        tf.train.Saver([b], saver_def=saver.as_saver_def())
    with pytest.raises(ValueError, match="build cannot be deferred"):
        tf.train.Saver([b], defer_build=True)
    with tf.Graph().as_default():
        tf.Variable(1.0, name="c")
        with pytest.raises(ValueError, match="variable b of the SaverDef"):
            tf.train.Saver(saver_def=saver.as_saver_def())


def test_old_checkpoints_are_deleted(tmp_path):
    tf.Variable(1.0, name="a")
    saver = tf.train.Saver(max_to_keep=2)
    with started() as sess:
        for step in range(4):
            saver.save(sess, str(tmp_path / "m"), global_step=step)
    assert [os.path.basename(p) for p in saver.last_checkpoints] == ["m-2", "m-3"]
    assert sorted(p for p in os.listdir(tmp_path) if not p.endswith(".meta")) == [
        "checkpoint", "m-2.data-00000-of-00001", "m-2.index", "m-3.data-00000-of-00001", "m-3.index"]
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
