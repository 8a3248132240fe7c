"""Sessions on the compiled path: fetches, feeds, state, threads, failures, and results that belong to the caller."""
from __future__ import annotations

import collections
import os
import signal
import threading
import time

import numpy as np
import pytest

import graphflow as tf
from graphflow import errors
from graphflow.codegen import compile as native
from graphflow.flags import flags

HERE = os.path.basename(__file__)
Pair = collections.namedtuple("Pair", "a b")


@pytest.fixture(params=["compiled", "unoptimised", "reference"])
def sess(request):
    with tf.Graph().as_default(), flags.override(interpret=int(request.param == "reference"), optimize=int(request.param != "unoptimised")):
        with tf.Session() as session:
            yield session


@pytest.fixture
def compiled():
    with tf.Graph().as_default(), tf.Session() as session:
        yield session


def start(session):
    session.run(tf.global_variables_initializer())


# ---------------------------------------------------------------- fetches


def test_every_nesting_of_fetches(sess):
    x = tf.placeholder(tf.float32, [2], name="x")
    y, v = x * 2, tf.Variable(5.0, name="v")
    start(sess)
    feed = {x: [1, 2]}
    assert sess.run(y, feed).tolist() == [2, 4]
    assert [a.tolist() for a in sess.run([x, y, y], feed)] == [[1, 2], [2, 4], [2, 4]]
    found = sess.run({"a": y, "b": [x, (v,)], "c": {}}, feed)
    assert found["a"].tolist() == [2, 4] and found["b"][1] == (5.0,) and found["c"] == {}
    found = sess.run(Pair(x, [y, y.op, "v:0", "v"]), feed)
    assert isinstance(found, Pair) and found.b[1] is None and found.b[2] == 5 and found.b[3] is None
    found = sess.run(collections.OrderedDict([("z", y), ("a", x)]), feed)
    assert list(found) == ["z", "a"]
    assert sess.run([[], [[y]], ()], feed)[1][0][0].tolist() == [2, 4]
    assert sess.run("x:0", feed).tolist() == [1, 2]
    assert sess.run(y.op, feed) is None
    assert y.eval(feed).tolist() == [2, 4] and v.eval() == 5


def test_scalars_and_types_of_results(sess):
    x = tf.placeholder(tf.float32, [])
    assert isinstance(sess.run(x * 2, {x: 1.0}), np.float32) and isinstance(sess.run(tf.constant(3)), np.int32)
    assert isinstance(sess.run(tf.constant([1]) > 0), np.ndarray) and isinstance(sess.run(tf.constant(1) > 0), np.bool_)
    assert sess.run(tf.cast(x, tf.bfloat16), {x: 1.5}).dtype == np.float32
    assert sess.run(tf.cast(x, tf.float16), {x: 1.5}).dtype == np.float16
    assert sess.run(tf.constant("text")) in (b"text", "text")


def test_a_fetch_that_is_a_feed_a_constant_or_a_variable(sess):
    x = tf.placeholder(tf.float32, [None])
    c, v = tf.constant([1.0, 2.0]), tf.Variable([3.0, 4.0])
    start(sess)
    for _ in range(3):
        a, b, d, e = sess.run([x, c, v, tf.identity(c)], {x: [7, 8, 9]})
        assert a.tolist() == [7, 8, 9] and b.tolist() == [1, 2] == e.tolist() and d.tolist() == [3, 4]


# ---------------------------------------------------------------- feeds


def test_any_tensor_can_be_fed(sess):
    x, c, v = tf.placeholder(tf.float32, [2]), tf.constant([1.0, 2.0]), tf.Variable([3.0, 4.0])
    inner = x * c
    out = inner + v
    start(sess)
    assert sess.run(out, {x: [1, 1]}).tolist() == [4, 6]
    assert sess.run(out, {inner: [10, 20]}).tolist() == [13, 24]  # x is not needed
    assert sess.run(out, {x: [1, 1], c: [5, 5]}).tolist() == [8, 9]
    assert sess.run(out, {x: [1, 1], v: [0, 0]}).tolist() == [1, 2]
    assert sess.run(out, {out: [9, 9]}).tolist() == [9, 9]
    assert sess.run(v).tolist() == [3, 4], "feeding a variable does not store"


