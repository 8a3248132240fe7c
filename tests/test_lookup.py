"""Lookup tables.  Values of hashes are those of TensorFlow."""
from __future__ import annotations

import numpy as np
import pytest

import graphflow as tf
from graphflow.ops import hashing

lookup = tf.contrib.lookup


@pytest.fixture(autouse=True)
def fresh():
    tf.reset_default_graph()


def run(*fetches, feed=None):
    with tf.Session() as sess:
        sess.run(tf.tables_initializer())
        return sess.run(list(fetches), feed)


def strings(values):
    return tf.constant(values)


def test_hashes_are_those_of_tensorflow():
    words = {"": 1936946117179621455, "a": 3694432073954588131, "abc": 2640714258260161385, "emerson": 3362209019324342810,
             "12345678": 3430003927990384362, "123456789": 2490690402781879402, "x" * 16: 3320895591121647644, "y" * 17: 426471879119003573,
             "z" * 32: 917556916822743649, "w" * 33: 1065610773926128234, "q" * 64: 3227602484106814583, "r" * 65: 3513611017891479274,
             "k" * 130: 3275121648995196441}
    assert {w: hashing.fingerprint64(w.encode()) % 2**62 for w in words} == words
    strong = {"": 443797209252341627, "abc": 1250540936487842205, "12345678": 1897040800951890108, "123456789": 1922551951543731451}
    assert {w: hashing.siphash((1, 2), w.encode()) % 2**62 for w in strong} == strong
    old = {"": 105434511174508091, "a": 2996632905371535868, "12345678": 421129128932463287, "hello world!!": 1188214556408278225}
    assert {w: hashing.hash64(w.encode()) % 2**62 for w in old} == old


def test_keys_and_values():
    table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(["a", "b"], tf.constant([1, 2], tf.int64)), -1)
    x = tf.placeholder(tf.string, [None, 2])
    y, size, (keys, values) = table.lookup(x), table.size(), table.export()
    assert (table.name, table.key_dtype, table.value_dtype) == ("hash_table", tf.string, tf.int64)
    assert (y.dtype, y.shape.as_list()) == (tf.int64, [None, 2])
    assert (table.initializer.name, y.op.name) == ("key_value_init/LookupTableImportV2", "hash_table_Lookup/LookupTableFindV2")
    assert tf.get_collection(tf.GraphKeys.TABLE_INITIALIZERS) == [table.initializer] and table.init is table.initializer
    found = run(y, size, keys, values, table[tf.constant(["b"])], feed={x: [["a", "z"], ["b", "b"]]})
    assert found[0].tolist() == [[1, -1], [2, 2]] and found[1] == 2 and dict(zip(found[2], found[3])) == {b"a": 1, b"b": 2}
    assert found[4].tolist() == [2]


@pytest.mark.parametrize("keys, values, default, ask, expected", [
    (np.array([5, 7], np.int64), ["five", "seven"], "?", np.array([7, 8], np.int64), [b"seven", b"?"]),
    (np.array([5, 7], np.int32), np.array([0.5, 0.75], np.float32), -1.0, np.array([7, 8], np.int32), [0.75, -1.0]),
    (["x"], [True], False, ["x", "y"], [True, False]),
    (["x"], ["y"], "none", ["x", "y"], [b"y", b"none"]),
])
def test_dtypes(keys, values, default, ask, expected):
    table = lookup.HashTable(lookup.KeyValueTensorInitializer(keys, values), default)
    assert run(table.lookup(tf.constant(ask)))[0].tolist() == expected


def test_a_table_feeds_a_model():
    """The lookup is a phase of its own; the rest is compiled, and trains."""
    table = lookup.index_table_from_tensor(["cat", "dog"], num_oov_buckets=1)
    words = tf.placeholder(tf.string, [None])
    weights = tf.Variable(np.arange(6, dtype=np.float32).reshape(3, 2))
    rows = tf.nn.embedding_lookup(weights, table.lookup(words))
    train = tf.train.GradientDescentOptimizer(1.0).minimize(tf.reduce_sum(rows))
    with tf.Session() as sess:
        sess.run([tf.global_variables_initializer(), tf.tables_initializer()])
        assert sess.run(rows, {words: ["dog", "bird"]}).tolist() == [[2, 3], [4, 5]]
        sess.run(train, {words: ["cat", "cat"]})
        assert sess.run(weights).tolist() == [[-2, -1], [2, 3], [4, 5]]


