"""`tf.contrib.learn` and `tf.examples`: MNIST's reader, CSV files, synthetic points, text preprocessing."""
from __future__ import annotations

import gzip
import itertools
import pickle

import numpy as np
import pytest
from on_gpu import QUICK

import graphflow as tf
from graphflow.contrib.learn.datasets import base, mnist
from graphflow.contrib.learn.preprocessing import ByteProcessor, CategoricalVocabulary, VocabularyProcessor
from graphflow.flags import flags


def idx(magic, array):
    return b"".join(int(n).to_bytes(4, "big") for n in (magic, *array.shape)) + array.astype(np.uint8).tobytes()


@pytest.fixture
def folder(tmp_path):
    r = np.random.RandomState(0)
    for kind, n in (("train", 30), ("t10k", 7)):
        (tmp_path / f"{kind}-images-idx3-ubyte.gz").write_bytes(gzip.compress(idx(2051, r.randint(0, 256, (n, 4, 4)))))
        (tmp_path / f"{kind}-labels-idx1-ubyte.gz").write_bytes(gzip.compress(idx(2049, np.arange(n) % 10)))
    return tmp_path


def test_mnist_parts_and_dtypes(folder, capsys):
    assert tf.examples.tutorials.mnist.input_data.read_data_sets is mnist.read_data_sets
    data = mnist.read_data_sets(str(folder), one_hot=True, validation_size=10)
    assert capsys.readouterr().out.count("Extracting") == 4
    assert (data.train.num_examples, data.validation.num_examples, data.test.num_examples) == (20, 10, 7)
    assert data.train.images.shape == (20, 16) and data.train.images.dtype == np.float32 and data.train.images.max() <= 1
    assert data.train.labels.dtype == np.float64 and np.array_equal(data.train.labels.argmax(1), np.arange(10, 30) % 10)
    raw = mnist.read_data_sets(str(folder), dtype=tf.uint8, reshape=False, validation_size=0)
    assert raw.train.images.shape == (30, 4, 4, 1) and raw.train.images.dtype == np.uint8 and raw.train.labels.dtype == np.uint8
    np.testing.assert_allclose(raw.train.images[10:].reshape(20, 16) / 255.0, data.train.images, rtol=1e-6)


def test_mnist_batches_follow_numpys_global_stream(folder):
    """An epoch's order is a shuffle of the last one's; a batch across its end joins both."""
    data = mnist.read_data_sets(str(folder), validation_size=10, seed=5)
    np.random.seed(3)
    got = [data.train.next_batch(8)[1] for _ in range(3)]
    np.random.seed(3)
    first, second = np.arange(20), np.arange(20)
    np.random.shuffle(first)
    np.random.shuffle(second)
    labels = (np.arange(10, 30) % 10)[first]
    expected = np.concatenate([labels, labels[second]])
    for i, batch in enumerate(got):
        assert np.array_equal(batch, expected[8 * i:8 * i + 8])
    assert data.train.epochs_completed == 1
    assert np.array_equal(data.test.next_batch(5, shuffle=False)[1], np.arange(5))
    assert np.array_equal(data.test.next_batch(5, shuffle=False)[1], [5, 6, 0, 1, 2]) and data.test.epochs_completed == 1


def test_mnist_graph_seed_repeats_the_order(folder):
    orders = []
    for _ in range(2):
        with tf.Graph().as_default():
            tf.set_random_seed(4)
            orders.append(mnist.read_data_sets(str(folder), validation_size=0).train.next_batch(30)[1])
    assert np.array_equal(*orders)


def test_mnist_fake_data():
    data = mnist.read_data_sets("nowhere", fake_data=True, one_hot=True)
    images, labels = data.train.next_batch(3, fake_data=True)
    assert data.train.num_examples == 10000 and np.shape(images) == (3, 784) and labels == [[1] + [0] * 9] * 3


def test_mnist_uncompressed_files_are_read(folder):
    for path in folder.glob("*.gz"):
        path.with_suffix("").write_bytes(gzip.decompress(path.read_bytes()))
        path.unlink()
    assert mnist.read_data_sets(str(folder), validation_size=0).test.num_examples == 7


