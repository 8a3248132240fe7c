"""Threads around and inside a Session: the same bits for any number, several callers at once, nesting, fork."""
from __future__ import annotations

import ctypes.util
import hashlib
import multiprocessing
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

import graphflow as tf
from graphflow.runtime import runner, threads

ROOT = Path(__file__).parents[1]
LAYERS = ["omppool", "workqueue", *(["tbbpool"] if ctypes.util.find_library("tbb") else [])]
NUMBA = {"omppool": "omp", "workqueue": "workqueue", "tbbpool": "tbb"}  # Numba's own names


def child(code: str, layer: str | None = None, count: int | None = None, **more: str) -> str:
    """What a new process prints; fails when it fails, or hangs for two minutes."""
    environment = {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{Path(__file__).parent}", **more}
    if layer:
        environment["GRAPHFLOW_THREADING_LAYER"] = layer
    if count:
        environment["GRAPHFLOW_NUM_THREADS"] = str(count)
    ran = subprocess.run([sys.executable, "-c", "import test_threads as t\n" + code], env=environment, capture_output=True, text=True,
                         timeout=200)
    assert ran.returncode == 0, f"{ran.returncode}\n{ran.stdout}\n{ran.stderr}"
    return ran.stdout.strip()


# ---- the same bits


def array(*shape, dtype=np.float32, seed=0):
    return np.random.default_rng(seed).standard_normal(shape).astype(dtype)


def mlp():
    x, y = tf.constant(array(96, 120)), tf.constant(array(96, 10, seed=1))
    h = tf.nn.relu(tf.matmul(x, tf.Variable(array(120, 200, seed=2) * 0.1)) + tf.Variable(array(200, seed=3)))
    out = tf.matmul(h, tf.Variable(array(200, 10, seed=4) * 0.1))
    loss = tf.reduce_mean(tf.nn.softmax_cross_entropy_with_logits(labels=tf.nn.softmax(y), logits=out))
    return [loss, *tf.trainable_variables()], tf.train.AdamOptimizer(0.01).minimize(loss)


def convolutions():
    x = tf.constant(array(6, 20, 20, 8))
    h = tf.nn.max_pool(tf.nn.relu(tf.nn.conv2d(x, tf.Variable(array(3, 3, 8, 24, seed=1) * 0.1), [1, 1, 1, 1], "SAME")),
                       [1, 2, 2, 1], [1, 2, 2, 1], "SAME")
    mean, variance = tf.nn.moments(h, [0, 1, 2])
    h = tf.nn.batch_normalization(h, mean, variance, None, tf.Variable(array(24, seed=2)), 1e-3)
    h = tf.nn.conv2d(h, tf.Variable(array(3, 3, 24, 40, seed=3) * 0.1), [1, 2, 2, 1], "VALID")
    loss = tf.reduce_mean(tf.square(h))
    return [loss, *tf.trainable_variables()], tf.train.MomentumOptimizer(0.01, 0.9).minimize(loss)


def reductions():
    x, narrow = tf.constant(array(1_000_003)), tf.constant(array(3000, 401))
    return [tf.reduce_sum(x), tf.reduce_max(x), tf.reduce_mean(narrow, 0), tf.reduce_sum(tf.exp(narrow), 1), tf.nn.softmax(narrow),
            tf.reduce_prod(1 + 1e-4 * x), tf.argmax(narrow, 0), tf.cumsum(narrow, 0)], tf.no_op()


def scatters():
    ids = tf.constant(np.random.default_rng(0).integers(0, 50, 40_000))
    table = tf.Variable(array(50, 64))
    loss = tf.reduce_sum(tf.square(tf.gather(table, ids)))
    return [table, tf.unsorted_segment_sum(tf.constant(array(40_000)), ids, 50)], tf.train.GradientDescentOptimizer(1e-3).minimize(loss)


def draws():
    v = tf.Variable(tf.zeros([300, 700]))
    return [v], tf.assign(v, tf.random_normal([300, 700], seed=1) + tf.random_uniform([300, 700], seed=2) + tf.nn.dropout(
        tf.ones([300, 700]), 0.5, seed=3))


PROGRAMS = (mlp, convolutions, reductions, scatters, draws)


def digest(make, count: int) -> str:
    """The bits of three steps of a program on `count` threads."""
    total = hashlib.sha256()
    with tf.Graph().as_default(), tf.Session(config=tf.ConfigProto(intra_op_parallelism_threads=count)) as sess:
        fetches, step = make()
        sess.run(tf.global_variables_initializer())
        for _ in range(3):
            sess.run(step)
            for value in sess.run(fetches):
                total.update(np.ascontiguousarray(value).tobytes())
    return total.hexdigest()


@pytest.mark.parametrize("layer", LAYERS)
def test_the_same_bits_for_any_number_of_threads(layer):
    found = child("""
assert t.threads.available() == 5
for make in t.PROGRAMS:
    print(make.__name__, *{t.digest(make, n) for n in (1, 2, 3, 5)})
assert t.threads.layer() is None or t.threads.layer().most == 5
""", layer, 5).splitlines()
    assert [len(line.split()) for line in found] == [2] * len(PROGRAMS), found


def test_one_thread_never_starts_a_layer():
    child("""
assert t.digest(t.mlp, 1)
assert not t.threads._searched and not [m for m in t.sys.modules if m.startswith("numba.np.ufunc.omp") or "workqueue" in m]
""")


def test_the_config_sets_the_threads_of_a_plan():
    teams = []
    for count in (1, 2, 0):
        with tf.Graph().as_default(), tf.Session(config=tf.ConfigProto(intra_op_parallelism_threads=count)) as sess:
            x = tf.placeholder(tf.float32, [None])
            y = x * 2
            sess.run(y, {x: [1.0]})
            (_, _, step), = sess._known.values()
            teams.append(int(step.first([np.ones(1, np.float32)])[1].state[runner.THREADS]))
    layer = threads.layer()
    most = layer.most if layer else 1
    assert teams == [1, min(2, most), most]


# ---- several callers


def concurrent(sess, run, expected, callers=4, times=30) -> bool:
    def work(k):
        return all(np.array_equal(run(sess, k), expected(k)) for _ in range(times))
    with ThreadPoolExecutor(callers) as pool:
        return all(pool.map(work, range(callers)))


def scaled():
    """A Session of its own whose runs have large kernels."""
    graph = tf.Graph()
    with graph.as_default():
        x = tf.placeholder(tf.float32, [None])
        y = tf.sqrt(tf.abs(x * 3)) + 1
    data = [array(150_000 + 1000 * k, seed=k) for k in range(4)]
    expected = [np.sqrt(np.abs(d * np.float32(3))) + np.float32(1) for d in data]
    sess = tf.Session(graph=graph)
    return sess, lambda s, k: s.run(y, {x: data[k]}), lambda k: expected[k]


def many_callers() -> bool:
    """One Session from four threads, shapes that differ; then four Sessions from four threads."""
    one = concurrent(*scaled())
    made = [scaled() for _ in range(4)]
    with ThreadPoolExecutor(4) as pool:
        return one and all(pool.map(lambda m: concurrent(*m, callers=1), made))


@pytest.mark.parametrize("layer", LAYERS)
def test_many_callers(layer):
    assert child("print(t.many_callers())", layer, 3) == "True"


def test_runs_that_only_read_go_on_beside_each_other():
    """A long run does not keep a short one waiting: the short ones all end while the long one runs."""
    with tf.Session() as sess:
        v, x, n = tf.Variable(array(500)), tf.placeholder(tf.float32, [500]), tf.placeholder(tf.float32, [6_000_000])
        sess.run(v.initializer)
        short, slow = v + x, tf.reduce_sum(tf.lgamma(tf.tanh(tf.lgamma(n)) + 2))
        ones, many = np.ones(500, np.float32), np.ones(6_000_000, np.float32)
        for _ in range(2):
            sess.run(short, {x: ones}), sess.run(slow, {n: many})
        seen: list[int] = []
        for _ in range(5):
            done = threading.Event()
            waiting = threading.Thread(target=lambda: (sess.run(slow, {n: many}), done.set()))
            waiting.start()
            count = 0
            while not done.is_set():
                sess.run(short, {x: ones})
                count += 1
            waiting.join()
            seen.append(count)
        assert max(seen) > 3, seen  # one at a time, a short run could only begin before or after the long one


def test_readers_never_see_half_a_step():
    with tf.Session() as sess:
        v, w = tf.Variable(tf.zeros([200_000])), tf.Variable(tf.zeros([200_000]))
        step = tf.group(tf.assign_add(v, tf.ones([200_000])), tf.assign_add(w, tf.ones([200_000])))
        spread = tf.reduce_max(tf.concat([v, w], 0)) - tf.reduce_min(tf.concat([v, w], 0))
        sess.run(tf.global_variables_initializer())
        sess.run(spread)
        end = threading.Event()

        def read():
            found = set()
            while not end.is_set():
                found.add(float(sess.run(spread)))
            return found
        with ThreadPoolExecutor(3) as pool:
            readers = [pool.submit(read) for _ in range(3)]
            for _ in range(60):
                sess.run(step)
            end.set()
            assert [r.result() for r in readers] == [{0.0}] * 3
        assert sess.run(v)[0] == 60


def test_a_failing_run_leaves_the_session_free():
    with tf.Session() as sess:
        x, i = tf.placeholder(tf.float32, [3]), tf.placeholder(tf.int32, [])
        y = tf.gather(x, i)
        for k in range(3):
            assert sess.run(y, {x: [1, 2, 3], i: k}) == k + 1
            with pytest.raises(tf.errors.InvalidArgumentError):
                sess.run(y, {x: [1, 2, 3], i: 7})
            with pytest.raises(ValueError):
                sess.run(y, {x: [1, 2], i: 0})
        assert not sess.store.inside
        sess.run(tf.Variable(1.0).initializer)                  # a writer waits for nobody


# ---- nesting


def test_a_session_inside_a_py_func():
    with tf.Session() as sess:
        x, v = tf.constant(array(200_000)), tf.Variable(0.0)
        inner, add = tf.reduce_sum(tf.abs(x)), tf.assign_add(v, 1.0)
        y = tf.py_func(lambda a: np.float32(sess.run(inner) + sess.run(add) + a.size), [x * 2], tf.float32)
        sess.run(v.initializer)
        first, second = sess.run(y), sess.run(y)
        assert abs(second - first - 1) < 0.1 and sess.run(v) == 2


def numba_parallel() -> bool:
    """A Numba parallel function whose threads run a Session each."""
    import numba

    sess, run, expected = scaled()

    def call(k):
        return float(np.array_equal(run(sess, k % 4), expected(k % 4)))

    @numba.njit(parallel=True)
    def every(n):
        good = np.zeros(n)
        for k in numba.prange(n):
            with numba.objmode(r="float64"):
                r = call(k)
            good[k] = r
        return good
    run(sess, 0)
    return bool(every(12).all()) and bool(np.array_equal(run(sess, 1), expected(1)))


@pytest.mark.parametrize("layer", LAYERS)
def test_inside_a_numba_parallel_function(layer):
    assert child("print(t.numba_parallel())", layer, 2, NUMBA_THREADING_LAYER=NUMBA[layer],
                 NUMBA_NUM_THREADS="2") == "True"


def beside_numba() -> bool:
    """Numba's parallel functions and runs at once, from different threads."""
    import numba

    @numba.njit(parallel=True, nogil=True)
    def double(a):
        out = np.empty_like(a)
        for i in numba.prange(a.size):
            out[i] = a[i] * 2
        return out
    a = array(100_000)
    double(a)
    sess, run, expected = scaled()
    with ThreadPoolExecutor(2) as pool:
        theirs = pool.submit(lambda: all(np.array_equal(double(a), a * 2) for _ in range(200)))
        return concurrent(sess, run, expected, callers=2) and theirs.result()


@pytest.mark.parametrize("layer", LAYERS)
def test_beside_a_numba_parallel_function(layer):
    assert child("print(t.beside_numba())", layer, 2, NUMBA_THREADING_LAYER=NUMBA[layer],
                 NUMBA_NUM_THREADS="2") == "True"


# ---- fork


def forked() -> bool:
    """A child of a process whose Sessions have run, while other threads still run them."""
    sess, run, expected = scaled()
    run(sess, 0)
    end = threading.Event()
    busy = [threading.Thread(target=lambda k=k: [run(sess, k) for _ in iter(end.is_set, True)]) for k in (1, 2)]
    [b.start() for b in busy]
    fine = []
    for k in range(4):
        pid = os.fork()
        if pid == 0:
            good = np.array_equal(run(sess, k), expected(k))                # the parent's Session
            other, run2, expected2 = scaled()
            with other.graph.as_default():
                fresh = np.array_equal(run2(other, k), expected2(k)) and other.run(tf.reduce_sum(tf.ones([7, k + 2]))) == 7 * (k + 2)
            os._exit(0 if good and fresh else 1)
        fine.append(os.waitpid(pid, 0)[1] == 0)
    end.set()
    [b.join() for b in busy]
    return all(fine) and np.array_equal(run(sess, 3), expected(3))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
@pytest.mark.parametrize("layer", LAYERS)
def test_a_forked_child_works(layer):
    assert child("import warnings; warnings.simplefilter('ignore'); print(t.forked())", layer, 2) == "True"


def _square(k):
    sess, run, expected = scaled()
    return np.array_equal(run(sess, k), expected(k))


def pools() -> bool:
    assert _square(0)
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return all(pool.map(_square, range(4)))


@pytest.mark.skipif(not hasattr(os, "fork"), reason="no fork")
def test_a_pool_of_forked_processes():
    assert child("import warnings; warnings.simplefilter('ignore'); print(t.pools())", count=2) == "True"
