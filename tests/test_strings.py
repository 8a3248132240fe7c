"""String ops, and strings in all other ops; the wanted values are TensorFlow 2.21's, written down."""
from __future__ import annotations

import numpy as np
import pytest

import graphflow as tf
from graphflow import types
from graphflow.ops import hashing

INVALID = tf.errors.InvalidArgumentError
A = [["a", "b"], ["c", "d"]]


@pytest.fixture(autouse=True)
def fresh_graph():
    with tf.Graph().as_default():
        yield


def run(fetches, feed=None):
    with tf.Session() as s:
        return s.run(fetches, feed)


def plain(value):
    if isinstance(value, tuple):
        return tuple(map(plain, value))
    return value.tolist() if isinstance(value, (np.ndarray, np.generic)) else value


def b(value):
    """Text as bytes, in nested lists."""
    return [b(v) for v in value] if isinstance(value, list) else value.encode() if isinstance(value, str) else value


# ---------------------------------------------------------------- strings are bytes


@pytest.mark.parametrize("value, wanted", [
    ("abc", b"abc"), (["a", b"b", "é"], [b"a", b"b", "é".encode()]), (b"\0a\0", b"\0a\0"), (np.array(["a", "bc"]), [b"a", b"bc"]),
    (np.array(["a", b"\xff"], object), [b"a", b"\xff"]), (["a", b"\xff"], [b"a", b"\xff"]), ([], [])], ids=repr)
def test_constants_and_feeds_are_bytes(value, wanted):
    assert plain(run(tf.constant(value, tf.string))) == wanted
    p = tf.placeholder(tf.string)
    assert plain(run(tf.identity(p), {p: value})) == wanted
    assert plain(run(p, {p: value})) == wanted


def test_what_is_no_string():
    for bad in (["a", 1], [b"a", None], [["a"], 2.5]):
        with pytest.raises((TypeError, ValueError)):
            tf.constant(bad, tf.string)
    p = tf.placeholder(tf.string, [None])
    with pytest.raises(TypeError, match="holds text or bytes, got 1 of type int"):
        run(tf.identity(p), {p: [1]})
    with pytest.raises(TypeError):
        tf.constant(["a"], tf.int32)


OPS = {
    "concat": lambda x: tf.concat([x, x], 1), "stack": lambda x: tf.stack([x, x], 1), "unstack": lambda x: tf.unstack(x, axis=1)[1],
    "split": lambda x: tf.split(x, 2, 1)[1], "a slice": lambda x: x[1:, 0], "a reversed slice": lambda x: x[..., ::-1],
    "a new axis": lambda x: x[:, None], "slice": lambda x: tf.slice(x, [0, 1], [1, 1]), "gather": lambda x: tf.gather(x, [1, 0]),
    "gather_nd": lambda x: tf.gather_nd(x, [[1, 0]]), "reshape": lambda x: tf.reshape(x, [-1]),
    "expand_dims": lambda x: tf.expand_dims(x, 0),
    "squeeze": lambda x: tf.squeeze(x[:1], 0), "transpose": lambda x: tf.transpose(x), "tile": lambda x: tf.tile(x, [1, 2]),
    "reverse": lambda x: tf.reverse(x, [0]), "fill": lambda x: tf.fill([2, tf.shape(x)[0]], "z"),
    "pad": lambda x: tf.pad(x, [[0, 1], [0, 0]]),
    "pad with": lambda x: tf.pad(x, [[1, 0], [0, 0]], constant_values="q"), "zeros_like": lambda x: tf.zeros_like(x),
    "broadcast_to": lambda x: tf.broadcast_to(x[:1], [2, 2]), "equal": lambda x: tf.equal(x, "a"),
    "not_equal": lambda x: tf.not_equal(x, "a"),
    "where": lambda x: tf.where(tf.equal(x, "a"), x, tf.fill([2, 2], "-")), "places": lambda x: tf.where(tf.equal(x, "d")),
    "boolean_mask": lambda x: tf.boolean_mask(x, tf.not_equal(x, "b")), "unique": lambda x: tf.unique(tf.reshape(x, [-1]))[0],
    "cond": lambda x: tf.cond(tf.shape(x)[0] > 2, lambda: x[0], lambda: x[1]),
    "cond of numbers": lambda x: tf.cond(tf.equal(x[0, 0], "a"), lambda: 1, lambda: 2),
    "py_func": lambda x: tf.py_func(lambda v: v, [x], tf.string),
    "py_func of text": lambda x: tf.py_func(lambda v: np.array([w.decode() + "!" for w in v.flat]), [x], tf.string),
    "identity": lambda x: tf.identity(x), "add": lambda x: x + "!", "add on the left": lambda x: "!" + x, "tf.add": lambda x: tf.add(x, x),
    "map_fn": lambda x: tf.map_fn(lambda row: row[0], x), "dynamic_partition": lambda x: tf.dynamic_partition(x, [1, 0], 2)[0]}
