"""Gradients through branches, loops and TensorArrays: against central differences in float64, unrolled graphs, and each other."""
from __future__ import annotations

import functools
import warnings

import numpy as np
import pytest

import graphflow as tf
from graphflow.flags import flags

pytestmark = pytest.mark.filterwarnings("ignore:gradients")
modes = pytest.mark.parametrize("interpret", [1, 0], ids=["interpreted", "compiled"])


def feed(*shape, static=None):
    return tf.placeholder(tf.float64, shape if static is None else static)


def values(*shape):
    return 0.6 * np.random.default_rng(sum(shape) + 7).standard_normal(shape)


def run(fetches, feeds=None, interpret=0):
    with flags.override(interpret=interpret), tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        return sess.run(fetches, feeds)


def loop(n, body, *start, **options):
    """`body(i, *values)` n times; the values, one by itself."""
    found = tf.while_loop(lambda i, *_: i < n, lambda i, *v: (i + 1, *_listed(body(i, *v))), [0, *start], **options)
    return found[1] if len(found) == 2 else found[1:]


def unrolled(n, body, *start):
    for i in range(n):
        start = _listed(body(tf.constant(i), *start))
    return start[0] if len(start) == 1 else start


def _listed(x):
    return list(x) if isinstance(x, (list, tuple)) else [x]


def times(w, h):
    """A matrix times a vector."""
    return tf.reshape(tf.matmul(w, h[:, None]), [-1])


# ---------------------------------------------------------------- against central differences, first and second order

CASES = {}


def case(make):
    """A function that returns a result y and feeds {placeholder: array}, whose gradients are wanted."""
    CASES[make.__name__] = make
    return make


def two():
    x, w = feed(2), feed(2)
    return x, w, {x: values(2), w: values(3)[:2]}


@case
def a_counted_loop():
    x, w = feed(3), feed(3, 3)
    return loop(4, lambda i, h: tf.tanh(times(w, h) + x), x), {x: values(3), w: values(3, 3)}


@case
def sizes_known_at_run_time():
    x, w = feed(static=[None]), feed(static=[None, None])
    return loop(3, lambda i, h: tf.tanh(times(w, h) + x), x), {x: values(3), w: values(3, 3)}


@case
def until_the_sum_is_large():
    x = feed(2)
    return tf.while_loop(lambda h: tf.reduce_sum(h) < 20.0, lambda h: [h * 1.7 + x * x], [tf.abs(x)]), {x: values(2) + 2}


@case
def no_iterations():
    x, w, feeds = two()
    return loop(0, lambda i, h: h * w, x * x) * x, feeds


@case
def at_most_three_iterations():
    x = feed(2)
    return tf.while_loop(lambda h: tf.reduce_sum(h) < 1e9, lambda h: [h * h * x], [x], maximum_iterations=3), {x: values(2)}


@case
def a_branch_in_a_loop():
    x, w, feeds = two()
    return loop(5, lambda i, h: tf.cond(tf.equal(i % 2, 0), lambda: tf.sin(h * w), lambda: h * tf.exp(-h) + x), x), feeds


@case
def a_loop_in_a_branch():
    x, w, feeds = two()
    return tf.cond(tf.reduce_sum(x) > -100, lambda: loop(3, lambda i, h: tf.sin(h * w), x), lambda: x * w * 2), feeds


@case
def a_loop_in_the_branch_not_taken():
    x, w, feeds = two()
    return tf.cond(tf.reduce_sum(x) < -100, lambda: loop(3, lambda i, h: tf.sin(h * w), x), lambda: x * w * 2), feeds


@case
def a_branch_in_a_branch():
    x, w, feeds = two()
    p = tf.reduce_sum(x)
    return tf.cond(p > -100, lambda: x * tf.cond(p > 100, lambda: w, lambda: tf.sin(w * x)), lambda: x), feeds


@case
def a_loop_in_a_loop():
    x, w, feeds = two()
    return loop(3, lambda i, h: loop(3, lambda j, h: tf.sin(h * w) + x, h), x), feeds


