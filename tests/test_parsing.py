"""Examples, CSV, raw bytes and serialized tensors; the wanted values are TensorFlow 2.21's, written down."""
from __future__ import annotations

import base64
import gzip
import zlib

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import graphflow as tf
from graphflow import proto, types
from graphflow.ops import decoding, parsing
from graphflow.proto import example

INVALID = tf.errors.InvalidArgumentError


@pytest.fixture(autouse=True)
def fresh_graph():
    with tf.Graph().as_default():
        yield


def run(fetches, feed=None):
    with tf.Session() as s:
        return s.run(fetches, feed)


def ints(*v):
    return tf.train.Feature(int64_list=tf.train.Int64List(value=v))


def floats(*v):
    return tf.train.Feature(float_list=tf.train.FloatList(value=v))


def texts(*v):
    return tf.train.Feature(bytes_list=tf.train.BytesList(value=v))


def ex(**features):
    return tf.train.Example(features=tf.train.Features(feature=features)).SerializeToString()


X = ex(a=ints(1, 2), b=floats(.5), c=texts(b"q"), e=tf.train.Feature(), z=ints())
Y = ex(i=ints(3, 1), j=ints(0, 2), v=floats(.5, 1.5))
FIX, VAR, SEQ, SPARSE = tf.FixedLenFeature, tf.VarLenFeature, tf.FixedLenSequenceFeature, tf.SparseFeature


def plain(value):
    """Arrays as lists, a SparseTensorValue as (indices, values, shape)."""
    if isinstance(value, tf.SparseTensorValue):
        return tuple(map(plain, value))
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value


# ---------------------------------------------------------------- Example

BATCH = {
    "dense": ([X, ex(a=ints(5, 6))], FIX([2], tf.int64), "a", [[1, 2], [5, 6]]),
    "scalars": ([X, X], FIX([], tf.string), "c", [b"q", b"q"]),
    "floats": ([X], FIX([1], tf.float32), "b", [[.5]]),
    "a default": ([X, ex(), X], FIX([2], tf.int64, [8, 9]), "a", [[1, 2], [8, 9], [1, 2]]),
    "a default of strings": ([ex(), X], FIX([], tf.string, "d"), "c", [b"d", b"q"]),
    "an empty feature": ([X, X], FIX([], tf.int64, 7), "e", [7, 7]),
    "no elements": ([X, X], FIX([0], tf.int64), "z", [[], []]),
    "a matrix": ([ex(a=ints(1, 2, 3, 4))], FIX([2, 2], tf.int64), "a", [[[1, 2], [3, 4]]]),
    "sequence": ([X, ex(a=ints(1, 2, 3, 4)), ex()], SEQ([2], tf.int64, True, default_value=9), "a",
                 [[[1, 2], [9, 9]], [[1, 2], [3, 4]], [[9, 9], [9, 9]]]),
    "a sequence of strings": ([X, ex(c=texts(b"a", b"b")), ex()], SEQ([], tf.string, True), "c", [[b"q", b""], [b"a", b"b"], [b"", b""]]),
    "any number": ([X, ex(), ex(a=ints(5))], VAR(tf.int64), "a", ([[0, 0], [0, 1], [2, 0]], [1, 2, 5], [3, 2])),
    "any number, none there": ([X, X, X], VAR(tf.string), "m", ([], [], [3, 0])),
    "sparse": ([Y, Y], SPARSE("i", "v", tf.float32, 10), "s", ([[0, 1], [0, 3], [1, 1], [1, 3]], [1.5, .5, 1.5, .5], [2, 10])),
    "sparse in 2 dimensions": ([Y, ex(), Y], SPARSE(["i", "j"], "v", tf.float32, [10, 20]), "s",
                               ([[0, 1, 2], [0, 3, 0], [2, 1, 2], [2, 3, 0]], [1.5, .5, 1.5, .5], [3, 10, 20])),
    "sparse, sorted": ([Y, Y], SPARSE("i", "v", tf.float32, 10, True), "s",
                       ([[0, 3], [0, 1], [1, 3], [1, 1]], [.5, 1.5, .5, 1.5], [2, 10])),
    "negative numbers": ([ex(a=ints(-1, 1 << 40)), ex(a=ints(-2**63, 2**63 - 1))], FIX([2], tf.int64), "a",
                         [[-1, 1 << 40], [-2**63, 2**63 - 1]])}