WANTED = {
    "concat": [["a", "b", "a", "b"], ["c", "d", "c", "d"]], "stack": [[["a", "b"], ["a", "b"]], [["c", "d"], ["c", "d"]]],
    "unstack": ["b", "d"], "split": [["b"], ["d"]], "a slice": ["c"], "a reversed slice": [["b", "a"], ["d", "c"]],
    "a new axis": [[["a", "b"]], [["c", "d"]]], "slice": [["b"]], "gather": [["c", "d"], ["a", "b"]], "gather_nd": ["c"],
    "reshape": ["a", "b", "c", "d"], "expand_dims": [A], "squeeze": ["a", "b"], "transpose": [["a", "c"], ["b", "d"]],
    "tile": [["a", "b", "a", "b"], ["c", "d", "c", "d"]], "reverse": [["c", "d"], ["a", "b"]], "fill": [["z", "z"]] * 2,
    "pad": [["a", "b"], ["c", "d"], ["", ""]], "pad with": [["q", "q"], ["a", "b"], ["c", "d"]], "zeros_like": [["", ""]] * 2,
    "broadcast_to": [["a", "b"]] * 2, "equal": [[True, False], [False, False]], "not_equal": [[False, True], [True, True]],
    "where": [["a", "-"], ["-", "-"]], "places": [[1, 1]], "boolean_mask": ["a", "c", "d"], "unique": ["a", "b", "c", "d"],
    "cond": ["c", "d"],
    "cond of numbers": 1, "py_func": A, "py_func of text": ["a!", "b!", "c!", "d!"], "identity": A, "add": [["a!", "b!"], ["c!", "d!"]],
    "add on the left": [["!a", "!b"], ["!c", "!d"]], "tf.add": [["aa", "bb"], ["cc", "dd"]], "map_fn": ["a", "c"],
    "dynamic_partition": [["c", "d"]]}


@pytest.mark.parametrize("op", OPS)
@pytest.mark.filterwarnings("ignore:this request is run op by op")
def test_ops_that_move_strings(op):
    assert plain(run(OPS[op](tf.constant(A)))) == b(WANTED[op])
    p = tf.placeholder(tf.string, [None, 2])
    assert plain(run(OPS[op](p), {p: A})) == b(WANTED[op])


def test_strings_beside_numbers_in_one_step():
    p, x = tf.placeholder(tf.string, [None]), tf.placeholder(tf.float32, [None])
    total = tf.reduce_sum(tf.where(tf.equal(p, "keep"), x * 2, tf.zeros_like(x)))
    found = run([total, tf.concat([p, p], 0)], {p: ["keep", "drop", "keep"], x: [1, 10, 100]})
    assert found[0] == 202 and found[1].tolist() == b(["keep", "drop", "keep"] * 2)


def test_variables_of_strings():
    v, w = tf.Variable(["a", "b"]), tf.get_variable("w", [], tf.string, tf.constant_initializer("q"))
    with tf.Session() as s:
        s.run(tf.global_variables_initializer())
        assert s.run(v).tolist() == [b"a", b"b"] and s.run(w) == b"q"
        assert s.run(v.assign(["x", "yy"])).tolist() == [b"x", b"yy"]
        v.load(["n", "m"], s)
        s.run(tf.cond(tf.constant(True), lambda: v.assign(["in", "side"]), lambda: v.assign(["no", "no"])))
        assert s.run(tf.concat([v, [w]], 0)).tolist() == [b"in", b"side", b"q"]
        s.run(w.assign("z"))
        assert s.run([v, w])[1] == b"z"


def test_random_shuffle_of_strings():
    assert sorted(run(tf.random_shuffle(["a", "b", "c"])).tolist()) == [b"a", b"b", b"c"]


# ---------------------------------------------------------------- one string at a time


