"""Readers and ops on files."""
from __future__ import annotations

import gzip
import zlib

import numpy as np
import pytest

import graphflow as tf


@pytest.fixture(autouse=True)
def fresh():
    tf.reset_default_graph()


def read_all(reader, files, most=None, epochs=1):
    """All (key, value) pairs, keys without the folder."""
    q = tf.train.string_input_producer([str(f) for f in files], num_epochs=epochs, shuffle=False)
    fetch = reader.read(q) if most is None else reader.read_up_to(q, most)
    coord, found = tf.train.Coordinator(), []
    with tf.Session() as sess:
        sess.run(tf.local_variables_initializer())
        threads = tf.train.start_queue_runners(sess, coord)
        try:
            while True:
                found.append(sess.run(list(fetch)))
        except tf.errors.OutOfRangeError as e:
            assert "is closed and has insufficient elements" in str(e)
        finally:
            coord.request_stop()
            coord.join(threads)
    if most is None:
        return [(k.rpartition(b"/")[2], v) for k, v in found]
    return [v.tolist() for _, v in found]


def test_lines(tmp_path):
    a, b, empty = tmp_path / "a", tmp_path / "b", tmp_path / "empty"
    a.write_bytes(b"one\r\ntwo\n\nfour")
    b.write_bytes(b"five\n")
    empty.write_bytes(b"")
    assert read_all(tf.TextLineReader(), [a, empty, b]) == [(b"a:1", b"one"), (b"a:2", b"two"), (b"a:3", b""), (b"a:4", b"four"),
                                                            (b"b:1", b"five")]
    tf.reset_default_graph()
    assert read_all(tf.TextLineReader(skip_header_lines=1), [a, b]) == [(b"a:2", b"two"), (b"a:3", b""), (b"a:4", b"four")]
    tf.reset_default_graph()
    assert read_all(tf.TextLineReader(), [a, b], most=3, epochs=2) == [[b"one", b"two", b""], [b"four"], [b"five"]] * 2


def test_whole_files_and_names(tmp_path):
    a, b = tmp_path / "a", tmp_path / "b"
    a.write_bytes(b"\x00\xff\n")
    b.write_bytes(b"")
    assert read_all(tf.WholeFileReader(), [a, b]) == [(b"a", b"\x00\xff\n"), (b"b", b"")]
    tf.reset_default_graph()
    assert read_all(tf.IdentityReader(), ["x", "y"]) == [(b"x", b"x"), (b"y", b"y")]
    tf.reset_default_graph()
    assert read_all(tf.IdentityReader(), ["x", "y"], most=5) == [[b"x"], [b"y"]]


@pytest.mark.parametrize("pack, encoding", [(bytes, None), (zlib.compress, "ZLIB"), (gzip.compress, "GZIP")])
def test_records_of_one_length(tmp_path, pack, encoding):
    a = tmp_path / "a"
    a.write_bytes(pack(b"HHaaabbbcccFF"))
    reader = tf.FixedLengthRecordReader(3, header_bytes=2, footer_bytes=2, encoding=encoding)
    assert read_all(reader, [a]) == [(b"a:0", b"aaa"), (b"a:1", b"bbb"), (b"a:2", b"ccc")]
    for hop, expected in ((2, [b"HHa", b"aab", b"bbc", b"ccF"]), (5, [b"HHa", b"bbb", b"cFF"])):
        tf.reset_default_graph()
        found = read_all(tf.FixedLengthRecordReader(3, hop_bytes=hop, encoding=encoding), [a])
        assert [v for _, v in found] == [b"HHaaabbbcccFF"[k:k + 3] for k in range(0, 11, hop)], expected
    with pytest.raises(ValueError, match="record_bytes"):
        tf.FixedLengthRecordReader(0)


