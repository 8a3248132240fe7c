"""tf.summary: the bytes of TensorFlow 2.21's kernels, names and tags, event files read by TensorBoard's own loaders, damaged files."""
from __future__ import annotations

import glob
import hashlib
import io
import os
import socket
import struct
import subprocess
import sys
import threading
import time
import warnings
from pathlib import Path

import numpy as np
import pytest

import graphflow as tf
from graphflow.ops import summaries

ENVIRONMENT = {**os.environ, "PYTHONPATH": str(Path(__file__).parents[1])}


def written(make, value=None):
    """(op, bytes) of a summary of a float32 placeholder, or of a constant of another dtype."""
    value = np.asarray(0.0 if value is None else value)
    x = tf.placeholder(tf.float32, name="x") if value.dtype == np.float64 else tf.constant(value)
    summary = make(x)
    with tf.Session() as sess, warnings.catch_warnings():
        warnings.filterwarnings("ignore", "feed_dict: Tensor 'x:0' is not used")
        found = sess.run(summary, {x: value} if value.dtype == np.float64 else None)
    assert type(found) is bytes and summary.shape.as_list() == [] and summary.dtype == tf.string
    return summary.op, found


# ---------------------------------------------------------------- bytes

EXACT = {
    "scalar": (lambda x: tf.summary.scalar("loss", x), 2.5, "0a0b0a046c6f73731500002040"),
    "zero": (lambda x: tf.summary.scalar("loss_1", x), 0.0, "0a0d0a066c6f73735f311500000000"),
    "int": (lambda x: tf.summary.scalar("loss", x), np.int64(3), "0a0b0a046c6f73731500004040"),
    "family": (lambda x: in_scope("sc", lambda: tf.summary.scalar("l", x, family="fam")), 1.0,
               "0a130a0c66616d2f73632f66616d2f6c150000803f"),
    "ints": (lambda x: in_scope("sc", lambda: tf.summary.histogram("hi", x)), np.int32([1, 2, 3, -5, 0]),
             "0aeb010a0573632f68692ae1010900000000000014c011000000000000084019000000000000144021000000000000f03f2900000000008043403258d8b276a93"
             "56614c021d10e9a768b12c0000000000000000011ea2d819997713d08996919155aed3f2b14facdbe24f03fdc94cd2e8d75ff3fe011f10c744d014068bc10359a"
             "0707400d9cc5a029550940ffffffffffffef7f3a580000000000000000000000000000f03f0000000000000000000000000000f03f0000000000000000000000000"
             "000f03f0000000000000000000000000000f03f0000000000000000000000000000f03f0000000000000000"),
    "float16": (lambda x: in_scope("sc", lambda: tf.summary.histogram("hi_3", x)), np.float16([0.1, 2, 65504]),
                "0aad010a0773632f68695f332aa10109000000000098b93f110000000000fcef40190000000000000840210000003343fcef4029e151808000f8ef413238382f9"
                "a43f9d6b73f2567f6634539ba3fdc94cd2e8d75ff3fe011f10c744d01403bbf61393332ef40faf528f96828f140ffffffffffffef7f3a38000000000000000000"
                "0000000000f03f0000000000000000000000000000f03f0000000000000000000000000000f03f0000000000000000"),
    "empty": (lambda x: tf.summary.histogram("e", x), np.zeros((0, 3)),
              "0a2b0a01652a2609ffffffffffffef7f11ffffffffffffefff3208ffffffffffffef7f3a080000000000000000"),
    "one": (lambda x: tf.summary.histogram("o", x), 3.0,
            "0a660a016f2a6109000000000000084011000000000000084019000000000000f03f210000000000000840290000000000002240321868bc10359a0707400d9cc5"
            "a029550940ffffffffffffef7f3a180000000000000000000000000000f03f0000000000000000"),
    "zeros": (lambda x: tf.summary.histogram("hh_2", x), np.zeros(4),
              "0a450a0468685f322a3d1900000000000010403218000000000000000011ea2d819997713dffffffffffffef7f3a180000000000000000000000000000104000000"
              "00000000000"),
    "merged": (lambda x: tf.summary.merge([tf.summary.scalar("q", x), tf.summary.scalar("q", x)]), 1.0,
               "0a080a0171150000803f0a0a0a03715f31150000803f"),
    "text": (lambda x: tf.summary.text("t", tf.constant("hello")), 0.0, "0a1a0a0174420b08071200420568656c6c6f4a080a060a0474657874"),
    "table": (lambda x: tf.summary.text("t_1", tf.constant([["hello", "b"]])), 0.0,
              "0a270a03745f314216080712081202080112020802420568656c6c6f4201624a080a060a0474657874"),
    "tensor": (lambda x: tf.summary.tensor_summary("ts", x, display_name="d", summary_description="e"), np.float32([1, 2]),
               "0a200a0274734212080112041202080222080000803f000000404a061201641a0165"),
    "audio": (lambda x: tf.summary.audio("au", x, 44100), [[0, 0.5, -1, 1, 1e-5, 2], [1 / 3, 2 / 3, 0, 0, 0, 0]],
              "0a5c0a0a61752f617564696f2f30324e0d00442c47100118062238524946463000000057415645666d7420100000000100010044ac0000885801000200100064617"
              "4610c000000000000400080ff7f0000ff7f2a09617564696f2f7761760a5c0a0a61752f617564696f2f31324e0d00442c4710011806223852494646300000005741"
              "5645666d7420100000000100010044ac00008858010002001000646174610c000000ab2a555500000000000000002a09617564696f2f776176"),
    "stereo": (lambda x: tf.summary.audio("au_1", x, tf.constant(8000.0), max_outputs=1), [[[0.0, 0.5], [-1.0, 0.1]]],
               "0a580a0a61755f312f617564696f324a0d0000fa45100218022234524946462c00000057415645666d74201000000001000200401f0000007d0000040010006461"
               "746108000000000000400080cd0c2a09617564696f2f776176"),
}