@case
def inner_loops_of_different_lengths():
    x, w, feeds = two()
    return loop(4, lambda i, h: loop(i, lambda j, h: tf.sin(h * w) + x, h), x), feeds


@case
def three_levels():
    x, w, feeds = two()

    def inner(k, h):
        return loop(k, lambda j, h: tf.cond(j > 0, lambda: tf.sin(h * w) + x, lambda: h * h * x), h)
    return loop(4, lambda i, h: loop(i, lambda j, h: tf.tanh(inner(j, h)) + w, h), x), feeds


@case
def variables_that_swap():
    x, w, feeds = two()
    a, b = loop(3, lambda i, a, b: (b, a * b), x, w)
    return a * 2 + b, feeds


@case
def whole_numbers_and_bools_beside():
    x = feed(2)

    def body(i, b, h):
        return i * 2, tf.logical_not(b), tf.where(tf.fill([2], b), tf.sin(h) * tf.cast(i, tf.float64) / 8, tf.sin(h) * x)
    return tf.while_loop(lambda i, *_: i < 20, body, [1, True, x])[2], {x: values(2)}


@case
def a_tensor_that_grows():
    x = feed(1, 2)
    h = loop(3, lambda i, h: tf.concat([h, tf.sin(h) * x], 0), x, shape_invariants=[tf.TensorShape([]), tf.TensorShape([None, 2])])
    return h * values(8, 2), {x: values(1, 2)}


@case
def rows_of_a_table():
    x, t = feed(2), feed(4, 2)
    return loop(3, lambda i, h: tf.sin(h * tf.reduce_sum(tf.gather(t, [i, 0]), 0)), x), {x: values(2), t: values(4, 2)}


@case
def an_array_written():
    x, w, feeds = two()
    _, ta = loop(4, lambda i, h, ta: (tf.tanh(h * w), ta.write(i, h * h)), x, tf.TensorArray(tf.float64, 4))
    return ta.stack() * values(4, 2), feeds


@case
def an_array_read_twice():
    x, w = feed(4, 2), feed(2)
    ta = tf.TensorArray(tf.float64, 4).unstack(x)
    return loop(4, lambda i, h: tf.tanh(h * w) + ta.read(i) * ta.read(3 - i), w), {x: values(4, 2), w: values(2)}


@case
def an_array_carried_and_read():
    x, w = feed(4, 2), feed(2)
    ta = tf.TensorArray(tf.float64, 4).unstack(x)
    h, _ = loop(4, lambda i, h, ta: (tf.tanh(h * w) + ta.read(i) * ta.read(3 - i), ta), w, ta)
    return h, {x: values(4, 2), w: values(2)}


@case
def an_array_that_reads_what_it_wrote():
    x, w, feeds = two()
    ta = tf.TensorArray(tf.float64, 6).write(0, x).write(1, w)
    _, ta = tf.while_loop(lambda i, _: i < 6, lambda i, ta: (i + 1, ta.write(i, tf.sin(ta.read(i - 1) * ta.read(i - 2)))), [2, ta])
    return ta.stack() * values(6, 2), feeds


@case
def written_in_one_loop_and_read_in_the_next():
    x, w, feeds = two()
    _, ta = loop(4, lambda i, h, ta: (tf.sin(h * w), ta.write(3 - i, h)), x, tf.TensorArray(tf.float64, 4))
    return loop(4, lambda i, h: h * ta.read(i) + w, x), feeds


@case
def an_array_that_grows():
    x, w, feeds = two()
    _, ta = loop(4, lambda i, h, ta: (tf.tanh(h * w), ta.write(i, h * h)), x, tf.TensorArray(tf.float64, 0, dynamic_size=True))
    return ta.stack() * values(4, 2), feeds


@case
def an_array_that_grows_behind_rows():
    x, w = feed(2, 2), feed(2)
    ta = tf.TensorArray(tf.float64, 0, dynamic_size=True).unstack(x)
    _, _, ta = tf.while_loop(lambda i, *_: i < 4, lambda i, h, ta: (i + 1, tf.tanh(h * w), ta.write(i, h * h)), [2, w, ta])
    return ta.stack() ** 2 * values(4, 2), {x: values(2, 2), w: values(2)}


