"""Two hidden layers written with tf.Variable, trained by Adam on scikit-learn's digits."""
import numpy as np
from sklearn.datasets import load_digits

import graphflow as tf

LEARNING_RATE = 0.003
EPOCHS = 15
BATCH_SIZE = 64


def multilayer_perceptron(x, weights, biases):
    layer_1 = tf.nn.relu(tf.add(tf.matmul(x, weights["h1"]), biases["b1"]))
    layer_2 = tf.nn.relu(tf.add(tf.matmul(layer_1, weights["h2"]), biases["b2"]))
    return tf.matmul(layer_2, weights["out"]) + biases["out"]


def main():
    tf.set_random_seed(0)
    images, labels = load_digits(return_X_y=True)
    images = (images / 16.0).astype(np.float32)

    x = tf.placeholder("float", [None, 64])
    y = tf.placeholder("float", [None, 10])
    weights = {
        "h1": tf.Variable(tf.random_normal([64, 96], stddev=0.15)),
        "h2": tf.Variable(tf.random_normal([96, 48], stddev=0.15)),
        "out": tf.Variable(tf.random_normal([48, 10], stddev=0.15)),
    }
    biases = {"b1": tf.Variable(tf.zeros([96])), "b2": tf.Variable(tf.zeros([48])), "out": tf.Variable(tf.zeros([10]))}

    logits = multilayer_perceptron(x, weights, biases)
    loss_op = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(logits=logits, labels=y))
    train_op = tf.train.AdamOptimizer(learning_rate=LEARNING_RATE).minimize(loss_op)
    correct = tf.equal(tf.argmax(logits, 1), tf.argmax(y, 1))
    accuracy = tf.reduce_mean(tf.cast(correct, "float"))

    one_hot = np.eye(10, dtype=np.float32)[labels]
    order = np.random.RandomState(0)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for epoch in range(EPOCHS):
            shuffled = order.permutation(1400)
            average = 0.0
            for i in range(0, 1400, BATCH_SIZE):
                batch = shuffled[i:i + BATCH_SIZE]
                _, c = sess.run([train_op, loss_op], feed_dict={x: images[batch], y: one_hot[batch]})
                average += c * len(batch) / 1400
            if (epoch + 1) % 5 == 0:
                print("epoch %2d  cost %.4f" % (epoch + 1, average))
        result = sess.run(accuracy, {x: images[1400:], y: one_hot[1400:]})
    print("test accuracy: %.3f" % result)
    return result


if __name__ == "__main__":
    main()