@pytest.mark.parametrize("case", BATCH)
def test_parse_example(case):
    records, feature, key, wanted = BATCH[case]
    assert plain(run(tf.parse_example(records, {key: feature}))[key]) == wanted
    fed = tf.placeholder(tf.string, [None])
    made = tf.io.parse_example(fed, {key: feature})
    found = run(made, {fed: records})[key]
    assert plain(found) == wanted
    if not isinstance(found, tuple):
        assert made[key].dtype == feature.dtype and made[key].shape.is_compatible_with(found.shape) and made[key].shape.ndims == found.ndim


SINGLE = {
    "dense": (X, FIX([2], tf.int64), "a", [1, 2]), "a scalar": (X, FIX([], tf.float32), "b", .5),
    "a default": (ex(), FIX([2], tf.int64, [1, 2]), "a", [1, 2]), "an empty feature": (X, FIX([], tf.int64, 7), "e", 7),
    "sequence": (ex(a=ints(1, 2, 3, 4)), SEQ([2], tf.int64, True), "a", [[1, 2], [3, 4]]),
    "a sequence of none": (ex(), SEQ([], tf.string, True), "c", []),
    "any number": (X, VAR(tf.int64), "a", ([[0], [1]], [1, 2], [2])), "none": (X, VAR(tf.string), "m", ([], [], [0])),
    "sparse": (Y, SPARSE("i", "v", tf.float32, 10), "s", ([[1], [3]], [1.5, .5], [10])),
    "sparse in 2 dimensions": (Y, SPARSE(["i", "j"], "v", tf.float32, [10, 20]), "s", ([[1, 2], [3, 0]], [1.5, .5], [10, 20]))}


@pytest.mark.parametrize("case", SINGLE)
def test_parse_single_example(case):
    record, feature, key, wanted = SINGLE[case]
    fed = tf.placeholder(tf.string, [])
    made = tf.parse_single_example(fed, {key: feature})
    assert plain(run(made, {fed: record})[key]) == wanted


def test_static_shapes_and_names():
    features = {"a": FIX([2], tf.int64), "b": VAR(tf.float32), "c": SEQ([3], tf.int64, True)}
    found = tf.parse_example(tf.placeholder(tf.string, [None]), features)
    assert list(found) == ["a", "b", "c"]
    assert found["a"].shape.as_list() == [None, 2] and found["c"].shape.as_list() == [None, None, 3]
    assert found["b"].indices.shape.as_list() == [None, 2] and found["b"].indices.name == "ParseExample/ParseExample:0"
    one = tf.parse_single_example(tf.placeholder(tf.string), features, name="one")
    assert one["a"].shape.as_list() == [2] and one["c"].shape.as_list() == [None, 3] and one["b"].indices.shape.as_list() == [None, 1]
    assert one["a"].name == "one/ParseSingleExample:3"
    assert tf.parse_example(tf.placeholder(tf.string, [7]), features)["a"].shape.as_list() == [7, 2]


RUNTIME = {
    "missing": (dict(d=FIX([], tf.int64)), "Example: 0, Feature: d .data type: int64. is required but could not be found"),
    "empty": (dict(e=FIX([], tf.int64)), "Example: 0, Feature: e"),
    "an empty list": (dict(z=FIX([], tf.int64, 7)), r"Example: 1, Key: z, Index: 1.  Number of int64 values != expected.  values "
                      r"size: 0 but output shape: \[\]"),
    "too many": (dict(a=FIX([], tf.int64)), r"Example: 0, Key: a, Index: 0.  Number of int64 values != expected.  values size: 2"),
    "another type": (dict(a=FIX([2], tf.float32)), "Example: 0, Key: a.  Data types don't match. Expected type: float32, Data type: int64"),
    "another type in a SparseTensor": (dict(a=VAR(tf.string)), "Key: a.  Data types don't match"),
    "another type in a sequence": (dict(a=SEQ([], tf.string, True)), "Key: a.  Data types don't match"),
    "no multiple": (dict(a=SEQ([3], tf.int64, True)), r"Example: 0, Key: a, Index: 0.  Number of int64 values is not a multiple of stride"),
    "other numbers of indices": (dict(s=SPARSE("a", "b", tf.float32, 10)), "1 values but [24] indices")}