def test_unknown_ranks_and_shapes(sess):
    x, y = tf.placeholder(tf.float32), tf.placeholder(tf.float32, [None, None])
    total, both = tf.reduce_sum(x * 2), tf.matmul(y, y, transpose_b=True)
    for shape in ((), (3,), (2, 3), (2, 1, 2), (0,), (3,)):
        a = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
        assert sess.run(total, {x: a}) == 2 * a.sum()
        assert np.array_equal(sess.run(x + 1, {x: a}), a + 1)
    for shape in ((1, 1), (2, 3), (3, 2), (1, 4), (4, 1), (0, 2), (2, 0), (2, 3)):
        a = np.arange(np.prod(shape), dtype=np.float32).reshape(shape)
        assert np.array_equal(sess.run(both, {y: a}), a @ a.T), shape


@pytest.mark.parametrize("size", [4, 5000])
def test_feeds_of_every_layout(sess, size):
    x = tf.placeholder(tf.float32, [None, None])
    y = tf.transpose(x) * 2 + 1
    rng = np.random.default_rng(0)
    base = rng.standard_normal((size, 6)).astype(np.float32)
    for a in (base, base.T, base[::2], base[:, ::-1], np.asfortranarray(base), base.astype(">f4"),
              base.astype(np.float64).astype(np.float32)[1:]):
        for _ in range(3):
            before = a.copy()
            np.testing.assert_allclose(sess.run(y, {x: a}), a.T * 2 + 1, rtol=1e-6)
            assert np.array_equal(a, before), "a feed is never changed"


def test_read_only_feeds_and_feeds_changed_between_runs(compiled):
    x = tf.placeholder(tf.float32, [None])
    y = x + 1
    for n in (3, 10000):
        a = np.zeros(n, np.float32)
        for k in range(4):
            a[:] = k
            assert (compiled.run(y, {x: a}) == k + 1).all()
        a.setflags(write=False)
        assert (compiled.run(y, {x: a}) == 4).all()


@pytest.mark.parametrize("size", [3, 5000])
def test_results_belong_to_the_caller(sess, size):
    x, v = tf.placeholder(tf.float32, [None]), tf.Variable(np.zeros(size, np.float32))
    step = v.assign_add(x)
    y, z = x * 2, tf.identity(x)
    start(sess)
    kept = []
    for k in range(6):
        feed = np.full(size, k, np.float32)
        kept.append(sess.run([y, z, x, step, v], {x: feed}))
        feed[:] = -1
    total = 0
    for k, (a, b, c, d, e) in enumerate(kept):
        total += k
        assert (a == 2 * k).all() and (b == k).all() and (d == total).all() and (e == total).all(), k
        del c  # what was fed is given back as it is
    kept[0][0][:] = 77
    kept[0][3][:] = 77
    assert (sess.run(y, {x: np.ones(size, np.float32)}) == 2).all() and (sess.run(v) == 15).all()
    one, two = sess.run([y, y], {x: np.ones(size, np.float32)})
    read = sess.run(v)
    read[:] = 5
    assert (sess.run(v) == 15).all() and one.tolist() == two.tolist()


# ---------------------------------------------------------------- state


def test_program_order_of_reads_and_writes(sess):
    v = tf.Variable(1.0)
    before = v + 0.0
    add = v.assign_add(10.0)
    between = v * 1.0
    times = tf.assign(v, v * 2.0)
    after = tf.identity(v)
    start(sess)
    assert sess.run([before, add, between, times, after]) == [1, 11, 11, 22, 22]
    assert sess.run([after, times, between, add, before]) == [44 + 20, 64, 32, 32, 22]
    assert sess.run(before) == 64, "what is not fetched is not run"
    assert sess.run([before, between, after]) == [64, 64, 64]
    assert sess.run([before, times]) == [64, 128]


