"""Compiled programs on disk: found again when nothing that matters has changed, and never otherwise."""
from __future__ import annotations

import json
import os
import subprocess
import sys
import zlib
from pathlib import Path

import numpy as np
import pytest

import graphflow as tf
from graphflow.codegen import compile as native
from graphflow.flags import flags
from graphflow.passes import pipeline, rewrite
from graphflow.runtime import executable, flow, plan_cache
from graphflow.testing import emulated_gpu

ROOT = Path(__file__).parents[1]


@pytest.fixture(autouse=True)
def own_folder(tmp_path, monkeypatch):
    """Plans of these tests alone; kernels too, since both live in one folder."""
    store = native.KernelStore(native.ObjectCache(tmp_path / "cache", abi=native.ABI))
    store._addresses = native.default_store()._addresses  # what this process has compiled already
    monkeypatch.setattr(native, "default_store", lambda: store)
    monkeypatch.setattr(plan_cache, "FEWEST", 1)
    return tmp_path / "cache"


@pytest.fixture
def compilations(monkeypatch):
    """The programs that went through the passes."""
    made = []
    whole = executable._Made.__init__
    monkeypatch.setattr(executable._Made, "__init__", lambda self, program, *place: (made.append(program), whole(self, program, *place))[1])
    return made


def ran(build, *feeds, **session):
    """The result of a small program in a graph and session of its own."""
    with tf.Graph().as_default(), tf.Session(**session) as sess:
        places = [tf.placeholder(tf.float32, [None, *np.shape(f)[1:]]) for f in feeds]
        fetched = build(*places)
        if tf.global_variables():
            sess.run(tf.global_variables_initializer())
        return sess.run(fetched, dict(zip(places, feeds)))


def softened(x):
    return tf.nn.softmax(tf.tanh(x) * 3.0 + 1.0, axis=-1)


X = np.random.RandomState(0).normal(size=(5, 7)).astype(np.float32)


def by_numpy(x):
    e = np.exp(np.tanh(x) * 3.0 + 1.0)
    return e / e.sum(-1, keepdims=True)


def test_a_program_seen_before_goes_through_no_pass(compilations):
    first = ran(softened, X)
    count = len(compilations)
    second = ran(softened, X)
    assert len(compilations) == count > 0
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(second, by_numpy(X), rtol=1e-5)


def test_other_sizes_fit_a_loaded_plan_as_far_as_its_guards_say(compilations):
    ran(softened, X)
    count = len(compilations)
    with tf.Graph().as_default(), tf.Session() as sess:
        x = tf.placeholder(tf.float32, [None, 7])
        y = softened(x)
        sess.run(y, {x: X})
        for n in (1, 2, 5, 64):
            more = np.resize(X, (n, 7))
            np.testing.assert_allclose(sess.run(y, {x: more}), by_numpy(more), rtol=1e-5)
    assert len(compilations) <= count + 1  # a batch of one is a program of its own: size 1 broadcasts


@pytest.mark.parametrize("other", [
    lambda x: tf.nn.softmax(tf.tanh(x) * 4.0 + 1.0, axis=-1),            # a constant
    lambda x: tf.nn.softmax(tf.tanh(x) * 3.0 + 1.0, axis=0),             # an attribute
    lambda x: tf.nn.softmax(tf.sigmoid(x) * 3.0 + 1.0, axis=-1),         # an op
    lambda x: tf.nn.softmax(1.0 - tf.tanh(x) * 3.0, axis=-1),            # the order of operands
    lambda x: tf.nn.softmax(tf.tanh(tf.cast(x, tf.float64)) * 3.0 + 1.0, axis=-1),   # a dtype
    lambda x: tf.nn.softmax(tf.tanh(x) * np.array([3.0] * 6 + [4], np.float32) + 1.0, axis=-1)])  # a constant array
def test_whatever_changes_the_program_misses(compilations, other):
    plain, count = ran(softened, X), len(compilations)
    found = ran(other, X)
    assert len(compilations) == count + 1
    assert not np.allclose(found, plain) or found.dtype != plain.dtype