@pytest.mark.parametrize("case", RUNTIME)
def test_records_that_do_not_fit(case):
    features, message = RUNTIME[case]
    records = [ex(a=ints(1, 2)), X] if case != "missing" else [X]
    for parse, data in ((tf.parse_example, records), (tf.parse_single_example, X)):
        fed = tf.placeholder(tf.string)
        if parse is tf.parse_example:
            fed = tf.placeholder(tf.string, [None])
        else:
            message = message.replace("Example: 0, ", "").replace("Example: 1, ", "").replace("Index: 1", "Index: 0")
        with pytest.raises(INVALID, match=message) as caught:
            run(parse(fed, features), {fed: data})
        assert "test_parsing.py" in str(caught.value)


def test_names_of_examples_are_in_messages():
    with pytest.raises(INVALID, match="Name: second, Example: 1, Feature: a"):
        run(tf.parse_example([X, ex()], {"a": FIX([2], tf.int64)}, example_names=["first", "second"]))
    with pytest.raises(INVALID, match="Name: only, Feature: d"):
        run(tf.parse_single_example(X, {"d": FIX([2], tf.int64)}, example_names="only"))


@pytest.mark.parametrize("bad", [b"zzz", X[:-1], b"\x0a\x05abc", b"\x0f" + X, X[:3] + b"\xff" * 12 + X[15:]])
def test_bytes_that_are_no_example(bad):
    with pytest.raises(INVALID, match="Example: 1, (Could not parse example input, value: b'.*at byte|Key: a.  Can't parse|Feature: a)"):
        run(tf.parse_example([X, bad], {"a": FIX([2], tf.int64)}))


USAGE = {
    "no allow_missing": ({"a": SEQ([2], tf.int64)}, ValueError, "requires allow_missing to be True"),
    "dtype": ({"a": FIX([], tf.int32)}, TypeError, "int32 not in list of allowed values"),
    "dtype of VarLen": ({"a": VAR(tf.uint8)}, TypeError, "uint8 not in list"),
    "no dtype": ({"a": FIX([], None)}, ValueError, "Missing type"),
    "no shape": ({"a": FIX(None, tf.int64)}, ValueError, "Missing shape"),
    "unknown size": ({"a": FIX([None], tf.int64)}, ValueError, "First dimension of shape for feature a unknown"),
    "unknown inner size": ({"a": FIX([2, None], tf.int64)}, ValueError, "All dimensions of shape"),
    "no feature": ({"a": 3}, ValueError, "Unsupported int 3"), "None": (None, ValueError, "Missing"),
    "nothing": ({}, ValueError, "Missing"),
    "a default of another shape": ({"a": FIX([2], tf.int64, 1)}, ValueError, "reshape"),
    "a default of another type": ({"a": FIX([], tf.int64, "x")}, TypeError, "int64"),
    "a fraction": ({"a": FIX([], tf.int64, 1.5)}, TypeError, "int64"),
    "no index": ({"s": SPARSE(None, "v", tf.float32, 10)}, ValueError, "Missing index_key"),
    "no value": ({"s": SPARSE("i", "", tf.float32, 10)}, ValueError, "Missing value_key"),
    "sizes": ({"s": SPARSE(["i"], "v", tf.float32, [1, 2])}, ValueError, "1 index keys but 2 sizes"),
    "conflict": ({"v": FIX([2], tf.int64), "s": SPARSE("i", "v", tf.float32, 10)}, ValueError, "Conflicting type"),
    "no dict": ([1], TypeError, "dict of features")}


@pytest.mark.parametrize("case", USAGE)
def test_features_that_make_no_sense(case):
    features, kind, message = USAGE[case]
    for parse, data in ((tf.parse_example, [X]), (tf.parse_single_example, X)):
        with pytest.raises(kind, match=message):
            parse(data, features)


def test_ranks():
    with pytest.raises(ValueError, match="must be a scalar"):
        tf.parse_single_example([X], {"a": FIX([2], tf.int64)})
    with pytest.raises(ValueError, match="must be a vector"):
        tf.parse_example([[X]], {"a": FIX([2], tf.int64)})
    p = tf.placeholder(tf.string)
    with pytest.raises(INVALID, match="must be a scalar"):
        run(tf.parse_single_example(p, {"a": FIX([2], tf.int64)}), {p: [X]})


