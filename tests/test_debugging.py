"""tf.debugging and the assertions: when they raise, what, and the names of their ops, as TensorFlow 2.21 does in graphs."""
from __future__ import annotations

import re

import numpy as np
import pytest

import graphflow as tf

OK, BUILD, RUN = "passes", "fails while building", "fails while running"


def fed(value, shape=None, dtype=tf.float32):
    """A placeholder that stands for a value known only when it runs."""
    return ("fed", value, shape, dtype)


def outcome(function, /, *args, **kwargs):
    """(when, the error or the operation)."""
    feeds = {}

    def convert(a):
        if isinstance(a, tuple) and a and a[0] == "fed":
            t = tf.placeholder(a[3], a[2])
            feeds[t] = a[1]
            return t
        return a

    args, kwargs = [convert(a) for a in args], {k: convert(v) for k, v in kwargs.items()}
    try:
        found = getattr(tf.debugging, function)(*args, **kwargs)
    except (ValueError, TypeError) as e:
        return BUILD, e
    with tf.Session() as sess:
        try:
            sess.run(found, feeds)
        except tf.errors.InvalidArgumentError as e:
            return RUN, e
    return OK, found if isinstance(found, tf.Operation) else found.op


INVALID = tf.errors.InvalidArgumentError
DIFFER = "Condition x == y did not hold element-wise:"
CASES = [  # (function, arguments, keywords, when, name of the op or error, words)
    ("assert_equal", [[1, 2], [1, 2]], {}, OK, "assert_equal/static_checks_determined_all_ok", ""),
    ("assert_equal", [[1, 2], [1, 3]], {}, BUILD, INVALID, f"{DIFFER}\nx (assert_equal/x:0) = \n[1 2]\ny (assert_equal/y:0) = \n[1 3]"),
    ("assert_equal", [fed([1.0, 2.0]), [1.0, 2.0]], {}, OK, "assert_equal/Assert/Assert", ""),
    ("assert_equal", [fed([1.0, 2.0]), [1.0, 3.0]], {"message": "msg", "name": "nm"}, RUN, INVALID,
     f"assertion failed: [msg] [{DIFFER}] [x (Placeholder:0) = ] [1 2] [y (nm/y:0) = ] [1 3]"),
    ("assert_equal", [1, 2], {"message": "m"}, BUILD, INVALID, "m\nCondition x == y did not hold element-wise:"),
    ("assert_equal", [fed([]), fed([])], {}, OK, "assert_equal/Assert/Assert", ""), ("assert_equal", ["a", "a"], {}, OK, None, ""),
    ("assert_equal", [fed([1.0, 2.0, 3.0]), fed([1.0, 2.0])], {}, RUN, INVALID, "[3], [2]"),
    ("assert_equal", [np.float32([1]), tf.int32], {}, BUILD, TypeError, ""),
    ("assert_equal", [fed([1.0]), 3.0], {"data": ["d", 4]}, RUN, INVALID, "assertion failed: [d] [4]"),
    ("assert_none_equal", [[1, 2], [3, 4]], {}, OK, None, ""), ("assert_none_equal", [[1, 2], [1, 4]], {}, BUILD, INVALID, "x != y"),
    ("assert_none_equal", [fed([1.0]), fed([1.0])], {}, RUN, INVALID, "x != y"),
    ("assert_less", [[1, 2], 3], {}, OK, None, ""), ("assert_less", [[1, 2], 2], {}, BUILD, INVALID, "x < y"),
    ("assert_less", [fed([1.0, 2.0]), 2.0], {"summarize": 1}, RUN, INVALID, "[1...]"),
    ("assert_less_equal", [fed([1.0, 2.0]), 2.0], {}, OK, None, ""), ("assert_less_equal", [fed([3.0]), 2.0], {}, RUN, INVALID, "x <= y"),
    ("assert_greater", [fed([1.0, 2.0]), 1.0], {}, RUN, INVALID, "x > y"), ("assert_greater", [[2], [1]], {}, OK, None, ""),
    ("assert_greater_equal", [fed([1.0, 2.0]), 1.0], {}, OK, None, ""), ("assert_greater_equal", [[1], [2]], {}, BUILD, INVALID, "x >= y"),
    ("assert_near", [fed([1.0]), [1.0000001]], {}, OK, "assert_near/Assert/Assert", ""),
    ("assert_near", [fed([1.0]), [1.1]], {"message": "far"}, RUN, INVALID,
     "assertion failed: [far] [x and y not equal to tolerance rtol = "),
    ("assert_near", [fed([1.0]), [1.1]], {"atol": 0.2}, OK, None, ""), ("assert_near", [fed([100.0]), [101.0]], {"rtol": 0.02}, OK, None,
     ""),
    ("assert_positive", [[1, 2]], {}, OK, "assert_positive/assert_less/static_checks_determined_all_ok", ""),
    ("assert_positive", [[0, 2]], {}, BUILD, INVALID, "Condition x > 0 did not hold element-wise:\nx (assert_positive/Const:0) = \n[0 2]"),
    ("assert_positive", [fed([0.0, 2.0])], {"message": "mm"}, RUN, INVALID,
     "assertion failed: [mm.  ] [Condition x > 0 did not hold element-wise:] [x (Placeholder:0) = ] [0 2]"),
    ("assert_negative", [fed([0.0, -2.0])], {}, RUN, INVALID, "x < 0"), ("assert_negative", [[-1]], {}, OK, None, ""),
    ("assert_non_negative", [fed([0.0, 2.0])], {}, OK, "assert_non_negative/assert_less_equal/Assert/Assert", ""),
    ("assert_non_negative", [fed([-1.0])], {}, RUN, INVALID, "x >= 0"), ("assert_non_positive", [fed([1.0])], {}, RUN, INVALID, "x <= 0"),
    ("assert_non_positive", [fed([0.0])], {"data": ["seen"]}, OK, None, ""),
    ("assert_rank", [[1, 2], 1], {}, OK, "assert_rank/static_checks_determined_all_ok", ""),
    ("assert_rank", [[1, 2], 2], {"message": "mes"}, BUILD, ValueError,
     "mes.  Tensor assert_rank/Const:0 must have rank 2.  Received rank 1"),
    ("assert_rank", [fed([1.0, 2.0]), 1], {}, OK, "assert_rank/Assert/Assert", ""),
    ("assert_rank", [fed([1.0, 2.0]), 2], {}, RUN, INVALID, "[Tensor Placeholder:0 must have rank] [2] [Received shape: ] [2]"),
    ("assert_rank", [[1], [1]], {}, BUILD, ValueError, "Rank must be a scalar"), ("assert_rank", [[1], 1.5], {}, BUILD, TypeError,
     "integer"),
    ("assert_rank", [fed([1.0]), fed(1, [], tf.int32)], {}, OK, None, ""),
    ("assert_rank_at_least", [[1, 2], 1], {}, OK, None, ""), ("assert_rank_at_least", [[1, 2], 2], {}, BUILD, ValueError,
     "rank at least 2"),
    ("assert_rank_at_least", [fed([1.0]), 2], {}, RUN, INVALID, "must have rank at least] [2]"),
    ("assert_rank_in", [[1, 2], (1, 2)], {}, OK, "assert_rank_in/static_checks_determined_all_ok", ""),
    ("assert_rank_in", [[1, 2], (0, 2)], {}, BUILD, ValueError, "must have rank in (0, 2).  Received rank 1"),
    ("assert_rank_in", [fed([1.0]), (1, 2)], {}, OK, None, ""),
    ("assert_rank_in", [fed([1.0]), (0, 2)], {}, RUN, INVALID, "must have rank in] [0] [2]"),
    ("assert_scalar", [1], {}, OK, "assert_scalar/Const", ""),
    ("assert_scalar", [[1]], {"message": "M"}, BUILD, ValueError, "M.  Expected scalar shape for assert_scalar/Const:0, saw shape: (1,)."),
    ("assert_scalar", [fed(1.0)], {}, BUILD, ValueError, "saw shape: <unknown>"),
    ("assert_type", [1, tf.int32], {}, OK, "assert_type/statically_determined_correct_type", ""),
    ("assert_type", [1, tf.float32], {"message": "M"}, BUILD, TypeError,
     "M.  assert_type/Const:0 must be of type tf.float32; got tf.int32"),
    ("assert_integer", [1], {}, OK, "assert_integer/statically_determined_was_integer", ""),
    ("assert_integer", [1.0], {}, BUILD, TypeError, 'Expected "x" to be integer type.'),
    ("check_numerics", [fed([1.0, 2.0]), "m"], {}, OK, "CheckNumerics", ""),
    ("check_numerics", [fed([1.0, np.nan]), "m"], {}, RUN, INVALID, "m : Tensor had NaN values"),
    ("check_numerics", [fed([1.0, -np.inf, np.nan]), "m"], {}, RUN, INVALID, "m : Tensor had Inf and NaN values"),
    ("check_numerics", [1, "m"], {}, BUILD, TypeError, "has type int32"),
    ("assert_all_finite", [fed([1.0, np.inf]), "m"], {}, RUN, INVALID, "m : Tensor had Inf values"),
    ("assert_all_finite", [], {"x": fed([1.0]), "message": "m"}, OK, "VerifyFinite/CheckNumerics", ""),
    ("assert_all_finite", [fed([1.0])], {}, BUILD, TypeError, "a message"),
    ("assert_all_finite", [1.0, "m"], {"message": "n"}, BUILD, ValueError, "both 'msg' and 'message'"),
    ("Assert", [True, ["x"]], {}, OK, "Assert/Assert", ""), ("Assert", [False, ["x"]], {"name": "a"}, RUN, INVALID,
     "assertion failed: [x]")]