def test_arrays_are_compared_by_content(compilations):
    def scaled(by):
        return lambda x: tf.tanh(x) * tf.constant(by)
    a, b = np.arange(7, dtype=np.float32), np.arange(7, dtype=np.float32) + 1
    np.testing.assert_allclose(ran(scaled(a), X), np.tanh(X) * a, rtol=1e-5)
    count = len(compilations)
    np.testing.assert_allclose(ran(scaled(b), X), np.tanh(X) * b, rtol=1e-5)
    assert len(compilations) == count + 1
    np.testing.assert_allclose(ran(scaled(a.copy()), X), np.tanh(X) * a, rtol=1e-5)
    assert len(compilations) == count + 1


def test_other_static_shapes_and_hints_miss(compilations):
    ran(softened, X)
    count = len(compilations)
    np.testing.assert_allclose(ran(softened, X[:, :6]), by_numpy(X[:, :6]), rtol=1e-5)
    np.testing.assert_allclose(ran(softened, X[:3]), by_numpy(X[:3]), rtol=1e-5)
    assert len(compilations) == count + 2


def test_flags_that_change_kernels_are_part_of_the_key(compilations):
    ran(softened, X)
    count = len(compilations)
    for value in ({"optimize": 0}, {"fusion_limit": 2}, {"fold_limit": 8}):
        with flags.override(**value):
            np.testing.assert_allclose(ran(softened, X), by_numpy(X), rtol=1e-5)
        count += 1
        assert len(compilations) == count
    with flags.override(threads=1):
        ran(softened, X)
    assert len(compilations) == count


def test_a_users_pass_is_run(compilations):
    ran(softened, X)
    seen = []
    pipeline.register_pass(lambda p: (seen.append(p), p)[1], name="of the user")
    try:
        ran(softened, X)
        ran(softened, X)
    finally:
        pipeline.unregister_pass("of the user")
    assert len(seen) == 2
    count = len(compilations)
    ran(softened, X)
    assert len(compilations) == count


def test_a_users_rule_is_applied(compilations):
    plain = ran(softened, X)
    rewrite.rule("sine for tanh", lambda x: rewrite.op.Tanh(x), lambda x: rewrite.op.Sin(x), table="algebra")
    try:
        found = ran(softened, X)
    finally:
        rewrite.TABLES["algebra"].remove("sine for tanh")
    e = np.exp(np.sin(X) * 3.0 + 1.0)
    np.testing.assert_allclose(found, e / e.sum(-1, keepdims=True), rtol=1e-5)
    np.testing.assert_array_equal(ran(softened, X), plain)


def test_variables_are_written_and_read_by_a_loaded_plan(compilations):
    def step(x):
        v = tf.Variable(np.ones(7, np.float32))
        w = tf.Variable(np.zeros(7, np.float32))
        moved = tf.assign(w, v + w)
        with tf.control_dependencies([moved]):
            return tf.assign_add(v, tf.reduce_sum(tf.tanh(x), 0)), w, moved
    first = ran(step, X)
    count = len(compilations)
    second = ran(step, X)
    assert len(compilations) == count
    for a, b in zip(first, second):
        np.testing.assert_array_equal(a, b)
    np.testing.assert_allclose(second[0], 1 + np.tanh(X).sum(0), rtol=1e-5)
    np.testing.assert_array_equal(second[2], np.ones(7))


def test_seeds_do_not_matter_to_the_plan_but_to_the_numbers(compilations):
    def drawn(seed):
        return lambda: tf.random_normal([6, 4], seed=seed) + tf.random_uniform([6, 4], seed=seed and seed + 1) * 10.0
    first = ran(drawn(1))
    count = len(compilations)
    again, other, free, freer = ran(drawn(1)), ran(drawn(2)), ran(drawn(None)), ran(drawn(None))
    assert len(compilations) == count
    np.testing.assert_array_equal(first, again)
    assert not np.allclose(first, other) and not np.allclose(free, freer)