@pytest.mark.parametrize("damage, error, text", [
    (lambda path: path.unlink(), tf.errors.NotFoundError, "nothing is downloaded.*put it into"),
    (lambda path: path.write_bytes(path.read_bytes()[:-20]), tf.errors.DataLossError, "damaged"),
    (lambda path: path.write_bytes(gzip.compress(gzip.decompress(path.read_bytes())[:-5])), tf.errors.DataLossError, "truncated at byte"),
    (lambda path: path.write_bytes(gzip.compress(idx(2049, np.arange(4)))), ValueError, "magic number 2049"),
])
def test_mnist_bad_files(folder, damage, error, text):
    damage(folder / "t10k-images-idx3-ubyte.gz")
    with pytest.raises(error, match=text):
        mnist.read_data_sets(str(folder), validation_size=0)


@pytest.mark.parametrize("call, error, text", [
    (lambda f: mnist.read_data_sets(f, validation_size=31), ValueError, "between 0 and 30. Received: 31"),
    (lambda f: mnist.read_data_sets(f, dtype=tf.int32, validation_size=1), TypeError, "expected uint8 or float32"),
])
def test_mnist_bad_arguments(folder, call, error, text):
    with pytest.raises(error, match=text):
        call(str(folder))


def test_mnist_model():
    model = tf.examples.tutorials.mnist.mnist
    with tf.Graph().as_default():
        tf.set_random_seed(1)
        x, y = tf.placeholder(tf.float32, [None, model.IMAGE_PIXELS]), tf.placeholder(tf.int32, [None])
        logits = model.inference(x, 8, 4)
        assert [v.name for v in tf.trainable_variables()] == [f"{s}/{v}:0" for s in ("hidden1", "hidden2", "softmax_linear")
                                                              for v in ("weights", "biases")]
        error, right = model.loss(logits, y), model.evaluation(logits, y)
        assert right.dtype is tf.int32 and logits.shape.as_list() == [None, 10]
        with tf.Session() as sess, flags.override(interpret=QUICK):
            sess.run(tf.global_variables_initializer())
            images, digits = np.random.RandomState(0).rand(30, 784), np.arange(30) % 10
            scores, loss, count = sess.run([logits, error, right], {x: images, y: digits})
    p = np.exp(scores) / np.exp(scores).sum(1, keepdims=True)
    np.testing.assert_allclose(loss, -np.log(p[np.arange(30), digits]).mean(), rtol=1e-5)
    # in_top_k counts every class that shares the highest score, which dead hidden units give to all ten
    assert count == (scores[np.arange(30), digits] == scores.max(1)).sum() > 0


def test_csv(tmp_path):
    path = tmp_path / "points.csv"
    path.write_text("2,3,a,b\n1,2,3,0\n4,5,6,1\n")
    found = base.load_csv_with_header(str(path), np.int64, np.float32)
    assert found.data.tolist() == [[1, 2, 3], [4, 5, 6]] and found.target.tolist() == [0, 1] and found.data.dtype == np.float32
    first = base.load_csv_with_header(str(path), np.int64, np.float32, target_column=0)
    assert first.target.tolist() == [1, 4] and first.data.tolist() == [[2, 3, 0], [5, 6, 1]]
    path.write_text("1,2,3,0\n4,5,6,1\n7,8,9,2\n")
    found = base.load_csv_without_header(str(path), np.int64, np.float32)
    assert found.data.shape == (3, 3) and found.target.tolist() == [0, 1, 2]
    base.shrink_csv(str(path), 2)
    assert (tmp_path / "points_small.csv").read_text().split() == ["1,2,3,0", "7,8,9,2"]
    path.write_text("3,3,a\n1,2,3,0\n")
    with pytest.raises(ValueError, match="1 rows, its first line says 3"):
        base.load_csv_with_header(str(path), np.int64, np.float32)


def test_data_sets_by_name():
    pytest.importorskip("sklearn")
    iris = tf.contrib.learn.datasets.load_dataset("iris")
    assert iris.data.shape == (150, 4) and np.bincount(iris.target).tolist() == [50, 50, 50]
    with pytest.raises(ValueError, match="not found: irs"):
        tf.contrib.learn.datasets.load_dataset("irs")
    with pytest.raises(ValueError, match="data_path"):
        tf.contrib.learn.datasets.load_boston()