@pytest.mark.parametrize("make, wanted", [
    (lambda: tf.strings.lower(["ABC É"]), ["abc É"]), (lambda: tf.strings.lower(["ABC É"], encoding="utf-8"), ["abc é"]),
    (lambda: tf.strings.upper(["abc é"]), ["ABC é"]), (lambda: tf.strings.upper(["straße"], encoding="utf-8"), ["STRASSE"]),
    (lambda: tf.string_strip(["  a b \n", "\t"]), ["a b", ""]), (lambda: tf.strings.length(["abc", "é", ""]), [3, 2, 0]),
    (lambda: tf.strings.length(["abc", "é"], unit="UTF8_CHAR"), [3, 1]),
    (lambda: tf.encode_base64(["a", "ab", b"\xff\xfe\xfd"]), ["YQ", "YWI", "__79"]), (lambda: tf.encode_base64("a", pad=True), "YQ=="),
    (lambda: tf.decode_base64(["YQ", "YWI=", "__79"]), [b"a", b"ab", b"\xff\xfe\xfd"]),
    (lambda: tf.substr(["hello", "world"], 1, 3), ["ell", "orl"]), (lambda: tf.substr("hello", -3, 2), "ll"),
    (lambda: tf.substr("hello", 3, 10), "lo"), (lambda: tf.substr("hello", 5, 1), ""),
    (lambda: tf.substr(["hello", "world"], [[0], [1]], [[1], [2]]), [["h", "w"], ["el", "or"]]),
    (lambda: tf.strings.substr("héllo", 1, 2, unit="UTF8_CHAR"), "él"), (lambda: tf.substr("hello", 1, -1), "ello"),
    (lambda: tf.strings.regex_full_match(["TF lib", "lib TF"], ".*lib$"), [True, False]),
    (lambda: tf.strings.regex_full_match(["abc", "ab1"], "[[:alpha:]]+"), [True, False]),
    (lambda: tf.regex_replace("Text with tags.<br /><b>contains html</b>", "<[^>]+>", " "), "Text with tags.  contains html "),
    (lambda: tf.strings.regex_replace(["ab12"], r"([a-z]+)(\d+)", r"\2-\1-\0"), ["12-ab-ab12"]),
    (lambda: tf.strings.regex_replace("aaa", "a", "b", replace_global=False), "baa"),
    (lambda: tf.strings.regex_replace("éa", ".", "x"), "xx"), (lambda: tf.strings.regex_replace("a", "a", r"\\"), "\\"),
    (lambda: tf.strings.regex_replace("a", "a", r"\3"), "a"),
    (lambda: tf.strings.regex_replace("abc", tf.constant("b"), tf.constant("X")), "aXc"),
    (lambda: tf.string_to_number(["1.5", "1e3", " 7 "]), [1.5, 1000, 7]), (lambda: tf.string_to_number(["-3"], tf.int32), [-3]),
    (lambda: tf.strings.to_number(input="5", out_type=tf.int64), 5), (lambda: tf.as_string([1, -2]), ["1", "-2"]),
    (lambda: tf.as_string([1.5, np.pi, 1e10, np.nan, np.inf]), ["1.500000", "3.141593", "10000000000.000000", "nan", "inf"]),
    (lambda: tf.as_string([np.pi], precision=3), ["3.142"]), (lambda: tf.as_string([np.pi], scientific=True), ["3.141593e+00"]),
    (lambda: tf.as_string([np.pi, 1e10, 1.], shortest=True), ["3.14159", "1e+10", "1"]),
    (lambda: tf.as_string([5, -42], width=6), ["     5", "   -42"]),
    (lambda: tf.as_string([5, -42], width=6, fill="0"), ["000005", "-00042"]), (lambda: tf.as_string(5, width=6, fill="-"), "5     "),
    (lambda: tf.as_string([True, False]), ["true", "false"]), (lambda: tf.as_string([1 + 2j]), ["(1.000000,2.000000)"]),
    (lambda: tf.as_string(["a"]), ["a"]), (lambda: tf.as_string(np.float16([1.5])), ["1.500000"]),
    (lambda: tf.strings.unicode_transcode([b"a\xffb"], "UTF-8", "UTF-8"), ["a�b"]),
    (lambda: tf.strings.unicode_transcode(["hé"], "UTF-8", "UTF-16-BE"), [b"\0h\0\xe9"]),
    (lambda: tf.strings.unicode_transcode([b"\xe9"], "latin1", "UTF-8"), ["é"]),
    (lambda: tf.strings.unicode_transcode([b"a\xffb"], "UTF-8", "UTF-8", errors="ignore"), ["ab"]),
    (lambda: tf.strings.unicode_transcode([b"a\xffb"], "UTF-8", "UTF-8", replacement_char=63), ["a?b"]),
    (lambda: tf.strings.unicode_transcode(["a\0\nb"], "UTF-8", "UTF-8", replace_control_characters=True), ["a��b"]),
    (lambda: tf.strings.unicode_encode([[72, 105], [233, 0x1F600]], "UTF-8"), ["Hi", "é😀"])])