@pytest.mark.parametrize("name, args, kwargs, when, what, words", CASES, ids=[f"{i}-{c[0]}" for i, c in enumerate(CASES)])
def test_assertions(name, args, kwargs, when, what, words):
    found_when, found = outcome(name, *args, **kwargs)
    assert found_when == when, found
    if when == OK:
        assert what is None or found.name == what
    else:
        assert isinstance(found, what) and words in str(found), str(found)


def test_an_assertion_takes_the_dtype_of_the_other_side():
    x = tf.placeholder(tf.float64, [1])
    assert tf.assert_less(1, x).inputs[0].op.inputs[0].op.inputs[0].dtype == tf.float64
    with pytest.raises(TypeError, match="does not match"):
        tf.assert_equal(tf.constant([1.0]), tf.constant([1]))


SHAPES = [  # (shapes of the tensors, what is asked, when, words)
    ([(2, 3), (3,)], [(2, "n"), ("n",)], OK, ""), ([(2, 3), (4,)], [(2, "n"), ("n",)], BUILD, "is 4, but dimension 1 of .* is 3"),
    ([(2, 3)], [(2, None)], OK, ""), ([(2, 3)], [(2,)], BUILD, "Received shape"), ([(5, 2, 3)], [(..., 3)], OK, ""),
    ([(5, 2, 3)], [("*", 2, 4)], BUILD, "dimension 1 of .* is 3, but the shape asked for is 4"), ([(3,)], ["n"], OK, ""),
    ([(2, 3)], [(".", 3)], OK, ""), ([()], [()], OK, "")]


