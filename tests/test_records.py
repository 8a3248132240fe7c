"""TFRecord files: checksums against known values, files as TensorFlow writes them, and broken ones."""
from __future__ import annotations

import gzip
import struct
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphflow as tf
from graphflow.proto import crc32c, records

RECORDS = [b"", b"a", b"hello", bytes(range(256)) * 5, b"x" * 70_000, b"last"]
# Written by TensorFlow 2.21: records b"abc" and b"".
TENSORFLOW = "0300000000000000b099490e6162636e57f121000000000000000029039807d8ea82a2"


@pytest.mark.parametrize("data, wanted", [
    (b"", 0), (b"123456789", 0xE3069283), (bytes(32), 0x8A9136AA), (b"\xff" * 32, 0x62A8AB43), (bytes(range(32)), 0x46DD794E),
    (bytes(range(31, -1, -1)), 0x113FDB5C), (b"a", 0xC1D04330)])  # RFC 3720, appendix B.4
def test_crc32c(data, wanted):
    assert crc32c.crc32c(data) == wanted
    several = np.frombuffer(b"--" + data + b"--" + data, np.uint8)
    starts = np.array([2, len(data) + 4])
    assert crc32c.crc32c_many(several, starts, np.full(2, len(data))).tolist() == [wanted] * 2


def bytewise(data):
    state = 0xFFFFFFFF
    for byte in data:
        state ^= byte
        for _ in range(8):
            state = (state >> 1) ^ (0x82F63B78 if state & 1 else 0)
    return state ^ 0xFFFFFFFF


@pytest.mark.parametrize("size", [*range(1, 40), 4095, 4096, 4097, 5000, 9001, 20_000])
def test_crc32c_of_any_length(size):
    data = np.random.RandomState(size).bytes(size)
    assert crc32c.crc32c(data) == crc32c.crc32c(memoryview(data)) == bytewise(data)


def test_crc32c_of_many():
    rng = np.random.RandomState(0)
    data, starts = rng.randint(0, 256, 60_000).astype(np.uint8), rng.randint(0, 30_000, 300)
    lengths = rng.randint(0, 30_000, 300) // rng.randint(1, 2000, 300)
    assert crc32c.crc32c_many(data, starts, lengths).tolist() == [crc32c.crc32c(data[s:s + n].tobytes()) for s, n in zip(starts, lengths)]


def test_a_file_as_tensorflow_writes_it(tmp_path):
    path = tmp_path / "a.tfrecord"
    with tf.python_io.TFRecordWriter(str(path)) as w:
        w.write(b"abc")
        w.write(b"")
    assert path.read_bytes() == bytes.fromhex(TENSORFLOW)
    assert list(tf.python_io.tf_record_iterator(str(path))) == [b"abc", b""]


COMPRESSED = [None, "", "GZIP", "ZLIB", 0, 1, 2, tf.python_io.TFRecordOptions(tf.python_io.TFRecordCompressionType.GZIP),
              tf.io.TFRecordOptions("ZLIB", compression_level=9, mem_level=9, window_bits=12, compression_strategy=1)]


@pytest.mark.parametrize("options", COMPRESSED, ids=lambda o: str(getattr(o, "compression_type", o)))
def test_round_trip(tmp_path, options):
    path = str(tmp_path / "a")
    with tf.io.TFRecordWriter(path, options) as w:
        for r in RECORDS:
            w.write(r)
    assert list(tf.python_io.tf_record_iterator(path, options)) == RECORDS
    raw = open(path, "rb").read()
    kind = records.TFRecordOptions.get_compression_type_string(options)
    plain = {"": lambda b: b, "GZIP": gzip.decompress, "ZLIB": zlib.decompress}[kind](raw)
    assert plain[:8] == bytes(8) and len(plain) == sum(len(r) + 16 for r in RECORDS)
    offsets = [o for o, _ in records.read_records(path, kind, chunk=7)]
    assert offsets == np.cumsum([0] + [len(r) + 16 for r in RECORDS[:-1]]).tolist()


def test_members_of_gzip(tmp_path):
    path = tmp_path / "a"
    with tf.python_io.TFRecordWriter(str(path)) as w:
        w.write(b"one")
    path.write_bytes(gzip.compress(path.read_bytes()) * 2)
    assert list(tf.python_io.tf_record_iterator(str(path), "GZIP")) == [b"one"] * 2


def test_many_small_records(tmp_path):
    path, rng = str(tmp_path / "a"), np.random.RandomState(0)
    wanted = [rng.bytes(n) for n in rng.randint(0, 60, 5000)]
    with tf.python_io.TFRecordWriter(path) as w:
        for r in wanted:
            w.write(r)
    assert [r for _, r in records.read_records(path)] == wanted


def written(tmp_path, *data, options=None):
    path = tmp_path / "a"
    with tf.python_io.TFRecordWriter(str(path), options) as w:
        for r in data:
            w.write(r)
    return path


