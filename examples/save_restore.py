"""Training interrupted: a Saver writes checkpoints, a second session goes on from the latest one."""
import os
import tempfile

import numpy as np

import graphflow as tf


def build():
    x = tf.placeholder(tf.float32, [None, 3], name="x")
    y = tf.placeholder(tf.float32, [None, 1], name="y")
    prediction = tf.layers.dense(x, 1, name="model")
    loss = tf.losses.mean_squared_error(y, prediction)
    global_step = tf.train.get_or_create_global_step()
    train = tf.train.AdamOptimizer(0.05).minimize(loss, global_step=global_step)
    return x, y, loss, train, global_step


def main(folder=None):
    folder = folder or tempfile.mkdtemp()
    rng = np.random.RandomState(0)
    data = rng.randn(64, 3).astype(np.float32)
    target = (data @ np.array([[1.0], [-2.0], [0.5]]) + 0.3).astype(np.float32)

    tf.set_random_seed(3)
    x, y, loss, train, global_step = build()
    saver = tf.train.Saver(max_to_keep=2)

    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for _ in range(100):
            sess.run(train, {x: data, y: target})
        before = sess.run(loss, {x: data, y: target})
        path = saver.save(sess, os.path.join(folder, "model.ckpt"), global_step=global_step)
        print("saved", path, "at loss %.5f" % before)

    with tf.Session() as sess:  # no initializer: everything comes from the file
        ckpt = tf.train.get_checkpoint_state(folder)
        saver.restore(sess, ckpt.model_checkpoint_path)
        restored, step = sess.run([loss, global_step], {x: data, y: target})
        print("restored at step %d, loss %.5f" % (step, restored))
        for _ in range(100):
            sess.run(train, {x: data, y: target})
        after, step = sess.run([loss, global_step], {x: data, y: target})
        print("went on to step %d, loss %.5f" % (step, after))
    for name, shape in tf.train.list_variables(path):
        print("  %-24s %s" % (name, shape))
    return before, restored, after, int(step)


if __name__ == "__main__":
    main()
