"""Feature columns.  Values and names are those of TensorFlow."""
from __future__ import annotations

import numpy as np
import pytest
from on_gpu import QUICK

import graphflow as tf
from graphflow.flags import flags

fc = tf.feature_column
numeric, vocabulary = fc.numeric_column, fc.categorical_column_with_vocabulary_list
hashed, identity, from_file = (fc.categorical_column_with_hash_bucket, fc.categorical_column_with_identity,
                               fc.categorical_column_with_vocabulary_file)
indicator, bucketized, crossed, weighted = fc.indicator_column, fc.bucketized_column, fc.crossed_column, fc.weighted_categorical_column


@pytest.fixture(autouse=True)
def fresh():
    tf.reset_default_graph()


def sparse(indices, values, shape):
    return tf.SparseTensor(np.array(indices, np.int64), values, shape)


def features():
    return {"a": tf.constant([[1.0], [2.0], [-1.0]]), "a2": tf.constant([[1.0, 5.0], [2.0, 1.5], [0.0, 9.0]]), "r1": tf.constant([3, 4, 5]),
            "b": tf.constant(["x", "y", "zebra"]), "c": tf.constant([["x", "y"], ["z", ""], ["", ""]]), "n": tf.constant([[3], [7], [-1]]),
            "s": sparse([[0, 0], [0, 1], [2, 0]], ["x", "q", "y"], [3, 2]), "oor": tf.constant([[3], [12], [0]]),
            "si": sparse([[0, 0], [0, 1], [2, 0]], np.array([3, 0, 2], np.int64), [3, 2]),
            "w": sparse([[0, 0], [0, 1], [2, 0]], np.array([0.5, 2.0, -1.0], np.float32), [3, 2])}


def steps(shape, dtype=None, partition_info=None):
    return tf.reshape(tf.cast(tf.range(shape[0] * shape[1]), tf.float32) / 10.0, shape)


def words(key="s", **settings):
    return vocabulary(key, ["x", "y", "z"], **settings)


def embedded(column, dimension=2, *args, **settings):
    return fc.embedding_column(column, dimension, *args, initializer=steps, **settings)