def test_swap_and_shift(sess):
    a, b, c = (tf.Variable(np.full(3, k, np.float32)) for k in (1, 2, 3))
    x, y, z = tf.identity(a), tf.identity(b), tf.identity(c)
    swap = tf.group(a.assign(y), b.assign(x))
    shift = tf.group(b.assign(x), c.assign(y), a.assign(z + 1))
    use_old = tf.group(a.assign_add([1, 1, 1]), b.assign(x))
    start(sess)

    def values():
        return [v[0] for v in sess.run([a, b, c])]

    for expected in ([2, 1, 3], [1, 2, 3], [2, 1, 3]):
        sess.run(swap)
        assert values() == expected
    sess.run(shift)
    assert values() == [4, 2, 1]
    sess.run(shift)
    assert values() == [2, 4, 2]
    sess.run(use_old)
    assert values() == [3, 2, 2], "b takes the value that a had before"
    assert [t[0] for t in sess.run([x, use_old, a])[::2]] == [3, 4]


def test_two_writes_and_two_readers(sess):
    v, w = tf.Variable([1.0, 2.0]), tf.Variable([0.0, 0.0])
    first = v.assign([5.0, 6.0])
    copy = w.assign(v + 1)
    second = v.assign_add([1.0, 1.0])
    start(sess)
    sess.run([first, copy, second])
    assert sess.run(v).tolist() == [6, 7] and sess.run(w).tolist() == [6, 7]
    sess.run([second, copy])
    assert sess.run(v).tolist() == [7, 8] and sess.run(w).tolist() == [7, 8], "copy stands before second in the program"


def test_control_dependencies(sess):
    v = tf.Variable(0.0)
    add = v.assign_add(1.0)
    with tf.control_dependencies([add]):
        read = tf.identity(v)
        none = tf.no_op()
    start(sess)
    assert sess.run(read) == 1 and sess.run(v) == 1
    sess.run(none)
    assert sess.run(v) == 2
    assert sess.run([v, read])[1] == 3


def test_sparse_updates(sess):
    v = tf.Variable(np.zeros((4, 2), np.float32))
    i = tf.placeholder(tf.int32, [None])
    add = tf.scatter_add(v, i, tf.ones([tf.shape(i)[0], 2]))
    old = v + 0.0
    start(sess)
    for at in ([0, 0, 3], [1], [], [2, 2, 2]):
        sess.run(add, {i: np.array(at, np.int32)})
    assert sess.run(v)[:, 0].tolist() == [2, 1, 3, 1]
    assert sess.run([add, old], {i: [0]})[1][0, 0] in (2, 3)


def test_two_sessions_have_their_own_state():
    with tf.Graph().as_default():
        v = tf.Variable(1.0)
        step, init = v.assign_add(1.0), tf.global_variables_initializer()
        one, two = tf.Session(), tf.Session()
        one.run(init)
        with pytest.raises(errors.FailedPreconditionError):
            two.run(v)
        two.run(init)
        for _ in range(3):
            one.run(step)
        assert one.run(v) == 4 and two.run(v) == 1
        one.close()
        assert two.run(step) == 2
        with pytest.raises(RuntimeError, match="closed"):
            one.run(v)
        one.close()
        two.close()


def test_growing_the_graph_between_runs(sess):
    x = tf.placeholder(tf.float32, [])
    y = x + 1
    assert sess.run(y, {x: 1}) == 2
    z = y * 3
    v = tf.Variable(2.0)
    sess.run(v.initializer)
    assert sess.run([y, z, v * z], {x: 1}) == [2, 6, 12]


# ---------------------------------------------------------------- callables and threads