@pytest.mark.parametrize("count", [1, 10])
@pytest.mark.parametrize("chunk", [5, 1 << 16])
@pytest.mark.parametrize("cut, message", [(-1, "truncated record at {last}"), (-4, "truncated record"), (-9, "truncated record"),
                                          (-20, "truncated record"), (-25, "truncated record")])
def test_truncated(tmp_path, cut, message, count, chunk):
    path = written(tmp_path, *[b"0123456789"] * count)
    path.write_bytes(path.read_bytes()[:cut])
    found = []
    with pytest.raises(tf.errors.DataLossError, match=f"{message.format(last=26 * (count - 1))} .*{path.name}"):
        for _, r in records.read_records(path, chunk=chunk):
            found.append(r)
    assert found == [b"0123456789"] * (count - 1)


@settings(max_examples=60, deadline=None)
@given(st.integers(0, 26 * 6 - 1), st.integers(0, 7), st.sampled_from([5, 100, 1 << 16]))
def test_a_flipped_bit_is_found(tmp_path_factory, at, bit, chunk):
    path = written(tmp_path_factory.mktemp("flip"), *[b"0123456789"] * 6)
    raw = bytearray(path.read_bytes())
    raw[at] ^= 1 << bit
    path.write_bytes(raw)
    found = []
    with pytest.raises(tf.errors.DataLossError, match=f"(corrupted|truncated) record at {at // 26 * 26} .*{path.name}"):
        for _, r in records.read_records(path, chunk=chunk):
            found.append(r)
    assert found == [b"0123456789"] * (at // 26)


@pytest.mark.parametrize("options", ["GZIP", "ZLIB"])
def test_broken_compression(tmp_path, options):
    path = written(tmp_path, *[np.random.RandomState(i).bytes(1000) for i in range(20)], options=options)
    raw = path.read_bytes()
    for broken in (raw[:-1], raw[:100], raw[:2], raw[:5000] + bytes(100) + raw[5100:], b"no such thing", TENSORFLOW.encode()):
        path.write_bytes(broken)
        with pytest.raises(tf.errors.DataLossError, match=path.name):
            list(tf.python_io.tf_record_iterator(str(path), options))
    path.write_bytes(b"")
    assert list(tf.python_io.tf_record_iterator(str(path), options)) == []


def test_a_wrong_length_reads_nothing_huge(tmp_path):
    """The length is believed only if its checksum is right."""
    path = tmp_path / "a"
    path.write_bytes(struct.pack("<QI", 1 << 60, 0) + bytes(1000))
    with pytest.raises(tf.errors.DataLossError, match="corrupted record at 0 "):
        list(tf.python_io.tf_record_iterator(str(path)))
    length = struct.pack("<Q", 1 << 40)
    path.write_bytes(length + struct.pack("<I", crc32c.masked(crc32c.crc32c(length))) + bytes(1000))
    with pytest.raises(tf.errors.DataLossError, match="truncated record at 0 "):
        list(tf.python_io.tf_record_iterator(str(path)))


def test_errors(tmp_path):
    with pytest.raises(tf.errors.NotFoundError, match="missing"):
        list(tf.python_io.tf_record_iterator(str(tmp_path / "missing")))
    with pytest.raises(tf.errors.NotFoundError, match="missing"):
        tf.python_io.TFRecordWriter(str(tmp_path / "missing" / "a"))
    with pytest.raises(tf.errors.FailedPreconditionError):
        tf.python_io.TFRecordWriter(str(tmp_path))
    for bad in ("FOO", 3, "gzip"):
        with pytest.raises(ValueError, match="Not a valid compression_type"):
            tf.python_io.TFRecordOptions(bad)
        with pytest.raises(ValueError, match="Not a valid compression_type"):
            tf.python_io.TFRecordWriter(str(tmp_path / "a"), bad)
    with pytest.raises(tf.errors.InvalidArgumentError, match="FOO"):
        list(records.read_records(tmp_path / "a", "FOO"))
    w = tf.python_io.TFRecordWriter(str(tmp_path / "a"))
    for bad in (3, None, [b"a"], tf.train.Example()):
        with pytest.raises(TypeError, match="a record is bytes"):
            w.write(bad)
    w.write("é")
    w.flush()
    assert (tmp_path / "a").stat().st_size == 18
    w.close()
    w.close()
    for late in (lambda: w.write(b"a"), w.flush):
        with pytest.raises(tf.errors.FailedPreconditionError, match="closed"):
            late()
    assert list(tf.python_io.tf_record_iterator(str(tmp_path / "a"))) == ["é".encode()]


def test_flush_of_a_compressed_file_can_be_read(tmp_path):
    w = records.RecordWriter(tmp_path / "a", "ZLIB")
    w.write(b"abc")
    w.flush()
    assert next(records.read_records(tmp_path / "a", "ZLIB", chunk=19)) == (0, b"abc")
    w.close()


def test_appending(tmp_path):
    for r in (b"one", b"two"):
        with records.RecordWriter(tmp_path / "a", append=True) as w:
            w.write(r)
    assert [r for _, r in records.read_records(tmp_path / "a")] == [b"one", b"two"]