DENSE = {
    "numeric": (lambda f: [numeric("a")], [[1], [2], [-1]]),
    "normalized": (lambda f: [numeric("a2", shape=2), numeric("a", normalizer_fn=lambda x: x * 2)], [[2, 1, 5], [4, 2, 1.5], [-2, 0, 9]]),
    "vector": (lambda f: [numeric("r1", dtype=tf.int32)], [[3], [4], [5]]),
    "buckets": (lambda f: [bucketized(numeric("a2", 2), [0.0, 1.5, 2.0])],
                [[0, 1, 0, 0, 0, 0, 0, 1], [0, 0, 0, 1, 0, 0, 1, 0], [0, 1, 0, 0, 0, 0, 0, 1]]),
    "list": (lambda f: [indicator(words())], [[1, 0, 0], [0, 0, 0], [0, 1, 0]]),
    "list, oov": (lambda f: [indicator(words(num_oov_buckets=2))], [[1, 0, 0, 0, 1], [0, 0, 0, 0, 0], [0, 1, 0, 0, 0]]),
    "list, default": (lambda f: [indicator(words(default_value=1))], [[1, 1, 0], [0, 0, 0], [0, 1, 0]]),
    "list of integers": (lambda f: [indicator(vocabulary("n", [7, 3]))], [[0, 1], [1, 0], [0, 0]]),
    "file": (lambda f: [indicator(from_file("c", f, num_oov_buckets=2))], [[1, 1, 0, 0, 0], [0, 0, 1, 0, 0], [0, 0, 0, 0, 0]]),
    "part of a file": (lambda f: [indicator(from_file("c", f, 2))], [[1, 1], [0, 0], [0, 0]]),
    "hash": (lambda f: [indicator(hashed("c", 10))],
             [[1, 0, 0, 0, 0, 1, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 1, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0]]),
    "hash of integers": (lambda f: [indicator(hashed("n", 10, tf.int32))],
                         [[0, 1, 0, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 0, 0, 0, 1, 0], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0]]),
    "identity": (lambda f: [indicator(identity("si", 5))], [[1, 0, 0, 1, 0], [0, 0, 0, 0, 0], [0, 0, 1, 0, 0]]),
    "identity, default": (lambda f: [indicator(identity("oor", 5, default_value=1))], [[0, 0, 0, 1, 0], [0, 1, 0, 0, 0], [1, 0, 0, 0, 0]]),
    "weights": (lambda f: [indicator(weighted(words(), "w"))], [[0.5, 0, 0], [0, 0, 0], [0, -1, 0]]),
    "cross": (lambda f: [indicator(crossed(["b", "c"], 10))],
              [[0, 0, 0, 0, 1, 0, 0, 0, 1, 0], [0, 1, 0, 0, 0, 1, 0, 0, 0, 0], [0, 0, 0, 2, 0, 0, 0, 0, 0, 0]]),
    "cross of columns": (lambda f: [indicator(crossed([bucketized(numeric("a"), [0.0, 1.5]), "b", words()], 10, hash_key=3))],
                         [[0, 0, 0, 0, 0, 0, 0, 0, 1, 1], [0, 0, 0, 0, 0, 0, 0, 0, 0, 0], [0, 0, 0, 0, 0, 1, 0, 0, 0, 0]]),
    "embedding": (lambda f: [embedded(words())], [[0, 0.1], [0, 0], [0.2, 0.3]]),
    "embedding, sqrtn": (lambda f: [embedded(words(), 2, "sqrtn")], [[0, 0.1], [0, 0], [0.2, 0.3]]),
    "embedding, sum": (lambda f: [embedded(words(num_oov_buckets=3), 2, "sum")], [[1, 1.2], [0, 0], [0.2, 0.3]]),
    "embedding, weights": (lambda f: [embedded(weighted(words(), "w"))], [[0, 0.1], [0, 0], [0, 0]]),
    "embedding, norm": (lambda f: [embedded(identity("si", 5), 3, max_norm=0.5)],
                        [[0.1295, 0.1939, 0.2582], [0, 0, 0], [0.2458, 0.2867, 0.3277]]),
    "shared": (lambda f: fc.shared_embedding_columns([words(), words("c")], 2, initializer=steps) + [numeric("a")],
               [[1, 0.1, 0.2, 0, 0.1], [2, 0.4, 0.5, 0, 0], [-1, 0, 0, 0.2, 0.3]]),
    "embedding of a cross": (lambda f: [embedded(crossed(["b", "c"], 7))], [[0.1, 0.2], [0.7, 0.8], [0.4, 0.5]]),
    "by name": (lambda f: [embedded(words()), numeric("a"), indicator(words("b")), bucketized(numeric("a"), [0.0])],
                [[1, 0, 1, 1, 0, 0, 0, 0.1], [2, 0, 1, 0, 1, 0, 0, 0], [-1, 1, 0, 0, 0, 0, 0.2, 0.3]]),
}


def run(fetches, **switches):
    with flags.override(**switches), tf.Session() as sess:
        sess.run([tf.global_variables_initializer(), tf.tables_initializer()])
        return sess.run(fetches)


@pytest.fixture(scope="module")
def dense_values(tmp_path_factory):
    """All of DENSE, from one graph and one run."""
    path = tmp_path_factory.mktemp("words") / "words.txt"
    path.write_text("x\ny\nz\n")
    with tf.Graph().as_default():
        found = {}
        for case, (columns, _) in DENSE.items():
            with tf.variable_scope(case.translate(str.maketrans(" ,", "__"))):
                found[case] = fc.input_layer(features(), columns(path))
                for key in tf.get_default_graph().get_all_collection_keys():
                    if key.endswith("_shared_embedding"):
                        tf.get_default_graph().clear_collection(key)
        return {case: (t.shape[1].value, value) for (case, t), value in zip(found.items(), run(list(found.values()), interpret=QUICK))}