def in_scope(scope, make):
    with tf.name_scope(scope):
        return make()


@pytest.mark.parametrize("case", EXACT)
def test_bytes_are_those_of_tensorflow(case):
    make, value, expected = EXACT[case]
    op, found = written(make, value)
    assert found.hex() == expected
    tf.Summary.FromString(found)


@pytest.mark.parametrize("values, digest", [(np.arange(256).astype(np.uint8), "e920e9b4ee76714c9b6687e42db88c74"),
                                            (np.array([0.0, -0.0, 1e-12, 1e-13, 1.1e-12, -1e-12, 1e20, -1e20, 1e21, 5e-324, 1e300]), None)])
def test_histograms_of_other_dtypes(values, digest):
    _, found = written(lambda _: in_scope("sc", lambda: tf.summary.histogram("hi_1" if digest else "h", tf.constant(values))), 0)
    histo = tf.Summary.FromString(found).value[0].histo
    if digest:
        assert hashlib.md5(found).hexdigest() == digest
    else:  # of TF 2.21: six of the eleven values are around zero
        assert [c for c in histo.bucket if c] == [1, 1, 4, 2, 3] and histo.num == 11


def reference_histogram(values):
    """TF's loop: where each value belongs by bisection, and runs of empty buckets written as one."""
    import bisect

    ends, v = [], 1e-12
    while v < 1e20:
        ends.append(v)
        v *= 1.1
    ends = [-sys.float_info.max, *[-e for e in reversed(ends)], 0.0, *ends, sys.float_info.max]
    counts = [0] * len(ends)
    for x in values:
        counts[bisect.bisect_right(ends, float(x))] += 1
    out, i = [], 0
    while i < len(ends):
        j = i
        while counts[i] == 0 and j + 1 < len(ends) and counts[j + 1] == 0:
            j += 1
        out.append((ends[j], counts[j]))
        i = j + 1
    return out


@pytest.mark.parametrize("dtype", [np.float32, np.float64, np.int64])
def test_buckets_are_those_of_bisection(dtype):
    rng = np.random.RandomState(0)
    ends = summaries.limits()[1:-1]
    near = np.concatenate([ends, np.nextafter(ends, np.inf), np.nextafter(ends, -np.inf)])
    values = np.concatenate([near, rng.randn(2000) * 10.0 ** rng.randint(-14, 22, 2000), [0.0, -0.0, 1e-45, -1e-45, 3e38, -3e38]])
    values = np.clip(values, -1e18, 1e18).astype(dtype) if dtype is np.int64 else values.astype(dtype)
    found_ends, counts = summaries.histogram(values)
    assert list(zip(found_ends, counts)) == reference_histogram(values)


def test_the_numbers_of_a_histogram():
    values = np.random.RandomState(1).randn(100_000)
    _, found = written(lambda x: tf.summary.histogram("h", x), values)
    histo = tf.Summary.FromString(found).value[0].histo
    single = values.astype(np.float32).astype(np.float64)
    np.testing.assert_allclose([histo.min, histo.max, histo.num, histo.sum, histo.sum_squares],
                               [single.min(), single.max(), 100_000, single.sum(), (single**2).sum()], rtol=1e-12)
    assert sum(histo.bucket) == 100_000 and list(histo.bucket_limit) == sorted(histo.bucket_limit)


# ---------------------------------------------------------------- pictures

PICTURES = [  # float pictures of one row, and what TF makes of them
    ([[0.0], [0.5], [2.0]], [0, 63, 255]), ([[-1.0], [0.0], [0.5]], [1, 128, 191]), ([[np.nan], [1.0], [np.inf]], [255, 255, 255]),
    ([[0.0], [0.0]], [0, 0]), ([[1e-7]], [0]), ([[-2.0, 0.0, 1.0]], [1, 128, 191]), ([[np.nan, 0.0, 1.0], [0.0, 1.0, 0.5]],
                                                                                    [255, 0, 0, 0, 255, 127]),
    ([[np.nan] * 4], [255, 0, 0, 255]), ([[0.25, 0.5, 1.0, 0.5]], [63, 127, 255, 127])]


@pytest.mark.parametrize("row, bytes_", PICTURES)
def test_floats_become_pixels_as_in_tensorflow(row, bytes_):
    Image = pytest.importorskip("PIL.Image")
    _, found = written(lambda x: tf.summary.image("im", x, max_outputs=1), [[row]])
    value, = tf.Summary.FromString(found).value
    assert (value.tag, value.image.height, value.image.width, value.image.colorspace) == ("im/image", 1, len(row), len(row[0]))
    assert np.array(Image.open(io.BytesIO(value.image.encoded_image_string))).reshape(-1).tolist() == bytes_


def test_bytes_of_pictures_are_left_alone():
    Image = pytest.importorskip("PIL.Image")
    pixels = np.random.RandomState(0).randint(0, 256, (5, 4, 3, 4)).astype(np.uint8)
    for count, tags in ((2, ["im/image/0", "im/image/1"]), (9, [f"im_1/image/{i}" for i in range(5)]), (1, ["im_2/image"])):
        tf.reset_default_graph() if count == 2 else None
        with tf.Session() as sess:
            values = tf.Summary.FromString(sess.run(tf.summary.image("im", tf.constant(pixels), count))).value
        assert [v.tag for v in values] == tags
        for v, expected in zip(values, pixels):
            np.testing.assert_array_equal(np.array(Image.open(io.BytesIO(v.image.encoded_image_string))), expected)