@case
def scattered_gathered_split_and_joined():
    x = feed(4, 2)
    a = tf.TensorArray(tf.float64, 4).scatter([2, 0, 3, 1], x)
    b = tf.TensorArray(tf.float64, 2).split(x * x, [2, 2])
    y = [a.gather([1, 1, 3]) * values(3, 2), b.concat() * values(4, 2), a.read(2) * a.stack()[0]]
    return tf.add_n([tf.reduce_sum(t ** 2) for t in y]), {x: values(4, 2)}


@case
def a_gradient_asked_for_in_the_body():
    x, w, feeds = two()

    def body(i, h):
        y = tf.reduce_sum(tf.sin(h * w) * h)
        return h - 0.1 * tf.gradients(y, h)[0] + tf.gradients(y, w)[0]
    return loop(3, body, x), feeds


@case
def the_gradient_of_a_loop_asked_for_in_the_body():
    x, w, feeds = two()

    def body(i, h):
        y = loop(2, lambda j, s: tf.sin(s * w) * h, h)
        return h - 0.1 * tf.gradients(y, h)[0] + tf.gradients(y, w)[0]
    return loop(3, body, x), feeds


@case
def a_gradient_asked_for_in_a_branch():
    x, w, feeds = two()
    y = tf.reduce_sum(tf.sin(x * w) * x)
    return tf.cond(tf.reduce_sum(x) > -50, lambda: tf.gradients(y, x)[0], lambda: x), feeds


@case
def a_custom_gradient_in_the_body():
    x, w, feeds = two()

    @tf.custom_gradient
    def scaled(a, b):
        e = tf.exp(a)
        return e * b, lambda dy: (dy * e * b, dy * e)
    return loop(3, lambda i, h: tf.tanh(scaled(h, w)), x), feeds


@case
def functions_over_rows():
    x = feed(3, 2)
    z = tf.scan(lambda a, b: tf.sin(a * b), tf.map_fn(lambda a: tf.sin(a) * x[0], x))
    return tf.foldl(lambda a, b: tf.sin(a + b), z), {x: values(3, 2)}


LONG = {"the_gradient_of_a_loop_asked_for_in_the_body", "functions_over_rows", "an_array_that_reads_what_it_wrote", "three_levels",
        "at_most_three_iterations", "a_gradient_asked_for_in_the_body"}  # many kernels: compiled to first order only


def orders(name):
    """The case's losses of both orders, its feeds, and the gradients of the losses."""
    y, feeds = CASES[name]()
    first = tf.reduce_sum(y)
    slopes = tf.gradients(first, list(feeds))
    second = tf.add_n([(k + 1) * tf.reduce_sum(d * d) for k, d in enumerate(slopes) if d is not None])
    return first, second, feeds, slopes, tf.gradients(second, list(feeds), unconnected_gradients="zero")


@functools.lru_cache
def differences(name):
    """Central differences of both losses along a random direction of all feeds together."""
    with tf.Graph().as_default(), warnings.catch_warnings():
        warnings.simplefilter("ignore")
        first, second, feeds, _, _ = orders(name)
        rng = np.random.default_rng(5)
        ways = {x: rng.standard_normal(v.shape) for x, v in feeds.items()}
        h = 1e-5
        up, down = (run([first, second], {x: v + s * h * ways[x] for x, v in feeds.items()}, 1) for s in (1, -1))
        return [(a - b) / (2 * h) for a, b in zip(up, down)], [*ways.values()]


@modes
@pytest.mark.parametrize("name", CASES)
def test_central_differences(name, interpret):
    _, _, feeds, slopes, curves = orders(name)
    wanted, ways = differences(name)
    slopes = [s if s is not None else tf.zeros_like(x) for s, x in zip(slopes, feeds)]
    found = run([slopes] if name in LONG and not interpret else [slopes, curves], feeds, interpret)
    for order, numbers, want in zip((1, 2), found, wanted):
        for v, n in zip(feeds.values(), numbers):
            assert n.shape == v.shape
        along = sum(float(np.sum(n * w)) for n, w in zip(numbers, ways))
        assert along == pytest.approx(want, rel=1e-6, abs=1e-7), f"order {order}"