@pytest.mark.parametrize("case", DENSE)
def test_input_layer(case, dense_values):
    width, value = dense_values[case]
    np.testing.assert_allclose(value, np.array(DENSE[case][1], np.float32), rtol=1e-3, atol=1e-6)
    assert width == value.shape[1] and value.dtype == np.float32


LINEAR = {
    "numeric": (lambda: [numeric("a"), numeric("a2", 2)], dict.fromkeys(("sum", "mean", "sqrtn"), [[1.8, 2.6], [0.95, 1.6], [2.7, 3.6]])),
    "categories": (lambda: [words(), hashed("c", 5)], {
        "sum": [[0.4, 0.8], [0.6, 0.8], [0.4, 0.6]], "mean": [[0.3, 0.6], [0.6, 0.8], [0.4, 0.6]],
        "sqrtn": [[0.3414, 0.6828], [0.6, 0.8], [0.4, 0.6]]}),
    "buckets": (lambda: [bucketized(numeric("a2", 2), [0.0, 1.5, 2.0])], {
        "sum": [[1.9, 2.2], [2.1, 2.4], [1.9, 2.2]], "mean": [[1.0, 1.2], [1.1, 1.3], [1.0, 1.2]],
        "sqrtn": [[1.3728, 1.6142], [1.5142, 1.7556], [1.3728, 1.6142]]}),
    "weights": (lambda: [weighted(words(), "w"), numeric("a")], {
        "sum": [[0.25, 0.5], [0.3, 0.6], [-0.3, -0.4]], "mean": [[0.3, 0.6], [0.3, 0.6], [0.0, 0.0]],
        "sqrtn": [[0.3, 0.6], [0.3, 0.6], [0.0, 0.0]]}),
    "cross": (lambda: [crossed(["b", "c"], 7)], {
        "sum": [[0.5, 0.8], [1.7, 2.0], [1.1, 1.4]], "mean": [[0.3, 0.5], [0.9, 1.1], [0.6, 0.8]],
        "sqrtn": [[0.3828, 0.6243], [1.2314, 1.4728], [0.8071, 1.0485]]}),
    "mixed": (lambda: [words(), numeric("a"), embedded(words("b"))],
              dict.fromkeys(("sum", "mean", "sqrtn"), [[0.37, 0.7], [0.45, 0.82], [0.3, 0.4]])),
}


def test_linear_model():
    wanted = [(case, combiner) for case in LINEAR for combiner in ("sum", "mean", "sqrtn")]
    made = [fc.linear_model(features(), LINEAR[case][0](), units=2, sparse_combiner=combiner) for case, combiner in wanted]
    with flags.override(interpret=QUICK), tf.Session() as sess:
        assert {v.shape.as_list()[-1] for v in tf.trainable_variables()} == {2}
        sess.run(tf.tables_initializer())
        for v in tf.global_variables():
            shape = v.shape.as_list()
            v.load(np.arange(np.prod(shape), dtype=np.float32).reshape(shape) / 10 + 0.1, sess)
        for (case, combiner), value in zip(wanted, sess.run(made)):
            np.testing.assert_allclose(value, LINEAR[case][1][combiner], atol=1e-4, err_msg=f"{case} {combiner}")


def test_names_collections_and_dictionaries():
    columns = [numeric("a"), hashed("b", 5), bucketized(numeric("a"), [0.0, 1.5])]
    with tf.variable_scope("out"):
        found = {}
        assert fc.linear_model(features(), columns, weight_collections=["mine"], cols_to_vars=found).shape.as_list() == [3, 1]
        fc.linear_model(features(), columns, trainable=False)
    names = ["out/linear_model/a/weights:0", "out/linear_model/a_bucketized/weights:0", "out/linear_model/b/weights:0",
             "out/linear_model/bias_weights:0"]
    later = ["out/linear_model_1/a_1/weights:0", "out/linear_model_1/a_bucketized_1/weights:0", "out/linear_model_1/b_1/weights:0",
             "out/linear_model_1/bias_weights:0"]
    assert [v.name for v in tf.global_variables()] == [v.name for v in tf.get_collection(tf.GraphKeys.MODEL_VARIABLES)] == names + later
    assert [v.name for v in tf.get_collection("mine")] == [v.name for v in tf.trainable_variables()] == names
    assert {getattr(c, "name", c): [v.name for v in vs] for c, vs in found.items()} == {
        "a": names[:1], "a_bucketized": names[1:2], "b": names[2:3], "bias": names[3:]}
    assert [v.shape.as_list() for v in tf.get_collection("mine")] == [[1, 1], [3, 1], [5, 1], [1]]