def test_ops_on_the_host_are_those_of_the_new_program(compilations):
    def with_call(scale):
        def called(x):
            y = tf.py_func(lambda a: a * np.float32(scale), [tf.tanh(x)], tf.float32)
            y.set_shape([None, 7])
            return tf.exp(y)
        return called
    np.testing.assert_allclose(ran(with_call(2), X), np.exp(2 * np.tanh(X)), rtol=1e-5)
    count = len(compilations)
    np.testing.assert_allclose(ran(with_call(3), X), np.exp(3 * np.tanh(X)), rtol=1e-5)
    assert len(compilations) == count


def test_the_order_of_feeds_is_always_the_same(compilations):
    def chained(*xs):
        y = xs[0]
        for x in xs[1:]:
            y = tf.tanh(y) * 2.0 - x
        return y
    wanted = X
    for k in range(1, 9):
        wanted = np.tanh(wanted) * 2 - X * np.float32(k)
    for _ in range(5):
        np.testing.assert_allclose(ran(chained, *[X * np.float32(max(k, 1)) for k in range(9)]), wanted, rtol=1e-4, atol=1e-5)
    assert len(compilations) == 1


def test_functions_that_gave_the_gradients_do_not_matter(compilations):
    def doubled(by):
        @tf.custom_gradient
        def f(x):
            return tf.tanh(x), lambda dy: dy * by
        return lambda x: tf.gradients(tf.exp(f(x)), x)[0]
    for _ in range(2):
        np.testing.assert_allclose(ran(doubled(2.0), X), 2 * np.exp(np.tanh(X)), rtol=1e-5)
    assert len(compilations) == 1
    np.testing.assert_allclose(ran(doubled(3.0), X), 3 * np.exp(np.tanh(X)), rtol=1e-5)
    assert len(compilations) == 2


def test_a_failed_check_names_the_op_of_the_new_program(compilations):
    def gathered(name):
        return lambda x: tf.gather(tf.tanh(x), tf.cast(x[:, 0], tf.int32) + 99, name=name)
    with pytest.raises(tf.errors.InvalidArgumentError, match="first"):
        ran(gathered("first"), X)
    count = len(compilations)
    with pytest.raises(tf.errors.InvalidArgumentError, match="second"):
        ran(gathered("second"), X)
    assert len(compilations) <= count + 1  # to name the op the program may be compiled again


def test_damaged_and_outdated_entries_are_made_anew(compilations, own_folder):
    ran(softened, X)
    store = native.default_store()
    for damage in (b"", b"nonsense", native.ObjectCache.__module__.encode() * 50, None):
        for file in own_folder.glob("*.plan"):
            file.write_bytes(file.read_bytes()[:-7] if damage is None else damage)
        np.testing.assert_allclose(ran(softened, X), by_numpy(X), rtol=1e-5)
    keys = [f.stem for f in own_folder.glob("*.plan")]
    for content in (b"{}", b"no zip"):  # whole files that say nothing
        for k in keys:
            store.disk.store(k, content, suffix=".plan")
        np.testing.assert_allclose(ran(softened, X), by_numpy(X), rtol=1e-5)
    assert not list(own_folder.glob("*.tmp"))


def test_looking_at_a_program_compiles_it_whole(compilations):
    ran(softened, X)
    with tf.Graph().as_default(), tf.Session() as sess:
        x = tf.placeholder(tf.float32, [None, 7])
        y = softened(x)
        sess.run(y, {x: X})
        told = tf.explain(y, {x: X})
        assert any("Tanh" in op or "Softmax" in op for k in told.kernels for op in k.ops) and told.kernels[0].ir
        metadata = tf.RunMetadata()
        sess.run(y, {x: X}, options=tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE), run_metadata=metadata)
        assert any("Tanh" in n.timeline_label for device in metadata.step_stats.dev_stats for n in device.node_stats)
        with flags.override(check=2):
            np.testing.assert_allclose(sess.run(y, {x: X}), by_numpy(X), rtol=1e-5)


def test_nothing_is_kept_while_passes_are_watched(own_folder):
    with flags.override(check=1):
        ran(softened, X)
    assert not list(own_folder.glob("*.plan"))


# ---------------------------------------------------------------- branches and loops