# ---------------------------------------------------------------- names

NAMES = [  # (call, op's name, type, names of inputs, tag)
    (lambda x: tf.summary.scalar("loss", x), "loss", "ScalarSummary", ["loss/tags:0", "x:0"], "loss"),
    (lambda x: tf.summary.scalar("a b:0/c", x), "a_b_0/c", "ScalarSummary", ["a_b_0/c/tags:0", "x:0"], "a_b_0/c"),
    (lambda x: tf.summary.scalar("/lead", x), "lead", "ScalarSummary", ["lead/tags:0", "x:0"], "lead"),
    (lambda x: in_scope("s", lambda: tf.summary.scalar("l", x)), "s/l", "ScalarSummary", ["s/l/tags:0", "x:0"], "s/l"),
    (lambda x: in_scope("s", lambda: tf.summary.histogram("l", x, family="f")), "s/f/l", "HistogramSummary", ["s/f/l/tag:0", "x:0"],
     "f/s/f/l"),
    (lambda x: tf.summary.text("t", tf.constant("a")), "t", "TensorSummaryV2", ["t/tag:0", "Const:0", "t/serialized_summary_metadata:0"],
     "t"),
    (lambda x: tf.summary.scalar("c", 2.0), "c", "ScalarSummary", ["c/tags:0", "c/values:0"], "c"),
    (lambda x: tf.scalar_summary("a tag!", x), "ScalarSummary", "ScalarSummary", ["ScalarSummary/tags:0", "x:0"], "a tag!"),
    (lambda x: tf.histogram_summary("h", x, name="n"), "n", "HistogramSummary", ["n/tag:0", "x:0"], "h"),
    (lambda x: tf.contrib.deprecated.image_summary("i", tf.reshape(x, [1, 1, 1, 1]), 1), "ImageSummary", "ImageSummary",
     ["ImageSummary/tag:0", "Reshape:0"], "i/image"),
    (lambda x: tf.audio_summary("a", tf.reshape(x, [1, 1]), 8000), "AudioSummaryV2", "AudioSummaryV2",
     ["AudioSummaryV2/tag:0", "Reshape:0", "AudioSummaryV2/sample_rate:0"], "a/audio/0"),
    (lambda x: tf.merge_summary([tf.scalar_summary("q", x)]), "MergeSummary/MergeSummary", "MergeSummary", ["ScalarSummary:0"], "q"),
    (lambda x: tf.summary.merge([tf.summary.scalar("q", x)], name="all"), "all/all", "MergeSummary", ["q:0"], "q"),
    (lambda x: tf.summary.merge([tf.summary.scalar("q", x)]), "Merge/MergeSummary", "MergeSummary", ["q:0"], "q")]


@pytest.mark.parametrize("make, name, kind, inputs, tag", NAMES, ids=[f"{n[1]}-{n[4]}" for n in NAMES])
def test_names_and_tags(make, name, kind, inputs, tag):
    op, found = written(make, 1.0)
    assert (op.name, op.type, [t.name for t in op.inputs], tf.Summary.FromString(found).value[0].tag) == (name, kind, inputs, tag)


def test_names_are_unique_and_bad_characters_logged():
    x, seen = tf.constant(1.0), []
    tf.logging.set_verbosity(tf.logging.INFO)
    tf.get_logger().addFilter(lambda record: seen.append(record.getMessage()))
    try:
        ops = [tf.summary.scalar("w:0", x) for _ in range(2)]
    finally:
        tf.get_logger().filters.clear()
        tf.logging.set_verbosity(tf.logging.WARN)
    assert [t.op.name for t in ops] == ["w_0", "w_0_1"]
    assert seen == ["Summary name w:0 is illegal; using w_0 instead."] * 2
    for bad in (None, 3, x):
        with pytest.raises(TypeError, match="name of a summary must be a string"):
            tf.summary.scalar(bad, x)


def test_collections():
    x = tf.constant(1.0)
    a, b = tf.summary.scalar("a", x), tf.summary.histogram("b", x, collections=["mine", "yours"])
    with tf.name_scope("inner"):
        c = tf.summary.scalar("c", x)
    d = tf.summary.scalar("d", x, [])
    assert tf.get_collection(tf.GraphKeys.SUMMARIES) == [a, c] and tf.get_collection("mine") == tf.get_collection("yours") == [b]
    assert list(tf.summary.merge_all().op.inputs) == [a, c] and list(tf.summary.merge_all("mine").op.inputs) == [b]
    assert list(tf.summary.merge_all(scope="inner").op.inputs) == [c] and tf.summary.merge_all("none") is None
    merged = tf.summary.merge([a, d], collections=["all"])
    assert tf.get_collection("all") == [merged] and tf.merge_all_summaries().op.type == "MergeSummary"
    assert tf.get_collection(tf.GraphKeys.SUMMARIES) == [a, c]
    v = tf.Variable(1.0)
    with tf.Graph().as_default():
        assert tf.summary.scalar("of", x).graph is tf.summary.histogram("v", v).graph is x.graph


# ---------------------------------------------------------------- errors