def test_names_of_embeddings():
    shared = fc.shared_embedding_columns([hashed("b", 5), hashed("c", 5)], 3)
    own, found, tensors = fc.embedding_column(hashed("b", 5), 3), {}, {}
    columns = [own, *shared, numeric("a")]
    with tf.variable_scope("o"):
        made = fc.input_layer(features(), iter(columns), cols_to_vars=found, cols_to_output_tensors=tensors)
    names = ["o/input_layer/b_embedding/embedding_weights:0", "o/input_layer/b_c_shared_embedding/embedding_weights:0"]
    assert made.shape.as_list() == [3, 10] and [v.name for v in tf.trainable_variables()] == names
    assert [v.name for v in tf.get_collection("b_c_shared_embedding")] == names[1:]
    assert [[v.name for v in found[c]] for c in columns] == [names[:1], names[1:], [], []]
    assert [tensors[c].shape.as_list() for c in columns] == [[3, 3]] * 3 + [[3, 1]]
    spread = run(tf.global_variables())[0].std()
    assert 0 < spread < 1.2 / 3 ** 0.5 and (own.name, shared[0].name) == ("b_embedding", "b_shared_embedding")


def test_sequences():
    of = {"t": sparse([[0, 0], [0, 1], [2, 0]], ["x", "q", "y"], [3, 3]),
          "x": sparse([[0, 0], [0, 1], [2, 0], [2, 1]], np.array([1, 2, 3, 4], np.float32), [3, 4]),
          "i": sparse([[0, 0, 0], [0, 0, 1], [0, 2, 0], [2, 0, 0]], np.array([0, 1, 1, 0], np.int64), [3, 3, 2])}
    contrib = tf.contrib.feature_column
    expected = [
        (embedded(contrib.sequence_categorical_column_with_vocabulary_list("t", ["x", "y"], num_oov_buckets=1)),
         [[[0, 0.1], [0.4, 0.5], [0, 0]], np.zeros((3, 2)), [[0.2, 0.3], [0, 0], [0, 0]]], [2, 0, 1]),
        (contrib.sequence_numeric_column("x", default_value=-1.0), [[[1], [2], [-1], [-1]], [[-1]] * 4, [[3], [4], [-1], [-1]]], [2, 0, 2]),
        (contrib.sequence_numeric_column("x", shape=2), [[[1, 2], [0, 0]], np.zeros((2, 2)), [[3, 4], [0, 0]]], [1, 0, 1]),
        (indicator(contrib.sequence_categorical_column_with_hash_bucket("t", 4)),
         [[[0, 0, 1, 0], [0, 1, 0, 0], [0] * 4], np.zeros((3, 4)), [[0, 1, 0, 0], [0] * 4, [0] * 4]], [2, 0, 1]),
        (embedded(contrib.sequence_categorical_column_with_identity("i", 2)),
         [[[0.1, 0.2], [0, 0], [0.2, 0.3]], np.zeros((3, 2)), [[0, 0.1], [0, 0], [0, 0]]], [3, 0, 1])]
    found = run([contrib.sequence_input_layer(of, c) for c, _, _ in expected], interpret=QUICK)
    for (dense, length), (_, value, lengths) in zip(found, expected):
        np.testing.assert_allclose(dense, np.array([np.array(v) for v in value], np.float32), atol=1e-6)
        assert length.tolist() == lengths and length.dtype == np.int64
    assert tf.global_variables()[0].name == "sequence_input_layer/t_embedding/embedding_weights:0"
    with pytest.raises(ValueError, match="_SequenceDenseColumn"):
        contrib.sequence_input_layer(of, [numeric("x")])


