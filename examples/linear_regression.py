"""A line fitted to noisy points by gradient descent."""
import numpy as np

import graphflow as tf

LEARNING_RATE = 0.1
STEPS = 300


def main():
    rng = np.random.RandomState(0)
    train_x = rng.uniform(-1, 1, 100)
    train_y = 3.0 * train_x + 2.0 + 0.1 * rng.randn(100)

    X = tf.placeholder(tf.float32, name="X")
    Y = tf.placeholder(tf.float32, name="Y")
    W = tf.Variable(rng.randn(), name="weight", dtype=tf.float32)
    b = tf.Variable(rng.randn(), name="bias", dtype=tf.float32)

    prediction = tf.add(tf.multiply(X, W), b)
    cost = tf.reduce_mean(tf.pow(prediction - Y, 2))
    optimizer = tf.train.GradientDescentOptimizer(LEARNING_RATE).minimize(cost)
    init = tf.global_variables_initializer()

    with tf.Session() as sess:
        sess.run(init)
        for step in range(STEPS):
            sess.run(optimizer, feed_dict={X: train_x.astype(np.float32), Y: train_y.astype(np.float32)})
            if (step + 1) % 50 == 0:
                c = sess.run(cost, feed_dict={X: train_x.astype(np.float32), Y: train_y.astype(np.float32)})
                print("step %4d  cost %.5f  W %.3f  b %.3f" % (step + 1, c, sess.run(W), sess.run(b)))
        return sess.run([W, b, cost], feed_dict={X: train_x.astype(np.float32), Y: train_y.astype(np.float32)})


if __name__ == "__main__":
    main()