def test_sparse_keys():
    table = lookup.index_table_from_tensor(["a", "b"], num_oov_buckets=2)
    plain = lookup.index_table_from_tensor(["a", "b"])
    sp = tf.SparseTensor([[0, 1], [2, 0]], ["b", "a"], [3, 2])
    for t in (table, plain):
        found = t.lookup(sp)
        assert isinstance(found, tf.SparseTensor)
        value, = run(found)
        assert value.values.tolist() == [1, 0] and value.indices.tolist() == [[0, 1], [2, 0]]


def test_errors():
    table = tf.lookup.StaticHashTable(tf.lookup.KeyValueTensorInitializer(["a", "b"], tf.constant([1, 2], tf.int64)), -1)
    y = table.lookup(tf.constant(["a"]))
    other = tf.lookup.KeyValueTensorInitializer(["c"], tf.constant([1], tf.int64)).initialize(table)
    bad = lookup.HashTable(lookup.KeyValueTensorInitializer(["a", "a"], tf.constant([1, 2], tf.int64)), -1)
    same = lookup.HashTable(lookup.KeyValueTensorInitializer(["a", "a"], tf.constant([1, 1], tf.int64)), -1)
    uneven = lookup.HashTable(lookup.KeyValueTensorInitializer(["a", "b"], tf.placeholder_with_default(np.array([1]), [None])), -1)
    with tf.Session() as sess:
        for fetch in (y, table.export()[0]):
            with pytest.raises(tf.errors.FailedPreconditionError, match="(?s)Table not initialized.*test_lookup.py"):
                sess.run(fetch)
        sess.run(table.initializer)
        sess.run(table.initializer)
        with pytest.raises(tf.errors.FailedPreconditionError, match="already initialized"):
            sess.run(other)
        assert sess.run(y) == [1]
        with pytest.raises(tf.errors.FailedPreconditionError, match="different value for same key. Key a has 1 and trying to add value 2"):
            sess.run(bad.initializer)
        sess.run(same.initializer)
        with pytest.raises(tf.errors.InvalidArgumentError, match="Expected shape"):
            sess.run(uneven.initializer)
    for wrong in (lambda: table.lookup(tf.constant([1])), lambda: lookup.index_table_from_tensor(["a"], dtype=tf.float32),
                  lambda: tf.lookup.StaticVocabularyTable(tf.lookup.KeyValueTensorInitializer(["a"], ["b"]), 1),
                  lambda: lookup.IdTableWithHashBuckets(table, 1, hasher_spec=3), lambda: lookup.StrongHashSpec(["a", "b"]),
                  lambda: lookup.IdTableWithHashBuckets(table, 1, key_dtype=tf.int64)):
        with pytest.raises(TypeError):
            wrong()
    for wrong in (lambda: lookup.index_table_from_tensor(None), lambda: lookup.index_table_from_tensor(["a"], num_oov_buckets=-1),
                  lambda: lookup.index_table_from_tensor([1.5]), lambda: lookup.index_table_from_file(""),
                  lambda: lookup.index_table_from_file("x", vocab_size=0), lambda: tf.lookup.StaticVocabularyTable(None, 0),
                  lambda: lookup.StrongHashSpec([1]), lambda: lookup.IdTableWithHashBuckets(None, 0),
                  lambda: tf.lookup.TextFileInitializer("", tf.string, 0, tf.int64, -1),
                  lambda: tf.lookup.TextFileInitializer("x", tf.string, -1, tf.int64, -1),
                  lambda: tf.lookup.TextFileInitializer("x", tf.float32, -2, tf.int64, -1),
                  lambda: tf.lookup.TextFileInitializer("x", tf.string, -3, tf.int64, -1)):
        with pytest.raises(ValueError):
            wrong()