# ---------------------------------------------------------------- against unrolled graphs


def same_gradients(build, xs, feeds, interpret, rtol=1e-12):
    """`build(loop)` and `build(unrolled)` have the same value and gradients, and the sum of their squares too."""
    both = []
    for how in (loop, unrolled):
        y = build(how)
        first = tf.gradients(y, xs)
        both.append([y, *first, *tf.gradients(tf.add_n([tf.reduce_sum(d * d) for d in first]), xs)])
    for a, b in zip(*run(both, feeds, interpret)):
        np.testing.assert_allclose(a, b, rtol=rtol, atol=1e-13)


@modes
def test_a_variable_read_in_the_body(interpret):
    x, v = feed(2), tf.Variable(values(2))
    same_gradients(lambda how: how(3, lambda i, h: tf.sin(h * v) * x, x), [x, v], {x: values(3)[:2]}, interpret)


@modes
def test_a_variable_read_in_a_loop_and_a_branch_inside(interpret):
    x, v = feed(2), tf.Variable(values(2))

    def build(how):
        return how(3, lambda i, h: how(2, lambda j, h: tf.cond(j > 0, lambda: tf.sin(h * v) * x, lambda: h * h * v), h), x)
    same_gradients(build, [x, v], {x: values(3)[:2]}, interpret)


@modes
def test_a_variable_assigned_after_the_loop_counts_as_it_was(interpret):
    v = tf.Variable([0.3, 0.5], dtype=tf.float64)
    y = loop(3, lambda i, h: tf.sin(h * v), tf.ones([2], tf.float64))
    with tf.control_dependencies([y]):
        late = v.assign([9.0, 9.0])
    with tf.control_dependencies([late]):
        g = tf.identity(tf.gradients(y, v)[0])
    x = feed(2)
    expected = tf.gradients(unrolled(3, lambda i, h: tf.sin(h * x), tf.ones([2], tf.float64)), x)[0]
    a, b = run([g, expected], {x: [0.3, 0.5]}, interpret)
    np.testing.assert_allclose(a, b, rtol=1e-12)


@modes
def test_a_variable_assigned_in_the_body_every_read_counts(interpret):
    """As without a loop: what was assigned has no gradient, and each read passes its own to the variable."""
    v = tf.Variable([0.3, 0.5], dtype=tf.float64)

    def body(i, h):
        h = h * v
        with tf.control_dependencies([h]):
            new = v.assign_add([0.1, 0.2])
        with tf.control_dependencies([new]):
            return tf.identity(h)
    g = tf.gradients(loop(3, body, tf.ones([2], tf.float64)), v)[0]
    r = [np.array([0.3, 0.5]) + k * np.array([0.1, 0.2]) for k in range(3)]
    np.testing.assert_allclose(run(g, None, interpret), r[1] * r[2] + r[0] * r[2] + r[0] * r[1], rtol=1e-12)


@modes
def test_several_ys_and_weights_for_them(interpret):
    x, w, feeds = two()

    def build(how):
        a, b = how(4, lambda i, a, b: (tf.sin(a * w), b + a), x, x)
        return tf.gradients([a, b], [x, w], grad_ys=[tf.constant([1.0, 2.0], tf.float64), tf.constant([-1.0, 0.5], tf.float64)])
    for a, b in zip(*run([build(loop), build(unrolled)], feeds, interpret)):
        np.testing.assert_allclose(a, b, rtol=1e-12)


@modes
def test_stop_gradients(interpret):
    x, w, feeds = two()

    def build(how):
        middle = tf.sin(x)
        y = how(3, lambda i, h: h * w + middle * tf.stop_gradient(h), middle)
        return [*tf.gradients(y, [w, middle], stop_gradients=[middle]), *tf.gradients(y, [x])]
    for a, b in zip(*run([build(loop), build(unrolled)], feeds, interpret)):
        np.testing.assert_allclose(a, b, rtol=1e-12)