def test_make_callable(sess):
    x, y = tf.placeholder(tf.float32, [None]), tf.placeholder(tf.float32, [])
    v = tf.Variable(1.0)
    start(sess)
    f = sess.make_callable({"sum": x + y, "v": v.assign_add(1.0)}, [x, y])
    for k in range(4):
        found = f(np.arange(3.0), k)
        assert found["sum"].tolist() == [k, k + 1, k + 2] and found["v"] == k + 2
    with pytest.raises(TypeError, match="2 feed"):
        f(1)
    g = sess.make_callable(x * 2, [x])
    assert g([1, 2]).tolist() == [2, 4] and g([1, 2, 3]).tolist() == [2, 4, 6]
    sess.make_callable(v.initializer)()
    assert sess.run(v) == 1


def test_threads_share_a_session(compiled):
    x = tf.placeholder(tf.float32, [None, 8])
    w, count = tf.Variable(np.eye(8, dtype=np.float32)), tf.Variable(0.0)
    y, step = tf.reduce_sum(tf.matmul(x, w), 1), count.assign_add(1.0)
    start(compiled)
    wrong = []

    def work(k):
        for i in range(40):
            n = 1 + (k + i) % 5
            a = np.full((n, 8), k, np.float32)
            found = compiled.run([y, step], {x: a})[0]
            if found.tolist() != [8.0 * k] * n:
                wrong.append((k, i, found))

    threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
    for t in threads:
        t.start()
    for t in threads:
        t.join()
    assert not wrong and compiled.run(count) == 160


def test_threads_compile_at_the_same_time():
    with tf.Graph().as_default():
        xs = tf.placeholder(tf.float32, [None])
        outs = [tf.exp(xs * float(k)) + k for k in range(4)]
        with tf.Session() as sess:
            found = {}

            def work(k):
                found[k] = sess.run(outs[k], {xs: np.zeros(3, np.float32)})

            threads = [threading.Thread(target=work, args=(k,)) for k in range(4)]
            for t in threads:
                t.start()
            for t in threads:
                t.join()
    assert {k: v.tolist() for k, v in found.items()} == {k: [1.0 + k] * 3 for k in range(4)}


# ---------------------------------------------------------------- sizes


def test_a_new_batch_size_compiles_nothing(compiled):
    x, y = tf.placeholder(tf.float32, [None, 16]), tf.placeholder(tf.int32, [None])
    w, b = tf.Variable(np.ones((16, 10), np.float32)), tf.Variable(np.zeros(10, np.float32))
    logits = tf.matmul(x, w) + b
    loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=logits))
    train = tf.train.GradientDescentOptimizer(0.1).minimize(loss)
    start(compiled)
    feed = lambda n: {x: np.ones((n, 16), np.float32), y: np.arange(n) % 10}  # noqa: E731
    compiled.run([train, loss], feed(32))
    before = native.stats()["compiled"]
    with native.no_recompile():
        for n in (16, 33, 64, 7, 128, 32):
            assert np.isfinite(compiled.run([train, loss], feed(n))[1])
    assert native.stats()["compiled"] == before


def test_a_new_text_inside_no_recompile_is_refused(compiled):
    x = tf.placeholder(tf.float32, [None])
    strange = 1.0 + os.getpid() / 7.0 + time.time() / 1e7
    with native.no_recompile(), pytest.raises(RuntimeError, match="no_recompile"):
        compiled.run(tf.tanh(x * strange) * strange, {x: [1.0]})
    assert compiled.run(x * 2, {x: [1.0]}).tolist() == [2]


def test_sizes_that_depend_on_data(sess):
    x = tf.placeholder(tf.float32, [None])
    kept = tf.boolean_mask(x, x > 0)
    total, shape, doubled = tf.reduce_sum(kept * 2), tf.shape(kept), tf.concat([kept, kept], 0)
    distinct, index = tf.unique(x)
    where = tf.reshape(tf.where(x > 0), [-1])
    back = tf.gather(distinct, index) - x
    for a in ([1, -1, 2], [3, 3], [-1], [], [5], [1, -1, 2, 4]):
        feed = {x: np.array(a, np.float32)}
        positive = [v for v in a if v > 0]
        found = sess.run([kept, total, shape, doubled, where, back], feed)
        assert found[0].tolist() == positive and found[1] == 2 * sum(positive) and found[2].tolist() == [len(positive)]
        assert found[3].tolist() == positive * 2 and found[4].tolist() == [i for i, v in enumerate(a) if v > 0]
        assert not found[5].any()
        assert sess.run(tf.size(distinct), feed) == len(set(a))