def test_large_files_are_read_in_pieces(tmp_path):
    data = np.random.RandomState(0).bytes(300_007)
    (tmp_path / "a").write_bytes(data)
    found = read_all(tf.FixedLengthRecordReader(999, header_bytes=3, footer_bytes=5), [tmp_path / "a"])
    assert b"".join(v for _, v in found) == data[3:3 + 999 * ((300_007 - 8) // 999)]


@pytest.mark.parametrize("kind", ["NONE", "GZIP", "ZLIB"])
def test_tf_records(tmp_path, kind):
    options = tf.python_io.TFRecordOptions(getattr(tf.python_io.TFRecordCompressionType, kind))
    with tf.python_io.TFRecordWriter(str(tmp_path / "a"), options) as writer:
        for record in (b"one", b"", b"three"):
            writer.write(record)
    reader = tf.TFRecordReader(options=options)
    assert read_all(reader, [tmp_path / "a"]) == [(b"a:0", b"one"), (b"a:19", b""), (b"a:35", b"three")]


def test_damaged_and_missing_files(tmp_path):
    with tf.python_io.TFRecordWriter(str(tmp_path / "bad")) as writer:
        writer.write(b"record")
    data = bytearray((tmp_path / "bad").read_bytes())
    data[14] ^= 1
    (tmp_path / "bad").write_bytes(data)
    (tmp_path / "good").write_bytes(b"line\n")
    q = tf.FIFOQueue(5, tf.string, [[]])
    reader, lines = tf.TFRecordReader(), tf.TextLineReader()
    x = tf.placeholder(tf.string, [])
    put, (_, value), (_, line), total = q.enqueue(x), reader.read(q), lines.read(q), lines.num_work_units_completed()
    with tf.Session() as sess:
        sess.run(put, {x: str(tmp_path / "bad")})
        with pytest.raises(tf.errors.DataLossError, match="bad"):
            sess.run(value)
        for name in ("missing", "good"):
            sess.run(put, {x: str(tmp_path / name)})
        with pytest.raises(tf.errors.NotFoundError, match=r"(?s)missing; No such file.*ReaderReadV2"):
            sess.run(line)
        assert sess.run(line) == b"line" and sess.run(total) == 1  # goes on with the next file


def test_counts_and_states(tmp_path):
    q = tf.FIFOQueue(9, tf.string, [[]])
    reader, lines = tf.IdentityReader(), tf.TextLineReader()
    key, _ = reader.read(q)
    produced, completed, state = reader.num_records_produced(), reader.num_work_units_completed(), reader.serialize_state()
    old = tf.placeholder(tf.string, [])
    restore, reset = reader.restore_state(old), reader.reset()
    assert reader.supports_serialize and not lines.supports_serialize and reader.reader_ref.op.type == "IdentityReaderV2"
    with tf.Session() as sess:
        sess.run(q.enqueue_many([["a", "b", "c"]]))
        assert sess.run(key) == b"a"
        kept = sess.run(state)
        assert sess.run(key) == b"b" and sess.run([produced, completed]) == [2, 2]
        sess.run(restore, {old: kept})
        assert sess.run([produced, completed]) == [1, 1]
        sess.run(reset)
        assert sess.run([produced, completed]) == [0, 0]
        with pytest.raises(tf.errors.InvalidArgumentError, match="Could not parse state"):
            sess.run(restore, {old: b"nonsense"})
        with pytest.raises(tf.errors.UnimplementedError):
            sess.run(lines.serialize_state())


def test_files_as_ops(tmp_path):
    name, text = tf.placeholder(tf.string, []), tf.placeholder(tf.string, [])
    write, read = tf.write_file(name, text), tf.read_file(name)
    path = str(tmp_path / "deep" / "x.txt")
    with tf.Session() as sess:
        sess.run(write, {name: path, text: b"\x00abc"})
        assert sess.run(read, {name: path}) == b"\x00abc" and read.shape.as_list() == []
        fixed = tf.read_file(path)
        assert sess.run(fixed) == b"\x00abc"
        sess.run(write, {name: path, text: "new"})
        assert sess.run(fixed) == b"new"  # read at each run
        with pytest.raises(tf.errors.NotFoundError, match="nothing; No such file"):
            sess.run(read, {name: str(tmp_path / "nothing")})
        for n in "ba":
            (tmp_path / f"{n}.csv").write_text(n)
        found = tf.matching_files(str(tmp_path / "*.csv"))
        assert found.shape.as_list() == [None]
        assert [v.rpartition(b"/")[2] for v in sess.run(found)] == [b"a.csv", b"b.csv"]
        assert sess.run(tf.matching_files([str(tmp_path / "a*"), str(tmp_path / "no*")])).tolist() == [str(tmp_path / "a.csv").encode()]


def test_names_matched_once(tmp_path):
    (tmp_path / "a").write_text("1\n2\n")
    files = tf.train.match_filenames_once(str(tmp_path / "*"))
    q = tf.train.string_input_producer(files, shuffle=False)
    _, line = tf.TextLineReader().read(q)
    coord = tf.train.Coordinator()
    with tf.Session() as sess:
        sess.run([tf.global_variables_initializer(), tf.local_variables_initializer()])
        assert sess.run(files).tolist() == [str(tmp_path / "a").encode()]
        (tmp_path / "b").write_text("3\n")
        threads = tf.train.start_queue_runners(sess, coord)
        assert [sess.run(line) for _ in range(5)] == [b"1", b"2", b"1", b"2", b"1"]
        coord.request_stop()
        coord.join(threads)


def test_nothing_to_read_is_an_error():
    q = tf.train.string_input_producer(tf.placeholder_with_default(np.zeros(0, object), [None]))
    coord = tf.train.Coordinator()
    with tf.Session() as sess:
        threads = tf.train.start_queue_runners(sess, coord)
        with pytest.raises(tf.errors.OutOfRangeError):
            sess.run(q.dequeue())
        with pytest.raises(tf.errors.InvalidArgumentError, match="non-null"):
            coord.join(threads)


def test_a_summary_tells_how_full_queues_are():
    tf.train.string_input_producer(["a"])
    tf.train.batch([tf.constant(1)], 2, capacity=10)
    tf.train.shuffle_batch([tf.constant(1)], 2, capacity=10, min_after_dequeue=4)
    tags = [s.op.name for s in tf.get_collection(tf.GraphKeys.SUMMARIES)]
    assert tags == ["input_producer/fraction_of_32_full", "batch/fraction_of_10_full", "shuffle_batch/fraction_over_4_of_6_full"]
    with tf.Session() as sess:
        merged = tf.Summary.FromString(sess.run(tf.summary.merge_all()))
        assert [v.simple_value for v in merged.value] == [0.0, 0.0, 0.0]