@modes
def test_the_hessian_of_a_loop(interpret):
    x = feed(2)
    a, b = (tf.hessians(tf.reduce_sum(how(3, lambda i, h: tf.sin(h) * tf.reverse(h, [0]), x)), x)[0] for how in (loop, unrolled))
    a, b = run([a, b], {x: values(2)}, interpret)
    assert a.shape == (2, 2)
    np.testing.assert_allclose(a, b, rtol=1e-12, atol=1e-14)
    np.testing.assert_allclose(a, a.T, rtol=1e-12, atol=1e-14)


@modes
def test_third_order(interpret):
    x = feed()

    def build(how):
        d = how(4, lambda i, h: tf.sin(h) * x, x)
        for _ in range(3):
            d, = tf.gradients(d, x)
        return d
    a, b = run([build(loop), build(unrolled)], {x: 0.7}, interpret)
    assert a == pytest.approx(b, rel=1e-12)


@modes
def test_initial_value_and_capture_may_be_the_same(interpret):
    x = feed(2)
    same_gradients(lambda how: tf.add_n(list(how(3, lambda i, a, b: (a * b, b * x), x, x))), [x], {x: values(2)}, interpret)


@modes
def test_the_result_of_a_body_may_come_from_outside(interpret):
    x, w, feeds = two()
    same_gradients(lambda how: tf.add_n(list(how(3, lambda i, a, b: (w, a * b), x, x))), [x, w], feeds, interpret)


@modes
def test_what_is_cut_in_a_body_has_the_shape_of_the_variable(interpret):
    x = feed(1, 2)
    shapes = [tf.TensorShape([]), tf.TensorShape([None, 2]), tf.TensorShape([1, 2])]
    h, _ = loop(3, lambda i, h, s: (tf.concat([tf.stop_gradient(h), tf.sin(s)], 0), s * s), x, x, shape_invariants=shapes)
    v = values(1, 2)
    np.testing.assert_allclose(run(tf.gradients(h, x)[0], {x: v}, interpret), np.cos(v ** 4) * 4 * v ** 3, rtol=1e-12)


@modes
def test_a_gradient_that_is_overridden_passes(interpret):
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        try:
            tf.RegisterGradient("StraightThroughInLoops")(lambda op, dy: dy)
        except KeyError:
            pass
    x = feed(2)

    def body(i, h):
        with tf.get_default_graph().gradient_override_map({"Floor": "StraightThroughInLoops"}):
            return tf.floor(h * 2)
    assert run(tf.gradients(loop(3, body, x), x)[0], {x: [0.3, 1.4]}, interpret).tolist() == [8.0, 8.0]


# ---------------------------------------------------------------- what is not connected


def test_unconnected_gradients_are_none():
    x, w, _ = two()
    assert tf.gradients(loop(3, lambda i, h: tf.sin(h), x), w) == [None]
    assert tf.gradients(tf.cond(tf.reduce_sum(x) > 0, lambda: x, lambda: 2 * x), w) == [None]
    assert tf.gradients(loop(3, lambda i, h: h + tf.cast(tf.cast(w, tf.int32), tf.float64), x), w) == [None]
    assert tf.gradients(loop(3, lambda i, h, k: (tf.sin(h), k * 2), x, w)[0], w) == [None]


def test_back_prop_false_stops_gradients():
    x, w, _ = two()
    assert tf.gradients(loop(3, lambda i, h: tf.sin(h * w), x, back_prop=False), [x, w]) == [None, None]


def test_zero_for_unconnected():
    x, w, feeds = two()
    g, = tf.gradients(loop(3, lambda i, h: tf.sin(h), x), w, unconnected_gradients="zero")
    assert run(g, feeds, 1).tolist() == [0, 0]


@modes
def test_a_loop_variable_that_the_result_ignores_costs_nothing_and_gives_none(interpret):
    x, w, feeds = two()
    a, b = loop(3, lambda i, a, b: (tf.sin(a), b * w), x, x)
    assert tf.gradients(a, w) == [None]
    np.testing.assert_allclose(run(tf.gradients(b, w)[0], feeds, interpret), 3 * feeds[x] * feeds[w] ** 2, rtol=1e-12)


# ---------------------------------------------------------------- random numbers