def test_state_changes_once_when_a_step_has_several_stages(sess):
    v, x = tf.Variable(0.0), tf.placeholder(tf.float32, [None])
    add = v.assign_add(1.0)
    with tf.control_dependencies([add]):
        kept = tf.boolean_mask(x, x > tf.identity(v) - 1.0)
    later = v.assign_add(tf.reduce_sum(kept))
    start(sess)
    assert sess.run([kept, later], {x: [-1, 1, 2]})[1] == 4
    assert sess.run(v) == 4
    assert sess.run([kept, later], {x: [5, 1]})[1] == 10


def test_shapes_that_are_fed(sess):
    n, s, x = tf.placeholder(tf.int32, []), tf.placeholder(tf.int32, [2]), tf.placeholder(tf.float32, [None])
    zeros, fill, again = tf.zeros([n, 2]) + 1, tf.fill(s, 7), tf.reshape(x, s)
    ranged, part = tf.range(n) * 2, x[:n]
    for k in (1, 3, 0, 2, 3):
        assert sess.run(zeros, {n: k}).shape == (k, 2) and sess.run(ranged, {n: k}).tolist() == [2 * i for i in range(k)]
        assert sess.run(part, {n: k, x: np.arange(4)}).tolist() == list(range(min(k, 4)))
    for shape in ((2, 3), (3, 2), (1, 6), (6, 1)):
        assert sess.run(fill, {s: shape}).shape == shape and sess.run(again, {s: shape, x: np.arange(6)}).shape == shape
    assert sess.run(tf.reduce_sum(zeros), {n: 5}) == 10


def test_empty_arrays(sess):
    x = tf.placeholder(tf.float32, [None, 3])
    w = tf.Variable(np.ones((3, 2), np.float32))
    start(sess)
    empty = {x: np.zeros((0, 3), np.float32)}
    y = tf.matmul(x, w)
    found = sess.run([y, tf.reduce_sum(y), tf.reduce_sum(y, 0), tf.nn.softmax(x), tf.concat([x, x], 0), tf.transpose(x),
                      tf.gradients(y, w)[0]], empty)
    assert [a.shape for a in map(np.asarray, found)] == [(0, 2), (), (2,), (0, 3), (0, 3), (3, 0), (3, 2)]
    assert found[1] == 0 and not found[2].any() and not found[6].any()


def test_large_arrays(compiled):
    x = tf.placeholder(tf.float32, [None])
    a = np.random.default_rng(0).standard_normal(3_000_001).astype(np.float32)
    total, top, scaled = compiled.run([tf.reduce_sum(x), tf.reduce_max(x), x * 2 + 1], {x: a})
    np.testing.assert_allclose(total, a.astype(np.float64).sum(), rtol=1e-4, atol=0.5)
    assert top == a.max()
    np.testing.assert_allclose(scaled, a * 2 + 1, rtol=1e-6, atol=1e-6)
    totals = set()
    for threads in (1, 2):
        with tf.Session(config=tf.ConfigProto(intra_op_parallelism_threads=threads)) as other:
            totals.add(other.run(tf.reduce_sum(x), {x: a}))
    assert len(totals) == 1, "the number of threads does not change a bit"


# ---------------------------------------------------------------- failures


def _line(t):
    return f"{HERE}:{t.op.site.line}" if hasattr(t.op.site, "line") else HERE