BAD = [
    ("values not the same shape: [] != [1] (tag 'm')", lambda x: tf.summary.scalar("m", x), [1.0]),
    ("Nan in summary histogram for: h", lambda x: tf.summary.histogram("h", x), [1, np.nan]),
    ("Infinity in summary histogram for: h", lambda x: tf.summary.histogram("h", x), [-np.inf, 1]),
    ("Tensor must be 4-D with last dim 1, 3, or 4, not [2, 3, 1]", lambda x: tf.summary.image("i", x), np.zeros((2, 3, 1))),
    ("Tensor must be 4-D with last dim 1, 3, or 4, not [1, 2, 3, 2]", lambda x: tf.summary.image("i", x), np.zeros((1, 2, 3, 2))),
    ("PNG encoding failed", lambda x: tf.summary.image("i", x), np.zeros((1, 0, 3, 1))),
    ("Tensor must be 3-D or 2-D, got: [1]", lambda x: tf.summary.audio("a", x, 8000), [1.0]),
    ("cannot encode", lambda x: tf.summary.audio("a", x, 8000), np.zeros((1, 0))),
    ("Duplicate tag q found in summary inputs", lambda x: tf.summary.merge([tf.summary.scalar("q", x)] * 2), 1.0),
    ("Could not parse one of the summary inputs", lambda x: tf.summary.merge([tf.constant(b"\x0a\xff")]), 1.0),
    ("tags must be scalar", lambda x: tf.histogram_summary(tf.constant(["a", "b"]), x), 1.0)]


@pytest.mark.parametrize("words, make, value", BAD, ids=[b[0] for b in BAD])
def test_bad_values(words, make, value):
    with pytest.raises(tf.errors.InvalidArgumentError) as e:
        written(make, value)
    assert words in e.value.message and "test_summary.py:" in e.value.message


@pytest.mark.parametrize("error, words, make", [
    (ValueError, "shorter than minimum length 1", lambda: tf.summary.merge([])),
    (TypeError, "Expected list for 'inputs'", lambda: tf.summary.merge(tf.summary.scalar("a", 1.0))),
    (TypeError, "has type string", lambda: tf.summary.scalar("a", "text")), (TypeError, "has type bool",
                                                                            lambda: tf.summary.scalar("a", tf.constant(True))),
    (TypeError, "has type int32", lambda: tf.summary.image("a", tf.zeros([1, 1, 1, 1], tf.int32))),
    (ValueError, "to have dtype string, got float32", lambda: tf.summary.text("a", 1.0)),
    (ValueError, "max_outputs must be at least 1", lambda: tf.summary.image("a", tf.zeros([1, 1, 1, 1]), 0)),
    (ValueError, "max_outputs must be at least 1", lambda: tf.summary.audio("a", tf.zeros([1, 1]), 8000, 0)),
    (ValueError, "Can't get_summary_description on Const", lambda: tf.summary.get_summary_description(tf.constant(1).op.node_def))])
def test_bad_calls(error, words, make):
    with pytest.raises(error, match=words):
        make()


def test_descriptions():
    from graphflow.proto import NodeDef

    node = NodeDef(op="TensorSummary", attr={"description": {"s": b'{"typeHint": "hint"}'}})
    assert tf.summary.get_summary_description(node) == tf.summary.SummaryDescription(type_hint="hint")


# ---------------------------------------------------------------- in a step

def trained(with_summaries):
    """(the variable's bits after three steps, the summaries)."""
    with tf.Graph().as_default():
        tf.set_random_seed(1)
        x = tf.placeholder(tf.float32, [None, 3])
        w = tf.Variable(np.linspace(-1, 1, 6, dtype=np.float32).reshape(3, 2))
        y = tf.tanh(tf.matmul(x, w))
        loss = tf.reduce_mean(tf.square(y - 0.5))
        step = tf.train.AdamOptimizer(0.1).minimize(loss)
        tf.summary.scalar("loss", loss)
        tf.summary.histogram("y", y)
        merged = tf.summary.merge_all()
        seen = []
        with tf.Session() as sess:
            sess.run(tf.global_variables_initializer())
            for i in range(3):
                feed = {x: np.random.RandomState(i).rand(4, 3)}
                seen.append(sess.run([step, merged] if with_summaries else [step], feed)[-1])
            return sess.run(w).tobytes(), [tf.Summary.FromString(s).value[0].simple_value for s in seen if s]


def test_a_step_computes_the_same_bits_beside_summaries():
    (plain, _), (summarised, losses) = trained(False), trained(True)
    assert plain == summarised and len(losses) == 3 and losses[2] < losses[0]


def test_summaries_are_made_only_when_fetched():
    x = tf.placeholder(tf.float32, [2])
    total = tf.reduce_sum(x)
    tf.summary.histogram("h", x)
    with tf.Session() as sess:
        assert np.isnan(sess.run(total, {x: [np.nan, 1]}))  # the histogram would refuse it
        with pytest.raises(tf.errors.InvalidArgumentError):
            sess.run(tf.summary.merge_all(), {x: [np.nan, 1]})


def test_summaries_in_branches_and_loops():
    x = tf.placeholder(tf.float32, [], name="x")
    chosen = tf.cond(x > 0, lambda: tf.summary.scalar("positive", x, []), lambda: tf.summary.scalar("negative", -x, []))
    each = tf.map_fn(lambda v: tf.summary.scalar("each", v, []), tf.constant([1.0, 2.0]), dtype=tf.string)
    with tf.Session() as sess:
        for v, tag in ((2.0, "cond/positive"), (-3.0, "cond/negative")):
            found, = tf.Summary.FromString(sess.run(chosen, {x: v})).value
            assert found.tag.startswith(tag) and found.simple_value == abs(v)
        with pytest.warns(UserWarning, match="op by op"):
            assert [tf.Summary.FromString(b).value[0].simple_value for b in sess.run(each)] == [1.0, 2.0]