@pytest.fixture
def loaded(monkeypatch):
    """The compiled programs that came from disk."""
    found = []
    load = plan_cache.load
    monkeypatch.setattr(plan_cache, "load", lambda *a: (found.append(load(*a)), found[-1])[1])
    return lambda: [f[0] for f in found if f is not None]


def nests(compiled):
    return [u for c in flow.programs(compiled) for u in c.units if u.nest]


def conditional(x):
    return tf.cond(tf.reduce_sum(x) > 0, lambda: tf.tanh(x) * 2.0, lambda: tf.exp(x) + 1.0)


def by_numpy_conditional(x):
    return np.tanh(x) * 2 if x.sum() > 0 else np.exp(x) + 1


def triangular(x):
    """For i in 0 .. 4: for j in 0 .. i - 1: a = sin(a) + x, b = a * j."""
    def outer(i, a, b):
        _, a, b = tf.while_loop(lambda j, a, b: j < i, lambda j, a, b: (j + 1, tf.sin(a) + x, a * tf.cast(j, tf.float32)), (0, a, b))
        return i + 1, a, b
    return tf.while_loop(lambda i, a, b: i < 5, outer, (0, x, tf.zeros_like(x)))[1:]


def by_numpy_triangular(x):
    a, b = x, np.zeros_like(x)
    for i in range(5):
        for j in range(i):
            a, b = np.sin(a) + x, a * np.float32(j)
    return a, b


def squared(x):
    """Three iterations of three in each, all small."""
    def outer(i, a):
        a = tf.while_loop(lambda j, a: j < 3, lambda j, a: (j + 1, tf.sin(a) + x), (0, a))[1]
        return i + 1, tf.cond(tf.reduce_sum(a) > 0, lambda: a * 0.5, lambda: a + 1.0)
    return tf.while_loop(lambda i, a: i < 3, outer, (0, x))[1]


def by_numpy_squared(x):
    a = x
    for _ in range(3):
        for _ in range(3):
            a = np.sin(a) + x
        a = a * np.float32(0.5) if a.sum() > 0 else a + 1
    return a


def collected(x):
    """A TensorArray that grows as often as the loop runs, which the data decide."""
    rows = tf.TensorArray(tf.float32, 0, dynamic_size=True)
    limit = tf.cast(tf.reduce_sum(tf.abs(x)), tf.int32) % 5 + 2
    return tf.while_loop(lambda i, a, t: i < limit, lambda i, a, t: (i + 1, tf.tanh(a) - x, t.write(i, a)), (0, x, rows))[2].stack()


def by_numpy_collected(x):
    rows, a = [], x
    for _ in range(int(np.abs(x).sum()) % 5 + 2):
        rows.append(a)
        a = np.tanh(a) - x
    return np.stack(rows)


@pytest.mark.parametrize("build, reference", [(conditional, by_numpy_conditional), (triangular, by_numpy_triangular),
                                              (squared, by_numpy_squared), (collected, by_numpy_collected)])
