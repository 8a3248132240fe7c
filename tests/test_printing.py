"""tf.Print, tf.print, Assert and tf.logging: what they write, against the lines of TensorFlow 2.21."""
from __future__ import annotations

import sys

import numpy as np
import pytest

import graphflow as tf

# (value, what tf.Print writes of it, what tf.print writes)
WRITTEN = [
    (3, "[3]", "3"), (0.1, "[0.1]", "0.1"), (123456.789, "[123456.789]", "123456.789"), (1e10, "[1e+10]", "1e+10"),
    (1e-7, "[1e-07]", "1e-07"), (np.float64(1 / 3), "[0.33333333333333331]", "0.33333333333333331"), (np.float16(0.1), "[0.0999755859]",
                                                                                                     "0.0999755859"),
    ([1, 2, 3], "[1 2 3]", "[1 2 3]"), ([1, 2, 3, 4], "[1 2 3...]", "[1 2 3 4]"), ([1 / 3, 2.0], "[0.333333343 2]", "[0.333333343 2]"),
    ([[1, 2], [3, 4]], "[[1 2][3...]...]", "[[1 2]\n [3 4]]"), ([[1.5, 2.0]] * 2, "[[1.5 2][1.5...]...]", "[[1.5 2]\n [1.5 2]]"),
    (np.arange(24).reshape(2, 3, 4), "[[[0 1 2...]]...]", "[[[0 1 2 3]\n  [4 5 6 7]\n  [8 9 10 11]]\n\n [[12 13 14 15]\n  [16 17 18 19]\n"
                                                          "  [20 21 22 23]]]"),
    (np.arange(10), "[0 1 2...]", "[0 1 2 ... 7 8 9]"), (True, "[1]", "1"), ([True, False], "[1 0]", "[1 0]"),
    ("abc", "[abc]", '"abc"'), (["a", "b\n"], "[a b\\n]", '["a" "b\\n"]'), ([1e30, np.nan, np.inf], "[1e+30 nan inf]", "[1e+30 nan inf]"),
    (np.zeros((0,), np.float32), "[]", "[]"), (np.float32([16777216, 1e6, -0.0]), "[16777216 1e+06 -0]", "[16777216 1e+06 -0]")]


@pytest.mark.parametrize("value, old, new", WRITTEN, ids=[old for _, old, _ in WRITTEN])
def test_arrays_as_tensorflow_writes_them(capsys, value, old, new):
    x = tf.constant(value)
    with tf.Session() as sess:
        np.testing.assert_array_equal(sess.run(tf.Print(x, [x, x], "m: ")), sess.run(x))
        sess.run(tf.print("is", x, (x, 2)))
    assert capsys.readouterr().err == f"m: {old}{old}\nis {new} ({new}, 2)\n"


@pytest.mark.parametrize("summarize, old, new", [
    (-1, "[[0 1 2 3 4][5 6 7 8 9]]", "[[0 1 2 3 4]\n [5 6 7 8 9]]"), (4, "[[0 1 2 3...]...]", "[[0 1 2 3 4]\n [5 6 7 8 9]]"),
    (1, "[[0...]...]", "[[0 ... 4]\n [5 ... 9]]"), (5, "[[0 1 2 3 4]...]", "[[0 1 2 3 4]\n [5 6 7 8 9]]")])
def test_summarize(capsys, summarize, old, new):
    x = tf.constant(np.arange(10).reshape(2, 5))
    with tf.Session() as sess:
        sess.run(tf.Print(x, [x], summarize=summarize))
        sess.run(tf.print(x, summarize=summarize))
    assert capsys.readouterr().err == f"{old}\n{new}\n"


def test_print_counts_and_passes_gradients(capsys):
    x = tf.placeholder(tf.float32, [2])
    y = tf.Print(x, ["only", x * 2], first_n=2, message="m")
    assert (y.op.name, y.op.type, y.shape.as_list()) == ("Print", "Print", [2])
    with tf.Session() as sess:
        for _ in range(4):
            sess.run(y, {x: [1, 2]})
        assert list(sess.run(tf.gradients(y * 3, x)[0], {x: [1, 2]})) == [3, 3]
    assert capsys.readouterr().err == "m[only][2 4]\n" * 2


STRUCTURES = [
    (lambda t: ("x", t, {"b": t, "a": (t, 1, "q")}, [t, [t]]), {}, "x [1 2] {'a': ([1 2], 1, 'q'), 'b': [1 2]} [[1 2], [[1 2]]]\n"),
    (lambda t: (t, t), {"sep": ";", "end": "|"}, "[1 2];[1 2]|"), (lambda t: (), {}, "\n"), (lambda t: ("just {}",), {}, "just {}\n"),
    (lambda t: (1, 2.5, None), {}, "1 2.5 None\n"), (lambda t: (tf.constant("text\n"),), {}, "text\n\n"),
    (lambda t: (np.arange(3),), {}, "array([0, 1, 2])\n"),
    (lambda t: (tf.SparseTensor([[1]], [5.0], [3]),), {}, "SparseTensor(indices=[[1]], values=[5], shape=[3])\n")]


@pytest.mark.parametrize("args, kwargs, text", STRUCTURES, ids=[text for *_, text in STRUCTURES])
def test_structures(capsys, args, kwargs, text):
    op = tf.print(*args(tf.constant([1.0, 2.0])), output_stream=sys.stdout, **kwargs)
    assert isinstance(op, tf.Operation) and op.type == "PrintV2" and not op.outputs
    with tf.Session() as sess:
        sess.run(op)
    assert capsys.readouterr().out == text


def test_streams(tmp_path, capsys, caplog):
    x = tf.constant(7)
    with tf.Session() as sess:
        sess.run([tf.print(x, output_stream=f"file://{tmp_path}/f"), tf.print("b", output_stream=f"file://{tmp_path}/f")])
        assert (tmp_path / "f").read_text() == "7\nb\n"
        sess.run([tf.print(x), tf.print("e", output_stream=sys.stderr)])
        assert capsys.readouterr().err == "7\ne\n"
        for stream in (tf.logging.warning, tf.logging.warn, tf.logging.WARN):
            op = tf.print("warned", x, output_stream=stream)
            seen = []
            tf.get_logger().addFilter(lambda record: seen.append((record.levelname, record.getMessage())))
            sess.run(op)
            tf.get_logger().filters.clear()
            assert seen == [("WARNING", "warned 7")]
    with pytest.raises(ValueError, match="Unsupported output stream.*'nowhere'"):
        tf.print(x, output_stream="nowhere")


@pytest.mark.parametrize("data, summarize, text", [
    ([[1.0, 2.0], "msg", [1, 2, 3, 4, 5]], None, "assertion failed: [1 2] [msg] [1 2 3...]"), (["a"], 1, "assertion failed: [a]"),
    ([[[0.5, 1.0], [2.0, 3.0]]], 3, "assertion failed: [[0.5 1][2...]...]"), ([7], 9, "assertion failed: [7]")])
def test_assert(data, summarize, text):
    holds = tf.placeholder(tf.bool, name="holds")
    op = tf.Assert(holds, data, summarize)
    assert op.type == "Assert"
    with tf.Session() as sess:
        sess.run(op, {holds: True})
        for value in (False, [True, False]):
            with pytest.raises(tf.errors.InvalidArgumentError) as e:
                sess.run(op, {holds: value})
            assert e.value.message.startswith(text) and "test_printing.py" in e.value.message
