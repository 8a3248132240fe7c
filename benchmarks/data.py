"""Input pipelines of tf.data: how long a step waits for its batch. Both sides run the same TF 1.x program."""
from __future__ import annotations

import numpy as np

from .workload import Steady, times_as_fast

rows = Steady("tf.data: slices of 55,000 x 784 bytes, shuffle(10000), repeat, batch(128), prefetch(1)",
              goals=[times_as_fast(2, "tensorflow")])
mapped = Steady("tf.data: the same, map to floats and one_hot before shuffle", goals=[times_as_fast(2, "tensorflow")])
numbers = Steady("tf.data: range, map, batch(100)", goals=[times_as_fast(1, "tensorflow")])
images = Steady("tf.data: map with random_crop and a random flip of 32 x 32 x 3, batch(64)", goals=[times_as_fast(1, "tensorflow")])
generated = Steady("tf.data: from_generator of scalars, batch(100)", goals=[times_as_fast(1, "tensorflow")])


@rows.inputs
@mapped.inputs
def _(quick):
    r = np.random.RandomState(0)
    n = 1000 if quick else 55000
    return [r.randint(0, 256, (n, 784)).astype(np.uint8), r.randint(0, 10, n).astype(np.int32)]


@images.inputs
def _(quick):
    return [np.random.RandomState(0).uniform(size=(200, 32, 32, 3)).astype(np.float32)]


@numbers.inputs
@generated.inputs
def _(quick):
    return [np.array(3, np.int64)]


# What is checked: sums over the first epoch, which no order changes.
@rows.reference
def _(x, y):
    return [x.sum(), np.bincount(y, minlength=10)]


@mapped.reference
def _(x, y):
    return [x.sum() / 255, np.bincount(y, minlength=10)]


@images.reference
def _(x):
    return np.array([64, 28, 28, 3])


@numbers.reference
@generated.reference
def _(k):
    return np.arange(100) * k


def taking(tf, dataset, results):
    """(one step that takes an element, what `results` makes of the session and the element)."""
    element, checked = dataset().make_one_shot_iterator().get_next(), dataset().make_one_shot_iterator().get_next()
    sess = tf.Session()
    op = (element if isinstance(element, tf.Tensor) else element[0]).op
    return lambda: sess.run(op), {"check": lambda: results(sess, checked)}


def epoch(count):
    def results(sess, element):
        found = [sess.run(element) for _ in range(count)]
        return [sum(x.sum(dtype=np.float64) for x, _ in found), sum(y.sum(0) for _, y in found)]
    return results


@rows.graphflow
@rows.tensorflow
def _(tf, x, y):
    data = x, np.eye(10, dtype=np.int32)[y]
    size = len(x) // 125 if len(x) % 128 else 128

    def dataset():
        return tf.data.Dataset.from_tensor_slices(data).shuffle(10000).repeat().batch(size).prefetch(1)
    return taking(tf, dataset, epoch(len(x) // size))


@mapped.graphflow
@mapped.tensorflow
def _(tf, x, y):
    size = len(x) // 125 if len(x) % 128 else 128

    def dataset():
        found = tf.data.Dataset.from_tensor_slices((x, y)).map(lambda a, b: (tf.cast(a, tf.float32) / 255.0, tf.one_hot(b, 10)))
        return found.shuffle(10000).repeat().batch(size).prefetch(1)
    return taking(tf, dataset, epoch(len(x) // size))


@numbers.graphflow
@numbers.tensorflow
def _(tf, k):
    def dataset():
        return tf.data.Dataset.range(1 << 40).map(lambda v: v * k).batch(100)
    return taking(tf, dataset, lambda sess, element: sess.run(element))


@images.graphflow
@images.tensorflow
def _(tf, x):
    def change(image):
        return tf.image.random_flip_left_right(tf.random_crop(image, [28, 28, 3]))

    def dataset():
        return tf.data.Dataset.from_tensor_slices(x).shuffle(len(x)).repeat().map(change, num_parallel_calls=2).batch(64).prefetch(1)
    return taking(tf, dataset, lambda sess, element: np.array(sess.run(element).shape))


@generated.graphflow
@generated.tensorflow
def _(tf, k):
    def generate(n):
        i = 0
        while True:
            yield i * n
            i += 1

    def dataset():
        return tf.data.Dataset.from_generator(generate, tf.int64, [], args=(k,)).batch(100)
    return taking(tf, dataset, lambda sess, element: sess.run(element))