def test_specs():
    columns = [numeric("a", shape=(2,), default_value=1.5), numeric("k", dtype=tf.int64, default_value=np.array([3])), identity("n", 3),
               hashed("i", 9, tf.int64), bucketized(numeric("q"), [0.0]), weighted(words(), "w"),
               crossed(["c", bucketized(numeric("p"), [1.0])], 4)]
    assert fc.make_parse_example_spec(columns) == {
        "a": tf.FixedLenFeature((2,), tf.float32, (1.5, 1.5)), "k": tf.FixedLenFeature((1,), tf.int64, (3,)),
        "i": tf.VarLenFeature(tf.int64), "q": tf.FixedLenFeature((1,), tf.float32), "s": tf.VarLenFeature(tf.string),
        "w": tf.VarLenFeature(tf.float32), "c": tf.VarLenFeature(tf.string), "p": tf.FixedLenFeature((1,), tf.float32),
        "n": tf.VarLenFeature(tf.int64)}


def test_from_records_to_a_trained_model():
    columns = [numeric("x"), fc.embedding_column(hashed("word", 20), 2), indicator(words("word")), bucketized(numeric("x"), [1.5])]
    record = [tf.train.Example(features=tf.train.Features(feature={
        "x": tf.train.Feature(float_list=tf.train.FloatList(value=[v])),
        "word": tf.train.Feature(bytes_list=tf.train.BytesList(value=w))})).SerializeToString() for v, w in
        ((1.0, [b"x"]), (2.0, [b"y", b"x"]), (3.0, []))]
    given = tf.placeholder(tf.string, [None])
    x = fc.input_layer(tf.parse_example(given, fc.make_parse_example_spec(columns)), columns)
    y = fc.linear_model({"x": x}, [numeric("x", shape=8)])
    loss = tf.reduce_mean(tf.square(y[:, 0] - [1.0, -1.0, 0.5]))
    step = tf.train.AdamOptimizer(0.1).minimize(loss)
    assert (x.shape.as_list(), y.shape.as_list()) == ([None, 8], [None, 1])
    with tf.Session() as sess:
        sess.run([tf.global_variables_initializer(), tf.tables_initializer()])
        first = sess.run(loss, {given: record})
        for _ in range(60):
            sess.run(step, {given: record})
        assert sess.run(loss, {given: record}) < 0.01 * first


def test_variables_in_parts_and_from_checkpoints(tmp_path):
    with tf.Graph().as_default(), tf.Session() as sess:
        tf.get_variable("old", initializer=tf.ones([4, 2]))
        saver = tf.train.Saver()
        sess.run(tf.global_variables_initializer())
        path = saver.save(sess, str(tmp_path / "m"))
    features = {"a": tf.constant([[0], [3]], tf.int64)}
    with tf.variable_scope("parts", partitioner=tf.fixed_size_partitioner(2)):
        parts = fc.input_layer(features, [embedded(identity("a", 4))])
    assert [v.op.name for v in tf.global_variables()] == [f"parts/input_layer/a_embedding/embedding_weights/part_{i}" for i in (0, 1)]
    whole = fc.input_layer(features, [fc.embedding_column(identity("a", 4), 2, ckpt_to_load_from=path, tensor_name_in_ckpt="old")])
    found = run([parts, whole])
    assert found[0].shape == (2, 2) and found[1].tolist() == [[1, 1], [1, 1]]


def test_a_feature_of_unknown_rank():
    x = tf.placeholder(tf.float32)
    made = fc.input_layer({"x": x}, [numeric("x")])
    with flags.override(interpret=QUICK), tf.Session() as sess:
        assert sess.run(made, {x: [1.0, 2.0]}).tolist() == sess.run(made, {x: [[1.0], [2.0]]}).tolist() == [[1.0], [2.0]]