@settings(max_examples=60, deadline=None)
@given(st.lists(st.one_of(st.lists(st.integers(-2**63, 2**63 - 1), max_size=30), st.lists(st.floats(width=32, allow_nan=False), max_size=9),
                          st.lists(st.binary(max_size=200), max_size=4)), min_size=1, max_size=4), st.booleans(), st.binary(max_size=150))
def test_the_scanner_reads_what_messages_hold(lists, unpacked, key):
    """All layouts that the wire format allows give what the message class reads."""
    message = proto.Features()
    key = key.decode("latin-1").encode().decode()
    wanted = {}
    for i, values in enumerate(lists):
        kind = {int: "int64_list", float: "float_list"}.get(type(values[0]) if values else None, "bytes_list")
        getattr(message.feature[f"{i}{key}"], kind).value.extend(values)
        getattr(message.feature[f"{i}{key}"], kind).SetInParent()
        wanted[f"{i}{key}".encode()] = (kind, list(getattr(message.feature[f"{i}{key}"], kind).value))
    data = proto.Example(features=message).SerializeToString()
    if unpacked:  # the same fields in two pieces, and an unknown one
        data += b"\xa0\x06\x01" + proto.Example(features=message).SerializeToString()
    places = example.example(data)
    assert places.keys() == wanted.keys()
    for k, place in places.items():
        kind, values = example.feature(data, place)
        flat, counts = example.joined(kind, [values, values])
        name, expected = wanted[k]
        assert {1: "bytes_list", 2: "float_list", 3: "int64_list"}[kind] == name
        assert flat.tolist() == expected * 2 and counts.tolist() == [len(expected)] * 2
        assert example.joined(kind, [values])[0].tolist() == expected


def test_unpacked_numbers():
    data = proto.Features(feature={"a": proto.Feature()}).SerializeToString()
    assert data
    feature = b"\x1a\x04\x08\x05\x08\x07"  # int64_list { value: 5 value: 7 }, one by one
    assert example.feature(feature, (0, len(feature))) == (3, b"\x05\x07")
    two = b"\x12\x05\x0d\x00\x00\x80\x3f" * 2  # float_list in two pieces
    assert example.feature(two, (0, len(two))) == (2, b"\x00\x00\x80\x3f" * 2)


@settings(max_examples=100, deadline=None)
@given(st.data())
def test_broken_examples_never_crash(data):
    raw = bytearray(X)
    for _ in range(data.draw(st.integers(1, 3))):
        raw[data.draw(st.integers(0, len(raw) - 1))] = data.draw(st.integers(0, 255))
    raw = bytes(raw[:data.draw(st.integers(0, len(raw)))])
    columns = [parsing.Column("a", "sparse", types.int64, (), False), parsing.Column("c", "sparse", types.string, (), False)]
    try:
        parsing.parse_example_op._numpy(np.array([raw], object), columns=tuple(map(tuple, columns)), single=False, named=False)
    except INVALID:
        pass


# ---------------------------------------------------------------- SequenceExample


def sequence(steps):
    made = tf.train.SequenceExample()
    made.context.feature["n"].int64_list.value.append(steps)
    for k in range(steps):
        made.feature_lists.feature_list["t"].feature.add().int64_list.value.extend([k] * 2)
        made.feature_lists.feature_list["v"].feature.add().bytes_list.value.extend([b"x"] * k)
    return made.SerializeToString()


S = sequence(3)


@pytest.mark.parametrize("context, lists, wanted", [
    ({"n": FIX([], tf.int64)}, {"t": SEQ([2], tf.int64), "v": VAR(tf.string)},
     ({"n": 3}, {"t": [[0, 0], [1, 1], [2, 2]], "v": ([[1, 0], [2, 0], [2, 1]], [b"x"] * 3, [3, 2])})),
    (None, {"k": SEQ([2], tf.int64, True), "m": VAR(tf.int64)}, ({}, {"k": [], "m": ([], [], [0, 0])})),
    ({"n": VAR(tf.int64), "q": VAR(tf.int64), "d": FIX([2], tf.int64, [4, 5])}, None,
     ({"n": ([[0]], [3], [1]), "q": ([], [], [0]), "d": [4, 5]}, {}))])