def test_branches_and_loops_go_through_no_pass_twice(compilations, loaded, build, reference):
    first = ran(build, X)
    count = len(compilations)
    compiled = native.stats()["compiled"]
    second = ran(build, X)
    assert len(compilations) == count and native.stats()["compiled"] == compiled
    assert any(nests(c) for c in loaded())
    for a, b, c in zip(*[x if isinstance(x, (tuple, list)) else [x] for x in (first, second, reference(X))]):
        np.testing.assert_array_equal(a, b)
        np.testing.assert_allclose(b, c, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("build, reference", [(conditional, by_numpy_conditional), (squared, by_numpy_squared),
                                              (collected, by_numpy_collected)])
def test_branches_and_loops_of_a_gpu_go_through_no_pass_twice(compilations, loaded, build, reference):
    with emulated_gpu() as gpu:
        first, count, launches = ran(build, X), len(compilations), gpu.counters.launches
        second = ran(build, X)
        assert len(compilations) == count and gpu.counters.launches == 2 * launches > 0
    assert any(nests(c) for c in loaded())
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(second, reference(X), rtol=1e-5, atol=1e-6)


def test_a_loaded_branch_takes_either_side_and_other_sizes(compilations, loaded):
    ran(conditional, X)
    count = len(compilations)
    with tf.Graph().as_default(), tf.Session() as sess:
        x = tf.placeholder(tf.float32, [None, 7])
        y = conditional(x)
        for given in (X, -X, np.resize(X, (9, 7)), -np.resize(X, (9, 7))):
            np.testing.assert_allclose(sess.run(y, {x: given}), by_numpy_conditional(given), rtol=1e-5)
    assert len(compilations) == count and len(nests(loaded()[-1])) == 1


@pytest.mark.cpu_only(reason="the GPU has no kernel of a whole loop")
@pytest.mark.parametrize("optimize", [1, 0])
def test_a_loop_that_is_one_kernel_and_one_of_instructions(compilations, loaded, optimize):
    with flags.override(optimize=optimize):
        first = ran(squared, X)
        count = len(compilations)
        second = ran(squared, X)
    assert len(compilations) == count
    loop, = [u for u in loaded()[-1].units if u.nest]
    assert (loop.emitted is not None) == bool(optimize) and len(nests(loaded()[-1])) == 3
    np.testing.assert_array_equal(first, second)
    np.testing.assert_allclose(second, by_numpy_squared(X), rtol=1e-5, atol=1e-6)


def repeated(less=tf.less, by=3.0, times=4, swap=False, shift=0.0):
    def build(x):
        def body(i, a, b):
            a, b = tf.tanh(a) * by + x + shift, b * 0.5
            return (i + 1, b, a) if swap else (i + 1, a, b)
        return tf.stack(tf.while_loop(lambda i, a, b: less(i, times), body, (0, x, x + 1.0))[1:])
    return build


@pytest.mark.parametrize("other", [dict(less=tf.less_equal), dict(by=2.0), dict(times=5), dict(swap=True), dict(shift=1.0)],
                         ids=["condition", "number", "times", "order", "shift"])
def test_whatever_changes_a_loop_misses(compilations, other):
    plain, count = ran(repeated(), X), len(compilations)
    found = ran(repeated(**other), X)
    assert len(compilations) == count + 1 and not np.allclose(found, plain)
    np.testing.assert_array_equal(ran(repeated(), X), plain)
    np.testing.assert_array_equal(ran(repeated(**other), X), found)
    assert len(compilations) == count + 1


@pytest.mark.parametrize("attribute, value", [("trip", 3), ("trip", None), ("checked", True), ("compact", True), ("made up", 1)])
def test_all_that_is_said_of_a_loop_is_part_of_the_key(compilations, monkeypatch, attribute, value):
    ran(repeated(), X)
    program = compilations[-1]
    loop, = [op for op in program.ops() if op.type == "Loop"]
    before = plan_cache.key(program)
    assert before is not None and loop.attrs.get(attribute) != value
    monkeypatch.setitem(loop.attrs, attribute, value)
    assert plan_cache.key(program) not in (before, None)


def test_a_changed_branch_misses(compilations):
    def made(by):
        return lambda x: tf.cond(tf.reduce_sum(x) > 1e6, lambda: x * by, lambda: tf.tanh(x))
    ran(made(2.0), X)
    count = len(compilations)
    ran(made(3.0), X)
    assert len(compilations) == count + 1


def test_constants_inside_a_loop_are_compared_and_loaded(compilations):
    def scaled(by):
        return lambda x: tf.while_loop(lambda i, a: i < 3, lambda i, a: (i + 1, tf.tanh(a) * tf.constant(by)), (0, x))[1]
    def by_numpy_scaled(by):
        a = X
        for _ in range(3):
            a = np.tanh(a) * by
        return a
    one, two = np.arange(7, dtype=np.float32) - 3, np.arange(7, dtype=np.float32) - 2
    np.testing.assert_allclose(ran(scaled(one), X), by_numpy_scaled(one), rtol=1e-5)
    count = len(compilations)
    np.testing.assert_allclose(ran(scaled(two), X), by_numpy_scaled(two), rtol=1e-5)
    assert len(compilations) == count + 1
    for by in (one, two):
        np.testing.assert_allclose(ran(scaled(by), X), by_numpy_scaled(by), rtol=1e-5)
    assert len(compilations) == count + 1


def test_ops_on_the_host_inside_a_loop_are_those_of_the_new_program(compilations, loaded):
    def with_call(scale, seen):
        def body(i, a):
            y = tf.py_func(lambda v, k: (seen.append(int(k)), v * np.float32(scale))[1], [tf.tanh(a), i], tf.float32)
            y.set_shape([5, 7])
            return i + 1, y + 1.0
        return lambda: tf.while_loop(lambda i, a: i < 3, body, (0, tf.constant(X)))[1]

    def by_numpy_called(scale):
        a = X
        for _ in range(3):
            a = np.tanh(a) * np.float32(scale) + 1
        return a
    seen = []
    np.testing.assert_allclose(ran(with_call(2, seen)), by_numpy_called(2), rtol=1e-5)
    count = len(compilations)
    np.testing.assert_allclose(ran(with_call(3, seen)), by_numpy_called(3), rtol=1e-5)
    assert len(compilations) == count and nests(loaded()[-1])
    assert seen == [0, 1, 2, 0, 1, 2]


def test_state_and_random_numbers_in_a_loaded_loop(compilations):
    def walked(seed):
        def build():
            v = tf.Variable(np.ones(4, np.float32))

            def body(i, a):
                with tf.control_dependencies([tf.assign_add(v, a)]):
                    return i + 1, a + tf.random_uniform([4], seed=seed)
            last = tf.while_loop(lambda i, a: i < 3, body, (0, tf.zeros([4])))[1]
            with tf.control_dependencies([last]):
                return last, v.read_value()
        return build
    first = ran(walked(1))
    count = len(compilations)
    again, other = ran(walked(1)), ran(walked(2))
    assert len(compilations) == count
    for a, b in zip(first, again):
        np.testing.assert_array_equal(a, b)
    assert not np.allclose(other[0], first[0])
    for last, total in (first, again, other):  # 1 + 0 + u1 + (u1 + u2): more than what the last two have in common
        assert np.all(total >= 1) and np.all(total <= 1 + 2 * last) and np.all(last > 0)


def test_a_failed_check_in_a_loaded_loop_names_the_op_of_the_new_program(compilations, loaded):
    def gathered(name):
        def body(i, a):
            return i + 1, tf.gather(tf.tanh(a), [i * 3, 1, 2, 3, 4], name=name)
        return lambda: tf.while_loop(lambda i, a: i < 3, body, (0, tf.constant(X)))[1]
    with pytest.raises(tf.errors.InvalidArgumentError, match="first"):
        ran(gathered("first"))
    count = len(compilations)
    with pytest.raises(tf.errors.InvalidArgumentError, match="second"):
        ran(gathered("second"))
    assert len(compilations) <= count + 1 and nests(loaded()[-1])  # to name the op the program may be compiled again


def test_damaged_entries_of_loops_are_made_anew(compilations, own_folder):
    ran(triangular, X)
    store = native.default_store()
    keys = [f.stem for f in own_folder.glob("*.plan")]
    whole = {k: json.loads(zlib.decompress(store.disk.load(k, ".plan"))) for k in keys}
    assert any(o[0] == "nested" for e in whole.values() for o in e["objects"])

    def part(o):  # a nest that has lost a part of itself
        return o[:-1] if o[:2] == ["object", "Nest"] else o

    def unknown(o):
        return ["rested", *o[1:]] if o[0] == "nested" else o

    def elsewhere(o):
        return ["tensor", 10 ** 6, 0] if o[0] == "made" else o
    for damage in (part, unknown, elsewhere):
        for k, e in whole.items():
            content = json.dumps({**e, "objects": [damage(o) for o in e["objects"]]})
            store.disk.store(k, zlib.compress(content.encode()), suffix=".plan")
        count = len(compilations)
        for a, b in zip(ran(triangular, X), by_numpy_triangular(X)):
            np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)
        assert len(compilations) > count
    for file in own_folder.glob("*.plan"):
        file.write_bytes(file.read_bytes()[:-7])
    for a, b in zip(ran(triangular, X), by_numpy_triangular(X)):
        np.testing.assert_allclose(a, b, rtol=1e-5, atol=1e-6)


