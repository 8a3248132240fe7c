"""tf.gradients without an optimizer: a descent step written as assignments, and second derivatives."""
import numpy as np

import graphflow as tf


def rosenbrock(x):
    return tf.reduce_sum(100.0 * (x[1:] - x[:-1] ** 2) ** 2 + (1.0 - x[:-1]) ** 2)


def main():
    x = tf.Variable([-1.2, 1.0], dtype=tf.float64, name="x")
    f = rosenbrock(x)
    gradient, = tf.gradients(f, [x])
    hessian = tf.stack([tf.gradients(gradient[i], [x])[0] for i in range(2)])
    newton = tf.squeeze(tf.matrix_solve(hessian, gradient[:, None]), 1)
    step = tf.assign_sub(x, newton)

    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        print("gradient at the start:", sess.run(gradient))
        for i in range(8):
            value, _ = sess.run([f, step])
            print("step %d  f = %.3e" % (i, value))
        found = sess.run(x)
    print("minimum at", found)

    # The gradient agrees with central differences.
    p = tf.placeholder(tf.float64, [2])
    fp = rosenbrock(p)
    gp, = tf.gradients(fp, p)
    with tf.Session() as sess:
        at, eps = np.array([0.3, -0.7]), 1e-6
        exact = sess.run(gp, {p: at})
        numeric = [(sess.run(fp, {p: at + eps * d}) - sess.run(fp, {p: at - eps * d})) / (2 * eps) for d in np.eye(2)]
    print("by tf.gradients:", exact, "by differences:", numeric)
    return found, exact, numeric


if __name__ == "__main__":
    main()
