"""The main job: a classifier of handwritten digits, trained from one command.

    python examples/digits.py [--out FOLDER] [--epochs N]

Trains a multilayer perceptron on the 1797 real 8x8 digits that scikit-learn carries (extra `examples`: scikit-learn,
tqdm, matplotlib), prints its accuracy on a fifth of them that it has not seen, and writes into FOLDER:

    learning_curve.png            loss and accuracy by epoch
    graph.dot, graph.html         the training step as it was declared
    optimized.dot, optimized.html the training step after optimisation
    model-<step>.index, .data-... the trained variables
"""
import argparse
import os
import time

import numpy as np
from sklearn.datasets import load_digits
from sklearn.model_selection import train_test_split
from tqdm import tqdm

import graphflow as tf

BATCH_SIZE = 64
CLASSES = 10


def load():
    """Training and test images (float32 in [0, 1]) and labels; the same split every time."""
    images, labels = load_digits(return_X_y=True)
    return train_test_split((images / 16.0).astype(np.float32), labels.astype(np.int32), test_size=0.2, random_state=0, stratify=labels)


class Model:
    """The graph: placeholders, logits, loss, accuracy, and a training step."""

    def __init__(self, steps):
        self.images = tf.placeholder(tf.float32, [None, 64], name="images")
        self.labels = tf.placeholder(tf.int32, [None], name="labels")
        self.training = tf.placeholder_with_default(False, [], name="training")
        hidden = tf.layers.dense(self.images, 192, activation=tf.nn.relu, name="hidden1")
        hidden = tf.layers.dropout(hidden, 0.35, training=self.training)
        hidden = tf.layers.dense(hidden, 96, activation=tf.nn.relu, name="hidden2")
        logits = tf.layers.dense(hidden, CLASSES, name="logits")
        self.loss = tf.losses.sparse_softmax_cross_entropy(self.labels, logits)
        self.accuracy = tf.reduce_mean(tf.to_float(tf.equal(tf.argmax(logits, 1, output_type=tf.int32), self.labels)), name="accuracy")
        self.step = tf.train.get_or_create_global_step()
        rate = tf.train.cosine_decay(0.005, self.step, steps, alpha=0.02)
        self.train = tf.train.AdamOptimizer(rate).minimize(self.loss, global_step=self.step)


def optimized_graph(fetches):
    """The graph that is turned into kernels for `fetches`, or None where this build cannot show it."""
    explain = getattr(tf, "explain", None)
    return None if explain is None else explain(fetches).optimized


def draw(graph, folder, name):
    """Writes a graph as DOT and as a page for the browser."""
    for ending, text in ((".dot", graph.to_dot()), (".html", graph.to_html())):
        with open(os.path.join(folder, name + ending), "w", encoding="utf-8") as f:
            f.write(text)


def draw_curve(history, path):
    """Loss and test accuracy by epoch, as a PNG."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    epochs = np.arange(1, len(history["loss"]) + 1)
    figure, left = plt.subplots(figsize=(7, 4))
    left.semilogy(epochs, history["loss"], color="tab:blue")
    left.set(xlabel="epoch", ylabel="training loss")
    left.yaxis.label.set_color("tab:blue")
    right = left.twinx()
    right.plot(epochs, 100 * np.array(history["accuracy"]), color="tab:orange")
    right.set(ylabel="test accuracy, %", ylim=(80, 100))
    right.yaxis.label.set_color("tab:orange")
    figure.tight_layout()
    figure.savefig(path, dpi=120)
    plt.close(figure)


def main(argv=None):
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", default="digits_out", help="folder for the pictures and the model")
    parser.add_argument("--epochs", type=int, default=60)
    options = parser.parse_args(argv)
    os.makedirs(options.out, exist_ok=True)

    train_x, test_x, train_y, test_y = load()
    batches = len(train_x) // BATCH_SIZE
    tf.set_random_seed(0)
    model = Model(options.epochs * batches)
    draw(tf.get_default_graph(), options.out, "graph")
    optimized = optimized_graph([model.loss, model.train])
    if optimized is not None:
        draw(optimized, options.out, "optimized")

    history = {"loss": [], "accuracy": []}
    order = np.random.RandomState(0)
    saver = tf.train.Saver()
    started = time.time()
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        progress = tqdm(range(options.epochs), unit="epoch")
        for _ in progress:
            shuffled = order.permutation(len(train_x))
            losses = []
            for i in range(batches):
                batch = shuffled[i * BATCH_SIZE:(i + 1) * BATCH_SIZE]
                feed = {model.images: train_x[batch], model.labels: train_y[batch], model.training: True}
                losses.append(sess.run([model.loss, model.train], feed)[0])
            history["loss"].append(float(np.mean(losses)))
            history["accuracy"].append(float(sess.run(model.accuracy, {model.images: test_x, model.labels: test_y})))
            progress.set_postfix(loss="%.4f" % history["loss"][-1], test="%.1f %%" % (100 * history["accuracy"][-1]))
        saved = saver.save(sess, os.path.join(options.out, "model"), global_step=model.step)

    draw_curve(history, os.path.join(options.out, "learning_curve.png"))
    accuracy = history["accuracy"][-1]
    print("trained on %d images in %.1f s; saved %s" % (len(train_x), time.time() - started, saved))
    print("test accuracy: %.2f %% of %d images" % (100 * accuracy, len(test_x)))
    return accuracy


if __name__ == "__main__":
    main()
