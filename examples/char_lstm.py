"""A character LSTM: learns to guess the next character of a text, and then writes some of its own.

    python examples/char_lstm.py [--data FILE] [--steps N] [--temperature T]

Prints the bits per character while it learns (a character of the text taken by its frequency alone costs about 4.8), then those of
the end of the text, which it has not seen, and a sample. The state of the LSTM goes on from batch to batch: row i of every batch
is the next piece of the i-th part of the text. The sample comes from the same graph, fed one character at a time.
"""
import argparse
import math
import os
import time

import numpy as np

import graphflow as tf

SHARED = os.path.join(os.path.dirname(os.path.abspath(__file__)), "..", "..", "shared", "data", "text", "input.txt")


def read(path):
    """The text of a file; without one that of the shared data beside the checkout, or else the manual that Python carries."""
    if path is None and not os.path.exists(SHARED):
        from pydoc_data.topics import topics

        return "\n\n".join(topics.values())
    with open(path or SHARED, encoding="utf-8") as f:
        return f.read()


class Model:
    """The graph. `inputs` and `targets` are (batch, time) ids of characters; `first` and `last` are the states before and after."""

    def __init__(self, characters, units):
        self.inputs = tf.placeholder(tf.int32, [None, None], name="inputs")
        self.targets = tf.placeholder(tf.int32, [None, None], name="targets")
        self.rate = tf.placeholder(tf.float32, [], name="rate")
        self.temperature = tf.placeholder_with_default(1.0, [], name="temperature")
        cell = tf.nn.rnn_cell.LSTMCell(units, forget_bias=0.0)
        self.first = cell.zero_state(tf.shape(self.inputs)[0], tf.float32)
        table = tf.get_variable("embedding", [characters, units], initializer=tf.random_normal_initializer(stddev=0.5))
        outputs, self.last = tf.nn.dynamic_rnn(cell, tf.nn.embedding_lookup(table, self.inputs), initial_state=self.first)
        logits = tf.layers.dense(tf.reshape(outputs, [-1, units]), characters, name="logits")
        each = tf.nn.sparse_softmax_cross_entropy_with_logits(labels=tf.reshape(self.targets, [-1]), logits=logits)
        self.loss = tf.reduce_mean(each)
        self.bits = self.loss / math.log(2)
        self.next = tf.multinomial(logits / self.temperature, 1)
        variables = tf.trainable_variables()
        gradients, self.norm = tf.clip_by_global_norm(tf.gradients(self.loss, variables), 5.0)
        self.train = tf.train.AdamOptimizer(self.rate).apply_gradients(zip(gradients, variables))


def batches(ids, rows, length):
    """(inputs, targets, whether the text begins again) without end; row i walks through the i-th of `rows` parts of the text."""
    parts = ids[:len(ids) // rows * rows].reshape(rows, -1)
    while True:
        for at in range(0, parts.shape[1] - length, length):
            yield parts[:, at:at + length], parts[:, at + 1:at + length + 1], at == 0


def zero_state(rows, units):
    return [np.zeros((rows, units), np.float32)] * 2


def held_out(sess, model, ids, rows, length, units):
    """Bits per character of a text that is only read."""
    found, state = [], zero_state(rows, units)
    for x, y, again in batches(ids, rows, length):
        if again and found:
            return float(np.mean(found))
        bits, state = sess.run([model.bits, model.last], {model.inputs: x, model.targets: y, model.first: tuple(state)})
        found.append(bits)


def sample(sess, model, ids, count, temperature, units):
    """`count` ids after those in `ids`, one run of the graph for each."""
    out, state, fed = [], zero_state(1, units), np.array([ids], np.int32)
    for _ in range(count):
        chosen, state = sess.run([model.next, model.last], {model.inputs: fed, model.first: tuple(state), model.temperature: temperature})
        out.append(int(chosen[-1, 0]))
        fed = np.array([[out[-1]]], np.int32)
    return out


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--data", help="a text file; default: the shared text, else Python's manual")
    parser.add_argument("--steps", type=int, default=1500)
    parser.add_argument("--units", type=int, default=128)
    parser.add_argument("--batch", type=int, default=32)
    parser.add_argument("--length", type=int, default=64, help="characters a step")
    parser.add_argument("--rate", type=float, default=0.015, help="learning rate at the start; it falls to a tenth")
    parser.add_argument("--temperature", type=float, default=0.7)
    parser.add_argument("--sample", type=int, default=400, help="characters to write at the end")
    options = parser.parse_args(argv)

    text = read(options.data)
    characters = sorted(set(text))
    ids = np.searchsorted(characters, list(text)).astype(np.int32)
    seen, unseen = np.split(ids, [int(0.97 * len(ids))])

    tf.set_random_seed(0)
    model, state = Model(len(characters), options.units), None
    history, started, source = [], time.time(), batches(seen, options.batch, options.length)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for step in range(options.steps):
            x, y, again = next(source)
            if again:
                state = zero_state(options.batch, options.units)
            rate = options.rate * 0.1 ** (step / options.steps)
            feed = {model.inputs: x, model.targets: y, model.first: tuple(state), model.rate: rate}
            bits, state, _ = sess.run([model.bits, model.last, model.train], feed)
            history.append(float(bits))
            if (step + 1) % 100 == 0:
                print("step %5d  %5.1f s  %.3f bits per character" % (step + 1, time.time() - started, np.mean(history[-100:])), flush=True)
        new = held_out(sess, model, unseen, 8, options.length, options.units)
        print("text it has not seen: %.3f bits per character" % new)
        begin = text[:1] if "\n" not in characters else "\n"
        chosen = sample(sess, model, [characters.index(begin)], options.sample, options.temperature, options.units)
    written = "".join(characters[i] for i in chosen)
    print("-" * 40 + "\n" + written)
    return history, new, written


if __name__ == "__main__":
    main()