def test_synthetic():
    make = tf.contrib.learn.datasets.make_dataset
    found = make("circles", 101, seed=1, factor=0.5, n_classes=2)
    assert found.data.shape == (101, 2) and np.bincount(found.target).tolist() == [51, 50]
    np.testing.assert_allclose(np.hypot(*found.data[found.target == 1].T), 0.5)
    noisy = make("circles", 101, noise=0.1, seed=1)
    assert 0.05 < np.std(np.hypot(*noisy.data[noisy.target == 0].T)) < 0.2
    for mode in ("archimedes", "bernoulli", "fermat"):
        found = make("spirals", 100, seed=2, mode=mode)
        assert found.data.shape == (100, 2) and abs(found.data).max() == 1 and found.target.sum() == 50
    with pytest.raises(ValueError, match="spiral with mode square"):
        make("spirals", mode="square")


DOCUMENTS = ["The quick brown fox", "the quick dog isn't quick", "a-b CamelCase WORDS"]


def test_vocabulary_processor(tmp_path):
    p = VocabularyProcessor(5)
    ids = np.array(list(p.fit_transform(DOCUMENTS)))
    # the words in order of appearance: The 1, quick 2, brown 3, fox 4, the 5, dog 6, isn't 7, a-b 8, Camel 9, Case 10, WORDS 11
    assert ids.tolist() == [[1, 2, 3, 4, 0], [5, 2, 6, 7, 2], [8, 9, 10, 11, 0]] and ids.dtype == np.int64
    assert len(p.vocabulary_) == 12 and next(p.transform(["The cat"])).tolist() == [1, 0, 0, 0, 0]
    assert list(p.reverse([[1, 2, 0]])) == ["The quick <UNK>"]
    p.save(str(tmp_path / "vocab"))
    again = VocabularyProcessor.restore(str(tmp_path / "vocab"))
    assert np.array_equal(list(again.transform(DOCUMENTS)), ids) and again.vocabulary_._freq == p.vocabulary_._freq
    assert again.vocabulary_.get("cat") == 0  # still frozen


def test_vocabulary_processor_trims():
    p = VocabularyProcessor(4, min_frequency=1, tokenizer_fn=lambda docs: (d.split() for d in docs))
    assert [r.tolist() for r in p.fit_transform(["b b a a a c", "c d"])] == [[2, 2, 1, 1], [3, 0, 0, 0]]


def test_vocabulary_processor_files_are_never_unpickled(tmp_path):
    path = tmp_path / "vocab"

    class Bomb:
        def __reduce__(self):
            return (itertools.count, (1,))

    for content in (pickle.dumps(Bomb()), b"{}", b'{"format": "other"}', b"[1"):
        path.write_bytes(content)
        with pytest.raises(tf.errors.DataLossError, match="not written by VocabularyProcessor.save"):
            VocabularyProcessor.restore(str(path))
    VocabularyProcessor(4, tokenizer_fn=lambda docs: (d.split() for d in docs)).save(str(path))
    with pytest.raises(ValueError, match="tokenizer_fn"):
        VocabularyProcessor.restore(str(path))
    assert VocabularyProcessor.restore(str(path), str.split).max_document_length == 4


def test_categorical_vocabulary():
    v = CategoricalVocabulary(unknown_token=-1)
    for word, n in (("x", 3), (7, 3), ("y", 9), ("z", 1)):
        v.add(word, n)
    v.trim(1, max_frequency=9)  # equal counts: what is no string first
    assert (v.get(7), v.get("x"), v.reverse(1), len(v)) == (1, 2, 7, 3)
    v.freeze()
    assert v.get("new") == 0
    v.freeze(False)
    assert v.get("new") == 3
    with pytest.raises(ValueError, match="support_reverse"):
        CategoricalVocabulary(support_reverse=False).reverse(0)


def test_byte_processor():
    p = ByteProcessor(4)
    rows = list(p.fit_transform(["abc", b"abcdef", "\u00e9"]))
    assert [r.tolist() for r in rows] == [[97, 98, 99, 0], [97, 98, 99, 100], [195, 169, 0, 0]] and rows[0].dtype == np.uint8
    assert list(p.reverse(rows)) == ["abc", "abcd", "\u00e9"] and list(p.reverse([np.array([255, 1])])) == [""]


def test_mode_keys():
    keys = tf.contrib.learn.ModeKeys
    assert (keys.TRAIN, keys.EVAL, keys.INFER) == ("train", "eval", "infer")
    keys.validate("train")
    with pytest.raises(ValueError, match="Invalid mode"):
        keys.validate("predict")