def test_parse_single_sequence_example(context, lists, wanted):
    found = run(tf.parse_single_sequence_example(S, context, lists))
    assert tuple({k: plain(v) for k, v in part.items()} for part in found) == wanted


@pytest.mark.parametrize("context, lists, kind, message", [
    ({"k": FIX([], tf.int64)}, None, INVALID, "Feature: k"), (None, {"k": SEQ([2], tf.int64)}, INVALID, "Feature list 'k' is required"),
    (None, {"t": SEQ([3], tf.int64)}, INVALID, "Feature list: t, Step: 0, Key: t.*values size: 2"),
    (None, {"t": SEQ([2], tf.float32)}, INVALID, "Feature list: t, Step: 0, Key: t.*Expected type: float32"),
    (None, {"t": VAR(tf.float32)}, INVALID, "Expected type: float32"), (None, None, ValueError, "both empty or None"),
    (None, {"t": SEQ([2], tf.int64, default_value=1)}, ValueError, "must be None"),
    ({"t": FIX([], tf.int64)}, {"t": VAR(tf.int64)}, ValueError, "overlap"), ({"t": SEQ([], tf.int64)}, None, ValueError, "Unsupported")])
def test_sequence_errors(context, lists, kind, message):
    with pytest.raises(kind, match=message):
        run(tf.parse_single_sequence_example(S, context, lists, example_name="nm"))


def test_a_list_of_steps_is_a_batch_of_its_own():
    p = tf.placeholder(tf.string)
    context, lists = tf.parse_single_sequence_example(p, {"n": FIX([], tf.int64)}, {"t": SEQ([2], tf.int64), "v": VAR(tf.string)})
    assert lists["t"].shape.as_list() == [None, 2] and context["n"].shape.as_list() == []
    assert lists["v"].indices.name == "ParseSingleSequenceExample/ParseSingleSequenceExample:1"
    assert run(tf.shape(lists["t"])[0] + tf.cast(context["n"], tf.int32), {p: S}) == 6
    with pytest.raises(INVALID, match="Could not parse"):
        run(lists["t"], {p: b"zzz"})


def test_a_graph_that_parses_can_be_exported():
    p = tf.placeholder(tf.string, [None], name="p")
    found = tf.parse_example(p, {"a": FIX([2], tf.int64, [0, 0]), "v": VAR(tf.float32)})
    tf.identity(found["a"] * 2, name="twice")
    tf.string_join([p, "x"], name="joined")
    data = tf.get_default_graph().as_graph_def().SerializeToString()
    with tf.Graph().as_default():
        made = tf.GraphDef()
        made.ParseFromString(data)
        tf.import_graph_def(made, name="")
        twice, joined = run(["twice:0", "joined:0"], {"p:0": [X, ex()]})
    assert twice.tolist() == [[2, 4], [0, 0]] and joined.tolist() == [X + b"x", ex() + b"x"]


def test_parse_sequence_example():
    records = [sequence(2), sequence(3), sequence(0)]
    p = tf.placeholder(tf.string, [None])
    made = tf.io.parse_sequence_example(p, {"n": FIX([], tf.int64), "q": FIX([2], tf.float32, [1, 2])},
                                        {"t": SEQ([2], tf.int64, True), "v": VAR(tf.string)})
    assert made[1]["t"].shape.as_list() == [None, None, 2] and made[1]["v"].indices.shape.as_list() == [None, 3]
    assert made[2]["t"].name == "ParseSequenceExample/ParseSequenceExample:6"
    assert tuple({k: plain(v) for k, v in part.items()} for part in run(made, {p: records})) == (
        {"n": [2, 3, 0], "q": [[1, 2]] * 3},
        {"t": [[[0, 0], [1, 1], [0, 0]], [[0, 0], [1, 1], [2, 2]], [[0, 0]] * 3],
         "v": ([[0, 1, 0], [1, 1, 0], [1, 2, 0], [1, 2, 1]], [b"x"] * 4, [3, 3, 2])}, {"t": [2, 3, 0]})
    with pytest.raises(INVALID, match="Example: 2, Feature list 't' is required"):
        run(tf.io.parse_sequence_example(records, None, {"t": SEQ([2], tf.int64)}))
    with pytest.raises(INVALID, match="Example: 0, Feature list: t, Step: 0, Key: t.*Expected type: float32"):
        run(tf.io.parse_sequence_example(records, None, {"t": SEQ([2], tf.float32, True)}))
    with pytest.raises(ValueError, match="vector"):
        tf.io.parse_sequence_example(records[0], None, {"t": SEQ([2], tf.int64)})