def test_graphs_with_summaries_are_exported_and_imported():
    tf.summary.scalar("s", tf.placeholder(tf.float32, [], name="x"))
    tf.summary.image("i", tf.zeros([1, 1, 1, 1]), 1)
    graph_def = tf.get_default_graph().as_graph_def()
    with tf.Graph().as_default(), tf.Session() as sess:
        again = tf.GraphDef()
        again.ParseFromString(graph_def.SerializeToString())
        s, i = tf.import_graph_def(again, name="", return_elements=["s:0", "i:0"])
        assert tf.Summary.FromString(sess.run(s, {"x:0": 2.0})).value[0].simple_value == 2.0
        assert tf.Summary.FromString(sess.run(i)).value[0].tag == "i/image"


# ---------------------------------------------------------------- event files


def files(folder):
    return sorted(glob.glob(str(folder / "events.out.tfevents.*")))


def events(folder):
    return [e for path in files(folder) for e in tf.train.summary_iterator(path)]


def value(tag, number):
    return tf.Summary(value=[tf.Summary.Value(tag=tag, simple_value=number)])


def test_an_event_file(tmp_path):
    folder = tmp_path / "deep" / "logs"
    before = time.time()
    with tf.summary.FileWriter(str(folder), filename_suffix=".suffix") as writer:
        assert writer.get_logdir() == str(folder)
        writer.add_summary(value("a", 1.5), 7)
        writer.add_summary(value("a", 2.5).SerializeToString(), np.int64(8))
        writer.add_event(tf.Event(wall_time=3.0, step=9, summary=value("b", 1)))
        writer.add_session_log(tf.SessionLog(status=tf.SessionLog.START, msg="m"), 10)
        writer.add_summary(value("a", 3.5))
    path, = files(folder)
    name = os.path.basename(path)
    assert name.startswith("events.out.tfevents.") and name.endswith(f".{socket.gethostname()}.suffix")
    assert before - 1 <= int(name.split(".")[3]) <= time.time() + 5 and len(name.split(".")[3]) == 10
    found = list(tf.summary.summary_iterator(path))
    assert found[0].file_version == "brain.Event:2" and found[0].WhichOneof("what") == "file_version"
    assert [e.step for e in found] == [0, 7, 8, 9, 10, 0] and found[3].wall_time == 3.0
    assert [v.simple_value for e in found for v in e.summary.value] == [1.5, 2.5, 1.0, 3.5]
    assert found[4].session_log.status == tf.SessionLog.START and all(before <= e.wall_time <= time.time() for e in found[:3])


@pytest.mark.parametrize("logdir", ["", ".", b"bytes", "new/deep/"])
def test_forms_of_the_folder(tmp_path, monkeypatch, logdir):
    monkeypatch.chdir(tmp_path)
    with tf.summary.FileWriter(logdir) as writer:
        assert writer.get_logdir() == os.fsdecode(logdir)
    assert len(files(tmp_path / os.fsdecode(logdir))) == 1


def test_flush_close_and_reopen(tmp_path):
    writer = tf.summary.FileWriter(tmp_path, max_queue=1, flush_secs=1000)
    for i in range(50):
        writer.add_summary(value("a", i), i)
    writer.flush()
    assert [e.step for e in events(tmp_path)[1:]] == list(range(50))
    writer.reopen()  # open: nothing happens
    assert len(files(tmp_path)) == 1
    writer.close()
    writer.close()
    for use in (lambda: writer.add_summary(value("lost", 1)), writer.flush, lambda: writer.add_event(tf.Event())):
        with pytest.warns(UserWarning, match="closed FileWriter"):
            use()
    writer.reopen()
    writer.add_summary(value("b", 1), 99)
    writer.close()
    assert len(files(tmp_path)) == 2 and [e.step for e in events(tmp_path)] == [0, *range(50), 0, 99]


def test_writers_do_not_share_a_file_unless_they_share_a_session(tmp_path):
    a, b = tf.summary.FileWriter(tmp_path / "x"), tf.summary.FileWriter(tmp_path / "x")
    with tf.Session() as sess:
        c, d = (tf.summary.FileWriter(tmp_path / "y", session=sess) for _ in range(2))
        for i, w in enumerate((a, b, c, d)):
            w.add_summary(value("t", i), i)
        for w in (a, b, c, d):
            w.close()
    assert len(files(tmp_path / "x")) == 2 and len(files(tmp_path / "y")) == 1
    assert [e.step for e in events(tmp_path / "y")] == [0, 2, 3]


def test_the_cache_of_writers(tmp_path):
    tf.constant(1, name="one")
    a, b = (tf.summary.FileWriterCache.get(str(tmp_path)) for _ in range(2))
    assert a is b
    tf.summary.FileWriterCache.clear()
    assert [e.WhichOneof("what") for e in events(tmp_path)] == ["file_version", "graph_def", "meta_graph_def"]
    assert tf.summary.FileWriterCache.get(str(tmp_path)) is not a
    tf.summary.FileWriterCache.clear()


PROGRAM = """
import sys
import graphflow as tf
def main():
    writer = tf.summary.FileWriter(sys.argv[1], flush_secs=1000)
    for i in range(20):
        writer.add_summary(tf.Summary(value=[tf.Summary.Value(tag="a", simple_value=i)]), i)
    keep.append(writer) if sys.argv[2] == "kept" else None
keep = []
main()
"""