def test_values(make, wanted):
    assert plain(run(make())) == (wanted if isinstance(wanted, list) and not any(isinstance(v, (str, list)) for v in wanted) else b(wanted))


@pytest.mark.parametrize("make, wanted", [
    (lambda: tf.string_join(["a", "b"]), "ab"), (lambda: tf.strings.join([["a", "b"], "x"], "-"), ["a-x", "b-x"]),
    (lambda: tf.string_join([]), ""),
    (lambda: tf.reduce_join(A, 0), ["ac", "bd"]), (lambda: tf.reduce_join(A, -1, separator="."), ["a.b", "c.d"]),
    (lambda: tf.reduce_join(A, 1, keep_dims=True), [["ab"], ["cd"]]), (lambda: tf.reduce_join(A), "abcd"),
    (lambda: tf.reduce_join(A, [0, 1]), "acbd"), (lambda: tf.reduce_join(A, [1, 0]), "abcd"), (lambda: tf.reduce_join(A, []), A),
    (lambda: tf.reduce_join(A, reduction_indices=1), ["ab", "cd"]), (lambda: tf.reduce_join("a"), "a"),
    (lambda: tf.strings.reduce_join(tf.zeros([2, 0], tf.string), 1, separator=","), ["", ""]),
    (lambda: tf.strings.unsorted_segment_join(["a", "b", "c"], [1, 0, 1], 3, separator="-"), ["b", "a-c", ""]),
    (lambda: tf.strings.unsorted_segment_join(A, [-1, 0], 1), [["c", "d"]]),
    (lambda: tf.strings.format("x: {} y: {}", (tf.constant([1, 2, 3]), tf.constant("s"))), 'x: [1 2 3] y: "s"'),
    (lambda: tf.strings.format("v {}", tf.constant(1.5)), "v 1.5"),
    (lambda: tf.strings.format("{}", tf.range(20), summarize=2), "[0 1 ... 18 19]"),
    (lambda: tf.strings.format("a % b", tf.constant(1), placeholder="%"), "a 1 b"),
    (lambda: tf.strings.format("{}", tf.constant(["a"])), '["a"]'),
    (lambda: tf.strings.format("{}", tf.constant([[1, 2], [3, 4]])), "[[1 2]\n [3 4]]")])
def test_joined(make, wanted):
    assert plain(run(make())) == b(wanted)


@pytest.mark.parametrize("make, indices, values, shape", [
    (lambda: tf.string_split(["hello world", "a b c", ""]), [[0, 0], [0, 1], [1, 0], [1, 1], [1, 2]], "hello world a b c", [3, 3]),
    (lambda: tf.string_split(["a,b;c"], ",;"), [[0, 0], [0, 1], [0, 2]], "a b c", [1, 3]),
    (lambda: tf.string_split(["a,b"], delimiter=","), [[0, 0], [0, 1]], "a b", [1, 2]),
    (lambda: tf.string_split(["a,,b,"], ","), [[0, 0], [0, 1]], "a b", [1, 2]),
    (lambda: tf.string_split(["ab", "c"], ""), [[0, 0], [0, 1], [1, 0]], "a b c", [2, 2]),
    (lambda: tf.strings.split(["hello  world ", " a b c", ""]), [[0, 0], [0, 1], [1, 0], [1, 1], [1, 2]], "hello world a b c", [3, 3]),
    (lambda: tf.strings.split(["a,b,c"], ",", maxsplit=1), [[0, 0], [0, 1]], "a b,c", [1, 2]),
    (lambda: tf.strings.split("a b"), [[0, 0], [0, 1]], "a b", [1, 2]),
    (lambda: tf.strings.split(source=["a b"]), [[0, 0], [0, 1]], "a b", [1, 2]),
    (lambda: tf.strings.split([["a b"], ["c"]]), [[0, 0, 0], [0, 0, 1], [1, 0, 0]], "a b c", [2, 1, 2]),
    (lambda: tf.string_split([""]), [], "", [1, 0])])