def noise(u, nested):
    """Sum of seven random vectors times u: its gradient is itself at u = 1."""
    def term():
        return tf.random_normal([3], dtype=tf.float64) * u

    def body(i, h):
        return h + (loop(3, lambda j, s: s + term(), u * 0) if nested else term())
    return body


@modes
@pytest.mark.parametrize("swap", [False, True], ids=["plain", "checkpointed"])
@pytest.mark.parametrize("nested", [False, True], ids=["one loop", "two loops"])
def test_the_backward_pass_sees_the_same_random_numbers(interpret, swap, nested):
    u = feed(3)
    y = loop(7, noise(u, nested), u * 0, swap_memory=swap)
    g = tf.gradients(y, u)[0]
    with flags.override(interpret=interpret), tf.Session() as sess:
        seen = [sess.run([y, g], {u: np.ones(3)}) for _ in range(3)]
    for a, b in seen:
        np.testing.assert_allclose(a, b, rtol=1e-12)
    assert not np.allclose(seen[0][0], seen[1][0])


@modes
@pytest.mark.parametrize("swap", [False, True], ids=["plain", "checkpointed"])
def test_dropout_in_the_body(interpret, swap):
    x = feed(40)
    y = loop(5, lambda i, h: tf.nn.dropout(h, keep_prob=0.8), x, swap_memory=swap)
    a, b = run([y, tf.gradients(y, x)[0]], {x: np.ones(40)}, interpret)
    np.testing.assert_allclose(a, b, rtol=1e-12)
    assert set(np.round(a / 0.8 ** -5, 9)) == {0.0, 1.0}


# ---------------------------------------------------------------- checkpointed loops


def checkpointed(build, xs, feeds, interpret):
    """`build(swap)` has the same gradients for both."""
    plain, swapped = run([tf.gradients(build(s), xs) for s in (False, True)], feeds, interpret)
    for a, b in zip(plain, swapped):
        np.testing.assert_allclose(b, a, rtol=1e-11, atol=1e-14)


@modes
@pytest.mark.parametrize("n", [0, 1, 2, 5, 9, 10])
def test_checkpointed_loops_of_any_length(n, interpret):
    x, w = feed(3), feed(3, 3)
    checkpointed(lambda swap: loop(n, lambda i, h: tf.tanh(times(w, h) + x * tf.cast(i, tf.float64)), x, swap_memory=swap), [x, w],
                 {x: values(3), w: values(3, 3)}, interpret)


@modes
def test_a_checkpointed_loop_whose_length_is_fed(interpret):
    x, w, feeds = two()
    n = tf.placeholder(tf.int32, [])
    gs = [tf.gradients(loop(n, lambda i, h: tf.sin(h * w) + x, x, swap_memory=s), [x, w]) for s in (False, True)]
    with flags.override(interpret=interpret), tf.Session() as sess:
        for k in (3, 7, 0, 17):
            a, b = sess.run(gs, {**feeds, n: k})
            np.testing.assert_allclose(b, a, rtol=1e-12)


@modes
def test_a_checkpointed_loop_that_ends_by_its_values(interpret):
    x, w, feeds = two()
    checkpointed(lambda swap: tf.while_loop(lambda h: tf.reduce_sum(h) < 500.0, lambda h: [h * 1.2 + tf.abs(x * w)], [tf.abs(x) + 1],
                                            swap_memory=swap), [x, w], feeds, interpret)


@modes
@pytest.mark.parametrize("n", [1, 7])
@pytest.mark.parametrize("dynamic", [False, True], ids=["fixed", "dynamic"])
def test_checkpointed_loops_over_arrays(n, dynamic, interpret):
    x, w = feed(n, 2), feed(2)
    ta = tf.TensorArray(tf.float64, n).unstack(x)

    def build(swap):
        out = tf.TensorArray(tf.float64, 0 if dynamic else n, dynamic_size=dynamic)
        h, out = loop(n, lambda i, h, out: (tf.tanh(h * w + ta.read(i)), out.write(i, h * ta.read(n - 1 - i))), w, out, swap_memory=swap)
        return tf.reduce_sum(out.stack() * values(n, 2)) + tf.reduce_sum(h)
    checkpointed(build, [x, w], {x: values(n, 2), w: values(2)}, interpret)