# ---------------------------------------------------------------- raw bytes


@pytest.mark.parametrize("data, dtype, little, wanted", [
    (["\x01\x02\x03\x04", "\x05\x06\x07\x08"], tf.uint8, True, [[1, 2, 3, 4], [5, 6, 7, 8]]),
    ("\x01\x02\x03\x04", tf.int16, True, [513, 1027]),
    ("\x01\x02\x03\x04", tf.int16, False, [258, 772]), (["", ""], tf.int32, True, [[], []]), ("\x00\x01", tf.bool, True, [False, True]),
    (b"\x00\x3c", tf.half, True, [1.]), (b"\x80\x3f", tf.bfloat16, True, [1.]), (b"\x3f\x80", tf.bfloat16, False, [1.]),
    (b"\x00\x00\x80?\x00\x00\x00@", tf.complex64, True, [1 + 2j]), ([["ab"], ["cd"]], tf.uint8, True, [[[97, 98]], [[99, 100]]]),
    ("\x00\x01", tf.uint16, True, [256]), (b"\xff" * 8, tf.int64, False, [-1]),
    (np.float32([1.5, -2]).tobytes(), tf.float32, True, [1.5, -2]),
    (np.float64([1.5]).tobytes(), tf.float64, True, [1.5]), (b"\xff", tf.int8, True, [-1])])
def test_decode_raw(data, dtype, little, wanted):
    made = tf.decode_raw(data, dtype, little)
    assert made.dtype == dtype and run(made).tolist() == wanted
    fed = tf.placeholder(tf.string, np.shape(data))
    assert run(tf.io.decode_raw(bytes=fed, out_type=dtype, little_endian=little), {fed: data}).tolist() == wanted


def test_decode_raw_errors():
    for data, message in (("abc", "length 3 that is not a multiple of 2"), (["ab", "a"], "element 1 has size 1 != 2")):
        with pytest.raises(INVALID, match=message):
            run(tf.decode_raw(data, tf.int16))
    for dtype in (tf.string, tf.uint32):
        with pytest.raises(TypeError, match="not in list of allowed values"):
            tf.decode_raw("ab", dtype)
    with pytest.raises(ValueError, match="out_type"):
        tf.decode_raw("ab")
    with pytest.raises(ValueError, match="exactly one of"):
        tf.decode_raw(out_type=tf.uint8)
    assert tf.decode_raw(tf.placeholder(tf.string, [None, 3]), tf.uint8).shape.as_list() == [None, 3, None]
    assert run(tf.cast(tf.reshape(tf.decode_raw("\x01\x02", tf.uint8), [2]), tf.float32) / 2).tolist() == [.5, 1]


def test_decode_compressed():
    for kind, pack in (("GZIP", gzip.compress), ("ZLIB", zlib.compress), ("", bytes)):
        assert run(tf.decode_compressed([pack(b"hello"), pack(b"")], kind)).tolist() == [b"hello", b""]
    with pytest.raises(tf.errors.DataLossError):
        run(tf.decode_compressed(["a"], "ZLIB"))
    with pytest.raises(INVALID, match="FOO"):
        run(tf.decode_compressed(["a"], "FOO"))


# ---------------------------------------------------------------- CSV