def test_split(make, indices, values, shape):
    found = run(make())
    assert plain(found) == (indices, b(values.split(" ")) if values else [], shape)


def test_empty_pieces():
    assert run(tf.string_split(["a,,b,"], ",", skip_empty=False)).values.tolist() == [b"a", b"", b"b", b""]
    assert run(tf.strings.split(["a<>b<>"], "<>")).values.tolist() == [b"a", b"b", b""]
    assert run(tf.strings.split(["a b c d"], maxsplit=2)).values.tolist() == [b"a", b"b", b"c d"]
    assert run(tf.string_split([b"h\xc3\xa9"], "")).values.tolist() == [b"h", b"\xc3", b"\xa9"]


@pytest.mark.parametrize("make, kind, message", [
    (lambda: tf.string_join([["a", "b"], ["x"]]), ValueError, "not compatible"), (lambda: tf.string_split("a b"), ValueError, "rank 1"),
    (lambda: tf.strings.split(["a"], result_type="RaggedTensor"), ValueError, "RaggedTensor"),
    (lambda: tf.string_split(["a"], ",", delimiter=","), ValueError, "delimiter"),
    (lambda: tf.string_to_number("abc"), INVALID, "convert string: 'abc'"),
    (lambda: tf.string_to_number("1.5", tf.int32), INVALID, "convert string"),
    (lambda: tf.string_to_number("1_0", tf.int32), INVALID, "convert"),
    (lambda: tf.string_to_number("99999999999", tf.int32), INVALID, "convert string"),
    (lambda: tf.string_to_number(""), INVALID, "convert"),
    (lambda: tf.string_to_number("1", tf.uint8), TypeError, "uint8"),
    (lambda: tf.string_to_hash_bucket_fast(["a"], 0), ValueError, "minimum 1"),
    (lambda: tf.string_to_hash_bucket_strong(["a"], 5, [1]), ValueError, "2 elements"),
    (lambda: tf.substr("hello", 6, 1), INVALID, "pos 6 out of range"),
    (lambda: tf.substr("hello", -6, 1), INVALID, "pos -6 out of range for string b'hello' at index 0"),
    (lambda: tf.substr("hello", 1, 1, unit="X"), ValueError, "unit"), (lambda: tf.strings.lower("A", encoding="x"), INVALID, "utf-8"),
    (lambda: tf.regex_replace("a", "(", "b"), INVALID, "Invalid pattern"), (lambda: tf.reduce_join([["a"]], 2), ValueError, "axis 2"),
    (lambda: tf.reduce_join(A, [0, 0]), ValueError, "Duplicate"),
    (lambda: tf.as_string([1.], scientific=True, shortest=True), INVALID, "both"),
    (lambda: tf.as_string([1], precision=2), INVALID, "precision not supported"), (lambda: tf.as_string([1], fill="x"), INVALID, "Fill"),
    (lambda: tf.decode_base64("Y"), INVALID, "1 modulo 4"), (lambda: tf.decode_base64("Y+=="), INVALID, "Invalid character"),
    (lambda: tf.strings.format("{} {}", tf.constant(1)), ValueError, "expects 2 tensors"),
    (lambda: tf.strings.unsorted_segment_join(["a"], [3], 2), INVALID, "num_segments"),
    (lambda: tf.strings.unicode_transcode([b"\xff"], "UTF-8", "UTF-8", errors="strict"), INVALID, "Invalid formatting"),
    (lambda: tf.strings.unicode_transcode(["a"], "FOO", "UTF-8"), INVALID, "FOO"), (lambda: tf.strings.lower([1]), TypeError, "string|str"),
    (lambda: tf.strings.unicode_transcode(["a"], "UTF-8", "FOO"), ValueError, "FOO"),
    (lambda: tf.strings.unicode_encode([[-1]], "UTF-8", errors="strict"), INVALID, "Code point -1"),
    (lambda: tf.less(["a"], "b"), TypeError, "string"),
    (lambda: tf.cast(["1"], tf.int32), TypeError, "string")])
def test_errors(make, kind, message):
    with pytest.raises(kind, match=message):
        run(make())


# ---------------------------------------------------------------- hashes

