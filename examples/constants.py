"""Constants, arithmetic and a Session: the first program of every tutorial."""
import graphflow as tf


def main():
    hello = tf.constant([1.0, 2.0, 3.0], name="hello")
    a = tf.constant(2)
    b = tf.constant(3)
    matrix1 = tf.constant([[3.0, 3.0]])
    matrix2 = tf.constant([[2.0], [2.0]])
    x = tf.placeholder(tf.int16)
    y = tf.placeholder(tf.int16)

    with tf.Session() as sess:
        print("hello:", sess.run(hello))
        print("a + b = %i, a * b = %i" % (sess.run(a + b), sess.run(a * b)))
        fed = sess.run([tf.add(x, y), tf.multiply(x, y)], feed_dict={x: 2, y: 3})
        print("with variables: sum %i, product %i" % tuple(fed))
        product = sess.run(tf.matmul(matrix1, matrix2))
        print("matrix product:", product)
    return fed, product


if __name__ == "__main__":
    main()