@pytest.mark.parametrize("records, defaults, options, wanted", [
    (["1,2.5,a", "3,,b"], [[0], [1.5], [""]], {}, [[1, 3], [2.5, 1.5], [b"a", b"b"]]), ("1,2.5,a", [[0], [1.5], [""]], {}, [1, 2.5, b"a"]),
    (['"a,b",1', '"a""b",2'], [[""], [0]], {}, [[b"a,b", b'a"b'], [1, 2]]),
    (['"a,b"'], [[""], [""]], {"use_quote_delim": False}, [[b'"a'], [b'b"']]), (["NA,1"], [[7], [0]], {"na_value": "NA"}, [[7], [1]]),
    (["1,2,3,4"], [[0], [0]], {"select_cols": [1, 3]}, [[2], [4]]), (["1\t2"], [[0], [0]], {"field_delim": "\t"}, [[1], [2]]),
    ([" 1 , 2"], [[0], [0.]], {}, [[1], [2.]]), (["a,"], [[""], ["z"]], {}, [[b"a"], [b"z"]]), (['"",1'], [["d"], [0]], {}, [[b"d"], [1]]),
    ([["1,2"], ["3,4"]], [[0], [0]], {}, [[[1], [3]], [[2], [4]]]), (["1,"], [0, 1], {}, [[1], [1]]),
    (["0x10", "1e3", "-inf"], [[0.]], {}, [[16., 1000., -np.inf]]), (["+5"], [[0]], {}, [[5]]),
    (['"a\nb",1'], [[""], [0]], {}, [[b"a\nb"], [1]]),
    (["3000000000"], [np.zeros(1, np.int64)], {}, [[3000000000]]), (["0.1"], [np.zeros(1)], {}, [[.1]])])
def test_decode_csv(records, defaults, options, wanted):
    made = tf.decode_csv(records, defaults, **options)
    assert [run(t).tolist() if hasattr(run(t), "tolist") else run(t) for t in made] == wanted
    fed = tf.placeholder(tf.string, np.shape(records))
    found = run(tf.io.decode_csv(fed, record_defaults=defaults, **options), {fed: records})
    assert [f.tolist() if hasattr(f, "tolist") else f for f in found] == wanted


@pytest.mark.parametrize("records, defaults, options, message", [
    (["1,,a"], [[0], np.zeros(0, np.float32), [""]], {}, "Field 1 is required but missing in record 0"),
    (["1,2"], [[0], [1.5], [""]], {}, "Expect 3 fields but have 2 in record 0"),
    (["1,2,3,4"], [[0], [1.5], [""]], {}, "have 4 in record 0"),
    (["1", "x"], [[0]], {}, "Field 0 in record 1 is not a valid int32: x"), (["1.5"], [[0]], {}, "not a valid int32"),
    (["3000000000"], [[0]], {}, "not a valid int32"), (["1_0"], [[0]], {}, "not a valid int32"),
    (["x"], [[0.]], {}, "not a valid float: x"),
    (['a"b,1'], [[""], [0]], {}, "Unquoted fields cannot have quotes"), (['"a"b,1'], [[""], [0]], {}, "has to be escaped"),
    (['"ab,1'], [[""], [0]], {}, "has to end with quote"), (["1,2\n"], [[0], [0]], {}, "CRLF"), ([""], [[5]], {}, "have 0 in record 0"),
    (["1,2"], [[0]], {"select_cols": [5]}, "Expect 6 fields but have 2"), (["1"], [[0]], {"field_delim": "ab"}, "only 1 char")])
def test_csv_errors(records, defaults, options, message):
    with pytest.raises(INVALID, match=message):
        run(tf.decode_csv(records, defaults, **options))


def test_csv_usage():
    with pytest.raises(ValueError, match="strictly increasing"):
        tf.decode_csv(["1,2"], [[0], [0]], select_cols=[1, 0])
    with pytest.raises(ValueError, match="do not match"):
        tf.decode_csv(["1,2"], [[0]], select_cols=[0, 1])
    with pytest.raises(ValueError, match="length-1 vector"):
        tf.decode_csv(["1,2"], [[0], [1, 2]])
    with pytest.raises(TypeError, match="uint8"):
        tf.decode_csv(["1"], [np.zeros(1, np.uint8)])
    made = tf.decode_csv(tf.placeholder(tf.string, [None]), [[1], [""]])
    assert made[0].shape.as_list() == [None] and made[1].dtype == tf.string and made[0].op.type == "DecodeCSV"


# ---------------------------------------------------------------- JSON, serialized tensors


def test_decode_json_example():
    text = ('{"features": {"feature": {"a": {"int64List": {"value": ["1", 2]}}, "b": {"float_list": {"value": [0.5]}}, '
            '"c": {"bytesList": {"value": ["%s"]}}}}}' % base64.b64encode(b"hi").decode())
    found = tf.train.Example.FromString(run(tf.decode_json_example(text))).features.feature
    assert list(found["a"].int64_list.value) == [1, 2] and found["b"].float_list.value == [.5] and found["c"].bytes_list.value == [b"hi"]
    for bad in ('{"features": 3}', "{", '{"features": {"feature": {"a": {"fooList": {}}}}}'):
        with pytest.raises(INVALID, match="parsing JSON"):
            run(tf.decode_json_example(bad))