def test_text_files(tmp_path):
    path = tmp_path / "vocabulary"
    path.write_bytes(b"x 1\r\ny 2\nz 3\n")
    name, column = str(path), tf.lookup.TextFileInitializer
    whole, number = tf.lookup.TextFileIndex.WHOLE_LINE, tf.lookup.TextFileIndex.LINE_NUMBER

    def table(default=-1, **how):
        return tf.lookup.StaticHashTable(column(name, **how), default)
    a = table(key_dtype=tf.string, key_index=0, value_dtype=tf.int64, value_index=1, delimiter=" ")
    b = table(key_dtype=tf.string, key_index=whole, value_dtype=tf.int64, value_index=number, vocab_size=2)
    c = table(key_dtype=tf.int64, key_index=number, value_dtype=tf.string, value_index=0, delimiter=" ", default="?")
    d = table(key_dtype=tf.string, key_index=0, value_dtype=tf.float32, value_index=1, delimiter=" ", default=0.0)
    found = run(a.lookup(strings(["y", "q"])), b.lookup(strings(["y 2", "z 3"])), c.lookup(tf.constant([2, 9], tf.int64)),
                d.lookup(strings(["z"])), b.size())
    assert [f.tolist() for f in found[:4]] == [[2, -1], [1, -1], [b"z", b"?"], [3.0]] and found[4] == 2
    for how, kind, text in ((dict(key_dtype=tf.string, key_index=0, value_dtype=tf.int64, value_index=2, delimiter=" "),
                             tf.errors.InvalidArgumentError, "line 0 .*expected at least 3 got 2"),
                            (dict(key_dtype=tf.int64, key_index=0, value_dtype=tf.int64, value_index=number, delimiter=" "),
                             tf.errors.InvalidArgumentError, "Field x in line 0 of .* is not a valid int64"),
                            (dict(key_dtype=tf.string, key_index=whole, value_dtype=tf.int64, value_index=number, vocab_size=5),
                             tf.errors.InvalidArgumentError, "Invalid vocab_size in .*: expected 5 but got 3")):
        with tf.Session() as sess, pytest.raises(kind, match=text):
            sess.run(table(**how).initializer)
    missing = tf.lookup.StaticHashTable(column(str(tmp_path / "no"), tf.string, whole, tf.int64, number), -1)
    with tf.Session() as sess, pytest.raises(tf.errors.NotFoundError):
        sess.run(missing.initializer)
    assert len(tf.get_collection(tf.GraphKeys.ASSET_FILEPATHS)) == 8


def test_tables_of_vocabularies(tmp_path):
    path = tmp_path / "vocabulary"
    path.write_text("emerson\nlake\npalmer\n")
    name = str(path)
    words = strings(["emerson", "lake", "and", "palmer"])
    ids = tf.constant([1, 5], tf.int64)
    file = lookup.index_table_from_file(name, num_oov_buckets=1)
    tensor = lookup.index_table_from_tensor(["emerson", "lake", "palmer"], default_value=-7)
    assert file.name == "hash_table" and file.key_dtype is tf.string and tensor.default_value.dtype is tf.int64
    found = run(file.lookup(words), file.size(), tensor.lookup(words), lookup.index_to_string_table_from_file(name).lookup(ids),
                lookup.index_to_string_table_from_tensor(["emerson", "lake"], default_value="UNKNOWN").lookup(ids),
                lookup.string_to_index(words, ["lake", "and"]), lookup.index_to_string(ids, ["a", "b"]),
                lookup.string_to_index_table_from_file(name).lookup(words),
                lookup.string_to_index_table_from_tensor(["and"], num_oov_buckets=1).lookup(words),
                lookup.index_table_from_file(name, vocab_size=2).lookup(words))
    assert found[1] == 4
    assert [f.tolist() for k, f in enumerate(found) if k != 1] == [
        [0, 1, 3, 2], [0, 1, -7, 2], [b"lake", b"UNK"], [b"lake", b"UNKNOWN"], [-1, 0, 1, -1], [b"b", b"UNK"], [0, 1, -1, 2], [1, 1, 0, 1],
        [0, 1, -1, -1]]