CHECKED = {
    "gather": lambda x, i: tf.gather(x, i, name="it"),
    "gather_nd": lambda x, i: tf.gather_nd(x, tf.expand_dims(i, 1), name="it"),
    "gather axis 1": lambda x, i: tf.gather(tf.reshape(x, [1, 4]), i, axis=1, name="it"),
    "batch gather": lambda x, i: tf.batch_gather(tf.reshape(x, [1, 4]), tf.reshape(i, [1, -1]), name="it")
    if hasattr(tf, "batch_gather") else tf.gather(x, i, name="it"),
    "floordiv": lambda x, i: tf.floordiv(12, 4 - i, name="it"),
    "floormod": lambda x, i: tf.floormod(12, 4 - i, name="it"),
    "truncatediv": lambda x, i: tf.truncatediv(12, 4 - i, name="it"),
    "segment": lambda x, i: tf.unsorted_segment_sum(tf.gather(x, i * 0), i, 4, name="it"),
    "scatter_nd": lambda x, i: tf.scatter_nd(tf.expand_dims(i, 1), tf.gather(x, i * 0), [4], name="it"),
    "labels": lambda x, i: tf.nn.sparse_softmax_cross_entropy_with_logits(
        labels=i, logits=tf.reshape(tf.tile(x, tf.shape(i)), [-1, 4]), name="it"),
    "embedding": lambda x, i: tf.nn.embedding_lookup(tf.reshape(x, [4, 1]), i, name="it"),
}


@pytest.mark.parametrize("case", CHECKED)
def test_checks_hold_inside_fused_kernels_and_on_every_later_run(sess, case):
    """Index 4 is one too many everywhere; the op is fused with what stands around it, and the step is run before and after."""
    x, i = tf.placeholder(tf.float32, [4]), tf.placeholder(tf.int32, [None])
    v = tf.Variable(1.0)
    it = CHECKED[case](tf.exp(x) * 2.0, i)
    change = v.assign_add(1.0)
    out = tf.reduce_sum(tf.tanh(tf.cast(it, tf.float32)) * 0.5 + 1.0) + 0.0 * change
    start(sess)
    a = np.arange(4, dtype=np.float32)
    for k in range(4):
        assert np.isfinite(sess.run(out, {x: a, i: [0, 3, 2]}))
        assert sess.run(v) == k + 2
    for bad in ([0, 4, 2], [4, 4, 4], [4]):
        for _ in range(2):
            with pytest.raises(errors.InvalidArgumentError) as caught:
                sess.run(out, {x: a, i: bad})
            assert "it" in str(caught.value) and HERE in str(caught.value) and caught.value.op is not None
            assert sess.run(v) == 5, "nothing was stored"
    if case not in ("floordiv", "floormod", "truncatediv", "segment"):
        with pytest.raises(errors.InvalidArgumentError):
            sess.run(out, {x: a, i: [0, -1, 2]})
    assert np.isfinite(sess.run(out, {x: a, i: [0, 3, 2]})) and sess.run(v) == 6


def test_a_failure_after_an_assignment_leaves_every_variable(sess):
    v, w = tf.Variable(np.zeros(3, np.float32)), tf.Variable(np.ones(4000, np.float32))
    i = tf.placeholder(tf.int32, [])
    one, two = v.assign_add([1.0, 1.0, 1.0]), w.assign(w * 2.0)
    picked = tf.gather(v, i)
    three = v.assign(v + picked)
    start(sess)
    sess.run([one, two, picked, three], {i: 1})
    before = sess.run([v, w])
    for _ in range(3):
        with pytest.raises(errors.InvalidArgumentError):
            sess.run([one, two, picked, three], {i: 3})
    for a, b in zip(before, sess.run([v, w])):
        assert np.array_equal(a, b)
    sess.run([one, two, picked, three], {i: 2})
    assert sess.run(v).tolist() == [6, 6, 6] and sess.run(w)[0] == 4


def test_a_failed_step_draws_no_random_numbers(sess):
    i = tf.placeholder(tf.int32, [])
    r = tf.random_uniform([3], seed=4)
    out = r + tf.gather(tf.constant([0.0, 0.0]), i)
    with tf.Session() as other:
        wanted = [other.run(out, {i: 0}) for _ in range(3)]
    found = []
    for k in (0, 5, 0, 5, 0):
        try:
            found.append(sess.run(out, {i: k}))
        except errors.InvalidArgumentError:
            pass
    assert np.array_equal(found, wanted)