@pytest.mark.cpu_only(reason="the GPU has no kernel of a whole loop")
def test_looking_at_a_loaded_loop_compiles_it_whole(compilations):
    ran(squared, X)
    with tf.Graph().as_default(), tf.Session() as sess:
        x = tf.placeholder(tf.float32, [None, 7])
        y = squared(x)
        metadata = tf.RunMetadata()
        sess.run(y, {x: X}, options=tf.RunOptions(trace_level=tf.RunOptions.FULL_TRACE), run_metadata=metadata)
        assert any("while" in n.timeline_label for n in metadata.step_stats.dev_stats[0].node_stats)
        assert any("one kernel" in told for told in tf.explain(y, {x: X}).loops)
        with flags.override(check=2):
            np.testing.assert_allclose(sess.run(y, {x: X}), by_numpy_squared(X), rtol=1e-5)


# ---------------------------------------------------------------- other processes


PROGRAM = """
import json, sys, numpy as np
import graphflow as tf
from graphflow.codegen import compile as native
from graphflow.passes import pipeline
passes = []
run = pipeline.run
pipeline.run = lambda *a, **k: (passes.append(1), run(*a, **k))[1]
tf.set_random_seed(int(sys.argv[1]))
{model}
with tf.Session() as sess:
    sess.run(tf.global_variables_initializer())
    losses = [float(sess.run([loss, train], feeds)[0]) for _ in range(4)]
print(json.dumps({"losses": losses, "passes": len(passes), "compiled": native.stats()["compiled"], "numba": "numba" in sys.modules}))
"""