@pytest.mark.parametrize("way", ["kept", "dropped"])
def test_what_is_not_closed_is_written_when_the_program_ends(tmp_path, way):
    subprocess.run([sys.executable, "-c", PROGRAM, str(tmp_path), way], check=True, env=ENVIRONMENT, timeout=60)
    assert [e.step for e in events(tmp_path)] == [0, *range(20)]


def test_a_forked_child_cannot_use_a_writer_and_writes_nothing_twice(tmp_path):
    writer = tf.summary.FileWriter(tmp_path)
    writer.add_summary(value("a", 1), 1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", DeprecationWarning)
        child = os.fork()
    if not child:
        try:
            writer.add_summary(value("a", 2), 2)
        except tf.errors.FailedPreconditionError:
            os._exit(7)
        os._exit(0)
    assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 7
    writer.close()
    assert [e.step for e in events(tmp_path)] == [0, 1]


def test_errors_of_the_thread_reach_the_caller(tmp_path):
    writer = tf.summary.FileWriter(tmp_path)
    writer.flush()
    writer.event_writer._work.file._file.close()  # as if the disk were gone
    writer.add_summary(value("a", 1))
    with pytest.raises((ValueError, tf.errors.OpError)):
        writer.flush()
    (tmp_path / "file").write_text("")
    with pytest.raises(tf.errors.FailedPreconditionError):
        tf.summary.FileWriter(tmp_path / "file")
    assert not [t for t in threading.enumerate() if t.name == "graphflow events" and not t.daemon]


@pytest.mark.parametrize("use, error, words", [
    (lambda w: w.add_summary(3), TypeError, "bytes or a tf.Summary"), (lambda w: w.add_summary(b"\x0a\xff"), ValueError, "byte"),
    (lambda w: w.add_graph(3), TypeError, "must be an instance of `Graph`"), (lambda w: w.add_meta_graph(3), TypeError, "MetaGraphDef"),
    (lambda w: w.add_graph(tf.Graph(), graph_def=tf.GraphDef()), ValueError, "but not both"),
    (lambda w: [w.add_run_metadata(tf.RunMetadata(), "t") for _ in range(2)], ValueError, "already used")])
def test_bad_events(tmp_path, use, error, words):
    with tf.summary.FileWriter(tmp_path) as writer, pytest.raises(error, match=words):
        use(writer)


def test_metadata_are_written_once(tmp_path):
    texts = [tf.summary.text(n, tf.constant(n)) for n in ("a", "b")]
    with tf.Session() as sess, tf.summary.FileWriter(tmp_path) as writer:
        for fetch in (texts[0], tf.summary.merge(texts), texts[1]):
            writer.add_summary(sess.run(fetch))
    found = [(v.tag, v.metadata.plugin_data.plugin_name) for e in events(tmp_path) for v in e.summary.value]
    assert found == [("a", "text"), ("a", ""), ("b", "text"), ("b", "")]


# ---------------------------------------------------------------- damage


@pytest.fixture(scope="module")
def intact(tmp_path_factory):
    folder = tmp_path_factory.mktemp("intact")
    with tf.summary.FileWriter(folder) as writer:
        for i in range(12):
            writer.add_summary(value("tag", i), i)
    data = Path(files(folder)[0]).read_bytes()
    starts, at = [], 0
    while at < len(data):
        starts.append(at)
        at += 16 + struct.unpack_from("<Q", data, at)[0]
    return data, starts


def test_a_truncated_file(tmp_path, intact):
    data, starts = intact
    for end in range(1, len(data), 7):
        (tmp_path / "f").write_bytes(data[:end])
        found = []
        if end in starts:
            assert len(list(tf.train.summary_iterator(str(tmp_path / "f")))) == starts.index(end)
            continue
        with pytest.raises(tf.errors.DataLossError) as e:
            for event in tf.train.summary_iterator(str(tmp_path / "f")):
                found.append(event)
        last = max(s for s in starts if s < end)
        assert len(found) == starts.index(last) and f"at {last}" in e.value.message and str(tmp_path / "f") in e.value.message


def test_flipped_bits(tmp_path, intact):
    data, starts = intact
    for i in range(0, len(data) * 8, 29):
        broken = bytearray(data)
        broken[i // 8] ^= 1 << i % 8
        (tmp_path / "f").write_bytes(broken)
        found = []
        with pytest.raises(tf.errors.DataLossError) as e:
            for event in tf.train.summary_iterator(str(tmp_path / "f")):
                found.append(event)
        hit = max(s for s in starts if s <= i // 8)
        assert len(found) == starts.index(hit) and f"at {hit}" in e.value.message, i


def test_files_that_are_none(tmp_path):
    from graphflow.proto import records

    with pytest.raises(tf.errors.NotFoundError, match="nowhere"):
        next(tf.train.summary_iterator(str(tmp_path / "nowhere")))
    with records.RecordWriter(tmp_path / "f") as writer:
        writer.write(b"\xff\xff")
    with pytest.raises(tf.errors.DataLossError, match="record at 0 of .*f"):
        next(tf.train.summary_iterator(str(tmp_path / "f")))


# ---------------------------------------------------------------- TensorBoard


def test_tensorboard_reads_what_is_written(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    x = tf.placeholder(tf.float32, [None, 3], name="x")
    tf.summary.scalar("loss", tf.reduce_sum(x))
    tf.summary.histogram("h", x)
    tf.summary.image("im", tf.reshape(x, [-1, 1, 3, 1]), 2)
    tf.summary.audio("au", tf.reshape(x, [1, -1]), 8000)
    tf.summary.text("words", tf.constant(["**a**", "b"]))
    merged = tf.summary.merge_all()
    with tf.Session() as sess, tf.summary.FileWriter(tmp_path, sess.graph) as writer:
        for i in range(3):
            writer.add_summary(sess.run(merged, {x: np.full((4, 3), i / 4)}), i)
        metadata = tf.RunMetadata()
        sess.run(merged, {x: np.ones((4, 3))}, options=tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE), run_metadata=metadata)
        writer.add_run_metadata(metadata, "step003", 3)
    board = accumulator.EventAccumulator(str(tmp_path), size_guidance=dict.fromkeys(("tensors", "images", "audio", "histograms"), 0))
    board.Reload()
    tags = board.Tags()
    assert (tags["scalars"], tags["histograms"], tags["images"], tags["audio"], tags["tensors"], tags["run_metadata"]) == (
        ["loss"], ["h"], ["im/image/0", "im/image/1"], ["au/audio/0"], ["words"], ["step003"])
    assert tags["graph"] and tags["meta_graph"]
    assert [(e.step, e.value) for e in board.Scalars("loss")] == [(0, 0.0), (1, 3.0), (2, 6.0)]
    assert [h.histogram_value.num for h in board.Histograms("h")] == [12, 12, 12]
    picture, sound = board.Images("im/image/0")[2], board.Audio("au/audio/0")[1]
    assert (picture.width, picture.height, picture.encoded_image_string[:4]) == (3, 1, b"\x89PNG")
    assert (sound.sample_rate, sound.length_frames, sound.content_type, sound.encoded_audio_string[:4]) == (8000, 12, "audio/wav", b"RIFF")
    assert [bytes(s) for s in board.Tensors("words")[0].tensor_proto.string_val] == [b"**a**", b"b"]
    assert board.SummaryMetadata("words").plugin_data.plugin_name == "text"
    assert {n.name for n in board.Graph().node} == {op.name for op in tf.get_default_graph().get_operations()}
    assert board.RunMetadata("step003").step_stats.dev_stats[0].node_stats


def drawn(build):
    """The GraphDef, read by protobuf, of a graph."""
    graph_pb2 = pytest.importorskip("tensorboard.compat.proto.graph_pb2")
    from graphflow.summary import graph_wire

    with tf.Graph().as_default() as g:
        build()
        found = graph_pb2.GraphDef.FromString(graph_wire.graph_bytes(g))
    names = {n.name for n in found.node}
    for n in found.node:
        for i in n.input:
            assert i.lstrip("^").partition(":")[0] in names, (n.name, i)
    return {n.name: n for n in found.node}


def test_the_picture_of_a_graph():
    def build():
        x = tf.placeholder(tf.float32, [None, 3], name="x")
        w = tf.Variable(tf.ones([3, 2]), name="w")
        with tf.device("/gpu:0"), tf.name_scope("net"), tf.control_dependencies([tf.no_op(name="first")]):
            y = tf.matmul(x, w, transpose_b=False, name="y")
        tf.nn.top_k(y, 1, name="parts").indices + 1
        tf.constant(np.zeros((1000, 10), np.float32), name="large")
        tf.constant(["a", "b"], name="words")

    nodes = drawn(build)
    x, y = nodes["x"], nodes["net/y"]
    assert (x.op, x.attr["dtype"].type, [d.size for d in x.attr["shape"].shape.dim]) == ("Placeholder", 1, [-1, 3])
    assert (y.op, y.device, y.attr["T"].type) == ("MatMul", "/device:GPU:0", 1)
    assert y.input[0] == "x" and "^first" in [i.replace("net/", "") for i in y.input]
    assert [d.size for d in y.attr["_output_shapes"].list.shape[0].dim] == [-1, 2]
    assert any(i == "parts:1" for n in nodes.values() for i in n.input)
    assert list(nodes["words"].attr["value"].tensor.string_val) == [b"a", b"b"]
    large = nodes["large"].attr["value"].tensor
    assert [d.size for d in large.tensor_shape.dim] == [1000, 10] and not large.tensor_content


def test_the_picture_of_loops_and_branches_is_connected():
    def build():
        x = tf.placeholder(tf.float32, [3], name="x")
        with tf.name_scope("outer"):
            _, y = tf.while_loop(lambda i, y: i < 3,
                                 lambda i, y: (i + 1, y + tf.cond(i > 1, lambda: tf.reduce_sum(x), lambda: 1.0)), (0, x))
        tf.gradients(y, x)

    nodes = drawn(build)
    loop = next(n for n in nodes.values() if n.op == "While" and n.name.startswith("outer/"))
    body = next(n for n in nodes.values() if n.op == "LoopVariable" and n.input[0] == "x")
    assert body.name.startswith("outer/while/") and any(nodes[i.partition(":")[0]].op == "Add" for i in loop.input)
    branch = next(n for n in nodes.values() if n.op == "Cond" and n.name.startswith("outer/"))
    assert {nodes[i.partition(":")[0]].op for i in branch.input} >= {"Greater", "Sum", "Const"}


def test_graphs_as_graph_defs_and_meta_graphs(tmp_path):
    tf.constant(1.0, name="one")
    graph_def = tf.get_default_graph().as_graph_def()
    with tf.summary.FileWriter(tmp_path, graph_def=graph_def) as writer:
        writer.add_graph(graph_def, 3)
        writer.add_meta_graph(tf.train.export_meta_graph(), 4)
    from graphflow.proto import GraphDef

    found = events(tmp_path)
    assert [e.WhichOneof("what") for e in found] == ["file_version", "graph_def", "meta_graph_def", "graph_def", "meta_graph_def"]
    assert [n.name for n in GraphDef.FromString(found[3].graph_def).node] == ["one"] and found[3].step == 3


def test_no_warnings_in_ordinary_use(tmp_path):
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        with tf.summary.FileWriter(tmp_path) as writer:
            writer.add_summary(value("a", 1))


def test_summaries_that_a_program_makes_of_its_own_numbers(tmp_path):
    accumulator = pytest.importorskip("tensorboard.backend.event_processing.event_accumulator")
    values = np.random.RandomState(0).randn(100)
    counts, edges = np.histogram(values, 20)
    histo = tf.HistogramProto(min=values.min(), max=values.max(), num=values.size, sum=values.sum(), sum_squares=(values**2).sum())
    for edge, count in zip(edges[1:], counts):
        histo.bucket_limit.append(edge)
        histo.bucket.append(count)
    summary = tf.Summary()
    summary.value.add(tag="loss", simple_value=np.float32(0.5))
    summary.value.add(tag="histo", histo=histo)
    summary.value.add(tag="im/0", image=tf.Summary.Image(encoded_image_string=b"\x89PNG", height=4, width=5))
    summary.value.add(tag="note", tensor=tf.make_tensor_proto("some *text*"),
                      metadata=tf.SummaryMetadata(plugin_data=tf.SummaryMetadata.PluginData(plugin_name="text")))
    with tf.summary.FileWriter(tmp_path) as writer:
        writer.add_summary(summary, np.int32(3))
    board = accumulator.EventAccumulator(str(tmp_path))
    board.Reload()
    assert [(e.step, e.value) for e in board.Scalars("loss")] == [(3, 0.5)] and board.Images("im/0")[0].width == 5
    found = board.Histograms("histo")[0].histogram_value
    assert (found.num, found.bucket_limit, found.bucket) == (100, edges[1:].tolist(), counts.tolist())
    assert board.Tensors("note")[0].tensor_proto.string_val[0] == b"some *text*"


# ---------------------------------------------------------------- the projector


def test_the_projector(tmp_path):
    from graphflow.contrib.tensorboard.plugins import projector

    config = projector.ProjectorConfig(model_checkpoint_path="model.ckpt")
    embedding = config.embeddings.add()
    embedding.tensor_name = tf.Variable(tf.zeros([10, 3]), name="words").name
    embedding.metadata_path = os.path.join("a b", 'labels"1".tsv')
    embedding.sprite.image_path = "sprite.png"
    embedding.sprite.single_image_dim.extend([28, 28])
    with tf.summary.FileWriter(tmp_path) as writer:
        tf.contrib.tensorboard.plugins.projector.visualize_embeddings(writer, config)
        with pytest.raises(TypeError, match="must be a ProjectorConfig"):
            projector.visualize_embeddings(writer, embedding)
    with pytest.raises(ValueError, match="must have a logdir"):
        projector.visualize_embeddings("", config)
    projector_config_pb2 = pytest.importorskip("tensorboard.plugins.projector.projector_config_pb2")
    text_format = pytest.importorskip("google.protobuf.text_format")
    read = text_format.Parse((tmp_path / "projector_config.pbtxt").read_text(), projector_config_pb2.ProjectorConfig())
    assert read.SerializeToString() == config.SerializeToString()
    assert read.embeddings[0].tensor_name == "words:0" and list(read.embeddings[0].sprite.single_image_dim) == [28, 28]


PLUGINS = """
import sys
import tensorflow as tf
from tensorflow.python.util import tf_inspect
from tensorboard.plugins.custom_scalar import summary as custom_scalars, layout_pb2
from tensorboard.plugins.pr_curve import summary as pr_curves
assert tf_inspect.getargspec(lambda a, b=1: 0).args == ["a", "b"]
layout = layout_pb2.Layout(category=[layout_pb2.Category(title="losses")])
curve = pr_curves.op("pr", labels=tf.constant([True, False, True]), predictions=tf.constant([0.9, 0.2, 0.4]), num_thresholds=5)
with tf.Session() as sess, tf.summary.FileWriter(sys.argv[1]) as writer:
    writer.add_summary(custom_scalars.pb(layout))
    writer.add_summary(sess.run(curve), 1)
from tensorboard.backend.event_processing import event_accumulator
board = event_accumulator.EventAccumulator(sys.argv[1])
board.Reload()
print(board.Tags()["tensors"], board.SummaryMetadata("pr/pr_curves").plugin_data.plugin_name)
print(layout_pb2.Layout.FromString(board.Tensors("custom_scalars__config__")[0].tensor_proto.string_val[0]).category[0].title)
"""


def test_plugins_of_tensorboard_in_a_program(tmp_path):
    """Layouts of custom scalars, and curves of precision over recall, by TensorBoard's own modules, which import `tensorflow`."""
    pytest.importorskip("tensorboard")
    (tmp_path / "program.py").write_text(PLUGINS)
    found = subprocess.run([sys.executable, "-m", "graphflow", "run", str(tmp_path / "program.py"), str(tmp_path / "logs")],
                           capture_output=True, text=True, env=ENVIRONMENT, timeout=100)
    assert found.stdout == "['custom_scalars__config__', 'pr/pr_curves'] pr_curves\nlosses\n", found.stderr