def test_a_sparse_feature_of_unknown_rank():
    x = tf.sparse_placeholder(tf.string)
    made = fc.linear_model({"x": x}, [hashed("x", 4)]), fc.input_layer({"x": x}, [indicator(hashed("x", 4))])
    assert made[0].shape.as_list() == [None, 1]
    with flags.override(interpret=QUICK), tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for at, shape in (([[0, 0], [2, 0]], (3, 1)), ([[0], [2]], (3,))):
            value = tf.SparseTensorValue(np.array(at, np.int64), np.array(["a", "b"], object), shape)
            assert sess.run(made, {x: value})[1].tolist() == [[0, 0, 0, 1], [0, 0, 0, 0], [0, 0, 1, 0]]
        with pytest.raises(tf.errors.InvalidArgumentError):
            sess.run(made, {x: tf.SparseTensorValue(np.zeros((1, 3), np.int64), np.array(["a"], object), (1, 1, 1))})


def test_edges():
    letters = {"a": tf.constant([["x", "y"], ["x", ""]]), "w": tf.constant([[0.5, 2.0], [3.0, 0.0]])}
    x = fc.input_layer(letters, [embedded(words("a"))])
    gradient = tf.convert_to_tensor(tf.gradients(tf.reduce_sum(x * x), tf.trainable_variables())[0])
    odd = fc.input_layer({"a": tf.constant([[np.nan], [np.inf], [-np.inf]])}, [bucketized(numeric("a"), [0.0, 1.0])])
    gone = fc.input_layer({"a": np.array([[-1, 3], [2, -1]])}, [indicator(identity("a", 4, default_value=0))])
    by = fc.input_layer(letters, [indicator(weighted(words("a"), "w"))])
    box = fc.input_layer({"a": np.arange(12.0).reshape(2, 3, 2)}, [numeric("a", shape=(3, 2), dtype=tf.float64)])
    word, number = tf.placeholder(tf.string, [None, 1]), tf.placeholder(tf.float32, [None, 1])
    none = fc.input_layer({"a": word, "b": number}, [embedded(words("a")), numeric("b"), indicator(crossed(
        ["a", bucketized(numeric("b"), [0.0])], 4))])
    with flags.override(interpret=QUICK), tf.Session() as sess:
        sess.run([tf.global_variables_initializer(), tf.tables_initializer()])
        found = sess.run([x, gradient, odd, gone, by, box])
        assert sess.run(none, {word: np.zeros((0, 1), object), number: np.zeros((0, 1), np.float32)}).shape == (0, 7)
    expected = [[[0.1, 0.2], [0, 0.1]], [[0.1, 0.4], [0.1, 0.2], [0, 0]], [[0, 0, 1], [0, 0, 1], [1, 0, 0]], [[0, 0, 0, 1], [0, 0, 1, 0]],
                [[0.5, 2, 0], [3, 0, 0]], np.arange(12).reshape(2, 6)]
    for value, wanted in zip(found, expected):
        np.testing.assert_allclose(value, wanted, atol=1e-6)


def test_columns_are_tuples():
    a = numeric("a")
    assert a == numeric("a") and len({a, numeric("a")}) == 1 and a._replace(key="b").name == "b"
    assert repr(a) == "NumericColumn(key='a', shape=(1,), default_value=None, dtype=tf.float32, normalizer_fn=None)"
    assert (identity("a", 4).num_buckets, fc.embedding_column(identity("a", 4), 2).variable_shape.as_list()) == (4, [2])
    with tf.variable_scope("m", regularizer=tf.reduce_sum, reuse=tf.AUTO_REUSE):
        for _ in range(2):
            fc.linear_model({"a": np.array([[1], [2]])}, [identity("a", 4)])
    assert [v.name for v in tf.global_variables()] == ["m/linear_model/a/weights:0", "m/linear_model/bias_weights:0"] + [
        "m/linear_model_1/a_1/weights:0", "m/linear_model_1/bias_weights:0"]
    assert len(tf.get_collection(tf.GraphKeys.REGULARIZATION_LOSSES)) == 4