CONVOLUTIONS = """
x, y = tf.placeholder(tf.float32, [None, 8, 8, 2]), tf.placeholder(tf.int32, [None])
h = tf.layers.batch_normalization(tf.layers.conv2d(x, 4, 3, use_bias=False), training=True)
z = tf.layers.dense(tf.layers.flatten(tf.nn.relu(h)), 3)
loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=z))
with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
    train = tf.train.MomentumOptimizer(0.1, 0.9).minimize(loss)
r = np.random.RandomState(0)
feeds = {x: r.normal(size=(6, 8, 8, 2)).astype(np.float32), y: r.randint(0, 3, 6)}
"""

LSTM = """
x, y, n = tf.placeholder(tf.float32, [None, 6, 5]), tf.placeholder(tf.int32, [None]), tf.placeholder(tf.int32, [None])
_, state = tf.nn.dynamic_rnn(tf.nn.rnn_cell.LSTMCell(4), x, sequence_length=n, dtype=tf.float32)
z = tf.layers.dense(state.h, 3)
loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=z))
train = tf.train.AdamOptimizer(0.1).minimize(loss)
r = np.random.RandomState(0)
feeds = {x: r.normal(size=(8, 6, 5)).astype(np.float32), y: r.randint(0, 3, 8), n: [6, 1, 0, 3, 6, 5, 4, 2]}
"""


@pytest.mark.parametrize("model", [CONVOLUTIONS, LSTM], ids=["convolutions", "LSTM"])
def test_a_second_process_optimises_and_compiles_nothing(tmp_path, model):
    folder = tmp_path / "shared"
    folder.mkdir(mode=0o700)

    def process(seed):
        env = {**os.environ, "GRAPHFLOW_CACHE_DIR": str(folder), "PYTHONPATH": str(ROOT)}
        program = PROGRAM.replace("{model}", model)
        done = subprocess.run([sys.executable, "-c", program, str(seed)], env=env, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)
    first, second, third = process(1), process(1), process(2)
    assert first["passes"] > 0 and first["compiled"] > 0
    assert (second["passes"], second["compiled"], second["numba"]) == (0, 0, False)
    assert second["losses"] == first["losses"]
    assert (third["passes"], third["compiled"]) == (0, 0) and third["losses"] != first["losses"]
