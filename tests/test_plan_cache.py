"""Compiled programs on disk: found again when nothing that matters has changed, and never otherwise."""
from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import graphflow as tf
from graphflow.codegen import compile as native
from graphflow.flags import flags
from graphflow.passes import pipeline, rewrite
from graphflow.runtime import executable, plan_cache

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
    monkeypatch.setattr(executable._Made, "__init__", lambda self, program: (made.append(program), whole(self, program))[1])
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
        assert any("Tanh" in op for e in metadata.step_stats.events for op in e["ops"])
        with flags.override(check=2):
            np.testing.assert_allclose(sess.run(y, {x: X}), by_numpy(X), rtol=1e-5)


def test_nothing_is_kept_while_passes_are_watched(own_folder):
    with flags.override(check=1):
        ran(softened, X)
    assert not list(own_folder.glob("*.plan"))


PROGRAM = """
import json, sys, numpy as np
import graphflow as tf
from graphflow.codegen import compile as native
from graphflow.passes import pipeline
passes = []
run = pipeline.run
pipeline.run = lambda *a, **k: (passes.append(1), run(*a, **k))[1]
tf.set_random_seed(int(sys.argv[1]))
x, y = tf.placeholder(tf.float32, [None, 8, 8, 2]), tf.placeholder(tf.int32, [None])
h = tf.layers.batch_normalization(tf.layers.conv2d(x, 4, 3, use_bias=False), training=True)
z = tf.layers.dense(tf.layers.flatten(tf.nn.relu(h)), 3)
loss = tf.reduce_mean(tf.nn.sparse_softmax_cross_entropy_with_logits(labels=y, logits=z))
with tf.control_dependencies(tf.get_collection(tf.GraphKeys.UPDATE_OPS)):
    train = tf.train.MomentumOptimizer(0.1, 0.9).minimize(loss)
r = np.random.RandomState(0)
feeds = {x: r.normal(size=(6, 8, 8, 2)).astype(np.float32), y: r.randint(0, 3, 6)}
with tf.Session() as sess:
    sess.run(tf.global_variables_initializer())
    losses = [float(sess.run([loss, train], feeds)[0]) for _ in range(4)]
print(json.dumps({"losses": losses, "passes": len(passes), "compiled": native.stats()["compiled"], "numba": "numba" in sys.modules}))
"""


def test_a_second_process_optimises_and_compiles_nothing(tmp_path):
    folder = tmp_path / "shared"
    folder.mkdir(mode=0o700)

    def process(seed):
        env = {**os.environ, "GRAPHFLOW_CACHE_DIR": str(folder), "PYTHONPATH": str(ROOT)}
        done = subprocess.run([sys.executable, "-c", PROGRAM, str(seed)], env=env, capture_output=True, text=True, timeout=240)
        assert done.returncode == 0, done.stderr
        return json.loads(done.stdout)
    first, second, third = process(1), process(1), process(2)
    assert first["passes"] > 0 and first["compiled"] > 0
    assert (second["passes"], second["compiled"], second["numba"]) == (0, 0, False)
    assert second["losses"] == first["losses"]
    assert (third["passes"], third["compiled"]) == (0, 0) and third["losses"] != first["losses"]