def test_crosses_of_sparse_tensors():
    given = [sparse([[0, 0], [1, 0], [1, 1]], ["a", "b", "c"], [2, 2]), tf.constant([[7], [8]])]
    text, number = tf.sparse.cross(given), tf.sparse.cross_hashed(given, 100)
    text, number, wide = run([text, number, tf.sparse.cross_hashed([tf.constant([["x", "y"], ["z", ""]]), tf.constant([[1], [2]])], 1000)])
    assert text.values.tolist() == [b"a_X_7", b"b_X_8", b"c_X_8"] and text.indices.tolist() == [[0, 0], [1, 0], [1, 1]]
    assert number.values.max() < 100 and wide.dense_shape.tolist() == [2, 2]
    letters = {"b": tf.constant([["x"], ["y"]]), "c": tf.constant([["x", "y"], ["z", ""]])}
    assert run(tf.sparse.cross_hashed([letters["b"], letters["c"]], 1000)).values.tolist() == [128, 624, 831, 515]
    more = tf.sparse.cross_hashed([letters["c"], tf.constant([["aa", "b"], ["c", "d"]]), tf.constant([[3], [7]])], 100000, hash_key=7)
    assert run(more).values.tolist() == [12253, 55231, 97656, 37742, 16828, 20284, 99039, 71533]
    with pytest.raises(tf.errors.InvalidArgumentError, match="Expected batch size 2, got 1"):
        run(tf.sparse.cross([tf.placeholder_with_default([["a"], ["b"]], [None, 1]), tf.constant([["c"]])]).values)


def test_identity_refuses_other_integers():
    made = fc.input_layer(features(), [indicator(identity("oor", 5))])
    with pytest.raises(tf.errors.InvalidArgumentError):
        run(made)


def layer(*columns):
    return fc.input_layer({**features(), "scalar": tf.constant(1.0), "two": tf.constant([[1.0], [2.0]])}, list(columns))