@modes
def test_an_array_that_is_read_back_is_carried_through_checkpoints(interpret):
    x, w, feeds = two()

    def build(swap):
        ta = tf.TensorArray(tf.float64, 9).write(0, x).write(1, w)
        return tf.while_loop(lambda i, _: i < 9, lambda i, ta: (i + 1, ta.write(i, tf.sin(ta.read(i - 1) * ta.read(i - 2)))), [2, ta],
                             swap_memory=swap)[1].stack()
    checkpointed(build, [x, w], feeds, interpret)


@modes
def test_checkpointed_loops_with_loops_branches_and_variables_inside(interpret):
    x, w, feeds = two()
    v = tf.Variable(values(2))

    def build(swap):
        def body(i, h):
            a = loop(i, lambda j, h: tf.sin(h * w) + x * v, h)
            return tf.cond(tf.equal(i % 2, 0), lambda: a * v, lambda: tf.cos(a) + x)
        return loop(7, body, x, swap_memory=swap)
    checkpointed(build, [x, w, v], feeds, interpret)


@modes
@pytest.mark.parametrize("outer", [False, True], ids=["inner", "both"])
def test_a_checkpointed_loop_inside_a_loop(outer, interpret):
    x, w, feeds = two()
    checkpointed(lambda swap: loop(5, lambda i, h: loop(5, lambda j, h: tf.sin(h * w) + x, h, swap_memory=swap), x,
                                   swap_memory=swap and outer), [x, w], feeds, interpret)


@modes
def test_a_custom_gradient_in_a_checkpointed_loop(interpret):
    x, w, feeds = two()

    @tf.custom_gradient
    def odd(a, b):
        e, z = tf.exp(a), tf.sin(a)
        return e * b, lambda dy: (dy * e * b + z, dy * e)
    checkpointed(lambda swap: loop(5, lambda i, h: tf.tanh(odd(h, w)), x, swap_memory=swap), [x, w], feeds, interpret)


@modes
def test_a_gradient_asked_for_in_the_body_of_a_checkpointed_loop(interpret):
    x, w, feeds = two()

    def build(swap):
        def body(i, h):
            return tf.tanh(tf.gradients(loop(2, lambda j, s: tf.sin(s * w) * h, h), h)[0])
        return loop(5, body, x, swap_memory=swap)
    checkpointed(build, [x, w], feeds, interpret)


@modes
def test_second_order_through_a_checkpointed_loop(interpret):
    x, w, feeds = two()

    def build(swap):
        first = tf.gradients(loop(5, lambda i, h: tf.sin(h * w) + x, x, swap_memory=swap), [x, w])
        return tf.add_n([tf.reduce_sum(d * d) for d in first])
    checkpointed(build, [x, w], feeds, interpret)


def test_a_loop_that_assigns_or_prints_is_not_run_again():
    v = tf.Variable(0.0)
    x = tf.placeholder(tf.float32, [])

    def body(i, h):
        with tf.control_dependencies([v.assign_add(1.0)]):
            return h * x
    g, = tf.gradients(loop(5, body, x, swap_memory=True), x)
    with tf.Session() as sess:
        sess.run(tf.global_variables_initializer())
        assert sess.run(g, {x: 2.0}) == 6 * 2.0 ** 5
        assert sess.run(v) == 5


def test_a_checkpointed_backward_pass_keeps_the_square_root():
    """Rows of saved tensors: 2 sqrt(n) instead of n."""
    x, kept = feed(4), {}
    from graphflow.runtime import reference

    for swap in (False, True):
        rows = kept[swap] = []
        g = tf.gradients(loop(400, lambda i, h: tf.sin(h + x), x, swap_memory=swap), x)[0]
        original = reference._rows

        def counted(t, found):
            rows.append(len(found))
            return original(t, found)
        with pytest.MonkeyPatch.context() as patch:
            patch.setattr(reference, "_rows", counted)
            run(g, {x: values(4)}, 1)
    assert max(kept[False]) == 400 and max(kept[True]) == 20