def _long_step():
    """A chain of products that takes seconds, behind an assignment."""
    v = tf.Variable(1.0)
    x = tf.placeholder(tf.float32, [512, 512])
    change = v.assign_add(1.0)
    with tf.control_dependencies([change]):
        y = tf.identity(x)
    for _ in range(400):
        y = tf.matmul(y, x) * 0.001
    return v, tf.reduce_sum(y) + change, {x: np.ones((512, 512), np.float32)}


def test_timeouts(compiled):
    v, out, feed = _long_step()
    start(compiled)
    with pytest.raises(errors.DeadlineExceededError):
        compiled.run(out, feed, options=tf.RunOptions(timeout_in_ms=30))
    assert compiled.run(v) == 1
    with tf.Session(config=tf.ConfigProto(operation_timeout_in_ms=30)) as other:
        start(other)
        for _ in range(2):
            with pytest.raises(errors.DeadlineExceededError):
                other.run(out, feed)
        assert other.run(v) == 1
    x = tf.placeholder(tf.float32, [2])
    assert compiled.run(x + 1, {x: [1, 2]}, options=tf.RunOptions(timeout_in_ms=10_000)).tolist() == [2, 3]


def test_ctrl_c_stops_a_long_step(compiled):
    v, out, feed = _long_step()
    start(compiled)
    begin = time.perf_counter()
    compiled.run(out, feed)  # once, so that it is known to be long
    whole = time.perf_counter() - begin
    assert compiled.run(v) == 2
    old = signal.signal(signal.SIGINT, signal.default_int_handler)
    timer = threading.Timer(0.1, os.kill, (os.getpid(), signal.SIGINT))
    try:
        timer.start()
        with pytest.raises(KeyboardInterrupt):
            for _ in range(1 + int(3 / max(whole, 0.01))):
                compiled.run(out, feed)
                compiled.run(v.assign_add(-1.0))
            time.sleep(5)
    finally:
        timer.join()
        signal.signal(signal.SIGINT, old)
    assert compiled.run(v) in (1, 2)
    assert compiled.run(v.assign(5.0)) == 5


def test_after_an_error_in_a_feed_the_session_goes_on(sess):
    x = tf.placeholder(tf.float32, [2])
    y = x * 2
    for _ in range(3):
        assert sess.run(y, {x: [1, 2]}).tolist() == [2, 4]
        with pytest.raises(ValueError):
            sess.run(y, {x: [1, 2, 3]})
        with pytest.raises(errors.InvalidArgumentError):
            sess.run(y)


# ---------------------------------------------------------------- what a run says of itself


def test_run_metadata_and_timeline(compiled):
    import json

    from graphflow.debug.timeline import Timeline

    x = tf.placeholder(tf.float32, [None, 64])
    y = tf.nn.softmax(tf.matmul(x, tf.ones([64, 64])), name="probabilities")
    metadata = tf.RunMetadata()
    for _ in range(2):
        compiled.run(y, {x: np.ones((64, 64), np.float32)}, options=tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE),
                     run_metadata=metadata)
    device, = metadata.step_stats.dev_stats
    assert device.device.endswith(("CPU:0", "GPU:0")) and device.node_stats and all(n.op_end_rel_micros > 0 for n in device.node_stats)
    assert any("probabilities" in n.timeline_label for n in device.node_stats)
    assert all(abs(n.all_start_micros / 1e6 - time.time()) < 60 for n in device.node_stats)
    trace = json.loads(Timeline(metadata.step_stats).generate_chrome_trace_format())["traceEvents"]
    slices = [e for e in trace if e["ph"] == "X"]
    assert len(slices) == len(device.node_stats) and {"name", "op"} <= slices[0]["args"].keys() and all(e["dur"] > 0 for e in slices)


