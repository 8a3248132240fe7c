"""Softmax regression on scikit-learn's 8x8 digits."""
import numpy as np
from sklearn.datasets import load_digits

import graphflow as tf

LEARNING_RATE = 0.5
EPOCHS = 20
BATCH_SIZE = 100


def main():
    images, labels = load_digits(return_X_y=True)
    images = (images / 16.0).astype(np.float32)
    one_hot = np.eye(10, dtype=np.float32)[labels]
    train, test = slice(0, 1400), slice(1400, None)

    x = tf.placeholder(tf.float32, [None, 64])
    y = tf.placeholder(tf.float32, [None, 10])
    W = tf.Variable(tf.zeros([64, 10]))
    b = tf.Variable(tf.zeros([10]))

    pred = tf.nn.softmax(tf.matmul(x, W) + b)
    cost = tf.reduce_mean(-tf.reduce_sum(y * tf.log(pred), reduction_indices=1))
    optimizer = tf.train.GradientDescentOptimizer(LEARNING_RATE).minimize(cost)
    correct = tf.equal(tf.argmax(pred, 1), tf.argmax(y, 1))
    accuracy = tf.reduce_mean(tf.cast(correct, tf.float32))

    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for epoch in range(EPOCHS):
            costs = []
            for i in range(0, 1400, BATCH_SIZE):
                _, c = sess.run([optimizer, cost], feed_dict={x: images[train][i:i + BATCH_SIZE], y: one_hot[train][i:i + BATCH_SIZE]})
                costs.append(c)
            if (epoch + 1) % 5 == 0:
                print("epoch %2d  cost %.4f" % (epoch + 1, np.mean(costs)))
        result = accuracy.eval({x: images[test], y: one_hot[test]})
    print("test accuracy: %.3f" % result)
    return result


if __name__ == "__main__":
    main()