@pytest.mark.parametrize("value, wanted", [
    ([[1., 2.]], "CAESCBICCAESAggCIggAAIA/AAAAQA=="), (["a", "bb"], "CAcSBBICCAJCAWFCAmJi"), (True, "CAoSACIBAQ=="),
    (np.float16(1), "CBMSACICADw="), (np.complex64(1 + 2j), "CAgSACIIAACAPwAAAEA="), (np.zeros((0, 3), np.float32), "CAESBhIAEgIIAw==")])
def test_serialize_tensor(value, wanted):
    """Bytes of TensorFlow 2.21."""
    t = tf.convert_to_tensor(value)
    assert run(tf.serialize_tensor(t)) == base64.b64decode(wanted)
    back = run(tf.parse_tensor(tf.io.serialize_tensor(t), t.dtype))
    assert np.asarray(back, object).tolist() == np.asarray(run(t), object).tolist()


def test_bfloat16_is_serialized():
    t = tf.cast([1., 2.5], tf.bfloat16)
    assert run(tf.cast(tf.parse_tensor(tf.serialize_tensor(t), tf.bfloat16), tf.float32)).tolist() == [1, 2.5]


def test_tensor_protos_by_value():
    """The other way to write one: values, the last of which is repeated."""
    made = proto.TensorProto(dtype=1, float_val=[1, 2])
    made.tensor_shape.dim.add(size=4)
    assert run(tf.parse_tensor(made.SerializeToString(), tf.float32)).tolist() == [1, 2, 2, 2]
    for dtype, name, values, wanted in ((19, "half_val", [0x3C00], [1.]), (3, "int_val", [-5], [-5]), (10, "bool_val", [True], [True]),
                                        (8, "scomplex_val", [1, 2], [1 + 2j]), (22, "uint32_val", [7], [7])):
        made = proto.TensorProto(dtype=dtype, **{name: values})
        made.tensor_shape.dim.add(size=1)
        assert decoding.from_tensor_proto(made)[0].tolist() == wanted


@pytest.mark.parametrize("data, dtype, message", [
    (b"zz", tf.int32, "Could not parse"),
    (decoding.tensor_proto(np.float32([1]), tf.float32).SerializeToString(), tf.int32, "Type mismatch"),
    (b"\x08\x01\x12\x08\x12\x02\x08\x01\x12\x02\x08\x02\"\x04\x00\x00\x80?", tf.float32, r"shape \[1, 2\] with 1 values"),
    (b"\x08\x01\x12\x0f\x12\r\x08\xff\xff\xff\xff\xff\xff\xff\xff\xff\x01", tf.float32, "unknown|Could not")])
def test_parse_tensor_errors(data, dtype, message):
    with pytest.raises(INVALID, match=message):
        run(tf.parse_tensor(data, dtype))


def test_sparse_tensors_are_serialized():
    sp = tf.SparseTensor([[0, 1], [2, 0]], [1., 2.], [3, 2])
    one, many = run([tf.serialize_sparse(sp), tf.serialize_many_sparse(sp)])
    assert one.shape == (3,) and many.shape == (3, 3) and one[1] == base64.b64decode("CAESBBICCAIiCAAAgD8AAABA")
    assert plain(run(tf.deserialize_many_sparse(many, tf.float32))) == ([[0, 1], [2, 0]], [1, 2], [3, 2])
    assert plain(run(tf.deserialize_many_sparse([one, one], tf.float32, rank=3))) == (
        [[0, 0, 1], [0, 2, 0], [1, 0, 1], [1, 2, 0]], [1, 2, 1, 2], [2, 3, 2])
    with pytest.raises(INVALID, match="Type mismatch"):
        run(tf.deserialize_many_sparse(many, tf.int32))
    with pytest.raises(INVALID, match="Rank"):
        run(tf.serialize_many_sparse(tf.SparseTensor([[1]], [1.], [3])))
    with pytest.raises(TypeError, match="variants"):
        tf.serialize_sparse(sp, out_type=tf.float32)