def test_buckets():
    """TensorFlow's ids of words and numbers that are not in the table."""
    init = tf.lookup.KeyValueTensorInitializer(["a", "b"], tf.constant([0, 1], tf.int64))
    table = tf.lookup.StaticVocabularyTable(init, 5)
    three = lookup.index_table_from_tensor(["a", "b"], num_oov_buckets=3)
    numbers = lookup.index_table_from_tensor([10, 20], num_oov_buckets=3, dtype=tf.int64)
    alone = lookup.IdTableWithHashBuckets(None, 4)
    strong = lookup.IdTableWithHashBuckets(None, 1 << 62, lookup.StrongHashSpec([1, 2]))
    found = run(table.lookup(strings(["a", "b", "c", "dd", "emerson"])), three.lookup(strings(["a", "q", "emerson"])),
                numbers.lookup(tf.constant([10, 7, 123456], tf.int64)), alone.lookup(strings(["a"])), strong.lookup(strings(["abc"])),
                table.size(), alone.size())
    assert [f.tolist() for f in found[:5]] == [[0, 1, 4, 3, 5], [0, 4, 3], [0, 3, 4], [3694432073954588131 % 4], [1250540936487842205]]
    assert found[5:] == [7, 4]
    small = lookup.index_table_from_tensor([1], 2, dtype=tf.int32)
    assert numbers.key_dtype is tf.int64 and small.lookup(tf.constant([5])).dtype is tf.int64


def test_mutable_tables():
    table = lookup.MutableHashTable(tf.string, tf.int64, -1)
    x = tf.placeholder(tf.string, [None])
    y, (keys, values) = table.lookup(x), table.export()
    with tf.Session() as sess:
        assert sess.run(y, {x: ["a"]}).tolist() == [-1]
        sess.run(table.insert(["a", "b", "a"], [1, 2, 3]))
        assert sess.run([y, table.size()], {x: ["a", "q", "b"]})[0].tolist() == [3, -1, 2] and sess.run(table.size()) == 2
        assert dict(zip(*sess.run([keys, values]))) == {b"a": 3, b"b": 2}
        sess.run(table.remove(tf.constant(["a", "zz"])))
        assert sess.run(y, {x: ["a", "b"]}).tolist() == [-1, 2]
        step = [table.insert(x, tf.constant([8], tf.int64)), table.size()]  # in program order
        assert sess.run(step, {x: ["new"]}) == [None, 2]
    assert table.name == "MutableHashTable" and y.op.name == "MutableHashTable_lookup_table_find/LookupTableFindV2"
    with pytest.raises(TypeError):
        table.remove(tf.constant([1]))


def test_mutable_tables_of_vectors():
    table = lookup.MutableDenseHashTable(tf.int64, tf.float32, [0.0, 1.0], empty_key=0, deleted_key=-1)
    y = table.lookup([[3], [4]])
    assert y.shape.as_list() == [2, 1, 2]
    with tf.Session() as sess:
        sess.run(table.insert([3], [[5.0, 6.0]]))
        assert sess.run(y).tolist() == [[[5, 6]], [[0, 1]]] and sess.run(table.export()[1]).tolist() == [[5, 6]]
        for bad, text in ((table.lookup([0]), "empty_key"), (table.insert([-1], [[1.0, 2.0]]), "deleted_key")):
            with pytest.raises(tf.errors.InvalidArgumentError, match=text):
                sess.run(bad)
        with pytest.raises(tf.errors.InvalidArgumentError, match="Expected shape"):
            sess.run(table.insert([7], [1.0]))


def test_tables_are_shared_by_name_and_by_file(tmp_path):
    (tmp_path / "v").write_text("a\n")
    a, b = (lookup.HashTable(lookup.KeyValueTensorInitializer(["a"], tf.constant([5], tf.int64)), -1, shared_name="s") for _ in "ab")
    c, d = (lookup.index_table_from_file(str(tmp_path / "v")) for _ in "cd")
    with tf.Session() as sess:
        sess.run([a.initializer, c.initializer])
        assert sess.run([b.lookup(strings(["a"])), d.lookup(strings(["a"]))]) == [[5], [0]]


def test_tables_in_data_sets_and_branches():
    table = lookup.index_table_from_tensor(["a", "b"])
    data = tf.data.Dataset.from_tensor_slices(["b", "a", "z"]).map(table.lookup)
    iterator = data.make_initializable_iterator()
    element, p = iterator.get_next(), tf.placeholder(tf.bool, [])
    chosen = tf.cond(p, lambda: table.lookup(strings(["b"])), lambda: table.lookup(strings(["a"])) + 10)
    with tf.Session() as sess:
        sess.run(tf.initialize_all_tables())
        sess.run(iterator.initializer)
        assert [sess.run(element) for _ in range(3)] == [1, 0, -1]
        assert sess.run(chosen, {p: True}) == [1] and sess.run(chosen, {p: False}) == [10]
