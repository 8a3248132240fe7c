"""A small convolutional network with tf.layers on scikit-learn's digits (8x8 grey images)."""
import numpy as np
from sklearn.datasets import load_digits

import graphflow as tf

EPOCHS = 6
BATCH_SIZE = 50


def conv_net(images, is_training):
    with tf.variable_scope("ConvNet"):
        x = tf.reshape(images, shape=[-1, 8, 8, 1])
        conv1 = tf.layers.conv2d(x, 8, 3, padding="same", activation=tf.nn.relu)
        pool1 = tf.layers.max_pooling2d(conv1, 2, 2)
        conv2 = tf.layers.conv2d(pool1, 16, 3, padding="same", activation=tf.nn.relu)
        fc1 = tf.layers.dense(tf.layers.flatten(conv2), 64, activation=tf.nn.relu)
        fc1 = tf.layers.dropout(fc1, rate=0.25, training=is_training)
        return tf.layers.dense(fc1, 10, name="logits")


def main():
    tf.set_random_seed(0)
    images, labels = load_digits(return_X_y=True)
    images = (images / 16.0).astype(np.float32)

    x = tf.placeholder(tf.float32, [None, 64], name="images")
    y = tf.placeholder(tf.int32, [None], name="labels")
    is_training = tf.placeholder_with_default(False, [], name="is_training")
    logits = conv_net(x, is_training)
    loss = tf.losses.sparse_softmax_cross_entropy(labels=y, logits=logits)
    global_step = tf.train.get_or_create_global_step()
    rate = tf.train.exponential_decay(0.005, global_step, 100, 0.8)
    train = tf.train.AdamOptimizer(rate).minimize(loss, global_step=global_step)
    accuracy = tf.reduce_mean(tf.to_float(tf.equal(tf.argmax(logits, 1), tf.to_int64(y))))

    order = np.random.RandomState(0)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        for epoch in range(EPOCHS):
            for batch in np.split(order.permutation(1400), 1400 // BATCH_SIZE):
                _, step, c = sess.run([train, global_step, loss], {x: images[batch], y: labels[batch], is_training: True})
            print("epoch %d  step %3d  loss %.4f" % (epoch + 1, step, c))
        result = sess.run(accuracy, {x: images[1400:], y: labels[1400:]})
    print("test accuracy: %.3f" % result)
    return result


if __name__ == "__main__":
    main()