def test_a_timeline_shows_ops_of_the_host_and_what_they_read(compiled):
    import json

    from graphflow.debug.timeline import Timeline

    x = tf.placeholder(tf.float32, [None], name="x")
    y = tf.py_func(lambda v: v + 1, [tf.tanh(x, name="bend")], tf.float32, name="outside")
    metadata = tf.RunMetadata()
    compiled.run(y, {x: [1.0, 2.0]}, options=tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE), run_metadata=metadata)
    trace = json.loads(Timeline(metadata.step_stats).generate_chrome_trace_format())["traceEvents"]
    call = next(e for e in trace if e["ph"] == "X" and e["args"]["name"] == "outside")
    assert call["name"] == "PyFunc" and call["args"]["input0"] == "bend" and call["args"]["ops"] == ["outside"]
    assert [e["ph"] for e in trace if e.get("cat") == "DataFlow"] == ["s", "t"]
    plain = json.loads(Timeline(metadata.step_stats).generate_chrome_trace_format(show_dataflow=False))["traceEvents"]
    assert [e["ph"] for e in plain if e["ph"] == "X" and "copy" not in e["name"]] == ["X", "X"]


def test_a_timeline_shows_ops_on_objects_of_the_session(compiled):
    x = tf.data.Dataset.from_tensor_slices(np.arange(4.0, dtype=np.float32)).make_one_shot_iterator().get_next(name="next")
    metadata = tf.RunMetadata()
    compiled.run(tf.tanh(x, name="bend"), options=tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE), run_metadata=metadata)
    labels = [n.timeline_label for device in metadata.step_stats.dev_stats for n in device.node_stats]
    assert any("IteratorGetNext" in t for t in labels) and any("bend" in t for t in labels)


def test_explain(compiled):
    x = tf.placeholder(tf.float32, [None, 8], name="x")
    y = tf.nn.softmax(tf.tanh(x) * 2, name="probabilities")
    e = tf.explain(y, {x: np.ones((100, 8), np.float32)})
    assert len(e.kernels) == 1 and "probabilities" in e.kernels[0].ops
    assert e.peak_bytes >= 2 * 100 * 8 * 4 and e.stages == 1 and e.kernels[0].flops > 0
    assert 3200 <= e.memory["feeds"] < 3200 + 256 and sum(e.memory.values()) == e.peak_bytes
    assert "def kernel" in e.kernels[0].source and "kernels" in str(e)
    other = tf.explain(tf.boolean_mask(x, x[:, 0] > 0) * 2)
    assert other.stages == 2
    column = tf.reduce_sum(tf.exp(x), 0)
    apart = tf.explain(tf.exp(x) - column, {x: np.ones((5000, 8), np.float32)})
    assert len(apart.kernels) > 1 and apart.refusals and apart.why_not(apart.refusals[0][0])
    assert isinstance(compiled, tf.Session)


def test_check_2_compares_every_kernel(compiled):
    x = tf.placeholder(tf.float32, [None, 6])
    w, v = tf.Variable(np.ones((6, 3), np.float32)), tf.Variable(0.0)
    loss = tf.reduce_mean(tf.nn.softmax(tf.matmul(x, w)) * tf.cumsum(x[:, :3], 1))
    train = tf.train.AdamOptimizer(0.1).minimize(loss)
    with flags.override(check=2):
        start(compiled)
        for n in (3, 5, 3):
            compiled.run([train, v.assign_add(1.0)], {x: np.random.default_rng(n).normal(size=(n, 6)).astype(np.float32)})
    assert compiled.run(v) == 3


def test_a_device_that_is_not_here_is_refused_unless_placement_is_soft(capfd):
    with tf.device("/gpu:0"):
        y = tf.constant([1.0, 2.0]) * 2.0
    with pytest.raises(tf.errors.InvalidArgumentError, match="Cannot assign a device for operation"):
        tf.Session(config=tf.ConfigProto(device_count={"GPU": 0})).run(y)
    config = tf.ConfigProto(allow_soft_placement=True, log_device_placement=True, device_count={"GPU": 0})
    np.testing.assert_array_equal(tf.Session(config=config).run(y), [2.0, 4.0])
    assert "mul: (Mul): /job:localhost/replica:0/task:0/device:CPU:0" in capfd.readouterr().err
