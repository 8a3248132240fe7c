"""XOR: a hidden layer learns what a line cannot separate."""
import numpy as np

import graphflow as tf

STEPS = 2000


def main():
    tf.set_random_seed(1)
    x_data = np.array([[0, 0], [0, 1], [1, 0], [1, 1]], dtype=np.float32)
    y_data = np.array([[0], [1], [1], [0]], dtype=np.float32)

    X = tf.placeholder(tf.float32, [None, 2])
    Y = tf.placeholder(tf.float32, [None, 1])
    with tf.name_scope("hidden"):
        W1 = tf.Variable(tf.random_normal([2, 8]), name="weight")
        b1 = tf.Variable(tf.zeros([8]), name="bias")
        hidden = tf.tanh(tf.matmul(X, W1) + b1)
    with tf.name_scope("output"):
        W2 = tf.Variable(tf.random_normal([8, 1]), name="weight")
        b2 = tf.Variable(tf.zeros([1]), name="bias")
        hypothesis = tf.sigmoid(tf.matmul(hidden, W2) + b2)

    cost = -tf.reduce_mean(Y * tf.log(hypothesis) + (1 - Y) * tf.log(1 - hypothesis))
    train = tf.train.GradientDescentOptimizer(learning_rate=0.5).minimize(cost)
    predicted = tf.cast(hypothesis > 0.5, dtype=tf.float32)
    accuracy = tf.reduce_mean(tf.cast(tf.equal(predicted, Y), dtype=tf.float32))

    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for step in range(STEPS):
            _, c = sess.run([train, cost], feed_dict={X: x_data, Y: y_data})
            if (step + 1) % 500 == 0:
                print("step %4d  cost %.4f" % (step + 1, c))
        h, a = sess.run([hypothesis, accuracy], feed_dict={X: x_data, Y: y_data})
    print("hypothesis:", h.ravel(), "accuracy:", a)
    return h, a


if __name__ == "__main__":
    main()