BAD = [
    (lambda: numeric("a", shape=0), ValueError, "shape dimensions must be greater than 0"),
    (lambda: numeric("a", shape=(1.5,)), TypeError, "shape dimensions must be integer"),
    (lambda: numeric(3), ValueError, "key must be a string"),
    (lambda: numeric("a", dtype=tf.string), ValueError, "dtype must be convertible to float"),
    (lambda: numeric("a", shape=2, default_value=[1.0]), ValueError, "shape of default_value must be equal to given shape"),
    (lambda: numeric("a", default_value=1.5, dtype=tf.int32), TypeError, "default_value must be compatible with dtype"),
    (lambda: numeric("a", default_value="x"), TypeError, "default_value must be compatible with dtype"),
    (lambda: numeric("a", normalizer_fn=3), TypeError, "normalizer_fn must be a callable"),
    (lambda: bucketized(hashed("s", 3), [1.0]), ValueError, "numeric_column"),
    (lambda: bucketized(numeric("a", shape=(2, 2)), [1.0]), ValueError, "must be one-dimensional"),
    (lambda: bucketized(numeric("a"), []), ValueError, "must not be empty"),
    (lambda: bucketized(numeric("a"), [2.0, 1.0]), ValueError, "must be a sorted list"),
    (lambda: hashed("s", None), ValueError, "hash_bucket_size must be set"),
    (lambda: hashed("s", 0), ValueError, "at least 1"),
    (lambda: hashed("s", 3, tf.float32), ValueError, "dtype must be string or integer"),
    (lambda: vocabulary("s", []), ValueError, "must be non-empty"),
    (lambda: vocabulary("s", ["a", "a"]), ValueError, "Duplicate keys"),
    (lambda: vocabulary("s", ["a"], default_value=0, num_oov_buckets=1), ValueError, "both num_oov_buckets and default_value"),
    (lambda: vocabulary("s", ["a"], num_oov_buckets=-1), ValueError, "Invalid num_oov_buckets"),
    (lambda: vocabulary("s", ["a"], dtype=tf.int32), ValueError, "do not match"),
    (lambda: from_file("s", ""), ValueError, "Missing vocabulary_file in s"),
    (lambda: from_file("s", "/nowhere/at/all"), ValueError, "vocabulary_file in s does not exist"),
    (lambda: from_file("s", "words", 0), ValueError, "Invalid vocabulary_size in s"),
    (lambda: from_file("s", "words", 3, 1, 2), ValueError, "both num_oov_buckets and default_value"),
    (lambda: identity("a", 0), ValueError, "num_buckets 0 < 1"),
    (lambda: identity("a", 3, 3), ValueError, r"not in range \[0, 3\)"),
    (lambda: indicator(numeric("a")), ValueError, "Input must be a CategoricalColumn"),
    (lambda: weighted(hashed("s", 3), "w", tf.string), ValueError, "not convertible to float"),
    (lambda: crossed(["a", "b"], 0), ValueError, "hash_bucket_size must be > 1"),
    (lambda: crossed(["a"], 3), ValueError, "length > 1"),
    (lambda: crossed(["a", 3], 3), ValueError, "Unsupported key type"),
    (lambda: crossed(["a", hashed("s", 3)], 3), ValueError, "is not supported for crossing"),
    (lambda: fc.embedding_column(hashed("s", 3), 0), ValueError, "Invalid dimension 0"),
    (lambda: fc.embedding_column(hashed("s", 3), 2, ckpt_to_load_from="x"), ValueError, "Must specify both"),
    (lambda: fc.embedding_column(hashed("s", 3), 2, initializer=3), ValueError, "initializer must be callable"),
    (lambda: fc.shared_embedding_columns([hashed("s", 3), hashed("t", 4)], 2), ValueError, "same number of buckets"),
    (lambda: fc.shared_embedding_columns([hashed("s", 3), vocabulary("t", ["a"])], 2), ValueError, "must have the same type"),
    (lambda: layer(hashed("s", 3)), ValueError, "must be a _DenseColumn"),
    (lambda: layer(numeric("a"), numeric("a", dtype=tf.float64)), ValueError, "Duplicate feature column name"),
    (lambda: layer(), ValueError, "must not be empty"),
    (lambda: layer("a"), ValueError, "must be a _FeatureColumn"),
    (lambda: fc.input_layer({}, {"a": numeric("a")}), ValueError, "found dict"),
    (lambda: layer(numeric("zz")), ValueError, "Feature zz is not in features dictionary"),
    (lambda: layer(numeric("a"), numeric("two")), ValueError, r"Batch size of columns \(a, two\): \(3, 2\)"),
    (lambda: layer(numeric("scalar")), ValueError, "cannot have rank 0"),
    (lambda: layer(numeric("w")), ValueError, "SparseTensor is not supported. key: w"),
    (lambda: layer(indicator(hashed("a", 3))), ValueError, "dtype must be string or integer"),
    (lambda: layer(indicator(hashed("s", 3, tf.int64))), ValueError, "must be compatible. key: s"),
    (lambda: layer(indicator(identity("a", 3))), ValueError, "not integer. key: a"),
    (lambda: layer(indicator(weighted(hashed("s", 3), "s"))), ValueError, "Bad dtype, expected"),
    (lambda: layer(indicator(fc.sequence_categorical_column_with_hash_bucket("s", 3))), ValueError, "must not be of type _Sequence"),
    (lambda: layer(fc.embedding_column(hashed("s", 3), 2, "max")), ValueError, "combiner must be one of"),
    (lambda: fc.make_parse_example_spec(["a"]), ValueError, "must be _FeatureColumn instances"),
    (lambda: fc.make_parse_example_spec([numeric("a"), hashed("a", 3)]), ValueError, "different parse_spec for key a"),
    (lambda: fc.make_parse_example_spec([weighted(words(), "s")]), ValueError, "already exists for s"),
]


@pytest.mark.parametrize("make, kind, message", BAD)
def test_bad_input(make, kind, message):
    with pytest.raises(kind, match=message):
        make()