WORDS = ["", "a", "ab", "hello", "0123456789abcdef", "0123456789abcdefg", "x" * 31, "y" * 32, "z" * 33, "q" * 63, "w" * 64, "e" * 65,
         "The quick brown fox jumps over the lazy dog and then some more text to be long enough" * 3, "é", b"\x00\xff",
         "".join(chr(65 + i % 26) for i in range(200)), "u" * 127, "v" * 128, "k" * 129, "r" * 1000]
# TensorFlow's buckets of these words, of 2^62.
FAST = [1936946117179621455, 3694432073954588131, 3066228220894225694, 3786372426573024488, 1493332391325024359, 2800675501336285770,
        653807226908884511, 2351315479247125839, 1983000239170337647, 2530101068778109086, 4555407945498560506, 3880795628666184432,
        1691959284885672367, 693143013273849025, 2909837915285000904, 3882817838656620496, 1127021153988168869, 532160357238205671,
        930124591354907890, 1902959681353252643]
STRONG = [443797209252341627, 546566331822570742, 4607785088827641202, 2957200328589801622, 2696401170605352036, 2289318929677843346,
          4258031775828252694, 802607427582934522, 1384389142664038360, 3658912735389040105, 961158343003684371, 2493106731665117993,
          3953474725764402489, 4006969190011310591, 4467678397361794397, 2931228096081923453, 2960343184728443901, 3099678683810925618,
          124496631629828305, 1964410675261617437]  # with the key (1, 2)
OLD = [105434511174508091, 2996632905371535868, 3579204183985781795, 1331861223480393034, 1490712428580208486, 1785752214242554974,
       2862751053989150778, 3874897754820414304, 4527227941403067175, 3711181876045304505, 417399292188722093, 2595388683495604918,
       3600536387542276043, 3701471315553960761, 1751249499085313975, 812693176424936327, 4399462471107025448, 2558498886995239464,
       4554135698646576699, 3490232747374794131]


def test_hash_buckets():
    n = 2**62
    fast, strong, old, few = run([tf.string_to_hash_bucket_fast(WORDS, n), tf.string_to_hash_bucket_strong(WORDS, n, [1, 2]),
                                  tf.string_to_hash_bucket(WORDS, n), tf.strings.to_hash_bucket_fast(WORDS, 10)])
    assert fast.tolist() == FAST and strong.tolist() == STRONG and old.tolist() == OLD and fast.dtype == np.int64
    assert few.tolist() == [3, 9, 2, 6, 3, 8, 3, 3, 9, 6, 6, 6, 9, 5, 4, 0, 3, 3, 0, 5]
    assert run(tf.strings.to_hash_bucket_strong(WORDS[:4], 1000, [2**63 - 1, 123456789012345])).tolist() == [909, 533, 73, 705]


def test_siphash_of_its_authors():
    """The test vector of the paper: key 00 01 .. 0f, message 00 01 .. 0e."""
    key = int.from_bytes(bytes(range(8)), "little"), int.from_bytes(bytes(range(8, 16)), "little")
    assert hashing.siphash(key, bytes(range(15))) == 0xA129CA6149BE45E5


def test_names_and_shapes():
    p = tf.placeholder(tf.string, [None, 3])
    assert tf.string_split(p[:, 0]).indices.name == "StringSplit/StringSplit:0" and tf.reduce_join(p, 0).shape.as_list() == [3]
    assert tf.reduce_join(p, 1, keepdims=True).name == "ReduceJoin_1/ReduceJoin:0"
    found = tf.strings.substr(p, 0, [[1, 2, 3]])
    assert found.shape.as_list() == [None, 3] and found.name == "Substr:0"
    assert tf.strings.length(p).dtype == tf.int32 and tf.strings.length(p).shape.as_list() == [None, 3]
    assert tf.string_join([p, "a"]).shape.as_list() == [None, 3] and tf.as_string(1).shape.as_list() == []
    assert tf.strings.unsorted_segment_join(p, [0, 1], 5).shape.as_list() == [5, 3]
    assert tf.strings.join is tf.string_join and tf.strings.strip is tf.string_strip


def test_as_strings():
    assert types.as_strings([["a", b"b"]]).tolist() == [[b"a", b"b"]] and types.as_strings("x")[()] == b"x"
    with pytest.raises(TypeError, match="a test holds text or bytes, got 3"):
        types.as_strings([3], "a test")
