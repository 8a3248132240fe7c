"""A classifier with attention: which part of a book does a paragraph come from?

    python examples/attention_classifier.py [--data FILE] [--steps N] [--parts N]

The text is cut into as many parts of equal length as there are classes, and a fifth of all paragraphs is held out. Words go through an
embedding and a bidirectional GRU; attention weighs its outputs, their weighted mean is classified. Prints the accuracy on the
held-out paragraphs beside that of always naming the largest class, and the words that the attention looks at. (In a collection
of plays the parts are plays, more or less; the names of the speakers are left out, the names in what they say remain.)
"""
import argparse
import collections
import os
import re
import time

import numpy as np

import graphflow as tf

SHARED = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "shared", "data", "text", "input.txt")
UNKNOWN = "?"


def read(path):
    """The text of a file; without one that of the shared data beside the checkout, or else the manual that Python carries."""
    if path is None and not os.path.exists(SHARED):
        from pydoc_data.topics import topics

        return "\n\n".join(topics.values())
    with open(path or SHARED, encoding="utf-8") as f:
        return f.read()


def paragraphs(text, parts, shortest, longest):
    """(words, part) of each paragraph long enough; a first line that ends with a colon, a speaker's name, is no part of it."""
    found, at = [], 0
    for paragraph in text.split("\n\n"):
        words = re.findall("[a-z']+", re.sub(r"\A[^\n]*:\n", "", paragraph).lower())
        if len(words) >= shortest:
            found.append((words[:longest], at * parts // len(text)))
        at += len(paragraph) + 2
    return found


def encode(examples, vocabulary, longest):
    """ids (number, longest), lengths and labels; what is not in the vocabulary is 0."""
    ids = np.zeros((len(examples), longest), np.int32)
    for row, (words, _) in zip(ids, examples):
        row[:len(words)] = [vocabulary.get(w, 0) for w in words]
    return ids, np.array([len(w) for w, _ in examples], np.int32), np.array([part for _, part in examples], np.int32)


class Model:
    """The graph; `words` are (batch, time) ids, of which the first `lengths` count."""

    def __init__(self, vocabulary, classes, width, units):
        self.words = tf.placeholder(tf.int32, [None, None], name="words")
        self.lengths = tf.placeholder(tf.int32, [None], name="lengths")
        self.labels = tf.placeholder(tf.int32, [None], name="labels")
        self.keep = tf.placeholder_with_default(1.0, [], name="keep")
        table = tf.get_variable("embedding", [vocabulary, width], initializer=tf.random_uniform_initializer(-0.1, 0.1))
        inputs = tf.nn.dropout(tf.nn.embedding_lookup(table, self.words), keep_prob=self.keep)
        outputs, _ = tf.nn.bidirectional_dynamic_rnn(tf.nn.rnn_cell.GRUCell(units), tf.nn.rnn_cell.GRUCell(units), inputs,
                                                     sequence_length=self.lengths, dtype=tf.float32)
        outputs = tf.concat(outputs, 2)
        scores = tf.squeeze(tf.layers.dense(tf.layers.dense(outputs, units, tf.tanh), 1, use_bias=False), 2)
        counts = tf.sequence_mask(self.lengths, tf.shape(self.words)[1])
        self.attention = tf.nn.softmax(tf.where(counts, scores, tf.fill(tf.shape(scores), -1e9)))
        pooled = tf.reduce_sum(outputs * tf.expand_dims(self.attention, 2), 1)
        logits = tf.layers.dense(tf.nn.dropout(pooled, keep_prob=self.keep), classes)
        self.loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=self.labels, logits=logits))
        self.correct = tf.equal(tf.argmax(logits, 1, output_type=tf.int32), self.labels)
        self.train = tf.train.AdamOptimizer(0.003).minimize(self.loss)

    def feed(self, data, which, keep=1.0):
        """The examples `which`, as many columns as the longest of them has words."""
        ids, lengths, labels = (a[which] for a in data)
        return {self.words: ids[:, :lengths.max()], self.lengths: lengths, self.labels: labels, self.keep: keep}


def accuracy(sess, model, data, batch):
    """The share of examples that are classified correctly."""
    right = [sess.run(model.correct, model.feed(data, slice(i, i + batch))) for i in range(0, len(data[0]), batch)]
    return float(np.mean(np.concatenate(right)))


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="a text file; default: the shared text, else Python's manual")
    parser.add_argument("--steps", type=int, default=400)
    parser.add_argument("--parts", type=int, default=6, help="classes")
    parser.add_argument("--batch", type=int, default=64)
    parser.add_argument("--units", type=int, default=32)
    parser.add_argument("--shortest", type=int, default=25, help="words of a paragraph that takes part")
    parser.add_argument("--longest", type=int, default=80, help="words of a paragraph that are read")
    options = parser.parse_args(argv)

    found = paragraphs(read(options.data), options.parts, options.shortest, options.longest)
    order = np.random.RandomState(0)
    mixed = [found[i] for i in order.permutation(len(found))]
    test, train = mixed[:len(mixed) // 5], mixed[len(mixed) // 5:]
    common = collections.Counter(w for words, _ in train for w in words).most_common(5000)
    names = [UNKNOWN] + [w for w, n in common if n > 1]
    vocabulary = {w: i for i, w in enumerate(names)}
    train, test = (encode(part, vocabulary, options.longest) for part in (train, test))
    baseline = np.bincount(test[2])[np.bincount(train[2]).argmax()] / len(test[2])

    tf.set_random_seed(0)
    model, losses, started = Model(len(names), options.parts, 64, options.units), [], time.time()
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for step in range(options.steps):
            which = order.randint(0, len(train[0]), options.batch)
            losses.append(float(sess.run([model.loss, model.train], model.feed(train, which, keep=0.3))[0]))
            if (step + 1) % 100 == 0:
                now = accuracy(sess, model, test, 256)
                print("step %5d  %5.1f s  loss %.3f  held-out accuracy %.1f %%" % (step + 1, time.time() - started, np.mean(losses[-100:]),
                                                                                 100 * now), flush=True)
        reached = accuracy(sess, model, test, 256)
        print("%d held-out paragraphs: accuracy %.1f %%, always the largest class %.1f %%" % (len(test[0]), 100 * reached, 100 * baseline))
        few = [a[:5] for a in test]
        weights = sess.run(model.attention, {model.words: few[0], model.lengths: few[1]})
        for ids, row, label in zip(test[0], weights, test[2]):
            top = np.argsort(-row)[:4]
            print("part %d: %s" % (label, ", ".join("%s %.2f" % (names[ids[i]], row[i]) for i in top)))
    return losses, reached, float(baseline), (few[1], weights)


if __name__ == "__main__":
    main()