@pytest.mark.parametrize("known", [True, False])
@pytest.mark.parametrize("sizes, wanted, when, words", SHAPES)
def test_assert_shapes(sizes, wanted, when, words, known):
    tensors = [tf.placeholder(tf.float32, s if known else None) for s in sizes]
    feeds = {t: np.zeros(s) for t, s in zip(tensors, sizes)}
    with tf.Session() as sess:
        if when == OK or not known:
            check = tf.debugging.assert_shapes(list(zip(tensors, wanted)), message="said")
            if when == OK:
                return sess.run(check, {} if known else feeds)
            with pytest.raises(INVALID, match="said"):
                sess.run(check, feeds)
        else:
            with pytest.raises(ValueError, match=f"said.*{words}"):
                tf.debugging.assert_shapes(dict(zip(tensors, wanted)), message="said")


@pytest.mark.parametrize("values, rising, strict", [([1, 1, 2], True, False), ([1, 3, 2], False, False), ([[1, 2], [3, 4]], True, True),
                                                    ([], True, True), ([5], True, True)])
def test_orders(values, rising, strict):
    x = tf.constant(values, tf.float32)
    with tf.Session() as sess:
        assert sess.run([tf.debugging.is_non_decreasing(x), tf.is_strictly_increasing(x)]) == [rising, strict]


def test_questions_of_dtype():
    a, b, i = tf.constant(1.0), tf.constant(2.0, tf.float64), tf.constant(1)
    same = tf.debugging.assert_same_float_dtype
    assert (same([a, None, a]), same(), same([], tf.float64), same([b], tf.float64)) == (tf.float32, tf.float32, tf.float64, tf.float64)
    for bad in (lambda: same([a, b]), lambda: same([i]), lambda: same([a], tf.float64), lambda: same(None, tf.int32)):
        with pytest.raises(ValueError, match="Expected"):
            bad()
    assert tf.debugging.is_numeric_tensor(i) and not tf.debugging.is_numeric_tensor(tf.constant("a")) and not tf.is_numeric_tensor(3)
    tf.debugging.assert_proper_iterable([a])
    for bad in (a, "text", 3, np.zeros(2)):
        with pytest.raises(TypeError, match="proper"):
            tf.debugging.assert_proper_iterable(bad)


def test_all_tensors_are_checked():
    x = tf.placeholder(tf.float32, [2], name="x")
    y = tf.log(x, name="y")
    tf.while_loop(lambda i, v: i < 2, lambda i, v: (i + 1, v / 2), (0, tf.divide(1.0, y, name="z")))
    tf.cast(x, tf.int32)
    check = tf.add_check_numerics_ops()
    assert isinstance(check, tf.Operation)
    with tf.Session() as sess:
        sess.run(check, {x: [2, 3]})
        for values, name in (([-1, 1], "y:0 : Tensor had NaN"), ([1, 2], "z:0 : Tensor had Inf"), ([0, 2], "y:0 : Tensor had Inf")):
            with pytest.raises(INVALID, match=re.escape(name)):
                sess.run(check, {x: values})
